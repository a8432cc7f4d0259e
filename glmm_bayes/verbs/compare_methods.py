"""Fit one model by several methods, and put what they say side by side."""

import inspect
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from glmm_bayes.engine.integrals.chain import Chain
from glmm_bayes.errors import (
    ConvergenceWarning,
    DataError,
    DataWarning,
    GlmmError,
    NotSupportedError,
    SingularFitWarning,
    UnknownNameError,
)
from glmm_bayes.fit import Fit
from glmm_bayes.inference import METHODS
from glmm_bayes.model import Model
from glmm_bayes.modes.chains import chain_problem, laplace_is_exact
from glmm_bayes.modes.reading import read_latent
from glmm_bayes.registry import suggestion
from glmm_bayes.verbs.confint import outer_table
from glmm_bayes.verbs.describe import model_facts
from glmm_bayes.verbs.intervals import checked_level
from glmm_bayes.verbs.laplace_error import LADDER
from glmm_bayes.verbs.printing import Facts, Grid, Page, Part, Row, Sentences, estimate_cells, right

if TYPE_CHECKING:
    from matplotlib.figure import Figure

USUAL = ("pql", "ml", "agq", "map", "posthoc", "nested_laplace", "nuts")
QUADRATURE = "agq"  # not a method of `fit`: `ml` with nodes that suit the model
NODES, FEWEST = 25, 3  # of quadrature, for every effect
GRID = 1000  # nodes in all, about, for the effects that a row has
OURS = (ConvergenceWarning, SingularFitWarning, DataWarning)


@dataclass(frozen=True, eq=False)
class MethodComparison:
    """
    One model's estimates by several methods, which print as a page.

    Attributes
    ----------
    model, seed, level
        What was compared; the seed that every method was given; the intervals' probability.
    fits
        By name, those that came about.
    table
        `method, name, param, kind, estimate, std_error, lower, upper, converged`: one row a
        method and parameter. `name` is a coefficient's own (of other parameters than the mean
        `sigma:x`), `sd_g[x]`, `corr_g[x, z]`, or the family's parameter; `kind` is `"fixed"`,
        `"sd"`, `"corr"` or what else a structure has, and `"family"`.
    runs
        By name, every method, those that gave no fit too: `method, options` (in words),
        `seconds`, `outcome` ("converged", "not converged", "not supported" or "failed") and
        `words`: what it warned of, or why there is no fit.
    """

    model: Model
    seed: int
    level: float
    fits: Mapping[str, Fit]
    table: pd.DataFrame
    runs: pd.DataFrame

    def plot(self, parm: str | Sequence[str] | None = None) -> "Figure":
        """Plot estimates and intervals by parameter: see `verbs.plots.methods`."""
        from glmm_bayes.verbs.plots.methods import plot_methods

        return plot_methods(self, parm)

    def of(self, parm: str | Sequence[str] | None) -> pd.DataFrame:
        """
        Give the table's rows of some parameters, or of all.

        Raises
        ------
        UnknownNameError
            If there is no such parameter.
        """
        if parm is None:
            return self.table
        names = [parm] if isinstance(parm, str) else list(parm)
        known = list(dict.fromkeys(self.table["name"]))
        for name in names:
            if name not in known:
                raise UnknownNameError(f"There is no parameter {name!r}. {suggestion(name, known)}")
        return self.table[self.table["name"].isin(names)]

    @property
    def page(self) -> Page:
        """The printed page."""
        shown = f"{100 * self.level:g}% intervals: of maxima Wald's, of draws equal-tailed"
        facts = (*model_facts(self.model), ("Estimates", shown), ("Seed", str(self.seed)))
        parts: list[Part] = [Facts(facts), self._runs_grid()]
        if len(self.table):
            parts.append(self._estimates_grid())
        if words := tuple(self._notes()):
            parts.append(Sentences("Notes", words))
        return Page("One model by several methods", tuple(parts))

    def _runs_grid(self) -> Grid:
        seconds = ["-" if np.isnan(s) else f"{s:.2f}" for s in self.runs["seconds"]]
        head, *cells = right("seconds", seconds)
        rows: list[Row] = [
            (str(name), options, outcome, cell)
            for name, options, outcome, cell in zip(
                self.runs.index, self.runs["options"], self.runs["outcome"], cells, strict=True
            )
        ]
        return Grid("Methods", ("", "options", "outcome", head), (("", tuple(rows)),), words=3)

    def _estimates_grid(self) -> Grid:
        header, cells = estimate_cells(self.table, self.level)
        rows = np.array([(m, *c) for m, c in zip(self.table["method"], cells, strict=True)])
        sections = tuple(
            (str(name), tuple(tuple(row) for row in rows[at]))
            for name, at in self.table.groupby("name", sort=False).indices.items()
        )
        return Grid("Parameters", ("", *header), sections)

    def _notes(self) -> Iterator[str]:
        for words in filter(None, dict.fromkeys(self.runs["words"])):
            yield f"{', '.join(self.runs.index[self.runs['words'] == words])}: {words}"

    def text(self, width: int | None = None) -> str:
        """Lay it out as text: see `Page.text`."""
        return self.page.text(width)

    def __repr__(self) -> str:
        """Print as text."""
        return self.text()

    def _repr_html_(self) -> str:
        return self.page.html()


