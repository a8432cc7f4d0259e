"""Priors as data: what a user states, and what PyMC and plain arrays read of it."""

from glmm_bayes.priors.densities import DENSITIES, POSITIVE, REAL
from glmm_bayes.priors.prior import Prior, as_prior, grouped

__all__ = ["DENSITIES", "POSITIVE", "REAL", "Prior", "as_prior", "grouped"]
