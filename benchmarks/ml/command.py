"""The command `ml`: maximum likelihood fits beside lme4, glmmTMB, gpboost, mixedlm, statsmodels."""

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks.ml.cases import CASES, OURS, PEERS, PYTHON_PEERS, R_PEERS
from benchmarks.ml.report import failed, show, write_json
from benchmarks.ml.runner import Interpreters, Settings, measure
from benchmarks.processes import lacks, lacks_in_r


def add_arguments(parser: argparse.ArgumentParser) -> None:
    defaults = Settings()
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    parser.add_argument(
        "--peers", nargs="*", choices=PEERS, metavar="PEER", help="default: those installed"
    )
    parser.add_argument(
        "--peer-python", default=sys.executable, help="the Python of the peers' environment"
    )
    parser.add_argument("--rscript", default="Rscript", help="the command that runs R")
    parser.add_argument(
        "--timeout", type=float, default=defaults.timeout, help="seconds for one process"
    )
    parser.add_argument(
        "--memory", type=float, default=defaults.most_bytes / 1e9, help="GB for one process"
    )
    parser.add_argument(
        "--peers-only", dest="sides", action="store_const", const=(), default=(OURS,)
    )
    parser.add_argument("--json", type=Path, help="a file for all numbers")


def run(asked: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Give 1 if a fit of ours failed, or if its likelihood is below a peer's, else 0."""
    settings = Settings(timeout=asked.timeout, most_bytes=asked.memory * 1e9)
    peers = _installed(asked, parser)
    interpreters = Interpreters(peers=asked.peer_python, r=asked.rscript)
    progress, measurements = Console(stderr=True), []
    for name in asked.cases:
        with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
            sides = (*asked.sides, *peers)
            for found in measure(CASES[name], sides, settings, interpreters, Path(folder)):
                progress.print(f"{name}: {found.who}", markup=False)
                measurements.append(found)
                if asked.json:
                    # A later case may take an hour, or end the machine's patience.
                    write_json(measurements, settings, asked.json)
    show(measurements, settings, Console())
    return int(failed(measurements))


def _installed(asked: argparse.Namespace, parser: argparse.ArgumentParser) -> list[str]:
    """Give the peers to measure: those asked for, which have to be there, or those that are."""
    wanted = PEERS if asked.peers is None else asked.peers
    missing = lacks(asked.peer_python, [peer for peer in wanted if peer in PYTHON_PEERS])
    from_r = [peer for peer in wanted if peer in R_PEERS]
    missing += lacks_in_r(asked.rscript, from_r)
    if missing and asked.peers is not None:
        parser.error(
            f"There is no {', '.join(missing)}: install it, or name the Python of another "
            f"environment with --peer-python or another R with --rscript, or leave it out of "
            f"--peers."
        )
    if missing:
        Console(stderr=True).print(f"Not measured, for not installed: {', '.join(missing)}.")
    return [peer for peer in wanted if peer not in missing]
