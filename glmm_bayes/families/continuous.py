"""Families of continuous responses."""

from typing import Any

import numpy as np
from scipy.special import digamma, gammaln

from glmm_bayes.arrays import NUMPY, graph
from glmm_bayes.families.family import Array, Family, Parameter, Params, add_family, within
from glmm_bayes.families.incomplete import beta_variable, plain, student_tails
from glmm_bayes.families.links import POSITIVE, REAL, UNIT
from glmm_bayes.families.special import digamma_rising, log_peak, log_rising, rising_on_graph
from glmm_bayes.families.stated import Stated, stated_arguments
from glmm_bayes.families.summed import by_arrays
from glmm_bayes.families.tails import (
    gamma_tails,
    hazard_tails,
    inverse_gaussian_tails,
    normal_tails,
)
from glmm_bayes.priors import Prior

REAL_LINKS = ("identity", "log", "inverse", "softplus", "sqrt", "logit", "probit", "cloglog")
POSITIVE_LINKS = ("log", "identity", "inverse", "inverse_squared", "sqrt", "softplus")
UNIT_LINKS = ("logit", "probit", "cloglog", "loglog", "cauchit", "identity", "log")
SHAPE_LINKS = ("log", "identity", "softplus", "sqrt")
SHAPE_PRIOR = Prior("InverseGamma", alpha=0.4, beta=0.3)
HALF_LOG_2PI = 0.5 * np.log(2 * np.pi)
FAR_OUT = 1e10
NORMAL = np.float64(1e150)  # degrees of freedom, and their products are numbers

any_number = within(-np.inf, np.inf, "values must be finite numbers")
positive = within(0.0, np.inf, "values must be positive")
SIGMA = Parameter(
    "sigma", "log", SHAPE_LINKS, POSITIVE, Prior("HalfStudentT", nu=3, sigma=1.0), scaled=True
)


def shape(name: str) -> Parameter:
    """Describe a positive shape or precision parameter."""
    return Parameter(name, "log", SHAPE_LINKS, POSITIVE, SHAPE_PRIOR)


def scipy_stats() -> Any:
    """Import scipy.stats when it is first needed: it takes a second."""
    from scipy import stats

    return stats


def _normal_core(y: Array, trials: Array | None, params: Params) -> Array:
    r = (y - params["mu"]) / params["sigma"]
    return -0.5 * r * r - np.log(params["sigma"])


def _normal_score(y: Array, trials: Array | None, params: Params) -> dict[str, Array]:
    r = (y - params["mu"]) / params["sigma"]
    return {"mu": r / params["sigma"], "sigma": (r * r - 1) / params["sigma"]}


GAUSSIAN = add_family(
    Family(
        name="gaussian",
        compiled="gaussian",
        normal=True,
        parameters=(Parameter("mu", "identity", REAL_LINKS, REAL), SIGMA),
        distribution="Normal",
        arguments=lambda p, trials, xp: {"mu": p["mu"], "sigma": p["sigma"]},
        numeric=lambda p, trials: scipy_stats().norm(p["mu"], p["sigma"]),
        mean=lambda p: p["mu"],
        variance=lambda p, trials: p["sigma"] ** 2,
        core=_normal_core,
        score=_normal_score,
        constant=lambda y, trials: -HALF_LOG_2PI,
        problem=any_number,
        deviance=lambda y, trials, p: (y - p["mu"]) ** 2,
        tails=lambda y, p, xp: normal_tails((y - p["mu"]) / p["sigma"], xp),
    )
)


def _student_core(y: Array, trials: Array | None, params: Params) -> Array:
    nu, sigma, gap = params["nu"], params["sigma"], y - params["mu"]
    r = gap / sigma
    scale = log_rising(0.5, nu / 2) - 0.5 * np.log(nu * np.pi) - np.log(sigma)
    far = np.abs(plain(r)) > FAR_OUT * np.sqrt(plain(nu))
    if not far.any():
        return scale - (nu + 1) / 2 * np.log1p(r * r / nu)
    # There 1 is nothing beside r², which may be more than a number.
    log_r = np.log(np.abs(np.where(far, gap, 1.0))) - np.log(sigma) - 0.5 * np.log(nu)
    r = np.where(far, 0.0, r)
    return scale - (nu + 1) * np.where(far, log_r, 0.5 * np.log1p(r * r / nu))


