"""Residuals, hypotheses, criteria, explained variance, refits and the prior predictive."""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import binom, gamma, kstest, norm, poisson

import glmm_bayes as gb
from glmm_bayes.fit import PosteriorFit
from glmm_bayes.results import posterior_tree
from glmm_bayes.verbs.hypothesis import read_statement
from glmm_bayes.verbs.prior_predictive import _prior_draws
from glmm_bayes.verbs.residuals import far_out

QUICK = {"draws": 20, "tune": 20, "chains": 1, "cores": 1, "progressbar": False}


def drawn_from_prior(model: gb.Model, draws: int = 50) -> PosteriorFit:
    found = _prior_draws(model, draws, np.random.default_rng(4))
    tree = posterior_tree(model, found, xr.Dataset(), 6)
    return PosteriorFit(model, tree, "nuts", 6, 0.0, QUICK)


def update(fit: PosteriorFit, **changes: Any) -> PosteriorFit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gb.ConvergenceWarning)
        return fit.update(seed=1, **changes)


def refit(fit: PosteriorFit, y: Any) -> PosteriorFit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gb.ConvergenceWarning)
        return fit.refit(y, seed=1)


# ---- residuals


def test_quantile_residuals_are_those_of_the_averaged_distribution(sleepstudy_fit):
    fit = sleepstudy_fit
    mu, sigma = fit.predict(draws=True), fit.idata["posterior"]["sigma"]
    y = gb.load_dataset("sleepstudy")["Reaction"].to_numpy()
    at = norm.cdf((y - mu) / sigma.to_numpy()[..., None]).mean(axis=(0, 1))
    np.testing.assert_allclose(fit.residuals(), norm.ppf(at), rtol=1e-6)


@pytest.mark.parametrize("side", [-1, 1])
def test_quantile_residuals_keep_their_digits_at_20_standard_deviations(side):
    y, params = np.array([side * 20.0, 0.3]), {"mu": np.zeros((1, 1)), "sigma": np.ones((1, 1))}
    found = far_out(gb.FAMILIES["gaussian"], y, params, np.array([0.2, 0.8]))
    np.testing.assert_allclose(found, y, rtol=1e-12)


def test_residuals_far_out_are_those_of_scipys_log_tails():
    y, share = np.array([400.0]), np.array([0.3])
    found = far_out(gb.FAMILIES["poisson"], y, {"mu": np.full((1, 1), 30.0)}, share)
    rest = np.logaddexp(np.log(0.3) + poisson.logsf(400, 30), np.log(0.7) + poisson.logsf(399, 30))
    np.testing.assert_allclose(norm.logsf(found), rest, rtol=1e-10)
    y, params = np.array([400.0]), {"mu": np.full((1, 1), 2.0), "alpha": np.full((1, 1), 3.0)}
    found = far_out(gb.FAMILIES["gamma"], y, params, share)
    np.testing.assert_allclose(norm.logsf(found), gamma.logsf(400, 3.0, scale=2 / 3), rtol=1e-10)


def test_residuals_of_several_draws_average_their_tails():
    params = {"mu": np.array([[0.0], [1.0]]), "sigma": np.ones((2, 1))}
    found = far_out(gb.FAMILIES["gaussian"], np.array([25.0]), params, np.array([0.5]))
    rest = np.logaddexp(norm.logsf(25), norm.logsf(24)) - np.log(2)
    np.testing.assert_allclose(norm.logsf(found), rest, rtol=1e-12)


def test_an_outlier_has_its_own_residual():
    data = pd.DataFrame({"y": [0.0, 20.0, -30.0, 0.5]})
    priors = {"beta[Intercept]": 0.0, "sigma": 1.0}
    fit = drawn_from_prior(gb.Model("y ~ 1", data, priors=priors))
    np.testing.assert_allclose(fit.residuals(), data["y"], rtol=1e-8)


def test_quantile_residuals_of_counts_lie_within_their_step(cbpp_fit):
    data, p = gb.load_dataset("cbpp"), cbpp_fit.predict(draws=True)
    size, y = data["size"].to_numpy(), data["incidence"].to_numpy()
    low, high = (binom.cdf(k, size, p).mean(axis=(0, 1)) for k in (y - 1, y))
    found = norm.cdf(cbpp_fit.residuals(seed=3))
    assert ((low <= found) & (found <= high)).all()
    assert not np.allclose(found, norm.cdf(cbpp_fit.residuals(seed=4)))
    pd.testing.assert_series_equal(cbpp_fit.residuals(), cbpp_fit.residuals())


