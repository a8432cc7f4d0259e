"""Rows that are censored, truncated or have standard errors: R's survreg and metafor, and laws."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import gammaln, logsumexp
from test_density import check_arrays_and_kernels, check_pymc

import glmm_bayes as gb
from glmm_bayes.errors import DataError, FormulaError, NotSupportedError
from glmm_bayes.families import FAMILIES
from glmm_bayes.families.expansion import expand


def accepts_times(family):
    """Tell whether weeks, rounded or not, are responses of a family; not if zeros are too."""
    times = np.array([2.0, 5.0, 60.0])
    own = family.problem(times, None) is None and not family.atoms
    return own and family.parameters[0].support != (0.0, 1.0)


TAILED = [
    name
    for name, family in FAMILIES.items()
    if family.tails is not None and not family.kinked and accepts_times(family)
]

# Miller (1997), Survival Analysis: weeks until relapse of acute myelogenous leukemia.
TIME = [9, 13, 13, 18, 23, 28, 31, 34, 45, 48, 161, 5, 5, 8, 8, 12, 16, 23, 27, 30, 33, 43, 45]
RELAPSED = [1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 0, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1]
AML = pd.DataFrame({"time": np.array(TIME, float), "status": RELAPSED})
AML["z"] = (np.arange(23) >= 11).astype(float)
AML["g"] = np.resize(list("abcdef"), 23)
AML["seen"] = np.where(AML["status"] == 1, "none", "right")
AML["within"] = np.where(AML["status"] == 1, "interval", "right")
AML["until"] = np.where(AML["status"] == 1, AML["time"] + 4, np.nan)
AML["before"] = np.where(AML["status"] == 1, 0, -1)

# Colditz et al. (1994): log relative risks of tuberculosis by BCG vaccination; latitude.
BCG = pd.DataFrame(
    {
        "yi": [-0.88931133, -1.58538866, -1.34807315, -1.44155119, -0.21754732, -0.78611559]
        + [-1.62089822, 0.01195233, -0.46941765, -1.37134480, -0.33935883, 0.44591340, -0.01731395],
        "sei": [0.57060035, 0.44111350, 0.64449047, 0.14145682, 0.22629665, 0.08310005, 0.47224702]
        + [0.06294108, 0.23755886, 0.27023100, 0.11141012, 0.72972998, 0.26721650],
        "ablat": [44.0, 55, 42, 52, 13, 44, 19, 13, 27, 42, 18, 33, 33],
        "trial": [f"t{k}" for k in range(13)],
    }
)

# survreg of R's survival 3.5-3: log likelihood, coefficients, scale.
SURVREG = [
    ("exponential", "seen", (-81.2872852059, 4.1014620300, -0.9580937576, 1.0)),
    ("weibull", "seen", (-80.5216452034, 4.1090550513, -0.9293416114, 0.7909544370)),
    ("lognormal", "seen", (-78.9276124503, 3.5788620287, -0.7244730856, 0.8647019319)),
    ("loglogistic", "seen", (-79.3526633855, 3.5029918273, -0.6044907436, 0.5133064288)),
    ("weibull", "within, until", (-56.1315185948, 4.1447733119, -0.8796410500, 0.7313861873)),
    ("lognormal", "before", (-74.3293783670, 2.9038443510, -0.1583547537, 0.7223086267)),
]


@pytest.mark.parametrize(("family", "censored", "expected"), SURVREG)
def test_censored_times_agree_with_survreg(family, censored, expected):
    fit = gb.Model(f"time | censored({censored}) ~ z", AML, family=family).fit("ml")
    loglik, intercept, slope, scale = expected
    assert fit.loglik == pytest.approx(loglik, abs=1e-7)
    assert fit.theta["beta[z]"] == pytest.approx(slope, abs=2e-6)
    if "alpha" in fit.theta:
        assert fit.theta["alpha"] == pytest.approx(1 / scale, rel=1e-5)
    if family != "weibull":  # whose mean is not its scale
        assert fit.theta["beta[Intercept]"] == pytest.approx(intercept, abs=2e-6)


def test_the_gamma_is_between_the_exponential_and_itself():
    """With shape 1 it is the exponential."""
    fit = gb.Model("time | censored(seen) ~ z", AML, family="gamma", priors={"alpha": 1.0})
    assert fit.fit("ml").loglik == pytest.approx(-81.2872852059, abs=1e-7)


@pytest.mark.parametrize(
    ("formula", "method", "expected"),
    [
        ("1 + (1 | trial)", "ml", (-12.665076348277, -0.711199135474, 0.529176848765)),
        ("ablat + (1 | trial)", "ml", (-7.68566552841413, 0.28210717389561, 0.18534142138734)),
        ("1 + (1 | trial)", "reml", (None, -0.714532342158, 0.559681389843)),
        ("ablat + (1 | trial)", "reml", (None, 0.25146821000695, 0.27631135328813)),
    ],
)
def test_meta_analyses_agree_with_metafor(formula, method, expected):
    """R's metafor 3.8-1, rma(yi, sei = sei, mods = ~ ablat); its REML has another constant."""
    fit = gb.Model(f"yi | se(sei) ~ {formula}", BCG).fit(method)
    loglik, intercept, tau = expected
    if loglik is not None:
        assert fit.loglik == pytest.approx(loglik, abs=1e-7)
    assert fit.theta["beta[Intercept]"] == pytest.approx(intercept, abs=2e-6)
    assert fit.theta["sd_trial[Intercept]"] == pytest.approx(tau, rel=1e-5)
    assert "sigma" not in fit.theta


