"""What a covariance structure is: parameters, and a factor of the covariance they give."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from glmm_bayes.arrays import NUMPY
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.priors import Prior
from glmm_bayes.registry import Registry

COVARIANCES: Registry["type[Covariance]"] = Registry("covariance structure")


@dataclass(frozen=True)
class CovarianceParameter:
    """
    A parameter of a structure, a vector of `size` entries.

    `key` is what priors and results call it: `sd`, `corr`, `rho` …; `name` the vector
    that is sampled, which differs where the sampled vector is not the reported value.
    """

    name: str
    key: str
    size: int
    by_column: bool  # one entry a column of the term, in order
    support: tuple[float, float]


class Covariance(ABC):
    """
    How the effects of one random term vary together.

    A structure on the columns gives `Lambda` `(p, p)`, lower triangular, with
    `cov(b_j) = Lambda Lambda'` for the p effects of one level. One on the levels gives
    `R` `(q, q)` of unit scale; `b = R v Lambda'`, the entries of v iid N(0, 1).
    """

    name: ClassVar[str]
    axis: ClassVar[Literal["columns", "levels"]]
    compiled: ClassVar[str | None] = None  # the name of its kernel in `engine.kernels`, if any

    def __init_subclass__(cls) -> None:
        """Enter the structure into the registry under its name."""
        # A subclass has another factor, and so not its parent's kernel.
        cls.compiled = cls.__dict__.get("compiled")
        if hasattr(cls, "name"):
            COVARIANCES.add(cls.name, cls)

    @abstractmethod
    def parameters(self, size: int) -> tuple[CovarianceParameter, ...]:
        """List the parameters for `size` columns (or levels)."""

    @abstractmethod
    def factor(self, theta: Mapping[str, Any], size: int, xp: Any = NUMPY) -> Any:
        """Give the factor `(size, size)`, on arrays or, with `xp=graph()`, on PyTensor's graphs."""

    def pullback(
        self, theta: Mapping[str, np.ndarray], size: int, grad: np.ndarray
    ) -> dict[str, np.ndarray]:
        """
        Carry a derivative by the factor back to the parameters.

        By the complex step, which is exact to rounding for every factor that is written with
        analytic functions: Squire & Trapp (1998), SIAM Review 40, 110-112.
        """
        step = 1e-30
        out = {}
        for name, value in theta.items():
            slopes = np.empty(len(value))
            for k in range(len(value)):
                moved = value.astype(complex)
                moved[k] += 1j * step
                slopes[k] = np.sum(grad * self.factor({**theta, name: moved}, size).imag) / step
            out[name] = slopes
        return out

    def priors(self, key: str, prior: Prior, size: int) -> tuple[Prior, ...]:
        """Turn the prior of the reported value into priors of the sampled entries."""
        parameter = next(p for p in self.parameters(size) if p.key == key)
        return tuple(prior.element(k, parameter.size) for k in range(parameter.size))

    def default_prior(self, key: str) -> Prior | None:
        """Give the default prior of a parameter that has no scale; None for `sd`."""
        return None

    def reported(self, theta: Mapping[str, Any], size: int, xp: Any = NUMPY) -> dict[str, Any]:
        """Give by key the values to report that are not sampled as such."""
        return {}

    def sampled(self, values: Mapping[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
        """Go back from S draws of the reported values, by key, to `(S, entries)` by name."""
        return {
            p.name: values[p.key].reshape(len(values[p.key]), -1) for p in self.parameters(size)
        }


def sd_parameter(size: int, *, by_column: bool = True) -> CovarianceParameter:
    """Describe standard deviations, one a column or one for all."""
    return CovarianceParameter("sd", "sd", size, by_column, (0.0, np.inf))


def refuse_prior(structure: str, key: str, prior: Prior, wanted: str) -> NotSupportedError:
    """Make the error for a prior that a parameter cannot have."""
    return NotSupportedError(
        f"{key!r} of a {structure!r} term takes {wanted} as its prior, not {prior!r}."
    )
