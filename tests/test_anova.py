"""Tests of terms and of two fits against lme4, pbkrtest and what is known of chi-squared."""

import numpy as np
import pandas as pd
import pytest
from references import cbpp, table
from scipy.stats import chi2

import glmm_bayes as gb
from glmm_bayes.engine.cones import cone_gains
from glmm_bayes.errors import DataError, NotSupportedError, UnknownNameError

BEETS = "sugpct ~ block + sow + harvest + (1 | block:harvest)"


def sleep_fit(formula, method="ml"):
    return gb.Model(formula, gb.load_dataset("sleepstudy")).fit(method)


@pytest.fixture(scope="module")
def slopes():
    return sleep_fit("Reaction ~ Days + (1 + Days | Subject)")


@pytest.mark.parametrize(
    ("formula", "block"),
    [
        ("Reaction ~ 1 + (1 + Days | Subject)", "days_fixed"),
        ("Reaction ~ Days + (1 + Days || Subject)", "corr_zero"),
    ],
)
def test_ratios_agree_with_lme4(reference, slopes, formula, block):
    expected = reference("inf_sleepstudy_ci_lrt")["lrt"][block]
    found = slopes.anova(sleep_fit(formula))
    assert found["statistic"].iloc[1] == pytest.approx(expected["chisq"], abs=1e-4)
    assert found["p_value"].iloc[1] == pytest.approx(expected["p"], abs=1e-5)
    np.testing.assert_allclose(found["loglik"], expected["logLik"], atol=1e-5)


def test_a_variance_of_zero_has_a_mixture(slopes, reference):
    """Stram & Lee (1994): halves of chi-squared with one and two degrees of freedom."""
    expected = reference("inf_sleepstudy_ci_lrt")["lrt"]["slope_variance"]["chisq"]
    smaller = sleep_fit("Reaction ~ Days + (1 | Subject)")
    for found in (slopes.anova(smaller), smaller.anova(slopes)):
        p = 0.5 * chi2.sf(expected, 1) + 0.5 * chi2.sf(expected, 2)
        assert found["p_value"].iloc[1] == pytest.approx(p, rel=1e-3)
        assert "1/2 chi-squared(1) + 1/2 (2)" in found.attrs["notes"][0]


@pytest.mark.parametrize("method", ["ml", "reml"])
def test_a_single_variance_is_half_chi_squared(method):
    dyestuff = gb.load_dataset("dyestuff")
    fits = [gb.Model(f"Yield ~ 1{rest}", dyestuff).fit(method) for rest in (" + (1 | Batch)", "")]
    found = fits[0].anova(fits[1])
    statistic = 2 * (fits[0].loglik - fits[1].loglik)
    assert found["p_value"].iloc[1] == pytest.approx(0.5 * chi2.sf(statistic, 1))


@pytest.mark.filterwarnings("ignore::glmm_bayes.errors.SingularFitWarning")
def test_two_variances_draw_the_mixture():
    """Crossed and balanced: independent, so 1/4 chi-squared(0) + 1/2 (1) + 1/4 (2)."""
    rng = np.random.default_rng(2)
    g, h = (part.ravel() for part in np.indices((12, 12)))
    data = {"y": rng.normal(size=144) + 0.5 * rng.normal(size=12)[g], "g": g, "h": h}
    frame = gb.load_dataset("sleepstudy").iloc[:144].assign(**data).astype({"g": str, "h": str})
    larger = gb.Model("y ~ 1 + (1 | g) + (1 | h)", frame).fit("reml")
    found = larger.anova(gb.Model("y ~ 1", frame).fit("reml"), seed=3)
    statistic = found["statistic"].iloc[1]
    expected = 0.5 * chi2.sf(statistic, 1) + 0.25 * chi2.sf(statistic, 2)
    assert statistic > 1
    assert abs(found["p_value"].iloc[1] - expected) < 5 * found["mc_error"].iloc[1] + 0.002


def test_far_out_a_drawn_tail_is_the_mixtures(slopes):
    """With an intercept's and a slope's variance: between 1/4 and all of chi-squared(3)."""
    data = gb.load_dataset("sleepstudy")
    without = gb.Model("Reaction ~ Days", data).fit("reml")
    found = gb.Model("Reaction ~ Days + (1 + Days | Subject)", data).fit("reml").anova(without)
    statistic, p, error = found.loc["larger", ["statistic", "p_value", "mc_error"]]
    assert 0.1 * chi2.sf(statistic, 3) < p < chi2.sf(statistic, 3)
    assert error < 0.1 * p


