"""Each response as its own family reads it, and the rows of the design that have it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from glmm_bayes.design import Design
from glmm_bayes.errors import DataError, NotSupportedError
from glmm_bayes.families import Family
from glmm_bayes.families.seen import seen
from glmm_bayes.families.survival import DF, splines_of
from glmm_bayes.response import Response


@dataclass(frozen=True, eq=False)
class Observed:
    """
    One response of a model.

    Attributes
    ----------
    label
        What results call it; empty where it is the only one.
    family
        Its distribution.
    names
        From the family's own names of parameters to the model's.
    design
        The rows that have it, as if it were the only one: with its own names of parameters.
    """

    label: str
    family: Family
    names: Mapping[str, str]
    design: Design

    @property
    def main(self) -> str:
        """The model's name of the family's first parameter."""
        return self.names[self.family.parameters[0].name]


def observed(family: Family, design: Design) -> tuple[Observed, ...]:
    """Take the responses of a model apart."""
    found = family.responses
    if found is None:
        return (Observed("", family, {p.name: p.name for p in family.parameters}, design),)
    y, views = design.response.y, design.response.view
    parts = []
    for r, part in enumerate(found.parts):
        at = np.flatnonzero(~np.isnan(y[:, r]))
        beside: Any = views[at]  # type: ignore[index]
        own = Response(
            part.label, y[at, r], beside.trials[r], beside.weights[r], None, beside.views[r]
        )
        rows = _renamed(design.take(at), part.names).with_response(own)
        parts.append(Observed(part.label, part.family, part.names, rows))
    return tuple(parts)


def _renamed(design: Design, names: Mapping[str, str]) -> Design:
    """Keep the predictors and effects of some parameters, by the family's own names."""
    predictors = {
        own: replace(design.predictors[whole], param=own)
        for own, whole in names.items()
        if whole in design.predictors
    }
    back = {whole: own for own, whole in names.items()}
    terms = []
    for term in design.terms:
        loadings = [replace(g, param=back[g.param]) for g in term.loadings if g.param in back]
        if loadings:
            terms.append(replace(term, loadings=tuple(loadings)))
    return replace(design, predictors=predictors, terms=tuple(terms))


def fitting_response(family: Family, response: Response, index: pd.Index) -> Response:
    """
    Read a response as its family does.

    Parameters
    ----------
    index
        What the user's data call the rows.

    Raises
    ------
    DataError
        If a row does not fit the family.
    """
    y, trials, weights = response.y, response.trials, response.weights
    labelled = family.categories is not None
    if response.levels is not None and not (
        labelled or (family.binary and len(response.levels) == 2)
    ):
        wanted = "two levels" if family.binary else "numbers"
        raise DataError(
            f"The response {response.name!r} has the levels {', '.join(response.levels[:6])}; "
            f"the family {family.name!r} takes {wanted}."
        )
    if response.decided and not family.signed:
        raise DataError(
            f"The family {family.name!r} has no boundaries for dec(…) of {response.name!r}; use "
            f"family='wiener'."
        )
    if trials is not None and not family.needs_trials:
        raise DataError(
            f"The family {family.name!r} takes no trials, but the response is {response.name!r}; "
            f"use family='binomial' or 'beta_binomial'."
        )
    if response.df is not None and family.baseline is None:
        raise DataError(
            f"The family {family.name!r} has no baseline hazard for bhaz(…) of {response.name!r}; "
            f"use family='cox'."
        )
    if family.needs_trials and trials is None:
        y, trials, weights = _proportions(family, response)
    at = family.problem(y, trials)
    if at is not None:
        position, words = at
        raise DataError(
            f"The response {response.name!r} does not fit family {family.name!r}: {words}, but "
            f"row {index[position]} is "
            f"{', '.join(f'{value:g}' for value in np.atleast_1d(y[position]))}."
        )
    return replace(response, y=y, trials=trials, weights=weights)


def through_view(family: Family, response: Response) -> tuple[Family, Response]:
    """Give the family of rows as they were seen, and the response on its terms."""
    family = _on_knots(family, response)
    if response.view is None:
        return family, response
    if response.trials is not None or family.needs_trials or family.categories is not None:
        raise NotSupportedError(
            f"{response.name!r}: responses of family {family.name!r} cannot be censored, truncated "
            f"or have standard errors; take a family of counts or of real or positive numbers."
        )
    given: Any = response.view
    family, view = seen(family.origin, given)
    return family, replace(response, view=view)


def _on_knots(family: Family, response: Response) -> Family:
    """Give a family with a baseline hazard its knots; times that do not fit it are said later."""
    if family.baseline is None or family.problem(response.y, None) is not None:
        return family
    given: Any = response.view
    df = DF if response.df is None else response.df
    return family.baseline.made(splines_of(response.name, response.y, given, df))


def _proportions(family: Family, response: Response) -> tuple[np.ndarray, np.ndarray, Any]:
    """Read a proportion with `weights` as successes among that many trials, as R does."""
    y = response.y
    if response.weights is not None and np.all((y >= 0) & (y <= 1)):
        return np.round(y * response.weights, 9), response.weights, None
    if np.isin(y, (0.0, 1.0)).all():
        return y, np.ones_like(y), response.weights
    raise DataError(
        f"The family {family.name!r} needs the number of trials: write "
        f"{response.name} | trials(n), cbind(successes, failures), or a proportion with weights(n)."
    )
