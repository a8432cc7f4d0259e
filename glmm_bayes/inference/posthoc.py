"""Sampling around the mode: the full posterior by moves that a normal approximation proposes."""

import os
import time
import warnings

import numpy as np

from glmm_bayes.engine.lapack import one_thread
from glmm_bayes.engine.surrogate import fit_surrogate
from glmm_bayes.errors import ConvergenceWarning
from glmm_bayes.fit import PosteriorFit
from glmm_bayes.inference.checks import check_counts, chosen_seed
from glmm_bayes.inference.methods import METHODS
from glmm_bayes.inference.results import posterior_tree
from glmm_bayes.model import Model
from glmm_bayes.posthoc.chains import run_chains
from glmm_bayes.posthoc.report import told
from glmm_bayes.posthoc.target import find_around, read_target


def posthoc(
    model: Model,
    *,
    seed: int | None = None,
    draws: int = 1000,
    tune: int = 100,
    chains: int = 4,
    cores: int | None = None,
    progressbar: bool = True,
    start: np.ndarray | None = None,
) -> PosteriorFit:
    """
    Draw from the posterior around its mode.

    Parameters
    ----------
    seed
        Makes the draws reproducible, with any number of cores.
    draws, tune
        Draws kept and warm-up steps of each chain.
    chains, cores
        How many chains, and how many of them run at once where the data are large.
    progressbar
        Whether progress is shown.
    start
        Coordinates to start the search of the mode from; by default from the data.

    Returns
    -------
    PosteriorFit
        With named draws in `idata`.

    Warns
    -----
    ConvergenceWarning
        If the diagnostics say that the draws should not be trusted yet.
    """
    check_counts(1, draws=draws, tune=tune, chains=chains, **({"cores": cores} if cores else {}))
    seed = chosen_seed(seed)
    began = time.perf_counter()
    workers = cores or min(chains, os.cpu_count() or 1)
    with one_thread(), np.errstate(all="ignore"):
        target = read_target(model)
        around = find_around(target, start)
        surrogate = fit_surrogate(target, around.psi, around.axes)
        kept, done = run_chains(
            around, surrogate, seed=seed, draws=draws, tune=tune, chains=chains, cores=workers,
            progressbar=progressbar,
        )  # fmt: skip
    found, statistics = kept.named(done)
    statistics.attrs |= told(around, surrogate, statistics, draws)
    options = {"draws": draws, "tune": tune, "chains": chains, "cores": cores}
    fit = PosteriorFit(
        model,
        lambda: posterior_tree(model, found, statistics, seed),
        "posthoc",
        seed,
        time.perf_counter() - began,
        options,
        draws=found,
        statistics=statistics,
    )
    words = fit.diagnostics().problems
    if words:
        warnings.warn(" ".join(words), ConvergenceWarning, stacklevel=3)
    return fit


METHODS.add("posthoc", posthoc)
