"""Profiles of the likelihood: zeta by parameter, beside the straight line that Wald takes."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.special import ndtri

from glmm_bayes.verbs.plots.look import INK, PALE, PALETTE, panels

if TYPE_CHECKING:
    from glmm_bayes.verbs.profile import Curve, Profile

LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)  # as lme4's
ACROSS = 3
STRONG = 0.95


def plot_profile(profile: "Profile") -> Figure:
    """
    Plot zeta against each parameter.

    Returns
    -------
    Figure
        One panel a parameter. zeta is the signed root of twice the fall of the log likelihood; a
        normal likelihood has the dashed straight line, from which Wald's interval is read. Bars
        are the intervals of 50, 80, 90, 95 and 99%, each at its height of zeta.
    """
    names = list(profile.branches)
    across = min(ACROSS, len(names))
    figure, axes = panels(-(-len(names) // across), across, size=(3.1, 2.6), sharey=True)
    for ax, name in zip(axes.flat, names, strict=False):
        _one(ax, profile.curve(name), name)
    for ax in axes.flat[len(names) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("zeta")
    return figure


def _one(ax: Axes, curve: "Curve", name: str) -> None:
    ax.set_xlabel(name)
    ax.axhline(0, color=PALE, lw=0.6)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    if len(curve.zeta) < 2:
        ax.text(0.5, 0.6, "flat", transform=ax.transAxes, ha="center", color=INK)
        return
    zeta = np.linspace(curve.zeta[0], curve.zeta[-1], 200)
    value = curve.at(zeta)
    shown = np.isfinite(value)
    ax.plot(value[shown], zeta[shown], color=PALETTE[0], lw=1.8, zorder=3)
    _straight(ax, curve, value[shown])
    for level in LEVELS:
        _bar(ax, curve, level)


def _straight(ax: Axes, curve: "Curve", value: np.ndarray) -> None:
    """Draw the tangent at the estimate, where it lies within both sides of the profile."""
    if not curve.zeta[0] < 0 < curve.zeta[-1]:
        return
    step = 0.05
    low, middle, high = curve.at(np.array([-step, 0.0, step]))
    slope = (high - low) / (2 * step)
    if not (np.isfinite(slope) and slope > 0):
        return
    ends = np.clip(np.array([value.min(), value.max()]), middle - 4 * slope, middle + 4 * slope)
    line = (ends - middle) / slope
    bounds = curve.zeta[[0, -1]] * 1.05
    inside = np.clip(line, *bounds)
    ax.plot(middle + inside * slope, inside, color=INK, lw=0.9, ls=(0, (4, 3)), zorder=2)


def _bar(ax: Axes, curve: "Curve", level: float) -> None:
    z = float(ndtri(0.5 + level / 2))
    ends = curve.at(np.array([-z, z]))
    # An end that the profile does not reach is that of the curve.
    low, high = np.where(np.isfinite(ends), ends, curve.value[[0, -1]])
    strong = level == STRONG
    colour, width = (PALETTE[1], 1.6) if strong else (PALE, 0.8)
    for end, found, side in ((low, ends[0], -z), (high, ends[1], z)):
        if np.isfinite(found):
            ax.plot([end, end], [0, side], color=colour, lw=width, zorder=1)
    if strong:
        ax.plot([low, high], [0, 0], color=colour, lw=width, zorder=1)
