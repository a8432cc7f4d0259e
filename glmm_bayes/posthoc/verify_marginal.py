"""Whether a marginal posterior in closed form is the model's: looked at before every run."""

import numpy as np

from glmm_bayes.engine.surrogate import Surrogate
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.posthoc.drawn import Drawn
from glmm_bayes.posthoc.marginal import MarginalPosterior
from glmm_bayes.posthoc.verify import POINTS, SAME
from glmm_bayes.results import log_likelihood


def verify_marginal(posterior: MarginalPosterior, surrogate: Surrogate) -> None:
    """
    Compare the rows' log likelihood with what Bayes' rule makes of the marginal density.

    At draws of everything, log p(y | b, gamma) is log p(y) + log p(b, gamma | y) less the log
    density of b and gamma; both sides may differ by a constant.

    Raises
    ------
    NotSupportedError
        If they do not agree.
    """
    rng = np.random.default_rng(0)
    psi, _ = surrogate.sample(rng, POINTS)
    _, sigma, Lambdas, _ = posterior.parameters(psi)
    latent = posterior.latent
    gamma, effects, ours = [], [], []
    for i in range(POINTS):
        own = [L[i] for L in Lambdas]
        found = posterior.collapsed.solved(float(sigma[i]), own)
        zu, zx = rng.standard_normal(latent.size), rng.standard_normal(len(found.gamma))
        v, coefficients = found.draw(zu, zx)
        given = 0.5 * found.factor.log_determinant - len(zx) * np.log(sigma[i])
        given -= 0.5 * (float(zu @ zu) + float(zx @ zx))
        prior = posterior.stand_in.log_density(coefficients) - 0.5 * float(v @ v)
        ours.append(found.value + given - prior)
        gamma.append(coefficients)
        effects.append(latent.effects(v, own))
    by_term = [np.stack(b)[None] for b in zip(*effects, strict=True)]
    draws, _ = Drawn(psi[None], np.stack(gamma)[None], by_term, {}).named(posterior)
    theirs = log_likelihood(posterior.model, draws)["y"].to_numpy().sum(axis=2)[0]
    gaps = theirs - np.array(ours)
    if not np.ptp(gaps) <= SAME * (1.0 + np.abs(theirs).max()):
        raise NotSupportedError(
            f"The density on cross-products and the model's differ by {np.ptp(gaps):.3g} between "
            f"draws, where they should differ by a constant"
        )
