"""Kinds of expected log predictive density that ArviZ has no class for, as ArviZ's own."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from arviz_stats.utils import ELPDData, ELPDDataLOO

from glmm_bayes.fit import PosteriorFit


@dataclass(kw_only=True, repr=False)
class ELPDDataWAIC(ELPDData):
    """What `waic` gives: `elpd, se, p, elpd_i` …; no Pareto k, as nothing is weighed."""

    _kind: ClassVar[str] = "waic"


@dataclass(kw_only=True, repr=False)
class ELPDDataLOGO(ELPDDataLOO):
    """What `logo` gives: as `ELPDDataLOO`, where each point is a level of a group."""

    _kind: ClassVar[str] = "logo"


def totals(pointwise: xr.DataArray, p: xr.DataArray) -> dict[str, Any]:
    """Sum values of points, and effective numbers of parameters: what all kinds have."""
    n = pointwise.size
    return {
        "elpd": float(pointwise.sum()),
        "se": float(np.sqrt(n * pointwise.var())),
        "p": float(p.sum()),
        "n_data_points": n,
        "scale": "log",
        "elpd_i": pointwise,
    }


def log_mean(log_values: np.ndarray) -> np.ndarray:
    """Give the log of the mean of exponentials over the first axis, `(…)` from `(S, …)`."""
    top = log_values.max(axis=0)
    found: np.ndarray = top + np.log(np.exp(log_values - top).mean(axis=0))
    return found


def by_row(fit: PosteriorFit, values: np.ndarray) -> xr.DataArray:
    """Name the rows of values `(n,)` as the fit's draws do."""
    return xr.DataArray(values, {"__obs__": fit.model.design.rows.kept}, ["__obs__"], name="elpd_i")
