"""Residuals that vary together, beyond the maximum: nlme, dense normals, textbooks' kriging."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pytensor.compile.mode import Mode
from scipy.stats import multivariate_normal, norm

import glmm_bayes as gb
from glmm_bayes.density import read_density
from glmm_bayes.engine import turning
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.laplace import LaplaceObjective
from glmm_bayes.modes.reading import read_laplace

CYCLE = "follicles ~ s + c"


def ovary() -> pd.DataFrame:
    data = gb.load_dataset("ovary")
    turn = 2 * np.pi * data["Time"]
    step = data.groupby("Mare", observed=True).cumcount()
    return data.assign(s=np.sin(turn), c=np.cos(turn), step=step)


def orthodont() -> pd.DataFrame:
    data = gb.load_dataset("orthodont")
    step = (data["age"] - 8) / 2
    return data.assign(step=step, visit=pd.Categorical(step.astype(int)))


def series(n: int = 40, groups: int = 2) -> pd.DataFrame:
    """An autoregressive process in each group, with a slope."""
    rng = np.random.default_rng(5)
    e = np.empty((groups, n))
    e[:, 0] = rng.standard_normal(groups)
    for t in range(1, n):
        e[:, t] = 0.7 * e[:, t - 1] + np.sqrt(1 - 0.49) * rng.standard_normal(groups)
    x = rng.standard_normal((groups, n))
    return pd.DataFrame(
        {
            "y": (1 + 0.5 * x + 0.8 * e).ravel(),
            "x": x.ravel(),
            "t": np.tile(np.arange(n), groups),
            "g": np.repeat([f"g{k}" for k in range(groups)], n),
        }
    )


def lags(t: np.ndarray, u: np.ndarray) -> np.ndarray:
    return np.abs(np.subtract.outer(t, u))


def few_draws(formula: list[str], data: pd.DataFrame, draws: int) -> Any:
    """Fewer than diagnostics want: what is checked holds at every draw."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gb.ConvergenceWarning)
        model = gb.Model(formula, data)
        return model.fit("posthoc", seed=1, draws=draws, progressbar=False)


# ---- maxima


VARIANCES = ["residual ~ ar1(step | Subject)", "sigma ~ Sex"]
BY_VISIT = ["residual ~ homcs(0 + visit | Subject)", "sigma ~ visit"]


@pytest.mark.parametrize(
    ("mean", "further", "method", "loglik", "sigma", "ratios", "rho"),
    [
        ("", VARIANCES, "ml", -215.970306975, 3.00635999581, [0.566877533769], 0.732746893233),
        ("", VARIANCES, "reml", -217.051201129, 3.11653410442, [0.562546150431], 0.747828956516),
        (
            "+ (1 | Subject)", VARIANCES, "ml",
            -208.078971253, 1.85697545082, [0.440290930521], 0.172025597049,
        ),
        (
            "+ (1 | Subject)", VARIANCES, "reml",
            -209.571951698, 1.87627390342, [0.443595139413], 0.188624013484,
        ),
        (
            "", BY_VISIT, "ml", -216.688354939, 2.30289205606,
            [0.872228717368, 1.0480061175, 0.962282330729], 0.599699497191,
        ),
        (
            "", BY_VISIT, "reml", -218.057360614, 2.36929336168,
            [0.874588585314, 1.04203636578, 0.964928546379], 0.616773667636,
        ),
    ],
)  # fmt: skip
def test_variances_by_group_are_those_of_nlme(
    mean: str,
    further: list[str],
    method: str,
    loglik: float,
    sigma: float,
    ratios: list[float],
    rho: float,
) -> None:
    """nlme 3.1-162: gls and lme with corAR1 or corCompSymm, and weights = varIdent."""
    fit = gb.Model([f"distance ~ age + Sex {mean}", *further], orthodont()).fit(method)
    assert fit.loglik == pytest.approx(loglik, abs=2e-8 * abs(loglik))
    found = fit.fixef().query("param == 'sigma'")["estimate"].to_numpy()
    np.testing.assert_allclose(np.exp(found), [sigma, *ratios], rtol=2e-4)
    table = fit.varcorr().query("group == 'Residual'").set_index("kind")["estimate"]
    assert table.iloc[0] == pytest.approx(rho, abs=1e-4)


