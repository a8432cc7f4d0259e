"""The probability that a response is beyond a value: of times, what survives them."""

from dataclasses import replace

import numpy as np

from glmm_bayes.arrays import NUMPY
from glmm_bayes.data import Frame, complete_columns
from glmm_bayes.design import Design
from glmm_bayes.encoding import Expression, columns_of
from glmm_bayes.errors import DataError, NotSupportedError
from glmm_bayes.families import FAMILIES
from glmm_bayes.families.family import Array, Params
from glmm_bayes.model import Model
from glmm_bayes.modes.another import changed
from glmm_bayes.verbs.intervals import Scale

SURVIVAL = "survival"
# Of proportional hazards the linear predictor's, but for the baseline.
LOG_LOG = Scale(lambda p: np.log(-np.log(p)), lambda z: np.exp(-np.exp(z)))


def at_times(model: Model, design: Design, newdata: Frame | None) -> Design:
    """
    Put the responses of new rows, beyond which is asked, into their design.

    Raises
    ------
    NotSupportedError
        If the family does not state its tails.
    DataError
        If a response is none of the family's.
    """
    family = model.family.origin
    names = [p.name for p in model.family.parameters]
    if family.tails is None or names != [p.name for p in family.parameters]:
        able = ", ".join(name for name, each in FAMILIES.items() if each.tails is not None)
        raise NotSupportedError(
            f"kind='survival' is the probability of a response beyond the row's own, which is "
            f"built for single responses without se(…) of the families {able}; of "
            f"{model.family.name!r} ask for kind='response' with draws=True, and count."
        )
    if newdata is None:
        return design
    asked = model.formula.response
    columns = columns_of([asked.expression], list(model.design.rows.frame.columns), model.context)
    frame = complete_columns(newdata, list(columns), where="the new data")
    y = Expression(asked.expression).numbers(frame, model.context, "response")
    problem = family.problem(y, None)
    if problem is not None:
        at, words = problem
        raise DataError(
            f"The new data's {asked.expression!r}, beyond which kind='survival' asks, does not fit "
            f"family {family.name!r}: {words}, but row {frame.index[at]} is {y[at]:g}."
        )
    return design.with_response(replace(design.response, y=y))


def surviving(model: Model, design: Design) -> Model:
    """Give the model of whose rows the mean is the probability of more than their response."""
    tails, y = model.family.origin.tails, design.response.y
    assert tails is not None

    def mean(p: Params) -> Array:
        return np.exp(tails(y, p, NUMPY)[1])

    return changed(model, family=replace(model.family, mean=mean))
