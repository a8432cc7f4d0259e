"""Independent draws from the corrected approximation, with weights that make them exact."""

from typing import Any

import numpy as np

from glmm_bayes.engine import batched
from glmm_bayes.engine.batched import Batched
from glmm_bayes.engine.surface import systematic
from glmm_bayes.posthoc.drawn import Drawn
from glmm_bayes.posthoc.target import Around
from glmm_bayes.posthoc.weighed import Weighed

FIRST = 25  # draws that are walked through before any is kept
EACH = 4  # draws that are walked through for each one kept
TAIL, WIDER = 30.0, 1.05  # degrees of freedom, and times a standard deviation


def is_small(around: Around) -> bool:
    """Tell whether effects and coefficients are drawn for many outer parameters at once."""
    return batched.is_small(around.problem.system.latent, around.problem.X.shape[1])


def draw_and_weigh(around: Around, surrogate: Any, rng: np.random.Generator, size: int) -> Weighed:
    """
    Draw psi from the surrogate, effects and coefficients given it by Student's t.

    A normal has lighter tails than most posteriors: with it, a few draws far out would have all
    the weight.
    """
    psi, log_psi = surrogate.sample(rng, size)
    z = WIDER * rng.standard_normal((size, around.problem.columns))
    z *= np.sqrt(TAIL / rng.chisquare(TAIL, (size, 1)))
    power = 0.5 * (TAIL + z.shape[1])
    log_proposal = log_psi - power * np.log1p(np.square(z / WIDER).sum(axis=1) / TAIL)
    way = _at_once if is_small(around) else _one_by_one
    return way(around, psi, z, log_proposal)


def _at_once(around: Around, psi: np.ndarray, z: np.ndarray, log_proposal: np.ndarray) -> Weighed:
    many, target = Batched(around.problem), around.target
    theta, log_prior = target.log_prior.densities(target.tiled(psi))
    drawn = many.draw(around.many_factors(theta), target.fixed_at(psi), log_prior, z)
    log_weight = drawn.log_normals - log_proposal
    return Weighed(psi, drawn.gamma, list(drawn.effects), drawn.log_density, log_weight)


def _one_by_one(
    around: Around, psi: np.ndarray, z: np.ndarray, log_proposal: np.ndarray
) -> Weighed:
    terms, size = around.target.model.design.terms, len(psi)
    setting = around.settings(psi)
    gamma = np.zeros((size, around.problem.X.shape[1]))
    effects = [np.zeros((size, len(t.levels), t.size)) for t in terms]
    log_posterior = np.full(size, -np.inf)
    log_weight = np.full(size, -np.inf)
    for i in range(size):
        frame = setting(i)
        if frame is None:
            continue
        (G, k), _ = frame.shapes
        at = frame.place(frame.part(z[i, : G * k].reshape(G, k)), z[i, G * k :])
        gamma[i] = at.gamma
        for into, b in zip(effects, frame.effects(at), strict=True):
            into[i] = b
        log_posterior[i] = frame.log_outer + 0.5 * frame.factor.log_determinant + at.log_density
        log_weight[i] = frame.log_outer + at.log_density - log_proposal[i]
    return Weighed(psi, gamma, effects, log_posterior, log_weight)


def independence_chains(
    around: Around, surrogate: Any, *, seed: int, draws: int, chains: int
) -> Drawn:
    """
    Walk through independent draws by Metropolis and Hastings: exact, and all computed at once.

    Notes
    -----
    Hastings (1970), Biometrika 57, 97-109, section 2.5.
    """
    parts = []
    for stream in np.random.SeedSequence(seed).spawn(chains):
        rng = np.random.default_rng(stream)
        size = FIRST + EACH * draws
        weighed = draw_and_weigh(around, surrogate, rng, size)
        at, probability = _walked(weighed.log_weight, np.log(rng.random(size)))
        mean = probability[FIRST:].reshape(draws, EACH).mean(axis=1)
        parts.append((weighed, at[FIRST + EACH - 1 :: EACH], mean))
    effects = [
        np.stack([w.effects[t][at] for w, at, _ in parts]) for t in range(len(parts[0][0].effects))
    ]
    statistics = {
        "lp": np.stack([w.log_posterior[at] for w, at, _ in parts]),
        "acceptance_all": np.stack([probability for _, _, probability in parts]),
    }
    psi = np.stack([w.psi[at] for w, at, _ in parts])
    gamma = np.stack([w.gamma[at] for w, at, _ in parts])
    return Drawn(psi, gamma, effects, statistics)


def _walked(log_weight: np.ndarray, chance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give where a chain stands after each proposal, and with what probability it moved there."""
    at, probability = np.empty(len(chance), dtype=int), np.ones(len(chance))
    here = int(np.argmax(np.isfinite(log_weight)))
    for i in range(len(chance)):
        gain = log_weight[i] - log_weight[here]
        probability[i] = np.exp(min(gain, 0.0))
        if chance[i] < gain:
            here = i
        at[i] = here
    return at, probability


def resampled(weighed: Weighed, rng: np.random.Generator, chains: int) -> Drawn:
    """Draw from weighed draws as often as their smoothed weights say, in random order."""
    drawn = systematic(weighed.weights.smoothed, len(weighed.psi), rng.random())
    at = rng.permutation(drawn).reshape(chains, -1)
    statistics = {"lp": weighed.log_posterior[at], "log_weight": weighed.log_weight[at]}
    return Drawn(weighed.psi[at], weighed.gamma[at], [b[at] for b in weighed.effects], statistics)
