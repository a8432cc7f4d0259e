"""The log density of a response whose residuals vary together, with its slopes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from glmm_bayes.engine.density.joint import Between
from glmm_bayes.engine.tails import Tails

type Function = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Together:
    """
    y = mu + s e: e normal or t, of the precision between rows that `between` gives.

    Attributes
    ----------
    y
        `(n,)`.
    linkinv, slope
        From what sigma's predictor is to s, and ds by it.
    tails
        Those of e.
    """

    y: np.ndarray
    between: Between
    linkinv: Function
    slope: Function
    tails: Tails

    def __call__(
        self, values: dict[str, np.ndarray], theta: np.ndarray
    ) -> tuple[float, dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Give the log density, and its slopes by the predictors and by the parameters of e."""
        sd = np.broadcast_to(self.linkinv(values["sigma"]), self.y.shape)
        e = (self.y - values["mu"]) / sd
        pattern, Q = self.between.pattern, self.between.precision(theta)
        Qe = pattern.times(Q, e[:, None])[:, 0]
        found = self.tails.weigh(e, Qe, values)
        value = found.value + 0.5 * Q.log_determinant - float(np.log(sd).sum())
        pull, root = found.weight * Qe, (np.sqrt(found.weight) * e)[:, None]
        by_sigma = (e * pull - 1) / sd * self.slope(values["sigma"])
        by_theta = self.between.back(theta, -0.5 * pattern.products(root, root), 0.5)
        return value, {"mu": pull / sd, "sigma": by_sigma, **found.slopes}, by_theta
