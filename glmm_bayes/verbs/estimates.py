"""Estimates of a fit as a table, whose rows can be compared with one another."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from scipy.stats import t as student

from glmm_bayes.errors import DataError, NotSupportedError
from glmm_bayes.fit import Fit, ModeFit
from glmm_bayes.modes.star import delta_slopes
from glmm_bayes.verbs.intervals import IDENTITY, Scale, checked_level, of_draws
from glmm_bayes.verbs.simultaneous import ADJUSTMENTS, Statistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from glmm_bayes.verbs.contrasted import Hypothesis

STEP = 1e-5  # of the slope of a scale


@dataclass(frozen=True)
class Asked:
    """
    How estimates are judged.

    Attributes
    ----------
    level, ddf, adjust
        The intervals' probability, degrees of freedom, and the adjustment for many.
    between
        The least and the greatest value, as shown, that are as good as none.
    """

    level: float = 0.95
    ddf: str | None = None
    adjust: str = "none"
    between: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        checked_level(self.level)
        ADJUSTMENTS[self.adjust]
        if self.between is not None and not self.between[0] < self.between[1]:
            raise DataError(f"{self.between} must be two values, the lower first.")


@dataclass(frozen=True)
class Words:
    """What quantities are called as they are shown, as they are summed, and their differences."""

    shown: str
    summed: str
    difference: str

    @classmethod
    def plain(cls, name: str) -> "Words":
        """Name what is summed as it is shown."""
        return cls(name, name, f"difference in {name}")


@dataclass(frozen=True, eq=False)
class Quantities:
    """
    k numbers that follow from the parameters of a fit.

    Attributes
    ----------
    fit
        Whose draws they are of.
    labels
        k rows that say what they are.
    values
        `(S, k)` for every draw, on a scale where they are more nearly normal.
    within
        Columns of `labels`; rows that agree in them are a family, compared and adjusted together.
    shown
        Its way back leads from `values` to what a table shows.
    summed
        `(S, k)` what comparisons are weighted sums of.
    ratios
        Its way back leads from sums whose weights add up to zero to what a table shows of them.
    slopes
        `(k, K)` of `summed` by all coefficients, in order; None if these are not all they are of.
    compared
        `(k,)` of how many estimates a family's rows are all pairwise differences; 0 if they are
        not.
    words
        What these are called.
    """

    fit: Fit
    labels: pd.DataFrame
    values: np.ndarray
    within: tuple[str, ...]
    shown: Scale
    summed: np.ndarray
    ratios: Scale
    slopes: np.ndarray | None
    compared: np.ndarray
    words: Words

    @classmethod
    def of(
        cls,
        fit: Fit,
        labels: pd.DataFrame,
        values: np.ndarray,
        *,
        within: Sequence[str] = (),
        shown: Scale = IDENTITY,
        summed: np.ndarray | None = None,
        ratios: Scale = IDENTITY,
        slopes: np.ndarray | None = None,
        words: Words,
    ) -> "Quantities":
        """Put quantities together that are no differences."""
        none = np.zeros(len(labels), dtype=int)
        return cls(
            fit,
            labels,
            values,
            tuple(within),
            shown,
            values if summed is None else summed,
            ratios,
            slopes,
            none,
            words,
        )

    @property
    def families(self) -> Iterator[np.ndarray]:
        """The positions of each family's rows, in the order in which families come."""
        if not self.within:
            yield np.arange(len(self.labels))
            return
        groups = self.labels.groupby(list(self.within), sort=False, observed=True)
        number = groups.ngroup().to_numpy()
        yield from (np.flatnonzero(number == g) for g in range(groups.ngroups))

    def table(self, asked: Asked) -> "Estimates":
        """Judge the quantities, and put labels and numbers side by side."""
        found = Estimates(self.labels.reset_index(drop=True).assign(**self.fit.judged(self, asked)))
        found.quantities, found.asked = self, asked
        found.attrs["quantity"] = self.words.shown
        return found


