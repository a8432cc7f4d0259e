"""Effects of a few classes: R's flexmix, sums and integrals by brute force, one model for all."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import logsumexp

import glmm_bayes as gb
from glmm_bayes.covariance import Places
from glmm_bayes.covariance.masses import MassPoints
from glmm_bayes.inference.collapsed import OuterDensity, read_density, read_marginal
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.laplace import LaplaceObjective
from glmm_bayes.modes.masses import read_masses

CBPP = 'cbind(incidence, size - incidence) ~ period + (1 | herd, dist="mixture", k={})'


def levels(k, count=9):
    names = tuple("abcdefghi"[:count])
    none, labels = np.zeros(count, dtype=int), np.array(names, dtype=object)[:, None]
    places = Places(names, none, np.empty((count, 0)), "(1 | g)", ("g",), labels)
    return MassPoints(places, k)


@pytest.fixture(scope="module")
def cbpp():
    return gb.Model(CBPP.format(2), gb.load_dataset("cbpp"), family="binomial").fit("ml", seed=1)


@pytest.fixture(scope="module")
def tiny():
    return pd.DataFrame({"g": list("aabbcd"), "y": [4.1, 5.0, -0.5, 0.4, 6.0, 0.2]})


# ---- the masses


@pytest.mark.parametrize("k", [2, 3, 5])
def test_masses_ascend_with_mean_0_and_variance_1(k):
    own, rng = levels(k), np.random.default_rng(k)
    theta = {p.name: rng.uniform(size=(7, p.size)) for p in own.parameters(9)}
    location, weight, spacing = own.standard(theta)
    assert (np.diff(location, axis=1) > 0).all()
    np.testing.assert_allclose(weight.sum(axis=1), 1)
    np.testing.assert_allclose((weight * location).sum(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose((weight * location**2).sum(axis=1), 1)
    back = own.sampled({"weight": weight, "spacing": spacing}, 9)
    for name, value in theta.items():
        np.testing.assert_allclose(back[name], value)


def test_draws_are_of_the_masses():
    own = levels(3)
    theta = own.sticks(np.array([[0.2, 0.5, 0.3]]), np.array([[0.25, 0.75]]))
    v = own.drawn({k: np.repeat(x, 400, 0) for k, x in theta.items()}, np.random.default_rng(1),
                  (400, 50, 1))  # fmt: skip
    values, counts = np.unique(v.round(9), return_counts=True)
    np.testing.assert_allclose(values, own.standard(theta)[0][0])
    assert stats.chisquare(counts, 20_000 * np.array([0.2, 0.5, 0.3])).pvalue > 1e-3


# ---- maxima


def test_two_masses_of_cbpp_agree_with_flexmix(cbpp):
    """flexmix 2.3-18, FLXMRglmfix(family="binomial", fixed = ~ period), ~ 1 | herd, k = 2."""
    assert cbpp.loglik == pytest.approx(-89.9682329985, abs=1e-7)
    assert cbpp.df == 6
    theta = cbpp.theta
    np.testing.assert_allclose(
        theta[["beta[period[T.2]]", "beta[period[T.3]]", "beta[period[T.4]]"]],
        [-0.941906548, -1.074095386, -1.593147753], atol=2e-6,
    )  # fmt: skip
    intercepts = theta["beta[Intercept]"] + theta[["location_herd[1]", "location_herd[2]"]]
    np.testing.assert_allclose(intercepts, [-1.903981769, -0.560951082], atol=3e-6)
    np.testing.assert_allclose(theta["weight_herd[2]"], 0.351319054, atol=2e-6)
    found = cbpp.membership().query("component == '2'").set_index("level")["estimate"]
    flexmix = {"1": 0.978294312, "2": 0.002297929, "3": 0.934653923, "4": 0.190394119}
    np.testing.assert_allclose(found[list(flexmix)], list(flexmix.values()), atol=1e-6)


def test_effects_are_their_means_given_the_responses(cbpp):
    at = cbpp.theta[["location_herd[1]", "location_herd[2]"]].to_numpy()
    shares = cbpp.membership()["estimate"].to_numpy().reshape(-1, 2)
    np.testing.assert_allclose(cbpp.ranef()["estimate"], shares @ at, atol=1e-9)
    # The variance given the parameters is that between the masses.
    sd = np.sqrt(cbpp.mode.effect_variances["herd"][:, 0, 0])
    np.testing.assert_allclose(sd, np.sqrt(shares.prod(axis=1)) * np.ptp(at), rtol=1e-6)


def test_three_masses_of_cbpp_are_two():
    """flexmix, as above with k = 3: log likelihood -89.9682329985, two of its masses the same."""
    model = gb.Model(CBPP.format(3), gb.load_dataset("cbpp"), family="binomial")
    with pytest.warns(gb.ConvergenceWarning, match=r"fewer masses .* take k=2"):
        fit = model.fit("ml")
    assert fit.loglik == pytest.approx(-89.9682329985, abs=1e-4)


def test_what_more_masses_would_do_is_said(cbpp):
    assert any("No further mass" in note for note in cbpp.mode.notes)
    with pytest.warns(gb.ConvergenceWarning):
        more = gb.Model(CBPP.format(4), gb.load_dataset("cbpp"), family="binomial").fit("ml")
    assert more.loglik == pytest.approx(cbpp.loglik, abs=1e-4)


def test_three_masses_of_sleepstudy_agree_with_flexmix():
    """flexmix, gaussian, varFix: its sigma 32.28784 is that of n - 5, not the maximum's."""
    table = gb.load_dataset("sleepstudy")
    fit = gb.Model('Reaction ~ Days + (1 | Subject, dist="mixture", k=3)', table).fit("ml")
    theta = fit.theta
    assert -895.926868 < fit.loglik < -895.926
    assert theta["beta[Days]"] == pytest.approx(10.467286, abs=1e-4)
    intercepts = theta["beta[Intercept]"] + theta[[f"location_Subject[{k}]" for k in (1, 2, 3)]]
    np.testing.assert_allclose(intercepts, [185.00815, 254.77101, 304.72128], atol=0.02)
    weights = theta[[f"weight_Subject[{k}]" for k in (1, 2, 3)]]
    np.testing.assert_allclose(weights, [0.1667013, 0.6678610, 0.1654377], atol=5e-5)
    # That of 175 in the place of 180, with the other estimates as good as the same.
    sigma = theta["sigma"] * np.sqrt(180 / 175)
    assert sigma == pytest.approx(32.28784 * np.sqrt(180 / 175), abs=0.1)


