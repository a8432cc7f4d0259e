"""The polynomial in place of a density: draws and densities against closed forms."""

from functools import cache

import numpy as np
import pytest
from scipy import stats

from glmm_bayes.engine.polynomials.bend import Bend
from glmm_bayes.engine.polynomials.polynomial import (
    Polynomial,
    fit_polynomial,
    powers,
    products,
    slopes,
)
from glmm_bayes.engine.polynomials.surrogate import fit_surrogate

DRAWS = 20_000


def counted(density):
    """Count evaluations."""

    def evaluate(x):
        evaluate.count += 1
        return density(x)

    evaluate.count = 0
    return evaluate


def normal(precision):
    """Make a normal density of mean 1."""
    return lambda x: (-0.5 * (x - 1) @ precision @ (x - 1), -precision @ (x - 1))


def log_gamma(a):
    """Make the density of the logarithm of a gamma variable of shape a."""
    return lambda x: (float(a * x[0] - np.exp(x[0])), a - np.exp(x))


def banana(x):
    """Make x0 standard normal, and x1 normal about 0.3 x0^2 with standard deviation 1/2."""
    off = (x[1] - 0.3 * x[0] ** 2) / 0.25
    value = -0.5 * x[0] ** 2 - 0.125 * off**2
    return value, np.array([-x[0] + 0.6 * x[0] * off, -off])


def log_sd(x, *, squares=2.5, groups=3, scale=2.5):
    """
    Make the posterior of log sd of `groups` means of noise 1, half-t(3, 0, scale) a priori.

    A long tail to the left, where the data do not tell a small sd from none.
    """
    t = np.exp(2 * x[0])
    value = -0.5 * groups * np.log1p(t) - 0.5 * squares / (1 + t)
    slope = 2 * t * (-0.5 * groups / (1 + t) + 0.5 * squares / (1 + t) ** 2)
    ratio = t / (3 * scale**2)
    return value - 2 * np.log1p(ratio) + x[0], np.array([slope - 4 * ratio / (1 + ratio) + 1])


def student(precision, nu):
    """Make a multivariate t about 0."""
    d = len(precision)

    def density(x):
        square = x @ precision @ x
        return -0.5 * (nu + d) * np.log1p(square / nu), -(nu + d) * precision @ x / (nu + square)

    return density


def correlated(d):
    rng = np.random.default_rng(d)
    root = rng.normal(size=(d, d))
    return np.linalg.inv(root @ root.T / d + 0.3 * np.eye(d))


def root_of(precision):
    return np.linalg.cholesky(np.linalg.inv(precision))


def log_sd_mode():
    """Find the mode of `log_sd` and the spread there, by a fine grid."""
    grid = np.linspace(-6, 3, 90_001)
    values = np.array([log_sd(x)[0] for x in grid[::9, None]])
    mode = grid[::9][values.argmax()]
    h = 1e-3
    bend = (log_sd(np.array([mode - h]))[1] - log_sd(np.array([mode + h]))[1]) / (2 * h)
    return np.array([mode]), 1 / np.sqrt(bend[None])


CASES = {
    "normal": (normal(correlated(3)), np.ones(3), root_of(correlated(3))),
    "wide normal": (normal(correlated(12)), np.ones(12), root_of(correlated(12))),
    "log gamma": (log_gamma(1.5), np.log([1.5]), np.sqrt([[1 / 1.5]])),
    "very skewed": (log_gamma(0.5), np.log([0.5]), np.sqrt([[2.0]])),
    "banana": (banana, np.zeros(2), np.diag([1.0, 0.5])),
    "log sd": (log_sd, *log_sd_mode()),
    "student": (student(correlated(6), 5), np.zeros(6), root_of(correlated(6) * 11 / 5)),
}


@cache
def fitted(name):
    return fit_surrogate(*CASES[name])


@pytest.fixture(params=list(CASES))
def case(request):
    return request.param


def log_ratios(density, x, ours):
    """Give the true log density over the surrogate's, about its mean weight."""
    gaps = np.array([density(point)[0] for point in x]) - ours
    top = gaps.max()
    return gaps - top - np.log(np.mean(np.exp(gaps - top)))


