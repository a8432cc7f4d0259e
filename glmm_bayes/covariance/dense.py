"""Covariances stated as dense matrices, one a process; their inverses are the precisions."""

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any, override

import numpy as np

from glmm_bayes.arrays import NUMPY
from glmm_bayes.covariance.levels import Entries, LevelCovariance, block_pairs
from glmm_bayes.errors import DataError

MOST_NODES = 2500
JITTER = 1e-9  # added to a variance of one: smooth correlations are singular to rounding
STEP = 1e-30


class DenseCovariance(LevelCovariance):
    """
    v of a covariance K stated directly, that of different processes being zero.

    Every two nodes of a process are a pair of the precision.
    """

    _kept: tuple[tuple[Any, ...], list[tuple[Any, Any]]] | None = None

    def refuse_large(self, remedy: str) -> None:
        """Raise DataError where a process has too many nodes for dense matrices."""
        most = int(np.bincount(self.places.process).max())
        if most > MOST_NODES:
            raise DataError(
                f"{self.places.text!r} has {most} places in one process, whose dense matrix of "
                f"correlations is too large: the most is {MOST_NODES}. {remedy}"
            )

    @property
    @abstractmethod
    def known(self) -> list[np.ndarray]:
        """What K is a function of, an array a process: distances, or lags."""

    @abstractmethod
    def correlations(self, known: np.ndarray, theta: Mapping[str, Any], xp: Any) -> Any:
        """Give K `(m, m)` of one process."""

    def _matrix(self, known: np.ndarray, theta: Mapping[str, Any], xp: Any) -> Any:
        return self.correlations(known, theta, xp) + JITTER * np.eye(known.shape[-1])

    @cached_property
    def blocks(self) -> list[np.ndarray]:
        """The nodes of each process."""
        return self.places.processes

    @cached_property
    @override
    def pairs(self) -> np.ndarray:
        return block_pairs(self.blocks)

    def _inverted(self, theta: Mapping[str, Any], xp: Any) -> list[tuple[Any, Any]]:
        """Give K^-1 and log |K| of every process; for arrays, those given last are kept."""
        if xp is not NUMPY:
            return [xp.inverse(self._matrix(known, theta, xp)) for known in self.known]
        at = tuple((name, *np.ravel(value)) for name, value in theta.items())
        if self._kept is None or self._kept[0] != at:
            found = [xp.inverse(self._matrix(known, theta, xp)) for known in self.known]
            # Put in place at once: other threads may look.
            self._kept = kept = at, found
            return kept[1]
        return self._kept[1]

    @override
    def entries(self, theta: Mapping[str, Any], xp: Any = NUMPY) -> Entries:
        values, log_determinant = [], 0.0
        for known, (inverse, log_of) in zip(self.known, self._inverted(theta, xp), strict=True):
            values.append(inverse[np.tril_indices(known.shape[-1])])
            log_determinant = log_determinant - log_of
        return Entries(xp.concatenate(values), log_determinant)

    @override
    def slopes(
        self, theta: Mapping[str, np.ndarray], by_values: np.ndarray, by_log_determinant: float
    ) -> dict[str, np.ndarray]:
        found = {name: np.zeros(len(value)) for name, value in theta.items()}
        start = 0
        for known, (Q, _) in zip(self.known, self._inverted(theta, NUMPY), strict=True):
            m = known.shape[-1]
            i, j = np.tril_indices(m)
            B = np.zeros((m, m))
            B[i, j] = by_values[start : start + len(i)]
            start += len(i)
            B = 0.5 * (B + B.T)
            # dQ = -Q dK Q, and log |Q| = -log |K|.
            by_K = -(Q @ B @ Q) - by_log_determinant * Q
            for name, value in theta.items():
                for k in range(len(value)):
                    found[name][k] += np.vdot(by_K, self.slope_of(known, theta, name, k))
        return found

    def slope_of(
        self, known: np.ndarray, theta: Mapping[str, np.ndarray], name: str, k: int
    ) -> np.ndarray:
        """Give how the correlations `(m, m)` move with one parameter."""
        moved = theta[name].astype(complex)
        moved[k] += 1j * STEP
        return self._matrix(known, {**theta, name: moved}, NUMPY).imag / STEP
