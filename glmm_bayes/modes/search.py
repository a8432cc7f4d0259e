"""Climb to a maximum in a search's own coordinates, move to the edge, judge by the Hessian."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from glmm_bayes.engine.search.optimise import bounded_newton, hessian, maximise
from glmm_bayes.errors import ConvergenceError
from glmm_bayes.modes.coordinates import Coordinates

NEAR = 1e-3  # of a column's unit: so near an edge, the edge itself is tried
BOUND = 0.02  # of its width: so near a bound of a parameter between levels, that is tried
STEP = 1e-4  # of a standard error, between the gradients that make the Hessian
ROUGH, FINE = 1e-2, 1e-7  # of the decrement: where only a start is wanted; before polishing
FARTHEST = 1.5  # of a unit, in one step
CLOSE = 1e-10  # of the decrement: three parts in 100,000 of a standard error
TRUSTED = 1e-6  # of log likelihood still to be climbed
FAILURES = (np.linalg.LinAlgError, ConvergenceError, FloatingPointError, OverflowError)


class Objective(Protocol):
    """
    What is maximised, as a function of x.

    Attributes
    ----------
    noise
        The Monte Carlo standard error of the value last given; 0 where it is exact.
    """

    @property
    def noise(self) -> float:
        """Tell how uncertain the value is."""

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Give the value and the gradient `(m,)`; minus infinity where there is none."""


@dataclass(eq=False)
class Remembered(ABC):
    """
    An objective that is not evaluated twice in a row at one place.

    Attributes
    ----------
    evaluations
        How often it was evaluated.
    """

    evaluations: int = field(default=0, init=False)
    _x: np.ndarray | None = field(default=None, init=False)
    _answer: tuple[float, np.ndarray] = field(default=(-np.inf, np.empty(0)), init=False)

    @property
    def noise(self) -> float:
        """The standard error of the value last given."""
        return 0.0

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Evaluate at x; minus infinity where that fails."""
        if self._x is None or not np.array_equal(x, self._x):
            self.evaluations += 1
            try:
                value, slope = self.evaluated(x)
            except FAILURES:
                value, slope = -np.inf, np.zeros_like(x)
            if not (np.isfinite(value) and np.isfinite(slope).all()):
                value, slope = -np.inf, np.zeros_like(x)
            self._x, self._answer = x.copy(), (value, slope)
        return self._answer

    def forget(self) -> None:
        """Evaluate anew at the next call: the objective itself has changed."""
        self._x = None

    @abstractmethod
    def evaluated(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Give value and gradient at x."""


@dataclass(eq=False)
class Frame:
    """
    A search's own coordinates: x = origin + axes y, y of natural step 1.

    Attributes
    ----------
    objective
        Gives value and gradient `(m,)` at x.
    axes
        `(m, d)`; what is not searched has no axis.
    """

    objective: Objective
    origin: np.ndarray
    axes: np.ndarray

    def __call__(self, y: np.ndarray) -> tuple[float, np.ndarray]:
        """Evaluate at y."""
        value, gradient = self.objective(self.x(y))
        return value, self.axes.T @ gradient

    def x(self, y: np.ndarray) -> np.ndarray:
        """Go to x."""
        return self.origin + self.axes @ y


def edge_tried(
    objective: Objective,
    coordinates: Coordinates,
    x: np.ndarray,
    value: float,
    units: np.ndarray,
) -> np.ndarray:
    """Move to the edge what is near it, where that costs nothing."""
    for near in (NEAR, 30 * NEAR):
        moved = x.copy()
        for term, at, strict in zip(
            coordinates.model.design.terms, coordinates.factors, coordinates.strict, strict=True
        ):
            if not strict:
                moved[at] = term.structure.at_edge(x[at], term.size, near * units[at])
        x = _if_as_high(objective, moved, x, value)
    # Once more without what is near a bound and yet keeps off it.
    for near in (BOUND, 1e-3 * BOUND):
        x = _if_as_high(objective, coordinates.to_bounds(x, near), x, value)
    return x


def _if_as_high(objective: Objective, moved: np.ndarray, x: np.ndarray, value: float) -> np.ndarray:
    costs_nothing = not np.array_equal(moved, x) and (
        objective(moved)[0] >= value - 1e-9 * (1 + abs(value))
    )
    return moved if costs_nothing else x


def inward(
    objective: Objective,
    coordinates: Coordinates,
    x: np.ndarray,
    value: float,
    units: np.ndarray,
) -> np.ndarray | None:
    """Give a higher point off the edge, if there is one among what the structures propose."""
    for term, at, strict in zip(
        coordinates.model.design.terms, coordinates.factors, coordinates.strict, strict=True
    ):
        if strict:
            continue
        steps = [step * units[at] for step in (0.03, 0.3)]
        for part in term.structure.exits(x[at], term.size, steps):
            moved = x.copy()
            moved[at] = part
            if objective(moved)[0] > value + 1e-7:
                return moved
    higher = (moved for moved in coordinates.exits(x) if objective(moved)[0] > value + 1e-7)
    return next(higher, None)


