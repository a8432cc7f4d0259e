"""One replicate of a recovery check: draw parameters, simulate responses, fit, compare."""

import os
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from glmm_bayes.draws import Draws
from glmm_bayes.errors import UnknownNameError
from glmm_bayes.fit import Fit
from glmm_bayes.model import Model
from glmm_bayes.modes.another import with_response
from glmm_bayes.modes.star import widened
from glmm_bayes.predictive import in_rows, parameters, responses
from glmm_bayes.residual_draws import fitted_residuals
from glmm_bayes.verbs.intervals import IDENTITY
from glmm_bayes.verbs.recovery_study import Study, outer_values
from glmm_bayes.verbs.replicates import Parcel, silence
from glmm_bayes.verbs.resampled import as_there

LEVELS = (0.5, 0.8, 0.95)
COLUMNS = (
    "truth", "estimate", "std_error",
    *(f"{end}_{100 * level:.0f}" for level in LEVELS for end in ("lower", "upper")),
    "rank", "of", "pit",
)  # fmt: skip
SUMMARY = slice(1, -3)  # of the columns: what a fit says of a quantity
RANKS = slice(-3, None)
RANKED = 99  # draws that a truth is ranked among at most
KEPT = 400  # draws that these are chosen from, and that are counted for what they are worth
LARGEST = 1e15  # counts above are no longer exact as floats
LOGLIK = "log_likelihood"
FITTED, DOUBTFUL, FAILED, REFUSED = "fitted", "doubtful", "failed", "refused"


@dataclass(frozen=True, eq=False)
class Outcome:
    """
    What became of one replicate.

    Attributes
    ----------
    k
        Which one, from 0.
    status
        `"fitted"`; `"doubtful"`: fitted, and the diagnostics warn; `"failed"`: the fit ended in
        an error; `"refused"`: there is no such data set.
    words
        Why it is not `"fitted"`.
    elapsed
        Seconds that the fit took.
    names, numbers
        The quantities, and of each what the `COLUMNS` say: `(K, len(COLUMNS))`, NaN for what
        there is not.
    """

    k: int
    status: str
    words: tuple[str, ...]
    elapsed: float
    names: tuple[str, ...]
    numbers: np.ndarray


def replicate(parcel: Parcel, k: int) -> Outcome:
    """
    Draw, simulate, fit and compare once, from random streams that only seed and k decide.

    Raises
    ------
    UnknownNameError
        If the method does not take its options: every replicate would fail alike.
    """
    study = parcel.study
    if os.getpid() == study.home:
        # Filters are the process's and not the thread's: there they are set once for all.
        return _replicate(study, k)
    with warnings.catch_warnings():
        silence()
        return _replicate(study, k)


def _replicate(study: Study, k: int) -> Outcome:
    drawing, fitting, ranking = np.random.SeedSequence(study.seed, spawn_key=(k,)).spawn(3)
    rng = np.random.default_rng(drawing)
    truth = study.truth(rng)
    numbers = np.full((len(study.names), len(COLUMNS)), np.nan)
    numbers[:, 0] = study.values(truth)[0]
    y, refused = simulated(study.model, truth, rng)
    if refused:
        return Outcome(k, REFUSED, (refused,), 0.0, study.names, numbers)
    model = with_response(study.model, y)
    began = time.perf_counter()
    try:
        seed = int(fitting.generate_state(1)[0])
        fit = model.fit(study.method, seed=seed, **study.options)
        elapsed = time.perf_counter() - began
        found = compared(study, truth, numbers, fit, np.random.default_rng(ranking))
        problems = tuple(fit.diagnostics().problems)
    except UnknownNameError:
        raise
    except Exception as error:  # what ends one fit must not end the others
        words = (f"{type(error).__name__}: {error}",)
        return Outcome(k, FAILED, words, time.perf_counter() - began, study.names, numbers)
    return Outcome(k, DOUBTFUL if problems else FITTED, problems, elapsed, *found)


