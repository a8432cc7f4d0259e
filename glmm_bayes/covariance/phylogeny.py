"""Species that descend from common ancestors: the levels are tips of a tree."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, override

import numpy as np

from glmm_bayes.covariance.descent import Descent
from glmm_bayes.covariance.evolution import EVOLUTIONS, Branches
from glmm_bayes.covariance.known import refuse_strangers
from glmm_bayes.covariance.levels import LevelCovariance, Places
from glmm_bayes.covariance.structure import CovarianceParameter
from glmm_bayes.covariance.tree import Tree, merged, part
from glmm_bayes.errors import DataError, FormulaError
from glmm_bayes.priors import Prior

SCALES = ("tips", "tree")


class Phylogeny(Descent):
    """
    `phylo(x | species, tree, model="brownian", scale="tips")`: effects evolve along a tree.

    By default every tip has variance one, as in `ape::vcv(tree, corr=TRUE)`; with `scale="tree"`
    variances are lengths of the tree, so that sd is the change over a branch of length one.

    `model` is one of

    - `"brownian"`: Brownian motion, no parameters;
    - `"lambda"`: Pagel's `lambda` in (0, 1), times which covariances enter;
    - `"ou"`: correlations exp(-`alpha` d), `alpha` > 0 in 1 / length;
    - `"eb"`: Brownian motion at exp(`rate` t) times the rate it had at the root, `rate` in
      1 / length.

    Nodes are the species of the data and where their lineages part, so that the cost grows with
    their number; other species of the tree have nodes when they are predicted.
    """

    name = "phylo"

    def __init__(
        self, places: Places, tree: Any, model: str = "brownian", scale: str = "tips"
    ) -> None:
        try:
            self.tree = Tree.of(tree)
        except DataError as error:
            raise DataError(f"{places.text!r}: {error}") from error
        self.evolution = EVOLUTIONS[model](self.tree.height)
        if scale not in SCALES:
            raise FormulaError(
                f"'scale' of {places.text!r} should be 'tips', for the variance one at every tip, "
                f"or 'tree', for that of the branches as they are; not {scale!r}."
            )
        if scale == "tree" and not self.evolution.from_zero:
            raise FormulaError(
                f"With model={model!r} all tips have the same variance: leave 'scale' out of "
                f"{places.text!r}."
            )
        self.scale = scale
        self._lay_out(places, ())

    def _lay_out(self, places: Places, first: Sequence[int]) -> None:
        """Give nodes their numbers: those in `first`, the places' tips, where lineages part."""
        super().__init__(places)
        tree, from_zero = self.tree, self.evolution.from_zero
        at = {name: k for k, name in enumerate(tree.labels) if tree.is_tip[k]}
        refuse_strangers(places, at, "in the tree")
        self._place = merged(tree, tree.is_tip & self.evolution.tips_apart)
        tips = self._place[[at[name] for name in places.names]]
        if from_zero:
            self._refuse_root(tips)
        found = part(tree, tips, self._place)
        inner = found.nodes[found.nodes > 0] if from_zero else found.nodes
        self._nodes = tuple(dict.fromkeys([*first, *tips.tolist(), *inner.tolist()]))
        self._shown = len(set(tips.tolist()))
        known = {node: k for k, node in enumerate(self._nodes)}
        self._at = {name: known[k] for name, k in zip(places.names, tips.tolist(), strict=True)}
        own = np.array([known.get(node, -1) for node in found.nodes.tolist()], dtype=np.intp)
        above = np.where(found.parent >= 0, own[found.parent], -1)
        self._parent, length = np.empty(len(known), dtype=np.intp), np.empty(len(known))
        self._parent[own[own >= 0]], length[own[own >= 0]] = above[own >= 0], found.length[own >= 0]
        nodes = list(self._nodes)
        self._branches = Branches(tree.depth[nodes], length, tree.is_tip[nodes], self._parent < 0)

    def _refuse_root(self, tips: np.ndarray) -> None:
        at_root = (tips == 0) | (self.tree.depth[tips] == 0)
        if at_root.any():
            name = self.places.names[int(np.argmax(at_root))]
            raise DataError(
                f"{name!r} of {self.places.text!r} is at the root of the tree, where the effect "
                f"is zero: leave its rows out, or lengthen its branch."
            )

    @property
    @override
    def nodes(self) -> tuple[str, ...]:
        return self._names

    @cached_property
    def _names(self) -> tuple[str, ...]:
        called = node_names(self.tree, self._place)
        return tuple(called[k] for k in self._nodes)

    @property
    @override
    def shown(self) -> int:
        return self._shown

    @property
    @override
    def spread(self) -> float:
        return 1.0 if self.scale == "tips" else float(np.sqrt(self.tree.height))

    @property
    @override
    def parent(self) -> np.ndarray:
        return self._parent

    @override
    def parameters(self, size: int) -> tuple[CovarianceParameter, ...]:
        own = self.evolution.parameter
        return () if own is None else (own,)

    @override
    def default_prior(self, key: str) -> Prior | None:
        return self.evolution.default_prior()

    @override
    def start(self) -> dict[str, np.ndarray]:
        return self.evolution.start()

    @override
    def steps(self, theta: Mapping[str, Any], xp: Any) -> tuple[Any, Any]:
        evolution, at, child = self.evolution, self._branches, self.child
        kept, gained = evolution.kept(at, theta, xp)[child], evolution.gained(at, theta, xp)
        if self.scale == "tree":
            return kept, gained
        # Every node in units of its own standard deviation, ancestors too.
        variance = evolution.variance(at, theta, xp)
        return kept * xp.sqrt(variance[self.parent[child]] / variance[child]), gained / variance

    @override
    def extended(self, places: Places) -> LevelCovariance:
        more = object.__new__(Phylogeny)
        more.tree, more.evolution, more.scale = self.tree, self.evolution, self.scale
        more._lay_out(self.places.joined(places), self._nodes)
        return more

    @override
    def located(self, places: Places) -> tuple[np.ndarray, np.ndarray]:
        index = np.array([self._at[name] for name in places.names], dtype=np.intp)
        return index.reshape(-1, 1), np.ones((len(index), 1))


def node_names(tree: Tree, place: np.ndarray) -> list[str]:
    """
    Call nodes by the tips at their place, or by their own name, or by their first and last tip.

    A number is no name: it is the support of a clade.
    """
    counts = Counter(tree.labels)
    first: list[str] = [""] * len(place)
    last, here = first.copy(), first.copy()
    for k in range(len(place) - 1, -1, -1):
        label, up, own = tree.labels[k], int(tree.parent[k]), int(place[k])
        if tree.is_tip[k]:
            first[k] = last[k] = label
            here[own] = label if not here[own] else f"{label} = {here[own]}"
        if k:
            first[up], last[up] = first[k], last[up] or last[k]
        if not here[k] and not tree.is_tip[k]:
            named = counts[label] == 1 and not re.fullmatch(r"[\d.]*", label)
            here[k] = label if named else f"MRCA({first[k]}, {last[k]})"
    return here
