"""The same sums where one term has most levels: it is eliminated, and the rest is dense."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from glmm_bayes.engine.directions import Sums


@dataclass(frozen=True, eq=False)
class Halves:
    """
    Z'D^-1 Z, Z'D^-1 X and Z'D^-1 r: the term that is eliminated, and the others.

    Attributes
    ----------
    first
        Its number.
    shapes
        By term, its levels and columns `(q, p)`.
    A11
        `(q, p, p)` of the first: its levels share no row.
    A12, A22
        `(q p, N)` sparse, `(N, N)`: with the N effects of the others, and of these.
    B1, B2
        `(q p, k + 1)`, `(N, k + 1)`: of both, with X and then r.
    """

    first: int
    shapes: Sequence[tuple[int, int]]
    A11: np.ndarray
    A12: Any
    A22: np.ndarray
    B1: np.ndarray
    B2: np.ndarray

    @property
    def others(self) -> list[int]:
        """The numbers of the other terms."""
        return [t for t in range(len(self.shapes)) if t != self.first]

    @cached_property
    def places(self) -> dict[int, slice]:
        """By number, where another term's effects are among the N."""
        sizes = [self.shapes[t][0] * self.shapes[t][1] for t in self.others]
        ends = [int(end) for end in np.cumsum([0, *sizes])]
        return {t: slice(*ends[i : i + 2]) for i, t in enumerate(self.others)}


def eliminated(
    halves: Halves,
    Gs: Sequence[np.ndarray],
    C: np.ndarray,
    xr: np.ndarray,
    rr: float,
    n: float,
) -> Sums:
    """
    Sum as `directions.summed` does, with matrices of the other terms' effects only.

    Parameters
    ----------
    Gs
        By term, the covariance `(p, p)` of a level's effects.
    C, xr, rr
        `(k, k)`, `(k,)`: X'D^-1 X, X'D^-1 r and r'D^-1 r.

    Raises
    ------
    LinAlgError
        If the coefficients are not determined.

    Notes
    -----
    With V_1 = D + Z_1 G_1 Z_1', whose Z'V_1^-1 Z has the blocks B = (I + A_11 G_1)^-1 A_11,
    C = (I + A_11 G_1)^-1 A_12 and S = A_22 - A_21 G_1 C, those of Z'V^-1 Z are B - C R C',
    C (I - G_2 T) and T = (I + S G_2)^-1 S, with R = G_2 (I + S G_2)^-1. B is a small matrix a
    level and C sparse, so that what sums over pairs of levels are traces of products of (N, N).
    """
    inverse = _inverse(halves, Gs)
    k = len(C)
    S = [inverse.right[t][..., :k] for t in range(len(Gs))]
    a = [inverse.right[t][..., k] for t in range(len(Gs))]
    precision, right, square = C.copy(), xr.copy(), rr
    for t, G in enumerate(Gs):
        GB = np.einsum("ab,lbj->laj", G, inverse.given[t])
        precision -= np.einsum("laj,lak->jk", GB[..., :k], S[t])
        right -= np.einsum("laj,la->j", GB[..., :k], a[t])
        square -= float(np.sum(GB[..., k] * a[t]))
    precision = 0.5 * (precision + precision.T)
    Phi = np.linalg.inv(precision)
    moved = Phi @ right
    # The residual is from the coefficients that this V gives.
    a = [left - part @ moved for left, part in zip(a, S, strict=True)]
    terms = range(len(Gs))
    left = inverse.pairs([part[..., None] for part in a])
    return Sums(
        n,
        Phi,
        square - float(right @ moved),
        trace=[inverse.trace(t) for t in terms],
        cross=[[inverse.cross(t, u) for u in terms] for t in terms],
        XX=[np.einsum("laj,lbk->abjk", part, part) for part in S],
        XZX=inverse.pairs(S),
        forms=[np.einsum("la,lb->ab", part, part) for part in a],
        form_pairs=[[part[..., 0, 0] for part in row] for row in left],
        mean_forms=[np.einsum("la,lbk->abk", i, j) for i, j in zip(a, S, strict=True)],
    )


def _inverse(halves: Halves, Gs: Sequence[np.ndarray]) -> "_Inverse":
    from scipy.sparse import csr_array

    q, p = halves.shapes[halves.first]
    G1 = Gs[halves.first]
    own = np.linalg.inv(np.eye(p) + halves.A11 @ G1)
    each = _levelwise(own)
    C, S1 = csr_array(each @ halves.A12), each @ halves.B1
    spread = _levelwise(np.broadcast_to(G1, (q, p, p)))
    G1C, G1S = spread @ C, spread @ S1
    S = halves.A22 - (halves.A12.T @ G1C).toarray()
    G2 = _block_diagonal(halves, Gs)
    solved = np.linalg.inv(np.eye(len(S)) + S @ G2)
    T, R = solved @ S, G2 @ solved
    S2 = solved @ (halves.B2 - halves.A12.T @ G1S)
    S1 = S1 - C @ (G2 @ S2)
    right, given = {halves.first: S1.reshape(q, p, -1)}, {halves.first: halves.B1.reshape(q, p, -1)}
    for t, at in halves.places.items():
        right[t] = S2[at].reshape(*halves.shapes[t], -1)
        given[t] = halves.B2[at].reshape(*halves.shapes[t], -1)
    B = own @ halves.A11
    return _Inverse(
        halves,
        0.5 * (B + np.swapaxes(B, 1, 2)),
        [C[a::p] for a in range(p)],
        0.5 * (R + R.T),
        0.5 * (T + T.T),
        np.eye(len(S)) - G2 @ (0.5 * (T + T.T)),
        right,
        given,
    )


