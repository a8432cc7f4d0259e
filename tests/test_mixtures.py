"""Mixtures: fits by flexmix and by EM, memberships by Bayes' formula, labels in order."""

import numpy as np
import pandas as pd
import pytest
from pointmap import pymc_logp, pymc_point
from scipy import special, stats

import glmm_bayes as gb
from glmm_bayes.density import read_density
from glmm_bayes.families.mixture_of import family_of


@pytest.fixture(scope="module")
def data():
    """Two lines that cross, two kinds of counts, and a third kind of number."""
    rng, n = np.random.default_rng(3), 300
    x, second = rng.uniform(-2, 2, n), rng.uniform(size=n) < 0.35
    return pd.DataFrame(
        {
            "x": x,
            "y": np.where(second, 4 - 1.5 * x, -1 + x) + rng.normal(0, np.where(second, 0.5, 1), n),
            "c": rng.poisson(np.exp(np.where(second, 2.5 + 0.2 * x, 0.5 - 0.3 * x))),
            "n": 12,
            "w": rng.binomial(12, np.where(second, 0.8, 0.25)),
            "g": np.resize([f"g{k:02d}" for k in range(15)], n),
            "e": rng.normal(size=n),
        }
    )


def em(y, X, log_density, maximised, start):
    """Climb by expectation and maximisation of two components; the log likelihood at the end."""
    params, share, last = start, 0.5, -np.inf
    while True:
        logs = np.stack([log_density(y, X, p) for p in params], axis=1)
        logs = logs + np.log([1 - share, share])
        total = special.logsumexp(logs, axis=1)
        if total.sum() < last + 1e-11:
            return total.sum(), params, share
        last, r = total.sum(), np.exp(logs - total[:, None])
        share, params = r[:, 1].mean(), [maximised(y, X, r[:, k]) for k in range(2)]


def line(y, X, r):
    beta = np.linalg.solve((X.T * r) @ X, (X.T * r) @ y)
    return beta, np.sqrt((r * (y - X @ beta) ** 2).sum() / r.sum())


def test_a_mixture_of_lines_is_the_one_em_finds(data):
    X, y = np.column_stack([np.ones(len(data)), data["x"]]), data["y"].to_numpy()
    loglik, ((b1, s1), (b2, s2)), share = em(
        y, X, lambda y, X, p: stats.norm.logpdf(y, X @ p[0], p[1]), line,
        [(np.array([-1.0, 1.0]), 1.0), (np.array([4.0, -1.5]), 1.0)],
    )  # fmt: skip
    fit = gb.Model("y ~ x", data, family=gb.mixture("gaussian", "gaussian")).fit("ml")
    assert fit.converged
    assert fit.loglik == pytest.approx(loglik, abs=1e-6)
    np.testing.assert_allclose(fit.theta, [*b1, *b2, s1, s2, share], rtol=1e-4)


# fmt: off
COUNTS = [12, 6, 16, 12, 15, 19, 0, 29, 2, 1, 9, 0, 18, 18, 1, 1, 1, 1, 16, 12,
          0, 0, 0, 0, 10, 2, 1, 0, 0, 14, 1, 1, 1, 9, 9, 2, 12, 0, 17, 0]
# fmt: on


def test_a_mixture_of_counts_is_flexmixs():
    """R 4.2.2, flexmix 2.3-18: FLXMRglm(family = "poisson"), tolerance 1e-14."""
    table = pd.DataFrame({"c": COUNTS, "x": np.tile(np.arange(8.0), 5)})
    fit = gb.Model("c ~ x", table, family="mixture(poisson, poisson)").fit("ml")
    assert fit.loglik == pytest.approx(-94.0716383559, abs=1e-6)
    beta = [0.292181635717, -0.212369341112, 2.160200909011, 0.142178469029]
    np.testing.assert_allclose(fit.fixef()["estimate"], beta, rtol=1e-5)
    assert fit.theta["theta2"] == pytest.approx(0.450675048205, rel=1e-5)


def test_one_component_of_nobody_is_no_mixture(data):
    """Of a share that is held at next to nothing there is the other family's likelihood."""
    alone = gb.Model("c ~ x", data, family="poisson").fit("ml")
    priors = {"theta2": 1e-12, "beta_mu2": 0.0}
    both = gb.Model("c ~ x", data, family="mixture(poisson, poisson)", priors=priors).fit("ml")
    assert both.loglik == pytest.approx(alone.loglik, abs=1e-6)
    np.testing.assert_allclose(both.fixef()["estimate"].iloc[:2], alone.fixef()["estimate"])


