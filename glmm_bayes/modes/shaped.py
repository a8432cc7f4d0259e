"""Maximise the likelihood of a model with effects that are not normal, by quadrature."""

from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np

from glmm_bayes.covariance.levels import Independent
from glmm_bayes.covariance.shaped import Shaped
from glmm_bayes.engine.integrals.shaped import Curve, LogDensity, ShapedIntegral
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.model import Model
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.laplace import LaplaceObjective, concluded, maximise_laplace
from glmm_bayes.modes.mode import Mode
from glmm_bayes.modes.reading import read_laplace
from glmm_bayes.modes.search import climb, root
from glmm_bayes.taylor import Taylor

SMALLEST = 0.05  # of a predictor: a standard deviation to start from


def maximise_shaped(model: Model, nagq: int) -> Mode:
    """
    Maximise the likelihood by adaptive quadrature about each level's mode.

    Raises
    ------
    NotSupportedError
        If the effects are more than one a level of one grouping, or the nodes one.
    """
    distribution = _checked(model, nagq)
    normal, integral = with_normal_effects(model), read_shaped(model, nagq)
    near = maximise_laplace(Coordinates.of(normal), restricted=False)
    coordinates = Coordinates.unconstrained(model)
    objective = LaplaceObjective(integral, coordinates, joint=False)
    coefficients = near.coordinates.split(near.x)
    size = np.array([max(abs(float(near.coordinates.Lambdas(near.x)[0][0, 0])), SMALLEST)])
    units, tops = coordinates.units([size]), []
    for sign in (1.0, -1.0) if distribution.parameter.support[0] == -np.inf else (1.0,):
        x = coordinates.join(coefficients, coordinates.start([size]))
        x[coordinates.between[0]] *= sign
        objective.laplace.u = np.zeros_like(objective.laplace.u)
        objective.forget()
        x, inverse = climb(objective, coordinates, x, np.diag(units * coordinates.spreads), units)
        tops.append((objective(x)[0], x, inverse))
    _, x, inverse = max(tops, key=lambda top: top[0])
    objective.forget()
    axes = np.diag(units * coordinates.spreads) @ root(inverse)
    return concluded(objective, x, axes, near.evaluations)


def read_shaped(model: Model, nagq: int) -> ShapedIntegral:
    """Build the likelihood's integral, with this many nodes a level."""
    distribution = model.design.terms[0].level_structure.shape
    assert distribution is not None
    laplace = read_laplace(with_normal_effects(model))
    return ShapedIntegral(laplace, density_of(distribution), nagq)


def density_of(distribution: Shaped) -> LogDensity:
    """Give the log density of effects, with derivatives to third order by Taylor numbers."""
    name = distribution.parameter.name

    def density(u: np.ndarray, psi: np.ndarray) -> Curve:
        v = Taylor.variable(u, 0, order=3)
        theta = Taylor.variable(np.array([psi[0]]), 1, order=3)
        found: Any = distribution.log_density(v, {name: theta})  # type: ignore[arg-type,dict-item]

        def by(*variables: int) -> np.ndarray:
            return np.broadcast_to(found.derivative(*variables), u.shape)

        own = (by(1), by(0, 1), by(0, 0, 1))
        return Curve(np.broadcast_to(found.value, u.shape), by(0), by(0, 0), by(0, 0, 0), [own])

    return density


def _checked(model: Model, nagq: int) -> Shaped:
    first, *others = model.design.terms
    distribution = first.level_structure.shape
    alone = not others and first.size == 1 and first.index.shape[1] == 1
    if not alone or distribution is None:
        raise NotSupportedError(
            "Quadrature of effects that are not normal is for a model with one random term of one "
            "column, as (1 | g, dist='student'): use fit('nuts')."
        )
    if nagq == 1:
        raise NotSupportedError(
            f"The effects of {first.text!r} are not normal, as Laplace's method takes them to be: "
            f"use quadrature, fit('ml', nagq=15), or fit('nuts')."
        )
    return distribution


def with_normal_effects(model: Model) -> Model:
    """Give the same model with normal effects, whose parameters are among its own."""
    found = copy(model)
    (term,) = model.design.terms
    normal = replace(term, level_structure=Independent(term.level_structure.places))
    found.design = replace(model.design, terms=(normal,))
    return found
