"""One compiled pass from x to the log density and its gradient, and its C functions."""

import ctypes
from functools import lru_cache
from typing import Any

import numpy as np
from numba import carray, cfunc, types

from glmm_bayes.engine import kernels
from glmm_bayes.engine.density.dependent_passes import back, fill
from glmm_bayes.engine.density.row_passes import likelihood
from glmm_bayes.engine.kernels import inner

BLOCK = 256  # rows whose predictors stay in the nearest cache
DOUBLES = types.CPointer(types.double)
DOUBLE_P = ctypes.POINTER(ctypes.c_double)


DENSITY = types.int64(types.uint64, DOUBLES, DOUBLES, DOUBLES, types.voidptr)
PLACED = types.int64(types.uint64, types.uint64, DOUBLES, DOUBLES, types.voidptr)


@lru_cache
def c_functions() -> tuple[Any, Any]:
    """
    Compile the C functions, once for all models: some seconds, then kept on disk.

    Returns
    -------
    density
        `int64 (uint64 dim, double *x, double *gradient, double *value, void *memory)`: 0, or
        what is not finite there, 3 the gradient and 4 the value; `memory` is that of
        `compiled.Compiled`.
    copy
        `int64 (uint64 dim, uint64 dim, double *x, double *out, void *memory)`: x as it is.
    """
    return cfunc(DENSITY, cache=True)(_density), cfunc(PLACED, cache=True)(_copy)


def _density(dim, x_at, gradient_at, value_at, memory):
    size = np.int64(dim)
    words = carray(memory, (1,), np.int64)[0]
    floats, ints = carray(memory, (words,), np.float64), carray(memory, (words,), np.int64)
    x, gradient, value = carray(x_at, (size,)), carray(gradient_at, (size,)), carray(value_at, (1,))
    theta, slope, by_x, by_theta, total = outer(x, floats, ints)
    at = ints[0] * 0 + 1  # not a constant, for which numba would compile each call anew
    dependent = vector(at + 51, ints, ints)[1] > 0
    if dependent:
        fill(
            theta, matrix(at + 69, ints, ints), vector(at + 72, ints, ints),
            vector(at + 75, floats, ints), vector(at + 78, floats, ints),
        )  # fmt: skip
    b, by_b, Lambdas = room_for_effects(ints)
    total += to_effects(x, theta, b, Lambdas, floats, ints)
    total += rows(theta, b, by_theta, by_b, floats, ints)
    from_effects(x, theta, b, by_b, Lambdas, gradient, by_theta, floats, ints)
    if dependent:
        back(
            theta, by_theta, matrix(at + 69, ints, ints), vector(at + 72, ints, ints),
            vector(at + 75, floats, ints), vector(at + 78, floats, ints),
        )  # fmt: skip
    free = vector(at, ints, ints)
    for k in range(len(free)):
        gradient[k] = by_theta[free[k]] * slope[free[k]] + by_x[free[k]]
    value[0] = total
    return not_finite(total, gradient)


def _copy(dim, expanded, x_at, out_at, memory):
    size = np.int64(dim)
    x, out = carray(x_at, (size,)), carray(out_at, (size,))
    for k in range(size):
        out[k] = x[k]
    return 0


@inner
def not_finite(value, gradient):
    """Give 0, or what is not finite: 3 the gradient, 4 the value."""
    for k in range(len(gradient)):
        if not np.isfinite(gradient[k]):
            return 3
    return 0 if np.isfinite(value) else 4


@inner
def outer(x, floats, ints):
    """Give theta, d theta/dx, the derivative of the log Jacobian, and with the priors their sum."""
    at = ints[0] * 0 + 1
    return _constrain(
        x, vector(at, ints, ints), vector(at + 3, ints, ints), vector(at + 6, floats, ints),
        vector(at + 9, floats, ints), vector(at + 12, floats, ints),
        vector(at + 15, ints, ints), matrix(at + 18, floats, ints),
    )  # fmt: skip


@inner
def room_for_effects(ints):
    """Give b and its slopes `(N,)`, and the terms' factors, all zero."""
    at = ints[0] * 0 + 1
    terms = matrix(at + 48, ints, ints)
    effects, widest = 0, 1
    for t in range(len(terms)):
        effects += terms[t, 1] * terms[t, 2]
        widest = max(widest, terms[t, 2])
    return np.zeros(effects), np.zeros(effects), np.zeros((len(terms), widest, widest))


@inner
def vector(at, values, ints):
    """Give an array of the memory, by where it stands in its list."""
    return values[ints[at] : ints[at] + ints[at + 1]]


@inner
def matrix(at, values, ints):
    """Give an array of rows."""
    start, rows, columns = ints[at], ints[at + 1], ints[at + 2]
    return values[start : start + rows * columns].reshape(rows, columns)


