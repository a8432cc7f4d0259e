"""The joint log density of a model and its gradient, on plain arrays."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from glmm_bayes.engine.density.outer import Outer
from glmm_bayes.engine.density.unseen import NOTHING, Unseen
from glmm_bayes.engine.latent import Pattern, Precision

type Score = Callable[[dict[str, np.ndarray]], tuple[float, dict[str, np.ndarray]]]
type Slopes = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Linear:
    """
    One parameter's linear predictor: eta = offset + X gamma + Z b.

    `gamma` is where its k coefficients stand in theta; `Z` `(n, total effects)` is sparse, or
    None; `Zt` its transpose in row order, kept so that both products run along rows.
    """

    X: np.ndarray
    offset: np.ndarray
    gamma: slice
    Z: Any
    Zt: Any


@dataclass(frozen=True, eq=False)
class Shares:
    """
    What of the fixed part belongs to the levels of one term: A products of weight and coefficient.

    Attributes
    ----------
    column, outer
        `(A,)` the term's column, and the coefficient's place in theta.
    weight
        `(A, q)` times what the coefficient enters each level.
    """

    column: np.ndarray
    outer: np.ndarray
    weight: np.ndarray

    def of(self, theta: np.ndarray, p: int) -> np.ndarray:
        """Give the sums `(q, p)`."""
        total = np.zeros((self.weight.shape[1], p))
        for column, outer, weight in zip(self.column, self.outer, self.weight, strict=True):
            total[:, column] += weight * theta[outer]
        return total

    def back(self, grad: np.ndarray, grad_theta: np.ndarray) -> None:
        """Take off the slopes by theta what comes of those by b `(q, p)`."""
        for column, outer, weight in zip(self.column, self.outer, self.weight, strict=True):
            grad_theta[outer] -= weight @ grad[:, column]


@dataclass(frozen=True, eq=False)
class Placed:
    """
    A structure of levels with its parameters.

    `theta` says where each of these stands among the outer ones.
    """

    structure: Any
    theta: Mapping[str, slice]

    def precision(self, theta: np.ndarray) -> Precision:
        """Evaluate it."""
        Q = self.structure.entries({k: theta[s] for k, s in self.theta.items()})
        return Precision(Q.values, float(Q.log_determinant))

    def back(
        self, theta: np.ndarray, by_values: np.ndarray, by_log_determinant: float
    ) -> dict[str, np.ndarray]:
        """Carry slopes by its entries and by its log determinant back to the parameters."""
        given = {k: theta[s] for k, s in self.theta.items()}
        return self.structure.slopes(given, by_values, by_log_determinant)


@dataclass(frozen=True, eq=False)
class Between(Placed):
    """How the levels of one term vary together: a precision of v's columns."""

    pattern: Pattern


class Rows(Protocol):
    """The density of rows that vary together, which has parameters of its own."""

    @property
    def between(self) -> Between:
        """How they do."""

    def __call__(self, values: Slopes, theta: np.ndarray) -> tuple[float, Slopes, Slopes]:
        """Give the log density, its slopes by the values, and those by the own parameters."""


@dataclass(frozen=True, eq=False)
class Shape(Placed):
    """A distribution of v that is not normal: what has it stands in the place of a precision."""

    def log_density(self, v: np.ndarray, theta: np.ndarray) -> float:
        """Give the log density of v `(q, p)`."""
        return float(self.structure.log_density(v, self._given(theta)).sum())

    def slope(self, v: np.ndarray, theta: np.ndarray, grad_theta: np.ndarray) -> np.ndarray:
        """Give its slope by v, and add those by the parameters."""
        by_v, by_theta = self.structure.log_slopes(v, self._given(theta))
        for name, slope in by_theta.items():
            grad_theta[self.theta[name]] += slope
        return by_v

    def _given(self, theta: np.ndarray) -> Slopes:
        return {name: theta[at] for name, at in self.theta.items()}


