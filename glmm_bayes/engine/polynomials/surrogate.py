"""A smooth density of few variables as a polynomial, from which draws cost nothing."""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from glmm_bayes.engine.polynomials.bend import FAR, REACH, Bend
from glmm_bayes.engine.polynomials.evaluated import Evaluate, Evaluated, Many, Order, radius
from glmm_bayes.engine.polynomials.polynomial import Polynomial

DROP, FAR_DROP = REACH**2 / 2, FAR**2 / 2  # of the log density, so far along each bent axis
LOOKED_FAR = 8  # variables, beyond which looks at tails would take the evaluations of the rest
LONG = 1.2  # times a normal's width: such sides are looked at farther out
SKEWED = 3.0  # the longer side of an axis over the shorter, at most
TAIL = 5.0  # degrees of freedom of the envelope, and of what lies beyond the design
WIDE, WIDEST = {1: 2.2, 2: 1.7}, 1.4  # spread of the design over that of a normal
RAREST = 0.03  # of the envelope's draws that are taken
FLOOR = 1e-4  # of the envelope that the surrogate never falls below
FARTHEST = 2.0  # from the middle: what is farther off is as wrong as can be
CORNERED = 3  # variables whose design has points in all corners
DOUBTS, SCOUTS = 8, 1024  # looks at most at where fits disagree, and of how many places
DOUBTED, RIGHT, NEAR = 0.3, 0.5, 0.1  # disagreement worth a look; agreement; a place seen before
CHECKS, MANY = 24, 400  # fresh draws at which the error is looked at; where many cost little
PLAIN, FEW, CLEARLY = 3, 8, 0.3  # degree that is tried first, its checks, and of the tolerance
PATIENCE, BETTER = 3, 0.9  # rounds without an error so much smaller, after which no more are tried
PILOTS = 4096  # draws of the envelope that find how high the surrogate rises above it


@dataclass(frozen=True, eq=False)
class Surrogate:
    """
    A density of x = origin + axes t(z), z's log density a polynomial between two Student's t.

    Attributes
    ----------
    origin, axes
        `(d,)` the mode, `(d, d)` a root of the covariance there.
    bend
        The map t.
    polynomial
        Of z, within `radius`; beyond, along each ray, the density falls as the envelope does.
    lowest, highest
        The log density is kept between these over the envelope's.
    share
        Which part of the envelope's draws is taken.
    error
        The standard deviation of the true log density less the surrogate's, over fresh draws from
        the surrogate.
    evaluations
        How often the true density was evaluated.

    Notes
    -----
    The envelope is a t in z, and the surrogate at most `highest` over it by construction: so draws
    by rejection follow the density that `log_density` states exactly, as a Metropolis-Hastings
    ratio requires. Draws by resampling would not. Both bounds, and the tail, keep the ratio of
    the true density to the surrogate's in hand where the polynomial knows nothing.
    """

    origin: np.ndarray
    axes: np.ndarray
    bend: Bend
    polynomial: Polynomial
    radius: float
    lowest: float
    highest: float
    share: float
    error: float
    evaluations: int

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Give the log density `(S,)` of points `(S, d)`, up to one constant."""
        z = self.bend.inverse(np.linalg.solve(self.axes, (x - self.origin).T).T)
        return self._bounded(z, _envelope(z)) - self.bend.jacobian(z)[1]

    def sample(self, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw `(size, d)`, and give the log density `(size,)` of each."""
        z, value, missing = [np.empty((0, len(self.origin)))], [np.empty(0)], size
        while missing > 0:
            tried = _student(rng, int(1.1 * missing / self.share) + 16, len(self.origin))
            over = _envelope(tried)
            found = self._bounded(tried, over)
            taken = np.log(rng.random(len(tried))) < found - over - self.highest
            z.append(tried[taken])
            value.append(found[taken])
            missing -= int(taken.sum())
        drawn, log_density = np.concatenate(z)[:size], np.concatenate(value)[:size]
        x = self.origin + self.bend(drawn) @ self.axes.T
        return x, log_density - self.bend.jacobian(drawn)[1]

    def _bounded(self, z: np.ndarray, envelope: np.ndarray) -> np.ndarray:
        """Give the log density of z `(S, d)`, not of x."""
        value = _continued(self.polynomial, self.radius, z, envelope)
        return np.clip(value, envelope + self.lowest, envelope + self.highest)


def _envelope(z: np.ndarray) -> np.ndarray:
    """Give the log density `(S,)` of Student's t at z `(S, d)`, up to a constant."""
    return -0.5 * (TAIL + z.shape[1]) * np.log1p(np.square(z).sum(axis=1) / TAIL)


