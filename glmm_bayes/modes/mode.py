"""What a search found: the maximum, its curvature, and whether it can be trusted."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from glmm_bayes.draws import Draws, beta_name, split_outer
from glmm_bayes.modes.coordinates import Coordinates

ARM = 0.03  # of a standard deviation


@dataclass(frozen=True, eq=False)
class Mode:
    """
    A maximum of a model's (restricted, penalised) marginal likelihood.

    Attributes
    ----------
    coordinates, x
        The free parameters `(m,)` there.
    loglik
        The natural logarithm of the likelihood, every constant included; without any prior.
    covariance
        `(m, m)` the inverse of minus the Hessian by x, of what was maximised; NaN for coordinates
        at an edge.
    gradient
        `(m,)` of what was maximised, in standard errors of each coordinate.
    decrement
        How much higher, in log likelihood, a quadratic of this curvature would still rise.
    u
        `(N,)` the conditional mode of the effects, in standard units.
    factor
        The effects' negative Hessian there (with the coefficients, if `joint`), factored; over
        `scale` squared.
    scale
        The effects' unit: sigma where it is profiled out, else 1.
    eta
        `(P, n)` the predictors at the mode.
    evaluations
        Of the marginal likelihood.
    problems
        In words, with their remedies; empty where the maximum can be trusted.
    effects_at
        Gives the conditional modes of every term's effects at another x.
    """

    coordinates: Coordinates
    x: np.ndarray
    loglik: float
    covariance: np.ndarray
    gradient: np.ndarray
    decrement: float
    u: np.ndarray
    factor: Any
    joint: bool
    scale: float
    eta: np.ndarray
    evaluations: int
    problems: tuple[str, ...]
    effects_at: Callable[[np.ndarray], Sequence[np.ndarray]]

    @property
    def converged(self) -> bool:
        """Whether the search ended at a maximum."""
        return not self.problems

    @cached_property
    def theta(self) -> np.ndarray:
        """The outer parameters in the model's layout."""
        return self.coordinates.theta(self.x)

    @cached_property
    def Lambdas(self) -> dict[str, np.ndarray]:
        """Every term's factor, by its name."""
        names = [term.name for term in self.coordinates.model.design.terms]
        return dict(zip(names, self.coordinates.Lambdas(self.x), strict=True))

    @cached_property
    def effects(self) -> dict[str, np.ndarray]:
        """Every term's b `(q, p)`, by its name."""
        latent = self.factor.spread.system.latent
        # Where sigma is profiled, u is in units of sigma Lambda, and was solved for times sigma.
        b = latent.effects(self.u, self.factor.spread.Lambdas)
        return dict(zip(self.Lambdas, b, strict=True))

    @cached_property
    def effect_variances(self) -> dict[str, np.ndarray]:
        """Every term's `(q, p, p)`, the variances of its levels' effects given the parameters."""
        only = self.factor.effects_only()
        return {
            name: self.scale**2 * (L @ part @ L.T)
            for name, L, part in zip(
                self.Lambdas, only.spread.Lambdas, only.variances(), strict=True
            )
        }

    @cached_property
    def gamma_covariance(self) -> dict[str, np.ndarray]:
        """By predictor, the covariance `(k, k)` of its centred coefficients; 0 for those held."""
        found = {}
        c = self.coordinates
        for parameter, at, held in zip(
            c.model.family.parameters, c.coefficients, c.held, strict=True
        ):
            if parameter.name not in c.model.constants:
                free = np.flatnonzero(np.isnan(held))
                cov = np.zeros((len(held), len(held)))
                cov[np.ix_(free, free)] = self.covariance[at, at]
                found[parameter.name] = cov
        return found

    @cached_property
    def axes(self) -> np.ndarray:
        """A root `(m, d)` of the covariance; what is at an edge does not move."""
        known = np.flatnonzero(np.isfinite(np.diag(self.covariance)))
        axes = np.zeros((len(self.x), len(known)))
        values, vectors = np.linalg.eigh(self.covariance[np.ix_(known, known)])
        axes[known] = vectors * np.sqrt(np.maximum(values, 0.0))
        return axes

    def star(self) -> Draws:
        """
        Give the maximum, and two points beside it along every principal axis, as 1 + 2d draws.

        The points stand `ARM` standard deviations off, the effects at their modes there: half the
        differences of a function of the parameters between two opposite points, over `ARM`, are
        its slopes along the axes, whose squares sum to its variance by the delta method.
        """
        model, arms = self.coordinates.model, ARM * self.axes.T
        x = np.concatenate([self.x[None], self.x + arms, self.x - arms])
        theta = np.stack([self.coordinates.theta(point) for point in x])
        beta, constants, structures = split_outer(model, theta)
        found = [[self.effects[name] for name in self.Lambdas]]
        found += [self.effects_at(point) for point in x[1:]] if self.effects else []
        effects = {
            name: np.stack([part[k] for part in found]) for k, name in enumerate(self.Lambdas)
        }
        return Draws(beta, constants, structures, effects, chains=1)


@dataclass(frozen=True, eq=False)
class Singular:
    """A component at the edge: a zero variance, or a singular covariance of a term's columns."""

    term: str
    words: str


def singular_parts(coordinates: Coordinates, x: np.ndarray) -> tuple[Singular, ...]:
    """List the components at an edge, in words."""
    found = []
    for term, L in zip(coordinates.model.design.terms, coordinates.Lambdas(x), strict=True):
        sd = np.sqrt((L * L).sum(axis=1))
        zero = [c for c, s in zip(term.columns, sd, strict=True) if s == 0]
        for column in zero:
            found.append(
                Singular(
                    term.name,
                    f"the standard deviation of {column} between levels of {term.label} is "
                    f"estimated as zero",
                )
            )
        inside = sd > 0
        values = np.linalg.eigvalsh((L @ L.T)[np.ix_(inside, inside)] / np.outer(sd[inside], sd[inside])) if inside.any() else np.ones(1)
        if values[0] < 1e-10 * values[-1]:
            columns = [c for c, s in zip(term.columns, inside, strict=True) if s]
            found.append(
                Singular(
                    term.name,
                    f"the effects of {' and '.join(columns)} on {term.label} are estimated as "
                    f"perfectly correlated",
                )
            )
    return tuple(found)


def coefficient_places(coordinates: Coordinates) -> Mapping[str, slice]:
    """Where each predictor's free coefficients stand in x."""
    names = [p.name for p in coordinates.model.family.parameters]
    return {
        beta_name(name): at
        for name, at in zip(names, coordinates.coefficients, strict=True)
        if name not in coordinates.model.constants
    }
