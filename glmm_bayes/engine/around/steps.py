"""Compiled passes of the moves by blocks; rows and packed matrices are laid out as in `schur`."""

import numpy as np

from glmm_bayes.engine.kernels import compiled


@compiled
def times_second(x, term, within, sizes, L2, transposed, out):
    """Write Lambda x, or Lambda' x, of the second block's effects."""
    for i in range(len(x)):
        t, w = term[i], within[i]
        size = sizes[t]
        if size == 1:
            out[i] = L2[t, 0, 0] * x[i]
            continue
        s = 0.0
        for j in range(size):
            s += (L2[t, j, w] if transposed else L2[t, w, j]) * x[i - w + j]
        out[i] = s


@compiled
def place(ptr, Z, entries, values, X, tp, cols, Gm, L1, m1, part, d2, b2, gamma, u1, eta):
    """Write the first block's u1 = m1 + part - Gm d2, and add all effects to eta."""
    G, k, e, p, q2 = len(ptr) - 1, Z.shape[1], entries.shape[1], X.shape[1], len(b2)
    b1 = np.empty(k)
    for g in range(G):
        m = tp[g + 1] - tp[g]
        for a in range(k):
            at, s = k * (tp[g] + g * p) + a * (m + p), m1[g, a] + part[g, a]
            for j in range(m):
                s -= Gm[at + j] * d2[np.uint64(cols[tp[g] + j])]
            for j in range(p):
                s -= Gm[at + m + j] * d2[q2 + j]
            u1[g, a] = s
        for a in range(k):
            s = 0.0
            for b in range(k):
                s += L1[a, b] * u1[g, b]
            b1[a] = s
        for i in range(ptr[g], ptr[g + 1]):
            s = 0.0
            for a in range(k):
                s += Z[i, a] * b1[a]
            for a in range(e):
                s += values[i, a] * b2[np.uint64(entries[i, a])]
            for a in range(p):
                s += X[i, a] * gamma[a]
            eta[i] += s


@compiled
def gather(ptr, Z, entries, values, tp, cols, p, Gm, L1, u1, r, s2, off):
    """Write s2 = Z2' r of the second block, and off = Gm' (L1' Z1' r - u1)."""
    G, k, e, q2 = len(ptr) - 1, Z.shape[1], entries.shape[1], len(s2)
    s2[:] = 0.0
    off[:] = 0.0
    s1 = np.empty(k)
    for g in range(G):
        m = tp[g + 1] - tp[g]
        s1[:] = 0.0
        for i in range(ptr[g], ptr[g + 1]):
            for a in range(k):
                s1[a] += Z[i, a] * r[i]
            for a in range(e):
                s2[np.uint64(entries[i, a])] += values[i, a] * r[i]
        for a in range(k):
            v = -u1[g, a]
            for b in range(k):
                v += L1[b, a] * s1[b]
            at = k * (tp[g] + g * p) + a * (m + p)
            for j in range(m):
                off[np.uint64(cols[tp[g] + j])] += Gm[at + j] * v
            for j in range(p):
                off[q2 + j] += Gm[at + m + j] * v


@compiled
def shift(ptr, Z, L1, roots, old, new, eta):
    """Add to eta what the first block changes when z goes from old to new."""
    G, k = old.shape
    d, b = np.empty(k), np.empty(k)
    for g in range(G):
        for a in range(k):
            s = 0.0
            for c in range(a + 1):
                s += roots[g, a, c] * (new[g, c] - old[g, c])
            d[a] = s
        for a in range(k):
            s = 0.0
            for c in range(k):
                s += L1[a, c] * d[c]
            b[a] = s
        for i in range(ptr[g], ptr[g + 1]):
            s = 0.0
            for a in range(k):
                s += Z[i, a] * b[a]
            eta[i] += s


@compiled
def accept(ptr, roots, old_values, values, old_eta, eta, chance, new, z, u):
    """
    Accept each level's new z, or put the old predictors and densities back; give how many moved.

    The levels' proposals are their normals themselves, so that these cancel against z's own
    density; u's is N(0, I).
    """
    G, k = z.shape
    v = np.empty(k)
    count = 0
    for g in range(G):
        gain = 0.0
        for i in range(ptr[g], ptr[g + 1]):
            gain += values[i] - old_values[i]
        for a in range(k):
            s = u[g, a]
            for c in range(a + 1):
                s += roots[g, a, c] * (new[g, c] - z[g, c])
            v[a] = s
            gain += 0.5 * (u[g, a] * u[g, a] - s * s + new[g, a] * new[g, a] - z[g, a] * z[g, a])
        if chance[g] < gain:
            count += 1
            for a in range(k):
                z[g, a] = new[g, a]
                u[g, a] = v[a]
        else:
            for i in range(ptr[g], ptr[g + 1]):
                values[i] = old_values[i]
                eta[i] = old_eta[i]
    return count
