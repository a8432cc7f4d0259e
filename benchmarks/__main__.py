"""Measure, and show a table: `python -m benchmarks --help`."""

import argparse
import sys
from collections.abc import Sequence

from benchmarks.dependence import command as dependence
from benchmarks.intervals import command as intervals
from benchmarks.ml import command as ml
from benchmarks.posterior import command as posterior
from benchmarks.scaling import command as scaling
from benchmarks.startup import command as startup
from benchmarks.tests import command as tests

COMMANDS = {
    "ml": ml,
    "posterior": posterior,
    "startup": startup,
    "scaling": scaling,
    "intervals": intervals,
    "tests": tests,
    "dependence": dependence,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Give 1 if something of ours is not as it should be, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    choices = parser.add_subparsers(dest="command", required=True)
    of_command = {}
    for name, module in COMMANDS.items():
        words = str(module.__doc__).split(": ", 1)[1]
        of_command[name] = choices.add_parser(name, help=words, description=words)
        module.add_arguments(of_command[name])
    asked = parser.parse_args(arguments)
    return COMMANDS[asked.command].run(asked, of_command[asked.command])


if __name__ == "__main__":
    sys.exit(main())
