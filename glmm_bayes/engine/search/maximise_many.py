"""Maximise many functions of the same kind at once, by the BFGS method, each at its own pace."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from glmm_bayes.engine.search.optimise import SUFFICIENT

MOST_STEPS, HALVINGS = 60, 12
LONGEST = 3.0  # standard errors in one step
ROUNDING = 1e-10  # of a value
CLOSE = 1e-5  # of the decrement: as good as the top, where rounding stops the climb

type EvaluateMany = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Optima:
    """
    Where S searches ended.

    Attributes
    ----------
    x, value
        `(S, d)` the points and `(S,)` the functions there.
    reached
        `(S,)` whether a quadratic would hardly rise any more.
    """

    x: np.ndarray
    value: np.ndarray
    reached: np.ndarray


def maximise_many(evaluate: EvaluateMany, start: np.ndarray, *, tolerance: float) -> Optima:
    """
    Climb S functions.

    Parameters
    ----------
    evaluate
        `evaluate(which, x)`: values and gradients `(k,)`, `(k, d)` of the functions with the
        numbers `which` `(k,)` at `x` `(k, d)`; minus infinity where there is none.
    start
        `(S, d)`, in coordinates whose standard errors are about 1.
    tolerance
        Of the decrement.
    """
    S, d = start.shape
    x, everyone = start.copy(), np.arange(S)
    value, gradient = evaluate(everyone, x)
    inverse, fresh = np.broadcast_to(np.eye(d), (S, d, d)).copy(), np.ones(S, dtype=bool)
    stopped = ~np.isfinite(value)
    for _ in range(MOST_STEPS):
        which = np.flatnonzero(~stopped & ~(_decrement(gradient, inverse) < tolerance))
        if not len(which):
            break
        moved, new, slope, risen = _searched(
            evaluate, which, x[which], value[which], gradient[which], inverse[which]
        )
        up = which[risen]
        step, fall = moved[risen] - x[up], gradient[up] - slope[risen]
        inverse[up], fresh[up] = _updated(inverse[up], step, fall), False
        x[up], value[up], gradient[up] = moved[risen], new[risen], slope[risen]
        stuck = which[~risen]
        stopped[stuck[fresh[stuck]]] = True
        inverse[stuck], fresh[stuck] = np.eye(d), True
    reached = np.isfinite(value) & (_decrement(gradient, inverse) < max(tolerance, CLOSE))
    return Optima(x, value, reached)


def _decrement(gradient: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    return np.einsum("si,sij,sj->s", gradient, inverse, gradient)


def _searched(
    evaluate: EvaluateMany,
    which: np.ndarray,
    x: np.ndarray,
    value: np.ndarray,
    gradient: np.ndarray,
    inverse: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Find higher points along the quasi-Newton directions; which were found, last."""
    direction = np.einsum("sij,sj->si", inverse, gradient)
    slope = np.einsum("si,si->s", direction, gradient)
    size = np.minimum(1.0, LONGEST / np.maximum(np.abs(direction).max(axis=1), 1e-300))
    moved, new, found = x.copy(), value.copy(), gradient.copy()
    risen = np.zeros(len(x), dtype=bool)
    for _ in range(HALVINGS):
        left = np.flatnonzero(~risen)
        if not len(left):
            break
        points = x[left] + size[left, None] * direction[left]
        values, slopes = evaluate(which[left], points)
        least = value[left] + SUFFICIENT * size[left] * slope[left]
        with np.errstate(invalid="ignore"):
            good = values >= least - ROUNDING * (1 + np.abs(value[left]))
        at = left[good]
        moved[at], new[at], found[at], risen[at] = points[good], values[good], slopes[good], True
        size[left[~good]] *= 0.5
    return moved, new, found, risen


def _updated(inverse: np.ndarray, step: np.ndarray, fall: np.ndarray) -> np.ndarray:
    """Update S estimates of minus the Hessian's inverse: see `optimise.updated_inverse`."""
    along = np.einsum("si,si->s", step, fall)
    size = np.linalg.norm(step, axis=1) * np.linalg.norm(fall, axis=1)
    sound = along > 1e-12 * size
    along = np.where(sound, along, 1.0)
    carried = np.einsum("sij,sj->si", inverse, fall)
    outer = step[:, :, None] * carried[:, None, :]
    scale = (1 + np.einsum("si,si->s", fall, carried) / along)[:, None, None]
    square = step[:, :, None] * step[:, None, :]
    change = (scale * square - outer - outer.transpose(0, 2, 1)) / along[:, None, None]
    return inverse + np.where(sound[:, None, None], change, 0.0)
