"""Columns that stand in an order, one step apart: the levels of one factor."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from glmm_bayes.covariance import Covariance
from glmm_bayes.data import Rows
from glmm_bayes.encoding import Context, Matrix
from glmm_bayes.errors import DataError, DataWarning, NotSupportedError
from glmm_bayes.formula import RandomPart, call_of, plain_name


def learn_ordered(
    structure: Covariance, part: RandomPart, rows: Rows, context: Context
) -> tuple[Matrix, np.ndarray]:
    """
    Encode the columns of a term whose structure needs an order: one indicator a level.

    A categorical's level that no row has, but that stands between ones that rows have, is a
    column too, of zeros, where the structure can do with that: it makes the steps even.

    Raises
    ------
    NotSupportedError
        If the columns are one number, such as a time.
    DataError
        If they are not the levels of one factor, or their order is not what their numbers say.

    Warns
    -----
    DataWarning
        If the levels are numbers that are not evenly spaced.
    """
    text, frame = part.columns, rows.frame
    if plain_name(text) is not None or call_of(text) is not None:
        text = f"0 + {text}"
    matrix, Z = Matrix.learn(text, frame, context)
    if matrix.indicated is None:
        raise _not_levels(structure, part, matrix)
    for name in matrix.levels:
        within = _within(frame[name], rows.categories.get(name))
        unused = within[~within.isin(frame[name].unique())]
        if len(unused) and not structure.gaps:
            raise DataError(
                f"No row has the level {str(unused[0])!r} of {name!r}, which stands between "
                f"others, so nothing tells how it varies in {part.text!r}: take it out of the "
                f"categories, or use ar1."
            )
        if len(unused):
            frame = frame.assign(**{name: frame[name].cat.set_categories(within)})
            matrix, Z = Matrix.learn(text, frame, context)
    is_said = any(getattr(frame[name].dtype, "ordered", False) for name in matrix.levels)
    _check_numbers(matrix.indicated or (), part, is_said=is_said)
    return matrix, Z


def _within(column: pd.Series, categories: pd.Index | None) -> pd.Index:
    """Cut the categories off before the first and after the last one that there is."""
    if categories is None:
        return pd.Index([])
    used = np.flatnonzero(categories.isin(column.unique()))
    return categories[used[0] : used[-1] + 1]


def _not_levels(structure: Covariance, part: RandomPart, matrix: Matrix) -> Exception:
    name, text = structure.name, part.columns.removeprefix("0 +").strip()
    if len(matrix.names) == 1 and not matrix.levels and matrix.names[0] == text:
        return NotSupportedError(
            f"The structure of {part.text!r} is not built yet for numbers; of the levels of a "
            f"factor it is: {name}(0 + C({text}) | {part.group.label})."
        )
    return DataError(
        f"The columns of {part.text!r} should be the levels of one factor, in order, as in "
        f"{name}(0 + time | {part.group.label}), not {', '.join(matrix.names)}."
    )


def _check_numbers(levels: Sequence[Any], part: RandomPart, *, is_said: bool) -> None:
    try:
        steps = np.diff([float(str(level)) for level in levels])
    except ValueError:
        return  # names have no other order than theirs
    listed = ", ".join(map(str, levels[:4])) + (", …" if len(levels) > 4 else "")
    if not is_said and not ((steps > 0).all() or (steps < 0).all()):
        raise DataError(
            f"The levels in {part.text!r} stand in the order {listed}: make that of the numbers "
            f"with pd.Categorical(…, categories=[…]), or say that it is meant with ordered=True."
        )
    if len(steps) and np.ptp(steps) > 1e-9 * np.abs(steps).max():
        warnings.warn(
            f"The levels in {part.text!r}, {listed}, are not evenly spaced, but taken as one step "
            f"apart; give the categorical the levels that are missing, if any are.",
            DataWarning,
            stacklevel=2,
        )
