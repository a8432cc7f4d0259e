"""Quantile residuals against what they should not depend on."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from glmm_bayes.fit import Fit
from glmm_bayes.model import Model
from glmm_bayes.terms import RandomTerm
from glmm_bayes.verbs.by_response import Alone
from glmm_bayes.verbs.plots.look import (
    INK,
    PALE,
    PALETTE,
    panels,
    positive_and_unbounded,
    response_name,
    with_meaning,
)

BOXES = 45  # levels whose boxes fit beside one another
SPAN = 2 / 3  # share of the points that a smoothed value leans on


def plot_residuals(fit: Fit, *, seed: int | None = None, response: str | None = None) -> Figure:
    """
    Plot quantile residuals, which are standard normal where the model is right.

    Parameters
    ----------
    seed
        Of the residuals' random part, which discrete responses have; by default the fit's.
    response
        Of several responses the one whose residuals are plotted.

    Returns
    -------
    Figure
        Against the fitted mean, or the linear predictor where there is none, with a smooth curve;
        normal quantiles, with a pointwise 95% band; and by level of each group with few levels, or
        else a histogram.

    Notes
    -----
    Dunn & Smyth (1996), J. Computational and Graphical Statistics 5, 236-244. Residuals are
    conditional on the random effects: where levels have few rows, or one each, the effects take
    up part of the scatter and the residuals are narrower than normal though nothing is wrong.
    """
    one = Alone.of(fit.model, response)
    found = fit.residuals("quantile", seed=fit.seed if seed is None else seed, response=response)
    kind = "linear" if one.family.mean is None else "mean"
    means = fit.predict(kind=kind, groups="conditional", response=response)["estimate"]
    residuals, fitted = found.to_numpy()[one.there], means.to_numpy()[one.there]
    endless = positive_and_unbounded(one.family, one.response.trials)
    log = kind == "mean" and endless and fitted.min() > 0
    terms = _boxable(fit.model, one.there)
    count = 2 + max(1, len(terms))
    columns = 2 if count == 4 else min(count, 3)
    figure, axes = panels(-(-count // columns), columns)
    first, second, *others = axes.flat
    _against_fitted(first, fitted, residuals, log=log)
    words = {"mean": "fitted mean", "linear": "linear predictor"}
    name = response_name(fit.model) if response is None else response
    first.set_xlabel(f"{words[kind]} of {name}")
    _quantiles(second, residuals)
    for ax, term in zip(others, terms, strict=False):
        _boxes(ax, term, residuals)
        ax.set_xlabel(with_meaning(fit.model, term.label))
    if not terms:
        _histogram(others[0], residuals)
    for ax in others[max(1, len(terms)) :]:
        ax.set_visible(False)
    return figure


def _boxable(model: Model, there: np.ndarray) -> list[RandomTerm]:
    found: dict[str, RandomTerm] = {}
    for term in model.design.terms:
        if term.index.shape[1] == 1 and len(term.levels) <= min(BOXES, model.nobs // 3):
            found.setdefault(term.label, term.take(there))
    return list(found.values())


def _against_fitted(ax: Axes, fitted: np.ndarray, residuals: np.ndarray, *, log: bool) -> None:
    x = np.log(fitted) if log else fitted
    at, smooth = local_linear(x, residuals)
    ax.scatter(fitted, residuals, s=10, color=PALE, alpha=0.6, lw=0, rasterized=len(x) > 5000)
    ax.plot(np.exp(at) if log else at, smooth, color=PALETTE[1], lw=1.8)
    ax.axhline(0, color=INK, lw=0.8, ls=":")
    if log:
        ax.set_xscale("log")
    ax.set_ylabel("quantile residual (normal)")


def local_linear(x: np.ndarray, y: np.ndarray, points: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """
    Smooth y along x by lines fitted to the nearest points, as loess does without robustness.

    Returns
    -------
    at
        `(points,)` places between the extremes of x.
    smooth
        The smoothed values there.
    """
    at = np.quantile(x, np.linspace(0, 1, points))
    smooth = np.empty(points)
    keep = max(3, int(np.ceil(SPAN * len(x))))
    for i, place in enumerate(at):
        distance = np.abs(x - place)
        reach = np.partition(distance, keep - 1)[keep - 1]
        # Where most x are equal the nearest points have no spread: their mean then stands.
        weight = np.clip(1 - (distance / max(reach, 1e-12)) ** 3, 0, None) ** 3
        weight[distance == 0] = 1.0
        centre = np.average(x, weights=weight)
        spread = np.average((x - centre) ** 2, weights=weight)
        height = np.average(y, weights=weight)
        slope = np.average((x - centre) * y, weights=weight) / spread if spread > 0 else 0.0
        smooth[i] = height + slope * (place - centre)
    return at, smooth


def _quantiles(ax: Axes, residuals: np.ndarray) -> None:
    n = len(residuals)
    rank = np.arange(1, n + 1)
    expected = stats.norm.ppf((rank - 0.5) / n)
    # The k-th of n ordered uniform numbers is Beta(k, n + 1 - k): no simulation is needed.
    lower, upper = (stats.norm.ppf(stats.beta.ppf(p, rank, n + 1 - rank)) for p in (0.025, 0.975))
    ax.fill_between(expected, lower, upper, color=PALE, alpha=0.35, lw=0, label="95% band")
    ax.plot(expected, expected, color=INK, lw=0.8, ls=":")
    ax.scatter(expected, np.sort(residuals), s=10, color=PALETTE[0], lw=0, zorder=3)
    ax.set_xlabel("standard normal quantile")
    ax.set_ylabel("ordered quantile residual")
    ax.legend(frameon=False, loc="upper left", fontsize="small")


def _boxes(ax: Axes, term: RandomTerm, residuals: np.ndarray) -> None:
    index = term.index[:, 0]
    places = np.unique(index)
    ax.boxplot(
        [residuals[index == place] for place in places],
        positions=places,
        widths=0.6,
        medianprops={"color": PALETTE[1]},
        flierprops={"markersize": 3, "markeredgecolor": PALE},
        boxprops={"color": INK, "lw": 0.8},
        whiskerprops={"color": INK, "lw": 0.8},
        showcaps=False,
    )
    labels = [term.levels[place] for place in places]
    turned = sum(map(len, labels)) > 30
    ax.set_xticks(places, labels, rotation=90 if turned else 0, fontsize="small")
    ax.axhline(0, color=INK, lw=0.8, ls=":")
    ax.set_ylabel("quantile residual (normal)")


def _histogram(ax: Axes, residuals: np.ndarray) -> None:
    ax.hist(residuals, bins="auto", density=True, color=PALE, label="residuals")
    at = np.linspace(min(-3.5, residuals.min()), max(3.5, residuals.max()), 200)
    ax.plot(at, stats.norm.pdf(at), color=PALETTE[1], lw=1.8, label="standard normal")
    ax.set_xlabel("quantile residual (normal)")
    ax.set_ylabel("density")
    ax.legend(frameon=False, fontsize="small")
