"""Independence chains: each proposal is accepted by its weight over that of the state."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from glmm_bayes.posthoc.drawn import Drawn
from glmm_bayes.posthoc.proposals import MANY, Proposer
from glmm_bayes.posthoc.side_by_side import walk_to_the_end
from glmm_bayes.posthoc.weighed import Weighed

WARM = 20  # proposals before the first that is kept
SPREAD = 2.0  # how far out a chain starts, times a draw's distance from the middle
STATISTICS = ("lp", "acceptance_rate")


@dataclass(frozen=True, eq=False)
class Course:
    """
    What chains walk through: proposals, of which one sees `each` for every draw that is kept.

    `middle` `(d,)` is where psi's draws, which come of the surrogate, lie about.
    """

    proposer: Proposer
    surrogate: Any
    middle: np.ndarray
    each: int

    def length(self, draws: int) -> int:
        """Give the number of a chain's proposals, the start among them."""
        return 1 + WARM + self.each * draws


def run_walkers(
    course: Course,
    drawn: Drawn,
    streams: Sequence[np.random.SeedSequence],
    *,
    cores: int,
    progressbar: bool,
) -> Drawn:
    """
    Run chains, one for each stream of random numbers, into the room for their draws.

    Where the user stops them from the keyboard, the draws so far are given: fewer than asked for.
    """
    walkers = [
        Walker(course, c, drawn, np.random.default_rng(stream)) for c, stream in enumerate(streams)
    ]
    # Small matrices by the thousand hold up each other's threads.
    workers = 1 if course.proposer.chunk == MANY else cores
    return drawn.first(walk_to_the_end(walkers, workers, progressbar=progressbar))


@dataclass(eq=False)
class Walker:
    """
    One chain, from a draw that lies farther out than the surrogate's.

    Its random numbers depend neither on the other chains nor on how far it walks at a time.

    Notes
    -----
    Hastings (1970), Biometrika 57, 97-109, section 2.5; Tierney (1994), Annals of Statistics 22,
    1701-1762, on independence chains.
    """

    course: Course
    chain: int
    drawn: Drawn
    rng: np.random.Generator
    length: int = field(init=False)
    done: int = field(default=0, init=False)
    _psi: np.ndarray = field(init=False)
    _log_q: np.ndarray = field(init=False)
    _state: Weighed | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        course = self.course
        self.length = course.length(self.drawn.psi.shape[1])
        self._psi, self._log_q = course.surrogate.sample(self.rng, self.length)
        self._psi[0] = course.middle + SPREAD * (self._psi[0] - course.middle)
        self._log_q[0] = course.surrogate.log_density(self._psi[:1])[0]

    @property
    def kept(self) -> int:
        """The number of draws so far."""
        return max(0, self.done - 1 - WARM) // self.course.each

    def advance(self) -> None:
        """Go through one chunk of proposals."""
        at = slice(self.done, min(self.done + self.course.proposer.chunk, self.length))
        if at.start == at.stop:
            return
        found = self.course.proposer.propose(self._psi[at], self._log_q[at], self.rng)
        chance = np.log(self.rng.random(len(found.psi)))
        here, rate = self._walked(found, chance)
        first = self.kept
        self.done = at.stop
        # The draws that are kept are the last of every `each` proposals.
        kept = np.arange(first, self.kept)
        steps = WARM + (kept + 1) * self.course.each - at.start
        self._keep(kept, here[steps], rate[steps], found)
        self._state = _row(found, int(here[-1])) if here[-1] >= 0 else self._state

    def _walked(self, found: Weighed, chance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give where the chain stands after each proposal, -1 for where it was; and the rates."""
        here, rate = np.empty(len(chance), dtype=int), np.ones(len(chance))
        now, weight = -1, -np.inf if self._state is None else float(self._state.log_weight[0])
        for i, proposed in enumerate(found.log_weight):
            gain = 0.0 if weight == -np.inf else proposed - weight
            rate[i] = np.exp(min(gain, 0.0))
            if chance[i] < gain or now < 0 and self._state is None:
                now, weight = i, proposed
            here[i] = now
        return here, rate

    def _keep(self, kept: np.ndarray, here: np.ndarray, rate: np.ndarray, found: Weighed) -> None:
        if not len(kept):
            return
        c, at, stayed = self.chain, slice(kept[0], kept[-1] + 1), here < 0
        drawn = self.drawn
        drawn.statistics["acceptance_rate"][c, at] = rate
        into = [drawn.psi, drawn.gamma, drawn.statistics["lp"], *drawn.effects]
        for k, (room, values) in enumerate(zip(into, _arrays(found), strict=True)):
            room[c, at] = values[here]
            if stayed.any() and self._state is not None:
                room[c, kept[stayed]] = _arrays(self._state)[k][0]


def _arrays(found: Weighed) -> list[np.ndarray]:
    return [found.psi, found.gamma, found.log_posterior, *found.effects]


def _row(found: Weighed, i: int) -> Weighed:
    """Copy one draw."""
    at = slice(i, i + 1)
    effects = [b[at].copy() for b in found.effects]
    return Weighed(
        found.psi[at].copy(),
        found.gamma[at].copy(),
        effects,
        found.log_posterior[at].copy(),
        found.log_weight[at].copy(),
    )
