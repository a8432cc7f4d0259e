"""Traces and quadratic forms of the slopes of a normal response's covariance, without it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import override

import numpy as np


@dataclass(frozen=True, eq=False)
class Direction:
    """
    A direction of V = D + Z (I x G) Z': whole V + sum over terms of Z (I x part) Z'.

    Attributes
    ----------
    whole
        How much of V itself.
    parts
        By term, `(p, p)`, symmetric; for `DenseSums` `(q p, q p)`, of all its effects.
    """

    whole: float
    parts: Sequence[np.ndarray]


@dataclass(frozen=True, eq=False)
class Stack:
    """
    Clusters of equal shape: s of them, with q levels of each term.

    Attributes
    ----------
    shapes
        By term, its levels in each cluster and its columns `(q, p)`.
    A, B, c
        `(s, N, N)`, `(s, N, k)`, `(s, N)`: Z'D^-1 Z, Z'D^-1 X and Z'D^-1 r of each cluster, its
        effects a term after the other, level by level.
    """

    shapes: Sequence[tuple[int, int]]
    A: np.ndarray
    B: np.ndarray
    c: np.ndarray


@dataclass(frozen=True, eq=False)
class Forms(ABC):
    """
    Traces and quadratic forms of a covariance V's slopes.

    Attributes
    ----------
    n
        Rows.
    Phi
        `(k, k)` the coefficients' covariance, (X'V^-1 X)^-1.
    square
        r'V^-1 r, with r the residual from the coefficients.
    """

    n: float
    Phi: np.ndarray
    square: float

    @cached_property
    def precision(self) -> np.ndarray:
        """The coefficients' `(k, k)` X'V^-1 X."""
        return np.linalg.inv(self.Phi)

    # ---- by one direction, and by two

    def mean_slope(self, i: Direction) -> np.ndarray:
        """Give X'V^-1 V_i V^-1 X, `(k, k)`."""
        return i.whole * self.precision + self._mean(i)

    def mean_cross(self, i: Direction, j: Direction) -> np.ndarray:
        """Give X'V^-1 V_i V^-1 V_j V^-1 X, `(k, k)`."""
        once = i.whole * self._mean(j) + j.whole * self._mean(i)
        return i.whole * j.whole * self.precision + once + self._mean_pair(i, j)

    def trace_of(self, i: Direction) -> float:
        """Give tr(V^-1 V_i)."""
        return i.whole * self.n + self._trace(i)

    def trace_cross(self, i: Direction, j: Direction) -> float:
        """Give tr(V^-1 V_i V^-1 V_j)."""
        once = i.whole * self._trace(j) + j.whole * self._trace(i)
        return i.whole * j.whole * self.n + once + self._trace_pair(i, j)

    def form(self, i: Direction) -> float:
        """Give r'V^-1 V_i V^-1 r."""
        return i.whole * self.square + self._form(i)

    def form_cross(self, i: Direction, j: Direction) -> float:
        """Give r'V^-1 V_i P V_j V^-1 r, with P = V^-1 - V^-1 X Phi X'V^-1."""
        once = i.whole * self._form(j) + j.whole * self._form(i)
        whole = i.whole * j.whole * self.square + once + self._form_pair(i, j)
        return whole - float(self._across(i) @ self.Phi @ self._across(j))

    def restricted_trace(self, i: Direction) -> float:
        """Give tr(P V_i)."""
        return self.trace_of(i) - float(np.sum(self.Phi * self.mean_slope(i)))

    def restricted_cross(self, i: Direction, j: Direction) -> float:
        """Give tr(P V_i P V_j)."""
        ours, theirs = self.Phi @ self.mean_slope(i), self.Phi @ self.mean_slope(j)
        middle = float(np.sum(self.Phi * self.mean_cross(i, j)))
        return self.trace_cross(i, j) - 2 * middle + float(np.sum(ours * theirs.T))

    # ---- the same of the parts alone; S = Z'V^-1 X, M = Z'V^-1 Z, a = Z'V^-1 r, K_i the parts

    @abstractmethod
    def _mean(self, i: Direction) -> np.ndarray:
        """Give S' K_i S."""

    @abstractmethod
    def _mean_pair(self, i: Direction, j: Direction) -> np.ndarray:
        """Give S' K_i M K_j S."""

    @abstractmethod
    def _trace(self, i: Direction) -> float:
        """Give tr(M K_i)."""

    @abstractmethod
    def _trace_pair(self, i: Direction, j: Direction) -> float:
        """Give tr(M K_i M K_j)."""

    @abstractmethod
    def _form(self, i: Direction) -> float:
        """Give a' K_i a."""

    @abstractmethod
    def _form_pair(self, i: Direction, j: Direction) -> float:
        """Give a' K_i M K_j a."""

    @abstractmethod
    def _across(self, i: Direction) -> np.ndarray:
        """Give S' K_i a."""


