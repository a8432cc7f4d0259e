"""Parameters as functions of others: shrunk coefficients, monotonic steps, shares of a whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from glmm_bayes.arrays import NUMPY

type Array = np.ndarray


class Formula(Protocol):
    """
    k outer parameters as a function of blocks of others, for arrays and PyTensor's graphs.

    Attributes
    ----------
    compiled
        In `engine.density.dependent_passes.DEPENDENTS`.
    spreads
        `(k,)` what each is divided by.
    reach
        The one number besides, if any.
    scaled
        Whether the last block is sigma.
    """

    compiled: ClassVar[str]

    @property
    def spreads(self) -> Array:
        """See above."""

    @property
    def reach(self) -> float:
        """See above."""

    @property
    def scaled(self) -> bool:
        """See above."""

    def value(self, given: Sequence[Any], xp: Any = NUMPY) -> Any:
        """Give them `(…, k)`, of the blocks `(…, size)` each."""

    def slopes(self, given: Sequence[Array], by: Array) -> list[Array]:
        """Carry slopes `(k,)` back to the blocks, each `(size,)`."""


def shares(sticks: Any, xp: Any = NUMPY) -> Any:
    """
    Break a stick of length 1: the shares `(…, K)` of what is taken `(…, K - 1)` of each rest.

    They have the Dirichlet distribution of concentrations a where the sticks are independent
    with Beta(a_k, a_k+1 + … + a_K).
    """
    size = sticks.shape[-1] if isinstance(sticks, np.ndarray) else sticks.type.shape[-1]
    before = np.triu(np.ones((size, size + 1)), 1)
    rest = xp.exp(xp.log1p(-sticks) @ before)
    return rest * xp.concatenate([sticks, 0 * sticks[..., :1] + 1.0], axis=-1)


def stick_concentrations(concentrations: Array) -> tuple[Array, Array]:
    """Give the two arguments of each stick's Beta distribution, `(K - 1,)` both."""
    a = np.asarray(concentrations, dtype=float)
    return a[:-1], np.cumsum(a[::-1])[::-1][1:]


def _stick_slopes(sticks: Array, by: Array) -> Array:
    found = shares(sticks)
    rest = np.concatenate([[1.0], np.cumprod(1 - sticks)[:-1]])
    later = np.cumsum((by * found)[::-1])[::-1][1:]
    return by[:-1] * rest - later / (1 - sticks)


@dataclass(frozen=True, eq=False)
class Horseshoe:
    """
    beta = z tau lambda / sqrt(1 + tau^2 lambda^2 / c^2) / spread; c^2 = reach^2 slab.

    Of the blocks z `(k,)`, lambda `(k,)`, tau and slab, and perhaps sigma, which multiplies tau.
    """

    compiled: ClassVar[str] = "horseshoe"
    spreads: Array
    reach: float
    scaled: bool

    def value(self, given: Sequence[Any], xp: Any = NUMPY) -> Any:
        """See `Formula`."""
        z, local, width, slab, *sigma = given
        wide = local * (width * sigma[0] if sigma else width)
        return z * wide / xp.sqrt(1 + wide * wide / (self.reach**2 * slab)) / self.spreads

    def slopes(self, given: Sequence[Array], by: Array) -> list[Array]:
        """See `Formula`."""
        z, local, width, slab, *sigma = given
        wide = local * (width * sigma[0] if sigma else width)
        kept = 1 / (1 + wide * wide / (self.reach**2 * slab))
        scale = wide * np.sqrt(kept) / self.spreads
        by_log_wide = by * z * scale * kept
        whole = by_log_wide.sum()
        by_slab = (by * z * scale * (1 - kept)).sum() / (2 * slab)
        return [
            by * scale,
            by_log_wide / local,
            whole / width,
            by_slab,
            *(whole / s for s in sigma),
        ]


