"""What a structure of levels is: a precision between them, of unit scale."""

import inspect
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, override

import numpy as np

from glmm_bayes.arrays import NUMPY
from glmm_bayes.covariance.structure import CovarianceParameter, Structure
from glmm_bayes.errors import DataError, FormulaError
from glmm_bayes.registry import Registry

if TYPE_CHECKING:
    from glmm_bayes.covariance.masses import MassPoints
    from glmm_bayes.covariance.shaped import NotNormal, Shaped

STEP = 1e-30  # of the complex step

LEVEL_COVARIANCES: Registry["type[LevelCovariance]"] = Registry("structure of levels")


@dataclass(frozen=True, eq=False)
class Places:
    """
    Where the levels of a term are.

    Attributes
    ----------
    names
        `(q,)` what the levels are called.
    process
        `(q,)` the number of the process each belongs to; of `| 1` there is one.
    at
        `(q, d)` positions, in the unit of the data; d is 0 where a name says it all.
    text
        The term, in the user's words.
    factors, labels
        The group's F factors, and which level `(q, F)` of each a level is.
    """

    names: tuple[str, ...]
    process: np.ndarray
    at: np.ndarray
    text: str
    factors: tuple[str, ...]
    labels: np.ndarray

    @property
    def processes(self) -> list[np.ndarray]:
        """The levels of each process, by position."""
        return [np.flatnonzero(self.process == g) for g in np.unique(self.process)]

    def take(self, rows: np.ndarray) -> "Places":
        """Keep some, by a mask or by position."""
        names = tuple(np.array(self.names, dtype=object)[rows])
        return replace(
            self,
            names=names,
            process=self.process[rows],
            at=self.at[rows],
            labels=self.labels[rows],
        )

    def joined(self, others: "Places") -> "Places":
        """Put those of `others` that are not here after these."""
        known = set(self.names)
        new = [k for k, name in enumerate(others.names) if name not in known]
        return Places(
            self.names + tuple(others.names[k] for k in new),
            np.concatenate([self.process, others.process[new]]),
            np.concatenate([self.at, others.at[new]]),
            self.text,
            self.factors,
            np.concatenate([self.labels, others.labels[new]]),
        )


@dataclass(frozen=True, eq=False)
class Entries:
    """
    A precision Q at given parameters.

    `values` `(pairs,)` are its entries at the structure's pairs of nodes, on arrays or on
    PyTensor's graphs, and `log_determinant` is log |Q|.
    """

    values: Any
    log_determinant: Any


