"""The command `posterior`: posteriors of ours beside nutpie's on our model, bambi's, rstanarm's."""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.posterior.cases import CASES, WAYS, Way
from benchmarks.posterior.report import failed, show, write_json
from benchmarks.posterior.runner import Interpreters, Settings, measure
from benchmarks.processes import lacks, lacks_in_r


def add_arguments(parser: argparse.ArgumentParser) -> None:
    defaults = Settings()
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    parser.add_argument(
        "--ways",
        nargs="+",
        choices=WAYS,
        metavar="WAY",
        help=f"of {', '.join(WAYS)}; default: those installed",
    )
    parser.add_argument(
        "--peer-python", default=sys.executable, help="the Python of the peers' environment"
    )
    parser.add_argument("--rscript", default="Rscript", help="the command that runs R")
    for name in ("draws", "tune", "chains", "cores", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(defaults, name))
    parser.add_argument(
        "--timeout", type=float, default=defaults.timeout, help="seconds for one process"
    )
    parser.add_argument(
        "--memory", type=float, default=defaults.most_bytes / 1e9, help="GB for one process"
    )
    parser.add_argument("--json", type=Path, help="a file for all numbers")


def run(asked: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Give 1 if a posterior of ours failed or took more memory than it may, else 0."""
    settings = Settings(
        asked.draws,
        asked.tune,
        asked.chains,
        asked.cores,
        asked.seed,
        asked.timeout,
        asked.memory * 1e9,
    )
    ways = _installed(asked, parser)
    interpreters = Interpreters(peers=asked.peer_python, r=asked.rscript)
    progress, measurements = Console(stderr=True), []
    for name in asked.cases:
        for found in measure(CASES[name], ways, settings, interpreters):
            progress.print(f"{name}: {WAYS[found.way].label}", markup=False)
            measurements.append(found)
            if asked.json:
                # A later case may take an hour, or end the machine's patience.
                write_json(measurements, settings, asked.json)
    show(measurements, settings, Console())
    return int(failed(measurements))


def _installed(asked: argparse.Namespace, parser: argparse.ArgumentParser) -> list[Way]:
    """Give the ways to measure by: those asked for, which have to be there, or those that are."""
    ways = [WAYS[name] for name in asked.ways or WAYS]
    in_python = {name for way in ways if not way.in_r for name in way.packages}
    in_r = {name for way in ways if way.in_r for name in way.packages}
    missing = lacks(asked.peer_python, sorted(in_python)) if in_python else []
    missing += lacks_in_r(asked.rscript, sorted(in_r)) if in_r else []
    if missing and asked.ways is not None:
        parser.error(
            f"There is no {', '.join(missing)}: install it, name the Python of another "
            f"environment with --peer-python or another R with --rscript, or leave out of --ways "
            f"what needs it."
        )
    if missing:
        Console(stderr=True).print(f"Not measured, for not installed: {', '.join(missing)}.")
    return [way for way in ways if not set(way.packages) & set(missing)]
