"""The parameters of a fit as tidy tables."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from glmm_bayes.draws import beta_name
from glmm_bayes.fit import PosteriorFit
from glmm_bayes.terms import RandomTerm
from glmm_bayes.verbs.intervals import summarise, table


def reliability(draws: np.ndarray, chains: int) -> dict[str, np.ndarray]:
    """
    Give R-hat and effective sample sizes of `(S, k)` draws, by ArviZ.

    Returns
    -------
    dict
        `r_hat, ess_bulk, ess_tail`, each `(k,)`; NaN for what does not vary.
    """
    from arviz_stats.base import array_stats

    if not draws.shape[1]:
        return {name: np.empty(0) for name in ("r_hat", "ess_bulk", "ess_tail")}
    cube = np.moveaxis(draws.reshape(chains, -1, draws.shape[1]), 2, 0)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return {
            "r_hat": array_stats.rhat(cube, chain_axis=1, draw_axis=2),
            "ess_bulk": array_stats.ess(cube, method="bulk", chain_axis=1, draw_axis=2),
            "ess_tail": array_stats.ess(
                cube, method="tail", chain_axis=1, draw_axis=2, prob=(0.05, 0.95)
            ),
        }


def fixef(fit: PosteriorFit, *, level: float = 0.95) -> pd.DataFrame:
    """
    Give the population-level coefficients, on the scale of the linear predictor.

    Returns
    -------
    DataFrame
        One row a coefficient: `estimate` (posterior mean), `std_error` (posterior standard
        deviation), `lower, upper` (equal-tailed), `r_hat, ess_bulk, ess_tail`; with a column
        `param` where several parameters have a predictor.
    """
    parts = []
    for param, beta in fit.draws.beta.items():
        names = pd.Index(fit.model.design.predictors[param].names, name="name")
        part = table(beta, level, names).assign(**reliability(beta, fit.draws.chains))
        part.insert(0, "param", param)
        parts.append(part)
    found = pd.concat(parts)
    return found if len(parts) > 1 else found.drop(columns="param")


def vcov(fit: PosteriorFit) -> pd.DataFrame:
    """Give the posterior covariance `(k, k)` of all coefficients, labelled as `beta[coef]`."""
    labels, columns = [], []
    for param, beta in fit.draws.beta.items():
        prefix = "" if param == "mu" else f"{param}:"
        labels += [prefix + name for name in fit.model.design.predictors[param].names]
        columns.append(beta)
    matrix = np.atleast_2d(np.cov(np.hstack(columns), rowvar=False))
    return pd.DataFrame(matrix, index=labels, columns=labels)


def varcorr(fit: PosteriorFit, *, level: float = 0.95) -> pd.DataFrame:
    """
    Give the standard deviations, correlations and other structure parameters of random terms.

    Returns
    -------
    DataFrame
        `param, group, structure, kind, coef1, coef2, estimate, std_error, lower, upper`, and
        `r_hat, ess_bulk, ess_tail`; a family's own scale `sigma` comes last as `Residual`.
    """
    rows = [row for term in fit.model.design.terms for row in _components(fit, term)]
    if "sigma" in fit.draws.constants:
        sigma = fit.draws.constants["sigma"]
        rows.append((("mu", "Residual", "", "sd", "", ""), sigma))
    keys = ["param", "group", "structure", "kind", "coef1", "coef2"]
    if not rows:
        return pd.DataFrame(columns=[*keys, "estimate", "std_error", "lower", "upper"])
    draws = np.stack([values for _, values in rows], axis=1)
    labels = pd.DataFrame([label for label, _ in rows], columns=keys)
    return labels.assign(**summarise(draws, level), **reliability(draws, fit.draws.chains))


def _components(fit: PosteriorFit, term: RandomTerm) -> Iterator[tuple[tuple[str, ...], Any]]:
    posterior = fit.idata["posterior"]
    params = "+".join(dict.fromkeys(g.param for g in term.loadings))
    head = (params, term.label, term.structure.name)
    for key in dict.fromkeys(p.key for p in term.structure.parameters(term.size)):
        values = posterior[f"{key}_{term.name}"].to_numpy()
        values = values.reshape(-1, *values.shape[2:])
        if values.ndim == 1:
            yield (*head, key, "", ""), values
        elif values.ndim == 2:
            for i, column in enumerate(term.columns):
                yield (*head, key, column, ""), values[:, i]
        else:
            for i, first in enumerate(term.columns):
                for j in range(i + 1, term.size):
                    yield (*head, key, first, term.columns[j]), values[:, i, j]


def ranef(fit: PosteriorFit, *, level: float = 0.95) -> pd.DataFrame:
    """
    Give the random effects, on the scale of the linear predictor.

    Returns
    -------
    DataFrame
        `param, group, level, coef, estimate, std_error, lower, upper`, one row an effect.
    """
    parts = []
    for term in fit.model.design.terms:
        b = fit.draws.effects[term.name]
        parts.append(_effects_table(term, summarise(b, level)))
    keys = ["param", "group", "level", "coef", "estimate", "std_error", "lower", "upper"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=keys)


def _effects_table(term: RandomTerm, found: dict[str, np.ndarray]) -> pd.DataFrame:
    params = np.empty(term.size, dtype=object)
    names = np.empty(term.size, dtype=object)
    for loading in term.loadings:
        params[loading.columns] = loading.param
        names[loading.columns] = loading.matrix.names
    q = len(term.levels)
    labels = {
        "param": np.tile(params, q),
        "group": term.label,
        "level": np.repeat(term.levels, term.size),
        "coef": np.tile(names, q),
    }
    return pd.DataFrame(labels | {k: v.ravel() for k, v in found.items()})


def coef(fit: PosteriorFit, *, level: float = 0.95) -> pd.DataFrame:
    """
    Give each level's own coefficients: the population's plus the level's effects.

    Returns
    -------
    DataFrame
        As `ranef`, one row a level and coefficient of the population or of the term.
    """
    parts = []
    for term in fit.model.design.terms:
        for loading in term.loadings:
            population = fit.model.design.predictors[loading.param].names
            beta = fit.draws.beta[loading.param]
            own = fit.draws.effects[term.name][:, :, loading.columns]
            columns = dict.fromkeys([*population, *loading.matrix.names])
            for name in columns:
                total = np.zeros((len(beta), len(term.levels)))
                if name in population:
                    total += beta[:, [population.index(name)]]
                if name in loading.matrix.names:
                    total += own[:, :, loading.matrix.names.index(name)]
                labels = {
                    "param": loading.param,
                    "group": term.label,
                    "level": term.levels,
                    "coef": name,
                }
                parts.append(pd.DataFrame(labels | summarise(total, level)))
    keys = ["param", "group", "level", "coef", "estimate", "std_error", "lower", "upper"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=keys)


def outer_draws(fit: PosteriorFit) -> dict[str, np.ndarray]:
    """Give the draws `(S,)` of every single outer parameter, by its full name."""
    found: dict[str, np.ndarray] = {}
    for param, beta in fit.draws.beta.items():
        for k, name in enumerate(fit.model.design.predictors[param].names):
            found[f"{beta_name(param)}[{name}]"] = beta[:, k]
    for term in fit.model.design.terms:
        for (_, _, _, kind, *coefs), values in _components(fit, term):
            inside = ", ".join(c for c in coefs if c)
            found[f"{kind}_{term.name}" + (f"[{inside}]" if inside else "")] = values
    return found | dict(fit.draws.constants)
