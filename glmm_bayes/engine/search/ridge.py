"""Maximise a smooth function with one function of its arguments held: a step along a ridge."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from glmm_bayes.engine.search.optimise import updated_inverse

MOST_STEPS, HALVINGS, BACK = 40, 10, 30
CLOSE = 1e-5  # of what a quadratic would still rise, which is then added
LONGEST = 4.0  # standard errors in one step
LOST = 1e-10  # of the value: what rounding may take of a rise

type Evaluate = Callable[[np.ndarray], tuple[float, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Held:
    """
    What is held: s(y), with its gradient.

    Attributes
    ----------
    evaluate
        Gives s and its gradient `(d,)` at y.
    """

    evaluate: Evaluate

    def moved(self, y: np.ndarray, s: float, inverse: np.ndarray) -> np.ndarray | None:
        """Go to where s is as wanted, the shortest way in the metric of `inverse`; None if lost."""
        for _ in range(BACK):
            now, n = self.evaluate(y)
            if not (np.isfinite(now) and np.isfinite(n).all()):
                return None
            if abs(now - s) < 1e-9 * (1 + abs(s)):
                return y
            along = inverse @ n
            length = float(n @ along)
            if not length > 0:
                return None
            y = y + along * ((s - now) / length)
        return None


@dataclass(frozen=True, eq=False)
class Crest:
    """
    The maximum where s is held.

    Attributes
    ----------
    y, value, gradient
        The point `(d,)`, the function there, with what a quadratic would still add, and its slope.
    s, slope
        What is held, and the slope by it of the maximum.
    inverse
        `(d, d)` an estimate of the inverse of minus the Lagrangian's Hessian.
    rise
        What the quadratic added.
    """

    y: np.ndarray
    value: float
    gradient: np.ndarray
    s: float
    slope: float
    inverse: np.ndarray
    rise: float

    @property
    def reached(self) -> bool:
        """Whether this is a maximum to the last digits that matter."""
        return bool(np.isfinite(self.value)) and self.rise < CLOSE


def climb_ridge(
    evaluate: Evaluate, held: Held, y: np.ndarray, s: float, inverse: np.ndarray
) -> Crest | None:
    """
    Maximise subject to s(y) = s, by sequential quadratic programming along the constraint.

    Parameters
    ----------
    evaluate
        Gives value and gradient; minus infinity where there is none.
    held
        The constraint.
    y
        `(d,)` where to begin, in coordinates whose standard errors are about 1.
    inverse
        `(d, d)` a first guess of the inverse of minus the Hessian.

    Returns
    -------
    Crest or None
        None where the function is not finite, or the constraint cannot be met.

    Notes
    -----
    Nocedal & Wright (2006), Numerical Optimization, chapter 18: quasi-Newton steps in the tangent
    of the constraint, each brought back onto it, which costs no evaluation of the function.
    """
    at = _begun(evaluate, held, y, s, inverse)
    if at is None:
        return None
    for _ in range(MOST_STEPS):
        rise, step, _ = _tangent(at, held)
        if rise < CLOSE:
            break
        found = _searched(evaluate, held, at, step)
        if found is None and not np.array_equal(at.inverse, np.eye(len(y))):
            at = replace(at, inverse=np.eye(len(y)))
            continue
        if found is None:
            break
        at = found
    rise, _, slope = _tangent(at, held)
    extra = rise if rise < CLOSE else 0.0
    return replace(at, value=at.value + extra, slope=slope, rise=rise)


def _begun(
    evaluate: Evaluate, held: Held, y: np.ndarray, s: float, inverse: np.ndarray
) -> Crest | None:
    moved = held.moved(y, s, inverse)
    if moved is None:
        return None
    value, gradient = evaluate(moved)
    if not np.isfinite(value):
        return None
    return Crest(moved, value, gradient, s, 0.0, inverse, np.inf)


def _tangent(at: Crest, held: Held) -> tuple[float, np.ndarray, float]:
    """Give what a quadratic rises along the constraint, the step that does, and the multiplier."""
    n = held.evaluate(at.y)[1]
    along, toward = at.inverse @ n, at.inverse @ at.gradient
    slope = float(n @ toward) / float(n @ along)
    step = toward - slope * along
    return max(0.5 * float(at.gradient @ step), 0.0), step, slope


def _searched(evaluate: Evaluate, held: Held, at: Crest, step: np.ndarray) -> Crest | None:
    """Find a higher point along the step, brought back onto the constraint."""
    step = step * min(1.0, LONGEST / float(np.abs(step).max()))
    for _ in range(HALVINGS):
        y = held.moved(at.y + step, at.s, at.inverse)
        if y is not None:
            value, gradient = evaluate(y)
            if value > at.value - LOST * (1 + abs(at.value)):
                new = replace(at, y=y, value=value, gradient=gradient)
                slope = _tangent(new, held)[2]
                # Of the Lagrangian, whose gradients differ by its own curvature alone.
                old_n, new_n = held.evaluate(at.y)[1], held.evaluate(y)[1]
                change = (at.gradient - slope * old_n) - (gradient - slope * new_n)
                return replace(new, inverse=updated_inverse(at.inverse, y - at.y, change))
        step = 0.5 * step
    return None
