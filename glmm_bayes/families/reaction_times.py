"""Families of reaction times: what follows a normal or lognormal time."""

from dataclasses import replace
from typing import Any

import numpy as np

from glmm_bayes.families.continuous import (
    HALF_LOG_2PI,
    REAL_LINKS,
    SHAPE_LINKS,
    SIGMA,
    any_number,
    positive,
    scipy_stats,
)
from glmm_bayes.families.family import Parameter, Params, add_family
from glmm_bayes.families.links import POSITIVE, REAL
from glmm_bayes.families.special import log_complement, log_mills
from glmm_bayes.families.tails import normal_tails
from glmm_bayes.families.written import written
from glmm_bayes.priors import Prior

MU = Parameter("mu", "identity", REAL_LINKS, REAL)

ALMOST_ALL = 40.0  # standard deviations, below which all of a normal variable is


def _exgaussian(y: Any, p: Params, xp: Any) -> Any:
    sigma, nu = p["sigma"], p["nu"]
    rate = sigma / nu
    r = (y - p["mu"]) / sigma + 1 / rate
    q = r - rate
    left = q < 0
    # Each form is stable on its side of zero, where the other one's terms cancel or overflow.
    before, after = xp.where(left, r, 0.0), xp.where(left, 0.0, rate)
    near = log_mills(xp.where(left, q, 0.0), xp) - 0.5 * before * before
    share = xp.log_ndtr(xp.where(left, 0.0, xp.where(q < ALMOST_ALL, q, ALMOST_ALL)))
    far = 0.5 * after * after - (y - p["mu"]) / nu - 1 + share
    return xp.where(left, near, far) - xp.log(nu)


def _exgaussian_tails(y: Any, p: Params, xp: Any) -> Any:
    rate = p["sigma"] / p["nu"]
    x = (y - p["mu"]) / p["sigma"] + 1 / rate
    later = 0.5 * rate * rate - rate * x + xp.log_ndtr(x - rate)
    above = xp.log_ndtr(-x) + xp.softplus(later - xp.log_ndtr(-x))
    left = x < 0
    near = xp.where(left, x, 0.0)
    # Phi(x) less what is still to come, by two ratios of Mills that stay apart far left.
    ratio = log_mills(near, xp)
    behind = ratio - 0.5 * near * near + log_complement(log_mills(near - rate, xp) - ratio, xp)
    return xp.where(left, behind, log_complement(xp.where(left, -1.0, above), xp)), above


EXGAUSSIAN = add_family(
    written(
        "exgaussian",
        (MU, SIGMA, replace(SIGMA, name="nu")),
        _exgaussian,
        lambda p, trials: scipy_stats().exponnorm(
            p["nu"] / p["sigma"], p["mu"] - p["nu"], p["sigma"]
        ),
        mean=lambda p: p["mu"],
        variance=lambda p, trials: p["sigma"] ** 2 + p["nu"] ** 2,
        tails=_exgaussian_tails,
        problem=any_number,
    )
)


def _shifted(y: Any, p: Params, xp: Any) -> Any:
    after = y > p["ndt"]
    log_t = xp.log(xp.where(after, y - p["ndt"], 1.0))
    r = (log_t - p["mu"]) / p["sigma"]
    found = -0.5 * r * r - xp.log(p["sigma"]) - log_t - HALF_LOG_2PI
    return xp.where(after, found, -np.inf)


def _shifted_tails(y: Any, p: Params, xp: Any) -> Any:
    after = y > p["ndt"]
    log_t = xp.log(xp.where(after, y - p["ndt"], 1.0))
    below, above = normal_tails((log_t - p["mu"]) / p["sigma"], xp)
    return xp.where(after, below, -np.inf), xp.where(after, above, 0.0)


SHIFTED_LOGNORMAL = add_family(
    written(
        "shifted_lognormal",
        (
            MU,
            Parameter(
                "sigma", "log", SHAPE_LINKS, POSITIVE, Prior("HalfStudentT", nu=3, sigma=2.5)
            ),
            Parameter(
                "ndt",
                "log",
                ("log", "identity"),
                POSITIVE,
                Prior("Uniform", lower=0.0, upper=1.0),
                below=True,
            ),
        ),
        _shifted,
        lambda p, trials: scipy_stats().lognorm(p["sigma"], loc=p["ndt"], scale=np.exp(p["mu"])),
        mean=lambda p: p["ndt"] + np.exp(p["mu"] + 0.5 * p["sigma"] ** 2),
        variance=lambda p, trials: (
            np.expm1(p["sigma"] ** 2) * np.exp(2 * p["mu"] + p["sigma"] ** 2)
        ),
        tails=_shifted_tails,
        problem=positive,
        working=np.log,
    )
)
