"""Frozen distributions, as scipy's, that are made of others: with a zero more, or without zero."""

from dataclasses import dataclass
from typing import Any

import numpy as np

type Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Inflated:
    """A distribution of counts, `base`, of which with probability `zi` a zero is seen instead."""

    base: Any
    zi: Array

    def logpmf(self, y: Array) -> Array:
        """Give the log probability of y."""
        zero = np.log(self.zi + (1 - self.zi) * self.base.pmf(0))
        return np.where(np.equal(y, 0), zero, np.log1p(-self.zi) + self.base.logpmf(y))

    def cdf(self, y: Array) -> Array:
        """Give P(Y <= y)."""
        return np.where(np.less(y, 0), 0.0, self.zi + (1 - self.zi) * self.base.cdf(y))

    def rvs(self, size: Any, random_state: np.random.Generator) -> Array:
        """Draw."""
        drawn = self.base.rvs(size=size, random_state=random_state)
        return np.where(random_state.uniform(size=np.shape(drawn)) < self.zi, 0, drawn)

    def stats(self, moments: str) -> tuple[Array, Array]:
        """Give mean and variance."""
        return _with_zeros(self.base.stats(moments), self.zi)


@dataclass(frozen=True, eq=False)
class WithoutZero:
    """A distribution of counts, given that the count is not zero."""

    base: Any

    def logpmf(self, y: Array) -> Array:
        """Give the log probability of y."""
        return np.where(np.less(y, 1), -np.inf, self.base.logpmf(y) - self.base.logsf(0))

    def cdf(self, y: Array) -> Array:
        """Give P(Y <= y)."""
        return np.where(np.less(y, 1), 0.0, 1 - self.base.sf(y) / self.base.sf(0))

    def rvs(self, size: Any, random_state: np.random.Generator) -> Array:
        """Draw, by quantiles among the positive."""
        u = random_state.uniform(self.base.cdf(0), 1.0, size=size)
        return np.maximum(self.base.ppf(u), 1).astype(int)

    def stats(self, moments: str) -> tuple[Array, Array]:
        """Give mean and variance."""
        mean, variance = self.base.stats(moments)
        some = self.base.sf(0)
        return mean / some, (variance + mean**2) / some - (mean / some) ** 2


@dataclass(frozen=True, eq=False)
class Atom:
    """A distribution, `base`, that is never zero, and with probability `hu` zero."""

    base: Any
    hu: Array

    def logpmf(self, y: Array) -> Array:
        """Give the log probability of y."""
        return self._log(self.base.logpmf, y)

    def logpdf(self, y: Array) -> Array:
        """Give the log density of y; at zero the log probability."""
        return self._log(self.base.logpdf, y)

    def _log(self, other: Any, y: Array) -> Array:
        zero = np.equal(y, 0)
        return np.where(zero, np.log(self.hu), np.log1p(-self.hu) + other(np.where(zero, 0.5, y)))

    def cdf(self, y: Array) -> Array:
        """Give P(Y <= y)."""
        return np.where(np.less(y, 0), 0.0, self.hu + (1 - self.hu) * self.base.cdf(y))

    def ppf(self, u: Array) -> Array:
        """Give the quantile."""
        return self.base.ppf(np.maximum(u - self.hu, 0.0) / (1 - self.hu))

    def rvs(self, size: Any, random_state: np.random.Generator) -> Array:
        """Draw."""
        drawn = self.base.rvs(size=size, random_state=random_state)
        return np.where(random_state.uniform(size=np.shape(drawn)) < self.hu, 0, drawn)

    def stats(self, moments: str) -> tuple[Array, Array]:
        """Give mean and variance."""
        return _with_zeros(self.base.stats(moments), self.hu)


def _with_zeros(moments: tuple[Array, Array], p: Array) -> tuple[Array, Array]:
    mean, variance = moments
    return (1 - p) * mean, (1 - p) * (variance + p * mean**2)
