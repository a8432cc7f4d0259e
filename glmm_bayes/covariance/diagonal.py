"""Columns that vary independently."""

from collections.abc import Mapping
from typing import Any, override

from glmm_bayes.arrays import NUMPY
from glmm_bayes.covariance.base import Covariance
from glmm_bayes.covariance.structure import CovarianceParameter, sd_parameter


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
    """`homdiag(0 + f | g)`: cov = sd^2 I, one standard deviation for all columns."""

    name = "homdiag"
    compiled = "homdiag"

    @override
    def parameters(self, size: int) -> tuple[CovarianceParameter, ...]:
        return (sd_parameter(1, by_column=False),)

    @override
    def factor(self, theta: Mapping[str, Any], size: int, xp: Any = NUMPY) -> Any:
        return theta["sd"][0] * xp.eye(size)
