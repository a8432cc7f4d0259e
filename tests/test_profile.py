"""Profile likelihood against lme4, glmmTMB, closed forms, and fits with the parameter held."""

import warnings
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq, minimize
from scipy.stats import chi2, norm

import glmm_bayes as gb
from glmm_bayes.errors import (
    ConvergenceWarning,
    DataError,
    NotSupportedError,
    SingularFitWarning,
    UnknownNameError,
)

Z = norm.ppf(0.975)


def fitted(formula, data, family="gaussian", method="ml", **options):
    data = gb.load_dataset(data) if isinstance(data, str) else data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        return gb.Model(formula, data, family).fit(method, **options)


@pytest.fixture(scope="module")
def sleepstudy():
    return fitted("Reaction ~ Days + (1 + Days | Subject)", "sleepstudy")


@pytest.fixture(scope="module")
def cbpp():
    return fitted("incidence | trials(size) ~ period + (1 | herd)", "cbpp", "binomial")


CULCITA = ("predation ~ ttt + (1 | block)", "culcita", "bernoulli")
LME4 = [
    ("inf_sleepstudy_ci_lrt", "ci_profile", 1,
     ("Reaction ~ Days + (1 + Days | Subject)", "sleepstudy", "gaussian")),
    ("inf_cbpp", "ci_profile", 1,
     ("incidence | trials(size) ~ period + (1 | herd)", "cbpp", "binomial")),
    ("glmm_culcita_agq", "ci_profile_Laplace", 1, CULCITA),
    ("glmm_culcita_agq", "ci_profile_nAGQ10", 10, CULCITA),
    ("lmm_dyestuff", "ci_profile", 1, ("Yield ~ 1 + (1 | Batch)", "dyestuff", "gaussian")),
    ("lmm_pastes_nested", "ci_profile", 1,
     ("strength ~ 1 + (1 | batch/cask)", "pastes", "gaussian")),
    ("lmm_penicillin_crossed", "ci_profile", 1,
     ("diameter ~ 1 + (1 | plate) + (1 | sample)", "penicillin", "gaussian")),
]  # fmt: skip
NAMES = {
    "(Intercept)": "Intercept",
    "cor_Days.(Intercept)|Subject": "corr_Subject[Intercept, Days]",
    "sd_(Intercept)|cask:batch": "sd_batch:cask[Intercept]",
}


def our_name(name):
    if name in NAMES:
        return NAMES[name]
    if name.startswith("sd_"):
        column, group = name[3:].split("|")
        return f"sd_{group}[{NAMES.get(column, column)}]"
    for factor in ("period", "ttt"):
        if name.startswith(factor):
            return f"{factor}[T.{name[len(factor) :]}]"
    return name


@pytest.mark.parametrize(("case", "block", "nagq", "model"), LME4, ids=lambda x: str(x)[:24])
def test_intervals_agree_with_lme4(case, block, nagq, model, reference, shared_data):
    theirs = reference(case)[block]["ci"]
    found = fitted(*model, **({"nagq": nagq} if nagq > 1 else {})).confint(method="profile")
    assert len(found) == len(theirs)
    for name, ends in theirs.items():
        ours = found.loc[our_name(name)]
        width = ends["upper"] - ends["lower"]
        assert ours["lower"] == pytest.approx(ends["lower"], abs=2e-4 * width), name
        assert ours["upper"] == pytest.approx(ends["upper"], abs=2e-4 * width), name


def test_negative_binomial_agrees_with_glmmtmb():
    """glmmTMB 1.1.5, confint(method = "uniroot"), nbinom2; theta is the log of the sd."""
    epil = gb.load_dataset("epil")
    found = fitted("y ~ base + trt + (1 | subject)", epil, "negbinomial").confint(method="profile")
    theirs = {
        "Intercept": (0.6771523837, 1.2532028181),
        "base": (0.0211429235, 0.0323420792),
        "trt[T.progabide]": (-0.5940935359, 0.0268218637),
        "sd_subject[Intercept]": tuple(np.exp([-0.9264064642, -0.4193322431])),
    }
    for name, (lower, upper) in theirs.items():
        tolerance = 1e-3 * (upper - lower)
        assert found.loc[name, "lower"] == pytest.approx(lower, abs=tolerance)
        assert found.loc[name, "upper"] == pytest.approx(upper, abs=tolerance)


