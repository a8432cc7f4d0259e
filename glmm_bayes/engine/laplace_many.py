"""Laplace's method for one grouping and many responses at once: `engine.laplace`, S times."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from glmm_bayes.engine.grouped import Grouped, LevelInverse

MOST_STEPS, HALVINGS = 50, 10
ENOUGH = 1e-14  # of the decrement beside the log density: twice the distance from the maximum
LOST = 1e-11  # of the log density: what rounding may take of a rise

type RowsMany = Callable[[np.ndarray, np.ndarray, int], Any]


@dataclass(frozen=True, eq=False)
class MarginalMany:
    """
    S log marginal likelihoods, and their gradients.

    Attributes
    ----------
    value
        `(S,)`; minus infinity where there is no mode to be found.
    by_coefficients
        Each predictor's `(S, k)`.
    by_Lambda
        `(S, p, p)`.
    """

    value: np.ndarray
    by_coefficients: Sequence[np.ndarray]
    by_Lambda: np.ndarray


@dataclass(eq=False)
class LaplaceMany:
    """
    P predictors eta_a = offset_a + X_a beta_a, the first with + Z b, for S responses.

    Parameters
    ----------
    rows
        `rows(which, eta, order)` gives, for the responses with the numbers `which` `(s,)` at eta
        `(P, s, n)`, the pointwise log density and its derivatives: `value` `(s, n)`, `first`
        `(P, s, n)`, `second` and `third`.
    grouped
        The one random term, of the first predictor.
    X, offset
        By predictor `(n, k)`, and `(P, n)`; rows in the term's order.
    u
        `(S, q, p)` where each response's mode is looked for next: where the last one was.
    """

    rows: RowsMany
    grouped: Grouped
    X: Sequence[np.ndarray]
    offset: np.ndarray
    u: np.ndarray = field(repr=False)

    def marginal(
        self, which: np.ndarray, coefficients: Sequence[np.ndarray], Lambda: np.ndarray
    ) -> MarginalMany:
        """
        Integrate the effects out.

        Parameters
        ----------
        coefficients
            By predictor `(s, k)`.
        Lambda
            `(s, p, p)`.
        """
        fixed = self.offset[:, None] + np.stack(
            [c @ X.T for X, c in zip(self.X, coefficients, strict=True)]
        )
        u, eta, found_there = self._modes(which, fixed, Lambda)
        self.u[which[found_there]] = u[found_there]
        found = self.rows(which, eta, 3)
        levels = LevelInverse.of(self.grouped.products(-found.second[0, 0]), Lambda)
        height = found.value.sum(axis=1) - 0.5 * np.einsum("sqi,sqi->s", u, u)
        value = height - 0.5 * levels.log_determinant
        sound = found_there & np.isfinite(value)
        by_coefficients, by_Lambda = self._gradient(found, levels, Lambda, u)
        return MarginalMany(np.where(sound, value, -np.inf), by_coefficients, by_Lambda)

    def _modes(
        self, which: np.ndarray, fixed: np.ndarray, Lambda: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Give the effects' modes `(s, q, p)`, eta there, and which of them were reached."""
        u, eta = self.u[which].copy(), fixed.copy()
        eta[0] += self._along(u, Lambda)
        state, value = self._slopes(which, eta, u, Lambda)
        lost = ~np.isfinite(value)
        if lost.any():
            u[lost], eta[:, lost] = 0.0, fixed[:, lost]
            part, height = self._slopes(which[lost], eta[:, lost], u[lost], Lambda[lost])
            value[lost] = height
            for whole, new in zip(state, part, strict=True):
                whole[lost] = new
        reached = np.zeros(len(u), dtype=bool)
        active = np.isfinite(value)
        for _ in range(MOST_STEPS):
            at = np.flatnonzero(active & ~reached)
            if not len(at):
                break
            gradient, C = state[0][at], state[1][at]
            step = LevelInverse.of(C, Lambda[at]).times(gradient)
            decrement = np.einsum("sqi,sqi->s", gradient, step)
            with np.errstate(invalid="ignore"):
                done = np.abs(decrement) < ENOUGH * np.maximum(1.0, np.abs(value[at]))
                uphill = decrement > 0
            reached[at[done]] = True
            active[at[~done & ~uphill]] = False
            go = ~done & uphill
            at, step = at[go], step[go]
            active[at] = self._stepped(which, at, step, u, eta, value, state, Lambda)
        return u, eta, reached

    def _stepped(
        self,
        which: np.ndarray,
        at: np.ndarray,
        step: np.ndarray,
        u: np.ndarray,
        eta: np.ndarray,
        value: np.ndarray,
        state: tuple[np.ndarray, np.ndarray],
        Lambda: np.ndarray,
    ) -> np.ndarray:
        """Go along the steps, halving those that fall; tell which rose. Changes its arguments."""
        along, risen = self._along(step, Lambda[at]), np.zeros(len(at), dtype=bool)
        size = np.ones(len(at))
        for _ in range(HALVINGS):
            left = np.flatnonzero(~risen)
            if not len(left):
                break
            here = at[left]
            trial = u[here] + size[left, None, None] * step[left]
            there = eta[:, here].copy()
            there[0] += size[left, None] * along[left]
            part, height = self._slopes(which[here], there, trial, Lambda[here])
            with np.errstate(invalid="ignore"):
                good = height > value[here] - LOST * np.abs(value[here])
            to = here[good]
            u[to], eta[:, to], value[to] = trial[good], there[:, good], height[good]
            for whole, new in zip(state, part, strict=True):
                whole[to] = new[good]
            risen[left[good]] = True
            size[left[~good]] *= 0.5
        return risen

    def _along(self, u: np.ndarray, Lambda: np.ndarray) -> np.ndarray:
        return self.grouped.spread(np.einsum("sij,sqj->sqi", Lambda, u))

    def _slopes(
        self, which: np.ndarray, eta: np.ndarray, u: np.ndarray, Lambda: np.ndarray
    ) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        """Give gradient `(s, q, p)` and Z'WZ, and the joint log density `(s,)`."""
        found = self.rows(which, eta, 2)
        value = found.value.sum(axis=1) - 0.5 * np.einsum("sqi,sqi->s", u, u)
        score = self.grouped.collect(found.first[0])
        gradient = np.einsum("sji,sqj->sqi", Lambda, score) - u
        return (gradient, self.grouped.products(-found.second[0, 0])), value

    def _gradient(
        self, found: Any, levels: LevelInverse, Lambda: np.ndarray, u: np.ndarray
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """Give slopes by implicit differentiation, as `Laplace` does."""
        g, L = self.grouped, Lambda[:, None]
        inner = L @ levels.inverse @ np.swapaxes(L, 2, 3)
        flat = inner.reshape(*inner.shape[:2], -1)[:, g.level]
        h = np.einsum("snc,nc->sn", flat, g.squares)
        t = -0.5 * h * found.third[:, 0, 0]
        a = levels.times(np.einsum("sji,sqj->sqi", Lambda, g.collect(t[0])))
        moved = self._along(a, Lambda)
        r = found.first - t - found.second[:, 0] * moved
        by_coefficients = [row @ X for X, row in zip(self.X, r, strict=True)]
        traces = (g.products(-found.second[0, 0]) @ L @ levels.inverse).sum(axis=1)
        by_Lambda = (
            np.einsum("sqi,sqj->sij", g.collect(r[0]), u)
            - np.einsum("sqi,sqj->sij", g.collect(found.first[0]), a)
            - traces
        )
        return by_coefficients, by_Lambda
