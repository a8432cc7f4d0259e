"""Small models at many outer parameters at once: dense matrices, one a draw."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from glmm_bayes.engine.algebra.dense import Dense
from glmm_bayes.engine.around.stacked import stable_roots
from glmm_bayes.engine.around.variational import average
from glmm_bayes.engine.around.whitened import Problem
from glmm_bayes.engine.latent import Latent
from glmm_bayes.engine.newton import positive_part

# Beyond, one draw after the other is as fast: columns of what is only drawn, of what is mended to
# third order too, and rows.
DRAWN, MENDED, MOST_ROWS = 48, 72, 2000
CHUNK = 256  # draws at a time
ROOM = 2e6  # numbers of all predictors' covariances with effects, where these are asked for
MOST_PRODUCTS = 3e5  # multiplications of one correction of one draw


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


def is_soon_corrected(problem: Problem) -> bool:
    """Tell whether the approximation may be corrected anew for every draw at once."""
    return problem.X.shape[0] * problem.columns**2 <= MOST_PRODUCTS


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
        self.chunk = min(CHUNK, max(1, int(ROOM / max(self.K.size, 1)))) if problem.depth else CHUNK
        self.constant = problem.corrected.is_fixed and not problem.varies
        if self.constant:
            self.fixed = self._first(problem.base[:, None])

    def _first(self, fixed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give the first equations, where `(P, m, n)` is fixed: see `_equations`."""
        corrected, R = self.problem.corrected, self.problem.random
        others = corrected.others
        moved = fixed[others] - self.problem.base[others][:, None]
        first, W = corrected.working(moved if len(others) else np.empty((0, *fixed.shape[1:])))
        if corrected.is_fixed:  # the same scores and weights for all draws
            first, W = first[:, None], W[:, :, None]
        shape = (len(R), len(R), *fixed.shape[1:])
        W, first = np.broadcast_to(W, shape), np.broadcast_to(first, shape[1:])
        return self._equations(first, W, (corrected.eta[:, None] - fixed)[R])

    def _equations(
        self, first: np.ndarray, W: np.ndarray, rest: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Give K'WK `(m, Q, Q)` and right-hand sides `(m, Q)`; `rest` is the centre less fixed."""
        t = np.einsum("abmn,bmn->amn", W, rest) + first
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
        for start in range(0, len(z), self.chunk):
            at = slice(start, start + self.chunk)
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
        C, right = self.fixed if self.constant else self._first(fixed)
        H, right = self._in_units(Lambdas, C, right, len(z))
        bad, h = ~np.isfinite(H).all(axis=(1, 2)), None
        for _ in range(problem.depth):
            root, bad = stable_roots(H, bad)
            v = np.linalg.solve(H, right)[..., 0]
            C, right, h = self._refined(Lambdas, root, v, fixed, h)
            H, right = self._in_units(Lambdas, C, right, len(z))
            bad |= ~np.isfinite(H).all(axis=(1, 2))
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

    def _in_units(
        self, Lambdas: Sequence[np.ndarray], C: np.ndarray, right: np.ndarray, size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Give the equations of effects in standard units: H `(m, Q, Q)`, and `(m, Q, 1)`."""
        N = self.N
        H = self._left(Lambdas, np.broadcast_to(C, (size, self.Q, self.Q)))
        H = self._left(Lambdas, np.swapaxes(H, 1, 2))
        H[:, np.arange(N), np.arange(N)] += 1.0
        H[:, N:, N:] += self.problem.prior.precision
        return H, self._left(Lambdas, np.broadcast_to(right, (size, self.Q))[..., None])

    def _refined(
        self,
        Lambdas: Sequence[np.ndarray],
        root: np.ndarray,
        v: np.ndarray,
        fixed: np.ndarray,
        h: np.ndarray | None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Correct the approximation once more about every draw's own centre.

        As `whitened.Problem.refined`; h `(R, R, m, n)`.
        """
        problem, R, m = self.problem, self.problem.random, len(v)
        eta = self._predicted(Lambdas, v[:, : self.N], v[:, self.N :], fixed)[1]
        halves = []
        for K in self.K:
            turned = self._left(Lambdas, np.broadcast_to(K.T, (m, *K.T.shape)))
            halves.append(np.linalg.solve(root, turned))
        own = np.array([[(a * b).sum(axis=1) for b in halves] for a in halves])
        last = problem.corrected.spread[:, :, None] if h is None else h
        h = 0.5 * (last + own)
        found = average(
            problem.rows.repeated(m), eta.reshape(len(eta), -1),
            h.reshape(*h.shape[:2], -1), R, order=2, straight=True,
        )  # fmt: skip
        # Any approximation will do for draws that are so far out.
        first, W = (np.where(np.isfinite(a), a, 0.0) for a in (found.first, found.weights))
        rest = (eta - fixed)[R]
        W = positive_part(W).reshape(h.shape)
        return *self._equations(first.reshape(rest.shape), W, rest), h

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
