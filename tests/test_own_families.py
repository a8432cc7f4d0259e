"""A family of one's own, of which only the distribution is given: the rest is derived."""

import numpy as np
import pymc as pm
import pytest
from scipy import stats

from glmm_bayes.errors import NotSupportedError
from glmm_bayes.families import FAMILIES, Family, Parameter, add_family
from glmm_bayes.families.links import POSITIVE, REAL, UNIT

GUMBEL = Family(
    name="gumbel",
    parameters=(
        Parameter("mu", "identity", ("identity",), REAL),
        Parameter("beta", "log", ("log",), POSITIVE),
    ),
    distribution="Gumbel",
    arguments=lambda p, trials, xp: {"mu": p["mu"], "beta": p["beta"]},
)
SKEW_NORMAL = Family(
    name="skew_normal",
    parameters=(
        Parameter("mu", "identity", ("identity",), REAL),
        Parameter("sigma", "log", ("log",), POSITIVE),
        Parameter("alpha", "identity", ("identity",), REAL),
    ),
    distribution=pm.SkewNormal,
    arguments=lambda p, trials, xp: dict(p),
)
OWN = [
    (GUMBEL, lambda p: stats.gumbel_r(p["mu"], p["beta"])),
    (SKEW_NORMAL, lambda p: stats.skewnorm(p["alpha"], p["mu"], p["sigma"])),
]


@pytest.mark.parametrize(("family", "numeric"), OWN, ids=["gumbel", "skew_normal"])
class TestAFamilyOfOnesOwn:
    """Only name, parameters, distribution and arguments are given."""

    params = {"mu": np.array([0.5, -2.0, 1.0])}
    params |= {"sigma": np.array([1.0, 0.4, 2.0]), "alpha": np.array([3.0, -1.0, 0.1])}
    params |= {"beta": np.array([1.0, 0.3, 4.0])}

    def own(self, family):
        return {p.name: self.params[p.name] for p in family.parameters}

    def test_density(self, family, numeric):
        y, params = np.array([0.4, -1.9, 7.0]), self.own(family)
        # PyMC's skew normal takes the square root of 2 in single precision.
        tolerance = 1e-7 if family is SKEW_NORMAL else 1e-12
        np.testing.assert_allclose(
            family.logp(y, None, params), numeric(params).logpdf(y), rtol=tolerance
        )

    def test_score(self, family, numeric):
        y, params, h = np.array([0.4, -1.9, 3.0]), self.own(family), 1e-5
        for name, slope in family.kernel[1](y, None, params).items():
            up = numeric({**params, name: params[name] + h}).logpdf(y)
            down = numeric({**params, name: params[name] - h}).logpdf(y)
            np.testing.assert_allclose(slope, (up - down) / (2 * h), rtol=1e-5, atol=1e-7)

    def test_scalars_broadcast(self, family, numeric):
        y = np.array([[0.4, -1.9], [0.0, 2.0]])
        params = {k: v[0] for k, v in self.own(family).items()}
        np.testing.assert_allclose(family.logp(y, None, params), numeric(params).logpdf(y))

    def test_draws(self, family, numeric):
        params = self.own(family)
        y = family.draw(np.random.default_rng(4), params, None, (20_000, 3))
        for k in range(3):
            frozen = numeric({name: v[k] for name, v in params.items()})
            assert stats.kstest(y[:, k], frozen.cdf).pvalue > 1e-6
        again = family.draw(np.random.default_rng(4), params, None, (20_000, 3))
        np.testing.assert_array_equal(y, again)

    def test_no_distribution_function(self, family, numeric):
        with pytest.raises(NotSupportedError, match="has no distribution function"):
            family.cdf(np.zeros(3), self.own(family), None)


def test_a_discrete_family_of_ones_own_with_trials():
    binomial = Family(
        name="plain_binomial",
        parameters=(Parameter("mu", "logit", ("logit",), UNIT),),
        distribution="Binomial",
        arguments=lambda p, trials, xp: {"n": trials, "p": p["mu"]},
    )
    counts, trials = np.array([1.0, 30.0]), np.array([4.0, 40.0])
    expected = stats.binom(trials.astype(int), 0.3).logpmf(counts)
    np.testing.assert_allclose(binomial.logp(counts, trials, {"mu": 0.3}), expected, rtol=1e-10)
    y = binomial.draw(np.random.default_rng(5), {"mu": 0.3}, trials, (4000, 2))
    assert y.mean(axis=0) == pytest.approx([1.2, 12.0], abs=0.3)
    assert (y[:, 0] <= 4).all()


def test_a_formula_of_the_distribution_may_be_written_over_the_namespace():
    family = Family(
        name="log_gumbel",
        parameters=(Parameter("mu", "log", ("log",), POSITIVE),),
        distribution="Gumbel",
        arguments=lambda p, trials, xp: {"mu": xp.log(p["mu"]), "beta": 2.0},
    )
    y = np.array([0.3, 4.0])
    expected = stats.gumbel_r(np.log(5.0), 2.0).logpdf(y)
    np.testing.assert_allclose(family.logp(y, None, {"mu": 5.0}), expected, rtol=1e-13)


def test_a_family_of_ones_own_is_found_by_its_name(monkeypatch):
    monkeypatch.setattr(FAMILIES, "_items", dict(FAMILIES._items))
    assert add_family(GUMBEL) is FAMILIES["gumbel"]
