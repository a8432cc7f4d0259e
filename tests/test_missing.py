"""Missing predictors and responses, mi(x) and y | mi(): density, verbs, and what is refused."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from unseen_cases import OverUnknown, distances_from_pymc, gradient_error

import glmm_bayes as gb
from glmm_bayes.families import FAMILIES
from glmm_bayes.families.by_response import slope_by_response, support_of_response

N = 30
PAIR = ["y ~ mi(x) * z", "x | mi() ~ z"]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(2)
    z = rng.normal(size=N)
    x = 1 + 0.5 * z + 0.8 * rng.normal(size=N)
    table = pd.DataFrame(
        {
            "z": z,
            "x": x,
            "s": rng.uniform(0.2, 0.6, N),
            "y": 0.5 + 0.7 * x - 0.4 * z + 0.6 * rng.normal(size=N),
            "count": rng.poisson(np.exp(0.3 * x)),
            "size": np.exp(0.3 * x + 0.4 * rng.normal(size=N)),
            "share": 1 / (1 + np.exp(-x - rng.normal(size=N))),
            "g": np.resize(list("abcde"), N),
        }
    )
    table.loc[::5, ["x", "size", "share"]] = np.nan
    table.loc[[1, 5, 20], "y"] = np.nan
    return table


# ---- the density


CASES = {
    "plain": (PAIR, "gaussian"),
    "both": (["y | mi() ~ mi(x) + (1 | g)", "x | mi() ~ z + (1 | g)"], "gaussian"),
    "measured": (["count ~ mi(x)", "x | mi(s) ~ z"], ["poisson", "student"]),
    "positive": (["y ~ mi(size)", "size | mi() ~ z"], ["gaussian", "gamma"]),
    "positive measured": (["y ~ mi(size)", "size | mi(0.1) ~ z"], ["gaussian", "lognormal"]),
    "unit": (["y ~ mi(share):z", "share | mi() ~ z"], ["gaussian", "beta"]),
    "chain": (["count ~ mi(y)", "y | mi() ~ mi(x)", "x | mi() ~ me(z, s)"], None),
}


def model_of(name, data, **options):
    formula, family = CASES[name]
    return gb.Model(formula, data, family or ["poisson", "gaussian", "gaussian"], **options)


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_is_that_of_the_density(data, name):
    assert gradient_error(model_of(name, data)) < 1e-5


@pytest.mark.parametrize("name", CASES)
def test_arrays_and_pymc_give_one_density(data, name):
    found = distances_from_pymc(model_of(name, data, centering="noncentered"))
    assert np.ptp(found) < 1e-4


def test_missing_values_integrated_out_leave_the_response_a_wider_normal(data):
    """Without x, y ~ N(a + c z + b (a' + c' z), sigma² + b² sigma'²), b the slope at z."""
    over = OverUnknown(gb.Model(PAIR, data))
    found = []
    for seed in range(3):
        outer = 0.3 * np.random.default_rng(seed).normal(size=over.d)
        theta = over.named(outer)
        (a, b, c, d), (a2, c2) = theta["beta_mu_y"], theta["beta_mu_x"]
        sy, sx = theta["sigma_y"][0], theta["sigma_x"][0]
        slope, mean = b + d * data.z, a2 + c2 * data.z
        known = data.x.notna()
        x, spread = data.x.where(known, mean), np.where(known, sy, np.hypot(sy, slope * sx))
        each = stats.norm.logpdf(data.y, a + c * data.z + slope * x, spread)
        total = each[data.y.notna()].sum() + stats.norm.logpdf(data.x, mean, sx)[known].sum()
        found.append(over(outer) - total)
    assert np.ptp(found) < 1e-4


def test_a_measured_response_has_its_error_beside_its_sigma(data):
    over = OverUnknown(gb.Model("x | mi(s) ~ z", data))
    found = []
    for seed in range(3):
        outer = 0.3 * np.random.default_rng(seed).normal(size=over.d)
        theta = over.named(outer)
        a, b = theta["beta"]
        spread = np.hypot(theta["sigma"][0], data.s)
        each = stats.norm.logpdf(data.x, a + b * data.z, spread)
        found.append(over(outer) - each[data.x.notna()].sum())
    assert np.ptp(found) < 1e-4


CONTINUOUS = {"real": [-1.2, 0.3], "positive": [0.4, 2.2], "unit": [0.3, 0.6]}


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "gen_extreme_value"])
def test_the_slope_by_the_response_is_that_of_the_density(name):
    family = FAMILIES[name]
    try:
        support = support_of_response(family, "y")
    except gb.NotSupportedError:
        return
    y = np.array(CONTINUOUS[support])
    params = {
        p.name: np.array([0.37, 0.41]) + (0.0 if np.isfinite(p.support[1]) else 1.0)
        for p in family.parameters
    }
    h = 1e-6
    rise = family.logp(y + h, None, params) - family.logp(y - h, None, params)
    np.testing.assert_allclose(slope_by_response(family, y, params), rise / (2 * h), rtol=1e-6)


