"""Trees from Newick and Nexus, read by DendroPy, and from the objects of other libraries."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from glmm_bayes.covariance.tree import Tree
from glmm_bayes.errors import DataError


@dataclass(frozen=True)
class Vocabulary:
    """How a library's tree objects call the root of a tree, a node's children and its branch."""

    library: str
    root: str | None
    children: str
    length: str


# The first whose words an object has; dotted names are looked up one after the other.
VOCABULARIES = (
    Vocabulary("DendroPy", "seed_node", "child_nodes", "edge.length"),
    Vocabulary("Biopython", "root", "clades", "branch_length"),
    Vocabulary("toytree", "treenode", "children", "dist"),
    Vocabulary("ETE", None, "children", "dist"),
    Vocabulary("scikit-bio", None, "children", "length"),
)


def read(source: "str | PathLike[str]", schema: str | None, number: int | None) -> Tree:
    """Read a tree from a text or a file; without a schema, Nexus says by itself that it is so."""
    import dendropy

    text, where = _text(source)
    schema = schema or ("nexus" if text.lstrip().upper().startswith("#NEXUS") else "newick")
    try:
        with _deep(text):
            found = dendropy.TreeList.get(
                data=text,
                schema=schema,
                preserve_underscores=True,
                suppress_internal_node_taxa=True,
                # Nexus has their names in a table of taxa; from Newick we refuse doubles.
                suppress_leaf_node_taxa=schema == "newick",
            )
    except dendropy.utility.error.DataParseError as error:
        first = str(error).split(". (")[0]
        raise DataError(f"There is no {schema.capitalize()} in {where}: {first}.") from error
    if not found:
        raise DataError(f"There is no tree in {where}.")
    if number is None and len(found) > 1:
        raise DataError(
            f"There are {len(found)} trees in {where}: choose one by its number, as in "
            f"gb.Tree.from_{schema}(…, number=0)."
        )
    if number is not None and not 0 <= number < len(found):
        raise DataError(f"There is no tree number {number} in {where}: it has {len(found)}.")
    return converted(found[number or 0])


def _text(source: "str | PathLike[str]") -> tuple[str, str]:
    """Give a tree's text, and what to call it in messages."""
    written = isinstance(source, str) and (
        "(" in source or source.lstrip().startswith("#") or not source.strip()
    )
    if written:
        return str(source), "the tree's text"
    try:
        return Path(source).read_text(encoding="utf-8"), f"the file {str(source)!r}"
    except OSError as error:
        raise DataError(
            f"The file of the tree, {str(source)!r}, cannot be read: {error.strerror}. A tree can "
            f"also be given as Newick text, with its parentheses."
        ) from error


@contextmanager
def _deep(text: str) -> Iterator[None]:
    """Let DendroPy call itself as often as parentheses are nested."""
    before = sys.getrecursionlimit()
    level = np.cumsum([(c == "(") - (c == ")") for c in text if c in "()"], dtype=int)
    sys.setrecursionlimit(before + 4 * int(level.max(initial=0)))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def converted(given: Any) -> Tree:
    """
    Take a library's tree apart.

    Raises
    ------
    DataError
        If it does not look like a tree.
    """
    for words in VOCABULARIES:
        root = given if words.root is None else getattr(given, words.root, None)
        if root is not None and hasattr(root, words.children) and _has(root, words.length):
            return _walked(root, words)
    raise DataError(
        f"The tree should be a gb.Tree, Newick text, the path of a file, or a tree of "
        f"{', '.join(v.library for v in VOCABULARIES)}; not {type(given).__name__!r}."
    )


def _walked(root: Any, words: Vocabulary) -> Tree:
    labels: list[str] = []
    parent: list[int] = []
    length: list[float] = []
    stack = [(root, -1)]
    while stack:
        node, up = stack.pop()
        children = getattr(node, words.children)
        children = list(children() if callable(children) else children)
        stack += [(child, len(labels)) for child in reversed(children)]
        labels.append(_name(node))
        parent.append(up)
        own = _get(node, words.length)
        length.append(np.nan if own is None else float(own))
    return Tree(tuple(labels), np.array(parent, dtype=np.intp), np.array(length))


def _name(node: Any) -> str:
    taxon = getattr(node, "taxon", None)
    found = getattr(node, "name", None) or getattr(taxon or node, "label", None)
    return "" if found is None else str(found)


def _has(node: Any, path: str) -> bool:
    return hasattr(node, path.split(".")[0])


def _get(node: Any, path: str) -> Any:
    for name in path.split("."):
        node = getattr(node, name, None)
    return node
