"""Drift diffusion: fits and draws of times with the boundary that was reached."""

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

import glmm_bayes as gb
from glmm_bayes.errors import DataError
from glmm_bayes.families import FAMILIES

WIENER = FAMILIES["wiener"]
# Drift, separation, time before, start.
CASES = [(1.2, 1.5, 0.2, 0.4), (-3.0, 1.0, 0.1, 0.7), (0.0, 2.0, 0.3, 0.5), (0.5, 0.8, 0.05, 0.05)]


def params(case):
    return dict(zip(("mu", "bs", "ndt", "bias"), map(np.array, case), strict=True))


def simulated(n=400, seed=3):
    rng = np.random.default_rng(seed)
    x, g = np.resize([0.0, 1.0], n), np.arange(n) % 20
    drift = 0.4 + 0.9 * x + rng.normal(0, 0.5, 20)[g]
    own = {"mu": drift, "bs": np.full(n, 1.4), "ndt": np.full(n, 0.25), "bias": np.full(n, 0.45)}
    y = WIENER.draw(rng, own, None, n)
    choice = np.where(y > 0, "upper", "lower")
    return pd.DataFrame(
        {"rt": np.abs(y), "choice": choice, "signed": y, "x": x, "g": g.astype(str)}
    )


@pytest.mark.parametrize("case", CASES[:3])
def test_a_process_walked_in_small_steps_arrives_like_it(case):
    """Euler's steps, with the chance that a boundary was crossed between two: Brownian bridges."""
    v, a, t0, w = case
    rng, n, h = np.random.default_rng(1), 20_000, 0.002
    place, arrived = np.full(n, a * w), np.zeros(n)
    for k in range(1, 6000):
        left = np.flatnonzero(arrived == 0)
        if not len(left):
            break
        before = place[left]
        after = before + v * h + np.sqrt(h) * rng.standard_normal(len(left))
        with np.errstate(over="ignore"):
            low = rng.uniform(size=len(left)) < np.exp(-2 * before * np.maximum(after, 0) / h)
            gap = (a - before) * np.maximum(a - after, 0)
            high = rng.uniform(size=len(left)) < np.exp(-2 * gap / h)
        place[left] = after
        arrived[left] = np.where(low, -1, np.where(high, 1, 0)) * (t0 + (k - 0.5) * h)
    y = arrived[arrived != 0]
    assert len(y) > 0.999 * n
    assert stats.kstest(y, lambda at: WIENER.cdf(at, params(case), None)).pvalue > 0.001


@pytest.mark.parametrize("case", CASES)
def test_the_distribution_function_is_the_density_s_integral(case):
    own = params(case)

    def density(y):
        return float(np.exp(WIENER.logp(np.array(y), None, own)))

    ends = [-60.0, -8.0, -2.0, -0.6, 0.0, 0.6, 2.0, 8.0]
    for y in (-1.3, -0.5, 0.45, 0.9, 2.5):
        parts = [e for e in ends if e < y] + [y]
        pairs = zip(parts[:-1], parts[1:], strict=True)
        total = sum(integrate.quad(density, low, high, limit=300)[0] for low, high in pairs)
        assert float(WIENER.cdf(np.array(y), own, None)) == pytest.approx(total, abs=1e-10)


def test_the_share_of_a_boundary_and_the_mean_without_a_start_s_bias():
    """From the middle: 1 / (1 + exp(-a v)), and t0 + a tanh(a v / 2) / 2 v."""
    v, a, t0 = 0.8, 1.7, 0.3
    own = params((v, a, t0, 0.5))
    upper = 1 / (1 + np.exp(-a * v))
    assert 1 - WIENER.cdf(np.array(0.0), own, None) == pytest.approx(upper, rel=1e-10)
    time = t0 + a / (2 * v) * np.tanh(a * v / 2)
    assert WIENER.expectation(own) == pytest.approx((2 * upper - 1) * time, rel=1e-12)


def test_a_maximum_is_near_the_truth_and_words_are_signs():
    data = simulated()
    formulas = ["rt | dec(choice) ~ x + (1 | g)"]
    fit = gb.Model(formulas, data, family="wiener").fit("ml")
    table = fit.fixef()
    assert abs(table.loc["x", "estimate"] - 0.9) < 3 * table.loc["x", "std_error"]
    assert fit.theta["bs"] == pytest.approx(1.4, rel=0.1)
    assert fit.theta["ndt"] == pytest.approx(0.25, abs=0.02)
    signed = gb.Model("signed ~ x + (1 | g)", data, family="wiener").fit("ml")
    assert signed.loglik == pytest.approx(fit.loglik, abs=1e-8)
    assert stats.kstest(fit.residuals(), "norm").pvalue > 0.01
    drawn = fit.simulate(2, seed=1)
    assert (drawn < 0).any()
    assert (np.abs(drawn) > fit.theta["ndt"]).all()


def test_every_parameter_may_have_a_formula():
    data = simulated()
    model = gb.Model(["rt | dec(choice) ~ x", "bs ~ x", "bias ~ 1"], data, family="wiener")
    fit = model.fit("ml")
    smaller = gb.Model(["rt | dec(choice) ~ x"], data, family="wiener").fit("ml")
    assert smaller.loglik <= fit.loglik < smaller.loglik + 6


@pytest.mark.parametrize(
    ("response", "family", "words"),
    [
        ("rt | dec(g)", "wiener", "'lower' or 'upper'"),
        ("signed | dec(choice)", "wiener", "must be positive"),
        ("rt | dec(choice)", "gaussian", "use family='wiener'"),
    ],
)
def test_what_does_not_fit_is_said(response, family, words):
    with pytest.raises(DataError, match=words):
        gb.Model(f"{response} ~ x", simulated(40), family=family)