CASES = {
    "counts": ('c ~ x + (1 | g, dist="mixture", k=3)', "negbinomial"),
    "of a slope": ('y ~ x + (0 + x | g, dist="mixture")', "gaussian"),
    "of sigma": (["y ~ x", 'sigma ~ 1 + (1 | g, dist="mixture")'], "gaussian"),
}


@pytest.fixture(scope="module")
def data():
    rng, q = np.random.default_rng(2), 40
    g, x = np.repeat(np.arange(q), 8), rng.normal(size=8 * q)
    b = np.array([-1.2, 0.1, 1.3])[rng.choice(3, q, p=[0.3, 0.45, 0.25])]
    return pd.DataFrame({
        "g": [f"g{k:02d}" for k in g],
        "x": x,
        "c": rng.negative_binomial(4, 4 / (4 + np.exp(0.8 + 0.3 * x + b[g]))),
        "y": 1 + (0.5 + 0.8 * b[g]) * x + rng.normal(0, np.exp(0.4 * b[g])),
    })  # fmt: skip


def summed(fit, data, log_density):
    """Sum over the classes at the fit's parameters, level by level."""
    theta = fit.theta
    k = sum(name.startswith("weight") for name in theta.index)
    key = next(name for name in theta.index if name.startswith("weight")).split("[")[0]
    total = 0.0
    for _, rows in data.groupby("g"):
        logs = [
            np.log(theta[f"{key}[{j}]"])
            + log_density(theta, rows, theta[f"{key.replace('weight', 'location')}[{j}]"]).sum()
            for j in range(1, k + 1)
        ]
        total += logsumexp(logs)
    return total


def of_counts(theta, rows, b):
    mu = np.exp(theta["beta[Intercept]"] + theta["beta[x]"] * rows["x"] + b)
    alpha = theta["alpha"]
    return stats.nbinom.logpmf(rows["c"], alpha, alpha / (alpha + mu))


def of_slope(theta, rows, b):
    mu = theta["beta[Intercept]"] + (theta["beta[x]"] + b) * rows["x"]
    return stats.norm.logpdf(rows["y"], mu, theta["sigma"])


def of_sigma(theta, rows, b):
    mu = theta["beta[Intercept]"] + theta["beta[x]"] * rows["x"]
    return stats.norm.logpdf(rows["y"], mu, np.exp(theta["beta_sigma[Intercept]"] + b))


DENSITIES = {"counts": of_counts, "of a slope": of_slope, "of sigma": of_sigma}


