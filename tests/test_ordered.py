"""Columns in an order: ar1, hetar1, toep and homtoep against nlme, glmmTMB and dense algebra."""

import warnings

import numpy as np
import pandas as pd
import pytest
from dense import Dense
from references import orthodont, sleepstudy

import glmm_bayes as gb
from glmm_bayes.errors import DataError, DataWarning, FormulaError, NotSupportedError

NAMES = ["ar1", "hetar1", "toep", "homtoep"]


def measured() -> pd.DataFrame:
    return orthodont().assign(t=lambda data: pd.Categorical(data["age"]))


def salamanders() -> pd.DataFrame:
    data = gb.load_dataset("salamanders")
    place = data["site"].astype(str) + data["spp"].astype(str)
    return data.assign(f=pd.Categorical(data["sample"]), place=place)


def quiet(model, method="ml", **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gb.SingularFitWarning)
        warnings.simplefilter("ignore", gb.ConvergenceWarning)
        return model.fit(method, seed=1, **options)


def values(fit, kind):
    table = fit.varcorr()
    return table.loc[(table["kind"] == kind) & (table["structure"] != ""), "estimate"].to_numpy()


def covariance(fit, term):
    L = fit.mode.Lambdas[term]
    return L @ L.T


# ---- the residuals' structure in nlme is one of effects whose rows have next to no noise

GROWTH = "distance ~ cage * Sex + {}(0 + t | Subject)"
# nlme 3.1-162: gls(distance ~ cage * Sex, correlation = corARMA(~ t | Subject, p = 3) or
# corAR1(~ t | Subject), weights = varIdent(~ 1 | age)); of an AR(3) at four ages any correlations.
GLS = {
    "homtoep": (-212.321530456, 2.22345798806, [1, 1, 1, 1]),
    "toep": (-211.248670863, 2.34898627953, [1, 0.854930192795, 1.039387658, 0.8883786]),
    "hetar1": (-219.37349015, 2.32701901588, [1, 0.893929152744, 1.0321443, 0.8826839]),
}
# Of homtoep by lag, from corMatrix; of hetar1 its Phi.
CORRELATIONS = {
    "homtoep": [0.617053458912, 0.688798164379, 0.473737856991],
    "hetar1": [0.618721875926],
}
GLS_REML = {"homtoep": (-214.695769444, 2.29837613946), "ar1": (-222.293724288, 2.28350734135)}


@pytest.mark.parametrize("name", GLS)
def test_growth_agrees_with_nlme(name):
    loglik, sigma, ratios = GLS[name]
    fit = gb.Model(GROWTH.format(name), measured(), priors={"sigma": 1e-4}).fit("ml")
    assert fit.loglik == pytest.approx(loglik, abs=1e-5)
    sd = np.sqrt(np.diag(covariance(fit, "Subject")))
    np.testing.assert_allclose(sd, sigma * np.array(ratios), rtol=1e-4)
    if name in CORRELATIONS:
        found = values(fit, "rho" if name == "hetar1" else "corr")
        np.testing.assert_allclose(found, CORRELATIONS[name], rtol=1e-4)


@pytest.mark.parametrize("name", GLS_REML)
def test_growth_by_reml_agrees_with_nlme(name):
    loglik, sd = GLS_REML[name]
    fit = gb.Model(GROWTH.format(name), measured(), priors={"sigma": 1e-4}).fit("reml")
    assert fit.loglik == pytest.approx(loglik, abs=1e-5)
    np.testing.assert_allclose(values(fit, "sd"), sd, rtol=1e-4)


def test_sleepstudy_hetar1_agrees_with_nlme():
    """Version 3.1-162: gls(Reaction ~ Days, corAR1(~ Days | Subject), varIdent(~ 1 | Dayf))."""
    model = gb.Model(
        "Reaction ~ Days + hetar1(0 + Dayf | Subject)", sleepstudy(), priors={"sigma": 0.01}
    )
    fit = model.fit("ml")
    ratios = [1, 1.02414819522, 0.81499972208, 1.00248457714, 1.08946701925, 1.49997706652,
              1.94724170716, 1.52558112569, 1.69939804370, 1.82854527969]  # fmt: skip
    assert fit.loglik == pytest.approx(-855.23213529, abs=1e-5)
    np.testing.assert_allclose(values(fit, "sd"), 34.7794364836 * np.array(ratios), rtol=2e-4)
    np.testing.assert_allclose(values(fit, "rho"), 0.805163722572, rtol=2e-4)


