"""Second-order random walks: curves whose slope walks, about their own straight line."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self, override

import numpy as np

from glmm_bayes.arrays import NUMPY
from glmm_bayes.covariance.descent import AlongTime
from glmm_bayes.covariance.intrinsic import Intrinsic, Part, typical_scales
from glmm_bayes.covariance.levels import Entries, LevelCovariance, Places, WithoutParameters, listed
from glmm_bayes.errors import DataError, FormulaError


@dataclass(frozen=True, eq=False)
class Bends:
    """
    Changes of slope at the middle one of three nodes each, of variance `width`.

    Attributes
    ----------
    nodes
        `(k, 3)` in the order of time.
    weights
        `(k, 3)` by which their values make the change of slope.
    width
        `(k,)` half of the time between the outer ones.
    """

    nodes: np.ndarray
    weights: np.ndarray
    width: np.ndarray

    @classmethod
    def along(cls, nodes: np.ndarray, time: np.ndarray) -> Self:
        """List those of nodes `(m,)` in the order of their times `(m,)`."""
        gap = np.diff(time)
        one, two = gap[:-1], gap[1:]
        weights = np.column_stack([1 / one, -1 / one - 1 / two, 1 / two])
        return cls(
            np.column_stack([nodes[:-2], nodes[1:-1], nodes[2:]]), weights, 0.5 * (one + two)
        )

    @property
    def entries(self) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of nodes, the larger first, and what they add to a precision there."""
        pairs, values = [], []
        for a in range(3):
            for b in range(a + 1):
                both = self.nodes[:, [a, b]]
                pairs.append(np.column_stack([both.max(axis=1), both.min(axis=1)]))
                values.append(self.weights[:, a] * self.weights[:, b] / self.width)
        return np.concatenate(pairs), np.concatenate(values)


class SecondOrderWalk(AlongTime, WithoutParameters):
    """
    `rw2(time | g)`: a curve whose slope changes by N(0, d) over a step d, about its straight line.

    No parameters. The curve of each process sums to zero and has no linear trend over its times:
    level and trend are of the fixed part, `time + rw2(time | 1)`, or of a term, `(time | g)`.
    Scaled so that the geometric mean of the variances at the times of the data is one; with
    `scale=False`, sd is that of the change of slope over one unit of time. It is linear between
    the times of the data, or between those of a grid, if there is a `step`.

    Notes
    -----
    At times d apart, Q has (v_1 / d_1 - (1 / d_1 + 1 / d_2) v_2 + v_3 / d_2)^2 / ((d_1 + d_2) / 2)
    of every three neighbours, at equal times the second differences: Lindgren & Rue (2008),
    Scandinavian J. Statistics 35, 691-700. The scale: Sorbye & Rue (2014), Spatial Statistics 8,
    39-51. What is zero has a variance of `HELD` to the minus one. Beyond the last time, and before
    the first, the walk goes on in steps of the median one.
    """

    name = "rw2"

    def __init__(self, places: Places, *, scale: bool = True, step: float | None = None) -> None:
        super().__init__(places)
        if step is not None and not step > 0:
            raise FormulaError(f"The step of {places.text!r} should be above zero, not {step!r}.")
        self.scale, self.step = scale, step
        self.grid = places if step is None else _on_grid(places, float(step))
        self._first = len(self.grid.names)
        self._base, self._unit, self._typical = self._intrinsic()

    def _intrinsic(self) -> tuple[Intrinsic, float, float]:
        parts = [_part(nodes, self.grid.at[nodes, 0]) for nodes in self._ordered()]
        bent = [part for part in parts if part.is_known]
        if not bent:
            raise DataError(
                f"{self.places.text!r} needs at least three different times in some group."
            )
        sizes = np.array([len(part.nodes) for part in bent])
        typical = float(np.exp(np.average(np.log(typical_scales(bent)), weights=sizes)))
        unit = typical if self.scale else 1.0
        scales = np.full(len(parts), unit)
        return Intrinsic.of(parts, self._first, scales=scales), unit, typical

    def _ordered(self) -> list[np.ndarray]:
        """List the nodes of each process in the order of time."""
        time = self.grid.at[:, 0]
        return [nodes[np.argsort(time[nodes])] for nodes in self.grid.processes]

    @property
    @override
    def nodes(self) -> tuple[str, ...]:
        return self.grid.names

    @property
    @override
    def shown(self) -> int:
        return len(self.grid.names)

    @property
    @override
    def spread(self) -> float:
        return 1.0 if self.scale else float(np.sqrt(self._typical))

    @cached_property
    def _beyond(self) -> Bends:
        """The changes of slope by which nodes outside of the data's times follow."""
        found = []
        for nodes in self._ordered():
            time, new = self.grid.at[nodes, 0], nodes >= self._first
            bends = Bends.along(nodes, time)
            # Those that a new node is at the end of: inside all are in the base.
            own = np.flatnonzero(new[:-2] | new[2:])
            found.append((bends.nodes[own], bends.weights[own], bends.width[own]))
        return Bends(*(np.concatenate(part) for part in zip(*found, strict=True)))

    @cached_property
    def _all(self) -> tuple[np.ndarray, np.ndarray]:
        """The pairs, and Q's entries there."""
        pairs, values = self._beyond.entries
        both = np.concatenate([self._base.pairs, pairs])
        every, place = np.unique(both, axis=0, return_inverse=True)
        own = np.concatenate([self._base.values, self._unit * values])
        return every, np.bincount(place.ravel(), own, len(every))

    @property
    @override
    def pairs(self) -> np.ndarray:
        return self._all[0]

    @cached_property
    @override
    def held(self) -> tuple[np.ndarray, np.ndarray] | None:
        if self._base.held is None:
            return None
        rows, pins = self._base.held
        more = len(self.grid.names) - self._first
        return np.pad(rows, ((0, 0), (0, more))), pins

    @override
    def entries(self, theta: Mapping[str, Any], xp: Any = NUMPY) -> Entries:
        bends = self._beyond
        # Each of these brings in one new node, whose weight is the pivot.
        newest = np.take_along_axis(
            bends.weights, bends.nodes.argmax(axis=1, keepdims=True), axis=1
        )
        pivots = np.log(self._unit * newest[:, 0] ** 2 / bends.width).sum()
        return Entries(self._all[1], self._base.log_determinant + float(pivots))

    @override
    def extended(self, places: Places) -> LevelCovariance:
        found = type(self)(self.places, scale=self.scale, step=self.step)
        found.grid = _onwards(self.grid, places, self.step)
        return found

    @override
    def located(self, places: Places) -> tuple[np.ndarray, np.ndarray]:
        index = np.zeros((len(places.names), 2), dtype=np.intp)
        weights = np.zeros((len(places.names), 2))
        for nodes in self._ordered():
            time = self.grid.at[nodes, 0]
            rows = np.flatnonzero(places.process == self.grid.process[nodes[0]])
            t = places.at[rows, 0]
            after = np.minimum(np.searchsorted(time, t), len(time) - 1)
            before = np.maximum(after - 1, 0)
            gap = time[after] - time[before]
            share = np.divide(t - time[before], gap, out=np.ones(len(t)), where=gap > 0)
            index[rows] = np.column_stack([nodes[before], nodes[after]])
            weights[rows] = np.column_stack([1.0 - share, share])
        if (weights[:, 0] == 0).all():
            return index[:, 1:], weights[:, 1:]
        return index, weights


