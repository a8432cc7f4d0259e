"""A mode whose response is normal, effects integrated out: how its covariance V can move."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from glmm_bayes.draws import uncentre
from glmm_bayes.engine.directions import Direction, Forms, Sums
from glmm_bayes.model import Model
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.meeting import sums_of
from glmm_bayes.modes.mode import Mode
from glmm_bayes.modes.reading import centred_columns
from glmm_bayes.terms import RandomTerm

STEP = 1e-3  # between the slopes of a factor that make its second derivatives
SPAN = 1e-8  # of the largest singular value: what is smaller spans no dimension


@dataclass(frozen=True, eq=False)
class Moves:
    """
    Parameters of V: its slopes V_i and second derivatives V_ij, as directions.

    Attributes
    ----------
    first, second
        m of them, and m times m.
    """

    first: Sequence[Direction]
    second: Sequence[Sequence[Direction]]


@dataclass(frozen=True, eq=False)
class NormalMode:
    """
    What small-sample tests need of a mode.

    Attributes
    ----------
    sums
        Of the coefficients of centred columns that are free, `(k, k)`.
    loose
        V by log sigma, or sigma's coefficients, and by the coordinates of the factors that do not
        stand at an edge.
    linear
        The same V in parameters in which as much as can be is linear, edges included; made when
        it is asked for.
    embed
        `(K, k)` from the free coefficients of centred columns to those of the columns themselves.
    """

    sums: Forms
    loose: Moves
    linear: Callable[[], Moves]
    embed: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        """The coefficients' covariance `(K, K)` with V as estimated."""
        return self.embed @ self.sums.Phi @ self.embed.T


def is_linear(model: Model) -> bool:
    """Tell whether the response is normal, whatever its residuals, and linear in the effects."""
    return (
        model.family.normal
        and model.links["mu"].name == "identity"
        and all(g.param == "mu" for term in model.design.terms for g in term.loadings)
        and ("sigma" in model.constants or model.links["sigma"].name == "log")
    )


def is_normal(model: Model) -> bool:
    """Tell whether it is so and residuals are independent."""
    return is_linear(model) and model.design.residual is None


def is_marginally_normal(model: Model) -> bool:
    """Tell whether it has, and the levels of every term are independent."""
    return is_normal(model) and all(
        term.level_structure.pairs is None for term in model.design.terms
    )


def read_normal(mode: Mode) -> NormalMode:
    """
    Sum what there is to know of V at a mode, and list the directions in which it can move.

    Raises
    ------
    NotSupportedError
        If too many effects meet.
    """
    c, model = mode.coordinates, mode.coordinates.model
    Gs = [L @ L.T for L in c.Lambdas(mode.x)]
    rows = _sigma_columns(model) if "sigma" not in model.constants else None
    sums = read_sums(c, mode.x, Gs)
    if rows is not None:
        Gs.append(np.zeros((rows.shape[1], rows.shape[1])))
    scale, scales = _sigma_moves(c, Gs, rows)
    loose = _joined(scale, scales, _factor_moves(mode), Gs)
    return NormalMode(
        sums, loose, lambda: _joined(scale, scales, _linear_moves(mode), Gs), embedding(c)
    )


def embedding(c: Coordinates) -> np.ndarray:
    """Give what turns the mean's free coefficients of centred columns into all, `(K, k)`."""
    names = c.model.design.predictors["mu"].names
    turn = uncentre(np.eye(len(names)), names, c.model.means("mu")).T
    return turn[:, np.isnan(c.held[0])]


def read_sums(c: Coordinates, x: np.ndarray, Gs: Sequence[np.ndarray]) -> Sums:
    """
    Sum what there is to know of V at x, with the covariances `(p, p)` of the terms given besides.

    Where sigma has a formula, a last term stands for its columns.
    """
    model, (gamma, sigma) = c.model, c.split(x)
    X, w = centred_columns(model, "mu"), precisions(model, sigma)
    y = model.family.working(model.design.response.y) - model.design.predictors["mu"].offset
    Z, Gs = effects_matrix(model), list(Gs)
    shapes = [(len(t.levels), t.size) for t in model.design.terms]
    if "sigma" not in model.constants:
        rows = _sigma_columns(model)
        Z = _with_rows(Z, rows / np.sqrt(w)[:, None])
        shapes.append(rows.shape)
        Gs.append(np.zeros((rows.shape[1], rows.shape[1])))
    return sums_of(Z, shapes, Gs, X[:, np.isnan(c.held[0])], y - X @ gamma, w)


