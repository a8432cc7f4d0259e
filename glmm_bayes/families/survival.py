"""The Cox family: proportional hazards over a baseline of splines, with knots from the times."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from glmm_bayes.arrays import NUMPY
from glmm_bayes.errors import DataError
from glmm_bayes.families.continuous import positive
from glmm_bayes.families.family import Array, Parameter, Params, add_family
from glmm_bayes.families.links import POSITIVE, UNIT
from glmm_bayes.families.tails import hazard_tails
from glmm_bayes.families.written import written
from glmm_bayes.priors import Prior
from glmm_bayes.view import View

if TYPE_CHECKING:
    from scipy.interpolate import BSpline

    from glmm_bayes.families.family import Family

SHARES = "bhaz"  # what results call the shares, with a number each
DF = 5
CUBIC = 3
STRETCH = 1 / 50  # of the range of the times, beyond which the boundary knots are
CELLS = 200_000  # times solved for at once
REMEMBERED = 20_000  # times whose splines are kept
VALUES, INTEGRALS = 0, 1


@dataclass(frozen=True, eq=False)
class Splines:
    """
    K splines of time, none of them negative, each with integral 1 between the boundary knots.

    Attributes
    ----------
    knots
        `(K + degree + 1,)` ascending, the boundary knots `degree + 1` times each.
    degree
        Of the polynomials between two knots.

    Notes
    -----
    M-splines and their integrals, the I-splines: Ramsay (1988), Statistical Science 3, 425-441.
    Before the first knot and after the last they keep the value that they have there.
    """

    knots: Array
    degree: int

    @property
    def size(self) -> int:
        """The number K."""
        return len(self.knots) - self.degree - 1

    @property
    def ends(self) -> tuple[float, float]:
        """The boundary knots."""
        return float(self.knots[0]), float(self.knots[-1])

    def values(self, t: Any, xp: Any) -> list[Any]:
        """Give the K splines at times t."""
        return self._evaluated(VALUES, t, xp)

    def integrals(self, t: Any, xp: Any) -> list[Any]:
        """Give what each adds up to from time 0 to t."""
        low, high = self.ends
        first, last = (self._evaluated(VALUES, np.array(end), NUMPY) for end in self.ends)
        before, after = xp.where(t < low, t, low), xp.where(t > high, t - high, 0.0)
        inside = self._evaluated(INTEGRALS, t, xp)
        return [
            part + float(a) * before + float(b) * after
            for part, a, b in zip(inside, first, last, strict=True)
        ]

    @cached_property
    def _pieces(self) -> tuple["Pieces", "Pieces"]:
        """Write splines and integrals as polynomials between two knots."""
        from scipy.interpolate import BSpline

        span = self.knots[self.degree + 1 :] - self.knots[: self.size]
        scaled = np.diag((self.degree + 1) / span)
        splines = [BSpline(self.knots, c, self.degree) for c in scaled]
        return Pieces.of(splines), Pieces.of([spline.antiderivative() for spline in splines])

    def _evaluated(self, which: int, t: Any, xp: Any) -> list[Any]:
        low, high = self.ends
        t = xp.where(t < low, low, xp.where(t > high, high, t))
        if xp is NUMPY and t.size <= REMEMBERED:
            return self._remembered(which, t.shape, t.tobytes())
        return self._pieces[which](t, xp)

    @cached_property
    def _remembered(self) -> Callable[[int, tuple[int, ...], bytes], list[Any]]:
        # A search or a sampler asks for the splines of the same rows thousands of times.
        @lru_cache(maxsize=16)
        def found(which: int, shape: tuple[int, ...], t: bytes) -> list[Any]:
            return self._pieces[which](np.frombuffer(t).reshape(shape), NUMPY)

        return found


@dataclass(frozen=True, eq=False)
class Pieces:
    """
    K piecewise polynomials, that arrays and graphs can be put into.

    `starts` `(J,)`, where each piece begins; `c` `(K, power, J)`, the highest power of the distance
    from there first.
    """

    starts: Array
    c: Array

    @classmethod
    def of(cls, splines: "Sequence[BSpline]") -> Self:
        """Take the polynomials of some splines on the same knots."""
        from scipy.interpolate import PPoly

        whole = [PPoly.from_spline((spline.t, spline.c, spline.k)) for spline in splines]
        x = whole[0].x
        there = np.diff(x) > 0
        return cls(x[:-1][there], np.stack([part.c[:, there] for part in whole]))

    def __call__(self, t: Any, xp: Any) -> list[Any]:
        """Give the K values at t, which is not before the first piece."""
        found: list[Any] = []
        for c in self.c:
            value: Any = 0.0
            for start, powers in zip(self.starts, c.T, strict=True):
                value = xp.where(t >= start, _polynomial(powers, t - start), value)
            found.append(value)
        return found


def _polynomial(powers: Array, x: Any) -> Any:
    found: Any = float(powers[0])
    for c in powers[1:]:
        found = found * x + float(c)
    return found


@dataclass(frozen=True, eq=False)
class Baseline:
    """
    What a family's baseline hazard is a mean of, with the K - 1 parameters that weigh it.

    Attributes
    ----------
    parameters
        The parameters' names: the k-th is the share of the k-th spline in what the splines before
        it leave of 1.
    made
        `made(splines)`: the same family over other splines.
    """

    splines: Splines
    parameters: tuple[str, ...]
    made: "Callable[[Splines], Family]"

    def shares(self, p: Params) -> list[Any]:
        """Give the K splines' shares, with sum 1."""
        found, left = [], 1.0
        for name in self.parameters:
            found.append(left * p[name])
            left = left * (1 - p[name])
        return [*found, left]

    def spread[T](self, given: Mapping[str, T]) -> dict[str, T]:
        """Give what is said of `bhaz` to all shares but those that something is said of."""
        named = dict(given)
        every = dict.fromkeys(self.parameters, named.pop(SHARES)) if SHARES in given else {}
        return named | {name: named.get(name, part) for name, part in every.items()}

    def hazard(self, t: Any, p: Params, xp: Any) -> Any:
        """Give the baseline hazard at times t."""
        return _weighed(self.shares(p), self.splines.values(t, xp))

    def cumulated(self, t: Any, p: Params, xp: Any) -> Any:
        """Give the baseline hazard's integral from 0 to t."""
        return _weighed(self.shares(p), self.splines.integrals(t, xp))


