"""Predictors whose values are not all in the data: measured with error, me(x, sd), or missing."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, override

import numpy as np
import pandas as pd

from glmm_bayes.covariance import Covariance
from glmm_bayes.data import labels
from glmm_bayes.encoding import Context, Expression, Matrix
from glmm_bayes.errors import DataError
from glmm_bayes.formula import (
    IMPUTED,
    MEASURED,
    UnseenPart,
    plain_name,
    products_of,
)


@dataclass(frozen=True, eq=False)
class Product:
    """Column k of a predictor: `weight` `(n,)` times the unseen predictors of these texts."""

    k: int
    weight: np.ndarray
    of: tuple[str, ...]

    def take(self, rows: slice | np.ndarray) -> Self:
        """Keep some of the rows, by position."""
        return replace(self, weight=self.weight[rows])


@dataclass(frozen=True, eq=False)
class Unseen(ABC):
    """
    Unknown values `(q, D)` of D variables, in the rows of a design.

    Attributes
    ----------
    name
        What results call them all together.
    columns
        The D variables.
    texts
        From the formula's calls to these, by number.
    index
        `(n,)` which of the q a row has; -1 where its value is in the data.
    levels
        What results call the q.
    """

    name: str
    columns: tuple[str, ...]
    texts: Mapping[str, int]
    index: np.ndarray
    levels: tuple[Any, ...]

    @property
    def dim(self) -> str:
        """The dimension of the q in results."""
        return f"{self.name}__row"

    @property
    def names(self) -> tuple[str, ...]:
        """What results call each variable's values."""
        return tuple(f"{self.kind}_{column}" for column in self.columns)

    @property
    @abstractmethod
    def kind(self) -> str:
        """The name of the call."""

    @property
    @abstractmethod
    def standing(self) -> np.ndarray:
        """Numbers `(n, D)` near the values, from the data: to scale and centre columns by."""

    def rows(self, values: np.ndarray, text: str) -> np.ndarray:
        """Give one variable's values `(S, n)` in the rows, of `(S, q, D)` unknown ones."""
        d = self.texts[text]
        if not len(self.levels):
            return np.broadcast_to(self.standing[:, d], (len(values), len(self.index)))
        return np.where(self.index < 0, self.standing[:, d], values[:, self.index, d])

    def take(self, rows: slice | np.ndarray) -> Self:
        """Keep some of the rows, by position."""
        return replace(self, index=self.index[rows])

    @abstractmethod
    def encode(self, frame: pd.DataFrame, context: Context) -> Self:
        """Read new data."""

    @abstractmethod
    def for_rows(
        self,
        fitted: np.ndarray,
        theta: Mapping[str, np.ndarray],
        rng: np.random.Generator | None,
    ) -> np.ndarray:
        """
        Give the values `(S, q, D)` for these rows, from those `fitted` and parameters' draws.

        What new rows have is drawn given their measurements; without `rng` it is at its mean.
        """

    def as_true(self) -> Self:
        """Take what stands in the data for the true values."""
        return self


