"""Model to `pm.Model`: theta, effects, linear predictors, parameters, response."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from glmm_bayes.arrays import graph
from glmm_bayes.covariance.shaped import NotNormal
from glmm_bayes.dependents import decompositions
from glmm_bayes.design import INTERCEPT
from glmm_bayes.draws import ascending, beta_name, coordinates, thresholds_of
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.kriging import standard_effects
from glmm_bayes.model import Model
from glmm_bayes.parameters import Block
from glmm_bayes.predictive import with_residuals
from glmm_bayes.priors import Prior, grouped
from glmm_bayes.residual import Residuals
from glmm_bayes.residual_draws import drawn_residuals, parts_of
from glmm_bayes.terms import RandomTerm
from glmm_bayes.unseen_graph import beyond, completed_response, unseen_values

# The variable of thresholds or intercepts that ascend, at the columns' means while centred.
ASCENDING = "ascending"


def compile_model(model: Model) -> pm.Model:
    """
    Write the whole hierarchical model in PyMC.

    Returns
    -------
    pm.Model
        With the names and dims that results have; rows are `__obs__`. Beside these, `gamma` are
        the coefficients of centred columns, `v_<term>` the effects in standard units (where the
        term is not centred) and `partial_<term>` what a correlation matrix is sampled by.
    """
    coords = {**coordinates(model), "__obs__": model.design.rows.kept}
    if model.design.y.ndim == 2:
        coords[model.family.dimension] = list(model.family.columns or ())
    with pm.Model(coords=coords) as built:
        apart = _ascending(model)
        values = {b.name: _variable(model, b, apart.get(b.name, {})) for b in model.blocks}
        values |= _dependents(model, values)
        _decomposed(model, values)
        values |= _thresholds(model, values)
        unseen = unseen_values(model, values)
        eta = {}
        for param, predictor in model.design.predictors.items():
            eta[param] = pt.as_tensor(predictor.offset)
            if predictor.names:
                beta = _beta(model, param, values)
                eta[param] = eta[param] + predictor.X @ beta + beyond(predictor, beta, unseen)
        for term in model.design.terms:
            b = _effects(model, term, values)
            for loading in term.loadings:
                part = _contribution(term, loading, b)
                eta[loading.param] = eta[loading.param] + part
        params = {name: values[name] for name in model.constants}
        for name, predictor in eta.items():
            params[name] = model.links[name].linkinv(predictor, graph())
        if model.design.residual is not None:
            _together(model, model.design.residual, params, values)
        elif model.design.unknown and model.design.imputed:
            completed_response(model, params, unseen)
        else:
            _response(model, params)
    return built


def _variable(model: Model, block: Block, apart: Mapping[int, Any]) -> Any:
    """
    Enter a block's variables: one where its priors are of one form, else joined ones.

    What is `apart`, by its place in the block, has been entered before.
    """
    name = sampled_name(model, block)
    if block.scalar and not block.priors[0].is_fixed:
        return block.priors[0].variable(name)
    forms = forms_of(block, apart)
    plain = len(forms) == 1 and not (forms[0][0].is_fixed or forms[0][0].is_dependent)
    if plain and not apart:
        prior = forms[0][0]
        return prior.variable(name, dims=block.dim, shape=None if block.dim else (block.size,))
    whole = pt.zeros(block.size)
    for part_name, (prior, at) in zip(part_names(name, forms), forms, strict=True):
        if prior.is_dependent:
            continue
        part = (
            prior.arguments["value"]
            if prior.is_fixed
            else prior.variable(part_name, shape=(len(at),))
        )
        whole = pt.set_subtensor(whole[at], part)
    for k, value in apart.items():
        whole = pt.set_subtensor(whole[k], value)
    awaits = any(prior.is_dependent for prior in block.priors)
    if awaits or block.name in [beta_name(threshold) for threshold in thresholds_of(model)]:
        return whole
    return pm.Deterministic(name, whole[0] if block.scalar else whole, dims=block.dim)


def forms_of(block: Block, apart: Collection[int]) -> list[tuple[Prior, Any]]:
    """Give pairs of a prior and the places in the block it speaks of, but for those apart."""
    others = np.array([k for k in range(block.size) if k not in apart], dtype=int)
    forms = grouped([block.priors[k] for k in others])
    return [(prior, others[at]) for prior, at in forms]


def _dependents(model: Model, values: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the entries that are functions of other blocks; by block, all of its entries."""
    found = {}
    for block in model.blocks:
        own = [each for each in model.dependents if each.block == block.name]
        if not own:
            continue
        # Joined rather than put in place, of which PyTensor 3.3 may take wrong slopes.
        parts, source, end = [values[block.name]], np.arange(block.size), block.size
        for each in own:
            given = [pt.atleast_1d(values[name]) for name in each.given]
            parts.append(each.formula.value(given, graph()))
            source[each.entries] = np.arange(end, end + len(each.entries))
            end += len(each.entries)
        whole = pt.concatenate(parts)[source]
        found[block.name] = pm.Deterministic(sampled_name(model, block), whole, dims=block.dim)
    return found