# ---- counts, by Laplace's method

# glmmTMB 1.1.5, family = poisson.
GLMMTMB = {
    "ar1": (-809.25510658, [1.1814304858], [0.670903387528]),
    "toep": (
        -807.439619783,
        [1.17380620302, 1.01786108290, 1.28849590452, 1.23200903354],
        [0.680156698367, 0.409302785383, 0.211086191725],
    ),
}


@pytest.mark.parametrize("name", GLMMTMB)
def test_counts_agree_with_glmmtmb(name):
    loglik, sd, corr = GLMMTMB[name]
    fit = gb.Model(f"count ~ mined + spp + {name}(0 + f | place)", salamanders(), "poisson").fit(
        "ml"
    )
    assert fit.loglik == pytest.approx(loglik, abs=1e-5)
    np.testing.assert_allclose(values(fit, "sd"), sd, rtol=1e-4)
    found = values(fit, "rho" if name == "ar1" else "corr")
    np.testing.assert_allclose(found, corr, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_likelihood_of_counts_against_dense_algebra(name):
    """At the maximum, and no higher beside it in any coordinate."""
    data = salamanders()
    data = data[data["spp"].isin(["GP", "DM"])]
    model = gb.Model(f"count ~ mined + {name}(0 + f | site)", data, "poisson")
    fit = quiet(model)
    dense, mode = Dense(model, restricted=False), fit.mode
    assert fit.loglik == pytest.approx(at(dense, mode, mode.x), abs=1e-7)
    for k, free in enumerate(~mode.coordinates.idle(mode.x)):
        for step in (-0.05, 0.05) if free else ():
            moved = mode.x + step * (np.arange(len(mode.x)) == k)
            assert at(dense, mode, moved) < fit.loglik


def at(dense, mode, x):
    return dense(mode.coordinates.split(x), mode.coordinates.Lambdas(x))


def test_slopes_on_the_other_side_of_a_model():
    data = salamanders()
    model = gb.Model("count ~ mined + (1 + cover | spp) + homtoep(0 + f | site)", data, "poisson")
    fit = quiet(model)
    assert fit.loglik == pytest.approx(
        at(Dense(model, restricted=False), fit.mode, fit.mode.x), abs=1e-6
    )


# ---- maxima at edges


def common(seed, *, alternate=False):
    """Make groups whose effect is the same at all times, or changes its sign each time."""
    rng = np.random.default_rng(seed)
    q, p, n = 40, 4, 3
    sign = (-1.0) ** np.arange(p) if alternate else np.ones(p)
    b = rng.normal(size=(q, 1)) * sign
    g, t, _ = np.indices((q, p, n)).reshape(3, -1)
    y = 1.0 + 2.0 * b[g, t] + 0.3 * rng.normal(size=len(g))
    return pd.DataFrame({"y": y, "g": g, "t": pd.Categorical(t)})


@pytest.mark.parametrize(("rho", "alternate"), [(1.0, False), (-1.0, True)])
def test_a_perfect_correlation_is_one_effect_of_the_group(rho, alternate):
    """The likelihood is highest there for about every other draw of such data."""
    tried = (common(seed, alternate=alternate) for seed in range(20))
    fits = ((data, quiet(gb.Model("y ~ 1 + ar1(0 + t | g)", data))) for data in tried)
    data, fit = next((data, fit) for data, fit in fits if fit.is_singular)
    signed = data.assign(s=np.sign(rho) ** data["t"].astype(int))
    alone = gb.Model("y ~ 1 + (0 + s | g)", signed).fit("ml")
    assert fit.converged
    np.testing.assert_array_equal(values(fit, "rho"), rho)
    assert fit.loglik == pytest.approx(alone.loglik, abs=1e-7)
    np.testing.assert_allclose(values(fit, "sd"), values(alone, "sd"), rtol=1e-5)


def test_more_general_structures_have_no_lower_maximum():
    data = common(4)
    heights = [
        quiet(gb.Model(f"y ~ 1 + {term}", data)).loglik
        for term in ("(1 | g)", "ar1(0 + t | g)", "homtoep(0 + t | g)", "toep(0 + t | g)")
    ]
    assert (np.diff(heights) > -1e-7).all()


@pytest.mark.parametrize("name", NAMES)
def test_no_effects_are_a_zero_standard_deviation(name):
    """Within every group and time the residuals cancel: sigma^2 = y'y / n is a closed form."""
    y = np.tile([-1.0, 1.0], 30)
    g, t = np.repeat(np.arange(10), 6), np.tile(np.repeat([1, 2, 3], 2), 10)
    data = pd.DataFrame({"y": y, "g": g, "t": pd.Categorical(t)})
    with pytest.warns(gb.SingularFitWarning):
        fit = gb.Model(f"y ~ 1 + {name}(0 + t | g)", data).fit("ml")
    assert not values(fit, "sd").any()
    assert fit.loglik == pytest.approx(-0.5 * 60 * (np.log(2 * np.pi) + 1), abs=1e-9)


def test_the_way_off_an_edge_is_found():
    """
    With a residual of its own the four ages' structure is not determined, but its maximum is.

    It is the one without: -212.32 by nlme. On the way the correlation at lag 2 becomes 1.
    """
    fit = quiet(gb.Model(GROWTH.format("homtoep"), measured()))
    assert fit.loglik == pytest.approx(GLS["homtoep"][0], abs=1e-5)
    days = quiet(gb.Model("Reaction ~ Days + toep(0 + Dayf | Subject)", sleepstudy()))
    assert days.loglik == pytest.approx(-851.2764449957, abs=1e-4)


# ---- which columns there may be


def rows(levels, **more):
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(12), len(levels))
    frame = pd.DataFrame({"y": rng.normal(size=len(g)), "g": g, "t": np.tile(levels, 12)})
    return frame.assign(x=rng.normal(size=len(g)), h=np.resize(["u", "v"], len(g)), **more)


