"""Small models at many outer parameters at once: dense matrices, one a draw."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from glmm_bayes.engine.algebra.dense import Dense
from glmm_bayes.engine.around.stacked import stable_roots
from glmm_bayes.engine.around.whitened import Problem
from glmm_bayes.engine.latent import Latent

# Beyond, one draw after the other is as fast: columns of what is only drawn, of what is mended to
# third order too, and rows.
DRAWN, MENDED, MOST_ROWS = 48, 72, 2000
CHUNK = 256  # draws at a time


@dataclass(frozen=True, eq=False)
class Batch:
    """
    S draws of effects and coefficients, each at outer parameters of its own.

    Attributes
    ----------
    u, gamma
        `(S, N)` in standard units, and `(S, k)`.
    effects
        By term, b `(S, q, p)`.
    log_density
        `(S,)` of rows, effects, coefficients and outer parameters.
    log_normals
        `(S,)` the same as a density of the normals that the draws were made from.
    """

    u: np.ndarray
    gamma: np.ndarray
    effects: Sequence[np.ndarray]
    log_density: np.ndarray
    log_normals: np.ndarray


def is_small(latent: Latent, k: int, columns: int = DRAWN) -> bool:
    """Tell whether dense matrices, with k coefficients, are worth it."""
    return latent.size + k <= columns and latent.n <= MOST_ROWS


class Batched:
    """
    The normal approximation of effects and coefficients at many outer parameters.

    As `whitened.Whole`, for every draw at once.
    """

    def __init__(self, problem: Problem) -> None:
        latent, X = problem.system.latent, problem.X
        self.problem, self.N, self.Q = problem, latent.size, latent.size + X.shape[1]
        self.Z = Dense.build(latent, X).Z[:, problem.system.order]
        self.K = np.zeros((len(self.Z), latent.n, self.Q))
        self.K[:, :, : self.N] = self.Z
        self.K[0, :, self.N :] = X
        self.constant = problem.corrected.is_fixed and not problem.varies
        if self.constant:
            self.fixed = self._equations(problem.base[:, None])

    def _equations(self, fixed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give K'WK `(m, Q, Q)` and the right-hand sides `(m, Q)`, where `(P, m, n)` is fixed."""
        corrected, R = self.problem.corrected, self.problem.random
        others = corrected.others
        moved = fixed[others] - self.problem.base[others][:, None]
        first, W = corrected.working(moved if len(others) else np.empty((0, *fixed.shape[1:])))
        if corrected.is_fixed:  # the same scores and weights for all draws
            first, W = first[:, None], W[:, :, None]
        shape = (len(R), len(R), *fixed.shape[1:])
        W, first = np.broadcast_to(W, shape), np.broadcast_to(first, shape[1:])
        t = np.einsum("abmn,bmn->amn", W, (corrected.eta[:, None] - fixed)[R]) + first
        right = sum(part @ K for part, K in zip(t, self.K, strict=True))
        right[:, self.N :] += self.problem.prior.precision @ self.problem.prior.mean
        C = np.zeros((W.shape[2], self.Q, self.Q))
        for row, K in zip(W, self.K, strict=True):
            weighted = sum(w[:, :, None] * other for w, other in zip(row, self.K, strict=True))
            C += K.T @ weighted
        return C, right

    def draw(
        self,
        Lambdas: Sequence[np.ndarray],
        fixed: np.ndarray,
        log_prior: np.ndarray,
        z: np.ndarray,
    ) -> Batch:
        """
        Turn standard normals `(S, Q)` into effects and coefficients.

        Parameters
        ----------
        Lambdas
            By term `(S, p, p)`.
        fixed
            `(P, S, n)` what the outer parameters fix of the predictors; S may be 1 where that is
            the same for all draws.
        log_prior
            `(S,)` of the outer parameters.
        """
        parts = []
        for start in range(0, len(z), CHUNK):
            at = slice(start, start + CHUNK)
            of = slice(None) if fixed.shape[1] == 1 else at
            parts.append(self._drawn([L[at] for L in Lambdas], fixed[:, of], log_prior[at], z[at]))
        return Batch(
            np.concatenate([p.u for p in parts]),
            np.concatenate([p.gamma for p in parts]),
            [np.concatenate(b) for b in zip(*(p.effects for p in parts), strict=True)],
            np.concatenate([p.log_density for p in parts]),
            np.concatenate([p.log_normals for p in parts]),
        )

    def _drawn(
        self,
        Lambdas: Sequence[np.ndarray],
        fixed: np.ndarray,
        log_prior: np.ndarray,
        z: np.ndarray,
    ) -> Batch:
        problem, N = self.problem, self.N
        C, right = self.fixed if self.constant else self._equations(fixed)
        H = self._left(Lambdas, np.broadcast_to(C, (len(z), self.Q, self.Q)))
        H = self._left(Lambdas, np.swapaxes(H, 1, 2))
        H[:, np.arange(N), np.arange(N)] += 1.0
        H[:, N:, N:] += problem.prior.precision
        right = self._left(Lambdas, np.broadcast_to(right, z.shape)[..., None])
        bad = ~np.isfinite(H).all(axis=(1, 2))
        root, bad = stable_roots(H, bad)
        rotated = np.linalg.solve(np.swapaxes(root, 1, 2), z[..., None])
        v = (np.linalg.solve(H, right) + rotated)[..., 0]
        u, gamma = v[:, :N], v[:, N:]
        effects, eta = self._predicted(Lambdas, u, gamma, fixed)
        half_log = np.log(np.einsum("mii->mi", root)).sum(axis=1)
        inner = problem.log_prior(gamma) - 0.5 * (u * u).sum(axis=1)
        log_density = problem.rows.value(eta).sum(axis=-1) + inner + log_prior
        log_density[bad] = -np.inf
        return Batch(u, gamma, effects, log_density, log_density - half_log)

    def _left(self, Lambdas: Sequence[np.ndarray], A: np.ndarray) -> np.ndarray:
        """Multiply the effects' rows of `(m, Q, c)` by Lambda' from the left, level by level."""
        found = np.array(A)
        latent = self.problem.system.latent
        for term, at, L in zip(latent.terms, latent.places, Lambdas, strict=True):
            block = A[:, at].reshape(len(A), term.q, term.p, -1)
            moved = np.swapaxes(L, 1, 2)[:, None] @ block
            found[:, at] = moved.reshape(len(A), term.size, -1)
        return found

    def _predicted(
        self, Lambdas: Sequence[np.ndarray], u: np.ndarray, gamma: np.ndarray, fixed: np.ndarray
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """Give every term's b `(m, q, p)`, and the predictors `(P, m, n)`."""
        problem = self.problem
        latent = problem.system.latent
        effects = [
            u[:, at].reshape(-1, term.q, term.p) @ np.swapaxes(L, 1, 2)
            for term, at, L in zip(latent.terms, latent.places, Lambdas, strict=True)
        ]
        flat = np.concatenate([*(b.reshape(len(u), -1) for b in effects), u[:, :0]], axis=1)
        eta = np.array(np.broadcast_to(fixed, (len(fixed), len(u), fixed.shape[2])))
        for a, Z in zip(problem.random, self.Z, strict=True):
            eta[a] += flat @ Z.T
        eta[0] += gamma @ problem.X.T
        return effects, eta
