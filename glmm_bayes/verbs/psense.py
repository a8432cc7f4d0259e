"""How much a posterior owes to its priors, and how much to the likelihood."""

import numpy as np
import pandas as pd
import xarray as xr

from glmm_bayes.errors import ConvergenceError
from glmm_bayes.fit import PosteriorFit
from glmm_bayes.results import total_log_likelihood
from glmm_bayes.verbs.log_prior import log_prior
from glmm_bayes.verbs.tables import outer_draws


def psense(fit: PosteriorFit, *, threshold: float = 0.05) -> pd.DataFrame:
    """
    Measure how far the posterior moves when the priors, or the likelihood, count a little more.

    Parameters
    ----------
    threshold
        Of a sensitivity that is worth a word.

    Returns
    -------
    DataFrame
        ArviZ's, by parameter: `prior` and `likelihood`, the sensitivities to a power of the priors
        and of the likelihood, and the `diagnosis`. "potential prior-data conflict" is where both
        count, "potential strong prior / weak likelihood" where only the prior does.

    Raises
    ------
    ConvergenceError
        If too many draws are alike to be weighed.

    Notes
    -----
    p(θ)^α, and p(y | θ)^α, by importance sampling for α near 1, without a refit: Kallioinen,
    Paananen, Bürkner & Vehtari (2024), Statistics and Computing 34, 57. The priors are those of
    `fit.model.priors`, all at once; the distribution of the random effects is part of neither, and
    the likelihood is that of the responses given the effects. What a power does depends on the
    scale on which a prior is stated, of correlation matrices that of partial correlations.
    """
    import arviz as az

    draws = fit.draws
    shape, dims = (draws.chains, draws.size // draws.chains), ["chain", "draw"]
    coords = {dim: np.arange(size) for dim, size in zip(dims, shape, strict=True)}
    values = {name: value for name, value in outer_draws(fit).items() if np.ptp(value) > 0}
    total = total_log_likelihood(fit.model, draws)
    tree = xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset(
                {name: (dims, value.reshape(shape)) for name, value in values.items()}, coords
            ),
            "log_prior": log_prior(fit),
            "log_likelihood": xr.Dataset({"y": (dims, total.reshape(shape))}, coords),
        }
    )
    try:
        found: pd.DataFrame = az.psense_summary(tree, threshold=threshold)
    except ValueError as error:
        raise ConvergenceError(
            f"The draws cannot be weighed ({error}): see diagnostics(), and draw more."
        ) from error
    return found