def test_quantile_residuals_of_the_true_model_are_standard_normal():
    """Parameters held at the truth, responses drawn by numpy."""
    rng = np.random.default_rng(8)
    data = pd.DataFrame({"x": rng.normal(size=2000)})
    data["y"] = rng.poisson(np.exp(0.3 + 0.5 * data["x"]))
    priors = {"beta[Intercept]": 0.3, "beta[x]": 0.5}
    fit = drawn_from_prior(gb.Model("y ~ x", data, "poisson", priors=priors))
    assert kstest(fit.residuals(seed=1), "norm").pvalue > 0.01


@pytest.mark.parametrize("kind", ["pearson", "deviance"])
def test_residuals_agree_with_lme4_s(cbpp_fit, reference, kind):
    """To the order of the difference between a posterior mean and a conditional mode."""
    theirs = np.array(reference("diag_residuals")["cbpp_binomial"][kind])
    ours = cbpp_fit.residuals(kind).to_numpy()
    assert np.corrcoef(ours, theirs)[0, 1] > 0.99
    assert np.std(ours) == pytest.approx(np.std(theirs), rel=0.05)


def test_pearson_and_deviance_residuals_take_the_weights():
    data = pd.DataFrame({"y": [1.0, 4, 2], "w": [1.0, 4, 9]})
    priors = {"beta[Intercept]": 2.0, "sigma": 0.5}
    fit = drawn_from_prior(gb.Model("y | weights(w) ~ 1", data, priors=priors))
    np.testing.assert_allclose(fit.residuals("pearson"), [-2, 8, 0])
    np.testing.assert_allclose(fit.residuals("deviance"), [-1, 4, 0])
    np.testing.assert_allclose(fit.residuals("response"), [-1, 2, 0])


def test_a_row_without_trials_has_no_residual_on_the_scale_of_proportions():
    data = pd.DataFrame({"y": [1.0, 0, 2], "n": [2, 0, 4]})
    model = gb.Model("y | trials(n) ~ 1", data, "binomial", priors={"beta[Intercept]": 0.0})
    fit = drawn_from_prior(model)
    np.testing.assert_allclose(fit.residuals("response"), [0, np.nan, 0], atol=1e-12)
    np.testing.assert_allclose(fit.residuals("pearson"), [0, np.nan, 0], atol=1e-12)


def test_what_a_family_does_not_state_is_said(sleepstudy_fit):
    data = pd.DataFrame({"y": [1.0, 4, 2]})
    bare = replace(gb.FAMILIES["gaussian"], name="bare", variance=None, deviance=None)
    fit = drawn_from_prior(gb.Model("y ~ 1", data, bare))
    for kind in ("pearson", "deviance"):
        with pytest.raises(gb.NotSupportedError, match="'quantile'"):
            fit.residuals(kind)
    with pytest.raises(gb.NotSupportedError, match="no R squared"):
        fit.r2()
    with pytest.raises(gb.UnknownNameError, match="Did you mean 'pearson'"):
        sleepstudy_fit.residuals("person")


# ---- hypotheses

NAMES = ["Intercept", "x", "f[T.b]", "f[T.b]:x", "an odd name", "x_2", "bs(x, 3)[1]", "sigma:x"]


