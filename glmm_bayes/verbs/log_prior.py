"""The log density of the priors at every draw, parameter by parameter."""

import numpy as np
import xarray as xr

from glmm_bayes.density import read_outer
from glmm_bayes.draws import Draws, beta_name, thresholds_of
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.fit import PosteriorFit
from glmm_bayes.model import Model


def log_prior(fit: PosteriorFit) -> xr.Dataset:
    """
    Evaluate the log prior density of each parameter, up to constants.

    Returns
    -------
    Dataset
        By block of parameters that has a prior of its own, `[chain, draw]`; on the scale on which
        priors are stated, but correlation matrices by the partial correlations they are made of.
    """
    draws, outer = fit.draws, read_outer(fit.model)
    theta = outer_parameters(fit.model, draws)
    entries = np.full_like(theta, np.nan)
    for prior, at in outer.forms:
        value = prior.core(theta[:, at])
        # What several parameters share counts for the first of them.
        entries[:, at] = value if value.shape[1] == len(at) else 0.0
        entries[:, at[0]] = value[:, 0]
    shape = draws.chains, draws.size // draws.chains
    coords = {dim: np.arange(size) for dim, size in zip(("chain", "draw"), shape, strict=True)}
    variables = {
        name: (list(coords), np.nansum(entries[:, at], axis=1).reshape(shape))
        for name, at in fit.model.layout.items()
        if not np.isnan(entries[:, at]).all()
    }
    return xr.Dataset(variables, coords)


def outer_parameters(model: Model, draws: Draws) -> np.ndarray:
    """
    Put draws back into the model's layout of outer parameters, `(S, m)`: undo `split_outer`.

    Raises
    ------
    NotSupportedError
        If the draws lack parameters that are not reported, as those of a file do.
    """
    theta = np.empty((draws.size, sum(block.size for block in model.blocks)))
    values = {**centred(model, draws), **draws.theta}
    values |= {name: value[:, None] for name, value in draws.constants.items()}
    for name, at in model.layout.items():
        if name not in values:
            raise NotSupportedError(
                f"The parameters {name!r}, of which others are functions, are not reported, and "
                f"these draws lack them: fit the model again."
            )
        theta[:, at] = values[name].reshape(draws.size, -1)
    return theta


def centred(model: Model, draws: Draws) -> dict[str, np.ndarray]:
    """Give the coefficients `(S, k)` of centred columns by block: undo `uncentred`."""
    found = {}
    for param, beta in draws.beta.items():
        means, names = model.means(param), model.design.predictors[param].names
        gamma = beta.copy()
        if means.any() and "Intercept" in names:
            gamma[:, names.index("Intercept")] += beta @ means
        found[beta_name(param)] = gamma
    steps = thresholds_of(model)
    means = model.means("mu") if steps else np.empty(0)
    if means.any():
        for name in steps:
            found[beta_name(name)][:, 0] -= draws.beta["mu"] @ means
    return found
