"""What is measured: a table, a formula and a family, in our words and in the peer's."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

GIGABYTE = 1e9


@dataclass(frozen=True)
class Case:
    """
    One model on one data set.

    Attributes
    ----------
    dataset
        The name that `gb.load_dataset` knows.
    formula, peer_formula
        The same model as we and as bambi write it; without the latter only we are measured.
    sampler
        Ours; `"pymc"` samples `model.pymc`.
    success
        `(column, level)`: the level of a two-level response that counts as 1, for every package.
    most_draws
        Caps the draws, the warm-up and, at two, the chains, where only memory is of interest.
    memory_limit
        In bytes; a run of ours that takes more has failed.
    note
        What a reader has to know to compare.
    """

    name: str
    dataset: str
    family: str
    formula: str
    peer_formula: str | None = None
    sampler: str = "auto"
    success: tuple[str, str] | None = None
    most_draws: int | None = None
    memory_limit: float | None = None
    note: str | None = None

    def table(self) -> "pd.DataFrame":
        """Load the data, with a two-level response as 0 and 1."""
        import glmm_bayes as gb

        data = gb.load_dataset(self.dataset)
        if self.success is not None:
            column, level = self.success
            data[column] = (data[column] == level).astype(int)
        return data


_ALL = (
    Case(
        name="sleepstudy",
        dataset="sleepstudy",
        family="gaussian",
        formula="Reaction ~ Days + (1 + Days | Subject)",
        peer_formula="Reaction ~ Days + (1 + Days | Subject)",
        note="bambi has no correlation between intercepts and slopes: its model is a smaller one",
    ),
    Case(
        name="cbpp",
        dataset="cbpp",
        family="binomial",
        formula="incidence | trials(size) ~ period + (1 | herd)",
        peer_formula="p(incidence, size) ~ period + (1 | herd)",
    ),
    Case(
        name="VerbAgg",
        dataset="verbagg",
        family="bernoulli",
        formula="r2 ~ Anger + Gender + btype + situ + (1 | id) + (1 | item)",
        peer_formula="r2 ~ Anger + Gender + btype + situ + (1 | id) + (1 | item)",
        success=("r2", "Y"),
    ),
    Case(
        name="grouseticks",
        dataset="grouseticks",
        family="poisson",
        formula="TICKS ~ YEAR + cHEIGHT + (1 | INDEX) + (1 | BROOD) + (1 | LOCATION)",
        peer_formula="TICKS ~ YEAR + cHEIGHT + (1 | INDEX) + (1 | BROOD) + (1 | LOCATION)",
    ),
    Case(
        name="InstEval",
        dataset="insteval",
        family="gaussian",
        formula="y ~ service + (1 | s) + (1 | d) + (1 | dept:service)",
        peer_formula="y ~ service + (1 | s) + (1 | d) + (1 | dept:service)",
    ),
    Case(
        name="InstEval-pymc",
        dataset="insteval",
        family="gaussian",
        formula="y ~ service + (1 | s) + (1 | d) + (1 | dept:service)",
        sampler="pymc",
        most_draws=10,
        memory_limit=1.5 * GIGABYTE,
        note="model.pymc by PyMC's own sampler, a few draws: only its memory is of interest",
    ),
)

CASES = {case.name: case for case in _ALL}
