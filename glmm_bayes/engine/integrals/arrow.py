"""The joint Hessian of nested effects, unit by unit, and their mode: for a batch at once.

Shapes as in `chain`; lists go from the coarsest of the groupings that are left to the finest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from glmm_bayes.engine.integrals.chain import Grouping
from glmm_bayes.engine.newton import Rows, positive_part
from glmm_bayes.errors import ConvergenceError

MOST_STEPS, HALVINGS = 60, 30
ENOUGH = 1e-24  # of the decrement: the integral is to be smooth in the parameters to many digits
LOST = 1e-10  # a decrement that may be lost in the rounding of the log density

type Parts = list[np.ndarray]


@dataclass(frozen=True, eq=False)
class Arrow:
    """
    A factored Hessian H = J' W J + I = sum over groupings l of T_l^-T S_l T_l^-1.

    Eliminating the finest first makes S the Schur complement of each; H^-1 is then the sum of
    T_l S_l^-1 T_l', with T_l the finer effects' answer to those of l.

    Attributes
    ----------
    J, Y
        By grouping, the columns `(R, k, n)` and J T `(R, k, D, n)`.
    G
        By pair of a finer and a coarser grouping, `(k', k, D, G')`: minus the answer of the one
        to the other, the groupings between held.
    C
        By grouping `(D, G, k, k)`, with C C' = S^-1, upper triangular.
    """

    groupings: Sequence[Grouping]
    J: Parts
    Y: Parts
    G: dict[tuple[int, int], np.ndarray]
    C: Parts

    @classmethod
    def factor(cls, groupings: Sequence[Grouping], J: Parts, W: np.ndarray) -> Self:
        """
        Factor with weights W `(R, R, D, n)`.

        Raises
        ------
        LinAlgError
            If a unit's part is not positive definite.
        """
        last = len(groupings) - 1
        Y = [np.repeat(j[:, :, None, :], W.shape[2], axis=2) for j in J]
        C: Parts = [np.empty(0)] * len(J)
        G = {}
        for f in range(last, -1, -1):
            WY = np.einsum("rsdn,radn->sadn", W, Y[f])
            S = groupings[f].total(np.einsum("sadn,sbn->abdn", WY, J[f]))
            C[f] = _inverse_root(S)
            for c in range(f):
                cross = groupings[f].total(np.einsum("sadn,sbn->abdn", WY, J[c]))
                G[f, c] = _weighted(C[f], cross)
                Y[c] -= np.einsum("radn,abdn->rbdn", Y[f], G[f, c][..., groupings[f].unit])
        return cls(groupings, J, Y, G, C)

    @property
    def log_root(self) -> np.ndarray:
        """The log determinants `(D, G)` of the coarsest grouping's C."""
        return np.log(np.diagonal(self.C[0], axis1=2, axis2=3)).sum(axis=-1)

    def collect(self, r: np.ndarray) -> Parts:
        """Give J' r by grouping `(k, D, G)`, from `(R, D, n)`."""
        return [
            g.total(np.einsum("rkn,rdn->kdn", J, r))
            for g, J in zip(self.groupings, self.J, strict=True)
        ]

    def spread(self, u: Parts) -> np.ndarray:
        """Give J u, `(R, D, n)`."""
        return spread(self.groupings, self.J, u)

    def solve(self, g: Parts) -> Parts:
        """Give H^-1 g by grouping."""
        right = [part.copy() for part in g]
        for (f, c), G in sorted(self.G.items(), reverse=True):
            moved = np.einsum("abdg,adg->bdg", G, right[f])
            right[c] -= self.groupings[c].within(self.groupings[f], moved)
        own = [
            np.einsum("dgab,dgcb,cdg->adg", C, C, r, optimize=True)
            for C, r in zip(self.C, right, strict=True)
        ]
        return self._answered(own)

    def answer(self, v: np.ndarray) -> Parts:
        """Move the coarsest grouping's effects by v `(k, D, G)`, and the finer ones with it."""
        zeros = [np.zeros((J.shape[1], v.shape[1], len(g.starts))) for g, J in self._pairs[1:]]
        return self._answered([v, *zeros])

    @property
    def _pairs(self) -> list[tuple[Grouping, np.ndarray]]:
        return list(zip(self.groupings, self.J, strict=True))

    def _answered(self, own: Parts) -> Parts:
        found: Parts = []
        for f, part in enumerate(own):
            moved = part
            for c in range(f):
                over = self.groupings[c].over(self.groupings[f], found[c])
                moved = moved - np.einsum("abdg,bdg->adg", self.G[f, c], over)
            found.append(moved)
        return found


def spread(groupings: Sequence[Grouping], J: Parts, u: Parts) -> np.ndarray:
    """Give the sum of J u over the groupings, `(R, D, n)`."""
    parts = [
        np.einsum("rkn,kdn->rdn", columns, part[..., g.unit])
        for g, columns, part in zip(groupings, J, u, strict=True)
    ]
    return sum(parts[1:], parts[0])


