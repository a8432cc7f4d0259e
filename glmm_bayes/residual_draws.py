"""Residuals that vary together: drawn anew, given those that were seen, and turned apart."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from glmm_bayes.design import Design
from glmm_bayes.draws import Draws
from glmm_bayes.engine.latent import Pattern, Precision
from glmm_bayes.engine.turning import Turning
from glmm_bayes.kriging import Conditional, Given
from glmm_bayes.model import Model
from glmm_bayes.predictive import linear_predictor
from glmm_bayes.residual import Residuals

type Theta = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Expected:
    """What residuals of unit variance are expected to be, `(S, n)`, and what they vary by."""

    mean: np.ndarray
    sd: np.ndarray

    def shifted(self, params: Mapping[str, np.ndarray], rows: slice) -> dict[str, np.ndarray]:
        """Give the family's parameters `(S, n)` of rows with these residuals."""
        mean, sd = self.mean[:, rows], self.sd[:, rows]
        sigma = params["sigma"]
        return {**params, "mu": params["mu"] + sigma * mean, "sigma": sigma * sd}


def drawn_residuals(residual: Residuals, theta: Theta, rng: np.random.Generator) -> np.ndarray:
    """Draw residuals of unit variance `(S, n)` for rows, at S draws of the parameters by name."""
    given, size = Given(residual, 0), len(next(iter(theta.values())))
    found = np.empty((size, len(residual.node)))
    for s, at in enumerate(_each(given, theta, size)):
        found[s] = at.noise(rng.standard_normal((given.count, 1)))[residual.node, 0]
    return found


def _each(given: Given, theta: Theta, size: int) -> Iterator[Conditional]:
    """Give the distribution at each of the draws; those at a maximum are all the same."""
    own = {name: value for name, value in theta.items() if name.endswith(f"_{given.term.name}")}
    last = None
    for s in range(size):
        if last is None or any((value[s] != value[s - 1]).any() for value in own.values()):
            last = given.at({name: value[s] for name, value in own.items()})
        yield last


def fitted_residuals(model: Model, draws: Draws, rng: np.random.Generator) -> np.ndarray | None:
    """Draw those of the rows fitted; None where residuals have no structure."""
    residual = model.design.residual
    return None if residual is None else drawn_residuals(residual, draws.theta, rng)


def seen_residuals(model: Model, draws: Draws) -> np.ndarray:
    """Give the residuals of unit variance `(S, n)` of the rows fitted, effects given."""
    design = model.design
    mu = linear_predictor(design, draws, draws.effects, "mu")
    return (model.family.working(design.y) - mu) / _sigma(model, draws)


def _sigma(model: Model, draws: Draws) -> np.ndarray:
    if "sigma" in model.constants:
        return draws.constants["sigma"][:, None]
    eta = linear_predictor(model.design, draws, draws.effects, "sigma")
    return np.asarray(model.links["sigma"].linkinv(eta))


def expected_residuals(model: Model, design: Design, draws: Draws) -> Expected:
    """
    Predict the residuals of a design's rows, those of the rows fitted given.

    A row at a place where a response was seen is another response there, which that one's
    residual is no part of: it is expected to be zero, as that of a fitted row is.
    """
    fitted, residual = model.design.residual, design.residual
    assert fitted is not None
    assert residual is not None
    known = len(fitted.node)
    given, seen = Given(residual, known), seen_residuals(model, draws)
    mean, sd = np.zeros((draws.size, len(residual.levels))), np.ones_like(seen[:, :1])
    sd = np.repeat(sd, mean.shape[1], axis=1)
    for s, at in enumerate(_each(given, draws.theta, draws.size if given.count else 0)):
        by_node = np.empty((known, 1))
        by_node[fitted.node, 0] = seen[s]
        mean[s, known:] = at.mean(by_node)[:, 0]
        sd[s, known:] = np.sqrt((at.noise(np.eye(given.count)) ** 2).sum(axis=1))
    return Expected(mean[:, residual.node], sd[:, residual.node])


