"""Levels that depend on each other: drawn anew, and drawn given those that are known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from glmm_bayes.residual import Residuals
from glmm_bayes.terms import RandomTerm

type Theta = Mapping[str, np.ndarray]
CHUNK = 256  # rows whose dependence on all levels is held at once


@dataclass(frozen=True, eq=False)
class Given:
    """
    A term's levels beyond the first `known` ones, these given; of independent levels nothing is.

    Notes
    -----
    With Q cut into the known k and the new n, v_n given v_k is normal with mean
    -Q_nn^-1 Q_nk v_k and precision Q_nn: Rue & Held (2005), Gaussian Markov Random Fields, 2.5.
    """

    term: RandomTerm | Residuals
    known: int

    @property
    def count(self) -> int:
        """The number of new levels."""
        return len(self.term.levels) - self.known

    def at(self, theta: Theta) -> "Conditional":
        """Fix the structure's parameters, by name as `Draws.theta` has them."""
        structure = self.term.level_structure
        if structure.pairs is None or not self.count:
            return Conditional(self.known, self.count, None, None)
        names = [p.name for p in structure.parameters(len(self.term.levels))]
        own = {name: np.atleast_1d(theta[f"{name}_{self.term.name}"]) for name in names}
        values = structure.entries(own).values
        new, across = self._pattern
        beside = across.copy()
        beside.data = values[across.data]
        return Conditional(self.known, self.count, self._factored(values[new]), beside)

    def _factored(self, data: np.ndarray) -> Any:
        from glmm_bayes.engine.algebra.updated import Directions, Updated

        held = self.term.level_structure.held
        # What is held is of the levels of the data, which are all new or none.
        if held is None or self.known:
            return self._symbolic.factor(data)
        directions = Directions(*held)
        added = directions.pin(self._symbolic, data)
        return Updated.of(self._symbolic.factor(data), directions, added)

    @cached_property
    def _symbolic(self) -> Any:
        from scipy.sparse import csc_array

        from glmm_bayes.engine.algebra.cholesky import analyse

        i, j = (self._own_pairs - self.known).T
        lower = csc_array((np.ones(len(i)), (i, j)), shape=(self.count, self.count))
        return analyse((lower + lower.T).tocsc())

    @cached_property
    def _own_pairs(self) -> np.ndarray:
        pairs = self.term.level_structure.pairs
        assert pairs is not None
        return pairs[(pairs >= self.known).all(axis=1)]

    @cached_property
    def _pattern(self) -> tuple[np.ndarray, Any]:
        """Which pairs are the new levels' own, as the factor has them; those across, sparse."""
        from scipy.sparse import csr_array

        pairs = self.term.level_structure.pairs
        assert pairs is not None
        own = np.flatnonzero((pairs >= self.known).all(axis=1))
        own = own[np.lexsort((pairs[own, 0], pairs[own, 1]))]
        across = np.flatnonzero((pairs[:, 0] >= self.known) & (pairs[:, 1] < self.known))
        at = pairs[across, 0] - self.known, pairs[across, 1]
        return own, csr_array((across, at), shape=(self.count, self.known), dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Conditional:
    """
    The normal distribution of new levels given known ones, a column of v at a time.

    `factor` is that of Q_nn, `across` Q_nk `(n, k)`; both None where levels are independent, or
    none is new.
    """

    known: int
    count: int
    factor: Any
    across: Any

    def mean(self, b: np.ndarray) -> np.ndarray:
        """Give the means `(n, …)` where the known ones are b `(k, …)`."""
        if self.factor is None or not self.known:
            return np.zeros((self.count, *b.shape[1:]))
        return -self.factor.solve(self.across @ b)

    def noise(self, z: np.ndarray) -> np.ndarray:
        """Turn standard normals `(n, …)` into what they vary about their means."""
        return z if self.factor is None else self.factor.solve_root(z)

    def roots(self, Z: Any) -> np.ndarray:
        """Give w `(n, m)` for sparse Z `(m, n)`: w'w is the covariance of Z v, the known given."""
        dense = Z.toarray().T
        return dense if self.factor is None else self.factor.root_slopes(dense)

    def carried(self, Z: Any) -> Any:
        """Give sparse Z `(m, n)` of new levels as of the known ones, `(m, k)`: by their means."""
        from scipy.sparse import csr_array

        if self.factor is None or not self.known:
            return csr_array((Z.shape[0], self.known))
        return csr_array(-(self.across.T @ self.factor.solve(Z.toarray().T)).T)


def new_effects(
    term: RandomTerm,
    theta: Theta,
    Lambda: np.ndarray,
    known: np.ndarray,
    rng: np.random.Generator | None,
) -> np.ndarray:
    """
    Draw the effects of levels beyond the known ones, given these; without `rng`, their means.

    Parameters
    ----------
    theta, Lambda
        The term's parameters `(S, …)` by name, and its factors `(S, p, p)`.
    known
        `(S, k, p)` the effects of the first k levels.

    Returns
    -------
    ndarray
        `(S, q - k, p)`.
    """
    given = Given(term, known.shape[1])
    shape = (len(known), given.count, term.size)
    if term.level_structure.pairs is None:
        if rng is None:
            return np.zeros(shape)
        return _standard(term, theta, rng, shape) @ Lambda.transpose(0, 2, 1)
    found, at = np.empty(shape), None
    own = {k: theta[k] for k in (f"{name}_{term.name}" for name in _names(term))}
    for s in range(len(known)):
        # Of a maximum all draws are at the same parameters.
        if at is None or any((value[s] != value[s - 1]).any() for value in own.values()):
            at = given.at({name: value[s] for name, value in own.items()})
        found[s] = at.mean(known[s])
        if rng is not None:
            found[s] += at.noise(rng.standard_normal(shape[1:])) @ Lambda[s].T
    return found


def _standard(
    term: RandomTerm, theta: Theta, rng: np.random.Generator, shape: tuple[int, ...]
) -> np.ndarray:
    """Draw v `(S, q, p)` of independent levels, normal or of another distribution."""
    structure = term.level_structure.distribution
    if structure is None:
        return rng.standard_normal(shape)
    own = {name: theta[f"{name}_{term.name}"].reshape(shape[0], -1) for name in _names(term)}
    return structure.drawn(own, rng, shape)


def _names(term: RandomTerm) -> list[str]:
    return [p.name for p in term.level_structure.parameters(len(term.levels))]


def standard_effects(term: RandomTerm, theta: Theta, rng: np.random.Generator) -> np.ndarray:
    """Draw a term's effects in standard units, v `(q, p)`, at parameters by name."""
    at = Given(term, 0).at(theta)
    return at.noise(rng.standard_normal((len(term.levels), term.size)))


def covariance_given(conditional: Conditional, moved: Sequence[Any], p: int) -> np.ndarray:
    """
    Give how rows' predictors vary with new levels, the known ones given.

    Parameters
    ----------
    moved
        By predictor, sparse `(m, n p)`: what the new levels' effects, each column in standard
        units, add to every row.

    Returns
    -------
    ndarray
        `(R, R, m)`.
    """
    R, m = len(moved), moved[0].shape[0]
    found = np.zeros((R, R, m))
    for start in range(0, m, CHUNK):
        rows = slice(start, start + CHUNK)
        for c in range(p):
            roots = [conditional.roots(part[rows][:, c::p]) for part in moved]
            for a in range(R):
                for b in range(R):
                    found[a, b, rows] += (roots[a] * roots[b]).sum(axis=0)
    return found
