"""Taylor numbers against Cauchy's integral: the derivatives of functions on the complex plane."""

import numpy as np
import pytest
from scipy import special

from glmm_bayes.arrays import NUMPY
from glmm_bayes.taylor import NoRuleError, Taylor, expanded, polygammas
from glmm_bayes.taylor.slopes import SLOPES

POINTS = 32
ANGLES = 2 * np.pi * np.arange(POINTS) / POINTS
CIRCLE = np.exp(1j * ANGLES)
MONOMIALS = [(0,), (1,), (0, 0), (0, 1), (1, 1), (0, 0, 0), (0, 0, 1), (0, 1, 1), (1, 1, 1)]


def cauchy(function, x, monomial, radius=0.1):
    """Give a derivative of a function of two variables by the integral over two circles."""
    x0, x1 = np.broadcast_arrays(*(np.asarray(v, float) for v in x))
    z0 = x0[..., None, None] + radius * CIRCLE[:, None]
    z1 = x1[..., None, None] + radius * CIRCLE
    i, j = monomial.count(0), monomial.count(1)
    turn = np.exp(-1j * (i * ANGLES[:, None] + j * ANGLES))
    mean = (function(z0, z1) * turn).mean(axis=(-2, -1)).real
    return mean * special.factorial(i) * special.factorial(j) / radius ** (i + j)


def variables(*values, order=3):
    return [Taylor.variable(np.asarray(v, float), k, order=order) for k, v in enumerate(values)]


COMPLEX = {
    special.expit: lambda z: 1 / (1 + np.exp(-z)),
    special.logit: lambda z: np.log(z / (1 - z)),
    special.gammaln: special.loggamma,
}
PLACES = {
    np.exp: [-3.0, 0.0, 2.0],
    np.expm1: [-3.0, 0.0, 2.0],
    np.log: [0.3, 1.0, 40.0],
    np.log1p: [-0.6, 0.0, 40.0],
    np.reciprocal: [-2.0, 0.4, 30.0],
    np.sqrt: [0.4, 1.0, 90.0],
    np.sin: [-2.0, 0.0, 1.0],
    np.cos: [-2.0, 0.0, 1.0],
    np.tan: [-0.9, 0.0, 0.7],
    np.tanh: [-2.0, 0.0, 0.7],
    np.arctan: [-5.0, 0.0, 0.6],
    np.arcsinh: [-5.0, 0.0, 0.6],
    special.expit: [-9.0, 0.0, 9.0],
    special.logit: [0.2, 0.5, 0.8],
    special.ndtr: [-3.0, 0.0, 1.3],
    special.erf: [-2.0, 0.0, 0.9],
    special.erfc: [-2.0, 0.0, 0.9],
    special.log_ndtr: [-11.9, -5.0, 0.0, 4.0],
    special.gammaln: [0.3, 1.0, 7.9, 8.1],
}


@pytest.mark.parametrize("ufunc", PLACES, ids=lambda u: u.__name__)
def test_functions_of_one_variable(ufunc):
    x = np.array(PLACES[ufunc])
    (t,) = variables(x)
    found = ufunc(t)
    on_plane = COMPLEX.get(ufunc, ufunc)
    np.testing.assert_allclose(found.value, ufunc(x), rtol=1e-15)
    for monomial in [(0,), (0, 0), (0, 0, 0)]:
        expected = cauchy(lambda z, _: on_plane(z), (x, 0.0), monomial)
        np.testing.assert_allclose(found.derivative(*monomial), expected, rtol=1e-8, atol=1e-10)


def test_every_function_in_the_table_is_tested():
    assert set(SLOPES) - set(PLACES) == {special.ndtri}


def test_the_normal_quantile_undoes_the_distribution_function():
    (x,) = variables([-2.0, 0.1, 1.5])
    again = special.ndtri(special.ndtr(x))
    for monomial, expected in [((), x.value), ((0,), 1.0), ((0, 0), 0.0), ((0, 0, 0), 0.0)]:
        np.testing.assert_allclose(again.derivative(*monomial), expected, atol=1e-12)


def softplus(z):
    return np.log1p(np.exp(z))


BINARY = {
    "sum": (lambda x, y: 2 + x + y + 1.5, None),
    "difference": (lambda x, y: (3 - x) - (y - 2), None),
    "product": (lambda x, y: 2 * x * y * x, None),
    "quotient": (lambda x, y: x / y - 1 / (x * y) + y / 2, None),
    "composition": (lambda x, y: np.exp(x * y) / np.log1p(x + y * y), None),
    "square": (lambda x, y: (x + y) ** 2 - np.square(x), None),
    "cube": (lambda x, y: (x - y) ** 3, None),
    "root": (lambda x, y: (x + y) ** 0.5 + y**-1.5, None),
    "power": (lambda x, y: x**y, None),
    "exponential": (lambda x, y: 2.5**y * x, None),
    "logaddexp": (lambda x, y: np.logaddexp(x, 2 * y), lambda x, y: x + softplus(2 * y - x)),
    "softplus": (lambda x, y: np.logaddexp(0, x * y), lambda x, y: softplus(x * y)),
    "xlogy": (lambda x, y: special.xlogy(x, y), lambda x, y: x * np.log(y)),
    "xlog1py": (lambda x, y: special.xlog1py(x, x * y), lambda x, y: x * np.log1p(x * y)),
    "betaln": (
        special.betaln,
        lambda x, y: special.loggamma(x) + special.loggamma(y) - special.loggamma(x + y),
    ),
}


