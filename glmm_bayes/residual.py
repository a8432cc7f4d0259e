"""The structure of the residuals: which rows vary together beside the random effects."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from glmm_bayes.covariance import COVARIANCES, LEVEL_COVARIANCES, LevelCovariance, Places
from glmm_bayes.covariance.repeated import Repeated, column_of
from glmm_bayes.data import Rows
from glmm_bayes.encoding import Context, Matrix
from glmm_bayes.errors import DataError, NotSupportedError
from glmm_bayes.formula import RandomPart
from glmm_bayes.ordered import learn_ordered
from glmm_bayes.places import Addressing, are_positions, read_arguments


@dataclass(frozen=True, eq=False)
class Cells:
    """
    Where rows are that are the columns of groups, as in `us(0 + visit | id)`.

    `groups` are those known, in the order of their processes' numbers.
    """

    addressing: Addressing
    matrix: Matrix
    groups: tuple[str, ...]

    def addressed(
        self, frame: pd.DataFrame, context: Context
    ) -> tuple["Cells", Places, np.ndarray]:
        """Find the places that rows have: see `Addressing.addressed`."""
        return self.placed(self.matrix.encode(frame, context), frame, context)

    def placed(
        self, Z: np.ndarray, frame: pd.DataFrame, context: Context
    ) -> tuple["Cells", Places, np.ndarray]:
        """
        Find them where the columns `(n, p)` are encoded.

        Raises
        ------
        DataError
            If a row has no single level of the factor.
        """
        addressing, groups, index = self.addressing.addressed(frame, context)
        column, text, names = column_of(Z), addressing.text, self.matrix.names
        if column is None:
            raise DataError(
                f"The residuals of {text!r} need the levels of a factor before the bar, as in "
                f"us(0 + visit | {addressing.label}), not {', '.join(names)}."
            )
        known = tuple(dict.fromkeys((*self.groups, *groups.names)))
        number = {name: k for k, name in enumerate(known)}
        process = np.array([number[name] for name in groups.names], dtype=np.intp)[index[:, 0]]
        both = np.column_stack([process, column])
        found, rows = np.unique(both, axis=0, return_inverse=True)
        labels = tuple(f"{known[g]}:{names[c]}" for g, c in found)
        none = np.empty((len(found), 0), dtype=object)
        places = Places(labels, found[:, 0], found[:, 1:].astype(float), text, (), none)
        return replace(self, groups=known), places, rows.reshape(-1, 1)


@dataclass(frozen=True, eq=False)
class Residuals:
    """
    How the residuals of rows vary together, of unit variance: `level_structure`, on its nodes.

    `node` `(n,)` is the node of every row; of the rows fitted each has its own.
    """

    level_structure: LevelCovariance
    node: np.ndarray
    text: str
    kind: str  # the structure's name in the formula
    addressing: Addressing | Cells

    name: ClassVar[str] = "residual"
    label: ClassVar[str] = "Residual"

    @property
    def columns(self) -> tuple[str, ...]:
        """None: there is one residual a row."""
        return ()

    @property
    def levels(self) -> tuple[str, ...]:
        """The nodes."""
        return self.level_structure.nodes

    @property
    def structures(self) -> tuple[tuple[Any, int], tuple[LevelCovariance, int]]:
        """As those of a random term, of which there is only that between levels."""
        return (None, 0), (self.level_structure, len(self.node))

    @property
    def pairs(self) -> np.ndarray:
        """Between which rows, one at each node, the precision has entries: `(k, 2)`."""
        pairs, row = self.level_structure.pairs, np.argsort(self.node)
        assert pairs is not None
        return np.sort(row[pairs], axis=1)[:, ::-1]

    @property
    def rank(self) -> np.ndarray:
        """The order `(n,)` in which rows that vary together stand, along time if there is one."""
        return self.node

    def theta(self, named: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Take the structure's own parameters out, by their names in it."""
        own = self.level_structure.parameters(len(self.node))
        return {p.name: np.atleast_1d(named[f"{p.name}_{self.name}"]) for p in own}

    def encoded(self, frame: pd.DataFrame, context: Context) -> "Residuals":
        """Put new rows beside those that were fitted: their nodes, new ones last."""
        addressing, places, index = self.addressing.addressed(frame, context)
        structure = self.level_structure.extended(places)
        node = structure.located(places)[0][index[:, 0], 0]
        return replace(self, addressing=addressing, level_structure=structure, node=node)


def learn_residual(part: RandomPart, rows: Rows, context: Context) -> Residuals:
    """
    Make the structure of the residuals.

    Along time and in space the rows are its nodes; with a factor before the bar, as in
    `us(0 + visit | id)`, the rows of a group are its columns.

    Raises
    ------
    DataError
        If two rows are at the same place, or a row has no single level of the factor.
    """
    name, frame = part.structure, rows.frame
    along = name in LEVEL_COVARIANCES and (
        not LEVEL_COVARIANCES[name].positioned or are_positions(part, frame, context)
    )
    kind = LEVEL_COVARIANCES[name] if along else LEVEL_COVARIANCES["iid"]
    addressing = Addressing.of(part, positioned=kind.positioned)
    if not along:
        return _repeated(part, rows, addressing, context)
    known, places, index = addressing.addressed(frame, context)
    _refuse_twice(places, index, part)
    structure = kind.of(places, read_arguments(part, kind, context))
    if len(structure.nodes) != len(frame):
        raise DataError(
            f"Every node of {part.text!r} should be a row, but it has "
            f"{len(structure.nodes)} for {len(frame)} rows: use it as a random term."
        )
    node = structure.located(places)[0][index[:, 0], 0]
    return Residuals(structure, node, part.text, name, known)


def _refuse_twice(places: Places, index: np.ndarray, part: RandomPart) -> None:
    twice = np.flatnonzero(np.bincount(index[:, 0]) > 1)
    if len(twice):
        raise DataError(
            f"Several rows are at {places.names[twice[0]]!r} in {part.text!r}: the residuals of "
            f"rows at one place cannot be told apart; as a random term, {part.text} can have them."
        )


def refuse_residual(residual: Residuals | None, what: str) -> None:
    """Raise NotSupportedError where `what` cannot be had with a structure of residuals."""
    if residual is not None:
        raise NotSupportedError(
            f"With 'residual ~ {residual.text}', {what} is not built. Written in the first "
            f"formula, as a random term, {residual.text} has it."
        )


def _repeated(part: RandomPart, rows: Rows, addressing: Addressing, context: Context) -> Residuals:
    columns = COVARIANCES[part.structure].of(part.arguments, part.text)
    if columns.ordered:
        matrix, Z = learn_ordered(columns, part, rows, context)
    else:
        matrix, Z = Matrix.learn(part.columns, rows.frame, context)
    known, places, index = Cells(addressing, matrix, ()).placed(Z, rows.frame, context)
    _refuse_twice(places, index, part)
    structure = Repeated(places, columns, matrix.names)
    return Residuals(structure, index[:, 0], part.text, part.structure, known)
