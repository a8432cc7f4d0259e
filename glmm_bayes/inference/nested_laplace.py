"""Nested approximations: marginal posteriors without a chain, in the manner of INLA."""

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from glmm_bayes.engine.algebra.lapack import one_thread
from glmm_bayes.engine.polynomials.surrogate import fit_surrogate
from glmm_bayes.errors import ConvergenceError, ConvergenceWarning
from glmm_bayes.fit import PosteriorFit
from glmm_bayes.inference.checks import check_counts, chosen_seed
from glmm_bayes.inference.methods import METHODS
from glmm_bayes.model import Model
from glmm_bayes.modes.correlated import refuse_student
from glmm_bayes.posthoc.correlated import read_posterior
from glmm_bayes.posthoc.given import Given
from glmm_bayes.posthoc.given_gaussian import GivenCorrelated, GivenGaussian
from glmm_bayes.posthoc.given_rows import NearNormal
from glmm_bayes.posthoc.marginal import can_be_collapsed, read_marginal
from glmm_bayes.posthoc.marginals import marginals
from glmm_bayes.posthoc.nested import BUDGET, ROUGH, Nested
from glmm_bayes.posthoc.nested_words import notes, problems
from glmm_bayes.posthoc.outer import OuterPosterior, find_mode
from glmm_bayes.posthoc.sampling import Alone
from glmm_bayes.posthoc.target import find_around, read_target
from glmm_bayes.posthoc.verify import verify
from glmm_bayes.results import posterior_tree


def nested_laplace(
    model: Model,
    *,
    seed: int | None = None,
    draws: int = 1000,
    chains: int = 4,
) -> PosteriorFit:
    """
    Approximate the posterior, deterministically: the outer parameters are integrated numerically.

    At the points of a design in the outer parameters psi (all but the mean's coefficients: a grid
    for one or two, a central composite design for more) effects and coefficients are given the
    nearest normal distribution, mended to third order. In between, and for the density of psi,
    polynomials are laid through what was found there.

    Parameters
    ----------
    seed
        Makes the draws reproducible. The approximation, and `marginals`, do not depend on it.
    draws, chains
        How many draws are taken of it: independent ones, so that chains are no more than batches.

    Returns
    -------
    PosteriorFit
        With named draws in `idata`, and in its group `marginals` the densities that
        `fit.marginals()` tabulates.

    Raises
    ------
    ConvergenceError
        If the posterior has no mode that is found, or no normal approximation there.
    NotSupportedError
        If so many levels meet that there is no root of their equations.

    Warns
    -----
    ConvergenceWarning
        If the approximation was not found at some points of the design, or is a poor one.

    Notes
    -----
    In the manner of integrated nested Laplace approximations, Rue, Martino & Chopin (2009), J.
    Royal Statistical Society B 71, 319-392, with the nearest normal (Opper & Archambeau 2009,
    Neural Computation 21, 786-792) and the third order beyond it in place of Laplace's method;
    docs/posthoc.md has more. Exact for a Gaussian response but for the integral over psi.
    """
    check_counts(1, draws=draws, chains=chains)
    seed = chosen_seed(seed)
    began = time.perf_counter()
    with one_thread(), np.errstate(all="ignore"):
        try:
            nested = approximated(model)
        except np.linalg.LinAlgError as error:
            raise ConvergenceError(
                f"The posterior has no approximation here ({error}); fit('nuts') needs none."
            ) from error
        found, statistics = nested.draw(np.random.default_rng(seed), chains, draws)
    words = {"notes": "\n".join(notes(nested)), "problems": "\n".join(problems(nested))}
    statistics.attrs |= words | {"independent": 1}

    def densities() -> xr.Dataset:
        with one_thread(), np.errstate(all="ignore"):
            return marginals(nested)

    def tree() -> xr.DataTree:
        whole = posterior_tree(model, found, statistics, seed)
        whole["marginals"] = xr.DataTree(fit.densities)
        return whole

    fit = PosteriorFit(
        model,
        tree,
        "nested_laplace",
        seed,
        time.perf_counter() - began,
        {"draws": draws, "chains": chains},
        draws=found,
        statistics=statistics,
        densities=densities,
    )
    if words["problems"]:
        warnings.warn(words["problems"].replace("\n", " "), ConvergenceWarning, stacklevel=3)
    return fit


METHODS.add("nested_laplace", nested_laplace)


def approximated(model: Model) -> Nested:
    """Approximate a model's posterior."""
    refuse_student(model, "fit('nested_laplace')")
    if model.design.residual is not None:
        return _exactly_given(read_posterior(model), GivenCorrelated)
    if can_be_collapsed(model):
        return _exactly_given(read_marginal(model), GivenGaussian)
    target = read_target(model)
    around = find_around(target)
    surrogate = _rough(target, around.psi, around.axes)
    verify(around, surrogate)
    return Nested(target, NearNormal(target), surrogate)


def _exactly_given(posterior: OuterPosterior, given: Callable[[Any], Given]) -> Nested:
    """Approximate one of which all is normal but the outer parameters."""
    mode = find_mode(posterior)
    rough = _rough(mode.posterior, mode.psi, mode.axes)
    return Nested(mode.posterior, given(mode.posterior), rough)


def _rough(target: Any, psi: np.ndarray, axes: np.ndarray) -> Any:
    """Say about where the posterior of the outer parameters is."""
    if not len(psi):
        return Alone()
    return fit_surrogate(target, psi, axes, tolerance=ROUGH, budget=BUDGET)
