"""Independent draws from the corrected approximation, with weights that make them exact."""

from typing import Any

import numpy as np

from glmm_bayes.engine.polynomials.surface import systematic
from glmm_bayes.posthoc.drawn import Drawn
from glmm_bayes.posthoc.proposals import Proposer
from glmm_bayes.posthoc.weighed import Weighed


def draw_and_weigh(
    proposer: Proposer, surrogate: Any, rng: np.random.Generator, size: int
) -> Weighed:
    """Draw psi from the surrogate, and all else given it."""
    psi, log_psi = surrogate.sample(rng, size)
    return proposer.propose(psi, log_psi, rng)


def resampled(weighed: Weighed, rng: np.random.Generator, chains: int) -> Drawn:
    """Draw from weighed draws as often as their smoothed weights say, in random order."""
    drawn = systematic(weighed.weights.smoothed, len(weighed.psi), rng.random())
    at = rng.permutation(drawn).reshape(chains, -1)
    statistics = {"lp": weighed.log_posterior[at], "log_weight": weighed.log_weight[at]}
    return Drawn(weighed.psi[at], weighed.gamma[at], [b[at] for b in weighed.effects], statistics)
