"""Families of real responses that are skew, peaked or extreme."""

from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import gamma, log_ndtr

from glmm_bayes.arrays import NUMPY, graph
from glmm_bayes.families.continuous import (
    FAR_OUT,
    HALF_LOG_2PI,
    REAL_LINKS,
    SIGMA,
    any_number,
    scipy_stats,
)
from glmm_bayes.families.family import Array, Family, Parameter, Params, add_family
from glmm_bayes.families.incomplete import plain
from glmm_bayes.families.links import REAL, UNIT
from glmm_bayes.families.special import log1p_ratio, log_complement
from glmm_bayes.families.stated import Stated, stated_arguments
from glmm_bayes.families.summed import by_arrays, integrated
from glmm_bayes.families.tails import hazard_tails
from glmm_bayes.families.written import written
from glmm_bayes.priors import Prior

MU = Parameter("mu", "identity", REAL_LINKS, REAL)
ROOT_2_PI = np.sqrt(2 / np.pi)


def _skewed(p: Params, xp: Any) -> tuple[Any, Any]:
    """Give -xi / omega at mu = 0, and omega: location and scale of a skew normal variable."""
    delta = ROOT_2_PI * p["alpha"] / xp.sqrt(1 + p["alpha"] ** 2)
    return delta, p["sigma"] / xp.sqrt(1 - delta**2)


def _slant(y: Array) -> float:
    """
    Give a slant to start from, on the side of the responses' skewness.

    At 0 the likelihood is flat, whatever the data: Azzalini (1985), Scand. J. Stat. 12, 171-178.
    """
    return 2.0 if np.mean((y - np.mean(y)) ** 3) >= 0 else -2.0


def _skew_normal(y: Any, p: Params, xp: Any) -> Any:
    delta, omega = _skewed(p, xp)
    z = (y - p["mu"]) / omega + delta
    tilt = xp.log_ndtr(p["alpha"] * z)
    return np.log(2.0) - HALF_LOG_2PI - xp.log(omega) - 0.5 * z * z + tilt


def _skew_normal_numeric(p: Params, trials: Any) -> Any:
    delta, omega = _skewed(p, np)
    return scipy_stats().skewnorm(p["alpha"], p["mu"] - omega * delta, omega)


def _skew_normal_tails(y: Array, p: Params) -> Any:
    delta, omega = _skewed(p, np)
    z, alpha = (y - p["mu"]) / omega + delta, p["alpha"]

    def log_density(z: Any) -> Any:
        return np.log(2.0) - HALF_LOG_2PI - 0.5 * z * z + log_ndtr(alpha * z)

    # Across 0 the density falls within 1 / alpha.
    steepest = float(np.max(np.abs(plain(alpha)), initial=0.0))
    return integrated(log_density, z, y < plain(p["mu"]), 1 + int(steepest / 6))


SKEW_NORMAL = add_family(
    written(
        "skew_normal",
        (
            MU,
            SIGMA,
            Parameter(
                "alpha",
                "identity",
                ("identity",),
                REAL,
                Prior("Normal", mu=0.0, sigma=4.0),
                start=_slant,
            ),
        ),
        _skew_normal,
        _skew_normal_numeric,
        mean=lambda p: p["mu"],
        variance=lambda p, trials: p["sigma"] ** 2,
        tails=by_arrays("skew_normal", _skew_normal_tails, ("mu", "sigma", "alpha")),
        problem=any_number,
    )
)


def _extreme_value(y: Any, p: Params, xp: Any) -> Any:
    gap, log_sigma = p["xi"] * (y - p["mu"]), xp.log(p["sigma"])
    inside = gap > -p["sigma"]
    # Far out 1 is nothing beside u, which may be more than a number.
    far = gap > FAR_OUT * p["sigma"]
    close = inside & ~far
    z = xp.where(close, y - p["mu"], 0.0) / p["sigma"]
    u = xp.where(close, p["xi"] * z, 0.0)
    log_u = xp.log(xp.where(far, gap, 1.0)) - log_sigma
    t = xp.where(far, log_u / xp.where(far, p["xi"], 1.0), z * log1p_ratio(u, xp))
    found = -log_sigma - t - xp.where(far, log_u, xp.log1p(u)) - xp.exp(-t)
    return xp.where(inside, found, -np.inf)


def _extreme_tails(y: Any, p: Params, xp: Any) -> Any:
    z = (y - p["mu"]) / p["sigma"]
    inside = 1 + p["xi"] * z > 0
    t = xp.where(inside, z, 0.0) * log1p_ratio(xp.where(inside, p["xi"] * z, 0.0), xp)
    above, below = hazard_tails(xp.exp(-t), xp)
    # Beyond its end: of a positive xi below all, of a negative one above all.
    none, whole = xp.where(p["xi"] > 0, -np.inf, 0.0), xp.where(p["xi"] > 0, 0.0, -np.inf)
    return xp.where(inside, below, none), xp.where(inside, above, whole)


def _extreme_mean(p: Params) -> Any:
    xi = np.asarray(p["xi"], float)
    safe = np.where((np.abs(xi) < 1e-8) | (xi >= 1), 0.5, xi)
    ratio = np.where(np.abs(xi) < 1e-8, np.euler_gamma, (gamma(1 - safe) - 1) / safe)
    return p["mu"] + p["sigma"] * np.where(xi < 1, ratio, np.inf)


