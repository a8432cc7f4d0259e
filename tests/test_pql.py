"""fit("pql"): beside MASS::glmmPQL run to its end, a dense step, and maximum likelihood."""

import math
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import expit

import glmm_bayes as gb

CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
CULCITA = "predation ~ ttt + (1 | block)"
EPIL = "y ~ lbase * trt + lage + V4 + (1 | subject)"
SLEEP = "Reaction ~ Days + (1 + Days | Subject)"
OWLS = "SiblingNegotiation ~ FoodTreatment * SexParent"


def ticks():
    return gb.load_dataset("grouseticks").assign(YEAR=lambda d: pd.Categorical(d["YEAR"]))


def culcita():
    return gb.load_dataset("culcita")


@dataclass(frozen=True)
class Fitted:
    """
    What MASS 7.3-58.2 gives: R 4.2.2, nlme 3.1-162.

    glmmPQL with its tolerance 1e-6 replaced by 1e-14, niter=400 and lmeControl(tolerance=1e-12,
    msTol=1e-14, reltol=1e-15); `errors` are the roots of the diagonal of varFix, which nlme does
    not inflate.
    """

    formula: str
    family: str
    table: str
    beta: list[float]
    errors: list[float]
    sd: list[float]
    sigma: float
    link: str | None = None
    corr: list[float] = field(default_factory=list)


