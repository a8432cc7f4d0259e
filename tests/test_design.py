"""Matrices: by hand for small data, by lme4's counts, and again on new data."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import glmm_bayes as gb
from glmm_bayes.errors import DataError
from glmm_bayes.errors import DataWarning as Left

SMALL = pd.DataFrame(
    {
        "y": [1.0, 2.0, 3.0, 4.0, 5.0, 7.0],
        "x": [0.5, -1.0, 2.0, 3.0, -2.0, 1.5],
        "f": ["b", "a", "c", "a", "b", "c"],
        "h": ["u", "v", "u", "v", "u", "v"],
        "g": ["s2", "s1", "s2", "s3", "s3", "s1"],
        "g2": ["s1", "s1", "s4", "s2", "s3", "s4"],
        "w": [1.0, 1.0, 3.0, 0.0, 2.0, 4.0],
        "w2": [1.0, 3.0, 1.0, 5.0, 2.0, 0.0],
        "n": [4, 5, 6, 7, 8, 9],
        "k": [1, 2, 3, 4, 5, 6],
        "yes": [True, False, True, True, False, False],
    }
)
BY_N_AND_K = np.array(
    [[n / (n + k), k / (n + k)] for n, k in zip(SMALL["n"], SMALL["k"], strict=True)]
)
X, ONE = SMALL["x"].to_numpy(), np.ones(6)
A, B, C = (np.array([v == level for v in SMALL["f"]], float) for level in "abc")
U, V = (np.array([v == level for v in SMALL["h"]], float) for level in "uv")
S1, S2, S3 = (np.array([v == level for v in SMALL["g"]], float) for level in ("s1", "s2", "s3"))


def design(formula, data=SMALL, **given):
    return gb.Model(formula, data, **given).design


FIXED = {
    "x": {"Intercept": ONE, "x": X},
    "0 + x": {"x": X},
    "x - 1": {"x": X},
    "f": {"Intercept": ONE, "f[T.b]": B, "f[T.c]": C},
    "0 + f": {"f[a]": A, "f[b]": B, "f[c]": C},
    "x:f": {"Intercept": ONE, "x:f[a]": X * A, "x:f[b]": X * B, "x:f[c]": X * C},
    "h * x": {"Intercept": ONE, "h[T.v]": V, "x": X, "h[T.v]:x": V * X},
    "h:f": {
        "Intercept": ONE, "f[T.b]": B, "f[T.c]": C,
        "h[T.v]:f[a]": V * A, "h[T.v]:f[b]": V * B, "h[T.v]:f[c]": V * C,
    },
    "C(f, contr.sum)": {
        "Intercept": ONE, "C(f, contr.sum)[S.a]": A - C, "C(f, contr.sum)[S.b]": B - C
    },
    "C(f, contr.treatment('c'))": {
        "Intercept": ONE,
        "C(f, contr.treatment('c'))[T.a]": A,
        "C(f, contr.treatment('c'))[T.b]": B,
    },
    "I(x ** 2)": {"Intercept": ONE, "I(x ** 2)": X**2},
    "np.exp(x)": {"Intercept": ONE, "np.exp(x)": np.exp(X)},
    "sqrt(n) + abs(x)": {"Intercept": ONE, "sqrt(n)": np.sqrt(SMALL["n"]), "abs(x)": abs(X)},
    "scale(x)": {"Intercept": ONE, "scale(x)": (X - X.mean()) / X.std(ddof=1)},
    "center(x)": {"Intercept": ONE, "center(x)": X - X.mean()},
    "yes": {"Intercept": ONE, "yes": SMALL["yes"].to_numpy(float)},
    "0": {},
}  # fmt: skip


@pytest.mark.parametrize("right", FIXED)
def test_fixed_columns(right):
    found = design(f"y ~ {right}").predictors["mu"]
    assert set(found.names) == set(FIXED[right])
    for name, column in FIXED[right].items():
        np.testing.assert_allclose(found.X[:, found.names.index(name)], column, err_msg=name)


def test_orthogonal_polynomials():
    found = design("y ~ poly(x, 2)").predictors["mu"].X
    Q, _ = np.linalg.qr(np.vander(X, 3, increasing=True))
    np.testing.assert_allclose(found[:, 1:].T @ found[:, 1:], np.eye(2), atol=1e-12)
    np.testing.assert_allclose(np.abs(found[:, 1:].T @ Q[:, 1:]), np.eye(2), atol=1e-10)


@pytest.mark.parametrize("basis", ["bs(x, df=4)", "cr(x, df=4)"])
def test_spline_bases(basis):
    data = pd.DataFrame({"y": np.arange(30.0), "x": np.linspace(-1, 2, 30)})
    found = design(f"y ~ 0 + {basis}", data).predictors["mu"]
    assert len(found.names) == 4
    # Both bases hold every straight line: constants too, but for B-splines' left-out first column.
    target = data["x"].to_numpy() + (1 if basis.startswith("bs") else 5)
    residual = target - found.X @ np.linalg.lstsq(found.X, target, rcond=None)[0]
    np.testing.assert_allclose(residual, 0.0, atol=1e-9)


def test_a_function_of_the_context():
    found = design("y ~ twice(x)", context={"twice": lambda v: 2 * v}).predictors["mu"]
    np.testing.assert_allclose(found.X[:, 1], 2 * X)


def test_offsets_add_up():
    found = design("y ~ x + offset(np.log(n)) + offset(w)").predictors["mu"]
    np.testing.assert_allclose(found.offset, np.log(SMALL["n"]) + SMALL["w"])
    assert found.names == ("Intercept", "x")


def test_every_parameter_has_its_predictor():
    found = design(["y ~ x", "sigma ~ 0 + f + offset(x) + (1 | g)"])
    assert list(found.predictors) == ["mu", "sigma"]
    assert found.predictors["sigma"].names == ("f[a]", "f[b]", "f[c]")
    np.testing.assert_allclose(found.predictors["sigma"].offset, X)
    assert [t.name for t in found.terms] == ["sigma_g"]
    assert found.effects_matrix("mu") is None
    np.testing.assert_array_equal(found.effects_matrix("sigma").toarray(), np.c_[S1, S2, S3])


# ---- random terms

GROUPS = {
    "(1 | g)": [("g", ("Intercept",), 3)],
    "(1 + x | g)": [("g", ("Intercept", "x"), 3)],
    "(x | g)": [("g", ("Intercept", "x"), 3)],
    "(0 + x | g)": [("g", ("x",), 3)],
    "(1 + x || g)": [("g", ("Intercept", "x"), 3)],
    "(f | g)": [("g", ("Intercept", "f[T.b]", "f[T.c]"), 3)],
    "(0 + f | g)": [("g", ("f[a]", "f[b]", "f[c]"), 3)],
    "(scale(x) | g)": [("g", ("Intercept", "scale(x)"), 3)],
    "(1 | g) + (0 + x | g)": [("g", ("Intercept",), 3), ("g_2", ("x",), 3)],
    "(1 | g) + (1 | h)": [("g", ("Intercept",), 3), ("h", ("Intercept",), 2)],
    "(1 | h:g)": [("h:g", ("Intercept",), 4)],
    "(1 | h/g)": [("h", ("Intercept",), 2), ("h:g", ("Intercept",), 4)],
    "(1 | h*g)": [("h", ("Intercept",), 2), ("g", ("Intercept",), 3), ("h:g", ("Intercept",), 4)],
    "(1 | h + g)": [("h", ("Intercept",), 2), ("g", ("Intercept",), 3)],
    "(1 | mm(g, g2))": [("mm(g,g2)", ("Intercept",), 4)],
    "(1 | k)": [("k", ("Intercept",), 6)],
}


@pytest.mark.parametrize("terms", GROUPS)
def test_random_terms(terms):
    found = design(f"y ~ x + {terms}").terms
    assert [(t.name, t.columns, len(t.levels)) for t in found] == GROUPS[terms]


def test_double_bar_makes_columns_independent():
    found = design("y ~ (1 + x || g)").terms[0]
    assert (found.structure.name, found.size) == ("diag", 2)


def test_one_id_makes_one_term():
    (term,) = design(["y ~ (1 + x |i| g)", "sigma ~ (f |i| g)"]).terms
    assert term.columns == ("Intercept", "x", "sigma_Intercept", "sigma_f[T.b]", "sigma_f[T.c]")
    assert [(g.param, g.columns) for g in term.loadings] == [
        ("mu", slice(0, 2)),
        ("sigma", slice(2, 5)),
    ]


def test_crossed_levels_that_occur():
    (term,) = design("y ~ (1 | h:g)").terms
    assert term.levels == ("u:s2", "u:s3", "v:s1", "v:s3")


def dense(data, term, columns):
    """Build Z by the definition: row i has z_i at the columns of its level."""
    names = list(term.levels)
    Z = np.zeros((len(data), len(names) * len(columns)))
    for i in range(len(data)):
        place = names.index(":".join(str(data[f].iloc[i]) for f in term.addressing.group.factors))
        for j, column in enumerate(columns):
            Z[i, place * len(columns) + j] += column[i]
    return Z


@pytest.mark.parametrize(
    ("terms", "columns"),
    [
        ("(1 | g)", [ONE]),
        ("(1 + x | g)", [ONE, X]),
        ("(0 + f | h)", [A, B, C]),
        ("(f || g)", [ONE, B, C]),
        ("(x | h:g)", [ONE, X]),
        ("(0 + x:f | h)", [X * A, X * B, X * C]),
    ],
)
def test_the_sparse_matrix_by_its_definition(terms, columns):
    (term,) = design(f"y ~ {terms}").terms
    np.testing.assert_allclose(term.Z("mu").toarray(), dense(SMALL, term, columns))


def test_the_sparse_matrices_of_several_parameters():
    (term,) = design(["y ~ (1 + x |i| g)", "sigma ~ (1 |i| g)"]).terms
    b = np.arange(9.0).reshape(3, 3)
    place = [term.levels.index(level) for level in SMALL["g"]]
    np.testing.assert_allclose(term.Z("mu") @ b.ravel(), b[place, 0] + X * b[place, 1])
    np.testing.assert_allclose(term.Z("sigma") @ b.ravel(), b[place, 2])


@pytest.mark.parametrize(
    ("group", "shares"),
    [
        ("mm(g, g2)", np.full((6, 2), 0.5)),
        ("mm(g, g2, weights=(n, k))", BY_N_AND_K),
        ("mm(g, g2, weights=(w, w2), scale=False)", SMALL[["w", "w2"]].to_numpy()),
    ],
)  # fmt: skip
def test_multiple_membership(group, shares):
    (term,) = design(f"y ~ (1 + x | {group})").terms
    assert set(term.levels) == {"s1", "s2", "s3", "s4"}
    b = np.random.default_rng(1).normal(size=(4, 2))
    expected = np.zeros(6)
    for i in range(6):
        for share, level in zip(shares[i], SMALL.loc[i, ["g", "g2"]], strict=True):
            effects = b[term.levels.index(level)]
            expected[i] += share * (effects[0] + X[i] * effects[1])
    np.testing.assert_allclose(term.Z("mu") @ b.ravel(), expected)


# ---- against lme4

# lme4 keeps a factor's columns together under ||, where ours are independent, as brms's.
OTHER_MEANING = {
    "Reaction ~ (Days + grp)^2 + (Days + grp || Subject)",
    "score ~ Machine + (Machine || Worker)",
}


def variance_parameters(term):
    return sum(p.size for p in term.structure.parameters(term.size))


def test_columns_and_levels_are_those_of_lme4(reference, shared_data):
    expansions = reference("form_expansion")["expansions"]
    for name, cases in expansions.items():
        data = pd.read_csv(shared_data / f"{name}.csv", dtype={"Subject": str, "Worker": str})
        if name == "sleepstudy":
            data["grp"] = np.resize(["x", "y", "z"], 180)
        if name == "machines":
            data["x"] = (data["score"] - data["score"].mean()) / data["score"].std()
        # A group cannot be called `sample`, which ArviZ names its stacked draws by.
        data = data.rename(columns={"sample": "probe"})
        for case in cases:
            # The power within I() is Python's.
            found = design(case["formula"].replace("^2", "**2").replace("sample", "probe"), data)
            fixed = found.predictors["mu"].X
            assert fixed.shape == (case["n_used"], len(case["X_names"])), case["formula"]
            np.testing.assert_allclose(
                np.sort(fixed.sum(axis=0)), np.sort(case["X_colsums"]), atol=1e-9
            )
            theirs = np.sort(np.array(case["X_first3"]), axis=1)
            np.testing.assert_allclose(np.sort(fixed[:3], axis=1), theirs, atol=1e-9)
            if case["formula"] in OTHER_MEANING:
                continue
            Z = found.effects_matrix("mu")
            assert list(Z.shape) == case["Z_dim"], case["formula"]
            assert np.count_nonzero(Z.toarray()) == case["Z_nnz"]
            assert Z.sum() == pytest.approx(case["Z_sum"], abs=1e-9)
            assert sum(map(variance_parameters, found.terms)) == case["n_theta"]


# ---- responses


@pytest.mark.parametrize(
    ("response", "family", "y", "trials"),
    [
        ("np.log(y)", "gaussian", np.log(SMALL["y"]), None),
        ("k | trials(n)", "binomial", SMALL["k"], SMALL["n"]),
        ("k | trials(9)", "binomial", SMALL["k"], np.full(6, 9)),
        ("cbind(k, n)", "binomial", SMALL["k"], SMALL["k"] + SMALL["n"]),
        ("yes", "bernoulli", SMALL["yes"], None),
        ("h", "bernoulli", V, None),
        ("yes", "binomial", SMALL["yes"], ONE),
    ],
)
def test_responses(response, family, y, trials):
    found = design(f"{response} ~ x", family=family).response
    np.testing.assert_allclose(found.y, np.asarray(y, float))
    assert (found.trials is None) == (trials is None)
    if trials is not None:
        np.testing.assert_allclose(found.trials, trials)


def test_a_proportion_with_weights_is_successes_of_trials():
    found = design("I(k / n) | weights(n) ~ x", family="binomial").response
    np.testing.assert_allclose(found.y, SMALL["k"])
    np.testing.assert_allclose(found.trials, SMALL["n"])
    assert found.weights is None


def test_the_second_level_of_a_factor_is_success():
    data = SMALL.assign(h=pd.Categorical(SMALL["h"], categories=["v", "u"]))
    found = design("h ~ x", data, family="bernoulli").response
    np.testing.assert_array_equal(found.y, U)
    assert found.levels == ("v", "u")


def test_weights_stay_weights():
    found = design("y | weights(w) ~ x").response
    np.testing.assert_array_equal(found.weights, SMALL["w"])


# ---- new data

RIGHT_SIDES = [
    "x + f", "0 + f:h", "poly(x, 2)", "bs(x, df=5)", "cr(x, df=4)", "scale(x) * h", "center(z)",
    "C(f, contr.sum) + I(x ** 2)", "x + offset(z)", "f * h + np.exp(x)", "1",
]  # fmt: skip
RANDOM = [
    "", "(1 + x | g)", "(scale(z) || g)", "(0 + f | g) + (1 | h)", "(poly(x, 2) | h)",
    "(1 | h/g)", "(1 | mm(g, g2, weights=(w, w2)))", "(bs(x, df=4) | g:h)", "(C(f, contr.sum) | g)",
]  # fmt: skip


def table(seed, n):
    rng = np.random.default_rng(seed)
    levels = {"f": "abc", "h": "uv", "g": "pqrst", "g2": "pqrst"}
    labels = {k: np.append(list(v), rng.choice(list(v), n - len(v))) for k, v in levels.items()}
    numbers = {k: rng.normal(size=n) for k in ("y", "x", "z")}
    return pd.DataFrame(labels | numbers | {k: rng.uniform(0.1, 1, n) for k in ("w", "w2")})


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(RIGHT_SIDES),
    st.sampled_from(RANDOM),
    st.sampled_from(["", "x + (1 | g)", "0 + f"]),
    st.integers(0, 10_000),
    st.integers(20, 40),
    st.data(),
)
def test_some_rows_encoded_again_are_those_rows(fixed, random, sigma, seed, n, draw):
    data = table(seed, n)
    formulas = ["y ~ " + " + ".join(filter(None, [fixed, random]))]
    formulas += [f"sigma ~ {sigma}"] if sigma else []
    first = design(formulas, data)
    rows = draw.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=n))
    again = first.encode(data.iloc[rows].reset_index(drop=True))
    for param, predictor in first.predictors.items():
        X, offset = predictor.X[rows], predictor.offset[rows]
        np.testing.assert_allclose(again.predictors[param].X, X, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(again.predictors[param].offset, offset)
    for old, new in zip(first.terms, again.terms, strict=True):
        assert new.levels == old.levels
        for param in first.predictors:
            expected = old.Z(param).toarray()[rows]
            np.testing.assert_allclose(new.Z(param).toarray(), expected, rtol=1e-10, atol=1e-12)


def test_new_levels_are_put_last():
    first = design("y ~ (1 | g) + (1 | h:g) + (1 | mm(g, g2))")
    data = SMALL.assign(g=["s9", "s1", "s2", "s0", "s3", "s1"])
    again = first.encode(data)
    group, crossed, members = again.terms
    assert group.levels == ("s1", "s2", "s3", "s0", "s9")
    np.testing.assert_array_equal(group.index[:, 0], [4, 0, 1, 3, 2, 0])
    assert crossed.levels[: len(first.terms[1].levels)] == first.terms[1].levels
    assert set(crossed.levels[len(first.terms[1].levels) :]) == {"u:s9", "v:s0"}
    assert set(members.levels[4:]) == {"s0", "s9"}


def test_a_level_that_the_fixed_part_knows_may_be_absent():
    again = design("y ~ f").encode(SMALL[SMALL["f"] == "c"])
    np.testing.assert_array_equal(again.predictors["mu"].X, [[1, 0, 1], [1, 0, 1]])


def test_an_unseen_level_of_a_random_slope_is_an_error():
    with pytest.raises(DataError, match="not fitted with f = 'z'"):
        design("y ~ (0 + f | g)").encode(SMALL.assign(f="z"))


def test_new_data_need_neither_response_nor_trials():
    first = design("k | trials(n) ~ x + (1 | g)", family="binomial")
    made = first.encode(SMALL[["x", "g"]]).response
    assert made.trials is None
    assert np.isnan(made.y).all()


def test_rows_taken_by_position():
    first = design(["y | weights(w) ~ x + (1 + x | g)", "sigma ~ f"])
    part = first.take(np.array([4, 1]))
    np.testing.assert_array_equal(part.y, [5.0, 2.0])
    np.testing.assert_array_equal(part.response.weights, [2.0, 1.0])
    np.testing.assert_array_equal(part.predictors["mu"].X, first.predictors["mu"].X[[4, 1]])
    np.testing.assert_array_equal(
        part.effects_matrix("mu").toarray(), first.effects_matrix("mu").toarray()[[4, 1]]
    )
    np.testing.assert_array_equal(part.rows.kept, [4, 1])


def test_transforms_learn_from_the_rows_that_are_used():
    data = SMALL.assign(x=[0.5, np.nan, 2.0, 3.0, -2.0, 1.5])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Left)
        found = design("y ~ scale(x)", data)
    used = data["x"].dropna()
    np.testing.assert_allclose(found.predictors["mu"].X[:, 1], (used - used.mean()) / used.std())