def test_gamma_agrees_with_glmmtmb():
    """glmmTMB 1.1.5, confint(method = "profile"), Gamma(link = "log")."""
    found = fitted("Reaction ~ Days + (1 | Subject)", "sleepstudy", "gamma")
    found = found.confint(method="profile")
    theirs = {
        "Intercept": (5.4679804033, 5.6000416018),
        "Days": (0.0289009828, 0.0387886029),
        "sd_Subject[Intercept]": tuple(np.exp([-2.4026591065, -1.7008059997])),
    }
    for name, (lower, upper) in theirs.items():
        tolerance = 1e-3 * (upper - lower)
        assert found.loc[name, "lower"] == pytest.approx(lower, abs=tolerance)
        assert found.loc[name, "upper"] == pytest.approx(upper, abs=tolerance)


def test_a_normal_sample_has_intervals_in_closed_form():
    y = np.random.default_rng(1).normal(3.0, 2.0, size=25)
    fit = fitted("y ~ 1", pd.DataFrame({"y": y}))
    found, n = fit.confint(method="profile"), len(y)
    squares = np.sum((y - y.mean()) ** 2)
    half = np.sqrt(squares / n * np.expm1(Z**2 / n))
    assert found.loc["Intercept", "upper"] == pytest.approx(y.mean() + half, rel=1e-6)
    assert found.loc["Intercept", "lower"] == pytest.approx(y.mean() - half, rel=1e-6)

    def fall(sigma):
        return n * np.log(sigma**2 * n / squares) + squares / sigma**2 - n - Z**2

    middle = np.sqrt(squares / n)
    assert found.loc["sigma", "lower"] == pytest.approx(brentq(fall, 0.2, middle), rel=1e-5)
    assert found.loc["sigma", "upper"] == pytest.approx(brentq(fall, middle, 9.0), rel=1e-5)


def test_where_a_variance_is_zero_profiles_leave_the_edge():
    """Against the dense likelihood: lme4 1.1-31 gives 4.3121, 7.0191 for the intercept."""
    data = gb.load_dataset("dyestuff2")
    y, batch = data["Yield"].to_numpy(), pd.Categorical(data["Batch"]).codes
    alike = (batch[:, None] == batch).astype(float)

    def fall(mu):
        def deviance(p):
            V = np.exp(2 * p[1]) * (np.eye(len(y)) + p[0] ** 2 * alike)
            return np.linalg.slogdet(V)[1] + (y - mu) @ np.linalg.solve(V, y - mu)

        options = {"xatol": 1e-9, "fatol": 1e-11, "maxiter": 4000}
        return minimize(deviance, [0.3, 1.3], method="Nelder-Mead", options=options).fun

    low = fall(y.mean())
    ends = [
        brentq(lambda mu: fall(mu) - low - Z**2, *bracket, xtol=1e-6)
        for bracket in ((4.2, 4.6), (6.8, 7.2))
    ]
    found = fitted("Yield ~ 1 + (1 | Batch)", data).confint(method="profile")
    np.testing.assert_allclose(found.loc["Intercept", ["lower", "upper"]], ends, atol=1e-4)
    assert found.loc["sd_Batch[Intercept]", "lower"] == 0
    assert found.loc["sd_Batch[Intercept]", "upper"] == pytest.approx(2.08404349, rel=1e-4)


# ---- a fit with the parameter held is the point of the profile


@pytest.mark.parametrize(
    ("name", "prior"),
    [("Days", "beta[Days]"), ("sd_Subject[Days]", "sd_Subject[Days]"), ("sigma", "sigma")],
)
def test_a_point_of_a_profile_is_a_fit_with_the_parameter_held(sleepstudy, name, prior):
    profile = sleepstudy.profile(name)
    for row in profile.table.iloc[[0, -2]].to_dict("records"):
        data = sleepstudy.model.data
        held = gb.Model(sleepstudy.model.formula.texts[0], data, priors={prior: row[name]})
        fall = sleepstudy.loglik - held.fit("ml").loglik
        assert row["zeta"] ** 2 / 2 == pytest.approx(fall, abs=2e-5)


def test_the_same_for_counts(cbpp):
    profile = cbpp.profile("sd_herd[Intercept]")
    row = profile.table.iloc[1]
    model = gb.Model(
        cbpp.model.formula.texts[0],
        cbpp.model.data,
        "binomial",
        priors={"sd_herd": row["sd_herd[Intercept]"]},
    )
    held = model.fit("ml")
    assert row["zeta"] ** 2 / 2 == pytest.approx(cbpp.loglik - held.loglik, abs=2e-5)
    np.testing.assert_allclose(
        row["Intercept"], held.fixef().loc["Intercept", "estimate"], rtol=1e-3
    )


