"""Averages over the random effects of many predictors: quasi-random points."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

import glmm_bayes as gb
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.verbs import marginal


@pytest.fixture(scope="module")
def fit():
    """Five categories, of which four have a predictor with effects of its own."""
    rng = np.random.default_rng(2)
    q = 30
    g = np.repeat(np.arange(q), 12)
    eta = np.column_stack([np.zeros(q), 0.8 * rng.normal(size=(q, 4)) + [0.4, -0.3, 0.2, 0.0]])
    p = np.exp(eta) / np.exp(eta).sum(axis=1, keepdims=True)
    y = [f"k{rng.choice(5, p=p[j])}" for j in g]
    data = pd.DataFrame({"y": y, "g": [f"g{j:02d}" for j in g]})
    return gb.Model("y ~ 1 + (1 | g)", data, "categorical").fit("ml")


def test_agrees_with_a_grid_of_nodes(fit):
    found = fit.predict(groups="marginal").iloc[:5]["estimate"].to_numpy()
    table = fit.fixef()["estimate"].to_numpy()
    sds = fit.varcorr().query("kind == 'sd'")["estimate"].to_numpy()
    assert len(table) == len(sds) == 4
    x, w = np.polynomial.hermite_e.hermegauss(20)
    w = w / w.sum()
    total = np.zeros(5)
    for at in product(range(20), repeat=4):
        e = np.exp(np.append(0.0, table + sds * x[list(at)]))
        total += np.prod(w[list(at)]) * e / e.sum()
    np.testing.assert_allclose(found, total, rtol=2e-3)
    assert found.sum() == pytest.approx(1.0)


def test_the_same_with_every_call(fit):
    one, two = (fit.predict(groups="marginal")["estimate"] for _ in range(2))
    pd.testing.assert_series_equal(one, two, check_exact=True)


def test_normal_means_are_the_products_closed_form():
    """E exp(a + b + c + d) of independent normals, by the sum of their variances."""
    sds = np.array([0.3, 0.5, 0.2, 0.4])
    found = marginal._by_points(lambda z: np.exp(np.array([[z @ sds]])), 4)
    assert found[0, 0] == pytest.approx(np.exp(sds @ sds / 2), rel=3e-3)


def test_what_is_not_known_well_enough_is_refused():
    with pytest.raises(NotSupportedError, match="of 5 predictors has a standard error of"):
        marginal._by_points(lambda z: np.exp(np.array([[6 * z.sum()]])), 5)
