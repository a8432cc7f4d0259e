"""
Mixtures: every response is of one of several kinds, each a family of its own, and nobody saw which.

`mixture` takes families and gives one, whose density, draws and moments are made of theirs.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import softmax

from glmm_bayes.arrays import NUMPY, graph
from glmm_bayes.errors import NotSupportedError, UnknownNameError
from glmm_bayes.families.family import FAMILIES, Array, Family, Parameter, Params
from glmm_bayes.families.links import REAL
from glmm_bayes.families.stated import Stated, stated_arguments
from glmm_bayes.families.zeros import graph_logp, probability
from glmm_bayes.priors import Prior
from glmm_bayes.registry import suggestion
from glmm_bayes.taylor import NoRuleError, Taylor

ORDERS = ("auto", "mu", "none")
CALL = re.compile(r"\s*mixture\s*\((.*)\)\s*", re.DOTALL)
MIXED = re.compile(r"(order\s*=\s*)?['\"]?(\w+)['\"]?")


@dataclass(frozen=True, eq=False)
class Components:
    """
    The K families that a mixture is of.

    Attributes
    ----------
    families
        In order; a parameter of the k-th is called by its own name and the number k, from 1.
    order
        Whether the intercepts of the means ascend: `"auto"`, where the families are one and the
        same, the means have the same columns and the intercepts are free to; `"mu"`, yes;
        `"none"`, no.
    """

    families: tuple[Family, ...]
    order: str

    @cached_property
    def means(self) -> dict[str, Family]:
        """The parameters that are means, with the family of each."""
        return {f"{f.parameters[0].name}{k}": f for k, f in enumerate(self.families, start=1)}

    @cached_property
    def together(self) -> dict[str, tuple[str, ...]]:
        """By a name that the families call their own parameters, the mixture's names for them."""
        found: dict[str, tuple[str, ...]] = {}
        for k, family in enumerate(self.families, start=1):
            for p in family.parameters:
                found[p.name] = (*found.get(p.name, ()), f"{p.name}{k}")
        return found

    def spread[T](self, given: Mapping[str, T]) -> dict[str, T]:
        """
        Give what is said of a parameter by its own name to all components that have it.

        What is said of one component's, by its number too, comes before; the means are first.
        """
        named = {k: v for k, v in given.items() if k not in self.together}
        found = {
            each: named.pop(each, given[name])
            for name, all_of_them in self.together.items()
            if name in given
            for each in all_of_them
        }
        return {k: found.pop(k) for k in self.means if k in found} | found | named

    @property
    def alike(self) -> bool:
        """Whether the families are one and the same, so that only an order tells them apart."""
        return len({id(family) for family in self.families}) == 1

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the components: their numbers."""
        return tuple(str(k) for k in range(1, len(self.families) + 1))

    def own(self, params: Params, k: int) -> dict[str, Any]:
        """Take the parameters of the k-th component, from 0, by their names there."""
        return {p.name: params[f"{p.name}{k + 1}"] for p in self.families[k].parameters}

    def log_shares(self, params: Params, xp: Any = NUMPY) -> list[Any]:
        """Give the log probabilities of the components, before the response is seen."""
        if len(self.families) == 2:
            return [xp.log1p(-params["theta2"]), xp.log(params["theta2"])]
        odds = [params[f"theta{k}"] for k in range(2, len(self.families) + 1)]
        logs = [0.0 * odds[0], *odds]
        total = _log_sum(logs, xp)
        return [value - total for value in logs]

    def joint(self, y: Array, trials: Array | None, params: Params) -> list[Any]:
        """Give the log densities of a response together with each of its possible components."""
        return [
            log_share + _log_density(family, y, trials, self.own(params, k))
            for k, (family, log_share) in enumerate(
                zip(self.families, self.log_shares(params), strict=True)
            )
        ]

    def prior(self, params: Params) -> Array:
        """Give the probabilities `(…, K)` of the components, before the response is seen."""
        return np.exp(np.stack(np.broadcast_arrays(*self.log_shares(params)), axis=-1))

    def membership(self, y: Array, trials: Array | None, params: Params) -> Array:
        """Give the probabilities `(…, K)` of the components, given the response."""
        return softmax(np.stack(np.broadcast_arrays(*self.joint(y, trials, params)), axis=-1), -1)


@dataclass(frozen=True, eq=False)
class Blend:
    """The distribution of a mixture, frozen as scipy's are."""

    components: Components
    params: Params
    trials: Array | None

    def cdf(self, y: Array) -> Array:
        """Give P(Y <= y)."""
        return self._average(lambda family, own: family.cdf(y, own, self.trials))

    def rvs(self, size: Any = None, random_state: Any = None) -> Array:
        """Draw a component, and a response of it."""
        rng = np.random.default_rng(random_state)
        given = [*self.params.values(), *([] if self.trials is None else [self.trials])]
        shape = np.broadcast_shapes(*map(np.shape, given)) if size is None else size
        up_to = np.cumsum(self.components.prior(self.params), axis=-1)[..., :-1]
        kind = (rng.uniform(size=shape)[..., None] > up_to).sum(axis=-1)
        drawn = [
            family.draw(rng, self.components.own(self.params, k), self.trials, shape)
            for k, family in enumerate(self.components.families)
        ]
        return np.choose(kind, drawn)

    def mean(self) -> Array:
        """Give the expectation; with trials, the probability of success."""
        return self._average(lambda family, own: family.expectation(own))

    def variance(self) -> Array:
        """Give the variance: that within the components, and that between them."""
        n, mean = 1.0 if self.trials is None else self.trials, self.mean()
        return self._average(
            lambda family, own: (
                family.variance(own, self.trials) + (n * (family.expectation(own) - mean)) ** 2  # type: ignore[misc]
            )
        )

    def _average(self, of: Callable[[Family, Params], Any]) -> Array:
        shares = self.components.log_shares(self.params)
        return sum(
            np.exp(shares[k]) * of(family, self.components.own(self.params, k))
            for k, family in enumerate(self.components.families)
        )


