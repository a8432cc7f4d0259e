"""The marginal posterior of the outer parameters of a Gaussian response, and its mode."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from glmm_bayes.draws import Draws, factors, split_outer
from glmm_bayes.engine.collapsed import Collapsed, Solved
from glmm_bayes.engine.gaussian import Gaussian
from glmm_bayes.engine.optimise import maximise
from glmm_bayes.engine.systems import build_system
from glmm_bayes.errors import ConvergenceError, NotSupportedError
from glmm_bayes.model import Model
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.penalised import LogPrior
from glmm_bayes.modes.reading import (
    centred_columns,
    first_coefficients,
    first_sizes,
    read_latent,
)
from glmm_bayes.modes.search import Frame, Remembered, longest, polish, root
from glmm_bayes.posthoc.target import MeanPrior
from glmm_bayes.terms import RandomTerm

STEP = 1e-5  # between values of the prior that make its slope
ROUGH = 1e-3  # of the decrement: the Hessian's own Newton steps do the rest


def can_be_collapsed(model: Model) -> bool:
    """Tell whether effects and coefficients have a normal distribution given the rest."""
    return (
        model.family.normal
        and model.links["mu"].name == "identity"
        and set(model.design.predictors) == {"mu"}
    )


@dataclass(eq=False)
class MarginalPosterior(Remembered):
    """
    The posterior of psi, the coordinates of sigma and the terms: all else is integrated out.

    Exact where the coefficients' prior is normal; else a normal stands in for it.

    Attributes
    ----------
    prior
        The coefficients' own.
    reference
        `(m,)` all coordinates, about which psi is put in.
    last
        What was found where it was evaluated last.
    """

    model: Model
    coordinates: Coordinates
    collapsed: Collapsed
    prior: MeanPrior
    log_prior: LogPrior
    reference: np.ndarray
    last: Solved | None = field(default=None, init=False)

    @cached_property
    def outer(self) -> np.ndarray:
        """Where psi stands among the coordinates."""
        mean = self.coordinates.coefficients[0]
        return np.setdiff1d(np.arange(self.coordinates.size), np.arange(mean.start, mean.stop))

    def tiled(self, psi: np.ndarray) -> np.ndarray:
        """Put psi `(…, d)` among all coordinates `(…, m)`."""
        x = np.tile(self.reference, (*psi.shape[:-1], 1))
        x[..., self.outer] = psi
        return x

    def evaluated(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Give the log density of psi and its slope."""
        full, d = self.tiled(x), len(x)
        # All at once: to evaluate the prior many times costs little more than once.
        moves = np.vstack([np.zeros(d), STEP * np.eye(d), -STEP * np.eye(d)])
        log_prior = self.log_prior.densities(self.tiled(x + moves))[1]
        at = self.coordinates.split(full)[1]
        link = self.model.links[self._residual]
        sigma = float(link.linkinv(at)[0])
        self.last = found = self.collapsed.solved(sigma, self.coordinates.Lambdas(full))
        by_log_sigma, by_Lambda = self.collapsed.slopes(found)
        none = np.zeros(len(self.coordinates.held[0]))
        by_coefficients = [none, by_log_sigma * link.slope(at) / sigma]
        slope = self.coordinates.pull(full, by_coefficients, by_Lambda)[self.outer]
        by_x = (log_prior[1 : 1 + d] - log_prior[1 + d :]) / (2 * STEP)
        return found.value + float(log_prior[0]), slope + by_x

    @property
    def _residual(self) -> str:
        """The name of the residual standard deviation."""
        return self.model.family.parameters[1].name

    def parameters(
        self, psi: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, list[np.ndarray], np.ndarray]:
        """
        Read many psi `(S, d)`.

        Returns
        -------
        theta, sigma, Lambdas, log_prior
            `(S, m)` in the model's layout, the coefficients at the reference; `(S,)`; by term
            `(S, p, p)`; `(S,)` the log prior density of psi.
        """
        theta, log_prior = self.log_prior.densities(self.tiled(psi))
        named = {name: theta[:, at] for name, at in self.model.layout.items()}
        sigma = named[self._residual][:, 0]
        Lambdas = [_many_factors(term, named) for term in self.model.design.terms]
        return theta, sigma, Lambdas, log_prior

    def theta(self, psi: np.ndarray, gamma: np.ndarray) -> np.ndarray:
        """Give the outer parameters `(S, m)` in the model's layout of draws."""
        theta, _ = self.log_prior.densities(self.tiled(psi))
        if gamma.shape[1]:
            start = self.model.layout["beta"].start
            theta[:, start + np.flatnonzero(np.isnan(self.coordinates.held[0]))] = gamma
        return theta

    def named(
        self, psi: np.ndarray, gamma: np.ndarray, effects: Sequence[np.ndarray], chains: int
    ) -> Draws:
        """Give the model's names to S draws `(S, …)`, one chain after the other."""
        beta, constants, structures = split_outer(self.model, self.theta(psi, gamma))
        names = [term.name for term in self.model.design.terms]
        return Draws(beta, constants, structures, dict(zip(names, effects, strict=True)), chains)

    def correction(self, gamma: np.ndarray) -> np.ndarray:
        """Give the log ratio `(S,)` of the prior of gamma `(S, k)` to the normal in its place."""
        off = gamma - self.collapsed.prior.mean
        square = np.einsum("si,ij,sj->s", off, self.collapsed.prior.precision, off)
        found: np.ndarray = self.prior.log_density(gamma) + 0.5 * square
        return found


