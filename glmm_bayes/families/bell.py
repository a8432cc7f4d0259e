"""The Bell family: counts whose variance grows with the mean as mu (1 + W(mu))."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.special import gammaln, lambertw

from glmm_bayes.families.counts import MU
from glmm_bayes.families.family import Array, Family, Params, add_family, counts
from glmm_bayes.families.opaque import opaque
from glmm_bayes.families.stated import Stated, stated_arguments
from glmm_bayes.families.summed import by_arrays, count_sums
from glmm_bayes.families.tabulated import Tabulated
from glmm_bayes.taylor import Taylor

REACH = 14.0  # standard deviations around the largest term of Dobinski's sum


def lambert(x: Any) -> Any:
    """Give Lambert's W of x > 0: W exp(W) = x."""
    return x.compose(_lambert(x.value)) if isinstance(x, Taylor) else next(_lambert(x))


def _lambert(x: Any) -> Iterator[Any]:
    w = lambertw(x).real
    yield w
    one, rest = np.exp(-w) / (1 + w), np.exp(-w) / (1 + w) ** 2
    yield one
    yield -one * rest * (2 + w)
    yield one * rest**2 * (9 + 8 * w + 2 * w * w)


def log_bell(y: Array) -> Array:
    """
    Give the logarithms of Bell's numbers: of the partitions of a set of y elements.

    Notes
    -----
    By Dobinski's sum of k^y / k! over k, around its largest term: exp(1) times the number.
    """
    values, back = np.unique(np.ravel(y), return_inverse=True)
    return np.array([_one_log_bell(float(v)) for v in values])[back].reshape(np.shape(y))


def _one_log_bell(n: float) -> float:
    if n == 0:
        return 0.0
    peak = n / lambertw(n).real
    reach = REACH * np.sqrt(peak / (1 + n / peak)) + 40.0
    k = np.arange(max(1.0, np.floor(peak - reach)), np.ceil(peak + reach))
    terms = n * np.log(k) - gammaln(k + 1)
    top = terms.max()
    return float(top + np.log(np.exp(terms - top).sum()) - 1.0)


def _core(y: Array, trials: Array | None, p: Params) -> Any:
    rate = lambert(p["mu"])
    return np.where(y > 0, np.log(rate) * y, 0.0) - np.expm1(rate)


def _constant(y: Array) -> Array:
    return log_bell(y) - gammaln(y + 1)


def _log_mass(k: Array, p: Params) -> Any:
    some = np.maximum(k, 0.0)
    return np.where(k < 0, -np.inf, _core(some, None, p) + _constant(some))


def _bell(p: Params, trials: Any) -> Tabulated:
    mu = np.asarray(p["mu"], float)
    rate = lambert(mu)

    def log_mass(y: Array) -> Array:
        return y * np.log(rate) - np.expm1(rate) + _constant(y)

    return Tabulated(log_mass, mu, np.sqrt(mu * (1 + rate)))


BELL = add_family(
    Family(
        name="bell",
        parameters=(MU,),
        distribution=Stated(
            "Bell",
            opaque("Bell", lambda y, trials, p: _core(y, trials, p) + _constant(y), ["mu"], ["mu"]),
            _bell,
            discrete=True,
        ),
        arguments=stated_arguments,
        numeric=_bell,
        mean=lambda p: p["mu"],
        variance=lambda p, trials: p["mu"] * (1 + lambert(p["mu"])),
        core=_core,
        tails=by_arrays("bell", lambda y, p: count_sums(_log_mass, p["mu"], y, p), ("mu",)),
        constant=lambda y, trials: _constant(y),
        problem=counts,
        discrete=True,
    )
)
