"""Intervals from the replicates of a bootstrap."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from glmm_bayes.engine.algebra.lapack import one_thread
from glmm_bayes.model import Model
from glmm_bayes.modes.clusters import grouped
from glmm_bayes.verbs.bootstrap_run import Resampling, left_out

if TYPE_CHECKING:
    from glmm_bayes.verbs.bootstrap import Bootstrap

PARTS = 100  # of the clusters, left out one after the other, where there are more of them


def percentile(found: "Bootstrap", name: str, level: float) -> tuple[float, float]:
    """Give quantiles of the replicates."""
    return _quantiles(found, name, (1 - level) / 2, (1 + level) / 2)


def basic(found: "Bootstrap", name: str, level: float) -> tuple[float, float]:
    """Reflect the quantiles at the estimate."""
    lower, upper = percentile(found, name, level)
    return 2 * found.estimate[name] - upper, 2 * found.estimate[name] - lower


def normal(found: "Bootstrap", name: str, level: float) -> tuple[float, float]:
    """Take away the bias, and go to both sides by normal quantiles."""
    draws = found.draws[name].dropna()
    middle = 2 * found.estimate[name] - draws.mean()
    half = float(ndtri(0.5 + level / 2)) * draws.std()
    return middle - half, middle + half


def bca(found: "Bootstrap", name: str, level: float) -> tuple[float, float]:
    """
    Take quantiles that are corrected for bias and acceleration.

    NaN where all replicates are to one side of the estimate.
    """
    draws = found.draws[name].dropna().to_numpy()
    below = np.mean(draws < found.estimate[name]) + 0.5 * np.mean(draws == found.estimate[name])
    bias = float(ndtri(below))
    without = found.jackknife[name].dropna().to_numpy()
    away = without.mean() - without
    square = float(np.sum(away**2))
    skew = float(np.sum(away**3)) / (6 * square**1.5) if square > 0 else 0.0
    z = bias + ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))
    places = ndtr(bias + z / (1 - skew * z))
    if not np.isfinite(places).all():
        return np.nan, np.nan
    return _quantiles(found, name, *places)


INTERVALS: dict[str, Callable[["Bootstrap", str, float], tuple[float, float]]] = {
    "percentile": percentile,
    "basic": basic,
    "normal": normal,
    "bca": bca,
}


def _quantiles(found: "Bootstrap", name: str, lower: float, upper: float) -> tuple[float, float]:
    low, high = np.quantile(found.draws[name].dropna(), (lower, upper))
    return float(low), float(high)


def jackknife(study: Resampling) -> pd.DataFrame:
    """
    Give the statistic without each level of the outermost grouping, or without parts of them.

    Returns
    -------
    DataFrame
        One row a level, or one of 100 parts of them all where there are more; one column a
        number of the statistic. Rows of data count as levels where there are no random effects, or
        only what all rows share, such as one process.
    """
    level = _outermost(study.model)
    part = level % PARTS if level.max() >= PARTS else level
    with one_thread(), np.errstate(all="ignore"):
        rows = [left_out(study, part == k) for k in range(int(part.max()) + 1)]
    return pd.DataFrame(np.stack(rows), columns=list(study.names))


def _outermost(model: Model) -> np.ndarray:
    """Give the number of each row's group `(n,)` in the grouping that has fewest, but several."""
    terms = [t for t in model.design.terms if t.index.shape[1] == 1 and not t.common]
    several = [(len(names), label) for label, names in map(grouped, terms) if len(names) > 1]
    if not several:
        return np.arange(model.nobs)
    return min(several, key=lambda pair: pair[0])[1]
