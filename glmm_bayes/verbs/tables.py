"""The parameters of a fit as tidy tables."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from glmm_bayes.draws import Draws, beta_name, derived_values
from glmm_bayes.fit import Fit
from glmm_bayes.model import Model
from glmm_bayes.modes.star import widened
from glmm_bayes.residual import Residuals
from glmm_bayes.terms import Loading, RandomTerm
from glmm_bayes.unseen import Measured
from glmm_bayes.verbs.intervals import FISHER, IDENTITY, LOG, Scale, link_scale, scale_of, table
from glmm_bayes.verbs.sources import no_arms


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


def fixef(fit: Fit, *, level: float = 0.95) -> pd.DataFrame:
    """
    Give the population-level coefficients, on the scale of the linear predictor.

    Returns
    -------
    DataFrame
        One row a coefficient, with a column `param` where several parameters have a predictor.
        Of a posterior: `estimate` (mean), `std_error` (standard deviation), `lower, upper`
        (equal-tailed), `r_hat, ess_bulk, ess_tail`. Of a maximum: `estimate`, `std_error` (from
        the curvature), `lower, upper` (Wald's), `statistic` (z), `df` (infinite), `p_value`
        (two-sided, normal: too small where groups are few).
    """
    parts = []
    for param, beta in fit.draws.beta.items():
        predictor = fit.model.design.predictors[param]
        names = pd.Index(predictor.names, name="name")
        part = table(fit, beta, level, names).assign(**fit.quality(beta), **fit.tests(beta))
        part.insert(0, "param", predictor.shown)
        parts.append(part)
    found = pd.concat(parts)
    return found if len(set(found["param"])) > 1 else found.drop(columns="param")


def vcov(fit: Fit) -> pd.DataFrame:
    """
    Give the covariance `(k, k)` of all coefficients, those of other parameters as `sigma:x`.

    Of a posterior, that of its draws; of a maximum, the block of the inverse of the negative
    Hessian by all parameters; of a Gaussian response with sigma profiled out, that for the
    variances as estimated, as lme4's.
    """
    labels = []
    for param in fit.draws.beta:
        predictor = fit.model.design.predictors[param]
        labels += [predictor.prefix + name for name in predictor.names]
    return pd.DataFrame(fit.coefficient_covariance(), index=labels, columns=labels)


def covariance_of_draws(draws: Draws) -> np.ndarray:
    """Give the covariance `(K, K)` of all predictors' coefficients over random draws."""
    return np.atleast_2d(np.cov(np.hstack(list(draws.beta.values())), rowvar=False))


def varcorr(fit: Fit, *, level: float = 0.95) -> pd.DataFrame:
    """
    Give the standard deviations, correlations and other structure parameters of random terms.

    Returns
    -------
    DataFrame
        `param, group, structure, kind, coef1, coef2, estimate, std_error, lower, upper`, and of a
        posterior `r_hat, ess_bulk, ess_tail`; a family's own scale `sigma` comes last as
        `Residual`. Of a maximum the intervals are Wald's on the log scale, of correlations on
        Fisher's; at an edge, a zero standard deviation or a perfect correlation, there is none,
        and what is NaN is so.
    """
    rows = [row for _, row in components(fit.model, fit.draws)]
    if "sigma" in fit.draws.constants:
        sigma, link = fit.draws.constants["sigma"], fit.model.links["sigma"]
        rows.append((("mu", "Residual", "", "sd", "", ""), sigma, link_scale(link)))
    rows += _residuals_of_responses(fit)
    keys = ["param", "group", "structure", "kind", "coef1", "coef2"]
    if not rows:
        return pd.DataFrame(columns=[*keys, "estimate", "std_error", "lower", "upper"])
    labels = pd.DataFrame([label for label, _, _ in rows], columns=keys)
    parts = [table(fit, values[:, None], level, scale=scale) for _, values, scale in rows]
    found = pd.concat([labels, pd.concat(parts, ignore_index=True)], axis=1)
    return found.assign(**fit.quality(np.stack([values for _, values, _ in rows], axis=1)))


def _residuals_of_responses(fit: Fit) -> Iterator["Component"]:
    """Give the residuals' standard deviations, and correlations between responses."""
    found, constants = fit.model.family.responses, fit.draws.constants
    if found is None:
        return
    for part in found.parts:
        name = part.names.get("sigma", "")
        if name in constants:
            head = (part.names["mu"], "Residual", "")
            yield (*head, "sd", part.label, ""), constants[name], link_scale(fit.model.links[name])
    if set(found.correlations) <= set(constants):
        for one, other, values in found.correlation(constants):
            params = f"{found.part(one).names['mu']}+{found.part(other).names['mu']}"
            yield (params, "Residual", "", "corr", one, other), values, FISHER


type Component = tuple[tuple[str, ...], np.ndarray, Scale]


def structure_name(term: RandomTerm) -> str:
    """Name what tells two terms of one group apart: the structure between levels, or columns."""
    between = term.level_structure
    return term.structure.name if between.pairs is None else between.name


def components(model: Model, draws: Draws) -> Iterator[tuple[str, Component]]:
    """Give the parameters of all structures, each with the name of what it is of, in order."""
    for term in model.design.terms:
        yield from ((term.name, part) for part in _components(draws, term))
    residual = model.design.residual
    if residual is not None:
        head = ("mu", residual.label, residual.kind)
        yield from ((residual.name, part) for part in _structure_values(draws, residual, head))
    for measured in model.design.measured:
        yield from ((measured.name, part) for part in _distribution(draws, measured))


def _distribution(draws: Draws, measured: Measured) -> Iterator[Component]:
    """Give the parameters of the true values' distribution one by one."""
    structure, size = measured.structure, measured.size
    head = ("mu", measured.label, "normal")
    for d, column in enumerate(measured.columns):
        yield (*head, "mean", column, ""), draws.theta[f"mean_{measured.name}"][:, d], IDENTITY
    values = {"sd": draws.theta[f"sd_{measured.name}"], **derived_values(measured, draws.theta)}
    for key, place in structure.listed(size):
        labels = [measured.columns[d] for d in place] + [""] * (2 - len(place))
        at: tuple[Any, ...] = (slice(None), *place)
        yield (*head, key, *labels), values[key][at], FISHER if key == "corr" else LOG


def _components(draws: Draws, term: RandomTerm) -> Iterator[Component]:
    """Give a term's parameters one by one: labels, values `(S,)`, and a scale for intervals."""
    params = "+".join(dict.fromkeys(g.param for g in term.loadings))
    head, structure = (params, term.label, structure_name(term)), term.structure
    values = reported_values(draws, term)
    scales = {p.key: scale_of(p.support) for p in structure.parameters(term.size)}
    scales |= {"sd": LOG, "corr": FISHER}
    names = {"coef": term.columns, "coef2": term.columns, **structure.coordinates(term.size)}
    own = {p.key: (p.dim or "coef",) for p in structure.parameters(term.size) if p.name == p.key}
    for key, place in structure.listed(term.size):
        dims = own.get(key) or structure.dims(key)
        labels = [names[d][k] for d, k in zip(dims, place, strict=False)]
        labels += [""] * (2 - len(labels))
        at: tuple[Any, ...] = (slice(None), *place)
        # A single number may be a vector of one entry.
        entry = values[key][at].reshape(len(values[key]))
        yield (*head, key, *labels), entry, scales.get(key, IDENTITY)
    # How levels without effects hang together, nothing tells.
    sd = values.get("sd")
    none = (
        np.zeros(draws.size, bool) if sd is None else (sd.reshape(draws.size, -1) == 0).all(axis=1)
    )
    for label, entry, scale in _structure_values(draws, term, head):
        yield label, np.where(none, np.nan, entry), scale


def _structure_values(
    draws: Draws, owner: RandomTerm | Residuals, head: tuple[str, ...]
) -> Iterator[Component]:
    """Give the parameters of what is between levels, or between residuals, one by one."""
    structure, size = owner.structures[1]
    parameters = structure.parameters(size)
    theta = {p.name: draws.theta[f"{p.name}_{owner.name}"].reshape(-1, p.size) for p in parameters}
    values = {p.key: theta[p.name] for p in parameters if p.name == p.key}
    own = [structure.reported({k: v[s] for k, v in theta.items()}, size) for s in range(draws.size)]
    values |= {key: np.stack([row[key] for row in own]) for key in own[0]}
    values = structure.in_units(values, draws.theta.get(f"sd_{owner.name}"))
    scales = {p.key: scale_of(p.support) for p in parameters} | {"corr": FISHER}
    supports = {p.key: p.support for p in parameters if p.name == p.key}
    names = structure.coordinates(size)
    dims = {p.key: (p.dim,) for p in parameters if p.name == p.key and p.dim}
    for key, place in structure.listed(size):
        labels = [
            names[d][k] for d, k in zip(dims.get(key, structure.dims(key)), place, strict=False)
        ]
        labels += [""] * (2 - len(labels))
        at: tuple[Any, ...] = (slice(None), *place)
        entry = values[key][at].reshape(draws.size)
        support = supports.get(key, (-np.inf, np.inf))
        yield (*head, key, *labels), _at_rest(entry, support), scales.get(key, IDENTITY)


def _at_rest(entry: np.ndarray, support: tuple[float, float]) -> np.ndarray:
    """Leave only the estimate of what stands at a bound at all draws: it has no interval."""
    room = 2e-6 * (support[1] - support[0])
    near = np.minimum(entry - support[0], support[1] - entry) < room
    first = np.arange(len(entry)) == 0
    return np.where(first, entry, np.nan) if np.isfinite(room) and near.all() else entry


def reported_values(draws: Draws, term: RandomTerm) -> dict[str, np.ndarray]:
    """Give the parameters of a term's structure `(S, …)` as results name them, by key."""
    parameters = term.structure.parameters(term.size)
    found = {p.key: draws.theta[f"{p.name}_{term.name}"] for p in parameters if p.name == p.key}
    found |= derived_values(term, draws.theta)
    if "corr" in found and found["corr"].ndim == 3 and "sd" in found:
        # What does not vary is correlated with nothing.
        none = np.broadcast_to(found["sd"] == 0, found["corr"].shape[:2])
        found["corr"] = np.where(none[:, :, None] | none[:, None, :], np.nan, found["corr"])
    return found


def ranef(fit: Fit, *, level: float = 0.95) -> pd.DataFrame:
    """
    Give the random effects, on the scale of the linear predictor.

    Returns
    -------
    DataFrame
        `param, group, structure, level, coef, estimate, std_error, lower, upper`, one row an
        effect; `structure` as in `varcorr`. Of a maximum: the conditional modes, with the
        conditional standard deviations given the parameters, as lme4's `condVar`.
    """
    parts = []
    for term in fit.model.design.terms:
        b = widened(fit.plug_in.effects[term.name], fit.effect_arms(term))
        parts.append(_effects_table(term, fit.summarise(b[:, : term.shown], level)))
    keys = [*KEYS[:2], "structure", *KEYS[2:]]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=keys)


