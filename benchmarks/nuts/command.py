"""The command `nuts`: time to the first posterior, effective draws a second, and memory."""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.nuts.cases import CASES
from benchmarks.nuts.report import show, write_json
from benchmarks.nuts.runner import OURS, Measurement, Settings, measure
from benchmarks.processes import lacks

PEERS = ("bambi",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    defaults = Settings()
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS), metavar="PEER")
    parser.add_argument(
        "--peer-python", default=sys.executable, help="the Python of the peers' environment"
    )
    for name in ("draws", "tune", "chains", "cores", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(defaults, name))
    parser.add_argument(
        "--timeout", type=float, default=defaults.timeout, help="seconds for one process"
    )
    parser.add_argument("--json", type=Path, help="a file for all numbers")


def run(asked: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Give 1 if a measurement of ours failed or took more memory than it may, else 0."""
    settings = Settings(
        asked.draws, asked.tune, asked.chains, asked.cores, asked.seed, asked.timeout
    )
    missing = lacks(asked.peer_python, asked.peers)
    if missing:
        parser.error(
            f"{asked.peer_python} has no {', '.join(missing)}: install it there "
            f'(pip install "glmm-bayes[benchmarks]"), name the Python of another environment with '
            f"--peer-python, or measure without peers: --peers with nothing after it."
        )
    progress, measurements = Console(stderr=True), []
    for name in asked.cases:
        for side in (OURS, *asked.peers):
            case = CASES[name]
            if side != OURS and case.peer_formula is None:
                continue
            progress.print(f"{name}: {side} …", markup=False)
            python = sys.executable if side == OURS else asked.peer_python
            measurements += measure(case, side, settings, python)
            if asked.json:
                # A later case may take an hour, or end the machine's patience.
                write_json(measurements, settings, asked.json)
    show(measurements, settings, Console())
    return int(any(_failed(m) for m in measurements))


def _failed(measurement: Measurement) -> bool:
    return measurement.side == OURS and measurement.problem is not None
