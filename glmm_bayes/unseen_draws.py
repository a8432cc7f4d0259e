"""Draws of what is not in the data, from the prior, and the densities of measurements given it."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from glmm_bayes.design import Design
from glmm_bayes.draws import Draws
from glmm_bayes.model import Model
from glmm_bayes.observed import Observed
from glmm_bayes.predictive import linear_predictor, parameters
from glmm_bayes.unseen import Measured, Missing


def with_true_values(
    model: Model, measured: Measured | None, draws: Draws, rng: np.random.Generator
) -> Draws:
    """
    Draw the true values of what has been integrated out, given measurements and response.

    Notes
    -----
    True values xi and a response y are drawn together, given the measurements; what the seen y
    is beyond that moves xi by its regression on y: Matheron's rule.
    """
    if measured is None:
        return draws
    design, theta = model.design, draws.theta
    centre, root = measured.given_measurements(theta, np.arange(len(measured.x)))
    xi = centre + (root @ rng.standard_normal(centre.shape)[..., None])[..., 0]
    part = next(p for p in model.observed if p.main == _param_of(model, measured))
    products = design.predictors[part.main].products
    c = np.zeros_like(centre)
    for product in products:
        for text in (text for text in product.of if text in measured.texts):
            c[:, :, measured.texts[text]] += draws.beta[part.main][:, [product.k]] * product.weight
    whole = replace(draws, unseen={**draws.unseen, measured.name: xi})
    mu = linear_predictor(design, whole, draws.effects, part.main)
    sigma = draws.constants[part.names["sigma"]][:, None]
    Vc = (root @ (root.swapaxes(-1, -2) @ c[..., None]))[..., 0]
    beyond = _response(model, part) - mu - sigma * rng.standard_normal(mu.shape)
    beyond = np.where(np.isnan(beyond), 0.0, beyond) / (sigma**2 + (c * Vc).sum(axis=2))
    return replace(whole, unseen={**whole.unseen, measured.name: xi + Vc * beyond[:, :, None]})


def _param_of(model: Model, measured: Measured) -> str:
    for param, predictor in model.design.predictors.items():
        if any(set(product.of) & set(measured.texts) for product in predictor.products):
            return param
    raise AssertionError(measured.name)


def _response(model: Model, part: Observed) -> np.ndarray:
    """Give one response in all rows, NaN where it is missing."""
    y = model.design.y
    return y if y.ndim == 1 else y[:, [other.main for other in model.observed].index(part.main)]


def unseen_from_prior(
    model: Model, draws: Draws, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """
    Draw all values `(S, q, D)` that are not in the data from their distributions.

    Those of responses are drawn one response after the other, each given those it depends on.
    """
    design = model.design
    found = {m.name: m.from_prior(draws.theta, rng) for m in design.measured}
    waiting = list(design.imputed)
    while waiting:
        names = {text for source in waiting for text in source.texts}
        ready = [one for one in waiting if not _needs(model, one) & names]
        # What comes later stands still meanwhile: none of what is ready depends on it.
        later = {one.name: np.zeros((draws.size, len(one.levels), 1)) for one in waiting}
        given = replace(draws, unseen=later | found)
        params = parameters(model, design, given, given.effects)
        for one in ready:
            found[one.name] = _drawn(model, one, params, rng)
        waiting = [one for one in waiting if one.name not in found]
    return found


def _drawn(
    model: Model, one: Missing, params: Mapping[str, np.ndarray], rng: np.random.Generator
) -> np.ndarray:
    """Draw a response's unknown values `(S, q, 1)` at all parameters."""
    part, there = model.observed[one.place], one.index >= 0
    own = {name: params[whole] for name, whole in part.names.items()}
    own = {name: v[:, there] if v.shape[1] > 1 else v for name, v in own.items()}
    shape = (len(next(iter(own.values()))), int(there.sum()))
    return part.family.draw(rng, own, None, shape)[:, :, None]


def _needs(model: Model, one: Missing) -> set[str]:
    """List the calls that the predictors of one response have."""
    predictors = model.design.predictors
    names = model.observed[one.place].names.values()
    products = (
        product for name in names if name in predictors for product in predictors[name].products
    )
    return {text for product in products for text in product.of}


def without_measured(design: Design) -> np.ndarray:
    """Give the responses, NaN in place of measurements that have an error."""
    measured = [one.place for one in design.imputed if one.has_error]
    if not measured:
        return design.y
    y = design.y.copy()
    y[:, measured] = np.nan
    return y


def of_measurements(design: Design, draws: Draws) -> np.ndarray | float:
    """Give the log density `(S, n)` of measured responses, their true values given."""
    total: np.ndarray | float = 0.0
    for one in (one for one in design.imputed if one.has_error):
        true, sizes = draws.unseen[one.name][:, one.index, 0], one.error[one.index]
        there = np.isfinite(sizes)
        z = np.where(there, one.measured[one.index] - true, 0.0) / sizes
        own = -0.5 * z**2 - np.log(np.where(there, sizes, 1.0)) - 0.5 * np.log(2 * np.pi)
        total = total + np.where(there, own, 0.0)
    return total
