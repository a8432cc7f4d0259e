"""Evaluate the expressions of a formula on data frames, and again, alike, on new ones."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd
from formulaic import Formula as FixedFormula
from formulaic import ModelSpec, model_matrix
from formulaic.errors import DataMismatchWarning
from formulaic.transforms import TRANSFORMS
from formulaic.utils.layered_mapping import LayeredMapping
from formulaic.utils.stateful_transforms import stateful_eval
from formulaic.utils.variables import Variable

from glmm_bayes.data import is_factor, labels
from glmm_bayes.errors import DataError
from glmm_bayes.formula import plain_name, variables
from glmm_bayes.monotonic import mo

type Context = Mapping[str, Any]


def _one(x: Any, *_: Any, **__: Any) -> np.ndarray:
    """Stand for an unseen predictor: see `glmm_bayes.unseen`."""
    return np.ones(len(x))


# As R has them, beside formulaic's own log, exp and others.
FUNCTIONS = {
    "sqrt": np.sqrt,
    "abs": np.abs,
    "log1p": np.log1p,
    "expm1": np.expm1,
    "sin": np.sin,
    "cos": np.cos,
    "mo": mo,
    # What is unseen is a one here: its columns are what it is multiplied by.
    "me": _one,
    "mi": _one,
}


@dataclass(frozen=True, eq=False)
class Expression:
    """A Python expression over columns, with the state that its transforms learnt from the data."""

    text: str
    state: dict[str, Any] = field(default_factory=dict)

    def evaluate(self, frame: pd.DataFrame, context: Context) -> pd.Series:
        """Evaluate on the rows of `frame`, as a series with its index."""
        name = plain_name(self.text)
        if name is not None and name in frame:
            return frame[name]
        space = LayeredMapping({c: frame[c] for c in frame.columns}, context, FUNCTIONS, TRANSFORMS)
        try:
            with np.errstate(all="ignore"):  # the values are checked after
                value = stateful_eval(self.text, space, {}, self.state, ModelSpec(formula=[]))
        except Exception as error:  # whatever the user's expression raises
            raise DataError(
                f"The expression {self.text!r} cannot be evaluated: {error}."
            ) from error
        shape = np.shape(value)
        if shape not in ((), (len(frame),)):
            raise DataError(
                f"The expression {self.text!r} has values of shape {shape} for {len(frame)} rows; "
                f"it should give one number a row."
            )
        if isinstance(value, pd.Series):
            return value.set_axis(frame.index)
        return pd.Series(np.broadcast_to(value, len(frame)), index=frame.index)

    def numbers(self, frame: pd.DataFrame, context: Context, role: str) -> np.ndarray:
        """Evaluate to finite floats `(n,)`; `role` names them in an error."""
        column = self.evaluate(frame, context)
        if is_factor(column):
            raise DataError(f"The {role} {self.text!r} must be numbers, not {column.dtype}.")
        values = column.to_numpy(dtype=float)
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise DataError(
                f"The {role} {self.text!r} is {values[bad[0]]:g} in row {frame.index[bad[0]]}."
            )
        return values


class Columns(Protocol):
    """Columns made of a data frame, which encode new data as they did the first."""

    @property
    def names(self) -> tuple[str, ...]:
        """What the columns are called."""

    @property
    def levels(self) -> Mapping[str, pd.Series]:
        """Of the factors they use: their values, by label."""

    @property
    def term_names(self) -> tuple[str, ...]:
        """The terms they are of."""

    def encode(self, frame: pd.DataFrame, context: Context) -> np.ndarray:
        """Encode data: `(n, k)`."""


@dataclass(frozen=True, eq=False)
class Matrix:
    """
    The columns of a formulaic right-hand side, which encode new data as they did the first.

    Behind them are those of `others`, which formulaic does not know.
    """

    text: str
    spec: ModelSpec
    names: tuple[str, ...]
    levels: Mapping[str, pd.Series]  # of the factors it uses: their values, by label
    into: np.ndarray | None = None  # what the spec's columns are multiplied by, if anything
    others: tuple[Columns, ...] = ()

    @classmethod
    def learn(cls, text: str, frame: pd.DataFrame, context: Context) -> tuple["Matrix", np.ndarray]:
        """Fit the encoding to data, and give the `(n, k)` matrix."""
        try:
            with np.errstate(all="ignore"):  # the values are checked after
                made = model_matrix(text, frame, context=_space(context), na_action="ignore")
        except Exception as error:  # formulaic's own, and whatever its transforms raise
            raise DataError(f"The terms {text!r} cannot be evaluated: {error}.") from error
        spec = made.model_spec
        used = columns_of([text], list(frame.columns), context)
        levels = {v: _values_by_label(frame[v]) for v in used if is_factor(frame[v])}
        matrix = cls(text, spec, tuple(map(str, spec.column_names)), levels)
        return matrix, matrix._checked(made)

    def mapped(self, into: np.ndarray, names: Sequence[str]) -> "Matrix":
        """Give the matrix of columns `X @ into`, so named."""
        return replace(self, into=into, names=tuple(names))

    def beside(self, others: Sequence[Columns]) -> "Matrix":
        """Give the matrix with further columns, of others, behind its own."""
        names = (*self.names, *(name for other in others for name in other.names))
        return replace(self, names=names, others=(*self.others, *others))

    def encode(self, frame: pd.DataFrame, context: Context) -> np.ndarray:
        """Encode new data; a level that was not in the first data is an error."""
        own = self._encode_own(frame, context)
        return np.column_stack([own, *(other.encode(frame, context) for other in self.others)])

    def _encode_own(self, frame: pd.DataFrame, context: Context) -> np.ndarray:
        for name, known in self.levels.items():
            codes, given = labels(frame[name])
            unseen = sorted(set(given) - set(known.index))
            if unseen:
                raise DataError(
                    f"The model was not fitted with {name} = {unseen[0]!r}; "
                    f"it knows {', '.join(known.index)}."
                )
            # By label, so that 1 is the level "1", whatever the type of the new column.
            values = known.loc[list(given)].array.take(codes)
            frame = frame.assign(**{name: values.astype(known.dtype)})
        if not self.spec.column_names:
            return np.empty((len(frame), 0))
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("error", DataMismatchWarning)
            try:
                made = self.spec.get_model_matrix(frame, context=_space(context))
            except Exception as error:  # as above
                raise DataError(
                    f"The terms {self.text!r} cannot encode the new data: {error}."
                ) from error
        X = self._checked(made)
        return X if self.into is None else X @ self.into

    @property
    def term_names(self) -> tuple[str, ...]:
        """The terms of the right-hand side, an intercept as 1."""
        return tuple(map(str, self.spec.term_slices))

    @property
    def indicated(self) -> tuple[Any, ...] | None:
        """The levels of one factor, in order, if the columns are their indicators."""
        parts = list(self.spec.structure or [])
        if len(parts) != 1 or len(parts[0].term.factors) != 1:
            return None
        contrasts = self.spec.factor_contrasts.get(next(iter(parts[0].term.factors)))
        if contrasts is None or len(contrasts.levels) != len(self.names):
            return None
        return tuple(contrasts.levels)

    def _checked(self, made: pd.DataFrame) -> np.ndarray:
        X = made.to_numpy(dtype=float)
        bad = np.argwhere(~np.isfinite(X))
        if len(bad):
            row, column = bad[0]
            raise DataError(
                f"The column {str(made.columns[column])!r} of {self.text!r} is {X[row, column]:g} "
                f"in row {made.index[row]}."
            )
        return X


def _values_by_label(column: pd.Series) -> pd.Series:
    codes, names = labels(column)
    if isinstance(column.dtype, pd.CategoricalDtype):
        every = pd.Categorical.from_codes(np.arange(len(names)), dtype=column.dtype)
        return pd.Series(every, index=names)
    present, first = np.unique(codes, return_index=True)
    return column.iloc[first].set_axis([names[code] for code in present])


def _space(context: Context) -> dict[str, Any]:
    return {**FUNCTIONS, **context}


def columns_of(texts: Sequence[str], known: Sequence[str], context: Context) -> tuple[str, ...]:
    """
    List the columns that expressions need, those of `known` first looked for by their full name.

    Names of the context, of functions and of Python's attributes are not columns.
    """
    names: dict[str, None] = {}
    for text in texts:
        found: set[str] = set()
        for term in FixedFormula(f"0 + {text}"):
            for factor in term.factors:
                found |= {_column(variable, known) for variable in variables(factor)}
        names.update(dict.fromkeys(sorted(found - {""})))
    return tuple(n for n in names if n not in context)


def _column(variable: Variable, known: Sequence[str]) -> str:
    """Name the column that a variable of formulaic's is, or nothing where it is a function."""
    if str(variable) in known and Variable.Role.VALUE in variable.roles:
        return str(variable)
    # Only what is no column by its whole name is an attribute of something: `leaf.area` may be one.
    return "" if variable.root in TRANSFORMS or variable.root in FUNCTIONS else str(variable.root)
