"""Model to the engine's marginal likelihood on arrays: latent effects, rows and linear algebra."""

from dataclasses import replace
from typing import Any

import numpy as np

from glmm_bayes.design import INTERCEPT
from glmm_bayes.engine.algebra.systems import build_system
from glmm_bayes.engine.gaussian import Gaussian
from glmm_bayes.engine.laplace import Laplace
from glmm_bayes.engine.latent import Latent, Pattern, Term
from glmm_bayes.engine.newton import Rows
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.families.categories import shares_of
from glmm_bayes.families.expansion import RowDensity
from glmm_bayes.families.links import Link
from glmm_bayes.model import Model
from glmm_bayes.observed import Observed
from glmm_bayes.residual import refuse_residual
from glmm_bayes.terms import Loading, RandomTerm

ENTRIES = 4_000_000  # of the levels' cross-products that are looked at for a start


def centred_columns(model: Model, param: str) -> np.ndarray:
    """Give a predictor's columns `(n, k)` less their means, or a one for a constant parameter."""
    if param in model.constants:
        return np.ones((model.nobs, 1))
    return model.design.predictors[param].X - model.means(param)


def read_latent(model: Model) -> Latent:
    """
    Collect the random terms, by the number of the family's parameter they load on.

    Raises
    ------
    NotSupportedError
        If the effects of one are not normal, or values of predictors are unknown.
    """
    refuse_unknowns(model)
    for term in model.design.terms:
        distribution = term.level_structure.distribution
        if distribution is not None:
            raise NotSupportedError(
                f"The effects of {term.text!r} are not normal, as Laplace's method and what is "
                f"built on it take them to be: {distribution.instead}."
            )
    numbers = {p.name: a for a, p in enumerate(model.family.parameters)}
    terms = [_term(term, numbers) for term in model.design.terms]
    loaded = tuple(sorted({0} | {a for term in terms for a in term.Z}))
    return Latent(terms, loaded, model.nobs)


def refuse_unknowns(model: Model) -> None:
    """
    Refuse models whose posterior is not that of normal effects given a few parameters.

    Raises
    ------
    NotSupportedError
        If values of predictors are unknown: products with coefficients.
    """
    if model.design.has_unknowns:
        calls = [text for source in model.design.unseen for text in source.texts]
        words = ", ".join(calls) or "mi(…)"
        raise NotSupportedError(
            f"The values that {words} stands for are parameters, as their coefficients are, and of "
            f"such products this method has no normal to start from: use fit('nuts')."
        )


def _term(term: RandomTerm, numbers: dict[str, int]) -> Term:
    Z = {}
    for loading in term.loadings:
        columns = np.zeros((len(term.index), term.size))
        columns[:, loading.columns] = loading.Z
        Z[numbers[loading.param]] = columns
    pattern = Pattern.of(term.level_structure)
    return Term(len(term.levels), term.size, term.index, term.weights, Z, pattern)


def read_system(model: Model, means: int = 1) -> Any:
    """Choose the effects' linear algebra, with the columns of one mean or of several."""
    latent = read_latent(model)
    if means == 1:
        return build_system(latent, centred_columns(model, model.main))
    columns = [centred_columns(model, part.main) for part in model.observed]
    of = np.repeat(np.arange(means), [X.shape[1] for X in columns])
    loaded = tuple(sorted({*range(means), *latent.predictors}))
    return build_system(replace(latent, predictors=loaded), np.hstack(columns), of)


def read_rows(model: Model, order: Any = slice(None)) -> Rows:
    """Give the rows' log density, in an order, and its derivatives as a function of predictors."""
    refuse_residual(model.design.residual, "this method")
    response = model.design.response.take(order)
    return RowDensity(
        family=model.family,
        links=model.links,
        names=[p.name for p in model.family.parameters],
        y=response.y,
        trials=response.given,
        weights=response.weights,
    )


