"""Laws of links: each inverse undoes its link, in numbers and in graphs, with the stated slope."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.compile.mode import Mode

from glmm_bayes.arrays import graph
from glmm_bayes.errors import UnknownNameError
from glmm_bayes.families import LINKS, Link, add_link

PYTHON = Mode(linker="py", optimizer="fast_compile")
# Where the inverse is defined on a half-line only.
POSITIVE_ETA = {"inverse_squared", "sqrt"}


@pytest.fixture(params=list(LINKS))
def link(request):
    return LINKS[request.param]


def means(link):
    """Give values all over the support, some close to its ends."""
    lower, upper = link.support
    if np.isinf(lower):
        return np.array([-300.0, -2.5, -1e-3, 1e-3, 0.7, 40.0])
    if np.isinf(upper):
        return lower + np.array([1e-3, 0.05, 0.6, 1.0, 3.0, 300.0])
    return lower + (upper - lower) * np.array([1e-6, 0.03, 0.4, 0.5, 0.9, 0.9999])


def predictors(link, size=9.0):
    eta = np.linspace(-size, size, 12)  # an even number: zero, where 1/eta is not, is left out
    return np.abs(eta) if link.name in POSITIVE_ETA else eta


def evaluate(function, x):
    given = pt.vector("x")
    return pytensor.function([given], function(given), mode=PYTHON)(x)


def test_the_inverse_undoes_the_link(link):
    mu = means(link)
    np.testing.assert_allclose(link.linkinv(link.linkfun(mu)), mu, rtol=1e-9)


def test_the_link_undoes_the_inverse(link):
    eta = predictors(link, 2.0)
    np.testing.assert_allclose(link.linkfun(link.linkinv(eta)), eta, rtol=1e-9)


def test_the_inverse_is_monotone(link):
    steps = np.diff(link.linkinv(np.linspace(0.1, 3.0, 50)))
    assert (steps > 0).all() or (steps < 0).all()


def test_the_inverse_stays_in_the_support(link):
    lower, upper = link.support
    mu = link.linkinv(predictors(link, 3.0))
    assert ((mu > lower) & (mu < upper)).all()


def test_slope_is_the_difference_quotient(link):
    eta, h = predictors(link, 3.0), 1e-3
    f = link.linkinv
    quotient = (8 * (f(eta + h) - f(eta - h)) - (f(eta + 2 * h) - f(eta - 2 * h))) / (12 * h)
    np.testing.assert_allclose(link.slope(eta), quotient, rtol=1e-7, atol=1e-12)


def test_slope_is_the_gradient_of_the_graph(link):
    eta = np.append(predictors(link), predictors(link, 40.0))
    gradient = evaluate(lambda x: pytensor.grad(link.linkinv(x, graph()).sum(), x), eta)
    # PyTensor's sigmoid has the slope p (1 - p), which is rounded where p is nearly 1; where p
    # would round to 1, the graph is held below it, and flat.
    np.testing.assert_allclose(link.slope(eta), gradient, rtol=1e-9, atol=1e-14)


def test_graph_and_arrays_agree(link):
    eta, mu = predictors(link), means(link)
    inverse = evaluate(lambda x: link.linkinv(x, graph()), eta)
    forward = evaluate(lambda x: link.linkfun(x, graph()), mu)
    np.testing.assert_allclose(inverse, link.linkinv(eta), rtol=1e-10)
    np.testing.assert_allclose(forward, link.linkfun(mu), rtol=1e-10)


@pytest.mark.parametrize("size", [40.0, 700.0])
def test_far_predictors_give_finite_means_and_slopes(link, size):
    eta = predictors(link, size)
    lower, upper = link.support
    mu = link.linkinv(eta)
    assert np.isfinite(mu).all()
    assert ((mu >= lower) & (mu <= upper)).all()
    assert np.isfinite(link.slope(eta)).all()
    gradient = evaluate(lambda x: pytensor.grad(link.linkinv(x, graph()).sum(), x), eta)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("name", "eta", "mu"),
    [
        ("logit", np.log(3.0), 0.75),
        ("probit", 1.959963984540054, 0.975),
        ("cloglog", np.log(np.log(2.0)), 0.5),
        ("loglog", -np.log(np.log(2.0)), 0.5),
        ("cauchit", 1.0, 0.75),
        ("cauchit", -1e12, 1e-12 / np.pi),
        ("inverse", 4.0, 0.25),
        ("inverse_squared", 4.0, 0.5),
        ("sqrt", 3.0, 9.0),
        ("softplus", np.log(np.e - 1), 1.0),
        ("softplus", -600.0, np.exp(-600.0)),
        ("logm1", 0.0, 2.0),
    ],
)
def test_known_values(name, eta, mu):
    assert LINKS[name].linkinv(eta) == pytest.approx(mu, rel=1e-12)


def test_a_link_of_ones_own_is_found_by_its_name(monkeypatch):
    monkeypatch.setattr(LINKS, "_items", dict(LINKS._items))
    cube = add_link(
        Link(
            "cube_root",
            lambda mu, xp=None: mu ** (1 / 3),
            lambda eta, xp=None: eta**3,
            lambda eta: 3 * eta**2,
            (0.0, np.inf),
        )
    )
    assert LINKS["cube_root"] is cube


def test_a_misspelt_link_gets_a_suggestion():
    with pytest.raises(UnknownNameError, match="no link 'probti'. Did you mean 'probit'"):
        LINKS["probti"]
