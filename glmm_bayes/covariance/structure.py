"""What a structure is, of columns or of levels: parameters with priors, and what is reported."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from glmm_bayes.arrays import NUMPY
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.priors import Prior


@dataclass(frozen=True)
class CovarianceParameter:
    """
    A parameter of a structure, a vector of `size` entries.

    `key` is what priors and results call it: `sd`, `corr`, `rho` …; `name` the vector
    that is sampled, which differs where the sampled vector is not the reported value. `dim`
    names the dimension of a vector that has one other than the columns.
    """

    name: str
    key: str
    size: int
    by_column: bool  # one entry a column of the term, in order
    support: tuple[float, float]
    dim: str | None = None


class Structure(ABC):
    """How the effects of one random term vary together, on one of the term's two sides."""

    name: ClassVar[str]
    in_sd: ClassVar[tuple[str, ...]] = ()  # what is reported in units of the columns' sd

    @abstractmethod
    def parameters(self, size: int) -> tuple[CovarianceParameter, ...]:
        """List the parameters for `size` columns (or levels)."""

    def priors(self, key: str, prior: Prior, size: int) -> tuple[Prior, ...]:
        """Turn the prior of the reported value into priors of the sampled entries."""
        parameter = next(p for p in self.parameters(size) if p.key == key)
        return tuple(prior.element(k, parameter.size) for k in range(parameter.size))

    def default_prior(self, key: str) -> Prior | None:
        """Give the default prior of a parameter that has no scale; None for `sd`."""
        return None

    def scaled_prior(self, parameter: CovarianceParameter, reach: np.ndarray) -> Prior:
        """Give the default prior of what has a scale; `reach` `(p,)` is how far effects go."""
        sigma = list(reach) if parameter.by_column else float(reach.max())
        return Prior("HalfStudentT", nu=3.0, sigma=sigma)

    def entry_priors(
        self, parameter: CovarianceParameter, prior: Prior, size: int
    ) -> tuple[Prior, ...]:
        """Turn the prior of a parameter's reported value into those of its sampled entries."""
        return self.priors(parameter.key, prior, size)

    # ---- what results show

    def reported(self, theta: Mapping[str, Any], size: int, xp: Any = NUMPY) -> dict[str, Any]:
        """Give by key the values to report that are not sampled as such."""
        return {}

    def in_units(self, values: Mapping[str, Any], sd: Any) -> dict[str, Any]:
        """Multiply what is reported in units of the columns' standard deviation by that, `sd`."""
        return {key: value * sd if key in self.in_sd else value for key, value in values.items()}

    def dims(self, key: str) -> tuple[str, ...]:
        """Name the dimensions of a reported value: `coef`, `coef2` or one of `coordinates`."""
        return ("coef", "coef2")

    def coordinates(self, size: int) -> dict[str, tuple[str, ...]]:
        """Give the labels of the dimensions that are not the columns'."""
        return {}

    def listed(self, size: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        """List what tables have a row for: a value's key, and the entry's place in it."""
        for p in self.parameters(size):
            if p.key == "corr":
                yield from (("corr", (i, j)) for i in range(size) for j in range(i + 1, size))
            elif p.by_column or p.dim:
                yield from ((p.key, (k,)) for k in range(p.size))
            else:
                yield p.key, ()

    def sampled(self, values: Mapping[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
        """Go back from S draws of the reported values, by key, to `(S, entries)` by name."""
        return {
            p.name: values[p.key].reshape(len(values[p.key]), -1) for p in self.parameters(size)
        }


def refuse_prior(structure: str, key: str, prior: Prior, wanted: str) -> NotSupportedError:
    """Make the error for a prior that a parameter cannot have."""
    return NotSupportedError(
        f"{key!r} of a {structure!r} term takes {wanted} as its prior, not {prior!r}."
    )


def sd_parameter(size: int, *, by_column: bool = True) -> CovarianceParameter:
    """Describe standard deviations, one a column or one for all."""
    return CovarianceParameter("sd", "sd", size, by_column, (0.0, np.inf))