@pytest.mark.parametrize("case", CASES)
def test_the_likelihood_is_the_sum_over_classes(case, data):
    formula, family = CASES[case]
    fit = gb.Model(formula, data, family=family).fit("ml")
    assert fit.converged
    assert fit.loglik == pytest.approx(summed(fit, data, DENSITIES[case]), abs=1e-8)


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_difference_quotients(case, data):
    formula, family = CASES[case]
    model = gb.Model(formula, data, family=family)
    coordinates = Coordinates.unconstrained(model)
    objective = LaplaceObjective(read_masses(model), coordinates, joint=False)
    x = np.random.default_rng(3).normal(0, 0.4, coordinates.size)
    _, slope = objective(x)
    h = 1e-5
    quotients = [
        (objective(x + h * e)[0] - objective(x - h * e)[0]) / (2 * h) for e in np.eye(x.size)
    ]
    np.testing.assert_allclose(slope, quotients, rtol=1e-6, atol=1e-5)


def test_masses_are_recovered(data):
    fit = gb.Model(CASES["counts"][0], data, family="negbinomial").fit("ml")
    table = fit.varcorr().set_index(["kind", "coef1"])
    truth = np.array([-1.2, 0.1, 1.3]) - np.array([0.3, 0.45, 0.25]) @ [-1.2, 0.1, 1.3]
    for j, at in enumerate(truth, start=1):
        assert table.loc[("location", str(j)), "lower"] < at
        assert at < table.loc[("location", str(j)), "upper"]
    two = gb.Model('c ~ x + (1 | g, dist="mixture")', data, family="negbinomial").fit("ml")
    assert fit.aic < two.aic


# ---- posteriors


def test_pymc_and_the_sum_are_of_one_model(tiny):
    """The sum of PyMC's joint density over all assignments of the four levels to classes."""
    model = gb.Model('y ~ 1 + (1 | g, dist="mixture", k=3)', tiny)
    joint = read_density(model, {"g": False})
    size = joint.outer.size
    density = OuterDensity(model, joint, read_marginal(model), np.zeros(size), np.eye(size))
    built = model.pymc
    logp, ours, theirs = built.compile_logp(mode="FAST_COMPILE"), [], []
    for seed in range(3):
        x = np.random.default_rng(seed).normal(0, 0.5, size)
        theta = joint.outer.constrain(x)
        point = built.initial_point()
        for name, at in model.layout.items():
            for key in point:
                plain = key.removesuffix("_log__").removesuffix("_logodds__").removesuffix("_")
                if plain in (name, name.replace("beta", "gamma")):
                    own = np.flatnonzero(np.isin(joint.outer.free, np.arange(at.start, at.stop)))
                    point[key] = x[own].reshape(point[key].shape)
        assert np.isfinite(theta).all()
        found = [
            logp({**point, "class_g": np.array(kind)[:, None]})
            for kind in product(range(3), repeat=4)
        ]
        theirs.append(logsumexp(found))
        ours.append(density(x)[0])
    np.testing.assert_allclose(np.diff(ours), np.diff(theirs), rtol=1e-9)


def test_posterior_is_that_of_a_grid(tiny):
    """Of sd and one weight alone, all else held: integrals over a grid."""
    priors = {"beta": 2.0, "sigma": 0.8, "sd_g": gb.Prior("HalfNormal", sigma=3.0)}
    model = gb.Model('y ~ 1 + (1 | g, dist="mixture")', tiny, priors=priors)
    fit = model.fit("nuts", seed=2, draws=350, tune=150, chains=2, progressbar=False)
    sd, w = np.meshgrid(np.linspace(0.02, 14, 500), np.linspace(0.001, 0.999, 400), indexing="ij")
    at = np.stack([-sd * np.sqrt((1 - w) / w), sd * np.sqrt(w / (1 - w))])
    weights = np.stack([w, 1 - w])
    log_joint, means = stats.halfnorm.logpdf(sd, scale=3.0), {}
    for level, y in tiny.groupby("g")["y"]:
        logs = np.log(weights) + sum(stats.norm.logpdf(v, 2.0 + at, 0.8) for v in y)
        total = logsumexp(logs, axis=0)
        means[level] = (np.exp(logs - total) * at).sum(axis=0)
        log_joint = log_joint + total
    p = np.exp(log_joint - log_joint.max())
    p /= p.sum()
    found = fit.varcorr().set_index(["kind", "coef1"])
    for value, key in ((sd, ("sd", "Intercept")), (w, ("weight", "1"))):
        mean = (p * value).sum()
        spread = np.sqrt((p * value**2).sum() - mean**2)
        assert found.loc[key, "estimate"] == pytest.approx(mean, abs=0.15 * spread)
        assert found.loc[key, "std_error"] == pytest.approx(spread, rel=0.2)
    effects = fit.ranef().set_index("level")
    for level, value in means.items():
        own = effects.loc[level]
        assert own["estimate"] == pytest.approx((p * value).sum(), abs=0.15 * own["std_error"])


def test_the_mode_of_the_posterior_is_a_mode(cbpp):
    mode = cbpp.model.fit("map")
    assert mode.converged
    assert mode.loglik < cbpp.loglik


# ---- verbs


