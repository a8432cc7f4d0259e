"""Independence chains: each proposal is accepted by its weight over that of the state."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from glmm_bayes.engine.surrogate import Surrogate
from glmm_bayes.posthoc.proposals import Proposals, Proposer

WARM = 20  # proposals before the first that is kept
SPREAD = 2.0  # how far out a chain starts, times a draw's distance from the middle


@dataclass(frozen=True, eq=False)
class Plan:
    """
    What is drawn: proposals, of which a chain sees `each` for every draw that is kept.

    `middle` `(d,)` is where psi's draws lie about.
    """

    proposer: Proposer
    surrogate: Surrogate
    middle: np.ndarray
    draws: int
    each: int

    @property
    def length(self) -> int:
        """The number of a chain's proposals, the start among them."""
        return 1 + WARM + self.each * self.draws


@dataclass(frozen=True, eq=False)
class Kept:
    """
    Where chains put their draws.

    Attributes
    ----------
    psi, gamma, effects
        `(C, D, d)`, `(C, D, k)`, and by term `(C, D, q, p)`.
    lp, rate
        `(C, D)` the log posterior and the probability of acceptance.
    """

    psi: np.ndarray
    gamma: np.ndarray
    effects: Sequence[np.ndarray]
    lp: np.ndarray
    rate: np.ndarray

    @classmethod
    def of(
        cls, chains: int, draws: int, d: int, k: int, sizes: Sequence[tuple[int, int]]
    ) -> "Kept":
        """Make room."""
        shape = (chains, draws)
        return cls(
            np.empty((*shape, d)),
            np.empty((*shape, k)),
            [np.empty((*shape, *size)) for size in sizes],
            np.empty(shape),
            np.empty(shape),
        )

    def first(self, draws: int) -> "Kept":
        """Give the first draws of every chain."""
        effects = [b[:, :draws] for b in self.effects]
        parts = (part[:, :draws] for part in (self.psi, self.gamma, self.lp, self.rate))
        psi, gamma, lp, rate = parts
        return Kept(psi, gamma, effects, lp, rate)


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

    plan: Plan
    chain: int
    kept: Kept
    rng: np.random.Generator
    done: int = field(default=0, init=False)
    _psi: np.ndarray = field(init=False)
    _log_q: np.ndarray = field(init=False)
    _state: Proposals | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        plan = self.plan
        self._psi, self._log_q = plan.surrogate.sample(self.rng, plan.length)
        self._psi[0] = plan.middle + SPREAD * (self._psi[0] - plan.middle)
        self._log_q[0] = plan.surrogate.log_density(self._psi[:1])[0]

    @property
    def draws(self) -> int:
        """How many draws are kept by now."""
        return max(0, self.done - 1 - WARM) // self.plan.each

    def advance(self) -> None:
        """Go through one chunk of proposals."""
        at = slice(self.done, min(self.done + self.plan.proposer.chunk, self.plan.length))
        if at.start == at.stop:
            return
        found = self.plan.proposer.propose(self._psi[at], self._log_q[at], self.rng)
        chance = np.log(self.rng.random(len(found.psi)))
        here, rate = self._walked(found, chance)
        first = self.draws
        self.done = at.stop
        # The draws that are kept are the last of every `each` proposals.
        kept = np.arange(first, self.draws)
        steps = WARM + (kept + 1) * self.plan.each - at.start
        self._keep(kept, here[steps], rate[steps], found)
        self._state = _row(found, int(here[-1])) if here[-1] >= 0 else self._state

    def _walked(self, found: Proposals, chance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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

    def _keep(self, kept: np.ndarray, here: np.ndarray, rate: np.ndarray, found: Proposals) -> None:
        if not len(kept):
            return
        c, at, stayed = self.chain, slice(kept[0], kept[-1] + 1), here < 0
        self.kept.rate[c, at] = rate
        into = [self.kept.psi, self.kept.gamma, self.kept.lp, *self.kept.effects]
        for k, (room, values) in enumerate(zip(into, _arrays(found), strict=True)):
            room[c, at] = values[here]
            if stayed.any() and self._state is not None:
                room[c, kept[stayed]] = _arrays(self._state)[k][0]


def _arrays(found: Proposals) -> list[np.ndarray]:
    return [found.psi, found.gamma, found.log_posterior, *found.effects]


def _row(found: Proposals, i: int) -> Proposals:
    """Copy one draw."""
    at = slice(i, i + 1)
    effects = [b[at].copy() for b in found.effects]
    return Proposals(
        found.psi[at].copy(),
        found.gamma[at].copy(),
        effects,
        found.log_posterior[at].copy(),
        found.log_weight[at].copy(),
    )