@pytest.mark.parametrize(
    ("text", "sign", "constant", "weights"),
    [
        ("x > 5", ">", -5.0, {"x": 1.0}),
        ("5 < x", "<", 5.0, {"x": -1.0}),
        ("x - x_2 = 0", "=", 0.0, {"x": 1.0, "x_2": -1.0}),
        ("x == x_2", "=", 0.0, {"x": 1.0, "x_2": -1.0}),
        ("2*(x + 3) / 4 >= -x_2", ">", 1.5, {"x": 0.5, "x_2": 1.0}),
        ("f[T.b]:x < f[T.b]", "<", 0.0, {"f[T.b]:x": 1.0, "f[T.b]": -1.0}),
        ("`f[T.b]` + an odd name > 0", ">", 0.0, {"f[T.b]": 1.0, "an odd name": 1.0}),
        ("`an odd name`>1e-1", ">", -0.1, {"an odd name": 1.0}),
        ("bs(x, 3)[1] > sigma:x", ">", 0.0, {"bs(x, 3)[1]": 1.0, "sigma:x": -1.0}),
        ("-Intercept <= +1", "<", -1.0, {"Intercept": -1.0}),
    ],
)
def test_statements_are_read(text, sign, constant, weights):
    found = read_statement(text, NAMES)
    assert (found[0], found[1].constant) == (sign, pytest.approx(constant))
    assert found[1].weights == pytest.approx(weights)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("x", gb.FormulaError, "exactly one of >, < and ="),
        ("0 < x < 1", gb.FormulaError, "exactly one"),
        ("x != 1", gb.FormulaError, "exactly one"),
        ("x * x_2 > 0", gb.FormulaError, "not linear"),
        ("x ** 2 > 0", gb.FormulaError, "not linear"),
        ("1 / x > 0", gb.FormulaError, "not linear"),
        ("x / 0 > 0", gb.FormulaError, "not linear"),
        ("x > 'a'", gb.FormulaError, "not linear"),
        ("x > ", gb.FormulaError, "cannot be read"),
        ("", gb.FormulaError, "cannot be read"),
        ("x_3 > 0", gb.UnknownNameError, "no coefficient 'x_3'. Did you mean 'x_2'"),
        ("`f[T.c]` > 0", gb.UnknownNameError, r"no coefficient 'f\[T.c\]'"),
        ("f[T.c] > 0", gb.UnknownNameError, r"no coefficient 'f\[T.c\]'"),
        ("log(x) > 0", gb.UnknownNameError, r"no coefficient 'log\(x\)'"),
        ("`x > 0", gb.UnknownNameError, "no coefficient"),
    ],
)
def test_statements_that_mean_nothing_are_refused(text, error, words):
    with pytest.raises(error, match=words):
        read_statement(text, NAMES)


def test_a_hypothesis_counts_draws(sleepstudy_fit):
    days = sleepstudy_fit.idata["posterior"]["beta"].sel(coef="Days").to_numpy().ravel()
    (row,) = sleepstudy_fit.hypothesis("2 * Days > 21", level=0.9).to_dict("records")
    p = np.mean(days > 10.5)
    assert 0 < p < 1
    assert row["hypothesis"] == "2 * Days > 21"
    assert row["probability"] == pytest.approx(p)
    assert row["evidence_ratio"] == pytest.approx(p / (1 - p))
    assert row["estimate"] == pytest.approx(2 * days.mean() - 21)
    assert row["upper"] == pytest.approx(np.quantile(2 * days - 21, 0.95))
    (same,) = sleepstudy_fit.hypothesis("2 * Days = 21").to_dict("records")
    assert same["probability"] == pytest.approx(2 * min(p, 1 - p))
    assert np.isnan(same["evidence_ratio"])


def test_a_certain_hypothesis_has_infinite_odds(sleepstudy_fit):
    assert sleepstudy_fit.hypothesis("Intercept > 0")["evidence_ratio"][0] == np.inf


def test_a_contrast_is_the_hypothesis_without_a_sign(cbpp_fit):
    found = cbpp_fit.contrast({"period[T.2]": 1, "period[T.3]": -1})
    other = cbpp_fit.hypothesis("period[T.2] - period[T.3] = 0")
    columns = ["estimate", "std_error", "lower", "upper"]
    pd.testing.assert_frame_equal(found[columns], other[columns])
    with pytest.raises(gb.UnknownNameError, match=r"Did you mean 'period\[T.2\]'"):
        cbpp_fit.contrast({"period[2]": 1})


def test_coefficients_of_other_parameters_have_a_prefix():
    data = pd.DataFrame({"y": [1.0, 4, 2], "x": [0.0, 1, 3]})
    priors = {"beta": 1.0, "beta_sigma": 0.25}
    fit = drawn_from_prior(gb.Model(["y ~ x", "sigma ~ x"], data, priors=priors))
    assert fit.hypothesis("x - sigma:x > 0")["estimate"][0] == pytest.approx(0.75)


# ---- criteria


