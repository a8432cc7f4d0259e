"""Methods of estimation, one file a method: each takes a model and gives a fit."""

from glmm_bayes.inference.methods import METHODS

__all__ = ["METHODS"]
