"""A Gaussian response on its cross-products: sigma and the coefficients profiled, exactly."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from glmm_bayes.engine.latent import Latent, Precision, Precisions

LEAST = 1e-13  # of the residual's share in what the fixed part leaves: below, effects fit exactly
ROUNDED = 1e-26  # of its share in y'y: below, rounding is all that is left


@dataclass(frozen=True, eq=False)
class Profile:
    """
    The log likelihood at one Lambda relative to sigma, the other parameters at their best.

    Attributes
    ----------
    value
        With every constant; restricted, that of the residual contrasts.
    by_Lambda, squares_by
        The slopes of the value, and those of the penalised sum of squares over sigma^2, by each
        term's Lambda `(p, p)`.
    by_precision, squares_by_precision
        The slopes of the value, and those of the squares, by each term's precision; None where
        levels are independent.
    u
        `(N,)` the effects' mode in standard units of Lambda sigma, times sigma.
    gamma
        `(k,)` the coefficients.
    sigma
        The residual standard deviation.
    count
        The rows, less the coefficients if restricted.
    factor
        The Hessian of effects and coefficients over sigma squared, factored.
    """

    value: float
    by_Lambda: Sequence[np.ndarray]
    squares_by: Sequence[np.ndarray]
    by_precision: Precisions
    squares_by_precision: Precisions
    u: np.ndarray
    gamma: np.ndarray
    sigma: float
    count: float
    factor: Any


@dataclass(frozen=True, eq=False)
class GivenSigma:
    """
    The log likelihood at one Lambda and sigma, the coefficients at their best.

    Attributes
    ----------
    value
        With every constant.
    by_Lambda, by_precision, by_log_sigma, by_held
        Its slopes: by each term's Lambda relative to sigma `(p, p)`, by the precision between its
        levels, by log sigma with these fixed, and by what is held of the coefficients.
    gamma
        `(k,)` the coefficients.
    """

    value: float
    by_Lambda: Sequence[np.ndarray]
    by_precision: Precisions
    by_log_sigma: float
    by_held: float
    gamma: np.ndarray


@dataclass(eq=False)
class Gaussian:
    """
    y = X gamma + Z b + e: b = v Lambda' sigma, e of variance sigma^2 / w.

    Parameters
    ----------
    system
        The effects' linear algebra, with X.
    X
        `(n, k)`.
    y, w
        `(n,)` the response without its offset, and the weights.
    count
        What the rows count for in all: the sum of weights that multiply the log likelihood, the
        number of rows where weights are precisions.

    Notes
    -----
    Bates, Maechler, Bolker & Walker (2015), J. Stat. Softw. 67(1), section 3: with
    r^2 the penalised residual sum of squares, -2 log L = log |H_uu| + n (1 + log(2 pi r^2 / n)),
    restricted: log |H| + (n - k) (1 + log(2 pi r^2 / (n - k))). One pass over the rows; then the
    cost does not depend on their number.
    """

    system: Any
    X: np.ndarray
    y: np.ndarray
    w: np.ndarray
    count: float
    products: Any = field(init=False)

    def __post_init__(self) -> None:
        self.products = self.system.cross_products(self.w[None, None], with_x=True)
        self._read(self.y)

    def with_response(self, y: np.ndarray) -> "Gaussian":
        """Put another response `(n,)` in place, whose products with the columns alone are new."""
        found = copy(self)
        found._read(y)
        return found

    def _read(self, y: np.ndarray) -> None:
        self.whole, root = float((self.w * y) @ y), np.sqrt(self.w)
        # What is left of y is small beside a y far from zero, and so are its sums of squares.
        self.base = np.linalg.lstsq(self.X * root[:, None], y * root, rcond=None)[0]
        self.y = y - self.X @ self.base
        wy = self.w * self.y
        identity = [np.eye(term.p) for term in self.system.latent.terms]
        self.zy = self.system.at(identity).collect(wy[None])
        self.xy = self.X.T @ wy
        self.yy = float(wy @ self.y)

    def profile(
        self,
        Lambdas: Sequence[np.ndarray],
        precisions: Precisions | None = None,
        *,
        restricted: bool,
    ) -> Profile:
        """
        Maximise over gamma and sigma.

        Raises
        ------
        LinAlgError
            If the coefficients are not determined, or nothing is left for sigma.
        """
        factor, u, gamma, squares = self._solved(Lambdas, precisions)
        n = self.count - (len(gamma) if restricted else 0)
        least = max(LEAST * self.yy, ROUNDED * self.whole, 1e-300)
        if not squares > least or n <= 0:
            raise np.linalg.LinAlgError("the fixed and random effects fit the data exactly")
        sigma2 = squares / n
        used = factor if restricted else factor.effects_only()
        latent, spread = self.system.latent, factor.spread
        log_ratio = used.log_determinant - latent.log_prior_determinant(spread.precisions)
        value = -0.5 * (log_ratio + n * (1 + np.log(2 * np.pi * sigma2)))
        squares_by = self._squares_by(spread, u, gamma, sigma2)
        by_Lambda = [-0.5 * part - D for part, D in zip(squares_by, used.traces(), strict=True)]
        by_squares, by_precision = _by_precisions(latent, used, u, sigma2)
        sigma = float(np.sqrt(sigma2))
        gamma = gamma + self.base
        return Profile(
            value, by_Lambda, squares_by, by_precision, by_squares,
            u, gamma, sigma, float(n), factor,
        )  # fmt: skip

    def given_sigma(
        self,
        Lambdas: Sequence[np.ndarray],
        sigma: float,
        row: np.ndarray | None = None,
        held: float = 0.0,
        precisions: Precisions | None = None,
    ) -> "GivenSigma":
        """
        Maximise over gamma only, or over the gamma for which row'gamma is `held`.

        Parameters
        ----------
        Lambdas, precisions
            Relative to sigma; between the levels.
        row
            `(k,)`; nothing is held where None.

        Raises
        ------
        LinAlgError
            If the coefficients are not determined.
        """
        factor, u, gamma, squares = self._solved(Lambdas, precisions)
        by_held = 0.0
        if row is not None:
            toward, along = factor.solve(np.zeros_like(u), row)
            reach = float(row @ along)
            miss = (held - float(row @ (gamma + self.base))) / reach
            u, gamma = u + miss * toward, gamma + miss * along
            squares += miss * miss * reach
            by_held = -miss / sigma**2
        used, ratio, spread = factor.effects_only(), squares / sigma**2, factor.spread
        log_ratio = used.log_determinant
        log_ratio -= self.system.latent.log_prior_determinant(spread.precisions)
        value = -0.5 * (log_ratio + self.count * np.log(2 * np.pi * sigma**2) + ratio)
        squares_by = self._squares_by(spread, u, gamma, sigma**2)
        by_Lambda = [-0.5 * part - D for part, D in zip(squares_by, used.traces(), strict=True)]
        by_precision = _by_precisions(self.system.latent, used, u, sigma**2)[1]
        return GivenSigma(
            value, by_Lambda, by_precision, ratio - self.count, by_held, gamma + self.base
        )

    def effects_mode(
        self,
        gamma: np.ndarray,
        Lambdas: Sequence[np.ndarray],
        precisions: Precisions | None = None,
    ) -> np.ndarray:
        """Give the effects' mode u `(N,)`, times sigma, with the coefficients given."""
        spread = self.system.at(Lambdas, precisions)
        factor = spread.factor_products(self.products, joint=True).effects_only()
        latent = self.system.latent
        rest = gamma - self.base
        fitted = latent.split(self.system.multiply(self.products, np.zeros(latent.size), rest))
        right = [((y - f) @ L).ravel() for y, f, L in zip(self.zy, fitted, Lambdas, strict=True)]
        return factor.solve(np.concatenate([*right, np.empty(0)]), np.empty(0))[0]

    def _solved(
        self, Lambdas: Sequence[np.ndarray], precisions: Precisions | None
    ) -> tuple[Any, np.ndarray, np.ndarray, float]:
        spread = self.system.at(Lambdas, precisions)
        factor = spread.factor_products(self.products, joint=True)
        right = np.concatenate(
            [*((s @ L).ravel() for s, L in zip(self.zy, Lambdas, strict=True)), np.empty(0)]
        )
        u, gamma = factor.solve(right, self.xy)
        return factor, u, gamma, self.yy - float(right @ u) - float(self.xy @ gamma)

    def _squares_by(
        self, spread: Any, u: np.ndarray, gamma: np.ndarray, sigma2: float
    ) -> list[np.ndarray]:
        latent = self.system.latent
        b = np.concatenate(
            [*(part.ravel() for part in latent.effects(u, spread.Lambdas)), np.empty(0)]
        )
        fitted = latent.split(self.system.multiply(self.products, b, gamma))
        return [
            -2 * (y - f).T @ v / sigma2
            for y, f, v in zip(self.zy, fitted, latent.split(u), strict=True)
        ]


def _by_precisions(
    latent: Latent, factor: Any, u: np.ndarray, sigma2: float
) -> tuple[Precisions, Precisions]:
    """Give the slopes of the penalised squares, and of the profile, by each term's precision."""
    squares: list[Precision | None] = [None] * len(latent.terms)
    values = list(squares)
    if not latent.is_structured:
        return squares, values
    parts = zip(latent.terms, latent.split(u), factor.prior_traces(), strict=True)
    for i, (term, v, trace) in enumerate(parts):
        if term.pattern is not None:
            by = term.pattern.products(v, v) / sigma2
            squares[i] = Precision(by, 0.0)
            values[i] = Precision(-0.5 * (by + trace), 0.5 * term.p)
    return squares, values
