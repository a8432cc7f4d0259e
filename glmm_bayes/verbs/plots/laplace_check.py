"""Where and why Laplace's method fails: the worst levels' integrands beside its normals."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from glmm_bayes.verbs.plots.look import INK, PALE, PALETTE, panels

if TYPE_CHECKING:
    from glmm_bayes.verbs.laplace_check import LaplaceCheck

ACROSS = 3
BARS = 12
BETWEEN = (7, 35, 75)  # nodes that are not labelled
LONGEST = 24  # letters of a parameter's name


def plot_laplace_check(check: "LaplaceCheck") -> Figure:
    """
    Plot the worst levels' integrands, the errors by the number of rows, and what they do.

    Returns
    -------
    Figure
        Each curve is over its maximum, so that the areas' ratio is Laplace's factor on the
        likelihood, with one effect a level; with more it is a cut along the first. Without
        quadrature, the draws' importance ratios.
    """
    if not check.curves:
        return _ratios(check)
    figure, axes = panels(2, ACROSS + 2, size=(2.6, 2.7))
    cells = axes[:, :ACROSS].ravel()
    for ax, curve, title in zip(cells, check.curves.values(), _titles(check), strict=False):
        _curve(ax, curve["z"].to_numpy(), curve["exact"].to_numpy(), title)
    for ax in cells[len(check.curves) :]:
        ax.set_visible(False)
    cells[0].legend(frameon=False, fontsize="x-small", loc="upper left", handlelength=1.2)
    for ax in axes[:, 0]:
        ax.set_ylabel("integrand / its maximum")
    axes[1, 0].set_xlabel("standard deviations of Laplace's\nnormal from the mode")
    _by_rows(axes[:, ACROSS], check)
    _by_nodes(axes[0, -1], check)
    _shifts(axes[1, -1], check)
    return figure


def _titles(check: "LaplaceCheck") -> list[str]:
    from glmm_bayes.verbs.laplace_check import worst

    group, titles = check.table["group"].iloc[0], []
    shown = worst(check.table)[["level", "n", "error", "count", "sum"]]
    for level, n, error, count, total in shown.itertuples(index=False, name=None):
        rows = f"{n} row{'s' if n != 1 else ''}"
        like = f"\nwith {count - 1} alike: {_signed(total)} in all" if count > 1 else "\n"
        titles.append(f"{group} {level}: {rows}, error {_signed(error)}{like}")
    return titles


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def _signed(x: float) -> str:
    return f"{x:.2g}".replace("-", "−")


def _curve(ax: Axes, z: np.ndarray, exact: np.ndarray, title: str) -> None:
    normal = np.exp(-0.5 * z * z)
    ax.fill_between(z, normal, exact, color=PALETTE[1], alpha=0.25, lw=0)
    ax.plot(z, exact, color=PALETTE[1], lw=1.6, label="exact")
    ax.plot(z, normal, color=INK, lw=1.2, ls="--", label="Laplace")
    ax.set_title(title, fontsize="x-small")
    ax.set_ylim(0, max(1.3, 1.05 * float(exact.max())))
    ax.set_xticks([-4, -2, 0, 2, 4])


def _by_rows(axes: np.ndarray, check: "LaplaceCheck") -> None:
    n, error = check.table["n"].to_numpy(), check.table["error"].to_numpy()
    aside = np.random.default_rng(0).uniform(-0.25, 0.25, len(n))
    wide = max((n.max() - n.min() + 1) // BARS, 1)
    edges = np.arange(n.min() - 0.5, n.max() + wide, wide)
    axes[0].scatter(n + aside, error, s=8, color=PALETTE[0], alpha=0.5, lw=0)
    axes[0].set_title("Laplace − exact, by level", fontsize="small")
    axes[1].hist(n, edges, weights=error, rwidth=0.8, color=PALETTE[0], alpha=0.8)
    axes[1].set_title(f"summed: {_signed(check.total)} in all", fontsize="small")
    for ax in axes:
        ax.axhline(0, color=INK, lw=0.8)
        ax.set_xlim(n.min() - 1, n.max() + 1)
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes[1].set_xlabel("rows of a level")


def _by_nodes(ax: Axes, check: "LaplaceCheck") -> None:
    from glmm_bayes.verbs.laplace_check import SMALL

    away = np.abs(check.ladder["loglik"] - check.table["exact"].sum())[:-1]
    nodes = check.ladder["nagq"][:-1]
    ax.plot(nodes, np.maximum(away, 1e-8), color=PALETTE[0], marker="o", ms=4, lw=1.2)
    ax.axhline(SMALL, color=INK, lw=0.8, ls=":")
    ax.set_yscale("log")
    ax.set_xscale("log")
    labelled = [k for k in nodes if k not in BETWEEN]
    ax.set_xticks(labelled, [str(k) for k in labelled], fontsize="small")
    ax.set_xticks([], minor=True)
    ax.set_xlabel("nagq")
    ax.set_title("|log likelihood − exact|", fontsize="small")


def _shifts(ax: Axes, check: "LaplaceCheck") -> None:
    names, shift = list(check.shift.index), check.shift.to_numpy()
    y = np.arange(len(names))[::-1]
    ax.hlines(y, 0, shift, color=PALE, lw=2)
    ax.scatter(shift, y, s=18, color=PALETTE[1], zorder=3)
    ax.axvline(0, color=INK, lw=0.8)
    ax.set_yticks(y, [_short(str(k)) for k in names])
    ax.tick_params(axis="y", labelsize="x-small")
    ax.set_ylim(-0.7, len(names) - 0.3)
    ax.set_title("estimates, Laplace − exact", fontsize="small")
    ax.set_xlabel("standard errors, about")


def _ratios(check: "LaplaceCheck") -> Figure:
    figure, axes = panels(1, 1, size=(5.0, 3.4))
    ax = axes[0, 0]
    ax.hist(check.ratios, bins=50, color=PALETTE[0], alpha=0.8)
    ax.axvline(0, color=INK, lw=1.2, ls="--", label="if Laplace were exact")
    ax.axvline(-check.total, color=PALETTE[1], lw=1.6, label="log of their mean")
    ax.set_xlabel(
        "log of the joint density over Laplace's normal,\n"
        "both over their maximum, at draws of the normal"
    )
    ax.set_ylabel("draws")
    ax.legend(frameon=False, fontsize="small")
    return figure
