"""
Compiled passes over the meetings of two blocks of effects, for many right-hand sides at once.

The first block is one grouping: G levels of k effects, rows in their order. The second has q2
effects; level g meets the run `tp[g]:tp[g + 1]` of `cols`, and what it has with them is packed
level after level, `(k, m)`. Many vectors are arrays whose last axis runs over them. An effect's own
block is its level's in its term: `(q2, widest)` hold every effect's row of it.
"""

import numpy as np

from glmm_bayes.engine.algebra.schur import invert_small, square_block, transform_columns
from glmm_bayes.engine.kernels import compiled


@compiled
def accumulate(w, ptr, Z, entries, values, where, tp, sizes, C11, C12, D22):
    """Write the cross-products of the rows' columns, with weights w; of the second, own blocks."""
    k = Z.shape[1]
    C11[:] = 0.0
    C12[:] = 0.0
    D22[:] = 0.0
    for g in range(len(ptr) - 1):
        m, start = tp[g + 1] - tp[g], k * tp[g]
        for i in range(ptr[g], ptr[g + 1]):
            for a in range(k):
                for b in range(k):
                    C11[g, a, b] += w[i] * Z[i, a] * Z[i, b]
            begin = 0
            for size in sizes:
                for a in range(begin, begin + size):
                    wv, at = w[i] * values[i, a], where[i, a]
                    for b in range(k):
                        C12[np.uint64(start + b * m + at)] += wv * Z[i, b]
                    for b in range(size):
                        D22[entries[i, a], b] += wv * values[i, begin + b]
                begin += size


@compiled
def eliminate(C11, C12, L1, tp, cols, term, within, sizes, L2, Ainv, B, own):
    """
    Eliminate the first block: take its part off the own blocks of the second's Hessian.

    Writes `Ainv` `(G, k, k)`, the inverses of Lambda' C11 Lambda + I, and `B`, the transformed
    C12; gives the log determinant, NaN where a block is not positive definite.
    """
    G, k = C11.shape[0], C11.shape[1]
    widest = 0
    for g in range(G):
        widest = max(widest, tp[g + 1] - tp[g])
    half, work = np.empty((k, widest)), np.empty((k, k))
    log_determinant = 0.0
    for g in range(G):
        m, start = tp[g + 1] - tp[g], k * tp[g]
        square_block(C11[g], L1, k, Ainv[g], work)
        log_determinant += invert_small(Ainv[g], k, work)
        transform_columns(C12, start, k, m, tp[g], cols, m, term, within, sizes, L2, half)
        for a in range(k):
            for j in range(m):
                s = 0.0
                for b in range(k):
                    s += L1[b, a] * half[b, j]
                B[start + a * m + j] = s
        for j in range(m):
            col = cols[tp[g] + j]
            first, size = j - within[col], sizes[term[col]]
            for a in range(k):
                s = 0.0
                for b in range(k):
                    s += Ainv[g, a, b] * B[start + b * m + j]
                for c in range(size):
                    own[col, c] -= s * B[start + a * m + first + c]
    return log_determinant


@compiled
def own_products(own, term, within, sizes, x, out):
    """Write the own blocks times x `(q2, c)`."""
    for j in range(len(x)):
        first, line = j - within[j], out[j]
        line[:] = 0.0
        for b in range(sizes[term[j]]):
            v, row = own[j, b], x[first + b]
            for c in range(len(line)):
                line[c] += v * row[c]


@compiled
def row_products(w, entries, values, x, out):
    """Add the rows' V' w V x `(q2, c)`, V the rows' values in the second block."""
    n, e = entries.shape
    s = np.empty(x.shape[1])
    for i in range(n):
        s[:] = 0.0
        for a in range(e):
            v, row = values[i, a], x[entries[i, a]]
            for c in range(len(s)):
                s[c] += v * row[c]
        for a in range(e):
            v, row = w[i] * values[i, a], out[entries[i, a]]
            for c in range(len(s)):
                row[c] += v * s[c]


@compiled
def gather_level(B, start, m, tp_g, cols, x, t):
    """Write one level's B x `(k, c)`."""
    for a in range(len(t)):
        line = t[a]
        line[:] = 0.0
        for j in range(m):
            v, row = B[start + a * m + j], x[cols[tp_g + j]]
            for c in range(len(line)):
                line[c] += v * row[c]


