"""The Hessian of the effects by blocks: the largest grouping eliminated, the rest dense."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Self

import numpy as np

from glmm_bayes.engine.algebra import rowsums, schur
from glmm_bayes.engine.algebra.blocked_factor import BlockedFactor
from glmm_bayes.engine.algebra.lapack import lapack
from glmm_bayes.engine.latent import Latent, Precisions, Term


@dataclass(frozen=True, eq=False)
class Blocked:
    """
    Rows that each belong to one level of every term, with effects in one predictor.

    The terms on the largest grouping are the first block, k effects a level; the other terms'
    effects, and the p coefficients of `X`, are the second. Its dense part has as many columns as
    these together.

    Attributes
    ----------
    latent
        The random terms.
    X
        `(n, p)` the fixed columns that may be integrated out too.
    order
        `(n,)` the model's rows in the order of the first block's levels, in which all arrays of
        rows are taken and given.
    first, second
        The numbers of the terms in each block.
    """

    latent: Latent
    X: np.ndarray
    order: np.ndarray
    first: tuple[int, ...]
    second: tuple[int, ...]
    ptr: np.ndarray
    Z: np.ndarray
    entries: np.ndarray
    values: np.ndarray
    where: np.ndarray
    tp: np.ndarray
    cols: np.ndarray
    term: np.ndarray
    within: np.ndarray
    sizes: np.ndarray

    has_root: ClassVar[bool] = True
    moves_by_levels: ClassVar[bool] = True

    @classmethod
    def build(cls, latent: Latent, X: np.ndarray) -> Self:
        """Sort the rows, and find which levels meet."""
        # Without any term, all rows are in one level without effects.
        nothing = Term(1, 0, np.zeros((latent.n, 1), int), np.ones((latent.n, 1)), {})
        # Levels that depend on each other cannot be eliminated one by one.
        free = [t for t in latent.terms if t.pattern is None]
        largest = max([*free, nothing], key=lambda t: t.q)
        first = tuple(
            i
            for i, t in enumerate(latent.terms)
            if t.pattern is None and t.q == largest.q and np.array_equal(t.index, largest.index)
        )
        second = tuple(i for i in range(len(latent.terms)) if i not in first)
        order = np.argsort(largest.index[:, 0], kind="stable")
        ptr = np.concatenate(
            [[0], np.cumsum(np.bincount(largest.index[:, 0], minlength=largest.q))]
        )
        predictor = latent.predictors[0]

        def columns(i: int) -> np.ndarray:
            term = latent.terms[i]
            return (term.Z[predictor] * term.weights)[order]

        entries, values, term, within = (
            [np.empty((latent.n, 0), int)],
            [np.empty((latent.n, 0))],
            [],
            [],
        )
        begin = 0
        for t, i in enumerate(second):
            q, p = latent.terms[i].q, latent.terms[i].p
            entries.append(begin + latent.terms[i].index[order] * p + np.arange(p))
            values.append(columns(i))
            term.append(np.full(q * p, t))
            within.append(np.tile(np.arange(p), q))
            begin += q * p
        entry = np.ascontiguousarray(np.hstack(entries))
        where, tp, cols = rowsums.find_pattern(ptr, entry, begin)
        return cls(
            latent=latent,
            X=np.ascontiguousarray(X[order]),
            order=order,
            first=first,
            second=second,
            ptr=ptr,
            Z=np.ascontiguousarray(np.hstack([np.empty((latent.n, 0)), *map(columns, first)])),
            entries=entry,
            values=np.ascontiguousarray(np.hstack(values)),
            where=where,
            tp=tp,
            cols=cols,
            term=np.concatenate([*term, np.empty(0, int)]),
            within=np.concatenate([*within, np.empty(0, int)]),
            sizes=np.array([latent.terms[i].p for i in second], dtype=np.int64),
        )

    @property
    def k(self) -> int:
        """The number of effects of one level of the first block."""
        return self.Z.shape[1]

    @property
    def G(self) -> int:
        """The number of levels of the first block."""
        return len(self.ptr) - 1

    @property
    def p(self) -> int:
        """The number of coefficients in the second block."""
        return self.X.shape[1]

    @property
    def q2(self) -> int:
        """The number of effects in the second block."""
        return len(self.term)

    # ---- between the model's order of effects and the blocks'

    def to_blocks(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cut effects `(N,)` into the blocks' `(G, k)` and `(q2,)`."""
        parts = self.latent.split(u)
        blank = np.empty((self.G, 0))
        first = np.ascontiguousarray(np.hstack([blank, *(parts[i] for i in self.first)]))
        return first, np.concatenate([*(parts[i].ravel() for i in self.second), np.empty(0)])

    def from_blocks(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Put the blocks' effects back into the model's order."""
        u, at, begin = np.empty(self.latent.size), 0, 0
        for i in self.first:
            p = self.latent.terms[i].p
            u[self.latent.places[i]] = first[:, at : at + p].ravel()
            at += p
        for i in self.second:
            size = self.latent.terms[i].size
            u[self.latent.places[i]] = second[begin : begin + size]
            begin += size
        return u

    @cached_property
    def prior_places(self) -> list[tuple[np.ndarray, np.ndarray] | None]:
        """By term, the rows and columns `(pairs, p)` of its precision in the second block."""
        found: list[tuple[np.ndarray, np.ndarray] | None] = [None] * len(self.latent.terms)
        begin = 0
        for i in self.second:
            term = self.latent.terms[i]
            if term.pattern is not None:
                at = begin + term.pattern.pairs[:, :, None] * term.p + np.arange(term.p)
                found[i] = at[:, 0], at[:, 1]
            begin += term.size
        return found

    @cached_property
    def held(self) -> np.ndarray | None:
        """What is added `(q2, q2)` of the terms' held directions, if there are any."""
        parts = [self.latent.terms[i] for i in self.second]
        if all(term.pattern is None or term.pattern.held is None for term in parts):
            return None
        found, begin = np.zeros((self.q2, self.q2)), 0
        for term in parts:
            at = slice(begin, begin + term.size)
            if term.pattern is not None and term.pattern.held is not None:
                found[at, at] = np.kron(term.pattern.held.T @ term.pattern.held, np.eye(term.p))
            begin += term.size
        return found

    def at(self, Lambdas: Sequence[np.ndarray], precisions: Precisions | None = None) -> "Spread":
        """Fix the factors of the terms' covariances, and the precisions between their levels."""
        L1 = np.zeros((self.k, self.k))
        begin = 0
        for i in self.first:
            p = self.latent.terms[i].p
            L1[begin : begin + p, begin : begin + p] = Lambdas[i]
            begin += p
        widest = max((int(s) for s in self.sizes), default=1)
        L2 = np.zeros((max(len(self.second), 1), widest, widest))
        for t, i in enumerate(self.second):
            L2[t, : self.sizes[t], : self.sizes[t]] = Lambdas[i]
        return Spread(self, list(Lambdas), self.latent.completed(precisions), L1, L2)

    def cross_products(self, W: np.ndarray, *, with_x: bool) -> "CrossProducts":
        """Sum the products of the rows' columns, with weights W `(1, 1, n)`."""
        G, k, Q = self.G, self.k, self.q2 + self.p
        size = k * (int(self.tp[-1]) + G * self.p)
        found = CrossProducts(np.empty((G, k, k)), np.empty(size), np.empty((Q, Q)))
        rowsums.accumulate(
            W[0, 0], self.ptr, self.Z, self.entries, self.values, self.where, self.tp,
            self.X, with_x, found.C11, found.C12, found.A22,
        )  # fmt: skip
        return found

    def multiply(self, products: "CrossProducts", b: np.ndarray, gamma: np.ndarray) -> np.ndarray:
        """Give Z'W (Z b + X gamma) `(N,)` from the cross-products."""
        b1, b2 = self.to_blocks(b)
        s1, s2 = np.empty_like(b1), np.empty(self.q2)
        rowsums.multiply(
            products.C11, products.C12, products.A22, self.tp, self.cols, self.p, self.q2, b1,
            np.concatenate([b2, gamma]), s1, s2,
        )  # fmt: skip
        return self.from_blocks(s1, s2)


@dataclass(frozen=True, eq=False)
class CrossProducts:
    """Weighted cross-products of the blocks: `(G, k, k)`, packed as in `schur`, `(Q, Q)` lower."""

    C11: np.ndarray
    C12: np.ndarray
    A22: np.ndarray


@dataclass(frozen=True, eq=False)
class Spread:
    """The blocks with Lambda given: products with J = Z Lambda, and the Hessian J' W J + I."""

    system: Blocked
    Lambdas: list[np.ndarray]
    precisions: Precisions
    L1: np.ndarray
    L2: np.ndarray

    def times_prior(self, u: np.ndarray) -> np.ndarray:
        """Give P u `(N,)`, P the effects' precision."""
        return self.system.latent.times_prior(u, self.precisions)

    def eta(self, u: np.ndarray) -> np.ndarray:
        """Give J u, `(1, n)`."""
        s = self.system
        b = np.concatenate(
            [part.ravel() for part in s.latent.effects(u, self.Lambdas)] or [np.empty(0)]
        )
        b1, b2 = s.to_blocks(b)
        eta = np.zeros((1, s.latent.n))
        rowsums.predict(s.ptr, s.Z, s.entries, s.values, b1, b2, eta[0])
        return eta

    def collect(self, r: np.ndarray) -> list[np.ndarray]:
        """Give Z' r of every term, `(q, p)`, from `(1, n)`."""
        s = self.system
        s1, s2 = np.empty((s.G, s.k)), np.empty(s.q2)
        rowsums.collect(s.ptr, s.Z, s.entries, s.values, r[0], s1, s2)
        return s.latent.split(s.from_blocks(s1, s2))

    def factor(
        self, W: np.ndarray, *, joint: bool, ridge: np.ndarray | None = None
    ) -> BlockedFactor:
        """Factor the Hessian with weights W `(1, 1, n)`, with the coefficients if `joint`."""
        products = self.system.cross_products(W, with_x=joint)
        return self.factor_products(products, joint=joint, ridge=ridge)

    def factor_products(
        self, products: CrossProducts, *, joint: bool, ridge: np.ndarray | None = None
    ) -> BlockedFactor:
        """
        Factor the Hessian of given cross-products.

        Parameters
        ----------
        ridge
            `(k, k)` the precision of a normal prior of the coefficients, added to their part.

        Raises
        ------
        LinAlgError
            If it is not positive definite.
        """
        s = self.system
        used = s.p if joint else 0
        Q = s.q2 + used
        Ainv, Gm, S = np.empty_like(products.C11), np.empty_like(products.C12), np.empty((Q, Q))
        schur.second_block(products.A22, s.q2, used, s.term, s.within, s.sizes, self.L2, S)
        for at, precision in zip(s.prior_places, self.precisions, strict=True):
            if at is not None and precision is not None:
                rows, columns = at
                S[rows, columns] += precision.values[:, None]
                S[rows[rows == columns], rows[rows == columns]] -= 1.0
        if s.held is not None:
            S[: s.q2, : s.q2] += s.held
        if used and ridge is not None:
            S[s.q2 :, s.q2 :] += ridge
        log_first = schur.eliminate(
            products.C11, products.C12, self.L1, s.tp, s.cols, s.p, used, s.q2, s.term, s.within,
            s.sizes, self.L2, Ainv, Gm, S,
        )  # fmt: skip
        L, info = lapack().dpotrf(S.T, lower=0, clean=1, overwrite_a=1) if Q else (S, 0)
        if info or not (np.isfinite(log_first) and np.isfinite(np.diag(L)).all()):
            raise np.linalg.LinAlgError("the Hessian of the effects is not positive definite")
        pivots = 2 * np.log(np.diag(L))
        return BlockedFactor(self, products, used, Ainv, Gm, L, float(log_first), pivots)