@dataclass(frozen=True, eq=False)
class R2D2:
    """
    beta = z sqrt(share R2 / (1 - R2)) / spread, times sigma if that is given.

    Of the blocks z `(k,)`, R2, the sticks `(k - 1,)` if k > 1, and perhaps sigma.
    """

    compiled: ClassVar[str] = "r2d2"
    reach: ClassVar[float] = 1.0
    spreads: Array
    scaled: bool

    def value(self, given: Sequence[Any], xp: Any = NUMPY) -> Any:
        """See `Formula`."""
        (z, R2, *_), share, sigma = given, self._share(given, xp), self._sigma(given)
        return z * xp.sqrt(share * R2 / (1 - R2)) * sigma / self.spreads

    def slopes(self, given: Sequence[Array], by: Array) -> list[Array]:
        """See `Formula`."""
        z, R2, *_ = given
        share, sigma = self._share(given, NUMPY), self._sigma(given)
        scale = np.sqrt(share * R2 / (1 - R2)) * sigma / self.spreads
        by_log = by * z * scale
        found = [by * scale, by_log.sum() / (2 * R2 * (1 - R2))]
        if len(z) > 1:
            found.append(_stick_slopes(given[2], by_log / (2 * share)))
        return found + ([by_log.sum() / sigma] if self.scaled else [])

    def _share(self, given: Sequence[Any], xp: Any) -> Any:
        return shares(given[2], xp) if len(self.spreads) > 1 else 1.0

    def _sigma(self, given: Sequence[Any]) -> Any:
        return given[-1] if self.scaled else 1.0


@dataclass(frozen=True, eq=False)
class Monotonic:
    """
    steps = D b share: D steps of one sign, b on average, of the blocks b and sticks `(D - 1,)`.

    Bürkner & Charpentier (2020), Brit. J. Math. Stat. Psychol. 73, 420-451.
    """

    compiled: ClassVar[str] = "monotonic"
    reach: ClassVar[float] = 1.0
    scaled: ClassVar[bool] = False
    D: int

    @property
    def spreads(self) -> Array:
        """Ones: steps are not divided by anything."""
        return np.ones(self.D)

    def value(self, given: Sequence[Any], xp: Any = NUMPY) -> Any:
        """See `Formula`."""
        return self.D * given[0] * shares(given[1], xp) if self.D > 1 else given[0]

    def slopes(self, given: Sequence[Array], by: Array) -> list[Array]:
        """See `Formula`."""
        if self.D == 1:
            return [by]
        b, sticks = given
        whole = (by * self.D * shares(sticks)).sum(keepdims=True)
        return [whole, _stick_slopes(sticks, self.D * b * by)]


@dataclass(frozen=True, eq=False)
class Decomposed:
    """
    The density of K standard deviations whose total variance has a prior, with Dirichlet shares.

    t = sqrt(sum of (weight sd)^2) has the density of `total`; the shares (weight sd)^2 / t^2 are
    Dirichlet with `concentrations` `(K,)` and sum A:

        p(sd) is proportional to p(t) t^(1 - 2 A) times the product of sd^(2 a - 1).
    """

    total: Any
    concentrations: Array
    weights: Array

    def core(self, sd: Any, xp: Any = NUMPY) -> Any:
        """Give the log density up to a constant, `(…, 1)`."""
        total, a = self._total(sd, xp), self.concentrations
        spread = (1 - 2 * a.sum()) * xp.log(total)
        alike = ((2 * a - 1) * xp.log(sd)).sum(axis=-1, keepdims=True)
        if xp is not NUMPY:
            return self.total.log_density(total) + spread + alike
        return self.total.core(total) + spread + alike

    def score(self, sd: Array) -> Array:
        """Give its derivative `(K,)`."""
        total, a = self._total(sd, NUMPY), self.concentrations
        by_total = self.total.score(total) + (1 - 2 * a.sum()) / total
        return by_total * self.weights**2 * sd / total + (2 * a - 1) / sd

    def sample(self, rng: np.random.Generator, size: int) -> Array:
        """Draw `(size, K)`."""
        share = rng.dirichlet(self.concentrations, size)
        return self.total.sample(rng, (size, 1)) * np.sqrt(share) / self.weights

    def _total(self, sd: Any, xp: Any) -> Any:
        return xp.sqrt(((self.weights * sd) ** 2).sum(axis=-1, keepdims=True))