@compiled
def scatter_level(B, start, m, tp_g, cols, t, sign, out):
    """Add to out sign B' t of one level."""
    for a in range(len(t)):
        line = t[a]
        for j in range(m):
            v, row = sign * B[start + a * m + j], out[cols[tp_g + j]]
            for c in range(len(line)):
                row[c] += v * line[c]


@compiled
def times_small(A, t, into):
    """Write A t, A `(k, k)`, t `(k, c)`."""
    for a in range(len(t)):
        line = into[a]
        line[:] = 0.0
        for b in range(len(t)):
            v, row = A[a, b], t[b]
            for c in range(len(line)):
                line[c] += v * row[c]


@compiled
def take_off(Ainv, B, tp, cols, x, out):
    """Take B' Ainv B x off out, both `(q2, c)`."""
    k = Ainv.shape[1]
    t, s = np.empty((k, x.shape[1])), np.empty((k, x.shape[1]))
    for g in range(len(Ainv)):
        m, start = tp[g + 1] - tp[g], k * tp[g]
        gather_level(B, start, m, tp[g], cols, x, t)
        times_small(Ainv[g], t, s)
        scatter_level(B, start, m, tp[g], cols, s, -1.0, out)


@compiled
def lifted(Ainv, B, tp, cols, x, out):
    """Write -Ainv B x `(G, k, c)`."""
    k = Ainv.shape[1]
    t = np.empty((k, x.shape[1]))
    for g in range(len(Ainv)):
        gather_level(B, k * tp[g], tp[g + 1] - tp[g], tp[g], cols, x, t)
        times_small(Ainv[g], t, out[g])
        out[g] *= -1.0


@compiled
def lowered(Ainv, B, tp, cols, y, out):
    """Take B' Ainv y off out `(q2, c)`, y `(G, k, c)`."""
    k = Ainv.shape[1]
    s = np.empty((k, y.shape[2]))
    for g in range(len(Ainv)):
        times_small(Ainv[g], y[g], s)
        scatter_level(B, k * tp[g], tp[g + 1] - tp[g], tp[g], cols, s, -1.0, out)


@compiled
def between(C11, C12, tp, cols, b1, b2, s1, s2):
    """Write C11 b1 + C12 b2 `(G, k, c)`, and add C12' b1 to s2 `(q2, c)`."""
    k = C11.shape[1]
    t = np.empty((k, b2.shape[1]))
    for g in range(len(C11)):
        m, start = tp[g + 1] - tp[g], k * tp[g]
        times_small(C11[g], b1[g], s1[g])
        gather_level(C12, start, m, tp[g], cols, b2, t)
        s1[g] += t
        scatter_level(C12, start, m, tp[g], cols, b1[g], 1.0, s2)


@compiled
def slopes(C11, C12, L1, Ainv, B, tp, cols, term, within, sizes, L2, first, second):
    """
    Collect how the traces depend on the own blocks Q of the second block's inverse.

    With Q_j the block of which effect j is a row: `first` `(k, k, q2, widest)` are the slopes of
    the first block's sum of (C Lambda H^-1)_gg, and to `second` `(q2, widest)` is added what
    multiplies Q from the left in the other terms'.
    """
    G, k = C11.shape[0], C11.shape[1]
    widest = 0
    for g in range(G):
        widest = max(widest, tp[g + 1] - tp[g])
    half, Gm, left = np.empty((k, widest)), np.empty((k, widest)), np.empty((k, widest))
    moved = np.empty((k, k))
    first[:] = 0.0
    for g in range(G):
        m, start = tp[g + 1] - tp[g], k * tp[g]
        transform_columns(C12, start, k, m, tp[g], cols, m, term, within, sizes, L2, half)
        for a in range(k):
            for b in range(k):
                moved[a, b] = 0.0
                for c in range(k):
                    moved[a, b] += C11[g, a, c] * L1[c, b]
        for j in range(m):
            for a in range(k):
                Gm[a, j] = 0.0
                for b in range(k):
                    Gm[a, j] += Ainv[g, a, b] * B[start + b * m + j]
            for a in range(k):
                left[a, j] = -half[a, j]
                for b in range(k):
                    left[a, j] += moved[a, b] * Gm[b, j]
        for j in range(m):
            col = cols[tp[g] + j]
            begin = j - within[col]
            for c in range(sizes[term[col]]):
                for a in range(k):
                    for b in range(k):
                        first[a, b, col, c] += left[a, j] * Gm[b, begin + c]
                s = 0.0
                for a in range(k):
                    for b in range(k):
                        s += C12[start + b * m + j] * L1[b, a] * Gm[a, begin + c]
                second[col, c] -= s


