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
STEP = 1e-3  # of a standard error, between the gradients that make the Hessian
ROUGH = 1e-2  # of log likelihood, where only a start is wanted
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

    def effects_at(self, x: np.ndarray) -> list[np.ndarray]:
        """Give the modes of every term's effects at x."""
        Lambdas = self.coordinates.Lambdas(x)
        u = self.laplace.effects_mode(self.coordinates.split(x), Lambdas)
        return self.laplace.system.latent.effects(u, Lambdas)


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

    def effects_at(self, x: np.ndarray) -> list[np.ndarray]:
        """Give the modes of every term's effects at x, where the factors are not over sigma."""
        gamma, sigma = self.coordinates.split(x)
        Lambdas = [L / np.exp(sigma[0]) for L in self.coordinates.Lambdas(x)]
        u = self.gaussian.effects_mode(gamma, Lambdas)
        return self.gaussian.system.latent.effects(u, Lambdas)


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
    *,
    tolerance: float = 1e-4,
) -> tuple[np.ndarray, Optimum, Frame]:
    """Climb from x along the axes, onto an edge and off it again where that is higher."""
    count = 0
    for _ in range(4):
        frame = Frame(objective, x, axes)
        best = maximise(frame, np.zeros(axes.shape[1]), tolerance=tolerance)
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
        x, best, frame = climb(
            objective, coordinates, x, axes[:, others], units, tolerance=ROUGH
        )
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
    return _concluded(objective, coordinates, x, axes[:, searched], count)


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
    count: int,
) -> Mode:
    """Polish by Newton's method with the true Hessian, and put the answer together."""
    idle = coordinates.idle(x)
    frame, gammas = Frame(objective, x, _off_edge(axes, idle)), []

    def evaluate(y: np.ndarray) -> tuple[float, np.ndarray]:
        found = frame(y)
        gammas.append(objective.gamma)
        return found

    polished = polish(evaluate, frame.axes.shape[1])
    evaluate(polished.y)
    x, found, axes = frame.x(polished.y), objective.last, frame.axes
    covariance = axes @ polished.inverse @ axes.T
    if objective.joint:
        mean = coordinates.coefficients[0]
        x[mean] = objective.gamma
        # How the coefficients' mode moves with the others, from the Hessian's evaluations.
        moves = np.array([g - gammas[0] for g in gammas[1 : 1 + axes.shape[1]]]).T / STEP
        moves = moves.reshape(len(x[mean]), axes.shape[1])
        covariance[mean] = moves @ polished.inverse @ axes.T
        covariance[:, mean] = covariance[mean].T
        own = moves @ polished.inverse @ moves.T
        covariance[mean, mean] = found.factor.coefficient_inverse() + own
    covariance[idle] = covariance[:, idle] = np.nan
    return Mode(
        coordinates, x, found.value, covariance, polished.gradient, polished.decrement, found.u,
        found.factor, objective.joint, 1.0, found.eta, count + frame.evaluations,
        _problems(polished), objective.effects_at,
    )  # fmt: skip


def _off_edge(axes: np.ndarray, idle: np.ndarray) -> np.ndarray:
    """Give axes of the same spread that leave alone what stands at an edge."""
    spread = axes @ axes.T
    moved = np.flatnonzero(~idle & (np.diag(spread) > 0))
    kept = np.zeros((len(idle), len(moved)))
    kept[moved] = _root(spread[np.ix_(moved, moved)])
    return kept


@dataclass(frozen=True, eq=False)
class Polished:
    """
    A maximum with its Hessian.

    `y` `(d,)` from the start; the `gradient` and the `inverse` `(d, d)` of minus the Hessian
    there; `decrement` how much it would still rise; `positive` whether it is a maximum.
    """

    y: np.ndarray
    gradient: np.ndarray
    inverse: np.ndarray
    decrement: float
    positive: bool


def polish(evaluate: Callable[[np.ndarray], tuple[float, np.ndarray]], d: int) -> Polished:
    """Take Newton's steps from zero, in coordinates whose standard errors are about 1."""
    y = np.zeros(d)
    value, gradient = evaluate(y)
    H = hessian(evaluate, y, gradient, STEP)
    values, vectors = np.linalg.eigh(H) if d and np.isfinite(H).all() else (np.ones(d), np.eye(d))
    positive = bool(np.isfinite(H).all() and (not d or values[0] > 1e-8 * values[-1]))
    inverse = (vectors / values) @ vectors.T if positive else np.full((d, d), np.nan)
    for _ in range(5):
        if not positive or gradient @ inverse @ gradient < 1e-12:
            break
        moved = y + inverse @ gradient
        higher, slope = evaluate(moved)
        if not higher >= value - 1e-10 * (1 + abs(value)):
            break
        y, value, gradient = moved, higher, slope
    decrement = 0.5 * float(gradient @ inverse @ gradient) if positive else np.nan
    return Polished(y, gradient, inverse, decrement, positive)


