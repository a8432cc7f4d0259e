"""
Posteriors by one way, in a process of its own: read a task, fit, write what it took.

`runner` starts it, maybe with the Python of another environment, so nothing is imported here that
is not in both.
"""

import gc
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from benchmarks.processes import forget_peak, peak_bytes, processor_seconds
from benchmarks.tables import read_table

type Task = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Drawn:
    """
    A posterior whose summary has been printed.

    Attributes
    ----------
    posterior
        Gives the draws as a Dataset, when asked.
    is_outer
        Says by its name whether a variable is to be judged: no effects, nothing auxiliary.
    """

    posterior: Callable[[], Any]
    is_outer: Callable[[str], bool]


class Meter:
    """Processor seconds of sampling alone; None where nothing has told them."""

    def __init__(self) -> None:
        self.seconds: float | None = None

    def add(self, seconds: float) -> None:
        self.seconds = (self.seconds or 0.0) + seconds

    def metered[**P, R](self, function: Callable[P, R]) -> Callable[P, R]:
        """Make what calls of a function take be counted."""

        @wraps(function)
        def called(*args: P.args, **options: P.kwargs) -> R:
            began = processor_seconds()
            try:
                return function(*args, **options)
            finally:
                self.add(processor_seconds() - began)

        return called

    def taken(self) -> float | None:
        """Give what was counted since it was last asked."""
        seconds, self.seconds = self.seconds, None
        return seconds


def draw_posthoc(task: Task, data: Any, meter: Meter) -> Drawn:
    # Its warm-up is its own; a way of another kind in its place would be a failure.
    return _ours("posthoc", task, data, fallback=False)


def draw_nuts(task: Task, data: Any, meter: Meter) -> Drawn:
    return _ours("nuts", task, data, tune=task["tune"], sampler=task["sampler"])


def _ours(method: str, task: Task, data: Any, **options: Any) -> Drawn:
    import glmm_bayes as gb
    from glmm_bayes.draws import to_dataset

    model = gb.Model(task["formula"], data, family=task["family"])
    fit = model.fit(method, seed=task["seed"], progressbar=False, **_shared(task), **options)
    print(fit.summary())
    return Drawn(lambda: to_dataset(model, fit.draws), of_our_model)


def draw_control(task: Task, data: Any, meter: Meter) -> Drawn:
    import nutpie

    import glmm_bayes as gb

    model = gb.Model(task["formula"], data, family=task["family"])
    # nutpie's jitter of 1 on the coefficient of a covariate such as grouseticks' height in metres
    # has its chains start where the counts are beyond all bounds, and stay there. Without any, a
    # slope may be exactly 0, which it refuses.
    graph = model.pymc
    shaken = {rv for rv in graph.free_RVs if not rv.name.startswith("gamma")}
    compiled = nutpie.compile_pymc_model(graph, jitter_rvs=shaken)
    tree = nutpie.sample(
        compiled,
        tune=task["tune"],
        seed=task["seed"],
        progress_bar=False,
        save_warmup=False,
        **_shared(task),
    )
    return _summarised(tree, of_our_model)


def draw_bambi(task: Task, data: Any, meter: Meter) -> Drawn:
    bambi = import_module("bambi")

    def count(trace: Any, draw: Any) -> None:
        meter.add(sum(statistics["process_time_diff"] for statistics in draw.stats))

    # nutpie takes no callback, and is metered itself.
    telling = {"callback": count} if task["sampler"] == "pymc" else {}
    tree = bambi.Model(task["formula"], data, family=task["family"]).fit(
        tune=task["tune"],
        random_seed=task["seed"],
        inference_method=task["sampler"],
        progressbar=False,
        **_shared(task),
        **telling,
    )
    return _summarised(tree, of_bambi)


def _shared(task: Task) -> dict[str, int]:
    """Give the settings that every side has by these names."""
    return {name: task[name] for name in ("draws", "chains", "cores")}


