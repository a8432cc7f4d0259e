"""Tables of effects where a group has several terms: told apart, and summed in `coef`."""

import numpy as np
import pandas as pd
import pytest

import glmm_bayes as gb

TREE = gb.Tree.from_newick("((a:1,b:1):1,((c:0.5,d:0.5):0.7,(e:0.4,f:0.4):0.8):0.8);")


@pytest.fixture(scope="module")
def fit():
    """Six species with values that relatives share, and some that are each one's own."""
    rng = np.random.default_rng(11)
    own = dict(zip("abcdef", [3.0, 2.2, -1.5, -2.6, -1.0, 0.3], strict=True))
    names = np.repeat(list("abcdef"), 8)
    y = np.array([own[s] for s in names]) + rng.normal(size=48)
    data, context = pd.DataFrame({"y": y, "sp": names}), {"tree": TREE}
    return gb.Model("y ~ 1 + (1 | sp) + phylo(1 | sp, tree)", data, context=context).fit("map")


def test_terms_of_one_group_are_told_apart(fit):
    found = fit.ranef()
    assert list(found.columns[:5]) == ["param", "group", "structure", "level", "coef"]
    assert set(found["structure"]) == set(fit.varcorr()["structure"][:2])
    assert not found.duplicated(["structure", "level", "coef"]).any()
    titles = [ax.get_title() for ax in fit.plot_ranef().axes if ax.get_visible()]
    assert titles == ["sp, us: Intercept", "sp, phylo: Intercept"]


def test_a_levels_own_coefficient_is_the_sum(fit):
    own, b = fit.coef().set_index("level")["estimate"], fit.ranef().groupby("level")["estimate"]
    expected = fit.fixef().loc["Intercept", "estimate"] + b.sum()
    np.testing.assert_allclose(own.sort_index(), expected.sort_index(), rtol=1e-9)


def test_the_variance_of_a_sum_is_that_of_dense_algebra(fit):
    """Of b ~ N(0, K) given y: K - K Z' V^-1 Z K, with K of both terms together."""
    term, other = fit.model.design.terms
    levels = list(term.levels[: term.shown])
    at = np.array([other.levels.index(name) for name in levels])
    columns = {term.name: (0, np.arange(len(levels))), other.name: (0, at)}
    values = fit.varcorr()["estimate"].to_numpy()
    A = np.diag(np.full(6, 2.0))
    A[0, 1] = A[1, 0] = 1.0
    A[2:, 2:] += np.where(np.eye(4) > 0, 0.0, 0.8)
    A[2, 3] = A[3, 2] = 1.5
    A[4, 5] = A[5, 4] = 1.6
    K = values[0] ** 2 * np.eye(6) + values[1] ** 2 * A / 2.0
    Z = (np.asarray(fit.model.data["sp"])[:, None] == levels).astype(float)
    V = Z @ K @ Z.T + fit.theta["sigma"] ** 2 * np.eye(len(Z))
    expected = np.diag(K - K @ Z.T @ np.linalg.solve(V, Z @ K))
    np.testing.assert_allclose(fit.summed_arms(columns)[0] ** 2, expected, rtol=1e-6)


def test_terms_written_apart_have_the_coefficients_of_one_term():
    """Independent intercepts and slopes, as two terms or as one: the same model."""
    data = gb.load_dataset("sleepstudy")
    apart, together = (
        gb.Model(f"Reaction ~ Days + {text}", data).fit("ml").coef()
        for text in ("(1 | Subject) + (0 + Days | Subject)", "diag(1 + Days | Subject)")
    )
    assert list(apart["coef"]) == list(together["coef"])
    for column in ("estimate", "std_error"):
        np.testing.assert_allclose(apart[column], together[column], rtol=2e-4)


def test_posteriors_sum_them_too():
    data = gb.load_dataset("sleepstudy")
    model = gb.Model("Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)", data)
    fit = model.fit("posthoc", seed=1, draws=1000, progressbar=False)
    own, fixed, b = fit.coef(), fit.fixef()["estimate"], fit.ranef()
    assert len(own) == 36
    expected = fixed["Days"] + b[b["coef"] == "Days"]["estimate"].to_numpy()
    np.testing.assert_allclose(own[own["coef"] == "Days"]["estimate"], expected, rtol=1e-9)
