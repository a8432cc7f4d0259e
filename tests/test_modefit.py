"""A maximum answers as a posterior does: tables, tests, explained variance, files, comparisons."""

import json
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

import glmm_bayes as gb
from glmm_bayes.fit import ModeFit
from glmm_bayes.modes.star import ARM, delta_variance, widened
from glmm_bayes.verbs.intervals import FISHER, LOG, wald

ROOT = Path(__file__).resolve().parents[1]
SLEEP = "Reaction ~ Days + (1 + Days | Subject)"
CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"


@pytest.fixture(scope="module")
def sleep() -> ModeFit:
    return gb.Model(SLEEP, gb.load_dataset("sleepstudy")).fit("reml", seed=3)


@pytest.fixture(scope="module")
def sleep_ml() -> ModeFit:
    return gb.Model(SLEEP, gb.load_dataset("sleepstudy")).fit("ml", seed=3)


@pytest.fixture(scope="module")
def herds() -> ModeFit:
    return gb.Model(CBPP, gb.load_dataset("cbpp"), "binomial").fit("ml", seed=4)


@pytest.fixture(scope="module")
def singular() -> ModeFit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gb.SingularFitWarning)
        return gb.Model("Yield ~ 1 + (1 | Batch)", gb.load_dataset("dyestuff2")).fit("reml")


def one_way(q: int = 8, n: int = 5) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    y = 10 + np.repeat(rng.normal(0, 3, q), n) + rng.normal(0, 2, q * n)
    return pd.DataFrame({"y": y, "g": np.repeat([f"g{k}" for k in range(q)], n)})


def anova(data: pd.DataFrame) -> tuple[float, float, int, int]:
    """Mean squares within and between, the levels and their size."""
    groups = data.groupby("g")["y"]
    q, n = groups.ngroups, len(data) // groups.ngroups
    within = float(groups.var(ddof=1).mean())
    return within, n * float(groups.mean().var(ddof=1)), q, n


# ---- the delta method by points


def test_a_star_gives_the_delta_method():
    """By hand: the variance of a function is its gradient's square in the covariance."""
    rng = np.random.default_rng(1)
    root = 0.1 * rng.normal(size=(3, 3))
    x = np.array([1.0, -0.5, 2.0])
    points = np.concatenate([x[None], x + ARM * root.T, x - ARM * root.T])
    values = np.exp(points[:, 0]) * points[:, 2]
    gradient = np.exp(x[0]) * np.array([x[2], 0.0, 1.0])
    assert delta_variance(values) == pytest.approx(gradient @ root @ root.T @ gradient, rel=1e-4)
    more = widened(values, np.array([0.3]))
    assert delta_variance(more) == pytest.approx(delta_variance(values) + 0.09)
    assert widened(values, np.empty(0)) is values


def test_wald_intervals_keep_inside_the_support_and_edges_have_none():
    star = np.array([2.0, 2.0 + ARM, 2.0 - ARM])
    found = wald(star, 0.9, LOG)
    half = norm.ppf(0.95) / 2
    assert found["lower"] == pytest.approx(2 * np.exp(-half), rel=1e-3)
    assert found["upper"] == pytest.approx(2 * np.exp(half), rel=1e-3)
    assert found["std_error"] == pytest.approx(1.0)
    r = np.array([0.6, 0.6 + 0.2 * ARM, 0.6 - 0.2 * ARM])
    bounds = np.tanh(np.arctanh(0.6) + norm.ppf([0.025, 0.975]) * 0.2 / (1 - 0.36))
    found = wald(r, 0.95, FISHER)
    np.testing.assert_allclose([found["lower"], found["upper"]], bounds, rtol=1e-3)
    for edge, scale in ((0.0, LOG), (1.0, FISHER), (-1.0, FISHER)):
        found = wald(np.full((3, 1), edge), 0.95, scale)
        assert found["estimate"] == [edge]
        assert np.isnan([found["std_error"], found["lower"], found["upper"]]).all()


@pytest.mark.parametrize("level", [0.0, 1.0, 95])
def test_a_level_is_a_probability(sleep, level):
    with pytest.raises(gb.DataError, match="between 0 and 1"):
        sleep.fixef(level=level)


# ---- tables


