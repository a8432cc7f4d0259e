"""Deviances that are searched for: those that families state, and R's."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from test_families import moderate

import glmm_bayes as gb
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.families import FAMILIES
from glmm_bayes.families.saturated import unit_deviance

STATED = [n for n, f in FAMILIES.items() if f.deviance is not None]
SEARCHED = [
    n
    for n, f in FAMILIES.items()
    if f.deviance is None and not f.kinked and f.variance is not None and f.categories is None
]


def rows(family, which=0):
    """Draw responses, with parameters of which mu varies."""
    own = moderate(family, which)
    params = {k: np.full(12, v) for k, v in own.items()}
    trials = np.full(12, 9.0) if family.needs_trials else None
    y = np.asarray(family.draw(np.random.default_rng(4), params, trials, 12), float)
    return y, trials, params


@pytest.mark.parametrize("name", STATED)
def test_the_search_finds_what_a_family_states(name):
    """With a scale or shape of 1, as deviances are."""
    family = FAMILIES[name]
    y, trials, params = rows(family)
    unit = {k: v if k == "mu" or family.discrete else np.ones(12) for k, v in params.items()}
    found = unit_deviance(replace(family, deviance=None), y, trials, unit)
    np.testing.assert_allclose(found, family.deviance(y, trials, unit), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", SEARCHED)
def test_no_other_mean_is_higher(name):
    family = FAMILIES[name]
    y, trials, params = rows(family, 1)
    found = unit_deviance(family, y, trials, params)
    assert (found >= 0).all()
    here = family.logp(y, trials, params)
    lower, upper = family.parameters[0].support
    grid = np.linspace(max(lower, -9.0), min(upper, 60.0), 121)[1:-1]
    with np.errstate(all="ignore"):
        heights = [family.logp(y, trials, {**params, "mu": np.full(12, m)}) for m in grid]
    most = np.nanmax(heights, axis=0)
    assert (found >= 2 * (most - here) - 1e-9).all()


def test_nbinom1_agrees_with_a_search_by_hand():
    """Of the textbook's mass: size mu / phi, chance 1 / (1 + phi)."""
    from scipy import optimize, stats

    phi, mu = 1.5, 3.0
    for y in (0.0, 2.0, 11.0):

        def fall(m, y=y):
            return -stats.nbinom(m / phi, 1 / (1 + phi)).logpmf(y)

        best = optimize.minimize_scalar(
            fall, bounds=(1e-9, 60.0), method="bounded", options={"xatol": 1e-9}
        ).fun
        params = {"mu": np.array([mu]), "phi": np.array([phi])}
        found = unit_deviance(FAMILIES["nbinom1"], np.array([y]), None, params)
        assert found[0] == pytest.approx(2 * (fall(mu) - best), abs=1e-6)


def test_residuals_of_a_fit():
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"y": rng.negative_binomial(4, 0.4, 80), "x": rng.normal(size=80)})
    fit = gb.Model("y ~ x", data, family="nbinom1").fit("ml")
    found = fit.residuals("deviance")
    mu = fit.predict()["estimate"]
    assert (np.sign(found) == np.sign(data["y"] - mu)).all()
    assert 0.7 < found.std() < 1.4


def test_a_density_with_a_kink_has_none():
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"y": rng.laplace(size=40)})
    with pytest.raises(NotSupportedError, match="'laplace' has no deviance"):
        unit_deviance(FAMILIES["laplace"], data["y"].to_numpy(), None, {})
