"""Degrees of freedom by counting rows, groups and coefficients."""

from collections.abc import Sequence

import numpy as np

from glmm_bayes.errors import NotSupportedError
from glmm_bayes.fit import ModeFit
from glmm_bayes.modes.clusters import grouped
from glmm_bayes.verbs.by_response import refuse_several
from glmm_bayes.verbs.fixed_terms import fixed_terms, mean_predictor
from glmm_bayes.verbs.small_sample import JointTest, SmallSample, of_mean

COUNTED = ("degrees of freedom are counted for the coefficients", "use ddf='asymptotic'")


def residual(fit: ModeFit) -> SmallSample:
    """Take the number of rows less that of the mean's coefficients."""
    refuse_several(fit.model, "This number of degrees of freedom", "use ddf='asymptotic'")
    k = len(mean_predictor(fit.model, *COUNTED).names)
    return _per_coefficient(fit, np.full(k, float(fit.nobs - k)))


def inner_outer(fit: ModeFit) -> SmallSample:
    """
    Count, for each term, the groups within which it does not vary, or the rows.

    A term is of the coarsest grouping within whose groups it is constant, or of the rows. Its
    degrees of freedom are the groups there, less those of the next coarser grouping and the
    coefficients that are estimated there. The intercept is of the rows.

    Raises
    ------
    NotSupportedError
        If groupings are crossed, or there are none.

    Notes
    -----
    Pinheiro & Bates (2000), Mixed-Effects Models in S and S-PLUS, section 2.4.2.
    """
    refuse_several(fit.model, "This number of degrees of freedom", "use ddf='asymptotic'")
    model = fit.model
    levels = [np.zeros(model.nobs, dtype=int), *_chain(fit), np.arange(model.nobs)]
    predictor = mean_predictor(model, *COUNTED)
    terms = fixed_terms(predictor)
    intercept = [not (t.classes or t.numbers) for t in terms]
    home = [
        len(levels) - 1 if alone else _coarsest(predictor.X[:, t.columns], levels)
        for t, alone in zip(terms, intercept, strict=True)
    ]
    counts = np.array([len(np.unique(part)) for part in levels])
    # Without an intercept, the mean of all is not taken.
    counts[0] = int(any(intercept))
    taken = np.zeros(len(levels), dtype=int)
    for t, level, alone in zip(terms, home, intercept, strict=True):
        taken[level] += 0 if alone else len(t.columns)
    left = counts[1:] - counts[:-1] - taken[1:]
    df = np.empty(len(predictor.names))
    for t, level in zip(terms, home, strict=True):
        df[t.columns] = left[level - 1]
    if (df <= 0).any():
        bad = predictor.names[int(np.argmax(df <= 0))]
        raise NotSupportedError(
            f"ddf='inner-outer' leaves no degrees of freedom for {bad!r}: as many coefficients as "
            f"groups do not vary within groups; use ddf='asymptotic', or fewer terms."
        )
    return _per_coefficient(fit, df)


def _coarsest(X: np.ndarray, levels: Sequence[np.ndarray]) -> int:
    for number, group in enumerate(levels[1:-1], start=1):
        first = np.unique(group, return_index=True)[1]
        if np.array_equal(X[first][np.unique(group, return_inverse=True)[1]], X):
            return number
    return len(levels) - 1


def _chain(fit: ModeFit) -> list[np.ndarray]:
    """Give each row's group in every grouping, the coarsest first."""
    terms = fit.model.design.terms
    if not terms or any(term.index.shape[1] > 1 for term in terms):
        raise NotSupportedError(
            "ddf='inner-outer' needs groups, and one group a row; use ddf='residual'."
        )
    found: list[np.ndarray] = []
    groups = [(*grouped(term), term.text) for term in terms]
    for group, names, text in sorted(groups, key=lambda own: len(own[1])):
        for coarser in found:
            pairs = len(np.unique(np.stack([coarser, group]), axis=1).T)
            if pairs > len(np.unique(group)):
                raise NotSupportedError(
                    f"ddf='inner-outer' counts nested groups, but those of {text!r} are "
                    f"crossed with others; use ddf='residual' or ddf='asymptotic'."
                )
        if not found or len(np.unique(found[-1])) < len(names):
            found.append(group)
    return found


def _per_coefficient(fit: ModeFit, df: np.ndarray) -> SmallSample:
    """Give combinations the smallest number of the coefficients that are in them."""

    def of(L: np.ndarray) -> np.ndarray:
        return of_mean(fit, L, lambda M: np.where(M != 0, df, np.inf).min(axis=1, initial=np.inf))

    return SmallSample(
        fit.coefficient_covariance(), of, lambda L: JointTest(1.0, float(of(L).min()))
    )
