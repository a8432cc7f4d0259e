"""Laws of the other readers of a density far out: compiled kernels say what the formulas say."""

from itertools import product

import numpy as np
import pytest
from numba import njit
from test_expansion import fits, names
from test_families import moderate

from glmm_bayes.engine import kernels
from glmm_bayes.engine.density.row_passes import likelihood
from glmm_bayes.families import FAMILIES, LINKS
from glmm_bayes.families.expansion import RowDensity
from glmm_bayes.families.links import UNIT

POOL = (-1e5, -1.0, 0.0, 0.3, 1.0, 2.0, 7.0, 1e7)
FAR = np.array([-700.0, -300.0, -100.0, -30.0, -5.0, -0.01, 0.01, 0.4, 5.0, 30.0, 300.0, 700.0])
COMPILED = [
    (family.compiled, parameter.name, link)
    for family in (FAMILIES[name] for name in kernels.FAMILIES)
    for parameter in family.parameters
    for link in parameter.links
    if LINKS[link].compiled is not None
]


def predictors(link, support):
    """Give the predictors whose parameter is within its support."""
    with np.errstate(all="ignore"):
        value = LINKS[link].linkinv(FAR)
    rounded = (support == UNIT) & (LINKS[link].support == UNIT)
    return FAR[rounded | ((value > support[0]) & (value < support[1]))]


@njit(cache=True)
def by_rows(family, links, y, trials, eta):
    """Evaluate one row after the other: values `(n,)` and slopes `(P, n)`."""
    values, slopes = np.empty(len(y)), np.empty(eta.shape)
    for i in range(len(y)):
        at = slice(i, i + 1)
        slope = np.empty((len(eta), 1))
        values[i] = likelihood(
            family, links, y[at], trials[at], np.ones(1), eta[:, at], np.ones(3), slope
        )
        slopes[:, i] = slope[:, 0]
    return values, slopes


@pytest.mark.parametrize(("name", "param", "link"), COMPILED)
def test_kernels_are_the_formulas_far_out(name, param, link):
    """Value and slopes, up to the constants and the digits that the terms themselves have."""
    family = FAMILIES[name]
    # Links without a kernel have none of these: their models take the formulas.
    links = {
        p.name: LINKS[next(n for n in p.links if LINKS[n].compiled)] for p in family.parameters
    }
    links[param] = LINKS[link]
    own, pool = moderate(family), [y for y in POOL if fits(family, y)]
    spaces = [
        predictors(link, p.support)
        if p.name == param
        else [float(links[p.name].linkfun(np.array(own[p.name])))]
        for p in family.parameters
    ]
    y, *eta = np.array(list(product(pool, *spaces))).T
    eta, trials = np.array(eta), np.full(len(y), 1e7 if family.needs_trials else 1.0)
    numbers = np.array([kernels.LINKS.index(links[p].compiled) for p in names(family)])
    value, slope = by_rows(kernels.FAMILIES.index(name), numbers, y, trials, eta)
    rows = RowDensity(
        family, links, names(family), y, trials if family.needs_trials else None, None
    )
    expected = rows(eta, 1)
    there = expected.value > -1e290
    # The constants that a kernel leaves out are those of the response.
    for at in (there & (y == v) for v in pool):
        gaps, size = value[at] - expected.value[at], np.abs(expected.value[at])
        rounded = 1e-8 * (1 + size) + 1e-14 * (np.abs(y[at]) + trials[at])
        np.testing.assert_array_less(np.abs(gaps - gaps[np.argmin(size)]), rounded)
    np.testing.assert_array_equal(value > -1e290, there)
    assert not np.isnan(value).any()
    # Slopes that nearly cancel have the digits of what they are made of.
    gap = np.abs(slope[:, there] - expected.first[:, there])
    rounded = 1e-8 * (1e-6 + np.abs(expected.first)) + 1e-15 * (np.abs(y) + trials)
    np.testing.assert_array_less(gap, rounded[:, there])
    assert not np.isnan(slope).any()
