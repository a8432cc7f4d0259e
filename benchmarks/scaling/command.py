"""The command `scaling`: what our fits cost against rows and against levels, with a figure."""

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from benchmarks.ml.runner import Settings
from benchmarks.scaling.points import FAMILIES, Point, Series, measure, series

ROWS = (10_000, 100_000, 1_000_000, 10_000_000)
LEVELS = (100, 1_000, 5_000, 20_000)
WIDTH = 110  # what the table needs; a file or a pipe has no width of its own


def add_arguments(parser: argparse.ArgumentParser) -> None:
    defaults = Settings()
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=["gaussian"])
    parser.add_argument("--rows", nargs="*", type=int, default=ROWS, metavar="N")
    parser.add_argument(
        "--levels", nargs="*", type=int, default=LEVELS, metavar="Q", help="of both crossed factors"
    )
    parser.add_argument(
        "--timeout", type=float, default=defaults.timeout, help="seconds for one process"
    )
    parser.add_argument("--json", type=Path, help="a file for all numbers")
    parser.add_argument("--figure", type=Path, help="a file for the figure, .png or .svg")


def run(asked: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Give 1 if a fit failed, else 0."""
    settings = Settings(timeout=asked.timeout)
    wanted = series(asked.families, asked.rows, asked.levels)
    progress, found = Console(stderr=True), []
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        for point in _points(wanted, settings, Path(folder)):
            progress.print(f"{point.series}: {point.size:,}", markup=False)
            found.append(point)
            if asked.json:
                write_json(found, asked.json)
    show(found, Console())
    if asked.figure:
        from benchmarks.scaling.figure import draw

        draw(found).savefig(asked.figure, dpi=150)
    return int(any(point.problem for point in found))


def _points(wanted: Sequence[Series], settings: Settings, folder: Path) -> Iterator[Point]:
    for one in wanted:
        yield from measure(one, settings, folder)


def show(points: Sequence[Point], console: Console) -> None:
    """Print every point, and what it cost over the one before it of its series."""
    if not console.is_terminal:
        console.width = WIDTH
    table = Table(title="Cost of our maximum likelihood fits")
    for heading in ("series", "rows", "levels", "CPU s", "wall s", "peak MB", "× the last"):
        justify: Literal["left", "right"] = "left" if heading == "series" else "right"
        table.add_column(heading, justify=justify, no_wrap=True)
    before: Point | None = None
    for point in points:
        if before is not None and before.series != point.series:
            table.add_section()
            before = None
        size = [f"{point.rows:,}", " × ".join(f"{q:,}" for q in point.levels)]
        if point.cpu is None or point.wall is None or point.peak is None:
            table.add_row(point.series, *size, point.problem or "failed", "", "", "")
            before = None
            continue
        last = before.cpu if before is not None else None
        cost = [f"{point.cpu:.3f}", f"{point.wall:.3f}", f"{point.peak / 1e6:,.0f}"]
        table.add_row(point.series, *size, *cost, f"{point.cpu / last:.1f}" if last else "")
        before = point
    console.print(table)


def write_json(points: Sequence[Point], path: Path) -> None:
    """Keep every number, and where it was measured."""
    content = {"machine": machine(), "points": [asdict(point) for point in points]}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
