"""The command `tests`: degrees of freedom of linear mixed models beside lmerTest and pbkrtest."""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.cells import seconds, times
from benchmarks.machine import machine
from benchmarks.processes import run as run_process

if TYPE_CHECKING:
    import pandas as pd

HERE = Path(__file__).parent
TIMEOUT = 1800.0
REPEATS = 3
METHODS = ("satterthwaite", "kenward-roger")


@dataclass(frozen=True)
class Case:
    """Rows `n` in `g` groups, crossed with `h` others if there are any; with slopes of x."""

    name: str
    n: int
    g: int
    h: int
    formula: str


CASES = [
    Case("18 subjects, slopes", 180, 18, 0, "y ~ x + (1 + x | g)"),
    Case("200 groups, slopes", 2000, 200, 0, "y ~ x + z + (1 + x | g)"),
    Case("60 x 40 crossed", 3000, 60, 40, "y ~ x + z + (1 | g) + (1 | h)"),
    Case("5,000 groups", 50_000, 5000, 0, "y ~ x + z + (1 | g)"),
]


@dataclass(frozen=True)
class Measurement:
    """
    Seconds of the processor beside the fit, the best of three; of R's, None where it has none.

    `apart` is the largest relative difference in degrees of freedom.
    """

    case: str
    ddf: str
    ours: float
    theirs: float | None
    apart: float | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rscript", default="Rscript", help="the command that runs R")
    parser.add_argument("--json", type=Path, help="a file for all numbers")


def run(asked: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Give 1 if degrees of freedom differ by more than a hundredth, else 0."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        found = [m for case in CASES for m in measure(case, Path(folder), asked.rscript)]
    show(found, Console())
    if asked.json:
        content = {"machine": machine(), "measurements": [asdict(m) for m in found]}
        asked.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return int(any(m.apart is not None and m.apart > 0.01 for m in found))


def simulated(case: Case) -> "pd.DataFrame":
    """Draw a table; groups differ in size where rows do not divide."""
    import pandas as pd

    rng = np.random.default_rng(case.n)
    g = rng.permutation(np.arange(case.n) % case.g)
    data = {"g": g, "x": rng.normal(size=case.n), "z": rng.normal(size=case.n)}
    y = rng.normal(size=case.n) + rng.normal(size=case.g)[g] + data["x"]
    y += 0.5 * rng.normal(size=case.g)[g] * data["x"]
    if case.h:
        data["h"] = rng.integers(case.h, size=case.n)
        y += rng.normal(size=case.h)[data["h"]]
    return pd.DataFrame(data | {"y": y})


def measure(case: Case, folder: Path, rscript: str) -> Iterator[Measurement]:
    """Test one model's coefficients both ways, and by R."""
    import glmm_bayes as gb

    data = simulated(case)
    groups = {name: data[name].astype(str) for name in ("g", "h") if name in data}
    fit = gb.Model(case.formula, data.assign(**groups)).fit("reml")
    theirs = _by_r(case, data, folder, rscript)
    for ddf in METHODS:
        best, table = np.inf, None
        for _ in range(REPEATS):
            began = time.process_time()
            table = fit.ttest(ddf)
            best = min(best, time.process_time() - began)
        other = theirs.get(ddf)
        apart = None
        if other is not None and table is not None:
            apart = float(np.abs(table["df"].to_numpy() / np.array(other["df"]) - 1).max())
        yield Measurement(case.name, ddf, best, other and other["seconds"], apart)


def _by_r(case: Case, data: "pd.DataFrame", folder: Path, rscript: str) -> dict[str, Any]:
    path, report = folder / "table.csv", folder / "report.json"
    data.to_csv(path, index=False)
    report.unlink(missing_ok=True)
    worker = str(HERE / "worker.R")
    command = [rscript, "--vanilla", worker, str(path), case.formula, str(report)]
    ended = run_process(command, folder / "log.txt", os.environ, TIMEOUT)
    if ended.code != 0 or not report.is_file():
        Console(stderr=True).print(f"{case.name}: R has no answer. {ended.words}", markup=False)
        return {}
    return json.loads(report.read_text(encoding="utf-8"))


def show(measurements: list[Measurement], console: Console) -> None:
    """Print a table."""
    table = Table(title="Processor seconds beside the fit, best of three")
    for name in ("model", "ddf", "glmm_bayes", "R", "times", "df apart"):
        table.add_column(name, justify="left" if name in ("model", "ddf") else "right")
    for m in measurements:
        apart = "" if m.apart is None else f"{m.apart:.1e}"
        table.add_row(
            m.case, m.ddf, seconds(m.ours), seconds(m.theirs), times(m.theirs, m.ours), apart
        )
    console.print(table)
