"""Known relationships: matrices, precisions and pedigrees, against dense algebra and tables."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array, diags_array
from scipy.stats import multivariate_normal
from test_level_covariance import PEDIGREE, RELATED, inverse, named, precision

import glmm_bayes as gb
from glmm_bayes.covariance import LEVEL_COVARIANCES
from glmm_bayes.covariance.pedigree import Family
from glmm_bayes.errors import DataError, FormulaError


def tabular(parents: np.ndarray) -> np.ndarray:
    """
    Give the additive relationships by the tabular method.

    Emik & Terrill (1949), J. Hered. 40, 51-55.
    """
    n = len(parents)
    A = np.zeros((n + 1, n + 1))  # the last row is that of an unknown parent
    for i, (s, d) in enumerate(parents):
        A[i, :i] = A[:i, i] = 0.5 * (A[:i, s] + A[:i, d])
        A[i, i] = 1 + 0.5 * (A[s, d] if s >= 0 and d >= 0 else 0.0)
    return A[:n, :n]


def inbred(n: int, seed: int, selfing: float) -> np.ndarray:
    """Simulate parents `(n, 2)` among the forty before, some unknown, some twice the same."""
    rng = np.random.default_rng(seed)
    parents = np.full((n, 2), -1)
    for i in range(10, n):
        parents[i] = rng.integers(max(0, i - 40), i, 2)
        if rng.random() < selfing:
            parents[i, 1] = parents[i, 0]
        elif rng.random() < 0.2:
            parents[i, rng.integers(2)] = -1
    return parents


@pytest.mark.parametrize("selfing", [0.0, 0.3])
def test_the_inverse_of_a_pedigree_is_that_of_the_tabular_method(selfing: float) -> None:
    parents = inbred(200, 1, selfing)
    family = Family(tuple(map(str, range(200))), parents)
    A = tabular(parents)
    np.testing.assert_allclose(family.inbreeding, np.diag(A) - 1, atol=1e-12)
    assert family.inbreeding.max() > 0.3
    found = family.precision(range(200))
    Q = np.zeros_like(A)
    Q[found.pairs[:, 0], found.pairs[:, 1]] = found.values
    Q += np.tril(Q, -1).T
    np.testing.assert_allclose(Q @ A, np.eye(200), atol=1e-10)
    assert found.log_determinant == pytest.approx(-np.linalg.slogdet(A)[1], abs=1e-8)


def test_parents_come_before_their_offspring_and_have_no_need_of_rows() -> None:
    family = Family.read(
        pd.DataFrame({"Animal": [5, 7], "FATHER": [7.0, np.nan], "mother": [9.0, 0]}), "it"
    )
    place = {name: k for k, name in enumerate(family.names)}
    assert set(place) == {"5", "7", "9"}
    assert family.parents[place["5"]].tolist() == [place["7"], place["9"]]
    assert family.parents[place["7"]].tolist() == [-1, -1]


def test_only_ancestors_of_the_data_have_nodes() -> None:
    structure = LEVEL_COVARIANCES["pedigree"].of(named("c"), {"0": PEDIGREE})
    assert sorted(structure.nodes) == ["a", "b", "c", "x", "y"]
    assert structure.nodes[0] == "c"
    assert structure.shown == 1


# ---- matrices


def test_unrelated_blocks_stay_apart() -> None:
    """A block-diagonal covariance has a block-diagonal inverse, whatever its order."""
    block = np.array([[1, -0.4, 0.2], [-0.4, 1, 0.1], [0.2, 0.1, 1]])
    order = np.random.default_rng(1).permutation(30)
    K = csr_array(np.kron(np.eye(10), block))[order][:, order]
    names = [f"i{k}" for k in range(30)]
    structure = LEVEL_COVARIANCES["relmat"].of(named(*names), {"0": K, "levels": names})
    assert len(structure.pairs) == 60
    np.testing.assert_allclose(precision(structure, {}), np.linalg.inv(K.toarray()), atol=1e-12)


def test_a_sparse_precision_keeps_its_entries() -> None:
    Q = diags_array([np.full(9, -0.4), np.ones(10), np.full(9, -0.4)], offsets=[-1, 0, 1])
    names = list(range(10))
    structure = LEVEL_COVARIANCES["precmat"].of(named("7", "2"), {"0": Q, "levels": names})
    assert structure.nodes[:2] == ("7", "2")
    assert len(structure.pairs) == 19
    K = np.linalg.inv(precision(structure, {}))[:2, :2]
    np.testing.assert_allclose(K, np.linalg.inv(Q.toarray())[np.ix_([7, 2], [7, 2])])


def trait(seed: int = 2) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    b = np.linalg.cholesky(RELATED.to_numpy()) @ rng.standard_normal((5, 2))
    s = np.arange(40) % 5
    x = rng.standard_normal(40)
    y = 1 + b[s, 0] + x * (0.5 + 0.7 * b[s, 1]) + 0.4 * rng.standard_normal(40)
    return pd.DataFrame({"s": np.array([*"abcde"])[s], "x": x, "y": y})


@pytest.mark.parametrize("term", ["relmat(1 + x | s, K)", "precmat(1 + x | s, Q)"])
def test_the_likelihood_of_slopes_is_that_of_the_kronecker_product(term: str) -> None:
    """At the estimates: V = sum_jk G_jk Z_j K Z_k' + sigma^2 I, of a matrix normal effect."""
    data = trait()
    context = {"K": RELATED, "Q": inverse(RELATED)}
    fit = gb.Model(f"y ~ x + {term}", data, context=context).fit("ml")
    (L,) = fit.mode.Lambdas.values()
    G, sigma = L @ L.T, float(fit.varcorr()["estimate"].iloc[-1])
    Z = pd.get_dummies(data["s"]).to_numpy(dtype=float)
    both = np.stack([Z, Z * data[["x"]].to_numpy()])
    V = np.einsum("jnq,jk,qr,kmr->nm", both, G, RELATED.to_numpy(), both)
    V += sigma**2 * np.eye(len(data))
    beta = fit.fixef()["estimate"].to_numpy()
    mean = beta[0] + beta[1] * data["x"]
    assert fit.loglik == pytest.approx(multivariate_normal(mean, V).logpdf(data["y"]), abs=1e-6)


