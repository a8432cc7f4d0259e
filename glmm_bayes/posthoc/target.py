"""A model's posterior around its mode, in the outer parameters psi, coefficients and effects."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from glmm_bayes.engine.corrected import correct
from glmm_bayes.engine.laplace import Laplace
from glmm_bayes.engine.newton import Normal
from glmm_bayes.engine.optimise import maximise
from glmm_bayes.engine.systems import build_for_sampling
from glmm_bayes.engine.whitened import Problem, Whole
from glmm_bayes.errors import ConvergenceError
from glmm_bayes.model import Model
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.penalised import LogPrior
from glmm_bayes.modes.reading import (
    centred_columns,
    first_coefficients,
    first_sizes,
    read_latent,
    read_rows,
)
from glmm_bayes.modes.search import Frame, Remembered, longest, polish, root
from glmm_bayes.priors import grouped
from glmm_bayes.terms import RandomTerm

ROUGH = 1e-3  # of the decrement: the Hessian's own Newton steps do the rest
FARTHEST = 3.0  # from the usual start, where a search begins: a variance may be zero at a maximum
WEAKEST = 0.25  # of a prior's squared slope: a normal in its place has at least this precision

type Function = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class MeanPrior:
    """The prior of the mean's free coefficients, on their own scale."""

    forms: Sequence[tuple[Function, Function, np.ndarray]]
    lower: np.ndarray
    upper: np.ndarray

    @classmethod
    def of(cls, coordinates: Coordinates) -> "MeanPrior":
        """Collect the priors of a model."""
        model, outer = coordinates.model, coordinates.outer
        blocks = [block for block in model.blocks if block.name == "beta"]
        priors = [p for block in blocks for p in block.priors if not p.is_fixed]
        at = np.flatnonzero(np.isnan(coordinates.held[0]))
        start = model.layout["beta"].start if blocks else 0
        forms = [(*prior.resolved(), places) for prior, places in grouped(priors)]
        return cls(forms, outer.lower[start + at], outer.upper[start + at])

    def log_density(self, gamma: np.ndarray) -> Any:
        """Give the log density up to a constant, of `(k,)` or `(S, k)`; minus infinity outside."""
        total = np.zeros(gamma.shape[:-1])
        for core, _, at in self.forms:
            total = total + core(gamma[..., at]).sum(axis=-1)
        if self._is_bounded:
            inside = ((gamma > self.lower) & (gamma < self.upper)).all(axis=-1)
            total = np.where(inside, total, -np.inf)
        return total

    @cached_property
    def _is_bounded(self) -> bool:
        return bool(np.isfinite(self.lower).any() or np.isfinite(self.upper).any())

    def slope(self, gamma: np.ndarray) -> np.ndarray:
        """Give its derivative `(k,)`."""
        found = np.zeros_like(gamma)
        for _, score, at in self.forms:
            found[at] = score(gamma[at])
        return found

    def normal_at(self, gamma: np.ndarray) -> Normal:
        """Give a normal density of the same slope and curvature at a point, if that is concave."""
        step = 1e-4 * (1.0 + np.abs(gamma))
        slope = self.slope(gamma)
        bend = (self.slope(gamma - step) - self.slope(gamma + step)) / (2 * step)
        precision = np.maximum(bend, WEAKEST * slope * slope)
        moved = np.divide(slope, precision, out=np.zeros_like(slope), where=precision > 0)
        return Normal(gamma + moved, np.diag(precision))


