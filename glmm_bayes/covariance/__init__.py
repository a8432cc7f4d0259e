"""Covariance structures of random terms: one file a kind, all in `COVARIANCES`."""

from glmm_bayes.covariance import diagonal, symmetric, unstructured
from glmm_bayes.covariance.base import COVARIANCES, Covariance, CovarianceParameter

__all__ = [
    "COVARIANCES",
    "Covariance",
    "CovarianceParameter",
    "diagonal",
    "symmetric",
    "unstructured",
]
