"""Searches for maxima: published fits, exact edges, and curvatures against second differences."""

import warnings
from dataclasses import dataclass
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from dense import Dense

import glmm_bayes as gb
from glmm_bayes.engine.algebra.lapack import one_thread
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.gaussian import GaussianObjective
from glmm_bayes.modes.laplace import LaplaceObjective
from glmm_bayes.modes.reading import read_gaussian, read_laplace
from glmm_bayes.modes.search import Frame, Remembered, climb, edge_tried, inward, polish

CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
SLEEP = "Reaction ~ Days + (1 + Days | Subject)"


def contraception():
    """Districts in town and country apart, as in MixedModels.jl's example."""
    data = gb.load_dataset("contraception")
    place = data["urban"].astype(str) + data["district"].astype(str)
    return data.assign(y=(data["use"] == "Y").astype(int), age2=data["age"] ** 2, place=place)


def fitted(formula, data, family="gaussian", method="ml", **options):
    """Fit; a maximum at an edge, of which there is a warning, is what is wanted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gb.SingularFitWarning)
        return gb.Model(formula, data, family, **options).fit(method, seed=1)


def dataset(name):
    return lambda: gb.load_dataset(name)


# ---- published fits

# Minus twice the log likelihood, as MixedModels.jl 5.8's test/pls.jl and test/pirls.jl have it
# (REML: likewise; log likelihoods of cbpp and contraception doubled). grouseticks: glmmTMB 1.1.5.
PUBLISHED = {
    "dyestuff": ("Yield ~ 1 + (1 | Batch)", dataset("dyestuff"), "gaussian", "ml", 327.32705988),
    "dyestuff REML": (
        "Yield ~ 1 + (1 | Batch)", dataset("dyestuff"), "gaussian", "reml", 319.6542768,
    ),
    "dyestuff2": ("Yield ~ 1 + (1 | Batch)", dataset("dyestuff2"), "gaussian", "ml", 162.8730367),
    "penicillin": (
        "diameter ~ 1 + (1 | plate) + (1 | sample)", dataset("penicillin"), "gaussian", "ml",
        332.18834867,
    ),
    "pastes": (
        "strength ~ 1 + (1 | batch / cask)", dataset("pastes"), "gaussian", "ml", 247.99446586,
    ),
    "sleepstudy": (SLEEP, dataset("sleepstudy"), "gaussian", "ml", 1751.9393444637),
    "sleepstudy zerocorr": (
        "Reaction ~ Days + (1 + Days || Subject)", dataset("sleepstudy"), "gaussian", "ml",
        1752.003255140962,
    ),
    "cbpp": (CBPP, dataset("cbpp"), "binomial", "ml", 2 * 92.02628187),
    "contraception": (
        "y ~ age + age2 + urban + livch + (1 | place)", contraception, "bernoulli", "ml",
        2 * 1180.772884,
    ),
    "grouseticks": (
        "TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)",
        dataset("grouseticks"), "poisson", "ml", 2 * 890.2713,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_maxima(name):
    formula, data, family, method, deviance = PUBLISHED[name]
    fit = fitted(formula, data(), family, method)
    assert fit.converged
    # To the digits that are printed; optimisers stop within some 1e-5 of the top.
    assert fit.deviance == pytest.approx(deviance, abs=2e-4)
    assert fit.deviance < deviance + 2e-5 or name == "grouseticks"


def test_a_large_crossed_design_has_its_published_maximum():
    """InstEval, 73,421 rows: MixedModels.jl's m1, objective 237721.76877."""
    fit = fitted("y ~ 1 + service + (1 | s) + (1 | d) + (1 | dept)", gb.load_dataset("insteval"))
    assert fit.deviance == pytest.approx(237721.76877, abs=2e-4)


def test_a_published_fit_in_full():
    """MixedModels.jl's test/pls.jl, sleepstudy: beta, errors, theta relative to sigma."""
    fit = fitted(SLEEP, gb.load_dataset("sleepstudy"))
    L = fit.mode.Lambdas["Subject"] / fit.mode.scale
    found = np.abs(L[np.tril_indices(2)])
    np.testing.assert_allclose(found, [0.92922972, 0.01816466, 0.22264601], rtol=2e-4)
    beta = fit.mode.theta[fit.model.layout["beta"]] - [fit.model.means("mu")[1] * 10.46728596, 0]
    np.testing.assert_allclose(beta, [251.40510485, 10.46728596], rtol=1e-7)
    errors = np.sqrt(np.diag(fit.mode.beta_covariance))
    np.testing.assert_allclose(errors, [6.63229531, 1.50223879], rtol=1e-5)


