"""Criteria of predictive densities, and what a posterior owes to its priors: by closed forms."""

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import trapezoid
from scipy.stats import norm

import glmm_bayes as gb
from glmm_bayes.errors import DataError
from glmm_bayes.verbs.log_prior import log_prior, outer_parameters

SIGMA, PRIOR = 2.0, (0.5, 1.0)


@pytest.fixture(scope="module")
def data():
    return pd.DataFrame({"y": 2.0 + SIGMA * norm.ppf((np.arange(12) + 0.5) / 12)})


@pytest.fixture(scope="module")
def normal(data):
    """A mean of known precision, so that posterior and predictions are normal."""
    prior = gb.Prior("Normal", mu=PRIOR[0], sigma=PRIOR[1])
    model = gb.Model("y ~ 1", data, priors={"beta[Intercept]": prior, "sigma": SIGMA})
    return model.fit("posthoc", seed=1, draws=5000, progressbar=False)


def conjugate(y, prior_power=1.0, likelihood_power=1.0):
    """The posterior's mean and variance, of powers of the prior and the likelihood."""
    precision = prior_power / PRIOR[1] ** 2 + likelihood_power * len(y) / SIGMA**2
    mean = prior_power * PRIOR[0] / PRIOR[1] ** 2 + likelihood_power * y.sum() / SIGMA**2
    return mean / precision, 1 / precision


# ---- waic


def test_waic_of_a_normal_mean_is_the_closed_form(normal, data):
    y = data["y"].to_numpy()
    mean, variance = conjugate(y)
    found = normal.waic()
    lpd = norm.logpdf(y, mean, np.sqrt(SIGMA**2 + variance))
    p = (variance**2 / 2 + (y - mean) ** 2 * variance) / SIGMA**4
    np.testing.assert_allclose(found.elpd_i, lpd - p, atol=0.01)
    assert found.p == pytest.approx(p.sum(), rel=0.05)
    assert found.se == pytest.approx(np.sqrt(len(y)) * np.std(lpd - p), rel=0.05)
    assert found.kind == "waic"
    assert "elpd_waic" in str(found)


def test_waic_says_where_it_is_not_reliable():
    priors = {"beta[Intercept]": gb.Prior("Normal", mu=0, sigma=1), "sigma": 0.5}
    model = gb.Model("y ~ 1", pd.DataFrame({"y": [0.0, 2.0]}), priors=priors)
    fit = model.fit("posthoc", seed=1, draws=500, progressbar=False)
    with pytest.warns(UserWarning, match=r"2 of 2 rows varies by more than 0.4 .* use loo\(\)"):
        assert fit.waic().warning


# ---- results beside each other


def test_results_of_one_verb_are_ranked(normal, data):
    other = normal.update(priors={"beta[Intercept]": 0.5, "sigma": SIGMA}, seed=1)
    found = gb.compare({"known": other.waic(), "free": normal.waic()})
    assert list(found.index) == ["free", "known"]
    assert found["elpd_diff"].iloc[1] < 0


def test_results_that_measure_different_things_are_refused(normal):
    waic, loo = normal.waic(), normal.loo()
    with pytest.raises(DataError, match="'a' is a result of kind 'waic' and 'b' of 'loo'"):
        gb.compare({"a": waic, "b": loo})
    with pytest.raises(DataError, match="'b' is no result as the others are"):
        gb.compare({"a": waic, "b": normal})
    with pytest.raises(DataError, match="pass pointwise=True"):
        gb.compare({"a": loo, "b": normal.loo(pointwise=False)})
    fewer = normal.update(data=normal.model.data.iloc[1:], seed=1)
    with pytest.raises(DataError, match="'a' and 'b' leave out different points"):
        gb.compare({"a": loo, "b": fewer.loo()})


# ---- psense


def cumulative_distance(P, Q, x):
    """The normalised cumulative Jensen-Shannon distance of two distribution functions."""
    bound = trapezoid(P + Q, x)

    def one(P, Q):
        with np.errstate(all="ignore"):
            kept = np.where(P > 0, P * np.log2(2 * P / (P + Q)), 0.0)
        return trapezoid(kept, x) + trapezoid(Q - P, x) / (2 * np.log(2))

    return np.sqrt((one(P, Q) + one(Q, P)) / bound)


def exact_sensitivity(y, spread, **power):
    """By the closed posterior, as Kallioinen et al. define it: slope of the distance by log2."""
    (name,), slopes = power, []
    for alpha in (0.99, 1.01):
        mean, variance = conjugate(y)
        x = np.linspace(*(mean + spread * np.sqrt(variance)), 20001)
        P, Q = (
            norm.cdf(x, m, np.sqrt(v)) for m, v in (conjugate(y), conjugate(y, **{name: alpha}))
        )
        distance = max(cumulative_distance(P, Q, x), cumulative_distance(1 - P, 1 - Q, x))
        slopes.append(distance / abs(np.log2(alpha)))
    return np.mean(slopes)


def test_sensitivities_of_a_normal_mean_are_those_of_the_closed_posterior(normal, data):
    y, found = data["y"].to_numpy(), normal.psense()
    b = normal.draws.beta["mu"][:, 0]
    mean, variance = conjugate(y)
    # The distance depends, by its bound, on how far the draws reach.
    spread = (np.array([b.min(), b.max()]) - mean) / np.sqrt(variance)
    for column, power in (("prior", "prior_power"), ("likelihood", "likelihood_power")):
        expected = exact_sensitivity(y, spread, **{power: None})
        assert found.loc["beta[Intercept]", column] == pytest.approx(expected, rel=0.1)
    assert list(found.index) == ["beta[Intercept]"]


def test_a_prior_against_the_data_is_told():
    prior = gb.Prior("Normal", mu=0, sigma=1)
    data = pd.DataFrame({"y": np.linspace(3.0, 5.0, 10)})
    model = gb.Model("y ~ 1", data, priors={"beta[Intercept]": prior, "sigma": 3.0})
    found = model.fit("posthoc", seed=1, draws=500, progressbar=False).psense()
    assert found["diagnosis"].iloc[0] == "potential prior-data conflict"


def test_draws_go_back_to_the_layout_they_came_from():
    """The engine's density of the priors at the sampler's own parameters."""
    model = gb.Model("Reaction ~ Days + (1 + Days | Subject)", gb.load_dataset("sleepstudy"))
    from glmm_bayes.density import sample_priors
    from glmm_bayes.draws import Draws, split_outer

    drawn = sample_priors(model, np.random.default_rng(0), 5)
    draws = Draws(*split_outer(model, drawn), {}, chains=1)
    np.testing.assert_allclose(outer_parameters(model, draws), drawn, rtol=1e-10)


def test_the_log_prior_is_that_of_the_stated_priors(normal):
    found = log_prior(normal)
    b = normal.draws.beta["mu"][:, 0]
    gap = found["beta"].to_numpy().ravel() - norm.logpdf(b, *PRIOR)
    np.testing.assert_allclose(gap, gap[0], atol=1e-10)
    assert list(found) == ["beta"]
