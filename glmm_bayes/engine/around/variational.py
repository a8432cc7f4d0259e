"""The normal distribution nearest to a posterior of effects and coefficients."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import product
from typing import Any, Protocol

import numpy as np

from glmm_bayes.engine.newton import Ascent, Normal, Point, Rows, in_units, positive_part

MOST_STEPS = 60
ENOUGH = 1e-7  # of the decrement: three parts in 10,000 of a standard deviation
SETTLED = 3e-3  # of a weight: how much it may still change
DOUBTFUL = 1.0  # a decrement beyond which a step is taken by halves
STALLED = 0.5  # of the last change of weights: one that shrinks less means that they swing
NODES = (
    (1e-9, 2),
    (0.7, 5),
    (2.0, 11),
    (np.inf, 21),
)  # of quadrature, by the widest predictor's spread
SEVERAL = {2: 5, 3: 3}  # for each of so many predictors with effects
PRIOR_NODES = 5


class Prior(Protocol):
    """A prior of the first predictor's coefficients, each independent of the others."""

    @property
    def lower(self) -> np.ndarray:
        """Give the least value of each coefficient `(k,)`."""

    @property
    def upper(self) -> np.ndarray:
        """Give the largest value of each coefficient `(k,)`."""

    def log_density(self, gamma: np.ndarray) -> Any:
        """Give the log density up to a constant."""

    def slope(self, gamma: np.ndarray) -> np.ndarray:
        """Give its derivative `(k,)`."""


@dataclass(frozen=True, eq=False)
class Averages:
    """
    Rows averaged over normal predictors.

    Attributes
    ----------
    value
        `(n,)` the log density.
    first, weights, third
        Its derivatives by the R predictors with effects, `(R, n)`, `(R, R, n)` with the sign
        turned, `(R, R, R, n)`; the last is None where it was not asked for.
    """

    value: np.ndarray
    first: np.ndarray
    weights: np.ndarray
    third: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Belief:
    """What a prior says, averaged over normal coefficients: value, slope, precision, third."""

    value: float
    slope: np.ndarray
    precision: np.ndarray
    third: np.ndarray


@dataclass(frozen=True, eq=False)
class Nearest:
    """
    The normal of effects u `(N,)` and coefficients gamma `(k,)` that is nearest to their density.

    Attributes
    ----------
    ascent
        The joint log density.
    factor
        The normal's precision, factored.
    eta, spread
        `(P, n)` the predictors at its mean, `(R, R, n)` the covariances of those with effects.
    third, prior_third
        `(R, R, R, n)` and `(k,)`: averages of the third derivatives of rows and prior, the first
        of what the normal leaves out.
    weights, precision
        `(R, R, n)` and `(k,)`: what rows and prior give to the precision.
    bound
        A lower bound of the log of the integral over effects and coefficients.
    settled
        Whether the search for it came to an end.
    """

    ascent: Ascent
    factor: Any
    u: np.ndarray
    gamma: np.ndarray
    eta: np.ndarray
    spread: np.ndarray
    third: np.ndarray
    prior_third: np.ndarray
    weights: np.ndarray
    precision: np.ndarray
    bound: float
    settled: bool

    @cached_property
    def variances(self) -> np.ndarray:
        """The coefficients' `(k,)`."""
        return _variances(self.factor, len(self.precision))


def nearest_normal(ascent: Ascent, at: Point, factor: Any, prior: Prior) -> Nearest:
    """
    Maximise the Gaussian variational bound over mean and covariance.

    Parameters
    ----------
    at, factor
        The mode of effects and coefficients, and its negative Hessian factored.
    prior
        Of the coefficients; the ascent's own stands in for it where it has ends.

    Raises
    ------
    LinAlgError
        If rows cannot be averaged, or the precision is not positive definite.

    Notes
    -----
    At the maximum scores average to zero and the precision is the average negative Hessian, both
    under the normal itself: Opper & Archambeau (2009), Neural Computation 21, 786-792. Where
    each row says little, weights found anew swing, and are moved half the way.
    """
    u, gamma, eta = at.u, at.gamma, at.eta
    straight = is_quadratic(ascent.rows, eta, ascent.random)
    weights, share, gap, last = None, 1.0, np.inf, np.inf
    settled = False
    for _ in range(MOST_STEPS):
        spread = factor.leverages()
        found = average(ascent.rows, eta, spread, ascent.random, order=2, straight=straight)
        belief = _believed_by(ascent, prior, gamma, factor)
        if weights is None:
            weights = found.weights
        else:
            change = _change(weights, found.weights)
            share = 0.5 if change > STALLED * gap else share
            gap = change
            weights = weights + share * (found.weights - weights)
        try:
            factor = _factored(ascent, weights, belief.precision)
        except np.linalg.LinAlgError:
            # A row alone need not be concave; where all together are not, each is made so.
            weights = positive_part(weights)
            factor = _factored(ascent, weights, belief.precision)
        du, dx, decrement = _step(ascent, factor, found.first, belief.slope, u)
        if not np.isfinite(decrement):
            raise np.linalg.LinAlgError("the bound has no slope")
        size = 1.0 if decrement < DOUBTFUL or decrement < 0.5 * last else 0.5
        last = decrement
        eta = _moved(ascent, eta, size * du, size * dx)
        u, gamma = u + size * du, gamma + size * dx if ascent.joint else gamma
        if decrement < ENOUGH and gap < SETTLED:
            settled = True
            break
    assert weights is not None
    return concluded(ascent, factor, u, gamma, eta, weights, belief.precision, prior, settled)