def _decomposed(model: Model, values: Mapping[str, Any]) -> None:
    """Enter the priors of standard deviations whose total has one."""
    for number, (form, at) in enumerate(decompositions(model.blocks)):
        every = pt.concatenate([pt.atleast_1d(values[block.name]) for block in model.blocks])
        pm.Potential(f"decomposed_{number}", form.core(every[at], graph()).sum())


def part_names(name: str, forms: Sequence[tuple[Prior, Any]]) -> list[str]:
    """Name the variables that a block with several forms of prior is joined from."""
    kinds = [prior.distribution.lower() for prior, _ in forms]
    return [
        f"{name}_{kind}" if kinds.count(kind) == 1 else f"{name}_{kind}_{kinds[:k].count(kind) + 1}"
        for k, kind in enumerate(kinds)
    ]


def sampled_name(model: Model, block: Block) -> str:
    """Call the coefficients `gamma` where they are not yet those of the columns as they are."""
    for param, predictor in model.design.predictors.items():
        step = predictor.part.step is not None
        centred = model.means("mu" if step else param).any() and (step or predictor.part.intercept)
        if block.name == beta_name(param) and centred:
            return block.name.replace("beta", "gamma", 1)
    return block.name


def _ascending(model: Model) -> dict[str, dict[int, Any]]:
    """Enter what ascends as one vector: by block and place there, its entries."""
    at = ascending(model)
    if not at:
        return {}
    priors = [block.priors[at[block.name]] for block in model.blocks if block.name in at]
    forms, order = grouped(priors), pm.distributions.transforms.ordered
    middle = next(s.m for param, s in model.scales.items() if beta_name(param) in at)
    start = middle + np.arange(len(at), dtype=float) - (len(at) - 1) / 2
    given = {"shape": (len(at),), "transform": order, "initval": start}
    if len(forms) == 1:
        whole = forms[0][0].variable(ASCENDING, **given)
    else:
        whole = pm.Flat(ASCENDING, **given)
        for k, (prior, places) in enumerate(forms):
            pm.Potential(f"{ASCENDING}_{k}", prior.log_density(whole[places]).sum())
    return {name: {at[name]: whole[k]} for k, name in enumerate(at)}


def _thresholds(model: Model, values: Mapping[str, Any]) -> dict[str, Any]:
    """Report thresholds and category-specific coefficients; by block, those of a threshold."""
    names = [beta_name(name) for name in thresholds_of(model)]
    if not names:
        return {}
    means = model.means("mu")
    every = pt.stack([values[name] for name in names])
    if means.any():
        # Thresholds at zero lie above those at the columns' means by what the means add.
        every = pt.inc_subtensor(every[:, 0], pt.dot(means, values[beta_name("mu")]))
    pm.Deterministic("thresholds", every[:, 0], dims="threshold")
    if model.layout[names[0]].stop - model.layout[names[0]].start > 1:
        pm.Deterministic("beta_cs", every[:, 1:], dims=("threshold", "coef_cs"))
    return {name: every[k] for k, name in enumerate(names)}


