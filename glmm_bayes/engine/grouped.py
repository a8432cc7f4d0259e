"""One grouping's rows in order: sums over levels, and small matrices a level, for many at once."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True, eq=False)
class Grouped:
    """
    The rows of one random term whose levels are independent, sorted by level.

    Attributes
    ----------
    Z
        `(n, p)` the term's columns, times the rows' shares.
    level
        `(n,)` from 0 to q - 1, ascending; every level has rows.
    q
        The number of levels.
    """

    Z: np.ndarray
    level: np.ndarray
    q: int

    @cached_property
    def starts(self) -> np.ndarray:
        """Where each level's rows begin."""
        return np.searchsorted(self.level, np.arange(self.q))

    @cached_property
    def squares(self) -> np.ndarray:
        """Z Z' of each row, `(n, p p)`."""
        return (self.Z[:, :, None] * self.Z[:, None, :]).reshape(len(self.Z), -1)

    def total(self, rows: np.ndarray) -> np.ndarray:
        """Sum `(S, n, c)` over each level's rows: `(S, q, c)`."""
        return np.add.reduceat(rows, self.starts, axis=1)

    def collect(self, rows: np.ndarray) -> np.ndarray:
        """Give Z' r `(S, q, p)` of `(S, n)`."""
        return self.total(rows[:, :, None] * self.Z)

    def products(self, weights: np.ndarray) -> np.ndarray:
        """Give Z' W Z `(S, q, p, p)` of `(S, n)` weights."""
        p = self.Z.shape[1]
        return self.total(weights[:, :, None] * self.squares).reshape(len(weights), self.q, p, p)

    def spread(self, b: np.ndarray) -> np.ndarray:
        """Give Z b `(S, n)` of effects `(S, q, p)`."""
        return np.einsum("np,snp->sn", self.Z, b[:, self.level])


@dataclass(frozen=True, eq=False)
class LevelInverse:
    """
    H = Lambda' C Lambda + I of every level, inverted.

    Attributes
    ----------
    inverse
        `(S, q, p, p)`.
    log_determinant
        `(S,)` of all levels; NaN where a level's is not positive definite.
    """

    inverse: np.ndarray
    log_determinant: np.ndarray

    @classmethod
    def of(cls, C: np.ndarray, Lambda: np.ndarray) -> "LevelInverse":
        """Invert, for C `(S, q, p, p)` and Lambda `(S, p, p)`."""
        p = C.shape[-1]
        if p == 1:
            h = Lambda[:, None] ** 2 * C + 1.0
            with np.errstate(all="ignore"):
                return cls(1 / h, np.log(h[:, :, 0, 0]).sum(axis=1))
        L = Lambda[:, None]
        H = np.swapaxes(L, 2, 3) @ C @ L + np.eye(p)
        if p == 2:
            a, b, d = H[..., 0, 0], H[..., 0, 1], H[..., 1, 1]
            det = a * d - b * b
            with np.errstate(all="ignore"):
                inverse = np.stack([d, -b, -b, a], axis=-1).reshape(H.shape) / det[..., None, None]
                log = np.log(np.where(a > 0, det, -1.0)).sum(axis=1)
            return cls(inverse, log)
        # Of a symmetric matrix all of whose eigenvalues are wanted positive.
        values, vectors = np.linalg.eigh(np.where(np.isfinite(H), H, np.nan_to_num(H)))
        with np.errstate(all="ignore"):
            inverse = (vectors / values[..., None, :]) @ np.swapaxes(vectors, 2, 3)
            return cls(inverse, np.log(values).sum(axis=(1, 2)))

    def times(self, right: np.ndarray) -> np.ndarray:
        """Solve for `(S, q, p)`."""
        return np.einsum("sqij,sqj->sqi", self.inverse, right)
