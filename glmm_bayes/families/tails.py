"""Logs of distribution functions and their complements, with derivatives: of rows seen as sets."""

from typing import Any

import numpy as np
from scipy.special import gammaincc, gammaln

from glmm_bayes.arrays import NUMPY
from glmm_bayes.families.special import log_complement
from glmm_bayes.taylor import Taylor

type Tails = tuple[Any, Any]  # log P(Y <= y) and log P(Y > y)

NODES, WEIGHTS = np.polynomial.laguerre.laggauss(60)
RARE = 1e-3  # below, 1 - P has lost digits
ENOUGH = 1e-20


def normal_tails(z: Any, xp: Any) -> Tails:
    """Give those of a standard normal variable."""
    return xp.log_ndtr(z), xp.log_ndtr(-z)


def logistic_tails(x: Any, xp: Any) -> Tails:
    """Give those of a standard logistic variable."""
    return -xp.softplus(-x), -xp.softplus(x)


def hazard_tails(hazard: Any, xp: Any) -> Tails:
    """Give those of a variable with this cumulative hazard."""
    return log_complement(-hazard, xp), -hazard


def inverse_gaussian_tails(y: Any, mu: Any, lam: Any, xp: Any) -> Tails:
    """Give those of an inverse Gaussian variable; Chhikara & Folks (1974), JASA 69, 250-254."""
    root = xp.sqrt(lam / y)
    near, far = root * (y / mu - 1), -root * (y / mu + 1)
    other = 2 * lam / mu + xp.log_ndtr(far)
    above = xp.log_ndtr(-near)
    rise = xp.softplus(other - xp.log_ndtr(near))
    return xp.log_ndtr(near) + rise, above + log_complement(other - above, xp)


def gamma_tails(a: Any, x: Any, xp: Any) -> Tails:
    """
    Give those of a gamma variable of shape a and scale 1, at x.

    Notes
    -----
    The series of the incomplete gamma function, Abramowitz & Stegun (1964), 6.5.29; far above
    the mean Laguerre's quadrature of what is left, scaled by its decay at x. Both are sums of
    positive terms, and so are exact with their derivatives.
    """
    if xp is not NUMPY:
        import pytensor.tensor as pt

        return pt.log(pt.gammainc(a, x)), pt.log(pt.gammaincc(a, x))
    shape, at = (v.value if isinstance(v, Taylor) else v for v in (a, x))
    rare = np.asarray(gammaincc(shape, at) < RARE)
    below = _log_below(a, np.where(rare, shape, x))
    above = _log_above(a, np.where(rare, x, 4 * shape + 10))
    return (
        np.where(rare, log_complement(above), below),
        np.where(rare, above, log_complement(below)),
    )


def _log_below(a: Any, x: Any) -> Any:
    term: Any = 1 / a + 0 * x
    total: Any = term
    for n in range(1, 100_000):
        term = term * (x / (a + n))
        total = total + term
        if np.all(_number(term) <= ENOUGH * _number(total)):
            break
    return a * np.log(x) - x - gammaln(a) + np.log(total)


def _log_above(a: Any, x: Any) -> Any:
    decay = 1 - (_number(a) - 1) / _number(x)
    total: Any = 0.0
    for node, weight in zip(NODES, WEIGHTS, strict=True):
        grown = (a - 1) * np.log1p(node / decay / x) + node * (1 - 1 / decay)
        total = total + weight / decay * np.exp(grown)
    return (a - 1) * np.log(x) - x - gammaln(a) + np.log(total)


def _number(x: Any) -> Any:
    return x.value if isinstance(x, Taylor) else x
