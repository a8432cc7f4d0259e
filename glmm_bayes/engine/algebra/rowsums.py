"""
Compiled passes over the rows of a blocked design: cross-products, predictors, leverages.

Blocks and layout are those of `schur`: rows stand in order of the first block's levels.
"""

import numpy as np

from glmm_bayes.engine.kernels import compiled


@compiled
def find_pattern(ptr, entries, columns):
    """
    List the columns of the second block that each level's rows meet.

    Returns
    -------
    where
        `(n, e)` the position of each row's entry in its level's list.
    tp, cols
        `(G + 1,)` where each list starts; the lists, ascending.
    """
    n, e = entries.shape
    G = len(ptr) - 1
    seen = np.full(columns, -1)
    place = np.zeros(columns, np.int64)
    where = np.empty((n, e), np.int64)
    tp = np.zeros(G + 1, np.int64)
    found = np.empty(n * e, np.int64)
    count = 0
    for g in range(G):
        start = count
        for i in range(ptr[g], ptr[g + 1]):
            for a in range(e):
                j = entries[i, a]
                if seen[j] != g:
                    seen[j] = g
                    found[count] = j
                    count += 1
        found[start:count].sort()
        for t in range(start, count):
            place[found[t]] = t - start
        for i in range(ptr[g], ptr[g + 1]):
            for a in range(e):
                where[i, a] = place[entries[i, a]]
        tp[g + 1] = count
    return where, tp, found[:count].copy()


@compiled
def accumulate(w, ptr, Z, entries, values, where, tp, X, with_x, C11, C12, A22):
    """Write the cross-products of the rows' columns with weights w `(n,)`; A22 is lower."""
    G, k, e, p = len(ptr) - 1, Z.shape[1], entries.shape[1], X.shape[1]
    q2 = A22.shape[0] - p
    used = p if with_x else 0
    C12[:] = 0.0
    A22[:] = 0.0
    own = np.zeros((used, used))
    for g in range(G):
        width = tp[g + 1] - tp[g] + p
        m, block = width - p, C12[k * (tp[g] + g * p) : k * (tp[g + 1] + (g + 1) * p)]
        for a in range(k):
            for b in range(a + 1):
                s = 0.0
                for i in range(ptr[g], ptr[g + 1]):
                    s += w[i] * Z[i, a] * Z[i, b]
                C11[g, a, b] = s
                C11[g, b, a] = s
            for b in range(used):
                s = 0.0
                for i in range(ptr[g], ptr[g + 1]):
                    s += w[i] * Z[i, a] * X[i, b]
                block[a * width + m + b] = s
        if e:
            add_entries(
                w, ptr[g], ptr[g + 1], Z, entries, values, where, X, used, width, block, A22, q2
            )
        for a in range(used):
            for b in range(a + 1):
                s = 0.0
                for i in range(ptr[g], ptr[g + 1]):
                    s += w[i] * X[i, a] * X[i, b]
                own[a, b] += s
    for a in range(used):
        for b in range(a + 1):
            A22[q2 + a, q2 + b] = own[a, b]


@compiled
def add_entries(w, start, end, Z, entries, values, where, X, used, width, block, A22, q2):
    """Add what one level's rows have in the second block's effects."""
    k, e = Z.shape[1], entries.shape[1]
    for i in range(start, end):
        for a in range(e):
            wv, row, at = w[i] * values[i, a], entries[i, a], where[i, a]
            for b in range(k):
                block[np.uint64(b * width + at)] += wv * Z[i, b]
            line = A22[row]
            for b in range(e):
                if entries[i, b] <= row:
                    line[np.uint64(entries[i, b])] += wv * values[i, b]
            for b in range(used):
                A22[q2 + b, np.uint64(row)] += wv * X[i, b]


@compiled
def predict(ptr, Z, entries, values, b1, b2, eta):
    """Add Z b to eta, all effects b on their own scale."""
    G, k, e = len(ptr) - 1, Z.shape[1], entries.shape[1]
    for g in range(G):
        for i in range(ptr[g], ptr[g + 1]):
            s = 0.0
            for a in range(k):
                s += Z[i, a] * b1[g, a]
            for a in range(e):
                s += values[i, a] * b2[entries[i, a]]
            eta[i] += s


@compiled
def collect(ptr, Z, entries, values, r, s1, s2):
    """Write Z' r for the two blocks."""
    G, k, e = len(ptr) - 1, Z.shape[1], entries.shape[1]
    s1[:] = 0.0
    s2[:] = 0.0
    for g in range(G):
        for i in range(ptr[g], ptr[g + 1]):
            for a in range(k):
                s1[g, a] += Z[i, a] * r[i]
            for a in range(e):
                s2[entries[i, a]] += values[i, a] * r[i]


@compiled
def leverages(ptr, Z, L1, entries, where, moved, tp, X, used, q2, H11, V, Sinv, h):
    """Write h_i = j_i' H^-1 j_i, j_i the row's columns times Lambda; `moved` those of block two."""
    G, k, e, p = len(ptr) - 1, Z.shape[1], entries.shape[1], X.shape[1]
    z = np.empty(k)
    for g in range(G):
        m = tp[g + 1] - tp[g]
        width, start = m + p, k * (tp[g] + g * p)
        for i in range(ptr[g], ptr[g + 1]):
            for a in range(k):
                z[a] = 0.0
                for b in range(k):
                    z[a] += Z[i, b] * L1[b, a]
            s = 0.0
            for a in range(k):
                at = start + a * width
                part = 0.0
                for b in range(k):
                    part += z[b] * H11[g, a, b]
                for b in range(e):
                    part -= 2.0 * V[at + where[i, b]] * moved[i, b]
                for b in range(used):
                    part -= 2.0 * V[at + m + b] * X[i, b]
                s += z[a] * part
            for a in range(e):
                row, part = Sinv[entries[i, a]], 0.0
                for b in range(e):
                    part += row[entries[i, b]] * moved[i, b]
                for b in range(used):
                    part += 2.0 * row[q2 + b] * X[i, b]
                s += moved[i, a] * part
            for a in range(used):
                part = 0.0
                for b in range(used):
                    part += Sinv[q2 + a, q2 + b] * X[i, b]
                s += X[i, a] * part
            h[i] = s


@compiled
def multiply(C11, C12, A22, tp, cols, p, q2, b1, b2, s1, s2):
    """Write the effects' rows of the cross-products times b1 and b2, which ends in coefficients."""
    G, k = b1.shape
    Q = q2 + p
    for i in range(q2):
        s = 0.0
        for j in range(i + 1):
            s += A22[i, j] * b2[j]
        for j in range(i + 1, Q):
            s += A22[j, i] * b2[j]
        s2[i] = s
    for g in range(G):
        m = tp[g + 1] - tp[g]
        for a in range(k):
            at, s = k * (tp[g] + g * p) + a * (m + p), 0.0
            for b in range(k):
                s += C11[g, a, b] * b1[g, b]
            for j in range(m):
                s += C12[at + j] * b2[cols[tp[g] + j]]
                s2[cols[tp[g] + j]] += C12[at + j] * b1[g, a]
            for j in range(p):
                s += C12[at + m + j] * b2[q2 + j]
            s1[g, a] = s
