"""
Compiled passes of the blocked factorisation: one grouping by small blocks, the rest dense.

Rows stand in order of the first block's levels. A level g has k effects; the second block has the
other terms' effects and then p coefficients. `C12` holds, level after level, a `(k, m + p)`
matrix of its cross-products with the m columns of the second block that its rows meet (`cols`, the
run `tp[g]:tp[g + 1]`) and the p coefficients.
"""

import math

import numpy as np

from glmm_bayes.engine.kernels import compiled


@compiled
def invert_small(A, k, work):
    """Invert a positive definite `(k, k)` matrix in place; give log |A|, NaN if it is not."""
    if k == 1:
        d = A[0, 0]
        A[0, 0] = 1.0 / d
        return math.log(d) if d > 0 else np.nan
    log_determinant = 0.0
    for j in range(k):
        d = A[j, j]
        for i in range(j):
            d -= work[j, i] * work[j, i]
        if not d > 0:
            return np.nan
        log_determinant += math.log(d)
        d = math.sqrt(d)
        work[j, j] = d
        for i in range(j + 1, k):
            s = A[i, j]
            for t in range(j):
                s -= work[i, t] * work[j, t]
            work[i, j] = s / d
    # The inverse of the factor, in its place, and then its square.
    for j in range(k):
        work[j, j] = 1.0 / work[j, j]
        for i in range(j + 1, k):
            s = 0.0
            for t in range(j, i):
                s -= work[i, t] * work[t, j]
            work[i, j] = s / work[i, i]
    for a in range(k):
        for b in range(a + 1):
            s = 0.0
            for t in range(a, k):
                s += work[t, a] * work[t, b]
            A[a, b] = s
            A[b, a] = s
    return log_determinant


@compiled
def transform_columns(C, start, k, width, tp_g, cols, m, term, within, sizes, L2, into):
    """Write a level's `(k, width)` cross-products with the columns taken times Lambda."""
    for a in range(k):
        at = start + a * width
        j = 0
        while j < m:
            t = term[cols[tp_g + j]]
            size = sizes[t]
            if size == 1:
                into[a, j] = C[at + j] * L2[t, 0, 0]
            else:
                for c in range(size):
                    s = 0.0
                    for r in range(size):
                        s += C[at + j + r] * L2[t, r, c]
                    into[a, j + c] = s
            j += size
        for c in range(m, width):
            into[a, c] = C[at + c]


@compiled
def second_block(A22, q2, used, term, within, sizes, L2, S):
    """Write Lambda' A22 Lambda + I, and the coefficients' rows with Lambda on one side; lower."""
    for i in range(q2):
        ti, wi = term[i], within[i]
        for j in range(i + 1):
            tj, wj = term[j], within[j]
            if sizes[ti] == 1 and sizes[tj] == 1:
                S[i, j] = L2[ti, 0, 0] * L2[tj, 0, 0] * A22[i, j]
                continue
            s = 0.0
            for r in range(sizes[ti]):
                for c in range(sizes[tj]):
                    a, b = i - wi + r, j - wj + c
                    s += L2[ti, r, wi] * L2[tj, c, wj] * A22[max(a, b), min(a, b)]
            S[i, j] = s
        S[i, i] += 1.0
    for i in range(q2, q2 + used):
        for j in range(q2):
            tj, wj = term[j], within[j]
            s = 0.0
            for c in range(sizes[tj]):
                s += A22[i, j - wj + c] * L2[tj, c, wj]
            S[i, j] = s
        for j in range(q2, i + 1):
            S[i, j] = A22[i, j]


@compiled
def eliminate(C11, C12, L1, tp, cols, p, used, q2, term, within, sizes, L2, Ainv, Gm, S):
    """
    Eliminate the first block: S becomes its Schur complement, lower.

    Writes `Ainv` `(G, k, k)`, the inverses of Lambda' C11 Lambda + I, and `Gm`, Ainv times the
    transformed C12, laid out like it; gives the log determinant, NaN where a block is not
    positive definite.
    """
    G, k = C11.shape[0], C11.shape[1]
    widest = 0
    for g in range(G):
        widest = max(widest, tp[g + 1] - tp[g])
    half, B, work = np.empty((k, widest + p)), np.empty((k, widest + p)), np.empty((k, k))
    where = np.empty(widest + p, np.int64)
    log_determinant = 0.0
    for g in range(G):
        m = tp[g + 1] - tp[g]
        width, start = m + p, k * (tp[g] + g * p)
        for j in range(m + used):
            where[j] = cols[tp[g] + j] if j < m else q2 + j - m
        square_block(C11[g], L1, k, Ainv[g], work)
        log_determinant += invert_small(Ainv[g], k, work)
        transform_columns(C12, start, k, width, tp[g], cols, m, term, within, sizes, L2, half)
        for a in range(k):
            for j in range(m + used):
                s = 0.0
                for b in range(k):
                    s += L1[b, a] * half[b, j]
                B[a, j] = s
        for a in range(k):
            at = start + a * width
            for j in range(m + used):
                s = 0.0
                for b in range(k):
                    s += Ainv[g, a, b] * B[b, j]
                Gm[at + j] = s
        for a in range(k):
            at = start + a * width
            for i in range(m + used):
                c = B[a, i]
                if c == 0.0:
                    continue
                row, line = S[where[i]], Gm[at : at + i + 1]
                for j in range(i + 1):
                    # Unsigned: an index that may be negative costs numba a test, twice the time.
                    row[np.uint64(where[j])] -= c * line[j]
    return log_determinant