def _weighed(shares: list[Any], parts: list[Any]) -> Any:
    return sum(share * part for share, part in zip(shares, parts, strict=True))


def splines_of(name: str, y: Array, view: View | None, df: int) -> Splines:
    """
    Place the knots of df splines: of third degree, or of degree df - 1 where that is less.

    The inner knots are quantiles of the times of events. An event in an interval counts as in
    the middle of it, one that was before a time as at that time.

    Parameters
    ----------
    y, view
        The times `(n,)`, all positive, and how they were seen.

    Raises
    ------
    DataError
        If there are fewer events, or times of events, than splines.

    Notes
    -----
    The boundary knots are those of brms: a 50th of the times' range outside of them, but not below
    0. Entries and ends of intervals are among the times.
    """
    events, times = _events(y, view)
    if len(np.unique(events)) < df:
        raise DataError(
            f"The baseline hazard of {name!r} has df = {df} splines, but there are "
            f"{len(events)} events, at {len(np.unique(events))} different times: "
            + (
                "every row is right-censored; check the codes of censored(…)."
                if not len(events)
                else f"write bhaz(df={max(len(np.unique(events)) // 2, 1)}) behind the bar."
            )
        )
    degree = min(CUBIC, df - 1)
    reach = STRETCH * np.ptp(times)
    low, high = max(times.min() - reach, 0.0), times.max() + reach
    inner = np.quantile(events, np.linspace(0, 1, df - degree + 1)[1:-1])
    if (np.diff([low, *inner, high]) <= 0).any():
        raise DataError(
            f"The events of {name!r} are at too few different times to put the knots of df = {df} "
            f"splines between them: write bhaz(df={max(df - 1, 1)}) behind the bar, or less."
        )
    ends = np.ones(degree + 1)
    return Splines(np.concatenate([low * ends, inner, high * ends]), degree)


def _events(y: Array, view: View | None) -> tuple[Array, Array]:
    """Give the times of events, and all times that anything is known of."""
    if view is None:
        return y, y
    happened = view.exact | np.isfinite(view.high)
    # A row that is censored on the left has no lower end, or one at 0.
    low = np.where(view.low > 0, view.low, view.high)
    with np.errstate(invalid="ignore"):
        events = np.where(view.exact, y, 0.5 * (low + view.high))[happened]
    others = np.concatenate([view.low, view.high, view.lower, view.upper])
    return events, np.concatenate([y, others[np.isfinite(others) & (others >= 0)]])


