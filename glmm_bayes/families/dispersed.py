"""Families of counts that are more, or less, spread than the Poisson's, beside `counts`."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import gamma as gamma_function
from scipy.special import gammaincc, gammaln

from glmm_bayes.arrays import NUMPY, graph
from glmm_bayes.families.continuous import UNIT_LINKS, shape
from glmm_bayes.families.counts import MU, NEGBINOMIAL, on_graph
from glmm_bayes.families.family import Array, Family, Parameter, Params, add_family, counts
from glmm_bayes.families.incomplete import count_tails
from glmm_bayes.families.links import UNIT
from glmm_bayes.families.special import log_complement, log_peak
from glmm_bayes.families.stated import Stated, stated_arguments
from glmm_bayes.families.summed import by_arrays, count_sums
from glmm_bayes.families.tabulated import Tabulated
from glmm_bayes.families.tails import hazard_tails

# Underdispersed, the generalised Poisson ends at mu / (1 - sqrt phi); where that is farther than
# this, its probabilities sum to 1 within 1e-13 unless phi is below 0.01.
SHORT = 128
STEEP = 300.0  # of a hazard's logarithm
NOTHING = -740.0  # exp of it is 0 beside 1


def stirling(y: Array) -> Array:
    """Give y log(y) - y - log(y!), 0 at 0: a Poisson's log probability of y at the mean y."""
    some = np.maximum(y, 1.0)
    return np.where(y > 0, log_peak(some) - np.log(some), 0.0)


def _end(mu: Any, root: Any, xp: Any) -> Any:
    """Give where an underdispersed distribution ends; far away where it does not."""
    under = root < 1
    return xp.where(under, mu / (1 - xp.where(under, root, 0.0)), 2.0 * SHORT)


def _genpois_raw(y: Any, mu: Any, root: Any, xp: Any) -> Any:
    """
    Give the log probability without `stirling(y)`, not normalised where root < 1.

    Notes
    -----
    theta (theta + lambda y)^(y - 1) exp(-theta - lambda y) / y!, theta = mu / root and
    lambda = 1 - 1 / root: Consul & Jain (1973), Technometrics 15, 791-799. Written with
    theta + lambda y = y (1 + d); no count over 1 has a probability where that is not positive.
    """
    some = xp.where(y > 0, y, 1.0)
    d = (mu - some) / (root * some)
    inside = d > -1 + 1e-12
    power = (some - 1) * xp.log1p(xp.where(inside, d, 0.0))
    counted = xp.log(mu) - xp.log(root * some) + power - some * xp.where(inside | (y < 2), d, 0.0)
    return xp.where(y > 0, xp.where(inside | (y < 2), counted, -np.inf), -mu / root)


def _genpois_log_mass(mu: Array, root: Array) -> Any:
    """Sum the probabilities of an underdispersed distribution that ends soon; else give 0."""
    short = (root < 1) & (_end(mu, root, NUMPY) < SHORT)
    if not np.any(short):
        return 0.0
    end = int(np.max(np.where(short, _end(_plain(mu), _plain(root), NUMPY), 0.0))) + 1
    places = [np.asarray(float(k)) for k in range(end + 1)]
    logs = [_genpois_raw(y, mu, root, NUMPY) + stirling(y) for y in places]
    # Beside the largest the others may be less than the last digit of 1.
    largest = np.argmax(np.stack(np.broadcast_arrays(*map(_plain, logs))), axis=0)
    top: Any = logs[0]
    for k, each in enumerate(logs):
        top = np.where(largest == k, each, top)
    others: Any = sum(
        np.where(largest == k, 0.0, np.exp(np.maximum(each - top, NOTHING)))
        for k, each in enumerate(logs)
    )
    found = top + np.log1p(others)
    return np.where(short, found, 0.0)


def _plain(x: Any) -> Any:
    return getattr(x, "value", x)


def _genpois_core(y: Array, trials: Array | None, p: Params) -> Any:
    mu, root = p["mu"], np.sqrt(p["phi"])
    return _genpois_raw(y, mu, root, NUMPY) - _genpois_log_mass(mu, root)


