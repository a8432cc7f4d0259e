"""Columns with every standard deviation and every correlation free."""

from collections.abc import Mapping
from functools import cache
from typing import Any, override

import numpy as np

from glmm_bayes.arrays import NUMPY
from glmm_bayes.covariance.base import Covariance
from glmm_bayes.covariance.structure import CovarianceParameter, refuse_prior, sd_parameter
from glmm_bayes.priors import Prior

LARGEST = 1 - 1e-15  # of a partial correlation read back from a rounded matrix


@cache
def _lower(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the lower triangle of a matrix is: made once, as a search asks for it all the time."""
    return np.tril_indices(size)


class Unstructured(Covariance):
    """
    `(1 + x | g)`, `us(1 + x | g)`: cov = diag(sd) C diag(sd), C any correlation matrix.

    Parameters: `sd > 0`, one a column, on the link scale; `corr`, sampled as the p(p-1)/2
    partial correlations of column i with j given 0 … j-1, rescaled to (0, 1).

    Notes
    -----
    With c the partial correlations, row i of the Cholesky factor of C is c_ij times the square
    root of prod_{k<j} (1 - c_ik^2). C ~ LKJ(eta) exactly when (1 + c_ij)/2 ~ Beta(a, a)
    independently, a = eta + (p - 2 - j)/2 with j = 0, 1, …:
    Lewandowski, Kurowicka & Joe (2009), J. Multivariate Analysis 100, 1989-2001.
    """

    name = "us"
    compiled = "us"

    @override
    def parameters(self, size: int) -> tuple[CovarianceParameter, ...]:
        pairs = size * (size - 1) // 2
        corr = CovarianceParameter("partial", "corr", pairs, False, (0.0, 1.0))
        return (sd_parameter(size), corr) if pairs else (sd_parameter(size),)

    @override
    def factor(self, theta: Mapping[str, Any], size: int, xp: Any = NUMPY) -> Any:
        return theta["sd"][:, None] * self._cholesky(theta, size, xp)

    @override
    def reported(self, theta: Mapping[str, Any], size: int, xp: Any = NUMPY) -> dict[str, Any]:
        if size == 1:
            return {}
        L = self._cholesky(theta, size, xp)
        return {"corr": L @ L.T}

    @override
    def sampled(self, values: Mapping[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
        if size == 1:
            return {"sd": values["sd"]}
        C = values["corr"]
        # Row by row, not by LAPACK, which refuses a correlation that has rounded to 1.
        L = np.zeros_like(C)
        L[:, 0, 0] = 1.0
        partials = []
        for i in range(1, size):
            left = np.ones(len(C))
            for j in range(i):
                rest = C[:, i, j] - (L[:, i, :j] * L[:, j, :j]).sum(axis=1)
                c = np.clip(rest / (L[:, j, j] * np.sqrt(left)), -LARGEST, LARGEST)
                L[:, i, j] = c * np.sqrt(left)
                left = left * (1 - c * c)
                partials.append(0.5 * (1 + c))
            L[:, i, i] = np.sqrt(left)
        return {"sd": values["sd"], "partial": np.stack(partials, axis=1)}

    @override
    def priors(self, key: str, prior: Prior, size: int) -> tuple[Prior, ...]:
        if key != "corr":
            return super().priors(key, prior, size)
        if prior.distribution != "LKJCorr":
            raise refuse_prior(self.name, key, prior, "gb.Prior('LKJCorr', eta=2)")
        eta = float(prior.arguments["eta"])
        shapes = [eta + (size - 2 - j) / 2 for i in range(size) for j in range(i)]
        return tuple(Prior("Beta", alpha=a, beta=a) for a in shapes)

    @override
    def default_prior(self, key: str) -> Prior | None:
        return Prior("LKJCorr", eta=2.0) if key == "corr" else None

    # The maximum's coordinates are the entries of Lambda, row by row: a zero on its diagonal is a
    # zero variance, or a correlation of plus or minus one with the columns before.

    @override
    def loose(self, theta: Mapping[str, np.ndarray], size: int) -> np.ndarray:
        return self.factor(theta, size)[_lower(size)]

    @override
    def loose_factor(self, z: np.ndarray, size: int) -> np.ndarray:
        Lambda = np.zeros((size, size))
        Lambda[_lower(size)] = z
        return Lambda

    @override
    def loose_pullback(self, z: np.ndarray, size: int, grad: np.ndarray) -> np.ndarray:
        return grad[_lower(size)]

    @override
    def tight(self, z: np.ndarray, size: int) -> dict[str, np.ndarray]:
        Lambda = self.loose_factor(z, size)
        sd = np.sqrt((Lambda * Lambda).sum(axis=1))
        unit = Lambda / np.where(sd > 0, sd, 1.0)[:, None]
        values = {"sd": sd[None], "corr": (unit @ unit.T)[None]}
        # Where a standard deviation is zero, no correlation of it is of any consequence.
        values["corr"][0][np.diag_indices(size)] = 1.0
        return {name: value[0] for name, value in self.sampled(values, size).items()}

    @override
    def units(self, size: int, sd: np.ndarray) -> np.ndarray:
        return sd[_lower(size)[0]]

    @override
    def growth(self, size: int) -> np.ndarray:
        return np.ones(size * (size + 1) // 2)

    @override
    def at_edge(self, z: np.ndarray, size: int, near: np.ndarray) -> np.ndarray:
        Lambda, least = self.loose_factor(z, size), np.diag(self.loose_factor(near, size))
        # What is taken away may bring another column to the edge.
        for _ in range(size):
            Lambda = self._without_small(Lambda, least)
        return Lambda[_lower(size)]

    @staticmethod
    def _without_small(Lambda: np.ndarray, least: np.ndarray) -> np.ndarray:
        """Factor the same covariance, rows and columns zero where they are no longer than least."""
        kept = np.square(Lambda).sum(axis=1) > least**2
        rest, L = (Lambda @ Lambda.T) * np.outer(kept, kept), np.zeros_like(Lambda)
        for j in range(len(L)):
            if rest[j, j] > least[j] ** 2:
                L[j:, j] = rest[j:, j] / np.sqrt(rest[j, j])
                rest = rest - np.outer(L[:, j], L[:, j])
        return L

    @override
    def idle(self, z: np.ndarray, size: int) -> np.ndarray:
        # Below a zero on the diagonal, a column can be turned into the ones behind it.
        pivots = np.diag(self.loose_factor(z, size))
        return (pivots == 0)[_lower(size)[1]]

    @staticmethod
    def _cholesky(theta: Mapping[str, Any], size: int, xp: Any) -> Any:
        if size == 1:
            return xp.eye(1)
        zero = 0 * theta["partial"][0]
        rows, k = [], 0
        for i in range(size):
            row, left = [], 1 + zero
            for _ in range(i):
                c = 2 * theta["partial"][k] - 1
                row.append(c * xp.sqrt(left))
                left = left * (1 - c * c)
                k += 1
            rows.append(xp.stack([*row, xp.sqrt(left), *[zero] * (size - 1 - i)]))
        return xp.stack(rows)
