"""Incomplete beta functions with derivatives, and the tails of the distributions that have them."""

from typing import Any

import numpy as np
from scipy.special import gammaln

from glmm_bayes.families.special import log_complement, log_rising

type Tails = tuple[Any, Any]  # log P(Y <= y) and log P(Y > y)

CLOSE = 1e-17
MOST = 20_000  # steps of the continued fraction: about the root of the larger argument


def plain(x: Any) -> Any:
    """Give the value of a number that may carry derivatives."""
    return getattr(x, "value", x)


def beta_tails(a: Any, b: Any, x: Any, rest: Any, log_inverse: Any) -> Tails:
    """
    Give log I_x(a, b) and its complement's logarithm.

    Parameters
    ----------
    rest
        1 - x, of which no digit is lost where x is near 1.
    log_inverse
        Minus the log of the beta function of a and b.

    Notes
    -----
    The smaller of the two, about, by its continued fraction: NIST's Digital Library of
    Mathematical Functions, 8.17.22, which converges there in about the root of a + b steps.
    """
    far = plain(x) > (plain(a) + 1) / (plain(a) + plain(b) + 2)
    one, other = np.where(far, b, a), np.where(far, a, b)
    small, large = np.where(far, rest, x), np.where(far, x, rest)
    part = one * np.log(small) + other * np.log(large) - np.log(one) + log_inverse
    part = part + np.log(fraction(one, other, small))
    left = log_complement(part)
    return np.where(far, left, part), np.where(far, part, left)


def fraction(a: Any, b: Any, x: Any) -> Any:
    """Give I_x(a, b) a B(a, b) / (x^a (1 - x)^b), for x below about a / (a + b)."""
    found: Any = 1.0
    for k in range(_steps(plain(a), plain(b), plain(x)), 0, -1):
        found = 1 + _coefficient(k, a, b) * x / found
    return 1 / found


def _coefficient(k: int, a: Any, b: Any) -> Any:
    m = k // 2
    if k % 2 == 0:
        return m * (b - m) / ((a + (2 * m - 1)) * (a + 2 * m))
    return -1 * (a + m) * (a + b + m) / ((a + 2 * m) * (a + (2 * m + 1)))


def _steps(a: Any, b: Any, x: Any) -> int:
    """Count the steps after which the fraction moves no more, by Lentz' method."""
    c, d = np.ones(np.broadcast_shapes(*map(np.shape, (a, b, x)))), np.zeros(())
    for k in range(1, MOST):
        step = _coefficient(k, a, b) * x
        d = 1 / (1 + step * d)
        c = 1 + step / c
        if np.all(np.abs(c * d - 1) <= CLOSE + 2e-16) and k > 2:
            break
    # Derivatives need a few more than the value.
    return k + 6


def beta_variable(y: Any, a: Any, b: Any) -> Tails:
    """Give the tails of a beta variable with shapes a and b, at y within (0, 1)."""
    from scipy.special import betaln

    return beta_tails(a, b, y, 1 - y, -1 * betaln(a, b))


def count_tails(y: Any, mu: Any, size: Any) -> Tails:
    """Give the tails of a negative binomial count of this mean and size."""
    log_inverse = log_rising(y + 1, size) - gammaln(y + 1)
    whole = size + mu
    return beta_tails(size, y + 1.0, size / whole, mu / whole, log_inverse)


def student_tails(r: Any, nu: Any) -> Tails:
    """
    Give the tails of Student's t at r.

    Notes
    -----
    P(T > |r|) = I_x(nu / 2, 1/2) / 2 with x = nu / (nu + r²), far out; near the middle half of the
    mass and what lies between 0 and r, which has r as a factor.
    """
    square = r * r / nu
    x, rest = 1 / (1 + square), square / (1 + square)
    log_inverse = log_rising(0.5, nu / 2) - 0.5 * np.log(np.pi)
    near = plain(rest) < 3 / (plain(nu) + 5)
    between = np.exp(log_inverse - 0.5 * (nu + 1) * np.log1p(square)) * r / np.sqrt(nu)
    between = np.where(near, between * fraction(0.5, nu / 2, np.where(near, rest, 0.0)), 0.0)
    low = np.where(near, 0.5, x)
    beyond = 0.5 * nu * np.log(low) + 0.5 * np.log1p(-low) - np.log(nu) + log_inverse
    beyond = beyond + np.log(fraction(nu / 2, 0.5, low))
    others = log_complement(np.where(near, -1.0, beyond))
    left = plain(r) < 0
    below = np.where(near, np.log(0.5 + between), np.where(left, beyond, others))
    return below, np.where(near, np.log(0.5 - between), np.where(left, others, beyond))
