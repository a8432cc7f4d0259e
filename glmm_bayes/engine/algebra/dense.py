"""The Hessian of the effects as one dense matrix, for small models: nothing has to be compiled."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Self

import numpy as np

from glmm_bayes.engine.columns import add, of_first
from glmm_bayes.engine.latent import Latent, Precisions


@dataclass(frozen=True, eq=False)
class Dense:
    """
    Any terms and predictors, each predictor's Z written out: `(R, n, N)`.

    `X` `(n, k)` are fixed columns, which may be integrated out too: of the first predictor, or
    else `of` `(k,)` the predictors at these positions.
    """

    latent: Latent
    X: np.ndarray
    Z: np.ndarray
    of: np.ndarray | None = None

    order: ClassVar[slice] = slice(None)  # rows are taken and given as the model has them
    has_root: ClassVar[bool] = True
    moves_by_levels: ClassVar[bool] = False

    @classmethod
    def build(cls, latent: Latent, X: np.ndarray, of: np.ndarray | None = None) -> Self:
        """Write Z out."""
        Z = np.zeros((len(latent.predictors), latent.n, latent.size))
        rows = np.arange(latent.n)[:, None]
        for term, begin in zip(latent.terms, latent.places, strict=True):
            for r, predictor in enumerate(latent.predictors):
                for member in range(term.index.shape[1]) if predictor in term.Z else ():
                    at = begin.start + term.index[:, member, None] * term.p + np.arange(term.p)
                    np.add.at(Z[r], (rows, at), term.Z[predictor] * term.weights[:, [member]])
        return cls(latent, np.ascontiguousarray(X), Z, of)

    def at(
        self, Lambdas: Sequence[np.ndarray], precisions: Precisions | None = None
    ) -> "DenseSpread":
        """Fix the factors of the terms' covariances, and the precisions between their levels."""
        R, n, _ = self.Z.shape
        J = np.empty_like(self.Z)
        for term, at, L in zip(self.latent.terms, self.latent.places, Lambdas, strict=True):
            part = self.Z[:, :, at].reshape(R, n, term.q, term.p) @ L
            J[:, :, at] = part.reshape(R, n, -1)
        return DenseSpread(self, list(Lambdas), self.latent.completed(precisions), J)

    def cross_products(self, W: np.ndarray, *, with_x: bool) -> np.ndarray:
        """Keep the weights `(R, R, n)`: the rows are passed over for every Lambda."""
        return W

    def multiply(self, products: np.ndarray, b: np.ndarray, gamma: np.ndarray) -> np.ndarray:
        """Give Z'W (Z b + X gamma) `(N,)`, effects on their own scale."""
        eta = self.Z @ b
        add(eta, self.X, of_first(self.X, self.of), gamma)
        r = np.einsum("rsn,sn->rn", products, eta)
        return np.einsum("rnj,rn->j", self.Z, r)


@dataclass(frozen=True, eq=False)
class DenseSpread:
    """The rows with Lambda given: J = Z Lambda `(R, n, N)`, and the Hessian J' W J + I."""

    system: Dense
    Lambdas: list[np.ndarray]
    precisions: Precisions
    J: np.ndarray

    def times_prior(self, u: np.ndarray) -> np.ndarray:
        """Give P u `(N,)`, P the effects' precision."""
        return self.system.latent.times_prior(u, self.precisions)

    def eta(self, u: np.ndarray) -> np.ndarray:
        """Give J u, `(R, n)`."""
        return self.J @ u

    def collect(self, r: np.ndarray) -> list[np.ndarray]:
        """Give Z' r of every term, `(q, p)`, from `(R, n)`."""
        return self.system.latent.split(
            sum(Z.T @ part for Z, part in zip(self.system.Z, r, strict=True))
        )

    def factor_products(
        self, products: np.ndarray, *, joint: bool, ridge: np.ndarray | None = None
    ) -> "DenseFactor":
        """Factor the Hessian with given weights: see `factor`."""
        return self.factor(products, joint=joint, ridge=ridge)

    def factor(
        self, W: np.ndarray, *, joint: bool, ridge: np.ndarray | None = None
    ) -> "DenseFactor":
        """
        Factor the Hessian with weights W `(R, R, n)`, with the coefficients if `joint`.

        Parameters
        ----------
        ridge
            `(k, k)` the precision of a normal prior of the coefficients, added to their part.

        Raises
        ------
        LinAlgError
            If it is not positive definite.
        """
        s, N = self.system, self.system.latent.size
        K = self.J
        if joint:
            columns = np.zeros((len(W), *s.X.shape))
            for c, a in enumerate(of_first(s.X, s.of)):
                columns[a, :, c] = s.X[:, c]
            K = np.concatenate([self.J, columns], axis=2)
        WK = [sum(w[:, None] * part for w, part in zip(row, K, strict=True)) for row in W]
        H = sum(part.T @ weighted for part, weighted in zip(K, WK, strict=True))
        H[:N, :N] += self.system.latent.dense_prior(self.precisions)
        if joint and ridge is not None:
            H[N:, N:] += ridge
        if not np.isfinite(H).all():
            raise np.linalg.LinAlgError("the Hessian of the effects is not finite")
        return DenseFactor(self, K, np.stack(WK), H, np.linalg.cholesky(H))


