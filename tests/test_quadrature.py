"""Adaptive quadrature against sums over fine grids, differences, and published fits."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit, logsumexp

import glmm_bayes as gb
from glmm_bayes.engine.integrals import quadrature as engine
from glmm_bayes.engine.integrals.adaptive import grid
from glmm_bayes.errors import NotSupportedError, UnknownNameError
from glmm_bayes.modes.chains import read_quadrature
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.laplace import LaplaceObjective
from glmm_bayes.modes.reading import first_coefficients, first_sizes, read_laplace

# Rows in no order, and levels numbered in none: 4 herds, 3 pens in each, 5 rows a pen.
SHUFFLED = np.random.default_rng(7)
ROWS = SHUFFLED.permutation(60)
HERD = np.repeat([2, 0, 3, 1], 15)[ROWS]
PEN = np.repeat(SHUFFLED.permutation(12), 5)[ROWS]
DATA = pd.DataFrame(
    {
        "herd": HERD,
        "pen": PEN,
        "row": np.arange(60),
        "other": np.arange(60) % 5,
        "x": SHUFFLED.normal(size=60).round(2),
        "yes": SHUFFLED.binomial(1, 0.4, 60),
        "hits": SHUFFLED.binomial(6, 0.3, 60),
        "n": 6,
        "count": SHUFFLED.poisson(2.0, 60),
        "size": SHUFFLED.gamma(2.0, 1.0, 60) + 0.05,
    }
)

# Formula's response, family, the constant parameter on the log scale, and SciPy's density.
FAMILIES = {
    "bernoulli": ("yes", None, lambda d, e, c: stats.bernoulli.logpmf(d.yes, expit(e))),
    "binomial": ("hits | trials(n)", None, lambda d, e, c: stats.binom.logpmf(d.hits, 6, expit(e))),
    "poisson": ("count", None, lambda d, e, c: stats.poisson.logpmf(d["count"], np.exp(e))),
    "negbinomial": (
        "count",
        0.7,
        lambda d, e, c: stats.nbinom.logpmf(d["count"], c, c / (c + np.exp(e))),
    ),
    "gamma": ("size", 0.9, lambda d, e, c: stats.gamma.logpdf(d["size"], c, scale=np.exp(e) / c)),
}
BETA = {"bernoulli": (-0.4, 0.5), "binomial": (-0.9, 0.3)}
LAMBDA = np.array([[1.1, 0.0], [-0.4, 0.6]])


def marginal(model, nagq, coefficients, Lambdas):
    laplace = read_laplace(model)
    if nagq > 1:
        laplace = read_quadrature(model, laplace, nagq)
    return laplace.marginal(coefficients, Lambdas, joint=False)


def coefficients(family):
    constant = FAMILIES[family][1]
    mean = np.array(BETA.get(family, (0.5, -0.3)))
    return [mean] if constant is None else [mean, np.array([constant])]


def row_density(family, eta):
    """Give SciPy's log density of every row, for eta `(n, ...)`."""
    frame = {name: DATA[name].to_numpy().reshape(60, *[1] * (eta.ndim - 1)) for name in DATA}
    constant = FAMILIES[family][1]
    shape = None if constant is None else np.exp(constant)
    return FAMILIES[family][2](pd.Series(frame), eta, shape)


def fixed_part(family):
    x = DATA["x"].to_numpy()
    b0, b1 = coefficients(family)[0]
    return b0 + b1 * (x - x.mean())


