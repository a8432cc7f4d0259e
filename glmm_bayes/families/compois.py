"""
The Conway-Maxwell-Poisson family, by its mean: counts less or more spread than the Poisson's.

P(y) = lambda^y / (y!)^nu / Z, with nu = 1 / phi and lambda such that the mean is mu: Huang (2017),
Statistical Modelling 17, 359-380. Sums over the counts are taken as they are, around the mean.
"""

from typing import Any

import numpy as np

from glmm_bayes.families.continuous import shape
from glmm_bayes.families.counts import MU
from glmm_bayes.families.family import Array, Family, Params, add_family, counts
from glmm_bayes.families.maxwell import Sums, distance, sums
from glmm_bayes.families.opaque import opaque
from glmm_bayes.families.stated import Stated, stated_arguments
from glmm_bayes.families.summed import by_arrays, count_sums
from glmm_bayes.families.tabulated import Tabulated
from glmm_bayes.taylor import Taylor, expanded
from glmm_bayes.taylor.monomials import Monomial

STIFF = 1e8  # of nu: beyond, all are on the two counts next to the mean
STILL = 1e-60  # of a variance over the mean


def _core(y: Array, trials: Array | None, p: Params) -> Any:
    mu, nu = p["mu"], np.minimum(1 / p["phi"], STIFF)
    if not isinstance(mu, Taylor):
        return _log_mass(y, mu, sums(mu, nu))
    found = sums(mu.value, nu.value if isinstance(nu, Taylor) else nu)
    partials: dict[Monomial, Any] = {(): _log_mass(y, mu.value, found)}
    return expanded(partials | _partials(y, mu.value, found), [mu / mu.value, nu])


def _mass_of(k: Array, p: Params) -> Any:
    return np.where(k < 0, -np.inf, _core(np.maximum(k, 0.0), None, p))


def _log_mass(y: Array, mu: Array, found: Sums) -> Array:
    return found.delta * (y - mu) - found.nu * distance(y, mu) - found.log_total


def _partials(y: Array, mu: Array, s: Sums) -> dict[Monomial, Array]:
    """
    Give the derivatives by mu, in units of it, and by nu, to third order.

    Notes
    -----
    With theta(mu, nu) the log of lambda, log P = y theta - nu w(y) - L(theta, nu), and the
    derivatives of L are the joint cumulants of y and -w, in which theta follows from
    L_theta = mu. A and B are theta's slopes by mu and nu. Cumulants are over the variance, and a
    slope by mu is times mu: neither overflows where mu is very small or large.
    """
    variance = np.maximum(s.cumulants[2, 0], STILL * mu)
    k = {order: cumulant / variance for order, cumulant in s.cumulants.items()}
    D, R = y - mu, distance(y, mu) - s.mean_distance
    A, B = mu / variance, k[1, 1]
    V_n, C_n = k[3, 0] * B - k[2, 1], k[2, 1] * B - k[1, 2]
    A_m, A_n, B_n = -k[3, 0] * A * A, -V_n * A, C_n - B * V_n
    V_nn = k[4, 0] * B * B - 2 * k[3, 1] * B + k[2, 2] + k[3, 0] * B_n
    C_nn = k[3, 1] * B * B - 2 * k[2, 2] * B + k[1, 3] + k[2, 1] * B_n
    A_mm = (3 * k[3, 0] ** 2 - k[4, 0]) * A**3
    A_mn = (3 * k[3, 0] * V_n - k[4, 0] * B + k[3, 1]) * A * A
    A_nn = (2 * V_n * V_n - V_nn) * A
    B_nn = C_nn - 2 * C_n * V_n + B * (2 * V_n * V_n - V_nn)
    W_n = variance * (B * B - k[0, 2])
    W_nn = variance * (C_n * B + B * B_n - (k[1, 2] * B - k[0, 3]))
    return {
        (0,): D * A,
        (1,): D * B - R,
        (0, 0): D * A_m - mu * A,
        (0, 1): D * A_n,
        (1, 1): D * B_n + W_n,
        (0, 0, 0): D * A_mm - 2 * mu * A_m,
        (0, 0, 1): D * A_mn - mu * A_n,
        (0, 1, 1): D * A_nn,
        (1, 1, 1): D * B_nn + W_nn,
    }


def _compois(p: Params, trials: Any) -> Tabulated:
    mu = np.asarray(p["mu"], float)
    found = sums(mu, 1 / np.asarray(p["phi"], float))
    return Tabulated(lambda y: _log_mass(y, mu, found), mu, np.sqrt(found.cumulants[2, 0]))


COMPOIS = add_family(
    Family(
        name="compois",
        parameters=(MU, shape("phi")),
        distribution=Stated(
            "COMPoisson",
            opaque("COMPoisson", _core, ["mu", "phi"], ["mu", "phi"]),
            _compois,
            discrete=True,
        ),
        arguments=stated_arguments,
        numeric=_compois,
        mean=lambda p: p["mu"],
        variance=lambda p, trials: sums(p["mu"], 1 / np.asarray(p["phi"])).cumulants[2, 0],
        core=_core,
        tails=by_arrays("compois", lambda y, p: count_sums(_mass_of, p["mu"], y, p), ("mu", "phi")),
        problem=counts,
        discrete=True,
    )
)
