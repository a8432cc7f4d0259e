"""Kernels derived from a PyMC distribution's graph, for families that state nothing else."""

from collections.abc import Callable
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from glmm_bayes.families.family import Array, Family, Kernel, Params

type Compiled = tuple[Callable[..., Any], Callable[..., Any], np.dtype]
WHOLE_KINDS = "iub"  # of a discrete distribution, whose density PyMC wants at whole numbers


def _mode() -> Any:
    from pytensor.compile.mode import Mode

    # Compiling to C takes seconds, which a density of a few thousand rows never earns back.
    return Mode(linker="py", optimizer="fast_compile")


def _compile(family: "Family", with_trials: bool) -> Compiled:
    """Compile the log density and its gradient, as functions of y, parameters and trials."""
    import pymc as pm
    import pytensor
    import pytensor.tensor as pt

    trials = pt.vector("trials") if with_trials else None
    params = {p.name: pt.vector(p.name) for p in family.parameters}
    dist = family.symbolic().dist(**family.symbolic_arguments(params, trials))
    kind = np.dtype(int if np.dtype(dist.dtype).kind in WHOLE_KINDS else float)
    y = pt.vector("y", dtype=kind.name)
    logp = pm.logp(dist, y)
    slopes = pytensor.grad(logp.sum(), list(params.values()))
    inputs = [y, *params.values(), *([trials] if with_trials else [])]
    value = pytensor.function(inputs, logp, mode=_mode(), on_unused_input="ignore")
    gradient = pytensor.function(inputs, slopes, mode=_mode(), on_unused_input="ignore")
    return value, gradient, kind


def derived_kernel(family: "Family") -> "tuple[Kernel, Callable[..., dict[str, Array]]]":
    """Make the log density, with every constant, and its derivatives by the parameters."""
    compiled = lru_cache(lambda with_trials: _compile(family, with_trials))
    names = [p.name for p in family.parameters]
    alone = Lock()  # a compiled graph keeps its work space, which two chains must not share

    def rows(y: "Array", trials: "Array | None", params: "Params") -> tuple[list[np.ndarray], Any]:
        given = [y, *(params[name] for name in names), *([] if trials is None else [trials])]
        full = np.broadcast_arrays(*given)
        flat = [np.ravel(a).astype(float) for a in full]
        flat[0] = flat[0].astype(compiled(trials is not None)[2])
        return flat, full[0].shape

    def core(y: "Array", trials: "Array | None", params: "Params") -> "Array":
        flat, shape = rows(y, trials, params)
        with alone:
            return compiled(trials is not None)[0](*flat).reshape(shape)

    def score(y: "Array", trials: "Array | None", params: "Params") -> "dict[str, Array]":
        flat, shape = rows(y, trials, params)
        with alone:
            slopes = compiled(trials is not None)[1](*flat)
        return {name: g.reshape(shape) for name, g in zip(names, slopes, strict=True)}

    return core, score


def derived_draw(
    family: "Family",
    rng: np.random.Generator,
    params: "Params",
    trials: "Array | None",
    size: int | tuple[int, ...],
) -> "Array":
    """Draw from the family's PyMC distribution."""
    import pymc as pm

    full = {k: np.broadcast_to(v, size) for k, v in params.items()}
    given = None if trials is None else np.broadcast_to(trials, size)
    dist = family.symbolic().dist(**family.symbolic_arguments(full, given))
    return pm.draw(dist, random_seed=rng, mode=_mode())
