"""Chains of moves around a mode, side by side."""

from functools import partial
from typing import Any

import numpy as np

from glmm_bayes.engine.around.walk import Chain, Record, Target
from glmm_bayes.posthoc.drawn import Drawn
from glmm_bayes.posthoc.side_by_side import walk_to_the_end
from glmm_bayes.posthoc.target import Around

LARGE = 20_000  # rows from which on chains run side by side: below, Python holds them up
MOVES = ("outer", "local", "rotation", "levels")


def run_chains(
    around: Around,
    surrogate: Any,
    *,
    seed: int,
    draws: int,
    tune: int,
    chains: int,
    cores: int,
    progressbar: bool,
) -> Drawn:
    """
    Run chains from overdispersed starts, each with its own stream of random numbers.

    Where the user stops them from the keyboard, the draws so far are given: fewer than asked for.
    """
    target, model = Target(around.settings, around.axes, surrogate), around.target.model
    names = ["lp", *(f"acceptance_rate_{move}" for move in MOVES)]
    k = around.problem.X.shape[1]
    drawn = Drawn.room(model, (chains, draws), len(around.psi), k, names)
    walkers = [
        Chain(
            target,
            np.random.default_rng(stream),
            warm=tune,
            draws=draws,
            keep=partial(_keep, drawn, c),
        )
        for c, stream in enumerate(np.random.SeedSequence(seed).spawn(chains))
    ]
    workers = cores if model.nobs >= LARGE else 1
    return drawn.first(walk_to_the_end(walkers, workers, progressbar=progressbar))


def _keep(drawn: Drawn, chain: int, i: int, record: Record) -> None:
    """Take in one draw."""
    state = record.state
    drawn.psi[chain, i], drawn.gamma[chain, i] = state.psi, state.at.gamma
    drawn.statistics["lp"][chain, i] = state.log_posterior
    for move in MOVES:
        drawn.statistics[f"acceptance_rate_{move}"][chain, i] = getattr(record, move)
    for into, b in zip(drawn.effects, state.setting.effects(state.at), strict=True):
        into[chain, i] = b