def test_densities_of_draws_are_those_stated(case):
    surrogate = fitted(case)
    x, log_density = surrogate.sample(np.random.default_rng(1), 500)
    np.testing.assert_allclose(surrogate.log_density(x), log_density, atol=1e-8)


def test_metropolis_hastings_accepts_nearly_always(case):
    """The acceptance in equilibrium is E min(1, w'/w) over weighted w and unweighted w'."""
    density, origin, _ = CASES[case]
    surrogate = fitted(case)
    x, ours = surrogate.sample(np.random.default_rng(2), 4000)
    log_weight = log_ratios(density, x, ours)
    # The worst is the t of six dimensions, whose log density is no polynomial.
    least = 0.6 if len(origin) == 6 else 0.9
    assert np.minimum(np.exp(log_weight[::2]), np.exp(log_weight[1::2])).mean() > least
    # No draw is worth thousands: a chain would stay there for good.
    assert log_weight.max() < 6


def test_error_is_that_of_fresh_draws():
    density, origin, axes = CASES["log gamma"]
    surrogate = fit_surrogate(density, origin, axes)
    x, ours = surrogate.sample(np.random.default_rng(3), 4000)
    gaps = log_ratios(density, x, ours)
    assert 0 < surrogate.error < 0.05
    # Of 24 draws, and without what is farther out than these reach.
    assert np.std(gaps[np.abs(gaps) < 0.5]) < 3 * surrogate.error


def test_normals_are_exact():
    for name in ("normal", "wide normal"):
        density, origin, axes = CASES[name]
        surrogate = fit_surrogate(density, origin, axes)
        assert surrogate.error < 1e-3
        points = origin + np.random.default_rng(0).normal(size=(50, len(origin))) @ axes.T
        gaps = log_ratios(density, points, surrogate.log_density(points))
        np.testing.assert_allclose(gaps, 0, atol=2e-3)


@pytest.mark.parametrize("a", [0.5, 1.5, 20.0])
def test_draws_of_a_log_gamma(a):
    surrogate = fit_surrogate(log_gamma(a), np.log([a]), np.sqrt([[1 / a]]), tolerance=0.01)
    x, _ = surrogate.sample(np.random.default_rng(4), DRAWS)
    # Its own error is below the Monte Carlo error of so many draws, about 0.01.
    found = stats.kstest(x[:, 0], stats.loggamma(a).cdf)
    assert found.statistic < 1.63 / np.sqrt(DRAWS) + 0.006
    mean, variance = stats.loggamma(a).stats()
    assert x.mean() == pytest.approx(mean, abs=(4 / np.sqrt(DRAWS) + 0.01) * np.sqrt(variance))


def test_draws_of_a_banana():
    surrogate = fit_surrogate(*CASES["banana"])
    x, _ = surrogate.sample(np.random.default_rng(5), DRAWS)
    limit = 1.63 / np.sqrt(DRAWS) + 0.01
    assert stats.kstest(x[:, 0], stats.norm.cdf).statistic < limit
    assert stats.kstest((x[:, 1] - 0.3 * x[:, 0] ** 2) / 0.5, stats.norm.cdf).statistic < limit


def test_quantiles_of_a_log_sd_by_quadrature():
    """Three groups: the left tail of log sd falls no faster than e^x."""
    surrogate = fit_surrogate(*CASES["log sd"], tolerance=0.02)
    x, ours = surrogate.sample(np.random.default_rng(6), DRAWS)
    grid = np.linspace(-14, 8, 22_001)
    density = np.exp([log_sd(point)[0] for point in grid[:, None]])
    cdf = np.cumsum(density) / density.sum()
    quantiles = np.interp([0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99], cdf, grid)
    shares = (x[:, 0] < quantiles[:, None]).mean(axis=1)
    np.testing.assert_allclose(shares, [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99], atol=0.012)
    # Weighted by the ratio of densities, they are exact but for the Monte Carlo error.
    weights = np.exp(log_ratios(log_sd, x, ours))
    corrected = ((x[:, 0] < quantiles[:, None]) * weights).mean(axis=1)
    np.testing.assert_allclose(
        corrected, [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99], atol=4 * 0.5 / np.sqrt(DRAWS)
    )