def _student_on_graph(y: Any, p: Params, trials: Any) -> Any:
    xp, sigma, gap = graph(), p["sigma"], y - p["mu"]
    nu = xp.where(p["nu"] < NORMAL, p["nu"], NORMAL)
    far = abs(gap) > FAR_OUT * sigma * xp.sqrt(nu)
    log_r = xp.log(abs(xp.where(far, gap, 1.0))) - xp.log(sigma) - 0.5 * xp.log(nu)
    r = xp.where(far, 0.0, gap) / sigma
    bent = xp.where(far, log_r, 0.5 * xp.log1p(r * r / nu))
    scale = rising_on_graph(0.5, nu / 2) - 0.5 * xp.log(nu * np.pi) - xp.log(sigma)
    return scale - (nu + 1) * bent


def _student_numeric(p: Params, trials: Any) -> Any:
    return scipy_stats().t(p["nu"], p["mu"], p["sigma"])


def _student_score(y: Array, trials: Array | None, params: Params) -> dict[str, Array]:
    nu, sigma = params["nu"], params["sigma"]
    r = (y - params["mu"]) / sigma
    w = (nu + 1) / (nu + r * r)
    by_nu = digamma_rising(0.5, nu / 2) - 1 / nu - np.log1p(r * r / nu) + w * r * r / nu
    return {"mu": w * r / sigma, "sigma": (w * r * r - 1) / sigma, "nu": 0.5 * by_nu}


STUDENT = add_family(
    Family(
        name="student",
        compiled="student",
        degrees="nu",
        parameters=(
            Parameter("mu", "identity", REAL_LINKS, REAL),
            SIGMA,
            Parameter(
                "nu",
                "logm1",
                ("logm1", "log", "identity"),
                (1.0, np.inf),
                Prior("Truncated", dist=Prior("Gamma", alpha=2.0, beta=0.1), lower=1.0),
            ),
        ),
        # PyMC's own squares 1 / sigma.
        distribution=Stated("StudentT", _student_on_graph, _student_numeric, discrete=False),
        arguments=stated_arguments,
        numeric=_student_numeric,
        mean=lambda p: p["mu"],
        variance=lambda p, trials: np.where(
            p["nu"] > 2, p["sigma"] ** 2 * p["nu"] / np.maximum(p["nu"] - 2, 1e-300), np.inf
        ),
        core=_student_core,
        score=_student_score,
        problem=any_number,
        tails=by_arrays(
            "student",
            lambda y, p: student_tails((y - p["mu"]) / p["sigma"], p["nu"]),
            ("mu", "sigma", "nu"),
        ),
    )
)

LOGNORMAL = add_family(
    Family(
        name="lognormal",
        compiled="lognormal",
        normal=True,
        parameters=(
            Parameter("mu", "identity", REAL_LINKS, REAL),
            Parameter(
                "sigma", "log", SHAPE_LINKS, POSITIVE, Prior("HalfStudentT", nu=3, sigma=2.5)
            ),
        ),
        distribution="LogNormal",
        arguments=lambda p, trials, xp: {"mu": p["mu"], "sigma": p["sigma"]},
        numeric=lambda p, trials: scipy_stats().lognorm(p["sigma"], scale=np.exp(p["mu"])),
        mean=lambda p: np.exp(p["mu"] + 0.5 * p["sigma"] ** 2),
        variance=lambda p, trials: (
            np.expm1(p["sigma"] ** 2) * np.exp(2 * p["mu"] + p["sigma"] ** 2)
        ),
        core=lambda y, trials, p: _normal_core(np.log(y), trials, p),
        score=lambda y, trials, p: _normal_score(np.log(y), trials, p),
        constant=lambda y, trials: -HALF_LOG_2PI - np.log(y),
        problem=positive,
        working=np.log,
        deviance=lambda y, trials, p: (np.log(y) - p["mu"]) ** 2,
        tails=lambda y, p, xp: normal_tails((xp.log(y) - p["mu"]) / p["sigma"], xp),
    )
)


def gamma_core(y: Array, trials: Array | None, params: Params) -> Array:
    """Give log(y) plus the log density of a gamma variable of mean mu and shape alpha."""
    a, mu = params["alpha"], params["mu"]
    return a * _bent(np.log(y) - np.log(mu), (y - mu) / mu) + log_peak(a)