@pytest.mark.parametrize("joint", [True, False])
def test_the_gradient_by_all_parameters_is_that_of_the_value(joint: bool) -> None:
    formula = ["distance ~ age + (1 + age | Subject)", *VARIANCES]
    coordinates = Coordinates.unconstrained(gb.Model(formula, orthodont()))
    laplace = read_laplace(coordinates.model)
    objective = LaplaceObjective(laplace, coordinates, joint)
    objective.gamma = np.array([24.0, 0.6])
    x = 0.2 * np.random.default_rng(1).standard_normal(coordinates.size)
    x[:2] = 24.0, 0.6
    slope, step = objective(x)[1], 1e-6 * np.eye(len(x))
    found = [(objective(x + s)[0] - objective(x - s)[0]) / 2e-6 for s in step]
    np.testing.assert_allclose(slope, found, rtol=1e-5, atol=1e-5)


def test_bands_and_stacks_turn_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    model = gb.Model(["y ~ x", "residual ~ ar(t | g, p=3)"], series().sample(80, random_state=1))
    residual = model.design.residual
    found = []
    for narrow in (8, -1):
        monkeypatch.setattr(turning, "NARROW", narrow)
        own = turning.Turning(turning.Pattern(model.nobs, residual.pairs), residual.rank)
        theta = {"partial": np.array([0.6, -0.3, 0.2])}
        Q = residual.level_structure.entries(theta)
        Q = turning.Precision(Q.values, float(Q.log_determinant))
        found.append(own.turned(own.roots(Q), np.eye(model.nobs)))
        assert own.is_narrow is (narrow == 8)
    np.testing.assert_allclose(*found, atol=1e-12)
    dense = own.pattern.matrix(Q.values).toarray()
    np.testing.assert_allclose(found[0].T @ found[0], dense, atol=1e-12)


def test_a_long_series_has_the_likelihood_of_its_innovations() -> None:
    """Of AR(1), y_t given the one before: Hamilton (1994), Time Series Analysis, 5.2."""
    rng, n = np.random.default_rng(1), 20_000
    y = np.zeros(n)
    for t in range(n):
        y[t] = 0.7 * y[t - 1] + rng.standard_normal()
    data = pd.DataFrame({"y": y + 3, "t": np.arange(n)})
    fit = gb.Model(["y ~ 1", "residual ~ ar1(t | 1)"], data).fit("ml")
    sigma, rho = fit.varcorr().set_index("kind").loc[["sd", "rho"], "estimate"]
    e = data["y"].to_numpy() - fit.fixef()["estimate"].iloc[0]
    news = norm.logpdf(e[1:], rho * e[:-1], sigma * np.sqrt(1 - rho**2)).sum()
    assert fit.loglik == pytest.approx(norm.logpdf(e[0], 0, sigma) + news, abs=1e-6)


def test_normalized_residuals_are_those_of_nlme() -> None:
    """nlme 3.1-162: residuals(gls(...), type = "normalized")."""
    fit = gb.Model([CYCLE, "residual ~ ar1(step | Mare)"], ovary()).fit("ml")
    theirs = [1.38564995767, -0.869281649193, 1.76918403478, -1.19206164278, -0.273138926494]
    found = fit.residuals("quantile").to_numpy()[[0, 1, 2, 99, 307]]
    np.testing.assert_allclose(found, theirs, atol=1e-6)


# ---- one density