def _problems(polished: Polished) -> tuple[str, ...]:
    if not polished.positive:
        return (
            "The likelihood has no proper maximum here: along some direction it is flat or rises "
            "(its Hessian is not negative definite), so standard errors are not to be had; "
            "simplify the model, or give it priors and use fit('map').",
        )
    if polished.decrement > TRUSTED:
        return (
            f"The search stopped before the maximum: the log likelihood would still rise by about "
            f"{polished.decrement:.2g}; scale the predictors, or start from another model's fit.",
        )
    return ()


# ---- a Gaussian response


def maximise_gaussian(model: Model, *, restricted: bool) -> Mode:
    """Maximise the (restricted) likelihood of a Gaussian response over the factors alone."""
    coordinates, gaussian = Coordinates.of(model), read_gaussian(model)
    sd = sizes(model, gaussian.system.latent.terms, 1.0)
    blank = [np.zeros(len(h)) for h in coordinates.held]
    x = coordinates.join(blank, coordinates.start(sd))
    units = coordinates.units(sd)
    objective = GaussianObjective(gaussian, coordinates, restricted)
    factors = np.arange(coordinates.coefficients[-1].stop, coordinates.size)
    axes = np.diag(units)[:, factors]
    x, best, frame = climb(objective, coordinates, x, axes, units)
    objective(x)
    return _concluded_gaussian(objective, x, axes @ _root(best.inverse), frame.evaluations)


def _concluded_gaussian(
    objective: GaussianObjective, x: np.ndarray, axes: np.ndarray, count: int
) -> Mode:
    """Polish in the factors over sigma; then the Hessian by sigma and the factors themselves."""
    coordinates, gaussian = objective.coordinates, objective.gaussian
    frame = Frame(objective, x, _off_edge(axes, coordinates.idle(x)))
    polished = polish(frame, frame.axes.shape[1])
    x = frame.x(polished.y)
    frame(polished.y)
    found = objective.last
    if found is None:
        raise np.linalg.LinAlgError("the coefficients are not determined")
    mean, constant = coordinates.coefficients
    lengths = _lengths(coordinates)
    x[lengths] *= found.sigma
    x[mean], x[constant] = found.gamma, np.log(found.sigma)
    factors = np.arange(constant.stop, coordinates.size)
    own = frame.axes.copy()
    own[lengths] *= found.sigma
    grown = np.concatenate([[1 / np.sqrt(2 * gaussian.count)], np.zeros(own.shape[1])])
    axes = np.zeros((coordinates.size, 1 + own.shape[1]))
    axes[constant.start, 0], axes[:, 1:] = grown[0], own

    def by_sigma(x: np.ndarray) -> tuple[float, np.ndarray]:
        sigma, relative = np.exp(x[constant.start]), x.copy()
        relative[lengths] /= sigma
        by_Lambda, slope = gaussian.at_sigma(
            coordinates.Lambdas(relative), sigma, restricted=objective.restricted
        )
        blank = [np.zeros(len(h)) for h in coordinates.held]
        gradient = coordinates.pull(relative, blank, by_Lambda)
        gradient[constant] = slope - gradient[lengths] @ relative[lengths]
        gradient[lengths] /= sigma
        return 0.0, gradient

    whole = Frame(by_sigma, x, axes)
    middle = np.zeros(axes.shape[1])
    H = hessian(whole, middle, whole(middle)[1], STEP)
    inverse = np.linalg.inv(H)
    covariance = axes @ inverse @ axes.T
    covariance[mean, mean] = found.sigma**2 * found.factor.coefficient_inverse()
    idle = coordinates.idle(x)
    covariance[idle] = covariance[:, idle] = np.nan
    spread = found.factor.spread
    eta = np.stack([gaussian.X @ found.gamma, np.full(len(gaussian.y), np.log(found.sigma))])
    eta[0] += spread.eta(found.u)[0] + coordinates.model.design.predictors["mu"].offset
    return Mode(
        coordinates, x, found.value + _jacobian(coordinates.model), covariance, polished.gradient,
        polished.decrement, found.u, found.factor, True, found.sigma, eta,
        count + frame.evaluations + whole.evaluations, _problems(polished), objective.effects_at,
    )  # fmt: skip


def _lengths(coordinates: Coordinates) -> np.ndarray:
    """Tell which coordinates `(m,)` grow with the effects."""
    found = np.zeros(coordinates.size, dtype=bool)
    for term, at in zip(coordinates.model.design.terms, coordinates.factors, strict=True):
        found[at] = term.structure.lengths(term.size)
    return found


def _jacobian(model: Model) -> float:
    """Give the log density's part that comes of transforming the response, summed."""
    response, family = model.design.response, model.family
    zero = {"mu": family.working(response.y), "sigma": 1.0}
    gap = family.logp(response.y, response.trials, zero) + 0.5 * np.log(2 * np.pi)
    return float(np.sum(gap if response.weights is None else gap * response.weights))