@dataclass(frozen=True, eq=False)
class Lifetimes:
    """Times with proportional hazards, frozen as scipy's distributions are."""

    baseline: Baseline
    params: Params

    def logpdf(self, t: Array) -> Array:
        """Give the log density."""
        return _log_density(t, self.params, NUMPY, self.baseline)

    def cdf(self, t: Array) -> Array:
        """Give P(T <= t)."""
        return -np.expm1(-self._cumulated(t))

    def sf(self, t: Array) -> Array:
        """Give P(T > t)."""
        return np.exp(-self._cumulated(t))

    def ppf(self, q: Array) -> Array:
        """Give the time before which an event is with probability q."""
        with np.errstate(divide="ignore"):
            return self._when(-np.log1p(-np.asarray(q, float)))

    def isf(self, q: Array) -> Array:
        """Give the time after which an event is with probability q."""
        with np.errstate(divide="ignore"):
            return self._when(-np.log(np.asarray(q, float)))

    def rvs(self, size: Any = None, random_state: Any = None) -> Array:
        """Draw, by inverting the cumulative hazard at a standard exponential."""
        rng = np.random.default_rng(random_state)
        shape = np.broadcast_shapes(*map(np.shape, self.params.values())) if size is None else size
        return self._when(rng.standard_exponential(shape))

    def _cumulated(self, t: Array) -> Array:
        t = np.asarray(t, float)
        never = t == np.inf
        found = self.params["mu"] * self.baseline.cumulated(
            np.where(t > 0, np.where(never, 1.0, t), 0.0), self.params, NUMPY
        )
        return np.where(never, np.inf, found)

    def _when(self, hazard: Array) -> Array:
        """Give the times `(…)` at which the cumulative hazard is this."""
        shares = self.baseline.shares(self.params)
        whole = np.broadcast_arrays(hazard / self.params["mu"], *map(np.asarray, shares))
        flat = [part.ravel() for part in whole]
        runs = range(0, flat[0].size, CELLS)
        found = [self._inverted(*(part[at : at + CELLS] for part in flat)) for at in runs]
        return np.concatenate([*found, np.empty(0)]).reshape(whole[0].shape)

    def _inverted(self, target: Array, *shares: Array) -> Array:
        from scipy.optimize.elementwise import find_root

        splines, (low, high) = self.baseline.splines, self.baseline.splines.ends

        def cumulated(t: Array, *weights: Array) -> Array:
            return _weighed(list(weights), splines.integrals(t, NUMPY))

        ends = [np.full(target.shape, end) for end in (low, high)]
        first, last = (cumulated(end, *shares) for end in ends)
        rates = [_weighed(list(shares), splines.values(end, NUMPY)) for end in ends]
        inside = np.clip(target, first, last)
        found: Any = find_root(
            lambda t, wanted, *weights: cumulated(t, *weights) - wanted,
            (ends[0], ends[1]),
            args=(inside, *shares),
        )
        with np.errstate(all="ignore"):
            early, late = target / rates[0], high + (target - last) / rates[1]
        return np.where(target < first, early, np.where(target > last, late, found.x))


def _log_density(t: Any, p: Params, xp: Any, baseline: Baseline) -> Any:
    """Give log h(t) - H(t), where h = mu h0."""
    cumulated = p["mu"] * baseline.cumulated(t, p, xp)
    return xp.log(p["mu"]) + xp.log(baseline.hazard(t, p, xp)) - cumulated


def _tails(t: Any, p: Params, xp: Any, baseline: Baseline) -> Any:
    return hazard_tails(p["mu"] * baseline.cumulated(t, p, xp), xp)


def _by_mean(y: Array, trials: Any, p: Params, baseline: Baseline) -> Iterator[Array]:
    mu, cumulated = p["mu"], baseline.cumulated(y, p, NUMPY)
    yield np.log(mu) + np.log(baseline.hazard(y, p, NUMPY)) - mu * cumulated
    yield 1 - mu * cumulated
    yield -1 + 0 * cumulated
    yield 2 + 0 * cumulated


def _cox(splines: Splines) -> "Family":
    """Make the family over some splines."""
    names = tuple(f"{SHARES}{k}" for k in range(1, splines.size))
    baseline = Baseline(splines, names, _cox)
    # Together a Dirichlet distribution with ones: all shares that there are, alike.
    shares = tuple(
        Parameter(
            name,
            "logit",
            ("logit", "probit", "cloglog"),
            UNIT,
            Prior("Beta", alpha=1.0, beta=float(splines.size - k)),
            start=1 / (splines.size - k + 1),
            ends=True,
        )
        for k, name in enumerate(names, start=1)
    )
    return written(
        "cox",
        (Parameter("mu", "log", ("log", "identity", "softplus"), POSITIVE), *shares),
        partial(_log_density, baseline=baseline),
        lambda p, trials: Lifetimes(baseline, p),
        tails=partial(_tails, baseline=baseline),
        by_mean=partial(_by_mean, baseline=baseline),
        problem=positive,
        # Of a constant hazard, the mu of which a single time tells most.
        working=lambda y: splines.ends[1] / y,
        baseline=baseline,
    )


COX = add_family(_cox(Splines(np.array([0.0, 0, 0, 10, 10, 10]), 2)))
