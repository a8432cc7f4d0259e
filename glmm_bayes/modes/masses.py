"""Maximise the likelihood of a model whose levels are of a few classes, from several starts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import logit

from glmm_bayes.covariance.masses import MassPoints
from glmm_bayes.engine.integrals.masses import MassSum
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.model import Model
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.laplace import LaplaceObjective, Penalty, concluded, maximise_laplace
from glmm_bayes.modes.mode import Mode
from glmm_bayes.modes.reading import read_laplace
from glmm_bayes.modes.search import ROUGH, climb, root
from glmm_bayes.modes.shaped import SMALLEST, with_normal_effects

FAR = 12.0  # log odds: a stick or gap that is as good as nothing, or all
RARE = 0.01  # of a level: the weight of a class that no level is in
APART = 1e-3  # in log likelihood: another maximum
BEST = 2  # starts that are climbed to the end
REACH = 3.0  # times the width of the masses, where a further one is looked for
WORTH = 0.01  # of the log likelihood's slope by the weight of a further mass, that is none


@dataclass(frozen=True, eq=False)
class Guess:
    """Masses to start from: locations `(K,)`, ascending, in the predictor's unit, and weights."""

    location: np.ndarray
    weight: np.ndarray

    @property
    def sd(self) -> float:
        """Their standard deviation."""
        mean = self.weight @ self.location
        return float(np.sqrt(self.weight @ (self.location - mean) ** 2))


def maximise_masses(model: Model, penalty: Callable[[Coordinates], Penalty] | None = None) -> Mode:
    """
    Maximise the likelihood, which is a sum over each level's classes, or that times the priors.

    Parameters
    ----------
    penalty
        Makes the priors' log density of the coordinates; none for maximum likelihood.

    Raises
    ------
    NotSupportedError
        If there is another random term beside that of the masses.
    """
    points, integral = checked(model), read_masses(model)
    near = maximise_laplace(Coordinates.of(with_normal_effects(model)), restricted=False)
    coordinates = Coordinates.unconstrained(model)
    objective = LaplaceObjective(
        integral, coordinates, False, None if penalty is None else penalty(coordinates)
    )
    (b,) = near.effects.values()
    sd = max(abs(float(near.Lambdas[model.design.terms[0].name][0, 0])), SMALLEST)
    coefficients = near.coordinates.split(near.x)
    units = coordinates.units([np.array([sd])])
    axes = np.diag(units * coordinates.spreads)
    tops = []
    for guess in guesses(points.k, b[:, 0], sd):
        x = coordinates.inside(_started(coordinates, points, coefficients, guess))
        x, inverse = climb(objective, coordinates, x, axes, units, tolerance=ROUGH)
        tops.append((objective(x)[0], x, axes @ root(inverse)))
    tops.sort(key=lambda top: -top[0])
    ends = []
    for _, start, own in tops[:BEST]:
        x, inverse = climb(objective, coordinates, start, own, units)
        ends.append((objective(x)[0], x, own @ root(inverse)))
    _, x, own = max(ends, key=lambda top: top[0])
    objective.forget()
    mode = concluded(objective, x, own, near.evaluations)
    return _judged(mode, integral, points, [top[0] for top in tops])


def read_masses(model: Model) -> MassSum:
    """Build the likelihood's sum over the classes."""
    checked(model)
    return MassSum(read_laplace(with_normal_effects(model)))


def checked(model: Model) -> MassPoints:
    """
    Give the masses of a model.

    Raises
    ------
    NotSupportedError
        If there is another random term beside that of the masses.
    """
    (first, *others), residual = model.design.terms, model.design.residual
    found = next(t for t in model.design.terms if t.level_structure.masses is not None)
    if others or first.index.shape[1] > 1 or residual is not None:
        what = "residuals with a structure" if residual is not None else "other random effects"
        what = "rows that belong to several levels" if first.index.shape[1] > 1 else what
        raise NotSupportedError(
            f"The classes of {found.text!r} are summed over level by level, which {what} tie "
            f"together: leave these out, or fit('nuts', sampler='pymc') draws the classes too."
        )
    masses = first.level_structure.masses
    assert masses is not None
    return masses