def _effects_table(term: RandomTerm, found: dict[str, np.ndarray]) -> pd.DataFrame:
    params = np.empty(term.size, dtype=object)
    names = np.empty(term.size, dtype=object)
    for loading in term.loadings:
        params[loading.columns] = loading.param
        names[loading.columns] = loading.matrix.names
    q = term.shown
    labels = {
        "param": np.tile(params, q),
        "group": term.label,
        "structure": structure_name(term),
        "level": np.repeat(term.levels[:q], term.size),
        "coef": np.tile(names, q),
    }
    return pd.DataFrame(labels | {k: v.ravel() for k, v in found.items()})


def coef(fit: Fit, *, level: float = 0.95) -> pd.DataFrame:
    """
    Give each level's own coefficients: the population's plus the level's effects.

    Returns
    -------
    DataFrame
        `param, group, level, coef, estimate, std_error, lower, upper`, one row a level and
        coefficient of the population or of the group's terms, whose effects are summed where a
        group has several. Of a maximum the standard errors hold the uncertainty of the parameters
        too, and how the effects' modes move with them.
    """
    groups: dict[tuple[str, str], list[tuple[RandomTerm, Loading]]] = {}
    for term in fit.model.design.terms:
        for loading in term.loadings:
            groups.setdefault((loading.param, term.label), []).append((term, loading))
    parts = [_own(fit, *key, own, level) for key, own in groups.items()]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=KEYS)