def mixture(*families: str | Family, order: str = "auto") -> Family:
    """
    Mix families: a response is of the k-th with a probability that may depend on predictors.

    Parameters
    ----------
    *families
        Two or more, by name or as values: all of counts, or all continuous. They may be the same.
    order
        `"mu"`: the intercepts of the means ascend, from the first component to the last, so that
        the components cannot change places; `"none"`: they need not; `"auto"`: they do where the
        families and the means' columns are the same and the intercepts are free.

    Returns
    -------
    Family
        Its parameters are those of the families with the component's number, as `mu1`, `sigma1`,
        `mu2`, …, and `theta2`, …: of two components the probability of the second; of K more,
        the log odds of each against the first, so that the probabilities are a softmax.

    Raises
    ------
    NotSupportedError
        If the families' responses are of different kinds, or in categories.

    Notes
    -----
    p(y) = sum_k theta_k p_k(y): McLachlan & Peel (2000), Finite Mixture Models. Of continuous
    families the likelihood has no upper bound where a scale may tend to 0: `ml` finds the highest
    of the maxima inside, and priors do away with it.

    Examples
    --------
    >>> [p.name for p in mixture("gaussian", "student").parameters]
    ['mu1', 'mu2', 'sigma1', 'sigma2', 'nu2', 'theta2']
    """
    found = tuple(FAMILIES[f] if isinstance(f, str) else f for f in families)
    if order not in ORDERS:
        raise UnknownNameError(f"order={order!r} is not known. {suggestion(str(order), ORDERS)}")
    _check(found)
    return _made(Components(found, order))


def family_of(name: str) -> Family:
    """
    Find a family by its name; a mixture's says what it is of.

    Examples
    --------
    >>> family_of("mixture(poisson, poisson)").name
    'mixture(poisson, poisson)'
    """
    call = CALL.fullmatch(name)
    if call is None:
        return FAMILIES[name]
    parts = [MIXED.fullmatch(text.strip()) for text in call[1].split(",")]
    if None in parts:
        raise UnknownNameError(
            f"The family {name!r} cannot be read: write 'mixture(poisson, negbinomial)', with "
            f"order=none as a last argument if the means have no order."
        )
    read = [(bool(part[1]), part[2]) for part in parts if part is not None]
    orders = [text for is_order, text in read if is_order]
    return mixture(*(text for is_order, text in read if not is_order), order=(*orders, "auto")[0])


def _check(families: Sequence[Family]) -> None:
    names = ", ".join(family.name for family in families)
    if len(families) < 2:
        raise NotSupportedError(f"A mixture is of two families or more, not of {names or 'none'}.")
    for family in families:
        if family.categories is not None or family.mixed is not None:
            raise NotSupportedError(
                f"The family {family.name!r} cannot be in a mixture: mix families whose response "
                f"is one number, without categories, and name all of them at once."
            )
        if family.baseline is not None:
            raise NotSupportedError(
                f"The family {family.name!r} cannot be in a mixture, as its knots are those of one "
                f"population's times: mix 'weibull', 'lognormal' or 'exponential'."
            )
    for words, kinds in (
        ("of counts and of continuous responses", {f.discrete for f in families}),
        ("with and without trials", {f.needs_trials for f in families}),
        ("with different atoms", {f.atoms for f in families}),
        ("of binary responses and of others", {f.binary for f in families}),
    ):
        if len(kinds) > 1:
            raise NotSupportedError(
                f"The families {names} cannot be mixed: they are {words}, which no response is "
                f"both of."
            )


