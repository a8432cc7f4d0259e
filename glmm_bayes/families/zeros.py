"""
Families made of others: more zeros than a family has, none at all, or zeros of their own.

`zero_inflated`, `hurdle` and `truncated` take a family and give one; its density, draws, moments
and graph are made of the base's. Those that are registered are in `mixtures`.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import expit

from glmm_bayes.arrays import graph
from glmm_bayes.families.atoms import Atom, Inflated, WithoutZero
from glmm_bayes.families.continuous import UNIT_LINKS
from glmm_bayes.families.family import (
    Array,
    Family,
    Parameter,
    Params,
    first,
    whole,
)
from glmm_bayes.families.links import UNIT
from glmm_bayes.families.special import log_complement, softplus
from glmm_bayes.families.stated import Stated, stated_arguments
from glmm_bayes.families.summed import either_or
from glmm_bayes.priors import Prior

# Below, exp(l) is 0 beside any probability, and so are its derivatives, though l's overflow.
NEVER = -740.0
# From a half, a step too far towards 0 ends where the likelihood is flat.
RARE = 0.2


def probability(name: str, start: float = 0.5) -> Parameter:
    """Describe the probability that a response is of another kind."""
    flat = Prior("Beta", alpha=1.0, beta=1.0)
    return Parameter(name, "logit", UNIT_LINKS, UNIT, flat, start=start)


def made(base: Family, **changes: Any) -> Family:
    """Take a family as the base of another: what does not carry over is left out."""
    dropped: dict[str, Any] = {
        "deviance": None,
        "compiled": None,
        "tails": None,
        "by_mean": None,
        "natural": {},
        "normal": False,
    }
    return replace(base, arguments=stated_arguments, **{**dropped, **changes})


def graph_logp(base: Family, value: Any, params: Params, trials: Any) -> Any:
    """Write a family's log density on PyTensor's graph."""
    import pymc as pm

    own = {p.name: params[p.name] for p in base.parameters}
    return pm.logp(base.symbolic().dist(**base.symbolic_arguments(own, trials)), value)


def log_zero(base: Family, y: Any, trials: Any, params: Params) -> Any:
    """Give log P(Y = 0): a count's terms without parameters are 0 there."""
    return base.kernel[0](np.zeros_like(y), trials, params)


# ---- more zeros


def zero_inflated(base: Family) -> Family:
    """
    Mix a family of counts with zeros.

    Returns
    -------
    Family
        With a further parameter `zi`, the probability of a zero that is none of the base's:
        P(0) = zi + (1 - zi) p(0), and P(y) = (1 - zi) p(y) beyond. Lambert (1992),
        Technometrics 34, 1-14.
    """
    name, kernel = f"zero_inflated_{base.name}", _inflated_core(base)
    assert base.numeric is not None

    def numeric(params: Params, trials: Any) -> Any:
        return Inflated(base.numeric(params, trials), params["zi"])  # type: ignore[misc]

    return made(
        base,
        name=name,
        parameters=(*base.parameters, probability("zi", RARE)),
        distribution=Stated(name, _inflated_graph(base), numeric, discrete=True),
        numeric=numeric,
        mean=lambda p: (1 - p["zi"]) * base.expectation(p),
        variance=lambda p, trials: _inflated_variance(base, p, trials),
        core=kernel,
        score=_inflated_score(base),
        by_mean=_inflated_by_mean(base),
        tails=_inflated_tails(base),
    )


def _inflated_core(base: Family) -> Any:
    def core(y: Array, trials: Array | None, params: Params) -> Any:
        zi = params["zi"]
        drawn: Any = np.log1p(-zi) + base.core(y, trials, params)  # type: ignore[misc]
        none = np.logaddexp(np.log(zi), np.maximum(drawn, NEVER))
        return np.where(np.equal(y, 0), none, drawn)

    return core


def _inflated_score(base: Family) -> Any:
    def score(y: Array, trials: Array | None, params: Params) -> dict[str, Array]:
        zi, zero = params["zi"], y == 0
        core, slopes = base.kernel
        log_p = core(y, trials, params)
        share = np.where(zero, expit(log_p + np.log1p(-zi) - np.log(zi)), 1.0)
        found = {name: share * slope for name, slope in slopes(y, trials, params).items()}
        log_p = np.where(zero, log_p, 0.0)
        by_zero = -np.expm1(log_p) / (zi + (1 - zi) * np.exp(log_p))
        return {**found, "zi": np.where(zero, by_zero, -1 / (1 - zi))}

    return score


