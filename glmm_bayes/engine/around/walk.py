"""Metropolis-Hastings around a mode: outer parameters by proposals, effects by exact moves."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from glmm_bayes.engine.around.whitened import Place

BLOCK = 25  # steps that a chain walks before the next one's turn
QUARTER = np.pi / 2  # a whole rotation: positions become momenta
AIMED = 0.8  # acceptance of rotations
MOST_LEAPS, REVIEW = 5, 15  # kicks of one rotation; steps after which their number is looked at
TURNED = 0.75  # of a quarter, below which a rotation gets one more kick
WIDE, OFTEN_WIDE = 2.0, 0.1  # times a normal's spread, for coefficients with heavier tails
RARELY = 0.3  # how often coefficients alone are rotated: they are proposed with the parameters too
SOME, MANY = 0.05, 0.7  # how often the outer parameters move from where they are
POOR = 0.6  # acceptance of proposals from the surrogate, below which they move so more often


@dataclass(frozen=True, eq=False)
class Target:
    """
    What a chain needs of a model.

    Attributes
    ----------
    settings
        Of outer parameters `(S, d)`, builds the normals' frame (`Whole` or `Blocks`) at the i-th;
        None where the density is zero or cannot be evaluated.
    axes
        `(d, d)` a root of the outer parameters' covariance.
    surrogate
        With `sample(rng, size)` and `log_density(x)`: proposals of the outer parameters.
    """

    settings: Callable[[np.ndarray], Callable[[int], Any]]
    axes: np.ndarray
    surrogate: Any

    def setting(self, psi: np.ndarray) -> Any:
        """Build it at one psi."""
        return self.settings(psi[None])(0)


@dataclass(frozen=True, eq=False)
class State:
    """Where a chain is: outer parameters, standard normals, and what these come to."""

    psi: np.ndarray
    log_proposal: float
    setting: Any
    z1: np.ndarray
    z2: np.ndarray
    at: Place

    @property
    def log_density(self) -> float:
        """Of the outer parameters and the normals, up to a constant."""
        return self.setting.log_outer + self.at.log_density

    @property
    def log_posterior(self) -> float:
        """Of the outer parameters, coefficients and effects in standard units."""
        return self.log_density + 0.5 * self.setting.factor.log_determinant


@dataclass(eq=False)
class Tuning:
    """What is adapted while a chain warms up: sizes of moves, and which are made how often."""

    angle: float = QUARTER
    leaps: int = 1
    local: float = 0.5
    often: float = SOME
    tried: list[float] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Record:
    """One draw, with the acceptances that led to it; NaN for what was not tried."""

    state: State
    outer: float
    local: float
    rotation: float
    levels: float


class Chain:
    """
    One chain, that is walked on as long as asked for.

    A step proposes the outer parameters, and the coefficients' normals with them, from the
    surrogate while the effects' normals stay; turns the second block's normals by a Hamiltonian
    rotation; and proposes the first block's anew, level by level. All are exact
    Metropolis-Hastings: the approximations supply proposals only.

    Parameters
    ----------
    warm, draws
        Steps that tune the moves and are not kept, and those that are.
    keep
        Takes the number of a draw, and the draw.

    Notes
    -----
    The rotation is exact under the standard normal; kicks are by the rest of the density:
    Shahbaba, Lan, Johnson & Neal (2014), Statistics and Computing 24, 339-349. The effects'
    normals, kept while the outer parameters move, are the non-centred parametrisation given the
    data: Papaspiliopoulos, Roberts & Skoeld (2007), Statistical Science 22, 59-73.
    """

    def __init__(
        self,
        target: Target,
        rng: np.random.Generator,
        *,
        warm: int,
        draws: int,
        keep: Callable[[int, Record], None],
    ) -> None:
        self.target, self.rng, self.warm, self.keep = target, rng, warm, keep
        self.length, self.done, self.tuning = warm + draws, 0, Tuning()
        self.psi, self.log_proposals = target.surrogate.sample(rng, self.length)
        self.setting = target.settings(self.psi)
        self.state = _start(target, rng)

    @property
    def kept(self) -> int:
        """The number of draws so far."""
        return max(0, self.done - self.warm)

    def advance(self, steps: int = BLOCK) -> None:
        """Walk on, but not beyond the end."""
        for i in range(self.done, min(self.done + steps, self.length)):
            record = self._step(i)
            if i < self.warm:
                _adapt(self.tuning, record, i)
            else:
                self.keep(i - self.warm, record)
            self.done = i + 1

    def _step(self, i: int) -> Record:
        rng, local = self.rng, np.nan
        proposal = float(self.log_proposals[i])
        state, outer = _proposed(rng, self.state, self.psi[i], proposal, self.setting(i))
        if rng.random() < self.tuning.often:
            state, local = _moved(self.target, rng, state, self.tuning.local)
        rotation = np.nan
        if len(state.z2) > len(state.at.gamma) or rng.random() < RARELY:
            state, rotation = _rotated(rng, state, self.tuning)
        self.state, levels = _swept(rng, state)
        return Record(self.state, outer, local, rotation, levels)


def _start(target: Target, rng: np.random.Generator) -> State:
    """Start from a draw that is farther out than the surrogate's, and from wide normals."""
    centre = np.median(target.surrogate.sample(rng, 200)[0], axis=0)
    for shrink in (1.5, 1.2, 1.0, 0.7, 0.4, 0.1, 0.0):
        psi = centre + shrink * (target.surrogate.sample(rng, 1)[0][0] - centre)
        setting = target.setting(psi)
        if setting is None:
            continue
        (G, k), Q = setting.shapes
        z1, z2 = rng.standard_normal((G, k)), shrink * rng.standard_normal(Q)
        at = setting.place(setting.part(z1), z2)
        if np.isfinite(at.log_density):
            log_proposal = float(target.surrogate.log_density(psi[None])[0])
            return State(psi, log_proposal, setting, z1, z2, at)
    raise np.linalg.LinAlgError("the density is not finite about the mode")