@compiled
def beside(Ainv, B, tp, cols, term, within, sizes, inverse, H11, V):
    """
    Write the first block's part of H^-1, the second's being the own blocks `inverse`.

    `H11` `(G, k, k)`, and `V`, minus the blocks beside them, packed like C12.
    """
    k = Ainv.shape[1]
    widest = 0
    for g in range(len(Ainv)):
        widest = max(widest, tp[g + 1] - tp[g])
    Gm = np.empty((k, widest))
    for g in range(len(Ainv)):
        m, start = tp[g + 1] - tp[g], k * tp[g]
        for j in range(m):
            for a in range(k):
                Gm[a, j] = 0.0
                for b in range(k):
                    Gm[a, j] += Ainv[g, a, b] * B[start + b * m + j]
        for j in range(m):
            col = cols[tp[g] + j]
            begin = j - within[col]
            for a in range(k):
                s = 0.0
                for c in range(sizes[term[col]]):
                    s += Gm[a, begin + c] * inverse[col, c]
                V[start + a * m + j] = s
        for a in range(k):
            for b in range(k):
                s = Ainv[g, a, b]
                for j in range(m):
                    s += V[start + a * m + j] * Gm[b, j]
                H11[g, a, b] = s


@compiled
def own_leverages(ptr, Z, L1, entries, where, moved, tp, sizes, inverse, H11, V, h):
    """Write h_i = j_i' H^-1 j_i for the H^-1 of `beside`; `moved` the rows' J in block two."""
    k = Z.shape[1]
    z = np.empty(k)
    for g in range(len(ptr) - 1):
        m, start = tp[g + 1] - tp[g], k * tp[g]
        for i in range(ptr[g], ptr[g + 1]):
            for a in range(k):
                z[a] = 0.0
                for b in range(k):
                    z[a] += Z[i, b] * L1[b, a]
            s = 0.0
            for a in range(k):
                part = 0.0
                for b in range(k):
                    part += z[b] * H11[g, a, b]
                for b in range(entries.shape[1]):
                    part -= 2.0 * V[start + a * m + where[i, b]] * moved[i, b]
                s += z[a] * part
            begin = 0
            for size in sizes:
                for a in range(begin, begin + size):
                    for b in range(size):
                        s += moved[i, a] * inverse[entries[i, a], b] * moved[i, begin + b]
                begin += size
            h[i] = s


@compiled
def probed_leverages(ptr, Z, entries, values, sizes, a1, a2, b1, b2, c2, exact, h, squares):
    """
    Add to h the rows' products with pairs of vectors, less those with own blocks of others.

    Effects a, b and c on their own scale; what the vectors after the first `exact` give is summed
    with its squares, centred, in `squares`.
    """
    columns = a2.shape[1]
    left, right, off = np.empty(columns), np.empty(columns), np.empty(columns)
    own, other = np.empty(columns), np.empty(columns)
    m = columns - exact
    for g in range(len(ptr) - 1):
        for i in range(ptr[g], ptr[g + 1]):
            left[:] = 0.0
            right[:] = 0.0
            off[:] = 0.0
            for a in range(Z.shape[1]):
                v, one, two = Z[i, a], a1[g, a], b1[g, a]
                for c in range(columns):
                    left[c] += v * one[c]
                    right[c] += v * two[c]
            begin = 0
            for size in sizes:
                own[:] = 0.0
                other[:] = 0.0
                for a in range(begin, begin + size):
                    v, j = values[i, a], entries[i, a]
                    one, two, three = a2[j], b2[j], c2[j]
                    for c in range(columns):
                        own[c] += v * one[c]
                        right[c] += v * two[c]
                        other[c] += v * three[c]
                for c in range(columns):
                    left[c] += own[c]
                    off[c] += own[c] * other[c]
                begin += size
            total, square = 0.0, 0.0
            for c in range(columns):
                part = left[c] * right[c] - off[c]
                h[i] += part
                if c >= exact:
                    total += part
                    square += part * part
            squares[i] = max(square - total * total / m, 0.0)