@pytest.mark.parametrize(
    ("formula", "data"),
    [
        (["y ~ x + (1 | g)", "residual ~ ar1(t | g)"], series),
        (["y ~ x", "residual ~ ou(t | g)", "sigma ~ x"], series),
        (["y ~ x", "residual ~ exp(t | 1)"], lambda: series(groups=1)),
        (["y ~ x", "residual ~ arma(t | g)"], series),
        (["distance ~ age", "residual ~ us(0 + visit | Subject)", "sigma ~ Sex"], orthodont),
        (["distance ~ age", "residual ~ homtoep(0 + visit | Subject)"], orthodont),
    ],
)
def test_the_graph_and_the_arrays_have_the_same_density(formula: list[str], data: Any) -> None:
    model = gb.Model(formula, data(), centering="noncentered")
    graphed, joint = model.pymc, read_density(model)
    # Not worth compiling for three points.
    logp = graphed.compile_logp(mode=Mode(linker="py", optimizer=None))
    rng, gaps, point = np.random.default_rng(2), [], graphed.initial_point()
    names = [v.name for v in graphed.value_vars]
    order = [n for n in names if not n.startswith("v_")] + [n for n in names if n.startswith("v_")]
    for _ in range(3):
        moved = {k: v + 0.3 * rng.standard_normal(np.shape(v)) for k, v in point.items()}
        x = np.concatenate([np.ravel(moved[name]) for name in order])
        value, slope = joint.value_and_gradient(x)
        gaps.append(float(logp(moved)) - value)
        step = 1e-5 * np.eye(len(x))
        ends = [[joint.value_and_gradient(x + s * h)[0] for s in (1, -1)] for h in step]
        np.testing.assert_allclose(slope, np.diff(ends)[:, 0] / -2e-5, rtol=1e-4, atol=1e-4)
    assert np.ptp(gaps) < 1e-8


# ---- posteriors


def grid_of_rho(data: pd.DataFrame, sigma: float, beta_sd: float) -> tuple[float, float]:
    """The posterior mean and standard deviation of rho: dense normals, on a grid."""
    X = np.column_stack([np.ones(len(data)), data["x"] - data["x"].mean()])
    same = np.equal.outer(data["g"].to_numpy(), data["g"].to_numpy())
    d, y = lags(data["t"].to_numpy(), data["t"].to_numpy()), data["y"].to_numpy()
    rho, logs = np.linspace(-0.99, 0.995, 400), []
    for r in rho:
        V = sigma**2 * np.where(same, r**d, 0.0) + beta_sd**2 * X @ X.T
        logs.append(multivariate_normal(np.zeros(len(y)), V).logpdf(y))
    weight = np.exp(np.array(logs) - max(logs))
    weight /= weight.sum()
    mean = float(weight @ rho)
    return mean, float(np.sqrt(weight @ (rho - mean) ** 2))


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("posthoc", {"draws": 1000}),
        pytest.param("nuts", {"draws": 1000, "tune": 500}, marks=pytest.mark.slow),
    ],
)
def test_the_posterior_of_rho_is_that_of_dense_normals(method: str, options: Any) -> None:
    data = series(25)
    flat = gb.Prior("Uniform", lower=-1.0, upper=1.0)
    wide = gb.Prior("Normal", mu=0.0, sigma=3.0)
    priors = {"rho": flat, "beta": wide, "intercept": wide, "sigma": 0.8}
    model = gb.Model(["y ~ x", "residual ~ ar1(t | g)"], data, priors=priors)
    fit = model.fit(method, seed=1, progressbar=False, **options)
    mean, sd = grid_of_rho(data, 0.8, 3.0)
    row = fit.varcorr().set_index("kind").loc["rho"]
    assert row["estimate"] == pytest.approx(mean, abs=5 * sd / np.sqrt(row["ess_bulk"]))
    assert row["std_error"] == pytest.approx(sd, rel=0.1)


def test_the_mode_of_the_posterior_is_highest() -> None:
    """By the joint density of PyMC, which has no effects here."""
    model = gb.Model(["y ~ x", "residual ~ ou(t | g)", "sigma ~ x"], series())
    fit = model.fit("map")
    joint, theta = read_density(model), fit.mode.theta
    x = joint.outer.unconstrain(theta)
    assert abs(joint.value_and_gradient(x)[1]).max() < 1e-3