def _bent(log_ratio: Any, gap: Any, xp: Any = NUMPY) -> Any:
    """Give log(1 + gap) - gap, with the logarithm where that is not near 0."""
    # Near the mean the difference of the two is all that is left of them.
    near = xp.log1p(xp.where(gap < -0.5, -0.5, gap))
    return xp.where(abs(gap) < 0.5, near, log_ratio) - gap


def _gamma_score(y: Array, trials: Array | None, params: Params) -> dict[str, Array]:
    a, mu = params["alpha"], params["mu"]
    by_alpha = np.log(a) + 1 + np.log(y) - np.log(mu) - y / mu - digamma(a)
    return {"mu": a * ((y - mu) / mu / mu), "alpha": by_alpha}


GAMMA = add_family(
    Family(
        name="gamma",
        compiled="gamma",
        parameters=(Parameter("mu", "log", POSITIVE_LINKS, POSITIVE), shape("alpha")),
        distribution="Gamma",
        arguments=lambda p, trials, xp: {"alpha": p["alpha"], "beta": p["alpha"] / p["mu"]},
        numeric=lambda p, trials: scipy_stats().gamma(p["alpha"], scale=p["mu"] / p["alpha"]),
        mean=lambda p: p["mu"],
        variance=lambda p, trials: p["mu"] ** 2 / p["alpha"],
        core=gamma_core,
        score=_gamma_score,
        constant=lambda y, trials: -np.log(y),
        problem=positive,
        deviance=lambda y, trials, p: 2 * ((y - p["mu"]) / p["mu"] - np.log(y / p["mu"])),
        tails=lambda y, p, xp: gamma_tails(p["alpha"], y * (p["alpha"] / p["mu"]), xp),
    )
)


def _wald_core(y: Array, trials: Array | None, params: Params) -> Array:
    mu, lam = params["mu"], params["lam"]
    gap = (y - mu) / mu
    return 0.5 * np.log(lam) - 0.5 * lam * gap * gap / y


def _wald_score(y: Array, trials: Array | None, params: Params) -> dict[str, Array]:
    mu, lam = params["mu"], params["lam"]
    gap = (y - mu) / mu
    return {"mu": lam * gap / mu / mu, "lam": 0.5 / lam - 0.5 * gap * gap / y}


INVERSE_GAUSSIAN = add_family(
    Family(
        name="inverse_gaussian",
        parameters=(Parameter("mu", "log", POSITIVE_LINKS, POSITIVE), shape("lam")),
        distribution="Wald",
        arguments=lambda p, trials, xp: {"mu": p["mu"], "lam": p["lam"]},
        numeric=lambda p, trials: scipy_stats().invgauss(p["mu"] / p["lam"], scale=p["lam"]),
        mean=lambda p: p["mu"],
        variance=lambda p, trials: p["mu"] ** 3 / p["lam"],
        core=_wald_core,
        score=_wald_score,
        constant=lambda y, trials: -HALF_LOG_2PI - 1.5 * np.log(y),
        problem=positive,
        deviance=lambda y, trials, p: (y - p["mu"]) ** 2 / (p["mu"] ** 2 * y),
        tails=lambda y, p, xp: inverse_gaussian_tails(y, p["mu"], p["lam"], xp),
    )
)

EXPONENTIAL = add_family(
    Family(
        name="exponential",
        parameters=(Parameter("mu", "log", POSITIVE_LINKS, POSITIVE),),
        distribution="Exponential",
        arguments=lambda p, trials, xp: {"lam": 1 / p["mu"]},
        numeric=lambda p, trials: scipy_stats().expon(scale=p["mu"]),
        mean=lambda p: p["mu"],
        variance=lambda p, trials: p["mu"] ** 2,
        core=lambda y, trials, p: -np.log(p["mu"]) - y / p["mu"],
        score=lambda y, trials, p: {"mu": (y - p["mu"]) / p["mu"] / p["mu"]},
        problem=positive,
        tails=lambda y, p, xp: hazard_tails(y / p["mu"], xp),
        deviance=lambda y, trials, p: 2 * ((y - p["mu"]) / p["mu"] - np.log(y / p["mu"])),
    )
)


def _weibull_core(y: Array, trials: Array | None, params: Params) -> Array:
    a = params["alpha"]
    log_t = np.log(y) - np.log(params["mu"]) + gammaln(1 + 1 / a)
    return np.log(a) + a * log_t - np.exp(a * log_t)


