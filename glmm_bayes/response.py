"""The response with what is known of each row, as the formula has it; no family is known here."""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd

from glmm_bayes.data import is_factor, labels
from glmm_bayes.encoding import Context, Expression
from glmm_bayes.errors import DataError, FormulaError
from glmm_bayes.formula import Response as Asked
from glmm_bayes.formula import extra_arguments, plain_name
from glmm_bayes.view import View, Views, read_ends

VIEWED = ("censored", "truncated", "se")
SIDES = {"lower": 0.0, "upper": 1.0}
MOST_SPLINES = 20
KINDS = {"left": -1.0, "none": 0.0, "right": 1.0, "interval": 2.0}


@dataclass(frozen=True, eq=False)
class Response:
    """
    The observed response `(n,)`, trials and weights if it has them, and a factor's levels.

    A `cbind` of K > 2 columns is `(n, K)`, with their sums as trials; R responses are `(n, R)`,
    NaN where one is missing. Where it is `decided`, by `dec(…)`, y has a minus sign at the lower
    boundary. `df` is what `bhaz(…)` says of a baseline hazard.
    """

    name: str
    y: np.ndarray
    trials: np.ndarray | None = None
    weights: np.ndarray | None = None
    levels: tuple[str, ...] | None = None
    view: View | Views | None = None
    decided: bool = False
    df: int | None = None

    @property
    def given(self) -> Any:
        """What the family takes beside y: the trials, or how the rows were seen."""
        return self.trials if self.view is None else self.view

    @classmethod
    def unknown(cls, asked: Asked, n: int, trials: np.ndarray | None = None) -> Self:
        """Make the response of rows where only predictions are wanted: NaN."""
        return cls(asked.text, np.full(n, np.nan), trials)

    def take(self, rows: slice | np.ndarray) -> Self:
        """Keep some of the rows, by position."""
        trials = None if self.trials is None else self.trials[rows]
        weights = None if self.weights is None else self.weights[rows]
        view = None if self.view is None else self.view[rows]
        return replace(self, y=self.y[rows], trials=trials, weights=weights, view=view)


def response_texts(response: Asked) -> list[str]:
    """List the expressions that the response is made of."""
    extras = []
    for name, text in response.extras:
        parts = extra_arguments(name, text).values()
        extras += [part for part in parts if part not in ("True", "False")]
    return [*(response.columns or [response.expression]), *extras]


def completed(response: Asked, frame: pd.DataFrame) -> pd.DataFrame:
    """Put the response where an interval's upper end is missing: other rows need none."""
    ends = extra_arguments("censored", dict(response.extras).get("censored", "0"))
    y2, y = plain_name(ends.get("y2", "")), plain_name(response.expression)
    if y2 is None or y is None or not {y, y2} <= set(frame.columns):
        return frame
    return frame.assign(**{y2: frame[y2].where(frame[y2].notna(), frame[y])})


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
    view, df = _view(asked, y, frame, context), _df(asked, frame, context)
    if "dec" not in extras:
        return Response(asked.text, y, trials, weights, None, view, df=df)
    y = _signed(y, extras["dec"], asked, frame, context)
    return Response(asked.text, y, trials, weights, None, view, decided=True, df=df)


def _df(asked: Asked, frame: pd.DataFrame, context: Context) -> int | None:
    """Read how many splines a baseline hazard is made of."""
    text = dict(asked.extras).get("bhaz")
    if text is None:
        return None
    df = float(Expression(text).numbers(frame, context, "df of bhaz(…)")[0])
    if df != int(df) or not 1 <= df <= MOST_SPLINES:
        raise FormulaError(
            f"bhaz(…) in {asked.text!r} should have a whole number from 1 to {MOST_SPLINES}, of "
            f"how many splines the baseline hazard is made, not {df:g}. Baselines that differ "
            f"between groups are a further formula, 'bhaz ~ 0 + group'."
        )
    return int(df)