def _made(components: Components) -> Family:
    families = components.families
    first = families[0]
    listed = [*(f.name for f in families), *_order_said(components)]
    name = f"mixture({', '.join(listed)})"

    def numeric(params: Params, trials: Any) -> Blend:
        return Blend(components, params, trials)

    def log_density(value: Any, params: Params, trials: Any) -> Any:
        return _graph_density(components, value, params, trials)

    moments = all(f.mean is not None and f.variance is not None for f in families)
    return Family(
        name=name,
        parameters=_parameters(components),
        distribution=Stated(name, log_density, numeric, first.discrete),
        arguments=stated_arguments,
        numeric=numeric,
        mean=(lambda p: Blend(components, p, None).mean()) if moments else None,
        variance=(lambda p, trials: Blend(components, p, trials).variance()) if moments else None,
        core=lambda y, trials, p: _log_sum(components.joint(y, trials, p), NUMPY),
        score=lambda y, trials, p: _score(components, y, trials, p),
        problem=lambda y, trials: _problem(components, y, trials),
        working=first.working,
        kinked=any(f.kinked for f in families),
        discrete=first.discrete,
        atoms=first.atoms,
        needs_trials=first.needs_trials,
        binary=first.binary,
        mixed=components,
    )


def _order_said(components: Components) -> list[str]:
    return [] if components.order == "auto" else [f"order={components.order}"]


def _parameters(components: Components) -> tuple[Parameter, ...]:
    """List the means, what else the families have, and the probabilities."""
    named = [
        replace(p, name=f"{p.name}{k}")
        for k, family in enumerate(components.families, start=1)
        for p in family.parameters
    ]
    means = [p for p in named if p.name in components.means]
    others = [p for p in named if p.name not in components.means]
    if len(components.families) == 2:
        return (*means, *others, probability("theta2"))
    prior = Prior("Logistic", mu=0.0, s=1.0)
    odds = [
        Parameter(f"theta{k}", "identity", ("identity",), REAL, prior)
        for k in range(2, len(components.families) + 1)
    ]
    return (*means, *others, *odds)


def _log_density(family: Family, y: Array, trials: Array | None, params: Params) -> Any:
    """Give a component's log density with its constant, of arrays or of Taylor numbers."""
    core, constant = family.kernel[0], family.constant(y, trials)
    if not any(isinstance(value, Taylor) for value in params.values()):
        return core(y, trials, params) + constant
    if family.core is None:
        return family.expansion(y, trials, params)
    try:
        return core(y, trials, params) + constant
    except NoRuleError:
        return family.expansion(y, trials, params)


def _log_sum(logs: Sequence[Any], xp: Any) -> Any:
    """Give the log of a sum, of arrays, Taylor numbers or nodes of a graph."""
    total = logs[0]
    for other in logs[1:]:
        # On a graph there is no function of both with derivatives to third order.
        total = np.logaddexp(total, other) if xp is NUMPY else total + xp.softplus(other - total)
    return total


def _score(
    components: Components, y: Array, trials: Array | None, params: Params
) -> dict[str, Array]:
    """Weigh the components' slopes by their probabilities given the response."""
    shares = np.moveaxis(components.membership(y, trials, params), -1, 0)
    found: dict[str, Array] = {}
    for k, family in enumerate(components.families):
        slopes = family.kernel[1](y, trials, components.own(params, k))
        for name, slope in slopes.items():
            # Of a component that is out of the question a slope may be infinite.
            found[f"{name}{k + 1}"] = np.where(shares[k] > 0, shares[k] * slope, 0.0)
    if len(shares) == 2:
        theta = params["theta2"]
        found["theta2"] = shares[1] / theta - shares[0] / (1 - theta)
    else:
        before = np.moveaxis(components.prior(params), -1, 0)
        found |= {f"theta{k + 1}": shares[k] - before[k] for k in range(1, len(shares))}
    return {p.name: found[p.name] for p in _parameters(components)}


def _graph_density(components: Components, value: Any, params: Params, trials: Any) -> Any:
    shares = components.log_shares(params, graph())
    logs = [
        share + graph_logp(family, value, components.own(params, k), trials)
        for k, (family, share) in enumerate(zip(components.families, shares, strict=True))
    ]
    return _log_sum(logs, graph())


def _problem(components: Components, y: Array, trials: Array | None) -> tuple[int, str] | None:
    for family in components.families:
        found = family.problem(y, trials)
        if found is not None:
            at, words = found
            return at, words if components.alike else f"of its component {family.name!r} {words}"
    return None