def test_shares_by_a_predictor_are_recovered():
    rng, n = np.random.default_rng(8), 3000
    x = rng.normal(size=n)
    second = rng.uniform(size=n) < special.expit(-0.4 + 1.1 * x)
    table = pd.DataFrame({"x": x, "c": rng.poisson(np.where(second, 9.0, 1.5))})
    fit = gb.Model(["c ~ 1", "theta2 ~ x"], table, family="mixture(poisson, poisson)").fit("ml")
    found = fit.fixef()
    truth = [np.log(1.5), np.log(9.0), -0.4, 1.1]
    assert (np.abs(found["estimate"] - truth) < 3.5 * found["std_error"]).all()
    share = fit.predict(kind="param:theta2")["estimate"]
    start, slope = found["estimate"].iloc[2:]
    np.testing.assert_allclose(share, special.expit(start + slope * x))


def test_components_with_effects_of_groups_are_recovered(data):
    rng = np.random.default_rng(5)
    b = rng.normal(0, 0.7, 15)[pd.factorize(data["g"])[0]]
    second = rng.uniform(size=len(data)) < 0.35
    eta = np.where(second, 2.5 + 0.2 * data["x"], 0.3 - 0.3 * data["x"]) + b
    table = data.assign(c=rng.poisson(np.exp(eta)))
    model = gb.Model("c ~ x + (1 | g)", table, family="mixture(poisson, poisson)")
    for method in ("ml", "map"):
        fit = model.fit(method)
        assert fit.converged
        slopes = fit.fixef()["estimate"].to_numpy()[[1, 3]]
        np.testing.assert_allclose(slopes, [-0.3, 0.2], atol=0.15)
        sd = fit.varcorr()["estimate"]
        assert ((sd > 0.4) & (sd < 1.1)).all()
        known = fit.membership().query("component == '2'")["estimate"]
        assert ((known > 0.5) == second).mean() > 0.9


def test_three_components_and_their_shares():
    rng, n = np.random.default_rng(2), 900
    kind = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    y = rng.normal(np.array([-6.0, 0.0, 5.0])[kind], np.array([1.0, 0.5, 1.5])[kind])
    fit = gb.Model("y ~ 1", pd.DataFrame({"y": y}), family=gb.mixture(*["gaussian"] * 3)).fit("ml")
    np.testing.assert_allclose(fit.fixef()["estimate"], [-6, 0, 5], atol=0.4)
    assert (np.diff(fit.fixef()["estimate"]) > 0).all()
    prior = fit.membership(kind="prior")["estimate"].to_numpy().reshape(n, 3)
    np.testing.assert_allclose(prior[0], np.bincount(kind) / n, atol=0.02)
    np.testing.assert_allclose(np.log(prior[0, 1:] / prior[0, 0]), fit.theta[["theta2", "theta3"]])


def test_components_of_different_families(data):
    """Outliers as a component of its own, of which the wider is the second, wherever it starts."""
    rng = np.random.default_rng(1)
    y = 1 + data["x"] + np.where(np.arange(300) % 6 == 0, 12 * data["e"], 0.6 * data["e"])
    table = data.assign(y=y + 0.01 * rng.normal(size=300))
    fit = gb.Model(["y ~ x", "mu2 ~ 1"], table, family="mixture(gaussian, student)").fit("map")
    found = fit.fixef().query("param == 'mu1'")["estimate"]
    np.testing.assert_allclose(found, [1.0, 1.0], atol=0.15)
    assert fit.theta["theta2"] == pytest.approx(1 / 6, abs=0.06)


# ---- whose component a row is