@dataclass(eq=False)
class Target(Remembered):
    """
    The posterior of a model: psi are the coordinates of all but the mean's coefficients gamma.

    As a function of psi it is the marginal posterior by Laplace's method, effects and
    coefficients integrated out, with its gradient; `setting` is the way to the exact one.

    Attributes
    ----------
    reference
        `(m,)` coordinates about which psi is put in; its coefficients are inside their support.
    integrated
        Whether gamma is integrated out with the effects. If not, it is part of psi.
    """

    model: Model
    coordinates: Coordinates
    laplace: Laplace
    prior: MeanPrior
    log_prior: LogPrior
    reference: np.ndarray
    integrated: bool
    gamma: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.gamma = self.reference[self._mean]
        self.laplace.prior = self.prior.normal_at(self.gamma)

    def start_from(self, theta: np.ndarray) -> None:
        """Put psi and the coefficients near given outer parameters, off the edges."""
        x = self.log_prior.coordinates_of(theta)
        usual = self.reference
        near = np.where(np.isfinite(x), np.clip(x, usual - FARTHEST, usual + FARTHEST), usual)
        for at in self.coordinates.coefficients:
            near[at] = np.where(np.isfinite(x[at]), x[at], usual[at])
        self.reference = self.coordinates.inside(near)
        self.gamma = self.reference[self._mean]
        self.laplace.prior = self.prior.normal_at(self.gamma)

    @property
    def _mean(self) -> slice:
        """Where the coefficients stand that are integrated out."""
        return self.coordinates.coefficients[0] if self.integrated else slice(0, 0)

    @cached_property
    def outer(self) -> np.ndarray:
        """Where psi stands among the coordinates."""
        mean = self._mean
        return np.setdiff1d(np.arange(self.coordinates.size), np.arange(mean.start, mean.stop))

    def x(self, psi: np.ndarray) -> np.ndarray:
        """Put psi among all coordinates, what is integrated out at the reference."""
        x = self.reference.copy()
        x[self.outer] = psi
        return x

    def theta(self, psi: np.ndarray, gamma: np.ndarray) -> np.ndarray:
        """Give the outer parameters `(S, m)` in the model's layout of draws."""
        theta, _ = self.log_prior.densities(self.tiled(psi))
        if gamma.shape[1]:
            start = self.model.layout["beta"].start
            theta[:, start + np.flatnonzero(np.isnan(self.coordinates.held[0]))] = gamma
        return theta

    def tiled(self, psi: np.ndarray) -> np.ndarray:
        """Put psi `(S, d)` among all coordinates `(S, m)`."""
        x = np.tile(self.reference, (len(psi), 1))
        x[:, self.outer] = psi
        return x

    def evaluated(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Give the log marginal posterior of psi by Laplace's method, and its slope."""
        full = self.x(x)
        Lambdas = self.coordinates.Lambdas(full)
        found = self.laplace.marginal(self._split(full), Lambdas, joint=self.integrated)
        prior, by_x = self.log_prior.density(full)
        by_coefficients = list(found.by_coefficients)
        if self.integrated:
            self.gamma = np.asarray(found.coefficients[0])
            by_coefficients[0] = np.zeros(len(self.coordinates.held[0]))
        slope = self.coordinates.pull(full, by_coefficients, found.by_Lambda)
        return found.value + prior, (slope + by_x)[self.outer]

    def _split(self, x: np.ndarray) -> list[np.ndarray]:
        coefficients = self.coordinates.split(x)
        if self.integrated:
            coefficients[0] = self.gamma
        return coefficients

    def ascended(self, psi: np.ndarray) -> tuple[Any, Any, Any]:
        """Climb to the mode of what is integrated out: see `Laplace.ascended`."""
        x = self.x(psi)
        return self.laplace.ascended(
            self._split(x), self.coordinates.Lambdas(x), joint=self.integrated
        )

    def fixed(self, psi: np.ndarray) -> np.ndarray:
        """Give the predictors' `(P, n)` part without what is integrated out."""
        coefficients = self.coordinates.split(self.x(psi))
        found = self.laplace.offset.copy()
        for a, (X, c) in enumerate(zip(self.laplace.X, coefficients, strict=True)):
            if a > 0 or not self.integrated:
                found[a] += X @ c
        return found

    def fixed_at(self, psi: np.ndarray) -> np.ndarray:
        """Give the same `(P, S, n)` for psi `(S, d)`; S is 1 where it does not depend on them."""
        base = self.laplace.offset[:, None]
        if len(base) == 1 and self.integrated:
            return base
        return np.stack([self.fixed(row) for row in psi], axis=1)


def read_target(model: Model, *, integrated: bool = True) -> Target:
    """
    Read a model, with the mean's coefficients integrated out or as part of psi.

    Integrated, those that are held fixed by their priors become part of the offset.
    """
    coordinates = Coordinates.unconstrained(model)
    latent, columns = read_latent(model), centred_columns(model, "mu")
    held = coordinates.held[0]
    free = np.isnan(held)
    inner = columns[:, free] if integrated else columns[:, :0]
    system = build_for_sampling(latent, inner)
    names, predictors = [p.name for p in model.family.parameters], model.design.predictors
    offset = np.stack(
        [predictors[p].offset if p in predictors else np.zeros(model.nobs) for p in names]
    )
    X = [centred_columns(model, p) for p in names]
    if integrated:
        offset[0] += columns[:, ~free] @ held[~free]
        X[0] = inner
    ordered = [np.ascontiguousarray(part[system.order]) for part in X]
    laplace = Laplace(read_rows(model, system.order), ordered, offset[:, system.order], system)
    sd = first_sizes(model, latent)
    x = coordinates.join(first_coefficients(model), coordinates.start(sd))
    reference = coordinates.inside(x)
    nothing = MeanPrior([], np.empty(0), np.empty(0))
    prior = MeanPrior.of(coordinates) if integrated else nothing
    log_prior = LogPrior(coordinates)
    return Target(model, coordinates, laplace, prior, log_prior, reference, integrated)


@dataclass(frozen=True, eq=False)
class Around:
    """
    A posterior's mode in psi, its curvature, and the corrected normal approximation there.

    Attributes
    ----------
    psi
        `(d,)` the mode.
    axes
        `(d, d)` a root of the covariance of psi by the curvature there.
    """

    target: Target
    psi: np.ndarray
    axes: np.ndarray
    problem: Problem

    def settings(self, psi: np.ndarray) -> "Callable[[int], Any]":
        """
        Prepare for outer parameters `(S, d)`.

        Returns
        -------
        Callable
            Gives effects and coefficients as normals at the i-th of them; None where the density
            is zero or the equations cannot be factored.
        """
        target = self.target
        theta, log_prior = target.log_prior.densities(target.tiled(psi))

        def setting(i: int) -> Any:
            if not np.isfinite(log_prior[i]):
                return None
            try:
                with np.errstate(all="ignore"):
                    found = self._kind.build(
                        self.problem,
                        self._factors(theta[i]),
                        target.fixed(psi[i]),
                        float(log_prior[i]),
                    )
            except np.linalg.LinAlgError:
                return None
            return found if np.isfinite(found.log_outer) else None

        return setting

    def _factors(self, theta: np.ndarray) -> list[np.ndarray]:
        return [
            term.structure.factor({name: theta[at] for name, at in named.items()}, term.size)
            for term, named in self._named
        ]

    def many_factors(self, theta: np.ndarray) -> list[np.ndarray]:
        """Give every term's factors `(S, p, p)` at `(S, m)` parameters."""
        found = [np.empty((len(theta), term.size, term.size)) for term, _ in self._named]
        for i, row in enumerate(theta):
            for into, L in zip(found, self._factors(row), strict=True):
                into[i] = L
        return found

    @cached_property
    def _named(self) -> list[tuple[RandomTerm, dict[str, slice]]]:
        model = self.target.model
        return [
            (
                term,
                {
                    p.name: model.layout[f"{p.name}_{term.name}"]
                    for p in term.structure.parameters(term.size)
                },
            )
            for term in model.design.terms
        ]

    @cached_property
    def _kind(self) -> Any:
        if not self.problem.system.moves_by_levels:
            return Whole
        from glmm_bayes.engine.whitened_blocks import Blocks

        return Blocks


def find_around(target: Target, start: np.ndarray | None = None) -> Around:
    """
    Climb to the mode of psi, and correct the normal approximation there.

    Parameters
    ----------
    start
        `(m,)` the outer parameters to start from, in the model's layout; by default the search
        starts from the data.

    Raises
    ------
    ConvergenceError
        If the posterior cannot be evaluated where the search starts, or has no curvature.
    """
    coordinates = target.coordinates
    if start is not None:
        target.start_from(start)
    sd = first_sizes(target.model, target.laplace.system.latent)
    units = (coordinates.units(sd))[target.outer]
    psi, axes = target.reference[target.outer], np.diag(units * coordinates.spreads[target.outer])
    for tolerance in (ROUGH, ROUGH) if len(psi) else ():
        frame = Frame(target, psi, axes)
        if not np.isfinite(frame(np.zeros(len(psi)))[0]):
            raise ConvergenceError("The posterior cannot be evaluated at any starting point.")
        best = maximise(frame, np.zeros(len(psi)), longest(axes, units), tolerance=tolerance)
        psi, axes = frame.x(best.x), axes @ root(best.inverse)
        target(psi)
        # The prior's normal stand-in is to fit where the coefficients are.
        target.laplace.prior = target.prior.normal_at(target.gamma)
        target.forget()
    if len(psi):
        frame, polished = polish(Frame(target, psi, axes))
        if polished.positive:
            psi, axes = frame.x(polished.y), frame.axes @ root(polished.inverse)
    if not np.isfinite(target(psi)[0]):
        raise ConvergenceError("The posterior cannot be evaluated at any starting point.")
    return Around(target, psi, axes, _problem(target, psi))


def _problem(target: Target, psi: np.ndarray) -> Problem:
    laplace = target.laplace
    corrected = correct(*target.ascended(psi), target.prior)
    # Other predictors with effects have coefficients of their own in psi.
    varies = len(laplace.random) > 1 or not target.integrated
    assert laplace.prior is not None
    return Problem(
        laplace.system, laplace.system.X, laplace.rows, corrected, target.fixed(psi), varies,
        laplace.prior, target.prior.log_density, target.prior.slope,
    )  # fmt: skip
