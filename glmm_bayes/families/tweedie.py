"""The Tweedie family: sums of a Poisson number of gamma variables, zero where there are none."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import digamma, gammainc, gammaln

from glmm_bayes.arrays import NUMPY
from glmm_bayes.families.continuous import POSITIVE_LINKS, SHAPE_LINKS
from glmm_bayes.families.family import Array, Parameter, Params, add_family, first
from glmm_bayes.families.incomplete import plain
from glmm_bayes.families.links import POSITIVE
from glmm_bayes.families.special import log_complement
from glmm_bayes.families.summed import by_arrays, over_first
from glmm_bayes.families.tails import gamma_tails
from glmm_bayes.families.written import written
from glmm_bayes.priors import Prior
from glmm_bayes.taylor import Taylor, expanded, polygammas
from glmm_bayes.taylor.monomials import Monomial

# Terms this many standard deviations, and a few, away from the largest are below 1e-16 of it.
REACH, FEW = 9.0, 20.0
# So far from its mean their number may be, where y is in a tail of 1e-100.
FAR = 25.0
ALMOST_TWO = 2.0 - 1e-6  # a power closer to 2 is a sum of too many terms
LOG_2PI = np.log(2 * np.pi)
# Of the number of gamma variables, and of their number times their shape.
LOG_MANY, LOG_MOST = np.log(1e9), np.log(1e11)
CELLS = 200_000  # rows times terms worked on at once


@dataclass(frozen=True, eq=False)
class CompoundPoisson:
    """The distribution, frozen: `rate` variables on average, of shape `shape` and `scale`."""

    rate: Array
    shape: Array
    scale: Array

    def rvs(self, size: Any, random_state: np.random.Generator) -> Array:
        """Draw sums."""
        number = random_state.poisson(self.rate, size)
        some = number > 0
        sums = random_state.gamma(self.shape * np.where(some, number, 1)) * self.scale
        return np.where(some, sums, 0.0)

    def cdf(self, y: Array) -> Array:
        """Give P(Y <= y)."""
        rate, shape, scale, y = np.broadcast_arrays(self.rate, self.shape, self.scale, y)
        reach = REACH * np.sqrt(rate) + FEW
        start = np.maximum(1.0, np.floor(rate - reach))
        total = np.exp(-rate)
        for k in range(int(np.max(2 * reach)) + 1):
            j = start + k
            mass = np.exp(j * np.log(rate) - rate - gammaln(j + 1))
            total = total + mass * gammainc(shape * j, np.maximum(y, 0.0) / scale)
        return np.where(y < 0, 0.0, np.minimum(total, 1.0))


def _compound(p: Params, trials: Any) -> CompoundPoisson:
    mu, phi, power = (np.asarray(p[k], float) for k in ("mu", "phi", "power"))
    return CompoundPoisson(
        mu ** (2 - power) / (phi * (2 - power)),
        (2 - power) / (power - 1),
        phi * (power - 1) * mu ** (power - 1),
    )


def _log_density(y: Any, p: Params, xp: Any) -> Any:
    """
    Give the log density, of y = 0 the log probability.

    Notes
    -----
    Dunn & Smyth (2005), Statistics and Computing 15, equations 4 to 8, with a = -alpha: of the
    sum over the number j of gamma variables mu does not enter the terms. Where they are too many,
    by the saddle point's approximation, their equation 1, which is exact in that limit.
    """
    # Not by clip, whose graph loses third derivatives.
    p = {**p, "power": xp.where(p["power"] > ALMOST_TWO, ALMOST_TWO, p["power"])}
    log_mu, below, above = xp.log(p["mu"]), 2 - p["power"], p["power"] - 1
    some = y > 0
    log_y, a = xp.log(xp.where(some, y, 1.0)), below / above
    none = -xp.exp(below * log_mu) / (p["phi"] * below)
    rise = -y * xp.exp(-above * log_mu) / (p["phi"] * above) - log_y
    log_phi = xp.log(p["phi"])
    u = a * (log_y - xp.log(above)) - (1 + a) * log_phi - xp.log(below)
    number = below * log_y - log_phi - xp.log(below)
    many = some & ((number > LOG_MOST) | ((number > LOG_MANY) & (number + xp.log(a) > LOG_MANY)))
    u = xp.where(many, 0.0, u)
    series = _sum_of_number(some & ~many, u, a) if xp is NUMPY else _sum_on_graph(u, a)
    found = none + xp.where(some, rise + series, 0.0)
    return xp.where(many, _at_saddle(log_y, p, xp), found)


def _at_saddle(log_y: Any, p: Params, xp: Any) -> Any:
    power, log_mu = p["power"], xp.log(p["mu"])
    gap = log_y - log_mu
    half = (xp.expm1(gap) - xp.expm1((2 - power) * gap) / (2 - power)) / (power - 1)
    scale = LOG_2PI + xp.log(p["phi"]) + power * log_y
    return -xp.exp((2 - power) * log_mu) * half / p["phi"] - 0.5 * scale


def _largest(u: Any, a: Any, xp: Any) -> tuple[Any, Any]:
    """Give which term of the sum is about the largest, and how far the others reach."""
    middle = xp.exp((u - a * xp.log(a)) / (1 + a))
    return middle, REACH * xp.sqrt(middle / (1 + a)) + FEW


def _sum_on_graph(u: Any, a: Any) -> Any:
    import pytensor.tensor as pt
    from pytensor.gradient import disconnected_grad

    from glmm_bayes.arrays import graph

    a = a + pt.zeros_like(u)
    middle, reach = _largest(u, a, graph())
    start = disconnected_grad(pt.maximum(1.0, pt.floor(middle - reach)))
    steps = pt.arange(disconnected_grad(pt.floor(2 * pt.max(reach)) + 2))
    j = start[..., None] + steps
    terms = j * u[..., None] - pt.gammaln(j + 1) - pt.gammaln(a[..., None] * j)
    return pt.logsumexp(terms, axis=-1)


def _sum_of_number(some: Array, u: Any, a: Any) -> Any:
    """Sum on arrays, or on numbers that carry derivatives; rows without `some` are left out."""
    if not isinstance(a, Taylor) and not isinstance(u, Taylor):
        return _partials(some, u, a, 0)[()]
    order = (u if isinstance(u, Taylor) else a).order
    numbers = [x if isinstance(x, Taylor) else Taylor.constant(x, order=order) for x in (u, a)]
    return expanded(_partials(some, numbers[0].value, numbers[1].value, order), numbers)


def _partials(some: Array, u: Array, a: Array, order: int) -> dict[Monomial, Array]:
    """Give log sum_j exp(j u) / (j! Gamma(a j)) and its derivatives by u (0) and a (1)."""
    some, u, a = np.broadcast_arrays(some, u, a)
    at = np.flatnonzero(some)
    u, a = np.ravel(u)[at], np.ravel(a)[at]
    middle, reach = _largest(u, a, NUMPY)
    start = np.maximum(1.0, np.floor(middle - reach))
    terms = np.floor(2 * reach) + 2
    by_width = np.argsort(terms, kind="stable")
    found: dict[Monomial, Array] = {}
    while len(by_width):
        # Rows with about as many terms together, as many as the cells hold.
        cells = np.arange(1, len(by_width) + 1) * terms[by_width]
        count = max(1, int(np.count_nonzero(cells <= CELLS)))
        rows, by_width = by_width[:count], by_width[count:]
        j = start[rows, None] + np.arange(terms[rows[-1]])
        for monomial, part in _block(j, u[rows, None], a[rows, None], order).items():
            found.setdefault(monomial, np.zeros(some.shape)).flat[at[rows]] = part
    return found or {(): np.zeros(some.shape)}


def _block(j: Array, u: Array, a: Array, order: int) -> dict[Monomial, Array]:
    """Do it for rows `(n, 1)` with terms `(n, K)`, by moments over the terms' shares."""
    # Of one power for all rows each term's functions are needed once.
    same = bool((a == a[0]).all())
    grid, place = np.unique(j, return_inverse=True) if same else (j, None)
    x = (a[0] if same else a) * grid

    def spread(values: Array) -> Array:
        return values[place.reshape(j.shape)] if place is not None else values

    log_terms = j * u - spread(gammaln(grid + 1) + gammaln(x))
    largest = log_terms.max(axis=1, keepdims=True)
    shares = np.exp(log_terms - largest)
    total = shares.sum(axis=1, keepdims=True)
    found: dict[Monomial, Array] = {(): (largest + np.log(total))[:, 0]}
    if order == 0:
        return found
    shares /= total

    def mean(values: Array) -> Array:
        return (shares * values).sum(axis=1)

    by_a = spread(-grid * digamma(x))
    found[(0,)], found[(1,)] = mean(j), mean(by_a)
    if order == 1:
        return found
    trigamma, tetragamma = polygammas(x)
    d, e = j - found[(0,)][:, None], by_a - found[(1,)][:, None]
    twice = spread(-grid * grid * trigamma)
    found |= {(0, 0): mean(d * d), (0, 1): mean(d * e), (1, 1): mean(twice + e * e)}
    if order == 2:
        return found
    thrice = spread(-(grid**3) * tetragamma)
    found |= {
        (0, 0, 0): mean(d * d * d),
        (0, 0, 1): mean(d * d * e),
        (0, 1, 1): mean(d * (twice + e * e)),
        (1, 1, 1): mean(thrice + 3 * twice * e + e * e * e),
    }
    return found


