"""Columns that all correlate alike: compound symmetry."""

from collections.abc import Mapping
from typing import Any, override

from glmm_bayes.arrays import NUMPY
from glmm_bayes.covariance.base import Covariance, CovarianceParameter, sd_parameter
from glmm_bayes.priors import Prior


class CompoundSymmetry(Covariance):
    """
    `cs(0 + f | g)`: cov(b_i, b_j) = sd_i sd_j rho for i != j.

    Parameters: `sd > 0`, one a column, on the link scale; `rho` between -1/(p - 1), the least
    for which the matrix is positive definite, and 1.
    """

    name = "cs"
    axis = "columns"
    homogeneous = False

    @override
    def parameters(self, size: int) -> tuple[CovarianceParameter, ...]:
        sd = sd_parameter(1, by_column=False) if self.homogeneous else sd_parameter(size)
        if size == 1:
            return (sd,)
        lower = -1.0 / (size - 1)
        return sd, CovarianceParameter("rho", "rho", 1, False, (lower, 1.0))

    @override
    def factor(self, theta: Mapping[str, Any], size: int, xp: Any = NUMPY) -> Any:
        # Not a column of one entry: a graph that does not know its length will not broadcast it.
        sd = theta["sd"][0] if self.homogeneous else theta["sd"][:, None]
        if size == 1:
            return sd * xp.eye(1)
        rho = theta["rho"][0]
        # Of the correlation matrix's Cholesky factor, column j is d_j, then l_j all the way down.
        d, low = [], []
        for j in range(size):
            before = 1 + (j - 1) * rho
            d.append(xp.sqrt((1 - rho) * (1 + j * rho) / before))
            low.append(rho * xp.sqrt((1 - rho) / (before * (1 + j * rho))))
        rows = [xp.stack([*low[:i], d[i], *[0 * rho] * (size - 1 - i)]) for i in range(size)]
        return sd * xp.stack(rows)

    @override
    def priors(self, key: str, prior: Prior, size: int) -> tuple[Prior, ...]:
        if key == "rho" and prior.distribution == "Uniform" and not prior.arguments:
            return (Prior("Uniform", lower=-1.0 / (size - 1), upper=1.0),)
        return super().priors(key, prior, size)

    @override
    def default_prior(self, key: str) -> Prior | None:
        return Prior("Uniform") if key == "rho" else None


class HomogeneousCompoundSymmetry(CompoundSymmetry):
    """`homcs(0 + f | g)`: as `cs`, with one standard deviation: cov = sd^2 (rho + (1 - rho) I)."""

    name = "homcs"
    homogeneous = True
