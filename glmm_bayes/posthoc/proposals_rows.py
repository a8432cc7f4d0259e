"""Proposals of any response's posterior: effects and coefficients by the corrected normal."""

from collections.abc import Callable

import numpy as np

from glmm_bayes.engine.around.batched import Batched, is_small, is_soon_corrected
from glmm_bayes.posthoc.proposals import CHUNK, MANY, Proposer
from glmm_bayes.posthoc.target import Around
from glmm_bayes.posthoc.weighed import Weighed

TAIL, WIDER = 30.0, 1.05  # degrees of freedom, and times a standard deviation

type Placed = Callable[[np.ndarray, np.ndarray, np.ndarray], Weighed]


def are_drawn_at_once(around: Around) -> bool:
    """Tell whether a model is so small that one after the other would take longer."""
    problem, latent = around.problem, around.problem.system.latent
    if latent.is_structured or not is_small(latent, problem.X.shape[1]):
        return False
    return problem.depth == 0 or is_soon_corrected(problem)


def proposer_around(around: Around) -> Proposer:
    """
    Propose effects and coefficients given psi by Student's t in place of the normal.

    A normal has lighter tails than most posteriors: with it, a few draws far out would have all
    the weight.
    """
    small, Q = are_drawn_at_once(around), around.problem.columns
    placed = _at_once(around) if small else _one_by_one(around)

    def propose(psi: np.ndarray, log_psi: np.ndarray, rng: np.random.Generator) -> Weighed:
        z = WIDER * rng.standard_normal((len(psi), Q))
        z *= np.sqrt(TAIL / rng.chisquare(TAIL, (len(psi), 1)))
        square = np.square(z / WIDER).sum(axis=1)
        return placed(psi, z, log_psi - 0.5 * (TAIL + Q) * np.log1p(square / TAIL))

    return Proposer(propose, MANY if small else CHUNK, exact=True)


def _at_once(around: Around) -> Placed:
    """Go from normals `(S, N + k)` to effects and coefficients by matrices one a draw."""
    batched, target = Batched(around.problem), around.target

    def placed(psi: np.ndarray, z: np.ndarray, log_proposal: np.ndarray) -> Weighed:
        theta, log_prior = target.log_prior.densities(target.tiled(psi))
        drawn = batched.draw(target.factors(theta), target.fixed_at(psi), log_prior, z)
        volume, inside = np.zeros(len(psi)), np.isfinite(drawn.log_density)
        volume[inside] = (drawn.log_density - drawn.log_normals)[inside]
        return Weighed.by(psi, drawn.gamma, drawn.effects, drawn.log_density, log_proposal + volume)

    return placed


def _one_by_one(around: Around) -> Placed:
    """Do the same by one factorisation a draw."""
    k, terms = around.problem.X.shape[1], around.target.model.design.terms

    def placed(psi: np.ndarray, z: np.ndarray, log_proposal: np.ndarray) -> Weighed:
        size, setting = len(psi), around.settings(psi)
        gamma = np.zeros((size, k))
        effects = [np.zeros((size, len(term.levels), term.size)) for term in terms]
        log_posterior, volume = np.full(size, -np.inf), np.zeros(size)
        for i in range(size):
            frame = setting(i)
            if frame is None:
                continue
            (G, p), _ = frame.shapes
            at = frame.place(frame.part(z[i, : G * p].reshape(G, p)), z[i, G * p :])
            gamma[i] = at.gamma
            for into, b in zip(effects, frame.effects(at), strict=True):
                into[i] = b
            volume[i] = 0.5 * frame.factor.log_determinant
            log_posterior[i] = frame.log_outer + at.log_density + volume[i]
        return Weighed.by(psi, gamma, effects, log_posterior, log_proposal + volume)

    return placed
