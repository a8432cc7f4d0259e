"""Individuals of a pedigree: the sparse inverse of their additive relationships."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, override

import numpy as np

from glmm_bayes.covariance.kinship import Known, KnownPrecision
from glmm_bayes.covariance.known import as_text, refuse_strangers
from glmm_bayes.covariance.levels import LevelCovariance, Places, listed
from glmm_bayes.errors import DataError

COLUMNS = {
    "id": ("id", "animal", "individual"),
    "sire": ("sire", "father"),
    "dam": ("dam", "mother"),
}
UNKNOWN = ("", "0", "NA", "*")  # and missing values


@dataclass(frozen=True, eq=False)
class Family:
    """
    Individuals, each after its parents.

    Attributes
    ----------
    names
        `(N,)` what they are called.
    parents
        `(N, 2)` the positions of sire and dam, -1 where unknown.
    """

    names: tuple[str, ...]
    parents: np.ndarray

    @classmethod
    def read(cls, table: Any, what: str) -> "Family":
        """
        Read a data frame with a row for each individual; parents without a row are founders.

        Raises
        ------
        DataError
            If columns or ids are missing, an id has two rows, or one descends from itself.
        """
        columns = {role: _column(table, role, what) for role in COLUMNS}
        given = {role: [_id(value) for value in table[name]] for role, name in columns.items()}
        ids = [name for name in given["id"] if name is not None]
        if len(ids) < len(given["id"]):
            raise DataError(f"{_capital(what)} has no id in row {given['id'].index(None)}.")
        name, rows = Counter(ids).most_common(1)[0]
        if rows > 1:
            raise DataError(f"{_capital(what)} has {rows} rows for {name!r}.")
        own = dict(zip(ids, zip(given["sire"], given["dam"], strict=True), strict=True))
        for parent in [*given["sire"], *given["dam"]]:
            if parent is not None:
                own.setdefault(parent, (None, None))
        return _sorted(own, what)

    @cached_property
    def inbreeding(self) -> np.ndarray:
        """
        The coefficients F `(N,)`: half of the parents' relationship.

        Notes
        -----
        By Meuwissen & Luo's decomposition A = T D T' (1992, Genet. Sel. Evol. 24, 305-313), a
        generation at a time: F = sum_k T_sk T_dk d_k / 2, T's rows being what is inherited
        from every ancestor.
        """
        from scipy.sparse import csr_array, vstack

        N = len(self.names)
        F, own = np.zeros(N), np.ones(N)
        rows = csr_array((0, N))
        position, done = np.full(N, -1), 0
        is_parent = np.zeros(N, dtype=bool)
        is_parent[self.parents[self.parents >= 0]] = True
        for members in self._generations:
            both = members[(self.parents[members] >= 0).all(axis=1)]
            if len(both):
                couples, which = np.unique(self.parents[both], axis=0, return_inverse=True)
                T_s, T_d = (rows[position[side]] for side in couples.T)
                F[both] = (0.5 * (T_s.multiply(T_d)) @ own)[which]
            own[members] = self._own_share(members, F)
            new = members[is_parent[members]]
            rows = csr_array(vstack([rows, self._inherited(new, rows, position)]))
            position[new] = done + np.arange(len(new))
            done += len(new)
        return F

    def _own_share(self, members: np.ndarray, F: np.ndarray) -> np.ndarray:
        """Give the variance that is not inherited: 1 - (1 + F) / 4 of each parent that is known."""
        parents = self.parents[members]
        return 1.0 - 0.25 * np.where(parents >= 0, 1.0 + F[parents], 0.0).sum(axis=1)

    def _inherited(self, new: np.ndarray, rows: Any, position: np.ndarray) -> Any:
        from scipy.sparse import csr_array

        N = len(self.names)
        found = csr_array((np.ones(len(new)), (np.arange(len(new)), new)), shape=(len(new), N))
        for side in self.parents[new].T:
            has = np.flatnonzero(side >= 0)
            shape = (len(new), rows.shape[0])
            half = csr_array((np.full(len(has), 0.5), (has, position[side[has]])), shape=shape)
            found = found + half @ rows
        return found

    @cached_property
    def _generations(self) -> list[np.ndarray]:
        """The individuals by generation, founders first."""
        level = [0] * len(self.names)
        for k, (s, d) in enumerate(self.parents.tolist()):
            level[k] = max(level[s] + 1 if s >= 0 else 0, level[d] + 1 if d >= 0 else 0)
        order = np.argsort(level, kind="stable")
        return np.split(order, np.cumsum(np.bincount(level))[:-1])

    def precision(self, nodes: Sequence[int]) -> KnownPrecision:
        """
        Give A^-1 between individuals, all their ancestors among them.

        Notes
        -----
        Each adds w w' / d, w being 1 for itself and -1/2 for its parents: Henderson (1976),
        Biometrics 32, 69-83; Quaas (1976), Biometrics 32, 949-953.
        """
        at = np.full(len(self.names) + 1, -1)
        at[list(nodes)] = np.arange(len(nodes))
        # The last place is that of an unknown parent.
        parents = at[self.parents[list(nodes)]]
        d = self._own_share(np.array(nodes, dtype=np.intp), self.inbreeding)
        who = np.column_stack([np.arange(len(nodes)), parents])
        share = np.where(who >= 0, [1.0, -0.5, -0.5], 0.0)
        first, second = (np.repeat(who, 3, axis=1), np.tile(who, 3))
        entries = np.repeat(share, 3, axis=1) * np.tile(share, 3) / d[:, None]
        keep = (first >= second) & (second >= 0)
        pairs, which = np.unique(
            np.column_stack([first[keep], second[keep]]), axis=0, return_inverse=True
        )
        values = np.bincount(which, entries[keep], minlength=len(pairs))
        return KnownPrecision(pairs, values, -float(np.log(d).sum()))

    def ancestors(self, of: Sequence[int]) -> list[int]:
        """List these and all that they descend from, in order."""
        wanted = [False] * len(self.names)
        for k in of:
            wanted[k] = True
        pairs = self.parents.tolist()
        for k in range(len(pairs) - 1, -1, -1):
            if wanted[k]:
                for parent in pairs[k]:
                    if parent >= 0:
                        wanted[parent] = True
        return [k for k, is_wanted in enumerate(wanted) if is_wanted]


def _column(table: Any, role: str, what: str) -> str:
    columns = list(getattr(table, "columns", ()))
    found = [c for c in columns if str(c).lower() in COLUMNS[role]]
    if len(found) != 1:
        has = f"it has {listed(list(map(str, columns)))}" if columns else "it has no columns"
        raise DataError(
            f"{_capital(what)} should be a data frame with the columns id, sire and dam, or "
            f"animal, father and mother; {has}."
        )
    return found[0]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _id(value: Any) -> str | None:
    import pandas as pd

    text = "" if pd.isna(value) else as_text(value).strip()
    return None if text in UNKNOWN else text


def _sorted(own: Mapping[str, tuple[str | None, str | None]], what: str) -> Family:
    """Put parents before their offspring."""
    place: dict[str, int] = {}
    parents: list[tuple[int, ...]] = []
    waiting: set[str] = set()  # for their parents, each the offspring of the one after it
    for name in own:
        stack = [name]
        while stack:
            top = stack[-1]
            ahead = [p for p in own[top] if p is not None and p not in place]
            if ahead and top not in place:
                waiting.add(top)
                again = next((p for p in ahead if p in waiting), None)
                if again is not None:
                    raise DataError(f"In {what} {again!r} descends from itself.")
                stack += ahead
                continue
            stack.pop()
            waiting.discard(top)
            if top not in place:
                place[top] = len(parents)
                parents.append(tuple(-1 if p is None else place[p] for p in own[top]))
    return Family(tuple(place), np.array(parents, dtype=np.intp).reshape(-1, 2))


class Pedigree(Known):
    """
    `pedigree(x | id, ped)`: the covariance between individuals is A, their additive relationship.

    `ped` is a data frame with a row an individual and the columns id, sire and dam (or animal,
    father and mother); unknown parents are missing, 0 or empty. A has 1 + F on its diagonal, F
    being the inbreeding, so that sd^2 is the additive variance of unrelated founders. Effects
    are those of the individuals with data and of all their ancestors.
    """

    name = "pedigree"

    def __init__(self, places: Places, ped: Any) -> None:
        self._lay_out(places, Family.read(ped, f"the pedigree of {places.text!r}"), ())

    def _lay_out(self, places: Places, family: Family, first: Sequence[int]) -> None:
        super().__init__(places)
        at = {name: k for k, name in enumerate(family.names)}
        refuse_strangers(places, at, "in its pedigree")
        own = [at[name] for name in places.names]
        self._family = family
        self._order = tuple(dict.fromkeys([*first, *own, *family.ancestors(own)]))

    @cached_property
    @override
    def nodes(self) -> tuple[str, ...]:
        return tuple(self._family.names[k] for k in self._order)

    @cached_property
    @override
    def known(self) -> KnownPrecision:
        return self._family.precision(self._order)

    @override
    def extended(self, places: Places) -> LevelCovariance:
        more = object.__new__(Pedigree)
        more._lay_out(self.places.joined(places), self._family, self._order)
        return more
