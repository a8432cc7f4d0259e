"""Sums over the counts of a Conway-Maxwell-Poisson distribution: its total and its cumulants."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import gammaln

type Array = np.ndarray

DROP = 45.0  # in the log of a term from the largest, where a sum ends
# Terms of a smooth sum may be taken this many to a standard deviation: by Poisson's summation
# formula what is left out is exp(-2 pi² 2.2²) of it.
PER_SD = 2.2
MOST = 1_000_000  # terms of one sum
CELLS = 400_000  # rows times terms worked on at once
LARGE = 1e3
STEPS = 100
NORMAL = 1e13  # from this mean on, with as many times nu, y and w are those of a normal y
SHARP = 1e4
RARE, TWO = 0.01, 100.0
ORDERS = [(i, j) for i in range(5) for j in range(5) if 2 <= i + j <= 4 and (i, j) != (0, 4)]


@dataclass(frozen=True, eq=False)
class Sums:
    """
    A distribution's total and cumulants.

    With a = mu + 1 and w(y) = `distance(y, mu)`, P(y) is exp(delta (y - mu) - nu w(y)) over the
    total; arrays of the shape of mu and nu together.

    Attributes
    ----------
    cumulants
        By (i, j), of i times y and j times w, of order 2 to 4.
    """

    nu: Array
    delta: Array
    log_total: Array
    mean_distance: Array
    cumulants: Mapping[tuple[int, int], Array]


@cache
def _log_factorials() -> Array:
    return gammaln(np.arange(1 << 16) + 1.0)


def distance(y: Array, mu: Array) -> Array:
    """
    Give log(y!) - log(mu!) - (y - mu) log(mu + 1): about (y - mu)² / (2 mu).

    Notes
    -----
    By the difference of Stirling's series, as `special.log_rising`, where both are large.
    """
    a, t = np.asarray(mu, float) + 1.0, y - mu
    far = (a > LARGE) & (y > 0.5 * LARGE)
    b, s = np.where(far, a, LARGE), np.where(far, t, 0.0)
    c = np.where(far, y + 1.0, LARGE)
    log_ratio = np.where(c < 0.5 * b, np.log(c / b), np.log1p(s / b))
    series = (c - 0.5) * log_ratio - s + (1 / c - 1 / b) / 12
    whole = np.asarray(y, float)
    table = _log_factorials()
    small = whole < len(table)
    at = np.where(small, whole, 0.0).astype(np.int64)
    log_y = table[at] if small.all() else np.where(small, table[at], gammaln(whole + 1))
    return np.where(far, series, log_y - gammaln(a) - t * np.log(a))


def sums(mu: Array, nu: Array) -> Sums:
    """Find the distributions of means mu and exponents nu, and sum them."""
    mu, nu = np.broadcast_arrays(np.asarray(mu, float), np.asarray(nu, float))
    pairs, back = np.unique(np.stack([mu.ravel(), nu.ravel()]), axis=1, return_inverse=True)
    delta, found = _normal(*pairs)
    near = ~((pairs[0] > NORMAL) & (pairs[0] * pairs[1] > SHARP))
    if near.any():
        delta[near], moments = _solved(*pairs[:, near])
        for order, column in (moments | _cumulants(moments)).items():
            found[order][near] = column

    def whole(column: Array) -> Array:
        return column[back.ravel()].reshape(mu.shape)

    cumulants = {order: whole(found[order]) for order in ORDERS}
    return Sums(nu, whole(delta), whole(found[0, 0]), whole(found[0, 1]), cumulants)


def _solved(mu: Array, nu: Array) -> tuple[Array, dict[tuple[int, int], Array]]:
    """Find delta by Newton's method for the log of the mean, kept within what is known of it."""
    delta = _start(mu, nu) - nu * np.log(mu + 1)
    low, high = np.full(mu.shape, -np.inf), np.full(mu.shape, np.inf)
    todo = np.arange(len(mu))
    for _ in range(STEPS):
        m, n, d = mu[todo], nu[todo], delta[todo]
        shift, mean, variance = _first_moments(m, n, d)
        over = shift > 0
        high[todo] = np.where(over, np.minimum(high[todo], d), high[todo])
        low[todo] = np.where(over, low[todo], np.maximum(low[todo], d))
        with np.errstate(all="ignore"):
            slope = (1 / mean - (1 - n) / (1 + mean)) * variance
            near = np.abs(shift) < 0.1 * mean
            rise = np.where(near, np.log1p(-shift / mean), np.log(m / mean))
            rise = rise - (1 - n) * np.log1p(-shift / (1 + mean))
            # Where all is on one side of the mean there is no slope.
            rise = np.where(slope > 0, rise / slope, np.where(over, -np.inf, np.inf))
        rise = np.where(shift == 0, 0.0, rise)
        step = np.clip(rise, -2 - n, 2 + n)
        new = d + step
        out = ~((new > low[todo]) & (new < high[todo]))
        middle = 0.5 * (low[todo] + high[todo])
        new = np.where(out & np.isfinite(middle), middle, new)
        delta[todo] = new
        with np.errstate(all="ignore"):
            spread = np.maximum(np.sqrt(variance), variance / mean)
        open_ = ~((np.abs(new - d) * spread <= 1e-11) & (variance > 0))
        todo = todo[open_ & (np.abs(new - d) > 1e-15 * np.abs(d))]
        if not len(todo):
            break
    return delta, _moments(mu, nu, delta)


