"""Rows that vary together by a precision, turned until they are independent."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from glmm_bayes.engine.latent import Pattern, Precision

NARROW = 8  # rows that those which vary together are apart at most, where a band is quicker


@dataclass(frozen=True, eq=False)
class Stack:
    """
    G parts of m rows each that share nothing with the others.

    Attributes
    ----------
    rows
        `(G, m)`, within each part in the order of the pattern's levels.
    at, source
        Where the entries of the parts' precisions stand in `(G, m, m)`, flat; and which pair each
        is of.
    """

    rows: np.ndarray
    at: np.ndarray
    source: np.ndarray

    def filled(self, values: np.ndarray) -> np.ndarray:
        """Write the parts of Q out, `(G, m, m)`, of its entries at the pairs."""
        G, m = self.rows.shape
        found = np.zeros(G * m * m)
        found[self.at] = values[self.source]
        return found.reshape(G, m, m)


@dataclass(frozen=True, eq=False)
class Turning:
    """
    Rows of precision Q, in parts that are independent of each other.

    Attributes
    ----------
    pattern
        Where Q has entries; its levels are the rows.
    rank
        `(n,)` the rows' order within their parts, in which those before tell of those after.

    Notes
    -----
    With Q = C C', C upper triangular, C' e are independent for residuals e, the k-th of a part a
    combination of the first k: what is left of a row when those before it are known.
    """

    pattern: Pattern
    rank: np.ndarray

    @cached_property
    def label(self) -> np.ndarray:
        """The number `(n,)` of each row's part."""
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import connected_components

        pairs, n = self.pattern.pairs, self.pattern.q
        graph = csr_array((np.ones(len(pairs)), tuple(pairs.T)), shape=(n, n))
        return connected_components(graph, directed=False)[1]

    @cached_property
    def order(self) -> np.ndarray:
        """The rows `(n,)`, a part after the other."""
        return np.lexsort((self.rank, self.label))

    @cached_property
    def _place(self) -> np.ndarray:
        """Where each row `(n,)` stands in this order."""
        found = np.empty(len(self.order), np.intp)
        found[self.order] = np.arange(len(self.order))
        return found

    @cached_property
    def band(self) -> int:
        """How far apart in this order Q has entries."""
        i, j = self._place[self.pattern.pairs.T]
        return int(np.abs(i - j).max(initial=0))

    @property
    def is_narrow(self) -> bool:
        """Whether Q is a band, as along time, whose roots are bands of as many rows."""
        return self.band <= NARROW

    @cached_property
    def stacks(self) -> list[Stack]:
        """The parts, those of one size together."""
        label, (i, j), order = self.label, self.pattern.pairs.T, self.order
        sizes = np.bincount(label)
        starts = np.cumsum(sizes) - sizes
        local, number = self._place - starts[label], np.empty(len(sizes), np.intp)
        found = []
        for m in np.unique(sizes):
            own = np.flatnonzero(sizes == m)
            number[own] = np.arange(len(own))
            rows = order[starts[own][:, None] + np.arange(m)]
            pairs = np.flatnonzero(sizes[label[i]] == m)
            first = number[label[i[pairs]]] * m * m
            a, b = local[i[pairs]], local[j[pairs]]
            at = np.concatenate([first + a * m + b, first + b * m + a])
            found.append(Stack(rows, at, np.tile(pairs, 2)))
        return found

    def roots(self, Q: Precision) -> list[np.ndarray]:
        """
        Give C', lower triangular: by stack `(G, m, m)`; or a band `(band + 1, n)`, by diagonals.

        Raises
        ------
        LinAlgError
            If Q is not positive definite.
        """
        if self.is_narrow:
            return [self._banded(Q.values)]
        return [
            # The last row is eliminated first, so that no row's residual is told of by later ones.
            np.linalg.cholesky(stack.filled(Q.values)[:, ::-1, ::-1])[:, ::-1, ::-1].swapaxes(1, 2)
            for stack in self.stacks
        ]

    def _banded(self, values: np.ndarray) -> np.ndarray:
        from scipy.linalg import cholesky_banded

        n = self.pattern.q
        i, j = n - 1 - self._place[self.pattern.pairs.T]
        lower = np.zeros((self.band + 1, n))
        lower[np.abs(i - j), np.minimum(i, j)] = values
        found: np.ndarray = cholesky_banded(lower, lower=True, check_finite=False)[:, ::-1]
        return found

    def turned(self, roots: Sequence[np.ndarray], A: np.ndarray) -> np.ndarray:
        """Give C' A of `(n, …)`."""
        found, flat = np.empty_like(A), A.reshape(len(A), -1)
        if self.is_narrow:
            (root,), given = roots, flat[self.order]
            part = root[0][:, None] * given
            for b in range(1, self.band + 1):
                part[b:] += root[b, b:, None] * given[:-b]
            found[self.order] = part.reshape(A.shape)
            return found
        for stack, root in zip(self.stacks, roots, strict=True):
            part = root @ flat[stack.rows]
            found[stack.rows] = part.reshape(*stack.rows.shape, *A.shape[1:])
        return found

    def slopes(self, e: np.ndarray, K: np.ndarray) -> np.ndarray:
        """Give the slopes of e'Qe and of tr K'QK, together, by Q's entries at the pairs."""
        i, j = self.pattern.pairs.T
        traces: np.ndarray = np.einsum("ka,ka->k", K[i], K[j])
        return self.pattern.twice * (e[i] * e[j] + traces)