@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two_variables(name):
    function, on_plane = BINARY[name]
    x, y = np.array([0.8, 2.0]), np.array([1.4, 0.7])
    found = function(*variables(x, y))
    np.testing.assert_allclose(found.value, function(x, y), rtol=1e-14)
    for monomial in MONOMIALS:
        expected = cauchy(on_plane or function, (x, y), monomial)
        np.testing.assert_allclose(found.derivative(*monomial), expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("order", [1, 2])
def test_lower_orders_are_the_same_without_the_rest(order):
    def function(x, y):
        return np.exp(x * y) / (1 + x) - np.log(y) * x

    low, high = (function(*variables([0.3], [1.2], order=k)) for k in (order, 3))
    assert max(map(len, low.monomials)) == order
    for monomial in low.monomials:
        np.testing.assert_allclose(low.derivative(*monomial), high.derivative(*monomial))


def test_what_does_not_depend_on_a_variable_has_no_term_for_it():
    x, y = variables([1.0], [2.0])
    assert (np.exp(x) + 3 * y).monomials == ((), (0,), (1,), (0, 0), (0, 0, 0))
    np.testing.assert_array_equal((x + y).derivative(0, 1), [0.0])


def test_the_order_of_the_variables_of_a_derivative_does_not_matter():
    x, y = variables([2.0], [3.0])
    assert (x * x * y).derivative(1, 0, 0) == (x * x * y).derivative(0, 1, 0) == 2.0


def test_a_choice_takes_the_derivatives_of_what_is_chosen():
    x, _ = variables([-1.0, 0.0, 4.0], 0.0)
    with np.errstate(all="ignore"):
        root = np.where(x > 0, np.sqrt(x), -1.0)
    np.testing.assert_array_equal(root.value, [-1.0, -1.0, 2.0])
    np.testing.assert_array_equal(root.derivative(0), [0.0, 0.0, 0.25])


def test_the_larger_and_the_smaller():
    x, y = variables([-1.0, 4.0], [1.0, 1.0])
    np.testing.assert_array_equal(np.maximum(x, y).derivative(0), [0.0, 1.0])
    np.testing.assert_array_equal(np.maximum(x, y).derivative(1), [1.0, 0.0])
    np.testing.assert_array_equal(np.minimum(x, 0.0).derivative(0), [1.0, 0.0])


def test_two_pieces_meet_without_a_jump_in_the_slope():
    (x,) = variables([-2.0, 1.0, 3.0])
    pieces = np.maximum(x, 1.0) + np.minimum(x - 1.0, 0.0)
    np.testing.assert_array_equal(pieces.derivative(0), np.ones(3))


def test_clip_keeps_the_derivatives():
    (x,) = variables([-1.0, 0.5])
    np.testing.assert_array_equal(np.clip(x, 0.0, 1.0).value, [0.0, 0.5])
    np.testing.assert_array_equal(np.clip(x, 0.0, 1.0).derivative(0), [1.0, 1.0])


def test_absolute_value_and_sign():
    (x,) = variables([-2.0, 3.0])
    np.testing.assert_array_equal(abs(-x * x * x).derivative(0, 0), [12.0, 18.0])
    np.testing.assert_array_equal(np.sign(x), [-1.0, 1.0])


def test_comparisons_look_at_the_value():
    x, y = variables([1.0, 3.0], [2.0, 2.0])
    np.testing.assert_array_equal(x < y, [True, False])
    np.testing.assert_array_equal(x > 2.5, [False, True])
    np.testing.assert_array_equal(np.isfinite(x), [True, True])


def test_nothing_times_a_logarithm_is_nothing():
    (x,) = variables([0.0, 2.0])
    with np.errstate(all="ignore"):
        found = special.xlogy(np.array([0.0, 3.0]), x)
    for monomial, there in [((), 3 * np.log(2)), ((0,), 1.5), ((0, 0), -0.75), ((0, 0, 0), 0.75)]:
        np.testing.assert_allclose(found.derivative(*monomial), [0.0, there])


def test_whole_powers_at_zero():
    (x,) = variables([0.0])
    assert (x**2).derivative(0, 0) == 2.0
    assert (x**2).derivative(0, 0, 0) == 0.0
    assert (x**3).derivative(0, 0, 0) == 6.0
    assert (x**1).derivative(0) == 1.0


def test_numbers_of_one_row_broadcast_against_many():
    x = Taylor.variable(np.array([1.0, 2.0, 3.0]), 0, order=2)
    y = Taylor.variable(np.array([0.5]), 1, order=2)
    assert (x * np.exp(y)).derivative(0, 1).shape == (1,)
    np.testing.assert_allclose((x * np.exp(y)).derivative(1, 1), np.exp(0.5) * x.value)


def test_a_function_given_by_its_partial_derivatives():
    """exp(u v²) composed with u = x y, v = 1/x is exp(y/x)."""
    x, y = variables([0.8, 2.0], [1.4, 0.7])
    u, v = x.value * y.value, 1 / x.value
    s, t = variables(u, v)
    outer = np.exp(s * t * t)
    partials = {m: outer.derivative(*m) for m in [(), *MONOMIALS]}
    found, expected = expanded(partials, [x * y, 1 / x]), np.exp(y / x)
    for monomial in [(), *MONOMIALS]:
        np.testing.assert_allclose(
            found.derivative(*monomial), expected.derivative(*monomial), rtol=1e-10
        )


@pytest.mark.parametrize("x", [1e-8, 0.02, 0.5, 3.0, 7.99, 50.0, 1e6, 1e150])
def test_polygammas_are_those_of_scipy(x):
    found = np.array(list(polygammas(np.array([x])))).ravel()
    np.testing.assert_allclose(found, special.polygamma([1, 2], x), rtol=2e-13)


@pytest.mark.parametrize("x", [-12.1, -30.0, -200.0, -1e5])
def test_the_far_normal_tail_against_its_asymptotic_series(x):
    """Abramowitz & Stegun (1964), 26.2.12: log Phi(-t) = -t²/2 - log t + log(1 - 1/t² + …)."""
    (number,) = variables([x])
    found = special.log_ndtr(number)
    t = Taylor.variable(np.array([-x]), 0, order=3)
    w = 1 / (t * t)
    series = 1.0
    for k in range(21, 0, -2):
        series = 1 - k * w * series
    with_log = -0.5 * t * t - np.log(t) + np.log(series)
    for k, sign in [(1, -1), (2, 1), (3, -1)]:
        expected = sign * with_log.derivative(*[0] * k)
        np.testing.assert_allclose(found.derivative(*[0] * k), expected, rtol=1e-9)


def test_the_third_derivative_in_the_far_normal_tail():
    """Log Phi(-t) = -t²/2 - log t - 1/t² + …, so that the third derivative by x is 2/t³ + ….."""
    (x,) = variables([-1e5])
    assert special.log_ndtr(x).derivative(0, 0, 0)[0] == pytest.approx(2e-15, rel=1e-8)


@pytest.mark.parametrize(
    "function",
    [special.j0, np.sum, np.asarray, lambda x: np.add.reduce(x), lambda x: np.exp(x, where=True)],
    ids=["ufunc", "function", "array", "method", "argument"],
)
def test_what_has_no_rule_says_so(function):
    (x,) = variables([0.5])
    with pytest.raises(NoRuleError, match="derivatives"):
        function(x)


def test_the_namespace_of_the_formulas_takes_them():
    (x,) = variables([0.4])
    # What covariances alone are written with, or what takes more than a number.
    others = {"real", "kv", "sum", "add_at", "put_at", "inverse", "sin", "log_determinant"}
    one_argument = set(vars(NUMPY)) - {"where", "clip", "stack", "concatenate", "eye"} - others
    for name in one_argument:
        assert isinstance(getattr(NUMPY, name)(x), Taylor), name


@pytest.mark.parametrize("at", [-700.0, 700.0])
def test_very_small_and_large_numbers_keep_their_derivatives(at):
    """Functions of m = e^x that are a x, or e^(a x), in closed form."""
    (x,) = variables([at])
    m = np.exp(x)
    lines = {1.0: np.log(m), -1.0: np.log(np.reciprocal(m)), 0.0: np.log(m / m), 3.0: np.log(m) * 3}
    for slope, found in lines.items():
        for monomial, expected in [((0,), slope), ((0, 0), 0.0), ((0, 0, 0), 0.0)]:
            np.testing.assert_allclose(found.derivative(*monomial), expected, atol=1e-12)
    for a, found in [(0.5, np.sqrt(m)), (0.25, m**0.25), (-1.0, 1 / m), (-0.5, m**-0.5)]:
        for k in (1, 2, 3):
            found_k = found.derivative(*[0] * k)
            np.testing.assert_allclose(found_k, a**k * np.exp(a * at), rtol=1e-12)


def test_logarithms_of_gamma_functions_near_zero_keep_their_derivatives():
    """Near 0 the gamma function is 1 / m, and log(1 + m) is m."""
    (x,) = variables([-700.0])
    m = np.exp(x)
    for monomial, expected in [((0,), -1.0), ((0, 0), 0.0), ((0, 0, 0), 0.0)]:
        np.testing.assert_allclose(special.gammaln(m).derivative(*monomial), expected, atol=1e-12)
        np.testing.assert_allclose(np.log1p(m).derivative(*monomial), np.exp(-700.0), rtol=1e-12)
