"""Compare two nested fits by refitting both to responses made from the smaller one."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import chi2, f, gamma

from glmm_bayes.engine.algebra.lapack import one_thread
from glmm_bayes.errors import ConvergenceError, DataError
from glmm_bayes.fit import ModeFit
from glmm_bayes.inference.checks import check_counts, chosen_seed
from glmm_bayes.modes.refits import Refitter, Start, refitter_of
from glmm_bayes.verbs.bootstrap_run import block_size
from glmm_bayes.verbs.printing import Facts, Grid, Page, right
from glmm_bayes.verbs.profile import of_likelihood
from glmm_bayes.verbs.recovery import refuse_weights
from glmm_bayes.verbs.resampled import Source, problems_of

FEWEST = 19  # replicates: 1 / 20 is then the least p
BELOW = 1e-6  # of a statistic that cannot be negative, by how much a search may fall short


@dataclass(frozen=True, eq=False)
class BootstrapTest:
    """
    A likelihood-ratio test whose distribution was simulated, which prints as a page.

    Attributes
    ----------
    table
        `statistic, df, ddf, p_value` by test: `LRT`, by the chi-squared distribution; `PBtest`,
        the share of simulated statistics as large; `Gamma`, by a gamma distribution of their mean
        and variance; `Bartlett`, by the chi-squared after division by their mean; `F`, by an F
        distribution of their mean.
    std_error
        Of `PBtest`'s p value, by Monte Carlo.
    statistics
        By replicate, twice the difference of the log likelihoods; NaN where a fit failed.
    asked
        How many were asked for.
    """

    table: pd.DataFrame
    std_error: float
    statistics: pd.Series
    asked: int

    @property
    def page(self) -> Page:
        """The printed page."""
        used = int(self.statistics.notna().sum())
        columns = [
            right(c, ["" if np.isnan(v) else f"{v:.4g}" for v in self.table[c]])
            for c in ("statistic", "df", "ddf", "p_value")
        ]
        rows = zip(self.table.index, *(c[1:] for c in columns), strict=True)
        grid = Grid("Tests", ("", *(c[0] for c in columns)), (("", tuple(rows)),))
        facts = (
            ("replicates", f"{used} of {self.asked}"),
            ("Monte Carlo error", f"{self.std_error:.2g} of PBtest's p value"),
        )
        return Page("Parametric bootstrap test", (Facts(facts), grid))

    def text(self, width: int | None = None) -> str:
        """Lay it out as text: see `Page.text`."""
        return self.page.text(width)

    def __repr__(self) -> str:
        """Print as text."""
        return self.text()

    def _repr_html_(self) -> str:
        return self.page.html()


def compare_by_bootstrap(
    larger: ModeFit, smaller: ModeFit, nsim: int = 1000, *, seed: int
) -> BootstrapTest:
    """
    Test a model within a larger one, the statistic's distribution simulated from the smaller.

    Parameters
    ----------
    larger, smaller
        Fits by `"ml"`, or by `"reml"`, which are then fitted by `"ml"`, of the same responses.
    nsim
        How many responses are made and fitted by both.
    seed
        Makes the answer reproducible.

    Returns
    -------
    BootstrapTest

    Raises
    ------
    DataError
        If the fits are not of the same responses, the smaller has no fewer parameters, or there
        are fewer than 19 responses to be made.
    NotSupportedError
        If a fit has no likelihood or no proper maximum, or rows have weights.
    ConvergenceError
        If no replicate could be fitted by both.

    Notes
    -----
    Halekoh & Hojsgaard (2014), J. Stat. Softw. 59(9), sections 4 and 5, whose names the tests
    have. A p value is (1 + r) / (1 + n), r of n simulated statistics being as large.
    """
    check_counts(1, nsim=nsim)
    if nsim < FEWEST:
        raise DataError(
            f"nsim={nsim} is too few: p is at least 1 / (1 + nsim), and {FEWEST} replicates are "
            f"the fewest by which it can be 0.05."
        )
    larger, smaller = of_likelihood(larger), of_likelihood(smaller)
    _check_nested(larger, smaller)
    refuse_weights(smaller.model)
    found = np.concatenate(list(_statistics(larger, smaller, nsim, chosen_seed(seed))))[:nsim]
    kept = found[np.isfinite(found)]
    if not len(kept):
        raise ConvergenceError(
            f"None of {nsim} responses made from the smaller model could be fitted by both."
        )
    observed = max(2 * (larger.loglik - smaller.loglik), 0.0)
    df = larger.df - smaller.df
    p = (1 + int(np.sum(kept >= observed))) / (1 + len(kept))
    error = float(np.sqrt(p * (1 - p) / (1 + len(kept))))
    index = pd.RangeIndex(nsim, name="replicate")
    statistics = pd.Series(found, index=index, name="statistic")
    return BootstrapTest(_table(observed, df, kept, p), error, statistics, nsim)


def _check_nested(larger: ModeFit, smaller: ModeFit) -> None:
    ours, theirs = larger.model.design.response, smaller.model.design.response
    if larger.nobs != smaller.nobs or not np.array_equal(ours.y, theirs.y, equal_nan=True):
        raise DataError("The two fits have different responses: fit both to the same rows.")
    if larger.model.family.name != smaller.model.family.name:
        raise DataError(
            f"The fits have the families {larger.model.family.name!r} and "
            f"{smaller.model.family.name!r}; give both the same."
        )
    if smaller.df >= larger.df:
        raise DataError(
            f"The smaller model has {smaller.df} parameters and the larger {larger.df}: give the "
            f"model with more parameters first."
        )


def _statistics(larger: ModeFit, smaller: ModeFit, nsim: int, seed: int) -> Iterator[np.ndarray]:
    """Give blocks of simulated statistics; NaN where a fit failed."""
    model, source = smaller.model, Source.of(smaller, "parametric")
    refitters = [_refitter(fit) for fit in (larger, smaller)]
    size = block_size(model)
    for number in range(-(-nsim // size)):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))
        with one_thread(), np.errstate(all="ignore"):
            Y = source.responses(model, size, rng)
            good = np.flatnonzero([not words for words in problems_of(model, Y)])
            found = np.full(size, np.nan)
            if len(good):
                high, low = (refitter.maxima(Y[good]) for refitter in refitters)
                value = 2 * (high.loglik - low.loglik)
                # A larger model's maximum that is lower was not found.
                sound = high.reached & low.reached & (value > -BELOW)
                found[good] = np.where(sound, np.maximum(value, 0.0), np.nan)
        yield found


def _refitter(fit: ModeFit) -> Refitter:
    return refitter_of(Start.of(fit.mode), fit.method, int(fit.options.get("nagq", 1)))


def _table(observed: float, df: int, kept: np.ndarray, p: float) -> pd.DataFrame:
    mean, variance = float(kept.mean()), float(kept.var(ddof=1)) if len(kept) > 1 else np.nan
    ratio = mean / df
    # The mean of F with ddf degrees below is ddf / (ddf - 2).
    ddf = 2 * ratio / (ratio - 1) if ratio > 1 else np.inf
    fraction = f(df, ddf).sf(observed / df) if np.isfinite(ddf) else chi2(df).sf(observed)
    by_gamma = gamma(mean**2 / variance, scale=variance / mean).sf(observed)
    rows = {
        "LRT": (observed, df, np.nan, chi2(df).sf(observed)),
        "PBtest": (observed, np.nan, np.nan, p),
        "Gamma": (observed, np.nan, np.nan, by_gamma),
        "Bartlett": (observed / ratio, df, np.nan, chi2(df).sf(observed / ratio)),
        "F": (observed / df, df, ddf, fraction),
    }
    columns = ["statistic", "df", "ddf", "p_value"]
    found = pd.DataFrame.from_dict(rows, orient="index", columns=columns, dtype=float)
    return found.rename_axis("test")
