"""Which differences a name stands for: matrices of weights on some estimates."""

from collections.abc import Callable, Sequence
from itertools import combinations
from math import gcd

import numpy as np

from glmm_bayes.registry import Registry

type Contrast = tuple[str, np.ndarray]
type ContrastMaker = Callable[[Sequence[str], str], list[Contrast]]

# By name, what makes of k labels, and the sign between two of them, contrasts `(label, (k,))`.
CONTRASTS: Registry[ContrastMaker] = Registry("set of contrasts")
POLYNOMIALS = ("linear", "quadratic", "cubic", "quartic", "degree 5", "degree 6")
WHOLE = 1000  # the largest whole number looked for in a polynomial's weights


def _difference(labels: Sequence[str], sign: str, left: int, right: int) -> Contrast:
    weights = np.zeros(len(labels))
    weights[left], weights[right] = 1.0, -1.0
    return f"{_bracketed(labels[left])} {sign} {_bracketed(labels[right])}", weights


def _bracketed(label: str) -> str:
    """Put brackets around what is a difference itself."""
    return f"({label})" if " - " in label or " / " in label else label


def pairwise(labels: Sequence[str], sign: str) -> list[Contrast]:
    """
    Compare every estimate with every later one: a - b.

    Examples
    --------
    >>> pairwise(["a", "b"], "-")
    [('a - b', array([ 1., -1.]))]
    """
    return [_difference(labels, sign, i, j) for i, j in combinations(range(len(labels)), 2)]


def reversed_pairwise(labels: Sequence[str], sign: str) -> list[Contrast]:
    """Compare every estimate with every earlier one: b - a."""
    return [_difference(labels, sign, j, i) for i, j in combinations(range(len(labels)), 2)]


def against_first(labels: Sequence[str], sign: str) -> list[Contrast]:
    """Compare each estimate with the first."""
    return [_difference(labels, sign, j, 0) for j in range(1, len(labels))]


def against_last(labels: Sequence[str], sign: str) -> list[Contrast]:
    """Compare each estimate with the last."""
    return [_difference(labels, sign, j, len(labels) - 1) for j in range(len(labels) - 1)]


def consecutive(labels: Sequence[str], sign: str) -> list[Contrast]:
    """Compare each estimate with the one before it."""
    return [_difference(labels, sign, j, j - 1) for j in range(1, len(labels))]


def against_mean(labels: Sequence[str], sign: str) -> list[Contrast]:
    """Compare each estimate with the mean of all."""
    k = len(labels)
    return [(f"{label} {sign} mean", np.eye(k)[j] - 1 / k) for j, label in enumerate(labels)]


def against_others(labels: Sequence[str], sign: str) -> list[Contrast]:
    """Compare each estimate with the mean of the others."""
    k = len(labels)
    rest = (1 - np.eye(k)) / max(k - 1, 1)
    return [
        (f"{label} {sign} others", np.eye(k)[j] - rest[j] * (k > 1))
        for j, label in enumerate(labels)
    ]


def mean_change(labels: Sequence[str], sign: str) -> list[Contrast]:
    """Compare, at each place between two estimates, the mean after it with the mean before."""
    k, found = len(labels), []
    for j in range(1, k):
        weights = np.where(np.arange(k) < j, -1 / j, 1 / (k - j))
        found.append((f"from {labels[j]} {sign} before", weights))
    return found


def polynomial(labels: Sequence[str], sign: str) -> list[Contrast]:
    """
    Compare along orthogonal polynomials of the place, in whole numbers where these are small.

    Up to the sixth degree; the estimates stand for evenly spaced values.

    Examples
    --------
    >>> for name, weights in polynomial(list("abcd"), "-"):
    ...     print(name, weights)
    linear [-3. -1.  1.  3.]
    quadratic [ 1. -1. -1.  1.]
    cubic [-1.  3. -3.  1.]
    """
    k = len(labels)
    place = np.arange(k) - (k - 1) / 2
    degree = min(k - 1, len(POLYNOMIALS))
    basis, _ = np.linalg.qr(np.vander(place / max(k, 1), degree + 1, increasing=True))
    signed = basis[:, 1:] * np.sign(basis[-1, 1:])
    return [(POLYNOMIALS[d], _whole(signed[:, d])) for d in range(degree)]


def _whole(weights: np.ndarray) -> np.ndarray:
    """Multiply weights by what makes whole numbers of them without a common divisor."""
    scaled = weights / np.abs(weights[np.abs(weights) > 1e-9]).min()
    for times in range(1, WHOLE + 1):
        found = np.round(scaled * times)
        if np.allclose(found, scaled * times, atol=1e-6):
            return found / gcd(*found.astype(int)) + 0.0  # no negative zeros
    return weights


def themselves(labels: Sequence[str], sign: str) -> list[Contrast]:
    """Give the estimates as they are."""
    return [(label, np.eye(len(labels))[j]) for j, label in enumerate(labels)]


for _names, _maker in (
    # The same sets by the names of emmeans and of marginaleffects.
    (("pairwise",), pairwise),
    (("revpairwise",), reversed_pairwise),
    (("trt.vs.ctrl", "trt.vs.ctrl1", "dunnett", "reference"), against_first),
    (("trt.vs.ctrlk",), against_last),
    (("consec", "sequential"), consecutive),
    (("eff", "meandev"), against_mean),
    (("del.eff", "meanotherdev"), against_others),
    (("mean_chg",), mean_change),
    (("poly",), polynomial),
    (("identity",), themselves),
):
    for _name in _names:
        CONTRASTS.add(_name, _maker)