def _inverse_root(S: np.ndarray) -> np.ndarray:
    """Give the upper triangular root `(D, G, k, k)` of (S + I)^-1, from `(k, k, D, G)`."""
    k = len(S)
    if k == 1:
        with np.errstate(invalid="ignore"):
            root = 1 / np.sqrt(1 + S)
        if not np.isfinite(root).all():
            raise np.linalg.LinAlgError("the Hessian of the effects is not positive definite")
        return np.moveaxis(root, (0, 1), (2, 3))
    S = np.moveaxis(S, (0, 1), (2, 3))
    if not np.isfinite(S).all():
        raise np.linalg.LinAlgError("the Hessian of the effects is not finite")
    L = np.linalg.cholesky(0.5 * (S + S.swapaxes(2, 3)) + np.eye(k))
    return np.triu(np.linalg.inv(L).swapaxes(2, 3))


def _weighted(C: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Give C C' x `(k, m, D, G)`."""
    if C.shape[-1] == 1:
        return C[None, :, :, 0, 0] ** 2 * x
    return np.einsum("dgab,dgcb,cmdg->amdg", C, C, x, optimize=True)


# ---- the mode


@dataclass(frozen=True, eq=False)
class Found:
    """Effects by grouping `(k, D, G)`, their predictors `(P, D, n)`, and the Hessian there."""

    u: Parts
    eta: np.ndarray
    arrow: Arrow


@dataclass(eq=False)
class Climb:
    """
    Newton's method for every coarsest unit of every member of a batch.

    Attributes
    ----------
    base
        `(P, D, n)` the predictors without the effects.
    R
        The numbers of the predictors with effects.
    rows
        As in `laplace`, for `(P, D, n)`.
    """

    groupings: Sequence[Grouping]
    J: Parts
    R: np.ndarray
    rows: Rows
    base: np.ndarray

    def mode(self, u: Parts) -> Found:
        """
        Climb from u.

        Raises
        ------
        ConvergenceError
            If a unit's mode is not reached.
        """
        at = self._at(u)
        for _ in range(MOST_STEPS):
            arrow, exact = self._arrow(at.found.second)
            collected = arrow.collect(at.found.first[self.R])
            g = [c - part for c, part in zip(collected, at.u, strict=True)]
            step = arrow.solve(g)
            decrement = self._inner(g, step)
            left = ~(decrement < ENOUGH * np.maximum(1.0, np.abs(at.height)))
            moved = self._step(at, step, decrement, left) if left.any() else None
            if exact and moved is None:
                return Found(at.u, at.eta, arrow)
            at = moved or at
        raise ConvergenceError(
            f"The mode of the random effects was not reached in {MOST_STEPS} Newton steps "
            f"(decrement {float(decrement.max()):.2g}); scale the predictors."
        )

    def _at(self, u: Parts) -> "_Point":
        eta = self.base.copy()
        eta[self.R] += spread(self.groupings, self.J, u)
        found = self.rows(eta, 2, list(self.R))
        height = self.groupings[0].total(found.value) - 0.5 * self._inner(u, u)
        return _Point(u, eta, found, height)

    def _inner(self, a: Parts, b: Parts) -> np.ndarray:
        top = self.groupings[0]
        parts = [
            top.within(g, (x * y).sum(axis=0)) for g, x, y in zip(self.groupings, a, b, strict=True)
        ]
        return sum(parts[1:], parts[0])

    def _arrow(self, second: np.ndarray) -> tuple[Arrow, bool]:
        W = -second[np.ix_(self.R, self.R)]
        try:
            return Arrow.factor(self.groupings, self.J, W), True
        except np.linalg.LinAlgError:
            flat = positive_part(W.reshape(*W.shape[:2], -1)).reshape(W.shape)
            return Arrow.factor(self.groupings, self.J, flat), False

    def _step(
        self, at: "_Point", step: Parts, decrement: np.ndarray, left: np.ndarray
    ) -> "_Point | None":
        """Step in the units that are left, each by half until it rises; None if none can."""
        top, size = self.groupings[0], left.astype(float)
        for _ in range(HALVINGS):
            moved = self._at(
                [
                    part + top.over(g, size) * change
                    for g, part, change in zip(self.groupings, at.u, step, strict=True)
                ]
            )
            falls = (size > 0) & ~(moved.height >= at.height - 1e-11 * np.abs(at.height))
            if not falls.any():
                return moved
            # What is left of so short a way is lost in rounding.
            size = np.where(falls, np.where(decrement < LOST, 0.0, 0.5 * size), size)
            if not size.any():
                return None
        raise ConvergenceError(
            f"The mode of the random effects was not found: no step from it rises "
            f"(decrement {float(decrement.max()):.2g}); scale the predictors."
        )


@dataclass(frozen=True, eq=False)
class _Point:
    """Effects, predictors, the rows' expansion, and each coarsest unit's density `(D, G)`."""

    u: Parts
    eta: np.ndarray
    found: Any
    height: np.ndarray