def _beta(model: Model, param: str, values: Mapping[str, Any]) -> Any:
    name, means = beta_name(param), model.means(param)
    gamma = values[name]
    if not means.any() or not model.design.predictors[param].part.intercept:
        return gamma
    at = model.design.predictors[param].names.index(INTERCEPT)
    beta = pt.set_subtensor(gamma[at], gamma[at] - pt.dot(means, gamma))
    return pm.Deterministic(name, beta, dims="coef" if param == "mu" else f"coef_{param}")


def _effects(model: Model, term: RandomTerm, values: Mapping[str, Any]) -> Any:
    """Enter one term's effects b `(q, p)`."""
    theta = {
        p.name: pt.atleast_1d(values[f"{p.name}_{term.name}"])
        for p in term.structure.parameters(term.size)
    }
    for key, value in term.structure.reported(theta, term.size, graph()).items():
        dims = tuple(f"{term.name}__{d}" for d in term.structure.dims(key))
        pm.Deterministic(f"{key}_{term.name}", value, dims=dims)
    Lambda = term.structure.factor(theta, term.size, graph())
    dims = (term.dim, f"{term.name}__coef")
    if model.centering[term.name]:
        return pm.MvNormal(f"b_{term.name}", mu=np.zeros(term.size), chol=Lambda, dims=dims)
    v = _standard(term, values, dims)
    return pm.Deterministic(f"b_{term.name}", v @ Lambda.T, dims=dims)


def _standard(term: RandomTerm, values: Mapping[str, Any], dims: tuple[str, str]) -> Any:
    """Enter one term's effects in standard units, v `(q, p)`, of the precision of its levels."""
    between, q, p = term.level_structure, len(term.levels), term.size
    names = [parameter.name for parameter in between.parameters(q)]
    if between.distribution is not None:
        return _of_another_distribution(term, between.distribution, values, dims)
    if between.pairs is None:
        return pm.Normal(f"v_{term.name}", dims=dims)
    i, j = between.pairs.T
    twice = np.where(i == j, 1.0, 2.0)

    def logp(v: Any, middle: Any, *given: Any) -> Any:
        Q = between.entries(dict(zip(names, given, strict=True)), graph())
        squares = (Q.values * twice * (v[i] * v[j]).sum(axis=1)).sum()
        if between.held is not None:
            squares = squares + pt.sqr(pt.dot(between.held[0], v)).sum()
        return 0.5 * (p * Q.log_determinant - squares - q * p * np.log(2 * np.pi))

    def random(middle: Any, *given: Any, rng: np.random.Generator, size: Any) -> np.ndarray:
        theta = {f"{k}_{term.name}": value for k, value in zip(names, given, strict=True)}
        return standard_effects(term, theta, rng)

    theta = [pt.atleast_1d(values[f"{name}_{term.name}"]) for name in names]
    # PyMC learns the shape of a draw from a parameter that has it.
    inputs = ",".join(["(q,p)", *(f"(m{k})" for k in range(len(theta)))])
    return pm.CustomDist(
        f"v_{term.name}", np.zeros((q, p)), *theta, logp=logp, random=random,
        signature=f"{inputs}->(q,p)", dims=dims,
    )  # fmt: skip


def _of_another_distribution(
    term: RandomTerm, between: NotNormal, values: Mapping[str, Any], dims: tuple[str, str]
) -> Any:
    """Enter effects that are not normal, or the classes that have them, in standard units."""
    q, sd = len(term.levels), pt.atleast_1d(values[f"sd_{term.name}"])[0]
    theta = {p.name: pt.atleast_1d(values[f"{p.name}_{term.name}"]) for p in between.parameters(q)}
    for key, value in between.in_units(between.reported(theta, q, graph()), sd).items():
        own = tuple(f"{term.name}__{d}" for d in between.dims(key))
        pm.Deterministic(f"{key}_{term.name}", value, dims=own)
    kind, arguments = between.symbolic(theta, graph())
    drawn = getattr(pm, kind)(f"{between.drawn_as}_{term.name}", **arguments, dims=dims)
    return between.placed(drawn, theta, graph())


