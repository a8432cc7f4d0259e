"""
Derivatives of functions of one variable: each gives its value, f', f'' and f''' in turn.

Those with a unit in `UNITS` give u f', u² f'' and u³ f''' instead, u the unit at the point: they
neither overflow nor vanish where the number itself is very small or large.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy import special

type Array = np.ndarray
type Slopes = Iterator[Any]  # arrays, or numbers that hold at all places

ROOT_2PI = np.sqrt(2 * np.pi)
SHIFT = 8
# Bernoulli's numbers B2, B4, …, B16.
BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)
ALMOST_ALL = 40.0
FAR_TAIL = -12.0  # below, 24 steps of the continued fraction of Mills' ratio are exact


def polygammas(x: Array) -> Slopes:
    """
    Give the trigamma, then the tetragamma function, of positive numbers.

    Notes
    -----
    By recurrence to x + 8 and the asymptotic series there, exact to 1e-13: Abramowitz & Stegun
    (1964), 6.4.6 and 6.4.11. SciPy's `polygamma` sums Hurwitz' zeta function, 20 times slower.
    """
    one, two = relative_polygammas(x)
    yield one / x / x
    yield two / x / x / x


def relative_polygammas(x: Array) -> Slopes:
    """Give `polygammas` times x² and x³, which are numbers whatever x is."""
    steps = [1.0] + [x / (x + k) for k in range(1, SHIFT)]
    squares = [s * s for s in steps]
    z = 1 / (x + SHIFT)
    share, w = x * z, z * z
    tail = _horner(w, BERNOULLI)
    yield sum(squares) + x * share * (1 + z * (0.5 + z * tail))
    tail = _horner(w, [(2 * k + 3) * b for k, b in enumerate(BERNOULLI)])
    cubes = sum(s * q for s, q in zip(steps, squares, strict=True))
    yield -2 * cubes - x * share * share * (1 + z * (1 + z * tail))


def _horner(w: Array, coefficients: "tuple[float, ...] | list[float]") -> Array:
    total = coefficients[-1] * w + coefficients[-2]
    for c in coefficients[-3::-1]:
        total = total * w + c
    return total


def _exp(x: Array) -> Slopes:
    value = np.exp(x)
    while True:
        yield value


def _expm1(x: Array) -> Slopes:
    yield np.expm1(x)
    value = np.exp(x)
    while True:
        yield value


def _log(x: Array) -> Slopes:
    yield np.log(x)
    yield from (1.0, -1.0, 2.0)


def _log1p(x: Array) -> Slopes:
    yield np.log1p(x)
    yield from (1.0, -1.0, 2.0)


def _reciprocal(x: Array) -> Slopes:
    one = 1 / x
    yield from (one, -one, 2 * one, -6 * one)


def _sqrt(x: Array) -> Slopes:
    root = np.sqrt(x)
    yield from (root, 0.5 * root, -0.25 * root, 0.375 * root)


def _tan(x: Array) -> Slopes:
    t = np.tan(x)
    yield t
    one = 1 + t * t
    yield one
    yield 2 * t * one
    yield 2 * one * (one + 2 * t * t)


def _tanh(x: Array) -> Slopes:
    t = np.tanh(x)
    yield t
    one = 1 / np.cosh(x) ** 2
    yield one
    yield -2 * t * one
    yield one * (4 * t * t - 2 * one)


def _sin(x: Array) -> Slopes:
    s, c = np.sin(x), np.cos(x)
    yield from (s, c, -s, -c)


def _cos(x: Array) -> Slopes:
    s, c = np.sin(x), np.cos(x)
    yield from (c, -s, -c, s)


def _arctan(x: Array) -> Slopes:
    yield np.arctan(x)
    one = 1 / (1 + x * x)
    yield one
    two = -2 * x * one * one
    yield two
    yield one * one * (6 - 8 * one)


def _arcsinh(x: Array) -> Slopes:
    yield np.arcsinh(x)
    size = np.hypot(1.0, x)
    one, r = 1 / size, x / size
    yield from (1.0, -r, 2 * r * r - one * one)


def _expit(x: Array) -> Slopes:
    p = special.expit(x)
    yield p
    yield from _below_expit(p, special.expit(-x))


def _below_expit(p: Array, q: Array) -> Slopes:
    one = p * q
    yield one
    yield one * (q - p)
    yield one * (1 - 6 * one)


def softplus(x: Array) -> Slopes:
    """Give log(1 + exp(x)) and its derivatives."""
    yield np.logaddexp(0, x)
    p, q = special.expit(x), special.expit(-x)
    yield p
    yield from _below_expit(p, q)


def _logit(p: Array) -> Slopes:
    yield special.logit(p)
    a, b = 1 / p, 1 / (1 - p)
    yield a + b
    yield b * b - a * a
    yield 2 * (a * a * a + b * b * b)


def _ndtr(x: Array) -> Slopes:
    yield special.ndtr(x)
    one = np.exp(-0.5 * x * x) / ROOT_2PI
    yield one
    yield -x * one
    yield (x * x - 1) * one


def _ndtri(p: Array) -> Slopes:
    x = special.ndtri(p)
    yield x
    one = ROOT_2PI * np.exp(0.5 * x * x)
    yield one
    yield x * one * one
    yield (1 + 2 * x * x) * one * one * one


def _erf(x: Array) -> Slopes:
    yield special.erf(x)
    yield from _gauss(x, 2 / np.sqrt(np.pi))


def _erfc(x: Array) -> Slopes:
    yield special.erfc(x)
    yield from _gauss(x, -2 / np.sqrt(np.pi))


def _gauss(x: Array, factor: float) -> Slopes:
    one = factor * np.exp(-x * x)
    yield one
    yield -2 * x * one
    yield (4 * x * x - 2) * one


def _log_ndtr(x: Array) -> Slopes:
    """
    Log of the normal distribution function: with r its slope and q = x + r, f'' = -r q.

    f''' = r (q (q + r) - 1), which loses every digit in the far left tail.
    """
    yield special.log_ndtr(x)
    # Beyond, the slopes are 0, in whatever unit.
    r, q, curve = below_log_ndtr(np.minimum(x, ALMOST_ALL))
    yield r
    yield -r * q
    yield r * curve


def below_log_ndtr(x: Array) -> tuple[Array, Array, Array]:
    """Give r, q and q (q + r) - 1 of `_log_ndtr`."""
    r = np.exp(-0.5 * x * x - special.log_ndtr(x)) / ROOT_2PI
    q = x + r
    curve = q * (q + r) - 1
    far = x < FAR_TAIL
    if np.any(far):
        exact = _far_tail(np.where(far, x, FAR_TAIL))
        r, q, curve = (np.where(far, e, s) for e, s in zip(exact, (r, q, curve), strict=True))
    return r, q, curve


def _far_tail(x: Array) -> tuple[Array, Array, Array]:
    """
    Give r, q and q (q + r) - 1 of `_log_ndtr` far left.

    Notes
    -----
    With t = -x, q = 1/(t + s), s = 2/(t + w), w = 3/(t + 4/(t + …)): the continued fraction of
    Mills' ratio, Abramowitz & Stegun (1964), 26.2.14. Then q (q + r) - 1 = q² s (w - s).
    """
    t = -x
    w = np.zeros_like(t)
    for k in range(24, 2, -1):
        w = k / (t + w)
    s = 2 / (t + w)
    q = 1 / (t + s)
    return t + q, q, q * q * s * (w - s)


def _gammaln(x: Array) -> Slopes:
    yield special.gammaln(x)
    yield x * special.digamma(x)
    yield from relative_polygammas(x)


SLOPES: dict[Callable[..., Array], Callable[[Array], Slopes]] = {
    np.exp: _exp,
    np.expm1: _expm1,
    np.log: _log,
    np.log1p: _log1p,
    np.reciprocal: _reciprocal,
    np.sqrt: _sqrt,
    np.sin: _sin,
    np.cos: _cos,
    np.tan: _tan,
    np.tanh: _tanh,
    np.arctan: _arctan,
    np.arcsinh: _arcsinh,
    special.expit: _expit,
    special.logit: _logit,
    special.ndtr: _ndtr,
    special.ndtri: _ndtri,
    special.erf: _erf,
    special.erfc: _erfc,
    special.log_ndtr: _log_ndtr,
    special.gammaln: _gammaln,
}


UNITS: dict[Callable[..., Array], Callable[[Array], Array]] = {
    np.log: lambda x: x,
    np.log1p: lambda x: 1 + x,
    np.reciprocal: lambda x: x,
    np.sqrt: lambda x: x,
    np.arcsinh: lambda x: np.hypot(1.0, x),
    special.log_ndtr: lambda x: np.where(x > ALMOST_ALL, x, 1.0),
    special.gammaln: lambda x: x,
}


def power(x: Array, exponent: Array | float) -> Slopes:
    """Give x to a constant power and its derivatives in units of `power_unit`."""
    value, factor, none = x**exponent, exponent, np.equal(x, 0)
    yield value
    for k in range(1, 4):
        gone = np.equal(factor, 0)
        # Whole powers have derivatives at 0 too.
        at_zero = np.where(none, 0.0, 1.0) ** np.where(none & ~gone, exponent - k, 0.0)
        yield np.where(gone, 0.0, factor * np.where(none, at_zero, value))
        factor = factor * (exponent - k)


def power_unit(x: Array) -> Array:
    """Give the unit of the derivatives of powers: x, or at 0 one."""
    return np.where(np.equal(x, 0), 1.0, x)