@pytest.mark.parametrize("columns", ["0 + t", "t", "0 + C(t)", "C(t)"])
def test_a_factor_gives_its_levels_in_order(columns):
    data = rows([3, 1, 2])
    if columns in ("0 + t", "t"):
        data = data.assign(t=pd.Categorical(data["t"]))
    (term,) = gb.Model(f"y ~ 1 + ar1({columns} | g)", data).design.terms
    name = columns.removeprefix("0 + ")
    assert term.columns == (f"{name}[1]", f"{name}[2]", f"{name}[3]")


@pytest.mark.parametrize("columns", ["x", "0 + x"])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "ar1"])
def test_numbers_are_not_yet_a_time(columns, name):
    with pytest.raises(
        NotSupportedError, match=rf"is not built yet for numbers.*{name}\(0 \+ C\(x\)"
    ):
        gb.Model(f"y ~ 1 + {name}({columns} | g)", rows([1, 2, 3]))


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ("1", "the levels of one factor, in order"),
        ("1 + h", r"the levels of one factor.*not Intercept, h\[T.v\]"),
        ("0 + h + x", "the levels of one factor"),
        ("0 + h:k", "the levels of one factor"),
        ("0 + bs(x, df=4)", "the levels of one factor"),
    ],
)
def test_other_columns_have_no_order(columns, words):
    data = rows([1, 2, 3], k="s")
    with pytest.raises(DataError, match=words):
        gb.Model(f"y ~ 1 + toep({columns} | g)", data)


def test_one_level_has_no_order():
    with pytest.raises(DataError, match=r"'ar1\(0 \+ k \| g\)' has one column"):
        gb.Model("y ~ 1 + ar1(0 + k | g)", rows([1, 2, 3], k="s"))