def read_laplace(model: Model, *, restricted: bool = False) -> Any:
    """
    Build Laplace's approximation: predictors in the order of the family's parameters.

    `restricted` is for integrating the coefficients of the means of all responses out, which are
    the first parameters, and not the first one's only.

    Where residuals have a structure, what has the same methods and is exact.
    """
    if model.design.residual is not None:
        from glmm_bayes.modes.correlated import read_correlated

        return read_correlated(model)
    means = len(model.observed) if restricted else 1
    names, system = [p.name for p in model.family.parameters], read_system(model, means)
    predictors = model.design.predictors
    offset = np.stack(
        [predictors[p].offset if p in predictors else np.zeros(model.nobs) for p in names]
    )
    X = [np.ascontiguousarray(centred_columns(model, p)[system.order]) for p in names]
    rows = read_rows(model, system.order)
    return Laplace(rows, X, offset[:, system.order], system, means=means)


def with_rows(laplace: Any, model: Model) -> Any:
    """Put the response of another model, alike in all else, in the place of the one it is of."""
    if model.design.residual is not None:
        return replace(laplace, y=model.family.working(model.design.response.y))
    return replace(laplace, rows=read_rows(model, laplace.system.order))


def read_gaussian(model: Model) -> Gaussian:
    """Build the exact likelihood of a model whose response, transformed, is Gaussian."""
    response, predictor = model.design.response, model.design.predictors["mu"]
    y = model.family.working(response.y) - predictor.offset
    w = np.ones(model.nobs) if response.weights is None else response.weights
    system = read_system(model)
    X = np.ascontiguousarray(centred_columns(model, model.main)[system.order])
    return Gaussian(system, X, y[system.order], w[system.order], float(w.sum()))


def is_shaped(model: Model) -> bool:
    """Tell whether effects of the model are of a distribution with a density, and not normal."""
    return any(term.level_structure.shape is not None for term in model.design.terms)


def has_masses(model: Model) -> bool:
    """Tell whether effects of the model are of a few classes."""
    return any(term.level_structure.masses is not None for term in model.design.terms)


def is_gaussian(model: Model) -> bool:
    """Tell whether sigma and the coefficients can be profiled: a free Gaussian of one predictor."""
    fixed = [prior.is_fixed for block in model.blocks for prior in block.priors]
    return (
        model.family.normal
        and model.links["mu"].name == "identity"
        and (set(model.design.predictors) == {"mu"} or _has_one_sigma(model))
        and not any(fixed)
    )


def _has_one_sigma(model: Model) -> bool:
    """Tell whether residuals have a structure, and one sigma but for what is known."""
    sigma = model.design.predictors.get("sigma")
    constant = sigma is None or sigma.names == (INTERCEPT,)
    return model.design.residual is not None and constant and model.links["sigma"].name == "log"


def first_eta(part: Observed, link: Link) -> np.ndarray:
    """Guess the mean's predictor `(n,)` from each response, as iterated least squares do."""
    response, parameter = part.design.response, part.family.parameters[0]
    y = part.family.working(response.y).astype(float)
    lower, upper = parameter.support
    if upper == 1.0:
        trials = 1.0 if response.trials is None else response.trials
        y = (y + 0.5) / (trials + 1.0) if part.family.discrete else y
    elif lower == 0.0:
        y = np.where(y > 0, y, 0.1)
    with np.errstate(all="ignore"):
        return link.linkfun(y)


def first_coefficients(model: Model) -> list[np.ndarray]:
    """Give starts of every predictor's coefficients, and of the constants on their link's scale."""
    starts, parts = [], model.observed
    means = {part.main: part for part in parts}
    for parameter in model.family.parameters:
        m = model.scales[parameter.name].m
        if parameter.start is not None:
            start = parameter.start
            own = next((p for p in parts if parameter.name in p.names.values()), parts[0])
            value = start(own.design.y) if callable(start) else start
            m = float(model.links[parameter.name].linkfun(np.asarray(value)))
        if parameter.name in model.constants:
            starts.append(np.array([m]))
        elif parameter.name in means:
            starts.append(_first_gamma(model, means[parameter.name]))
        else:
            X = centred_columns(model, parameter.name)
            offset = model.design.predictors[parameter.name].offset
            starts.append(np.linalg.lstsq(X, np.full(len(X), m) - offset, rcond=None)[0])
    return _with_categories(model, starts)


