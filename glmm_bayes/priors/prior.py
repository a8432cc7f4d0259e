"""A prior as data: a distribution's name and arguments, for PyMC and for plain arrays."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from glmm_bayes.errors import DataError, NotSupportedError, UnknownNameError
from glmm_bayes.priors.densities import DENSITIES, Density, derived_density, derived_support
from glmm_bayes.priors.whole import DEPENDENT, WHOLE, Makers
from glmm_bayes.registry import suggestion

type Array = np.ndarray


@dataclass(frozen=True, init=False, eq=False)
class Prior(Makers):
    """
    A prior distribution, by the name and the arguments it has in PyMC.

    Parameters
    ----------
    distribution
        A distribution of PyMC, such as `"Normal"`, `"HalfStudentT"`, `"LKJCorr"`.
    **arguments
        Its arguments: numbers, or sequences with one entry a coefficient.

    Raises
    ------
    UnknownNameError
        If PyMC has no such distribution, or the distribution no such argument.
    DataError
        If an argument is not a number, or not positive where it must be.
    NotSupportedError
        If the distribution is one of counts.

    Examples
    --------
    >>> Prior("Normal", mu=0, sigma=2.5)
    Normal(mu=0, sigma=2.5)
    >>> Prior("Truncated", dist=Prior("Gamma", alpha=2, beta=0.1), lower=1)
    Truncated(dist=Gamma(alpha=2, beta=0.1), lower=1)
    """

    distribution: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __init__(self, distribution: str, /, **arguments: Any) -> None:
        object.__setattr__(self, "distribution", distribution)
        object.__setattr__(self, "arguments", MappingProxyType(dict(arguments)))
        _check_arguments(distribution, arguments)
        _check_values(distribution, arguments)

    @classmethod
    def fixed(cls, value: float) -> Self:
        """Make a "prior" that holds a parameter at one value."""
        self = cls.__new__(cls)
        object.__setattr__(self, "distribution", "Fixed")
        object.__setattr__(self, "arguments", MappingProxyType({"value": float(value)}))
        return self

    @classmethod
    def whole(cls, distribution: str, arguments: Mapping[str, Any]) -> Self:
        """Make a prior of several parameters together: see `Makers`."""
        self = cls.__new__(cls)
        object.__setattr__(self, "distribution", distribution)
        object.__setattr__(self, "arguments", MappingProxyType(dict(arguments)))
        return self

    def __repr__(self) -> str:
        """Write the prior as it is written."""
        inside = ", ".join(f"{k}={_short(v)}" for k, v in self.arguments.items())
        return f"{self.distribution}({inside})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the arguments as a plain dict: a mapping proxy cannot be."""
        return _rebuild, (self.distribution, dict(self.arguments))

    @property
    def is_fixed(self) -> bool:
        """Whether the parameter is a constant, not estimated."""
        return self.distribution == "Fixed"

    @property
    def is_whole(self) -> bool:
        """Whether it is one of several parameters together."""
        return self.distribution in WHOLE

    @property
    def is_dependent(self) -> bool:
        """Whether the parameters are a function of others, which are sampled in their place."""
        return self.distribution in DEPENDENT

    @property
    def support(self) -> tuple[float, float]:
        """The interval in which the density is positive."""
        if self.distribution == "Truncated":
            inner, (lower, upper) = self.arguments["dist"].support, self._bounds()
            return max(inner[0], float(np.min(lower))), min(inner[1], float(np.max(upper)))
        if self.distribution == "Uniform":
            known = self._complete()
            return float(np.min(known["lower"])), float(np.max(known["upper"]))
        if self.distribution == "Fixed":
            return self.arguments["value"], self.arguments["value"]
        if self.is_whole:
            return WHOLE[self.distribution]
        if self.distribution in DENSITIES:
            return DENSITIES[self.distribution].support
        return derived_support(self.distribution, self.arguments)

    def element(self, k: int, size: int) -> "Prior":
        """Give the prior of the k-th of `size` parameters, where an argument has one entry each."""
        if self.is_fixed or self.is_whole:
            return self
        return Prior(
            self.distribution, **{n: _entry(v, k, size) for n, v in self.arguments.items()}
        )

    @property
    def tabled(self) -> tuple[str, dict[str, Any]] | None:
        """The entry of `DENSITIES` that this is inside its bounds, with every argument, or None."""
        if self.distribution == "Truncated":
            return self.arguments["dist"].tabled
        arguments, known = self._complete(), DENSITIES.get(self.distribution)
        if known is None or set(arguments) != set(known.defaults):
            return None
        return self.distribution, {name: arguments[name] for name in known.defaults}

    def core(self, x: Array) -> Array:
        """Evaluate the log density up to a constant, elementwise; `x` inside the support."""
        density, arguments = self._numeric()
        return density.core(x, **arguments)

    def score(self, x: Array) -> Array:
        """Differentiate `core` by x, elementwise."""
        density, arguments = self._numeric()
        return density.score(x, **arguments)

    def resolved(self) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
        """Give `core` and `score` with all looking up done, for many evaluations."""
        density, arguments = self._numeric()
        return partial(density.core, **arguments), partial(density.score, **arguments)

    def sample(self, rng: np.random.Generator, size: tuple[int, ...]) -> Array:
        """Draw from the prior."""
        if self.is_fixed:
            return np.full(size, self.arguments["value"])
        if self.distribution == "Truncated":
            return self._sample_inside(rng, size)
        density, arguments = self._numeric()
        return density.sample(rng, size, **arguments)

    def variable(self, name: str, *, dims: Any = None, shape: Any = None, **given: Any) -> Any:
        """Enter the prior's variable into the `pm.Model` that is open; `given` is for PyMC."""
        import pymc as pm

        size = {"dims": dims} if dims is not None else {"shape": shape} if shape else {}
        if self.distribution == "Decomposed":
            return pm.HalfFlat(name, **size, **given)  # with its density as a potential
        return getattr(pm, self.distribution)(name, **self._symbolic_arguments(), **size, **given)

    def log_density(self, x: Any) -> Any:
        """Give the pointwise log density on PyTensor's graph."""
        import pymc as pm

        return pm.logp(_symbolic(self), x)

    def _symbolic_arguments(self) -> dict[str, Any]:
        return {
            name: value if value is None else _symbolic(value)
            for name, value in self._complete().items()
        }

    def _complete(self) -> dict[str, Any]:
        """Add the arguments left at our defaults: PyMC demands some of them."""
        known = DENSITIES.get(self.distribution)
        if known is None or not set(self.arguments) <= set(known.defaults):
            return dict(self.arguments)
        return {**known.defaults, **self.arguments}

    def _numeric(self) -> tuple[Density, dict[str, Any]]:
        if self.distribution == "Truncated":
            return self.arguments["dist"]._numeric()  # inside its bounds, equal up to a constant
        arguments = self._complete()
        known = DENSITIES.get(self.distribution)
        if known is None or set(arguments) != set(known.defaults):
            return derived_density(self.distribution, tuple(arguments)), arguments
        return known, arguments

    def _bounds(self) -> tuple[Any, Any]:
        lower, upper = self.arguments.get("lower"), self.arguments.get("upper")
        return -np.inf if lower is None else lower, np.inf if upper is None else upper

    def _sample_inside(self, rng: np.random.Generator, size: tuple[int, ...]) -> Array:
        inner, (lower, upper) = self.arguments["dist"], self._bounds()
        draws = inner.sample(rng, size)
        for _ in range(1000):
            outside = (draws <= lower) | (draws >= upper)
            if not outside.any():
                return draws
            draws = np.where(outside, inner.sample(rng, size), draws)
        raise NotSupportedError(
            f"Drawing from {self!r} by rejection failed: almost none of its mass lies between "
            f"{_short(lower)} and {_short(upper)}; choose bounds nearer to the bulk of the "
            f"distribution."
        )


