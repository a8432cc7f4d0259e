"""How much the fit owes to single rows, and to single groups."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from glmm_bayes.errors import DataError, NotSupportedError, SingularFitWarning, UnknownNameError
from glmm_bayes.fit import ModeFit
from glmm_bayes.model import Model
from glmm_bayes.modes.clusters import clusters, grouped, independent_rows
from glmm_bayes.modes.mode import Mode
from glmm_bayes.modes.normal import embedding, is_linear
from glmm_bayes.modes.reading import read_laplace
from glmm_bayes.registry import suggestion
from glmm_bayes.terms import RandomTerm
from glmm_bayes.verbs.by_response import refuse_several
from glmm_bayes.verbs.fixed_terms import mean_predictor
from glmm_bayes.verbs.robust import least_squares, moves_by_cluster
from glmm_bayes.verbs.ttest import estimates

MEAN = ("influence is measured on the coefficients", "compare fits without rows by fit.update()")


def influence(fit: ModeFit, group: str | None = None, *, method: str = "one-step") -> pd.DataFrame:
    """
    Measure the influence of each row, or of each level of a group.

    Parameters
    ----------
    group
        A group of the model, such as `"Subject"`; rows by default. Of a process along time or in
        space, each group is left out with all its times or places.
    method
        Of groups `"one-step"`: for normal responses the coefficients without a level, the
        variances as they are; for others one step of Newton's method from the estimates of all
        parameters, the curvature as with all rows. `"exact"`: the model fitted again without each
        level.

    Returns
    -------
    DataFrame
        Of rows `leverage`, the slope of a row's fitted value, effects and all, by its response,
        and `cooks_distance`, as of lme4. Of groups, by `level`, `cooks_distance`, and for each
        coefficient how much larger it is with the level than without.

    Raises
    ------
    UnknownNameError
        If there is no such group or method.
    DataError
        If one step is asked of levels that share other random effects, of other responses.
    NotSupportedError
        If one step is not built for the model.

    Notes
    -----
    Cook's distance of a level is d' C^-1 d / k, with d the k differences and C the coefficients'
    covariance with all rows; of a row r^2 h / ((1 - h)^2 k), with r Pearson's residual over the
    square root of the variance and h the leverage. lme4's distances of m levels
    are those by (m - k) / m.
    """
    if method not in METHODS:
        raise UnknownNameError(f"method={method!r} is not known. {suggestion(method, METHODS)}")
    refuse_several(fit.model, "Influence", "fit without a level or row, update(data=…)")
    if group is None:
        return _of_rows(fit)
    found = {t.label: t for t in fit.model.design.terms if t.index.shape[1] == 1}
    if group not in found:
        raise UnknownNameError(f"There is no group {group!r}. {suggestion(group, found)}")
    return METHODS[method](fit, found[group])


def _of_rows(fit: ModeFit) -> pd.DataFrame:
    h = leverages(fit.mode)
    k = len(mean_predictor(fit.model, *MEAN).names)
    r = fit.residuals("pearson")
    with np.errstate(all="ignore"):
        cooks = r.to_numpy() ** 2 * h / ((1 - h) ** 2 * k)
    return pd.DataFrame({"leverage": h, "cooks_distance": cooks}, index=r.index)


def leverages(mode: Mode) -> np.ndarray:
    """
    Give the slope of each row's fitted predictor by its working response, `(n,)`.

    The variances are taken for known, the coefficients and effects not.
    """
    model = mode.coordinates.model
    if model.design.residual is not None:
        raise NotSupportedError(
            "Leverages where residuals have a structure are not built; "
            "influence(group, method='exact') fits again without each level."
        )
    if mode.joint:
        factor, w = mode.factor, _weights(model)[mode.factor.spread.system.order]
    else:
        factor, w = _with_coefficients(mode)
    found = np.empty(model.nobs)
    found[factor.spread.system.order] = factor.leverages()[0, 0] * w
    return found


def _weights(model: Model) -> np.ndarray:
    weights = model.design.response.weights
    return np.ones(model.nobs) if weights is None else weights


def _with_coefficients(mode: Mode) -> tuple[Any, np.ndarray]:
    """Factor the Hessian of effects and coefficients, and give the rows' weights in it."""
    spread, laplace = mode.factor.spread, read_laplace(mode.coordinates.model)
    if len(laplace.random) > 1:
        raise NotSupportedError(
            "Leverages where several parameters have random effects are not built; "
            "influence(group, method='exact') fits again without each level."
        )
    W = -laplace.rows(mode.eta, 2).second[:1, :1]
    return spread.factor(W, joint=True), W[0, 0]