@pytest.mark.filterwarnings("ignore::glmm_bayes.errors.SingularFitWarning")
def test_compound_symmetry_has_two_edges():
    """
    Balanced: the mean's variance and that of what is left of it are estimated independently.

    So 1/4 chi-squared(0) + 1/2 (1) + 1/4 (2), by the two eigenvalues of the covariance.
    """
    rng = np.random.default_rng(5)
    g, f, _ = (part.ravel() for part in np.indices((40, 3, 4)))
    y = rng.normal(size=480) + 0.25 * rng.normal(size=40)[g] + 0.2 * rng.normal(size=120)[3 * g + f]
    frame = pd.DataFrame({"y": y, "g": g.astype(str), "f": np.array(list("abc"))[f]})
    larger = gb.Model("y ~ f + homcs(0 + f | g)", frame).fit("reml")
    found = larger.anova(gb.Model("y ~ f", frame).fit("reml"), seed=3)
    statistic = found["statistic"].iloc[1]
    expected = 0.5 * chi2.sf(statistic, 1) + 0.25 * chi2.sf(statistic, 2)
    assert statistic > 0.5
    assert abs(found["p_value"].iloc[1] - expected) < 5 * found["mc_error"].iloc[1] + 0.003


def test_orthant_cones_have_known_weights():
    """With correlation r, both entries stay with probability 1/4 + asin(r) / 2 pi."""
    for r in (-0.6, 0.0, 0.8):
        covariance = np.array([[2.0, r * np.sqrt(2)], [r * np.sqrt(2), 1.0]])
        u = np.random.default_rng(0).multivariate_normal([0, 0], covariance, size=20_000)
        gains = cone_gains(u, np.linalg.inv(covariance), [1, 1])
        # No entry stays where the score S u is negative, by the same angle.
        none = (gains < 1e-9).mean()
        assert none == pytest.approx(0.25 + np.arcsin(-r) / (2 * np.pi), abs=0.01)
        both = np.isclose(gains, np.einsum("si,ij,sj->s", u, np.linalg.inv(covariance), u)).mean()
        assert both == pytest.approx(0.25 + np.arcsin(r) / (2 * np.pi), abs=0.01)


def test_a_covariance_matrix_has_kuriki_and_takemuras_weights():
    """
    Two by two, independent entries: weights (2 - sqrt 2) / 4, 1 / (2 sqrt 2), 1 / 2, … by rank.

    Kuriki & Takemura (2000), Ann. Stat. 28, 1368-1400: the cone is self-dual, so that the gain
    and what is left have one distribution; its mean is 3/2.
    """
    S = np.diag([1.0, 2.0, 1.0])
    u = np.random.default_rng(0).normal(size=(40_000, 3)) / np.sqrt(np.diag(S))
    gains = cone_gains(u, S, [2])
    whole = np.einsum("si,i->s", u * u, np.diag(S))
    assert gains.mean() == pytest.approx(1.5, abs=0.03)
    assert np.quantile(gains, 0.9) == pytest.approx(np.quantile(whole - gains, 0.9), abs=0.1)
    assert (gains < 1e-9).mean() == pytest.approx((2 - np.sqrt(2)) / 4, abs=0.01)


@pytest.mark.parametrize(
    ("fixed", "expected"),
    [
        ("f/Days", [[2, 157.1836863, 0.41916278], [3, 157.1143739, 55.90029450]]),
        ("0 + f + Days", [[3, 51.46432464, 221.4616869], [1, 158.99895616, 167.6689643]]),
        ("poly(Days, 2) * f",
         [[2, 153.9942032, 86.5018440531], [2, 154.2265674, 0.1392162084],
          [4, 154.7471058, 2.0390024860]]),
    ],
)  # fmt: skip
def test_terms_without_marginal_ones_agree_with_lmer_test(fixed, expected):
    """lmerTest 3.1-3, anova(m, type = "III"): num_df, den_df, F."""
    data = gb.load_dataset("sleepstudy")
    data = data.assign(f=[("a", "b", "c")[i % 3] for i in range(len(data))])
    found = gb.Model(f"Reaction ~ {fixed} + (1 | Subject)", data).fit("reml").anova()
    np.testing.assert_allclose(found[["num_df", "den_df", "statistic"]], expected, rtol=1e-4)


@pytest.mark.usefixtures("shared_data")
@pytest.mark.parametrize(
    ("part", "dropped"), [("drop_harvest", " + harvest"), ("drop_sow", " + sow")]
)
@pytest.mark.filterwarnings("ignore::glmm_bayes.errors.SingularFitWarning")
def test_kenward_roger_of_two_fits_agrees_with_pbkrtest(reference, part, dropped):
    expected = reference("inf_beets_pb_kr")[part]["KR"]
    larger, smaller = (
        gb.Model(text, table("beets")()).fit("ml") for text in (BEETS, BEETS.replace(dropped, ""))
    )
    found = larger.anova(smaller, test="kenward-roger").iloc[0]
    assert found["statistic"] == pytest.approx(expected["stat"], rel=1e-5)
    assert found["num_df"] == expected["ndf"]
    assert found["den_df"] == pytest.approx(expected["ddf"], abs=1e-4)
    assert found["p_value"] == pytest.approx(expected["p.value"], abs=1e-6)


