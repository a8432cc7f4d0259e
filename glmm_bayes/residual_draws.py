"""Residuals that vary together: drawn anew, given those that were seen, and turned apart."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from glmm_bayes.design import Design
from glmm_bayes.draws import Draws
from glmm_bayes.engine.latent import Pattern, Precision
from glmm_bayes.engine.tails import NormalTails, StudentTails
from glmm_bayes.engine.tails import Tails as RowTails
from glmm_bayes.engine.turning import Turning
from glmm_bayes.kriging import Conditional, Given
from glmm_bayes.model import Model
from glmm_bayes.predictive import linear_predictor
from glmm_bayes.residual import Residuals

type Theta = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Expected:
    """
    What residuals of unit scale are expected to be, `(S, n)`, and what they vary by.

    `degrees` are those of a t, by the parameter's name; none of a normal.
    """

    mean: np.ndarray
    sd: np.ndarray
    degrees: Mapping[str, np.ndarray]

    def shifted(self, params: Mapping[str, np.ndarray], rows: slice) -> dict[str, np.ndarray]:
        """Give the family's parameters `(S, n)` of rows with these residuals."""
        mean, sd = self.mean[:, rows], self.sd[:, rows]
        moved = {"mu": params["mu"] + params["sigma"] * mean, "sigma": params["sigma"] * sd}
        return {**params, **moved, **{k: v[:, rows] for k, v in self.degrees.items()}}


@dataclass(frozen=True, eq=False)
class Tails:
    """
    What residuals that are t together have in common, a part at a time, given those seen.

    Attributes
    ----------
    label
        `(q,)` the part of each node.
    degrees
        `(S, G)` each part's degrees of freedom: nu, and the number of rows seen.
    scale
        `(S, G)` times what the normal's standard deviations are the t's scales.
    """

    label: np.ndarray
    degrees: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, residual: Residuals, nu: np.ndarray, seen: "Seen | None" = None) -> "Tails":
        """Read the parts, of which some may have been seen."""
        label = _labels(residual)
        G = int(label.max()) + 1
        count, squares = np.zeros(G), np.zeros((len(nu), G))
        if seen is not None:
            own = label[seen.node]
            count += np.bincount(own, minlength=G)
            squares = np.stack([np.bincount(own, each, G) for each in seen.squares])
        degrees = nu[:, None] + count
        return cls(label, degrees, np.sqrt((nu[:, None] + squares) / degrees))

    def stretch(self, rng: np.random.Generator) -> np.ndarray:
        """Draw what normal residuals `(S, q)` are multiplied by."""
        chi = rng.chisquare(self.degrees) / self.degrees
        return (self.scale / np.sqrt(chi))[:, self.label]


@dataclass(frozen=True, eq=False)
class Seen:
    """Residuals e that were seen: `node` `(n,)`, and `(S, n)` what each adds to e'Qe."""

    node: np.ndarray
    squares: np.ndarray


def _labels(residual: Residuals) -> np.ndarray:
    """Give the number `(q,)` of each node's part, which shares nothing with the others."""
    pairs, q = residual.level_structure.pairs, len(residual.levels)
    assert pairs is not None
    return Turning(Pattern(q, pairs), np.arange(q)).label


def parts_of(residual: Residuals) -> np.ndarray:
    """Give the number `(n,)` of each row's part."""
    return _labels(residual)[residual.node]


def degrees_of(model: Model, draws: Draws) -> np.ndarray | None:
    """Give the degrees of freedom `(S,)` of a t response; None of a normal one."""
    name = model.family.degrees
    return None if name is None else draws.constants[name]


