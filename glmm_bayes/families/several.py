"""One family made of those of several responses, independent or with correlated residuals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from glmm_bayes.arrays import NUMPY, graph
from glmm_bayes.families.by_response import slope_by_response
from glmm_bayes.families.correlated import TAILS, Correlated, pairs, product
from glmm_bayes.families.family import Array, Family, Parameter, Params
from glmm_bayes.families.links import CORRELATION
from glmm_bayes.families.stated import Stated, stated_arguments
from glmm_bayes.priors import Prior
from glmm_bayes.taylor import NoRuleError, Taylor
from glmm_bayes.view import Views


@dataclass(frozen=True, eq=False)
class Part:
    """
    One of several responses.

    Attributes
    ----------
    label
        What results call it.
    family
        Its own distribution.
    names
        From the family's own names of parameters to those that the whole has for them.
    filler
        A response that the family takes, in place of missing ones.
    """

    label: str
    family: Family
    names: Mapping[str, str]
    filler: float

    def own(self, params: Params) -> dict[str, Any]:
        """Take the parameters of this response out of all."""
        return {name: params[whole] for name, whole in self.names.items()}


@dataclass(frozen=True, eq=False)
class Responses:
    """
    What a family of several responses says of them.

    Attributes
    ----------
    parts
        The R responses.
    correlated
        Where residuals are correlated, how: by partial correlations of the pairs (i, j), j < i,
        by rows, given the responses before j.
    """

    parts: tuple[Part, ...]
    correlated: Correlated | None = None

    @property
    def correlations(self) -> tuple[str, ...]:
        """The names of the partial correlations."""
        return () if self.correlated is None else tuple(self.correlated.correlations)

    def expectation(self, params: Params) -> Array:
        """Give the mean of each response, `(…, R)`."""
        found = [part.family.expectation(part.own(params)) for part in self.parts]
        return np.stack(np.broadcast_arrays(*found), axis=-1)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the responses."""
        return tuple(part.label for part in self.parts)

    def slope(self, r: int, y: Array, params: Params) -> Array:
        """Give the slope `(n,)` of the log density by one response `(n,)`, all there."""
        part = self.parts[r]
        return slope_by_response(part.family, y, part.own(params))

    def part(self, label: str) -> Part:
        """Give one of the responses, by its name."""
        return self.parts[self.labels.index(label)]

    def correlation(self, params: Params) -> list[tuple[str, str, Array]]:
        """Give the residuals' correlation of every pair of responses."""
        if self.correlated is None:
            return []
        L = self.correlated.root(params)
        return [
            (self.labels[j], self.labels[i], product(L, i, j)) for i, j in pairs(len(self.parts))
        ]


def several(parts: Sequence[Part], views: Views, present: Array, *, shared: str = "") -> Family:
    """
    Make one family of R responses, `(n, R)` with NaN for missing ones.

    Parameters
    ----------
    views
        What is known of the rows of the model beside their numbers.
    present
        `(n, R)` which of the model's responses there are.
    shared
        `"gaussian"` or `"student"` where residuals are correlated, all responses being such; of
        `"student"` they are multivariate t, with one nu. Otherwise they are independent.

    Notes
    -----
    Parameters are called after the responses: `mu_y1, mu_y2, sigma_y1, sigma_y2`, and `rho_y1_y2`.
    Residual correlations of three and more are the partial ones of the later responses given the
    first, which may be any numbers between -1 and 1: Joe (2006), J. Multivariate Analysis 97,
    2177-2189. A missing response has no part in its row's density; others have their marginal.
    """
    named = tuple(
        replace(part, names=_names(part, shared, alone=len(parts) == 1)) for part in parts
    )
    correlations = _correlation_names([part.label for part in named])
    correlated = Correlated(named, correlations, shared) if shared else None
    responses = Responses(named, correlated)
    density = _independent(responses) if correlated is None else correlated.density

    def logp(value: Any, params: Params, trials: Any) -> Any:
        return density(value, present, views, params, graph())

    def frozen(params: Params, trials: Any) -> Drawn:
        return Drawn(responses, params, views)

    name = " + ".join(part.family.name for part in named)
    return Family(
        name=name,
        parameters=_parameters(responses),
        distribution=StatedRows(
            name, logp, frozen, discrete=False, fillers=np.array([p.filler for p in named])
        ),
        arguments=stated_arguments,
        numeric=lambda p, given: Drawn(responses, p, given),
        mean=responses.expectation,
        core=lambda y, given, p: density(y, ~np.isnan(y), given, p, NUMPY),
        score=_score(responses) if correlated is None else correlated.score,
        kinked=any(part.family.kinked for part in named),
        responses=responses,
    )


# ---- names


def _names(part: Part, shared: str, alone: bool) -> dict[str, str]:
    kept = {TAILS} if shared else set()
    return {
        p.name: p.name if alone or p.name in kept else f"{p.name}_{part.label}"
        for p in part.family.parameters
    }


def _correlation_names(labels: Sequence[str]) -> tuple[str, ...]:
    """Name the partial correlations: rho_y2_y3_given_y1 of the later responses."""
    return tuple(
        f"rho_{labels[j]}_{labels[i]}" + (f"_given_{'_'.join(labels[:j])}" if j else "")
        for i, j in pairs(len(labels))
    )


