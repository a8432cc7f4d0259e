"""Predictions against closed forms and linear algebra on the draws."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import norm

import glmm_bayes as gb
from glmm_bayes.fit import PosteriorFit
from glmm_bayes.results import posterior_tree
from glmm_bayes.verbs.prior_predictive import _prior_draws


def fixed_fit(
    formula: Any, data: pd.DataFrame, family: str, priors: Mapping[str, Any], **model: Any
) -> PosteriorFit:
    """A "posterior" of draws from a prior, mostly of fixed values, so that truths are known."""
    import xarray as xr

    made = gb.Model(formula, data, family, priors=priors, **model)
    draws = _prior_draws(made, 400, np.random.default_rng(3))
    tree = posterior_tree(made, draws, xr.Dataset(), 5)
    return PosteriorFit(made, tree, "prior", 5, 0.0)


def table_of(n: int = 24, groups: int = 6) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "y": rng.integers(0, 2, n).astype(float),
            "x": rng.normal(size=n),
            "g": [f"g{k % groups}" for k in range(n)],
            "h": [f"g{(k + 1 + k // groups) % groups}" for k in range(n)],
            "n": rng.integers(1, 9, n),
        }
    )


SLOPES = {"beta": 0.7, "sd": 1.3, "corr": gb.Prior("LKJCorr", eta=1)}


def test_conditional_mean_is_linear_algebra_on_the_draws(sleepstudy_fit):
    fit, data = sleepstudy_fit, gb.load_dataset("sleepstudy")
    posterior = fit.idata["posterior"]
    row = 137
    subject, days = str(data["Subject"][row]), float(data["Days"][row])
    own = posterior["beta"] + posterior["b_Subject"].sel(Subject=subject).rename(
        {"Subject__coef": "coef"}
    )
    expected = (own.sel(coef="Intercept") + days * own.sel(coef="Days")).to_numpy()
    got = fit.predict(draws=True)
    assert got.dims == ("chain", "draw", "__obs__")
    np.testing.assert_allclose(got[:, :, row], expected, rtol=1e-12)
    table = fit.predict(level=0.8)
    assert list(table.columns) == ["estimate", "std_error", "lower", "upper"]
    assert table["lower"][row] == pytest.approx(np.quantile(expected, 0.1))
    assert table["std_error"][row] == pytest.approx(expected.std(ddof=1))


def test_rows_keep_the_users_index(sleepstudy_fit):
    new = pd.DataFrame({"Days": [0, 9], "Subject": ["308", "309"]}, index=["first", "last"])
    assert list(sleepstudy_fit.predict(new).index) == ["first", "last"]
    assert list(sleepstudy_fit.predict(new, draws=True)["__obs__"]) == [0, 1]


def test_rows_left_out_are_not_predicted():
    data = table_of().set_index(pd.Index(range(100, 124)))
    data.loc[103, "x"] = np.nan
    with pytest.warns(gb.DataWarning):
        fit = fixed_fit("y ~ x + (1 | g)", data, "gaussian", {"beta": 1.0, "sd": 1.0, "sigma": 1.0})
    assert list(fit.predict().index) == [k for k in range(100, 124) if k != 103]
    assert list(fit.residuals().index) == list(fit.predict().index)


def test_polars_rows_are_numbered(sleepstudy_fit):
    pl = pytest.importorskip("polars")
    new = pl.DataFrame({"Days": [0, 9], "Subject": ["308", "309"]})
    assert list(sleepstudy_fit.predict(new).index) == [0, 1]


def test_population_leaves_the_effects_out(sleepstudy_fit):
    found = sleepstudy_fit.predict(groups="population", draws=True)
    beta = sleepstudy_fit.idata["posterior"]["beta"]
    days = gb.load_dataset("sleepstudy")["Days"].to_numpy()
    expected = beta.sel(coef="Intercept") + beta.sel(coef="Days") * days[7]
    np.testing.assert_allclose(found[:, :, 7], expected, rtol=1e-12)


@pytest.mark.parametrize("groups", ["population", "marginal"])
def test_where_levels_do_not_matter_they_need_not_be_given(cbpp_fit, groups):
    new = pd.DataFrame({"period": ["1", "4"]})
    found = cbpp_fit.predict(new, groups=groups)
    pd.testing.assert_frame_equal(found, cbpp_fit.predict(new.assign(herd="1"), groups=groups))
    with pytest.raises(gb.UnknownNameError, match="'herd'"):
        cbpp_fit.predict(new)


def test_a_group_that_is_a_predictor_too_must_be_given():
    fit = fixed_fit("y ~ 0 + g + (1 | g)", table_of(), "poisson", {"beta": 0.1, "sd": 1.0})
    with pytest.raises(gb.UnknownNameError, match="'g'"):
        fit.predict(pd.DataFrame({"x": [1.0]}), groups="population")


def test_an_unseen_level_has_the_moments_of_its_distribution():
    """Given fixed parameters, eta of a new level is normal with variance z' Sigma z."""
    data = table_of()
    priors = {"beta": 2.0, "sd_g[Intercept]": 1.5, "sd_g[x]": 0.8, "sigma": 0.5}
    fit = fixed_fit("y ~ x + (1 + x || g)", data, "gaussian", priors)
    new = pd.DataFrame({"x": np.full(300, 2.0), "g": [f"new{k}" for k in range(300)]})
    eta = fit.predict(new, draws=True, seed=1).to_numpy().ravel()
    sd = np.sqrt(1.5**2 + 4 * 0.8**2)
    assert eta.mean() == pytest.approx(2.0 + 2 * 2.0, abs=4 * sd / np.sqrt(eta.size))
    assert eta.std() == pytest.approx(sd, rel=0.01)
    y = fit.predict(new, kind="response", draws=True, seed=1).to_numpy().ravel()
    assert y.std() == pytest.approx(np.hypot(sd, 0.5), rel=0.01)


