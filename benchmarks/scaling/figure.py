"""The figure of the series: seconds and memory against size, both axes logarithmic."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.scaling.points import Point

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(points: Sequence[Point]) -> "Figure":
    """Draw seconds above and memory below, a column of panels for each respect that grows."""
    from matplotlib.figure import Figure

    respects = list(dict.fromkeys(point.along for point in points)) or ["rows"]
    figure = Figure(figsize=(4.5 * len(respects), 6), layout="constrained")
    panels = figure.subplots(2, len(respects), squeeze=False, sharex="col")
    for (above, below), along in zip(panels.T, respects, strict=True):
        fitted = [p for p in points if p.along == along and p.cpu is not None]
        for name in dict.fromkeys(p.series for p in fitted):
            of_series = [p for p in fitted if p.series == name]
            sizes = [p.size for p in of_series]
            above.loglog(sizes, [p.cpu for p in of_series], "o-", label=name)
            below.loglog(sizes, [(p.peak or 0) / 1e6 for p in of_series], "o-")
        above.set(ylabel="CPU seconds of a fit")
        below.set(ylabel="peak memory, MB", xlabel=_axis(along))
        if fitted:
            above.legend(frameon=False)
    return figure


def _axis(along: str) -> str:
    return "rows" if along == "rows" else "levels of each of two crossed factors"
