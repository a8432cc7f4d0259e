"""Log determinants and inverses of large matrices by random probes, with their standard errors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from glmm_bayes.engine.algebra.krylov import Krylov, Product, conjugate_gradients

PROBES = 32  # random vectors, the same ones for every matrix: results are deterministic
SEED = 20_261_125
TOLERANCE = 1e-10  # of the probes' residuals
POWERS = 4  # that turn a random space into one of much that is far from its own blocks
_LEADING = 1_000_000  # a batch of its own for that space


@dataclass(frozen=True, eq=False)
class Preconditioner:
    """
    The own blocks P of a matrix S, one for each level of each term, with their factors L.

    Attributes
    ----------
    blocks
        By term `(levels, p, p)`.
    """

    blocks: Sequence[np.ndarray]

    @cached_property
    def roots(self) -> list[np.ndarray]:
        """Their Cholesky factors, lower."""
        return [np.linalg.cholesky(P) for P in self.blocks]

    @cached_property
    def inverses(self) -> list[np.ndarray]:
        """Their inverses."""
        return [np.linalg.inv(P) for P in self.blocks]

    @property
    def log_determinant(self) -> float:
        """Log |P|."""
        diagonals = [np.diagonal(L, axis1=1, axis2=2) for L in self.roots]
        return 2 * float(sum(np.log(d).sum() for d in diagonals))

    def solve(self, x: np.ndarray) -> np.ndarray:
        """Give P^-1 x `(q, c)`."""
        return blockwise(self.inverses, x)


def blockwise(blocks: Sequence[np.ndarray], x: np.ndarray) -> np.ndarray:
    """Multiply x `(q, c)` by blocks `(levels, p, p)`, term after term."""
    out, begin = np.empty_like(x), 0
    for A in blocks:
        levels, p, _ = A.shape
        end = begin + levels * p
        if p == 1:
            np.multiply(A[:, 0], x[begin:end], out=out[begin:end])
        else:
            out[begin:end] = (A @ x[begin:end].reshape(levels, p, -1)).reshape(levels * p, -1)
        begin = end
    return out


def own_blocks(
    a: np.ndarray, b: np.ndarray, shapes: Sequence[tuple[int, int]]
) -> Iterator[np.ndarray]:
    """Give by term the own blocks `(levels, p, p, c)` of (a b' + b a') / 2, column by column."""
    begin = 0
    for levels, p in shapes:
        end = begin + levels * p
        left, right = a[begin:end].reshape(levels, p, -1), b[begin:end].reshape(levels, p, -1)
        product = left[:, :, None] * right[:, None]
        yield 0.5 * (product + product.swapaxes(1, 2))
        begin = end


@dataclass(frozen=True, eq=False)
class Probed:
    """
    What probes tell of a matrix S with own blocks P.

    S^-1 is estimated by P^-1 + (a b' + b a') / 2: exact in the space of the first `exact` columns,
    which take in what is common to the levels; every later column is one random probe's.

    Attributes
    ----------
    log_determinant, error
        Log |S|, and its Monte Carlo standard error.
    a, b
        `(q, c)`.
    c
        `(q, c)`: (a c' + c a') / 2 is the same estimate of minus P^-1 (S - P) P^-1, whose own
        blocks are known to be zero; what they are by the probes is taken off.
    """

    log_determinant: float
    error: float
    exact: int
    a: np.ndarray
    b: np.ndarray
    c: np.ndarray


@dataclass(frozen=True, eq=False)
class Space:
    """
    A space with an orthonormal basis V `(q, r)`, that is treated exactly.

    `x` is L^-T V, and `weighted` L V, P times it.
    """

    x: np.ndarray
    weighted: np.ndarray

    def without(self, x: np.ndarray) -> np.ndarray:
        """Take off the part of L' x, x `(q, c)`, in the space."""
        return x - self.x @ (self.weighted.T @ x)


