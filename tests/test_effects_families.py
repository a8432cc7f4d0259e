"""Marginal means, comparisons and tests of families with several parts, by their formulas."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

import glmm_bayes as gb
from glmm_bayes.errors import NotSupportedError, UnknownNameError

QUIET = {"progressbar": False}


def expit(x):
    return 1 / (1 + np.exp(-x))


@pytest.fixture(scope="module")
def rows():
    """A predictor, a factor and a group, with something to be seen of each."""
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(24), 10)
    x, f = rng.normal(size=240), np.array(list("abc"))[rng.integers(3, size=240)]
    eta = 0.3 + 0.4 * x + 0.5 * (f == "b") + 0.4 * rng.normal(size=24)[g]
    counts = rng.poisson(np.exp(eta)) * (rng.random(240) > 0.3)
    latent = eta + rng.logistic(size=240)
    times = np.tile(np.arange(10), 24)
    data = pd.DataFrame({"x": x, "f": f, "g": [f"g{j:02d}" for j in g], "t": times})
    return data.assign(
        count=counts,
        order=np.digitize(latent, [-1.0, 0.5, 1.5]) + 1,
        kind=np.array(["A", "B", "C"])[np.digitize(latent, [0.0, 1.5])],
        y=eta + rng.normal(size=240),
    )


def zero_inflated(fit, x, b):
    beta = fit.fixef()["estimate"]
    eta = beta["Intercept"] + beta["x"] * x + beta["f[T.b]"] * b
    return (1 - fit.theta["zi"]) * np.exp(eta)


def hurdle(fit, x, b):
    beta = fit.fixef()["estimate"]
    mu = np.exp(beta["Intercept"] + beta["x"] * x + beta["f[T.b]"] * b)
    return (1 - fit.theta["hu"]) * mu / (1 - np.exp(-mu))


MEANS = {"zero_inflated_poisson": zero_inflated, "hurdle_poisson": hurdle}


@pytest.mark.parametrize("family", MEANS)
def test_means_of_counts_with_zeros_of_their_own(rows, family):
    fit = gb.Model("count ~ x + f + (1 | g)", rows, family).fit("ml")
    grid = pd.DataFrame({"x": [0.0, 0.0, 1.0], "f": ["a", "b", "b"]})
    expected = [MEANS[family](fit, *at) for at in ((0, 0), (0, 1), (1, 1))]
    found = fit.predict(grid, groups="population")["estimate"]
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    step = 1e-5
    slope = (MEANS[family](fit, step, 0) - MEANS[family](fit, -step, 0)) / (2 * step)
    own = fit.slopes(variables="x", newdata=grid.iloc[:1], groups="population")
    assert own["estimate"].iloc[0] == pytest.approx(slope, rel=1e-4)
    gap = fit.comparisons(variables="f", newdata=grid.iloc[:1], groups="population")
    assert gap["estimate"].iloc[0] == pytest.approx(expected[1] - expected[0], rel=1e-6)
    beta = fit.fixef()["estimate"]
    means = fit.emmeans("f", at={"x": 0.0})["estimate"]
    expected = beta["Intercept"] + np.array([0.0, beta["f[T.b]"], beta["f[T.c]"]])
    np.testing.assert_allclose(means, expected, rtol=1e-8)


@pytest.mark.filterwarnings("ignore::glmm_bayes.errors.SingularFitWarning")
def test_categories_by_their_softmax(rows):
    fit = gb.Model("kind ~ x + f + (1 | g)", rows, "categorical").fit("ml")
    beta = fit.fixef().set_index("param", append=True)["estimate"]

    def shares(x, b):
        eta = [0.0]
        for param in ("muB", "muC"):
            own = beta.xs(param, level="param")
            eta.append(own["Intercept"] + own["x"] * x + own["f[T.b]"] * b)
        return np.exp(eta) / np.exp(eta).sum()

    grid = pd.DataFrame({"x": [0.5], "f": ["a"]})
    found = fit.predict(grid, groups="population")["estimate"]
    np.testing.assert_allclose(found, shares(0.5, 0), rtol=1e-8)
    gap = fit.comparisons(variables="f", newdata=grid, groups="population")
    np.testing.assert_allclose(gap["estimate"].iloc[:3], shares(0.5, 1) - shares(0.5, 0), atol=1e-8)
    own = fit.emmeans("f", param="muC", at={"x": 0.0})["estimate"].iloc[0]
    assert own == pytest.approx(beta["Intercept", "muC"])
    with pytest.raises(UnknownNameError, match="muB, muC: say of which the means are"):
        fit.emmeans("f")
    with pytest.raises(NotSupportedError, match=r"terms are tested of one; .* anova\(other\)"):
        fit.anova()
    without = gb.Model("kind ~ x + (1 | g)", rows, "categorical").fit("ml")
    table = fit.anova(without)
    ratio = 2 * (fit.loglik - without.loglik)
    assert table["p_value"].iloc[1] == pytest.approx(chi2.sf(ratio, 4), rel=1e-6)


def test_ordered_terms_are_tested_beside_thresholds(rows):
    """Without interactions: the coefficients' own Wald tests, whatever the type."""
    fit = gb.Model("order ~ x + f + (1 | g)", rows, "cumulative").fit("ml")
    beta, V = fit.fixef()["estimate"], fit.vcov()
    own = ["f[T.b]", "f[T.c]"]
    wald = beta[own] @ np.linalg.solve(V.loc[own, own], beta[own])
    for kind in (2, 3):
        found = fit.anova(type=kind)
        assert found.loc["f", "statistic"] == pytest.approx(wald / 2, rel=1e-6)
        assert found.loc["f", "p_value"] == pytest.approx(chi2.sf(wald, 2), rel=1e-6)
        assert found.loc["x", "statistic"] == pytest.approx(beta["x"] ** 2 / V.loc["x", "x"])


