"""The outer parameters (gamma, theta, phi): constrained values, Jacobian and priors, on arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Outer:
    """
    m parameters with their supports and priors, of which some may be fixed.

    The free ones are sampled as `x`, on PyMC's unconstrained scale: themselves where the support
    is the real line, log(theta - lower) on a half-line, the log odds on an interval.

    Attributes
    ----------
    lower, upper
        `(m,)` the supports' ends.
    value
        `(m,)` the value of each fixed parameter, NaN of the free ones.
    forms
        Pairs of a prior (with `core` and `score`) and the positions `(k,)` it speaks of.
    """

    lower: np.ndarray
    upper: np.ndarray
    value: np.ndarray
    forms: Sequence[tuple[Any, np.ndarray]]

    def __post_init__(self) -> None:
        """Sort the free parameters by their kind of support."""
        free = np.flatnonzero(np.isnan(self.value))
        low, high = np.isfinite(self.lower), np.isfinite(self.upper)
        kinds = {"above": low & ~high, "below": ~low & high, "between": low & high}
        for name, kind in kinds.items():
            at = np.flatnonzero(kind[free])
            object.__setattr__(self, f"_{name}", (at, free[at]))
        object.__setattr__(self, "free", free)

    free: np.ndarray = None  # (d,) positions of the free parameters, set above

    @property
    def size(self) -> int:
        """The number d of free parameters."""
        return len(self.free)

    def constrain(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
        """
        Go from the unconstrained scale to the parameters' own.

        Returns
        -------
        theta
            `(m,)` every parameter.
        slope
            `(d,)` d theta / d x of the free ones.
        log_jacobian, score
            The sum of log(slope), and its derivative `(d,)` by x.
        """
        theta = self.value.copy()
        theta[self.free] = x
        slope, score, log_jacobian = np.ones_like(x), np.zeros_like(x), 0.0
        at, where = self._above
        if len(at):
            step = np.exp(x[at])
            theta[where] = self.lower[where] + step
            slope[at], score[at] = step, 1.0
            log_jacobian += x[at].sum()
        at, where = self._below
        if len(at):
            step = np.exp(x[at])
            theta[where] = self.upper[where] - step
            slope[at], score[at] = -step, 1.0
            log_jacobian += x[at].sum()
        at, where = self._between
        if len(at):
            width = self.upper[where] - self.lower[where]
            share = 1 / (1 + np.exp(-x[at]))
            theta[where] = self.lower[where] + width * share
            slope[at] = width * share * (1 - share)
            score[at] = 1 - 2 * share
            log_jacobian += (np.log(width) - np.logaddexp(0, x[at]) - np.logaddexp(0, -x[at])).sum()
        return theta, slope, log_jacobian, score

    def unconstrain(self, theta: np.ndarray) -> np.ndarray:
        """Go back from `(m,)` parameters to `(d,)` x."""
        x = theta[self.free].astype(float)
        at, where = self._above
        x[at] = np.log(theta[where] - self.lower[where])
        at, where = self._below
        x[at] = np.log(self.upper[where] - theta[where])
        at, where = self._between
        x[at] = np.log(theta[where] - self.lower[where]) - np.log(self.upper[where] - theta[where])
        return x

    def log_prior(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Give the log prior density up to a constant, and its derivative `(m,)` by theta."""
        total, score = 0.0, np.zeros_like(theta)
        for prior, at in self.forms:
            total += prior.core(theta[at]).sum()
            score[at] = prior.score(theta[at])
        return total, score
