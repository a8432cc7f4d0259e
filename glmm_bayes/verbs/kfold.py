"""Cross-validation by refits without one fold of the rows after the other."""

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from arviz_stats.utils import ELPDDataLOOKFold

from glmm_bayes.errors import ConvergenceError, ConvergenceWarning
from glmm_bayes.fit import Fit, PosteriorFit
from glmm_bayes.inference import METHODS
from glmm_bayes.inference.checks import check_counts
from glmm_bayes.model import Model
from glmm_bayes.modes.another import changed
from glmm_bayes.results import log_likelihood
from glmm_bayes.verbs.criteria import with_log_likelihood
from glmm_bayes.verbs.elpd import by_row, log_mean, totals
from glmm_bayes.verbs.folds import assigned, without
from glmm_bayes.verbs.replicates import Parcel, progress, run, silence


@dataclass(frozen=True, eq=False)
class Study:
    """
    What all folds share.

    Attributes
    ----------
    model, method, function, options
        The model, and how it is fitted.
    seed
        From which each fold has a seed of its own.
    folds
        `(n,)` the number of each row's.
    home
        The process that started it.
    """

    model: Model
    method: str
    function: Callable[..., Fit]
    options: Mapping[str, Any]
    seed: int
    folds: np.ndarray
    home: int


@dataclass(frozen=True, eq=False)
class Fold:
    """What came of leaving rows out: their log predictive densities, and what is wrong, if any."""

    number: int
    elpd: np.ndarray
    problems: tuple[str, ...]


def kfold(
    fit: PosteriorFit,
    k: int | None = None,
    group: str | None = None,
    *,
    strata: str | None = None,
    seed: int | None = None,
    n_jobs: int | None = None,
    progressbar: bool = True,
) -> ELPDDataLOOKFold:
    """
    Refit without one fold of the rows after the other, and predict the rows left out.

    Parameters
    ----------
    k
        How many folds: 10 by default, or as many as there are levels of `group`, if these are
        fewer. With as many as there are rows or levels, one is left out at a time.
    group
        A group of the model, or a column of the data, whose levels are left out whole: rows are
        then predicted for levels that are new, with effects drawn from their distribution given
        the levels that are left. By default rows are left out at random.
    strata
        A group or column of whose levels each fold has the same share, as far as that goes.
    seed
        Of the folds and the refits; by default that of the fit. Fits with the same rows have the
        same folds.
    n_jobs
        How many refits run at once, as in joblib: 1 unless `joblib.parallel_config` says
        otherwise. The answer does not depend on it.
    progressbar
        Whether progress is shown.

    Returns
    -------
    ELPDDataLOOKFold
        ArviZ's, for `gb.compare`: `elpd, se, p, elpd_i` …, the points being rows; `elpd_i` has the
        fold as a coordinate.

    Raises
    ------
    DataError
        If there are fewer rows or levels than folds.
    UnknownNameError
        If there is no such group.
    NotSupportedError
        If residuals have a structure.
    ConvergenceError
        If there is no fit without some fold.

    Warns
    -----
    ConvergenceWarning
        If the draws of some fold should not be trusted.

    Notes
    -----
    elpd_i = log E p(y_i | θ), over draws given the other folds: Vehtari, Gelman & Gabry (2017),
    Statistics and Computing 27, 1413-1432. Refits are by the fit's own method and options. Priors
    stay those of the whole data, from which default ones are scaled. Rows of a fold are predicted
    one by one, not jointly.
    """
    seed, model = fit.seed if seed is None else seed, fit.model
    check_counts(0, seed=seed)
    study = Study(
        changed(model, data=model.design.rows.whole),
        fit.method,
        METHODS[fit.method],
        {**fit.options, **({"progressbar": False} if "progressbar" in fit.options else {})},
        seed,
        assigned(model, k, group, strata, seed),
        os.getpid(),
    )
    without(model, study.folds == 0)
    return _result(fit, study.folds, _refitted(study, n_jobs, progressbar))


def _refitted(study: Study, n_jobs: int | None, progressbar: bool) -> list[Fold]:
    count, found = int(study.folds.max()) + 1, []
    with progress("Folds", count, {}, progressbar) as advance:

        def record(fold: Fold) -> None:
            found.append(fold)
            advance({"doubtful" if fold.problems else "fitted": 1})

        complete = run(refit_without, Parcel(study), range(count), n_jobs, record)
    if not complete:
        raise KeyboardInterrupt
    return sorted(found, key=lambda fold: fold.number)


def refit_without(parcel: Parcel, number: int) -> Fold:
    """
    Refit without one fold, and predict its rows, from a seed of its own.

    Raises
    ------
    ConvergenceError
        If there is no such fit.
    """
    study = parcel.study
    if os.getpid() == study.home:
        # Filters are the process's and not the thread's: there they are set once for all.
        return _refit_without(study, number)
    with warnings.catch_warnings():
        silence()
        return _refit_without(study, number)


def _refit_without(study: Study, number: int) -> Fold:
    left_out = study.folds == number
    stream = np.random.SeedSequence(study.seed, spawn_key=(number,))
    seed = int(stream.generate_state(1)[0])
    try:
        fit = without(study.model, left_out).fit(study.method, seed=seed, **study.options)
    except ConvergenceError as error:
        raise ConvergenceError(f"There is no fit without fold {number}: {error}") from error
    rows = changed(study.model, design=study.model.design.take(np.flatnonzero(left_out)))
    values = log_likelihood(rows, fit.draws)["y"].to_numpy()
    elpd = log_mean(values.reshape(-1, values.shape[-1]))
    return Fold(number, elpd, tuple(fit.diagnostics().problems))


def _result(fit: PosteriorFit, of: np.ndarray, folds: list[Fold]) -> ELPDDataLOOKFold:
    elpd = np.empty(len(of))
    for fold in folds:
        elpd[of == fold.number] = fold.elpd
    doubtful = [fold for fold in folds if fold.problems]
    if doubtful:
        warnings.warn(
            f"The draws without {len(doubtful)} of {len(folds)} folds should not be trusted yet. "
            f"Fold {doubtful[0].number}: {' '.join(doubtful[0].problems)}",
            ConvergenceWarning,
            stacklevel=4,
        )
    seen = with_log_likelihood(fit)["log_likelihood"]["y"].to_numpy()
    p = log_mean(seen.reshape(-1, len(of))) - elpd
    pointwise = by_row(fit, elpd).assign_coords(fold=("__obs__", of))
    return ELPDDataLOOKFold(
        **totals(pointwise, by_row(fit, p)),
        n_samples=fit.draws.size,
        warning=bool(doubtful),
        good_k=np.nan,
        n_folds=len(folds),
        p_kfold_i=by_row(fit, p),
    )
