"""The log density of a family and its derivatives by the predictors, up to third order."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import Any

import numpy as np

from glmm_bayes.errors import NotSupportedError
from glmm_bayes.families.family import Array, Family
from glmm_bayes.families.links import POSITIVE, Link
from glmm_bayes.taylor import NoRuleError, Taylor

ROWS = 2048  # at a time: a term, 16 kB, stays in the processor's cache


@dataclass(frozen=True, eq=False)
class Expansion:
    """
    A pointwise log density, with every constant, and its derivatives by P predictors.

    Attributes
    ----------
    value
        `(n,)`, natural log, times the weights.
    first, second, third
        `(P, n)`, `(P, P, n)` and `(P, P, P, n)`, symmetric; None beyond the order asked for.
    """

    value: Array
    first: Array
    second: Array | None = None
    third: Array | None = None


@dataclass(frozen=True, eq=False)
class RowDensity:
    """
    The log density of a response's rows, to be expanded in the predictors.

    The density is the family's own formula, evaluated on numbers that carry derivatives; where
    it states none, or one with functions of unknown derivative, its PyMC distribution's graph.

    Attributes
    ----------
    names
        All parameters of the family, in the order of the predictors.
    y, trials, weights
        `(n,)`; `trials` and `weights` may be None.
    """

    family: Family
    links: Mapping[str, Link]
    names: Sequence[str]
    y: Array
    trials: Array | None
    weights: Array | None

    def __call__(self, eta: Array, order: int, among: Sequence[int] | None = None, /) -> Expansion:
        """
        Expand at `(P, n)` predictors on their links' scale, up to derivatives of `order`.

        With `among`, only by the predictors of these numbers: other derivatives are left zero.

        Raises
        ------
        NotSupportedError
            If the density has a kink, where there is no second derivative.
        """
        if self.family.kinked and order > 1:
            raise NotSupportedError(
                f"The density of family {self.family.name!r} has a kink at mu, so that Laplace's "
                f"method, which needs its curvature, does not apply: fit by method='nuts'."
            )
        # Far out a term may overflow: its derivatives are then infinite, or not a number.
        with np.errstate(all="ignore"):
            return self._written(eta) if self._curves else self._expanded(eta, order, among)

    def value(self, eta: Array) -> Array:
        """Give the log density `(n,)` at `(P, n)` predictors, without its constant."""
        with np.errstate(all="ignore"):
            if self._natural is not None:
                return _weighted(self.weights, self._natural.core(self.y, self.trials, eta[0]))
            core, _ = self.family.kernel
            return _weighted(self.weights, core(self.y, self.trials, self._parameters(eta)))

    def slope(self, eta: Array) -> Array:
        """Give its derivative by the predictors, `(P, n)`."""
        with np.errstate(all="ignore"):
            if self._natural is not None:
                score = self._natural.score(self.y, self.trials, eta[0])
                return _weighted(self.weights, score)[None]
            _, score = self.family.kernel
            found = score(self.y, self.trials, self._parameters(eta))
            by_eta = np.stack(
                [
                    _weighted(self.weights, found[name] * self.links[name].slope(row))
                    for name, row in zip(self.names, eta, strict=True)
                ]
            )
        # By a parameter near 0 a slope may overflow that by its logarithm is a number.
        whole = np.isfinite(by_eta).all() or self.family.core is None
        return by_eta if whole else self(eta, 1).first

    def repeated(self, times: int) -> "RowDensity":
        """Put the rows one after the other, so many times."""
        # Beside a response may stand how it was seen, which is no array.
        at = np.tile(np.arange(len(self.y)), times)
        y, trials, weights = (
            None if part is None else part[at] for part in (self.y, self.trials, self.weights)
        )
        assert y is not None
        return RowDensity(self.family, self.links, self.names, y, trials, weights)

    def _parameters(self, eta: Array) -> dict[str, Array]:
        return {n: self.links[n].linkinv(row) for n, row in zip(self.names, eta, strict=True)}

    @cached_property
    def _natural(self) -> Any:
        return self.family.natural.get(self.links[self.names[0]].name)

    @cached_property
    def _curves(self) -> Callable[..., tuple[Array, ...]] | None:
        return None if self._natural is None else self._natural.curves

    @cached_property
    def _constant(self) -> Array:
        constant = self.family.constant(self.y, self.trials)
        return np.broadcast_to(_weighted(self.weights, constant), self.y.shape[:1])

    @cached_property
    def _formula(self) -> "Density":
        return _density(self.family, self.links, self.names)

    @cached_property
    def _of_mean(self) -> "Density | None":
        """The log density as a function of the first predictor, where the family writes it out."""
        by_mean, links, names = self.family.by_mean, self.links, self.names
        if by_mean is None:
            return None
        positive = self.family.parameters[0].support == POSITIVE

        def density(y: Array, trials: Array | None, eta: list[Taylor]) -> Taylor:
            params = {name: links[name].linkinv(e) for name, e in zip(names, eta, strict=True)}
            values = {name: param.value for name, param in params.items()}
            unit = values[names[0]] if positive else None
            return params[names[0]].compose(by_mean(y, trials, values), unit)

        return density

    def _written(self, eta: Array) -> Expansion:
        """Take the derivatives as the family writes them out; one parameter only."""
        assert self._curves is not None
        parts = self._curves(self.y, self.trials, eta[0])
        value, *slopes = (_weighted(self.weights, part) for part in parts)
        shaped = [slope.reshape((1,) * k + (-1,)) for k, slope in enumerate(slopes, start=1)]
        return Expansion(value + self._constant, *shaped)

    def _expanded(self, eta: Array, order: int, among: Sequence[int] | None) -> Expansion:
        P, n = eta.shape
        moving = range(P) if among is None else among
        formula = self._formula if self._of_mean is None or tuple(moving) != (0,) else self._of_mean
        value = np.empty(n)
        tensors = [np.zeros((P,) * k + (n,)) for k in range(1, order + 1)]
        constant = [_is_constant(row) for row in eta]
        for start in range(0, n, ROWS):
            at = slice(start, start + ROWS)
            # Of a constant parameter one row is enough: arrays broadcast.
            parts = [row[:1] if same else row[at] for row, same in zip(eta, constant, strict=True)]
            variables = [
                Taylor.variable(part, k, order=order)
                if k in moving
                else Taylor.constant(part, order=order)
                for k, part in enumerate(parts)
            ]
            trials = None if self.trials is None else self.trials[at]
            log_p = formula(self.y[at], trials, variables)
            w = None if self.weights is None else self.weights[at]
            value[at] = _weighted(w, log_p.value)
            _store(log_p, w, [tensor[..., at] for tensor in tensors])
        return Expansion(value + self._constant, *tensors)


def expand(
    family: Family,
    links: Mapping[str, Link],
    names: Sequence[str],
    y: Array,
    trials: Array | None,
    weights: Array | None,
    eta: Array,
    order: int,
    among: Sequence[int] | None = None,
) -> Expansion:
    """Expand the log density once: see `RowDensity`, whose attributes and arguments these are."""
    eta = np.asarray(eta, dtype=float)
    return RowDensity(family, links, names, y, trials, weights)(eta, order, among)


def _is_constant(row: Array) -> bool:
    return bool(len(row) and row[0] == row[-1] and (row == row[0]).all())


def _weighted(weights: Array | None, term: Any) -> Any:
    return term if weights is None else weights * term


def _store(log_p: Taylor, weights: Array | None, tensors: list[Array]) -> None:
    """Write the derivatives at all their places: `tensors` holds (P, n), (P, P, n), …."""
    for monomial in log_p.monomials[1:]:
        slope = _weighted(weights, log_p.derivative(*monomial))
        for place in set(permutations(monomial)):
            tensors[len(monomial) - 1][place] = slope


type Density = Callable[[Array, Array | None, list[Taylor]], Taylor]


def _density(family: Family, links: Mapping[str, Link], names: Sequence[str]) -> Density:
    """Give the log density, without its constant, as a function of the predictors."""
    natural: Any = family.natural.get(links[names[0]].name)
    if natural is not None:
        return lambda y, trials, eta: natural.core(y, trials, eta[0])

    def inverse(eta: list[Taylor]) -> dict[str, Any]:
        return {name: links[name].linkinv(e) for name, e in zip(names, eta, strict=True)}

    def derived(y: Array, trials: Array | None, eta: list[Taylor]) -> Taylor:
        return family.expansion(y, trials, inverse(eta))

    core: Any = family.core
    if core is None:
        return derived

    def stated(y: Array, trials: Array | None, eta: list[Taylor]) -> Taylor:
        try:
            return core(y, trials, inverse(eta))
        except NoRuleError:
            return derived(y, trials, eta)

    return stated
