"""Akaike's criterion for the groups that were seen, with their effects."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from glmm_bayes.engine.directions import Direction
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.fit import ModeFit
from glmm_bayes.modes.mode import Mode
from glmm_bayes.modes.normal import effects_matrix, mean_residual, precisions, read_normal
from glmm_bayes.modes.reading import centred_columns, is_gaussian
from glmm_bayes.residual import refuse_residual
from glmm_bayes.verbs.influence import leverages
from glmm_bayes.verbs.satterthwaite import parameter_covariance
from glmm_bayes.verbs.small_sample import check_normal


def caic(fit: ModeFit) -> pd.Series:
    """
    Give the conditional AIC: how well new responses of the same groups are predicted.

    Returns
    -------
    Series
        `loglik` of the responses given coefficients and effects, natural; `df`, the effective
        number of parameters, sigma among them, which counts that variances were estimated;
        `caic`.

    Raises
    ------
    NotSupportedError
        If the response is not normal with one sigma and identity link, or the fit is not by 'ml'
        or 'reml'.

    Notes
    -----
    Greven & Kneib (2010), Biometrika 97, 773-789: -2 loglik + 2 (tr(d fitted / d y) + 1), the
    variances moving with y too. What stands at an edge does not move.

    Examples
    --------
    >>> import glmm_bayes as gb
    >>> model = gb.Model("Reaction ~ Days + (1 + Days | Subject)", gb.load_dataset("sleepstudy"))
    >>> model.fit("reml").caic().round(1)
    loglik    -824.5
    df          31.3
    caic      1711.5
    dtype: float64
    """
    check_normal(fit, "The conditional AIC", "fit.aic is the marginal one")
    refuse_residual(fit.model.design.residual, "caic")
    if not is_gaussian(fit.model):
        raise NotSupportedError(
            "The conditional AIC is built for one sigma without a formula; fit.aic is marginal."
        )
    loglik = _conditional(fit)
    df = float(leverages(fit.mode).sum()) + _moved(fit) + 1
    return pd.Series({"loglik": loglik, "df": df, "caic": -2 * loglik + 2 * df})


def _conditional(fit: ModeFit) -> float:
    mode, model = fit.mode, fit.model
    mu = np.empty(fit.nobs)
    mu[mode.factor.spread.system.order] = mode.eta[0]
    response = model.design.response
    logp = model.family.logp(response.y, response.trials, {"mu": mu, "sigma": mode.scale})
    return float(np.sum(logp if response.weights is None else logp * response.weights))


def _moved(fit: ModeFit) -> float:
    """Give what the trace gains as the variances move with the response."""
    normal, algebra = read_normal(fit.mode), _Algebra(fit.mode)
    if not fit.model.design.terms:
        return 0.0
    A = parameter_covariance(normal, restricted=fit.method == "reml")
    Py = algebra.project(mean_residual(fit.mode))
    p = [algebra.project(algebra.along(i, Py)) for i in normal.loose.first]
    # Sigma's logarithm comes first: D moves with it by twice itself.
    moves = [-algebra.variances * part for part in p]
    moves[0] = moves[0] + 2 * algebra.variances * Py
    return -float(np.sum(A * np.array([[i @ j for j in moves] for i in p])))


@dataclass(frozen=True, eq=False)
class _Algebra:
    """Products with V and with P = V^-1 - V^-1 X (X'V^-1 X)^-1 X'V^-1, at a mode."""

    mode: Mode

    @cached_property
    def Z(self) -> Any:
        """The effects' matrix, sparse `(n, N)`."""
        return effects_matrix(self.mode.coordinates.model)

    @cached_property
    def variances(self) -> np.ndarray:
        """The variances `(n,)` given the effects."""
        c = self.mode.coordinates
        return 1 / precisions(c.model, c.split(self.mode.x)[1])

    def along(self, direction: Direction, v: np.ndarray) -> np.ndarray:
        """Multiply `(n,)` by a slope of V."""
        c = self.mode.coordinates
        Gs = [L @ L.T for L in c.Lambdas(self.mode.x)]
        parts = [direction.whole * G + K for G, K in zip(Gs, direction.parts, strict=True)]
        b, at, moved = self.Z.T @ v, 0, []
        for term, part in zip(c.model.design.terms, parts, strict=True):
            size = len(term.levels) * term.size
            moved.append((b[at : at + size].reshape(-1, term.size) @ part).ravel())
            at += size
        return direction.whole * self.variances * v + self.Z @ np.concatenate(moved)

    def project(self, v: np.ndarray) -> np.ndarray:
        """Multiply `(n,)` by P."""
        factor, c = self.mode.factor, self.mode.coordinates
        spread = factor.spread
        order = spread.system.order
        X = centred_columns(c.model, "mu")[order]
        w = 1 / self.variances[order]
        weighted = self.mode.scale**2 * w * v[order]
        right = zip(spread.collect(weighted[None]), spread.Lambdas, strict=True)
        u, gamma = factor.solve(
            np.concatenate([(part @ L).ravel() for part, L in right]), X.T @ weighted
        )
        found = np.empty_like(v)
        found[order] = w * (v[order] - X @ gamma - spread.eta(u)[0])
        return found
