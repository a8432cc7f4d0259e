"""Rows in clusters that are independent; those of a normal response with their covariance."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from glmm_bayes.engine.latent import Pattern
from glmm_bayes.errors import DataError, NotSupportedError
from glmm_bayes.model import Model
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.mode import Mode
from glmm_bayes.modes.normal import mean_residual, precisions
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


# ---- which rows belong together


def independent_rows(model: Model) -> np.ndarray:
    """
    Give the number of each row's cluster `(n,)`: rows that share an effect are in one.

    Effects of a process or of relatives depend on each other, and are in one with all others, as
    are rows whose residuals vary together.
    """
    from scipy.sparse import csr_array, hstack
    from scipy.sparse.csgraph import connected_components

    n, residual = model.nobs, model.design.residual
    met = csr_array((n, n))
    if residual is not None:
        i, j = residual.pairs.T
        met = csr_array((np.ones(len(i)), (i, j)), (n, n))
    found = [model.design.effects_matrix(p.name) for p in model.family.parameters]
    parts = [abs(Z) for Z in found if Z is not None]
    if parts:
        whole = sum(parts[1:], start=parts[0])
        levels, at = [], 0
        for term in model.design.terms:
            own = whole[:, at : at + len(term.levels) * term.size]
            at += own.shape[1]
            # Columns of one level belong together, as do levels that depend on each other.
            group = np.repeat(levels_together(term), term.size)
            shape = (len(group), int(group.max(initial=-1)) + 1)
            ones = np.ones(len(group)), (np.arange(len(group)), group)
            levels.append(own @ csr_array(ones, shape))
        Z = hstack(levels, format="csr")
        met = met + Z @ Z.T
    return connected_components(met, directed=False)[1]


def levels_together(term: RandomTerm) -> np.ndarray:
    """Give each level's number `(q,)`, the same for those that depend on each other."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    q, pairs = len(term.levels), term.level_structure.pairs
    if pairs is None:
        return np.arange(q)
    met = csr_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (q, q))
    return connected_components(met, directed=False)[1]


def grouped(term: RandomTerm) -> tuple[np.ndarray, tuple[str, ...]]:
    """
    Give which of a term's groups each row `(n,)` is in, and what they are called.

    Of a process along time or in space the groups are those after the bar, each with all of its
    times or places; of others the levels themselves.
    """
    level = term.index[:, 0]
    if not term.addressing.positions:
        return level, term.levels[: term.shown]
    return term.level_structure.places.process[level], term.addressing.groups


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


# ---- of a normal response


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
    check_size(label, LARGEST, name)
    found = Covariances(c, label)
    X, e = centred_columns(model, "mu")[:, np.isnan(c.held[0])], mean_residual(mode)
    for rows, V in zip(found.rows, found.at(mode.x), strict=True):
        yield Cluster(rows, X[rows], V, e[rows])


def check_size(label: np.ndarray, most: int, name: str) -> None:
    """
    Check that no cluster has too many rows.

    Raises
    ------
    NotSupportedError
        If one has.
    """
    largest = int(np.bincount(label).max())
    if largest > most:
        raise NotSupportedError(
            f"One of the {name} has {largest} rows, more than the {most} of which the covariance "
            f"is computed."
        )


