"""The likelihood around a maximum as a surface to walk on, whatever the response."""

from abc import abstractmethod
from dataclasses import dataclass, field

import numpy as np

from glmm_bayes.engine.gaussian import Gaussian
from glmm_bayes.modes.chains import read_quadrature
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.laplace import LaplaceObjective, Penalty
from glmm_bayes.modes.mode import Mode
from glmm_bayes.modes.reading import first_sizes, is_gaussian, read_gaussian, read_laplace
from glmm_bayes.modes.search import Remembered, root


@dataclass(eq=False)
class Surface(Remembered):
    """
    The likelihood as a function of v, which is x or what of x is not maximised over within.

    Attributes
    ----------
    coordinates
        Those of x.
    """

    coordinates: Coordinates

    def restarted(self, x: np.ndarray) -> None:
        """Begin at x, whatever was evaluated before: answers must not depend on it."""
        self.forget()

    @abstractmethod
    def holding(self, row: np.ndarray | None) -> "Surface":
        """Give the same surface for a walk that holds `row` of the mean's coefficients, if any."""

    @abstractmethod
    def lift(self, v: np.ndarray) -> np.ndarray:
        """Give an x `(m,)` whose free part is v; what is maximised over may be anything."""

    @abstractmethod
    def lower(self, slope: np.ndarray) -> np.ndarray:
        """Carry a slope `(m,)` by x of what does not depend on the rest to one by v."""

    @abstractmethod
    def free(self, x: np.ndarray) -> np.ndarray:
        """Give the v of x."""

    @abstractmethod
    def x(self, v: np.ndarray) -> np.ndarray:
        """Give x at v, with the maximum over the rest."""

    @abstractmethod
    def covariance(self, whole: np.ndarray) -> np.ndarray:
        """Give that of v from that of x."""


@dataclass(eq=False)
class LaplaceSurface(Surface):
    """The likelihood by Laplace's method or by quadrature: v is x."""

    objective: LaplaceObjective
    u: np.ndarray

    def restarted(self, x: np.ndarray) -> None:
        """Begin at x with the effects' modes of the maximum."""
        super().restarted(x)
        self.objective.laplace.u = self.u
        self.objective.forget()

    def holding(self, row: np.ndarray | None) -> Surface:
        """Give the surface itself, on which every coefficient can be held."""
        return self

    def evaluated(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Give value and gradient at x."""
        return self.objective.evaluated(x)

    def lift(self, v: np.ndarray) -> np.ndarray:
        """Give v."""
        return v

    def lower(self, slope: np.ndarray) -> np.ndarray:
        """Give the slope as it is."""
        return slope

    def free(self, x: np.ndarray) -> np.ndarray:
        """Give x."""
        return x

    def x(self, v: np.ndarray) -> np.ndarray:
        """Give v."""
        return v

    def covariance(self, whole: np.ndarray) -> np.ndarray:
        """Give the whole."""
        return whole


@dataclass(eq=False)
class GaussianSurface(Surface):
    """
    The likelihood of a Gaussian response, the coefficients at their best.

    v is log sigma and the factors; with a `row`, first row'gamma, at which the coefficients are
    then held.
    """

    gaussian: Gaussian
    row: np.ndarray | None = None
    gamma: np.ndarray = field(default_factory=lambda: np.empty(0), init=False)

    def holding(self, row: np.ndarray | None) -> Surface:
        """Give a surface on the same cross-products."""
        return GaussianSurface(self.coordinates, self.gaussian, row)

    def evaluated(self, v: np.ndarray) -> tuple[float, np.ndarray]:
        """Give value and gradient at v."""
        x, c = self.lift(v), self.coordinates
        mean, constant = c.coefficients
        sigma = float(np.exp(x[constant][0]))
        Lambdas = [L / sigma for L in c.Lambdas(x)]
        held = 0.0 if self.row is None else float(v[0])
        found = self.gaussian.given_sigma(Lambdas, sigma, self.row, held, c.precisions(x))
        self.gamma = found.gamma
        by_Lambda = [part / sigma for part in found.by_Lambda]
        carried = sum(float(np.sum(D * L)) for D, L in zip(found.by_Lambda, Lambdas, strict=True))
        by_sigma = np.array([found.by_log_sigma - carried])
        by_coefficients = [np.zeros(mean.stop), by_sigma]
        slope = c.pull(x, by_coefficients, by_Lambda, found.by_precision)[mean.stop :]
        return found.value, slope if self.row is None else np.append(found.by_held, slope)

    @property
    def _k(self) -> int:
        return self.coordinates.coefficients[0].stop

    def lift(self, v: np.ndarray) -> np.ndarray:
        """Give an x with the least coefficients that are held right."""
        if self.row is None:
            return np.concatenate([np.zeros(self._k), v])
        return np.concatenate([self.row * (v[0] / float(self.row @ self.row)), v[1:]])

    def lower(self, slope: np.ndarray) -> np.ndarray:
        """Drop the coefficients, or keep the one combination."""
        return self._kept(slope, 1.0 if self.row is None else float(self.row @ self.row))

    def free(self, x: np.ndarray) -> np.ndarray:
        """Give the v of x."""
        return self._kept(x, 1.0)

    def _kept(self, x: np.ndarray, unit: float) -> np.ndarray:
        rest = x[self._k :]
        return rest if self.row is None else np.append(self.row @ x[: self._k] / unit, rest)

    def x(self, v: np.ndarray) -> np.ndarray:
        """Give x at v, with the coefficients' maximum."""
        self(v)
        return np.concatenate([self.gamma, self.lift(v)[self._k :]])

    def covariance(self, whole: np.ndarray) -> np.ndarray:
        """Give that of what is kept."""
        turn = np.array([self._kept(axis, 1.0) for axis in np.eye(len(whole))]).T
        return turn @ whole @ turn.T


def surface_of(mode: Mode, nagq: int, penalty: Penalty | None = None) -> Surface:
    """
    Give what a mode is the maximum of.

    Parameters
    ----------
    nagq
        The nodes of quadrature; 1 is Laplace's method.
    penalty
        What is added to the log likelihood, as a function of x.
    """
    c = mode.coordinates
    if is_gaussian(c.model) and penalty is None and c.model.design.residual is None:
        return GaussianSurface(c, read_gaussian(c.model))
    laplace = read_laplace(c.model)
    integral = laplace if nagq == 1 else read_quadrature(c.model, laplace, nagq)
    return LaplaceSurface(c, LaplaceObjective(integral, c, joint=False, penalty=penalty), mode.u)


def spread_of(mode: Mode) -> np.ndarray:
    """Give the covariance `(m, m)` of x, with a guess for what stands at an edge."""
    c = mode.coordinates
    found, idle = mode.covariance.copy(), c.idle(mode.x)
    if idle.any():
        guess = c.units(first_sizes(c.model, mode.factor.spread.system.latent)) * c.spreads
        found[idle] = found[:, idle] = 0.0
        found[idle, idle] = guess[idle] ** 2
    return found


def axes_of(covariance: np.ndarray) -> np.ndarray:
    """Give axes `(d, d)` of natural step 1."""
    errors = np.sqrt(np.diag(covariance))
    return errors[:, None] * root(covariance / np.outer(errors, errors))