def _with_categories(model: Model, starts: list[np.ndarray]) -> list[np.ndarray]:
    """Start what belongs to the response's categories, one by one, at their shares."""
    found, response = model.family.categories, model.design.response
    if found is None:
        return starts
    shares = shares_of(response.y, response.weights, found.size)
    names = [p.name for p in model.family.parameters]
    for name, start in zip(found.parameters, found.start(shares), strict=True):
        X, offset = centred_columns(model, name), model.design.predictors[name].offset
        level = np.full(len(X), start) - offset
        starts[names.index(name)] = np.linalg.lstsq(X, level, rcond=None)[0]
    return starts


def _first_gamma(model: Model, part: Observed) -> np.ndarray:
    X, offset = _mean_columns(model, part)
    link, weights = model.links[part.main], part.design.response.weights
    eta = first_eta(part, link)
    root = np.ones(len(eta)) if weights is None else np.sqrt(weights)
    gamma = np.linalg.lstsq(X * root[:, None], (eta - offset) * root, rcond=None)[0]
    with np.errstate(all="ignore"):
        mu = link.linkinv(X @ gamma + offset)
    lower, upper = part.family.parameters[0].support
    if np.all((mu > lower) & (mu < upper)):
        return gamma
    # A line through such responses leaves the parameter's support: a level one does not.
    return np.linalg.lstsq(X, np.full(len(X), np.median(eta - offset)), rcond=None)[0]


def _mean_columns(model: Model, part: Observed) -> tuple[np.ndarray, np.ndarray]:
    """Give the columns of a response's mean, less the means of all rows, and its offset."""
    predictor = part.design.predictors[part.family.parameters[0].name]
    return predictor.X - model.means(part.main), predictor.offset


def rough_covariance(model: Model, term: RandomTerm) -> np.ndarray:
    """
    Guess how the columns' effects of one term vary together, `(p, p)`, positive definite.

    Every level's effects are fitted on their own, shrunk, to what the fixed part leaves of a
    guess of the mean's predictor; columns of other predictors are taken for independent.
    """
    found = np.eye(term.size)
    for part in model.observed if term.index.shape[1] == 1 else ():
        main = part.family.parameters[0].name
        for own in (t for t in part.design.terms if t.name == term.name):
            for loading in (g for g in own.loadings if g.param == main):
                at = loading.columns
                found[at, at] = _rough_block(model, part, own, loading)
    return found


def _rough_block(model: Model, part: Observed, term: RandomTerm, loading: Loading) -> np.ndarray:
    X, offset = _mean_columns(model, part)
    eta = first_eta(part, model.links[part.main]) - offset
    eta = np.where(np.isfinite(eta), eta, np.mean(eta[np.isfinite(eta)]))
    residual = eta - X @ _first_gamma(model, part)
    # A start need not be better than some of the rows make it.
    step = -(-loading.Z.size * loading.Z.shape[1] // ENTRIES)
    Z, level, r = loading.Z[::step], term.index[::step, 0], residual[::step]
    q, p = len(term.levels), Z.shape[1]
    products, right = np.zeros((q, p, p)), np.zeros((q, p))
    np.add.at(products, level, Z[:, :, None] * Z[:, None, :])
    np.add.at(right, level, Z * r[:, None])
    ridge = 0.5 * np.mean(Z * Z, axis=0) / max(np.mean((Z != 0).mean(axis=0)), 1e-3)
    b = np.linalg.solve(products + np.diag(np.maximum(ridge, 1e-12)), right[:, :, None])[:, :, 0]
    C = b.T @ b / q
    C[np.diag_indices(p)] += 1e-3 * max(float(np.trace(C)) / p, 1e-12)
    return C


def first_sizes(model: Model, latent: Latent) -> list[np.ndarray]:
    """Give a first size of every term's columns' effects, `(p,)`, in the units of eta."""
    numbers, spread = {p.name: a for a, p in enumerate(model.family.parameters)}, {}
    for part in model.observed:
        eta = first_eta(part, model.links[part.main])
        eta = eta[np.isfinite(eta)]
        spread[numbers[part.main]] = 0.5 * float(np.std(eta)) if len(eta) else 0.5
    found = []
    for term in latent.terms:
        sizes = np.full(term.p, spread.get(min(term.Z), 0.3))
        for number in spread.keys() & term.Z.keys():
            sizes[term.Z[number].any(axis=0)] = spread[number]
        found.append(sizes / term.scales)
    return found