KEYS = ["param", "group", "level", "coef", "estimate", "std_error", "lower", "upper"]


def _own(
    fit: Fit, param: str, group: str, own: list[tuple[RandomTerm, Loading]], level: float
) -> pd.DataFrame:
    """Give the table of one group and parameter."""
    levels = list(dict.fromkeys(name for term, _ in own for name in term.levels[: term.shown]))
    population, beta = fit.model.design.predictors[param].names, fit.draws.beta[param]
    names = [name for _, loading in own for name in loading.matrix.names]
    parts = []
    for name in dict.fromkeys([*population, *names]):
        total = np.zeros((len(beta), len(levels)))
        if name in population:
            total += beta[:, [population.index(name)]]
        columns: dict[str, tuple[int, np.ndarray]] = {}
        for term, loading in own:
            if name in loading.matrix.names:
                column = range(term.size)[loading.columns][loading.matrix.names.index(name)]
                seen = {known: k for k, known in enumerate(term.levels[: term.shown])}
                at = np.array([seen.get(known, -1) for known in levels])
                columns[term.name] = column, at
                total[:, at >= 0] += fit.draws.effects[term.name][:, at[at >= 0], column]
        arms = fit.summed_arms(columns) if columns else no_arms(len(levels))
        labels = {"param": param, "group": group, "level": levels, "coef": name}
        parts.append(pd.DataFrame(labels | fit.summarise(widened(total, arms), level)))
    return pd.concat(parts)


