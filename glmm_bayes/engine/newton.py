"""Climb to the mode of effects (and coefficients) by Newton's method, sparing factorisations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from glmm_bayes.engine.columns import add, collect, of_first
from glmm_bayes.errors import ConvergenceError

MOST_STEPS, HALVINGS = 100, 16
ENOUGH = 1e-18  # of the decrement beside the log density: twice the distance from the maximum
NEAR = 100.0  # a decrement with which an older factor still points the right way
SLOW = 3e-2  # of a step's decrement, in the next one's: slower than this, the factor is renewed
LOST = 1e-11  # of the log density: what rounding may take of a rise


class Rows(Protocol):
    """The pointwise log density of rows, and its derivatives by their predictors."""

    def __call__(self, eta: np.ndarray, order: int, among: Sequence[int] | None = None, /) -> Any:
        """Expand at `(P, n)` predictors; with `among`, derivatives by others are left zero."""


@dataclass(frozen=True, eq=False)
class Normal:
    """A normal prior of the first predictor's k coefficients."""

    mean: np.ndarray
    precision: np.ndarray

    def log_density(self, gamma: np.ndarray) -> float:
        """Give the log density without its constant."""
        rest = gamma - self.mean
        return -0.5 * float(rest @ self.precision @ rest)

    def slope(self, gamma: np.ndarray) -> np.ndarray:
        """Give its gradient `(k,)`."""
        return self.precision @ (self.mean - gamma)


@dataclass(frozen=True, eq=False)
class Ascent:
    """
    The joint log density of the effects u and the first predictor's coefficients, to be climbed.

    Attributes
    ----------
    rows
        Gives the pointwise log density and its derivatives at `(P, n)` predictors.
    X
        `(n, k)` the first predictor's columns; without any, its coefficients stay as they are.
    of
        `(k,)` the numbers of the predictors whose columns these are, if not all the first's.
    spread
        The effects' linear algebra, Lambda given.
    random
        The numbers of the predictors with effects.
    prior
        Of the coefficients that are climbed over; flat where None.
    farthest
        How far a step may move a predictor: where there are several maxima, not to the next one.
    """

    rows: Rows
    X: np.ndarray
    spread: Any
    random: Sequence[int]
    prior: Normal | None = None
    farthest: float = np.inf
    of: np.ndarray | None = None

    @property
    def joint(self) -> bool:
        """Whether there are coefficients to be climbed over too."""
        return self.X.shape[1] > 0

    def point(self, u: np.ndarray, gamma: np.ndarray, eta: np.ndarray) -> "Point":
        """Evaluate where the predictors are `eta`."""
        found = self.rows(eta, 2, self.random)
        value = float(found.value.sum() - 0.5 * u @ self.spread.times_prior(u))
        if self.prior is not None:
            value += self.prior.log_density(gamma)
        return Point(u, gamma, eta, found, value)

    def slopes(self, at: "Point") -> tuple[np.ndarray, np.ndarray]:
        """Give the gradient by u and by the coefficients."""
        first = at.found.first
        gu = in_units(self.spread, self.spread.collect(first[self.random]))
        gu -= self.spread.times_prior(at.u)
        gx = collect(self.X, of_first(self.X, self.of), first)
        return gu, gx if self.prior is None else gx + self.prior.slope(at.gamma)

    def factor(self, at: "Point") -> Any:
        """Factor the negative Hessian; LinAlgError where it is not positive definite."""
        return self.factored(self._weights(at))

    def some_factor(self, at: "Point") -> Any:
        """Factor the negative Hessian, or one near it with every row's own part made positive."""
        try:
            return self.factor(at)
        except np.linalg.LinAlgError:
            return self.factored(positive_part(self._weights(at)))

    def factored(self, W: np.ndarray) -> Any:
        """Factor the Hessian of given weights `(R, R, n)`."""
        ridge = None if self.prior is None else self.prior.precision
        return self.spread.factor(W, joint=self.joint, ridge=ridge)

    def _weights(self, at: "Point") -> np.ndarray:
        return -at.found.second[np.ix_(self.random, self.random)]

    def stepped(self, at: "Point", du: np.ndarray, dx: np.ndarray) -> "Point | None":
        """Go along a direction, halving the way until it rises; None if it never does."""
        along = np.zeros_like(at.eta)
        along[self.random] = self.spread.eta(du)
        if self.joint:
            add(along, self.X, of_first(self.X, self.of), dx)
        size = min(1.0, self.farthest / max(float(np.abs(along).max(initial=0.0)), 1e-300))
        for _ in range(HALVINGS):
            gamma = at.gamma + size * dx if self.joint else at.gamma
            new = self.point(at.u + size * du, gamma, at.eta + size * along)
            if new.value > at.value - LOST * abs(at.value):
                return new
            size *= 0.5
        return None


@dataclass(frozen=True, eq=False)
class Point:
    """Effects, coefficients, predictors `(P, n)`, the rows' expansion and the joint log density."""

    u: np.ndarray
    gamma: np.ndarray
    eta: np.ndarray
    found: Any
    value: float


def find_mode(ascent: Ascent, at: Point, factor: Any) -> tuple[Point, Any]:
    """
    Climb from a point.

    Parameters
    ----------
    factor
        That of a Hessian near the mode's, with which to begin, or None.

    Returns
    -------
    at, factor
        The mode, and its negative Hessian factored.

    Raises
    ------
    LinAlgError
        If the Hessian at the mode is not negative definite.
    ConvergenceError
        If the mode is not reached.
    """
    fresh, last = factor is None, np.inf
    for _ in range(MOST_STEPS):
        gu, gx = ascent.slopes(at)
        if fresh:
            factor = ascent.some_factor(at)
        du, dx = factor.solve(gu, gx)
        decrement = float(gu @ du + gx @ dx)
        if abs(decrement) < ENOUGH * max(1.0, min(abs(at.value), 100.0 * at.eta.shape[1])):
            break
        if not fresh and not (0 < decrement < min(NEAR, SLOW * last)):
            fresh, last = True, np.inf
            continue
        new = ascent.stepped(at, du, dx)
        if new is None and not fresh:
            fresh = True
            continue
        if new is None:
            if decrement < 1e-6:  # what is left of the way is lost in rounding
                break
            raise ConvergenceError(
                f"The mode of the random effects was not found: no step from log density "
                f"{at.value:.6g} rises (decrement {decrement:.2g}); scale the predictors."
            )
        at, last, fresh = new, decrement, False
    else:
        raise ConvergenceError(
            f"The mode of the random effects was not reached in {MOST_STEPS} Newton steps "
            f"(decrement {decrement:.2g}); scale the predictors."
        )
    return at, ascent.factor(at)


def in_units(spread: Any, parts: Sequence[np.ndarray]) -> np.ndarray:
    """Go from Z' r, by term, to J' r `(N,)`."""
    found = [(s @ L).ravel() for s, L in zip(parts, spread.Lambdas, strict=True)]
    return np.concatenate([*found, np.empty(0)])


def positive_part(W: np.ndarray) -> np.ndarray:
    """Replace each row's weights `(R, R, n)` by the nearest that are positive definite."""
    if len(W) == 1:
        return np.maximum(W, 1e-8 * np.abs(W).max())
    values, vectors = np.linalg.eigh(np.moveaxis(W, 2, 0))
    values = np.maximum(values, 1e-8 * np.abs(values).max())
    return np.moveaxis(np.einsum("nab,nb,ncb->nac", vectors, values, vectors), 0, 2)
