"""Columns that vary independently."""

from collections.abc import Mapping
from typing import Any, override

import numpy as np

from glmm_bayes.arrays import NUMPY
from glmm_bayes.covariance.base import Covariance
from glmm_bayes.covariance.structure import CovarianceParameter, sd_parameter

BESIDE = 0.03  # of its usual start, where another term is to explain what this one might


class Diagonal(Covariance):
    """
    `diag(1 + x | g)`, `(1 + x || g)`: cov = diag(sd_1^2, …, sd_p^2).

    Parameters: `sd > 0`, one a column, on the link scale (for a slope, per unit of its column).
    """

    name = "diag"
    compiled = "diag"

    @override
    def parameters(self, size: int) -> tuple[CovarianceParameter, ...]:
        return (sd_parameter(size),)

    @override
    def factor(self, theta: Mapping[str, Any], size: int, xp: Any = NUMPY) -> Any:
        return theta["sd"][:, None] * xp.eye(size)


class HomogeneousDiagonal(Covariance):
    """
    `homdiag(0 + f | g)`: cov = sd^2 I, one standard deviation for all columns.

    Where `rivals` terms explain nearly the same, as the parts of a surface do, each of them alone
    may be a maximum, so that each is a start; this is the one at `place` among them.
    """

    name = "homdiag"
    compiled = "homdiag"

    def __init__(self, place: int = 0, rivals: int = 1) -> None:
        self.place = place
        self.rivals = rivals

    @override
    def tries(self, size: int) -> int:
        return 1 if self.rivals == 1 else 1 + self.rivals

    @override
    def start(
        self, sd: np.ndarray, size: int, seen: np.ndarray | None = None, attempt: int = 0
    ) -> dict[str, np.ndarray]:
        beside = attempt not in (0, 1 + self.place)
        return super().start(BESIDE * sd if beside else sd, size, seen)

    @override
    def parameters(self, size: int) -> tuple[CovarianceParameter, ...]:
        return (sd_parameter(1, by_column=False),)

    @override
    def factor(self, theta: Mapping[str, Any], size: int, xp: Any = NUMPY) -> Any:
        return theta["sd"][0] * xp.eye(size)
