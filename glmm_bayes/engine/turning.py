"""Rows that vary together by a precision, turned until they are independent."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from glmm_bayes.engine.latent import Pattern, Precision


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
    def stacks(self) -> list[Stack]:
        """The parts, those of one size together."""
        label, (i, j) = self.label, self.pattern.pairs.T
        order = np.lexsort((self.rank, label))
        sizes = np.bincount(label)
        starts = np.cumsum(sizes) - sizes
        local, number = np.empty(len(label), np.intp), np.empty(len(sizes), np.intp)
        local[order] = np.arange(len(label)) - starts[label[order]]
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
        Give C' of every stack's parts, `(G, m, m)`, lower triangular.

        Raises
        ------
        LinAlgError
            If Q is not positive definite.
        """
        return [
            # The last row is eliminated first, so that no row's residual is told of by later ones.
            np.linalg.cholesky(stack.filled(Q.values)[:, ::-1, ::-1])[:, ::-1, ::-1].swapaxes(1, 2)
            for stack in self.stacks
        ]

    def turned(self, roots: Sequence[np.ndarray], A: np.ndarray) -> np.ndarray:
        """Give C' A of `(n, …)`."""
        found, flat = np.empty_like(A), A.reshape(len(A), -1)
        for stack, root in zip(self.stacks, roots, strict=True):
            part = root @ flat[stack.rows]
            found[stack.rows] = part.reshape(*stack.rows.shape, *A.shape[1:])
        return found

    def slopes(self, e: np.ndarray, K: np.ndarray) -> np.ndarray:
        """Give the slopes of e'Qe and of tr K'QK, together, by Q's entries at the pairs."""
        i, j = self.pattern.pairs.T
        traces: np.ndarray = np.einsum("ka,ka->k", K[i], K[j])
        return self.pattern.twice * (e[i] * e[j] + traces)
