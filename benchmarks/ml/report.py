"""Measurements of maximum likelihood fits as a table to read and as JSON to keep."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.cells import Notes, seconds, times
from benchmarks.machine import machine
from benchmarks.ml.cases import CASES, OURS
from benchmarks.ml.runner import Measurement, Settings

WIDTH = 150  # what the table needs; a file or a pipe has no width of its own
BEHIND = 0.01  # how far our log-likelihood may be below a peer's
HEADINGS = (
    "CPU s",
    "÷ ours",
    "next CPU s",
    "÷ ours",
    "wall s",
    "peak MB",
    "log-likelihood",
    "− ours",
)
EXPLAINED = (
    "One fit from a data frame in memory to a printed summary, in a process of its own with its "
    "libraries loaded and its compiled code cached. CPU: over all threads. next: the median of the "
    "fits that follow in the same process, where the first is quick enough to be repeated.",
    "÷ ours: the peer's seconds over ours. Peak: of the whole process, with table and libraries.",
    "Log-likelihood: Laplace's approximation where the response is not Gaussian, restricted for "
    "reml; with all constants. In parentheses where it is not of the same model or criterion.",
)


def show(measurements: Sequence[Measurement], settings: Settings, console: Console) -> None:
    """Print the table, and what a reader has to know."""
    if not console.is_terminal:
        console.width = WIDTH
    notes = Notes()
    table = Table(title=_title(settings))
    table.add_column("case", no_wrap=True)
    table.add_column("who", no_wrap=True)
    for heading in HEADINGS:
        table.add_column(heading, justify="right")
    for case in dict.fromkeys(m.case for m in measurements):
        table.add_section()
        label = f"{case} ({CASES[case].method})" if case in CASES else case
        for row in _rows([m for m in measurements if m.case == case], notes):
            table.add_row(label, *row)
            label = ""
    console.print(table)
    for line in (*EXPLAINED, *notes.lines()):
        console.print(line, markup=False)


def _title(settings: Settings) -> str:
    most = f"{settings.timeout:g} s and {settings.most_bytes / 1e9:g} GB"
    return f"Maximum likelihood, no more than {most} a process"


def _rows(measurements: Sequence[Measurement], notes: Notes) -> Iterable[list[str]]:
    ours = next((m for m in measurements if m.side == OURS), None)
    for found in measurements:
        marks = [notes.mark(note) for note in (found.note, found.words, _reason(found)) if note]
        who = " ".join([found.who, found.version or "", *marks]).replace("  ", " ").strip()
        if not found.fits:
            late = found.problem is not None and found.problem.startswith(">")
            cell = str(found.problem) if late else ("failed" if found.peak is not None else "-")
            yield [who, cell, *[""] * (len(HEADINGS) - 1)]
            continue
        yield [
            who,
            seconds(found.cpu),
            _ratio(found.cpu, ours.cpu if ours else None),
            seconds(found.next_cpu),
            _ratio(found.next_cpu, ours.next_cpu if ours else None),
            seconds(found.wall),
            "" if found.peak is None else f"{found.peak / 1e6:,.0f}",
            _loglik(found),
            _difference(found, ours),
        ]


def _reason(found: Measurement) -> str | None:
    """Give why there are no numbers, unless the cell says it."""
    return None if found.problem is None or found.problem.startswith(">") else found.problem


def _ratio(theirs: float | None, ours: float | None) -> str:
    return "" if theirs == ours else times(theirs, ours)


def _loglik(found: Measurement) -> str:
    if found.loglik is None:
        return "none"
    return f"{found.loglik:.3f}" if found.comparable == "all" else f"({found.loglik:.3f})"


def _difference(found: Measurement, ours: Measurement | None) -> str:
    gap = _gap(found, ours)
    return "" if gap is None or found.side == OURS else f"{gap:+.4f}"


def _gap(found: Measurement, ours: Measurement | None) -> float | None:
    """Give how much higher a peer's log-likelihood is, where both are of one model."""
    if ours is None or ours.loglik is None or found.loglik is None or found.comparable != "all":
        return None
    return found.loglik - ours.loglik


def failed(measurements: Sequence[Measurement]) -> bool:
    """Say whether a fit of ours is missing, has not converged, or is below a peer's."""
    ours = {m.case: m for m in measurements if m.side == OURS}
    if any(m.problem is not None or m.words or m.loglik is None for m in ours.values()):
        return True
    gaps = [_gap(m, ours.get(m.case)) for m in measurements]
    return any(gap is not None and gap > BEHIND for gap in gaps)


def write_json(measurements: Sequence[Measurement], settings: Settings, path: Path) -> None:
    """Keep every number, and where it was measured."""
    content = {
        "settings": asdict(settings),
        "machine": machine(),
        "measurements": [
            {**asdict(m), "cpu": m.cpu, "wall": m.wall, "next_cpu": m.next_cpu}
            for m in measurements
        ],
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
