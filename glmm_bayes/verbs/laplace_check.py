"""How far Laplace's method is from the integral it stands for, where, and what to do."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from glmm_bayes.engine.integrals.quadrature import Quadrature
from glmm_bayes.errors import DataError, NotSupportedError
from glmm_bayes.fit import ModeFit
from glmm_bayes.model import Model
from glmm_bayes.modes.chains import chain_problem, laplace_is_exact
from glmm_bayes.verbs.laplace_error import (
    LADDER,
    Point,
    Sampled,
    climbed,
    sample,
    shift_by_quadrature,
    shift_by_sampling,
)
from glmm_bayes.verbs.printing import Facts, Grid, Page, Part, Sentences, right

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SMALL = 0.01  # of log likelihood: an error that no comparison of models notices
LITTLE = 0.05  # of a standard error
SHOWN = 6  # kinds of levels
KINDS = 10  # of errors, from none to the largest
ENOUGH = 0.25  # of a standard error, where nothing better is at hand
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
        yield "by sampling" if by else "exact", f"{self.table['exact'].sum():.4f}{by}"
        yield "Laplace's error", f"{self.total:.4g}{by}"
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


def _by_quadrature(fit: ModeFit) -> LaplaceCheck:
    at = Point.of(fit)
    steps = list(climbed(at))
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
    # Slopes need no more nodes than make a difference.
    shift = shift_by_quadrature(fit, steps[min(enough + 1, len(steps) - 1)][0])
    total = float(table["error"].sum())
    return LaplaceCheck(
        table, total, 0.0, nagq, ladder, shift, _advice(fit, total, shift, nagq, ladder),
        _curves(at, last, table), np.empty(0),
    )  # fmt: skip


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
    error = f"Laplace's log likelihood is too {_side(total)} by {abs(total):.2g} at these estimates"
    off = f"and its estimates are off by up to about {moved:.2g} standard errors"
    if used > 1 and used >= nagq:
        return f"{error}, {off}. This fit's nagq={used} suffices."
    # Laplace itself is near enough in log likelihood, and its estimates are not.
    nodes = max(nagq, LADDER[1])
    return (
        f"{error}, {off}. Use fit('ml', nagq={nodes}): of the numbers of nodes tried the smallest "
        f"whose log likelihood is within {SMALL} of the integral, as are all larger ones."
    )


def _side(total: float) -> str:
    return "low" if total < 0 else "high"


def _curves(at: Point, best: Quadrature, table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Follow the integrand along the first effect of the worst levels."""
    z = np.linspace(-5.0, 5.0, 161)
    nodes = np.zeros((len(z), best.chain.groupings[0].k))
    nodes[:, 0] = z
    # A curve needs no more of the finer effects than a picture shows.
    drawn = replace(best, nagq=min(best.nagq, 9))
    found = {}
    for place, level in worst(table)["level"].items():
        height = drawn.profile(*at.point, int(str(place)), nodes)
        found[str(level)] = pd.DataFrame({"z": z, "exact": np.exp(height - height[80])})
    return found


def _by_sampling(fit: ModeFit, problem: str, seed: int) -> LaplaceCheck:
    found = sample(fit, seed)
    exact, std_error = found.exact
    total = found.laplace - exact
    shift, noise = shift_by_sampling(fit, found)
    labels = " and ".join(dict.fromkeys(term.label for term in fit.model.design.terms))
    table = pd.DataFrame(
        {
            "group": [labels], "level": ["all"], "n": [fit.model.nobs],
            "laplace": [found.laplace], "exact": [exact], "error": [total],
        }
    )  # fmt: skip
    none = pd.DataFrame({"nagq": pd.Series(dtype=int), "loglik": pd.Series(dtype=float)})
    advice = f"Quadrature cannot integrate here: {problem}. {_of_sampling(found, shift, noise)}"
    return LaplaceCheck(
        table, total, std_error, None, none, shift, advice, {}, found.ratios.ravel()
    )


def _of_sampling(found: Sampled, shift: pd.Series, noise: pd.Series) -> str:
    (exact, std_error), pairs = found.exact, len(found.ratios)
    total = found.laplace - exact
    if found.effective < EFFECTIVE:
        return (
            f"Importance sampling cannot either: {pairs} pairs of draws are worth "
            f"{found.effective:.0f}, so the errors shown are not to be trusted. Compare with "
            f"fit('nuts')."
        )
    far = int(np.argmax(shift.abs()))
    moved, give = abs(shift.iloc[far]), 2 * noise.iloc[far]
    said = (
        f"By importance sampling, of {pairs} pairs of draws worth {found.effective:.0f}, Laplace's "
        f"log likelihood is too {_side(total)} by {abs(total):.2g} (give or take "
        f"{2 * std_error:.1g}) at these estimates, and they are off by up to about {moved:.2g} "
        f"standard errors (give or take {give:.1g})."
    )
    if (shift.abs() + 2 * noise).max() < ENOUGH:
        return f"{said} Laplace's method will do."
    return f"{said} Compare with fit('nuts')."