@pytest.mark.parametrize(
    "formula",
    [
        "Reaction ~ Days + (1 + Days || Subject)",
        "Reaction ~ Days + cs(1 + Days | Subject)",
        "Reaction ~ Days + homcs(1 + Days | Subject)",
        "Reaction ~ Days + ar1(0 + day | Subject)",
        ["Reaction ~ Days + (1 | Subject)", "sigma ~ Days"],
    ],
    ids=str,
)
def test_both_ends_have_the_likelihood_that_the_level_says(formula):
    data = gb.load_dataset("sleepstudy")
    data["day"] = pd.Categorical(data["Days"].astype(int))
    fit = fitted(formula, data)
    found = fit.confint(method="profile", level=0.9)
    assert found.notna().all().all()
    assert (found["lower"] < found["estimate"]).all()
    assert (found["estimate"] < found["upper"]).all()
    whole = fit.profile(level=0.99)
    np.testing.assert_allclose(whole.confint(level=0.9), found, rtol=2e-4, atol=2e-4)


# ---- edges


def rows_of(slopes, noise=1.0):
    rng = np.random.default_rng(1)
    g, x = np.repeat(np.arange(12), 6), np.tile(np.arange(6) - 2.5, 12)
    b = rng.normal(size=12)
    y = 1 + b[g] * (1 + slopes * x) + noise * rng.normal(size=72)
    return pd.DataFrame({"y": y, "x": x, "g": g.astype(str)})


def test_a_perfect_correlation_has_one_open_side():
    fit = fitted("y ~ x + (1 + x | g)", rows_of(0.5))
    assert fit.is_singular
    found = fit.confint(method="profile")
    lower, upper = found.loc["corr_g[Intercept, x]", ["lower", "upper"]]
    assert upper == 1.0
    assert 0 < lower < 0.3
    assert found.notna().all().all()


def test_a_correlation_of_what_may_not_vary_can_be_anything():
    found = fitted("y ~ x + (1 + x | g)", rows_of(0.0)).confint(method="profile")
    assert found.loc["sd_g[x]", "lower"] == 0
    np.testing.assert_array_equal(
        found.loc["corr_g[Intercept, x]", ["lower", "upper"]], [-1.0, 1.0]
    )


def test_a_structure_may_leave_no_choice():
    fit = fitted("Reaction ~ Days + rr(1 + Days | Subject, d=1)", "sleepstudy")
    found = fit.confint(method="profile")
    assert (found.loc["corr_Subject[Intercept, Days]"] == 1.0).all()
    assert any("no other value" in note for note in found.attrs["notes"])