def test_a_posterior_has_all_that_others_have(tmp_path: Any) -> None:
    fit = few_draws(["distance ~ age", "residual ~ us(0 + visit | Subject)"], orthodont(), 100)
    corr = fit.idata["posterior"]["corr_residual"]
    assert corr.shape == (4, 100, 4, 4)
    np.testing.assert_allclose(np.einsum("cdii->cdi", corr.to_numpy()), 1.0)
    again = gb.load(fit.save(tmp_path / "fit.nc") or tmp_path / "fit.nc")
    for column in ("estimate", "std_error", "lower", "upper"):
        np.testing.assert_allclose(again.varcorr()[column], fit.varcorr()[column], rtol=1e-8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.isfinite(fit.loo().elpd)


def test_a_row_s_density_given_the_others_is_that_of_dense_normals() -> None:
    data = series(12)
    fit = few_draws(["y ~ x", "residual ~ ar1(t | g)"], data, 20)
    found = fit.idata["log_likelihood"]["y"].to_numpy()[0, 0]
    post = fit.idata["posterior"].isel(chain=0, draw=0)
    rho, sigma = float(post["rho_residual"]), float(post["sigma"])
    r = data["y"] - post["beta"].to_numpy() @ np.array([np.ones(len(data)), data["x"]])
    r, g = r.to_numpy(), data["g"].to_numpy()
    d = lags(data["t"].to_numpy(), data["t"].to_numpy())
    V = sigma**2 * np.where(np.equal.outer(g, g), rho**d, 0.0)
    for i in (0, 5, 23):
        o = np.arange(len(r)) != i
        w = np.linalg.solve(V[np.ix_(o, o)], V[o, i])
        dense = norm.logpdf(r[i], w @ r[o], np.sqrt(V[i, i] - w @ V[o, i]))
        assert found[i] == pytest.approx(dense, abs=1e-9)


def test_the_structure_s_parameters_are_among_the_named_ones() -> None:
    fit = gb.Model(["y ~ x + (1 | g)", "residual ~ ar1(t | g)"], series()).fit("map")
    table = fit.varcorr().set_index(["group", "kind"])["estimate"]
    found = fit.confint()["estimate"]
    assert list(found.index) == ["Intercept", "x", "sd_g[Intercept]", "rho_residual", "sigma"]
    assert found["rho_residual"] == table["Residual", "rho"] == fit.theta["rho_residual"]
    fit = gb.Model(["distance ~ age", "residual ~ us(0 + visit | Subject)"], orthodont()).fit("ml")
    assert "corr_residual[visit[0], visit[2]]" in fit.confint().index


# ---- responses, and kriging


@pytest.mark.parametrize("family", ["gaussian", "lognormal"])
def test_simulated_rows_vary_together_as_the_structure_says(family: str) -> None:
    data = series(8, 1)
    data["y"] = np.exp(data["y"]) if family == "lognormal" else data["y"]
    priors = {"rho": 0.6, "sigma": 0.5}
    fit = gb.Model(["y ~ x", "residual ~ ar1(t | 1)"], data, family, priors=priors).fit("ml")
    drawn = fit.simulate(40_000, seed=1).to_numpy()
    drawn = np.log(drawn) if family == "lognormal" else drawn
    t = data["t"].to_numpy()
    np.testing.assert_allclose(np.cov(drawn.T), 0.25 * 0.6 ** lags(t, t), atol=0.01)


def kriged(
    data: pd.DataFrame, new: pd.DataFrame, beta: np.ndarray, rho: float
) -> tuple[np.ndarray, np.ndarray]:
    """Simple kriging of the residuals, over sigma: Cressie (1993), Statistics for Spatial Data."""
    mean, mean_new = (beta[0] + beta[1] * part["x"].to_numpy() for part in (data, new))
    same, same_new = (
        np.equal.outer(part["g"].to_numpy(), data["g"].to_numpy()) for part in (data, new)
    )
    t, u = data["t"].to_numpy(), new["t"].to_numpy()
    R = np.where(same, rho ** lags(t, t), 0.0)
    c = np.where(same_new, rho ** lags(u, t), 0.0)
    w = np.linalg.solve(R, c.T).T
    return mean_new + w @ (data["y"].to_numpy() - mean), 1 - (w * c).sum(axis=1)


def later(n: int) -> pd.DataFrame:
    """Times after the last, one between those seen, and a group that was not."""
    return pd.DataFrame(
        {
            "t": [n, n + 3, 10, n, 2],
            "g": ["g0", "g0", "g1", "g1", "new"],
            "x": [0.1, -0.2, 0.3, 0.0, 1.0],
        }
    )


def test_a_forecast_at_the_maximum_is_kriging() -> None:
    data = series()
    seen = data[~((data["g"] == "g1") & (data["t"] == 10))]
    fit = gb.Model(["y ~ x", "residual ~ ar1(t | g)"], seen).fit("ml")
    rho = fit.varcorr().set_index("kind").loc["rho", "estimate"]
    beta = fit.fixef()["estimate"].to_numpy()
    mean, share = kriged(seen, later(40), beta, rho)
    np.testing.assert_allclose(fit.predict(later(40))["estimate"], mean, rtol=1e-8)
    linear = fit.predict(later(40), kind="linear")["estimate"]
    np.testing.assert_allclose(linear, beta[0] + beta[1] * later(40)["x"], rtol=1e-8)
    drawn = fit.simulate(20_000, newdata=later(40), seed=1).to_numpy()
    sigma = fit.varcorr().query("kind == 'sd'")["estimate"].iloc[0]
    np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=0.03)
    np.testing.assert_allclose(drawn.var(axis=0), sigma**2 * share, rtol=0.05)