# ---- restricted likelihood by Laplace's method

# glmmTMB 1.1.5 in R 4.2.2: glmmTMB(cbind(incidence, size - incidence) ~ period + (1 | herd),
# cbpp, binomial, REML = TRUE); vcov(full = TRUE), whose theta is the log of the sd.
REML_LOGLIK = -93.1990671011
REML_BETA = [-1.3670151939, -0.9693482891, -1.1044541242, -1.5518862716]
REML_LOG_SD = -0.3829202462
REML_COVARIANCE = [
    [0.056472643453, -0.025502608368, -0.025431668904, -0.025489622717, -0.008315173343],
    [-0.025502608368, 0.093331330531, 0.027723350736, 0.027640379000, 0.008497384616],
    [-0.025431668904, 0.027723350736, 0.105936402787, 0.027271302426, 0.008234836963],
    [-0.025489622717, 0.027640379000, 0.027271302426, 0.181891006559, 0.009701677953],
    [-0.008315173343, 0.008497384616, 0.008234836963, 0.009701677953, 0.077364484895],
]


def test_restricted_laplace_agrees_with_glmmtmb():
    fit = fitted(CBPP, gb.load_dataset("cbpp"), "binomial", "reml")
    assert fit.loglik == pytest.approx(REML_LOGLIK, abs=1e-6)
    means = fit.model.means("mu")
    beta = fit.mode.theta[fit.model.layout["beta"]]
    beta[0] -= means[1:] @ beta[1:]
    np.testing.assert_allclose(beta, REML_BETA, atol=1e-5)
    (Lambda,) = fit.mode.Lambdas.values()
    assert np.log(np.abs(Lambda[0, 0])) == pytest.approx(REML_LOG_SD, abs=1e-4)
    # Both take the curvature by differences: three digits of it.
    theirs = np.array(REML_COVARIANCE)
    np.testing.assert_allclose(fit.mode.beta_covariance, theirs[:4, :4], rtol=2e-3)
    (at,) = fit.mode.coordinates.factors
    z, mean = fit.mode.x[at][0], fit.mode.coordinates.coefficients[0]
    covariance = fit.mode.covariance
    assert covariance[at, at][0, 0] / z**2 == pytest.approx(theirs[4, 4], rel=2e-3)
    to_beta = np.eye(4)
    to_beta[0, 1:] = -means[1:]
    np.testing.assert_allclose(to_beta @ covariance[mean, at][:, 0] / z, theirs[4, :4], rtol=5e-3)


# ---- edges

# Ozgul et al. (2009), Ecology 90, 1786-1795: fresh shells of gopher tortoises.
GOPHER = pd.read_csv(
    StringIO(
        """Site year shells Area prev
BS 2004 0 15.2 1\nBS 2005 0 15.2 1\nBS 2006 0 15.2 1\nCB 2004 1 16 4.3\nCB 2005 0 16 8
CB 2006 1 16 17.6\nCent 2004 0 6.9 28.6\nCent 2005 1 6.9 51.9\nCent 2006 1 6.9 10.7
CF 2004 9 43.2 80.7\nCF 2005 7 43.2 72.2\nCF 2006 6 43.2 77.8\nFC 2004 0 24.7 1
FC 2005 0 24.7 3.4\nFC 2006 3 24.7 45.8\nFE 2004 5 39.9 3.3\nFE 2005 1 39.9 1
FE 2006 1 39.9 1\nGH 2004 3 48.1 32.4\nGH 2005 1 48.1 39.5\nGH 2006 2 48.1 37
Old 2004 1 29.9 14.3\nOld 2005 1 29.9 25\nOld 2006 3 29.9 78.8\nOrd 2004 4 61 1
Ord 2005 1 61 1\nOrd 2006 1 61 1.8\nTE 2004 0 5.3 42.9\nTE 2005 0 5.3 47.8\nTE 2006 1 5.3 31.6
"""
    ),
    sep=" ",
    dtype={"year": "category"},
)


