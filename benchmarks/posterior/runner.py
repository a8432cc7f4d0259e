"""
Measure a case: fresh processes for each way, from a table that all of them are given alike.

A worker's folder holds the table as `benchmarks/tables.py` writes it, `task.json` for Python and
`task.dcf` for R, and in the end `draws.npy`, the parameters that are judged `(chain, draw, m)`, and
`report.json`: `fits`, of each in turn seconds of processor, of the clock, and of processor for
sampling alone or null; `from_start`, seconds from the start of the process to its first posterior;
`peak`, in bytes; `version`.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.posterior.cases import WAYS, Case, Role, Way
from benchmarks.processes import Ended, run
from benchmarks.tables import write_table

TRUSTED_R_HAT = 1.01


@dataclass(frozen=True)
class Settings:
    """
    The same for every way.

    Attributes
    ----------
    draws, tune, chains
        Draws kept and warm-up draws of each chain; `posthoc` has a warm-up of its own.
    cores
        How many chains run at once.
    timeout, most_bytes
        Seconds and memory for one process.
    patience, most_fits
        A fit is repeated in its process until so many seconds, or so many fits, have passed.
    """

    draws: int = 1000
    tune: int = 1000
    chains: int = 4
    cores: int = 2
    seed: int = 20240229
    timeout: float = 1800.0
    most_bytes: float = 16e9
    patience: float = 60.0
    most_fits: int = 5

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
class Interpreters:
    """The commands that run ours, the peers in Python and those in R."""

    ours: str = sys.executable
    peers: str = sys.executable
    r: str = "Rscript"

    def command(self, way: Way, folder: Path) -> list[str]:
        """Give the command of a worker."""
        if way.in_r:
            script = Path(__file__).with_name("worker.R")
            return [self.r, "--vanilla", str(script), str(folder)]
        python = self.peers if way.role == "peer" else self.ours
        return [python, "-m", "benchmarks.posterior.worker", str(folder / "task.json")]


@dataclass(frozen=True)
class Measurement:
    """
    What the posteriors of one case took by one way.

    Attributes
    ----------
    fits
        Of each in turn in one process, from a data frame in memory to a printed summary: seconds
        of processor, of the clock, and of processor for sampling alone (None if not told apart).
    warm, cold
        Seconds from the start of a process to its first posterior; cold: nothing compiled before.
    ess, r_hat
        The smallest bulk effective sample size and the largest R-hat of the outer parameters.
    peak
        Bytes of resident memory, with child processes.
    problem
        Why there is no posterior, or what it should not have taken.
    tried
        Whether there was a process at all.
    """

    case: str
    way: str
    fits: tuple[tuple[float, float, float | None], ...] = ()
    warm: float | None = None
    cold: float | None = None
    ess: float | None = None
    r_hat: float | None = None
    peak: float | None = None
    version: str | None = None
    note: str | None = None
    problem: str | None = None
    tried: bool = True

    @property
    def role(self) -> Role:
        """Ours, the control or a peer."""
        return WAYS[self.way].role

    @property
    def is_mixed(self) -> bool:
        """Whether the draws agree well enough for their ESS to mean something."""
        return self.r_hat is not None and self.r_hat <= TRUSTED_R_HAT

    @property
    def cpu(self) -> float | None:
        """Processor seconds of the first fit of its process."""
        return self.fits[0][0] if self.fits else None

    @property
    def next_cpu(self) -> float | None:
        """Processor seconds of a later fit, the median; the first's where it was the only one."""
        return median(cpu for cpu, _, _ in self._later) if self.fits else None

    @property
    def sampling_cpu(self) -> float | None:
        """Processor seconds of the sampling alone, of the same fits."""
        told = [sampling for _, _, sampling in self._later if sampling is not None]
        return median(told) if told else None

    @property
    def _later(self) -> Sequence[tuple[float, float, float | None]]:
        return self.fits[1:] or self.fits

    def rate(self, seconds: float | None) -> float | None:
        """Effective draws a second, of some of its seconds."""
        return self.ess / seconds if self.ess is not None and seconds else None


