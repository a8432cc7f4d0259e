"""The command `intervals`: profile intervals and bootstrap replicates beside lme4's."""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.cells import times
from benchmarks.machine import machine
from benchmarks.processes import run as run_process

HERE = Path(__file__).parent
TIMEOUT = 1800.0
REPEATS = 3
OURS, THEIRS = 1024, 60  # replicates of the bootstrap


@dataclass(frozen=True)
class Case:
    """A model of a packaged table, as ours and as lme4's; `factors` are its labels."""

    name: str
    data: str
    family: str
    ours: str
    theirs: str
    factors: tuple[str, ...]


CASES = [
    Case(
        "sleepstudy, slopes", "sleepstudy", "gaussian", "Reaction ~ Days + (1 + Days | Subject)",
        "Reaction ~ Days + (1 + Days | Subject)", ("Subject",),
    ),
    Case(
        "cbpp, binomial", "cbpp", "binomial", "incidence | trials(size) ~ period + (1 | herd)",
        "cbind(incidence, size - incidence) ~ period + (1 | herd)", ("period", "herd"),
    ),
    Case(
        "penicillin, crossed", "penicillin", "gaussian",
        "diameter ~ 1 + (1 | plate) + (1 | sample)", "diameter ~ 1 + (1 | plate) + (1 | sample)",
        ("plate", "sample"),
    ),
    Case(
        "grouseticks, three terms", "grouseticks", "poisson",
        "TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)",
        "TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)",
        ("YEAR", "BROOD", "INDEX", "LOCATION"),
    ),
]  # fmt: skip


@dataclass(frozen=True)
class Measurement:
    """
    Seconds of the processor: all profile intervals, or one bootstrap replicate; None without R.

    `apart` is the largest difference of ends of the coefficients' intervals, over their length.
    """

    case: str
    what: str
    ours: float
    theirs: float | None
    apart: float | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rscript", default="Rscript", help="the command that runs R")
    parser.add_argument("--json", type=Path, help="a file for all numbers")


def run(asked: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Give 1 if ends of profile intervals differ by more than a hundredth of them, else 0."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        found = [m for case in CASES for m in measure(case, Path(folder), asked.rscript)]
    show(found, Console())
    if asked.json:
        content = {"machine": machine(), "measurements": [asdict(m) for m in found]}
        asked.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return int(any(m.apart is not None and m.apart > 0.01 for m in found))


def measure(case: Case, folder: Path, rscript: str) -> Iterator[Measurement]:
    """Take the intervals of one fit both ways, and by R."""
    import glmm_bayes as gb

    data = gb.load_dataset(case.data)
    method = "reml" if case.family == "gaussian" else "ml"
    fit: Any = gb.Model(case.ours, data, case.family).fit(method)
    theirs = _by_r(case, data, folder, rscript)
    profile, ends = _best(lambda: fit.confint(method="profile"))
    apart = None
    if theirs:
        k = len(theirs["lower"])
        other = np.column_stack([theirs["lower"], theirs["upper"]])
        ours = ends[["lower", "upper"]].to_numpy()[:k]
        apart = float(np.abs((ours - other) / np.diff(other)).max())
    yield Measurement(case.name, "profile", profile, theirs.get("profile"), apart)
    replicates, _ = _best(lambda: gb.bootstrap(fit, n=OURS, seed=1, n_jobs=1, progressbar=False))
    yield Measurement(case.name, "bootstrap", replicates / OURS, theirs.get("bootstrap"))


def _best(task: Callable[[], Any]) -> tuple[float, Any]:
    best, found = np.inf, None
    for _ in range(REPEATS):
        began = time.process_time()
        found = task()
        best = min(best, time.process_time() - began)
    return best, found


def _by_r(case: Case, data: Any, folder: Path, rscript: str) -> dict[str, Any]:
    path, report = folder / "table.csv", folder / "report.json"
    data.to_csv(path, index=False)
    report.unlink(missing_ok=True)
    command = [
        rscript, "--vanilla", str(HERE / "worker.R"), str(path), ",".join(case.factors),
        case.theirs, case.family, str(THEIRS), str(report),
    ]  # fmt: skip
    ended = run_process(command, folder / "log.txt", os.environ, TIMEOUT)
    if ended.code != 0 or not report.is_file():
        Console(stderr=True).print(f"{case.name}: R has no answer. {ended.words}", markup=False)
        return {}
    return json.loads(report.read_text(encoding="utf-8"))


def show(measurements: list[Measurement], console: Console) -> None:
    """Print a table."""
    table = Table(title="Processor milliseconds: all profile intervals, and one replicate")
    for name in ("model", "what", "glmm_bayes", "lme4", "times", "ends apart"):
        table.add_column(name, justify="left" if name in ("model", "what") else "right")
    for m in measurements:
        apart = "" if m.apart is None else f"{m.apart:.1e}"
        theirs = "" if m.theirs is None else f"{1000 * m.theirs:.3g}"
        table.add_row(
            m.case, m.what, f"{1000 * m.ours:.3g}", theirs, times(m.theirs, m.ours), apart
        )
    console.print(table)
