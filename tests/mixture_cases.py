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
# In five predictors or more a circle each takes too long.
LONG = {name for name, family in MIXTURES.items() if len(family.parameters) > 4}
RESPONSES = {
    "mixture(poisson, poisson)": [0.0, 1.0, 12.0],
    "mixture(poisson, negbinomial)": [0.0, 1.0, 12.0],
}
OTHERS_OF = {name: {"mu2": (0.4, 5.0), "theta2": (0.2, 0.7)} for name in NAMES} | {
    "mixture(binomial, binomial)": {"mu2": (0.3, 0.7)},
    "mixture(exponential, lognormal)": {"mu2": (-0.5, 1.0), "sigma2": (0.6, 4.0)},
}
RADII = dict.fromkeys(NAMES, 0.05)  # of circles without a zero of the sum
EXTREMES = {
    "mixture(poisson, poisson)": ((-8.0, 3.0), (-8.0, 0.5, 6.0), (-8.0, 8.0)),
    "mixture(poisson, negbinomial)": ((-8.0, 3.0), (-8.0, 0.5), (-3.0, 6.9), (-8.0, 8.0)),
    "mixture(binomial, binomial)": ((-8.0, 3.0), (-3.0, 8.0), (-8.0, 8.0)),
    "mixture(exponential, lognormal)": ((-8.0, 3.0), (-8.0, 3.0), (-1.0, 3.0), (-8.0, 8.0)),
}


def blend(first, second, size):
    """Mix two log densities, of which the first has as many parameters as `size`."""

    def log_density(y, n, *params):
        *given, theta = params
        means, others = given[:2], given[2:]
        one = first(y, n, means[0], *others[: size - 1])
        other = second(y, n, means[1], *others[size - 1 :])
        # About the larger, on the sheet of which the sum is.
        top = np.where(np.real(one) > np.real(other), one, other)
        return np.log((1 - theta) * np.exp(one - top) + theta * np.exp(other - top)) + top

    return log_density


def textbook(simple):
    """Make the formulas of two components from those of the families."""
    pairs = {
        "mixture(poisson, poisson)": ("poisson", "poisson"),
        "mixture(poisson, negbinomial)": ("poisson", "negbinomial"),
        "mixture(binomial, binomial)": ("binomial", "binomial"),
        "mixture(exponential, lognormal)": ("exponential", "lognormal"),
    }
    return {name: blend(simple[a], simple[b], 1) for name, (a, b) in pairs.items()}
