"""What was estimated: draws of a posterior, or a maximum."""

from glmm_bayes.fit.base import Fit
from glmm_bayes.fit.mode import ModeFit
from glmm_bayes.fit.posterior import PosteriorFit

__all__ = ["Fit", "ModeFit", "PosteriorFit"]
