"""Degrees of freedom where the levels of a term depend on each other."""

import numpy as np
import pytest

import glmm_bayes as gb
from glmm_bayes.modes.normal import read_normal
from glmm_bayes.modes.structured import read_margin
from glmm_bayes.verbs.ddf import small_sample


@pytest.fixture(scope="module")
def rows():
    return gb.load_dataset("sleepstudy").iloc[:70]


def covariance(fit, x):
    """V of an ar1 along whole days, written out."""
    c, data = fit.mode.coordinates, fit.model.data
    sd = abs(c.Lambdas(x)[0][0, 0])
    rho = c.term_theta(0, x)["rho"][0]
    days = data["Days"].to_numpy()
    same = np.equal.outer(data["Subject"].to_numpy(), data["Subject"].to_numpy())
    sigma = np.exp(c.split(x)[1][0])
    return same * sd**2 * rho ** abs(np.subtract.outer(days, days)) + sigma**2 * np.eye(len(days))


@pytest.mark.parametrize("method", ["ml", "reml"])
def test_satterthwaite_along_time_agrees_with_dense_differences(rows, method):
    fit = gb.Model("Reaction ~ Days + ar1(Days | Subject)", rows).fit(method)
    X, y, x0 = fit.model.design.predictors["mu"].X, fit.model.design.y, fit.mode.x
    at = range(2, len(x0))
    steps = 0.02 * np.sqrt(np.diag(fit.mode.covariance)) * np.eye(len(x0))

    def vcov(x):
        return np.linalg.inv(X.T @ np.linalg.solve(covariance(fit, x), X))

    def criterion(x):
        V = covariance(fit, x)
        inner = np.linalg.inv(V)
        r = y - X @ vcov(x) @ X.T @ inner @ y
        found = np.linalg.slogdet(V)[1] + r @ inner @ r
        return -0.5 * (found - (method == "reml") * np.linalg.slogdet(vcov(x))[1])

    def second(i, j):
        a, b = steps[i], steps[j]
        ahead = criterion(x0 + a + b) - criterion(x0 + a - b)
        return (ahead - criterion(x0 - a + b) + criterion(x0 - a - b)) / (4 * a[i] * b[j])

    slopes = [
        np.diag(vcov(x0 + 0.1 * steps[i]) - vcov(x0 - 0.1 * steps[i])) / (0.2 * steps[i][i])
        for i in at
    ]
    H = np.array([[second(i, j) for j in at] for i in at])
    f, g = np.diag(vcov(x0)), np.transpose(slopes)
    expected = 2 * f**2 / np.einsum("km,mn,kn->k", g, np.linalg.inv(-H), g)
    found = small_sample(fit, "satterthwaite")
    np.testing.assert_allclose(np.diag(found.covariance), f, rtol=1e-6)
    np.testing.assert_allclose(found.df(np.eye(2)), expected, rtol=2e-3)


def test_kenward_roger_does_not_depend_on_the_parameters(rows):
    """A correlation from day to day, or a rate at which it is lost: the same model."""
    found = [
        gb.Model(f"Reaction ~ Days + {name}(Days | Subject)", rows)
        .fit("reml")
        .ttest("kenward-roger")
        for name in ("ar1", "ou")
    ]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


def test_matrices_of_all_effects_agree_with_sums_over_levels(rows):
    """Of independent levels, both ways."""
    fit = gb.Model("Reaction ~ Days + (1 + Days | Subject)", rows).fit("reml")
    other = gb.Model("Reaction ~ Days + relmat(1 + Days | Subject, K)", rows,
                     context={"K": identity(rows["Subject"])}).fit("reml")  # fmt: skip
    ours, theirs = read_normal(fit.mode), read_margin(other.mode)
    np.testing.assert_allclose(ours.covariance, theirs.covariance, rtol=1e-5)
    dfs = [f.ttest(ddf)["df"] for ddf in ("satterthwaite", "kenward-roger") for f in (fit, other)]
    np.testing.assert_allclose(dfs[0], dfs[1], rtol=1e-4)
    np.testing.assert_allclose(dfs[2], dfs[3], rtol=1e-4)


def identity(groups):
    import pandas as pd

    names = pd.unique(groups.astype(str))
    return pd.DataFrame(np.eye(len(names)), index=names, columns=names)


def test_sandwiches_along_time_agree_with_a_slope_that_a_process_cannot_tell_from(rows):
    """Of a walk that never turns back, rho = 1 of ar1 being an intercept: the same covariance."""
    along = gb.Model("Reaction ~ Days + ar1(Days | Subject)", rows, priors={
        "rho_Subject": gb.Prior.fixed(1 - 1e-9)}).fit("reml")  # fmt: skip
    plain = gb.Model("Reaction ~ Days + (1 | Subject)", rows).fit("reml")
    for kind in ("CR0", "CR2"):
        np.testing.assert_allclose(along.vcov(kind), plain.vcov(kind), rtol=1e-4)
    np.testing.assert_allclose(along.ttest("CR2")["df"], plain.ttest("CR2")["df"], rtol=1e-4)
