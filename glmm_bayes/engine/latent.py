"""What the numerics see of a model's random effects: which level each row has, and times what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True, eq=False)
class Term:
    """
    One random term of q levels and p columns, b = v Lambda'.

    Attributes
    ----------
    index, weights
        `(n, m)` the levels a row belongs to, and times what: m = 1 but for multi-membership.
    Z
        By the number of a predictor, its columns `(n, p)`, with zeros where it does not load.
    """

    q: int
    p: int
    index: np.ndarray
    weights: np.ndarray
    Z: Mapping[int, np.ndarray]

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
