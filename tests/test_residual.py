"""Structures of the residuals: fits of nlme, dense algebra, and what is refused."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

import glmm_bayes as gb
from glmm_bayes.errors import DataError, NotSupportedError
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.correlated import gaussian_objective
from glmm_bayes.modes.reading import read_gaussian


def ovary() -> pd.DataFrame:
    data = gb.load_dataset("ovary")
    turn = 2 * np.pi * data["Time"]
    step = data.groupby("Mare", observed=True).cumcount()
    return data.assign(s=np.sin(turn), c=np.cos(turn), step=step)


def sleepstudy() -> pd.DataFrame:
    data = gb.load_dataset("sleepstudy")
    return data.assign(day=data["Days"].astype("category"))


CYCLE, DAYS = "follicles ~ s + c", "Reaction ~ Days"


@pytest.mark.parametrize(
    ("formula", "residual", "method", "loglik", "rho", "sigma"),
    [
        (CYCLE + " + (1 | Mare)", "ar1(step | Mare)", "reml", -775.223348784, None, 3.66545),
        (CYCLE + " + (1 | Mare)", "ar1(step | Mare)", "ml", -776.517310890, None, 3.616763),
        (CYCLE, "ar1(step | Mare)", "reml", -780.727255295, None, 4.616172),
        (CYCLE + " + (1 + s || Mare)", "arma(step | Mare)", "reml", -771.947077998, None, 3.733423),
        (DAYS + " + (1 | Subject)", "ar1(Days | Subject)", "ml", -872.41504484, None, 36.98125),
        (DAYS, "ar1(Days | Subject)", "ml", -874.056908588, 0.7916617, 48.44287),
        (DAYS, "ar1(0 + day | Subject)", "ml", -874.056908588, 0.7916617, 48.44287),
    ],
)  # fmt: skip
def test_maxima_are_those_of_nlme(
    formula: str, residual: str, method: str, loglik: float, rho: float | None, sigma: float
) -> None:
    """nlme 3.1-162: lme and gls with corAR1; glmmTMB's rho where nlme's was not kept."""
    data = ovary() if "Mare" in residual else sleepstudy()
    fit = gb.Model([formula, f"residual ~ {residual}"], data).fit(method)
    assert fit.loglik == pytest.approx(loglik, abs=1e-6)
    found = fit.varcorr().query("group == 'Residual'").set_index("kind")["estimate"]
    assert found["sd"] == pytest.approx(sigma, rel=1e-5)
    if rho is not None:
        assert found["rho"] == pytest.approx(rho, abs=1e-5)


@pytest.mark.parametrize("structure", ["homcs", "homtoep", "cs", "us", "ar1"])
def test_repeated_measurements_are_those_of_dense_algebra(structure: str) -> None:
    """With measurements missing: every group has the rows and columns of R that it has."""
    data = gb.load_dataset("orthodont").sample(95, random_state=1)
    data = data.assign(visit=pd.Categorical((data["age"] - 8) // 2))
    model = gb.Model(["distance ~ age", f"residual ~ {structure}(0 + visit | Subject)"], data)
    fit = model.fit("ml")
    residual = model.design.residual
    theta = {
        p.name: fit.draws.theta[f"{p.name}_residual"][0]
        for p in residual.level_structure.parameters(0)
    }
    columns, p = residual.level_structure.columns, residual.level_structure.count
    sd = {q.name: np.ones(q.size) for q in columns.parameters(p) if q.key == "sd"}
    R = columns.factor(sd | theta, p)
    R = R @ R.T
    y, X = data["distance"].to_numpy(), np.column_stack([np.ones(len(data)), data["age"]])
    visit, subject = data["visit"].cat.codes.to_numpy(), data["Subject"].to_numpy(str)
    V = np.where(np.equal.outer(subject, subject), R[np.ix_(visit, visit)], 0.0)
    beta = np.linalg.solve(X.T @ np.linalg.solve(V, X), X.T @ np.linalg.solve(V, y))
    r, n = y - X @ beta, len(y)
    sigma2 = r @ np.linalg.solve(V, r) / n
    loglik = -0.5 * (n * np.log(2 * np.pi * sigma2) + n + np.linalg.slogdet(V)[1])
    assert fit.loglik == pytest.approx(loglik, abs=1e-8)
    np.testing.assert_allclose(fit.fixef()["estimate"], beta, rtol=1e-8)
    if structure == "us":
        found = fit.varcorr().query("kind == 'corr'")["estimate"]
        np.testing.assert_allclose(found, R[np.triu_indices(p, 1)], rtol=1e-8)


def test_fields_without_a_nugget_are_those_of_dense_algebra() -> None:
    data = gb.load_dataset("meuse")
    data = data.assign(lz=np.log(data["zinc"]), root=np.sqrt(data["dist"]))
    fit = gb.Model(["lz ~ root", "residual ~ exp(x + y | 1)"], data).fit("ml")
    at = data[["x", "y"]].to_numpy(float)
    d = np.linalg.norm(at[:, None] - at[None], axis=2)
    X, y, n = np.column_stack([np.ones(len(data)), data["root"]]), data["lz"].to_numpy(), len(data)

    def loss(p: np.ndarray) -> float:
        V = np.exp(-d / np.exp(p[0]))
        beta = np.linalg.solve(X.T @ np.linalg.solve(V, X), X.T @ np.linalg.solve(V, y))
        r = y - X @ beta
        s2 = r @ np.linalg.solve(V, r) / n
        return 0.5 * (n * np.log(2 * np.pi * s2) + n + np.linalg.slogdet(V)[1])

    best = minimize(loss, [5.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12})
    assert fit.loglik == pytest.approx(-best.fun, abs=1e-5)


@pytest.mark.parametrize("restricted", [True, False])
def test_the_gradient_is_that_of_the_value(restricted: bool) -> None:
    formula = ["follicles ~ s + c + (1 + s | Mare)", "residual ~ ou(Time | Mare)"]
    coordinates = Coordinates.of(gb.Model(formula, ovary()))
    gaussian = read_gaussian(coordinates.model)
    objective = gaussian_objective(gaussian, coordinates, restricted=restricted)
    sd = [np.array([0.8, 0.3])]
    x = coordinates.join(objective.blank, coordinates.start(sd)) + 0.1
    slope, step = objective(x)[1], 1e-6 * np.eye(len(x))
    found = [(objective(x + s)[0] - objective(x - s)[0]) / 2e-6 for s in step]
    np.testing.assert_allclose(slope, found, rtol=1e-5, atol=1e-6)


def test_what_a_fit_has_is_that_of_independent_residuals_too(tmp_path: Any) -> None:
    fit = gb.Model(["follicles ~ s + c + (1 | Mare)", "residual ~ ar1(step | Mare)"], ovary()).fit(
        "reml"
    )
    assert "Residual" in repr(fit.summary())
    again = gb.load(fit.save(tmp_path / "fit.nc") or tmp_path / "fit.nc")
    rows = ovary().head(4)
    pd.testing.assert_frame_equal(again.predict(rows), fit.predict(rows))
    b = fit.ranef()["estimate"].to_numpy()
    mean = fit.predict(rows, kind="linear")["estimate"].to_numpy()
    fixed = fit.predict(rows, kind="linear", groups="population")["estimate"].to_numpy()
    mares = list(dict.fromkeys(fit.ranef()["level"]))
    at = [mares.index(str(m)) for m in rows["Mare"]]
    np.testing.assert_allclose(mean - fixed, b[at], rtol=1e-8)


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda m: gb.bootstrap(m.fit("ml"), n=3, seed=1, kind="semiparametric"), "is not built"),
        (lambda m: m.fit("map").caic(), "is for fits by 'ml' and 'reml'"),
        (lambda m: m.fit("ml").influence(), "Leverages where residuals have a structure"),
    ],
)
def test_what_is_not_built_says_so(use: Callable[[Any], Any], words: str) -> None:
    model = gb.Model(["follicles ~ s + (1 | Mare)", "residual ~ ar1(step | Mare)"], ovary())
    with pytest.raises(NotSupportedError, match=words):
        use(model)


@pytest.mark.parametrize(
    ("further", "family", "error", "words"),
    [
        (["ar1(step | 1)"], "gaussian", DataError, "Several rows are at"),
        (["ar1(step | Mare)"], "poisson", NotSupportedError, "as a random term"),
        (["homcs(0 + s | Mare)"], "gaussian", DataError, "levels of a factor"),
        (["ar1(step | Mare)"], "skew_normal", NotSupportedError, "Only a normal response"),
        (["ar1(step | Mare)", "sigma ~ (1 | Mare)"], "gaussian", NotSupportedError, "of sigma"),
    ],
)
def test_bad_input_is_one_clear_error(
    further: list[str], family: str, error: type[Exception], words: str
) -> None:
    residual, *others = further
    with pytest.raises(error, match=words):
        gb.Model(["follicles ~ s", f"residual ~ {residual}", *others], ovary(), family)


@pytest.mark.parametrize(
    ("residual", "loglik", "rho", "sigma"),
    [
        ("sar(1 | id, W)", -184.155204671899, 0.520887701108721, 9.99899523904839),
        ("car(1 | id, W, style='binary')", -183.419023219316, 0.161110364092655, 9.62508630107664),
    ],
)
def test_neighbours_residuals_are_those_of_dense_algebra_in_r(
    residual: str, loglik: float, rho: float, sigma: float, shared_data: Path
) -> None:
    W = pd.read_csv(shared_data / "columbus_adjacency.csv")
    formula = ["CRIME ~ INC + HOVAL", f"residual ~ {residual}"]
    fit = gb.Model(formula, gb.load_dataset("columbus"), context={"W": W}).fit("ml")
    assert fit.loglik == pytest.approx(loglik, abs=1e-8)
    found = fit.varcorr().set_index("kind")["estimate"]
    assert found["rho"] == pytest.approx(rho, rel=1e-4)
    assert found["sd"] == pytest.approx(sigma, rel=1e-5)


def tundra(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "tundra_agg.csv").rename(columns={"GS.NEE": "GSNEE"})


KNOWN = ["residual ~ ou(cYear | Site)", "sigma ~ 1 + offset(-0.5 * log(n))"]


def test_a_variance_known_up_to_a_factor_is_nlme_s_varfixed(shared_data: Path) -> None:
    """nlme 3.1-162: corCAR1(form = ~ cYear | Site), weights = varFixed(~ 1 / n), ML."""
    fit = gb.Model(["GSNEE ~ cYear + (1 | Site)", *KNOWN], tundra(shared_data)).fit("ml")
    assert fit.loglik == pytest.approx(-445.585189766586, abs=1e-6)
    found = fit.varcorr().query("group == 'Residual'").set_index("kind")["estimate"]
    assert np.exp(-1 / found["range"]) == pytest.approx(0.63117639178969, rel=1e-4)
    log_sigma = fit.fixef().query("param == 'sigma'")["estimate"].iloc[0]
    assert np.exp(log_sigma) == pytest.approx(79.028154134981, rel=1e-4)


def test_with_slopes_the_maximum_is_above_where_nlme_stopped(shared_data: Path) -> None:
    """nlme ends at -433.4205 by REML, with a standard deviation of 7e-7; ours by dense algebra."""
    data = tundra(shared_data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gb.SingularFitWarning)
        fit = gb.Model(["GSNEE ~ cYear + (1 + cYear | Site)", *KNOWN], data).fit("reml")
    assert fit.loglik > -433.420499464136
    year, site = data["cYear"].to_numpy(), data["Site"].to_numpy(str)
    same, X = np.equal.outer(site, site), np.column_stack([np.ones(len(data)), year])
    table = fit.varcorr()
    reach = table.query("kind == 'range'")["estimate"].iloc[0]
    Lambda = fit.mode.Lambdas["Site"]
    sd = np.exp(fit.fixef().query("param == 'sigma'")["estimate"].iloc[0]) / np.sqrt(data["n"])
    R = np.exp(-np.abs(np.subtract.outer(year, year)) / reach)
    V = np.where(same, X @ Lambda @ Lambda.T @ X.T + np.outer(sd, sd) * R, 0.0)
    A, y = X.T @ np.linalg.solve(V, X), data["GSNEE"].to_numpy()
    r = y - X @ np.linalg.solve(A, X.T @ np.linalg.solve(V, y))
    logs = np.linalg.slogdet(V)[1] + np.linalg.slogdet(A)[1]
    dense = -0.5 * (logs + r @ np.linalg.solve(V, r) + (len(y) - 2) * np.log(2 * np.pi))
    assert fit.loglik == pytest.approx(dense, abs=1e-6)
