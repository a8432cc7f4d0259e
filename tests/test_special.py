"""Differences of gamma functions against sums of logarithms and of reciprocals."""

import numpy as np
import pytest
from scipy.special import gammaln

from glmm_bayes.engine import kernels
from glmm_bayes.families.special import digamma_rising, log_peak, log_rising, polygammas_rising

ARGUMENTS = (1e-3, 0.7, 55.0, 999.0, 1_001.0, 1e6, 1e12, 1e22)


@pytest.mark.parametrize("a", ARGUMENTS)
@pytest.mark.parametrize("y", [0, 1, 7, 400])
def test_differences_of_gamma_functions_are_exact(a, y):
    """Gamma(a + y) / Gamma(a) = a (a + 1) … (a + y - 1), and its logarithm's derivative."""
    steps = a + np.arange(y)
    whole, slope = np.log(steps).sum(), (1 / steps).sum()
    for log_rise, digamma_rise in (
        (log_rising, digamma_rising),
        (kernels.log_rising.py_func, kernels.digamma_rising),
    ):
        assert log_rise(float(y), a) == pytest.approx(whole, rel=1e-11, abs=1e-11)
        assert digamma_rise(float(y), a) == pytest.approx(slope, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("a", ARGUMENTS)
@pytest.mark.parametrize("y", [0, 1, 7, 400])
def test_differences_of_polygamma_functions_are_exact(a, y):
    steps = a + np.arange(y)
    second, third = polygammas_rising(float(y), np.array([a]))
    second, third = second / a**2, third / a**3
    assert second[0] == pytest.approx(-(1 / steps**2).sum(), rel=1e-9, abs=1e-300)
    assert third[0] == pytest.approx((2 / steps**3).sum(), rel=1e-9, abs=1e-300)


def test_the_peak_of_a_gamma_density_is_that_of_its_terms_where_these_are_small():
    a = np.array([0.3, 1.0, 40.0, 900.0, 1100.0])
    expected = a * np.log(a) - a - gammaln(a)
    np.testing.assert_allclose(log_peak(a), expected, atol=3e-12)


def test_the_peak_of_a_gamma_density_keeps_its_digits_where_the_shape_is_large():
    """A gamma density of shape a at its mean is nearly a normal one: sqrt(a / 2 pi)."""
    a = np.array([1e8, 1e12, 1e15])
    np.testing.assert_allclose(log_peak(a), 0.5 * np.log(a / (2 * np.pi)), atol=1e-9)
