"""Tests of terms, and of one fit against a smaller one."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import chi2
from scipy.stats import f as fisher

from glmm_bayes.errors import NotSupportedError, UnknownNameError
from glmm_bayes.fit import Fit, ModeFit
from glmm_bayes.registry import suggestion
from glmm_bayes.verbs.by_response import refuse_several
from glmm_bayes.verbs.ddf import DDF, SmallSample, default_ddf, small_sample
from glmm_bayes.verbs.fixed_terms import (
    HYPOTHESES,
    TERMS,
    difference_of,
    fixed_terms,
    mean_predictor,
)
from glmm_bayes.verbs.nested import checked_pair
from glmm_bayes.verbs.ratio import bootstrap_test, ratio_test
from glmm_bayes.verbs.ttest import estimates


def anova(
    fit: ModeFit,
    other: Fit | None = None,
    *,
    test: str | None = None,
    type: int = 3,  # noqa: A002
    nsim: int | None = None,
    seed: int | None = None,
) -> pd.DataFrame:
    """
    Test each term of the mean's fixed part by F; or, given another fit, the larger against it.

    Parameters
    ----------
    other
        A fit of the same rows, one of the two models being a case of the other.
    test
        Of terms a method of `ttest`, by default Satterthwaite's for normal responses with identity
        link and `"asymptotic"` for others. Of two fits: `"lrt"`, the default, by their
        likelihoods; `"bootstrap"`, by the ratios in responses drawn from the smaller; or a method
        of `ttest`, for fixed effects.
    type
        3: a term's effect on average over the classes of all others, each with equal weight, and
        other numbers at zero. 2: beside the terms that do not hold it, averaged as the rows are.
    nsim
        Draws: of responses for `"bootstrap"`, by default 1000; of the null distribution for
        `"lrt"`, where it has no closed form, by default 5000.
    seed
        Makes draws reproducible; by default that of the fit.

    Returns
    -------
    DataFrame
        Of terms, one row each: `num_df, den_df, statistic` (F), `p_value`. Of two fits the smaller
        first: `parameters, loglik, statistic, df, p_value`, the last three of the larger; the
        statistic is twice the difference in log likelihood, or F with `num_df, den_df`. Where the
        smaller model is at the edge of the larger, as without a variance, the null distribution
        is a mixture of chi-squared, `df` the largest of theirs. Where p is by draws, its
        `mc_error` is one standard error. What else was done is in `attrs["notes"]`.

    Raises
    ------
    DataError
        If the fits are not of the same rows, or neither model is a case of the other, or they are
        by 'reml' and differ in their fixed parts.
    NotSupportedError
        If the test is not for these models.

    Notes
    -----
    Self & Liang (1987), J. Am. Stat. Assoc. 82, 605-610; Stram & Lee (1994), Biometrics 50,
    1171-1177. Halekoh & Hojsgaard (2014), J. Stat. Softw. 59(9), for the bootstrap and F.

    Examples
    --------
    >>> import glmm_bayes as gb
    >>> data = gb.load_dataset("sleepstudy")
    >>> slopes = gb.Model("Reaction ~ Days + (1 + Days | Subject)", data).fit("reml")
    >>> slopes.anova().round(2)
          num_df  den_df  statistic  p_value
    term
    Days       1    17.0      45.85      0.0
    """
    if other is None:
        return _of_terms(fit, test, type)
    known = ("lrt", "bootstrap", *DDF)
    chosen = "lrt" if test is None else test
    if chosen not in known:
        raise UnknownNameError(f"test={test!r} is not known. {suggestion(chosen, known)}")
    larger, smaller = checked_pair(fit, other)
    if chosen in DDF:
        return _of_difference(larger, smaller, chosen)
    return RATIOS[chosen](larger, smaller, nsim=nsim, seed=fit.seed if seed is None else seed)


RATIOS: Mapping[str, Callable[..., pd.DataFrame]] = {
    "lrt": ratio_test,
    "bootstrap": bootstrap_test,
}


def _of_terms(fit: ModeFit, test: str | None, kind: int) -> pd.DataFrame:
    refuse_several(
        fit.model, "A table of terms", "compare two fits, anova(other), or use hypothesis(…)"
    )
    name = default_ddf(fit.model) if test is None else test
    if name in RATIOS:
        raise NotSupportedError(
            f"test={name!r} compares two fits: give the smaller one, anova(other, test={name!r}). "
            f"Terms are tested by F: test='{default_ddf(fit.model)}'."
        )
    if kind not in HYPOTHESES:
        raise UnknownNameError(f"type={kind!r} is not known; it is 2 or 3.")
    tests, beta = small_sample(fit, name), estimates(fit)
    terms = [t for t in fixed_terms(mean_predictor(fit.model, *TERMS)) if t.classes or t.numbers]
    rows = []
    for term in terms:
        L = np.zeros((len(term.columns), len(beta)))
        weights = HYPOTHESES[kind](fit.model, term)
        L[:, : weights.shape[1]] = weights
        rows.append(f_columns(tests, L, beta))
    found = pd.DataFrame(rows, index=pd.Index([t.name for t in terms], name="term"))
    found = found.reindex(columns=["num_df", "den_df", "statistic", "p_value"])
    found.attrs["notes"] = [f"F of type {kind}, ddf={name!r}.", *tests.notes]
    return found.astype({"num_df": int})


def f_columns(tests: SmallSample, L: np.ndarray, beta: np.ndarray) -> dict[str, Any]:
    """Test whether r independent combinations L `(r, K)` are all zero, by F."""
    q = len(L)
    value = L @ beta
    wald = float(value @ np.linalg.solve(L @ tests.covariance @ L.T, value))
    joint = tests.joint(L)
    statistic = joint.scale * wald / q
    if np.isinf(joint.df):
        p = float(chi2.sf(q * statistic, q))
    else:
        p = float(fisher.sf(statistic, q, joint.df))
    return {"num_df": q, "den_df": joint.df, "statistic": statistic, "p_value": p}


def _of_difference(larger: ModeFit, smaller: ModeFit, ddf: str) -> pd.DataFrame:
    """Test by F what of the larger model's fixed part the smaller lacks."""
    tests, beta = small_sample(larger, ddf), estimates(larger)
    weights = difference_of(larger.model, smaller.model)
    same = {t.text for t in larger.model.design.terms} == {
        t.text for t in smaller.model.design.terms
    }
    if not len(weights) or not same:
        raise NotSupportedError(
            f"test={ddf!r} is for models that differ in the mean's fixed part alone; use "
            f"test='lrt' or test='bootstrap'."
        )
    L = np.zeros((len(weights), len(beta)))
    L[:, : weights.shape[1]] = weights
    found = pd.DataFrame([f_columns(tests, L, beta)], index=pd.Index(["larger"], name="model"))
    found.attrs["notes"] = [f"F of what the smaller model lacks, ddf={ddf!r}.", *tests.notes]
    return found
