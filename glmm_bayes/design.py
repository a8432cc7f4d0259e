"""A formula and data to matrices, and again, faithfully, on new data; no family is known here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from glmm_bayes.covariance import COVARIANCES, LEVEL_COVARIANCES
from glmm_bayes.data import (
    Frame,
    Rows,
    column_names,
    complete_columns,
    read_columns,
    usable_rows,
)
from glmm_bayes.encoding import Context, Expression, Matrix, columns_of
from glmm_bayes.errors import DataError, FormulaError, NotSupportedError, UnknownNameError
from glmm_bayes.formula import (
    STRUCTURE_NAMES,
    Formula,
    PredictorPart,
    RandomPart,
    check_unseen,
)
from glmm_bayes.monotonic import MonotonicTerm, monotonic_terms
from glmm_bayes.registry import suggestion
from glmm_bayes.residual import Residuals, learn_residual
from glmm_bayes.response import (
    Response,
    completed,
    in_subset,
    read_response,
    response_texts,
)
from glmm_bayes.smooths import SMOOTHS, Smooth, learn_smooths, smooth_groups, smooth_texts
from glmm_bayes.terms import RandomTerm, encode_term, learn_terms
from glmm_bayes.unseen import (
    Measured,
    Missing,
    Product,
    Unseen,
    unseen_columns,
    with_standing,
)
from glmm_bayes.unseen_reading import learn_imputed, learn_measured

INTERCEPT = "Intercept"
SPECIFIC = "cs"  # the call around terms whose effects differ between categories


@dataclass(frozen=True, eq=False)
class Predictor:
    """
    The fixed part of one distribution parameter's linear predictor.

    `X` `(n, k)` with the columns `names`, `offset` `(n,)`; the random terms are in the design,
    since one term may load on several parameters. `part` is what the formula says of it. Of the
    columns that unseen predictors are in, `products`, X has what the data say in their place.
    """

    param: str
    X: np.ndarray
    offset: np.ndarray
    matrix: Matrix
    offsets: tuple[Expression, ...]
    part: PredictorPart
    products: tuple[Product, ...] = ()

    def take(self, rows: slice | np.ndarray) -> "Predictor":
        """Keep some of the rows, by position."""
        products = tuple(product.take(rows) for product in self.products)
        return replace(self, X=self.X[rows], offset=self.offset[rows], products=products)

    @property
    def shown(self) -> str:
        """The parameter that results name its coefficients with: thresholds belong to mu."""
        return self.param if self.part.step is None else "mu"

    @property
    def prefix(self) -> str:
        """What stands before the names of its coefficients, where those of mu are listed too."""
        return "" if self.shown == "mu" else f"{self.param}:"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the k coefficients."""
        return self.matrix.names

    @cached_property
    def monotonic(self) -> list[MonotonicTerm]:
        """The monotonic effects among the columns."""
        return monotonic_terms(self.names, self.matrix.spec)

    @property
    def monotonic_columns(self) -> set[int]:
        """Where their columns stand."""
        return {int(k) for term in self.monotonic for k in term.columns}


