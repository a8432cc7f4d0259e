"""Ordered responses: densities in closed form, fits against ordinal's clmm, MASS's polr, brms."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats
from test_density import check_free

import glmm_bayes as gb
from glmm_bayes.families import FAMILIES
from glmm_bayes.families.links import REAL

ORDERED = ("cumulative", "sratio", "cratio", "acat")
SHAPES = {"probit": stats.norm, "cloglog": stats.gumbel_l, "loglog": stats.gumbel_r}
SHAPES |= {"cauchit": stats.cauchy, "logit": stats.logistic}
PAIRS = list(product(ORDERED, SHAPES))
TAU = np.array([-1.0, 0.2, 1.5])
DISC = 0.7


def family(name, link="logit", labels="abcd"):
    return FAMILIES[name].categories.made(tuple(labels), link)


def parameters(mu, disc=DISC):
    return {"mu": mu, "disc": disc} | {f"threshold{k}": t for k, t in enumerate(TAU, start=1)}


def probabilities(name, F, mu, tau=TAU, disc=DISC):
    """Write each family's definition down: Bürkner & Vuorre (2019), AMPPS 2(1), appendix A."""
    z, one = disc * (tau - mu[:, None]), np.ones((len(mu), 1))
    if name == "cumulative":
        return np.diff(np.hstack([0 * one, F.cdf(z), one]))
    if name == "acat":
        weight = np.cumprod(np.hstack([one, F.cdf(-z) / F.sf(-z)]), axis=1)
        return weight / weight.sum(axis=1, keepdims=True)
    stop = F.cdf(z) if name == "sratio" else F.sf(-z)
    return np.hstack([stop, one]) * np.cumprod(np.hstack([one, 1 - stop]), axis=1)


# ---- densities


@pytest.mark.parametrize(("name", "link"), PAIRS)
def test_probabilities_are_those_of_the_definition(name, link):
    mu = np.array([-2.0, -0.4, 0.0, 0.9, 2.3])
    expected = probabilities(name, SHAPES[link], mu)
    found, params = family(name, link), parameters(mu)
    np.testing.assert_allclose(found.expectation(params), expected, rtol=1e-10)
    y = np.array([0.0, 3.0, 1.0, 2.0, 3.0])
    np.testing.assert_allclose(
        np.exp(found.logp(y, None, params)), expected[np.arange(5), y.astype(int)], rtol=1e-10
    )
    np.testing.assert_allclose(found.cdf(y, params, None)[1], 1.0)


