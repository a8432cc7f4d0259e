"""Covariance structures of random terms: one file a kind, all in `COVARIANCES`."""

from glmm_bayes.covariance import (
    autoregressive,
    diagonal,
    reduced,
    symmetric,
    toeplitz,
    unstructured,
)
from glmm_bayes.covariance.base import COVARIANCES, Covariance, CovarianceParameter

__all__ = [
    "COVARIANCES",
    "Covariance",
    "CovarianceParameter",
    "autoregressive",
    "diagonal",
    "reduced",
    "symmetric",
    "toeplitz",
    "unstructured",
]