IN_R = {
    "cbpp": Fitted(
        CBPP, "binomial", "cbpp",
        [-1.327356922, -1.016136085, -1.149993671, -1.605228038],
        [0.2303168413, 0.3550071671, 0.3793832616, 0.4990075075], [0.5563267], 1.18455399,
    ),
    "epil": Fitted(
        EPIL, "poisson", "epil",
        [1.8696682867, 0.8818232324, -0.3095248200, 0.5335482692, -0.1597696006, 0.3415430749],
        [0.10421087587, 0.12762907104, 0.14713592902, 0.34187783716, 0.07646167407, 0.20073046900],
        [0.4442665], 1.400814897,
    ),
    "offset": Fitted(
        "y ~ trt + V4 + offset(lbase) + (1 | subject)", "poisson", "epil",
        [1.8719361678, -0.2939051594, -0.1597696006],
        [0.10734339581, 0.14857932101, 0.07604025076], [0.4715009], 1.393094218,
    ),
    "nested": Fitted(
        "TICKS ~ YEAR + cHEIGHT + (1 | LOCATION/BROOD)", "poisson", "grouseticks",
        [0.72730899969, 1.01344064485, -0.98475826789, -0.02164979262],
        [0.182563721025, 0.216523534376, 0.255677143630, 0.003380245585],
        [0.5543877, 0.6318378], 1.471562796,
    ),
    "gamma": Fitted(
        SLEEP, "gamma", "sleepstudy", [5.53203985690, 0.03383537671],
        [0.026284413326, 0.004630940256], [0.10090899, 0.01752047], 0.08075867222, corr=[-0.03],
    ),
    "gaussian, log": Fitted(
        SLEEP, "gaussian", "sleepstudy", [5.53431370433, 0.03391484838],
        [0.026241010060, 0.004531884962], [0.09653209, 0.01665816], 25.54435389, "log", [0.028],
    ),
    "gaussian, inverse": Fitted(
        "Reaction ~ Days + (1 | Subject)", "gaussian", "sleepstudy",
        [0.003973754881, -0.000120251635], [1.175617103e-04, 8.027173821e-06], [4.477807e-04],
        28.41809716, "inverse",
    ),
    "inverse gaussian": Fitted(
        "Reaction ~ Days + (1 | Subject)", "inverse_gaussian", "sleepstudy",
        [5.53801416186, 0.03258820985], [0.031597670597, 0.002498255324], [0.122578241],
        0.005629483551,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", list(IN_R))
def test_it_agrees_with_glmmpql(case, shared_data):
    theirs = IN_R[case]
    data = ticks() if theirs.table == "grouseticks" else gb.load_dataset(theirs.table)
    fit = gb.Model(theirs.formula, data, theirs.family, theirs.link).fit("pql", seed=1)
    ours, spread = fit.fixef(), fit.varcorr()
    np.testing.assert_allclose(ours["estimate"], theirs.beta, rtol=1e-4)
    np.testing.assert_allclose(ours["std_error"], theirs.errors, rtol=1e-4)
    sd = spread[(spread["kind"] == "sd") & (spread["structure"] != "")]
    # R prints the terms of nested groups from the outside in, as we list them.
    np.testing.assert_allclose(sd["estimate"], theirs.sd, rtol=1e-4)
    np.testing.assert_allclose(spread[spread["kind"] == "corr"]["estimate"], theirs.corr, atol=5e-3)
    assert fit.mode.scale == pytest.approx(theirs.sigma, rel=1e-5)
    assert fit.converged


def test_epil_is_as_published(shared_data, reference):
    """Standard errors larger by the root of n / (n - k), as nlme makes them."""
    theirs = next(f for f in reference("glmm_epil")["fits"] if f["label"] == "PQL")
    fit = gb.Model(EPIL, gb.load_dataset("epil"), "poisson").fit("pql", seed=1)
    ours = fit.fixef()
    beta = [part["estimate"] for part in theirs["fixef"].values()]
    errors = [part["se"] for part in theirs["fixef"].values()]
    np.testing.assert_allclose(ours["estimate"], beta, atol=1e-3)
    inflated = ours["std_error"] * math.sqrt(236 / (236 - 6))
    np.testing.assert_allclose(inflated, errors, rtol=1e-3)
    assert fit.mode.scale == pytest.approx(theirs["sigma"], rel=1e-3)


# ---- a step of our own, on dense matrices: random intercepts of a Bernoulli response


def dense_step(eta, y, X, Z):
    """Fit the working response by maximum likelihood; give eta, the coefficients, sd and sigma."""
    mu = expit(eta)
    w = mu * (1 - mu)
    z = eta + (y - mu) / w

    def fitted(ratio):
        V = ratio**2 * Z @ Z.T + np.diag(1 / w)
        Vi = np.linalg.inv(V)
        beta = np.linalg.solve(X.T @ Vi @ X, X.T @ Vi @ z)
        r = z - X @ beta
        sigma2 = r @ Vi @ r / len(y)
        deviance = len(y) * np.log(sigma2) + np.linalg.slogdet(V)[1]
        return deviance, beta, np.sqrt(sigma2), ratio**2 * Z @ (Z.T @ (Vi @ r))

    ratio = minimize_scalar(
        lambda t: fitted(t)[0], bounds=(0.01, 20), method="bounded", options={"xatol": 1e-10}
    ).x
    _, beta, sigma, effects = fitted(ratio)
    return X @ beta + effects, beta, ratio * sigma, sigma


def dense_parts(model):
    design = model.design
    return design.y, design.predictors["mu"].X, design.terms[0].Z("mu").toarray()


def eta_of(fit):
    """The predictor in the order of the rows."""
    eta = np.empty(fit.nobs)
    eta[fit.mode.factor.spread.system.order] = fit.mode.eta[0]
    return eta


def test_a_dense_step_stays_where_it_ends(shared_data):
    model = gb.Model(CULCITA, culcita(), "bernoulli")
    fit = model.fit("pql", seed=1)
    eta, beta, sd, sigma = dense_step(eta_of(fit), *dense_parts(model))
    np.testing.assert_allclose(eta, eta_of(fit), atol=1e-4)
    np.testing.assert_allclose(fit.fixef()["estimate"], beta, atol=1e-4)
    assert fit.varcorr()["estimate"].iloc[0] == pytest.approx(sd, abs=1e-4)
    assert fit.mode.scale == pytest.approx(sigma, abs=1e-4)


def test_culcita_is_between_the_ends_that_glmmpql_swings_between(shared_data, reference):
    """
    Whole steps do not settle on these data, and glmmPQL stops after ten at one of two ends.

    In R, as in `Fitted`: niter=200 and niter=201 give the two ends, and half steps (our own loop
    around nlme::lme) the point between.
    """
    model = gb.Model(CULCITA, culcita(), "bernoulli")
    fit = model.fit("pql", seed=1)
    between = [3.291145356, -2.607826598, -2.991898220, -3.734091901]
    np.testing.assert_allclose(fit.fixef()["estimate"], in_order(between, model), rtol=1e-5)
    assert fit.varcorr()["estimate"].iloc[0] == pytest.approx(2.096810, rel=1e-5)
    assert fit.mode.scale == pytest.approx(1.190009716, rel=1e-5)

    eta, ends = eta_of(fit) + 0.1, []
    for _ in range(120):
        eta, beta, sd, sigma = dense_step(eta, *dense_parts(model))
        ends = [*ends[-1:], (sigma, sd, beta[0])]
    one, other = sorted(ends)
    np.testing.assert_allclose(one, [1.02522612, 2.15385300, 3.42519112], rtol=1e-5)
    np.testing.assert_allclose(other, [1.30612258, 1.93507900, 3.03694957], rtol=1e-5)
    published = next(f for f in reference("talk_culcita_methods")["fits"] if f["label"] == "PQL")
    assert published["sigma"] == pytest.approx(one[0], abs=2e-3)


def in_order(beta, model):
    """Put R's coefficients, of none, crabs, shrimp and both, in the order of ours."""
    named = dict(
        zip(("Intercept", "ttt[T.crabs]", "ttt[T.shrimp]", "ttt[T.both]"), beta, strict=True)
    )
    return [named[name] for name in model.design.predictors["mu"].names]


# ---- where it is maximum likelihood, or least squares


def test_of_a_gaussian_response_it_is_maximum_likelihood():
    model = gb.Model(SLEEP, gb.load_dataset("sleepstudy"))
    quasi, exact = model.fit("pql", seed=1), model.fit("ml", seed=1)
    np.testing.assert_allclose(quasi.mode.theta, exact.mode.theta, rtol=1e-5)
    error = np.sqrt(np.diag(exact.mode.covariance))
    np.testing.assert_allclose(
        quasi.mode.covariance / np.outer(error, error),
        exact.mode.covariance / np.outer(error, error),
        atol=2e-3,
    )
    np.testing.assert_allclose(quasi.ranef()["estimate"], exact.ranef()["estimate"], atol=1e-3)
    np.testing.assert_allclose(quasi.ranef()["std_error"], exact.ranef()["std_error"], rtol=2e-3)


def test_a_lognormal_response_is_fitted_as_its_logarithm():
    data = gb.load_dataset("sleepstudy")
    one = gb.Model(SLEEP, data, "lognormal").fit("pql", seed=1)
    other = gb.Model("np.log(Reaction) ~ Days + (1 + Days | Subject)", data).fit("ml", seed=1)
    np.testing.assert_allclose(one.mode.theta, other.mode.theta, rtol=1e-5)


def test_without_random_terms_it_is_quasi_poisson_regression(shared_data):
    """R's glm(family = quasipoisson); the dispersion is Pearson's over n and not n - k."""
    fit = gb.Model(OWLS, gb.load_dataset("owls"), "poisson").fit("pql", seed=1)
    beta = [1.9824022255041, -0.4233951666969, 0.1838920511408, -0.0741112731295]
    np.testing.assert_allclose(fit.fixef()["estimate"], beta, rtol=1e-6)
    assert fit.mode.scale**2 == pytest.approx(6.62359690638, rel=1e-6)


def test_a_second_parameter_is_set_to_the_dispersion():
    """And its error is the dispersion's: alpha = 1 / sigma^2, so twice that of log sigma."""
    model = gb.Model(SLEEP, gb.load_dataset("sleepstudy"), "gamma")
    fit = model.fit("pql", seed=1)
    assert fit.mode.theta[model.layout["alpha"]] == pytest.approx(fit.mode.scale**-2)
    at = fit.mode.coordinates.coefficients[1].start
    # On the logarithm, sigma's variance is a little more than 1 / (2 (n - effects)).
    error = 0.5 * np.sqrt(fit.mode.covariance[at, at])
    assert 1 / math.sqrt(2 * 180) < error < 1.05 / math.sqrt(2 * (180 - 36))


def test_a_weight_of_two_is_two_rows(shared_data):
    data = gb.load_dataset("epil")
    twice = pd.concat([data, data], ignore_index=True)
    formula = EPIL.replace("y ~", "y | weights(w) ~")
    weighted = gb.Model(formula, data.assign(w=2.0), "poisson").fit("pql", seed=1)
    repeated = gb.Model(EPIL, twice, "poisson").fit("pql", seed=1)
    np.testing.assert_allclose(weighted.mode.theta, repeated.mode.theta, rtol=1e-5)
    assert weighted.mode.scale == pytest.approx(repeated.mode.scale, rel=1e-6)


def test_rows_without_trials_say_nothing():
    data = gb.load_dataset("cbpp")
    empty = pd.concat([data, data.iloc[:3].assign(incidence=0, size=0)], ignore_index=True)
    one, other = (gb.Model(CBPP, d, "binomial").fit("pql", seed=1) for d in (data, empty))
    # They count for the dispersion's divisor, as any row does.
    assert other.mode.scale < one.mode.scale
    assert other.converged


# ---- what it says, and what it refuses


@pytest.fixture(scope="module")
def cbpp_pql():
    return gb.Model(CBPP, gb.load_dataset("cbpp"), "binomial").fit("pql", seed=1)


def test_there_is_no_likelihood(cbpp_pql):
    assert math.isnan(cbpp_pql.loglik)
    assert math.isnan(cbpp_pql.aic)
    assert math.isnan(cbpp_pql.bic)
    assert "biased" in cbpp_pql.mode.notes[0]
    assert "1.403" in cbpp_pql.mode.notes[1]


def test_verbs_answer(cbpp_pql):
    table = cbpp_pql.predict()
    assert table["estimate"].between(0, 1).all()
    assert np.isfinite(cbpp_pql.ranef()["std_error"]).all()
    draws = cbpp_pql.draws.effects["herd"]
    np.testing.assert_allclose(draws[0].ravel(), cbpp_pql.ranef()["estimate"], atol=1e-10)
    assert "herd" in repr(cbpp_pql)


def test_a_saved_fit_comes_back_able_to_predict(cbpp_pql, tmp_path):
    cbpp_pql.save(tmp_path / "fit")
    again, new = gb.load(tmp_path / "fit"), gb.load_dataset("cbpp").iloc[:7]
    for rows in (None, new):
        expected = cbpp_pql.predict(rows)
        # The working response is that of the fixed point, which was reached to 1e-6.
        np.testing.assert_allclose(again.predict(rows), expected, rtol=1e-5)
    assert again.mode.notes == cbpp_pql.mode.notes
    assert np.isnan(again.loglik)


def test_its_summary_says_what_it_is(cbpp_pql):
    text = str(cbpp_pql.summary())
    assert "penalised quasi-likelihood (a fixed point)" in text
    assert "biased where the response is binary" in " ".join(text.split())
    assert "nan" not in text


def test_effects_move_as_the_parameters_do():
    """At the mode, `effects_at` gives the mode's effects again, whatever stands for sigma."""
    data = gb.load_dataset("sleepstudy")
    for family, link in (("gamma", None), ("gaussian", "log"), ("gaussian", None)):
        mode = gb.Model(SLEEP, data, family, link).fit("pql", seed=1).mode
        again = mode.effects_at(mode.x)[0]
        np.testing.assert_allclose(again, mode.effects["Subject"], rtol=1e-6, atol=1e-8)


SECOND = ["Reaction ~ Days + (1 | Subject)", "sigma ~ Days"]
REFUSED = {
    "negbinomial": (EPIL, "epil", {"family": "negbinomial"}, "power of one parameter"),
    "nbinom1": (EPIL, "epil", {"family": "nbinom1"}, "power of one parameter"),
    "beta_binomial": (CBPP, "cbpp", {"family": "beta_binomial"}, "power of one parameter"),
    "student": (SLEEP, "sleepstudy", {"family": "student"}, "power of one parameter"),
    "weibull": (SLEEP, "sleepstudy", {"family": "weibull"}, "power of one parameter"),
    "a second formula": (SECOND, "sleepstudy", {}, "'sigma' has one too"),
    "a number": (SLEEP, "sleepstudy", {"priors": {"sigma": 25.0}}, "holds parameters fixed"),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_what_has_no_quasi_likelihood_is_refused(case, shared_data):
    formula, dataset, options, words = REFUSED[case]
    with pytest.raises(gb.NotSupportedError, match=words) as caught:
        gb.Model(formula, gb.load_dataset(dataset), **options).fit("pql")
    assert "fit('ml')" in str(caught.value)


@pytest.mark.slow
def test_a_level_for_every_row_has_a_fixed_point_too(shared_data):
    """By dense matrices: predictor and coefficients stay, and no other variances are likelier."""
    formula = "TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)"
    model = gb.Model(formula, ticks(), "poisson")
    fit = model.fit("pql", seed=1)
    design, eta = model.design, eta_of(fit)
    y, X, mu = design.y, design.predictors["mu"].X, np.exp(eta)
    z = eta + (y - mu) / mu
    shared = [term.Z("mu").toarray() @ term.Z("mu").toarray().T for term in design.terms]
    found = np.array([*fit.varcorr()["estimate"][:3], fit.mode.scale])

    def solved(sizes):
        between = sum(s**2 * block for s, block in zip(sizes, shared, strict=False))
        V = between + np.diag(sizes[3] ** 2 / mu)
        Vi = np.linalg.inv(V)
        beta = np.linalg.solve(X.T @ Vi @ X, X.T @ Vi @ z)
        r = z - X @ beta
        deviance = np.linalg.slogdet(V)[1] + r @ Vi @ r
        return deviance, beta, X @ beta + between @ Vi @ r

    deviance, beta, again = solved(found)
    np.testing.assert_allclose(again, eta, atol=1e-3)
    np.testing.assert_allclose(fit.fixef()["estimate"], beta, atol=1e-3)
    for k in range(4):
        for change in (0.98, 1.02):
            assert solved(found * np.where(np.arange(4) == k, change, 1.0))[0] > deviance


def test_a_variance_of_zero_is_said(shared_data):
    formula = "shells ~ prev + offset(log(Area)) + C(year) + (1 | Site)"
    with pytest.warns(gb.SingularFitWarning):
        fit = gb.Model(formula, gb.load_dataset("gopher"), "poisson").fit("pql", seed=1)
    assert fit.is_singular


def test_complete_separation_is_said():
    x = np.repeat([-1.0, 1.0], 30)
    data = pd.DataFrame({"x": x, "y": (x > 0).astype(int), "g": [f"g{k % 6}" for k in range(60)]})
    with pytest.raises(gb.ConvergenceError):
        gb.Model("y ~ x + (1 | g)", data, "bernoulli").fit("pql", seed=1)