def _inflated_tails(base: Family) -> Any:
    own = base.tails
    if own is None or base.needs_trials:
        return None

    def tails(y: Any, p: Params, xp: Any) -> Any:
        return either_or(xp.log(p["zi"]), xp.log1p(-p["zi"]), own(y, p, xp), xp)

    return tails


def _inflated_by_mean(base: Family) -> Any:
    own = base.by_mean
    if own is None:
        return None

    def by_mean(y: Array, trials: Array | None, params: Params) -> Iterator[Array]:
        zi, zero, slopes = params["zi"], np.equal(y, 0), own(y, trials, params)
        drawn = np.log1p(-zi) + next(slopes)
        gap = np.maximum(drawn, NEVER) - np.log(zi)
        yield np.where(zero, np.log(zi) + softplus(gap), drawn)
        # The probability that a zero is the base's, whose own derivatives are its cumulants.
        share = np.where(zero, expit(gap), 1.0)
        first = next(slopes)
        yield share * first
        twice = share * (1 - share)
        second = next(slopes)
        yield share * second + twice * first**2
        third = share * next(slopes) + 3 * twice * first * second
        yield third + twice * (1 - 2 * share) * first**3

    return by_mean


def _inflated_graph(base: Family) -> Any:
    def logp(value: Any, params: Params, trials: Any) -> Any:
        import pytensor.tensor as pt

        zi = params["zi"]
        drawn = pt.log1p(-zi) + graph_logp(base, value, params, trials)
        none = pt.log(zi) + pt.softplus(drawn - pt.log(zi))
        return pt.switch(pt.eq(value, 0), none, drawn)

    return logp


def _inflated_variance(base: Family, p: Params, trials: Any) -> Array:
    mean = base.expectation(p) * (1.0 if trials is None else trials)
    return (1 - p["zi"]) * (base.variance(p, trials) + p["zi"] * mean**2)  # type: ignore[misc]


# ---- no zeros


def truncated(base: Family) -> Family:
    """
    Leave the zeros of a family of counts out.

    Returns
    -------
    Family
        With the base's parameters, which mean what they do of the base: P(y) = p(y) / (1 - p(0)).
    """
    name = f"truncated_{base.name}"
    assert base.numeric is not None

    def numeric(params: Params, trials: Any) -> Any:
        return WithoutZero(base.numeric(params, trials))  # type: ignore[misc]

    def core(y: Array, trials: Array | None, params: Params) -> Any:
        own: Any = base.core(y, trials, params)  # type: ignore[misc]
        return own - log_complement(base.core(np.zeros_like(y), trials, params))  # type: ignore[misc]

    def score(y: Array, trials: Array | None, params: Params) -> dict[str, Array]:
        slopes, none = base.kernel[1], np.zeros_like(y)
        gone = slopes(none, trials, params)
        log_none = log_zero(base, y, trials, params)
        odds = -np.exp(log_none) / np.expm1(log_none)
        return {n: by + odds * gone[n] for n, by in slopes(y, trials, params).items()}

    def logp(value: Any, params: Params, trials: Any) -> Any:
        import pytensor.tensor as pt

        none = graph_logp(base, pt.zeros_like(value), params, trials)
        own = graph_logp(base, value, params, trials)
        return pt.switch(pt.ge(value, 1), own - log_complement(none, graph()), -np.inf)

    return made(
        base,
        name=name,
        distribution=Stated(name, logp, numeric, discrete=True),
        numeric=numeric,
        mean=lambda p: _kept(base, p) * base.expectation(p),
        variance=lambda p, trials: _truncated_variance(base, p),
        core=core,
        score=score,
        constant=lambda y, trials: np.where(y < 1, -np.inf, base.constant(y, trials)),
        problem=positive_counts,
        tails=_truncated_tails(base),
    )


def _truncated_tails(base: Family) -> Any:
    own = base.tails
    if own is None:
        return None

    def tails(y: Any, p: Params, xp: Any) -> Any:
        some = y > 0
        none, whole = own(0.0 * y, p, xp)
        below, above = own(xp.where(some, y, 1.0), p, xp)
        between = below + log_complement(none - below, xp)
        return (
            xp.where(some, between - whole, -np.inf),
            xp.where(some, above - whole, 0.0),
        )

    return tails


