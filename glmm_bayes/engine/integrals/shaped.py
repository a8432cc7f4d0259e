"""The marginal likelihood of one effect a level whose distribution is not normal, by quadrature."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from glmm_bayes.engine.laplace import Laplace, Marginal
from glmm_bayes.engine.latent import Precision, Precisions
from glmm_bayes.errors import ConvergenceError

MOST_STEPS, HALVINGS = 200, 30
FARTHEST = 2.0  # standard units, in one step
CLOSE = 1e-10  # of a step, in standard units


@dataclass(frozen=True, eq=False)
class Curve:
    """
    A log density at m points u, its derivatives by u, and these by its parameters.

    `by` has for each parameter the derivatives of `value`, `first` and `second`, `(m,)` each.
    """

    value: np.ndarray
    first: np.ndarray
    second: np.ndarray
    third: np.ndarray
    by: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]


type LogDensity = Callable[[np.ndarray, np.ndarray], Curve]


@dataclass(frozen=True, eq=False)
class Given:
    """Predictors without effects `(P, n)`, the effects' factor, and the density's parameters."""

    fixed: np.ndarray
    Lambda: float
    psi: np.ndarray


@dataclass(frozen=True, eq=False)
class Top:
    """The effects' mode u `(q,)`, the rows' expansion, the density's curve and -f'' there."""

    u: np.ndarray
    eta: np.ndarray
    found: Any
    curve: Curve
    h: np.ndarray


