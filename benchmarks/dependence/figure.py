"""Cost against the number of levels, a panel a kind of model."""

from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.dependence.cases import CASES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.dependence.command import Point

MARKERS = {"ml": "o", "posthoc": "s", "nuts": "D", "glmmTMB": "^", "gpboost": "v"}


def draw(points: "Sequence[Point]", path: Path) -> None:
    """Draw processor seconds, on logarithmic scales."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    names = [name for name in CASES if any(p.case == name and p.cpu for p in points)]
    fig, axes = plt.subplots(
        1, len(names), figsize=(2.6 * len(names) + 0.6, 3.2), sharey=True, layout="constrained"
    )
    for ax, name in zip([axes] if len(names) == 1 else axes, names, strict=True):
        for k, (method, marker) in enumerate(MARKERS.items()):
            own = [p for p in points if p.case == name and p.method == method and p.cpu]
            if own:
                sizes, cpu = [p.size for p in own], [p.cpu for p in own]
                ax.plot(sizes, cpu, marker=marker, ms=5, color=f"C{k}", label=method)
        ax.set(xscale="log", yscale="log", title=name, xlabel=CASES[name].counted)
        ax.xaxis.set_minor_formatter("")
        ax.grid(which="major", alpha=0.3)
    first = axes if len(names) == 1 else axes[0]
    first.set_ylabel("processor seconds")
    found = {}
    for ax in fig.axes:
        handles, labels = ax.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    fig.legend(found.values(), found.keys(), loc="outside lower center", ncols=5, frameon=False)
    fig.savefig(path, dpi=110)
