"""Model to quasi-likelihood: its variance function, and the working response of a predictor."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from glmm_bayes.engine.gaussian import Gaussian, Profile
from glmm_bayes.errors import ConvergenceError, NotSupportedError
from glmm_bayes.families import Family
from glmm_bayes.model import Model
from glmm_bayes.modes.reading import centred_columns, first_coefficients, read_system
from glmm_bayes.response import Response


def dispersion_power(family: Family) -> float:
    """
    Give e, where the variance is a parameter to the power e, times a function of the mean.

    Returns
    -------
    float
        Of the family's second parameter; 0 where there is none.

    Raises
    ------
    NotSupportedError
        If the family has no such form.

    Examples
    --------
    >>> from glmm_bayes import FAMILIES
    >>> [dispersion_power(FAMILIES[name]) for name in ("poisson", "gaussian", "gamma")]
    [0.0, 2.0, -1.0]
    """
    if family.normal:
        return 2.0
    if family.mixed is not None:
        raise _refused(f"the family {family.name!r} has several means")
    others, upper = family.parameters[1:], family.parameters[0].support[1]
    mu = np.array([0.2, 0.4, 0.7]) if upper == 1.0 else np.array([0.4, 1.0, 3.0])
    sizes = [{"mu": mu} | {p.name: size for p in others} for size in (1.0, 2.0, 4.0)]
    if family.variance is None or family.mean is None or not np.allclose(family.mean(sizes[0]), mu):
        raise _refused(f"the family {family.name!r} does not state a variance, or a mean mu")
    if not others:
        return 0.0
    if len(others) == 1:
        found = [family.variance(size, np.ones(3)) for size in sizes]
        one, two, four = (np.broadcast_to(value, mu.shape) for value in found)
        power = float(np.log2(two / one)[0])
        if power and np.allclose(two, one * 2.0**power) and np.allclose(four, one * 4.0**power):
            return power
    raise _refused(
        f"the variance of the family {family.name!r} is not a power of one parameter times a "
        f"function of the mean"
    )


def _refused(why: str) -> NotSupportedError:
    return NotSupportedError(
        f"Penalised quasi-likelihood cannot be used here: {why}; use fit('ml')."
    )


@dataclass(frozen=True, eq=False)
class Quasi:
    """
    What of a model quasi-likelihood sees; rows in the order of `system`.

    Attributes
    ----------
    power
        See `dispersion_power`.
    """

    model: Model
    power: float

    @classmethod
    def of(cls, model: Model) -> "Quasi":
        """
        Read a model.

        Raises
        ------
        NotSupportedError
            If it has what only a likelihood knows, or parameters held fixed.
        """
        power = dispersion_power(model.family)
        formulas = [name for name in model.design.predictors if name != "mu"]
        if formulas:
            raise _refused(f"it has the mean's predictor only, and {formulas[0]!r} has one too")
        if any(prior.is_fixed for block in model.blocks for prior in block.priors):
            raise _refused("a number in `priors` holds parameters fixed")
        return cls(model, power)

    @cached_property
    def system(self) -> Any:
        """The effects' linear algebra."""
        return read_system(self.model)

    @cached_property
    def columns(self) -> np.ndarray:
        """The mean's centred columns `(n, k)`."""
        return np.ascontiguousarray(centred_columns(self.model, "mu")[self.system.order])

    @cached_property
    def offset(self) -> np.ndarray:
        """The mean's offset `(n,)`."""
        return self.model.design.predictors["mu"].offset[self.system.order]

    @cached_property
    def response(self) -> Response:
        """The response, in this order."""
        return self.model.design.response.take(self.system.order)

    def first(self) -> np.ndarray:
        """Give a predictor `(n,)` to begin with, without random effects."""
        return self.columns @ first_coefficients(self.model)[0] + self.offset

    def working(self, eta: np.ndarray) -> Gaussian:
        """
        Give the Gaussian model of the working response at eta `(n,)`.

        Raises
        ------
        ConvergenceError
            If there is none, as some mean is outside of where it can be.
        """
        family, link, response = self.model.family, self.model.links["mu"], self.response
        with np.errstate(all="ignore"):
            mu, slope = link.linkinv(eta), link.slope(eta)
            y, variance = family.working(response.y), self._variance(mu)
            n = 1.0 if response.trials is None else response.trials
            W = np.where(n > 0, (n * slope) ** 2 / variance, 0.0)
            z = np.where(n > 0, eta + (y - n * mu) / (n * slope), eta) - self.offset
        lower, upper = family.parameters[0].support
        inside = (mu > lower) & (mu < upper) & np.isfinite(W) & np.isfinite(z)
        if not inside.all():
            raise ConvergenceError(
                f"Penalised quasi-likelihood does not settle: after a step the mean of a row is "
                f"{mu[~inside][0]:.4g}, at the end of its support or beyond; use fit('ml')."
            )
        w = np.ones(len(eta)) if response.weights is None else response.weights
        return Gaussian(self.system, self.columns, z, w * W, float(w.sum()))

    def _variance(self, mu: np.ndarray) -> np.ndarray:
        """Give the variance of the response `(n,)` where the dispersion is 1."""
        family = self.model.family
        if family.normal or family.variance is None:
            return np.ones_like(mu)
        others = {p.name: 1.0 for p in family.parameters[1:]}
        return family.variance({"mu": mu} | others, self.response.trials)

    def predictor(self, found: Profile) -> np.ndarray:
        """Give eta `(n,)` of the coefficients and effects that were found."""
        spread = found.factor.spread
        return self.columns @ found.gamma + spread.eta(found.u)[0] + self.offset

    def constant(self, sigma: float) -> tuple[np.ndarray, np.ndarray]:
        """Give the second parameter on its link's scale `(1,)`, and its slope by log sigma."""
        if not self.power:
            return np.empty(0), np.empty(0)
        link = self.model.links[self.model.family.parameters[1].name]
        value = np.array([sigma ** (2 / self.power)])
        x = link.linkfun(value)
        return x, 2 / self.power * value / link.slope(x)

    def sigma(self, constants: Sequence[np.ndarray]) -> float:
        """Give the root of the dispersion from the second parameter on its link's scale."""
        link = self.model.links[self.model.family.parameters[1].name]
        return float(link.linkinv(constants[0])[0]) ** (self.power / 2)
