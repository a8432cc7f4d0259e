"""Akaike's criterion for the groups that were seen, with their effects."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from glmm_bayes.engine.directions import Direction
from glmm_bayes.errors import ConvergenceError, NotSupportedError
from glmm_bayes.fit import ModeFit
from glmm_bayes.modes.mode import Mode
from glmm_bayes.modes.normal import effects_matrix, mean_residual, precisions, read_normal
from glmm_bayes.modes.reading import centred_columns, is_gaussian
from glmm_bayes.modes.replaced import replaced_predictors
from glmm_bayes.verbs.conditional_correlated import conditional_of_correlated
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
        number of parameters, sigma and those of a structure of the residuals among them, which
        counts that variances were estimated; `caic`.

    Raises
    ------
    NotSupportedError
        If the response is neither normal with one sigma and identity link, nor poisson,
        bernoulli or binomial, of which alone the correction is known; or the fit is not by 'ml'
        or, of normal responses, 'reml'.
    ConvergenceError
        If the model cannot be fitted again with one response replaced.

    Notes
    -----
    -2 loglik + 2 df. Of normal responses df = tr(d fitted / d y) + 1, the variances moving with y
    too; what stands at an edge does not move: Greven & Kneib (2010), Biometrika 97, 773-789. Of
    counts the sum of y_i (log mu_i(y) - log mu_i(y less one at i)); of zeros and ones that of
    mu_i (1 - mu_i) times what the logit of mu_i gains where y_i is 1 and not 0, of successes over
    all trials. Both are unbiased; the model is fitted again for each response: Saefken, Kneib, van
    Waveren & Greven (2014), Electron. J. Stat. 8, 201-225.

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
    if fit.model.design.residual is not None:
        loglik, df = conditional_of_correlated(fit)
    else:
        df = CORRECTIONS.get(fit.model.family.name, _of_normal)(fit)
        loglik = _conditional(fit)
    return pd.Series({"loglik": loglik, "df": df, "caic": -2 * loglik + 2 * df})


def _of_normal(fit: ModeFit) -> float:
    known = ", ".join(repr(name) for name in CORRECTIONS)
    check_normal(
        fit,
        "The conditional AIC",
        f"its correction is known of {known} too, and fit.aic is the marginal one",
    )
    if not is_gaussian(fit.model):
        raise NotSupportedError(
            "The conditional AIC is built for one sigma without a formula; fit.aic is marginal."
        )
    return float(leverages(fit.mode).sum()) + _moved(fit) + 1


def _of_counts(fit: ModeFit) -> float:
    """Replace each count by one less; where it is zero there is nothing to add."""
    y = fit.model.design.response.y
    rows = np.flatnonzero(y > 0)
    mu = _mean(fit, _predictor(fit))[rows]
    return float(np.sum(y[rows] * np.log(mu / _mean(fit, _replaced(fit, rows, y[rows] - 1)))))


def _of_binary(fit: ModeFit) -> float:
    """Replace each response by the other one."""
    y, rows = fit.model.design.response.y, np.arange(fit.nobs)
    mu = _mean(fit, _predictor(fit))
    turned = _mean(fit, _replaced(fit, rows, 1 - y))
    gain = (1 - 2 * y) * (np.log(turned / (1 - turned)) - np.log(mu / (1 - mu)))
    return float(np.sum(mu * (1 - mu) * gain))


def _of_successes(fit: ModeFit) -> float:
    """Turn one success of a row, or one failure, each as often as there are such trials."""
    response, mu = fit.model.design.response, _mean(fit, _predictor(fit))
    y, n = response.y, np.asarray(response.trials)
    gain = np.zeros(fit.nobs)
    for trials, step in ((y, -1), (n - y, 1)):
        rows = np.flatnonzero(trials > 0)
        turned = _mean(fit, _replaced(fit, rows, y[rows] + step))
        own = np.log(turned / (1 - turned)) - np.log(mu[rows] / (1 - mu[rows]))
        gain[rows] += step * trials[rows] * own
    return float(np.sum(mu * (1 - mu) * gain))


# By family, its effective number of parameters; normal responses have theirs in closed form.
CORRECTIONS: Mapping[str, Callable[[ModeFit], float]] = {
    "poisson": _of_counts,
    "bernoulli": _of_binary,
    "binomial": _of_successes,
}


def _mean(fit: ModeFit, eta: np.ndarray) -> np.ndarray:
    return np.asarray(fit.model.links["mu"].linkinv(eta))


def _predictor(fit: ModeFit) -> np.ndarray:
    """Give the mean's predictor `(n,)` at the modes of the effects, in the model's order."""
    found = np.empty(fit.nobs)
    found[fit.mode.factor.spread.system.order] = fit.mode.eta[0]
    return found


def _replaced(fit: ModeFit, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Give the predictors of rows `(S,)` whose responses are replaced, one at a time."""
    if fit.method != "ml":
        raise NotSupportedError(
            f"The conditional AIC of {fit.model.family.name!r} responses is for fits by 'ml', not "
            f"{fit.method!r}."
        )
    response = fit.model.design.response
    if response.weights is not None or response.view is not None:
        raise NotSupportedError(
            f"The conditional AIC of {fit.model.family.name!r} responses is for rows without "
            f"weights, and responses seen as they are; fit.aic is the marginal one."
        )
    found = replaced_predictors(fit.mode, rows, values, int(fit.options.get("nagq", 1)))
    lost = int(np.isnan(found).sum())
    if lost:
        raise ConvergenceError(
            f"The model could not be fitted again with one response replaced, {lost} times of "
            f"{len(rows)}; fit.aic is the marginal criterion."
        )
    return found


def _conditional(fit: ModeFit) -> float:
    model, response = fit.model, fit.model.design.response
    values = {"mu": _mean(fit, _predictor(fit))}
    if "sigma" in model.links:
        values["sigma"] = np.asarray(fit.mode.scale)
    logp = model.family.logp(response.y, response.trials, values)
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