def _extreme_variance(p: Params, trials: Any) -> Any:
    xi = np.asarray(p["xi"], float)
    safe = np.where((np.abs(xi) < 1e-6) | (xi >= 0.5), 0.25, xi)
    ratio = (gamma(1 - 2 * safe) - gamma(1 - safe) ** 2) / safe**2
    ratio = np.where(np.abs(xi) < 1e-6, np.pi**2 / 6, ratio)
    return p["sigma"] ** 2 * np.where(xi < 0.5, ratio, np.inf)


GEN_EXTREME_VALUE = add_family(
    written(
        "gen_extreme_value",
        (
            MU,
            SIGMA,
            Parameter("xi", "identity", ("identity",), REAL, Prior("Normal", mu=0.0, sigma=2.5)),
        ),
        _extreme_value,
        lambda p, trials: scipy_stats().genextreme(-np.asarray(p["xi"]), p["mu"], p["sigma"]),
        mean=_extreme_mean,
        variance=_extreme_variance,
        tails=_extreme_tails,
        problem=any_number,
    )
)


def _kinked_tails(z: Any, share: Any, rise: Any, fall: Any, xp: Any) -> Any:
    """Give tails of two exponential sides, of which the left has a share of the mass."""
    left = z < 0
    below = xp.log(share) + rise * xp.where(left, z, 0.0)
    above = xp.log1p(-share) - fall * xp.where(left, 0.0, z)
    return (
        xp.where(left, below, log_complement(above, xp)),
        xp.where(left, log_complement(below, xp), above),
    )


def _laplace_score(y: Array, trials: Array | None, params: Params) -> dict[str, Array]:
    r = (y - params["mu"]) / params["b"]
    return {"mu": np.sign(r) / params["b"], "b": (np.abs(r) - 1) / params["b"]}


LAPLACE = add_family(
    Family(
        name="laplace",
        kinked=True,
        parameters=(MU, replace(SIGMA, name="b")),
        distribution="Laplace",
        arguments=lambda p, trials, xp: {"mu": p["mu"], "b": p["b"]},
        numeric=lambda p, trials: scipy_stats().laplace(p["mu"], p["b"]),
        mean=lambda p: p["mu"],
        variance=lambda p, trials: 2 * p["b"] ** 2,
        core=lambda y, trials, p: -np.log(2 * p["b"]) - np.abs((y - p["mu"]) / p["b"]),
        score=_laplace_score,
        tails=lambda y, p, xp: _kinked_tails((y - p["mu"]) / p["b"], 0.5, 1.0, 1.0, xp),
        problem=any_number,
    )
)


def _tilted(p: Params) -> Any:
    q = p["quantile"]
    return scipy_stats().laplace_asymmetric(
        np.sqrt(q / (1 - q)), p["mu"], p["sigma"] / np.sqrt(q * (1 - q))
    )


def _asymmetric(y: Any, p: Params, xp: Any) -> Any:
    q, z = p["quantile"], (y - p["mu"]) / p["sigma"]
    return xp.log(q) + xp.log1p(-q) - xp.log(p["sigma"]) - z * xp.where(z > 0, q, q - 1)


def _asymmetric_score(y: Array, trials: Array | None, p: Params) -> dict[str, Array]:
    q, z = p["quantile"], (y - p["mu"]) / p["sigma"]
    pull = np.where(z > 0, q, q - 1)
    return {
        "mu": pull / p["sigma"],
        "sigma": (z * pull - 1) / p["sigma"],
        "quantile": 1 / q - 1 / (1 - q) - z,
    }


ASYMMETRIC_LAPLACE = add_family(
    Family(
        name="asymmetric_laplace",
        kinked=True,
        parameters=(
            MU,
            SIGMA,
            Parameter(
                "quantile",
                "logit",
                ("logit", "probit", "cloglog"),
                UNIT,
                Prior("Beta", alpha=1.0, beta=1.0),
            ),
        ),
        # PyMC's own is of 1 / sigma times a ratio that may be more than a number.
        distribution=Stated(
            "AsymmetricLaplace",
            lambda y, p, trials: _asymmetric(y, p, graph()),
            lambda p, trials: _tilted(p),
            discrete=False,
        ),
        arguments=stated_arguments,
        numeric=lambda p, trials: _tilted(p),
        mean=lambda p: (
            p["mu"] + p["sigma"] * (1 - 2 * p["quantile"]) / (p["quantile"] * (1 - p["quantile"]))
        ),
        variance=lambda p, trials: (
            p["sigma"] ** 2
            * (1 - 2 * p["quantile"] * (1 - p["quantile"]))
            / (p["quantile"] * (1 - p["quantile"])) ** 2
        ),
        core=lambda y, trials, p: _asymmetric(y, p, NUMPY),
        score=_asymmetric_score,
        tails=lambda y, p, xp: _kinked_tails(
            (y - p["mu"]) / p["sigma"], p["quantile"], 1 - p["quantile"], p["quantile"], xp
        ),
        problem=any_number,
    )
)
