"""Estimates and intervals of one model by several methods, beside one another."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from glmm_bayes.errors import DataError
from glmm_bayes.model import Model
from glmm_bayes.verbs.describe import predictor_label
from glmm_bayes.verbs.plots.look import INK, PALE, colours, panels

if TYPE_CHECKING:
    from glmm_bayes.verbs.compare_methods import MethodComparison

WIDE = 3.0  # times a usual interval: a wider one is cut off
NARROW = 0.15  # of a panel: parameters whose intervals would be narrower have one of their own
ROW, GAP = 0.15, 0.16  # inches: a method, and between parameters
AROUND, ENDS = 0.55, 0.55  # inches: a panel's axis; legend and note
LINE = 105  # characters that fit beside one another
SHOWN = ["method", "estimate", "lower", "upper"]
MARKERS = "osD^vPd"
MEANING = {"fixed": "coefficient", "sd": "standard deviation", "corr": "correlation"}


@dataclass(frozen=True)
class Look:
    """How a method is drawn; hollow if it has not converged."""

    colour: str
    marker: str
    hollow: bool

    @property
    def dot(self) -> dict[str, Any]:
        """The marker, as matplotlib takes it."""
        fill = "white" if self.hollow else self.colour
        return {
            "marker": self.marker,
            "ms": 5,
            "mfc": fill,
            "mec": self.colour,
            "mew": 1.2,
            "ls": "none",
        }


def plot_methods(comparison: "MethodComparison", parm: str | Sequence[str] | None = None) -> Figure:
    """
    Plot every parameter's estimates and intervals, methods by colour.

    Parameters
    ----------
    parm
        Names of parameters; by default all.

    Returns
    -------
    Figure
        Parameters of one kind and of similar scale share an axis. Where an interval is far wider
        than the others, as of separated data, it leaves the panel at an arrow and its numbers
        stand on the right: estimate (lower, upper). Methods that have not converged are hollow.

    Raises
    ------
    DataError
        If no method gave a fit.
    """
    # What has a standard deviation of zero has no correlation.
    table = comparison.of(parm).dropna(subset="estimate")
    if table.empty:
        raise DataError("No method gave a fit with estimates, so there is nothing to plot.")
    looks = _looks(comparison)
    blocks = list(_blocks(table))
    heights = [len(block) * (ROW * len(looks) + GAP) for block in blocks]
    figure, axes = panels(len(blocks), 1, size=(7.6, 1.0), heights=heights)
    figure.set_figheight(sum(heights) + AROUND * len(blocks) + ENDS)
    for ax, block in zip(axes[:, 0], blocks, strict=True):
        _panel(ax, block, looks)
        ax.set_xlabel(_meaning(comparison.model, block[0]), fontsize="small")
    _legend(figure, looks)
    figure.supxlabel(textwrap.fill(_note(comparison), LINE), fontsize="x-small", color=INK)
    return figure


def _looks(comparison: "MethodComparison") -> dict[str, Look]:
    """Give every method that has a fit its look; the others keep theirs for another figure."""
    outcomes = comparison.runs["outcome"]
    ink = colours(len(outcomes), ordered=False)
    return {
        name: Look(ink[k], MARKERS[k % len(MARKERS)], outcome != "converged")
        for k, (name, outcome) in enumerate(zip(outcomes.index, outcomes, strict=True))
        if name in comparison.fits
    }


# ---- which parameters share an axis


def _blocks(table: pd.DataFrame) -> Iterator[list[pd.DataFrame]]:
    """Give neighbouring parameters together whose intervals can be read on one axis."""
    block: list[pd.DataFrame] = []
    for _, rows in table.groupby("name", sort=False):
        if block and not _alike([*block, rows]):
            yield block
            block = []
        block.append(rows)
    yield block


def _alike(block: list[pd.DataFrame]) -> bool:
    if len({(rows["kind"].iloc[0], rows["param"].iloc[0]) for rows in block}) > 1:
        return False
    spans = np.array([_span(rows) for rows in block])
    whole = spans[:, 1].max() - spans[:, 0].min()
    return bool(np.ptp(spans, axis=1).min() >= NARROW * whole)


def _span(rows: pd.DataFrame) -> tuple[float, float]:
    """
    Choose what is shown of a parameter: intervals that are not far wider than the others.

    Estimates without an interval count if they are near.
    """
    estimate, lower, upper = (rows[c].to_numpy(float) for c in ("estimate", "lower", "upper"))
    width = upper - lower
    if not np.isfinite(width).any():
        return float(estimate.min()), float(estimate.max())
    known = np.sort(width[np.isfinite(width)])
    usual = known[(len(known) - 1) // 3]
    shown = width <= WIDE * usual
    low, high = lower[shown].min(), upper[shown].max()
    near = estimate[(estimate > low - usual) & (estimate < high + usual)]
    return float(min([low, *near])), float(max([high, *near]))


# ---- one panel


def _panel(ax: Axes, block: list[pd.DataFrame], looks: dict[str, Look]) -> None:
    spans = np.array([_span(rows) for rows in block])
    low, high = spans[:, 0].min(), spans[:, 1].max()
    kind = block[0]["kind"].iloc[0]
    if kind in MEANING and 0 < low < 0.5 * high:
        low = 0.0
    margin = 0.04 * (high - low) or 1.0
    ends = low - margin, high + margin
    ax.set_xlim(ends)
    step = 1 / (len(looks) + GAP / ROW)
    for at, rows in enumerate(block):
        if at % 2:
            ax.axhspan(at - 0.5, at + 0.5, color=PALE, alpha=0.15, lw=0)
        for method, *numbers in rows[SHOWN].itertuples(index=False, name=None):
            place = list(looks).index(method) - 0.5 * (len(looks) - 1)
            _interval(ax, numbers, at + step * place, looks[method], ends)
    if ends[0] < 0 < ends[1]:
        ax.axvline(0, color=INK, lw=0.8, ls=":", zorder=0)
    ax.set_yticks(range(len(block)), [rows["name"].iloc[0] for rows in block])
    ax.tick_params(axis="y", length=0, pad=8)
    ax.set_ylim(len(block) - 0.5, -0.5)


def _interval(
    ax: Axes, numbers: list[float], y: float, look: Look, ends: tuple[float, float]
) -> None:
    estimate, lower, upper = numbers
    first, last = np.clip((lower, upper), *ends)
    ax.plot([first, last], [y, y], color=look.colour, lw=1.6, solid_capstyle="butt")
    out = [estimate if np.isnan(end) else end for end in (lower, upper)]
    beyond = [out[0] < ends[0], out[1] > ends[1]]
    for gone, end, marker in zip(beyond, ends, "<>", strict=True):
        if gone:
            ax.plot(end, y, marker=marker, ms=6, color=look.colour, mew=0, clip_on=False)
    if ends[0] <= estimate <= ends[1]:
        ax.plot(estimate, y, zorder=3, **look.dot)
    if any(beyond):
        words = f"{estimate:.3g}"
        if not np.isnan(lower):
            words += f" ({lower:.3g}, {upper:.3g})"
        ax.annotate(
            words.replace("-", "−"),
            (1.0, y),
            (6, 0),
            xycoords=ax.get_yaxis_transform(),
            textcoords="offset points",
            va="center",
            fontsize="x-small",
            color=look.colour,
        )


# ---- words around the panels


def _meaning(model: Model, rows: pd.DataFrame) -> str:
    kind, param = rows["kind"].iloc[0], rows["param"].iloc[0]
    if kind == "family":
        return "family's parameter"
    words = MEANING.get(kind, kind)
    if kind == "corr" or param not in model.design.predictors:
        return words
    return f"{words}, scale of {predictor_label(model, param)}"


def _legend(figure: Figure, looks: dict[str, Look]) -> None:
    handles = [
        Line2D([], [], color=look.colour, lw=1.6, **(look.dot | {"ls": "-"}))
        for look in looks.values()
    ]
    names = [f"{n} (not converged)" if look.hollow else n for n, look in looks.items()]
    figure.legend(
        handles,
        names,
        loc="outside upper center",
        ncols=len(names) if sum(len(name) + 6 for name in names) < LINE else 3,
        frameon=False,
        fontsize="small",
    )


def _note(comparison: "MethodComparison") -> str:
    parts = [f"{comparison.level:.0%} intervals: of maxima Wald's, of draws equal-tailed"]
    missing = [str(name) for name in comparison.runs.index if name not in comparison.fits]
    if missing:
        parts.append(f"without a fit: {', '.join(missing)}")
    return "; ".join(parts)
