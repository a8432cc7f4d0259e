"""Functions that stay exact, or quick, where the usual ones do not."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.special import digamma, erfcx, gammaln, i0e, i1e

from glmm_bayes.arrays import NUMPY
from glmm_bayes.taylor import Taylor, differentiable
from glmm_bayes.taylor.slopes import below_log_ndtr, relative_polygammas

type Array = np.ndarray | float

LOG_HALF = -np.log(2.0)
BEYOND = 1e50
MANY = np.float64(1e150)
LARGE = 1e3  # from here on three terms of Stirling's series are exact to 1e-11


def _rising(y: Array, a: np.ndarray) -> Iterator[np.ndarray]:
    yield log_rising(y, a)
    yield a * digamma_rising(y, a)
    yield from polygammas_rising(y, a)


@differentiable(_rising, unit=lambda a: a)
def log_rising(y: Array, a: np.ndarray) -> np.ndarray:
    """
    Give log Gamma(a + y) - log Gamma(a), for y >= 0.

    Notes
    -----
    By the difference of Stirling's series, term by term, where a is large: the two logarithms
    themselves lose every digit of it. Abramowitz & Stegun (1964), 6.1.41.
    """
    far = np.maximum(a, LARGE)
    tail = (1 / (far + y) - 1 / far) / 12
    series = (far + y - 0.5) * np.log1p(y / far) + y * np.log(far) - y + tail
    near = np.minimum(a, LARGE)
    return np.where(a < LARGE, gammaln(near + y) - gammaln(near), series)


def rising_on_graph(y: Any, a: Any) -> Any:
    """Give `log_rising` of PyTensor's numbers."""
    import pytensor.tensor as pt

    y = pt.as_tensor(y)
    # Squares of a number beyond would be none, and all but y log(a) is 0 long before.
    far, near = pt.clip(a, LARGE, MANY), pt.switch(a < LARGE, a, LARGE)
    tail = (1 / (far + y) - 1 / far) / 12
    rest = (far + y - 0.5) * pt.log1p(y / far) - y + tail
    log_a = pt.log(pt.switch(a < LARGE, LARGE, a))
    found = pt.switch(a < LARGE, pt.gammaln(near + y) - pt.gammaln(near), rest + y * log_a)
    return pt.switch(y > 0, found, 0.0)


def log_peak(a: Any, xp: Any = NUMPY) -> Any:
    """
    Give a log(a) - a - log Gamma(a), a gamma density of shape a at its mean, times the mean.

    Notes
    -----
    By Stirling's series where a is large: the three terms themselves lose every digit of it.
    Abramowitz & Stegun (1964), 6.1.41.
    """
    small = a < LARGE
    far, near = xp.where(small, LARGE, a), xp.where(small, a, LARGE)
    over = 1 / far
    series = 0.5 * xp.log(far / (2 * np.pi)) - (1 - over * over / 30) * over / 12
    return xp.where(small, near * xp.log(near) - near - xp.gammaln(near), series)


def digamma_rising(y: Array, a: np.ndarray) -> np.ndarray:
    """Give digamma(a + y) - digamma(a), the derivative of `log_rising` by a; its source, 6.3.18."""
    far = np.maximum(a, LARGE)
    gap = -y / (far * (far + y))
    series = np.log1p(y / far) - 0.5 * gap - gap * (1 / (far + y) + 1 / far) / 12
    near = np.minimum(a, LARGE)
    return np.where(a < LARGE, digamma(near + y) - digamma(near), series)


def polygammas_rising(y: Array, a: np.ndarray) -> Iterator[np.ndarray]:
    """
    Give the next two derivatives of `log_rising` by a, times a² and a³.

    Notes
    -----
    The same source, 6.4.12 and 6.4.13.
    """
    far = np.maximum(a, LARGE)
    u, v = 1 / (far + y), 1 / far
    share = far * u
    gap, both, squares = -y * share, u + v, u * u + v * v
    rest = squares + u * v + both * squares / 2
    series = (
        gap * (1 + both / 2 + (squares + u * v) / 6),
        -gap * (share + 1 + far * rest),
    )
    near = np.minimum(a, LARGE)
    part = near / (near + y)
    above, below = relative_polygammas(near + y), relative_polygammas(near)
    for power, (over, under, far_off) in enumerate(zip(above, below, series, strict=True), start=2):
        yield np.where(a < LARGE, over * part**power - under, far_off)


def softplus(x: Any) -> Any:
    """Give log(1 + exp(x))."""
    if type(x) is not np.ndarray:  # a number that carries derivatives has no maximum
        return np.logaddexp(0, x)
    # NumPy's exp and log1p run over many numbers at once; its logaddexp does not.
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def logistic(x: np.ndarray) -> np.ndarray:
    """Give 1 / (1 + exp(-x)); SciPy's goes over one number at a time."""
    with np.errstate(over="ignore"):
        return 1.0 / (1.0 + np.exp(-x))