def test_words_that_are_numbers_need_their_order_said():
    data = rows(["2", "10", "1"])
    with pytest.raises(DataError, match="in the order 1, 10, 2: make that of the numbers"):
        gb.Model("y ~ 1 + ar1(0 + t | g)", data)
    with pytest.raises(DataError, match="stand in the order 1, 10, 2"):
        gb.Model("y ~ 1 + ar1(0 + t | g)", data.assign(t=pd.Categorical(data["t"])))
    said = pd.Categorical(data["t"], categories=["2", "1", "10"], ordered=True)
    with pytest.warns(DataWarning, match="not evenly spaced"):
        gb.Model("y ~ 1 + ar1(0 + t | g)", data.assign(t=said))


def test_uneven_numbers_are_said_to_be_taken_as_even():
    with pytest.warns(DataWarning, match="1, 2, 4, are not evenly spaced, but taken as one step"):
        gb.Model("y ~ 1 + toep(0 + C(t) | g)", rows([1, 2, 4]))
    gb.Model("y ~ 1 + toep(0 + C(t) | g)", rows([10, 20, 30]))
    gb.Model("y ~ 1 + toep(0 + C(t) | g)", rows(["spring", "summer"]))


def test_an_order_is_not_shared():
    formulas = ["y ~ 1 + ar1(0 + C(t) |k| g)", "sigma ~ 1 + ar1(0 + C(t) |k| g)"]
    with pytest.raises(FormulaError, match="leave the id 'k' out"):
        gb.Model(formulas, rows([1, 2, 3]))


def test_arguments_are_refused():
    with pytest.raises(FormulaError, match=r"'toep' takes no arguments: leave 'd=2' out"):
        gb.Model("y ~ 1 + toep(0 + C(t) | g, d=2)", rows([1, 2, 3]))


# ---- a level that nobody has


def gappy(n=400):
    """Make series with a fourth time that no row has, and a tail of levels cut off."""
    rng = np.random.default_rng(8)
    lag = np.abs(np.subtract.outer(range(5), range(5)))
    b = rng.multivariate_normal(np.zeros(5), 0.6**lag, n)
    keep = [0, 1, 2, 4]
    g, t = np.repeat(np.arange(n), 4), np.tile(keep, n)
    y = b[g, t] + 0.5 * rng.normal(size=len(g))
    levels = pd.Categorical(t, categories=range(8))
    return pd.DataFrame({"y": y, "g": g, "t": levels})


def test_a_level_without_rows_is_a_step_of_ar1():
    """The likelihood is that of the observed times' exponential decay, written out densely."""
    data = gappy()
    model = gb.Model("y ~ 1 + ar1(0 + t | g)", data)
    assert model.design.terms[0].columns == tuple(f"t[{k}]" for k in range(5))
    fit = model.fit("ml")
    (sd,), (rho,), sigma = values(fit, "sd"), values(fit, "rho"), fit.mode.scale
    lag = np.abs(np.subtract.outer([0, 1, 2, 4], [0, 1, 2, 4]))
    V = sd**2 * rho**lag + sigma**2 * np.eye(4)
    r = data["y"].to_numpy().reshape(-1, 4) - fit.fixef()["estimate"].iloc[0]
    quad = np.einsum("gi,ij,gj->", r, np.linalg.inv(V), r)
    expected = -0.5 * (quad + len(r) * (np.linalg.slogdet(V)[1] + 4 * np.log(2 * np.pi)))
    assert fit.loglik == pytest.approx(expected, abs=1e-8)
    assert rho == pytest.approx(0.6, abs=0.15)


