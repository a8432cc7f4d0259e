"""The penalised part of a smooth, as a random term of a single level."""

from dataclasses import dataclass
from typing import override

from glmm_bayes.terms import RandomTerm


@dataclass(frozen=True, eq=False)
class SmoothTerm(RandomTerm):
    """
    A random term whose effects are the weights of penalised functions, of one variance.

    It is of the population: there are no other levels that it could be drawn for. `unit` is the
    root of the penalty that a weight of one has.
    """

    called: str
    unit: float

    @property
    @override
    def common(self) -> bool:
        return True

    @property
    @override
    def label(self) -> str:
        return self.called

    @override
    def column_size(self, k: int) -> float:
        # All columns together vary by one.
        return 1.0
