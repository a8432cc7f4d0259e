"""A map of coordinates that makes densities with long sides more like a normal."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

REACH, FAR = 3.0, 4.5  # where a bend is told what to give
NODES = np.sinh(np.linspace(-8.0, 8.0, 401))  # of the table that its inverse starts from
LEAST = 0.5  # of the shorter side's mean rate, which the rate never falls below: it would fold
SHARES = (1.0, 0.8, 0.6, 0.45, 0.3, 0.2, 0.1)  # of how much farther out than a line leads it may go
STEPS = 8  # of Newton's method, at most


@dataclass(frozen=True, eq=False)
class Bend:
    """
    A smooth increasing map t(z) of each coordinate, with t(0) = 0.

    t(z) = m z + c (r - 1) - a (u^2 - 1/4) + b (v^2 - 1/4), where r = sqrt(z^2 + 1),
    u = (r - z) / 2 and v = (r + z) / 2. `m, c, a, b` are `(d,)`. With `c` one side is longer than
    the other by a factor; with `a` the left side, and with `b` the right one, goes on as z^2, which
    makes a normal's tail of an exponential one, as the logarithm of a standard deviation has.
    """

    m: np.ndarray
    c: np.ndarray
    a: np.ndarray
    b: np.ndarray

    @classmethod
    def reaching(
        cls,
        left: np.ndarray,
        right: np.ndarray,
        far_left: np.ndarray | None = None,
        far_right: np.ndarray | None = None,
    ) -> "Bend":
        """
        Make t(-REACH) = -left and t(REACH) = right, all `(d,)`, and the same at FAR.

        Where NaN or nothing is told of what is far, the side has no square; where no increasing
        map goes so far out, one that goes less far is given.
        """
        unknown = np.full(len(left), np.nan)
        one = unknown if far_left is None else far_left
        other = unknown if far_right is None else far_right
        sides = zip(left, right, one, other, strict=True)
        found = np.array([_coefficients(*side) for side in sides]).reshape(-1, 4)
        return cls(*found.T)

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """Give t(z)."""
        at = _Roots.of(z)
        squares = self.b * (at.v**2 - 0.25) - self.a * (at.u**2 - 0.25)
        return self.m * z + self.c * (at.r - 1) + squares

    def inverse(self, t: np.ndarray) -> np.ndarray:
        """Give z."""
        z = np.empty_like(t)
        for j, nodes in enumerate(self._nodes):
            z[..., j] = np.interp(t[..., j], nodes, NODES)
        for _ in range(STEPS):
            step = (self(z) - t) / self._rate(_Roots.of(z))
            z = z - step
            if np.all(np.abs(step) <= 1e-9 * (1 + np.abs(z))):  # the next would be its square
                break
        return z

    def jacobian(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Give t' `(…, d)`, the sum of log t' `(…)`, and the slope of that by z."""
        at = _Roots.of(z)
        rate = self._rate(at)
        u2, v2 = self.a * at.u**2, self.b * at.v**2
        second = self.c / at.r**3 + 4 * (v2 - u2) / at.r**2 - 2 * (u2 + v2) * z / at.r**3
        return rate, np.log(rate).sum(axis=-1), second / rate

    def _rate(self, at: "_Roots") -> np.ndarray:
        return self.m + (self.c * at.z + 2 * (self.a * at.u**2 + self.b * at.v**2)) / at.r

    @cached_property
    def _nodes(self) -> np.ndarray:
        return self(np.repeat(NODES[:, None], len(self.m), axis=1)).T


class _Roots(NamedTuple):
    z: np.ndarray
    r: np.ndarray
    u: np.ndarray
    v: np.ndarray

    @classmethod
    def of(cls, z: np.ndarray) -> "_Roots":
        r = np.sqrt(z * z + 1)
        larger = 0.5 * (r + np.abs(z))
        # Not (r - z) / 2: far out the two are nearly the same.
        smaller = 0.25 / larger
        return cls(z, r, np.where(z < 0, larger, smaller), np.where(z < 0, smaller, larger))


def _coefficients(left: float, right: float, far_left: float, far_right: float) -> np.ndarray:
    """Give m, c, a and b that lead where they should, or nearly so far out."""
    z = np.array([-REACH, REACH, -FAR, FAR])
    at = _Roots.of(z)
    A = np.column_stack([z, at.r - 1, 0.25 - at.u**2, at.v**2 - 0.25])
    near, told = np.array([-left, right]), np.array([-far_left, far_right])
    used = np.array([True, True, *np.isfinite(told)])
    straight = FAR / REACH * near
    found = np.zeros(4)
    for share in SHARES:
        wanted = np.concatenate([near, straight + share * (told - straight)])
        found[used] = np.linalg.solve(A[np.ix_(used, used)], wanted[used])
        if np.all(found[2:] >= 0) and _rate_of(found) >= LEAST * min(left, right) / REACH:
            return found
    found[2:] = 0.0
    found[:2] = np.linalg.solve(A[:2, :2], near)
    return found


def _rate_of(found: np.ndarray) -> float:
    """Give the least rate."""
    m, c, a, b = found
    at = _Roots.of(NODES)
    return float(np.min(m + (c * at.z + 2 * (a * at.u**2 + b * at.v**2)) / at.r))
