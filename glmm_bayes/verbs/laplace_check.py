"""How far Laplace's method is from the integral it stands for, where, and what to do."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from glmm_bayes.engine.quadrature import Quadrature
from glmm_bayes.errors import DataError, NotSupportedError
from glmm_bayes.fit import ModeFit
from glmm_bayes.model import Model
from glmm_bayes.modes.chains import (
    MOST_NODES,
    chain_problem,
    laplace_is_exact,
    read_quadrature,
)
from glmm_bayes.modes.reading import read_laplace
from glmm_bayes.modes.search import STEP
from glmm_bayes.verbs.printing import Facts, Grid, Page, Part, Sentences, right

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LADDER = (1, 3, 5, 7, 9, 15, 25, 35, 49, 75, 100)
SMALL = 0.01  # of log likelihood: an error that no comparison of models notices
LITTLE = 0.05  # of a standard error
SETTLED = 1e-4  # of log likelihood, from one step of the ladder to the next
SHOWN = 6  # kinds of levels
KINDS = 10  # of errors, from none to the largest
DRAWS, FEWEST, CELLS = 1000, 50, 10_000_000  # pairs of draws, and rows times pairs
EFFECTIVE = 100  # pairs that an estimate by importance sampling has to be worth


@dataclass(frozen=True, eq=False)
class LaplaceCheck:
    """
    Laplace's error at a fit's estimates, which prints as a page.

    Attributes
    ----------
    table
        `group, level, n, laplace, exact, error`: by level of the outermost grouping, its rows
        and its part of the log likelihood; the error is Laplace's less the exact. Where levels
        cannot be told apart (crossed terms), one row for all.
    total
        The sum of the errors, in log likelihood.
    std_error
        Of `total`, by Monte Carlo; 0 by quadrature.
    nagq
        The smallest number of nodes tried that is within `SMALL` of the integral; None where
        quadrature is not to be had, or has not settled.
    ladder
        `nagq, loglik`: what was tried.
    shift
        By parameter, about how far Laplace's estimates are off, in standard errors.
    advice
        In words.
    curves
        Of the `worst` levels: `z, exact`, the integrand over its maximum, z standard
        deviations of Laplace's normal from the mode.
    ratios
        The log importance ratios of the draws, without quadrature.
    """

    table: pd.DataFrame
    total: float
    std_error: float
    nagq: int | None
    ladder: pd.DataFrame
    shift: pd.Series
    advice: str
    curves: Mapping[str, pd.DataFrame]
    ratios: np.ndarray

    def plot(self) -> "Figure":
        """Picture where and why Laplace fails: see `verbs.plots.laplace_check`."""
        from glmm_bayes.verbs.plots.laplace_check import plot_laplace_check

        return plot_laplace_check(self)

    @property
    def page(self) -> Page:
        """The printed page."""
        parts: list[Part] = [Facts(tuple(self._facts()))]
        if len(self.table) > 1:
            parts.append(self._worst())
        return Page("Laplace's method", (*parts, Sentences("Advice", (self.advice,))))

    def _facts(self) -> Iterator[tuple[str, str]]:
        by = f" (standard error {self.std_error:.2g})" if self.std_error else ""
        yield "Laplace", f"log likelihood {self.table['laplace'].sum():.4f}"
        yield "exact", f"{self.table['exact'].sum():.4f}{by}"
        yield "error", f"{self.total:.4g}{by}"
        if len(self.table) > 1:
            e = self.table["error"]
            yield (
                "by level",
                f"{len(e)} levels of {self.table['group'].iloc[0]}: mean {e.mean():.2g}, "
                f"standard deviation {e.std():.2g}, from {e.min():.2g} to {e.max():.2g}",
            )
        if len(self.shift):
            far = int(np.argmax(self.shift.abs()))
            yield (
                "estimates",
                f"off by up to about {abs(self.shift.iloc[far]):.2g} standard errors "
                f"({self.shift.index[far]})",
            )

    def _worst(self) -> Grid:
        shown = worst(self.table)
        columns = [
            right("rows", [str(n) for n in shown["n"]]),
            *(right(c, [f"{x:.4f}" for x in shown[c]]) for c in ("laplace", "exact", "error")),
            right("alike", [str(n) for n in shown["count"]]),
            right("sum", [f"{x:.4f}" for x in shown["sum"]]),
        ]
        header = (str(self.table["group"].iloc[0]), *(c[0] for c in columns))
        rows = zip(shown["level"].astype(str), *(c[1:] for c in columns), strict=True)
        title = "The largest errors, and the largest sums of like ones"
        return Grid(title, header, (("", tuple(rows)),))

    def text(self, width: int | None = None) -> str:
        """Lay it out as text: see `Page.text`."""
        return self.page.text(width)

    def __repr__(self) -> str:
        """Print as text."""
        return self.text()

    def _repr_html_(self) -> str:
        return self.page.html()


def alike(table: pd.DataFrame) -> pd.DataFrame:
    """
    Join levels of as many rows and about the same error: the largest errors first.

    Returns
    -------
    DataFrame
        The level of the largest error of each kind, as in `table`, with `count` levels of the
        kind and the `sum` of their errors.
    """
    ordered = table.loc[table["error"].abs().sort_values(ascending=False, kind="stable").index]
    width = float(ordered["error"].abs().max()) / KINDS or 1.0
    kinds = ordered.groupby(["n", (ordered["error"] / width).round()], sort=False)
    found = ordered.assign(
        count=kinds["error"].transform("size"), sum=kinds["error"].transform("sum")
    )
    return found[kinds.cumcount() == 0]


def worst(table: pd.DataFrame) -> pd.DataFrame:
    """Choose kinds of levels: the largest errors, and then the largest sums."""
    kinds = alike(table)
    first = kinds.head(SHOWN // 2)
    rest = kinds.drop(first.index)
    by_sum = rest["sum"].abs().sort_values(ascending=False, kind="stable").index
    return pd.concat([first, rest.loc[by_sum[: SHOWN - len(first)]]])


def laplace_check(fit: ModeFit, *, seed: int | None = None) -> LaplaceCheck:
    """
    Compare Laplace's method with the integral it stands for, at a fit's estimates.

    Parameters
    ----------
    seed
        For crossed terms, where the integral is estimated by importance sampling about the mode;
        by default the fit's own.

    Returns
    -------
    LaplaceCheck

    Raises
    ------
    DataError
        If there are no random effects.
    NotSupportedError
        If the response is Gaussian, so that Laplace's method is exact.
    """
    model = fit.model
    if not model.design.terms:
        raise DataError(
            f"The model {model.formula.texts[0]!r} has no random effects: nothing is approximated."
        )
    if laplace_is_exact(model):
        raise NotSupportedError(
            "Laplace's method is exact for a Gaussian response: there is nothing to check."
        )
    problem = chain_problem(model)
    if problem is None:
        return _by_quadrature(fit)
    return _by_sampling(fit, problem, fit.seed if seed is None else seed)


# ---- by quadrature


def _by_quadrature(fit: ModeFit) -> LaplaceCheck:
    given = _Given.of(fit)
    steps = list(_climbed(given))
    last, exact = steps[-1]
    ladder = pd.DataFrame(
        {"nagq": [k.nagq for k, _ in steps], "loglik": [v.sum() for _, v in steps]}
    )
    away = (ladder["loglik"] - exact.sum()).abs().to_numpy()
    settled = len(steps) > 1 and away[-2] < SMALL
    # The smallest from which on all are near.
    enough = int(np.max(np.flatnonzero(away >= SMALL), initial=-1)) + 1
    nagq = int(ladder["nagq"].iloc[enough]) if settled else None
    table = _table(fit.model, last, steps[0][1], exact)
    # Differences of slopes need no more nodes than differ by less than is noticed.
    shift = _shift(fit, steps[min(enough + 1, len(steps) - 1)][0])
    total = float(table["error"].sum())
    return LaplaceCheck(
        table, total, 0.0, nagq, ladder, shift, _advice(fit, total, shift, nagq, ladder),
        _curves(given, last, table), np.empty(0),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Given:
    """The point at which the integral is looked at: coefficients, factors, and the mode there."""

    quadrature: Quadrature
    coefficients: list[np.ndarray]
    Lambdas: list[np.ndarray]
    u: np.ndarray

    @classmethod
    def of(cls, fit: ModeFit) -> "_Given":
        mode = fit.mode
        laplace = read_laplace(fit.model)
        laplace.u = mode.u
        coefficients, Lambdas = mode.coordinates.split(mode.x), mode.coordinates.Lambdas(mode.x)
        u = laplace.effects_mode(coefficients, Lambdas)
        return cls(read_quadrature(fit.model, laplace, 1), coefficients, Lambdas, u)

    @property
    def point(self) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
        return self.coefficients, self.Lambdas, self.u


def _climbed(given: _Given) -> Iterator[tuple[Quadrature, np.ndarray]]:
    """Take more and more nodes, until the integral settles or the grid is too large."""
    before = np.inf
    for nagq in LADDER:
        quadrature = replace(given.quadrature, nagq=nagq)
        if quadrature.nodes > MOST_NODES:
            return
        values = quadrature.by_level(*given.point)
        yield quadrature, values
        if abs(values.sum() - before) < SETTLED:
            return
        before = values.sum()


def _table(
    model: Model, quadrature: Quadrature, laplace: np.ndarray, exact: np.ndarray
) -> pd.DataFrame:
    term = model.design.terms[quadrature.chain.groupings[0].terms[0]]
    return pd.DataFrame(
        {
            "group": term.label,
            "level": term.levels,
            "n": np.bincount(term.index[:, 0], minlength=len(term.levels)),
            "laplace": laplace,
            "exact": exact,
            "error": laplace - exact,
        }
    )


def _shift(fit: ModeFit, exact: Quadrature) -> pd.Series:
    """
    Estimate Laplace's estimates less the exact ones, in standard errors.

    By Newton's step from the fit, which is at the one, to the other.
    """
    mode, c = fit.mode, fit.mode.coordinates
    at_laplace = fit.options.get("nagq", 1) == 1
    here, there = (exact.laplace, exact) if at_laplace else (exact, exact.laplace)

    def slope(integral: Any, x: np.ndarray) -> np.ndarray:
        found = integral.marginal(c.split(x), c.Lambdas(x), joint=False)
        return c.pull(x, found.by_coefficients, found.by_Lambda)

    before, axes = slope(there, mode.x), mode.axes
    moved = [before - slope(there, mode.x + STEP * axis) for axis in axes.T]
    H = axes.T @ np.array(moved).T.reshape(len(before), len(moved)) / STEP
    values, vectors = np.linalg.eigh(0.5 * (H + H.T))
    root = axes @ (vectors / np.sqrt(values)) if (values > 0).all() else axes
    step = root @ (root.T @ (before - slope(here, mode.x)))
    known = np.isfinite(np.diag(mode.covariance))
    errors = np.sqrt((np.square(root if at_laplace else axes)).sum(axis=1))
    names = np.array(list(_coordinate_names(fit)), dtype=object)[known]
    shift = (-step if at_laplace else step)[known] / errors[known]
    return pd.Series(shift, index=names, name="shift")


def _coordinate_names(fit: ModeFit) -> Iterator[str]:
    c, model = fit.mode.coordinates, fit.model
    for parameter, held in zip(model.family.parameters, c.held, strict=True):
        name = parameter.name
        if name in model.constants:
            own: tuple[str, ...] = (name,)
        else:
            prefix = "" if name == "mu" else f"{name}: "
            own = tuple(prefix + column for column in model.design.predictors[name].names)
        yield from (text for text, value in zip(own, held, strict=True) if np.isnan(value))
    for term, at in zip(model.design.terms, c.factors, strict=True):
        yield from [f"covariance of {term.name}"] * (at.stop - at.start)


def _advice(
    fit: ModeFit, total: float, shift: pd.Series, nagq: int | None, ladder: pd.DataFrame
) -> str:
    moved = float(shift.abs().max()) if len(shift) else 0.0
    if nagq is None:
        change = abs(float(ladder["loglik"].diff().iloc[-1])) if len(ladder) > 1 else np.nan
        return (
            f"Quadrature has not settled with nagq={ladder['nagq'].iloc[-1]}: the last step "
            f"changed the log likelihood by {change:.2g}. fit('nuts') integrates by sampling."
        )
    if abs(total) < SMALL and moved < LITTLE:
        return (
            f"Laplace's method is accurate here: it is off by {abs(total):.1g} in log likelihood "
            f"and {moved:.1g} standard errors. nagq is not needed."
        )
    used = fit.options.get("nagq", 1)
    side = "low" if total < 0 else "high"
    error = f"Laplace's log likelihood is too {side} by {abs(total):.2g} at these estimates"
    off = f"and its estimates are off by up to about {moved:.2g} standard errors"
    if used > 1 and used >= nagq:
        return f"{error}, {off}. This fit's nagq={used} suffices."
    # Laplace itself is near enough in log likelihood, and its estimates are not.
    nodes = max(nagq, LADDER[1])
    return (
        f"{error}, {off}. Use fit('ml', nagq={nodes}): of the numbers of nodes tried the smallest "
        f"whose log likelihood is within {SMALL} of the integral, as are all larger ones."
    )


def _curves(given: _Given, best: Quadrature, table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Follow the integrand along the first effect of the worst levels."""
    z = np.linspace(-5.0, 5.0, 161)
    nodes = np.zeros((len(z), best.chain.groupings[0].k))
    nodes[:, 0] = z
    # A curve needs no more of the finer effects than a picture shows.
    drawn = replace(best, nagq=min(best.nagq, 9))
    found = {}
    for place, level in worst(table)["level"].items():
        height = drawn.profile(*given.point, int(str(place)), nodes)
        found[str(level)] = pd.DataFrame({"z": z, "exact": np.exp(height - height[80])})
    return found


