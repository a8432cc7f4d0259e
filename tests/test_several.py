"""Several responses: their joint density against SciPy's, fits against dense algebra and R."""

import numpy as np
import pandas as pd
import pytest
from pointmap import pymc_logp, pymc_point
from scipy import stats
from scipy.optimize import approx_fprime

import glmm_bayes as gb
from glmm_bayes.density import read_density
from glmm_bayes.families.expansion import expand

N, Q = 60, 12


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    g = np.resize(np.arange(Q), N)
    x, z = rng.normal(size=(2, N))
    b = rng.multivariate_normal([0, 0, 0], [[1, 0.5, 0.2], [0.5, 1, 0], [0.2, 0, 0.6]], Q)
    e = rng.multivariate_normal([0, 0, 0], [[1, -0.4, 0.3], [-0.4, 0.5, 0], [0.3, 0, 0.8]], N)
    n = rng.integers(3, 9, N)
    return pd.DataFrame(
        {
            "g": [f"g{k}" for k in g],
            "x": x,
            "z": z,
            "n": n,
            "w": rng.uniform(0.5, 2.0, N),
            "y1": 1.0 + 0.5 * x + b[g, 0] + e[:, 0],
            "y2": -1.0 + 0.3 * z + b[g, 1] + e[:, 1],
            "y3": 0.2 * x + b[g, 2] + e[:, 2],
            "count": rng.poisson(np.exp(0.3 + 0.2 * x + 0.5 * b[g, 1])),
            "wins": rng.binomial(n, 0.4),
            "yes": np.where(rng.uniform(size=N) < 0.4, "no", "yes"),
            "share": rng.uniform(0.1, 0.9, N),
            "c": np.resize(["none", "none", "right"], N),
        }
    )


def with_gaps(data, **rows):
    """Take some responses away."""
    gaps = data.assign(count=data["count"].astype(float), wins=data["wins"].astype(float))
    for name, at in rows.items():
        gaps.loc[at, name] = None if name == "yes" else np.nan
    return gaps


# ---- the joint density


def expanded(model, eta):
    names = [p.name for p in model.family.parameters]
    response = model.design.response
    links = model.links
    return expand(model.family, links, names, response.y, response.given, None, eta, 3)


