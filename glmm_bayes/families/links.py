"""Links: each a function, its inverse, and the inverse's derivative."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from glmm_bayes.arrays import NUMPY
from glmm_bayes.registry import Registry

type Function = Callable[..., Any]
TINY = 1e-100
ALMOST_ONE = 1.0 - np.finfo(float).epsneg
REAL = (-np.inf, np.inf)
POSITIVE = (0.0, np.inf)
UNIT = (0.0, 1.0)
CIRCLE = (-np.pi, np.pi)
CORRELATION = (-1.0, 1.0)
# Rounded to 1 or 2 the power of a variance would leave the interval.
WITHIN_ONE_TWO = (1.0 + 1e-12, 2.0 - 1e-12)
ABOVE_ONE = 1.0 + np.finfo(float).eps


@dataclass(frozen=True, eq=False)
class Link:
    """
    A link g: eta = g(mu).

    Each function is written once, over a namespace `xp` of array or graph functions.

    Attributes
    ----------
    linkfun, linkinv
        `linkfun(mu, xp)` and its inverse `linkinv(eta, xp)`.
    slope
        `slope(eta)` = d mu / d eta, on arrays.
    support
        The open interval that `linkinv` reaches.
    compiled
        The name of its kernel in `engine.kernels.LINKS`, if it has one.
    """

    name: str
    linkfun: Function
    linkinv: Function
    slope: Function
    support: tuple[float, float]
    compiled: str | None = None


LINKS: Registry[Link] = Registry("link")


def add_link(link: Link) -> Link:
    """Enter a link into the registry, so that models find it by its name."""
    return LINKS.add(link.name, link)


def _inside(mu: Any, xp: Any) -> Any:
    """Keep a probability in [1e-100, 1 - 1e-16]: rounded to 0 or 1 it would have no log density."""
    return xp.clip(mu, TINY, ALMOST_ONE)


def _normal_density(x: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)


add_link(
    Link(
        "identity",
        lambda mu, xp=NUMPY: mu,
        lambda eta, xp=NUMPY: eta,
        lambda eta: np.ones_like(eta),
        REAL,
        compiled="identity",
    )
)
add_link(
    Link(
        "log",
        lambda mu, xp=NUMPY: xp.log(mu),
        lambda eta, xp=NUMPY: xp.exp(eta),
        np.exp,
        POSITIVE,
        compiled="log",
    )
)
add_link(
    Link(
        "logit",
        lambda mu, xp=NUMPY: xp.logit(mu),
        lambda eta, xp=NUMPY: _inside(xp.expit(eta), xp),
        lambda eta: NUMPY.expit(eta) * NUMPY.expit(-eta),
        UNIT,
        compiled="logit",
    )
)
add_link(
    Link(
        "probit",
        lambda mu, xp=NUMPY: xp.ndtri(mu),
        lambda eta, xp=NUMPY: _inside(xp.ndtr(eta), xp),
        _normal_density,
        UNIT,
        compiled="probit",
    )
)
add_link(
    Link(
        "cloglog",
        lambda mu, xp=NUMPY: xp.log(-xp.log1p(-mu)),
        lambda eta, xp=NUMPY: _inside(-xp.expm1(-xp.exp(eta)), xp),
        lambda eta: np.exp(eta - np.exp(eta)),
        UNIT,
        compiled="cloglog",
    )
)
add_link(
    Link(
        "loglog",
        lambda mu, xp=NUMPY: -xp.log(-xp.log(mu)),
        lambda eta, xp=NUMPY: _inside(xp.exp(-xp.exp(-eta)), xp),
        lambda eta: np.exp(-eta - np.exp(-eta)),
        UNIT,
    )
)
add_link(
    Link(
        "cauchit",
        lambda mu, xp=NUMPY: xp.tan(np.pi * (mu - 0.5)),
        # Not 1/2 + arctan(eta)/pi, which loses every digit where eta is very negative.
        lambda eta, xp=NUMPY: xp.where(
            eta < -1,
            -xp.arctan(1 / xp.where(eta < -1, eta, -1.0)) / np.pi,
            0.5 + xp.arctan(eta) / np.pi,
        ),
        lambda eta: 1 / (np.pi * (1 + eta * eta)),
        UNIT,
    )
)
add_link(
    Link(
        "inverse",
        lambda mu, xp=NUMPY: 1 / mu,
        lambda eta, xp=NUMPY: 1 / eta,
        lambda eta: -1 / (eta * eta),
        REAL,
        compiled="inverse",
    )
)
add_link(
    Link(
        "inverse_squared",
        lambda mu, xp=NUMPY: 1 / (mu * mu),
        lambda eta, xp=NUMPY: 1 / xp.sqrt(eta),
        lambda eta: -0.5 * eta**-1.5,
        POSITIVE,
    )
)
add_link(
    Link(
        "sqrt",
        lambda mu, xp=NUMPY: xp.sqrt(mu),
        lambda eta, xp=NUMPY: eta * eta,
        lambda eta: 2 * eta,
        POSITIVE,
        compiled="sqrt",
    )
)
add_link(
    Link(
        "softplus",
        lambda mu, xp=NUMPY: mu + xp.log(-xp.expm1(-mu)),
        lambda eta, xp=NUMPY: xp.softplus(eta),
        NUMPY.expit,
        POSITIVE,
        compiled="softplus",
    )
)
add_link(
    Link(
        "logm1",
        lambda mu, xp=NUMPY: xp.log(mu - 1),
        lambda eta, xp=NUMPY: xp.clip(1 + xp.exp(eta), ABOVE_ONE, np.inf),
        np.exp,
        (1.0, np.inf),
    )
)
add_link(
    Link(
        "logitm1",
        lambda mu, xp=NUMPY: xp.logit(mu - 1),
        lambda eta, xp=NUMPY: xp.clip(1 + xp.expit(eta), *WITHIN_ONE_TWO),
        lambda eta: NUMPY.expit(eta) * NUMPY.expit(-eta),
        (1.0, 2.0),
    )
)
add_link(
    Link(
        "tan_half",
        lambda mu, xp=NUMPY: xp.tan(0.5 * mu),
        lambda eta, xp=NUMPY: 2 * xp.arctan(eta),
        lambda eta: 2 / (1 + eta * eta),
        CIRCLE,
    )
)
add_link(
    Link(
        "fisher",
        lambda mu, xp=NUMPY: 0.5 * (xp.log1p(mu) - xp.log1p(-mu)),
        lambda eta, xp=NUMPY: xp.clip(2 * xp.expit(2 * eta) - 1, -ALMOST_ONE, ALMOST_ONE),
        lambda eta: 4 * NUMPY.expit(2 * eta) * NUMPY.expit(-2 * eta),
        CORRELATION,
    )
)