def test_fixef_and_vcov_agree_with_lme4(sleep, reference):
    """The restricted fit of lmm_sleepstudy_slopes; the Hessian's covariance is glmmTMB's."""
    fits = {fit["label"]: fit for fit in reference("lmm_sleepstudy_slopes")["fits"]}
    found = sleep.fixef()
    theirs = pd.DataFrame(fits["lme4_REML"]["fixef"]).T
    np.testing.assert_allclose(found["estimate"], theirs["estimate"], rtol=1e-5)
    np.testing.assert_allclose(found["std_error"], theirs["se"], rtol=1e-4)
    np.testing.assert_allclose(found["statistic"], theirs["stat"], rtol=1e-4)
    np.testing.assert_allclose(found["p_value"], 2 * norm.sf(found["statistic"]), rtol=1e-6)
    assert np.isinf(found["df"]).all()
    np.testing.assert_allclose(
        found["upper"] - found["estimate"], norm.ppf(0.975) * found["std_error"]
    )
    glmmtmb = np.array(fits["glmmTMB_REML"]["vcov_fixef"]["cond"]["matrix"])
    np.testing.assert_allclose(sleep.vcov(), glmmtmb, rtol=1e-4)


def test_the_errors_of_variances_agree_with_glmmtmb(sleep_ml, herds, reference):
    """mode_full_vcov: of log standard deviations, and of t with correlation t / sqrt(1 + t^2)."""
    full = reference("mode_full_vcov")["full"]
    cbpp = full["cbpp"]
    log_sd, error = cbpp["estimate"][4], np.sqrt(cbpp["matrix"][4][4])
    row = herds.varcorr().iloc[0]
    assert row["estimate"] == pytest.approx(np.exp(log_sd), rel=1e-4)
    assert row["std_error"] == pytest.approx(np.exp(log_sd) * error, rel=2e-3)
    bounds = np.exp(log_sd + norm.ppf([0.025, 0.975]) * error)
    np.testing.assert_allclose(row[["lower", "upper"]].astype(float), bounds, rtol=2e-3)
    theirs = full["sleepstudy"]
    estimate, errors = np.array(theirs["estimate"]), np.sqrt(np.diag(theirs["matrix"]))
    t = estimate[5]
    found = sleep_ml.varcorr().set_index("kind")
    sds = np.exp([*estimate[3:5], 0.5 * estimate[2]])
    np.testing.assert_allclose(found.loc["sd", "estimate"], sds, rtol=2e-4)
    expected = sds * [*errors[3:5], 0.5 * errors[2]]
    np.testing.assert_allclose(found.loc["sd", "std_error"], expected, rtol=3e-3)
    corr_error = errors[5] * (1 + t * t) ** -1.5
    assert found.loc["corr", "std_error"] == pytest.approx(corr_error, rel=3e-3)


def test_a_balanced_layout_has_the_classical_estimates():
    """Searle, Casella & McCulloch (1992), Variance Components, chapter 4: restricted estimates."""
    data = one_way()
    within, between, q, n = anova(data)
    fit = gb.Model("y ~ 1 + (1 | g)", data).fit("reml")
    s2, t2 = within, (between - within) / n
    assert fit.vcov().iloc[0, 0] == pytest.approx(between / (q * n), rel=1e-5)
    sd = fit.varcorr().set_index("group")
    assert sd.loc["g", "estimate"] == pytest.approx(np.sqrt(t2), rel=1e-5)
    assert sd.loc["Residual", "estimate"] == pytest.approx(np.sqrt(s2), rel=1e-5)
    shrink = n * t2 / (n * t2 + s2)
    means = data.groupby("g")["y"].mean()
    found = fit.ranef().set_index("level")
    np.testing.assert_allclose(found["estimate"], shrink * (means - data["y"].mean()), rtol=1e-4)
    np.testing.assert_allclose(found["std_error"], np.sqrt(shrink * s2 / n), rtol=1e-4)
    share = t2 / (t2 + s2)
    assert fit.icc().loc["g", "estimate"] == pytest.approx(share, rel=1e-5)
    # The intra-class correlation's variance in a large balanced layout: Fisher (1925), section 39.
    classical = np.sqrt(2 * (1 - share) ** 2 * (1 + (n - 1) * share) ** 2 / (n * (n - 1) * q))
    assert fit.icc().loc["g", "std_error"] == pytest.approx(classical, rel=0.1)


def test_conditional_modes_and_their_errors_agree_with_lme4(sleep, reference):
    theirs = reference("pred_sleepstudy")["ranef"]["Subject"]
    found = sleep.ranef()
    np.testing.assert_allclose(found["estimate"], np.ravel(theirs["mode"]), atol=1e-3)
    np.testing.assert_allclose(found["std_error"], np.ravel(theirs["cond_sd"]), rtol=1e-4)
    np.testing.assert_allclose(
        found["upper"] - found["estimate"], norm.ppf(0.975) * found["std_error"]
    )


