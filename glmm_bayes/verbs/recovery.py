"""Whether a method finds again what data were simulated from: simulation-based calibration."""

import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from glmm_bayes.draws import Draws
from glmm_bayes.errors import ConvergenceError, DataError, NotSupportedError, UnknownNameError
from glmm_bayes.fit import Fit
from glmm_bayes.inference import METHODS
from glmm_bayes.inference.checks import check_counts, chosen_seed
from glmm_bayes.model import Model
from glmm_bayes.registry import suggestion
from glmm_bayes.verbs.kept_file import KeptFile, opened, stored_seed
from glmm_bayes.verbs.printing import Page
from glmm_bayes.verbs.recovery_file import STUDY, description, line_of, outcomes_of
from glmm_bayes.verbs.recovery_replicate import Outcome, replicate
from glmm_bayes.verbs.recovery_study import Study
from glmm_bayes.verbs.recovery_table import estimates_of, replicates_of, table_of
from glmm_bayes.verbs.replicates import Parcel, progress, run

PRIOR = "prior"


@dataclass(frozen=True, eq=False)
class RecoveryCheck:
    """
    How well a method finds again what data were simulated from, which prints as a page.

    Attributes
    ----------
    table
        One row a quantity, with bias, coverage and, of posteriors, the ranks of the truths; each
        with its simulation error: see `verbs.recovery_table.table_of`.
    estimates
        One row a quantity and replicate: `replicate, parameter, truth, estimate, std_error`, the
        ends of the intervals `lower_50, upper_50` …, and `rank` of the truth among `of` draws,
        with `pit`, the same as a number on (0, 1).
    replicates
        `status, words, elapsed` by `replicate`: `"fitted"`; `"doubtful"`, fitted, with
        diagnostics that warn; `"failed"`; `"refused"`, where there were no data to fit.
    asked
        How many replicates were asked for; fewer are there where it was interrupted.
    method, options, seed
        How they were fitted.
    source
        Where the truths come from: `"prior"`, or the method of the fit that they are drawn from.
    """

    table: pd.DataFrame
    estimates: pd.DataFrame
    replicates: pd.DataFrame
    asked: int
    method: str
    options: Mapping[str, Any]
    seed: int
    source: str

    @property
    def complete(self) -> bool:
        """Whether all replicates that were asked for are there."""
        return len(self.replicates) == self.asked

    @property
    def ranked(self) -> bool:
        """Whether truths have ranks among draws, as those of posteriors do."""
        return "p_value" in self.table

    @property
    def from_prior(self) -> bool:
        """Whether the truths are drawn from the prior, as calibration needs."""
        return self.source == PRIOR

    def plot(self, kind: str | None = None, **options: Any) -> Any:
        """Picture ranks, or estimates beside truths: see `verbs.plots.recovery`."""
        from glmm_bayes.verbs.plots.recovery import plot_recovery

        return plot_recovery(self, kind, **options)

    @property
    def page(self) -> Page:
        """The printed page."""
        from glmm_bayes.verbs.recovery_page import page_of

        return page_of(self)

    def text(self, width: int | None = None) -> str:
        """Lay it out as text: see `Page.text`."""
        return self.page.text(width)

    def __repr__(self) -> str:
        """Print as text."""
        return self.text()

    def _repr_html_(self) -> str:
        return self.page.html()