class LevelCovariance(Structure):
    """
    How the levels of one random term vary together: the columns of v have the precision Q.

    A structure of levels knows its levels: it is made for one data set. Its *nodes* are the
    levels of the data, and others that they hang together by: ancestors of species, times
    without data. Marginal variances are one, or as near to it as the structure defines;
    Lambda has the standard deviations.

    Attributes
    ----------
    places
        The levels it was made for.
    """

    positioned: ClassVar[bool] = False  # whether positions stand before the bar, not columns
    nested: ClassVar[bool] = False  # whether its arguments are structures themselves
    takes: ClassVar[tuple[str, ...]] = ()  # arguments of a term that are not for its columns

    def __init_subclass__(cls) -> None:
        """Enter the structure into the registry under its name."""
        if hasattr(cls, "name"):
            LEVEL_COVARIANCES.add(cls.name, cls)

    def __init__(self, places: Places) -> None:
        self.places = places

    @classmethod
    def of(cls, places: Places, given: Mapping[str, Any]) -> "LevelCovariance":
        """Make the structure for levels, with the arguments `given` that it has in a formula."""
        by_place = [value for name, value in given.items() if name.isdigit()]
        named = {name: value for name, value in given.items() if not name.isdigit()}
        try:
            inspect.signature(cls).bind(places, *by_place, **named)
        except TypeError as error:
            wanted = list(inspect.signature(cls).parameters.values())[1:]
            takes = ", ".join(
                p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in wanted
            )
            raise FormulaError(
                f"The arguments of {places.text!r} do not fit: {error}. {cls.name!r} takes "
                f"{takes or 'none'}."
            ) from error
        return cls(places, *by_place, **named)

    @property
    def nodes(self) -> tuple[str, ...]:
        """What the nodes are called, those of the data first."""
        return self.places.names

    @property
    def shown(self) -> int:
        """How many nodes, the first ones, tables have rows for."""
        return len(self.places.names)

    @property
    def spread(self) -> float:
        """How far levels vary in standard units, roughly: default priors of sd allow for it."""
        return 1.0

    finest: float = 0.0  # the shortest range that the structure resolves

    @property
    def positions(self) -> np.ndarray:
        """Where the places `(q, d)` are, with Euclidean distances."""
        return self.places.at

    @cached_property
    def lengths(self) -> tuple[float, float] | None:
        """How far places of a process lie apart at most, and from the nearest one usually."""
        from scipy.spatial import cKDTree

        extent, nearest = 0.0, [np.empty(0)]
        for rows in self.places.processes if self.places.at.size else ():
            at = self.positions[rows]
            if len(at) > 1:
                extent = max(extent, float(np.linalg.norm(np.ptp(at, axis=0))))
                nearest.append(cKDTree(at).query(at, k=2)[0][:, 1])
        return (extent, float(np.median(np.concatenate(nearest)))) if extent else None

    @property
    def distribution(self) -> "NotNormal | None":
        """The distribution of v where it is not normal."""
        return None

    @property
    def shape(self) -> "Shaped | None":
        """That distribution where it has a smooth density."""
        return None

    @property
    def masses(self) -> "MassPoints | None":
        """That distribution where it is of a few values."""
        return None

    @property
    @abstractmethod
    def pairs(self) -> np.ndarray | None:
        """
        The nodes between which Q has entries, `(k, 2)`, the larger first, all with themselves.

        None where levels are independent.
        """

    @property
    def held(self) -> tuple[np.ndarray, np.ndarray] | None:
        """
        What Q has beside its entries: few directions that are held near zero.

        Returns
        -------
        rows, pins
            `(c, nodes)`: rows' rows is added to the entries. `(c,)`: nodes, with something added
            to whose own entries these alone are positive definite.
        """
        return None

    @abstractmethod
    def entries(self, theta: Mapping[str, Any], xp: Any = NUMPY) -> Entries:
        """Give Q, on arrays or, with `xp=graph()`, on PyTensor's graphs."""

    def slopes(
        self, theta: Mapping[str, np.ndarray], by_values: np.ndarray, by_log_determinant: float
    ) -> dict[str, np.ndarray]:
        """
        Carry slopes by Q's entries `(pairs,)` and by its log determinant back to the parameters.

        By the complex step, as `Covariance.pullback`.
        """
        found = {}
        for name, value in theta.items():
            out = np.empty(len(value))
            for k in range(len(value)):
                moved = value.astype(complex)
                moved[k] += 1j * STEP
                Q = self.entries({**theta, name: moved})
                total = by_values @ Q.values.imag + by_log_determinant * Q.log_determinant.imag
                out[k] = total / STEP
            found[name] = out
        return found

    @property
    def easing(self) -> Any:
        """Coordinates of the nodes that depend less on the parameters, as in `easing`, or None."""
        return None

    def extended(self, places: Places) -> "LevelCovariance":
        """
        Give the same structure with the levels of new data too, any new nodes last.

        Raises
        ------
        DataError
            If a level cannot be placed.
        """
        new = next((name for name in places.names if name not in self._known), None)
        if new is not None:
            raise DataError(
                f"{new!r} is not among the levels that {self.places.text!r} knows: "
                f"{listed(self.nodes)}."
            )
        return self

    def located(self, places: Places) -> tuple[np.ndarray, np.ndarray]:
        """
        Tell which nodes levels are made of.

        Returns
        -------
        index, weights
            `(q, m)` the nodes, and times what each enters.
        """
        index = np.array([self._known[name] for name in places.names], dtype=np.intp)
        return index.reshape(-1, 1), np.ones((len(index), 1))

    @cached_property
    def _known(self) -> dict[str, int]:
        return {name: k for k, name in enumerate(self.nodes)}

    @abstractmethod
    def start(self) -> dict[str, np.ndarray]:
        """Give parameters to start a search from."""


def listed(names: Sequence[str], most: int = 6) -> str:
    """Put the first names into a sentence."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def block_pairs(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """List all pairs within blocks of nodes, the larger first, in the order of lower triangles."""
    found = []
    for nodes in blocks:
        i, j = np.tril_indices(len(nodes))
        found.append(np.column_stack([nodes[i], nodes[j]]))
    return np.concatenate(found)


class WithoutParameters(LevelCovariance):
    """A structure that is known but for its scale, which is in Lambda."""

    @override
    def parameters(self, size: int) -> tuple[CovarianceParameter, ...]:
        return ()

    @override
    def start(self) -> dict[str, np.ndarray]:
        return {}


class Independent(WithoutParameters):
    """Independent levels, the ordinary grouping: Q = I, no parameters."""

    name = "iid"
    pairs = None

    @override
    def entries(self, theta: Mapping[str, Any], xp: Any = NUMPY) -> Entries:
        return Entries(np.ones(len(self.nodes)), 0.0)

    @override
    def extended(self, places: Places) -> LevelCovariance:
        return Independent(self.places.joined(places))
