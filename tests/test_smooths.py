"""Smooths: against mgcv, against their definitions, and as parts of every kind of fit."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad_vec
from scipy.optimize import minimize
from scipy.special import ndtri
from scipy.stats import poisson

import glmm_bayes as gb
from glmm_bayes.errors import (
    DataError,
    FormulaError,
    NotSupportedError,
    SingularFitWarning,
    UnknownNameError,
)
from glmm_bayes.smooths import BASES
from glmm_bayes.verbs.smooths import smooths


def spaced(irrational, n=150):
    """Give n numbers that fill (0, 1) evenly, the same in every language."""
    return np.modf(np.arange(1, n + 1) * irrational)[0]


def normals(irrational):
    return ndtri(0.001 + 0.998 * spaced(irrational))


def table():
    i = np.arange(1, 151)
    x, z = 10 * spaced(0.6180339887498949), 2 * spaced(0.7548776662466927) - 1
    w, e = spaced(0.5698402909980532), normals(0.4142135623730951)
    g = np.array([0.3, -0.4, 0.1, 0.5, -0.2, -0.6, 0.2, 0.4, -0.1, -0.2])[(i * 7) % 10]
    counts = 0.001 + 0.998 * spaced(0.7320508075688772)
    return pd.DataFrame(
        {
            "x": x,
            "z": z,
            "w": w,
            "g": np.array(list("abcdefghij"))[(i * 7) % 10],
            "f": np.array(list("ab"))[i % 2],
            "y": np.sin(x) + 0.3 * z + w * np.cos(x) + g + 0.3 * e,
            "s": np.sin(x) * np.cos(2 * z) + 0.3 * e,
            "c": poisson.ppf(counts, np.exp(0.5 + np.sin(x))).astype(int),
            "k": poisson.ppf(counts, np.exp(1 + np.sin(x) + g)).astype(int),
            "q": np.sin(x) + g * np.cos(x) + g + 0.1 * g * (x - 5) + 0.2 * e,
            "b": (spaced(0.6457513110645906) < 1 / (1 + np.exp(-1.5 * np.sin(x)))).astype(int),
        }
    )


DATA = table()
NEW = pd.DataFrame(
    {
        "x": [-2, 0.5, 5, 13],
        "z": [0.5, -1.5, 0, 2],
        "w": [0.2, 0.5, 1, 0.7],
        "f": list("abab"),
        "g": "a",
    }
)
ROWS = [0, 39, 79, 119, 149]

# R 4.2.2, mgcv 1.8-41: gam(…, method = "REML"), with the same formula but for s(g, bs = "re"),
# control = gam.control(epsilon = 1e-10, newton = list(conv.tol = 1e-9)). By formula: fitted
# values of ROWS, predictions for NEW, edf, scale, sp / S.scale, and the score where the columns
# without a penalty are of the same length, so that restricted likelihoods are the same.
MGCV = {
    "y ~ z + s(x, bs='cr')": (
        [0.570387117, 0.970234702, -1.17931846, 0.960346427, 0.940787106],
        [-0.701022824, 0.577454998, -0.78648586, -3.33410084],
        [7.5647984], 0.250744698, [0.285824634], None,
    ),
    "y ~ z + s(x)": (
        [0.571570406, 0.970364179, -1.17102251, 0.966357194, 0.941999835],
        [-0.640623727, 0.574667325, -0.786438188, -3.17338746],
        [7.61657424], 0.250705824, [0.290256668], 125.3572863,
    ),
    "y ~ z + s(x, bs='ps')": (
        [0.569674727, 0.982281334, -1.16433747, 0.980484458, 0.964955136],
        [-0.719272897, 0.571654945, -0.77795616, -3.29202328],
        [6.59148058], 0.250126418, [0.060902867], None,
    ),
    "y ~ z + s(x, bs='cc')": (
        [0.569720593, 1.00246844, -1.21654182, 1.10754934, 0.953290665],
        [1.11080851, 0.180526779, -0.801408721, 0.0152085113],
        [7.15017015], 0.282034518, [0.126638961], 134.7167181,
    ),
    "y ~ s(x, z, k=20)": (
        [0.593330217, 1.10573056, -1.24058593, 1.09266851, 1.03446039],
        [0.35333891, 0.95110588, -0.852721214, -1.50072789],
        [15.6630341], 0.228566331, [0.0710122219], 125.9858174,
    ),
    "s ~ s(x, z)": (
        [0.0155664228, 0.31299309, -0.783906943, 0.694784511, 0.312304878],
        [-0.55878843, -0.132399054, -0.856499588, -0.799868806],
        [23.216712], 0.0999639651, [0.0333835877], 75.422184,
    ),
    "y ~ z + s(x, by=w, bs='cr')": (
        [0.629148006, 1.28759129, -1.03218093, 0.63201753, 0.798732765],
        [0.504784288, 0.480802524, -1.26385049, -2.83916067],
        [8.21556697], 0.314433083, [0.136694155], None,
    ),
    "y ~ f + s(x, by=f, k=6)": (
        [0.382016205, 1.11243717, -1.1139892, 1.07340999, 1.10654548],
        [-0.443456883, 0.968921007, -0.733540444, -4.84483539],
        [4.87253764, 4.81933894], 0.267119664, [0.170733144, 0.252245272], 136.0946161,
    ),
    "y ~ s(x, by=f, bs='ps')": (
        [0.413015072, 1.07851881, -1.14228973, 1.03815691, 1.06117828],
        [-1.88625975, 1.03054046, -0.769963378, -4.77506708],
        [6.20455615, 5.86028903], 0.270351049, [0.0515657363, 0.0825874129], None,
    ),
    "y ~ s(x, k=12, bs='cr') + s(z, k=5) + (1 | g)": (
        [0.955662179, 1.24796706, -0.870373173, 1.24961031, 1.22237781],
        [-0.390230461, 0.995388991, -0.526936294, -2.26207847],
        [8.85379099, 1.72516601], 0.134404966, [0.173800663, 1.82779208], None,
    ),
}  # fmt: skip


def fitted(fit):
    return fit.predict()["estimate"].to_numpy()[ROWS]


@pytest.mark.parametrize("formula", MGCV, ids=str)
def test_restricted_likelihood_agrees_with_mgcv(formula):
    rows, new, edf, scale, smoothing, score = MGCV[formula]
    fit = gb.Model(formula, DATA).fit("reml")
    np.testing.assert_allclose(fitted(fit), rows, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fit.predict(NEW)["estimate"], new, rtol=1e-4, atol=1e-5)
    found = fit.smooths()
    np.testing.assert_allclose(found["edf"], edf, atol=1e-3)
    np.testing.assert_allclose(found["lambda"], smoothing, rtol=1e-3)
    np.testing.assert_allclose(fit.plug_in.constants["sigma"] ** 2, scale, rtol=1e-5)
    if score is not None:
        np.testing.assert_allclose(-fit.loglik, score, atol=1e-5)


PACKAGED = {
    ("meuse", "log(zinc) ~ s(x, y) + s(dist, k=6)"): (
        [7.00807962, 5.28661716, 5.52475718], [18.98947, 3.93249646], 0.114002252, 83.55455134,
    ),
    ("nile", "flow ~ s(year)"): (
        [1145.28547, 841.523296, 866.525958], [3.33757404], 19000.0127, 628.8418165,
    ),
    ("ovary", "follicles ~ s(Time, bs='cc') + (1 | Mare)"): (
        [14.5128069, 11.3962206, 10.0647495], [6.13118701], 11.1963262, 835.1274701,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "formula"), PACKAGED, ids=str)
def test_packaged_tables_agree_with_mgcv(name, formula):
    """As above: the first, fiftieth and hundredth fitted value, edf, scale and score."""
    rows, edf, scale, score = PACKAGED[name, formula]
    fit = gb.Model(formula, gb.load_dataset(name)).fit("reml")
    np.testing.assert_allclose(fit.predict()["estimate"].iloc[[0, 49, 99]], rows, rtol=1e-5)
    np.testing.assert_allclose(fit.smooths()["edf"], edf, atol=1e-3)
    np.testing.assert_allclose(fit.plug_in.constants["sigma"] ** 2, scale, rtol=1e-5)
    np.testing.assert_allclose(-fit.loglik, score, atol=1e-4)


def test_smooths_beside_correlated_residuals_agree_with_gamm():
    """As above, by nlme 3.1-162: gamm(…, list(Mare = ~1), corAR1(form = ~1 | Mare))."""
    data = gb.load_dataset("ovary")
    data["seen"] = data.groupby("Mare").cumcount()
    formulas = ["follicles ~ s(Time, bs='cc') + (1 | Mare)", "residual ~ ar1(seen | Mare)"]
    fit = gb.Model(formulas, data).fit("reml")
    assert fit.loglik == pytest.approx(-780.8400133, abs=1e-5)
    rows = fit.predict(groups="population")["estimate"].iloc[[0, 49, 99]]
    np.testing.assert_allclose(rows, [11.300686, 14.962084, 15.064231], rtol=1e-6)
    np.testing.assert_allclose(fit.smooths()["edf"], [4.7968181], atol=1e-4)


def test_maximum_likelihood_agrees_with_mgcv():
    """As above, with method = "ML"."""
    fit = gb.Model("y ~ z + s(x, bs='cr')", DATA).fit("ml")
    rows = [0.570503083, 0.970514809, -1.17983575, 0.960792343, 0.940966925]
    np.testing.assert_allclose(fitted(fit), rows, rtol=1e-5)
    np.testing.assert_allclose(fit.loglik, -119.1968102, atol=1e-5)
    np.testing.assert_allclose(fit.smooths()["edf"], [7.57731734], atol=1e-3)


RESPONSES = {
    ("c ~ s(x)", "poisson"): (
        [1.61466594, 3.63103677, 0.68022244, 4.57751158, 3.29576899], 6.87596068, 268.2653203,
    ),
    ("b ~ s(x, bs='cr')", "bernoulli"): (
        [0.468401084, 0.720217801, 0.195773111, 0.727581175, 0.693075928], 5.135497, None,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("formula", "family"), RESPONSES, ids=str)
def test_other_responses_agree_with_mgcv(formula, family):
    """As above; with coefficients integrated out Laplace's method is the same there."""
    rows, edf, score = RESPONSES[formula, family]
    fit = gb.Model(formula, DATA, family=family).fit("reml")
    np.testing.assert_allclose(fitted(fit), rows, rtol=1e-4)
    np.testing.assert_allclose(fit.smooths()["edf"], [edf], atol=1e-3)
    if score is not None:
        np.testing.assert_allclose(-fit.loglik, score, atol=1e-5)


