"""A normal response whose residuals vary together: effects integrated out exactly, with slopes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from glmm_bayes.engine.algebra.dense import Dense
from glmm_bayes.engine.laplace import Marginal, slopes_by_precision
from glmm_bayes.engine.latent import Precision, Precisions
from glmm_bayes.engine.newton import Normal
from glmm_bayes.engine.turning import Turning

type Function = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Solved:
    """
    The marginal density at one point, and the normal of what is integrated out.

    Attributes
    ----------
    value
        Log p(y), every constant included.
    u, gamma
        `(N,)` the effects' mean, in standard units; `(k,)` the coefficients, or their mean.
    factor
        The Hessian of both, factored, of turned rows.
    sd
        `(n,)` the residual standard deviation of each row.
    """

    value: float
    u: np.ndarray
    gamma: np.ndarray
    factor: Any
    sd: np.ndarray

    def draw(self, zu: np.ndarray, zx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turn standard normals into effects `(N,)`, in standard units, and coefficients."""
        u, gamma = self.factor.solve_root(zu, zx)
        return self.u + u, self.gamma + gamma if len(gamma) else self.gamma


@dataclass(eq=False)
class CorrelatedNormal:
    """
    y = offset + X gamma + Z b + s e: e of precision Q and variance one, log s or so linear.

    It has what `Laplace` has, exactly. Precisions are those of the terms, and Q last.

    Parameters
    ----------
    y
        `(n,)`.
    X
        `(n, k)` for the mean, and for the residual standard deviation.
    offset
        `(2, n)`.
    linkinv, slope
        From the second predictor to s, and ds by it.
    system
        The effects, Z written out.
    turning
        Where Q has entries.
    prior
        As that of `Laplace`.

    Notes
    -----
    With Q = C C', C' y / s is a response with independent residuals of the predictors C' X / s
    and C' Z / s; log |Q| / 2 - sum log s is what the change of variables adds: Pinheiro & Bates
    (2000), Mixed-Effects Models in S and S-PLUS, 5.1.
    """

    means: ClassVar[int] = 1
    integrates_means: ClassVar[bool] = True

    y: np.ndarray
    X: Sequence[np.ndarray]
    offset: np.ndarray
    linkinv: Function
    slope: Function
    system: Dense
    turning: Turning
    prior: Normal | None = None
    u: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.u = np.zeros(self.system.latent.size)

    def solved(
        self,
        coefficients: Sequence[np.ndarray],
        Lambdas: Sequence[np.ndarray],
        precisions: Precisions,
        *,
        joint: bool,
    ) -> Solved:
        """
        Integrate the effects out (and, if `joint`, the mean's coefficients).

        Raises
        ------
        LinAlgError
            If a precision is not positive definite, or the coefficients are not determined.
        """
        *between, Q = precisions
        assert Q is not None
        sd = self.linkinv(self.offset[1] + self.X[1] @ coefficients[1])
        roots = self.turning.roots(Q)
        y = self.y - self.offset[0] - (0.0 if joint else self.X[0] @ coefficients[0])
        X, Z, y = (
            self.turning.turned(roots, (part.T / sd).T) for part in (self.X[0], self.system.Z[0], y)
        )
        n, prior = len(y), self.prior if joint else None
        spread = replace(self.system, X=X, Z=Z[None]).at(Lambdas, between)
        ridge = None if prior is None else prior.precision
        factor = spread.factor(np.ones((1, 1, n)), joint=joint, ridge=ridge)
        gu, gx, squares = spread.J[0].T @ y, X.T @ y, float(y @ y)
        if prior is not None:
            pull = prior.precision @ prior.mean
            gx, squares = gx + pull, squares + float(prior.mean @ pull)
        u, gamma = factor.solve(gu, gx)
        squares -= float(gu @ u) + (float(gx @ gamma) if joint else 0.0)
        value = 0.5 * (Q.log_determinant - n * np.log(2 * np.pi) - squares) - np.log(sd).sum()
        value += 0.5 * (self.system.latent.log_prior_determinant(spread.precisions))
        value += 0.5 * (len(gamma) * np.log(2 * np.pi) - factor.log_determinant)
        return Solved(float(value), u, gamma if joint else coefficients[0], factor, sd)

    def marginal(
        self,
        coefficients: Sequence[np.ndarray],
        Lambdas: Sequence[np.ndarray],
        precisions: Precisions,
        *,
        joint: bool,
    ) -> Marginal:
        """Integrate as `solved` does, with the gradient."""
        found = self.solved(coefficients, Lambdas, precisions, joint=joint)
        self.u, factor = found.u, found.factor
        latent = self.system.latent
        moved = latent.effects(found.u, Lambdas)
        b = np.concatenate([*(part.ravel() for part in moved), np.empty(0)])
        fitted = self.offset[0] + self.X[0] @ found.gamma + self.system.Z[0] @ b
        e = (self.y - fitted) / found.sd
        columns = [self.system.at(Lambdas).J[0], *([self.X[0]] if joint else [])]
        K = np.hstack(columns) / found.sd[:, None]
        K = K @ np.linalg.inv(factor.L).T if K.size else K
        residual = precisions[-1]
        assert residual is not None
        Q = self.turning.pattern.matrix(residual.values)
        Qe = Q @ e
        by_mean = Qe / found.sd
        by_log_sd = e * Qe - 1 + (K * (Q @ K)).sum(axis=1)
        eta = np.stack([fitted, self.offset[1] + self.X[1] @ coefficients[1]])
        by_eta = by_log_sd * self.slope(eta[1]) / found.sd
        by_gamma = np.zeros_like(found.gamma) if joint else self.X[0].T @ by_mean
        plain = self.system.at(Lambdas).collect(by_mean[None])
        by_Lambda = [
            s.T @ v - D
            for s, v, D in zip(plain, latent.split(found.u), factor.traces(), strict=True)
        ]
        still = np.zeros_like(found.u)
        by_precision = list(slopes_by_precision(latent, factor, found.u, still))
        by_precision.append(Precision(-0.5 * self.turning.slopes(e, K), 0.5))
        return Marginal(
            found.value, [by_gamma, self.X[1].T @ by_eta], by_Lambda, by_precision,
            found.u, [found.gamma, coefficients[1]], factor, eta,
        )  # fmt: skip

    def effects_mode(
        self,
        coefficients: Sequence[np.ndarray],
        Lambdas: Sequence[np.ndarray],
        precisions: Precisions,
    ) -> np.ndarray:
        """Give the effects' mode u `(N,)` with every coefficient given."""
        return self.solved(coefficients, Lambdas, precisions, joint=False).u
