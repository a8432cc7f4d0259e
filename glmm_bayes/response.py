"""The response with its trials and weights, as the formula has it; no family is known here."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pandas as pd

from glmm_bayes.data import is_factor, labels
from glmm_bayes.encoding import Context, Expression
from glmm_bayes.errors import DataError
from glmm_bayes.formula import Response as Asked


@dataclass(frozen=True, eq=False)
class Response:
    """
    The observed response `(n,)`, trials and weights if it has them, and a factor's levels.

    A `cbind` of K > 2 columns is `(n, K)`, with their sums as trials.
    """

    name: str
    y: np.ndarray
    trials: np.ndarray | None = None
    weights: np.ndarray | None = None
    levels: tuple[str, ...] | None = None

    @classmethod
    def unknown(cls, asked: Asked, n: int, trials: np.ndarray | None = None) -> Self:
        """Make the response of rows where only predictions are wanted: NaN."""
        return cls(asked.text, np.full(n, np.nan), trials)

    def take(self, rows: slice | np.ndarray) -> Self:
        """Keep some of the rows, by position."""
        trials = None if self.trials is None else self.trials[rows]
        weights = None if self.weights is None else self.weights[rows]
        return replace(self, y=self.y[rows], trials=trials, weights=weights)


def response_texts(response: Asked) -> list[str]:
    """List the expressions that the response is made of."""
    extras = [text for _, text in response.extras]
    return [*(response.columns or [response.expression]), *extras]


def read_response(asked: Asked, frame: pd.DataFrame, context: Context) -> Response:
    """
    Evaluate a response; a factor becomes the positions of its levels.

    Raises
    ------
    DataError
        If it is not numbers, or a weight is negative.
    """
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
    if asked.others:
        further = [Expression(t).numbers(frame, context, "response") for t in asked.columns[1:]]
        y = np.column_stack([y, *further])
        trials = y.sum(axis=1)
    elif asked.failures is not None:
        trials = y + Expression(asked.failures).numbers(frame, context, "response")
    elif "trials" in extras:
        trials = Expression(extras["trials"]).numbers(frame, context, "trials")
    return Response(asked.text, y, trials, weights)
