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


# R's MASS 7.3-58.2: polr(rating ~ temp + contact, method = ...), reltol 1e-15: log likelihood,
# slopes, thresholds. Its cauchit is cut off at plus and minus 100, where there is mass left.
POLR = {
    "logit": [-86.49192337, 2.503102018, 1.527797663, -1.344383407, 1.250808806, 3.466886931],
    "probit": [-85.76114836, 1.499374581, 0.8677435379, -0.77326273, 0.736021491, 2.044680462],
    "loglog": [-87.71785514, 1.533018183, 0.9056444228, -0.3024414663, 1.178604774, 2.606232887],
    "cloglog": [-86.63407921, 1.605760125, 0.859713676, -1.740082407, 0.2963290908, 1.728855354],
}


@pytest.mark.parametrize("link", POLR)
def test_fits_without_random_effects_agree_with_polr(wine, link):
    fit = gb.Model("rating ~ temp + contact", wine, family="cumulative", link=link).fit("ml")
    loglik, *estimates = POLR[link]
    assert fit.loglik == pytest.approx(loglik, abs=1e-7)
    np.testing.assert_allclose(fit.fixef()["estimate"].iloc[:5], estimates, rtol=2e-5)


@pytest.mark.parametrize("link", ["logit", "cauchit"])
def test_a_scale_is_where_the_definition_is_likeliest(wine, link):
    formulas = ["rating ~ temp", "disc ~ contact"]
    fit = gb.Model(formulas, wine, family="cumulative", link=link).fit("ml")
    y, warm = np.asarray(wine["rating"].cat.codes), np.asarray(wine["temp"] == "warm")
    disc = np.asarray(wine["contact"] == "yes")

    def height(x):
        sharp = np.exp(x[1] * disc)[:, None]
        p = probabilities("cumulative", SHAPES[link], x[0] * warm, x[2:], sharp)
        return np.log(p[np.arange(len(y)), y]).sum()

    x = fit.fixef()["estimate"].to_numpy()
    assert fit.loglik == pytest.approx(height(x), abs=1e-9)
    for step in 1e-3 * np.eye(len(x)):
        assert height(x) > max(height(x + step), height(x - step))


def test_specific_effects_at_every_step_are_separate_logits(wine):
    """An sratio with cs of all columns is a logit a step, of the rows that have reached it."""
    table = wine.assign(three=np.minimum(wine["rating"].cat.codes.to_numpy(), 2))
    fit = gb.Model("three ~ cs(contact)", table, family="sratio").fit("ml")
    total = 0.0
    for step in (0, 1):
        reached = table[table["three"] >= step]
        on = reached.assign(on=(reached["three"] > step).astype(int))
        logit = gb.Model("on ~ contact", on, family="bernoulli").fit("ml")
        total += logit.loglik
        theirs = logit.fixef()["estimate"]
        ours = fit.fixef()["estimate"]
        assert ours[f"Intercept[{step + 1}]"] == pytest.approx(-theirs["Intercept"], rel=1e-5)
        assert ours[f"contact[T.yes][{step + 1}]"] == pytest.approx(theirs.iloc[1], rel=1e-5)
    assert fit.loglik == pytest.approx(total, abs=1e-8)


BRMS = {"beta": gb.Prior("Normal", sigma=5), "thresholds": gb.Prior("Normal", sigma=5)}
BRMS |= {"sd": gb.Prior("HalfNormal", sigma=2)}


@pytest.fixture(scope="module")
def posterior():
    table = gb.load_dataset("wine").astype({"rating": str})
    ordered = table.assign(rating=pd.Categorical(table["rating"], list("12345"), ordered=True))
    model = gb.Model("rating ~ temp + contact + (1 | judge)", ordered, "cumulative", priors=BRMS)
    return model.fit("nuts", draws=1000, tune=500, chains=2, seed=4)