def simulated(model: Model, truth: Draws, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """Draw responses `(n,)`, or say why there are none."""
    none = np.empty(0)
    try:
        with np.errstate(all="ignore"):
            params = parameters(model, model.design, truth, truth.effects)
            residuals = fitted_residuals(model, truth, rng)
            y = responses(model, model.design, params, rng, residuals)[0].astype(float)
    except Exception as error:  # each family's generator has its own words for what is too large
        return none, f"the responses cannot be drawn: {error}"
    there = y[~np.isnan(model.design.y)]
    if not np.isfinite(there).all():
        return none, "a response is not finite"
    if model.family.discrete and there.max() > LARGEST:
        return none, f"a count is above {LARGEST:.0g}"
    y = as_there(model, y)
    problem = model.family.problem(y, model.design.response.trials)
    if problem is not None:
        return none, f"the family {model.family.name!r} refuses a response: {problem[1]}"
    return y, ""


# ---- what a fit says, beside the truth


def compared(
    study: Study, truth: Draws, numbers: np.ndarray, fit: Fit, rng: np.random.Generator
) -> tuple[tuple[str, ...], np.ndarray]:
    """Fill in what the fit says; of random draws also the ranks, with those of the likelihood."""
    names, numbers = study.names, numbers.copy()
    outer = outer_values(study.model, fit.draws)
    for k, (name, scale) in enumerate(study.scales.items()):
        numbers[k, SUMMARY] = _summary(fit, outer[name], scale)
    arms = {name: fit.effect_arms(term) for name, term in _terms(study).items()}
    for k, e in enumerate(study.effects, start=len(study.scales)):
        b = fit.plug_in.effects[e.term][:, e.level, e.column]
        numbers[k, SUMMARY] = _summary(fit, widened(b, arms[e.term][:, e.level, e.column]))
    if not _computed_by_draws(fit):
        return names, numbers
    kept = fit.draws.thinned(_kept(fit.draws))
    values = np.column_stack([study.values(kept), log_likelihood(fit.model, kept)])
    last = np.full((1, len(COLUMNS)), np.nan)
    last[0, 0] = log_likelihood(fit.model, truth)[0]
    last[0, SUMMARY] = _summary(fit, values[:, -1])
    numbers = np.vstack([numbers, last])
    numbers[:, RANKS] = ranks(numbers[:, 0], values, fit.quality(values), rng)
    return (*names, LOGLIK), numbers


def _terms(study: Study) -> dict[str, Any]:
    return {term.name: term for term in study.model.design.terms}


def _summary(fit: Fit, values: np.ndarray, scale: Any = IDENTITY) -> list[float]:
    """Give estimate, standard error and the intervals of all levels."""
    found = [fit.summarise(values, level, scale) for level in LEVELS]
    ends = [float(part[end]) for part in found for end in ("lower", "upper")]
    return [float(found[0]["estimate"]), float(found[0]["std_error"]), *ends]


def _computed_by_draws(fit: Fit) -> bool:
    """Tell whether a truth has a rank among the draws: where how well these are is a question."""
    return "ess_bulk" in fit.quality(np.empty((fit.draws.size, 0)))


def _kept(draws: Draws) -> np.ndarray:
    """Choose positions of at most about `KEPT` draws, evenly spaced, as many of every chain."""
    length = draws.size // draws.chains
    most = min(length, -(-KEPT // draws.chains))
    within = np.linspace(0, length - 1, most).round().astype(int)
    return (np.arange(draws.chains)[:, None] * length + within).ravel()


def log_likelihood(model: Model, draws: Draws) -> np.ndarray:
    """Give the log likelihood `(S,)` of the model's response, the effects given."""
    total = np.zeros(draws.size)
    with np.errstate(all="ignore"):
        for _, design in in_rows(model.design, draws.size):
            params = parameters(model, design, draws, draws.effects)
            response = design.response
            value = model.family.logp(response.y, response.trials, params)
            total += (value if response.weights is None else value * response.weights).sum(axis=1)
    return total


def ranks(
    truth: np.ndarray,
    values: np.ndarray,
    quality: Mapping[str, np.ndarray],
    rng: np.random.Generator,
) -> np.ndarray:
    """
    Rank the truths `(K,)` among nearly independent ones of their draws `(S, K)`.

    Parameters
    ----------
    quality
        `ess_bulk` and `ess_tail` of the draws, each `(K,)`.

    Returns
    -------
    ndarray
        `(K, 3)`: how many draws are below, among how many, and the rank as a number that is
        uniform on (0, 1) if truth and draws have one distribution.

    Notes
    -----
    As many draws as half the effective number, but at most `RANKED`: evenly spaced draws of an
    autoregression then have a correlation of at most exp(-4). Their number may differ from one
    replicate to the next, as the rank plus a uniform number over one more than their number is
    uniform whatever it is; ties are broken at random.
    """
    found = np.empty((len(truth), 3))
    worth = np.minimum(quality["ess_bulk"], quality["ess_tail"])
    noise = rng.uniform(size=len(truth))
    for k, column in enumerate(values.T):
        # What does not move has no effective number, and is worth one draw.
        size = int(np.clip(np.nan_to_num(worth[k] / 2, nan=1.0), 1, min(RANKED, len(column))))
        chosen = column[np.linspace(0, len(column) - 1, size).round().astype(int)]
        below, equal = (chosen < truth[k]).sum(), (chosen == truth[k]).sum()
        pit = (below + noise[k] * (equal + 1)) / (size + 1)
        found[k] = (below, size, pit) if np.isfinite(truth[k]) else np.nan
    return found
