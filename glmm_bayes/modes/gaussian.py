"""Maximise the (restricted) likelihood of a Gaussian response over its covariance factors."""

from dataclasses import dataclass, field

import numpy as np

from glmm_bayes.engine.gaussian import Gaussian, Profile
from glmm_bayes.engine.moments import rough_sizes
from glmm_bayes.model import Model
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.mode import Mode
from glmm_bayes.modes.noise import sharpened
from glmm_bayes.modes.reading import read_gaussian
from glmm_bayes.modes.search import (
    Frame,
    Polished,
    Remembered,
    climb,
    off_edge,
    polish,
    root,
)
from glmm_bayes.modes.trouble import bound_notes, bounded, boundless, cautions, problems


@dataclass(eq=False)
class GaussianObjective(Remembered):
    """The likelihood of a Gaussian response by the coordinates of the factors over sigma."""

    gaussian: Gaussian
    coordinates: Coordinates
    restricted: bool
    last: Profile | None = field(default=None, init=False)

    @property
    def noise(self) -> float:
        """The Monte Carlo standard error of the value last given."""
        return 0.0 if self.last is None else 0.5 * self.last.factor.log_determinant_error

    def evaluated(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Give value and gradient at x, sigma and the coefficients profiled."""
        c = self.coordinates
        prior = c.Lambdas(x), c.precisions(x)
        self.last = found = self.gaussian.profile(*prior, restricted=self.restricted)
        return found.value, c.pull(x, self.blank, found.by_Lambda, found.by_precision)

    @property
    def blank(self) -> list[np.ndarray]:
        """No slopes by the coefficients, which are at their best."""
        return [np.zeros(len(h)) for h in self.coordinates.held]

    def gaussian_at(self, x: np.ndarray) -> Gaussian:
        """Give the response as it is seen at x."""
        return self.gaussian

    def squares_slope(self, x: np.ndarray) -> np.ndarray:
        """Give the slopes of the squares over sigma^2 where it was evaluated last."""
        assert self.last is not None
        by = self.last.squares_by, self.last.squares_by_precision
        return self.coordinates.pull(x, self.blank, *by)

    def predicted(self) -> np.ndarray:
        """Give the mean's predictor `(n,)`, the offset left out, where it was evaluated last."""
        assert self.last is not None
        return self.gaussian.X @ self.last.gamma + self.last.factor.spread.eta(self.last.u)[0]

    def effects_at(self, x: np.ndarray) -> list[np.ndarray]:
        """Give the modes of every term's effects at x, where the factors are not over sigma."""
        gamma, sigma = self.coordinates.split(x)
        Lambdas = [L / np.exp(sigma[0]) for L in self.coordinates.Lambdas(x)]
        gaussian = self.gaussian_at(x)
        u = gaussian.effects_mode(gamma, Lambdas, self.coordinates.precisions(x))
        return gaussian.system.latent.effects(u, Lambdas)


def maximise_gaussian(model: Model, *, restricted: bool) -> Mode:
    """Maximise over the factors relative to sigma; sigma and the coefficients follow."""
    from glmm_bayes.modes.correlated import gaussian_objective

    coordinates, gaussian = Coordinates.of(model), read_gaussian(model)
    sd = _first_ratios(gaussian)
    units = coordinates.units(sd)
    objective = gaussian_objective(gaussian, coordinates, restricted=restricted)
    blank = objective.blank
    axes = np.diag(units * coordinates.spreads)[:, coordinates.coefficients[-1].stop :]
    tops = [
        climb(objective, coordinates, coordinates.join(blank, start), axes, units)
        for start in coordinates.starts(sd)
    ]
    x, inverse = max(tops, key=lambda top: objective(top[0])[0]) if len(tops) > 1 else tops[0]
    return concluded(objective, x, axes @ root(inverse))


def _first_ratios(gaussian: Gaussian) -> list[np.ndarray]:
    """Give rough standard deviations of the effects over sigma."""
    root = np.sqrt(gaussian.w)
    X, y = gaussian.X * root[:, None], gaussian.y * root
    residual = np.empty_like(y)
    residual[gaussian.system.order] = gaussian.y - gaussian.X @ np.linalg.lstsq(X, y, rcond=None)[0]
    sizes = rough_sizes(gaussian.system.latent, residual)
    # What the effects take of the spread is not sigma's.
    whole = float(np.mean(residual**2))
    taken = sum(
        float(np.sum(np.square(size * term.scales)))
        for size, term in zip(sizes, gaussian.system.latent.terms, strict=True)
    )
    sigma = np.sqrt(max(whole - taken, 0.1 * whole, 1e-300))
    return [size / sigma for size in sizes]


def concluded(objective: GaussianObjective, x: np.ndarray, axes: np.ndarray) -> Mode:
    """Polish in the factors over sigma; then the Hessian by sigma and the factors themselves."""
    coordinates = objective.coordinates
    frame, polished = polish(Frame(objective, x, off_edge(axes, coordinates.idle(x))))
    x, found = frame.x(polished.y), objective.last
    if found is None:
        raise np.linalg.LinAlgError("the coefficients are not determined")
    mean, constant = coordinates.coefficients
    grown = found.sigma ** growth_in(coordinates)
    across = frame.axes.T @ objective.squares_slope(x)
    x *= grown
    x[mean], x[constant] = found.gamma, np.log(found.sigma)
    moves = np.column_stack([frame.axes * grown[:, None], growth_in(coordinates) * x])
    moves[constant, -1] = 1.0
    covariance = with_sigma(found, polished, across, moves)
    covariance[mean, mean] = found.sigma**2 * found.factor.coefficient_inverse()
    idle = coordinates.idle(x)
    runaway = boundless(coordinates, covariance)
    covariance[idle] = covariance[:, idle] = np.nan
    covariance = bounded(coordinates, covariance, runaway)
    order, predictors = found.factor.spread.system.order, coordinates.model.design.predictors
    eta = np.stack([objective.predicted(), np.full(coordinates.model.nobs, np.log(found.sigma))])
    for row, name in zip(eta, ("mu", "sigma"), strict=True):
        row += predictors[name].offset[order] if name in predictors else 0.0
    loglik, notes = sharpened(found.value + jacobian(coordinates.model), found.factor)
    notes = (*notes, *bound_notes(coordinates, x))
    return Mode(
        coordinates, x, loglik, covariance, polished.gradient,
        polished.decrement, found.u, found.factor, True, found.sigma, eta,
        objective.evaluations,
        problems(coordinates, polished, eta, runaway), objective.effects_at,
        cautions=cautions(coordinates, covariance, runaway), notes=notes,
    )  # fmt: skip


def with_sigma(
    found: Profile, polished: Polished, across: np.ndarray, moves: np.ndarray
) -> np.ndarray:
    """
    Give the covariance `(m, m)` of log sigma and the factors, from that of the factors over sigma.

    Parameters
    ----------
    across
        `(d,)` the slopes of the squares over sigma^2 along the search's axes.
    moves
        `(m, d + 1)` how x moves with these and with log sigma.

    Notes
    -----
    With L the log likelihood by z, the factors over sigma, and s = log sigma: L_ss = -2 n and L_zs
    is `across`; the Hessian of the profile is L_zz - L_zs L_sz / L_ss.
    """
    carried, twice = polished.inverse @ across, 2 * found.count
    corner = 1 / twice + across @ carried / twice**2
    beside = carried[:, None] / twice
    return moves @ np.block([[polished.inverse, beside], [beside.T, corner]]) @ moves.T


def growth_in(coordinates: Coordinates) -> np.ndarray:
    """Tell by which power `(m,)` each coordinate grows with the effects, 0 for what does not."""
    found = np.zeros(coordinates.size)
    for term, at in zip(coordinates.model.design.terms, coordinates.factors, strict=True):
        found[at] = term.structure.growth(term.size)
    return found


def jacobian(model: Model) -> float:
    """Give the log density's part that comes of transforming the response, summed."""
    response, family = model.design.response, model.family
    zero = {"mu": family.working(response.y), "sigma": 1.0}
    gap = family.logp(response.y, response.trials, zero) + 0.5 * np.log(2 * np.pi)
    return float(np.sum(gap if response.weights is None else gap * response.weights))
