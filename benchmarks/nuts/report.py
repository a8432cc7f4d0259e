"""Measurements as a table to read and as JSON to keep."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from benchmarks.nuts.cases import CASES
from benchmarks.nuts.runner import OURS, TRUSTED_R_HAT, Measurement, Settings

WIDTH = 150  # what the table needs; a file or a pipe has no width of its own
UNTRUSTED = "?"

type Number = Callable[[Measurement], float | None]

# Heading, how to get it, how to write it, and whether our share of the peer's is of interest.
COLUMNS: tuple[tuple[str, Number, str, bool], ...] = (
    ("import s", lambda m: m.seconds.get("import"), ".2f", False),
    ("model s", lambda m: m.seconds.get("model"), ".2f", False),
    ("compile s", lambda m: m.seconds.get("compile"), ".2f", True),
    ("sampling s", lambda m: m.seconds.get("sampling"), ".2f", True),
    ("first posterior s", lambda m: m.first_posterior, ".1f", True),
    ("CPU s", lambda m: m.cpu, ".1f", True),
    ("ESS", lambda m: m.ess, ",.0f", False),
    ("R-hat", lambda m: m.r_hat, ".3f", False),
    ("ESS/s sampling", lambda m: m.ess_per_second, ",.3g", True),
    ("ESS/s in all", lambda m: m.ess_per_second_in_all, ",.3g", True),
    ("peak MB", lambda m: m.peak and m.peak / 1e6, ",.0f", True),
)

EXPLAINED = (
    "first posterior: from the start of the process to its draws; cold: nothing compiled before, "
    "warm: the next process. CPU: the same, over all cores.",
    "ESS: the smallest bulk ESS of fixed effects, standard deviations, correlations and family "
    "parameters; sampling includes warm-up.",
    "compile: our first call of the density; bambi's call of the sampler but for the sampling. "
    "Our sampling also computes the pointwise log-likelihood and the posterior predictive draws.",
    f"{UNTRUSTED}: R-hat is above {TRUSTED_R_HAT}, so this ESS is not to be trusted.",
)


def show(measurements: Sequence[Measurement], settings: Settings, console: Console) -> None:
    """Print the table, our numbers over the peers', and what a reader has to know."""
    if not console.is_terminal:
        console.width = WIDTH
    notes: list[str] = []
    table = Table(title=_title(settings))
    for heading in ("case", "start", "who"):
        table.add_column(heading, no_wrap=True)
    for heading, *_ in COLUMNS:
        table.add_column(heading, justify="right")
    for case in dict.fromkeys(m.case for m in measurements):
        table.add_section()
        note = CASES[case].note if case in CASES else None
        label = f"{case} {_mark(notes, note)}" if note else case
        for row in _rows([m for m in measurements if m.case == case], notes):
            table.add_row(label, *row)
            label = ""
    console.print(table)
    for line in (*EXPLAINED, *(f"({k}) {note}." for k, note in enumerate(notes, start=1))):
        console.print(line, markup=False)


def _title(settings: Settings) -> str:
    return (
        f"{settings.chains} chains of {settings.tune} + {settings.draws} draws on "
        f"{settings.cores} cores, no more than {settings.timeout:g} s a process"
    )


def _mark(notes: list[str], note: str) -> str:
    if note not in notes:
        notes.append(note)
    return f"({notes.index(note) + 1})"


def _rows(measurements: Sequence[Measurement], notes: list[str]) -> Iterable[list[str]]:
    """Give the cells of one case: every measurement, and below a start what we have of a peer's."""
    for start in ("cold", "warm"):
        found = {m.side: m for m in measurements if m.start == start}
        for side, measurement in found.items():
            who = f"{side} {measurement.version or ''}".strip()
            if measurement.problem:
                who = f"{who} {_mark(notes, measurement.problem)}"
            yield [start, who, *(_cell(measurement, *column[:3]) for column in COLUMNS)]
        ours = found.pop(OURS, None)
        for side, peer in found.items():
            if ours is not None:
                cells = (_share(ours, peer, *column) for column in COLUMNS)
                yield [start, f"ours / {side}", *cells]


def _cell(measurement: Measurement, heading: str, number: Number, form: str) -> str:
    value = number(measurement)
    if value is None:
        return "failed" if measurement.first_posterior is None else "–"
    return format(value, form) + _doubt(heading, measurement)


def _share(
    ours: Measurement, peer: Measurement, heading: str, number: Number, _form: str, shown: bool
) -> str:
    mine, theirs = number(ours), number(peer)
    failed = ours.first_posterior is None or peer.first_posterior is None
    if not shown or failed or mine is None or not theirs:
        return ""
    return f"{mine / theirs:.2g}×{_doubt(heading, ours, peer)}"


def _doubt(heading: str, *measurements: Measurement) -> str:
    trusted = all(m.is_mixed for m in measurements)
    return UNTRUSTED if heading.startswith("ESS") and not trusted else ""


def write_json(measurements: Sequence[Measurement], settings: Settings, path: Path) -> None:
    """Keep every number, and where it was measured."""
    content = {
        "settings": asdict(settings),
        "machine": machine(),
        "measurements": [
            {
                **asdict(m),
                "ess_per_second": m.ess_per_second,
                "ess_per_second_in_all": m.ess_per_second_in_all,
            }
            for m in measurements
        ],
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
