"""What tests of a fit's coefficients go by, however their degrees of freedom are found."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from glmm_bayes.errors import NotSupportedError
from glmm_bayes.fit import ModeFit
from glmm_bayes.modes.normal import is_linear, is_marginally_normal
from glmm_bayes.modes.structured import LARGEST, has_margin


@dataclass(frozen=True)
class JointTest:
    """What the F of several combinations is compared with: F times `scale`, `df` below it."""

    scale: float
    df: float


@dataclass(frozen=True, eq=False)
class SmallSample:
    """
    What tests of a fit's coefficients go by.

    Attributes
    ----------
    covariance
        `(K, K)` of all predictors' coefficients, in order: for Kenward and Roger's, adjusted.
    df
        From weights `(r, K)` of r combinations to the degrees of freedom `(r,)` of each one's t.
    joint
        From r independent combinations to what their F = estimates' (covariance of these)^-1
        estimates / r is compared with.
    notes
        What was done that is to be known.
    """

    covariance: np.ndarray
    df: Callable[[np.ndarray], np.ndarray]
    joint: Callable[[np.ndarray], JointTest]
    notes: tuple[str, ...] = ()


def check_normal(fit: ModeFit, what: str, instead: str) -> None:
    """Refuse what is not a (restricted) maximum for a normal response of independent levels."""
    if not is_marginally_normal(fit.model):
        raise NotSupportedError(
            f"{what} is for normal responses with identity link, without random effects of sigma "
            f"or a structure of the residuals, and with independent levels; {instead}."
        )
    _check_likelihood(fit, what, instead)


def check_ddf(fit: ModeFit, ddf: str) -> None:
    """Refuse degrees of freedom that only normal responses have."""
    what = f"ddf={ddf!r}"
    instead = (
        "use ddf='CR2', where groups are many, ddf='inner-outer', ddf='asymptotic', or "
        "anova(other, test='bootstrap')"
    )
    if not is_linear(fit.model):
        raise NotSupportedError(
            f"{what} is for normal responses with identity link, without random effects of sigma, "
            f"whose covariance it takes apart; {instead}."
        )
    if not has_margin(fit.model):
        raise NotSupportedError(
            f"{what} is built for at most {LARGEST} effects or rows that depend on each other, and "
            f"for levels with a proper covariance; {instead}."
        )
    _check_likelihood(fit, what, instead)


def _check_likelihood(fit: ModeFit, what: str, instead: str) -> None:
    if fit.method not in ("ml", "reml"):
        raise NotSupportedError(
            f"{what} is for fits by 'ml' and 'reml', not {fit.method!r}; {instead}."
        )


def restricted(fit: ModeFit) -> ModeFit:
    """Give the same model's fit by restricted likelihood."""
    return fit if fit.method == "reml" else fit.model.fit("reml", seed=fit.seed)


def of_mean(fit: ModeFit, L: np.ndarray, df: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Give the degrees of freedom of the mean's coefficients; infinite where others are in it."""
    k = len(fit.model.design.predictors["mu"].names)
    found = np.full(len(L), np.inf)
    own = ~(L[:, k:] != 0).any(axis=1)
    found[own] = df(L[own, :k])
    return found


def with_mean(fit: ModeFit, covariance: np.ndarray) -> np.ndarray:
    """Put the covariance of the mean's coefficients into that of all."""
    found, k = fit.coefficient_covariance().copy(), len(covariance)
    found[:k, :k] = covariance
    return found