def _together(
    model: Model, residual: Residuals, params: Mapping[str, Any], values: Mapping[str, Any]
) -> None:
    """Enter a normal or t response whose residuals vary together."""
    between, n, y = residual.level_structure, model.nobs, model.design.y
    names = [p.name for p in between.parameters(n)]
    theta = {name: pt.atleast_1d(values[f"{name}_{residual.name}"]) for name in names}
    for key, value in between.reported(theta, n, graph()).items():
        dims = tuple(f"{residual.name}__{d}" for d in between.dims(key))
        pm.Deterministic(f"{key}_{residual.name}", value, dims=dims)
    i, j = residual.pairs.T
    twice, label = np.where(i == j, 1.0, 2.0), parts_of(residual)
    own = ["mu", "sigma"] if model.family.degrees is None else ["mu", "sigma", model.family.degrees]

    def logp(x: Any, *given: Any) -> Any:
        params = dict(zip(own, given[: len(own)], strict=True))
        Q = between.entries(dict(zip(names, given[len(own) :], strict=True)), graph())
        e = (model.family.working(x) - params["mu"]) / params["sigma"]
        each = Q.values * twice * e[i] * e[j]
        whole = 0.5 * Q.log_determinant - pt.log(params["sigma"]).sum()
        if model.family.degrees is None:
            return whole - 0.5 * (each.sum() + n * np.log(2 * np.pi))
        return whole + _of_t(each, label[i], np.bincount(label), params[own[2]][0])

    def random(*given: Any, rng: Any, size: Any) -> np.ndarray:
        params = dict(zip(own, given[: len(own)], strict=True))
        named = {
            f"{k}_{residual.name}": v[None] for k, v in zip(names, given[len(own) :], strict=True)
        }
        nu = None if model.family.degrees is None else params[own[2]][:1]
        e = drawn_residuals(residual, named, rng, nu)
        return with_residuals(model, params, e)[0]

    inputs = ",".join(["(n)"] * len(own) + [f"(m{k})" for k in range(len(names))])
    pm.CustomDist(
        "y", *(pt.broadcast_to(params[k], (n,)) for k in own), *theta.values(),
        logp=logp, random=random, signature=f"{inputs}->(n)", observed=y, dims="__obs__",
    )  # fmt: skip


def _of_t(each: Any, part: np.ndarray, sizes: np.ndarray, nu: Any) -> Any:
    """Give what a multivariate t has of squares, which pairs of rows of a part add to."""
    d = graph().add_at(pt.zeros(len(sizes)), part, each)
    scale = pt.gammaln((nu + sizes) / 2) - pt.gammaln(nu / 2) - sizes / 2 * pt.log(nu * np.pi)
    return (scale - (nu + sizes) / 2 * pt.log1p(d / nu)).sum()


def _contribution(term: RandomTerm, loading: Any, b: Any) -> Any:
    members = [
        term.weights[:, j] * (loading.Z * b[term.index[:, j], loading.columns]).sum(axis=1)
        for j in range(term.index.shape[1])
    ]
    return sum(members[1:], members[0])


def _response(model: Model, params: Mapping[str, Any]) -> None:
    response, family = model.design.response, model.family
    arguments = family.symbolic_arguments(params, response.trials)
    distribution = family.symbolic()
    observed = response.y.astype(int) if family.discrete else response.y
    dims = ("__obs__",) if family.columns is None else ("__obs__", family.dimension)
    y = distribution("y", **arguments, observed=observed, dims=dims)
    if response.weights is not None:
        # Each row counts as `weights` rows alike: its log density that many times.
        pm.Potential("weights", ((response.weights - 1) * pm.logp(y, observed)).sum())


def model_graph(model: Model) -> Any:
    """
    Draw the model as a directed graph.

    Raises
    ------
    NotSupportedError
        If the package graphviz is not installed.
    """
    try:
        return pm.model_to_graphviz(model.pymc)
    except ImportError as error:
        raise NotSupportedError(
            'model.graph() needs the package graphviz: pip install "glmm-bayes[graph]".'
        ) from error