@dataclass(frozen=True, eq=False)
class Sums(Forms):
    """
    What of Z'V^-1 Z, S = Z'V^-1 X and a = Z'V^-1 r enters traces and forms, summed over levels.

    Attributes
    ----------
    trace, cross
        By term `(p, p)`, by two terms `(p, p, p, p)`: of Z'V^-1 Z, and of its square.
    XX, XZX
        Of S'S by term `(p, p, k, k)`, of S' Z'V^-1 Z S by two terms `(p, p, p, p, k, k)`.
    forms, form_pairs, mean_forms
        Of a a', of a' Z'V^-1 Z a and of a S.

    Notes
    -----
    With V^-1 = D^-1 - D^-1 Z G (I + A G)^-1 Z'D^-1, and A = Z'D^-1 Z, Z'V^-1 Z = (I + A G)^-1 A:
    the rows are passed over once, to make A.
    """

    trace: Sequence[np.ndarray]
    cross: Sequence[Sequence[np.ndarray]]
    XX: Sequence[np.ndarray]
    XZX: Sequence[Sequence[np.ndarray]]
    forms: Sequence[np.ndarray]
    form_pairs: Sequence[Sequence[np.ndarray]]
    mean_forms: Sequence[np.ndarray]

    @override
    def _mean(self, i: Direction) -> np.ndarray:
        return _once(i, self.XX, np.zeros_like(self.Phi))

    @override
    def _mean_pair(self, i: Direction, j: Direction) -> np.ndarray:
        return _twice(i, j, self.XZX, np.zeros_like(self.Phi))

    @override
    def _trace(self, i: Direction) -> float:
        return float(_once(i, self.trace, np.zeros(())))

    @override
    def _trace_pair(self, i: Direction, j: Direction) -> float:
        return float(_twice(i, j, self.cross, np.zeros(())))

    @override
    def _form(self, i: Direction) -> float:
        return float(_once(i, self.forms, np.zeros(())))

    @override
    def _form_pair(self, i: Direction, j: Direction) -> float:
        return float(_twice(i, j, self.form_pairs, np.zeros(())))

    @override
    def _across(self, i: Direction) -> np.ndarray:
        return _once(i, self.mean_forms, np.zeros(len(self.Phi)))


def _once(i: Direction, values: Sequence[np.ndarray], none: np.ndarray) -> np.ndarray:
    return sum((np.tensordot(G, F, axes=2) for G, F in zip(i.parts, values, strict=True)), none)


def _twice(
    i: Direction, j: Direction, values: Sequence[Sequence[np.ndarray]], none: np.ndarray
) -> np.ndarray:
    return sum(
        (
            np.tensordot(K, np.tensordot(G, F, axes=2), axes=2)
            for G, row in zip(i.parts, values, strict=True)
            for K, F in zip(j.parts, row, strict=True)
        ),
        none,
    )


def summed(
    stacks: Sequence[Stack],
    Gs: Sequence[np.ndarray],
    C: np.ndarray,
    xr: np.ndarray,
    rr: float,
    n: float,
) -> Sums:
    """
    Sum over all clusters.

    Parameters
    ----------
    Gs
        By term, the covariance `(p, p)` of a level's effects.
    C, xr, rr
        `(k, k)`, `(k,)`: X'D^-1 X, X'D^-1 r and r'D^-1 r, with r the response less any
        coefficients' part.

    Raises
    ------
    LinAlgError
        If the coefficients are not determined.
    """
    solved = [_solved(stack, Gs) for stack in stacks]
    precision, right, square = C.copy(), xr.copy(), rr
    for stack, (_, S, a) in zip(stacks, solved, strict=True):
        GB = _times(stack.shapes, Gs, stack.B)
        precision -= np.einsum("snj,snk->jk", GB, S)
        right -= np.einsum("snj,sn->j", GB, a)
        square -= float(np.sum(_times(stack.shapes, Gs, stack.c[:, :, None])[:, :, 0] * a))
    precision = 0.5 * (precision + precision.T)
    Phi = np.linalg.inv(precision)
    moved = Phi @ right
    # The residual is from the coefficients that this V gives.
    levels = [
        _by_levels(s.shapes, M, S, a - S @ moved)
        for s, (M, S, a) in zip(stacks, solved, strict=True)
    ]
    return Sums(n, Phi, square - float(right @ moved), *_collected(levels, len(Gs)))


