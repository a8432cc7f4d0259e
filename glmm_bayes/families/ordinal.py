"""Families of ordered categories: a mean on a latent scale, and thresholds that cut it."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from glmm_bayes.arrays import NUMPY
from glmm_bayes.families.categories import Categories, Shares, select
from glmm_bayes.families.cuts import CUTS, Cut, latent_link
from glmm_bayes.families.family import Array, Family, Parameter, Params, add_family, first
from glmm_bayes.families.links import LINKS, POSITIVE, REAL
from glmm_bayes.families.special import logistic, softplus
from glmm_bayes.priors import Prior

type Logs = Callable[[Params, Sequence[str], Cut, Any], list[Any]]
type Start = Callable[[Array, Callable[..., Any]], Array]

DISC = Parameter("disc", "log", ("log",), POSITIVE, Prior.fixed(1.0))
THRESHOLD = Prior("StudentT", nu=3.0, mu=0.0, sigma=2.5)


def _reached(p: Params, names: Sequence[str]) -> list[Any]:
    """Give disc (tau_j - mu) for each threshold."""
    return [p["disc"] * (p[name] - p["mu"]) for name in names]


def _cumulative(p: Params, names: Sequence[str], cut: Cut, xp: Any) -> list[Any]:
    """P(Y <= j) = F(disc (tau_j - mu))."""
    a = _reached(p, names)
    inner = [cut.between(high, low, xp) for low, high in zip(a[:-1], a[1:], strict=True)]
    return [cut.below(a[0], xp), *inner, cut.above(a[-1], xp)]


def _cumulative_at(y: Any, p: Params, names: Sequence[str], cut: Cut) -> Any:
    """Give the same of the categories y: only the two thresholds beside each are looked at."""
    low, high = _beside(y, p, names)
    a, b = (p["disc"] * (edge - p["mu"]) for edge in (high, low))
    return _log_mass(y, len(names), a, b, cut)


def _beside(y: Any, p: Params, names: Sequence[str]) -> tuple[Any, Any]:
    """Give the thresholds below and above the categories y."""
    tau = [p[name] for name in names]
    # The outermost categories have one threshold; another, one away, keeps what is not used finite.
    return select([tau[0] - 1.0, *tau], y, NUMPY), select([*tau, tau[-1] + 1.0], y, NUMPY)


def _log_mass(y: Any, last: int, a: Any, b: Any, cut: Cut) -> Any:
    inner = np.where(y == last, cut.above(b, NUMPY), cut.between(a, b, NUMPY))
    return np.where(y == 0, cut.below(a, NUMPY), inner)


def _cumulative_score(y: Array, p: Params, names: Sequence[str], cut: Cut) -> dict[str, Array]:
    """Give the derivative of `_cumulative_at`: a density over the probability, at either end."""
    low, high = _beside(y, p, names)
    disc, above, below = p["disc"], high - p["mu"], low - p["mu"]
    a, b, last = disc * above, disc * below, len(names)
    with np.errstate(all="ignore"):
        log_p = _log_mass(y, last, a, b, cut)
        by_a = np.where(y < last, np.exp(cut.log_density(a) - log_p), 0.0)
        by_b = np.where(y > 0, -np.exp(cut.log_density(b) - log_p), 0.0)
    found = {"mu": -disc * (by_a + by_b), "disc": by_a * above + by_b * below}
    by_a, by_b = disc * by_a, disc * by_b
    for j, name in enumerate(names):
        found[name] = np.where(y == j, by_a, np.where(y == j + 1, by_b, 0.0))
    return found


def _cumulative_by_mean(y: Array, p: Params, names: Sequence[str]) -> Iterator[Array]:
    """
    Give `_cumulative_at` of the logistic distribution, and its derivatives by mu.

    Notes
    -----
    The first by either end together is 1 - F(a) - F(b): Pratt (1981), JASA 76, 103-106.
    """
    tau = np.stack(np.broadcast_arrays(-np.inf, *(p[name] for name in names), np.inf))
    at, row = y.astype(int), np.arange(len(y)) if tau.shape[-1] > 1 else 0
    disc, mu = p["disc"], p["mu"]
    a, b = disc * (tau[at + 1, row] - mu), disc * (tau[at, row] - mu)
    yield np.log(-np.expm1(b - a)) - softplus(-a) - softplus(b)
    high, low = logistic(a), logistic(b)
    yield disc * (high + low - 1)
    high_slope, low_slope = high * (1 - high), low * (1 - low)
    yield -disc * disc * (high_slope + low_slope)
    yield disc**3 * (high_slope * (1 - 2 * high) + low_slope * (1 - 2 * low))


def _stopping(p: Params, names: Sequence[str], cut: Cut, xp: Any) -> list[Any]:
    """P(Y = j | Y >= j) = F(disc (tau_j - mu))."""
    found, passed = [], 0.0
    for a in _reached(p, names):
        found.append(passed + cut.below(a, xp))
        passed = passed + cut.above(a, xp)
    return [*found, passed]


def _continuing(p: Params, names: Sequence[str], cut: Cut, xp: Any) -> list[Any]:
    """P(Y > j | Y >= j) = F(disc (mu - tau_j))."""
    found, passed = [], 0.0
    for a in _reached(p, names):
        found.append(passed + cut.above(-a, xp))
        passed = passed + cut.below(-a, xp)
    return [*found, passed]


def _adjacent(p: Params, names: Sequence[str], cut: Cut, xp: Any) -> list[Any]:
    """P(Y = j + 1 | Y is j or j + 1) = F(disc (mu - tau_j)), as odds."""
    found = [0.0 * p["mu"] + 0.0 * p["disc"]]
    for a in _reached(p, names):
        found.append(found[-1] + cut.below(-a, xp) - cut.above(-a, xp))
    total = found[0]
    for other in found[1:]:
        total = total + xp.softplus(other - total)
    return [value - total for value in found]


def _start_cumulative(shares: Array, g: Callable[..., Any]) -> Array:
    return g(np.cumsum(shares)[:-1])


def _start_stopping(shares: Array, g: Callable[..., Any]) -> Array:
    left = np.cumsum(shares[::-1])[::-1]
    return g(shares[:-1] / left[:-1])


def _start_continuing(shares: Array, g: Callable[..., Any]) -> Array:
    left = np.cumsum(shares[::-1])[::-1]
    return -g(left[1:] / left[:-1])


def _start_adjacent(shares: Array, g: Callable[..., Any]) -> Array:
    return -g(shares[1:] / (shares[:-1] + shares[1:]))


def _ordered(
    name: str,
    logs: Logs,
    start: Start,
    at: Callable[..., Any] | None = None,
    slopes: Callable[..., dict[str, Array]] | None = None,
    of_logistic: Callable[..., Iterator[Array]] | None = None,
) -> Family:
    """
    Make a family of ordered categories, of which the log probabilities are given.

    `at` and `slopes` give the log probability of each response, and its derivatives, where that
    is quicker than by the probabilities of all categories; `of_logistic` those by mu to third
    order with the logit link.
    """
    links = {link: latent_link(link) for link in CUTS}

    def made(labels: tuple[str, ...], link: str) -> Family:
        cut, names = CUTS[link], tuple(f"threshold{k}" for k in range(1, len(labels)))

        def probabilities(p: Params) -> Array:
            found = np.broadcast_arrays(*logs(p, names, cut, NUMPY))
            return np.exp(np.stack(found, axis=-1))

        def core(y: Array, trials: Array | None, p: Params) -> Array:
            if at is not None:
                return at(y, p, names, cut)
            return select(logs(p, names, cut, NUMPY), y, NUMPY)

        def score(y: Array, trials: Array | None, p: Params) -> dict[str, Array]:
            assert slopes is not None
            return slopes(y, p, names, cut)

        def by_mean(y: Array, trials: Array | None, p: Params) -> Iterator[Array]:
            assert of_logistic is not None
            return of_logistic(y, p, names)

        return Family(
            name=name,
            parameters=(
                Parameter("mu", link, tuple(links), REAL),
                DISC,
                *(Parameter(n, "identity", ("identity",), REAL, THRESHOLD) for n in names),
            ),
            distribution="Categorical",
            arguments=lambda p, trials, xp: {
                "logit_p": xp.stack(alike(logs(p, names, cut, xp)), axis=-1)
            },
            numeric=lambda p, trials: Shares(probabilities(p)),
            mean=probabilities,
            core=core,
            score=None if slopes is None else score,
            by_mean=by_mean if of_logistic is not None and link == "logit" else None,
            problem=is_category(len(labels)),
            discrete=True,
            categories=Categories(
                labels=labels,
                parameters=names,
                links=links,
                made=made,
                start=lambda shares: start(shares, LINKS[link].linkfun),
                thresholds=True,
                rising=name == "cumulative",
            ),
        )

    return made(("1", "2", "3"), "logit")


def alike(values: list[Any]) -> list[Any]:
    """Bring a graph's numbers and vectors to one shape, so that they can be stacked."""
    total = sum(0.0 * value for value in values)
    return [value + total for value in values]


def is_category(size: int) -> Callable[..., tuple[int, str] | None]:
    """Make the check that values are the numbers of categories."""

    def problem(y: Array, trials: Array | None) -> tuple[int, str] | None:
        at = first(~np.isin(y, np.arange(size)))
        return None if at is None else (at, f"values must be among the {size} categories")

    return problem


CUMULATIVE = add_family(
    _ordered(
        "cumulative",
        _cumulative,
        _start_cumulative,
        _cumulative_at,
        _cumulative_score,
        _cumulative_by_mean,
    )
)
SRATIO = add_family(_ordered("sratio", _stopping, _start_stopping))
CRATIO = add_family(_ordered("cratio", _continuing, _start_continuing))
ACAT = add_family(_ordered("acat", _adjacent, _start_adjacent))