@inner
def _constrain(x, free, kinds, lower, upper, value, priors, arguments):
    """Give theta, d theta/dx, the derivative of the log Jacobian, and with the priors their sum."""
    m = len(value)
    theta, slope, by_x, by_theta = value.copy(), np.ones(m), np.zeros(m), np.zeros(m)
    total = 0.0
    for k in range(len(free)):
        j = free[k]
        z = x[k]
        if kinds[j] == 0:
            theta[j] = z
        elif kinds[j] == 3:
            width, share = upper[j] - lower[j], kernels.expit(z)
            theta[j] = lower[j] + width * share
            slope[j], by_x[j] = width * share * (1.0 - share), 1.0 - 2.0 * share
            total += np.log(width) - kernels.softplus(z) - kernels.softplus(-z)
        else:
            step = np.exp(z)
            theta[j] = lower[j] + step if kinds[j] == 1 else upper[j] - step
            slope[j], by_x[j] = step if kinds[j] == 1 else -step, 1.0
            total += z
        a = arguments[j]
        part, by_theta[j] = kernels.prior(priors[j], theta[j], a[0], a[1], a[2])
        total += part
    return theta, slope, by_x, by_theta, total


@inner
def to_effects(x, theta, b, Lambdas, floats, ints):
    """Write every term's b and factor, and give the log density of its coordinates."""
    at = ints[0] * 0 + 1
    terms, shares = matrix(at + 48, ints, ints), matrix(at + 63, ints, ints)
    weights = vector(at + 66, floats, ints)
    total, start = 0.0, at * 0
    for t in range(len(terms)):
        here, q, p, centered, kind, sd, partial, first, count, begin = terms[t]
        Lambda = Lambdas[t, :p, :p]
        kernels.fill_factor(kind, p, theta[sd:], theta[partial:], Lambda)
        if centered:
            for k in range(q * p):
                b[start + k] = x[here + k]
            for a in range(count):
                column, coef = shares[first + a, 0], theta[shares[first + a, 1]]
                for r in range(q):
                    b[start + r * p + column] -= weights[begin + a * q + r] * coef
            total += _centered_effects(q, p, Lambda, b, start)
        else:
            total += _standard_effects(x, here, q, p, Lambda, b, start)
        start += q * p
    return total


@inner
def _standard_effects(x, at, q, p, Lambda, b, start):
    """Write b = Lambda v of one term, where v is sampled."""
    total = 0.0
    for r in range(q):
        o, i0 = start + r * p, at + r * p
        for i in range(p):
            value = 0.0
            for j in range(i + 1):
                value += Lambda[i, j] * x[i0 + j]
            b[o + i] = value
            total -= 0.5 * x[i0 + i] * x[i0 + i]
    return total


@inner
def _centered_effects(q, p, Lambda, b, start):
    """Give the log density of one term's b, the normal one of v = Lambda^-1 b."""
    total, v = 0.0, np.empty(p)
    for i in range(p):
        total -= q * np.log(Lambda[i, i])
    for r in range(q):
        for i in range(p):
            left = b[start + r * p + i]
            for j in range(i):
                left -= Lambda[i, j] * v[j]
            v[i] = left / Lambda[i, i]
            total -= 0.5 * v[i] * v[i]
    return total


@inner
def _back_centered(p, Lambda, b, by_b, o, v, w, by_Lambda, gradient, at):
    """Carry one level's slopes back, where b itself is sampled: w = Lambda^-T Lambda^-1 b."""
    for i in range(p):
        left = b[o + i]
        for j in range(i):
            left -= Lambda[i, j] * v[j]
        v[i] = left / Lambda[i, i]
    for i in range(p - 1, -1, -1):
        left = v[i]
        for j in range(i + 1, p):
            left -= Lambda[j, i] * w[j]
        w[i] = left / Lambda[i, i]
    for i in range(p):
        gradient[at + i] = by_b[o + i] - w[i]
        for j in range(i + 1):
            by_Lambda[i, j] += w[i] * v[j]


@inner
def _back_standard(p, Lambda, x, at, by_b, o, by_Lambda, gradient):
    """Carry one level's slopes back, where v is sampled: b = Lambda v."""
    for j in range(p):
        total = -x[at + j]
        for i in range(j, p):
            total += Lambda[i, j] * by_b[o + i]
            by_Lambda[i, j] += by_b[o + i] * x[at + j]
        gradient[at + j] = total