@pytest.mark.parametrize("name", ["log sd", "very skewed", "log gamma"])
def test_density_is_that_of_the_draws(name):
    """Shares of draws between points against the integral of the stated density."""
    surrogate = fit_surrogate(*CASES[name])
    x, _ = surrogate.sample(np.random.default_rng(7), DRAWS)
    grid = np.linspace(-60, 60, 240_001)
    cdf = np.cumsum(np.exp(surrogate.log_density(grid[:, None])))
    cdf /= cdf[-1]
    found = stats.kstest(x[:, 0], lambda at: np.interp(at, grid, cdf))
    assert found.pvalue > 1e-3


def test_density_is_that_of_the_draws_in_six_dimensions():
    """Of y = draws of a t by the ratio of densities: weights of mean and law that agree."""
    density, surrogate = CASES["student"][0], fitted("student")
    x, ours = surrogate.sample(np.random.default_rng(8), DRAWS)
    weights = np.exp(log_ratios(density, x, ours))
    assert weights.mean() == pytest.approx(1)
    # Squared lengths of a t over d follow an F.
    length = np.einsum("si,ij,sj->s", x, correlated(6), x) / 6
    order = np.argsort(length)
    cdf = np.cumsum(weights[order]) / weights.sum()
    gap = np.abs(cdf - stats.f(6, 5).cdf(length[order])).max()
    assert gap < 2.5 / np.sqrt(DRAWS) * np.sqrt(np.mean(weights**2))


def test_same_draws_of_same_seeds():
    for seed in (1, 2):
        one, two = (
            fit_surrogate(*CASES["banana"]).sample(np.random.default_rng(seed), 300)
            for _ in range(2)
        )
        np.testing.assert_array_equal(one[0], two[0])
        np.testing.assert_array_equal(one[1], two[1])


def test_budget_and_count_of_evaluations():
    density = counted(student(correlated(6), 5))
    surrogate = fit_surrogate(density, *CASES["student"][1:], tolerance=1e-6, budget=150)
    assert surrogate.evaluations == density.count <= 150 + 150 // 5 + 24
    smooth = counted(CASES["normal"][0])
    assert fit_surrogate(smooth, *CASES["normal"][1:]).evaluations == smooth.count < 60


def test_regions_without_density_are_seldom_drawn():
    """A normal that ends at 2.5 standard deviations."""

    def density(x):
        inside = x[0] < 2.5
        return (float(-0.5 * x @ x) if inside else -np.inf), -x

    surrogate = fit_surrogate(density, np.zeros(2), np.eye(2))
    x, _ = surrogate.sample(np.random.default_rng(9), 4000)
    assert (x[:, 0] > 2.5).mean() < 0.02


def test_from_beside_the_mode():
    """An origin one standard deviation away, axes of half and twice the spread."""
    density = normal(correlated(3))
    axes = root_of(correlated(3)) * [0.5, 1.0, 2.0]
    surrogate = fit_surrogate(density, 1 + root_of(correlated(3))[:, 0], axes)
    x, ours = surrogate.sample(np.random.default_rng(10), 4000)
    weights = np.exp(log_ratios(density, x, ours))
    assert np.minimum(weights[::2], weights[1::2]).mean() > 0.9
    np.testing.assert_allclose(x.mean(axis=0), 1, atol=0.1)


NEAR, FAR = ([1.0, 6.0, 2.0], [3.0, 2.0, 2.0]), ([np.nan, 11.0, 4.0], [6.0, np.nan, np.nan])


