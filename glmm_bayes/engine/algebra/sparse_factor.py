"""The factored sparse Hessian of the effects: solutions, traces and variances."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from glmm_bayes.engine.algebra.cholesky import Factor
from glmm_bayes.engine.algebra.lapack import lapack, squared_inverse
from glmm_bayes.engine.algebra.updated import Updated
from glmm_bayes.engine.kernels import compiled

if TYPE_CHECKING:
    from glmm_bayes.engine.algebra.sparse import SparseSpread


@compiled
def gather(W, place, moved, owner, inverse, rest, T, columns, h, slopes):
    """
    Write each row's J H^-1 J' `(R, R, n)`, and W J H^-1 at the rows' own effects `(n, E)`.

    `rest` `(R, n, k)` is what the coefficients in H leave of their columns, and `T` `(k, N)` their
    part of H^-1 times the effects' regression on them.
    """
    n, E = moved.shape
    R, k = rest.shape[0], rest.shape[2]
    y = np.empty((R, E))
    for i in range(n):
        y[:] = 0.0
        p = 0
        for a in range(E):
            for b in range(a + 1):
                v = inverse[place[i, p]]
                y[owner[a], b] += moved[i, a] * v
                if a != b:
                    y[owner[b], a] += moved[i, b] * v
                p += 1
        for r in range(R):
            for b in range(E):
                h[r, owner[b], i] += y[r, b] * moved[i, b]
        for r in range(R):
            for b in range(E):
                for c in range(k):
                    y[r, b] -= rest[r, i, c] * T[c, columns[i, b]]
        for b in range(E):
            s = 0.0
            for r in range(R):
                s += W[owner[b], r, i] * y[r, b]
            slopes[i, b] = s


@dataclass(frozen=True, eq=False)
class SparseFactor:
    """
    The factored Hessian H of the effects, and of the k coefficients where they are in it.

    `M` `(N, k)` is the effects' regression on the coefficients; L' L, `L` upper, the coefficients'
    Schur complement.
    """

    spread: "SparseSpread"
    W: np.ndarray
    factor: Factor | Updated
    M: np.ndarray
    L: np.ndarray

    log_determinant_error: ClassVar[float] = 0.0  # exact

    @property
    def log_determinant(self) -> float:
        """Log |H|."""
        return self.factor.log_determinant + 2 * float(np.log(np.diag(self.L)).sum())

    def effects_only(self) -> "SparseFactor":
        """Give the factor of the effects' part of H."""
        return replace(self, M=self.M[:, :0], L=self.L[:0, :0])

    def solve(self, gu: np.ndarray, gx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give H^-1 g: for the effects `(N,)` and the coefficients in H."""
        k = len(self.L)
        u = self.factor.solve(gu)
        if not k:
            return u, np.empty(0)
        dx = lapack().dpotrs(self.L, gx[:k] - self.M.T @ gu, lower=0)[0]
        return u - self.M @ dx, dx

    def solve_root(self, zu: np.ndarray, zx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turn standard normals into normals of covariance H^-1."""
        u, k = self.factor.solve_root(zu), len(self.L)
        if not k:
            return u, np.empty(0)
        dx = lapack().dtrtrs(self.L, zx[:k], lower=0)[0]
        return u - self.M @ dx, dx

    def root_slopes(self, gu: np.ndarray, gx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Carry slopes by what `solve_root` gives back to the normals: its transpose."""
        hu, k = self.factor.root_slopes(gu), len(self.L)
        if not k:
            return hu, np.empty(0)
        return hu, lapack().dtrtrs(self.L, gx[:k] - self.M.T @ gu, lower=0, trans=1)[0]

    def coefficient_inverse(self) -> np.ndarray:
        """Give the coefficients' part of H^-1, `(k, k)`."""
        return squared_inverse(self.L)

    @cached_property
    def _inverse(self) -> np.ndarray:
        return self.factor.selected_inverse()

    @cached_property
    def _gathered(self) -> tuple[np.ndarray, np.ndarray]:
        s, k, R = self.spread.system, len(self.L), len(self.W)
        rest = np.zeros((R, s.latent.n, k))
        if k:
            for c in range(k):
                rest[s.of[c], :, c] = s.X[:, c]
                rest[:, :, c] -= self.spread.eta(self.M[:, c])
        C = self.coefficient_inverse()
        T = np.ascontiguousarray(C @ self.M.T)
        h, slopes = np.zeros((R, R, s.latent.n)), np.empty_like(s.values)
        gather(
            self.W, s.place, self.spread.moved, s.owner, self._inverse, rest, T, s.columns, h,
            slopes,
        )  # fmt: skip
        return h + np.einsum("rnc,cd,snd->rsn", rest, C, rest), slopes

    def traces(self) -> list[np.ndarray]:
        """Give each term's sum over its levels of the blocks of Z'WZ Lambda H^-1, `(p, p)`."""
        s = self.spread.system
        found = [np.zeros((term.p, term.p)) for term in s.latent.terms]
        for block in s.blocks:
            found[block.term] += s.values[:, block.at].T @ self._gathered[1][:, block.at]
        return found

    def prior_traces(self) -> list[np.ndarray | None]:
        """Give the slopes `(pairs,)` of log |H| by each term's precision, None without one."""
        s, C = self.spread.system, self.coefficient_inverse()
        found: list[np.ndarray | None] = []
        for term, begin, at in zip(s.latent.terms, s.latent.places, s.prior_place, strict=True):
            if at is None or term.pattern is None:
                found.append(None)
                continue
            M = self.M[begin].reshape(term.q, term.p, -1)
            i, j = term.pattern.pairs.T
            part = self._inverse[at].sum(axis=1) + np.einsum("kac,cd,kad->k", M[i], C, M[j])
            found.append(term.pattern.twice * part)
        return found

    def leverages(self) -> np.ndarray:
        """Give each row's J H^-1 J', `(R, R, n)`: the covariance of its predictors."""
        return self._gathered[0]

    def variances(self) -> list[np.ndarray]:
        """Give the blocks of H^-1 of every level of every term, `(q, p, p)`."""
        s, C = self.spread.system, self.coefficient_inverse()
        found = []
        for term, begin in zip(s.latent.terms, s.latent.places, strict=True):
            levels = begin.start + np.arange(term.size).reshape(term.q, term.p)
            at = s.symbolic.places(levels)
            part, k = np.empty((term.q, term.p, term.p)), 0
            for a in range(term.p):
                for b in range(a + 1):
                    part[:, a, b] = part[:, b, a] = self._inverse[at[:, k]]
                    k += 1
            M = self.M[begin].reshape(term.q, term.p, -1)
            found.append(part + np.einsum("qac,cd,qbd->qab", M, C, M))
        return found
