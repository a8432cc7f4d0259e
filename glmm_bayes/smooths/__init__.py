"""Smooth functions of numbers: penalised bases, as columns of fixed parts and as random terms."""

from glmm_bayes.smooths.bases import BASES, Basis
from glmm_bayes.smooths.learning import Smooth, learn_smooths
from glmm_bayes.smooths.reading import SMOOTHS, SmoothPart, smooth_groups, smooth_texts
from glmm_bayes.smooths.term import SmoothTerm

__all__ = [
    "BASES",
    "SMOOTHS",
    "Basis",
    "Smooth",
    "SmoothPart",
    "SmoothTerm",
    "learn_smooths",
    "smooth_groups",
    "smooth_texts",
]
