"""A factor at one Lambda in place of that at others: what conjugate gradients need to be quick."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from glmm_bayes.engine.algebra.lapack import lapack

INVERTIBLE = 1e8  # of a condition number
FEW = 48  # effects of terms whose variance may be anything: these are put right


@dataclass(frozen=True, eq=False)
class Part:
    """
    One term's q p effects among the equations: where they stand, and its Lambda at the factor.

    `information` `(p, p)` is what the rows tell of a mean level.
    """

    at: slice
    Lambda: np.ndarray
    information: np.ndarray

    @property
    def size(self) -> int:
        """The number of effects."""
        return int(self.at.stop - self.at.start)

    def root(self, L: np.ndarray) -> np.ndarray:
        """Factor L'c L + I `(…, p, p)`, c the information."""
        own = np.swapaxes(L, -1, -2) @ self.information @ L
        return np.linalg.cholesky(own + np.eye(L.shape[-1]))


def by_level(parts: Sequence[slice], matrices: Sequence[np.ndarray], x: np.ndarray) -> np.ndarray:
    """Multiply every level's part of x `(Q, B)` by its term's matrix `(B, p, p)`."""
    out = x.copy()
    for at, M in zip(parts, matrices, strict=True):
        p = M.shape[1]
        if p == 1:
            out[at] *= M[:, 0, 0]
        else:
            part = np.einsum("bij,qjb->qib", M, x[at].reshape(-1, p, x.shape[1]))
            out[at] = part.reshape(-1, x.shape[1])
    return out


class Anchor:
    """
    Equations S = L'C L + I, factored at one L: S = U'U, U upper `(Q, Q)`.

    At another L they are about R'S R, R by term the ratio of the roots of a mean level's own part.
    Terms of few levels have their R = L_0^-1 L, and what then is missing, I - R'R in their part,
    is put in by Woodbury's formula: theirs are the variances that may be anything.
    """

    def __init__(self, U: np.ndarray, parts: Sequence[Part]) -> None:
        self.U, self.parts = U, parts
        self.roots = [part.root(part.Lambda) for part in parts]
        self.few, count = set[int](), 0
        for t in sorted(range(len(parts)), key=lambda t: parts[t].size):
            count += parts[t].size
            # A Lambda of lower rank has no inverse at any place.
            if count <= FEW and np.linalg.cond(parts[t].Lambda) < INVERTIBLE:
                self.few.add(t)
        every = np.arange(len(U))
        self.where = np.concatenate([*(every[parts[t].at] for t in sorted(self.few)), every[:0]])
        unit = np.zeros((len(U), len(self.where)), order="F")
        unit[self.where, np.arange(len(self.where))] = 1.0
        self.columns = self.solve(unit)

    def solve(self, x: np.ndarray) -> np.ndarray:
        """Give S^-1 x `(Q, B)` at the factor."""
        if not x.size:
            return x
        return np.ascontiguousarray(lapack().dpotrs(self.U, np.asfortranarray(x), lower=0)[0])

    def moved_to(self, Lambdas: Sequence[np.ndarray]) -> "Moved":
        """Go to other L, by term `(B, p, p)`: B equations at once."""
        back, missing = [], []
        for t, (part, L, root) in enumerate(zip(self.parts, Lambdas, self.roots, strict=True)):
            if t in self.few:
                ratio = np.linalg.solve(L, np.broadcast_to(part.Lambda, L.shape))
                levels = np.eye(part.size // L.shape[1])
                gap = np.swapaxes(ratio, 1, 2) @ ratio - np.eye(L.shape[1])
                missing.append(np.einsum("qr,bij->bqirj", levels, gap))
            else:
                here = np.swapaxes(part.root(L), 1, 2)
                ratio = np.linalg.solve(here, np.broadcast_to(root.T, here.shape))
            back.append(ratio)
        return Moved(self, back, self._completed(missing, len(Lambdas[0]) if Lambdas else 1))

    def _completed(self, missing: list[np.ndarray], B: int) -> tuple[np.ndarray, np.ndarray]:
        """Give D and (I + K D)^-1 `(B, m, m)`: D what is missing, K the inverse's part."""
        m, at = len(self.where), 0
        D = np.zeros((B, m, m))
        for block in missing:
            size = block.shape[1] * block.shape[2]
            D[:, at : at + size, at : at + size] = block.reshape(B, size, size)
            at += size
        return D, np.linalg.inv(np.eye(m) + self.columns[self.where] @ D)


@dataclass(frozen=True, eq=False)
class Moved:
    """The factor's equations moved to B places: `back` are R^-1, by term `(B, p, p)`."""

    anchor: Anchor
    back: list[np.ndarray]
    completed: tuple[np.ndarray, np.ndarray]

    def solve(self, r: np.ndarray) -> np.ndarray:
        """Give about S^-1 r `(Q, B)`, each column at its place."""
        anchor, parts = self.anchor, [part.at for part in self.anchor.parts]
        forth = [np.swapaxes(ratio, 1, 2) for ratio in self.back]
        x = anchor.solve(by_level(parts, forth, r))
        if len(anchor.where):
            D, inverse = self.completed
            own = np.einsum("bij,jb->ib", inverse, x[anchor.where])
            x -= anchor.columns @ np.einsum("bij,jb->ib", D, own)
            x[anchor.where] = own
        return by_level(parts, self.back, x)
