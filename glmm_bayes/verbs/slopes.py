"""How steeply predictions rise with a predictor."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from glmm_bayes.data import Frame
from glmm_bayes.errors import DataError
from glmm_bayes.fit import Fit
from glmm_bayes.registry import Registry
from glmm_bayes.verbs.averages import Average, Combine, Target, groups_of, rows_to_predict
from glmm_bayes.verbs.changes import Change, Wanted, changes, wanted_variables
from glmm_bayes.verbs.comparisons import labelled, together
from glmm_bayes.verbs.contrasted import Hypothesis, contrasted
from glmm_bayes.verbs.datagrid import is_factor_somewhere
from glmm_bayes.verbs.estimates import Asked, Estimates, Words

STEP = 1e-4  # of the range of a predictor


@dataclass(frozen=True)
class Slope:
    """A kind of slope, from dy/dx, x and y to it, with what it is called."""

    of: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    words: str
    label: str


SLOPES: Registry[Slope] = Registry("slope")
SLOPES.add("dydx", Slope(lambda slope, x, y: slope, "slope of", "dY/dX"))
SLOPES.add("eyex", Slope(lambda slope, x, y: slope * x / y, "elasticity of", "eY/eX"))
SLOPES.add("eydx", Slope(lambda slope, x, y: slope / y, "relative slope of", "eY/dX"))
SLOPES.add("dyex", Slope(lambda slope, x, y: slope * x, "semi-elasticity of", "dY/eX"))


def slopes(
    fit: Fit,
    variables: str | Sequence[str] | None = None,
    newdata: Frame | str | None = None,
    *,
    by: bool | str | Sequence[str] = False,
    slope: str = "dydx",
    kind: str = "mean",
    groups: str = "population",
    hypothesis: Hypothesis | None = None,
    ddf: str | None = None,
    level: float = 0.95,
    adjust: str = "none",
) -> Estimates:
    """
    Give the slopes of predictions along predictors.

    Parameters
    ----------
    variables
        Columns; by default all of the fixed parts. Of a factor, which has no slope, each level is
        compared with the first.
    newdata, kind, groups
        As in `predictions`.
    by
        True or columns: the slopes of these rows are averaged.
    slope
        `"dydx"`; `"eyex"`, the elasticity, per cent of the prediction for a per cent of the
        predictor; `"eydx"`; `"dyex"`.
    hypothesis
        Contrasts in place of the slopes: see `Estimates.contrast`.
    ddf, level, adjust
        As in `emmeans`; `ddf` with `groups="population"`.

    Returns
    -------
    Estimates
        One row a predictor, and a group of rows: `term, contrast`, the predictors' columns or those
        of `by`, and `estimate, std_error, lower, upper`, of a maximum `statistic, df, p_value`.

    Raises
    ------
    UnknownNameError
        If an option or a column is not known.
    DataError
        If an elasticity of a factor is asked for, or the rows do not fit the model.

    Notes
    -----
    Differences over 0.0001 of the predictor's range, half of it to either side.

    Examples
    --------
    >>> import glmm_bayes as gb
    >>> model = gb.Model("Reaction ~ Days + (1 | Subject)", gb.load_dataset("sleepstudy"))
    >>> model.fit("reml").slopes("Days", by=True)[["term", "estimate", "std_error"]].round(2)
       term  estimate  std_error
    0  Days     10.47        0.8
    """
    asked, target = Asked(level, ddf, adjust), Target(fit.model, kind, groups)
    rows, how = rows_to_predict(fit, newdata), SLOPES[slope]
    grouped = groups_of(target, rows, newdata, by)
    made, labels = [], []
    for change, label, combine in _steps(fit, rows, variables, slope):
        frames = [change.low, change.high]
        made.append(Average(fit, frames, target, grouped, combine, lambda a: a[0]))
        labels.append(labelled(made[-1], change, label))
    found = together(fit, made, labels, asked, Words.plain(f"{how.words} {target.words}"))
    return (found if hypothesis is None else contrasted(found, hypothesis)).table(asked)


def _steps(
    fit: Fit, rows: pd.DataFrame, variables: Wanted, slope: str
) -> Iterator[tuple[Change, str, Combine]]:
    """Give small changes of numbers and changes of factors, with what is made of predictions."""
    data, how = fit.model.design.rows.frame, SLOPES[slope]
    for name in wanted_variables(fit.model, variables):
        if is_factor_somewhere(fit.model.design, name):
            if slope != "dydx":
                raise DataError(
                    f"{name!r} is a factor, which has no {how.label}; name numeric variables, or "
                    f"use slope='dydx'."
                )
            for change in changes(fit.model, rows, name):
                yield change, change.label.format(sign="-"), _difference
            continue
        step = STEP * float(np.ptp(data[name].to_numpy(dtype=float)))
        (change,) = changes(fit.model, rows, {name: step})
        yield change, how.label, _quotient(name, step, how)


def _difference(states: list[np.ndarray], rows: pd.DataFrame) -> list[np.ndarray]:
    return [states[1] - states[0]]


def _quotient(name: str, step: float, how: Slope) -> Combine:
    def quotient(states: list[np.ndarray], rows: pd.DataFrame) -> list[np.ndarray]:
        # The rows are those before the change.
        x = rows[name].to_numpy(dtype=float) + step / 2
        middle = (states[0] + states[1]) / 2
        # Categories, if there are any, are a last axis.
        x = x.reshape(-1, *[1] * (middle.ndim - 2))
        return [how.of((states[1] - states[0]) / step, x, middle)]

    return quotient
