"""Covariances of Gaussian processes by their length-scale, and their spectral densities."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from glmm_bayes.errors import FormulaError
from glmm_bayes.registry import Registry

KERNELS: Registry["type[Kernel]"] = Registry("covariance of a process")


class Kernel(ABC):
    """
    A correlation of the distance r over the length-scale l.

    Attributes
    ----------
    basis
        How many basis functions m there have to be for l to be resolved, m > basis c S / l with S
        half the extent: Riutort-Mayol, Buerkner, Andersen, Solin & Vehtari (2023), Statistics and
        Computing 33, 17, section 4; None where too many would be needed.
    """

    name: ClassVar[str]
    basis: ClassVar[float | None] = None

    def __init_subclass__(cls) -> None:
        """Enter the kernel into the registry under its name."""
        if hasattr(cls, "name"):
            KERNELS.add(cls.name, cls)

    @abstractmethod
    def correlation(self, scaled: Any, xp: Any) -> Any:
        """Give the correlation at r / l."""

    def log_density(self, squares: np.ndarray, scale: Any, d: int, xp: Any) -> Any:
        """
        Give the log spectral density at squared frequencies, in d dimensions, of variance one.

        Raises
        ------
        FormulaError
            If too many frequencies would matter.
        """
        raise FormulaError(
            f"The covariance {self.name!r} is too rough for a few basis functions: use gp, or exp, "
            f"which are exact."
        )


class ExponentiatedQuadratic(Kernel):
    """exp(-r^2 / (2 l^2))."""

    name = "exp_quad"
    basis = 1.75

    def correlation(self, scaled: Any, xp: Any) -> Any:
        """Give the correlation at r / l."""
        return xp.exp(-0.5 * scaled * scaled)

    def log_density(self, squares: np.ndarray, scale: Any, d: int, xp: Any) -> Any:
        """Give (2 pi l^2)^(d/2) exp(-l^2 w^2 / 2), as a logarithm."""
        return 0.5 * d * np.log(2 * np.pi) + d * xp.log(scale) - 0.5 * scale * scale * squares


class _Matern(Kernel):
    nu: ClassVar[float]

    def log_density(self, squares: np.ndarray, scale: Any, d: int, xp: Any) -> Any:
        """Give the logarithm of Rasmussen & Williams' (2006) equation 4.15."""
        from scipy.special import gammaln

        nu = self.nu
        constant = d * np.log(2) + 0.5 * d * np.log(np.pi) + gammaln(nu + d / 2) - gammaln(nu)
        own = constant + nu * np.log(2 * nu) - 2 * nu * xp.log(scale)
        return own - (nu + d / 2) * xp.log(2 * nu / (scale * scale) + squares)


class MaternOneAndAHalf(_Matern):
    """(1 + a) exp(-a), a = sqrt(3) r / l."""

    name = "matern32"
    nu = 1.5
    basis = 3.42

    def correlation(self, scaled: Any, xp: Any) -> Any:
        """Give the correlation at r / l."""
        a = np.sqrt(3.0) * scaled
        return (1.0 + a) * xp.exp(-a)


class MaternTwoAndAHalf(_Matern):
    """(1 + a + a^2 / 3) exp(-a), a = sqrt(5) r / l."""

    name = "matern52"
    nu = 2.5
    basis = 2.65

    def correlation(self, scaled: Any, xp: Any) -> Any:
        """Give the correlation at r / l."""
        a = np.sqrt(5.0) * scaled
        return (1.0 + a + a * a / 3.0) * xp.exp(-a)


class Exponential(Kernel):
    """exp(-r / l)."""

    name = "exponential"

    def correlation(self, scaled: Any, xp: Any) -> Any:
        """Give the correlation at r / l."""
        return xp.exp(-scaled)
