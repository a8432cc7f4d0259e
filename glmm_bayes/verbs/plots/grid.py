"""Which values of the predictors a curve is drawn at; nothing is predicted here."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from glmm_bayes.data import labels
from glmm_bayes.design import Design
from glmm_bayes.errors import DataError, UnknownNameError
from glmm_bayes.registry import suggestion
from glmm_bayes.verbs.datagrid import (
    categorical,
    grouping_variables,
    like,
    repeated,
    step_variables,
    typical,
    values_of,
)

POINTS = 100
CURVES = 30
FEW = 5  # distinct numbers of `by` that each get a curve


@dataclass(frozen=True, eq=False)
class Grid:
    """
    The rows to predict for one panel.

    Attributes
    ----------
    frame
        Complete new data.
    x, by
        Which column is along the axis, and which has the curves' values `curves`.
    held
        What the other predictors are held at.
    """

    frame: pd.DataFrame
    x: str
    by: str | None
    curves: tuple[Any, ...] = ()
    held: dict[str, Any] = field(default_factory=dict)


def make_grid(design: Design, x: str, by: str | None) -> Grid:
    """
    Vary one or two columns and hold the others: numbers at their mean, factors at their mode.

    Raises
    ------
    UnknownNameError
        If the model does not use such a column.
    DataError
        If there would be too many curves.
    """
    for name in (x, by):
        if name is not None and name not in design.predictor_columns:
            raise UnknownNameError(
                f"{name!r} is no predictor of {design.formula.texts[0]!r}. "
                f"{suggestion(name, design.predictor_columns)}"
            )
    data = design.rows.frame
    grouping = grouping_variables(design)
    by_label = grouping | step_variables(design)
    held_at = {c: _typical(data[c], c in by_label) for c in design.predictor_columns}
    curves = () if by is None else _curves(data[by], grouped=by in grouping)
    places = _places(data[x])
    rows = [(place, curve) for curve in curves or (None,) for place in places]
    frame = pd.DataFrame({c: repeated(data[c], v, len(rows)) for c, v in held_at.items()})
    frame[x] = like(data[x], [place for place, _ in rows])
    if by is not None:
        frame[by] = like(data[by], [curve for _, curve in rows])
    held = {c: v for c, v in held_at.items() if c not in {x, by, *grouping}}
    return Grid(frame, x, by, curves, held)


def _typical(column: pd.Series, grouping: bool) -> Any:
    value = typical(column, grouping)
    return value if grouping or categorical(column) else _rounded(value, float(column.std()))


def _rounded(mean: float, sd: float) -> float:
    """Round a mean to a thousandth of the standard deviation, so that it can be quoted exactly."""
    # Adding 0.0 makes a zero of a negative zero.
    return round(mean, 3 - math.floor(math.log10(sd))) + 0.0 if sd > 0 else mean


def _places(column: pd.Series) -> list[Any]:
    if categorical(column):
        return values_of(column)
    return list(np.linspace(float(column.min()), float(column.max()), POINTS))


def _curves(column: pd.Series, *, grouped: bool) -> tuple[Any, ...]:
    found = values_of(column)
    if not (grouped or categorical(column)) and len(found) > FEW:
        mean, sd = float(column.mean()), float(column.std())
        return mean - sd, mean, mean + sd
    if len(found) > CURVES:
        raise DataError(
            f"by={column.name!r} has {len(found)} levels: too many curves for one panel; "
            f"give another variable."
        )
    return tuple(found)


def nearest(column: pd.Series, curves: Sequence[Any]) -> np.ndarray:
    """Give for every row the position of the curve it belongs to, or for numbers lies nearest."""
    if categorical(column):
        codes, levels = labels(column)
        place = {str(c): k for k, c in enumerate(curves)}
        return np.array([place[level] for level in levels])[codes]
    distance = np.abs(column.to_numpy(dtype=float)[:, None] - np.asarray(curves, dtype=float))
    return distance.argmin(axis=1)