def _genpois_graph(y: Any, p: Params, trials: Any) -> Any:
    import pytensor.tensor as pt

    xp, mu, root = graph(), p["mu"], pt.sqrt(p["phi"])
    k = np.arange(SHORT + 1.0)
    terms = _genpois_raw(k, mu[..., None], root[..., None], xp) + stirling(k)
    short = pt.lt(root, 1) & pt.lt(_end(mu, root, xp), SHORT)
    rises = terms[..., 1:] - terms[..., :1]
    # Beside a zero all others may be less than the last digit of 1.
    rare = pt.max(rises, axis=-1) < 0
    others = pt.sum(pt.exp(pt.switch(rare[..., None], rises, 0.0)), axis=-1)
    total = pt.switch(rare, terms[..., 0] + pt.log1p(others), pt.logsumexp(terms, axis=-1))
    mass = pt.switch(short, total, 0.0)
    whole = y.astype("float64")
    constant = whole * pt.log(pt.maximum(whole, 1.0)) - whole - pt.gammaln(whole + 1)
    return _genpois_raw(whole, mu, root, xp) - mass + constant


def _genpois_moments(p: Params) -> tuple[Array, Array]:
    mu, phi = np.broadcast_arrays(np.asarray(p["mu"], float), np.asarray(p["phi"], float))
    mean, variance, root = np.array(mu), np.array(mu * phi), np.sqrt(phi)
    short = (root < 1) & (_end(mu, root, NUMPY) < SHORT)
    if short.any():
        k = np.arange(SHORT + 1.0)
        at, by = mu[short][:, None], root[short][:, None]
        mass = np.exp(_genpois_raw(k, at, by, NUMPY) + stirling(k))
        mass = mass / mass.sum(axis=1, keepdims=True)
        mean[short] = mass @ k
        variance[short] = (mass * (k - mean[short][:, None]) ** 2).sum(axis=1)
    return mean, variance


