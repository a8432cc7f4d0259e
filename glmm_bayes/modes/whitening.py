"""From a posterior's mode to the coordinates in which NUTS samples best."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from glmm_bayes.density import Evaluate, compiled_density
from glmm_bayes.engine.algebra.lanczos import uneven_directions
from glmm_bayes.engine.algebra.lapack import one_thread
from glmm_bayes.engine.density.affine import Affine
from glmm_bayes.engine.density.joint import Effects, Joint
from glmm_bayes.engine.density.whitening import Front, Whitening
from glmm_bayes.engine.newton import in_units, positive_part
from glmm_bayes.errors import ConvergenceError, NotSupportedError
from glmm_bayes.model import Model
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.mode import Mode
from glmm_bayes.modes.penalised import maximise_penalised
from glmm_bayes.modes.reading import centred_columns, read_rows
from glmm_bayes.modes.star import ARM
from glmm_bayes.terms import RandomTerm

STEP = 1e-5  # of a search's coordinate, for how the unconstrained ones move with it
PACE = 1e-3  # of a unit of z, between the gradients that give the curvature


def whitened_density(model: Model, joint: Joint) -> Evaluate:
    """
    Give the density in coordinates that the posterior's mode and curvature whiten.

    Level by level where levels, and rows given these, are independent; else all effects together,
    by the mode's factor.

    Raises
    ------
    ConvergenceError, LinAlgError, NotSupportedError
        If there is no mode with a curvature.
    """
    apart = all(term.level_structure.pairs is None for term in model.design.terms)
    if apart and model.design.residual is None:
        return compiled_density(model, joint, find_whitening(model, joint))
    with one_thread(), np.errstate(all="ignore"):
        mode, _ = _searched(model, joint)
        return _affine(mode, joint)


def _affine(mode: Mode, joint: Joint) -> Affine:
    only, c = mode.factor.effects_only(), mode.coordinates
    if not only.spread.system.has_root:
        raise NotSupportedError("so many levels meet that effects have no root to whiten by")

    easings = [term.level_structure.easing for term in c.model.design.terms]

    def moved(x: np.ndarray, vs: Sequence[np.ndarray]) -> np.ndarray:
        theta, found = c.theta(x), [np.empty(0)]
        for own, easing, v in zip(joint.effects, easings, vs, strict=True):
            w = v if easing is None else easing.coordinates(_between(own, theta), v)
            found.append(w.ravel())
        return np.concatenate(found)

    def standard(x: np.ndarray) -> np.ndarray:
        parts = zip(mode.effects_at(x), c.Lambdas(x), strict=True)
        return moved(x, [np.linalg.solve(L, b.T).T for b, L in parts])

    sides = [(standard(mode.x + ARM * a), standard(mode.x - ARM * a)) for a in mode.axes.T]
    slopes = np.array([(up - down) / (2 * ARM) for up, down in sides]).T
    axes = _outer_moves(mode, joint).T @ mode.axes
    middle = moved(mode.x, only.spread.system.latent.split(mode.u))
    centre = joint.outer.unconstrain(mode.theta)
    return Affine(joint, centre, axes, middle, slopes, only, easings)


def _between(own: Effects, theta: np.ndarray) -> dict[str, np.ndarray]:
    """Give the parameters of what is between the levels of one term, by name."""
    return {} if own.between is None else {k: theta[s] for k, s in own.between.theta.items()}


def find_whitening(model: Model, joint: Joint) -> Whitening:
    """
    Search the posterior's mode, and whiten by its curvature.

    Parameters
    ----------
    joint
        The model's density, every term in standard units.

    Raises
    ------
    ConvergenceError, LinAlgError, NotSupportedError
        If there is no mode with a curvature.
    """
    with one_thread(), np.errstate(all="ignore"):
        mode, covariance = _searched(model, joint)
        found = _whitening(mode, joint, covariance)
        density = compiled_density(model, joint, found)
        directions, curvature = uneven_directions(_curvature(density, joint), len(found.right))
        if not len(curvature):
            return found
        return replace(found, directions=directions, stretch=curvature**-0.5 - 1.0)


def _curvature(
    density: Callable[[np.ndarray], tuple[float, np.ndarray]], joint: Joint
) -> Callable[[np.ndarray], np.ndarray]:
    """Give products with minus the Hessian by the effects' z at the mode, by differences."""

    def multiply(v: np.ndarray) -> np.ndarray:
        z = np.concatenate([np.zeros(joint.outer.size), PACE * v])
        return (density(-z)[1] - density(z)[1])[joint.outer.size :] / (2 * PACE)

    return multiply