@dataclass(frozen=True, eq=False)
class Design:
    """
    The matrices of a model.

    `predictors` has one entry a distribution parameter with a formula, "mu" first; `rows` says
    which rows of the data these are.
    """

    response: Response
    predictors: Mapping[str, Predictor]
    terms: tuple[RandomTerm, ...]
    rows: Rows
    formula: Formula
    context: Context
    residual: Residuals | None = None
    smooths: tuple[Smooth, ...] = ()
    measured: tuple[Measured, ...] = ()
    imputed: tuple[Missing, ...] = ()

    @property
    def unseen(self) -> tuple[Unseen, ...]:
        """All that has values which are not in the data as they are."""
        return (*self.measured, *self.imputed)

    @property
    def unknown(self) -> tuple[Unseen, ...]:
        """Those of them that have unknown values, which are parameters."""
        return tuple(source for source in self.unseen if len(source.levels))

    @property
    def has_unknowns(self) -> bool:
        """Whether values of predictors or responses are parameters."""
        return bool(self.unknown)

    @property
    def n(self) -> int:
        """The number of rows."""
        return len(self.rows.frame)

    @property
    def y(self) -> np.ndarray:
        """The response `(n,)`."""
        return self.response.y

    def with_response(self, response: Response) -> "Design":
        """Put another response in place of this one."""
        return replace(self, response=response)

    def take(self, rows: slice | np.ndarray) -> "Design":
        """Keep some of the rows, by position."""
        return replace(
            self,
            response=self.response.take(rows),
            predictors={name: p.take(rows) for name, p in self.predictors.items()},
            terms=tuple(term.take(rows) for term in self.terms),
            rows=replace(self.rows, frame=self.rows.frame.iloc[rows], kept=self.rows.kept[rows]),
            measured=tuple(source.take(rows) for source in self.measured),
            imputed=tuple(source.take(rows) for source in self.imputed),
        )

    def as_true(self) -> "Design":
        """Take what was measured with an error for the true values."""
        return replace(self, measured=tuple(source.as_true() for source in self.measured))

    def effects_matrix(self, param: str) -> Any:
        """Put the terms' `Z` side by side: sparse `(n, total effects)`, or None without any."""
        from scipy.sparse import hstack

        if not any(g.param == param for term in self.terms for g in term.loadings):
            return None
        return hstack([term.Z(param) for term in self.terms], format="csr")

    @property
    def predictor_columns(self) -> tuple[str, ...]:
        """The columns that predictions need: every used one but the response's."""
        texts = [t for part in self.formula.predictors.values() for t in _texts_of(part)]
        return columns_of(texts, list(self.rows.frame.columns), self.context)

    def encode(self, data: Frame) -> "Design":
        """
        Encode new data as the first were: same columns, new levels of groups put last.

        The response is not read: it is unknown, NaN. A predictor `mi(x)` has to be there.

        Raises
        ------
        DataError
            If values are missing, or a factor of the fixed part has a level not seen before.
        """
        frame = complete_columns(data, list(self.predictor_columns), where="the new data")
        measured = tuple(source.encode(frame, self.context) for source in self.measured)
        imputed = tuple(source.encode(frame, self.context) for source in self.imputed)
        unseen = (*measured, *imputed)
        return replace(
            self,
            response=Response.unknown(self.formula.response, len(frame)),
            predictors={
                k: _encode_predictor(p, frame, self.context, unseen)
                for k, p in self.predictors.items()
            },
            terms=tuple(encode_term(t, frame, self.context) for t in self.terms),
            rows=Rows(frame, np.arange(len(frame)), len(frame), {}, {}),
            measured=measured,
            imputed=imputed,
        )


def read_data(
    formula: Formula,
    data: Frame,
    *,
    context: Context,
    missing: Literal["drop", "raise"] = "drop",
) -> tuple[Rows, Response]:
    """
    Take the columns that a formula names, and its response.

    Raises
    ------
    DataError, UnknownNameError
        If the data do not fit the formula.
    NotSupportedError
        If the formula has a part that is not built yet.
    """
    refuse_unbuilt(formula)
    texts = [*response_texts(formula.response), *formula_texts(formula)]
    names = columns_of(texts, column_names(data), context)
    where = " and ".join(repr(t) for t in formula.texts)
    frame = completed(formula.response, read_columns(data, names, where=where))
    rows = usable_rows(frame.loc[in_subset(formula.response, frame, context)], missing)
    return rows, read_response(formula.response, rows.frame, context)


def build_design(
    formula: Formula,
    rows: Rows,
    response: Response,
    *,
    context: Context,
) -> Design:
    """
    Encode the columns of the data that a formula names.

    Raises
    ------
    DataError, UnknownNameError
        If the data do not fit the formula.
    NotSupportedError
        If effects are category-specific where they cannot be.
    """
    _refuse_specific(formula)
    terms = tuple(learn_terms(formula, rows, context))
    smooths = learn_smooths(formula, rows, context, [term.name for term in terms])
    measured = learn_measured(formula, rows.frame, context)
    imputed = learn_imputed(formula, rows, response, context)
    unseen = (*measured, *imputed)
    predictors = {
        param: _with_smooths(
            _learn_predictor(param, part, _own(formula, param), rows.frame, context, unseen),
            [smooth for smooth in smooths if smooth.param == param],
        )
        for param, part in formula.predictors.items()
    }
    terms += tuple(term for smooth in smooths for term in smooth.terms)
    given = formula.residual
    residual = None if given is None else learn_residual(given, rows, context)
    return Design(
        response, predictors, terms, rows, formula, context, residual, smooths, measured, imputed
    )


# ---- what a formula names


def formula_texts(formula: Formula) -> list[str]:
    """List the expressions of the right sides."""
    texts = [text for part in formula.sides for text in _texts_of(part)]
    return texts if formula.residual is None else [*texts, *_texts_of_term(formula.residual)]


def _texts_of(part: PredictorPart) -> list[str]:
    texts = [part.fixed, *part.offsets]
    for term in part.random:
        texts += _texts_of_term(term)
    plain = [special for special in part.special if special.name not in SMOOTHS]
    texts += [text for special in plain for text in special.arguments]
    return [*texts, *smooth_texts(part), *smooth_groups(part)]


def _texts_of_term(term: RandomPart) -> list[str]:
    return [term.columns, *term.group.factors, *term.group.weights]


