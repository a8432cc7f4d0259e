"""Families of proportions of which some are exactly zero or one."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from glmm_bayes.arrays import NUMPY, graph
from glmm_bayes.families.continuous import BETA, UNIT_LINKS, shape
from glmm_bayes.families.family import Array, Family, Parameter, Params, add_family, first
from glmm_bayes.families.links import POSITIVE, REAL, UNIT
from glmm_bayes.families.special import log_complement
from glmm_bayes.families.stated import Stated, stated_arguments
from glmm_bayes.families.zeros import graph_logp, probability
from glmm_bayes.priors import Prior

ENDS = (0.0, 1.0)


@dataclass(frozen=True, eq=False)
class WithEnds:
    """A frozen distribution on (0, 1), `base`, and what probabilities 0, 1 and it have."""

    base: Any
    at_zero: Array
    at_one: Array
    inside: Array

    def logpdf(self, y: Array) -> Array:
        """Give the log density of y; at 0 and 1 the log probability."""
        zero, one = np.equal(y, 0), np.equal(y, 1)
        inside = np.log(self.inside) + self.base.logpdf(_inside(y))
        ends = np.log(np.where(zero, self.at_zero, self.at_one))
        return np.where(zero | one, ends, inside)

    def cdf(self, y: Array) -> Array:
        """Give P(Y <= y)."""
        below = self.at_zero + self.inside * self.base.cdf(y)
        return np.where(np.less(y, 0), 0.0, np.where(np.less(y, 1), below, 1.0))

    def ppf(self, u: Array) -> Array:
        """Give the quantile."""
        return self.base.ppf(np.clip((u - self.at_zero) / self.inside, 0.0, 1.0))

    def rvs(self, size: Any, random_state: np.random.Generator) -> Array:
        """Draw."""
        drawn = self.base.rvs(size=size, random_state=random_state)
        u = random_state.uniform(size=np.shape(drawn))
        return np.where(u < self.at_zero, 0.0, np.where(u > 1 - self.at_one, 1.0, drawn))

    def stats(self, moments: str) -> tuple[Array, Array]:
        """Give mean and variance."""
        return _moments(self.base.stats(moments), self.at_one, self.inside)


def _moments(moments: tuple[Array, Array], at_one: Array, inside: Array) -> tuple[Array, Array]:
    mean, variance = moments
    whole = inside * mean + at_one
    return whole, inside * (variance + mean**2) + at_one - whole**2


def _inside(y: Any) -> Any:
    """Put a half in the place of the ends."""
    return np.where((y > 0) & (y < 1), y, 0.5)


def _typical(y: Array) -> Array:
    """Put the median of the others in the place of the ends."""
    others = (y > 0) & (y < 1)
    return np.where(others, y, np.median(y[others]) if others.any() else 0.5)


def _proportion(y: Array, trials: Array | None) -> tuple[int, str] | None:
    at = first(~((y >= 0) & (y <= 1)))
    return None if at is None else (at, "values must lie between 0 and 1")


def _beta_variance(p: Params) -> Array:
    return p["mu"] * (1 - p["mu"]) / (1 + p["phi"])


def _tails(y: Any, p: Params, xp: Any, logs: Any) -> Any:
    """Give tails, of the log probabilities of 0, of the inside and of 1."""
    at_zero, inside, at_one = logs(p, xp)
    below, above = BETA.tails(xp.where((y > 0) & (y < 1), y, 0.5), p, xp)  # type: ignore[misc]
    inner_below = at_zero + xp.softplus(inside + below - at_zero)
    inner_above = at_one + xp.softplus(inside + above - at_one)
    some, end = y > 0, y < 1
    return (
        xp.where(some, xp.where(end, inner_below, 0.0), at_zero),
        xp.where(some, xp.where(end, inner_above, -np.inf), log_complement(at_zero, xp)),
    )


def _family(name: str, *others: Parameter, ends: Any, core: Any, logp: Any, logs: Any) -> Family:
    """
    Make a family of a beta density inside, and `ends(params)`: `WithEnds`'s three.

    `logs(params, xp)` gives the log probabilities of 0, of the inside and of 1.
    """

    def numeric(p: Params, trials: Any) -> WithEnds:
        return WithEnds(BETA.numeric(p, trials), *ends(p))  # type: ignore[misc]

    def moments(p: Params) -> tuple[Array, Array]:
        return _moments((p["mu"], _beta_variance(p)), *ends(p)[1:])

    return Family(
        name=name,
        parameters=(Parameter("mu", "logit", UNIT_LINKS, UNIT), shape("phi"), *others),
        distribution=Stated(name, logp, numeric, discrete=False),
        arguments=stated_arguments,
        numeric=numeric,
        mean=lambda p: moments(p)[0],
        variance=lambda p, trials: moments(p)[1],
        core=core,
        tails=lambda y, p, xp: _tails(y, p, xp, logs),
        problem=_proportion,
        working=_typical,
        atoms=ENDS,
    )


# ---- zeros and ones of their own


def _inflated_core(y: Array, trials: Array | None, p: Params) -> Any:
    zoi, coi, one = p["zoi"], p["coi"], np.equal(y, 1)
    inside: Any = np.log1p(-zoi) + BETA.core(_inside(y), trials, p)  # type: ignore[misc]
    ends = np.log(zoi) + np.where(one, np.log(coi), np.log1p(-coi))
    return np.where((y > 0) & (y < 1), inside, ends)


def _inflated_logp(y: Any, p: Params, trials: Any) -> Any:
    import pytensor.tensor as pt

    zoi, coi, inner = p["zoi"], p["coi"], pt.gt(y, 0) & pt.lt(y, 1)
    inside = pt.log1p(-zoi) + graph_logp(BETA, pt.switch(inner, y, 0.5), p, trials)
    ends = pt.log(zoi) + pt.switch(pt.eq(y, 1), pt.log(coi), pt.log1p(-coi))
    return pt.switch(inner, inside, ends)


def _inflated_logs(p: Params, xp: Any) -> tuple[Any, Any, Any]:
    zoi, coi = p["zoi"], p["coi"]
    return xp.log(zoi) + xp.log1p(-coi), xp.log1p(-zoi), xp.log(zoi) + xp.log(coi)


ZERO_ONE_INFLATED_BETA = add_family(
    _family(
        "zero_one_inflated_beta",
        probability("zoi"),
        probability("coi"),
        ends=lambda p: (p["zoi"] * (1 - p["coi"]), p["zoi"] * p["coi"], 1 - p["zoi"]),
        core=_inflated_core,
        logp=_inflated_logp,
        logs=_inflated_logs,
    )
)


# ---- ordered: two cutpoints on the logit scale of mu, below and above which are 0 and 1


def _log_shares(p: Params, xp: Any) -> tuple[Any, Any, Any]:
    """Give the log probabilities of 0, of the inside and of 1."""
    eta = xp.log(p["mu"]) - xp.log1p(-p["mu"])
    above_zero, above_one = eta - p["cutzero"], eta - p["cutzero"] - p["cutgap"]
    # expit(a) - expit(b) = expit(a) expit(-b) (1 - exp(b - a))
    inside = -xp.softplus(-above_zero) - xp.softplus(above_one) + log_complement(-p["cutgap"], xp)
    return -xp.softplus(above_zero), inside, -xp.softplus(-above_one)


def _ordered_core(y: Array, trials: Array | None, p: Params) -> Any:
    zero, inside, one = _log_shares(p, NUMPY)
    density: Any = inside + BETA.core(_inside(y), trials, p)  # type: ignore[misc]
    return np.where(y > 0, np.where(y < 1, density, one), zero)


def _ordered_logp(y: Any, p: Params, trials: Any) -> Any:
    import pytensor.tensor as pt

    zero, inside, one = _log_shares(p, graph())
    inner = pt.gt(y, 0) & pt.lt(y, 1)
    density = inside + graph_logp(BETA, pt.switch(inner, y, 0.5), p, trials)
    return pt.switch(inner, density, pt.switch(pt.eq(y, 1), one, zero))


def _ordered_ends(p: Params) -> tuple[Array, Array, Array]:
    zero, inside, one = _log_shares(p, NUMPY)
    return np.exp(zero), np.exp(one), np.exp(inside)


ORDBETA = add_family(
    _family(
        "ordbeta",
        Parameter(
            "cutzero", "identity", ("identity",), REAL, Prior("StudentT", nu=3, mu=0, sigma=2.5)
        ),
        Parameter(
            "cutgap", "log", ("log", "softplus"), POSITIVE, Prior("HalfStudentT", nu=3, sigma=5)
        ),
        ends=_ordered_ends,
        core=_ordered_core,
        logp=_ordered_logp,
        logs=_log_shares,
    )
)
