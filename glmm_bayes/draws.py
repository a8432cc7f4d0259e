"""Draws of a model's parameters as arrays in the model's order, and their names in a DataTree."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from glmm_bayes.covariance.masses import MassPoints
from glmm_bayes.design import INTERCEPT
from glmm_bayes.engine.density.joint import Joint
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.model import Model
from glmm_bayes.priors import REAL
from glmm_bayes.terms import RandomTerm
from glmm_bayes.unseen import Measured, Unseen

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, eq=False)
class Draws:
    """
    S draws of everything a model estimates.

    Attributes
    ----------
    beta
        By predictor, `(S, k)` coefficients, link scale.
    constants
        By family parameter without a formula, `(S,)`.
    theta
        By block of a structure's parameters, `(S, size)`.
    effects
        By random term, b `(S, q, p)`.
    chains
        In how many chains of equal length the S draws come, one after the other.
    unseen
        By what has unknown values, these `(S, q, D)`.
    """

    beta: Mapping[str, np.ndarray]
    constants: Mapping[str, np.ndarray]
    theta: Mapping[str, np.ndarray]
    effects: Mapping[str, np.ndarray]
    chains: int
    unseen: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """The number S of draws."""
        return len(next(iter([*self.beta.values(), *self.constants.values()])))

    def unknown(self, source: Unseen) -> np.ndarray:
        """Give the unknown values `(S, q, D)` of what has been fitted, where there are any."""
        none = np.empty((self.size, 0, len(source.columns)))
        return self.unseen.get(source.name, none)

    def thinned(self, at: np.ndarray) -> "Draws":
        """Keep the draws at some positions, as one chain."""
        beta, constants, theta, effects, unseen = (
            {name: values[at] for name, values in part.items()}
            for part in (self.beta, self.constants, self.theta, self.effects, self.unseen)
        )
        return Draws(beta, constants, theta, effects, chains=1, unseen=unseen)


def beta_name(param: str) -> str:
    """Name the coefficients of a predictor."""
    return "beta" if param == "mu" else f"beta_{param}"


def split_outer(model: Model, outer: np.ndarray) -> tuple[dict[str, Any], ...]:
    """Take outer parameters `(S, m)` apart into beta, constants and theta."""
    named = {name: outer[:, at] for name, at in model.layout.items()}
    gamma = {
        param: named.pop(beta_name(param), np.empty((len(outer), 0)))
        for param in model.design.predictors
    }
    beta = uncentred(model, gamma)
    constants = {name: named.pop(name)[:, 0] for name in model.constants}
    return beta, constants, named


def uncentred(model: Model, gamma: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Turn all predictors' coefficients `(S, k)` into those of the columns as they are."""
    predictors = model.design.predictors
    beta = {k: uncentre(gamma[k], p.names, model.means(k)) for k, p in predictors.items()}
    steps = thresholds_of(model)
    means = model.means("mu") if steps else np.empty(0)
    if means.any():
        beyond = gamma["mu"] @ means
        for name in steps:
            beta[name] = gamma[name].copy()
            beta[name][:, 0] += beyond
    return beta


def uncentre(gamma: np.ndarray, names: tuple[str, ...], means: np.ndarray) -> np.ndarray:
    """
    Turn the coefficients `(S, k)` of centred columns into those of the columns as they are.

    Where there is no Intercept among them, other predictors make up for the centring.
    """
    if not means.any() or INTERCEPT not in names:
        return gamma
    beta = gamma.copy()
    beta[:, names.index(INTERCEPT)] -= gamma @ means
    return beta


def from_unconstrained(model: Model, joint: Joint, x: np.ndarray, chains: int) -> Draws:
    """Name the sampler's draws `(S, size)` on the unconstrained scale."""
    outer, effects = joint.unpack(x)
    beta, constants, theta = split_outer(model, outer)
    names = [term.name for term in model.design.terms]
    named = dict(zip(names, effects, strict=True))
    return Draws(beta, constants, theta, named, chains, _unseen_values(model, joint, x, outer))


