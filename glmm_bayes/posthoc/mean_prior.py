"""The prior of the mean's coefficients, and a normal density in its place."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from glmm_bayes.draws import beta_name
from glmm_bayes.engine.newton import Normal
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.priors import grouped

WEAKEST = 0.25  # of a prior's squared slope: a normal in its place has at least this precision
NORMAL = 1e-6  # of a prior's slope: what rounding leaves of it after such a step

type Function = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class MeanPrior:
    """The prior of the mean's free coefficients, on their own scale."""

    forms: Sequence[tuple[Function, Function, np.ndarray]]
    lower: np.ndarray
    upper: np.ndarray

    @classmethod
    def of(cls, coordinates: Coordinates) -> "MeanPrior":
        """Collect the priors of a model."""
        model, outer = coordinates.model, coordinates.outer
        blocks = [block for block in model.blocks if block.name == beta_name(model.main)]
        priors = [p for block in blocks for p in block.priors if not p.is_fixed]
        at = np.flatnonzero(np.isnan(coordinates.held[0]))
        start = model.layout[beta_name(model.main)].start if blocks else 0
        forms = [(*prior.resolved(), places) for prior, places in grouped(priors)]
        return cls(forms, outer.lower[start + at], outer.upper[start + at])

    @classmethod
    def none(cls) -> "MeanPrior":
        """Give that of no coefficients."""
        return cls([], np.empty(0), np.empty(0))

    def log_density(self, gamma: np.ndarray) -> Any:
        """Give the log density up to a constant, of `(k,)` or `(S, k)`; minus infinity outside."""
        total = np.zeros(gamma.shape[:-1])
        for core, _, at in self.forms:
            total = total + core(gamma[..., at]).sum(axis=-1)
        if self._is_bounded:
            inside = ((gamma > self.lower) & (gamma < self.upper)).all(axis=-1)
            total = np.where(inside, total, -np.inf)
        return total

    @cached_property
    def _is_bounded(self) -> bool:
        return bool(np.isfinite(self.lower).any() or np.isfinite(self.upper).any())

    def slope(self, gamma: np.ndarray) -> np.ndarray:
        """Give its derivative `(k,)`."""
        found = np.zeros_like(gamma)
        for _, score, at in self.forms:
            found[at] = score(gamma[at])
        return found

    def normal_at(self, gamma: np.ndarray) -> Normal:
        """Give a normal density of the same slope and curvature at a point, if that is concave."""
        step = 1e-4 * (1.0 + np.abs(gamma))
        slope = self.slope(gamma)
        bend = (self.slope(gamma - step) - self.slope(gamma + step)) / (2 * step)
        # Of a normal prior itself the slope is 0 at one step of Newton's method from anywhere.
        there = gamma + np.divide(slope, bend, out=np.zeros_like(slope), where=bend > 0)
        normal = (bend > 0) & (np.abs(self.slope(there)) <= NORMAL * np.abs(slope))
        precision = np.where(normal, bend, np.maximum(bend, WEAKEST * slope * slope))
        moved = np.divide(slope, precision, out=np.zeros_like(slope), where=precision > 0)
        return Normal(gamma + moved, np.diag(precision))
