"""Draws to estimates: posterior mean, standard deviation and equal-tailed interval."""

import numpy as np
import pandas as pd

from glmm_bayes.errors import DataError

COLUMNS = ("estimate", "std_error", "lower", "upper")


def summarise(draws: np.ndarray, level: float) -> dict[str, np.ndarray]:
    """
    Summarise draws along the first axis.

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
    if not 0 < level < 1:
        raise DataError(f"level={level!r} must lie between 0 and 1, such as 0.95.")
    tail = (1 - level) / 2
    lower, upper = np.quantile(draws, (tail, 1 - tail), axis=0)
    return {
        "estimate": draws.mean(axis=0),
        "std_error": draws.std(axis=0, ddof=1),
        "lower": lower,
        "upper": upper,
    }


def table(draws: np.ndarray, level: float, index: pd.Index | None = None) -> pd.DataFrame:
    """Summarise `(S, k)` draws as a table of k rows."""
    return pd.DataFrame(summarise(draws, level), index=index)
