"""A response in categories: its codes, and the formula spread over the family's parameters."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from glmm_bayes.errors import DataError, FormulaError, NotSupportedError
from glmm_bayes.families import Family
from glmm_bayes.formula import Formula, PredictorPart, SpecialPart
from glmm_bayes.registry import suggestion
from glmm_bayes.response import Response

MOST = 100  # categories, from which on a response is rather a count


def in_categories(
    family: Family,
    response: Response,
    labels: tuple[str, ...],
    link: str | Mapping[str, str] | None,
) -> tuple[Family, Response]:
    """
    Fit a family to the categories of a response, and turn the response into their numbers.

    Ordered categories come in the order of a categorical column, else sorted.

    Parameters
    ----------
    labels
        The names of a `cbind`'s columns, if the response was one.

    Raises
    ------
    DataError
        If there are fewer than two categories, or too many.
    NotSupportedError
        If the family does not take the link.
    """
    found = family.categories
    if found is None:
        _refuse_columns(family, response, labels)
        return family, response
    response = (_counted if found.counted else _coded)(family, response, labels)
    assert response.levels is not None
    if not 2 <= len(response.levels) <= MOST:
        raise DataError(
            f"The response {response.name!r} has {len(response.levels)} different values; the "
            f"family {family.name!r} takes from 2 to {MOST} categories."
        )
    # Of a family made before, the means may be named one by one.
    named = (
        {k: v for k, v in link.items() if k in {"mu", *found.means}}
        if isinstance(link, Mapping)
        else {}
    )
    asked = next(iter(named.values()), None) if isinstance(link, Mapping) else link
    asked = family.parameters[0].link if asked is None else asked
    if asked not in found.links:
        raise NotSupportedError(
            f"The link {asked!r} is none of the family {family.name!r}. "
            f"{suggestion(str(asked), found.links)}"
        )
    return found.made(response.levels, str(asked)), response


def _refuse_columns(family: Family, response: Response, labels: tuple[str, ...]) -> None:
    if response.y.ndim == 2:
        raise DataError(
            f"The response {response.name!r} has {len(labels)} columns, which the family "
            f"{family.name!r} does not take; use family='multinomial', 'dirichlet' or "
            f"'dirichlet_multinomial'."
        )


def _counted(family: Family, response: Response, labels: tuple[str, ...]) -> Response:
    """Put a number a category side by side, `(n, K)`."""
    if not labels:
        raise DataError(
            f"The family {family.name!r} takes a number for each category: write "
            f"cbind(first, second, third), not {response.name!r}."
        )
    y, trials = response.y, response.trials
    if y.ndim == 1:
        y = np.column_stack([y, trials - y])
    trials = trials if family.needs_trials else None
    return replace(response, y=y, trials=trials, levels=labels)


def _coded(family: Family, response: Response, labels: tuple[str, ...]) -> Response:
    if response.levels is not None:
        return response
    y = response.y
    if labels or response.trials is not None or not (y == np.floor(y)).all():
        raise DataError(
            f"The family {family.name!r} takes a response of categories: labels, an ordered "
            f"categorical column or whole numbers, not {response.name!r}."
        )
    values, codes = np.unique(y, return_inverse=True)
    levels = tuple(f"{value:.0f}" for value in values)
    return replace(response, y=codes.astype(float), levels=levels)


def spread(formula: Formula, family: Family) -> Formula:
    """
    Give each of the family's parameters its part of the formula of the mean.

    What is said of a baseline hazard as a whole is said of all shares that it is made of.
    Of ordered categories every threshold has an intercept, and the terms in `cs(…)`, which then
    are category-specific; the mean has the rest. Of others every category but the first has all,
    and of a mixture every component's mean.

    Raises
    ------
    FormulaError
        If the formula leaves out the intercept, which the thresholds are.
    NotSupportedError
        If thresholds that have to ascend depend on `cs(…)`.
    """
    found = family.categories
    if family.mixed is not None:
        return replace(formula, predictors=family.mixed.spread(formula.predictors))
    if family.baseline is not None:
        return replace(formula, predictors=family.baseline.spread(formula.predictors))
    if found is None:
        return formula
    own = formula.predictors["mu"]
    others = {k: part for k, part in formula.predictors.items() if k != "mu"}
    if not found.thresholds:
        means = {name: others.pop(name, own) for name in found.parameters}
        return replace(formula, predictors=means | others)
    for name in found.parameters:
        if name in others:
            raise NotSupportedError(
                f"A threshold has no formula of its own, as '{name} ~ …': terms that differ "
                f"between categories stand in cs(…) in the formula of the mean."
            )
    specific = [part for part in own.special if part.name == "cs"]
    if specific and found.rising:
        raise NotSupportedError(
            f"{specific[0].text!r} would let the thresholds of family {family.name!r} cross; for "
            f"category-specific effects use family='sratio', 'cratio' or 'acat'."
        )
    rest = tuple(part for part in own.special if part.name != "cs")
    predictors = {"mu": replace(own, special=rest, intercept=False)}
    predictors |= {k: _without_scale(k, part) for k, part in others.items()}
    text = " + ".join(["1", *map(_columns, specific)])
    for number, name in enumerate(found.parameters, start=1):
        predictors[name] = PredictorPart(text, (), (), (), step=str(number))
    return replace(formula, predictors=predictors)


def _without_scale(param: str, part: PredictorPart) -> PredictorPart:
    # The thresholds set the scale of the latent variable: disc is 1 where its columns are zero.
    return replace(part, intercept=False) if param == "disc" else part


def _columns(part: SpecialPart) -> str:
    if len(part.arguments) != 1 or "=" in part.arguments[0]:
        raise FormulaError(f"{part.text!r} should have one argument: cs(x), or cs(x + z).")
    return part.arguments[0]
