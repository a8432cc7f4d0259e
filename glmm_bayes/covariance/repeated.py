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
    column
        `(q,)` the column of each row; `places.process` is its group.
    """

    def __init__(
        self, places: Places, columns: Covariance, names: Sequence[str], column: np.ndarray
    ) -> None:
        super().__init__(places)
        self.columns, self.names, self.column = columns, tuple(names), column

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
        return self.columns.reported(self._complete(theta), self.count)

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

    @override
    def entries(self, theta: Mapping[str, Any], xp: Any = NUMPY) -> Entries:
        Lambda = self.columns.factor(self._complete(theta), self.count)
        R = Lambda @ Lambda.T
        known: dict[tuple[int, ...], tuple[np.ndarray, Any]] = {}
        values, total = [], 0.0
        for nodes in self.places.processes:
            own = tuple(self.column[nodes].tolist())
            if own not in known:
                known[own] = _inverted(R[np.ix_(own, own)])
            Q, log_of = known[own]
            values.append(Q[np.tril_indices(len(own))])
            total = total + log_of
        return Entries(np.concatenate(values), total)


def _inverted(R: np.ndarray) -> tuple[np.ndarray, Any]:
    """Give R^-1 and its log determinant, also of what has imaginary parts for slopes."""
    sign, log_of = np.linalg.slogdet(R)
    return np.linalg.inv(R), -(log_of + np.log(sign) if np.iscomplexobj(R) else log_of)


def column_of(Z: np.ndarray) -> np.ndarray | None:
    """Give the one column `(n,)` that is one in every row of indicators; None if these are not."""
    is_indicator = np.isin(Z, (0.0, 1.0)).all() and (Z.sum(axis=1) == 1).all()
    return np.argmax(Z, axis=1) if is_indicator else None
