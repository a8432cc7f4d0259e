"""Find a maximum: start, climb in two stages, move to the edge, and judge by the Hessian."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from glmm_bayes.engine.gaussian import Gaussian, Profile
from glmm_bayes.engine.laplace import Laplace, Marginal
from glmm_bayes.engine.optimise import Optimum, hessian, maximise
from glmm_bayes.errors import ConvergenceError
from glmm_bayes.model import Model
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.mode import Mode
from glmm_bayes.modes.reading import first_coefficients, read_gaussian, read_laplace

NEAR = 1e-3  # of a column's unit: so near an edge, the edge itself is tried
STEP = 0.03  # of a standard error, between the gradients that make the Hessian
TRUSTED = 1e-6  # of log likelihood still to be climbed
FAILURES = (np.linalg.LinAlgError, ConvergenceError, FloatingPointError, OverflowError)

type Penalty = Callable[[np.ndarray], tuple[float, np.ndarray]]


@dataclass(eq=False)
class Frame:
    """
    A search's own coordinates: x = origin + axes y, y of natural step 1.

    Attributes
    ----------
    objective
        Gives value and gradient `(m,)` at x.
    axes
        `(m, d)`; what is not searched has no axis.
    """

    objective: Callable[[np.ndarray], tuple[float, np.ndarray]]
    origin: np.ndarray
    axes: np.ndarray
    evaluations: int = 0

    def __call__(self, y: np.ndarray) -> tuple[float, np.ndarray]:
        """Evaluate at y."""
        self.evaluations += 1
        value, gradient = self.objective(self.x(y))
        return value, self.axes.T @ gradient

    def x(self, y: np.ndarray) -> np.ndarray:
        """Go to x."""
        return self.origin + self.axes @ y


@dataclass(eq=False)
class LaplaceObjective:
    """The marginal likelihood by Laplace's method as a function of x, plus a penalty if any."""

    laplace: Laplace
    coordinates: Coordinates
    joint: bool
    penalty: Penalty | None = None
    gamma: np.ndarray | None = None
    last: Marginal | None = field(default=None, init=False)

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Evaluate; minus infinity where there is no mode."""
        try:
            found = self.marginal(x)
        except FAILURES:
            return -np.inf, np.zeros_like(x)
        slope = self.coordinates.pull(x, found.by_coefficients, found.by_Lambda)
        value = found.value
        if self.penalty is not None:
            more, by_x = self.penalty(x)
            value, slope = value + more, slope + by_x
        if not (np.isfinite(value) and np.isfinite(slope).all()):
            return -np.inf, np.zeros_like(x)
        self.last = found
        return value, slope

    def marginal(self, x: np.ndarray) -> Marginal:
        """Integrate at x, from the last mode, or from zero where that does not lead to one."""
        coefficients = self.coordinates.split(x)
        if self.joint and self.gamma is not None:
            coefficients[0] = self.gamma
        Lambdas = self.coordinates.Lambdas(x)
        try:
            found = self.laplace.marginal(coefficients, Lambdas, joint=self.joint)
        except FAILURES:
            if not self.laplace.u.any():
                raise
            self.laplace.u = np.zeros_like(self.laplace.u)
            found = self.laplace.marginal(coefficients, Lambdas, joint=self.joint)
        self.gamma = found.coefficients[0] if self.joint else None
        return found


@dataclass(eq=False)
class GaussianObjective:
    """The likelihood of a Gaussian response as a function of the factors' coordinates over sigma."""

    gaussian: Gaussian
    coordinates: Coordinates
    restricted: bool
    last: Profile | None = field(default=None, init=False)

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Evaluate, sigma and the coefficients profiled."""
        try:
            found = self.gaussian.profile(
                self.coordinates.Lambdas(x), restricted=self.restricted
            )
        except FAILURES:
            return -np.inf, np.zeros_like(x)
        self.last = found
        blank = [np.zeros(len(h)) for h in self.coordinates.held]
        return found.value, self.coordinates.pull(x, blank, found.by_Lambda)


def edge_tried(
    objective: Callable[[np.ndarray], tuple[float, np.ndarray]],
    coordinates: Coordinates,
    x: np.ndarray,
    value: float,
    units: np.ndarray,
) -> np.ndarray:
    """Move to the edge what is near it, where that costs nothing."""
    for near in (NEAR, 30 * NEAR):
        moved = x.copy()
        for term, at, strict in zip(
            coordinates.model.design.terms, coordinates.factors, coordinates.strict, strict=True
        ):
            if not strict:
                moved[at] = term.structure.at_edge(x[at], term.size, near * units[at])
        if not np.array_equal(moved, x) and objective(moved)[0] >= value - 1e-9 * (1 + abs(value)):
            x = moved
    return x


def inward(
    objective: Callable[[np.ndarray], tuple[float, np.ndarray]],
    coordinates: Coordinates,
    x: np.ndarray,
    value: float,
    units: np.ndarray,
) -> np.ndarray | None:
    """Give a higher point off the edge, if there is one along a coordinate."""
    for j in np.flatnonzero(coordinates.idle(x)):
        for step in (0.03, 0.3):
            moved = x.copy()
            moved[j] += step * units[j]
            if objective(moved)[0] > value + 1e-7:
                return moved
    return None


def climb(
    objective: Callable[[np.ndarray], tuple[float, np.ndarray]],
    coordinates: Coordinates,
    x: np.ndarray,
    axes: np.ndarray,
    units: np.ndarray,
) -> tuple[np.ndarray, Optimum, Frame]:
    """Climb from x along the axes, onto an edge and off it again where that is higher."""
    count = 0
    for _ in range(4):
        frame = Frame(objective, x, axes)
        best = maximise(frame, np.zeros(axes.shape[1]))
        top = frame.x(best.x)
        x = edge_tried(frame.objective, coordinates, top, best.value, units)
        value = objective(x)[0] if x is not top else best.value
        higher = inward(objective, coordinates, x, value, units)
        count += frame.evaluations
        if higher is None:
            break
        x = higher
    frame.evaluations = count
    return x, best, frame


def sizes(model: Model, objective_terms: Sequence[Any], eta_scale: float) -> list[np.ndarray]:
    """Give every term's columns' effects a first size."""
    return [eta_scale / term.scales for term in objective_terms]


def maximise_laplace(
    model: Model, *, restricted: bool, penalty: Penalty | None = None
) -> Mode:
    """
    Maximise the marginal likelihood by Laplace's method.

    First with the mean's coefficients integrated out, from a rough start, over the few other
    parameters; then over all, in coordinates whitened by what the first stage found.
    """
    coordinates, laplace = Coordinates.of(model), read_laplace(model)
    sd = sizes(model, laplace.system.latent.terms, 0.5)
    coefficients = first_coefficients(model)
    for c, held in zip(coefficients, coordinates.held, strict=True):
        c[~np.isnan(held)] = held[~np.isnan(held)]
    x = coordinates.join(coefficients, coordinates.start(sd))
    units = coordinates.units(sd)
    mean = coordinates.coefficients[0]
    others = np.setdiff1d(np.arange(coordinates.size), np.arange(mean.start, mean.stop))
    axes, count = np.diag(units), 0
    if coordinates.mean_is_free and penalty is None:
        objective = LaplaceObjective(laplace, coordinates, joint=True, gamma=coefficients[0])
        x, best, frame = climb(objective, coordinates, x, axes[:, others], units)
        count = frame.evaluations
        objective(x)
        if objective.last is not None and objective.gamma is not None:
            x[mean] = objective.gamma
            axes[np.ix_(others, others)] = axes[np.ix_(others, others)] @ _root(best.inverse)
            k = len(objective.gamma)
            inverse = objective.last.factor.coefficient_inverse()
            axes[mean, mean] = _root(inverse) if k else inverse
    objective = LaplaceObjective(
        laplace, coordinates, joint=restricted, penalty=penalty,
        gamma=x[mean] if restricted else None,
    )  # fmt: skip
    searched = others if restricted else np.arange(coordinates.size)
    if not restricted:
        x, best, frame = climb(objective, coordinates, x, axes, units)
        axes = axes @ _root(best.inverse)
        count += frame.evaluations
    return _concluded(objective, coordinates, x, axes[:, searched], units, count)


def _root(inverse: np.ndarray) -> np.ndarray:
    """Give a factor of a covariance estimate; the identity where it is not one."""
    try:
        return np.linalg.cholesky(0.5 * (inverse + inverse.T))
    except np.linalg.LinAlgError:
        return np.eye(len(inverse))


def _concluded(
    objective: LaplaceObjective,
    coordinates: Coordinates,
    x: np.ndarray,
    axes: np.ndarray,
    units: np.ndarray,
    count: int,
) -> Mode:
    """Polish by Newton's method with the true Hessian, and put the answer together."""
    frame, gammas = Frame(objective, x, axes), []
    active = _active(coordinates, x, axes)

    def evaluate(y: np.ndarray) -> tuple[float, np.ndarray]:
        found = frame(y)
        gammas.append(None if objective.gamma is None else objective.gamma.copy())
        return found

    y = np.zeros(axes.shape[1])
    value, gradient = evaluate(y)
    H = hessian(evaluate, y, np.full(len(y), STEP), active)
    by_gamma = _slopes_of_gamma(gammas[1:], active) if objective.joint else None
    inverse, positive = _inverted(H, active)
    for _ in range(5):
        decrement = float(gradient @ inverse @ gradient)
        if not positive or decrement < 1e-12:
            break
        moved = y + inverse @ gradient
        higher, slope = evaluate(moved)
        if not higher >= value - 1e-10 * (1 + abs(value)):
            break
        y, value, gradient = moved, higher, slope
    value, gradient = evaluate(y)
    x, found = frame.x(y), objective.last
    covariance = axes @ inverse @ axes.T
    if objective.joint and objective.gamma is not None:
        mean = coordinates.coefficients[0]
        x[mean] = objective.gamma
        more = by_gamma @ inverse @ by_gamma.T
        covariance[mean, mean] = found.factor.coefficient_inverse() + more
        across = by_gamma @ inverse @ axes.T
        others = np.setdiff1d(np.arange(len(x)), np.arange(mean.start, mean.stop))
        covariance[mean, others] = across[:, others]
        covariance[others, mean] = across[:, others].T
    idle = coordinates.idle(x)
    covariance[idle] = covariance[:, idle] = np.nan
    decrement = 0.5 * float(gradient @ inverse @ gradient)
    problems = _problems(positive, decrement)
    loglik = found.value
    return Mode(
        coordinates, x, loglik, covariance, gradient, decrement, found.u, found.factor,
        objective.joint, 1.0, found.eta, count + frame.evaluations, problems,
    )  # fmt: skip