def test_a_relative_without_data_is_predicted_from_the_others() -> None:
    """By the conditional mean K_ew V^-1 r, at the estimates."""
    data = trait()
    seen = data[data["s"] != "e"].reset_index(drop=True)
    new = pd.DataFrame({"s": ["e"], "x": [0.0]})
    found = []
    for term, context in [("relmat(1 | s, K)", {"K": RELATED}),
                          ("precmat(1 | s, Q)", {"Q": inverse(RELATED)})]:  # fmt: skip
        fit = gb.Model(f"y ~ x + {term}", seen, context=context).fit("ml")
        found.append(fit.predict(new, kind="linear")["estimate"].iloc[0])
        sd, sigma = fit.varcorr()["estimate"]
        beta = fit.fixef()["estimate"].to_numpy()
        K = sd**2 * RELATED.loc[list(seen["s"]), list(seen["s"])].to_numpy()
        across = sd**2 * RELATED.loc["e", list(seen["s"])].to_numpy()
        r = seen["y"] - beta[0] - beta[1] * seen["x"]
        mean = beta[0] + across @ np.linalg.solve(K + sigma**2 * np.eye(len(r)), r)
        assert found[-1] == pytest.approx(mean, abs=1e-7)
    assert found[0] == pytest.approx(found[1], abs=1e-5)


# ---- the gryphons of Wilson et al. (2010), J. Anim. Ecol. 79, 13-26