def test_what_varies_beyond_the_errors_may_be_sigma():
    fit = gb.Model("yi | se(sei, sigma=True) ~ 1", BCG).fit("ml")
    assert fit.loglik == pytest.approx(-12.665076348277, abs=1e-7)
    assert fit.theta["sigma"] == pytest.approx(0.529176848765, rel=1e-5)


def expansions(model, eta, order):
    family, response = model.family, model.design.response
    links, names = model.links, [p.name for p in family.parameters]
    return expand(family, links, names, response.y, response.given, None, eta, order)


def whole(name):
    """Round times for a count."""
    family = FAMILIES[name]
    return AML.assign(time=np.minimum(AML["time"], 60.0)) if family.discrete else AML


@pytest.mark.parametrize("extras", ["censored(within, until)", "truncated(2, 200)"])
@pytest.mark.parametrize("name", TAILED)
def test_derivatives_are_those_of_the_value(name, extras):
    """Each order's differences are the next: central ones, of order h^4."""
    model = gb.Model(f"time | {extras} ~ 1", whole(name), family=name)
    links = {p.name: model.links[p.name] for p in model.family.parameters}
    middle = [1.3 if link.name == "logm1" else 0.4 for link in links.values()]
    middle[0] = float(model.links["mu"].linkfun(25.0)) if model.links["mu"].name == "log" else 3.0
    rng, n, h = np.random.default_rng(4), 23, 1e-3
    eta = np.array(middle)[:, None] + rng.normal(scale=0.05, size=(len(middle), n))
    found = expansions(model, eta, 3)
    for k in range(len(middle)):
        step = np.zeros_like(eta)
        step[k] = h
        ups = [expansions(model, eta + s * step, 2) for s in (-2, -1, 1, 2)]
        for order, part in enumerate(("value", "first", "second")):
            a, b, c, d = (getattr(up, part) for up in ups)
            quotient = (8 * (c - b) - (d - a)) / (12 * h)
            exact = (found.first, found.second, found.third)[order][k]
            scale = 1e-6 * (1 + np.abs(getattr(found, part)).max())
            np.testing.assert_allclose(exact, quotient, rtol=1e-5, atol=scale)


