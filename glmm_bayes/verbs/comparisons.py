"""What predictions change by when a predictor changes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import logit

from glmm_bayes.data import Frame
from glmm_bayes.fit import Fit
from glmm_bayes.registry import Registry
from glmm_bayes.verbs.averages import Average, Target, groups_of, rows_to_predict
from glmm_bayes.verbs.changes import Change, Wanted, changes
from glmm_bayes.verbs.contrasted import Hypothesis, contrasted
from glmm_bayes.verbs.estimates import Asked, Estimates, Quantities, Words
from glmm_bayes.verbs.intervals import IDENTITY, LOG, Scale


@dataclass(frozen=True)
class Comparison:
    """
    A way to compare two predictions.

    Attributes
    ----------
    of
        From the prediction after and the one before to a number that is zero if nothing changes.
    words
        What that is called, as it is shown.
    shown
        Its way back leads from the number to what is shown.
    sign
        What stands between the two states in a label.
    """

    of: Callable[[np.ndarray, np.ndarray], np.ndarray]
    words: str
    shown: Scale = IDENTITY
    sign: str = "-"


COMPARISONS: Registry[Comparison] = Registry("comparison")
COMPARISONS.add("difference", Comparison(lambda high, low: high - low, "difference in"))
COMPARISONS.add(
    "ratio", Comparison(lambda high, low: np.log(high / low), "ratio of", LOG, sign="/")
)
COMPARISONS.add(
    "lnratio", Comparison(lambda high, low: np.log(high / low), "log ratio of", sign="/")
)
COMPARISONS.add(
    "lnor", Comparison(lambda high, low: logit(high) - logit(low), "log odds ratio of", sign="/")
)
COMPARISONS.add("lift", Comparison(lambda high, low: high / low - 1, "relative change in"))


def comparisons(
    fit: Fit,
    variables: Wanted = None,
    newdata: Frame | str | None = None,
    *,
    by: bool | str | Sequence[str] = False,
    comparison: str = "difference",
    kind: str = "mean",
    groups: str = "population",
    hypothesis: Hypothesis | None = None,
    ddf: str | None = None,
    level: float = 0.95,
    adjust: str = "none",
) -> Estimates:
    """
    Compare predictions for the same rows before and after a predictor changes.

    Parameters
    ----------
    variables
        Columns, or a mapping from columns to changes; by default all of the fixed parts. Of a
        factor: `"reference"` (each level with the first; the default), `"sequential"`,
        `"pairwise"`, the same with `rev` before, `"minmax"`, or a pair of levels. Of a number: a
        step, half of it to either side (by default 1; from 0 to 1 if there is nothing else),
        a pair of values, `"sd"`, `"2sd"`, `"iqr"` or `"minmax"`.
    newdata, kind, groups
        As in `predictions`.
    by
        True or columns: the predictions of these rows are averaged, then compared.
    comparison
        `"difference"`, `"ratio"` (with its interval and test on the log scale), `"lnratio"`,
        `"lnor"` (log odds ratio), `"lift"` (difference over what was before).
    hypothesis
        Contrasts in place of the comparisons: see `Estimates.contrast`.
    ddf, level, adjust
        As in `emmeans`; `ddf` with `groups="population"`.

    Returns
    -------
    Estimates
        One row a change, and a group of rows: `term, contrast`, the predictors' columns or those of
        `by`, and `estimate, std_error, lower, upper`, of a maximum `statistic, df, p_value`.

    Raises
    ------
    UnknownNameError
        If an option or a column is not known.
    DataError
        If a change is not one of such a column, or the rows do not fit the model.

    Examples
    --------
    >>> import glmm_bayes as gb
    >>> herds = gb.load_dataset("cbpp")
    >>> formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    >>> fit = gb.Model(formula, herds, "binomial").fit("ml")
    >>> found = fit.comparisons("period", by=True, groups="marginal")
    >>> found[["contrast", "estimate"]].round(3)
      contrast  estimate
    0    2 - 1    -0.119
    1    3 - 1    -0.130
    2    4 - 1    -0.159
    """
    asked, target = Asked(level, ddf, adjust), Target(fit.model, kind, groups)
    rows, how = rows_to_predict(fit, newdata), COMPARISONS[comparison]
    grouped = groups_of(target, rows, newdata, by)
    made, labels = [], []
    for change in changes(fit.model, rows, variables):
        made.append(
            Average(
                fit,
                [change.low, change.high],
                target,
                grouped,
                lambda states, _: states,
                lambda a: how.of(a[1], a[0]),
            )
        )
        labels.append(labelled(made[-1], change, change.label.format(sign=how.sign)))
    words = Words.plain(f"{how.words} {target.words}")
    found = together(fit, made, labels, asked, words, how.shown)
    return (found if hypothesis is None else contrasted(found, hypothesis)).table(asked)


def labelled(average: Average, change: Change, label: str) -> pd.DataFrame:
    """Name the quantities of one change."""
    found = average.labels.copy()
    found.insert(0, "term", change.term)
    found.insert(1, "contrast", label)
    return found


def together(
    fit: Fit,
    made: Sequence[Average],
    labels: Sequence[pd.DataFrame],
    asked: Asked,
    words: Words,
    shown: Scale = IDENTITY,
) -> Quantities:
    """Put the averages of several changes below one another."""
    slopes = [part.slopes for part in made] if asked.ddf is not None else [None]
    known = [part for part in slopes if part is not None]
    return Quantities.of(
        fit,
        pd.concat(labels, ignore_index=True),
        np.concatenate([part.values for part in made], axis=1),
        within=made[0].target.within,
        shown=shown,
        ratios=shown,
        slopes=np.concatenate(known) if len(known) == len(made) else None,
        words=words,
    )