def _levelwise(blocks: np.ndarray) -> Any:
    """Put blocks `(q, p, p)` on the diagonal of a sparse matrix."""
    from scipy.sparse import bsr_array, csr_array

    q, p = blocks.shape[:2]
    if not q * p:
        return csr_array((q * p, q * p))
    return bsr_array((blocks, np.arange(q), np.arange(q + 1)), shape=(q * p, q * p)).tocsr()


def _block_diagonal(halves: Halves, Gs: Sequence[np.ndarray]) -> np.ndarray:
    found = np.zeros_like(halves.A22)
    for t, at in halves.places.items():
        found[at, at] = np.kron(np.eye(halves.shapes[t][0]), Gs[t])
    return found


@dataclass(frozen=True, eq=False)
class _Inverse:
    """
    Z'V^-1 Z by its blocks B - C R C', C U and T: see `eliminated`.

    Attributes
    ----------
    B
        `(q, p, p)`.
    C
        By column of the first term, `(q, N)` sparse.
    R, T, U
        `(N, N)`.
    right, given
        By term `(q, p, k + 1)`: Z'V^-1 [X r], and Z'D^-1 [X r].
    """

    halves: Halves
    B: np.ndarray
    C: Sequence[Any]
    R: np.ndarray
    T: np.ndarray
    U: np.ndarray
    right: dict[int, np.ndarray]
    given: dict[int, np.ndarray]

    @cached_property
    def products(self) -> list[list[np.ndarray]]:
        """C_a' C_b by two columns, `(N, N)`."""
        return [[(C.T @ other).toarray() for other in self.C] for C in self.C]

    @cached_property
    def inner(self) -> np.ndarray:
        """The levels' own blocks of C R C', `(q, p, p)`."""
        through = [C @ self.R for C in self.C]
        found = [[np.asarray(C.multiply(D).sum(axis=1)) for C in self.C] for D in through]
        return np.moveaxis(np.reshape(found, (*np.shape(found)[:2], -1)), 2, 0)

    def _block(self, t: int, u: int) -> np.ndarray:
        """Cut T `(q, p, q', p')` for two of the other terms."""
        shape, places = self.halves.shapes, self.halves.places
        return self.T[places[t], places[u]].reshape(*shape[t], *shape[u])

    def trace(self, t: int) -> np.ndarray:
        """Sum a term's own blocks `(p, p)`."""
        if t == self.halves.first:
            return (self.B - self.inner).sum(axis=0)
        return np.einsum("lalb->ab", self._block(t, t))

    def cross(self, t: int, u: int) -> np.ndarray:
        """Sum M[lb, mc] M[la, md] over the levels l of one term and m of another: `(p, p, …)`."""
        first = self.halves.first
        if t == first and u == first:
            return self._own
        if t == first:
            # Of Y_ab = U' C_a' C_b U at (mc, md).
            return np.einsum("bamcmd->abcd", self._through(u))
        if u == first:
            return np.einsum("cdlbla->abcd", self._through(t))
        block = self._block(t, u)
        return np.einsum("lbmc,lamd->abcd", block, block, optimize=True)

    @cached_property
    def _own(self) -> np.ndarray:
        """The first term's `cross` with itself."""
        B, H, p = self.B, self.inner, len(self.C)
        flat = np.stack([self.R @ K for row in self.products for K in row]).reshape(p * p, -1)
        back = np.stack([(self.R @ K).T for row in self.products for K in row]).reshape(p * p, -1)
        # tr(R C_b'C_a R C_d'C_c)
        far = (flat @ back.T).reshape(p, p, p, p).transpose(1, 0, 3, 2)
        near = np.einsum("lbc,lad->abcd", B, B) - np.einsum("lbc,lad->abcd", B, H)
        return near - np.einsum("lad,lbc->abcd", B, H) + far

    def _through(self, u: int) -> np.ndarray:
        """Give U' C_a' C_b U of another term, `(p, p, q', p', q', p')`."""
        at, shape = self.halves.places[u], self.halves.shapes[u]
        U = self.U[:, at]
        found = [[U.T @ K @ U for K in row] for row in self.products]
        return np.reshape(found, (len(self.C), len(self.C), *shape, *shape))

    def pairs(self, S: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        """Sum S[laj] M[lb, mc] S[mdk] over levels, for S by term `(q, p, k)`: `(p, …, k, k)`."""
        f, terms = self.halves.first, range(len(S))
        # C_b' S_a of the first term, by columns a and b: (p, p, N, k)
        F = np.array([[C.T @ S[f][:, a] for C in self.C] for a in range(len(self.C))])

        def own() -> np.ndarray:
            near = np.einsum("laj,lbc,ldk->abcdjk", S[f], self.B, S[f], optimize=True)
            return near - np.einsum("abxj,xy,dcyk->abcdjk", F, self.R, F, optimize=True)

        def beside(u: int) -> np.ndarray:
            UF = self.U[:, self.halves.places[u]].T @ F
            cut = UF.reshape(*F.shape[:2], *self.halves.shapes[u], F.shape[-1])
            return np.einsum("abmcj,mdk->abcdjk", cut, S[u], optimize=True)

        def of(t: int, u: int) -> np.ndarray:
            if t == f:
                return own() if u == f else beside(u)
            if u == f:
                return beside(t).transpose(3, 2, 1, 0, 5, 4)
            parts = S[t], self._block(t, u), S[u]
            return np.einsum("laj,lbmc,mdk->abcdjk", *parts, optimize=True)

        return [[of(t, u) for u in terms] for t in terms]
