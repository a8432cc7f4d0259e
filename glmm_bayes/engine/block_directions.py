"""The same traces and forms by rows: V itself, a cluster of dependent rows at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import override

import numpy as np

from glmm_bayes.engine.directions import Direction, Forms


@dataclass(frozen=True, eq=False)
class BlockSums(Forms):
    """
    V^-1 `(m, m)`, V^-1 X `(m, k)` and V^-1 r `(m,)` of each cluster, which share nothing.

    A direction's parts are V's own, by cluster: Z is the identity.
    """

    M: Sequence[np.ndarray]
    S: Sequence[np.ndarray]
    a: Sequence[np.ndarray]

    @classmethod
    def of(
        cls, V: Sequence[np.ndarray], X: Sequence[np.ndarray], r: Sequence[np.ndarray]
    ) -> "BlockSums":
        """
        Invert every cluster's V.

        Parameters
        ----------
        V, X, r
            By cluster `(m, m)`, `(m, k)` and `(m,)`: the response less any coefficients' part.
        """
        M = [np.linalg.inv(part) for part in V]
        M = [0.5 * (part + part.T) for part in M]
        S = [inverse @ columns for inverse, columns in zip(M, X, strict=True)]
        precision = sum(columns.T @ own for columns, own in zip(X, S, strict=True))
        Phi = np.linalg.inv(0.5 * (precision + np.transpose(precision)))
        right = sum(own.T @ part for own, part in zip(S, r, strict=True))
        moved = Phi @ right
        a = [inverse @ (e - x @ moved) for inverse, x, e in zip(M, X, r, strict=True)]
        square = sum(float(part @ own) for part, own in zip(r, a, strict=True))
        return cls(float(sum(map(len, r))), Phi, square, M, S, a)

    @override
    def _mean(self, i: Direction) -> np.ndarray:
        parts = zip(self.S, i.parts, strict=True)
        return sum((S.T @ K @ S for S, K in parts), np.zeros_like(self.Phi))

    @override
    def _mean_pair(self, i: Direction, j: Direction) -> np.ndarray:
        parts = zip(self.S, self.M, i.parts, j.parts, strict=True)
        found = ((K @ S).T @ M @ (L @ S) for S, M, K, L in parts)
        return sum(found, np.zeros_like(self.Phi))

    @override
    def _trace(self, i: Direction) -> float:
        return sum(float(np.sum(M * K)) for M, K in zip(self.M, i.parts, strict=True))

    @override
    def _trace_pair(self, i: Direction, j: Direction) -> float:
        parts = zip(self.M, i.parts, j.parts, strict=True)
        return sum(float(np.sum((M @ K) * (M @ L).T)) for M, K, L in parts)

    @override
    def _form(self, i: Direction) -> float:
        return sum(float(a @ K @ a) for a, K in zip(self.a, i.parts, strict=True))

    @override
    def _form_pair(self, i: Direction, j: Direction) -> float:
        parts = zip(self.a, self.M, i.parts, j.parts, strict=True)
        return sum(float((K @ a) @ M @ (L @ a)) for a, M, K, L in parts)

    @override
    def _across(self, i: Direction) -> np.ndarray:
        parts = zip(self.S, self.a, i.parts, strict=True)
        return sum((S.T @ (K @ a) for S, a, K in parts), np.zeros(len(self.Phi)))