READERS = {
    "right": ("weibull", "time | censored(seen)"),
    "interval": ("gamma", "time | censored(within, until)"),
    "left and window": ("lognormal", "time | censored(before) + truncated(lb=1, ub=170)"),
    "counts": ("poisson", "time | truncated(lb=1)"),
    "errors": ("gaussian", "time | se(until2)"),
    "errors and sigma": ("student", "time | se(until2, sigma=True) + weights(w)"),
}


@pytest.mark.parametrize("case", READERS)
def test_arrays_and_pymc_have_one_density(case):
    name, response = READERS[case]
    data = AML.assign(until2=1 + AML["time"] / 10, w=0.5 + AML["z"], time=AML["time"] / 4)
    if name == "poisson":
        data["time"] = np.ceil(data["time"])
    model = gb.Model(f"{response} ~ z + (1 | g)", data, family=name)
    check_arrays_and_kernels(model)
    check_pymc(model)


def test_random_effects_of_censored_times_against_brute_force():
    """Each group's effect integrated over a fine grid."""
    model = gb.Model("time | censored(seen) ~ z + (1 | g)", AML, family="weibull")
    fit = model.fit("ml", nagq=15)
    b0, b1, sd, alpha = fit.theta.to_numpy()
    nodes = np.linspace(-8, 8, 2001)
    mean = np.exp(b0 + b1 * AML["z"].to_numpy()[:, None] + sd * nodes)
    times = stats.weibull_min(alpha, scale=mean / np.exp(gammaln(1 + 1 / alpha)))
    t, seen = AML[["time"]].to_numpy(), AML[["status"]].to_numpy() == 1
    rows = np.where(seen, times.logpdf(t), times.logsf(t))
    total = 0.0
    for level in np.unique(AML["g"]):
        log = rows[AML["g"] == level].sum(axis=0) + stats.norm.logpdf(nodes)
        total += logsumexp(log) + np.log(nodes[1] - nodes[0])
    assert fit.loglik == pytest.approx(total, abs=1e-5)


def test_a_window_is_that_of_scipys_truncnorm():
    rng = np.random.default_rng(5)
    y = stats.truncnorm(-0.5, 1.5, 1.0, 2.0).rvs(300, random_state=rng)
    data = pd.DataFrame({"y": y, "low": 0.0})
    model = gb.Model("y | truncated(low, 4) ~ 1", data)
    fit = model.fit("ml")
    mu, sigma = fit.theta.to_numpy()
    truth = stats.truncnorm((0 - mu) / sigma, (4 - mu) / sigma, mu, sigma)
    assert fit.loglik == pytest.approx(truth.logpdf(y).sum(), abs=1e-6)
    drawn = fit.simulate(50, seed=1)
    assert drawn.min() >= 0
    assert drawn.max() <= 4
    assert stats.kstest(fit.residuals(), "norm").pvalue > 0.01
    assert fit.predict(data.head(2), kind="response", seed=1)["upper"].max() <= 4


def test_counts_without_zeros():
    rng = np.random.default_rng(6)
    y = rng.poisson(1.5, 500)
    data = pd.DataFrame({"y": y[y > 0]})
    fit = gb.Model("y | truncated(lb=1) ~ 1", data, family="poisson").fit("ml")
    mu = np.exp(fit.theta["beta[Intercept]"])
    expected = stats.poisson(mu).logpmf(data["y"]).sum() - len(data) * np.log(-np.expm1(-mu))
    assert fit.loglik == pytest.approx(expected, abs=1e-8)
    # The maximum is where the mean of the positive counts is the sample's.
    assert mu / -np.expm1(-mu) == pytest.approx(data["y"].mean(), rel=1e-6)


def test_quantile_residuals_of_censored_rows_are_normal():
    rng = np.random.default_rng(7)
    time, end = rng.weibull(1.4, 800) * 10, rng.uniform(2, 25, 800)
    data = pd.DataFrame({"t": np.minimum(time, end), "c": np.where(time > end, 1, 0)})
    fit = gb.Model("t | censored(c) ~ 1", data, family="weibull").fit("ml")
    assert stats.kstest(fit.residuals(), "norm").pvalue > 0.01