def measure(
    case: Case, ways: Sequence[Way], settings: Settings, interpreters: Interpreters
) -> Iterator[Measurement]:
    """Measure a case by one way after the other; by those that it cannot be, it says why."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        levels = write_table(case.table(), folder)
        for way in ways:
            if way.name in case.cannot:
                why = case.cannot[way.name]
                yield Measurement(case.name, way.name, problem=why, tried=False)
            elif way.name in case.ways:
                task = {**_task(case, way, settings.for_case(case)), "levels": levels}
                yield _Worker(case, way, settings, interpreters, folder).measure(task)


def _task(case: Case, way: Way, settings: Settings) -> dict[str, Any]:
    shared = ("draws", "tune", "chains", "cores", "seed", "patience", "most_fits")
    return {
        "kind": way.kind,
        "sampler": way.sampler,
        **case.model(way),
        **{name: getattr(settings, name) for name in shared},
    }


@dataclass(frozen=True)
class _Worker:
    """The processes of one way, which share what they compile and nothing else."""

    case: Case
    way: Way
    settings: Settings
    interpreters: Interpreters
    folder: Path

    def measure(self, task: Mapping[str, Any]) -> Measurement:
        """Run it cold, then warm; a second time is not tried where the first one failed."""
        if self.way.in_r:
            return self._judged(self._run(task))
        cold = self._run({**task, "most_fits": 1})
        if cold.problem is not None:
            return cold
        warm = self._run(task)
        peak = max(cold.peak or 0, warm.peak or 0) or None
        return self._judged(replace(warm, cold=cold.warm, peak=peak))

    def _run(self, task: Mapping[str, Any]) -> Measurement:
        for name in ("report.json", "draws.npy"):
            (self.folder / name).unlink(missing_ok=True)
        told = {**task, "table": str(self.folder / "table.csv"), "spawned": time.time()}
        (self.folder / "task.json").write_text(json.dumps(told), encoding="utf-8")
        lines = [f"{key}: {value}" for key, value in told.items() if not isinstance(value, dict)]
        (self.folder / "task.dcf").write_text("\n".join(lines) + "\n", encoding="utf-8")
        ended = run(
            self.interpreters.command(self.way, self.folder),
            self.folder / "log.txt",
            self._environment(),
            self.settings.timeout,
            self.settings.most_bytes,
        )
        return self._told(ended)

    def _environment(self) -> dict[str, str]:
        """Point every cache of compiled code into a folder, which is empty for a cold start."""
        caches = self.folder / "caches" / self.way.name
        flags = [os.environ.get("PYTENSOR_FLAGS", ""), f"base_compiledir={caches / 'pytensor'}"]
        return {
            **os.environ,
            "NUMBA_CACHE_DIR": str(caches / "numba"),
            "PYTENSOR_FLAGS": ",".join(flag for flag in flags if flag),
        }

    def _told(self, ended: Ended) -> Measurement:
        """Read what a worker reports, or why it does not."""
        note = self.case.notes.get(self.way.kind)
        blank = Measurement(self.case.name, self.way.name, peak=ended.peak or None, note=note)
        if ended.code != 0:
            return replace(blank, problem=ended.words)
        report = json.loads((self.folder / "report.json").read_text(encoding="utf-8"))
        return replace(
            blank,
            fits=tuple((cpu, wall, sampling) for cpu, wall, sampling in report["fits"]),
            warm=report["from_start"],
            peak=max(ended.peak, report["peak"] or 0),
            version=report["version"],
        )

    def _judged(self, found: Measurement) -> Measurement:
        """Add how good the draws are, and whether they took too much memory."""
        if found.problem is not None:
            return found
        limit, problem = self.case.memory_limit, None
        if self.way.role == "ours" and limit is not None and (found.peak or 0) > limit:
            problem = f"took more memory than {limit / 1e6:,.0f} MB"
        if self.case.most_draws is not None:
            return replace(found, problem=problem)
        ess, r_hat = reliability(np.load(self.folder / "draws.npy"))
        return replace(found, ess=ess, r_hat=r_hat, problem=problem)


def reliability(draws: np.ndarray) -> tuple[float | None, float | None]:
    """Give the smallest bulk ESS and the largest R-hat of draws `(chain, draw, m)`, if any."""
    from arviz_stats.base import array_stats

    cube = np.moveaxis(draws, 2, 0)
    ess = array_stats.ess(cube, method="bulk", chain_axis=1, draw_axis=2)
    r_hat = array_stats.rhat(cube, chain_axis=1, draw_axis=2)
    return _finite(np.min(ess)), _finite(np.max(r_hat))


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
