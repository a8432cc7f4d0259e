"""Bayes factors: by how much the data are more probable under one model than another."""

import warnings
from typing import Any

import numpy as np
import pandas as pd

from glmm_bayes.errors import ConvergenceWarning, DataError, NotSupportedError
from glmm_bayes.fit import Fit, PosteriorFit
from glmm_bayes.inference.checks import check_counts
from glmm_bayes.modes.search import FAILURES
from glmm_bayes.posthoc.evidence import Evidence, evidence_around
from glmm_bayes.verbs.bridge import evidence_by_bridge
from glmm_bayes.verbs.compare import check_alike

DOUBTFUL = 0.5  # standard error of a log evidence, from which on it is said


def bayes_factor(
    fit: PosteriorFit, other: Any, *, draws: int = 4000, seed: int | None = None
) -> pd.DataFrame:
    """
    Estimate the Bayes factor of this model against another one of the same data.

    Parameters
    ----------
    other
        The other posterior.
    draws
        How many draws are weighed for each model.
    seed
        By default that of the fit.

    Returns
    -------
    DataFrame
        Rows `this` and `other`: log p(y), natural, every constant included; and `log_bf`, their
        difference, positive where the data speak for this model. Columns `estimate`, `mc_error`,
        its Monte Carlo standard error, and `by`, how it was found.

    Raises
    ------
    DataError
        If the other is no posterior, or one of other responses.
    NotSupportedError
        If a prior has no finite mass, such as `Flat`.
    ConvergenceError
        If neither way leads to an estimate.

    Warns
    -----
    ConvergenceWarning
        If a Monte Carlo error is over 0.5.

    Notes
    -----
    Draws from the approximation of `sample`, effects and all, are weighed by the exact density:
    p(y) is their mean weight. Where Pareto's k of the weights is over 0.7, or the model has no such
    approximation, the fit's own draws are bridged to a normal: Gronau et al. (2017), J. Math.
    Psychology 81, 80-97.

    p(y) averages the likelihood over the prior, so that a Bayes factor depends on priors which
    hardly move the posterior: a prior of a coefficient that is ten times as wide makes the model
    with it nearly ten times less probable. State the priors that are meant; default ones are scaled
    from the data, and are not.
    """
    if not isinstance(other, PosteriorFit):
        raise DataError(
            f"A Bayes factor is of two posteriors, and the other is {_called(other)}; use "
            f"sample(), or fit('posthoc')."
        )
    check_counts(2, draws=draws)
    chosen = fit.seed if seed is None else seed
    check_counts(0, seed=chosen)
    check_alike({"this fit": fit, "the other": other}, "this fit", "the other")
    found = [evidence(each, seed=chosen, draws=draws) for each in (fit, other)]
    this, that = found
    if max(this.error, that.error) > DOUBTFUL:
        warnings.warn(
            f"The logs of the data's probabilities have Monte Carlo errors of {this.error:.2g} and "
            f"{that.error:.2g}: give more draws.",
            ConvergenceWarning,
            stacklevel=3,
        )
    return pd.DataFrame(
        {
            "estimate": [this.value, that.value, this.value - that.value],
            "mc_error": [this.error, that.error, float(np.hypot(this.error, that.error))],
            "by": [this.how, that.how, ""],
        },
        index=["this", "other", "log_bf"],
    )


def _called(other: Any) -> str:
    return f"by {other.method!r}" if isinstance(other, Fit) else repr(type(other).__name__)


def evidence(fit: PosteriorFit, *, seed: int, draws: int) -> Evidence:
    """
    Estimate log p(y), by weights around the mode or from the fit's draws.

    Raises
    ------
    NotSupportedError, ConvergenceError
        If neither can be.
    """
    try:
        found = evidence_around(fit.model, seed=seed, draws=draws)
    except (*FAILURES, NotSupportedError):
        return evidence_by_bridge(fit, seed=seed)
    return found if found.reliable else evidence_by_bridge(fit, seed=seed)
