"""A log likelihood of few variables as a polynomial, where some may lead to simpler models."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from glmm_bayes.engine.polynomials.composite import up_to
from glmm_bayes.engine.polynomials.polynomial import Polynomial, products, slopes

type Evaluate = Callable[[np.ndarray], tuple[float, np.ndarray]]

FARTHEST = 4.0  # from a knee: there the likelihood has come to rest
DEGREES = {0: 0, 1: 8, 2: 7, 3: 5, 4: 4, 5: 4, 6: 3, 7: 3, 8: 3}  # 2 for more variables
MORE = 0.9  # equations over coefficients, to begin with, of points that are chosen one way
STEEP = 0.5  # what a slope's misfit weighs beside a value's
STEEPEST = -0.1  # slope of a line on which it goes on, beyond the points
LIGHT, NONE = 12.0, 25.0  # below the highest: weights fall no longer; points are left out
FALL = 0.35  # of the log density, by which log weights fall
FRESH, ROUNDS = 8, 8  # points a round at most, at which the fit is looked at and then mended
CLOSE, NEAR = 0.03, 0.15  # of fresh points' log density, where it is high, and lower
FLATTEST = 0.5  # slope of a surrogate's continuation
SUSPECTS, HIGH = 4, 5.0  # points a round whose weight is so many times the mean
INSIDE, LOOKED_AT = 0.997, 2000  # of a pool's draws: not the farthest out; how many are enough


@dataclass(frozen=True, eq=False)
class Rest:
    """
    Coordinates v of psi `(…, d)` in which a likelihood comes to rest, one by one.

    The logarithm psi of a standard deviation has an end of rest on the left: v goes as psi to the
    right of a knee, and falls to zero as the variance does to the left, of which the likelihood
    is a smooth function. The logarithm of what leads to a simpler family, such as the degrees of
    freedom of Student's t, has one on the right, where v rises to zero as minus its inverse.

    Attributes
    ----------
    low, high
        `(d,)` the knees of what rests on the left, on the right; NaN for what does not.
    """

    low: np.ndarray
    high: np.ndarray

    def __call__(self, psi: np.ndarray) -> np.ndarray:
        """Give v."""
        left = 0.5 * np.logaddexp(0.0, 2 * (psi - self.low))
        right = -np.logaddexp(0.0, self.high - psi)
        return self._chosen(psi, left, right)

    def inverse(self, v: np.ndarray) -> np.ndarray:
        """Give psi; no farther out than where nothing changes any more."""
        with np.errstate(all="ignore"):
            left = self.low + 0.5 * np.log(np.expm1(2 * v))
            right = self.high - np.log(np.expm1(-v))
        left = np.where(v > 0, np.maximum(left, self.low - FARTHEST), self.low - FARTHEST)
        right = np.where(v < 0, np.minimum(right, self.high + FARTHEST), self.high + FARTHEST)
        return self._chosen(v, left, right)

    def slope(self, psi: np.ndarray) -> np.ndarray:
        """Give dv / dpsi."""
        left = 1 / (1 + np.exp(-2 * (psi - self.low)))
        right = 1 / (1 + np.exp(psi - self.high))
        return self._chosen(np.ones_like(psi), left, right)

    def near(self, psi: np.ndarray) -> np.ndarray:
        """Bring back what is so far out that nothing changes any more."""
        return np.fmin(np.fmax(psi, self.low - FARTHEST), self.high + FARTHEST)

    def _chosen(self, plain: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return np.where(~np.isnan(self.low), left, np.where(~np.isnan(self.high), right, plain))


@dataclass(frozen=True, eq=False)
class Surface:
    """
    A log likelihood: a polynomial of z, with v = middle + root z.

    Beyond `radius` it goes on along each ray, on a line that falls.

    Attributes
    ----------
    error
        The standard deviation of the true log likelihood less this, where the density is.
    """

    rest: Rest
    middle: np.ndarray
    root: np.ndarray
    polynomial: Polynomial
    radius: float
    error: float

    def __call__(self, psi: np.ndarray) -> np.ndarray:
        """Give the log likelihood `(S,)` at `(S, d)`, up to a constant."""
        z = in_units(self.rest(psi), self.middle, self.root)
        length = np.sqrt(np.square(z).sum(axis=1))
        share = np.minimum(1.0, self.radius / np.maximum(length, 1e-300))
        found = self.polynomial(z * share[:, None])
        out = length > self.radius
        if out.any():
            inside = self.polynomial(0.9 * z[out] * share[out, None])
            slope = np.minimum((found[out] - inside) / (0.1 * self.radius), STEEPEST)
            found[out] += slope * (length[out] - self.radius)
        return found


def in_units(v: np.ndarray, middle: np.ndarray, root: np.ndarray) -> np.ndarray:
    """Solve v = middle + root z for z `(S, d)`."""
    return np.linalg.solve(root, (v - middle).T).T


@dataclass(eq=False)
class Survey:
    """
    A log likelihood where it was evaluated so far.

    Attributes
    ----------
    psi, values, by_psi
        By point, `(d,)`, the value and its gradient `(d,)`.
    """

    evaluate: Evaluate
    psi: list[np.ndarray] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    by_psi: list[np.ndarray] = field(default_factory=list)

    def look(self, points: np.ndarray) -> np.ndarray:
        """Evaluate at `(m, d)`, and give the values; what is not finite is not kept."""
        found = []
        for point in points:
            value, slope = self.evaluate(point)
            found.append(value)
            if np.isfinite(value) and np.isfinite(slope).all():
                self.psi.append(point)
                self.values.append(value)
                self.by_psi.append(slope)
        return np.array(found)

    def fitted(self, surface: Surface, log_prior: Callable[[np.ndarray], np.ndarray]) -> Surface:
        """Fit a polynomial by least squares, points weighing the more the higher the density."""
        psi, values = np.stack(self.psi), np.array(self.values)
        height = values + log_prior(psi)
        low = height - height.max()
        used = low > -NONE
        psi, values = psi[used], values[used] - values.max()
        weights = np.exp(FALL * np.maximum(low[used], -LIGHT))
        z = in_units(surface.rest(psi), surface.middle, surface.root)
        by_z = (np.stack(self.by_psi)[used] / surface.rest.slope(psi)) @ surface.root
        powers = surface.polynomial.powers
        A = [products(powers, z) * weights, *(slopes(powers, z) * (STEEP * weights))]
        y = [values * weights, *(by_z.T * (STEEP * weights))]
        coefficients = np.linalg.lstsq(np.hstack(A).T, np.concatenate(y), rcond=1e-9)[0]
        length = np.sqrt(np.square(z).sum(axis=1))
        radius = float(length[low[used] > -LIGHT].max(initial=0.0))
        return Surface(
            surface.rest, surface.middle, surface.root, Polynomial(powers, coefficients), radius,
            np.nan,
        )  # fmt: skip


def fit_surface(
    evaluate: Evaluate,
    rest: Rest,
    pool: np.ndarray,
    log_density: np.ndarray,
    log_prior: Callable[[np.ndarray], np.ndarray],
) -> Surface:
    """
    Fit where the posterior is: to a pool's points, then to more of those that the fit makes likely.

    Parameters
    ----------
    evaluate
        Gives the log likelihood and its gradient `(d,)`.
    pool, log_density
        `(P, d)` draws from about where the posterior is, and the log density they come from.
    log_prior
        Gives what the log posterior density has beside the likelihood, `(S,)` at `(S, d)`.
    """
    d, near = pool.shape[1], rest.near(pool)
    powers = up_to(d, DEGREES.get(d, 2))
    v = rest(near)
    root = np.linalg.cholesky(np.atleast_2d(np.cov(v.T)) + 1e-12 * np.eye(d))
    blank = Polynomial(powers, np.zeros(len(powers)))
    surface = Surface(rest, v.mean(axis=0), root, blank, np.inf, np.nan)
    survey, count = Survey(evaluate), int(np.ceil(MORE * len(powers) / (1 + d)))
    z = in_units(v, surface.middle, root)
    survey.look(near[_laid_out(z, log_density, count)])
    prior, fresh = log_prior(pool), min(FRESH, 2 + 2 * d)
    for _ in range(ROUNDS):
        surface = survey.fitted(surface, log_prior)
        found = surface(pool)
        weights = _scaled(found + prior - log_density)
        at = systematic(weights, fresh)
        gap = survey.look(near[at]) - found[at]
        middle = np.median(gap)
        # And where the density may be, or is too high to be believed.
        high = np.argsort(-weights)[:SUSPECTS]
        off = np.concatenate(
            [systematic(np.sqrt(weights), fresh), high[weights[high] > HIGH * weights.mean()]]
        )
        beyond = survey.look(near[off]) - found[off] - middle
        error = float(np.std(np.clip(gap - middle, -3.0, 3.0)))
        if error < CLOSE and np.sqrt(np.mean(np.square(beyond))) < NEAR:
            break
    surface = survey.fitted(surface, log_prior)
    return replace(surface, error=error)


def _laid_out(z: np.ndarray, log_density: np.ndarray, count: int) -> np.ndarray:
    """Choose points of a pool: evenly by their density, and as many that leave no gaps."""
    order = np.argsort(-log_density)[: int(INSIDE * len(z))]
    chosen = order[(np.linspace(0, 1, count) * (len(order) - 1)).astype(int)]
    some = order[:: max(1, len(order) // LOOKED_AT)]
    far = np.full(len(some), np.inf)
    for latest in z[chosen]:
        far = np.minimum(far, np.square(z[some] - latest).sum(axis=1))
    also = []
    for _ in range(count):
        also.append(int(far.argmax()))
        far = np.minimum(far, np.square(z[some] - z[some[also[-1]]]).sum(axis=1))
    return np.unique(np.concatenate([chosen, some[also]]))


def _scaled(log_weights: np.ndarray) -> np.ndarray:
    return np.exp(log_weights - log_weights.max())


@dataclass(frozen=True, eq=False)
class Guarded:
    """
    A surrogate's log density that falls, beyond where it knows anything, along a line.

    Attributes
    ----------
    middle, root
        `(d,)`, `(d, d)`: of its draws, psi = middle + root z.
    radius
        Of z.
    """

    surrogate: Any
    middle: np.ndarray
    root: np.ndarray
    radius: float

    def __call__(self, psi: np.ndarray) -> np.ndarray:
        """Give the log density `(S,)` at `(S, d)`, up to a constant."""
        found = self.surrogate.log_density(psi)
        length = np.sqrt(np.square(in_units(psi, self.middle, self.root)).sum(axis=1))
        out = length > self.radius
        if out.any():
            share = (self.radius / length[out])[:, None]
            edge, inside = (
                self.surrogate.log_density(self.middle + part * share * (psi[out] - self.middle))
                for part in (1.0, 0.8)
            )
            slope = np.minimum((edge - inside) / (0.2 * self.radius), -FLATTEST)
            found[out] = np.minimum(found[out], edge + slope * (length[out] - self.radius))
        return found


def systematic(weights: np.ndarray, size: int, offset: float = 0.5) -> np.ndarray:
    """
    Give positions `(size,)`, each as often as its weight says, rounded.

    Parameters
    ----------
    offset
        From 0 to 1, which way it is rounded: where that is random, each is expected as often.
    """
    ends = np.cumsum(weights)
    at = np.searchsorted(ends, (np.arange(size) + offset) / size * ends[-1])
    return np.minimum(at, len(weights) - 1)
