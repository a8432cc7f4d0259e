"""The picture of a tree: branches from left to right, as long as they are."""

from typing import TYPE_CHECKING

import numpy as np

from glmm_bayes.covariance.tree import Tree

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMED = 80  # tips that can still be named below one another


def draw(tree: Tree) -> "Figure":
    """Draw branches as horizontal lines, and join the children of a node by a vertical one."""
    import matplotlib.pyplot as plt
    from matplotlib.collections import LineCollection

    tips = np.flatnonzero(tree.is_tip)
    y, spans = _heights(tree)
    branches = zip(tree.depth - tree.length, tree.depth, y, strict=True)
    lines = [[(a, h), (b, h)] for a, b, h in branches]
    lines += [[(tree.depth[k], low), (tree.depth[k], high)] for k, (low, high) in spans.items()]
    named = len(tips) <= NAMED
    size = (6.0, 0.8 + (0.15 if named else 0.02) * min(len(tips), 400))
    figure, ax = plt.subplots(figsize=size, layout="constrained")
    ax.add_collection(LineCollection(lines, colors="0.3", linewidths=0.9 if named else 0.5))
    ax.set(xlim=(0.0, tree.height), ylim=(len(tips) - 0.5, -0.5), yticks=[])
    ax.set_xlabel("distance from the root")
    ax.spines[["left", "right", "top"]].set_visible(False)
    for k in tips if named else ():
        at = (tree.depth[k], y[k])
        ax.annotate(tree.labels[k], at, (3, 0), textcoords="offset points", va="center", fontsize=7)
    return figure


def _heights(tree: Tree) -> tuple[np.ndarray, dict[int, tuple[float, float]]]:
    """
    Put tips one below the other, and a node in the middle of its children.

    Returns
    -------
    y, spans
        `(N,)` where every node is, and from where to where the children of an inner one are.
    """
    y = np.zeros(len(tree.parent))
    y[tree.is_tip] = np.arange(int(tree.is_tip.sum()))
    spans: dict[int, tuple[float, float]] = {}
    for k in range(len(y) - 1, -1, -1):
        if not tree.is_tip[k]:
            y[k] = sum(spans[k]) / 2
        if k:
            low, high = spans.get(int(tree.parent[k]), (y[k], y[k]))
            spans[int(tree.parent[k])] = min(low, y[k]), max(high, y[k])
    return y, spans
