"""Levels that are combinations, of times and areas, say: each factor has its own structure."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import product
from typing import Any, override

import numpy as np

from glmm_bayes.arrays import NUMPY
from glmm_bayes.covariance.levels import Entries, Independent, LevelCovariance, Places
from glmm_bayes.covariance.structure import CovarianceParameter
from glmm_bayes.errors import DataError, FormulaError
from glmm_bayes.priors import Prior

type Made = tuple[type[LevelCovariance], Mapping[str, Any]]


class Kronecker(LevelCovariance):
    """
    `kron(x | time:area, time=ar1, area=car(W))`: Q is the Kronecker product of the factors'.

    The covariance of two combinations is the product of their factors'; a factor without a
    structure has independent levels. Parameters are those of the factors' structures, named with
    the factor: `rho_time`. All combinations of the factors' levels are nodes.

    Notes
    -----
    Knorr-Held's interactions of type IV are so: (2000), Statistics in Medicine 19, 2555-2567.
    """

    name = "kron"
    nested = True

    def __init__(self, places: Places, **structures: Made) -> None:
        super().__init__(places)
        unknown = [name for name in structures if name not in places.factors]
        if unknown or not structures:
            raise FormulaError(
                f"{places.text!r} gives a structure to {unknown[0] if unknown else 'nothing'!r}: "
                f"name the factors of its group, {' and '.join(places.factors)}, as in "
                f"{places.factors[0]}=ar1."
            )
        self.parts = tuple(
            kind.of(_factor_places(places, f, kind), given)
            for f, (kind, given) in enumerate(
                structures.get(name, (Independent, {})) for name in places.factors
            )
        )
        self._place = np.arange(int(np.prod(self._sizes)))

    @property
    def _sizes(self) -> list[int]:
        return [len(part.nodes) for part in self.parts]

    @cached_property
    @override
    def nodes(self) -> tuple[str, ...]:
        found = np.empty(len(self._place), dtype=object)
        found[self._place] = [":".join(names) for names in product(*(p.nodes for p in self.parts))]
        return tuple(found)

    @property
    @override
    def shown(self) -> int:
        return len(self._place)

    @cached_property
    def _folds(self) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
        """The pairs of product numbers, and, part after part, whose entries are multiplied."""
        pairs, folds = np.zeros((1, 2), dtype=np.intp), []
        for part, size in zip(self.parts, self._sizes, strict=True):
            own = _pairs(part)
            off = np.flatnonzero(own[:, 0] != own[:, 1])
            # Beside a couple of the parts before, both orders of a couple are pairs of their own.
            both = np.concatenate([own, own[off][:, ::-1]])
            source = np.concatenate([np.arange(len(own)), off])
            alone = pairs[:, 0] == pairs[:, 1]
            left, right = [], []
            for at, mine in ((alone, len(own)), (~alone, len(both))):
                k = np.flatnonzero(at)
                left.append(np.repeat(k, mine))
                right.append(np.tile(np.arange(mine), len(k)))
            k1, k2 = np.concatenate(left), np.concatenate(right)
            pairs = pairs[k1] * size + both[k2]
            folds.append((k1, source[k2]))
        return pairs, folds

    @cached_property
    @override
    def pairs(self) -> np.ndarray:
        moved = self._place[self._folds[0]]
        return np.column_stack([moved.max(axis=1), moved.min(axis=1)])

    @override
    def entries(self, theta: Mapping[str, Any], xp: Any = NUMPY) -> Entries:
        values, log_determinant, total = np.ones(1), 0.0, len(self._place)
        for (k1, k2), name, part in zip(
            self._folds[1], self.places.factors, self.parts, strict=True
        ):
            own = {p.name: theta[f"{p.name}_{name}"] for p in _parameters(part)}
            Q = part.entries(own, xp)
            values = values[k1] * Q.values[k2]
            log_determinant = log_determinant + total // len(part.nodes) * Q.log_determinant
        return Entries(values, log_determinant)

    @override
    def parameters(self, size: int) -> tuple[CovarianceParameter, ...]:
        return tuple(
            CovarianceParameter(
                f"{p.name}_{name}", f"{p.key}_{name}", p.size, p.by_column, p.support, p.dim
            )
            for name, part in zip(self.places.factors, self.parts, strict=True)
            for p in _parameters(part)
        )

    @override
    def coordinates(self, size: int) -> dict[str, tuple[str, ...]]:
        return {k: v for p in self.parts for k, v in p.coordinates(len(p.nodes)).items()}

    @override
    def default_prior(self, key: str) -> Prior | None:
        for name, part in zip(self.places.factors, self.parts, strict=True):
            for p in _parameters(part):
                if key == f"{p.key}_{name}":
                    return part.default_prior(p.key)
        return None

    @override
    def start(self) -> dict[str, np.ndarray]:
        return {
            f"{key}_{name}": value
            for name, part in zip(self.places.factors, self.parts, strict=True)
            for key, value in part.start().items()
        }

    @override
    def extended(self, places: Places) -> LevelCovariance:
        parts = [
            part.extended(_factor_places(places, f, type(part)))
            for f, part in enumerate(self.parts)
        ]
        sizes = [len(part.nodes) for part in parts]
        if sizes == self._sizes:
            return self
        more = object.__new__(Kronecker)
        more.places, more.parts = self.places, tuple(parts)
        # The combinations known before keep their numbers.
        numbers = np.full(sizes, -1)
        old = np.empty(self._sizes, dtype=np.intp)
        old.flat = self._place
        numbers[tuple(slice(size) for size in self._sizes)] = old
        new = numbers.ravel() < 0
        numbers = numbers.ravel()
        numbers[new] = np.arange(len(self._place), len(numbers))
        more._place = numbers
        return more

    @override
    def located(self, places: Places) -> tuple[np.ndarray, np.ndarray]:
        index, weights = np.zeros((len(places.names), 1), dtype=np.intp), 1.0
        for f, (part, size) in enumerate(zip(self.parts, self._sizes, strict=True)):
            own = _factor_places(places, f, type(part))
            at, share = part.located(own)
            of = {name: k for k, name in enumerate(own.names)}
            mine = np.array([of[name] for name in places.labels[:, f]], dtype=np.intp)
            index = (index[:, :, None] * size + at[mine][:, None]).reshape(len(mine), -1)
            weights = (np.reshape(weights, (-1, index.shape[1] // at.shape[1], 1))
                       * share[mine][:, None]).reshape(len(mine), -1)  # fmt: skip
        return self._place[index], np.broadcast_to(weights, index.shape)


def _parameters(part: LevelCovariance) -> Sequence[CovarianceParameter]:
    return part.parameters(len(part.nodes))


def _pairs(part: LevelCovariance) -> np.ndarray:
    if part.pairs is not None:
        return part.pairs
    each = np.arange(len(part.nodes))
    return np.column_stack([each, each])


def _factor_places(places: Places, f: int, kind: type[LevelCovariance]) -> Places:
    """Give the levels of one factor, as numbers where its structure needs positions."""
    names = tuple(dict.fromkeys(places.labels[:, f]))
    at = np.empty((len(names), 0))
    if kind.positioned:
        try:
            at = np.array(names, dtype=float)[:, None]
        except ValueError:
            raise DataError(
                f"The levels of {places.factors[f]!r} in {places.text!r} should be numbers for "
                f"{kind.name!r}, not such as {names[0]!r}."
            ) from None
    none = np.zeros(len(names), dtype=np.intp)
    labels = np.array(names, dtype=object)[:, None]
    return Places(names, none, at, places.text, places.factors[f : f + 1], labels)
