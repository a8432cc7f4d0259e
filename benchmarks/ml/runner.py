"""
Measure a case: a fresh process for each package, from a table that all of them are given alike.

A worker's folder holds the table as `benchmarks/tables.py` writes it, `task.json` for Python and
`task.dcf` for R, and in the end `report.json`: `fits`, seconds of processor and of the clock for
each fit in turn; `loglik`; `words`, its complaint if it has one; `peak`, in bytes; `version`.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.ml.cases import OURS, R_PEERS, Case, Way
from benchmarks.processes import Ended, run
from benchmarks.simulate import Simulation
from benchmarks.tables import write_table


@dataclass(frozen=True)
class Settings:
    """
    The same for every side.

    Attributes
    ----------
    timeout, most_bytes
        Seconds and memory for one process.
    patience, most_fits
        A fit is repeated in its process until so many seconds, or so many fits, have passed.
    """

    timeout: float = 600.0
    most_bytes: float = 12e9
    patience: float = 2.0
    most_fits: int = 20


@dataclass(frozen=True)
class Interpreters:
    """The commands that run ours, the peers in Python and those in R."""

    ours: str = sys.executable
    peers: str = sys.executable
    r: str = "Rscript"

    def command(self, way: Way, folder: Path) -> list[str]:
        """Give the command of a worker."""
        if way.side in R_PEERS:
            script = Path(__file__).with_name("worker.R")
            return [self.r, "--vanilla", str(script), str(folder)]
        python = self.ours if way.side == OURS else self.peers
        return [python, "-m", "benchmarks.ml.worker", str(folder / "task.json")]


@dataclass(frozen=True)
class Measurement:
    """
    What one fit took, from a data frame in memory to a printed summary.

    Attributes
    ----------
    who, side
        The package with its variant, and without.
    fits
        Seconds of processor and of the clock, of each fit in turn in one process.
    loglik
        With all constants; restricted for `method="reml"`.
    peak
        Bytes of resident memory during the first fit, the table and the libraries included.
    problem
        Why there is no fit.
    words
        The fit's own complaint about its convergence.
    """

    case: str
    who: str
    side: str
    fits: tuple[tuple[float, float], ...] = ()
    loglik: float | None = None
    peak: float | None = None
    version: str | None = None
    note: str | None = None
    comparable: str = "all"
    words: str = ""
    problem: str | None = None

    @property
    def cpu(self) -> float | None:
        """Processor seconds of the first fit of its process."""
        return self.fits[0][0] if self.fits else None

    @property
    def wall(self) -> float | None:
        """Seconds of the first fit of its process."""
        return self.fits[0][1] if self.fits else None

    @property
    def next_cpu(self) -> float | None:
        """Processor seconds of a later fit, the median; the first's where it was the only one."""
        later = [cpu for cpu, _ in self.fits[1:]]
        return median(later) if later else self.cpu


def measure(
    case: Case,
    sides: Sequence[str],
    settings: Settings,
    interpreters: Interpreters,
    folder: Path,
) -> Iterator[Measurement]:
    """Measure a case for one package after the other; those that cannot say why."""
    levels = write_table(case.table(), folder)
    for side in sides:
        if side in case.cannot:
            yield Measurement(case.name, side, side, problem=case.cannot[side])
        for way in (way for way in case.ways if way.side == side):
            task = _task(case, way, settings, folder, levels)
            if side == OURS:
                # Compiles what this case needs, for the process that is measured.
                once = {**task, "most_fits": 1}
                first = _run(case, way, once, settings, interpreters, folder)
                if first.problem is not None:
                    yield first
                    continue
            yield _run(case, way, task, settings, interpreters, folder)


def _task(
    case: Case, way: Way, settings: Settings, folder: Path, levels: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    return {
        "side": way.side,
        "method": case.method,
        "table": str(folder / "table.csv"),
        "levels": levels,
        "simulation": None,
        "patience": settings.patience,
        "most_fits": settings.most_fits,
        **way.options,
    }


def measure_ours(
    name: str, simulation: Simulation, way: Way, method: str, settings: Settings, folder: Path
) -> Measurement:
    """Measure a fit of ours to a table that the worker makes itself, too large to be written."""
    case = Case(name, method, simulation, (way,))
    task = {**_task(case, way, settings, folder, {}), "simulation": asdict(simulation)}
    return _run(case, way, task, settings, Interpreters(), folder)


def _run(
    case: Case,
    way: Way,
    task: Mapping[str, Any],
    settings: Settings,
    interpreters: Interpreters,
    folder: Path,
) -> Measurement:
    (folder / "report.json").unlink(missing_ok=True)
    (folder / "task.json").write_text(json.dumps(task), encoding="utf-8")
    lines = [
        f"{key}: {value}" for key, value in task.items() if isinstance(value, str | int | float)
    ]
    (folder / "task.dcf").write_text("\n".join(lines) + "\n", encoding="utf-8")
    env = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "numba")}
    command = interpreters.command(way, folder)
    ended = run(command, folder / "log.txt", env, settings.timeout, settings.most_bytes)
    blank = Measurement(
        case.name, way.label, way.side, note=way.note, comparable=way.comparable, peak=ended.peak
    )
    return _judged(blank, ended, folder / "report.json")


def _judged(blank: Measurement, ended: Ended, path: Path) -> Measurement:
    if ended.code != 0:
        return replace(blank, problem=ended.words)
    report = json.loads(path.read_text(encoding="utf-8"))
    return replace(
        blank,
        fits=tuple((cpu, wall) for cpu, wall in report["fits"]),
        loglik=report["loglik"],
        peak=report["peak"] or blank.peak,
        version=report["version"],
        words=report["words"],
    )