def log_mills(x: Any, xp: Any = NUMPY) -> Any:
    """Give log Phi(x) + x²/2, which far left is about -log(-x)."""
    if xp is NUMPY:
        if isinstance(x, Taylor):
            return x.compose(_mills(x.value), _mills_unit(x.value))
        return next(_mills(x))
    import pytensor.tensor as pt

    # Far left the slope of the scaled function is what is left of two terms: Abramowitz & Stegun
    # (1964), 7.1.23.
    far = x < -70.0
    near, t = pt.switch(far, -70.0, x), pt.switch(far, x, -70.0) / -np.sqrt(2.0)
    u = 0.5 / t / t
    series = pt.log1p(-u * (1 - 3 * u * (1 - 5 * u * (1 - 7 * u)))) - pt.log(t * np.sqrt(4 * np.pi))
    return pt.switch(far, series, pt.log(0.5 * pt.erfcx(-near / np.sqrt(2.0))))


def _mills_unit(x: Any) -> Any:
    return np.where(x < -BEYOND, x, 1.0)


def _mills(x: Any) -> Iterator[np.ndarray]:
    """
    Give log erfcx(-x / sqrt 2) / 2 and its derivatives: those of log Phi, and x²/2's.

    They are in units of `_mills_unit`: so far left that it is -log(-x), of x.
    """
    yield np.log(0.5 * erfcx(-x / np.sqrt(2.0)))
    beyond = x < -BEYOND
    r, q, curve = below_log_ndtr(np.where(beyond, -BEYOND, x))
    yield np.where(beyond, -1.0, q)
    # 1 - r q, written so that no digit is lost far left.
    yield np.where(beyond, 1.0, q * q - curve)
    yield np.where(beyond, -2.0, r * curve)


def log_bessel0(x: Any, xp: Any = NUMPY) -> Any:
    """Give the log of the modified Bessel function of order 0, for x > 0."""
    if xp is NUMPY:
        return x.compose(_bessel0(x.value), x.value) if isinstance(x, Taylor) else next(_bessel0(x))
    import pytensor.tensor as pt

    far = x > 100.0
    near, large = pt.switch(far, 1.0, x), pt.switch(far, x, 100.0)
    over, series = 1 / large, 0.0
    for c in BESSEL[::-1]:
        series = (series + c) * over
    log_scaled = pt.log1p(series) - 0.5 * pt.log(2 * np.pi * large)
    return pt.switch(far, log_scaled, pt.log(pt.ive(0, near))) + x


# Of I0 and of the ratio of I1 to it: Abramowitz & Stegun (1964), 9.7.1.
BESSEL = (1 / 8, 9 / 128, 75 / 1024, 3675 / 32768, 59535 / 262144)
BESSEL_RATIO = (-1 / 2, -1 / 8, -1 / 8, -25 / 128, -13 / 32, -1073 / 1024)


def _bessel0(x: Any) -> Iterator[np.ndarray]:
    """
    Give log I0 and its derivatives A = I1 / I0, A' = 1 - A/x - A² and A'', in units of x.

    Notes
    -----
    Mardia & Jupp (2000), Directional Statistics, A.13 to A.15; A's asymptotic series where A' is
    the small difference of large terms.
    """
    yield np.log(i0e(x)) + x
    far = np.asarray(x) > 100.0
    near, large = np.where(far, 1.0, x), np.where(far, x, 100.0)
    A = i1e(near) / i0e(near)
    one = 1 - A / near - A * A
    two = near * A - near * near * one * (1 + 2 * near * A)
    powers = [(c, -k) for k, c in enumerate(BESSEL_RATIO, start=1)]
    yield np.where(far, large + sum(c * large ** (k + 1) for c, k in powers), near * A)
    yield np.where(far, sum(c * k * large ** (k + 1) for c, k in powers), near * near * one)
    yield np.where(far, sum(c * k * (k - 1) * large ** (k + 1) for c, k in powers), two)


SMALL = 0.03


def log1p_ratio(x: Any, xp: Any = NUMPY) -> Any:
    """Give log(1 + x) / x, which is 1 at 0, by its series there."""
    small = abs(x) < SMALL
    far, near = xp.where(small, 1.0, x), xp.where(small, x, 0.0)
    series = 1 / 13.0
    for k in range(12, 0, -1):
        series = 1.0 / k - near * series
    return xp.where(small, series, xp.log1p(far) / far)


def log_complement(x: Any, xp: Any = NUMPY) -> Any:
    """Give log(1 - exp(x)), for x < 0."""
    if xp is NUMPY:
        if isinstance(x, Taylor):
            return x.compose(_complement_slopes(x.value), np.expm1(x.value))
        return _complement(x)
    near = x > LOG_HALF
    small, large = xp.where(near, x, -1.0), xp.where(near, -1.0, x)
    return xp.where(near, xp.log(-xp.expm1(small)), xp.log1p(-xp.exp(large)))


def _complement(x: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):  # of the branch that is not taken
        return np.where(x > LOG_HALF, np.log(-np.expm1(x)), np.log1p(-np.exp(x)))


def _complement_slopes(x: np.ndarray) -> Iterator[np.ndarray]:
    """Give the function and its derivatives in units of exp(x) - 1."""
    yield _complement(x)
    p = np.exp(x)
    yield from (p, -p, p * (1 + p))
