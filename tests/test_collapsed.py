"""Random effects integrated out: the density left, the effects drawn, and known posteriors."""

import warnings

import numpy as np
import pandas as pd
import pytest
import test_posteriors as peers

import glmm_bayes as gb
from glmm_bayes.density import read_density
from glmm_bayes.errors import ConvergenceError, ConvergenceWarning, NotSupportedError
from glmm_bayes.inference import collapsed as room
from glmm_bayes.inference.collapsed import OuterDensity, outer_frame, read_marginal

N = 60
SMALL = {
    "sampler": "collapsed", "chains": 2, "draws": 40, "tune": 60, "progressbar": False, "seed": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(31)
    g, h, x = np.repeat(np.arange(6), N // 6), np.resize(np.arange(4), N), rng.normal(size=N)
    eta = 0.3 + 0.5 * x + rng.normal(0, 0.8, 6)[g] + rng.normal(0, 0.5, 4)[h]
    return pd.DataFrame(
        {
            "x": x,
            "g": [f"g{k}" for k in g],
            "h": [f"h{k}" for k in h],
            "w": rng.uniform(0.5, 2.0, N),
            "o": rng.normal(size=N),
            "real": eta + rng.normal(0, 0.7, N),
            "size": np.exp(eta + rng.normal(0, 0.7, N)),
            "count": rng.poisson(np.exp(eta)),
        }
    )


def read(model):
    """Give the joint density, and the collapsed one."""
    joint = read_density(model, dict.fromkeys([term.name for term in model.design.terms], False))
    return joint, OuterDensity(model, joint, read_marginal(model), *outer_frame(model, joint))


def differences(function, x, h=1e-4):
    steps = h * np.eye(len(x))
    return np.array(
        [
            (8 * (function(x + e) - function(x - e)) - function(x + 2 * e) + function(x - 2 * e))
            / (12 * h)
            for e in steps
        ]
    )


def effects_moments(joint, x):
    """Give mean and precision of the effects, of whose density the log is a quadratic."""
    d = joint.outer.size

    def slope(v):
        return joint.value_and_gradient(np.concatenate([x, v]))[1][d:]

    zero = np.zeros(joint.size - d)
    columns = np.array([slope(e) for e in np.eye(len(zero))]).reshape(len(zero), len(zero))
    H = slope(zero) - columns
    return np.linalg.solve(H, slope(zero)), H


NORMAL = {
    "crossed": ("real ~ x + (1 + x | g) + (1 | h)", "gaussian", {}),
    "weights and offset": ("real | weights(w) ~ x + offset(o) + (1 | g)", "gaussian", {}),
    "lognormal": ("size ~ x + (1 | g)", "lognormal", {}),
    "fixed parameters": (
        "real ~ x + (1 | g) + (1 | h)", "gaussian",
        {"beta[x]": 0.3, "sd_h": 0.4, "sigma": 0.9},
    ),
    "truncated prior": (
        "real ~ x + (1 | g)", "gaussian", {"beta[x]": gb.Prior("HalfNormal", sigma=1)},
    ),
    "no effects": ("real ~ x", "gaussian", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", NORMAL)
def test_a_normal_response_leaves_the_integral_of_the_joint_density(data, name):
    """By the moments of a normal density in all effects at once, and their determinant."""
    formula, family, priors = NORMAL[name]
    joint, density = read(gb.Model(formula, data, family, priors=priors))
    rng = np.random.default_rng(2)
    gaps = []
    for _ in range(3):
        z = rng.normal(size=joint.outer.size)
        x = density.place(z)
        mean, H = effects_moments(joint, x)
        integral = joint.value_and_gradient(np.concatenate([x, mean]))[0]
        integral -= 0.5 * np.linalg.slogdet(H)[1]
        value, gradient = density(z)
        gaps.append(value - integral)
        expected = differences(lambda z: density(z)[0], z)
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(gaps, gaps[0], rtol=1e-9, atol=1e-8)


def test_the_effects_of_a_normal_response_have_their_conditional_moments(data):
    joint, density = read(gb.Model(NORMAL["crossed"][0], data))
    z = np.full(joint.outer.size, 0.3)
    x = density.place(z)
    mean, H = effects_moments(joint, x)
    theta = joint.outer.constrain(x)
    rng, factors = np.random.default_rng(3), density.parts(theta)[1]
    draws = []
    for _ in range(4000):
        b, weight = density.marginal.draw(*density.parts(theta), rng.standard_normal(len(mean)))
        v = [np.linalg.solve(L, part.T).T for L, part in zip(factors, b, strict=True)]
        draws.append(np.concatenate([part.ravel() for part in v]))
        assert weight == 0
    draws, covariance = np.array(draws), np.linalg.inv(H)
    sd = np.sqrt(np.diag(covariance))
    assert (np.abs(draws.mean(axis=0) - mean) < 5 * sd / np.sqrt(4000)).all()
    error = np.sqrt((covariance**2 + np.outer(sd, sd) ** 2) / 4000)
    assert (np.abs(np.cov(draws.T) - covariance) < 5 * error).all()


@pytest.mark.parametrize(
    ("formula", "family"),
    [
        ("count ~ x + (1 + x | g)", "poisson"),
        ("count ~ x + (1 | g)", "negbinomial"),
        (["real ~ x + (1 | g)", "sigma ~ x + (1 | h)"], "gaussian"),
    ],
)
def test_laplaces_density_has_its_gradient(data, formula, family):
    joint, density = read(gb.Model(formula, data, family))
    z = np.random.default_rng(4).uniform(-1.0, 1.0, joint.outer.size)
    # Newton's method ends within rounding of the mode, which small steps would magnify.
    expected = differences(lambda z: density(z)[0], z, h=2e-3)
    np.testing.assert_allclose(density(z)[1], expected, rtol=1e-4, atol=1e-5)


# ---- as a method


def fitted(model, **options):
    """Fit with few draws, of which the diagnostics may rightly complain."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit("nuts", **{**SMALL, **options})


def test_the_fit_says_whether_it_is_exact(data):
    exact = fitted(gb.Model("real ~ x + (1 | g)", data))
    assert "integrated out, and drawn given the other parameters, exactly" in str(exact.summary())
    approximate = fitted(gb.Model("count ~ x + (1 | g)", data, "poisson"))
    words = approximate.statistics.attrs["notes"]
    assert "by Laplace's approximation: fit('posthoc') is exact" in words
    assert "Pareto k" in words
    assert set(exact.idata.children) >= {"posterior", "sample_stats", "log_likelihood"}


def test_seeds_reproduce_with_any_number_of_cores(data):
    model = gb.Model("count ~ x + (1 | g)", data, "poisson")
    one, two = (fitted(model, cores=cores).idata["posterior"].to_dataset() for cores in (1, 2))
    assert one.equals(two)
    assert not np.array_equal(one["beta"][0], one["beta"][1])


def test_what_it_cannot_do(data, monkeypatch):
    model = gb.Model("real ~ x + (1 | g)", data)
    with pytest.raises(NotSupportedError, match="start='prior' is not for sampler='collapsed'"):
        fitted(model, start="prior")
    alone = gb.Model("real ~ x + (1 | g)", data, priors={"beta": 0.1, "sd": 1.0, "sigma": 1.0})
    with pytest.raises(NotSupportedError, match="No parameter is left to sample"):
        fitted(alone)

    class Rootless:
        has_root = False

    with pytest.raises(NotSupportedError, match="no factor to draw them by; use sampler='nutpie'"):
        room._refuse_without_root(Rootless())

    def nowhere(*_):
        raise np.linalg.LinAlgError("flat")

    monkeypatch.setattr(room, "outer_frame", nowhere)
    with pytest.raises(ConvergenceError, match=r"no mode to start from \(flat\)"):
        fitted(model)


@pytest.mark.slow
@pytest.mark.usefixtures("shared_data")
@pytest.mark.parametrize("case", ["bayes_sleepstudy_slopes", "bayes_cbpp"])
def test_posterior_agrees_with_the_peer(case, reference):
    """Exactly for sleepstudy; for cbpp Laplace's error is less than the Monte Carlo error."""
    theirs = reference(case)["fits"][0]["posterior"]
    fit = peers.CASES[case]().fit("nuts", seed=9, sampler="collapsed", progressbar=False)
    table = peers.compared(fit, theirs)
    assert (table.abs() < peers.LIMIT).all(axis=None), table
