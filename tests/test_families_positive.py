"""Families that SciPy has not: sums of gamma variables, directions; and what Laplace cannot do."""

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, special, stats

import glmm_bayes as gb
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.families import FAMILIES, Family

TWEEDIE, VON_MISES = FAMILIES["tweedie"], FAMILIES["von_mises"]
POWERS = (1.05, 1.3, 1.6, 1.95)


def summed(y, mu, phi, power):
    """Sum over the number of gamma variables: Jorgensen (1997), The Theory of Dispersion Models."""
    rate, shape = mu ** (2 - power) / (phi * (2 - power)), (2 - power) / (power - 1)
    number = stats.poisson(rate)
    j = np.arange(1, 2000)[:, None]
    given = stats.gamma(j * shape, scale=phi * (power - 1) * mu ** (power - 1))
    some = np.where(y > 0, y, 1.0)
    density = special.logsumexp(number.logpmf(j) + given.logpdf(some), axis=0)
    up_to = number.pmf(0) + (number.pmf(j) * given.cdf(y)).sum(axis=0)
    return np.where(y > 0, density, number.logpmf(0)), up_to


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize(("mu", "phi"), [(0.3, 2.0), (4.0, 0.7), (30.0, 3.0)])
def test_tweedie_is_a_poisson_sum_of_gamma_variables(mu, phi, power):
    y = np.array([0.0, 0.01, 0.4, 3.0, 25.0, 60.0])
    params = {"mu": np.full(6, mu), "phi": np.full(6, phi), "power": np.full(6, power)}
    density, up_to = summed(y, mu, phi, power)
    np.testing.assert_allclose(TWEEDIE.logp(y, None, params), density, rtol=1e-9)
    np.testing.assert_allclose(TWEEDIE.cdf(y, params, None), up_to, rtol=1e-9)


@pytest.mark.parametrize("power", POWERS)
def test_the_slope_by_the_mean_is_that_of_an_exponential_dispersion_model(power):
    """(y - mu) / (phi mu^p), whatever the sum."""
    y, mu, phi = np.array([0.0, 0.3, 2.0, 900.0]), np.full(4, 2.5), np.full(4, 0.02)
    params = {"mu": mu, "phi": phi, "power": np.full(4, power)}
    slope = TWEEDIE.kernel[1](y, None, params)["mu"]
    np.testing.assert_allclose(slope, (y - mu) / (phi * mu**power), rtol=1e-10)


def test_a_tweedie_density_and_its_zeros_are_one():
    params = {"mu": 1.2, "phi": 0.9, "power": 1.4}
    density = integrate.quad(lambda y: np.exp(TWEEDIE.logp(np.array([y]), None, params))[0], 0, 80)
    zeros = np.exp(TWEEDIE.logp(np.zeros(1), None, params))[0]
    assert density[0] + zeros == pytest.approx(1.0, rel=1e-6)


def test_one_power_for_all_rows_is_many_equal_ones():
    y = np.array([0.0, 0.4, 2.0, 9.0])
    alone = {"mu": np.full(4, 1.5), "phi": np.full(1, 0.8), "power": np.full(1, 1.4)}
    rows = {"mu": alone["mu"], "phi": np.full(4, 0.8), "power": np.linspace(1.4, 1.4 + 1e-14, 4)}
    np.testing.assert_allclose(
        TWEEDIE.logp(y, None, alone), TWEEDIE.logp(y, None, rows), rtol=1e-10
    )


def test_directions_are_von_mises_wherever_the_mean_is():
    params = {"mu": np.array(2.5), "kappa": np.array(1.7)}
    y = VON_MISES.draw(np.random.default_rng(3), params, None, 100_000)
    assert np.abs(y).max() <= np.pi
    # Mardia & Jupp (2000), 3.5.4: the mean resultant is A(kappa), in the direction mu.
    ratio = special.i1(1.7) / special.i0(1.7)
    assert np.exp(1j * y).mean() == pytest.approx(ratio * np.exp(2.5j), abs=0.01)
    points = np.linspace(-3, 3, 7)

    def density(at):
        return np.exp(VON_MISES.logp(np.array([at]), None, params))[0]

    expected = [integrate.quad(density, -np.pi, point)[0] for point in points]
    np.testing.assert_allclose(VON_MISES.cdf(points, params, None), expected, rtol=1e-7)
    assert integrate.quad(density, -np.pi, np.pi)[0] == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize("kappa", [1e-4, 1.0, 99.0, 101.0, 1e5, 1e12])
def test_the_concentration_may_be_small_or_large(kappa):
    """Near the mean a large one is a normal variable of variance 1 / kappa."""
    params = {"mu": np.zeros(1), "kappa": np.array([kappa])}
    y = np.array([0.5 / np.sqrt(max(kappa, 1.0))])
    expected = stats.vonmises(kappa).logpdf(y)
    if kappa > 1e6:
        expected = stats.norm(0, 1 / np.sqrt(kappa)).logpdf(y)
    found = VON_MISES.logp(y, None, params)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-4 if kappa > 1e6 else 1e-9)