def _normal(mu: Array, nu: Array) -> tuple[Array, dict[tuple[int, int], Array]]:
    """
    Give delta, log total, mean of w and cumulants in the limit of large means.

    Notes
    -----
    There y is normal of variance mu / nu, and w is (y - mu)² / (2 mu); derivatives by nu turn
    cumulants of y into those with w.
    """
    variance, none = mu / nu, 0.0 * mu
    third = variance / nu / nu
    found = {
        (0, 0): 0.5 * np.log(2 * np.pi * variance),
        (0, 1): 0.5 / nu,
        (2, 0): variance,
        (1, 1): none,
        (0, 2): 0.5 / nu / nu,
        (3, 0): variance / nu,
        (2, 1): variance / nu,
        (1, 2): none,
        (0, 3): 1 / nu / nu / nu,
        (4, 0): third,
        (3, 1): 2 * third,
        (2, 2): 2 * third,
        (1, 3): none,
    }
    return -0.5 * (nu + 1) / mu, {order: np.array(column) for order, column in found.items()}


def _start(mu: Array, nu: Array) -> Array:
    """
    Guess theta.

    Notes
    -----
    Exact for nu = 0 and nu = 1; else by the mean's expansion, Shmueli et al. (2005), J. Royal
    Statistical Society C 54, 127-142.
    """
    shifted = mu + (nu - 1) / (2 * np.maximum(nu, 1.0))
    under = np.maximum(nu * np.log(np.maximum(shifted, 1e-300)), np.log(mu))
    found = np.where(nu < 1, np.log(mu) - (1 - nu) * np.log1p(mu), under)
    # Of few counts over 1, and where all are on the two next to the mean, by two probabilities.
    below = np.floor(mu)
    share = np.clip(mu - below, 1e-12, 1 - 1e-12)
    share = np.where(mu < RARE, mu, share)
    two = nu * np.log(below + 1) + np.log(share) - np.log1p(-share)
    whole = 0.5 * nu * (np.log(np.maximum(mu, 1.0)) + np.log(mu + 1))
    two = np.where((mu == below) & (mu > 0), whole, two)
    return np.where((nu >= 1) & ((mu < RARE) | (nu > TWO * (mu + 1))), two, found)


def _window(mu: Array, nu: Array, delta: Array) -> tuple[Array, Array, Array]:
    """Give where each sum begins, its step, and how many terms it has."""
    with np.errstate(over="ignore"):
        mode = np.minimum((mu + 1) * np.exp(np.minimum(delta / nu, 600.0)), 1e15)
    below = np.sqrt(2 * DROP * mode / nu)
    # The log falls by nu t² / 2 (mode + t), and more.
    above = (DROP + np.sqrt(DROP**2 + 2 * DROP * nu * mode)) / nu
    first = np.maximum(0.0, np.floor(mode - below))
    # Where lambda is below 1 the terms fall as those of a geometric distribution, and more.
    theta = np.minimum(delta + nu * np.log(mu + 1), -1e-12)
    last = np.ceil(np.minimum(mode + above, (DROP + 1) / -theta)) + 1
    step = np.where(first > 0, np.maximum(1.0, np.floor(np.sqrt(mode / nu) / PER_SD)), 1.0)
    step = np.maximum(step, np.ceil((last - first) / MOST))
    return first, step, np.ceil((last - first) / step).astype(np.int64) + 1