def _proposed(
    rng: np.random.Generator, state: State, psi: np.ndarray, log_proposal: float, setting: Any
) -> tuple[State, float]:
    """Propose outer parameters, and the coefficients' normals, independently of where we are."""
    k = len(state.at.gamma)
    fresh = rng.standard_normal(k) * (WIDE if rng.random() < OFTEN_WIDE else 1.0)
    chance = np.log(rng.random())
    if setting is None:
        return state, 0.0
    z2, first = state.z2.copy(), len(state.z2) - k
    z2[first:] = fresh
    new = State(psi, log_proposal, setting, state.z1, z2, setting.place(setting.part(state.z1), z2))
    gain = _weight(new, first) - _weight(state, first)
    accepted = _probability(gain)
    return (new if chance < gain else state), accepted


def _weight(state: State, first: int) -> float:
    """Give the density over that of the proposal: normals, some of them wider."""
    z = state.z2[first:]
    square = float(z @ z)
    narrow = np.log(1 - OFTEN_WIDE) - 0.5 * square
    wide = np.log(OFTEN_WIDE) - 0.5 * square / WIDE**2 - len(z) * np.log(WIDE)
    return state.log_density - float(np.logaddexp(narrow, wide)) - state.log_proposal


def _moved(
    target: Target, rng: np.random.Generator, state: State, size: float
) -> tuple[State, float]:
    """
    Move the outer parameters, and the coefficients' normals, from where they are.

    The normals turn towards fresh ones, which leaves the standard normal as it is: Neal (1999),
    Bayesian Statistics 6, 475-501.
    """
    k, length = len(state.at.gamma), size * np.exp(0.7 * rng.standard_normal())
    step, fresh = length * rng.standard_normal(len(state.psi)), rng.standard_normal(k)
    chance = np.log(rng.random())
    psi = state.psi + target.axes @ step
    setting = target.setting(psi)
    if setting is None:
        return state, 0.0
    z2, first = state.z2.copy(), len(state.z2) - k
    turn = min(length, QUARTER)
    z2[first:] = np.cos(turn) * z2[first:] + np.sin(turn) * fresh
    at = setting.place(setting.part(state.z1), z2)
    log_proposal = float(target.surrogate.log_density(psi[None])[0])
    new = State(psi, log_proposal, setting, state.z1, z2, at)
    z, old = z2[first:], state.z2[first:]
    gain = new.log_density - state.log_density + 0.5 * (float(z @ z) - float(old @ old))
    return (new if chance < gain else state), _probability(gain)


def _rotated(rng: np.random.Generator, state: State, tuning: Tuning) -> tuple[State, float]:
    """Turn z2 and a fresh momentum, and kick by what is not the standard normal's."""
    setting, z = state.setting, state.z2
    if not len(z):
        return state, np.nan
    part = setting.part(state.z1)
    momentum = rng.standard_normal(len(z))
    turn = tuning.angle / tuning.leaps * rng.uniform(0.85, 1.15)
    chance, at = np.log(rng.random()), state.at
    energy = at.log_density - 0.5 * float(momentum @ momentum)
    c, s = np.cos(turn), np.sin(turn)
    kick = setting.slopes(at) + z
    for _ in range(tuning.leaps):
        momentum = momentum + 0.5 * turn * kick
        z, momentum = c * z + s * momentum, c * momentum - s * z
        at = setting.place(part, z)
        if not np.isfinite(at.log_density):
            return state, 0.0
        kick = setting.slopes(at) + z
        momentum = momentum + 0.5 * turn * kick
    gain = at.log_density - 0.5 * float(momentum @ momentum) - energy
    return (replace(state, z2=z, at=at) if chance < gain else state), _probability(gain)


def _swept(rng: np.random.Generator, state: State) -> tuple[State, float]:
    """Propose the first block's normals anew, each level by itself."""
    if not state.z1.size:
        return state, np.nan
    z1 = state.z1.copy()
    at, accepted = state.setting.sweep(state.at, z1, rng)
    return replace(state, z1=z1, at=at), accepted


def _probability(gain: float) -> float:
    return float(np.exp(min(gain, 0.0))) if np.isfinite(gain) else 0.0


def _adapt(tuning: Tuning, record: Record, i: int) -> None:
    tuning.tried.append(record.outer)
    rate = 1.0 / np.sqrt(1.0 + 0.2 * i)
    if np.isfinite(record.rotation):
        tuning.angle = min(tuning.angle * np.exp(rate * (record.rotation - AIMED)), QUARTER)
        poor = tuning.angle < TURNED * QUARTER and tuning.leaps < MOST_LEAPS
        if poor and i % REVIEW == REVIEW - 1:
            tuning.leaps, tuning.angle = tuning.leaps + 1, QUARTER
    if np.isfinite(record.local):
        tuning.local *= float(np.exp(rate * (record.local - 0.3)))
    if i >= 15:
        tuning.often = MANY if np.mean(tuning.tried[5:]) < POOR else SOME
