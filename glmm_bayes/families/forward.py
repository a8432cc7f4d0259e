"""The score of a log density that is stated as a formula, by numbers that carry derivatives."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from glmm_bayes.taylor import NoRuleError, Taylor

if TYPE_CHECKING:
    from glmm_bayes.families.family import Array, Kernel, Params

type Score = Callable[..., dict[str, Any]]


def forward_score(core: "Kernel", names: Sequence[str], otherwise: Callable[[], Score]) -> Score:
    """
    Differentiate a log density by its parameters.

    `otherwise()` gives the score of a formula with functions whose derivatives are unknown.
    """

    def score(y: "Array", trials: "Array | None", params: "Params") -> "dict[str, Array]":
        numbers: dict[str, Any] = {
            name: Taylor.variable(np.asarray(params[name], float), k, order=1)
            for k, name in enumerate(names)
        }
        try:
            log_p: Any = core(y, trials, numbers)
        except NoRuleError:
            return otherwise()(y, trials, params)
        shape = np.broadcast_shapes(*map(np.shape, log_p.terms))
        return {n: np.broadcast_to(log_p.derivative(k), shape) for k, n in enumerate(names)}

    return score
