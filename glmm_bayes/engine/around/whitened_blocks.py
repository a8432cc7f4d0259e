"""The same by blocks: the largest grouping's effects given the others, level by level."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from glmm_bayes.engine.algebra import schur
from glmm_bayes.engine.algebra.lapack import lapack
from glmm_bayes.engine.around import steps
from glmm_bayes.engine.around.whitened import Place, Problem, log_volume
from glmm_bayes.engine.latent import Precisions


@dataclass(frozen=True, eq=False)
class Blocks:
    """
    Standard normals z1 `(G, k)` of the first block's effects given the rest, and z2 `(Q,)`.

    With S = L'L the second block's Schur complement and C C' a level's conditional covariance,
    (u2, gamma) = centre + L^-1 z2, and u1 = centre - Gm L^-1 z2 + C z1.

    Attributes
    ----------
    fixed
        `(P, n)` the predictors' part that the outer parameters fix.
    log_outer
        The log density of all that these alone decide: prior, and volume of the normals.
    """

    problem: Problem
    fixed: np.ndarray
    factor: Any
    m1: np.ndarray
    m2: np.ndarray
    log_outer: float

    @classmethod
    def build(
        cls,
        problem: Problem,
        Lambdas: Sequence[np.ndarray],
        precisions: Precisions,
        fixed: np.ndarray,
        log_prior: float,
    ) -> "Blocks":
        """Factor at given outer parameters; LinAlgError where that cannot be done."""
        working, s = problem.working(fixed), problem.system
        spread, h = s.at(Lambdas, precisions), None
        for again in range(problem.depth + 1):
            factor = spread.factor_products(
                working.products, joint=True, ridge=problem.prior.precision
            )
            t1, t2 = s.to_blocks(working.flat)
            m1, m2 = _centre(factor, t1, t2, working.right)
            if again < problem.depth:
                u = s.from_blocks(m1, m2[: s.q2])
                working, h = problem.refined(factor, fixed, u, m2[s.q2 :], h)
        return cls(problem, fixed, factor, m1, m2, log_prior + log_volume(factor))

    @property
    def shapes(self) -> tuple[tuple[int, int], int]:
        """The shapes of the normals moved level by level, and of those moved together."""
        s = self.problem.system
        return (s.G, s.k), s.q2 + s.p

    def _times_prior(self, u2: np.ndarray) -> np.ndarray:
        """Give the second block's prior precision times u2."""
        s = self.problem.system
        if not s.latent.is_structured:
            return u2
        return s.to_blocks(self.factor.spread.times_prior(s.from_blocks(0 * self.m1, u2)))[1]

    def _squares(self, u1: np.ndarray, u2: np.ndarray) -> float:
        return float(np.vdot(u1, u1)) + float(u2 @ self._times_prior(u2))

    @cached_property
    def roots(self) -> np.ndarray:
        """Factors C `(G, k, k)` of the first block's conditional covariances."""
        if self.factor.Ainv.shape[1] == 1:
            return np.sqrt(self.factor.Ainv)
        return np.linalg.cholesky(self.factor.Ainv)

    def part(self, z1: np.ndarray) -> np.ndarray:
        """Give C z1 `(G, k)`."""
        if z1.shape[1] == 1:
            return self.roots[:, :, 0] * z1
        return np.einsum("gab,gb->ga", self.roots, z1)

    def place(self, part: np.ndarray, z2: np.ndarray) -> Place:
        """Go from the normals to effects and coefficients."""
        problem, factor = self.problem, self.factor
        s, spread = problem.system, factor.spread
        d2 = lapack().dtrtrs(factor.L, z2, lower=0)[0] if len(z2) else z2
        u2 = self.m2 + d2
        gamma, u2 = u2[s.q2 :], u2[: s.q2]
        b2 = np.empty(s.q2)
        steps.times_second(u2, s.term, s.within, s.sizes, spread.L2, False, b2)
        u1, eta = np.empty_like(self.m1), self.fixed.copy()
        steps.place(
            s.ptr, s.Z, s.entries, s.values, s.X, s.tp, s.cols, factor.Gm, spread.L1, self.m1,
            part, d2, b2, gamma, u1, eta[0],
        )  # fmt: skip
        inner = float(problem.log_prior(gamma)) - 0.5 * self._squares(u1, u2)
        return Place((u1, u2), gamma, eta, problem.rows.value(eta), inner)

    def slopes(self, at: Place) -> np.ndarray:
        """Give the slope of the log density by z2."""
        problem, factor = self.problem, self.factor
        s, spread = problem.system, factor.spread
        u1, u2 = at.u
        s2, g2, off = np.empty(s.q2), np.empty(s.q2 + s.p), np.empty(s.q2 + s.p)
        r = problem.rows.slope(at.eta)[0]
        steps.gather(
            s.ptr, s.Z, s.entries, s.values, s.tp, s.cols, s.p, factor.Gm, spread.L1, u1, r, s2,
            off,
        )  # fmt: skip
        steps.times_second(s2, s.term, s.within, s.sizes, spread.L2, True, g2)
        g2[: s.q2] -= self._times_prior(u2)
        g2[s.q2 :] = s.X.T @ r + problem.prior_slope(at.gamma)
        g2 -= off
        return lapack().dtrtrs(factor.L, g2, lower=0, trans=1)[0] if len(g2) else g2

    def sweep(self, at: Place, z1: np.ndarray, rng: np.random.Generator) -> tuple[Place, float]:
        """
        Propose anew the first block's normals, and accept level by level.

        Given the second block the levels are independent of each other, so that each has its own
        Metropolis-Hastings step. Changes z1.

        Returns
        -------
        at, accepted
            Where it leads, and the share of levels that moved.
        """
        s, problem = self.problem.system, self.problem
        u1, u2 = at.u
        new, chance = rng.standard_normal(z1.shape), np.log(rng.random(len(z1)))
        eta = at.eta.copy()
        spread = self.factor.spread
        steps.shift(s.ptr, s.Z, spread.L1, self.roots, z1, new, eta[0])
        values, u1 = problem.rows.value(eta), u1.copy()
        moved = steps.accept(
            s.ptr, self.roots, at.values, values, at.eta[0], eta[0], chance, new, z1, u1
        )
        inner = float(problem.log_prior(at.gamma)) - 0.5 * self._squares(u1, u2)
        return Place((u1, u2), at.gamma, eta, values, inner), moved / max(len(z1), 1)

    def effects(self, at: Place) -> list[np.ndarray]:
        """Give every term's b `(q, p)`."""
        s = self.problem.system
        return s.latent.effects(s.from_blocks(*at.u), self.factor.spread.Lambdas)


def _centre(
    factor: Any, t1: np.ndarray, t2: np.ndarray, right: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Solve for the first block `(G, k)`, and for the second with the coefficients `(Q,)`."""
    spread = factor.spread
    s = spread.system
    g1, g2 = t1 @ spread.L1, np.empty(s.q2 + s.p)
    steps.times_second(t2, s.term, s.within, s.sizes, spread.L2, True, g2)
    g2[s.q2 :] = right
    m1, m2 = np.empty_like(t1), np.empty_like(g2)
    schur.reduce_right(g1, g2, factor.Gm, s.tp, s.cols, s.p, factor.used, s.q2, m2)
    if len(m2):
        m2 = lapack().dpotrs(factor.L, m2, lower=0)[0]
    schur.back_substitute(g1, m2, factor.Ainv, factor.Gm, s.tp, s.cols, s.p, factor.used, s.q2, m1)
    return m1, m2