def test_angles_are_in_radians():
    assert VON_MISES.problem(np.array([0.0, 200.0]), None) == (
        1,
        "angles are in radians, between -pi and pi",
    )


def test_the_extreme_value_at_shape_zero_is_gumbels():
    family, y = FAMILIES["gen_extreme_value"], np.array([-1.0, 0.3, 4.0])
    params = {"mu": np.full(3, 0.5), "sigma": np.full(3, 1.3), "xi": np.zeros(3)}
    expected = stats.gumbel_r(0.5, 1.3).logpdf(y)
    np.testing.assert_allclose(family.logp(y, None, params), expected, rtol=1e-12)
    assert family.mean(params)[0] == pytest.approx(stats.gumbel_r(0.5, 1.3).mean())


def test_the_time_in_which_nothing_is_seen_lies_below_all_responses():
    data = pd.DataFrame({"y": [2.0, 3.0, 5.0, 4.0]})
    model = gb.Model("y ~ 1", data, family="shifted_lognormal")
    prior = model.priors.set_index("parameter").loc["ndt"]
    assert "upper=2" in str(prior.to_list())


@pytest.mark.parametrize("method", ["ml", "reml", "map", "nested_laplace"])
@pytest.mark.parametrize("family", ["laplace", "asymmetric_laplace"])
def test_laplaces_method_is_refused_for_a_kink(family, method):
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"y": rng.normal(size=30), "g": np.resize(list("abc"), 30)})
    with pytest.raises(NotSupportedError, match="kink .* method='nuts'"):
        gb.Model("y ~ 1 + (1 | g)", data, family=family).fit(method, seed=1)


@pytest.mark.filterwarnings("ignore::glmm_bayes.errors.ConvergenceWarning")  # few draws
def test_a_quantile_regression_has_its_share_below():
    rng = np.random.default_rng(4)
    data = pd.DataFrame({"x": rng.normal(size=200)})
    data["y"] = data["x"] + rng.gamma(2.0, 1.0, 200)
    model = gb.Model("y ~ x", data, family="asymmetric_laplace", priors={"quantile": 0.8})
    fit = model.fit("nuts", seed=1, draws=200, tune=300, chains=2, progressbar=False)
    line = fit.predict(kind="param:mu")["estimate"]
    assert (data["y"] < line).mean() == pytest.approx(0.8, abs=0.03)


def test_a_core_with_a_constant_and_no_score_counts_it_once():
    family = Family(
        name="half",
        parameters=FAMILIES["exponential"].parameters,
        distribution="Exponential",
        arguments=FAMILIES["exponential"].arguments,
        core=lambda y, trials, p: -y / p["mu"],
        constant=lambda y, trials: 7.0,
    )
    params = {"mu": np.array([2.0])}
    assert family.logp(np.ones(1), None, params) == pytest.approx(6.5)
    assert family.kernel[1](np.ones(1), None, params)["mu"] == pytest.approx(0.25)


@pytest.mark.parametrize("slant", [-4.0, 4.0])
def test_the_search_leaves_the_flat_place_of_the_skew_normal(slant):
    """Beyond what a normal with the same variance reaches, and as far as SciPy's own search."""
    family = FAMILIES["skew_normal"]
    params = {"mu": 1.0, "sigma": 2.0, "alpha": slant}
    data = pd.DataFrame({"y": family.draw(np.random.default_rng(9), params, None, 400)})
    fit = gb.Model("y ~ 1", data, family="skew_normal").fit("ml")
    best = stats.skewnorm.fit(data["y"], slant, loc=1.0, scale=2.0)
    assert fit.loglik == pytest.approx(stats.skewnorm(*best).logpdf(data["y"]).sum(), abs=1e-3)
    assert np.sign(fit.theta["alpha"]) == np.sign(slant)


def test_sea_birds_agree_with_glmmtmb(reference):
    """Tweedie counts of fulmars, from another program's fit."""
    expected = reference("fam_fulmar_tweedie")["fits"][0]
    data = gb.load_dataset("fulmar")
    cells = [(data[c] / 20000).round().astype(int).astype(str) for c in "xy"]
    data = data.assign(
        ccoast=(data["coast"] - data["coast"].mean()) / 50,
        cell=cells[0] + " " + cells[1],
        year=data["year"].astype(str),
    )
    fit = gb.Model("fulmar ~ year + ccoast + (1 | cell)", data, family="tweedie").fit("ml")
    assert fit.loglik == pytest.approx(expected["logLik"], abs=1e-4)
    assert fit.theta["power"] == pytest.approx(expected["family_params"]["Tweedie power"], abs=1e-4)
    assert fit.theta["phi"] == pytest.approx(expected["sigma"], rel=1e-4)
    fixed = [v["estimate"] for v in expected["fixef"]["cond"].values()]
    np.testing.assert_allclose(fit.fixef()["estimate"], fixed, atol=1e-4)
