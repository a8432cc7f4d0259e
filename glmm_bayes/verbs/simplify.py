"""Which of a model's random effects its data support, and what could be left out, in order."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from glmm_bayes.errors import ConvergenceWarning, NotSupportedError, SingularFitWarning
from glmm_bayes.fit import ModeFit
from glmm_bayes.model import Model
from glmm_bayes.verbs.anova import anova
from glmm_bayes.verbs.printing import Grid, Page, Part, Sentences, p_value, right
from glmm_bayes.verbs.shorter import Shorter, shorter

LENIENT = 0.2  # of p: what is over it may go
NOTHING = 1e-4  # of a term's variance: a component of less is as good as none


@dataclass(frozen=True, eq=False)
class Simplification:
    """
    What the data say about each part of the random effects; prints as a page.

    Attributes
    ----------
    components
        The principal components of each term's covariance: `group, component, sd, share`.
    steps
        One row a formula that lacks one part more than the fit of the row's `step`:
        `step, lacks, formula, parameters, statistic, df, p_value, delta_aic, taken`. The last says
        which one the proposed path goes on with; it ends where none may go.
    fits
        Along the path, the first being the model's own.
    notes
        What is to be known before a part is left out.
    """

    components: pd.DataFrame
    steps: pd.DataFrame
    fits: tuple[ModeFit, ...]
    notes: tuple[str, ...]

    @property
    def page(self) -> Page:
        """The report, laid out."""
        parts: list[Part] = []
        if len(self.components):
            cells = [
                self.components["group"].tolist(),
                [str(k) for k in self.components["component"]],
                right("sd", [f"{v:.4g}" for v in self.components["sd"]])[1:],
                right("share", [f"{v:.1%}" for v in self.components["share"]])[1:],
            ]
            head = ("group", "component", "sd", "share")
            sections = (("", tuple(zip(*cells, strict=True))),)
            parts.append(Grid("Principal components", head, sections, words=2))
        for step, part in self.steps.groupby("step"):
            cells = [
                part["lacks"].tolist(),
                right("ratio", [f"{v:.3f}" for v in part["statistic"]])[1:],
                right("p", ["" if np.isnan(v) else p_value(v) for v in part["p_value"]])[1:],
                right("AIC", [f"{v:+.2f}" for v in part["delta_aic"]])[1:],
                ["taken" if taken else "" for taken in part["taken"]],
            ]
            sections = (("", tuple(zip(*cells, strict=True))),)
            parts.append(Grid(f"Step {step}", ("without", "ratio", "p", "AIC", ""), sections))
        if self.notes:
            parts.append(Sentences("Notes", self.notes))
        return Page("What the random effects' data support", tuple(parts))

    def __repr__(self) -> str:
        return self.page.text()

    def _repr_html_(self) -> str:
        return self.page.html()


def simplify(model: Model | ModeFit) -> Simplification:
    """
    Say which random effects the data support, and propose in which order others could go.

    Nothing is chosen for the user: the fits along the path are there to be compared.

    Parameters
    ----------
    model
        A model, which is fitted by 'ml', or a fit by 'ml' or 'reml'.

    Returns
    -------
    Simplification

    Raises
    ------
    NotSupportedError
        If the fit has no likelihood, or there are no random effects of the mean.

    Notes
    -----
    A part may go where the likelihood ratio, with the distribution it has at the edge, has p over
    0.2; of several that of the largest p goes first: Matuschek, Kliegl, Vasishth, Baayen & Bates
    (2017), J. Mem. Lang. 94, 305-315. Principal components: Bates, Kliegl, Vasishth & Baayen
    (2015), arXiv 1506.04967. After a choice by the same data, p and intervals are optimistic.

    Examples
    --------
    >>> import glmm_bayes as gb
    >>> model = gb.Model("Reaction ~ Days + (1 + Days | Subject)", gb.load_dataset("sleepstudy"))
    >>> gb.simplify(model).steps[["step", "lacks", "df", "p_value", "taken"]].round(2)
       step                    lacks  df  p_value  taken
    0     1  correlations of Subject   1      0.8   True
    1     1          Days of Subject   2      0.0  False
    2     2          Days of Subject   1      0.0  False
    """
    fit = _quietly(lambda: model.fit("ml")) if isinstance(model, Model) else model
    if np.isnan(fit.loglik):
        raise NotSupportedError(
            f"simplify compares likelihoods, which a fit by {fit.method!r} has not; fit by 'ml'."
        )
    if not shorter(fit.model):
        raise NotSupportedError("There are no random effects of the mean to be left out.")
    fits, tables = [fit], []
    while True:
        table = _candidates(fits[-1], len(fits))
        tables.append(table)
        taken = table.index[table["taken"]]
        if not len(taken):
            break
        fits.append(table.loc[taken[0], "fit"])
        if not shorter(fits[-1].model):
            break
    steps = pd.concat(tables, ignore_index=True).drop(columns="fit")
    notes = (*_notes(fit, len(fits)), *_unknown(steps))
    return Simplification(_components(fit), steps, tuple(fits), notes)


def _unknown(steps: pd.DataFrame) -> Iterator[str]:
    """Say where a ratio's distribution is not known."""
    without = steps.loc[steps["p_value"].isna(), "lacks"].unique()
    if len(without):
        yield (
            f"How the ratio without {', '.join(without)} is distributed at the edge is not known, "
            f"and no such part is taken: compare the fits by anova(other, test='bootstrap')."
        )


