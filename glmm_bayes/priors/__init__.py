"""Priors as data: what a user states, and what PyMC and plain arrays read of it."""

from glmm_bayes.priors.densities import DENSITIES
from glmm_bayes.priors.prior import Prior, as_prior, grouped
from glmm_bayes.priors.whole import POSITIVE, REAL, WHOLE

__all__ = ["DENSITIES", "POSITIVE", "REAL", "WHOLE", "Prior", "as_prior", "grouped"]
