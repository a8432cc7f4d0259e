"""Densities of priors on plain arrays: written here, or derived from PyMC's graph."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np

from glmm_bayes.errors import NotSupportedError

type Array = np.ndarray
POSITIVE = (0.0, np.inf)
REAL = (-np.inf, np.inf)


@dataclass(frozen=True)
class Density:
    """
    A distribution on arrays: what a sampler needs of it.

    `core` is the log density up to a constant and `score` its derivative by x;
    both broadcast x against the arguments, of which `anywhere` may be zero or negative.
    """

    defaults: Mapping[str, float]  # every argument; NEEDED where it must be given
    support: tuple[float, float]
    core: Callable[..., Array]
    score: Callable[..., Array]
    sample: Callable[..., Array]
    anywhere: tuple[str, ...] = ("mu",)


def _of_a_matrix(*arguments: Any, **named: Any) -> Any:
    raise NotSupportedError(
        "'LKJCorr' is a distribution of a whole correlation matrix; "
        "give it to a term's 'corr', and a single parameter another prior."
    )


def _of_shares(*arguments: Any, **named: Any) -> Any:
    raise NotSupportedError(
        "'Dirichlet' is a distribution of all shares of a whole; give it to 'simo', the steps of "
        "mo( ), and a single parameter another prior."
    )


NEEDED = np.nan
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
        {"nu": NEEDED, "mu": 0.0, "sigma": 1.0},
        REAL,
        lambda x, nu, mu, sigma: -(nu + 1) / 2 * np.log1p(((x - mu) / sigma) ** 2 / nu),
        lambda x, nu, mu, sigma: (nu + 1) * (mu - x) / (nu * sigma * sigma + (x - mu) ** 2),
        lambda rng, size, nu, mu, sigma: mu + sigma * rng.standard_t(nu, size),
    ),
    "HalfStudentT": Density(
        {"nu": NEEDED, "sigma": 1.0},
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
        ("alpha",),
    ),
    "HalfCauchy": Density(
        {"beta": 1.0},
        POSITIVE,
        lambda x, beta: -np.log1p((x / beta) ** 2),
        lambda x, beta: -2 * x / (beta * beta + x * x),
        lambda rng, size, beta: np.abs(beta * rng.standard_cauchy(size)),
    ),
    "Gamma": Density(
        {"alpha": NEEDED, "beta": 1.0},
        POSITIVE,
        lambda x, alpha, beta: (alpha - 1) * np.log(x) - beta * x,
        lambda x, alpha, beta: (alpha - 1) / x - beta,
        lambda rng, size, alpha, beta: rng.gamma(alpha, 1 / np.asarray(beta), size),
    ),
    "InverseGamma": Density(
        {"alpha": NEEDED, "beta": 1.0},
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
        {"alpha": NEEDED, "beta": NEEDED},
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
        ("lower", "upper"),
    ),
    # Of a whole correlation matrix; `covariance.unstructured` says what it is there.
    "LKJCorr": Density({"eta": NEEDED}, (-1.0, 1.0), _of_a_matrix, _of_a_matrix, _of_a_matrix),
    # Of all shares of a whole; `dependents` says what it is of the sticks they are broken from.
    "Dirichlet": Density({"a": NEEDED}, (0.0, 1.0), _of_shares, _of_shares, _of_shares, ()),
}


def derived_support(distribution: str, arguments: Mapping[str, Any]) -> tuple[float, float]:
    """Ask PyMC for the interval in which a distribution has its mass."""
    import pymc as pm
    from pymc.distributions import continuous

    base = getattr(pm, distribution)
    if issubclass(base, continuous.PositiveContinuous):
        return POSITIVE
    if issubclass(base, continuous.UnitContinuous):
        return 0.0, 1.0
    if issubclass(base, continuous.CircularContinuous):
        return -np.pi, np.pi
    if not issubclass(base, continuous.BoundedContinuous):
        return REAL
    inputs = base.dist(**arguments).owner.inputs
    lower, upper = (None if at is None else inputs[at].eval() for at in base.bound_args_indices)
    return (
        -np.inf if lower is None else float(np.min(lower)),
        np.inf if upper is None else float(np.max(upper)),
    )


@lru_cache
def derived_density(distribution: str, names: tuple[str, ...]) -> Density:
    """Derive a density from PyMC's graph, for a distribution that has no formula above."""
    import pymc as pm
    import pytensor
    import pytensor.tensor as pt
    from pytensor.compile.mode import Mode

    x = pt.vector("x")
    arguments = {n: pt.vector(n) for n in names}
    dist = getattr(pm, distribution).dist(**arguments)
    if dist.owner.op.ndim_supp != 0:
        raise NotSupportedError(
            f"{distribution!r} is a distribution of several dimensions; as a prior of single "
            f"parameters use one of {', '.join(sorted(set(DENSITIES) - {'LKJCorr', 'Dirichlet'}))}."
        )
    logp = pm.logp(dist, x)
    mode = Mode(linker="py", optimizer="fast_compile")
    inputs = [x, *arguments.values()]
    value = pytensor.function(inputs, logp, mode=mode, on_unused_input="ignore")
    gradient = pytensor.grad(logp.sum(), x)
    slope = pytensor.function(inputs, gradient, mode=mode, on_unused_input="ignore")

    alone = Lock()  # a compiled graph keeps its work space, which two chains must not share

    def evaluate(function: Any, x: Array, given: Mapping[str, Any]) -> Array:
        full = np.broadcast_arrays(x, *(given[n] for n in names))
        with alone:
            return function(*(np.ravel(a).astype(float) for a in full)).reshape(full[0].shape)

    def sample(rng: np.random.Generator, size: tuple[int, ...], **given: Any) -> Array:
        drawn = getattr(pm, distribution).dist(**given, size=size)
        return pm.draw(drawn, random_seed=rng, mode=mode)

    return Density(
        dict.fromkeys(names, NEEDED),
        REAL,  # narrowed by Prior.support
        lambda x, **given: evaluate(value, x, given),
        lambda x, **given: evaluate(slope, x, given),
        sample,
    )
