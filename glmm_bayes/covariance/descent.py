"""Levels that each come after one other: along time, and from ancestors to descendants."""

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any, override

import numpy as np

from glmm_bayes.arrays import NUMPY
from glmm_bayes.covariance.levels import Entries, LevelCovariance, Places, WithoutParameters
from glmm_bayes.covariance.structure import CovarianceParameter
from glmm_bayes.errors import DataError
from glmm_bayes.priors import Prior


class Descent(LevelCovariance):
    """
    Each node's v is c times that of the node before it, plus an innovation of variance s.

    Given its parent a node is independent of all that come before, so that Q has entries between
    parent and child only: a chain in time, a tree of species.
    """

    @property
    @abstractmethod
    def parent(self) -> np.ndarray:
        """The node before each, -1 for a first one."""

    @abstractmethod
    def steps(self, theta: Mapping[str, Any], xp: Any) -> tuple[Any, Any]:
        """Give c of every node that has a parent, in order, and s `(N,)` of all."""

    @cached_property
    def child(self) -> np.ndarray:
        """The nodes that have a parent."""
        return np.flatnonzero(self.parent >= 0)

    @cached_property
    @override
    def pairs(self) -> np.ndarray:
        every, parent = np.arange(len(self.parent)), self.parent[self.child]
        couples = np.column_stack([np.maximum(self.child, parent), np.minimum(self.child, parent)])
        return np.concatenate([np.column_stack([every, every]), couples])

    @override
    def entries(self, theta: Mapping[str, Any], xp: Any = NUMPY) -> Entries:
        c, s = self.steps(theta, xp)
        precise = 1.0 / s
        by_child = precise[self.child]
        # Each innovation (v - c v_parent)^2 / s adds to the child, to the parent and between.
        diagonal = xp.add_at(precise, self.parent[self.child], c * c * by_child)
        return Entries(xp.concatenate([diagonal, -c * by_child]), -xp.sum(xp.log(s)))


class AlongTime(LevelCovariance):
    """What stands one after the other on a line, in one process or several."""

    positioned = True

    @classmethod
    @override
    def of(cls, places: Places, given: Mapping[str, Any]) -> LevelCovariance:
        if places.at.shape[1] != 1:
            raise DataError(
                f"{places.text!r} runs along one variable, but {places.at.shape[1]} stand before "
                f"the bar: leave one."
            )
        return super().of(places, given)

    @cached_property
    def parent(self) -> np.ndarray:
        """The node before each in its process, -1 for the first."""
        order, process = self._order, self.places.process
        found = np.full(len(order), -1)
        follows = process[order[1:]] == process[order[:-1]]
        found[order[1:][follows]] = order[:-1][follows]
        return found

    @cached_property
    def _order(self) -> np.ndarray:
        return np.lexsort((self.places.at[:, 0], self.places.process))

    @override
    def extended(self, places: Places) -> LevelCovariance:
        return type(self)(self.places.joined(places))


class Chain(AlongTime, Descent):
    """Along time, each given the one before."""

    @cached_property
    def apart(self) -> np.ndarray:
        """How far every node that has a parent is from it."""
        time = self.places.at[:, 0]
        return time[self.child] - time[self.parent[self.child]]


class Stationary(Chain):
    """Along time with the variance one everywhere, and a correlation c from one to the next."""

    @abstractmethod
    def correlation(self, theta: Mapping[str, Any], xp: Any) -> tuple[Any, Any]:
        """Give c `(children,)` between those that are `apart`, and 1 - c^2."""

    @override
    def steps(self, theta: Mapping[str, Any], xp: Any) -> tuple[Any, Any]:
        c, left = self.correlation(theta, xp)
        return c, xp.put_at(np.ones(len(self.parent)), self.child, left)


