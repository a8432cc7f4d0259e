"""Measure a case: start a fresh process, watch its time and memory, judge its draws."""

import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.nuts.cases import Case
from benchmarks.processes import run

OURS = "glmm_bayes"
TRUSTED_R_HAT = 1.01
SHARED = ("draws", "tune", "chains", "cores")  # settings that every side has by these names


@dataclass(frozen=True)
class Settings:
    """The same for every side; `timeout` in seconds, for one process."""

    draws: int = 1000
    tune: int = 1000
    chains: int = 4
    cores: int = 2
    seed: int = 20240229
    timeout: float = 1800.0

    def for_case(self, case: Case) -> "Settings":
        """Take fewer draws where the case asks for few."""
        if case.most_draws is None:
            return self
        most = case.most_draws
        return replace(
            self,
            draws=min(self.draws, most),
            tune=min(self.tune, most),
            chains=min(self.chains, 2),
        )


@dataclass(frozen=True)
class Measurement:
    """
    What one fit in a fresh process took.

    Attributes
    ----------
    start
        `"cold"`: nothing compiled before; `"warm"`: the caches of an earlier process.
    seconds
        By phase: import, data, model, compile, sampling; a phase that is not told apart is absent.
    first_posterior
        Seconds from the start of the process to its draws.
    cpu
        Processor seconds for the same, over all cores and child processes.
    ess, r_hat
        The smallest bulk effective sample size and the largest R-hat of the outer parameters.
    peak
        Bytes of resident memory, with child processes.
    problem
        Why there is no posterior, or what it should not have taken.
    """

    case: str
    side: str
    start: str
    seconds: Mapping[str, float] = field(default_factory=dict)
    first_posterior: float | None = None
    cpu: float | None = None
    ess: float | None = None
    r_hat: float | None = None
    peak: float | None = None
    version: str | None = None
    problem: str | None = None

    @property
    def is_mixed(self) -> bool:
        """Whether the draws agree well enough for their ESS to mean something."""
        return self.r_hat is not None and self.r_hat <= TRUSTED_R_HAT

    @property
    def ess_per_second(self) -> float | None:
        """Effective draws a second of sampling, warm-up included."""
        return _ratio(self.ess, self.seconds.get("sampling"))

    @property
    def ess_per_second_in_all(self) -> float | None:
        """Effective draws a second of the whole process."""
        return _ratio(self.ess, self.first_posterior)


def _ratio(a: float | None, b: float | None) -> float | None:
    return a / b if a is not None and b else None


def measure(
    case: Case, side: str, settings: Settings, python: str = sys.executable
) -> list[Measurement]:
    """Measure one side cold, then warm; a second run is not tried where the first one failed."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        task = _task(case, side, settings.for_case(case), Path(folder))
        cold = _run(case, task, "cold", Path(folder), python, settings.timeout)
        if cold.first_posterior is None:
            return [cold]
        return [cold, _run(case, task, "warm", Path(folder), python, settings.timeout)]


def _task(case: Case, side: str, settings: Settings, folder: Path) -> dict[str, Any]:
    """Write the data for the worker, and say what it has to do."""
    data = case.table()
    data.to_csv(folder / "table.csv", index=False)
    categorical = data.select_dtypes("category")
    return {
        "side": side,
        "table": str(folder / "table.csv"),
        "levels": {name: list(data[name].cat.categories) for name in categorical},
        "family": case.family,
        "formula": case.formula if side == OURS else case.peer_formula,
        "sampler": case.sampler,
        "seed": settings.seed,
        "settings": {name: getattr(settings, name) for name in SHARED},
    }


def _run(
    case: Case, task: Mapping[str, Any], start: str, folder: Path, python: str, timeout: float
) -> Measurement:
    blank = Measurement(case.name, task["side"], start)
    path, log = folder / "task.json", folder / "log.txt"
    for name in ("report.json", "draws.npy"):
        (folder / name).unlink(missing_ok=True)
    path.write_text(json.dumps({**task, "spawned": time.time()}), encoding="utf-8")
    command = [python, "-m", "benchmarks.nuts.worker", str(path)]
    ended = run(command, log, _environment(folder), timeout)
    if ended.code is None:
        return replace(blank, peak=ended.peak, problem=f"no posterior within {timeout:g} s")
    if ended.code != 0:
        return replace(blank, peak=ended.peak, problem=ended.words)
    return _judged(case, blank, folder, ended.peak)


def _environment(folder: Path) -> dict[str, str]:
    """Point every cache of compiled code into the folder, which is empty for a cold start."""
    flags = [os.environ.get("PYTENSOR_FLAGS", ""), f"base_compiledir={folder / 'pytensor'}"]
    return {
        **os.environ,
        "NUMBA_CACHE_DIR": str(folder / "numba"),
        "PYTENSOR_FLAGS": ",".join(flag for flag in flags if flag),
    }


def _judged(case: Case, blank: Measurement, folder: Path, peak: int) -> Measurement:
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    peak = max(peak, report["peak"])
    problem = None
    if case.memory_limit is not None and peak > case.memory_limit:
        problem = f"took more memory than {case.memory_limit / 1e6:,.0f} MB"
    done = replace(
        blank,
        seconds=report["seconds"],
        first_posterior=report["first_posterior"],
        cpu=report["cpu"],
        peak=peak,
        version=report["version"],
        problem=problem,
    )
    if case.most_draws is not None:
        return done
    ess, r_hat = reliability(np.load(folder / "draws.npy"))
    return replace(done, ess=ess, r_hat=r_hat)


def reliability(draws: np.ndarray) -> tuple[float | None, float | None]:
    """Give the smallest bulk ESS and the largest R-hat of draws `(chain, draw, m)`, if any."""
    from arviz_stats.base import array_stats

    cube = np.moveaxis(draws, 2, 0)
    ess = array_stats.ess(cube, method="bulk", chain_axis=1, draw_axis=2)
    r_hat = array_stats.rhat(cube, chain_axis=1, draw_axis=2)
    return _finite(np.min(ess)), _finite(np.max(r_hat))


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