def mean_residual(mode: Mode) -> np.ndarray:
    """Give the response less the mean's fixed part, `(n,)`."""
    model, gamma = mode.coordinates.model, mode.coordinates.split(mode.x)[0]
    y = model.family.working(model.design.response.y) - model.design.predictors["mu"].offset
    return y - centred_columns(model, "mu") @ gamma


# ---- the data


def precisions(model: Model, sigma: np.ndarray) -> np.ndarray:
    """Give one over each row's variance given the effects, `(n,)`."""
    weights = model.design.response.weights
    w = np.ones(model.nobs) if weights is None else weights
    eta = centred_columns(model, "sigma") @ sigma
    if "sigma" not in model.constants:
        eta = eta + model.design.predictors["sigma"].offset
    return w / np.square(model.links["sigma"].linkinv(eta))


def effects_matrix(model: Model) -> Any:
    """Give all terms' Z side by side, sparse `(n, N)`."""
    from scipy.sparse import csr_array

    found = model.design.effects_matrix("mu")
    return csr_array((model.nobs, 0)) if found is None else found


def _sigma_columns(model: Model) -> np.ndarray:
    """Give a one and sigma's columns, `(n, r + 1)`."""
    return np.column_stack([np.ones(model.nobs), centred_columns(model, "sigma")])


def _with_rows(Z: Any, columns: np.ndarray) -> Any:
    """Add a term of one level a row, with columns `(n, r)` and no effects, to Z."""
    from scipy.sparse import csr_array, hstack

    n, r = columns.shape
    own = csr_array((columns.ravel(), np.arange(n * r), np.arange(0, n * r + 1, r)))
    return hstack([Z, own], format="csr")


# ---- the parameters


@dataclass(frozen=True, eq=False)
class _Factors:
    """Slopes of the terms' covariances: `first[i]`, and `second[i][j]` or None where zero."""

    term: list[int]
    first: list[np.ndarray]
    second: dict[tuple[int, int], np.ndarray]


def _sigma_moves(
    c: Coordinates, Gs: Sequence[np.ndarray], rows: np.ndarray | None
) -> tuple[list[Direction], dict[tuple[int, int], Direction]]:
    """Give how V moves with sigma: by its logarithm, or by each free coefficient of its own."""
    if rows is None:
        if not np.isnan(c.held[1]).any():
            return [], {}
        # D = V - Z (I x G) Z', and D is sigma squared times what is known.
        rest = [-G for G in Gs]
        twice, four = (Direction(k, [k * part for part in rest]) for k in (2.0, 4.0))
        return [twice], {(0, 0): four}
    free = [1 + int(k) for k in np.flatnonzero(np.isnan(c.held[1]))]
    r = rows.shape[1]

    def of(i: int, j: int, times: float) -> Direction:
        part = np.zeros((r, r))
        part[i, j] += 0.5 * times
        part[j, i] += 0.5 * times
        return Direction(0.0, [*(np.zeros_like(G) for G in Gs[:-1]), part])

    second = {(a, b): of(i, j, 4.0) for a, i in enumerate(free) for b, j in enumerate(free)}
    return [of(0, i, 2.0) for i in free], second