def line(points, width=9.0):
    """Give nodes on a line and the logarithms of step times normal density."""
    v = np.linspace(-width, width, points)
    return v, stats.norm.logpdf(v) + np.log(v[1] - v[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_one_effect_a_level_agrees_with_a_sum_over_a_fine_grid(family):
    model = gb.Model(f"{FAMILIES[family][0]} ~ x + (1 | pen)", DATA, family)
    v, log_w = line(801)
    log_p = row_density(family, fixed_part(family)[:, None] + 1.3 * v)
    truth = sum(logsumexp(log_p[g == PEN].sum(axis=0) + log_w) for g in range(12))
    found = marginal(model, 31, coefficients(family), [np.array([[1.3]])])
    assert found.value == pytest.approx(truth, abs=1e-6)


@pytest.mark.parametrize("family", ["bernoulli", "poisson", "negbinomial", "gamma"])
@pytest.mark.parametrize("formula", ["(1 + x | pen)", "(1 | pen) + (0 + x | pen)"])
def test_two_effects_a_level_agree_with_a_sum_over_a_fine_grid(family, formula):
    model = gb.Model(f"{FAMILIES[family][0]} ~ x + {formula}", DATA, family)
    together = "+ (0" not in formula
    L = LAMBDA if together else np.diag(np.diag(LAMBDA))
    v, log_w = line(161)
    V = np.stack(np.meshgrid(v, v, indexing="ij"))
    b = np.einsum("ab,bij->aij", L, V)
    x = DATA["x"].to_numpy()[:, None, None]
    log_p = row_density(family, fixed_part(family)[:, None, None] + b[0] + x * b[1])
    weights = log_w[:, None] + log_w
    truth = sum(logsumexp(log_p[g == PEN].sum(axis=0) + weights) for g in range(12))
    Lambdas = [L] if together else [L[:1, :1], L[1:, 1:]]
    found = marginal(model, 35, coefficients(family), Lambdas)
    assert found.value == pytest.approx(truth, abs=1e-6)


@pytest.mark.parametrize("family", ["bernoulli", "poisson", "negbinomial"])
def test_nested_effects_agree_with_a_sum_over_a_fine_grid(family):
    model = gb.Model(f"{FAMILIES[family][0]} ~ x + (1 | pen) + (1 | herd)", DATA, family)
    v, log_w = line(201)
    inner = np.empty((12, 201))
    for k, outer in enumerate(v):
        log_p = row_density(family, fixed_part(family)[:, None] + 0.8 * outer + 1.1 * v)
        inner[:, k] = [logsumexp(log_p[g == PEN].sum(axis=0) + log_w) for g in range(12)]
    herds = [np.unique(PEN[h == HERD]) for h in range(4)]
    truth = sum(logsumexp(inner[pens].sum(axis=0) + log_w) for pens in herds)
    Lambdas = [np.array([[1.1]]), np.array([[0.8]])]
    found = marginal(model, 31, coefficients(family), Lambdas)
    assert found.value == pytest.approx(truth, abs=1e-6)


def test_three_effects_a_level_agree_with_a_sum_over_a_fine_grid():
    model = gb.Model("count ~ x + (1 + x + yes || pen)", DATA, "poisson")
    sd, columns = (0.5, 0.4, 0.6), (np.ones(60), DATA["x"].to_numpy(), DATA["yes"].to_numpy())
    v, log_w = line(41, 6.5)
    effects = [s * v.reshape(-1, *[1] * (2 - k)) for k, s in enumerate(sd)]
    eta = fixed_part("poisson")[:, None, None, None]
    eta = eta + sum(z[:, None, None, None] * b for z, b in zip(columns, effects, strict=True))
    log_p = row_density("poisson", eta)
    weights = log_w[:, None, None] + log_w[:, None] + log_w
    truth = sum(logsumexp(log_p[g == PEN].sum(axis=0) + weights) for g in range(12))
    found = marginal(model, 11, coefficients("poisson"), [np.diag(sd)])
    assert found.value == pytest.approx(truth, abs=1e-6)


def test_effects_on_two_parameters_agree_with_a_sum_over_a_fine_grid():
    formulas = ["size ~ x + (1 | pen)", "alpha ~ 1 + (1 | pen)"]
    model = gb.Model(formulas, DATA, "gamma")
    v, log_w = line(161)
    shape = np.exp(0.9 + 0.5 * v)
    eta = fixed_part("gamma")[:, None, None] + 0.7 * v[:, None]
    y = DATA["size"].to_numpy()[:, None, None]
    log_p = stats.gamma.logpdf(y, shape, scale=np.exp(eta) / shape)
    weights = log_w[:, None] + log_w
    truth = sum(logsumexp(log_p[g == PEN].sum(axis=0) + weights) for g in range(12))
    Lambdas = [np.array([[0.7]]), np.array([[0.5]])]
    found = marginal(model, 31, coefficients("gamma"), Lambdas)
    assert found.value == pytest.approx(truth, abs=1e-6)


CHAINS = {
    "one": ("count ~ x + (1 | pen)", "poisson"),
    "slopes": ("count ~ x + (1 + x | pen)", "negbinomial"),
    "merged": ("size ~ x + (1 | pen) + (0 + x | pen)", "gamma"),
    "nested": ("yes ~ x + (1 + x | herd) + (1 | pen)", "bernoulli"),
    "three": ("count ~ x + (1 | herd / pen) + (1 | row)", "poisson"),
    "two parameters": (["size ~ x + (1 | herd / pen)", "alpha ~ (1 | pen)"], "gamma"),
}


@pytest.mark.parametrize(("chain", "nagq"), list(product(CHAINS, [2, 3, 6])))
def test_the_gradient_is_that_of_the_sum_itself(chain, nagq):
    """Differences, where the sum is still far from the integral."""
    model = gb.Model(CHAINS[chain][0], DATA, CHAINS[chain][1])
    laplace, coordinates = read_laplace(model), Coordinates.of(model)
    sizes = first_sizes(model, laplace.system.latent)
    x = coordinates.join(first_coefficients(model), coordinates.start(sizes))
    x = x + 0.1 * np.random.default_rng(1).normal(size=len(x))
    objective = LaplaceObjective(read_quadrature(model, laplace, nagq), coordinates, joint=False)
    gradient = objective(x)[1]
    for j, step in enumerate(1e-4 * np.eye(len(x))):
        near = objective(x + step)[0] - objective(x - step)[0]
        far = objective(x + 2 * step)[0] - objective(x - 2 * step)[0]
        assert gradient[j] == pytest.approx((8 * near - far) / 12e-4, abs=2e-7 * len(DATA))


@pytest.mark.parametrize("chain", CHAINS)
def test_one_node_is_laplaces_method(chain):
    model = gb.Model(CHAINS[chain][0], DATA, CHAINS[chain][1])
    laplace, coordinates = read_laplace(model), Coordinates.of(model)
    sizes = first_sizes(model, laplace.system.latent)
    x = coordinates.join(first_coefficients(model), coordinates.start(sizes))
    given = coordinates.split(x), coordinates.Lambdas(x)
    one = laplace.marginal(*given, joint=False)
    other = read_quadrature(model, laplace, 1).marginal(*given, joint=False)
    assert other.value == pytest.approx(one.value, abs=1e-8)
    for ours, theirs in zip(
        [*other.by_coefficients, *other.by_Lambda],
        [*one.by_coefficients, *one.by_Lambda],
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_pieces_add_up(monkeypatch):
    model = gb.Model("yes ~ x + (1 | herd / pen)", DATA, "bernoulli")
    given = coefficients("bernoulli"), [np.array([[0.8]]), np.array([[1.1]])]
    whole = marginal(model, 5, *given)
    monkeypatch.setattr(engine, "AT_ONCE", 100)
    cut = marginal(model, 5, *given)
    assert cut.value == pytest.approx(whole.value, abs=1e-10)
    np.testing.assert_allclose(cut.by_coefficients[0], whole.by_coefficients[0], atol=1e-9)
    np.testing.assert_allclose(np.ravel(cut.by_Lambda), np.ravel(whole.by_Lambda), atol=1e-9)


@pytest.mark.parametrize(("k", "nagq"), [(1, 7), (2, 5), (2, 25), (3, 9), (3, 15), (4, 7)])
def test_a_grid_has_the_moments_of_the_normal(k, nagq):
    nodes, log_w = grid(k, nagq)
    w = np.exp(log_w)
    odd_factorials = np.array([1, 0, 1, 0, 3, 0, 15])
    for powers in product(range(7), repeat=k):
        if sum(powers) <= 6:
            truth = odd_factorials[list(powers)].prod()
            found = w @ np.prod(nodes ** np.array(powers), axis=1)
            assert found == pytest.approx(truth, abs=2e-7)


def test_a_large_grid_has_no_corners():
    assert len(grid(4, 9)[0]) <= 9**4
    assert len(grid(3, 25)[0]) < 0.6 * 25**3


# ---- fits


def toenail(shared_data):
    frame = pd.read_csv(shared_data / "toenail.csv")
    frame["y"] = (frame["outcome"] == "moderate or severe").astype(int)
    return gb.Model("y ~ treatment * time + (1 | patientID)", frame, "bernoulli")


def culcita(shared_data):
    frame = pd.read_csv(shared_data / "culcita.csv", dtype={"block": str})
    frame["ttt"] = pd.Categorical(frame["ttt"], ["none", "crabs", "shrimp", "both"])
    return gb.Model("predation ~ ttt + (1 | block)", frame, "bernoulli")


def cbpp(shared_data):
    frame = pd.read_csv(shared_data / "cbpp.csv", dtype={"herd": str, "period": str})
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    return gb.Model(formula, frame, "binomial")


def epil(shared_data):
    frame = pd.read_csv(shared_data / "epil.csv")
    return gb.Model("y ~ lbase * trt + lage + V4 + (1 | subject)", frame, "poisson")


def contraception(shared_data):
    frame = pd.read_csv(shared_data / "contraception.csv")
    frame["y"] = (frame["use"] == "Y").astype(int)
    formula = "y ~ age + I(age**2) + urban + livch + (1 | district)"
    return gb.Model(formula, frame, "bernoulli")


def fit_of(reference, case, label):
    return next(f for f in reference(case)["fits"] if f["label"] == label)


def agrees(fit, theirs, *, loglik=None):
    loglik = theirs["logLik"] if loglik is None else loglik
    assert fit.loglik == pytest.approx(loglik, abs=1e-4)
    beta = fit.mode.theta[fit.model.layout["beta"]]
    # The intercept is that of centred columns.
    X = fit.model.means("mu")
    beta[0] -= X[1:] @ beta[1:]
    estimates = [c["estimate"] for c in theirs["fixef"].values()]
    np.testing.assert_allclose(beta, estimates, atol=1e-3)
    (sd,) = next(iter(theirs["varcomp"].values()))["sd"]
    (Lambda,) = fit.mode.Lambdas.values()
    assert Lambda[0, 0] == pytest.approx(sd, abs=1e-3)
    errors = np.array([c["se"] for c in theirs["fixef"].values()])
    ours = np.sqrt(np.diag(fit.mode.beta_covariance))
    np.testing.assert_allclose(ours, errors, rtol=0.01)


@pytest.mark.parametrize(
    ("case", "make", "nagq"),
    [
        ("glmm_toenail_agq", toenail, 100),
        ("glmm_culcita_agq", culcita, 51),
        ("glmm_cbpp_agq", cbpp, 25),
        ("glmm_epil", epil, 25),
    ],
)
def test_fits_agree_with_dense_quadrature(shared_data, reference, case, make, nagq):
    agrees(make(shared_data).fit("ml", nagq=nagq), fit_of(reference, case, "exact_ML"))


@pytest.mark.parametrize(
    ("case", "make"), [("glmm_toenail_agq", toenail), ("glmm_contraception", contraception)]
)
@pytest.mark.parametrize("nagq", [5, 10, 25])
def test_fits_agree_with_lme4(shared_data, reference, case, make, nagq):
    """Of yes and no, whose likelihood has no constants that lme4 leaves out."""
    agrees(make(shared_data).fit("ml", nagq=nagq), fit_of(reference, case, f"lme4_nAGQ{nagq}"))


def test_a_fit_with_many_nodes_keeps_its_options_and_effects():
    fit = gb.Model("count ~ x + (1 | pen)", DATA, "poisson").fit("ml", nagq=9, seed=1)
    assert fit.options["nagq"] == 9
    assert fit.method == "ml"
    (effects,) = fit.mode.effects.values()
    assert effects.shape == (12, 1)


# ---- what is refused


@pytest.mark.parametrize(
    ("formula", "family", "words"),
    [
        (
            "count ~ x + (1 | pen) + (1 | other)",
            "poisson",
            r"\(1 \| pen\).*\(1 \| other\).*crossed",
        ),
        ("count ~ x + (1 | mm(pen, other))", "poisson", "several levels"),
        ("count ~ x", "poisson", "no random effects"),
        (
            "count ~ x + (1 + x + I(x**2) + yes + n:x | pen)",
            "poisson",
            "5 effects a level",
        ),
        ("size ~ x + (1 | pen)", "gaussian", "exact already: leave nagq=5 out"),
    ],
)
def test_what_cannot_be_integrated_is_named_with_an_alternative(formula, family, words):
    with pytest.raises(NotSupportedError, match=words):
        gb.Model(formula, DATA, family).fit("ml", nagq=5)


def test_crossed_terms_are_told_what_to_do():
    model = gb.Model("count ~ x + (1 | pen) + (1 | other)", DATA, "poisson")
    with pytest.raises(NotSupportedError, match=r"fit\('ml'\) without nagq.*fit\('nuts'\)"):
        model.fit("ml", nagq=5)


def test_a_grid_that_is_too_large_says_how_large_it_may_be():
    model = gb.Model("count ~ x + (1 + x + yes | herd) + (1 | pen)", DATA, "poisson")
    with pytest.raises(NotSupportedError, match=r"nagq=25 needs .* take nagq=11 or less"):
        model.fit("ml", nagq=25)


@pytest.mark.parametrize("nagq", [0, -1, 2.5, 101, "5", True])
def test_nagq_is_a_whole_number(nagq):
    model = gb.Model("count ~ x + (1 | pen)", DATA, "poisson")
    with pytest.raises(UnknownNameError, match="whole number from 1 to 100"):
        model.fit("ml", nagq=nagq)


def test_restricted_likelihood_is_by_laplaces_method_only():
    model = gb.Model("count ~ x + (1 | pen)", DATA, "poisson")
    with pytest.raises(NotSupportedError, match=r"use fit\('ml', nagq=5\)"):
        model.fit("reml", nagq=5)
