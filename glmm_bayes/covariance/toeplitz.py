"""Columns in an order whose correlation depends on how many steps they are apart."""

from collections.abc import Iterator, Mapping
from typing import Any, override

import numpy as np

from glmm_bayes.arrays import NUMPY
from glmm_bayes.covariance.ordered import Ordered
from glmm_bayes.covariance.structure import CovarianceParameter


class Toeplitz(Ordered):
    """
    `toep(0 + time | g)`: cov(b_i, b_j) = sd_i sd_j r_|i - j|, time a factor.

    Parameters: `sd > 0`, one a column, on the link scale; `partial`, the p - 1 partial
    autocorrelations: the k-th is the correlation of two columns k steps apart given those between.
    Each may be anything between -1 and 1, and together they are any correlations r of the kind.

    Notes
    -----
    With a_t the coefficients that predict a column from t before it, a_t follows from a_{t-1} by
    the recursion of Levinson and Durbin: Barndorff-Nielsen & Schou (1973), J. Multivariate
    Analysis 3, 408-419. Row t of the factor is then a_t times the rows before, plus the
    product of sqrt(1 - partial_k^2), k <= t, in column t.
    """

    name = "toep"
    compiled = "toep"
    absorbs = False

    @override
    def correlation(self, size: int) -> CovarianceParameter:
        return CovarianceParameter("partial", "partial", size - 1, False, (-1.0, 1.0), "lag")

    @override
    def root(self, c: Any, s: Any, size: int, xp: Any = NUMPY) -> Any:
        unit = xp.eye(size)
        rows, a, left = [unit[0]], c[:0], 1.0
        for t in range(1, size):
            a, left = self._predicting(a, c, t, xp), left * s[t - 1]
            rows.append(a[::-1] @ xp.stack(rows) + left * unit[t])
        return xp.stack(rows)

    @override
    def root_pullback(
        self, c: np.ndarray, s: np.ndarray, size: int, grad: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        L, by_row = self.root(c, s, size), grad.copy()
        a = [c[:0]]
        for t in range(1, size):
            a.append(self._predicting(a[-1], c, t, NUMPY))
        before = np.cumprod(np.append(1.0, s))
        by_c, by_s = np.zeros(size - 1), np.zeros(size - 1)
        by_later, by_left = np.zeros(size - 1), 0.0
        for t in range(size - 1, 0, -1):
            by_a = L[:t][::-1] @ by_row[t] + by_later
            by_row[:t] += np.outer(a[t][::-1], by_row[t])
            by_c[t - 1] = by_a[-1] - by_a[:-1] @ a[t - 1][::-1]
            by_later = by_a[:-1] - c[t - 1] * by_a[:-1][::-1]
            by_left += by_row[t, t]
            by_s[t - 1] = by_left * before[t - 1]
            by_left *= s[t - 1]
        return by_c, by_s

    @staticmethod
    def _predicting(a: Any, c: Any, t: int, xp: Any) -> Any:
        """Give the t coefficients that predict a column, the nearest first."""
        return xp.concatenate([a - c[t - 1] * a[::-1], c[t - 1 : t]])

    @override
    def silent(self, z: np.ndarray, size: int) -> np.ndarray:
        at = np.flatnonzero(self._varying(z, size))
        lags = np.abs(np.subtract.outer(at, at))
        return ~np.isin(np.arange(1, size), lags)

    # ---- the correlations themselves, of which a table has the first row

    @override
    def reported(self, theta: Mapping[str, Any], size: int, xp: Any = NUMPY) -> dict[str, Any]:
        if size == 1:
            return {}
        L = self._correlation_root(theta, size, xp)
        return {"corr": L @ L.T}

    @override
    def coordinates(self, size: int) -> dict[str, tuple[str, ...]]:
        return {"lag": tuple(str(k) for k in range(1, size))}

    @override
    def listed(self, size: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield from (("sd", (k,) if not self.homogeneous else ()) for k in range(self._count(size)))
        yield from (("corr", (0, k)) for k in range(1, size))


class HomogeneousToeplitz(Toeplitz):
    """`homtoep(0 + time | g)`: as `toep`, with one standard deviation for all columns."""

    name = "homtoep"
    compiled = "homtoep"
    absorbs = True
    homogeneous = True