@pytest.mark.slow
def test_a_posterior_agrees_with_brms(posterior, reference):
    peer = reference("bayes_wine_ordinal")["fits"][0]["posterior"]
    found = posterior.fixef()
    names = {f"b_Intercept[{k}]": f"Intercept[{k}]" for k in range(1, 5)}
    names |= {"b_tempwarm": "temp[T.warm]", "b_contactyes": "contact[T.yes]"}
    for theirs, ours in names.items():
        row, expected = found.loc[ours], peer[theirs]
        error = np.hypot(row["std_error"] / np.sqrt(row["ess_bulk"]), expected["mcse_mean"])
        assert abs(row["estimate"] - expected["mean"]) < 5 * error
        assert row["std_error"] == pytest.approx(expected["sd"], rel=0.1)


@pytest.mark.slow
def test_a_posterior_has_what_arviz_reads(posterior):
    tree = posterior.idata
    thresholds = tree["posterior"]["thresholds"]
    assert thresholds.dims == ("chain", "draw", "threshold")
    assert (thresholds.diff("threshold") > 0).all()
    assert set(np.unique(tree["posterior_predictive"]["y"])) <= set(range(5))
    assert posterior.loo().elpd == pytest.approx(-85.5, abs=1.0)  # brms's own
    mean = posterior.predict()
    assert mean["estimate"].groupby(mean.index).sum().to_numpy() == pytest.approx(1.0)


def test_predictions_are_by_category(wine):
    fit = gb.Model("rating ~ temp + (1 | judge)", wine, family="cumulative").fit("ml")
    new = pd.DataFrame({"temp": ["warm", "cold"], "judge": "1"}, index=["a", "b"])
    table = fit.predict(new, groups="population")
    assert list(table.index) == ["a"] * 5 + ["b"] * 5
    assert list(table["category"]) == [*"12345"] * 2
    values = fit.fixef()["estimate"]
    upto = special.expit(values[1:].to_numpy() - values["temp[T.warm]"])
    expected = np.diff([0, *upto, 1])
    np.testing.assert_allclose(table.loc["a", "estimate"], expected, rtol=1e-10)
    assert ((table["lower"] < table["estimate"]) & (table["estimate"] < table["upper"])).all()
    likeliest = fit.predict(new, kind="response", groups="population", seed=1)
    assert list(likeliest["estimate"]) == ["3", "2"]
    draws = fit.predict(new, draws=True, groups="population")
    assert draws.dims == ("chain", "draw", "__obs__", "category")


def test_simulated_categories_are_labels_and_residuals_are_normal(wine):
    formula = "rating ~ temp + contact + (1 | judge)"
    fit = gb.Model(formula, wine, family="cumulative").fit("ml")
    drawn = fit.simulate(200, seed=1)
    assert set(np.unique(drawn)) <= set("12345")
    shares = [(drawn == label).mean() for label in "12345"]
    np.testing.assert_allclose(
        shares, wine["rating"].value_counts(normalize=True, sort=False), atol=0.03
    )
    residuals = fit.residuals(seed=2)
    assert stats.kstest(residuals, "norm").pvalue > 0.05


def test_saved_fits_come_back(wine, tmp_path):
    formula = "rating ~ temp + contact + (1 | judge)"
    fit = gb.Model(formula, wine, family="cumulative", link="probit").fit("ml")
    fit.save(tmp_path / "fit")
    back = gb.load(tmp_path / "fit")
    assert back.model.links["mu"].name == "probit"
    pd.testing.assert_frame_equal(back.predict(), fit.predict())


def test_prior_draws_of_thresholds_ascend(wine):
    for priors in ({}, {"intercept[1]": gb.Prior("Normal", mu=-1, sigma=2)}):
        model = gb.Model("rating ~ 1", wine, family="cumulative", priors=priors)
        tau = model.prior_predictive(200, seed=3)["prior"]["thresholds"]
        assert (tau.diff("threshold") > 0).all()


def test_a_map_is_where_likelihood_and_priors_are_highest(wine):
    priors = {name: BRMS[name] for name in ("beta", "thresholds")}
    model = gb.Model("rating ~ temp", wine, family="cumulative", priors=priors)
    fit = model.fit("map")
    assert fit.converged
    x = fit.fixef()["estimate"].to_numpy()
    y, warm = np.asarray(wine["rating"].cat.codes), np.asarray(wine["temp"] == "warm")

    def height(x):
        p = probabilities("cumulative", stats.logistic, x[0] * warm, x[1:], 1.0)
        # With the Jacobian of the scale on which the thresholds' distances have no end.
        return (
            np.log(p[np.arange(len(y)), y]).sum() - (x**2).sum() / 50 + np.log(np.diff(x[1:])).sum()
        )

    for step in 1e-3 * np.eye(len(x)):
        assert height(x) > max(height(x + step), height(x - step))