def _kept(base: Family, p: Params) -> Array:
    return -1 / np.expm1(log_zero(base, np.zeros(()), None, p))


def _truncated_variance(base: Family, p: Params) -> Array:
    scale, mean = _kept(base, p), base.expectation(p)
    found = scale * (base.variance(p, None) + (1 - scale) * mean**2)  # type: ignore[misc]
    return np.maximum(found, 0.0)


def positive_counts(y: Array, trials: Array | None) -> tuple[int, str] | None:
    """Check that a response is a count of at least one."""
    at = first(~(whole(y) & (y > 0)))
    return None if at is None else (at, "counts must be whole and at least 1")


# ---- zeros of their own


def hurdle(base: Family, *, name: str = "", parameter: str = "hu") -> Family:
    """
    Let zeros have a probability of their own.

    Returns
    -------
    Family
        With a further parameter, the probability of a zero; other responses are the base's, of
        counts without its zeros. Mullahy (1986), J. Econometrics 33, 341-365.
    """
    name = name or f"hurdle_{base.name}"
    part = truncated(base) if base.discrete else base

    def numeric(params: Params, trials: Any) -> Any:
        return Atom(part.numeric(params, trials), params[parameter])  # type: ignore[misc]

    return made(
        part,
        name=name,
        parameters=(*part.parameters, probability(parameter)),
        distribution=Stated(name, _hurdle_graph(part, parameter), numeric, part.discrete),
        numeric=numeric,
        mean=lambda p: (1 - p[parameter]) * part.expectation(p),
        variance=lambda p, trials: _mixed_variance(part, p, parameter),
        core=_hurdle_core(part, parameter),
        score=_hurdle_score(part, parameter),
        constant=lambda y, trials: np.where(y == 0, 0.0, part.constant(_others(y), trials)),
        problem=lambda y, trials: base.problem(y if base.discrete else _others(y), trials),
        working=lambda y: part.working(_typical(y)),
        atoms=() if part.discrete else (0.0,),
        tails=_hurdle_tails(part, parameter),
    )


def _hurdle_tails(part: Family, parameter: str) -> Any:
    own = part.tails
    if own is None:
        return None

    def tails(y: Any, p: Params, xp: Any) -> Any:
        some, log_zero = y > 0, xp.log(p[parameter])
        rest = xp.log1p(-p[parameter])
        below, above = own(xp.where(some, y, 1.0 if part.discrete else 0.5), p, xp)
        below, above = either_or(log_zero, rest, (below, above), xp)
        return xp.where(some, below, log_zero), xp.where(some, above, rest)

    return tails


def _others(y: Array) -> Array:
    """Put a positive number, which any family takes, in the place of zeros."""
    return np.where(y == 0, 0.5, y)


def _typical(y: Array) -> Array:
    """Put the median of the others in the place of zeros, which tell nothing of them."""
    zero = y == 0
    return y if zero.all() else np.where(zero, np.median(y[~zero]), y)


def _hurdle_core(part: Family, parameter: str) -> Any:
    def core(y: Array, trials: Array | None, params: Params) -> Any:
        hu = params[parameter]
        own: Any = part.core(_others(y), trials, params)  # type: ignore[misc]
        return np.where(y == 0, np.log(hu), np.log1p(-hu) + own)

    return core


def _hurdle_score(part: Family, parameter: str) -> Any:
    def score(y: Array, trials: Array | None, params: Params) -> dict[str, Array]:
        hu, zero = params[parameter], y == 0
        slopes = part.kernel[1](_others(y), trials, params)
        found = {name: np.where(zero, 0.0, slope) for name, slope in slopes.items()}
        return {**found, parameter: np.where(zero, 1 / hu, -1 / (1 - hu))}

    return score


def _hurdle_graph(part: Family, parameter: str) -> Any:
    def logp(value: Any, params: Params, trials: Any) -> Any:
        import pytensor.tensor as pt

        hu, zero = params[parameter], pt.eq(value, 0)
        other = pt.switch(zero, np.asarray(1, value.dtype), value)
        own = pt.log1p(-hu) + graph_logp(part, other, params, trials)
        return pt.switch(zero, pt.log(hu), own)

    return logp


def _mixed_variance(part: Family, p: Params, parameter: str) -> Array:
    hu, mean = p[parameter], part.expectation(p)
    return (1 - hu) * (part.variance(p, None) + hu * mean**2)  # type: ignore[misc]
