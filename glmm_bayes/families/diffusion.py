"""The Wiener family: times at which a diffusion with drift reaches one of two boundaries.

A response is a time, with a minus sign where the lower boundary was reached.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from glmm_bayes.arrays import NUMPY
from glmm_bayes.families.family import Array, Parameter, Params, add_family, first
from glmm_bayes.families.links import POSITIVE, REAL, UNIT
from glmm_bayes.families.written import written
from glmm_bayes.priors import Prior

SHORT = 0.35  # of a time over the squared separation: below, images; above, a Fourier series
IMAGES = (1, -1, 2, -2, 3, -3)
WAVES = range(2, 8)
TINY = 1e-300
NODES, WEIGHTS = np.polynomial.legendre.leggauss(96)
POINTS = 1500  # of the table that draws are made from


def _log_density(y: Any, p: Params, xp: Any) -> Any:
    """
    Give the log density of signed times.

    Notes
    -----
    Navarro & Fuss (2009), J. Mathematical Psychology 53, 222-230: with a the separation, w the
    start as a share of it and u = t / a², at the lower boundary
    exp(-v a w - v² t / 2) g(u, w) / a²; the upper is the lower of the mirrored process.
    """
    a, t = p["bs"], xp.where(y > 0, y, -y) - p["ndt"]
    after = t > 0
    t = xp.where(after, t, 1.0)
    v = xp.where(y > 0, -p["mu"], p["mu"])
    w = xp.where(y > 0, 1 - p["bias"], p["bias"])
    log_u = xp.log(t) - 2 * xp.log(a)
    # At once, or much later than all others, next to nothing arrives.
    after = after & (log_u > np.log(TINY))
    u = xp.exp(xp.clip(log_u, np.log(TINY), -np.log(TINY)))
    found = _log_first(u, w, xp) - v * a * w - 0.5 * v * v * t - 2 * xp.log(a)
    return xp.where(after, found, -np.inf)


def _log_first(u: Any, w: Any, xp: Any) -> Any:
    """Give log g(u, w): of separation 1, and without a drift."""
    short = u < SHORT
    early, late = xp.where(short, u, SHORT), xp.where(short, SHORT, u)
    images = 1.0 + sum((1 + 2 * k / w) * xp.exp(-2 * k * (k + w) / early) for k in IMAGES)
    by_images = xp.log(w) - 0.5 * np.log(2 * np.pi) - 1.5 * xp.log(early) - 0.5 * w * w / early
    waves = xp.sin(np.pi * w) + sum(
        k * xp.sin(k * np.pi * w) * xp.exp(-0.5 * (k * k - 1) * np.pi**2 * late) for k in WAVES
    )
    by_waves = np.log(np.pi) - 0.5 * np.pi**2 * late
    # Near the other boundary the sums are what is left of their terms.
    inside = xp.where(short, images, waves)
    return xp.where(short, by_images, by_waves) + xp.log(xp.where(inside > TINY, inside, TINY))


@dataclass(frozen=True, eq=False)
class Diffusion:
    """
    Signed times, frozen.

    Attributes
    ----------
    drift, separation, before, start
        Arrays that broadcast: mu, bs, ndt and bias.
    """

    drift: Array
    separation: Array
    before: Array
    start: Array

    def logpdf(self, y: Array) -> Array:
        """Give the log density."""
        with np.errstate(all="ignore"):
            own = {"mu": self.drift, "bs": self.separation, "ndt": self.before, "bias": self.start}
            return _log_density(np.asarray(y, float), own, NUMPY)

    def cdf(self, y: Array) -> Array:
        """Give P(Y <= y), by quadrature in log time where that is short, else by waves."""
        y, v, a, t0, w = np.broadcast_arrays(
            np.asarray(y, float), self.drift, self.separation, self.before, self.start
        )
        upper = y > 0
        v, w = np.where(upper, -v, v), np.where(upper, 1 - w, w)
        u = np.maximum(np.abs(y) - t0, 0.0) / (a * a)
        reached = lower_share(v * a, w)
        by_then = _by_then(u, v * a, w, reached)
        return np.where(upper, 1 - reached + by_then, reached - by_then)

    @cached_property
    def _table(self) -> tuple[Array, Array]:
        """Give signed times `(R, m)`, ascending, and their distribution function."""
        v, a, t0, w = (part.ravel()[:, None] for part in self._rows)
        nu = v * a
        # From where next to nothing has arrived to where next to nothing is left.
        rate = 0.5 * (nu * nu + np.pi**2)
        first = np.log(np.minimum(w, 1 - w) ** 2 / 80 / (1 + np.abs(nu)))
        last = np.log(36.0 / rate + np.abs(nu) / rate + 1.0)
        log_u = first + (last - first) * np.linspace(0, 1, POINTS)
        after, parts = np.exp(log_u) * a * a, []
        for sign in (-1.0, 1.0):
            with np.errstate(all="ignore"):
                own = {"mu": v, "bs": a, "ndt": t0, "bias": w}
                density = np.exp(_log_density(sign * (after + t0), own, NUMPY)) * after
            rise = 0.5 * (density[:, 1:] + density[:, :-1]) * np.diff(log_u)
            parts.append(np.concatenate([0 * rise[:, :1], np.cumsum(rise, axis=1)], axis=1))
        lower, upper = parts
        total = lower[:, -1:] + upper[:, -1:]
        times = np.concatenate([-(after + t0)[:, ::-1], after + t0], axis=1)
        shares = np.concatenate([lower[:, -1:] - lower[:, ::-1], lower[:, -1:] + upper], axis=1)
        return times, shares / total

    def rvs(self, size: Any = None, random_state: Any = None) -> Array:
        """Draw, by inverting a fine table of the distribution function."""
        rng, rows = np.random.default_rng(random_state), self._rows[0].shape
        u = rng.uniform(size=rows if size is None else size)
        times, shares = self._table
        if len(times) == 1:
            return np.interp(u, shares[0], times[0])
        at = np.broadcast_to(np.arange(len(times)).reshape(rows), u.shape)
        found = np.empty(u.shape)
        for row in range(len(times)):
            here = at == row
            found[here] = np.interp(u[here], shares[row], times[row])
        return found

    @property
    def _rows(self) -> tuple[Array, ...]:
        return np.broadcast_arrays(self.drift, self.separation, self.before, self.start)


def lower_share(nu: Array, w: Array) -> Array:
    """Give the probability of the lower boundary, of drift times separation nu and start w."""
    m = np.maximum(np.abs(nu), 1e-12)
    share = np.expm1(-2 * m * (1 - w)) / np.expm1(-2 * m)
    return np.where(nu > 0, np.exp(-2 * m * w), 1.0) * share


def _by_then(u: Array, nu: Array, w: Array, reached: Array) -> Array:
    """Give the probability that the lower boundary, which `reached` in all do, is by u."""
    first = np.log(w * w / 80)
    short = np.clip(u, w * w / 80, SHORT)
    half = 0.5 * (np.log(short) - first)
    log_s = first + half * (NODES.reshape(-1, *[1] * np.ndim(u)) + 1)
    s = np.exp(log_s)
    density = np.exp(_log_first(s, w, NUMPY) - nu * w - 0.5 * nu * nu * s + log_s)
    early = half * np.tensordot(WEIGHTS, density, 1)
    late = np.maximum(u, SHORT)
    left = 0.0
    for k in range(1, 9):
        rate = 0.5 * (nu * nu + (k * np.pi) ** 2)
        left = left + k * np.pi * np.sin(k * np.pi * w) * np.exp(-nu * w - rate * late) / rate
    return np.where(u < SHORT, early, np.clip(reached - left, 0.0, 1.0))


def _mean(p: Params) -> Array:
    """
    Give the mean of the signed times.

    Notes
    -----
    Of the times at either boundary, Grasman, Wagenmakers & van der Maas (2009), J. Mathematical
    Psychology 53, 55-68: of those at the upper (h(a v) - h(z v)) / v² with h(x) = x coth(x), z the
    start's distance from the lower.
    """
    v, a, w = np.asarray(p["mu"], float), p["bs"], p["bias"]
    lower = lower_share(v * a, w)
    up, down = (p["ndt"] + _until(v, a, z) for z in (a * w, a * (1 - w)))
    return (1 - lower) * up - lower * down


def _until(v: Array, a: Array, z: Array) -> Array:
    slow = np.abs(a * v) < 1e-3
    safe = np.where(slow, 1.0, v)
    exact = (a * safe / np.tanh(a * safe) - z * safe / np.tanh(z * safe)) / safe**2
    return np.where(slow, (a**2 - z**2) / 3 - v * v * (a**4 - z**4) / 45, exact)


def _signed(y: Array, trials: Array | None) -> tuple[int, str] | None:
    at = first(~(np.isfinite(y) & (y != 0)))
    return (
        None if at is None else (at, "times must be finite and positive, before dec(…) signs them")
    )


WIENER = add_family(
    written(
        "wiener",
        (
            Parameter("mu", "identity", ("identity",), REAL),
            Parameter(
                "bs",
                "log",
                ("log", "identity", "softplus"),
                POSITIVE,
                Prior("Gamma", alpha=1.0, beta=1.0),
                start=1.5,
            ),
            Parameter(
                "ndt",
                "log",
                ("log", "identity"),
                POSITIVE,
                Prior("Uniform", lower=0.0, upper=1.0),
                below=True,
            ),
            Parameter(
                "bias",
                "logit",
                ("logit", "probit"),
                UNIT,
                Prior("Beta", alpha=1.0, beta=1.0),
            ),
        ),
        _log_density,
        lambda p, trials: Diffusion(p["mu"], p["bs"], p["ndt"], p["bias"]),
        mean=_mean,
        problem=_signed,
        signed=True,
    )
)
