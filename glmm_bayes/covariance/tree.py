"""Rooted trees with branch lengths: phylogenies, as values."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from glmm_bayes.covariance.levels import listed
from glmm_bayes.errors import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAME = 1e-10  # of the height: nodes no further apart are at the same place


@dataclass(frozen=True, eq=False)
class Tree:
    """
    A rooted tree; every node comes after its parent, the first is the root.

    Attributes
    ----------
    labels
        `(N,)` names; of inner nodes they may be empty.
    parent
        `(N,)` the position of each node's parent, -1 for the root.
    length
        `(N,)` the length of the branch above each node; the root's is not part of the tree.

    Raises
    ------
    DataError
        If a tip has no name or one that another has too, or a branch no length or a negative one.
    """

    labels: tuple[str, ...]
    parent: np.ndarray
    length: np.ndarray

    def __post_init__(self) -> None:
        self.length[0] = 0.0
        names = np.array(self.labels, dtype=object)
        unknown = np.flatnonzero(~np.isfinite(self.length))
        if len(unknown):
            some = [name for name in names[unknown] if name]
            above = f", such as that above {some[0]!r}" if some else ""
            raise DataError(
                f"{len(unknown)} of the tree's {len(names) - 1} branches have no length{above}: "
                f"take a tree with branch lengths, or give it some."
            )
        if (self.length < 0).any():
            worst = int(np.argmin(self.length))
            raise DataError(
                f"The branch above {self.labels[worst] or 'an inner node'!r} has the negative "
                f"length {self.length[worst]:g}."
            )
        if not all(self.tips):
            raise DataError("A tip of the tree has no name.")
        once, counts = np.unique(np.array(self.tips), return_counts=True)
        if (counts > 1).any():
            raise DataError(
                f"The tree has several tips of the same name: {listed(list(once[counts > 1]))}."
            )
        if self.height == 0:
            raise DataError("All branches of the tree have the length zero.")

    @classmethod
    def from_newick(cls, source: "str | PathLike[str]", *, number: int | None = None) -> "Tree":
        """
        Read a tree from Newick text or from a file; underscores stay as they are.

        Parameters
        ----------
        number
            Which tree to take where there are several, from 0.

        Raises
        ------
        DataError
            If there is no such file, it is not Newick, or has several trees and no `number`.

        Examples
        --------
        >>> Tree.from_newick("((cat:1,dog:1):2,emu:3);")
        Tree(3 tips, 2 inner nodes, height 3, ultrametric)
        """
        from glmm_bayes.covariance.tree_reading import read

        return read(source, "newick", number)

    @classmethod
    def from_nexus(cls, source: "str | PathLike[str]", *, number: int | None = None) -> "Tree":
        """Read a tree from Nexus text or from a file, as `from_newick`."""
        from glmm_bayes.covariance.tree_reading import read

        return read(source, "nexus", number)

    @classmethod
    def of(cls, given: Any) -> "Tree":
        """
        Make a tree of a path or a text, Newick or Nexus, or of a library's tree object.

        Known are trees of DendroPy, ETE, Biopython, toytree and scikit-bio, by how their nodes
        call children, names and lengths.
        """
        from glmm_bayes.covariance.tree_reading import converted, read

        if isinstance(given, cls):
            return given
        if isinstance(given, str | PathLike):
            return read(given, None, None)
        return converted(given)

    @cached_property
    def is_tip(self) -> np.ndarray:
        """Which nodes `(N,)` have no children."""
        found = np.ones(len(self.parent), dtype=bool)
        found[self.parent[1:]] = False
        return found

    @cached_property
    def tips(self) -> tuple[str, ...]:
        """The names of the tips, in order."""
        return tuple(name for name, tip in zip(self.labels, self.is_tip, strict=True) if tip)

    @cached_property
    def depth(self) -> np.ndarray:
        """How far `(N,)` every node is from the root."""
        depth = self.length.tolist()
        for k, up in enumerate(self.parent.tolist()):
            if k:
                depth[k] += depth[up]
        return np.array(depth)

    @property
    def height(self) -> float:
        """How far the furthest tip is from the root."""
        return float(self.depth.max())

    @property
    def is_ultrametric(self) -> bool:
        """Whether all tips are as far from the root, to six digits."""
        depths = self.depth[self.is_tip]
        return bool(np.ptp(depths) <= 1e-6 * self.height)

    def pruned(self, tips: Sequence[str]) -> "Tree":
        """
        Give the tree of some tips only; its root is their most recent common ancestor.

        Raises
        ------
        DataError
            If a name is not that of a tip.

        Examples
        --------
        >>> Tree.from_newick("((cat:1,dog:1):2,emu:3);").pruned(["cat", "dog"])
        Tree(2 tips, 1 inner node, height 1, ultrametric)
        """
        at = {name: k for k, name in enumerate(self.labels) if self.is_tip[k]}
        strange = [name for name in tips if name not in at]
        if strange:
            raise DataError(f"There are no tips {listed(strange)} in the tree.")
        nodes = np.array([at[name] for name in tips], dtype=np.intp)
        branching = part(self, nodes, np.arange(len(self.labels)))
        labels = tuple(self.labels[k] for k in branching.nodes)
        return Tree(labels, branching.parent, branching.length)

    def plot(self) -> "Figure":
        """Draw the tree from its root on the left to its tips, which are named if not too many."""
        from glmm_bayes.covariance.tree_figure import draw

        return draw(self)

    def __repr__(self) -> str:
        tips, inner = len(self.tips), len(self.labels) - len(self.tips)
        shape = "ultrametric" if self.is_ultrametric else "not ultrametric"
        nodes = f"{inner} inner node{'s' if inner != 1 else ''}"
        return (
            f"Tree({tips} tip{'s' if tips != 1 else ''}, {nodes}, height {self.height:g}, {shape})"
        )


@dataclass(frozen=True, eq=False)
class Branching:
    """
    The part of a tree that some nodes hang together by: these, and where their lineages part.

    Attributes
    ----------
    nodes
        `(k,)` positions in the tree, in its order.
    parent
        `(k,)` the next of them above each, as a position among them, or -1.
    length
        `(k,)` how far that is, or how far the root where there is none.
    """

    nodes: np.ndarray
    parent: np.ndarray
    length: np.ndarray


def merged(tree: Tree, apart: np.ndarray) -> np.ndarray:
    """
    Give the node `(N,)` that stands for each: the first of those at the same place.

    Nodes that are `apart` `(N,)` stand for themselves.
    """
    stays = apart | (tree.length > SAME * tree.height)
    place = list(range(len(stays)))
    for k, (up, own) in enumerate(zip(tree.parent.tolist(), stays.tolist(), strict=True)):
        if k and not own:
            place[k] = place[up]
    return np.array(place, dtype=np.intp)


def part(tree: Tree, wanted: np.ndarray, place: np.ndarray) -> Branching:
    """Find where the lineages of `wanted` nodes part, of nodes that `place` `(N,)` stands for."""
    N, where = len(place), place.tolist()
    up = [-1, *(where[k] for k in tree.parent[1:].tolist())]
    below, lineages = [False] * N, [0] * N
    for k in wanted.tolist():
        below[k] = True
    keep = below.copy()
    for k in range(N - 1, 0, -1):
        if below[k] and where[k] == k:
            lineages[up[k]] += 1
            below[up[k]] = True
    # The nearest node above that is kept, by its position among these, and how far it is.
    nearest, far = [-1] * N, tree.length.tolist()
    nodes: list[int] = []
    parent: list[int] = []
    length: list[float] = []
    for k in range(N):
        if not below[k] or where[k] != k:
            continue
        if k:
            nearest[k] = nearest[up[k]]
            far[k] += far[up[k]]
        if keep[k] or lineages[k] > 1:
            parent.append(nearest[k])
            length.append(far[k])
            nearest[k], far[k] = len(nodes), 0.0
            nodes.append(k)
    return Branching(np.array(nodes, np.intp), np.array(parent, np.intp), np.array(length))
