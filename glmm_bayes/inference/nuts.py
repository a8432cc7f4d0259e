"""The full posterior, by the No-U-Turn sampler."""

import os
import time
import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np
import xarray as xr

from glmm_bayes.density import Evaluate, compiled_density, read_density
from glmm_bayes.draws import Draws, from_dataset, from_unconstrained
from glmm_bayes.engine.joint import Joint
from glmm_bayes.errors import (
    ConvergenceError,
    ConvergenceWarning,
    NotSupportedError,
    UnknownNameError,
)
from glmm_bayes.fit import PosteriorFit
from glmm_bayes.inference.methods import METHODS
from glmm_bayes.model import Model
from glmm_bayes.registry import suggestion
from glmm_bayes.results import posterior_tree

STATISTICS = {
    "diverging": "diverging",
    "depth": "tree_depth",
    "maxdepth_reached": "reached_max_treedepth",
    "mean_tree_accept": "acceptance_rate",
    "n_steps": "n_steps",
    "step_size_bar": "step_size",
    "energy": "energy",
    "logp": "lp",
}


def nuts(
    model: Model,
    *,
    seed: int | None = None,
    draws: int = 1000,
    tune: int = 1000,
    chains: int = 4,
    cores: int | None = None,
    target_accept: float | None = None,
    sampler: str = "auto",
    progressbar: bool = True,
    **options: Any,
) -> PosteriorFit:
    """
    Draw from the posterior with the No-U-Turn sampler.

    Parameters
    ----------
    seed
        Makes the draws reproducible.
    draws, tune
        Draws kept and warm-up draws of each chain, at least one of both.
    chains, cores
        How many chains, and how many of them run at once.
    target_accept
        The mean acceptance that the step size aims at, in (0, 1); the sampler's own by default.
    sampler
        `"nutpie"` (also `"auto"`) draws from our own density, compiled once for all models;
        `"pymc"`, `"numpyro"` and `"blackjax"` from `model.pymc`, which is compiled each time.
    progressbar
        Whether progress is shown.
    **options
        Handed on to the sampler.

    Returns
    -------
    PosteriorFit
        With named draws in `idata`.

    Warns
    -----
    ConvergenceWarning
        If the diagnostics say that the draws should not be trusted yet.

    Notes
    -----
    Hoffman & Gelman (2014), J. Machine Learning Research 15, 1593-1623; Betancourt (2017).
    """
    _check_numbers(1, draws=draws, tune=tune, chains=chains)
    _check_numbers(1, **({} if cores is None else {"cores": cores}))
    _check_numbers(0, **({} if seed is None else {"seed": seed}))
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1)[0])
    name = _available(sampler)
    settings = {
        "draws": draws,
        "tune": tune,
        "chains": chains,
        "cores": cores or min(chains, os.cpu_count() or 1),
        "target_accept": _checked_acceptance(target_accept),
        "progressbar": progressbar,
    }
    began = time.perf_counter()
    try:
        found, statistics = SAMPLERS[name](model, seed, settings, options)
    except (AttributeError, TypeError) as error:
        if not options:
            raise
        raise UnknownNameError(
            f"sampler={name!r} does not take {', '.join(map(repr, options))}: {error}."
        ) from error
    idata = posterior_tree(model, found, statistics, seed)
    used = {"sampler": sampler, **settings, **options}
    fit = PosteriorFit(model, idata, "nuts", seed, time.perf_counter() - began, used)
    _warn(fit)
    return fit


METHODS.add("nuts", nuts)


def _check_numbers(least: int, **counts: Any) -> None:
    for name, value in counts.items():
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or value < least:
            raise UnknownNameError(f"{name}={value!r} must be a whole number of at least {least}.")


def _checked_acceptance(target: float | None) -> float | None:
    if target is not None and not (isinstance(target, float) and 0 < target < 1):
        raise UnknownNameError(f"target_accept={target!r} must lie between 0 and 1.")
    return target


def _available(sampler: str) -> str:
    """Give the sampler's package, or say how it is had."""
    name = "nutpie" if sampler == "auto" else sampler
    if name == "collapsed":
        raise NotSupportedError("sampler='collapsed' is not built yet; use sampler='nutpie'.")
    if name not in SAMPLERS:
        raise UnknownNameError(f"There is no sampler {name!r}. {suggestion(name, SAMPLERS)}")
    if find_spec(name) is None:
        raise NotSupportedError(
            f'sampler={name!r} needs the package {name}: pip install "glmm-bayes[samplers]".'
        )
    return name


def _warn(fit: PosteriorFit) -> None:
    words = fit.diagnostics().problems
    if words:
        warnings.warn(" ".join(words), ConvergenceWarning, stacklevel=4)


# ---- nutpie, on our own density