@pytest.mark.filterwarnings("ignore:230 of 1084 rows")
@pytest.mark.parametrize(
    ("formula", "label"),
    [
        ("BWT ~ 1 + pedigree(1 | ID, ped)", "animal_REML"),
        (
            "BWT ~ sex + pedigree(1 | ID, ped) + (1 | year) + (1 | mother)",
            "animal_sex_year_mother_REML",
        ),
    ],
)
def test_the_animal_model_is_that_of_dense_algebra(
    formula: str, label: str, shared_data: Any, reference: Any
) -> None:
    data = gb.load_dataset("gryphon")
    context = {"ped": pd.read_csv(shared_data / "gryphon_pedigree.csv")}
    them = next(f for f in reference("kin_gryphon_animal")["fits"] if f["label"] == label)
    fit = gb.Model(formula, data, context=context).fit("reml")
    assert fit.loglik == pytest.approx(them["logLik"], abs=1e-5)
    found = fit.varcorr().set_index("group")["estimate"]
    names = {"animal": "ID", "residual": "Residual"}
    for name, value in them["sd"].items():
        assert found[names.get(name, name)] == pytest.approx(value, rel=1e-4)
    beta = fit.fixef()
    np.testing.assert_allclose(
        beta["estimate"], [b["estimate"] for b in them["fixef"].values()], rtol=1e-4
    )
    np.testing.assert_allclose(
        beta["std_error"], [b["se"] for b in them["fixef"].values()], rtol=1e-3
    )


# ---- bad input

DATA = pd.DataFrame({"s": list("aabbcc"), "y": [1.0, 2, 1, 3, 4, 2], "x": range(6)})
CONTEXT = {
    "K": RELATED,
    "array": np.eye(3),
    "names": ["a", "b", "c"],
    "clones": pd.DataFrame([[1, 1, 0], [1, 1, 0], [0, 0, 1.0]], [*"abc"], [*"abc"]),
    "skew": pd.DataFrame([[1, 0.5, 0], [0.4, 1, 0], [0, 0, 1.0]], [*"abc"], [*"abc"]),
    "few": RELATED.iloc[:2, :2],
    "gap": RELATED.replace(1.2, np.nan),
    "other": RELATED.set_axis([*"uvwxy"], axis=1),
    "icar": pd.DataFrame([[1, -1, 0], [-1, 2, -1], [0, -1, 1.0]], [*"abc"], [*"abc"]),
    "ped": PEDIGREE,
    "loop": pd.DataFrame({"id": [*"abc"], "sire": [*"bca"], "dam": 0}),
    "own": pd.DataFrame({"id": [*"abc"], "sire": ["a", 0, 0], "dam": 0}),
    "twice": pd.DataFrame({"id": [*"abca"], "sire": 0, "dam": 0}),
    "no_id": pd.DataFrame({"id": ["a", None], "sire": 0, "dam": 0}),
    "no_dam": pd.DataFrame({"id": [*"abc"], "sire": 0}),
}


@pytest.mark.parametrize(
    ("term", "error", "words"),
    [
        ("relmat(1 | s, array)", DataError, "have no names: pass levels"),
        ("relmat(1 | s, array, levels=['a', 'b'])", DataError, "3 by 3, but there are 2 levels"),
        ("relmat(1 | s, array, levels=['a', 'b', 'b'])", DataError, "two rows for 'b'"),
        ("relmat(1 | s, K, levels=names)", DataError, "leave 'levels' out"),
        ("relmat(1 | s, clones)", DataError, "'b' has no variance left"),
        ("relmat(1 | s, skew)", DataError, "not symmetric: between '[ab]' and '[ab]'"),
        ("relmat(1 | s, few)", DataError, "is not in its matrix: c"),
        ("relmat(1 | s, gap)", DataError, "missing or infinite"),
        ("relmat(1 | s, other)", DataError, "should be the same levels"),
        ("relmat(1 | s)", FormulaError, "takes K, levels=None"),
        ("precmat(1 | s, icar)", DataError, "not positive definite.*use icar"),
        ("precmat(1 | s, few)", DataError, "is not in its matrix: c"),
        ("pedigree(1 | x, ped)", DataError, "6 of the levels .* are not in its pedigree: 0, 1"),
        ("pedigree(1 | s, loop)", DataError, "'[abc]' descends from itself"),
        ("pedigree(1 | s, own)", DataError, "'a' descends from itself"),
        ("pedigree(1 | s, twice)", DataError, "has 2 rows for 'a'"),
        ("pedigree(1 | s, no_id)", DataError, "no id in row 1"),
        ("pedigree(1 | s, no_dam)", DataError, "columns id, sire and dam.*it has id, sire"),
        ("pedigree(1 | s, array)", DataError, "it has no columns"),
    ],
)
def test_bad_input_is_one_clear_error(term: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        gb.Model(f"y ~ x + {term}", DATA, context=CONTEXT)