def test_nuts_sees_the_same_rows():
    model = gb.Model("time | censored(seen) ~ z", AML, family="weibull")
    fit = model.fit("nuts", seed=3, draws=300, tune=300, chains=2, progressbar=False)
    ml = model.fit("ml").fixef()
    gap = (fit.fixef()["estimate"] - ml["estimate"]) / ml["std_error"]
    assert np.abs(gap).max() < 0.5


def test_a_subset_of_the_rows():
    some = gb.Model("time | subset(z == 1) ~ 1", AML)
    assert some.nobs == 12
    assert some.fit("ml").loglik == pytest.approx(
        gb.Model("time ~ 1", AML[AML["z"] == 1]).fit("ml").loglik
    )


def test_a_fit_is_saved_and_comes_back(tmp_path):
    fit = gb.Model("yi | se(sei) ~ 1 + (1 | trial)", BCG).fit("ml")
    fit.save(tmp_path / "fit.gb")
    back = gb.load(tmp_path / "fit.gb")
    assert back.model.design.response.view.error == pytest.approx(BCG["sei"].to_numpy())
    pd.testing.assert_frame_equal(back.predict(), fit.predict())


@pytest.mark.parametrize(
    ("formula", "family", "error", "words"),
    [
        ("time | censored(g) ~ z", "weibull", DataError, "should be 'left', 'right', 'interval'"),
        ("time | censored(within) ~ z", "weibull", DataError, "give their upper ends too"),
        ("time | truncated(10, 40) ~ z", "weibull", DataError, "truncated to 10 to 40, but row 0"),
        ("time | truncated(low=1) ~ z", "weibull", FormulaError, "no argument 'low'"),
        ("time | se(z) ~ 1", "gaussian", DataError, "must be positive"),
        ("time | se(time) ~ 1", "weibull", NotSupportedError, "take family='gaussian'"),
        ("time | se(time, sigma=z) ~ 1", "gaussian", FormulaError, "True or False"),
        ("status | censored(seen) ~ z", "bernoulli", NotSupportedError, "take one of gaussian"),
        ("time | subset(time) ~ z", "gaussian", DataError, "True or False in every row"),
        ("time | subset(z > 2) ~ z", "gaussian", DataError, "keeps no row"),
    ],
)
def test_what_does_not_fit_is_said(formula, family, error, words):
    with pytest.raises(error, match=words):
        gb.Model(formula, AML, family=family)


def test_new_rows_with_errors_that_are_not_known():
    fit = gb.Model("yi | se(sei) ~ 1", BCG).fit("ml")
    assert len(fit.predict(BCG.head(2))) == 2
    with pytest.raises(NotSupportedError, match="those of new rows are not known"):
        fit.predict(BCG.head(2), kind="response", seed=1)


def test_other_responses_would_be_censored_otherwise():
    fit = gb.Model("time | censored(seen) ~ z", AML, family="weibull").fit("ml")
    with pytest.raises(NotSupportedError, match="does not say"):
        fit.refit(AML["time"])
    with pytest.raises(NotSupportedError, match="kind='cases'"):
        fit.confint(method="bootstrap", nsim=20, seed=1)


def test_a_bootstrap_keeps_the_errors():
    """Of a mean with known errors: normal, with the inverse of the summed precisions."""
    fit = gb.Model("yi | se(sei) ~ 1", BCG).fit("ml")
    found = fit.confint(method="bootstrap", nsim=400, seed=1)
    sd = 1 / np.sqrt((1 / BCG["sei"] ** 2).sum())
    width = (found["upper"] - found["lower"]).iloc[0]
    assert width == pytest.approx(2 * 1.96 * sd, rel=0.15)
