"""Which linear algebra fits a model: a matrix, dense or by blocks or sparse, or only products."""

from typing import TYPE_CHECKING, Any

import numpy as np

from glmm_bayes.engine.algebra.dense import Dense
from glmm_bayes.engine.latent import Latent
from glmm_bayes.errors import NotSupportedError

if TYPE_CHECKING:
    from glmm_bayes.engine.algebra.blocked import Blocked

TINY = 4e6  # operations of one Hessian as a dense matrix, which no loading of compiled code repays
FEW, SMALL = 100, 1500  # columns of the dense rest: it is no matter, and never too much
DENSE, FILLED = 2e10, 3e8  # operations a second of LAPACK, and of the sparse factorisation
MOST = 12_000  # columns of the dense rest that memory allows: four matrices of 1.2 GB
MOST_FILLED = 1.5e8  # entries of a sparse factor: with where they stand, 2.4 GB
MET = 2e6  # pairs of effects a second, where equations are solved by products alone
FULL = 0.5  # of all effects, which rows meet
MOST_WRITTEN = 1e8  # entries of Z as a dense matrix
WORTH = 400  # columns of the dense rest, which moving single levels is worth
EXACT, TIMES = 1.0, 2.0  # seconds, and times those of products, that an exact answer is worth


def build_system(latent: Latent, X: np.ndarray, of: np.ndarray | None = None) -> Any:
    """
    Choose by the seconds that one factorisation with its inverse takes.

    Matrices are exact. Without one, log determinants have a Monte Carlo standard error: that is
    for effects that meet in too many ways. With `of`, the columns X are of the predictors at these
    positions.
    """
    columns = latent.size + X.shape[1]
    alone = of is not None and not latent.terms
    if alone or latent.n * columns**2 * len(latent.predictors) ** 2 < TINY:
        return Dense.build(latent, X, of)
    # Imported where it is needed: its passes are compiled, or loaded, in some tenths of a second.
    from glmm_bayes.engine.algebra.blocked import Blocked
    from glmm_bayes.engine.algebra.sparse import Sparse

    if not _can_be_blocked(latent):
        # Of rows that meet most effects there is nothing sparse.
        full = _entries(latent) > FULL * columns and latent.n * columns < MOST_WRITTEN
        return Dense.build(latent, X, of) if full else Sparse.build(latent, X, of)
    blocks = Blocked.build(latent, X)
    if blocks.q2 <= FEW:
        return blocks
    dense = blocks.q2**3 / DENSE if blocks.q2 <= MOST else np.inf
    sparse = _sparse_seconds(blocks)
    if blocks.q2 <= SMALL:
        # Passes over a sparse matrix are slower; nested levels, which leave it sparse, repay them.
        return Sparse.build(latent, X) if 10 * sparse < dense else blocks
    products = (blocks.k * len(blocks.cols) + (len(blocks.second) > 1) * blocks.entries.size) / MET
    iid = not latent.is_structured
    if iid and min(dense, sparse) > max(EXACT, TIMES * products):
        from glmm_bayes.engine.algebra.iterative import Iterative

        return Iterative(blocks)
    return Sparse.build(latent, X) if sparse < dense else blocks


def _entries(latent: Latent) -> int:
    """Give how many effects a row meets."""
    return sum(term.index.shape[1] * term.p for term in latent.terms)


def build_for_sampling(latent: Latent, X: np.ndarray) -> Any:
    """
    Choose for a sampler, which needs a root of the Hessian and moves single levels, if it can.

    Raises
    ------
    NotSupportedError
        If so many levels meet that there is no root.
    """
    from glmm_bayes.engine.algebra.blocked import Blocked

    if _can_be_blocked(latent):
        blocks = Blocked.build(latent, X)
        if blocks.q2 <= WORTH:
            return blocks
    system = build_system(latent, X)
    if not system.has_root:
        raise NotSupportedError(
            "So many levels meet that their equations have no root to sample from; "
            "fit('nuts') draws from the same posterior."
        )
    return system


def _sparse_seconds(blocks: "Blocked") -> float:
    """Give the seconds of a sparse factorisation, from the fill of the second block's part."""
    from scipy.sparse import csr_array

    from glmm_bayes.engine.algebra.elimination import fill

    if blocks.k:
        # Effects meet that share a level of the first block, as its elimination leaves them.
        indptr, columns = blocks.tp, blocks.cols
    else:
        n, e = blocks.entries.shape
        indptr, columns = np.arange(0, n * e + 1, e), blocks.entries.ravel()
    if (np.diff(indptr).astype(float) ** 2).sum() > 0.1 * blocks.q2**2:
        # So many meet that the factor is as good as full.
        return np.inf
    shape = (len(indptr) - 1, blocks.q2)
    meet = csr_array((np.ones(len(columns)), columns, indptr), shape=shape)
    total = meet.T @ meet
    for at in blocks.prior_places:
        if at is not None:
            rows, others = at[0].ravel(), at[1].ravel()
            total = total + csr_array((np.ones(len(rows)), (rows, others)), shape=total.shape)
    filled = fill(total, int(MOST_FILLED))
    return np.inf if filled is None else float((filled.astype(float) ** 2).sum() / FILLED)


def _can_be_blocked(latent: Latent) -> bool:
    alone = all(term.index.shape[1] == 1 for term in latent.terms)
    return alone and latent.predictors == (0,)
