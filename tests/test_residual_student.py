"""Student responses whose residuals vary together: SciPy's multivariate t, whole and given."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pytensor.compile.mode import Mode
from scipy.optimize import minimize
from scipy.stats import kstest, multivariate_t, t

import glmm_bayes as gb
from glmm_bayes.density import read_density
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.laplace import LaplaceObjective
from glmm_bayes.modes.reading import read_laplace

FORMULA = ["y ~ x", "residual ~ ar1(t | g)"]


def series(groups: int = 30, n: int = 5) -> pd.DataFrame:
    """Groups of autoregressive rows, each with a chi-squared of its own."""
    rng = np.random.default_rng(11)
    lag = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    e = multivariate_t(np.zeros(n), 0.6**lag, df=4, seed=rng).rvs(groups)
    x = rng.standard_normal((groups, n))
    return pd.DataFrame(
        {
            "y": (1 + 0.5 * x + 0.8 * e).ravel(),
            "x": x.ravel(),
            "t": np.tile(np.arange(n), groups),
            "g": np.repeat([f"g{k}" for k in range(groups)], n),
        }
    )


def dense(data: pd.DataFrame, beta: Any, rho: float, sigma: float, nu: float) -> float:
    """The log density by SciPy, a group at a time: brms' multi_student_t."""
    total = 0.0
    for _, part in data.groupby("g"):
        at = part["t"].to_numpy()
        shape = sigma**2 * rho ** np.abs(np.subtract.outer(at, at))
        mean = beta[0] + beta[1] * part["x"].to_numpy()
        total += float(multivariate_t(mean, shape, df=nu).logpdf(part["y"].to_numpy()))
    return total


def at_maximum(fit: Any) -> tuple[np.ndarray, float, float, float]:
    names = ("rho_residual", "sigma", "nu")
    return fit.fixef()["estimate"].to_numpy(), *(float(fit.theta[name]) for name in names)


def test_the_maximum_is_that_of_scipy_s_density() -> None:
    data = series()
    fit = gb.Model(FORMULA, data, "student").fit("ml")
    assert fit.loglik == pytest.approx(dense(data, *at_maximum(fit)), abs=1e-8)

    def loss(p: np.ndarray) -> float:
        return -dense(data, p[:2], np.tanh(p[2]), np.exp(p[3]), 1 + np.exp(p[4]))

    best = minimize(
        loss, [1.0, 0.5, 0.7, -0.2, 1.1], method="Nelder-Mead", options={"maxiter": 400}
    )
    assert fit.loglik == pytest.approx(-best.fun, abs=2e-3)
    interval = fit.confint(method="profile", parm="rho_residual").loc["rho_residual"]
    assert interval["lower"] < interval["estimate"] < interval["upper"]


def test_the_gradient_is_that_of_the_value() -> None:
    model = gb.Model([*FORMULA, "sigma ~ x"], series(), "student")
    c = Coordinates.unconstrained(model)
    objective = LaplaceObjective(read_laplace(model), c, joint=False)
    x = np.array([0.3, 0.7, 0.1, -0.2, 1.1, 0.4])
    steps = 1e-6 * np.eye(c.size)
    found = [(objective(x + s)[0] - objective(x - s)[0]) / 2e-6 for s in steps]
    np.testing.assert_allclose(objective(x)[1], found, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("further", [[], ["sigma ~ x"]])
def test_the_graph_and_the_arrays_have_the_same_density(further: list[str]) -> None:
    formula = ["y ~ x + (1 | g)", *FORMULA[1:], *further]
    model = gb.Model(formula, series(6), "student", centering="noncentered")
    graphed, joint = model.pymc, read_density(model)
    logp = graphed.compile_logp(mode=Mode(linker="py", optimizer=None))
    rng, gaps, point = np.random.default_rng(2), [], graphed.initial_point()
    names = [v.name for v in graphed.value_vars]
    order = [n for n in names if not n.startswith("v_")] + [n for n in names if n.startswith("v_")]
    for _ in range(3):
        moved = {k: v + 0.3 * rng.standard_normal(np.shape(v)) for k, v in point.items()}
        x = np.concatenate([np.ravel(moved[name]) for name in order])
        value, slope = joint.value_and_gradient(x)
        gaps.append(float(logp(moved)) - value)
        steps = 1e-5 * np.eye(len(x))
        ends = [[joint.value_and_gradient(x + s * h)[0] for s in (1, -1)] for h in steps]
        np.testing.assert_allclose(slope, np.diff(ends)[:, 0] / -2e-5, rtol=1e-4, atol=1e-4)
    assert np.ptp(gaps) < 1e-8


@pytest.fixture(scope="module")
def posterior() -> Any:
    priors = {
        "rho": gb.Prior("Uniform", lower=-1.0, upper=1.0), "sigma": 0.8, "nu": 4.0,
        "beta": 0.5, "intercept": 1.0,
    }  # fmt: skip
    model = gb.Model(FORMULA, series(12), "student", priors=priors)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gb.ConvergenceWarning)
        return model.fit("nuts", seed=1, draws=500, tune=300, chains=2, progressbar=False)