# ---- rows


def test_rows_without_a_modelled_value_are_kept_and_others_left_out(data):
    assert gb.Model(["y | mi() ~ mi(x)", "x | mi() ~ z"], data).nobs == N
    assert gb.Model(["y | mi() ~ mi(x)", "x | mi() ~ z"], data, missing="raise").nobs == N
    gaps = data.assign(z=data.z.where(data.index != 3))
    with pytest.warns(gb.DataWarning, match=r"1 of 30 rows are left out.*'z' \(1\)"):
        assert gb.Model(["y ~ mi(x)", "x | mi() ~ z"], gaps).nobs == N - 1
    # x itself, not mi(x), has to be there.
    with pytest.warns(gb.DataWarning, match="6 of 30 rows are left out"):
        assert gb.Model(["y ~ mi(x) + I(x**2)", "x | mi() ~ z"], data).nobs == N - 6


def test_nothing_is_unknown_where_nothing_is_missing(data):
    whole = data.dropna()
    fit = gb.Model(["y ~ mi(x) + z", "x | mi() ~ z"], whole).fit("ml")
    plain = gb.Model("y ~ x + z", whole).fit("ml")
    own = fit.fixef().query("param == 'mu_y'")["estimate"]
    np.testing.assert_allclose(own, plain.fixef()["estimate"], rtol=1e-6)
    np.testing.assert_allclose(
        fit.predict(response="y")["estimate"], plain.predict()["estimate"], rtol=1e-6
    )


def test_missing_responses_alone_say_nothing_and_are_predicted(data):
    fit = gb.Model("y | mi() ~ z", data).fit("ml")
    with pytest.warns(gb.DataWarning, match="3 of 30"):
        plain = gb.Model("y ~ z", data).fit("ml")
    assert fit.loglik == pytest.approx(plain.loglik, abs=1e-6)
    found = fit.predict(response="y")
    assert len(found) == N
    gone = data[data.y.isna()]
    new = gone.drop(columns=["x", "y", "size", "share"])
    np.testing.assert_allclose(
        found.loc[gone.index, "estimate"], plain.predict(new)["estimate"], rtol=1e-4
    )
    assert np.isnan(fit.residuals(response="y")[gone.index]).all()


# ---- a fit


@pytest.fixture(scope="module")
def fit(data):
    model = gb.Model(["y | mi() ~ mi(x) + z", "x | mi() ~ z"], data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gb.ConvergenceWarning)  # short on purpose
        return model.fit(seed=1, chains=2, draws=150, tune=200, progressbar=False)


def test_missing_values_are_draws_by_row(data, fit):
    values = fit.idata["posterior"]["mi_x"]
    assert values.dims == ("chain", "draw", "mi_x__row")
    assert list(values["mi_x__row"]) == list(np.flatnonzero(data.x.isna()))
    assert "mi_x" not in repr(fit.summary()).split("Diagnostics")[0]
    assert "mi_x (worst)" in fit.diagnostics().table.index


def test_predictions_use_the_missing_values_and_new_rows_need_theirs(data, fit):
    beta, xs = fit.draws.beta["mu_y"], fit.draws.unseen["mi_x"][:, :, 0]
    at = np.flatnonzero(data.x.isna())
    expected = beta[:, [0]] + beta[:, [1]] * xs + beta[:, [2]] * data.z.to_numpy()[at]
    found = fit.predict(response="y", draws=True).to_numpy().reshape(-1, N)[:, at]
    np.testing.assert_allclose(found, expected)
    new = fit.predict(pd.DataFrame({"x": [2.0], "z": [0.0]}), response="y")
    np.testing.assert_allclose(new["estimate"], np.mean(beta[:, 0] + 2 * beta[:, 1]))
    with pytest.raises(gb.DataError, match="no value of 'x'"):
        fit.predict(pd.DataFrame({"x": [np.nan], "z": [0.0]}))


def test_loo_and_simulations(data, fit):
    assert fit.simulate(2, seed=1).shape == (2, N, 2)
    there = ~(data.x.isna() & data.y.isna())
    assert fit.idata["log_likelihood"]["y"].shape == (2, 150, there.sum())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.isfinite(fit.loo().elpd)