def test_crossed_conditional_errors_agree_with_lme4(reference):
    theirs = reference("lmm_penicillin_crossed")["ranef"]
    model = gb.Model("diameter ~ 1 + (1 | plate) + (1 | sample)", gb.load_dataset("penicillin"))
    found = model.fit("reml").ranef().set_index(["group", "level"])
    for group, block in theirs.items():
        ours = found.loc[group].loc[block["levels"]]
        np.testing.assert_allclose(ours["estimate"], np.ravel(block["mode"]), atol=1e-4)
        np.testing.assert_allclose(ours["std_error"], np.ravel(block["cond_sd"]), rtol=1e-3)


def test_conditional_errors_of_counts_are_the_penalised_information(herds):
    """1 / (sum n p (1 - p) + 1 / sd^2), at the fitted probabilities of each herd."""
    data = gb.load_dataset("cbpp")
    p = herds.predict()["estimate"].to_numpy()
    information = (data["size"] * p * (1 - p)).groupby(data["herd"], observed=True).sum()
    sd = herds.theta["sd_herd[Intercept]"]
    expected = 1 / np.sqrt(information + sd**-2)
    found = herds.ranef().set_index("level")["std_error"]
    np.testing.assert_allclose(found, expected[found.index.astype(expected.index.dtype)], rtol=1e-6)


def test_coefficients_of_levels_are_the_sums(sleep):
    """Their errors are those of the linear predictor where its row picks the coefficient out."""
    coef = sleep.coef().set_index(["level", "coef"])
    fixed, random = sleep.fixef(), sleep.ranef().set_index(["level", "coef"])
    for name in ("Intercept", "Days"):
        total = fixed.loc[name, "estimate"] + random.loc[("308", name), "estimate"]
        assert coef.loc[("308", name), "estimate"] == pytest.approx(total)
    row = pd.DataFrame({"Subject": ["308"], "Days": [0]})
    predicted = sleep.predict(row, kind="linear").iloc[0]
    ours = coef.loc[("308", "Intercept"), ["estimate", "std_error", "lower", "upper"]]
    np.testing.assert_allclose(ours.astype(float), predicted, rtol=1e-6)


def test_theta_names_every_outer_parameter(sleep, reference):
    fit = reference("lmm_sleepstudy_slopes")["fits"][0]
    sd, corr = fit["varcomp"]["Subject"]["sd"], fit["varcomp"]["Subject"]["corr"]
    expected = {
        "beta[Intercept]": fit["fixef"]["(Intercept)"]["estimate"],
        "beta[Days]": fit["fixef"]["Days"]["estimate"],
        "sd_Subject[Intercept]": sd[0],
        "sd_Subject[Days]": sd[1],
        "corr_Subject[Intercept, Days]": corr[0][1],
        "sigma": fit["sigma"],
    }
    assert sleep.theta.index.tolist() == list(expected)
    np.testing.assert_allclose(sleep.theta, list(expected.values()), rtol=2e-4)


# ---- at an edge


def test_what_is_at_an_edge_has_no_interval_and_the_page_says_so(singular):
    row = singular.varcorr().iloc[0]
    assert row["estimate"] == 0
    assert row[["std_error", "lower", "upper"]].isna().all()
    text = singular.summary().text()
    line = next(line for line in text.splitlines() if "sd(Intercept)" in line)
    assert line.split() == ["sd(Intercept)", "0", "-", "-", "-"]
    assert "At an edge: the standard deviation of Intercept" in text
    assert (singular.ranef()["estimate"] == 0).all()
    data = gb.load_dataset("dyestuff2")["Yield"]
    error = data.std() / np.sqrt(len(data))
    assert singular.fixef()["std_error"].item() == pytest.approx(error)
    np.testing.assert_allclose(singular.predict()["std_error"], error, rtol=1e-6)


def test_without_a_maximum_there_are_no_errors(sleep):
    blank = np.full_like(sleep.mode.covariance, np.nan)
    mode = replace(sleep.mode, covariance=blank, problems=("There is no proper maximum.",))
    fit = ModeFit(sleep.model, mode, "reml", 1, 0.0)
    np.testing.assert_allclose(fit.theta, sleep.theta)
    for table in (fit.fixef(), fit.varcorr(), fit.predict(), fit.coef(), fit.r2(), fit.icc()):
        assert table[["std_error", "lower", "upper"]].isna().all(axis=None)
        assert table["estimate"].notna().all()
    assert fit.fixef()["p_value"].isna().all()
    text = fit.summary().text()
    assert "Not converged" in text
    assert "There is no proper maximum." in text
    with pytest.raises(gb.NotSupportedError, match="no normal approximation"):
        fit.predict(kind="response")