def _parameters(responses: Responses) -> tuple[Parameter, ...]:
    """List the means first, then the others, response by response, then the correlations."""
    found: dict[str, Parameter] = {}
    for first in (True, False):
        for part in responses.parts:
            own = part.family.parameters
            for parameter in own[:1] if first else own[1:]:
                name = part.names[parameter.name]
                found.setdefault(name, replace(parameter, name=name))
    flat = Prior("Uniform", lower=-1.0, upper=1.0)
    for name in responses.correlations:
        found[name] = Parameter(name, "fisher", ("fisher",), CORRELATION, flat, start=0.0)
    return tuple(found.values())


# ---- independent residuals


def _log_density(family: Family, y: Any, given: Any, params: Params) -> Any:
    """Give a family's log density, without its constant, of arrays or Taylor numbers."""
    if family.core is not None:
        try:
            return family.core(y, given, params)
        except NoRuleError:
            return family.expansion(y, given, params)
    if any(isinstance(value, Taylor) for value in params.values()):
        return family.expansion(y, given, params)
    return family.kernel[0](y, given, params)


def _independent(responses: Responses) -> Callable[..., Any]:
    def density(y: Any, present: Array, views: Views, params: Params, xp: Any) -> Any:
        total: Any = 0.0
        for r, part in enumerate(responses.parts):
            there, own = present[..., r], part.own(params)
            value = y[..., r]
            if xp is NUMPY:
                value = np.where(there, value, part.filler)
                found = _log_density(part.family, value, views.given[r], own)
                found = found + part.family.constant(value, views.given[r])
            else:
                found = _graph_density(part.family, value, views.trials[r], own)
            total = total + _counted(found, there, views.weights[r], xp)
        return total

    return density


def _counted(found: Any, there: Array, weights: Array | None, xp: Any) -> Any:
    found = found if weights is None else weights * found
    return found if there.all() else xp.where(there, found, 0.0)


def _graph_density(family: Family, value: Any, given: Any, params: Params) -> Any:
    import pymc as pm
    import pytensor.tensor as pt

    value = pt.cast(value, "int64") if family.discrete else value
    return pm.logp(family.symbolic().dist(**family.symbolic_arguments(params, given)), value)


def _score(responses: Responses) -> Callable[..., dict[str, Array]]:
    def score(y: Array, given: Any, params: Params) -> dict[str, Array]:
        found = {}
        for r, part in enumerate(responses.parts):
            there = ~np.isnan(y[..., r])
            value = np.where(there, y[..., r], part.filler)
            slopes = part.family.kernel[1](value, given.given[r], part.own(params))
            for name, slope in slopes.items():
                found[part.names[name]] = _counted(slope, there, given.weights[r], NUMPY)
        return found

    return score


# ---- draws, and PyMC


@dataclass(frozen=True, eq=False)
class Drawn:
    """Several responses with their parameters given, and what is known beside them."""

    responses: Responses
    params: Params
    views: Views | None

    def rvs(self, size: Any = None, random_state: Any = None) -> Array:
        """Draw responses `(*size, R)`."""
        rng = np.random.default_rng(random_state)
        if size is None:
            size = np.broadcast_shapes(*map(np.shape, self.params.values()))
        if self.responses.correlated is not None:
            return self._correlated(self.responses.correlated, size, rng)
        parts = self.responses.parts
        beside = (None,) * len(parts) if self.views is None else self.views.given
        drawn = [
            part.family.draw(rng, part.own(self.params), given, size)
            for part, given in zip(parts, beside, strict=True)
        ]
        return np.stack([np.asarray(y, float) for y in drawn], axis=-1)

    def _correlated(
        self, kind: Correlated, size: tuple[int, ...], rng: np.random.Generator
    ) -> Array:
        parts, L = kind.parts, kind.root(self.params)
        u = [rng.standard_normal(size) for _ in parts]
        stretch: Any = 1.0
        if kind.shared == "student":
            nu = self.params[TAILS]
            stretch = np.sqrt(nu / rng.chisquare(np.broadcast_to(nu, size)))
        drawn = []
        for row, part in zip(L, parts, strict=True):
            own = part.own(self.params)
            z = sum(entry * each for entry, each in zip(row, u, strict=False))
            drawn.append(own["mu"] + own["sigma"] * stretch * z)
        return np.stack(np.broadcast_arrays(*drawn), axis=-1)


@dataclass(frozen=True, eq=False)
class StatedRows(Stated):
    """
    What stands in the family of several responses for the name of a PyMC distribution.

    Attributes
    ----------
    fillers
        `(R,)` responses that the families take, in place of missing ones. As an argument they
        tell PyMC how many responses a row has.
    """

    fillers: Array

    def dist(self, **arguments: Any) -> Any:
        """Make a random variable that stands in no model."""
        return super().dist(**arguments, trials=self.fillers)

    def __call__(self, name: str, *, observed: Any, dims: Any, **arguments: Any) -> Any:
        """Enter an observed random variable into the model that is being written."""
        filled = np.where(np.isnan(observed), self.fillers, observed)
        return super().__call__(name, observed=filled, dims=dims, **arguments, trials=self.fillers)

    def _options(self, names: list[str]) -> dict[str, Any]:
        single = ",".join(["()"] * (len(names) - 1))
        return super()._options(names) | {"signature": f"{single},(r)->(r)"}
