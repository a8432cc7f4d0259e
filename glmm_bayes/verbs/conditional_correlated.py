"""The conditional AIC where residuals vary together: by dense algebra over all rows."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from glmm_bayes.engine.latent import Pattern
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.fit import ModeFit
from glmm_bayes.modes.correlated import refuse_student
from glmm_bayes.modes.gaussian import jacobian
from glmm_bayes.modes.mode import Mode
from glmm_bayes.modes.normal import effects_matrix, mean_residual, precisions
from glmm_bayes.modes.reading import centred_columns
from glmm_bayes.modes.structured import term_covariances

LARGEST = 2000  # rows, whose covariance is a dense matrix
STEP = 1e-4  # of a coordinate, between the covariances that make their slopes


@dataclass(frozen=True, eq=False)
class Covariances:
    """
    y = X beta + Z b + e at a mode: e of covariance S, V = S + Z G Z'.

    Attributes
    ----------
    mode
        The maximum.
    """

    mode: Mode

    def residual(self, x: np.ndarray) -> np.ndarray:
        """Give S `(n, n)` at x."""
        c = self.mode.coordinates
        residual = c.model.design.residual
        assert residual is not None
        pattern = Pattern(c.model.nobs, residual.pairs)
        R = np.linalg.inv(pattern.dense(c.residual_precision(x).values))
        sd = precisions(c.model, c.split(x)[1]) ** -0.5
        return np.outer(sd, sd) * R

    def whole(self, x: np.ndarray) -> np.ndarray:
        """Give V `(n, n)` at x."""
        c, Z, found, at = self.mode.coordinates, self.Z, self.residual(x), 0
        for K in term_covariances(c, x):
            part = Z[:, at : at + len(K)]
            found = found + part @ K @ part.T
            at += len(K)
        return found

    @cached_property
    def Z(self) -> np.ndarray:
        """The effects' columns `(n, N)`, of all terms."""
        return effects_matrix(self.mode.coordinates.model).toarray()

    @cached_property
    def errors(self) -> np.ndarray:
        """S at the mode."""
        return self.residual(self.mode.x)

    @cached_property
    def projection(self) -> np.ndarray:
        """P = V^-1 - V^-1 X (X'V^-1 X)^-1 X'V^-1, `(n, n)`."""
        X = centred_columns(self.mode.coordinates.model, "mu")
        inverse = np.linalg.inv(self.whole(self.mode.x))
        WX = inverse @ X
        return inverse - WX @ np.linalg.solve(X.T @ WX, WX.T) if X.size else inverse

    @cached_property
    def projected(self) -> np.ndarray:
        """P y `(n,)`, of which S P y are the residuals that the effects leave."""
        return self.projection @ mean_residual(self.mode)

    def slope(self, of: Callable[[np.ndarray], np.ndarray], k: int) -> np.ndarray:
        """Differentiate a covariance by a coordinate."""
        x = self.mode.x
        step = STEP * np.maximum(1.0, np.abs(x)) * (np.arange(len(x)) == k)
        near, far = of(x + step) - of(x - step), of(x + 2 * step) - of(x - 2 * step)
        return (8 * near - far) / (12 * step[k])


def conditional_of_correlated(fit: ModeFit) -> tuple[float, float]:
    """
    Give the log likelihood given effects, and the effective number of parameters.

    Raises
    ------
    NotSupportedError
        If there are too many rows, or the fit is neither by 'ml' nor by 'reml'.

    Notes
    -----
    tr(d fitted / d y), variances and correlations moving with y, plus the number of parameters
    that the residuals' covariance has. With fitted = y - S P y and d theta / d y_k = A (P V_j P
    y)_k, A the covariance of theta: Greven & Kneib (2010), Biometrika 97, 773-789, where S is a
    multiple of the identity; Overholser & Xu (2014), J. Multivariate Analysis 131, 160-170.
    """
    _check(fit)
    mode, at = fit.mode, Covariances(fit.mode)
    c, e = mode.coordinates, at.errors @ at.projected
    mean = np.arange(*c.coefficients[0].indices(c.size))
    free = np.setdiff1d(np.flatnonzero(~np.isnan(np.diag(mode.covariance))), mean)
    A = mode.covariance[np.ix_(free, free)]
    pulls = [at.projection @ (at.slope(at.whole, k) @ at.projected) for k in free.tolist()]
    moves = [
        at.slope(at.residual, k) @ at.projected - at.errors @ pull
        for k, pull in zip(free.tolist(), pulls, strict=True)
    ]
    moved = float(np.sum(A * np.array([[move @ pull for pull in pulls] for move in moves])))
    own = [c.coefficients[1], c.residual]
    counted = sum(at.stop - at.start for at in own)
    df = fit.nobs - float(np.sum(at.errors * at.projection)) - moved + counted
    log_volume = fit.nobs * np.log(2 * np.pi) + np.linalg.slogdet(at.errors)[1]
    return -0.5 * float(log_volume + e @ at.projected) + jacobian(fit.model), df


def _check(fit: ModeFit) -> None:
    refuse_student(fit.model, "the conditional AIC")
    text = "" if fit.model.design.residual is None else fit.model.design.residual.text
    if fit.method not in ("ml", "reml"):
        raise NotSupportedError(
            f"The conditional AIC with 'residual ~ {text}' is for fits by 'ml' and 'reml', not "
            f"{fit.method!r}."
        )
    if fit.nobs > LARGEST:
        raise NotSupportedError(
            f"The conditional AIC with 'residual ~ {text}' takes a dense matrix of all rows, which "
            f"is for {LARGEST} of them, not {fit.nobs}; fit.aic is the marginal criterion."
        )
