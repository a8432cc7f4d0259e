"""Draws around a mode as they come of chains, and by name."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from glmm_bayes.draws import Draws, split_outer
from glmm_bayes.model import Model
from glmm_bayes.posthoc.outer import OuterPosterior

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, eq=False)
class Drawn:
    """
    C chains of D draws.

    Attributes
    ----------
    psi, gamma
        `(C, D, d)` outer parameters, `(C, D, k)` the mean's free coefficients.
    effects
        By term, b `(C, D, q, p)`.
    statistics
        `(C, D)` by name: `lp`, and how proposals were accepted.
    """

    psi: np.ndarray
    gamma: np.ndarray
    effects: Sequence[np.ndarray]
    statistics: Mapping[str, np.ndarray]

    @classmethod
    def room(
        cls,
        model: Model,
        shape: tuple[int, int],
        d: int,
        k: int,
        statistics: Iterable[str],
    ) -> "Drawn":
        """Make room for chains of draws `(C, D)`, which are put into the arrays."""
        sizes = [(len(term.levels), term.size) for term in model.design.terms]
        return cls(
            np.empty((*shape, d)),
            np.empty((*shape, k)),
            [np.empty((*shape, *size)) for size in sizes],
            {name: np.empty(shape) for name in statistics},
        )

    def first(self, draws: int) -> "Drawn":
        """Give the first draws of every chain, and the statistics that any of them has."""
        statistics = {name: value[:, :draws] for name, value in self.statistics.items()}
        return Drawn(
            self.psi[:, :draws],
            self.gamma[:, :draws],
            [b[:, :draws] for b in self.effects],
            {name: value for name, value in statistics.items() if not np.isnan(value).all()},
        )

    def named(self, posterior: OuterPosterior) -> tuple[Draws, "xr.Dataset"]:
        """Give the model's names to the draws, and put the statistics into a Dataset."""
        import xarray as xr

        chains, length = self.psi.shape[:2]
        psi, gamma, *effects = (
            part.reshape(chains * length, *part.shape[2:])
            for part in (self.psi, self.gamma, *self.effects)
        )
        model = posterior.model
        beta, constants, structures = split_outer(model, posterior.theta(psi, gamma))
        names = [term.name for term in model.design.terms]
        b = dict(zip(names, effects, strict=True))
        found = Draws(beta, constants, structures, b, chains)
        coords = {"chain": np.arange(chains), "draw": np.arange(length)}
        dims = ["chain", "draw"]
        values = {name: (dims, value) for name, value in self.statistics.items()}
        return found, xr.Dataset(values, coords)
