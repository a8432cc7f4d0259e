"""Rows that are made up: some columns at given values, the others held at what is typical."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from glmm_bayes.data import is_factor, labels
from glmm_bayes.design import Design
from glmm_bayes.encoding import columns_of
from glmm_bayes.errors import DataError, UnknownNameError
from glmm_bayes.fit import Fit
from glmm_bayes.model import Model
from glmm_bayes.registry import suggestion
from glmm_bayes.smooths import smooth_groups, smooth_texts

GRIDS = ("mean", "balanced", "counterfactual")


def datagrid(of: Fit | Model, *, grid: str = "mean", **values: Any) -> pd.DataFrame:
    """
    Make up rows to predict for, as `newdata`.

    Parameters
    ----------
    of
        A model, or a fit of it.
    grid
        What becomes of the columns that are not named. `"mean"`: numbers at their mean, factors and
        groups at their most common level; `"balanced"`: every combination of the factors' levels,
        the rest as before; `"counterfactual"`: as they are in the data, all rows of which are
        repeated for each combination of the values.
    **values
        By column, a value, several of them, or a function of the data's column such as
        `np.median`. Every combination gets a row, the first column varying slowest.

    Returns
    -------
    DataFrame
        All columns that predictions need.

    Raises
    ------
    UnknownNameError
        If a grid is not known, or the model has no such predictor.
    DataError
        If a factor has no such level.

    Examples
    --------
    >>> import glmm_bayes as gb
    >>> model = gb.Model("Reaction ~ Days + (1 | Subject)", gb.load_dataset("sleepstudy"))
    >>> gb.datagrid(model, Days=[0, 9])
       Days Subject
    0     0     308
    1     9     308
    """
    design = (of if isinstance(of, Model) else of.model).design
    if grid not in GRIDS:
        raise UnknownNameError(f"grid={grid!r} is not known. {suggestion(grid, GRIDS)}")
    data = design.rows.frame
    given = {name: checked_values(design, name, value) for name, value in values.items()}
    if grid == "counterfactual":
        return _counterfactual(data[list(design.predictor_columns)], given)
    varied = dict(given)
    if grid == "balanced":
        for name in design.predictor_columns:
            if name not in given and is_factor_somewhere(design, name):
                varied[name] = values_of(data[name])
    return crossed(design, varied)


def crossed(design: Design, varied: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """Give every combination of some columns' values, the first slowest, the others typical."""
    data, labels_only = design.rows.frame, grouping_variables(design)
    steps, rows = step_variables(design), list(product(*varied.values()))
    frame = {}
    for name in design.predictor_columns:
        if name in varied:
            place = list(varied).index(name)
            frame[name] = like(data[name], [row[place] for row in rows])
        else:
            by_label = name in {*labels_only, *steps} or is_factor_somewhere(design, name)
            frame[name] = repeated(data[name], typical(data[name], by_label), len(rows))
    return pd.DataFrame(frame)


