"""Laplace's approximation to the marginal likelihood of a latent Gaussian model, with gradient."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from glmm_bayes.engine.columns import add, collect
from glmm_bayes.engine.latent import Latent, Precision, Precisions
from glmm_bayes.engine.newton import Ascent, Normal, Point, Rows, find_mode, in_units


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
    by_precision
        By each term's precision; None where its levels are independent.
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
    by_precision: Precisions
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
        `rows(eta, order, among)` gives, for `(P, n)` predictors, the pointwise log density
        `value` and its derivatives `first` `(P, n)`, `second` `(P, P, n)` and `third`; by those
        `among` the predictors only, where that is given.
    X
        By predictor `(n, k)`; a constant parameter has one column of ones.
    offset
        `(P, n)`.
    system
        The effects' linear algebra, `Blocked` or `Sparse`, with X of the first predictor.
    prior
        A normal prior of the first predictor's coefficients where they are integrated out, its
        constant left out; flat where None.
    farthest
        How far a step to the mode may move a predictor: see `newton.Ascent`.
    means
        How many predictors, the first ones, have their coefficients integrated out where any have.
    u
        Where Newton's method starts next: the last mode found.

    Notes
    -----
    log p(y) = f(u) - 1/2 log |H|, f the joint log density at its mode u, H its negative Hessian by
    u; the gradient by implicit differentiation of the mode and by the rows' leverages:
    Kristensen et al. (2016), J. Stat. Softw. 70(5). Lambda stands outside of u, so that a zero
    variance is nothing special. With `joint`, the first predictor's coefficients are integrated
    out with u.
    """

    integrates_means: ClassVar[bool] = True

    rows: Rows
    X: Sequence[np.ndarray]
    offset: np.ndarray
    system: Any
    prior: Normal | None = None
    farthest: float = np.inf
    means: int = 1
    u: np.ndarray = field(init=False)
    _near: tuple[bool, Any] = field(default=(False, None), init=False)

    def __post_init__(self) -> None:
        self.u = np.zeros(self.system.latent.size)

    @cached_property
    def _inner(self) -> tuple[np.ndarray, np.ndarray]:
        """The columns that are integrated out with u, and whose they are."""
        sizes = [X.shape[1] for X in self.X[: self.means]]
        whole = self.X[0] if self.means == 1 else np.hstack(self.X[: self.means])
        return whole, np.repeat(np.arange(self.means), sizes)

    @property
    def random(self) -> list[int]:
        """The numbers of the predictors with effects."""
        return list(self.system.latent.predictors)

    def marginal(
        self,
        coefficients: Sequence[np.ndarray],
        Lambdas: Sequence[np.ndarray],
        precisions: Precisions | None = None,
        *,
        joint: bool,
    ) -> Marginal:
        """
        Integrate the effects out (and, if `joint`, the first predictor's coefficients).

        Parameters
        ----------
        coefficients
            Each predictor's `(k,)`.
        Lambdas, precisions
            Each term's factor `(p, p)`, and the precision between its levels if they have one.

        Raises
        ------
        LinAlgError
            If there is no maximum of the joint density here.
        ConvergenceError
            If Newton's method does not reach it.
        """
        ascent, at, factor = self.ascended(coefficients, Lambdas, precisions, joint=joint)
        self.u, self._near = at.u, (joint, factor)
        latent, spread = self.system.latent, ascent.spread
        value = at.value - 0.5 * factor.log_determinant
        value += 0.5 * latent.log_prior_determinant(spread.precisions)
        if joint:
            value += 0.5 * len(at.gamma) * np.log(2 * np.pi)
        # Where the derivatives are written out, all of them came with the mode.
        found = at.found if at.found.third is not None else self.rows(at.eta, 3)
        slopes = self._gradient(spread, found, factor, at.u, joint=joint)
        ends = np.cumsum([X.shape[1] for X in self.X[: self.means]])[:-1]
        modes = [*np.split(at.gamma, ends), *coefficients[self.means :]]
        return Marginal(value, *slopes, at.u, modes, factor, at.eta)

    def effects_mode(
        self,
        coefficients: Sequence[np.ndarray],
        Lambdas: Sequence[np.ndarray],
        precisions: Precisions | None = None,
    ) -> np.ndarray:
        """Give the effects' mode u `(N,)` with every coefficient given."""
        return self.ascended(coefficients, Lambdas, precisions, joint=False)[1].u

    def ascended(
        self,
        coefficients: Sequence[np.ndarray],
        Lambdas: Sequence[np.ndarray],
        precisions: Precisions | None = None,
        *,
        joint: bool,
    ) -> tuple[Ascent, Point, Any]:
        """
        Climb from the last mode, or from zero where the density is not finite there.

        Returns
        -------
        ascent, at, factor
            What was climbed, its mode, and its negative Hessian there, factored.
        """
        spread, (X, of) = self.system.at(Lambdas, precisions), self._inner
        prior = self.prior if joint else None
        inner = X if joint else X[:, :0]
        own = of if joint else None
        ascent = Ascent(self.rows, inner, spread, self.random, prior, self.farthest, own)
        fixed = self.offset + np.stack([X @ c for X, c in zip(self.X, coefficients, strict=True)])
        for u in (self.u, np.zeros_like(self.u)):
            eta = fixed.copy()
            eta[self.random] += spread.eta(u)
            at = ascent.point(u, np.concatenate(coefficients[: self.means]), eta)
            if np.isfinite(at.value):
                break
        kind, near = self._near
        return ascent, *find_mode(ascent, at, near if kind == joint else None)

    def _gradient(
        self, spread: Any, found: Any, factor: Any, u: np.ndarray, *, joint: bool
    ) -> tuple[list[np.ndarray], list[np.ndarray], Precisions]:
        R = self.random
        latent = self.system.latent
        h = factor.leverages()
        # t_a = 1/2 sum_bc h_bc d W_bc / d eta_a
        third = found.third[:, R][:, :, R]
        t = -0.5 * np.einsum("bcn,abcn->an", h, third)
        a, ax = factor.solve(
            in_units(spread, spread.collect(t[R])),
            collect(*self._inner, t) if joint else np.empty(0),
        )
        moved = np.zeros_like(found.first)
        moved[R] = spread.eta(a)
        if joint:
            add(moved, *self._inner, ax)
        W = -found.second
        r = found.first - t + np.einsum("abn,bn->an", W, moved)
        by_coefficients = [X.T @ row for X, row in zip(self.X, r, strict=True)]
        if joint:
            none = [np.zeros_like(part) for part in by_coefficients[: self.means]]
            by_coefficients[: self.means] = none
        score, plain = spread.collect(r[R]), spread.collect(found.first[R])
        by_Lambda = [
            s.T @ v - g.T @ w - D
            for s, v, g, w, D in zip(
                score, latent.split(u), plain, latent.split(a), factor.traces(), strict=True
            )
        ]
        return by_coefficients, by_Lambda, slopes_by_precision(latent, factor, u, a)


def slopes_by_precision(latent: Latent, factor: Any, u: np.ndarray, a: np.ndarray) -> Precisions:
    """
    Give the slopes by each term's precision.

    Of -1/2 u'Pu - 1/2 log |H|, and of the latter by the mode, which moves by -H^-1 dP u.
    """
    if not latent.is_structured:
        return [None] * len(latent.terms)
    parts = zip(latent.terms, latent.split(u), latent.split(a), factor.prior_traces(), strict=True)
    return [
        None
        if term.pattern is None
        else Precision(term.pattern.products(w - 0.5 * v, v) - 0.5 * trace, 0.5 * term.p)
        for term, v, w, trace in parts
    ]