# ---- order, and what is refused


def test_the_order_is_that_of_the_column_or_sorted():
    def labels(y):
        return gb.Model("y ~ 1", pd.DataFrame({"y": y}), family="sratio").design.response.levels

    assert labels(pd.Categorical(list("abca"), list("cba"), ordered=True)) == ("c", "b", "a")
    assert labels(["low", "high", "mid"]) == ("high", "low", "mid")
    assert labels([10, 9, 2, 9]) == ("2", "9", "10")
    shown = repr(gb.Model("y ~ 1", pd.DataFrame({"y": [3, 1, 2]}), family="acat"))
    assert "1 < 2 < 3" in shown


@pytest.mark.parametrize(
    ("formulas", "given", "error", "words"),
    [
        ("y ~ 0 + f", {}, gb.FormulaError, "thresholds between the categories are the intercepts"),
        ("y ~ cs(x)", {}, gb.NotSupportedError, "'sratio', 'cratio' or 'acat'"),
        ("x ~ z", {}, gb.DataError, "labels, an ordered categorical column or whole numbers"),
        ("y ~ x", {"link": "log"}, gb.NotSupportedError, "link 'log' is none of"),
        (["y ~ x", "threshold1 ~ z"], {}, gb.NotSupportedError, "no formula of its own"),
        (["y ~ x", "sigma ~ z"], {}, gb.UnknownNameError, "no parameter 'sigma'"),
        ("one ~ x", {}, gb.DataError, "1 different values"),
    ],
)
def test_what_does_not_fit_is_said(data, formulas, given, error, words):
    with pytest.raises(error, match=words):
        gb.Model(formulas, data.assign(one="a"), family="cumulative", **given)


def test_effects_specific_to_a_category_need_one(data):
    with pytest.raises(gb.NotSupportedError, match="specific to a category"):
        gb.Model("x ~ cs(z)", data)
    with pytest.raises(gb.FormulaError, match="one argument"):
        gb.Model("y ~ cs(x, z)", data, family="acat")


def test_thresholds_that_ascend_cannot_be_held(data):
    model = gb.Model("y ~ x", data, family="cumulative", priors={"intercept[2]": 0.5})
    with pytest.raises(gb.NotSupportedError, match=r"intercept\[2\]"):
        model.fit("ml")


def test_shares_of_the_latent_variance(wine):
    """The logistic distribution's own variance is pi^2 / 3."""
    fit = gb.Model("rating ~ temp + (1 | judge)", wine, family="cumulative").fit("ml")
    between = fit.varcorr()["estimate"].iloc[0] ** 2
    share = fit.icc().loc["judge", "estimate"]
    assert share == pytest.approx(between / (between + np.pi**2 / 3), rel=1e-9)
    with pytest.raises(gb.NotSupportedError, match="kind 'quantile'"):
        fit.residuals("response")


def test_a_refit_keeps_the_order_of_the_categories(wine):
    names = pd.Categorical.from_codes(wine["rating"].cat.codes, list("zyxwv"), ordered=True)
    fit = gb.Model("rating ~ temp", wine.assign(rating=names), family="cumulative").fit("ml")
    again = fit.refit(np.asarray(names))
    assert again.loglik == pytest.approx(fit.loglik, abs=1e-8)
    assert again.model.design.response.levels == tuple("zyxwv")
    with pytest.raises(gb.DataError, match="category 'a'"):
        fit.refit(np.full(len(wine), "a"))


def test_draws_around_a_maximum_keep_thresholds_in_order():
    rng = np.random.default_rng(2)
    # A category that was seen twice: its thresholds are hardly told apart.
    data = pd.DataFrame({"y": np.repeat([1, 2, 3], [40, 2, 40]), "x": rng.normal(size=84 - 2)})
    fit = gb.Model("y ~ x", data, family="cumulative").fit("ml")
    probabilities = fit.predict(draws=True, seed=1).to_numpy()
    assert np.isfinite(probabilities).all()
    assert (probabilities > 0).all()
