"""Columns in an order that correlate the less the more steps they are apart."""

from typing import Any, override

import numpy as np

from glmm_bayes.arrays import NUMPY
from glmm_bayes.covariance.ordered import Ordered
from glmm_bayes.covariance.structure import CovarianceParameter


class Autoregressive(Ordered):
    """
    `ar1(0 + time | g)`: cov(b_i, b_j) = sd^2 rho^|i - j|, time a factor.

    Parameters: one `sd > 0`, on the link scale; `rho` between -1 and 1, the correlation of
    neighbours. At rho = 1 all columns are one effect of the group.

    Notes
    -----
    Row t of the factor is rho times the row before, plus sqrt(1 - rho^2) in column t: an effect is
    rho times the one before, plus news.
    """

    name = "ar1"
    compiled = "ar1"
    homogeneous = True
    gaps = True
    absorbs = False

    @override
    def correlation(self, size: int) -> CovarianceParameter:
        return CovarianceParameter("rho", "rho", 1, False, (-1.0, 1.0))

    @override
    def root(self, c: Any, s: Any, size: int, xp: Any = NUMPY) -> Any:
        # Not powers of rho: their slopes at rho = 0, where chains may start, are not finite.
        unit = xp.eye(size)
        rows = [unit[0]]
        for t in range(1, size):
            rows.append(c[0] * rows[-1] + s[0] * unit[t])
        return xp.stack(rows)

    @override
    def root_pullback(
        self, c: np.ndarray, s: np.ndarray, size: int, grad: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        L, by_row = self.root(c, s, size), np.zeros(size)
        by_c, by_s = np.zeros(1), np.zeros(1)
        for t in range(size - 1, 0, -1):
            by_row = by_row * c + grad[t]
            by_c += by_row @ L[t - 1]
            by_s += by_row[t]
        return by_c, by_s


class HeterogeneousAutoregressive(Autoregressive):
    """`hetar1(0 + time | g)`: as `ar1`, with a standard deviation for each column."""

    name = "hetar1"
    compiled = "hetar1"
    homogeneous = False
    gaps = False
