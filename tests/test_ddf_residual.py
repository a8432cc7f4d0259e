"""Small-sample tests where residuals depend on each other: Hotelling's F, and random intercepts."""

import numpy as np
import pytest
from scipy.stats import f as fisher

import glmm_bayes as gb
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.modes import by_rows

COLUMNS = ["estimate", "std_error", "df"]


@pytest.fixture(scope="module")
def rows():
    data = gb.load_dataset("sleepstudy")
    return data[data["Days"] < 4].assign(night=lambda d: "n" + d["Days"].astype(str))


def test_kenward_roger_of_free_covariances_is_hotelling(rows):
    """Of complete data the scaled F is T squared's, and its degrees of freedom n - q."""
    formulas = ["Reaction ~ night", "residual ~ us(0 + night | Subject)", "sigma ~ night"]
    fit = gb.Model(formulas, rows).fit("reml")
    found = fit.anova(test="kenward-roger").loc["night"]
    Y = rows.sort_values(["Subject", "Days"])["Reaction"].to_numpy().reshape(18, 4)
    D = Y[:, 1:] - Y[:, [0]]
    T2 = 18 * D.mean(axis=0) @ np.linalg.solve(np.cov(D.T), D.mean(axis=0))
    F = T2 * 15 / (17 * 3)
    assert (found["num_df"], found["den_df"]) == (3, pytest.approx(15, rel=1e-5))
    assert found["statistic"] == pytest.approx(F, rel=1e-5)
    assert found["p_value"] == pytest.approx(fisher.sf(F, 3, 15), rel=1e-5)


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger"])
def test_equal_correlations_are_a_random_intercept(rows, ddf):
    formulas = ["Reaction ~ Days", "residual ~ homcs(0 + night | Subject)"]
    found = gb.Model(formulas, rows).fit("reml").ttest(ddf)
    other = gb.Model("Reaction ~ Days + (1 | Subject)", rows).fit("reml").ttest(ddf)
    np.testing.assert_allclose(found[COLUMNS], other[COLUMNS], rtol=1e-4)


@pytest.mark.parametrize(
    "formulas",
    [
        "Reaction ~ Days + ar1(Days | Subject)",
        ["Reaction ~ Days + (1 + Days | Subject)", "sigma ~ Days"],
    ],
)
@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger"])
def test_sums_by_rows_are_those_by_effects(rows, formulas, ddf, monkeypatch):
    fit = gb.Model(formulas, gb.load_dataset("sleepstudy")).fit("reml")
    expected = fit.ttest(ddf)[COLUMNS]
    for verb in ("satterthwaite", "kenward_roger"):
        monkeypatch.setattr(f"glmm_bayes.verbs.{verb}.read_margin", by_rows.read_by_rows)
    np.testing.assert_allclose(fit.ttest(ddf)[COLUMNS], expected, rtol=1e-6)


def test_a_process_beside_groups_and_variances_by_time(rows):
    """All three at once: between residuals alone, and as many as there are rows."""
    formulas = [
        "Reaction ~ Days + (1 | Subject)", "residual ~ ar1(Days | Subject)", "sigma ~ Days",
    ]  # fmt: skip
    fit = gb.Model(formulas, gb.load_dataset("sleepstudy")).fit("reml")
    found = fit.ttest()
    assert found["df"].iloc[:2].between(10, 170).all()
    assert np.isinf(found["df"].iloc[2:]).all()
    adjusted = fit.ttest("kenward-roger")
    np.testing.assert_allclose(found["std_error"], adjusted["std_error"], rtol=0.05)


def test_too_many_rows_together_have_none(rows, monkeypatch):
    monkeypatch.setattr(by_rows, "LARGEST", 3)
    fit = gb.Model(["Reaction ~ Days", "residual ~ ar1(Days | Subject)"], rows).fit("reml")
    with pytest.raises(NotSupportedError, match="at most 2000 effects or rows that depend"):
        fit.ttest("satterthwaite")
    assert np.isinf(fit.ttest()["df"]).all()
