"""Which entries the Cholesky factor of a sparse matrix has, and in which order to compute them."""

# numba infers the types of what it compiles.
# mypy: disallow-untyped-defs=False

from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import depth_first_order
from scipy.sparse.linalg import spilu

from glmm_bayes.engine.kernels import compiled


def columns(row: np.ndarray, column: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Sort entries, each once, into compressed columns."""
    entries = sparse.csc_array((np.ones(row.size), (row, column)), shape=(n, n))
    entries.sum_duplicates()
    return entries.indptr.astype(np.int64), entries.indices.astype(np.int64)


def upper(position: np.ndarray, row: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, ...]:
    """Give the upper triangle of P A P' by columns."""
    row, column = position[row], position[column]
    return columns(np.minimum(row, column), np.maximum(row, column), position.size)


def places(
    row: np.ndarray, column: np.ndarray, L_indptr: np.ndarray, L_indices: np.ndarray
) -> np.ndarray:
    """Find entries of P A P', from either triangle, among those of L."""
    n = L_indptr.size - 1
    known = np.repeat(np.arange(n), np.diff(L_indptr)) * n + L_indices
    return np.searchsorted(known, np.minimum(row, column) * n + np.maximum(row, column))


def fill_reducing(row: np.ndarray, column: np.ndarray, n: int) -> np.ndarray:
    """
    Give each row's position in a minimum degree ordering.

    SuperLU orders before it factorises. What it factorises here is diagonally dominant, so that
    it cannot fail, and incompletely, so that it costs little.
    """
    below = row > column
    row, column = row[below], column[below]
    ones = np.ones(row.size)
    edges = sparse.csc_array((ones, (row, column)), shape=(n, n))
    edges = edges + edges.T
    matrix = sparse.csc_array(sparse.diags_array(edges.sum(axis=0) + 1.0) - edges)
    ordered = spilu(
        matrix,
        drop_tol=1.0,
        fill_factor=1.0,
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    return ordered.perm_c.astype(np.int64)


def postordered(parent: np.ndarray) -> np.ndarray:
    """
    Give each column's position when every subtree is contiguous and before its root.

    L gets no more entries, and columns that can share a front become neighbours.
    """
    n = parent.size
    # Counted backwards, the roots hang on node 0, and a search that starts there meets the last
    # child first: the one of most entries, which has to stand next to its parent.
    below, above = n - np.arange(n), n - np.where(parent < 0, n, parent)
    tree = sparse.csr_array((np.ones(n), (above, below)), shape=(n + 1, n + 1))
    met = depth_first_order(tree, 0, return_predecessors=False)
    position = np.empty(n, dtype=np.int64)
    position[n - met[1:]] = np.arange(n - 1, -1, -1)
    return position


def fronts(L_indptr: np.ndarray, parent: np.ndarray) -> np.ndarray:
    """Give the columns that do not continue the front of the column before, and n."""
    n = parent.size
    entries = np.diff(L_indptr)
    continues = (parent[:-1] == np.arange(1, n)) & (entries[:-1] == entries[1:] + 1)
    return np.r_[0, 1 + np.flatnonzero(~continues), n]


@compiled
def elimination_tree(indptr, indices):
    """Give each column's parent, -1 for a root, from the upper triangle by columns."""
    n = indptr.size - 1
    parent = np.full(n, -1, np.int64)
    ancestor = np.full(n, -1, np.int64)
    for k in range(n):
        for p in range(indptr[k], indptr[k + 1]):
            i = indices[p]
            while i != -1 and i < k:
                above = ancestor[i]
                ancestor[i] = k
                if above == -1:
                    parent[i] = k
                i = above
    return parent


@compiled
def factor_pattern(indptr, indices):
    """Give the pattern of L by columns, and the elimination tree."""
    n = indptr.size - 1
    parent = elimination_tree(indptr, indices)
    seen = np.full(n, -1, np.int64)
    starts = np.zeros(n + 1, np.int64)
    # Row k of L is what the tree joins of row k of A. The first pass counts, the second writes.
    for k in range(n):
        seen[k] = k
        starts[k + 1] += 1
        for p in range(indptr[k], indptr[k + 1]):
            i = indices[p]
            while seen[i] != k:
                seen[i] = k
                starts[i + 1] += 1
                i = parent[i]
    for k in range(n):
        starts[k + 1] += starts[k]
    rows = np.empty(starts[n], np.int64)
    end = starts[:-1].copy()
    seen[:] = -1
    for k in range(n):
        seen[k] = k
        rows[end[k]] = k
        end[k] += 1
        for p in range(indptr[k], indptr[k + 1]):
            i = indices[p]
            while seen[i] != k:
                seen[i] = k
                rows[end[i]] = k
                end[i] += 1
                i = parent[i]
    return starts, rows, parent


@compiled
def count_pattern(indptr, indices, most):
    """Count the entries of L by columns, up to `most` in all."""
    n = indptr.size - 1
    parent = elimination_tree(indptr, indices)
    seen, counts, total = np.full(n, -1, np.int64), np.ones(n, np.int64), n
    for k in range(n):
        seen[k] = k
        for p in range(indptr[k], indptr[k + 1]):
            i = indices[p]
            while seen[i] != k:
                seen[i] = k
                counts[i] += 1
                total += 1
                i = parent[i]
        if total > most:
            break
    return counts, total


def fill(pattern: Any, most: int) -> np.ndarray | None:
    """
    Give the number of entries in each column of a factor, in some order.

    Parameters
    ----------
    pattern
        `(n, n)` sparse array, symmetric.
    most
        None is given where there are more entries.
    """
    entries = pattern.tocoo()
    lower = entries.row >= entries.col
    row, column = entries.row[lower], entries.col[lower]
    n = pattern.shape[0]
    position = fill_reducing(row, column, n)
    counts, total = count_pattern(*upper(position, row, column), most)
    return None if total > most else counts
