"""Counts of other dispersion against sums, whole numbers and limits, written differently."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from scipy import optimize, special, stats

from glmm_bayes.families import FAMILIES, LINKS
from glmm_bayes.families.bell import log_bell
from glmm_bayes.families.differences import log_bessel
from glmm_bayes.families.expansion import expand


def brute_compois(y, mu, phi):
    """Sum the series term by term, lambda by Brent's method."""
    nu, k = 1 / phi, np.arange(3000.0)

    def log_terms(theta):
        return theta * k - nu * special.gammaln(k + 1)

    def excess(theta):
        terms = np.exp(log_terms(theta) - log_terms(theta).max())
        return (k * terms).sum() / terms.sum() - mu

    theta = optimize.brentq(excess, -60, 60 * max(nu, 1.0), xtol=1e-14, rtol=1e-14)
    return theta * y - nu * special.gammaln(y + 1) - special.logsumexp(log_terms(theta))


COMPOIS = FAMILIES["compois"]


@pytest.mark.parametrize(
    ("mu", "phi"), list(product((0.01, 0.9, 4.0, 30.0, 140.0), (0.05, 0.4, 1.0, 3.0, 30.0)))
)
def test_compois_is_the_series_term_by_term(mu, phi):
    y = np.array([0.0, 1.0, 5.0, 40.0, 300.0])
    expected = [brute_compois(v, mu, phi) for v in y]
    found = COMPOIS.logp(y, None, {"mu": np.array([mu]), "phi": np.array([phi])})
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("mu", [1e-300, 1e-8, 1.0, 1e4, 1e7])
def test_compois_is_the_poisson_at_one(mu):
    y = np.array([0.0, 1.0, np.round(mu), np.round(1.001 * mu) + 2, 1e7])
    found = COMPOIS.logp(y, None, {"mu": np.array([mu]), "phi": np.array([1.0])})
    np.testing.assert_allclose(found, stats.poisson(mu).logpmf(y), rtol=1e-8, atol=1e-8)


def test_compois_is_nearly_geometric_at_a_large_phi():
    y, mu = np.array([0.0, 1.0, 9.0]), 3.0
    found = COMPOIS.logp(y, None, {"mu": np.array([mu]), "phi": np.array([1e8])})
    np.testing.assert_allclose(found, stats.nbinom(1, 1 / (1 + mu)).logpmf(y), atol=1e-6)


@pytest.mark.parametrize("phi", [0.2, 5.0])
def test_compois_of_many_is_nearly_normal(phi):
    """To the first order of Edgeworth's series the density at the mean is normal."""
    mu = 1e7
    found = COMPOIS.logp(np.array([mu]), None, {"mu": np.array([mu]), "phi": np.array([phi])})
    np.testing.assert_allclose(found, -0.5 * np.log(2 * np.pi * mu * phi), atol=1e-6)


@pytest.mark.parametrize(
    ("log_mu", "log_phi"), list(product((-3.0, 0.5, 2.0, 6.0, 14.0), (-1.5, 0.1, 2.0)))
)
def test_derivatives_of_compois_are_difference_quotients(log_mu, log_phi):
    """Of each order by the order before, which ends at the sums themselves."""
    links = {"mu": LINKS["log"], "phi": LINKS["log"]}
    mean = float(np.round(np.exp(log_mu)))
    y = np.array([0.0, mean, np.round(1.3 * mean) + 1.0])

    def at(a, b, order=3):
        eta = np.array([np.full(3, a), np.full(3, b)])
        found = expand(COMPOIS, links, ["mu", "phi"], y, None, None, eta, order)
        return found.value, found.first, found.second, found.third

    h = 1e-3
    for k, step in enumerate(((h, 0.0), (0.0, h))):
        near = [at(log_mu + s * step[0], log_phi + s * step[1]) for s in (-2, -1, 1, 2)]
        for order in range(3):
            a, b, c, d = (n[order] for n in near)
            quotient = (a - 8 * b + 8 * c - d) / (12 * h)
            exact = at(log_mu, log_phi)[order + 1][k]
            rounding = 1e-13 * np.abs(b).max() / h
            np.testing.assert_allclose(exact, quotient, rtol=3e-6, atol=1e-7 + 30 * rounding)


def bell_numbers(count):
    """Give Bell's numbers by the recurrence over binomial coefficients, in whole numbers."""
    numbers = [1]
    for n in range(count - 1):
        numbers.append(sum(int(special.comb(n, k, exact=True)) * numbers[k] for k in range(n + 1)))
    return numbers