class Estimates(pd.DataFrame):
    """
    Estimates of a fit, one a row, that can be compared with one another.

    A data frame like any other, with `estimate, std_error, lower, upper`; of a maximum also
    `statistic, df, p_value`, which test whether the estimate is zero on the scale on which its
    interval is symmetric: for ratios that is their logarithm, for probabilities the logit. What the
    numbers are of is in `attrs["quantity"]`. What is selected or computed from it is an ordinary
    data frame.
    """

    _metadata: ClassVar[list[str]] = ["quantities", "asked"]

    quantities: Quantities
    asked: Asked

    @property
    def _constructor(self) -> Any:
        return pd.DataFrame

    def contrast(
        self,
        method: "Hypothesis" = "pairwise",
        *,
        by: str | Sequence[str] | None = None,
        adjust: str | None = None,
        level: float | None = None,
    ) -> "Estimates":
        """
        Compare rows with one another.

        Parameters
        ----------
        method
            A name: `"pairwise"` (each with every later one), `"revpairwise"`, `"reference"` or
            `"trt.vs.ctrl"` (each with the first), `"trt.vs.ctrlk"` (with the last), `"sequential"`
            or `"consec"` (with the one before), `"meandev"` or `"eff"` (with the mean),
            `"del.eff"` (with the mean of the others), `"mean_chg"`, `"poly"` (orthogonal
            polynomials), `"identity"`. A statement such as `"b1 - b2 = 0"`, rows by their number
            from 1, or a list of these. A mapping from names to weights, or a matrix with one row a
            contrast.
        by
            Columns within whose values rows are compared; by default those of the table, and
            `[]` compares all.
        adjust, level
            As for the table, whose own they are by default.

        Returns
        -------
        Estimates
            One row a contrast: the columns of `by`, `contrast`, and the numbers. Where the table
            shows the inverse of a log or logit link, contrasts whose weights add up to zero are
            ratios, or odds ratios, and those of other links stay on the link's scale.

        Raises
        ------
        UnknownNameError
            If a set of contrasts, a column or a row is not known.
        DataError
            If weights are not as many as rows.
        """
        from glmm_bayes.verbs.contrasted import contrasted

        asked = self.asked
        asked = replace(
            asked,
            adjust=asked.adjust if adjust is None else adjust,
            level=asked.level if level is None else level,
        )
        return contrasted(self.quantities, method, by).table(asked)

    def equivalence(self, lower: float, upper: float) -> "Estimates":
        """
        Ask whether what is estimated lies between two values that are as good as no difference.

        Parameters
        ----------
        lower, upper
            On the scale that the table shows: of ratios such as 0.8 and 1.25.

        Returns
        -------
        Estimates
            The table with further columns. Of a maximum: `p_noninferior` and `p_nonsuperior`, that
            it is not above `lower` or not below `upper`, one-sided, and `p_equivalent`, the larger
            of the two: small where the estimate surely lies between, by two one-sided tests, not
            adjusted. Of a posterior: `p_between`, the probability that it does.

        Raises
        ------
        DataError
            If the values are not in order.

        Notes
        -----
        Schuirmann (1987), J. Pharmacokinet. Biopharm. 15, 657-680.
        """
        return self.quantities.table(replace(self.asked, between=(lower, upper)))

    def plot(self, ax: "Axes | None" = None) -> "Figure":  # type: ignore[override]
        """Plot the estimates with their intervals: see `verbs.plots.estimates`."""
        from glmm_bayes.verbs.plots.estimates import plot_estimates

        return plot_estimates(self, ax)


# ---- of a maximum, and of a posterior


