"""What is measured: models on tables, as every package writes them, and the ways to a posterior."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from benchmarks.simulate import Simulation
from benchmarks.tables import table_of

if TYPE_CHECKING:
    import pandas as pd

GIGABYTE = 1e9

type Role = Literal["ours", "control", "peer"]


@dataclass(frozen=True)
class Way:
    """
    One way to a posterior.

    Attributes
    ----------
    kind
        What the worker calls it; it also says whose formula is read.
    role
        `"control"` samples the very model and priors of ours by a peer's sampler.
    sampler
        Which of its samplers, where there are several.
    packages
        What a peer needs in its environment.
    """

    name: str
    label: str
    kind: str
    role: Role
    sampler: str = ""
    packages: tuple[str, ...] = ()

    @property
    def in_r(self) -> bool:
        """Whether it is measured by R, where nothing is compiled on the way."""
        return self.kind == "rstanarm"


_WAYS = (
    Way("posthoc", "glmm_bayes posthoc", "posthoc", "ours"),
    Way("nuts", "glmm_bayes nuts", "nuts", "ours", "auto"),
    Way("nuts-pymc", "glmm_bayes nuts, pymc", "nuts", "ours", "pymc"),
    Way("control", "nutpie on model.pymc", "control", "control", "nutpie"),
    Way("bambi-pymc", "bambi, pymc", "bambi", "peer", "pymc", ("bambi",)),
    Way("bambi-nutpie", "bambi, nutpie", "bambi", "peer", "nutpie", ("bambi", "nutpie")),
    Way("rstanarm", "rstanarm", "rstanarm", "peer", "", ("rstanarm",)),
)
WAYS = {way.name: way for way in _WAYS}
USUAL = tuple(name for name in WAYS if name != "nuts-pymc")

R_FAMILIES = {"bernoulli": "binomial"}


@dataclass(frozen=True)
class Case:
    """
    One model on one table.

    Attributes
    ----------
    data
        A name that `gb.load_dataset` knows, or what to simulate.
    formula, family
        As we write them.
    written
        The formula by the kind of a way that writes it otherwise.
    ways
        By which it is measured.
    cannot
        Why it is not measured by a usual way.
    notes
        By kind, what a reader has to know to compare.
    success
        `(column, level)`: the level of a two-level response that counts as 1, for every package.
    most_draws
        Caps the draws, the warm-up and, at two, the chains, where only memory is of interest.
    memory_limit
        In bytes; a run of ours that takes more has failed.
    """

    name: str
    data: str | Simulation
    family: str
    formula: str
    written: Mapping[str, str] = field(default_factory=dict)
    ways: tuple[str, ...] = USUAL
    cannot: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    success: tuple[str, str] | None = None
    most_draws: int | None = None
    memory_limit: float | None = None

    def table(self) -> "pd.DataFrame":
        """Load or make the data, with a two-level response as 0 and 1."""
        return table_of(self.data, self.success)

    def model(self, way: Way) -> dict[str, str]:
        """Give formula and family as a way writes them."""
        family = R_FAMILIES.get(self.family, self.family) if way.in_r else self.family
        return {"formula": self.written.get(way.kind, self.formula), "family": family}


NO_CORRELATION = (
    "bambi has no correlation between intercepts and slopes: its model is a smaller one"
)
ONLY_MEMORY = "model.pymc by PyMC's own sampler, a few draws: only its memory is of interest"
SLOW_IN_R = (
    "an iteration for the 7,584 rows of VerbAgg takes rstanarm some 0.2 s: with this many rows "
    "8,000 iterations would take hours"
)
A_MILLION = "not tried with a million rows: for InstEval, a fourteenth, NUTS takes minutes"
TOO_LARGE = "not tried with a million rows: for InstEval, a fourteenth, bambi takes some 4 GB"

_INSTEVAL = "y ~ service + (1 | s) + (1 | d) + (1 | dept:service)"
_CROSSED = "y ~ x + (1 | g) + (1 | h)"

_ALL = (
    Case(
        name="sleepstudy",
        data="sleepstudy",
        family="gaussian",
        formula="Reaction ~ Days + (1 + Days | Subject)",
        notes={"bambi": NO_CORRELATION},
    ),
    Case(
        name="cbpp",
        data="cbpp",
        family="binomial",
        formula="incidence | trials(size) ~ period + (1 | herd)",
        written={
            "bambi": "p(incidence, size) ~ period + (1 | herd)",
            "rstanarm": "cbind(incidence, size - incidence) ~ period + (1 | herd)",
        },
    ),
    Case(
        name="VerbAgg",
        data="verbagg",
        family="bernoulli",
        formula="r2 ~ Anger + Gender + btype + situ + (1 | id) + (1 | item)",
        success=("r2", "Y"),
    ),
    Case(
        name="grouseticks",
        data="grouseticks",
        family="poisson",
        formula="TICKS ~ YEAR + cHEIGHT + (1 | INDEX) + (1 | BROOD) + (1 | LOCATION)",
    ),
    Case(
        name="InstEval",
        data="insteval",
        family="gaussian",
        formula=_INSTEVAL,
        cannot={"rstanarm": SLOW_IN_R},
    ),
    Case(
        name="InstEval, memory",
        data="insteval",
        family="gaussian",
        formula=_INSTEVAL,
        ways=("nuts-pymc",),
        notes={"nuts": ONLY_MEMORY},
        most_draws=10,
        memory_limit=1.5 * GIGABYTE,
    ),
    Case(
        name="Poisson slopes",
        data=Simulation("poisson_slopes", 100_000, (5_000,)),
        family="poisson",
        formula="y ~ x + (1 + x | g)",
        cannot={"rstanarm": SLOW_IN_R},
        notes={"bambi": NO_CORRELATION},
    ),
    Case(
        name="Bernoulli crossed",
        data=Simulation("bernoulli_crossed", 100_000, (2_000, 500)),
        family="bernoulli",
        formula=_CROSSED,
        cannot={"rstanarm": SLOW_IN_R},
    ),
    Case(
        name="LMM 1M rows",
        data=Simulation("gaussian_crossed", 1_000_000, (10_000, 1_000)),
        family="gaussian",
        formula=_CROSSED,
        cannot={
            "nuts": A_MILLION,
            "control": A_MILLION,
            "bambi-pymc": TOO_LARGE,
            "bambi-nutpie": TOO_LARGE,
            "rstanarm": SLOW_IN_R,
        },
        memory_limit=GIGABYTE,
    ),
)

CASES = {case.name: case for case in _ALL}
