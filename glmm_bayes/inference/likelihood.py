"""Maximum likelihood and restricted maximum likelihood."""

import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from glmm_bayes.draws import beta_name
from glmm_bayes.engine.algebra.lapack import one_thread
from glmm_bayes.errors import (
    ConvergenceError,
    ConvergenceWarning,
    NotSupportedError,
    SingularFitWarning,
)
from glmm_bayes.fit import ModeFit
from glmm_bayes.inference.methods import METHODS
from glmm_bayes.model import Model
from glmm_bayes.modes.chains import checked_nagq, refuse_nodes
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.gaussian import maximise_gaussian
from glmm_bayes.modes.laplace import maximise_laplace
from glmm_bayes.modes.masses import maximise_masses
from glmm_bayes.modes.mode import Mode
from glmm_bayes.modes.monotone import maximise_monotone, refuse_against
from glmm_bayes.modes.plain import plain
from glmm_bayes.modes.reading import has_masses, is_gaussian, is_shaped
from glmm_bayes.modes.shaped import maximise_shaped
from glmm_bayes.modes.trouble import refuse_collinear


def ml(model: Model, *, seed: int | None = None, nagq: int = 1) -> ModeFit:
    """
    Maximise the likelihood: exact for a Gaussian response, else by Laplace's method.

    Parameters
    ----------
    seed
        Kept in `fit.seed`, for what the fit may draw later; the search itself draws nothing.
    nagq
        How many nodes adaptive Gauss-Hermite quadrature has for every effect; 1 is Laplace's
        method. More is for one grouping factor or nested ones, up to four effects a level;
        `fit.laplace_check()` tells how many are needed.

    Returns
    -------
    ModeFit

    Raises
    ------
    ConvergenceError
        If the likelihood cannot be evaluated at any starting point.
    NotSupportedError
        If the effects cannot be integrated by quadrature.

    Warns
    -----
    ConvergenceWarning
        If the search did not end at a maximum.
    SingularFitWarning
        If a variance is estimated as zero, or effects as perfectly correlated.
    """
    nagq, model = checked_nagq(nagq), plain(model)
    refuse_nodes(model, nagq)

    def search() -> Mode:
        return maximise_monotone(model, lambda m: _maximised(m, restricted=False, nagq=nagq))

    return fitted(model, "ml", search, seed, {"nagq": nagq})


def reml(model: Model, *, seed: int | None = None, nagq: int = 1) -> ModeFit:
    """
    Maximise the restricted likelihood: the mean's coefficients integrated out under a flat prior.

    Exact for a Gaussian response, else by Laplace's method for coefficients and effects at once.
    Parameters, errors and warnings as in `ml`; of `nagq` only 1 is possible.
    """
    model = plain(model)
    if checked_nagq(nagq) > 1:
        raise NotSupportedError(
            f"reml with nagq={nagq} is not built: quadrature integrates over the effects only; "
            f"use fit('ml', nagq={nagq}), or fit('reml') by Laplace's method."
        )
    means = {beta_name(part.main) for part in model.observed} | {beta_name("mu")}
    if any(p.is_fixed for block in model.blocks if block.name in means for p in block.priors):
        raise NotSupportedError(
            "reml integrates the mean's coefficients out, but a number in `priors` holds some of "
            "them fixed; use fit('ml')."
        )

    def search() -> Mode:
        mode = _maximised(model, restricted=True)
        refuse_against(mode, "reml")
        return mode

    return fitted(model, "reml", search, seed)


METHODS.add("ml", ml)
METHODS.add("reml", reml)


def _maximised(model: Model, *, restricted: bool, nagq: int = 1) -> Mode:
    refuse_collinear(model)
    if has_masses(model) and not restricted:
        return maximise_masses(model)
    if is_shaped(model) and not restricted:
        return maximise_shaped(model, nagq)
    if is_gaussian(model):
        return maximise_gaussian(model, restricted=restricted)
    return maximise_laplace(Coordinates.of(model), restricted=restricted, nagq=nagq)


def fitted(
    model: Model,
    method: str,
    search: Callable[[], Mode],
    seed: int | None,
    options: Mapping[str, Any] | None = None,
) -> ModeFit:
    """Run a search, and warn of what the user has to know."""
    began = time.perf_counter()
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1)[0])
    try:
        # Where a step goes too far, the densities overflow; the search then steps back.
        with one_thread(), np.errstate(all="ignore"):
            mode = search()
    except np.linalg.LinAlgError as error:
        raise ConvergenceError(f"The likelihood has no maximum to be found: {error}.") from error
    # Of steps that are to have one sign, the search may have held some.
    model = mode.coordinates.model
    fit = ModeFit(model, mode, method, seed, time.perf_counter() - began, options)
    for words in (*mode.problems, *mode.cautions):
        warnings.warn(words, ConvergenceWarning, stacklevel=4)
    if fit.is_singular:
        words = "; ".join(part.words for part in fit.singular)
        warnings.warn(
            f"The fit is singular: {words}. The likelihood is highest at this edge: the data do "
            f"not tell such a variance from none. The fit stands; the simpler model without the "
            f"component has the same likelihood, and fit('map') keeps off the edge.",
            SingularFitWarning,
            stacklevel=4,
        )
    return fit
