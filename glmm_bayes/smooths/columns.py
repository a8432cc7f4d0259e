"""Columns of a smooth, made of a data frame, and alike of new ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from glmm_bayes.data import labels
from glmm_bayes.encoding import Context, Expression
from glmm_bayes.errors import DataError
from glmm_bayes.smooths.turned import Turned


@dataclass(frozen=True, eq=False)
class Multiplier:
    """
    What rows of a smooth are multiplied by: nothing, a number, or whether they have a level.

    `known` are all levels of the variable, `level` the one that is meant; both empty for numbers.
    """

    by: Expression | None = None
    level: str = ""
    known: tuple[str, ...] = ()

    def at(self, frame: pd.DataFrame, context: Context) -> np.ndarray:
        """Evaluate: `(n,)`."""
        if self.by is None:
            return np.ones(len(frame))
        if not self.known:
            return self.by.numbers(frame, context, "variable after by=")
        codes, given = labels(self.by.evaluate(frame, context))
        unseen = sorted(set(given) - set(self.known))
        if unseen:
            raise DataError(
                f"The model was not fitted with {self.by.text} = {unseen[0]!r}; it knows "
                f"{', '.join(self.known)}."
            )
        return (np.array(given, dtype=object)[codes] == self.level).astype(float)


@dataclass(frozen=True, eq=False)
class SmoothColumns:
    """
    Some columns of a smooth, which encode new data as they did the first.

    They are the block with this number times `into`, less the first block times `less`, times the
    rows' multiplier.
    """

    names: tuple[str, ...]
    variables: tuple[Expression, ...]
    turned: Turned
    block: int
    into: np.ndarray
    less: np.ndarray
    multiplier: Multiplier = Multiplier()

    @property
    def levels(self) -> dict[str, pd.Series]:
        """No factor has indicators here."""
        return {}

    @property
    def term_names(self) -> tuple[str, ...]:
        """Every column is a term of its own."""
        return self.names

    def encode(self, frame: pd.DataFrame, context: Context) -> np.ndarray:
        """Encode data: `(n, k)`."""
        blocks = self.turned.blocks(positions(self.variables, frame, context))
        return self.of(blocks) * self.multiplier.at(frame, context)[:, None]

    def of(self, blocks: Sequence[np.ndarray]) -> np.ndarray:
        """Give the columns of rows with these blocks, before they are multiplied: `(n, k)`."""
        return blocks[self.block] @ self.into - blocks[0] @ self.less


def positions(variables: Sequence[Expression], frame: pd.DataFrame, context: Context) -> np.ndarray:
    """Evaluate the variables of a smooth: `(n, d)`."""
    found: list[Any] = [v.numbers(frame, context, "smoothed variable") for v in variables]
    return np.column_stack(found)
