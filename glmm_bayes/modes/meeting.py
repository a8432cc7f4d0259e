"""Rows of a normal response summed: by clusters that share none, or one term eliminated."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from glmm_bayes.engine.algebra.lapack import one_thread
from glmm_bayes.engine.directions import Stack, Sums, summed
from glmm_bayes.engine.eliminated import Halves, eliminated
from glmm_bayes.errors import NotSupportedError

LARGEST = 6000  # effects whose matrices are dense: six of 290 MB
SMALL = 200  # effects of a cluster, whose matrices are no matter


def sums_of(
    Z: Any,
    shapes: Sequence[tuple[int, int]],
    Gs: Sequence[np.ndarray],
    X: np.ndarray,
    r: np.ndarray,
    w: np.ndarray,
) -> Sums:
    """
    Sum what there is to know of V.

    Parameters
    ----------
    Z
        Sparse `(n, N)`, the terms side by side, whose levels and columns are `shapes`.
    Gs
        By term, the covariance `(p, p)` of a level's effects.
    X, r, w
        `(n, k)`, `(n,)`, and `(n,)` the rows' precisions given the effects.

    Raises
    ------
    NotSupportedError
        If too many effects meet.
    """
    from scipy.sparse import diags_array

    weighted = Z.T @ diags_array(w)
    A, WX = (weighted @ Z).tocoo(), X * w[:, None]
    rows = (X.T @ WX, WX.T @ r, float(r @ (w * r)), float(len(r)))
    met = _Met.of(A, shapes)
    first = met.eliminated()
    with one_thread():
        if first is None:
            return summed(_stacked(A, weighted @ X, weighted @ r, met), Gs, *rows)
        right = np.column_stack([weighted @ X, weighted @ r])
        return eliminated(_halves(A, right, shapes, first), Gs, *rows)


@dataclass(frozen=True, eq=False)
class _Met:
    """
    Which effects meet: clusters that share no row.

    Attributes
    ----------
    shapes
        By term, its levels and columns `(q, p)`.
    label
        `(N,)` each effect's cluster.
    counts
        `(clusters, terms)` levels of each term in each cluster.
    apart
        By term, whether no row has two of its levels.
    """

    shapes: Sequence[tuple[int, int]]
    label: np.ndarray
    counts: np.ndarray
    apart: Sequence[bool]

    @classmethod
    def of(cls, A: Any, shapes: Sequence[tuple[int, int]]) -> "_Met":
        """Find them in Z'D^-1 Z."""
        from scipy.sparse.csgraph import connected_components

        # Effects of one level belong together even where no row has both.
        parts = [np.repeat(np.arange(q), p) + at for (q, p), at in _units(shapes)]
        unit = np.concatenate([*parts, np.empty(0, int)])
        units = sum(q for q, _ in shapes)
        if not units:
            return cls(shapes, unit, np.empty((0, len(shapes)), int), [])
        i, j = unit[A.row], unit[A.col]
        met = type(A)((np.ones(len(A.data)), (i, j)), shape=(units, units))
        count, label = connected_components(met, directed=False)
        per_term = [label[at : at + q] for (q, _), at in _units(shapes)]
        counts = np.stack([np.bincount(part, minlength=count) for part in per_term], axis=1)
        term = np.repeat(np.arange(len(shapes)), [q for q, _ in shapes])
        both = np.unique(term[i[(i != j) & (term[i] == term[j])]])
        return cls(shapes, label[unit], counts, [t not in both for t in range(len(shapes))])

    @property
    def widths(self) -> np.ndarray:
        """Effects by cluster."""
        return self.counts @ np.array([p for _, p in self.shapes])

    def eliminated(self) -> int | None:
        """
        Choose the term without which matrices are smallest; None where clusters are smaller.

        Raises
        ------
        NotSupportedError
            If they are too large in any way.
        """
        sizes = np.array([q * p for q, p in self.shapes])
        alone = [t for t, apart in enumerate(self.apart) if apart]
        widest = int(self.widths.max(initial=0))
        if not alone or not len(sizes):
            first, rest = None, widest
        else:
            first = max(alone, key=lambda t: sizes[t])
            rest = int(sizes.sum() - sizes[first])
            if float(rest) ** 3 >= np.sum(self.widths.astype(float) ** 3) or widest <= SMALL:
                first, rest = None, widest
        if rest > LARGEST:
            raise NotSupportedError(
                f"{rest} random effects meet in one cluster, more than the {LARGEST} that "
                f"small-sample degrees of freedom are computed for; use ddf='asymptotic'."
            )
        return first


def _halves(A: Any, right: np.ndarray, shapes: Sequence[tuple[int, int]], first: int) -> Halves:
    """Cut Z'D^-1 Z into the term to eliminate and the others."""
    ends = np.cumsum([0, *(q * p for q, p in shapes)])
    own = np.zeros(int(ends[-1]), bool)
    own[ends[first] : ends[first + 1]] = True
    q, p = shapes[first]
    A = A.tocsr()
    block = A[own][:, own].tocoo()
    A11 = np.zeros((q, p, p))
    A11[block.row // p, block.row % p, block.col % p] = block.data
    return Halves(
        first, shapes, A11, A[own][:, ~own], A[~own][:, ~own].toarray(), right[own], right[~own]
    )


def _stacked(A: Any, B: np.ndarray, c: np.ndarray, met: _Met) -> list[Stack]:
    """Cut the effects into clusters, and put those of equal shape together."""
    shapes, label, size = met.shapes, met.label, len(met.label)
    if not size:
        return []
    kinds, kind = np.unique(met.counts, axis=0, return_inverse=True)
    count = len(met.counts)
    which, place, local = kind.ravel()[label], np.empty(size, int), np.empty(size, int)
    widths = kinds @ np.array([p for _, p in shapes])
    order = np.lexsort((np.arange(size), label))
    starts = np.concatenate([[0], np.cumsum(np.bincount(label, minlength=count))])
    local[order] = np.arange(size) - starts[label[order]]
    number = np.empty(count, int)
    for k in range(len(kinds)):
        of_kind = np.flatnonzero(kind.ravel() == k)
        number[of_kind] = np.arange(len(of_kind))
    place = number[label]
    found = []
    for k, width in enumerate(widths):
        s, at, entry = int((kind.ravel() == k).sum()), which == k, which[A.row] == k
        block = np.zeros((s, width, width))
        i, j = A.row[entry], A.col[entry]
        block[place[i], local[i], local[j]] = A.data[entry]
        left, right = np.zeros((s, width, B.shape[1])), np.zeros((s, width))
        left[place[at], local[at]], right[place[at], local[at]] = B[at], c[at]
        levels = [(int(q), p) for q, (_, p) in zip(kinds[k], shapes, strict=True)]
        found.append(Stack(levels, block, left, right))
    return found


def _units(shapes: Sequence[tuple[int, int]]) -> list[tuple[tuple[int, int], int]]:
    """Give each term's shape with the number of levels of the terms before it."""
    ends = np.cumsum([0, *(q for q, _ in shapes)])[:-1]
    return [(shape, int(end)) for shape, end in zip(shapes, ends, strict=True)]