# ---- tests


def test_hypotheses_are_wald_s(sleep):
    days = sleep.fixef().loc["Days"]
    z = (days["estimate"] - 5) / days["std_error"]
    for statement, p in (
        ("Days = 5", 2 * norm.sf(z)),
        ("Days > 5", norm.sf(z)),
        ("Days < 5", norm.cdf(z)),
    ):
        found = sleep.hypothesis(statement).iloc[0]
        assert found["statistic"] == pytest.approx(z, rel=1e-6)
        assert found["p_value"] == pytest.approx(p, rel=1e-4)
    V, w = sleep.vcov().to_numpy(), np.array([1.0, 4.0])
    found = sleep.contrast({"Intercept": 1, "Days": 4}).iloc[0]
    assert found["std_error"] == pytest.approx(np.sqrt(w @ V @ w), rel=1e-6)
    assert {"statistic", "df", "p_value"} <= set(found.index)


# ---- explained variance, residuals


def test_r_squared_and_icc_agree_with_performance(sleep, herds, reference):
    """diag_residuals: Nakagawa's, by the R package performance."""
    theirs = reference("diag_residuals")
    for fit, block in ((sleep, theirs["sleepstudy"]), (herds, theirs["R2_ICC_binomial"])):
        found = fit.r2()
        for name in ("marginal", "conditional"):
            assert found.loc[name, "estimate"] == pytest.approx(block["R2"][f"R2_{name}"], rel=2e-4)
        icc = fit.icc().iloc[0]
        assert icc["estimate"] == pytest.approx(block["ICC"]["ICC_adjusted"], rel=2e-4)
        assert 0 < icc["lower"] < icc["estimate"] < icc["upper"] < 1
    assert sleep.r2("gelman").loc["conditional", "estimate"] < 1
    with pytest.raises(gb.UnknownNameError, match="Did you mean 'gelman'"):
        sleep.r2("gelmann")


@pytest.mark.parametrize("kind", ["pearson", "deviance", "response"])
def test_residuals_agree_with_lme4(herds, reference, kind):
    theirs = reference("diag_residuals")["cbpp_binomial"][kind]
    np.testing.assert_allclose(herds.residuals(kind), theirs, rtol=1e-3, atol=1e-4)


def test_quantile_residuals_of_a_normal_response_are_pearson_s(sleep, reference):
    theirs = reference("diag_residuals")["sleepstudy"]["scaled_pearson_first10"]
    np.testing.assert_allclose(sleep.residuals("pearson")[:10], theirs, rtol=1e-4)
    np.testing.assert_allclose(sleep.residuals(), sleep.residuals("pearson"), rtol=1e-6)


# ---- comparing, fitting again


def test_fits_are_ranked_by_aic(sleep_ml, reference):
    theirs = next(f for f in reference("lmm_sleepstudy_slopes")["fits"] if f["label"] == "lme4_ML")
    smaller = sleep_ml.update(formula="Reaction ~ Days + (1 | Subject)", seed=1)
    found = gb.compare({"intercepts": smaller, "slopes": sleep_ml})
    assert found.index.tolist() == ["slopes", "intercepts"]
    best = found.loc["slopes"]
    assert best["aic"] == pytest.approx(theirs["AIC"], abs=1e-4)
    assert best["bic"] == pytest.approx(theirs["BIC"], abs=1e-4)
    assert best["aicc"] == pytest.approx(theirs["AIC"] + 2 * 6 * 7 / (180 - 7), abs=1e-4)
    assert best["delta"] == 0
    assert found.loc["intercepts", "df"] == 4


def test_what_cannot_be_compared_is_said(sleep, sleep_ml, sleepstudy_fit):
    def refused(fits: Any, words: str) -> None:
        with pytest.raises(gb.DataError, match=words):
            gb.compare(fits)

    refused([sleep_ml], "at least two")
    refused({"a": sleep_ml, "b": sleepstudy_fit}, "no common criterion")
    refused({"a": sleep_ml, "b": sleep}, "fit both by 'ml'")
    refused({"a": sleep_ml, "b": sleep_ml.refit(sleep_ml.model.design.y + 1)}, "different resp")
    flat = sleep.update(formula="Reaction ~ 1 + (1 + Days | Subject)")
    refused({"a": sleep, "b": flat}, "different fixed effects")