def _active(coordinates: Coordinates, x: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Tell which axes move something that is not at an edge."""
    idle = coordinates.idle(x)
    return ~np.isin(np.arange(axes.shape[1]), [j for j in range(axes.shape[1]) if _only(axes[:, j], idle)])


def _only(axis: np.ndarray, idle: np.ndarray) -> bool:
    return bool(not axis[~idle].any())


def _slopes_of_gamma(gammas: Sequence[Any], active: np.ndarray) -> np.ndarray:
    slopes = np.zeros((len(gammas[0]) if gammas else 0, len(active)))
    for k, j in enumerate(np.flatnonzero(active)):
        slopes[:, j] = (gammas[2 * k] - gammas[2 * k + 1]) / (2 * STEP)
    return slopes


def _inverted(H: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, bool]:
    """Invert minus the Hessian where it is active; whether it is positive definite."""
    inverse = np.zeros_like(H)
    at = np.ix_(active, active)
    if not active.any():
        return inverse, True
    values, vectors = np.linalg.eigh(H[at])
    positive = bool(np.isfinite(values).all() and values[0] > 1e-8 * max(values[-1], 1e-300))
    if positive:
        inverse[at] = (vectors / values) @ vectors.T
    return inverse, positive


def _problems(positive: bool, decrement: float) -> tuple[str, ...]:
    if not positive:
        return (
            "The likelihood has no proper maximum here: along some direction it is flat or rises "
            "(its Hessian is not negative definite), so standard errors are not to be had; "
            "simplify the model, or give it priors and use fit('map').",
        )
    if decrement > TRUSTED:
        return (
            f"The search stopped before the maximum: the log likelihood would still rise by about "
            f"{decrement:.2g}; scale the predictors, or start from another model's fit.",
        )
    return ()
