"""The bootstrap: a statistic of fits to data made anew from a fit."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from glmm_bayes.errors import ConvergenceError, DataError, UnknownNameError
from glmm_bayes.fit import ModeFit
from glmm_bayes.inference import METHODS
from glmm_bayes.inference.checks import check_counts, chosen_seed
from glmm_bayes.modes.refits import Start
from glmm_bayes.registry import suggestion
from glmm_bayes.verbs.bootstrap_file import STUDY, blocks_of, description, line_of
from glmm_bayes.verbs.bootstrap_intervals import INTERVALS, jackknife
from glmm_bayes.verbs.bootstrap_run import (
    BLOCK,
    FITTED,
    SINGLY,
    SINGULAR,
    Resampling,
    Statistic,
    block_size,
    run_blocks,
    statistic_of,
)
from glmm_bayes.verbs.confint import chosen_names
from glmm_bayes.verbs.intervals import checked_level
from glmm_bayes.verbs.kept_file import opened
from glmm_bayes.verbs.printing import Facts, Grid, Page, Part, right
from glmm_bayes.verbs.recovery import refuse_weights
from glmm_bayes.verbs.resampled import Clusters, Source, checked_kind

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """
    Replicates of a statistic, which print as a page.

    Attributes
    ----------
    draws
        One row a replicate, one column a number of the statistic; NaN where there was none.
    estimate
        The statistic of the fit itself.
    status
        By replicate: `"fitted"`; `"singular"`, fitted with a variance at zero or a perfect
        correlation; `"failed"`; `"refused"`, where the data made anew could not be fitted.
    words
        By replicate, why it failed or was refused.
    asked
        How many replicates were asked for: more than there are, if it was interrupted.
    kind, seed
        How the data were made, and from which random stream.
    """

    draws: pd.DataFrame
    estimate: pd.Series
    status: pd.Series
    words: pd.Series
    asked: int
    kind: str
    seed: int
    study: Resampling = field(repr=False)

    @property
    def complete(self) -> bool:
        """Whether all replicates are there that were asked for."""
        return len(self.draws) == self.asked

    @cached_property
    def jackknife(self) -> pd.DataFrame:
        """The statistic without each level of the outermost grouping: see `jackknife`."""
        return jackknife(self.study)

    def confint(
        self,
        *,
        level: float = 0.95,
        interval: str = "percentile",
        parm: str | Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """
        Give intervals from the replicates that were fitted.

        Parameters
        ----------
        level
            Their probability.
        interval
            `"percentile"`: quantiles of the replicates; `"basic"`: these, reflected at the
            estimate; `"normal"`: the estimate less the bias, and normal quantiles of the
            replicates' standard deviation; `"bca"`: quantiles corrected for bias and skewness,
            the latter by leaving out a level of the outermost grouping at a time.
        parm
            Names to keep; all by default.

        Returns
        -------
        DataFrame
            `estimate, lower, upper` by name.

        Raises
        ------
        UnknownNameError
            If the kind of interval or a name is not known.
        DataError
            If there are too few replicates for the level.

        Notes
        -----
        Efron & Tibshirani (1993), An Introduction to the Bootstrap, chapters 12 to 14; Davison &
        Hinkley (1997), Bootstrap Methods and their Application, chapter 5.
        """
        if interval not in INTERVALS:
            raise UnknownNameError(
                f"interval={interval!r} is not known. {suggestion(interval, INTERVALS)}"
            )
        checked_level(level)
        self._check_enough(interval, level)
        rows = {
            name: (self.estimate[name], *INTERVALS[interval](self, name, level))
            for name in chosen_names(parm, list(self.draws.columns))
        }
        found = pd.DataFrame.from_dict(
            rows, orient="index", columns=["estimate", "lower", "upper"], dtype=float
        ).rename_axis("name")
        found.attrs["notes"] = tuple(self._notes())
        return found

    def _check_enough(self, interval: str, level: float) -> None:
        fitted = int(self.status.isin((FITTED, SINGULAR)).sum())
        if fitted < self._least(interval, level):
            raise DataError(
                f"{level:.0%} intervals by {interval!r} need {self._least(interval, level)} "
                f"replicates at least, and {fitted} were fitted; ask for a larger n."
            )

    def _least(self, interval: str, level: float) -> int:
        """Give the replicates of which the ends are quantiles, or have a standard deviation."""
        return 2 if interval == "normal" else int(np.ceil(2 / (1 - level) - 1 - 1e-9))

    def summary(self) -> pd.DataFrame:
        """Give `estimate, bias, std_error` by name: the mean less the estimate, and the spread."""
        found = pd.DataFrame(
            {
                "estimate": self.estimate,
                "bias": self.draws.mean() - self.estimate,
                "std_error": self.draws.std(),
            }
        )
        return found.rename_axis("name")

    def _notes(self) -> Iterator[str]:
        counts = self.status.value_counts()
        yield ", ".join(f"{counts[s]} {s}" for s in counts.index)
        if not self.complete:
            yield f"Interrupted: {len(self.draws)} of {self.asked} replicates."
        why = self.words[self.words != ""]
        if len(why):
            yield f"The first that has no value (replicate {why.index[0]}): {why.iloc[0]}"

    def plot(self) -> "Figure":
        """Picture the replicates: see `verbs.plots.bootstrap.plot_bootstrap`."""
        from glmm_bayes.verbs.plots.bootstrap import plot_bootstrap

        return plot_bootstrap(self)

    @property
    def page(self) -> Page:
        """The printed page."""
        found, title = self.summary(), "Too few replicates for intervals"
        if int(self.status.isin((FITTED, SINGULAR)).sum()) >= self._least("percentile", 0.95):
            found = found.join(self.confint()[["lower", "upper"]])
            title = "95% intervals by percentiles"
        columns = [right(str(c), [f"{v:.4g}" for v in found[c]]) for c in found]
        rows = zip(found.index, *(c[1:] for c in columns), strict=True)
        grid = Grid(title, ("", *(c[0] for c in columns)), (("", tuple(rows)),))
        facts = [("kind", self.kind), ("replicates", ""), ("seed", str(self.seed))]
        first, *others = self._notes()
        facts[1] = ("replicates", first)
        facts += [("note", words) for words in others]
        parts: list[Part] = [Facts(tuple(facts)), grid]
        return Page("Bootstrap", tuple(parts))

    def text(self, width: int | None = None) -> str:
        """Lay it out as text: see `Page.text`."""
        return self.page.text(width)

    def __repr__(self) -> str:
        """Print as text."""
        return self.text()

    def _repr_html_(self) -> str:
        return self.page.html()


def bootstrap(
    fit: ModeFit,
    statistic: Statistic | None = None,
    n: int = 1000,
    *,
    seed: int,
    kind: str = "parametric",
    clusters: str | None = None,
    n_jobs: int | None = None,
    path: str | Path | None = None,
    progressbar: bool = True,
) -> Bootstrap:
    """
    Refit a model to data made anew from its fit, many times.

    Parameters
    ----------
    fit
        By `"ml"`, `"reml"`, `"map"` or `"pql"`; refits are made the same way.
    statistic
        A function of a fit that gives a number, a list of numbers, or a Series or mapping of
        numbers by name; by default all outer parameters, named as in `confint`, which is much
        faster, as refits then need no standard errors.
    n
        How many replicates.
    seed
        Makes the answer reproducible to the last digit, with any number of jobs.
    kind
        `"parametric"`: new effects and new responses from their estimated distributions.
        `"semiparametric"`, for Gaussian responses: effects and residuals drawn with replacement
        from those of the fit, spread so that they have the estimated variances. `"cases"`:
        clusters drawn with replacement, with all their rows.
    clusters
        Of `"cases"`, the grouping whose levels are drawn; by default the outermost, of which
        there has to be one.
    n_jobs
        How many processes, as in joblib, whose `parallel_config` chooses others: threads, Dask,
        Ray. By default one, and all cores where the first replicates show that it takes longer
        than some seconds.
    path
        A file that keeps replicates as they come, a block of up to 128 at a time. Called again
        with the same arguments, or with another n, it goes on where it stopped. Two statistics
        with the same names are not told apart.
    progressbar
        Whether progress is shown.

    Returns
    -------
    Bootstrap
        Interrupted from the keyboard, with the replicates it has: `complete` is False.

    Raises
    ------
    NotSupportedError
        If the fit has no proper maximum, rows have weights, or the kind is not for the model.
    DataError
        If the statistic gives no numbers, or the file holds another bootstrap.
    UnknownNameError
        If a name is not known.
    ConvergenceError
        If no replicate could be fitted.

    Notes
    -----
    Searches begin at the fit. Where the effects are those of one grouping, a block of replicates
    is searched for at once.

    Examples
    --------
    >>> import glmm_bayes as gb
    >>> model = gb.Model("Reaction ~ Days + (1 | Subject)", gb.load_dataset("sleepstudy"))
    >>> found = gb.bootstrap(model.fit("reml"), n=200, seed=1, progressbar=False)
    >>> found.summary().round(2).loc[["Days", "sd_Subject[Intercept]"]]
                           estimate  bias  std_error
    name
    Days                      10.47  ...
    """
    check_counts(1, n=n)
    kind = checked_kind(kind, clusters)
    study = _study(fit, statistic, n, chosen_seed(seed), kind, clusters)
    if path is None:
        blocks = run_blocks(study, n_jobs, progressbar)
    else:
        file = opened(Path(path), STUDY, description(study, kind, clusters))
        done = blocks_of(file, study)
        blocks = run_blocks(
            study, n_jobs, progressbar, done, lambda block: file.add(line_of(block))
        )
    if not blocks:
        raise KeyboardInterrupt
    index = np.concatenate([b.number * study.size + np.arange(len(b.status)) for b in blocks])
    values = pd.DataFrame(np.vstack([b.values for b in blocks]), index, columns=list(study.names))
    status = pd.Series([s for b in blocks for s in b.status], index, name="status")
    words = pd.Series([w for b in blocks for w in b.words], index, name="words")
    found = Bootstrap(
        values.rename_axis("replicate"),
        statistic_of(fit, statistic),
        status.rename_axis("replicate"),
        words.rename_axis("replicate"),
        n,
        kind,
        study.seed,
        study,
    )
    if not found.status.isin((FITTED, SINGULAR)).any():
        raise ConvergenceError(
            f"None of {len(found.draws)} replicates could be fitted. The first: "
            f"{found.words.iloc[0]}"
        )
    return found


def _study(
    fit: ModeFit,
    statistic: Statistic | None,
    n: int,
    seed: int,
    kind: str,
    clusters: str | None,
) -> Resampling:
    model = fit.model
    if kind != "cases":
        refuse_weights(model)
    start = Start.of(fit.mode)
    estimate = statistic_of(fit, statistic)
    if estimate.empty or not estimate.index.is_unique:
        raise DataError("The statistic gives no number, or two of the same name.")
    cases = kind == "cases"
    return Resampling(
        model=model,
        method=fit.method,
        function=METHODS[fit.method],
        options=dict(fit.options),
        seed=seed,
        x=start.x,
        spread=start.spread,
        u=start.u,
        source=None if cases else Source.of(fit, kind),
        clusters=Clusters.of(model, clusters) if cases else None,
        statistic=statistic,
        names=tuple(estimate.index),
        size=block_size(model, SINGLY if cases or statistic is not None else BLOCK),
        n=n,
        home=os.getpid(),
    )


def bootstrap_intervals(
    fit: ModeFit,
    *,
    level: float,
    parm: Sequence[str],
    nsim: int,
    seed: int | None,
    kind: str,
    interval: str,
) -> pd.DataFrame:
    """Give `confint`'s table by the bootstrap of all outer parameters."""
    if interval not in INTERVALS:
        raise UnknownNameError(
            f"interval={interval!r} is not known. {suggestion(interval, INTERVALS)}"
        )
    used = fit.seed if seed is None else seed
    found = bootstrap(fit, n=nsim, seed=used, kind=kind, progressbar=False)
    return found.confint(level=level, interval=interval, parm=parm)
