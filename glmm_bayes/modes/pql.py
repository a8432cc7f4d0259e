"""Penalised quasi-likelihood: a Gaussian model of the working response, again and again."""

from dataclasses import dataclass

import numpy as np

from glmm_bayes.errors import ConvergenceError
from glmm_bayes.model import Model
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.gaussian import GaussianObjective, growth_in, with_sigma
from glmm_bayes.modes.mode import Mode
from glmm_bayes.modes.quasi import Quasi
from glmm_bayes.modes.search import Frame, climb, off_edge, polish, root
from glmm_bayes.modes.trouble import bounded, boundless, cautions, problems

SETTLED = 1e-12  # of the predictor's sum of squares: what its last step may have
MOST_STEPS, MOST_EVALUATIONS = 200, 10_000
ROUGHEST, FINEST = 1e-6, 1e-14  # of the decrement of each step's search
SHARE = 1e-3  # of the predictor's last change: beside it, the search's error is nothing
SLOWEST = 0.1  # of a step, where the steps swing
LEARNING, MANY = 3, 40  # steps after which the search's axes stay; evaluations that are too many


@dataclass(eq=False)
class QuasiObjective(GaussianObjective):
    """The likelihood of a working response by the factors over sigma, the root of dispersion."""

    quasi: Quasi
    sigma: float = 1.0

    @classmethod
    def at(cls, quasi: Quasi, coordinates: Coordinates, eta: np.ndarray) -> "QuasiObjective":
        """Take the working response at eta `(n,)`."""
        return cls(quasi.working(eta), coordinates, False, quasi)

    def effects_at(self, x: np.ndarray) -> list[np.ndarray]:
        """Give the modes of every term's effects at x, where the factors are not over sigma."""
        gamma, *constants = self.coordinates.split(x)
        sigma = self.quasi.sigma(constants) if constants else self.sigma
        Lambdas = [L / sigma for L in self.coordinates.Lambdas(x)]
        u = self.gaussian.effects_mode(gamma, Lambdas, self.coordinates.precisions(x))
        return self.gaussian.system.latent.effects(u, Lambdas)


def quasi_objective(mode: Mode) -> QuasiObjective:
    """Give the last step's objective again, with the working response at the mode."""
    coordinates = mode.coordinates
    found = QuasiObjective.at(Quasi.of(coordinates.model), coordinates, mode.eta[0])
    found.sigma = mode.scale
    return found


def maximise_quasi(model: Model) -> Mode:
    """
    Find the fixed point of penalised quasi-likelihood.

    Each step fits the linear mixed model of the working response z = eta + (y - mu) d eta / d mu,
    of weight (d mu / d eta)^2 / V(mu), by maximum likelihood, and takes its predictor as the next
    eta; part of the way, where the steps swing. The fit has no log likelihood: it is NaN.

    Raises
    ------
    NotSupportedError
        If the model has what only a likelihood knows, or parameters held fixed.
    ConvergenceError, LinAlgError
        If a step leads nowhere.
    """
    quasi, coordinates = Quasi.of(model), Coordinates.of(model)
    sd = [1.0 / term.scales for term in quasi.system.latent.terms]
    x = coordinates.join([np.zeros(len(h)) for h in coordinates.held], coordinates.start(sd))
    units = coordinates.units(sd)
    axes = np.diag(units * coordinates.spreads)[:, coordinates.coefficients[-1].stop :]
    eta, count, pace, last, change = quasi.first(), 0, 1.0, np.zeros(model.nobs), np.inf
    for step in range(MOST_STEPS):
        objective = QuasiObjective.at(quasi, coordinates, eta)
        tolerance = float(np.clip(SHARE * change, FINEST, ROUGHEST))
        x, inverse = climb(objective, coordinates, x, axes, units, tolerance=tolerance)
        if step < LEARNING or objective.evaluations > MANY:
            axes = axes @ root(inverse)
        move = _predictor(objective, x) - eta
        count += objective.evaluations
        change = float(move @ move / np.sum((eta + move) ** 2))
        if change < SETTLED or count > MOST_EVALUATIONS:
            break
        if move @ last < 0 and move @ move > 0.25 * (last @ last):
            # It swings about the fixed point, and may do so for ever.
            pace = max(0.5 * pace, SLOWEST)
        eta, last = eta + pace * move, move
    return _concluded(objective, x, axes, count, _unsettled(change, step + 1))


def _predictor(objective: QuasiObjective, x: np.ndarray) -> np.ndarray:
    if not np.isfinite(objective(x)[0]) or objective.last is None:
        raise ConvergenceError(
            "Penalised quasi-likelihood does not settle: after a step the effects fit the working "
            "response exactly, as where every row has a level of its own; use fit('ml')."
        )
    return objective.quasi.predictor(objective.last)


def _concluded(
    objective: QuasiObjective, x: np.ndarray, axes: np.ndarray, count: int, said: tuple[str, ...]
) -> Mode:
    """Take the last step's curvature, by sigma and the factors themselves."""
    coordinates, quasi = objective.coordinates, objective.quasi
    frame, polished = polish(Frame(objective, x, off_edge(axes, coordinates.idle(x))))
    x, found = frame.x(polished.y), objective.last
    if found is None:
        raise np.linalg.LinAlgError("the coefficients are not determined")
    mean, grown = coordinates.coefficients[0], found.sigma ** growth_in(coordinates)
    blank = [np.zeros(len(h)) for h in coordinates.held]
    across = frame.axes.T @ coordinates.pull(x, blank, found.squares_by, found.squares_by_precision)
    x *= grown
    constant, slope = quasi.constant(found.sigma)
    x[: coordinates.coefficients[-1].stop] = np.concatenate([found.gamma, constant])
    moves = np.column_stack([frame.axes * grown[:, None], growth_in(coordinates) * x])
    moves[mean.stop : mean.stop + len(slope), -1] = slope
    covariance = with_sigma(found, polished, across, moves)
    covariance[mean, mean] = found.sigma**2 * found.factor.coefficient_inverse()
    idle = coordinates.idle(x)
    runaway = boundless(coordinates, covariance)
    covariance[idle] = covariance[:, idle] = np.nan
    covariance = bounded(coordinates, covariance, runaway)
    objective.sigma = found.sigma
    eta = np.stack([quasi.predictor(found), *(np.full(len(quasi.columns), c) for c in constant)])
    return Mode(
        coordinates, x, np.nan, covariance, polished.gradient, polished.decrement, found.u,
        found.factor, True, found.sigma, eta, count + objective.evaluations,
        said or problems(coordinates, polished, eta, runaway), objective.effects_at,
        cautions=cautions(coordinates, covariance, runaway), notes=notes(found.sigma),
    )  # fmt: skip


def _unsettled(change: float, steps: int) -> tuple[str, ...]:
    if change < SETTLED:
        return ()
    return (
        f"Penalised quasi-likelihood did not settle: the last of {steps} steps still moved the "
        f"predictors by {np.sqrt(change):.2g} of their size; use fit('ml').",
    )


def notes(sigma: float) -> tuple[str, ...]:
    """Say what is to be known of this method."""
    return (
        "Penalised quasi-likelihood is biased where the response is binary or counts are small: "
        "effects and their variances come out too near zero. It has no likelihood, and so no AIC "
        "and no likelihood-ratio test; fit('ml') has.",
        f"The dispersion, by which every variance of the response is multiplied, is "
        f"{sigma**2:.4g}; its root, {sigma:.4g}, is glmmPQL's residual standard deviation.",
    )
