"""The outer parameters (gamma, theta, phi): constrained values, Jacobian and priors, on arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

type Places = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Dependence:
    """
    Parameters that are a function of others: `formula` of `given`, at the positions `at`.

    `formula.value` takes the values of `given` `(…, size)` each, and `formula.slopes` carries
    slopes by what it gives back to them.
    """

    at: np.ndarray
    given: Sequence[slice]
    formula: Any

    def fill(self, theta: np.ndarray) -> None:
        """Write them into theta `(…, m)`."""
        with np.errstate(all="ignore"):  # far out, a sampler is told by what is not finite
            theta[..., self.at] = self.formula.value([theta[..., part] for part in self.given])

    def back(self, theta: np.ndarray, by_theta: np.ndarray) -> None:
        """Add to the slopes `(m,)` of what is given those by what depends on it."""
        with np.errstate(all="ignore"):
            slopes = self.formula.slopes([theta[part] for part in self.given], by_theta[self.at])
        for part, slope in zip(self.given, slopes, strict=True):
            by_theta[part] += slope


@dataclass(frozen=True, eq=False)
class Outer:
    """
    m parameters with their supports and priors, of which some may be fixed.

    The d free ones are sampled as `x`, on PyMC's unconstrained scale: themselves where the support
    is the real line, log(theta - lower) on a half-line, the log odds on an interval. Of those that
    ascend the first is sampled itself, and of each other the log of its distance from the last.

    Attributes
    ----------
    lower, upper
        `(m,)` the supports' ends.
    value
        `(m,)` the value of each fixed parameter, NaN of the free ones; 0 of dependent ones.
    forms
        Pairs of a prior (with `core` and `score`) and the positions `(k,)` it speaks of.
    rising
        The positions of parameters that ascend, one after the other, all free and unbounded.
    dependences
        Of parameters that are functions of the free and the fixed ones.
    """

    lower: np.ndarray
    upper: np.ndarray
    value: np.ndarray
    forms: Sequence[tuple[Any, np.ndarray]]
    rising: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=int))
    dependences: Sequence[Dependence] = ()

    @cached_property
    def free(self) -> np.ndarray:
        """The positions `(d,)` of the free parameters."""
        return np.flatnonzero(np.isnan(self.value))

    @property
    def size(self) -> int:
        """The number d of free parameters."""
        return len(self.free)

    @cached_property
    def _kinds(self) -> tuple[Places, Places, Places]:
        """Where in x, and where in theta, stand those bounded below, above, and on both sides."""
        low, high = np.isfinite(self.lower[self.free]), np.isfinite(self.upper[self.free])
        below, above, both = (np.flatnonzero(k) for k in (low & ~high, ~low & high, low & high))
        return (below, self.free[below]), (above, self.free[above]), (both, self.free[both])

    @cached_property
    def _gaps(self) -> np.ndarray:
        """Where in x stand the logarithms of distances."""
        return np.searchsorted(self.free, self.rising[1:])

    def constrain(self, x: np.ndarray) -> np.ndarray:
        """Go from unconstrained x `(…, d)` to the parameters `(…, m)` on their own scale."""
        theta = np.empty((*x.shape[:-1], len(self.value)))
        theta[...] = self.value
        theta[..., self.free] = x
        (at, above), (at2, below), (at3, between) = self._kinds
        if len(at):
            theta[..., above] = self.lower[above] + np.exp(x[..., at])
        if len(at2):
            theta[..., below] = self.upper[below] - np.exp(x[..., at2])
        if len(at3):
            width = self.upper[between] - self.lower[between]
            theta[..., between] = self.lower[between] + width / (1 + np.exp(-x[..., at3]))
        if len(self.rising):
            steps = np.exp(x[..., self._gaps])
            theta[..., self.rising[1:]] = theta[..., self.rising[:1]] + np.cumsum(steps, axis=-1)
        self.complete(theta)
        return theta

    def complete(self, theta: np.ndarray) -> None:
        """Write into theta `(…, m)` what depends on the others."""
        for each in self.dependences:
            each.fill(theta)

    def jacobian(self, x: np.ndarray, theta: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """
        Differentiate `constrain` at one x.

        Returns
        -------
        log_jacobian, score
            The sum of log |d theta / d x|, and its derivative `(d,)` by x.
        slope
            `(d,)` d theta / d x of the free ones, each by its own x: see `pull`.
        """
        slope, score, total = np.ones_like(x), np.zeros_like(x), 0.0
        (at, above), (at2, below), (at3, between) = self._kinds
        if len(at):
            slope[at], score[at] = theta[above] - self.lower[above], 1.0
            total += x[at].sum()
        if len(at2):
            slope[at2], score[at2] = theta[below] - self.upper[below], 1.0
            total += x[at2].sum()
        if len(at3):
            width = self.upper[between] - self.lower[between]
            share = (theta[between] - self.lower[between]) / width
            slope[at3], score[at3] = width * share * (1 - share), 1 - 2 * share
            z = x[at3]
            total += (np.log(width) - np.logaddexp(0, z) - np.logaddexp(0, -z)).sum()
        if len(self.rising):
            slope[self._gaps], score[self._gaps] = np.diff(theta[self.rising]), 1.0
            total += x[self._gaps].sum()
        return total, score, slope

    def pull(self, by_theta: np.ndarray, theta: np.ndarray, slope: np.ndarray) -> np.ndarray:
        """Carry a derivative `(m,)` by theta back to x `(d,)`, with the slope of `jacobian`."""
        if self.dependences:
            by_theta = by_theta.copy()
            for each in self.dependences:
                each.back(theta, by_theta)
        if len(self.rising):
            # Each distance moves all that come after it.
            by_theta = by_theta.copy()
            by_theta[self.rising] = np.cumsum(by_theta[self.rising][::-1])[::-1]
        return by_theta[self.free] * slope

    def push(self, by_x: np.ndarray, slope: np.ndarray) -> np.ndarray:
        """Carry a derivative by x `(d,)` to the free ones of theta `(d,)`: undo `pull`."""
        by_free = by_x / slope
        if len(self.rising):
            at = np.searchsorted(self.free, self.rising)
            by_free[at[:-1]] -= by_free[at[1:]]
        return by_free

    def ascend(self, theta: np.ndarray) -> np.ndarray:
        """Tell whether the parameters that have to ascend do, `(…)` from `(…, m)`."""
        return (np.diff(theta[..., self.rising], axis=-1) > 0).all(axis=-1)

    def log_distances(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Give the sum of the log distances of those that ascend, and its slope `(m,)`."""
        slope = np.zeros_like(theta)
        gaps = np.diff(theta[self.rising])
        slope[self.rising[1:]] += 1 / gaps
        slope[self.rising[:-1]] -= 1 / gaps
        return float(np.log(gaps).sum()), slope

    def unconstrain(self, theta: np.ndarray) -> np.ndarray:
        """Go back from `(…, m)` parameters to `(…, d)` x."""
        x = theta[..., self.free].astype(float)
        (at, above), (at2, below), (at3, between) = self._kinds
        x[..., at] = np.log(theta[..., above] - self.lower[above])
        x[..., at2] = np.log(self.upper[below] - theta[..., below])
        inside = theta[..., between]
        x[..., at3] = np.log(inside - self.lower[between]) - np.log(self.upper[between] - inside)
        if len(self.rising):
            x[..., self._gaps] = np.log(np.diff(theta[..., self.rising], axis=-1))
        return x

    def log_slopes(self, x: np.ndarray) -> np.ndarray:
        """Give log |d theta / d x| `(…, d)` of each free parameter."""
        found = np.zeros_like(x)
        (at, _), (at2, _), (at3, between) = self._kinds
        found[..., at] = x[..., at]
        found[..., at2] = x[..., at2]
        z, width = x[..., at3], self.upper[between] - self.lower[between]
        found[..., at3] = np.log(width) - np.logaddexp(0, z) - np.logaddexp(0, -z)
        if len(self.rising):
            found[..., self._gaps] = x[..., self._gaps]
        return found

    def log_priors(self, theta: np.ndarray) -> np.ndarray:
        """Give the log prior density up to a constant, `(S,)` from `(S, m)`."""
        total = np.zeros(len(theta))
        for prior, at in self.forms:
            total += prior.core(theta[:, at]).sum(axis=1)
        return total

    def log_prior(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Give the log prior density up to a constant, and its derivative `(m,)` by theta."""
        total, score = 0.0, np.zeros_like(theta)
        for prior, at in self.forms:
            total += prior.core(theta[at]).sum()
            score[at] = prior.score(theta[at])
        return total, score
