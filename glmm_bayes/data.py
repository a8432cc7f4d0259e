"""Take the columns that a formula names out of any data frame, checked; nothing is encoded here."""

import warnings
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd

from glmm_bayes.errors import DataError, DataWarning, UnknownNameError
from glmm_bayes.registry import suggestion

type Frame = Any  # whatever narwhals reads


@dataclass(frozen=True, eq=False)
class Rows:
    """
    The rows that can be used.

    `frame` has the used columns of the kept rows, indexed as the user's data; `kept` `(n,)`
    the kept rows' positions in the data, which had `total`; `missing` counts by column. A factor
    with `unused_levels` has no such categories in `frame`; `categories` has all of its own.
    """

    frame: pd.DataFrame
    kept: np.ndarray
    total: int
    missing: dict[str, int]
    unused_levels: dict[str, tuple[str, ...]]
    categories: dict[str, pd.Index] = field(default_factory=dict)

    @property
    def whole(self) -> pd.DataFrame:
        """The frame with the levels that no row has among its categories again."""
        known = {
            name: self.frame[name].cat.set_categories(c) for name, c in self.categories.items()
        }
        return self.frame.assign(**known)


def read_columns(data: Frame, names: Sequence[str], *, where: str) -> pd.DataFrame:
    """
    Copy columns of a pandas, polars, pyarrow … frame into a pandas frame.

    Raises
    ------
    DataError
        If `data` is not a data frame, has no rows, or has a column's name twice.
    UnknownNameError
        If a column is not there.
    """
    frame = _opened(data)
    if len(frame) == 0:
        raise DataError("The data have no rows.")
    known = [str(c) for c in frame.columns]
    for name in names:
        if name not in known:
            raise UnknownNameError(
                f"The column {name!r} of {where} is not in the data. {suggestion(name, known)}"
            )
    if isinstance(data, pd.DataFrame):
        chosen = data.iloc[:, [known.index(name) for name in names]]
        return chosen.set_axis(list(names), axis=1).copy()
    return pd.DataFrame(
        {name: _as_pandas(frame[name]) for name in names}, index=pd.RangeIndex(len(frame))
    )


def column_names(data: Frame) -> tuple[str, ...]:
    """List the columns of any data frame."""
    return tuple(str(c) for c in _opened(data).columns)


def _opened(data: Frame) -> Any:
    if isinstance(data, pd.DataFrame) and not data.columns.is_unique:
        twice = sorted({str(c) for c in data.columns[data.columns.duplicated()]})
        raise DataError(
            f"The data have several columns named {', '.join(map(repr, twice))}; rename them."
        )
    try:
        return nw.from_native(data, eager_only=True)
    except TypeError as error:
        raise DataError(
            f"The data are a {type(data).__name__}; give a pandas, polars or pyarrow data frame."
        ) from error


def usable_rows(
    frame: pd.DataFrame,
    missing: Literal["drop", "raise"],
    apart: Sequence[Collection[str]] = (),
    estimated: Collection[str] = (),
) -> Rows:
    """
    Leave out the rows with a missing value, and say so.

    Parameters
    ----------
    apart
        The columns of each of several responses, of which a row has to have one.
    estimated
        The columns whose missing values are parameters; if there are such, no row has to have a
        response.

    Raises
    ------
    DataError
        If no row is left, values are missing and `missing="raise"`, or one is infinite.
    """
    absent = frame.isna()
    absent = absent.assign(**dict.fromkeys(estimated, False))
    needed = absent[[c for c in frame.columns if not any(c in part for part in apart)]]
    lost = needed.any(axis=1).to_numpy()
    if apart and not estimated:
        lost = lost | np.all([absent[list(part)].any(axis=1) for part in apart], axis=0)
    kept = np.flatnonzero(~lost)
    counts = {str(c): int(k) for c, k in absent.sum().items() if k}
    listed = ", ".join(f"{c!r} ({k})" for c, k in counts.items())
    if len(kept) == 0:
        raise DataError(f"No row is complete: values are missing in {listed} of {len(frame)} rows.")
    if counts and missing == "raise":
        raise DataError(f"Values are missing in {listed}; fill them in, or use missing='drop'.")
    if len(kept) < len(frame):
        warnings.warn(
            f"{len(frame) - len(kept)} of {len(frame)} rows are left out: "
            f"values are missing in {listed}.",
            DataWarning,
            stacklevel=2,
        )
    frame = plain(frame.iloc[kept])
    _refuse_unusable(frame)
    unused, categories = {}, {}
    for name in frame.columns:
        if isinstance(frame[name].dtype, pd.CategoricalDtype):
            column = frame[name].cat.remove_unused_categories()
            gone = frame[name].cat.categories.difference(column.cat.categories, sort=False)
            if len(gone):
                unused[str(name)] = tuple(map(str, gone))
                categories[str(name)] = frame[name].cat.categories
                frame = frame.assign(**{name: column})
    return Rows(frame, kept, len(absent), counts, unused, categories)


