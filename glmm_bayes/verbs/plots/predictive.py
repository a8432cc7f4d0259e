"""Replicated responses beside the observed ones, by ArviZ."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.lines import Line2D

from glmm_bayes.errors import UnknownNameError
from glmm_bayes.fit import Fit
from glmm_bayes.registry import suggestion
from glmm_bayes.verbs.plots.look import (
    INK,
    PALETTE,
    plain,
    positive_and_unbounded,
    response_name,
    round_ticks,
    with_meaning,
)

DISTRIBUTIONS = ("kde", "hist", "ecdf", "dot")
KINDS = (*DISTRIBUTIONS, "rootogram", "calibration")
HEIGHTS = {
    "kde": "density",
    "hist": "density",
    "ecdf": "share of responses up to this",
    "dot": "responses",
    "rootogram": "frequency (square-root axis)",
}
# Long-tailed responses are changed before ArviZ sees them: its curves are on an even grid.
SCALES: dict[str, Callable[[Any], Any]] = {
    "linear": lambda y: y,
    "log": np.log,
    "asinh": np.arcsinh,
}
DOTS = ("dot", "rootogram")
WIDE = 80  # characters that the horizontal label has room for
SQUASHED = 10.0  # how far the largest response may lie above the middle on a linear axis
BARS = 60  # distinct counts that a rootogram shows legibly


def plot_ppc(fit: Fit, *, draws: int = 50, kind: str | None = None) -> Any:
    """
    Compare replicated responses with the observed ones.

    Parameters
    ----------
    draws
        How many replicated data sets are drawn over one another.
    kind
        `"kde"`, `"hist"`, `"ecdf"` or `"dot"`; for counts also `"rootogram"` (observed
        frequencies on a square-root scale, and the intervals of the replicated ones, which use
        all draws); for 0/1 also `"calibration"` (isotonic regression of the response on its
        predicted probability). By default `"kde"` for continuous responses, `"rootogram"` for
        counts, `"ecdf"` where these are large, and `"calibration"` for 0/1.

    Returns
    -------
    arviz_plots.PlotCollection
        Its figure is `.viz["figure"].item()`. Positive responses with a long tail are shown on
        a logarithmic axis, asinh for counts.
    """
    import arviz_plots as azp

    if kind is not None and kind not in KINDS:
        raise UnknownNameError(f"There is no kind {kind!r} of check. {suggestion(kind, KINDS)}")
    kind = kind or _suited(fit)
    scale = _scale(fit, kind)
    whole = fit.replicated()
    tree = _shown(fit, whole, scale)
    with warnings.catch_warnings():
        # ArviZ advises other figures for discrete data: the choice was made above.
        warnings.filterwarnings("ignore", message=".*look (binary|discrete)", category=UserWarning)
        if kind == "rootogram":
            collection = azp.plot_ppc_rootogram(tree, backend="matplotlib")
        elif kind == "calibration":
            collection = azp.plot_ppc_pava(tree, backend="matplotlib")
        else:
            collection = azp.plot_ppc_dist(
                tree,
                kind=kind,
                num_samples=min(draws, _count(whole)),
                backend="matplotlib",
                visuals={
                    "predictive_dist": {"color": PALETTE[0], "alpha": 0.25},
                    "observed_dist": {"color": INK, "width": 2},
                    "title": False,
                    "remove_axis": False,
                },
            )
    _labelled(fit, whole, collection, kind, scale)
    return collection


def _suited(fit: Fit) -> str:
    if not fit.model.family.discrete:
        return "kde"
    if fit.model.family.binary:
        return "calibration"
    return "rootogram" if fit.model.design.y.max() <= BARS else "ecdf"


def _count(tree: xr.DataTree) -> int:
    sizes = tree["posterior_predictive"].sizes
    return sizes["chain"] * sizes["draw"]


def _shown(fit: Fit, tree: xr.DataTree, scale: str) -> xr.DataTree:
    """Take the responses as they are shown, whole numbers with the type that ArviZ looks for."""
    names = ("posterior_predictive", "observed_data")
    groups = {name: SCALES[scale](tree[name].to_dataset()) for name in names}
    if fit.model.family.discrete and scale == "linear":
        groups = {name: data.astype(np.int64) for name, data in groups.items()}
    return xr.DataTree.from_dict(groups)


def _scale(fit: Fit, kind: str) -> str:
    """Choose a scale for the responses: one on which long tails leave room for the rest."""
    y = fit.model.design.y
    middle = max(np.median(y), y.mean() / 2)
    response = fit.model.design.response
    endless = positive_and_unbounded(fit.model.family, response.trials)
    long_tailed = endless and y.max() > SQUASHED * middle
    if kind not in DISTRIBUTIONS or not long_tailed:
        return "linear"
    return "log" if y.min() > 0 and not fit.model.family.discrete else "asinh"


def _labelled(fit: Fit, tree: xr.DataTree, collection: Any, kind: str, scale: str) -> None:
    figure = collection.viz["figure"].item()
    figure.set_layout_engine("constrained")
    ax = figure.axes[0]
    plain(ax)
    ax.set_title("")
    name = response_name(fit.model)
    if kind == "calibration":
        ax.set_xlabel(f"predicted probability of {name}")
        ax.set_ylabel("observed proportion (isotonic)")
        return
    label = with_meaning(fit.model, name, WIDE)
    ax.set_ylabel(HEIGHTS[kind])
    if scale != "linear":
        label = f"{label} ({scale} axis)"
        seen = tree["posterior_predictive"]["y"]
        ticks = round_ticks(float(seen.min()), float(seen.max()))
        ax.set_xticks(SCALES[scale](ticks), [f"{tick:g}" for tick in ticks])
    ax.set_xlabel(label)
    drawn: dict[str, Any] = {"lw": 0, "marker": "o"} if kind in DOTS else {"lw": 2}
    handles = [
        Line2D([], [], color=PALETTE[0], lw=1.5, label="replicated"),
        Line2D([], [], color=INK, label="observed", **drawn),
    ]
    ax.legend(handles=handles, frameon=False)