@dataclass(frozen=True, eq=False)
class Covariances:
    """
    The covariance of a normal response, a cluster at a time, as a function of the coordinates.

    Parameters
    ----------
    label
        `(n,)` the rows' clusters from 0, which share nothing.

    Notes
    -----
    V = sum over terms of Z (K x Lambda Lambda') Z' + S R S: K the covariance between levels, S the
    residuals' standard deviations and R their correlations.
    """

    coordinates: Coordinates
    label: np.ndarray

    @cached_property
    def rows(self) -> list[np.ndarray]:
        """The rows of each cluster."""
        order = np.argsort(self.label, kind="stable")
        return np.split(order, np.cumsum(np.bincount(self.label))[:-1])

    @cached_property
    def _loads(self) -> list[list[tuple[np.ndarray, np.ndarray]]]:
        """By cluster and term its levels `(q,)` and columns `(m, q, p)`."""
        terms = self.coordinates.model.design.terms
        whole = [(term.Z("mu").tocsr(), self._levels(term)) for term in terms]
        found = []
        for k, rows in enumerate(self.rows):
            own = []
            for term, (Z, levels) in zip(terms, whole, strict=True):
                at = levels[k]
                columns = (at[:, None] * term.size + np.arange(term.size)).ravel()
                part = Z[rows][:, columns].toarray()
                own.append((at, part.reshape(len(rows), len(at), term.size)))
            found.append(own)
        return found

    def _levels(self, term: RandomTerm) -> list[np.ndarray]:
        """Give the levels of a term that belong to each cluster, none that no row meets."""
        together = levels_together(term)
        owner = np.full(int(together.max(initial=-1)) + 1, -1)
        owner[together[term.index]] = self.label[:, None]
        of_level = owner[together]
        order = np.argsort(of_level, kind="stable")
        bounds = np.searchsorted(of_level[order], np.arange(len(self.rows) + 1))
        return [order[i:j] for i, j in zip(bounds[:-1], bounds[1:], strict=True)]

    @cached_property
    def _patterns(self) -> list[Pattern | None]:
        return [Pattern.of(t.level_structure) for t in self.coordinates.model.design.terms]

    def at(self, x: np.ndarray) -> list[np.ndarray]:
        """
        Give V `(m, m)` of every cluster.

        Raises
        ------
        NotSupportedError
            If levels have no proper covariance.
        """
        c = self.coordinates
        sd = 1 / np.sqrt(precisions(c.model, c.split(x)[1]))
        Lambdas, Qs, R = c.Lambdas(x), self._between(x), self._residual(x)
        found = []
        for rows, loads in zip(self.rows, self._loads, strict=True):
            s = sd[rows]
            V = np.diag(s**2) if R is None else s[:, None] * _inverse(R, rows) * s
            for (levels, Z), L, Q in zip(loads, Lambdas, Qs, strict=True):
                V += _spread(Z @ L, None if Q is None else _inverse(Q, levels))
            found.append(V)
        return found

    def _between(self, x: np.ndarray) -> list[Any]:
        """Give each term's precision between levels, sparse; None where they are independent."""
        found: list[Any] = []
        parts = zip(self._patterns, self.coordinates.precisions(x), strict=True)
        terms = self.coordinates.model.design.terms
        for (pattern, Q), term in zip(parts, terms, strict=True):
            if pattern is None or Q is None:
                found.append(None)
                continue
            if pattern.held is not None:
                raise NotSupportedError(
                    f"The levels of {term.text!r} have no proper covariance, as sandwiches and "
                    f"small-sample degrees of freedom need; use kind='model' or ddf='asymptotic'."
                )
            found.append(pattern.matrix(Q.values))
        return found

    def _residual(self, x: np.ndarray) -> Any:
        """Give the residuals' precision over their variances, sparse; None if independent."""
        c, residual = self.coordinates, self.coordinates.model.design.residual
        if residual is None:
            return None
        pattern = Pattern(c.model.nobs, residual.pairs)
        return pattern.matrix(c.residual_precision(x).values)


def _inverse(Q: Any, at: np.ndarray) -> np.ndarray:
    """Invert the part of a sparse precision that is independent of the rest."""
    return np.linalg.inv(Q[at][:, at].toarray())


def _spread(Z: np.ndarray, K: np.ndarray | None) -> np.ndarray:
    """Give how rows vary with standard effects: Z `(m, q, p)`, K `(q, q)` between levels."""
    m = len(Z)
    if K is None:
        flat = Z.reshape(m, -1)
        return flat @ flat.T
    return sum((part @ K @ part.T for part in np.moveaxis(Z, 2, 0)), np.zeros((m, m)))
