"""Predictions averaged over rows, and compared."""

from collections.abc import Sequence

import numpy as np

from glmm_bayes.data import Frame
from glmm_bayes.fit import Fit
from glmm_bayes.verbs.averages import Average, Target, groups_of, rows_to_predict
from glmm_bayes.verbs.contrasted import Hypothesis, contrasted
from glmm_bayes.verbs.estimates import Asked, Estimates, Quantities, Words


def predictions(
    fit: Fit,
    newdata: Frame | str | None = None,
    *,
    by: bool | str | Sequence[str] = False,
    kind: str = "mean",
    groups: str = "population",
    hypothesis: Hypothesis | None = None,
    ddf: str | None = None,
    level: float = 0.95,
    adjust: str = "none",
) -> Estimates:
    """
    Predict for rows, average the predictions, and compare them.

    Parameters
    ----------
    newdata
        Rows to predict for: a data frame, the name of a `datagrid` (`"mean"`, `"balanced"`), or by
        default those the model was fitted to.
    by
        Columns; the predictions of rows that agree in these are averaged. True averages all rows.
    kind
        `"mean"`, `"linear"` or `"param:<name>"`, as in `predict`.
    groups
        `"population"`: random effects zero; `"marginal"`: averaged over their distribution, a
        prediction of the population's average; `"conditional"`: the rows' own groups.
    hypothesis
        Contrasts in place of the predictions: see `Estimates.contrast`.
    ddf, level, adjust
        As in `emmeans`; `ddf` with `groups="population"`.

    Returns
    -------
    Estimates
        One row a prediction: the predictors' columns or those of `by`, and `estimate, std_error,
        lower, upper`, of a maximum `statistic, df, p_value`. Where the response is a category, each
        has a row, and contrasts are within them. Intervals are symmetric on the scale
        of the link; their contrasts on that of the predictions.

    Raises
    ------
    UnknownNameError
        If an option or a column is not known.
    DataError
        If the rows do not fit the model.

    Examples
    --------
    >>> import glmm_bayes as gb
    >>> herds = gb.load_dataset("cbpp")
    >>> formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    >>> fit = gb.Model(formula, herds, "binomial").fit("ml")
    >>> fit.predictions(by="period", groups="marginal")[["period", "estimate"]].round(3)
      period  estimate
    0      1     0.216
    1      2     0.097
    2      3     0.086
    3      4     0.057
    """
    asked, target = Asked(level, ddf, adjust), Target(fit.model, kind, groups)
    rows = rows_to_predict(fit, newdata)
    grouped = groups_of(target, rows, newdata, by)
    made = Average(fit, [rows], target, grouped, lambda states, _: states, lambda a: a[0])
    found = Quantities.of(
        fit,
        made.labels,
        np.asarray(made.scale.to(made.values)),
        within=target.within,
        shown=made.scale,
        summed=made.values,
        slopes=None if ddf is None else made.slopes,
        words=Words.plain(target.words),
    )
    return (found if hypothesis is None else contrasted(found, hypothesis)).table(asked)
