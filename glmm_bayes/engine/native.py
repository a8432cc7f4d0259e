"""The compiled density as C functions, which a sampler calls without Python between."""

from functools import lru_cache
from typing import Any

import numpy as np
from numba import carray, cfunc, types

from glmm_bayes.engine.compiled import evaluate

DOUBLES = types.CPointer(types.double)


@lru_cache
def c_functions() -> tuple[Any, Any]:
    """
    Compile the C functions, once for all models.

    Returns
    -------
    density
        `int64 (uint64 dim, double *x, double *gradient, double *value, void *memory)`: 0, or
        what is not finite there, 3 the gradient and 4 the value; `memory` is that of `Compiled`.
    copy
        `int64 (uint64 dim, uint64 dim, double *x, double *out, void *memory)`: x as it is.
    """
    density = types.int64(types.uint64, DOUBLES, DOUBLES, DOUBLES, types.voidptr)
    copy = types.int64(types.uint64, types.uint64, DOUBLES, DOUBLES, types.voidptr)
    return cfunc(density, cache=True)(_density), cfunc(copy, cache=True)(_copy)


def _density(dim, x_at, gradient_at, value_at, memory):
    size = np.int64(dim)
    words = carray(memory, (1,), np.int64)[0]
    floats, ints = carray(memory, (words,), np.float64), carray(memory, (words,), np.int64)
    value, gradient = evaluate(carray(x_at, (size,)), floats, ints)
    out = carray(gradient_at, (size,))
    for k in range(size):
        out[k] = gradient[k]
        if not np.isfinite(gradient[k]):
            return 3
    carray(value_at, (1,))[0] = value
    return 0 if np.isfinite(value) else 4


def _copy(dim, expanded, x_at, out_at, memory):
    size = np.int64(dim)
    x, out = carray(x_at, (size,)), carray(out_at, (size,))
    for k in range(size):
        out[k] = x[k]
    return 0