def test_rows_of_one_unseen_level_share_its_effect_across_runs_of_rows(monkeypatch):
    import glmm_bayes.predictive

    fit = fixed_fit("y ~ 1 + (1 | g)", table_of(), "gaussian", {"beta": 0.0, "sd": 1.0, "sigma": 1})
    new = pd.DataFrame({"g": ["new"] * 9 + ["g0"]})
    whole = fit.predict(new, draws=True, seed=2).to_numpy()
    monkeypatch.setattr(glmm_bayes.predictive, "CELLS", 3 * fit.draws.size)
    cut = fit.predict(new, draws=True, seed=2).to_numpy()
    np.testing.assert_array_equal(cut, whole)
    assert np.ptp(cut[:, :, :9], axis=2).max() == 0
    assert np.ptp(cut, axis=2).max() > 0


def test_a_new_group_is_not_the_old_one(sleepstudy_fit):
    old = sleepstudy_fit.predict(groups="conditional", draws=True)
    new = sleepstudy_fit.predict(groups="new", draws=True, seed=4)
    wider = new.std(["chain", "draw"]) / old.std(["chain", "draw"])
    assert (wider > 1.2).all()


@pytest.mark.parametrize(
    ("family", "link", "truth"),
    [
        ("gaussian", "identity", lambda eta, v: eta),
        ("poisson", "log", lambda eta, v: np.exp(eta + v / 2)),
        ("poisson", "sqrt", lambda eta, v: eta**2 + v),
        ("bernoulli", "probit", lambda eta, v: norm.cdf(eta / np.sqrt(1 + v))),
    ],
)
def test_marginal_mean_has_its_closed_form(family, link, truth):
    data = table_of()
    priors = {"beta": 0.4, "sd_g[Intercept]": 0.9, "sd_g[x]": 0.6}
    priors |= {"sigma": 1.0} if family == "gaussian" else {}
    fit = fixed_fit("y ~ x + (1 + x || g)", data, family, priors, link=link)
    v = 0.9**2 + 0.6**2 * data["x"] ** 2
    expected = truth(0.4 + 0.4 * data["x"], v)
    np.testing.assert_allclose(fit.predict(groups="marginal")["estimate"], expected, rtol=1e-7)


def test_marginal_mean_is_that_of_simulated_groups():
    """Correlated slopes, two terms on one group and one on another: no closed form for logit."""
    data = table_of()
    fit = fixed_fit("y ~ x + (1 + x | g) + (1 | h)", data, "bernoulli", SLOPES)
    one = data.iloc[[0]]
    new = pd.concat([one] * 600, ignore_index=True).assign(
        g=[f"a{k}" for k in range(600)], h=[f"b{k}" for k in range(600)]
    )
    simulated = fit.predict(new, draws=True, seed=6).to_numpy()
    quadrature = fit.predict(one, groups="marginal", draws=True).to_numpy()[..., 0]
    error = simulated.std() / np.sqrt(simulated.size)
    assert quadrature.mean() == pytest.approx(simulated.mean(), abs=5 * error)


