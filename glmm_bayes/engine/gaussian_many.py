"""A Gaussian response of one grouping, for many responses at once: `engine.gaussian`, S times."""

from dataclasses import dataclass, field

import numpy as np

from glmm_bayes.engine.grouped import Grouped, LevelInverse


@dataclass(frozen=True, eq=False)
class ProfileMany:
    """
    S log likelihoods at S Lambdas relative to sigma, the other parameters at their best.

    Attributes
    ----------
    value
        `(S,)` with every constant; minus infinity where there is none.
    by_Lambda
        `(S, p, p)`.
    gamma, sigma
        `(S, k)` and `(S,)`.
    """

    value: np.ndarray
    by_Lambda: np.ndarray
    gamma: np.ndarray
    sigma: np.ndarray


@dataclass(eq=False)
class GaussianMany:
    """
    y = X gamma + Z b + e for S responses y: b = v Lambda' sigma, e of variance sigma^2 / w.

    Parameters
    ----------
    grouped
        The one random term.
    X
        `(n, k)`, rows in its order.
    y
        `(S, n)` the responses, without offsets.
    w
        `(n,)`.
    count
        As in `Gaussian`.
    """

    grouped: Grouped
    X: np.ndarray
    y: np.ndarray
    w: np.ndarray
    count: float
    ZZ: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        root, g = np.sqrt(self.w), self.grouped
        self.base = np.linalg.lstsq(self.X * root[:, None], (self.y * root).T, rcond=None)[0].T
        rest = self.y - self.base @ self.X.T
        wy = self.w * rest
        self.ZZ = g.products(self.w[None])
        columns = (self.w[:, None] * self.X).T
        self.ZX = np.moveaxis(g.collect(columns), 0, 2)[None]
        self.XX = self.X.T @ columns.T
        self.Zy, self.Xy = g.collect(wy), wy @ self.X
        self.yy = np.einsum("sn,sn->s", wy, rest)

    def profile(self, which: np.ndarray, Lambda: np.ndarray, *, restricted: bool) -> ProfileMany:
        """
        Maximise over gamma and sigma, of the responses with the numbers `which` `(s,)`.

        Parameters
        ----------
        Lambda
            `(s, p, p)`.
        """
        Zy, Xy, yy, L = self.Zy[which], self.Xy[which], self.yy[which], Lambda[:, None]
        levels = LevelInverse.of(self.ZZ, Lambda)
        V = np.swapaxes(L, 2, 3) @ self.ZX
        MV, c = levels.inverse @ V, np.einsum("sji,sqj->sqi", Lambda, Zy)
        Mc = levels.times(c)
        with np.errstate(all="ignore"):
            schur = self.XX - np.einsum("sqik,sqil->skl", V, MV)
            right = Xy - np.einsum("sqik,sqi->sk", V, Mc)
            inverse, log_schur = _inverted(schur)
            gamma = np.einsum("skl,sl->sk", inverse, right)
            u = Mc - np.einsum("sqik,sk->sqi", MV, gamma)
            squares = yy - np.einsum("sqi,sqi->s", c, Mc) - np.einsum("sk,sk->s", right, gamma)
            n = self.count - (self.X.shape[1] if restricted else 0)
            sigma2 = squares / n
            log = levels.log_determinant + (log_schur if restricted else 0.0)
            value = -0.5 * (log + n * (1 + np.log(2 * np.pi * sigma2)))
        value = np.where(np.isfinite(value) & (squares > 1e-13 * yy), value, -np.inf)
        b = np.einsum("sij,sqj->sqi", Lambda, u)
        left = Zy - np.einsum("qij,sqj->sqi", self.ZZ[0], b)
        left -= np.einsum("qik,sk->sqi", self.ZX[0], gamma)
        by_Lambda = np.einsum("sqi,sqj->sij", left, u) / sigma2[:, None, None]
        H = levels.inverse
        if restricted:
            H = H + MV @ inverse[:, None] @ np.swapaxes(MV, 2, 3)
        traces = (self.ZZ @ L @ H).sum(axis=1)
        if restricted:
            traces -= (self.ZX @ inverse[:, None] @ np.swapaxes(MV, 2, 3)).sum(axis=1)
        return ProfileMany(
            value, by_Lambda - traces, gamma + self.base[which], np.sqrt(np.maximum(sigma2, 0.0))
        )


def _inverted(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Invert `(s, k, k)` positive definite matrices; log determinants NaN where they are not."""
    if A.shape[1] == 0:
        return A, np.zeros(len(A))
    sound = np.where(np.isfinite(A).all(axis=(1, 2))[:, None, None], A, np.eye(A.shape[1]))
    values, vectors = np.linalg.eigh(sound)
    inverse = (vectors / values[:, None, :]) @ np.swapaxes(vectors, 1, 2)
    return inverse, np.log(values).sum(axis=1)
