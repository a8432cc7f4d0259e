"""A t response whose residuals vary together, without random effects: its density by all else."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from glmm_bayes.engine.algebra.dense import Dense
from glmm_bayes.engine.laplace import Marginal
from glmm_bayes.engine.latent import Precision, Precisions
from glmm_bayes.engine.tails import StudentTails
from glmm_bayes.engine.turning import Turning
from glmm_bayes.errors import NotSupportedError

type Function = Callable[[np.ndarray], np.ndarray]


@dataclass(eq=False)
class CorrelatedStudent:
    """
    y = offset + X gamma + s e: e multivariate t of scale Q^-1, s and nu functions of predictors.

    It has what `Laplace` has, where nothing has to be integrated out.

    Parameters
    ----------
    y
        `(n,)`.
    X
        `(n, k)` for the mean, for s and for nu.
    offset
        `(3, n)`.
    linkinv, slope
        Of s and of nu: from a predictor, and the derivative by it.
    system
        The algebra of no effects.
    turning
        Where Q has entries.
    """

    means: ClassVar[int] = 1
    integrates_means: ClassVar[bool] = False

    y: np.ndarray
    X: Sequence[np.ndarray]
    offset: np.ndarray
    linkinv: Sequence[Function]
    slope: Sequence[Function]
    system: Dense
    turning: Turning
    name: str
    u: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.u = np.zeros(0)
        self._tails = StudentTails.of(self.turning, self.name)

    def marginal(
        self,
        coefficients: Sequence[np.ndarray],
        Lambdas: Sequence[np.ndarray],
        precisions: Precisions,
        *,
        joint: bool,
    ) -> Marginal:
        """
        Give the density, with the gradient.

        Raises
        ------
        NotSupportedError
            If the coefficients are to be integrated out.
        """
        if joint:
            raise NotSupportedError(
                "The mean's coefficients of a t response whose residuals vary together are not "
                "integrated out: use fit('ml'), fit('map') or fit('nuts')."
            )
        Q = precisions[-1]
        assert Q is not None
        each = zip(self.offset, self.X, coefficients, strict=True)
        eta = np.stack([offset + X @ c for offset, X, c in each])
        sd, nu = (f(part) for f, part in zip(self.linkinv, eta[1:], strict=True))
        e = (self.y - eta[0]) / sd
        Qe = self.turning.pattern.matrix(Q.values) @ e
        found = self._tails.weigh(e, Qe, {self.name: nu})
        value = found.value + 0.5 * Q.log_determinant - float(np.log(sd).sum())
        pull, root = found.weight * Qe, np.sqrt(found.weight) * e
        by_sd = (e * pull - 1) / sd * self.slope[0](eta[1])
        # All rows have one nu, whose column is of ones.
        by_nu = found.slopes[self.name] * self.slope[1](eta[2])[:1]
        by_Q = Precision(-0.5 * self.turning.pattern.products(root[:, None], root[:, None]), 0.5)
        factor = self.system.at([], []).factor(np.ones((1, 1, len(e))), joint=False)
        by_coefficients = [self.X[0].T @ (pull / sd), self.X[1].T @ by_sd, by_nu]
        return Marginal(value, by_coefficients, [], [by_Q], self.u, list(coefficients), factor, eta)

    def effects_mode(
        self,
        coefficients: Sequence[np.ndarray],
        Lambdas: Sequence[np.ndarray],
        precisions: Precisions,
    ) -> np.ndarray:
        """Give none."""
        return self.u
