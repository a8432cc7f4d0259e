"""Mixtures that the laws of families are held against, with the textbooks' densities."""

import numpy as np

from glmm_bayes.families import FAMILIES
from glmm_bayes.families.mixture_of import family_of

NAMES = (
    "mixture(poisson, poisson)",
    "mixture(poisson, negbinomial)",
    "mixture(binomial, binomial)",
    "mixture(exponential, lognormal)",
    "mixture(gaussian, student)",
    "mixture(poisson, geometric, poisson)",
)
MIXTURES = {name: family_of(name) for name in NAMES}
# What the laws run over: the registered families, and some that are made when they are named.
LAWFUL = {**FAMILIES, **MIXTURES}
# Those of which a circle for each predictor is soon gone round.
SHORT = {
    "mixture(poisson, poisson)": ("poisson", "poisson"),
    "mixture(binomial, binomial)": ("binomial", "binomial"),
    "mixture(exponential, lognormal)": ("exponential", "lognormal"),
}
LONG = set(MIXTURES) - set(SHORT)
RESPONSES = {"mixture(poisson, poisson)": [0.0, 1.0, 12.0]}
OTHERS_OF = {name: {"mu2": (0.4, 5.0), "theta2": (0.2, 0.7)} for name in NAMES} | {
    "mixture(binomial, binomial)": {"mu2": (0.3, 0.7)},
    "mixture(exponential, lognormal)": {"mu2": (-0.5, 1.0), "sigma2": (0.6, 4.0)},
}
RADII = dict.fromkeys(NAMES, 0.05)  # of circles without a zero of the sum
EXTREMES = {
    "mixture(poisson, poisson)": ((-8.0, 3.0), (-8.0, 0.5, 6.0), (-8.0, 8.0)),
    "mixture(binomial, binomial)": ((-8.0, 3.0), (-3.0, 8.0), (-8.0, 8.0)),
    "mixture(exponential, lognormal)": ((-3.0, 3.0), (-8.0, 3.0), (-1.0, 3.0), (-8.0, 8.0)),
}


def blend(first, second):
    """Mix two log densities, of which the first has no parameter but the mean."""

    def log_density(y, n, mean, other_mean, *others):
        one, other = first(y, n, mean), second(y, n, other_mean, *others[:-1])
        # About the larger, on the sheet of which the sum is.
        top, theta = np.where(np.real(one) > np.real(other), one, other), others[-1]
        return np.log((1 - theta) * np.exp(one - top) + theta * np.exp(other - top)) + top

    return log_density


def textbook(simple):
    """Make the formulas of two components from those of the families."""
    return {name: blend(simple[a], simple[b]) for name, (a, b) in SHORT.items()}
