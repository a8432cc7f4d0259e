"""Maximise a marginal likelihood by Laplace's method, in two stages."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from glmm_bayes.engine.integrals.masses import MassSum
from glmm_bayes.engine.integrals.quadrature import Quadrature
from glmm_bayes.engine.integrals.shaped import ShapedIntegral
from glmm_bayes.engine.laplace import Laplace, Marginal
from glmm_bayes.model import Model
from glmm_bayes.modes.chains import read_quadrature
from glmm_bayes.modes.components import coefficient_starts
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.mode import Mode
from glmm_bayes.modes.noise import sharpened
from glmm_bayes.modes.reading import first_sizes, read_laplace
from glmm_bayes.modes.search import (
    FAILURES,
    ROUGH,
    STEP,
    Frame,
    Polished,
    Remembered,
    climb,
    off_edge,
    polish,
    root,
)
from glmm_bayes.modes.trouble import bound_notes, bounded, boundless, cautions, problems

RIVALS = 0.3  # of the decrement, where several starts are compared
NEXT_MODE = 1.0  # of a predictor: a step to a mixture's mode that does not leap over another
APART = 0.5  # in log likelihood: another maximum
WIDEST = 100.0  # variance of a coefficient, in its unit, that is taken from the likelihood alone

type Penalty = Callable[[np.ndarray], tuple[float, np.ndarray]]


@dataclass(eq=False)
class LaplaceObjective(Remembered):
    """The marginal likelihood by Laplace's method as a function of x, plus a penalty if any."""

    laplace: Laplace | Quadrature | ShapedIntegral | MassSum
    coordinates: Coordinates
    joint: bool
    penalty: Penalty | None = None
    gamma: np.ndarray = field(default_factory=lambda: np.empty(0), init=False)
    last: Marginal | None = field(default=None, init=False)

    @property
    def means(self) -> int:
        """How many predictors have coefficients that are integrated out where any have."""
        return self.laplace.means

    @property
    def noise(self) -> float:
        """The Monte Carlo standard error of the value last given."""
        return 0.0 if self.last is None else 0.5 * self.last.factor.log_determinant_error

    def evaluated(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Give value and gradient at x."""
        self.last = found = self.marginal(x)
        slope = self.coordinates.pull(x, found.by_coefficients, found.by_Lambda, found.by_precision)
        if self.penalty is None:
            return found.value, slope
        more, by_x = self.penalty(x)
        return found.value + more, slope + by_x

    def marginal(self, x: np.ndarray) -> Marginal:
        """Integrate at x, from the last mode, or from zero where that does not lead to one."""
        coefficients = self.coordinates.split(x)
        if self.joint:
            ends = [at.stop for at in self.coordinates.coefficients[: self.means]]
            coefficients[: self.means] = np.split(self.gamma, ends[:-1])
        prior = self.coordinates.Lambdas(x), self.coordinates.all_precisions(x)
        try:
            found = self.laplace.marginal(coefficients, *prior, joint=self.joint)
        except FAILURES:
            if not self.laplace.u.any():
                raise
            self.laplace.u = np.zeros_like(self.laplace.u)
            found = self.laplace.marginal(coefficients, *prior, joint=self.joint)
        self.gamma = np.concatenate(found.coefficients[: self.means])
        return found

    def effects_at(self, x: np.ndarray) -> list[np.ndarray]:
        """Give the modes of every term's effects at x."""
        c = self.coordinates
        Lambdas = c.Lambdas(x)
        u = self.laplace.effects_mode(c.split(x), Lambdas, c.all_precisions(x))
        return self.laplace.system.latent.effects(u, Lambdas)


def maximise_laplace(
    coordinates: Coordinates, *, restricted: bool, penalty: Penalty | None = None, nagq: int = 1
) -> Mode:
    """
    Maximise the marginal likelihood by Laplace's method, or by quadrature.

    First with the mean's coefficients integrated out, over the few other parameters, roughly;
    then over all, in coordinates whitened by what the first stage found. With a penalty over all
    at once: what the likelihood alone leaves open, the first stage would not find.

    Parameters
    ----------
    coordinates
        What is searched, and in which scale.
    restricted
        Whether the mean's coefficients stay integrated out.
    penalty
        What is added to the log likelihood, with its gradient, as a function of x.
    nagq
        The nodes of quadrature in the second stage; 1 is Laplace's method.
    """
    model = coordinates.model
    laplace = read_laplace(model, restricted=restricted)
    if model.family.mixed is not None:
        laplace.farthest = NEXT_MODE
    integral = laplace if nagq == 1 else read_quadrature(model, laplace, nagq)
    sd = first_sizes(model, laplace.system.latent)
    units = coordinates.units(sd)
    starts = [
        coordinates.join(first, start)
        for first in coefficient_starts(model)
        for start in coordinates.starts(sd)
    ]
    objective = LaplaceObjective(integral, coordinates, restricted, penalty)
    begun = [_begun(objective, laplace, x, units, len(starts) - 1) for x in starts]
    highest = max(begun, key=lambda each: each.height)
    objective.gamma = highest.x[coordinates.means(laplace.means)]
    objective.forget()
    if len(starts) > 1:
        objective.laplace.u = np.zeros_like(objective.laplace.u)
    x, inverse = climb(objective, coordinates, highest.x, highest.axes, units)
    count = sum(each.evaluations for each in begun)
    mode = concluded(objective, x, highest.axes @ root(inverse), count)
    return replace(mode, notes=(*mode.notes, *_rivals(model, mode, begun)))


def _rivals(model: Model, mode: Mode, begun: "Sequence[Begun]") -> Iterator[str]:
    """Say what else the likelihood of a mixture came to from other starts."""
    if model.family.mixed is None:
        return
    heights = sorted((b.height for b in begun if np.isfinite(b.height)), reverse=True)
    lower = [f"{h:.1f}" for h in heights if h < heights[0] - APART]
    if lower:
        found = (
            f"This is the highest that {len(begun)} starts led to; others are {lower[0]} or less"
        )
    else:
        found = "All divisions of the rows that were tried led to this one"
    yield f"The likelihood of a mixture may have several maxima. {found}."


@dataclass(frozen=True, eq=False)
class Begun:
    """
    Where a search over all parameters starts, with the axes to go along.

    Attributes
    ----------
    height
        Of the likelihood, the mean's coefficients integrated out, or of what is maximised; to be
        compared with those of other starts.
    """

    x: np.ndarray
    axes: np.ndarray
    evaluations: int
    height: float


def _begun(
    objective: LaplaceObjective, laplace: Laplace, x: np.ndarray, units: np.ndarray, rivals: int
) -> Begun:
    """Go from a guess to a better start, where that can be had with less or there are rivals."""
    coordinates, axes, count = objective.coordinates, np.diag(units), 0
    mean, height = coordinates.means(laplace.means), -np.inf
    others = np.setdiff1d(np.arange(coordinates.size), np.arange(mean.start, mean.stop))
    laplace.u = np.zeros_like(laplace.u)
    if not laplace.integrates_means:
        axes = axes * coordinates.spreads
        x = x if objective.penalty is None else coordinates.inside(x)
    elif coordinates.model.family.mixed is not None:
        # The effects' modes are several too: those at the start's coefficients are meant.
        axes = axes * coordinates.spreads
        x = x if objective.penalty is None else coordinates.inside(x)
    elif objective.penalty is not None:
        x = coordinates.inside(x)
        x, axes, count = _first_axes(laplace, coordinates, x, units, objective.penalty)
    elif coordinates.mean_is_free:
        x, axes, count, height = _first_stage(laplace, coordinates, x, units, others)
    axes = axes[:, others] if objective.joint else axes
    if rivals and height == -np.inf:
        objective.gamma = x[mean]
        objective.forget()
        x, inverse = climb(objective, coordinates, x, axes, units, tolerance=RIVALS)
        axes, height = axes @ root(inverse), objective(x)[0]
    return Begun(x, axes, count, height)


def _first_stage(
    laplace: Laplace, coordinates: Coordinates, x: np.ndarray, units: np.ndarray, others: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int, float]:
    """Integrate the mean's coefficients out: a better x, axes of spread 1, evaluations, height."""
    mean, axes = coordinates.means(laplace.means), np.diag(units)
    objective = LaplaceObjective(laplace, coordinates, joint=True)
    objective.gamma = x[mean]
    axes = axes * coordinates.spreads
    x, inverse = climb(objective, coordinates, x, axes[:, others], units, tolerance=ROUGH)
    height = objective(x)[0]
    if np.isfinite(height) and objective.last is not None:
        x = x.copy()
        x[mean] = objective.gamma
        at = np.ix_(others, others)
        axes[at] = axes[at] @ root(inverse)
        axes[mean, mean] = root(objective.last.factor.coefficient_inverse())
    return x, axes, objective.evaluations, height


def _first_axes(
    laplace: Laplace, coordinates: Coordinates, x: np.ndarray, units: np.ndarray, penalty: Penalty
) -> tuple[np.ndarray, np.ndarray, int]:
    """Give the coefficients' mode at x, if that is higher; axes of their spread; evaluations."""
    mean, axes = coordinates.means(laplace.means), np.diag(units * coordinates.spreads)
    objective = LaplaceObjective(laplace, coordinates, joint=True)
    objective.gamma = x[mean]
    if not (coordinates.mean_is_free and np.isfinite(objective(x)[0])) or objective.last is None:
        return x, axes, 1
    moved, own = x.copy(), units[mean]
    moved[mean] = objective.gamma
    # Where the likelihood leaves a coefficient open, its spread is the prior's affair.
    values, vectors = np.linalg.eigh(
        objective.last.factor.coefficient_inverse() / np.outer(own, own)
    )
    axes[mean, mean] = own[:, None] * vectors * np.sqrt(np.clip(values, 0.0, WIDEST))
    whole = LaplaceObjective(laplace, coordinates, joint=False, penalty=penalty)
    return (moved if whole(moved)[0] > whole(x)[0] else x), axes, 3


def concluded(objective: LaplaceObjective, x: np.ndarray, axes: np.ndarray, count: int) -> Mode:
    """Polish by Newton's method with the true Hessian, and put the answer together."""
    coordinates = objective.coordinates
    idle = coordinates.idle(x)
    frame, polished = polish(Frame(objective, x, off_edge(axes, idle)))
    if objective.last is None:
        raise np.linalg.LinAlgError("it cannot be evaluated at any starting point")
    x, found, axes = frame.x(polished.y), objective.last, frame.axes
    covariance = axes @ polished.inverse @ axes.T
    if objective.joint:
        mean = coordinates.means(objective.means)
        x[mean] = objective.gamma
        moves = _moves_of_gamma(objective, frame, polished)
        covariance[mean] = moves @ polished.inverse @ axes.T
        covariance[:, mean] = covariance[mean].T
        own = moves @ polished.inverse @ moves.T
        covariance[mean, mean] = found.factor.coefficient_inverse() + own
    runaway = boundless(coordinates, covariance)
    covariance[idle] = covariance[:, idle] = np.nan
    covariance = bounded(coordinates, covariance, runaway)
    loglik, notes = sharpened(found.value, found.factor)
    notes = (*notes, *bound_notes(coordinates, x))
    return Mode(
        coordinates, x, loglik, covariance, polished.gradient, polished.decrement, found.u,
        found.factor, objective.joint, 1.0, found.eta, count + objective.evaluations,
        problems(coordinates, polished, found.eta, runaway), objective.effects_at,
        cautions=cautions(coordinates, covariance, runaway), notes=notes,
    )  # fmt: skip


def _moves_of_gamma(objective: LaplaceObjective, frame: Frame, polished: Polished) -> np.ndarray:
    """Give how the coefficients' mode `(k,)` moves along each of the frame's d axes."""
    middle, d = objective.gamma, frame.axes.shape[1]
    moves = np.zeros((len(middle), d))
    for j, step in enumerate(STEP * np.eye(d)):
        frame(polished.y + step)
        moves[:, j] = (objective.gamma - middle) / STEP
    frame(polished.y)
    return moves