def _by_nutpie(
    model: Model, seed: int, settings: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[Draws, xr.Dataset]:
    import nutpie

    joint = read_density(model)
    start = initial_point(model, joint, seed)

    def initial(seed: Any) -> np.ndarray:
        # nutpie hands out one seed a chain, of its own kind.
        rng = np.random.default_rng(np.frombuffer(repr(seed).encode(), dtype=np.uint8))
        return start(rng)

    compiled = _nutpie_model(joint.size, compiled_density(model, joint), initial)
    accept = settings["target_accept"]
    extra = {} if accept is None else {"target_accept": accept}
    with np.errstate(all="ignore"):
        tree = nutpie.sample(
            compiled,
            draws=settings["draws"],
            tune=settings["tune"],
            chains=settings["chains"],
            cores=settings["cores"],
            seed=seed,
            progress_bar=settings["progressbar"],
            save_warmup=False,
            **extra,
            **options,
        )
    x = tree["posterior"]["x"].to_numpy()
    statistics = tree["sample_stats"].to_dataset()
    kept = {old: new for old, new in STATISTICS.items() if old in statistics}
    statistics = statistics[list(kept)].rename(kept)
    return from_unconstrained(model, joint, x.reshape(-1, joint.size), len(x)), statistics


def _nutpie_model(size: int, evaluate: Evaluate, initial: Callable[[Any], np.ndarray]) -> Any:
    """Hand a density to nutpie: as C functions where it is compiled, else as Python's."""
    memory = getattr(evaluate, "memory", None)
    if memory is None:
        from nutpie.compiled_pyfunc import from_pyfunc

        return from_pyfunc(
            size,
            lambda: evaluate,
            lambda *_: lambda x: {"x": x},
            [np.dtype(float)],
            [(size,)],
            ["x"],
            make_initial_point_fn=initial,
        )
    from nutpie.compile_pymc import CompiledPyMCModel

    from glmm_bayes.engine.passes import c_functions

    density, copy = c_functions()
    return CompiledPyMCModel(
        dims={},
        reparameterized_names=[],
        compiled_logp_func=density,
        compiled_expand_func=copy,
        initial_point_func=initial,
        shared_data={},
        shared_var_keys={},
        user_data=memory,
        n_expanded=size,
        shape_info=(["x"], [slice(0, size)], [(size,)]),
        logp_func=None,
        expand_func=None,
        _n_dim=size,
        _shapes={"x": (size,)},
        _coords={},
    )


def initial_point(
    model: Model, joint: Joint, seed: int
) -> Callable[[np.random.Generator], np.ndarray]:
    """
    Make starts that are spread as the priors are, but less.

    The outer parameters start within a quarter of their priors' interquartile range about the
    median, the effects within half a standard deviation.
    """
    rng = np.random.default_rng(seed)
    priors = [prior for block in model.blocks for prior in block.priors]
    drawn = np.stack([prior.sample(rng, (200,)) for prior in priors], axis=1)
    x = joint.outer.unconstrain(drawn)
    low, centre, high = np.quantile(x, (0.25, 0.5, 0.75), axis=0)
    inner = joint.size - joint.outer.size

    def start(rng: np.random.Generator) -> np.ndarray:
        for shrink in (1.0, 0.5, 0.1, 0.01) * 25:
            outer = centre + shrink * rng.uniform(-0.25, 0.25, centre.shape) * (high - low)
            point = joint.place(outer, shrink * rng.uniform(-0.5, 0.5, inner))
            value, gradient = joint.value_and_gradient(point)
            if np.isfinite(value) and np.isfinite(gradient).all():
                return point
        raise ConvergenceError(
            "No starting point has a finite density; look at model.prior_predictive() and give "
            "the coefficients narrower priors, or scale the predictors."
        )

    return start


# ---- samplers of the PyMC model


def _by_pymc(sampler: str) -> Callable[..., tuple[Draws, xr.Dataset]]:
    def sample(
        model: Model, seed: int, settings: Mapping[str, Any], options: Mapping[str, Any]
    ) -> tuple[Draws, xr.Dataset]:
        import pymc as pm

        accept = settings["target_accept"]
        extra = {} if accept is None else {"target_accept": accept}
        tree = pm.sample(
            draws=settings["draws"],
            tune=settings["tune"],
            chains=settings["chains"],
            cores=settings["cores"],
            random_seed=seed,
            progressbar=settings["progressbar"],
            nuts_sampler=sampler,
            compute_convergence_checks=False,
            model=model.pymc,
            **extra,
            **options,
        )
        return from_dataset(model, tree["posterior"].to_dataset()), tree[
            "sample_stats"
        ].to_dataset()

    return sample


SAMPLERS: dict[str, Callable[..., tuple[Draws, xr.Dataset]]] = {
    "nutpie": _by_nutpie,
    "pymc": _by_pymc("pymc"),
    "numpyro": _by_pymc("numpyro"),
    "blackjax": _by_pymc("blackjax"),
}
