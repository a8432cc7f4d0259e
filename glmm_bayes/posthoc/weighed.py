"""Draws with importance weights, and how far these can be relied on."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

RELIED_ON = 0.7  # Pareto's k, up to which weights are
SAME = 1e-9  # of log weights: such as do not differ have no tail


@dataclass(frozen=True, eq=False)
class Weights:
    """
    Importance weights of S draws, their tail smoothed.

    Attributes
    ----------
    log
        `(S,)` log density over that of the draws, up to a constant; minus infinity for draws that
        do not count.

    Notes
    -----
    Vehtari, Simpson, Gelman, Yao & Gabry (2024), J. Machine Learning Research 25(72).
    """

    log: np.ndarray

    def __str__(self) -> str:
        return f"Pareto k {self.pareto_k:.2f}, {self.effective:.0f} effective of {len(self.log)}"

    @cached_property
    def _smoothed(self) -> tuple[np.ndarray, float]:
        from arviz_stats.base import array_stats

        weights, finite = np.zeros(len(self.log)), np.isfinite(self.log)
        relative = self.log[finite] - self.log[finite].max(initial=-np.inf)
        if not len(relative) or np.ptp(relative) < SAME:
            weights[finite] = 1.0 / max(len(relative), 1)
            return weights, -np.inf if len(relative) else np.inf
        # ArviZ takes log likelihoods of what is left out, whose negatives are the log weights.
        log_weights, k = array_stats.psislw(-relative)
        weights[finite] = np.exp(log_weights - log_weights.max())
        return weights / weights.sum(), float(k)

    @property
    def smoothed(self) -> np.ndarray:
        """The weights `(S,)`, of sum one."""
        return self._smoothed[0]

    @property
    def pareto_k(self) -> float:
        """Pareto's k of the weights: above 0.7 they are not to be relied on."""
        return self._smoothed[1]

    @property
    def effective(self) -> float:
        """How many unweighted draws tell as much."""
        square = float(np.square(self.smoothed).sum())
        return 1.0 / square if square else 0.0

    @property
    def reliable(self) -> bool:
        """Whether the weights can be relied on, if there are enough of them."""
        return self.pareto_k < RELIED_ON


@dataclass(frozen=True, eq=False)
class Weighed:
    """
    S independent draws of everything.

    Attributes
    ----------
    psi, gamma
        `(S, d)` outer parameters, `(S, k)` the mean's free coefficients.
    effects
        By term, b `(S, q, p)`.
    log_posterior
        `(S,)` the joint log density of these up to a constant, effects in standard units; of a
        Gaussian response that of psi and gamma, over the normal of gamma given psi.
    log_weight
        `(S,)` the same over the density of the draws.
    """

    psi: np.ndarray
    gamma: np.ndarray
    effects: Sequence[np.ndarray]
    log_posterior: np.ndarray
    log_weight: np.ndarray

    @classmethod
    def by(
        cls,
        psi: np.ndarray,
        gamma: np.ndarray,
        effects: Sequence[np.ndarray],
        log_posterior: np.ndarray,
        log_proposal: np.ndarray,
    ) -> "Weighed":
        """Weigh by the density `(S,)` of the draws; those without posterior density not at all."""
        inside = np.isfinite(log_posterior)
        log_posterior = np.where(inside, log_posterior, -np.inf)
        return cls(psi, gamma, effects, log_posterior, log_posterior - log_proposal)

    @cached_property
    def weights(self) -> Weights:
        """The weights, as estimates are made with them."""
        return Weights(self.log_weight)