def predictors(model, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(scale=0.4, size=(len(model.family.parameters), model.nobs))


def natural(model, eta):
    return {
        p.name: model.links[p.name].linkinv(row)
        for p, row in zip(model.family.parameters, eta, strict=True)
    }


def matrix(p, row, labels):
    """Write the correlation matrix of three, by the definition of a partial correlation."""
    r12, r13 = p["rho_y1_y2"][row], p["rho_y1_y3"][row]
    partial = p["rho_y2_y3_given_y1"][row]
    r23 = partial * np.sqrt((1 - r12**2) * (1 - r13**2)) + r12 * r13
    R = np.array([[1, r12, r13], [r12, 1, r23], [r13, r23, 1]])
    at = [("y1", "y2", "y3").index(label) for label in labels]
    return R[np.ix_(at, at)]


@pytest.mark.parametrize("family", ["gaussian", "student"])
def test_correlated_responses_have_scipys_density(data, family):
    """Rows without some responses have the marginal density of the others."""
    gaps = with_gaps(data, y1=[0, 3, 4], y2=[3, 7], y3=[4, 9])
    model = gb.Model(["mvbind(y1, y2, y3) ~ x", "rescor ~ 1"], gaps, family=family)
    eta = predictors(model)
    p = natural(model, eta)
    found = expanded(model, eta).value
    for row in range(N):
        there = [label for label in ("y1", "y2", "y3") if not np.isnan(gaps[label][row])]
        sd = np.array([p[f"sigma_{label}"][row] for label in there])
        S = matrix(p, row, there) * np.outer(sd, sd)
        mean = [p[f"mu_{label}"][row] for label in there]
        y = gaps.loc[row, there].to_numpy(float)
        if family == "gaussian":
            expected = stats.multivariate_normal(mean, S).logpdf(y)
        else:
            expected = stats.multivariate_t(mean, S, df=p["nu"][row]).logpdf(y)
        assert found[row] == pytest.approx(expected, rel=1e-10)


MIXED = ["y1 ~ x", "count ~ z", "wins | trials(n) ~ x", "yes ~ 1"]
FAMILIES = {"y1": "student", "count": "negbinomial", "wins": "binomial", "yes": "bernoulli"}


def test_independent_responses_have_the_sum_of_their_densities(data):
    gaps = with_gaps(data, y1=[0, 3], count=[5], wins=[0], yes=[8, 9])
    model = gb.Model(MIXED, gaps, family=FAMILIES)
    eta = predictors(model)
    p, found = natural(model, eta), expanded(model, eta).value
    size, mu = p["alpha_count"], p["mu_count"]
    each = [
        stats.t(p["nu_y1"], p["mu_y1"], p["sigma_y1"]).logpdf(gaps["y1"]),
        stats.nbinom(size, size / (size + mu)).logpmf(gaps["count"]),
        stats.binom(data["n"], p["mu_wins"]).logpmf(gaps["wins"]),
        np.where(gaps["yes"] == "yes", np.log(p["mu_yes"]), np.log1p(-p["mu_yes"])),
    ]
    absent = gaps[["y1", "count", "wins", "yes"]].isna().to_numpy().T
    expected = np.where(absent, 0.0, each).sum(axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def models(data):
    gaps = with_gaps(data, y1=[0, 3, 4], y2=[6, 7], count=[5])
    return {
        "gaussian": gb.Model("mvbind(y1, y2) ~ x + (1 |p| g)", data),
        "three": gb.Model(["mvbind(y1, y2, y3) ~ x", "sigma ~ z", "rho_y1_y2 ~ x"], data),
        "gaps": gb.Model(["mvbind(y1, y2) ~ x + (1 |p| g)", "rescor ~ 1"], gaps),
        "student": gb.Model("mvbind(y1, y2) ~ x", data, family="student"),
        "mixed": gb.Model([*MIXED, "sigma_y1 ~ (1 | g)"], gaps, family=FAMILIES),
        "weighted": gb.Model(["y1 | weights(w) ~ x", "y2 | censored(c) ~ z"], data),
    }


@pytest.mark.parametrize("name", ["gaussian", "three", "gaps", "student", "mixed", "weighted"])
def test_derivatives_and_readers_agree(data, name):
    """The arrays' density has the slopes of its differences, and PyMC's differs by a constant."""
    model = models(data)[name]
    joint, logp, rng = read_density(model), pymc_logp(model), np.random.default_rng(2)
    ours, theirs = [], []
    for _ in range(3):
        x = rng.normal(scale=0.2, size=joint.size)
        value, slope = joint.value_and_gradient(x)
        by_differences = approx_fprime(x, lambda x: joint.value_and_gradient(x)[0], 1e-7)
        np.testing.assert_allclose(slope, by_differences, rtol=2e-4, atol=2e-4)
        ours.append(value)
        theirs.append(float(logp(**pymc_point(model, joint, x))))
    np.testing.assert_allclose(np.diff(ours), np.diff(theirs), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["three", "gaps", "student", "mixed", "weighted"])
def test_expansions_are_those_of_differences(data, name):
    model = models(data)[name]
    eta, h = predictors(model, 3), 1e-5
    found = expanded(model, eta)
    for a in range(len(eta)):
        up, down = eta.copy(), eta.copy()
        up[a] += h
        down[a] -= h
        one, other = expanded(model, up), expanded(model, down)
        for order in ("value", "first", "second"):
            difference = (getattr(one, order) - getattr(other, order)) / (2 * h)
            slope = {"value": found.first, "first": found.second, "second": found.third}[order][a]
            np.testing.assert_allclose(slope, difference, rtol=1e-5, atol=2e-5)
