"""The density in the coordinates of `whitening.py`, as C functions around those of `passes.py`."""

from functools import lru_cache
from typing import Any

import numpy as np
from numba import carray, cfunc

from glmm_bayes.engine import kernels
from glmm_bayes.engine.density import fronts
from glmm_bayes.engine.density.passes import (
    DENSITY,
    PLACED,
    from_effects,
    matrix,
    not_finite,
    outer,
    room_for_effects,
    rows,
    to_effects,
    vector,
)
from glmm_bayes.engine.kernels import inner

FIRST = 69  # where the whitening's arrays begin in the memory's list


@lru_cache
def c_functions() -> tuple[Any, Any]:
    """
    Compile the C functions, once for all models: some seconds, then kept on disk.

    Returns
    -------
    density, place
        With the signatures of `passes.c_functions`: the density of z, and x of z.
    """
    return cfunc(DENSITY, cache=True)(_density), cfunc(PLACED, cache=True)(_place)


def _density(dim, z_at, gradient_at, value_at, memory):
    size = np.int64(dim)
    words = carray(memory, (1,), np.int64)[0]
    floats, ints = carray(memory, (words,), np.float64), carray(memory, (words,), np.int64)
    z, gradient, value = carray(z_at, (size,)), carray(gradient_at, (size,)), carray(value_at, (1,))
    x, by_z = np.empty(size), np.empty(size)
    theta, slope, by_x, by_theta, total, left = _moved(z, x, floats, ints)
    b, by_b, Lambdas = room_for_effects(ints)
    total += to_effects(x, theta, b, Lambdas, floats, ints)
    total += rows(theta, b, by_theta, by_b, floats, ints)
    from_effects(x, theta, b, by_b, Lambdas, by_z, by_theta, floats, ints)
    d = size - len(b)
    by_Lambda = np.zeros(Lambdas.shape)
    by_blocks, by_right = fronts.from_effects(
        _chains(ints), Lambdas, *left, x[d:], by_z[d:], gradient[d:], by_Lambda
    )
    _turn(gradient[d:], floats, ints)
    _to_theta(theta, by_blocks, by_right, Lambdas, by_Lambda, by_theta, floats, ints)
    _to_outer(by_theta, slope, by_x, gradient, floats, ints)
    value[0] = total
    return not_finite(total, gradient)


def _place(dim, expanded, z_at, out_at, memory):
    size = np.int64(dim)
    words = carray(memory, (1,), np.int64)[0]
    floats, ints = carray(memory, (words,), np.float64), carray(memory, (words,), np.int64)
    _moved(carray(z_at, (size,)), carray(out_at, (size,)), floats, ints)
    return 0


@inner
def _chains(ints):
    at = ints[0] * 0 + 1 + FIRST
    return (
        matrix(at + 12, ints, ints),
        vector(at + 15, ints, ints),
        matrix(at + 18, ints, ints),
        vector(at + 21, ints, ints),
    )


@inner
def _moved(z, x, floats, ints):
    """Write x of z; give what `outer` gives, with log |dx/dz|, and what the elimination leaves."""
    at = ints[0] * 0 + 1 + FIRST
    centre, axes = vector(at, floats, ints), matrix(at + 3, floats, ints)
    d = len(centre)
    for i in range(d):
        x[i] = centre[i]
        for j in range(d):
            x[i] += axes[i, j] * z[j]
    theta, slope, by_x, by_theta, total = outer(x, floats, ints)
    terms = matrix(at - FIRST + 48, ints, ints)
    _, _, Lambdas = room_for_effects(ints)
    for t in range(len(terms)):
        p, kind, sd, partial = terms[t, 2], terms[t, 4], terms[t, 5], terms[t, 6]
        kernels.fill_factor(kind, p, theta[sd:], theta[partial:], Lambdas[t, :p, :p])
    blocks, right = vector(at + 24, floats, ints).copy(), _right(theta, floats, ints)
    share = _share(theta, floats, ints)
    for k in range(len(blocks)):
        blocks[k] *= share
    for k in range(len(right)):
        right[k] *= share
    sizes = vector(at + 33, ints, ints)
    roots, reduced = np.empty(sizes[0]), np.empty(sizes[1])
    y = z[d:].copy()
    _turn(y, floats, ints)
    total += fronts.to_effects(_chains(ints), Lambdas, blocks, right, y, x[d:], roots, reduced)
    return theta, slope, by_x, by_theta, total, (blocks, right, roots, reduced)


