"""Penalised bases: functions of one number or several, and how rough their combinations are."""

from abc import ABC, abstractmethod
from functools import cached_property
from itertools import combinations_with_replacement
from math import comb, factorial, gamma, pi
from typing import Any, ClassVar, override

import numpy as np

from glmm_bayes.errors import DataError
from glmm_bayes.registry import Registry

BASES: Registry["type[Basis]"] = Registry("basis of smooths")

ROWS = 4096  # at which all radial functions are held at once
RADIAL = 2000  # places that radial functions stand at each, as in mgcv
THINNED = 1000  # of them, where there are more


class Basis(ABC):
    """
    K functions, made for one data set, and the penalty of what is made of them.

    A function f = sum_k c_k B_k has the penalty c' `penalty` c, which is zero for polynomials
    of degree below `order`; of a periodic basis, for constants.

    Attributes
    ----------
    x
        `(n, d)` the data.
    k
        How many functions.
    text
        The term, in the user's words.
    """

    name: ClassVar[str]
    order: int = 2

    def __init_subclass__(cls) -> None:
        """Enter the basis into the registry under its name."""
        if hasattr(cls, "name"):
            BASES.add(cls.name, cls)

    def __init__(self, x: np.ndarray, k: int | None, text: str) -> None:
        self.text = text
        self.unique = np.unique(x, axis=0)
        self.k = self.usual(x.shape[1]) if k is None else k
        if x.shape[1] > 1 and not self.several:
            raise DataError(
                f"The basis {self.name!r} of {text!r} is for one variable: leave bs out, or write "
                f"t2( ), which multiplies the bases of its variables."
            )
        least = self.least(x.shape[1])
        if len(self.unique) < least:
            raise DataError(
                f"{text!r} has {len(self.unique)} different values, and a basis {self.name!r} at "
                f"least {least} functions: use C( ) for a factor, or leave it out."
            )
        if self.k < least:
            raise DataError(
                f"k={self.k} of {text!r} is too small: a basis {self.name!r} has at least {least} "
                f"functions."
            )
        if len(self.unique) < self.k:
            raise DataError(
                f"{text!r} has {len(self.unique)} different values, fewer than the basis has "
                f"functions: take k={len(self.unique)} or less."
            )

    several: ClassVar[bool] = False  # whether it is of several variables too

    def usual(self, d: int) -> int:
        """Give k where it is not said."""
        return 10

    @abstractmethod
    def least(self, d: int) -> int:
        """Give the smallest k."""

    @abstractmethod
    def matrix(self, x: np.ndarray) -> np.ndarray:
        """Evaluate the functions at x `(m, d)`: `(m, K)`."""

    @property
    @abstractmethod
    def penalty(self) -> np.ndarray:
        """The penalty `(K, K)`."""

    def smoothest(self, x: np.ndarray) -> np.ndarray:
        """Give the polynomials that have no penalty `(m, M)`, the constant first."""
        powers = [
            at
            for degree in range(self.order)
            for at in combinations_with_replacement(range(x.shape[1]), degree)
        ]
        return np.stack([x[:, list(at)].prod(axis=1) for at in powers], axis=1)


class CubicRegression(Basis):
    """
    `s(x, bs="cr")`: natural cubic splines, by their values at k knots at quantiles of the data.

    The penalty is the integral of f''^2. Beyond the knots f is linear.

    Notes
    -----
    Wood (2017), Generalized Additive Models, 5.3.1.
    """

    name = "cr"

    @cached_property
    def knots(self) -> np.ndarray:
        """The places of the knots `(k,)`, quantiles of the different values."""
        return np.quantile(self.unique[:, 0], np.linspace(0, 1, self.k))

    @cached_property
    def spline(self) -> Any:
        """The functions that are one at a knot and zero at the others."""
        from scipy.interpolate import CubicSpline

        return CubicSpline(self.knots, np.eye(self.k), bc_type="natural")

    @override
    def least(self, d: int) -> int:
        return 3

    @override
    def matrix(self, x: np.ndarray) -> np.ndarray:
        return straight_beyond(self.spline, self.knots[0], self.knots[-1], x[:, 0])

    @property
    @override
    def penalty(self) -> np.ndarray:
        # The second derivatives are straight lines between the knots.
        bend = self.spline(self.knots, 2)
        a, b, h = bend[:-1], bend[1:], np.diff(self.knots)[:, None] / 6
        across = a.T @ (h * b)
        return 2 * a.T @ (h * a) + 2 * b.T @ (h * b) + across + across.T


class Cyclic(CubicRegression):
    """
    `s(x, bs="cc")`: cubic splines that go on at the last knot as they are at the first.

    The k knots, the smallest and the largest value among them, make k - 1 functions; the penalty
    is the integral of f''^2 over a period.
    """

    name = "cc"
    order = 1

    @override
    def least(self, d: int) -> int:
        return 4

    @cached_property
    @override
    def spline(self) -> Any:
        from scipy.interpolate import CubicSpline

        values = np.eye(self.k - 1)
        return CubicSpline(self.knots, np.vstack([values, values[:1]]), bc_type="periodic")

    @override
    def matrix(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self.spline(x[:, 0]))


