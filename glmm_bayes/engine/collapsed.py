"""A Gaussian response with effects and coefficients integrated out under a normal prior."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from glmm_bayes.engine.gaussian import Gaussian
from glmm_bayes.engine.newton import Normal


@dataclass(frozen=True, eq=False)
class Solved:
    """
    The marginal density at one sigma and Lambda, and the normal of what is integrated out.

    Attributes
    ----------
    value
        The log marginal density of the response, without what no parameter is in.
    squares
        The penalised sum of squares.
    u, gamma
        `(N,)` the effects' mean, in standard units of Lambda; `(k,)` that of the coefficients.
    factor
        The Hessian of both, in units of sigma, factored.
    """

    sigma: float
    value: float
    squares: float
    u: np.ndarray
    gamma: np.ndarray
    factor: Any

    def draw(self, zu: np.ndarray, zx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turn standard normals into effects `(N,)`, in standard units, and coefficients."""
        u, gamma = self.factor.solve_root(zu, zx)
        return self.u + u, self.gamma + self.sigma * gamma


@dataclass(frozen=True, eq=False)
class Collapsed:
    """
    y = X gamma + Z b + e: b = v Lambda', e of variance sigma^2 / w, gamma normal a priori.

    Attributes
    ----------
    gaussian
        The response on its cross-products.
    prior
        Of the coefficients; its precision P may be singular.

    Notes
    -----
    With H = [[L'Z'WZL + I, L'Z'WX], [X'WZL, X'WX + sigma^2 P]], L = Lambda / sigma, and r^2 the
    least of |y - X gamma - Z L u|_W^2 + |u|^2 + sigma^2 |gamma - m|_P^2, log p(y) is
    - count log sigma - r^2 / (2 sigma^2) - log |H| / 2 + k log sigma, and a constant; H / sigma^2
    is the precision of u and gamma given y. Its cost does not depend on the number of rows.
    """

    gaussian: Gaussian
    prior: Normal

    @property
    def centre(self) -> np.ndarray:
        """The prior's mean `(k,)` less what is taken off the response."""
        return self.prior.mean - self.gaussian.base

    def solved(self, sigma: float, Lambdas: Sequence[np.ndarray]) -> Solved:
        """
        Integrate.

        Parameters
        ----------
        Lambdas
            By term `(p, p)`, on the effects' own scale.

        Raises
        ------
        LinAlgError
            If the coefficients are not determined.
        """
        g, P, m = self.gaussian, self.prior.precision, self.centre
        relative = [L / sigma for L in Lambdas]
        pull = sigma**2 * (P @ m)
        factor = g.system.at(relative).factor_products(g.products, joint=True, ridge=sigma**2 * P)
        right = np.concatenate(
            [*((s @ L).ravel() for s, L in zip(g.zy, relative, strict=True)), np.empty(0)]
        )
        u, gamma = factor.solve(right, g.xy + pull)
        squares = g.yy + float(pull @ m) - float(right @ u) - float((g.xy + pull) @ gamma)
        value = (len(m) - g.count) * np.log(sigma) - 0.5 * squares / sigma**2
        value -= 0.5 * factor.log_determinant
        return Solved(sigma, float(value), squares, u / sigma, gamma + g.base, factor)

    def slopes(self, found: Solved) -> tuple[float, list[np.ndarray]]:
        """Give the slopes of the value by log sigma, and by each term's Lambda `(p, p)`."""
        g, P, sigma2 = self.gaussian, self.prior.precision, found.sigma**2
        latent, relative = g.system.latent, found.factor.spread.Lambdas
        rest, v = found.gamma - g.base, latent.split(found.u)
        b = [part @ L.T * found.sigma for part, L in zip(v, relative, strict=True)]
        flat = np.concatenate([*(part.ravel() for part in b), np.empty(0)])
        fitted = latent.split(g.system.multiply(g.products, flat, rest))
        by_relative = [
            (y - f).T @ part / found.sigma - D
            for y, f, part, D in zip(g.zy, fitted, v, found.factor.traces(), strict=True)
        ]
        off = rest - self.centre
        by_log_sigma = found.squares / sigma2 - g.count + len(off) - float(off @ P @ off)
        by_log_sigma -= sigma2 * float(np.sum(P * found.factor.coefficient_inverse()))
        by_log_sigma -= sum(
            float(np.sum(slope * L)) for slope, L in zip(by_relative, relative, strict=True)
        )
        return by_log_sigma, [slope / found.sigma for slope in by_relative]
