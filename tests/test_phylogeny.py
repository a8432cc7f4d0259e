"""Trees and the evolution along them, against sums of shared branches and dense algebra."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal
from test_level_covariance import BRANCHES, NEWICK, Places, mixed, named, precision, together

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


# ---- whole models


def simulated(tips: int, each: int, seed: int) -> tuple[gb.Tree, pd.DataFrame]:
    """Let lineages split at random until there are enough, and traits walk along them."""
    rng = np.random.default_rng(seed)
    parts, t = [(f"s{k}", 0.0) for k in range(tips)], 0.0
    while len(parts) > 1:
        t += rng.exponential(1 / len(parts))
        pair = [parts.pop(rng.integers(len(parts))) for _ in range(2)]
        both = ",".join(f"{text}:{t - begun:.9g}" for text, begun in pair)
        parts.append((f"({both})", t))
    tree = gb.Tree.from_newick(parts[0][0] + ";")
    walks = rng.standard_normal((len(tree.labels), 2)) * np.sqrt(tree.length / tree.height)[:, None]
    for k in range(1, len(walks)):
        walks[k] += walks[tree.parent[k]]
    b = walks[tree.is_tip].repeat(each, axis=0)
    x = rng.standard_normal(len(b))
    y = 1 + b[:, 0] + x * (0.5 + 0.7 * b[:, 1]) + 0.5 * rng.standard_normal(len(b))
    c = rng.poisson(np.exp(0.5 + 0.3 * x + 0.7 * b[:, 0]))
    return tree, pd.DataFrame({"s": np.repeat(tree.tips, each), "x": x, "y": y, "c": c})


def depths_shared(tree: gb.Tree) -> np.ndarray:
    """Sum the branches that every two tips share, path by path."""
    paths = []
    for k in np.flatnonzero(tree.is_tip):
        path, at = np.zeros(len(tree.parent)), int(k)
        while at > 0:
            path[at], at = 1.0, int(tree.parent[at])
        paths.append(path)
    A = np.array(paths)
    return (A * tree.length) @ A.T


@pytest.mark.parametrize(
    ("model", "parameter"), [("lambda", "lambda"), ("ou", "alpha"), ("eb", "rate")]
)
@pytest.mark.parametrize("stretched", [0.01, 200.0])
def test_estimates_are_the_maximum_of_dense_algebra(
    model: str, parameter: str, stretched: float
) -> None:
    """Whatever the unit of the tree, the likelihood is that of V and cannot be made higher."""
    from scipy.optimize import minimize

    tree, data = simulated(40, 3, 5)
    tree = gb.Tree(tree.labels, tree.parent, tree.length * stretched)
    covariance = MODELS[model][3]
    V = depths_shared(tree) / tree.height
    Z = pd.get_dummies(data["s"])[list(tree.tips)].to_numpy(dtype=float)
    X, y = np.column_stack([np.ones(len(data)), data["x"]]), data["y"].to_numpy()
    back = {"lambda": lambda z: 1 / (1 + np.exp(-z)), "alpha": np.exp, "rate": lambda z: z}

    def loss(p: np.ndarray) -> float:
        K = unscaled(covariance(V, back[parameter](p[2])))
        S = np.exp(2 * p[0]) * Z @ K @ Z.T + np.exp(2 * p[1]) * np.eye(len(y))
        L = np.linalg.cholesky(S)
        Xs, ys = np.linalg.solve(L, X), np.linalg.solve(L, y)
        r = ys - Xs @ np.linalg.lstsq(Xs, ys, rcond=None)[0]
        return 0.5 * float(r @ r + len(y) * np.log(2 * np.pi)) + np.log(np.diag(L)).sum()

    fit = gb.Model(f"y ~ x + phylo(1 | s, tree, '{model}')", data, context={"tree": tree}).fit("ml")
    sd, value, sigma = fit.varcorr()["estimate"]
    inward = {"lambda": lambda v: np.log(v / (1 - v)), "alpha": np.log, "rate": lambda v: v}
    value = value * (1.0 if model == "lambda" else tree.height)
    at = np.array([np.log(sd), np.log(sigma), inward[parameter](value)])
    assert fit.loglik == pytest.approx(-loss(at), abs=1e-6)
    assert fit.converged
    assert fit.loglik > -minimize(loss, at, method="Nelder-Mead").fun - 1e-6


def test_slopes_evolve_along_the_tree_with_the_intercepts() -> None:
    tree, data = simulated(40, 3, 6)
    data["y"] += np.random.default_rng(1).normal(0, 0.8, 40).repeat(3)
    model = gb.Model("y ~ x + phylo(1 + x | s, tree) + (1 | s)", data, context={"tree": tree})
    fit = model.fit("ml")
    G = fit.mode.Lambdas["s"] @ fit.mode.Lambdas["s"].T
    own, sigma = fit.varcorr().query("kind == 'sd'")["estimate"].iloc[-2:]
    K = unscaled(depths_shared(tree))
    Z = pd.get_dummies(data["s"])[list(tree.tips)].to_numpy(dtype=float)
    both = np.stack([Z, Z * data[["x"]].to_numpy()])
    S = np.einsum("jnq,jk,qr,kmr->nm", both, G, K, both)
    S += own**2 * Z @ Z.T + sigma**2 * np.eye(len(data))
    beta = fit.fixef()["estimate"].to_numpy()
    mean = beta[0] + beta[1] * data["x"]
    assert fit.loglik == pytest.approx(multivariate_normal(mean, S).logpdf(data["y"]), abs=1e-6)
    # The summary tells the two terms of one group apart.
    assert "s (40 levels), phylo" in fit.summary().text()
    assert "s (40 levels), us" in fit.summary().text()


def test_a_species_without_data_is_predicted_from_its_relatives() -> None:
    """By the conditional mean and variance, at the estimates."""
    tree, data = simulated(40, 3, 7)
    left_out = list(tree.tips[:3])
    seen = data[~data["s"].isin(left_out)].reset_index(drop=True)
    fit = gb.Model("y ~ x + phylo(1 | s, tree)", seen, context={"tree": tree}).fit("ml")
    assert set(fit.ranef()["level"]) == set(seen["s"])
    sd, sigma = fit.varcorr()["estimate"]
    K = pd.DataFrame(sd**2 * unscaled(depths_shared(tree)), tree.tips, tree.tips)
    beta = fit.fixef()["estimate"].to_numpy()
    S = K.loc[seen["s"], seen["s"]].to_numpy() + sigma**2 * np.eye(len(seen))
    across = K.loc[left_out, seen["s"]].to_numpy()
    mean = beta[0] + across @ np.linalg.solve(S, seen["y"] - beta[0] - beta[1] * seen["x"])
    only = K.loc[left_out, left_out].to_numpy() - across @ np.linalg.solve(S, across.T)
    found = fit.predict(pd.DataFrame({"s": left_out, "x": 0.0}), kind="linear")
    np.testing.assert_allclose(found["estimate"], mean, atol=1e-7)
    assert (found["std_error"] ** 2 > 0.999 * np.diag(only)).all()
    with pytest.raises(DataError, match="is not in the tree: nessie"):
        fit.predict(pd.DataFrame({"s": ["nessie"], "x": 0.0}))


def test_parameters_can_be_held_and_have_priors() -> None:
    tree, data = simulated(30, 3, 8)
    formula, context = "y ~ x + phylo(1 | s, tree, 'lambda')", {"tree": tree}
    held = gb.Model(formula, data, priors={"lambda_s": 0.4}, context=context).fit("ml")
    assert held.varcorr().query("kind == 'lambda'")["estimate"].iloc[0] == 0.4
    prior = gb.Prior("Beta", alpha=200, beta=200)
    pulled = gb.Model(formula, data, priors={"lambda_s": prior}, context=context).fit("map")
    assert pulled.varcorr().query("kind == 'lambda'")["estimate"].iloc[0] == pytest.approx(
        0.5, abs=0.1
    )


def test_default_priors_of_sd_allow_for_the_unit_of_the_tree() -> None:
    tree, data = simulated(20, 2, 10)
    tall = gb.Tree(tree.labels, tree.parent, tree.length * 100.0 / tree.height)

    def sigma(term: str) -> float:
        model = gb.Model(f"y ~ x + {term}", data, context={"tree": tall})
        (block,) = [b for b in model.blocks if b.name == "sd_s"]
        return block.priors[0].arguments["sigma"]

    in_tips = sigma("phylo(1 | s, tree)")
    assert sigma("phylo(1 | s, tree, scale='tree')") == pytest.approx(in_tips / 10, rel=1e-2)


def test_a_kronecker_product_takes_a_tree() -> None:
    tree, data = simulated(12, 4, 9)
    data = data.assign(site=np.tile(list("uvwx"), 12))
    model = gb.Model("y ~ x + kron(1 | s:site, s=phylo(tree))", data, context={"tree": tree})
    fit = model.fit("ml")
    sd, sigma = fit.varcorr()["estimate"]
    K = pd.DataFrame(unscaled(depths_shared(tree)), tree.tips, tree.tips)
    same = np.equal.outer(data["site"].to_numpy(), data["site"].to_numpy())
    S = sd**2 * K.loc[data["s"], data["s"]].to_numpy() * same + sigma**2 * np.eye(len(data))
    beta = fit.fixef()["estimate"].to_numpy()
    expected = multivariate_normal(beta[0] + beta[1] * data["x"], S).logpdf(data["y"])
    assert fit.loglik == pytest.approx(expected, abs=1e-6)


def test_a_fit_that_was_saved_predicts_with_its_tree(tmp_path: Path) -> None:
    tree, data = simulated(20, 2, 10)
    fit = gb.Model("c ~ x + phylo(1 | s, tree)", data, "poisson", context={"tree": tree}).fit("ml")
    fit.save(tmp_path / "fit.zip")
    again = gb.load(tmp_path / "fit.zip", context={"tree": tree})
    pd.testing.assert_frame_equal(again.predict(data), fit.predict(data))


# ---- against fits of other software


def repeated() -> pd.DataFrame:
    data = gb.load_dataset("brms_phylo_repeat")
    mean = data.groupby("species")["cofactor"].transform("mean")
    return data.assign(mcf=mean, wcf=data["cofactor"] - mean)


def counted() -> pd.DataFrame:
    return gb.load_dataset("brms_phylo_pois").assign(obs=range(200))


def present() -> pd.DataFrame:
    data = gb.load_dataset("phyr_comm")
    return data.assign(cshade=(data["shade"] - data["shade"].mean()) / 10)


def effects() -> pd.DataFrame:
    data = gb.load_dataset("brms_phylo_effect")
    return data.assign(error=1 / np.sqrt(data["N"] - 3), obs=range(200))


def simple() -> pd.DataFrame:
    return gb.load_dataset("brms_phylo_simple")


# By case and label: the formula, the table, family, method, what they call the groups, priors.
Peer = tuple[str, str, str, Callable[[], pd.DataFrame], str, str, dict[str, str], dict[str, float]]
META = "Zr | se(error) ~ 1 + phylo(1 | phylo, tree) + (1 | obs)"
REPEAT = "phen ~ mcf + wcf + phylo(1 | phylo, tree) + (1 | species)"
PEERS: list[Peer] = [
    ("phylo_brms_simple", "PLMM_ML", "phen ~ cofactor + phylo(1 | phylo, tree)", simple,
     "gaussian", "ml", {}, {}),
    ("phylo_brms_simple", "PLMM_REML", "phen ~ cofactor + phylo(1 | phylo, tree)", simple,
     "gaussian", "reml", {}, {}),
    ("phylo_brms_repeat", "PLMM_ML", REPEAT, repeated, "gaussian", "ml", {}, {}),
    ("phylo_brms_repeat", "PLMM_REML", REPEAT, repeated, "gaussian", "reml", {}, {}),
    ("phylo_brms_poisson", "Laplace_phylo", "phen_pois ~ cofactor + phylo(1 | phylo, tree)",
     counted, "poisson", "ml", {}, {}),
    ("phylo_brms_poisson", "Laplace_phylo_plus_obs",
     "phen_pois ~ cofactor + phylo(1 | phylo, tree) + (1 | obs)", counted, "poisson", "ml", {}, {}),
    ("phylo_comm_binary", "Laplace_site_spphylo", "pa ~ cshade + (1 | site) + phylo(1 | sp, tree)",
     present, "bernoulli", "ml", {"sp_phylo": "sp"}, {}),
    ("phylo_brms_meta", "rma.mv_ML", META, effects, "gaussian", "ml", {}, {}),
    ("phylo_brms_meta", "rma.mv_REML", META, effects, "gaussian", "reml", {}, {}),
    # Without a residual: nlme's generalised least squares.
    ("phylo_brms_simple", "gls_ML_Pagel", "phen ~ cofactor + phylo(1 | phylo, tree, 'lambda')",
     simple, "gaussian", "ml", {}, {"sigma": 1e-3}),
    ("phylo_brms_simple", "gls_ML_Martins", "phen ~ cofactor + phylo(1 | phylo, tree, 'ou')",
     simple, "gaussian", "ml", {}, {"sigma": 1e-3}),
]  # fmt: skip


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: f"{peer[0]}-{peer[1]}")
@pytest.mark.filterwarnings("ignore::glmm_bayes.errors.SingularFitWarning")
def test_fits_agree_with_other_software(peer: Peer, shared_data: Path, reference: Any) -> None:
    case, label, formula, table, family, method, groups, priors = peer
    them = next(fit for fit in reference(case)["fits"] if fit["label"] == label)
    data = table()
    name = "phyr_comm.nwk" if case == "phylo_comm_binary" else "brms_phylo.nwk"
    tree = gb.Tree.from_newick(shared_data / name)
    if case == "phylo_comm_binary":
        tree = tree.pruned(sorted(data["sp"].unique()))
    fit = gb.Model(formula, data, family, priors=priors, context={"tree": tree}).fit(method)
    # metafor adds half of log |X'X| to a restricted likelihood.
    more = 0.5 * np.log(200) if label == "rma.mv_REML" else 0.0
    assert fit.loglik + more == pytest.approx(them["logLik"], abs=1e-4)
    beta = fit.fixef()
    np.testing.assert_allclose(
        beta["estimate"], [b["estimate"] for b in them["fixef"].values()], rtol=1e-3
    )
    table_of = fit.varcorr()
    found = table_of[table_of["kind"] == "sd"].set_index("group")["estimate"]
    if not priors:
        np.testing.assert_allclose(
            beta["std_error"], [b["se"] for b in them["fixef"].values()], rtol=1e-2
        )
        for group, value in them["sd"].items():
            ours = found[{"residual": "Residual", **groups}.get(group, group)]
            assert ours == pytest.approx(value, rel=1e-3, abs=3e-3)
    else:
        assert found["phylo"] == pytest.approx(them["sigma"], rel=1e-3)
        (key,) = them["correlation"]["coef"]
        ours = table_of.set_index("kind")["estimate"][key]
        assert ours == pytest.approx(them["correlation"]["coef"][key], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["posthoc", "nested_laplace", "nuts"])
def test_the_posterior_is_that_of_brms(method: str, shared_data: Path, reference: Any) -> None:
    them = reference("bayes_phylo_simple")["fits"][0]["posterior"]
    normal = gb.Prior("HalfNormal", sigma=20)
    priors = {
        "beta[Intercept]": gb.Prior("Normal", mu=0, sigma=50),
        "beta": gb.Prior("Normal", mu=0, sigma=10),
        "sd": normal,
        "sigma": normal,
    }
    tree = gb.Tree.from_newick(shared_data / "brms_phylo.nwk")
    model = gb.Model(
        "phen ~ cofactor + phylo(1 | phylo, tree)", simple(), priors=priors, context={"tree": tree}
    )
    fit = model.fit(method, seed=1, **({"target_accept": 0.95} if method == "nuts" else {}))
    beta, spread = fit.fixef(), fit.varcorr().set_index("group")
    ours = {
        "b_Intercept": beta.loc["Intercept"],
        "b_cofactor": beta.loc["cofactor"],
        "sd_phylo__Intercept": spread.loc["phylo"],
        "sigma": spread.loc["Residual"],
    }
    for name, row in ours.items():
        both = np.hypot(them[name]["mcse_mean"], row["std_error"] / np.sqrt(row["ess_bulk"]))
        assert abs(row["estimate"] - them[name]["mean"]) < 4 * both
        assert row["std_error"] == pytest.approx(them[name]["sd"], rel=0.1)


def test_the_picture_has_every_tip_where_it_is() -> None:
    import matplotlib.pyplot as plt

    figure = gb.Tree.from_newick(NEWICK).plot()
    (ax,) = figure.axes
    named = {text.get_text(): text.xy for text in ax.texts}
    assert {name: x for name, (x, _) in named.items()} == {
        name: sum(branches.values()) for name, branches in BRANCHES.items()
    }
    assert sorted(y for _, y in named.values()) == [0, 1, 2, 3, 4, 5]
    plt.close(figure)


def test_the_benchmark_measures_and_shows() -> None:
    """Its simulated tree has the tips of its table, and a failure is a row."""
    from rich.console import Console

    from benchmarks.dependence.command import Point, show
    from benchmarks.dependence.trees import simulate

    species = simulate(30)
    tree = gb.Tree.from_newick(species.newick)
    assert set(tree.tips) == set(species.data["species"])
    assert tree.is_ultrametric
    console = Console(record=True, width=120)
    points = [
        Point("tree, gaussian", "ml", 300, 1.0, 2.0, 1e8, 0.5),
        Point("tree, gaussian", "ml", 600, 2.0, 4.0, 1e8, 0.5),
        Point("tree, poisson", "posthoc", 300, problem=">600 s"),
    ]
    show(points, console)
    text = console.export_text()
    assert "2.0" in text
    assert ">600 s" in text