@dataclass(frozen=True, eq=False)
class Measured(Unseen):
    """
    Predictors that were measured with errors of known size: `me(x, sdx)`.

    The true values of all of them are normal, independent between rows (with a group, between its
    levels), and correlated within these.

    Attributes
    ----------
    parts
        What was measured, with its error, as expressions.
    x, error
        `(q, D)` the measurements, and their errors' standard deviations.
    fitted
        `(q,)` the place of each among those of the first data; -1 of new ones.
    structure
        The covariance of the D true values.
    """

    parts: tuple[UnseenPart, ...]
    x: np.ndarray
    error: np.ndarray
    fitted: np.ndarray
    structure: Covariance

    @property
    @override
    def kind(self) -> str:
        return MEASURED

    @property
    def size(self) -> int:
        """The number D of variables."""
        return len(self.columns)

    @property
    def label(self) -> str:
        """What tables call it."""
        return self.name

    @property
    def in_groups(self) -> bool:
        """Whether rows share true values."""
        return self.parts[0].group is not None

    @property
    @override
    def standing(self) -> np.ndarray:
        return self.x[self.index]

    @override
    def encode(self, frame: pd.DataFrame, context: Context) -> "Measured":
        group = self.parts[0].group
        level, names, x, error = measurements(self.parts, frame, context, least=0.0)
        known = {} if group is None else {level: k for k, level in enumerate(self.levels)}
        fitted = np.array([known.get(each, -1) for each in names], dtype=int)
        return replace(self, index=level, levels=names, x=x, error=error, fitted=fitted)

    @override
    def as_true(self) -> "Measured":
        none = np.full(len(self.fitted), -1)
        return replace(self, error=np.zeros_like(self.error), fitted=none)

    @override
    def for_rows(
        self,
        fitted: np.ndarray,
        theta: Mapping[str, np.ndarray],
        rng: np.random.Generator | None,
    ) -> np.ndarray:
        known = self.fitted >= 0
        if known.all():
            return fitted[:, self.fitted]
        found = np.empty((len(fitted), *self.x.shape))
        found[:, known] = fitted[:, self.fitted[known]]
        mean, root = self.given_measurements(theta, ~known)
        z = 0.0 if rng is None else rng.standard_normal(mean.shape)
        found[:, ~known] = mean + (root @ np.broadcast_to(z, mean.shape)[..., None])[..., 0]
        return found

    def from_prior(self, theta: Mapping[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        """Draw true values `(S, q, D)` from their distribution, whatever was measured."""
        mean, Lambda = theta[f"mean_{self.name}"], self._factors(theta)
        z = rng.standard_normal((len(mean), *self.x.shape))
        return mean[:, None, :] + z @ Lambda.transpose(0, 2, 1)

    def _factors(self, theta: Mapping[str, np.ndarray]) -> np.ndarray:
        names = [p.name for p in self.structure.parameters(self.size)]
        draws = zip(*(theta[f"{name}_{self.name}"] for name in names), strict=True)
        own = [dict(zip(names, draw, strict=True)) for draw in draws]
        return np.stack([self.structure.factor(each, self.size) for each in own])

    def given_measurements(
        self, theta: Mapping[str, np.ndarray], at: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Give the mean `(S, k, D)` and a root `(S, k, D, D)` of the covariance of true values."""
        mean, Lambda = theta[f"mean_{self.name}"][:, None, :], self._factors(theta)
        P = (Lambda @ Lambda.transpose(0, 2, 1))[:, None]
        noise = np.square(self.error[at])[:, :, None] * np.eye(self.size)
        gain = np.linalg.solve(P + noise, P).swapaxes(-1, -2)
        centre = mean + (gain @ (self.x[at] - mean)[..., None])[..., 0]
        # Not by Cholesky: what is measured without error does not vary.
        sizes, axes = np.linalg.eigh(P - gain @ P)
        return centre, axes * np.sqrt(np.maximum(sizes, 0.0))[..., None, :]


@dataclass(frozen=True, eq=False)
class Missing(Unseen):
    """
    A response some of whose values are unknown, and which may be a predictor too: `mi(x)`.

    Attributes
    ----------
    place
        Which of the responses it is.
    text
        Its name in the formula.
    seen
        `(n,)` the values in the data, NaN where there is none.
    measured, error
        `(q,)` for those measured with an error: NaN and infinity where nothing was measured.
    """

    place: int
    text: str
    seen: np.ndarray
    measured: np.ndarray
    error: np.ndarray

    @property
    @override
    def kind(self) -> str:
        return IMPUTED

    @property
    @override
    def standing(self) -> np.ndarray:
        there = ~np.isnan(self.seen)
        middle = float(self.seen[there].mean()) if there.any() else 0.0
        return np.where(there, self.seen, middle)[:, None]

    @property
    def has_error(self) -> bool:
        """Whether the values in the data are measurements."""
        return bool(np.isfinite(self.error).any())

    @override
    def take(self, rows: slice | np.ndarray) -> "Missing":
        return replace(self, index=self.index[rows], seen=self.seen[rows])

    @override
    def encode(self, frame: pd.DataFrame, context: Context) -> "Missing":
        none, n = np.empty(0), len(frame)
        name = plain_name(self.text)
        seen = np.full(n, np.nan)
        if name in frame.columns:
            seen = Expression(self.text).numbers(frame, context, "predictor")
        index = np.full(n, -1)
        return replace(self, seen=seen, index=index, levels=(), measured=none, error=none)

    @override
    def for_rows(
        self,
        fitted: np.ndarray,
        theta: Mapping[str, np.ndarray],
        rng: np.random.Generator | None,
    ) -> np.ndarray:
        return fitted if len(self.levels) else fitted[:, :0]


def unseen_columns(matrix: Matrix, X: np.ndarray) -> tuple[Product, ...]:
    """Find the columns of X that unseen predictors are in, which stand as ones in X."""
    of: dict[str, tuple[str, ...]] = {}
    for term, at in matrix.spec.term_slices.items():
        calls = products_of(term)
        of |= dict.fromkeys(map(str, matrix.spec.column_names[at]), calls) if calls else {}
    return tuple(Product(k, X[:, k], of[name]) for k, name in enumerate(matrix.names) if name in of)


def with_standing(
    X: np.ndarray, products: Sequence[Product], unseen: Sequence[Unseen]
) -> np.ndarray:
    """Put numbers from the data in the place of unseen predictors' ones."""
    if not products:
        return X
    X = X.copy()
    for product in products:
        for text in product.of:
            source = source_of(text, unseen)
            X[:, product.k] *= source.standing[:, source.texts[text]]
    return X


def source_of(text: str, unseen: Sequence[Unseen]) -> Unseen:
    """Find what a call of the formula is of."""
    return next(source for source in unseen if text in source.texts)


def measurements(
    parts: Sequence[UnseenPart],
    frame: pd.DataFrame,
    context: Context,
    least: float = np.nextafter(0.0, 1.0),
) -> tuple[np.ndarray, tuple[Any, ...], np.ndarray, np.ndarray]:
    """Read measurements and errors: each row's level, the levels, and both `(q, D)`."""
    n = len(frame)
    x, error = np.empty((n, len(parts))), np.empty((n, len(parts)))
    for d, part in enumerate(parts):
        x[:, d] = Expression(part.x).numbers(frame, context, f"predictor of {part.text}")
        role = f"standard deviation of {part.text}"
        error[:, d] = Expression(part.error or "").numbers(frame, context, role)
        if (error[:, d] < least).any():
            at = int(np.argmin(error[:, d]))
            raise DataError(
                f"The standard deviation {part.error!r} of {part.text!r} has to be positive, but "
                f"row {frame.index[at]} is {error[at, d]:g}."
            )
    group = parts[0].group
    if group is None:
        return np.arange(n), tuple(range(n)), x, error
    index, names = labels(Expression(group).evaluate(frame, context))
    present = np.unique(index)
    index, names = np.searchsorted(present, index), tuple(names[k] for k in present)
    first = np.array([int(np.argmax(index == k)) for k in range(len(names))])
    differs = ((x != x[first][index]) | (error != error[first][index])).any(axis=1)
    if differs.any():
        at = int(np.argmax(differs))
        raise DataError(
            f"The rows of one level of {group!r} in {parts[0].text!r} have one true value, so one "
            f"measurement and one standard deviation, but row {frame.index[at]} has others than "
            f"the first row of {names[index[at]]!r}."
        )
    return index, names, x[first], error[first]