def compare_methods(
    model: Model,
    methods: Sequence[str] | Mapping[str, str] = USUAL,
    *,
    seed: int | None = None,
    level: float = 0.95,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> MethodComparison:
    """
    Fit a model by several methods: one table and one figure of what they say.

    Parameters
    ----------
    methods
        Names in `gb.METHODS`, and `"agq"`: `"ml"` by adaptive quadrature, with 25 nodes for one
        effect a level and fewer where there are more. A mapping gives them names of their own,
        so that one may be there twice: `{"map": "map", "map, 25 nodes": "map"}`.
    seed
        Every method is given the same, unless its options have another; by default one is drawn.
    level
        The intervals' probability.
    options
        By name, the method's options: `{"nuts": {"draws": 500}}`.

    Returns
    -------
    MethodComparison
        A method that fails, or that cannot fit this model, is reported in it and does not take
        the others with it. Warnings are collected there too.

    Raises
    ------
    UnknownNameError
        If a method or an option is not known; nothing is fitted then.

    Examples
    --------
    >>> import glmm_bayes as gb
    >>> herds = gb.load_dataset("cbpp")
    >>> formula = "incidence | trials(size) ~ period + (1 | herd)"
    >>> model = gb.Model(formula, herds, family="binomial")
    >>> found = gb.compare_methods(model, ["pql", "ml", "agq"], seed=1)
    >>> found.of("sd_herd[Intercept]")[["method", "estimate"]].round(2)
       method  estimate
    4     pql      0.56
    9      ml      0.64
    14    agq      0.65
    """
    named = _named(methods)
    given = _checked_options(named, options or {})
    checked_level(level)
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1)[0])
    runs = {n: _run(model, method, seed, given.get(n, {})) for n, method in named.items()}
    fits = {name: run.fit for name, run in runs.items() if run.fit is not None}
    parts = [
        outer_table(fit, level=level)
        .reset_index()
        .assign(method=name, converged=runs[name].outcome == CONVERGED)
        for name, fit in fits.items()
    ]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    report = pd.DataFrame(
        [(r.method, r.options, r.seconds, r.outcome, r.words) for r in runs.values()],
        index=pd.Index(runs, name="name"),
        columns=["method", "options", "seconds", "outcome", "words"],
    )
    return MethodComparison(model, seed, level, fits, table.reindex(columns=COLUMNS), report)


COLUMNS = [
    *("method", "name", "param", "kind", "estimate", "std_error", "lower", "upper", "converged")
]


# ---- before anything is fitted


def _named(methods: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    if isinstance(methods, str):
        methods = [methods]
    named = dict(methods) if isinstance(methods, Mapping) else {name: name for name in methods}
    if not named:
        raise DataError("Give at least one method to compare.")
    for method in named.values():
        _signature(method)
    return named


def _signature(method: str) -> inspect.Signature:
    """
    Look a method's arguments up.

    Raises
    ------
    UnknownNameError
        If there is no such method.
    """
    try:
        return inspect.signature(METHODS["ml" if method == QUADRATURE else method])
    except UnknownNameError as error:
        known = suggestion(str(method), [*METHODS, QUADRATURE])
        raise UnknownNameError(f"There is no method {method!r}. {known}") from error


def _checked_options(
    named: Mapping[str, str], options: Mapping[str, Mapping[str, Any]]
) -> Mapping[str, Mapping[str, Any]]:
    for name, given in options.items():
        if name not in named:
            raise UnknownNameError(
                f"options= has {name!r}, which is not among the methods. {suggestion(name, named)}"
            )
        signature = _signature(named[name])
        try:
            signature.bind(None, **given)
        except TypeError as error:
            known = [p.name for p in list(signature.parameters.values())[1:]]
            raise UnknownNameError(
                f"Options of {name!r}: {error}. Known: {', '.join(known)}."
            ) from error
    return options


# ---- one method


CONVERGED = "converged"


@dataclass(frozen=True, eq=False)
class Run:
    """What came of one method; `fit` is None if nothing did."""

    method: str
    options: str
    seconds: float
    outcome: str
    words: str
    fit: Fit | None = None


def _run(model: Model, method: str, seed: int, options: Mapping[str, Any]) -> Run:
    began = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        for category in OURS:
            warnings.simplefilter("always", category)
        try:
            method, options = _resolved(model, method, options)
            fit = model.fit(method, **{"seed": seed, **options})
        except NotSupportedError as error:
            return Run(method, _written(options), np.nan, "not supported", str(error))
        # The others are not to be lost, whatever it is that one of them runs into.
        except Exception as error:
            ours = isinstance(error, GlmmError)
            words = str(error) if ours else f"{type(error).__name__}: {error}"
            spent = time.perf_counter() - began
            return Run(method, _written(options), spent, "failed", words)
    words = " ".join(dict.fromkeys(_said(warning) for warning in caught))
    report = fit.diagnostics()
    outcome = CONVERGED if report.ok else "not converged"
    words = words or " ".join(report.problems)
    return Run(method, _written(options), fit.elapsed, outcome, words, fit)


def _said(warning: warnings.WarningMessage) -> str:
    ours = issubclass(warning.category, OURS)
    return str(warning.message) if ours else f"{warning.category.__name__}: {warning.message}"


def _resolved(
    model: Model, method: str, options: Mapping[str, Any]
) -> tuple[str, Mapping[str, Any]]:
    """Say quadrature in the words of `fit`."""
    if method != QUADRATURE:
        return method, options
    if laplace_is_exact(model):
        raise NotSupportedError(
            "The integral over the random effects is exact here without quadrature: see 'ml'."
        )
    return "ml", {"nagq": suitable_nagq(model)} | dict(options)


def suitable_nagq(model: Model) -> int:
    """
    Choose a number of nodes for every effect: the more, the fewer effects a row has.

    For models that quadrature cannot integrate it is `NODES`, and `ml` says why it cannot.
    """
    if chain_problem(model) is not None:
        return NODES
    effects = sum(grouping.k for grouping in Chain.build(read_latent(model)).groupings)
    return max(k for k in LADDER if k == FEWEST or k <= NODES and k**effects <= GRID)


def _written(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in options.items())
