"""Find in a formula and data what is not in these as it is: for `unseen` to hold."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from glmm_bayes.covariance import COVARIANCES
from glmm_bayes.data import Rows
from glmm_bayes.encoding import Context, Expression
from glmm_bayes.errors import DataError, FormulaError
from glmm_bayes.formula import (
    IMPUTED,
    MEASURED,
    Formula,
    UnseenPart,
    extra_arguments,
    imputed,
    plain_name,
    response_of,
    unseen_parts,
)
from glmm_bayes.response import Response
from glmm_bayes.unseen import Measured, Missing, measurements


def learn_measured(formula: Formula, frame: pd.DataFrame, context: Context) -> tuple[Measured, ...]:
    """
    Read what was measured with errors, by group.

    Raises
    ------
    FormulaError
        If one predictor has two errors.
    DataError
        If a standard deviation is not positive, or differs within a level.
    """
    found: dict[str | None, list[UnseenPart]] = {}
    for part in _all_parts(formula):
        if part.kind in frame.columns:
            raise DataError(
                f"The data have a column {part.kind!r}, as {part.text!r} is called; rename the "
                f"column."
            )
        if part.kind == MEASURED:
            found.setdefault(part.group, []).append(part)
    return tuple(_measured(group, own, frame, context) for group, own in found.items())


def learn_imputed(
    formula: Formula, rows: Rows, response: Response, context: Context
) -> tuple[Missing, ...]:
    """
    Find the responses whose unknown values enter the model: as `mi(x)`, or by a measurement.

    Other missing responses say nothing, and follow from the parameters.

    Raises
    ------
    FormulaError
        If predictors depend on each other in a circle.
    DataError
        If a standard deviation is not positive, or missing.
    """
    _refuse_circles(formula)
    parts, asked, found = _all_parts(formula), list(formula.asked), []
    for r, one in enumerate(asked):
        texts = [p.text for p in parts if p.kind == IMPUTED and response_of(p, asked) == r]
        error = dict(one.extras).get(IMPUTED, "")
        if imputed(one) and (texts or error):
            y = response.y[:, r]
            found.append(_missing(r, one.expression, texts, error, y, rows, context))
    return tuple(found)


def _all_parts(formula: Formula) -> list[UnseenPart]:
    found: dict[str, UnseenPart] = {}
    for side in formula.predictors.values():
        found |= {part.text: part for part in unseen_parts(side.fixed)}
    return list(found.values())


def _refuse_circles(formula: Formula) -> None:
    """Refuse responses that are predictors of each other: there is no order to draw them in."""
    names = [plain_name(one.expression) for one in formula.asked]
    given: dict[str, set[str]] = {}
    for param, side in formula.predictors.items():
        own = plain_name(formula.responses.get(param, "")) or ""
        xs = {plain_name(p.x) or "" for p in unseen_parts(side.fixed) if p.kind == IMPUTED}
        given.setdefault(own, set()).update(xs)
    left = {name for name in names if name}
    while left:
        free = {name for name in left if not given.get(name, set()) & left}
        if not free:
            circle = ", ".join(f"mi({name})" for name in names if name in left)
            raise FormulaError(
                f"The models of {circle} go round in a circle: each response has to come before "
                f"those that it is a predictor of; leave one of these terms out."
            )
        left -= free


def _measured(
    group: str | None, given: Sequence[UnseenPart], frame: pd.DataFrame, context: Context
) -> Measured:
    parts: list[UnseenPart] = []
    texts: dict[str, int] = {}
    for part in given:
        same = [k for k, other in enumerate(parts) if other.x == part.x]
        if same and parts[same[0]].error != part.error:
            raise FormulaError(
                f"{parts[same[0]].text!r} and {part.text!r} give one predictor two errors: leave "
                f"one of them out."
            )
        texts[part.text] = same[0] if same else len(parts)
        parts += [] if same else [part]
    index, names, x, error = measurements(parts, frame, context)
    return Measured(
        name=MEASURED if group is None else f"{MEASURED}_{_label(group)}",
        columns=tuple(_label(part.x) for part in parts),
        texts=texts,
        index=index,
        levels=names,
        parts=tuple(parts),
        x=x,
        error=error,
        fitted=np.arange(len(names)),
        structure=COVARIANCES["us"].of({}, parts[0].text),
    )


def _label(text: str) -> str:
    return re.sub(r"\W", "", plain_name(text) or text)


def _missing(
    place: int,
    text: str,
    texts: Sequence[str],
    error: str,
    y: np.ndarray,
    rows: Rows,
    context: Context,
) -> Missing:
    there = ~np.isnan(y)
    unknown = ~there | bool(error)
    index = np.where(unknown, np.cumsum(unknown) - 1, -1)
    measured, sizes = np.full(len(y), np.nan), np.full(len(y), np.inf)
    if error:
        inside = extra_arguments(IMPUTED, error)["sdx"]
        frame = rows.frame[there]
        sizes[there] = Expression(inside).numbers(frame, context, f"standard deviation of {text}")
        measured[there] = y[there]
        if (sizes <= 0).any():
            at = int(np.argmin(sizes))
            raise DataError(
                f"The standard deviation of '{text} | mi({error})' has to be positive, but row "
                f"{rows.frame.index[at]} is {sizes[at]:g}."
            )
        _refuse_without_error(text, error, there, rows.frame)
    name = _label(text)
    return Missing(
        name=f"{IMPUTED}_{name}",
        columns=(name,),
        texts=dict.fromkeys(texts, 0),
        index=index,
        levels=tuple(rows.kept[unknown].tolist()),
        place=place,
        text=text,
        seen=y,
        measured=measured[unknown],
        error=sizes[unknown],
    )


def _refuse_without_error(text: str, error: str, there: np.ndarray, frame: pd.DataFrame) -> None:
    name = plain_name(text)
    if name in frame:
        bare = frame[name].notna().to_numpy() & ~there
        if bare.any():
            raise DataError(
                f"Row {frame.index[int(np.argmax(bare))]} has a value of {text!r} but no standard "
                f"deviation {error!r} of it: fill that in, or make the value missing."
            )
