"""Matérn fields over many places, as a Markov field on a mesh."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, override

import numpy as np

from glmm_bayes.arrays import NUMPY
from glmm_bayes.covariance.levels import Entries, LevelCovariance, Places
from glmm_bayes.covariance.mesh import Mesh
from glmm_bayes.covariance.structure import CovarianceParameter
from glmm_bayes.errors import DataError
from glmm_bayes.priors import Prior


class StochasticEquation(LevelCovariance):
    """
    `spde(x + y | 1, edge=…)`: a Matérn field of smoothness 1, on a mesh of triangles; sparse.

    A place has the values of the corners of its triangle, linearly between them. Parameters:
    `range` > 0, in the unit of the coordinates, at which the correlation is about 0.14. Inside of
    the region the variance is one. `mesh` is one of yours; else triangles have sides of `edge`,
    and go on for `extend` beyond the places.

    Notes
    -----
    Lindgren, Rue & Lindström (2011), J. Royal Statistical Society B 73, 423-498: with masses C and
    stiffness G, Q = (k^4 C + 2 k^2 G + G C^-1 G) / (4 pi k^2), k = sqrt(8) / range. The default
    prior of the range is the penalised complexity prior of Fuglstad et al. (2019), J. American
    Statistical Association 114, 445-452, one in twenty below a twentieth of the region.
    """

    name = "spde"
    positioned = True

    def __init__(
        self,
        places: Places,
        mesh: Any = None,
        *,
        edge: float | None = None,
        extend: float | None = None,
    ) -> None:
        super().__init__(places)
        if places.at.shape[1] != 2:
            raise DataError(f"{places.text!r} needs two coordinates, in a plane.")
        if len(np.unique(places.process)) > 1:
            raise DataError(
                f"{places.text!r} is one field for all rows: write | 1 in place of the group."
            )
        self.mesh = (
            Mesh.over(places.at, edge=edge, extend=extend)
            if mesh is None
            else Mesh.read(mesh, places.text)
        )
        self.located(places)

    @cached_property
    @override
    def nodes(self) -> tuple[str, ...]:
        return tuple(f"{x:.6g},{y:.6g}" for x, y in self.mesh.points)

    @property
    @override
    def shown(self) -> int:
        return len(self.mesh.points)

    @override
    def located(self, places: Places) -> tuple[np.ndarray, np.ndarray]:
        try:
            return self.mesh.located(places.at)
        except LookupError as error:
            place = ", ".join(f"{x:g}" for x in places.at[error.args[0]])
            raise DataError(
                f"The place ({place}) lies outside of the mesh of {self.places.text!r}: give it a "
                f"larger `extend`, or a mesh that has it."
            ) from None

    @override
    def extended(self, places: Places) -> LevelCovariance:
        return self

    @override
    def parameters(self, size: int) -> tuple[CovarianceParameter, ...]:
        return (CovarianceParameter("range", "range", 1, False, (0.0, np.inf)),)

    @override
    def default_prior(self, key: str) -> Prior | None:
        rate = -np.log(0.05) * 0.05 * self._side
        return Prior("InverseGamma", alpha=1.0, beta=float(f"{rate:.3g}"))

    @override
    def start(self) -> dict[str, np.ndarray]:
        return {"range": np.full(1, 0.25 * self._side)}

    @property
    def _side(self) -> float:
        return float(np.ptp(self.places.at, axis=0).max()) or 1.0

    @cached_property
    def _parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The pairs, and there the entries of C, G and G C^-1 G."""
        from scipy.sparse import csr_array, diags_array, tril

        mass, G = self.mesh.elements
        C, twice = diags_array(mass), csr_array(G @ diags_array(1 / mass) @ G)
        pattern = tril(abs(twice) + abs(G) + C).tocoo()
        i, j = pattern.row.astype(np.intp), pattern.col.astype(np.intp)
        c, g, gg = (np.asarray(csr_array(part)[i, j]).ravel() for part in (C, G, twice))
        return np.column_stack([i, j]), c, g, gg

    @property
    @override
    def pairs(self) -> np.ndarray:
        return self._parts[0]

    @override
    def entries(self, theta: Mapping[str, Any], xp: Any = NUMPY) -> Entries:
        pairs, c, g, gg = self._parts
        k2 = 8.0 / (theta["range"][0] * theta["range"][0])
        values = (k2 * k2 * c + 2.0 * k2 * g + gg) / (4 * np.pi * k2)
        return Entries(values, xp.log_determinant(values, pairs, len(self.mesh.points)))
