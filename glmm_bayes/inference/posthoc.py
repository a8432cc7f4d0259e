"""Sampling around the mode: the full posterior by moves that a normal approximation proposes."""

import os
import time
import warnings
from collections.abc import Sequence

import numpy as np
import xarray as xr

from glmm_bayes.draws import Draws
from glmm_bayes.engine.algebra.lapack import one_thread
from glmm_bayes.errors import ConvergenceError, ConvergenceWarning, NotSupportedError
from glmm_bayes.fit import PosteriorFit
from glmm_bayes.inference.checks import check_counts, chosen_seed
from glmm_bayes.inference.methods import METHODS
from glmm_bayes.model import Model
from glmm_bayes.posthoc.gaussian import sample_gaussian
from glmm_bayes.posthoc.marginal import can_be_collapsed
from glmm_bayes.posthoc.report import (
    how_approximately,
    how_collapsed,
    how_exactly,
    how_far_shifted,
)
from glmm_bayes.posthoc.sampling import (
    Plan,
    Settings,
    Surveyed,
    can_be_trusted,
    draw_approximately,
    draw_exactly,
)
from glmm_bayes.results import posterior_tree


def posthoc(
    model: Model,
    *,
    seed: int | None = None,
    draws: int = 1000,
    tune: int = 100,
    chains: int = 4,
    cores: int | None = None,
    exact: bool = True,
    fallback: bool = True,
    progressbar: bool = True,
    start: np.ndarray | None = None,
) -> PosteriorFit:
    """
    Draw from the posterior around its mode.

    The mode is found as by `map`, the normal approximation there is moved to the mean of effects
    and coefficients, and from it are proposed: outer parameters by a polynomial in place of their
    marginal density, effects and coefficients by the normal given these. Exact Metropolis-Hastings
    steps make Markov chains of the proposals, whose stationary density is the posterior.

    Of a Gaussian response effects and coefficients are integrated out exactly, so that only the
    few outer parameters need chains.

    Parameters
    ----------
    seed
        Makes the draws reproducible, with any number of cores.
    draws, tune
        Draws kept of each chain, and before them steps that tune its moves. Of small models and
        Gaussian responses everything is proposed at once: there are no moves to be tuned.
    chains, cores
        How many chains, and how many of them run at once where the data are large.
    exact
        Whether the draws come of Markov chains. If not, they come of the approximation itself,
        weighed by the exact density and resampled; how good that is, is told. For Gaussian
        responses, where nothing else is approximate, it makes no difference.
    fallback
        Whether something else is done where the way asked for does not lead to the posterior:
        chains where weights are not reliable, `nuts` where there is no approximation.
    progressbar
        Whether progress is shown, of what takes longer than a moment.
    start
        The outer parameters `(m,)`, in the model's layout, to start the search of the mode from;
        by default it starts from the data.

    Returns
    -------
    PosteriorFit
        With named draws in `idata`.

    Raises
    ------
    ConvergenceError
        Without fallback, if the posterior has no mode that could be found.
    NotSupportedError
        Without fallback, if so many levels meet that there is no root of their equations.

    Warns
    -----
    ConvergenceWarning
        If the diagnostics say that the draws should not be trusted yet.

    Notes
    -----
    docs/posthoc.md says how; the mean's correction is that of the Gaussian variational bound:
    Opper & Archambeau (2009), Neural Computation 21, 786-792.
    """
    check_counts(1, draws=draws, tune=tune, chains=chains, **({"cores": cores} if cores else {}))
    seed = chosen_seed(seed)
    began = time.perf_counter()
    settings = Settings(
        seed, draws, tune, chains, cores or min(chains, os.cpu_count() or 1), progressbar
    )
    try:
        with one_thread(), np.errstate(all="ignore"):
            found, statistics, words = _drawn(model, settings, start, exact, fallback)
    except (ConvergenceError, NotSupportedError, np.linalg.LinAlgError) as error:
        if not fallback:
            raise
        warnings.warn(
            f"Sampling around the mode is not possible here ({error}); drawn by nuts instead.",
            ConvergenceWarning,
            stacklevel=3,
        )
        return METHODS["nuts"](
            model, seed=seed, draws=draws, chains=chains, cores=cores, progressbar=progressbar
        )
    statistics.attrs["notes"] = "\n".join(words)
    done = statistics.sizes["draw"]
    if done < draws:
        statistics.attrs["problems"] = (
            f"Interrupted: each chain has {done} of the {draws} draws asked for."
        )
    options = {"draws": draws, "tune": tune, "chains": chains, "cores": cores}
    options |= {"exact": exact, "fallback": fallback, "progressbar": progressbar}
    fit = PosteriorFit(
        model,
        lambda: posterior_tree(model, found, statistics, seed),
        "posthoc",
        seed,
        time.perf_counter() - began,
        options,
        draws=found,
        statistics=statistics,
    )
    problems = fit.diagnostics().problems
    if problems:
        warnings.warn(" ".join(problems), ConvergenceWarning, stacklevel=3)
    return fit


METHODS.add("posthoc", posthoc)


def _drawn(
    model: Model, settings: Settings, start: np.ndarray | None, exact: bool, fallback: bool
) -> tuple[Draws, xr.Dataset, Sequence[str]]:
    """Give the draws, their statistics and what is to be said of them."""
    if can_be_collapsed(model):
        found, statistics = sample_gaussian(
            model,
            seed=settings.seed,
            draws=settings.draws,
            chains=settings.chains,
            cores=settings.cores,
            progressbar=settings.progressbar,
            start=start,
        )
        return found, statistics, how_collapsed(statistics)
    surveyed, words = Surveyed(model, start, settings.seed), []
    first = used = surveyed.prepared(Plan(integrated=True, depth=0))
    if not exact:
        used, drawn, weighed = draw_approximately(surveyed, first, settings)
        words.append(how_approximately(weighed.weights))
        exact = fallback and not can_be_trusted(weighed.weights, settings)
    if exact:
        used, drawn = draw_exactly(surveyed, first, settings)
    found, statistics = drawn.named(used.around.target)
    if exact:
        words.append(how_exactly(statistics))
    return found, statistics, (*words, *how_far_shifted(first.around))
