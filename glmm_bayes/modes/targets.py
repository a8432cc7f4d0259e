"""What can be held while the rest is maximised: each outer parameter as a function of x."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from glmm_bayes.covariance import LevelCovariance
from glmm_bayes.design import INTERCEPT
from glmm_bayes.draws import derived_values
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.terms import RandomTerm

INFINITE = (-np.inf, np.inf)
STEP = 1e-6


@dataclass(frozen=True)
class Bend:
    """
    A monotone scale s of a parameter, on which its profile is smooth up to the support's ends.

    Attributes
    ----------
    to, back
        There and back.
    slope
        ds / d parameter, as a function of the parameter.
    ends
        Of s.
    far
        How far from an estimate, on this scale, the support is as good as at its end; None where
        that is a matter of standard errors.
    stride
        The longest step along it: beyond, another maximum of the other parameters may be met.
    """

    to: Callable[[Any], Any]
    back: Callable[[Any], Any]
    slope: Callable[[Any], Any]
    ends: tuple[float, float] = INFINITE
    far: float | None = None
    stride: float = np.inf


STRAIGHT = Bend(lambda c: c, lambda s: s, np.ones_like)
LOGARITHM = Bend(np.log, np.exp, lambda c: 1 / c, far=12.0, stride=1.5)


def arc(lower: float, upper: float) -> Bend:
    """
    Give the scale of a parameter between two ends: an angle from 0 to pi.

    A correlation is the cosine of an angle between two rows of Lambda, which may be 0.
    """
    width = upper - lower

    def to(c: Any) -> Any:
        return np.arccos(np.clip(1 - 2 * (c - lower) / width, -1.0, 1.0))

    return Bend(
        to,
        lambda s: lower + width * (1 - np.cos(s)) / 2,
        lambda c: 1 / np.sqrt(np.maximum((c - lower) * (upper - c), 1e-300)),
        (0.0, np.pi),
        stride=0.7,
    )


def bend_of(support: tuple[float, float]) -> Bend:
    """Choose a scale by a support."""
    if np.isfinite(support).all():
        return arc(*support)
    return LOGARITHM if support[0] == 0.0 else STRAIGHT


@dataclass(frozen=True, eq=False)
class Target(ABC):
    """
    One parameter as a function of x.

    Attributes
    ----------
    bend
        The scale it is walked along.
    support
        Of the parameter.
    """

    bend: Bend
    support: tuple[float, float]

    @abstractmethod
    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Give s, the parameter on the scale of `bend`, and its gradient `(m,)`."""

    def natural(self, x: np.ndarray) -> float:
        """Give the parameter on its own scale."""
        return float(self.bend.back(self(x)[0]))

    def naturals(self, x: np.ndarray, Lambdas: Sequence[np.ndarray]) -> np.ndarray:
        """Give the parameter `(S,)` at `(S, m)`, where the terms' factors are `(S, p, p)`."""
        return np.array([self.natural(row) for row in x])

    def is_held(self, x: np.ndarray) -> bool:
        """Tell whether it cannot move, as `priors` hold it fixed."""
        return False

    @property
    def row(self) -> np.ndarray | None:
        """The combination of the mean's coefficients that it is, if it is one."""
        return None

    def at_zero(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Give an x where it is zero, if it can be, and which coordinates `(m,)` keep it there."""
        return None

    def exits(self, x: np.ndarray) -> Iterator[np.ndarray]:
        """Give points beside x, which stands at an edge, where it is not zero."""
        yield from ()

    def releases(self, x: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Give edges, as `at_zero` does, where the likelihood says nothing of the parameter."""
        yield from ()


@dataclass(frozen=True, eq=False)
class Linear(Target):
    """A combination of coefficients, or a constant on its link's scale."""

    weights: np.ndarray  # (m,)
    rest: float  # what coefficients that are held add
    mean: slice | None = None

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Give s and its gradient."""
        return float(self.weights @ x) + self.rest, self.weights

    def naturals(self, x: np.ndarray, Lambdas: Sequence[np.ndarray]) -> np.ndarray:
        """Give the parameter `(S,)`."""
        return np.asarray(self.bend.back(x @ self.weights + self.rest))

    def is_held(self, x: np.ndarray) -> bool:
        """Tell whether no coefficient of it is free."""
        return not self.weights.any()

    @property
    def row(self) -> np.ndarray | None:
        """The combination of the mean's coefficients."""
        return None if self.mean is None else self.weights[self.mean]


@dataclass(frozen=True, eq=False)
class Component(Target):
    """A parameter of a random term's structure."""

    coordinates: Coordinates
    number: int  # of the term
    key: str
    place: tuple[int, ...]

    @property
    def _at(self) -> slice:
        return self.coordinates.factors[self.number]

    @property
    def _term(self) -> RandomTerm:
        return self.coordinates.model.design.terms[self.number]

    def is_held(self, x: np.ndarray) -> bool:
        """Tell whether nothing moves it where some parameters of the term are held."""
        return self.coordinates.strict[self.number] and not self(x)[1].any()

    def at_zero(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Give an x where a standard deviation is zero, and the coordinates that are to stay."""
        if self.key != "sd" or self.coordinates.strict[self.number]:
            return None
        term, moved = self._term, x.copy()
        structure, at = term.structure, self._at
        sizes = np.zeros(term.size)
        sizes[self.place[0] if self.place else slice(None)] = 1.01 * self.natural(x)
        moved[at] = structure.at_edge(x[at], term.size, structure.units(term.size, sizes))
        # Of fewer factors than columns, no single column can be at zero.
        if self.natural(moved) != 0:
            return None
        steps = np.diag(self.coordinates.natural)
        at_rest = self.coordinates.idle(moved)
        keep = np.array([self.natural(moved + step) > 0 for step in steps])
        return moved, keep | at_rest

    def exits(self, x: np.ndarray) -> Iterator[np.ndarray]:
        """Give points off the edges, by small steps of each coordinate."""
        if self.coordinates.strict[self.number]:
            return
        term, at = self._term, self._at
        for part in term.structure.exits(x[at], term.size, [1e-3 * self.coordinates.natural[at]]):
            moved = x.copy()
            moved[at] = part
            yield moved


@dataclass(frozen=True, eq=False)
class Sd(Component):
    """The logarithm of a standard deviation that is the length of a row of Lambda."""

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Give s and its gradient."""
        Lambda = self.coordinates.Lambdas(x)[self.number]
        by_Lambda, k = np.zeros_like(Lambda), self.place[0] if self.place else 0
        square = float(Lambda[k] @ Lambda[k])
        if square > 0:
            by_Lambda[k] = Lambda[k] / square
        with np.errstate(divide="ignore"):
            return 0.5 * float(np.log(square)), _pulled(self, x, by_Lambda)

    def naturals(self, x: np.ndarray, Lambdas: Sequence[np.ndarray]) -> np.ndarray:
        """Give the standard deviation `(S,)`."""
        row = Lambdas[self.number][:, self.place[0] if self.place else 0]
        return np.sqrt(np.square(row).sum(axis=1))


@dataclass(frozen=True, eq=False)
class Corr(Component):
    """A correlation, as the angle between two rows of Lambda."""

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Give s and its gradient."""
        Lambda, (i, j) = self.coordinates.Lambdas(x)[self.number], self.place
        a, b = np.linalg.norm(Lambda[i]), np.linalg.norm(Lambda[j])
        by_Lambda = np.zeros_like(Lambda)
        if not (a > 0 and b > 0):
            return np.nan, np.zeros_like(x)
        one, two = Lambda[i] / a, Lambda[j] / b
        # Not by arccos, which near 1 has lost half the digits.
        apart, sum_ = np.linalg.norm(one - two), np.linalg.norm(one + two)
        sine, cosine = apart * sum_ / 2, float(one @ two)
        if sine > 0:
            by_Lambda[i] = (two - cosine * one) / (a * sine)
            by_Lambda[j] = (one - cosine * two) / (b * sine)
        return 2 * float(np.arctan2(sum_, apart)), _pulled(self, x, by_Lambda)

    def releases(self, x: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Give x where one of the two columns does not vary."""
        for k in self.place:
            column = Sd(LOGARITHM, (0.0, np.inf), self.coordinates, self.number, "sd", (k,))
            moved = column.at_zero(x)
            if moved is not None:
                yield moved

    def naturals(self, x: np.ndarray, Lambdas: Sequence[np.ndarray]) -> np.ndarray:
        """Give the correlation `(S,)`; NaN of what does not vary."""
        one, two = (Lambdas[self.number][:, k] for k in self.place)
        sizes = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
        with np.errstate(all="ignore"):
            return np.where(sizes > 0, np.einsum("si,si->s", one, two) / sizes, np.nan)


def _pulled(target: Component, x: np.ndarray, by_Lambda: np.ndarray) -> np.ndarray:
    c = target.coordinates
    slopes = [np.zeros((term.size, term.size)) for term in c.model.design.terms]
    slopes[target.number] = by_Lambda
    return c.pull(x, [np.zeros(len(h)) for h in c.held], slopes)


@dataclass(frozen=True, eq=False)
class Reported(Component):
    """Any other parameter of a structure, with its gradient by differences."""

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Give s and its gradient."""
        at, slope = self._at, np.zeros_like(x)
        units = STEP * np.maximum(np.abs(x[at]), self.coordinates.natural[at])
        steps = np.diag(np.concatenate([np.zeros(at.start), units, np.zeros(len(x) - at.stop)]))
        with np.errstate(all="ignore"):
            value = self._value(x)
            for k in range(at.start, at.stop):
                up, down = self._value(x + steps[k]), self._value(x - steps[k])
                slope[k] = (up - down) / (2 * steps[k, k])
            return float(self.bend.to(value)), slope * self.bend.slope(value)

    def _value(self, x: np.ndarray) -> float:
        return component_value(self.coordinates, self.number, self.key, self.place, x)


@dataclass(frozen=True, eq=False)
class BetweenLevels(Reported):
    """A parameter of what is between the levels of a term."""

    @property
    def _at(self) -> slice:
        return self.coordinates.between[self.number]

    def is_held(self, x: np.ndarray) -> bool:
        """Tell whether `priors` hold it fixed."""
        return not self(x)[1].any()


@dataclass(frozen=True, eq=False)
class OfResiduals(Reported):
    """A parameter of the residuals' structure; its number is the one after those of the terms."""

    @property
    def _at(self) -> slice:
        return self.coordinates.residual

    def _value(self, x: np.ndarray) -> float:
        values = self.coordinates.residual_values(x)[self.key]
        return float(np.reshape(np.asarray(values)[self.place], -1)[0])

    def is_held(self, x: np.ndarray) -> bool:
        """Tell whether `priors` hold it fixed."""
        return not self(x)[1].any()

    def exits(self, x: np.ndarray) -> Iterator[np.ndarray]:
        """Give none: it has no edge within."""
        yield from ()

    def at_zero(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Give none: no residual is without variance."""
        return None


def component_value(
    c: Coordinates, number: int, key: str, place: tuple[int, ...], x: np.ndarray
) -> float:
    """Give a parameter of a term's structure, by its key and place, as tables show it."""
    term = c.model.design.terms[number]
    theta = c.term_theta(number, x)
    draws = {f"{name}_{term.name}": value[None] for name, value in theta.items()}
    parameters = [p for structure, size in term.structures for p in structure.parameters(size)]
    own = {p.key: draws[f"{p.name}_{term.name}"] for p in parameters if p.name == p.key}
    values = (own | derived_values(term, draws))[key][0]
    return float(np.reshape(values[place], -1)[0])


def targets_of(c: Coordinates, x: np.ndarray) -> list[Target | None]:
    """
    List the outer parameters in the order of tables; None for what is held fixed.

    Parameters
    ----------
    x
        `(m,)` a place at which nothing is at an edge but what stays there.
    """
    return [None if target.is_held(x) else target for target in all_targets(c)]


def all_targets(c: Coordinates) -> list[Target]:
    """List all outer parameters in the order of tables."""
    return [*_coefficients(c), *_components(c), *_constants(c)]


def _coefficients(c: Coordinates) -> Iterator[Target]:
    numbers = {p.name: a for a, p in enumerate(c.model.family.parameters)}
    for param, predictor in c.model.design.predictors.items():
        at, held = c.coefficients[numbers[param]], c.held[numbers[param]]
        means, free = c.model.means(param), np.isnan(held)
        for k, name in enumerate(predictor.names):
            row = np.eye(len(held))[k]
            if name == INTERCEPT:
                row = row - means
            weights = np.zeros(c.size)
            weights[at] = row[free]
            mean = at if param == "mu" and free.all() else None
            yield Linear(STRAIGHT, INFINITE, weights, float(row[~free] @ held[~free]), mean)


def _components(c: Coordinates) -> Iterator[Target]:
    for number, term in enumerate(c.model.design.terms):
        supports = {p.key: p.support for p in term.structure.parameters(term.size)}
        supports |= {"sd": (0.0, np.inf), "corr": (-1.0, 1.0)}
        kinds: dict[str, type[Component]] = {"sd": Sd, "corr": Corr}
        for key, place in term.structure.listed(term.size):
            support = supports.get(key, INFINITE)
            kind = kinds.get(key, Reported)
            yield kind(bend_of(support), support, c, number, key, place)
        between, size = term.structures[1]
        ends = {p.key: p.support for p in between.parameters(size)}
        for key, place in between.listed(size):
            support = ends.get(key, INFINITE)
            yield BetweenLevels(bend_of(support), support, c, number, key, place)
    residual = c.model.design.residual
    if residual is not None:
        yield from _of_residuals(c, *residual.structures[1])


def _of_residuals(c: Coordinates, structure: LevelCovariance, size: int) -> Iterator[Target]:
    supports = {p.key: p.support for p in structure.parameters(size)} | {"corr": (-1.0, 1.0)}
    for key, place in structure.listed(size):
        support, last = supports.get(key, INFINITE), len(c.model.design.terms)
        yield OfResiduals(bend_of(support), support, c, last, key, place)


def _constants(c: Coordinates) -> Iterator[Target]:
    for number, (parameter, at) in enumerate(
        zip(c.model.family.parameters, c.coefficients, strict=True)
    ):
        if parameter.name in c.model.constants:
            link = c.model.links[parameter.name]
            weights = np.zeros(c.size)
            weights[at] = 1.0
            rest = float(np.nan_to_num(c.held[number][0]))
            log = link.name == "log"
            bend = LOGARITHM if log else Bend(link.linkfun, link.linkinv, link.slope, far=None)
            yield Linear(bend, parameter.support, weights, rest)
