"""Neighbourhoods of areas: read from matrices, lists of neighbours and maps, and checked."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from glmm_bayes.errors import DataError


@dataclass(frozen=True, eq=False)
class Graph:
    """
    Which areas are neighbours, and with what weights.

    Attributes
    ----------
    names
        `(q,)` the areas.
    W
        `(q, q)` sparse weights, zero on the diagonal.
    """

    names: tuple[str, ...]
    W: Any

    def ordered(self, first: Sequence[str], text: str) -> "Graph":
        """
        Put some areas first.

        Raises
        ------
        DataError
            If one of them is not in the graph.
        """
        place = {name: k for k, name in enumerate(self.names)}
        for name in first:
            if name not in place:
                raise DataError(
                    f"The area {name!r} of {text!r} is not among the {len(place)} areas of its "
                    f"neighbourhoods: {', '.join(self.names[:6])}, …"
                )
        order = [place[name] for name in first]
        order += sorted(set(range(len(place))) - set(order))
        return Graph(tuple(self.names[k] for k in order), self.W[order][:, order].tocsr())

    def symmetric(self, text: str) -> "Graph":
        """Give this graph, if it is symmetric."""
        gap = abs(self.W - self.W.T)
        if gap.nnz and gap.max() > 1e-10 * abs(self.W).max():
            i, j = (int(k[0]) for k in gap.nonzero())
            raise DataError(
                f"The neighbourhoods of {text!r} are not symmetric: {self.names[i]!r} and "
                f"{self.names[j]!r} have the weights {self.W[i, j]:g} and {self.W[j, i]:g}."
            )
        return self

    @property
    def parts(self) -> np.ndarray:
        """The number `(q,)` of the connected part of every area."""
        from scipy.sparse.csgraph import connected_components

        return connected_components(self.W, directed=False)[1]


def read_graph(W: Any, levels: Sequence[str], text: str) -> Graph:
    """
    Read neighbourhoods.

    Parameters
    ----------
    W
        A data frame with areas as both index and columns; a data frame of two columns, the two
        areas of an edge each, with a third for weights; a mapping from areas to their neighbours,
        or an object with such `neighbors` (libpysal's) and perhaps `weights`; a frame with
        geometries (geopandas'), of which those that touch are neighbours; or a matrix, dense or
        sparse, whose rows are the `levels` in their order.

    Raises
    ------
    DataError
        If it is none of these, or an area is its own neighbour, or a weight is negative.
    """
    if hasattr(W, "geometry") and hasattr(W, "sindex"):
        names, edges = _of_map(W)
    elif hasattr(W, "neighbors"):
        names, edges = _of_lists(W.neighbors, getattr(W, "weights", None))
    elif isinstance(W, Mapping):
        names, edges = _of_lists(W, None)
    elif hasattr(W, "columns") and hasattr(W, "index"):
        names, edges = _of_frame(W, text)
    else:
        return _checked(*_of_matrix(W, levels, text), text)
    from scipy.sparse import csr_array

    place = {name: k for k, name in enumerate(names)}
    i = np.array([place[a] for a, _, _ in edges], dtype=np.intp)
    j = np.array([place[b] for _, b, _ in edges], dtype=np.intp)
    w = np.array([weight for _, _, weight in edges], dtype=float)
    found = csr_array((w, (i, j)), shape=(len(names), len(names)))
    return _checked(names, found, text)


type Edge = tuple[str, str, float]


def _label(value: Any) -> str:
    is_whole = isinstance(value, float | np.floating) and value == int(value)
    return str(int(value)) if is_whole else str(value)


def _of_map(frame: Any) -> tuple[tuple[str, ...], list[Edge]]:
    names = tuple(map(_label, frame.index))
    one, other = frame.sindex.query(frame.geometry, predicate="intersects")
    return names, [(names[a], names[b], 1.0) for a, b in zip(one, other, strict=True) if a != b]


def _of_lists(
    neighbours: Mapping[Any, Iterable[Any]], weights: Mapping[Any, Iterable[float]] | None
) -> tuple[tuple[str, ...], list[Edge]]:
    names = dict.fromkeys(map(_label, neighbours))
    edges: list[Edge] = []
    for area, others in neighbours.items():
        listed = list(others)
        own = [1.0] * len(listed) if weights is None else list(weights[area])
        for other, weight in zip(listed, own, strict=True):
            names.setdefault(_label(other))
            edges.append((_label(area), _label(other), float(weight)))
    return tuple(names), edges


def _of_frame(frame: Any, text: str) -> tuple[tuple[str, ...], list[Edge]]:
    rows, columns = list(map(_label, frame.index)), list(map(_label, frame.columns))
    if len(rows) == len(columns) and set(rows) == set(columns):
        values = frame.to_numpy(dtype=float)
        i, j = np.nonzero(values)
        return tuple(rows), [
            (rows[a], columns[b], float(values[a, b])) for a, b in zip(i, j, strict=True)
        ]
    if len(columns) not in (2, 3):
        raise DataError(
            f"The neighbourhoods of {text!r} are a frame of {len(columns)} columns: give the two "
            f"areas of every edge, or a square one with areas as both index and columns."
        )
    values = frame.iloc[:, 2] if len(columns) == 3 else np.ones(len(rows))
    once = {
        frozenset((a, b)): (a, b, float(w))
        for a, b, w in zip(
            map(_label, frame.iloc[:, 0]), map(_label, frame.iloc[:, 1]), values, strict=True
        )
    }
    names = dict.fromkeys(name for a, b, _ in once.values() for name in (a, b))
    # An edge may be listed once or both ways.
    both = [*once.values(), *((b, a, w) for a, b, w in once.values() if a != b)]
    return tuple(names), both


def _of_matrix(W: Any, levels: Sequence[str], text: str) -> tuple[tuple[str, ...], Any]:
    from scipy.sparse import csr_array

    try:
        found = csr_array(W, dtype=float)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"The neighbourhoods of {text!r} cannot be read: {error}. Give a matrix, an edge list "
            f"as a data frame, or a mapping from areas to their neighbours."
        ) from error
    q = len(levels)
    if found.shape != (q, q):
        raise DataError(
            f"The matrix of neighbourhoods of {text!r} has the shape {found.shape} without names, "
            f"but there are {q} levels: give a data frame with areas as index and columns."
        )
    return tuple(levels), found


def _checked(names: tuple[str, ...], W: Any, text: str) -> Graph:
    W.eliminate_zeros()
    if not np.isfinite(W.data).all() or (W.data < 0).any():
        raise DataError(
            f"The weights of the neighbourhoods of {text!r} must not be negative, missing or "
            f"infinite."
        )
    if not W.nnz:
        raise DataError(
            f"No area has a neighbour in {text!r}: independent areas are (1 | area), and a matrix "
            f"of distances is not one of neighbourhoods."
        )
    own = np.flatnonzero(W.diagonal())
    if len(own):
        raise DataError(
            f"The area {names[own[0]]!r} is its own neighbour in {text!r}: take the loops out."
        )
    return Graph(names, W.tocsr())
