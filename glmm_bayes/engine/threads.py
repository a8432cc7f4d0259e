"""One thread for the linear algebra: two slow its many small factorisations down manyfold."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from glmm_bayes.engine.blocked import lapack


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