def _quietly(make: Callable[[], Any]) -> ModeFit:
    with warnings.catch_warnings():
        # What is singular is what is looked for.
        warnings.simplefilter("ignore", SingularFitWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        return make()


def _candidates(fit: ModeFit, step: int) -> pd.DataFrame:
    rows = [_row(fit, candidate, step) for candidate in shorter(fit.model)]
    found = pd.DataFrame(rows)
    best = found["p_value"].max()
    # Where a p is unknown, AIC decides: no part that it wants is taken.
    first = found["p_value"].eq(best) & (best > LENIENT)
    return found.assign(taken=first & ~first.duplicated())


def _row(fit: ModeFit, candidate: Shorter, step: int) -> dict[str, Any]:
    smaller = _quietly(lambda: fit.update(formula=list(candidate.texts), seed=fit.seed))
    try:
        test = anova(fit, smaller)
        statistic, p = (float(test[name].iloc[1]) for name in ("statistic", "p_value"))
    except NotSupportedError:
        statistic, p = 2 * (fit.loglik - smaller.loglik), np.nan
    return {
        "step": step,
        "lacks": candidate.lacks,
        "formula": candidate.texts[0],
        "parameters": smaller.df,
        "statistic": statistic,
        "df": fit.df - smaller.df,
        "p_value": p,
        "delta_aic": smaller.aic - fit.aic,
        "fit": smaller,
    }


def _components(fit: ModeFit) -> pd.DataFrame:
    """Give the standard deviations of each term's principal components."""
    parts = []
    for term in fit.model.design.terms:
        sizes = np.linalg.svd(fit.mode.Lambdas[term.name], compute_uv=False)
        whole = float(np.square(sizes).sum())
        share = np.square(sizes) / whole if whole > 0 else np.zeros(len(sizes))
        rows = {"group": term.label, "component": np.arange(1, len(sizes) + 1), "sd": sizes}
        parts.append(pd.DataFrame(rows | {"share": share}))
    columns = ["group", "component", "sd", "share"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _notes(fit: ModeFit, steps: int) -> list[str]:
    found = [f"{part.words[0].upper()}{part.words[1:]}." for part in fit.singular]
    components = _components(fit)
    for group, part in components.groupby("group", sort=False):
        none = int((part["share"] < NOTHING).sum())
        if none:
            found.append(
                f"Of {len(part)} dimensions of {group}, {none} hold less than "
                f"{NOTHING:.2%} of the variance."
            )
    if steps > 1:
        found.append(
            "The path is a proposal. What the design calls for may stay at no cost to the fixed "
            "effects' tests; after a choice by the same data, p and intervals are optimistic."
        )
    return found
