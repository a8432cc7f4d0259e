"""Effects and coefficients as standard normals about a centre, the outer parameters given."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from glmm_bayes.engine.around.corrected import Corrected
from glmm_bayes.engine.around.variational import average
from glmm_bayes.engine.latent import Precisions
from glmm_bayes.engine.newton import Normal, in_units, positive_part


@dataclass(frozen=True, eq=False)
class Problem:
    """
    What does not depend on the outer parameters.

    Attributes
    ----------
    system
        The effects' linear algebra, with the columns `X` `(n, k)` of the coefficients.
    rows
        `rows.value(eta)` `(n,)` and `rows.slope(eta)` `(P, n)` at `(P, n)` predictors;
        `rows.repeated(times)` are so many of them.
    corrected
        The rows as a normal response, at outer parameters near the posterior's mode.
    base
        `(P, n)` what the outer parameters fix of the predictors there.
    varies
        Whether they fix anything of the predictors with effects that varies with them.
    prior
        A normal approximation of the coefficients' prior.
    log_prior, prior_slope
        The prior itself: its log density, and the slope `(k,)`, of the coefficients.
    depth
        How often the approximation is corrected anew at the outer parameters given: not at all
        where these vary little, and the rows' scores and weights with them.
    """

    system: Any
    X: np.ndarray
    rows: Any
    corrected: Corrected
    base: np.ndarray
    varies: bool
    prior: Normal
    log_prior: Callable[[np.ndarray], Any]
    prior_slope: Callable[[np.ndarray], np.ndarray]
    depth: int = 0

    @property
    def columns(self) -> int:
        """The number of effects and coefficients."""
        return self.system.latent.size + self.X.shape[1]

    @property
    def random(self) -> list[int]:
        """The numbers of the predictors with effects."""
        return list(self.system.latent.predictors)

    def working(self, fixed: np.ndarray) -> "Working":
        """Give the normal equations where the outer parameters fix `fixed` `(P, n)`."""
        if self.corrected.is_fixed:
            return self._moved(fixed) if self.varies else self._constant
        others = self.corrected.others
        first, W = self.corrected.working(fixed[others] - self.base[others])
        return self._equations(first, W, self._rest(fixed))

    def _rest(self, fixed: np.ndarray) -> np.ndarray:
        """Give the predictors with effects at the centre, less what is fixed."""
        return (self.corrected.eta - fixed)[self.random]

    @cached_property
    def _constant(self) -> "Working":
        first, W = self.corrected.working(np.empty((0, self.base.shape[1])))
        return self._equations(first, W, self._rest(self.base))

    def _moved(self, fixed: np.ndarray) -> "Working":
        """Give the same with constant weights, whose products are at hand."""
        first, W = self.corrected.working(np.empty((0, self.base.shape[1])))
        t = np.einsum("abn,bn->an", W, self._rest(fixed)) + first
        return Working(self._constant.products, *self._right(t))

    def refined(
        self,
        factor: Any,
        fixed: np.ndarray,
        u: np.ndarray,
        gamma: np.ndarray,
        h: np.ndarray | None,
    ) -> tuple["Working", np.ndarray]:
        """
        Correct the approximation once more, about effects u `(N,)` and coefficients.

        `h` `(R, R, n)` is the predictors' covariance as the last time took it; also given back.
        """
        eta, R = fixed.copy(), self.random
        eta[R] += factor.spread.eta(u)
        eta[0] += self.X @ gamma
        h = 0.5 * ((self.corrected.spread if h is None else h) + factor.leverages())
        # Few nodes will do: what is proposed need not be exact.
        found = average(self.corrected.rows, eta, h, R, order=2, straight=True)
        W = positive_part(found.weights)
        return self._equations(found.first, W, (eta - fixed)[R]), h

    def _equations(self, first: np.ndarray, W: np.ndarray, rest: np.ndarray) -> "Working":
        t = np.einsum("abn,bn->an", W, rest) + first
        return Working(self.system.cross_products(W, with_x=True), *self._right(t))

    def _right(self, t: np.ndarray) -> tuple[Sequence[np.ndarray], np.ndarray]:
        blank = [np.eye(term.p) for term in self.system.latent.terms]
        right = self.X.T @ t[0] + self.prior.precision @ self.prior.mean
        return self.system.at(blank).collect(t), right


@dataclass(frozen=True, eq=False)
class Working:
    """Normal equations: cross-products, Z't of every term `(q, p)`, and the coefficients' side."""

    products: Any
    parts: Sequence[np.ndarray]
    right: np.ndarray

    @cached_property
    def flat(self) -> np.ndarray:
        """Z't of all terms `(N,)`."""
        return np.concatenate([*(part.ravel() for part in self.parts), np.empty(0)])


