"""What is fitted by maximum likelihood: tables, models, and how each package says them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.simulate import Simulation
from benchmarks.tables import table_of

if TYPE_CHECKING:
    import pandas as pd

OURS = "glmm_bayes"
PYTHON_PEERS = ("gpboost", "mixedlm", "statsmodels")
R_PEERS = ("lme4", "glmmTMB")
PEERS = R_PEERS + PYTHON_PEERS


@dataclass(frozen=True)
class Way:
    """
    How one package fits a case.

    Attributes
    ----------
    options
        What the worker of that package reads: a formula or its parts, the family in its words.
    variant
        What is not the package's default; empty for its default.
    note
        What a reader has to know to compare.
    comparable
        `"all"`; `"time"` where another criterion or a smaller model is fitted, so that the
        log-likelihoods are not of one thing.
    """

    side: str
    options: Mapping[str, Any]
    variant: str = ""
    note: str | None = None
    comparable: str = "all"

    @property
    def label(self) -> str:
        """The package, and the variant."""
        return f"{self.side} {self.variant}".strip()


@dataclass(frozen=True)
class Case:
    """
    One model on one table.

    Attributes
    ----------
    method
        `"ml"` or `"reml"`.
    data
        A name that `gb.load_dataset` knows, or what to simulate.
    ways
        How each package fits it.
    cannot
        Why a package does not.
    success
        `(column, level)`: the level of a two-level response that counts as 1, for every package.
    """

    name: str
    method: str
    data: str | Simulation
    ways: tuple[Way, ...]
    cannot: Mapping[str, str] = field(default_factory=dict)
    success: tuple[str, str] | None = None

    def table(self) -> "pd.DataFrame":
        """Load or make the data, with a two-level response as 0 and 1."""
        return table_of(self.data, self.success)


NO_GLMM = "statsmodels has no maximum likelihood for generalized mixed models"
NO_CROSSED = "statsmodels holds crossed factors as one dense matrix of all rows and levels"
NO_CORRELATION = (
    "gpboost has no correlation between intercepts and slopes: its model is a smaller one"
)
NO_REML = "gpboost has no REML: it maximises the likelihood"
AS_LME4 = "mixedlm's summary without degrees of freedom, as lme4's"
FAST = "nAGQ = 0 leaves the fixed effects out of the outer optimisation: an approximation"
ITERATIVE = (
    "gpboost's default for several factors is iterative: its log-likelihood is estimated with "
    "random vectors"
)


def _formulas(
    formula: str,
    family: str,
    *,
    ours: tuple[str, str] | None = None,
    r: str | None = None,
    mixedlm: str | None = None,
) -> tuple[Way, ...]:
    """Give the ways of the packages that read a formula; where one writes it its own way, how."""
    our_formula, our_family = ours or (formula, family)
    written_r = {"formula": r or formula, "family": family}
    gaussian = family == "gaussian"
    return (
        Way(OURS, {"formula": our_formula, "family": our_family}),
        Way("lme4", {**written_r, "nAGQ": 1}),
        Way("glmmTMB", written_r),
        Way(
            "mixedlm",
            {"formula": mixedlm or formula, "family": family},
            note=AS_LME4 if gaussian else None,
        ),
    )


def _gpboost(
    response: str, fixed: str, groups: list[str], likelihood: str, **more: Any
) -> tuple[Way, ...]:
    """Give gpboost's ways: its default, and Cholesky's where its default is iterative."""
    options: dict[str, Any] = {
        "response": response,
        "fixed": fixed,
        "groups": groups,
        "family": likelihood,
        "inversion": "default",
        **{key: more.pop(key) for key in ("trials", "slopes") if key in more},
    }
    if len(groups) == 1:
        return (Way("gpboost", options, **more),)
    note = more.pop("note", None)
    iterative = f"{note}; {ITERATIVE}" if note else ITERATIVE
    exact = {**options, "inversion": "cholesky"}
    return (
        Way("gpboost", options, note=iterative, **{**more, "comparable": "time"}),
        Way("gpboost", exact, "cholesky", note=note, **more),
    )


_VERBAGG = "r2 ~ Anger + Gender + btype + situ + (1 | id) + (1 | item)"
_TICKS = "TICKS ~ YEAR + cHEIGHT + (1 | INDEX) + (1 | BROOD) + (1 | LOCATION)"
_SLEEP = "Reaction ~ Days + (1 + Days | Subject)"
_INSTEVAL = "y ~ service + (1 | s) + (1 | d) + (1 | dept:service)"
_SLOPES = "y ~ x + (1 + x | g)"
_CROSSED = "y ~ x + (1 | g) + (1 | h)"

_NEST = "SiblingNegotiation ~ FoodTreatment * SexParent + offset(logBroodSize) + (1 | Nest)"


def _inflated(formula: str) -> tuple[Way, ...]:
    """Give the ways of the packages that have zero-inflated negative binomials."""
    return (
        Way(OURS, {"formula": formula, "family": "zero_inflated_negbinomial"}),
        Way("glmmTMB", {"formula": formula, "family": "nbinom2", "ziformula": "~1"}),
    )


NO_INFLATION = {
    side: "it has no zero-inflated negative binomial"
    for side in ("lme4", "mixedlm", "gpboost", "statsmodels")
}

_ALL = (
    Case(
        name="cbpp",
        method="ml",
        data="cbpp",
        ways=_formulas(
            "",
            "binomial",
            ours=("incidence | trials(size) ~ period + (1 | herd)", "binomial"),
            r="cbind(incidence, size - incidence) ~ period + (1 | herd)",
            mixedlm="incidence / size ~ period + (1 | herd)",
        )
        + _gpboost("incidence", "~ period", ["herd"], "binomial_logit", trials="size"),
        cannot={"statsmodels": NO_GLMM},
    ),
    Case(
        name="VerbAgg",
        method="ml",
        data="verbagg",
        success=("r2", "Y"),
        ways=_formulas(_VERBAGG, "binomial", ours=(_VERBAGG, "bernoulli"))
        + _gpboost("r2", "~ Anger + Gender + btype + situ", ["id", "item"], "bernoulli_logit"),
        cannot={"statsmodels": NO_GLMM},
    ),
    Case(
        name="grouseticks",
        method="ml",
        data="grouseticks",
        ways=_formulas(_TICKS, "poisson")
        + _gpboost("TICKS", "~ YEAR + cHEIGHT", ["INDEX", "BROOD", "LOCATION"], "poisson"),
        cannot={"statsmodels": NO_GLMM},
    ),
    Case(
        name="owls, zero-inflated",
        method="ml",
        data="owls",
        ways=_inflated(_NEST),
        cannot=NO_INFLATION,
    ),
    Case(
        name="sleepstudy",
        method="reml",
        data="sleepstudy",
        ways=(
            *_formulas(_SLEEP, "gaussian"),
            *_gpboost(
                "Reaction",
                "~ Days",
                ["Subject"],
                "gaussian",
                slopes=["Days"],
                note=f"{NO_REML}; {NO_CORRELATION}",
                comparable="time",
            ),
            Way(
                "statsmodels", {"fixed": "Reaction ~ Days", "group": "Subject", "columns": "~Days"}
            ),
        ),
    ),
    Case(
        name="InstEval",
        method="reml",
        data="insteval",
        ways=_formulas(_INSTEVAL, "gaussian")
        + _gpboost(
            "y",
            "~ service",
            ["s", "d", "dept:service"],
            "gaussian",
            note=NO_REML,
            comparable="time",
        ),
        cannot={"statsmodels": NO_CROSSED},
    ),
    Case(
        name="Poisson slopes",
        method="ml",
        data=Simulation("poisson_slopes", 100_000, (5_000,)),
        ways=(
            *_formulas(_SLOPES, "poisson"),
            Way("lme4", {"formula": _SLOPES, "family": "poisson", "nAGQ": 0}, "nAGQ=0", note=FAST),
            *_gpboost(
                "y",
                "~ x",
                ["g"],
                "poisson",
                slopes=["x"],
                note=NO_CORRELATION,
                comparable="time",
            ),
        ),
        cannot={"statsmodels": NO_GLMM},
    ),
    Case(
        name="zero-inflated counts",
        method="ml",
        data=Simulation("inflated_counts", 100_000, (2_000,)),
        ways=_inflated("y ~ x + (1 | g)"),
        cannot=NO_INFLATION,
    ),
    Case(
        name="Bernoulli crossed",
        method="ml",
        data=Simulation("bernoulli_crossed", 100_000, (2_000, 500)),
        ways=(
            *_formulas(_CROSSED, "binomial", ours=(_CROSSED, "bernoulli")),
            Way(
                "lme4", {"formula": _CROSSED, "family": "binomial", "nAGQ": 0}, "nAGQ=0", note=FAST
            ),
            *_gpboost("y", "~ x", ["g", "h"], "bernoulli_logit"),
        ),
        cannot={"statsmodels": NO_GLMM},
    ),
    Case(
        name="LMM 1M rows",
        method="reml",
        data=Simulation("gaussian_crossed", 1_000_000, (10_000, 1_000)),
        ways=_formulas(_CROSSED, "gaussian")
        + _gpboost("y", "~ x", ["g", "h"], "gaussian", note=NO_REML, comparable="time"),
        cannot={"statsmodels": NO_CROSSED},
    ),
)

CASES = {case.name: case for case in _ALL}
