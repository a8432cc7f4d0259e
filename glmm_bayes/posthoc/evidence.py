"""The probability of the data given a model: by weights of draws from around the mode."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from glmm_bayes.engine.algebra.lapack import one_thread
from glmm_bayes.engine.density.outer import Outer
from glmm_bayes.engine.polynomials.surrogate import fit_surrogate
from glmm_bayes.model import Model
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.posthoc.gaussian import CLOSER, CORRELATED, INDEPENDENT
from glmm_bayes.posthoc.independent import draw_and_weigh
from glmm_bayes.posthoc.marginal import can_be_collapsed
from glmm_bayes.posthoc.outer import OuterPosterior, find_mode
from glmm_bayes.posthoc.proposals import CHUNK, Proposer
from glmm_bayes.posthoc.proposals_gaussian import one_by_one
from glmm_bayes.posthoc.proposals_rows import TAIL, WIDER
from glmm_bayes.posthoc.sampling import Plan, Settings, Surveyed, draw_approximately
from glmm_bayes.posthoc.verify import verify
from glmm_bayes.posthoc.weighed import Weighed
from glmm_bayes.priors.constants import log_constant

CHAINS = 4  # that weighed draws are shared out to, where that is asked
ENVELOPE, FREEDOM = 50_000, 5.0  # draws that integrate a surrogate, and of which Student's t
ALIKE = 0.9  # effective draws a draw
LOG_2PI = np.log(2 * np.pi)


@dataclass(frozen=True, eq=False)
class Evidence:
    """
    An estimate of log p(y), every constant included.

    Attributes
    ----------
    value, error
        Natural log, and its Monte Carlo standard error.
    how
        In words.
    reliable
        Whether the error tells how far off it may be.
    """

    value: float
    error: float
    how: str
    reliable: bool


def evidence_around(model: Model, *, seed: int, draws: int) -> Evidence:
    """
    Estimate p(y) as the mean weight of draws from the approximation around the mode.

    Parameters
    ----------
    draws
        How many are weighed.

    Raises
    ------
    ConvergenceError
        If the posterior has no mode that could be found.
    NotSupportedError
        If the model is not built for the draws, or a prior has no finite mass.
    """
    constant = prior_constant(model, Coordinates.unconstrained(model).outer)
    with one_thread(), np.errstate(all="ignore"):
        weigh = _gaussian if can_be_collapsed(model) else _rows
        weighed, rest, error = weigh(model, seed, draws)
    weights = np.exp(weighed.log_weight - weighed.log_weight.max())
    own = float(np.std(weights) / weights.mean() / np.sqrt(len(weights)))
    value = weighed.log_weight.max() + np.log(weights.mean()) + rest + constant
    k = weighed.weights.pareto_k
    how = f"importance sampling around the mode, Pareto k {k:.2f}"
    # Of weights that hardly differ, the tail decides nothing.
    alike = weighed.weights.effective > ALIKE * len(weights)
    return Evidence(
        float(value), float(np.hypot(own, error)), how, weighed.weights.reliable or alike
    )


def prior_constant(model: Model, outer: Outer) -> float:
    """
    Give the log of what the priors' densities on arrays lack.

    Parameters that ascend have their priors' density given that they do.

    Raises
    ------
    NotSupportedError
        If a prior has no finite mass.
    """
    total = sum(log_constant(form) for form, _ in outer.forms)
    if not len(outer.rising):
        return total
    rng = np.random.default_rng(0)
    priors = [prior for block in model.blocks for prior in block.priors]
    own = [priors[k] for k in outer.rising]
    if len({repr(prior) for prior in own}) == 1:
        return total + float(np.log(np.arange(1, len(own) + 1)).sum())
    ascends = np.diff(np.column_stack([p.sample(rng, (ENVELOPE,)) for p in own]), axis=1) > 0
    return total - float(np.log(ascends.all(axis=1).mean()))


def _rows(model: Model, seed: int, draws: int) -> tuple[Weighed, float, float]:
    """Weigh draws of any response; and give the log of what the weights lack, with its error."""
    settings = Settings(seed, -(-draws // CHAINS), 0, CHAINS, 1, False)
    surveyed = Surveyed(model, None, seed)
    first = surveyed.prepared(Plan(integrated=True, depth=0))
    used, _, weighed = draw_approximately(surveyed, first, settings)
    target, problem = used.around.target, used.around.problem
    rest = verify(used.around, used.surrogate) + _of_mean_prior(target, weighed)
    rest -= 0.5 * target.latent.size * LOG_2PI + _log_student(problem.columns, TAIL)
    rest += problem.columns * np.log(WIDER)
    value, error = log_integral(used.surrogate, seed)
    return weighed, rest + value, error


def _gaussian(model: Model, seed: int, draws: int) -> tuple[Weighed, float, float]:
    """Do the same where all but few parameters are integrated out."""
    way = INDEPENDENT if model.design.residual is None else CORRELATED
    mode = find_mode(way.read(model))
    posterior = mode.posterior
    surrogate = fit_surrogate(
        posterior, mode.psi, mode.axes, tolerance=CLOSER, many=way.many(posterior)
    )
    left_out = way.verify(posterior, surrogate)
    proposer = way.choose(mode, surrogate)
    if not proposer.exact:
        proposer = Proposer(one_by_one(posterior), CHUNK, exact=True)
    weighed = draw_and_weigh(proposer, surrogate, np.random.default_rng(seed), draws)
    rest = left_out + _of_mean_prior(posterior, weighed)
    rest += 0.5 * len(posterior.gamma) * LOG_2PI
    value, error = log_integral(surrogate, seed)
    return weighed, rest + value, error


def _of_mean_prior(posterior: OuterPosterior, weighed: Weighed) -> float:
    """Give what the densities of psi and of gamma lack of their joint prior's: a constant."""
    at = np.flatnonzero(np.isfinite(weighed.log_weight))[:1]
    without = posterior.tiled(weighed.psi[at])
    whole = without.copy()
    whole[:, posterior.mean] = weighed.gamma[at]
    (joint,), (alone,) = (posterior.log_prior.densities(x)[1] for x in (whole, without))
    return float(joint - alone - posterior.prior.log_density(weighed.gamma[at])[0])


def log_integral(surrogate: Any, seed: int) -> tuple[float, float]:
    """Give the log of the integral of a surrogate's density, by draws of Student's t; its error."""
    if not hasattr(surrogate, "bend"):
        return 0.0, 0.0  # of no parameters
    d, rng = len(surrogate.origin), np.random.default_rng([seed, 3])
    z = rng.standard_normal((ENVELOPE, d))
    z /= np.sqrt(rng.chisquare(FREEDOM, (ENVELOPE, 1)) / FREEDOM)
    log_q = _log_student(d, FREEDOM) - 0.5 * (FREEDOM + d) * np.log1p(
        np.square(z).sum(axis=1) / FREEDOM
    )
    log_q = log_q - surrogate.bend.jacobian(z)[1] - np.linalg.slogdet(surrogate.axes)[1]
    x = surrogate.origin + surrogate.bend(z) @ surrogate.axes.T
    log_weight = surrogate.log_density(x) - log_q
    weights = np.exp(log_weight - log_weight.max())
    error = np.std(weights) / weights.mean() / np.sqrt(ENVELOPE)
    return float(log_weight.max() + np.log(weights.mean())), float(error)


def _log_student(d: int, nu: float) -> float:
    """Give the log of the constant of Student's t in d dimensions, in standard units."""
    from scipy.special import gammaln

    return float(gammaln((nu + d) / 2) - gammaln(nu / 2) - 0.5 * d * np.log(nu * np.pi))