def concluded(
    ascent: Ascent,
    factor: Any,
    u: np.ndarray,
    gamma: np.ndarray,
    eta: np.ndarray,
    weights: np.ndarray,
    precision: np.ndarray,
    prior: Prior,
    settled: bool,
) -> Nearest:
    """Evaluate the bound, and the third derivatives, for a given normal."""
    straight = is_quadratic(ascent.rows, eta, ascent.random)
    spread = factor.leverages()
    found = average(ascent.rows, eta, spread, ascent.random, order=3, straight=straight)
    belief = _believed_by(ascent, prior, gamma, factor)
    k = len(precision)
    # The trace of a precision times its own covariance is the dimension.
    explained = float((weights * spread).sum() + precision @ _variances(factor, k))
    rest = len(u) + k - explained
    normal = len(u) + k + k * np.log(2 * np.pi) - factor.log_determinant
    normal += ascent.spread.system.latent.log_prior_determinant(ascent.spread.precisions)
    squares = float(u @ ascent.spread.times_prior(u))
    bound = float(found.value.sum()) + belief.value + 0.5 * (normal - squares - rest)
    if not np.isfinite(bound):
        raise np.linalg.LinAlgError("the bound is not finite")
    assert found.third is not None
    return Nearest(
        ascent, factor, u, gamma, eta, spread, found.third, belief.third, weights, precision,
        bound, settled,
    )  # fmt: skip


def revived(
    ascent: Ascent,
    u: np.ndarray,
    gamma: np.ndarray,
    eta: np.ndarray,
    weights: np.ndarray,
    precision: np.ndarray,
    prior: Prior,
) -> Nearest:
    """Make again what `nearest_normal` had found, from the arrays that say it all."""
    factor = _factored(ascent, weights, precision)
    return concluded(ascent, factor, u, gamma, eta, weights, precision, prior, settled=True)


