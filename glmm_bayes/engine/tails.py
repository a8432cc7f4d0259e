"""The density of residuals that vary together, by their squares: normal, or multivariate t."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from glmm_bayes.engine.turning import Turning


@dataclass(frozen=True, eq=False)
class Weighed:
    """
    Minus half the squares, or what a t has in their place, with the normalising constant.

    Attributes
    ----------
    value
        Of all rows together.
    weight
        Times what each row's pull `(n,)` is that of a normal.
    slopes
        By parameters of the tails.
    """

    value: float
    weight: Any
    slopes: Mapping[str, Any]


class Tails(Protocol):
    """How far residuals reach, from their squares."""

    def weigh(self, e: np.ndarray, Qe: np.ndarray, values: Mapping[str, Any]) -> Weighed:
        """Weigh residuals e `(n,)` of precision Q, and scale one."""


@dataclass(frozen=True)
class NormalTails:
    """Those of normal residuals."""

    def weigh(self, e: np.ndarray, Qe: np.ndarray, values: Mapping[str, Any]) -> Weighed:
        """Weigh residuals e `(n,)` of precision Q, and scale one."""
        return Weighed(-0.5 * float(e @ Qe + len(e) * np.log(2 * np.pi)), 1.0, {})


@dataclass(frozen=True, eq=False)
class StudentTails:
    """
    Those of a multivariate t: rows that vary together have one chi-squared, of nu degrees.

    Attributes
    ----------
    label
        The number `(n,)` of each row's part.
    name
        The parameter's.
    """

    label: np.ndarray
    name: str = "nu"

    @classmethod
    def of(cls, turning: Turning, name: str) -> "StudentTails":
        """Find the parts."""
        return cls(turning.label, name)

    @cached_property
    def sizes(self) -> np.ndarray:
        """The rows `(G,)` of each part."""
        return np.bincount(self.label)

    def weigh(self, e: np.ndarray, Qe: np.ndarray, values: Mapping[str, Any]) -> Weighed:
        """Weigh residuals e `(n,)` of precision Q, and scale one."""
        from scipy.special import digamma, gammaln

        nu, m = float(np.ravel(values[self.name])[0]), self.sizes
        # Rounding must not make the squares of a part that fits exactly negative.
        d = np.maximum(np.bincount(self.label, e * Qe), 0.0)
        stretch, logs = (nu + m) / (nu + d), np.log1p(d / nu)
        value = gammaln((nu + m) / 2) - gammaln(nu / 2) - m / 2 * np.log(nu * np.pi)
        value = value - (nu + m) / 2 * logs
        by_nu = digamma((nu + m) / 2) - digamma(nu / 2) - m / nu - logs + stretch * d / nu
        slopes = {self.name: 0.5 * np.sum(by_nu)}
        return Weighed(float(value.sum()), stretch[self.label], slopes)
