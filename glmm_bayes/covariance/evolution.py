"""How a trait evolves along the branches of a tree: what passes on, and what is gained."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, override

import numpy as np

from glmm_bayes.covariance.structure import CovarianceParameter
from glmm_bayes.priors import Prior
from glmm_bayes.registry import Registry

EVOLUTIONS: Registry["type[Evolution]"] = Registry("model of evolution")


@dataclass(frozen=True, eq=False)
class Branches:
    """
    Each of N nodes with the branch above it, in the unit of the tree.

    Attributes
    ----------
    depth, length
        `(N,)` how far a node is from the root, and from the node above it.
    is_tip, is_first
        `(N,)` whether it is a tip; whether no other node is above it.
    """

    depth: np.ndarray
    length: np.ndarray
    is_tip: np.ndarray
    is_first: np.ndarray


class Evolution(ABC):
    """
    A model of evolution at one rate of one: a node is `kept` times the one above plus a gain.

    Attributes
    ----------
    from_zero
        Whether the value at the root is the Intercept itself, so that the root is no node.
    tips_apart
        Whether tips differ also where no branch is between them.
    """

    name: ClassVar[str]
    from_zero: ClassVar[bool] = True
    tips_apart: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        """Enter the model into the registry under its name."""
        EVOLUTIONS.add(cls.name, cls)

    def __init__(self, height: float) -> None:
        self.height = height

    @property
    def parameter(self) -> CovarianceParameter | None:
        """Its parameter, if it has one."""
        return None

    def default_prior(self) -> Prior | None:
        """Give the default prior of the parameter."""
        return None

    def start(self) -> dict[str, np.ndarray]:
        """Give the parameter to start a search from."""
        return {}

    def kept(self, at: Branches, theta: Mapping[str, Any], xp: Any) -> Any:
        """Give times what `(N,)` the value of the node above passes on."""
        return np.ones(len(at.length))

    @abstractmethod
    def gained(self, at: Branches, theta: Mapping[str, Any], xp: Any) -> Any:
        """Give the variance `(N,)` that is gained along every branch."""

    @abstractmethod
    def variance(self, at: Branches, theta: Mapping[str, Any], xp: Any) -> Any:
        """Give the variance `(N,)` at every node."""


class Brownian(Evolution):
    """Brownian motion: variance grows with the length of the branch."""

    name = "brownian"

    @override
    def gained(self, at: Branches, theta: Mapping[str, Any], xp: Any) -> Any:
        return at.length

    @override
    def variance(self, at: Branches, theta: Mapping[str, Any], xp: Any) -> Any:
        return at.depth


class Pagel(Evolution):
    """
    Pagel's lambda: Brownian motion whose covariances, not variances, are times lambda in (0, 1).

    Notes
    -----
    Pagel (1999), Nature 401, 877-884; Freckleton, Harvey & Pagel (2002), Am. Nat. 160, 712-726.
    """

    name = "lambda"
    tips_apart = True

    @property
    @override
    def parameter(self) -> CovarianceParameter | None:
        return CovarianceParameter("lambda", "lambda", 1, False, (0.0, 1.0))

    @override
    def default_prior(self) -> Prior | None:
        return Prior("Uniform", lower=0.0, upper=1.0)

    @override
    def start(self) -> dict[str, np.ndarray]:
        return {"lambda": np.full(1, 0.5)}

    @override
    def gained(self, at: Branches, theta: Mapping[str, Any], xp: Any) -> Any:
        share = theta["lambda"][0]
        return at.length * share + np.where(at.is_tip, at.depth, 0.0) * (1.0 - share)

    @override
    def variance(self, at: Branches, theta: Mapping[str, Any], xp: Any) -> Any:
        return at.depth * xp.where(at.is_tip, 1.0, theta["lambda"][0])


class OrnsteinUhlenbeck(Evolution):
    """
    Ornstein and Uhlenbeck's process, at its stationary distribution from the root on.

    Correlations are exp(-alpha d) over a distance d along the tree, and all variances are one;
    log(2) / alpha is the length over which half of a difference is lost.

    Notes
    -----
    Martins & Hansen (1997), Am. Nat. 149, 646-667, as corMartins of R's package ape.
    """

    name = "ou"
    from_zero = False

    @property
    @override
    def parameter(self) -> CovarianceParameter | None:
        return CovarianceParameter("alpha", "alpha", 1, False, (0.0, np.inf))

    @override
    def default_prior(self) -> Prior | None:
        # Half-lives from four heights of the tree down to an eightieth of it.
        return Prior("LogNormal", mu=float(f"{np.log(3.0 / self.height):.3g}"), sigma=1.5)

    @override
    def start(self) -> dict[str, np.ndarray]:
        return {"alpha": np.full(1, 3.0 / self.height)}

    @override
    def kept(self, at: Branches, theta: Mapping[str, Any], xp: Any) -> Any:
        return xp.exp(-theta["alpha"][0] * at.length)

    @override
    def gained(self, at: Branches, theta: Mapping[str, Any], xp: Any) -> Any:
        lost = -xp.expm1(-2.0 * theta["alpha"][0] * at.length)
        return xp.where(at.is_first, 1.0, lost)

    @override
    def variance(self, at: Branches, theta: Mapping[str, Any], xp: Any) -> Any:
        return np.ones(len(at.depth))


class EarlyBurst(Evolution):
    """
    Brownian motion whose rate is exp(rate t) at a depth t: it slows down where rate < 0.

    Notes
    -----
    Harmon et al. (2010), Evolution 64, 2385-2396; with rate > 0 it accelerates, as in Blomberg,
    Garland & Ives (2003), Evolution 57, 717-745.
    """

    name = "eb"

    @property
    @override
    def parameter(self) -> CovarianceParameter | None:
        return CovarianceParameter("rate", "rate", 1, False, (-np.inf, np.inf))

    @override
    def default_prior(self) -> Prior | None:
        # Two standard deviations: a rate that changes four hundredfold from the root to the tips.
        return Prior("Normal", mu=0.0, sigma=float(f"{3.0 / self.height:.3g}"))

    @override
    def start(self) -> dict[str, np.ndarray]:
        return {"rate": np.full(1, -0.5 / self.height)}

    @override
    def gained(self, at: Branches, theta: Mapping[str, Any], xp: Any) -> Any:
        rate = theta["rate"][0]
        return xp.exp(rate * (at.depth - at.length)) * at.length * _growth(rate * at.length, xp)

    @override
    def variance(self, at: Branches, theta: Mapping[str, Any], xp: Any) -> Any:
        return at.depth * _growth(theta["rate"][0] * at.depth, xp)


def _growth(x: Any, xp: Any) -> Any:
    """Give (exp(x) - 1) / x, also at zero."""
    small = x * x < 1e-8
    apart = xp.where(small, 1.0, x)
    return xp.where(small, 1.0 + x / 2.0 + x * x / 6.0, xp.expm1(apart) / apart)
