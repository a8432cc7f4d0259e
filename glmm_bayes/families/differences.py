"""The Skellam family: differences of two counts."""

from functools import cache
from typing import Any

import numpy as np
from numpy.polynomial import Polynomial
from scipy.special import gammaln

from glmm_bayes.families.continuous import scipy_stats, shape
from glmm_bayes.families.family import Array, Family, Parameter, Params, add_family, first
from glmm_bayes.families.links import REAL
from glmm_bayes.families.opaque import opaque
from glmm_bayes.families.stated import Stated, stated_arguments
from glmm_bayes.families.summed import by_arrays, count_sums

FAR = 40.0  # from here on eight terms of Debye's expansion are exact to 1e-13


@cache
def _debye(terms: int = 9) -> list[Array]:
    """
    Give the coefficients by p² of U_k(p) / p^k of Debye's expansions, k from 0.

    Notes
    -----
    U_{k+1} = p² (1 - p²) U_k' / 2 + the integral of (1 - 5 p²) U_k / 8: NIST's Digital Library
    of Mathematical Functions, 10.41.9.
    """
    p = Polynomial([0.0, 1.0])
    found = [Polynomial([1.0])]
    for _ in range(terms - 1):
        u = found[-1]
        found.append(0.5 * p**2 * (1 - p**2) * u.deriv() + (u * (1 - 5 * p**2) / 8).integ())
    return [u.coef[k::2] for k, u in enumerate(found)]


def log_bessel(n: Array, x: Any) -> Any:
    """
    Give log I_n(x) - x, the modified Bessel function of whole order n >= 0, scaled, for x > 0.

    Notes
    -----
    By its series, whose terms are positive, where n² + x² is small; else by Debye's uniform
    expansion in 1 / sqrt(n² + x²), 10.41.3 of NIST's Digital Library of Mathematical Functions.
    """
    far = n * n + x * x >= FAR**2
    near_x, near_n = np.where(far, 1.0, x), np.where(far, 1.0, n)
    far_x, far_n = np.where(far, x, FAR), np.where(far, n, FAR)
    return np.where(far, _uniform(far_n, far_x), _series(near_n, near_x))


def _series(n: Array, x: Any) -> Any:
    quarter = x * x * 0.25
    term: Any = 1.0
    total: Any = 1.0
    for k in range(1, 80):
        term = term * quarter / (k * (n + k))
        total = total + term
    return np.where(n > 0, n * np.log(0.5 * x), 0.0) - gammaln(n + 1) + np.log(total) - x


def _hypotenuse(a: Any, b: Any) -> Any:
    """Give sqrt(a² + b²) of positive numbers, whose squares may be none."""
    large, small = np.maximum(a, b), np.minimum(a, b)
    share = small / large
    return large * np.sqrt(1 + share * share)


def _uniform(n: Array, x: Any) -> Any:
    size = _hypotenuse(x, n)
    inverse, share = 1 / size, n / size
    square = share * share
    total: Any = 0.0
    for coefficients in reversed(_debye()[1:]):
        u: Any = 0.0
        for c in coefficients[::-1]:
            u = u * square + c
        total = (total + u) * inverse
    # S - x, without the loss of every digit where x is the larger.
    rise = n * (n / (size + x))
    return rise - n * np.arcsinh(n / x) - 0.5 * np.log(2 * np.pi * size) + np.log1p(total)


def _log_mass(y: Array, trials: Array | None, p: Params) -> Any:
    mu, phi = p["mu"], p["phi"]
    rise = mu * (mu / (_hypotenuse(mu, phi) + phi))
    return y * np.arcsinh(mu / phi) - rise + log_bessel(np.abs(y), phi)


def _whole(y: Array, trials: Array | None) -> tuple[int, str] | None:
    at = first(~(np.isfinite(y) & (y == np.floor(y))))
    return None if at is None else (at, "differences of counts must be whole")


def _skellam(p: Params, trials: Any) -> Any:
    mu, phi = np.asarray(p["mu"], float), np.asarray(p["phi"], float)
    larger = 0.5 * (np.hypot(mu, phi) + np.abs(mu))
    smaller = 0.25 * phi * (phi / larger)
    rises = mu >= 0
    return scipy_stats().skellam(np.where(rises, larger, smaller), np.where(rises, smaller, larger))


SKELLAM = add_family(
    Family(
        name="skellam",
        parameters=(Parameter("mu", "identity", ("identity",), REAL), shape("phi")),
        distribution=Stated(
            "Skellam", opaque("Skellam", _log_mass, ["mu", "phi"], ["phi"]), _skellam, discrete=True
        ),
        arguments=stated_arguments,
        numeric=_skellam,
        mean=lambda p: p["mu"],
        variance=lambda p, trials: np.hypot(p["mu"], p["phi"]),
        core=_log_mass,
        tails=by_arrays(
            "skellam",
            lambda y, p: count_sums(lambda k, p: _log_mass(k, None, p), p["mu"], y, p),
            ("mu", "phi"),
        ),
        problem=_whole,
        discrete=True,
    )
)
