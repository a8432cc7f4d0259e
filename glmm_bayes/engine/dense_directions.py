"""The same traces and forms where levels depend on each other: by matrices of all effects."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import override

import numpy as np

from glmm_bayes.engine.directions import Direction, Forms


@dataclass(frozen=True, eq=False)
class DenseSums(Forms):
    """
    Z'V^-1 Z `(N, N)`, Z'V^-1 X `(N, k)` and Z'V^-1 r `(N,)` as they are.

    `places` are each term's effects among the N; a direction's parts are of all of these.
    """

    M: np.ndarray
    S: np.ndarray
    a: np.ndarray
    places: Sequence[slice]

    @classmethod
    def of(
        cls,
        blocks: tuple[np.ndarray, np.ndarray, np.ndarray],
        outer: tuple[np.ndarray, np.ndarray, float],
        covariances: Sequence[np.ndarray],
        n: float,
    ) -> "DenseSums":
        """
        Solve for all effects at once.

        Parameters
        ----------
        blocks
            `(N, N)`, `(N, k)`, `(N,)`: Z'D^-1 Z, Z'D^-1 X, Z'D^-1 r, r the response less any
            coefficients' part.
        outer
            `(k, k)`, `(k,)` and a number: X'D^-1 X, X'D^-1 r, r'D^-1 r.
        covariances
            By term, of all its effects.
        """
        (A, B, c), (C, xr, rr) = blocks, outer
        ends = np.cumsum([0, *(len(K) for K in covariances)])
        places = [slice(int(i), int(j)) for i, j in zip(ends[:-1], ends[1:], strict=True)]
        K = np.zeros_like(A)
        for at, part in zip(places, covariances, strict=True):
            K[at, at] = part
        found = np.linalg.solve(np.eye(len(A)) + A @ K, np.column_stack([A, B, c]))
        M, S, a = found[:, : len(A)], found[:, len(A) : -1], found[:, -1]
        Phi = np.linalg.inv(C - B.T @ K @ S)
        right = xr - B.T @ K @ a
        moved = Phi @ right
        square = float(rr - c @ K @ a - right @ moved)
        return cls(n, Phi, square, 0.5 * (M + M.T), S, a - S @ moved, places)

    def _times(self, i: Direction, B: np.ndarray) -> np.ndarray:
        """Multiply `(N, …)` by the parts."""
        found = np.zeros_like(B)
        for at, part in zip(self.places, i.parts, strict=True):
            if part.any():
                found[at] = part @ B[at]
        return found

    @override
    def _mean(self, i: Direction) -> np.ndarray:
        return self.S.T @ self._times(i, self.S)

    @override
    def _mean_pair(self, i: Direction, j: Direction) -> np.ndarray:
        return self._times(i, self.S).T @ self.M @ self._times(j, self.S)

    @override
    def _trace(self, i: Direction) -> float:
        return float(np.trace(self._times(i, self.M)))

    @override
    def _trace_pair(self, i: Direction, j: Direction) -> float:
        return float(np.sum(self._times(i, self.M) * self._times(j, self.M).T))

    @override
    def _form(self, i: Direction) -> float:
        return float(self.a @ self._times(i, self.a))

    @override
    def _form_pair(self, i: Direction, j: Direction) -> float:
        return float(self._times(i, self.a) @ self.M @ self._times(j, self.a))

    @override
    def _across(self, i: Direction) -> np.ndarray:
        return self.S.T @ self._times(i, self.a)