def _part(nodes: np.ndarray, time: np.ndarray) -> Part:
    """Make the walk along one process's times, in their order."""
    from scipy.sparse import coo_array

    m = len(nodes)
    lines = np.column_stack([np.ones(m), time - time.mean()])[:, : min(m, 2)]
    null = np.linalg.qr(lines)[0]
    pairs, values = Bends.along(np.arange(m), time).entries
    i, j = pairs.T
    off = i != j
    at = np.concatenate([i, j[off]]), np.concatenate([j, i[off]])
    Q = coo_array((np.concatenate([values, values[off]]), at), shape=(m, m)).tocsr()
    return Part(nodes, Q, null, np.array([0, m - 1])[: null.shape[1]])


def _on_grid(places: Places, step: float) -> Places:
    """Give equally spaced nodes over each process's times."""
    found = []
    for rows in places.processes:
        time = places.at[rows, 0]
        count = int(np.ceil((time.max() - time.min()) / step - 1e-9)) + 1
        found.append(_times(places, rows[0], time.min() + step * np.arange(count)))
    first, *rest = found
    for more in rest:
        first = first.joined(more)
    return first


def _onwards(grid: Places, places: Places, step: float | None) -> Places:
    """Add nodes for times of known processes that lie before or after all of theirs."""
    strange = [
        name for name, g in zip(places.names, places.process, strict=True) if g not in grid.process
    ]
    if strange:
        raise DataError(
            f"{listed(strange)} of {places.text!r} are of a group that is not in the data: where "
            f"its curve lies nothing says."
        )
    for rows in grid.processes:
        own = np.sort(grid.at[rows, 0])
        asked = places.at[places.process == grid.process[rows[0]], 0]
        if not len(asked) or (asked.min() >= own[0] and asked.max() <= own[-1]):
            continue
        if len(own) < 2:
            raise DataError(
                f"A group of {places.text!r} has one time only, {grid.names[rows[0]]!r}: its curve "
                f"goes nowhere from there."
            )
        usual = float(np.median(np.diff(own))) if step is None else step
        after = int(np.ceil((asked.max() - own[-1]) / usual - 1e-9))
        before = int(np.ceil((own[0] - asked.min()) / usual - 1e-9))
        # From the data outwards: each follows from two that are there.
        time = np.concatenate(
            [
                own[-1] + usual * np.arange(1, after + 1),
                own[0] - usual * np.arange(1, before + 1),
            ]
        )
        grid = grid.joined(_times(grid, rows[0], time))
    return grid


def _times(places: Places, of: int, time: np.ndarray) -> Places:
    """Give times `(m,)` of the process that a level is of."""
    prefix = places.names[of].rpartition(":")[0]
    names = tuple(f"{prefix}:{t:.12g}" if prefix else f"{t:.12g}" for t in time)
    none = np.full((len(time), places.labels.shape[1]), "", dtype=object)
    process = np.full(len(time), places.process[of])
    return Places(names, process, time[:, None], places.text, places.factors, none)
