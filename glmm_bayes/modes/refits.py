"""Maximise again for other responses of the same model, from the maximum that is known."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from glmm_bayes.engine.gaussian import Gaussian
from glmm_bayes.engine.laplace import Laplace
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.model import Model
from glmm_bayes.modes.another import with_response
from glmm_bayes.modes.chains import read_quadrature
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.correlated import CorrelatedObjective, Residual
from glmm_bayes.modes.gaussian import GaussianObjective, concluded, growth_in, jacobian
from glmm_bayes.modes.laplace import LaplaceObjective, Penalty
from glmm_bayes.modes.laplace import concluded as concluded_laplace
from glmm_bayes.modes.mode import Mode
from glmm_bayes.modes.penalised import LogPrior
from glmm_bayes.modes.reading import is_gaussian, read_gaussian, read_laplace, with_rows
from glmm_bayes.modes.search import FINE, climb, root
from glmm_bayes.modes.surfaces import axes_of, spread_of

SETTLED = 1e-3  # of the decrement: a search that ended so is at its maximum, for a replicate
LEAVE = 0.5  # of a standard error's guess: how far a start is moved off an edge


@dataclass(frozen=True, eq=False)
class Refits:
    """
    The maxima for S responses.

    Attributes
    ----------
    x, loglik
        `(S, m)` in the mode's coordinates, and `(S,)`.
    reached
        `(S,)` whether a maximum was found; elsewhere x is where the search ended.
    """

    x: np.ndarray
    loglik: np.ndarray
    reached: np.ndarray


@dataclass(frozen=True, eq=False)
class Start:
    """
    Where searches for other responses begin: the maximum for the one that was fitted.

    Attributes
    ----------
    coordinates, x
        Its `(m,)` coordinates.
    spread
        Their covariance `(m, m)`, with a guess for what stands at an edge.
    u
        The effects' modes in standard units.
    """

    coordinates: Coordinates
    x: np.ndarray
    spread: np.ndarray
    u: np.ndarray

    @classmethod
    def of(cls, mode: Mode) -> "Start":
        """
        Read a mode.

        Raises
        ------
        NotSupportedError
            If there is no proper maximum, and so no measure of steps.
        """
        if not mode.determined:
            raise NotSupportedError(
                "The likelihood has no proper maximum here, from which others could be searched: "
                "fit.diagnostics() says why; give the model priors and use fit('map')."
            )
        return cls(mode.coordinates, mode.x, spread_of(mode), mode.u)

    def with_model(self, model: Model) -> "Start":
        """Put another model of the same parameters in place."""
        return replace(self, coordinates=replace(self.coordinates, model=model))


class Refitter(Protocol):
    """Maximises for responses `(n,)` in the order of the model's rows."""

    def maxima(self, Y: np.ndarray) -> Refits:
        """Give the maxima for `(S, n)` responses."""

    def mode(self, model: Model, x: np.ndarray | None = None) -> Mode:
        """Give all that is to be known of the maximum for the response of a model, near x."""


def refitter_of(start: Start, method: str, nagq: int) -> Refitter:
    """
    Choose how to maximise again.

    Parameters
    ----------
    method
        `"ml"`, `"reml"` or `"map"`.
    """
    model = start.coordinates.model
    response = model.design.response
    if response.view is not None:
        response.view.check_other_responses(response.name)
    if is_gaussian(model) and method in ("ml", "reml"):
        return GaussianRefitter(start, method == "reml")
    return LaplaceRefitter(start, method == "reml", method == "map", nagq)


