"""Families of yes and no, and of successes among trials."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import gammaln, log_ndtr, xlog1py, xlogy

from glmm_bayes.families.continuous import HALF_LOG_2PI, UNIT_LINKS, scipy_stats, shape
from glmm_bayes.families.family import (
    Array,
    Family,
    Natural,
    Parameter,
    Params,
    add_family,
    first,
    whole,
)
from glmm_bayes.families.links import LINKS, UNIT
from glmm_bayes.families.special import (
    digamma_rising,
    log_rising,
    logistic,
    rising_on_graph,
    softplus,
)
from glmm_bayes.families.stated import Stated, stated_arguments

type Function = Callable[[Array], Array]

MU = Parameter("mu", "logit", UNIT_LINKS, UNIT)


def _core(y: Array, trials: Array | None, params: Params) -> Array:
    n = 1.0 if trials is None else trials
    return xlogy(y, params["mu"]) + xlog1py(n - y, -params["mu"])


def _score(y: Array, trials: Array | None, params: Params) -> dict[str, Array]:
    n, mu = 1.0 if trials is None else trials, params["mu"]
    with np.errstate(divide="ignore", invalid="ignore"):
        lost = np.where(n > y, (n - y) / (1 - mu), 0.0)
        return {"mu": np.where(y > 0, y / mu, 0.0) - lost}


def _logit_curves(y: Array, trials: Array | None, eta: Array) -> tuple[Array, ...]:
    n = 1.0 if trials is None else trials
    e = np.exp(-np.abs(eta))
    likelier = 1.0 / (1.0 + e)
    p, w = np.where(eta >= 0, likelier, e * likelier), n * e * likelier * likelier
    value = y * eta - n * (np.maximum(eta, 0.0) + np.log1p(e))
    return value, y - n * p, -w, w * (2 * p - 1)


LOGIT = Natural(
    core=lambda y, n, eta: y * eta - (1.0 if n is None else n) * softplus(eta),
    score=lambda y, n, eta: y - (1.0 if n is None else n) * logistic(eta),
    curves=_logit_curves,
)


@dataclass(frozen=True, eq=False)
class Tail:
    """The log of a probability and its slope by eta, without rounding to 0 or 1 on the way."""

    log: Function
    slope: Function

    def mirrored(self) -> "Tail":
        """Give the same for the probability at -eta."""
        return Tail(lambda eta: self.log(-eta), lambda eta: -self.slope(-eta))


NORMAL = Tail(log_ndtr, lambda eta: np.exp(-0.5 * eta * eta - HALF_LOG_2PI - log_ndtr(eta)))
CAUCHY = Tail(
    lambda eta: np.log(LINKS["cauchit"].linkinv(eta)),
    lambda eta: 1 / (np.pi * (1 + eta * eta) * LINKS["cauchit"].linkinv(eta)),
)


def _log_event(eta: Array) -> Array:
    # Below -40 the logarithm is eta to every digit, and further on h would round to 0; above 10
    # it is 0 to every digit, and further on h times its derivatives would be infinity times 0.
    h = np.exp(np.minimum(np.maximum(eta, -40.0), 10.0))
    return np.log(-np.expm1(-h)) + np.minimum(eta + 40.0, 0.0)


# With h = exp(eta), 1 - exp(-h) is an event before time 1 at the constant rate h.
EVENT = Tail(_log_event, lambda eta: np.exp(eta - np.exp(eta) - _log_event(eta)))
NO_EVENT = Tail(lambda eta: -np.exp(eta), lambda eta: -np.exp(eta))


def _natural(success: Tail, failure: Tail) -> Natural:
    """Put a kernel together from the probabilities of success and failure."""

    def sum_of(won: Function, lost: Function) -> Callable[[Array, Array | None, Array], Array]:
        def evaluate(y: Array, trials: Array | None, eta: Array) -> Array:
            failures = (1.0 if trials is None else trials) - y
            with np.errstate(over="ignore", invalid="ignore"):
                by_success, by_failure = y * won(eta), failures * lost(eta)
            return np.where(y > 0, by_success, 0.0) + np.where(failures > 0, by_failure, 0.0)

        return evaluate

    return Natural(
        core=sum_of(success.log, failure.log), score=sum_of(success.slope, failure.slope)
    )


NATURAL = {
    "logit": LOGIT,
    "probit": _natural(NORMAL, NORMAL.mirrored()),
    "cauchit": _natural(CAUCHY, CAUCHY.mirrored()),
    "cloglog": _natural(EVENT, NO_EVENT),
    "loglog": _natural(NO_EVENT.mirrored(), EVENT.mirrored()),
}


def zero_or_one(y: Array, trials: Array | None) -> tuple[int, str] | None:
    """Check that a response is 0 or 1."""
    at = first((y != 0) & (y != 1))
    words = "values must be 0 or 1, False or True, or a factor of two levels"
    return None if at is None else (at, words)


def successes(y: Array, trials: Any) -> tuple[int, str] | None:
    """Check that successes are counts, no more than the trials."""
    at = first(~(whole(y) & whole(trials)))
    if at is not None:
        return at, "successes and trials must be whole and not negative"
    at = first(y > trials)
    if at is None:
        return None
    return at, f"there must not be more successes than trials ({trials[at]:g})"


def _deviance(y: Array, trials: Array | None, p: Params) -> Array:
    n = 1.0 if trials is None else trials
    divisor = np.maximum(n, 1.0)  # no trials give no deviance
    won, lost = y / (divisor * p["mu"]), (n - y) / (divisor * (1 - p["mu"]))
    return 2 * (xlogy(y, won) + xlogy(n - y, lost))


BERNOULLI = add_family(
    Family(
        name="bernoulli",
        compiled="bernoulli",
        parameters=(MU,),
        distribution="Bernoulli",
        # Of a logistic function PyTensor takes the logarithms of both sides without rounding.
        arguments=lambda p, trials, xp: {"p": xp.unrounded(p["mu"])},
        numeric=lambda p, trials: scipy_stats().bernoulli(p["mu"]),
        mean=lambda p: p["mu"],
        variance=lambda p, trials: p["mu"] * (1 - p["mu"]),
        core=_core,
        score=_score,
        natural=NATURAL,
        problem=zero_or_one,
        deviance=_deviance,
        discrete=True,
        binary=True,
    )
)


def _choose(y: Array, n: Any) -> Array:
    return gammaln(n + 1) - gammaln(y + 1) - gammaln(n - y + 1)


BINOMIAL = add_family(
    Family(
        name="binomial",
        compiled="binomial",
        parameters=(MU,),
        distribution="Binomial",
        arguments=lambda p, trials, xp: {"n": trials, "p": xp.unrounded(p["mu"])},
        numeric=lambda p, trials: scipy_stats().binom(np.asarray(trials, int), p["mu"]),
        mean=lambda p: p["mu"],
        variance=lambda p, trials: trials * p["mu"] * (1 - p["mu"]),
        core=_core,
        score=_score,
        constant=lambda y, trials: _choose(y, trials),
        natural=NATURAL,
        problem=successes,
        deviance=_deviance,
        discrete=True,
        needs_trials=True,
    )
)


def _shapes(p: Params) -> tuple[Array, Array]:
    return p["mu"] * p["phi"], (1 - p["mu"]) * p["phi"]


def _beta_binomial_core(y: Array, trials: Any, params: Params) -> Array:
    a, b = _shapes(params)
    return log_rising(y, a) + log_rising(trials - y, b) - log_rising(trials, params["phi"])


def _beta_binomial_on_graph(value: Any, p: Params, trials: Any) -> Any:
    import pytensor.tensor as pt

    y, n = value.astype("float64"), pt.as_tensor(trials).astype("float64")
    a, b = _shapes(p)
    # Not n - y, whose terms PyTensor would add to b one by one.
    lost = pt.switch(n > y, n - y, 0.0)
    rises = rising_on_graph(y, a) + rising_on_graph(lost, b) - rising_on_graph(n, p["phi"])
    return rises + pt.gammaln(n + 1) - pt.gammaln(y + 1) - pt.gammaln(n - y + 1)


def _beta_binomial_numeric(p: Params, trials: Any) -> Any:
    return scipy_stats().betabinom(np.asarray(trials, int), *_shapes(p))


def _beta_binomial_score(y: Array, trials: Any, params: Params) -> dict[str, Array]:
    mu, phi = params["mu"], params["phi"]
    a, b = _shapes(params)
    by_a, by_b = digamma_rising(y, a), digamma_rising(trials - y, b)
    by_phi = mu * by_a + (1 - mu) * by_b - digamma_rising(trials, phi)
    return {"mu": phi * (by_a - by_b), "phi": by_phi}


BETA_BINOMIAL = add_family(
    Family(
        name="beta_binomial",
        compiled="beta_binomial",
        parameters=(MU, shape("phi")),
        # PyMC's own takes differences of its largest terms where phi is large.
        distribution=Stated(
            "BetaBinomial", _beta_binomial_on_graph, _beta_binomial_numeric, discrete=True
        ),
        arguments=stated_arguments,
        numeric=_beta_binomial_numeric,
        mean=lambda p: p["mu"],
        variance=lambda p, trials: (
            trials * p["mu"] * (1 - p["mu"]) * (1 + (trials - 1) / (1 + p["phi"]))
        ),
        core=_beta_binomial_core,
        score=_beta_binomial_score,
        constant=lambda y, trials: _choose(y, trials),
        problem=successes,
        discrete=True,
        needs_trials=True,
    )
)
