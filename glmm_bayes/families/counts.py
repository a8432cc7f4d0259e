"""Families of counts without an upper bound."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy.special import gammaln, xlog1py, xlogy

from glmm_bayes.arrays import graph
from glmm_bayes.families.continuous import POSITIVE_LINKS, scipy_stats, shape
from glmm_bayes.families.family import Array, Family, Natural, Parameter, Params, add_family, counts
from glmm_bayes.families.incomplete import count_tails
from glmm_bayes.families.links import POSITIVE
from glmm_bayes.families.special import digamma_rising, log_rising, rising_on_graph
from glmm_bayes.families.stated import Stated, stated_arguments
from glmm_bayes.families.summed import by_arrays
from glmm_bayes.families.tails import gamma_tails, hazard_tails

MU = Parameter("mu", "log", POSITIVE_LINKS, POSITIVE)


def _poisson_natural_core(y: Array, trials: Array | None, eta: Array) -> Array:
    with np.errstate(over="ignore"):
        return y * eta - np.exp(eta)


def _poisson_natural_score(y: Array, trials: Array | None, eta: Array) -> Array:
    with np.errstate(over="ignore"):
        return y - np.exp(eta)


def _poisson_curves(y: Array, trials: Array | None, eta: Array) -> tuple[Array, ...]:
    mu = np.exp(eta)
    return y * eta - mu, y - mu, -mu, -mu


POISSON = add_family(
    Family(
        name="poisson",
        compiled="poisson",
        parameters=(MU,),
        distribution="Poisson",
        arguments=lambda p, trials, xp: {"mu": p["mu"]},
        numeric=lambda p, trials: scipy_stats().poisson(p["mu"]),
        mean=lambda p: p["mu"],
        variance=lambda p, trials: p["mu"],
        core=lambda y, trials, p: xlogy(y, p["mu"]) - p["mu"],
        score=lambda y, trials, p: {"mu": y / p["mu"] - 1},
        constant=lambda y, trials: -gammaln(y + 1),
        natural={"log": Natural(_poisson_natural_core, _poisson_natural_score, _poisson_curves)},
        problem=counts,
        deviance=lambda y, trials, p: 2 * (xlogy(y, y / p["mu"]) - y + p["mu"]),
        # Fewer than y + 1 events by now: the time to that many is longer.
        tails=lambda y, p, xp: gamma_tails(y + 1, p["mu"], xp)[::-1],
        discrete=True,
    )
)


def _negbinomial_core(y: Array, trials: Array | None, params: Params) -> Array:
    mu, a = params["mu"], params["alpha"]
    return log_rising(y, a) - xlog1py(a, mu / a) - xlog1py(y, a / mu)


def _negbinomial_score(y: Array, trials: Array | None, params: Params) -> dict[str, Array]:
    mu, a = params["mu"], params["alpha"]
    by_a = digamma_rising(y, a) - np.log1p(mu / a) - (y - mu) / (a + mu)
    return {"mu": a / (a + mu) * ((y - mu) / mu), "alpha": by_a}


def _negbinomial_by_mean(y: Array, trials: Array | None, params: Params) -> Iterator[Array]:
    mu, a = params["mu"], params["alpha"]
    yield _negbinomial_core(y, trials, params)
    share = mu / (a + mu)
    right = (y + a) * share
    yield y - right
    right = right * share
    yield right - y
    yield 2 * (y - right * share)


def _negbinomial(mu: Any, alpha: Any) -> Any:
    return scipy_stats().nbinom(alpha, alpha / (alpha + mu))


def on_graph(
    over: Callable[[Params], Any], size: Callable[[Params], Any], numeric: Callable[..., Any]
) -> Stated:
    """
    Make a negative binomial for PyMC, whose own takes differences of large terms.

    Parameters
    ----------
    over
        On the graph, the log of the mean over the size, of a family's parameters.
    size
        On the graph, the size, or alpha.
    """

    def logp(value: Any, p: Params, trials: Any) -> Any:
        import pytensor.tensor as pt

        y, a, excess = value.astype("float64"), size(p), over(p)
        rest = a * pt.softplus(excess) + y * pt.softplus(-excess)
        return rising_on_graph(y, a) - rest - pt.gammaln(y + 1)

    return Stated("NegativeBinomial", logp, numeric, discrete=True)


def _negbinomial_deviance(y: Array, trials: Array | None, p: Params) -> Array:
    mu, a = p["mu"], p["alpha"]
    return 2 * (xlogy(y, y / mu) - (y + a) * np.log((y + a) / (mu + a)))


NEGBINOMIAL = add_family(
    Family(
        name="negbinomial",
        compiled="negbinomial",
        parameters=(MU, shape("alpha")),
        distribution=on_graph(
            lambda p: graph().log(p["mu"]) - graph().log(p["alpha"]),
            lambda p: p["alpha"],
            lambda p, trials: _negbinomial(p["mu"], p["alpha"]),
        ),
        arguments=stated_arguments,
        numeric=lambda p, trials: _negbinomial(p["mu"], p["alpha"]),
        mean=lambda p: p["mu"],
        variance=lambda p, trials: p["mu"] + p["mu"] ** 2 / p["alpha"],
        core=_negbinomial_core,
        score=_negbinomial_score,
        by_mean=_negbinomial_by_mean,
        constant=lambda y, trials: -gammaln(y + 1),
        problem=counts,
        deviance=_negbinomial_deviance,
        tails=by_arrays(
            "negbinomial",
            lambda y, p: count_tails(y, p["mu"], p["alpha"]),
            ("mu", "alpha"),
        ),
        discrete=True,
    )
)


def _nb1(params: Params) -> Params:
    return {"mu": params["mu"], "alpha": params["mu"] / params["phi"]}


def _nbinom1_score(y: Array, trials: Array | None, params: Params) -> dict[str, Array]:
    by = _negbinomial_score(y, trials, _nb1(params))
    mu, phi = params["mu"], params["phi"]
    return {"mu": by["mu"] + by["alpha"] / phi, "phi": -by["alpha"] * mu / phi**2}


NBINOM1 = add_family(
    Family(
        name="nbinom1",
        compiled="nbinom1",
        parameters=(MU, shape("phi")),
        distribution=on_graph(
            lambda p: graph().log(p["phi"]),
            lambda p: p["mu"] / p["phi"],
            lambda p, trials: _negbinomial(**_nb1(p)),
        ),
        arguments=stated_arguments,
        numeric=lambda p, trials: _negbinomial(**_nb1(p)),
        mean=lambda p: p["mu"],
        variance=lambda p, trials: p["mu"] * (1 + p["phi"]),
        core=lambda y, trials, p: _negbinomial_core(y, trials, _nb1(p)),
        score=_nbinom1_score,
        constant=lambda y, trials: -gammaln(y + 1),
        problem=counts,
        tails=by_arrays(
            "nbinom1",
            lambda y, p: count_tails(y, p["mu"], p["mu"] / p["phi"]),
            ("mu", "phi"),
        ),
        discrete=True,
    )
)

GEOMETRIC = add_family(
    Family(
        name="geometric",
        parameters=(MU,),
        distribution="NegativeBinomial",
        arguments=lambda p, trials, xp: {"mu": p["mu"], "alpha": 1.0},
        numeric=lambda p, trials: _negbinomial(p["mu"], 1.0),
        mean=lambda p: p["mu"],
        variance=lambda p, trials: p["mu"] * (1 + p["mu"]),
        core=lambda y, trials, p: -np.log1p(p["mu"]) - xlog1py(y, 1 / p["mu"]),
        score=lambda y, trials, p: {"mu": (y - p["mu"]) / (p["mu"] * (1 + p["mu"]))},
        problem=counts,
        deviance=lambda y, trials, p: _negbinomial_deviance(y, trials, {**p, "alpha": 1.0}),
        tails=lambda y, p, xp: hazard_tails((y + 1) * xp.log1p(1 / p["mu"]), xp),
        discrete=True,
    )
)
