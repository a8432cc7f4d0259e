"""Numbers that carry their derivatives, up to third order, through NumPy's functions."""

from glmm_bayes.taylor.number import NoRuleError, Taylor, differentiable, expanded
from glmm_bayes.taylor.slopes import polygammas

__all__ = ["NoRuleError", "Taylor", "differentiable", "expanded", "polygammas"]
