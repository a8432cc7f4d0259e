"""Random terms whose groupings are the same or nested, with their rows sorted; no algebra here.

Arrays end in the batch D and in the n rows, or the G units of a grouping. A batch is the same
rows again with other predictors: one for each node at which a coarser grouping's effects stand.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from glmm_bayes.engine.latent import Latent, Term


@dataclass(frozen=True, eq=False)
class Grouping:
    """
    One grouping of a chain, the columns of its terms side by side.

    Attributes
    ----------
    terms, sizes
        The numbers of its terms, and their numbers of columns.
    levels
        By term, `(G,)` which of its levels a unit is.
    starts, unit
        `(G,)` the first row of every unit, and `(n,)` the unit of every row: rows are sorted.
    Z
        `(R, k, n)` the columns in each predictor with effects.
    """

    terms: tuple[int, ...]
    sizes: tuple[int, ...]
    levels: tuple[np.ndarray, ...]
    starts: np.ndarray
    unit: np.ndarray
    Z: np.ndarray

    @classmethod
    def of(cls, latent: Latent, own: Sequence[int], rows: np.ndarray) -> Self:
        """Read the terms' columns in the order of the rows, which keeps units together."""
        terms = [latent.terms[i] for i in own]
        key = terms[0].index[rows, 0]
        new = np.append(True, key[1:] != key[:-1])
        starts = np.flatnonzero(new)
        blank = [np.zeros((latent.n, term.p)) for term in terms]
        Z = [
            np.hstack([t.Z.get(a, b) * t.weights for t, b in zip(terms, blank, strict=True)])
            for a in latent.predictors
        ]
        return cls(
            tuple(own),
            tuple(term.p for term in terms),
            tuple(term.index[rows[starts], 0] for term in terms),
            starts,
            np.cumsum(new) - 1,
            np.ascontiguousarray(np.stack([z[rows].T for z in Z])),
        )

    @property
    def k(self) -> int:
        """The number of effects of a unit."""
        return self.Z.shape[1]

    def total(self, x: np.ndarray) -> np.ndarray:
        """Sum rows `(..., n)` within units, `(..., G)`."""
        return np.add.reduceat(x, self.starts, axis=-1)

    def within(self, finer: "Grouping", x: np.ndarray) -> np.ndarray:
        """Sum a finer grouping's units `(..., G')` within this one's, `(..., G)`."""
        return x if finer is self else np.add.reduceat(x, finer.unit[self.starts], axis=-1)

    def over(self, finer: "Grouping", x: np.ndarray) -> np.ndarray:
        """Give every unit of a finer grouping what its unit here has."""
        return x[..., self.unit[finer.starts]]

    def part(self, rows: slice) -> "Grouping":
        """Keep rows that follow one another, of whole units."""
        first, last = int(self.unit[rows.start]), int(self.unit[rows.stop - 1]) + 1
        return replace(
            self,
            levels=tuple(level[first:last] for level in self.levels),
            starts=self.starts[first:last] - rows.start,
            unit=self.unit[rows] - first,
            Z=self.Z[:, :, rows],
        )


@dataclass(frozen=True, eq=False)
class Chain:
    """
    Terms in a chain of groupings.

    Attributes
    ----------
    rows
        `(n,)` where the sorted rows stand in the model.
    groupings
        From the coarsest to the finest.
    predictors
        `(R,)` the numbers of the predictors with effects.
    """

    rows: np.ndarray
    groupings: tuple[Grouping, ...]
    predictors: np.ndarray

    @classmethod
    def build(cls, latent: Latent) -> Self:
        """Merge terms on the same grouping, and sort; no two terms may be `crossing`."""
        merged: list[list[int]] = []
        for i in _by_levels(latent):
            if merged and latent.terms[merged[-1][0]].q == latent.terms[i].q:
                merged[-1].append(i)
            else:
                merged.append([i])
        rows = np.lexsort([latent.terms[own[0]].index[:, 0] for own in reversed(merged)])
        groupings = tuple(Grouping.of(latent, own, rows) for own in merged)
        return cls(rows, groupings, np.array(latent.predictors))

    def pieces(self, most: int) -> Iterator["Chain"]:
        """Cut between the coarsest units, with at most so many rows where a unit allows it."""
        starts = np.append(self.groupings[0].starts, len(self.rows))
        begin = 0
        while begin < len(starts) - 1:
            end = int(np.searchsorted(starts, starts[begin] + most, side="right")) - 1
            end = max(end, begin + 1)
            yield self._part(slice(int(starts[begin]), int(starts[end])))
            begin = end

    def of_level(self, level: int) -> "Chain":
        """Keep one level of the coarsest grouping's first term."""
        top = self.groupings[0]
        at = np.flatnonzero(top.unit == int(np.flatnonzero(top.levels[0] == level)[0]))
        return self._part(slice(int(at[0]), int(at[-1]) + 1))

    def _part(self, rows: slice) -> "Chain":
        groupings = tuple(g.part(rows) for g in self.groupings)
        return replace(self, rows=self.rows[rows], groupings=groupings)

    def to_units(self, parts: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Go from every term's v `(q, p)` to every grouping's `(k, 1, G)`."""
        return [
            np.concatenate([parts[i][level].T for i, level in zip(g.terms, g.levels, strict=True)])[
                :, None, :
            ]
            for g in self.groupings
        ]

    def factors(self, Lambdas: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Put the terms' factors together as every grouping's `(k, k)`."""
        found = []
        for g in self.groupings:
            Lambda, at = np.zeros((g.k, g.k)), 0
            for i, p in zip(g.terms, g.sizes, strict=True):
                Lambda[at : at + p, at : at + p] = Lambdas[i]
                at += p
            found.append(Lambda)
        return found

    def by_terms(self, slopes: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Cut slopes by the groupings' factors `(k, k)` into the terms' `(p, p)`."""
        found: dict[int, np.ndarray] = {}
        for g, slope in zip(self.groupings, slopes, strict=True):
            at = 0
            for i, p in zip(g.terms, g.sizes, strict=True):
                found[i] = slope[at : at + p, at : at + p]
                at += p
        return [found[i] for i in sorted(found)]


def _by_levels(latent: Latent) -> list[int]:
    return sorted(range(len(latent.terms)), key=lambda i: latent.terms[i].q)


def crossing(latent: Latent) -> tuple[int, int] | None:
    """Give the numbers of two terms of which neither is nested in the other, if there are any."""
    order = _by_levels(latent)
    for coarse, fine in zip(order[:-1], order[1:], strict=True):
        if not _refines(latent.terms[fine], latent.terms[coarse]):
            return min(coarse, fine), max(coarse, fine)
    return None


def _refines(fine: Term, coarse: Term) -> bool:
    pairs = fine.index[:, 0] * coarse.q + coarse.index[:, 0]
    return len(np.unique(pairs)) == fine.q
