"""Effects and coefficients of a Gaussian response: normal, but for the coefficients' prior."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from glmm_bayes.engine.around.thirdorder import rooted
from glmm_bayes.engine.around.variational import believed
from glmm_bayes.engine.collapsed import Collapsed, Solved
from glmm_bayes.engine.newton import Normal
from glmm_bayes.posthoc.given import Given, Node, bent_draws
from glmm_bayes.posthoc.marginal import MarginalPosterior

ROUNDS = 4  # in which the prior's normal stand-in settles
WEAKEST = 0.25  # of a prior's squared slope: a normal in its place has at least this precision


@dataclass(frozen=True, eq=False)
class Kept:
    """The normal in the prior's place, and the prior's third derivatives `(k,)` on average."""

    stand_in: Normal
    third: np.ndarray


class GivenGaussian(Given):
    """Exactly normal under a normal prior of the coefficients; another's is averaged over."""

    def __init__(self, target: MarginalPosterior) -> None:
        super().__init__(target, target.latent, len(target.gamma))

    def visited(self, psi: np.ndarray) -> Node:
        """Compute at psi."""
        sigma, Lambdas = self._given(psi)
        usual = found = self.target.collapsed.solved(sigma, Lambdas)
        stand_in = self.target.stand_in
        for _ in range(ROUNDS if self.k else 0):
            belief = believed(self.target.prior, stand_in, found.gamma, self._own(found))
            precision = np.maximum(belief.precision, WEAKEST * belief.slope**2)
            step = np.divide(belief.slope, precision, out=np.zeros(self.k), where=precision > 0)
            stand_in = Normal(found.gamma + step, np.diag(precision))
            found = self._solved(sigma, Lambdas, stand_in)
        variances = self._own(found)
        belief = believed(self.target.prior, stand_in, found.gamma, variances)
        instead = stand_in.log_density(found.gamma)
        instead -= 0.5 * float(np.diag(stand_in.precision) @ variances)
        V = sigma**2 * found.factor.coefficient_inverse() if self.k else np.empty((0, 0))
        gain = found.value - usual.value + belief.value - instead
        gain += float(belief.third @ V**3 @ belief.third) / 12
        C = self.reported(self._beside(found), Lambdas)
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
        sigma, Lambdas = self._given(node.psi)
        found = self._solved(sigma, Lambdas, node.kept.stand_in)
        x = rooted(found.factor, rng.standard_normal((size, self.N + self.k)), self.N)
        x[:, self.N :] *= sigma
        score = node.kept.third * (x[:, self.N :] ** 2 - self._own(found))
        drawn = bent_draws(x, score @ self._beside(found), rng)
        return self.reported(drawn, Lambdas)[:, : self.k + self.N]

    def _given(self, psi: np.ndarray) -> tuple[float, list[np.ndarray]]:
        _, sigma, Lambdas, _ = self.target.parameters(psi[None])
        return float(sigma[0]), [L[0] for L in Lambdas]

    def _solved(self, sigma: float, Lambdas: Sequence[np.ndarray], prior: Normal) -> Solved:
        collapsed: Collapsed = replace(self.target.collapsed, prior=prior)
        return collapsed.solved(sigma, Lambdas)

    def _own(self, found: Solved) -> np.ndarray:
        """Give the coefficients' variances `(k,)`."""
        if not self.k:
            return np.empty(0)
        return np.asarray(found.sigma**2 * np.diag(found.factor.coefficient_inverse()))

    def _beside(self, found: Solved) -> np.ndarray:
        """Give the coefficients' covariances with everything `(k, N + k)`."""
        C = np.empty((self.k, self.N + self.k))
        for row, unit in zip(C, np.eye(self.k), strict=True):
            row[: self.N], row[self.N :] = found.factor.solve(np.zeros(self.N), unit)
        C[:, : self.N] *= found.sigma
        C[:, self.N :] *= found.sigma**2
        return C
