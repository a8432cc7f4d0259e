"""Satterthwaite's degrees of freedom, with exact derivatives."""

import numpy as np

from glmm_bayes.errors import NotSupportedError
from glmm_bayes.fit import ModeFit
from glmm_bayes.modes.normal import NormalMode
from glmm_bayes.modes.structured import read_margin
from glmm_bayes.verbs.small_sample import (
    JointTest,
    SmallSample,
    check_ddf,
    of_mean,
    restricted,
    with_mean,
)

ALIKE = 1e-8  # degrees of freedom that differ by less are the same


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
    check_ddf(fit, "satterthwaite")
    fit, notes = _restricted_if_exact(fit)
    normal = read_margin(fit.mode)
    covariance = parameter_covariance(normal, restricted=fit.method == "reml")
    slopes = [
        normal.embed @ (Phi @ normal.sums.mean_slope(i) @ Phi) @ normal.embed.T
        for Phi in (normal.sums.Phi,)
        for i in normal.loose.first
    ]
    K = normal.embed.shape[0]
    moved = np.reshape(slopes, (len(slopes), K, K))

    def df(L: np.ndarray) -> np.ndarray:
        return of_mean(fit, L, lambda M: _matched(M, normal.covariance, moved, covariance))

    return SmallSample(
        with_mean(fit, normal.covariance),
        df,
        lambda L: JointTest(1.0, _combined(df(_rotated(L, normal.covariance)))),
        (*notes, *_edge_notes(fit)),
    )


def _edge_notes(fit: ModeFit) -> tuple[str, ...]:
    """Say that components at an edge have no part in degrees of freedom."""
    if not fit.is_singular:
        return ()
    words = "; ".join(part.words for part in fit.singular)
    return (f"The fit is singular, and what is at the edge is taken for known: {words}.",)


def _restricted_if_exact(fit: ModeFit) -> tuple[ModeFit, tuple[str, ...]]:
    """Give a model of independent rows by restricted likelihood, by which t is exact."""
    design = fit.model.design
    if design.terms or design.residual is not None or fit.method == "reml":
        return fit, ()
    return restricted(fit), ("Without random effects: sigma by 'reml', so that t is exact.",)


def parameter_covariance(normal: NormalMode, *, restricted: bool) -> np.ndarray:
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