@pytest.mark.usefixtures("shared_data")
@pytest.mark.parametrize("part", ["drop_harvest", "drop_sow"])
@pytest.mark.filterwarnings("ignore::glmm_bayes.errors.SingularFitWarning")
def test_the_bootstrap_agrees_with_pbkrtest(reference, part):
    expected = reference("inf_beets_pb_kr")[part]["PB"]
    dropped = part.replace("drop_", " + ")
    larger, smaller = (
        gb.Model(text, table("beets")()).fit("reml") for text in (BEETS, BEETS.replace(dropped, ""))
    )
    found = larger.anova(smaller, test="bootstrap", nsim=800, seed=1)
    row = found.iloc[1]
    assert row["statistic"] == pytest.approx(expected["stat"], rel=1e-4)
    gap = 4 * np.hypot(row["mc_error"], expected["mc_se_p"])
    assert row["p_value"] == pytest.approx(expected["p_PB"], abs=gap)
    again = larger.anova(smaller, test="bootstrap", nsim=800, seed=1).iloc[1]
    assert again["p_value"] == row["p_value"]


def test_the_bootstrap_of_counts_agrees_with_pbkrtest(reference):
    expected = reference("inf_cbpp_pb")["pb"]
    formulas = [f"incidence | trials(size) ~ {x} + (1 | herd)" for x in ("period", "late")]
    larger, smaller = (gb.Model(text, cbpp(), "binomial").fit("ml") for text in formulas)
    row = larger.anova(smaller, test="bootstrap", nsim=300, seed=1).iloc[1]
    assert row["statistic"] == pytest.approx(expected["stat"], abs=2e-3)
    gap = 4 * np.hypot(row["mc_error"], expected["mc_se_p"])
    assert row["p_value"] == pytest.approx(expected["p_PB"], abs=gap)


def test_terms_of_counts_are_tested_by_chi_squared():
    """lme4 1.1-31, inf_cbpp: Wald's chi-squared of period on three degrees of freedom."""
    fit = gb.Model("cbind(incidence, size - incidence) ~ period + (1 | herd)", cbpp(), "binomial")
    fit = fit.fit("ml")
    found, beta = fit.anova().loc["period"], fit.fixef()["estimate"].to_numpy()[1:]
    wald = beta @ np.linalg.solve(fit.vcov().to_numpy()[1:, 1:], beta)
    assert found["statistic"] == pytest.approx(wald / 3)
    assert found["p_value"] == pytest.approx(chi2.sf(wald, 3))


@pytest.mark.filterwarnings("ignore::glmm_bayes.errors.SingularFitWarning")
def test_what_cannot_be_compared_says_why(slopes):
    data = gb.load_dataset("sleepstudy")
    reml = sleep_fit("Reaction ~ 1 + (1 + Days | Subject)", "reml")
    with pytest.raises(DataError, match="cannot be compared; fit both by 'ml'"):
        slopes.anova(reml)
    with pytest.raises(DataError, match="different fixed effects.*fit both by 'ml'"):
        sleep_fit("Reaction ~ Days + (1 + Days | Subject)", "reml").anova(reml)
    with pytest.raises(DataError, match="180 rows and .* 150"):
        slopes.anova(gb.Model("Reaction ~ Days + (1 | Subject)", data.iloc[:150]).fit("ml"))
    other = sleep_fit("Reaction ~ Days + I(Days ** 2) + (1 | Subject)")
    with pytest.raises(DataError, match="no case of the other"):
        slopes.anova(other)
    with pytest.raises(DataError, match="no case of a term of the larger one"):
        slopes.anova(gb.Model("Reaction ~ Days + (1 | Days)", data).fit("ml"))
    with pytest.raises(UnknownNameError, match="test='lr' is not known"):
        slopes.anova(other, test="lr")
    with pytest.raises(NotSupportedError, match="give the smaller one"):
        slopes.anova(test="lrt")
    with pytest.raises(NotSupportedError, match="fixed part alone"):
        slopes.anova(sleep_fit("Reaction ~ Days + (1 | Subject)"), test="kenward-roger")
    penalised = slopes.model.fit("map")
    with pytest.raises(DataError, match="the other is by 'map'; tests compare fits by 'ml' or"):
        slopes.anova(penalised)


@pytest.mark.filterwarnings("ignore::glmm_bayes.errors.SingularFitWarning")
def test_structures_that_mean_nothing_without_a_variance_want_the_bootstrap():
    larger = sleep_fit("Reaction ~ Days + (1 | Subject) + ar1(Days | Subject)")
    with pytest.raises(NotSupportedError, match="means nothing without a variance.*bootstrap"):
        larger.anova(sleep_fit("Reaction ~ Days + (1 | Subject)"))


def test_a_structure_of_the_residuals_is_no_edge():
    """One correlation more, inside of where it can be."""
    data, residual = gb.load_dataset("sleepstudy"), "residual ~ ar1(Days | Subject)"
    formula = "Reaction ~ Days + (1 | Subject)"
    larger = gb.Model([formula, residual], data).fit("ml")
    found = larger.anova(sleep_fit(formula)).iloc[1]
    assert found["p_value"] == pytest.approx(chi2.sf(found["statistic"], 1))
    with pytest.raises(DataError, match="neither is a case of the other"):
        gb.Model(["Reaction ~ Days", residual], data).fit("ml").anova(
            sleep_fit("Reaction ~ Days + (1 + Days | Subject)")
        )
    with pytest.raises(NotSupportedError, match="Leverages where residuals have a structure"):
        larger.influence()
