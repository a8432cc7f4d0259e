"""Effects that are not normal: independent levels, of another distribution with mean 0, sd 1."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, override

import numpy as np
from scipy.special import digamma, gammaln, log_ndtr

from glmm_bayes.arrays import NUMPY
from glmm_bayes.covariance.levels import Entries, Independent, LevelCovariance, Places
from glmm_bayes.covariance.structure import CovarianceParameter
from glmm_bayes.errors import FormulaError
from glmm_bayes.priors import Prior
from glmm_bayes.registry import Registry

DISTRIBUTIONS: Registry[type[LevelCovariance]] = Registry("distribution of effects")
DISTRIBUTIONS.add("normal", Independent)
# Of structures, those whose columns are independent of each other.
APART = ("diag", "homdiag")
HALF_LOG_2PI = 0.5 * np.log(2 * np.pi)
ROOT_2_PI = np.sqrt(2 / np.pi)

type Theta = Mapping[str, np.ndarray]


class NotNormal(LevelCovariance):
    """
    Independent levels whose effects in standard units, v, have a distribution T with parameters.

    T has mean 0 and variance 1, so that Lambda is of the effects' standard deviations still:
    b = sd T of a single column.

    Attributes
    ----------
    takes
        The arguments that a term has for the distribution.
    drawn_as
        What PyMC's distribution is called: that of v, or of what v is placed by.
    instead
        In words, what takes them where a method does not.
    """

    pairs = None
    takes: ClassVar[tuple[str, ...]] = ()
    drawn_as: ClassVar[str] = "v"
    instead: ClassVar[str]

    def __init_subclass__(cls) -> None:
        """Enter the distribution into its registry: it is no structure of that name."""
        if hasattr(cls, "name"):
            DISTRIBUTIONS.add(cls.name, cls)

    @property
    @override
    def distribution(self) -> "NotNormal":
        return self

    @abstractmethod
    def log_density(self, v: np.ndarray, theta: Theta) -> np.ndarray:
        """Give the log density of every entry of v."""

    @abstractmethod
    def log_slopes(self, v: np.ndarray, theta: Theta) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Give its derivative by each entry, and its sum's by the parameters."""

    @abstractmethod
    def drawn(self, theta: Theta, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Draw v `(S, q, p)`, a vector of each parameter for every one of the S."""

    @abstractmethod
    def symbolic(self, theta: Mapping[str, Any], xp: Any) -> tuple[str, dict[str, Any]]:
        """Give PyMC's name of a distribution, and its arguments."""

    def placed(self, drawn: Any, theta: Mapping[str, Any], xp: Any) -> Any:
        """Give v where PyMC's distribution is at `drawn`."""
        return drawn


class Shaped(NotNormal):
    """A distribution with a density that is smooth, and one parameter."""

    parameter: ClassVar[CovarianceParameter]
    prior: ClassVar[Prior]
    begin: ClassVar[float]
    instead: ClassVar[str] = (
        "use fit('nuts') or, for one term of one column, quadrature, fit('ml', nagq=15)"
    )

    @property
    @override
    def shape(self) -> "Shaped":
        return self

    @override
    def parameters(self, size: int) -> tuple[CovarianceParameter, ...]:
        return (self.parameter,)

    @override
    def default_prior(self, key: str) -> Prior | None:
        return self.prior

    @override
    def start(self) -> dict[str, np.ndarray]:
        return {self.parameter.name: np.array([self.begin])}

    @override
    def entries(self, theta: Mapping[str, Any], xp: Any = NUMPY) -> Entries:
        # In the place of a precision: the parameters, for what integrates over v.
        return Entries(theta[self.parameter.name], 0.0)

    @override
    def slopes(
        self, theta: Theta, by_values: np.ndarray, by_log_determinant: float
    ) -> dict[str, np.ndarray]:
        return {self.parameter.name: by_values}

    @override
    def extended(self, places: Places) -> LevelCovariance:
        return type(self)(self.places.joined(places))

    @abstractmethod
    def log_density(self, v: np.ndarray, theta: Theta) -> np.ndarray:
        """Give the log density of every entry of v."""

    @abstractmethod
    def log_slopes(self, v: np.ndarray, theta: Theta) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Give its derivative by each entry, and its sum's by the parameters."""


class Student(Shaped):
    """
    Student's t, of heavier tails: `(1 | g, dist="student")`.

    Parameters: `nu > 2`, the degrees of freedom; sqrt(nu / (nu - 2)) v is of the usual scale.

    Notes
    -----
    Lange, Little & Taylor (1989), J. American Statistical Association 84, 881-896.
    """

    name = "student"
    parameter = CovarianceParameter("nu", "nu", 1, False, (2.0, np.inf))
    prior = Prior("Truncated", dist=Prior("Gamma", alpha=2.0, beta=0.1), lower=2.0)
    begin = 10.0

    @override
    def log_density(self, v: np.ndarray, theta: Theta) -> np.ndarray:
        nu = theta["nu"]
        scale = gammaln((nu + 1) / 2) - gammaln(nu / 2) - 0.5 * np.log(np.pi * (nu - 2))
        return scale - 0.5 * (nu + 1) * np.log1p(v * v / (nu - 2))

    @override
    def log_slopes(self, v: np.ndarray, theta: Theta) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        nu = theta["nu"]
        over, squared = nu - 2, v * v
        by_nu = digamma((nu + 1) / 2) - digamma(nu / 2) - 1 / over - np.log1p(squared / over)
        by_nu = by_nu + (nu + 1) * squared / (over * (over + squared))
        return -(nu + 1) * v / (over + squared), {"nu": np.array([0.5 * by_nu.sum()])}

    @override
    def drawn(self, theta: Theta, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        nu = theta["nu"].reshape(-1, 1, 1)
        return rng.standard_t(np.broadcast_to(nu, shape)) * np.sqrt((nu - 2) / nu)

    @override
    def symbolic(self, theta: Mapping[str, Any], xp: Any) -> tuple[str, dict[str, Any]]:
        nu = theta["nu"][0]
        return "StudentT", {"nu": nu, "mu": 0.0, "sigma": xp.sqrt((nu - 2) / nu)}


class SkewNormal(Shaped):
    """
    The skew-normal distribution: `(1 | g, dist="skew_normal")`.

    Parameters: `alpha`, the slant, 0 for a normal distribution, positive for a longer right tail.

    Notes
    -----
    Azzalini (1985), Scandinavian J. of Statistics 12, 171-178, shifted and scaled.
    """

    name = "skew_normal"
    parameter = CovarianceParameter("alpha", "alpha", 1, False, (-np.inf, np.inf))
    prior = Prior("Normal", mu=0.0, sigma=4.0)
    begin = 0.5

    def _standard(self, theta: Mapping[str, Any], xp: Any) -> tuple[Any, Any]:
        """Give delta, and one over the scale."""
        alpha = theta["alpha"]
        delta = alpha / xp.sqrt(1 + alpha * alpha)
        return delta, xp.sqrt(1 - ROOT_2_PI**2 * delta * delta)

    @override
    def log_density(self, v: np.ndarray, theta: Theta) -> np.ndarray:
        delta, rate = self._standard(theta, NUMPY)
        z = v * rate + delta * ROOT_2_PI
        tail = log_ndtr(theta["alpha"] * z)
        return np.log(2 * rate) - 0.5 * z * z - HALF_LOG_2PI + tail

    @override
    def log_slopes(self, v: np.ndarray, theta: Theta) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        alpha = theta["alpha"]
        delta, rate = self._standard(theta, NUMPY)
        z = v * rate + delta * ROOT_2_PI
        mills = np.exp(-0.5 * (alpha * z) ** 2 - HALF_LOG_2PI - log_ndtr(alpha * z))
        by_z = alpha * mills - z
        by_delta = (1 + alpha * alpha) ** -1.5
        by_rate = -(ROOT_2_PI**2) * delta * by_delta / rate
        moved = v * by_rate + by_delta * ROOT_2_PI
        total = (by_rate / rate + by_z * moved + mills * z).sum()
        return by_z * rate, {"alpha": np.array([total])}

    @override
    def drawn(self, theta: Theta, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        delta, rate = self._standard({"alpha": theta["alpha"].reshape(-1, 1, 1)}, NUMPY)
        half, other = np.abs(rng.standard_normal(shape)), rng.standard_normal(shape)
        return (delta * half + np.sqrt(1 - delta * delta) * other - delta * ROOT_2_PI) / rate

    @override
    def symbolic(self, theta: Mapping[str, Any], xp: Any) -> tuple[str, dict[str, Any]]:
        alpha = theta["alpha"][0]
        delta, rate = self._standard({"alpha": alpha}, xp)
        return "SkewNormal", {
            "mu": -delta * ROOT_2_PI / rate,
            "sigma": 1 / rate,
            "alpha": alpha,
        }


def shaped_levels(
    dist: str, places: Places, structure: str, columns: int, given: Mapping[str, Any]
) -> LevelCovariance:
    """
    Give the levels of a term the distribution that its argument `dist` names.

    Parameters
    ----------
    given
        The term's arguments for the distribution, by name.

    Raises
    ------
    FormulaError
        If it has several columns that are not independent, or arguments that do not fit.
    """
    found = DISTRIBUTIONS[dist].of(places, given)
    if columns > 1 and found.masses is not None:
        raise FormulaError(
            f"{places.text!r} has {columns} columns, and dist={dist!r} is of one: write a single "
            f"one, as (1 | g, dist={dist!r}), or take effects that are normal."
        )
    if found.distribution is not None and columns > 1 and structure not in APART:
        raise FormulaError(
            f"{places.text!r} has {columns} columns, and dist={dist!r} is of one column, or of "
            f"several that are independent: write (x || g, dist={dist!r})."
        )
    return found


def taken_by(dist: str) -> tuple[str, ...]:
    """List the arguments of a term that are for the distribution of its effects."""
    return DISTRIBUTIONS[dist].takes
