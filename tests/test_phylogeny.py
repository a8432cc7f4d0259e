"""Trees and the evolution along them, against sums of shared branches and dense algebra."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_level_covariance import NEWICK, Places, mixed, named, precision, together

import glmm_bayes as gb
from glmm_bayes.arrays import graph
from glmm_bayes.covariance import LEVEL_COVARIANCES, LevelCovariance
from glmm_bayes.errors import DataError, FormulaError, UnknownNameError

type Theta = Mapping[str, np.ndarray]


# ---- models of evolution, each stated between tips


def unscaled(V: np.ndarray) -> np.ndarray:
    root = np.sqrt(np.diag(V))
    return V / np.outer(root, root)


def pagel(V: np.ndarray, value: float) -> np.ndarray:
    return np.where(np.eye(len(V)) > 0, V, value * V)


def stationary(V: np.ndarray, value: float) -> np.ndarray:
    depth = np.diag(V)
    return np.exp(-value * (depth[:, None] + depth - 2 * V))


def burst(V: np.ndarray, value: float) -> np.ndarray:
    return V if value == 0 else np.expm1(value * V) / value


MODELS: dict[str, tuple[str, str | None, float, Callable[..., np.ndarray]]] = {
    "brownian": ("brownian", None, 0.0, lambda V, value: V),
    "lambda": ("lambda", "lambda", 0.6, pagel),
    "ou": ("ou", "alpha", 0.7, stationary),
    "eb": ("eb", "rate", -0.8, burst),
    "accelerating": ("eb", "rate", 0.4, burst),
    "constant": ("eb", "rate", 0.0, burst),
}
SCALED = [(k, "tips") for k in MODELS] + [(k, "tree") for k in MODELS if k != "ou"]


def made(case: str, scale: str, places: Places) -> tuple[LevelCovariance, Theta]:
    model, parameter, value, _ = MODELS[case]
    given = {"0": NEWICK, "model": model, "scale": scale}
    if case == "ou":
        del given["scale"]
    theta = {} if parameter is None else {parameter: np.array([value])}
    return LEVEL_COVARIANCES["phylo"].of(places, given), theta


def expected(case: str, scale: str, places: Places) -> np.ndarray:
    V = MODELS[case][3](together(places), MODELS[case][2])
    return unscaled(V) if scale == "tips" else V


@pytest.mark.parametrize(("case", "scale"), SCALED)
def test_tips_have_the_covariance_of_the_model(case: str, scale: str) -> None:
    places, new = named("c", "e", "d", "f"), named("b", "a")
    structure, theta = made(case, scale, places)
    for of, where in ((structure, places), (structure.extended(new), places.joined(new))):
        A, Q = mixed(of, where), precision(of, theta)
        np.testing.assert_allclose(A @ np.linalg.inv(Q) @ A.T, expected(case, scale, where))
        value = float(of.entries(theta).log_determinant)
        assert value == pytest.approx(np.linalg.slogdet(Q)[1], abs=1e-10)


@pytest.mark.parametrize("case", [k for k, model in MODELS.items() if model[1]])
def test_slopes_are_those_of_the_graph(case: str) -> None:
    import pytensor
    import pytensor.tensor as pt

    structure, theta = made(case, "tips", named("c", "e", "d", "f", "a"))
    by = np.random.default_rng(1).standard_normal(len(structure.pairs))
    (name,) = theta
    x = pt.vector(name)
    Q = structure.entries({name: x}, graph())
    total = (by * Q.values).sum() + 0.7 * Q.log_determinant
    function = pytensor.function([x], [total, pytensor.grad(total, x)])
    value, slope = function(theta[name])
    ours = structure.entries(theta)
    assert value == pytest.approx(by @ ours.values + 0.7 * ours.log_determinant, rel=1e-10)
    np.testing.assert_allclose(structure.slopes(theta, by, 0.7)[name], slope, rtol=1e-8)


def test_tips_at_one_place_are_one_node() -> None:
    structure = LEVEL_COVARIANCES["phylo"].of(
        named("a", "b", "c"), {"0": "((a:0,b:0):2,c:1);", "scale": "tree"}
    )
    assert structure.nodes == ("a = b", "c")
    index, _ = structure.located(named("a", "b", "c"))
    assert index[:, 0].tolist() == [0, 0, 1]
    apart = LEVEL_COVARIANCES["phylo"].of(
        named("a", "b", "c"), {"0": "((a:0,b:0):2,c:1);", "model": "lambda"}
    )
    K = np.linalg.inv(precision(apart, {"lambda": np.array([0.3])}))
    np.testing.assert_allclose(K[:3, :3], [[1, 0.3, 0], [0.3, 1, 0], [0, 0, 1]], atol=1e-12)


def test_only_what_the_data_hang_together_by_has_nodes() -> None:
    structure, _ = made("brownian", "tips", named("d", "c"))
    assert structure.nodes == ("d", "c", "MRCA(c, e)")
    assert made("ou", "tips", named("f", "a"))[0].nodes == ("f", "a", "MRCA(a, f)")
    assert structure.shown == 2


# ---- trees


def test_newick_nexus_and_files_are_read_alike(tmp_path: Path) -> None:
    nexus = (
        "#NEXUS\nbegin trees;\n translate 1 a, 2 b_c;\n tree one = [&R] ((1:1,2:1)x:1,d:2);\nend;"
    )
    newick = "((a:1,b_c:1)x:1,d:2);"
    (tmp_path / "t.nex").write_text(nexus)
    (tmp_path / "t.nwk").write_text(newick)
    trees = [
        gb.Tree.from_newick(newick),
        gb.Tree.from_nexus(nexus),
        gb.Tree.from_newick(tmp_path / "t.nwk"),
        gb.Tree.of(str(tmp_path / "t.nex")),
    ]
    for tree in trees:
        assert tree.labels == ("", "x", "a", "b_c", "d")
        assert tree.depth.tolist() == [0, 1, 2, 2, 2]
    two = "(a:1,b:1);(a:2,b:1);"
    assert gb.Tree.from_newick(two, number=1).height == 2
    assert not gb.Tree.from_newick(two, number=1).is_ultrametric


def node(length: float | None, name: str, children: Any, words: tuple[str, str]) -> Any:
    return SimpleNamespace(**{words[0]: children, words[1]: length, "name": name})


@pytest.mark.parametrize(
    ("words", "root"),
    [
        (("children", "dist"), None),
        (("children", "length"), None),
        (("clades", "branch_length"), "root"),
        (("children", "dist"), "treenode"),
    ],
)
def test_trees_of_other_libraries_are_known_by_their_words(
    words: tuple[str, str], root: str | None
) -> None:
    """As ETE, scikit-bio, Biopython and toytree call them."""
    ab = node(1.0, "", [node(1.0, "a", [], words), node(2.0, "b", [], words)], words)
    top = node(None, "", [ab, node(3.0, "c", [], words)], words)
    tree = gb.Tree.of(top if root is None else SimpleNamespace(**{root: top}))
    assert tree.tips == ("a", "b", "c")
    assert tree.depth[tree.is_tip].tolist() == [2, 3, 3]


def test_a_tree_of_dendropy_is_taken() -> None:
    import dendropy

    given = dendropy.Tree.get(data="((a:1,b:2):1,c:3);", schema="newick")
    assert gb.Tree.of(given).tips == ("a", "b", "c")


def test_a_deep_tree_is_read() -> None:
    text = "t0:1"
    for k in range(1, 3000):
        text = f"({text},t{k}:1):1"
    assert gb.Tree.from_newick(text + ";").height == 2999


def test_pruning_puts_the_root_at_the_common_ancestor() -> None:
    """As `ape::keep.tip`."""
    tree = gb.Tree.from_newick(NEWICK).pruned(["d", "c"])
    assert tree.depth[tree.is_tip].tolist() == [1.5, 1.5]
    with pytest.raises(DataError, match="no tips x"):
        tree.pruned(["x"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("((a,b),c);", "no length"),
        ("(a:1,a:2);", "several tips of the same name: a"),
        ("(a:1,b:-1);", "negative"),
        ("(a:1,:1);", "no name"),
        ("(a:0,b:0);", "length zero"),
        ("(a:1,b:1", "no Newick"),
        ("(a:1,b:1);(a:2,b:1);", "2 trees"),
        ("nowhere.nwk", "cannot be read"),
        (3, "not 'int'"),
    ],
)
def test_a_bad_tree_is_one_clear_error(text: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        gb.Tree.of(text)


DATA = pd.DataFrame({"s": list("aabbccdd"), "y": [1.0, 2, 1, 3, 4, 2, 5, 1], "x": range(8)})


@pytest.mark.parametrize(
    ("term", "error", "words"),
    [
        ("phylo(1 | s, tree, model='bm')", UnknownNameError, "model of evolution 'bm'"),
        ("phylo(1 | s, tree, scale=1)", FormulaError, "'tips'"),
        ("phylo(1 | s, tree, model='ou', scale='tree')", FormulaError, "leave 'scale' out"),
        ("phylo(1 | s)", FormulaError, "takes tree, model='brownian', scale='tips'"),
        ("phylo(1 | s, other)", DataError, "1 of the levels .* is not in the tree: d"),
        ("phylo(1 | s, rooted)", DataError, "'d' of .* at the root"),
        ("phylo(1 | s, unknown)", DataError, "'unknown', which is not in the context"),
        ("phylo(1 | s, bare)", DataError, "phylo.*have no length"),
    ],
)
def test_bad_input_is_one_clear_error(term: str, error: type[Exception], words: str) -> None:
    context = {
        "tree": NEWICK,
        "other": "(a:1,b:1,c:1);",
        "rooted": "(a:1,b:1,c:1,d:0);",
        "bare": "(a,b,c,d);",
    }
    with pytest.raises(error, match=words):
        gb.Model(f"y ~ x + {term}", DATA, context=context)


def test_spaces_for_underscores_are_pointed_out() -> None:
    data = DATA.assign(s=DATA["s"].map(lambda s: f"Homo {s}"))
    tree = "(Homo_a:1,Homo_b:1,Homo_c:1,Homo_d:1);"
    with pytest.raises(DataError, match="It has 'Homo_a'"):
        gb.Model("y ~ x + phylo(1 | s, tree)", data, context={"tree": tree})
