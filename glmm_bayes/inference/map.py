"""The posterior's mode, the random effects integrated out."""

from glmm_bayes.fit import ModeFit
from glmm_bayes.inference.likelihood import fitted
from glmm_bayes.inference.methods import METHODS
from glmm_bayes.model import Model
from glmm_bayes.modes.chains import checked_nagq, refuse_nodes
from glmm_bayes.modes.kinks import maximise_posterior
from glmm_bayes.modes.plain import refuse_dependents


def maximum_a_posteriori(model: Model, *, seed: int | None = None, nagq: int = 1) -> ModeFit:
    """
    Maximise the likelihood times the priors, on the scale on which the parameters have no ends.

    The random effects are integrated out as by `ml`. The priors are those of `model.priors`; a
    prior of the Intercept at the other columns' means is used as such.

    Parameters
    ----------
    seed
        Kept in `fit.seed`, for what the fit may draw later; the search itself draws nothing.
    nagq
        How many nodes adaptive Gauss-Hermite quadrature has for every effect; 1 is Laplace's
        method.

    Returns
    -------
    ModeFit
        `loglik` is the likelihood at this mode, without the priors; standard errors are from the
        curvature of both together.

    Raises
    ------
    ConvergenceError
        If the posterior cannot be evaluated at any starting point.
    NotSupportedError
        If the effects cannot be integrated by quadrature.

    Warns
    -----
    ConvergenceWarning
        If the search did not end at a maximum.

    Notes
    -----
    Where a density is highest depends on the scale. Here it is PyMC's: coefficients themselves,
    the logarithm of what is positive, the log odds of what has two ends, the density carried
    there by its Jacobian. A half-normal prior of a standard deviation thus keeps the mode off
    zero, as it would not on the standard deviation's own scale: the density of log(sd) is that of
    sd, times sd. `Prior("LogNormal", mu=0, sigma=1e4)` is flat on the logarithm: it leaves a
    standard deviation to the likelihood.

    A Laplace prior about zero, such as the lasso's, holds coefficients at zero.

    Chung, Rabe-Hesketh, Dorie, Gelman & Liu (2013), Psychometrika 78, 685-709, on keeping off zero.
    """
    nagq = checked_nagq(nagq)
    refuse_nodes(model, nagq)
    refuse_dependents(model)
    return fitted(model, "map", lambda: maximise_posterior(model, nagq=nagq), seed, {"nagq": nagq})


METHODS.add("map", maximum_a_posteriori)