def test_a_surface_of_several_penalties_agrees_with_mgcv():
    """
    R as above: gam with the three blocks of Wood, Scheipl & Faraway (2013) as `paraPen`.

    The margins are smoothCon(s(t, bs = "cr", k = 5)), their columns turned so that the penalty is
    the identity, and 1 and (t - mean(t)) / sd(t). What t2 of mgcv takes for the latter depends on
    how eigenvectors come out that nothing tells apart.
    """
    fit = gb.Model("s ~ t2(x, z)", DATA).fit("reml")
    rows = [-0.0579474713, 0.325322836, -0.78542512, 0.62766748, 0.349850306]
    np.testing.assert_allclose(fitted(fit), rows, rtol=1e-4)
    np.testing.assert_allclose(fit.loglik, -66.37112497, atol=1e-5)
    found = fit.smooths()
    np.testing.assert_allclose(found["sd"][1:], [0.606592001, 0.497205932, 0.0286485171], rtol=1e-3)
    np.testing.assert_allclose(found["edf"][0], 17.1461983 - 1, atol=1e-3)
    np.testing.assert_allclose(found["edf"][0], 3 + found["edf"][1:].sum(), rtol=1e-12)


GROUPED = {
    # mgcv's own: xt = list(bs = "cc")
    "q ~ s(x, bs='cc', k=8) + s(x, g, bs=('fs', 'cc'), k=6)": (
        [0.555329736, 1.26173334, -0.648315737, 1.25853877, 1.17296449],
        0.0780209542, [5.85703918, 26.8314885], 70.27415305,
    ),
    # by paraPen: what of the thin plates' bent functions is no straight line, that, and constants
    "q ~ s(x, bs='cr', k=8) + s(x, g, bs='fs', k=5)": (
        [0.599480499, 1.26538728, -0.669879187, 1.22736396, 1.17436112],
        0.0475306075, [6.82269716, 22.5982234 + 0.5719709 + 8.7536055], None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("formula", GROUPED, ids=str)
def test_curves_of_groups_agree_with_mgcv(formula):
    """R as above; what functions without a penalty mgcv takes is up to its eigenvectors."""
    rows, scale, edf, score = GROUPED[formula]
    fit = gb.Model(formula, DATA).fit("reml")
    np.testing.assert_allclose(fitted(fit), rows, rtol=1e-5)
    np.testing.assert_allclose(fit.plug_in.constants["sigma"] ** 2, scale, rtol=1e-5)
    found = fit.smooths()
    whole = found[found["smooth"].isin(["s(x)", "s(x,g)"])]
    np.testing.assert_allclose(whole["edf"], edf, atol=2e-3)
    if score is not None:
        np.testing.assert_allclose(-fit.loglik, score, atol=1e-5)


def test_curves_of_groups_are_not_the_populations():
    fit = gb.Model("q ~ s(x, bs='cr', k=6) + s(x, g, bs='fs', k=4)", DATA).fit("reml")
    population = fit.predict(NEW.drop(columns="g"), groups="population")
    new = fit.predict(NEW.assign(g="new"))
    np.testing.assert_allclose(new["estimate"], population["estimate"], rtol=1e-6)
    assert (new["std_error"] > population["std_error"]).all()
    own = fit.predict(NEW.assign(g="d"))["estimate"]
    assert (abs(own - population["estimate"]) > 0.1).any()


def test_laplace_of_counts_is_the_same_by_dense_algebra():
    """Maximise the Laplace approximation over coefficients and sd by general optimisers."""
    model = gb.Model("c ~ s(x, k=6, bs='cr')", DATA, family="poisson")
    X, Z, y = model.design.predictors["mu"].X, model.design.terms[0].loadings[0].Z, DATA["c"]

    def criterion(outer):
        beta, sd = outer[:-1], np.exp(outer[-1])

        def joint(u):
            eta = X @ beta + sd * Z @ u
            value = np.sum(poisson.logpmf(y, np.exp(eta))) - u @ u / 2
            return -value, -(sd * Z.T @ (y - np.exp(eta)) - u)

        u = minimize(joint, np.zeros(Z.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-9}).x
        W = np.exp(X @ beta + sd * Z @ u)
        H = sd**2 * Z.T @ (W[:, None] * Z) + np.eye(len(u))
        return joint(u)[0] + 0.5 * np.linalg.slogdet(H)[1]

    best = minimize(criterion, [0.5, 0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-5})
    fit = model.fit("ml")
    np.testing.assert_allclose(fit.loglik, -best.fun, atol=1e-5)
    np.testing.assert_allclose(fit.smooths()["sd"], np.exp(best.x[-1]), rtol=1e-3)


# ---- bases

X = DATA[["x"]].to_numpy()


@pytest.fixture(params=list(BASES))
def basis(request):
    return BASES[request.param](X, 8, "s(x)")


def second_derivatives(basis, x, h=1e-3):
    at = np.array([[x - h], [x], [x + h]])
    return np.diff(basis.matrix(at), n=2, axis=0)[0] / h**2


@pytest.mark.parametrize("name", ["cr", "cc", "tp"])
def test_penalty_is_the_integral_of_squared_bends(name):
    basis = BASES[name](X, 8, "s(x)")
    low, high = X.min() + 1e-3, X.max() - 1e-3

    def bends(x):
        f = second_derivatives(basis, x)
        return np.outer(f, f)

    found, _ = quad_vec(bends, low, high, limit=200, epsrel=1e-4, epsabs=1e-6)
    size = np.abs(basis.penalty).max()
    np.testing.assert_allclose(found / size, basis.penalty / size, atol=5e-3)


def test_smoothest_functions_have_no_penalty(basis):
    polynomials = basis.smoothest(X)
    weights, *_ = np.linalg.lstsq(basis.matrix(X), polynomials)
    np.testing.assert_allclose(basis.matrix(X) @ weights, polynomials, atol=1e-7)
    size = np.abs(basis.penalty).max() * np.square(weights).sum()
    assert np.abs(weights.T @ basis.penalty @ weights).max() < 1e-10 * size


def test_beyond_the_data_it_goes_on_straight_or_round(basis):
    low, high = X.min(), X.max()
    if basis.name == "cc":
        x = np.array([[low + 0.7], [low + 2.0]])
        np.testing.assert_allclose(basis.matrix(x + high - low), basis.matrix(x), atol=1e-10)
        return
    beyond = np.array([[high + 1.0], [high + 2.0], [high + 3.0]])
    for x in (beyond, low + high - beyond):
        B = basis.matrix(x)
        assert np.abs(np.diff(B, n=2, axis=0)).max() < 1e-8 * np.abs(B).max()


@pytest.mark.parametrize(
    "text", ["s(x)", "s(x, bs='ps')", "s(x, z, k=12)", "t2(x, z)", "s(x, by=f)", "t2(x, z, by=f)"]
)
def test_columns_are_centred_and_of_unit_spread(text):
    model = gb.Model(f"y ~ {text}", DATA)
    for smooth in model.design.smooths:
        for term in smooth.terms:
            columns = term.loadings[0].matrix
            whole = columns.turned.blocks(DATA[["x", "z"][: len(columns.variables)]].to_numpy())
            Z = columns.of(whole)
            np.testing.assert_allclose(Z.mean(axis=0), 0.0, atol=1e-10)
            np.testing.assert_allclose(np.square(Z).sum(axis=1).mean(), 1.0)
    prior = model.priors.set_index("parameter").loc[f"sd_{model.design.terms[0].name}"]
    assert prior["arguments"] == "nu=3, sigma=2.5"


@pytest.mark.parametrize("text", ["s(x)", "s(x, z)", "t2(x, z, k=(4, 5))", "s(x, by=f, bs='cc')"])
def test_new_data_are_encoded_as_the_first_were(text):
    design = gb.Model(f"y ~ {text}", DATA).design
    again = design.encode(DATA)
    np.testing.assert_allclose(again.predictors["mu"].X, design.predictors["mu"].X, atol=1e-12)
    for term, first in zip(again.terms, design.terms, strict=True):
        np.testing.assert_allclose(term.loadings[0].Z, first.loadings[0].Z, atol=1e-12)


def test_many_places_are_thinned_out():
    n = 2500
    x = spaced(0.6180339887498949, n)
    data = pd.DataFrame({"x": x, "y": np.sin(6 * x) + 0.1 * np.cos(1000 * x)})
    few = gb.Model("y ~ s(x)", data).fit("ml").predict()["estimate"]
    own = gb.Model("y ~ s(x, bs='cr')", data).fit("ml").predict()["estimate"]
    np.testing.assert_allclose(few, own, atol=0.02)


# ---- in models


def test_names_in_results():
    model = gb.Model(["y ~ s(x, by=f) + (1 | g)", "sigma ~ s(z, k=5)"], DATA)
    names = set(model.priors["parameter"])
    assert {"beta[s(x):fa_1]", "beta_sigma[s(z)_1]"} <= names
    assert {"sd_s_x_fa", "sd_s_x_fb", "sd_sigma_s_z", "sd_g[Intercept]"} <= names
    with pytest.warns(SingularFitWarning, match=r"deviation of s\(z\) is estimated as zero"):
        fit = model.fit("ml")
    shown = fit.varcorr().set_index(["param", "group"])
    assert {("mu", "s(x):fa"), ("sigma", "s(z)")} <= set(shown.index)
    found = fit.smooths().set_index("smooth")
    assert found.loc["s(z)", "param"] == "sigma"
    np.testing.assert_allclose(found.loc["s(z)", ["edf", "sd"]].astype(float), [1.0, 0.0])


def test_an_ordered_factor_has_differences_from_its_first_level():
    data = DATA.assign(f=pd.Categorical(DATA["f"], categories=["b", "a"], ordered=True))
    smooths = gb.Model("y ~ s(x) + s(x, by=f)", data).design.smooths
    assert [smooth.label for smooth in smooths] == ["s(x)", "s(x):fa"]


def test_penalised_levels_are_a_random_term():
    smooth, plain = (gb.Model(f"y ~ x + {t}", DATA) for t in ("s(g, bs='re')", "(1 | g)"))
    assert smooth.fit("reml").loglik == pytest.approx(plain.fit("reml").loglik, abs=1e-9)


@pytest.fixture(scope="module")
def curve():
    return gb.Model("c ~ z + s(x, k=6, bs='cr')", DATA, family="poisson").fit("ml")


@pytest.fixture(scope="module")
def groups():
    return gb.Model("k ~ s(x, k=6, bs='cr') + (1 | g)", DATA, family="poisson").fit("ml")


@pytest.mark.parametrize("kind", ["mean", "linear"])
@pytest.mark.parametrize("target", ["population", "new", "marginal"])
def test_curves_are_the_populations(curve, kind, target):
    own = curve.predict(NEW, kind=kind)
    pd.testing.assert_frame_equal(curve.predict(NEW, kind=kind, groups=target), own, rtol=1e-4)
    if target != "new":
        other = curve.predictions(NEW, kind=kind, groups=target)
        np.testing.assert_allclose(other["estimate"], own["estimate"], rtol=1e-8)
        np.testing.assert_allclose(other["std_error"], own["std_error"], rtol=1e-3)


def test_without_groups_only_these_are_missing(groups):
    conditional = groups.predict(NEW, kind="linear")["estimate"]
    effect = groups.ranef().set_index(["group", "level"]).loc[("g", "a"), "estimate"]
    population = groups.predict(NEW.drop(columns="g"), kind="linear", groups="population")
    np.testing.assert_allclose(conditional - population["estimate"], effect)
    new = groups.predict(NEW, kind="linear", groups="new")
    sd = groups.varcorr().set_index("group").loc["g", "estimate"]
    more = np.square(new["std_error"]) - np.square(population["std_error"])
    np.testing.assert_allclose(more, sd**2, rtol=1e-3)


def test_marginal_means_follow_the_curve(curve):
    at = curve.emmeans("x", at={"x": [1.0, 4.0]})
    rows = pd.DataFrame({"x": [1.0, 4.0], "z": DATA["z"].mean()})
    own = curve.predict(rows, kind="linear", groups="population")
    np.testing.assert_allclose(at["estimate"], own["estimate"], rtol=1e-8)
    np.testing.assert_allclose(at["std_error"], own["std_error"], rtol=1e-3)
    with pytest.raises(NotSupportedError, match="coefficients alone"):
        gb.Model("y ~ s(x)", DATA).fit("reml").emmeans("x", at={"x": [1, 4]}, ddf="satterthwaite")


def test_shares_of_variance_count_curves_as_explained(groups):
    assert list(groups.icc().index) == ["g"]
    assert groups.r2().loc["marginal", "estimate"] > 0.3


def test_simulations_keep_the_curve(groups):
    drawn = groups.simulate(2000, seed=1, groups="new").mean("sim").to_numpy()
    expected = groups.predict(groups="marginal")["estimate"]
    assert np.corrcoef(drawn, expected)[0, 1] > 0.99
    np.testing.assert_allclose(drawn.mean(), expected.mean(), rtol=0.02)


def test_posterior_agrees_with_the_maximum(groups):
    fit = groups.sample(draws=500, chains=2, seed=1, progressbar=False)
    np.testing.assert_allclose(fit.smooths()["edf"], groups.smooths()["edf"], atol=0.3)
    own = fit.predict(NEW, kind="linear", groups="population")
    at = groups.predict(NEW, kind="linear", groups="population")
    assert np.all(abs(own["estimate"] - at["estimate"]) < 0.3 * at["std_error"])
    assert fit.idata["posterior"]["b_s_x"].sizes["s_x__coef"] == 4


@pytest.mark.parametrize(
    ("formula", "family"),
    [("f ~ s(x, k=4)", "bernoulli"), ("g ~ s(x, k=4)", "categorical"), ("c ~ s(x, k=4)", "acat")],
)
def test_predictors_of_categories_have_smooths(formula, family):
    data = DATA.assign(g=DATA["g"].str.translate(str.maketrans("abcdefghij", "aaabbbbccc")))
    model = gb.Model(formula, data.assign(c=data["c"].clip(upper=3)), family=family)
    found = model.fit("map").smooths()
    assert len(found) == (2 if family == "categorical" else 1)
    assert found["edf"].between(1, 3).all()


def test_files_keep_smooths(groups, tmp_path):
    groups.save(tmp_path / "fit.nc")
    again = gb.load(tmp_path / "fit.nc")
    for kind in ("conditional", "population"):
        own = groups.predict(NEW, groups=kind)
        pd.testing.assert_frame_equal(again.predict(NEW, groups=kind), own, rtol=1e-5)
    pd.testing.assert_frame_equal(again.smooths(), groups.smooths(), rtol=1e-5)


@pytest.mark.parametrize("kind", [2, 3])
def test_tests_of_terms_stand_beside_smooths(kind):
    """R as above: anova(gam(log(zinc) ~ soil + s(dist, k = 6))) has F = 4.017."""
    data = gb.load_dataset("meuse").astype({"soil": str})
    fit = gb.Model("log(zinc) ~ soil + s(dist, k=6)", data).fit("reml")
    assert fit.anova(type=kind).loc["soil", "statistic"] == pytest.approx(4.017, abs=5e-4)


def test_summary_tells_smooths_from_groups(groups):
    text = groups.summary().text()
    ahead, smooths = text.split("Smooths")
    assert "g (10 levels)" in ahead
    assert "s(x)" not in ahead.split("Group-level effects")[1]
    assert "s(x)" in smooths


WRONG = [
    ("s()", FormulaError, "is empty"),
    ("s(x, x)", FormulaError, "has a variable twice"),
    ("t2(x)", FormulaError, "needs two variables or more; of one write s(x)"),
    ("s(x, kk=4)", FormulaError, "unknown argument 'kk'. Did you mean 'k'?"),
    ("s(x, k=4.5)", FormulaError, "k=4.5 of 's(x, k=4.5)' should be a whole number."),
    ("s(x, k=n)", FormulaError, "should be a whole number"),
    ("t2(x, z, k=(3, 4, 5))", FormulaError, "a whole number, or 2 of them in parentheses"),
    ("s(x, bs=cr)", FormulaError, "bs=cr of 's(x, bs=cr)' should be a text in quotes"),
    ("s(x, bs='cz')", UnknownNameError, "There is no basis of smooths 'cz'"),
    ("s(x, z, bs='cr')", DataError, "The basis 'cr' of \"s(x, z, bs='cr')\" is for one variable"),
    ("s(x, k=2)", DataError, "k=2 of 's(x, k=2)' is too small: a basis 'tp' has at least 3"),
    ("s(x, k=3, bs='cc')", DataError, "a basis 'cc' has at least 4 functions"),
    ("s(x, k=151)", DataError, "has 150 different values, fewer than the basis has functions"),
    ("s(d)", DataError, "'s(d)' has 3 different values, fewer than the basis has functions"),
    ("s(0 * d)", DataError, "has 1 different values, and a basis 'tp' at least 3 functions"),
    ("s(x) - s(z)", FormulaError, "'s(z)' can be added but not subtracted"),
    ("s(f)", DataError, "The smoothed variable 'f' must be numbers"),
    ("s(nope)", UnknownNameError, "'nope'"),
    ("s(x, by=nope)", UnknownNameError, "'nope'"),
    ("s(x) + s(x, k=5)", FormulaError, "are the same smooth of mu"),
    ("(s(x) | g)", FormulaError, "'s(x)' can only be added"),
    ("s(g, bs='fs')", FormulaError, "the factor whose levels have a curve each: s(x, g, bs='fs')"),
    ("s(g, x, bs='fs')", DataError, "The smoothed variable 'g' must be numbers"),
    ("s(x, z, bs='re')", FormulaError, "should be a random term"),
    ("te(x, z)", NotSupportedError, "surfaces s(x, z) or t2(x, z)"),
]


@pytest.mark.parametrize(("text", "error", "words"), WRONG, ids=[w[0] for w in WRONG])
def test_errors(text, error, words):
    with pytest.raises(error) as caught:
        gb.Model(f"y ~ {text}", DATA.assign(d=np.arange(150) % 3))
    assert words in str(caught.value)


def test_levels_of_new_data_must_be_known():
    fit = gb.Model("y ~ s(x, by=f)", DATA).fit("reml")
    with pytest.raises(DataError, match="was not fitted with f = 'c'; it knows a, b"):
        fit.predict(NEW.assign(f="c"))


def test_no_degrees_of_freedom_where_nothing_measures_them():
    model = gb.Model("y ~ s(x)", DATA, family="asymmetric_laplace")
    with pytest.raises(NotSupportedError, match="has a kink"):
        smooths(SimpleNamespace(model=model))


def test_a_model_without_smooths_says_so():
    with pytest.raises(DataError, match="There is no smooth in 'y ~ x'"):
        gb.Model("y ~ x", DATA).fit("ml").smooths()
