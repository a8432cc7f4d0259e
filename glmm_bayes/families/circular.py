"""Families of directions: angles in radians, from -pi to pi."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from glmm_bayes.families.continuous import SHAPE_LINKS, scipy_stats
from glmm_bayes.families.family import Array, Parameter, Params, add_family, first
from glmm_bayes.families.links import CIRCLE, POSITIVE
from glmm_bayes.families.special import log_bessel0
from glmm_bayes.families.written import written
from glmm_bayes.priors import Prior

LOG_2PI = np.log(2 * np.pi)


@dataclass(frozen=True, eq=False)
class Directions:
    """A von Mises distribution whose distribution function begins at -pi, wherever the mean is."""

    mu: Array
    kappa: Array

    def rvs(self, size: Any, random_state: np.random.Generator) -> Array:
        """Draw angles in (-pi, pi)."""
        angle = random_state.vonmises(0.0, self.kappa, size) + self.mu
        return (angle + np.pi) % (2 * np.pi) - np.pi

    def logpdf(self, y: Array) -> Array:
        """Give the log density."""
        return scipy_stats().vonmises(self.kappa, self.mu).logpdf(y)

    def cdf(self, y: Array) -> Array:
        """Give P(-pi < Y <= y)."""
        whole = scipy_stats().vonmises(self.kappa, self.mu)
        return whole.cdf(y) - whole.cdf(-np.pi)


def _log_density(y: Any, p: Params, xp: Any) -> Any:
    return p["kappa"] * xp.cos(y - p["mu"]) - log_bessel0(p["kappa"], xp) - LOG_2PI


def _angles(y: Array, trials: Array | None) -> tuple[int, str] | None:
    at = first(~(np.abs(y) <= np.pi))
    return None if at is None else (at, "angles are in radians, between -pi and pi")


VON_MISES = add_family(
    written(
        "von_mises",
        (
            Parameter("mu", "tan_half", ("tan_half", "identity"), CIRCLE),
            Parameter("kappa", "log", SHAPE_LINKS, POSITIVE, Prior("Gamma", alpha=2.0, beta=0.01)),
        ),
        _log_density,
        lambda p, trials: Directions(p["mu"], p["kappa"]),
        mean=lambda p: p["mu"],
        problem=_angles,
    )
)
