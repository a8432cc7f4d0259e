"""Series of simulated tables that grow, each fitted in a process of its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.ml.cases import OURS, Way
from benchmarks.ml.runner import Settings, measure_ours
from benchmarks.simulate import Simulation

FORMULA = "y ~ x + (1 | g) + (1 | h)"
# Of the series that grows in rows, and the rows of the one that grows in levels.
FIXED_LEVELS = (1_000, 100)
FIXED_ROWS = 1_000_000
# Family to the kind of table and the method.
FAMILIES = {"gaussian": ("gaussian_crossed", "reml"), "bernoulli": ("bernoulli_crossed", "ml")}


@dataclass(frozen=True)
class Series:
    """Tables of one family that grow in one respect, `"rows"` or `"levels"`."""

    family: str
    along: str
    simulations: tuple[Simulation, ...]

    @property
    def name(self) -> str:
        """Family and respect, for tables and figures."""
        return f"{self.family}, {self.along}"


@dataclass(frozen=True)
class Point:
    """
    What one fit took, from a data frame in memory to a printed summary.

    Attributes
    ----------
    cpu, wall
        Seconds of processor and of the clock; None where there is no fit, for a `problem`.
    peak
        Bytes of resident memory, table and libraries included.
    """

    series: str
    along: str
    rows: int
    levels: tuple[int, ...]
    cpu: float | None = None
    wall: float | None = None
    peak: float | None = None
    problem: str | None = None

    @property
    def size(self) -> int:
        """What grows along the series: rows, or levels of each factor."""
        return self.rows if self.along == "rows" else self.levels[0]


def series(families: Sequence[str], rows: Sequence[int], levels: Sequence[int]) -> list[Series]:
    """Give for each family the series along the rows and along the levels; none of no sizes."""
    found = []
    for family in families:
        kind, _ = FAMILIES[family]
        along_rows = tuple(Simulation(kind, n, FIXED_LEVELS) for n in sorted(rows))
        along_levels = tuple(Simulation(kind, FIXED_ROWS, (q, q)) for q in sorted(levels))
        found += [Series(family, "rows", along_rows), Series(family, "levels", along_levels)]
    return [one for one in found if one.simulations]


def measure(wanted: Series, settings: Settings, folder: Path) -> Iterator[Point]:
    """Measure the points of a series from the smallest on; no larger one after one that failed."""
    way = Way(OURS, {"formula": FORMULA, "family": wanted.family})
    _, method = FAMILIES[wanted.family]
    # Compiles what the series needs.
    measure_ours(wanted.name, wanted.simulations[0], way, method, settings, folder)
    for simulation in wanted.simulations:
        found = measure_ours(wanted.name, simulation, way, method, settings, folder)
        yield Point(
            wanted.name,
            wanted.along,
            simulation.rows,
            simulation.levels,
            found.next_cpu,
            found.wall,
            found.peak,
            found.problem,
        )
        if found.problem is not None:
            return