@dataclass(frozen=True, eq=False)
class Prober:
    """
    Estimates about one matrix S, by its products.

    Notes
    -----
    With M = L^-1 S L^-T, log |S| = log |P| + tr f(M) where f(x) = log x - (x - 1): the diagonal of
    M - I is zero. What probes have to find is of second order in M - I. Hutchinson's estimator
    with Rademacher vectors outside a space that is treated exactly: Meyer, Musco, Musco & Woodruff
    (2021), SIAM Symposium on Simplicity in Algorithms, 142-155; for crossed effects, Kündig &
    Sigrist (2025), arXiv 2505.09552.
    """

    multiply: Product
    P: Preconditioner

    @cached_property
    def common(self) -> "Space":
        """What is common to a term's levels, columnwise."""
        q = sum(len(P) * P.shape[1] for P in self.P.blocks)
        C = np.zeros((q, sum(P.shape[1] for P in self.P.blocks)))
        row = column = 0
        for P in self.P.blocks:
            levels, p, _ = P.shape
            C[row : row + levels * p, column : column + p] = np.tile(np.eye(p), (levels, 1))
            row, column = row + levels * p, column + p
        return self._spanned(C)

    def _spanned(self, C: np.ndarray) -> "Space":
        """Give the space of L' C, C `(q, r)`."""
        weighted = blockwise(self.P.blocks, C)
        values, vectors = np.linalg.eigh(C.T @ weighted)
        kept = values > 1e-9 * values[-1]
        turn = vectors[:, kept] / np.sqrt(values[kept])
        return Space(C @ turn, weighted @ turn)

    def leading(self) -> "Space":
        """Widen the common space by what a random one becomes under powers of M - I."""
        x = self.P.solve(self._right(self.common, _LEADING))
        for _ in range(POWERS):
            x = self.common.without(self.P.solve(self.multiply(x)) - x)
            x /= np.sqrt(np.einsum("qc,qc->c", x, blockwise(self.P.blocks, x)))
        return self._spanned(np.hstack([self.common.x, x]))

    def _right(self, space: "Space", batch: int) -> np.ndarray:
        """Give L z `(q, PROBES)` for the random z of a batch, outside a space."""
        rng = np.random.default_rng([SEED, batch])
        z = rng.integers(2, size=(len(space.x), PROBES)) * 2.0 - 1.0
        right = blockwise(self.P.roots, z)
        return right - space.weighted @ (space.x.T @ right)

    def _solved(self, right: np.ndarray) -> Krylov:
        return conjugate_gradients(self.multiply, self.P.solve, right, TOLERANCE)

    def probe(self) -> Probed:
        """Estimate the log determinant and the inverse."""
        space, r = self.common, self.common.x.shape[1]
        right = np.hstack([space.weighted, self._right(space, 0)])
        run = self._solved(right)
        parts = run.quadrature(_second_order)
        a = self.P.solve(right)
        b = self._halved(run.x - a)
        c = self._halved(a - self.P.solve(self.multiply(a)))
        return Probed(
            self.P.log_determinant + float(parts[:r].sum() + parts[r:].mean()),
            _error(parts[r:]),
            r,
            a,
            b,
            c,
        )

    def _halved(self, F: np.ndarray) -> np.ndarray:
        """Turn L^-T F [V, z] into b, with which F is V V'F + F V V' - V V'FV V' + a mean."""
        r = self.common.x.shape[1]
        found = self.common.without(F)
        found[:, r:] /= F.shape[1] - r
        # Of what lies in V once from the left and once from the right, half is counted.
        found[:, :r] += F[:, :r]
        return found

    def log_determinants(self) -> Iterator[tuple[float, float]]:
        """Give log |S| and its standard error by one more batch of probes after the other."""
        space = self.leading()
        exact = self._solved(space.weighted).quadrature(_second_order).sum()
        known, parts, batch = self.P.log_determinant + float(exact), np.empty(0), 0
        while True:
            batch += 1
            more = self._solved(self._right(space, batch)).quadrature(_second_order)
            parts = np.concatenate([parts, more])
            yield known + float(parts.mean()), _error(parts)


def _second_order(x: np.ndarray) -> np.ndarray:
    return np.log(x) - (x - 1)


def _error(parts: np.ndarray) -> float:
    return float(np.std(parts, ddof=1) / np.sqrt(len(parts)))