def test_a_variance_of_zero_is_zero():
    """Dyestuff2 (Box & Tiao, 1973): REML -80.91414, as the linear model without batches."""
    for method, loglik in (("ml", -81.4365183), ("reml", -80.9141389)):
        fit = fitted("Yield ~ 1 + (1 | Batch)", gb.load_dataset("dyestuff2"), method=method)
        assert fit.mode.Lambdas["Batch"][0, 0] == 0.0
        assert fit.mode.theta[fit.model.layout["sd_Batch"]][0] == 0.0
        assert (fit.loglik, fit.is_singular) == (pytest.approx(loglik, abs=1e-6), True)
        assert not fit.mode.effects["Batch"].any()
        assert np.isnan(fit.mode.covariance[-1, -1])


def test_a_variance_of_zero_between_counts_is_zero():
    """lme4 1.1-31 and glm() in R 4.2.2: log likelihood, coefficients and errors of both."""
    fit = fitted("shells ~ prev + offset(log(Area)) + year + (1 | Site)", GOPHER, "poisson")
    assert fit.mode.Lambdas["Site"][0, 0] == 0.0
    assert fit.loglik == pytest.approx(-38.1686506479965, abs=1e-6)
    names = fit.model.design.predictors["mu"].names
    beta = dict(zip(names, fit.mode.theta[fit.model.layout["beta"]], strict=True))
    errors = dict(zip(names, np.sqrt(np.diag(fit.mode.beta_covariance)), strict=True))
    glm = {
        "prev": (0.0211339531241062, 0.00431046917666587),
        "year[T.2005]": (-0.644857630572916, 0.35638959195417),
        "year[T.2006]": (-0.428758812737536, 0.313012402645907),
    }
    for name, (estimate, error) in glm.items():
        assert beta[name] == pytest.approx(estimate, rel=1e-4)
        assert errors[name] == pytest.approx(error, rel=1e-4)
    assert errors["Intercept"] == pytest.approx(0.278498616817535, rel=1e-4)


def lines(intercepts, slopes, m=8, noise=1.0, seed=0):
    """Give groups whose own least squares lines have exactly these coefficients."""
    rng = np.random.default_rng(seed)
    x = np.linspace(-1.0, 1.0, m)
    X = np.column_stack([np.ones(m), x])
    parts = []
    for k, b in enumerate(zip(intercepts, slopes, strict=True)):
        e = rng.normal(size=m) * noise
        e -= X @ np.linalg.lstsq(X, e, rcond=None)[0]
        parts.append(pd.DataFrame({"g": f"g{k:02}", "x": x, "y": X @ b + e}))
    return pd.concat(parts, ignore_index=True)


def test_a_correlation_of_one_is_exact():
    """Where the groups' coefficients lie on a line, their covariance less the noise's does not."""
    u = np.linspace(-3, 3, 20)
    for sign in (1.0, -1.0):
        fit = fitted("y ~ x + (1 + x | g)", lines(u, sign * 2 * u))
        L = fit.mode.Lambdas["g"]
        assert L[1, 1] == 0.0
        assert np.linalg.matrix_rank(L) == 1
        assert np.sign(L[0, 0] * L[1, 0]) == sign
        assert [part.words for part in fit.singular] == [
            "the effects of Intercept and x on g are estimated as perfectly correlated"
        ]
        assert np.isnan(np.diag(fit.mode.covariance)).sum() == 1


