"""The Hessian of the effects as a sparse matrix: any terms, members and number of predictors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from glmm_bayes.engine.algebra.cholesky import Symbolic, analyse
from glmm_bayes.engine.algebra.lapack import lapack
from glmm_bayes.engine.algebra.sparse_factor import SparseFactor
from glmm_bayes.engine.algebra.updated import Directions, Updated
from glmm_bayes.engine.columns import add, of_first, products
from glmm_bayes.engine.kernels import compiled
from glmm_bayes.engine.latent import Latent, Precisions


@dataclass(frozen=True, eq=False)
class Block:
    """The columns `at` of the rows' entries that one term has in one predictor, by one member."""

    term: int
    predictor: int
    member: int
    at: slice


@dataclass(frozen=True, eq=False)
class Sparse:
    """
    Rows of E entries each: the effects they meet, and times what.

    Attributes
    ----------
    X
        `(n, k)` fixed columns, which may be integrated out too.
    of
        `(k,)` the position of each one's predictor.
    blocks
        What the entries are.
    columns
        `(n, E)` each entry's place among the effects.
    values
        `(n, E)` times what it enters its predictor.
    owner
        `(E,)` the position of its predictor in `latent.predictors`.
    place
        `(n, E (E + 1) / 2)` where the pairs of entries stand in the Hessian's pattern.
    unit
        `(N,)` the effects' prior precision on the diagonal; 0 for those of structured terms.
    prior_place
        By term, `(pairs, p)` where the entries of its precision stand in the pattern, or None.
    held
        What the precisions have beside their entries, if anything.
    """

    latent: Latent
    X: np.ndarray
    of: np.ndarray
    blocks: Sequence[Block]
    columns: np.ndarray
    values: np.ndarray
    owner: np.ndarray
    symbolic: Symbolic
    place: np.ndarray
    unit: np.ndarray
    prior_place: Sequence[np.ndarray | None]
    held: Directions | None

    order: ClassVar[slice] = slice(None)  # rows are taken and given as the model has them
    has_root: ClassVar[bool] = True
    moves_by_levels: ClassVar[bool] = False

    @classmethod
    def build(cls, latent: Latent, X: np.ndarray, of: np.ndarray | None = None) -> Self:
        """List the rows' entries, and analyse which effects meet."""
        blocks, columns, values, owner, at = [], [], [], [], 0
        for t, (term, begin) in enumerate(zip(latent.terms, latent.places, strict=True)):
            for r, predictor in enumerate(latent.predictors):
                for member in range(term.index.shape[1]) if predictor in term.Z else ():
                    blocks.append(Block(t, r, member, slice(at, at + term.p)))
                    first = begin.start + term.index[:, member] * term.p
                    columns.append(first[:, None] + np.arange(term.p))
                    values.append(term.Z[predictor] * term.weights[:, member, None])
                    owner += [r] * term.p
                    at += term.p
        entries = np.ascontiguousarray(np.hstack(columns), dtype=np.int64)
        symbolic = analyse(_pattern(latent, entries))
        unit = np.ones(latent.size)
        prior_place: list[np.ndarray | None] = []
        for term, begin in zip(latent.terms, latent.places, strict=True):
            if term.pattern is None:
                prior_place.append(None)
                continue
            unit[begin] = 0.0
            pairs = begin.start + term.pattern.pairs[:, :, None] * term.p + np.arange(term.p)
            flat = pairs.transpose(0, 2, 1).reshape(-1, 2)
            # The middle of three pairs of a couple is what it has with itself off the diagonal.
            prior_place.append(symbolic.places(flat)[:, 1].reshape(-1, term.p))
        return cls(
            latent=latent,
            X=np.ascontiguousarray(X),
            of=of_first(X, of),
            blocks=blocks,
            columns=entries,
            values=np.ascontiguousarray(np.hstack(values)),
            owner=np.array(owner, dtype=np.int64),
            symbolic=symbolic,
            place=symbolic.places(entries),
            unit=unit,
            prior_place=prior_place,
            held=_held(latent),
        )

    def at(
        self, Lambdas: Sequence[np.ndarray], precisions: Precisions | None = None
    ) -> "SparseSpread":
        """Fix the factors of the terms' covariances, and the precisions between their levels."""
        moved = np.empty_like(self.values)
        for block in self.blocks:
            moved[:, block.at] = self.values[:, block.at] @ Lambdas[block.term]
        return SparseSpread(self, list(Lambdas), self.latent.completed(precisions), moved)

    def cross_products(self, W: np.ndarray, *, with_x: bool) -> np.ndarray:
        """Keep the weights `(R, R, n)`: the rows are passed over for every Lambda."""
        return W

    def multiply(self, products: np.ndarray, b: np.ndarray, gamma: np.ndarray) -> np.ndarray:
        """Give Z'W (Z b + X gamma) `(N,)`, effects on their own scale."""
        eta = _predicted(self, self.values, b)
        add(eta, self.X, self.of, gamma)
        r = np.einsum("rsn,sn->rn", products, eta)
        return _collected(self, self.values, r)


