"""NUTS by nutpie, on the model's own density: its coordinates, starting points and draws."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from glmm_bayes.density import Evaluate, compiled_density, read_density, sample_priors
from glmm_bayes.draws import Draws, from_unconstrained
from glmm_bayes.engine.density.joint import Joint
from glmm_bayes.errors import ConvergenceError, NotSupportedError
from glmm_bayes.model import Model
from glmm_bayes.modes.whitening import whitened_density
from glmm_bayes.unseen_density import integrated
from glmm_bayes.unseen_draws import with_true_values

# What a search may meet with, in which case there is sampling without it.
NO_MODE = (ConvergenceError, NotSupportedError, ArithmeticError, ValueError, MemoryError)
CAREFUL = 0.95  # acceptance, where scales of scales make the posterior narrow in places
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


@dataclass(frozen=True, eq=False)
class Prepared:
    """
    A density in the coordinates in which it is sampled.

    Attributes
    ----------
    evaluate
        Gives log density and gradient at `(size,)` coordinates.
    initial
        Makes a starting point.
    note
        In words, how it starts.
    """

    joint: Joint
    evaluate: Evaluate
    initial: Callable[[np.random.Generator], np.ndarray]
    note: str


def prepare(model: Model, seed: int, start: str) -> Prepared:
    """
    Choose coordinates and starting points: see `nuts`.

    Raises
    ------
    ConvergenceError
        If the mode is asked for and cannot be found.
    """
    why = "as asked for"
    if start == "auto" and model.dependents:
        start, why = "prior", "some coefficients are functions of other parameters"
    if start == "auto" and model.design.has_unknowns:
        start, why = "prior", "values of predictors or responses are sampled"
    if start == "mode" or (start == "auto" and model.asked_centering == "auto"):
        try:
            return _around_the_mode(model)
        except NO_MODE as error:
            if start == "mode":
                raise ConvergenceError(
                    f"There is no mode to start from ({error}); use start='prior'."
                ) from error
            why = f"the posterior's mode was not found: {error}"
    elif start == "auto":
        why = "centering was chosen by hand"
    joint = read_density(model)
    return Prepared(
        joint,
        compiled_density(model, joint),
        initial_point(model, joint, seed),
        f"Started as the priors are spread, in the coordinates of `centering`: {why}.",
    )


def _around_the_mode(model: Model) -> Prepared:
    joint = read_density(model, dict.fromkeys([term.name for term in model.design.terms], False))
    evaluate = whitened_density(model, joint)

    def start(rng: np.random.Generator) -> np.ndarray:
        for shrink in _SHRINK:
            # Wider than the posterior, whose standard deviations are about 1 here.
            point = shrink * rng.uniform(-2.0, 2.0, joint.size)
            if _is_finite(evaluate, point):
                return point
        raise ConvergenceError(
            "The posterior's density is not finite around its mode; use start='prior'."
        )

    return Prepared(
        joint, evaluate, start, "Started around the mode, in coordinates whitened by its curvature."
    )


_SHRINK = (1.0, 0.5, 0.1, 0.01) * 25


def _is_finite(evaluate: Evaluate, point: np.ndarray) -> bool:
    value, gradient = evaluate(point)
    return bool(np.isfinite(value) and np.isfinite(gradient).all())


def initial_point(
    model: Model, joint: Joint, seed: int
) -> Callable[[np.random.Generator], np.ndarray]:
    """
    Make starts that are spread as the priors are, but less.

    The outer parameters start within a quarter of their priors' interquartile range about the
    median, the effects within half a standard deviation.
    """
    x = joint.outer.unconstrain(sample_priors(model, np.random.default_rng(seed), 200))
    low, centre, high = np.quantile(x, (0.25, 0.5, 0.75), axis=0)
    inner = joint.size - joint.outer.size

    def start(rng: np.random.Generator) -> np.ndarray:
        for shrink in _SHRINK:
            outer = centre + shrink * rng.uniform(-0.25, 0.25, centre.shape) * (high - low)
            point = joint.place(outer, shrink * rng.uniform(-0.5, 0.5, inner))
            if _is_finite(joint.value_and_gradient, point):
                return point
        raise ConvergenceError(
            "No starting point has a finite density; look at model.prior_predictive() and give "
            "the coefficients narrower priors, or scale the predictors."
        )

    return start


def sample(
    model: Model, seed: int, settings: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[Draws, xr.Dataset]:
    """Draw from the model's own density."""
    prepared = prepare(model, seed, settings["start"])
    size = prepared.joint.size
    compiled = nutpie_model(size, prepared.evaluate, by_chain(prepared.initial))
    if model.dependents and settings["target_accept"] is None:
        settings = {**settings, "target_accept": CAREFUL}
    x, statistics = run(compiled, seed, settings, options)
    statistics.attrs["notes"] = prepared.note
    draws = from_unconstrained(model, prepared.joint, x.reshape(-1, size), len(x))
    rng = np.random.default_rng(seed)
    return with_true_values(model, integrated(model), draws, rng), statistics


