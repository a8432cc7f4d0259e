"""How much of the variation a fit explains, and how much of it lies between groups."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from glmm_bayes.design import Design
from glmm_bayes.draws import Draws
from glmm_bayes.errors import NotSupportedError, UnknownNameError
from glmm_bayes.fit import Fit
from glmm_bayes.predictive import CELLS, effects_for, in_rows, linear_predictor
from glmm_bayes.registry import suggestion
from glmm_bayes.terms import RandomTerm
from glmm_bayes.verbs.by_response import Separate, each_response
from glmm_bayes.verbs.intervals import LOGIT, table
from glmm_bayes.verbs.marginal import all_factors, spread

type Params = Mapping[str, np.ndarray]


def r2(fit: Fit, kind: str | None = None, *, level: float = 0.95) -> pd.DataFrame:
    """
    Give the R squared, marginal (of the fixed part) and conditional (with the random effects).

    Parameters
    ----------
    kind
        `"gelman"`, usual for a posterior, on the scale of the response (with trials, of the
        proportion): var(f) / (var(f) + e), and marginal var(p) / (var(p) + var(f - p) + e): f the
        rows' expectations, p those with the random effects zero, var over the rows, and e the
        mean over the rows of the response's variance in the model.
        `"nakagawa"`, usual for a maximum, on the link scale: the share of the variance of the
        fixed part over the rows, and of this and the random terms', in these and the
        distribution's, as in `icc`.

    Returns
    -------
    DataFrame
        `estimate, std_error, lower, upper` of `"marginal"` and `"conditional"`; of several
        responses for each, with a column `response`.

    Raises
    ------
    UnknownNameError
        If there is no such kind.
    NotSupportedError
        If the family states no variance, or no variance on the link scale is known.

    Notes
    -----
    Gelman, Goodrich, Gabry & Vehtari (2019), The American Statistician 73, 307-309, with the
    modelled residual variance. What the random effects explain counts as unexplained in
    "marginal", as in Nakagawa & Schielzeth (2013), Methods in Ecology and Evolution 4, 133-142.
    Where there are many rows, evenly spaced draws are used.
    """
    kind = fit.shares if kind is None else kind
    if kind not in R_SQUARED:
        raise UnknownNameError(
            f"There is no R squared of kind {kind!r}. {suggestion(kind, R_SQUARED)}"
        )
    index = pd.Index(["marginal", "conditional"], name="r2")

    def answer(one: Separate) -> pd.DataFrame:
        return table(fit, np.column_stack(R_SQUARED[kind](one)), level, index, LOGIT)

    return each_response(fit.model, _draws(fit), answer)


def _draws(fit: Fit) -> Draws:
    return fit.at_most(max(100, 4 * CELLS // fit.model.nobs))


def _gelman(one: Separate) -> tuple[np.ndarray, np.ndarray]:
    family, draws, whole = one.family, one.draws, one.design
    if family.variance is None:
        raise NotSupportedError(
            f"The family {family.name!r} states no variance, so there is no R squared; "
            f"give it `variance`, or compare fits by loo()."
        )
    full, fixed = (np.empty((draws.size, whole.n)) for _ in range(2))
    residual = np.zeros(draws.size)
    for rows, design in in_rows(whole, draws.size):
        params = one.params(design, draws.effects)
        trials = design.response.trials
        full[:, rows] = family.expectation(params)
        kept = effects_for(design, draws, "population", None)
        fixed[:, rows] = family.expectation(one.params(design, kept))
        n = 1.0 if trials is None else np.maximum(trials, 1.0)
        variance = family.variance(params, trials) / n**2
        residual += np.broadcast_to(variance, full[:, rows].shape).sum(axis=1)
    residual /= whole.n
    total, population = full.var(axis=1), fixed.var(axis=1)
    between = (full - fixed).var(axis=1)
    return population / (population + between + residual), total / (total + residual)


def _nakagawa(one: Separate) -> tuple[np.ndarray, np.ndarray]:
    found = _variances(one)
    random = sum(found.groups.values(), np.zeros(len(found.residual)))
    whole = found.fixed + random + found.residual
    return found.fixed / whole, (found.fixed + random) / whole


R_SQUARED = {"gelman": _gelman, "nakagawa": _nakagawa}


def icc(fit: Fit, *, level: float = 0.95) -> pd.DataFrame:
    """
    Give the intra-class correlations: each group's share of the variance, on the link scale.

    The variance not explained by the fixed part is that of the random terms, averaged over the
    rows where a term has slopes, and the distribution's own.

    Returns
    -------
    DataFrame
        `estimate, std_error, lower, upper`, one row a group; with several groups, `"total"`; of
        several responses for each, with a column `response`.

    Raises
    ------
    NotSupportedError
        If there is no random term in the mean, or no variance on the link scale is known for the
        family and its link.

    Notes
    -----
    Nakagawa, Johnson & Schielzeth (2017), J. R. Soc. Interface 14, 20170213; random slopes:
    Johnson (2014), Methods in Ecology and Evolution 5, 944-946. The distribution's variance is
    sigma squared; pi^2/3 (logit), 1 (probit) or pi^2/6 (cloglog) for bernoulli, binomial and,
    over disc squared, cumulative;
    for a log link the mean over the rows of log(1 + var(m) / m^2), m the row's expectation with
    the random effects averaged out, exp(eta + v/2).
    """
    model = fit.model
    if not any(_groups(part.design) for part in model.observed):
        raise NotSupportedError(
            "There is no random term in the mean, so no variance lies between groups; see r2()."
        )
    return each_response(model, _draws(fit), lambda one: _correlations(fit, one, level))


def _groups(design: Design) -> list[RandomTerm]:
    """List the terms of groups that have effects in the mean."""
    return [t for t in design.terms if not t.common and any(g.param == "mu" for g in t.loadings)]


def _correlations(fit: Fit, one: Separate, level: float) -> pd.DataFrame:
    """Tabulate those of one response: none where its mean has no effects."""
    if not _groups(one.design):
        return table(fit, np.empty((one.draws.size, 0)), level, pd.Index([], name="group"), LOGIT)
    found = _variances(one)
    total = sum(found.groups.values(), np.zeros(len(found.residual)))
    shares = {name: value / (total + found.residual) for name, value in found.groups.items()}
    if len(shares) > 1:
        shares["total"] = total / (total + found.residual)
    index = pd.Index(shares, name="group")
    return table(fit, np.column_stack(list(shares.values())), level, index, LOGIT)


@dataclass(frozen=True, eq=False)
class Variances:
    """Variances on the link scale `(S,)`: of the fixed part, each group's, the distribution's."""

    fixed: np.ndarray
    groups: dict[str, np.ndarray]
    residual: np.ndarray


def _variances(one: Separate) -> Variances:
    draws, whole = one.draws, one.design
    own = _distribution_variance(one)
    Lambda = all_factors(whole, draws)
    groups = {term.label: np.zeros(draws.size) for term in _groups(whole)}
    residual, fixed = np.zeros(draws.size), np.empty((draws.size, whole.n))
    means = whole.predictors["mu"].X.mean(axis=0)
    for rows, design in in_rows(whole, draws.size):
        between = np.zeros((draws.size, design.n))
        for term in design.terms:
            if term.label in groups:
                v = np.square(spread(term, "mu", Lambda[term.name])).sum(axis=2)
                groups[term.label] += v.sum(axis=1) / whole.n
                between += v
        params = one.params(design, draws.effects)
        kept = effects_for(design, draws, "population", None)
        eta = linear_predictor(design, draws, kept, "mu")
        # About the columns' means: a constant column then varies by nothing at all. What is
        # known beforehand of a row, its offset, is not explained by the predictors.
        fixed[:, rows] = draws.beta["mu"] @ (design.predictors["mu"].X - means).T
        for term in (t for t in design.terms if t.name in kept):
            fixed[:, rows] += kept[term.name].reshape(draws.size, -1) @ term.Z("mu").T
        values = own(params, eta + 0.5 * between)
        residual += np.broadcast_to(values, between.shape).sum(axis=1) / whole.n
    return Variances(fixed.var(axis=1, ddof=1), groups, residual)


LATENT = {"logit": np.pi**2 / 3, "probit": 1.0, "cloglog": np.pi**2 / 6}


def _distribution_variance(one: Separate) -> Callable[[Params, np.ndarray], np.ndarray | float]:
    """Give the distribution's variance on the link scale, from the parameters and log m."""
    if "mu" not in one.links:
        raise NotSupportedError(
            f"The family {one.family.name!r} has several means, and no variance on a link's "
            f"scale is known; compare fits by their AIC, or by loo()."
        )
    family, link = one.family, one.links["mu"].name
    variance = family.variance
    if family.name in ("bernoulli", "binomial") and link in LATENT:
        return lambda params, log_m: LATENT[link]
    if family.name == "cumulative" and link in LATENT:
        return lambda params, log_m: LATENT[link] / params["disc"] ** 2
    if family.name in ("gaussian", "lognormal") and link == "identity":
        return lambda params, log_m: params["sigma"] ** 2
    if family.name == "student" and link == "identity" and variance is not None:
        return lambda params, log_m: variance(params, None)
    if link == "log" and variance is not None and not family.needs_trials:

        def relative(params: Params, log_m: np.ndarray) -> np.ndarray:
            m = np.exp(log_m)
            return np.log1p(variance({**params, "mu": m}, None) / m**2)

        return relative
    raise NotSupportedError(
        f"For family {family.name!r} with link {link!r} no variance on the link scale is known; "
        f"r2() gives shares of variance on the scale of the response."
    )