@pytest.mark.filterwarnings("ignore:Estimated shape parameter")
def test_loo_is_arviz_s_and_computes_the_log_likelihood_where_it_is_not_kept(sleepstudy_fit):
    import arviz as az

    kept = sleepstudy_fit.loo()
    assert kept.elpd == pytest.approx(az.loo(sleepstudy_fit.idata).elpd)
    bare = sleepstudy_fit.idata.drop_nodes("log_likelihood")
    fit = PosteriorFit(sleepstudy_fit.model, bare, "nuts", 1, 0.0)
    assert fit.loo(pointwise=True).elpd == pytest.approx(kept.elpd)
    assert "log_likelihood" not in fit.idata.children


@pytest.mark.filterwarnings("ignore:Estimated shape parameter")
def test_the_better_fit_comes_first(sleepstudy_fit):
    worse = update(sleepstudy_fit, formula="Reaction ~ 1 + (1 | Subject)", draws=100)
    found = gb.compare({"without": worse, "with": sleepstudy_fit})
    assert list(found.index) == ["with", "without"]
    by_formula = gb.compare([worse, sleepstudy_fit])
    assert list(by_formula.index) == [f.model.formula.texts[0] for f in (sleepstudy_fit, worse)]


def test_only_fits_of_the_same_responses_are_compared(sleepstudy_fit, cbpp_fit):
    data = gb.load_dataset("sleepstudy")
    with pytest.raises(gb.DataError, match="at least two"):
        gb.compare([sleepstudy_fit])
    with pytest.raises(gb.DataError, match="180 rows and .* 56"):
        gb.compare([sleepstudy_fit, cbpp_fit])
    logged = drawn_from_prior(gb.Model("np.log(Reaction) ~ Days", data))
    with pytest.raises(gb.DataError, match="different responses, 'Reaction' and"):
        gb.compare([sleepstudy_fit, logged])
    counts = pd.DataFrame({"y": [1, 2, 5, 3]})
    a, b = (drawn_from_prior(gb.Model("y ~ 1", counts, f)) for f in ("gaussian", "poisson"))
    with pytest.raises(gb.DataError, match="density of family 'gaussian'"):
        gb.compare({"a": a, "b": b})


# ---- explained variance


def test_r_squared_of_sleepstudy_is_nakagawa_s(sleepstudy_fit):
    """R's performance 0.10.2 on the REML fit: 0.2787 and 0.7992; here with posterior spread."""
    found = sleepstudy_fit.r2()
    assert list(found.index) == ["marginal", "conditional"]
    assert found.loc["marginal", "estimate"] == pytest.approx(0.279, abs=0.04)
    assert found.loc["conditional", "estimate"] == pytest.approx(0.799, abs=0.03)


def test_r_squared_without_random_terms_is_one_number():
    data = pd.DataFrame({"x": np.arange(30.0), "y": np.arange(30.0)})
    priors = {"beta[Intercept]": 0.0, "beta[x]": 0.5, "sigma": 2.0}
    found = drawn_from_prior(gb.Model("y ~ x", data, priors=priors)).r2()["estimate"]
    explained = 0.25 * np.var(np.arange(30.0))
    np.testing.assert_allclose(found, explained / (explained + 4), rtol=1e-12)


def two_groups(n: int = 24) -> pd.DataFrame:
    x = np.linspace(-1, 2, n)
    g, h = (np.arange(n) % k for k in (4, 5))
    return pd.DataFrame({"y": 1.0 * (x > 0.4), "x": x, "g": g, "h": h})


@pytest.mark.parametrize(
    ("family", "link", "own"),
    [
        ("gaussian", "identity", 0.8**2),
        ("bernoulli", "logit", np.pi**2 / 3),
        ("bernoulli", "probit", 1.0),
        ("bernoulli", "cloglog", np.pi**2 / 6),
        ("poisson", "log", np.log1p(1 / np.exp(0.4 + (0.6**2 + 1.1**2) / 2))),
    ],
)
def test_icc_has_the_distribution_s_variance(family, link, own):
    priors = {"beta[Intercept]": 0.4, "sd_g": 0.6, "sd_h": 1.1}
    priors |= {"sigma": 0.8} if family == "gaussian" else {}
    model = gb.Model("y ~ 1 + (1 | g) + (1 | h)", two_groups(), family, link, priors)
    found = drawn_from_prior(model).icc()
    assert list(found.index) == ["g", "h", "total"]
    total = 0.36 + 1.21 + own
    np.testing.assert_allclose(found["estimate"], np.array([0.36, 1.21, 1.57]) / total, rtol=1e-10)


