"""Which linear algebra fits a model: one matrix, blocks with a dense rest, or a sparse matrix."""

from typing import Any

import numpy as np

from glmm_bayes.engine.dense import Dense
from glmm_bayes.engine.latent import Latent

TINY = 4e6  # operations of one Hessian as a dense matrix, which no loading of compiled code repays
SMALL = 1500  # columns of the dense rest that are never too many
DENSE, FILLED = 2e10, 3e8  # operations a second of LAPACK, and of the sparse factorisation
MOST = 12_000  # columns of the dense rest that memory allows: four matrices of 1.2 GB


def build_system(latent: Latent, X: np.ndarray) -> Any:
    """Choose by the operations that one factorisation with its inverse takes."""
    columns = latent.size + X.shape[1]
    if latent.n * columns**2 * len(latent.predictors) ** 2 < TINY:
        return Dense.build(latent, X)
    # Imported where it is needed: its passes are compiled, or loaded, in some tenths of a second.
    from glmm_bayes.engine.blocked import Blocked
    from glmm_bayes.engine.sparse import Sparse

    if not _can_be_blocked(latent):
        return Sparse.build(latent, X)
    rest = latent.size - _largest(latent)
    if rest <= SMALL:
        return Blocked.build(latent, X)
    sparse = Sparse.build(latent, X)
    filled = np.diff(sparse.symbolic.L_indptr).astype(float)
    if rest > MOST or (filled**2).sum() / FILLED < float(rest) ** 3 / DENSE:
        return sparse
    return Blocked.build(latent, X)


def _can_be_blocked(latent: Latent) -> bool:
    alone = all(term.index.shape[1] == 1 for term in latent.terms)
    return alone and latent.predictors == (0,)


def _largest(latent: Latent) -> int:
    """Count the effects of the largest grouping."""
    if not latent.terms:
        return 0
    largest = max(latent.terms, key=lambda t: t.q)
    return sum(t.size for t in latent.terms if np.array_equal(t.index, largest.index))
