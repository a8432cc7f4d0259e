"""The random terms of a formula with data: whose effect each row has, and times what."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from glmm_bayes.covariance import COVARIANCES, Covariance
from glmm_bayes.data import Rows, labels
from glmm_bayes.encoding import Context, Expression, Matrix
from glmm_bayes.errors import DataError, FormulaError
from glmm_bayes.formula import Formula, Group, RandomPart
from glmm_bayes.ordered import learn_ordered


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
    factors: tuple[Expression, ...]
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

    def take(self, rows: slice | np.ndarray) -> "RandomTerm":
        """Keep some of the rows, by position."""
        return replace(
            self,
            index=self.index[rows],
            weights=self.weights[rows],
            loadings=tuple(replace(g, Z=g.Z[rows]) for g in self.loadings),
        )

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


def learn_terms(formula: Formula, rows: Rows, context: Context) -> Iterator[RandomTerm]:
    """Encode the random terms; those of one `|id|` become one, on several parameters."""
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
        yield _learn_term(name, joint, rows, context)


def _learn_term(
    name: str, joint: list[tuple[str, RandomPart]], rows: Rows, context: Context
) -> RandomTerm:
    first, frame = joint[0][1], rows.frame
    structure = _structure(joint)
    loadings: list[Loading] = []
    columns: list[str] = []
    for param, part in joint:
        if structure.ordered:
            matrix, Z = learn_ordered(structure, part, rows, context)
        else:
            matrix, Z = Matrix.learn(part.columns, frame, context)
        if not matrix.names:
            raise DataError(
                f"The random term {part.text!r} has no columns; write (1 | …) or (x | …)."
            )
        prefix = "" if param == joint[0][0] else f"{param}_"
        at = slice(len(columns), len(columns) + len(matrix.names))
        columns += [prefix + c for c in matrix.names]
        loadings.append(Loading(param, Z, at, matrix))
    problem = structure.problem(len(columns))
    if problem:
        raise DataError(f"The random term {first.text!r} {problem}.")
    factors = tuple(Expression(text) for text in first.group.factors)
    index, levels = _levels(first.group, factors, frame, context)
    return RandomTerm(
        name=name,
        group=first.group,
        factors=factors,
        text=first.text,
        columns=tuple(columns),
        levels=levels,
        index=index,
        weights=_weights(first.group, frame, context),
        loadings=tuple(loadings),
        structure=structure,
        level_structure=COVARIANCES["iid"](),
    )


def _structure(joint: Sequence[tuple[str, RandomPart]]) -> Covariance:
    first = joint[0][1]
    name = "diag" if first.independent and first.structure == "us" else first.structure
    found = [COVARIANCES[name].of(part.arguments, part.text) for _, part in joint]
    if any(dict(part.arguments) != dict(first.arguments) for _, part in joint):
        raise FormulaError(
            f"Terms that share a covariance, as {first.text!r} and {joint[1][1].text!r}, need the "
            f"same arguments."
        )
    if len(joint) > 1 and found[0].ordered:
        raise FormulaError(
            f"{first.text!r} stands in one order, which {joint[1][1].text!r} cannot share: leave "
            f"the id {first.id!r} out."
        )
    return found[0]


def _levels(
    group: Group, factors: Sequence[Expression], frame: pd.DataFrame, context: Context
) -> tuple[np.ndarray, tuple[str, ...]]:
    columns = [factor.evaluate(frame, context) for factor in factors]
    if group.membership:
        values = [[x[1][c] for c in x[0]] for x in map(labels, columns)]
        known = dict.fromkeys(level for column in map(labels, columns) for level in column[1])
        place = {level: k for k, level in enumerate(known)}
        return np.array([[place[v] for v in column] for column in values]).T, tuple(known)
    codes, names = zip(*map(labels, columns), strict=True)
    combined = np.zeros(len(frame), dtype=np.intp)
    for code, level in zip(codes, names, strict=True):
        combined = combined * len(level) + code
    present, index = _present(combined, math.prod(map(len, names)))
    parts = np.unravel_index(present, [len(level) for level in names])
    texts = tuple(
        ":".join(names[j][part[k]] for j, part in enumerate(parts)) for k in range(len(present))
    )
    return index.reshape(-1, 1), texts


def _present(codes: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Give the codes below `most` that there are, ascending, and where among them each stands."""
    if most > 10 * len(codes):
        return np.unique(codes, return_inverse=True)
    there = np.bincount(codes, minlength=most) > 0
    return np.flatnonzero(there), (np.cumsum(there) - 1)[codes]


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


def encode_term(term: RandomTerm, frame: pd.DataFrame, context: Context) -> RandomTerm:
    """Encode one term on new data; levels not seen before are put last."""
    index, levels = _levels(term.group, term.factors, frame, context)
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
