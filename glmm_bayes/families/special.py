"""Differences of gamma functions that stay exact where their arguments are large."""

import numpy as np
from scipy.special import digamma, gammaln

LARGE = 1e3  # from here on three terms of Stirling's series are exact to 1e-11


def log_rising(y: np.ndarray, a: np.ndarray) -> np.ndarray:
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


def digamma_rising(y: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Give digamma(a + y) - digamma(a), the derivative of `log_rising` by a; its source, 6.3.18."""
    far = np.maximum(a, LARGE)
    gap = -y / (far * (far + y))
    series = np.log1p(y / far) - 0.5 * gap - gap * (1 / (far + y) + 1 / far) / 12
    near = np.minimum(a, LARGE)
    return np.where(a < LARGE, digamma(near + y) - digamma(near), series)
