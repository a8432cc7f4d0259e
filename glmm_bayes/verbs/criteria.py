"""How well a fit predicts: criteria by cross-validation."""

from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from glmm_bayes.fit import PosteriorFit
from glmm_bayes.results import KEPT, log_likelihood


def loo(fit: PosteriorFit, **options: Any) -> Any:
    """
    Estimate by importance sampling how well each row is predicted from the others.

    Parameters
    ----------
    **options
        Those of `arviz.loo`, such as `pointwise`.

    Returns
    -------
    ELPDData
        ArviZ's: `elpd, se, p, pareto_k` …; the random effects are part of the model, so that a
        left-out row's group is still known by its other rows. So are true and missing values of
        predictors, `me(x, sd)` and `mi(x)`, which the left-out row has informed.

    Warns
    -----
    UserWarning
        By ArviZ, where a row is too influential (large Pareto k) for the estimate to be
        trusted.

    Notes
    -----
    Vehtari, Gelman & Gabry (2017), Statistics and Computing 27, 1413-1432.
    """
    import arviz as az

    return az.loo(with_log_likelihood(fit), **options)


def with_log_likelihood(fit: PosteriorFit) -> xr.DataTree:
    """Give the fit's draws with the rows' log likelihood, computed now where it is not stored."""
    if "log_likelihood" in fit.idata.children:
        return fit.idata
    draws = fit.draws
    length = draws.size // draws.chains
    step = max(1, -(-draws.size * fit.model.nobs // KEPT))
    at = np.arange(draws.size).reshape(draws.chains, length)[:, ::step]
    thinned = replace(draws.thinned(at.ravel()), chains=draws.chains)
    tree = fit.idata.copy()
    tree["log_likelihood"] = xr.DataTree(log_likelihood(fit.model, thinned))
    return tree