def _student(rng: np.random.Generator, size: int, d: int) -> np.ndarray:
    return rng.standard_normal((size, d)) / np.sqrt(rng.chisquare(TAIL, (size, 1)) / TAIL)


def _continued(
    polynomial: Polynomial, radius: float, z: np.ndarray, envelope: np.ndarray
) -> np.ndarray:
    """Give the polynomial within the radius, and beyond what falls from there as the envelope."""
    inside = _inside(z, radius)
    return polynomial(inside) + envelope - _envelope(inside)


def _inside(z: np.ndarray, radius: float) -> np.ndarray:
    """Move what is farther out to the radius, along its ray."""
    length = np.sqrt(np.square(z).sum(axis=1, keepdims=True))
    return z * np.minimum(1.0, radius / np.maximum(length, 1e-300))


# ---- the fit


def fit_surrogate(
    evaluate: Evaluate,
    origin: np.ndarray,
    axes: np.ndarray,
    *,
    tolerance: float = 0.05,
    budget: int = 300,
    many: Many | None = None,
) -> Surrogate:
    """
    Fit a surrogate, with more points where its own draws show that it is wrong.

    Parameters
    ----------
    evaluate
        Gives the log density, minus infinity where there is none, and its gradient `(d,)`.
    origin, axes
        `(d,)` the mode or near it, `(d, d)` a root of the covariance there.
    tolerance
        Of the surrogate's error.
    budget
        Evaluations, about; where they are spent, the best surrogate so far is given.
    many
        Gives the log density `(S,)` at many points `(S, d)`, where that costs little more than at
        one.
    """
    d, rng = len(origin), np.random.default_rng(0)
    seen = Evaluated(evaluate, many, origin, axes)
    seen.at(np.zeros(d))
    bend = _find_bend(seen, d)
    order = Order.usual(d)
    best: Surrogate | None = None
    if many is None:
        # What is as simple as that needs no design.
        best, _ = _checked(seen, bend, Order(min(order.total, PLAIN), 0), rng, FEW)
        if best.error <= CLEARLY * tolerance:
            return replace(best, evaluations=seen.count)
        # So few checks may miss what is wrong: others' errors are not to be measured by theirs.
        best = best if d > LOOKED_FAR else None
    _spread_out(seen, bend, seen.points_for(order))
    patience = PATIENCE
    while True:
        count = max(CHECKS, len(seen.t) // 5) if many is None else max(MANY, len(seen.t) // 3)
        found, richer = _checked(seen, bend, order, rng, count)
        better = best is None or found.error < BETTER * best.error
        patience = PATIENCE if better else patience - 1
        if best is None or found.error < best.error:
            best = found
        if found.error <= tolerance or seen.cost >= budget or not patience:
            return replace(best, evaluations=seen.count)
        order = order.richer if richer else order


def _checked(
    seen: Evaluated, bend: Bend, order: Order, rng: np.random.Generator, count: int
) -> tuple[Surrogate, bool]:
    """Fit, look at the error at fresh draws, and tell whether a richer fit has a smaller one."""
    found = _fitted(seen, bend, order)
    richer = [_fitted(seen, bend, order.richer)] if seen.determines(order.richer) else []
    x, log_density = found.sample(rng, count)
    t = np.linalg.solve(seen.axes, (x - seen.origin).T).T
    values = seen.at_all(t)
    misfit = _misfit(values - log_density)
    better = any(_misfit(values - other.log_density(x)) < misfit for other in richer)
    return replace(found, error=_spread(values - log_density)), better


def _spread(gap: np.ndarray) -> float:
    """Give the standard deviation of log densities' differences; an absent one is a large one."""
    middle = float(np.median(gap))
    return float(np.std(np.clip(gap - middle, -FARTHEST, FARTHEST)))


def _misfit(gap: np.ndarray) -> float:
    """Give the mean distance of log densities, which few far points hardly move."""
    return float(np.mean(np.minimum(np.abs(gap - np.median(gap)), FARTHEST)))


def _find_bend(seen: Evaluated, d: int) -> Bend:
    sides = (-np.eye(d), np.eye(d))
    near = [np.array([_half_width(seen, e, REACH, DROP) for e in side]) for side in sides]
    far = [
        np.array([_far_width(seen, e, w) for e, w in zip(side, widths, strict=True)])
        for side, widths in zip(sides, near, strict=True)
    ]
    wider = np.maximum(*near) / SKEWED
    return Bend.reaching(*(np.maximum(widths, wider) for widths in near), *far)


def _far_width(seen: Evaluated, direction: np.ndarray, width: float) -> float:
    """Find how far a long side falls by FAR_DROP; NaN for others, which are a normal's."""
    if width < LONG * REACH or len(direction) > LOOKED_FAR:
        return np.nan
    found = _half_width(seen, direction, 2.0 * width, FAR_DROP)
    return found if found > LONG * FAR / REACH * width else np.nan


def _half_width(seen: Evaluated, direction: np.ndarray, size: float, wanted: float) -> float:
    """Find how far along a direction the log density falls by what is wanted; `size` is a guess."""
    low, high = 0.0, np.inf
    for _ in range(6):
        drop = -seen.at(size * direction)
        if 0.7 * wanted < drop < 1.4 * wanted:
            break
        if drop > wanted:
            high = size
        else:
            low = size
        # The root of the drop is nearly a line.
        step = np.sqrt(wanted / min(max(drop, 0.05 * wanted), 1e3))
        size *= float(np.clip(step, 0.25, 3.0))
        if not low < size < high:
            size = 0.5 * (low + high)
    else:
        return size
    return size * float(np.sqrt(wanted / drop))


def _spread_out(seen: Evaluated, bend: Bend, count: int) -> None:
    """Evaluate at points spread evenly as a wide normal."""
    # Imported where it is needed: SciPy is slow to load.
    from scipy.special import ndtri

    d = len(seen.origin)
    z = WIDE.get(d, WIDEST) * ndtri(_evenly(count, d))
    # Where nothing is known, a polynomial runs to infinity.
    ends = [*np.eye(d), *-np.eye(d)]
    if 1 < d <= CORNERED:
        ends += [np.array(corner) / np.sqrt(d) for corner in product((-1.0, 1.0), repeat=d)]
    far = radius(d) * np.array(ends).reshape(len(ends), d)
    seen.at_all(bend(np.concatenate([_inside(z, radius(d)), far])))


def _evenly(count: int, d: int) -> np.ndarray:
    """
    Give points `(count, d)` of low discrepancy in the unit cube.

    Notes
    -----
    The additive recurrence by powers of the root of x^(d + 1) = x + 1, as in M. Roberts (2018),
    "The unreasonable effectiveness of quasirandom sequences"; d = 1 is the golden ratio's.
    """
    root = 2.0
    for _ in range(60):
        root = (1 + root) ** (1 / (d + 1))
    steps = root ** -np.arange(1.0, d + 1)
    return (0.5 + np.arange(1, count + 1)[:, None] * steps) % 1.0


def _fitted(seen: Evaluated, bend: Bend, order: Order) -> Surrogate:
    d = len(seen.origin)
    pilots, reach = _student(np.random.default_rng(1), PILOTS, d), radius(d)
    polynomial = _settled(seen, bend, order, _inside(pilots[:SCOUTS], reach))
    over = _envelope(pilots)
    rise = _continued(polynomial, reach, pilots, over) - over
    highest = float(rise.max())
    while (share := float(np.mean(np.exp(np.minimum(rise - highest, 0.0))))) < RAREST:
        highest -= 0.1
    lowest = highest + np.log(share * FLOOR)
    return Surrogate(
        seen.origin, seen.axes, bend, polynomial, reach, lowest, highest, share, np.nan, seen.count
    )


def _settled(seen: Evaluated, bend: Bend, order: Order, scouts: np.ndarray) -> Polynomial:
    """
    Fit, and evaluate where a fit of a lower degree disagrees, until the fit is right there.

    Draws from a fit that is far too low somewhere would not show it, nor do a few from one that
    is too high in a corner.
    """
    beyond = -_envelope(scouts)
    for _ in range(DOUBTS):
        polynomial = seen.fitted(bend, order)
        other = seen.fitted(bend, order.poorer)(scouts) + beyond
        rise = polynomial(scouts) + beyond
        higher = np.maximum(rise, other)
        gap = np.minimum(np.abs(rise - other), 5.0)
        doubt = gap * np.exp(0.5 * np.maximum(higher - higher.max(), -30.0))
        at = [int(doubt.argmax())]
        t = bend(scouts[at])[0]
        if seen.is_known(t, NEAR) or doubt[at] < DOUBTED:
            break
        value = seen.at(t) + float(bend.jacobian(scouts[at])[1][0])
        if abs(value - polynomial(scouts[at])[0]) < RIGHT:
            break
    return polynomial