def check_recovery(
    model: Model,
    n: int = 100,
    *,
    method: str = "nuts",
    source: str | Fit = PRIOR,
    seed: int | None = None,
    n_jobs: int | None = None,
    path: str | Path | None = None,
    progressbar: bool = True,
    **options: Any,
) -> RecoveryCheck:
    """
    Simulate responses from known parameters, fit them, and compare: again and again.

    Parameters
    ----------
    n
        How many times.
    method
        A name in `gb.METHODS`.
    source
        Where the truths come from: `"prior"`, or a fit of this model, of any method, whose draws
        (of a maximum, of its normal approximation) are used. Effects are drawn from their
        distribution given the other parameters, whatever the source.
    seed
        Makes the answer reproducible, with any number of jobs; by default one is drawn.
    n_jobs
        How many replicates run at once, as in joblib: 1 unless `joblib.parallel_config` says
        otherwise, whose backends (processes, threads, Dask, Ray) are used.
    path
        A file that keeps each replicate as it comes. Called again with the same arguments, or
        with another n, it goes on where it stopped.
    progressbar
        Whether progress is shown.
    **options
        Those of the method.

    Returns
    -------
    RecoveryCheck
        Interrupted from the keyboard, with the replicates it has: `complete` is False.

    Raises
    ------
    UnknownNameError
        If the method, the source or an option is not known, or n is no number of replicates.
    DataError
        If nothing is estimated, the fit is of another model, or the file of another check.
    NotSupportedError
        If rows have weights, since a likelihood to the power of a weight is no distribution that
        responses could be drawn from.
    ConvergenceError
        If no replicate could be fitted.

    Notes
    -----
    If truths are drawn from the prior and a fit draws from the posterior, the rank of a truth
    among independent draws is uniform: Talts, Betancourt, Simpson, Vehtari & Gelman (2018),
    arXiv:1804.06788. So is that of a function of parameters and data, and the log likelihood
    shows errors that no parameter shows: Modrak et al. (2023), Bayesian Analysis,
    doi:10.1214/23-BA1404. All priors are those of `model.priors`, whatever the responses.

    A data set is refused where responses are not finite, counts exceed 1e15 or the family does
    not take them. The truths are then those of the prior given that there are data; as the
    responses alone decide, ranks stay uniform for an exact method. So they do where fits fail.

    Intervals are those that tables show: of a maximum Wald's, and of its effects those of
    `ranef`, for the parameters as estimated, which hold the truth too rarely.

    Examples
    --------
    >>> import glmm_bayes as gb
    >>> model = gb.Model("Reaction ~ Days + (1 | Subject)", gb.load_dataset("sleepstudy"))
    >>> fit = model.fit("reml")
    >>> check = gb.check_recovery(
    ...     model, 20, method="reml", source=fit, seed=1, progressbar=False
    ... )
    >>> check.replicates["status"].value_counts().to_dict()
    {'fitted': 20}
    """
    function = METHODS[method]
    check_counts(1, n=n)
    refuse_weights(model)
    if model.design.has_unknowns:
        raise NotSupportedError(
            "A check draws responses anew, and not the measurements of me(…) or what is missing of "
            "mi(…): simulate both by hand from known parameters, and refit."
        )
    _check_options(method, function, options)
    place = None if path is None else Path(path)
    if seed is None and place is not None:
        seed = stored_seed(place, STUDY)
    seed = chosen_seed(seed)
    known = _known(model, source, seed)
    settings = _filled(function, options, n_jobs)
    study = Study.of(model, method, settings, seed, known)
    about = description(model, method, options, known, seed)
    file = None if place is None else opened(place, STUDY, about)
    outcomes = _outcomes(study, n, n_jobs, file, progressbar)
    estimates = estimates_of(outcomes)
    if estimates["estimate"].isna().all():
        raise ConvergenceError(
            f"None of {len(outcomes)} replicates could be fitted. The first: "
            f"{' '.join(outcomes[0].words)}"
        )
    named = source if isinstance(source, str) else source.method
    return RecoveryCheck(
        table_of(estimates), estimates, replicates_of(outcomes), n, method, options, seed, named
    )


def _outcomes(
    study: Study, n: int, n_jobs: int | None, file: KeptFile | None, progressbar: bool
) -> Sequence[Outcome]:
    """Run what is not yet done; in the order of the replicates, whatever order they came in."""
    done = {} if file is None else {k: o for k, o in outcomes_of(file).items() if k < n}
    statuses = Counter(outcome.status for outcome in done.values())
    with progress("Recovery", n, statuses, progressbar) as advance:

        def record(outcome: Outcome) -> None:
            if file is not None:
                file.add(line_of(outcome))
            done[outcome.k] = outcome
            advance({outcome.status: 1})

        todo = [k for k in range(n) if k not in done]
        run(replicate, Parcel(study), todo, n_jobs, record)
    if not done:
        raise KeyboardInterrupt
    return [done[k] for k in sorted(done)]


# ---- the question, checked


def refuse_weights(model: Model) -> None:
    """Raise `NotSupportedError` if responses cannot be drawn, as their rows have weights."""
    response = model.design.response
    if response.weights is not None and not np.isin(response.weights, (0.0, 1.0)).all():
        raise NotSupportedError(
            f"The response {response.name!r} has weights: a likelihood to the power of a weight is "
            f"no distribution that responses could be drawn from; check the model without them."
        )


def _check_options(method: str, function: Any, options: Mapping[str, Any]) -> None:
    """Refuse an option that the method does not name, unless it hands others on."""
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    known = [p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY and p.name != "seed"]
    for name in options:
        if name not in known:
            hint = suggestion(name, known) if known else "It has no options."
            raise UnknownNameError(f"The method {method!r} has no option {name!r}. {hint}")


def _filled(function: Any, options: Mapping[str, Any], n_jobs: int | None) -> dict[str, Any]:
    """Show one bar and not one a fit, and share the processors among replicates, not chains."""
    import joblib

    silent: dict[str, Any] = {"progressbar": False}
    if joblib.effective_n_jobs(n_jobs) > 1:
        silent["cores"] = 1
    parameters = inspect.signature(function).parameters
    return {k: v for k, v in silent.items() if k in parameters} | dict(options)


def _known(model: Model, source: str | Fit, seed: int) -> Draws | None:
    """Give the draws of a fit that truths are chosen from; None for the prior."""
    if isinstance(source, str):
        if source != PRIOR:
            raise UnknownNameError(
                f"source={source!r} is not known: truths are drawn from 'prior', or from a fit."
            )
        return None
    ours, theirs = ([(b.name, b.labels) for b in m.blocks] for m in (model, source.model))
    if ours != theirs:
        raise DataError(
            f"The fit of {source.model.formula.texts[0]!r} has other parameters than the model "
            f"{model.formula.texts[0]!r}; truths can be drawn from a fit of the same model."
        )
    return source.sampled(np.random.default_rng(np.random.SeedSequence(seed)))
