"""Rows as a normal response about the posterior's mean of effects and coefficients."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from glmm_bayes.engine.around.variational import Prior, average, nearest_normal
from glmm_bayes.engine.newton import Ascent, Point, Rows, positive_part

STEP = 1e-3  # of a predictor without effects, between the curvatures that give their slopes
STEEPEST = 4.0  # of a weight's logarithm: where the weight is near zero, its slope is no guide
REACH = 0.5  # of such a predictor, how far first order goes


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
    """

    rows: Rows
    random: Sequence[int]
    eta: np.ndarray
    spread: np.ndarray
    shift: np.ndarray

    @cached_property
    def _expected(self) -> tuple[np.ndarray, np.ndarray]:
        return self._averaged(self.eta)

    def _averaged(self, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = average(self.rows, eta, self.spread, self.random, order=2)
        return found.first, positive_part(found.weights)

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
                first, W = self._averaged(eta)
                sides.append((first, _size(W)))
            (r1, s1), (r0, s0) = sides
            by_log = (np.log(s1) - np.log(s0)) / (2 * STEP)
            found.append(((r1 - r0) / (2 * STEP), np.clip(by_log, -STEEPEST, STEEPEST)))
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
            `(len(others), …, n)` from the centre. They may be moved far: what all rows have in
            common goes on as a power, which is exact for a normal response; what is a row's own
            goes on no farther than `REACH`.
        """
        first, W = self._expected
        if self.is_fixed:
            return first, W
        R, n = first.shape
        more = (1,) * (moved.ndim - 2)
        size = _size(W)
        first, W = first.reshape(R, *more, n), W.reshape(R, R, *more, n)
        log_scale, log_own, turned = np.zeros(moved.shape[1:]), np.zeros(moved.shape[1:]), first
        for delta, (by_first, by_log) in zip(moved, self._slopes, strict=True):
            common = float(size @ by_log / size.sum())
            near = REACH * np.tanh(delta / REACH)
            log_scale = log_scale + common * delta
            log_own = log_own + (by_log - common) * near
            turned = turned + (by_first.reshape(first.shape) - common * first) * near
        scale = np.exp(np.clip(log_scale, -20.0, 20.0))
        return scale * turned, scale * np.exp(log_own) * W


def correct(ascent: Ascent, at: Point, factor: Any, prior: Prior) -> Corrected:
    """
    Go from the mode to the nearest normal's mean; stay at the mode where there is none.

    Parameters
    ----------
    at, factor
        The mode of effects and coefficients, and its negative Hessian factored.
    prior
        Of the coefficients.
    """
    try:
        near = nearest_normal(ascent, at, factor, prior)
    except np.linalg.LinAlgError:
        shift = np.zeros(ascent.X.shape[1] if ascent.joint else 0)
        return Corrected(ascent.rows, ascent.random, at.eta, factor.leverages(), shift)
    k = len(near.precision)
    shift = (near.gamma - at.gamma)[:k] / np.sqrt(near.variances)
    return Corrected(ascent.rows, ascent.random, near.eta, near.spread, shift)


def _size(W: np.ndarray) -> np.ndarray:
    return np.maximum(np.einsum("aan->n", W), 1e-300)
