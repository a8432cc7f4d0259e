"""What the numerics see of a model's random effects: which level each row has, and times what."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Precision:
    """
    A precision Q between the levels of a term; or slopes of a function by these.

    Attributes
    ----------
    values
        `(pairs,)` its entries at the term's pairs of levels.
    log_determinant
        Log |Q|, natural.
    """

    values: np.ndarray
    log_determinant: float


@dataclass(frozen=True, eq=False)
class Pattern:
    """
    Where a precision Q `(q, q)` has entries, and what it has of few directions beside these.

    Attributes
    ----------
    pairs
        `(k, 2)` the levels the entries are between, the larger first, every level with itself
        among them.
    held
        `(c, q)`: held' held is added to the entries. It keeps sums near zero, say, on which the
        entries alone would say nothing.
    pins
        `(c,)` as many levels, with something added to whose own entries these alone are positive
        definite.
    """

    q: int
    pairs: np.ndarray
    held: np.ndarray | None = None
    pins: np.ndarray | None = None

    @classmethod
    def of(cls, structure: Any) -> "Pattern | None":
        """Read a structure of levels; None where these are independent."""
        if structure.pairs is None:
            return None
        held, pins = structure.held or (None, None)
        return cls(len(structure.nodes), structure.pairs, held, pins)

    @cached_property
    def twice(self) -> np.ndarray:
        """How often `(k,)` each pair's entry stands in Q: off the diagonal there are two."""
        return np.where(self.pairs[:, 0] == self.pairs[:, 1], 1.0, 2.0)

    @cached_property
    def _symmetric(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The pattern of all of Q by rows: `indptr`, `indices`, and each entry's pair."""
        i, j = self.pairs.T
        off = np.flatnonzero(i != j)
        rows, columns = np.concatenate([i, j[off]]), np.concatenate([j, i[off]])
        source = np.concatenate([np.arange(len(i)), off])
        order = np.lexsort((columns, rows))
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=self.q))])
        return indptr, columns[order], source[order]

    def matrix(self, values: np.ndarray) -> Any:
        """Give the matrix `(q, q)`, sparse, of entries at the pairs alone."""
        # A copy of what was checked once: the checks take longer than a product with Q.
        found = copy(self._checked)
        found.data = values[self._symmetric[2]]
        return found

    @cached_property
    def _checked(self) -> Any:
        from scipy.sparse import csr_array

        indptr, indices, source = self._symmetric
        return csr_array((np.zeros(len(source)), indices, indptr), shape=(self.q, self.q))

    def dense(self, values: np.ndarray) -> np.ndarray:
        """Give Q `(q, q)` of its entries at the pairs."""
        found = self.matrix(values).toarray()
        return found if self.held is None else found + self.held.T @ self.held

    def times(self, precision: Precision, v: np.ndarray) -> np.ndarray:
        """Give Q v, of `(q, p)`."""
        found = self.matrix(precision.values) @ v
        return found if self.held is None else found + self.held.T @ (self.held @ v)

    def products(self, v: np.ndarray, w: np.ndarray) -> np.ndarray:
        """Give the slopes of v' Q w, `(q, p)` both, by Q's entries at the pairs `(k,)`."""
        i, j = self.pairs.T
        both = np.einsum("kp,kp->k", v[i], w[j]) + np.einsum("kp,kp->k", v[j], w[i])
        return 0.5 * self.twice * both


@dataclass(frozen=True, eq=False)
class Term:
    """
    One random term of q levels and p columns, b = v Lambda'.

    The columns of v are independent; the levels too, each N(0, 1), or else of precision Q.

    Attributes
    ----------
    index, weights
        `(n, m)` the levels a row belongs to, and times what: m = 1 but for multi-membership.
    Z
        By the number of a predictor, its columns `(n, p)`, with zeros where it does not load.
    pattern
        Where Q has entries; None where levels are independent.
    """

    q: int
    p: int
    index: np.ndarray
    weights: np.ndarray
    Z: Mapping[int, np.ndarray]
    pattern: "Pattern | None" = None

    @property
    def size(self) -> int:
        """The number of effects."""
        return self.q * self.p

    @cached_property
    def scales(self) -> np.ndarray:
        """The root mean square `(p,)` of each column: 1 / scale is a unit of its effects."""
        total = sum((np.square(Z) for Z in self.Z.values()), np.zeros(()))
        found = np.sqrt(np.mean(np.atleast_2d(total), axis=0))
        return np.where(found > 0, found, 1.0)


type Precisions = Sequence[Precision | None]


@dataclass(frozen=True, eq=False)
class Latent:
    """
    Everything that is integrated out: the random terms, and the predictors they load on.

    Attributes
    ----------
    terms
        In the model's order; the effects `u` `(N,)` are their v's, one after the other.
    predictors
        The numbers of the predictors with random effects, and always the first, 0.
    n
        The number of rows.
    """

    terms: Sequence[Term]
    predictors: tuple[int, ...]
    n: int

    @cached_property
    def places(self) -> list[slice]:
        """Where each term's v stands in u."""
        ends = np.cumsum([0, *(term.size for term in self.terms)])
        return [slice(int(a), int(b)) for a, b in zip(ends[:-1], ends[1:], strict=True)]

    @property
    def is_structured(self) -> bool:
        """Whether the levels of some term have a precision of their own."""
        return any(term.pattern is not None for term in self.terms)

    def completed(self, precisions: Precisions | None) -> Precisions:
        """Give a precision, or None, for every term."""
        return [None] * len(self.terms) if precisions is None else list(precisions)

    def dense_prior(self, precisions: Precisions) -> np.ndarray:
        """Give P `(N, N)`."""
        found = np.eye(self.size)
        for at, term, precision in zip(self.places, self.terms, precisions, strict=True):
            if precision is not None and term.pattern is not None:
                Q = term.pattern.dense(precision.values)
                found[at, at] = np.kron(Q, np.eye(term.p))
        return found

    def times_prior(self, u: np.ndarray, precisions: Precisions) -> np.ndarray:
        """Give P u `(N,)`, P the precision of all effects: the identity where levels are iid."""
        if not self.is_structured:
            return u
        found = u.copy()
        parts = zip(self.places, self.terms, precisions, strict=True)
        for at, term, precision in parts:
            if precision is not None and term.pattern is not None:
                found[at] = term.pattern.times(precision, u[at].reshape(term.q, term.p)).ravel()
        return found

    def log_prior_determinant(self, precisions: Precisions) -> float:
        """Give log |P|."""
        return sum(
            (
                term.p * Q.log_determinant
                for term, Q in zip(self.terms, precisions, strict=True)
                if Q
            ),
            0.0,
        )

    @property
    def size(self) -> int:
        """The number N of effects."""
        return sum(term.size for term in self.terms)

    def split(self, u: np.ndarray) -> list[np.ndarray]:
        """Cut u `(N,)` into every term's v `(q, p)`."""
        return [
            u[at].reshape(term.q, term.p) for at, term in zip(self.places, self.terms, strict=True)
        ]

    def effects(self, u: np.ndarray, Lambdas: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Give every term's b = v Lambda'."""
        return [v @ L.T for v, L in zip(self.split(u), Lambdas, strict=True)]