def drawn_residuals(
    residual: Residuals, theta: Theta, rng: np.random.Generator, nu: np.ndarray | None = None
) -> np.ndarray:
    """
    Draw residuals of unit scale `(S, n)` for rows, at S draws of the parameters by name.

    With degrees of freedom `nu` `(S,)` those of a part are multivariate t.
    """
    given, size = Given(residual, 0), len(next(iter(theta.values())))
    found = np.empty((size, given.count))
    for s, at in enumerate(_each(given, theta, size)):
        found[s] = at.noise(rng.standard_normal((given.count, 1)))[:, 0]
    if nu is not None:
        found *= Tails.of(residual, nu).stretch(rng)
    return found[:, residual.node]


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
    if residual is None:
        return None
    return drawn_residuals(residual, draws.theta, rng, degrees_of(model, draws))


def _seen(model: Model, draws: Draws, e: np.ndarray) -> Seen:
    """Give what each row `(S, n)` adds to the squares of all."""
    residual = model.design.residual
    assert residual is not None
    pattern, found = Pattern(model.nobs, residual.pairs), np.empty_like(e)
    for s in range(draws.size):
        Q = precision_at(residual, {name: value[s] for name, value in draws.theta.items()})
        found[s] = e[s] * (pattern.matrix(Q.values) @ e[s])
    return Seen(residual.node, found)


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
    for s, at in enumerate(_each(given, draws.theta, draws.size)):
        by_node = np.empty((known, 1))
        by_node[fitted.node, 0] = seen[s]
        mean[s, known:] = at.mean(by_node)[:, 0]
        sd[s, known:] = np.sqrt((at.noise(np.eye(given.count)) ** 2).sum(axis=1))
    nu, degrees = degrees_of(model, draws), {}
    if nu is not None:
        tails = Tails.of(residual, nu, _seen(model, draws, seen))
        new = np.arange(len(residual.levels)) >= known
        sd *= np.where(new, tails.scale[:, tails.label], 1.0)
        by_level = np.where(new, tails.degrees[:, tails.label], nu[:, None])
        degrees = {str(model.family.degrees): by_level[:, residual.node]}
    return Expected(mean[:, residual.node], sd[:, residual.node], degrees)


def predicted_residuals(
    model: Model, residual: Residuals, draws: Draws, rng: np.random.Generator
) -> np.ndarray:
    """Draw the residuals `(S, n)` of new rows, given those fitted: see `expected_residuals`."""
    fitted = model.design.residual
    assert fitted is not None
    known = len(fitted.node)
    given, seen = Given(residual, known), seen_residuals(model, draws)
    nu, stretch = degrees_of(model, draws), np.ones((draws.size, given.count))
    if nu is not None:
        tails = Tails.of(residual, nu, _seen(model, draws, seen))
        stretch = tails.stretch(rng)[:, known:]
    found = np.empty((draws.size, len(residual.levels)))
    found[:, fitted.node] = drawn_residuals(fitted, draws.theta, rng, nu)
    for s, at in enumerate(_each(given, draws.theta, draws.size)):
        by_node = np.empty((known, 1))
        by_node[fitted.node, 0] = seen[s]
        noise = at.noise(rng.standard_normal((given.count, 1)))[:, 0]
        found[s, known:] = at.mean(by_node)[:, 0] + stretch[s] * noise
    return found[:, residual.node]


def residuals_for(
    model: Model, design: Design, groups: str, draws: Draws, rng: np.random.Generator
) -> np.ndarray | None:
    """Draw those of a design's rows: of new ones with `"conditional"` groups, given those seen."""
    residual = design.residual
    if residual is None:
        return None
    if residual is model.design.residual or groups != "conditional":
        return drawn_residuals(residual, draws.theta, rng, degrees_of(model, draws))
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
    nu = degrees_of(model, draws)
    return seen if nu is None else _turned_of_t(turning, seen, nu)


