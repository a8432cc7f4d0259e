"""Kenward and Roger's covariance of the coefficients and degrees of freedom."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from glmm_bayes.engine.directions import Direction, Forms
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.fit import ModeFit
from glmm_bayes.modes.normal import Moves
from glmm_bayes.modes.structured import read_margin
from glmm_bayes.verbs.small_sample import (
    JointTest,
    SmallSample,
    check_ddf,
    of_mean,
    restricted,
    with_mean,
)

NONE = 1e-10  # of a number that may be zero but for rounding
NEAR_TWO = 0.01  # degrees of freedom: there an F has no mean to be scaled to


def kenward_roger(fit: ModeFit) -> SmallSample:
    """
    Enlarge the covariance for the variances' being estimated, and match the moments of F.

    For a fit by 'ml', the same model is fitted by 'reml'. Variances of zero are parameters like
    others, as far as a structure is linear in its parameters.

    Notes
    -----
    Kenward & Roger (1997), Biometrics 53, 983-997, with the scaled F in the form of Halekoh &
    Hojsgaard (2014), J. Stat. Softw. 59(9). The covariance takes the bias of the parameters'
    estimates off too, as in Kenward & Roger (2009), Comput. Stat. Data Anal. 53, 2583-2595, so that
    it is the same in any parameters of V; where V is linear in them there is no such bias, and it
    is that of 1997.
    """
    check_ddf(fit, "kenward-roger")
    _check_weights(fit)
    notes: tuple[str, ...] = ()
    if fit.method != "reml":
        notes = ("The model was fitted by 'reml', on which Kenward and Roger's test rests.",)
        fit = restricted(fit)
    normal = read_margin(fit.mode)
    moves, sums = normal.linear(), normal.sums
    information = pairs(moves.first, sums.restricted_cross)
    # What two parameters at an edge do alike is told apart by neither.
    W = 2 * np.linalg.pinv(information, hermitian=True)
    slopes = [sums.mean_slope(i) for i in moves.first]
    moments = _Moments(sums.Phi, np.array([sums.Phi @ F @ sums.Phi for F in slopes]), W)
    adjusted = normal.embed @ adjusted_covariance(sums, moves, slopes, W) @ normal.embed.T
    k = len(adjusted)

    def joint(L: np.ndarray) -> JointTest:
        return moments.joint(L[:, :k] @ normal.embed)

    def df(L: np.ndarray) -> np.ndarray:
        return of_mean(fit, L, lambda M: np.array([joint(row[None]).df for row in M]))

    return SmallSample(with_mean(fit, adjusted), df, joint, notes)


def _check_weights(fit: ModeFit) -> None:
    weights = fit.model.design.response.weights
    if weights is not None and not np.isclose(weights.sum(), fit.nobs):
        raise NotSupportedError(
            f"ddf='kenward-roger' takes weights for precisions, whose mean is 1, but they sum to "
            f"{weights.sum():g} over {fit.nobs} rows; divide them by their mean, or use "
            f"ddf='satterthwaite'."
        )


def pairs(first: Sequence[Direction], of: Callable[[Direction, Direction], float]) -> np.ndarray:
    """Give a symmetric function of two directions for all pairs, `(m, m)`."""
    found = np.empty((len(first), len(first)))
    for a, i in enumerate(first):
        for b, j in enumerate(first[: a + 1]):
            found[a, b] = found[b, a] = of(i, j)
    return found


def adjusted_covariance(
    sums: Forms, moves: Moves, slopes: Sequence[np.ndarray], W: np.ndarray
) -> np.ndarray:
    """
    Give the covariance `(k, k)` of the coefficients with what the variances' errors add.

    Notes
    -----
    With F_i = X'V^-1 V_i V^-1 X and Q_ij = X'V^-1 V_i V^-1 V_j V^-1 X, the coefficients vary by
    L = Phi sum W_ij (Q_ij - F_i Phi F_j) Phi more than Phi says, and Phi at the estimates is too
    small on average by L - 1/4 sum W_ij Phi X'V^-1 V_ij V^-1 X Phi (twice), less what the bias
    b_i = - 1/4 sum W_ij W_kl tr(P V_kl P V_j) of the parameters does.
    """
    Phi, m = sums.Phi, len(slopes)
    inside, bias = np.zeros_like(Phi), np.zeros(m)
    for a, i in enumerate(moves.first):
        for b, j in enumerate(moves.first):
            inside += 2 * W[a, b] * (sums.mean_cross(i, j) - slopes[a] @ Phi @ slopes[b])
            bend = moves.second[a][b]
            if bend.whole or any(part.any() for part in bend.parts):
                inside -= 0.5 * W[a, b] * sums.mean_slope(bend)
                along = [sums.restricted_cross(bend, k) for k in moves.first]
                bias -= 0.25 * W[a, b] * (W @ along)
    inside -= sum(b * F for b, F in zip(bias, slopes, strict=True))
    found = Phi + Phi @ inside @ Phi
    return 0.5 * (found + found.T)


@dataclass(frozen=True, eq=False)
class _Moments:
    """
    Covariance Phi `(k, k)` of the coefficients, its slopes, and the parameters' covariance W.

    `slopes` `(m, k, k)` have the opposite sign, which squares take away.
    """

    Phi: np.ndarray
    slopes: np.ndarray
    W: np.ndarray

    def joint(self, L: np.ndarray) -> JointTest:
        """Match the mean and variance of F for the combinations L `(q, k)`."""
        q = len(L)
        T = np.linalg.solve(L @ self.Phi @ L.T, L @ self.slopes @ L.T)
        traces = np.trace(T, axis1=1, axis2=2)
        A1 = float(traces @ self.W @ traces)
        A2 = float(np.sum(self.W * np.einsum("mab,nba->mn", T, T)))
        if A2 <= 0:
            return JointTest(1.0, np.inf)
        B = (A1 + 6 * A2) / (2 * q)
        g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
        whole = 3 * q + 2 * (1 - g)
        V0, V1, V2 = (
            1 + g / whole * B,
            1 - (q - g) / whole * B,
            1 - (q + 2 - g) / whole * B,
        )
        V0 = 0.0 if abs(V0) < NONE else V0
        rho = _quotient(1 - A2 / q, V1) ** 2 * V0 / V2 / q
        df = 4 + (q + 2) / (q * rho - 1)
        scale = 1.0 if abs(df - 2) < NEAR_TWO else df * (1 - A2 / q) / (df - 2)
        return JointTest(scale, df)


def _quotient(a: float, b: float) -> float:
    """Divide, where zero over zero stands for numbers that go to zero alike."""
    return 1.0 if max(abs(a), abs(b)) < 1e-14 else a / b
