"""A normal approximation at the posterior's mean of effects and coefficients, not at their mode."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from glmm_bayes.engine.newton import Ascent, Point, Rows, in_units, positive_part

MOST_STEPS = 30
ENOUGH = 1e-5  # of the decrement
DOUBTFUL = 1.0  # a decrement beyond which a step is taken by halves
NODES = {1.0: 5, 4.0: 9, np.inf: 21}  # of quadrature, for variances of predictors up to these
STEP = 1e-3  # of a predictor without effects, between the curvatures that give their slopes


@dataclass(frozen=True, eq=False)
class Corrected:
    """
    The rows as a normal response: expected scores and weights about a centre.

    Attributes
    ----------
    rows
        Gives the pointwise log density and its derivatives at `(P, n)` predictors.
    random
        The numbers of the R predictors with effects.
    eta
        `(P, n)` the centre.
    spread
        `(R, R, n)` the covariance of its predictors, over which scores and weights are averaged.
    shift
        `(k,)` how far the coefficients' centre is from their mode, in posterior standard
        deviations: how biased a normal approximation at the mode is.
    steps
        How many the correction took.
    """

    rows: Rows
    random: Sequence[int]
    eta: np.ndarray
    spread: np.ndarray
    shift: np.ndarray
    steps: int

    @cached_property
    def _expected(self) -> tuple[np.ndarray, np.ndarray]:
        first, W = expected(self.rows, self.eta, self.spread, self.random)
        return first[self.random], positive_part(W)

    @cached_property
    def others(self) -> list[int]:
        """The numbers of the predictors without effects."""
        return [a for a in range(len(self.eta)) if a not in self.random]

    @cached_property
    def _slopes(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """How scores, and the logarithms of weights, vary with each predictor without effects."""
        found = []
        for a in self.others:
            sides = []
            for move in (STEP, -STEP):
                eta = self.eta.copy()
                eta[a] += move
                first, W = expected(self.rows, eta, self.spread, self.random)
                sides.append((first[self.random], _size(positive_part(W))))
            (r1, s1), (r0, s0) = sides
            found.append(((r1 - r0) / (2 * STEP), (np.log(s1) - np.log(s0)) / (2 * STEP)))
        return found

    @property
    def is_fixed(self) -> bool:
        """Whether the weights depend on no parameter: every predictor has effects."""
        return not self.others

    def working(self, moved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Give scores `(R, n)` and weights `(R, R, n)` where the other predictors are moved.

        Parameters
        ----------
        moved
            `(len(others), …, n)` from the centre. They may be moved far: the logarithms of weights
            are taken as linear, so that weights stay positive.
        """
        first, W = self._expected
        if self.is_fixed:
            return first, W
        R, n = first.shape
        more = (1,) * (moved.ndim - 2)
        first, W = first.reshape(R, *more, n), W.reshape(R, R, *more, n)
        log_scale, turned = np.zeros(moved.shape[1:]), first
        for delta, (by_first, by_log) in zip(moved, self._slopes, strict=True):
            log_scale = log_scale + by_log * delta
            turned = turned + (by_first.reshape(first.shape) - by_log * first) * delta
        scale = np.exp(np.clip(log_scale, -20.0, 20.0))
        return scale * turned, scale * W


def correct(ascent: Ascent, at: Point, factor: Any) -> Corrected:
    """
    Go from the mode to the best normal approximation's mean.

    The stationary point of the Gaussian variational bound: the expected score is zero, and the
    precision is the expected curvature, both under the normal itself.

    Parameters
    ----------
    at, factor
        The mode of effects and coefficients, and its negative Hessian factored.

    Notes
    -----
    Opper & Archambeau (2009), Neural Computation 21, 786-792; the fixed point's Newton steps as
    in Challis & Barber (2013), J. Machine Learning Research 14, 2239-2286.
    """
    u, gamma, eta = at.u, at.gamma, at.eta
    h, steps, last = factor.leverages(), 0, np.inf
    while steps < MOST_STEPS:
        first, W = expected(ascent.rows, eta, h, ascent.random)
        try:
            new = ascent.factored(positive_part(W))
        except np.linalg.LinAlgError:
            break
        steps += 1
        gu = in_units(ascent.spread, ascent.spread.collect(first[ascent.random])) - u
        gx = ascent.X.T @ first[0] if ascent.joint else np.empty(0)
        if ascent.prior is not None:
            gx = gx + ascent.prior.slope(gamma)
        du, dx = new.solve(gu, gx)
        decrement = float(gu @ du + gx @ dx)
        if not np.isfinite(decrement):
            break
        size = 1.0 if decrement < DOUBTFUL or decrement < 0.5 * last else 0.5
        factor, last = new, decrement
        eta = eta.copy()
        eta[ascent.random] += size * ascent.spread.eta(du)
        u = u + size * du
        if ascent.joint:
            gamma = gamma + size * dx
            eta[0] += size * (ascent.X @ dx)
        # Where more variance makes for less weight, the two would take turns for ever.
        h = 0.5 * (h + factor.leverages())
        if decrement < ENOUGH:
            break
    shift = np.empty(0)
    if ascent.joint:
        shift = (gamma - at.gamma) / np.sqrt(np.diag(factor.coefficient_inverse()))
    return Corrected(ascent.rows, ascent.random, eta, h, shift, steps)


def expected(
    rows: Rows, eta: np.ndarray, spread: np.ndarray, random: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """
    Average the score `(P, n)` and the weights `(R, R, n)` over normal predictors.

    By Gauss-Hermite quadrature for one predictor with effects; for R, by the 2 R points of the
    cubature of degree three.
    """
    first, W = np.zeros_like(eta), np.zeros_like(spread)
    for weight, move in _nodes(spread):
        moved = eta.copy()
        moved[random] += move
        found = rows(moved, 2)
        first += weight * found.first
        W -= weight * found.second[np.ix_(random, random)]
    return first, W


def _nodes(spread: np.ndarray) -> list[tuple[float, np.ndarray]]:
    R = len(spread)
    if R == 1:
        most = float(spread.max(initial=0.0))
        nodes, weights = _quadrature(next(n for bound, n in NODES.items() if not most > bound))
        sd = np.sqrt(np.maximum(spread[0], 0.0))
        return [(w, node * sd) for node, w in zip(nodes, weights, strict=True)]
    values, vectors = np.linalg.eigh(np.moveaxis(spread, 2, 0))
    roots = vectors * np.sqrt(R * np.maximum(values, 0.0))[:, None, :]
    arms = [roots[:, :, a].T for a in range(R)]
    return [(0.5 / R, side * arm) for arm in arms for side in (1.0, -1.0)]


@lru_cache
def _quadrature(count: int) -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    return nodes, weights / weights.sum()


def _size(W: np.ndarray) -> np.ndarray:
    return np.maximum(np.einsum("aan->n", W), 1e-300)
