"""Effects level by level as normals given coarser levels: the compiled passes of `whitening.py`."""

import numpy as np

from glmm_bayes.engine.kernels import compiled, inner

# A term's row of the table: where its effects start, its q levels and p columns, the width of its
# ancestors' columns, where its fronts start, how many ancestors it has, where its levels' parents,
# its roots and its reduced columns start. Matrices stand row by row in one vector, and are reached
# by their place in it: views of them would cost more than the arithmetic. Each pass goes over all
# levels of a term, for a call costs as much as a level.


@compiled
def to_effects(chains, Lambdas, fronts, right, z, v, roots, reduced):
    """
    Write v of z, and give log |dv/dz|; fronts and right sides are changed.

    From the finest terms to the coarsest, a level's front `[A, B]` `(p, p + w)` and right side
    `(p,)` become, with M = I + Lambda' A Lambda = L L', its root L and its reduced columns
    K = L^-1 Lambda' [B, right]; what is left of them is taken off its ancestors' fronts and right
    sides. Then back, v = L'^-1 (z + K (1, -b of the ancestors)).
    """
    table, order, ancestors, parents = chains
    # Not a constant, for which numba would compile each call anew.
    none = len(order) * 0
    total = 0.0
    for t in order:
        row, Lambda = table[t], Lambdas[t]
        total -= _factor(row, Lambda, fronts, roots)
        _reduce(row, Lambda, fronts, right, roots, reduced)
        levels, column = np.arange(row[1]), none
        for i in range(row[5]):
            levels, above = _levels_above(parents, ancestors, table, t, i, levels)
            _take_off(row, above, levels, column, fronts, right, reduced)
            column += above[2]
    for n in range(len(order) - 1, -1, -1):
        t = order[n]
        row = table[t]
        _begin(row, reduced, z, v)
        levels, column = np.arange(row[1]), none
        for i in range(row[5]):
            levels, above = _levels_above(parents, ancestors, table, t, i, levels)
            _less_ancestor(row, above, levels, column, Lambdas[ancestors[t, i]], reduced, v)
            column += above[2]
        _solve(row, roots, v)
    return total


@compiled
def from_effects(chains, Lambdas, fronts, right, roots, reduced, v, by_v, by_z, by_Lambda):
    """
    Carry slopes by v, and log |dv/dz|, back: written to z's, added to Lambda's.

    Fronts and right sides are as `to_effects` leaves them. Gives the slopes by what they were.
    """
    table, order, ancestors, parents = chains
    none = len(order) * 0
    by_roots, by_reduced = np.zeros(len(roots)), np.zeros(len(reduced))
    by_fronts, by_right = np.zeros(len(fronts)), np.zeros(len(right))
    by_b = np.zeros(len(right))
    for t in order:
        row = table[t]
        _from_level(row, Lambdas[t], roots, v, by_v, by_b, by_z, by_Lambda[t], by_roots, by_reduced)
        levels, column = np.arange(row[1]), none
        for i in range(row[5]):
            levels, above = _levels_above(parents, ancestors, table, t, i, levels)
            L = Lambdas[ancestors[t, i]]
            _to_ancestor(row, above, levels, column, L, reduced, v, by_z, by_reduced, by_b)
            column += above[2]
    for n in range(len(order) - 1, -1, -1):
        t = order[n]
        row = table[t]
        levels, column = np.arange(row[1]), none
        for i in range(row[5]):
            levels, above = _levels_above(parents, ancestors, table, t, i, levels)
            _from_ancestor(row, above, levels, column, reduced, by_reduced, by_fronts, by_right)
            column += above[2]
        _from_reduced(row, roots, reduced, by_reduced, by_roots)
        _from_root(row, roots, by_roots, Lambdas[t], fronts, by_fronts, by_Lambda[t])
        _from_columns(row, fronts, right, Lambdas[t], by_reduced, by_fronts, by_right, by_Lambda[t])
    return by_fronts, by_right


@inner
def _levels_above(parents, ancestors, table, t, i, levels):
    """Go from the levels of the last ancestor to those of the i-th, and give its row."""
    up = table[t, 6] if i == 0 else table[ancestors[t, i - 1], 6]
    found = np.empty_like(levels)
    for g in range(len(levels)):
        found[g] = parents[up + levels[g]]
    return found, table[ancestors[t, i]]


# ---- there