def _tails(y: Array, p: Params) -> Any:
    """Sum the gamma variables' tails over their number: positive terms."""
    below, above = 2 - p["power"], p["power"] - 1
    log_mu = np.log(p["mu"])
    rate = np.exp(below * log_mu) / (p["phi"] * below)
    size, some = below / above, y > 0
    x = np.where(some, y, 1.0) / (p["phi"] * above * np.exp(above * log_mu))
    middle = plain(rate)
    reach = FAR * np.sqrt(middle) + FEW
    start = np.maximum(1.0, np.floor(middle - reach))
    j = start + np.arange(int(np.max(2 * reach)) + 1).reshape(-1, *[1] * np.ndim(y))
    log_j = j * np.log(rate) - rate - gammaln(j + 1)
    low, high = gamma_tails(size * j, x + 0.0 * j, NUMPY)
    none = -1 * rate
    low, high = np.where(some, low, -np.inf) + log_j, np.where(some, high, 0.0) + log_j
    tops = [np.maximum(plain(low).max(axis=0), plain(none)), plain(high).max(axis=0)]
    more = np.log(over_first(np.exp(low - tops[0])) + np.exp(none - tops[0])) + tops[0]
    rest = np.log(over_first(np.exp(high - tops[1]))) + tops[1]
    # Of the larger one the last digits are lost, and it may exceed 1.
    down = plain(more) < plain(rest)
    return (
        np.where(down, more, log_complement(np.where(down, -1.0, rest))),
        np.where(down, log_complement(np.where(down, more, -1.0)), rest),
    )


def _not_negative(y: Array, trials: Array | None) -> tuple[int, str] | None:
    at = first(~(np.isfinite(y) & (y >= 0)))
    return None if at is None else (at, "values must be finite and not negative")


TWEEDIE = add_family(
    written(
        "tweedie",
        (
            Parameter("mu", "log", POSITIVE_LINKS, POSITIVE),
            Parameter(
                "phi", "log", SHAPE_LINKS, POSITIVE, Prior("HalfStudentT", nu=3.0, sigma=2.5)
            ),
            Parameter(
                "power",
                "logitm1",
                ("logitm1", "identity"),
                (1.0, 2.0),
                Prior("Uniform", lower=1.0, upper=2.0),
            ),
        ),
        _log_density,
        _compound,
        mean=lambda p: p["mu"],
        variance=lambda p, trials: p["phi"] * p["mu"] ** p["power"],
        tails=by_arrays("tweedie", _tails, ("mu", "phi", "power")),
        problem=_not_negative,
        atoms=(0.0,),
    )
)