def test_another_response_is_fitted_by_the_same_method(sleep):
    doubled = sleep.refit(2 * sleep.model.design.y, seed=5)
    assert (doubled.method, doubled.seed) == ("reml", 5)
    scale = np.array([2.0, 2, 2, 2, 1, 2])
    np.testing.assert_allclose(doubled.theta, scale * sleep.theta, rtol=1e-5)


# ---- printing


def test_the_page_says_how_it_was_fitted(sleep, herds):
    text = sleep.summary().text()
    assert "restricted maximum likelihood (exact)" in text
    assert "-871.814 (restricted); 6 parameters; AIC 1755.63" in text
    assert "Converged after" in text
    assert "R-hat" not in text
    days = next(line for line in text.splitlines() if line.startswith("Days"))
    assert days.split() == ["Days", "10.5", "1.5", "7.4", "13.5", "6.77", "<0.0001"]
    assert "Laplace's approximation" in repr(herds)
    assert "<table>" in herds._repr_html_()


# ---- files, and what is loaded


@pytest.mark.parametrize("which", ["sleep", "herds", "singular"])
def test_another_process_answers_the_same(which, request, tmp_path):
    fit = request.getfixturevalue(which)
    fit.save(tmp_path / "fit")
    code = (
        "import sys, glmm_bayes as gb\n"
        "fit = gb.load(sys.argv[1])\n"
        "rows = fit.model.design.rows.frame\n"
        "for table in (fit.predict(), fit.predict(rows), fit.ranef(), fit.varcorr()):\n"
        "    print(table.to_json(double_precision=15))\n"
        "print(fit.summary().text(100))\n"
        "print('pymc' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(tmp_path / "fit")],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    first, second, third, fourth, *page, loaded = done.stdout.splitlines()
    rows = fit.model.design.rows.frame
    assert json.loads(first) == json.loads(fit.predict().to_json(double_precision=15))
    theirs = pd.DataFrame(json.loads(second)).to_numpy(dtype=float)
    np.testing.assert_allclose(theirs, fit.predict(rows), rtol=1e-9)
    assert json.loads(third) == json.loads(fit.ranef().to_json(double_precision=15))
    assert json.loads(fourth) == json.loads(fit.varcorr().to_json(double_precision=15))
    assert "\n".join(page) == fit.summary().text(100)
    assert loaded == "False"


@pytest.mark.parametrize(
    ("formula", "dataset", "family", "method", "options"),
    [
        (CBPP, "cbpp", "binomial", "map", {}),
        (CBPP, "cbpp", "binomial", "reml", {}),
        (CBPP, "cbpp", "binomial", "ml", {"nagq": 5}),
        (SLEEP, "sleepstudy", "gaussian", "map", {}),
        ("diameter ~ 1 + (1 | plate) + (1 | sample)", "penicillin", "gaussian", "ml", {}),
    ],
)
def test_what_a_loaded_fit_computes_is_the_same(
    formula, dataset, family, method, options, tmp_path
):
    """Also what needs the effects' Hessian, which is factored anew."""
    fit = gb.Model(formula, gb.load_dataset(dataset), family).fit(method, seed=4, **options)
    fit.save(tmp_path / "fit")
    back = gb.load(tmp_path / "fit")
    assert (back.method, back.seed, back.loglik) == (method, 4, fit.loglik)
    assert back.summary().text() == fit.summary().text()
    rows = fit.model.design.rows.frame
    np.testing.assert_allclose(back.predict(rows), fit.predict(rows), rtol=1e-8)
    ours, theirs = (f.predict(kind="linear", draws=True) for f in (back, fit))
    np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-9)
    for at_once, again in zip(
        fit.mode.effects.values(), back.mode.effects_at(fit.mode.x), strict=True
    ):
        np.testing.assert_allclose(again, at_once, atol=1e-6)


def test_a_summary_loads_neither_pymc_nor_arviz():
    code = (
        "import sys, glmm_bayes as gb\n"
        f"fit = gb.Model({SLEEP!r}, gb.load_dataset('sleepstudy')).fit('ml')\n"
        "fit.summary().text(), fit.ranef(), fit.predict(), fit.theta, fit.r2(), fit.residuals()\n"
        "print(*{m.split('.')[0] for m in sys.modules})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    heavy = {"arviz", "arviz_stats", "matplotlib", "nutpie", "pymc", "pytensor", "xarray"}
    assert set(done.stdout.split()) & heavy == set()
