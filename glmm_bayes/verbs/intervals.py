"""Values of every draw to estimates, errors and intervals, for a posterior and for a maximum."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit, ndtr, ndtri

from glmm_bayes.errors import DataError
from glmm_bayes.families import Link
from glmm_bayes.fit import Fit
from glmm_bayes.modes.star import delta_variance

EDGE = 1e-8  # of a bounded parameter's interval: nearer to a bound, it is at its edge


@dataclass(frozen=True)
class Scale:
    """A scale on which an estimate is more nearly normal: there and back, monotone."""

    to: Callable[[Any], Any]
    back: Callable[[Any], Any]


def between(lower: float, upper: float) -> Scale:
    """Make the logit scale of an interval; between -1 and 1 it is twice Fisher's z."""

    def to(x: np.ndarray) -> np.ndarray:
        share = (x - lower) / (upper - lower)
        return logit(np.where((share > EDGE) & (share < 1 - EDGE), share, np.nan))

    return Scale(to, lambda z: lower + (upper - lower) * expit(z))


IDENTITY = Scale(lambda x: x, lambda x: x)
LOG = Scale(np.log, np.exp)
LOGIT = Scale(logit, expit)
FISHER = between(-1.0, 1.0)


def scale_of(support: tuple[float, float]) -> Scale:
    """Choose a scale for a parameter by its support."""
    lower, upper = support
    if np.isfinite(lower) and np.isfinite(upper):
        return between(lower, upper)
    if np.isfinite(lower) and lower != 0.0:
        return Scale(lambda x: np.log(x - lower), lambda z: lower + np.exp(z))
    return LOG if support == (0.0, np.inf) else IDENTITY


def link_scale(link: Link) -> Scale:
    """Make a link's scale."""
    return Scale(link.linkfun, link.linkinv)


def checked_level(level: float) -> float:
    """Check the probability of an interval, or raise `DataError`."""
    if not 0 < level < 1:
        raise DataError(f"level={level!r} must lie between 0 and 1, such as 0.95.")
    return level


def of_draws(draws: np.ndarray, level: float) -> dict[str, np.ndarray]:
    """
    Summarise random draws along the first axis.

    Parameters
    ----------
    draws
        `(S, …)`.
    level
        Probability of the equal-tailed interval.

    Returns
    -------
    dict
        `estimate` (mean), `std_error` (standard deviation), `lower`, `upper`, each of shape `(…)`.
    """
    tail = (1 - checked_level(level)) / 2
    lower, upper = np.quantile(draws, (tail, 1 - tail), axis=0)
    return {
        "estimate": draws.mean(axis=0),
        "std_error": draws.std(axis=0, ddof=1),
        "lower": lower,
        "upper": upper,
    }


def wald(values: np.ndarray, level: float, scale: Scale | None = None) -> dict[str, np.ndarray]:
    """
    Estimate a quantity from its values on a star about a maximum, by the delta method.

    Parameters
    ----------
    values
        `(1 + 2d, …)`: see `modes.star`.
    level
        Probability of the interval, normal and symmetric on the scale.
    scale
        Where the interval is made; by default the values' own.

    Returns
    -------
    dict
        `estimate`, `std_error` (on the values' own scale), `lower`, `upper`, each `(…)`. All but
        the estimate are NaN where it lies at the scale's edge: a standard deviation of zero, a
        correlation of plus or minus one.
    """
    z = ndtri(0.5 + checked_level(level) / 2)
    scale = scale or IDENTITY
    with np.errstate(all="ignore"):
        moved = np.asarray(scale.to(values), dtype=float)
        inside = np.isfinite(moved[0])
        half = np.where(inside, z * np.sqrt(delta_variance(moved)), np.nan)
        bounds = np.stack([scale.back(moved[0] - half), scale.back(moved[0] + half)])
        std_error = np.where(inside, np.sqrt(delta_variance(values)), np.nan)
    # A scale such as 1/x turns the order round.
    bounds.sort(axis=0)
    return {
        "estimate": values[0],
        "std_error": std_error,
        "lower": bounds[0],
        "upper": bounds[1],
    }


def wald_test(values: np.ndarray, sign: str) -> dict[str, Any]:
    """
    Test whether quantities are zero, from their values `(1 + 2d, …)` on a star.

    Parameters
    ----------
    sign
        `"="` for a two-sided test, `">"` or `"<"` for one whose alternative that is.

    Returns
    -------
    dict
        `statistic` (estimate over standard error), `df` (infinite: a normal distribution),
        `p_value`.
    """
    error = np.sqrt(delta_variance(values))
    with np.errstate(all="ignore"):
        z = np.where(error > 0, values[0] / error, np.nan)
    p = {"=": 2 * ndtr(-np.abs(z)), ">": ndtr(-z), "<": ndtr(z)}[sign]
    return {"statistic": z, "df": np.full_like(z, np.inf), "p_value": p}


def table(
    fit: Fit,
    values: np.ndarray,
    level: float,
    index: pd.Index | None = None,
    scale: Scale | None = None,
) -> pd.DataFrame:
    """Summarise `(S, k)` values of a fit's draws as a table of k rows."""
    return pd.DataFrame(fit.summarise(values, level, scale), index=index)
