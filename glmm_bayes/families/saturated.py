"""Deviances: how far the log density of responses is from the most that any mean gives them."""

from typing import Any

import numpy as np

from glmm_bayes.errors import NotSupportedError
from glmm_bayes.families.family import Array, Family, Params
from glmm_bayes.families.links import LINKS

GOLDEN = (np.sqrt(5) - 1) / 2
STEPS = 70  # of a golden section: then the interval is 1e-14 of what it was
REACH, SPREADS = 14.0, 40.0  # of the search, on the link's scale or in standard deviations
EDGE = 1e-4  # of a proportion, from where the search begins


def unit_deviance(family: Family, y: Array, trials: Array | None, params: Params) -> Array:
    """
    Give twice the log density's distance from its maximum over mu, the other parameters kept.

    That is the family's own `deviance` where it states one, with the scale or shape of a
    continuous response at 1; else the maximum is searched for, row by row.

    Raises
    ------
    NotSupportedError
        If the family has no density that a mean of its own would make highest.
    """
    if family.deviance is not None:
        return family.deviance(y, trials, params)
    if family.kinked or family.variance is None or family.categories is not None or family.signed:
        raise NotSupportedError(
            f"The family {family.name!r} has no deviance; ask for residuals of kind 'quantile'."
        )
    here = family.logp(y, trials, params)
    return 2 * np.maximum(_highest(family, y, trials, params, here) - here, 0.0)


def _highest(family: Family, y: Array, trials: Array | None, params: Params, here: Array) -> Array:
    """Search by golden sections on the scale of mu's own link."""
    main = family.parameters[0]
    link = LINKS[main.link]
    low, high = _interval(family, y, trials, params)
    middle = 0.5 * (low + high)

    def height(eta: Array) -> Array:
        with np.errstate(all="ignore"):
            found = family.logp(y, trials, {**params, main.name: link.linkinv(eta)})
        # Where there is no density, on towards where there is.
        return np.where(np.isfinite(found), found, -1e200 * (1 + np.abs(eta - middle)))

    a, b = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_a, at_b = height(a), height(b)
    for _ in range(STEPS):
        right = at_b > at_a
        low, high = np.where(right, a, low), np.where(right, high, b)
        new = np.where(right, low + GOLDEN * (high - low), high - GOLDEN * (high - low))
        found = height(new)
        a, b = np.where(right, b, new), np.where(right, new, a)
        at_a, at_b = np.where(right, at_b, found), np.where(right, found, at_a)
    return np.maximum(np.maximum(at_a, at_b), here)


def _interval(
    family: Family, y: Array, trials: Array | None, params: Params
) -> tuple[Array, Array]:
    main = family.parameters[0]
    link = LINKS[main.link]
    start: Any = family.working(y) if trials is None else y / np.maximum(trials, 1)
    if main.link == "identity":
        spread = np.sqrt(np.maximum(family.variance(params, trials), 0.0))  # type: ignore[misc]
        reach: Any = np.where(np.isfinite(spread), spread, params.get("sigma", 1.0))
        apart = np.abs(start - params[main.name])
        return start - SPREADS * reach - apart, start + SPREADS * reach + apart
    lower, upper = main.support
    inside = np.clip(start, lower + EDGE, upper - EDGE if np.isfinite(upper) else np.inf)
    eta = link.linkfun(inside)
    return eta - REACH, eta + REACH