def test_membership_is_bayes_formula(data):
    fit = gb.Model("c ~ x", data, family="mixture(poisson, poisson)").fit("ml")
    first, second = (fit.predict(kind=f"param:mu{k}")["estimate"] for k in (1, 2))
    share = fit.theta["theta2"]
    one = (1 - share) * stats.poisson.pmf(data["c"], first)
    other = share * stats.poisson.pmf(data["c"], second)
    found = fit.membership()
    assert list(found.columns) == ["component", "estimate", "std_error", "lower", "upper"]
    of_second = found[found["component"] == "2"]
    np.testing.assert_allclose(of_second["estimate"], other / (one + other), rtol=1e-9, atol=1e-11)
    assert (of_second.index == data.index).all()
    assert (found["lower"] <= found["estimate"] + 1e-12).all()
    assert (found["estimate"] <= found["upper"] + 1e-12).all()
    new = fit.membership(data.head(3), kind="prior")
    np.testing.assert_allclose(new["estimate"], [1 - share, share] * 3)


def test_membership_says_what_it_cannot(data):
    fit = gb.Model("c ~ x", data, family="mixture(poisson, poisson)").fit("ml")
    with pytest.raises(gb.NotSupportedError, match="ask for kind='prior'"):
        fit.membership(data)
    with pytest.raises(gb.UnknownNameError, match="Did you mean 'prior'"):
        fit.membership(kind="prio")
    alone = gb.Model("c ~ x", data, family="poisson").fit("ml")
    with pytest.raises(gb.NotSupportedError, match="'poisson' has no components"):
        alone.membership()


# ---- labels


def test_intercepts_ascend_in_the_prior_and_in_every_draw(data):
    model = gb.Model("c ~ x + (1 | g)", data, family="mixture(poisson, poisson)")
    joint = read_density(model)
    x = np.random.default_rng(0).normal(size=(50, joint.size))
    theta = joint.outer.constrain(x[:, : joint.outer.size])
    at = [model.layout[f"beta_mu{k}"].start for k in (1, 2)]
    assert (theta[:, at[0]] < theta[:, at[1]]).all()
    draws = model.prior_predictive(200, seed=1)["prior"]
    means = [model.design.predictors[f"mu{k}"].X.mean(axis=0) for k in (1, 2)]
    first, second = (draws[f"beta_mu{k + 1}"].to_numpy() @ means[k] for k in (0, 1))
    assert (first < second).all()


