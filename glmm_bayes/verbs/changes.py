"""Which changes of a predictor are compared: the rows before and after, with a name."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pandas as pd

from glmm_bayes.errors import DataError, UnknownNameError
from glmm_bayes.model import Model
from glmm_bayes.registry import suggestion
from glmm_bayes.verbs.datagrid import (
    checked_values,
    fixed_variables,
    grouping_variables,
    is_factor_somewhere,
    repeated,
    values_of,
)

type Wanted = str | Sequence[str] | Mapping[str, Any] | None
type Pairs = list[tuple[Any, Any]]


@dataclass(frozen=True, eq=False)
class Change:
    """
    A predictor in two states.

    Attributes
    ----------
    term
        The predictor.
    label
        The change in words; `{sign}` stands for what is between two values.
    low, high
        The rows in both states.
    """

    term: str
    label: str
    low: pd.DataFrame
    high: pd.DataFrame


# From a factor's values to pairs of them, the first compared with: names of marginaleffects.
OF_FACTORS: dict[str, Callable[[list[Any]], Pairs]] = {
    "reference": lambda v: [(v[0], w) for w in v[1:]],
    "revreference": lambda v: [(v[-1], w) for w in v[:-1]],
    "sequential": lambda v: list(pairwise(v)),
    "revsequential": lambda v: [(b, a) for a, b in pairwise(v)],
    "pairwise": lambda v: list(combinations(v, 2)),
    "revpairwise": lambda v: [(b, a) for a, b in combinations(v, 2)],
    "minmax": lambda v: [(v[0], v[-1])],
}
# From the data's column and the rows' values to those before and after, with what these are called.
OF_NUMBERS: dict[str, Callable[[pd.Series, pd.Series], tuple[Any, Any, str]]] = {
    "sd": lambda data, x: (x - data.std() / 2, x + data.std() / 2, "+1 sd"),
    "2sd": lambda data, x: (x - data.std(), x + data.std(), "+2 sd"),
    "iqr": lambda data, x: (data.quantile(0.25), data.quantile(0.75), "Q3 {sign} Q1"),
    "minmax": lambda data, x: (data.min(), data.max(), "max {sign} min"),
}


def changes(model: Model, rows: pd.DataFrame, variables: Wanted) -> Iterator[Change]:
    """
    Give every change that is asked for.

    Parameters
    ----------
    rows
        Complete rows to start from.
    variables
        Columns, or a mapping from these to how they change: see `comparisons`.

    Raises
    ------
    UnknownNameError
        If a column or a change is not known.
    DataError
        If a change is not one of such a column.
    """
    for name, how in wanted_variables(model, variables).items():
        factor = is_factor_somewhere(model.design, name)
        yield from (_of_factor if factor else _of_number)(model, rows, name, how)


def wanted_variables(model: Model, variables: Wanted) -> dict[str, Any]:
    """Say how each column changes, None for the usual way; by default all of the fixed parts."""
    design = model.design
    known = dict.fromkeys(v for p in design.predictors for v in fixed_variables(design, p))
    if variables is None:
        if not known:
            raise DataError(f"The fixed part of {model.formula.texts[0]!r} has no predictor.")
        return known
    names = [variables] if isinstance(variables, str) else variables
    found = dict(names) if isinstance(names, Mapping) else dict.fromkeys(names)
    for name in found:
        if name in grouping_variables(design):
            raise DataError(
                f"{name!r} only groups rows; ranef() compares its levels, and variables= takes "
                f"predictors of the fixed part: {', '.join(known)}."
            )
        if name not in design.predictor_columns:
            raise UnknownNameError(
                f"{name!r} is no predictor of {model.formula.texts[0]!r}. {suggestion(name, known)}"
            )
    return found


def _of_factor(model: Model, rows: pd.DataFrame, name: str, how: Any) -> Iterator[Change]:
    how = "reference" if how is None else how
    if isinstance(how, str):
        if how not in OF_FACTORS:
            raise UnknownNameError(
                f"{how!r} is no change of the factor {name!r}. {suggestion(how, OF_FACTORS)}"
            )
        pairs = OF_FACTORS[how](values_of(model.design.rows.frame[name]))
    else:
        low, high = _pair(model, name, how)
        pairs = [(low, high)]
    for low, high in pairs:
        yield _changed(model, rows, name, low, high, f"{high} {{sign}} {low}")


def _of_number(model: Model, rows: pd.DataFrame, name: str, how: Any) -> Iterator[Change]:
    data = model.design.rows.frame[name]
    x = rows[name].astype(float)
    if how is None and set(data.unique()) <= {0, 1}:
        how = (0, 1)
    how = 1 if how is None else how
    if isinstance(how, str):
        if how not in OF_NUMBERS:
            raise UnknownNameError(
                f"{how!r} is no change of the number {name!r}. Give a step, two values, or one of "
                f"these. {suggestion(how, OF_NUMBERS)}"
            )
        yield _changed(model, rows, name, *OF_NUMBERS[how](data.astype(float), x))
    elif np.ndim(how):
        low, high = _pair(model, name, how)
        yield _changed(model, rows, name, low, high, f"{high:g} {{sign}} {low:g}")
    else:
        (step,) = checked_values(model.design, name, how)
        yield _changed(model, rows, name, x - step / 2, x + step / 2, f"{step:+g}")


def _pair(model: Model, name: str, how: Any) -> list[Any]:
    values = checked_values(model.design, name, how)
    if len(values) != 2:
        raise DataError(f"variables={{{name!r}: {how!r}}} must be two values, from and to.")
    return values


def _changed(
    model: Model, rows: pd.DataFrame, name: str, low: Any, high: Any, label: str
) -> Change:
    def at(value: Any) -> pd.DataFrame:
        own = model.design.rows.frame[name]
        column = value.to_numpy() if np.ndim(value) else repeated(own, value, len(rows))
        return rows.assign(**{name: column})

    return Change(name, label, at(low), at(high))
