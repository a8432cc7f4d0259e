"""A Gaussian response of several terms, for many responses at once: `engine.gaussian`, S times."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from glmm_bayes.engine.grouped import Grouped, LevelInverse


@dataclass(frozen=True, eq=False)
class CrossedProfile:
    """
    S log likelihoods at S Lambdas relative to sigma, the other parameters at their best.

    Attributes
    ----------
    value
        `(S,)` with every constant; minus infinity where there is none.
    by_Lambda
        By term `(S, p, p)`.
    gamma, sigma
        `(S, k)` and `(S,)`.
    """

    value: np.ndarray
    by_Lambda: Sequence[np.ndarray]
    gamma: np.ndarray
    sigma: np.ndarray


@dataclass(eq=False)
class CrossedMany:
    """
    y = X gamma + Z b + e for S responses y: one term by levels, the others dense beside X.

    Parameters
    ----------
    grouped
        The term with most levels, whose rows' order all arrays have.
    Z
        `(n, N)` the other terms' columns, term after term, level by level.
    shapes
        Of these, levels and columns `(q, p)`.
    X
        `(n, k)`.
    y
        `(S, n)` the responses, without offsets.
    w
        `(n,)`.
    count
        As in `Gaussian`.
    """

    grouped: Grouped
    Z: np.ndarray
    shapes: Sequence[tuple[int, int]]
    X: np.ndarray
    y: np.ndarray
    w: np.ndarray
    count: float
    ZZ: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        root, g, W = np.sqrt(self.w), self.grouped, np.column_stack([self.Z, self.X])
        self.base = np.linalg.lstsq(self.X * root[:, None], (self.y * root).T, rcond=None)[0].T
        rest = self.y - self.base @ self.X.T
        wy, columns = self.w * rest, (self.w[:, None] * W).T
        self.ZZ = g.products(self.w[None])
        self.ZW = np.moveaxis(g.collect(columns), 0, 2)[None]
        self.WW = columns @ W
        self.Zy, self.Wy = g.collect(wy), wy @ W
        self.yy = np.einsum("sn,sn->s", wy, rest)
        ends = np.cumsum([0, *(q * p for q, p in self.shapes)])
        self.places = [slice(int(i), int(j)) for i, j in zip(ends[:-1], ends[1:], strict=True)]

    def _spread(self, Lambdas: Sequence[np.ndarray]) -> np.ndarray:
        """Give the other terms' factor, and 1 for coefficients, `(s, N + k, N + k)`."""
        s, M = len(Lambdas[0]), len(self.WW)
        T = np.zeros((s, M, M))
        for (q, p), at, L in zip(self.shapes, self.places, Lambdas[1:], strict=True):
            for level in range(q):
                own = slice(at.start + level * p, at.start + (level + 1) * p)
                T[:, own, own] = L
        k = np.arange(self.Z.shape[1], M)
        T[:, k, k] = 1.0
        return T

    def profile(
        self, which: np.ndarray, Lambdas: Sequence[np.ndarray], *, restricted: bool
    ) -> CrossedProfile:
        """
        Maximise over gamma and sigma, of the responses with the numbers `which` `(s,)`.

        Parameters
        ----------
        Lambdas
            `(s, p, p)`: the grouped term's first, then the others'.
        """
        N, L = self.Z.shape[1], Lambdas[0][:, None]
        T, levels = self._spread(Lambdas), LevelInverse.of(self.ZZ, Lambdas[0])
        ZT, WT = self.ZW @ T[:, None], self.WW @ T
        V = np.swapaxes(L, 2, 3) @ ZT
        MV = levels.inverse @ V
        c = np.einsum("sji,sqj->sqi", Lambdas[0], self.Zy[which])
        Mc = levels.times(c)
        schur = np.swapaxes(T, 1, 2) @ WT - _summed(V, MV)
        schur[:, np.arange(N), np.arange(N)] += 1.0
        right = np.einsum("smk,sm->sk", T, self.Wy[which]) - np.einsum("sqim,sqi->sm", V, Mc)
        with np.errstate(all="ignore"):
            inverse, log_all = _inverted(schur)
            Q, log = (inverse, log_all) if restricted else _inverted(schur[:, :N, :N])
            found = np.einsum("skl,sl->sk", inverse, right)
            squares = self.yy[which] - np.einsum("sqi,sqi->s", c, Mc)
            squares -= np.einsum("sk,sk->s", right, found)
            n = self.count - (self.X.shape[1] if restricted else 0)
            sigma2 = squares / n
            log = levels.log_determinant + log
            value = -0.5 * (log + n * (1 + np.log(2 * np.pi * sigma2)))
        value = np.where(np.isfinite(value) & (squares > 1e-13 * self.yy[which]), value, -np.inf)
        u, b = Mc - np.einsum("sqik,sk->sqi", MV, found), np.einsum("skl,sl->sk", T, found)
        own, others = self._squares_by(which, Lambdas[0], u, b)
        m = len(Q[0])
        MVQ = MV[..., :m] @ Q[:, None]
        H = levels.inverse + MVQ @ np.swapaxes(MV[..., :m], 2, 3)
        trace = (self.ZZ @ L @ H - ZT[..., :m] @ np.swapaxes(MVQ, 2, 3)).sum(axis=1)
        D = WT[..., :m] @ Q - _summed(np.swapaxes(L, 2, 3) @ self.ZW, MVQ)
        scale = sigma2[:, None, None]
        by_Lambda = [np.einsum("sqi,sqj->sij", own, u) / scale - trace]
        for (q, p), at in zip(self.shapes, self.places, strict=True):
            left, right_ = (x[:, at].reshape(-1, q, p) for x in (others, found))
            blocks = D[:, at, at].reshape(-1, q, p, q, p)
            by = np.einsum("sqi,sqj->sij", left, right_) / scale
            by_Lambda.append(by - np.einsum("sqiqj->sij", blocks))
        sigma = np.sqrt(np.maximum(sigma2, 0.0))
        return CrossedProfile(value, by_Lambda, found[:, N:] + self.base[which], sigma)

    def _squares_by(
        self, which: np.ndarray, Lambda: np.ndarray, u: np.ndarray, b: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Give Z' and W' times the weighted residuals, `(s, q, p)` and `(s, N + k)`."""
        b1 = np.einsum("sij,sqj->sqi", Lambda, u)
        own = self.Zy[which] - np.einsum("qij,sqj->sqi", self.ZZ[0], b1)
        own -= np.einsum("qik,sk->sqi", self.ZW[0], b)
        others = self.Wy[which] - b @ self.WW - np.einsum("qik,sqi->sk", self.ZW[0], b1)
        return own, others


def _summed(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Sum A' B over levels: `(s, q, p, k)` and `(s, q, p, m)` to `(s, k, m)`."""
    left = A.reshape(len(A), -1, A.shape[-1])
    return np.swapaxes(left, 1, 2) @ B.reshape(len(B), -1, B.shape[-1])


def _inverted(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Invert `(s, k, k)` positive definite matrices; log determinants NaN where they are not."""
    finite = np.isfinite(A).all(axis=(1, 2))
    sound = np.where(finite[:, None, None], A, np.eye(A.shape[1]))
    sign, log = np.linalg.slogdet(sound)
    sound = np.where((sign > 0)[:, None, None], sound, np.eye(A.shape[1]))
    return np.linalg.inv(sound), np.where(finite & (sign > 0), log, np.nan)
