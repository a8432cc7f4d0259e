"""Predictions along predictors, with their intervals and the data."""

import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from glmm_bayes.errors import DataError, UnknownNameError
from glmm_bayes.fit import Fit
from glmm_bayes.model import Model
from glmm_bayes.registry import suggestion
from glmm_bayes.verbs.by_response import Alone
from glmm_bayes.verbs.datagrid import (
    categorical,
    fixed_variables,
    grouping_variables,
    values_of,
)
from glmm_bayes.verbs.describe import predictor_label
from glmm_bayes.verbs.plots.grid import Grid, make_grid, nearest
from glmm_bayes.verbs.plots.look import (
    INK,
    PALE,
    PALETTE,
    colours,
    figure_of,
    log_axis,
    panels,
    plain,
    positive_and_unbounded,
    response_name,
    with_meaning,
)

GROUPS = ("population", "new", "marginal", "conditional")
LINE = 34  # characters that a vertical label has room for
BANDS = 7  # curves whose bands can still be told apart
SQUASHED = 10.0  # how far the data may reach above the curves before the axis is a log axis


def plot_effects(
    fit: Fit,
    *terms: str,
    by: str | None = None,
    kind: str = "mean",
    groups: str = "population",
    level: float = 0.95,
    points: bool = True,
    ax: Axes | None = None,
    response: str | None = None,
) -> Figure:
    """
    Plot predictions along one predictor a panel, the others held.

    Parameters
    ----------
    *terms
        Columns of the data; by default every one in the fixed part of mu but `by`.
    by
        A column whose values get a curve each: the levels of a factor; of numbers up to five
        different ones, or else the mean and one standard deviation either side.
    kind, level
        As for `predict`.
    groups
        As for `predict`: `"population"` (random effects zero), `"new"`, `"marginal"`, or
        `"conditional"`, for which the grouping column has to be among `terms` or `by`.
    points
        Whether the data are shown too: proportions where there are trials, coloured by the
        nearest curve.
    ax
        Draw on these axes; for a single term.
    response
        Of several responses the one that is predicted.

    Returns
    -------
    Figure
        Numeric predictors are held at their mean and factors at their most common level, as
        the line below says. Where positive data reach far above the curves, the vertical axis
        has a logarithmic scale, asinh if there are zeros.
    """
    chosen, design = Shown.of(fit.model, response), fit.model.design
    if groups not in GROUPS:
        raise UnknownNameError(f"groups={groups!r} is not known. {suggestion(groups, GROUPS)}")
    terms = terms or tuple(v for v in fixed_variables(design, chosen.main) if v != by)
    if not terms:
        raise DataError(
            f"The fixed part of {fit.model.formula.texts[0]!r} has no predictor to plot along."
        )
    grids = [make_grid(design, x, by) for x in terms]
    if groups == "conditional":
        _check_named(fit, grids)
    if ax is not None and len(terms) > 1:
        raise DataError(f"ax= takes one term, but there are {len(terms)}: {', '.join(terms)}.")
    if ax is None:
        columns = min(len(terms), 3)
        figure, axes = panels(-(-len(terms) // columns), columns, size=(4.2, 3.4), sharey=True)
        flat = list(axes.flat)
    else:
        plain(ax)
        figure, flat = figure_of(ax), [ax]
    shown = [
        _panel(fit, chosen, a, g, kind, groups, level, points)
        for a, g in zip(flat, grids, strict=False)
    ]
    _finish(chosen, flat, grids, kind, groups, level, points=any(shown))
    return figure


@dataclass(frozen=True, eq=False)
class Shown:
    """
    The response that a figure is of: on all rows, with the parameter that is its mean.

    `response` names it among several, None where it is alone.
    """

    model: Model
    one: Alone
    main: str
    response: str | None

    @classmethod
    def of(cls, model: Model, response: str | None) -> "Shown":
        """Take the only response, or one of several, as `Alone.of`."""
        one = Alone.of(model, response)
        part = next(p for p in model.observed if p.label in ("", response))
        return cls(model, one, part.main, response)

    @property
    def name(self) -> str:
        """What it is called."""
        return response_name(self.model) if self.response is None else self.response


def _check_named(fit: Fit, grids: list[Grid]) -> None:
    for grid in grids:
        unnamed = grouping_variables(fit.model.design) - {grid.x, grid.by}
        if unnamed:
            raise DataError(
                f"groups='conditional' needs a level of {', '.join(sorted(unnamed))}: plot along "
                f"it or give it as by=, or use groups='population', 'new' or 'marginal'."
            )


# ---- one panel


def _panel(
    fit: Fit,
    shown: Shown,
    ax: Axes,
    grid: Grid,
    kind: str,
    groups: str,
    level: float,
    points: bool,
) -> bool:
    found = fit.predict(
        grid.frame, kind=kind, groups=groups, level=level, seed=fit.seed, response=shown.response
    )
    found = found.reset_index(drop=True)
    ink = _inks(fit, grid)
    size = len(found) // len(ink)
    data = fit.model.design.rows.frame[grid.x]
    y = _observed(shown, kind) if points else None
    if y is not None:
        _points(ax, shown, grid, y, ink)
    for k, colour in enumerate(ink):
        part = found.iloc[k * size : (k + 1) * size]
        label = _value(grid.curves[k]) if grid.curves else None
        if categorical(data):
            spread = _spread(len(ink))
            _bars(ax, part, np.arange(size) + spread[k], colour, label)
        else:
            _curve(ax, part, grid.frame[grid.x].to_numpy()[:size], colour, label, len(ink))
    if categorical(data):
        names = [str(v) for v in values_of(data)]
        ax.set_xticks(range(len(names)), names, rotation=30 if sum(map(len, names)) > 40 else 0)
        ax.set_xlim(-0.6, len(names) - 0.4)
    ax.set_xlabel(with_meaning(fit.model, grid.x))
    if y is not None and kind != "linear":
        _unsquash(shown, ax, y, float(found["estimate"].median()))
    return y is not None


def _inks(fit: Fit, grid: Grid) -> list[str]:
    if grid.by is None:
        return [PALETTE[0]]
    column = fit.model.design.rows.frame[grid.by]
    return colours(len(grid.curves), ordered=not categorical(column))


def _spread(k: int) -> np.ndarray:
    return np.linspace(-0.3, 0.3, k) * (k > 1) * min(1.0, k / 4)


def _curve(
    ax: Axes, part: pd.DataFrame, x: np.ndarray, colour: str, label: str | None, curves: int
) -> None:
    if curves <= BANDS:
        ax.fill_between(x, part["lower"], part["upper"], color=colour, alpha=0.2, lw=0)
    ax.plot(x, part["estimate"], color=colour, lw=1.8 if curves <= BANDS else 1.2, label=label)


def _bars(ax: Axes, part: pd.DataFrame, x: np.ndarray, colour: str, label: str | None) -> None:
    reach = [part["estimate"] - part["lower"], part["upper"] - part["estimate"]]
    ax.errorbar(x, part["estimate"], reach, fmt="o", ms=5, lw=1.8, color=colour, label=label)


def _observed(shown: Shown, kind: str) -> np.ndarray | None:
    """Give the response on the scale of the predictions, if it can be shown on that."""
    response = shown.one.response
    if kind == "linear" and shown.model.links[shown.main].name != "identity":
        return None
    if kind.startswith("param:"):
        return None
    # What is not there is not drawn, as a row without trials, which has no proportion.
    y = np.where(shown.one.there, response.y, np.nan) if shown.response else response.y
    if response.trials is not None and kind != "response":
        return y / np.where(response.trials > 0, response.trials, np.nan)
    return y


def _points(ax: Axes, shown: Shown, grid: Grid, y: np.ndarray, ink: list[str]) -> None:
    data = shown.model.design.rows.frame
    rng = np.random.default_rng(0)
    mine = np.zeros(len(y), dtype=int)
    if grid.by is not None:
        mine = nearest(data[grid.by], grid.curves)
    column = data[grid.x]
    if categorical(column):
        place = {value: k for k, value in enumerate(values_of(column))}
        middle = np.array([place[v] for v in column]) + _spread(len(ink))[mine]
        x = middle + rng.uniform(-0.25, 0.25, len(y)) / len(ink)
    else:
        x = column.to_numpy(dtype=float)
    if shown.one.family.binary:
        # Zeros and ones lie on two lines: a little noise towards the middle shows how many.
        y = y + np.where(y > 0.5, -1, 1) * rng.uniform(0, 0.06, len(y))
    colour = np.array(ink)[mine] if grid.by is not None else PALE
    ax.scatter(x, y, s=10, c=colour, alpha=0.35, lw=0, zorder=1, rasterized=len(y) > 5000)


def _unsquash(shown: Shown, ax: Axes, y: np.ndarray, typical: float) -> None:
    endless = positive_and_unbounded(shown.one.family, shown.one.response.trials)
    there = y[~np.isnan(y)]
    if endless and there.max() > SQUASHED * typical:
        log_axis(ax, there)


# ---- words around the panels


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _finish(
    shown: Shown,
    axes: list[Axes],
    grids: list[Grid],
    kind: str,
    groups: str,
    level: float,
    *,
    points: bool,
) -> None:
    columns = min(len(grids), 3)
    for k, ax in enumerate(axes):
        if k >= len(grids):
            ax.set_visible(False)
        elif k % columns == 0:
            ax.set_ylabel(_response_label(shown, kind, ax.get_yscale()))
    by = grids[0].by
    if by is not None:
        many = len(grids[0].curves) > BANDS
        last = axes[min(columns, len(grids)) - 1]
        last.legend(
            title=by,
            frameon=False,
            fontsize="x-small" if many else "small",
            ncols=1 + len(grids[0].curves) // 13,
            loc="upper left",
            bbox_to_anchor=(1.0, 1.0),
        )
    figure = figure_of(axes[0])
    width = int(figure.get_figwidth() * 14)
    note = textwrap.fill(_note(grids, groups, level, points=points), width)
    figure.supxlabel(note, fontsize="x-small", color=INK)


def _response_label(shown: Shown, kind: str, scale: str) -> str:
    model, name, one = shown.model, shown.name, shown.one
    if kind == "linear":
        return f"{predictor_label(model, shown.main)} of {name}"
    if kind.startswith("param:"):
        return f"{kind.removeprefix('param:')} of {name}"
    if kind == "mean" and (one.family.binary or one.response.trials is not None):
        return textwrap.fill(f"probability of {name}", LINE)
    label = with_meaning(model, name, LINE)
    return label + {"log": "\n(log axis)", "asinh": "\n(asinh axis)"}.get(scale, "")


def _note(grids: list[Grid], groups: str, level: float, *, points: bool) -> str:
    held = {name: value for grid in grids for name, value in grid.held.items()}
    said = {
        "population": "random effects zero",
        "new": "a new group",
        "marginal": "averaged over groups",
        "conditional": "each group's own",
    }[groups]
    # Where there are too many curves for bands, no interval is drawn.
    parts = [f"{level:.0%} intervals"] * (len(grids[0].curves) <= BANDS) + [said]
    if held:
        listed = ", ".join(f"{name} = {_value(value)}" for name, value in held.items())
        parts.append(f"where not on the axis: {listed}")
    if points:
        parts.append("points: data")
    return "; ".join(parts)
