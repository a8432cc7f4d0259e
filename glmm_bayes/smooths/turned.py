"""A basis in new coordinates: what has no penalty, and columns whose penalty is their length."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from glmm_bayes.smooths.bases import Basis

SOME = 300  # places, by which polynomials are found in a basis


@dataclass(frozen=True, eq=False)
class Margin:
    """
    A basis whose K functions are turned into M smoothest ones and r others.

    With `free` `(K, M)`, the functions times `free` are the polynomials without a penalty, the
    constant first, each of mean square one over the data; with `bent` `(K, r)`, the penalty of
    their combination with weights b is b'b, times what is the same for all.
    """

    basis: Basis
    places: slice  # of its variables among the smooth's
    free: np.ndarray
    bent: np.ndarray

    @classmethod
    def of(cls, basis: Basis, x: np.ndarray, places: slice) -> "Margin":
        """Turn a basis, whose variables are `x[:, places]`."""
        own = x[:, places]
        middle, polynomials = own.mean(axis=0), basis.smoothest
        centre, size = _scales(polynomials(own - middle))
        M = len(size)
        values, vectors = np.linalg.eigh(basis.penalty)
        null, others = vectors[:, :M], vectors[:, M:]
        # The polynomials are in the span of what has no penalty: some places tell how.
        at = np.linspace(0, len(basis.unique) - 1, min(SOME, len(basis.unique)))
        some = basis.unique[at.round().astype(int)]
        wanted = (polynomials(some - middle) - centre) / size
        free = null @ np.linalg.lstsq(basis.matrix(some) @ null, wanted)[0]
        return cls(basis, places, free, others / np.sqrt(values[M:]))

    def parts(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Evaluate the polynomials `(m, M)` and the others `(m, r)`."""
        # Many rows may have the same few values, such as years.
        different, row = np.unique(x[:, self.places], axis=0, return_inverse=True)
        B = self.basis.matrix(different)
        return (B @ self.free)[row], (B @ self.bent)[row]


@dataclass(frozen=True, eq=False)
class Turned:
    """
    The functions of a smooth, in blocks: the first has no penalty, each other one of its own.

    Of one margin there is one penalised block. Of several, every block is the product of the
    polynomials of some margins and the others of the rest.

    Notes
    -----
    Wood, Scheipl & Faraway (2013), Statistics and Computing 23, 341-360.
    """

    margins: tuple[Margin, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """What the penalised blocks are called: by margin, r for others and n for polynomials."""
        return tuple("".join("nr"[bent] for bent in kind) for kind in self._kinds)

    def blocks(self, x: np.ndarray) -> list[np.ndarray]:
        """Evaluate the blocks `(m, columns)` at x `(m, d)`, the unpenalised first."""
        parts = [margin.parts(x) for margin in self.margins]
        every = [(0,) * len(parts), *self._kinds]
        return [_products([part[k] for part, k in zip(parts, kind, strict=True)]) for kind in every]

    @property
    def _kinds(self) -> Iterator[tuple[int, ...]]:
        return (kind for kind in product((1, 0), repeat=len(self.margins)) if any(kind))


def _products(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Multiply every column of each part with every one of the others, row by row."""
    found = parts[0]
    for part in parts[1:]:
        found = (found[:, :, None] * part[:, None, :]).reshape(len(found), -1)
    return found


def _scales(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give what to take off columns `(n, M)`, of the first nothing, and to divide them by."""
    centre = columns.mean(axis=0)
    centre[0] = 0.0
    return centre, np.sqrt(np.mean((columns - centre) ** 2, axis=0))
