"""From draws of the parameters to linear predictors, distribution parameters and responses."""

from collections.abc import Iterator, Mapping

import numpy as np
from scipy.special import ndtr

from glmm_bayes.design import Design
from glmm_bayes.draws import Draws, factors
from glmm_bayes.kriging import new_effects
from glmm_bayes.model import Model
from glmm_bayes.terms import RandomTerm
from glmm_bayes.unseen import source_of

type Effects = Mapping[str, np.ndarray]
CELLS = 4_000_000  # draws times rows worked on at once: 32 MB an array


def effects_for(
    design: Design, draws: Draws, groups: str, rng: np.random.Generator | None
) -> Effects:
    """
    Give every term's effects `(S, q, p)` for the rows of a design.

    `"conditional"` keeps the effects of the levels the model was fitted with and draws those of
    others from their distribution given these; `"new"` draws all of them; `"population"` (and
    `"marginal"`, where they are integrated out) has none. What is common to all groups, as a
    smooth is, stays in any case. Without `rng`, what would be drawn is at its mean. Values of
    unseen predictors are among them, those of new rows given what was measured there.
    """
    found = {
        source.name: source.for_rows(draws.unknown(source), draws.theta, rng)
        for source in design.unseen
    }
    for term in design.terms:
        if groups in ("population", "marginal") and not term.common:
            continue
        known = draws.effects[term.name]
        if groups == "new" and not term.common:
            known = known[:, :0]
        if len(term.levels) > known.shape[1]:
            more = new_effects(term, draws.theta, factors(term, draws.theta), known, rng)
            known = np.concatenate([known, more], axis=1)
        found[term.name] = known
    return found


def all_effects(term: RandomTerm, draws: Draws, rng: np.random.Generator) -> np.ndarray:
    """Draw the effects `(S, q, p)` of all of a term's levels from their distribution."""
    none = np.empty((draws.size, 0, term.size))
    return new_effects(term, draws.theta, factors(term, draws.theta), none, rng)


def repeated_effects(
    term: RandomTerm, row: Draws, size: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw those effects `(size, q, p)` at the parameters of one draw."""
    theta = {name: np.repeat(value, size, axis=0) for name, value in row.theta.items()}
    Lambda = np.repeat(factors(term, row.theta), size, axis=0)
    return new_effects(term, theta, Lambda, np.empty((size, 0, term.size)), rng)


def linear_predictor(design: Design, draws: Draws, effects: Effects, param: str) -> np.ndarray:
    """Give eta `(S, n)` of one distribution parameter."""
    predictor = design.predictors[param]
    eta = draws.beta[param] @ predictor.X.T + predictor.offset
    for product in predictor.products:
        column = product.weight
        for text in product.of:
            source = source_of(text, design.unseen)
            own = effects[source.name] if source.name in effects else draws.unknown(source)
            column = column * source.rows(own, text)
        eta += draws.beta[param][:, [product.k]] * (column - predictor.X[:, product.k])
    for term in design.terms:
        if term.name in effects and any(g.param == param for g in term.loadings):
            b = effects[term.name]
            eta += (term.Z(param) @ b.reshape(len(b), -1).T).T
    return eta


def parameters(
    model: Model, design: Design, draws: Draws, effects: Effects
) -> dict[str, np.ndarray]:
    """Give the family's parameters on their own scale: `(S, n)`, or `(S, 1)` where constant."""
    constants = {name: values[:, None] for name, values in draws.constants.items()}
    eta = {name: linear_predictor(design, draws, effects, name) for name in design.predictors}
    return on_own_scale(model, eta, constants)


def on_own_scale(
    model: Model, eta: Mapping[str, np.ndarray], constants: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Put the predictors through their inverse links, beside the constants."""
    return {**constants, **{k: model.links[k].linkinv(value) for k, value in eta.items()}}


def responses(
    model: Model,
    design: Design,
    params: Mapping[str, np.ndarray],
    rng: np.random.Generator,
    residuals: np.ndarray | None = None,
) -> np.ndarray:
    """
    Draw responses `(S, n)`; with trials, counts of successes.

    Where residuals have a structure they are drawn before, `(S, n)` of unit variance, for rows
    vary together: see `residual_draws`.
    """
    if residuals is not None:
        return with_residuals(model, params, residuals)
    shape = np.broadcast_shapes(*(p.shape for p in params.values()), (1, design.n))
    trials = None if design.response is None else design.response.given
    return model.family.draw(rng, params, trials, shape)


def with_residuals(
    model: Model, params: Mapping[str, np.ndarray], residuals: np.ndarray
) -> np.ndarray:
    """Give the responses that have certain residuals: of a normal family, or of a t's scale."""
    if model.family.degrees is not None:
        return np.asarray(params["mu"] + params["sigma"] * residuals)
    sizes = {k: np.broadcast_to(v, residuals.shape) for k, v in params.items()}
    numeric = model.family.numeric
    assert numeric is not None
    distribution = numeric(sizes, None)
    # By the nearer tail, which keeps its digits.
    low, high = distribution.ppf(ndtr(residuals)), distribution.isf(ndtr(-residuals))
    return np.where(residuals < 0, low, high)


def in_rows(design: Design, size: int) -> Iterator[tuple[slice, Design]]:
    """Cut a design into runs of rows small enough to hold `size` draws of."""
    step = max(1, CELLS // max(size, 1))
    for start in range(0, design.n, step):
        rows = slice(start, min(start + step, design.n))
        yield rows, (design if step >= design.n else design.take(rows))


def evenly_thinned(draws: Draws, most: int) -> Draws:
    """Keep at most `most` draws of S, evenly spaced, as one chain; all of them where S is less."""
    if draws.size <= most:
        return draws
    return draws.thinned(np.linspace(0, draws.size - 1, max(1, most)).round().astype(int))
