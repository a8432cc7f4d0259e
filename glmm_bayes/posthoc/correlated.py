"""The marginal posterior of a normal response whose residuals vary together, and its draws."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from glmm_bayes.engine.correlated import CorrelatedNormal, Solved
from glmm_bayes.engine.latent import Latent
from glmm_bayes.engine.newton import Normal
from glmm_bayes.engine.polynomials.surrogate import Surrogate
from glmm_bayes.model import Model
from glmm_bayes.modes.correlated import read_normal, refuse_student
from glmm_bayes.posthoc.mean_prior import MeanPrior
from glmm_bayes.posthoc.outer import OuterMode, OuterPosterior, Reading
from glmm_bayes.posthoc.proposals import CHUNK, Propose, Proposer
from glmm_bayes.posthoc.verify import POINTS, Points
from glmm_bayes.posthoc.weighed import Weighed


@dataclass(eq=False)
class CorrelatedPosterior(OuterPosterior):
    """
    The posterior of psi, the coordinates of all but effects and the mean's coefficients.

    Exact where the coefficients' prior is normal; else a normal stands in for it.
    """

    normal: CorrelatedNormal

    @property
    def latent(self) -> Latent:
        """The effects, as the engine has them."""
        return self.normal.system.latent

    @property
    def stand_in(self) -> Normal:
        """The normal in the place of the coefficients' prior."""
        assert self.normal.prior is not None
        return self.normal.prior

    @stand_in.setter
    def stand_in(self, normal: Normal) -> None:
        self.normal.prior = normal

    def evaluated(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Give the log density of psi and its slope."""
        full, c = self.tiled(x), self.coordinates
        coefficients = [self.gamma, c.split(full)[1]]
        at = c.Lambdas(full), c.all_precisions(full)
        found = self.normal.marginal(coefficients, *at, joint=True)
        self.gamma = np.asarray(found.coefficients[0])
        by_coefficients = [np.zeros(len(c.held[0])), found.by_coefficients[1]]
        log_prior, by_x = self.log_prior.density(full)
        slope = c.pull(full, by_coefficients, found.by_Lambda, found.by_precision)
        return found.value + log_prior, (slope + by_x)[self.outer]

    def solved(self, psi: np.ndarray) -> tuple[Solved, list[np.ndarray]] | None:
        """Give effects and coefficients at one psi `(d,)`, and the factors; None where none are."""
        full, c = self.tiled(psi), self.coordinates
        Lambdas = c.Lambdas(full)
        try:
            with np.errstate(all="ignore"):
                coefficients = [self.gamma, c.split(full)[1]]
                found = self.normal.solved(
                    coefficients, Lambdas, c.all_precisions(full), joint=True
                )
        except np.linalg.LinAlgError:
            return None
        return (found, Lambdas) if np.isfinite(found.value) else None

    def correction(self, gamma: np.ndarray) -> np.ndarray:
        """Give the log ratio `(S,)` of the prior of gamma `(S, k)` to the normal in its place."""
        off = gamma - self.stand_in.mean
        square = np.einsum("si,ij,sj->s", off, self.stand_in.precision, off)
        found: np.ndarray = self.prior.log_density(gamma) + 0.5 * square
        return found


def read_posterior(model: Model) -> CorrelatedPosterior:
    """
    Read a model.

    Raises
    ------
    NotSupportedError
        If too many rows vary together, or they are t and not normal.
    """
    refuse_student(model, "fit('posthoc')")
    read, normal = Reading.of(model), read_normal(model)
    offset = normal.offset.copy()
    offset[0] += read.fixed
    own = CorrelatedNormal(
        normal.y, [read.columns, normal.X[1]], offset, normal.linkinv, normal.slope,
        type(normal.system)(normal.system.latent, read.columns, normal.system.Z), normal.turning,
    )  # fmt: skip
    return CorrelatedPosterior(
        read.coordinates, MeanPrior.of(read.coordinates), read.reference, own
    )


def choose_proposer(mode: OuterMode[CorrelatedPosterior], surrogate: Surrogate) -> Proposer:
    """Propose effects and coefficients from one factorisation a draw."""
    return Proposer(_one_by_one(mode.posterior), CHUNK, exact=True)


def _one_by_one(posterior: CorrelatedPosterior) -> Propose:
    latent, k = posterior.latent, len(posterior.gamma)

    def propose(psi: np.ndarray, log_q: np.ndarray, rng: np.random.Generator) -> Weighed:
        log_posterior = posterior.log_prior.densities(posterior.tiled(psi))[1]
        gamma = np.zeros((len(psi), k))
        effects = [np.zeros((len(psi), term.q, term.p)) for term in latent.terms]
        for i in range(len(psi)):
            zu, zx = rng.standard_normal(latent.size), rng.standard_normal(k)
            at = posterior.solved(psi[i]) if np.isfinite(log_posterior[i]) else None
            if at is None:
                log_posterior[i] = -np.inf
                continue
            found, Lambdas = at
            v, gamma[i] = found.draw(zu, zx)
            log_posterior[i] += found.value
            for into, b in zip(effects, latent.effects(v, Lambdas), strict=True):
                into[i] = b
        log_posterior += posterior.correction(gamma)
        return Weighed.by(psi, gamma, effects, log_posterior, log_q)

    return propose


def verify(posterior: CorrelatedPosterior, surrogate: Any) -> float:
    """
    Compare the marginal density with the design's, as `verify.verify_marginal` does.

    Gives what it lacks.

    Raises
    ------
    NotSupportedError
        If they do not agree.
    """
    rng, points = np.random.default_rng(0), Points()
    psi, _ = surrogate.sample(rng, POINTS)
    latent = posterior.latent
    for i in range(POINTS):
        at = posterior.solved(psi[i])
        if at is None:
            continue
        found, Lambdas = at
        zu, zx = rng.standard_normal(latent.size), rng.standard_normal(len(found.gamma))
        v, gamma = found.draw(zu, zx)
        given = 0.5 * found.factor.log_determinant - 0.5 * float(zu @ zu + zx @ zx)
        precisions = found.factor.spread.precisions
        prior = posterior.stand_in.log_density(gamma)
        prior += 0.5 * latent.log_prior_determinant(precisions)
        prior -= 0.5 * float(v @ latent.times_prior(v, precisions))
        points.add(psi[i], gamma, list(latent.effects(v, Lambdas)), found.value + given - prior)
    return points.compare(posterior)