def test_marginal_mean_with_correlated_effects_in_two_parameters():
    """Of a lognormal: E y = E exp(eta_mu + softplus(eta_sigma)^2 / 2), by brute force."""
    data = table_of().assign(y=lambda d: np.exp(d["x"]))
    priors = {"beta": 0.2, "beta_sigma": -0.9, "sd": 0.4, "corr": gb.Prior("LKJCorr", eta=1)}
    formulas = ["y ~ 1 + (1 |k| g)", "sigma ~ 1 + (1 |k| g)"]
    fit = fixed_fit(formulas, data, "lognormal", priors, link={"sigma": "softplus"})
    (term,) = fit.model.design.terms
    corr = fit.idata["posterior"][f"corr_{term.name}"].to_numpy()[0, :, 0, 1]
    v = np.random.default_rng(1).standard_normal((40_000, 2)) * 0.4
    found = fit.predict(groups="marginal", draws=True).to_numpy()[0, :, 0]
    for s in (0, 17, 300):
        second = corr[s] * v[:, 0] + np.sqrt(1 - corr[s] ** 2) * v[:, 1]
        y = np.exp(0.2 + v[:, 0] + 0.5 * np.logaddexp(0, -0.9 + second) ** 2)
        assert found[s] == pytest.approx(y.mean(), abs=5 * y.std() / 200)


def test_marginal_mean_with_independent_effects_in_two_parameters():
    """Of a gaussian it is the population's, whatever sigma does."""
    formulas = ["y ~ x + (1 | g)", "sigma ~ 1 + (1 | g)"]
    fit = fixed_fit(formulas, table_of(), "gaussian", {"beta": 0.5, "sd": 0.7})
    np.testing.assert_allclose(
        fit.predict(groups="marginal", draws=True), fit.predict(groups="population", draws=True)
    )


def test_marginal_over_members_adds_the_weights_of_the_same_level():
    """Half of each of two levels has variance v/2; both halves of one level have v."""
    data = table_of()
    data.loc[0, ["g", "h"]] = "g0"
    data.loc[1, ["g", "h"]] = ["g1", "g2"]
    priors = {"beta": 0.0, "sd": 1.2}
    fit = fixed_fit("y ~ 1 + (1 | mm(g, h))", data, "poisson", priors)
    found = fit.predict(groups="marginal")["estimate"]
    assert found[0] == pytest.approx(np.exp(1.44 / 2), rel=1e-9)
    assert found[1] == pytest.approx(np.exp(0.72 / 2), rel=1e-9)


def test_marginal_of_a_parameter_without_effects_is_the_parameter(sleepstudy_fit):
    sigma = sleepstudy_fit.predict(kind="param:sigma", groups="marginal")
    estimate = float(sleepstudy_fit.idata["posterior"]["sigma"].mean())
    np.testing.assert_allclose(sigma["estimate"], estimate)


def test_marginal_linear_predictor_is_the_population_s(cbpp_fit):
    a = cbpp_fit.predict(kind="linear", groups="marginal")
    pd.testing.assert_frame_equal(a, cbpp_fit.predict(kind="linear", groups="population"))


def test_an_average_that_does_not_exist_is_an_error():
    data = table_of().assign(y=lambda d: np.exp(d["x"]))
    priors = {"beta": 1.0, "sd": 0.1, "alpha": 2.0}
    fit = fixed_fit("y ~ 1 + (1 | g)", data, "gamma", priors, link="inverse")
    with pytest.raises(gb.NotSupportedError, match="'inverse'.*does not exist"):
        fit.predict(groups="marginal")


def test_a_parameter_with_its_own_predictor_is_predicted():
    data = table_of()
    priors = {"beta": 0.0, "beta_sigma[Intercept]": 0.5, "beta_sigma[x]": 1.0}
    fit = fixed_fit(["y ~ 1", "sigma ~ x"], data, "gaussian", priors)
    found = fit.predict(kind="param:sigma")["estimate"]
    np.testing.assert_allclose(found, np.exp(0.5 + data["x"]))