def _signed(
    y: np.ndarray, text: str, asked: Asked, frame: pd.DataFrame, context: Context
) -> np.ndarray:
    """Give times a minus sign where the lower boundary was reached."""
    column = Expression(text).evaluate(frame, context)
    words = column.astype(str) if is_factor(column) else column
    upper = words.map(lambda v: SIDES.get(v, np.nan) if isinstance(v, str) else float(v))
    bad = ~upper.isin([0.0, 1.0]).to_numpy()
    if bad.any():
        at = int(np.argmax(bad))
        raise DataError(
            f"dec({text}) should be 'lower' or 'upper' (or 0, 1), but row {frame.index[at]} is "
            f"{words.iloc[at]!r}."
        )
    if (y <= 0).any():
        at = int(np.argmax(y <= 0))
        raise DataError(
            f"The times of {asked.text!r} must be positive, but row {frame.index[at]} is {y[at]:g}."
        )
    return np.where(upper.to_numpy(float) == 1, y, -y)


def _view(asked: Asked, y: np.ndarray, frame: pd.DataFrame, context: Context) -> View | None:
    """Read how the rows were seen; None where all are seen exactly."""
    extras = {k: extra_arguments(k, text) for k, text in asked.extras if k in VIEWED}
    if not extras:
        return None
    n = len(frame)

    def numbers(extra: str, name: str) -> np.ndarray | None:
        text = extras.get(extra, {}).get(name)
        role = f"{name} of {extra}(…)"
        return None if text is None else Expression(text).numbers(frame, context, role)

    kind = np.zeros(n)
    if "censored" in extras:
        kind = _kinds(extras["censored"].get("c", ""), asked, frame, context)
    exact, low, high = read_ends(kind, y, numbers("censored", "y2"), asked.text)
    lower, upper = numbers("truncated", "lb"), numbers("truncated", "ub")
    lower = np.full(n, -np.inf) if lower is None else lower
    upper = np.full(n, np.inf) if upper is None else upper
    outside = (y < lower) | (y > upper)
    if outside.any():
        at = int(np.argmax(outside))
        raise DataError(
            f"The response {asked.text!r} is truncated to {lower[at]:g} to {upper[at]:g}, but row "
            f"{frame.index[at]} is {y[at]:g}."
        )
    error = numbers("se", "s")
    if error is not None and (error <= 0).any():
        raise DataError(f"The standard errors of {asked.text!r} must be positive.")
    spread = extras.get("se", {}).get("sigma", "False")
    if spread not in ("True", "False"):
        raise FormulaError(f"sigma={spread} in {asked.text!r} should be True or False.")
    return View(exact, low, high, lower, upper, error, spread == "True")


def _kinds(text: str, asked: Asked, frame: pd.DataFrame, context: Context) -> np.ndarray:
    """Read which rows are censored, by words or numbers."""
    if not text:
        raise FormulaError(f"censored(…) in {asked.text!r} has no c: write censored(c, y2).")
    column = Expression(text).evaluate(frame, context)
    words = column.astype(str) if is_factor(column) else column
    kind = words.map(lambda v: KINDS.get(v, np.nan) if isinstance(v, str) else float(v))
    bad = ~kind.isin(KINDS.values()).to_numpy()
    if bad.any():
        raise DataError(
            f"censored({text}) should be 'left', 'right', 'interval' or 'none' (or -1, 1, 2, 0), "
            f"but row {frame.index[int(np.argmax(bad))]} is {words.iloc[int(np.argmax(bad))]!r}."
        )
    return kind.to_numpy(float)


def in_subset(asked: Asked, frame: pd.DataFrame, context: Context) -> np.ndarray:
    """Tell which rows the formula's subset(…) keeps: all without one."""
    text = dict(asked.extras).get("subset")
    if text is None:
        return np.ones(len(frame), dtype=bool)
    kept = Expression(text).evaluate(frame, context)
    if kept.dtype.kind != "b" and not kept.isin([0, 1]).all():
        raise DataError(f"subset({text}) should be True or False in every row.")
    if not kept.any():
        raise DataError(f"subset({text}) keeps no row.")
    return kept.to_numpy(dtype=bool)
