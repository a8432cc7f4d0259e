"""What structures of columns in an order share: standard deviations, and numbers in (-1, 1)."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, override

import numpy as np

from glmm_bayes.arrays import NUMPY
from glmm_bayes.covariance.base import Covariance
from glmm_bayes.covariance.structure import CovarianceParameter, sd_parameter
from glmm_bayes.priors import Prior

STEEP = 1.2  # the angle of a large correlation
EDGE = 1e-8  # of the cosine of an angle: a correlation of plus or minus one


class Ordered(Covariance):
    """
    cov(b_i, b_j) = sd_i sd_j C_ij, C given by m numbers c between -1 and 1.

    C's Cholesky factor is written with these, and with s = sqrt(1 - c^2), without dividing by
    any: then it is smooth where a c is plus or minus one and C is singular. A search for a
    maximum has the angles whose sines are c, so that such an edge is a point like others, beside
    the standard deviations, or their roots where there are several.
    """

    ordered = True
    homogeneous = False

    # ---- what one of these structures is

    @abstractmethod
    def correlation(self, size: int) -> CovarianceParameter:
        """Describe the numbers c that give C for two columns or more."""

    @abstractmethod
    def root(self, c: Any, s: Any, size: int, xp: Any = NUMPY) -> Any:
        """Give C's lower triangular factor from c and s, each `(m,)`."""

    @abstractmethod
    def root_pullback(
        self, c: np.ndarray, s: np.ndarray, size: int, grad: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Carry a derivative by the factor back to c and s."""

    def silent(self, z: np.ndarray, size: int) -> np.ndarray:
        """Tell which angles `(m,)` change nothing, as no two columns vary that have these."""
        return np.full(len(z) - self._count(size), self._varying(z, size).sum() < 2)

    # ---- what follows

    @override
    def problem(self, size: int) -> str | None:
        if size > 1:
            return None
        return "has one column, which stands in no order: write (1 | …)"

    @override
    def parameters(self, size: int) -> tuple[CovarianceParameter, ...]:
        sd = sd_parameter(1, by_column=False) if self.homogeneous else sd_parameter(size)
        return (sd,) if size == 1 else (sd, self.correlation(size))

    @override
    def factor(self, theta: Mapping[str, Any], size: int, xp: Any = NUMPY) -> Any:
        # Not a column of one entry: a graph that does not know its length will not broadcast it.
        sd = theta["sd"][0] if self.homogeneous else theta["sd"][:, None]
        return sd * self._correlation_root(theta, size, xp)

    def _correlation_root(self, theta: Mapping[str, Any], size: int, xp: Any) -> Any:
        if size == 1:
            return xp.eye(1)
        c = theta[self.correlation(size).name]
        return self.root(c, xp.sqrt((1 - c) * (1 + c)), size, xp)

    @override
    def pullback(
        self, theta: Mapping[str, np.ndarray], size: int, grad: np.ndarray
    ) -> dict[str, np.ndarray]:
        sd, root = theta["sd"], self._correlation_root(theta, size, NUMPY)
        by_sd = self._collected(grad, root)
        if size == 1:
            return {"sd": by_sd}
        name = self.correlation(size).name
        c = theta[name]
        s = np.sqrt((1 - c) * (1 + c))
        by_c, by_s = self.root_pullback(c, s, size, grad * np.resize(sd, size)[:, None])
        return {"sd": by_sd, name: by_c - by_s * c / s}

    @override
    def default_prior(self, key: str) -> Prior | None:
        return None if key == "sd" else Prior("Uniform", lower=-1.0, upper=1.0)

    @override
    def loose(self, theta: Mapping[str, np.ndarray], size: int) -> np.ndarray:
        sd = np.asarray(theta["sd"], dtype=float) ** self._growth(size)
        if size == 1:
            return sd
        return np.append(sd, np.arcsin(theta[self.correlation(size).name]))

    @override
    def tight(self, z: np.ndarray, size: int) -> dict[str, np.ndarray]:
        found = {"sd": np.abs(self._sd(z, size))}
        if size > 1:
            found[self.correlation(size).name] = np.sin(self._angles(z, size))
        return found

    @override
    def loose_factor(self, z: np.ndarray, size: int) -> np.ndarray:
        return np.resize(self._sd(z, size), size)[:, None] * self._loose_root(z, size)

    @override
    def loose_pullback(self, z: np.ndarray, size: int, grad: np.ndarray) -> np.ndarray:
        by_sd = self._collected(grad, self._loose_root(z, size))
        if self._growth(size) < 1:
            by_sd = 2 * z[: len(by_sd)] * by_sd
        if size == 1:
            return by_sd
        c, s = np.sin(self._angles(z, size)), np.cos(self._angles(z, size))
        sd = np.resize(self._sd(z, size), size)[:, None]
        by_c, by_s = self.root_pullback(c, s, size, grad * sd)
        return np.append(by_sd, by_c * s - by_s * c)

    @override
    def idle(self, z: np.ndarray, size: int) -> np.ndarray:
        at_edge = np.abs(np.cos(self._angles(z, size))) < EDGE
        # What comes after a perfect correlation is determined.
        done = np.cumsum(at_edge) > 0
        return np.append(self._sd(z, size) == 0, done | self.silent(z, size))

    @override
    def at_edge(self, z: np.ndarray, size: int, near: np.ndarray) -> np.ndarray:
        k = self._count(size)
        moved = z.copy()
        moved[:k] = np.where(np.abs(z[:k]) < near[:k], 0.0, z[:k])
        edge = (np.floor(z[k:] / np.pi) + 0.5) * np.pi
        reached = np.abs(z[k:] - edge) < near[k:]
        # Left at zero, what comes after has columns go apart by steps, should C leave the edge.
        after = np.append(False, np.cumsum(reached)[:-1] > 0)[: len(reached)]
        moved[k:] = np.where(after, 0.0, np.where(reached, edge, z[k:]))
        return moved

    @override
    def exits(self, z: np.ndarray, size: int, steps: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        yield from super().exits(z, size, steps)
        count = self._count(size)
        at_edge = np.flatnonzero(np.abs(np.cos(z[count:])) < EDGE)
        if not len(at_edge):
            return
        # What comes after changes nothing here, but where the way off the edge leads to.
        first = count + at_edge[0]
        for later in range(first + 1, len(z)):
            for angle in (-STEEP, STEEP):
                for step in steps:
                    moved = z.copy()
                    moved[first] += step[first]
                    moved[later] = angle
                    yield moved

    def _count(self, size: int) -> int:
        return 1 if self.homogeneous else size

    def _sd(self, z: np.ndarray, size: int) -> np.ndarray:
        part = z[: self._count(size)]
        return part if self._growth(size) == 1 else part * part

    def _angles(self, z: np.ndarray, size: int) -> np.ndarray:
        return z[self._count(size) :]

    def _varying(self, z: np.ndarray, size: int) -> np.ndarray:
        return np.resize(self._sd(z, size) != 0, size)

    def _loose_root(self, z: np.ndarray, size: int) -> np.ndarray:
        if size == 1:
            return np.eye(1)
        angles = self._angles(z, size)
        found: np.ndarray = self.root(np.sin(angles), np.cos(angles), size)
        return found

    def _collected(self, grad: np.ndarray, root: np.ndarray) -> np.ndarray:
        by_sd = (grad * root).sum(axis=1)
        return np.array([by_sd.sum()]) if self.homogeneous else by_sd