def test_icc_of_sleepstudy_is_performance_s(sleepstudy_fit, reference):
    """The adjusted ICC of the REML fit; here with posterior spread."""
    theirs = reference("diag_residuals")["sleepstudy"]["ICC"]["ICC_adjusted"]
    assert sleepstudy_fit.icc()["estimate"].iloc[0] == pytest.approx(theirs, abs=0.05)


def test_icc_averages_slopes_over_the_rows():
    """Johnson (2014): the mean over rows of z' Sigma z."""
    data = two_groups()
    priors = {"beta": 1.0, "sd_g[Intercept]": 0.6, "sd_g[x]": 0.9, "sigma": 0.5}
    fit = drawn_from_prior(gb.Model("y ~ x + (1 + x || g)", data, priors=priors))
    v = 0.36 + 0.81 * np.mean(data["x"] ** 2)
    assert list(fit.icc().index) == ["g"]
    assert fit.icc()["estimate"].iloc[0] == pytest.approx(v / (v + 0.25))


def test_icc_says_where_it_is_not_known():
    data = two_groups().assign(y=lambda d: 0.1 + 0.8 * d["y"])
    with pytest.raises(gb.NotSupportedError, match="family 'beta' with link 'logit'"):
        drawn_from_prior(gb.Model("y ~ x + (1 | g)", data, "beta")).icc()
    with pytest.raises(gb.NotSupportedError, match="no random term"):
        drawn_from_prior(gb.Model("y ~ x", data)).icc()


# ---- again


def test_update_keeps_what_is_not_changed():
    data = two_groups()
    priors = {"beta": gb.Prior("Normal", mu=0, sigma=3)}
    model = gb.Model("y ~ x + (1 | g)", data, "bernoulli", "probit", priors)
    fit = drawn_from_prior(model)
    other = update(fit, formula="y ~ x + (1 | h)", draws=30)
    assert other.model.formula.texts == ("y ~ x + (1 | h)",)
    assert other.model.links["mu"].name == "probit"
    assert other.model.user_priors == priors
    assert (other.options["draws"], other.options["tune"]) == (30, 20)
    assert other.idata["posterior"].sizes["draw"] == 30
    assert other.seed == 1
    assert update(fit, family="gaussian", data=data.head(20)).model.links["mu"].name == "identity"
    with pytest.raises(
        gb.UnknownNameError, match="no 'formulas' to change. Did you mean 'formula'"
    ):
        fit.update(formulas="y ~ x")


def test_refit_puts_another_response_in_place(cbpp_fit):
    y = cbpp_fit.simulate(1, seed=2)[0]
    other = refit(update(cbpp_fit, draws=20, tune=50), y)
    np.testing.assert_array_equal(other.model.design.response.y, y)
    np.testing.assert_array_equal(
        other.model.design.response.trials, cbpp_fit.model.design.response.trials
    )
    with pytest.raises(gb.DataError, match="does not fit family 'binomial'"):
        cbpp_fit.refit(y + 1000)
    with pytest.raises(gb.DataError, match=r"shape \(3,\), but 56 rows"):
        cbpp_fit.refit([1, 2, 3])


def test_refit_keeps_the_trials_where_failures_are_a_column():
    data = pd.DataFrame({"s": [1, 2, 3, 0], "f": [4, 2, 2, 1]})
    fit = drawn_from_prior(gb.Model("cbind(s, f) ~ 1", data, "binomial"))
    response = refit(fit, [5, 0, 1, 1]).model.design.response
    assert list(response.y) == [5, 0, 1, 1]
    assert list(response.trials) == [5, 4, 5, 1]


def test_refit_takes_the_rows_used_or_all_of_the_data_s():
    data = two_groups().assign(y=lambda d: d["x"] ** 2)
    data.loc[3, "x"] = np.nan
    with pytest.warns(gb.DataWarning):
        fit = drawn_from_prior(gb.Model("y ~ x + (1 | g)", data))
    y = np.arange(24.0) ** 2 % 7
    used = refit(fit, y[:23])
    np.testing.assert_array_equal(used.model.design.y, y[:23])
    with pytest.warns(gb.DataWarning):
        every = refit(fit, y)
    np.testing.assert_array_equal(every.model.design.y, np.delete(y, 3))


