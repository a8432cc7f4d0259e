"""Tails of distributions by sums over counts and by quadrature, with derivatives."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from glmm_bayes.arrays import NUMPY
from glmm_bayes.families.incomplete import plain
from glmm_bayes.families.opaque import opaque
from glmm_bayes.families.special import LOG_HALF, log_complement
from glmm_bayes.taylor import Taylor

type Array = np.ndarray
type Tails = tuple[Any, Any]  # log P(Y <= y) and log P(Y > y)

AT_ONCE = 64  # counts added at a time
ENOUGH = 1e-18  # of a sum: a term that ends it
MOST = 200_000  # counts added at most
STEP, FIRST, LAST = 0.08, -3.6, 4.4  # of the double exponential rule
FINEST = 40


def by_arrays(
    name: str, tails: Callable[[Any, Any], Tails], names: Sequence[str]
) -> Callable[[Any, Any, Any], Tails]:
    """
    Make tails over a namespace of functions of ones on arrays: one node each of a graph.

    Parameters
    ----------
    tails
        `tails(y, params)`, on arrays and on numbers that carry derivatives.
    names
        The parameters that they depend on.
    """

    def either(y: Any, p: Any, xp: Any) -> Tails:
        with np.errstate(all="ignore"):
            return tails(y, p) if xp is NUMPY else _nodes(name, tails, names, y, p)

    return either


def _nodes(name: str, tails: Any, names: Sequence[str], y: Any, p: Any) -> Tails:
    below = opaque(f"{name}_below", lambda y, trials, p: tails(y, p)[0], names)
    above = opaque(f"{name}_above", lambda y, trials, p: tails(y, p)[1], names)
    return below(y, p, None), above(y, p, None)


def count_sums(log_mass: Callable[[Array, Any], Any], mean: Any, y: Any, p: Any) -> Tails:
    """
    Sum the probabilities of the counts on the smaller side of y, about, away from it.

    Parameters
    ----------
    log_mass
        `log_mass(k, p)`, which broadcasts counts against the parameters; minus infinity where
        there are none.
    mean
        Which says what side that is.
    """
    down = y < plain(mean)
    near = y + np.where(down, 0.0, 1.0)
    top = log_mass(near, p)
    # Where even the nearest has no probability, none beyond it has.
    none = ~np.isfinite(plain(top))
    top = np.where(none, 0.0, top)
    total: Any = 0.0
    for start in range(0, MOST, AT_ONCE):
        moved = np.arange(start, start + AT_ONCE).reshape(-1, *[1] * near.ndim)
        terms = log_mass(near + np.where(down, -moved, moved), p) - top
        gone = ~np.isfinite(plain(terms)) | none
        parts = np.where(gone, 0.0, np.exp(np.where(gone, 0.0, terms)))
        total = total + over_first(parts)
        if np.all(plain(parts)[-1] <= ENOUGH * plain(total)):
            break
    small = np.where(none, -np.inf, top + np.log(np.where(none, 1.0, total)))
    large = np.where(none, 0.0, log_complement(np.where(none, -1.0, small)))
    return np.where(down, small, large), np.where(down, large, small)


def over_first(x: Any) -> Any:
    """Sum over the first axis."""
    if not isinstance(x, Taylor):
        return x.sum(axis=0)
    shape = np.broadcast_shapes(*map(np.shape, x.terms))
    return Taylor(x.monomials, [np.broadcast_to(t, shape).sum(axis=0) for t in x.terms], x.order)


@cache
def _rule(fineness: int) -> tuple[Array, Array]:
    """
    Give nodes and log weights on (0, infinity) of what falls off exponentially.

    Notes
    -----
    x = exp(t - exp(-t)), trapezoids in t: Takahasi & Mori (1974), Publ. RIMS 9, 721-741.
    """
    t = np.arange(FIRST, LAST, STEP / fineness)
    log_x = t - np.exp(-t)
    return np.exp(log_x), log_x + np.log1p(np.exp(-t)) + np.log(STEP / fineness)


def integrated(log_density: Callable[[Any], Any], z: Any, lower: Array, fineness: int = 1) -> Tails:
    """
    Integrate a density in standard units over the smaller side of z.

    Parameters
    ----------
    log_density
        `log_density(z)`, smooth on the real line, falling off at least exponentially.
    lower
        Whether that is the side below.
    fineness
        How many times more nodes there are than a density as smooth as the normal's needs.
    """
    rule = _rule(min(fineness, FINEST))
    nodes, log_weights = (part.reshape(-1, *[1] * np.ndim(lower)) for part in rule)
    sign, at, h = np.where(lower, -1.0, 1.0), plain(z), 1e-4
    fall = (plain(log_density(at)) - plain(log_density(at + sign * h))) / h
    scale = 1 / (1 + np.maximum(fall, 0.0))
    top = log_density(z)
    rises = log_density(z + sign * scale * nodes) - top + log_weights
    highest = plain(rises).max(axis=0)
    small = top + np.log(over_first(np.exp(rises - highest))) + highest + np.log(scale)
    large = log_complement(np.where(plain(small) < 0, small, -1e-300))
    return np.where(lower, small, large), np.where(lower, large, small)


def either_or(log_p: Any, log_q: Any, tails: Tails, xp: Any) -> Tails:
    """Give the tails of a zero with probability p, and else, q, of what has these tails."""
    above = log_q + tails[1]
    rare = above < LOG_HALF
    below = log_p + xp.softplus(log_q + tails[0] - log_p)
    return xp.where(rare, log_complement(xp.where(rare, above, -1.0), xp), below), above