# ---- by importance sampling


def _by_sampling(fit: ModeFit, problem: str, seed: int) -> LaplaceCheck:
    """
    Estimate the integral over Laplace's normal from draws of it, in pairs about the mode.

    log p(y) = log p_L(y) + log E exp(r), with r the joint log density at a draw over its maximum
    less the normal's; a draw and its mirror image together have no terms of odd order.
    """
    mode, model = fit.mode, fit.model
    laplace, c = read_laplace(model), fit.mode.coordinates
    laplace.u = mode.u
    at = laplace.marginal(c.split(mode.x), c.Lambdas(mode.x), joint=False)
    spread, latent = at.factor.spread, laplace.system.latent
    rng = np.random.default_rng(seed)
    fixed = at.eta.copy()
    fixed[list(latent.predictors)] -= spread.eta(at.u)

    def height(u: np.ndarray) -> float:
        eta = fixed.copy()
        eta[list(latent.predictors)] += spread.eta(u)
        return float(laplace.rows(eta, 1).value.sum() - 0.5 * u @ u)

    top, pairs = height(at.u), int(np.clip(CELLS // model.nobs, FEWEST, DRAWS))
    ratios = np.empty((pairs, 2))
    for k in range(pairs):
        z = rng.standard_normal(latent.size)
        away = at.factor.solve_root(z, np.empty(0))[0]
        for j, u in enumerate((at.u + away, at.u - away)):
            ratios[k, j] = height(u) - top + 0.5 * z @ z
    return _sampled(fit, problem, at.value, ratios)


def _sampled(fit: ModeFit, problem: str, laplace: float, ratios: np.ndarray) -> LaplaceCheck:
    most = ratios.max()
    w = np.exp(ratios - most).mean(axis=1)
    exact = laplace + most + float(np.log(w.mean()))
    std_error = float(w.std(ddof=1) / w.mean() / np.sqrt(len(w)))
    effective = float(w.sum() ** 2 / (w * w).sum())
    labels = " and ".join(dict.fromkeys(term.label for term in fit.model.design.terms))
    table = pd.DataFrame(
        {
            "group": [labels], "level": ["all"], "n": [fit.model.nobs], "laplace": [laplace],
            "exact": [exact], "error": [laplace - exact],
        }
    )  # fmt: skip
    advice = _words_of_sampling(problem, laplace - exact, std_error, effective, len(w))
    none = pd.DataFrame({"nagq": pd.Series(dtype=int), "loglik": pd.Series(dtype=float)})
    return LaplaceCheck(
        table, laplace - exact, std_error, None, none, pd.Series(dtype=float), advice, {},
        ratios.ravel(),
    )  # fmt: skip


def _words_of_sampling(
    problem: str, total: float, std_error: float, effective: float, pairs: int
) -> str:
    why = f"Quadrature cannot integrate here: {problem}."
    if effective < EFFECTIVE:
        return (
            f"{why} Importance sampling cannot either: {pairs} pairs of draws are worth "
            f"{effective:.0f}, so the error shown is not to be trusted. Compare with fit('nuts')."
        )
    said = (
        f"{why} By importance sampling, of {pairs} pairs of draws worth {effective:.0f}, Laplace's "
        f"log likelihood is off by {total:.2g}, give or take {2 * std_error:.1g}."
    )
    if abs(total) + 2 * std_error < 1.0:
        return f"{said} That is less than 1: Laplace's method will do for most purposes."
    return (
        f"{said} An error that changes with the parameters moves the estimates: compare with "
        f"fit('nuts')."
    )