def _factor_moves(mode: Mode) -> _Factors:
    """Give how the terms' covariances move with the coordinates that are not at an edge."""
    c, idle = mode.coordinates, mode.coordinates.idle(mode.x)
    found = _Factors([], [], {})
    for number, at in enumerate(c.factors):
        places = [k for k in range(at.start, at.stop) if not idle[k]]
        L, slopes = c.Lambdas(mode.x)[number], _factor_slopes(c, mode.x, number)
        bends = {k: _bend(c, mode.x, number, k) for k in places}
        base = len(found.term)
        for i, k in enumerate(places):
            dL = slopes[k - at.start]
            found.term.append(number)
            found.first.append(dL @ L.T + L @ dL.T)
            for j, m in enumerate(places):
                other, bend = slopes[m - at.start], bends[k][m - at.start]
                both = bend @ L.T + dL @ other.T
                found.second[base + i, base + j] = both + both.T
    return found


def _factor_slopes(c: Coordinates, x: np.ndarray, number: int) -> np.ndarray:
    """Give a factor's slopes `(m, p, p)` by its coordinates."""
    p = c.model.design.terms[number].size
    found = np.empty((c.factors[number].stop - c.factors[number].start, p, p))
    blank = [np.zeros(len(h)) for h in c.held]
    for a in range(p):
        for b in range(p):
            unit = [np.zeros((t.size, t.size)) for t in c.model.design.terms]
            unit[number][a, b] = 1.0
            found[:, a, b] = c.pull(x, blank, unit)[c.factors[number]]
    return found


def _bend(c: Coordinates, x: np.ndarray, number: int, k: int) -> np.ndarray:
    """Give how those slopes move with coordinate k, by differences of the fourth order."""
    step = STEP * max(abs(x[k]), 1e-3)
    unit = np.arange(len(x)) == k

    def between(times: float) -> np.ndarray:
        ahead = _factor_slopes(c, x + times * step * unit, number)
        return (ahead - _factor_slopes(c, x - times * step * unit, number)) / (2 * times * step)

    return (4 * between(1.0) - between(2.0)) / 3


def _linear_moves(mode: Mode) -> _Factors:
    """
    Give how the terms' covariances move in parameters in which they are linear, if there are.

    A structure's covariances are so where they span as many dimensions as it has coordinates;
    else, as in `_factor_moves`.
    """
    c, loose = mode.coordinates, _factor_moves(mode)
    found = _Factors([], [], {})
    for number, (at, term) in enumerate(zip(c.factors, c.model.design.terms, strict=True)):
        basis = None if c.strict[number] else span(term, at.stop - at.start)
        if basis is not None:
            found.term.extend([number] * len(basis))
            found.first.extend(basis)
            continue
        own, base = [i for i, t in enumerate(loose.term) if t == number], len(found.term)
        found.term.extend([number] * len(own))
        found.first.extend(loose.first[i] for i in own)
        for a, i in enumerate(own):
            for b, j in enumerate(own):
                found.second[base + a, base + b] = loose.second[i, j]
    return found


def span(term: RandomTerm, m: int) -> list[np.ndarray] | None:
    """Give m matrices `(p, p)` that span a structure's covariances, if so few do."""
    p, rng = term.size, np.random.default_rng(0)
    made = [term.structure.loose_factor(rng.normal(size=m), p) for _ in range(3 * m + 3)]
    _, sizes, basis = np.linalg.svd(np.stack([(L @ L.T).ravel() for L in made]))
    if (sizes > SPAN * sizes[0]).sum() != m:
        return None
    found = basis[:m].reshape(m, p, p)
    return list(0.5 * (found + np.swapaxes(found, 1, 2)))


def _joined(
    scale: list[Direction],
    scales: dict[tuple[int, int], Direction],
    factors: _Factors,
    Gs: Sequence[np.ndarray],
) -> Moves:
    """Put sigma's parameters and the factors' together."""
    none, s = [np.zeros_like(G) for G in Gs], len(scale)

    def of(number: int, part: np.ndarray) -> Direction:
        return Direction(0.0, [part if t == number else none[t] for t in range(len(Gs))])

    first = [*scale, *(of(t, part) for t, part in zip(factors.term, factors.first, strict=True))]
    m, still = len(first), Direction(0.0, none)
    second = [[still] * m for _ in range(m)]
    for (i, j), direction in scales.items():
        second[i][j] = direction
    for (i, j), part in factors.second.items():
        second[s + i][s + j] = of(factors.term[i], part)
    return Moves(first, second)