def test_a_saved_fit_comes_back(tmp_path, data, fit):
    fit.save(tmp_path / "fit.zip")
    again = gb.load(tmp_path / "fit.zip")
    assert again.model.nobs == N
    pd.testing.assert_frame_equal(again.predict(), fit.predict())


def test_prior_draws_go_from_one_response_to_the_next(data):
    """At fixed parameters missing y follow from missing x, whatever is observed."""
    priors = {
        "beta_mu_y[Intercept]": 1.0, "beta_mu_y[mi(x)]": 2.0, "sigma_y": 0.5,
        "beta_mu_x[Intercept]": 3.0, "beta_mu_x[z]": 0.0, "sigma_x": 0.7,
        "beta_mu_count[Intercept]": 0.0, "beta_mu_count[mi(y)]": 0.01,
    }  # fmt: skip
    formulas = ["count ~ mi(y)", "y | mi() ~ mi(x)", "x | mi() ~ z"]
    model = gb.Model(formulas, data, ["poisson", "gaussian", "gaussian"], priors=priors)
    tree = model.prior_predictive(2000, seed=1)["prior"]
    x = tree["mi_x"].to_numpy()[0]
    assert stats.kstest(x.ravel(), stats.norm(3, 0.7).cdf).pvalue > 1e-3
    rows = list(tree["mi_y__row"].to_numpy())
    both = rows.index(5)  # where x is missing too
    y = tree["mi_y"].to_numpy()[0][:, both]
    assert stats.kstest(y, stats.norm(7, np.hypot(0.5, 1.4)).cdf).pvalue > 1e-3
    own = x[:, list(tree["mi_x__row"].to_numpy()).index(5)]
    assert np.corrcoef(own, y)[0, 1] == pytest.approx(1.4 / np.hypot(0.5, 1.4), abs=0.03)


# ---- what is refused


@pytest.mark.parametrize(
    ("formulas", "family", "words"),
    [
        ("y ~ mi(x)", "gaussian", r"needs a model of x: add the formula 'x \| mi\(\) ~ …'"),
        (["y ~ mi(x)", "x ~ z"], "gaussian", r"write 'x \| mi\(\) ~ …' for its formula"),
        (["y ~ mi(x)", "x | mi() ~ mi(x)"], "gaussian", "round in a circle"),
        (["y | mi() ~ mi(x)", "x | mi() ~ mi(y)"], "gaussian", "round in a circle"),
        (["y ~ mi(count)", "count | mi() ~ z"], ["gaussian", "poisson"], "continuous responses"),
        ("count | mi() ~ z", "poisson", "continuous responses"),
        (["y ~ mi(g)", "g | mi() ~ z"], "gaussian", "has the levels"),
        (["y ~ mi(log(x))", "x | mi() ~ z"], "gaussian", "should name a column"),
        (["y ~ mi(x, idx)", "x | mi() ~ z"], "gaussian", "takes x, as in"),
        (["y ~ z + (mi(x) | g)", "x | mi() ~ z"], "gaussian", "not within"),
        (["y ~ mi(x)", "x | mi() ~ z", "rescor ~ 1"], "gaussian", "write 'rescor ~ 0'"),
        ("y | mi() + weights(s) ~ z", "gaussian", r"beside weights\(…\) is not built"),
        ("y | mi() + subset(s > 0) ~ z", "gaussian", r"beside subset\(…\) is not built"),
        ("x | mi(z) ~ s", "gaussian", "has to be positive"),
        ("x | mi(s2) ~ z", "gaussian", "no standard deviation"),
    ],
)
def test_what_cannot_be_imputed_is_refused(data, formulas, family, words):
    table = data.assign(s2=data.s.where(data.index != 2))
    with pytest.raises(gb.GlmmError, match=words):
        gb.Model(formulas, table, family)


@pytest.mark.parametrize("method", ["ml", "map", "nested_laplace"])
def test_other_methods_say_that_nuts_is_the_one(data, method):
    with pytest.raises(gb.NotSupportedError, match=r"mi\(x\).*use fit\('nuts'\)"):
        gb.Model(PAIR, data).fit(method)


# ---- published numbers


