"""What a sampler around the mode has to say of itself, in words."""

from typing import Any

import numpy as np

from glmm_bayes.posthoc.target import Around
from glmm_bayes.posthoc.weighed import Weights

LARGE_SHIFT = 0.3  # posterior standard deviations
FEW = 0.1  # effective draws a draw
RATES = {
    "acceptance_rate": "everything at once",
    "acceptance_rate_outer": "parameters",
    "acceptance_rate_local": "parameters from where they are",
    "acceptance_rate_rotation": "rotations",
    "acceptance_rate_levels": "levels",
}


def how_exactly(statistics: Any) -> str:
    """Name the moves, and how often each was accepted."""
    rates = ", ".join(
        f"{words} {float(np.nanmean(statistics[name])):.2f}"
        for name, words in RATES.items()
        if name in statistics
    )
    return f"exact Metropolis-Hastings around the mode; acceptance of {rates}"


def how_collapsed(statistics: Any) -> tuple[str, ...]:
    """Say how the few parameters were drawn that are left of a Gaussian response's model."""
    rate = float(np.nanmean(statistics["acceptance_rate"]))
    words = (
        f"effects and coefficients integrated out exactly; acceptance of the other parameters' "
        f"proposals {rate:.2f}"
    )
    if statistics.attrs["exact"]:
        return (words,)
    error = float(statistics.attrs["surrogate_error"])
    return (
        words,
        f"their marginal posterior is interpolated, with an error of {error:.2g} (standard "
        f"deviation) in log density at fresh draws",
    )


def how_approximately(weights: Weights) -> str:
    """Give Pareto's k and the effective number of draws together, and what they say."""
    told = f"{weights} weighed draws"
    if not weights.reliable:
        return f"{told}: the approximation misses part of the posterior, and no weights mend it"
    if weights.effective < FEW * len(weights.log):
        return f"{told}: the weights are reliable, but few draws carry them"
    return f"{told}: the weighed draws stand for the posterior"


def how_far_shifted(around: Around) -> tuple[str, ...]:
    """Say how far mean and mode of the coefficients are apart."""
    shift = around.problem.corrected.shift
    if not len(shift):
        return ()
    worst = int(np.argmax(np.abs(shift)))
    predictor = around.target.model.design.predictors[around.target.model.main]
    free = np.flatnonzero(np.isnan(around.target.coordinates.held[0]))
    far = abs(float(shift[worst]))
    words = (
        f"mean and mode differ by up to {far:.2f} posterior standard deviations "
        f"({predictor.names[free[worst]]}, at the predictors' means)"
    )
    if far > LARGE_SHIFT:
        words += ": Laplace's method, PQL and a normal at the mode are biased here"
    return (words,)
