"""Draw parameters and responses from the prior, to see what the model believes before the data."""

from dataclasses import replace

import numpy as np
import xarray as xr

from glmm_bayes.density import rising, sample_priors
from glmm_bayes.draws import Draws, split_outer, to_dataset
from glmm_bayes.errors import DataError, NotSupportedError
from glmm_bayes.model import Model
from glmm_bayes.predictive import all_effects, in_rows, parameters, responses
from glmm_bayes.priors import Prior
from glmm_bayes.residual_draws import fitted_residuals
from glmm_bayes.unseen_draws import unseen_from_prior
from glmm_bayes.verbs.predict import by_row

FAR = 1e12
ATTEMPTS = 1000  # to draw thresholds that ascend


def prior_predictive(model: Model, draws: int = 500, *, seed: int | None = None) -> xr.DataTree:
    """
    Draw from the prior, and from it responses for the rows of the data.

    Parameters
    ----------
    draws
        How many.
    seed
        Makes the answer reproducible.

    Returns
    -------
    DataTree
        `prior`, named as a posterior, and `prior_predictive`, `y[chain, draw, __obs__]`.

    Notes
    -----
    A wide prior may reach where a response cannot be drawn. While drawing, parameters that lie
    within bounds are kept 10^-12 away from them, and below 10^12.
    """
    if not isinstance(draws, int | np.integer) or draws < 1:
        raise DataError(f"draws={draws!r} must be a whole number of at least 1.")
    rng = np.random.default_rng(seed)
    found, family = _prior_draws(model, draws, rng), model.family
    y, residuals = np.empty((draws, *model.design.y.shape)), fitted_residuals(model, found, rng)
    for rows, design in in_rows(model.design, draws):
        with np.errstate(over="ignore"):
            params = _inside(model, parameters(model, design, found, found.effects))
        own = None if residuals is None else residuals[:, rows]
        y[:, rows] = responses(model, design, params, rng, own)
    return xr.DataTree.from_dict(
        {
            "prior": to_dataset(model, found),
            "prior_predictive": xr.Dataset(
                {"y": by_row(y, 1, model.design, family.columns, family.dimension)}
            ),
        }
    )


def _prior_draws(model: Model, size: int, rng: np.random.Generator) -> Draws:
    priors = [prior for block in model.blocks for prior in block.priors]
    outer = sample_priors(model, rng, size)
    at = rising(model)
    if len(at):
        _ascend(outer, at, priors, rng)
    beta, constants, theta = split_outer(model, outer)
    draws = Draws(beta, constants, theta, {}, chains=1)
    effects = {term.name: all_effects(term, draws, rng) for term in model.design.terms}
    draws = replace(draws, effects=effects)
    return replace(draws, unseen=unseen_from_prior(model, draws, rng))


def _ascend(
    outer: np.ndarray, at: np.ndarray, priors: list[Prior], rng: np.random.Generator
) -> None:
    """Draw thresholds given that they ascend: by their order where their priors are alike."""
    if len({repr(priors[k]) for k in at}) == 1:
        outer[:, at] = np.sort(outer[:, at], axis=1)
        return
    for _ in range(ATTEMPTS):
        bad = np.flatnonzero((np.diff(outer[:, at], axis=1) <= 0).any(axis=1))
        if not len(bad):
            return
        outer[np.ix_(bad, at)] = np.column_stack([priors[k].sample(rng, (len(bad),)) for k in at])
    raise NotSupportedError(
        "Thresholds or intercepts that are drawn from their priors hardly ever ascend; give them "
        "priors that are alike, or whose means ascend."
    )


def _inside(model: Model, params: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Keep the parameters that have bounds within them."""
    kept = {}
    for parameter in model.family.parameters:
        lower, upper = parameter.support
        value = params[parameter.name]
        if np.isfinite(lower):
            value = np.clip(value, lower + 1 / FAR, min(upper - 1 / FAR, FAR))
        kept[parameter.name] = value
    return kept
