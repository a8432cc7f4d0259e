"""Effects and coefficients of a Gaussian response: normal, but for the coefficients' prior."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from glmm_bayes.engine.around.thirdorder import rooted
from glmm_bayes.engine.around.variational import believed
from glmm_bayes.engine.newton import Normal
from glmm_bayes.posthoc.given import Given, Node, bent_draws

ROUNDS = 4  # in which the prior's normal stand-in settles
WEAKEST = 0.25  # of a prior's squared slope: a normal in its place has at least this precision


@dataclass(frozen=True, eq=False)
class Kept:
    """The normal in the prior's place, and the prior's third derivatives `(k,)` on average."""

    stand_in: Normal
    third: np.ndarray


@dataclass(frozen=True, eq=False)
class Equations:
    """
    The normal equations at one psi.

    Attributes
    ----------
    Lambdas
        The factors of all terms.
    scale
        Times what the coefficients' covariance is its factor's, as a standard deviation.
    solved
        From the coefficients' normal prior to the solution.
    """

    Lambdas: Sequence[np.ndarray]
    scale: float
    solved: Callable[[Normal], Any]


class GivenNormal(Given):
    """Exactly normal under a normal prior of the coefficients; another's is averaged over."""

    def __init__(self, target: Any) -> None:
        super().__init__(target, target.latent, len(target.gamma))

    @abstractmethod
    def _equations(self, psi: np.ndarray) -> Equations:
        """Set them up."""

    def visited(self, psi: np.ndarray) -> Node:
        """Compute at psi."""
        at = self._equations(psi)
        Lambdas, scale = at.Lambdas, at.scale
        usual = found = at.solved(self.target.stand_in)
        stand_in = self.target.stand_in
        for _ in range(ROUNDS if self.k else 0):
            belief = believed(self.target.prior, stand_in, found.gamma, self._own(found, scale))
            precision = np.maximum(belief.precision, WEAKEST * belief.slope**2)
            step = np.divide(belief.slope, precision, out=np.zeros(self.k), where=precision > 0)
            stand_in = Normal(found.gamma + step, np.diag(precision))
            found = at.solved(stand_in)
        variances = self._own(found, scale)
        belief = believed(self.target.prior, stand_in, found.gamma, variances)
        instead = stand_in.log_density(found.gamma)
        instead -= 0.5 * float(np.diag(stand_in.precision) @ variances)
        V = scale**2 * found.factor.coefficient_inverse() if self.k else np.empty((0, 0))
        gain = found.value - usual.value + belief.value - instead
        gain += float(belief.third @ V**3 @ belief.third) / 12
        C = self.reported(self._beside(found, scale), Lambdas)
        pulled = belief.third[:, None] * C
        variance = self.variances(V, found.factor.variances(), Lambdas)
        variance = variance + 0.5 * np.einsum("ia,ij,ja->a", pulled, V**2, pulled)
        with np.errstate(all="ignore"):
            skewness = np.nan_to_num((belief.third @ C**3) / variance**1.5)
        mean = self.means(found.u, found.gamma, Lambdas)
        none, kept = np.zeros(self.k), Kept(stand_in, belief.third)
        return Node(psi, gain, mean, variance, skewness, none, settled=True, kept=kept)

    def deviations(self, node: Node, rng: np.random.Generator, size: int) -> np.ndarray:
        """Draw coefficients and effects less their mean, `(size, k + N)`."""
        at = self._equations(node.psi)
        scale, found = at.scale, at.solved(node.kept.stand_in)
        x = rooted(found.factor, rng.standard_normal((size, self.N + self.k)), self.N)
        x[:, self.N :] *= scale
        score = node.kept.third * (x[:, self.N :] ** 2 - self._own(found, scale))
        drawn = bent_draws(x, score @ self._beside(found, scale), rng)
        return self.reported(drawn, at.Lambdas)[:, : self.k + self.N]

    def _own(self, found: Any, scale: float) -> np.ndarray:
        """Give the coefficients' variances `(k,)`."""
        if not self.k:
            return np.empty(0)
        return np.asarray(scale**2 * np.diag(found.factor.coefficient_inverse()))

    def _beside(self, found: Any, scale: float) -> np.ndarray:
        """Give the coefficients' covariances with everything `(k, N + k)`."""
        C = np.empty((self.k, self.N + self.k))
        for row, unit in zip(C, np.eye(self.k), strict=True):
            row[: self.N], row[self.N :] = found.factor.solve(np.zeros(self.N), unit)
        C[:, : self.N] *= scale
        C[:, self.N :] *= scale**2
        return C


class GivenGaussian(GivenNormal):
    """Of a response on its cross-products."""

    def _equations(self, psi: np.ndarray) -> Equations:
        _, sigma, Lambdas, _ = self.target.parameters(psi[None])
        at, factors = float(sigma[0]), [L[0] for L in Lambdas]

        def solved(prior: Normal) -> Any:
            return replace(self.target.collapsed, prior=prior).solved(at, factors)

        return Equations(factors, at, solved)


class GivenCorrelated(GivenNormal):
    """Of a response whose residuals vary together: turned rows are over sigma already."""

    def _equations(self, psi: np.ndarray) -> Equations:
        full, c = self.target.tiled(psi), self.target.coordinates
        Lambdas, precisions = c.Lambdas(full), c.all_precisions(full)
        coefficients = [self.target.gamma, c.split(full)[1]]

        def solved(prior: Normal) -> Any:
            own = replace(self.target.normal, prior=prior)
            return own.solved(coefficients, Lambdas, precisions, joint=True)

        return Equations(Lambdas, 1.0, solved)
