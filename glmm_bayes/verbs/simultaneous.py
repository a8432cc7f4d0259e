"""Many tests and intervals at once: p-values and critical values adjusted for their number."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtri
from scipy.stats import chi2, f, norm, qmc, studentized_range, t

from glmm_bayes.errors import DataError
from glmm_bayes.registry import Registry

DIRECTIONS = 1 << 13  # of the integral over the sphere


@dataclass(frozen=True, eq=False)
class Statistics:
    """
    A family of two-sided tests.

    Attributes
    ----------
    statistic, df
        `(m,)` estimates over their standard errors, and their degrees of freedom, maybe infinite.
    root
        `(d, m)` a root of the estimates' covariance, root' root.
    compared
        How many estimates these are all pairwise differences of; 0 if they are not.
    """

    statistic: np.ndarray
    df: np.ndarray
    root: np.ndarray
    compared: int = 0

    @property
    def size(self) -> int:
        """The number m of tests."""
        return len(self.statistic)


@dataclass(frozen=True)
class Adjustment:
    """
    A way to adjust for the number of tests.

    Attributes
    ----------
    p_values
        `(m,)` of a family.
    critical
        `(m,)` by how many standard errors a family's intervals reach, which all hold together
        with the probability `level`.
    """

    p_values: Callable[[Statistics], np.ndarray]
    critical: Callable[[Statistics, float], np.ndarray]


def single(tests: Statistics) -> np.ndarray:
    """Give two-sided p-values, one test at a time."""
    return np.asarray(2 * t.sf(np.abs(tests.statistic), tests.df))


def _quantiles(tests: Statistics, tail: float) -> np.ndarray:
    """Give the critical values with this probability outside, one interval at a time."""
    return np.where(np.isinf(tests.df), -ndtri(tail / 2), t.isf(tail / 2, tests.df))


def _bonferroni(tests: Statistics) -> np.ndarray:
    return np.minimum(tests.size * single(tests), 1.0)


def _holm(tests: Statistics) -> np.ndarray:
    """Reject the smallest first: Holm (1979), Scand. J. Stat. 6, 65-70."""
    p = single(tests)
    order = np.argsort(p)
    stepped = np.maximum.accumulate((tests.size - np.arange(tests.size)) * p[order])
    found = np.empty_like(p)
    found[order] = np.minimum(stepped, 1.0)
    return found


def _sidak(tests: Statistics) -> np.ndarray:
    # The same as 1 - (1 - p)^m, without losing the digits of a small p.
    with np.errstate(divide="ignore"):
        return -np.expm1(tests.size * np.log1p(-single(tests)))


def _tukey(tests: Statistics) -> np.ndarray:
    k = _compared(tests)
    return np.asarray(studentized_range.sf(np.sqrt(2) * np.abs(tests.statistic), k, tests.df))


def _compared(tests: Statistics) -> int:
    if not tests.compared:
        raise DataError(
            "adjust='tukey' is for all pairwise differences of some estimates, which these are "
            "not; use 'mvt', 'sidak' or 'holm'."
        )
    return tests.compared


def _joint(tests: Statistics) -> np.ndarray:
    known = np.isfinite(tests.statistic)
    outside, found = _outside(tests), np.full(tests.size, np.nan)
    pairs = zip(np.abs(tests.statistic[known]), tests.df[known], strict=True)
    found[known] = [outside(s, df) for s, df in pairs]
    return found


def _outside(tests: Statistics) -> Callable[[float, float], float]:
    """
    Give the probability that the largest of the m statistics is beyond a value, if all are zero.

    Notes
    -----
    With the estimates' correlation A A', A `(m, r)`, and u uniform on the unit sphere, the largest
    statistic is max |A u| times the root of r F, F with r and `df` degrees of freedom: given u, its
    tail is known. What is left is a mean over directions, taken at scrambled Sobol points; so a far
    tail has a small relative error too. See Genz & Bretz (2009), Computation of Multivariate Normal
    and t Probabilities, section 4.1.
    """
    with np.errstate(all="ignore"):
        scaled = np.nan_to_num(tests.root / np.linalg.norm(tests.root, axis=0))
    _, lengths, vectors = np.linalg.svd(scaled, full_matrices=False)
    kept = lengths > 1e-6 * lengths[0]
    r = int(kept.sum())
    if not r:
        return lambda value, df: np.nan
    A = vectors[kept].T * lengths[kept]
    points = qmc.Sobol(r, rng=np.random.default_rng(1)).random(DIRECTIONS)
    u = norm.ppf(np.clip(points, 1e-12, 1 - 1e-12))
    reach = np.abs(u @ A.T).max(axis=1) / np.linalg.norm(u, axis=1)

    def outside(value: float, df: float) -> float:
        squared = (value / reach) ** 2
        tail = chi2.sf(squared, r) if np.isinf(df) else f.sf(squared / r, r, df)
        return float(tail.mean())

    return outside


def _joint_critical(tests: Statistics, level: float) -> np.ndarray:
    outside = _outside(tests)
    separate = _quantiles(tests, 1 - level)
    bound = _quantiles(tests, (1 - level) / tests.size)
    found = {
        df: brentq(lambda c, df=df: outside(c, df) - (1 - level), 0.9 * low, 1.1 * high)
        for df, low, high in set(zip(tests.df, separate, bound, strict=True))
    }
    return np.array([found[df] for df in tests.df])


ADJUSTMENTS: Registry[Adjustment] = Registry("adjustment")
ADJUSTMENTS.add("none", Adjustment(single, lambda tests, level: _quantiles(tests, 1 - level)))
ADJUSTMENTS.add(
    "bonferroni",
    Adjustment(_bonferroni, lambda tests, level: _quantiles(tests, (1 - level) / tests.size)),
)
# Holm's steps have no intervals of their own: Bonferroni's hold together, and are wider.
ADJUSTMENTS.add("holm", Adjustment(_holm, ADJUSTMENTS["bonferroni"].critical))
ADJUSTMENTS.add(
    "sidak",
    Adjustment(_sidak, lambda tests, level: _quantiles(tests, 1 - level ** (1 / tests.size))),
)
ADJUSTMENTS.add(
    "tukey",
    Adjustment(
        _tukey,
        lambda tests, level: studentized_range.ppf(level, _compared(tests), tests.df) / np.sqrt(2),
    ),
)
ADJUSTMENTS.add("mvt", Adjustment(_joint, _joint_critical))