def _one_step(fit: ModeFit, term: RandomTerm) -> pd.DataFrame:
    """Leave each group out by algebra, with V as estimated; of other responses by one step."""
    label, names = grouped(term)
    if is_linear(fit.model):
        return _least_squares(fit, label, names)
    try:
        moved = moves_by_cluster(fit, label, f"levels of {term.label}")
    except DataError as error:
        raise DataError(
            f"Rows of different levels of {term.label} share other random effects, so that one "
            f"step is not known; use method='exact'."
        ) from error
    k = len(mean_predictor(fit.model, *MEAN).names)
    return _table(fit, names, moved[:, :k], fit.coefficient_covariance()[:k, :k])


def _least_squares(fit: ModeFit, label: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """
    Leave groups out of generalised least squares; their rows may vary together with others.

    Notes
    -----
    A column of its own for each row in I takes these out: the coefficients fall by
    Phi S_I' P_II^-1 a_I, with S = V^-1 X, a = V^-1 e and P = V^-1 - S Phi S'.
    """
    found = independent_rows(fit.model)
    parts = list(clusters(fit.mode, found, "clusters of rows that share random effects"))
    Phi, embed = least_squares(parts), embedding(fit.mode.coordinates)
    inverses = [np.linalg.inv(part.V) for part in parts]
    S, a, place = np.empty((len(label), len(Phi))), np.empty(len(label)), np.empty(len(label), int)
    for part, M in zip(parts, inverses, strict=True):
        S[part.rows], a[part.rows] = M @ part.X, M @ part.e
        place[part.rows] = np.arange(len(part.rows))
    moved = []
    for number in range(len(names)):
        own = np.flatnonzero(label == number)
        P = -S[own] @ Phi @ S[own].T
        for c in np.unique(found[own]):
            at = np.flatnonzero(found[own] == c)
            P[np.ix_(at, at)] += inverses[c][np.ix_(place[own[at]], place[own[at]])]
        moved.append(embed @ Phi @ S[own].T @ np.linalg.solve(P, a[own]))
    return _table(fit, names, np.stack(moved), embed @ Phi @ embed.T)


def _exact(fit: ModeFit, term: RandomTerm) -> pd.DataFrame:
    """Fit again without each group."""
    (label, names), rows, moved = grouped(term), fit.model.design.rows, []
    whole, k = estimates(fit), len(mean_predictor(fit.model, *MEAN).names)
    for number, name in enumerate(names):
        kept = rows.frame.loc[label != number]
        with warnings.catch_warnings():
            # Whether a variance is zero without a group is not what is asked.
            warnings.simplefilter("ignore", SingularFitWarning)
            again = fit.update(data=kept, seed=fit.seed)
        if again.vcov().shape != fit.vcov().shape:
            raise DataError(f"Without {name!r} of {term.label} there are other coefficients.")
        moved.append((whole - estimates(again))[:k])
    return _table(fit, names, np.stack(moved), fit.coefficient_covariance()[:k, :k])


def _table(
    fit: ModeFit, groups: Sequence[str], moved: np.ndarray, covariance: np.ndarray
) -> pd.DataFrame:
    names = mean_predictor(fit.model, *MEAN).names
    inverse = np.linalg.pinv(covariance, hermitian=True)
    cooks = np.einsum("lj,jk,lk->l", moved, inverse, moved) / len(names)
    found = pd.DataFrame(moved, index=pd.Index(groups, name="level"), columns=list(names))
    found.insert(0, "cooks_distance", cooks)
    return found


METHODS: Mapping[str, Callable[[ModeFit, RandomTerm], pd.DataFrame]] = {
    "one-step": _one_step,
    "exact": _exact,
}
