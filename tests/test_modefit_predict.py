"""Predictions at a maximum: their variance against dense algebra, unseen levels, simulation."""

import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from scipy.special import expit
from scipy.stats import lognorm, norm

import glmm_bayes as gb
from glmm_bayes.engine.elsewhere import row_covariance
from glmm_bayes.fit import ModeFit

SLEEP = "Reaction ~ Days + (1 + Days | Subject)"


@pytest.fixture(scope="module")
def sleep() -> ModeFit:
    return gb.Model(SLEEP, gb.load_dataset("sleepstudy")).fit("reml", seed=3)


@pytest.fixture(scope="module")
def herds() -> ModeFit:
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    return gb.Model(formula, gb.load_dataset("cbpp"), "binomial").fit("ml", seed=4)


@pytest.fixture(scope="module")
def crossed() -> ModeFit:
    """Counts of two crossed groups, one with slopes; every third combination is missing."""
    rng = np.random.default_rng(3)
    data = pd.DataFrame(
        [(f"a{i}", f"b{j}") for i in range(12) for j in range(7)], columns=["a", "b"]
    )
    data = data[np.arange(len(data)) % 3 > 0].reset_index(drop=True)
    data["x"] = rng.normal(size=len(data))
    effect = {name: rng.normal(0, 0.5) for name in [*data["a"].unique(), *data["b"].unique()]}
    slope = {name: rng.normal(0, 0.3) for name in data["a"].unique()}
    eta = 1 + 0.3 * data["x"] + data["a"].map(effect) + data["b"].map(effect)
    data["y"] = rng.poisson(np.exp(eta + data["x"] * data["a"].map(slope)))
    model = gb.Model("y ~ x + (1 + x | a) + (1 | b)", data, "poisson")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gb.SingularFitWarning)
        return model.fit("ml", seed=1)


# ---- the engine


