"""fit("nested_laplace"): against brute force and closed forms; repeatable; draws and densities."""

import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from truth import cbpp_posterior, moments

import glmm_bayes as gb
from glmm_bayes.errors import ConvergenceWarning

CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
DYESTUFF = "Yield ~ 1 + (1 | Batch)"


@cache
def cbpp():
    model = gb.Model(CBPP, gb.load_dataset("cbpp"), "binomial")
    return model, model.fit("nested_laplace", seed=1)


@cache
def dyestuff():
    model = gb.Model(DYESTUFF, gb.load_dataset("dyestuff"))
    return model, model.fit("nested_laplace", seed=1)


def of_density(table, name):
    """Give the total, mean and standard deviation of one tabulated density."""
    part = table[table["name"] == name]
    x, density = part["x"].to_numpy(), part["density"].to_numpy()
    total = np.trapezoid(density, x)
    mean = np.trapezoid(x * density, x)
    return total, mean, np.sqrt(np.trapezoid((x - mean) ** 2 * density, x))


def test_binomial_marginals_are_nearly_exact():
    _, fit = cbpp()
    mean, sd, effective = moments(*cbpp_posterior())
    found = np.column_stack([fit.draws.beta["mu"], np.log(fit.draws.theta["sd_herd"])])
    # The method is approximate: a twentieth of a standard deviation, beside Monte Carlo errors.
    noise = 4.5 * np.sqrt(1 / len(found) + 1 / effective)
    assert np.all(np.abs(found.mean(axis=0) - mean) < (0.05 + noise) * sd)
    assert np.all(np.abs(found.std(axis=0) / sd - 1) < 0.05 + noise)


def test_a_gaussian_response_is_exact_up_to_the_integral():
    """One way, balanced: the sums of squares are sufficient, and two parameters are a grid."""
    _, fit = dyestuff()
    y = gb.load_dataset("dyestuff")["Yield"].to_numpy(float).reshape(6, 5)
    # Default priors: Student's t of three degrees of freedom about the median, in units of MAD.
    m = np.median(y)
    scale = round(1.4826 * float(np.median(np.abs(y - m))), 1)
    log_sd, log_sigma, mu = np.meshgrid(
        np.linspace(-3, 6.5, 160), np.linspace(3.2, 5.0, 70), np.linspace(1380, 1680, 121),
        indexing="ij",
    )  # fmt: skip
    sd2, sigma2 = np.exp(2 * log_sd), np.exp(2 * log_sigma)
    within = ((y - y.mean(axis=1, keepdims=True)) ** 2).sum()
    between = sum((group - mu) ** 2 for group in y.mean(axis=1))
    log = -12 * np.log(sigma2) - within / (2 * sigma2)
    log += -3 * np.log(sigma2 + 5 * sd2) - 5 * between / (2 * (sigma2 + 5 * sd2))
    log += stats.t.logpdf((mu - m) / scale, 3)
    log += stats.t.logpdf(np.exp(log_sd) / scale, 3) + log_sd
    log += stats.t.logpdf(np.exp(log_sigma) / scale, 3) + log_sigma
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    table = fit.marginals()
    for name, value in [
        ("beta[Intercept]", mu),
        ("sd_Batch[Intercept]", np.exp(log_sd)),
        ("sigma", np.exp(log_sigma)),
    ]:
        mean = float((weight * value).sum())
        sd = float(np.sqrt((weight * (value - mean) ** 2).sum()))
        _, found, spread = of_density(table, name)
        assert found == pytest.approx(mean, abs=0.03 * sd), name
        assert spread == pytest.approx(sd, rel=0.05), name


@pytest.mark.parametrize("made", [cbpp, dyestuff])
def test_densities_are_densities_and_those_of_the_draws(made):
    _, fit = made()
    table = fit.marginals()
    names = list(dict.fromkeys(table["name"]))
    assert "beta[Intercept]" in names
    beta = fit.draws.beta["mu"][:, 0]
    total, mean, sd = of_density(table, "beta[Intercept]")
    assert mean == pytest.approx(beta.mean(), abs=4.5 * sd / np.sqrt(len(beta)) + 0.01 * sd)
    assert sd == pytest.approx(beta.std(), rel=4.5 / np.sqrt(len(beta)) + 0.02)
    for name in names:
        assert of_density(table, name)[0] == pytest.approx(1.0, abs=0.01), name


def test_nothing_but_the_draws_depends_on_the_seed():
    model, fit = cbpp()
    other = model.fit("nested_laplace", seed=2)
    np.testing.assert_array_equal(fit.marginals()["density"], other.marginals()["density"])
    again = model.fit("nested_laplace", seed=1)
    np.testing.assert_array_equal(fit.draws.beta["mu"], again.draws.beta["mu"])
    assert not np.array_equal(fit.draws.beta["mu"], other.draws.beta["mu"])


def test_names_are_those_of_nuts():
    model, fit = cbpp()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        nuts = model.fit("nuts", draws=50, tune=100, seed=1, progressbar=False)
    a, b = fit.idata["posterior"], nuts.idata["posterior"]
    assert {n: v.dims for n, v in a.data_vars.items()} == {
        n: v.dims for n, v in b.data_vars.items()
    }


def test_it_says_that_it_is_an_approximation():
    _, fit = cbpp()
    notes = fit.statistics.attrs["notes"]
    assert "approximation" in notes
    assert "fit('posthoc') is exact" in notes
    assert "independent draws" in fit.summary().text()


def test_a_crossed_poisson_model_agrees_with_exact_draws():
    rng = np.random.default_rng(3)
    g, h = rng.integers(10, size=150), rng.integers(7, size=150)
    x = rng.normal(size=150)
    eta = 0.7 + 0.3 * x + 0.5 * rng.normal(size=10)[g] + 0.4 * rng.normal(size=7)[h]
    data = pd.DataFrame(
        {"y": rng.poisson(np.exp(eta)), "x": x, "g": g.astype(str), "h": h.astype(str)}
    )
    model = gb.Model("y ~ x + (1 | g) + (1 | h)", data, "poisson")
    ours, exact = (
        model.fit("nested_laplace", seed=1),
        model.fit("posthoc", seed=1, draws=2000, progressbar=False),
    )
    for fixed, truth in zip(ours.draws.beta["mu"].T, exact.draws.beta["mu"].T, strict=True):
        sd = truth.std()
        assert fixed.mean() == pytest.approx(truth.mean(), abs=0.15 * sd)
        assert fixed.std() == pytest.approx(sd, rel=0.1)
    for name in ("sd_g", "sd_h"):
        mine, theirs = (np.log(f.draws.theta[name][:, 0]) for f in (ours, exact))
        assert np.median(mine) == pytest.approx(np.median(theirs), abs=0.15 * theirs.std())


def test_a_kept_fit_comes_back_with_its_densities(tmp_path):
    _, fit = cbpp()
    fit.save(tmp_path / "fit")
    again = gb.load(tmp_path / "fit")
    np.testing.assert_allclose(again.marginals()["density"], fit.marginals()["density"])
