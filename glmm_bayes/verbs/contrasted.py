"""Compare estimates with one another: what a user names, states or weighs, as new estimates."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from glmm_bayes.errors import DataError, FormulaError, UnknownNameError
from glmm_bayes.registry import suggestion
from glmm_bayes.verbs.contrasts import CONTRASTS, pairwise, reversed_pairwise
from glmm_bayes.verbs.estimates import Quantities, Words
from glmm_bayes.verbs.hypothesis import read_statement
from glmm_bayes.verbs.intervals import IDENTITY, LOG

type Hypothesis = str | Sequence[str] | Mapping[str, Sequence[float]] | np.ndarray | pd.DataFrame
# A name, weights `(k,)`, and a number to add.
type Weighted = tuple[str, np.ndarray, float]

CONTRAST = "contrast"
ZERO = 1e-9


def contrasted(
    quantities: Quantities, method: Hypothesis, by: str | Sequence[str] | None = None
) -> Quantities:
    """Make new quantities of old ones: see `Estimates.contrast`."""
    q = quantities if by is None else _within(quantities, [by] if isinstance(by, str) else by)
    sign = "/" if q.ratios is LOG else "-"
    found: list[tuple[int, Weighted]] = []
    compared: list[int] = []
    for at in q.families:
        made = _weighted(method, row_labels(q, at), sign)
        found += [(at[0], (name, _spread(w, at, len(q.labels)), plus)) for name, w, plus in made]
        compared += [len(at) if _all_pairs(method) else 0] * len(made)
    return _summed(q, found, compared)


def _within(quantities: Quantities, by: Sequence[str]) -> Quantities:
    for name in by:
        if name not in quantities.labels:
            raise UnknownNameError(
                f"by={name!r} is no column of the estimates. "
                f"{suggestion(name, map(str, quantities.labels))}"
            )
    return replace(quantities, within=tuple(by))


def _all_pairs(method: Hypothesis) -> bool:
    if not isinstance(method, str) or method not in CONTRASTS:
        return False
    return any(CONTRASTS[method] is maker for maker in (pairwise, reversed_pairwise))


def _spread(weights: np.ndarray, at: np.ndarray, k: int) -> np.ndarray:
    whole = np.zeros(k)
    whole[at] = weights
    return whole


def _summed(
    q: Quantities, found: Sequence[tuple[int, Weighted]], compared: Sequence[int]
) -> Quantities:
    weights = np.array([w for _, (_, w, _) in found])
    plus = np.array([number for _, (_, _, number) in found])
    balanced = np.all(np.abs(weights.sum(axis=1)) < ZERO)
    shown = q.ratios if balanced else IDENTITY
    if plus.any() and q.shown is not IDENTITY:
        raise FormulaError(
            "Statements about estimates that are shown by the inverse of a link can only have 0 on "
            "one side; ask with type='link'."
        )
    labels = q.labels.iloc[[row for row, _ in found]][list(q.within)].reset_index(drop=True)
    values = q.summed @ weights.T + plus
    return Quantities(
        q.fit,
        labels.assign(**{CONTRAST: [name for _, (name, _, _) in found]}),
        values,
        q.within,
        shown,
        values,
        q.ratios if balanced else IDENTITY,
        None if q.slopes is None else weights @ q.slopes,
        np.array(compared, dtype=int),
        Words.plain(q.words.difference if balanced else f"weighted sum of {q.words.summed}"),
    )


# ---- what is asked for, as weights


def _weighted(method: Hypothesis, labels: Sequence[str], sign: str) -> list[Weighted]:
    if isinstance(method, str):
        if "=" in method or "<" in method or ">" in method:
            return [_stated(method, labels)]
        return [(name, w, 0.0) for name, w in CONTRASTS[method](labels, sign)]
    if isinstance(method, pd.DataFrame):
        method = dict(zip(map(str, method.index), method.to_numpy(dtype=float), strict=True))
    if isinstance(method, Mapping):
        return [(str(name), _row(w, labels, name), 0.0) for name, w in method.items()]
    rows: list[Any] = list(method)
    if rows and all(isinstance(row, str) for row in rows):
        return [part for row in rows for part in _weighted(row, labels, sign)]
    matrix = np.atleast_2d(np.asarray(rows, dtype=float))
    names = [f"contrast {j + 1}" for j in range(len(matrix))]
    pairs = zip(names, matrix, strict=True)
    return [(name, _row(w, labels, name), 0.0) for name, w in pairs]


def _row(weights: Any, labels: Sequence[str], name: str) -> np.ndarray:
    found = np.asarray(weights, dtype=float)
    if found.shape != (len(labels),):
        raise DataError(
            f"The contrast {name!r} has {found.size} weights for {len(labels)} estimates: "
            f"{', '.join(labels)}."
        )
    return found


def _stated(statement: str, labels: Sequence[str]) -> Weighted:
    numbers = [f"b{j + 1}" for j in range(len(labels))]
    own = [label for label in labels if labels.count(label) == 1 and label not in numbers]
    sign, linear = read_statement(statement, [*numbers, *own], "estimate")
    if sign != "=":
        raise FormulaError(
            f"The hypothesis {statement!r} must have =, as in 'b1 - b2 = 0'; its estimate and "
            f"interval say on which side it lies."
        )
    weights = np.zeros(len(labels))
    for name, weight in linear.weights.items():
        weights[numbers.index(name) if name in numbers else labels.index(name)] += weight
    return statement, weights, linear.constant


def row_labels(q: Quantities, at: np.ndarray) -> list[str]:
    """Name a family's rows by their labels; what looks like a number has its column's name too."""
    columns = [c for c in q.labels if c not in q.within]
    if len(columns) > 1:
        # What is the same in all rows tells none apart.
        columns = [c for c in columns if q.labels[c].iloc[at].nunique() > 1] or columns[:1]
    if not columns:
        return [str(j + 1) for j in range(len(at))]
    rows = q.labels[columns].iloc[at].itertuples(index=False)
    return [" ".join(map(_named, columns, row)) for row in rows]


def _named(column: Any, value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if text[:1].isalpha() or column == CONTRAST else f"{column}{text}"
