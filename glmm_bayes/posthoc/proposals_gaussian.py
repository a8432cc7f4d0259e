"""Proposals of a Gaussian response's posterior: effects and coefficients by their exact normal."""

from typing import Any

import numpy as np

from glmm_bayes.engine.around.stacked import Stacked, is_small
from glmm_bayes.engine.polynomials.evaluated import Many
from glmm_bayes.engine.polynomials.surrogate import Surrogate
from glmm_bayes.posthoc.marginal import MarginalPosterior
from glmm_bayes.posthoc.outer import OuterMode
from glmm_bayes.posthoc.proposals import CHUNK, MANY, Propose, Proposer
from glmm_bayes.posthoc.weighed import Weighed

ADDED, MULTIPLIED = 1e9, 1.5e10  # operations a second, of the passes over levels and of LAPACK
DEAR = 1e-3  # seconds of a factorisation that is not done for every draw
SCOUTS, SAFE = 1000, 0.25  # draws that tell how large Lambda may be; of what the largest allows


def factors_are_dear(posterior: MarginalPosterior) -> bool:
    """Tell whether one factorisation a draw is too much; judged by sizes, never by the clock."""
    system = posterior.collapsed.gaussian.system
    met = getattr(system, "tp", None)
    if met is None or not hasattr(system, "q2"):
        return False
    widths = np.diff(met) + system.p
    seconds = system.k * float(np.square(widths, dtype=float).sum()) / 2 / ADDED
    return seconds + (system.q2 + system.p) ** 3 / 3 / MULTIPLIED > DEAR


def choose_proposer(mode: OuterMode[MarginalPosterior], surrogate: Surrogate) -> Proposer:
    """Choose by the size of the model."""
    posterior = mode.posterior
    if _is_small(posterior):
        return Proposer(at_once(posterior), MANY, exact=True)
    if factors_are_dear(posterior):
        return Proposer(perturbed(mode, surrogate), CHUNK, exact=False)
    return Proposer(one_by_one(posterior), CHUNK, exact=True)


def many_densities(posterior: MarginalPosterior) -> Many | None:
    """Give the log density of many psi `(S, d)` at once, where that costs little."""
    if not _is_small(posterior):
        return None
    stacked = Stacked(posterior.collapsed)

    def densities(psi: np.ndarray) -> np.ndarray:
        _, sigma, Lambdas, log_prior = posterior.parameters(psi)
        value: np.ndarray = stacked.values(sigma, Lambdas) + log_prior
        return value

    return densities


def _is_small(posterior: MarginalPosterior) -> bool:
    return is_small(posterior.latent, len(posterior.gamma))


def at_once(posterior: MarginalPosterior) -> Propose:
    """Propose from matrices one a draw."""
    stacked = Stacked(posterior.collapsed)

    def propose(psi: np.ndarray, log_q: np.ndarray, rng: np.random.Generator) -> Weighed:
        _, sigma, Lambdas, log_prior = posterior.parameters(psi)
        found = stacked.draw(sigma, Lambdas, rng.standard_normal((len(psi), stacked.size)))
        log_posterior = found.value + log_prior + posterior.correction(found.gamma)
        return Weighed.by(psi, found.gamma, found.effects, log_posterior, log_q)

    return propose


def one_by_one(posterior: MarginalPosterior) -> Propose:
    """Propose from one factorisation a draw."""
    collapsed = posterior.collapsed
    latent, k = posterior.latent, len(posterior.gamma)

    def propose(psi: np.ndarray, log_q: np.ndarray, rng: np.random.Generator) -> Weighed:
        _, sigma, Lambdas, log_posterior = posterior.parameters(psi)
        gamma = np.zeros((len(psi), k))
        effects = [np.zeros((len(psi), term.q, term.p)) for term in latent.terms]
        for i in range(len(psi)):
            own = [L[i] for L in Lambdas]
            zu, zx = rng.standard_normal(latent.size), rng.standard_normal(k)
            found = _solved(collapsed, float(sigma[i]), own)
            if found is None:
                log_posterior[i] = -np.inf
                continue
            v, gamma[i] = found.draw(zu, zx)
            log_posterior[i] += found.value
            for into, b in zip(effects, latent.effects(v, own), strict=True):
                into[i] = b
        log_posterior += posterior.correction(gamma)
        return Weighed.by(psi, gamma, effects, log_posterior, log_q)

    return propose


def perturbed(mode: OuterMode[MarginalPosterior], surrogate: Surrogate) -> Propose:
    """
    Propose from the factorisation at the mode alone.

    Psi counts as drawn from its posterior, which the surrogate is to be close to; effects and
    coefficients given psi are exact.
    """
    from glmm_bayes.engine.around.perturbed import Perturbed

    posterior = mode.posterior
    scouts = surrogate.sample(np.random.default_rng(0), SCOUTS)[0]
    _, sigma, Lambdas, _ = posterior.parameters(scouts)
    widest = [np.linalg.norm(L, 2, axis=(1, 2)) / sigma for L in Lambdas]
    share = SAFE / float(np.square(widest).max(initial=1e-6))
    _, centre, at, _ = posterior.parameters(mode.psi[None])
    drawn = Perturbed(posterior.collapsed, float(centre[0]), [L[0] for L in at], share)
    direct, top = one_by_one(posterior), posterior(mode.psi)[0]

    def propose(psi: np.ndarray, log_q: np.ndarray, rng: np.random.Generator) -> Weighed:
        _, sigma, Lambdas, _ = posterior.parameters(psi)
        with np.errstate(all="ignore"):
            found = drawn.draw(sigma, Lambdas, rng)
        missed = np.flatnonzero(~found.solved)
        if len(missed):
            other = direct(psi[missed], log_q[missed], rng)
            found.gamma[missed] = other.gamma
            for b, instead in zip(found.effects, other.effects, strict=True):
                b[missed] = instead
        log_posterior = top + log_q + posterior.correction(found.gamma)
        return Weighed.by(psi, found.gamma, found.effects, log_posterior, log_q)

    return propose


def _solved(collapsed: Any, sigma: float, Lambdas: list[np.ndarray]) -> Any:
    try:
        with np.errstate(all="ignore"):
            found = collapsed.solved(sigma, Lambdas)
    except np.linalg.LinAlgError:
        return None
    return found if np.isfinite(found.value) else None