def off_edges(c: Coordinates, x: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Move what stands at an edge a little off it, as no slope leads away from there."""
    sizes = LEAVE * np.sqrt(np.diag(spread))
    found = x.copy()
    for term, at, strict in zip(c.model.design.terms, c.factors, c.strict, strict=True):
        if not strict:
            for _ in range(at.stop - at.start):
                exits = term.structure.exits(found[at], term.size, [sizes[at]])
                moved = next(iter(exits), None)
                if moved is None:
                    break
                found[at] = moved
    return found


@dataclass(eq=False)
class GaussianRefitter:
    """Gaussian responses: of a new one only the products with the columns are new."""

    start: Start
    restricted: bool

    @cached_property
    def gaussian(self) -> Gaussian:
        """The likelihood of the response that was fitted."""
        return read_gaussian(self.start.coordinates.model)

    @cached_property
    def residual(self) -> Residual | None:
        """What of its residuals' structure is the same for every response, if they have one."""
        model = self.start.coordinates.model
        return None if model.design.residual is None else Residual.of(model)

    @cached_property
    def ratios(self) -> np.ndarray:
        """Where a search begins: x `(m,)` with the factors over sigma, off every edge."""
        c, spread = self.start.coordinates, self.start.spread
        x = off_edges(c, self.start.x, spread)
        return x / np.exp(x[c.coefficients[1]][0]) ** growth_in(c)

    @cached_property
    def axes(self) -> np.ndarray:
        """The search's axes `(m, d)`: what the factors over sigma vary by."""
        c, spread = self.start.coordinates, self.start.spread
        k, growth = c.coefficients[-1].stop, growth_in(c)
        found = np.zeros((c.size, c.size - k))
        # The ratio's logarithm varies as the factor's less the power times log sigma.
        turn = np.eye(c.size)[k:]
        sigma = np.exp(self.start.x[k - 1]) ** growth[k:]
        turn = turn / sigma[:, None]
        turn[:, k - 1] = -growth[k:] * self.ratios[k:]
        found[k:] = axes_of(turn @ spread @ turn.T)
        return found

    @cached_property
    def units(self) -> np.ndarray:
        """A step `(m,)` that matters, beside which an edge is near."""
        c = self.start.coordinates
        sd = [np.ones(term.p) / term.scales for term in self.gaussian.system.latent.terms]
        return c.units(sd)

    @cached_property
    def many(self) -> Any:
        """What maximises for many responses at once; None where the model is not for it."""
        from glmm_bayes.modes.refits_many import gaussian_many

        return gaussian_many(self)

    def maxima(self, Y: np.ndarray) -> Refits:
        """Give the maxima for `(S, n)` responses."""
        found = _blank(self.start, len(Y)) if self.many is None else self.many(Y)
        for s in np.flatnonzero(~found.reached):
            x, loglik, reached = self._alone(Y[s])
            found.x[s], found.loglik[s], found.reached[s] = x, loglik, reached
        return found

    def _objective(self, model: Model) -> GaussianObjective:
        response, offset = model.design.response, model.design.predictors["mu"].offset
        y = model.family.working(response.y) - offset
        c = replace(self.start.coordinates, model=model)
        if self.residual is not None:
            own = self.residual.with_response(y)
            return CorrelatedObjective(self.gaussian, c, self.restricted, residual=own)
        gaussian = self.gaussian.with_response(y[self.gaussian.system.order])
        return GaussianObjective(gaussian, c, self.restricted)

    def _alone(self, y: np.ndarray) -> tuple[np.ndarray, float, bool]:
        objective = self._objective(with_response(self.start.coordinates.model, y))
        c = objective.coordinates
        x, inverse = climb(objective, c, self.ratios, self.axes, self.units, tolerance=FINE)
        value, slope = objective(x)
        if objective.last is None or not np.isfinite(value):
            return np.full_like(x, np.nan), np.nan, False
        found = natural(c, x, objective.last.gamma, objective.last.sigma)
        settled = _settled(self.axes.T @ slope, inverse)
        return found, value + jacobian(c.model), settled

    def mode(self, model: Model, x: np.ndarray | None = None) -> Mode:
        """Give all that is to be known of the maximum for the response of a model, near x."""
        objective = self._objective(model)
        c = objective.coordinates
        start = self.ratios
        if x is not None:
            start = x / np.exp(x[c.coefficients[1]][0]) ** growth_in(c)
        x, inverse = climb(objective, c, start, self.axes, self.units)
        return concluded(objective, x, self.axes @ root(inverse))


def natural(c: Coordinates, ratios: np.ndarray, gamma: np.ndarray, sigma: float) -> np.ndarray:
    """Give x `(m,)` from the factors over sigma and what was profiled out."""
    x = ratios * sigma ** growth_in(c)
    mean, constant = c.coefficients
    x[mean], x[constant] = gamma, np.log(sigma)
    return x


@dataclass(eq=False)
class LaplaceRefitter:
    """
    Any other response: by Laplace's method or by quadrature, from the known effects' mode.

    Searches end where a quadratic would rise by less than `tolerance`.
    """

    start: Start
    restricted: bool
    penalised: bool
    nagq: int
    tolerance: float = FINE

    @cached_property
    def laplace(self) -> Laplace:
        """The likelihood of the response that was fitted."""
        return read_laplace(self.start.coordinates.model, restricted=self.restricted)

    @property
    def means(self) -> slice:
        """Where the coefficients stand in x that are integrated out where any are."""
        return self.start.coordinates.means(self.laplace.means)

    @cached_property
    def x(self) -> np.ndarray:
        """Where a search begins, off every edge."""
        return off_edges(self.start.coordinates, self.start.x, self.start.spread)

    @cached_property
    def axes(self) -> np.ndarray:
        """The search's axes `(m, d)`: the fit's standard errors."""
        c, spread = self.start.coordinates, self.start.spread
        if not self.restricted:
            return axes_of(spread)
        others = np.arange(self.means.stop, c.size)
        found = np.zeros((c.size, len(others)))
        found[others] = axes_of(spread[np.ix_(others, others)])
        return found

    @cached_property
    def units(self) -> np.ndarray:
        """A step `(m,)` that matters, beside which an edge is near."""
        c = self.start.coordinates
        latent = self.laplace.system.latent
        return c.units([np.ones(term.p) / term.scales for term in latent.terms])

    @cached_property
    def many(self) -> Any:
        """What maximises for many responses at once; None where the model is not for it."""
        from glmm_bayes.modes.refits_many import laplace_many

        plain = not (self.restricted or self.penalised) and self.nagq == 1
        return laplace_many(self) if plain else None

    def maxima(self, Y: np.ndarray) -> Refits:
        """Give the maxima for `(S, n)` responses."""
        found = _blank(self.start, len(Y)) if self.many is None else self.many(Y)
        for s in np.flatnonzero(~found.reached):
            x, loglik, reached = self._alone(Y[s])
            found.x[s], found.loglik[s], found.reached[s] = x, loglik, reached
        return found

    def _objective(self, model: Model) -> LaplaceObjective:
        c = replace(self.start.coordinates, model=model)
        laplace = with_rows(self.laplace, model)
        # A new one: where the last response's search ended must not matter to the next.
        laplace.u = self.start.u
        integral = laplace if self.nagq == 1 else read_quadrature(model, laplace, self.nagq)
        penalty: Penalty | None = LogPrior(c) if self.penalised else None
        objective = LaplaceObjective(integral, c, self.restricted, penalty)
        objective.gamma = self.x[self.means]
        return objective

    def _alone(self, y: np.ndarray) -> tuple[np.ndarray, float, bool]:
        objective = self._objective(with_response(self.start.coordinates.model, y))
        c = objective.coordinates
        x, inverse = climb(objective, c, self.x, self.axes, self.units, tolerance=self.tolerance)
        value, slope = objective(x)
        if objective.last is None or not np.isfinite(value):
            return np.full_like(x, np.nan), np.nan, False
        if self.restricted:
            x = x.copy()
            x[self.means] = objective.gamma
        return x, objective.last.value, _settled(self.axes.T @ slope, inverse)

    def predictors(self, model: Model, x: np.ndarray) -> np.ndarray:
        """Give the predictors `(P, n)` at the effects' modes at x, rows as the algebra has them."""
        objective = self._objective(model)
        found: np.ndarray = objective.marginal(x).eta
        return found

    def mode(self, model: Model, x: np.ndarray | None = None) -> Mode:
        """Give all that is to be known of the maximum for the response of a model, near x."""
        objective = self._objective(model)
        c = objective.coordinates
        x, inverse = climb(objective, c, self.x if x is None else x, self.axes, self.units)
        return concluded_laplace(objective, x, self.axes @ root(inverse), 0)


def _settled(slope: np.ndarray, inverse: np.ndarray) -> bool:
    return bool(slope @ inverse @ slope < SETTLED)


def _blank(start: Start, size: int) -> Refits:
    x = np.full((size, len(start.x)), np.nan)
    return Refits(x, np.full(size, np.nan), np.zeros(size, dtype=bool))