def test_an_end_at_infinity_is_an_answer():
    data = rows_of(0.0)
    data["count"] = np.random.default_rng(2).poisson(3.0, size=len(data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit = fitted("count ~ x + (1 | g)", data, "negbinomial")
    lower, upper = fit.confint(method="profile").loc["alpha", ["lower", "upper"]]
    assert upper == np.inf
    assert np.isfinite(lower)


def test_a_higher_maximum_is_reported(sleepstudy):
    mode = sleepstudy.mode
    lower = replace(mode, x=mode.x + 0.8 * np.sqrt(np.diag(mode.covariance)))
    fit = gb.ModeFit(sleepstudy.model, lower, "ml", 1, 0.0)
    with pytest.warns(ConvergenceWarning, match="not the highest maximum"):
        fit.profile("Days")


# ---- what is said and shown


def test_of_a_restricted_fit_the_likelihood_is_profiled(sleepstudy):
    reml = sleepstudy.model.fit("reml")
    found = reml.confint(method="profile")
    pd.testing.assert_frame_equal(found, sleepstudy.confint(method="profile"), rtol=1e-6)
    assert "not the restricted likelihood" in found.attrs["notes"][0]
    assert "not the restricted likelihood" in " ".join(repr(reml.profile("Days")).split())


def test_of_a_penalised_slope_the_interval_is_its_normal_posterior():
    """All that is not normal is orthogonal to it, or known."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=30)
    x = x - x.mean()
    data = pd.DataFrame({"x": x, "y": 1 + 0.4 * x + rng.normal(size=30)})
    priors = {"beta[x]": gb.Prior("Normal", mu=0.0, sigma=0.15), "sigma": 1.0}
    found = gb.Model("y ~ x", data, priors=priors).fit("map").confint(method="profile", parm="x")
    precision = x @ x + 1 / 0.15**2
    ends = x @ data["y"] / precision + norm.ppf([0.5, 0.025, 0.975]) / np.sqrt(precision)
    np.testing.assert_allclose(found.loc["x"], ends, rtol=1e-4)
    assert "penalised likelihood" in found.attrs["notes"][0]


def test_of_a_penalised_sd_the_ends_are_where_likelihood_and_prior_fall_enough():
    """By dense matrices and SciPy, with the prior of log sd."""
    priors = {
        "sd_Batch[Intercept]": gb.Prior("Gamma", alpha=2.5, beta=0.05),
        "intercept": gb.Prior("Normal", mu=1500.0, sigma=40.0),
        "sigma": 50.0,
    }
    model = gb.Model("Yield ~ 1 + (1 | Batch)", gb.load_dataset("dyestuff"), priors=priors)
    name = "sd_Batch[Intercept]"
    found = model.fit("map").confint(method="profile", parm=name).loc[name]
    y, Z = model.design.y, model.design.terms[0].Z("mu").toarray()

    def height(log_sd):
        sd = np.exp(log_sd)
        V = sd**2 * Z @ Z.T + 50.0**2 * np.eye(30)
        inverse = np.linalg.inv(V)
        weight = inverse.sum() + 1 / 40.0**2
        mean = (inverse.sum(axis=0) @ y + 1500.0 / 40.0**2) / weight
        r = y - mean
        quadratic = r @ inverse @ r + (mean - 1500.0) ** 2 / 40.0**2
        return -0.5 * (np.linalg.slogdet(V)[1] + quadratic) + 2.5 * log_sd - 0.05 * sd

    grid = np.linspace(2.0, 6.0, 4001)
    heights = np.array([height(s) for s in grid])
    top = brentq(
        lambda s: height(s + 1e-5) - height(s - 1e-5),
        *(grid[heights.argmax() + k] for k in (-3, 3)),
    )
    assert found["estimate"] == pytest.approx(np.exp(top), rel=1e-3)
    for end in ("lower", "upper"):
        assert height(top) - height(np.log(found[end])) == pytest.approx(
            norm.ppf(0.975) ** 2 / 2, rel=3e-3
        )


def test_a_fit_without_a_likelihood_is_refused(sleepstudy):
    with pytest.raises(NotSupportedError, match=r"fit\('pql'\) does not maximise a likelihood"):
        sleepstudy.model.fit("pql").confint(method="profile")
    with pytest.raises(UnknownNameError, match="no parameter 'Dayz'. Did you mean 'Days'"):
        sleepstudy.profile("Dayz")


def test_what_is_held_fixed_has_no_profile():
    data = gb.load_dataset("sleepstudy")
    model = gb.Model("Reaction ~ Days + (1 | Subject)", data, priors={"beta[Days]": 10.0})
    found = model.fit("ml").confint(method="profile")
    assert found.index.to_list() == ["Intercept", "sd_Subject[Intercept]", "sigma"]


def test_profiles_are_printed_and_pictured(sleepstudy):
    profile = sleepstudy.profile()
    assert "95% intervals" in repr(profile)
    assert len(profile.plot().axes) == 6
    pairs = profile.plot_pairs()
    assert len(pairs.axes) == 36
    with pytest.raises(DataError, match="for 2 to"):
        sleepstudy.profile("Days").plot_pairs()
    plt.close("all")


def test_contours_of_a_normal_pair_are_ellipses():
    """Coefficients of a large sample: |contour| in the metric of their correlation is tau."""
    rng = np.random.default_rng(3)
    x = rng.normal(1.0, 1.0, size=4000)
    data = pd.DataFrame({"x": x, "y": x + rng.normal(size=4000)})
    profile = fitted("y ~ x", data).profile(["Intercept", "x"])
    from glmm_bayes.verbs.plots.profile_pairs import _Pair

    curves = {name: profile.curve(name) for name in ("Intercept", "x")}
    tau = np.sqrt(chi2.ppf(0.95, 2))
    u, v = _Pair(profile.table, curves, "Intercept", "x").contour(tau)
    r = -x.mean() / np.sqrt(np.mean(x**2))
    np.testing.assert_allclose((u**2 - 2 * r * u * v + v**2) / (1 - r**2), tau**2, rtol=0.01)


def test_an_edge_is_the_model_without_the_column():
    """Where a standard deviation is zero, its correlations are of no consequence either."""
    data = rows_of(0.5)
    fit = fitted("y ~ x + (1 + x | g)", data)
    without = {"x": "y ~ x + (1 | g)", "Intercept": "y ~ x + (0 + x | g)"}
    zeta = {
        name: np.sqrt(2 * (fit.loglik - fitted(formula, data).loglik))
        for name, formula in without.items()
    }
    profile = fit.profile(["sd_g[x]", "sd_g[Intercept]", "corr_g[Intercept, x]"], level=0.5)
    for name, fall in zeta.items():
        walk = profile.branches[f"sd_g[{name}]"][0].walk
        assert walk.at_zero(walk.at_maximum(), -1).zeta == pytest.approx(-fall, abs=1e-4)
    walk = profile.branches["corr_g[Intercept, x]"][0].walk
    assert walk.most == pytest.approx(min(zeta.values()), abs=1e-4)