@pytest.mark.parametrize("zero", ["slope", "intercept"])
def test_one_of_two_standard_deviations_is_zero(zero):
    """With x balanced, the other's estimate is that of the one-way layout, in closed form."""
    q, m, u = 20, 8, np.linspace(-3, 3, 20)
    still = 0.1 * np.cos(u)  # of less variance than the noise gives to the estimates
    data = lines(u, still, m) if zero == "slope" else lines(still, u, m)
    fit = fitted("y ~ x + (1 + x | g)", data)
    x = data["x"].to_numpy()[:m]
    first, second = (np.full(m, 1.0), x) if zero == "slope" else (x, np.full(m, 1.0))
    # Sums of squares of the groups' coefficients, of the other's and of what is left.
    left = data["y"].to_numpy().reshape(q, m)
    X = np.column_stack([first, second])
    b = np.linalg.lstsq(X, left.T, rcond=None)[0]
    rest = np.sum((left.T - X @ b) ** 2) + second @ second * np.sum((b[1] - b[1].mean()) ** 2)
    sigma2 = rest / (q * (m - 1))
    tau2 = np.mean((b[0] - b[0].mean()) ** 2) - sigma2 / (first @ first)
    L = fit.mode.Lambdas["g"]
    k = {"intercept": 0, "slope": 1}[zero]
    assert not L[k].any()
    assert fit.mode.scale == pytest.approx(np.sqrt(sigma2), rel=1e-5)
    assert (L @ L.T)[1 - k, 1 - k] == pytest.approx(tau2, rel=1e-4)
    assert fit.mode.theta[fit.model.layout["sd_g"]][k] == 0.0


# ---- on and off an edge


def objective_of(model, method):
    coordinates = Coordinates.of(model)
    if model.family.name == "gaussian":
        return GaussianObjective(read_gaussian(model), coordinates, method == "reml"), coordinates
    found = LaplaceObjective(read_laplace(model), coordinates, method == "reml")
    found.gamma = np.zeros(len(coordinates.held[0]))
    return found, coordinates


@pytest.mark.parametrize(
    ("formula", "name", "family", "loglik"),
    [
        (SLEEP, "sleepstudy", "gaussian", -1751.9393444637 / 2),
        (SLEEP.replace("(1 +", "diag(1 +"), "sleepstudy", "gaussian", -1752.003255140962 / 2),
        ("Yield ~ 1 + (1 | Batch)", "dyestuff", "gaussian", -327.32705988 / 2),
        (CBPP, "cbpp", "binomial", REML_LOGLIK),
    ],
)
def test_a_climb_that_starts_at_an_edge_leaves_it(formula, name, family, loglik):
    model = gb.Model(formula, gb.load_dataset(name), family)
    objective, c = objective_of(model, "reml" if family == "binomial" else "ml")
    x, units = np.zeros(c.size), np.ones(c.size)
    factors = np.arange(c.size)[c.factors[0]]
    assert c.idle(x)[factors].all()
    value, slope = objective(x)
    np.testing.assert_allclose(slope[factors], 0.0, atol=1e-8)
    higher = inward(objective, c, x, value, units)
    assert higher is not None
    assert objective(higher)[0] > value
    top, _ = climb(objective, c, x, np.eye(c.size)[:, factors], units)
    assert objective(top)[0] == pytest.approx(loglik, abs=1e-6)
    assert inward(objective, c, top, objective(top)[0], units) is None
    np.testing.assert_array_equal(edge_tried(objective, c, top, objective(top)[0], units), top)


def test_what_is_near_an_edge_moves_there_if_that_costs_nothing():
    model = gb.Model("Yield ~ 1 + (1 | Batch)", gb.load_dataset("dyestuff2"))
    objective, c = objective_of(model, "ml")
    x = np.array([0.0, 0.0, 1e-5])
    moved = edge_tried(objective, c, x, objective(x)[0], np.ones(3))
    assert moved[-1] == 0.0
    assert inward(objective, c, moved, objective(moved)[0], np.ones(3)) is None


# ---- slopes and curvatures


@pytest.mark.parametrize("structure", ["us", "diag", "homdiag", "cs", "homcs"])
@pytest.mark.parametrize("held", [{}, {"sd_Subject": 9.0}, {"sigma": 20.0, "beta[Days]": 9.0}])
def test_an_objective_s_slope_is_its_difference_quotient(structure, held):
    """What a number holds takes a term's coordinates to the parameters' unconstrained scale."""
    formula = f"Reaction ~ Days + {structure}(1 + Days | Subject)"
    family = "student" if held else "gaussian"
    model = gb.Model(formula, gb.load_dataset("sleepstudy"), family, priors=held)
    objective, c = objective_of(model, "ml")
    sd = [np.array([20.0, 5.0])]
    x = c.join([np.full(len(h), 3.0) for h in c.held], c.start(sd))
    slope, units = objective(x)[1], c.units(sd)
    for j, step in enumerate(np.diag(1e-4 * units)):
        # Of values near -1e3, which rounding and the mode leave known to some 1e-9.
        expected = (objective(x + step)[0] - objective(x - step)[0]) / 2e-4
        assert slope[j] * units[j] == pytest.approx(expected, rel=1e-5, abs=1e-4)


