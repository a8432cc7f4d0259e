"""Degrees of freedom of tests about coefficients of a maximum: one method a name."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from glmm_bayes.errors import NotSupportedError
from glmm_bayes.fit import ModeFit
from glmm_bayes.model import Model
from glmm_bayes.modes.normal import NormalMode, is_marginally_normal, read_normal
from glmm_bayes.registry import Registry

ALIKE = 1e-8  # degrees of freedom that differ by less are the same
NEAR_TWO = 0.01  # of which an F has no mean, and is not scaled


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


# By name, what makes the tests of a fit.
DDF: Registry[Callable[[ModeFit], SmallSample]] = Registry("method for degrees of freedom")


def default_ddf(model: Model) -> str:
    """Name the usual method: Satterthwaite's, and none where the response is not normal."""
    return "satterthwaite" if is_marginally_normal(model) else "asymptotic"


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
    return SmallSample(
        fit.coefficient_covariance(),
        lambda L: np.full(len(L), np.inf),
        lambda L: JointTest(1.0, np.inf),
    )


def satterthwaite(fit: ModeFit) -> SmallSample:
    """
    Match the first two moments of each estimated variance with a scaled chi-squared's.

    Of a model without random effects, degrees of freedom are exact. What stands at an edge, such
    as a variance of zero, has no part in them.

    Notes
    -----
    df = 2 f^2 / (g' C g) with f the variance of a combination, g its slopes by the parameters of
    V and C their covariance, from the Hessian: Giesbrecht & Burns (1985), Biometrics 41, 477-486;
    Fai & Cornelius (1996), J. Stat. Comput. Simul. 54, 363-378 for several; as in Kuznetsova,
    Brockhoff & Christensen (2017), J. Stat. Softw. 82(13).
    """
    _check_normal(fit, "satterthwaite")
    fit, notes = _restricted_if_exact(fit)
    normal = read_normal(fit.mode)
    covariance = _covariance_of_parameters(normal, restricted=fit.method == "reml")
    slopes = [
        normal.embed @ (Phi @ normal.sums.mean_slope(i) @ Phi) @ normal.embed.T
        for Phi in (normal.sums.Phi,)
        for i in normal.loose.first
    ]
    K = normal.embed.shape[0]
    moved = np.reshape(slopes, (len(slopes), K, K))

    def df(L: np.ndarray) -> np.ndarray:
        return _of_mean(fit.model, L, lambda M: _matched(M, normal.covariance, moved, covariance))

    return SmallSample(
        _with_mean(fit, normal.covariance),
        df,
        lambda L: JointTest(1.0, _combined(df(_rotated(L, normal.covariance)))),
        (*notes, *edge_notes(fit)),
    )


DDF.add("asymptotic", asymptotic)
DDF.add("satterthwaite", satterthwaite)


def edge_notes(fit: ModeFit) -> tuple[str, ...]:
    """Say that components at an edge have no part in degrees of freedom."""
    if not fit.is_singular:
        return ()
    words = "; ".join(part.words for part in fit.singular)
    return (f"The fit is singular, and what is at the edge is taken for known: {words}.",)


def _check_normal(fit: ModeFit, ddf: str) -> None:
    if not is_marginally_normal(fit.model):
        raise NotSupportedError(
            f"ddf={ddf!r} is for normal responses with identity link; use ddf='inner-outer', "
            f"ddf='asymptotic', or anova(other, test='bootstrap')."
        )
    if fit.method not in ("ml", "reml"):
        raise NotSupportedError(
            f"ddf={ddf!r} is for fits by 'ml' and 'reml', not {fit.method!r}; use ddf='asymptotic'."
        )


def _restricted_if_exact(fit: ModeFit) -> tuple[ModeFit, tuple[str, ...]]:
    """Give a model without random effects by restricted likelihood, by which t is exact."""
    if fit.model.design.terms or fit.method == "reml":
        return fit, ()
    return restricted(fit), ("Without random effects: sigma by 'reml', so that t is exact.",)


def restricted(fit: ModeFit) -> ModeFit:
    """Give the same model's fit by restricted likelihood."""
    return fit if fit.method == "reml" else fit.model.fit("reml", seed=fit.seed)


def _covariance_of_parameters(normal: NormalMode, *, restricted: bool) -> np.ndarray:
    """
    Give the inverse of minus the Hessian of the (restricted) log likelihood, `(m, m)`.

    Raises
    ------
    NotSupportedError
        If it is not positive definite.
    """
    sums, moves = normal.sums, normal.loose
    trace = sums.restricted_trace if restricted else sums.trace_of
    cross = sums.restricted_cross if restricted else sums.trace_cross
    m = len(moves.first)
    H = np.empty((m, m))
    for a, i in enumerate(moves.first):
        for b, j in enumerate(moves.first[: a + 1]):
            bend = moves.second[a][b]
            H[a, b] = H[b, a] = (
                sums.form_cross(i, j)
                - 0.5 * cross(i, j)
                + 0.5 * trace(bend)
                - 0.5 * sums.form(bend)
            )
    try:
        np.linalg.cholesky(H)
    except np.linalg.LinAlgError as error:
        raise NotSupportedError(
            "The likelihood's curvature by the variances is not that of a maximum, so that their "
            "errors are not known; simplify the random effects, or use ddf='asymptotic'."
        ) from error
    return np.linalg.inv(H)


def _matched(
    L: np.ndarray, Phi: np.ndarray, slopes: np.ndarray, covariance: np.ndarray
) -> np.ndarray:
    variance = np.einsum("rj,jk,rk->r", L, Phi, L)
    gradient = np.einsum("rj,mjk,rk->rm", L, slopes, L)
    spread = np.einsum("rm,mn,rn->r", gradient, covariance, gradient)
    with np.errstate(all="ignore"):
        return np.where(spread > 0, 2 * variance**2 / spread, np.inf)


def _of_mean(model: Model, L: np.ndarray, df: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Give the degrees of freedom of the mean's coefficients; infinite where others are in it."""
    k = len(model.design.predictors["mu"].names)
    found = np.full(len(L), np.inf)
    own = ~(L[:, k:] != 0).any(axis=1)
    found[own] = df(L[own, :k])
    return found


def _with_mean(fit: ModeFit, covariance: np.ndarray) -> np.ndarray:
    """Put the covariance of the mean's coefficients into that of all."""
    found, k = fit.coefficient_covariance().copy(), len(covariance)
    found[:k, :k] = covariance
    return found


def _rotated(L: np.ndarray, Phi: np.ndarray) -> np.ndarray:
    """Turn combinations into as many with uncorrelated estimates."""
    k = len(Phi)
    return np.linalg.eigh(L[:, :k] @ Phi @ L[:, :k].T)[1].T @ L


def _combined(df: np.ndarray) -> float:
    """
    Give the degrees of freedom of the mean of squares of t variables.

    Those for which F has the mean that the squares have: Fai & Cornelius (1996).
    """
    q = len(df)
    if np.ptp(df) < ALIKE or q == 1:
        return float(df.mean())
    if (df <= 2).any():
        return 2.0
    mean = float((df / (df - 2)).sum())
    return 2 * mean / (mean - q)
