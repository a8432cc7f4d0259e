"""Estimates with their intervals, a row each: means, contrasts, comparisons, slopes."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from glmm_bayes.errors import DataError
from glmm_bayes.verbs.contrasted import CONTRAST, row_labels
from glmm_bayes.verbs.estimates import Estimates
from glmm_bayes.verbs.plots.look import INK, PALETTE, colours, figure_of, panels, plain, round_ticks

MOST = 60  # rows that can still be read


def plot_estimates(estimates: Estimates, ax: Axes | None = None) -> Figure:
    """
    Plot estimates with their intervals.

    Parameters
    ----------
    estimates
        As `emmeans`, `predictions`, `comparisons`, `slopes` and their `contrast` give them.
    ax
        Draw on these axes.

    Returns
    -------
    Figure
        One row of the figure for each row of a family; families, the values of `by`, have colours.
        Where the estimates are differences or ratios, a line is at no difference.

    Raises
    ------
    DataError
        If there are more rows than can be read.
    """
    q = estimates.quantities
    families = list(q.families)
    names = [row_labels(q, at) for at in families]
    rows = list(dict.fromkeys(name for family in names for name in family))
    if len(rows) > MOST:
        raise DataError(
            f"{len(rows)} rows are too many to plot; average them by a column, such as by='f'."
        )
    if ax is None:
        height = 1.0 + (0.22 + 0.1 * len(families)) * max(len(rows), 2)
        _, axes = panels(1, 1, size=(5.6, height))
        ax = axes[0, 0]
    else:
        plain(ax)
    ink = colours(len(families), ordered=False) if q.within else [PALETTE[0]]
    apart = np.linspace(0.25, -0.25, len(families)) if len(families) > 1 else np.zeros(1)
    for at, own, colour, shift in zip(families, names, ink, apart, strict=True):
        part = estimates.iloc[at]
        y = np.array([-rows.index(name) for name in own]) + shift
        reach = [part["estimate"] - part["lower"], part["upper"] - part["estimate"]]
        label = ", ".join(f"{c} = {q.labels[c].iloc[at[0]]}" for c in q.within) or None
        ax.errorbar(
            part["estimate"], y, xerr=reach, fmt="o", ms=5, lw=1.8, color=colour, label=label
        )
    _finish(ax, estimates, rows)
    return figure_of(ax)


def _finish(ax: Axes, estimates: Estimates, rows: list[str]) -> None:
    q = estimates.quantities
    ax.set_yticks(-np.arange(len(rows)), rows)
    ax.set_ylim(-len(rows) + 0.4, 0.6)
    ax.set_xlabel(f"{q.words.shown}, {estimates.asked.level:.0%} interval")
    if CONTRAST in q.labels:
        ax.axvline(float(q.shown.back(0.0)), color=INK, lw=0.8, ls=":", zorder=0)
        if float(q.shown.back(0.0)) == 1.0:
            _ratio_axis(ax)
    if q.within:
        ax.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _ratio_axis(ax: Axes) -> None:
    ax.set_xscale("log")
    ticks = round_ticks(*map(float, ax.get_xlim()))
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_xticks([], minor=True)
