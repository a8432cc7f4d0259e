"""Maximise a smooth function given with its gradient: quasi-Newton steps, judged by the Hessian."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

MOST_STEPS, SHORTEST = 200, 1e-10
SUFFICIENT, FLAT = 1e-4, 0.9  # Wolfe's conditions

type Evaluate = Callable[[np.ndarray], tuple[float, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Optimum:
    """
    Where a search ended.

    Attributes
    ----------
    x, value, gradient
        The point `(m,)`, the function there and its slope.
    inverse
        `(m, m)` an estimate of the inverse of minus the Hessian.
    evaluations
        How many the search took.
    """

    x: np.ndarray
    value: float
    gradient: np.ndarray
    inverse: np.ndarray
    evaluations: int

    @property
    def decrement(self) -> float:
        """Twice what a quadratic of this curvature would still rise."""
        return float(self.gradient @ self.inverse @ self.gradient)


def maximise(
    evaluate: Evaluate,
    start: np.ndarray,
    longest: np.ndarray,
    *,
    tolerance: float = 1e-8,
    noise: float = 0.0,
) -> Optimum:
    """
    Climb by the BFGS method.

    Parameters
    ----------
    evaluate
        Gives value and gradient; minus infinity where there is none.
    start
        `(m,)`, in coordinates whose standard errors are about 1.
    longest
        `(m,)` the longest step along each coordinate.
    tolerance
        Of the decrement.
    noise
        The standard error of a value that is estimated: within it, slopes tell the way.

    Notes
    -----
    Nocedal & Wright (2006), Numerical Optimization, chapters 3 and 6.
    """
    value, gradient = evaluate(start)
    best = Optimum(start, value, gradient, np.eye(len(start)), 1)
    fresh = True
    for _ in range(MOST_STEPS):
        if best.decrement < tolerance:
            break
        found = _search(evaluate, best, longest, noise)
        if found is None:
            if fresh:
                break
            best, fresh = replace(best, inverse=np.eye(len(start))), True
            continue
        best, fresh = replace(found, inverse=_updated(best, found)), False
    return best


def _search(evaluate: Evaluate, at: Optimum, longest: np.ndarray, noise: float) -> Optimum | None:
    """Find a point along the quasi-Newton direction that is higher, and where it is flatter."""
    direction = at.inverse @ at.gradient
    slope = float(direction @ at.gradient)
    if not slope > 0:
        return None
    widest = float(np.abs(direction / longest).max())
    size, low, high = min(1.0, 1.0 / widest), 0.0, np.inf
    best, count = None, at.evaluations
    noise = max(noise, 1e-9 * (1 + abs(at.value)))
    for _ in range(25):
        x = at.x + size * direction
        value, gradient = evaluate(x)
        count += 1
        if not (np.isfinite(value) and value >= at.value + SUFFICIENT * size * slope):
            high = size
            if (
                np.isfinite(value)
                and abs(value - at.value) < noise
                and gradient @ direction > -slope
            ):
                # The rise is lost in rounding or noise; the slopes still tell the way.
                return Optimum(x, value, gradient, at.inverse, count)
        elif gradient @ direction > FLAT * slope and size * widest < 1.0:
            best, low = Optimum(x, value, gradient, at.inverse, count), size
        else:
            return Optimum(x, value, gradient, at.inverse, count)
        if size * widest < SHORTEST:
            break
        size = 0.5 * (low + high) if np.isfinite(high) else 2.0 * size
        if best is not None and np.isfinite(high):
            break
    return None if best is None else replace(best, evaluations=count)


def _updated(old: Optimum, new: Optimum) -> np.ndarray:
    return updated_inverse(old.inverse, new.x - old.x, old.gradient - new.gradient)


def updated_inverse(inverse: np.ndarray, step: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Update an estimate of minus the Hessian's inverse by the fall of the gradient in a step."""
    along = float(step @ change)
    if not along > 1e-12 * np.linalg.norm(step) * np.linalg.norm(change):
        return inverse
    carried = inverse @ change
    outer = np.outer(step, carried)
    scale = (1 + float(change @ carried) / along) / along
    return inverse + scale * np.outer(step, step) - (outer + outer.T) / along


def hessian(evaluate: Evaluate, x: np.ndarray, gradient: np.ndarray, step: float) -> np.ndarray:
    """
    Give minus the Hessian `(m, m)` by differences of the gradient from `gradient`, that at x.

    To one side: where the natural step is 1, a step of a thousandth leaves errors of that order,
    and less where both sides of the diagonal are averaged.
    """
    found = np.zeros((len(x), len(x)))
    for j in range(len(x)):
        moved = np.zeros(len(x))
        moved[j] = step
        found[:, j] = (gradient - evaluate(x + moved)[1]) / step
    return 0.5 * (found + found.T)


def bounded_newton(evaluate: Evaluate, start: np.ndarray, step: float) -> np.ndarray:
    """
    Climb by Newton's method with steps of bounded length, uphill along every curvature.

    It needs many more evaluations than `maximise`, and leaves a saddle, where that stops.

    Parameters
    ----------
    step
        Between the gradients that make the Hessian.

    Notes
    -----
    The eigenvalues of the Hessian by their size: Gill, Murray & Wright (1981), Practical
    Optimization, section 4.4.2.
    """
    x, (value, gradient), radius = start, evaluate(start), 1.0
    for _ in range(30):
        H = hessian(evaluate, x, gradient, step)
        if not np.isfinite(H).all():
            break
        values, vectors = np.linalg.eigh(H)
        slope = vectors.T @ gradient
        moves = slope / np.maximum(np.abs(values), np.abs(slope) / radius + 1e-300)
        if slope @ moves < 1e-9:
            break
        higher, found = evaluate(x + vectors @ moves)
        if higher > value:
            x, value, gradient = x + vectors @ moves, higher, found
            radius *= 2.0
        else:
            radius = 0.25 * float(np.abs(moves).max())
    return x