def _held(latent: Latent) -> Directions | None:
    """Collect the terms' held directions, a column of v each."""
    rows, pins = [np.empty((0, latent.size))], [np.empty(0, dtype=np.intp)]
    for term, begin in zip(latent.terms, latent.places, strict=True):
        if term.pattern is None or term.pattern.held is None or term.pattern.pins is None:
            continue
        part = np.zeros((len(term.pattern.held) * term.p, latent.size))
        part[:, begin] = np.kron(term.pattern.held, np.eye(term.p))
        rows.append(part)
        at = begin.start + term.pattern.pins[:, None] * term.p + np.arange(term.p)
        pins.append(at.ravel())
    found = Directions(np.concatenate(rows), np.concatenate(pins))
    return found if len(found.pins) else None


def _pattern(latent: Latent, entries: np.ndarray) -> Any:
    """Give the symmetric pattern of the effects that meet in a row, or in a level."""
    from scipy.sparse import csr_array

    groups = [entries]
    for term, begin in zip(latent.terms, latent.places, strict=True):
        groups.append(begin.start + np.arange(term.size).reshape(term.q, term.p))
    total = csr_array((latent.size, latent.size))
    for group in groups:
        rows, width = group.shape
        at = (np.repeat(np.arange(rows), width), group.ravel())
        J = csr_array((np.ones(group.size), at), shape=(rows, latent.size))
        total = total + J.T @ J
    for term, begin in zip(latent.terms, latent.places, strict=True):
        if term.pattern is not None:
            pairs = begin.start + term.pattern.pairs[:, :, None] * term.p + np.arange(term.p)
            at = (pairs[:, 0].ravel(), pairs[:, 1].ravel())
            total = total + csr_array((np.ones(len(at[0])), at), shape=total.shape)
    return total.tocsc()


def _predicted(system: Sparse, values: np.ndarray, b: np.ndarray) -> np.ndarray:
    parts = values * b[system.columns]
    eta = np.zeros((len(system.latent.predictors), system.latent.n))
    for block in system.blocks:
        eta[block.predictor] += parts[:, block.at].sum(axis=1)
    return eta


def _collected(system: Sparse, values: np.ndarray, r: np.ndarray) -> np.ndarray:
    found = np.zeros(system.latent.size)
    for block in system.blocks:
        part = values[:, block.at] * r[block.predictor][:, None]
        columns = system.columns[:, block.at].ravel()
        found += np.bincount(columns, part.ravel(), system.latent.size)
    return found


@compiled
def scatter(W, place, moved, columns, owner, data):
    """Add every row's J' W J to the lower triangle's entries."""
    n, E = moved.shape
    for i in range(n):
        k = 0
        for a in range(E):
            for b in range(a + 1):
                part = W[owner[a], owner[b], i] * moved[i, a] * moved[i, b]
                if a != b and columns[i, a] == columns[i, b]:
                    part *= 2.0
                data[place[i, k]] += part
                k += 1


@dataclass(frozen=True, eq=False)
class SparseSpread:
    """The rows with Lambda given: products with J = Z Lambda, and the Hessian J' W J + I."""

    system: Sparse
    Lambdas: list[np.ndarray]
    precisions: Precisions
    moved: np.ndarray

    def times_prior(self, u: np.ndarray) -> np.ndarray:
        """Give P u `(N,)`, P the effects' precision."""
        return self.system.latent.times_prior(u, self.precisions)

    def eta(self, u: np.ndarray) -> np.ndarray:
        """Give J u, `(R, n)`."""
        return _predicted(self.system, self.moved, u)

    def collect(self, r: np.ndarray) -> list[np.ndarray]:
        """Give Z' r of every term, `(q, p)`, from `(R, n)`."""
        return self.system.latent.split(_collected(self.system, self.system.values, r))

    def factor_products(
        self, products: np.ndarray, *, joint: bool, ridge: np.ndarray | None = None
    ) -> SparseFactor:
        """Factor the Hessian with given weights: see `factor`."""
        return self.factor(products, joint=joint, ridge=ridge)

    def factor(
        self, W: np.ndarray, *, joint: bool, ridge: np.ndarray | None = None
    ) -> SparseFactor:
        """
        Factor the Hessian with weights W `(R, R, n)`, with the coefficients if `joint`.

        Parameters
        ----------
        ridge
            `(k, k)` the precision of a normal prior of the coefficients, added to their part.

        Raises
        ------
        LinAlgError
            If it is not positive definite.
        """
        s = self.system
        data = np.zeros(len(s.symbolic.indices))
        data[s.symbolic.indptr[:-1]] = s.unit  # the diagonal is the first of its column
        for at, precision in zip(s.prior_place, self.precisions, strict=True):
            if at is not None and precision is not None:
                data[at] += precision.values[:, None]
        pinned = None if s.held is None else s.held.pin(s.symbolic, data)
        scatter(W, s.place, self.moved, s.columns, s.owner, data)
        base = s.symbolic.factor(data)
        factor = base if s.held is None or pinned is None else Updated.of(base, s.held, pinned)
        k = s.X.shape[1] if joint else 0
        B = np.empty((s.latent.size, k))
        for c in range(k):
            B[:, c] = _collected(s, self.moved, W[:, s.of[c]] * s.X[:, c])
        M = factor.solve(B) if k else B
        S = products(s.X[:, :k], s.of[:k], W) - B.T @ M
        if k and ridge is not None:
            S += ridge
        L, info = lapack().dpotrf(S, lower=0, clean=1) if k else (S, 0)
        if info:
            raise np.linalg.LinAlgError("the Hessian of the coefficients is not positive definite")
        return SparseFactor(self, W, factor, M, L)
