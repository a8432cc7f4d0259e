"""The rows of a group that are measured at different levels of a factor, as nodes."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, override

import numpy as np

from glmm_bayes.arrays import NUMPY
from glmm_bayes.covariance.base import Covariance
from glmm_bayes.covariance.levels import Entries, LevelCovariance, Places, block_pairs
from glmm_bayes.covariance.structure import CovarianceParameter
from glmm_bayes.priors import Prior


class Repeated(LevelCovariance):
    """
    Rows whose correlation is that of a structure of columns, the rows of other groups apart.

    A group may lack some of the columns. Parameters are the structure's, but for its standard
    deviations, which are one.

    Attributes
    ----------
    columns
        The structure.
    names
        `(p,)` the columns.
    """

    def __init__(self, places: Places, columns: Covariance, names: Sequence[str]) -> None:
        super().__init__(places)
        self.columns, self.names = columns, tuple(names)

    @property
    def column(self) -> np.ndarray:
        """The column `(q,)` of each row, its position; `places.process` is its group."""
        return self.places.at[:, 0].astype(np.intp)

    @property
    def count(self) -> int:
        """The number p of columns."""
        return len(self.names)

    @override
    def parameters(self, size: int) -> tuple[CovarianceParameter, ...]:
        return tuple(p for p in self.columns.parameters(self.count) if p.key != "sd")

    @override
    def default_prior(self, key: str) -> Prior | None:
        return self.columns.default_prior(key)

    @override
    def priors(self, key: str, prior: Prior, size: int) -> tuple[Prior, ...]:
        return self.columns.priors(key, prior, self.count)

    @override
    def coordinates(self, size: int) -> dict[str, tuple[str, ...]]:
        names = {"coef": self.names, "coef2": self.names}
        return names | self.columns.coordinates(self.count)

    @override
    def dims(self, key: str) -> tuple[str, ...]:
        return self.columns.dims(key)

    @override
    def listed(self, size: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield from ((k, at) for k, at in self.columns.listed(self.count) if k != "sd")

    @override
    def reported(self, theta: Mapping[str, Any], size: int, xp: Any = NUMPY) -> dict[str, Any]:
        return self.columns.reported(self._complete(theta), self.count, xp)

    @override
    def sampled(self, values: Mapping[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
        ones = np.ones((len(next(iter(values.values()))), self.count))
        found = self.columns.sampled({"sd": ones, **values}, self.count)
        return {p.name: found[p.name] for p in self.parameters(size)}

    @override
    def extended(self, places: Places) -> LevelCovariance:
        return Repeated(self.places.joined(places), self.columns, self.names)

    def _complete(self, theta: Mapping[str, Any]) -> dict[str, Any]:
        own = self.columns.parameters(self.count)
        return {p.name: np.ones(p.size) for p in own if p.key == "sd"} | dict(theta)

    @override
    def start(self) -> dict[str, np.ndarray]:
        found = self.columns.start(np.ones(self.count), self.count)
        return {p.name: found[p.name] for p in self.parameters(0)}

    @cached_property
    @override
    def pairs(self) -> np.ndarray:
        return block_pairs(self.places.processes)

    @cached_property
    def _kinds(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The combinations of columns that groups have, and which each group has, by position."""
        number: dict[tuple[int, ...], int] = {}
        own = [tuple(self.column[nodes].tolist()) for nodes in self.places.processes]
        kind = np.array([number.setdefault(columns, len(number)) for columns in own])
        return [(np.array(columns), np.flatnonzero(kind == k)) for columns, k in number.items()]

    @override
    def entries(self, theta: Mapping[str, Any], xp: Any = NUMPY) -> Entries:
        Lambda = self.columns.factor(self._complete(theta), self.count, xp)
        R, total = Lambda @ Lambda.T, 0.0
        values, source = [], np.empty(len(self.pairs), dtype=np.intp)
        sizes = np.array([len(nodes) * (len(nodes) + 1) // 2 for nodes in self.places.processes])
        starts, at = np.cumsum(sizes) - sizes, 0
        for columns, groups in self._kinds:
            Q, log_of = _inverted(R[columns[:, None], columns], xp)
            m = len(columns)
            values.append(Q[np.tril_indices(m)])
            source[starts[groups][:, None] + np.arange(sizes[groups[0]])] = at + np.arange(
                sizes[groups[0]]
            )
            at += m * (m + 1) // 2
            total = total - len(groups) * log_of
        return Entries(xp.concatenate(values)[source], total)


def _inverted(R: Any, xp: Any) -> tuple[Any, Any]:
    """Give R^-1 and log |R|, also of what has imaginary parts for slopes."""
    if xp is not NUMPY or not np.iscomplexobj(R):
        return xp.inverse(R)
    sign, log_of = np.linalg.slogdet(R)
    return np.linalg.inv(R), log_of + np.log(sign)


def column_of(Z: np.ndarray) -> np.ndarray | None:
    """Give the one column `(n,)` that is one in every row of indicators; None if these are not."""
    is_indicator = np.isin(Z, (0.0, 1.0)).all() and (Z.sum(axis=1) == 1).all()
    return np.argmax(Z, axis=1) if is_indicator else None