@dataclass(frozen=True, eq=False)
class MarginalMode:
    """The mode `(d,)` of psi, and a root `(d, d)` of the covariance by the curvature there."""

    posterior: MarginalPosterior
    psi: np.ndarray
    axes: np.ndarray


def read_marginal(model: Model) -> MarginalPosterior:
    """
    Read a model: coefficients held fixed by their priors are taken off the response.

    Raises
    ------
    NotSupportedError
        If so many levels meet that there is no root of their equations.
    """
    coordinates = Coordinates.unconstrained(model)
    latent, columns = read_latent(model), centred_columns(model, "mu")
    held = coordinates.held[0]
    free = np.isnan(held)
    response, predictor = model.design.response, model.design.predictors["mu"]
    y = model.family.working(response.y) - predictor.offset - columns[:, ~free] @ held[~free]
    w = np.ones(model.nobs) if response.weights is None else response.weights
    system = build_system(latent, columns[:, free])
    if not system.has_root:
        raise NotSupportedError(
            "So many levels meet that their equations have no root to sample from; "
            "fit('nuts') draws from the same posterior."
        )
    at = system.order
    gaussian = Gaussian(system, system.X, y[at], w[at], float(w.sum()))
    prior = MeanPrior.of(coordinates)
    start = coordinates.join(
        first_coefficients(model), coordinates.start(first_sizes(model, latent))
    )
    reference = coordinates.inside(start)
    first = prior.normal_at(reference[coordinates.coefficients[0]])
    return MarginalPosterior(
        model,
        coordinates,
        Collapsed(gaussian, first),
        prior,
        LogPrior(coordinates),
        reference,
    )


def find_marginal_mode(posterior: MarginalPosterior) -> MarginalMode:
    """
    Climb to the mode of psi.

    Raises
    ------
    ConvergenceError
        If the posterior cannot be evaluated where the search starts.
    """
    coordinates, outer = posterior.coordinates, posterior.outer
    sd = first_sizes(posterior.model, posterior.collapsed.gaussian.system.latent)
    units = coordinates.units(sd)[outer]
    psi, axes = posterior.reference[outer], np.diag(units * coordinates.spreads[outer])
    for _ in range(2):
        frame = Frame(posterior, psi, axes)
        if not np.isfinite(frame(np.zeros(len(psi)))[0]):
            raise ConvergenceError("The posterior cannot be evaluated at any starting point.")
        if len(psi):
            best = maximise(frame, np.zeros(len(psi)), longest(axes, units), tolerance=ROUGH)
            psi, axes = frame.x(best.x), axes @ root(best.inverse)
        if not _with_normal_prior(posterior, psi):
            break
    if len(psi):
        frame, polished = polish(Frame(posterior, psi, axes))
        if polished.positive:
            psi, axes = frame.x(polished.y), frame.axes @ root(polished.inverse)
    posterior(psi)
    return MarginalMode(posterior, psi, axes)


def _with_normal_prior(posterior: MarginalPosterior, psi: np.ndarray) -> bool:
    """Let the prior's normal stand-in fit where the coefficients are; tell if that moves it."""
    posterior(psi)
    if posterior.last is None:
        return False
    old, new = posterior.collapsed.prior, posterior.prior.normal_at(posterior.last.gamma)
    same = np.allclose(old.precision, new.precision, rtol=0.1) and np.allclose(old.mean, new.mean)
    posterior.collapsed = Collapsed(posterior.collapsed.gaussian, new)
    posterior.forget()
    return not same


def _many_factors(term: RandomTerm, theta: Mapping[str, np.ndarray]) -> np.ndarray:
    """Give Lambda `(S, p, p)` for S draws; at once where it is a standard deviation's multiple."""
    parameters = term.structure.parameters(term.size)
    if [(p.key, p.size) for p in parameters] != [("sd", 1)]:
        return factors(term, theta)
    sd = theta[f"{parameters[0].name}_{term.name}"]
    unit = term.structure.factor({parameters[0].name: np.ones(1)}, term.size)
    return sd[:, :, None] * unit