def _counterfactual(data: pd.DataFrame, given: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    copies = []
    for row in product(*given.values()):
        fixed = zip(given, row, strict=True)
        copies.append(data.assign(**{c: repeated(data[c], v, len(data)) for c, v in fixed}))
    return pd.concat(copies, ignore_index=True)


def checked_values(design: Design, name: str, value: Any) -> list[Any]:
    """
    List the values that a user gives a column.

    Raises
    ------
    UnknownNameError
        If the model has no such predictor.
    DataError
        If there are none, one is missing, or a factor of the fixed part has no such level.
    """
    if name not in design.predictor_columns:
        raise UnknownNameError(
            f"{name!r} is no predictor of {design.formula.texts[0]!r}. "
            f"{suggestion(name, design.predictor_columns)}"
        )
    column = design.rows.frame[name]
    if callable(value):
        value = value(column)
    found = [value] if isinstance(value, str) or np.ndim(value) == 0 else list(value)
    if not found or any(pd.isna(v) for v in found):
        raise DataError(f"{name}={value!r}: give at least one value, and none that is missing.")
    if name in grouping_variables(design):
        return found
    known = is_factor_somewhere(design, name)
    return [_level(column, v) if known else _number(column, v) for v in found]


def _number(column: pd.Series, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise DataError(f"{column.name!r} is a number, and cannot be {value!r}.") from error


def _level(column: pd.Series, value: Any) -> Any:
    """Give the data's own value for a user's, which may be its label."""
    known = values_of(column)
    by_label = dict(zip(map(str, known), known, strict=True))
    if str(value) not in by_label:
        raise DataError(
            f"The data have no {column.name} = {value!r}. {suggestion(str(value), by_label)}"
        )
    return by_label[str(value)]


# ---- which columns there are, and of what kind


def fixed_variables(design: Design, param: str = "mu") -> tuple[str, ...]:
    """List the columns of the data in the fixed part of one predictor, or in its smooths."""
    known, part = list(design.rows.frame.columns), design.formula.predictors[param]
    return columns_of([part.fixed, *smooth_texts(part)], known, design.context)


def offset_variables(design: Design, param: str = "mu") -> tuple[str, ...]:
    """List the columns of the data in the offsets of one predictor."""
    known = list(design.rows.frame.columns)
    return columns_of(list(design.formula.predictors[param].offsets), known, design.context)


def grouping_variables(design: Design) -> set[str]:
    """List the columns that only group rows."""
    parts = design.formula.predictors.values()
    groups = {f for part in parts for term in part.random for f in term.group.factors}
    groups |= {f for part in parts for f in smooth_groups(part)}
    fixed = {v for param in design.predictors for v in fixed_variables(design, param)}
    return (groups & set(design.predictor_columns)) - fixed


def step_variables(design: Design) -> set[str]:
    """
    List the columns of whole numbers that only random terms use, such as times.

    A process of whole steps has no place at their mean; they stand at their most common value.
    """
    known = {v for p in design.predictors for v in fixed_variables(design, p)}
    known |= {v for p in design.predictors for v in offset_variables(design, p)}
    rest = set(design.predictor_columns) - known - grouping_variables(design)
    data = design.rows.frame
    return {name for name in rest if pd.api.types.is_integer_dtype(data[name].dtype)}


def factor_variables(design: Design, param: str = "mu") -> set[str]:
    """List the columns whose values one predictor takes for labels, numbers in `C(x)` too."""
    data, names = design.rows.frame, fixed_variables(design, param)
    coded = [str(f) for f in design.predictors[param].matrix.spec.factor_contrasts]
    inside = columns_of(coded, list(data.columns), design.context) if coded else ()
    return {name for name in names if categorical(data[name])} | set(inside)


def is_factor_somewhere(design: Design, name: str) -> bool:
    """Tell whether any predictor takes a column's values for labels."""
    return any(name in factor_variables(design, param) for param in design.predictors)


def categorical(column: pd.Series) -> bool:
    """Tell whether a column has separate values: labels and truth values."""
    return is_factor(column) or pd.api.types.is_bool_dtype(column.dtype)


def values_of(column: pd.Series) -> list[Any]:
    """List a factor's values in the order of its levels."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return list(column.cat.categories)
    return sorted(column.unique())


def typical(column: pd.Series, by_label: bool) -> Any:
    """Give the mean of numbers, and of labels the most common."""
    if not (by_label or categorical(column)):
        return float(column.mean())
    codes, _ = labels(column)
    known = values_of(column)
    return known[int(np.bincount(codes, minlength=len(known)).argmax())]


def like(column: pd.Series, values: Sequence[Any]) -> Any:
    """Make values of a column's kind."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        # A new level of a group is kept as it is.
        if set(values) <= set(column.cat.categories):
            return pd.Categorical(values, dtype=column.dtype)
        return np.asarray(values, dtype=object)
    if categorical(column) or not pd.api.types.is_numeric_dtype(column.dtype):
        return np.asarray(values)
    found = np.asarray(values, dtype=float)
    # Whole numbers stay such, as they may be labels.
    whole = pd.api.types.is_integer_dtype(column.dtype) and (found == np.round(found)).all()
    return found.astype(int) if whole else found


def repeated(column: pd.Series, value: Any, n: int) -> Any:
    """Make n equal values of a column's kind."""
    return like(column, [value] * n)
