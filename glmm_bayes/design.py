"""A formula and data to matrices, and again, faithfully, on new data; no family is known here."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from glmm_bayes.covariance import COVARIANCES, Covariance
from glmm_bayes.data import (
    Frame,
    Rows,
    column_names,
    complete_columns,
    is_factor,
    labels,
    read_columns,
    usable_rows,
)
from glmm_bayes.encoding import Context, Expression, Matrix, columns_of
from glmm_bayes.errors import DataError, NotSupportedError
from glmm_bayes.formula import Formula, Group, PredictorPart, RandomPart

INTERCEPT = "Intercept"


@dataclass(frozen=True, eq=False)
class Response:
    """The observed response `(n,)`, trials and weights if it has them, and a factor's levels."""

    name: str
    y: np.ndarray
    trials: np.ndarray | None = None
    weights: np.ndarray | None = None
    levels: tuple[str, ...] | None = None


@dataclass(frozen=True, eq=False)
class Predictor:
    """
    The fixed part of one distribution parameter's linear predictor.

    `X` `(n, k)` with the columns `names`, `offset` `(n,)`; the random terms are in the design,
    since one term may load on several parameters.
    """

    param: str
    X: np.ndarray
    offset: np.ndarray
    matrix: Matrix
    offsets: tuple[Expression, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the k coefficients."""
        return self.matrix.names


@dataclass(frozen=True, eq=False)
class Loading:
    """Columns `Z` `(n, c)` that a parameter's predictor has of a term's effects `b[:, columns]`."""

    param: str
    Z: np.ndarray
    columns: slice
    matrix: Matrix


@dataclass(frozen=True, eq=False)
class RandomTerm:
    """
    One random term, ready for the linear predictors.

    With effects `b` `(q, p)`, the predictor of a loading's parameter gains
    `sum_j weights[:, j] * (Z * b[index[:, j], columns]).sum(axis=1)`; `index` `(n, m)` has
    m = 1 but for multi-membership. `name` tells the term from others on the same group.
    """

    name: str
    group: Group
    text: str
    columns: tuple[str, ...]
    levels: tuple[str, ...]
    index: np.ndarray
    weights: np.ndarray
    loadings: tuple[Loading, ...]
    structure: Covariance
    level_structure: Covariance

    @property
    def size(self) -> int:
        """The number p of columns."""
        return len(self.columns)

    @property
    def label(self) -> str:
        """The group as it is called in tables and dimensions."""
        return self.group.label.replace("/", "_")

    def Z(self, param: str) -> Any:
        """Give the sparse `(n, q p)` matrix that multiplies `b.ravel()` in one predictor."""
        from scipy.sparse import csr_array

        n, m = self.index.shape
        shape = (n, len(self.levels) * self.size)
        total = csr_array(shape)
        for loading in self.loadings:
            if loading.param == param:
                at = np.arange(self.size)[loading.columns]
                cols = self.index[:, :, None] * self.size + at
                data = self.weights[:, :, None] * loading.Z[:, None, :]
                rows = np.repeat(np.arange(n), m * len(at))
                total = total + csr_array((data.ravel(), (rows, cols.ravel())), shape=shape)
        return total


@dataclass(frozen=True, eq=False)
class Design:
    """
    The matrices of a model.

    `predictors` has one entry a distribution parameter with a formula, "mu" first; `rows` says
    which rows of the data these are.
    """

    response: Response | None
    predictors: Mapping[str, Predictor]
    terms: tuple[RandomTerm, ...]
    rows: Rows
    formula: Formula
    context: Context

    @property
    def n(self) -> int:
        """The number of rows."""
        return len(self.rows.frame)

    @property
    def y(self) -> np.ndarray:
        """The response `(n,)`."""
        return self.response.y

    def with_response(self, response: Response | None) -> "Design":
        """Put another response in place of this one."""
        return replace(self, response=response)

    def take(self, rows: slice | np.ndarray) -> "Design":
        """Keep some of the rows, by position."""
        response = self.response
        if response is not None:
            cut = {
                name: value[rows]
                for name in ("y", "trials", "weights")
                if (value := getattr(response, name)) is not None
            }
            response = replace(response, **cut)
        return replace(
            self,
            response=response,
            predictors={
                name: replace(p, X=p.X[rows], offset=p.offset[rows])
                for name, p in self.predictors.items()
            },
            terms=tuple(
                replace(
                    term,
                    index=term.index[rows],
                    weights=term.weights[rows],
                    loadings=tuple(replace(g, Z=g.Z[rows]) for g in term.loadings),
                )
                for term in self.terms
            ),
            rows=replace(self.rows, frame=self.rows.frame.iloc[rows], kept=self.rows.kept[rows]),
        )

    def effects_matrix(self, param: str) -> Any:
        """Put the terms' `Z` side by side: sparse `(n, total effects)`, or None without any."""
        from scipy.sparse import hstack

        if not any(g.param == param for term in self.terms for g in term.loadings):
            return None
        return hstack([term.Z(param) for term in self.terms], format="csr")

    @cached_property
    def predictor_columns(self) -> tuple[str, ...]:
        """The columns that predictions need: every used one but the response's."""
        texts = [t for part in self.formula.predictors.values() for t in _texts_of(part)]
        return self._columns(texts)

    def _columns(self, texts: Sequence[str]) -> tuple[str, ...]:
        return columns_of(texts, list(self.rows.frame.columns), self.context)

    def encode(self, data: Frame, *, response: bool = False) -> "Design":
        """
        Encode new data as the first were: same columns, new levels of groups put last.

        Raises
        ------
        DataError
            If values are missing, or a factor of the fixed part has a level not seen before.
        """
        texts = _response_texts(self.formula) if response else []
        extra = [t for name, t in self.formula.response.extras if name == "trials"]
        wanted = dict.fromkeys([*self.predictor_columns, *self._columns(texts)])
        trials = [c for c in self._columns(extra) if c in column_names(data)]
        frame = complete_columns(
            data, list({**wanted, **dict.fromkeys(trials)}), where="the new data"
        )
        made = None
        if response:
            made = _read_response(self.formula, frame, self.context)
        elif trials:
            t = Expression(extra[0]).numbers(frame, self.context, "trials")
            made = Response(self.formula.response.text, np.full(len(frame), np.nan), trials=t)
        rows = Rows(frame, np.arange(len(frame)), len(frame), {}, {})
        return replace(
            self,
            response=made,
            predictors={
                k: _encode_predictor(p, frame, self.context) for k, p in self.predictors.items()
            },
            terms=tuple(_encode_term(t, frame, self.context) for t in self.terms),
            rows=rows,
        )


def build_design(
    formula: Formula,
    data: Frame,
    *,
    context: Context,
    missing: Literal["drop", "raise"] = "drop",
) -> Design:
    """
    Encode the data that a formula names.

    Raises
    ------
    DataError, UnknownNameError
        If the data do not fit the formula.
    NotSupportedError
        If the formula has a part that is not built yet.
    """
    _refuse_unbuilt(formula)
    texts = [t for part in formula.predictors.values() for t in _texts_of(part)]
    names = columns_of([*_response_texts(formula), *texts], column_names(data), context)
    where = " and ".join(repr(t) for t in formula.texts)
    rows = usable_rows(read_columns(data, names, where=where), missing)
    predictors = {
        param: _learn_predictor(param, part, rows.frame, context)
        for param, part in formula.predictors.items()
    }
    terms = tuple(_learn_terms(formula, rows.frame, context))
    response = _read_response(formula, rows.frame, context)
    return Design(response, predictors, terms, rows, formula, context)


# ---- what a formula names


def _texts_of(part: PredictorPart) -> list[str]:
    texts = [part.fixed, *part.offsets]
    for term in part.random:
        texts += [term.columns, *term.group.factors, *term.group.weights]
    return texts


def _response_texts(formula: Formula) -> list[str]:
    response = formula.response
    extras = [text for _, text in response.extras]
    return [response.expression, *([response.failures] if response.failures else []), *extras]


def _refuse_unbuilt(formula: Formula) -> None:
    for name, _ in formula.response.extras:
        if name not in ("trials", "weights"):
            raise NotSupportedError(
                f"{name}(…) in {formula.response.text!r} is not built yet; "
                f"of the response's extras, trials(n) and weights(w) are."
            )
    if formula.residual is not None:
        raise NotSupportedError(
            f"A structure of the residuals, {formula.residual.text!r}, is not built yet; "
            f"give the groups a random term, or the standard deviation a formula: 'sigma ~ x'."
        )
    for part in formula.predictors.values():
        for special in part.special:
            raise NotSupportedError(
                f"{special.text!r} is not built yet; for a smooth curve use a spline basis of "
                f"fixed size, such as bs(x, df=5) or cr(x, df=5)."
            )
        for term in part.random:
            if term.structure not in COVARIANCES or term.arguments:
                built = [n for n, c in COVARIANCES.items() if c.axis == "columns"]
                raise NotSupportedError(
                    f"The structure of {term.text!r} is not built yet; of structures there are "
                    f"{', '.join(built)}."
                )
            if not term.group.factors:
                raise NotSupportedError(
                    f"{term.text!r} has no group: `| 1` needs a structure along time or space, "
                    f"which is not built yet."
                )


# ---- learning from the first data


def _learn_predictor(
    param: str, part: PredictorPart, frame: pd.DataFrame, context: Context
) -> Predictor:
    matrix, X = Matrix.learn(part.fixed, frame, context)
    offsets = tuple(Expression(text) for text in part.offsets)
    return Predictor(param, X, _offset(offsets, frame, context), matrix, offsets)


def _learn_terms(formula: Formula, frame: pd.DataFrame, context: Context) -> Iterator[RandomTerm]:
    pairs = [(param, term) for param, p in formula.predictors.items() for term in p.random]
    taken: set[str] = set()
    while pairs:
        param, first = pairs[0]
        joint = [p for p in pairs if p[1].id is not None and p[1].id == first.id] or [pairs[0]]
        pairs = [p for p in pairs if not any(p is j for j in joint)]
        prefix = "" if param == "mu" or len(joint) > 1 else f"{param}_"
        name = base = prefix + first.group.label.replace("/", "_")
        k = 2
        while name in taken:
            name, k = f"{base}_{k}", k + 1
        taken.add(name)
        yield _learn_term(name, joint, frame, context)


def _learn_term(
    name: str, joint: list[tuple[str, RandomPart]], frame: pd.DataFrame, context: Context
) -> RandomTerm:
    first = joint[0][1]
    loadings: list[Loading] = []
    columns: list[str] = []
    for param, part in joint:
        matrix, Z = Matrix.learn(part.columns, frame, context)
        if not matrix.names:
            raise DataError(
                f"The random term {part.text!r} has no columns; write (1 | …) or (x | …)."
            )
        prefix = "" if param == joint[0][0] else f"{param}_"
        at = slice(len(columns), len(columns) + len(matrix.names))
        columns += [prefix + c for c in matrix.names]
        loadings.append(Loading(param, Z, at, matrix))
    index, levels = _levels(first.group, frame, context)
    structure = "diag" if first.independent and first.structure == "us" else first.structure
    return RandomTerm(
        name=name,
        group=first.group,
        text=first.text,
        columns=tuple(columns),
        levels=levels,
        index=index,
        weights=_weights(first.group, frame, context),
        loadings=tuple(loadings),
        structure=COVARIANCES[structure](),
        level_structure=COVARIANCES["iid"](),
    )


def _levels(
    group: Group, frame: pd.DataFrame, context: Context
) -> tuple[np.ndarray, tuple[str, ...]]:
    columns = [Expression(f).evaluate(frame, context) for f in group.factors]
    if group.membership:
        values = [[x[1][c] for c in x[0]] for x in map(labels, columns)]
        known = dict.fromkeys(level for column in map(labels, columns) for level in column[1])
        place = {level: k for k, level in enumerate(known)}
        return np.array([[place[v] for v in column] for column in values]).T, tuple(known)
    codes, names = zip(*map(labels, columns), strict=True)
    combined = np.zeros(len(frame), dtype=np.intp)
    for code, level in zip(codes, names, strict=True):
        combined = combined * len(level) + code
    present, index = np.unique(combined, return_inverse=True)
    parts = np.unravel_index(present, [len(level) for level in names])
    texts = tuple(
        ":".join(names[j][part[k]] for j, part in enumerate(parts)) for k in range(len(present))
    )
    return index.reshape(-1, 1), texts


def _weights(group: Group, frame: pd.DataFrame, context: Context) -> np.ndarray:
    m = len(group.factors) if group.membership else 1
    if not group.weights:
        return np.full((len(frame), m), 1.0 / m if group.scale else 1.0)
    w = np.column_stack([Expression(t).numbers(frame, context, "weights") for t in group.weights])
    if w.shape[1] != m:
        raise DataError(f"{group.label} has {m} members but {w.shape[1]} weights.")
    total = w.sum(axis=1, keepdims=True)
    if (w < 0).any() or (group.scale and (total <= 0).any()):
        bad = frame.index[int(np.argmax((w < 0).any(axis=1) | (total[:, 0] <= 0)))]
        raise DataError(
            f"The weights of {group.label} must not be negative or all zero: row {bad}."
        )
    return w / total if group.scale else w


def _read_response(formula: Formula, frame: pd.DataFrame, context: Context) -> Response:
    asked = formula.response
    extras = dict(asked.extras)
    column = Expression(asked.expression).evaluate(frame, context)
    weights = None
    if "weights" in extras:
        weights = Expression(extras["weights"]).numbers(frame, context, "weights")
        if (weights < 0).any():
            bad = int(np.argmin(weights))
            raise DataError(
                f"The weights {extras['weights']!r} must not be negative, but row "
                f"{frame.index[bad]} has {weights[bad]:g}."
            )
    if is_factor(column):
        codes, levels = labels(column)
        return Response(asked.text, codes.astype(float), None, weights, levels)
    y = Expression(asked.expression).numbers(frame, context, "response")
    trials = None
    if asked.failures is not None:
        trials = y + Expression(asked.failures).numbers(frame, context, "response")
    elif "trials" in extras:
        trials = Expression(extras["trials"]).numbers(frame, context, "trials")
    return Response(asked.text, y, trials, weights)


# ---- encoding new data


def _offset(offsets: Sequence[Expression], frame: pd.DataFrame, context: Context) -> np.ndarray:
    return sum((e.numbers(frame, context, "offset") for e in offsets), np.zeros(len(frame)))


def _encode_predictor(predictor: Predictor, frame: pd.DataFrame, context: Context) -> Predictor:
    X = predictor.matrix.encode(frame, context)
    return replace(predictor, X=X, offset=_offset(predictor.offsets, frame, context))


def _encode_term(term: RandomTerm, frame: pd.DataFrame, context: Context) -> RandomTerm:
    index, levels = _levels(term.group, frame, context)
    place = {level: k for k, level in enumerate(term.levels)}
    for level in levels:
        place.setdefault(level, len(place))
    return replace(
        term,
        levels=tuple(place),
        index=np.array([place[level] for level in levels])[index],
        weights=_weights(term.group, frame, context),
        loadings=tuple(replace(g, Z=g.matrix.encode(frame, context)) for g in term.loadings),
    )
