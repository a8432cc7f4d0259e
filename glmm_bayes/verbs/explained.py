"""How much of the variation a fit explains, and how much of it lies between groups."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from glmm_bayes.errors import NotSupportedError
from glmm_bayes.fit import PosteriorFit
from glmm_bayes.model import Model
from glmm_bayes.predictive import CELLS, evenly_thinned, in_rows, linear_predictor, parameters
from glmm_bayes.verbs.intervals import table
from glmm_bayes.verbs.marginal import all_factors, spread

type Params = Mapping[str, np.ndarray]


def r2(fit: PosteriorFit, *, level: float = 0.95) -> pd.DataFrame:
    """
    Give the Bayesian R squared, on the scale of the response (with trials, of the proportion).

    Returns
    -------
    DataFrame
        `estimate, std_error, lower, upper` of `"conditional"`, var(f) / (var(f) + e), and
        `"marginal"`, var(p) / (var(p) + var(f - p) + e): f the rows' expectations, p those with
        the random effects zero, var over the rows, and e the mean over the rows of the
        response's variance in the model; each for every draw.

    Raises
    ------
    NotSupportedError
        If the family states no variance.

    Notes
    -----
    Gelman, Goodrich, Gabry & Vehtari (2019), The American Statistician 73, 307-309, with the
    modelled residual variance. What the random effects explain counts as unexplained in
    "marginal", as in Nakagawa & Schielzeth (2013), Methods in Ecology and Evolution 4, 133-142.
    Where there are many rows, evenly spaced draws are used.
    """
    model = fit.model
    if model.family.variance is None:
        raise NotSupportedError(
            f"The family {model.family.name!r} states no variance, so there is no R squared; "
            f"give it `variance`, or compare fits by loo()."
        )
    draws = evenly_thinned(fit.draws, max(100, 4 * CELLS // model.nobs))
    full, fixed = (np.empty((draws.size, model.nobs)) for _ in range(2))
    residual = np.zeros(draws.size)
    for rows, design in in_rows(model.design, draws.size):
        params = parameters(model, design, draws, draws.effects)
        trials = design.response.trials
        full[:, rows] = model.family.expectation(params)
        fixed[:, rows] = model.family.expectation(parameters(model, design, draws, {}))
        n = 1.0 if trials is None else np.maximum(trials, 1.0)
        variance = model.family.variance(params, trials) / n**2
        residual += np.broadcast_to(variance, full[:, rows].shape).sum(axis=1)
    residual /= model.nobs
    total, population = full.var(axis=1), fixed.var(axis=1)
    between = (full - fixed).var(axis=1)
    shares = [population / (population + between + residual), total / (total + residual)]
    return table(np.column_stack(shares), level, pd.Index(["marginal", "conditional"], name="r2"))


def icc(fit: PosteriorFit, *, level: float = 0.95) -> pd.DataFrame:
    """
    Give the intra-class correlations: each group's share of the variance, on the link scale.

    The variance not explained by the fixed part is that of the random terms, averaged over the
    rows where a term has slopes, and the distribution's own.

    Returns
    -------
    DataFrame
        `estimate, std_error, lower, upper`, one row a group; with several groups, `"total"`.

    Raises
    ------
    NotSupportedError
        If there is no random term in the mean, or no variance on the link scale is known for the
        family and its link.

    Notes
    -----
    Nakagawa, Johnson & Schielzeth (2017), J. R. Soc. Interface 14, 20170213; random slopes:
    Johnson (2014), Methods in Ecology and Evolution 5, 944-946. The distribution's variance is
    sigma squared; pi^2/3 (logit), 1 (probit) or pi^2/6 (cloglog) for bernoulli and binomial;
    for a log link the mean over the rows of log(1 + var(m) / m^2), m the row's expectation with
    the random effects averaged out, exp(eta + v/2).
    """
    model = fit.model
    terms = [t for t in model.design.terms if any(g.param == "mu" for g in t.loadings)]
    if not terms:
        raise NotSupportedError(
            "There is no random term in the mean, so no variance lies between groups; see r2()."
        )
    own = _distribution_variance(model)
    draws = evenly_thinned(fit.draws, max(100, 4 * CELLS // model.nobs))
    Lambda = all_factors(model.design, draws)
    groups = {term.label: np.zeros(draws.size) for term in terms}
    residual = np.zeros(draws.size)
    for _, design in in_rows(model.design, draws.size):
        between = np.zeros((draws.size, design.n))
        for term in design.terms:
            if term.label in groups:
                v = np.square(spread(term, "mu", Lambda[term.name])).sum(axis=2)
                groups[term.label] += v.sum(axis=1) / model.nobs
                between += v
        params = parameters(model, design, draws, draws.effects)
        eta = linear_predictor(design, draws, {}, "mu")
        values = own(params, eta + 0.5 * between)
        residual += np.broadcast_to(values, between.shape).sum(axis=1) / model.nobs
    total = sum(groups.values())
    shares = {name: value / (total + residual) for name, value in groups.items()}
    if len(groups) > 1:
        shares["total"] = total / (total + residual)
    return table(np.column_stack(list(shares.values())), level, pd.Index(shares, name="group"))


LATENT = {"logit": np.pi**2 / 3, "probit": 1.0, "cloglog": np.pi**2 / 6}


def _distribution_variance(model: Model) -> Callable[[Params, np.ndarray], np.ndarray | float]:
    """Give the distribution's variance on the link scale, from the parameters and log m."""
    family, link = model.family, model.links["mu"].name
    variance = family.variance
    if family.name in ("bernoulli", "binomial") and link in LATENT:
        return lambda params, log_m: LATENT[link]
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