class AutoregressiveTime(Stationary):
    """
    `ar1(time | g)`: v of variance one and correlation rho^d between times d apart.

    Parameters: `rho` in (-1, 1), the correlation one unit of time apart. Times are whole numbers;
    those without data are longer steps. `ar1(0 + f | g)`, f a factor, is a structure of columns.
    """

    name = "ar1"

    def __init__(self, places: Places) -> None:
        whole_times(places)
        super().__init__(places)

    @override
    def parameters(self, size: int) -> tuple[CovarianceParameter, ...]:
        return (CovarianceParameter("rho", "rho", 1, False, (-1.0, 1.0)),)

    @override
    def default_prior(self, key: str) -> Prior | None:
        return Prior("Uniform", lower=-1.0, upper=1.0)

    @override
    def start(self) -> dict[str, np.ndarray]:
        return {"rho": np.full(1, 0.3)}

    @override
    def correlation(self, theta: Mapping[str, Any], xp: Any) -> tuple[Any, Any]:
        c = whole_powers(theta["rho"][0], self.apart.astype(np.int64), xp)
        return c, 1.0 - c * c


class OrnsteinUhlenbeck(Stationary):
    """
    `ou(time | g)`: v of variance one and correlation exp(-d / range) between times d apart.

    Parameters: `range` > 0, in the unit of time.
    """

    name = "ou"

    @override
    def parameters(self, size: int) -> tuple[CovarianceParameter, ...]:
        return (CovarianceParameter("range", "range", 1, False, (0.0, np.inf)),)

    @override
    def default_prior(self, key: str) -> Prior | None:
        # Ranges from a third of a usual step on are likely, and long ones are not ruled out.
        return Prior("InverseGamma", alpha=2.0, beta=float(f"{3.0 * self._step:.3g}"))

    @override
    def start(self) -> dict[str, np.ndarray]:
        return {"range": np.full(1, 2.0 * self._step)}

    @property
    def _step(self) -> float:
        return float(np.median(self.apart)) if len(self.apart) else 1.0

    @override
    def correlation(self, theta: Mapping[str, Any], xp: Any) -> tuple[Any, Any]:
        steps = self.apart / theta["range"][0]
        return xp.exp(-steps), -xp.expm1(-2.0 * steps)


class RandomWalk(Chain, WithoutParameters):
    """
    `rw1(time | g)`: v is zero at the first time, and changes by N(0, d) over a step d.

    No parameters: sd is that of the change over one unit of time. The Intercept is the level at
    the first time, which is no node; of several processes each starts at zero.
    """

    name = "rw1"

    def __init__(self, places: Places, origins: Mapping[int, float] | None = None) -> None:
        time, process = places.at[:, 0], places.process
        if origins is None:
            origins = {int(g): float(time[process == g].min()) for g in np.unique(process)}
        self.origins = origins
        self._begun = np.array([origins.get(int(g), np.inf) for g in process])
        before = np.flatnonzero(time < self._begun)
        if len(before):
            raise DataError(
                f"{places.names[before[0]]!r} is before the first time of {places.text!r}, where "
                f"its walk starts."
            )
        after = time > self._begun
        self._begun = self._begun[after]
        super().__init__(places.take(after))

    @override
    def steps(self, theta: Mapping[str, Any], xp: Any) -> tuple[Any, Any]:
        s = self.places.at[:, 0] - self._begun
        s[self.child] = self.apart
        return np.ones(len(self.child)), s

    @override
    def extended(self, places: Places) -> LevelCovariance:
        return RandomWalk(self.places.joined(places), self.origins)

    @override
    def located(self, places: Places) -> tuple[np.ndarray, np.ndarray]:
        index = np.array([self._known.get(name, -1) for name in places.names], dtype=np.intp)
        return np.maximum(index, 0).reshape(-1, 1), (index >= 0).astype(float).reshape(-1, 1)


def whole_times(places: Places) -> np.ndarray:
    """Give the times `(q,)`, if they are whole numbers."""
    time = places.at[:, 0]
    broken = time[time != np.round(time)]
    if len(broken):
        raise DataError(
            f"The times of {places.text!r} should be whole numbers, but there is {broken[0]:g}: "
            f"for a process in continuous time use ou, or count the steps."
        )
    return time


def whole_powers(x: Any, exponents: np.ndarray, xp: Any) -> Any:
    """
    Give x to whole, not negative powers, by squaring: exact slopes, also below zero.

    Examples
    --------
    >>> whole_powers(np.float64(-2.0), np.array([0, 1, 5]), NUMPY)
    array([  1.,  -2., -32.])
    """
    left, found = exponents.copy(), np.ones(exponents.shape)
    while left.any():
        found = xp.where(left % 2 == 1, found * x, found)
        x, left = x * x, left // 2
    return found