def test_a_forecast_of_the_posterior_is_kriging_at_each_draw() -> None:
    data = series()
    fit = few_draws(["y ~ x", "residual ~ ar1(t | g)"], data, 50)
    new = later(40).drop(index=2)
    found = fit.predict(new, draws=True).to_numpy().reshape(200, -1)
    post = fit.idata["posterior"]
    beta = post["beta"].to_numpy().reshape(200, 2)
    rho = post["rho_residual"].to_numpy().ravel()
    every = [kriged(data, new, b, r)[0] for b, r in zip(beta, rho, strict=True)]
    np.testing.assert_allclose(found, every, rtol=1e-8)
    table = fit.predict(new)
    np.testing.assert_allclose(table["estimate"], np.mean(every, axis=0), rtol=1e-8)


def test_rows_that_were_fitted_are_predicted_as_without_new_data() -> None:
    fit = gb.Model(["y ~ x", "residual ~ ar1(t | g)"], series()).fit("ml")
    pd.testing.assert_frame_equal(fit.predict(series()), fit.predict())
    drawn = fit.predict(series(), kind="response", seed=1)
    np.testing.assert_allclose(
        drawn["std_error"], fit.predict(kind="response", seed=1)["std_error"], rtol=0.1
    )


def test_a_measurement_that_was_missed_is_predicted_from_the_others() -> None:
    data = orthodont()
    fit = gb.Model(["distance ~ age", "residual ~ us(0 + visit | Subject)"], data.iloc[1:]).fit(
        "ml"
    )
    found = fit.predict(data.iloc[:1])["estimate"].iloc[0]
    R = fit.model.design.residual.level_structure
    theta = {p.name: fit.draws.theta[f"{p.name}_residual"][0] for p in R.parameters(0)}
    L = R.columns.factor({"sd": np.ones(4)} | theta, 4)
    C = L @ L.T
    beta = fit.fixef()["estimate"].to_numpy()
    own = data[data["Subject"] == data["Subject"].iloc[0]]
    r = (own["distance"] - beta[0] - beta[1] * own["age"]).to_numpy()
    mean = beta[0] + beta[1] * data["age"].iloc[0]
    assert found == pytest.approx(mean + C[0, 1:] @ np.linalg.solve(C[1:, 1:], r[1:]), rel=1e-8)


def test_prior_predictive_draws_have_the_structure() -> None:
    data = series(6, 1)
    wide = gb.Prior("Normal", mu=0.0, sigma=1e-6)
    priors = {"rho": 0.6, "sigma": 0.5, "beta": wide, "intercept": wide}
    model = gb.Model(["y ~ x", "residual ~ ar1(t | 1)"], data, priors=priors)
    drawn = model.prior_predictive(20_000, seed=1)["prior_predictive"]["y"].to_numpy()[0]
    t = data["t"].to_numpy()
    np.testing.assert_allclose(np.cov(drawn.T), 0.25 * 0.6 ** lags(t, t), atol=0.01)