@inner
def _factor(row, Lambda, fronts, roots):
    """Write the roots L of M = I + Lambda' A Lambda; the sum of log |L|."""
    q, p, w, at, root = row[1], row[2], row[3], row[4], row[7]
    total = 0.0
    for g in range(q):
        f, r = at + g * p * (p + w), root + g * p * p
        for a in range(p):
            for b in range(a + 1):
                left = 1.0 if a == b else 0.0
                for c in range(a, p):
                    for d in range(b, p):
                        left += Lambda[c, a] * fronts[f + c * (p + w) + d] * Lambda[d, b]
                for c in range(b):
                    left -= roots[r + a * p + c] * roots[r + b * p + c]
                roots[r + a * p + b] = left / roots[r + b * p + b] if b < a else np.sqrt(left)
            for b in range(a + 1, p):
                roots[r + a * p + b] = 0.0
            total += np.log(roots[r + a * p + a])
    return total


@inner
def _reduce(row, Lambda, fronts, right, roots, reduced):
    """Write K = L^-1 Lambda' [B, right]."""
    start, q, p, w, at, root, shared = row[0], row[1], row[2], row[3], row[4], row[7], row[8]
    for g in range(q):
        f, r, k, o = at + g * p * (p + w), root + g * p * p, shared + g * p * (w + 1), start + g * p
        for j in range(w + 1):
            for a in range(p):
                left = 0.0
                for c in range(a, p):
                    own = fronts[f + c * (p + w) + p + j] if j < w else right[o + c]
                    left += Lambda[c, a] * own
                for c in range(a):
                    left -= roots[r + a * p + c] * reduced[k + c * (w + 1) + j]
                reduced[k + a * (w + 1) + j] = left / roots[r + a * p + a]


@inner
def _take_off(row, above, levels, column, fronts, right, reduced):
    """Take what levels leave off an ancestor's fronts and right sides."""
    p, w, shared = row[2], row[3], row[8]
    first, width, beyond, there = above[0], above[2], above[3], above[4]
    for g in range(len(levels)):
        f, o = there + levels[g] * width * (width + beyond), first + levels[g] * width
        for c in range(p):
            k = shared + (g * p + c) * (w + 1)
            for a in range(width):
                own = reduced[k + column + a]
                for b in range(w - column):
                    fronts[f + a * (width + beyond) + b] -= own * reduced[k + column + b]
                right[o + a] -= own * reduced[k + w]


@inner
def _begin(row, reduced, z, v):
    """Write z + K_right, to be made into v."""
    start, q, p, w, shared = row[0], row[1], row[2], row[3], row[8]
    for a in range(q * p):
        v[start + a] = z[start + a] + reduced[shared + a * (w + 1) + w]


@inner
def _less_ancestor(row, above, levels, column, Lambda, reduced, v):
    """Take off what an ancestor's effects explain."""
    start, p, w, shared, first, width = row[0], row[2], row[3], row[8], above[0], above[2]
    for g in range(len(levels)):
        for c in range(width):
            b = _effect(Lambda, v, first + levels[g] * width, c)
            for a in range(p):
                k = shared + (g * p + a) * (w + 1)
                v[start + g * p + a] -= reduced[k + column + c] * b


@inner
def _effect(Lambda, v, o, c):
    """Give one number of b = Lambda v."""
    b = 0.0
    for d in range(c + 1):
        b += Lambda[c, d] * v[o + d]
    return b


@inner
def _solve(row, roots, v):
    """Divide by L'."""
    start, q, p, root = row[0], row[1], row[2], row[7]
    for g in range(q):
        r, o = root + g * p * p, start + g * p
        for a in range(p - 1, -1, -1):
            for c in range(a + 1, p):
                v[o + a] -= roots[r + c * p + a] * v[o + c]
            v[o + a] /= roots[r + a * p + a]


# ---- and back


@inner
def _from_level(row, Lambda, roots, v, by_v, by_b, by_z, by_Lambda, by_roots, by_reduced):
    """Carry slopes by v and b = Lambda v back to z, L, Lambda and K_right."""
    start, q, p, w, root, shared = row[0], row[1], row[2], row[3], row[7], row[8]
    for g in range(q):
        r, o = root + g * p * p, start + g * p
        for a in range(p):
            left = by_v[o + a]
            for c in range(a, p):
                left += Lambda[c, a] * by_b[o + c]
            for c in range(a):
                left -= roots[r + a * p + c] * by_z[o + c]
            by_z[o + a] = left / roots[r + a * p + a]
            by_reduced[shared + (g * p + a) * (w + 1) + w] = by_z[o + a]
            for c in range(a + 1):
                by_Lambda[a, c] += by_b[o + a] * v[o + c]
                by_roots[r + a * p + c] = -v[o + a] * by_z[o + c]


@inner
def _to_ancestor(row, above, levels, column, Lambda, reduced, v, by_z, by_reduced, by_b):
    """Carry slopes back to an ancestor's effects, and to the columns that are about them."""
    start, p, w, shared, first, width = row[0], row[2], row[3], row[8], above[0], above[2]
    for g in range(len(levels)):
        o = first + levels[g] * width
        for c in range(width):
            b = _effect(Lambda, v, o, c)
            for a in range(p):
                k = shared + (g * p + a) * (w + 1) + column + c
                by_reduced[k] = -by_z[start + g * p + a] * b
                by_b[o + c] -= reduced[k] * by_z[start + g * p + a]


