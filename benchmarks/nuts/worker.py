"""
One measurement, in a process of its own: read a task, fit, write what it took.

`runner` starts it, maybe with the Python of another environment, so nothing is imported here that
is not in both, and nothing heavy before the clock runs.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.processes import peak_bytes

type Task = Mapping[str, Any]
type Found = tuple[Any, Callable[[str], bool]]  # posterior, and which of its variables are outer

# What a fit imports on its way, so that it counts as import and not as sampling.
IMPORTED = {
    "auto": ("glmm_bayes.inference.nuts", "glmm_bayes.engine.compiled", "nutpie.compiled_pyfunc"),
    "pymc": ("glmm_bayes.inference.nuts", "pymc"),
}


class Clock:
    """Seconds by phase, in the order they came."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - began


def measure_ours(task: Task, clock: Clock) -> Found:
    with clock.phase("import"):
        import glmm_bayes as gb

        for module in IMPORTED[task["sampler"]]:
            import_module(module)
    with clock.phase("data"):
        data = read_table(task)
    with clock.phase("model"):
        model = gb.Model(task["formula"], data, task["family"])
    if task["sampler"] == "auto":
        with clock.phase("compile"):
            evaluate_once(model, task["seed"])
    with clock.phase("sampling"):
        fit = model.fit("nuts", sampler=task["sampler"], seed=task["seed"], **settings(task))
    return fit.idata["posterior"].to_dataset(), lambda name: not name.startswith("b_")


def evaluate_once(model: Any, seed: int) -> None:
    """Call the compiled density a first time, which compiles it or reads it from the cache."""
    import numpy as np

    from glmm_bayes.density import compiled_density, read_density
    from glmm_bayes.inference.nuts import initial_point

    joint = read_density(model)
    x = initial_point(model, joint, seed)(np.random.default_rng(seed))
    compiled_density(model, joint)(x)


def measure_bambi(task: Task, clock: Clock) -> Found:
    with clock.phase("import"):
        bambi = import_module("bambi")
    with clock.phase("data"):
        data = read_table(task)
    with clock.phase("model"):
        model = bambi.Model(task["formula"], data, family=task["family"])
        model.build()
    with clock.phase("sampling"):
        posterior = model.fit(random_seed=task["seed"], **settings(task)).posterior
    # PyMC compiles within its call and times the sampling itself; the rest of the call, small
    # beside it, goes with the compiling.
    sampling = posterior.attrs.get("sampling_time")
    if sampling is not None:
        clock.seconds["compile"] = clock.seconds["sampling"] - sampling
        clock.seconds["sampling"] = sampling
    return posterior.to_dataset(), lambda name: "|" not in name or name.endswith("_sigma")


SIDES = {"glmm_bayes": measure_ours, "bambi": measure_bambi}


def read_table(task: Task) -> Any:
    """Read the data as both sides do; columns with levels become categorical."""
    import pandas as pd

    data = pd.read_csv(task["table"], dtype=dict.fromkeys(task["levels"], "str"))
    for column, levels in task["levels"].items():
        data[column] = pd.Categorical(data[column], categories=levels)
    return data


def settings(task: Task) -> dict[str, Any]:
    """Give the sampler's settings, by names that both sides share."""
    return {**task["settings"], "progressbar": False}


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


def main(path: Path) -> None:
    task = json.loads(path.read_text(encoding="utf-8"))
    clock = Clock()
    posterior, is_outer = SIDES[task["side"]](task, clock)
    # Only from here on may time and memory go to looking at the posterior.
    report = {
        "first_posterior": time.time() - task["spawned"],
        "seconds": clock.seconds,
        "cpu": sum(os.times()[:4]),
        "peak": peak_bytes(),
        "version": import_module(task["side"]).__version__,
    }
    import numpy as np

    np.save(path.with_name("draws.npy"), outer_array(posterior, is_outer))
    path.with_name("report.json").write_text(json.dumps(report), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
