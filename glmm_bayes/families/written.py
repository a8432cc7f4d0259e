"""A log density stated once, over a namespace of functions: for arrays and for PyMC alike."""

from collections.abc import Callable
from typing import Any

import numpy as np

from glmm_bayes.arrays import NUMPY, graph
from glmm_bayes.families.family import Family, Parameter, Params
from glmm_bayes.families.stated import Stated, stated_arguments


def written(
    name: str,
    parameters: tuple[Parameter, ...],
    log_density: Callable[[Any, Params, Any], Any],
    numeric: Callable[[Params, Any], Any],
    **stated: Any,
) -> Family:
    """
    Make a family of a log density that is written over a namespace.

    Parameters
    ----------
    log_density
        `log_density(y, params, xp)`, pointwise, with every constant.
    numeric
        The frozen distribution, which draws for PyMC too.
    **stated
        What else there is to say: see `Family`.
    """

    def core(y: Any, trials: Any, params: Params) -> Any:
        # Far in a tail the density is 0, whatever overflows on the way.
        with np.errstate(over="ignore"):
            return log_density(y, params, NUMPY)

    def on_graph(y: Any, params: Params, trials: Any) -> Any:
        return log_density(y, params, graph())

    return Family(
        name=name,
        parameters=parameters,
        distribution=Stated(name, on_graph, numeric, discrete=False),
        arguments=stated_arguments,
        numeric=numeric,
        core=core,
        **stated,
    )
