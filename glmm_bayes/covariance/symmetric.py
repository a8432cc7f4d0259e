"""Columns that all correlate alike: compound symmetry."""

from collections.abc import Mapping
from typing import Any, override

import numpy as np

from glmm_bayes.arrays import NUMPY
from glmm_bayes.covariance.base import Covariance
from glmm_bayes.covariance.structure import CovarianceParameter, sd_parameter
from glmm_bayes.priors import Prior

EDGE = 1e-8  # of an eigenvalue's root, beside the other's: a singular matrix


class CompoundSymmetry(Covariance):
    """
    `cs(0 + f | g)`: cov(b_i, b_j) = sd_i sd_j rho for i != j.

    Parameters: `sd > 0`, one a column, on the link scale; `rho` between -1/(p - 1), the least
    for which the matrix is positive definite, and 1.
    """

    name = "cs"
    homogeneous = False

    @override
    def parameters(self, size: int) -> tuple[CovarianceParameter, ...]:
        sd = sd_parameter(1, by_column=False) if self.homogeneous else sd_parameter(size)
        if size == 1:
            return (sd,)
        lower = -1.0 / (size - 1)
        return sd, CovarianceParameter("rho", "rho", 1, False, (lower, 1.0))

    @override
    def factor(self, theta: Mapping[str, Any], size: int, xp: Any = NUMPY) -> Any:
        # Not a column of one entry: a graph that does not know its length will not broadcast it.
        sd = theta["sd"][0] if self.homogeneous else theta["sd"][:, None]
        if size == 1:
            return sd * xp.eye(1)
        rho = theta["rho"][0]
        # Of the correlation matrix's Cholesky factor, column j is d_j, then l_j all the way down.
        d, low = [], []
        for j in range(size):
            before = 1 + (j - 1) * rho
            d.append(xp.sqrt((1 - rho) * (1 + j * rho) / before))
            low.append(rho * xp.sqrt((1 - rho) / (before * (1 + j * rho))))
        rows = [xp.stack([*low[:i], d[i], *[0 * rho] * (size - 1 - i)]) for i in range(size)]
        return sd * xp.stack(rows)

    # The maximum's coordinates are the roots of the standard deviations (of one for all, itself)
    # and an angle: the eigenvalues of the
    # correlation matrix are the squares of e_1 = sqrt(p) cos a, along the mean of the columns, and
    # of e_2 = sqrt(p / (p - 1)) sin a; where one is zero the matrix is singular.

    @override
    def loose(self, theta: Mapping[str, np.ndarray], size: int) -> np.ndarray:
        if size == 1:
            return np.array(theta["sd"], dtype=float)
        along = np.sqrt((1 + (size - 1) * float(theta["rho"][0])) / size)
        roots = np.asarray(theta["sd"], dtype=float) ** self._growth(size)
        return np.append(roots, np.arccos(min(along, 1.0)))

    @override
    def tight(self, z: np.ndarray, size: int) -> dict[str, np.ndarray]:
        if size == 1:
            return {"sd": np.abs(z)}
        rho = (size * np.cos(z[-1]) ** 2 - 1) / (size - 1)
        return {"sd": np.abs(self._sd(z)), "rho": np.array([rho])}

    @override
    def loose_factor(self, z: np.ndarray, size: int) -> np.ndarray:
        if size == 1:
            return z.reshape(1, 1)
        return self._spread(z, size) * self._root(np.cos(z[-1]), np.sin(z[-1]), size)

    @override
    def loose_pullback(self, z: np.ndarray, size: int, grad: np.ndarray) -> np.ndarray:
        if size == 1:
            return grad.ravel()
        root = self._root(np.cos(z[-1]), np.sin(z[-1]), size)
        turned = self._root(-np.sin(z[-1]), np.cos(z[-1]), size)
        by_sd = (grad * root).sum(axis=1)
        by_angle = np.sum(grad * self._spread(z, size) * turned)
        return np.append(by_sd.sum() if self.homogeneous else 2 * z[:-1] * by_sd, by_angle)

    @override
    def idle(self, z: np.ndarray, size: int) -> np.ndarray:
        idle = z == 0
        if size > 1:
            edge = min(abs(np.cos(z[-1])), abs(np.sin(z[-1]))) < EDGE
            idle[-1] = edge or np.sum(~idle[:-1]) < (1 if self.homogeneous else 2)
        return idle

    @override
    def at_edge(self, z: np.ndarray, size: int, near: np.ndarray) -> np.ndarray:
        moved = super().at_edge(z, size, near)
        if size > 1:
            edge = np.round(z[-1] / (np.pi / 2)) * (np.pi / 2)
            moved[-1] = edge if abs(z[-1] - edge) < near[-1] else z[-1]
        return moved

    def _spread(self, z: np.ndarray, size: int) -> np.ndarray:
        return np.resize(self._sd(z), size)[:, None]

    def _sd(self, z: np.ndarray) -> np.ndarray:
        return z[:-1] if self.homogeneous else z[:-1] ** 2

    @staticmethod
    def _root(along: float, across: float, size: int) -> np.ndarray:
        """Give the symmetric root of the correlation matrix with these two eigenvalues' roots."""
        mean = np.full((size, size), 1.0 / size)
        first, second = np.sqrt(size) * along, np.sqrt(size / (size - 1)) * across
        return first * mean + second * (np.eye(size) - mean)

    @override
    def priors(self, key: str, prior: Prior, size: int) -> tuple[Prior, ...]:
        if key == "rho" and prior.distribution == "Uniform" and not prior.arguments:
            return (Prior("Uniform", lower=-1.0 / (size - 1), upper=1.0),)
        return super().priors(key, prior, size)

    @override
    def default_prior(self, key: str) -> Prior | None:
        return Prior("Uniform") if key == "rho" else None


class HomogeneousCompoundSymmetry(CompoundSymmetry):
    """`homcs(0 + f | g)`: as `cs`, with one standard deviation: cov = sd^2 (rho + (1 - rho) I)."""

    name = "homcs"
    homogeneous = True
