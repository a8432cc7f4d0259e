"""Draw from the posterior of a Gaussian response: all but few parameters integrated exactly."""

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from glmm_bayes.draws import Draws
from glmm_bayes.engine.surrogate import Surrogate, fit_surrogate
from glmm_bayes.model import Model
from glmm_bayes.posthoc.marginal import MarginalMode, find_marginal_mode, read_marginal
from glmm_bayes.posthoc.proposals import (
    MANY,
    Proposer,
    choose_proposer,
    factors_are_dear,
    many_densities,
)
from glmm_bayes.posthoc.verify_marginal import verify_marginal
from glmm_bayes.posthoc.walkers import Kept, Plan, Walker

if TYPE_CHECKING:
    import xarray as xr

# The surrogate's error: where acceptance pays for it, and where nothing does.
CLOSE, CLOSER = 0.1, 0.025
TRIED, MOST = 300, 20  # proposals that tell how many are needed for one draw; these at most
GOOD = 0.6  # acceptance from which on each proposal is a step worth keeping


def sample_gaussian(
    model: Model, *, seed: int, draws: int, chains: int, cores: int = 1
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
    mode = find_marginal_mode(read_marginal(model))
    tolerance = CLOSER if factors_are_dear(mode.posterior) else CLOSE
    surrogate = fit_surrogate(
        mode.posterior,
        mode.psi,
        mode.axes,
        tolerance=tolerance,
        many=many_densities(mode.posterior),
    )
    verify_marginal(mode.posterior, surrogate)
    proposer = choose_proposer(mode, surrogate)
    streams = np.random.SeedSequence(seed).spawn(chains + 1)
    each = _proposals_for_one(proposer, surrogate, np.random.default_rng(streams[-1]))
    plan = Plan(proposer, surrogate, mode.psi, draws, each)
    latent = mode.posterior.collapsed.gaussian.system.latent
    k = len(mode.posterior.collapsed.centre)
    kept = Kept.of(chains, draws, len(mode.psi), k, [(term.q, term.p) for term in latent.terms])
    walkers = [
        Walker(plan, c, kept, np.random.default_rng(stream))
        for c, stream in enumerate(streams[:chains])
    ]
    # Small matrices by the thousand hold up each other's threads.
    done = _walked(walkers, 1 if proposer.chunk == MANY else cores)
    return _named(mode, kept if done == draws else kept.first(done), proposer, surrogate)


def _proposals_for_one(proposer: Proposer, surrogate: Surrogate, rng: np.random.Generator) -> int:
    """Tell how many proposals a draw needs, to be worth about as much as an independent one."""
    psi, log_q = surrogate.sample(rng, TRIED if proposer.chunk > TRIED else proposer.chunk)
    log_weight = proposer.propose(psi, log_q, rng).log_weight
    weight = np.sort(np.exp(log_weight - log_weight.max()))
    # In equilibrium: the mean over pairs of the smaller weight, over that of all.
    pairs, total = np.arange(len(weight))[::-1], float(weight.sum())
    acceptance = 2 * float(weight @ pairs) / (len(weight) - 1) / total
    # How many of the weighed draws are effective: where few are, a chain stays at these.
    share = total**2 / float(weight @ weight) / len(weight)
    wanted = max(GOOD / max(acceptance, 1e-3), GOOD / share)
    return int(np.clip(np.ceil(wanted), 1, MOST))


def _walked(walkers: list[Walker], cores: int) -> int:
    """Let all chains walk to their end; give how many draws each has kept, as it may be stopped."""
    wanted = walkers[0].plan.draws
    try:
        with ThreadPoolExecutor(cores) as pool:
            while walkers[-1].draws < wanted:
                list(pool.map(Walker.advance, walkers))
    except KeyboardInterrupt:
        done = min(walker.draws for walker in walkers)
        if done < 4:
            raise
        return done
    return wanted


def _named(
    mode: MarginalMode, kept: Kept, proposer: Proposer, surrogate: Surrogate
) -> tuple[Draws, "xr.Dataset"]:
    import xarray as xr

    chains, length = kept.lp.shape
    posterior = mode.posterior
    psi, gamma, *effects = (
        part.reshape(chains * length, *part.shape[2:])
        for part in (kept.psi, kept.gamma, *kept.effects)
    )
    found = posterior.named(psi, gamma, effects, chains)
    dims = ["chain", "draw"]
    statistics = xr.Dataset(
        {"lp": (dims, kept.lp), "acceptance_rate": (dims, kept.rate)},
        {"chain": np.arange(chains), "draw": np.arange(length)},
        {"surrogate_error": surrogate.error, "exact": int(proposer.exact)},
    )
    return found, statistics
