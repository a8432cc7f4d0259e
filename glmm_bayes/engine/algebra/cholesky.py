"""Sparse Cholesky factors of positive definite matrices that share one pattern.

`analyse` looks at a pattern once: it orders it, finds the pattern of the factor, and where each
entry of the matrix goes. Everything after that is compiled, and safe in several threads.
"""

# numba infers the types of what it compiles.
# mypy: disallow-untyped-defs=False

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from glmm_bayes.engine.algebra import elimination
from glmm_bayes.engine.kernels import compiled

EPS = float(np.finfo(float).eps)


@dataclass(frozen=True, eq=False)
class Symbolic:
    """
    What can be said of P A P' = L L' from the pattern of A alone.

    `indptr` and `indices` are the pattern of A's lower triangle, in A's own order, by columns with
    sorted rows, the whole diagonal included: a caller writes the `data` of `factor` in this order.
    The pattern of L is of the permuted matrix, by columns with sorted rows, n rows and columns.
    Columns that are dense below the diagonal and have the same rows below them stand in one
    *front*: they are computed together, without looking up rows.
    """

    n: int
    indptr: np.ndarray  # (n + 1,)
    indices: np.ndarray  # (entries of A,)
    order: np.ndarray  # (n,) A's row at each position of P A P'
    place: np.ndarray  # (entries of A,) where an entry of A stands among the entries of L
    L_indptr: np.ndarray  # (n + 1,)
    L_indices: np.ndarray  # (entries of L,)
    fronts: np.ndarray  # (fronts + 1,) their first columns, and n

    def places(self, entries: np.ndarray) -> np.ndarray:
        """
        Find where pairs of rows stand among the entries of A.

        Parameters
        ----------
        entries
            `(m, E)` rows of A, every pair of a line an entry of its pattern.

        Returns
        -------
        `(m, E (E + 1) / 2)` places in `indices`: of the pairs (0, 0), (1, 0), (1, 1), (2, 0), …
        """
        m, E = entries.shape
        column = np.repeat(np.arange(self.n), np.diff(self.indptr))
        keys = column * self.n + self.indices
        place, k = np.empty((m, E * (E + 1) // 2), dtype=np.int64), 0
        for a in range(E):
            for b in range(a + 1):
                low = np.minimum(entries[:, a], entries[:, b])
                high = np.maximum(entries[:, a], entries[:, b])
                place[:, k] = np.searchsorted(keys, low * self.n + high)
                k += 1
        return place

    def factor(self, data: np.ndarray) -> Factor:
        """
        Factorise the matrix with these entries.

        Parameters
        ----------
        data
            `(entries of A,)` the lower triangle, in the order of `indices`.

        Raises
        ------
        numpy.linalg.LinAlgError
            If the matrix is not positive definite, or a pivot is so small that it is the rounding
            error of its diagonal element, or an entry is not finite. A singular matrix whose
            rounding errors add up to more than that goes unnoticed.
        """
        data = np.ascontiguousarray(data, dtype=float)
        if data.shape != self.place.shape:
            raise ValueError(
                f"The pattern has {self.place.size} entries, but data has shape {data.shape}."
            )
        L = np.zeros(self.L_indices.size)
        log_determinant = _factorise(
            data, self.place, self.L_indptr, self.L_indices, self.fronts, L
        )
        if not np.isfinite(log_determinant):
            raise np.linalg.LinAlgError("The matrix is not positive definite.")
        return Factor(self, L, log_determinant)


@dataclass(frozen=True, eq=False)
class Factor:
    """The factor L of P A P' = L L', for one matrix A."""

    symbolic: Symbolic
    L: np.ndarray  # (entries of L,)
    log_determinant: float  # of A, natural log

    def solve(self, b: np.ndarray) -> np.ndarray:
        """Give A^-1 b; b is `(n,)` or `(n, m)`."""
        symbolic = self.symbolic
        x = self._copied(b)[symbolic.order]
        _solve_lower(symbolic.L_indptr, symbolic.L_indices, self.L, x)
        return self._solve_upper(x)

    def solve_root(self, z: np.ndarray) -> np.ndarray:
        """
        Give P' L^-T z; z is `(n,)` or `(n, m)`.

        Where z are independent N(0, 1), the columns are draws from N(0, A^-1).
        """
        return self._solve_upper(self._copied(z))

    def root_slopes(self, g: np.ndarray) -> np.ndarray:
        """Give L^-1 P g, the transpose of `solve_root`; g is `(n,)` or `(n, m)`."""
        x = self._copied(g)[self.symbolic.order]
        _solve_lower(self.symbolic.L_indptr, self.symbolic.L_indices, self.L, x)
        return x

    def selected_inverse(self) -> np.ndarray:
        """
        Give the entries of A^-1 where A has entries, in the order of `factor`'s data.

        Notes
        -----
        Takahashi's recursion, from the last column to the first: Erisman and Tinney (1975),
        Commun. ACM 18(3), 177-179.
        """
        symbolic = self.symbolic
        inverse = _invert_on_pattern(symbolic.L_indptr, symbolic.L_indices, symbolic.fronts, self.L)
        return inverse[symbolic.place]

    def _copied(self, b: np.ndarray) -> np.ndarray:
        """Give what may be solved in place; compiled code does not look whether rows exist."""
        b = np.array(b, dtype=float, order="C")
        if b.shape[:1] != (self.symbolic.n,):
            raise ValueError(f"The matrix has {self.symbolic.n} rows, but b has shape {b.shape}.")
        return b

    def _solve_upper(self, x: np.ndarray) -> np.ndarray:
        """Solve L' P x = x in place, and give the rows A's order."""
        symbolic = self.symbolic
        _solve_upper(symbolic.L_indptr, symbolic.L_indices, self.L, x)
        solution = np.empty_like(x)
        solution[symbolic.order] = x
        return solution


def analyse(pattern: Any) -> Symbolic:
    """
    Prepare the factorisation of all matrices with one pattern.

    Parameters
    ----------
    pattern
        `(n, n)` sparse array or matrix whose stored entries, zeros included, are the pattern of A:
        all of A or one triangle. The diagonal need not be there.

    Notes
    -----
    The elimination tree and the rows of L: Liu (1990), SIAM J. Matrix Anal. Appl. 11(1), 134-172;
    Davis (2006), Direct Methods for Sparse Linear Systems, chapter 4.
    """
    n = pattern.shape[0]
    if pattern.shape != (n, n):
        raise ValueError(f"The pattern must be square, but has shape {pattern.shape}.")
    entries = sparse.coo_array(pattern)
    row = np.r_[np.maximum(entries.row, entries.col), np.arange(n)]
    column = np.r_[np.minimum(entries.row, entries.col), np.arange(n)]
    indptr, indices = elimination.columns(row, column, n)
    row, column = indices, np.repeat(np.arange(n), np.diff(indptr))

    position = elimination.fill_reducing(row, column, n)
    parent = elimination.elimination_tree(*elimination.upper(position, row, column))
    position = elimination.postordered(parent)[position]
    L_indptr, L_indices, parent = elimination.factor_pattern(
        *elimination.upper(position, row, column)
    )
    order = np.empty(n, dtype=np.int64)
    order[position] = np.arange(n)
    return Symbolic(
        n=n,
        indptr=indptr,
        indices=indices,
        order=order,
        place=elimination.places(position[row], position[column], L_indptr, L_indices),
        L_indptr=L_indptr,
        L_indices=L_indices,
        fronts=elimination.fronts(L_indptr, parent),
    )


@compiled
def _subtract_front(first, last, row, indptr, indices, L, x, work):
    """
    Subtract from the column x (n,) what the columns of one front contribute to it.

    `row` counts from the front's first row to the row of L that is x's column.
    """
    start = indptr[first] + row
    size = indptr[first + 1] - start
    total = work[:size]
    for k in range(first, last):
        p = indptr[k] + row - (k - first)
        column = L[p : p + size]
        factor = column[0]
        if k == first:
            for i in range(size):
                total[i] = factor * column[i]
        else:
            for i in range(size):
                total[i] += factor * column[i]
    rows = indices[start : start + size]
    for i in range(size):
        x[rows[i]] -= total[i]


@compiled
def _finish_column(first, j, diagonal, indptr, L):
    """Subtract the earlier columns of j's front, divide by the root of the pivot; give the root."""
    target = L[indptr[j] : indptr[j + 1]]
    for k in range(first, j):
        p = indptr[k] + (j - k)
        column = L[p : p + target.size]
        factor = column[0]
        for i in range(target.size):
            target[i] -= factor * column[i]
    # Also false where the pivot is not a number.
    if not (target[0] > EPS * diagonal and target[0] < np.inf):
        return np.nan
    root = np.sqrt(target[0])
    target[0] = root
    for i in range(1, target.size):
        target[i] /= root
    return root


@compiled
def _factorise(data, place, indptr, indices, fronts, L):
    """Write L, which comes as zeros, left-looking by fronts; give log|A|, or NaN if it fails."""
    n = indptr.size - 1
    for p in range(place.size):
        L[place[p]] = data[p]
    x, work = np.zeros(n), np.empty(n)
    # Fronts wait in a list at the column that they contribute to next.
    waiting = np.full(n, -1, np.int64)
    after = np.full(fronts.size, -1, np.int64)
    row = np.zeros(fronts.size, np.int64)
    log_determinant = 0.0
    for front in range(fronts.size - 1):
        first, last = fronts[front], fronts[front + 1]
        for j in range(first, last):
            diagonal = L[indptr[j]]
            other = waiting[j]
            while other != -1:
                following = after[other]
                begin, end = fronts[other], fronts[other + 1]
                _subtract_front(begin, end, row[other], indptr, indices, L, x, work)
                row[other] += 1
                p = indptr[begin] + row[other]
                if p < indptr[begin + 1]:
                    after[other] = waiting[indices[p]]
                    waiting[indices[p]] = other
                other = following
            for p in range(indptr[j], indptr[j + 1]):
                L[p] += x[indices[p]]
                x[indices[p]] = 0.0
            root = _finish_column(first, j, diagonal, indptr, L)
            if np.isnan(root):
                return np.nan
            log_determinant += 2.0 * np.log(root)
        row[front] = last - first
        p = indptr[first] + row[front]
        if p < indptr[first + 1]:
            after[front] = waiting[indices[p]]
            waiting[indices[p]] = front
    return log_determinant


@compiled
def _subtract(x, i, factor, j):
    """Take a multiple of x's element or row j from its element or row i."""
    # numba keeps only the branch that fits the type; a vector is solved twice as fast by its own.
    if x.ndim == 1:
        x[i] -= factor * x[j]
    else:
        for c in range(x.shape[1]):
            x[i, c] -= factor * x[j, c]


@compiled
def _divide(x, j, pivot):
    """Divide x's element or row j."""
    if x.ndim == 1:
        x[j] /= pivot
    else:
        for c in range(x.shape[1]):
            x[j, c] /= pivot


@compiled
def _solve_lower(indptr, indices, L, x):
    """Solve L x = x in place; x is (n,) or (n, m)."""
    for j in range(indptr.size - 1):
        _divide(x, j, L[indptr[j]])
        for p in range(indptr[j] + 1, indptr[j + 1]):
            _subtract(x, indices[p], L[p], j)


@compiled
def _solve_upper(indptr, indices, L, x):
    """Solve L' x = x in place; x is (n,) or (n, m)."""
    for j in range(indptr.size - 2, -1, -1):
        for p in range(indptr[j] + 1, indptr[j + 1]):
            _subtract(x, j, L[p], indices[p])
        _divide(x, j, L[indptr[j]])


@compiled
def _gather(rows, indptr, indices, inverse, dense):
    """Write the inverse at some rows and columns; each column of L holds those after its own."""
    for b in range(rows.size):
        p = indptr[rows[b]]
        for a in range(b, rows.size):
            while indices[p] != rows[a]:
                p += 1
            dense[a, b] = inverse[p]
            dense[b, a] = inverse[p]


@compiled
def _invert_on_pattern(indptr, indices, fronts, L):
    """Give the inverse of L L' at the entries of L."""
    inverse = np.empty(L.size)
    largest = 0
    for j in range(indptr.size - 1):
        largest = max(largest, indptr[j + 1] - indptr[j])
    dense, weight = np.empty((largest, largest)), np.empty(largest)
    for front in range(fronts.size - 2, -1, -1):
        first, last = fronts[front], fronts[front + 1]
        size, width = indptr[first + 1] - indptr[first], last - first
        # The inverse among the front's rows, of which it grows by one from column to column.
        rows = indices[indptr[first] + width : indptr[first] + size]
        _gather(rows, indptr, indices, inverse, dense[width:, width:])
        for g in range(width - 1, -1, -1):
            start = indptr[first + g]
            count = size - g - 1
            pivot = L[start]
            column = inverse[start + 1 : start + 1 + count]
            column[:] = 0.0
            for b in range(count):
                weight[b] = L[start + 1 + b] / pivot
                known, factor = dense[g + 1 + b, g + 1 : size], weight[b]
                for a in range(count):
                    column[a] -= factor * known[a]
            diagonal = 1.0 / (pivot * pivot)
            for a in range(count):
                diagonal -= weight[a] * column[a]
                dense[g, g + 1 + a] = column[a]
                dense[g + 1 + a, g] = column[a]
            dense[g, g] = diagonal
            inverse[start] = diagonal
    return inverse
