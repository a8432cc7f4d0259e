"""Between a search's vector x and what the engine takes: coefficients and covariance factors."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from glmm_bayes.covariance import CovarianceParameter
from glmm_bayes.density import read_outer
from glmm_bayes.draws import beta_name
from glmm_bayes.engine.density.outer import Outer
from glmm_bayes.engine.latent import Precision, Precisions
from glmm_bayes.model import Model
from glmm_bayes.modes.plain import refuse_dependents
from glmm_bayes.modes.reading import rough_covariance
from glmm_bayes.residual import Residuals
from glmm_bayes.terms import RandomTerm

COLUMNS, LEVELS = 0, 1  # the sides of a term, as in `RandomTerm.structures`
EDGE = 14.0  # log odds of a parameter at one of its two bounds, to a part in a million
EXITS = (6.0, 4.0, 2.0)  # log odds of a share that is let in again

type Slopes = Sequence[np.ndarray]


@dataclass(frozen=True, eq=False)
class Coordinates:
    """
    The free parameters as one vector x: coefficients, constants on their link's scale, factors.

    The factors' part is in the structures' loose coordinates, in which a zero variance is an
    interior point, or in the parameters' unconstrained scale, on which it is infinitely far. What
    a number in `priors` holds fixed is not in x.

    Attributes
    ----------
    coefficients
        By the family's parameter, where its free coefficients stand in x.
    held
        By the family's parameter, its coefficients `(k,)` with NaN where they are free.
    factors
        By term, where its coordinates stand in x.
    strict
        By term, whether they are its structure's parameters on their unconstrained scale.
    between
        By term, where the parameters of what is between its levels stand in x, on their
        unconstrained scale.
    residual
        Where those of the residuals' structure stand, likewise.
    """

    model: Model
    outer: Outer
    coefficients: tuple[slice, ...]
    held: tuple[np.ndarray, ...]
    factors: tuple[slice, ...]
    strict: tuple[bool, ...]
    between: tuple[slice, ...]
    residual: slice

    @classmethod
    def of(cls, model: Model) -> "Coordinates":
        """Lay the vector out, with loose coordinates for the terms of which nothing is held."""
        outer = read_outer(model)
        return cls._laid_out(model, outer, [_holds(model, outer, t) for t in model.design.terms])

    @classmethod
    def unconstrained(cls, model: Model) -> "Coordinates":
        """Lay the vector out with every term's parameters on their unconstrained scale."""
        refuse_dependents(model)
        return cls._laid_out(model, read_outer(model), [True] * len(model.design.terms))

    @classmethod
    def _laid_out(cls, model: Model, outer: Outer, strict: Sequence[bool]) -> "Coordinates":
        at, coefficients, held = 0, [], []
        for parameter in model.family.parameters:
            name = parameter.name
            if name in model.constants:
                value = outer.value[model.layout[name]]
                value = np.where(np.isnan(value), np.nan, model.links[name].linkfun(value))
            else:
                value = outer.value[model.layout.get(beta_name(name), slice(0, 0))]
            held.append(value)
            free = int(np.isnan(value).sum())
            coefficients.append(slice(at, at + free))
            at += free
        sides: list[list[slice]] = [[], []]
        for side, found in enumerate(sides):
            for term in model.design.terms:
                # Loose coordinates are as many as the parameters, where none of these is held.
                size = int(np.isnan(_values(model, outer, term, side)).sum())
                found.append(slice(at, at + size))
                at += size
        factors, between = map(tuple, sides)
        own = model.design.residual
        last = 0 if own is None else int(np.isnan(_values(model, outer, own, LEVELS)).sum())
        return cls(
            model, outer, tuple(coefficients), tuple(held), factors, tuple(strict), between,
            slice(at, at + last),
        )  # fmt: skip

    @property
    def size(self) -> int:
        """The number m of free parameters."""
        return max(
            [s.stop for s in (*self.coefficients, *self.factors, *self.between, self.residual)]
        )

    def means(self, count: int = 1) -> slice:
        """Where the coefficients of the mean, or of the means of several responses, stand in x."""
        return slice(0, self.coefficients[count - 1].stop)

    @cached_property
    def mean_is_free(self) -> bool:
        """Whether none of the mean's coefficients is held fixed."""
        return bool(np.isnan(self.held[0]).all())

    # ---- from x

    def split(self, x: np.ndarray) -> list[np.ndarray]:
        """Give every predictor's coefficients, the fixed ones with them."""
        found = []
        for at, held in zip(self.coefficients, self.held, strict=True):
            value = held.copy()
            value[np.isnan(held)] = x[at]
            found.append(value)
        return found

    def Lambdas(self, x: np.ndarray) -> list[np.ndarray]:
        """Give every term's factor."""
        return [
            term.structure.factor(self._strict_theta(term, COLUMNS, x[at]), term.size)
            if strict
            else term.structure.loose_factor(x[at], term.size)
            for term, at, strict in self._terms
        ]

    def precisions(self, x: np.ndarray) -> list[Precision | None]:
        """
        Give the precision between every term's levels; None where they are independent.

        Of effects that are not normal, their distribution's parameters in its place.
        """
        found: list[Precision | None] = []
        for term, at in zip(self.model.design.terms, self.between, strict=True):
            if term.level_structure.pairs is None and term.level_structure.distribution is None:
                found.append(None)
                continue
            Q = term.level_structure.entries(self._strict_theta(term, LEVELS, x[at]))
            found.append(Precision(Q.values, float(Q.log_determinant)))
        return found

    def residual_precision(self, x: np.ndarray) -> Precision:
        """Give the precision between rows that the residuals' structure has, over sigma^2."""
        residual = self.model.design.residual
        assert residual is not None
        Q = residual.level_structure.entries(self._strict_theta(residual, LEVELS, x[self.residual]))
        return Precision(Q.values, float(Q.log_determinant))

    def residual_values(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Give what the residuals' structure has in tables, by key: its parameters and others."""
        residual = self.model.design.residual
        assert residual is not None
        structure, size = residual.structures[1]
        theta = self._strict_theta(residual, LEVELS, x[self.residual])
        own = {p.key: theta[p.name] for p in structure.parameters(size)}
        return own | structure.reported(theta, size)

    def all_precisions(self, x: np.ndarray) -> list[Precision | None]:
        """Give those of the terms and, if residuals have a structure, theirs last."""
        own = [] if self.model.design.residual is None else [self.residual_precision(x)]
        return [*self.precisions(x), *own]

    def theta(self, x: np.ndarray) -> np.ndarray:
        """Give the outer parameters `(m,)` in the model's layout."""
        theta = self.outer.value.copy()
        for parameter, value in zip(self.model.family.parameters, self.split(x), strict=True):
            name = parameter.name
            if name in self.model.constants:
                theta[self.model.layout[name]] = self.model.links[name].linkinv(value)
            elif len(value):
                theta[self.model.layout[beta_name(name)]] = value
        for number, term in enumerate(self.model.design.terms):
            for name, value in self.term_theta(number, x).items():
                theta[self.model.layout[f"{name}_{term.name}"]] = value
        residual = self.model.design.residual
        if residual is not None:
            for name, value in self._strict_theta(residual, LEVELS, x[self.residual]).items():
                theta[self.model.layout[f"{name}_{residual.name}"]] = value
        return theta

    def term_theta(self, number: int, x: np.ndarray) -> dict[str, np.ndarray]:
        """Give the parameters of one term's structures, by name."""
        term, at, strict = self._terms[number]
        between = self._strict_theta(term, LEVELS, x[self.between[number]])
        if strict:
            return self._strict_theta(term, COLUMNS, x[at]) | between
        return term.structure.tight(x[at], term.size) | between

    # ---- to x

    def join(self, coefficients: Sequence[np.ndarray], terms: Sequence[np.ndarray]) -> np.ndarray:
        """Put coefficients of every predictor and the coordinates of all terms together as x."""
        parts = [c[np.isnan(h)] for c, h in zip(coefficients, self.held, strict=True)]
        return np.concatenate([*parts, *terms])

    def pull(
        self,
        x: np.ndarray,
        by_coefficients: Slopes,
        by_Lambda: Slopes,
        by_precision: Precisions | None = None,
    ) -> np.ndarray:
        """Carry slopes by coefficients, factors and precisions (none, or all) back to x."""
        parts = []
        for (term, at, strict), slope in zip(self._terms, by_Lambda, strict=True):
            if strict:
                theta = self._strict_theta(term, COLUMNS, x[at])
                by_theta = term.structure.pullback(theta, term.size, slope)
                parts.append(self._strict_pull(term, COLUMNS, x[at], theta, by_theta))
            else:
                parts.append(term.structure.loose_pullback(x[at], term.size, slope))
        given: list[Precision | None] = list(by_precision or [None] * len(self._beside))
        owners: list[RandomTerm | Residuals] = list(self.model.design.terms)
        if self.model.design.residual is not None:
            owners.append(self.model.design.residual)
        for owner, at, by in zip(owners, self._beside, given, strict=True):
            if by is None:
                parts.append(np.zeros(at.stop - at.start))
            elif at.stop > at.start:
                theta = self._strict_theta(owner, LEVELS, x[at])
                by_theta = owner.level_structure.slopes(theta, by.values, by.log_determinant)
                parts.append(self._strict_pull(owner, LEVELS, x[at], theta, by_theta))
        return self.join(by_coefficients, parts)

    @property
    def _beside(self) -> list[slice]:
        """Where the parameters between levels, and between residuals, stand in x."""
        return (
            [*self.between]
            if self.model.design.residual is None
            else [*self.between, self.residual]
        )

    def start(self, sd: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Give every term's coordinates to start from, of columns with standard deviations `sd`."""
        return self.starts(sd)[0]

    def starts(self, sd: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        """Give several starts where a term's covariance has many maxima; the likeliest first."""
        terms = [term for term, _, _ in self._terms]
        tries = [term.structure.tries(term.size) for term in terms]
        seen = [
            rough_covariance(self.model, term) if term.structure.informed else None
            for term in terms
        ]
        between = [self._strict_start(t, LEVELS, t.level_structure.start()) for t in terms]
        residual = self.model.design.residual
        if residual is not None:
            between.append(self._strict_start(residual, LEVELS, residual.level_structure.start()))
        return [
            [
                self._started(term, strict, term.structure.start(size, term.size, C, k % many))
                for (term, _, strict), size, C, many in zip(
                    self._terms, sd, seen, tries, strict=True
                )
            ]
            + between
            for k in range(max(tries, default=1))
        ]

    def _started(self, term: RandomTerm, strict: bool, theta: dict[str, np.ndarray]) -> np.ndarray:
        if strict:
            return self._strict_start(term, COLUMNS, theta)
        return term.structure.loose(theta, term.size)

    def inside(self, x: np.ndarray) -> np.ndarray:
        """Move coefficients and constants into their supports, which priors may make narrower."""
        lower, upper = self.outer.lower, self.outer.upper
        found = []
        for parameter, value in zip(self.model.family.parameters, self.split(x), strict=True):
            name = parameter.name
            if name in self.model.constants:
                link, at = self.model.links[name], self.model.layout[name]
                found.append(link.linkfun(_inside(link.linkinv(value), lower[at], upper[at])))
            else:
                at = self.model.layout.get(beta_name(name), slice(0, 0))
                found.append(_inside(value, lower[at], upper[at]))
        return self.join(found, [x[at] for at in (*self.factors, *self._beside)])

    def units(self, sd: Sequence[np.ndarray]) -> np.ndarray:
        """Give the natural size `(m,)` of a step in each coordinate."""
        units = np.ones(self.size)
        for at, held, parameter in zip(
            self.coefficients, self.held, self.model.family.parameters, strict=True
        ):
            if parameter.name not in self.model.constants:
                X = self.model.design.predictors[parameter.name].X[:, np.isnan(held)]
                size = np.sqrt(
                    np.mean(np.square(X - self.model.means(parameter.name)[np.isnan(held)]), axis=0)
                )
                units[at] = 1.0 / np.where(size > 0, size, 1.0)
        for (term, at, strict), size in zip(self._terms, sd, strict=True):
            units[at] = 1.0 if strict else term.structure.units(term.size, size)
        return units

    @cached_property
    def natural(self) -> np.ndarray:
        """A step `(m,)` in each coordinate that moves its predictor by about one."""
        return self.units([np.ones(term.size) for term in self.model.design.terms])

    @cached_property
    def names(self) -> list[str]:
        """What each coordinate is called in messages."""
        found: list[str] = []
        for parameter, held in zip(self.model.family.parameters, self.held, strict=True):
            if parameter.name in self.model.constants:
                found += [parameter.name] * int(np.isnan(held).sum())
            else:
                labels = self.model.design.predictors[parameter.name].names
                prefix = beta_name(parameter.name)
                found += [
                    f"{prefix}[{label}]"
                    for label, value in zip(labels, held, strict=True)
                    if np.isnan(value)
                ]
        for term, at in zip(self.model.design.terms, self.factors, strict=True):
            found += [f"the variances of {term.text}"] * (at.stop - at.start)
        residual = self.model.design.residual
        owners: list[RandomTerm | Residuals] = list(self.model.design.terms)
        for owner in owners + ([] if residual is None else [residual]):
            _, free = self._free(owner, LEVELS)
            keys = [
                f"{p.key} of {owner.text}"
                for p in _parameters(owner, LEVELS)
                for _ in range(p.size)
            ]
            found += [key for key, is_free in zip(keys, free, strict=True) if is_free]
        return found

    @cached_property
    def spreads(self) -> np.ndarray:
        """A rough standard error `(m,)` of each coordinate, in its unit."""
        found = np.full(self.size, 1.0 / np.sqrt(self.model.nobs))
        for term, *both in zip(self.model.design.terms, self.factors, self.between, strict=True):
            for at in both:
                found[at] = 1.0 / np.sqrt(2 * len(term.levels))
        return found

    def idle(self, x: np.ndarray) -> np.ndarray:
        """Tell which coordinates `(m,)` stand at an edge, where they change nothing."""
        idle = np.zeros(self.size, dtype=bool)
        for (term, at, strict), between in zip(self._terms, self.between, strict=True):
            if not strict:
                idle[at] = term.structure.idle(x[at], term.size)
                # How levels without effects hang together changes nothing.
                if not term.structure.loose_factor(x[at], term.size).any():
                    idle[between] = True
        return idle | self.at_bounds(x)

    def at_bounds(self, x: np.ndarray) -> np.ndarray:
        """Tell which shares and parameters between levels `(m,)` stand at one of two bounds."""
        return self._bounded & (np.abs(x) >= EDGE)

    def to_bounds(self, x: np.ndarray, near: float) -> np.ndarray:
        """Move such parameters to a bound that is as near as `near` of their width."""
        close = self._bounded & (np.abs(x) > np.log((1.0 - near) / near))
        return np.where(close, np.sign(x) * EDGE, x)

    def exits(self, x: np.ndarray) -> Iterator[np.ndarray]:
        """Give points where one of the shares that are near a bound is further inside."""
        for k in np.flatnonzero(self._shares & (np.abs(x) > EXITS[0])):
            for log_odds in EXITS:
                moved = x.copy()
                moved[k] = np.sign(x[k]) * log_odds
                yield moved

    @cached_property
    def _shares(self) -> np.ndarray:
        found = np.zeros(self.size, dtype=bool)
        for parameter, at in zip(self.model.family.parameters, self.coefficients, strict=True):
            is_constant = parameter.name in self.model.constants
            by_log_odds = self.model.links[parameter.name].name == "logit"
            found[at] = parameter.ends and is_constant and by_log_odds
        return found

    @cached_property
    def _bounded(self) -> np.ndarray:
        found = np.zeros(self.size, dtype=bool)
        for (term, _, strict), at in zip(self._terms, self.between, strict=True):
            if not strict:
                where, free = self._free(term, LEVELS)
                both = np.isfinite(self.outer.lower[where]) & np.isfinite(self.outer.upper[where])
                found[at] = both[free]
        return found | self._shares

    @property
    def _terms(self) -> list[tuple[RandomTerm, slice, bool]]:
        return list(zip(self.model.design.terms, self.factors, self.strict, strict=True))

    # ---- terms in the parameters' own unconstrained scale

    def _free(self, term: "RandomTerm | Residuals", side: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the entries of one of the term's sides stand in theta; which of them are free."""
        parts = [np.arange(s.start, s.stop) for s in places(self.model, term, side)]
        at = np.concatenate([np.empty(0, dtype=int), *parts])
        return at, np.isnan(self.outer.value[at])

    def _strict_theta(
        self, term: "RandomTerm | Residuals", side: int, x: np.ndarray
    ) -> dict[str, np.ndarray]:
        at, _ = self._free(term, side)
        value = self._part(at).constrain(x)
        names = [p.name for p in _parameters(term, side)]
        ends = np.cumsum([s.stop - s.start for s in places(self.model, term, side)])[:-1]
        return dict(zip(names, np.split(value, ends), strict=True)) if names else {}

    def _strict_pull(
        self,
        term: "RandomTerm | Residuals",
        side: int,
        x: np.ndarray,
        theta: Mapping[str, np.ndarray],
        by_theta: Mapping[str, np.ndarray],
    ) -> np.ndarray:
        at, free = self._free(term, side)
        value, slope = (np.concatenate([part[k] for k in theta]) for part in (theta, by_theta))
        return slope[free] * self._part(at).jacobian(x, value)[2]

    def _strict_start(
        self, term: "RandomTerm | Residuals", side: int, theta: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        at, free = self._free(term, side)
        value = np.concatenate([np.empty(0), *theta.values()])
        value = np.where(free, value, self.outer.value[at])
        return self._part(at).unconstrain(
            _inside(value, self.outer.lower[at], self.outer.upper[at])
        )

    def _part(self, at: np.ndarray) -> Outer:
        outer = self.outer
        return Outer(outer.lower[at], outer.upper[at], outer.value[at], [])


def _inside(value: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Move to the inside of an interval, if not there: by a tenth of it, or by one if endless."""
    with np.errstate(invalid="ignore"):
        width = upper - lower
        room = np.where(np.isfinite(width), 0.1 * width, 1.0)
        value = np.where(value > lower, value, lower + room)
        return np.where(value < upper, value, upper - room)


def _values(model: Model, outer: Outer, term: "RandomTerm | Residuals", side: int) -> np.ndarray:
    """Give a side's parameters as far as they are held; NaN for the free ones."""
    return np.concatenate([np.empty(0), *(outer.value[s] for s in places(model, term, side))])


def _holds(model: Model, outer: Outer, term: RandomTerm) -> bool:
    return bool(np.isfinite(_values(model, outer, term, COLUMNS)).any())


def _parameters(term: "RandomTerm | Residuals", side: int) -> Sequence[CovarianceParameter]:
    structure, size = term.structures[side]
    return structure.parameters(size)


def places(model: Model, term: "RandomTerm | Residuals", side: int) -> list[slice]:
    """Where the parameters of the structure on one of a term's sides stand in theta."""
    return [model.layout[f"{p.name}_{term.name}"] for p in _parameters(term, side)]
