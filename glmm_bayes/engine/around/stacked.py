"""A Gaussian response at many outer parameters at once: small matrices, one a draw."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from glmm_bayes.engine.algebra.dense import Dense
from glmm_bayes.engine.collapsed import Collapsed
from glmm_bayes.engine.latent import Latent

MOST_NUMBERS, MOST_PRODUCTS = 2e7, 3e5  # of Z written out; multiplications for one draw
AT_ONCE = 1e6  # numbers of the largest array


@dataclass(frozen=True, eq=False)
class Split:
    """
    The effects in two blocks: of the term of most levels, G of k effects, and the others' Q.

    The first block's part of the Hessian falls into G parts, which is nothing if a row belongs to
    several levels of the term: then all effects are in the second block.

    Attributes
    ----------
    first
        The term's number; None for none.
    """

    latent: Latent
    first: int | None

    @classmethod
    def of(cls, latent: Latent) -> "Split":
        """Choose."""
        alone = [i for i, term in enumerate(latent.terms) if term.index.shape[1] == 1]
        return cls(latent, max(alone, key=lambda i: latent.terms[i].size, default=None))

    @property
    def shape(self) -> tuple[int, int]:
        """The first block's G and k."""
        if self.first is None:
            return 0, 0
        term = self.latent.terms[self.first]
        return term.q, term.p

    @cached_property
    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the first block's effects stand in u `(G k,)`, and the second's `(Q,)`."""
        every = np.arange(self.latent.size)
        chosen = slice(0, 0) if self.first is None else self.latent.places[self.first]
        return every[chosen], np.delete(every, chosen)

    @cached_property
    def second(self) -> list[tuple[int, slice]]:
        """The second block's terms, and where their effects stand in it."""
        found, at = [], 0
        for i, term in enumerate(self.latent.terms):
            if i != self.first:
                found.append((i, slice(at, at + term.size)))
                at += term.size
        return found


def is_small(latent: Latent, k: int) -> bool:
    """Tell whether matrices one a draw are worth it, with k coefficients."""
    split = Split.of(latent)
    G, size = split.shape
    Q = latent.size - G * size + k
    dense = latent.n * (latent.size + k)
    return dense <= MOST_NUMBERS and (G * size + Q) * Q**2 <= MOST_PRODUCTS


@dataclass(frozen=True, eq=False)
class Stack:
    """
    S draws given as many outer parameters.

    Attributes
    ----------
    value
        `(S,)` the log marginal density of the response; minus infinity where there is none.
    gamma
        `(S, k)` coefficients.
    effects
        By term, b `(S, q, p)`.
    """

    value: np.ndarray
    gamma: np.ndarray
    effects: list[np.ndarray]