def refuse_unbuilt(formula: Formula) -> None:
    """Refuse what a formula says that is not built, in its own words."""
    check_unseen(formula)
    if formula.residual is not None:
        _check_structure(formula.residual)
    for part in formula.sides:
        for special in part.special:
            if special.name == SPECIFIC or special.name in SMOOTHS:
                continue
            raise NotSupportedError(
                f"{special.text!r} is not built yet; smooth curves are s(x), surfaces s(x, z) or "
                f"t2(x, z)."
            )
        for term in part.random:
            _check_structure(term)
            if not term.group.factors and not _has_positions(term):
                raise FormulaError(
                    f"{term.text!r} has no group: `| 1` needs a structure along time or in space, "
                    f"such as ar1(time | 1)."
                )


def _refuse_specific(formula: Formula) -> None:
    for param, part in formula.predictors.items():
        for special in (s for s in part.special if s.name not in SMOOTHS):
            raise NotSupportedError(
                f"Effects that are specific to a category, as {special.text!r} of {param}, need "
                f"the mean of family='sratio', 'cratio' or 'acat'; leave the cs( ) out."
            )


def _own(formula: Formula, param: str) -> str:
    """Give the expression of the response that a parameter is of."""
    return formula.responses.get(param, formula.response.expression)


# ---- learning from the first data


def _check_structure(term: RandomPart) -> None:
    built = [name for name in {**COVARIANCES, **LEVEL_COVARIANCES} if name != "iid"]
    if term.structure not in STRUCTURE_NAMES and term.structure not in built:
        raise UnknownNameError(
            f"{term.text!r} has a bar, but there is no structure {term.structure!r} (a logical or "
            f"is np.logical_or). {suggestion(term.structure, built)}"
        )
    if term.structure not in built:
        raise NotSupportedError(
            f"The structure of {term.text!r} is not built yet; of structures there are "
            f"{', '.join(built)}."
        )


def _has_positions(term: RandomPart) -> bool:
    return term.structure in LEVEL_COVARIANCES and LEVEL_COVARIANCES[term.structure].positioned


def _learn_predictor(
    param: str,
    part: PredictorPart,
    response: str,
    frame: pd.DataFrame,
    context: Context,
    unseen: Sequence[Unseen],
) -> Predictor:
    matrix, X = Matrix.learn(part.fixed, frame, context)
    matrix, X = _turned(part, matrix, X)
    if response in matrix.names:
        raise DataError(
            f"The response {response!r} stands among the predictors of {param} too, "
            f"in {part.fixed!r}; leave it out there."
        )
    offsets = tuple(Expression(text) for text in part.offsets)
    products = unseen_columns(matrix, X)
    X = with_standing(X, products, unseen)
    offset = _offset(offsets, frame, context)
    return Predictor(param, X, offset, matrix, offsets, part, products)


def _with_smooths(predictor: Predictor, smooths: Sequence[Smooth]) -> Predictor:
    """Put the smooths' columns without a penalty behind a predictor's own."""
    matrix = predictor.matrix.beside([smooth.fixed for smooth in smooths])
    X = np.column_stack([predictor.X, *(smooth.X for smooth in smooths)])
    return replace(predictor, X=X, matrix=matrix)


def _turned(part: PredictorPart, matrix: Matrix, X: np.ndarray) -> tuple[Matrix, np.ndarray]:
    """Leave the intercept out, or make a threshold's columns, as the formula's part says."""
    if part.intercept and part.step is None:
        return matrix, X
    names = np.array(matrix.names, dtype=object)
    constant = names == INTERCEPT
    if not constant.any():
        raise FormulaError(
            f"The thresholds between the categories are the intercepts: leave the 0 out of "
            f"{part.fixed!r}."
        )
    if part.step is None:
        into = np.eye(len(names))[:, ~constant]
        return matrix.mapped(into, names[~constant]), X @ into
    into = np.diag(np.where(constant, 1.0, -1.0))
    return matrix.mapped(into, [f"{name}[{part.step}]" for name in names]), X @ into


# ---- encoding new data


def _offset(offsets: Sequence[Expression], frame: pd.DataFrame, context: Context) -> np.ndarray:
    return sum((e.numbers(frame, context, "offset") for e in offsets), np.zeros(len(frame)))


def _encode_predictor(
    predictor: Predictor, frame: pd.DataFrame, context: Context, unseen: Sequence[Unseen]
) -> Predictor:
    X = predictor.matrix.encode(frame, context)
    products = unseen_columns(predictor.matrix, X)
    X = with_standing(X, products, unseen)
    offset = _offset(predictor.offsets, frame, context)
    return replace(predictor, X=X, offset=offset, products=products)
