"""Families of directions: angles in radians, from -pi to pi."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from glmm_bayes.families.continuous import SHAPE_LINKS, scipy_stats
from glmm_bayes.families.family import Array, Parameter, Params, add_family, first
from glmm_bayes.families.incomplete import plain
from glmm_bayes.families.links import CIRCLE, POSITIVE
from glmm_bayes.families.special import log_bessel0
from glmm_bayes.families.summed import by_arrays, over_first
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
        # SciPy's is the normal's from kappa = 50 on, which is right to six digits.
        mu, kappa, y = np.broadcast_arrays(self.mu, self.kappa, y)
        with np.errstate(divide="ignore"):
            return np.exp(_tails(y, {"mu": mu, "kappa": kappa})[0])


def _log_density(y: Any, p: Params, xp: Any) -> Any:
    return p["kappa"] * xp.cos(y - p["mu"]) - log_bessel0(p["kappa"], xp) - LOG_2PI


def _angles(y: Array, trials: Array | None) -> tuple[int, str] | None:
    at = first(~(np.abs(y) <= np.pi))
    return None if at is None else (at, "angles are in radians, between -pi and pi")


def _tails(y: Array, p: Params) -> Any:
    """Integrate from -pi, and on to pi, by Gauss and Legendre."""
    mu, kappa = p["mu"], p["kappa"]
    count = 60 + int(16 * np.sqrt(np.max(plain(kappa), initial=0.0)))
    nodes, weights = (
        part.reshape(-1, *[1] * np.ndim(y)) for part in np.polynomial.legendre.leggauss(count)
    )

    def between(low: Any, high: Any) -> Any:
        half = 0.5 * (high - low)
        rises = kappa * (np.cos(low + half * (nodes + 1) - mu) - 1)
        top = plain(rises).max(axis=0)
        found = np.log(over_first(np.exp(rises - top) * weights)) + top + np.log(half)
        return found + kappa - log_bessel0(kappa) - LOG_2PI

    return between(-np.pi, y), between(y, np.pi)


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
        tails=by_arrays("von_mises", _tails, ("mu", "kappa")),
        problem=_angles,
    )
)