def by_chain(
    initial: Callable[[np.random.Generator], np.ndarray],
) -> Callable[[Any], np.ndarray]:
    """Make starting points of the seeds that nutpie hands out, one a chain, of its own kind."""

    def start(seed: Any) -> np.ndarray:
        return initial(np.random.default_rng(np.frombuffer(repr(seed).encode(), dtype=np.uint8)))

    return start


def run(
    compiled: Any, seed: int, settings: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[np.ndarray, xr.Dataset]:
    """
    Sample a density of nutpie's.

    Returns
    -------
    x
        `(chains, draws, size)` what it keeps by that name.
    statistics
        By our names; after an interruption cut as the draws are, and marked.
    """
    import nutpie

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
    chains, done = completed(x)
    if done < settings["draws"] or len(chains) < settings["chains"]:
        x, statistics = x[chains, :done], statistics.isel(chain=chains, draw=slice(done))
        statistics = statistics.assign_coords(chain=np.arange(len(chains)))
        statistics.attrs["problems"] = (
            f"Interrupted: {len(chains)} of {settings['chains']} chains have {done} of the "
            f"{settings['draws']} draws asked for."
        )
    return x, statistics


def completed(x: np.ndarray) -> tuple[np.ndarray, int]:
    """
    Give the chains that have draws, and how many all of these have.

    Raises
    ------
    KeyboardInterrupt
        If there is none: then warming up was interrupted.
    """
    lengths = np.isfinite(x).all(axis=2).sum(axis=1)
    chains = np.flatnonzero(lengths)
    if not len(chains):
        raise KeyboardInterrupt("before the first draw")
    return chains, int(lengths[chains].min())


def nutpie_model(size: int, evaluate: Evaluate, initial: Callable[[Any], np.ndarray]) -> Any:
    """
    Hand a density to nutpie: as C functions where it is compiled, else as Python's.

    What nutpie keeps as `x` are the joint density's coordinates, whichever are sampled.
    """
    memory = getattr(evaluate, "memory", None)
    if memory is None:
        place = getattr(evaluate, "place", np.copy)
        return python_model(size, lambda: evaluate, place, initial)
    from nutpie.compile_pymc import CompiledPyMCModel

    density, expand = getattr(evaluate, "functions")  # noqa: B009
    return CompiledPyMCModel(
        dims={},
        reparameterized_names=[],
        compiled_logp_func=density,
        compiled_expand_func=expand,
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


def _quietly(evaluate: Evaluate) -> Evaluate:
    """Let numbers overflow far out, as they may in threads of the sampler's too."""

    def evaluated(x: np.ndarray) -> tuple[float, np.ndarray]:
        with np.errstate(all="ignore"):
            try:
                return evaluate(x)
            except np.linalg.LinAlgError:
                return -np.inf, np.zeros_like(x)

    return evaluated


def python_model(
    size: int,
    density: Callable[[], Evaluate],
    place: Callable[[np.ndarray], np.ndarray],
    initial: Callable[[Any], np.ndarray],
) -> Any:
    """Hand a density that is Python's to nutpie: `density` makes one for each chain."""
    from nutpie.compiled_pyfunc import from_pyfunc

    return from_pyfunc(
        size,
        lambda: _quietly(density()),
        lambda *_: lambda x: {"x": place(x)},
        [np.dtype(float)],
        [(size,)],
        ["x"],
        make_initial_point_fn=initial,
    )
