"""The command `startup`: scripts that fit sleepstudy by REML and by posthoc, from start to end."""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from benchmarks.processes import run as run_process

HERE = Path(__file__).parent
TIMEOUT = 600.0
REPEATS = 5
OURS = "glmm_bayes"
SCRIPTS = {"reml": "reml.py", "posthoc": "posterior.py"}


@dataclass(frozen=True)
class Measurement:
    """Whole processes: seconds of the clock and of the processor, of each in turn."""

    who: str
    wall: tuple[float, ...] = ()
    cpu: tuple[float, ...] = ()
    peak: float | None = None
    problem: str | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=REPEATS, help="processes of each kind")
    parser.add_argument("--rscript", default="Rscript", help="the command that runs R")
    parser.add_argument("--json", type=Path, help="a file for all numbers")


def run(asked: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Give 1 if our script failed, else 0."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        measurements = measure(Path(name), asked.repeats, asked.rscript)
    show(measurements, Console())
    if asked.json:
        content = {"machine": machine(), "measurements": [asdict(m) for m in measurements]}
        asked.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return int(any(m.problem and m.who.startswith(OURS) for m in measurements))


def measure(folder: Path, repeats: int, rscript: str) -> list[Measurement]:
    """Run our scripts without and with compiled code at hand, and lme4's where there is R."""
    import glmm_bayes as gb

    table = folder / "sleepstudy.csv"
    gb.load_dataset("sleepstudy").to_csv(table, index=False)
    found = []
    for method, script in SCRIPTS.items():
        ours = [sys.executable, str(HERE / script), str(table)]
        cold = [{"NUMBA_CACHE_DIR": str(folder / method / str(k))} for k in range(repeats)]
        found += [
            _measure(f"{OURS} {method}, nothing compiled", ours, cold, folder),
            # Compiled by the first of those just run.
            _measure(f"{OURS} {method}", ours, cold[:1] * repeats, folder),
        ]
    if shutil.which(rscript):
        lme4 = [rscript, "--vanilla", str(HERE / "reml.R"), str(table)]
        found.append(_measure("lme4 reml", lme4, [{}] * repeats, folder))
    return found


def _measure(
    who: str, command: Sequence[str], environments: Sequence[Mapping[str, str]], folder: Path
) -> Measurement:
    ended = []
    for environment in environments:
        env = {**os.environ, **environment}
        ended.append(run_process(command, folder / "log.txt", env, TIMEOUT))
        if ended[-1].code != 0:
            return Measurement(who, problem=ended[-1].words)
    wall, cpu = tuple(e.wall for e in ended), tuple(e.cpu for e in ended)
    return Measurement(who, wall, cpu, max(e.peak for e in ended) or None)


def show(measurements: Sequence[Measurement], console: Console) -> None:
    """Print the medians, and why a script failed."""
    table = Table(
        title="A script that fits sleepstudy and prints the summary, from its start to its end"
    )
    for heading in ("who", "wall s", "CPU s", "processes"):
        table.add_column(heading, justify="left" if heading == "who" else "right")
    for found in measurements:
        if found.problem is None:
            cells = [f"{median(found.wall):.2f}", f"{median(found.cpu):.2f}", str(len(found.wall))]
        else:
            cells = ["failed", "", ""]
        table.add_row(found.who, *cells)
    console.print(table)
    for found in measurements:
        if found.problem is not None:
            console.print(f"{found.who}: {found.problem}", markup=False)
