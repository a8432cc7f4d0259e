"""Columns that vary independently, and levels that do."""

from collections.abc import Mapping
from typing import Any, override

from glmm_bayes.arrays import NUMPY
from glmm_bayes.covariance.base import Covariance, CovarianceParameter, sd_parameter


class Diagonal(Covariance):
    """
    `diag(1 + x | g)`, `(1 + x || g)`: cov = diag(sd_1^2, …, sd_p^2).

    Parameters: `sd > 0`, one a column, on the link scale (for a slope, per unit of its column).
    """

    name = "diag"
    axis = "columns"
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
    axis = "columns"
    compiled = "homdiag"

    @override
    def parameters(self, size: int) -> tuple[CovarianceParameter, ...]:
        return (sd_parameter(1, by_column=False),)

    @override
    def factor(self, theta: Mapping[str, Any], size: int, xp: Any = NUMPY) -> Any:
        return theta["sd"][0] * xp.eye(size)


class Independent(Covariance):
    """Independent levels, the ordinary grouping: R = I, no parameters."""

    name = "iid"
    axis = "levels"

    @override
    def parameters(self, size: int) -> tuple[CovarianceParameter, ...]:
        return ()

    @override
    def factor(self, theta: Mapping[str, Any], size: int, xp: Any = NUMPY) -> Any:
        return xp.eye(size)