def climb(
    objective: Objective,
    coordinates: Coordinates,
    x: np.ndarray,
    axes: np.ndarray,
    units: np.ndarray,
    *,
    tolerance: float = FINE,
) -> tuple[np.ndarray, np.ndarray]:
    """
    Climb from x along the axes, onto an edge and off it again where that is higher.

    Returns
    -------
    x
        The top.
    inverse
        `(d, d)` an estimate of the inverse of minus the Hessian along the axes.
    """
    for _ in range(4):
        frame = Frame(objective, x, axes)
        objective(x)
        best = maximise(
            frame,
            np.zeros(axes.shape[1]),
            longest(axes, units),
            tolerance=tolerance,
            noise=objective.noise,
        )
        top = frame.x(best.x)
        x = edge_tried(frame.objective, coordinates, top, best.value, units)
        higher = inward(objective, coordinates, x, objective(x)[0], units)
        if higher is None:
            break
        x = higher
    return x, best.inverse


def longest(axes: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Give the longest step `(d,)` along each axis: no coordinate may move much over a unit."""
    return FARTHEST / np.abs(axes / units[:, None]).max(axis=0)


def root(inverse: np.ndarray) -> np.ndarray:
    """Give a factor of a covariance estimate; the identity where it is not one."""
    try:
        return np.linalg.cholesky(0.5 * (inverse + inverse.T))
    except np.linalg.LinAlgError:
        return np.eye(len(inverse))


def off_edge(axes: np.ndarray, idle: np.ndarray) -> np.ndarray:
    """Give axes of the same spread that leave alone what stands at an edge."""
    spread = axes @ axes.T
    moved = np.flatnonzero(~idle & (np.diag(spread) > 0))
    kept = np.zeros((len(idle), len(moved)))
    kept[moved] = root(spread[np.ix_(moved, moved)])
    return kept


@dataclass(frozen=True, eq=False)
class Polished:
    """
    A maximum with its Hessian.

    Attributes
    ----------
    y, gradient
        `(d,)` from the frame's origin, and the slope there.
    inverse
        `(d, d)` of minus the Hessian; NaN where that is not positive definite.
    decrement
        How much the function would still rise.
    direction
        `(m,)` the direction of x in which it bends the least.
    """

    y: np.ndarray
    gradient: np.ndarray
    inverse: np.ndarray
    decrement: float
    direction: np.ndarray

    @property
    def positive(self) -> bool:
        """Whether this is a maximum."""
        return bool(np.isfinite(self.inverse).all())

    @property
    def trusted(self) -> bool:
        """Whether this is a maximum, and reached."""
        return self.positive and self.decrement < TRUSTED


def polish(frame: Frame) -> tuple[Frame, Polished]:
    """
    Take Newton's steps from the frame's origin, with the Hessian there.

    Where the axes are far from standard errors, the differences that make the Hessian are too
    coarse or too fine: then once more, along better axes. Where there is no maximum, once more
    from where Newton's method with a bounded step leads, which leaves saddles.
    """
    found = _polished(frame)
    if not found.trusted:
        y = bounded_newton(frame, found.y, STEP)
        if not np.array_equal(y, found.y):
            frame = Frame(frame.objective, frame.x(y), frame.axes)
            found = _polished(frame)
    if found.positive and len(found.y):
        spread = np.linalg.eigvalsh(found.inverse)
        if spread[0] < 0.04 or spread[-1] > 25.0:
            frame = Frame(frame.objective, frame.x(found.y), frame.axes @ root(found.inverse))
            found = _polished(frame)
    return frame, found


def _polished(frame: Frame) -> Polished:
    d = frame.axes.shape[1]
    y = np.zeros(d)
    value, gradient = frame(y)
    H = hessian(frame, y, gradient, STEP)
    if not (d and np.isfinite(H).all()):
        inverse = np.full((d, d), np.nan)
        return Polished(y, gradient, inverse, 0.0 if d == 0 else np.nan, frame.axes.sum(axis=1))
    values, vectors = np.linalg.eigh(H)
    positive = values[0] > 1e-8 * values[-1]
    inverse = (vectors / values) @ vectors.T if positive else np.full((d, d), np.nan)
    for _ in range(5):
        if not positive or gradient @ inverse @ gradient < CLOSE:
            break
        moved = y + inverse @ gradient
        higher, slope = frame(moved)
        if not higher >= value - 1e-10 * (1 + abs(value)) - frame.objective.noise:
            break
        y, value, gradient = moved, higher, slope
    frame(y)
    decrement = 0.5 * float(gradient @ inverse @ gradient)
    return Polished(y, gradient, inverse, decrement, frame.axes @ vectors[:, 0])
