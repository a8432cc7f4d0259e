"""SciPy's linear algebra, and one thread for it: two slow many small factorisations manyfold."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np


def lapack() -> Any:
    """Give SciPy's LAPACK, imported when it is first needed."""
    from scipy.linalg import lapack as found

    return found


def squared_inverse(L: np.ndarray) -> np.ndarray:
    """Give (L'L)^-1 `(k, k)` of an upper triangular L; empty where it is."""
    if not len(L):
        return np.empty((0, 0))
    upper = lapack().dpotri(np.asfortranarray(L), lower=0)[0]
    return np.triu(upper) + np.triu(upper, 1).T


@lru_cache
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController

    # Only libraries that are loaded can be held back.
    lapack()
    return ThreadpoolController()


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold NumPy's and SciPy's linear algebra to one thread."""
    with _controller().limit(limits=1, user_api="blas"):
        yield