def second_differences(value, x, steps):
    """Difference a function twice, by steps `(m,)`: `(m, m)`."""
    m = len(x)
    found = np.empty((m, m))
    for i, a in enumerate(np.diag(steps)):
        for j, b in enumerate(np.diag(steps)[: i + 1]):
            corners = value(x + a + b) - value(x + a - b) - value(x - a + b) + value(x - a - b)
            found[i, j] = found[j, i] = corners / (4 * steps[i] * steps[j])
    return found


CURVED = {
    "sleepstudy": (SLEEP, dataset("sleepstudy"), "gaussian"),
    "compound symmetry": (SLEEP.replace("(1 +", "cs(1 +"), dataset("sleepstudy"), "gaussian"),
    "penicillin": ("diameter ~ 1 + (1 | plate) + (1 | sample)", dataset("penicillin"), "gaussian"),
    "cbpp": (CBPP, dataset("cbpp"), "binomial"),
    "negbinomial": ("incidence ~ period + offset(log(size)) + (1 | herd)", dataset("cbpp"),
                    "negbinomial"),
    "singular": ("y ~ x + (1 + x | g)",
                 lambda: lines(np.linspace(-3, 3, 12), np.linspace(-6, 6, 12)), "gaussian"),
}  # fmt: skip


@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.parametrize("name", CURVED)
def test_the_covariance_is_the_inverse_of_second_differences(name, method):
    """Of the likelihood by dense matrices, over tenths of a standard error."""
    formula, data, family = CURVED[name]
    fit = fitted(formula, data(), family, method)
    c, mode = fit.mode.coordinates, fit.mode
    dense = Dense(fit.model, restricted=method == "reml")
    inside = ~c.idle(mode.x)
    if method == "reml":
        inside[c.coefficients[0]] = False
    at = np.flatnonzero(inside)
    sd = np.sqrt(np.diag(mode.covariance)[at])

    def value(z):
        x = mode.x.copy()
        x[at] = z
        return dense(c.split(x), c.Lambdas(x))

    assert value(mode.x[at]) == pytest.approx(fit.loglik, abs=1e-7)
    # Steps h and 2h together leave errors of h^4.
    with one_thread():
        near, far = (second_differences(value, mode.x[at], h * sd) for h in (0.05, 0.1))
    expected = np.linalg.inv(-(4 * near - far) / 3)
    found = mode.covariance[np.ix_(at, at)]
    np.testing.assert_allclose(found / np.outer(sd, sd), expected / np.outer(sd, sd), atol=3e-3)


@dataclass(eq=False)
class Quadratic(Remembered):
    H: np.ndarray
    top: np.ndarray

    def evaluated(self, x):
        slope = -self.H @ (x - self.top)
        return 0.5 * (x - self.top) @ slope, slope


def test_polish_ends_at_the_top_of_a_quadratic():
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    H, top = Q @ np.diag([1e4, 1.0, 1e-3]) @ Q.T, rng.normal(size=3)
    frame, found = polish(Frame(Quadratic(H, top), np.zeros(3), np.eye(3)))
    np.testing.assert_allclose(frame.x(found.y), top, rtol=1e-4, atol=1e-4)
    covariance = frame.axes @ found.inverse @ frame.axes.T
    np.testing.assert_allclose(covariance, np.linalg.inv(H), rtol=1e-4, atol=1e-6)
    assert found.trusted


def test_polish_says_that_a_saddle_and_a_plain_are_no_maximum():
    for H in (np.diag([1.0, -1.0]), np.diag([1.0, 0.0])):
        _, found = polish(Frame(Quadratic(H, np.zeros(2)), np.zeros(2), np.eye(2)))
        assert not found.positive
        np.testing.assert_allclose(np.abs(found.direction), [0.0, 1.0], atol=1e-6)
