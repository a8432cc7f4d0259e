"""Compare fits by how well they predict."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from glmm_bayes.errors import DataError
from glmm_bayes.fit import PosteriorFit
from glmm_bayes.verbs.criteria import loo


def compare(fits: Mapping[str, PosteriorFit] | Sequence[PosteriorFit], **options: Any) -> Any:
    """
    Rank fits of the same rows by leave-one-out cross-validation.

    Parameters
    ----------
    fits
        By name, or in a list, where they are called by their formulas.
    **options
        Those of `arviz.compare`, such as `method`.

    Returns
    -------
    DataFrame
        ArviZ's, the best first: `rank, elpd, p, elpd_diff, weight, se, dse, warning` …

    Raises
    ------
    DataError
        If there are fewer than two fits, or they are not of the same responses.
    """
    import arviz as az

    named = dict(fits) if isinstance(fits, Mapping) else _named(fits)
    if len(named) < 2:
        raise DataError("Give at least two fits to compare.")
    first, *others = named
    for other in others:
        _check_alike(named, first, other)
    return az.compare({name: loo(fit, pointwise=True) for name, fit in named.items()}, **options)


def _named(fits: Sequence[PosteriorFit]) -> dict[str, PosteriorFit]:
    texts = ["; ".join(fit.model.formula.texts) for fit in fits]
    labels = [
        text if texts.count(text) == 1 else f"{text} [{k + 1}]" for k, text in enumerate(texts)
    ]
    return dict(zip(labels, fits, strict=True))


def _check_alike(fits: Mapping[str, PosteriorFit], first: str, other: str) -> None:
    a, b = fits[first].model, fits[other].model
    if a.nobs != b.nobs:
        raise DataError(
            f"{first!r} has {a.nobs} rows and {other!r} {b.nobs}: fit both to the same rows."
        )
    ours, theirs = a.design.response, b.design.response
    if not np.array_equal(ours.y, theirs.y):
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