def test_the_level_without_rows_can_be_predicted(tmp_path):
    """By the conditional mean of the normal distribution, given the group's four rows."""
    data = gappy(60)
    fit = gb.Model("y ~ 1 + ar1(0 + t | g)", data).fit("ml")
    new = pd.DataFrame({"g": [7], "t": [3]})
    (sd,), (rho,), sigma = values(fit, "sd"), values(fit, "rho"), fit.mode.scale
    C = sd**2 * rho ** np.abs(np.subtract.outer(range(5), range(5)))
    seen, mu = [0, 1, 2, 4], fit.fixef()["estimate"].iloc[0]
    r = data.loc[data["g"] == 7, "y"].to_numpy() - mu
    expected = mu + C[3, seen] @ np.linalg.solve(C[np.ix_(seen, seen)] + sigma**2 * np.eye(4), r)
    assert fit.predict(new)["estimate"].iloc[0] == pytest.approx(expected, rel=1e-6)
    fit.save(tmp_path / "fit.zip")
    again = gb.load(tmp_path / "fit.zip")
    assert again.predict(new)["estimate"].iloc[0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["hetar1", "toep", "homtoep"])
def test_other_structures_cannot_do_with_a_level_without_rows(name):
    with pytest.raises(DataError, match="No row has the level '3' of 't', which stands between"):
        gb.Model(f"y ~ 1 + {name}(0 + t | g)", gappy(10))


# ---- the posterior, and everything after


@pytest.mark.parametrize("name", NAMES)
def test_a_posterior_has_the_parameters_by_name(name, tmp_path):
    model = gb.Model(GROWTH.format(name), measured())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gb.ConvergenceWarning)
        fit = model.fit("nuts", seed=1, draws=150, tune=150, chains=2, progressbar=False)
    posterior = fit.idata["posterior"]
    if name in ("toep", "homtoep"):
        assert posterior["partial_Subject"].dims[2:] == ("Subject__lag",)
        assert list(posterior["Subject__lag"].values) == ["1", "2", "3"]
        corr = posterior["corr_Subject"].to_numpy()
        np.testing.assert_allclose(corr[..., 0, 1], posterior["partial_Subject"][..., 0])
        np.testing.assert_allclose(corr[..., 0, 2], corr[..., 1, 3])
        assert (np.linalg.eigvalsh(corr) > -1e-12).all()
    else:
        assert posterior["rho_Subject"].dims == ("chain", "draw")
    new = measured().iloc[:3].assign(Subject="new")
    fit.save(tmp_path / "fit.zip")
    again = gb.load(tmp_path / "fit.zip")
    for one in (fit, again):
        assert np.isfinite(one.predict(new, seed=2)["estimate"]).all()
        assert np.isfinite(one.simulate(2, seed=2).to_numpy()).all()
    pd.testing.assert_frame_equal(fit.varcorr(), again.varcorr())


def test_new_groups_have_the_fitted_covariance():
    fit = gb.Model(GROWTH.format("toep"), measured(), priors={"sigma": 1e-3}).fit("ml")
    ages = measured().iloc[:4].assign(Subject="new")
    found = fit.simulate(4000, seed=3, newdata=ages).to_numpy().reshape(4000, 4)
    expected = covariance(fit, "Subject")
    np.testing.assert_allclose(np.cov(found, rowvar=False), expected, rtol=0.15)


def test_priors_speak_of_single_lags():
    priors = {
        "partial_Subject": gb.Prior(
            "Truncated", dist=gb.Prior("Normal", sigma=0.3), lower=-1, upper=1
        ),
        "partial_Subject[1]": gb.Prior("Uniform", lower=0, upper=1),
    }
    table = gb.Model(GROWTH.format("toep"), measured(), priors=priors).priors
    stated = table.set_index("parameter")
    assert stated.loc["partial_Subject[1]", "arguments"] == "lower=0, upper=1"
    assert stated.loc["partial_Subject[3]", "distribution"] == "Truncated"
    held = gb.Model(GROWTH.format("ar1"), measured(), priors={"rho_Subject": 0.5}).fit("ml")
    np.testing.assert_array_equal(values(held, "rho"), 0.5)


@pytest.mark.parametrize("name", NAMES)
def test_map_keeps_off_the_edge(name):
    data = common(4)
    fit = quiet(gb.Model(f"y ~ 1 + {name}(0 + t | g)", data), "map")
    assert fit.converged
    assert np.linalg.eigvalsh(covariance(fit, "g"))[0] > 0
