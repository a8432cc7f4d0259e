"""Integrate random effects out of a row's expectation, by quadrature or quasi-random points."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product

import numpy as np

from glmm_bayes.covariance.masses import MassPoints
from glmm_bayes.design import Design
from glmm_bayes.draws import Draws, factors, masses_of
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.families.several import Part
from glmm_bayes.model import Model
from glmm_bayes.modes.rows import row_root
from glmm_bayes.predictive import effects_for, linear_predictor
from glmm_bayes.terms import RandomTerm

# Nodes of each dimension, by how many predictors have random effects.
NODES = {1: 32, 2: 15, 3: 9}
# Beyond: sets of points, each set's first and last number of them, and the standard error between
# the sets' averages that is small enough, beside the average.
SETS, FIRST, LAST, ENOUGH = 8, 64, 8192, 1e-3
# A normal eta reaches the pole of these, and the integral has no value.
WITHOUT_MEAN = {"inverse", "inverse_squared"}


def all_factors(design: Design, draws: Draws) -> dict[str, np.ndarray]:
    """Give Lambda `(S, p, p)` of every term, by its name."""
    return {term.name: factors(term, draws.theta) for term in design.terms}


def spread(term: RandomTerm, param: str, Lambda: np.ndarray) -> np.ndarray:
    """
    Give what a term adds to eta of one predictor, as multiples of p standard normals.

    Returns
    -------
    ndarray
        `(S, n, p)`; its sum of squares over the last axis is the term's variance in eta,
        z' Lambda Lambda' z times the sum of squared weights, where a level that a row belongs
        to twice counts once, with both weights.
    """
    z = np.zeros((len(term.index), term.size))
    for loading in term.loadings:
        if loading.param == param:
            z[:, loading.columns] += loading.Z
    same = term.index[:, :, None] == term.index[:, None, :]
    squared = np.einsum("nj,nk,njk->n", term.weights, term.weights, same)
    return (z * np.sqrt(squared)[:, None]) @ Lambda


def random_parameters(design: Design) -> tuple[str, ...]:
    """List the distribution parameters whose predictors have random effects."""
    varied = [term for term in design.terms if not term.common]
    loaded = {loading.param for term in varied for loading in term.loadings}
    return tuple(param for param in design.predictors if param in loaded)


def marginal(
    model: Model, design: Design, draws: Draws, Lambda: Mapping[str, np.ndarray], target: str | None
) -> np.ndarray:
    """
    Average an expectation over the distribution of the random effects, for every draw.

    Parameters
    ----------
    Lambda
        Of every term, `(S, p, p)`; see `all_factors`.
    target
        The distribution parameter to average; None for the mean of the response.

    Returns
    -------
    ndarray
        `(S, n)`, of categories' probabilities and of several responses `(S, n, K)`; exact where
        the expectation is a polynomial in eta. Where more than three predictors have effects, with
        a standard error of at most `ENOUGH` times the value, or times the largest one of the row.

    Raises
    ------
    NotSupportedError
        If the average does not exist, or is not known to that error.
    """
    several = model.family.responses
    if target is None and several is not None:
        each = [_averaged(model, design, draws, Lambda, None, part) for part in several.parts]
        return np.stack(each, axis=-1)
    return _averaged(model, design, draws, Lambda, target, None)


def _averaged(
    model: Model,
    design: Design,
    draws: Draws,
    Lambda: Mapping[str, np.ndarray],
    target: str | None,
    part: Part | None,
) -> np.ndarray:
    """Average over the effects of one target's predictors, or of one response's."""
    random = random_parameters(design)
    if part is not None:
        random = tuple(param for param in random if param in part.names.values())
    if target is not None:
        random = tuple(param for param in random if param == target)
    _check_links(model, random)
    masses = _masses(design)
    kept = effects_for(design, draws, "marginal", None)
    eta = {param: linear_predictor(design, draws, kept, param) for param in design.predictors}
    root = _root(design, Lambda, random) if masses is None else _signed(design, Lambda, random)

    def at(node: np.ndarray) -> np.ndarray:
        moved = dict(eta)
        for i, param in enumerate(random):
            moved[param] = eta[param] + sum(root[i][j] * node[j] for j in range(i + 1))
        params = {name: values[:, None] for name, values in draws.constants.items()}
        params |= {name: model.links[name].linkinv(value) for name, value in moved.items()}
        if part is not None:
            value = part.family.expectation(part.own(params))
        else:
            value = model.family.expectation(params) if target is None else params[target]
        return np.asarray(value)

    few = len(random) in (0, *NODES)
    if masses is not None and random:
        return _by_classes(at, *masses_of(design.terms[0], masses, draws.theta))
    total = _by_quadrature(at, len(random)) if few else _by_points(at, len(random))
    sizes = (draws.size, design.n, *np.shape(total)[2:])
    return np.broadcast_to(total, sizes)


def _check_links(model: Model, random: Sequence[str]) -> None:
    for param in random:
        name = model.links[param].name
        if name in WITHOUT_MEAN:
            raise NotSupportedError(
                f"With the link {name!r} of {param!r} the average over the random effects does "
                f"not exist; use groups='population' or groups='new'."
            )


def _by_quadrature(at: Callable[[np.ndarray], np.ndarray], dimensions: int) -> np.ndarray:
    """Average over independent standard normals by Gauss-Hermite quadrature."""
    if dimensions == 0:
        return at(np.empty(0))
    x, w = np.polynomial.hermite_e.hermegauss(NODES[dimensions])
    w = w / w.sum()
    total: np.ndarray = np.zeros(())
    for place in product(range(len(x)), repeat=dimensions):
        total = total + float(np.prod(w[list(place)])) * at(x[list(place)])
    return total


def _by_points(at: Callable[[np.ndarray], np.ndarray], dimensions: int) -> np.ndarray:
    """
    Average over independent standard normals by scrambled Sobol points, until sets of them agree.

    The points are the same with every call.
    """
    from scipy.special import ndtri
    from scipy.stats.qmc import Sobol

    sets = [Sobol(dimensions, scramble=True, rng=k) for k in range(SETS)]
    sums: list[np.ndarray] = [np.zeros(())] * SETS
    drawn, more = 0, FIRST
    while drawn < LAST:
        for k, points in enumerate(sets):
            for u in points.random(more):
                sums[k] = sums[k] + at(ndtri(u))
        drawn += more
        more = drawn
        means = np.stack(sums) / drawn
        total: np.ndarray = means.mean(axis=0)
        error = means.std(axis=0, ddof=1) / np.sqrt(SETS)
        # A category that is hardly ever seen needs no more digits than the others.
        size = np.abs(total).max(axis=-1, keepdims=True) if total.ndim > 2 else np.abs(total)
        if (error <= ENOUGH * size).all():
            return total
    raise NotSupportedError(
        f"The average over the random effects of {dimensions} predictors has a standard error of "
        f"{float(np.max(error / size)):.1g} of its size after {SETS * drawn:,} points; use "
        f"groups='new' with draws=True, and average."
    )


def _root(design: Design, Lambda: Mapping[str, np.ndarray], random: Sequence[str]) -> np.ndarray:
    """Factor the covariance between the predictors' random parts, row by row: `(R, R, S, n)`."""
    if not random:
        return np.empty((0, 0))
    found = [[_covariance(design, Lambda, a, b) for b in random] for a in random]
    shape = np.broadcast_shapes(*(value.shape for row in found for value in row))
    return row_root(np.stack([[np.broadcast_to(v, shape) for v in row] for row in found]))


