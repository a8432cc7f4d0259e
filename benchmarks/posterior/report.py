"""Measurements of posteriors as a table to read and as JSON to keep."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.cells import Notes, figures, seconds, times
from benchmarks.machine import machine
from benchmarks.posterior.cases import WAYS
from benchmarks.posterior.runner import TRUSTED_R_HAT, Measurement, Settings

WIDTH = 160  # what the table needs; a file or a pipe has no width of its own
UNTRUSTED = "?"

type Number = Callable[[Measurement], float | None]

# Heading, and how to get the number; the rates, of which our multiples are shown, are the last.
COSTS: tuple[tuple[str, Number], ...] = (
    ("CPU s", lambda m: m.cpu),
    ("next CPU s", lambda m: m.next_cpu),
    ("sampling CPU s", lambda m: m.sampling_cpu),
    ("cold s", lambda m: m.cold),
    ("warm s", lambda m: m.warm),
)
RATES: tuple[tuple[str, Number], ...] = (
    ("ESS/CPU s", lambda m: m.rate(m.cpu)),
    ("next", lambda m: m.rate(m.next_cpu)),
    ("sampling", lambda m: m.rate(m.sampling_cpu)),
)
HEADINGS = (*(name for name, _ in COSTS), "peak MB", "ESS", "R-hat", *(name for name, _ in RATES))

EXPLAINED = (
    "CPU: one fit from a data frame in memory to a printed summary, in a process with its "
    "libraries loaded and its compiled code cached, over all threads and child processes. next: "
    "the median of the fits that follow in the same process, where the first is quick enough to "
    "be repeated. sampling: without building and compiling the model, and without the summary; "
    "of posthoc all is sampling.",
    "cold, warm: by the clock, from the start of a process to its first posterior; cold with "
    "nothing compiled before.",
    "ESS: the smallest bulk ESS of fixed effects, standard deviations, correlations and family "
    "parameters. Below a case: our ESS a CPU second over the best peer's, and over that of nutpie "
    "on our own model with the same priors.",
    f"{UNTRUSTED}: R-hat is above {TRUSTED_R_HAT}, so this ESS is not to be trusted.",
)


def show(measurements: Sequence[Measurement], settings: Settings, console: Console) -> None:
    """Print the table, and what a reader has to know."""
    if not console.is_terminal:
        console.width = WIDTH
    notes = Notes()
    table = Table(title=_title(settings))
    for heading in ("case", "who"):
        table.add_column(heading, no_wrap=True)
    for heading in HEADINGS:
        table.add_column(heading, justify="right")
    for case in dict.fromkeys(m.case for m in measurements):
        table.add_section()
        label = case
        found = [m for m in measurements if m.case == case]
        for row in (*_rows(found, notes), *_multiples(found)):
            table.add_row(label, *row)
            label = ""
    console.print(table)
    for line in (*EXPLAINED, *notes.lines()):
        console.print(line, markup=False)


def _title(settings: Settings) -> str:
    return (
        f"Posteriors: {settings.chains} chains of {settings.tune} + {settings.draws} draws, "
        f"{settings.cores} at once; no more than {settings.timeout:g} s and "
        f"{settings.most_bytes / 1e9:g} GB a process"
    )


def _rows(measurements: Sequence[Measurement], notes: Notes) -> Iterable[list[str]]:
    for found in measurements:
        late = found.problem is not None and found.problem.startswith(">")
        remarks = (found.note, None if late else found.problem)
        marks = [notes.mark(remark) for remark in remarks if remark]
        who = " ".join([WAYS[found.way].label, found.version or "", *marks])
        who = who.replace("  ", " ").strip()
        if not found.fits:
            cell = str(found.problem) if late else ("failed" if found.tried else "-")
            yield [who, cell, *[""] * (len(HEADINGS) - 1)]
            continue
        yield [
            who,
            *(seconds(number(found)) for _, number in COSTS),
            "" if found.peak is None else f"{found.peak / 1e6:,.0f}",
            "" if found.ess is None else f"{found.ess:,.0f}{_doubt(found)}",
            "" if found.r_hat is None else f"{found.r_hat:.3f}",
            *(_rate(number(found), found) for _, number in RATES),
        ]


def _rate(value: float | None, found: Measurement) -> str:
    return "" if value is None else figures(value) + _doubt(found)


def _doubt(*measurements: Measurement) -> str:
    return "" if all(m.is_mixed for m in measurements) else UNTRUSTED


def _multiples(measurements: Sequence[Measurement]) -> Iterable[list[str]]:
    """Give below a case our rates over the best peer's, and over the control's."""
    for ours in (m for m in measurements if m.role == "ours" and m.ess is not None):
        for role, name in (("peer", "best peer"), ("control", "control")):
            others = [m for m in measurements if m.role == role and m.ess is not None]
            if others:
                cells = [_multiple(ours, others, number) for _, number in RATES]
                blank = [""] * (len(HEADINGS) - len(RATES))
                yield [f"{ours.way} ÷ {name}", *blank, *cells]


def _multiple(ours: Measurement, others: Sequence[Measurement], number: Number) -> str:
    rated = [(value, m) for m in others if (value := number(m)) is not None]
    if not rated or number(ours) is None:
        return ""
    value, best = max(rated, key=lambda pair: pair[0])
    return times(number(ours), value) + _doubt(ours, best)


def failed(measurements: Sequence[Measurement]) -> bool:
    """Say whether a posterior of ours is missing, or took more memory than it may."""
    return any(m.role == "ours" and m.tried and m.problem is not None for m in measurements)


def write_json(measurements: Sequence[Measurement], settings: Settings, path: Path) -> None:
    """Keep every number, and where it was measured."""
    content = {
        "settings": asdict(settings),
        "machine": machine(),
        "measurements": [
            {
                **asdict(m),
                "cpu": m.cpu,
                "next_cpu": m.next_cpu,
                "sampling_cpu": m.sampling_cpu,
                "ess_per_cpu_second": {name: number(m) for name, number in RATES},
            }
            for m in measurements
        ],
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
