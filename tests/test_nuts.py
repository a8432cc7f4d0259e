"""Sampling: names of results, seeds, warnings in words, wrong options, and known posteriors."""

import warnings
from importlib.util import find_spec

import arviz as az
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

import glmm_bayes as gb
from glmm_bayes.errors import ConvergenceWarning, NotSupportedError, UnknownNameError
from glmm_bayes.inference import nuts as room
from glmm_bayes.inference.by_nutpie import completed

SMALL = {"chains": 2, "draws": 200, "tune": 300, "progressbar": False}
FORMULAS = ["y ~ x + (1 + x | g) + (1 | h)", "sigma ~ 1 + (1 | h)"]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    g, h = np.resize(np.arange(8), 120), np.repeat(np.arange(6), 20)
    x = rng.normal(size=120)
    y = 1 + 2 * x + rng.normal(0, 0.7, 8)[g] + rng.normal(0, 0.5, 6)[h] + rng.normal(size=120)
    return pd.DataFrame({"y": y, "x": x, "g": g, "h": h})


def fitted(model, **options):
    """Fit with few draws, of which the diagnostics may rightly complain."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(**{**SMALL, "seed": 1, **options})


@pytest.fixture(scope="module")
def model(data):
    return gb.Model(FORMULAS, data)


@pytest.fixture(scope="module")
def fit(model):
    return fitted(model)


def test_names_and_dims_of_the_posterior(fit):
    posterior = fit.idata["posterior"].to_dataset()
    found = {name: posterior[name].dims[2:] for name in posterior.data_vars}
    assert found == {
        "beta": ("coef",),
        "beta_sigma": ("coef_sigma",),
        "sd_g": ("g__coef",),
        "corr_g": ("g__coef", "g__coef2"),
        "b_g": ("g", "g__coef"),
        "sd_h": ("h__coef",),
        "b_h": ("h", "h__coef"),
        "sd_sigma_h": ("sigma_h__coef",),
        "b_sigma_h": ("h", "sigma_h__coef"),
    }
    assert dict(posterior.sizes)["chain"] == 2
    assert dict(posterior.sizes)["draw"] == 200
    assert list(posterior["coef"].values) == ["Intercept", "x"]
    assert list(posterior["g"].values) == [str(k) for k in range(8)]


def test_groups_of_the_results(fit):
    assert {
        "posterior", "sample_stats", "log_likelihood", "posterior_predictive", "observed_data",
        "constant_data",
    } <= set(fit.idata.children)  # fmt: skip
    for group in ("log_likelihood", "posterior_predictive"):
        assert fit.idata[group]["y"].dims == ("chain", "draw", "__obs__")
        assert fit.idata[group]["y"].shape == (2, 200, 120)
    np.testing.assert_array_equal(fit.idata["observed_data"]["y"], fit.model.design.y)
    for name in ("diverging", "tree_depth", "acceptance_rate", "step_size", "energy", "lp"):
        assert fit.idata["sample_stats"][name].shape == (2, 200)


def test_reported_values_are_coherent(fit):
    posterior = fit.idata["posterior"]
    corr = posterior["corr_g"].to_numpy()
    np.testing.assert_allclose(corr[..., [0, 1], [0, 1]], 1.0, rtol=1e-12)
    assert (np.abs(corr[..., 0, 1]) < 1).all()
    assert (posterior["sd_g"] > 0).all()


def test_the_stored_log_likelihood_is_that_of_the_draws(fit, data):
    posterior = fit.idata["posterior"].to_dataset().isel(chain=1, draw=7)
    g, h = data["g"].to_numpy(), data["h"].to_numpy()
    beta, b_g = posterior["beta"].to_numpy(), posterior["b_g"].to_numpy()[g]
    mean = beta[0] + beta[1] * data["x"] + b_g[:, 0] + data["x"] * b_g[:, 1]
    mean = mean + posterior["b_h"].to_numpy()[h, 0]
    log_sigma = posterior["beta_sigma"].to_numpy()[0] + posterior["b_sigma_h"].to_numpy()[h, 0]
    expected = -0.5 * ((data["y"] - mean) / np.exp(log_sigma)) ** 2 - log_sigma
    expected = expected - 0.5 * np.log(2 * np.pi)
    found = fit.idata["log_likelihood"]["y"].isel(chain=1, draw=7)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_the_same_seed_gives_the_same_numbers(model, fit):
    again, other = fitted(model), fitted(model, seed=2)
    for group in ("posterior", "posterior_predictive"):
        assert again.idata[group].to_dataset().equals(fit.idata[group].to_dataset())
    assert not other.idata["posterior"].to_dataset().equals(fit.idata["posterior"].to_dataset())
    chains = fit.idata["posterior"]["beta"].to_numpy()
    assert not np.array_equal(chains[0], chains[1])


def test_the_number_of_cores_does_not_change_the_draws(model, fit):
    alone = fitted(model, cores=1)
    assert alone.idata["posterior"].to_dataset().equals(fit.idata["posterior"].to_dataset())


def test_a_seed_is_drawn_and_kept(model):
    first, second = (fitted(model, seed=None, draws=20, tune=50) for _ in range(2))
    assert first.seed != second.seed
    again = fitted(model, seed=first.seed, draws=20, tune=50)
    assert again.idata["posterior"].to_dataset().equals(first.idata["posterior"].to_dataset())


def test_the_fit_says_how_it_came_about(model, fit):
    assert (fit.model, fit.method, fit.seed) == (model, "nuts", 1)
    assert fit.elapsed > 0


def test_without_a_progress_bar_nothing_is_printed(model, capfd):
    fitted(model, draws=20, tune=50)
    assert capfd.readouterr() == ("", "")


# ---- diagnostics in words


def test_a_bad_run_is_said_to_be_one(model):
    with pytest.warns(ConvergenceWarning) as caught:
        fit = model.fit(seed=1, chains=2, draws=20, tune=1, progressbar=False)
    text = str(caught[0].message)
    assert "The chains disagree: R-hat of" in text
    assert "draw longer" in text
    assert not fit.diagnostics().ok
    assert text == " ".join(fit.diagnostics().problems)
    assert caught[0].filename == __file__


def test_one_chain_cannot_be_judged(model):
    with pytest.warns(ConvergenceWarning, match="There is one chain"):
        model.fit(seed=1, chains=1, draws=20, tune=50, progressbar=False)


# ---- options


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"sampler": "nutpy"}, UnknownNameError, "no sampler 'nutpy'. Did you mean 'nutpie'?"),
        ({"start": "modes"}, UnknownNameError, "start='modes' is not known. Did you mean 'mode'?"),
        ({"sampler": "pymc", "start": "mode"}, NotSupportedError, "is not for sampler='pymc'"),
        ({"draws": 0}, UnknownNameError, "draws=0 must be a whole number of at least 1"),
        ({"draws": 10.5}, UnknownNameError, "draws=10.5"),
        ({"tune": 0}, UnknownNameError, "tune=0"),
        ({"chains": "4"}, UnknownNameError, "chains='4'"),
        ({"chains": True}, UnknownNameError, "chains=True"),
        ({"cores": 0}, UnknownNameError, "cores=0"),
        ({"target_accept": 1.0}, UnknownNameError, "target_accept=1"),
        ({"target_accept": "high"}, UnknownNameError, "target_accept='high'"),
        ({"drawz": 10}, UnknownNameError, "does not take 'drawz'"),
        ({"seed": -3}, UnknownNameError, "seed=-3"),
        ({"seed": "one"}, UnknownNameError, "seed='one'"),
    ],
)
def test_wrong_options(model, options, error, words):
    with pytest.raises(error) as caught:
        model.fit("nuts", **{**SMALL, **options})
    assert words in str(caught.value)


@pytest.mark.parametrize("sampler", ["numpyro", "blackjax"])
def test_a_missing_package_is_named_with_its_install_line(model, monkeypatch, sampler):
    found = find_spec
    monkeypatch.setattr(room, "find_spec", lambda name: None if name == sampler else found(name))
    with pytest.raises(NotSupportedError) as caught:
        model.fit(sampler=sampler)
    assert f"needs the package {sampler}: pip install" in str(caught.value)


# ---- interruptions


def test_an_interrupted_fit_has_the_draws_that_all_its_chains_have():
    x = np.zeros((4, 10, 3))
    x[1, 7:], x[2, 4:], x[3] = np.nan, np.nan, np.nan
    chains, done = completed(x)
    np.testing.assert_array_equal(chains, [0, 1, 2])
    assert done == 4
    with pytest.raises(KeyboardInterrupt):
        completed(np.full((2, 10, 3), np.nan))


def test_an_interrupted_fit_says_so(model, monkeypatch):
    import nutpie

    whole = nutpie.sample

    def interrupted(*args, **options):
        tree = whole(*args, **options)
        tree["posterior"]["x"][1, 30:] = np.nan
        return tree

    monkeypatch.setattr(nutpie, "sample", interrupted)
    fit = fitted(model, draws=50, tune=100)
    assert "Interrupted: 2 of 2 chains have 30 of the 50 draws" in fit.diagnostics().problems[0]
    assert fit.idata["posterior"].sizes["draw"] == 30
    assert fit.idata["sample_stats"].sizes["draw"] == 30
    assert np.isfinite(fit.idata["posterior"]["beta"]).all()


# ---- posteriors known in closed form


def within(draws, expected, error):
    """Compare a mean of draws with its expectation, five Monte Carlo errors apart at most."""
    assert abs(draws.mean() - expected) < 5 * error


def test_a_normal_mean_with_known_variances():
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"y": rng.normal(2.0, 1.5, 25)})
    priors = {"beta[Intercept]": gb.Prior("Normal", mu=0, sigma=2), "sigma": 1.5}
    model = gb.Model("y ~ 1", data, priors=priors)
    fit = model.fit(seed=3, chains=4, draws=1000, tune=500, progressbar=False)
    precision = 25 / 1.5**2 + 1 / 4
    mean, sd = data["y"].sum() / 1.5**2 / precision, precision**-0.5
    draws = fit.idata["posterior"]["beta"].to_numpy().ravel()
    within(draws, mean, sd / np.sqrt(800))
    within((draws - mean) ** 2, sd**2, sd**2 * np.sqrt(2 / 800))


@pytest.mark.parametrize("centering", ["centered", "noncentered"])
def test_effects_with_known_variances_are_shrunk_as_they_should(centering):
    rng = np.random.default_rng(4)
    sizes = np.array([2, 5, 9])
    data = pd.DataFrame({"g": np.repeat(list("abc"), sizes), "y": rng.normal(1.0, 1.0, 16)})
    priors = {"beta": 0.5, "sd_g": 0.8, "sigma": 1.0}
    model = gb.Model("y ~ 1 + (1 | g)", data, priors=priors, centering=centering)
    fit = model.fit(seed=3, chains=4, draws=1000, tune=500, progressbar=False)
    draws = fit.idata["posterior"]["b_g"].to_numpy().reshape(-1, 3)
    precision = sizes + 1 / 0.8**2
    expected = (data["y"] - 0.5).groupby(data["g"]).sum().to_numpy() / precision
    for k in range(3):
        sd = precision[k] ** -0.5
        within(draws[:, k], expected[k], sd / np.sqrt(800))
        within((draws[:, k] - expected[k]) ** 2, sd**2, sd**2 * np.sqrt(2 / 800))


def test_a_probability_with_a_uniform_prior():
    """A uniform prior of a probability is a logistic one of its logit."""
    data = pd.DataFrame({"k": [3, 7], "n": [10, 12]})
    priors = {"beta[Intercept]": gb.Prior("Logistic", mu=0.0, s=1.0)}
    model = gb.Model("k | trials(n) ~ 1", data, family="binomial", priors=priors)
    fit = model.fit(seed=3, chains=4, draws=1000, tune=500, progressbar=False)
    p = 1 / (1 + np.exp(-fit.idata["posterior"]["beta"].to_numpy().ravel()))
    a, b = 11, 13
    variance = a * b / (a + b) ** 2 / (a + b + 1)
    within(p, a / (a + b), np.sqrt(variance / 800))


@pytest.mark.slow
def test_pymcs_own_sampler_agrees(data):
    model = gb.Model("y ~ x + (1 | g)", data)
    options = {"chains": 2, "draws": 1000, "tune": 1000, "seed": 1, "progressbar": False}
    ours, other = (fitted(model, sampler=s, **options) for s in ("nutpie", "pymc"))
    for name in ("beta", "sd_g", "sigma"):
        one, two = (f.idata["posterior"][name].to_numpy() for f in (ours, other))
        one, two = one.reshape(2000, -1), two.reshape(2000, -1)
        error = 5 * one.std(axis=0) * np.sqrt(2 / 300)
        assert (np.abs(one.mean(axis=0) - two.mean(axis=0)) < error).all(), name
        np.testing.assert_allclose(one.std(axis=0), two.std(axis=0), rtol=0.3)


@pytest.mark.parametrize("name", ["plot_forest", "plot_ppc_dist", "plot_loo_pit", "plot_energy"])
def test_arviz_plots_the_draws_as_they_are(name, cbpp_fit):
    mpl.use("Agg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        getattr(az, name)(cbpp_fit.idata, backend="matplotlib")


def test_arviz_summarises_and_compares_the_draws_as_they_are(cbpp_fit):
    table = az.summary(cbpp_fit.idata, var_names=["beta"], round_to="none")
    np.testing.assert_allclose(table["mean"], cbpp_fit.fixef()["estimate"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert az.loo(cbpp_fit.idata).elpd == pytest.approx(cbpp_fit.loo().elpd)
