"""What verbs need of several responses: which one is asked for, and each on its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from glmm_bayes.design import Design
from glmm_bayes.draws import Draws
from glmm_bayes.errors import NotSupportedError, UnknownNameError
from glmm_bayes.families import Family, Link
from glmm_bayes.families.several import Part
from glmm_bayes.model import Model
from glmm_bayes.predictive import Effects, linear_predictor
from glmm_bayes.registry import suggestion
from glmm_bayes.response import Response
from glmm_bayes.verbs.intervals import Scale


def check_response(model: Model, response: str | None, kind: str = "") -> None:
    """
    Check the response that an answer is to be of.

    Raises
    ------
    UnknownNameError
        If the model has no such response, or only one.
    """
    found = model.family.responses
    if found is None:
        raise UnknownNameError(
            f"The model has one response, {model.design.response.name!r}: leave "
            f"response={response!r} out."
        )
    if response not in found.labels:
        raise UnknownNameError(
            f"There is no response {response!r}. {suggestion(str(response), found.labels)}"
        )
    if kind.startswith("param:"):
        raise UnknownNameError(
            f"kind={kind!r} is of one response already: leave response={response!r} out."
        )


def of_response(found: Any, response: str) -> Any:
    """Take one response out of a table, or of draws, of all."""
    if isinstance(found, pd.DataFrame):
        return found[found["response"] == response].drop(columns="response")
    return found.sel(response=response, drop=True)


def side_by_side(scales: Sequence[Scale]) -> Scale:
    """Make one scale of those of each response, which are the last axis."""

    def to(x: Any) -> Any:
        return np.stack([s.to(x[..., r]) for r, s in enumerate(scales)], axis=-1)

    def back(z: Any) -> Any:
        return np.stack([s.back(z[..., r]) for r, s in enumerate(scales)], axis=-1)

    return Scale(to, back)


def trials_of_responses(response: Response) -> np.ndarray:
    """Give the trials `(n, R)` of each response, 1 where it has none."""
    views: Any = response.view
    n = len(response.y)
    found = [np.ones(n) if trials is None else trials for trials in views.trials]
    return np.column_stack(found)


def refuse_several(model: Model, what: str, instead: str) -> None:
    """Refuse an answer that would have to be of one response: NotSupportedError."""
    found = model.family.responses
    if found is not None:
        raise NotSupportedError(
            f"{what} is of one response, but there are {', '.join(found.labels)}: {instead}."
        )


@dataclass(frozen=True, eq=False)
class Separate:
    """
    One response with draws of its own parameters, by its family's own names.

    Attributes
    ----------
    label
        What results call it; empty where it is the only one.
    links
        Of its parameters.
    design
        The rows that have it.
    """

    label: str
    family: Family
    links: Mapping[str, Link]
    design: Design
    draws: Draws

    @classmethod
    def of(cls, model: Model, draws: Draws) -> "list[Separate]":
        """Take all responses of a model apart, or the only one."""
        found = []
        for part in model.observed:
            links = {own: model.links[whole] for own, whole in part.names.items()}
            beta, constants = (
                {own: given[whole] for own, whole in part.names.items() if whole in given}
                for given in (draws.beta, draws.constants)
            )
            own = replace(draws, beta=beta, constants=constants)
            found.append(cls(part.label, part.family, links, part.design, own))
        return found

    def params(self, design: Design, effects: Effects) -> dict[str, np.ndarray]:
        """Give the family's parameters on their own scale: `(S, n)`, or `(S, 1)` if constant."""
        found = {name: value[:, None] for name, value in self.draws.constants.items()}
        for name in design.predictors:
            eta = linear_predictor(design, self.draws, effects, name)
            found[name] = self.links[name].linkinv(eta)
        return found


def each_response(
    model: Model, draws: Draws, answer: Callable[[Separate], pd.DataFrame]
) -> pd.DataFrame:
    """Put the tables of all responses together, of several with a column `response` in front."""
    tables = []
    for one in Separate.of(model, draws):
        found = answer(one)
        if one.label:
            found.insert(0, "response", one.label)
        tables.append(found)
    return pd.concat(tables)


@dataclass(frozen=True, eq=False)
class Alone:
    """
    One response, on all rows of the model.

    Attributes
    ----------
    family
        Its own.
    part
        Its place among several; None where there is one.
    response
        `y` `(n,)`, where it is missing with a number that the family takes.
    there
        `(n,)` where it is not missing.
    """

    family: Family
    part: Part | None
    response: Response
    there: np.ndarray

    @classmethod
    def of(cls, model: Model, label: str | None) -> "Alone":
        """
        Take the only response, or one of several.

        Raises
        ------
        UnknownNameError
            If there are several and none is named, or there is none of the name.
        """
        found, whole = model.family.responses, model.design.response
        if found is None and label is None:
            return cls(model.family, None, whole, np.ones(model.nobs, dtype=bool))
        if label is None and found is not None:
            raise UnknownNameError(
                f"There are several responses: say which, response={found.labels[0]!r}, of "
                f"{', '.join(found.labels)}."
            )
        check_response(model, label)
        assert found is not None
        assert label is not None
        part, r, views = found.part(label), found.labels.index(label), whole.view
        beside: Any = views
        there = ~np.isnan(whole.y[:, r])
        y = np.where(there, whole.y[:, r], part.filler)
        own = Response(label, y, beside.trials[r], beside.weights[r], None, beside.views[r])
        return cls(part.family, part, own, there)

    def own(self, params: dict[str, Any]) -> dict[str, Any]:
        """Take its parameters out of the model's."""
        return params if self.part is None else self.part.own(params)
