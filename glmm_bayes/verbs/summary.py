"""What is read first of a fit: its estimates in tables, and whether they can be trusted."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from glmm_bayes.fit import Fit, ModeFit, PosteriorFit
from glmm_bayes.modes.chains import laplace_is_exact
from glmm_bayes.modes.reading import has_masses
from glmm_bayes.verbs.describe import model_facts, model_title
from glmm_bayes.verbs.printing import Facts, Grid, Page, Part, Row, Sentences, estimate_cells
from glmm_bayes.verbs.tables import constants, fixef, varcorr


@dataclass(frozen=True, eq=False)
class Summary:
    """
    The tables of a fit, which print as a page.

    Attributes
    ----------
    title, facts
        What was fitted, to which data, how.
    fixef, varcorr
        As `fit.fixef()` and `fit.varcorr()` give them.
    family
        The family's parameters that have no formula, one a row.
    diagnostics
        As `fit.diagnostics()` gives them.
    levels
        The number of levels by group.
    smooths
        The smooths' random terms, by the names that `varcorr` has for groups.
    measured
        What was measured with errors, by these names.
    level
        The probability of the intervals.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    fixef: pd.DataFrame
    varcorr: pd.DataFrame
    family: pd.DataFrame
    diagnostics: Any
    levels: Mapping[str, int]
    smooths: frozenset[str]
    measured: frozenset[str]
    level: float

    @property
    def page(self) -> Page:
        """The printed page."""
        shown = self.varcorr["group"].isin(self.smooths)
        true = self.varcorr["group"].isin(self.measured)
        grids = (
            self._group_grid("Group-level effects", self.varcorr[~shown & ~true]),
            self._group_grid("Smooths", self.varcorr[shown]),
            self._group_grid("True values of measured predictors", self.varcorr[true]),
            self._population_grid(),
            self._family_grid(),
        )
        words = Sentences("Diagnostics", tuple(repr(self.diagnostics).splitlines()))
        parts: list[Part] = [Facts(self.facts), *(g for g in grids if g.sections), words]
        return Page(self.title, tuple(parts))

    def text(self, width: int | None = None) -> str:
        """Lay the tables out as text: see `Page.text`."""
        return self.page.text(width)

    def html(self) -> str:
        """Write the tables as HTML."""
        return self.page.html()

    def __repr__(self) -> str:
        """Print as text."""
        return self.text()

    def _repr_html_(self) -> str:
        return self.html()

    def _group_grid(self, title: str, parameters: pd.DataFrame) -> Grid:
        # The residual sd has no structure; it stands among the family's parameters.
        shown = parameters[parameters["structure"] != ""]
        names = [
            f"{kind}({', '.join(filter(None, coefs))})" if coefs[0] else kind
            for kind, *coefs in shown[["kind", "coef1", "coef2"]].astype(str).to_numpy().tolist()
        ]
        several = shown.groupby(["group", "param"])["structure"].transform("nunique") > 1
        structures = shown["structure"].where(several, "")
        parts = zip(shown["group"], shown["param"], structures, strict=True)
        headings = [self._heading(*part) for part in parts]
        return self._grid(title, shown, headings, names)

    def _population_grid(self) -> Grid:
        headings = [""] * len(self.fixef)
        if "param" in self.fixef:
            headings = list(self.fixef["param"])
        return self._grid("Population-level effects", self.fixef, headings, self.fixef.index)

    def _family_grid(self) -> Grid:
        headings = [""] * len(self.family)
        return self._grid("Family parameters", self.family, headings, self.family.index)

    def _heading(self, group: str, param: str, structure: str) -> str:
        if group in self.measured:
            return "" if len(self.measured) == 1 else group
        if group not in self.levels:
            return f"{group}s"  # their structure has no levels of its own
        count = self.levels[group]
        words = group if group in self.smooths else f"{group} ({count} level{'s' * (count > 1)})"
        # By descent, say, and of its own: two terms of one group.
        words += f", {structure}" if structure else ""
        return words if param == "mu" else f"{words}, for {param.replace('+', ' and ')}"

    def _grid(
        self, title: str, shown: pd.DataFrame, headings: list[str], names: Iterable[str]
    ) -> Grid:
        if not len(shown):
            return Grid(title, (), ())
        header, cells = estimate_cells(shown, self.level)
        rows: list[tuple[str, Row]] = [
            (heading, (str(name), *row))
            for heading, name, row in zip(headings, names, cells, strict=True)
        ]
        sections = tuple(
            (heading, tuple(row for _, row in members))
            for heading, members in groupby(rows, key=lambda pair: pair[0])
        )
        return Grid(title, ("", *header), sections)


