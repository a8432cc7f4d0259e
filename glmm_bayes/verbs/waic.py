"""The widely applicable information criterion."""

import warnings

import numpy as np

from glmm_bayes.fit import PosteriorFit
from glmm_bayes.verbs.criteria import with_log_likelihood
from glmm_bayes.verbs.elpd import ELPDDataWAIC, by_row, log_mean, totals

DOUBTFUL = 0.4  # posterior variance of a row's log density, from which on WAIC is biased


def waic(fit: PosteriorFit) -> ELPDDataWAIC:
    """
    Compute the widely applicable information criterion, on the scale of log densities.

    Returns
    -------
    ELPDDataWAIC
        As what `loo` gives, without Pareto's k: `elpd, se, p, elpd_i` …, for `gb.compare`. The
        random effects are part of the model, as in `loo`.

    Warns
    -----
    UserWarning
        If the log density of a row varies by more than 0.4: `loo` is then nearer to the truth,
        and says itself where it is not.

    Notes
    -----
    elpd = sum of log E p(y_i | θ) - Var log p(y_i | θ), over draws: Watanabe (2010), J. Machine
    Learning Research 11, 3571-3594; Vehtari, Gelman & Gabry (2017), Statistics and Computing 27,
    1413-1432, who prefer `loo`.
    """
    found = with_log_likelihood(fit)["log_likelihood"]["y"].to_numpy()
    values = found.reshape(-1, found.shape[-1])
    p = values.var(axis=0, ddof=1)
    large = int((p > DOUBTFUL).sum())
    if large:
        warnings.warn(
            f"The log density of {large} of {len(p)} rows varies by more than {DOUBTFUL} between "
            f"draws, so that WAIC is not reliable: use loo().",
            UserWarning,
            stacklevel=3,
        )
    elpd = by_row(fit, log_mean(values) - p)
    return ELPDDataWAIC(
        **totals(elpd, by_row(fit, p)),
        n_samples=len(values),
        warning=large > 0,
        good_k=np.nan,
    )