def _weibull_on_graph(y: Any, p: Params, trials: Any) -> Any:
    xp, a = graph(), p["alpha"]
    log_t = xp.log(y) - xp.log(p["mu"]) + xp.gammaln(1 + 1 / a)
    return xp.log(a) + a * log_t - xp.exp(a * log_t) - xp.log(y)


def _weibull_numeric(p: Params, trials: Any) -> Any:
    return scipy_stats().weibull_min(p["alpha"], scale=_weibull_scale(p))


def _weibull_score(y: Array, trials: Array | None, params: Params) -> dict[str, Array]:
    a = params["alpha"]
    log_t = np.log(y) - np.log(params["mu"]) + gammaln(1 + 1 / a)
    rest = 1 - np.exp(a * log_t)
    by_alpha = 1 / a + rest * (log_t - digamma(1 + 1 / a) / a)
    return {"mu": -a * rest / params["mu"], "alpha": by_alpha}


def _weibull_tails(y: Any, p: Params, xp: Any) -> Any:
    a = p["alpha"]
    return hazard_tails(xp.exp(a * (xp.log(y) - xp.log(p["mu"]) + xp.gammaln(1 + 1 / a))), xp)


def _weibull_scale(p: Params) -> Array:
    return p["mu"] / np.exp(gammaln(1 + 1 / p["alpha"]))


WEIBULL = add_family(
    Family(
        name="weibull",
        parameters=(Parameter("mu", "log", POSITIVE_LINKS, POSITIVE), shape("alpha")),
        # PyMC's own is of a scale that may be more than a number.
        distribution=Stated("Weibull", _weibull_on_graph, _weibull_numeric, discrete=False),
        arguments=stated_arguments,
        numeric=_weibull_numeric,
        mean=lambda p: p["mu"],
        variance=lambda p, trials: (
            p["mu"] ** 2 * np.expm1(gammaln(1 + 2 / p["alpha"]) - 2 * gammaln(1 + 1 / p["alpha"]))
        ),
        core=_weibull_core,
        score=_weibull_score,
        tails=_weibull_tails,
        constant=lambda y, trials: -np.log(y),
        problem=positive,
    )
)


def _beta(y: Any, params: Params, xp: Any) -> Any:
    # With Gamma(x) by its peak, two gammas less the one of their sum: no large terms cancel.
    mu, phi = params["mu"], params["phi"]
    a, b, log_y, log_rest = mu * phi, (1 - mu) * phi, xp.log(y), xp.log1p(-y)
    left = a * _bent(log_y - xp.log(mu), (y - mu) / mu, xp) + log_peak(a, xp)
    right = b * _bent(log_rest - xp.log1p(-mu), (mu - y) / (1 - mu), xp) + log_peak(b, xp)
    return left + right - log_peak(phi, xp) - log_y - log_rest


def _beta_numeric(p: Params, trials: Any) -> Any:
    return scipy_stats().beta(p["mu"] * p["phi"], (1 - p["mu"]) * p["phi"])


def _beta_score(y: Array, trials: Array | None, params: Params) -> dict[str, Array]:
    mu, phi = params["mu"], params["phi"]
    by_a = np.log(y) - digamma(mu * phi)
    by_b = np.log1p(-y) - digamma((1 - mu) * phi)
    return {"mu": phi * (by_a - by_b), "phi": mu * by_a + (1 - mu) * by_b + digamma(phi)}


BETA = add_family(
    Family(
        name="beta",
        compiled="beta",
        parameters=(Parameter("mu", "logit", UNIT_LINKS, UNIT), shape("phi")),
        # PyMC's own loses the digits of a density whose precision is large.
        distribution=Stated(
            "Beta", lambda y, p, trials: _beta(y, p, graph()), _beta_numeric, discrete=False
        ),
        arguments=stated_arguments,
        numeric=_beta_numeric,
        mean=lambda p: p["mu"],
        variance=lambda p, trials: p["mu"] * (1 - p["mu"]) / (1 + p["phi"]),
        core=lambda y, trials, p: _beta(y, p, NUMPY),
        score=_beta_score,
        tails=by_arrays(
            "beta",
            lambda y, p: beta_variable(y, p["mu"] * p["phi"], (1 - p["mu"]) * p["phi"]),
            ("mu", "phi"),
        ),
        problem=within(0.0, 1.0, "values must lie strictly between 0 and 1"),
    )
)
