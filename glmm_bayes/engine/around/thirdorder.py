"""What a density has beyond the nearest normal, to third order: volume, covariance, skewness."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from glmm_bayes.engine.around.variational import Nearest
from glmm_bayes.engine.newton import in_units


@dataclass(frozen=True, eq=False)
class Turned:
    """
    S draws from the nearest normal, and what the third order makes of each.

    Attributes
    ----------
    x
        `(S, Q)` effects in standard units and coefficients, less their mean.
    bent
        `(S, Q)` the covariance times the slope of the third-order part.
    cubic
        `(S,)` the third-order part of the log density.

    Notes
    -----
    The log density less the normal's is, in Hermite's polynomials, of third order and higher,
    since the nearest normal leaves nothing of the first and second. With its third-order part c:
    half the mean of c squared is what the log of the integral has beyond its bound; the
    covariance of `bent` over 4 is what the covariance has beyond the normal's; and x + bent / 6
    has the third cumulants. Opper, Paquet & Winther (2013), J. Machine Learning Research 14,
    2857-2898, expand expectation propagation so.
    """

    x: np.ndarray
    bent: np.ndarray
    cubic: np.ndarray


class OneByOne:
    """Draws one after the other, by the factor of the precision."""

    def __init__(self, nearest: Nearest) -> None:
        self.nearest = nearest

    def turned(self, z: np.ndarray) -> Turned:
        """Turn standard normals `(S, Q)`."""
        near, N = self.nearest, len(self.nearest.u)
        ascent, factor = near.ascent, near.factor
        if not near.third.any():
            x = rooted(factor, z, N)
            return Turned(x, np.zeros_like(x), np.zeros(len(x)))
        x, bent, cubic = np.empty_like(z), np.empty_like(z), np.empty(len(z))
        for i, row in enumerate(z):
            u, gamma = factor.solve_root(row[:N], row[N:])
            delta = ascent.spread.eta(u)
            if ascent.joint:
                delta[0] += ascent.X @ gamma
            score, cube = _of_rows(near.third, near.spread, delta)
            own, also = _of_prior(near.prior_third, near.variances, gamma)
            gu = in_units(ascent.spread, ascent.spread.collect(score))
            bu, bx = factor.solve(gu, ascent.X.T @ score[0] + own)
            x[i, :N], x[i, N:] = u, gamma
            bent[i, :N], bent[i, N:] = bu, bx
            cubic[i] = cube.sum() + also.sum()
        return Turned(x, bent, cubic)


def rooted(factor: Any, z: np.ndarray, N: int) -> np.ndarray:
    """Turn standard normals `(S, Q)` into normals of the covariance that a factor stands for."""
    some = z if len(z) <= z.shape[1] else np.eye(z.shape[1])
    found = np.empty_like(some)
    for i, row in enumerate(some):
        found[i, :N], found[i, N:] = factor.solve_root(row[:N], row[N:])
    return found if some is z else z @ found


class AtOnce:
    """
    All draws at once, by dense matrices.

    Parameters
    ----------
    J
        `(R, n, N)` the columns of the effects in standard units.
    """

    def __init__(self, nearest: Nearest, J: np.ndarray) -> None:
        self.nearest, X = nearest, nearest.ascent.X
        R, n, self.N = J.shape
        self.K = np.concatenate([J, np.zeros((R, n, X.shape[1]))], axis=2)
        self.K[0, :, self.N :] = X
        H = np.zeros((self.K.shape[2],) * 2)
        for row, K in zip(nearest.weights, self.K, strict=True):
            H += K.T @ sum(w[:, None] * other for w, other in zip(row, self.K, strict=True))
        at = np.arange(len(H))
        H[at, at] += np.concatenate([np.ones(self.N), nearest.precision])
        self.H, self.root = H, np.linalg.cholesky(H)

    def turned(self, z: np.ndarray) -> Turned:
        """Turn standard normals `(S, Q)`."""
        near, N = self.nearest, self.N
        x = np.linalg.solve(self.root.T, z.T).T
        delta = np.stack([x @ K.T for K in self.K])
        score, cube = _of_rows(near.third[..., None, :], near.spread[..., None, :], delta)
        own, also = _of_prior(near.prior_third, near.variances, x[:, N:])
        g = sum(s @ K for s, K in zip(score, self.K, strict=True))
        g[:, N:] += own
        bent = np.linalg.solve(self.H, g.T).T
        return Turned(x, bent, cube.sum(axis=-1) + also.sum(axis=-1))


def _of_rows(
    third: np.ndarray, spread: np.ndarray, delta: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Give the third order's slope by the predictors `(R, …, n)`, times 2, and itself `(…, n)`."""
    if len(delta) == 1:
        k, h, d = third[0, 0, 0], spread[0, 0], delta[0]
        square = d * d
        return (k * (square - h))[None], k * (d * (square - 3 * h)) / 6
    score = np.einsum("abc...,b...,c...->a...", third, delta, delta)
    less = np.einsum("abc...,bc...->a...", third, spread)
    return score - less, ((score - 3 * less) * delta).sum(axis=0) / 6


def _of_prior(
    third: np.ndarray, variances: np.ndarray, gamma: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    square = gamma * gamma
    return third * (square - variances), third * gamma * (square - 3 * variances) / 6
