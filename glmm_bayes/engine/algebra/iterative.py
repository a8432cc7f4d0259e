"""The Hessian of the effects by products alone, solved by iterations and estimated by probes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Self

import numpy as np

from glmm_bayes.engine.algebra import blocked, crossings, rowsums
from glmm_bayes.engine.algebra.estimated import Estimated
from glmm_bayes.engine.algebra.lapack import lapack, squared_inverse
from glmm_bayes.engine.algebra.probes import Preconditioner, blockwise
from glmm_bayes.engine.algebra.reduced import Products, Reduced
from glmm_bayes.engine.latent import Latent, Precisions

GOOD, MOST = 0.1, 16  # standard error of a log likelihood that is wanted; batches of probes for it


@dataclass(frozen=True, eq=False)
class Iterative:
    """
    Rows that each belong to one level of every term, however many levels meet.

    Memory is linear in the rows. What is not a solution of equations is estimated by random
    probes, the same for every Lambda, and has a Monte Carlo standard error.

    Attributes
    ----------
    blocks
        The effects in two blocks, and which meet: see `Blocked`.
    """

    blocks: blocked.Blocked

    @classmethod
    def build(cls, latent: Latent, X: np.ndarray) -> Self:
        """Sort the rows, and find which levels meet."""
        return cls(blocked.Blocked.build(latent, X))

    has_root: ClassVar[bool] = False

    @property
    def latent(self) -> Latent:
        """The random terms."""
        return self.blocks.latent

    @property
    def order(self) -> np.ndarray:
        """`(n,)` the model's rows in the order in which arrays of rows are taken and given."""
        return self.blocks.order

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """The second block's terms' levels and columns."""
        terms = [self.latent.terms[i] for i in self.blocks.second]
        return [(term.q, term.p) for term in terms]

    @property
    def crossed(self) -> bool:
        """Whether the second block's effects meet each other beyond their own blocks."""
        return len(self.blocks.second) > 1

    def at(
        self, Lambdas: Sequence[np.ndarray], precisions: Precisions | None = None
    ) -> "IterativeSpread":
        """Fix the factors of the terms' covariances; their levels are independent."""
        return IterativeSpread(self, self.blocks.at(Lambdas, precisions))

    def cross_products(self, W: np.ndarray, *, with_x: bool) -> Products:
        """Sum the products of the rows' columns, with weights W `(1, 1, n)`."""
        s, w = self.blocks, W[0, 0]
        widest = max((p for _, p in self.shapes), default=1)
        C11, C12 = np.empty((s.G, s.k, s.k)), np.empty(s.k * int(s.tp[-1]))
        D22 = np.empty((s.q2, widest))
        crossings.accumulate(
            w, s.ptr, s.Z, s.entries, s.values, s.where, s.tp, s.sizes, C11, C12, D22
        )
        ZX = np.empty((self.latent.size, s.p if with_x else 0))
        for c in range(ZX.shape[1]):
            ZX[:, c] = self._collected(w * s.X[:, c])
        X = s.X[:, : ZX.shape[1]]
        return Products(w, C11, C12, D22, ZX, X.T @ (w[:, None] * X))

    def multiply(self, products: Products, b: np.ndarray, gamma: np.ndarray) -> np.ndarray:
        """Give Z'W (Z b + X gamma) `(N,)`, effects on their own scale."""
        s = self.blocks
        b1, b2 = s.to_blocks(b)
        eta = s.X @ gamma
        rowsums.predict(s.ptr, s.Z, s.entries, s.values, b1, b2, eta)
        return self._collected(products.w * eta)

    def _collected(self, r: np.ndarray) -> np.ndarray:
        s = self.blocks
        s1, s2 = np.empty((s.G, s.k)), np.empty(s.q2)
        rowsums.collect(s.ptr, s.Z, s.entries, s.values, r, s1, s2)
        return s.from_blocks(s1, s2)


