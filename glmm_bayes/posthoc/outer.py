"""The posterior of a model's outer parameters psi, whatever integrates the rest out; its mode."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from glmm_bayes.draws import beta_name, factors
from glmm_bayes.engine.latent import Latent
from glmm_bayes.engine.newton import Normal
from glmm_bayes.engine.search.optimise import maximise
from glmm_bayes.errors import ConvergenceError
from glmm_bayes.model import Model
from glmm_bayes.modes.components import coefficient_starts
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.penalised import LogPrior
from glmm_bayes.modes.reading import (
    centred_columns,
    first_sizes,
    read_latent,
)
from glmm_bayes.modes.search import Frame, Remembered, longest, polish, root
from glmm_bayes.posthoc.mean_prior import MeanPrior
from glmm_bayes.terms import RandomTerm

ROUNDS = 2  # of the search, between which the prior's normal stand-in is fitted anew
ROUGH = 1e-3  # of the decrement: the Hessian's own Newton steps do the rest
FARTHEST = 3.0  # from the usual start, where a search begins: a variance may be zero at a maximum


@dataclass(frozen=True, eq=False)
class Reading:
    """
    What posteriors of a model have in common, however effects are integrated out.

    Attributes
    ----------
    columns, fixed
        Of the mean's centred columns `(n, k)` those of free coefficients, and `(n,)` what the
        others come to, which priors hold fixed.
    reference
        `(m,)` coordinates that the data suggest, inside their supports.
    """

    coordinates: Coordinates
    latent: Latent
    columns: np.ndarray
    fixed: np.ndarray
    reference: np.ndarray

    @classmethod
    def of(cls, model: Model) -> "Reading":
        """Read a model."""
        coordinates, latent = Coordinates.unconstrained(model), read_latent(model)
        columns, held = centred_columns(model, model.main), coordinates.held[0]
        free = np.isnan(held)
        sizes = coordinates.start(first_sizes(model, latent))
        reference = coordinates.inside(coordinates.join(coefficient_starts(model)[0], sizes))
        fixed = columns[:, ~free] @ held[~free]
        return cls(coordinates, latent, columns[:, free], fixed, reference)


@dataclass(eq=False)
class OuterPosterior(Remembered):
    """
    The log density of psi, the coordinates of what is not integrated out.

    The mean's coefficients gamma are integrated out under a normal prior: one that fits their own
    where they are stands in for it.

    Attributes
    ----------
    prior
        Of the coefficients that are integrated out.
    reference
        `(m,)` all coordinates, about which psi is put in.
    gamma
        `(k,)` the coefficients' mode where it was evaluated last.
    """

    coordinates: Coordinates
    prior: MeanPrior
    reference: np.ndarray
    gamma: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.gamma = self.reference[self.mean]
        self.stand_in = self.prior.normal_at(self.gamma)

    @property
    @abstractmethod
    def latent(self) -> Latent:
        """The effects, as the engine has them."""

    @property
    @abstractmethod
    def stand_in(self) -> Normal:
        """The normal in the place of the coefficients' prior."""

    @stand_in.setter
    @abstractmethod
    def stand_in(self, normal: Normal) -> None: ...

    @property
    def model(self) -> Model:
        """The model."""
        return self.coordinates.model

    @cached_property
    def log_prior(self) -> LogPrior:
        """The priors, as a function of the coordinates."""
        return LogPrior(self.coordinates)

    @property
    def mean(self) -> slice:
        """Where the coefficients that are integrated out stand among the coordinates."""
        return self.coordinates.coefficients[0]

    @cached_property
    def outer(self) -> np.ndarray:
        """Where psi stands among the coordinates."""
        every = np.arange(self.coordinates.size)
        return np.setdiff1d(every, every[self.mean])

    def tiled(self, psi: np.ndarray) -> np.ndarray:
        """Put psi `(…, d)` among all coordinates `(…, m)`, the rest as it is in the reference."""
        x = np.tile(self.reference, (*psi.shape[:-1], 1))
        x[..., self.outer] = psi
        return x

    def theta(self, psi: np.ndarray, gamma: np.ndarray) -> np.ndarray:
        """Give the outer parameters `(S, m)` in the model's layout of draws."""
        theta, _ = self.log_prior.densities(self.tiled(psi))
        if gamma.shape[1]:
            start = self.model.layout[beta_name(self.model.main)].start
            theta[:, start + np.flatnonzero(np.isnan(self.coordinates.held[0]))] = gamma
        return theta

    def factors(self, theta: np.ndarray) -> list[np.ndarray]:
        """Give every term's Lambda `(S, p, p)` at parameters `(S, m)` in the model's layout."""
        named = {name: theta[:, at] for name, at in self.model.layout.items()}
        return [_many_factors(term, named) for term in self.model.design.terms]

    def start_from(self, theta: np.ndarray) -> None:
        """Put psi and the coefficients near given outer parameters `(m,)`, off the edges."""
        x, usual = self.log_prior.coordinates_of(theta), self.reference
        near = np.where(np.isfinite(x), np.clip(x, usual - FARTHEST, usual + FARTHEST), usual)
        for at in self.coordinates.coefficients:
            near[at] = np.where(np.isfinite(x[at]), x[at], usual[at])
        self.reference = self.coordinates.inside(near)
        self._begin()

    def settle(self, psi: np.ndarray) -> bool:
        """Let the prior's stand-in fit where the coefficients are; tell if that moves it."""
        self(psi)
        old, new = self.stand_in, self.prior.normal_at(self.gamma)
        self.stand_in = new
        self.forget()
        same = np.allclose(old.precision, new.precision, rtol=0.1)
        return not (same and np.allclose(old.mean, new.mean))