class PenalisedSplines(Basis):
    """
    `s(x, bs="ps")`: cubic B-splines over even knots.

    The penalty is the sum of squared second differences of neighbours' coefficients. Beyond the
    data f is linear.

    Notes
    -----
    Eilers & Marx (1996), Statistical Science 11, 89-121; the knots reach a thousandth of the
    range beyond the data, as in mgcv.
    """

    name = "ps"
    degree = 3

    @cached_property
    def knots(self) -> np.ndarray:
        """The places of all knots `(k + 4,)`, three of them beyond either end."""
        low, high = self.ends
        step = (high - low) / (self.k - self.degree)
        reach = self.degree * step
        return np.linspace(low - reach, high + reach, self.k + self.degree + 1)

    @cached_property
    def ends(self) -> tuple[float, float]:
        """Between what the splines are whole."""
        low, high = self.unique[0, 0], self.unique[-1, 0]
        beyond = 0.001 * (high - low)
        return float(low - beyond), float(high + beyond)

    @cached_property
    def spline(self) -> Any:
        """The functions."""
        from scipy.interpolate import BSpline

        return BSpline(self.knots, np.eye(self.k), self.degree)

    @override
    def least(self, d: int) -> int:
        return self.degree + 1

    @override
    def matrix(self, x: np.ndarray) -> np.ndarray:
        return straight_beyond(self.spline, *self.ends, x[:, 0])

    @property
    @override
    def penalty(self) -> np.ndarray:
        D = np.diff(np.eye(self.k), n=self.order, axis=0)
        return D.T @ D


class ThinPlate(Basis):
    """
    `s(x)`, `s(x, z)`: thin plate splines of low rank, alike in all directions.

    The penalty is the integral of all squared derivatives of one order, the second of one or two
    variables. Of the radial functions at all places, those k combinations are kept that most
    change the shape of f. Where there are more than 2000 places, it is done with 1000 of them.

    Notes
    -----
    Wood (2003), J. Royal Statistical Society B 65, 95-114.
    """

    name = "tp"
    several = True

    def __init__(self, x: np.ndarray, k: int | None, text: str) -> None:
        # The smallest order of derivatives that makes f smooth to the eye.
        self.order = (x.shape[1] + 1) // 2 + 1
        super().__init__(x, k, text)
        self.middle = x.mean(axis=0)
        places = self.unique
        if len(places) > RADIAL:
            places = places[np.linspace(0, len(places) - 1, THINNED).round().astype(int)]
        self.places = places - self.middle

    def _null(self, d: int) -> int:
        return comb(self.order + d - 1, d)

    @override
    def usual(self, d: int) -> int:
        return self._null(d) + {1: 8, 2: 27}.get(d, 100)

    @override
    def least(self, d: int) -> int:
        return self._null(d) + 1

    @cached_property
    def _kept(self) -> tuple[np.ndarray, np.ndarray]:
        """Which combinations of the radial functions are kept, and their penalty."""
        E, T = self._radial(self.places), self.smoothest(self.places)
        values, U = _largest(E, self.k)
        # Radial functions alone, with no part of the polynomials in them.
        Q, _ = np.linalg.qr(U.T @ T, mode="complete")
        inner = Q[:, T.shape[1] :]
        return U @ inner, inner.T @ (values[:, None] * inner)

    @override
    def matrix(self, x: np.ndarray) -> np.ndarray:
        at, weights = x - self.middle, self._kept[0]
        parts = [
            self._radial(at[start : start + ROWS]) @ weights for start in range(0, len(at), ROWS)
        ]
        return np.column_stack([np.concatenate(parts), self.smoothest(at)])

    @property
    @override
    def penalty(self) -> np.ndarray:
        own = self._kept[1]
        found = np.zeros((self.k, self.k))
        found[: len(own), : len(own)] = own
        return found

    def _radial(self, at: np.ndarray) -> np.ndarray:
        """Evaluate the radial function of every place: `(m, places)`."""
        from scipy.spatial.distance import cdist

        d, m = at.shape[1], self.order
        r = cdist(at, self.places)
        power = 2 * m - d
        if d % 2:
            scale = 2 ** (2 * m) * pi ** (d / 2) * factorial(m - 1) / gamma(d / 2 - m)
            return _power(r, power) / scale
        sign = (-1) ** (m + 1 + d // 2)
        scale = 2 ** (2 * m - 1) * pi ** (d / 2) * factorial(m - 1) * factorial(m - d // 2)
        return sign / scale * _power(r, power) * np.log(np.where(r > 0, r, 1.0))


def _power(r: np.ndarray, power: int) -> np.ndarray:
    """Raise to a small whole power, by products: the general power is much slower."""
    found = r.copy()
    for _ in range(power - 1):
        found *= r
    return found


def _largest(E: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Give the k eigenvalues of the largest size, with their vectors."""
    from scipy.linalg import eigh
    from scipy.sparse.linalg import eigsh

    if k < len(E) // 4:
        values, U = eigsh(E, k, which="LM", v0=np.ones(len(E)))
    else:
        values, U = eigh(E)
    order = np.argsort(-np.abs(values))[:k]
    return values[order], U[:, order]


def straight_beyond(spline: Any, low: float, high: float, x: np.ndarray) -> np.ndarray:
    """Evaluate between two ends, and go on straight beyond them: `(m, K)`."""
    inside = np.clip(x, low, high)
    found = np.asarray(spline(inside))
    beyond = np.flatnonzero(x != inside)
    if len(beyond):
        found[beyond] += (x - inside)[beyond, None] * spline(inside[beyond], 1)
    return found
