"""The command `trees`: phylogenetic models by `ml` and `posthoc`, against the number of species."""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from benchmarks.processes import run as run_process

TIPS = (300, 2_000, 10_000)
FAMILIES, METHODS = ("gaussian", "poisson"), ("ml", "posthoc")


@dataclass(frozen=True)
class Point:
    """
    What one fit took.

    Attributes
    ----------
    cpu, wall
        Seconds, from a tree and a table in memory to the estimates; None for a `problem`.
    peak
        Bytes of resident memory.
    sd, ess
        The standard deviation between species; the fewest effective draws of a variance.
    """

    family: str
    method: str
    tips: int
    cpu: float | None = None
    wall: float | None = None
    peak: float | None = None
    sd: float | None = None
    ess: float | None = None
    problem: str | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tips", nargs="+", type=int, default=TIPS, metavar="N")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--timeout", type=float, default=1200.0, help="seconds for one process")
    parser.add_argument("--json", type=Path, help="a file for all numbers")


def run(asked: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Give 1 if a fit failed, else 0."""
    progress, found = Console(stderr=True), []
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        for point in _points(asked, Path(folder)):
            progress.print(f"{point.family}, {point.method}: {point.tips:,}", markup=False)
            found.append(point)
            if asked.json:
                content = {"machine": machine(), "points": [asdict(p) for p in found]}
                asked.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    show(found, Console())
    return int(any(point.problem for point in found))


def _points(asked: argparse.Namespace, folder: Path) -> Iterator[Point]:
    for family, method, tips in product(asked.families, asked.methods, sorted(asked.tips)):
        command = [sys.executable, "-m", "benchmarks.trees.worker", str(tips), family, method]
        log = folder / "log.txt"
        ended = run_process(command, log, os.environ, asked.timeout)
        if ended.code != 0:
            yield Point(family, method, tips, problem=ended.words)
            continue
        yield Point(family, method, tips, **json.loads(log.read_text().splitlines()[-1]))


def show(points: Sequence[Point], console: Console) -> None:
    """Print every point, and what it cost over the one before it of its series."""
    table = Table(title="Phylogenetic models, one row a species")
    for heading in ("model", "tips", "CPU s", "wall s", "peak MB", "× the last", "sd", "ESS"):
        table.add_column(heading, justify="left" if heading == "model" else "right", no_wrap=True)
    before: Point | None = None
    for point in points:
        series = f"{point.family}, {point.method}"
        if before is not None and (before.family, before.method) != (point.family, point.method):
            table.add_section()
            before = None
        if point.cpu is None or point.wall is None or point.peak is None:
            table.add_row(series, f"{point.tips:,}", point.problem or "failed")
            continue
        times = f"{point.cpu / before.cpu:.1f}" if before is not None and before.cpu else ""
        cost = [f"{point.cpu:.2f}", f"{point.wall:.2f}", f"{point.peak / 1e6:,.0f}", times]
        ess = "" if point.ess is None else f"{point.ess:,.0f}"
        table.add_row(series, f"{point.tips:,}", *cost, f"{point.sd:.3f}", ess)
        before = point
    console.print(table)
