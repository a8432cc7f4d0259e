"""The structure of the residuals: which rows vary together beside the random effects."""

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
class Residuals:
    """
    How the residuals of rows vary together, of unit variance: `level_structure`, on its nodes.

    `node` `(n,)` is the node of every row; each node is one row.
    """

    level_structure: LevelCovariance
    node: np.ndarray
    text: str
    kind: str  # the structure's name in the formula

    name: ClassVar[str] = "residual"
    label: ClassVar[str] = "Residual"

    @property
    def columns(self) -> tuple[str, ...]:
        """None: there is one residual a row."""
        return ()

    @property
    def structures(self) -> tuple[tuple[Any, int], tuple[LevelCovariance, int]]:
        """As those of a random term, of which there is only that between levels."""
        return (None, 0), (self.level_structure, len(self.node))


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
    _, places, index = addressing.addressed(frame, context)
    if not along:
        return _repeated(part, rows, places, index[:, 0], context)
    twice = np.flatnonzero(np.bincount(index[:, 0]) > 1)
    if len(twice):
        raise DataError(
            f"Several rows are at {places.names[twice[0]]!r} in {part.text!r}: the residuals of "
            f"rows at one place cannot be told apart; as a random term, {part.text} can have them."
        )
    structure = kind.of(places, read_arguments(part, kind, context))
    if len(structure.nodes) != len(frame):
        raise DataError(
            f"Every node of {part.text!r} should be a row, but it has "
            f"{len(structure.nodes)} for {len(frame)} rows: use it as a random term."
        )
    return Residuals(structure, structure.located(places)[0][index[:, 0], 0], part.text, name)


def refuse_residual(residual: Residuals | None, what: str) -> None:
    """Raise NotSupportedError where `what` cannot be had with a structure of residuals."""
    if residual is not None:
        raise NotSupportedError(
            f"With 'residual ~ {residual.text}', {what} is not built: fit('ml') and fit('reml') "
            f"are. Written in the first formula, as a random term, {residual.text} has it."
        )


def _repeated(
    part: RandomPart, rows: Rows, places: Places, group: np.ndarray, context: Context
) -> Residuals:
    columns = COVARIANCES[part.structure].of(part.arguments, part.text)
    if columns.ordered:
        matrix, Z = learn_ordered(columns, part, rows, context)
    else:
        matrix, Z = Matrix.learn(part.columns, rows.frame, context)
    column = column_of(Z)
    if column is None:
        raise DataError(
            f"The residuals of {part.text!r} need the levels of a factor before the bar, as in "
            f"{part.structure}(0 + visit | {part.group.label}), not {', '.join(matrix.names)}."
        )
    both = pd.MultiIndex.from_arrays([group, column])
    if both.has_duplicates:
        k = int(np.argmax(both.duplicated()))
        raise DataError(
            f"Two rows of {places.names[group[k]]!r} have the level {matrix.names[column[k]]} in "
            f"{part.text!r}: residuals of one place cannot be told apart."
        )
    n = len(group)
    names = tuple(
        f"{places.names[g]}:{matrix.names[c]}" for g, c in zip(group, column, strict=True)
    )
    at, labels = np.empty((n, 0)), np.empty((n, 0), dtype=object)
    own = replace(places, names=names, process=group, at=at, labels=labels)
    return Residuals(
        Repeated(own, columns, matrix.names, column), np.arange(n), part.text, part.structure
    )
