"""Model to the engine's joint density on arrays: the second reader, beside `compile.py`."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from glmm_bayes.covariance import LevelCovariance
from glmm_bayes.dependents import decompositions
from glmm_bayes.draws import ascending, beta_name
from glmm_bayes.engine.density.joint import Between, Effects, Joint, Linear, Score, Shape, Shares
from glmm_bayes.engine.density.outer import Dependence, Outer
from glmm_bayes.engine.density.together import Together
from glmm_bayes.engine.density.unseen import NOTHING, RESPONSE
from glmm_bayes.engine.density.whitening import Whitened, Whitening
from glmm_bayes.engine.latent import Pattern
from glmm_bayes.engine.tails import NormalTails, StudentTails, Tails
from glmm_bayes.engine.turning import Turning
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.model import Model
from glmm_bayes.priors import REAL, Prior, grouped
from glmm_bayes.terms import Loading, RandomTerm
from glmm_bayes.unseen_density import read_unseen, slopes_by_responses

type Evaluate = Callable[[np.ndarray], tuple[float, np.ndarray]]


def read_density(model: Model, centering: Mapping[str, bool] | None = None) -> Joint:
    """
    Build the log posterior density of a model, up to a constant, on plain arrays.

    Parameters
    ----------
    centering
        By term, whether its effects are sampled centred; by default as the model says.
    """
    outer, centred = read_outer(model), model.centering if centering is None else centering
    start, effects, shares = outer.size, [], _shares(model, centred)
    for term in model.design.terms:
        effects.append(_effects(model, term, start, centred[term.name], shares[term.name]))
        start += len(term.levels) * term.size
    constants = {name: model.layout[name].start for name in model.constants}
    unseen, start = read_unseen(model, start)
    return Joint(
        outer=outer,
        predictors={param: _linear(model, param) for param in model.design.predictors},
        constants=constants,
        effects=effects,
        likelihood=_likelihood(model),
        size=start,
        unseen=unseen,
        **_together(model),
    )


def read_outer(model: Model) -> Outer:
    """Collect the outer parameters' supports, fixed values and priors."""
    priors = [prior for block in model.blocks for prior in block.priors]
    supports = [
        block.support if prior.is_fixed else _intersection(block.support, prior.support)
        for block in model.blocks
        for prior in block.priors
    ]
    lower, upper = np.array(supports, dtype=float).reshape(-1, 2).T
    value = np.array(
        [p.arguments["value"] if p.is_fixed else 0.0 if p.is_dependent else np.nan for p in priors]
    )
    forms: list[tuple[Any, np.ndarray]] = [
        (prior, at) for prior, at in grouped(priors) if not (prior.is_fixed or prior.is_whole)
    ]
    forms += decompositions(model.blocks)
    return Outer(lower, upper, value, forms, rising(model), _dependences(model))


def _dependences(model: Model) -> list[Dependence]:
    return [
        Dependence(
            model.layout[each.block].start + each.entries,
            [model.layout[name] for name in each.given],
            each.formula,
        )
        for each in model.dependents
    ]