@inner
def from_effects(x, theta, b, by_b, Lambdas, gradient, by_theta, floats, ints):
    """Carry slopes by b back to the coordinates and to the outer parameters."""
    at, start = ints[0] * 0 + 1, ints[0] * 0
    terms, shares = matrix(at + 48, ints, ints), matrix(at + 63, ints, ints)
    weights = vector(at + 66, floats, ints)
    for t in range(len(terms)):
        here, q, p, centered, kind, sd, partial, first, count, begin = terms[t]
        Lambda, by_Lambda = Lambdas[t, :p, :p], np.zeros((p, p))[:p, :p]
        v, w = np.empty(p), np.empty(p)
        for r in range(q):
            o, i0 = start + r * p, here + r * p
            if centered:
                _back_centered(p, Lambda, b, by_b, o, v, w, by_Lambda, gradient, i0)
            else:
                _back_standard(p, Lambda, x, i0, by_b, o, by_Lambda, gradient)
        if centered:
            for i in range(p):
                by_Lambda[i, i] -= q / Lambda[i, i]
        for a in range(count):
            part = 0.0
            for r in range(q):
                part += weights[begin + a * q + r] * gradient[here + r * p + shares[first + a, 0]]
            by_theta[shares[first + a, 1]] -= part
        by_sd, by_partial = by_theta[sd:], by_theta[partial:]
        kernels.pull_factor(
            kind, p, theta[sd:], theta[partial:], Lambda, by_Lambda, by_sd, by_partial
        )
        start += q * p


@inner
def _predict_rows(start, m, theta, gamma, b, X, owner, offsets, pointers, indices, data, eta):
    """Write eta = offset + X gamma + Z b of m rows."""
    for s in range(len(eta)):
        for i in range(m):
            eta[s, i] = offsets[s, start + i]
    for k in range(len(gamma)):
        row, column, coef = eta[owner[k]], X[k, start : start + m], theta[gamma[k]]
        for i in range(m):
            row[i] += column[i] * coef
    for s in range(len(eta)):
        row, ends = eta[s], pointers[s, start : start + m + 1]
        if ends[0] == ends[m]:
            continue
        for i in range(m):
            part = 0.0
            # Unsigned, since an index that may be negative costs numba a test: 3 times the time.
            for e in range(np.uint64(ends[i]), np.uint64(ends[i + 1])):
                part += data[e] * b[np.uint64(indices[e])]
            row[i] += part


@inner
def _collect_rows(start, m, slope, X, gamma, owner, pointers, indices, data, by_theta, by_b):
    """Add X' slope and Z' slope of m rows."""
    for k in range(len(gamma)):
        row, column, part = slope[owner[k]], X[k, start : start + m], 0.0
        for i in range(m):
            part += column[i] * row[i]
        by_theta[gamma[k]] += part
    for s in range(len(slope)):
        row, ends = slope[s], pointers[s, start : start + m + 1]
        if ends[0] == ends[m]:
            continue
        for i in range(m):
            for e in range(np.uint64(ends[i]), np.uint64(ends[i + 1])):
                by_b[np.uint64(indices[e])] += data[e] * row[i]


@inner
def rows(theta, b, by_theta, by_b, floats, ints):
    """Pass over the rows: likelihood, and its slopes by gamma, the constants and b."""
    at = ints[0] * 0 + 1
    X, gamma, owner = (
        matrix(at + 21, floats, ints), vector(at + 24, ints, ints), vector(at + 27, ints, ints)
    )  # fmt: skip
    offsets, links, places = (
        matrix(at + 30, floats, ints), vector(at + 33, ints, ints), vector(at + 36, ints, ints)
    )  # fmt: skip
    pointers, indices, data = (
        matrix(at + 39, ints, ints), vector(at + 42, ints, ints), vector(at + 45, floats, ints)
    )  # fmt: skip
    family, y = vector(at + 51, ints, ints)[0], vector(at + 54, floats, ints)
    trials, weights = vector(at + 57, floats, ints), vector(at + 60, floats, ints)
    P, n, total = len(links), len(y), 0.0
    value, eta, slope = np.ones(3), np.empty((P, BLOCK)), np.empty((P, BLOCK))
    for s in range(P):
        if links[s] < 0:
            value[s] = theta[places[s]]
    for start in range(0, n, BLOCK):
        end = min(start + BLOCK, n)
        m = end - start
        _predict_rows(start, m, theta, gamma, b, X, owner, offsets, pointers, indices, data, eta)
        total += likelihood(
            family, links, y[start:end], trials[start:end], weights[start:end], eta, value, slope
        )
        _collect_rows(start, m, slope, X, gamma, owner, pointers, indices, data, by_theta, by_b)
        for s in range(P):
            if links[s] < 0:
                part = 0.0
                for i in range(m):
                    part += slope[s, i]
                by_theta[places[s]] += part
    return total