def test_an_interaction_beside_thresholds_is_averaged_over(rows):
    """Type III of x: its slope on average over three classes."""
    fit = gb.Model("order ~ x * f + (1 | g)", rows, "cumulative").fit("ml")
    beta, V = fit.fixef()["estimate"], fit.vcov()
    L = pd.Series(0.0, index=V.index)
    L[["x", "x:f[T.b]", "x:f[T.c]"]] = [1.0, 1 / 3, 1 / 3]
    z = (L[beta.index] @ beta) ** 2 / (L @ V @ L)
    assert fit.anova().loc["x", "statistic"] == pytest.approx(z, rel=1e-6)


@pytest.mark.parametrize("fixed", ["x + f", "x + f + t"])
def test_means_where_groups_have_processes_in_time(rows, fixed):
    """Times stand at their mean, where a process of whole steps has no place."""
    fit = gb.Model(f"y ~ {fixed} + ar1(t | g)", rows).fit("ml")
    beta = fit.fixef()["estimate"]
    base = beta["Intercept"] + beta["x"] * rows["x"].mean() + beta.get("t", 0.0) * 4.5
    expected = base + np.array([0.0, beta["f[T.b]"], beta["f[T.c]"]])
    np.testing.assert_allclose(fit.emmeans("f")["estimate"], expected, rtol=1e-8)
    assert len(fit.comparisons(variables="f")) == 480


def test_grids_put_processes_at_a_time_that_was_seen(rows):
    fit = gb.Model("y ~ x + f + ar1(t | g)", rows).fit("ml")
    beta = fit.fixef()["estimate"]
    found = fit.comparisons(variables="f", newdata="mean", groups="population")["estimate"]
    np.testing.assert_allclose(found, [beta["f[T.b]"], beta["f[T.c]"]], rtol=1e-8)
    assert fit.plot_effects() is not None


def test_posteriors_have_the_means_of_their_draws(rows):
    model = gb.Model("count ~ x + f + (1 | g)", rows, "zero_inflated_poisson")
    fit = model.fit("posthoc", seed=1, draws=1000, **QUIET)
    grid = pd.DataFrame({"x": [0.0], "f": ["b"]})
    draws = fit.draws
    eta = draws.beta["mu"] @ np.array([1.0, 0.0, 1.0, 0.0])
    means = (1 - draws.constants["zi"]) * np.exp(eta)
    found = fit.predict(grid, groups="population")["estimate"].iloc[0]
    names = list(model.design.predictors["mu"].names)
    assert names == ["Intercept", "x", "f[T.b]", "f[T.c]"]
    assert found == pytest.approx(means.mean(), rel=1e-8)
