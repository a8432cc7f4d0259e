"""PyMC distributions of families that PyMC has not: a log density on the graph, and draws."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

type Params = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Stated:
    """
    What stands in a family for the name of a PyMC distribution.

    Attributes
    ----------
    logp
        `logp(value, params, trials)`: the pointwise log density on PyTensor's graph.
    frozen
        `frozen(params, trials)`: the same distribution on arrays, with `rvs`.
    discrete
        Whether the values are whole numbers.

    Notes
    -----
    Its arguments are the family's parameters by name and, where it has them, `trials`.
    """

    name: str
    logp: Callable[[Any, Params, Any], Any]
    frozen: Callable[[Params, Any], Any]
    discrete: bool

    def __str__(self) -> str:
        return "CustomDist"

    def dist(self, **arguments: Any) -> Any:
        """Make a random variable that stands in no model."""
        import pymc as pm

        return pm.CustomDist.dist(*arguments.values(), **self._options(list(arguments)))

    def __call__(self, name: str, *, observed: Any, dims: Any, **arguments: Any) -> Any:
        """Enter an observed random variable into the model that is being written."""
        import pymc as pm

        options = self._options(list(arguments))
        return pm.CustomDist(name, *arguments.values(), observed=observed, dims=dims, **options)

    def _options(self, names: list[str]) -> dict[str, Any]:
        def read(values: tuple[Any, ...]) -> tuple[Params, Any]:
            params = dict(zip(names, values, strict=True))
            trials = params.pop("trials", None)
            return params, trials

        def logp(value: Any, *values: Any) -> Any:
            return self.logp(value, *read(values))

        def random(*values: Any, rng: np.random.Generator, size: Any = None) -> Any:
            return self.frozen(*read(values)).rvs(size=size, random_state=rng)

        return {
            "logp": logp,
            "random": random,
            "dtype": "int64" if self.discrete else "float64",
            "class_name": self.name,
        }


def stated_arguments(params: Params, trials: Any, xp: Any) -> dict[str, Any]:
    """Give a stated distribution's arguments: the parameters, and trials where there are any."""
    return dict(params) if trials is None else {**params, "trials": trials}
