"""Residuals of the rows that were fitted."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from scipy.special import logsumexp, ndtr, ndtri, ndtri_exp

from glmm_bayes.arrays import NUMPY
from glmm_bayes.draws import Draws
from glmm_bayes.errors import NotSupportedError, UnknownNameError
from glmm_bayes.families import Family
from glmm_bayes.families.saturated import unit_deviance
from glmm_bayes.fit import Fit
from glmm_bayes.model import Model
from glmm_bayes.predictive import evenly_thinned, in_rows, parameters
from glmm_bayes.registry import suggestion
from glmm_bayes.residual_draws import turned_residuals
from glmm_bayes.verbs.by_response import Alone

MOST_DRAWS = 1000  # that a distribution function is averaged over
# Of a family without the logs of its tails a residual is within about 8.
EDGE = 2.0**-53
RARE = 1e-8  # beyond, a probability is taken by its logarithm


def residuals(
    fit: Fit, kind: str = "quantile", *, seed: int | None = None, response: str | None = None
) -> pd.Series:
    """
    Give the residuals, conditional on the random effects; of a maximum, at the estimates.

    Parameters
    ----------
    kind
        `"quantile"`: the standard normal quantile of the response's posterior-averaged
        distribution function; of a discrete response, at a uniform point between P(Y < y) and
        P(Y <= y). Standard normal where the model is right. Of residuals with a structure, given
        the rows before that a row varies together with: nlme's normalized residuals.
        `"pearson"`: (y - E) / sd, and `"deviance"`: the signed root of the unit deviance, both at
        the posterior mean of the distribution's parameters and times the root of the weights. Of
        families outside of the exponential ones, deviances are from the mean that is likeliest.
        `"response"`: y less its posterior mean; with trials, the proportion less its mean.
    seed
        Of the uniform points; by default the fit's own.
    response
        Of several responses, whose residuals: as if it were alone, others not given.

    Returns
    -------
    Series
        Indexed as the user's data, without the rows that were left out; NaN where one of several
        responses is missing.

    Raises
    ------
    UnknownNameError
        If a kind is not known, or of several responses none is named.
    NotSupportedError
        If the family has no distribution function, variance or deviance.

    Notes
    -----
    Dunn & Smyth (1996), J. Computational and Graphical Statistics 5, 236-244; the average is
    over at most 1,000 evenly spaced draws.
    """
    if kind not in KINDS:
        raise UnknownNameError(
            f"There are no residuals of kind {kind!r}. {suggestion(kind, KINDS)}"
        )
    model = fit.model
    alone = Alone.of(model, response)
    rng = np.random.default_rng(fit.seed if seed is None else seed)
    values = np.where(alone.there, KINDS[kind](model, alone, fit.plug_in, rng), np.nan)
    return pd.Series(values, index=model.design.rows.frame.index, name=f"{kind}_residual")


def _quantile(model: Model, alone: Alone, draws: Draws, rng: np.random.Generator) -> np.ndarray:
    draws = evenly_thinned(draws, MOST_DRAWS)
    if model.design.residual is not None:
        turned = turned_residuals(model, draws)
        # Of one draw as they are: a probability has no digits for what is far out.
        whole = ndtri(np.clip(ndtr(turned).mean(axis=0), EDGE, 1 - EDGE))
        return turned[0] if draws.size == 1 else whole
    found = np.empty(model.nobs)
    for rows, design in in_rows(model.design, draws.size):
        params = alone.own(parameters(model, design, draws, draws.effects))
        response = alone.response.take(rows)
        low, high = (
            side(response.y, params, response.given).mean(axis=0)
            for side in (alone.family.below, alone.family.cdf)
        )
        share = rng.uniform(size=design.n)
        at = low + share * (high - low)
        z = ndtri(np.clip(at, EDGE, 1 - EDGE))
        far = (at < RARE) | (at > 1 - RARE)
        if far.any() and alone.family.tails is not None and response.given is None:
            far &= ~np.isin(response.y, alone.family.atoms)
            own = {k: v[:, far] if v.shape[1] > 1 else v for k, v in params.items()}
            z[far] = far_out(alone.family, response.y[far], own, share[far])
        found[rows] = z
    return found


def far_out(
    family: Family, y: np.ndarray, params: Mapping[str, np.ndarray], share: np.ndarray
) -> np.ndarray:
    """
    Give quantile residuals `(n,)` by the logs of both tails, of which no digit is lost far out.

    Parameters
    ----------
    params
        `(S, n)`, or `(S, 1)`: the tails are averaged over S draws.
    share
        Where the residual's point lies between P(Y < y) and P(Y <= y), within (0, 1).
    """
    below, above = _averaged(*family.tails(y, params, NUMPY))  # type: ignore[misc]
    less, rest = below, above
    if family.discrete:
        # Before the first count there is nothing.
        some = np.array([family.problem(np.array([v]), None) is None for v in y - 1])
        before = np.where(some, y - 1, y)
        less, rest = _averaged(*family.tails(before, params, NUMPY))  # type: ignore[misc]
        less, rest = np.where(some, less, -np.inf), np.where(some, rest, 0.0)
    with np.errstate(divide="ignore"):
        one, other = np.log(share), np.log1p(-share)
    left, right = np.logaddexp(one + below, other + less), np.logaddexp(one + above, other + rest)
    return np.where(left < right, ndtri_exp(left), -ndtri_exp(right))


def _averaged(*tails: np.ndarray) -> list[np.ndarray]:
    """Average probabilities `(S, n)` over the draws, given and returned as their logs."""
    return [logsumexp(tail, axis=0) - np.log(len(tail)) for tail in tails]


def _pearson(model: Model, alone: Alone, draws: Draws, rng: np.random.Generator) -> np.ndarray:
    if alone.family.variance is None:
        raise NotSupportedError(
            f"The family {alone.family.name!r} states no variance; "
            f"ask for residuals of kind 'quantile' or 'response'."
        )
    response, params = alone.response, alone.own(mean_parameters(model, draws))
    n = 1.0 if response.trials is None else response.trials
    mean = n * alone.family.expectation(params)
    sd = np.sqrt(np.broadcast_to(alone.family.variance(params, response.trials), mean.shape))
    # A row without trials has no variance and tells nothing.
    apart = np.divide(response.y - mean, sd, out=np.full(model.nobs, np.nan), where=sd > 0)
    return apart * _root_weights(alone)


def _deviance(model: Model, alone: Alone, draws: Draws, rng: np.random.Generator) -> np.ndarray:
    response, params = alone.response, alone.own(mean_parameters(model, draws))
    n = 1.0 if response.trials is None else response.trials
    deviance = unit_deviance(alone.family, response.y, response.trials, params)
    side = np.sign(response.y - n * alone.family.expectation(params))
    return side * np.sqrt(np.maximum(deviance, 0.0)) * _root_weights(alone)


def _response(model: Model, alone: Alone, draws: Draws, rng: np.random.Generator) -> np.ndarray:
    if model.family.categories is not None:
        raise NotSupportedError(
            f"A category has no number to be subtracted from, so family {model.family.name!r} has "
            f"no residuals of kind 'response'; of ordered categories there is kind 'quantile'."
        )
    response = alone.response
    found = np.empty(model.nobs)
    for rows, design in in_rows(model.design, draws.size):
        params = alone.own(parameters(model, design, draws, draws.effects))
        found[rows] = alone.family.expectation(params).mean(axis=0)
    if response.trials is None:
        return response.y - found
    n = response.trials
    return np.divide(response.y, n, out=np.full(model.nobs, np.nan), where=n > 0) - found


def mean_parameters(model: Model, draws: Draws) -> dict[str, np.ndarray]:
    """Average the distribution's parameters over the draws: `(n,)` each."""
    found = {p.name: np.empty(model.nobs) for p in model.family.parameters}
    for rows, design in in_rows(model.design, draws.size):
        for name, values in parameters(model, design, draws, draws.effects).items():
            found[name][rows] = values.mean(axis=0)
    return found


def _root_weights(alone: Alone) -> np.ndarray:
    weights = alone.response.weights
    return np.ones(len(alone.there)) if weights is None else np.sqrt(weights)


KINDS: dict[str, Callable[[Model, Alone, Draws, np.random.Generator], np.ndarray]] = {
    "quantile": _quantile,
    "pearson": _pearson,
    "deviance": _deviance,
    "response": _response,
}
