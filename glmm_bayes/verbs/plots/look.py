"""What all figures share: colours, labels, and empty panels."""

import textwrap
from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from glmm_bayes.families import Family
from glmm_bayes.model import Model

INK = "0.2"
PALE = "0.65"
# Okabe & Ito's colours, told apart by colour-blind readers too; black is kept for text.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D1F")


def panels(
    rows: int,
    columns: int,
    *,
    size: tuple[float, float] = (4.0, 3.2),
    heights: list[float] | None = None,
    sharey: bool = False,
) -> tuple[Figure, np.ndarray]:
    """Make a figure and its axes `(rows, columns)`; `size` is of one panel, in inches."""
    tall = sum(heights) if heights else rows * size[1]
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(size[0] * columns, tall),
        height_ratios=heights,
        sharey=sharey,
        squeeze=False,
        layout="constrained",
    )
    for ax in axes.flat:
        plain(ax)
    return figure, axes


def plain(ax: Axes) -> None:
    """Take away the frame's upper and right side."""
    ax.spines[["top", "right"]].set_visible(False)


def figure_of(ax: Axes) -> Figure:
    """Give the whole figure that the user's axes are in."""
    figure = ax.get_figure(root=True)
    if not isinstance(figure, Figure):
        raise TypeError("The axes are in no figure.")
    return figure


def with_meaning(model: Model, name: str, width: int = 46) -> str:
    """Label a column by its name and, where the data say it in `attrs`, its meaning and unit."""
    units = getattr(model.data, "attrs", {}).get("units", {})
    meaning = units.get(name) if isinstance(units, Mapping) else None
    return textwrap.fill(f"{name}: {meaning}" if meaning else name, width)


def response_name(model: Model) -> str:
    """Name the response, without the backticks that a formula needs."""
    return model.design.response.name.strip("`")


def colours(k: int, *, ordered: bool) -> list[str]:
    """Give k colours: a scale from dark to light if they have an order or are very many."""
    if ordered or k > len(PALETTE):
        return [to_hex(shade) for shade in colormaps["viridis"](np.linspace(0.0, 0.85, k))]
    return list(PALETTE[:k])


def positive_and_unbounded(family: Family, trials: np.ndarray | None) -> bool:
    """Tell whether the family has no negative responses and no greatest one."""
    problem = family.problem
    if trials is not None:
        return False
    return problem(np.array([-1.0]), None) is not None and problem(np.array([2.0]), None) is None


def log_axis(ax: Axes, values: np.ndarray) -> None:
    """Give the vertical axis a logarithmic scale; with zeros asinh, which is linear below 1."""
    if values.min() > 0:
        ax.set_yscale("log")
        return
    ax.set_yscale("asinh", linear_width=1)
    ticks = round_ticks(float(values.min()), float(values.max()))
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_yticks([], minor=True)


def round_ticks(lower: float, upper: float) -> list[float]:
    """List 1 and 3 times powers of ten, or few enough powers of ten, and 0 if it is within."""
    first = 0 if lower <= 0 else int(np.floor(np.log10(lower)))
    last = max(first, int(np.ceil(np.log10(max(upper, 1e-300)))))
    multiples = (1, 3) if last - first < 5 else (1,)
    every = 1 + (last - first) // 10
    powers = [m * 10.0**e for e in range(first, last + 1, every) for m in multiples]
    return [0.0] * (lower <= 0) + [tick for tick in powers if lower <= tick <= upper]