def constants(fit: Fit, *, level: float = 0.95) -> pd.DataFrame:
    """Give the family's parameters without a formula, one a row, on their own scale."""
    found = fit.draws.constants
    if not found:
        none = table(fit, np.empty((fit.draws.size, 0)), level)
        return none.assign(**fit.quality(np.empty((fit.draws.size, 0))))
    parts = [
        table(fit, v[:, None], level, scale=link_scale(fit.model.links[name]))
        for name, v in found.items()
    ]
    shown = pd.concat(parts).set_axis(pd.Index(found, name="name", dtype=object))
    return shown.assign(**fit.quality(np.stack(list(found.values()), axis=1)))


def theta(fit: Fit) -> pd.Series:
    """Give the estimates of the outer parameters, by their full names, on their own scale."""
    found = {
        name: fit.summarise(v, 0.95, IDENTITY)["estimate"] for name, v in outer_draws(fit).items()
    }
    return pd.Series(found, name="theta", dtype=float)


def outer_draws(fit: Fit) -> dict[str, np.ndarray]:
    """Give the draws `(S,)` of every single outer parameter, by its full name."""
    found: dict[str, np.ndarray] = {}
    for param, beta in fit.draws.beta.items():
        predictor = fit.model.design.predictors[param]
        for k, name in enumerate(predictor.names):
            found[f"{beta_name(predictor.shown)}[{name}]"] = beta[:, k]
    for owner, ((_, _, _, kind, *coefs), values, _) in components(fit.model, fit.draws):
        inside = ", ".join(c for c in coefs if c)
        found[f"{kind}_{owner}" + (f"[{inside}]" if inside else "")] = values
    return found | dict(fit.draws.constants)