def _chunks(size: Array) -> list[Array]:
    """Put rows of sums of like length together."""
    order = np.argsort(size, kind="stable")
    found, start = [], 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * size[order[stop]] <= CELLS:
            stop = min(len(order), stop + max(1, (stop - start) // 2))
        found.append(order[start:stop])
        start = stop
    return found


def _terms(
    mu: Array, nu: Array, delta: Array, window: tuple[Array, Array, Array]
) -> tuple[Array, Array, Array, Array]:
    """Give t = y - mu, w, the probabilities and the log of the total, one row a sum."""
    first, step, size = (v[:, None] for v in window)
    k = np.arange(int(size.max()))
    y = first + step * k
    t, w = y - mu[:, None], distance(y, mu[:, None])
    log_p = np.where(k < size, delta[:, None] * t - nu[:, None] * w, -np.inf)
    top = log_p.max(axis=1, keepdims=True)
    p = np.exp(log_p - top)
    # A sum from its edge in large steps is the integral, plus half of the first term.
    p[:, 0] *= np.where((first[:, 0] == 0) & (step[:, 0] > 1), 0.5 + 0.5 / step[:, 0], 1.0)
    total = p.sum(axis=1, keepdims=True)
    rest = p.sum(axis=1, keepdims=True, where=p < 1)
    # Beside one count the others may be less than the last digit of 1.
    alone = (step == 1) & (total < 1.5)
    log_total = top + np.where(alone, np.log1p(rest), np.log(total * step))
    return t, w, p / total, log_total[:, 0]


def _first_moments(mu: Array, nu: Array, delta: Array) -> tuple[Array, Array, Array]:
    """Give E(y) - mu, E(y) and the variance."""
    window = _window(mu, nu, delta)
    shift, mean, variance = (np.empty(mu.shape) for _ in range(3))
    for at in _chunks(window[2]):
        t, _, p, _ = _terms(mu[at], nu[at], delta[at], tuple(v[at] for v in window))
        shift[at] = (p * t).sum(axis=1)
        mean[at] = (p * (t + mu[at][:, None])).sum(axis=1)
        variance[at] = (p * (t - shift[at][:, None]) ** 2).sum(axis=1)
    return shift, mean, variance


def _moments(mu: Array, nu: Array, delta: Array) -> dict[tuple[int, int], Array]:
    """Give the log total as (0, 0), the mean of w as (0, 1), and the central moments."""
    window = _window(mu, nu, delta)
    found = {order: np.empty(mu.shape) for order in [(0, 0), (0, 1), *ORDERS]}
    for at in _chunks(window[2]):
        t, w, p, found[0, 0][at] = _terms(
            mu[at],
            nu[at],
            delta[at],
            tuple(v[at] for v in window),
        )
        mean = (p * w).sum(axis=1)
        found[0, 1][at] = mean
        t, w = t - (p * t).sum(axis=1, keepdims=True), w - mean[:, None]
        for i, j in ORDERS:
            found[i, j][at] = (p * t**i * w**j).sum(axis=1)
    return found


def _cumulants(m: Mapping[tuple[int, int], Array]) -> dict[tuple[int, int], Array]:
    """Turn central moments into cumulants: Kendall & Stuart (1977), 3.14 and 13.14."""
    found = {order: m[order] for order in ORDERS}
    found[4, 0] = m[4, 0] - 3 * m[2, 0] ** 2
    found[3, 1] = m[3, 1] - 3 * m[2, 0] * m[1, 1]
    found[2, 2] = m[2, 2] - m[2, 0] * m[0, 2] - 2 * m[1, 1] ** 2
    found[1, 3] = m[1, 3] - 3 * m[1, 1] * m[0, 2]
    return found