def as_prior(value: Any, key: str) -> Prior:
    """
    Take what a user gives as a prior: a `Prior`, a number (fixed), or a PreliZ distribution.

    Raises
    ------
    UnknownNameError
        If it is none of these.
    """
    if isinstance(value, Prior):
        return value
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        return Prior.fixed(float(value))
    if hasattr(value, "param_names"):
        return _from_preliz(value, key)
    raise UnknownNameError(
        f"The prior of {key!r} is {value!r}; give gb.Prior('Normal', mu=0, sigma=1), "
        f"a PreliZ distribution, or a number to hold it fixed."
    )


def grouped(priors: Sequence[Prior]) -> list[tuple[Prior, Array]]:
    """
    Put priors of one form together, so that each form is evaluated once.

    Returns
    -------
    list
        Pairs of a prior whose arguments are arrays `(k,)` and the k positions it speaks of;
        fixed parameters come as one more form.

    Examples
    --------
    >>> grouped([Prior("Normal", sigma=1), Prior("Cauchy"), Prior("Normal", sigma=3)])[0]
    (Normal(sigma=[1, 3]), array([0, 2]))
    """
    forms: dict[tuple[Any, ...], list[int]] = {}
    for k, prior in enumerate(priors):
        forms.setdefault(_form(prior), []).append(k)
    return [(_stacked([priors[k] for k in at]), np.array(at)) for at in forms.values()]


def _form(prior: Prior) -> tuple[Any, ...]:
    arguments = sorted(prior.arguments.items())
    inside = ((n, _form(v) if isinstance(v, Prior) else v is None) for n, v in arguments)
    return prior.distribution, *inside


