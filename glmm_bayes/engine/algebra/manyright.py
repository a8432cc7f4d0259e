"""Compiled passes of the blocked equations over many right-hand sides at once, side by side."""

import math

import numpy as np

from glmm_bayes.engine.kernels import compiled


@compiled
def spread(C12, tp, cols, p, q2, x, out):
    """Write C12 x: from the second block `(Q, B)` to the first `(G, k, B)`."""
    G, k, B = out.shape
    for g in range(G):
        m = tp[g + 1] - tp[g]
        own, pairs = cols[tp[g] : tp[g + 1]], m - m % 2
        for a in range(k):
            at, line = k * (tp[g] + g * p) + a * (m + p), out[g, a]
            line[:] = 0.0
            # Two at once: what is written is read and written again half as often.
            for j in range(0, pairs, 2):
                c, d, row, other = C12[at + j], C12[at + j + 1], x[own[j]], x[own[j + 1]]
                for s in range(B):
                    line[s] += c * row[s] + d * other[s]
            for j in range(pairs, m + p):
                c, row = C12[at + j], x[own[j] if j < m else q2 + j - m]
                for s in range(B):
                    line[s] += c * row[s]


@compiled
def gather(C12, tp, cols, p, q2, r, out):
    """Add C12' r to out: from the first block `(G, k, B)` to the second `(Q, B)`."""
    G, k, B = r.shape
    for g in range(G):
        m = tp[g + 1] - tp[g]
        for a in range(k):
            at, line = k * (tp[g] + g * p) + a * (m + p), r[g, a]
            for j in range(m + p):
                c = C12[at + j]
                row = out[cols[tp[g] + j] if j < m else q2 + j - m]
                for s in range(B):
                    row[s] += c * line[s]


@compiled
def solve_first(C11, L, r, more, out):
    """
    Write L (L'C L + I)^-1 (L' r + more) of every level, each right-hand side with an L of its own.

    `L` is `(k, k, B)`, `r` and `more` are `(G, k, B)`; without levels, `more` is nothing.
    """
    G, k, B = r.shape
    A, v = np.empty((k, k, B)), np.empty((k, B))
    for g in range(G):
        for a in range(k):
            v[a] = 0.0
            if len(more):
                v[a] = more[g, a]
            for b in range(k):
                for s in range(B):
                    v[a, s] += L[b, a, s] * r[g, b, s]
            for c in range(a + 1):
                A[a, c] = 1.0 if a == c else 0.0
                for b in range(k):
                    for d in range(k):
                        w = C11[g, b, d]
                        for s in range(B):
                            A[a, c, s] += L[b, a, s] * w * L[d, c, s]
        factor_and_solve(A, v)
        for a in range(k):
            out[g, a] = 0.0
            for b in range(k):
                for s in range(B):
                    out[g, a, s] += L[a, b, s] * v[b, s]


@compiled
def factor_and_solve(A, v):
    """Solve positive definite `(k, k, B)` equations in place of v `(k, B)`; A's lower triangle."""
    k, B = v.shape
    for j in range(k):
        for i in range(j):
            for s in range(B):
                A[j, j, s] -= A[j, i, s] * A[j, i, s]
        for s in range(B):
            A[j, j, s] = 1.0 / math.sqrt(A[j, j, s])
        for i in range(j + 1, k):
            for t in range(j):
                for s in range(B):
                    A[i, j, s] -= A[i, t, s] * A[j, t, s]
            for s in range(B):
                A[i, j, s] *= A[j, j, s]
    for j in range(k):
        for i in range(j):
            for s in range(B):
                v[j, s] -= A[j, i, s] * v[i, s]
        for s in range(B):
            v[j, s] *= A[j, j, s]
    for j in range(k - 1, -1, -1):
        for i in range(j + 1, k):
            for s in range(B):
                v[j, s] -= A[i, j, s] * v[i, s]
        for s in range(B):
            v[j, s] *= A[j, j, s]
