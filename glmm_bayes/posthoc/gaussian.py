"""Draw from the posterior of a Gaussian response: all but few parameters integrated exactly."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from glmm_bayes.draws import Draws
from glmm_bayes.engine.polynomials.evaluated import Many
from glmm_bayes.engine.polynomials.surrogate import Surrogate, fit_surrogate
from glmm_bayes.model import Model
from glmm_bayes.posthoc import correlated
from glmm_bayes.posthoc.drawn import Drawn
from glmm_bayes.posthoc.independent import draw_and_weigh
from glmm_bayes.posthoc.marginal import read_marginal
from glmm_bayes.posthoc.outer import find_mode
from glmm_bayes.posthoc.proposals import Proposer
from glmm_bayes.posthoc.proposals_gaussian import (
    choose_proposer,
    factors_are_dear,
    many_densities,
)
from glmm_bayes.posthoc.verify import verify_marginal
from glmm_bayes.posthoc.walkers import STATISTICS, Course, run_walkers

if TYPE_CHECKING:
    import xarray as xr

# The surrogate's error: where acceptance pays for it, and where nothing does.
CLOSE, CLOSER = 0.1, 0.025
TRIED, MOST = 300, 20  # proposals that tell how many are needed for one draw; these at most
GOOD = 0.6  # acceptance from which on each proposal is a step worth keeping


@dataclass(frozen=True)
class Way:
    """
    How a marginal posterior is read, evaluated at many points, verified and drawn from.

    `is_dear` tells whether nothing but the surrogate decides how good the draws are.
    """

    read: Callable[[Model], Any]
    is_dear: Callable[[Any], bool]
    many: Callable[[Any], Many | None]
    verify: Callable[[Any, Surrogate], float]
    choose: Callable[[Any, Surrogate], Proposer]


INDEPENDENT = Way(read_marginal, factors_are_dear, many_densities, verify_marginal, choose_proposer)
CORRELATED = Way(
    correlated.read_posterior, lambda _: False, lambda _: None,
    correlated.verify, correlated.choose_proposer,
)  # fmt: skip


def sample_gaussian(
    model: Model,
    *,
    seed: int,
    draws: int,
    chains: int,
    cores: int = 1,
    progressbar: bool = False,
    start: np.ndarray | None = None,
) -> tuple[Draws, "xr.Dataset"]:
    """
    Draw by chains of independent proposals.

    The outer parameters, sigma and the terms', come of a surrogate of their marginal posterior;
    effects and coefficients of their normal distribution given these.

    Parameters
    ----------
    model
        With effects and coefficients normal given the rest: see `can_be_collapsed`.
    seed
        Makes the draws reproducible, with any number of cores.
    draws, chains, cores
        Draws kept of each chain, and chains, of which some walk at once where the model is large.
    progressbar
        Whether progress is shown.
    start
        The outer parameters `(m,)`, in the model's layout, to start the search of the mode from;
        by default it starts from the data.

    Returns
    -------
    draws
        A chain after the other. Where they were interrupted from the keyboard, fewer than asked.
    statistics
        By chain and draw `lp`, the log marginal posterior of outer parameters and coefficients
        over the normal of these, and `acceptance_rate`. Attribute `surrogate_error`: the standard
        deviation of log densities between the surrogate and the posterior; `exact`: whether
        proposals are weighed by the posterior itself, or it is the surrogate's error that remains.

    Raises
    ------
    ConvergenceError
        If the posterior cannot be evaluated where the search of its mode starts.
    NotSupportedError
        If so many levels meet that there is no root of their equations, or if the density is not
        the model's.

    Notes
    -----
    Given the outer parameters, everything else is normal but for the coefficients' prior, which
    may not be: a normal that fits at the mode stands in for it, and the ratio of both enters the
    weights.
    """
    way = INDEPENDENT if model.design.residual is None else CORRELATED
    mode = find_mode(way.read(model), start)
    tolerance = CLOSER if way.is_dear(mode.posterior) else CLOSE
    surrogate = fit_surrogate(
        mode.posterior,
        mode.psi,
        mode.axes,
        tolerance=tolerance,
        many=way.many(mode.posterior),
    )
    way.verify(mode.posterior, surrogate)
    proposer = way.choose(mode, surrogate)
    streams = np.random.SeedSequence(seed).spawn(chains + 1)
    each = _proposals_for_one(proposer, surrogate, np.random.default_rng(streams[-1]))
    k = len(mode.posterior.gamma)
    room = Drawn.room(model, (chains, draws), len(mode.psi), k, STATISTICS)
    course = Course(proposer, surrogate, mode.psi, each)
    drawn = run_walkers(course, room, streams[:chains], cores=cores, progressbar=progressbar)
    found, statistics = drawn.named(mode.posterior)
    statistics.attrs |= {"surrogate_error": surrogate.error, "exact": int(proposer.exact)}
    return found, statistics


def _proposals_for_one(proposer: Proposer, surrogate: Surrogate, rng: np.random.Generator) -> int:
    """Tell how many proposals a draw needs, to be worth about as much as an independent one."""
    log_weight = draw_and_weigh(proposer, surrogate, rng, min(TRIED, proposer.chunk)).log_weight
    weight = np.sort(np.exp(log_weight - log_weight.max()))
    # In equilibrium: the mean over pairs of the smaller weight, over that of all.
    pairs, total = np.arange(len(weight))[::-1], float(weight.sum())
    acceptance = 2 * float(weight @ pairs) / (len(weight) - 1) / total
    # How many of the weighed draws are effective: where few are, a chain stays at these.
    share = total**2 / float(weight @ weight) / len(weight)
    wanted = max(GOOD / max(acceptance, 1e-3), GOOD / share)
    return int(np.clip(np.ceil(wanted), 1, MOST))
