"""The full posterior, by the No-U-Turn sampler."""

import os
import time
import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import xarray as xr

from glmm_bayes.draws import Draws, from_dataset
from glmm_bayes.errors import (
    ConvergenceWarning,
    NotSupportedError,
    UnknownNameError,
)
from glmm_bayes.fit import PosteriorFit
from glmm_bayes.inference.checks import check_counts, chosen_seed
from glmm_bayes.inference.methods import METHODS
from glmm_bayes.model import Model
from glmm_bayes.modes.reading import has_masses
from glmm_bayes.registry import suggestion
from glmm_bayes.results import posterior_tree

STARTS = ("auto", "mode", "prior")
STARTS_OF = {"nutpie": STARTS, "collapsed": ("auto", "mode")}


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
    start: str = "auto",
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
        The mean acceptance that the step size aims at, in (0, 1); by default the sampler's own, and
        0.95 of our own density where coefficients shrink together or are monotonic.
    sampler
        `"nutpie"` (also `"auto"`) draws from our own density, compiled once for all models;
        `"pymc"`, `"numpyro"` and `"blackjax"` from `model.pymc`, which is compiled each time.
        `"collapsed"` draws coefficients, covariance parameters and constants from their marginal
        density, and the random effects given these: exactly for a normal response, else by
        Laplace's approximation, which the fit says. Effects of `dist="mixture"` are drawn so by
        `"nutpie"` too, exactly.
    start
        Of our own density: `"mode"` searches the posterior's mode, starts around it and samples
        in coordinates that its curvature and each level's own data whiten; `"prior"` starts as
        the priors are spread, and samples in the coordinates of `centering`; `"auto"` is
        `"mode"`, unless `centering` was chosen by hand or there is no mode.
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
    check_counts(1, draws=draws, tune=tune, chains=chains)
    check_counts(1, **({} if cores is None else {"cores": cores}))
    seed, name = chosen_seed(seed), _available(_fitting(model, sampler))
    settings = {
        "draws": draws,
        "tune": tune,
        "chains": chains,
        "cores": cores or min(chains, os.cpu_count() or 1),
        "target_accept": _checked_acceptance(target_accept),
        "start": _checked_start(name, start),
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
    fit = PosteriorFit(
        model,
        lambda: posterior_tree(model, found, statistics, seed),
        "nuts",
        seed,
        time.perf_counter() - began,
        {"sampler": sampler, **settings, **options},
        draws=found,
        statistics=statistics,
    )
    _warn(fit)
    return fit


METHODS.add("nuts", nuts)


def _checked_acceptance(target: float | None) -> float | None:
    if target is not None and not (isinstance(target, float) and 0 < target < 1):
        raise UnknownNameError(f"target_accept={target!r} must lie between 0 and 1.")
    return target


def _checked_start(sampler: str, start: str) -> str:
    if start not in STARTS:
        raise UnknownNameError(f"start={start!r} is not known. {suggestion(str(start), STARTS)}")
    if start not in STARTS_OF.get(sampler, ("auto", "prior")):
        raise NotSupportedError(
            f"start={start!r} is not for sampler={sampler!r}; use start='auto'."
        )
    return start


def _available(sampler: str) -> str:
    """Give the sampler's name, or say how its package is had."""
    name = "nutpie" if sampler == "auto" else sampler
    if name not in SAMPLERS:
        raise UnknownNameError(f"There is no sampler {name!r}. {suggestion(name, SAMPLERS)}")
    package = "nutpie" if name == "collapsed" else name
    if find_spec(package) is None:
        raise NotSupportedError(
            f'sampler={name!r} needs the package {package}: pip install "glmm-bayes[samplers]".'
        )
    return name


def _fitting(model: Model, sampler: str) -> str:
    """Give the sampler; that which sums over classes where there are effects of these."""
    if not has_masses(model):
        return sampler
    if sampler in ("numpyro", "blackjax"):
        raise NotSupportedError(
            f"sampler={sampler!r} draws no classes, as dist='mixture' has; sampler='nutpie' sums "
            f"over them, and sampler='pymc' draws them too."
        )
    return "collapsed" if sampler in ("auto", "nutpie") else sampler


def _warn(fit: PosteriorFit) -> None:
    words = fit.diagnostics().problems
    if words:
        warnings.warn(" ".join(words), ConvergenceWarning, stacklevel=4)


def _by_nutpie(
    model: Model, seed: int, settings: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[Draws, xr.Dataset]:
    from glmm_bayes.inference.by_nutpie import sample

    return sample(model, seed, settings, options)


def _collapsed(
    model: Model, seed: int, settings: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[Draws, xr.Dataset]:
    from glmm_bayes.inference.collapsed import sample

    return sample(model, seed, settings, options)


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
    "collapsed": _collapsed,
}
