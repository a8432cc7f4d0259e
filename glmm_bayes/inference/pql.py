"""Penalised quasi-likelihood, for comparison."""

from glmm_bayes.fit import ModeFit
from glmm_bayes.inference.likelihood import fitted
from glmm_bayes.inference.methods import METHODS
from glmm_bayes.model import Model
from glmm_bayes.modes.mode import Mode
from glmm_bayes.modes.monotone import refuse_against
from glmm_bayes.modes.plain import plain
from glmm_bayes.modes.pql import maximise_quasi
from glmm_bayes.modes.trouble import refuse_collinear


def penalised_quasi_likelihood(model: Model, *, seed: int | None = None) -> ModeFit:
    """
    Fit the linear mixed model of the working response, again and again, until it stays.

    Quick and well known, but biased: where responses are binary or counts small, coefficients and
    standard deviations of the effects come out too near zero. It is here to be compared with.

    Parameters
    ----------
    seed
        Kept in `fit.seed`, for what the fit may draw later; the search itself draws nothing.

    Returns
    -------
    ModeFit
        Without a likelihood: `loglik`, `aic` and `bic` are NaN. `mode.scale` is the root of the
        dispersion, by which the variance of every response is multiplied; a family's own parameter
        of dispersion (`sigma`, `alpha` of gamma) is set to it, and a family without one, such as
        poisson, predicts and simulates without it.

    Raises
    ------
    DataError
        If columns of the design are made up of others.
    NotSupportedError
        If the variance is not a dispersion times a function of the mean, a second parameter has a
        formula, or parameters are held fixed.
    ConvergenceError
        If a step leads out of the mean's support, or the response is fitted exactly.

    Warns
    -----
    ConvergenceWarning
        If it does not stay, after 200 steps or 10,000 evaluations.
    SingularFitWarning
        If a variance is estimated as zero, or effects as perfectly correlated.

    Notes
    -----
    Breslow & Clayton (1993), J. Amer. Statist. Assoc. 88, 9-25, with the dispersion and the
    variance components by maximum likelihood and not by REML, as in R by MASS::glmmPQL (Venables &
    Ripley 2002, Modern Applied Statistics with S). That stops after ten steps, or when the
    predictors move by 1e-3 of their size, and here by 1e-6. Where whole steps swing between two
    ends, as on the culcita data, it gives one of these, and here shorter steps lead to the fixed
    point between. Its standard errors are, by nlme's choice, larger than these by the root of
    n / (n - k), for n rows and k coefficients. Standard errors of coefficients take the variances
    for known. `weights` multiply the quasi-likelihood: a row of weight 2 stands for two rows.
    """
    model = plain(model)
    refuse_collinear(model)

    def search() -> Mode:
        mode = maximise_quasi(model)
        refuse_against(mode, "pql")
        return mode

    return fitted(model, "pql", search, seed)


METHODS.add("pql", penalised_quasi_likelihood)