def log_volume(factor: Any) -> float:
    """Give what a factored Hessian, and the effects' own precision, add to a log density."""
    own = factor.spread.system.latent.log_prior_determinant(factor.spread.precisions)
    return 0.5 * (own - factor.log_determinant)


@dataclass(frozen=True, eq=False)
class Place:
    """
    Effects, coefficients and predictors `(P, n)`, and the rows' log density there.

    Attributes
    ----------
    u
        The effects in standard units, as the setting keeps them.
    inner
        Log density of effects, and coefficients by their prior.
    """

    u: Any
    gamma: np.ndarray
    eta: np.ndarray
    values: np.ndarray
    inner: float

    @cached_property
    def log_density(self) -> float:
        """Of rows, effects and coefficients."""
        return float(self.values.sum()) + self.inner


@dataclass(frozen=True, eq=False)
class Whole:
    """
    All effects and coefficients as one vector of standard normals: (u, gamma) = centre + root z.

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
    u0: np.ndarray
    gamma0: np.ndarray
    log_outer: float

    @classmethod
    def build(
        cls,
        problem: Problem,
        Lambdas: Sequence[np.ndarray],
        precisions: Precisions,
        fixed: np.ndarray,
        log_prior: float,
    ) -> "Whole":
        """Factor at given outer parameters; LinAlgError where that cannot be done."""
        working = problem.working(fixed)
        spread, h = problem.system.at(Lambdas, precisions), None
        for again in range(problem.depth + 1):
            factor = spread.factor_products(
                working.products, joint=True, ridge=problem.prior.precision
            )
            u0, gamma0 = factor.solve(in_units(spread, working.parts), working.right)
            if again < problem.depth:
                working, h = problem.refined(factor, fixed, u0, gamma0, h)
        log_outer = log_prior + log_volume(factor)
        return cls(problem, fixed, factor, u0, gamma0, log_outer)

    @property
    def shapes(self) -> tuple[tuple[int, int], int]:
        """The shapes of the normals moved by levels, none here, and of those moved together."""
        return (0, 0), len(self.u0) + len(self.gamma0)

    def part(self, z1: np.ndarray) -> None:
        """Give what the normals that are moved by levels come to: there are none."""

    def place(self, part: None, z2: np.ndarray) -> Place:
        """Go from the normals to effects and coefficients."""
        N, problem = len(self.u0), self.problem
        du, dx = self.factor.solve_root(z2[:N], z2[N:])
        u, gamma = self.u0 + du, self.gamma0 + dx
        eta = self.fixed.copy()
        eta[problem.random] += self.factor.spread.eta(u)
        eta[0] += problem.X @ gamma
        prior = self.factor.spread.times_prior(u)
        inner = float(problem.log_prior(gamma)) - 0.5 * float(u @ prior)
        return Place(u, gamma, eta, problem.rows.value(eta), inner)

    def slopes(self, at: Place) -> np.ndarray:
        """Give the slope of the log density by z2."""
        problem, spread = self.problem, self.factor.spread
        r = problem.rows.slope(at.eta)
        gu = in_units(spread, spread.collect(r[problem.random])) - spread.times_prior(at.u)
        gx = problem.X.T @ r[0] + problem.prior_slope(at.gamma)
        return np.concatenate(self.factor.root_slopes(gu, gx))

    def effects(self, at: Place) -> list[np.ndarray]:
        """Give every term's b `(q, p)`."""
        return self.problem.system.latent.effects(at.u, self.factor.spread.Lambdas)