def _covariance(design: Design, Lambda: Mapping[str, np.ndarray], a: str, b: str) -> np.ndarray:
    total = np.zeros((1, 1))
    for term in design.terms:
        params = {loading.param for loading in term.loadings}
        if {a, b} <= params and not term.common:
            left = spread(term, a, Lambda[term.name])
            right = left if a == b else spread(term, b, Lambda[term.name])
            total = total + np.einsum("snp,snp->sn", left, right)
    return total


def _signed(design: Design, Lambda: Mapping[str, np.ndarray], random: Sequence[str]) -> np.ndarray:
    """Give what the one column of the one term is multiplied by, `(1, 1, S, n)`."""
    (term,) = design.terms
    parts = [spread(term, param, Lambda[term.name])[..., 0] for param in random]
    return (
        np.array(parts).reshape(len(parts), len(parts), *parts[0].shape) if parts else np.empty(0)
    )


def _by_classes(
    at: Callable[[np.ndarray], np.ndarray], location: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """Average over the masses `(S, K)` of a single effect."""
    total: np.ndarray = np.zeros(())
    for at_l, w in zip(location.T, weight.T, strict=True):
        value = at(at_l[None, :, None])
        total = total + w.reshape(-1, *[1] * (value.ndim - 1)) * value
    return total


def _masses(design: Design) -> MassPoints | None:
    """Give the masses where these are all effects there are; None where all effects are normal."""
    alone = design.terms[0].level_structure.masses if len(design.terms) == 1 else None
    for term in design.terms if alone is None else ():
        if term.level_structure.distribution is not None:
            raise NotSupportedError(
                f"The average over effects that are not normal, as those of {term.text!r}, is not "
                f"built; use groups='new' with draws=True, and average."
            )
    return alone
