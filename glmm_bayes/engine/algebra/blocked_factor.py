"""The factored Hessian of the effects by blocks: solutions, traces and variances."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from glmm_bayes.engine.algebra import rowsums, schur
from glmm_bayes.engine.algebra.lapack import lapack, squared_inverse

if TYPE_CHECKING:
    from glmm_bayes.engine.algebra.blocked import CrossProducts, Spread


@dataclass(frozen=True, eq=False)
class BlockedFactor:
    """
    The factored Hessian H of the effects, and of the coefficients where they are in it.

    `L` is upper: the second block's Schur complement is L' L.
    """

    spread: "Spread"
    products: "CrossProducts"
    used: int
    Ainv: np.ndarray
    Gm: np.ndarray
    L: np.ndarray
    log_first: float
    pivots: np.ndarray

    log_determinant_error: ClassVar[float] = 0.0  # exact

    @property
    def log_determinant(self) -> float:
        """Log |H|."""
        return self.log_first + float(self.pivots.sum())

    def effects_only(self) -> "BlockedFactor":
        """Give the factor of the effects' part of H."""
        q2 = self.spread.system.q2
        return replace(self, used=0, L=np.asfortranarray(self.L[:q2, :q2]), pivots=self.pivots[:q2])

    def solve(self, gu: np.ndarray, gx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give H^-1 g: for the effects `(N,)` and the coefficients in H."""
        s = self.spread.system
        g1, g2 = s.to_blocks(gu)
        right = np.empty(s.q2 + self.used)
        full = np.concatenate([g2, gx[: self.used]])
        schur.reduce_right(g1, full, self.Gm, s.tp, s.cols, s.p, self.used, s.q2, right)
        d2 = lapack().dpotrs(self.L, right, lower=0)[0] if len(right) else right
        return self._back(g1, d2)

    def _back(self, g1: np.ndarray, d2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        s = self.spread.system
        d1 = np.empty_like(g1)
        schur.back_substitute(g1, d2, self.Ainv, self.Gm, s.tp, s.cols, s.p, self.used, s.q2, d1)
        return s.from_blocks(d1, d2[: s.q2]), d2[s.q2 :]

    def solve_root(self, zu: np.ndarray, zx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turn standard normals into normals of covariance H^-1."""
        s = self.spread.system
        z1, z2 = s.to_blocks(zu)
        right = np.concatenate([z2, zx[: self.used]])
        d2 = lapack().dtrtrs(self.L, right, lower=0)[0] if len(right) else right
        mean, coefficients = self._back(np.zeros_like(z1), d2)
        noise = np.einsum("gab,gb->ga", self._roots, z1)
        return mean + s.from_blocks(noise, np.zeros(s.q2)), coefficients

    def root_slopes(self, gu: np.ndarray, gx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Carry slopes by what `solve_root` gives back to the normals: its transpose."""
        s = self.spread.system
        g1, g2 = s.to_blocks(gu)
        right = np.empty(s.q2 + self.used)
        full = np.concatenate([g2, gx[: self.used]])
        schur.reduce_right(g1, full, self.Gm, s.tp, s.cols, s.p, self.used, s.q2, right)
        h2 = lapack().dtrtrs(self.L, right, lower=0, trans=1)[0] if len(right) else right
        h1 = np.einsum("gba,gb->ga", self._roots, g1)
        return s.from_blocks(h1, h2[: s.q2]), h2[s.q2 :]

    @cached_property
    def _roots(self) -> np.ndarray:
        """Factors `(G, k, k)` of the first block's conditional covariances."""
        return np.linalg.cholesky(self.Ainv)

    @cached_property
    def Sinv(self) -> np.ndarray:
        """The second block's part of H^-1, `(Q, Q)`."""
        if not len(self.pivots):
            return np.empty((0, 0))
        # In C's order, whose rows the passes read, the upper triangle is the lower one.
        inverse = lapack().dpotri(self.L, lower=0)[0].T
        schur.mirror(inverse)
        return inverse

    @cached_property
    def _traces(self) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """H11 `(G, k, k)`, V (laid out like C12), and every term's sum of (Z'WZ Lambda H^-1)."""
        spread, s = self.spread, self.spread.system
        H11, V = np.empty_like(self.Ainv), np.zeros_like(self.Gm)
        D2 = np.zeros_like(spread.L2)
        full = schur.traces(
            self.products.C11, self.products.C12, spread.L1, s.tp, s.cols, s.p, self.used, s.q2,
            s.term, s.within, s.sizes, spread.L2, self.Ainv, self.Gm, self.Sinv, H11, V, D2,
        )  # fmt: skip
        schur.own_traces(
            self.products.A22, s.q2, self.used, s.term, s.within, s.sizes, spread.L2, self.Sinv, D2
        )
        found: list[np.ndarray] = [np.empty(0)] * len(s.latent.terms)
        begin = 0
        for i in s.first:
            p = s.latent.terms[i].p
            found[i] = full[begin : begin + p, begin : begin + p]
            begin += p
        for t, i in enumerate(s.second):
            p = s.latent.terms[i].p
            found[i] = D2[t, :p, :p]
        return H11, V, found

    def coefficient_inverse(self) -> np.ndarray:
        """Give the coefficients' part of H^-1, `(k, k)`."""
        q2 = self.spread.system.q2
        return squared_inverse(self.L[q2:, q2:])

    def traces(self) -> list[np.ndarray]:
        """Give each term's sum over its levels of the blocks of Z'WZ Lambda H^-1, `(p, p)`."""
        return self._traces[2]

    def prior_traces(self) -> list[np.ndarray | None]:
        """Give the slopes `(pairs,)` of log |H| by each term's precision, None without one."""
        s = self.spread.system
        return [
            None
            if at is None or term.pattern is None
            else term.pattern.twice * self.Sinv[at].sum(axis=1)
            for term, at in zip(s.latent.terms, s.prior_places, strict=True)
        ]

    def leverages(self) -> np.ndarray:
        """Give each row's j' H^-1 j, `(1, 1, n)`: the variance of its eta."""
        spread, s = self.spread, self.spread.system
        H11, V, _ = self._traces
        moved, begin = np.empty_like(s.values), 0
        for t, size in enumerate(s.sizes):
            part = s.values[:, begin : begin + size]
            moved[:, begin : begin + size] = part @ spread.L2[t, :size, :size]
            begin += size
        h = np.empty(s.latent.n)
        rowsums.leverages(
            s.ptr, s.Z, spread.L1, s.entries, s.where, moved, s.tp, s.X, self.used, s.q2, H11, V,
            self.Sinv, h,
        )  # fmt: skip
        return h[None, None]

    def variances(self) -> list[np.ndarray]:
        """Give the blocks of H^-1 of every level of every term, `(q, p, p)`."""
        s = self.spread.system
        H11 = self._traces[0]
        found: list[np.ndarray] = [np.empty(0)] * len(s.latent.terms)
        begin = 0
        for i in s.first:
            p = s.latent.terms[i].p
            found[i] = H11[:, begin : begin + p, begin : begin + p]
            begin += p
        begin = 0
        for i in s.second:
            term = s.latent.terms[i]
            at = begin + np.arange(term.size).reshape(term.q, term.p)
            found[i] = self.Sinv[at[:, :, None], at[:, None, :]]
            begin += term.size
        return found
