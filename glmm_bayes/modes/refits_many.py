"""Maxima for many responses of one model at once, where few effects are crossed with a grouping."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from glmm_bayes.engine.crossed_many import CrossedMany, CrossedProfile
from glmm_bayes.engine.gaussian_many import GaussianMany
from glmm_bayes.engine.grouped import Grouped
from glmm_bayes.engine.laplace_many import LaplaceMany
from glmm_bayes.engine.search.maximise_many import Optima, maximise_many
from glmm_bayes.families.expansion import RowDensity
from glmm_bayes.model import Model
from glmm_bayes.modes.another import changed
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.gaussian import growth_in
from glmm_bayes.modes.reading import centred_columns
from glmm_bayes.modes.reported import Factor
from glmm_bayes.modes.search import FINE, NEAR

if TYPE_CHECKING:
    from glmm_bayes.modes.refits import GaussianRefitter, LaplaceRefitter, Refits

MOST = 40  # effects beside the largest term, whose matrices are dense


def grouped_rows(c: Coordinates) -> tuple[Grouped, np.ndarray] | None:
    """Give the rows of a model's one grouping, with their order; None where there is no such."""
    terms, family = c.model.design.terms, c.model.family
    if len(terms) != 1 or terms[0].index.shape[1] != 1 or terms[0].level_structure.name != "iid":
        return None
    term = terms[0]
    if {g.param for g in term.loadings} != {family.parameters[0].name}:
        return None
    order = np.argsort(term.index[:, 0], kind="stable")
    level = term.index[order, 0]
    if len(np.unique(level)) < len(term.levels):
        return None
    Z = np.zeros((len(order), term.size))
    for loading in term.loadings:
        Z[:, loading.columns] = loading.Z
    return Grouped(Z[order] * term.weights[order], level, len(term.levels)), order


