"""Parameters that are functions of others, in the compiled pass: the formulas of `priors`."""

import numpy as np

from glmm_bayes.engine.kernels import inner

DEPENDENTS = ("horseshoe", "r2d2", "monotonic")

# A row: its kind, where its k places and spreads begin, k, where up to four blocks that it is a
# function of begin in theta, and where sigma stands, or -1.


@inner
def fill(theta, rows, places, spreads, reaches):
    """Write into theta what depends on others."""
    for r in range(len(rows)):
        kind, first, k, z, second, third, fourth, sigma = rows[r]
        unit = theta[sigma] if sigma >= 0 else 1.0
        at, spread = places[first : first + k], spreads[first : first + k]
        if kind == 0:
            width, slab = theta[third] * unit, reaches[r] * reaches[r] * theta[fourth]
            for j in range(k):
                wide = width * theta[second + j]
                scale = wide / np.sqrt(1.0 + wide * wide / slab)
                theta[at[j]] = theta[z + j] * scale / spread[j]
        else:
            _fill_shares(theta, kind, k, z, second, third, unit, at, spread)


@inner
def _fill_shares(theta, kind, k, z, second, third, unit, at, spread):
    """Write what is in shares of a whole: of the explained variance, or of the way of steps."""
    sticks = third if kind == 1 else second
    odds = theta[second] / (1.0 - theta[second]) if kind == 1 else 0.0
    rest = 1.0
    for j in range(k):
        stick = theta[sticks + j] if j < k - 1 else 1.0
        share = rest * stick
        rest *= 1.0 - stick
        if kind == 1:
            theta[at[j]] = theta[z + j] * np.sqrt(share * odds) * unit / spread[j]
        else:
            theta[at[j]] = k * theta[z] * share


@inner
def back(theta, by_theta, rows, places, spreads, reaches):
    """Add to the slopes by what is given those by what depends on it."""
    for r in range(len(rows)):
        kind, first, k, z, second, third, fourth, sigma = rows[r]
        unit = theta[sigma] if sigma >= 0 else 1.0
        at, spread = places[first : first + k], spreads[first : first + k]
        if kind == 0:
            width, slab = theta[third] * unit, reaches[r] * reaches[r] * theta[fourth]
            whole, capped = 0.0, 0.0
            for j in range(k):
                wide, by = width * theta[second + j], by_theta[at[j]]
                kept = 1.0 / (1.0 + wide * wide / slab)
                by_theta[z + j] += by * wide * np.sqrt(kept) / spread[j]
                by_log = by * theta[at[j]]
                by_theta[second + j] += by_log * kept / theta[second + j]
                whole += by_log * kept
                capped += by_log * (1.0 - kept)
            by_theta[third] += whole / theta[third]
            by_theta[fourth] += capped / (2.0 * theta[fourth])
        else:
            whole = _back_shares(theta, by_theta, kind, k, z, second, third, unit, at, spread)
        if sigma >= 0:
            by_theta[sigma] += whole / unit


@inner
def _back_shares(theta, by_theta, kind, k, z, second, third, unit, at, spread):
    """Carry slopes back to a whole and its sticks; give the sum of those by log of the whole."""
    sticks = third if kind == 1 else second
    odds = theta[second] / (1.0 - theta[second]) if kind == 1 else 0.0
    rest, whole = 1.0, 0.0
    by_log = np.empty(k)
    for j in range(k):
        stick, by = theta[sticks + j] if j < k - 1 else 1.0, by_theta[at[j]]
        share = rest * stick
        rest *= 1.0 - stick
        by_log[j] = by * theta[at[j]]
        whole += by_log[j]
        if kind == 1:
            by_theta[z + j] += by * np.sqrt(share * odds) * unit / spread[j]
            by_log[j] *= 0.5
        else:
            by_theta[z] += by * k * share
    if kind == 1:
        by_theta[second] += whole / (2.0 * theta[second] * (1.0 - theta[second]))
    later = 0.0
    for j in range(k - 1, -1, -1):
        if j < k - 1:
            stick = theta[sticks + j]
            by_theta[sticks + j] += by_log[j] / stick - later / (1.0 - stick)
        later += by_log[j]
    return whole
