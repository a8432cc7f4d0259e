"""Kernels derived from a PyMC distribution's graph, for families that state nothing else."""

from typing import Any

import numpy as np


def _graph(family: Any, with_trials: bool) -> tuple[Any, list[Any], Any, dict[str, Any]]:
    import pytensor.tensor as pt

    from glmm_bayes.arrays import graph

    trials = pt.vector("trials") if with_trials else None
    params = {p.name: pt.vector(p.name) for p in family.parameters}
    arguments = family.arguments(params, trials, graph())
    inputs = [*params.values(), *([trials] if with_trials else [])]
    return family.symbolic().dist(**arguments), inputs, trials, params


def _function(inputs: list[Any], outputs: Any) -> Any:
    import pytensor

    mode = pytensor.compile.mode.Mode(linker="py", optimizer="fast_compile")
    return pytensor.function(inputs, outputs, mode=mode, on_unused_input="ignore")


def derived_kernel(family: Any) -> tuple[Any, Any]:
    """Compile the log density and its derivatives by the parameters from the family's graph."""
    import pymc as pm
    import pytensor
    import pytensor.tensor as pt

    compiled: dict[bool, tuple[Any, Any]] = {}

    def functions(with_trials: bool) -> tuple[Any, Any]:
        if with_trials not in compiled:
            dist, inputs, _, params = _graph(family, with_trials)
            y = pt.vector("y", dtype="int64" if dist.dtype.startswith("int") else "float64")
            logp = pm.logp(dist, y)
            grads = pytensor.grad(logp.sum(), list(params.values()))
            compiled[with_trials] = _function([y, *inputs], logp), _function([y, *inputs], grads)
        return compiled[with_trials]

    def arrays(y: Any, trials: Any, params: Any) -> tuple[list[np.ndarray], tuple[int, ...], Any]:
        given = [params[p.name] for p in family.parameters]
        extra = [] if trials is None else [trials]
        full = np.broadcast_arrays(np.asarray(y, float), *given, *extra)
        flat = [np.ravel(a).astype(float) for a in full]
        value, slopes = functions(trials is not None)
        kind = value.input_storage[0].type.dtype
        return [flat[0].astype(kind), *flat[1:]], full[0].shape, (value, slopes)

    def core(y: Any, trials: Any, params: Any) -> np.ndarray:
        flat, shape, (value, _) = arrays(y, trials, params)
        return value(*flat).reshape(shape)

    def score(y: Any, trials: Any, params: Any) -> dict[str, np.ndarray]:
        flat, shape, (_, slopes) = arrays(y, trials, params)
        found = slopes(*flat)
        return {p.name: g.reshape(shape) for p, g in zip(family.parameters, found, strict=True)}

    return core, score


def derived_draw(family: Any, rng: np.random.Generator, params: Any, trials: Any, size: Any) -> Any:
    """Draw from the family's PyMC distribution."""
    import pymc as pm
    import pytensor

    from glmm_bayes.arrays import graph

    mode = pytensor.compile.mode.Mode(linker="py", optimizer="fast_compile")
    full = {k: np.broadcast_to(v, size) for k, v in params.items()}
    given = None if trials is None else np.broadcast_to(trials, size)
    arguments = family.arguments(full, given, graph())
    return pm.draw(family.symbolic().dist(**arguments), random_seed=rng, mode=mode)
