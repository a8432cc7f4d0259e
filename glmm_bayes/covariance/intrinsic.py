"""Precisions that say nothing of some directions, which are held: a map's sum, a walk's trend."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from glmm_bayes.covariance.levels import block_pairs

HELD = 1e5  # precision of what should be zero, whose variance is one over this
DENSE = 150  # nodes of a part whose precision is written out; of larger ones it stays sparse
CHUNK = 256  # columns of an inverse at once


@dataclass(frozen=True, eq=False)
class Part:
    """
    Nodes that hang together.

    Attributes
    ----------
    nodes
        `(m,)` their numbers.
    Q
        `(m, m)` sparse precision.
    null
        `(m, c)` an orthonormal basis of the directions of which it says nothing.
    pins
        `(c,)` positions among the nodes: no such direction is zero at all of them.
    """

    nodes: np.ndarray
    Q: Any
    null: np.ndarray
    pins: np.ndarray

    @property
    def is_known(self) -> bool:
        """Whether Q says something of some direction."""
        return self.null.shape[1] < len(self.nodes)

    @cached_property
    def _pinned(self) -> tuple[Any, float]:
        """Factor Q with the pinned nodes' own entries doubled; and give its log |Q|, without zeros.

        |Q + E K E'| = |Q| |N' E K E' N|, with N the basis and |Q| of the other directions.
        """
        from scipy.sparse import csc_array
        from scipy.sparse.linalg import splu

        more = np.zeros(len(self.nodes))
        more[self.pins] = self.Q.diagonal()[self.pins]
        every = np.arange(len(more))
        pinned = csc_array(self.Q + csc_array((more, (every, every))))
        factor = splu(pinned, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
        total = np.log(np.abs(factor.U.diagonal())).sum()
        own = np.linalg.slogdet(self.null[self.pins])[1]
        return factor, float(total - np.log(more[self.pins]).sum() - 2.0 * own)

    @property
    def log_determinant(self) -> float:
        """Log |Q| over the directions of which it says something."""
        return self._pinned[1]

    @cached_property
    def variances(self) -> np.ndarray:
        """The diagonal `(m,)` of Q's generalised inverse."""
        m, N = len(self.nodes), self.null
        if m <= DENSE:
            beside = N @ N.T
            return np.diag(np.linalg.inv(self.Q.toarray() + beside) - beside).copy()
        factor = self._pinned[0]
        own = np.empty(m)
        for start in range(0, m, CHUNK):
            at = np.arange(start, min(start + CHUNK, m))
            unit = np.zeros((m, len(at)))
            unit[at, at - start] = 1.0
            own[at] = factor.solve(unit)[at, at - start]
        # Any symmetric generalised inverse G will do: the one is P G P, with P = I - N N'.
        G = factor.solve(N)
        return own - 2.0 * (G * N).sum(axis=1) + np.einsum("ia,ab,ib->i", N, N.T @ G, N)


@dataclass(frozen=True, eq=False)
class Intrinsic:
    """
    A precision of several parts, each with its directions held.

    Attributes
    ----------
    pairs, values
        `(k, 2)` and `(k,)`: its entries, as a structure of levels has them.
    held
        What is beside these, as `LevelCovariance.held`.
    log_determinant
        Of both.
    scales
        What each part's Q is multiplied by.
    """

    pairs: np.ndarray
    values: np.ndarray
    held: tuple[np.ndarray, np.ndarray] | None
    log_determinant: float
    scales: np.ndarray

    @classmethod
    def of(cls, parts: Sequence[Part], size: int, *, scales: np.ndarray) -> "Intrinsic":
        """Put the parts of `size` nodes together."""
        pairs, values, rows, pins, total = [], [], [], [], 0.0
        for part, scale in zip(parts, scales, strict=True):
            m, c = part.null.shape
            if m <= DENSE or not part.is_known:
                Q = scale * part.Q.toarray() + HELD * part.null @ part.null.T
                pairs.append(block_pairs([part.nodes]))
                values.append(Q[np.tril_indices(m)])
                total += float(np.linalg.slogdet(Q)[1])
                continue
            lower = _lower(part.Q)
            pairs.append(np.column_stack([part.nodes[lower[0]], part.nodes[lower[1]]]))
            values.append(scale * lower[2])
            own = np.zeros((c, size))
            own[:, part.nodes] = np.sqrt(HELD) * part.null.T
            rows.append(own)
            pins.append(part.nodes[part.pins])
            total += part.log_determinant + (m - c) * np.log(scale) + c * np.log(HELD)
        held = (np.concatenate(rows), np.concatenate(pins)) if rows else None
        return cls(
            _larger_first(np.concatenate(pairs)), np.concatenate(values), held, total, scales
        )


def typical_scales(parts: Sequence[Part]) -> np.ndarray:
    """
    Give what to multiply each part's Q by for the geometric mean of its variances to be one.

    Notes
    -----
    Sorbye & Rue (2014), Spatial Statistics 8, 39-51.
    """
    return np.array(
        [np.exp(np.mean(np.log(part.variances))) if part.is_known else 1.0 for part in parts]
    )


def _lower(Q: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from scipy.sparse import coo_array, tril

    found = coo_array(tril(Q))
    return found.row.astype(np.intp), found.col.astype(np.intp), found.data


def _larger_first(pairs: np.ndarray) -> np.ndarray:
    return np.column_stack([pairs.max(axis=1), pairs.min(axis=1)])