@dataclass(frozen=True, eq=False)
class Effects:
    """
    One random term's effects: b = v Lambda' of q levels and p columns.

    `at` is where its q p numbers stand in x: v where `centered` is False, else b plus the
    fixed part that is the level's own: so each level's own coefficient is sampled, which the data
    determine without regard to the other levels. `theta` says where each parameter of the
    structure stands among the outer ones; `between` is how levels that are not independent vary
    together, and `shape` their distribution where it is not normal, both in standard units only.

    Notes
    -----
    Hierarchical centring: Gelfand, Sahu & Carlin (1995), Biometrika 82, 479-488.
    """

    at: slice
    q: int
    p: int
    structure: Any
    theta: Mapping[str, slice]
    centered: bool
    shares: "Shares"
    between: Between | None = None
    shape: Shape | None = None

    @property
    def placed(self) -> Placed | None:
        """What has parameters between the levels, if anything has."""
        return self.shape if self.between is None else self.between

    def factor(self, theta: np.ndarray) -> np.ndarray:
        """Give Lambda `(p, p)`."""
        return self.structure.factor({k: theta[s] for k, s in self.theta.items()}, self.p)

    def prior_and_b(
        self, x: np.ndarray, theta: np.ndarray, Lambda: np.ndarray
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """Give the log density of the effects' coordinates, v and b, each `(q, p)`."""
        given = x[self.at].reshape(self.q, self.p)
        if self.between is not None:
            precision = self.between.precision(theta)
            squares = np.vdot(given, self.between.pattern.times(precision, given))
            value = 0.5 * (self.p * precision.log_determinant - squares)
            return value, given, given @ Lambda.T
        if self.shape is not None:
            return self.shape.log_density(given, theta), given, given @ Lambda.T
        if not self.centered:
            return -0.5 * np.vdot(given, given), given, given @ Lambda.T
        b = given - self.shares.of(theta, self.p)
        v = np.linalg.solve(Lambda, b.T).T
        return -0.5 * np.vdot(v, v) - self.q * np.log(np.diag(Lambda)).sum(), v, b

    def back(
        self,
        grad_b: np.ndarray,
        v: np.ndarray,
        Lambda: np.ndarray,
        theta: np.ndarray,
        grad_theta: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Carry d/db `(q, p)` back to the coordinates (with their own density) and to Lambda."""
        if self.between is not None:
            pattern, precision = self.between.pattern, self.between.precision(theta)
            by_values = -0.5 * pattern.products(v, v)
            for k, g in self.between.back(theta, by_values, 0.5 * self.p).items():
                grad_theta[self.between.theta[k]] += g
            return grad_b @ Lambda - pattern.times(precision, v), grad_b.T @ v
        if self.shape is not None:
            return grad_b @ Lambda + self.shape.slope(v, theta, grad_theta), grad_b.T @ v
        if not self.centered:
            return grad_b @ Lambda - v, grad_b.T @ v
        inverse = np.linalg.inv(Lambda)
        return grad_b - v @ inverse, inverse.T @ (v.T @ v - self.q * np.eye(self.p))


@dataclass(frozen=True, eq=False)
class Joint:
    """
    log p(y, b, theta) on the unconstrained scale.

    x holds first the d free outer parameters, then the coordinates of every term's effects.
    `likelihood` maps the predictors (and the constant parameters) by name to the summed log
    density and its derivatives by each. `together` stands in for it where rows vary together
    beside the effects: it has parameters too, which `residual` places among the outer ones.
    Of what is `unseen`, coordinates come last in x.
    """

    outer: Outer
    predictors: Mapping[str, Linear]
    constants: Mapping[str, int]
    effects: Sequence[Effects]
    likelihood: Score
    size: int
    together: Rows | None = None
    residual: Mapping[str, slice] = field(default_factory=dict)
    unseen: Unseen = NOTHING

    def value_and_gradient(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Evaluate the log density, up to a constant, and its gradient `(size,)`."""
        d = self.outer.size
        theta = self.outer.constrain(x[:d])
        log_jacobian, jacobian_score, slope = self.outer.jacobian(x[:d], theta)
        value, grad_theta = self.outer.log_prior(theta)
        value += log_jacobian

        Lambdas, vs, bs = [], [], []
        for term in self.effects:
            Lambda = term.factor(theta)
            part, v, b = term.prior_and_b(x, theta, Lambda)
            value += part
            Lambdas.append(Lambda)
            vs.append(v)
            bs.append(b.ravel())
        b = np.concatenate(bs) if bs else np.empty(0)

        placed, gradient = self.unseen.placed(x, theta), np.empty(self.size)
        values = {name: theta[k] for name, k in self.constants.items()}
        predictors = {name: placed.linear(name, own) for name, own in self.predictors.items()}
        for name, linear in predictors.items():
            eta = linear.offset + linear.X @ theta[linear.gamma]
            values[name] = eta if linear.Z is None else eta + linear.Z @ b
        part, scores = self._rows(placed.completed(values, predictors, theta), theta, grad_theta)
        value += part + placed.value
        scores = placed.back(scores, predictors, theta, grad_theta, gradient)

        grad_b = np.zeros_like(b)
        for name, k in self.constants.items():
            grad_theta[k] += scores[name].sum()
        for name, linear in predictors.items():
            grad_theta[linear.gamma] += scores[name] @ linear.X
            if linear.Z is not None:
                grad_b += linear.Zt @ scores[name]

        start = 0
        for term, v, Lambda in zip(self.effects, vs, Lambdas, strict=True):
            grad = grad_b[start : start + v.size].reshape(v.shape)
            start += v.size
            grad_x, grad_Lambda = term.back(grad, v, Lambda, theta, grad_theta)
            gradient[term.at] = grad_x.ravel()
            if term.centered:
                term.shares.back(grad_x, grad_theta)
            given = {k: theta[s] for k, s in term.theta.items()}
            for k, g in term.structure.pullback(given, term.p, grad_Lambda).items():
                grad_theta[term.theta[k]] += g
        gradient[:d] = self.outer.pull(grad_theta, theta, slope) + jacobian_score
        return float(value), gradient

    def _rows(
        self, values: Slopes, theta: np.ndarray, grad_theta: np.ndarray
    ) -> tuple[float, Slopes]:
        """Evaluate the rows' density, and add the slopes by the parameters that it has."""
        if self.together is None:
            return self.likelihood(values)
        value, scores, by_theta = self.together(values, theta)
        for k, g in by_theta.items():
            grad_theta[self.residual[k]] += g
        return value, scores

    def unpack(self, x: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """Go from `(S, size)` draws to theta `(S, m)` and every term's b `(S, q, p)`."""
        theta = self.outer.constrain(x[:, : self.outer.size])
        found = []
        for term in self.effects:
            given = x[:, term.at].reshape(-1, term.q, term.p)
            if term.centered:
                found.append(given - np.stack([term.shares.of(t, term.p) for t in theta]))
            else:
                Lambdas = np.stack([term.factor(t) for t in theta])
                found.append(given @ Lambdas.transpose(0, 2, 1))
        return theta, found

    def place(self, outer: np.ndarray, effects: np.ndarray) -> np.ndarray:
        """Make x of `outer` `(d,)` on the unconstrained scale and of v or b `(size - d,)`."""
        x = np.concatenate([outer, effects])
        theta = self.outer.constrain(outer)
        for term in self.effects:
            if term.centered:
                x[term.at] += term.shares.of(theta, term.p).ravel()
        return x