class Stacked:
    """
    `Collapsed` for small models: the first block eliminated, for many draws at a time.

    Arrays of the first block have its small sides in front: `(k, S, G)` and so on.
    """

    def __init__(self, collapsed: Collapsed) -> None:
        g = collapsed.gaussian
        latent = g.system.latent
        self.collapsed, self.split = collapsed, Split.of(latent)
        order = g.system.order
        Z = Dense.build(latent, g.X).Z[0][order]
        first, second = self.split.places
        wZ, ends = Z * g.w[:, None], Z[:, second].T @ (g.w[:, None] * g.X)
        G, k = self.split.shape
        own = wZ[:, first].T @ Z[:, first]
        levels = np.arange(G * k).reshape(G, k)
        self.C11 = own[levels[:, :, None], levels[:, None, :]]
        across = np.hstack([wZ[:, first].T @ Z[:, second], wZ[:, first].T @ g.X])
        self.C12 = across.reshape(G, k, across.shape[1])
        corner = [[wZ[:, second].T @ Z[:, second], ends], [ends.T, g.X.T @ (g.w[:, None] * g.X)]]
        self.C22 = np.block(corner)
        zy = np.concatenate([*(part.ravel() for part in g.zy), np.empty(0)])
        self.y1, self.y2 = zy[first].reshape(G, k), zy[second]

    @property
    def size(self) -> int:
        """How many standard normals make one draw."""
        return self.collapsed.gaussian.system.latent.size + len(self.collapsed.centre)

    def values(self, sigma: np.ndarray, Lambdas: Sequence[np.ndarray]) -> np.ndarray:
        """Give the log marginal densities `(S,)` of the response."""
        return self.draw(sigma, Lambdas, np.zeros((len(sigma), self.size))).value

    def draw(self, sigma: np.ndarray, Lambdas: Sequence[np.ndarray], z: np.ndarray) -> Stack:
        """
        Turn standard normals `(S, N + k)` into effects and coefficients.

        Parameters
        ----------
        sigma, Lambdas
            `(S,)`, and by term `(S, p, p)` on the effects' own scale.
        """
        G, k = self.split.shape
        step = max(1, int(AT_ONCE / max(G * k * len(self.C22), len(self.C22) ** 2, 1)))
        parts = [
            self._drawn(sigma[at], [L[at] for L in Lambdas], z[at])
            for at in (slice(i, i + step) for i in range(0, len(sigma), step))
        ]
        return Stack(
            np.concatenate([p.value for p in parts]),
            np.concatenate([p.gamma for p in parts]),
            [np.concatenate(b) for b in zip(*(p.effects for p in parts), strict=True)],
        )

    def _drawn(self, sigma: np.ndarray, Lambdas: list[np.ndarray], z: np.ndarray) -> Stack:
        c, relative = self.collapsed, [L / sigma[:, None, None] for L in Lambdas]
        g, S, (G, k) = c.gaussian, len(sigma), self.split.shape
        first = np.empty((S, 0, 0)) if self.split.first is None else relative[self.split.first]
        with np.errstate(all="ignore"):
            root, log_first = _small_roots(self.C11, first)
            half = self._reduced(root, first, relative)
            y1 = _solved_left(root, np.einsum("sab,ga->bsg", first, self.y1))
            H, right, whole = self._second(sigma, relative, half, y1)
            bad = ~(np.isfinite(H).all(axis=(1, 2)) & np.isfinite(log_first))
            L, bad = stable_roots(H, bad)
            y2 = np.linalg.solve(L, right[..., None])[..., 0]
            squares = g.yy + whole - np.square(y1).sum(axis=(0, 2)) - np.square(y2).sum(axis=1)
            log_det = log_first + 2 * np.log(np.einsum("sii->si", L)).sum(axis=1)
            value = (len(c.centre) - g.count) * np.log(sigma)
            value -= 0.5 * (squares / sigma**2 + log_det)
            z1, z2 = z[:, : G * k].reshape(S, G, k), z[:, G * k :]
            v2 = np.linalg.solve(np.swapaxes(L, 1, 2), (y2 / sigma[:, None] + z2)[..., None])[
                ..., 0
            ]
            rest = y1 / sigma[:, None] + z1.transpose(2, 0, 1) - np.einsum("ksgq,sq->ksg", half, v2)
            v1 = _solved_right(root, rest)
        value[bad | ~np.isfinite(value)] = -np.inf
        count = v2.shape[1] - len(c.centre)
        return Stack(
            value,
            v2[:, count:] * sigma[:, None] + g.base,
            self._effects(Lambdas, v1.transpose(1, 2, 0), v2),
        )

    def _reduced(
        self, root: np.ndarray, first: np.ndarray, relative: list[np.ndarray]
    ) -> np.ndarray:
        """Give the first block's root, inverted, times what it has in common with the second."""
        C12, S = self.C12, len(first)
        moved = np.empty((S, *C12.shape))
        moved[...] = C12
        for i, at in self.split.second:
            p, L = self.split.latent.terms[i].p, relative[i]
            part = C12[:, :, at]
            if p == 1:
                moved[..., at] = part * L[:, :, :, None]
                continue
            shape = (*part.shape[:2], -1, p)
            moved[..., at] = (part.reshape(shape) @ L[:, None, None]).reshape(S, *part.shape)
        return _solved_left(root, np.einsum("sab,sgaq->bsgq", first, moved))

    def _second(
        self, sigma: np.ndarray, relative: list[np.ndarray], half: np.ndarray, y1: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Give the second block's Schur complement, its right-hand side, and sigma^2 m'Pm."""
        c, S, Q = self.collapsed, len(sigma), len(self.C22)
        k = len(c.centre)
        N = Q - k
        H = np.array(np.broadcast_to(self.C22, (S, Q, Q)))
        right = np.array(np.broadcast_to(self.y2, (S, N)))
        for i, at in self.split.second:
            p, Lt = self.split.latent.terms[i].p, np.swapaxes(relative[i], 1, 2)[:, None]
            H[:, at] = (Lt @ H[:, at].reshape(S, -1, p, Q)).reshape(S, -1, Q)
            columns = np.swapaxes(H[:, :, at], 1, 2).reshape(S, -1, p, Q)
            H[:, :, at] = np.swapaxes((Lt @ columns).reshape(S, -1, Q), 1, 2)
            right[:, at] = (Lt @ right[:, at].reshape(S, -1, p, 1)).reshape(S, -1)
        variance = sigma**2
        H[:, np.arange(N), np.arange(N)] += 1.0
        H[:, N:, N:] += variance[:, None, None] * c.prior.precision
        flat = np.moveaxis(half, 0, 1).reshape(S, -1 if half.size else 0, Q)
        H -= np.swapaxes(flat, 1, 2) @ flat
        pull = c.prior.precision @ c.centre
        ends = c.gaussian.xy + variance[:, None] * pull
        right = np.concatenate([right, ends], axis=1)
        right -= np.einsum("ksgq,ksg->sq", half, y1)
        return H, right, variance * float(pull @ c.centre)

    def _effects(
        self, Lambdas: list[np.ndarray], v1: np.ndarray, v2: np.ndarray
    ) -> list[np.ndarray]:
        latent = self.split.latent
        v = {i: v2[:, at].reshape(len(v2), -1, latent.terms[i].p) for i, at in self.split.second}
        if self.split.first is not None:
            v[self.split.first] = v1
        return [v[i] @ np.swapaxes(L, 1, 2) for i, L in enumerate(Lambdas)]


def _small_roots(C11: np.ndarray, L: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Factor L'C L + I: lower `(k, k, S, G)`, and the log determinants `(S,)` of all levels."""
    A = np.einsum("srb,gra,sac->bcsg", L, C11, L, optimize=True)
    k = len(A)
    for j in range(k):
        A[j, j] += 1.0 - np.square(A[j, :j]).sum(axis=0)
        A[j, j] = np.sqrt(A[j, j])
        for i in range(j + 1, k):
            A[i, j] = (A[i, j] - (A[i, :j] * A[j, :j]).sum(axis=0)) / A[j, j]
    return A, 2 * sum((np.log(A[j, j]).sum(axis=1) for j in range(k)), np.zeros(A.shape[2]))


def _solved_left(root: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve L x = right `(k, S, G, …)`."""
    more = (..., *[None] * (right.ndim - 3))
    x = np.empty_like(right)
    for j in range(len(right)):
        rest = right[j] - sum(root[j, i][more] * x[i] for i in range(j))
        x[j] = rest / root[j, j][more]
    return x


def _solved_right(root: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve L' x = right `(k, S, G)`."""
    x = np.empty_like(right)
    for j in reversed(range(len(right))):
        x[j] = (right[j] - sum(root[i, j] * x[i] for i in range(j + 1, len(right)))) / root[j, j]
    return x


def stable_roots(H: np.ndarray, bad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Factor matrices `(S, Q, Q)`, and tell which have no root; these get the unit's."""
    H[bad] = np.eye(H.shape[1])
    try:
        return np.linalg.cholesky(H), bad
    except np.linalg.LinAlgError:
        bad = bad | (np.linalg.eigvalsh(H)[:, 0] <= 1e-14 * np.abs(H).max(axis=(1, 2)))
        H[bad] = np.eye(H.shape[1])
        return np.linalg.cholesky(H), bad