@inner
def _right(theta, floats, ints):
    """Give the right sides where the coefficients are as in theta."""
    at = ints[0] * 0 + 1 + FIRST
    coefficients, start = vector(at + 6, ints, ints), vector(at + 9, floats, ints)
    right, slopes = vector(at + 27, floats, ints).copy(), matrix(at + 30, floats, ints)
    for k in range(len(coefficients)):
        step, column = theta[coefficients[k]] - start[k], slopes[k]
        for i in range(len(right)):
            right[i] -= column[i] * step
    return right


@inner
def _share(theta, floats, ints):
    """Give how much the data say, beside what they say at the mode."""
    at = ints[0] * 0 + 1 + FIRST
    noise = ints[ints[at + 33] + 2]
    return (floats[ints[at + 36]] / theta[noise]) ** 2 if noise >= 0 else 1.0


@inner
def _to_theta(theta, by_blocks, by_right, Lambdas, by_Lambda, by_theta, floats, ints):
    """Add to the slopes by theta what comes of fronts, right sides and factors."""
    at = ints[0] * 0 + 1 + FIRST
    share = _share(theta, floats, ints)
    coefficients, slopes = vector(at + 6, ints, ints), matrix(at + 30, floats, ints)
    for k in range(len(coefficients)):
        by_theta[coefficients[k]] -= share * _dot(slopes[k], by_right)
    noise = ints[ints[at + 33] + 2]
    if noise >= 0:
        by_share = _dot(by_blocks, vector(at + 24, floats, ints))
        by_share += _dot(by_right, _right(theta, floats, ints))
        by_theta[noise] -= 2.0 * by_share * share / theta[noise]
    terms = matrix(at - FIRST + 48, ints, ints)
    for t in range(len(terms)):
        p, kind, sd, partial = terms[t, 2], terms[t, 4], terms[t, 5], terms[t, 6]
        kernels.pull_factor(
            kind, p, theta[sd:], theta[partial:], Lambdas[t, :p, :p], by_Lambda[t, :p, :p],
            by_theta[sd:], by_theta[partial:],
        )  # fmt: skip


@inner
def _turn(y, floats, ints):
    """Stretch y along the directions: y + V' (s V y)."""
    at = ints[0] * 0 + 1 + FIRST
    directions, stretch = matrix(at + 39, floats, ints), vector(at + 42, floats, ints)
    shares = np.empty(len(stretch))
    for k in range(len(stretch)):
        shares[k] = stretch[k] * _dot(directions[k], y)
    for k in range(len(stretch)):
        row, share = directions[k], shares[k]
        for i in range(len(y)):
            y[i] += share * row[i]


@inner
def _dot(a, b):
    # Four sums, since each addition has to wait for the last one to its sum.
    one, two, three, four = 0.0, 0.0, 0.0, 0.0
    whole = len(a) - len(a) % 4
    for i in range(0, whole, 4):
        one += a[i] * b[i]
        two += a[i + 1] * b[i + 1]
        three += a[i + 2] * b[i + 2]
        four += a[i + 3] * b[i + 3]
    for i in range(whole, len(a)):
        one += a[i] * b[i]
    return (one + two) + (three + four)


@inner
def _to_outer(by_theta, slope, by_x, gradient, floats, ints):
    """Carry slopes by theta back to x, and along the axes to z."""
    at = ints[0] * 0 + 1 + FIRST
    axes, free = matrix(at + 3, floats, ints), vector(at - FIRST, ints, ints)
    for j in range(len(free)):
        gradient[j] = 0.0
        for i in range(len(free)):
            gradient[j] += axes[i, j] * (by_theta[free[i]] * slope[free[i]] + by_x[free[i]])
