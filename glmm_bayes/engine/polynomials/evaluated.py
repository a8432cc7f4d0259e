"""What is known of a log density from the points where it was evaluated, and polynomials of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from glmm_bayes.engine.polynomials.bend import Bend
from glmm_bayes.engine.polynomials.polynomial import Polynomial, fit_polynomial, powers

type Evaluate = Callable[[np.ndarray], tuple[float, np.ndarray]]
type Many = Callable[[np.ndarray], np.ndarray]

HIGHEST, MOST = 14, 700  # degree, and coefficients
ALONE = 5  # powers of single variables beyond the degree
MORE = 1.6  # equations over coefficients
DEEP = 20.0  # below the top: what lies deeper says less and less
AT_ONCE = 30.0  # values of many points at once that cost as much as one with its gradient


class Order(NamedTuple):
    """Which monomials: up to a total degree, and of single variables up to a higher one."""

    total: int
    alone: int

    @classmethod
    def usual(cls, d: int) -> "Order":
        """Give what mostly does, for d variables."""
        total = {1: 8, 2: 5}.get(d, 3 if d <= 8 else 2)
        return cls(total, total + ALONE if d > 1 else 0)

    @property
    def richer(self) -> "Order":
        """One degree more."""
        return Order(self.total + 1, self.alone and self.alone + 1)

    @property
    def poorer(self) -> "Order":
        """One degree less."""
        return Order(self.total - 1, self.alone and self.alone - 1)

    def powers(self, d: int) -> np.ndarray:
        """Give the powers `(m, d)`."""
        return powers(d, self.total, self.alone)


def radius(d: int) -> float:
    """Give how far polynomials reach: a normal's draws lie within but for a few in 10,000."""
    return float(np.sqrt(d)) + 3.0


@dataclass(eq=False)
class Evaluated:
    """
    The true density, relative to that at the origin, where it was evaluated so far.

    Parameters
    ----------
    evaluate, many
        The log density of x with its gradient, and, if it is had at once, that of many x.
    origin, axes
        x = origin + axes t.

    Attributes
    ----------
    t, values, gradients
        By point, its t `(d,)`, the log density and its slope `(d,)` by t, NaN where that is not
        known.
    count, cost
        The evaluations, and how many with a gradient would have cost as much.
    """

    evaluate: Evaluate
    many: Many | None
    origin: np.ndarray
    axes: np.ndarray
    t: list[np.ndarray] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    gradients: list[np.ndarray] = field(default_factory=list)
    count: int = 0
    cost: float = 0.0
    base: float = 0.0

    def at(self, t: np.ndarray) -> float:
        """Evaluate at one point; what has no density is not kept."""
        value, gradient = self.evaluate(self.origin + self.axes @ t)
        self.count += 1
        self.cost += 1.0
        slope = self.axes.T @ gradient
        if not (np.isfinite(value) and np.isfinite(slope).all()):
            return -np.inf
        if not self.values:
            self.base = value
        self._keep(t, value - self.base, slope)
        return value - self.base

    def at_all(self, t: np.ndarray) -> np.ndarray:
        """Evaluate at points `(S, d)`: at once if it can be, and then without their gradients."""
        if self.many is None:
            return np.array([self.at(point) for point in t])
        values = self.many(self.origin + t @ self.axes.T) - self.base
        self.count += len(t)
        self.cost += len(t) / AT_ONCE
        values = np.where(np.isfinite(values), values, -np.inf)
        unknown = np.full(len(self.origin), np.nan)
        for point, value in zip(t, values, strict=True):
            if np.isfinite(value):
                self._keep(point, float(value), unknown)
        return values

    def _keep(self, t: np.ndarray, value: float, slope: np.ndarray) -> None:
        self.t.append(t)
        self.values.append(value)
        self.gradients.append(slope)

    def points_for(self, order: Order) -> int:
        """Give how many points determine a polynomial."""
        d = len(self.origin)
        each = 1 + d if self.many is None else 0.5
        return int(np.ceil(MORE * len(order.powers(d)) / each))

    def determines(self, order: Order) -> bool:
        """Tell whether the points so far determine a polynomial, and rounding allows for one."""
        d = len(self.origin)
        terms = len(order.powers(d))
        equations = int(np.isfinite(self.gradients).sum()) + len(self.t)
        return MORE * terms <= equations and order.total <= HIGHEST and terms <= MOST

    def is_known(self, t: np.ndarray, near: float) -> bool:
        """Tell whether there is a point so near."""
        return bool((np.abs(np.array(self.t) - t).max(axis=1, initial=0.0) < near).any())

    def fitted(self, bend: Bend, order: Order) -> Polynomial:
        """Fit the log density of z, t = bend(z), by a polynomial of z."""
        z, values, gradients = (np.array(part) for part in (self.t, self.values, self.gradients))
        z = bend.inverse(z)
        # Farther out it is not used, and high powers there would be all that counts.
        used = np.square(z).sum(axis=1) < (1.01 * radius(z.shape[1])) ** 2
        z, values, gradients = z[used], values[used], gradients[used]
        rate, log_jacobian, by_z = bend.jacobian(z)
        values, gradients = values + log_jacobian, gradients * rate + by_z
        # The root of the density over that of the points, about: misfits count as they are drawn.
        depth = values.max() - values
        weights = np.exp(-0.25 * np.minimum(depth, DEEP)) / np.maximum(1.0, depth / DEEP) ** 2
        return fit_polynomial(order.powers(z.shape[1]), z, values, gradients, weights)
