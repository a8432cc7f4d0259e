"""Chains around a mode, side by side, and their draws by name."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from glmm_bayes.engine.walk import Chain, Record, Target
from glmm_bayes.posthoc.drawn import Drawn
from glmm_bayes.posthoc.target import Around

BLOCK = 25  # steps that a chain walks before the next one's turn
LARGE = 20_000  # rows from which on chains run side by side: below, Python holds them up
MOVES = ("outer", "local", "rotation", "levels")


@dataclass(eq=False)
class Kept:
    """What chains draw: psi, coefficients and effects, and how moves were accepted."""

    around: Around
    chains: int
    draws: int
    psi: np.ndarray = field(init=False)
    gamma: np.ndarray = field(init=False)
    lp: np.ndarray = field(init=False)
    rates: np.ndarray = field(init=False)
    effects: list[np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        shape = (self.chains, self.draws)
        self.psi = np.empty((*shape, len(self.around.psi)))
        self.gamma = np.empty((*shape, self.around.problem.X.shape[1]))
        self.lp, self.rates = np.empty(shape), np.empty((*shape, len(MOVES)))
        terms = self.around.target.model.design.terms
        self.effects = [np.empty((*shape, len(t.levels), t.size)) for t in terms]

    def keep(self, chain: int, i: int, record: Record) -> None:
        """Take in one draw."""
        state = record.state
        self.psi[chain, i], self.gamma[chain, i] = state.psi, state.at.gamma
        self.lp[chain, i] = state.log_posterior
        self.rates[chain, i] = [getattr(record, move) for move in MOVES]
        for into, b in zip(self.effects, state.setting.effects(state.at), strict=True):
            into[chain, i] = b

    def first(self, draws: int) -> Drawn:
        """Give the first draws of every chain."""
        statistics = {"lp": self.lp[:, :draws]} | {
            f"acceptance_{move}": self.rates[:, :draws, k]
            for k, move in enumerate(MOVES)
            if np.isfinite(self.rates[:, :draws, k]).any()
        }
        effects = [b[:, :draws] for b in self.effects]
        return Drawn(self.psi[:, :draws], self.gamma[:, :draws], effects, statistics)


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
    target = Target(around.settings, around.axes, surrogate)
    kept = Kept(around, chains, draws)
    walkers = [
        Chain(
            target,
            np.random.default_rng(stream),
            warm=tune,
            draws=draws,
            keep=partial(kept.keep, k),
        )
        for k, stream in enumerate(np.random.SeedSequence(seed).spawn(chains))
    ]
    side_by_side = cores if around.target.model.nobs >= LARGE else 1
    try:
        _advance(walkers, side_by_side, progressbar=progressbar)
    except KeyboardInterrupt:
        done = min(walker.kept for walker in walkers)
        if done < 4:
            raise
        return kept.first(done)
    return kept.first(draws)


def _advance(walkers: Sequence[Chain], workers: int, *, progressbar: bool) -> None:
    """Let all chains walk to their end, a block after the other."""
    from concurrent.futures import ThreadPoolExecutor

    with _progress(walkers[0].length, shown=progressbar) as told:
        if workers == 1:
            while walkers[-1].done < walkers[-1].length:
                for walker in walkers:
                    walker.advance(BLOCK)
                told(walkers[-1].done)
            return
        with ThreadPoolExecutor(workers) as pool:
            while walkers[-1].done < walkers[-1].length:
                list(pool.map(lambda walker: walker.advance(BLOCK), walkers))
                told(walkers[-1].done)


@contextmanager
def _progress(total: int, *, shown: bool) -> Iterator[Any]:
    if not shown:
        yield lambda done: None
        return
    from rich.progress import Progress

    with Progress(transient=True) as bar:
        task = bar.add_task("Drawing around the mode", total=total)
        yield lambda done: bar.update(task, completed=done)
