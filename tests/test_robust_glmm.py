"""Sandwiches, influence and conditional AIC of other responses: integrals by hand, and cAIC4."""

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import sqrtm
from scipy.special import gammaln, logsumexp
from scipy.stats import binom, multivariate_normal

import glmm_bayes as gb
from glmm_bayes.errors import DataError, NotSupportedError

FORMULA = "incidence | trials(size) ~ period + (1 | herd)"


@pytest.fixture(scope="module")
def herds():
    return gb.Model(FORMULA, gb.load_dataset("cbpp"), "binomial").fit("ml", nagq=25)


@pytest.fixture(scope="module")
def by_hand(herds):
    """Each herd's log likelihood by Gauss-Hermite sums: its slopes, and minus its curvature."""
    design = herds.model.design
    X, y, trials = design.predictors["mu"].X, design.response.y, design.response.trials
    herd = design.terms[0].index[:, 0]
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    log_weights = np.log(weights) - 0.5 * np.log(2 * np.pi)

    def logliks(p):
        eta = (X @ p[:-1])[:, None] + p[-1] * nodes
        rows = binom.logpmf(y[:, None], trials[:, None], 1 / (1 + np.exp(-eta)))
        inside = np.zeros((herd.max() + 1, len(nodes)))
        np.add.at(inside, herd, rows)
        return logsumexp(inside + log_weights, axis=1)

    p = np.append(herds.fixef()["estimate"], herds.varcorr()["estimate"].iloc[0])
    steps = 1e-4 * np.eye(len(p))
    scores = np.stack([(logliks(p + s) - logliks(p - s)) / 2e-4 for s in steps], axis=1)
    steps *= 10

    def bent(a, b):
        corners = [(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]
        return -sum(s * logliks(p + i * a + j * b) for i, j, s in corners) / 4e-6

    return scores, np.array([[bent(a, b) for b in steps] for a in steps])


@pytest.mark.parametrize(("kind", "factor"), [("CR0", 1.0), ("CR1", 15 / 14)])
def test_sandwiches_are_of_each_herds_own_slopes(herds, by_hand, kind, factor):
    scores, curvatures = by_hand
    bread = np.linalg.inv(curvatures.sum(axis=2))
    expected = (bread @ scores.T @ scores @ bread)[:4, :4] * factor
    for cluster in (None, "herd"):
        np.testing.assert_allclose(herds.vcov(kind, cluster=cluster), expected, rtol=2e-3)


def test_an_unbiased_sandwich_weighs_each_herd_by_what_it_leaves(herds, by_hand):
    """Fay & Graubard (2001): scores times (I - A_i V)^-1/2; the df of their sum of squares."""
    scores, curvatures = by_hand
    bread = np.linalg.inv(curvatures.sum(axis=2))
    shares = np.moveaxis(curvatures, 2, 0)
    turns = [np.linalg.inv(sqrtm(np.eye(5) - share @ bread).real) for share in shares]
    moved = np.stack([turn @ s for turn, s in zip(turns, scores, strict=True)]) @ bread
    expected = (moved.T @ moved)[:4, :4]
    np.testing.assert_allclose(herds.vcov("CR2"), expected, rtol=5e-3)
    # How the herds' parts vary together if each score is its share of a normal sum.
    weights = np.stack([bread[1] @ turn for turn in turns])
    own = np.einsum("ci,cij,cj->c", weights, shares, weights)
    reach = np.einsum("ci,cij->cj", weights, shares)
    P = np.diag(own) - reach @ bread @ reach.T
    df = np.trace(P) ** 2 / np.sum(P**2)
    assert herds.ttest("CR2")["df"].iloc[1] == pytest.approx(df, rel=5e-3)


def test_an_unbiased_sandwich_of_independent_rows_divides_by_one_less_the_leverage():
    """clubSandwich 0.5.8, vcovCR(glm, cluster = rows, "CR2"): as HC2 of the working residuals."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=120)
    data = pd.DataFrame({"x": x, "y": rng.negative_binomial(1.0, 0.3, size=120)})
    fit = gb.Model("y ~ x", data, "poisson").fit("ml")
    X = np.column_stack([np.ones(120), x])
    mu = np.exp(X @ fit.fixef()["estimate"])
    bread = np.linalg.inv((X.T * mu) @ X)
    h = mu * np.einsum("ij,jk,ik->i", X, bread, X)
    meat = (X.T * ((data["y"] - mu).to_numpy() ** 2 / (1 - h))) @ X
    np.testing.assert_allclose(fit.vcov("CR2"), bread @ meat @ bread, rtol=2e-3)


def test_one_step_goes_by_each_herds_own_slopes(herds, by_hand):
    scores, curvatures = by_hand
    bread = np.linalg.inv(curvatures.sum(axis=2))
    found = herds.influence("herd")
    np.testing.assert_allclose(found.iloc[:, 1:], (scores @ bread)[:, :4], atol=2e-4)
    d, C = found.iloc[:, 1:].to_numpy(), herds.vcov().to_numpy()
    cooks = np.einsum("cj,jk,ck->c", d, np.linalg.inv(C), d) / 4
    np.testing.assert_allclose(found["cooks_distance"], cooks, rtol=1e-6)


def test_one_step_points_where_fits_without_a_herd_are():
    fit = gb.Model(FORMULA, gb.load_dataset("cbpp"), "binomial").fit("ml")
    one, exact = (fit.influence("herd", method=m).iloc[:, 1:] for m in ("one-step", "exact"))
    assert np.corrcoef(one.to_numpy().ravel(), exact.to_numpy().ravel())[0, 1] > 0.98


def test_without_effects_they_are_whites():
    """Counts by a logarithm: the slopes of a row are (y - mu) x."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=120)
    data = pd.DataFrame({"x": x, "y": rng.negative_binomial(1.0, 0.3, size=120)})
    fit = gb.Model("y ~ x", data, "poisson").fit("ml")
    X = np.column_stack([np.ones(120), x])
    mu = np.exp(X @ fit.fixef()["estimate"])
    bread = np.linalg.inv((X.T * mu) @ X)
    meat = (X.T * (data["y"] - mu).to_numpy() ** 2) @ X
    np.testing.assert_allclose(fit.vcov("CR0"), bread @ meat @ bread, rtol=1e-3)


def test_effects_of_several_parameters_make_clusters():
    """The groups of zi keep rows of one together, that those of the mean keep apart."""
    data = gb.load_dataset("salamanders").iloc[:200]
    formulas = ["count ~ mined + (1 | site)", "zi ~ 1 + (1 | spp)"]
    fit = gb.Model(formulas, data, "zero_inflated_poisson").fit("ml")
    with pytest.raises(DataError, match="share random effects"):
        fit.vcov("CR0", cluster="site")


def test_normal_responses_along_time_have_one_by_slopes_too():
    """An ar1 process of each subject: multivariate normal densities, differentiated."""
    data = gb.load_dataset("sleepstudy")
    fit = gb.Model("Reaction ~ Days + ar1(Days | Subject)", data).fit("ml")
    y = data["Reaction"].to_numpy().reshape(18, 10)
    X = np.column_stack([np.ones(10), np.arange(10)])
    lag = abs(np.subtract.outer(np.arange(10), np.arange(10)))

    def logliks(p):
        sd, rho, sigma = np.exp(p[2]), np.tanh(p[3]), np.exp(p[4])
        V = sd**2 * rho**lag + sigma**2 * np.eye(10)
        return multivariate_normal(np.zeros(10), V).logpdf(y - X @ p[:2])

    found = fit.varcorr().set_index("kind")["estimate"]
    sd, sigma = found["sd"]
    p = np.array([*fit.fixef()["estimate"], np.log(sd), np.arctanh(found["rho"]), np.log(sigma)])
    sizes = np.array([1e-2, 1e-3, 1e-4, 1e-4, 1e-4])
    scores = np.stack([(logliks(p + s) - logliks(p - s)) / (2 * s.sum()) for s in np.diag(sizes)])
    wide = np.diag(20 * sizes)

    def bent(a, b):
        corners = [(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]
        total = sum(s * logliks(p + i * a + j * b).sum() for i, j, s in corners)
        return total / (4 * a.sum() * b.sum())

    # The coefficients' covariance is that for the variances as estimated.
    bread = np.linalg.inv(-np.array([[bent(a, b) for b in wide[:2]] for a in wide[:2]]))
    expected = bread @ scores[:2] @ scores[:2].T @ bread
    np.testing.assert_allclose(fit.vcov("CR0"), expected, rtol=1e-4)


@pytest.mark.filterwarnings("ignore::glmm_bayes.errors.SingularFitWarning")
def test_what_is_not_there_says_so(herds):
    data = gb.load_dataset("cbpp")
    with pytest.raises(NotSupportedError, match="not of a fit by 'map'"):
        gb.Model(FORMULA, data, "binomial").fit("map").vcov("CR0")
    few = data[data["herd"].isin(["1", "2", "3", "4"])]
    few = gb.Model(FORMULA, few.assign(herd=few["herd"].astype(str)), "binomial").fit("ml")
    with pytest.raises(DataError, match="4 clusters for 5 parameters"):
        few.vcov("CR0")
    gamma = gb.Model("incidence + 1 ~ period + (1 | herd)", data, "gamma").fit("ml")
    with pytest.raises(NotSupportedError, match="of 'poisson', 'bernoulli', 'binomial' too"):
        gamma.caic()


def seizures():
    data = gb.load_dataset("epil")
    return data[data["subject"] <= 25].assign(subject=lambda d: d["subject"].astype(str))


def test_conditional_aic_of_counts_agrees_with_caic4():
    """cAIC4 1.0: conditional log likelihood -285.27, degrees of freedom 20.80, cAIC 612.14."""
    fit = gb.Model("y ~ lbase + (1 | subject)", seizures(), "poisson").fit("ml")
    np.testing.assert_allclose(fit.caic(), [-285.27, 20.80, 612.14], atol=0.01)


def test_conditional_aic_of_counts_alone_is_stein_chen():
    """Of a mean alone: log mu falls by log(S / (S - 1)) with each count, so df is S times that."""
    poisson = np.array([3, 0, 5, 2, 9, 1, 4, 4])
    fit = gb.Model("y ~ 1", pd.DataFrame({"y": poisson}), "poisson").fit("ml")
    S, mu = poisson.sum(), poisson.mean()
    found = fit.caic()
    assert found["df"] == pytest.approx(S * np.log(S / (S - 1)), rel=1e-6)
    loglik = np.sum(poisson * np.log(mu) - mu - gammaln(poisson + 1))
    assert found["loglik"] == pytest.approx(loglik, rel=1e-9)


def test_conditional_aic_of_yes_or_no_is_efrons():
    """Of a share alone: the logit's gain by one more yes."""
    y = np.array([1.0, 0, 0, 1, 1, 0, 1, 1, 0, 1, 1, 1])
    fit = gb.Model("y ~ 1", pd.DataFrame({"y": y}), "bernoulli").fit("ml")
    n, S = len(y), y.sum()

    def logit(k):
        return np.log(k / (n - k))

    mu = S / n
    gains = np.where(y == 1, logit(S) - logit(S - 1), logit(S + 1) - logit(S))
    assert fit.caic()["df"] == pytest.approx(mu * (1 - mu) * gains.sum(), rel=1e-5)


def test_conditional_aic_of_trials_is_that_of_every_trial():
    """Successes of trials written out as rows of zeros and ones: the same fit, and the same df."""
    data = gb.load_dataset("cbpp").iloc[:22]
    data = data.assign(herd=data["herd"].astype(str))
    together = gb.Model("incidence | trials(size) ~ 1 + (1 | herd)", data, "binomial").fit("ml")
    rows = data.loc[data.index.repeat(data["size"])].reset_index(drop=True)
    number = rows.groupby(["herd", "period"], observed=True).cumcount()
    rows["ill"] = (number < rows["incidence"]).astype(int)
    apart = gb.Model("ill ~ 1 + (1 | herd)", rows, "bernoulli").fit("ml")
    assert together.caic()["df"] == pytest.approx(apart.caic()["df"], rel=1e-4)
