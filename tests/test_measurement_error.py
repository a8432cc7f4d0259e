"""Predictors measured with errors, me(x, sd): the density, the verbs, and what is refused."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from unseen_cases import OverUnknown, distances_from_pymc, gradient_error

import glmm_bayes as gb

N = 30


def table(seed=1, n=N):
    """Give y = 1 + 0.8 xi + 0.3 z + noise, xi measured as x with errors s."""
    rng = np.random.default_rng(seed)
    xi = rng.normal(2.0, 1.5, n)
    s = rng.uniform(0.4, 1.2, n)
    z = rng.normal(size=n)
    w = 0.5 * xi + rng.normal(size=n)
    return pd.DataFrame(
        {
            "xi": xi,
            "s": s,
            "z": z,
            "x": xi + s * rng.normal(size=n),
            "w": w + 0.4 * rng.normal(size=n),
            "y": 1 + 0.8 * xi + 0.3 * z + 0.5 * rng.normal(size=n),
            "count": rng.poisson(np.exp(0.2 + 0.3 * xi)),
            "g": np.resize(list("abcde"), n),
            "f": np.resize(list("uv"), n),
        }
    )


@pytest.fixture(scope="module")
def data():
    return table()


# ---- the density


FORMULAS = {
    "product": ("y ~ me(x, s) * z + (1 | g)", "gaussian"),
    "two": ("y ~ me(x, s) + me(w, 0.4):f + me(x, s):me(w, 0.4)", "gaussian"),
    "count": ("count ~ z + me(x, s)", "poisson"),
    "scale": (["y ~ me(x, s)", "sigma ~ me(x, s)"], "student"),
    "several": (["y ~ me(x, s)", "w ~ me(x, s) + z"], "gaussian"),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_the_gradient_is_that_of_the_density(data, name):
    formula, family = FORMULAS[name]
    assert gradient_error(gb.Model(formula, data, family)) < 1e-5


@pytest.mark.parametrize("name", ["two", "scale"])
def test_arrays_and_pymc_give_one_density(data, name):
    formula, family = FORMULAS[name]
    model = gb.Model(formula, data, family, centering="noncentered")
    assert np.ptp(distances_from_pymc(model)) < 1e-4


@pytest.mark.parametrize("formula", ["y ~ me(x, s) + z", ["y ~ me(x, s) + z", "sigma ~ 1"]])
def test_response_and_measurement_are_normal_together(data, formula):
    """
    (y, x) is bivariate normal: var x = sd² + s², cov = b sd², var y = b² sd² + sigma².

    The first model is read with the true values integrated out, the second samples them.
    """
    over = OverUnknown(gb.Model(formula, data))
    assert over.joint.size - over.d == (N if isinstance(formula, list) else 0)
    found = []
    for seed in range(3):
        outer = 0.3 * np.random.default_rng(seed).normal(size=over.d)
        theta = over.named(outer)
        a, b, c = theta["beta"]
        m, sd = theta["mean_me"][0], theta["sd_me"][0]
        sigma = theta["sigma"][0] if "sigma" in theta else np.exp(theta["beta_sigma"][0])
        total = 0.0
        for _, row in data.iterrows():
            mean = [a + b * m + c * row.z, m]
            cov = [[b**2 * sd**2 + sigma**2, b * sd**2], [b * sd**2, sd**2 + row.s**2]]
            total += stats.multivariate_normal.logpdf([row.y, row.x], mean, cov)
        found.append(over(outer) - total)
    assert np.ptp(found) < 1e-4


def test_two_measured_predictors_are_correlated(data):
    over = OverUnknown(gb.Model("y ~ me(x, s) + me(w, 0.4)", data))
    found = []
    for seed in range(3):
        outer = 0.3 * np.random.default_rng(seed).normal(size=over.d)
        theta = over.named(outer)
        rho = 2 * theta["partial_me"][0] - 1
        sd, m, sigma = theta["sd_me"], theta["mean_me"], theta["sigma"][0]
        P = np.outer(sd, sd) * np.array([[1, rho], [rho, 1]])
        b = theta["beta"][1:]
        total = 0.0
        for _, row in data.iterrows():
            noise = np.diag([row.s**2, 0.4**2])
            cov = np.block([[b @ P @ b + sigma**2, b @ P], [(P @ b)[:, None], P + noise]])
            mean = [theta["beta"][0] + b @ m, *m]
            total += stats.multivariate_normal.logpdf([row.y, row.x, row.w], mean, cov)
        found.append(over(outer) - total)
    assert np.ptp(found) < 1e-4


def test_rows_of_a_level_share_one_true_value(data):
    table = data.assign(x=data.groupby("g").x.transform("first"), s=0.7)
    over = OverUnknown(gb.Model("y ~ me(x, s, gr=g)", table))
    assert over.joint.size == over.d + 5
    found = []
    for seed in range(3):
        outer = 0.3 * np.random.default_rng(seed).normal(size=over.d)
        theta = over.named(outer)
        a, b = theta["beta"]
        m, sd, sigma = theta["mean_me_g"][0], theta["sd_me_g"][0], theta["sigma"][0]
        total = 0.0
        for _, rows in table.groupby("g"):
            k = len(rows)
            cov = np.full((k + 1, k + 1), b**2 * sd**2)
            cov[:k, :k] += sigma**2 * np.eye(k)
            cov[k, :k] = cov[:k, k] = b * sd**2
            cov[k, k] = sd**2 + 0.49
            mean = np.r_[np.full(k, a + b * m), m]
            value = np.r_[rows.y, rows.x.iloc[0]]
            total += stats.multivariate_normal.logpdf(value, mean, cov)
        found.append(over(outer) - total)
    assert np.ptp(found) < 1e-4


# ---- priors


def test_the_true_values_priors_are_at_the_measurements(data):
    priors = gb.Model("y ~ me(x, s) + me(w, 0.4)", data).priors.set_index("parameter")
    assert {"mean_me[x]", "mean_me[w]", "sd_me[x]", "sd_me[w]", "corr_me"} <= set(priors.index)
    model = gb.Model(
        "y ~ me(x, s)", data, priors={"mean_me": 2.0, "sd_me": gb.Prior("Exponential", lam=1.0)}
    )
    told = model.priors.set_index("parameter")
    assert told.loc["mean_me[x]", "distribution"] == "Fixed"
    assert told.loc["sd_me[x]", "source"] == "user: sd_me"
    # `sd` is of random effects.
    half = gb.Model(
        "y ~ me(x, s) + (1 | g)", data, priors={"sd": gb.Prior("HalfNormal", sigma=1.0)}
    )
    assert half.priors.set_index("parameter").loc["sd_me[x]", "source"] == "default"


# ---- a fit


@pytest.fixture(scope="module")
def fit(data):
    model = gb.Model("y ~ me(x, s) + z", data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gb.ConvergenceWarning)  # short on purpose
        return model.fit(seed=1, chains=2, draws=150, tune=200, progressbar=False)


def test_true_values_are_drawn_given_measurement_and_response(data, fit):
    """Given all else, xi has precision 1/sd² + 1/s² + (b / sigma)²."""
    beta, sigma = fit.draws.beta["mu"], fit.draws.constants["sigma"][:, None]
    m, sd = fit.draws.theta["mean_me"], fit.draws.theta["sd_me"]
    s, x, y, z = (data[name].to_numpy() for name in ("s", "x", "y", "z"))
    slope = beta[:, [1]]
    precision = 1 / sd**2 + 1 / s**2 + (slope / sigma) ** 2
    rest = y - beta[:, [0]] - beta[:, [2]] * z
    centre = (m / sd**2 + x / s**2 + slope * rest / sigma**2) / precision
    score = (fit.draws.unseen["me"][:, :, 0] - centre) * np.sqrt(precision)
    assert stats.kstest(score.ravel(), stats.norm.cdf).pvalue > 1e-3


def test_a_summary_has_the_true_values_distribution_and_not_the_values(fit):
    text = repr(fit.summary())
    assert "True values of measured predictors" in text
    assert "mean(x)" in text
    assert "me_x" not in text.split("Diagnostics")[0]
    assert set(fit.varcorr().query("group == 'me'")["kind"]) == {"mean", "sd"}
    assert fit.idata["posterior"]["me_x"].shape == (2, 150, N)
    assert "me_x (worst)" in fit.diagnostics().table.index


def test_predictions_of_new_rows_shrink_a_measurement_by_its_error(data, fit):
    """Given x and sd, the true value is normal about w x + (1 - w) mean: w is its reliability."""
    exact, rough, no = (data.head(1).assign(x=6.0, s=s) for s in (0.0, 1.0, 1e6))
    beta = fit.draws.beta["mu"].T
    m, sd = fit.draws.theta["mean_me"][:, 0], fit.draws.theta["sd_me"][:, 0]
    z = data.z.iloc[0]
    np.testing.assert_allclose(
        fit.predict(exact)["estimate"], np.mean(beta[0] + beta[1] * 6 + beta[2] * z)
    )
    w = sd**2 / (sd**2 + 1)
    centre = beta[0] + beta[1] * (w * 6 + (1 - w) * m) + beta[2] * z
    noise = np.std(beta[1] * np.sqrt(w)) + 1.0
    found = fit.predict(rough, seed=3)["estimate"].iloc[0]
    assert abs(found - centre.mean()) < 5 * noise / np.sqrt(len(m))
    spread = fit.predict(no, seed=3)["std_error"].iloc[0]
    far = np.var(beta[0] + beta[1] * m + beta[2] * z) + np.mean((beta[1] * sd) ** 2)
    assert spread == pytest.approx(np.sqrt(far), rel=0.2)


def test_comparisons_take_the_predictor_for_the_true_one(data, fit):
    rise = fit.comparisons({"x": 1.0}, newdata=data.head(2))
    np.testing.assert_allclose(rise["estimate"], fit.fixef().loc["me(x, s)", "estimate"])
    np.testing.assert_allclose(
        fit.slopes("x", newdata=data.head(2))["estimate"], rise["estimate"], rtol=1e-5
    )


def test_other_verbs_work_with_the_fitted_true_values(data, fit):
    mean = fit.predict(draws=True).to_numpy().reshape(-1, N)
    xi = fit.draws.unseen["me"][:, :, 0]
    beta = fit.draws.beta["mu"]
    expected = beta[:, [0]] + beta[:, [1]] * xi + beta[:, [2]] * data.z.to_numpy()
    np.testing.assert_allclose(mean, expected)
    np.testing.assert_allclose(
        fit.residuals("response"), data.y - expected.mean(axis=0), atol=1e-10
    )
    assert fit.simulate(2, seed=1).shape == (2, N)
    sigma = fit.draws.constants["sigma"][:, None]
    logp = stats.norm.logpdf(data.y.to_numpy(), expected, sigma)
    np.testing.assert_allclose(
        fit.idata["log_likelihood"]["y"].to_numpy().reshape(-1, N), logp, rtol=1e-8
    )


def test_a_saved_fit_predicts_alike(tmp_path, data, fit):
    fit.save(tmp_path / "fit.zip")
    again = gb.load(tmp_path / "fit.zip")
    pd.testing.assert_frame_equal(again.predict(), fit.predict())
    pd.testing.assert_frame_equal(again.predict(data.head(3)), fit.predict(data.head(3)))


def test_prior_draws_have_true_values_from_their_distribution(data):
    model = gb.Model("y ~ me(x, s)", data, priors={"mean_me": 3.0, "sd_me": 2.0})
    tree = model.prior_predictive(400, seed=1)
    xi = tree["prior"]["me_x"].to_numpy().ravel()
    assert stats.kstest(xi, stats.norm(3.0, 2.0).cdf).pvalue > 1e-3
    assert tree["prior_predictive"]["y"].shape == (1, 400, N)


# ---- what is refused


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("y ~ me(x)", "needs the standard deviation"),
        ("y ~ me(x, s, 1, 2)", "takes x, sdx, gr"),
        ("y ~ me(x, error=s)", "takes x, sdx, gr"),
        ("y ~ log(me(x, s))", "factors of a term"),
        ("y ~ z + (me(x, s) | g)", "not within '\\(me\\(x, s\\) \\| g\\)'"),
        ("y ~ z + offset(me(x, s))", "not within 'offset"),
        ("y ~ me(x, z)", "'z' of 'me\\(x, z\\)' has to be positive, but row"),
        ("y ~ me(x, 0)", "has to be positive"),
        ("y ~ me(f, 0.1)", "predictor of me\\(f, 0.1\\) 'f' must be numbers"),
        ("y ~ me(x, s) + me(x, 0.1)", "give one predictor two errors"),
        ("y ~ me(x, s, gr=g)", "one measurement and one standard deviation"),
        ("y ~ me(q, s)", "'q'"),
    ],
)
def test_what_cannot_be_measured_is_refused(data, formula, words):
    with pytest.raises(gb.GlmmError, match=words):
        gb.Model(formula, data)


def test_a_group_cannot_be_called_as_the_true_values_are(data):
    with pytest.raises(gb.DataError, match="rename the column"):
        gb.Model("y ~ me(x, s) + (1 | me)", data.assign(me=data.g))
    table = data.assign(x=1.0, s=0.5, me_g=data.g)
    with pytest.raises(gb.DataError, match="rename the column"):
        gb.Model("y ~ me(x, s, gr=g) + (1 | me_g)", table)


def test_rows_without_a_measurement_or_its_error_are_left_out(data):
    table = data.assign(x=data.x.where(data.index > 1), s=data.s.where(data.index != 4))
    with pytest.warns(gb.DataWarning, match="3 of 30 rows are left out"):
        model = gb.Model("y ~ me(x, s)", table)
    assert model.nobs == N - 3


@pytest.mark.parametrize("method", ["ml", "reml", "map", "pql", "nested_laplace"])
def test_other_methods_say_that_nuts_is_the_one(data, method):
    model = gb.Model("y ~ me(x, s) + (1 | g)", data)
    with pytest.raises(gb.NotSupportedError, match=r"me\(x, s\).*use fit\('nuts'\)"):
        model.fit(method)


def test_a_recovery_check_would_keep_the_measurements_and_is_refused(data):
    with pytest.raises(gb.NotSupportedError, match="simulate both by hand"):
        gb.check_recovery(gb.Model("y ~ me(x, s)", data), 2, seed=1)


def test_posthoc_goes_on_with_nuts(data):
    model = gb.Model("y ~ me(x, s)", data.head(12))
    with pytest.raises(gb.NotSupportedError, match="use fit"):
        model.fit("posthoc", seed=1, fallback=False)
    with pytest.raises(gb.NotSupportedError, match="use fit"):
        model.fit("nuts", seed=1, sampler="collapsed")
    with pytest.raises(gb.ConvergenceError, match="use start='prior'"):
        model.fit("nuts", seed=1, start="mode")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = model.fit("posthoc", seed=1, draws=20, chains=1, progressbar=False)
    assert found.method == "nuts"
    assert any("drawn by nuts instead" in str(each.message) for each in caught)


# ---- known truth


@pytest.mark.slow
def test_the_slope_is_not_attenuated_over_repeated_data():
    """
    Least squares finds 0.8 times the reliability; the posterior's means lie about 0.8.

    20 tables of 80 rows: the mean of 20 estimates has a standard error of about 0.02.
    """
    found, naive = [], []
    for seed in range(20):
        data = table(100 + seed, 80)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", gb.ConvergenceWarning)
            fit = gb.Model("y ~ me(x, s) + z", data).fit(
                seed=seed, chains=2, draws=200, tune=250, progressbar=False
            )
        found.append(fit.fixef().loc["me(x, s)", "estimate"])
        naive.append(np.polyfit(data.x, data.y, 1)[0])
    error = np.std(found) / np.sqrt(len(found))
    assert np.mean(naive) < 0.68
    assert abs(np.mean(found) - 0.8) < 3 * error + 0.02


@pytest.mark.slow
def test_ranks_of_parameters_drawn_from_the_prior_are_uniform():
    """Simulation-based calibration: 40 tables, x and y drawn anew; chi-squared over 5 bins."""
    names = ["intercept", "slope", "mean", "sd", "sigma"]
    priors = {
        "beta[Intercept]": gb.Prior("Normal", mu=0.0, sigma=1.0),
        "beta[me(x, s)]": gb.Prior("Normal", mu=0.0, sigma=1.0),
        "mean_me": gb.Prior("Normal", mu=0.0, sigma=1.0),
        "sd_me": gb.Prior("Gamma", alpha=4.0, beta=4.0),
        "sigma": gb.Prior("Gamma", alpha=4.0, beta=4.0),
    }
    ranks = {name: [] for name in names}
    for seed in range(40):
        rng = np.random.default_rng(seed)
        a, b, m = rng.normal(size=3)
        sd, sigma = rng.gamma(4.0, 0.25, 2)
        s = rng.uniform(0.3, 1.0, 25)
        xi = rng.normal(m, sd, 25)
        data = pd.DataFrame({"s": s, "x": xi + s * rng.normal(size=25)})
        data["y"] = a + b * xi + sigma * rng.normal(size=25)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", gb.ConvergenceWarning)
            fit = gb.Model("y ~ me(x, s)", data, priors=priors).fit(
                seed=seed, chains=2, draws=200, tune=250, progressbar=False
            )
        draws = fit.draws
        found = [
            *draws.beta["mu"].T,
            draws.theta["mean_me"][:, 0],
            draws.theta["sd_me"][:, 0],
            draws.constants["sigma"],
        ]
        for name, own, true in zip(names, found, (a, b, m, sd, sigma), strict=True):
            ranks[name].append(np.mean(own[::8] < true))
    for name, own in ranks.items():
        counts = np.histogram(own, np.linspace(0, 1, 6))[0]
        assert stats.chisquare(counts).pvalue > 1e-3, name
