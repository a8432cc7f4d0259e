"""Regions of two parameters, from how each moves along the other's profile."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.interpolate import CubicSpline, PchipInterpolator
from scipy.special import chdtri

from glmm_bayes.errors import DataError
from glmm_bayes.verbs.plots.look import INK, PALE, PALETTE, panels

if TYPE_CHECKING:
    from glmm_bayes.verbs.profile import Curve, Profile

LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)
STRONG = 0.95
MOST = 9  # parameters that still have room


def plot_pairs(profile: "Profile") -> Figure:
    """
    Plot every pair of parameters.

    Returns
    -------
    Figure
        Below the diagonal on the parameters' own scales, above it in units of zeta, in which a
        normal likelihood has ellipses. Contours are regions of 50, 80, 90, 95 (the strong one) and
        99% for the pair; lines are where the one parameter is best for each value of the other.
        A region that runs into the end of a parameter's support is left out.

    Raises
    ------
    DataError
        If fewer than two parameters have profiles, or more than there is room for.

    Notes
    -----
    Contours are interpolated between the four points where they touch the profile traces: Bates
    & Watts (1988), Nonlinear Regression Analysis, appendix A6.
    """
    curves = {name: profile.curve(name) for name in profile.branches}
    names = [name for name, curve in curves.items() if len(curve.zeta) > 3]
    if not 2 <= len(names) <= MOST:
        raise DataError(
            f"A plot of pairs is for 2 to {MOST} parameters, and {len(names)} have profiles; "
            f"choose them by fit.profile([…])."
        )
    size = 2.0 if len(names) > 3 else 2.6
    figure, axes = panels(len(names), len(names), size=(size, size * 0.9))
    for i, below in enumerate(names):
        for j, across in enumerate(names):
            if i == j:
                _diagonal(axes[i, j], curves[below], below)
            else:
                pair = _Pair(profile.table, curves, across, below)
                pair.draw(axes[i, j], natural=i > j)
    for ax, name in zip(axes[-1], names, strict=True):
        ax.set_xlabel(name, fontsize="small")
    for ax, name in zip(axes[1:, 0], names[1:], strict=True):
        ax.set_ylabel(name, fontsize="small")
    return figure


def _diagonal(ax: Axes, curve: "Curve", name: str) -> None:
    zeta = np.linspace(curve.zeta[0], curve.zeta[-1], 100)
    ax.plot(curve.at(zeta), zeta, color=PALETTE[0], lw=1.4)
    ax.axhline(0, color=PALE, lw=0.6)
    ax.set_title(name, fontsize="small")
    _small(ax)


def _small(ax: Axes) -> None:
    ax.tick_params(labelsize="x-small")
    ax.xaxis.set_major_locator(MaxNLocator(3))
    ax.yaxis.set_major_locator(MaxNLocator(3))


class _Pair:
    """Two parameters, and zeta of each along the profile of the other."""

    def __init__(
        self, table: pd.DataFrame, curves: dict[str, "Curve"], across: str, up: str
    ) -> None:
        self.x, self.y = curves[across], curves[up]
        self.up_along = _trace(table, across, up, self.y)
        self.across_along = _trace(table, up, across, self.x)

    def draw(self, ax: Axes, *, natural: bool) -> None:
        """Draw contours and traces, on the parameters' scales or in zeta."""
        for level in LEVELS:
            found = self.contour(float(np.sqrt(chdtri(2, 1 - level))))
            if found is None:
                continue
            x, y = (self.x.at(found[0]), self.y.at(found[1])) if natural else found
            strong = level == STRONG
            colour, width = (PALETTE[1], 1.5) if strong else (PALE, 0.8)
            ax.plot(x, y, color=colour, lw=width)
        for along, swap in ((self.up_along, False), (self.across_along, True)):
            own = np.linspace(float(along.x[0]), float(along.x[-1]), 60)
            pair = (along(own), own) if swap else (own, along(own))
            x, y = (self.x.at(pair[0]), self.y.at(pair[1])) if natural else pair
            ax.plot(x, y, color=PALETTE[0], lw=1.0)
        if not natural:
            ax.axhline(0, color=INK, lw=0.4)
            ax.axvline(0, color=INK, lw=0.4)
        _small(ax)

    def contour(self, tau: float) -> tuple[np.ndarray, np.ndarray] | None:
        """Give zeta of both `(n,)` around the region that |zeta| of tau bounds, or None."""
        ends = [*self.x.zeta[[0, -1]], *self.y.zeta[[0, -1]]]
        if min(abs(end) for end in ends) < tau - 0.05 or ends[0] > 0 or ends[2] > 0:
            return None
        touch = [(along, side) for along in (self.up_along, self.across_along) for side in (1, -1)]
        angles = [
            float(np.arccos(np.clip(along(np.clip(side * tau, *along.x[[0, -1]])) / tau, -1, 1)))
            for along, side in touch
        ]
        pairs = [(0.0, angles[0]), (np.pi, angles[1]), (angles[2], 0.0), (angles[3], np.pi)]
        turned = sorted(((a + b) / 2 if a > b else -(a + b) / 2, abs(a - b)) for a, b in pairs)
        where, phase = (np.array(part) for part in zip(*turned, strict=True))
        if not (np.diff(where) > 1e-9).all():
            return None
        spline = CubicSpline(
            np.append(where, where[0] + 2 * np.pi), np.append(phase, phase[0]), bc_type="periodic"
        )
        a = np.linspace(-np.pi, np.pi, 181)
        d = spline(a)
        inside = [np.clip(tau * np.cos(a + s * d / 2), z[0], z[-1])
                  for s, z in ((1, self.x.zeta), (-1, self.y.zeta))]  # fmt: skip
        return inside[0], inside[1]


def _trace(table: pd.DataFrame, held: str, other: str, curve: "Curve") -> PchipInterpolator:
    """Give zeta of one parameter along the profile of another, as a function of its zeta."""
    own = table[table["name"] == held].sort_values("zeta").drop_duplicates("zeta")
    zeta = own["zeta"].to_numpy()
    moved = curve.zeta_at(own[other].to_numpy())
    known = np.isfinite(moved) & np.append(True, np.diff(zeta) > 1e-6)
    if known.sum() < 2:
        return PchipInterpolator([-1.0, 1.0], [0.0, 0.0], extrapolate=False)
    return PchipInterpolator(zeta[known], moved[known], extrapolate=False)
