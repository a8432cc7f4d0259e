"""The slope of a log density by the response, and where a response lies, for missing ones."""

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from glmm_bayes.errors import NotSupportedError
from glmm_bayes.families.derived import derived_slope
from glmm_bayes.taylor import NoRuleError, Taylor

if TYPE_CHECKING:
    from glmm_bayes.families.family import Array, Family, Params

FAR = 1e3
# By whether a family takes -FAR, -0.5, 0.5, 2 and FAR.
SUPPORTS = {
    (True, True, True, True, True): "real",
    (False, False, True, True, True): "positive",
    (False, False, True, False, False): "unit",
}


def slope_by_response(family: "Family", y: "Array", params: "Params") -> "Array":
    """
    Differentiate a continuous family's log density by the response.

    By numbers that carry derivatives where the density is written with functions that have them,
    else by the graph of the PyMC distribution.
    """
    shape = np.broadcast_shapes(np.shape(y), *map(np.shape, params.values()))
    if family.core is not None:
        number: Any = Taylor.variable(np.asarray(y, float), 0, order=1)
        try:
            found: Any = family.core(number, None, params) + family.constant(number, None)
            return np.broadcast_to(found.derivative(0), shape)
        except (NoRuleError, TypeError, AttributeError):
            pass  # a function of y that knows arrays only
    return _derived(family)(y, params, shape)


_derived = cache(derived_slope)


def support_of_response(family: "Family", name: str) -> str:
    """
    Tell where the responses of a family lie: `"real"`, `"positive"` or `"unit"`.

    Raises
    ------
    NotSupportedError
        If they are counts, categories or else no continuous number whose missing values could be
        sampled.
    """
    odd = family.discrete or family.needs_trials or family.atoms or family.signed
    odd = odd or not family.has_one_mean or any(p.below for p in family.parameters)
    points = [] if odd else [-FAR, -0.5, 0.5, 2.0, FAR]
    takes = tuple(family.problem(np.array([v]), None) is None for v in points)
    if takes in SUPPORTS:
        return SUPPORTS[takes]
    raise NotSupportedError(
        f"Missing values of {name!r} of family {family.name!r} cannot be parameters: mi( ) is for "
        f"continuous responses, such as those of gaussian, student, lognormal, gamma or beta; "
        f"impute them before fitting, or leave those rows out."
    )
