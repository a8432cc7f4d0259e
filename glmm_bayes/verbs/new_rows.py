"""The rows of new data as a design: with groups, trials and residuals as questions need them."""

from dataclasses import replace
from typing import Any

import numpy as np

from glmm_bayes.data import Frame, column_names, complete_columns, read_columns
from glmm_bayes.design import Design
from glmm_bayes.encoding import Expression, columns_of
from glmm_bayes.errors import DataError
from glmm_bayes.formula import Response as Asked
from glmm_bayes.formula import plain_name
from glmm_bayes.model import Model
from glmm_bayes.response import Response
from glmm_bayes.smooths import smooth_groups, smooth_texts
from glmm_bayes.view import Views


def rows_of(model: Model, newdata: Frame | None, *, trials: bool) -> Design:
    """Encode new data, with their trials where those are wanted; None is the model's own rows."""
    if newdata is None:
        return model.design
    design = model.design.encode(newdata)
    if trials and model.family.responses is not None:
        return design.with_response(new_responses(model, design, newdata))
    if not trials or not model.family.needs_trials:
        return design
    fitted = model.design.response.trials
    n = new_trials(model, model.formula.response, fitted, design, newdata)
    problem = model.family.problem(np.zeros(design.n), n)
    if problem:
        at, words = problem
        raise DataError(
            f"The new data's trials do not fit family {model.family.name!r}: {words}, but row "
            f"{design.rows.frame.index[at]} has {n[at]:g}."
        )
    return design.with_response(Response.unknown(model.formula.response, design.n, n))


def beside_residuals(model: Model, design: Design, newdata: Frame) -> Design:
    """Put new rows' residuals beside those of the rows fitted, where these have a structure."""
    residual, part = model.design.residual, model.formula.residual
    if residual is None or part is None:
        return design
    texts = [part.columns, *part.group.factors]
    columns = columns_of(texts, list(model.design.rows.frame.columns), model.context)
    frame = complete_columns(newdata, list(columns), where="the new data")
    return replace(design, residual=residual.encoded(frame, model.context))


def with_any_group(model: Model, newdata: Frame) -> Frame:
    """Add the grouping columns that new data lack, where no answer depends on the level."""
    parts = model.formula.predictors.values()
    fixed = [t for part in parts for t in (part.fixed, *part.offsets, *smooth_texts(part))]
    needed = columns_of(fixed, list(model.design.rows.frame.columns), model.context)
    groups = [f for part in parts for term in part.random for f in term.group.factors]
    groups += [f for part in parts for f in smooth_groups(part)]
    present = column_names(newdata)
    absent = {name for name in map(plain_name, groups) if name} - {*needed, *present}
    if not absent:
        return newdata
    frame = read_columns(newdata, list(present), where="the new data")
    return frame.assign(**dict.fromkeys(absent, "any"))


def new_responses(model: Model, design: Design, newdata: Frame) -> Response:
    """Make the several responses of new rows, unknown, with their trials."""
    assert model.family.responses is not None
    asked = [model.formula.response, *(response for response, _ in model.formula.beside)]
    fitted: Any = model.design.response.view
    trials = tuple(
        new_trials(model, one, n, design, newdata) if part.family.needs_trials else None
        for one, part, n in zip(asked, model.family.responses.parts, fitted.trials, strict=True)
    )
    none = (None,) * len(asked)
    y = np.full((design.n, len(asked)), np.nan)
    return Response(model.design.response.name, y, view=Views(trials, none, none))


def new_trials(
    model: Model, response: Asked, fitted: np.ndarray | None, design: Design, newdata: Frame
) -> np.ndarray:
    """Evaluate the number of trials as the formula's response states it, on new data."""
    extras = dict(response.extras)
    if response.columns:
        texts = list(response.columns)
    elif "trials" in extras:
        texts = [extras["trials"]]
    elif "weights" in extras and fitted is not None and np.any(fitted != 1):
        texts = [extras["weights"]]
    else:
        return np.ones(design.n)
    columns = columns_of(texts, list(model.design.rows.frame.columns), model.context)
    absent = [c for c in columns if c not in column_names(newdata)]
    if absent:
        raise DataError(
            f"Responses of {response.text!r} need the number of trials, but the new data have no "
            f"column {', '.join(map(repr, absent))}; add it, or predict kind='mean'."
        )
    frame = complete_columns(newdata, list(columns), where="the new data")
    parts = [Expression(text).numbers(frame, model.context, "trials") for text in texts]
    return np.sum(parts, axis=0)
