"""
One fit, in a process of its own: read a task, fit, write what it took.

`runner` starts it, maybe with the Python of another environment, so nothing is imported here that
is not in both.
"""

import gc
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.processes import forget_peak, peak_bytes, processor_seconds
from benchmarks.simulate import Simulation
from benchmarks.tables import read_table

type Task = Mapping[str, Any]


@dataclass(frozen=True)
class Found:
    """
    What a fit says of itself.

    Attributes
    ----------
    loglik
        Log-likelihood, restricted where the task asks for it, with all constants.
    words
        Its complaint about its own convergence; empty where it has none.
    """

    loglik: float
    words: str = ""


def fit_ours(task: Task, data: pd.DataFrame) -> Found:
    import glmm_bayes as gb

    fit = gb.Model(task["formula"], data, family=task["family"]).fit(task["method"])
    print(fit.summary())
    return Found(fit.loglik, "" if fit.converged else "it says that it has not converged")


def fit_mixedlm(task: Task, data: pd.DataFrame) -> Found:
    import mixedlm
    from mixedlm import families

    if task["family"] == "gaussian":
        fit = mixedlm.lmer(task["formula"], data, REML=task["method"] == "reml")
        # As lme4's: without the degrees of freedom, which cost it more than the fit.
        print(fit.summary(ddf_method=None))
    else:
        family = {"poisson": families.Poisson, "binomial": families.Binomial}[task["family"]]
        fit = mixedlm.glmer(task["formula"], data, family=family())
        print(fit.summary())
    return Found(fit.logLik().value, "" if fit.converged else "it says that it has not converged")


def fit_gpboost(task: Task, data: pd.DataFrame) -> Found:
    import gpboost
    from formulaic import model_matrix

    X = model_matrix(task["fixed"], data)
    y = data[task["response"]].to_numpy(float)
    options: dict[str, Any] = {}
    if "trials" in task:
        trials = data[task["trials"]].to_numpy(float)
        y, options["weights"] = y / trials, trials
    if "slopes" in task:
        options["group_rand_coef_data"] = data[task["slopes"]].to_numpy(float)
        options["ind_effect_group_rand_coef"] = [1] * len(task["slopes"])
    model = gpboost.GPModel(
        group_data=pd.DataFrame({name: _labels(data, name) for name in task["groups"]}),
        likelihood=task["family"],
        matrix_inversion_method=task["inversion"],
        **options,
    )
    model.fit(y=y, X=X)
    # As lme4's: with standard errors of the coefficients. Those of the variances, which its summary
    # has by default, can cost it more than the fit, and with a million rows more than 24 GB.
    print(model.get_coef(std_err=True))
    model.summary(std_err=False)
    done = model._get_convergence_status() == 0
    return Found(-model.get_current_neg_log_likelihood(), "" if done else "no convergence")


def _labels(data: pd.DataFrame, name: str) -> pd.Series:
    """Give the levels of a grouping factor, `a:b` those of an interaction."""
    first, *others = name.split(":")
    labels = data[first]
    for other in others:
        labels = labels.astype(str) + ":" + data[other].astype(str)
    return labels.astype(str) if isinstance(labels.dtype, pd.CategoricalDtype) else labels


def fit_statsmodels(task: Task, data: pd.DataFrame) -> Found:
    from statsmodels.regression.mixed_linear_model import MixedLM

    model = MixedLM.from_formula(
        task["fixed"], data, groups=task["group"], re_formula=task["columns"]
    )
    fit = model.fit(reml=task["method"] == "reml")
    print(fit.summary())
    return Found(fit.llf, "" if fit.converged else "it says that it has not converged")


# Who fits, and what is loaded before the clock runs, as `library(lme4)` is.
SIDES: dict[str, tuple[Callable[[Task, pd.DataFrame], Found], tuple[str, ...]]] = {
    "glmm_bayes": (fit_ours, ("glmm_bayes.inference", "numba", "scipy.linalg")),
    "mixedlm": (fit_mixedlm, ("mixedlm", "scipy.stats")),
    "gpboost": (fit_gpboost, ("gpboost", "formulaic")),
    "statsmodels": (fit_statsmodels, ("statsmodels.regression.mixed_linear_model",)),
}
DISTRIBUTIONS = {"glmm_bayes": "glmm-bayes"}


def table(task: Task) -> pd.DataFrame:
    """Read or make the data."""
    if task["simulation"] is not None:
        return Simulation(**task["simulation"]).table()
    return read_table(task["table"], task["levels"])


def main(path: Path) -> None:
    task = json.loads(path.read_text(encoding="utf-8"))
    fit, modules = SIDES[task["side"]]
    data = table(task)
    for module in modules:
        import_module(module)
    gc.collect()
    forget_peak()
    fits: list[tuple[float, float]] = []
    peak = 0
    while not fits or (
        sum(wall for _, wall in fits) < task["patience"] and len(fits) < task["most_fits"]
    ):
        cpu, wall = processor_seconds(), time.perf_counter()
        found = fit(task, data)
        wall, cpu = time.perf_counter() - wall, processor_seconds() - cpu
        # The first fit's: a later one may stand on what the first has left.
        peak = peak or peak_bytes()
        fits.append((cpu, wall))
    report = {
        "fits": fits,
        "loglik": float(found.loglik) if np.isfinite(found.loglik) else None,
        "words": found.words,
        "peak": peak,
        "version": metadata.version(DISTRIBUTIONS.get(task["side"], task["side"])),
    }
    path.with_name("report.json").write_text(json.dumps(report), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
