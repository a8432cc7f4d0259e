"""Functions that stay exact, or quick, where the usual ones do not."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.special import digamma, gammaln

from glmm_bayes.taylor import differentiable, polygammas

type Array = np.ndarray | float

LARGE = 1e3  # from here on three terms of Stirling's series are exact to 1e-11


def _rising(y: Array, a: np.ndarray) -> Iterator[np.ndarray]:
    yield log_rising(y, a)
    yield digamma_rising(y, a)
    yield from polygammas_rising(y, a)


@differentiable(_rising)
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


def log_peak(a: np.ndarray) -> np.ndarray:
    """
    Give a log(a) - a - log Gamma(a), a gamma density of shape a at its mean, times the mean.

    Notes
    -----
    By Stirling's series where a is large: the three terms themselves lose every digit of it.
    Abramowitz & Stegun (1964), 6.1.41.
    """
    far, near = np.maximum(a, LARGE), np.minimum(a, LARGE)
    series = 0.5 * np.log(far / (2 * np.pi)) - (1 - 1 / (30 * far * far)) / (12 * far)
    return np.where(a < LARGE, near * np.log(near) - near - gammaln(near), series)


def digamma_rising(y: Array, a: np.ndarray) -> np.ndarray:
    """Give digamma(a + y) - digamma(a), the derivative of `log_rising` by a; its source, 6.3.18."""
    far = np.maximum(a, LARGE)
    gap = -y / (far * (far + y))
    series = np.log1p(y / far) - 0.5 * gap - gap * (1 / (far + y) + 1 / far) / 12
    near = np.minimum(a, LARGE)
    return np.where(a < LARGE, digamma(near + y) - digamma(near), series)


def polygammas_rising(y: Array, a: np.ndarray) -> Iterator[np.ndarray]:
    """Give the next two derivatives of `log_rising` by a; its source, 6.4.12 and 6.4.13."""
    far = np.maximum(a, LARGE)
    u, v = 1 / (far + y), 1 / far
    gap, both, squares = -y * u * v, u + v, u * u + v * v
    series = (
        gap * (1 + both / 2 + (squares + u * v) / 6),
        -gap * (both + squares + u * v + both * squares / 2),
    )
    near = np.minimum(a, LARGE)
    for above, below, far_off in zip(polygammas(near + y), polygammas(near), series, strict=True):
        yield np.where(a < LARGE, above - below, far_off)


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