def test_averages_are_over_the_masses(cbpp):
    theta, rows = cbpp.theta, cbpp.predict(groups="marginal")["estimate"]
    eta = theta["beta[Intercept]"] + theta[["location_herd[1]", "location_herd[2]"]].to_numpy()
    expected = theta[["weight_herd[1]", "weight_herd[2]"]].to_numpy() @ (1 / (1 + np.exp(-eta)))
    assert rows.iloc[0] == pytest.approx(expected, rel=1e-9)


def test_new_levels_are_of_the_masses(cbpp):
    drawn = cbpp.model.prior_predictive(50, seed=1)["prior"]
    b, at = drawn["b_herd"].to_numpy()[0, :, :, 0], drawn["location_herd"].to_numpy()[0]
    assert np.abs(b[:, :, None] - at[:, None, :]).min(axis=2).max() < 1e-12
    assert cbpp.simulate(2, seed=1, groups="new").shape == (2, 56)


def test_a_maximum_comes_back_from_a_file(cbpp, tmp_path):
    cbpp.save(tmp_path / "fit")
    back, rows = gb.load(tmp_path / "fit"), gb.load_dataset("cbpp").head(3)
    pd.testing.assert_frame_equal(back.membership(), cbpp.membership())
    np.testing.assert_allclose(back.predict(rows), cbpp.predict(rows), rtol=1e-6)


def test_a_posterior_comes_back_from_a_file(data, tmp_path):
    model = gb.Model('c ~ 1 + (1 | g, dist="mixture", k=3)', data, family="poisson")
    with pytest.warns(gb.ConvergenceWarning):
        fit = model.fit("nuts", seed=2, draws=40, tune=100, chains=2, progressbar=False)
    fit.save(tmp_path / "fit")
    back = gb.load(tmp_path / "fit")
    np.testing.assert_allclose(back.varcorr()["estimate"], fit.varcorr()["estimate"])
    own = fit.membership().groupby("level", observed=True)["estimate"].sum()
    np.testing.assert_allclose(own, 1.0, rtol=1e-6)
    np.testing.assert_allclose(back.membership()["estimate"], fit.membership()["estimate"])


def test_weights_before_the_responses(cbpp):
    found = cbpp.membership(kind="prior").query("component == '1'")["estimate"]
    np.testing.assert_allclose(found, cbpp.theta["weight_herd[1]"])


# ---- what is refused


@pytest.mark.parametrize(
    ("term", "words"),
    [
        ('(1 + x | g, dist="mixture")', "has 2 columns, and dist='mixture' is of one"),
        ('(1 | g, dist="mixture", k=1)', "whole number from 2 to 20, not 1"),
        ('(1 | g, dist="mixture", k=2.5)', "whole number from 2 to 20, not 2.5"),
        ('(1 | h, dist="mixture", k=4)', "k=4 classes of 2 levels"),
        ('(1 | g, dist="student", k=3)', "leave 'k=3' out"),
    ],
)
def test_what_a_term_cannot_have(term, words, data):
    with pytest.raises(gb.FormulaError, match=words):
        gb.Model(f"y ~ x + {term}", data.assign(h=np.resize(["u", "v"], len(data))))


def test_priors_are_of_shares(data):
    formula = 'y ~ x + (1 | g, dist="mixture", k=3)'
    model = gb.Model(formula, data, priors={"weight_g": gb.Prior("Dirichlet", a=[4, 2, 1])})
    drawn = model.prior_predictive(4000, seed=1)["prior"]["weight_g"].to_numpy()[0]
    np.testing.assert_allclose(drawn.mean(axis=0), [4 / 7, 2 / 7, 1 / 7], atol=0.01)
    with pytest.raises(gb.NotSupportedError, match="Dirichlet"):
        gb.Model(formula, data, priors={"weight_g": gb.Prior("Beta", alpha=1, beta=1)})


def test_other_methods_and_terms_say_what_there_is(cbpp, data):
    for method in ("reml", "pql", "nested_laplace"):
        with pytest.raises(gb.NotSupportedError, match=r"fit\('ml'\)"):
            cbpp.model.fit(method)
    with pytest.raises(gb.NotSupportedError, match="leave nagq=5 out"):
        cbpp.model.fit("ml", nagq=5)
    with pytest.raises(gb.NotSupportedError, match="draws no classes"):
        cbpp.model.fit("nuts", sampler="numpyro")
    with pytest.raises(gb.NotSupportedError, match="leave newdata and groups out"):
        cbpp.membership(groups="population")
    two = gb.Model('y ~ x + (1 | g, dist="mixture") + (1 | c)', data)
    for method in ("ml", "nuts"):
        with pytest.raises(gb.NotSupportedError, match="other random effects tie together"):
            two.fit(method)