def _genpois(p: Params, trials: Any) -> Tabulated:
    mu, phi = np.broadcast_arrays(np.asarray(p["mu"], float), np.asarray(p["phi"], float))
    log_mass = _genpois_log_mass(mu, np.sqrt(phi))

    def of(y: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            theta, lam = mu / np.sqrt(phi), 1 - 1 / np.sqrt(phi)
            rate = theta + lam * y
            power = np.where(y < 2, 0.0, (y - 1) * np.log(rate))
            log_p = np.where(y > 0, np.log(theta) + power, 0.0) - rate - gammaln(y + 1) - log_mass
            return np.where((rate > 1e-12 * y) | (y < 2), log_p, -np.inf)

    return Tabulated(of, mu, np.sqrt(mu * phi))


def _genpois_tails(y: Array, p: Params) -> Any:
    mu, root = p["mu"], np.sqrt(p["phi"])
    log_mass = _genpois_log_mass(mu, root)

    def of(k: Array, p: Params) -> Any:
        some = np.maximum(k, 0.0)
        found = _genpois_raw(some, mu, root, NUMPY) + stirling(some) - log_mass
        return np.where(k < 0, -np.inf, found)

    return count_sums(of, mu, y, p)


GENPOIS = add_family(
    Family(
        name="genpois",
        parameters=(MU, shape("phi")),
        distribution=Stated("GeneralizedPoisson", _genpois_graph, _genpois, discrete=True),
        arguments=stated_arguments,
        numeric=_genpois,
        mean=lambda p: _genpois_moments(p)[0],
        variance=lambda p, trials: _genpois_moments(p)[1],
        core=_genpois_core,
        tails=by_arrays("genpois", _genpois_tails, ("mu", "phi")),
        constant=lambda y, trials: stirling(y),
        problem=counts,
        discrete=True,
    )
)


def _size(p: Params) -> Any:
    return p["mu"] * p["psi"] / (p["phi"] * p["psi"] + p["mu"])


def _over(p: Params) -> Any:
    """Give log(phi + mu / psi) on the graph."""
    xp = graph()
    log_phi = xp.log(p["phi"])
    return log_phi + xp.softplus(xp.log(p["mu"]) - xp.log(p["psi"]) - log_phi)


def _as_negbinomial(p: Params) -> Params:
    return {"mu": p["mu"], "alpha": _size(p)}


def _nbinom12(p: Params, trials: Any) -> Any:
    return NEGBINOMIAL.numeric(_as_negbinomial(p), trials)  # type: ignore[misc]


NBINOM12 = add_family(
    Family(
        name="nbinom12",
        parameters=(MU, shape("phi"), shape("psi")),
        distribution=on_graph(_over, lambda p: p["mu"] * graph().exp(-_over(p)), _nbinom12),
        arguments=stated_arguments,
        numeric=_nbinom12,
        mean=lambda p: p["mu"],
        variance=lambda p, trials: p["mu"] * (1 + p["phi"] + p["mu"] / p["psi"]),
        core=lambda y, trials, p: NEGBINOMIAL.core(y, trials, _as_negbinomial(p)),  # type: ignore[misc]
        tails=by_arrays(
            "nbinom12", lambda y, p: count_tails(y, p["mu"], _size(p)), ("mu", "phi", "psi")
        ),
        constant=NEGBINOMIAL.constant,
        problem=counts,
        discrete=True,
    )
)


def _weibull_log_mass(y: Any, p: Params, xp: Any) -> Any:
    """Give log(mu^(y^alpha) - mu^((y + 1)^alpha))."""
    rate, alpha, some = -xp.log(p["mu"]), p["alpha"], xp.where(y > 0, y, 1.0)
    power = xp.exp(alpha * xp.log(some))
    rise = alpha * xp.log1p(1 / some)
    # Beyond, nothing is left of what survives; its slopes would overflow.
    step = xp.where(y > 0, power * xp.expm1(xp.where(rise < STEEP, rise, STEEP)), 1.0)
    return xp.where(y > 0, -rate * power, 0.0) + log_complement(-rate * step, xp)


@dataclass(frozen=True, eq=False)
class DiscreteWeibull:
    """The discrete Weibull distribution, frozen: P(Y >= y) = q^(y^alpha)."""

    q: Array
    alpha: Array
    direct = np.arange(512.0)

    def logpmf(self, y: Array) -> Array:
        """Give the log probability of y, by the ratio of two survivals."""
        c, y = -np.log(self.q), np.asarray(y, float)
        below, above = y**self.alpha, (y + 1) ** self.alpha
        return -c * below + np.log1p(-np.exp(-c * (above - below)))

    def cdf(self, y: Array) -> Array:
        """Give P(Y <= y)."""
        from_zero = np.maximum(np.floor(y), -1.0) + 1
        return -np.expm1(np.log(self.q) * from_zero**self.alpha)

    def rvs(self, size: Any, random_state: np.random.Generator) -> Array:
        """Draw: a Weibull variable, rounded down."""
        waited = random_state.exponential(size=size) / -np.log(self.q)
        return np.floor(waited ** (1 / self.alpha)).astype(int)

    def stats(self, moments: str) -> tuple[Array, Array]:
        """
        Give mean and variance.

        Notes
        -----
        E Y = sum of P(Y >= y) and E Y² = sum of (2 y - 1) P(Y >= y), over y from 1: some hundred
        terms, and the rest by an integral from the middle between two terms, with the first
        correction of Euler and Maclaurin.
        """
        q, alpha = np.broadcast_arrays(np.asarray(self.q, float), np.asarray(self.alpha, float))
        c, k = -np.log(q), self.direct[1:].reshape(-1, *[1] * q.ndim)
        survival = np.exp(-c * k**alpha)
        end = self.direct[-1] + 0.5
        last, slope = np.exp(-c * end**alpha), -c * alpha * end ** (alpha - 1)
        one = survival.sum(axis=0) + self._beyond(1.0, end) + last * slope / 24
        moved = 2 * end - 1
        two = ((2 * k - 1) * survival).sum(axis=0) + 2 * self._beyond(2.0, end)
        two = two - self._beyond(1.0, end) + last * (2 + moved * slope) / 24
        return one, two - one**2

    def _beyond(self, power: float, end: float) -> Array:
        """Integrate y^(power - 1) exp(-c y^alpha) from `end` on."""
        c, a = -np.log(self.q), power / self.alpha
        with np.errstate(over="ignore"):
            return gammaincc(a, c * end**self.alpha) * gamma_function(a) / (self.alpha * c**a)


def _discrete_weibull(p: Params, trials: Any) -> DiscreteWeibull:
    return DiscreteWeibull(p["mu"], p["alpha"])


DISCRETE_WEIBULL = add_family(
    Family(
        name="discrete_weibull",
        parameters=(Parameter("mu", "logit", UNIT_LINKS, UNIT), shape("alpha")),
        # PyMC's own loses the probability in both tails.
        distribution=Stated(
            "DiscreteWeibull",
            lambda y, p, trials: _weibull_log_mass(y, p, graph()),
            _discrete_weibull,
            discrete=True,
        ),
        arguments=stated_arguments,
        numeric=_discrete_weibull,
        mean=lambda p: _discrete_weibull(p, None).stats("mv")[0],
        variance=lambda p, trials: _discrete_weibull(p, trials).stats("mv")[1],
        core=lambda y, trials, p: _weibull_log_mass(y, p, NUMPY),
        tails=lambda y, p, xp: hazard_tails(
            -xp.log(p["mu"]) * xp.exp(p["alpha"] * xp.log(y + 1)), xp
        ),
        problem=counts,
        # Of shape 1, which is geometric, the mean is mu / (1 - mu).
        working=lambda y: y / (1 + y),
        discrete=True,
    )
)
