"""What a family is: the conditional distribution of the response, stated once for all readers."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from glmm_bayes.arrays import graph
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.priors import Prior
from glmm_bayes.registry import Registry

if TYPE_CHECKING:
    from glmm_bayes.families.categories import Categories
    from glmm_bayes.families.mixture_of import Components
    from glmm_bayes.families.several import Responses
    from glmm_bayes.families.survival import Baseline

type Array = np.ndarray
type Params = Mapping[str, Any]
type Kernel = Callable[[Array, Array | None, Params], Array]


@dataclass(frozen=True)
class Parameter:
    """
    One parameter of a distribution.

    Attributes
    ----------
    link
        The link of its linear predictor, unless the user chooses another of `links`.
    support
        The open interval of its values.
    prior
        Its prior where it has no formula, on its own scale; None for the mean.
    scaled
        Whether the prior's `sigma` is to be multiplied by the scale of the response.
    below
        Whether it lies below every response: the prior's `upper` is then times the smallest.
    start
        Where a search for a maximum begins, on its own scale, or that as a function of the
        responses; None for the middle of its prior.
    ends
        Whether a maximum may be at an end of its support, as where it is a share.
    """

    name: str
    link: str
    links: tuple[str, ...]
    support: tuple[float, float]
    prior: Prior | None = None
    scaled: bool = False
    below: bool = False
    start: float | Callable[[Array], float] | None = None
    ends: bool = False


@dataclass(frozen=True, eq=False)
class Natural:
    """
    A kernel in terms of eta, where that is stabler: log density and its derivative by eta.

    `curves(y, trials, eta)` gives, where it is written out, the log density and its derivatives up
    to the third at once.
    """

    core: Callable[[Array, Array | None, Array], Array]
    score: Callable[[Array, Array | None, Array], Array]
    curves: Callable[[Array, Array | None, Array], tuple[Array, ...]] | None = None


@dataclass(frozen=True, eq=False)
class Family:
    """
    A conditional distribution of the response.

    Only `name`, `parameters`, `distribution` and `arguments` are needed; a family of your own
    with just these is fitted by kernels derived from the PyMC distribution's graph.

    Attributes
    ----------
    parameters
        The distribution's parameters, "mu" first.
    distribution
        A PyMC distribution, or the name of one.
    arguments
        `arguments(params, trials, xp)`: the distribution's arguments, as a mapping.
    numeric
        `numeric(params, trials)`: the same distribution, frozen, from `scipy.stats`.
    mean, variance
        Of the response, `mean(params)` and `variance(params, trials)`; with trials, `mean` is
        the probability of success and `variance` that of the count.
    core, score
        `core(y, trials, params)`: pointwise log density, without the terms `constant(y, trials)`
        that no parameter is in; `score`: its derivative by each parameter, by name.
    by_mean
        `by_mean(y, trials, params)`: the core, then its derivatives by mu up to the third, one
        after the other, where that is written out: quicker than numbers that carry derivatives.
        Of a positive mu they are in units of mu: mu, mu² and mu³ times as large.
    natural
        By the name of a link of mu, the kernel in terms of eta; one-parameter families only.
    problem
        `problem(y, trials)`: None, or the position of a response that does not fit, and why.
    working
        The response on the scale of mu, for the default priors.
    deviance
        `deviance(y, trials, params)`: twice the log density's distance from its maximum over mu,
        where the scale or shape of a continuous response is 1.
    normal
        Whether `working(y)` is normal with mean mu and standard deviation sigma.
    kinked
        Whether the log density has a kink in mu, and so no curvature for Laplace's method.
    signed
        Whether a response's sign says which of two boundaries was reached, as dec(…) gives it.
    atoms
        The values of a response that is otherwise continuous which have a probability.
    tails
        `tails(y, params, xp)`: log P(Y <= y) and log P(Y > y) over a namespace of functions, for
        censored and truncated rows, and for residuals far out.
    degrees
        Of a t, the parameter of its degrees of freedom: rows may be multivariate t together.
    categories
        Of a response in categories, what these are; `mean` is then their probabilities `(…, K)`.
    responses
        Of several responses, what these are; `mean` is then theirs, `(…, R)`.
    mixed
        Of a mixture, the families that it is of.
    baseline
        Of times with proportional hazards, what the hazard is a mean of: knots from the data.
    """

    name: str
    parameters: tuple[Parameter, ...]
    distribution: Any
    arguments: Callable[[Params, Any, Any], dict[str, Any]]
    numeric: Callable[[Params, Any], Any] | None = None
    mean: Callable[[Params], Any] | None = None
    variance: Callable[[Params, Any], Any] | None = None
    core: Kernel | None = None
    score: Callable[[Array, Array | None, Params], dict[str, Array]] | None = None
    constant: Callable[[Array, Array | None], Any] = lambda y, trials: 0.0
    by_mean: Callable[[Array, Array | None, Params], Iterator[Array]] | None = None
    natural: Mapping[str, Natural] = field(default_factory=dict)
    problem: Callable[[Array, Array | None], tuple[int, str] | None] = lambda y, trials: None
    working: Callable[[Array], Array] = lambda y: y
    deviance: Kernel | None = None
    normal: bool = False
    kinked: bool = False
    discrete: bool = False
    signed: bool = False
    atoms: tuple[float, ...] = ()
    needs_trials: bool = False
    tails: Callable[[Any, Params, Any], tuple[Any, Any]] | None = None
    degrees: str | None = None
    binary: bool = False
    categories: "Categories | None" = None
    responses: "Responses | None" = None
    mixed: "Components | None" = None
    baseline: "Baseline | None" = None
    compiled: str | None = None

    @property
    def has_one_mean(self) -> bool:
        """Whether the response has one mean, rather than categories or components."""
        return self.categories is None and self.mixed is None

    @property
    def columns(self) -> tuple[str, ...] | None:
        """What a row has a number for each of, categories or responses; None where it has one."""
        if self.responses is not None:
            return self.responses.labels
        counted = self.categories is not None and self.categories.counted
        return self.categories.labels if self.categories is not None and counted else None

    @property
    def dimension(self) -> str:
        """The name that results have for what several numbers of a row are of."""
        return "category" if self.responses is None else "response"

    @property
    def origin(self) -> "Family":
        """The family that a user named."""
        return self

    @cached_property
    def kernel(self) -> tuple[Kernel, Callable[..., dict[str, Array]]]:
        """The pair (core, score), derived where they are not given: by the core, or the graph."""
        from glmm_bayes.families.derived import derived_kernel
        from glmm_bayes.families.forward import forward_score

        if self.core is None:
            return derived_kernel(self)
        names = [p.name for p in self.parameters]
        by_graph = lru_cache(lambda: derived_kernel(self)[1])
        return self.core, self.score or forward_score(self.core, names, by_graph)

    @cached_property
    def expansion(self) -> Callable[[Array, Array | None, Params], Any]:
        """The core on Taylor numbers of the parameters, derived from the graph."""
        from glmm_bayes.families.derived import derived_expansion

        return derived_expansion(self)

    def symbolic(self) -> Any:
        """Give the PyMC distribution's class."""
        if not isinstance(self.distribution, str):
            return self.distribution
        import pymc as pm

        return getattr(pm, self.distribution)

    def symbolic_arguments(self, params: Params, trials: Any) -> dict[str, Any]:
        """Give the arguments of the PyMC distribution, on PyTensor's graph."""
        given = self.arguments(params, trials, graph())
        # Of a Python number such as 2.5 PyTensor makes a constant of single precision.
        return {
            k: np.asarray(v, float) if isinstance(v, int | float) else v for k, v in given.items()
        }

    def logp(self, y: Array, trials: Array | None, params: Params) -> Array:
        """Give the pointwise log density, with every constant."""
        return self.kernel[0](y, trials, params) + self.constant(y, trials)

    def draw(
        self, rng: np.random.Generator, params: Params, trials: Array | None, size: Any
    ) -> Array:
        """Draw responses of shape `size`, against which parameters and trials broadcast."""
        if self.numeric is not None:
            return self.numeric(params, trials).rvs(size=size, random_state=rng)
        from glmm_bayes.families.derived import derived_draw

        return derived_draw(self, rng, params, trials, size)

    def cdf(self, y: Array, params: Params, trials: Array | None) -> Array:
        """Give P(Y <= y)."""
        if self.categories is not None and not self.categories.thresholds:
            raise NotSupportedError(
                f"The categories of family {self.name!r} have no order, and so no distribution "
                f"function; compare their shares with fit.predict(kind='mean')."
            )
        if self.numeric is None:
            raise NotSupportedError(
                f"The family {self.name!r} has no distribution function; "
                f"give it `numeric`, or ask for residuals of kind 'response'."
            )
        return self.numeric(params, trials).cdf(y)

    def below(self, y: Array, params: Params, trials: Array | None) -> Array:
        """Give P(Y < y)."""
        if self.discrete:
            return self.cdf(y - 1, params, trials)
        up_to = self.cdf(y, params, trials)
        if not self.atoms:
            return up_to
        mass = np.exp(self.logp(y, trials, params))
        return np.where(np.isin(y, self.atoms), np.maximum(up_to - mass, 0.0), up_to)

    def expectation(self, params: Params) -> Array:
        """Give the mean of the response (with trials, the probability of success)."""
        if self.mean is None:
            raise NotSupportedError(
                f"The family {self.name!r} does not say what its mean is; "
                + (
                    "give it `mean`, or ask for kind='response' or kind='param:mu'."
                    if self.tails is None
                    else "ask for kind='linear', 'response' or 'param:mu', or with predict for "
                    "kind='survival', the probability of more than the row's response."
                )
            )
        return self.mean(params)


