"""Which way of drawing around a mode: the simplest first, and others where its draws are poor."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from glmm_bayes.engine.polynomials.surrogate import fit_surrogate
from glmm_bayes.errors import ConvergenceError
from glmm_bayes.model import Model
from glmm_bayes.posthoc.chains import run_chains
from glmm_bayes.posthoc.drawn import Drawn
from glmm_bayes.posthoc.independent import draw_and_weigh, resampled
from glmm_bayes.posthoc.proposals import Proposer
from glmm_bayes.posthoc.proposals_rows import are_drawn_at_once, proposer_around
from glmm_bayes.posthoc.target import Around, find_around, read_target
from glmm_bayes.posthoc.verify import verify
from glmm_bayes.posthoc.walkers import STATISTICS, Course, run_walkers
from glmm_bayes.posthoc.weighed import Weighed, Weights

CLOSE = 0.1  # log density: the surrogate's error, which acceptance pays for
FEW = 8  # outer parameters and coefficients that one polynomial takes together
PILOT, ENOUGH = 4000, 0.3  # weighed draws, and the share of effective ones that makes moves idle
TAILED = 0.5  # Pareto's k of these, from which on the approximation lacks tails
POOR = 0.1  # effective draws a draw, below which another way is tried
EACH = 4  # independent proposals for one draw
DEPTH = 2  # corrections for each proposal, where one for all is too little
APART = 1.05  # R-hat of chains that have not found the same posterior


@dataclass(frozen=True)
class Settings:
    """How much is drawn: draws kept and warm-up steps of each chain, and chains, some at once."""

    seed: int
    draws: int
    tune: int
    chains: int
    cores: int
    progressbar: bool


@dataclass(frozen=True)
class Plan:
    """
    A way to approximate.

    Attributes
    ----------
    integrated
        Whether the mean's coefficients are normal given the outer parameters, as effects are, or
        are among the outer parameters, whose density may be skewed.
    depth
        How often the approximation is corrected anew for each proposal: see `whitened.Problem`.
    """

    integrated: bool
    depth: int


@dataclass(frozen=True, eq=False)
class Prepared:
    """An approximation, ready to be drawn from; `seed` is of its pilot."""

    plan: Plan
    around: Around
    surrogate: Any
    seed: int

    @cached_property
    def proposer(self) -> Proposer:
        """Proposes everything at once, for outer parameters of the surrogate."""
        return proposer_around(self.around)

    @cached_property
    def pilot(self) -> Weights:
        """Weights of independent draws, to decide how to go on."""
        # A stream of its own: the draws that are kept do not decide how they are drawn.
        rng = np.random.default_rng([self.seed, 2])
        return draw_and_weigh(self.proposer, self.surrogate, rng, PILOT).weights


@dataclass(frozen=True, eq=False)
class Surveyed:
    """A model with its approximations, each made when it is first asked for."""

    model: Model
    start: np.ndarray | None
    seed: int

    def prepared(self, plan: Plan) -> Prepared:
        """
        Find the mode, correct the approximation there, and put a polynomial in the density's place.

        Raises
        ------
        ConvergenceError
            If the posterior has no mode that is found.
        NotSupportedError
            If the equations have no root, or the densities do not agree.
        """
        target = read_target(self.model, integrated=plan.integrated)
        around = find_around(target, self.start)
        around = replace(around, problem=replace(around.problem, depth=plan.depth))
        d = len(around.psi)
        surrogate: Any = Alone()
        if d:
            surrogate = fit_surrogate(target, around.psi, around.axes, tolerance=CLOSE)
        verify(around, surrogate)
        return Prepared(plan, around, surrogate, self.seed)

    def corrected(self, first: Prepared) -> Prepared:
        """Correct the approximation anew for all outer parameters; the polynomial is the same."""
        plan = replace(first.plan, depth=DEPTH)
        around = replace(first.around, problem=replace(first.around.problem, depth=DEPTH))
        verify(around, first.surrogate)
        return Prepared(plan, around, first.surrogate, self.seed)

    def plans(self, first: Prepared) -> tuple[Plan, ...]:
        """Give what may be tried after the simplest."""
        around = first.around
        count = len(around.psi) + around.problem.X.shape[1]
        return (Plan(integrated=count > FEW, depth=DEPTH),)


class Alone:
    """In place of a surrogate, where there are no outer parameters."""

    error = 0.0

    def sample(self, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Give nothing, with certainty."""
        return np.empty((size, 0)), np.zeros(size)

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Give the log of one."""
        return np.zeros(len(x))


def draw_exactly(surveyed: Surveyed, first: Prepared, settings: Settings) -> tuple[Prepared, Drawn]:
    """
    Draw by Markov chains whose stationary density is the posterior itself.

    Raises
    ------
    ConvergenceError
        If no way leads to chains that agree.
    """
    first = _with_tails(surveyed, first)
    best, drawn = first, _drawn(first, settings)
    share, r_hat = _quality(drawn)
    for plan in surveyed.plans(first) if share < POOR else ():
        if plan == first.plan:
            continue
        if drawn.psi.shape[1] < settings.draws:  # stopped by the user
            break
        other = surveyed.prepared(plan)
        found = _drawn(other, settings)
        more, apart = _quality(found)
        if more > share:
            best, drawn, share, r_hat = other, found, more, apart
    if r_hat > APART and drawn.psi.shape[1] == settings.draws:
        raise ConvergenceError(f"the chains do not agree: R-hat {r_hat:.2f}")
    return best, drawn


def _with_tails(surveyed: Surveyed, first: Prepared) -> Prepared:
    """
    Give another approximation where independent draws show that the first one lacks tails.

    Chains would hardly ever go there, and their effective numbers would not tell.
    """
    if not are_drawn_at_once(first.around) or first.pilot.pareto_k < TAILED:
        return first
    again = surveyed.corrected(first)
    if are_drawn_at_once(again.around) and again.pilot.pareto_k < TAILED:
        return again
    return surveyed.prepared(surveyed.plans(first)[0])


def draw_approximately(
    surveyed: Surveyed, first: Prepared, settings: Settings
) -> tuple[Prepared, Drawn, Weighed]:
    """Draw from the corrected approximation, and weigh by the exact density."""

    def weighed(prepared: Prepared) -> Weighed:
        rng = np.random.default_rng(settings.seed)
        size = settings.draws * settings.chains
        return draw_and_weigh(prepared.proposer, prepared.surrogate, rng, size)

    best, found = first, weighed(first)
    for plan in () if can_be_trusted(found.weights, settings) else surveyed.plans(first):
        other = surveyed.prepared(plan)
        again = weighed(other)
        if again.weights.pareto_k < found.weights.pareto_k:
            best, found = other, again
    rng = np.random.default_rng([settings.seed, 1])
    return best, resampled(found, rng, settings.chains), found


def can_be_trusted(weights: Weights, settings: Settings) -> bool:
    """Tell whether weighed draws stand for the posterior: reliable weights, enough of them."""
    return weights.reliable and weights.effective > 100 * settings.chains


def _drawn(prepared: Prepared, settings: Settings) -> Drawn:
    if are_drawn_at_once(prepared.around):
        pilot = prepared.pilot
        # Such good proposals of everything at once make moves idle.
        if pilot.pareto_k < TAILED and pilot.effective > ENOUGH * PILOT:
            return _by_independence(prepared, settings)
    return run_chains(
        prepared.around,
        prepared.surrogate,
        seed=settings.seed,
        draws=settings.draws,
        tune=settings.tune,
        chains=settings.chains,
        cores=settings.cores,
        progressbar=settings.progressbar,
    )


def _by_independence(prepared: Prepared, settings: Settings) -> Drawn:
    """Draw by chains of independent proposals: exact, and many computed at once."""
    around = prepared.around
    shape, k = (settings.chains, settings.draws), around.problem.X.shape[1]
    room = Drawn.room(around.target.model, shape, len(around.psi), k, STATISTICS)
    return run_walkers(
        Course(prepared.proposer, prepared.surrogate, around.psi, EACH),
        room,
        np.random.SeedSequence(settings.seed).spawn(settings.chains),
        cores=settings.cores,
        progressbar=settings.progressbar,
    )


def _quality(drawn: Drawn) -> tuple[float, float]:
    """Give the smallest effective share of draws, of bulk or tails, and the largest R-hat."""
    from arviz_stats.base import array_stats

    values = np.concatenate([drawn.psi, drawn.gamma], axis=2)
    total = values.shape[0] * values.shape[1]
    shares, r_hats = [1.0], [1.0]
    measure: list[Callable[[np.ndarray], float]] = [
        lambda x: array_stats.ess(x, method="bulk"),
        lambda x: array_stats.ess(x, method="tail", prob=(0.05, 0.95)),
    ]
    for column in np.moveaxis(values, 2, 0):
        # Of tails half as many will do.
        bulk, tail = (float(of(column)) / total for of in measure)
        shares += [bulk, 2 * tail]
        r_hats.append(float(array_stats.rhat(column)) if len(column) > 1 else 1.0)
    return float(np.nanmin(shares)), float(np.nanmax(r_hats))
