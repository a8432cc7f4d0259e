"""A frozen distribution of counts, as scipy's, of which only the log probabilities are known."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

type Array = np.ndarray
SMALLEST = 1e-18  # a probability beyond the mean that ends a sum
REACH = 40.0  # standard deviations below the mean where counts have no probability


@dataclass(frozen=True, eq=False)
class Tabulated:
    """
    A distribution of counts, summed from its probabilities.

    Attributes
    ----------
    log_mass
        `log_mass(y)`, which broadcasts y against the parameters.
    mean, sd
        Where the bulk lies, roughly: arrays of the parameters' shape.
    """

    log_mass: Callable[[Array], Array]
    mean: Array
    sd: Array

    def logpmf(self, y: Array) -> Array:
        """Give the log probability of y."""
        y = np.asarray(y, float)
        return np.where(y < 0, -np.inf, self.log_mass(np.maximum(y, 0.0)))

    def pmf(self, y: Array) -> Array:
        """Give the probability of y."""
        return np.exp(self.logpmf(y))

    def cdf(self, y: Array) -> Array:
        """Give P(Y <= y)."""
        y = np.floor(np.asarray(y, float))
        total = np.zeros(np.broadcast_shapes(y.shape, np.shape(self.mean)))
        for k in range(self._first, int(np.max(y, initial=-1.0)) + 1):
            total = total + np.where(k <= y, self.pmf(np.asarray(k)), 0.0)
        return np.minimum(total, 1.0)

    def sf(self, y: Array) -> Array:
        """Give P(Y > y)."""
        return np.where(np.equal(y, 0), -np.expm1(self.logpmf(0)), 1 - self.cdf(y))  # type: ignore[arg-type]

    def logsf(self, y: Array) -> Array:
        """Give log P(Y > y)."""
        return np.log(self.sf(y))

    def ppf(self, u: Array) -> Array:
        """Give the smallest count y with P(Y <= y) >= u."""
        u = np.asarray(u, float)
        if np.size(self.mean) == 1:
            first, table = self._table
            return first + np.searchsorted(table, u)
        shape = np.broadcast_shapes(u.shape, np.shape(self.mean))
        total, found, k = np.zeros(shape), np.full(shape, float(self._first)), self._first
        while True:
            mass = self.pmf(np.asarray(k))
            total = total + mass
            more = total < u
            if not np.any(more & ((mass > SMALLEST) | (k < self.mean))):
                return found
            found = found + more
            k += 1

    def rvs(self, size: Any, random_state: np.random.Generator) -> Array:
        """Draw."""
        return self.ppf(random_state.uniform(size=size)).astype(int)

    def stats(self, moments: str) -> tuple[Array, Array]:
        """Give mean and variance."""
        k, one, two = self._first, np.zeros(np.shape(self.mean)), np.zeros(np.shape(self.mean))
        while True:
            mass, apart = self.pmf(np.asarray(k)), k - self.mean
            one, two = one + mass * apart, two + mass * apart**2
            if not np.any((mass * (1 + apart**2) > SMALLEST) | (k <= self.mean)):
                return self.mean + one, two - one**2
            k += 1

    @property
    def _first(self) -> int:
        return max(0, int(np.min(self.mean - REACH * self.sd, initial=0.0)))

    @cached_property
    def _table(self) -> tuple[int, Array]:
        """Give where the table begins, and P(Y <= y) from there on."""
        first, step = self._first, 64
        end = int(np.max(self.mean)) + step
        while float(np.max(self.pmf(np.asarray(end)))) > SMALLEST:
            end += step
            step *= 2
        return first, np.cumsum(np.ravel(self.pmf(np.arange(first, end + 1))))