@pytest.mark.slow
def test_the_nhanes_example_agrees_with_brms():
    """
    bmi | mi() ~ age * mi(chl), chl | mi() ~ age: 25 rows of mice's `nhanes` (Schafer 1997).

    Three runs of brms 2.20 and later, in its reference of `mi` and its vignette on missing
    values, print bmi: Intercept 13.3 to 13.5, age -4.4 to -4.5, mi(chl) 0.12, their product
    -0.01, sigma 3.27 to 3.32; chl: Intercept 136.5 to 137.7, age 31.0 to 31.6, sigma 36.7 to
    36.9; Monte Carlo errors are up to 0.25 for the first. What it takes by default for responses
    with gaps seems to be, and is here, t3(0, 2.5) for bmi's intercept at the mean age (at chl = 0,
    for mi(chl) is not centred), half of that for sigma, and flat coefficients. For chl's intercept
    t3(0, 2.5) would have a second mode, far from its 192 at the mean age, and move that by about
    -2; here it is flat.
    """
    gone = np.nan
    age = [1, 2, 1, 3, 1, 3, 1, 1, 2, 2, 1, 2, 3, 2, 1, 1, 3, 2, 1, 3, 1, 1, 1, 3, 2]
    bmi = [gone, 22.7, gone, gone, 20.4, gone, 22.5, 30.1, 22.0, gone, gone, gone, 21.7, 28.7,
           29.6, gone, 27.2, 26.3, 35.3, 25.5, gone, 33.2, 27.5, 24.9, 27.4]  # fmt: skip
    chl = [gone, 187, 187, gone, 113, 184, 118, 187, 238, gone, gone, gone, 206, 204, gone, gone,
           284, 199, 218, gone, gone, 229, 131, gone, 186]  # fmt: skip
    data = pd.DataFrame({"a": np.array(age) - np.mean(age), "bmi": bmi, "chl": chl})
    wide = gb.Prior("Normal", mu=0.0, sigma=100.0)
    narrow = gb.Prior("StudentT", nu=3.0, mu=0.0, sigma=2.5)
    half = gb.Prior("HalfStudentT", nu=3.0, sigma=2.5)
    priors = {"sigma_bmi": half, "sigma_chl": half}
    for name in ("beta_mu_bmi", "beta_mu_chl"):
        priors[name] = wide
    priors["beta_mu_bmi[Intercept]"] = narrow
    priors["beta_mu_chl[Intercept]"] = gb.Prior("Normal", mu=190.0, sigma=100.0)
    model = gb.Model(["bmi | mi() ~ a * mi(chl)", "chl | mi() ~ a"], data, priors=priors)
    fit = model.fit(seed=4, chains=4, draws=1000, tune=1000, progressbar=False)
    b0, b_age, b_chl, b_both = fit.draws.beta["mu_bmi"].T
    a0, a_age = fit.draws.beta["mu_chl"].T
    mean = np.mean(age)
    slope = b_age.mean()
    assert (b0 - mean * b_age).mean() == pytest.approx(13.4, abs=1.5)
    assert slope == pytest.approx(-4.45, abs=0.9)
    assert (b_chl - mean * b_both).mean() == pytest.approx(0.12, abs=0.007)
    assert b_both.mean() == pytest.approx(-0.01, abs=0.007)
    assert a0.mean() == pytest.approx(137.2 + mean * 31.3, abs=3.0)
    assert a_age.mean() == pytest.approx(31.3, abs=2.0)
    assert fit.draws.constants["sigma_bmi"].mean() == pytest.approx(3.29, abs=0.1)
    assert fit.draws.constants["sigma_chl"].mean() == pytest.approx(36.8, abs=0.8)
    assert np.std(b_age) == pytest.approx(5.8, abs=0.5)
    assert np.std(a_age) == pytest.approx(11.4, abs=0.8)


@pytest.mark.slow
def test_missing_at_random_does_not_bias():
    """
    x is missing where y's other predictor is large: the slopes' means over 15 tables are true.

    y = 0.5 + 0.7 x - 0.4 z; the standard error of a mean of 15 is about 0.03.
    """
    found = []
    for seed in range(15):
        rng = np.random.default_rng(200 + seed)
        z = rng.normal(size=80)
        x = 1 + 0.5 * z + rng.normal(size=80)
        y = 0.5 + 0.7 * x - 0.4 * z + 0.6 * rng.normal(size=80)
        data = pd.DataFrame({"z": z, "x": np.where(rng.normal(size=80) < z, np.nan, x), "y": y})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", gb.ConvergenceWarning)
            fit = gb.Model(["y ~ mi(x) + z", "x | mi() ~ z"], data).fit(
                seed=seed, chains=2, draws=200, tune=250, progressbar=False
            )
        found.append(fit.draws.beta["mu_y"].mean(axis=0)[1:])
    error = np.std(found, axis=0) / np.sqrt(len(found))
    assert (np.abs(np.mean(found, axis=0) - [0.7, -0.4]) < 3 * error + 0.02).all()