def outer_frame(model: Model, joint: Joint) -> tuple[np.ndarray, np.ndarray]:
    """Give the mode of the outer parameters, and axes of their spread: as in `Whitening`."""
    with one_thread(), np.errstate(all="ignore"):
        mode, covariance = _searched(model, joint)
        last = np.isin(joint.outer.free, _places(joint))
        return joint.outer.unconstrain(mode.theta), _axes(covariance, last)


def _searched(model: Model, joint: Joint) -> tuple[Mode, np.ndarray]:
    mode = maximise_penalised(Coordinates.unconstrained(model))
    covariance = _outer_covariance(mode, joint)
    if not np.isfinite(covariance).all():
        raise ConvergenceError(mode.problems[0] if mode.problems else "it has no curvature")
    return mode, covariance


def _outer_covariance(mode: Mode, joint: Joint) -> np.ndarray:
    """Give the covariance `(d, d)` of the free outer parameters on their unconstrained scale."""
    by_x = _outer_moves(mode, joint)
    return by_x.T @ mode.covariance @ by_x


def _outer_moves(mode: Mode, joint: Joint) -> np.ndarray:
    """Give how these move with the search's coordinates, `(m, d)`."""

    def z(x: np.ndarray) -> np.ndarray:
        return joint.outer.unconstrain(mode.coordinates.theta(x))

    steps = STEP * np.eye(len(mode.x))
    moves = [(z(mode.x + step) - z(mode.x - step)) / (2 * STEP) for step in steps]
    return np.array(moves).reshape(len(mode.x), joint.outer.size)


def _whitening(mode: Mode, joint: Joint, covariance: np.ndarray) -> Whitening:
    model, outer = mode.coordinates.model, joint.outer
    rows = read_rows(model, mode.factor.spread.system.order)(mode.eta, 2)
    places = _places(joint)
    free = places[np.isin(places, outer.free)]
    fronts = _fronts(mode, -rows.second)
    score = mode.factor.spread.collect(rows.first[_random(mode)])
    right = _times(fronts, [mode.effects[t.name] for t in model.design.terms], score)
    moves = [_times(fronts, *move) for move in _moves(mode, joint, free, -rows.second)]
    noise = joint.constants.get("sigma", -1) if model.family.normal else -1
    return Whitening(
        centre=outer.unconstrain(mode.theta),
        axes=_axes(covariance, np.isin(outer.free, places)),
        coefficients=free,
        at=mode.theta[free],
        fronts=fronts,
        right=right,
        slopes=np.array(moves).reshape(len(free), len(right)),
        noise=noise,
        noise_at=float(mode.theta[noise]) if noise >= 0 else 1.0,
    )


def _places(joint: Joint) -> np.ndarray:
    """Where the predictors' coefficients stand in theta."""
    parts = [np.arange(p.gamma.start, p.gamma.stop) for p in joint.predictors.values()]
    return np.concatenate([np.empty(0, dtype=int), *parts])


