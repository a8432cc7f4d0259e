"""Log probabilities below, above and between cuts of a latent variable, exact in the tails."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from glmm_bayes.families.continuous import HALF_LOG_2PI
from glmm_bayes.families.links import LINKS, REAL, Link
from glmm_bayes.families.special import softplus

type Function = Callable[..., Any]

LEAST, MOST = -40.0, 10.0  # of log(h), beyond which log(1 - exp(-h)) is log(h), is 0


@dataclass(frozen=True, eq=False)
class Cut:
    """
    The distribution F of the latent variable, by the logarithms that ordered responses need.

    Attributes
    ----------
    below, above
        `below(a, xp)` = log F(a) and `above(b, xp)` = log(1 - F(b)).
    between
        `between(a, b, xp)` = log(F(a) - F(b)), for a > b.
    log_density
        `log_density(x)`: of F, on arrays.
    """

    below: Function
    above: Function
    between: Function
    log_density: Function


def _log_event(eta: Any, xp: Any) -> Any:
    """Give log(1 - exp(-exp(eta))): where it is eta, or 0, to every digit, as just that."""
    far = xp.where(eta < LEAST, LEAST, xp.where(eta > MOST, MOST, eta))
    exact = xp.log(-xp.expm1(-xp.exp(far)))
    return exact + xp.where(eta < LEAST, eta - LEAST, 0.0)


def _logit_between(a: Any, b: Any, xp: Any) -> Any:
    # F(a) - F(b) = F(a) (1 - F(b)) (1 - exp(b - a))
    return _gap(a, b, xp) - xp.softplus(-a) - xp.softplus(b)


def _gap(a: Any, b: Any, xp: Any) -> Any:
    return xp.log(-xp.expm1(b - a))


def _probit_between(a: Any, b: Any, xp: Any) -> Any:
    # In the tail that is smaller: in the other both probabilities round to one.
    left = a + b < 0
    high, low = xp.where(left, a, -b), xp.where(left, b, -a)
    log_high = xp.log_ndtr(high)
    return log_high + xp.log(-xp.expm1(xp.log_ndtr(low) - log_high))


def _cloglog_between(a: Any, b: Any, xp: Any) -> Any:
    # exp(-h) - exp(-g) = exp(-h) (1 - exp(-(g - h))), h = exp(b) and g = exp(a)
    return -xp.exp(b) + _log_event(a + _gap(a, b, xp), xp)


def _cauchit_below(a: Any, xp: Any) -> Any:
    return xp.log(LINKS["cauchit"].linkinv(a, xp))


def _cauchit_between(a: Any, b: Any, xp: Any) -> Any:
    # arctan(a) - arctan(b) is the angle whose tangent is gap / along.
    gap, along = a - b, 1 + a * b
    near = along > gap
    small = xp.arctan(gap / xp.where(near, along, 1.0))
    large = 0.5 * np.pi - xp.arctan(xp.where(near, 0.0, along) / gap)
    return xp.log(xp.where(near, small, large) / np.pi)


CUTS = {
    "logit": Cut(
        below=lambda a, xp: -xp.softplus(-a),
        above=lambda b, xp: -xp.softplus(b),
        between=_logit_between,
        log_density=lambda x: -softplus(x) - softplus(-x),
    ),
    "probit": Cut(
        below=lambda a, xp: xp.log_ndtr(a),
        above=lambda b, xp: xp.log_ndtr(-b),
        between=_probit_between,
        log_density=lambda x: -0.5 * x * x - HALF_LOG_2PI,
    ),
    "cloglog": Cut(
        below=_log_event,
        above=lambda b, xp: -xp.exp(b),
        between=_cloglog_between,
        log_density=lambda x: x - np.exp(x),
    ),
    "loglog": Cut(
        below=lambda a, xp: -xp.exp(-a),
        above=lambda b, xp: _log_event(-b, xp),
        between=lambda a, b, xp: _cloglog_between(-b, -a, xp),
        log_density=lambda x: -x - np.exp(-x),
    ),
    "cauchit": Cut(
        below=_cauchit_below,
        above=lambda b, xp: _cauchit_below(-b, xp),
        between=_cauchit_between,
        log_density=lambda x: -np.log(np.pi * (1 + x * x)),
    ),
}


def latent_link(name: str) -> Link:
    """Give the link by its name where the predictor is the parameter: F is in the density."""
    identity = LINKS["identity"]
    return Link(name, identity.linkfun, identity.linkinv, identity.slope, REAL)