def _summarised(tree: Any, is_outer: Callable[[str], bool]) -> Drawn:
    import arviz

    names = [name for name in tree["posterior"].data_vars if is_outer(name)]
    print(arviz.summary(tree, var_names=names))
    return Drawn(lambda: tree["posterior"].to_dataset(), is_outer)


def of_our_model(name: str) -> bool:
    """Tell from effects and from what is only sampled by."""
    return not name.startswith(("b_", "v_", "gamma", "partial_"))


def of_bambi(name: str) -> bool:
    return "|" not in name or name.endswith("_sigma")


@dataclass(frozen=True)
class Side:
    """
    Who draws.

    Attributes
    ----------
    modules
        Loaded before the clock runs, as `library(rstanarm)` is.
    package
        Whose version is told.
    all_is_sampling
        Whether nothing of the work is set apart, such as compiling a model.
    """

    draw: Callable[[Task, Any, Meter], Drawn]
    modules: tuple[str, ...]
    package: str
    all_is_sampling: bool = False


OURS = ("glmm_bayes.inference", "arviz_stats.base", "formulaic", "numba", "scipy.linalg", "xarray")
SIDES = {
    "posthoc": Side(draw_posthoc, OURS, "glmm-bayes", all_is_sampling=True),
    "nuts": Side(draw_nuts, (*OURS, "nutpie", "nutpie.compiled_pyfunc"), "glmm-bayes"),
    "control": Side(draw_control, (*OURS, "pymc", "nutpie", "arviz"), "nutpie"),
    "bambi": Side(draw_bambi, ("bambi", "nutpie", "arviz"), "bambi"),
}


def outer_array(posterior: Any, is_outer: Callable[[str], bool]) -> Any:
    """Stack the outer parameters that vary: `(chain, draw, m)`."""
    import numpy as np

    columns = []
    for name in filter(is_outer, posterior.data_vars):
        values = posterior[name].transpose("chain", "draw", ...).to_numpy()
        columns.append(values.reshape(*values.shape[:2], -1))
    values = np.concatenate(columns, axis=2)
    # The diagonal of a correlation matrix is no parameter.
    return values[:, :, np.ptp(values, axis=(0, 1)) > 0]


def load(modules: Sequence[str], meter: Meter) -> None:
    """Load what is not to be measured, and have nutpie's sampling counted, whoever calls it."""
    for module in modules:
        import_module(module)
    nutpie = sys.modules.get("nutpie")
    if nutpie is not None:
        vars(nutpie)["sample"] = meter.metered(vars(nutpie)["sample"])


def main(path: Path) -> None:
    task = json.loads(path.read_text(encoding="utf-8"))
    side, meter = SIDES[task["kind"]], Meter()
    data = read_table(task["table"], task["levels"])
    load(side.modules, meter)
    gc.collect()
    forget_peak()
    fits: list[tuple[float, float, float | None]] = []
    from_start, peak = 0.0, 0
    while not fits or (
        sum(wall for _, wall, _ in fits) < task["patience"] and len(fits) < task["most_fits"]
    ):
        drawn = None  # or its draws would be held beside the next ones
        cpu, wall = processor_seconds(), time.perf_counter()
        drawn = side.draw(task, data, meter)
        wall, cpu = time.perf_counter() - wall, processor_seconds() - cpu
        # The first fit's: a later one may stand on what the first has left.
        from_start = from_start or time.time() - task["spawned"]
        peak = peak or peak_bytes()
        fits.append((cpu, wall, cpu if side.all_is_sampling else meter.taken()))
    assert drawn is not None
    import numpy as np

    np.save(path.with_name("draws.npy"), outer_array(drawn.posterior(), drawn.is_outer))
    version = metadata.version(side.package)
    report = {"fits": fits, "from_start": from_start, "peak": peak, "version": version}
    path.with_name("report.json").write_text(json.dumps(report), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
