"""A normal mode whose levels may depend on each other: how its covariance V can move."""

from collections.abc import Callable
from itertools import product

import numpy as np

from glmm_bayes.draws import uncentre
from glmm_bayes.engine.algebra.lapack import one_thread
from glmm_bayes.engine.dense_directions import DenseSums
from glmm_bayes.engine.directions import Direction
from glmm_bayes.engine.latent import Pattern
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.model import Model
from glmm_bayes.modes.by_rows import has_rows, read_by_rows
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.mode import Mode
from glmm_bayes.modes.normal import (
    Moves,
    NormalMode,
    effects_matrix,
    is_normal,
    mean_residual,
    precisions,
    read_normal,
)
from glmm_bayes.modes.reading import centred_columns

LARGEST = 2000  # effects, whose covariance is a dense matrix
STEP = 1e-3  # of a coordinate's size, between the covariances that make their derivatives
LEAST = 0.1  # of the largest coordinate of its term: its size at least


def depends_on_levels(model: Model) -> bool:
    """Tell whether the levels of some term depend on each other."""
    return any(term.level_structure.pairs is not None for term in model.design.terms)


def has_margin(model: Model) -> bool:
    """Tell whether `read_margin` can read a mode of the model."""
    plain = is_normal(model) and not depends_on_levels(model)
    return plain or _by_effects(model) or has_rows(model)


def _by_effects(model: Model) -> bool:
    """Tell whether levels depend on each other that are few enough for their covariance."""
    effects = sum(len(t.levels) * t.size for t in model.design.terms)
    return is_normal(model) and "sigma" in model.constants and effects <= LARGEST


def read_margin(mode: Mode) -> NormalMode:
    """
    Sum what there is to know of V at a mode, and list the directions in which it can move.

    Raises
    ------
    NotSupportedError
        If levels depend on each other and are too many, or have no proper covariance.
    """
    c, model = mode.coordinates, mode.coordinates.model
    if is_normal(model) and not depends_on_levels(model):
        return read_normal(mode)
    if not _by_effects(model):
        return read_by_rows(mode)
    K = term_covariances(c, mode.x)
    free = np.isnan(c.held[0])
    X, w = centred_columns(model, "mu")[:, free], precisions(model, c.split(mode.x)[1])
    Z, r = effects_matrix(model).toarray(), mean_residual(mode)
    Zw, Xw = Z * w[:, None], X * w[:, None]
    with one_thread():
        sums = DenseSums.of(
            (Zw.T @ Z, Zw.T @ X, Zw.T @ r),
            (Xw.T @ X, Xw.T @ r, float(r @ (w * r))),
            K,
            float(len(r)),
        )
    moves = _moves(mode, K)
    names = model.design.predictors["mu"].names
    embed = uncentre(np.eye(len(names)), names, model.means("mu")).T[:, free]
    return NormalMode(sums, moves, lambda: moves, embed)


def term_covariances(c: Coordinates, x: np.ndarray) -> list[np.ndarray]:
    """Give the covariance `(q p, q p)` of all effects of each term."""
    found = []
    for term, L, Q in zip(c.model.design.terms, c.Lambdas(x), c.precisions(x), strict=True):
        R, pattern = np.eye(len(term.levels)), Pattern.of(term.level_structure)
        if Q is not None and pattern is not None:
            try:
                R = np.linalg.inv(pattern.dense(Q.values))
            except np.linalg.LinAlgError as error:
                raise NotSupportedError(
                    f"The levels of {term.text!r} have no proper covariance, so that there are no "
                    f"small-sample degrees of freedom; use ddf='asymptotic'."
                ) from error
        found.append(np.kron(R, L @ L.T))
    return found


def _moves(mode: Mode, K: list[np.ndarray]) -> Moves:
    """Give how V moves with log sigma, and with every coordinate of a term, by differences."""
    c, idle = mode.coordinates, mode.coordinates.idle(mode.x)
    none = [np.zeros_like(part) for part in K]
    first, second = [], {}
    if np.isnan(c.held[1]).any():
        rest = [-part for part in K]
        first.append(Direction(2.0, [2 * part for part in rest]))
        second[0, 0] = Direction(4.0, [4 * part for part in rest])
    for number, (at, between) in enumerate(zip(c.factors, c.between, strict=True)):
        if not K[number].any():
            continue
        own = (*range(at.start, at.stop), *range(between.start, between.stop))
        places = [k for k in own if not idle[k]]
        base = len(first)
        slope = _differences(c, mode.x, number)

        def of(part: np.ndarray, number: int = number) -> Direction:
            return Direction(0.0, [part if t == number else z for t, z in enumerate(none)])

        first += [of(slope(k)) for k in places]
        for (a, i), (b, j) in product(enumerate(places), repeat=2):
            second[base + a, base + b] = of(slope(i, j))
    m, still = len(first), Direction(0.0, none)
    return Moves(first, [[second.get((i, j), still) for j in range(m)] for i in range(m)])


def _differences(c: Coordinates, x: np.ndarray, number: int) -> Callable[..., np.ndarray]:
    """Make the function that differentiates a term's covariance by coordinates, to fourth order."""
    size = np.maximum(np.abs(x), LEAST * np.abs(x[c.factors[number]]).max(initial=1.0))
    steps = STEP * np.where(size > 0, size, 1.0)

    def value(y: np.ndarray) -> np.ndarray:
        return term_covariances(c, y)[number]

    def by(f: Callable[[np.ndarray], np.ndarray], k: int) -> Callable[[np.ndarray], np.ndarray]:
        step = steps * (np.arange(len(x)) == k)

        def slope(y: np.ndarray) -> np.ndarray:
            near, far = f(y + step) - f(y - step), f(y + 2 * step) - f(y - 2 * step)
            return (8 * near - far) / (12 * steps[k])

        return slope

    def differentiated(*places: int) -> np.ndarray:
        f: Callable[[np.ndarray], np.ndarray] = value
        for k in places:
            f = by(f, k)
        return f(x)

    return differentiated