ORDERED = {
    "the same": ("mixture(poisson, poisson)", "c ~ x", {}, 2),
    "different": ("mixture(poisson, negbinomial)", "c ~ x", {}, 0),
    "different, but asked for": ("mixture(poisson, negbinomial, order=mu)", "c ~ x", {}, 2),
    "asked not to": ("mixture(poisson, poisson, order=none)", "c ~ x", {}, 0),
    "no intercept": ("mixture(poisson, poisson)", "c ~ 0 + x", {}, 0),
    "held": ("mixture(poisson, poisson)", "c ~ x", {"intercept_mu1": 0.5}, 0),
    "priors of their own": (
        "mixture(poisson, poisson)", "c ~ x",
        {"intercept_mu1": gb.Prior("Normal", mu=0, sigma=1),
         "intercept_mu2": gb.Prior("Cauchy", alpha=2, beta=1)}, 2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ORDERED)
def test_readers_agree_on_which_intercepts_ascend(data, name):
    family, formula, priors, count = ORDERED[name]
    model = gb.Model(formula, data, family=family, priors=priors)
    joint = read_density(model)
    assert len(joint.outer.rising) == count
    logp, rng = pymc_logp(model), np.random.default_rng(4)
    points = rng.normal(scale=0.3, size=(3, joint.size))
    ours = [joint.value_and_gradient(x)[0] for x in points]
    theirs = [float(logp(**pymc_point(model, joint, x))) for x in points]
    np.testing.assert_allclose(np.diff(ours), np.diff(theirs), rtol=1e-9, atol=1e-9)


def test_an_order_that_cannot_be_is_refused(data):
    model = gb.Model("c ~ 0 + x", data, family="mixture(poisson, poisson, order=mu)")
    with pytest.raises(gb.NotSupportedError, match="can only ascend where each has one"):
        read_density(model)
    held = {"intercept_mu1": 0.5}
    model = gb.Model("c ~ x", data, family="mixture(poisson, poisson, order=mu)", priors=held)
    with pytest.raises(gb.NotSupportedError, match="'intercept_mu1' by its prior"):
        read_density(model)


def test_a_posterior_of_a_mixture(data):
    """Far more is in the data than in the priors: near the maximum, labels in order."""
    few = data.head(120)
    model = gb.Model("w | trials(n) ~ 1", few, family="mixture(binomial, binomial)")
    fit = model.fit("nuts", seed=1, draws=300, tune=300, chains=2, progressbar=False)
    top = model.fit("ml")
    found, at = fit.fixef(), top.fixef()
    assert (found["r_hat"] < 1.05).all()
    np.testing.assert_allclose(found["estimate"], at["estimate"], atol=0.06)
    np.testing.assert_allclose(found["std_error"], at["std_error"], rtol=0.25)
    np.testing.assert_allclose(
        fit.membership()["estimate"], top.membership()["estimate"], atol=0.02
    )


# ---- names, links and formulas of the components


def test_what_is_said_of_a_parameter_holds_for_all_components(data):
    family = gb.mixture("gaussian", "gaussian")
    model = gb.Model(["y ~ x", "mu2 ~ 1", "sigma ~ x", "sigma2 ~ 1"], data, family=family)
    assert {k: p.names for k, p in model.design.predictors.items()} == {
        "mu1": ("Intercept", "x"),
        "mu2": ("Intercept",),
        "sigma1": ("Intercept", "x"),
        "sigma2": ("Intercept",),
    }
    links = gb.Model("c ~ x", data, family="mixture(poisson, poisson)", link="sqrt").links
    assert [links[k].name for k in ("mu1", "mu2", "theta2")] == ["sqrt", "sqrt", "logit"]
    only = {"mu2": "sqrt", "theta2": "probit"}
    links = gb.Model("c ~ x", data, family="mixture(poisson, poisson)", link=only).links
    assert [links[k].name for k in ("mu1", "mu2", "theta2")] == ["log", "sqrt", "probit"]


def test_names_are_read_back():
    for name in ("mixture(poisson, poisson)", "mixture(gaussian, student, order=mu)"):
        assert family_of(name).name == name
    assert family_of("mixture('poisson','negbinomial')").name == "mixture(poisson, negbinomial)"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mixture(poisson, gaussian)", "of counts and of continuous responses"),
        ("mixture(poisson, binomial)", "with and without trials"),
        ("mixture(gaussian, hurdle_gamma)", "with different atoms"),
        ("mixture(cumulative, cumulative)", "'cumulative' cannot be in a mixture"),
        ("mixture(poisson)", "two families or more, not of poisson"),
        ("mixture(poisson, poison)", "Did you mean 'poisson'"),
        ("mixture(poisson; poisson)", "cannot be read"),
        ("mixture(poisson, poisson, order=mean)", "order='mean' is not known"),
    ],
)
def test_what_cannot_be_mixed_is_refused(name, words):
    with pytest.raises((gb.NotSupportedError, gb.UnknownNameError), match=words):
        family_of(name)


def test_a_response_that_no_component_has_is_refused(data):
    with pytest.raises(gb.DataError, match="of its component 'gamma' values must be positive"):
        gb.Model("y ~ x", data, family="mixture(gaussian, gamma)")


# ---- verbs


def test_verbs_of_a_mixture(data, tmp_path):
    fit = gb.Model("c ~ x", data, family="mixture(poisson, poisson)").fit("ml")
    first, second = (fit.predict(kind=f"param:mu{k}")["estimate"] for k in (1, 2))
    share = fit.theta["theta2"]
    mean = (1 - share) * first + share * second
    np.testing.assert_allclose(fit.predict()["estimate"], mean, rtol=1e-9)
    drawn = fit.simulate(400, seed=1).to_numpy()
    assert drawn.mean() == pytest.approx(mean.mean(), rel=0.02)
    np.testing.assert_allclose(fit.residuals("response"), data["c"] - mean, atol=1e-9)
    assert stats.kstest(fit.residuals(seed=2), "norm").pvalue > 0.01
    assert "highest" in " ".join(fit.mode.notes) or "led to this one" in " ".join(fit.mode.notes)
    with pytest.raises(gb.NotSupportedError, match="has several means"):
        fit.r2()
    with pytest.raises(gb.NotSupportedError, match="has several means"):
        fit.model.fit("pql")
    fit.save(tmp_path / "fit")
    back = gb.load(tmp_path / "fit")
    np.testing.assert_allclose(back.predict()["estimate"], mean, rtol=1e-9)
    assert "mixture(poisson, poisson)" in repr(back)