def _finished(
    optima: Optima,
    points: np.ndarray,
    factor: Factor,
    units: np.ndarray,
    value: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """Give x `(S, m)` at the tops, on the edge where that is as high."""
    c, number = factor.coordinates, factor.number
    at, term = c.factors[number], c.model.design.terms[number]
    moved, least = points.copy(), 30 * NEAR * units[at]
    for s in np.flatnonzero((np.abs(points[:, at]) <= least).any(axis=1) & (not c.strict[number])):
        structure, size = term.structure, term.size
        moved[s, at] = structure.at_edge(points[s, at], size, least)
    near = np.flatnonzero((moved != points).any(axis=1))
    if len(near):
        higher = value(near, moved[near]) >= optima.value[near] - 1e-9 * (
            1 + np.abs(optima.value[near])
        )
        points[near[higher]] = moved[near[higher]]
    return points


@dataclass(eq=False)
class _Gaussian:
    refitter: "GaussianRefitter"
    grouped: Grouped
    order: np.ndarray

    @cached_property
    def factor(self) -> Factor:
        """The term's factor."""
        return Factor(self.refitter.start.coordinates)

    def __call__(self, Y: np.ndarray) -> "Refits":
        from glmm_bayes.modes.refits import Refits

        r, c = self.refitter, self.refitter.start.coordinates
        model, factor = c.model, self.factor
        w = model.design.response.weights
        y = model.family.working(Y) - model.design.predictors["mu"].offset
        many = GaussianMany(
            self.grouped,
            np.ascontiguousarray(centred_columns(model, "mu")[self.order]),
            y[:, self.order],
            np.ones(len(self.order)) if w is None else w[self.order],
            r.gaussian.count,
        )
        at = c.factors[0]

        def point(t: np.ndarray) -> np.ndarray:
            return r.ratios + t @ r.axes.T

        def evaluate(which: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            x = point(t)
            found = many.profile(which, factor.Lambdas(x), restricted=r.restricted)
            return found.value, factor.pull(x, found.by_Lambda) @ r.axes[at]

        def value(which: np.ndarray, x: np.ndarray) -> np.ndarray:
            return many.profile(which, factor.Lambdas(x), restricted=r.restricted).value

        optima = maximise_many(evaluate, np.zeros((len(Y), r.axes.shape[1])), tolerance=FINE)
        x = _finished(optima, point(optima.x), factor, r.units, value)
        top = many.profile(np.arange(len(Y)), factor.Lambdas(x), restricted=r.restricted)
        whole = x * top.sigma[:, None] ** growth_in(c)
        whole[:, c.coefficients[0]], whole[:, c.coefficients[1]] = (
            top.gamma,
            np.log(top.sigma)[:, None],
        )
        return Refits(whole, top.value + _jacobians(model, Y), optima.reached)


def _jacobians(model: Model, Y: np.ndarray) -> np.ndarray:
    """Give `modes.gaussian.jacobian` `(S,)` of `(S, n)` responses."""
    family, response = model.family, model.design.response
    zero = {"mu": family.working(Y), "sigma": 1.0}
    gap = family.logp(Y, response.trials, zero) + 0.5 * np.log(2 * np.pi)
    return np.sum(gap if response.weights is None else gap * response.weights, axis=1)


@dataclass(eq=False)
class _Crossed:
    """Several terms: that with most levels by levels, the others dense."""

    refitter: "GaussianRefitter"
    factors: Sequence[Factor]  # the term with most levels first
    grouped: Grouped
    order: np.ndarray

    def _many(self, Y: np.ndarray) -> CrossedMany:
        r, model = self.refitter, self.refitter.start.coordinates.model
        w, others = model.design.response.weights, self.factors[1:]
        terms = [model.design.terms[f.number] for f in others]
        Z = np.column_stack([term.Z("mu").toarray() for term in terms])
        y = model.family.working(Y) - model.design.predictors["mu"].offset
        return CrossedMany(
            self.grouped,
            Z[self.order],
            [(len(term.levels), term.size) for term in terms],
            np.ascontiguousarray(centred_columns(model, "mu")[self.order]),
            y[:, self.order],
            np.ones(len(self.order)) if w is None else w[self.order],
            r.gaussian.count,
        )

    def __call__(self, Y: np.ndarray) -> "Refits":
        from glmm_bayes.modes.refits import Refits

        r, c, many = self.refitter, self.refitter.start.coordinates, self._many(Y)

        def profiled(which: np.ndarray, x: np.ndarray) -> CrossedProfile:
            Lambdas = [factor.Lambdas(x) for factor in self.factors]
            return many.profile(which, Lambdas, restricted=r.restricted)

        def evaluate(which: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            x = r.ratios + t @ r.axes.T
            found, slope = profiled(which, x), np.zeros_like(x)
            for factor, by in zip(self.factors, found.by_Lambda, strict=True):
                slope[:, c.factors[factor.number]] = factor.pull(x, by)
            return found.value, slope @ r.axes

        optima = maximise_many(evaluate, np.zeros((len(Y), r.axes.shape[1])), tolerance=FINE)
        x = r.ratios + optima.x @ r.axes.T
        for factor in self.factors:
            x = _finished(optima, x, factor, r.units, lambda which, at: profiled(which, at).value)
        top = profiled(np.arange(len(Y)), x)
        whole = x * top.sigma[:, None] ** growth_in(c)
        whole[:, c.coefficients[0]] = top.gamma
        whole[:, c.coefficients[1]] = np.log(top.sigma)[:, None]
        return Refits(whole, top.value + _jacobians(c.model, Y), optima.reached)


def _crossed(refitter: "GaussianRefitter") -> _Crossed | None:
    """Read a model of several terms, if the smaller of them are small enough."""
    c = refitter.start.coordinates
    terms = c.model.design.terms
    first = max(range(len(terms)), key=lambda t: len(terms[t].levels), default=0)
    order = [first, *(t for t in range(len(terms)) if t != first)]
    rest = sum(len(terms[t].levels) * terms[t].size for t in order[1:])
    factors = [Factor(c, t) for t in order]
    if len(terms) < 2 or rest > MOST or not all(factor.is_linear for factor in factors):
        return None
    alone = changed(c.model, design=replace(c.model.design, terms=(terms[first],)))
    found = grouped_rows(replace(c, model=alone))
    plain = all(t.index.shape[1] == 1 and t.level_structure.name == "iid" for t in terms)
    return _Crossed(refitter, factors, *found) if plain and found is not None else None


def gaussian_many(refitter: "GaussianRefitter") -> "_Gaussian | _Crossed | None":
    """Give what maximises for many Gaussian responses; None where the model is not for it."""
    if refitter.residual is not None:
        return None
    found = grouped_rows(refitter.start.coordinates)
    return _crossed(refitter) if found is None else _Gaussian(refitter, *found)


@dataclass(frozen=True, eq=False)
class _Known(RowDensity):
    """Rows whose density's constant has been computed before."""

    known: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @cached_property
    def _constant(self) -> np.ndarray:
        return self.known


@dataclass(eq=False)
class _Laplace:
    refitter: "LaplaceRefitter"
    grouped: Grouped
    order: np.ndarray

    @cached_property
    def factor(self) -> Factor:
        """The term's factor."""
        return Factor(self.refitter.start.coordinates)

    def __call__(self, Y: np.ndarray) -> "Refits":
        from glmm_bayes.modes.refits import Refits

        r, c = self.refitter, self.refitter.start.coordinates
        factor, at = self.factor, c.factors[0]
        many = self._read(Y)

        def point(t: np.ndarray) -> np.ndarray:
            return r.x + t @ r.axes.T

        def marginal(which: np.ndarray, x: np.ndarray) -> Any:
            coefficients = [np.broadcast_to(held, (len(x), len(held))).copy() for held in c.held]
            for value, held, place in zip(coefficients, c.held, c.coefficients, strict=True):
                value[:, np.isnan(held)] = x[:, place]
            return many.marginal(which, coefficients, factor.Lambdas(x))

        def evaluate(which: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            x = point(t)
            found, slope = marginal(which, x), np.zeros_like(x)
            for by, held, place in zip(found.by_coefficients, c.held, c.coefficients, strict=True):
                slope[:, place] = by[:, np.isnan(held)]
            slope[:, at] = factor.pull(x, found.by_Lambda)
            return found.value, slope @ r.axes

        optima = maximise_many(evaluate, np.zeros((len(Y), r.axes.shape[1])), tolerance=r.tolerance)
        x = _finished(
            optima, point(optima.x), factor, r.units, lambda which, x: marginal(which, x).value
        )
        return Refits(x, optima.value, optima.reached)

    def _read(self, Y: np.ndarray) -> LaplaceMany:
        r, c = self.refitter, self.refitter.start.coordinates
        model, order, S = c.model, self.order, len(Y)
        response, predictors = model.design.response, model.design.predictors
        names = [p.name for p in model.family.parameters]
        y = Y[:, order]
        n = len(order)
        trials, weights = (
            None if part is None else part[order] for part in (response.given, response.weights)
        )

        def tiled(part: Any, size: int) -> Any:
            return None if part is None else part[np.tile(np.arange(n), size)]

        with np.errstate(all="ignore"):
            constant = model.family.constant(y.ravel(), tiled(trials, S))
        constant = np.broadcast_to(constant, (S * n,)).reshape(S, n)
        constant = constant if weights is None else constant * weights

        def rows(which: np.ndarray, eta: np.ndarray, highest: int) -> Any:
            s = len(which)
            density = _Known(
                model.family, model.links, names, y[which].ravel(), tiled(trials, s),
                tiled(weights, s), constant[which].ravel(),
            )  # fmt: skip
            found = density(eta.reshape(len(names), s * n), highest)
            return _Shaped(found, (s, n))

        offset = np.stack([predictors[p].offset if p in predictors else np.zeros(n) for p in names])
        X = [np.ascontiguousarray(centred_columns(model, p)[order]) for p in names]
        u = r.start.u.reshape(self.grouped.q, -1)
        return LaplaceMany(
            rows, self.grouped, X, offset[:, order], np.broadcast_to(u, (S, *u.shape)).copy()
        )


class _Shaped:
    """An expansion whose rows are those of S responses."""

    def __init__(self, found: Any, shape: tuple[int, int]) -> None:
        self.value = found.value.reshape(shape)
        self.first, self.second, self.third = (
            None if part is None else part.reshape(*part.shape[:-1], *shape)
            for part in (found.first, found.second, found.third)
        )


def laplace_many(refitter: "LaplaceRefitter") -> _Laplace | None:
    """Give what maximises for many other responses; None where the model is not for it."""
    model = refitter.start.coordinates.model
    if model.design.residual is not None or model.family.responses is not None:
        return None
    found = grouped_rows(refitter.start.coordinates)
    return None if found is None else _Laplace(refitter, *found)