def _step(
    ascent: Ascent, factor: Any, first: np.ndarray, prior_slope: np.ndarray, u: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    gu = in_units(ascent.spread, ascent.spread.collect(first)) - ascent.spread.times_prior(u)
    gx = ascent.X.T @ first[0]
    if ascent.joint:
        gx = gx + prior_slope
    du, dx = factor.solve(gu, gx)
    return du, dx, float(gu @ du + gx @ dx)


def _moved(ascent: Ascent, eta: np.ndarray, du: np.ndarray, dx: np.ndarray) -> np.ndarray:
    eta = eta.copy()
    eta[ascent.random] += ascent.spread.eta(du)
    if ascent.joint:
        eta[0] += ascent.X @ dx
    return eta


def _factored(ascent: Ascent, weights: np.ndarray, precision: np.ndarray) -> Any:
    blank = Normal(np.zeros_like(precision), np.diag(precision))
    return replace(ascent, prior=blank).factored(weights)


def _change(old: np.ndarray, new: np.ndarray) -> float:
    """Give the largest relative change of a row's weights."""
    size = np.maximum(np.abs(np.einsum("aan->n", new)), 1e-300)
    largest = np.abs(new - old).max(axis=(0, 1)) / size
    # A weight that is next to nothing may double.
    counts = size > 1e-3 * size.max()
    return float(largest[counts].max(initial=0.0))


# ---- averages


def is_quadratic(rows: Rows, eta: np.ndarray, random: Sequence[int]) -> bool:
    """Tell whether rows are quadratic in the predictors with effects: a normal response."""
    return not rows(eta, 3, random).third[np.ix_(random, random, random)].any()


def average(
    rows: Rows,
    eta: np.ndarray,
    spread: np.ndarray,
    random: Sequence[int],
    *,
    order: int,
    straight: bool = False,
) -> Averages:
    """
    Average rows over normal predictors, by Gauss and Hermite's quadrature.

    Parameters
    ----------
    eta, spread
        `(P, n)` the means, `(R, R, n)` the covariances of those with effects.
    order
        Of the derivatives, 2 or 3.
    straight
        Whether rows are quadratic, so that few nodes are enough.

    Notes
    -----
    A row that has no density at some node, as far from the mean as it is, is taken at its mean.
    """
    block = np.ix_(random, random)
    totals: list[np.ndarray] = []
    for weight, move in _nodes(spread, straight):
        moved = eta.copy()
        moved[random] += move
        found = rows(moved, order, random)
        parts = [weight * part for part in _parts(found, random, block, order)]
        totals = parts if not totals else [a + b for a, b in zip(totals, parts, strict=True)]
    whole = np.all([np.isfinite(t).reshape(-1, t.shape[-1]).all(axis=0) for t in totals], axis=0)
    if not whole.all():
        middle = _parts(rows(eta, order, random), random, block, order)
        totals = [np.where(whole, a, b) for a, b in zip(totals, middle, strict=True)]
    value, first, second, *third = totals
    return Averages(value, first, -second, third[0] if third else None)


def _parts(found: Any, random: Sequence[int], block: Any, order: int) -> list[np.ndarray]:
    parts = [found.value, found.first[random], found.second[block]]
    if order > 2:
        parts.append(found.third[np.ix_(random, random, random)])
    return parts


@lru_cache
def gauss_hermite(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Give nodes, and weights of sum one, of the standard normal."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    return nodes, weights / weights.sum()


def _nodes(spread: np.ndarray, straight: bool) -> Iterator[tuple[float, np.ndarray]]:
    """Give weights, and moves `(R, n)` of the predictors."""
    R = len(spread)
    if R == 1:
        sd = np.sqrt(np.maximum(spread[0], 0.0))
        widest = 0.0 if straight else float(sd.max(initial=0.0))
        nodes, weights = gauss_hermite(next(m for most, m in NODES if widest < most))
        yield from ((w, x * sd) for x, w in zip(nodes, weights, strict=True))
        return
    values, vectors = np.linalg.eigh(np.moveaxis(spread, 2, 0))
    roots = np.moveaxis(vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :], 0, 2)
    nodes, weights = gauss_hermite(2 if straight else SEVERAL.get(R, 3))
    for chosen in product(range(len(nodes)), repeat=R):
        at = list(chosen)
        yield float(weights[at].prod()), np.einsum("abn,b->an", roots, nodes[at])


def believed(
    prior: Prior, stand_in: Normal | None, gamma: np.ndarray, variances: np.ndarray
) -> Belief:
    """
    Average a prior of coefficients over their normal distribution.

    Parameters
    ----------
    stand_in
        What is averaged in its place where the prior has ends.
    """
    none = np.zeros_like(gamma)
    if not len(gamma):
        return Belief(0.0, none, none, none)
    if stand_in is not None and (np.isfinite(prior.lower) | np.isfinite(prior.upper)).any():
        precision = np.diag(stand_in.precision)
        value = stand_in.log_density(gamma) - 0.5 * float(precision @ variances)
        return Belief(value, stand_in.slope(gamma), precision, none)
    sd = np.sqrt(variances)
    value, slope, bend, third = 0.0, none.copy(), none.copy(), none.copy()
    for x, w in zip(*gauss_hermite(PRIOR_NODES), strict=True):
        moved = gamma + x * sd
        g = prior.slope(moved)
        value += w * float(prior.log_density(moved))
        slope += w * g
        # Derivatives of an average over a normal are averages times Hermite's polynomials.
        bend -= w * x * g / sd
        third += w * (x * x - 1) * g / variances
    return Belief(value, slope, np.maximum(bend, 0.0), third)


def _believed_by(ascent: Ascent, prior: Prior, gamma: np.ndarray, factor: Any) -> Belief:
    k = len(gamma) if ascent.joint else 0
    return believed(prior, ascent.prior, gamma[:k], _variances(factor, k))


def _variances(factor: Any, k: int) -> np.ndarray:
    return np.diag(factor.coefficient_inverse()) if k else np.empty(0)