def test_bell_numbers_are_whole():
    expected = [float(np.log(float(b))) for b in bell_numbers(120)]
    np.testing.assert_allclose(log_bell(np.arange(120.0)), expected, rtol=1e-13, atol=1e-14)


def test_bell_numbers_grow_as_de_bruijn_says():
    """By Moser & Wyman's expansion for a set of ten million."""
    n = 1e7
    r = float(special.lambertw(n).real)
    expected = n * (r + 1 / r - 1) - 1 - 0.5 * np.log1p(r)
    assert log_bell(np.array([n]))[0] == pytest.approx(expected, abs=1e-5 * r + 1e-6 * n**0.5)


@pytest.mark.parametrize("order", [0, 1, 3, 39, 41, 500, 100_000])
@pytest.mark.parametrize("x", [1e-3, 0.5, 39.0, 41.0, 3e3, 1e6])
def test_log_bessel_is_that_of_scipy(order, x):
    """Where scipy's has not run to zero."""
    with np.errstate(divide="ignore"):
        expected = np.log(special.ive(order, x))
    if np.isfinite(expected) and expected > -600:
        found = log_bessel(np.array([float(order)]), np.array([x]))[0]
        assert found == pytest.approx(expected, rel=1e-10, abs=1e-11)


def test_log_bessel_of_an_order_far_above_x():
    """The first term of the series is all: (x/2)^n / n!."""
    n, x = np.array([30.0, 1e5]), np.array([1e-6, 1e-3])
    expected = n * np.log(x / 2) - special.gammaln(n + 1)
    np.testing.assert_allclose(log_bessel(n, x), expected - x, rtol=1e-12)


def test_skellam_is_the_convolution_of_two_poissons():
    y, mu, phi = np.arange(-6.0, 9.0), 1.4, 2.0
    total = np.hypot(mu, phi)
    k = np.arange(80)
    first, second = stats.poisson((total + mu) / 2), stats.poisson((total - mu) / 2)
    expected = [np.log((first.pmf(k + v) * second.pmf(k)).sum()) for v in y]
    found = FAMILIES["skellam"].logp(y, None, {"mu": np.array([mu]), "phi": np.array([phi])})
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_discrete_weibull_in_fractions():
    """Of whole shape the probabilities are those of fractions: q^(y²) - q^((y + 1)²)."""
    q, y = Fraction(9, 10), np.arange(12.0)
    expected = [float(q ** (int(v) ** 2) - q ** (int(v + 1) ** 2)) for v in y]
    params = {"mu": np.array([0.9]), "alpha": np.array([2.0])}
    found = np.exp(FAMILIES["discrete_weibull"].logp(y, None, params))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("phi", [0.5, 0.8, 1.0, 4.0])
def test_genpois_has_the_mean_and_variance_of_its_name(phi):
    y, mu = np.arange(2000.0), 12.0
    params = {"mu": np.array([mu]), "phi": np.array([phi])}
    p = np.exp(FAMILIES["genpois"].logp(y, None, params))
    mean = (y * p).sum()
    assert p.sum() == pytest.approx(1.0, rel=1e-12)
    assert mean == pytest.approx(mu, rel=1e-9)
    assert ((y - mean) ** 2 * p).sum() == pytest.approx(mu * phi, rel=1e-8)


def test_genpois_of_many_keeps_its_digits():
    """A Poisson's log probability at its mean of ten million, by Stirling's series."""
    y = np.array([1e7])
    params = {"mu": np.array([1e7]), "phi": np.array([1.0])}
    found = FAMILIES["genpois"].logp(y, None, params)[0]
    assert found == pytest.approx(-0.5 * np.log(2 * np.pi * 1e7) - 1 / 12e7, rel=1e-10)


FAR = ("genpois", "compois", "bell", "nbinom12", "discrete_weibull", "skellam")


@pytest.mark.parametrize("name", FAR)
def test_value_and_slope_are_finite_far_out(name):
    """Up to counts of ten million and predictors of ±30; nothing is raised or warned beyond."""
    family = FAMILIES[name]
    others = [(-4.0, 4.0)] * (len(family.parameters) - 1)
    rows = np.array(list(product((0.0, 1.0, 1e7), (-30.0, -1.0, 2.0, 12.0), *others))).T
    links = {p.name: LINKS[p.link] for p in family.parameters}
    names = list(links)
    found = expand(family, links, names, rows[0], None, None, rows[1:], 1)
    there = np.isfinite(found.value)
    # The generalised Poisson ends, and a discrete Weibull of large shape as good as ends.
    assert there.mean() > 0.8
    assert np.isfinite(found.first[:, there]).all()
