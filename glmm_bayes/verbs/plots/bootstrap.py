"""The replicates of a bootstrap, by parameter, beside the estimate and the interval."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from glmm_bayes.verbs.plots.look import INK, PALE, PALETTE, panels

if TYPE_CHECKING:
    from glmm_bayes.verbs.bootstrap import Bootstrap

ACROSS = 3
TRIMMED = 0.002  # of the replicates at each end, that may stretch an axis no further


def plot_bootstrap(found: "Bootstrap") -> Figure:
    """
    Plot a histogram of each number of the statistic.

    Returns
    -------
    Figure
        The line is the estimate of the fit, the bar the 95% interval by percentiles.
    """
    names = list(found.draws.columns)
    across = min(ACROSS, len(names))
    figure, axes = panels(-(-len(names) // across), across, size=(3.1, 2.2))
    ends = found.confint()
    for ax, name in zip(axes.flat, names, strict=False):
        _histogram(ax, found.draws[name].dropna().to_numpy(), name)
        ax.axvline(found.estimate[name], color=INK, lw=1.2)
        lower, upper = ends.loc[name, ["lower", "upper"]].astype(float)
        ax.plot([lower, upper], [0, 0], color=PALETTE[1], lw=4, solid_capstyle="butt", zorder=4)
    for ax in axes.flat[len(names) :]:
        ax.set_visible(False)
    return figure


def _histogram(ax: Axes, values: np.ndarray, name: str) -> None:
    low, high = np.quantile(values, (TRIMMED, 1 - TRIMMED))
    ax.hist(np.clip(values, low, high), bins=30, color=PALETTE[0], alpha=0.75, edgecolor="white")
    ax.set_xlabel(name)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.spines["bottom"].set_color(PALE)
    ax.xaxis.set_major_locator(MaxNLocator(4))
