"""A normal response with its random effects integrated out, on cross-products, with gradient."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from glmm_bayes.engine.gaussian import Gaussian


@dataclass(frozen=True, eq=False)
class NormalMarginal:
    """
    log p(y | gamma, sigma, Lambda) of y = X gamma + Z b + e, exactly.

    With u = b / Lambda, r^2 the penalised residual sum of squares at its least, and H = Lambda'
    Z'W Z Lambda / sigma^2 + I, it is -(n log sigma + log |H| / 2 + r^2 / (2 sigma^2)), up to a
    constant. The cost does not depend on the number of rows.
    """

    gaussian: Gaussian

    def __call__(
        self, gamma: np.ndarray, sigma: float, Lambdas: Sequence[np.ndarray]
    ) -> tuple[float, np.ndarray, float, list[np.ndarray]]:
        """Give the value, and its slopes by gamma `(k,)`, sigma and each Lambda `(p, p)`."""
        g, n = self.gaussian, self.gaussian.count
        relative = [L / sigma for L in Lambdas]
        factor, u, rest = self._solved(gamma, relative)
        latent = g.system.latent
        b = _joined(latent.effects(u, relative))
        zy = _joined(g.zy)
        fitted = g.system.multiply(g.products, b, rest)
        left = latent.split(zy - fitted)
        # The penalised squares, |y - X gamma|^2 less what the effects take of it.
        squares = g.yy - 2 * rest @ g.xy + rest @ self._xx @ rest - b @ (zy - self._zx @ rest)
        share = 1 / sigma**2
        by_relative = [
            share * part.T @ v - D
            for part, v, D in zip(left, latent.split(u), factor.traces(), strict=True)
        ]
        by_gamma = share * (g.xy - self._xx @ rest - self._zx.T @ b)
        along = sum(
            float(np.vdot(slope, L)) for slope, L in zip(by_relative, relative, strict=True)
        )
        by_sigma = (share * squares - n - along) / sigma
        value = -0.5 * factor.log_determinant - n * np.log(sigma) - 0.5 * share * squares
        return value, by_gamma, by_sigma, [slope / sigma for slope in by_relative]

    def draw_effects(
        self, gamma: np.ndarray, sigma: float, Lambdas: Sequence[np.ndarray], z: np.ndarray
    ) -> list[np.ndarray]:
        """Turn standard normals `(N,)` into a draw of every term's effects given the rest."""
        relative = [L / sigma for L in Lambdas]
        factor, u, _ = self._solved(gamma, relative)
        noise, _ = factor.solve_root(z, np.empty(0))
        return list(self.gaussian.system.latent.effects(u + sigma * noise, relative))

    def _solved(
        self, gamma: np.ndarray, relative: Sequence[np.ndarray]
    ) -> tuple[Any, np.ndarray, np.ndarray]:
        """Factor the Hessian; the effects' mode over Lambda / sigma, and gamma beside `base`."""
        g = self.gaussian
        rest = gamma - g.base
        factor = g.system.at(relative).factor_products(g.products, joint=False)
        parts = g.system.latent.split(_joined(g.zy) - self._zx @ rest)
        right = _joined([part @ L for part, L in zip(parts, relative, strict=True)])
        return factor, factor.solve(right, np.empty(0))[0], rest

    @cached_property
    def _zx(self) -> np.ndarray:
        """Z'W X `(N, k)`."""
        g, k = self.gaussian, self.gaussian.X.shape[1]
        blank = np.zeros(g.system.latent.size)
        columns = [g.system.multiply(g.products, blank, column) for column in np.eye(k)]
        return np.array(columns).reshape(k, len(blank)).T

    @cached_property
    def _xx(self) -> np.ndarray:
        """X'W X `(k, k)`."""
        g = self.gaussian
        return g.X.T @ (g.w[:, None] * g.X)


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty(0), *(part.ravel() for part in parts)])