def predicted_residuals(
    model: Model, residual: Residuals, draws: Draws, rng: np.random.Generator
) -> np.ndarray:
    """Draw the residuals `(S, n)` of new rows, given those fitted: see `expected_residuals`."""
    fitted = model.design.residual
    assert fitted is not None
    known = len(fitted.node)
    given, seen = Given(residual, known), seen_residuals(model, draws)
    found = np.empty((draws.size, len(residual.levels)))
    for s, at in enumerate(_each(Given(fitted, 0), draws.theta, draws.size)):
        found[s, :known] = at.noise(rng.standard_normal((known, 1)))[:, 0]
    for s, at in enumerate(_each(given, draws.theta, draws.size if given.count else 0)):
        by_node = np.empty((known, 1))
        by_node[fitted.node, 0] = seen[s]
        noise = at.noise(rng.standard_normal((given.count, 1)))
        found[s, known:] = (at.mean(by_node) + noise)[:, 0]
    return found[:, residual.node]


def residuals_for(
    model: Model, design: Design, groups: str, draws: Draws, rng: np.random.Generator
) -> np.ndarray | None:
    """Draw those of a design's rows: of new ones with `"conditional"` groups, given those seen."""
    residual = design.residual
    if residual is None:
        return None
    if residual is model.design.residual or groups != "conditional":
        return drawn_residuals(residual, draws.theta, rng)
    return predicted_residuals(model, residual, draws, rng)


def turned_residuals(model: Model, draws: Draws) -> np.ndarray:
    """
    Give independent residuals `(S, n)` of unit variance, as nlme's normalized ones.

    Each is what is left of a row when those before it, that it varies together with, are known.
    """
    residual, seen = model.design.residual, seen_residuals(model, draws)
    assert residual is not None
    turning = Turning(Pattern(model.nobs, residual.pairs), residual.rank)
    for s in range(draws.size):
        Q = precision_at(residual, {name: value[s] for name, value in draws.theta.items()})
        seen[s] = turning.turned(turning.roots(Q), seen[s])
    return seen


def log_densities(model: Model, draws: Draws) -> np.ndarray:
    """
    Give the log density `(S, n)` of every row, all others given.

    Notes
    -----
    With Q the precision and g = Q e, a row given the others has the variance s^2 / Q_ii and is
    s g_i / Q_ii off its mean: Bürkner, Gabry & Vehtari (2021), Computational Statistics 36,
    1243-1261.
    """
    residual, found = model.design.residual, seen_residuals(model, draws)
    assert residual is not None
    pattern = Pattern(model.nobs, residual.pairs)
    own = np.flatnonzero(pattern.pairs[:, 0] == pattern.pairs[:, 1])
    at = pattern.pairs[own, 0]
    for s in range(draws.size):
        Q = precision_at(residual, {name: value[s] for name, value in draws.theta.items()})
        g, diagonal = pattern.matrix(Q.values) @ found[s], np.empty(model.nobs)
        diagonal[at] = Q.values[own]
        found[s] = 0.5 * (np.log(diagonal / (2 * np.pi)) - g * g / diagonal)
    return found - np.log(_sigma(model, draws)) + _jacobian(model)


def log_density(model: Model, draws: Draws) -> np.ndarray:
    """Give the log density `(S,)` of all rows together."""
    residual, e = model.design.residual, seen_residuals(model, draws)
    assert residual is not None
    pattern, found = Pattern(model.nobs, residual.pairs), np.empty(draws.size)
    for s in range(draws.size):
        Q = precision_at(residual, {name: value[s] for name, value in draws.theta.items()})
        squares = float(e[s] @ (pattern.matrix(Q.values) @ e[s]))
        found[s] = 0.5 * (Q.log_determinant - squares)
    logs = np.broadcast_to(np.log(_sigma(model, draws)), e.shape).sum(axis=1)
    return found - logs - 0.5 * model.nobs * np.log(2 * np.pi) + _jacobian(model).sum()


def _jacobian(model: Model) -> np.ndarray:
    """Give the part `(n,)` of log densities that comes of transforming the response."""
    y, family = model.design.y, model.family
    still = {"mu": family.working(y), "sigma": 1.0}
    return np.asarray(family.logp(y, None, still)) + 0.5 * np.log(2 * np.pi)


def precision_at(residual: Residuals, theta: Theta) -> Precision:
    """Give the precision of the rows' residuals at the parameters, by name."""
    found = residual.level_structure.entries(residual.theta(theta))
    return Precision(found.values, float(found.log_determinant))
