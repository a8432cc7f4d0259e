"""Figures of a fit, one file each; none is shown, all are returned."""

from glmm_bayes.verbs.plots.caterpillar import plot_ranef
from glmm_bayes.verbs.plots.effects import plot_effects
from glmm_bayes.verbs.plots.predictive import plot_ppc
from glmm_bayes.verbs.plots.residuals import plot_residuals

__all__ = ["plot_effects", "plot_ppc", "plot_ranef", "plot_residuals"]
