"""Estimates with their intervals: a row each, or curves along a number."""

import textwrap
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from glmm_bayes.errors import DataError
from glmm_bayes.verbs.contrasted import CONTRAST, row_labels
from glmm_bayes.verbs.datagrid import categorical
from glmm_bayes.verbs.estimates import Estimates, Quantities
from glmm_bayes.verbs.plots.look import (
    INK,
    PALETTE,
    colours,
    figure_of,
    panels,
    plain,
    round_ticks,
    with_meaning,
)

MOST = 60  # rows that can still be read
CURVES = 12  # curves that can still be told apart
FEW_TICKS = 3  # of a logarithmic axis; with less, evenly spaced ones
LINE = 34  # characters that a vertical label has room for
FEW = 5  # values of a number that have a row each; of more, a curve


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
        One row for each estimate of a family; families, the values of `by`, have colours. Where a
        number has more than five values, curves along it, coloured by what else there is. Where the
        estimates are differences or ratios, a line is at no difference.

    Raises
    ------
    DataError
        If there are more rows than can be read.
    """
    q = estimates.quantities
    along = _number(q)
    if ax is None:
        ax = panels(1, 1, size=(5.6, 3.4 if along else _height(q)))[1][0, 0]
    else:
        plain(ax)
    if along is None:
        _rows(ax, estimates)
    else:
        _curves(ax, estimates, along)
    return figure_of(ax)


def _number(q: Quantities) -> str | None:
    """Name the column that estimates lie along, if there is one."""
    found = [
        str(c) for c in q.labels if not categorical(q.labels[c]) and q.labels[c].nunique() > FEW
    ]
    return found[0] if len(found) == 1 and CONTRAST not in found else None


def _height(q: Quantities) -> float:
    families = list(q.families)
    return 1.0 + (0.22 + 0.1 * len(families)) * max(2, *(len(at) for at in families))


def _rows(ax: Axes, estimates: Estimates) -> None:
    q = estimates.quantities
    families = list(q.families)
    names = [row_labels(q, at) for at in families]
    rows = list(dict.fromkeys(name for family in names for name in family))
    _check_number(len(rows), MOST, "rows")
    ink = colours(len(families), ordered=False) if q.within else [PALETTE[0]]
    apart = np.linspace(0.25, -0.25, len(families)) if len(families) > 1 else np.zeros(1)
    for at, own, colour, shift in zip(families, names, ink, apart, strict=True):
        part = estimates.iloc[at]
        y = np.array([-rows.index(name) for name in own]) + shift
        reach = [part["estimate"] - part["lower"], part["upper"] - part["estimate"]]
        label = _label(q.labels.iloc[at[0]], list(q.within))
        ax.errorbar(
            part["estimate"], y, xerr=reach, fmt="o", ms=5, lw=1.8, color=colour, label=label
        )
    ax.set_yticks(-np.arange(len(rows)), rows)
    ax.set_ylim(-len(rows) + 0.4, 0.6)
    ax.set_xlabel(_what(estimates))
    if CONTRAST in q.labels:
        ax.axvline(_nothing(q), color=INK, lw=0.8, ls=":", zorder=0)
        if _nothing(q) == 1.0:
            _ratio_axis(ax)
    _legend(ax, named=bool(q.within))


def _ratio_axis(ax: Axes) -> None:
    ax.set_xscale("log")
    low, high = map(float, ax.get_xlim())
    ticks = round_ticks(low, high)
    if len(ticks) < FEW_TICKS:
        even = MaxNLocator(5).tick_values(low, high)
        ticks = [float(tick) for tick in even if low <= tick <= high and tick > 0]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_xticks([], minor=True)


def _curves(ax: Axes, estimates: Estimates, along: str) -> None:
    q = estimates.quantities
    others = [str(c) for c in q.labels if c != along and q.labels[c].nunique() > 1]
    groups = list(replace(q, within=tuple(others)).families)
    _check_number(len(groups), CURVES, "curves")
    for at, colour in zip(groups, colours(len(groups), ordered=False), strict=True):
        part = estimates.iloc[at].sort_values(along)
        label = _label(q.labels.iloc[at[0]], others)
        ax.fill_between(part[along], part["lower"], part["upper"], color=colour, alpha=0.2, lw=0)
        ax.plot(part[along], part["estimate"], color=colour, lw=1.8, label=label)
    ax.set_xlabel(with_meaning(q.fit.model, along))
    ax.set_ylabel(textwrap.fill(_what(estimates), LINE))
    if CONTRAST in q.labels:
        ax.axhline(_nothing(q), color=INK, lw=0.8, ls=":", zorder=0)
    _legend(ax, named=bool(others))


def _check_number(found: int, most: int, what: str) -> None:
    if found > most:
        raise DataError(
            f"{found} {what} are too many to plot; average by fewer columns, such as by='f'."
        )


def _nothing(q: Quantities) -> float:
    """Say where there is no difference."""
    return float(q.shown.back(0.0))


def _what(estimates: Estimates) -> str:
    return f"{estimates.quantities.words.shown}, {estimates.asked.level:.0%} interval"


def _label(row: pd.Series, columns: list[str]) -> str | None:
    return ", ".join(f"{c} = {row[c]}" for c in columns) or None


def _legend(ax: Axes, *, named: bool) -> None:
    if named:
        ax.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