def _solved(stack: Stack, Gs: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give Z'V^-1 Z, Z'V^-1 X and Z'V^-1 r of every cluster."""
    N, k = stack.B.shape[1:]
    H = np.swapaxes(_times(stack.shapes, Gs, stack.A), 1, 2) + np.eye(N)
    found = np.linalg.solve(H, np.concatenate([stack.A, stack.B, stack.c[:, :, None]], axis=2))
    M = found[:, :, :N]
    return 0.5 * (M + np.swapaxes(M, 1, 2)), found[:, :, N : N + k], found[:, :, -1]


def _times(
    shapes: Sequence[tuple[int, int]], Gs: Sequence[np.ndarray], B: np.ndarray
) -> np.ndarray:
    """Multiply `(s, N, k)` by I x G from the left."""
    found, at = np.empty_like(B), 0
    for (q, p), G in zip(shapes, Gs, strict=True):
        part = B[:, at : at + q * p].reshape(len(B), q, p, -1)
        found[:, at : at + q * p] = np.einsum("ab,sqbk->sqak", G, part).reshape(len(B), q * p, -1)
        at += q * p
    return found


type Levels = tuple[list[list[np.ndarray]], list[np.ndarray], list[np.ndarray]]


def _by_levels(
    shapes: Sequence[tuple[int, int]], M: np.ndarray, S: np.ndarray, a: np.ndarray
) -> Levels:
    """Cut the effects into terms, levels and columns."""
    ends = np.cumsum([0, *(q * p for q, p in shapes)])
    at = [slice(i, j) for i, j in zip(ends[:-1], ends[1:], strict=True)]
    s = len(M)
    blocks = [
        [M[:, u, v].reshape(s, *shapes[x], *shapes[y]) for y, v in enumerate(at)]
        for x, u in enumerate(at)
    ]
    return (
        blocks,
        [S[:, u].reshape(s, *shapes[x], -1) for x, u in enumerate(at)],
        [a[:, u].reshape(s, *shapes[x]) for x, u in enumerate(at)],
    )


def _collected(stacks: Sequence[Levels], terms: int) -> tuple:
    """Sum the products over stacks, clusters and levels: see `Sums`."""

    def one(signature: str, *which: str) -> list[np.ndarray]:
        return [
            sum(np.einsum(signature, *(_pick(f, w, t, t) for w in which), optimize=True)
                for f in stacks)
            for t in range(terms)
        ]  # fmt: skip

    def two(signature: str, *which: str) -> list[list[np.ndarray]]:
        return [
            [
                sum(np.einsum(signature, *(_pick(f, w, t, u) for w in which), optimize=True)
                    for f in stacks)
                for u in range(terms)
            ]
            for t in range(terms)
        ]  # fmt: skip

    return (
        one("slalb->ab", "M"),
        two("slbmc,slamd->abcd", "M", "M"),
        one("slaj,slbk->abjk", "S", "S"),
        two("slaj,slbmc,smdk->abcdjk", "S", "M", "R"),
        one("sla,slb->ab", "a", "a"),
        two("sla,slbmc,smd->abcd", "a", "M", "b"),
        one("sla,slbk->abk", "a", "S"),
    )


def _pick(found: Levels, which: str, t: int, u: int) -> np.ndarray:
    """Give M of two terms; S and a of the first (`S`, `a`) or of the second (`R`, `b`)."""
    M, S, a = found
    return {"M": M[t][u], "S": S[t], "R": S[u], "a": a[t], "b": a[u]}[which]