@pytest.mark.parametrize(("name", "link"), PAIRS)
def test_the_score_is_the_difference_quotient(name, link):
    found, y, h = family(name, link), np.arange(4.0), 1e-4
    params = parameters(np.array([-0.7, 0.3, 0.8, 0.1]))
    core, score = found.kernel
    for key, slope in score(y, None, params).items():

        def at(shift, key=key):
            return core(y, None, {**params, key: params[key] + shift})

        quotient = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
        np.testing.assert_allclose(slope, quotient, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(("name", "link"), PAIRS)
@pytest.mark.parametrize("eta", [-700.0, -40.0, 40.0, 700.0])
def test_density_and_score_are_finite_far_out(name, link, eta):
    params = parameters(np.full(4, eta), disc=1.0)
    core, score = family(name, link).kernel
    assert np.isfinite(core(np.arange(4.0), None, params)).all()
    assert all(np.isfinite(s).all() for s in score(np.arange(4.0), None, params).values())


def test_a_narrow_category_keeps_its_digits_in_the_tails():
    """Far out F(a) - F(b) is a density's exponential tail: exp(-x) (1 - exp(-gap)) of a logit."""
    params = {"mu": 0.0, "disc": 1.0, "threshold1": 36.0, "threshold2": 36.0 + 1e-6}
    found = family("cumulative", labels="abc").logp(np.array([1.0]), None, params)
    expected = -36.0 + np.log(-np.expm1(-1e-6)) - 2 * np.exp(-36.0)
    assert found[0] == pytest.approx(expected, rel=1e-9)
    left, right = (
        family("cumulative", "probit", "abc").logp(
            np.array([1.0]), None, params | {"threshold1": a, "threshold2": b}
        )
        for a, b in ((-38.0, -37.9), (37.9, 38.0))
    )
    log_tail = special.log_ndtr(-37.9) + np.log1p(
        -np.exp(special.log_ndtr(-38.0) - special.log_ndtr(-37.9))
    )
    assert left[0] == right[0] == pytest.approx(log_tail, rel=1e-12)


@pytest.mark.parametrize("name", ORDERED)
def test_draws_have_the_probabilities(name):
    found, params = family(name), parameters(np.array([0.4]))
    y = found.draw(np.random.default_rng(2), params, None, (100_000, 1))
    share = np.bincount(y.ravel(), minlength=4) / y.size
    expected = found.expectation(params)[0]
    assert np.abs(share - expected).max() < 6 * np.sqrt(0.25 / y.size)


@pytest.mark.parametrize("name", ORDERED)
def test_parameters_are_coherent(name):
    mu, disc, *thresholds = FAMILIES[name].parameters
    assert (mu.name, disc.name) == ("mu", "disc")
    assert tuple(p.name for p in thresholds) == FAMILIES[name].categories.parameters
    assert mu.support == REAL
    assert set(mu.links) == set(SHAPES)


# ---- the readers agree


@pytest.fixture(scope="module")
def data():
    rng, n = np.random.default_rng(2), 60
    return pd.DataFrame(
        {
            "x": rng.normal(3, 1, n),
            "z": rng.normal(2, 1.5, n),
            "f": np.resize(list("abc"), n),
            "g": np.resize([f"g{k}" for k in range(5)], n),
            "h": np.repeat(list("uvw"), n // 3),
            "y": rng.integers(1, 5, n),
            "w": rng.uniform(0.5, 2, n),
        }
    )


KINDS = {
    "slopes": (["y ~ x + f + (1 + x | g)"], {}),
    "a scale": (["y ~ x + (1 | g)", "disc ~ z + (1 | h)"], {}),
    "weights": (["y | weights(w) ~ 1 + (1 | g)"], {}),
    "raw thresholds": (["y ~ x + (1 | g)"], {"thresholds": gb.Prior("Normal", sigma=3)}),
    "one threshold": (["y ~ x + (1 | g)"], {"intercept[2]": gb.Prior("Normal", sigma=3)}),
    "specific": (["y ~ z + cs(x + f) + (1 | g)"], {"beta[x[2]]": gb.Prior("Cauchy", beta=2)}),
}


@pytest.mark.parametrize("name", ORDERED)
@pytest.mark.parametrize("kind", KINDS)
def test_readers_of_a_model_agree(data, name, kind):
    if (name, kind) == ("cumulative", "specific"):
        pytest.skip("its thresholds must not cross")
    formulas, priors = KINDS[kind]
    check_free(gb.Model(formulas, data, family=name, priors=priors))


@pytest.mark.parametrize("link", ["probit", "cloglog", "loglog", "cauchit"])
def test_readers_of_a_link_agree(data, link):
    check_free(gb.Model("y ~ x + (1 | g)", data, family="cumulative", link=link))


# ---- fits of others


@pytest.fixture
def wine(shared_data):
    table = gb.load_dataset("wine")
    rating = pd.Categorical(table["rating"].astype(str), ordered=True)
    factors = {name: table[name].astype(str) for name in ("judge", "bottle")}
    return table.assign(rating=rating, **factors)


CLMM = {
    "clmm_Laplace": ("rating ~ temp + contact + (1 | judge)", "logit", 1),
    "clmm_nAGQ10": ("rating ~ temp + contact + (1 | judge)", "logit", 10),
    "clmm_probit_Laplace": ("rating ~ temp + contact + (1 | judge)", "probit", 1),
    "clmm_two_re": ("rating ~ temp * contact + (1 | judge) + (1 | bottle)", "logit", 1),
}


@pytest.mark.parametrize("label", CLMM)
@pytest.mark.filterwarnings("ignore::glmm_bayes.SingularFitWarning")
def test_fits_agree_with_clmm(wine, reference, label):
    """R's ordinal 2022.11-16."""
    formula, link, nagq = CLMM[label]
    peer = next(f for f in reference("fam_wine_ordinal")["fits"] if f["label"] == label)
    fit = gb.Model(formula, wine, family="cumulative", link=link).fit("ml", nagq=nagq)
    assert fit.loglik == pytest.approx(peer["logLik"], abs=1e-4)
    assert fit.df == peer["df"]
    found = fit.fixef()
    assert "param" not in found
    for k, name in enumerate(peer["thresholds"], start=1):
        assert_close(found.loc[f"Intercept[{k}]"], peer["coefficients"][name])
    for name in peer["slopes"]:
        ours = name.replace("tempwarm", "temp[T.warm]").replace("contactyes", "contact[T.yes]")
        assert_close(found.loc[ours], peer["coefficients"][name])
    sd = {group: part["sd"][0] for group, part in peer["varcomp"].items()}
    for _, row in fit.varcorr().iterrows():
        assert row["estimate"] == pytest.approx(sd[row["group"]], abs=1e-3)


def assert_close(found, expected):
    assert found["estimate"] == pytest.approx(expected["estimate"], abs=1e-3)
    assert found["std_error"] == pytest.approx(expected["se"], rel=2e-3)
