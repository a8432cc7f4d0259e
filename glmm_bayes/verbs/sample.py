"""Draw from the posterior around a fitted maximum."""

from typing import Any

from glmm_bayes.fit import ModeFit, PosteriorFit


def sample(
    fit: ModeFit, draws: int = 1000, chains: int = 4, *, seed: int | None = None, **options: Any
) -> PosteriorFit:
    """
    Draw from the posterior, which the priors of `fit.model.priors` make of the likelihood.

    Parameters
    ----------
    draws, chains
        Draws kept of each chain, and how many chains.
    seed
        By default that of the fit.
    **options
        As in `inference.posthoc.posthoc`: `exact=False` weighs independent draws from the
        approximation in place of running chains.

    Returns
    -------
    PosteriorFit

    Notes
    -----
    The search of the posterior's mode starts from the fitted maximum. The draws are those of
    `fit.model.fit("posthoc")` up to their random numbers: the maximum decides nothing else.

    Examples
    --------
    >>> import glmm_bayes as gb
    >>> data = gb.load_dataset("cbpp")
    >>> formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    >>> fit = gb.Model(formula, data, "binomial").fit("ml")
    >>> fit.sample(draws=500, seed=1, progressbar=False).draws.size
    2000
    """
    chosen = fit.seed if seed is None else seed
    model = fit.model.whole or fit.model
    # Where something stood in for the model, its parameters may not be all there are.
    start = fit.mode.theta if model is fit.model else None
    return model.fit("posthoc", seed=chosen, draws=draws, chains=chains, start=start, **options)