def guesses(k: int, b: np.ndarray, sd: float) -> Iterator[Guess]:
    """
    Give starts for K masses.

    Those of Gauss-Hermite quadrature, a normal's own; an equal number of the levels each, as
    their effects `b` `(q,)` under a normal order them; the levels cut at their largest gaps; one
    rare mass on either side; and skewed ones.
    """
    x, w = np.polynomial.hermite_e.hermegauss(k)
    yield Guess(sd * x, w / w.sum())
    order = np.sort(b)
    spread = sd / max(float(np.std(b)), 1e-8)
    gaps = np.sort(np.argsort(-np.diff(order), kind="stable")[: k - 1] + 1)
    for cuts in (np.linspace(0, len(b), k + 1)[1:-1].round().astype(int), gaps):
        groups = np.split(order, cuts)
        middles = np.array([group.mean() for group in groups])
        if np.diff(middles).min() > 0:
            sizes = np.array([len(group) for group in groups], dtype=float)
            yield Guess(spread * middles, sizes / sizes.sum())
    even, rest = np.linspace(-1.5, 1.5, k), 0.95 / (k - 1)
    for rare in (0, k - 1):
        at = even.copy()
        at[rare] *= 2
        yield Guess(sd * at, np.where(np.arange(k) == rare, 0.05, rest))
    for tilt in (0.5, 2.0):
        weight = tilt ** np.arange(k)
        yield Guess(sd * even, weight / weight.sum())


def _started(
    coordinates: Coordinates, points: MassPoints, coefficients: Sequence[np.ndarray], guess: Guess
) -> np.ndarray:
    """Put a start into the search's coordinates, the masses' mean into those that centre them."""
    gaps = np.diff(guess.location)
    sticks = points.sticks(guess.weight, gaps / gaps.sum())
    start = coordinates.start([np.array([max(guess.sd, SMALLEST)])])
    x = coordinates.join(coefficients, start)
    x[coordinates.between[0]] = logit(np.concatenate(list(sticks.values())))
    return x


def _judged(mode: Mode, integral: MassSum, points: MassPoints, heights: Sequence[float]) -> Mode:
    """Say whether fewer masses would do, or more would help, and what other starts came to."""
    c, x = mode.coordinates, mode.x
    (term,) = c.model.design.terms
    masses = c.precisions(x)[0]
    assert masses is not None
    location, log_weight = np.split(masses.values, 2)
    own = f"of the {points.k} masses of {term.text!r}"
    less = "leave dist='mixture' out" if points.k == 2 else f"take k={points.k - 1}"
    if np.exp(log_weight).min() < RARE / len(term.levels):
        return _needless(mode, f"One {own} has no weight", less)
    width = abs(mode.Lambdas[term.name][0, 0]) * np.diff(location)
    if width.min() < 1e-3 or np.abs(x[c.between[0]]).max() > FAR:
        return _needless(mode, f"Two {own} are one and the same", less)
    steepest = integral.steepest(c.split(x), c.Lambdas(x), c.precisions(x), REACH)
    notes = [*mode.notes, _of_more(steepest)]
    lower = [f"{h:.1f}" for h in heights if h < max(heights) - 100 * APART]
    if lower:
        notes.append(
            f"This is the highest that {len(heights)} starts led to; {len(lower)} led to "
            f"{lower[0]} or less."
        )
    return replace(mode, notes=tuple(notes))


def _needless(mode: Mode, what: str, less: str) -> Mode:
    """Report a maximum at which there are fewer masses than asked for."""
    words = (
        f"{what}: fewer masses have the same likelihood, {less}. The fit stands, but what is not "
        f"determined has no standard error."
    )
    return replace(mode, problems=(words,))


def _of_more(steepest: float) -> str:
    """Say whether a further mass would raise the likelihood, by its slope by that one's weight."""
    if steepest < WORTH:
        return (
            "No further mass would raise the likelihood: this is the non-parametric maximum "
            "likelihood estimate of the effects' distribution."
        )
    return "A further mass would raise the likelihood; the AIC says whether it is worth it."
