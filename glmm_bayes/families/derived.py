"""Kernels derived from a PyMC distribution's graph, for families that state nothing else."""

from collections.abc import Callable
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from glmm_bayes.errors import NotSupportedError
from glmm_bayes.taylor import Taylor, expanded
from glmm_bayes.taylor.monomials import Monomial, Monomials

if TYPE_CHECKING:
    from glmm_bayes.families.family import Array, Family, Kernel, Params

type Compiled = tuple[Callable[..., Any], Callable[..., Any], np.dtype]
MOST_TERMS = 32  # of one operation, its result among them
WHOLE_KINDS = "iub"  # of a discrete distribution, whose density PyMC wants at whole numbers


def _mode() -> Any:
    from pytensor.compile.mode import Mode

    # Compiling to C takes seconds, which a density of a few thousand rows never earns back.
    return Mode(linker="py", optimizer="fast_compile")


def _graph(family: "Family", with_trials: bool) -> tuple[list[Any], Any, dict[str, Any]]:
    """Write the log density: its inputs y, parameters and trials, itself, and the parameters."""
    import pymc as pm
    import pytensor.tensor as pt

    trials = pt.vector("trials") if with_trials else None
    params = {p.name: pt.vector(p.name) for p in family.parameters}
    dist = family.symbolic().dist(**family.symbolic_arguments(params, trials))
    kind = np.dtype(int if np.dtype(dist.dtype).kind in WHOLE_KINDS else float)
    y = pt.vector("y", dtype=kind.name)
    inputs = [y, *params.values(), *([trials] if with_trials else [])]
    return inputs, pm.logp(dist, y), params


def _compile(family: "Family", with_trials: bool) -> Compiled:
    """Compile the log density and its gradient, as functions of y, parameters and trials."""
    import pytensor

    inputs, logp, params = _graph(family, with_trials)
    slopes = pytensor.grad(logp.sum(), list(params.values()))
    value = pytensor.function(inputs, logp, mode=_mode(), on_unused_input="ignore")
    gradient = pytensor.function(inputs, slopes, mode=_mode(), on_unused_input="ignore")
    return value, gradient, np.dtype(inputs[0].dtype)


def _rows(
    y: "Array", trials: "Array | None", params: "list[Array]", kind: np.dtype
) -> tuple[list[np.ndarray], tuple[int, ...]]:
    """Make vectors of equal length for a compiled graph; and their shape before."""
    full = np.broadcast_arrays(y, *params, *([] if trials is None else [trials]))
    flat = [np.ravel(a).astype(float) for a in full]
    flat[0] = flat[0].astype(kind)
    return flat, full[0].shape


def derived_kernel(family: "Family") -> "tuple[Kernel, Callable[..., dict[str, Array]]]":
    """Make the log density, with every constant, and its derivatives by the parameters."""
    compiled = lru_cache(lambda with_trials: _compile(family, with_trials))
    names = [p.name for p in family.parameters]
    alone = Lock()  # a compiled graph keeps its work space, which two chains must not share

    def core(y: "Array", trials: "Array | None", params: "Params") -> "Array":
        value, _, kind = compiled(trials is not None)
        flat, shape = _rows(y, trials, [params[name] for name in names], kind)
        with alone:
            return value(*flat).reshape(shape)

    def score(y: "Array", trials: "Array | None", params: "Params") -> "dict[str, Array]":
        _, gradient, kind = compiled(trials is not None)
        flat, shape = _rows(y, trials, [params[name] for name in names], kind)
        with alone:
            slopes = gradient(*flat)
        return {name: g.reshape(shape) for name, g in zip(names, slopes, strict=True)}

    return core, score


def derived_slope(family: "Family") -> "Callable[[Array, Params, tuple[int, ...]], Array]":
    """Make the log density's derivative by the response, as a function of y, parameters, shape."""
    import pytensor

    inputs, logp, params = _graph(family, False)
    slope = pytensor.grad(logp.sum(), inputs[0])
    compiled = pytensor.function(inputs, slope, mode=_mode(), on_unused_input="ignore")
    alone = Lock()

    def slopes(y: "Array", given: "Params", shape: tuple[int, ...]) -> "Array":
        full = [np.broadcast_to(value, shape) for value in (y, *(given[k] for k in params))]
        with alone:
            found: Array = compiled(*(a.ravel().astype(float) for a in full))
        return found.reshape(shape)

    return slopes


def _compile_partials(
    family: "Family", with_trials: bool, order: int
) -> tuple[Callable[..., Any], Monomials, np.dtype]:
    """Compile the log density and all its partial derivatives by the parameters, to an order."""
    import pytensor
    from pytensor.gradient import NullTypeGradError
    from pytensor.graph.utils import MethodNotDefined

    inputs, logp, params = _graph(family, with_trials)
    variables = list(params.values())
    partials: dict[Monomial, Any] = {(): logp}
    try:
        for size in range(order):
            for monomial in [m for m in partials if len(m) == size]:
                last = monomial[-1] if monomial else 0
                total, wrt = partials[monomial].sum(), variables[last:]
                slopes = pytensor.grad(total, wrt, disconnected_inputs="ignore")
                for k, slope in enumerate(slopes, start=last):
                    partials[(*monomial, k)] = slope
    except (MethodNotDefined, NotImplementedError, NullTypeGradError) as error:
        raise NotSupportedError(
            f"The PyMC distribution of the family {family.name!r} has no derivatives of order "
            f"{order}; give the family its `core`, written with NumPy's and SciPy's functions."
        ) from error
    # Sums and products made flat may have more terms than Python's evaluation takes: such stay.
    for excluded in ("local_add_canonizer", "canonicalize"):
        function = pytensor.function(
            inputs,
            list(partials.values()),
            mode=_mode().excluding(excluded, "fusion"),
            on_unused_input="ignore",
        )
        if all(len(node.inputs) < MOST_TERMS for node in function.maker.fgraph.toposort()):
            break
    return function, tuple(partials), np.dtype(inputs[0].dtype)


def derived_expansion(family: "Family") -> "Callable[[Array, Array | None, Params], Taylor]":
    """Make the log density, with every constant, as a function of Taylor numbers."""
    compiled = lru_cache(lambda with_trials, order: _compile_partials(family, with_trials, order))
    names = [p.name for p in family.parameters]
    alone = Lock()

    def expansion(y: "Array", trials: "Array | None", params: "Params") -> Taylor:
        numbers = [params[name] for name in names]
        function, monomials, kind = compiled(trials is not None, numbers[0].order)
        flat, shape = _rows(y, trials, [number.value for number in numbers], kind)
        with alone:
            partials = [p.reshape(shape) for p in function(*flat)]
        return expanded(dict(zip(monomials, partials, strict=True)), numbers)

    return expansion


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