def _unseen_values(
    model: Model, joint: Joint, x: np.ndarray, outer: np.ndarray
) -> dict[str, np.ndarray]:
    values = joint.unseen.values(x, outer) if model.design.unknown else []
    return {source.name: v for source, v in zip(model.design.unseen, values, strict=False)}


def factors(term: RandomTerm, theta: Mapping[str, np.ndarray]) -> np.ndarray:
    """Give Lambda `(S, p, p)` of a term for every draw."""
    names = [p.name for p in term.structure.parameters(term.size)]
    values = [theta[f"{name}_{term.name}"] for name in names]
    found = [
        term.structure.factor(dict(zip(names, row, strict=True)), term.size)
        for row in zip(*values, strict=True)
    ]
    return np.stack(found)


def masses_of(
    term: RandomTerm, masses: MassPoints, theta: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Give the locations, in standard units, and weights of a term's masses, `(S, K)` both."""
    names = [p.name for p in masses.parameters(len(term.levels))]
    given = {name: theta[f"{name}_{term.name}"] for name in names}
    location, weight, _ = masses.standard({k: v.reshape(len(v), -1) for k, v in given.items()})
    return location, weight


# ---- to a DataTree's names and back


def to_dataset(model: Model, draws: Draws) -> "xr.Dataset":
    """Name draws as results do: `beta[coef]`, `sd_g[g__coef]`, `corr_g`, `b_g[g, g__coef]`."""
    import xarray as xr

    variables: dict[str, tuple[list[str], np.ndarray]] = {}
    for param, beta in draws.beta.items():
        if beta.shape[1] and model.design.predictors[param].part.step is None:
            suffix = "" if param == "mu" else f"_{param}"
            variables[f"beta{suffix}"] = ([f"coef{suffix}"], beta)
    variables |= _thresholds(model, draws.beta)
    variables |= _shares(model, draws)
    blocks = {block.name: block for block in model.blocks}
    for name, values in draws.theta.items():
        dim = blocks[name].dim
        if dim is not None:
            variables[name] = ([dim], values)
        elif blocks[name].scalar:
            variables[name] = ([], values[:, 0])
    for term in model.design.terms:
        variables |= _reported(term, draws)
        variables[f"b_{term.name}"] = ([term.dim, f"{term.name}__coef"], draws.effects[term.name])
    variables |= _unseen(model, draws)
    variables |= _reported_of_residuals(model, draws)
    variables |= {name: ([], values) for name, values in draws.constants.items()}
    shape = (draws.chains, draws.size // draws.chains)
    data = {
        name: (["chain", "draw", *dims], values.reshape(*shape, *values.shape[1:]))
        for name, (dims, values) in variables.items()
    }
    coords = {"chain": np.arange(shape[0]), "draw": np.arange(shape[1])}
    used = {dim for dims, _ in variables.values() for dim in dims}
    return xr.Dataset(
        data, {**coords, **{d: v for d, v in coordinates(model).items() if d in used}}
    )


def _unseen(model: Model, draws: Draws) -> dict[str, tuple[list[str], np.ndarray]]:
    """Give the values that are not in the data, and what their distribution reports."""
    found = {}
    for measured in model.design.measured:
        for key, values in derived_values(measured, draws.theta).items():
            dims = [f"{measured.name}__{d}" for d in measured.structure.dims(key)]
            found[f"{key}_{measured.name}"] = (dims, values)
    for source in model.design.unknown:
        for d, name in enumerate(source.names):
            found[name] = ([source.dim], draws.unseen[source.name][:, :, d])
    return found


def _shares(model: Model, draws: Draws) -> dict[str, tuple[list[str], np.ndarray]]:
    """Give the shares that the steps of monotonic effects have in the whole way."""
    found = {}
    for param, predictor in model.design.predictors.items():
        suffix = "" if param == "mu" else f"_{param}"
        for term in predictor.monotonic:
            steps, name = draws.beta[param][:, term.columns], f"{term.short}{suffix}"
            with np.errstate(all="ignore"):
                share = steps / steps.sum(axis=1, keepdims=True)
            found[f"simo_{name}"] = ([f"mo_{name}__step"], share)
    return found


def _thresholds(
    model: Model, beta: Mapping[str, np.ndarray]
) -> dict[str, tuple[list[str], np.ndarray]]:
    """Put the thresholds' coefficients together: `thresholds`, and `beta_cs` of further columns."""
    steps = thresholds_of(model)
    if not steps:
        return {}
    every = np.stack([beta[name] for name in steps], axis=1)
    found = {"thresholds": (["threshold"], every[:, :, 0])}
    if every.shape[2] > 1:
        found["beta_cs"] = (["threshold", "coef_cs"], every[:, :, 1:])
    return found


def thresholds_of(model: Model) -> list[str]:
    """List the parameters that are thresholds."""
    return [k for k, p in model.design.predictors.items() if p.part.step is not None]


def ascending(model: Model) -> dict[str, int]:
    """
    Give the blocks in which a coefficient ascends from one to the next, and where it stands there.

    These are the thresholds of ordered categories, and the intercepts of a mixture's means.

    Raises
    ------
    NotSupportedError
        If the intercepts of a mixture are to ascend and one of the means has none.
    """
    found, mixed = model.family.categories, model.family.mixed
    if found is not None and found.rising:
        return {beta_name(name): 0 for name in found.parameters}
    if mixed is None or mixed.order == "none":
        return {}
    at = {
        beta_name(name): model.design.predictors[name].names.index(INTERCEPT)
        for name in mixed.means
        if INTERCEPT in model.design.predictors[name].names
    }
    links = {model.links[name].name for name in mixed.means}
    if mixed.order == "mu":
        if len(at) < len(mixed.means) or len(links) > 1:
            raise NotSupportedError(
                f"The intercepts of {', '.join(mixed.means)} can only ascend where each has one, "
                f"and they have the same link: take order='none' of {model.family.name!r}."
            )
        return at
    columns = {model.design.predictors[name].names for name in mixed.means}
    own = mixed.alike and len(columns) == len(links) == 1 and len(at) == len(mixed.means)
    supports = [b.priors[at[b.name]].support for b in model.blocks if b.name in at]
    return at if own and all(support == REAL for support in supports) else {}


def _reported(term: RandomTerm, draws: Draws) -> dict[str, tuple[list[str], np.ndarray]]:
    sides = (
        (term.structure, derived_values(term, draws.theta)),
        (term.level_structure, between_values(term, draws)),
    )
    return {
        f"{key}_{term.name}": ([f"{term.name}__{d}" for d in structure.dims(key)], value)
        for structure, values in sides
        for key, value in values.items()
    }


def between_values(term: RandomTerm, draws: Draws) -> dict[str, np.ndarray]:
    """Give by key, for S draws, what the term's structure of levels reports."""
    structure, size = term.structures[1]
    names = [p.name for p in structure.parameters(size)]
    rows = [
        structure.reported({k: draws.theta[f"{k}_{term.name}"][s] for k in names}, size)
        for s in range(draws.size)
    ]
    found = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
    return structure.in_units(found, draws.theta.get(f"sd_{term.name}"))


def _reported_of_residuals(model: Model, draws: Draws) -> dict[str, tuple[list[str], np.ndarray]]:
    residual = model.design.residual
    if residual is None:
        return {}
    structure, n = residual.structures[1]
    rows = [
        structure.reported(residual.theta({k: v[s] for k, v in draws.theta.items()}), n)
        for s in range(draws.size)
    ]
    return {
        f"{key}_{residual.name}": (
            [f"{residual.name}__{d}" for d in structure.dims(key)],
            np.stack([row[key] for row in rows]),
        )
        for key in rows[0]
    }


def derived_values(
    term: RandomTerm | Measured, theta: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Give by key, for S draws, what the term's structure reports beside its parameters."""
    names = [p.name for p in term.structure.parameters(term.size)]
    values = [theta[f"{name}_{term.name}"] for name in names]
    rows = [
        term.structure.reported(dict(zip(names, row, strict=True)), term.size)
        for row in zip(*values, strict=True)
    ]
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


def coordinates(model: Model) -> dict[str, list[str]]:
    """Give the labels of every dimension that results may have, but for the rows."""
    coords: dict[str, list[str]] = {}
    steps = thresholds_of(model)
    if steps:
        coords |= {f"coef_{k}": list(model.design.predictors[k].names) for k in steps}
        coords["threshold"] = [str(model.design.predictors[name].part.step) for name in steps]
        first = model.design.predictors[steps[0]]
        coords["coef_cs"] = [name.removesuffix("[1]") for name in first.names[1:]]
    for param, predictor in model.design.predictors.items():
        if param in steps:
            continue
        coords["coef" if param == "mu" else f"coef_{param}"] = list(predictor.names)
    residual = model.design.residual
    if residual is not None:
        structure, n = residual.structures[1]
        for dim, labels in structure.coordinates(n).items():
            coords[f"{residual.name}__{dim}"] = list(labels)
    for source in model.design.unseen:
        coords[source.dim] = list(source.levels)
        coords[f"{source.name}__coef"] = coords[f"{source.name}__coef2"] = list(source.columns)
    coords |= _coordinates_of_dependents(model)
    for term in model.design.terms:
        coords[term.dim] = list(term.levels)
        coords[f"{term.name}__coef"] = coords[f"{term.name}__coef2"] = list(term.columns)
        for own, size in term.structures:
            for dim, labels in own.coordinates(size).items():
                coords[f"{term.name}__{dim}"] = list(labels)
    return coords


def _coordinates_of_dependents(model: Model) -> dict[str, list[str]]:
    """Give those of local scales, and of the steps of monotonic effects."""
    made = {name for each in model.dependents for name in each.own}
    coords = {
        block.dim: list(block.labels)
        for block in model.blocks
        if block.dim is not None and block.name in made
    }
    for param, predictor in model.design.predictors.items():
        suffix = "" if param == "mu" else f"_{param}"
        for effect in predictor.monotonic:
            coords[f"mo_{effect.short}{suffix}__step"] = list(effect.levels)
    return coords


def from_dataset(model: Model, data: "xr.Dataset") -> Draws:
    """Take named draws, of ours or of `model.pymc`, back into the model's order."""
    chains = data.sizes["chain"]

    def flat(name: str) -> np.ndarray:
        values = data[name].transpose("chain", "draw", ...).to_numpy()
        return values.reshape(-1, *values.shape[2:])

    size = chains * data.sizes["draw"]
    steps = thresholds_of(model)
    beta = {
        param: flat(beta_name(param)) if predictor.names else np.empty((size, 0))
        for param, predictor in model.design.predictors.items()
        if param not in steps
    }
    for k, name in enumerate(steps):
        further = [flat("beta_cs")[:, k]] if "beta_cs" in data else []
        beta[name] = np.column_stack([flat("thresholds")[:, k], *further])
    theta: dict[str, np.ndarray] = {}
    sides = [(term.name, *side) for term in model.design.terms for side in term.structures]
    sides += [(each.name, each.structure, each.size) for each in model.design.measured]
    if model.design.residual is not None:
        sides.append((model.design.residual.name, *model.design.residual.structures[1]))
    for owner, structure, k in sides:
        keys = {p.key for p in structure.parameters(k)}
        values = {key: flat(f"{key}_{owner}") for key in keys}
        for name, value in structure.sampled(values, k).items():
            theta[f"{name}_{owner}"] = value
    made = {name for each in model.dependents for name in each.own}
    for block in model.blocks:
        if block.name in made and block.name in data:
            theta[block.name] = flat(block.name).reshape(-1, block.size)
    theta |= {f"mean_{m.name}": flat(f"mean_{m.name}") for m in model.design.measured}
    constants = {name: flat(name) for name in model.constants}
    effects = {term.name: flat(f"b_{term.name}") for term in model.design.terms}
    unseen = {
        source.name: np.stack([flat(name) for name in source.names], axis=2)
        for source in model.design.unknown
    }
    return Draws(beta, constants, theta, effects, chains, unseen)