FAMILIES: Registry[Family] = Registry("family")


def is_registered(family: Family) -> bool:
    """Tell whether a family, or the same for other data, is in the registry by its name."""
    family = family.origin
    if family.mixed is not None:
        return all(map(is_registered, family.mixed.families))
    if family.name not in FAMILIES:
        return False
    known = FAMILIES[family.name]
    own, named = _made_of(family), _made_of(known)
    return known is family if own is None or named is None else named.made is own.made


def _made_of(family: Family) -> Any:
    """Give what the data decide of a family, from which it is made again for others."""
    return family.baseline if family.categories is None else family.categories


def add_family(family: Family) -> Family:
    """Enter a family into the registry, so that models find it by its name."""
    return FAMILIES.add(family.name, family)


def first(bad: Array) -> int | None:
    """Give the first position where something is wrong."""
    return int(np.argmax(bad)) if np.any(bad) else None


def within(lower: float, upper: float, words: str) -> Callable[..., tuple[int, str] | None]:
    """Make the check that a response lies strictly between two numbers."""

    def problem(y: Array, trials: Array | None) -> tuple[int, str] | None:
        at = first(~((y > lower) & (y < upper)))
        return None if at is None else (at, words)

    return problem


def whole(y: Array) -> Array:
    """Tell which numbers are finite, whole and not negative."""
    return np.isfinite(y) & (y >= 0) & (y == np.floor(y))


def counts(y: Array, trials: Array | None) -> tuple[int, str] | None:
    """Check that a response is a count."""
    at = first(~whole(y))
    return None if at is None else (at, "counts must be whole and not negative")
