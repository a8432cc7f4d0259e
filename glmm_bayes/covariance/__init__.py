"""Structures of random terms, of columns and of levels: one file a kind, all in registries."""

from glmm_bayes.covariance import (
    areal,
    autoregression,
    autoregressive,
    descent,
    diagonal,
    field,
    kinship,
    kronecker,
    masses,
    pedigree,
    phylogeny,
    process,
    reduced,
    smooth_walk,
    spde,
    symmetric,
    toeplitz,
    unstructured,
)
from glmm_bayes.covariance.base import COVARIANCES, Covariance
from glmm_bayes.covariance.levels import LEVEL_COVARIANCES, LevelCovariance, Places
from glmm_bayes.covariance.structure import CovarianceParameter, Structure

__all__ = [
    "COVARIANCES",
    "LEVEL_COVARIANCES",
    "Covariance",
    "CovarianceParameter",
    "LevelCovariance",
    "Places",
    "Structure",
    "areal",
    "autoregression",
    "autoregressive",
    "descent",
    "diagonal",
    "field",
    "kinship",
    "kronecker",
    "masses",
    "pedigree",
    "phylogeny",
    "process",
    "reduced",
    "smooth_walk",
    "spde",
    "symmetric",
    "toeplitz",
    "unstructured",
]
