"""Outer parameters as tables show them, of many points at once."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.targets import all_targets


@dataclass(frozen=True, eq=False)
class Factor:
    """The factor of one random term, for many x at once."""

    coordinates: Coordinates
    number: int = 0

    @cached_property
    def _basis(self) -> np.ndarray | None:
        """What Lambda is a linear combination of `(m, p, p)`; None where it is another function."""
        c = self.coordinates
        term, at = c.model.design.terms[self.number], c.factors[self.number]
        if c.strict[self.number]:
            return None
        units = np.eye(at.stop - at.start)
        basis = np.stack([term.structure.loose_factor(z, term.size) for z in units])
        for z in (1.0 + np.arange(len(units)) ** 2, -0.7 - np.arange(len(units))):
            found = term.structure.loose_factor(z, term.size)
            if not np.array_equal(found, np.einsum("m,mij->ij", z, basis)):
                return None
        return basis

    @property
    def is_linear(self) -> bool:
        """Whether Lambda is a linear combination of fixed matrices."""
        return self._basis is not None

    def Lambdas(self, x: np.ndarray) -> np.ndarray:
        """Give `(S, p, p)` at `(S, m)`."""
        c = self.coordinates
        if self._basis is None:
            return np.stack([c.Lambdas(row)[self.number] for row in x])
        return np.einsum("sm,mij->sij", x[:, c.factors[self.number]], self._basis)

    def pull(self, x: np.ndarray, slope: np.ndarray) -> np.ndarray:
        """Carry slopes `(S, p, p)` by Lambda back to the term's coordinates; of the only term."""
        c = self.coordinates
        if self._basis is None:
            blank = [np.zeros(len(h)) for h in c.held]
            pairs = zip(x, slope, strict=True)
            return np.stack([c.pull(row, blank, [D])[c.factors[self.number]] for row, D in pairs])
        return np.einsum("sij,mij->sm", slope, self._basis)


def outer_at(c: Coordinates, x: np.ndarray) -> np.ndarray:
    """Give the outer parameters `(S, K)` at `(S, m)`, in the order of tables."""
    Lambdas = [Factor(c, number).Lambdas(x) for number in range(len(c.factors))] if len(x) else []
    columns = [target.naturals(x, Lambdas) for target in all_targets(c)] if len(x) else []
    return np.column_stack(columns) if columns else np.empty((0, len(all_targets(c))))
