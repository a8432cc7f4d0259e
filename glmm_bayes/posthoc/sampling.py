"""Which way of drawing around a mode: independent draws where these do, else chains of moves."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from glmm_bayes.engine.batched import is_small
from glmm_bayes.posthoc.chains import run_chains
from glmm_bayes.posthoc.drawn import Drawn
from glmm_bayes.posthoc.independent import (
    RELIED_ON,
    Weighed,
    draw_and_weigh,
    independence_chains,
    resampled,
)
from glmm_bayes.posthoc.target import Around

ENOUGH = 0.3  # of weighed draws that are effective, from which on no moves are needed


@dataclass(frozen=True)
class Settings:
    """How much is drawn: draws kept and warm-up steps of each chain, and chains, some at once."""

    seed: int
    draws: int
    tune: int
    chains: int
    cores: int
    progressbar: bool


def draw_exactly(around: Around, surrogate: Any, settings: Settings) -> Drawn:
    """Draw by Markov chains whose stationary density is the posterior itself."""
    if is_small(around.problem):
        drawn, share = independence_chains(
            around,
            surrogate,
            seed=settings.seed,
            draws=settings.draws,
            chains=settings.chains,
        )
        if share > ENOUGH:
            return drawn
    return run_chains(
        around,
        surrogate,
        seed=settings.seed,
        draws=settings.draws,
        tune=settings.tune,
        chains=settings.chains,
        cores=settings.cores,
        progressbar=settings.progressbar,
    )


def draw_approximately(around: Around, surrogate: Any, settings: Settings) -> tuple[Drawn, Weighed]:
    """Draw from the corrected approximation, and weigh by the exact density."""
    rng = np.random.default_rng(settings.seed)
    weighed = draw_and_weigh(around, surrogate, rng, settings.draws * settings.chains)
    return resampled(weighed, rng, settings.chains), weighed


def can_be_trusted(weighed: Weighed, settings: Settings) -> bool:
    """Tell whether weighed draws stand for the posterior: reliable weights, enough of them."""
    return weighed.pareto_k < RELIED_ON and weighed.effective > 100 * settings.chains
