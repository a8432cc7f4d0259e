"""The blocks of a large Hessian's inverse: exact by own blocks, the remainder by random probes."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from glmm_bayes.engine.algebra import crossings
from glmm_bayes.engine.algebra.probes import own_blocks
from glmm_bayes.engine.algebra.reduced import Reduced

if TYPE_CHECKING:
    from glmm_bayes.engine.algebra.iterative import IterativeSpread

type Vectors = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Estimated:
    """
    Estimates of a factor's traces, leverages and variances, each with its standard error.

    The inverse of the second block's Schur complement is that of its own blocks and what the
    probes tell besides, a sum over pairs of vectors; the first block's part, and the
    coefficients', follow exactly.

    `M` `(N, k)` is the effects' regression on the coefficients, and `C` `(k, k)` their part of
    the inverse.
    """

    spread: "IterativeSpread"
    reduced: Reduced
    M: np.ndarray
    C: np.ndarray

    @cached_property
    def _inverse(self) -> np.ndarray:
        return self.spread.flat(self.reduced.P.inverses)

    @cached_property
    def _pairs(self) -> tuple[Vectors, Vectors]:
        """The probes' pairs of vectors over both blocks, in standard units."""
        probed, lift = self.reduced.probed, self.reduced.lift
        return (lift(probed.a), probed.a), (lift(probed.b), probed.b)

    @cached_property
    def _beside(self) -> tuple[np.ndarray, np.ndarray]:
        s, reduced = self.spread.system.blocks, self.reduced
        H11, V = np.empty_like(reduced.Ainv), np.empty_like(reduced.B)
        crossings.beside(
            reduced.Ainv, reduced.B, s.tp, s.cols, s.term, s.within, s.sizes, self._inverse, H11, V
        )
        return H11, V

    @cached_property
    def _rest(self) -> np.ndarray:
        """What the effects leave of the coefficients' columns `(n, k)`."""
        fitted = [self.spread.eta(column)[0] for column in self.M.T]
        X = self.spread.system.blocks.X[:, : self.M.shape[1]]
        return X - np.column_stack(fitted) if fitted else X

    def _error(self, parts: np.ndarray) -> np.ndarray:
        """Give the standard error of the sum of the random probes' parts, the last axis."""
        random = parts[..., self.reduced.probed.exact :]
        return np.sqrt(random.shape[-1] * np.var(random, axis=-1, ddof=1))

    # ---- traces

    @cached_property
    def traces(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """By term the sum `(p, p)` of the blocks of Z'WZ Lambda H^-1, and its standard error."""
        spread, s, reduced = self.spread, self.spread.system, self.reduced
        products, k, L1 = reduced.products, s.blocks.k, spread.inner.L1
        first, second = np.empty((k, k, *products.D22.shape)), self._own_left()
        crossings.slopes(
            products.C11, products.C12, L1, reduced.Ainv, reduced.B, s.blocks.tp, s.blocks.cols,
            s.blocks.term, s.blocks.within, s.blocks.sizes, spread.inner.L2, first, second,
        )  # fmt: skip
        by_first, by_second = self._probed_traces()
        total = np.einsum("gab,gbc->ac", products.C11 @ L1, reduced.Ainv)
        total = total + np.einsum("abqc,qc->ab", first, self._inverse)
        found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        begin = 0
        cut = zip(
            s.blocks.second, spread.cut(second), reduced.P.inverses,
            own_blocks(reduced.probed.a, reduced.probed.c, s.shapes), by_second, strict=True,
        )  # fmt: skip
        for i, left, inverse, own, parts in cut:
            levels, p, _ = left.shape
            at = slice(begin, begin + levels * p)
            rows = own.reshape(levels * p, p, -1)
            by_first -= np.einsum("abqc,qcm->abm", first[:, :, at, :p], rows)
            parts = parts - np.einsum("qac,qcbm->abm", left, own)
            exact = np.einsum("qac,qcb->ab", left, inverse)
            found[i] = exact + parts.sum(axis=-1), self._error(parts)
            begin += levels * p
        total, error = total + by_first.sum(axis=-1), self._error(by_first)
        begin = 0
        for i in s.blocks.first:
            at = slice(begin, begin + s.latent.terms[i].p)
            found[i] = total[at, at], error[at, at]
            begin = at.stop
        bordered = self._by_coefficients()
        return [(found[i][0] - part, found[i][1]) for i, part in enumerate(bordered)]

    def _own_left(self) -> np.ndarray:
        """Give the own blocks `(q2, widest)` of the second block's Z'WZ Lambda."""
        spread = self.spread
        cut = zip(spread.cut(self.reduced.products.D22), spread.second, strict=True)
        return spread.flat([D @ L for D, L in cut])

    def _probed_traces(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """Give the probes' parts `(p, p, c)`, of the first block and of the second's terms."""
        (a1, a2), (b1, b2) = self._pairs
        (r1, r2), (s1, s2) = self._weighted(a1, a2), self._weighted(b1, b2)
        first = 0.5 * (np.einsum("gam,gbm->abm", r1, b1) + np.einsum("gam,gbm->abm", s1, a1))
        second, begin = [], 0
        for levels, p in self.spread.system.shapes:
            at = slice(begin, begin + levels * p)
            one, two, three, four = (x[at].reshape(levels, p, -1) for x in (r2, b2, s2, a2))
            part = np.einsum("qam,qbm->abm", one, two) + np.einsum("qam,qbm->abm", three, four)
            second.append(0.5 * part)
            begin = at.stop
        return first, second

    def _weighted(self, x1: np.ndarray, x2: np.ndarray) -> Vectors:
        """Give Z'WZ Lambda x in both blocks."""
        s = self.spread.system.blocks
        b1, b2 = self.spread.own_scale(x1, x2)
        s1, s2 = np.empty_like(b1), np.zeros_like(b2)
        if self.spread.system.crossed:
            crossings.row_products(self.reduced.products.w, s.entries, s.values, b2, s2)
        else:
            crossings.own_products(self.reduced.products.D22, s.term, s.within, s.sizes, b2, s2)
        crossings.between(
            self.reduced.products.C11, self.reduced.products.C12, s.tp, s.cols, b1, b2, s1, s2
        )
        return s1, s2

    def _by_coefficients(self) -> list[np.ndarray]:
        """Give what the coefficients in H take off each term's trace."""
        latent = self.spread.system.latent
        found = [np.zeros((term.p, term.p)) for term in latent.terms]
        for column, moved in zip(self._rest.T, self.C @ self.M.T, strict=True):
            collected = self.spread.collect((self.reduced.products.w * column)[None])
            for total, left, right in zip(found, collected, latent.split(moved), strict=True):
                total += left.T @ right
        return found

    # ---- leverages

    @cached_property
    def leverages(self) -> tuple[np.ndarray, np.ndarray]:
        """Each row's j' H^-1 j `(n,)`, and its standard error."""
        spread, s = self.spread, self.spread.system.blocks
        H11, V = self._beside
        h, squares = np.empty(s.latent.n), np.empty(s.latent.n)
        crossings.own_leverages(
            s.ptr, s.Z, spread.inner.L1, s.entries, s.where, spread.moved, s.tp, s.sizes,
            self._inverse, H11, V, h,
        )  # fmt: skip
        (a1, a2), (b1, b2) = (spread.own_scale(*pair) for pair in self._pairs)
        c2 = spread.own_scale(self._pairs[0][0][:, :, :0], self.reduced.probed.c)[1]
        exact, m = (
            self.reduced.probed.exact,
            self.reduced.probed.a.shape[1] - self.reduced.probed.exact,
        )
        crossings.probed_leverages(
            s.ptr, s.Z, s.entries, s.values, s.sizes, a1, a2, b1, b2, c2, exact, h, squares
        )
        h += np.einsum("nc,cd,nd->n", self._rest, self.C, self._rest)
        return h, np.sqrt(squares * m / (m - 1))

    # ---- variances

    @cached_property
    def variances(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """By term the blocks `(q, p, p)` of H^-1 of every level, and their standard errors."""
        s, C = self.spread.system, self.C
        (a1, _), (b1, _) = self._pairs
        levels = (s.blocks.G, s.blocks.k)
        parts = next(own_blocks(a1.reshape(-1, a1.shape[2]), b1.reshape(-1, a1.shape[2]), [levels]))
        whole, error = self._beside[0] + parts.sum(axis=-1), self._error(parts)
        found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        begin = 0
        for i in s.blocks.first:
            at = slice(begin, begin + s.latent.terms[i].p)
            found[i] = whole[:, at, at], error[:, at, at]
            begin = at.stop
        second: Iterator[np.ndarray] = own_blocks(
            self.reduced.probed.a, self.reduced.probed.b - self.reduced.probed.c, s.shapes
        )
        for i, inverse, own in zip(s.blocks.second, self.reduced.P.inverses, second, strict=True):
            found[i] = inverse + own.sum(axis=-1), self._error(own)
        answer = []
        for i, term in enumerate(s.latent.terms):
            M = self.M[s.latent.places[i]].reshape(term.q, term.p, -1)
            by_coefficients = np.einsum("qac,cd,qbd->qab", M, C, M)
            answer.append((found[i][0] + by_coefficients, found[i][1]))
        return answer
