"""Sparse Cholesky factors of a matrix plus few directions, which would fill it as entries."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from glmm_bayes.engine.algebra.cholesky import Factor, Symbolic


@dataclass(frozen=True, eq=False)
class Directions:
    """
    What is added to a sparse matrix S: rows' rows.

    Without it S may be singular. `pins` `(c,)` are as many of its rows, with something added to
    whose diagonal entries it is positive definite.
    """

    rows: np.ndarray  # (c, n)
    pins: np.ndarray  # (c,)

    def pin(self, symbolic: Symbolic, data: np.ndarray) -> np.ndarray:
        """Double the diagonal entries of the pinned rows in place; give what was added `(c,)`."""
        at = symbolic.indptr[:-1][self.pins]  # the diagonal is the first of its column
        added = data[at].copy()
        data[at] += added
        return added


@dataclass(frozen=True, eq=False)
class Updated:
    """
    The factor of A = S + rows' rows, as `Factor` has it, from that of the pinned S.

    With S pinned = L L', A = L (I + B diag(gain - 1) B') L' for orthonormal columns B: what was
    held comes in with a gain above one, what was pinned leaves with one below.

    Attributes
    ----------
    B, gain
        `(n, c)` in the order of the normals of `solve_root`, and `(c,)`.
    E
        `(n, c)`, L^-T B.

    Notes
    -----
    As conditioning by kriging, of a sum with a little variance: Rue & Held (2005), Gaussian Markov
    Random Fields, 2.3.3.
    """

    base: Factor
    B: np.ndarray
    gain: np.ndarray
    E: np.ndarray

    @classmethod
    def of(cls, base: Factor, held: Directions, pinned: np.ndarray) -> Self:
        """
        Add the directions to what was factored with `pinned` `(c,)` on the diagonal.

        Raises
        ------
        numpy.linalg.LinAlgError
            If the result is not positive definite.
        """
        n, c = base.symbolic.n, len(held.pins)
        U = np.zeros((n, 2 * c))
        U[:, :c] = held.rows.T
        U[held.pins, c + np.arange(c)] = np.sqrt(pinned)
        Q, R = np.linalg.qr(base.root_slopes(U))
        signs = np.repeat([1.0, -1.0], c)
        values, vectors = np.linalg.eigh((R * signs) @ R.T)
        gain = 1.0 + values
        if not (gain > 0).all():
            raise np.linalg.LinAlgError("The matrix is not positive definite.")
        B = Q @ vectors
        return cls(base, B, gain, base.solve_root(B))

    @property
    def log_determinant(self) -> float:
        """Of A, natural log."""
        return self.base.log_determinant + float(np.log(self.gain).sum())

    def solve(self, b: np.ndarray) -> np.ndarray:
        """Give A^-1 b; b is `(n,)` or `(n, m)`."""
        return self.solve_root(self.root_slopes(b))

    def solve_root(self, z: np.ndarray) -> np.ndarray:
        """Turn independent N(0, 1) into draws from N(0, A^-1); z is `(n,)` or `(n, m)`."""
        return self.base.solve_root(self._shrunk(np.asarray(z, dtype=float)))

    def root_slopes(self, g: np.ndarray) -> np.ndarray:
        """Give the transpose of `solve_root`."""
        return self._shrunk(self.base.root_slopes(g))

    def selected_inverse(self) -> np.ndarray:
        """Give the entries of A^-1 at the pattern of S."""
        symbolic = self.base.symbolic
        column = np.repeat(np.arange(symbolic.n), np.diff(symbolic.indptr))
        found = self.base.selected_inverse()
        for e, gain in zip(self.E.T, self.gain, strict=True):
            found += e[symbolic.indices] * e[column] * (1.0 / gain - 1.0)
        return found

    def _shrunk(self, x: np.ndarray) -> np.ndarray:
        """Give (I + B diag(gain - 1) B')^-1/2 x."""
        part = self.B.T @ x
        by = self.gain**-0.5 - 1.0
        return x + self.B @ (part * by if x.ndim == 1 else part * by[:, None])
