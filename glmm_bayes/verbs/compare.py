"""Compare fits of the same responses: by cross-validation, or by information criteria."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from glmm_bayes.errors import DataError, UnknownNameError
from glmm_bayes.fit import Fit, ModeFit, PosteriorFit
from glmm_bayes.registry import suggestion

if TYPE_CHECKING:
    from arviz_stats.utils import ELPDData

CRITERIA = ("aic", "aicc", "bic", "caic")


def compare(
    fits: "Mapping[str, Fit] | Sequence[Fit] | Mapping[str, ELPDData]", **options: Any
) -> Any:
    """
    Rank fits of the same rows: posteriors by leave-one-out cross-validation, maxima by AIC.

    Parameters
    ----------
    fits
        By name, or in a list, where they are called by their formulas; all of one kind. Or, by
        name, what their `loo`, `kfold`, `logo` or `waic` gave, all of them the same verb's.
    **options
        Of posteriors those of `arviz.compare`, such as `method`; of maxima `criterion`, by which
        they are ranked: `"aic"`, the default, `"aicc"`, `"bic"` or `"caic"`.

    Returns
    -------
    DataFrame
        The best first. Of posteriors ArviZ's: `rank, elpd, p, elpd_diff, weight, se, dse,
        warning` …; of maxima `loglik, df, aic, aicc, bic, delta`, the last the difference in the
        criterion from the best; with `"caic"` that too, and its `conditional_df`.

    Raises
    ------
    DataError
        If there are fewer than two fits, they are of different kinds or responses, or they
        maximise likelihoods that cannot be compared; if results are of different verbs or points.

    Notes
    -----
    AIC counts the parameters, not the random effects: the marginal AIC, of new groups. The
    conditional one, of the same groups, is that of `ModeFit.caic`. A restricted likelihood
    is that of contrasts which the fixed columns define, so that such fits are compared only
    where these are the same. AICc: Hurvich & Tsai (1989), Biometrika 76, 297-307.
    """
    named = dict(fits) if isinstance(fits, Mapping) else _named(fits)
    if len(named) < 2:
        raise DataError("Give at least two fits to compare.")
    scores = {name: one for name, one in named.items() if hasattr(one, "elpd")}
    if scores:
        return _by_scores(named, scores, **options)
    first, *others = named
    for other in others:
        if named[first].kind != named[other].kind:
            raise DataError(
                f"{first!r} was fitted by {named[first].method!r} and {other!r} by "
                f"{named[other].method!r}: a posterior and a maximum have no common criterion; "
                f"fit both the same way."
            )
        check_alike(named, first, other)
    return RANKINGS[named[first].kind](named, **options)


def _by_cross_validation(fits: Mapping[str, PosteriorFit], **options: Any) -> Any:
    import arviz as az

    from glmm_bayes.verbs.criteria import loo

    return az.compare({name: loo(fit, pointwise=True) for name, fit in fits.items()}, **options)


def _by_scores(named: Mapping[str, Any], scores: Mapping[str, Any], **options: Any) -> Any:
    """Rank what cross-validation gave before."""
    import arviz as az

    first, *others = named
    if len(scores) < len(named):
        fit = next(name for name in named if name not in scores)
        raise DataError(f"{fit!r} is no result as the others are: give fits, or results of all.")
    for other in others:
        a, b = scores[first], scores[other]
        if a.kind != b.kind:
            raise DataError(
                f"{first!r} is a result of kind {a.kind!r} and {other!r} of {b.kind!r}, which do "
                f"not measure the same; call one verb for all."
            )
        if a.elpd_i is None or b.elpd_i is None:
            raise DataError("Results to be compared need their points: pass pointwise=True.")
        if not np.array_equal(_points(a), _points(b)):
            raise DataError(
                f"{first!r} and {other!r} leave out different points; results are compared where "
                f"both are of the same rows, or levels of one group, in the same folds."
            )
    return az.compare(dict(scores), **options)


def _points(score: Any) -> Any:
    (dim,), coords = score.elpd_i.dims, score.elpd_i.coords
    folds = coords["fold"].to_numpy() if "fold" in coords else np.zeros(len(coords[dim]))
    return [coords[dim].to_numpy().astype(str), folds.astype(str)]


def _by_criterion(fits: Mapping[str, ModeFit], criterion: str = "aic") -> pd.DataFrame:
    if criterion not in CRITERIA:
        raise UnknownNameError(
            f"criterion={criterion!r} is not known. {suggestion(criterion, CRITERIA)}"
        )
    first, *others = fits
    for name, fit in fits.items():
        if np.isnan(fit.loglik):
            raise DataError(
                f"{name!r} was fitted by {fit.method!r} and has no likelihood to be compared by; "
                f"fit it by 'ml'."
            )
    for other in others:
        check_restricted(fits, first, other)
    rows = {
        name: {
            "loglik": fit.loglik,
            "df": fit.df,
            "aic": fit.aic,
            "aicc": _corrected(fit),
            "bic": fit.bic,
        }
        for name, fit in fits.items()
    }
    found = pd.DataFrame.from_dict(rows, orient="index").astype({"df": int})
    if criterion == "caic":
        conditional = pd.DataFrame({name: fit.caic() for name, fit in fits.items()}).T
        found = found.assign(conditional_df=conditional["df"], caic=conditional["caic"])
    found = found.sort_values(criterion, kind="stable")
    return found.assign(delta=found[criterion] - found[criterion].iloc[0])


def _corrected(fit: ModeFit) -> float:
    left = fit.nobs - fit.df - 1
    return fit.aic + 2 * fit.df * (fit.df + 1) / left if left > 0 else np.inf


RANKINGS: dict[str, Callable[..., Any]] = {
    "posterior": _by_cross_validation,
    "mode": _by_criterion,
}


def check_restricted(fits: Mapping[str, ModeFit], first: str, other: str) -> None:
    """Refuse to compare restricted likelihoods of different fixed parts, or with others."""
    a, b = fits[first], fits[other]
    if (a.method == "reml") != (b.method == "reml"):
        raise DataError(
            f"{first!r} was fitted by {a.method!r} and {other!r} by {b.method!r}, whose "
            f"likelihoods cannot be compared; fit both by 'ml'."
        )
    X, Z = (
        np.hstack([fit.model.design.predictors[p.main].X for p in fit.model.observed])
        for fit in (a, b)
    )
    if a.method == "reml" and not np.array_equal(X, Z):
        raise DataError(
            f"{first!r} and {other!r} have different fixed effects, so that their restricted "
            f"likelihoods cannot be compared; fit both by 'ml'."
        )


def _named(fits: Sequence[Fit]) -> dict[str, Fit]:
    texts = ["; ".join(fit.model.formula.texts) for fit in fits]
    labels = [
        text if texts.count(text) == 1 else f"{text} [{k + 1}]" for k, text in enumerate(texts)
    ]
    return dict(zip(labels, fits, strict=True))


def check_alike(fits: Mapping[str, Fit], first: str, other: str) -> None:
    """Refuse to compare fits of different rows or responses."""
    a, b = fits[first].model, fits[other].model
    if a.nobs != b.nobs:
        raise DataError(
            f"{first!r} has {a.nobs} rows and {other!r} {b.nobs}: fit both to the same rows."
        )
    ours, theirs = a.design.response, b.design.response
    if not np.array_equal(ours.y, theirs.y, equal_nan=True):
        raise DataError(
            f"{first!r} and {other!r} have different responses, {ours.name!r} and "
            f"{theirs.name!r}; only fits of the same numbers in the same rows can be compared."
        )
    if a.family.discrete != b.family.discrete:
        raise DataError(
            f"The density of family {a.family.name!r} in {first!r} and the probability of "
            f"{b.family.name!r} in {other!r}, or the reverse, cannot be compared; take two "
            f"families of counts, or two of continuous responses."
        )