def test_the_posterior_of_rho_is_that_of_scipy_s_density(posterior: Any) -> None:
    """On a grid, all else known; the Intercept is held where the columns are centred."""
    data = series(12)
    beta = posterior.fixef()["estimate"].to_numpy()
    rho = np.linspace(-0.98, 0.98, 200)
    logs = np.array([dense(data, beta, r, 0.8, 4.0) for r in rho])
    weight = np.exp(logs - logs.max()) / np.exp(logs - logs.max()).sum()
    mean = float(weight @ rho)
    sd = float(np.sqrt(weight @ (rho - mean) ** 2))
    row = posterior.varcorr().set_index("kind").loc["rho"]
    assert row["estimate"] == pytest.approx(mean, abs=5 * sd / np.sqrt(row["ess_bulk"]))
    assert row["std_error"] == pytest.approx(sd, rel=0.15)


def conditional(R: np.ndarray, e: np.ndarray, nu: float, i: int) -> tuple[float, float, float]:
    """Mean, scale and degrees of freedom of one given the others: Ding (2016)."""
    o = np.arange(len(R)) != i
    w = np.linalg.solve(R[np.ix_(o, o)], R[o, i])
    d = float(e[o] @ np.linalg.solve(R[np.ix_(o, o)], e[o]))
    m = int(o.sum())
    return float(w @ e[o]), float(np.sqrt((R[i, i] - w @ R[o, i]) * (nu + d) / (nu + m))), nu + m


def test_a_row_s_density_given_the_others_is_a_conditional_t(posterior: Any) -> None:
    data = series(12)
    found = posterior.idata["log_likelihood"]["y"].to_numpy()[0, 3]
    rho = float(posterior.idata["posterior"]["rho_residual"][0, 3])
    beta = posterior.idata["posterior"]["beta"].to_numpy()[0, 3]
    for row in (0, 2, 14):
        part = data.iloc[5 * (row // 5) : 5 * (row // 5) + 5]
        lag = np.abs(np.subtract.outer(part["t"].to_numpy(), part["t"].to_numpy()))
        e = (part["y"] - beta[0] - beta[1] * part["x"]).to_numpy() / 0.8
        mean, scale, nu = conditional(rho**lag, e, 4.0, row % 5)
        own = t(nu, mean, scale).logpdf(e[row % 5]) - np.log(0.8)
        assert found[row] == pytest.approx(own, abs=1e-9)


def held(data: pd.DataFrame) -> Any:
    """A fit whose parameters but the mean's are known."""
    priors = {"rho": 0.6, "sigma": 0.8, "nu": 6.0}
    return gb.Model(FORMULA, data, "student", priors=priors).fit("ml")


def test_simulated_rows_are_t_together() -> None:
    fit = held(series(3))
    drawn = fit.simulate(30_000, seed=1).to_numpy()
    mean = fit.predict(kind="linear")["estimate"].to_numpy()
    e = (drawn - mean) / 0.8
    lag = np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    Q = np.linalg.inv(0.6**lag)
    squares = np.stack([((part @ Q) * part).sum(axis=1) / 5 for part in np.split(e, 3, axis=1)])
    for each in squares:
        # The squares over their number have an F distribution, and groups are independent.
        assert kstest(each, "f", args=(5, 6)).pvalue > 1e-3
    assert np.abs(np.corrcoef(np.log(squares)) - np.eye(3)).max() < 0.03


def test_a_forecast_is_a_conditional_t() -> None:
    data = series(3)
    last = (data["g"] == "g1") & (data["t"] == 4)
    fit = held(data[~last])
    new = data[last]
    beta = fit.fixef()["estimate"].to_numpy()
    part = data[data["g"] == "g1"]
    e = (part["y"] - beta[0] - beta[1] * part["x"]).to_numpy() / 0.8
    lag = np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    mean, scale, nu = conditional(0.6**lag, e, 6.0, 4)
    linear = beta[0] + beta[1] * float(new["x"].iloc[0])
    assert fit.predict(new)["estimate"].iloc[0] == pytest.approx(linear + 0.8 * mean, rel=1e-9)
    drawn = fit.simulate(30_000, newdata=new, seed=1).to_numpy().ravel()
    assert kstest((drawn - linear) / 0.8, t(nu, mean, scale).cdf).pvalue > 1e-3


def test_quantile_residuals_are_of_conditional_distributions() -> None:
    data = series(3)
    fit = held(data)
    beta = fit.fixef()["estimate"].to_numpy()
    e = (data["y"] - beta[0] - beta[1] * data["x"]).to_numpy()[:5] / 0.8
    lag = np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    mean, scale, nu = conditional((0.6**lag)[:4, :4], e[:4], 6.0, 3)
    from scipy.special import ndtri

    expected = ndtri(t(nu, mean, scale).cdf(e[3]))
    assert fit.residuals("quantile").iloc[3] == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda m: m().fit("posthoc", seed=1, fallback=False), "use fit\\('nuts'\\)"),
        (lambda m: m().fit("nested_laplace", seed=1), "use fit\\('nuts'\\)"),
        (lambda m: m().fit("nuts", sampler="collapsed", seed=1), "'collapsed' is not built"),
        (lambda m: m().fit("reml"), "not integrated out"),
        (lambda m: m().fit("ml").caic(), "the conditional AIC is not built"),
        (lambda m: m("y ~ x + (1 | g)").fit("ml"), "use fit\\('nuts'\\)"),
        (lambda m: m("y ~ x", "nu ~ x"), "no formula 'nu ~ …'"),
    ],
)  # fmt: skip
def test_what_is_not_built_says_so(use: Callable[[Any], Any], words: str) -> None:
    def model(mean: str = "y ~ x", *further: str) -> gb.Model:
        return gb.Model([mean, FORMULA[1], *further], series(), "student")

    with pytest.raises(NotSupportedError, match=words):
        use(model)
