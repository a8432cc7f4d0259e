"""Rows in clusters that are independent; those of a normal response with their covariance."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from glmm_bayes.errors import DataError, NotSupportedError
from glmm_bayes.model import Model
from glmm_bayes.modes.mode import Mode
from glmm_bayes.modes.normal import effects_matrix, mean_residual, precisions
from glmm_bayes.modes.reading import centred_columns
from glmm_bayes.terms import RandomTerm

LARGEST = 5000  # rows of one cluster, whose covariance is a dense matrix


@dataclass(frozen=True, eq=False)
class Cluster:
    """
    Some rows, at the estimates.

    Attributes
    ----------
    rows
        `(m,)` which they are.
    X, V, e
        `(m, k)` centred columns of the free coefficients, `(m, m)` the covariance, and `(m,)` the
        residuals from the mean's fixed part.
    """

    rows: np.ndarray
    X: np.ndarray
    V: np.ndarray
    e: np.ndarray


def independent_rows(model: Model) -> np.ndarray:
    """
    Give the number of each row's cluster `(n,)`: rows that share an effect are in one.

    Effects of a process or of relatives depend on each other, and are in one with all others.
    """
    from scipy.sparse import csr_array, hstack
    from scipy.sparse.csgraph import connected_components

    found = [model.design.effects_matrix(p.name) for p in model.family.parameters]
    parts = [abs(Z) for Z in found if Z is not None]
    if not parts:
        return np.arange(model.nobs)
    met = sum(parts[1:], start=parts[0])
    levels, at = [], 0
    for term in model.design.terms:
        own = met[:, at : at + len(term.levels) * term.size]
        at += own.shape[1]
        # Columns of one level belong together, as do levels that depend on each other.
        group = np.repeat(_together(term), term.size)
        shape = (len(group), int(group.max(initial=-1)) + 1)
        levels.append(own @ csr_array((np.ones(len(group)), (np.arange(len(group)), group)), shape))
    Z = hstack(levels, format="csr")
    return connected_components(Z @ Z.T, directed=False)[1]


def _together(term: RandomTerm) -> np.ndarray:
    """Give each level's number `(q,)`, the same for those that depend on each other."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    q, pairs = len(term.levels), term.level_structure.pairs
    if pairs is None:
        return np.arange(q)
    met = csr_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (q, q))
    return connected_components(met, directed=False)[1]


def check_apart(inside: np.ndarray, label: np.ndarray, name: str) -> None:
    """
    Check that rows of two clusters, as numbered `(n,)`, share no random effect.

    Raises
    ------
    DataError
        If they do.
    """
    apart = len(np.unique(np.stack([inside, label]), axis=1).T)
    if apart > len(np.unique(inside)):
        raise DataError(
            f"Rows of different {name} share random effects, so that these are no independent "
            f"clusters; choose coarser ones, or leave `cluster` out."
        )


def clusters(mode: Mode, label: np.ndarray, name: str) -> Iterator[Cluster]:
    """
    Give the rows by clusters, as numbered `(n,)` from 0.

    Raises
    ------
    DataError
        If rows of two clusters share a random effect.
    NotSupportedError
        If a cluster is too large.
    """
    model, c = mode.coordinates.model, mode.coordinates
    check_apart(independent_rows(model), label, name)
    if np.bincount(label).max() > LARGEST:
        raise NotSupportedError(
            f"One of the {name} has {np.bincount(label).max()} rows, more than the {LARGEST} of "
            f"which the covariance is computed."
        )
    Z, w = effects_matrix(model), precisions(model, c.split(mode.x)[1])
    parts = zip(model.design.terms, c.Lambdas(mode.x), strict=True)
    G = _block_diagonal([(len(t.levels), L @ L.T) for t, L in parts])
    X, e = centred_columns(model, "mu")[:, np.isnan(c.held[0])], mean_residual(mode)
    order = np.argsort(label, kind="stable")
    for rows in np.split(order, np.cumsum(np.bincount(label))[:-1]):
        own = Z[rows]
        V = (own @ G @ own.T).toarray() + np.diag(1 / w[rows])
        yield Cluster(rows, X[rows], V, e[rows])


def _block_diagonal(parts: list[tuple[int, np.ndarray]]) -> Any:
    from scipy.sparse import block_diag, csr_array, eye_array, kron

    if not parts:
        return csr_array((0, 0))
    return block_diag([kron(eye_array(q), G) for q, G in parts], format="csr")
