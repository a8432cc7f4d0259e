"""The replicates of a bootstrap: made anew and refitted, a block of them at a time."""

import os
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd

from glmm_bayes.engine.algebra.lapack import one_thread
from glmm_bayes.errors import DataError
from glmm_bayes.fit import Fit, ModeFit
from glmm_bayes.inference import METHODS
from glmm_bayes.model import Model
from glmm_bayes.modes.another import changed, with_response
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.refits import Refitter, Start, refitter_of
from glmm_bayes.modes.reported import outer_at
from glmm_bayes.verbs.confint import outer_names
from glmm_bayes.verbs.recovery_study import outer_values
from glmm_bayes.verbs.refit import model_arguments
from glmm_bayes.verbs.replicates import Parcel, progress, run, silence
from glmm_bayes.verbs.resampled import Clusters, Source, problems_of

BLOCK = 128  # replicates that are made and refitted together
SINGLY = 8  # of those that are refitted one after the other
NUMBERS = 2_000_000  # responses of a block
SOON = 4.0  # seconds that more processes than one would not repay
FITTED, SINGULAR, FAILED, REFUSED = "fitted", "singular", "failed", "refused"
WARM = ("ml", "reml", "map")

type Statistic = Callable[[ModeFit], Any]


@dataclass(frozen=True, eq=False)
class Resampling:
    """
    What all replicates share.

    Attributes
    ----------
    model, method, function, options
        The model, and how it is fitted.
    seed
        From which each block has a random stream of its own.
    x, spread, u
        Of the fit: see `modes.refits.Start`.
    source, clusters
        What responses, or data, are made from; one of them is None.
    statistic
        Of a fit; None for all outer parameters.
    names
        What the statistic gives, in order.
    size, n
        Replicates a block, and in all.
    home
        The process that started it.
    """

    model: Model
    method: str
    function: Callable[..., Fit]
    options: Mapping[str, Any]
    seed: int
    x: np.ndarray
    spread: np.ndarray
    u: np.ndarray
    source: Source | None
    clusters: Clusters | None
    statistic: Statistic | None
    names: tuple[str, ...]
    size: int
    n: int
    home: int
    _local: "_Local" = field(default_factory=lambda: _Local(), init=False)

    @cached_property
    def start(self) -> Start:
        """Where searches begin."""
        strict = self.method == "map"
        make = Coordinates.unconstrained if strict else Coordinates.of
        return Start(make(self.model), self.x, self.spread, self.u)

    @property
    def refitter(self) -> Refitter:
        """What maximises again; each thread has its own."""
        return self._local.get(lambda: refitter_of(self.start, self.method, self.nagq))

    @property
    def nagq(self) -> int:
        """The nodes of quadrature."""
        return int(self.options.get("nagq", 1))

    def of_block(self, number: int) -> int:
        """Give how many replicates a block has: the last one may have fewer."""
        return min(self.size, self.n - number * self.size)

    def fit_of(self, y: np.ndarray, x: np.ndarray) -> ModeFit:
        """Give the whole fit for a response, its maximum `(m,)` being known."""
        model = with_response(self.model, y)
        began = time.perf_counter()
        mode = self.refitter.mode(model, x)
        elapsed = time.perf_counter() - began
        return ModeFit(model, mode, self.method, self.seed, elapsed, self.options)

    def parameters(self, x: np.ndarray) -> np.ndarray:
        """Give the outer parameters `(S, K)` at `(S, m)`."""
        return outer_at(self.start.coordinates, x)


class _Local:
    """What each thread makes for itself; it does not travel to other processes."""

    def __init__(self) -> None:
        self._kept = threading.local()

    def get(self, make: Callable[[], Any]) -> Any:
        if not hasattr(self._kept, "made"):
            self._kept.made = make()
        return self._kept.made

    def __reduce__(self) -> tuple[Any, ...]:
        return _Local, ()


