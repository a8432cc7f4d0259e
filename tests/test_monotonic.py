"""Monotonic effects mo(x), against factors, isotonic regression and brute force."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_shrinkage import check, prior_draws

import glmm_bayes as gb

N = 60
LEVELS = ["none", "some", "much", "all"]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(6)
    code = np.resize([0, 1, 2, 3], N)[rng.permutation(N)]
    frame = pd.DataFrame({"k": code + 1, "z": rng.normal(size=N)})
    frame["x"] = pd.Categorical.from_codes(code, LEVELS, ordered=True)
    frame["g"] = np.resize([f"g{k}" for k in range(6)], N)
    frame["f"] = rng.choice(["u", "v"], N)
    rise = np.array([0.0, 2.0, 3.5, 6.0])[code]
    between = rng.normal(size=6)[np.resize(np.arange(6), N)]
    frame["y"] = 1.0 + rise + 1.5 * frame["z"] * code + between + rng.normal(size=N)
    frame["dip"] = np.array([0.0, 2.0, 1.2, 4.0])[code] + rng.normal(scale=0.5, size=N)
    frame["count"] = rng.poisson(np.exp(0.4 * code))
    return frame


# ---- the columns


def test_the_columns_are_steps_and_encode_new_data_alike(data):
    design = gb.Model("y ~ mo(x) + mo(k)", data).design
    X, code = design.predictors["mu"].X, data["k"].to_numpy()
    assert design.predictors["mu"].names[1:4] == ("mo(x)[some]", "mo(x)[much]", "mo(x)[all]")
    np.testing.assert_array_equal(X[:, 1:4], code[:, None] > [1, 2, 3])
    np.testing.assert_array_equal(X[:, 1:4], X[:, 4:])
    new = design.encode(data.iloc[:3]).predictors["mu"].X
    np.testing.assert_array_equal(new, X[:3])
    between = design.encode(data.iloc[:1].assign(k=2.25)).predictors["mu"].X
    np.testing.assert_allclose(between[0, 4:], [1.0, 0.25, 0.0])


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("y ~ mo(z)", "an ordered factor or whole numbers"),
        ("y ~ mo(f)", "an ordered factor or whole numbers"),
        ("y ~ mo(x.astype(object).astype('category'))", "in order"),
        ("y ~ mo(x):mo(k)", "Products of two monotonic effects"),
        ("y ~ z + (mo(x) | g)", "Monotonic effects in '\\(mo\\(x\\) \\| g\\)'"),
    ],
)
def test_what_cannot_be_monotonic_is_refused(data, formula, words):
    with pytest.raises(gb.GlmmError, match=words):
        gb.Model(formula, data)


def test_levels_and_priors_that_there_are_not_are_refused(data):
    model = gb.Model("y ~ mo(k)", data)
    with pytest.raises(gb.DataError, match="between 1 and 4, and 9 lies beyond"):
        model.design.encode(pd.DataFrame({"k": [2, 9]}))
    prior = gb.Prior("Dirichlet", a=[1.0, 2.0])
    with pytest.raises(gb.DataError, match="a number or 3 of them"):
        gb.Model("y ~ mo(k)", data, priors={"simo": prior})
    with pytest.raises(gb.NotSupportedError, match="cannot be shrunk together"):
        gb.Model("y ~ z + mo(k)", data, priors={"beta": gb.Prior.horseshoe()})


# ---- the density and the prior


@pytest.mark.parametrize(
    "formula", ["y ~ mo(x)", "y ~ mo(x) * z + (1 | g)", "y ~ 0 + f + mo(k) + mo(x):f"]
)
def test_the_readers_have_one_density(data, formula):
    check(gb.Model(formula, data))


def test_other_predictors_and_two_levels(data):
    two = data.assign(b=(data["k"] > 2).astype(int))
    check(gb.Model(["y ~ mo(b)", "sigma ~ mo(k)"], two))
    simo = {"simo_k": gb.Prior("Dirichlet", a=[2.0, 1.0, 0.5]), "beta[mo(k)]": 1.5}
    check(gb.Model("count ~ mo(k)", data, family="poisson", priors=simo))


def test_steps_have_the_prior_of_their_mean_and_of_their_shares(data):
    """Bürkner & Charpentier (2020): D steps of mean b, in shares that are Dirichlet."""
    a = [2.0, 1.0, 0.5]
    priors = {"beta": gb.Prior("Normal", mu=0.3, sigma=2), "simo": gb.Prior("Dirichlet", a=a)}
    drawn = prior_draws(gb.Model("y ~ 0 + f + mo(x)", data, priors=priors))["beta"]
    steps = drawn[:, -3:]
    assert stats.kstest(steps.mean(axis=1), stats.norm(0.3, 2.0).cdf).pvalue > 1e-3
    share = steps / steps.sum(axis=1, keepdims=True)
    for k in range(3):
        assert stats.kstest(share[:, k], stats.beta(a[k], 3.5 - a[k]).cdf).pvalue > 1e-3


# ---- maximum likelihood


def test_where_the_levels_ascend_it_is_the_fit_of_a_factor(data):
    monotonic = gb.Model("y ~ mo(x) * z + (1 | g)", data).fit("ml")
    factor = gb.Model("y ~ x * z + (1 | g)", data).fit("ml")
    assert monotonic.loglik == pytest.approx(factor.loglik, abs=1e-6)
    assert monotonic.df == factor.df
    found = monotonic.fixef()["estimate"]
    levels = factor.fixef()["estimate"]
    effects = levels[[f"x[T.{name}]" for name in LEVELS[1:]]].to_numpy()
    np.testing.assert_allclose(
        found[[f"mo(x)[{name}]" for name in LEVELS[1:]]].cumsum(), effects, atol=1e-4
    )
    at = data.drop_duplicates("x")
    np.testing.assert_allclose(
        monotonic.predict(at)["estimate"], factor.predict(at)["estimate"], atol=1e-4
    )
    for method in ("reml", "pql"):
        steps = gb.Model("y ~ mo(x) + (1 | g)", data).fit(method).fixef()["estimate"].iloc[1:]
        assert (steps > 0).all()


def isotonic(y, code):
    """Pool adjacent violators; Barlow, Bartholomew, Bremner & Brunk (1972)."""
    pools = [[y[code == k].mean(), (code == k).sum(), 1] for k in np.unique(code)]
    k = 0
    while k < len(pools) - 1:
        if pools[k][0] <= pools[k + 1][0]:
            k += 1
            continue
        (m, n, size), (other, more, width) = pools[k], pools.pop(k + 1)
        pools[k] = [(m * n + other * more) / (n + more), n + more, size + width]
        k = max(k - 1, 0)
    return np.repeat([m for m, _, _ in pools], [size for *_, size in pools])


@pytest.mark.parametrize("sign", [1, -1])
def test_where_they_do_not_it_is_isotonic_regression(data, sign):
    code = data["k"].to_numpy() - 1
    fit = gb.Model("v ~ mo(k)", data.assign(v=sign * data["dip"])).fit("ml")
    means = sign * isotonic(data["dip"].to_numpy(), code)
    np.testing.assert_allclose(fit.predict(data)["estimate"], means[code], atol=1e-5)
    rss = ((sign * data["dip"] - means[code]) ** 2).sum()
    loglik = -N / 2 * (np.log(2 * np.pi * rss / N) + 1)
    assert fit.loglik == pytest.approx(loglik, abs=1e-6)
    assert any("mo(k)[3]" in note for note in fit.mode.notes)
    assert fit.fixef().loc["mo(k)[3]", "estimate"] == 0


def test_against_steps_are_refused_by_other_methods(data):
    for method in ("reml", "pql"):
        with pytest.raises(gb.NotSupportedError, match="not monotonic in mo\\(k\\)\\[2\\]"):
            gb.Model("dip ~ mo(k) + (1 | g)", data).fit(method)
    with pytest.raises(gb.NotSupportedError, match="mo\\(k\\) makes coefficients functions"):
        gb.Model("y ~ mo(k)", data).fit("map")


def test_a_fit_with_steps_held_comes_back_from_its_file(data, tmp_path):
    fit = gb.Model("dip ~ mo(k) + z", data).fit("ml")
    fit.save(tmp_path / "fit")
    back = gb.load(tmp_path / "fit")
    pd.testing.assert_frame_equal(back.fixef(), fit.fixef())
    pd.testing.assert_frame_equal(back.predict(data), fit.predict(data))


# ---- the posterior


@pytest.mark.slow
def test_the_posterior_of_a_monotonic_effect(data):
    """Against importance sampling of the prior, of a normal response with known sigma."""
    few = data.iloc[:16]
    code, y, rng, size = (
        few["k"].to_numpy() - 1,
        few["y"].to_numpy(),
        np.random.default_rng(2),
        400_000,
    )
    priors = {
        "intercept": gb.Prior("Normal", mu=3, sigma=2),
        "beta": gb.Prior("Normal", mu=1, sigma=1),
        "sigma": 1.0,
    }
    # The Intercept is normal with what the mean of the columns takes off; so it is integrated out.
    steps = 3 * rng.normal(1, 1, (size, 1)) * rng.dirichlet([1, 1, 1], size)
    rise = np.hstack([np.zeros((size, 1)), np.cumsum(steps, axis=1)])[:, code]
    off = y - (rise - rise.mean(axis=1, keepdims=True))
    S = np.eye(len(y)) + 4.0
    log_weight = -0.5 * np.einsum("si,ij,sj->s", off - 3, np.linalg.inv(S), off - 3)
    w = np.exp(log_weight - log_weight.max())
    expected = w @ steps / w.sum()
    fit = gb.Model("y ~ mo(k)", few, priors=priors).fit(
        "nuts", seed=1, target_accept=0.95, progressbar=False
    )
    table = fit.fixef().iloc[1:]
    error = 5 * table["std_error"] / np.sqrt(table["ess_bulk"]) + 0.02
    assert (abs(table["estimate"] - expected) < error).all()
    posterior = fit.idata["posterior"]
    assert {"mo_k", "simo_k"} <= set(posterior.data_vars)
    np.testing.assert_allclose(posterior["simo_k"].sum("mo_k__step"), 1.0)
    np.testing.assert_allclose(posterior["mo_k"] * 3, posterior["beta"][..., 1:].sum("coef"))


def test_slopes_at_the_ends_are_the_first_and_the_last_step(data):
    """In between, half of the step to a level and of that from it: by the fit's own steps."""
    fit = gb.Model("y ~ mo(k)", data).fit("ml")
    low, high = int(data["k"].min()), int(data["k"].max())
    steps = fit.fixef()["estimate"].to_numpy()[1:]
    found = fit.slopes("k", pd.DataFrame({"k": [low, low + 1, high]}))["estimate"]
    expected = [steps[0], (steps[0] + steps[1]) / 2, steps[-1]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_refits_of_a_bootstrap_have_steps_of_one_sign(data):
    """As a fit to each simulated response has, where a factor's steps would go down too."""
    fit = gb.Model("dip ~ mo(x)", data).fit("ml")
    found = gb.bootstrap(fit, n=25, seed=3, progressbar=False)
    steps = found.draws.filter(like="mo(x)")
    assert steps.shape == (25, 3)
    assert (steps >= 0).all().all()
    assert (steps == 0).any().any()