def test_variances_elsewhere_are_those_of_the_dense_inverse():
    rng = np.random.default_rng(1)
    root = rng.normal(size=(6, 6))
    H = root @ root.T + np.eye(6)
    J = [np.where(rng.uniform(size=(9, 6)) < 0.4, rng.normal(size=(9, 6)), 0) for _ in range(2)]

    class Dense:
        def solve(self, gu: np.ndarray, gx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return np.linalg.solve(H, gu), gx

    found = row_covariance(Dense(), [csr_array(j) for j in J])
    expected = np.einsum("ani,ij,bnj->abn", J, np.linalg.inv(H), J)
    np.testing.assert_allclose(found, expected, atol=1e-12)


# ---- the variance of rows


def slopes(f: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    """The Jacobian by central differences."""
    columns = []
    for k in range(len(x)):
        step = np.zeros_like(x)
        step[k] = 1e-5 * (1 + abs(x[k]))
        columns.append((f(x + step) - f(x - step)) / (2 * step[k]))
    return np.stack(columns, axis=-1)


def test_conditional_errors_are_those_of_the_joint_covariance(sleep):
    """
    Kackar & Harville (1984), J. Am. Stat. Assoc. 79, 853-862: the prediction error of x'beta + z'b.

    Its modes move with the parameters, and given these it has the variance of b given y; here
    with dense matrices, in the coordinates (gamma, log sigma, entries of Lambda).
    """
    data = gb.load_dataset("sleepstudy")
    days, y = data["Days"].to_numpy(float), data["Reaction"].to_numpy(float)
    X = np.column_stack([np.ones(180), days - days.mean()])
    codes = pd.factorize(data["Subject"])[0]
    Z = np.zeros((180, 36))
    Z[np.arange(180), 2 * codes], Z[np.arange(180), 2 * codes + 1] = 1.0, days

    def parts(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        Lambda = np.array([[x[3], 0.0], [x[4], x[5]]])
        G = np.kron(np.eye(18), Lambda @ Lambda.T)
        return G, Z @ G @ Z.T + np.exp(2 * x[2]) * np.eye(180)

    def eta(x: np.ndarray) -> np.ndarray:
        G, V = parts(x)
        return X @ x[:2] + Z @ G @ Z.T @ np.linalg.solve(V, y - X @ x[:2])

    x = sleep.mode.x
    G, V = parts(x)
    given = G - G @ Z.T @ np.linalg.solve(V, Z @ G)
    J = slopes(eta, x)
    expected = np.einsum("ni,ij,nj->n", J, sleep.mode.covariance, J) + np.einsum(
        "ni,ij,nj->n", Z, given, Z
    )
    found = sleep.predict(kind="linear")
    np.testing.assert_allclose(found["estimate"], eta(x), rtol=1e-6)
    np.testing.assert_allclose(found["std_error"] ** 2, expected, rtol=1e-3)


@pytest.mark.parametrize("which", ["sleep", "herds", "crossed"])
@pytest.mark.parametrize("kind", ["linear", "mean"])
def test_the_fitted_rows_given_as_new_are_predicted_alike(which, kind, request):
    fit = request.getfixturevalue(which)
    rows = fit.model.design.rows.frame.sample(frac=0.7, random_state=1)
    found = fit.predict(rows, kind=kind)
    np.testing.assert_allclose(found, fit.predict(kind=kind).loc[found.index], rtol=1e-8)


def test_rows_of_several_predictors_vary_together():
    data = gb.load_dataset("sleepstudy")
    formulas = ["Reaction ~ Days + (1 |s| Subject)", "sigma ~ Days + (1 |s| Subject)"]
    fit = gb.Model(formulas, data).fit("ml", seed=1)
    for kind in ("mean", "param:sigma"):
        rows = fit.model.design.rows.frame
        np.testing.assert_allclose(fit.predict(rows, kind=kind), fit.predict(kind=kind), rtol=1e-7)
    new = fit.predict(kind="param:sigma", groups="new")
    sd = fit.theta["sd_Subject[sigma_Intercept]"]
    fixed = fit.predict(kind="param:sigma", groups="population")
    apart = np.log(new["upper"] / new["estimate"]) ** 2
    expected = np.log(fixed["upper"] / fixed["estimate"]) ** 2 + (norm.ppf(0.975) * sd) ** 2
    np.testing.assert_allclose(apart, expected, rtol=1e-3)


def test_predictions_agree_with_lme4(sleep, reference):
    theirs = reference("pred_sleepstudy")
    new = pd.DataFrame(theirs["newdata"])
    blocks = theirs["predict"]
    for groups, name in (
        ("conditional", "conditional_new_level_zero"),
        ("population", "population"),
    ):
        found = sleep.predict(new, groups=groups)["estimate"]
        np.testing.assert_allclose(found, blocks[name], rtol=1e-6)
    fitted = sleep.predict()["estimate"][:10]
    np.testing.assert_allclose(fitted, blocks["fitted_first10"], rtol=1e-6)


def test_population_errors_are_the_fixed_effects(herds):
    X = herds.model.design.predictors["mu"].X
    V = herds.vcov().to_numpy()
    eta = X @ herds.fixef()["estimate"].to_numpy()
    error = np.sqrt(np.einsum("ni,ij,nj->n", X, V, X))
    found = herds.predict(groups="population")
    np.testing.assert_allclose(found["estimate"], expit(eta), rtol=1e-8)
    p = expit(eta)
    np.testing.assert_allclose(found["std_error"], p * (1 - p) * error, rtol=1e-3)
    np.testing.assert_allclose(found["lower"], expit(eta - norm.ppf(0.975) * error), rtol=1e-6)
    np.testing.assert_allclose(found["upper"], expit(eta + norm.ppf(0.975) * error), rtol=1e-6)


# ---- levels that were not in the fit


def test_an_unseen_level_has_the_whole_variance_of_the_effects(sleep):
    new = pd.DataFrame({"Subject": ["new", "new", "308"], "Days": [0.0, 6.0, 6.0]})
    t = sleep.theta
    sd0, sd1 = t["sd_Subject[Intercept]"], t["sd_Subject[Days]"]
    cov = t["corr_Subject[Intercept, Days]"] * sd0 * sd1
    z = np.array([[1, 0.0], [1, 6.0], [1, 6.0]])
    G = np.array([[sd0**2, cov], [cov, sd1**2]])
    whole = np.einsum("ni,ij,nj->n", z, sleep.vcov().to_numpy() + G, z)
    seen = sleep.predict(new)
    fresh = sleep.predict(new, groups="new")
    population = sleep.predict(new, groups="population")
    np.testing.assert_allclose(seen["std_error"][:2] ** 2, whole[:2], rtol=1e-6)
    np.testing.assert_allclose(fresh["std_error"] ** 2, whole, rtol=1e-6)
    np.testing.assert_allclose(fresh["estimate"], population["estimate"])
    np.testing.assert_allclose(seen["estimate"][:2], population["estimate"][:2])
    assert seen.loc[2, "std_error"] < fresh.loc[2, "std_error"]


def test_a_level_that_a_row_belongs_to_twice_has_both_weights():
    rng = np.random.default_rng(7)
    levels = np.array(list("abcdef"))
    data = pd.DataFrame({"g": rng.choice(levels, 90), "h": rng.choice(levels, 90)})
    effect = dict(zip(levels, rng.normal(0, 2, 6), strict=True))
    data["y"] = 0.5 * (data["g"].map(effect) + data["h"].map(effect)) + rng.normal(size=90)
    fit = gb.Model("y ~ 1 + (1 | mm(g, h))", data).fit("ml", seed=1)
    rows = fit.model.design.rows.frame
    np.testing.assert_allclose(fit.predict(rows), fit.predict(), rtol=1e-7)
    new = pd.DataFrame({"g": ["u", "u"], "h": ["u", "v"]})
    variance = fit.theta.filter(like="sd_").item() ** 2
    found = fit.predict(new)["std_error"] ** 2 - fit.vcov().iloc[0, 0]
    np.testing.assert_allclose(found, [variance, variance / 2], rtol=1e-6)


def test_a_marginal_mean_is_the_log_normal_s(crossed):
    t = crossed.theta
    data = crossed.model.design.rows.frame
    x = data["x"].to_numpy()
    sd0, sd1 = t["sd_a[Intercept]"], t["sd_a[x]"]
    v = sd0**2 + (sd1 * x) ** 2 + 2 * x * t["corr_a[Intercept, x]"] * sd0 * sd1
    eta = t["beta[Intercept]"] + t["beta[x]"] * x
    expected = np.exp(eta + 0.5 * (v + t["sd_b[Intercept]"] ** 2))
    found = crossed.predict(groups="marginal")
    np.testing.assert_allclose(found["estimate"], expected, rtol=1e-6)
    assert (found["lower"] > 0).all()


def test_the_mean_of_a_log_normal_keeps_positive_and_has_its_parameters_error():
    """Of one sample: exp(m + s^2 / 2), with the delta method's error; m and s^2 are independent."""
    y = np.exp(np.random.default_rng(1).normal(0, 2, 40))
    fit = gb.Model("y ~ 1", pd.DataFrame({"y": y}), "lognormal").fit("ml", seed=1)
    m, s2 = np.log(y).mean(), np.log(y).var()
    found = fit.predict().iloc[0]
    assert found["estimate"] == pytest.approx(lognorm.mean(np.sqrt(s2), scale=np.exp(m)), rel=1e-6)
    error = np.sqrt(s2 / 40 + s2**2 / (2 * 40))
    assert found["std_error"] == pytest.approx(found["estimate"] * error, rel=2e-3)
    bounds = found["estimate"] * np.exp(norm.ppf([0.025, 0.975]) * error)
    np.testing.assert_allclose(found[["lower", "upper"]], bounds, rtol=2e-3)


# ---- random draws


@pytest.mark.parametrize("which", ["sleep", "herds", "crossed"])
def test_draws_have_the_table_s_errors(which, request):
    fit = request.getfixturevalue(which)
    draws = fit.predict(kind="linear", draws=True, seed=2)
    table = fit.predict(kind="linear")
    S = draws.sizes["draw"]
    assert draws.dims == ("chain", "draw", "__obs__")
    apart = (draws.mean(("chain", "draw")) - table["estimate"]) / table["std_error"]
    assert abs(apart).max() < 5 / np.sqrt(S)
    ratio = draws.std(("chain", "draw")) / table["std_error"].to_numpy()
    assert abs(ratio - 1).max() < 5 / np.sqrt(2 * S)


def test_a_new_response_is_the_mean_and_its_quantiles(sleep):
    found = sleep.predict(kind="response", seed=1)
    mean = sleep.predict()
    np.testing.assert_allclose(found["estimate"], mean["estimate"])
    error = np.sqrt(mean["std_error"] ** 2 + sleep.theta["sigma"] ** 2)
    assert np.mean(found["std_error"] / error) == pytest.approx(1, abs=0.01)
    assert np.mean((found["upper"] - found["lower"]) / error) == pytest.approx(
        2 * norm.ppf(0.975), rel=0.02
    )
    pd.testing.assert_frame_equal(sleep.predict(kind="response", seed=1), found)
    pd.testing.assert_frame_equal(sleep.predict(kind="response"), sleep.predict(kind="response"))


def test_responses_of_counts_are_counts(herds):
    found = herds.predict(kind="response", seed=1)
    size = gb.load_dataset("cbpp")["size"]
    np.testing.assert_allclose(found["estimate"], size * herds.predict()["estimate"])
    assert ((found["upper"] % 1 == 0) | (found["upper"] % 0.5 == 0)).mean() > 0.8


def test_simulated_responses_have_lme4_s_moments(sleep, reference):
    """With new effects; exact_mean and exact_sd of pred_sleepstudy."""
    theirs = reference("pred_sleepstudy")["simulate"]
    at = np.array(theirs["obs_index"]) - 1
    drawn = sleep.simulate(4000, seed=1, groups="new").to_numpy()[:, at]
    sd = np.array(theirs["exact_sd"])
    np.testing.assert_allclose(drawn.mean(axis=0), theirs["exact_mean"], atol=4 * sd.max() / 63)
    np.testing.assert_allclose(drawn.std(axis=0), sd, rtol=0.05)
    kept = sleep.simulate(4000, seed=1).to_numpy()[:, at]
    np.testing.assert_allclose(kept.mean(axis=0), sleep.predict()["estimate"].iloc[at], rtol=0.01)
    np.testing.assert_allclose(kept.std(axis=0), sleep.theta["sigma"], rtol=0.05)


# ---- figures


@pytest.mark.parametrize("which", ["sleep", "herds", "crossed"])
def test_figures_are_drawn(which, request):
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    mpl.use("Agg")

    fit = request.getfixturevalue(which)
    assert fit.plot_ranef().axes
    assert fit.plot_effects().axes
    assert fit.plot_residuals().axes
    assert fit.plot_ppc().viz["figure"].item().axes
    plt.close("all")


def test_replications_spread_as_the_responses_do(sleep):
    """With the effects held at their modes they would be too much alike."""
    tree = sleep.replicated()
    sd = tree["posterior_predictive"]["y"].std("__obs__")
    observed = float(tree["observed_data"]["y"].std())
    assert float(sd.mean()) == pytest.approx(observed, rel=0.05)
