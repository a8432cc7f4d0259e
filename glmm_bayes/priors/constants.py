"""What the densities of priors on arrays lack: constants that no estimate but evidence needs."""

from typing import Any

import numpy as np

from glmm_bayes.errors import NotSupportedError
from glmm_bayes.priors.formulas import Decomposed
from glmm_bayes.priors.prior import Prior

IMPROPER = ("Flat", "HalfFlat")


def log_constant(form: Prior | Decomposed) -> float:
    """
    Give the log density less `form.core`, summed over the parameters that a form speaks of.

    Parameters
    ----------
    form
        As of `engine.density.outer.Outer.forms`: a prior whose arguments are arrays `(k,)`, or
        that of standard deviations that share a total.

    Raises
    ------
    NotSupportedError
        If a prior has no finite mass.
    """
    if isinstance(form, Decomposed):
        return log_constant(form.total) + _of_shares(form)
    if form.distribution in IMPROPER:
        raise NotSupportedError(
            f"The prior {form!r} has no finite mass, so that the data's probability is not "
            f"defined; give that parameter a proper prior."
        )
    sizes = [np.size(value) for value in _numbers(form)]
    x = form.sample(np.random.default_rng(0), (max(sizes, default=1),))
    return float(np.sum(_evaluated(form.log_density(x)) - form.core(x)))


def _numbers(form: Prior) -> list[Any]:
    """List the arguments that are numbers, of what is truncated too."""
    found: list[Any] = []
    for value in form.arguments.values():
        found += _numbers(value) if isinstance(value, Prior) else [] if value is None else [value]
    return found


def _evaluated(graph: Any) -> np.ndarray:
    from pytensor.compile.mode import Mode

    # Once: to compile it would take longer.
    found: np.ndarray = graph.eval(mode=Mode(linker="py", optimizer="fast_compile"))
    return found


def _of_shares(form: Decomposed) -> float:
    """Give the constant of the Dirichlet density, and of the change to standard deviations."""
    from scipy.special import gammaln

    a, K = form.concentrations, len(form.concentrations)
    shares = gammaln(a.sum()) - gammaln(a).sum()
    return float(shares + (K - 1) * np.log(2) + 2 * (a * np.log(form.weights)).sum())
