"""Levels that are related in a known way: by a covariance or a precision between them."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, override

import numpy as np

from glmm_bayes.arrays import NUMPY
from glmm_bayes.covariance.known import Labelled, labelled, refuse_strangers
from glmm_bayes.covariance.levels import Entries, LevelCovariance, Places, WithoutParameters
from glmm_bayes.errors import DataError

LEFT = 1e-10  # of a level's variance, given others: with less there is nothing of its own


@dataclass(frozen=True, eq=False)
class KnownPrecision:
    """
    A precision that has no parameters.

    Attributes
    ----------
    pairs, values
        `(k, 2)` the nodes it has entries between, the larger first, and the entries `(k,)`.
    log_determinant
        Its log |Q|.
    """

    pairs: np.ndarray
    values: np.ndarray
    log_determinant: float


class Known(WithoutParameters):
    """Levels whose precision is known up to the scale that Lambda has."""

    @cached_property
    @abstractmethod
    def known(self) -> KnownPrecision:
        """The precision between the nodes."""

    @property
    @override
    def pairs(self) -> np.ndarray:
        return self.known.pairs

    @override
    def entries(self, theta: Mapping[str, Any], xp: Any = NUMPY) -> Entries:
        return Entries(self.known.values, self.known.log_determinant)


class Relatedness(Known):
    """
    `relmat(x | id, K)`: the covariance between levels is K, times sd^2.

    K is a DataFrame with labels on both sides, or an array, dense or sparse, with `levels`, and
    is taken as it is: with ones on its diagonal, sd is every level's standard deviation. Its
    inverse is dense, but for levels that nothing relates: where it is known to be sparse, or K is
    from a pedigree or a tree, `precmat`, `pedigree` and `phylo` are quicker.
    """

    name = "relmat"

    def __init__(self, places: Places, K: Any, levels: Iterable[Any] | None = None) -> None:
        what = f"The matrix of {places.text!r}"
        self._lay_out(places, labelled(K, levels, what))

    def _lay_out(self, places: Places, given: Labelled) -> None:
        super().__init__(places)
        at = {name: k for k, name in enumerate(given.names)}
        refuse_strangers(places, at, "in its matrix")
        self._given, self._chosen = given, [at[name] for name in places.names]

    @cached_property
    @override
    def known(self) -> KnownPrecision:
        K = self._given.matrix[self._chosen][:, self._chosen]
        pairs, values, log_determinant = [], [], 0.0
        for members in _related(K):
            block = K[members][:, members]
            block = block.toarray() if hasattr(block, "toarray") else block
            inverse, log_of_K = self._inverted(block, members)
            i, j = np.tril_indices(len(members))
            # Members ascend, so that the larger is first here too.
            pairs.append(np.column_stack([members[i], members[j]]))
            values.append(inverse[i, j])
            log_determinant -= log_of_K
        return KnownPrecision(np.concatenate(pairs), np.concatenate(values), log_determinant)

    def _inverted(self, K: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, float]:
        from scipy.linalg.lapack import dpotrf, dpotri

        L, failed = dpotrf(K, lower=1)
        left = np.square(np.diag(L)) / np.diag(K) if not failed else np.zeros(1)
        if failed or left.min() < LEFT:
            worst = failed - 1 if failed else int(np.argmin(left))
            raise DataError(_singular(self.places, members[: worst + 1]))
        inverse, _ = dpotri(L, lower=1)
        return inverse, 2.0 * float(np.log(np.diag(L)).sum())

    @override
    def extended(self, places: Places) -> LevelCovariance:
        more = object.__new__(Relatedness)
        more._lay_out(self.places.joined(places), self._given)
        return more


def _related(K: Any) -> list[np.ndarray]:
    """Put the levels that entries connect together, in ascending order."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    count, group = connected_components(csr_array(K), directed=False)
    order = np.argsort(group, kind="stable")
    return np.split(order, np.cumsum(np.bincount(group, minlength=count))[:-1])


def _singular(places: Places, members: np.ndarray) -> str:
    return (
        f"The matrix of {places.text!r} is not positive definite: {places.names[members[-1]]!r} "
        f"has no variance left, given the levels before it. Levels that are the same, such as "
        f"clones, should have one name; a matrix of low rank needs something on its diagonal, "
        f"such as K + 0.01 I."
    )


class PrecisionMatrix(Known):
    """
    `precmat(x | id, Q)`: the precision between levels is Q, over sd^2; sparse or dense.

    Q is a DataFrame with labels on both sides, or an array, dense or sparse, with `levels`. Those
    that have no data are effects too, as all are that others depend on.
    """

    name = "precmat"

    def __init__(self, places: Places, Q: Any, levels: Iterable[Any] | None = None) -> None:
        super().__init__(places)
        given = labelled(Q, levels, f"The matrix of {places.text!r}")
        refuse_strangers(places, set(given.names), "in its matrix")
        own = set(places.names)
        self._names = (*places.names, *(name for name in given.names if name not in own))
        self._given = given

    @property
    @override
    def nodes(self) -> tuple[str, ...]:
        return self._names

    @cached_property
    @override
    def known(self) -> KnownPrecision:
        from scipy.sparse import coo_array, csr_array

        at = {name: k for k, name in enumerate(self._given.names)}
        order = [at[name] for name in self._names]
        Q = csr_array(self._given.matrix)[order][:, order]
        log_determinant = self._log_determinant(Q)
        lower = coo_array(Q)
        i, j = lower.coords
        keep = i >= j
        pairs = np.column_stack([i[keep], j[keep]]).astype(np.intp)
        return KnownPrecision(pairs, lower.data[keep], log_determinant)

    def _log_determinant(self, Q: Any) -> float:
        from scipy.sparse.linalg import splu

        diagonal = Q.diagonal()
        try:
            if not (diagonal > 0).all():
                raise RuntimeError("a variance is not positive")
            # Without a choice of pivots L U is L D L', and D tells of the definiteness.
            found = splu(
                Q.tocsc(),
                permc_spec="MMD_AT_PLUS_A",
                diag_pivot_thresh=0.0,
                options={"SymmetricMode": True},
            )
            left = found.U.diagonal() / diagonal[np.argsort(found.perm_c)]
            if not (found.perm_r == found.perm_c).all() or left.min() < LEFT:
                raise RuntimeError("a pivot is not positive")
        except RuntimeError as error:
            raise DataError(
                f"The matrix of {self.places.text!r} is not positive definite. For one whose rows "
                f"sum to zero use icar or bym2; a singular one needs something on its diagonal, "
                f"such as Q + 0.001 I."
            ) from error
        return float(np.log(found.U.diagonal()).sum())