@compiled
def square_block(C, L, k, into, work):
    """Write L' C L + I of one level."""
    for a in range(k):
        for b in range(k):
            s = 0.0
            for r in range(k):
                s += C[a, r] * L[r, b]
            work[a, b] = s
    for a in range(k):
        for b in range(k):
            s = 1.0 if a == b else 0.0
            for r in range(k):
                s += L[r, a] * work[r, b]
            into[a, b] = s


@compiled
def reduce_right(g1, g2, Gm, tp, cols, p, used, q2, out):
    """Take the first block's part off a right-hand side: out = g2 - Gm' g1."""
    G, k = g1.shape
    out[:] = g2
    for g in range(G):
        m = tp[g + 1] - tp[g]
        for a in range(k):
            at, v = k * (tp[g] + g * p) + a * (m + p), g1[g, a]
            for j in range(m):
                out[cols[tp[g] + j]] -= Gm[at + j] * v
            for j in range(used):
                out[q2 + j] -= Gm[at + m + j] * v


@compiled
def back_substitute(g1, d2, Ainv, Gm, tp, cols, p, used, q2, d1):
    """Write the first block's solution: d1 = Ainv g1 - Gm d2."""
    G, k = g1.shape
    for g in range(G):
        m = tp[g + 1] - tp[g]
        for a in range(k):
            at, s = k * (tp[g] + g * p) + a * (m + p), 0.0
            for b in range(k):
                s += Ainv[g, a, b] * g1[g, b]
            for j in range(m):
                s -= Gm[at + j] * d2[cols[tp[g] + j]]
            for j in range(used):
                s -= Gm[at + m + j] * d2[q2 + j]
            d1[g, a] = s


@compiled
def traces(C11, C12, L1, tp, cols, p, used, q2, term, within, sizes, L2, Ainv, Gm, Sinv, H11, V, D):
    """
    Collect what the log determinant's derivative by Lambda needs, level by level.

    Writes the blocks `H11` `(G, k, k)` of the inverse and `V`, minus its blocks beside them,
    laid out like C12; gives the first block's sum of (C Lambda H^-1)_gg `(k, k)`, and adds to `D`
    `(terms, size, size)` the first block's part in the other terms'.
    """
    G, k = C11.shape[0], C11.shape[1]
    widest = 0
    for g in range(G):
        widest = max(widest, tp[g + 1] - tp[g])
    half, full, at2 = np.empty((k, widest + p)), np.zeros((k, k)), np.empty(widest + p, np.int64)
    for g in range(G):
        m = tp[g + 1] - tp[g]
        width, start = m + p, k * (tp[g] + g * p)
        for j in range(m):
            at2[j] = cols[tp[g] + j]
        for j in range(used):
            at2[m + j] = q2 + j
        for a in range(k):
            at = start + a * width
            v, line = V[at : at + m + used], Gm[at : at + m + used]
            v[:] = 0.0
            for i in range(m + used):
                # The inverse is symmetric: each of its entries is read once.
                c, row, s = line[i], Sinv[at2[i]], 0.0
                for j in range(i):
                    x = row[np.uint64(at2[j])]
                    v[j] += c * x
                    s += x * line[j]
                v[i] += s + c * row[np.uint64(at2[i])]
        for a in range(k):
            for b in range(k):
                s = Ainv[g, a, b]
                for j in range(m + used):
                    s += V[start + a * width + j] * Gm[start + b * width + j]
                H11[g, a, b] = s
        transform_columns(C12, start, k, width, tp[g], cols, m, term, within, sizes, L2, half)
        for a in range(k):
            for b in range(k):
                s = 0.0
                for r in range(k):
                    for c in range(k):
                        s += C11[g, a, r] * L1[r, c] * H11[g, c, b]
                for j in range(m + used):
                    s -= half[a, j] * V[start + b * width + j]
                full[a, b] += s
        add_other_traces(C12, start, k, width, m, L1, tp[g], cols, term, sizes, V, D)
    return full


@compiled
def add_other_traces(C12, start, k, width, m, L1, tp_g, cols, term, sizes, V, D):
    """Take off D one level's sum of (C21 Lambda H^-1) over the blocks of the other terms."""
    j = 0
    while j < m:
        t = term[cols[tp_g + j]]
        for r in range(sizes[t]):
            for c in range(sizes[t]):
                s = 0.0
                for a in range(k):
                    left = 0.0
                    for b in range(k):
                        left += C12[start + b * width + j + r] * L1[b, a]
                    s += left * V[start + a * width + j + c]
                D[t, r, c] -= s
        j += sizes[t]


@compiled
def mirror(A):
    """Copy the lower triangle of A onto the upper."""
    n = len(A)
    for i in range(n):
        for j in range(i):
            A[j, i] = A[i, j]


@compiled
def own_traces(A22, q2, used, term, within, sizes, L2, Sinv, D):
    """Add to D each term's sum over its levels of (A22 Lambda H^-1), in the second block."""
    for i in range(q2 + used):
        effect = i < q2
        ti, wi = (term[i], within[i]) if effect else (0, 0)
        for j in range(min(i + 1, q2)):
            v = A22[i, j]
            if v == 0.0:
                continue
            tj, wj = term[j], within[j]
            if not effect:
                for b in range(sizes[tj]):
                    D[tj, wj, b] += v * Sinv[i, j - wj + b]
                continue
            for b in range(sizes[ti]):
                for c in range(sizes[tj]):
                    D[ti, wi, b] += v * L2[tj, wj, c] * Sinv[j - wj + c, i - wi + b]
            if i != j:
                for b in range(sizes[tj]):
                    for c in range(sizes[ti]):
                        D[tj, wj, b] += v * L2[ti, wi, c] * Sinv[i - wi + c, j - wj + b]