@dataclass(frozen=True, eq=False)
class DenseFactor:
    """
    The Hessian H of the effects, and of the coefficients where they are in it; L lower, H = L L'.

    `K` `(R, n, Q)` are the columns of both, and `WK` these weighted.
    """

    spread: DenseSpread
    K: np.ndarray
    WK: np.ndarray
    H: np.ndarray
    L: np.ndarray

    log_determinant_error: ClassVar[float] = 0.0  # exact

    @property
    def log_determinant(self) -> float:
        """Log |H|."""
        return 2 * float(np.log(np.diag(self.L)).sum())

    def effects_only(self) -> "DenseFactor":
        """Give the factor of the effects' part of H."""
        N = self.spread.system.latent.size
        return replace(
            self,
            K=self.K[:, :, :N],
            WK=self.WK[:, :, :N],
            H=self.H[:N, :N],
            L=self.L[:N, :N],
        )

    @cached_property
    def _inverse(self) -> np.ndarray:
        return np.linalg.inv(self.H) if len(self.H) else self.H

    def solve(self, gu: np.ndarray, gx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give H^-1 g: for the effects `(N,)` and the coefficients in H."""
        N, Q = len(gu), len(self.H)
        # Two triangular systems by NumPy would be two general ones.
        found = np.linalg.solve(self.H, np.concatenate([gu, gx[: Q - N]])) if Q else gu
        return found[:N], found[N:]

    def solve_root(self, zu: np.ndarray, zx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turn standard normals into normals of covariance H^-1."""
        N, Q = len(zu), len(self.H)
        found = np.linalg.solve(self.L.T, np.concatenate([zu, zx[: Q - N]])) if Q else zu
        return found[:N], found[N:]

    def root_slopes(self, gu: np.ndarray, gx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Carry slopes by what `solve_root` gives back to the normals: its transpose."""
        N, Q = len(gu), len(self.H)
        found = np.linalg.solve(self.L, np.concatenate([gu, gx[: Q - N]])) if Q else gu
        return found[:N], found[N:]

    def coefficient_inverse(self) -> np.ndarray:
        """Give the coefficients' part of H^-1, `(k, k)`."""
        N = self.spread.system.latent.size
        return self._inverse[N:, N:]

    def traces(self) -> list[np.ndarray]:
        """Give each term's sum over its levels of the blocks of Z'WZ Lambda H^-1, `(p, p)`."""
        s = self.spread.system
        found = []
        for term, at in zip(s.latent.terms, s.latent.places, strict=True):
            inverse = self._inverse[:, at].reshape(-1, term.q, term.p)
            total = np.zeros((term.p, term.p))
            for Z, WK in zip(s.Z, self.WK, strict=True):
                part = (Z[:, at].T @ WK).reshape(term.q, term.p, -1)
                total += np.einsum("qac,cqb->ab", part, inverse)
            found.append(total)
        return found

    def prior_traces(self) -> list[np.ndarray | None]:
        """Give the slopes `(pairs,)` of log |H| by each term's precision, None without one."""
        latent = self.spread.system.latent
        found: list[np.ndarray | None] = []
        for term, at in zip(latent.terms, latent.places, strict=True):
            if term.pattern is None:
                found.append(None)
                continue
            part = self._inverse[at, at].reshape(term.q, term.p, term.q, term.p)
            i, j = term.pattern.pairs.T
            found.append(term.pattern.twice * np.einsum("kaa->k", part[i, :, j]))
        return found

    def leverages(self) -> np.ndarray:
        """Give each row's K H^-1 K', `(R, R, n)`: the covariance of its predictors."""
        moved = self.K @ self._inverse
        return np.einsum("rnj,snj->rsn", moved, self.K)

    def variances(self) -> list[np.ndarray]:
        """Give the blocks of H^-1 of every level of every term, `(q, p, p)`."""
        s, found = self.spread.system, []
        for term, at in zip(s.latent.terms, s.latent.places, strict=True):
            levels = at.start + np.arange(term.size).reshape(term.q, term.p)
            found.append(self._inverse[levels[:, :, None], levels[:, None, :]])
        return found
