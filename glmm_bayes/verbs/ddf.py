"""Degrees of freedom of tests about coefficients of a maximum: one method a name."""

from collections.abc import Callable

import numpy as np

from glmm_bayes.fit import ModeFit
from glmm_bayes.model import Model
from glmm_bayes.modes.structured import has_margin
from glmm_bayes.registry import Registry
from glmm_bayes.verbs.counted import inner_outer, residual
from glmm_bayes.verbs.kenward_roger import kenward_roger
from glmm_bayes.verbs.robust import clustered
from glmm_bayes.verbs.satterthwaite import satterthwaite
from glmm_bayes.verbs.small_sample import JointTest, SmallSample

# By name, what makes the tests of a fit.
DDF: Registry[Callable[[ModeFit], SmallSample]] = Registry("method for degrees of freedom")


def default_ddf(model: Model) -> str:
    """Name the usual method: Satterthwaite's, and none where the response is not normal."""
    return "satterthwaite" if has_margin(model) else "asymptotic"


def small_sample(fit: ModeFit, ddf: str | None = None) -> SmallSample:
    """
    Make the tests of a fit.

    Parameters
    ----------
    ddf
        A name in `DDF`; by default Satterthwaite's, `"asymptotic"` where the response is not
        normal.

    Raises
    ------
    UnknownNameError
        If there is no such method.
    NotSupportedError
        If it is not for this model.
    """
    return DDF[default_ddf(fit.model) if ddf is None else ddf](fit)


def asymptotic(fit: ModeFit) -> SmallSample:
    """Take the estimates for normal: infinite degrees of freedom."""
    few = "Estimates are taken for normal, as they are with many groups: of few p is too small."
    return SmallSample(
        fit.coefficient_covariance(),
        lambda L: np.full(len(L), np.inf),
        lambda L: JointTest(1.0, np.inf),
        (few,) if fit.model.design.terms else (),
    )


DDF.add("asymptotic", asymptotic)
DDF.add("residual", residual)
DDF.add("inner-outer", inner_outer)
DDF.add("satterthwaite", satterthwaite)
DDF.add("kenward-roger", kenward_roger)
DDF.add("CR2", clustered)
