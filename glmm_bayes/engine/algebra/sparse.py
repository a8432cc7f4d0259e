"""The Hessian of the effects as a sparse matrix: any terms, members and number of predictors."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np

from glmm_bayes.engine.algebra.cholesky import Factor, Symbolic, analyse
from glmm_bayes.engine.algebra.lapack import lapack, squared_inverse
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
            prior_place.append(_places(symbolic, flat)[:, 1].reshape(-1, term.p))
        return cls(
            latent=latent,
            X=np.ascontiguousarray(X),
            of=of_first(X, of),
            blocks=blocks,
            columns=entries,
            values=np.ascontiguousarray(np.hstack(values)),
            owner=np.array(owner, dtype=np.int64),
            symbolic=symbolic,
            place=_places(symbolic, entries),
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


def _places(symbolic: Symbolic, entries: np.ndarray) -> np.ndarray:
    n, E = entries.shape
    column = np.repeat(np.arange(symbolic.n), np.diff(symbolic.indptr))
    keys = column * symbolic.n + symbolic.indices
    place, k = np.empty((n, E * (E + 1) // 2), dtype=np.int64), 0
    for a in range(E):
        for b in range(a + 1):
            low = np.minimum(entries[:, a], entries[:, b])
            high = np.maximum(entries[:, a], entries[:, b])
            place[:, k] = np.searchsorted(keys, low * symbolic.n + high)
            k += 1
    return place


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


@compiled
def gather(W, place, moved, owner, inverse, rest, T, columns, h, slopes):
    """
    Write each row's J H^-1 J' `(R, R, n)`, and W J H^-1 at the rows' own effects `(n, E)`.

    `rest` `(R, n, k)` is what the coefficients in H leave of their columns, and `T` `(k, N)` their
    part of H^-1 times the effects' regression on them.
    """
    n, E = moved.shape
    R, k = rest.shape[0], rest.shape[2]
    y = np.empty((R, E))
    for i in range(n):
        y[:] = 0.0
        p = 0
        for a in range(E):
            for b in range(a + 1):
                v = inverse[place[i, p]]
                y[owner[a], b] += moved[i, a] * v
                if a != b:
                    y[owner[b], a] += moved[i, b] * v
                p += 1
        for r in range(R):
            for b in range(E):
                h[r, owner[b], i] += y[r, b] * moved[i, b]
        for r in range(R):
            for b in range(E):
                for c in range(k):
                    y[r, b] -= rest[r, i, c] * T[c, columns[i, b]]
        for b in range(E):
            s = 0.0
            for r in range(R):
                s += W[owner[b], r, i] * y[r, b]
            slopes[i, b] = s


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
    ) -> "SparseFactor":
        """Factor the Hessian with given weights: see `factor`."""
        return self.factor(products, joint=joint, ridge=ridge)

    def factor(
        self, W: np.ndarray, *, joint: bool, ridge: np.ndarray | None = None
    ) -> "SparseFactor":
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


@dataclass(frozen=True, eq=False)
class SparseFactor:
    """
    The factored Hessian H of the effects, and of the k coefficients where they are in it.

    `M` `(N, k)` is the effects' regression on the coefficients; L' L, `L` upper, the coefficients'
    Schur complement.
    """

    spread: SparseSpread
    W: np.ndarray
    factor: Factor | Updated
    M: np.ndarray
    L: np.ndarray

    log_determinant_error: ClassVar[float] = 0.0  # exact

    @property
    def log_determinant(self) -> float:
        """Log |H|."""
        return self.factor.log_determinant + 2 * float(np.log(np.diag(self.L)).sum())

    def effects_only(self) -> "SparseFactor":
        """Give the factor of the effects' part of H."""
        return replace(self, M=self.M[:, :0], L=self.L[:0, :0])

    def solve(self, gu: np.ndarray, gx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give H^-1 g: for the effects `(N,)` and the coefficients in H."""
        k = len(self.L)
        u = self.factor.solve(gu)
        if not k:
            return u, np.empty(0)
        dx = lapack().dpotrs(self.L, gx[:k] - self.M.T @ gu, lower=0)[0]
        return u - self.M @ dx, dx

    def solve_root(self, zu: np.ndarray, zx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turn standard normals into normals of covariance H^-1."""
        u, k = self.factor.solve_root(zu), len(self.L)
        if not k:
            return u, np.empty(0)
        dx = lapack().dtrtrs(self.L, zx[:k], lower=0)[0]
        return u - self.M @ dx, dx

    def root_slopes(self, gu: np.ndarray, gx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Carry slopes by what `solve_root` gives back to the normals: its transpose."""
        hu, k = self.factor.root_slopes(gu), len(self.L)
        if not k:
            return hu, np.empty(0)
        return hu, lapack().dtrtrs(self.L, gx[:k] - self.M.T @ gu, lower=0, trans=1)[0]

    def coefficient_inverse(self) -> np.ndarray:
        """Give the coefficients' part of H^-1, `(k, k)`."""
        return squared_inverse(self.L)

    @cached_property
    def _inverse(self) -> np.ndarray:
        return self.factor.selected_inverse()

    @cached_property
    def _gathered(self) -> tuple[np.ndarray, np.ndarray]:
        s, k, R = self.spread.system, len(self.L), len(self.W)
        rest = np.zeros((R, s.latent.n, k))
        if k:
            for c in range(k):
                rest[s.of[c], :, c] = s.X[:, c]
                rest[:, :, c] -= self.spread.eta(self.M[:, c])
        C = self.coefficient_inverse()
        T = np.ascontiguousarray(C @ self.M.T)
        h, slopes = np.zeros((R, R, s.latent.n)), np.empty_like(s.values)
        gather(
            self.W,
            s.place,
            self.spread.moved,
            s.owner,
            self._inverse,
            rest,
            T,
            s.columns,
            h,
            slopes,
        )
        return h + np.einsum("rnc,cd,snd->rsn", rest, C, rest), slopes

    def traces(self) -> list[np.ndarray]:
        """Give each term's sum over its levels of the blocks of Z'WZ Lambda H^-1, `(p, p)`."""
        s = self.spread.system
        found = [np.zeros((term.p, term.p)) for term in s.latent.terms]
        for block in s.blocks:
            found[block.term] += s.values[:, block.at].T @ self._gathered[1][:, block.at]
        return found

    def prior_traces(self) -> list[np.ndarray | None]:
        """Give the slopes `(pairs,)` of log |H| by each term's precision, None without one."""
        s, C = self.spread.system, self.coefficient_inverse()
        found: list[np.ndarray | None] = []
        for term, begin, at in zip(s.latent.terms, s.latent.places, s.prior_place, strict=True):
            if at is None or term.pattern is None:
                found.append(None)
                continue
            M = self.M[begin].reshape(term.q, term.p, -1)
            i, j = term.pattern.pairs.T
            part = self._inverse[at].sum(axis=1) + np.einsum("kac,cd,kad->k", M[i], C, M[j])
            found.append(term.pattern.twice * part)
        return found

    def leverages(self) -> np.ndarray:
        """Give each row's J H^-1 J', `(R, R, n)`: the covariance of its predictors."""
        return self._gathered[0]

    def variances(self) -> list[np.ndarray]:
        """Give the blocks of H^-1 of every level of every term, `(q, p, p)`."""
        s, C = self.spread.system, self.coefficient_inverse()
        found = []
        for term, begin in zip(s.latent.terms, s.latent.places, strict=True):
            levels = begin.start + np.arange(term.size).reshape(term.q, term.p)
            at = _places(s.symbolic, levels)
            part, k = np.empty((term.q, term.p, term.p)), 0
            for a in range(term.p):
                for b in range(a + 1):
                    part[:, a, b] = part[:, b, a] = self._inverse[at[:, k]]
                    k += 1
            M = self.M[begin].reshape(term.q, term.p, -1)
            found.append(part + np.einsum("qac,cd,qbd->qab", M, C, M))
        return found