@dataclass(frozen=True, eq=False)
class IterativeSpread:
    """The blocks with Lambda given: products with J = Z Lambda, and the Hessian J' W J + I."""

    system: Iterative
    inner: blocked.Spread

    @property
    def precisions(self) -> Precisions:
        """None for any term."""
        return self.inner.precisions

    def times_prior(self, u: np.ndarray) -> np.ndarray:
        """Give u: the effects' precision is one."""
        return u

    @property
    def Lambdas(self) -> list[np.ndarray]:
        """The factors of the terms' covariances."""
        return self.inner.Lambdas

    @property
    def second(self) -> list[np.ndarray]:
        """Those of the second block's terms."""
        return [self.inner.Lambdas[i] for i in self.system.blocks.second]

    @cached_property
    def moved(self) -> np.ndarray:
        """The rows' J `(n, e)` in the second block."""
        s, begin = self.system.blocks, 0
        moved = np.empty_like(s.values)
        for L in self.second:
            at = slice(begin, begin + len(L))
            moved[:, at] = s.values[:, at] @ L
            begin += len(L)
        return moved

    def eta(self, u: np.ndarray) -> np.ndarray:
        """Give J u, `(1, n)`."""
        return self.inner.eta(u)

    def collect(self, r: np.ndarray) -> list[np.ndarray]:
        """Give Z' r of every term, `(q, p)`, from `(1, n)`."""
        return self.inner.collect(r)

    def own_scale(self, x1: np.ndarray, x2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give Lambda times the blocks' `(G, k, c)` and `(q2, c)`."""
        each = [
            np.broadcast_to(L, (q, p, p))
            for L, (q, p) in zip(self.second, self.system.shapes, strict=True)
        ]
        return np.ascontiguousarray(self.inner.L1 @ x1), blockwise(each, x2)

    def in_units(self, parts: np.ndarray) -> np.ndarray:
        """Go from Z' r `(N,)` to J' r."""
        split = self.system.latent.split(parts)
        return np.concatenate([(s @ L).ravel() for s, L in zip(split, self.Lambdas, strict=True)])

    def factor(
        self, W: np.ndarray, *, joint: bool, ridge: np.ndarray | None = None
    ) -> "IterativeFactor":
        """Prepare the Hessian with weights W `(1, 1, n)`, with the coefficients if `joint`."""
        products = self.system.cross_products(W, with_x=joint)
        return self.factor_products(products, joint=joint, ridge=ridge)

    def factor_products(
        self, products: Products, *, joint: bool, ridge: np.ndarray | None = None
    ) -> "IterativeFactor":
        """
        Prepare the Hessian of given cross-products.

        Parameters
        ----------
        ridge
            `(k, k)` the precision of a normal prior of the coefficients, added to their part.

        Raises
        ------
        LinAlgError
            If it is found not to be positive definite.
        """
        s = self.system.blocks
        H22 = self._own_hessian(products.D22)
        own, Ainv, B = H22.copy(), np.empty_like(products.C11), np.empty_like(products.C12)
        log_first = crossings.eliminate(
            products.C11, products.C12, self.inner.L1, s.tp, s.cols, s.term, s.within, s.sizes,
            self.inner.L2, Ainv, B, own,
        )  # fmt: skip
        if not (np.isfinite(log_first) and np.isfinite(own).all()):
            raise np.linalg.LinAlgError("the Hessian of the effects is not positive definite")
        moved = self.moved if self.system.crossed else None
        P = Preconditioner(self.cut(own))
        reduced = Reduced(s, products, moved, Ainv, B, H22, P, float(log_first))
        alone = IterativeFactor(self, reduced, np.empty((s.latent.size, 0)), np.empty((0, 0)))
        return alone.bordered(ridge) if joint and s.p else alone

    def _own_hessian(self, D22: np.ndarray) -> np.ndarray:
        """Give the own blocks `(q2, widest)` of the second block's J' W J + I."""
        found, begin = np.zeros_like(D22), 0
        for D, L in zip(self.cut(D22), self.second, strict=True):
            levels, p, _ = D.shape
            part = L.T @ D @ L + np.eye(p)
            found[begin : begin + levels * p, :p] = part.reshape(-1, p)
            begin += levels * p
        return found

    def cut(self, own: np.ndarray) -> list[np.ndarray]:
        """Cut own blocks `(q2, widest)` into the terms' `(q, p, p)`."""
        found, begin = [], 0
        for q, p in self.system.shapes:
            found.append(own[begin : begin + q * p, :p].reshape(q, p, p))
            begin += q * p
        return found

    def flat(self, blocks: Sequence[np.ndarray]) -> np.ndarray:
        """Put the terms' own blocks one below the other, `(q2, widest)`."""
        s, begin = self.system.blocks, 0
        found = np.zeros((s.q2, max((A.shape[1] for A in blocks), default=1)))
        for A in blocks:
            levels, p, _ = A.shape
            found[begin : begin + levels * p, :p] = A.reshape(-1, p)
            begin += levels * p
        return found


@dataclass(frozen=True, eq=False)
class IterativeFactor:
    """
    The Hessian H of the effects, and of the coefficients where they are in it, ready to be solved.

    `M` `(N, k)` is the effects' regression on the coefficients; L' L, `L` upper, the coefficients'
    Schur complement.
    """

    spread: IterativeSpread
    reduced: Reduced
    M: np.ndarray
    L: np.ndarray

    def effects_only(self) -> "IterativeFactor":
        """Give the factor of the effects' part of H."""
        return replace(self, M=self.M[:, :0], L=self.L[:0, :0])

    def bordered(self, ridge: np.ndarray | None) -> "IterativeFactor":
        """Take the coefficients in, with the precision of their prior."""
        products = self.reduced.products
        right = np.column_stack([self.spread.in_units(column) for column in products.ZX.T])
        M = self._solved(right)
        XX = products.XX if ridge is None else products.XX + ridge
        L, info = lapack().dpotrf(XX - right.T @ M, lower=0, clean=1)
        if info:
            raise np.linalg.LinAlgError("the Hessian of the coefficients is not positive definite")
        return replace(self, M=M, L=L)

    # ---- solutions

    def _solved(self, right: np.ndarray) -> np.ndarray:
        """Solve the effects' equations for the columns of `(N, c)`."""
        s = self.spread.system.blocks
        pairs = [s.to_blocks(column) for column in right.T]
        g1 = np.stack([one for one, _ in pairs], axis=2)
        g2 = np.stack([two for _, two in pairs], axis=1)
        d1, d2 = self.reduced.solve(g1, g2)
        return np.column_stack([s.from_blocks(d1[:, :, c], d2[:, c]) for c in range(len(pairs))])

    def solve(self, gu: np.ndarray, gx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give H^-1 g: for the effects `(N,)` and the coefficients in H."""
        k = len(self.L)
        u = self._solved(gu[:, None])[:, 0]
        if not k:
            return u, np.empty(0)
        dx = lapack().dpotrs(self.L, gx[:k] - self.M.T @ gu, lower=0)[0]
        return u - self.M @ dx, dx

    def solve_root(self, zu: np.ndarray, zx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turn standard normals into normals of covariance H^-1."""
        s, k = self.spread.system.blocks, len(self.L)
        u = s.from_blocks(*self.reduced.solve_root(*s.to_blocks(zu)))
        if not k:
            return u, np.empty(0)
        dx = lapack().dtrtrs(self.L, zx[:k], lower=0)[0]
        return u - self.M @ dx, dx

    def coefficient_inverse(self) -> np.ndarray:
        """Give the coefficients' part of H^-1, `(k, k)`."""
        return squared_inverse(self.L)

    # ---- estimates

    @property
    def log_determinant(self) -> float:
        """Log |H|, estimated."""
        return self._exact_logs + self.reduced.probed.log_determinant

    @property
    def log_determinant_error(self) -> float:
        """The Monte Carlo standard error of log |H|."""
        return self.reduced.probed.error

    def better_log_determinant(self) -> tuple[float, float]:
        """Give log |H| and its standard error by as many probes as a likelihood needs."""
        value, error = self.reduced.better_log_determinant(2 * GOOD, MOST)
        return self._exact_logs + value, error

    @property
    def _exact_logs(self) -> float:
        return self.reduced.log_first + 2 * float(np.log(np.diag(self.L)).sum())

    @cached_property
    def estimated(self) -> Estimated:
        """The inverse's blocks, with their standard errors."""
        return Estimated(self.spread, self.reduced, self.M, self.coefficient_inverse())

    def traces(self) -> list[np.ndarray]:
        """Give each term's sum over its levels of the blocks of Z'WZ Lambda H^-1, `(p, p)`."""
        return [value for value, _ in self.estimated.traces]

    def prior_traces(self) -> list[None]:
        """Give None for every term: their levels are independent."""
        return [None] * len(self.spread.system.latent.terms)

    def leverages(self) -> np.ndarray:
        """Give each row's j' H^-1 j, `(1, 1, n)`: the variance of its eta."""
        return self.estimated.leverages[0][None, None]

    def variances(self) -> list[np.ndarray]:
        """Give the blocks of H^-1 of every level of every term, `(q, p, p)`."""
        return [value for value, _ in self.estimated.variances]
