"""Residuals that vary together, in every method: dense normals, refits, other methods' answers."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq
from scipy.stats import chi2, multivariate_normal
from test_residual_methods import grid_of_rho, orthodont, series

import glmm_bayes as gb
from glmm_bayes.density import read_density
from glmm_bayes.inference.collapsed import OuterDensity, outer_frame, read_marginal
from glmm_bayes.modes.another import with_response
from glmm_bayes.modes.reading import centred_columns
from glmm_bayes.modes.refits import Start, refitter_of

SERIES = ["y ~ x", "residual ~ ar1(t | g)"]
GROWTH = ["distance ~ age + Sex + (1 | Subject)", "residual ~ ar1(step | Subject)"]


# ---- profiles


def profiled(data: pd.DataFrame, rho: float) -> float:
    """The log likelihood of `SERIES` at rho, all else at its best: dense generalised squares."""
    X = np.column_stack([np.ones(len(data)), data["x"]])
    same = np.equal.outer(data["g"].to_numpy(), data["g"].to_numpy())
    t, y, n = data["t"].to_numpy(), data["y"].to_numpy(), len(data)
    R = np.where(same, rho ** np.abs(np.subtract.outer(t, t)), 0.0)
    r = y - X @ np.linalg.solve(X.T @ np.linalg.solve(R, X), X.T @ np.linalg.solve(R, y))
    square = float(r @ np.linalg.solve(R, r)) / n
    return -0.5 * (n * np.log(2 * np.pi * square) + n + np.linalg.slogdet(R)[1])


def test_the_profile_of_a_correlation_is_that_of_dense_algebra() -> None:
    data = series()
    fit = gb.Model(SERIES, data).fit("ml")
    row = fit.confint(method="profile").loc["rho_residual"]
    fall = 0.5 * chi2.ppf(0.95, 1)

    def gap(rho: float) -> float:
        return fit.loglik - profiled(data, rho) - fall

    assert row["lower"] == pytest.approx(brentq(gap, 0.3, row["estimate"]), abs=2e-4)
    assert row["upper"] == pytest.approx(brentq(gap, row["estimate"], 0.99), abs=2e-4)


def test_profiles_with_variances_by_group_are_maxima_where_the_parameter_is_held() -> None:
    """Held by a fixed prior, which is another way through the code."""
    formula = [*GROWTH, "sigma ~ Sex"]
    found = gb.Model(formula, orthodont()).fit("ml").profile("rho_residual")
    for at in (0, -1):
        point = found.table.iloc[at]
        held = gb.Model(formula, orthodont(), priors={"rho": float(point["rho_residual"])})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", gb.SingularFitWarning)
            loglik = held.fit("ml").loglik
        assert 2 * (found.fit.loglik - loglik) == pytest.approx(point["zeta"] ** 2, abs=1e-3)


# ---- the bootstrap


@pytest.mark.parametrize("further", [[], ["sigma ~ Sex"]])
@pytest.mark.parametrize("method", ["ml", "reml", "map"])
def test_a_refit_is_the_fit_of_the_other_response(further: list[str], method: str) -> None:
    fit = gb.Model([*GROWTH, *further], orthodont()).fit(method)
    y = fit.simulate(1, seed=3).to_numpy()[0]
    model = with_response(fit.model, y)
    again = model.fit(method)
    start = Start(again.mode.coordinates, fit.mode.x, fit.mode.covariance, fit.mode.u)
    found = refitter_of(start.with_model(fit.model), method, 1).maxima(y[None])
    assert found.reached.all()
    np.testing.assert_allclose(found.x[0], again.mode.x, atol=2e-3)


def test_the_bootstrap_spreads_as_estimates_of_simulated_series_do() -> None:
    fit = gb.Model(SERIES, series()).fit("ml")
    found = gb.bootstrap(fit, n=150, seed=1, n_jobs=1, progressbar=False)
    assert (found.status == "fitted").all()
    # Of a regular maximum the standard errors of the curvature are near.
    x = found.draws["x"]
    assert x.std() == pytest.approx(fit.fixef()["std_error"].loc["x"], rel=0.25)
    assert found.draws["rho_residual"].between(-1, 1).all()


# ---- the conditional criterion


@pytest.mark.parametrize("method", ["ml", "reml"])
def test_the_conditional_aic_counts_what_fitted_values_owe_to_responses(method: str) -> None:
    """Every response moved a little, and the model fitted again."""
    data = orthodont().iloc[:40]
    fit = gb.Model(["distance ~ age + (1 | Subject)", GROWTH[1]], data).fit(method)
    refitter, y, step = (
        refitter_of(Start.of(fit.mode), method, 1),
        data["distance"].to_numpy(),
        1e-3,
    )

    def fitted(i: int, by: float) -> float:
        moved = y + by * (np.arange(len(y)) == i)
        mode = refitter.mode(with_response(fit.model, moved), fit.mode.x)
        gamma = mode.coordinates.split(mode.x)[0]
        b = np.concatenate([part.ravel() for part in mode.effects_at(mode.x)])
        effects = fit.model.design.effects_matrix("mu") @ b
        return float((centred_columns(fit.model, "mu") @ gamma + effects)[i])

    trace = sum((fitted(i, step) - fitted(i, -step)) / (2 * step) for i in range(len(y)))
    found = fit.caic()
    assert found["df"] == pytest.approx(trace + 2, abs=1e-3)
    e = y - fit.predict()["estimate"].to_numpy()
    table = fit.varcorr().query("group == 'Residual'").set_index("kind")["estimate"]
    lag = np.abs(np.subtract.outer(data["step"].to_numpy(), data["step"].to_numpy()))
    same = np.equal.outer(data["Subject"].to_numpy(str), data["Subject"].to_numpy(str))
    S = table["sd"] ** 2 * np.where(same, table["rho"] ** lag, 0.0)
    assert found["loglik"] == pytest.approx(multivariate_normal(np.zeros(40), S).logpdf(e))


# ---- posteriors


FLAT = {
    "rho": gb.Prior("Uniform", lower=-1.0, upper=1.0),
    "beta": gb.Prior("Normal", mu=0.0, sigma=3.0),
    "intercept": gb.Prior("Normal", mu=0.0, sigma=3.0),
    "sigma": 0.8,
}


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("nested_laplace", {}),
        pytest.param(
            "nuts",
            {"sampler": "collapsed", "draws": 500, "tune": 300, "progressbar": False},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_posterior_of_rho_is_that_of_dense_normals(method: str, options: Any) -> None:
    data = series(25)
    fit = gb.Model(SERIES, data, priors=FLAT).fit(method, seed=1, **options)
    mean, sd = grid_of_rho(data, 0.8, 3.0)
    row = fit.varcorr().set_index("kind").loc["rho"]
    assert row["estimate"] == pytest.approx(mean, abs=0.08 * sd)
    assert row["std_error"] == pytest.approx(sd, rel=0.1)


def test_nested_approximations_of_effects_are_those_of_exact_draws() -> None:
    model = gb.Model([*GROWTH, "sigma ~ Sex"], orthodont())
    nested = model.fit("nested_laplace", seed=1)
    exact = model.fit("posthoc", seed=1, draws=500, progressbar=False)
    one, two = (fit.ranef() for fit in (nested, exact))
    np.testing.assert_allclose(one["estimate"], two["estimate"], atol=0.1)
    np.testing.assert_allclose(one["std_error"], two["std_error"], rtol=0.1)


@pytest.mark.parametrize(
    "formula", [GROWTH, [*GROWTH, "sigma ~ Sex"], ["distance ~ age + ar1(step | Subject)"]]
)
def test_what_nuts_draws_is_the_joint_density_integrated(formula: list[str]) -> None:
    """By the normal density of all effects at once, whose mode is where its slope is zero."""
    model = gb.Model(formula, orthodont())
    joint = read_density(model, dict.fromkeys([t.name for t in model.design.terms], False))
    density = OuterDensity(model, joint, read_marginal(model), *outer_frame(model, joint))
    rng, gaps, size = np.random.default_rng(2), [], joint.size - joint.outer.size
    for _ in range(2):
        z = 0.5 * rng.standard_normal(joint.outer.size)
        x = density.place(z)

        def slope(v: np.ndarray, x: np.ndarray = x) -> np.ndarray:
            return joint.value_and_gradient(np.concatenate([x, v]))[1][joint.outer.size :]

        first = slope(np.zeros(size))
        H = np.array([first - slope(unit) for unit in np.eye(size)])
        mode = np.linalg.solve(H, first)
        whole = joint.value_and_gradient(np.concatenate([x, mode]))[0]
        value, gradient = density(z)
        gaps.append(value - whole + 0.5 * np.linalg.slogdet(H)[1])
        steps = 1e-5 * np.eye(len(z))
        ends = [density(z + s)[0] - density(z - s)[0] for s in steps]
        np.testing.assert_allclose(gradient, np.array(ends) / 2e-5, rtol=1e-4, atol=1e-4)
    assert np.ptp(gaps) < 1e-7