def test_with_trials_means_are_probabilities_and_responses_counts(cbpp_fit):
    data = gb.load_dataset("cbpp")
    mean = cbpp_fit.predict()["estimate"]
    assert mean.between(0, 1).all()
    np.testing.assert_allclose(
        cbpp_fit.predict(draws=True), expit(cbpp_fit.predict(kind="linear", draws=True))
    )
    y = cbpp_fit.predict(kind="response", draws=True, seed=8)
    assert (y == np.floor(y)).all()
    assert (y.max(["chain", "draw"]).to_numpy() <= data["size"].to_numpy()).all()


def test_counts_of_new_data_need_their_trials(cbpp_fit):
    new = pd.DataFrame({"period": ["1"], "herd": ["1"]})
    assert cbpp_fit.predict(new).shape == (1, 4)
    with pytest.raises(gb.DataError, match=r"number of trials.*'incidence', 'size'"):
        cbpp_fit.predict(new, kind="response")
    y = cbpp_fit.predict(new.assign(incidence=0, size=7), kind="response", draws=True)
    assert 1 <= y.max() <= 7


@pytest.mark.parametrize(
    ("response", "column"), [("y | trials(n)", "n"), ("I(y / n) | weights(n)", "n")]
)
def test_trials_are_read_as_the_formula_states_them(response, column):
    data = table_of()
    fit = fixed_fit(f"{response} ~ x", data, "binomial", {"beta": 50.0, "intercept": 50.0})
    new = pd.DataFrame({"x": [0.5, 1.0], column: [3, 400]})
    assert list(fit.predict(new, kind="response")["estimate"]) == [3, 400]
    with pytest.raises(gb.DataError, match="'n'"):
        fit.predict(new[["x"]], kind="response")
    with pytest.raises(gb.DataError, match="row 1 has -1"):
        fit.predict(new.assign(n=[3, -1]), kind="response")


def test_trials_that_are_a_number_need_no_column():
    fit = fixed_fit("y | trials(4) ~ x", table_of(), "binomial", {"beta": 50.0, "intercept": 50.0})
    assert fit.predict(pd.DataFrame({"x": [1.0]}), kind="response")["estimate"][0] == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kind": "maen"}, "kind of prediction 'maen'.*Did you mean 'mean'"),
        ({"kind": "param:sgima"}, "Did you mean 'param:sigma'"),
        ({"groups": "populaton"}, "Did you mean 'population'"),
    ],
)
def test_unknown_names_get_a_suggestion(sleepstudy_fit, arguments, words):
    with pytest.raises(gb.UnknownNameError, match=words):
        sleepstudy_fit.predict(**arguments)


def test_a_level_must_be_a_probability(sleepstudy_fit):
    with pytest.raises(gb.DataError, match=r"level=95 must lie between 0 and 1"):
        sleepstudy_fit.predict(level=95)


def test_the_same_seed_gives_the_same_numbers(sleepstudy_fit):
    a, b = (sleepstudy_fit.predict(kind="response", seed=11) for _ in range(2))
    pd.testing.assert_frame_equal(a, b)
    c = sleepstudy_fit.predict(kind="response", seed=12)
    assert not np.allclose(a["estimate"], c["estimate"])


def test_simulated_responses_vary_as_the_posterior_predictive(sleepstudy_fit):
    y = sleepstudy_fit.simulate(400, seed=3)
    assert y.dims == ("sim", "__obs__")
    replicated = sleepstudy_fit.idata["posterior_predictive"]["y"]
    ratio = y.std("sim") / replicated.std(["chain", "draw"])
    assert float(ratio.mean()) == pytest.approx(1.0, abs=0.03)
    apart = (y.mean("sim") - replicated.mean(["chain", "draw"])) / y.std("sim")
    assert float(abs(apart).max()) < 4.5 * np.sqrt(2 / 400)


def test_one_simulation_is_of_one_draw():
    """With sigma all but zero a simulated data set lies on one draw's line."""
    data = table_of()
    priors = {"beta": gb.Prior("Normal", mu=0, sigma=3), "sigma": 1e-9}
    fit = fixed_fit("y ~ x", data, "gaussian", priors)
    lines = fit.predict(draws=True).to_numpy()[0]
    for y in fit.simulate(5, seed=1).to_numpy():
        assert abs(lines - y).max(axis=1).min() < 1e-7


def test_more_simulations_than_draws_use_every_draw(sleepstudy_fit):
    assert sleepstudy_fit.simulate(
        1000, seed=1, newdata=pd.DataFrame({"Days": [1], "Subject": ["308"]})
    ).shape == (1000, 1)
    with pytest.raises(gb.DataError, match="n=0"):
        sleepstudy_fit.simulate(0)
