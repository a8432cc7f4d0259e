"""A prior as data: a distribution's name and arguments, for PyMC and for plain arrays."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from glmm_bayes.errors import NotSupportedError, UnknownNameError
from glmm_bayes.registry import suggestion

type Array = np.ndarray
POSITIVE = (0.0, np.inf)
REAL = (-np.inf, np.inf)


@dataclass(frozen=True)
class Density:
    """
    A distribution on arrays: what a sampler needs of it.

    `core` is the log density up to a constant and `score` its derivative by x;
    both broadcast x against the arguments.
    """

    defaults: Mapping[str, float]  # every argument; NaN where it must be given
    support: tuple[float, float]
    core: Callable[..., Array]
    score: Callable[..., Array]
    sample: Callable[..., Array]


_NEEDED = np.nan
DENSITIES: dict[str, Density] = {
    "Normal": Density(
        {"mu": 0.0, "sigma": 1.0},
        REAL,
        lambda x, mu, sigma: -0.5 * ((x - mu) / sigma) ** 2 - np.log(sigma),
        lambda x, mu, sigma: (mu - x) / (sigma * sigma),
        lambda rng, size, mu, sigma: rng.normal(mu, sigma, size),
    ),
    "HalfNormal": Density(
        {"sigma": 1.0},
        POSITIVE,
        lambda x, sigma: -0.5 * (x / sigma) ** 2 - np.log(sigma),
        lambda x, sigma: -x / (sigma * sigma),
        lambda rng, size, sigma: np.abs(rng.normal(0, sigma, size)),
    ),
    "StudentT": Density(
        {"nu": _NEEDED, "mu": 0.0, "sigma": 1.0},
        REAL,
        lambda x, nu, mu, sigma: -(nu + 1) / 2 * np.log1p(((x - mu) / sigma) ** 2 / nu),
        lambda x, nu, mu, sigma: (nu + 1) * (mu - x) / (nu * sigma * sigma + (x - mu) ** 2),
        lambda rng, size, nu, mu, sigma: mu + sigma * rng.standard_t(nu, size),
    ),
    "HalfStudentT": Density(
        {"nu": _NEEDED, "sigma": 1.0},
        POSITIVE,
        lambda x, nu, sigma: -(nu + 1) / 2 * np.log1p((x / sigma) ** 2 / nu),
        lambda x, nu, sigma: -(nu + 1) * x / (nu * sigma * sigma + x * x),
        lambda rng, size, nu, sigma: np.abs(sigma * rng.standard_t(nu, size)),
    ),
    "Cauchy": Density(
        {"alpha": 0.0, "beta": 1.0},
        REAL,
        lambda x, alpha, beta: -np.log1p(((x - alpha) / beta) ** 2),
        lambda x, alpha, beta: 2 * (alpha - x) / (beta * beta + (x - alpha) ** 2),
        lambda rng, size, alpha, beta: alpha + beta * rng.standard_cauchy(size),
    ),
    "HalfCauchy": Density(
        {"beta": 1.0},
        POSITIVE,
        lambda x, beta: -np.log1p((x / beta) ** 2),
        lambda x, beta: -2 * x / (beta * beta + x * x),
        lambda rng, size, beta: np.abs(beta * rng.standard_cauchy(size)),
    ),
    "Gamma": Density(
        {"alpha": _NEEDED, "beta": 1.0},
        POSITIVE,
        lambda x, alpha, beta: (alpha - 1) * np.log(x) - beta * x,
        lambda x, alpha, beta: (alpha - 1) / x - beta,
        lambda rng, size, alpha, beta: rng.gamma(alpha, 1 / np.asarray(beta), size),
    ),
    "InverseGamma": Density(
        {"alpha": _NEEDED, "beta": 1.0},
        POSITIVE,
        lambda x, alpha, beta: -(alpha + 1) * np.log(x) - beta / x,
        lambda x, alpha, beta: -(alpha + 1) / x + beta / (x * x),
        lambda rng, size, alpha, beta: beta / rng.gamma(alpha, 1.0, size),
    ),
    "Exponential": Density(
        {"lam": 1.0},
        POSITIVE,
        lambda x, lam: -lam * x,
        lambda x, lam: -lam + 0 * x,
        lambda rng, size, lam: rng.exponential(1 / np.asarray(lam), size),
    ),
    "LogNormal": Density(
        {"mu": 0.0, "sigma": 1.0},
        POSITIVE,
        lambda x, mu, sigma: -0.5 * ((np.log(x) - mu) / sigma) ** 2 - np.log(x),
        lambda x, mu, sigma: -((np.log(x) - mu) / (sigma * sigma) + 1) / x,
        lambda rng, size, mu, sigma: rng.lognormal(mu, sigma, size),
    ),
    "Laplace": Density(
        {"mu": 0.0, "b": 1.0},
        REAL,
        lambda x, mu, b: -np.abs(x - mu) / b,
        lambda x, mu, b: -np.sign(x - mu) / b,
        lambda rng, size, mu, b: rng.laplace(mu, b, size),
    ),
    "Logistic": Density(
        {"mu": 0.0, "s": 1.0},
        REAL,
        lambda x, mu, s: -2 * np.logaddexp((x - mu) / (2 * s), -(x - mu) / (2 * s)),
        lambda x, mu, s: -np.tanh((x - mu) / (2 * s)) / s,
        lambda rng, size, mu, s: rng.logistic(mu, s, size),
    ),
    "Beta": Density(
        {"alpha": _NEEDED, "beta": _NEEDED},
        (0.0, 1.0),
        lambda x, alpha, beta: (alpha - 1) * np.log(x) + (beta - 1) * np.log1p(-x),
        lambda x, alpha, beta: (alpha - 1) / x - (beta - 1) / (1 - x),
        lambda rng, size, alpha, beta: rng.beta(alpha, beta, size),
    ),
    "Uniform": Density(
        {"lower": 0.0, "upper": 1.0},
        REAL,  # narrowed to (lower, upper) by Prior.support
        lambda x, lower, upper: 0.0 * x,
        lambda x, lower, upper: 0.0 * x,
        lambda rng, size, lower, upper: rng.uniform(lower, upper, size),
    ),
    # Of a whole correlation matrix; `covariance.unstructured` says what it is there.
    "LKJCorr": Density({"eta": _NEEDED}, (-1.0, 1.0), *[lambda *a, **k: np.nan] * 3),
}


@dataclass(frozen=True, init=False, eq=False)
class Prior:
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

    @classmethod
    def fixed(cls, value: float) -> Self:
        """Make a "prior" that holds a parameter at one value."""
        self = cls.__new__(cls)
        object.__setattr__(self, "distribution", "Fixed")
        object.__setattr__(self, "arguments", MappingProxyType({"value": float(value)}))
        return self

    def __repr__(self) -> str:
        inside = ", ".join(f"{k}={_short(v)}" for k, v in self.arguments.items())
        return f"{self.distribution}({inside})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.distribution, dict(self.arguments))

    @property
    def is_fixed(self) -> bool:
        """Whether the parameter is a constant, not estimated."""
        return self.distribution == "Fixed"

    @property
    def support(self) -> tuple[float, float]:
        """The interval in which the density is positive."""
        if self.distribution == "Truncated":
            inner = self.arguments["dist"].support
            lower, upper = self.arguments.get("lower"), self.arguments.get("upper")
            return (
                inner[0] if lower is None else max(inner[0], lower),
                inner[1] if upper is None else min(inner[1], upper),
            )
        if self.distribution == "Uniform":
            known = DENSITIES["Uniform"].defaults | dict(self.arguments)
            return float(np.min(known["lower"])), float(np.max(known["upper"]))
        if self.distribution == "Fixed":
            return self.arguments["value"], self.arguments["value"]
        if self.distribution in DENSITIES:
            return DENSITIES[self.distribution].support
        return _graph_support(self.distribution)

    def element(self, k: int, size: int) -> "Prior":
        """Give the prior of the k-th of `size` parameters, where an argument has one entry each."""
        if self.is_fixed:
            return self
        return Prior(self.distribution, **{n: _entry(v, k, size) for n, v in self.arguments.items()})

    def core(self, x: Array) -> Array:
        """Evaluate the log density up to a constant, elementwise; `x` inside the support."""
        density, arguments = self._numeric()
        return density.core(x, **arguments)

    def score(self, x: Array) -> Array:
        """Differentiate `core` by x, elementwise."""
        density, arguments = self._numeric()
        return density.score(x, **arguments)

    def sample(self, rng: np.random.Generator, size: tuple[int, ...]) -> Array:
        """Draw from the prior."""
        if self.is_fixed:
            return np.full(size, self.arguments["value"])
        if self.distribution == "Truncated":
            return self._sample_inside(rng, size)
        density, arguments = self._numeric()
        return density.sample(rng, size, **arguments)

    def variable(self, name: str, *, dims: Any = None, shape: Any = None) -> Any:
        """Enter the prior's variable into the `pm.Model` that is open."""
        import pymc as pm

        size = {"dims": dims} if dims is not None else {"shape": shape} if shape else {}
        return getattr(pm, self.distribution)(name, **self._symbolic_arguments(), **size)

    def _symbolic_arguments(self) -> dict[str, Any]:
        import pymc as pm

        return {
            k: getattr(pm, v.distribution).dist(**v._symbolic_arguments())
            if isinstance(v, Prior)
            else v
            for k, v in self.arguments.items()
        }

    def _numeric(self) -> tuple[Density, dict[str, Any]]:
        if self.distribution == "Truncated":
            return self.arguments["dist"]._numeric()  # inside its bounds, equal up to a constant
        known = DENSITIES.get(self.distribution)
        if known is None or not set(self.arguments) <= set(known.defaults):
            return _graph_density(self.distribution, tuple(self.arguments)), dict(self.arguments)
        return known, {**known.defaults, **self.arguments}

    def _sample_inside(self, rng: np.random.Generator, size: tuple[int, ...]) -> Array:
        lower, upper = self.support
        draws = self.arguments["dist"].sample(rng, size)
        for _ in range(1000):
            outside = (draws <= lower) | (draws >= upper)
            if not outside.any():
                return draws
            draws = np.where(outside, self.arguments["dist"].sample(rng, size), draws)
        raise NotSupportedError(
            f"Drawing from {self!r} by rejection failed: almost none of its mass lies between "
            f"{lower:g} and {upper:g}; choose bounds nearer to the bulk of the distribution."
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
    if hasattr(value, "param_names") and hasattr(value, "params"):
        arguments = {n: float(v) for n, v in zip(value.param_names, value.params, strict=True)}
        return Prior(type(value).__name__, **arguments)
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
        nested = any(isinstance(v, Prior) for v in prior.arguments.values())
        key = (repr(prior),) if nested else (prior.distribution, *prior.arguments)
        forms.setdefault(key, []).append(k)
    out = []
    for positions in forms.values():
        first = priors[positions[0]]
        stacked = {
            n: v if isinstance(v, Prior) else np.array([priors[k].arguments[n] for k in positions])
            for n, v in first.arguments.items()
        }
        out.append((_rebuild(first.distribution, stacked), np.array(positions)))
    return out


def _rebuild(distribution: str, arguments: Mapping[str, Any]) -> Prior:
    self = Prior.__new__(Prior)
    object.__setattr__(self, "distribution", distribution)
    object.__setattr__(self, "arguments", MappingProxyType(dict(arguments)))
    return self


def _short(value: Any) -> str:
    if isinstance(value, Prior):
        return repr(value)
    array = np.asarray(value)
    if array.ndim == 0:
        return f"{array.item():.4g}" if array.dtype.kind == "f" else str(array.item())
    return "[" + ", ".join(_short(v) for v in array.ravel()) + "]"


def _entry(value: Any, k: int, size: int) -> Any:
    if isinstance(value, Prior) or np.ndim(value) == 0 or len(value) != size:
        return value
    return np.asarray(value)[k]


def _check_arguments(distribution: str, arguments: Iterable[str]) -> None:
    if distribution in DENSITIES and set(arguments) <= set(DENSITIES[distribution].defaults):
        density = DENSITIES[distribution]
        missing = [n for n, v in density.defaults.items() if v != v and n not in set(arguments)]
        if not missing:
            return
        raise UnknownNameError(f"The prior {distribution!r} needs {', '.join(missing)}.")
    if distribution == "Truncated" and {"dist"} <= set(arguments) <= {"dist", "lower", "upper"}:
        return
    import inspect

    import pymc as pm

    found = getattr(pm, str(distribution), None)
    if not (inspect.isclass(found) and issubclass(found, pm.Distribution)):
        raise UnknownNameError(
            f"PyMC has no distribution {distribution!r}. {suggestion(str(distribution), DENSITIES)}"
        )
    known = [n for n in inspect.signature(found.dist).parameters if n not in ("args", "kwargs")]
    for name in arguments:
        if name not in known:
            raise UnknownNameError(
                f"The distribution {distribution!r} has no argument {name!r}. "
                f"{suggestion(name, known)}"
            )


@lru_cache
def _graph_support(distribution: str) -> tuple[float, float]:
    import pymc as pm

    base = getattr(pm, distribution)
    if issubclass(base, pm.distributions.continuous.PositiveContinuous):
        return POSITIVE
    if issubclass(base, pm.distributions.continuous.UnitContinuous):
        return 0.0, 1.0
    return REAL


@lru_cache
def _graph_density(distribution: str, names: tuple[str, ...]) -> Density:
    """Derive a density from PyMC's graph, for a distribution that has no formula above."""
    import pymc as pm
    import pytensor
    import pytensor.tensor as pt

    x = pt.vector("x")
    arguments = {n: pt.vector(n) for n in names}
    dist = getattr(pm, distribution).dist(**arguments)
    if dist.ndim != 1:
        raise NotSupportedError(
            f"{distribution!r} is a distribution of several dimensions; as a prior of single "
            f"parameters use one of {', '.join(sorted(set(DENSITIES) - {'LKJCorr'}))}."
        )
    logp = pm.logp(dist, x)
    mode = pytensor.compile.mode.Mode(linker="py", optimizer="fast_compile")
    inputs = [x, *arguments.values()]
    value = pytensor.function(inputs, logp, mode=mode, on_unused_input="ignore")
    slope = pytensor.function(
        inputs, pytensor.grad(logp.sum(), x), mode=mode, on_unused_input="ignore"
    )

    def evaluate(function: Any, x: Array, given: Mapping[str, Any]) -> Array:
        flat, *rest = np.broadcast_arrays(np.asarray(x, float), *[given[n] for n in names])
        return function(flat.ravel(), *[np.ravel(a).astype(float) for a in rest]).reshape(flat.shape)

    def sample(rng: np.random.Generator, size: tuple[int, ...], **given: Any) -> Array:
        drawn = getattr(pm, distribution).dist(**given, size=size)
        return pm.draw(drawn, random_seed=rng, mode=mode)

    return Density(
        dict.fromkeys(names, _NEEDED),
        _graph_support(distribution),
        lambda x, **given: evaluate(value, x, given),
        lambda x, **given: evaluate(slope, x, given),
        sample,
    )
