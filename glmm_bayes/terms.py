"""The random terms of a formula with data: whose effect each row has, and times what."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from glmm_bayes.covariance import (
    COVARIANCES,
    LEVEL_COVARIANCES,
    Covariance,
    LevelCovariance,
    Places,
    Structure,
)
from glmm_bayes.covariance.shaped import shaped_levels, taken_by
from glmm_bayes.data import Rows
from glmm_bayes.encoding import Columns, Context, Matrix
from glmm_bayes.errors import DataError, FormulaError
from glmm_bayes.formula import Formula, RandomPart
from glmm_bayes.ordered import learn_ordered
from glmm_bayes.places import Addressing, are_positions, read_arguments

DIST = "dist"  # the argument of a term whose effects are not normal


@dataclass(frozen=True, eq=False)
class Loading:
    """Columns `Z` `(n, c)` that a parameter's predictor has of a term's effects `b[:, columns]`."""

    param: str
    Z: np.ndarray
    columns: slice
    matrix: Columns


@dataclass(frozen=True, eq=False)
class RandomTerm:
    """
    One random term, ready for the linear predictors.

    With effects `b` `(q, p)`, the predictor of a loading's parameter gains
    `sum_j weights[:, j] * (Z * b[index[:, j], columns]).sum(axis=1)`; `index` `(n, m)` has
    m = 1 but for multi-membership, and for places between the nodes of a structure. `name`
    tells the term from others on the same group.
    """

    name: str
    addressing: Addressing
    text: str
    columns: tuple[str, ...]
    index: np.ndarray
    weights: np.ndarray
    loadings: tuple[Loading, ...]
    structure: Covariance
    level_structure: LevelCovariance

    @property
    def levels(self) -> tuple[str, ...]:
        """The names of the q levels, or of all nodes of their structure."""
        return self.level_structure.nodes

    @property
    def structures(self) -> tuple[tuple[Structure, int], ...]:
        """What its parameters are of, each with its size: columns and levels."""
        return (self.structure, self.size), (self.level_structure, len(self.levels))

    @property
    def shown(self) -> int:
        """How many levels, the first ones, tables have rows for."""
        return self.level_structure.shown

    @property
    def dim(self) -> str:
        """The dimension of levels in results: the group, unless nodes are more than its levels."""
        own = self.addressing.positions or self.level_structure.pairs is not None
        return f"{self.name}__level" if own else self.label

    @property
    def size(self) -> int:
        """The number p of columns."""
        return len(self.columns)

    @property
    def label(self) -> str:
        """The group as it is called in tables and dimensions."""
        return self.addressing.label

    @property
    def common(self) -> bool:
        """Whether its effects are the whole population's, as a curve's are, not those of groups."""
        return False

    def column_size(self, k: int) -> float:
        """Say how large a column is: 1 if it is constant or an indicator, else its deviation."""
        loading = next(g for g in self.loadings if g.columns.start <= k < g.columns.stop)
        z = loading.Z[:, k - loading.columns.start]
        indicator = np.isin(z, (0.0, 1.0)).all() or np.ptp(z) == 0
        return 1.0 if indicator else float(np.std(z))

    def param_of(self, k: int) -> str:
        """Name the parameter that a column loads on."""
        return next(g.param for g in self.loadings if g.columns.start <= k < g.columns.stop)

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
        kind = _kind(first, rows, context)
        addressing = Addressing.of(first, positioned=kind.positioned)
        name = base = prefix + addressing.label
        k = 2
        while name in taken:
            name, k = f"{base}_{k}", k + 1
        taken.add(name)
        yield _learn_term(name, joint, kind, addressing, rows, context)


def _kind(part: RandomPart, rows: Rows, context: Context) -> type[LevelCovariance]:
    """
    Tell how a term's levels vary together: independently, where its structure is of columns.

    A name that both kinds have is of levels where numbers stand before the bar, as times are.
    """
    if part.structure not in LEVEL_COVARIANCES:
        return LEVEL_COVARIANCES["iid"]
    kind = LEVEL_COVARIANCES[part.structure]
    if kind.positioned and not are_positions(part, rows.frame, context):
        if part.structure in COVARIANCES:
            return LEVEL_COVARIANCES["iid"]
        raise DataError(
            f"Before the bar of {part.text!r} there should be numbers, such as times or "
            f"coordinates, not {part.columns!r}."
        )
    return kind


def _learn_term(
    name: str,
    joint: list[tuple[str, RandomPart]],
    kind: type[LevelCovariance],
    addressing: Addressing,
    rows: Rows,
    context: Context,
) -> RandomTerm:
    first, frame = joint[0][1], rows.frame
    structure = _structure(joint, kind)
    loadings: list[Loading] = []
    columns: list[str] = []
    for param, part in joint:
        if structure.ordered:
            matrix, Z = learn_ordered(structure, part, rows, context)
        else:
            text = "1" if kind.positioned else part.columns
            matrix, Z = Matrix.learn(text, frame, context)
        if not matrix.names:
            raise DataError(
                f"The random term {part.text!r} has no columns; write (1 | …) or (x | …)."
            )
        prefix = "" if param == "mu" or len(joint) == 1 else f"{param}_"
        at = slice(len(columns), len(columns) + len(matrix.names))
        columns += [prefix + c for c in matrix.names]
        loadings.append(Loading(param, Z, at, matrix))
    problem = structure.problem(len(columns))
    if problem:
        raise DataError(f"The random term {first.text!r} {problem}.")
    addressing, places, index = addressing.addressed(frame, context)
    if kind.name == first.structure:
        level_structure = kind.of(places, read_arguments(first, kind, context))
    else:
        given = read_arguments(first, kind, context, among=taken_by(_dist(first)))
        level_structure = shaped_levels(_dist(first), places, structure.name, len(columns), given)
    _refuse_same_names(structure, level_structure, len(columns), first.text)
    return _placed(
        RandomTerm(
            name=name,
            addressing=addressing,
            text=first.text,
            columns=tuple(columns),
            index=index,
            weights=addressing.weights(frame, context),
            loadings=tuple(loadings),
            structure=structure,
            level_structure=level_structure,
        ),
        places,
    )


def _placed(term: RandomTerm, places: Places) -> RandomTerm:
    """Go from the levels of the rows to the nodes they are made of."""
    nodes, shares = term.level_structure.located(places)
    index = nodes[term.index].reshape(len(term.index), -1)
    weights = (term.weights[:, :, None] * shares[term.index]).reshape(index.shape)
    return replace(term, index=index, weights=weights)


def _refuse_same_names(
    structure: Covariance, level_structure: LevelCovariance, size: int, text: str
) -> None:
    own = {p.name for p in structure.parameters(size)}
    for p in level_structure.parameters(len(level_structure.nodes)):
        if p.name in own:
            raise FormulaError(
                f"The columns of {text!r} have a parameter {p.key!r}, and so have its levels: give "
                f"the columns another structure."
            )


def _structure(joint: Sequence[tuple[str, RandomPart]], kind: type[LevelCovariance]) -> Covariance:
    first = joint[0][1]
    if kind.name == first.structure:
        # What is between the levels leaves the columns as they are unless said otherwise.
        name = first.arguments.get("columns", "us").strip("'\"")
        found = [COVARIANCES[name].of({}, part.text) for _, part in joint]
    else:
        name = "diag" if first.independent and first.structure == "us" else first.structure
        found = [COVARIANCES[name].of(_of_columns(part), part.text) for _, part in joint]
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


def _dist(part: RandomPart) -> str:
    return part.arguments.get(DIST, "normal").strip("'\"")


def _of_columns(part: RandomPart) -> dict[str, str]:
    others = (DIST, *taken_by(_dist(part)))
    return {name: text for name, text in part.arguments.items() if name not in others}


def encode_term(term: RandomTerm, frame: pd.DataFrame, context: Context) -> RandomTerm:
    """Encode one term on new data; levels not seen before are put last."""
    addressing, places, index = term.addressing.addressed(frame, context)
    encoded = replace(
        term,
        addressing=addressing,
        index=index,
        weights=addressing.weights(frame, context),
        loadings=tuple(replace(g, Z=g.matrix.encode(frame, context)) for g in term.loadings),
        level_structure=term.level_structure.extended(places),
    )
    return _placed(encoded, places)
