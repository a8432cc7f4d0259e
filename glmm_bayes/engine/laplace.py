"""Laplace's approximation to the marginal likelihood of a latent Gaussian model, with gradient."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from glmm_bayes.errors import ConvergenceError

MOST_STEPS, HALVINGS = 60, 30
ENOUGH = 1e-18  # of Newton's decrement, twice the distance from the maximum in log density

type Rows = Callable[[np.ndarray, int], Any]


@dataclass(frozen=True, eq=False)
class Marginal:
    """
    The log marginal likelihood at one point, and its gradient.

    Attributes
    ----------
    value
        log p(y | coefficients, Lambda), every constant included.
    by_coefficients
        Each predictor's `(k,)`; those integrated out have zeros.
    by_Lambda
        Each term's `(p, p)`.
    u
        `(N,)` the mode of the effects, in standard units.
    coefficients
        Each predictor's; where they are integrated out, their mode.
    factor
        The Hessian at the mode, factored.
    eta
        `(P, n)` at the mode.
    """

    value: float
    by_coefficients: Sequence[np.ndarray]
    by_Lambda: Sequence[np.ndarray]
    u: np.ndarray
    coefficients: Sequence[np.ndarray]
    factor: Any
    eta: np.ndarray


@dataclass(eq=False)
class Laplace:
    """
    A latent Gaussian model: P predictors eta_a = offset_a + X_a beta_a (+ J u), u ~ N(0, I).

    Parameters
    ----------
    rows
        `rows(eta, order)` gives, for `(P, n)` predictors, the pointwise log density `value` and
        its derivatives `first` `(P, n)`, `second` `(P, P, n)` and `third`.
    X
        By predictor `(n, k)`; a constant parameter has one column of ones.
    offset
        `(P, n)`.
    system
        The effects' linear algebra, `Blocked` or `Sparse`, with X of the first predictor.
    u
        Where Newton's method starts next: the last mode found.

    Notes
    -----
    log p(y) = f(u) - 1/2 log |H|, f the joint log density at its mode u, H its negative Hessian by
    u; the gradient by implicit differentiation of the mode and by the rows' leverages:
    Kristensen et al. (2016), J. Stat. Softw. 70(5). Lambda stands outside of u, so that a zero
    variance is nothing special. With `joint`, the first predictor's coefficients are integrated
    out with u under a flat prior.
    """

    rows: Rows
    X: Sequence[np.ndarray]
    offset: np.ndarray
    system: Any
    u: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.u = np.zeros(self.system.latent.size)

    @property
    def random(self) -> list[int]:
        """The numbers of the predictors with effects."""
        return list(self.system.latent.predictors)

    def marginal(
        self, coefficients: Sequence[np.ndarray], Lambdas: Sequence[np.ndarray], *, joint: bool
    ) -> Marginal:
        """
        Integrate the effects out (and, if `joint`, the first predictor's coefficients).

        Raises
        ------
        LinAlgError
            If there is no maximum of the joint density here.
        ConvergenceError
            If Newton's method does not reach it.
        """
        spread = self.system.at(Lambdas)
        coefficients = list(coefficients)
        u, coefficients[0], eta, factor, value = self._mode(spread, coefficients, joint=joint)
        self.u = u
        found = self.rows(eta, 3)
        value -= 0.5 * factor.log_determinant
        if joint:
            value += 0.5 * len(coefficients[0]) * np.log(2 * np.pi)
        by_coefficients, by_Lambda = self._gradient(spread, found, factor, u, joint=joint)
        return Marginal(value, by_coefficients, by_Lambda, u, coefficients, factor, eta)

    def effects_mode(
        self, coefficients: Sequence[np.ndarray], Lambdas: Sequence[np.ndarray]
    ) -> np.ndarray:
        """Give the effects' mode u `(N,)` with every coefficient given."""
        return self._mode(self.system.at(Lambdas), list(coefficients), joint=False)[0]

    def _eta(self, spread: Any, coefficients: Sequence[np.ndarray], u: np.ndarray) -> np.ndarray:
        eta = self.offset + np.stack([X @ c for X, c in zip(self.X, coefficients, strict=True)])
        eta[self.random] += spread.eta(u)
        return eta

    def _mode(self, spread: Any, coefficients: list[np.ndarray], *, joint: bool) -> Any:
        """Climb to the mode by Newton's method, halving steps that do not rise."""
        R, X = self.random, self.X[0]
        u, gamma = self.u, coefficients[0]
        eta = self._eta(spread, coefficients, u)
        found = self.rows(eta, 2)
        value = found.value.sum() - 0.5 * u @ u
        if not np.isfinite(value):
            u = np.zeros_like(u)
            eta = self._eta(spread, coefficients, u)
            found = self.rows(eta, 2)
            value = found.value.sum()
        for _ in range(MOST_STEPS):
            W = -found.second[np.ix_(R, R)]
            gu = _in_units(spread, spread.collect(found.first[R])) - u
            gx = X.T @ found.first[0] if joint else np.empty(0)
            factor, exact = _factored(spread, W, joint=joint)
            du, dx = factor.solve(gu, gx)
            decrement = gu @ du + gx @ dx
            if exact and decrement < ENOUGH * max(1.0, abs(value)):
                return u, gamma, eta, factor, value
            step = spread.eta(du)
            first = eta[0] * 0.0 if not joint else X @ dx
            size = 1.0
            for _ in range(HALVINGS):
                moved = eta.copy()
                moved[R] += size * step
                moved[0] += size * first
                found = self.rows(moved, 2)
                new = u + size * du
                height = found.value.sum() - 0.5 * new @ new
                if height > value - 1e-11 * abs(value):
                    break
                size *= 0.5
            else:
                if exact and decrement < 1e-6:
                    # What is left of the way is lost in rounding.
                    return u, gamma, eta, factor, value
                raise ConvergenceError(
                    f"The mode of the random effects was not found: no step from log density "
                    f"{value:.6g} rises (decrement {decrement:.2g}); scale the predictors."
                )
            u, value, eta = new, height, moved
            if joint:
                gamma = gamma + size * dx
        raise ConvergenceError(
            f"The mode of the random effects was not reached in {MOST_STEPS} Newton steps "
            f"(decrement {decrement:.2g}); scale the predictors."
        )

    def _gradient(
        self, spread: Any, found: Any, factor: Any, u: np.ndarray, *, joint: bool
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        R = self.random
        latent = self.system.latent
        h = factor.leverages()
        # t_a = 1/2 sum_bc h_bc d W_bc / d eta_a
        third = found.third[:, R][:, :, R]
        t = -0.5 * np.einsum("bcn,abcn->an", h, third)
        a, ax = factor.solve(
            _in_units(spread, spread.collect(t[R])), self.X[0].T @ t[0] if joint else np.empty(0)
        )
        moved = np.zeros_like(found.first)
        moved[R] = spread.eta(a)
        if joint:
            moved[0] += self.X[0] @ ax
        W = -found.second
        r = found.first - t + np.einsum("abn,bn->an", W, moved)
        by_coefficients = [X.T @ row for X, row in zip(self.X, r, strict=True)]
        if joint:
            by_coefficients[0] = np.zeros_like(by_coefficients[0])
        score, plain = spread.collect(r[R]), spread.collect(found.first[R])
        by_Lambda = [
            s.T @ v - g.T @ w - D
            for s, v, g, w, D in zip(
                score, latent.split(u), plain, latent.split(a), factor.traces(), strict=True
            )
        ]
        return by_coefficients, by_Lambda


def _in_units(spread: Any, parts: Sequence[np.ndarray]) -> np.ndarray:
    """Go from Z' r, by term, to J' r `(N,)`."""
    found = [(s @ L).ravel() for s, L in zip(parts, spread.Lambdas, strict=True)]
    return np.concatenate(found or [np.empty(0)])


def _factored(spread: Any, W: np.ndarray, *, joint: bool) -> tuple[Any, bool]:
    """Factor the Hessian; where it is not positive definite, one with the rows' own made so."""
    try:
        return spread.factor(W, joint=joint), True
    except np.linalg.LinAlgError:
        return spread.factor(_positive(W), joint=joint), False


def _positive(W: np.ndarray) -> np.ndarray:
    """Replace each row's weights `(R, R, n)` by the nearest that are not negative."""
    if len(W) == 1:
        return np.maximum(W, 1e-8 * np.abs(W).max())
    values, vectors = np.linalg.eigh(np.moveaxis(W, 2, 0))
    values = np.maximum(values, 1e-8 * np.abs(values).max())
    return np.moveaxis(np.einsum("nab,nb,ncb->nac", vectors, values, vectors), 0, 2)
