"""The marginal density of a model whose levels are of a few classes: these are summed over."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import ndtr

from glmm_bayes.engine.latent import Precisions
from glmm_bayes.model import Model
from glmm_bayes.modes.masses import read_masses


class ByMasses:
    """Any response, as `collapsed.Marginal`."""

    is_exact = True

    def __init__(self, model: Model) -> None:
        self._sum = read_masses(model)

    def value_and_slopes(
        self, coefficients: list[np.ndarray], Lambdas: list[np.ndarray], precisions: Precisions
    ) -> tuple[float, Sequence[Any], Sequence[np.ndarray], Precisions]:
        """Give log p(y) and its slopes, by the masses in the place of a precision."""
        return self._sum.value_and_slopes(coefficients, Lambdas, precisions)

    def draw(
        self,
        coefficients: list[np.ndarray],
        Lambdas: list[np.ndarray],
        precisions: Precisions,
        z: np.ndarray,
    ) -> tuple[list[np.ndarray], float]:
        """Draw every level's class by its probability given the responses, and so its effect."""
        assert precisions[0] is not None
        location, _ = np.split(precisions[0].values, 2)
        up_to = np.cumsum(self._sum.probabilities(coefficients, Lambdas, precisions), axis=1)
        kind = (ndtr(z)[:, None] > up_to[:, :-1]).sum(axis=1)
        return [Lambdas[0][0, 0] * location[kind][:, None]], 0.0
