"""The command `dependence`: effects along time, in space and along trees, against their number."""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.dependence.cases import CASES
from benchmarks.dependence.figure import draw
from benchmarks.machine import machine
from benchmarks.processes import run as run_process

HERE = Path(__file__).parent
OURS, PEERS = ("ml", "posthoc", "nuts"), ("glmmTMB", "gpboost")
WIDE = 110  # columns of the table, also where it goes to a file
MOST_NUTS = 2_000  # levels, beyond which there is no waiting for it


@dataclass(frozen=True)
class Point:
    """
    What one fit took.

    Attributes
    ----------
    cpu, wall
        Seconds, from tables in memory to the estimates; None for a `problem`.
    peak
        Bytes of resident memory.
    sd, ess, loglik
        The first standard deviation; the fewest effective draws of a variance; of a maximum.
    """

    case: str
    method: str
    size: int
    cpu: float | None = None
    wall: float | None = None
    peak: float | None = None
    sd: float | None = None
    ess: float | None = None
    loglik: float | None = None
    problem: str | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cases", nargs="+", choices=CASES, default=tuple(CASES), metavar="CASE")
    parser.add_argument("--methods", nargs="+", choices=OURS + PEERS, default=OURS + PEERS)
    parser.add_argument("--largest", type=int, default=100_000, metavar="N", help="levels")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for one process")
    parser.add_argument("--gpboost", default=sys.executable, help="a Python that has gpboost")
    parser.add_argument("--json", type=Path, help="a file for all numbers")
    parser.add_argument("--figure", type=Path, help="a picture of cost against size")


def run(asked: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Give 1 if a fit of ours failed, else 0."""
    progress, found = Console(stderr=True), []
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        for point in _points(asked, Path(folder)):
            words = point.problem or f"{point.cpu:.2f} s"
            progress.print(f"{point.case}, {point.method}: {point.size:,}: {words}", markup=False)
            found.append(point)
            if asked.json:
                content = {"machine": machine(), "points": [asdict(p) for p in found]}
                asked.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    show(found, Console(width=WIDE))
    if asked.figure:
        draw(found, asked.figure)
    return int(any(point.problem for point in found if point.method in OURS))


def _points(asked: argparse.Namespace, folder: Path) -> Iterator[Point]:
    for name in asked.cases:
        sizes = [size for size in CASES[name].sizes if size <= asked.largest]
        for method in asked.methods:
            for size in sizes:
                command = _command(name, size, method, asked, folder)
                if command is None:
                    continue
                point = _measured(name, method, size, command, asked.timeout, folder)
                yield point
                if point.problem:
                    # What is larger takes longer.
                    break


def _command(
    name: str, size: int, method: str, asked: argparse.Namespace, folder: Path
) -> list[str] | None:
    """Give what runs one fit; None where there is no such model or no such program."""
    case = CASES[name]
    if method in OURS:
        if method == "nuts" and size > MOST_NUTS:
            return None
        return [sys.executable, "-m", "benchmarks.dependence.worker", name, str(size), method]
    rscript, term = shutil.which("Rscript"), case.peers.get(method)
    if term is None or (method == "glmmTMB" and rscript is None):
        return None
    tables = []
    for n in (size, min(case.sizes)):
        path = folder / f"{n}.csv"
        case.make(n).data.to_csv(path, index=False)
        tables.append(str(path))
    if method == "gpboost":
        return [asked.gpboost, str(HERE / "worker_gpboost.py"), term, *tables]
    return [str(rscript), str(HERE / "worker.R"), term, *tables]


def _measured(
    name: str, method: str, size: int, command: Sequence[str], timeout: float, folder: Path
) -> Point:
    log = folder / "log.txt"
    ended = run_process(command, log, os.environ, timeout)
    if ended.code != 0:
        return Point(name, method, size, problem=ended.words)
    said = json.loads(log.read_text().splitlines()[-1])
    return Point(name, method, size, **{"peak": float(ended.peak), **said})


def show(points: Sequence[Point], console: Console) -> None:
    """Print every point, and what it cost over the one before it of its series."""
    table = Table(title="Levels that depend on each other")
    headings = (
        "model",
        "levels",
        "CPU s",
        "wall s",
        "peak MB",
        "× the last",
        "sd",
        "ESS",
        "loglik",
    )
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "model" else "right", no_wrap=True)
    before: Point | None = None
    for point in points:
        series = f"{point.case}, {point.method}"
        if before is not None and (before.case, before.method) != (point.case, point.method):
            table.add_section()
            before = None
        if point.cpu is None or point.wall is None or point.peak is None:
            table.add_row(series, f"{point.size:,}", point.problem or "failed")
            continue
        times = f"{point.cpu / before.cpu:.1f}" if before is not None and before.cpu else ""
        cost = [f"{point.cpu:.2f}", f"{point.wall:.2f}", f"{point.peak / 1e6:,.0f}", times]
        sd, ess, loglik = (
            "" if value is None else f"{value:,.{digits}f}"
            for value, digits in ((point.sd, 3), (point.ess, 0), (point.loglik, 3))
        )
        table.add_row(series, f"{point.size:,}", *cost, sd, ess, loglik)
        before = point
    console.print(table)