@inner
def _from_ancestor(row, above, levels, column, reduced, by_reduced, by_fronts, by_right):
    """Carry back to K what it took off an ancestor's fronts and right sides."""
    p, w, shared = row[2], row[3], row[8]
    first, width, beyond, there = above[0], above[2], above[3], above[4]
    for g in range(len(levels)):
        f, o = there + levels[g] * width * (width + beyond), first + levels[g] * width
        for c in range(p):
            k = shared + (g * p + c) * (w + 1)
            for a in range(width):
                own, by_own = reduced[k + column + a], by_right[o + a] * reduced[k + w]
                for b in range(w - column):
                    slope = by_fronts[f + a * (width + beyond) + b]
                    by_own += slope * reduced[k + column + b]
                    by_reduced[k + column + b] -= slope * own
                by_reduced[k + column + a] -= by_own
                by_reduced[k + w] -= by_right[o + a] * own


@inner
def _from_reduced(row, roots, reduced, by_reduced, by_roots):
    """Carry slopes by K = L^-1 N back to N, in place, and to L; and those of -log |L|."""
    q, p, w, root, shared = row[1], row[2], row[3], row[7], row[8]
    for g in range(q):
        r = root + g * p * p
        for j in range(w + 1):
            k = shared + g * p * (w + 1) + j
            for a in range(p - 1, -1, -1):
                left = by_reduced[k + a * (w + 1)]
                for c in range(a + 1, p):
                    left -= roots[r + c * p + a] * by_reduced[k + c * (w + 1)]
                left /= roots[r + a * p + a]
                by_reduced[k + a * (w + 1)] = left
                for c in range(a + 1):
                    by_roots[r + a * p + c] -= left * reduced[k + c * (w + 1)]
        for a in range(p):
            by_roots[r + a * p + a] -= 1.0 / roots[r + a * p + a]


@inner
def _from_root(row, roots, by_roots, Lambda, fronts, by_fronts, by_Lambda):
    """
    Carry slopes by L back to M = I + Lambda' A Lambda = L L', and from there to A and Lambda.

    Murray (2016), arXiv:1602.07527, for a symmetric M.
    """
    q, p, w, at, root = row[1], row[2], row[3], row[4], row[7]
    by_M = np.empty((p, p))
    for g in range(q):
        r, f = root + g * p * p, at + g * p * (p + w)
        for a in range(p):
            for b in range(a + 1):
                by_M[a, b] = 0.0
                for c in range(a, p):
                    by_M[a, b] += 0.5 * roots[r + c * p + a] * by_roots[r + c * p + b]
                by_M[b, a] = by_M[a, b]
        for b in range(p):
            for a in range(p - 1, -1, -1):
                for c in range(a + 1, p):
                    by_M[a, b] -= roots[r + c * p + a] * by_M[c, b]
                by_M[a, b] /= roots[r + a * p + a]
        for a in range(p):
            for b in range(p - 1, -1, -1):
                for c in range(b + 1, p):
                    by_M[a, b] -= by_M[a, c] * roots[r + c * p + b]
                by_M[a, b] /= roots[r + b * p + b]
        for a in range(p):
            for d in range(p):
                moved = 0.0
                for c in range(a + 1):
                    moved += Lambda[a, c] * by_M[c, d]
                for b in range(d, p):
                    by_fronts[f + a * (p + w) + b] += moved * Lambda[b, d]
                    # A is symmetric: Lambda stands on either side of it.
                    by_Lambda[b, d] += 2.0 * fronts[f + b * (p + w) + a] * moved


@inner
def _from_columns(row, fronts, right, Lambda, by_reduced, by_fronts, by_right, by_Lambda):
    """Carry slopes by N = Lambda' [B, right] back to B, right and Lambda."""
    start, q, p, w, at, shared = row[0], row[1], row[2], row[3], row[4], row[8]
    for g in range(q):
        f, k, o = at + g * p * (p + w), shared + g * p * (w + 1), start + g * p
        for j in range(w + 1):
            for a in range(p):
                own = fronts[f + a * (p + w) + p + j] if j < w else right[o + a]
                total = 0.0
                for c in range(a + 1):
                    slope = by_reduced[k + c * (w + 1) + j]
                    total += Lambda[a, c] * slope
                    by_Lambda[a, c] += own * slope
                if j < w:
                    by_fronts[f + a * (p + w) + p + j] += total
                else:
                    by_right[o + a] += total
