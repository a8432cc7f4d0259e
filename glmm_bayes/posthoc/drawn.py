"""Draws around a mode as they come of chains, and by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from glmm_bayes.draws import Draws, split_outer
from glmm_bayes.posthoc.target import Around


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
        `(C, D)` by name.
    """

    psi: np.ndarray
    gamma: np.ndarray
    effects: Sequence[np.ndarray]
    statistics: Mapping[str, np.ndarray]

    def named(self, around: Around) -> tuple[Draws, Any]:
        """Give the model's names to the draws, and put the statistics into a Dataset."""
        import xarray as xr

        chains, length = self.psi.shape[:2]
        psi, gamma, *effects = (
            part.reshape(chains * length, *part.shape[2:])
            for part in (self.psi, self.gamma, *self.effects)
        )
        model = around.target.model
        beta, constants, structures = split_outer(model, around.target.theta(psi, gamma))
        names = [term.name for term in model.design.terms]
        b = dict(zip(names, effects, strict=True))
        found = Draws(beta, constants, structures, b, chains)
        coords = {"chain": np.arange(chains), "draw": np.arange(length)}
        dims = ["chain", "draw"]
        values = {name: (dims, value) for name, value in self.statistics.items()}
        return found, xr.Dataset(values, coords)
