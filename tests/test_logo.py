"""Levels left out with their effects integrated out: by closed forms and brute quadrature."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp
from scipy.stats import halfnorm, multivariate_normal, norm, poisson

import glmm_bayes as gb
from glmm_bayes.engine.integrals.apart import Apart
from glmm_bayes.errors import DataError, NotSupportedError

# Estimates have errors of their own, which are looked at here.
pytestmark = [
    pytest.mark.filterwarnings("ignore::glmm_bayes.errors.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Estimated shape parameter:UserWarning"),
]

WIDE, SPREAD, SIGMA = 2.0, 1.5, 0.5
INTERCEPT = gb.Prior("Normal", mu=0, sigma=WIDE)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"g": np.repeat([*"abcdef"], 4), "h": np.tile([*"uvwx"], 6)})
    frame["k"] = np.tile([*"mmnn"], 6)
    level = rng.normal(size=6)[np.repeat(np.arange(6), 4)]
    frame["y"] = level + SIGMA * rng.normal(size=24)
    frame["n"] = rng.poisson(np.exp(0.3 + level))
    return frame


def same(*columns):
    codes = pd.Series(list(zip(*columns, strict=True))).factorize()[0]
    return np.equal.outer(codes, codes)


def given_others(y, V, left_out):
    """The log density of the rows left out together, given the others."""
    kept = ~left_out
    solved = np.linalg.solve(V[np.ix_(kept, kept)], V[np.ix_(kept, left_out)])
    own = V[np.ix_(left_out, left_out)] - V[np.ix_(left_out, kept)] @ solved
    return multivariate_normal.logpdf(y[left_out], solved.T @ y[kept], own)


@pytest.mark.parametrize(
    ("formula", "sd", "parts"),
    [
        ("y ~ 1 + (1 | g)", {"sd_g": 1.0}, [("g",)]),
        ("y ~ 1 + (1 | g / k)", {"sd_g": 0.8, "sd_g:k": 0.6}, [("g",), ("g", "k")]),
        ("y ~ 1 + (1 | g) + (1 | h)", {"sd_g": 0.8, "sd_h": 0.6}, [("g",), ("h",)]),
    ],
    ids=["one", "nested", "crossed"],
)
def test_where_variances_are_known_it_is_the_closed_form(data, formula, sd, parts):
    priors = {"beta[Intercept]": INTERCEPT, "sigma": SIGMA, **sd}
    model = gb.Model(formula, data, priors=priors)
    found = model.fit("posthoc", seed=1, draws=1000, progressbar=False).logo("g")
    V = WIDE**2 + SIGMA**2 * np.eye(24)
    for value, columns in zip(sd.values(), parts, strict=True):
        V = V + value**2 * same(*(data[c] for c in columns))
    expected = [
        given_others(data["y"].to_numpy(), V, (data["g"] == g).to_numpy()) for g in "abcdef"
    ]
    np.testing.assert_allclose(found.elpd_i, expected, atol=0.05)
    assert list(found.elpd_i["g"].to_numpy()) == [*"abcdef"]
    assert found.kind == "logo"


def counts_evidence(n):
    """Log p(y) of n ~ 1 + (1 | g), levels by 60 nodes, the rest on a grid: counts `(G, m)`."""
    x, w = np.polynomial.hermite_e.hermegauss(60)
    log_w = np.log(w) - 0.5 * np.log(2 * np.pi)
    b, log_sd = np.linspace(-5, 4, 60), np.linspace(-8, 2, 70)
    values = np.empty((len(b), len(log_sd)))
    for i, j in np.ndindex(values.shape):
        rate, sd = np.exp(b[i] + np.exp(log_sd[j]) * x), np.exp(log_sd[j])
        levels = logsumexp(poisson.logpmf(n[:, :, None], rate).sum(axis=1) + log_w, axis=1)
        prior = norm.logpdf(b[i], 0, WIDE) + halfnorm.logpdf(sd, scale=SPREAD)
        values[i, j] = levels.sum() + prior + log_sd[j]
    inner = np.trapezoid(np.exp(values - values.max()), log_sd, axis=1)
    return values.max() + np.log(np.trapezoid(inner, b))


@pytest.fixture(scope="module")
def counts(data):
    priors = {"beta[Intercept]": INTERCEPT, "sd_g": gb.Prior("HalfNormal", sigma=SPREAD)}
    model = gb.Model("n ~ 1 + (1 | g)", data, "poisson", priors=priors)
    return model.fit("posthoc", seed=1, progressbar=False)


def test_of_counts_it_is_the_ratio_of_evidences(counts, data):
    n = data["n"].to_numpy().reshape(6, 4)
    whole = counts_evidence(n)
    expected = [whole - counts_evidence(np.delete(n, g, axis=0)) for g in range(3)]
    found = counts.logo()
    np.testing.assert_allclose(found.elpd_i[:3], expected, atol=0.06)
    assert found.p < 6


def test_levels_of_unreliable_weights_are_refitted(counts, data):
    n = data["n"].to_numpy().reshape(6, 4)
    first, found = counts.logo(), counts.logo(refit=True)
    (bad,) = np.flatnonzero(first.pareto_k > first.good_k)
    expected = counts_evidence(n) - counts_evidence(np.delete(n, bad, axis=0))
    assert float(found.elpd_i[bad]) == pytest.approx(expected, abs=0.06)
    assert found.pareto_k.max() < found.good_k
    assert found.elpd == pytest.approx(float(found.elpd_i.sum()))
    others = np.delete(np.arange(6), bad)
    np.testing.assert_array_equal(found.elpd_i[others], first.elpd_i[others])


def test_levels_rank_models(counts, data):
    fewer = gb.Model("n ~ 1", data, "poisson", priors={"beta[Intercept]": INTERCEPT})
    other = fewer.fit("posthoc", seed=1, draws=500, progressbar=False)
    found = gb.compare({"levels": counts.logo(), "none": other.logo("g")})
    assert list(found.index) == ["levels", "none"]


# ---- the integrals


def integrals_of(y, base, A):
    def value(eta):
        return poisson.logpmf(y, np.exp(eta[0]))

    def slopes(eta):
        return (y - np.exp(eta[0]))[None], np.exp(eta)[None]

    return Apart(value, slopes, np.array([0]), base, A)


def brute(y, base, sd):
    x = np.linspace(-9, 9, 4001)
    rows = poisson.logpmf(y[:, None], np.exp(base[:, None] + sd * x)).sum(axis=0)
    return logsumexp(rows + norm.logpdf(x)) + np.log(x[1] - x[0])


@pytest.mark.parametrize("d", [1, 2, 4])
def test_integrals_of_effects_apart_are_those_of_each(d):
    """By quadrature of one and two effects, and by importance sampling of four."""
    rng, S, m = np.random.default_rng(d), 3, 3
    y, base = rng.poisson(2.0, d * m), rng.normal(size=(1, S, d * m))
    sd, owner = np.array([0.3, 1.0, 1.5]), np.repeat(np.arange(d), m)
    A = sd[:, None, None] * (owner[:, None] == np.arange(d))
    found = integrals_of(y, base, A[None]).log_integrals(rng, exact=False)
    expected = [
        sum(brute(y[owner == k], base[0, s, owner == k], sd[s]) for k in range(d)) for s in range(S)
    ]
    np.testing.assert_allclose(found, expected, atol=2e-3 if d < 3 else 0.1)


# ---- what cannot be


def test_what_cannot_be_left_out_is_said(data):
    two = gb.Model("y ~ 1 + (1 | g) + (1 | h)", data)
    fit = two.fit("posthoc", seed=1, draws=100, progressbar=False)
    with pytest.raises(DataError, match=r"2 groups; say which to leave out: logo\('g'\)"):
        fit.logo()
    timed = gb.Model("y ~ 1 + ar1(t | g)", data.assign(t=np.tile(np.arange(4.0), 6)))
    fit = timed.fit("posthoc", seed=1, draws=100, progressbar=False)
    with pytest.raises(NotSupportedError, match=r"depend on each other.* kfold\(group=…\)"):
        fit.logo("g")