def test_refit_of_a_factor_takes_levels_or_their_positions():
    data = two_groups().assign(y=lambda d: np.where(d["y"] > 0, "yes", "no"))
    fit = drawn_from_prior(gb.Model("y ~ x", data, "bernoulli"))
    y = np.arange(24) % 2
    by_position, by_level = refit(fit, y), refit(fit, np.where(y, "yes", "no"))
    np.testing.assert_array_equal(by_position.model.design.y, y)
    np.testing.assert_array_equal(by_level.model.design.y, y)
    with pytest.raises(gb.DataError, match=r"must be 0 \(no\) or 1 \(yes\)"):
        fit.refit(y + 1)


def test_a_computed_response_cannot_be_replaced():
    fit = drawn_from_prior(gb.Model("np.exp(y) ~ x", two_groups()))
    with pytest.raises(gb.NotSupportedError, match=r"'np.exp\(y\)' is computed"):
        fit.refit(np.ones(24))


# ---- the prior


def test_prior_predictive_has_the_prior_s_moments():
    """y = a + b x + b_g + e, all normal: the variances add; sd_g half-normal, E sd^2 = scale^2."""
    data = two_groups()
    priors = {
        "beta[Intercept]": gb.Prior("Normal", mu=3, sigma=2),
        "beta[x]": gb.Prior("Normal", mu=-1, sigma=0.5),
        "sd_g": gb.Prior("HalfNormal", sigma=1.5),
        "sigma": 0.7,
    }
    model = gb.Model("y ~ x + (1 | g)", data, priors=priors)
    tree = model.prior_predictive(20_000, seed=9)
    assert set(tree.children) == {"prior", "prior_predictive"}
    y = tree["prior_predictive"]["y"]
    assert y.dims == ("chain", "draw", "__obs__")
    x = data["x"].to_numpy()
    variance = 4 + 0.25 * x**2 + 2.25 + 0.49
    error = np.sqrt(variance / 20_000)
    assert (abs(y.mean(["chain", "draw"]).to_numpy() - (3 - x)) < 4.5 * error).all()
    np.testing.assert_allclose(y.var(["chain", "draw"]), variance, rtol=0.06)
    assert (tree["prior"]["sigma"] == 0.7).all()
    assert tree["prior"]["b_g"].shape == (1, 20_000, 4, 1)


def test_the_prior_of_a_centred_intercept_is_at_the_means():
    data = two_groups().assign(x=lambda d: d["x"] + 100)
    priors = {"intercept": gb.Prior("Normal", mu=5, sigma=0.1), "beta[x]": 2.0, "sigma": 1.0}
    prior = gb.Model("y ~ x", data, priors=priors).prior_predictive(500, seed=1)["prior"]
    beta = prior["beta"]
    centre = beta.sel(coef="Intercept") + beta.sel(coef="x") * data["x"].mean()
    assert float(centre.mean()) == pytest.approx(5, abs=0.03)


def test_the_prior_predictive_is_reproducible_and_named_as_a_posterior(sleepstudy_fit):
    model = sleepstudy_fit.model
    a, b = (model.prior_predictive(10, seed=3) for _ in range(2))
    assert a.identical(b)
    assert set(a["prior"].data_vars) == set(sleepstudy_fit.idata["posterior"].data_vars)


@pytest.mark.parametrize("family", ["poisson", "negbinomial", "nbinom1", "bernoulli", "gamma"])
def test_a_wide_prior_still_gives_responses(family):
    data = two_groups().assign(x=lambda d: 1e4 * d["x"])
    data["y"] = data["y"] if family == "bernoulli" else data["y"] + 1
    priors = {"beta": gb.Prior("Normal", mu=0, sigma=10)}
    y = gb.Model("y ~ x", data, family, priors=priors).prior_predictive(50, seed=2)
    assert np.isfinite(y["prior_predictive"]["y"]).all()


def test_prior_draws_are_a_whole_number(sleepstudy_fit):
    with pytest.raises(gb.DataError, match="draws=0"):
        sleepstudy_fit.model.prior_predictive(0)
