"""Families of positive responses with heavy tails: waiting times, maxima, ratios."""

from typing import Any

import numpy as np
from scipy.special import gamma, gammaln

from glmm_bayes.families.continuous import (
    POSITIVE_LINKS,
    gamma_core,
    positive,
    scipy_stats,
    shape,
)
from glmm_bayes.families.family import Array, Family, Parameter, Params, add_family
from glmm_bayes.families.links import POSITIVE
from glmm_bayes.families.tails import gamma_tails, hazard_tails, logistic_tails
from glmm_bayes.families.written import written
from glmm_bayes.priors import Prior

MU = Parameter("mu", "log", POSITIVE_LINKS, POSITIVE)


def above_one(name: str) -> Parameter:
    """Describe a tail index that is above 1, so that there is a mean."""
    prior = Prior("Truncated", dist=Prior("Gamma", alpha=2.0, beta=0.1), lower=1.0)
    return Parameter(name, "logm1", ("logm1", "log", "identity"), (1.0, np.inf), prior)


def _where_above(least: float, x: Any, value: Any) -> Any:
    """Give a moment `value(x)` where x is above `least`, infinity where it does not exist."""
    exists = np.asarray(x) > least
    return np.where(exists, value(np.where(exists, x, least + 1.0)), np.inf)


def _inverse_core(y: Array, trials: Array | None, params: Params) -> Array:
    a = params["alpha"]
    # 1 / y is a gamma variable of shape alpha and mean alpha / (mu (alpha - 1)).
    return gamma_core(1 / y, trials, {"mu": a / (params["mu"] * (a - 1)), "alpha": a})


INVERSE_GAMMA = add_family(
    Family(
        name="inverse_gamma",
        parameters=(MU, above_one("alpha")),
        distribution="InverseGamma",
        arguments=lambda p, trials, xp: {
            "alpha": p["alpha"],
            "beta": p["mu"] * (p["alpha"] - 1),
        },
        numeric=lambda p, trials: scipy_stats().invgamma(
            p["alpha"], scale=p["mu"] * (p["alpha"] - 1)
        ),
        mean=lambda p: p["mu"],
        variance=lambda p, trials: _where_above(2.0, p["alpha"], lambda a: p["mu"] ** 2 / (a - 2)),
        core=_inverse_core,
        tails=lambda y, p, xp: gamma_tails(p["alpha"], p["mu"] * (p["alpha"] - 1) / y, xp)[::-1],
        constant=lambda y, trials: -np.log(y),
        problem=positive,
    )
)


def _frechet(y: Any, p: Params, xp: Any) -> Any:
    nu = p["nu"]
    x = nu * (xp.log(y) - xp.log(p["mu"]) + xp.gammaln((nu - 1) / nu))
    return xp.log(nu) - xp.log(y) - x - xp.exp(-x)


def _frechet_hazard(y: Any, p: Params, xp: Any) -> Any:
    """Give -log P(Y <= y)."""
    nu = p["nu"]
    return xp.exp(-nu * (xp.log(y) - xp.log(p["mu"]) + xp.gammaln((nu - 1) / nu)))


def _frechet_variance(p: Params, trials: Any) -> Any:
    def ratio(nu: Any) -> Any:
        return np.expm1(gammaln(1 - 2 / nu) - 2 * gammaln(1 - 1 / nu))

    return p["mu"] ** 2 * _where_above(2.0, p["nu"], ratio)


FRECHET = add_family(
    written(
        "frechet",
        (MU, above_one("nu")),
        _frechet,
        lambda p, trials: scipy_stats().invweibull(
            p["nu"], scale=p["mu"] / gamma((p["nu"] - 1) / p["nu"])
        ),
        mean=lambda p: p["mu"],
        variance=_frechet_variance,
        tails=lambda y, p, xp: hazard_tails(_frechet_hazard(y, p, xp), xp)[::-1],
        problem=positive,
    )
)


def _loglogistic(y: Any, p: Params, xp: Any) -> Any:
    x = p["alpha"] * (xp.log(y) - xp.log(p["mu"]))
    return xp.log(p["alpha"]) - xp.log(y) + x - 2 * xp.softplus(x)


def _loglogistic_variance(p: Params, trials: Any) -> Any:
    def ratio(a: Any) -> Any:
        t = np.pi / a
        return 2 * t / np.sin(2 * t) - (t / np.sin(t)) ** 2

    return p["mu"] ** 2 * _where_above(2.0, p["alpha"], ratio)


LOGLOGISTIC = add_family(
    written(
        "loglogistic",
        (MU, shape("alpha")),
        _loglogistic,
        lambda p, trials: scipy_stats().fisk(p["alpha"], scale=p["mu"]),
        mean=lambda p: (
            p["mu"] * _where_above(1.0, p["alpha"], lambda a: np.pi / a / np.sin(np.pi / a))
        ),
        variance=_loglogistic_variance,
        tails=lambda y, p, xp: logistic_tails(p["alpha"] * (xp.log(y) - xp.log(p["mu"])), xp),
        problem=positive,
    )
)
