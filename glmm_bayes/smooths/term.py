"""The penalised part of a smooth, as a random term of a single level."""

from dataclasses import dataclass
from typing import override

from glmm_bayes.terms import RandomTerm


@dataclass(frozen=True, eq=False)
class SmoothTerm(RandomTerm):
    """
    A random term whose effects are the weights of penalised functions, of one variance.

    Where it has no groups it is the population's: there are no other levels that it could be
    drawn for. `called` is the smooth, `penalty` the part of it; `unit` is the root of the penalty
    that a weight of one has.
    """

    called: str
    penalty: str
    unit: float

    @property
    @override
    def common(self) -> bool:
        return not self.addressing.factors

    @property
    @override
    def label(self) -> str:
        return self.called

    @override
    def column_size(self, k: int) -> float:
        # All columns together vary by one.
        return 1.0