def sample_priors(model: Model, rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw all outer parameters `(size, m)` from their priors; thresholds need not ascend."""
    priors = [prior for block in model.blocks for prior in block.priors]
    drawn = np.column_stack(
        [np.zeros(size) if p.is_whole else p.sample(rng, (size,)) for p in priors]
    )
    for form, at in decompositions(model.blocks):
        drawn[:, at] = form.sample(rng, size)
    read_outer(model).complete(drawn)
    return drawn


def rising(model: Model) -> np.ndarray:
    """
    Give where coefficients stand that have to ascend: thresholds, or the intercepts of a mixture.

    Raises
    ------
    NotSupportedError
        If one of them is held at a value, or has a prior with ends.
    """
    entries = ascending(model)
    for block in model.blocks:
        prior = block.priors[entries[block.name]] if block.name in entries else None
        if prior is not None and (prior.is_fixed or prior.support != REAL):
            raise NotSupportedError(
                f"The {'thresholds' if model.family.mixed is None else 'intercepts'} of family "
                f"{model.family.name!r} ascend, so none of them can be "
                f"held fixed or within bounds, as {block.keys[entries[block.name]][0]!r} by its "
                f"prior: take a distribution on the real line."
            )
    return np.array([model.layout[name].start + k for name, k in entries.items()], dtype=int)


def _intersection(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    return max(a[0], b[0]), min(a[1], b[1])


def _linear(model: Model, param: str) -> Linear:
    predictor = model.design.predictors[param]
    Z = model.design.effects_matrix(param)
    name = "beta" if param == "mu" else f"beta_{param}"
    return Linear(
        X=np.asfortranarray(predictor.X - model.means(param)),
        offset=predictor.offset,
        gamma=model.layout.get(name, slice(0, 0)),
        Z=Z,
        Zt=None if Z is None else Z.T.tocsr(),
    )


def _effects(model: Model, term: RandomTerm, start: int, centred: bool, shares: Shares) -> Effects:
    q, p = len(term.levels), term.size
    theta = {
        parameter.name: model.layout[f"{parameter.name}_{term.name}"]
        for parameter in term.structure.parameters(p)
    }
    at, between, shape = slice(start, start + q * p), _between(model, term), _shape(model, term)
    return Effects(at, q, p, term.structure, theta, centred, shares, between, shape)


def _shape(model: Model, term: RandomTerm) -> Shape | None:
    structure = term.level_structure.distribution
    if structure is None:
        return None
    parameters = structure.parameters(len(term.levels))
    return Shape(structure, {p.name: model.layout[f"{p.name}_{term.name}"] for p in parameters})


def _between(model: Model, term: RandomTerm) -> Between | None:
    structure, pattern = term.level_structure, Pattern.of(term.level_structure)
    if pattern is None:
        return None
    parameters = structure.parameters(len(term.levels))
    theta = {p.name: model.layout[f"{p.name}_{term.name}"] for p in parameters}
    return Between(structure, theta, pattern)


def _together(model: Model) -> dict[str, Any]:
    """Give what stands in for the likelihood where residuals have a structure."""
    residual, link = model.design.residual, model.links.get("sigma")
    if residual is None or link is None:
        return {}
    structure, size = residual.structures[1]
    theta = {p.name: model.layout[f"{p.name}_residual"] for p in structure.parameters(size)}
    pattern, degrees = Pattern(model.nobs, residual.pairs), model.family.degrees
    between = Between(pattern=pattern, structure=structure, theta=theta)
    tails: Tails = NormalTails()
    if degrees is not None:
        tails = StudentTails.of(Turning(pattern, residual.rank), degrees)
    is_constant = "sigma" in model.constants
    y = model.family.working(model.design.y)
    linkinv, slope = (np.asarray, np.ones_like) if is_constant else (link.linkinv, link.slope)
    return {"together": Together(y, between, linkinv, slope, tails), "residual": theta}


def _shares(model: Model, centering: Mapping[str, bool]) -> dict[str, Shares]:
    """
    Match the columns of the fixed part with the centred terms: `Shares` by the term's name.

    A column goes to the coarsest term of which it is a column, times a number for each level:
    the constant, a slope of the term's own, or what does not vary within the levels.
    """
    found: dict[str, Shares] = {}
    taken: set[tuple[str, int]] = set()
    for term in sorted(model.design.terms, key=lambda t: len(t.levels)):
        entries: list[tuple[int, int, np.ndarray]] = []
        if centering[term.name] and term.index.shape[1] == 1:
            for loading in term.loadings:
                entries += _shared_columns(model, term, loading, taken)
        found[term.name] = Shares(
            np.array([column for column, _, _ in entries], dtype=int),
            np.array([outer for _, outer, _ in entries], dtype=int),
            np.array([weight for _, _, weight in entries]).reshape(-1, len(term.levels)),
        )
    return found


def _shared_columns(
    model: Model, term: RandomTerm, loading: Loading, taken: set[tuple[str, int]]
) -> list[tuple[int, int, np.ndarray]]:
    """List the column of the term, the place in theta and the weight by level of what it takes."""
    predictor, means = model.design.predictors[loading.param], model.means(loading.param)
    start, entries = loading.columns.start, []
    unseen = {product.k for product in predictor.products}
    constant = np.flatnonzero((loading.Z == 1).all(axis=0))
    order = [*constant[:1], *(j for j in range(loading.Z.shape[1]) if j not in constant)]
    for k in (k for k in range(len(predictor.names)) if k not in unseen):
        for j in order:
            weight = _times(predictor.X[:, k], loading.Z[:, j], term)
            if weight is None or (loading.param, k) in taken:
                continue
            taken.add((loading.param, k))
            outer = model.layout[beta_name(loading.param)].start + k
            entries.append((start + j, outer, weight))
            if means[k] and len(constant):
                # Its centring is by a constant, which goes with the intercepts.
                entries.append((start + constant[0], outer, np.full(len(weight), -means[k])))
    return entries


def _times(x: np.ndarray, z: np.ndarray, term: RandomTerm) -> np.ndarray | None:
    """Give the numbers `(q,)` by level that make z into x, if there are such."""
    level, q = term.index[:, 0], len(term.levels)
    size = np.bincount(level, z * z, q)
    weight = np.divide(np.bincount(level, x * z, q), size, out=np.zeros(q), where=size > 0)
    same = np.allclose(weight[level] * z, x, rtol=1e-10, atol=1e-12)
    return weight if same and weight.any() else None


def _likelihood(model: Model) -> Score:
    """Give the log likelihood and its slopes as a function of the predictors and constants."""
    response, family = model.design.response, model.family
    y, trials, weights = response.y, response.given, response.weights
    w: Any = 1.0 if weights is None else weights
    natural = family.natural.get(model.links[family.parameters[0].name].name)
    if natural is not None:

        def by_eta(values: dict[str, np.ndarray]) -> tuple[float, dict[str, np.ndarray]]:
            eta = values["mu"]
            value = np.sum(w * natural.core(y, trials, eta))
            return value, {"mu": w * natural.score(y, trials, eta)}

        return by_eta

    core, score = family.kernel
    links = {name: model.links[name] for name in model.design.predictors}

    def by_parameters(values: dict[str, np.ndarray]) -> tuple[float, dict[str, np.ndarray]]:
        whole = values.get(RESPONSE, y)
        params = {
            k: links[k].linkinv(v) if k in links else v for k, v in values.items() if k != RESPONSE
        }
        value = np.sum(w * core(whole, trials, params))
        found = score(whole, trials, params)
        slopes = {
            k: w * (g * links[k].slope(values[k]) if k in links else g) for k, g in found.items()
        }
        if RESPONSE in values:
            slopes[RESPONSE] = slopes_by_responses(model, whole, params)
        return value, slopes

    return by_parameters


def compiled_density(model: Model, joint: Joint, whitening: Whitening | None = None) -> Evaluate:
    """
    Give the density's fastest evaluation: one compiled pass where every part has a kernel.

    Where a part has none (a family of the user's, a rarer prior), the arrays' own formulas. With
    a whitening, the density is that of its coordinates z, and has a method `place`: x of z.
    """
    from glmm_bayes.engine import kernels
    from glmm_bayes.engine.density.compiled import Parts, compile_joint

    family, design = model.family, model.design
    links = {name: model.links[name].compiled for name in design.predictors}
    structures = [
        None if _depends(term.level_structure) else term.structure.compiled for term in design.terms
    ]
    priors = [prior for block in model.blocks for prior in block.priors]
    kinds = [kind for kind in map(_kernel, priors) if kind is not None]
    unknown = None in (family.compiled, *links.values(), *structures) or len(kinds) < len(priors)
    if unknown or joint.together is not None or joint.unseen is not NOTHING:
        return joint.value_and_gradient if whitening is None else Whitened(joint, whitening)
    response = design.response
    ones = np.ones(design.n)
    parts = Parts(
        family=kernels.FAMILIES.index(family.compiled),
        links={name: kernels.LINKS.index(link) for name, link in links.items()},
        slots=[p.name for p in family.parameters],
        structures=[kernels.STRUCTURES.index(s) for s in structures],
        priors=np.array([kernels.PRIORS.index(name) for name, _ in kinds]),
        arguments=np.array([[*values, 0.0, 0.0, 0.0][:3] for _, values in kinds]),
        y=np.asarray(response.y, dtype=float),
        trials=ones if response.trials is None else np.asarray(response.trials, dtype=float),
        weights=ones if response.weights is None else np.asarray(response.weights, dtype=float),
    )
    return compile_joint(joint, parts, whitening)


def _depends(structure: LevelCovariance) -> bool:
    """Tell whether v is other than independent standard normals."""
    return structure.pairs is not None or structure.distribution is not None


def _kernel(prior: Prior) -> tuple[str, list[float]] | None:
    from glmm_bayes.engine import kernels

    if prior.is_fixed or prior.is_dependent:
        return "Uniform", []
    found = prior.tabled
    if found is None or found[0] not in kernels.PRIORS:
        return None
    return found[0], [float(v) for v in found[1].values()]
