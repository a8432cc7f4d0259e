"""The marginal posterior of the outer parameters of a Gaussian response."""

from dataclasses import dataclass, field

import numpy as np

from glmm_bayes.engine.algebra.systems import build_system
from glmm_bayes.engine.collapsed import Collapsed
from glmm_bayes.engine.gaussian import Gaussian
from glmm_bayes.engine.latent import Latent
from glmm_bayes.engine.newton import Normal
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.model import Model
from glmm_bayes.posthoc.mean_prior import MeanPrior
from glmm_bayes.posthoc.outer import OuterPosterior, Reading

STEP = 1e-5  # between values of the prior that make its slope


def can_be_collapsed(model: Model) -> bool:
    """
    Tell whether effects and coefficients have a normal distribution given the rest, in closed form.

    With a structure of residuals they always have. Else levels that depend on each other have none
    that is built.
    """
    if model.design.residual is not None:
        return True
    return (
        model.family.normal
        and all(term.level_structure.pairs is None for term in model.design.terms)
        and model.links["mu"].name == "identity"
        and set(model.design.predictors) == {"mu"}
    )


@dataclass(eq=False)
class MarginalPosterior(OuterPosterior):
    """
    The posterior of psi, the coordinates of sigma and the terms: all else is integrated out.

    Exact where the coefficients' prior is normal; else a normal stands in for it.

    Attributes
    ----------
    gaussian, collapsed
        The response on its cross-products, and the same with everything integrated out.
    """

    gaussian: Gaussian
    collapsed: Collapsed = field(init=False)

    @property
    def latent(self) -> Latent:
        """The effects, as the engine has them."""
        return self.gaussian.system.latent

    @property
    def stand_in(self) -> Normal:
        """The normal in the place of the coefficients' prior."""
        return self.collapsed.prior

    @stand_in.setter
    def stand_in(self, normal: Normal) -> None:
        self.collapsed = Collapsed(self.gaussian, normal)

    def evaluated(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Give the log density of psi and its slope."""
        full, d = self.tiled(x), len(x)
        # All at once: to evaluate the prior many times costs little more than once.
        moves = np.vstack([np.zeros(d), STEP * np.eye(d), -STEP * np.eye(d)])
        log_prior = self.log_prior.densities(self.tiled(x + moves))[1]
        at = self.coordinates.split(full)[1]
        link = self.model.links[self._residual]
        sigma = float(link.linkinv(at)[0])
        found = self.collapsed.solved(sigma, self.coordinates.Lambdas(full))
        self.gamma = found.gamma
        by_log_sigma, by_Lambda = self.collapsed.slopes(found)
        none = np.zeros(len(self.coordinates.held[0]))
        by_coefficients = [none, by_log_sigma * link.slope(at) / sigma]
        slope = self.coordinates.pull(full, by_coefficients, by_Lambda)[self.outer]
        by_x = (log_prior[1 : 1 + d] - log_prior[1 + d :]) / (2 * STEP)
        return found.value + float(log_prior[0]), slope + by_x

    @property
    def _residual(self) -> str:
        """The name of the residual standard deviation."""
        return self.model.family.parameters[1].name

    def parameters(
        self, psi: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, list[np.ndarray], np.ndarray]:
        """
        Read many psi `(S, d)`.

        Returns
        -------
        theta, sigma, Lambdas, log_prior
            `(S, m)` in the model's layout, the coefficients at the reference; `(S,)`; by term
            `(S, p, p)`; `(S,)` the log prior density of psi.
        """
        theta, log_prior = self.log_prior.densities(self.tiled(psi))
        sigma = theta[:, self.model.layout[self._residual]][:, 0]
        return theta, sigma, self.factors(theta), log_prior

    def correction(self, gamma: np.ndarray) -> np.ndarray:
        """Give the log ratio `(S,)` of the prior of gamma `(S, k)` to the normal in its place."""
        off = gamma - self.stand_in.mean
        square = np.einsum("si,ij,sj->s", off, self.stand_in.precision, off)
        found: np.ndarray = self.prior.log_density(gamma) + 0.5 * square
        return found


def read_marginal(model: Model) -> MarginalPosterior:
    """
    Read a model: coefficients held fixed by their priors are taken off the response.

    Raises
    ------
    NotSupportedError
        If so many levels meet that there is no root of their equations.
    """
    read, response = Reading.of(model), model.design.response
    y = model.family.working(response.y) - model.design.predictors["mu"].offset - read.fixed
    w = np.ones(model.nobs) if response.weights is None else response.weights
    system = build_system(read.latent, read.columns)
    if not system.has_root:
        raise NotSupportedError(
            "So many levels meet that their equations have no root to sample from; "
            "fit('nuts') draws from the same posterior."
        )
    at = system.order
    gaussian = Gaussian(system, system.X, y[at], w[at], float(w.sum()))
    prior = MeanPrior.of(read.coordinates)
    return MarginalPosterior(read.coordinates, prior, read.reference, gaussian)
