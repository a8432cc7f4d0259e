"""Random effects with their intervals, sorted."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from glmm_bayes.errors import DataError, UnknownNameError
from glmm_bayes.fit import Fit
from glmm_bayes.registry import suggestion
from glmm_bayes.verbs.describe import predictor_label
from glmm_bayes.verbs.plots.look import INK, PALE, PALETTE, panels

LABELLED = 45  # levels that can still be named beside one another


def plot_ranef(
    fit: Fit, group: str | None = None, coef: str | None = None, *, level: float = 0.95
) -> Figure:
    """
    Plot every level's random effects, sorted by estimate: a caterpillar.

    Parameters
    ----------
    group, coef
        One group and one column, as `ranef` calls them; by default all.
    level
        Probability of the intervals.

    Returns
    -------
    Figure
        One row of panels a group (and parameter, and structure where a group has several), one
        panel a column; intervals without zero are dark. With many levels they are not named.
    """
    table = _chosen(fit, group, coef, level)
    blocks = [block for _, block in table.groupby(["param", "group", "structure"], sort=False)]
    coefs = [list(dict.fromkeys(block["coef"])) for block in blocks]
    heights = [_height(block["level"].nunique()) for block in blocks]
    figure, axes = panels(len(blocks), max(map(len, coefs)), size=(4.4, 1.0), heights=heights)
    for row, block, names in zip(axes, blocks, coefs, strict=True):
        for ax, name in zip(row, names, strict=False):
            _caterpillar(ax, block[block["coef"] == name].sort_values("estimate"))
            param, label = block["param"].iloc[0], _labels(table, block)
            ax.set_title(f"{label}: {name}", fontsize="medium")
            ax.set_xlabel(f"effect on {predictor_label(fit.model, param)}, {level:.0%} interval")
        row[0].set_ylabel(_levels_label(block))
        for ax in row[len(names) :]:
            ax.set_visible(False)
    return figure


def _chosen(fit: Fit, group: str | None, coef: str | None, level: float) -> pd.DataFrame:
    table = fit.ranef(level=level)
    if table.empty:
        raise DataError(f"The model {fit.model.formula.texts[0]!r} has no random effects to plot.")
    for column, wanted in (("group", group), ("coef", coef)):
        known: Sequence[str] = list(dict.fromkeys(table[column]))
        if wanted is not None and wanted not in known:
            raise UnknownNameError(
                f"The random effects have no {column} {wanted!r}. {suggestion(wanted, known)}"
            )
        if wanted is not None:
            table = table[table[column] == wanted]
    if table.empty:
        raise UnknownNameError(f"The group {group!r} has no coefficient {coef!r}.")
    return table


def _labels(table: pd.DataFrame, block: pd.DataFrame) -> str:
    """Name a block's group, with its structure where other terms are of the same group."""
    group, structure = block["group"].iloc[0], block["structure"].iloc[0]
    several = table.loc[table["group"] == group, "structure"].nunique() > 1
    return f"{group}, {structure}" if several else group


def _height(levels: int) -> float:
    return 1.0 + 0.16 * max(levels, 6) if levels <= LABELLED else 3.4


def _levels_label(block: pd.DataFrame) -> str:
    label, q = block["group"].iloc[0], block["level"].nunique()
    return label if q <= LABELLED else f"{label} ({q:,} levels, sorted)"


def _caterpillar(ax: Axes, table: pd.DataFrame) -> None:
    few = len(table) <= LABELLED
    y = np.arange(len(table))
    sure = ((table["lower"] > 0) | (table["upper"] < 0)).to_numpy()
    lines = ax.hlines(y, table["lower"], table["upper"], lw=1.4 if few else 0.6)
    lines.set_color([PALETTE[0] if s else PALE for s in sure])
    if few:
        dots = ax.scatter(table["estimate"], y, s=16, zorder=3)
        dots.set_color([PALETTE[0] if s else "0.45" for s in sure])
        ax.set_yticks(y, table["level"], fontsize="small")
    else:
        ax.plot(table["estimate"], y, color=INK, lw=1.2)
        ax.set_yticks([])
    ax.axvline(0, color=INK, lw=0.8, ls=":")
    ax.set_ylim(-1, len(table))