def _axes(covariance: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Give a root of the covariance by which the coefficients (`last`) move with all others."""
    order = np.argsort(last, kind="stable")
    at = np.ix_(order, order)
    axes = np.zeros_like(covariance)
    axes[at] = np.linalg.cholesky(covariance[at])
    return axes


# ---- what the data say of the effects


def _random(mode: Mode) -> list[int]:
    """Give the numbers of the predictors with effects."""
    return list(mode.factor.spread.system.latent.predictors)


def _fronts(mode: Mode, second: np.ndarray) -> list[Front]:
    """Sum the rows' information about each level's effects, and its ancestors'."""
    model, random = mode.coordinates.model, _random(mode)
    own = second[np.ix_(random, random)]
    positive = len(own) == 1 and (own >= 0).all()
    W = np.empty((len(random), len(random), model.nobs))
    W[:, :, mode.factor.spread.system.order] = own if positive else positive_part(own)
    names = [model.family.parameters[r].name for r in random]
    terms = model.design.terms
    parents, columns = nesting(terms), [_columns(term, names) for term in terms]
    found = []
    for t, term in enumerate(terms):
        ancestors = _ancestors(parents, t)
        widths = [term.size, *(terms[s].size for s in ancestors)]
        blocks = np.zeros((len(term.levels), term.size, sum(widths)))
        beside = np.concatenate([columns[s] for s in (t, *ancestors)], axis=2)
        weighted = np.einsum("abn,bnp->anp", W, columns[t])
        for index, weight in zip(term.index.T, term.weights.T, strict=True):
            products = np.einsum("anp,anr->npr", weighted * weight[:, None], beside)
            # A level's members enter with their weights, its ancestors with one.
            products[:, :, : term.size] *= weight[:, None, None]
            np.add.at(blocks, index, products)
        above = parents[t][1] if ancestors else np.empty(0, dtype=int)
        found.append(Front(len(term.levels), term.size, ancestors, above, blocks))
    return found


def _columns(term: RandomTerm, names: Sequence[str]) -> np.ndarray:
    """Give the term's columns `(R, n, p)` by predictor."""
    found = np.zeros((len(names), len(term.index), term.size))
    for loading in term.loadings:
        found[names.index(loading.param)][:, loading.columns] = loading.Z
    return found


def nesting(terms: Sequence[RandomTerm]) -> dict[int, tuple[int, np.ndarray]]:
    """
    Chain the terms: each one's parent is the finest term in which its levels are nested.

    Returns
    -------
    dict
        By the number of a term, that of its parent, and each level's level of it `(q,)`. No two
        terms have one parent: their levels would be crossed within its levels.
    """
    order = sorted(range(len(terms)), key=lambda t: -len(terms[t].levels))
    found: dict[int, tuple[int, np.ndarray]] = {}
    for i, t in enumerate(order):
        for s in order[i + 1 :]:
            if s in {parent for parent, _ in found.values()}:
                continue
            within = _levels_within(terms[t], terms[s])
            if within is not None:
                found[t] = s, within
                break
    return found


def _levels_within(fine: RandomTerm, coarse: RandomTerm) -> np.ndarray | None:
    """Give the coarse level `(q,)` of each fine one, if there is one only."""
    if fine.index.shape[1] > 1 or coarse.index.shape[1] > 1:
        return None
    above = np.zeros(len(fine.levels), dtype=int)
    above[fine.index[:, 0]] = coarse.index[:, 0]
    return above if np.array_equal(above[fine.index[:, 0]], coarse.index[:, 0]) else None


def _ancestors(parents: dict[int, tuple[int, np.ndarray]], t: int) -> tuple[int, ...]:
    found: list[int] = []
    while t in parents:
        t = parents[t][0]
        found.append(t)
    return tuple(found)


def _moves(
    mode: Mode, joint: Joint, free: np.ndarray, second: np.ndarray
) -> list[tuple[list[np.ndarray], list[np.ndarray]]]:
    """
    Tell by coefficient how every term's effects' mode moves against it.

    Returns
    -------
    list
        The moves `(q, p)`, and Q times them: what is left of the rows' pull, which needs no
        inverse of a factor.
    """
    model, only = mode.coordinates.model, mode.factor.effects_only()
    spread, random = only.spread, _random(mode)
    W, found = second[np.ix_(random, random)], []
    for a, parameter in enumerate(model.family.parameters):
        linear = joint.predictors.get(parameter.name)
        if linear is None:
            continue
        X = centred_columns(model, parameter.name)[spread.system.order]
        for k, at in enumerate(range(linear.gamma.start, linear.gamma.stop)):
            if at in free:
                pull = second[random, a] * X[:, k]
                u, _ = only.solve(in_units(spread, spread.collect(pull)), np.empty(0))
                left = pull - np.einsum("abn,bn->an", W, spread.eta(u))
                moved = spread.system.latent.effects(u, spread.Lambdas)
                found.append((at, (moved, spread.collect(left))))
    # In the order in which the coefficients stand in theta.
    return [pair for _, pair in sorted(found, key=lambda pair: pair[0])]


def _times(
    fronts: Sequence[Front], effects: Sequence[np.ndarray], own: Sequence[np.ndarray]
) -> np.ndarray:
    """Multiply every term's effects `(q, p)` by A, and add `own`: `(N,)`."""
    found = [np.array(part) for part in own]
    for t, (front, b) in enumerate(zip(fronts, effects, strict=True)):
        found[t] += np.einsum("qab,qb->qa", front.blocks[:, :, : front.p], b)
        level, at, above = np.arange(front.q), front.p, front.parents
        for s in front.ancestors:
            level = above[level]
            block = front.blocks[:, :, at : at + fronts[s].p]
            found[t] += np.einsum("qab,qb->qa", block, effects[s][level])
            np.add.at(found[s], level, np.einsum("qab,qa->qb", block, b))
            at, above = at + fronts[s].p, fronts[s].parents
    return np.concatenate([np.empty(0), *(part.ravel() for part in found)])