def _stacked(priors: Sequence[Prior]) -> Prior:
    """Make one prior of several of the same form, its arguments `(k,)`."""
    arguments: dict[str, Any] = {}
    for name, first in priors[0].arguments.items():
        values = [prior.arguments[name] for prior in priors]
        if isinstance(first, Prior):
            arguments[name] = _stacked(values)
        else:
            arguments[name] = None if first is None else np.array(values)
    return _rebuild(priors[0].distribution, arguments)


def _from_preliz(value: Any, key: str) -> Prior:
    name = type(value).__name__
    if getattr(value, "params", None) is None:
        raise DataError(
            f"The prior of {key!r} is PreliZ's {name} without values for all of its parameters; "
            f"give them, as in {name}({', '.join(f'{n}=…' for n in value.param_names)})."
        )
    arguments = {n: float(v) for n, v in zip(value.param_names, value.params, strict=True)}
    if name != "Truncated":
        return Prior(name, **arguments)
    bounds = {n: v for n in ("lower", "upper") if np.isfinite(v := arguments[n])}
    return Prior("Truncated", dist=_from_preliz(value.dist, key), **bounds)


def _rebuild(distribution: str, arguments: Mapping[str, Any]) -> Prior:
    self = Prior.__new__(Prior)
    object.__setattr__(self, "distribution", distribution)
    object.__setattr__(self, "arguments", MappingProxyType(dict(arguments)))
    return self


def _symbolic(value: Any) -> Any:
    if not isinstance(value, Prior):
        # Of a Python number such as 2.5 PyTensor makes a constant of single precision.
        return np.asarray(value, dtype=float)
    import pymc as pm

    return getattr(pm, value.distribution).dist(**value._symbolic_arguments())


def _short(value: Any) -> str:
    if isinstance(value, Prior):
        return repr(value)
    array = np.asarray(value)
    if array.ndim == 0:
        return f"{array.item():.4g}" if array.dtype.kind == "f" else str(array.item())
    return "[" + ", ".join(_short(v) for v in array.ravel()) + "]"


def _entry(value: Any, k: int, size: int) -> Any:
    if isinstance(value, Prior):
        return value.element(k, size)
    if np.ndim(value) == 0 or len(value) != size:
        return value
    return np.asarray(value)[k]


def _check_arguments(distribution: str, arguments: Mapping[str, Any]) -> None:
    density = DENSITIES.get(distribution)
    if density is not None and set(arguments) <= set(density.defaults):
        needed = [n for n, v in density.defaults.items() if np.isnan(v)]
    else:
        known, needed = _signature(distribution)
        for name in arguments:
            if name not in known:
                raise UnknownNameError(
                    f"The distribution {distribution!r} has no argument {name!r}. "
                    f"{suggestion(name, known)}"
                )
    missing = [n for n in needed if n not in arguments]
    if missing:
        raise UnknownNameError(f"The prior {distribution!r} needs {', '.join(missing)}.")


def _signature(distribution: str) -> tuple[list[str], list[str]]:
    """Give the names of a distribution's arguments, and of those it cannot do without."""
    if distribution == "Truncated":
        return ["dist", "lower", "upper"], ["dist"]
    import inspect

    import pymc as pm

    found: Any = getattr(pm, str(distribution), None)
    is_distribution = inspect.isclass(found) and issubclass(found, pm.Distribution)
    if not is_distribution:
        raise UnknownNameError(
            f"PyMC has no distribution {distribution!r}. {suggestion(str(distribution), DENSITIES)}"
        )
    if issubclass(found, pm.Discrete):
        raise NotSupportedError(
            f"{distribution!r} is a distribution of whole numbers; a prior needs a continuous one."
        )
    signature = inspect.signature(found.dist).parameters.values()
    named = [p for p in signature if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return [p.name for p in named], [p.name for p in named if p.default is p.empty]


def _check_values(distribution: str, arguments: Mapping[str, Any]) -> None:
    density = DENSITIES.get(distribution)
    positive = set(density.defaults) - set(density.anywhere) if density else set()
    for name, value in arguments.items():
        if (distribution, name) == ("Truncated", "dist"):
            if not isinstance(value, Prior):
                raise DataError(
                    f"'Truncated' cuts off another prior, as in gb.Prior('Truncated', "
                    f"dist=gb.Prior('Normal', mu=0, sigma=1), lower=0); dist is {value!r}."
                )
        elif value is not None:
            numbers = np.asarray(value)
            if numbers.dtype.kind not in "iuf" or np.isnan(numbers).any():
                raise DataError(
                    f"The argument {name!r} of a {distribution!r} prior must be a number or a "
                    f"sequence of numbers, not {value!r}."
                )
            if name in positive and not (numbers > 0).all():
                raise DataError(
                    f"The argument {name!r} of a {distribution!r} prior must be positive, "
                    f"not {value!r}."
                )