def wald_columns(fit: ModeFit, quantities: Quantities, asked: Asked) -> dict[str, np.ndarray]:
    """
    Judge quantities of a maximum by the delta method.

    Returns
    -------
    dict
        `estimate, std_error` on the scale that is shown, `lower, upper` symmetric on that of the
        values and adjusted as is asked, `statistic, df, p_value`, each `(k,)`.
    """
    q, centre = quantities, quantities.values[0]
    root, df = _asymptotic(q) if asked.ddf is None else _small_sample(fit, q, asked.ddf)
    with np.errstate(all="ignore"):
        error = np.linalg.norm(root, axis=0)
        statistic = np.where(error > 0, centre / error, np.nan)
        p_value, reach = _adjusted(q, Statistics(statistic, df, root), asked)
        half = np.where(error > 0, reach * error, np.nan)
        bounds = np.sort(np.stack([q.shown.back(centre - half), q.shown.back(centre + half)]), 0)
        return {
            "estimate": q.shown.back(centre),
            "std_error": error * _steepness(q.shown, centre),
            "lower": bounds[0],
            "upper": bounds[1],
            "statistic": statistic,
            "df": df,
            "p_value": p_value,
            **_two_one_sided(q, error, df, asked),
        }


def _two_one_sided(
    q: Quantities, error: np.ndarray, df: np.ndarray, asked: Asked
) -> dict[str, np.ndarray]:
    if asked.between is None:
        return {}
    bounds = np.asarray(q.shown.to(np.array(asked.between)), dtype=float)
    low, high = q.values[0] - bounds[0], q.values[0] - bounds[1]
    above, below = student.sf(low / error, df), student.cdf(high / error, df)
    if bounds[0] > bounds[1]:  # a scale such as 1/x turns the order round
        above, below = student.cdf(low / error, df), student.sf(high / error, df)
    return {
        "p_noninferior": np.asarray(above),
        "p_nonsuperior": np.asarray(below),
        "p_equivalent": np.maximum(above, below),
    }


def _asymptotic(q: Quantities) -> tuple[np.ndarray, np.ndarray]:
    """Give a root of the values' covariance `(d, k)`, by the delta method, and infinite df."""
    root = delta_slopes(q.values)
    return root, np.full(root.shape[1], np.inf)


def _small_sample(fit: ModeFit, q: Quantities, ddf: str) -> tuple[np.ndarray, np.ndarray]:
    """Give the same as a method for degrees of freedom has it."""
    from glmm_bayes.verbs.ddf import small_sample

    if q.slopes is None:
        raise NotSupportedError(
            f"ddf={ddf!r} is for what follows from the coefficients alone; leave it out, or use "
            f"groups='population'."
        )
    small = small_sample(fit, ddf)
    slopes = q.slopes
    if q.values is not q.summed:
        slopes = slopes / _steepness(q.shown, q.values[0])[:, None]
    values, vectors = np.linalg.eigh(small.covariance)
    root = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
    return root @ slopes.T, small.df(slopes)


def _adjusted(q: Quantities, tests: Statistics, asked: Asked) -> tuple[np.ndarray, np.ndarray]:
    """Give p-values and the intervals' reach in standard errors, adjusted family by family."""
    adjustment = ADJUSTMENTS[asked.adjust]
    p_value, reach = np.empty(tests.size), np.empty(tests.size)
    for at in q.families:
        family = Statistics(
            tests.statistic[at], tests.df[at], tests.root[:, at], int(q.compared[at].max(initial=0))
        )
        p_value[at] = adjustment.p_values(family)
        reach[at] = adjustment.critical(family, asked.level)
    return p_value, reach


def _steepness(scale: Scale, at: np.ndarray) -> np.ndarray:
    """Give the size of the slope of a scale's way back."""
    return np.abs(scale.back(at + STEP) - scale.back(at - STEP)) / (2 * STEP)


def posterior_columns(quantities: Quantities, asked: Asked) -> dict[str, np.ndarray]:
    """Summarise the draws of quantities on the scale that is shown, by mean and quantiles."""
    if asked.ddf is not None:
        raise NotSupportedError(
            f"ddf={asked.ddf!r} is for maxima; a posterior's intervals are quantiles of its draws."
        )
    if asked.adjust != "none":
        raise NotSupportedError(
            f"adjust={asked.adjust!r} is for the tests of a maximum; a posterior has none, and its "
            f"intervals hold one at a time."
        )
    values = quantities.shown.back(quantities.values)
    found = of_draws(values, asked.level)
    if asked.between is not None:
        lower, upper = asked.between
        found["p_between"] = ((values > lower) & (values < upper)).mean(axis=0)
    return found