def complete_columns(data: Frame, names: Sequence[str], *, where: str) -> pd.DataFrame:
    """Read the columns of new data, where a missing value cannot be left out silently."""
    frame = read_columns(data, names, where=where)
    for name in names:
        absent = np.flatnonzero(frame[name].isna().to_numpy())
        if len(absent):
            raise DataError(
                f"The new data have no value of {name!r} in row {_listed(frame.index[absent])}; "
                f"leave those rows out or fill them in."
            )
    frame = plain(frame)
    _refuse_unusable(frame)
    return frame


def is_factor(column: pd.Series) -> bool:
    """Tell whether a column holds labels, not numbers."""
    return not pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(
        column.dtype
    )


def labels(column: pd.Series) -> tuple[np.ndarray, tuple[str, ...]]:
    """
    Give numbers to the levels of a column, categories in their order, other values sorted.

    Returns
    -------
    codes
        `(n,)` positions in the levels.
    levels
        The labels; whole numbers without a decimal point.
    """
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy().astype(np.intp), _texts(column.cat.categories)
    try:
        codes, values = pd.factorize(column, sort=True)
    except TypeError as error:
        raise DataError(
            f"The values of {column.name!r} cannot be the levels of a factor: {error}."
        ) from error
    return codes.astype(np.intp), _texts(values)


def _texts(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(str(int(v)) if isinstance(v, float) and v.is_integer() else str(v) for v in values)


def _listed(rows: pd.Index) -> str:
    shown = ", ".join(str(k) for k in rows[:5])
    return shown + (f" and {len(rows) - 5} more" if len(rows) > 5 else "")


def _refuse_unusable(frame: pd.DataFrame) -> None:
    for name in frame.columns:
        if pd.api.types.is_complex_dtype(frame[name].dtype):
            raise DataError(f"The column {name!r} holds complex numbers; take a real part of them.")
        if pd.api.types.is_float_dtype(frame[name].dtype):
            bad = np.flatnonzero(np.isinf(frame[name].to_numpy(dtype=float, na_value=np.nan)))
            if len(bad):
                raise DataError(
                    f"The column {name!r} is infinite in row {_listed(frame.index[bad])}; "
                    f"leave those rows out or mend the values."
                )


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Turn columns without gaps into NumPy's dtypes: formulaic takes pandas' others for objects."""
    whole = [name for name in frame.columns if not frame[name].isna().any()]
    return frame.assign(**{str(name): _plain_column(frame[name]) for name in whole})


def _plain_column(column: pd.Series) -> pd.Series:
    kinds = pd.api.types
    if isinstance(column.dtype, pd.CategoricalDtype | np.dtype):
        return column.infer_objects()
    if kinds.is_datetime64_any_dtype(column.dtype):
        return column
    if kinds.is_bool_dtype(column.dtype):
        return column.astype(bool)
    if kinds.is_integer_dtype(column.dtype):
        return column.astype(int)
    if kinds.is_float_dtype(column.dtype):
        return column.astype(float)
    if kinds.is_string_dtype(column.dtype):
        return column.astype("str")
    return column.astype(object)


def _as_pandas(series: Any) -> pd.Series:
    if series.dtype in (nw.Categorical, nw.Enum):
        categories = series.cat.get_categories().to_list()
        ordered = series.dtype == nw.Enum
        return pd.Series(pd.Categorical(series.to_list(), categories=categories, ordered=ordered))
    if series.dtype.is_numeric():
        return pd.Series(series.to_numpy())
    return pd.Series(series.to_list())