@dataclass(eq=False)
class ShapedIntegral:
    """
    The likelihood of a model whose one term has one column, of independent levels.

    It stands in for `laplace`, which is that of normal effects.

    Parameters
    ----------
    density
        `density(u, psi)`: the log density of the effects in standard units.
    nagq
        How many nodes each level has, about its own mode and as wide as its curvature says.

    Notes
    -----
    With f(u) a level's joint log density, and nodes u_k = m + x_k h^-1/2 for its mode m and
    h = -f''(m), log L = -1/2 log h + log sum_k w_k exp(f(u_k) + x_k^2 / 2). The gradient is that
    of this sum, nodes moving with the parameters: a derivative of f enters at the nodes, and those
    of f' and f'' at the mode.
    """

    laplace: Laplace
    density: LogDensity
    nagq: int

    def __post_init__(self) -> None:
        term, order = self.system.latent.terms[0], self.system.order
        (self.number,) = term.Z
        self.level = term.index[order, 0]
        self.z = term.weights[order, 0] * term.Z[self.number][order, 0]

    @property
    def system(self) -> Any:
        """The effects' linear algebra."""
        return self.laplace.system

    @property
    def means(self) -> int:
        """How many predictors have coefficients that are integrated out where any have."""
        return self.laplace.means

    @property
    def u(self) -> np.ndarray:
        """Where the next search for the effects' mode begins."""
        return self.laplace.u

    @u.setter
    def u(self, u: np.ndarray) -> None:
        self.laplace.u = u

    def effects_mode(
        self,
        coefficients: Sequence[np.ndarray],
        Lambdas: Sequence[np.ndarray],
        precisions: Precisions | None = None,
    ) -> np.ndarray:
        """Give the effects' mode u `(q,)`."""
        return self._top(self._given(coefficients, Lambdas, precisions)).u

    def factor(
        self,
        coefficients: Sequence[np.ndarray],
        Lambdas: Sequence[np.ndarray],
        precisions: Precisions | None,
    ) -> Any:
        """Factor the effects' negative Hessian at their mode."""
        given = self._given(coefficients, Lambdas, precisions)
        return self._factor(Lambdas, given, self._top(given))

    def marginal(
        self,
        coefficients: Sequence[np.ndarray],
        Lambdas: Sequence[np.ndarray],
        precisions: Precisions | None = None,
        *,
        joint: bool,
    ) -> Marginal:
        """Integrate the effects out; in the place of a precision are the density's parameters."""
        assert not joint
        given = self._given(coefficients, Lambdas, precisions)
        top = self._top(given)
        self.u = top.u
        value, by_eta, by_Lambda, by_psi = self._summed(given, top)
        by_coefficients = [X.T @ row for X, row in zip(self.laplace.X, by_eta, strict=True)]
        factor = self._factor(Lambdas, given, top)
        return Marginal(
            value, by_coefficients, [np.array([[by_Lambda]])], [Precision(by_psi, 0.0)], top.u,
            list(coefficients), factor, top.eta,
        )  # fmt: skip

    def _given(
        self,
        coefficients: Sequence[np.ndarray],
        Lambdas: Sequence[np.ndarray],
        precisions: Precisions | None,
    ) -> Given:
        assert precisions is not None
        assert precisions[0] is not None
        parts = [X @ c for X, c in zip(self.laplace.X, coefficients, strict=True)]
        fixed = self.laplace.offset + np.stack(parts)
        return Given(fixed, float(Lambdas[0][0, 0]), precisions[0].values)

    def _at(self, given: Given, u: np.ndarray, order: int) -> tuple[np.ndarray, Any, np.ndarray]:
        """Give eta, the rows' expansion, and every level's joint log density but for log t."""
        eta = given.fixed.copy()
        eta[self.number] += given.Lambda * self.z * u[self.level]
        found = self.laplace.rows(eta, order)
        return eta, found, self._sum(found.value)

    def _sum(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(self.level, values, self.system.latent.size)

    def _top(self, given: Given) -> Top:
        """Climb to each level's mode, by Newton's steps that are halved until they rise."""
        r, slope = self.number, given.Lambda * self.z
        u = self.u
        eta, found, value = self._at(given, u, 3)
        curve = self.density(u, given.psi)
        for _ in range(MOST_STEPS):
            g = self._sum(slope * found.first[r]) + curve.first
            h = -self._sum(slope**2 * found.second[r, r]) - curve.second
            step = np.where(h > 0, g / np.where(h > 0, h, 1.0), np.sign(g))
            step = np.clip(step, -FARTHEST, FARTHEST)
            if np.abs(step).max() < CLOSE and (h > 0).all():
                return Top(u, eta, found, curve, h)
            before = value + curve.value
            for _ in range(HALVINGS):
                eta, found, value = self._at(given, u + step, 3)
                curve = self.density(u + step, given.psi)
                falls = ~(value + curve.value >= before - 1e-12 * np.abs(before))
                if not falls.any():
                    break
                step = np.where(falls, 0.5 * step, step)
            u = u + step
        raise ConvergenceError(
            f"The mode of the random effects was not reached in {MOST_STEPS} steps "
            f"(last step {np.abs(step).max():.2g}); scale the predictors."
        )

    def _summed(self, given: Given, top: Top) -> tuple[float, np.ndarray, float, np.ndarray]:
        """Sum over the nodes: log L, and its slopes by eta `(P, n)`, by Lambda and by psi."""
        x, w = np.polynomial.hermite_e.hermegauss(self.nagq)
        s, r, slope = 1 / np.sqrt(top.h), self.number, given.Lambda * self.z
        nodes = [top.u + s * x_k for x_k in x]
        rows = [self._at(given, u, 1)[1:] for u in nodes]
        curves = [self.density(u, given.psi) for u in nodes]
        logs = np.stack([v + c.value for (_, v), c in zip(rows, curves, strict=True)])
        logs = logs + (np.log(w) + 0.5 * x * x)[:, None]
        peak = logs.max(axis=0)
        total = np.exp(logs - peak).sum(axis=0)
        share = np.exp(logs - peak) / total
        value = float((np.log(s) + peak + np.log(total)).sum())
        A = B = np.zeros_like(s)
        by_eta, by_Lambda = np.zeros_like(given.fixed), 0.0
        by_psi = np.zeros(len(given.psi))
        for pi, x_k, u, (found, _), curve in zip(share, x, nodes, rows, curves, strict=True):
            own = self._sum(slope * found.first[r]) + curve.first
            A, B = A + pi * own, B + pi * own * x_k
            by_eta += pi[self.level] * found.first
            by_Lambda += float((pi * u * self._sum(self.z * found.first[r])).sum())
            by_psi += [float((pi * by[0]).sum()) for by in curve.by]
        # What moves with the mode, by f', and with the width of the nodes, by f''.
        first, second, third = (getattr(top.found, name) for name in ("first", "second", "third"))
        c = 0.5 * (1 / s + B) * s**3
        a = (A + c * (self._sum(slope**3 * third[r, r, r]) + top.curve.third)) / top.h
        a_row, c_row, u_row = (v[self.level] for v in (a, c, top.u))
        by_eta += a_row * slope * second[r] + c_row * slope**2 * third[r, r]
        z = self.z
        by_Lambda += float(
            (a_row * (z * first[r] + slope * z * u_row * second[r, r])).sum()
            + (c_row * (2 * slope * z * second[r, r] + slope**2 * z * u_row * third[r, r, r])).sum()
        )
        by_psi += [float((a * by[1] + c * by[2]).sum()) for by in top.curve.by]
        return value, by_eta, by_Lambda, by_psi

    def _factor(self, Lambdas: Sequence[np.ndarray], given: Given, top: Top) -> Any:
        """Factor the Hessian: what the density's differs from a normal's, the rows have."""
        R = list(self.system.latent.predictors)
        W = -top.found.second[np.ix_(R, R)]
        square = (given.Lambda * self.z) ** 2
        size = self._sum((square > 0).astype(float))
        beyond = (-top.curve.second - 1.0) / np.maximum(size, 1.0)
        at = R.index(self.number)
        W[at, at] += np.where(square > 0, beyond[self.level] / np.where(square > 0, square, 1.0), 0)
        return self.system.at(Lambdas, [None]).factor(W, joint=False, ridge=None)