def summary(fit: Fit, *, level: float = 0.95) -> Summary:
    """
    Collect what is read first of a fit.

    Parameters
    ----------
    level
        The probability of the intervals.
    """
    model = fit.model
    return Summary(
        title=model_title(model),
        facts=(*model_facts(model), *fit.facts(level)),
        fixef=fixef(fit, level=level),
        varcorr=varcorr(fit, level=level),
        family=constants(fit, level=level),
        diagnostics=fit.diagnostics(),
        levels={term.label: term.shown for term in model.design.terms},
        smooths=frozenset(term.label for term in model.design.terms if term.common),
        measured=frozenset(measured.label for measured in model.design.measured),
        level=level,
    )


def posterior_facts(fit: PosteriorFit, level: float) -> tuple[tuple[str, str], ...]:
    """Say how the draws were made, and what the columns are."""
    draws, length = fit.draws, fit.draws.size // fit.draws.chains
    each = f"{length} draws after warm-up"
    if fit.statistics.attrs.get("independent"):
        each = f"{length} independent draws"
    drawn = (
        f"{fit.method}: {draws.chains} chain{'s' if draws.chains > 1 else ''} of {each}; "
        f"seed {fit.seed}; {fit.elapsed:.1f} s"
    )
    shown = f"posterior mean, standard deviation and {100 * level:g}% equal-tailed interval"
    notes = str(fit.statistics.attrs.get("notes", "")).splitlines()
    return ("Draws", drawn), ("Estimates", shown), *(("Note", words) for words in notes)


CRITERIA = {
    "ml": "maximum likelihood",
    "reml": "restricted maximum likelihood",
    "map": "maximum of the posterior density",
    "pql": "penalised quasi-likelihood",
}


def mode_facts(fit: ModeFit, level: float) -> tuple[tuple[str, str], ...]:
    """Say what was maximised, how high it is, and what the columns are."""
    criterion = CRITERIA.get(fit.method, fit.method)
    nodes = fit.options.get("nagq") or 1
    if np.isnan(fit.loglik):
        how = "a fixed point"
    elif laplace_is_exact(fit.model) or not fit.model.design.terms:
        how = "exact"
    elif has_masses(fit.model):
        how = "exact, a sum over the classes"
    elif nodes > 1:
        how = f"adaptive Gauss-Hermite quadrature, {nodes} nodes"
    else:
        how = "Laplace's approximation"
    heights = (
        f"{fit.loglik:.3f}{' (restricted)' if fit.method == 'reml' else ''}; {fit.df} "
        f"parameter{'' if fit.df == 1 else 's'}; "
        f"AIC {fit.aic:.2f}; BIC {fit.bic:.2f}"
    )
    shown = (
        f"at the maximum; standard error from the curvature; {100 * level:g}% Wald interval; "
        f"z and p asymptotic (normal), optimistic where groups are few"
    )
    if np.isnan(fit.loglik):
        heights = "none: quasi-likelihoods cannot be compared"
    return (
        ("Method", f"{criterion} ({how}); {fit.elapsed:.2f} s"),
        ("Log likelihood", heights),
        ("Estimates", shown),
        *(("Note", note) for note in fit.mode.notes),
    )
