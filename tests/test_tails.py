"""Laws of the logs of distribution functions: with the density, on either side, far out."""

import numpy as np
import pytest
from scipy import special
from test_families import grid, moderate

from glmm_bayes.arrays import NUMPY
from glmm_bayes.families import FAMILIES
from glmm_bayes.taylor import Taylor

TAILED = [name for name, family in FAMILIES.items() if family.tails is not None]
# Of a sum over the number of gamma variables not all terms are taken farther out.
ROWS = {"tweedie": 12}
LEAST = {"tweedie": -200.0}
NODES, WEIGHTS = np.polynomial.legendre.leggauss(80)


def test_every_family_of_numbers_without_trials_has_tails():
    lacking = [f for f in FAMILIES.values() if f.tails is None and f.categories is None]
    assert all(f.needs_trials or f.binary or f.signed for f in lacking), [f.name for f in lacking]


def crossed(family):
    """Give some of the grid's rows, those with a density, and their tails."""
    y, _, params = grid(family)
    keep = np.flatnonzero(np.isfinite(family.logp(y, None, params)))
    keep = keep[:: max(1, len(keep) // ROWS.get(family.name, 250))]
    y, params = y[keep], {k: v[keep] for k, v in params.items()}
    with np.errstate(all="ignore"):
        return y, params, family.tails(y, params, NUMPY)


@pytest.mark.parametrize("name", TAILED)
def test_both_sides_make_one(name):
    _, _, (below, above) = crossed(FAMILIES[name])
    np.testing.assert_allclose(np.exp(below) + np.exp(above), 1.0, rtol=1e-9)
    assert (below <= 1e-14).all()
    assert (above <= 1e-14).all()


@pytest.mark.parametrize("name", TAILED)
def test_they_are_those_of_the_distribution_function(name):
    family = FAMILIES[name]
    y, params, (below, above) = crossed(family)
    with np.errstate(all="ignore"):
        expected = family.cdf(y, params, None)
    np.testing.assert_allclose(np.exp(below), expected, atol=2e-8)
    np.testing.assert_allclose(-np.expm1(above), expected, atol=2e-8)


@pytest.mark.parametrize("name", TAILED)
def test_tails_are_those_of_scipy(name):
    family = FAMILIES[name]
    y, _, params = grid(family)
    with np.errstate(all="ignore"):
        frozen = family.numeric(params, None)
        if not hasattr(frozen, "logsf") or not hasattr(frozen, "logcdf"):
            pytest.skip("its frozen distribution is our own")
        expected = frozen.logcdf(y), frozen.logsf(y)
        found = family.tails(y, params, NUMPY)
    for tail, known in zip(found, expected, strict=True):
        # Far out some of scipy's are the logarithm of a rounded 1 or 0.
        there = np.isfinite(known) & (known > -15) & (known < -1e-6)
        assert there.mean() > 0.05
        np.testing.assert_allclose(tail[there], known[there], rtol=1e-7)


@pytest.mark.parametrize("name", [n for n in TAILED if FAMILIES[n].discrete])
def test_one_more_count_adds_its_probability(name):
    family = FAMILIES[name]
    y, params, (below, above) = crossed(family)
    lowest = np.array([family.problem(np.array([v - 1.0]), None) is not None for v in y])
    with np.errstate(all="ignore"):
        before, after = family.tails(np.where(lowest, y, y - 1), params, NUMPY)
    own = family.logp(y, None, params)
    np.testing.assert_allclose(
        below[~lowest], np.logaddexp(before, own)[~lowest], rtol=1e-8, atol=1e-12
    )
    np.testing.assert_allclose(below[lowest], own[lowest], rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(
        after[~lowest], np.logaddexp(above, own)[~lowest], rtol=1e-8, atol=1e-12
    )


@pytest.mark.parametrize("name", [n for n in TAILED if not FAMILIES[n].discrete])
def test_a_little_more_adds_the_density(name):
    """Over a step as long as the density falls by some percent, on the smaller side."""
    family = FAMILIES[name]
    y, params, (below, above) = crossed(family)
    inside = ~np.isin(y, family.atoms) & (np.minimum(below, above) > LEAST.get(name, -600.0))
    own = family.logp(y, None, params)
    down = below < above
    with np.errstate(all="ignore"):
        step = 1e-2 * np.exp(np.minimum(below, above) - own)
        step = np.where(step < 10 * (1 + np.abs(y)), step, 0.0)
        moved = y + np.where(down, -step, step)
        allowed = [family.problem(np.array([v]), None) is None for v in moved]
        further = family.tails(moved, params, NUMPY)
        at = y[:, None] + (moved - y)[:, None] * 0.5 * (NODES + 1)
        density = family.logp(at, None, {k: v[:, None] for k, v in params.items()})
        gained = np.log(0.5 * step) + special.logsumexp(density, axis=1, b=WEIGHTS)
        whole, rest = np.where(down, below, above), np.where(down, further[0], further[1])
        together = np.logaddexp(rest, gained)
    # A step that is lost beside y says nothing, nor one along which the density is another.
    even = np.ptp(np.nan_to_num(density, neginf=-1e9), axis=1) < 0.5
    use = inside & allowed & even & (step > 1e-7 * np.abs(y))
    assert use.mean() > 0.1
    np.testing.assert_allclose(whole[use], together[use], rtol=1e-8, atol=1e-8)


def points(family, params):
    """Draw responses, and put some in the tails."""
    full = {k: np.full(8, v) for k, v in params.items()}
    y = np.asarray(family.draw(np.random.default_rng(2), full, None, 8), float)
    far = y.mean() + np.array([-6.0, 8.0]) * (1 + y.std())
    return np.array([v for v in [*y, *far] if family.problem(np.array([v]), None) is None])


@pytest.mark.parametrize("name", [n for n in TAILED if not FAMILIES[n].kinked])
def test_derivatives_are_those_of_the_value(name):
    """Each order's differences are the next: central ones, of order h^4."""
    family, h = FAMILIES[name], 1e-3
    params = moderate(family)
    y, names = points(family, params), list(params)

    def numbers(moved):
        return {
            k: Taylor.variable(np.full(len(y), params[k] + moved.get(k, 0.0)), i, order=3)
            for i, k in enumerate(names)
        }

    with np.errstate(all="ignore"):
        middle = family.tails(y, numbers({}), NUMPY)
        for k, param in enumerate(names):
            ups = [family.tails(y, numbers({param: s * h}), NUMPY) for s in (-2, -1, 1, 2)]
            for side in range(2):
                for order in range(3):
                    a, b, c, d = (
                        np.asarray(
                            each[side].derivative(*[k] * order) if order else each[side].value
                        )
                        for each in ups
                    )
                    quotient = (8 * (c - b) - (d - a)) / (12 * h)
                    exact = middle[side].derivative(*[k] * (order + 1))
                    scale = 1e-6 * (1 + np.nanmax(np.abs(a)))
                    close = np.abs(exact - quotient) <= scale + 1e-5 * np.abs(exact)
                    assert (close | ~np.isfinite(middle[side].value)).all(), (
                        param,
                        side,
                        order,
                        exact,
                        quotient,
                    )


GRAPHS = [n for n in TAILED if FAMILIES[n].parameters[0].support != (-np.pi, np.pi)]


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_have_the_same_tails(name):
    import pytensor
    import pytensor.tensor as pt

    from glmm_bayes.arrays import graph

    family = FAMILIES[name]
    params = {k: np.full(1, v) for k, v in moderate(family).items()}
    y = points(family, moderate(family))[:3]
    symbols = {k: pt.vector(k) for k in params}
    below, above = family.tails(
        pt.as_tensor(y), {k: s[0] + 0 * pt.as_tensor(y) for k, s in symbols.items()}, graph()
    )
    slopes = pytensor.grad(pt.sum(below), list(symbols.values()))
    from glmm_bayes.families.derived import _mode

    found = pytensor.function(list(symbols.values()), [below, above, *slopes], mode=_mode())(
        *params.values()
    )
    numbers = {
        k: Taylor.variable(np.full(len(y), v[0]), i, order=1)
        for i, (k, v) in enumerate(params.items())
    }
    with np.errstate(all="ignore"):
        expected = family.tails(y, numbers, NUMPY)
    np.testing.assert_allclose(found[0], expected[0].value, rtol=1e-8)
    np.testing.assert_allclose(found[1], expected[1].value, rtol=1e-8)
    for k, slope in enumerate(found[2:]):
        np.testing.assert_allclose(
            slope[0], np.sum(expected[0].derivative(k)), rtol=1e-6, atol=1e-9
        )