def _many_factors(term: RandomTerm, theta: Mapping[str, np.ndarray]) -> np.ndarray:
    """Give Lambda `(S, p, p)` for S draws; at once where it is a standard deviation's multiple."""
    parameters = term.structure.parameters(term.size)
    if [(p.key, p.size) for p in parameters] != [("sd", 1)]:
        return factors(term, theta)
    sd = theta[f"{parameters[0].name}_{term.name}"]
    unit = term.structure.factor({parameters[0].name: np.ones(1)}, term.size)
    return sd[:, :, None] * unit


@dataclass(frozen=True, eq=False)
class OuterMode[P: OuterPosterior]:
    """The mode `(d,)` of psi, and a root `(d, d)` of the covariance by the curvature there."""

    posterior: P
    psi: np.ndarray
    axes: np.ndarray


def find_mode[P: OuterPosterior](posterior: P, start: np.ndarray | None = None) -> OuterMode[P]:
    """
    Climb to the mode of psi.

    Parameters
    ----------
    start
        `(m,)` the outer parameters to start from, in the model's layout; by default the search
        starts from the data.

    Raises
    ------
    ConvergenceError
        If the posterior cannot be evaluated where the search starts, or where it ends.
    """
    if start is not None:
        posterior.start_from(start)
    coordinates, outer = posterior.coordinates, posterior.outer
    units = coordinates.units(first_sizes(posterior.model, posterior.latent))[outer]
    psi, axes = posterior.reference[outer], np.diag(units * coordinates.spreads[outer])
    for _ in range(ROUNDS):
        frame = Frame(posterior, psi, axes)
        if not np.isfinite(frame(np.zeros(len(psi)))[0]):
            raise ConvergenceError("The posterior cannot be evaluated at any starting point.")
        if len(psi):
            best = maximise(frame, np.zeros(len(psi)), longest(axes, units), tolerance=ROUGH)
            psi, axes = frame.x(best.x), axes @ root(best.inverse)
        if not posterior.settle(psi):
            break
    if len(psi):
        frame, polished = polish(Frame(posterior, psi, axes))
        if polished.positive:
            psi, axes = frame.x(polished.y), frame.axes @ root(polished.inverse)
    if not np.isfinite(posterior(psi)[0]):
        raise ConvergenceError("The posterior cannot be evaluated at any starting point.")
    return OuterMode(posterior, psi, axes)
