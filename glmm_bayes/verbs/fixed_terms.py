"""The terms of the mean's fixed part: which columns each has, and the hypotheses about it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from glmm_bayes.design import Predictor
from glmm_bayes.encoding import Matrix
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.model import Model

ROUNDING = 1e-8  # of a column's length
TERMS = ("terms are tested", "fit the model without the term, and compare: anova(other)")


@dataclass(frozen=True, eq=False)
class FixedTerm:
    """
    A term such as `a:x`: its factors `("a", "x")`, and where its columns stand in X.

    Attributes
    ----------
    classes, numbers
        Its factors that are categorical, and the others.
    pieces
        What its columns are products of: by product, the factors, and whether one class of them
        has no column.
    """

    name: str
    columns: np.ndarray
    classes: frozenset[str]
    numbers: frozenset[str]
    pieces: tuple[tuple[tuple[str, bool], ...], ...]

    def holds(self, other: "FixedTerm") -> bool:
        """Tell whether this term is an interaction of another with further classes."""
        return self.numbers == other.numbers and self.classes > other.classes


def mean_predictor(model: Model, what: str, instead: str) -> Predictor:
    """
    Give the one predictor of the mean, which `what` is about.

    Raises
    ------
    NotSupportedError
        If there are several, one a category or a response.
    """
    found = model.design.predictors.get("mu")
    if found is None:
        names = ", ".join(model.design.predictors)
        raise NotSupportedError(
            f"Family {model.family.name!r} has several predictors, {names}, and {what} of one; "
            f"{instead}."
        )
    return found


def fixed_terms(predictor: Predictor) -> list[FixedTerm]:
    """List the terms of a predictor, an intercept among them as `1`, unless thresholds are one."""
    spec = predictor.matrix.spec
    kept = [k for k, name in enumerate(spec.column_names) if name in predictor.names]
    place = {k: i for i, k in enumerate(kept)}
    coded = {str(f) for f in spec.factor_contrasts}
    found = []
    for part, at in zip(spec.structure, spec.term_slices.values(), strict=True):
        factors = frozenset(str(f) for f in part.term.factors) - {"1"}
        own = range(len(spec.column_names))[at]
        if not set(own) <= set(kept):
            continue
        columns = np.array([place[k] for k in own], dtype=int)
        pieces = tuple(
            tuple((str(f.factor.expr), bool(f.reduced)) for f in piece.factors)
            for piece in part.scoped_terms
        )
        name, numbers = str(part.term), factors - coded
        found.append(FixedTerm(name, columns, factors & coded, numbers, pieces))
    return found


def _smooth_columns(predictor: Predictor) -> np.ndarray:
    """Say where the columns stand that are no term's, but the smooths'."""
    kept = [name for name in predictor.matrix.spec.column_names if name in predictor.names]
    return np.arange(len(kept), len(predictor.names))


def marginal_hypothesis(model: Model, term: FixedTerm) -> np.ndarray:
    """
    Give the weights `(r, k)` of a term's type III hypothesis: no effect on average over classes.

    Each class has equal weight, and numbers stand at zero: the term's own coefficients where
    classes are coded to sum to zero.

    Raises
    ------
    NotSupportedError
        If the fixed part cannot be coded so.
    """
    predictor = mean_predictor(model, *TERMS)
    terms = fixed_terms(predictor)
    recoded = [_summing_to_zero(model, t) for t in terms]
    # Thresholds take the place of an intercept, which classes are coded beside.
    beside, smooth = _missing_constant(predictor.X), predictor.X[:, _smooth_columns(predictor)]
    own, X = np.column_stack([beside, predictor.X]), np.column_stack([beside, *recoded, smooth])
    turn, *_ = np.linalg.lstsq(own, X)
    miss = np.abs(own @ turn - X).max(initial=0.0)
    square = turn.shape[0] == turn.shape[1] and np.linalg.matrix_rank(turn) == len(turn)
    if miss > ROUNDING * max(np.abs(X).max(initial=0.0), 1.0) or not square:
        raise NotSupportedError(
            f"The fixed part {predictor.matrix.text!r} has no columns whose classes sum to zero, "
            f"as with empty cells; use type=2."
        )
    skipped = beside.shape[1]
    ends = np.cumsum([skipped, *(part.shape[1] for part in recoded)])
    number = next(i for i, t in enumerate(terms) if t.name == term.name)
    return np.linalg.inv(turn)[ends[number] : ends[number + 1], skipped:]


def _missing_constant(X: np.ndarray) -> np.ndarray:
    """Give a column of ones `(n, 1)` where the columns do not have one among them: else none."""
    ones = np.ones((len(X), 1))
    rest = ones - X @ np.linalg.lstsq(X, ones)[0]
    return ones if np.linalg.norm(rest) > ROUNDING * np.linalg.norm(ones) else ones[:, :0]


def _summing_to_zero(model: Model, term: FixedTerm) -> np.ndarray:
    """
    Give a term's columns, whose coefficients sum to zero over each factor's classes.

    A coefficient is then a class's difference from the first, averaged over other factors:
    Satterthwaite's degrees of freedom of several depend on which span their hypothesis. A factor
    whose every class has a column of its own, as without an intercept, keeps them.
    """
    parts = []
    for factors in term.pieces:
        found = np.ones((model.nobs, 1))
        for factor, reduced in factors:
            # Without an intercept, every class has an indicator.
            _, own = Matrix.learn(f"0 + {factor}", model.design.rows.frame, model.context)
            if reduced:
                own = own[:, 1:] - 1 / own.shape[1]
            found = (found[:, :, None] * own[:, None, :]).reshape(model.nobs, -1)
        parts.append(found)
    return np.column_stack(parts)


def adjusted_hypothesis(model: Model, term: FixedTerm) -> np.ndarray:
    """
    Give the weights `(r, k)` of a term's type II hypothesis: beside all that do not hold it.

    What of the term's columns the other terms leave is projected on, in the rows as they are.
    """
    predictor = mean_predictor(model, *TERMS)
    terms = fixed_terms(predictor)
    above = [t for t in terms if t.holds(term)]
    if not above:
        return np.eye(len(predictor.names))[term.columns]
    others = [t for t in terms if t.name != term.name and not t.holds(term)]
    order = [*others, term, *above]
    smooth = _smooth_columns(predictor)
    at = np.concatenate([smooth, *(t.columns for t in order)])
    R = np.linalg.qr(predictor.X[:, at], mode="r")
    before = len(smooth) + sum(len(t.columns) for t in others)
    found = np.zeros((len(term.columns), len(at)))
    rows = R[before : before + len(term.columns)]
    found[:, at] = rows / np.diag(rows[:, before:])[:, None]
    return found


def difference_of(model: Model, smaller: Model) -> np.ndarray:
    """Give the weights `(r, k)` that are zero where a model is the smaller: `(0, k)` if nowhere."""
    X, X0 = (mean_predictor(m, *TERMS).X for m in (model, smaller))
    basis, sizes, _ = np.linalg.svd(X0, full_matrices=False)
    basis = basis[:, sizes > ROUNDING * sizes.max(initial=0.0)]
    rest = X - basis @ (basis.T @ X)
    scale = np.linalg.norm(X, axis=0)
    own, left, _ = np.linalg.svd(rest / scale, full_matrices=False)
    return own[:, left > ROUNDING].T @ X


HYPOTHESES: Mapping[int, Callable[[Model, FixedTerm], np.ndarray]] = {
    2: adjusted_hypothesis,
    3: marginal_hypothesis,
}
