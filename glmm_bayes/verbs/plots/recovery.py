"""What a recovery check found: ranks of the truths, by ArviZ, or estimates beside truths."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from glmm_bayes.errors import DataError, UnknownNameError
from glmm_bayes.registry import suggestion
from glmm_bayes.verbs.plots.look import INK, PALE, PALETTE, panels, plain
from glmm_bayes.verbs.printing import p_value
from glmm_bayes.verbs.recovery_table import ALPHA, covered

if TYPE_CHECKING:
    from glmm_bayes.verbs.recovery import RecoveryCheck

KINDS = ("ranks", "estimates")
ACROSS = 4
SIZE = (2.7, 2.2)  # inches of a panel
FAR = 30.0  # the largest truth over the smallest, from which on axes are logarithmic
LABELS = {
    "ranks": (
        "rank of the truth among draws, as a share",
        "share up to there \N{MINUS SIGN} uniform",
    ),
    "coverage": ("percent of a central interval", "share held \N{MINUS SIGN} nominal"),
}
SIMULATIONS = 1000  # that ArviZ finds a band by


def plot_recovery(
    check: "RecoveryCheck",
    kind: str | None = None,
    *,
    parameters: Sequence[str] | None = None,
    coverage: bool = False,
) -> Figure:
    """
    Plot what a recovery check found, a panel a quantity.

    Parameters
    ----------
    kind
        `"ranks"`: the distribution function of the truths' ranks less the uniform one, by
        `arviz_plots.plot_ecdf_pit`, with the band that holds all of it with probability 0.99 if
        ranks are uniform; `"estimates"`: estimates and 95% intervals against truths. By default
        ranks where there are any.
    parameters
        Which quantities; by default all.
    coverage
        Of ranks, the same for how far out the truths lie: how often central intervals of every
        probability hold the truth, less that probability.

    Raises
    ------
    UnknownNameError
        If there is no such kind or quantity.
    DataError
        If ranks are wanted of fits that have none.
    """
    kind = kind or ("ranks" if check.ranked else "estimates")
    if kind not in KINDS:
        raise UnknownNameError(f"There is no kind {kind!r} of figure. {suggestion(kind, KINDS)}")
    names = list(check.table.index if parameters is None else parameters)
    for name in names:
        if name not in check.table.index:
            raise UnknownNameError(
                f"There is no quantity {name!r}. {suggestion(str(name), check.table.index)}"
            )
    if kind == "estimates":
        return _estimates(check, names)
    if not check.ranked:
        raise DataError(
            f"Fits by {check.method!r} are no draws that a truth could have a rank among; use "
            f"kind='estimates'."
        )
    return _ranks(check, [name for name in names if check.table.loc[name, "ranks"]], coverage)


# ---- ranks


def _ranks(check: "RecoveryCheck", names: list[str], coverage: bool) -> Figure:
    import arviz_plots as azp
    from arviz_base.labels import NoVarLabeller

    rows = -(-len(names) // ACROSS)
    across = min(ACROSS, len(names))
    collection = azp.plot_ecdf_pit(
        _tree(check, names),
        sample_dims=["replicate"],
        envelope_prob=1 - ALPHA,
        coverage=coverage,
        backend="matplotlib",
        labeller=NoVarLabeller(),
        col_wrap=ACROSS,
        figure_kwargs={
            "figsize": (SIZE[0] * across, SIZE[1] * rows + 0.3),
            "figsize_units": "inches",
        },
        visuals={
            "ecdf_lines": {"color": PALETTE[0]},
            "suspicious_points": {"color": PALETTE[1]},
            "p_value_text": {"text": _p_text, "color": INK},
            "xlabel": False,
        },
    )
    figure = collection.viz["figure"].item()
    figure.set_layout_engine("constrained")
    shown = [ax for ax in figure.axes if ax.get_title()]
    reach = max(
        _banded(ax, check.estimates, name, coverage) for ax, name in zip(shown, names, strict=True)
    )
    for ax in shown:
        ax.set_ylim(-1.25 * reach, 1.25 * reach)
    for ax in shown[-across:]:
        ax.tick_params(labelbottom=True)
    across_words, up_words = LABELS["coverage" if coverage else "ranks"]
    figure.supxlabel(across_words, fontsize="small")
    figure.supylabel(up_words, fontsize="small")
    return figure


def _tree(check: "RecoveryCheck", names: list[str]) -> xr.DataTree:
    """Give ArviZ the ranks `pit[replicate, parameter]` of the replicates that have all."""
    found = check.estimates.pivot(index="replicate", columns="parameter", values="pit")
    complete = found[names].dropna()
    data = xr.Dataset(
        {"pit": (["replicate", "parameter"], complete.to_numpy())},
        {"replicate": complete.index.to_numpy(), "parameter": names},
    )
    return xr.DataTree.from_dict({"prior_sbc": data})


def _p_text(p: float) -> str:
    words = p_value(float(p))
    return f"p {words}" if words.startswith("<") else f"p = {words}"


def _banded(ax: Axes, estimates: pd.DataFrame, name: str, coverage: bool) -> float:
    """Draw the simultaneous band, which ArviZ computes but leaves out; give how far all reaches."""
    from arviz_stats.ecdf_utils import ecdf_pit

    pit = estimates.loc[estimates["parameter"] == name, "pit"].dropna().to_numpy()
    x, ecdf, lower, upper = ecdf_pit(
        np.abs(2 * pit - 1) if coverage else pit, 1 - ALPHA, SIMULATIONS
    )
    ax.fill_between(x, lower - x, upper - x, step="post", color=PALE, alpha=0.3, lw=0, zorder=0)
    for text in ax.texts:
        # The corner that neither band nor curve is likely to be in.
        text.set(transform=ax.transAxes, position=(0.99, 0.98), ha="right", va="top")
    ax.set_title(name, fontsize="small")
    plain(ax)
    return float(np.abs([lower - x, upper - x, ecdf - x]).max())


# ---- estimates


def _estimates(check: "RecoveryCheck", names: list[str]) -> Figure:
    across = min(ACROSS, len(names))
    figure, axes = panels(-(-len(names) // across), across, size=SIZE)
    for ax, name in zip(axes.flat, names, strict=False):
        part = check.estimates[check.estimates["parameter"] == name]
        _against_truth(ax, part[part["estimate"].notna()], name)
    for ax in axes.flat[len(names) :]:
        ax.set_visible(False)
    figure.supxlabel("truth", fontsize="small")
    figure.supylabel("estimate and 95% interval", fontsize="small")
    return figure


def _against_truth(ax: Axes, part: pd.DataFrame, name: str) -> None:
    held, bare = covered(part, 0.95), part["lower_95"].isna().to_numpy()
    truth, estimate = part["truth"].to_numpy(), part["estimate"].to_numpy()
    if truth.min() > 0 and truth.max() > FAR * truth.min():
        ax.set_xscale("log")
        ax.set_yscale("log")
        # A variance estimated as zero has no place on a logarithmic axis but its end.
        estimate = np.maximum(estimate, truth.min() / 3)
    for colour, chosen in ((PALETTE[0], held), (PALETTE[1], ~(held | bare)), (PALE, bare)):
        ends = part.loc[chosen, ["lower_95", "upper_95"]].to_numpy().T
        ax.vlines(truth[chosen], *ends, color=colour, lw=0.8, alpha=0.4)
        ax.scatter(truth[chosen], estimate[chosen], s=9, color=colour, lw=0, zorder=3)
    # Intervals may be so wide that they would hide all else.
    both = np.concatenate([truth, estimate])
    ax.set_xlim(ax.get_xlim())
    ax.set_ylim(*_limits(both, log=ax.get_yscale() == "log"))
    ax.axline((truth[0], truth[0]), (2 * truth[0] or 1.0,) * 2, color=INK, lw=0.8, zorder=2)
    ax.set_title(f"{name}: {100 * held[~bare].mean():.0f}% held", fontsize="small")
    ax.tick_params(labelsize="x-small")


def _limits(values: np.ndarray, *, log: bool) -> tuple[float, float]:
    seen = np.log(values) if log else values
    low, high = float(seen.min()), float(seen.max())
    room = 0.08 * (high - low) or 1.0
    ends = (low - room, high + room)
    return (float(np.exp(ends[0])), float(np.exp(ends[1]))) if log else ends
