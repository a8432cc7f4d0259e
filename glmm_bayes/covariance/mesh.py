"""Triangles over a region: where places are among them, and finite elements of first order."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from glmm_bayes.errors import DataError

CHUNK = 2_000_000  # places times triangles looked at at once
ACROSS = 28  # triangles across the longer side of the data, by default
FLAT = 1e-12  # of the largest area: none
INSIDE = -1e-9  # of a barycentric coordinate: on an edge counts as within


@dataclass(frozen=True, eq=False)
class Mesh:
    """
    A triangulation.

    Attributes
    ----------
    points
        `(N, 2)` the nodes.
    triangles
        `(T, 3)` the nodes of each.
    """

    points: np.ndarray
    triangles: np.ndarray

    @classmethod
    def over(cls, at: np.ndarray, *, edge: float | None, extend: float | None) -> "Mesh":
        """
        Make regular triangles over places `(q, 2)` and some way beyond.

        Parameters
        ----------
        edge
            Their size, in the unit of the coordinates; by default a `ACROSS`-th of the longer side.
        extend
            How far beyond; by default a quarter of the longer side, so that what the boundary does
            to variances does not reach the data.
        """
        from scipy.spatial import Delaunay

        low, high = at.min(axis=0), at.max(axis=0)
        side = float((high - low).max()) or 1.0
        edge = side / ACROSS if edge is None else float(edge)
        extend = 0.25 * side if extend is None else float(extend)
        low, high = low - extend, high + extend
        rows = np.arange(low[1], high[1] + edge, edge * np.sqrt(3) / 2)
        found = []
        for k, y in enumerate(rows):
            x = np.arange(low[0] - 0.5 * edge * (k % 2), high[0] + edge, edge)
            found.append(np.column_stack([x, np.full(len(x), y)]))
        points = np.concatenate(found)
        return cls(points, Delaunay(points).simplices)

    @classmethod
    def read(cls, given: Any, text: str) -> "Mesh":
        """Take a mesh with `points` and `triangles`, or meshio's."""
        points = getattr(given, "points", None)
        triangles = getattr(given, "triangles", None)
        if triangles is None and hasattr(given, "cells_dict"):
            triangles = given.cells_dict.get("triangle")
        if points is None or triangles is None:
            raise DataError(
                f"The mesh of {text!r} should have `points` (N, 2) and `triangles` (T, 3), as "
                f"meshio's meshes do."
            )
        found = cls(np.asarray(points, float)[:, :2], np.asarray(triangles, dtype=np.intp))
        wrong = found._problem()
        if wrong:
            raise DataError(f"The mesh of {text!r} {wrong}.")
        return found

    def _problem(self) -> str | None:
        """Say what is wrong with the triangles, if anything is; continues a sentence."""
        N, corners = len(self.points), self.triangles
        if corners.ndim != 2 or corners.shape[1] != 3 or corners.min() < 0 or corners.max() >= N:
            return f"has triangles whose corners are not three of its points, 0 to {N - 1}"
        if not np.isfinite(self.points).all():
            return "has points that are missing or infinite"
        flat = np.flatnonzero(self.areas <= FLAT * self.areas.max())
        if len(flat):
            return f"has a triangle without an area, number {flat[0]}: take it out"
        alone = np.setdiff1d(np.arange(N), corners)
        if len(alone):
            return f"has a point that is in no triangle, number {alone[0]}: take it out"
        return None

    @property
    def areas(self) -> np.ndarray:
        """Of the triangles `(T,)`."""
        a, b, c = (self.points[self.triangles[:, k]] for k in range(3))
        (x1, y1), (x2, y2) = (b - a).T, (c - a).T
        return 0.5 * np.abs(x1 * y2 - x2 * y1)

    def located(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Give the nodes `(q, 3)` of the triangle each place is in, and its weights of these.

        Raises
        ------
        LookupError
            If a place is in none; its argument is the place's number.
        """
        corners = self.points[self.triangles]
        origin, sides = corners[:, 0], corners[:, 1:] - corners[:, :1]
        inverse = np.linalg.inv(sides.transpose(0, 2, 1))
        index, weights = np.empty((len(at), 3), dtype=np.intp), np.empty((len(at), 3))
        step = max(1, CHUNK // len(corners))
        for start in range(0, len(at), step):
            rows = slice(start, start + step)
            apart = at[rows, None] - origin[None]
            two = np.einsum("tij,qtj->qti", inverse, apart)
            three = np.concatenate([1 - two.sum(axis=2, keepdims=True), two], axis=2)
            least = three.min(axis=2)
            best = least.argmax(axis=1)
            each = np.arange(len(best))
            outside = np.flatnonzero(least[each, best] < INSIDE)
            if len(outside):
                raise LookupError(start + int(outside[0]))
            index[rows], weights[rows] = self.triangles[best], three[each, best]
        return index, weights

    @cached_property
    def elements(self) -> tuple[np.ndarray, Any]:
        """The lumped masses `(N,)`, and the sparse stiffness matrix `(N, N)`."""
        from scipy.sparse import csr_array

        N, corners = len(self.points), self.points[self.triangles]
        # Each corner's edge lies opposite to it.
        e = corners[:, [2, 0, 1]] - corners[:, [1, 2, 0]]
        area = self.areas
        mass = np.bincount(self.triangles.ravel(), np.repeat(area / 3, 3), N)
        values = np.einsum("tid,tjd->tij", e, e) / (4 * area[:, None, None])
        i = np.repeat(self.triangles, 3, axis=1).ravel()
        j = np.tile(self.triangles, (1, 3)).ravel()
        return mass, csr_array((values.ravel(), (i, j)), shape=(N, N))