@pytest.mark.parametrize("far", [(), FAR], ids=["near", "far"])
def test_bend_is_inverted(far):
    bend = Bend.reaching(*(np.array(side) for side in (*NEAR, *far)))
    np.testing.assert_allclose(bend(np.full(3, -3.0)), [-1, -6, -2])
    np.testing.assert_allclose(bend(np.full(3, 3.0)), [3, 2, 2])
    np.testing.assert_allclose(bend(np.zeros(3)), 0, atol=1e-14)
    z = np.random.default_rng(11).normal(size=(40, 3)) * 3
    np.testing.assert_allclose(bend.inverse(bend(z)), z, atol=1e-10)
    h = 1e-5
    rate, log_jacobian, slope = bend.jacobian(z)
    assert (rate > 0).all()
    np.testing.assert_allclose(rate, (bend(z + h) - bend(z - h)) / (2 * h), rtol=1e-6)
    np.testing.assert_allclose(log_jacobian, np.log(rate).sum(axis=1))
    by_differences = np.log(bend.jacobian(z + h)[0]) - np.log(bend.jacobian(z - h)[0])
    np.testing.assert_allclose(slope, by_differences / (2 * h), atol=1e-6)


def test_bend_goes_as_far_as_an_increasing_map_may():
    left, right = np.array([5.0, 5.0]), np.array([2.5, 2.5])
    bend = Bend.reaching(left, right, np.array([9.0, 40.0]), np.full(2, np.nan))
    far = -bend(np.full(2, -4.5))
    assert far[0] == pytest.approx(9.0)
    assert 7.5 < far[1] < 40.0
    z = np.linspace(-30, 30, 2001)[:, None]
    assert np.all(np.diff(bend(np.hstack([z, z])), axis=0) > 0)


def crossed_sds(x):
    """Two log sds, of which one is hardly known, and their correlated mean."""
    value, slope = log_sd(x[:1], squares=1.2)
    gap = x[1:] - np.array([0.1, -0.2]) - 0.2 * np.tanh(x[0])
    by_first = float(gap.sum()) * 0.2 / np.cosh(x[0]) ** 2 / 0.04
    return value - 0.5 * float(gap @ gap) / 0.04, np.concatenate([slope + by_first, -gap / 0.04])


def test_a_long_tail_beside_others_is_not_missed():
    """What is hardly known falls as e^x to the left: no ratio there is large."""
    grid = np.linspace(-3, 2, 5001)
    mode = grid[np.argmax([log_sd(np.array([g]), squares=1.2)[0] for g in grid])]
    h = 1e-3
    ends = [log_sd(np.array([mode + side]), squares=1.2)[1] for side in (-h, h)]
    curvature = float((ends[0] - ends[1])[0]) / (2 * h)
    origin = np.array([mode, *(np.array([0.1, -0.2]) + 0.2 * np.tanh(mode))])
    axes = np.diag([1 / np.sqrt(curvature), 0.2, 0.2])
    surrogate = fit_surrogate(crossed_sds, origin, axes, tolerance=0.1)
    tail = np.tile(origin, (9, 1))
    tail[:, 0] = mode - np.linspace(0, 4, 9)
    tail[:, 1:] = np.array([0.1, -0.2]) + 0.2 * np.tanh(tail[:, :1])
    gaps = log_ratios(crossed_sds, tail, surrogate.log_density(tail))
    assert np.ptp(gaps) < 1.0


@pytest.mark.parametrize(("d", "degree"), [(1, 6), (2, 4), (3, 3)])
def test_polynomials_are_recovered(d, degree):
    """From fewer points than coefficients, as each has a gradient too."""
    rng = np.random.default_rng(12)
    used = powers(d, degree)
    truth = Polynomial(used, rng.normal(size=len(used)))
    z = rng.normal(size=(2 * len(used) // (1 + d) + 3, d))
    gradients = (truth.coefficients @ slopes(used, z)).T
    found = fit_polynomial(used, z, truth(z), gradients, np.ones(len(z)))
    points = rng.normal(size=(30, d))
    np.testing.assert_allclose(found(points), truth(points), rtol=1e-3, atol=1e-2)


def test_slopes_against_differences():
    z, used, h = np.random.default_rng(13).normal(size=(20, 3)), powers(3, 4), 1e-6
    found = slopes(used, z)
    for j, step in enumerate(h * np.eye(3)):
        differences = (products(used, z + step) - products(used, z - step)) / (2 * h)
        np.testing.assert_allclose(found[j], differences, atol=1e-6)