def _turned_of_t(turning: Turning, turned: np.ndarray, nu: np.ndarray) -> np.ndarray:
    """Give normal quantiles of residuals, each t given those before it in its part."""
    from scipy.special import ndtri, stdtr

    found = np.empty_like(turned)
    for stack in turning.stacks:
        each = turned[:, stack.rows]
        before = np.cumsum(each**2, axis=-1) - each**2
        seen, own = np.arange(each.shape[-1]), nu[:, None, None]
        t = each / np.sqrt((own + before) / (own + seen))
        # By the nearer tail, which keeps its digits.
        found[:, stack.rows] = -np.sign(t) * ndtri(stdtr(own + seen, -np.abs(t)))
    return found


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
    nu, parts = degrees_of(model, draws), parts_of(residual)
    pattern = Pattern(model.nobs, residual.pairs)
    own = np.flatnonzero(pattern.pairs[:, 0] == pattern.pairs[:, 1])
    at = pattern.pairs[own, 0]
    for s in range(draws.size):
        Q = precision_at(residual, {name: value[s] for name, value in draws.theta.items()})
        g, diagonal = pattern.matrix(Q.values) @ found[s], np.empty(model.nobs)
        diagonal[at] = Q.values[own]
        squares, weight = g * g / diagonal, np.log(diagonal)
        if nu is None:
            found[s] = 0.5 * (weight - np.log(2 * np.pi) - squares)
        else:
            whole = np.bincount(parts, found[s] * g)[parts]
            found[s] = 0.5 * weight + _of_t(squares, nu[s], whole, np.bincount(parts)[parts])
    return found - np.log(_sigma(model, draws)) + _jacobian(model)


def _of_t(squares: np.ndarray, nu: float, whole: np.ndarray, m: np.ndarray) -> np.ndarray:
    """
    Give the log density `(n,)` of rows given the others, of a multivariate t, but for its scale.

    Notes
    -----
    Given m - 1 others with squares d it has nu + m - 1 degrees of freedom, and a scale that is
    the normal's times the root of (nu + d) / (nu + m - 1): Ding (2016), American Statistician 70,
    293-295.
    """
    from scipy.special import gammaln

    degrees = nu + m - 1
    spread = (nu + whole - squares) / degrees
    scale = gammaln((degrees + 1) / 2) - gammaln(degrees / 2) - 0.5 * np.log(np.pi * degrees)
    tails = -(degrees + 1) / 2 * np.log1p(squares / spread / degrees)
    found: np.ndarray = scale - 0.5 * np.log(spread) + tails
    return found


def log_density(model: Model, draws: Draws) -> np.ndarray:
    """Give the log density `(S,)` of all rows together."""
    residual, e = model.design.residual, seen_residuals(model, draws)
    assert residual is not None
    pattern, found = Pattern(model.nobs, residual.pairs), np.empty(draws.size)
    name, tails = model.family.degrees, tails_of(model.family.degrees, pattern, residual)
    for s in range(draws.size):
        Q = precision_at(residual, {name: value[s] for name, value in draws.theta.items()})
        values = {} if name is None else {name: draws.constants[name][s]}
        value = tails.weigh(e[s], pattern.matrix(Q.values) @ e[s], values).value
        found[s] = 0.5 * Q.log_determinant + value
    logs = np.broadcast_to(np.log(_sigma(model, draws)), e.shape).sum(axis=1)
    return found - logs + _jacobian(model).sum()


def tails_of(degrees: str | None, pattern: Pattern, residual: Residuals) -> RowTails:
    """Give the tails of rows, by the parameter of a t's degrees of freedom if they are t."""
    if degrees is None:
        return NormalTails()
    return StudentTails.of(Turning(pattern, residual.rank), degrees)


def _jacobian(model: Model) -> np.ndarray:
    """Give the part `(n,)` of log densities that comes of transforming the response."""
    y, family = model.design.y, model.family
    if not family.normal:
        return np.zeros(model.nobs)
    still = {"mu": family.working(y), "sigma": 1.0}
    return np.asarray(family.logp(y, None, still)) + 0.5 * np.log(2 * np.pi)


def precision_at(residual: Residuals, theta: Theta) -> Precision:
    """Give the precision of the rows' residuals at the parameters, by name."""
    found = residual.level_structure.entries(residual.theta(theta))
    return Precision(found.values, float(found.log_determinant))
