"""Degrees of freedom against lmerTest, pbkrtest, closed forms and dense matrices."""

import numpy as np
import pandas as pd
import pytest
from references import factor, table

import glmm_bayes as gb
from glmm_bayes.errors import NotSupportedError, UnknownNameError
from glmm_bayes.verbs.ddf import small_sample

SLEEP = "Reaction ~ Days + (1 + Days | Subject)"


def sleepstudy():
    return gb.load_dataset("sleepstudy")


def unbalanced():
    """Some of sleepstudy's rows, with another factor across the subjects."""
    data = sleepstudy().assign(item=factor(np.arange(180) % 7), f=factor(np.arange(180) % 3))
    return data.iloc[[i for i in range(140) if i % 10 < 3 + (i // 10) % 6]]


MODELS = {
    "slopes": "Reaction ~ Days * f + (1 + Days | Subject)",
    "crossed": "Reaction ~ Days + f + (1 | Subject) + (0 + Days | Subject) + (1 | item)",
    "symmetric": "Reaction ~ Days + cs(0 + f | Subject)",
    "toeplitz": "Reaction ~ Days + toep(0 + f | Subject)",
    "autoregressive": "Reaction ~ Days + ar1(0 + f | Subject)",
    "factor-analytic": "Reaction ~ Days + rr(0 + f | Subject, d=1)",
    "dispersion": ["Reaction ~ Days + (1 | Subject)", "sigma ~ f"],
}


def dense_covariance(fit, x):
    """V at coordinates x, from the design, row by row."""
    model, c = fit.model, fit.mode.coordinates
    sigma = c.split(x)[1]
    eta = np.full(model.nobs, sigma[0])
    if "sigma" in model.design.predictors:
        predictor = model.design.predictors["sigma"]
        eta = (predictor.X - model.means("sigma")) @ sigma
    V = np.diag(np.exp(2 * eta))
    for term, L in zip(model.design.terms, c.Lambdas(x), strict=True):
        Z = term.Z("mu").toarray()
        V += Z @ np.kron(np.eye(len(term.levels)), L @ L.T) @ Z.T
    return V


def dense_criterion(fit, x, *, restricted):
    """The (restricted) log likelihood, without constants."""
    V, X, y = dense_covariance(fit, x), fit.model.design.predictors["mu"].X, fit.model.design.y
    inner = np.linalg.inv(V)
    precision = X.T @ inner @ X
    r = y - X @ np.linalg.solve(precision, X.T @ inner @ y)
    found = np.linalg.slogdet(V)[1] + r @ inner @ r
    return -0.5 * (found + restricted * np.linalg.slogdet(precision)[1])


@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore::glmm_bayes.errors.SingularFitWarning")
def test_satterthwaite_agrees_with_differences_of_dense_matrices(name, method):
    fit = gb.Model(MODELS[name], unbalanced()).fit(method)
    L = np.eye(len(fit.fixef()))[: len(fit.model.design.predictors["mu"].names)]
    X, c = fit.model.design.predictors["mu"].X, fit.mode.coordinates
    at = [
        k
        for k in range(len(fit.mode.x))
        if k >= c.coefficients[1].start and not c.idle(fit.mode.x)[k]
    ]
    steps = np.nan_to_num(2e-3 * np.sqrt(np.diag(fit.mode.covariance)))

    def vcov(x):
        return np.linalg.inv(X.T @ np.linalg.solve(dense_covariance(fit, x), X))

    def moved(*by):
        return fit.mode.x + sum(steps * (np.arange(len(steps)) == k) * s for k, s in by)

    def value(*by):
        return dense_criterion(fit, moved(*by), restricted=method == "reml")

    k = len(L)
    slopes = [(vcov(moved((i, 1))) - vcov(moved((i, -1)))) / (2 * steps[i]) for i in at]
    H = np.array(
        [
            [
                (value((i, 10), (j, 10)) - value((i, 10), (j, -10)) - value((i, -10), (j, 10))
                 + value((i, -10), (j, -10))) / (400 * steps[i] * steps[j])
                for j in at
            ]
            for i in at
        ]
    )  # fmt: skip
    f = np.diag(vcov(fit.mode.x))
    g = np.stack([np.diag(s) for s in slopes], axis=1)
    expected = 2 * f**2 / np.einsum("km,mn,kn->k", g, np.linalg.inv(-H), g)
    found = small_sample(fit, "satterthwaite")
    np.testing.assert_allclose(found.covariance[:k, :k], vcov(fit.mode.x), rtol=1e-6)
    np.testing.assert_allclose(found.df(L), expected, rtol=2e-3)


def test_without_random_effects_t_is_exact():
    """R's lm of sleepstudy: standard errors 6.610154 and 1.238195, 178 degrees of freedom."""
    for method in ("ml", "reml"):
        fit = gb.Model("Reaction ~ Days", sleepstudy()).fit(method)
        found = fit.ttest()
        np.testing.assert_allclose(found["std_error"], [6.610154, 1.238195], rtol=1e-6)
        np.testing.assert_allclose(found["df"], 178, rtol=1e-9)


def test_what_is_balanced_has_whole_degrees_of_freedom():
    """18 subjects, all with the same days: 17 for intercept and slope, and 18 by 'ml'."""
    for method, expected in (("reml", 17), ("ml", 18)):
        df = gb.Model(SLEEP, sleepstudy()).fit(method).ttest()["df"]
        np.testing.assert_allclose(df, expected, rtol=1e-6)


def tables():
    """The models of which the references have degrees of freedom, by case and block."""
    oats = gb.load_dataset("oats").rename(columns={"yield": "Yield"})
    months = ["Nov", "Jan"]
    return {
        ("lmm_machines_ddf", "ddf_vector"): (
            "score ~ Machine + (Machine | Worker)", table("machines")(), {"Machine": [1, 2]}),
        ("lmm_machines_ddf", "ddf_nested"): (
            "score ~ Machine + (1 | Worker/Machine)", table("machines")(), {"Machine": [1, 2]}),
        ("lmm_oats_emmeans", "ddf"): (
            "Yield ~ fN + Variety + (1 | Block/Variety)",
            oats.assign(fN=factor(oats["nitro"])), {"fN": [1, 2, 3], "Variety": [4, 5]}),
        ("lmm_starling", "ddf"): (
            "stmass ~ mnth * roostsitu + (1 | subject)", starling(months), {}),
    }  # fmt: skip


def starling(months):
    data = gb.load_dataset("starling")
    sites = ["tree", "nest-box", "inside", "other"]
    return data.assign(
        mnth=pd.Categorical(data["mnth"], months),
        roostsitu=pd.Categorical(data["roostsitu"], sites),
    )


@pytest.mark.usefixtures("shared_data")
@pytest.mark.parametrize("case", ["lmm_machines_ddf", "lmm_oats_emmeans", "lmm_starling"])
@pytest.mark.parametrize(("ddf", "block"), [("satterthwaite", "Satterthwaite")])
def test_agrees_with_lmer_test(reference, case, ddf, block):
    """lmerTest 3.1-3, whose Hessian of the variances has four digits where they are many."""
    theirs = reference(case)
    for (name, part), (formula, data, _) in tables().items():
        if name != case:
            continue
        found = gb.Model(formula, data).fit("reml").ttest(ddf)
        expected = pd.DataFrame(theirs[part][block]["coef"]).T
        np.testing.assert_allclose(found["estimate"], expected["estimate"], rtol=1e-5)
        np.testing.assert_allclose(found["std_error"], expected["se"], rtol=2e-4)
        np.testing.assert_allclose(found["df"], expected["df"], rtol=3e-4)
        np.testing.assert_allclose(found["p_value"], expected["p"], atol=1e-4)


def test_names_are_checked():
    fit = gb.Model("Reaction ~ Days + (1 | Subject)", sleepstudy()).fit("ml")
    with pytest.raises(UnknownNameError, match="no method for degrees of freedom 'satterthwate'"):
        fit.ttest("satterthwate")
    slow = sleepstudy().assign(slow=lambda d: d["Reaction"] > 300)
    binary = gb.Model("slow ~ Days + (1 | Subject)", slow, "bernoulli").fit("ml")
    assert np.isinf(binary.ttest()["df"]).all()
    with pytest.raises(NotSupportedError, match="inner-outer"):
        binary.ttest("satterthwaite")