@dataclass(frozen=True, eq=False)
class Block:
    """
    What became of one block.

    Attributes
    ----------
    number
        Which one, from 0.
    values
        `(S, K)` the statistic; NaN where there is none.
    status
        `"fitted"`; `"singular"`: fitted, at an edge; `"failed"`; `"refused"`: no such data.
    words
        Why, of what failed or was refused.
    """

    number: int
    values: np.ndarray
    status: tuple[str, ...]
    words: tuple[str, ...]


def run_blocks(
    study: Resampling,
    n_jobs: int | None,
    shown: bool,
    done: Sequence[Block] = (),
    keep: Callable[[Block], None] | None = None,
) -> list[Block]:
    """Run the blocks that are not done, and `keep` each; give all there are, in order."""
    import joblib

    blocks, parcel = list(done), Parcel(study)
    there = {block.number for block in blocks}
    todo = [k for k in range(-(-study.n // study.size)) if k not in there]
    complete = True
    statuses = Counter(status for block in blocks for status in block.status)
    with progress("Bootstrap", study.n, statuses, shown) as advance:

        def record(block: Block) -> None:
            if keep is not None:
                keep(block)
            blocks.append(block)
            advance(Counter(block.status))

        if todo and n_jobs is None and joblib.effective_n_jobs(None) == 1:
            # How long it takes, the first block tells.
            began = time.perf_counter()
            complete = run(replicate_block, parcel, todo[:1], 1, record)
            left = (time.perf_counter() - began) * (len(todo) - 1)
            n_jobs, todo = (-1 if left > SOON else 1), todo[1:]
        if complete and todo:
            run(replicate_block, parcel, todo, n_jobs, record)
    return sorted(blocks, key=lambda block: block.number)


def replicate_block(parcel: Parcel, number: int) -> Block:
    """Make and refit one block, from a random stream that only seed and number decide."""
    study: Resampling = parcel.study
    if os.getpid() == study.home:
        return _replicated(study, number)
    with warnings.catch_warnings(), one_thread():
        silence()
        return _replicated(study, number)


def _replicated(study: Resampling, number: int) -> Block:
    rng = np.random.default_rng(np.random.SeedSequence(study.seed, spawn_key=(number,)))
    with np.errstate(all="ignore"):
        if study.source is None:
            return _cases(study, number, rng)
        # As many are drawn for the last block as for the others: a stream has one order.
        Y = study.source.responses(study.model, study.size, rng)[: study.of_block(number)]
        words = problems_of(study.model, Y)
        values = np.full((len(Y), len(study.names)), np.nan)
        status = [REFUSED if text else FITTED for text in words]
        good = np.flatnonzero([not text for text in words])
        if study.method not in WARM or _has_steps(study.model):
            for s in good:
                values[s], status[s], words[s] = _one(study, partial(_cold, study, Y[s]))
        elif len(good):
            _warm(study, Y, good, values, status, words)
    return Block(number, values, tuple(status), tuple(words))


def _warm(
    study: Resampling,
    Y: np.ndarray,
    good: np.ndarray,
    values: np.ndarray,
    status: list[str],
    words: list[str],
) -> None:
    """Maximise from the fit, for all responses at once; fill in what comes of it."""
    found = study.refitter.maxima(Y[good])
    for k, s in enumerate(good):
        if not found.reached[k]:
            status[s], words[s] = FAILED, "no maximum was reached"
        elif study.statistic is not None:
            refit = partial(study.fit_of, Y[s], found.x[k])
            values[s], status[s], words[s] = _one(study, refit)
        elif study.start.coordinates.idle(found.x[k]).any():
            status[s] = SINGULAR
    if study.statistic is None:
        kept = np.flatnonzero([status[s] != FAILED for s in good])
        values[good[kept]] = study.parameters(found.x[kept])


def _has_steps(model: Model) -> bool:
    """Tell whether steps are to have one sign: which are held differs between replicates."""
    return any(part.monotonic for part in model.design.predictors.values())


def _cold(study: Resampling, y: np.ndarray) -> ModeFit:
    model = study.model.whole or study.model
    fit = METHODS[study.method](with_response(model, y), **study.options)
    assert isinstance(fit, ModeFit)
    return fit


def _cases(study: Resampling, number: int, rng: np.random.Generator) -> Block:
    size = study.of_block(number)
    values = np.full((size, len(study.names)), np.nan)
    status, words = [FITTED] * size, [""] * size
    clusters = study.clusters
    assert clusters is not None
    for s, own in enumerate(rng.spawn(size)):

        def refit(own: np.random.Generator = own) -> ModeFit:
            arguments = model_arguments(study.model) | {"data": clusters.drawn(study.model, own)}
            model = Model(arguments.pop("formula"), arguments.pop("data"), **arguments)
            fit = METHODS[study.method](model, **study.options)
            assert isinstance(fit, ModeFit)
            return fit

        values[s], status[s], words[s] = _one(study, refit)
    return Block(number, values, tuple(status), tuple(words))


def _one(study: Resampling, refit: Callable[[], ModeFit]) -> tuple[np.ndarray, str, str]:
    """Refit and take the statistic; what ends one replicate must not end the others."""
    none = np.full(len(study.names), np.nan)
    try:
        fit = refit()
        if not fit.converged:
            return none, FAILED, " ".join(fit.mode.problems)
        found = statistic_of(fit, study.statistic)
        values = found.reindex(study.names).to_numpy(dtype=float)
        return values, SINGULAR if fit.is_singular else FITTED, ""
    except Exception as error:
        return none, FAILED, f"{type(error).__name__}: {error}"


# ---- the statistic


def statistic_of(fit: ModeFit, statistic: Statistic | None) -> pd.Series:
    """
    Take a statistic of a fit as numbers with names.

    Raises
    ------
    DataError
        If it is not a number, a list of numbers, a mapping to numbers, or a Series.
    """
    if statistic is None:
        estimates = [float(v[0]) for v in outer_values(fit.model, fit.plug_in).values()]
        return pd.Series(estimates, index=outer_names(fit))
    found = statistic(fit)
    if isinstance(found, Mapping | pd.Series):
        series = pd.Series(found, dtype=float)
        series.index = series.index.map(str)
        return series
    values: Any = np.atleast_1d(np.asarray(found))
    if values.ndim != 1 or values.dtype.kind not in "biuf":
        raise DataError(
            f"The statistic gave {type(found).__name__}; it must give a number, a list of numbers, "
            f"or a Series or mapping of numbers by name."
        )
    many = [f"statistic[{k + 1}]" for k in range(len(values))]
    return pd.Series(values.astype(float), index=many if len(values) > 1 else ["statistic"])


def block_size(model: Model, most: int = BLOCK) -> int:
    """Give how many replicates are made together: fewer of many rows."""
    return int(np.clip(NUMBERS // max(model.nobs, 1), 1, most))


def left_out(study: Resampling, rows: np.ndarray) -> np.ndarray:
    """Give the statistic `(K,)` without some rows `(n,)`, whose weights are then 0."""
    response = study.model.design.response
    weights = np.ones(study.model.nobs) if response.weights is None else response.weights
    weighted = replace(response, weights=np.where(rows, 0.0, weights))
    model = changed(study.model, design=study.model.design.with_response(weighted))
    refitter = refitter_of(study.start.with_model(model), study.method, study.nagq)
    if study.statistic is None:
        found = refitter.maxima(response.y[None])
        return (
            study.parameters(found.x)[0] if found.reached[0] else np.full(len(study.names), np.nan)
        )
    fit = ModeFit(model, refitter.mode(model), study.method, study.seed, 0.0, study.options)
    return statistic_of(fit, study.statistic).reindex(study.names).to_numpy(dtype=float)
