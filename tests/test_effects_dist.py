"""Effects that are not normal: SciPy's densities, one density for all readers, brute integrals."""

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats
from test_density import check_free

import glmm_bayes as gb
from glmm_bayes.covariance import Places
from glmm_bayes.covariance.shaped import DISTRIBUTIONS
from glmm_bayes.density import read_density
from glmm_bayes.engine.integrals.shaped import ShapedIntegral
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.laplace import LaplaceObjective
from glmm_bayes.modes.reading import read_laplace
from glmm_bayes.modes.shaped import density_of, with_normal_effects

VALUES = {"student": [2.3, 5.0, 80.0], "skew_normal": [-6.0, 0.0, 0.8, 20.0]}


def student(nu):
    return stats.t(nu, scale=np.sqrt((nu - 2) / nu))


def skew_normal(alpha):
    plain = stats.skewnorm(alpha)
    return stats.skewnorm(alpha, loc=-plain.mean() / plain.std(), scale=1 / plain.std())


SCIPYS = {"student": student, "skew_normal": skew_normal}
CASES = [(name, value) for name, values in VALUES.items() for value in values]


def levels(name, count=3):
    names = tuple("abcdefgh"[:count])
    none, nowhere = np.zeros(count, dtype=int), np.empty((count, 0))
    labels = np.array(names, dtype=object)[:, None]
    places = Places(names, none, nowhere, "(1 | g)", ("g",), labels)
    return DISTRIBUTIONS[name](places)


@pytest.fixture(scope="module")
def data():
    rng, q = np.random.default_rng(6), 12
    g = np.repeat(np.arange(q), 6)
    b = stats.t(3).rvs(q, random_state=rng)
    x = rng.normal(size=6 * q)
    return pd.DataFrame(
        {
            "g": [f"g{k:02d}" for k in g],
            "h": np.resize(list("uvw"), 6 * q),
            "x": x,
            "y": 1 + 0.5 * x + b[g] + rng.normal(0, 0.7, 6 * q),
            "c": rng.poisson(np.exp(0.8 + 0.3 * x + 0.4 * b[g])),
        }
    )


# ---- the distributions


@pytest.mark.parametrize(("name", "value"), CASES)
def test_density_is_that_of_scipy_at_mean_0_and_variance_1(name, value):
    own, v = levels(name), np.array([[-7.0], [-0.4], [0.0], [0.3], [2.0], [9.0]])
    theta = {own.parameter.name: np.array([value])}
    frozen = SCIPYS[name](value)
    np.testing.assert_allclose(frozen.stats("mv"), (0, 1), atol=1e-12)
    there = frozen.logpdf(v) > -500  # beyond, SciPy's logarithms are those of zero
    found = own.log_density(v, theta)
    np.testing.assert_allclose(found[there], frozen.logpdf(v)[there], rtol=1e-9)


@pytest.mark.parametrize(("name", "value"), CASES)
def test_slopes_are_difference_quotients(name, value):
    own, key, h = levels(name), levels(name).parameter.name, 1e-5
    v = np.random.default_rng(1).normal(size=(6, 2))
    by_v, by_theta = own.log_slopes(v, {key: np.array([value])})

    def at(shift, moved=0.0):
        return own.log_density(v + shift, {key: np.array([value + moved])})

    np.testing.assert_allclose(by_v, (at(h) - at(-h)) / (2 * h), rtol=1e-6, atol=1e-8)
    quotient = (at(0.0, h) - at(0.0, -h)).sum() / (2 * h)
    np.testing.assert_allclose(by_theta[key], [quotient], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("name", "value"), CASES)
def test_draws_are_of_the_density(name, value):
    own = levels(name)
    theta = {own.parameter.name: np.full((400, 1, 1), value)}
    v = own.drawn(theta, np.random.default_rng(3), (400, 25, 1))
    assert stats.kstest(v.ravel(), SCIPYS[name](value).cdf).pvalue > 1e-3


# ---- the model's density

FORMULAS = {
    "student": 'c ~ x + (1 | g, dist="student")',
    "skew_normal": 'c ~ x + (1 | g, dist="skew_normal") + (1 | h)',
    "independent columns": 'c ~ x + (1 + x || g, dist="student")',
    "a named structure": 'c ~ x + diag(1 + x | g, dist="skew_normal")',
    "two of them": 'c ~ (1 | g, dist="student") + (1 | h, dist="skew_normal")',
    "of no parameter's prior": 'c ~ x + (1 | g, dist="student")',
}


@pytest.mark.parametrize("name", FORMULAS)
def test_readers_agree(data, name):
    priors = {"nu_g": 4.0} if name.startswith("of no") else {}
    check_free(gb.Model(FORMULAS[name], data, family="poisson", priors=priors))


def test_effects_of_another_predictor_may_be_of_another_distribution(data):
    check_free(gb.Model(["y ~ x + (1 | g)", 'sigma ~ 1 + (1 | h, dist="student")'], data))


@pytest.mark.parametrize("dist", ["student", "skew_normal"])
def test_near_the_normal_the_density_is_the_normals(data, dist):
    held = {"student": {"nu_g": 1e9}, "skew_normal": {"alpha_g": 1e-9}}[dist]
    near = gb.Model(f'y ~ x + (1 | g, dist="{dist}")', data, priors=held)
    normal = gb.Model("y ~ x + (1 | g)", data, centering="noncentered")
    one, other = read_density(near), read_density(normal)
    x = np.random.default_rng(2).normal(scale=0.4, size=(4, other.size))
    ours = [one.value_and_gradient(point)[0] for point in x]
    theirs = [other.value_and_gradient(point)[0] for point in x]
    np.testing.assert_allclose(np.diff(ours), np.diff(theirs), rtol=1e-6, atol=1e-6)


def test_the_normal_by_name_is_the_normal(data):
    named = gb.Model('y ~ x + (1 | g, dist="normal")', data).fit("ml")
    assert named.loglik == pytest.approx(gb.Model("y ~ x + (1 | g)", data).fit("ml").loglik)


# ---- posteriors


@pytest.mark.parametrize("dist", ["student", "skew_normal"])
def test_effects_have_the_posterior_of_the_integral(dist):
    """Given sd, shape and sigma each level's effect is an integral of its own."""
    table = pd.DataFrame({"g": list("aabbcd"), "y": [4.1, 5.0, -0.5, 0.4, 6.0, 0.2]})
    key, value = {"student": ("nu", 3.0), "skew_normal": ("alpha", 5.0)}[dist]
    priors = {"sd_g": 1.2, "sigma": 0.8, f"{key}_g": value}
    model = gb.Model(f'y ~ 0 + (1 | g, dist="{dist}")', table, priors=priors)
    fit = model.fit("nuts", seed=3, draws=1000, tune=300, chains=2, progressbar=False)
    prior, found = SCIPYS[dist](value), fit.ranef().set_index("level")
    for level, y in table.groupby("g")["y"]:

        def moment(k, y=y):
            def density(b):
                rows = stats.norm.logpdf(y.to_numpy(), b, 0.8).sum()
                return b**k * np.exp(rows + prior.logpdf(b / 1.2))

            return integrate.quad(density, -10, 15, limit=200)[0]

        mean = moment(1) / moment(0)
        sd = np.sqrt(moment(2) / moment(0) - mean**2)
        assert found.loc[level, "estimate"] == pytest.approx(mean, abs=0.12 * sd)
        assert found.loc[level, "std_error"] == pytest.approx(sd, rel=0.12)


def test_new_levels_are_of_the_distribution(data):
    priors = {"nu_g": 2.5, "sd_g": 2.0}
    model = gb.Model('y ~ x + (1 | g, dist="student")', data, priors=priors)
    drawn = model.prior_predictive(2000, seed=1)["prior"]["b_g"].to_numpy() / 2.0
    # Of so few degrees of freedom far more lies beyond four sd than of the normal.
    assert (np.abs(drawn) > 4).mean() == pytest.approx(2 * student(2.5).sf(4.0), rel=0.25)
    # What is looked at here does not depend on how well the chains mix.
    with pytest.warns(gb.ConvergenceWarning):
        fit = model.fit("nuts", seed=1, draws=200, tune=200, chains=2, progressbar=False)
    new = data.head(1).assign(g="new")
    found = fit.predict(pd.concat([new] * 60), kind="linear", groups="new", draws=True, seed=2)
    known = fit.predict(new, kind="linear", groups="population", draws=True).to_numpy()
    b = (found.to_numpy() - known)[..., 0].ravel()
    assert np.std(b) == pytest.approx(2.0, rel=0.5)
    with pytest.raises(gb.NotSupportedError, match="groups='new' with draws=True"):
        fit.predict(groups="marginal")


# ---- maxima, by quadrature


def brute(fit, data, frozen):
    """Integrate every level's effect by itself, at the fit's parameters."""
    theta, total = fit.theta, 0.0
    sd, at = theta["sd_g[Intercept]"], theta["beta[Intercept]"] + theta["beta[x]"] * data["x"]
    for _, rows in data.assign(at=at).groupby("g"):

        def density(u, rows=rows):
            eta = rows["at"] + sd * u
            if "sigma" in theta:
                log = stats.norm.logpdf(rows["y"], eta, theta["sigma"])
            else:
                log = stats.poisson.logpmf(rows["c"], np.exp(eta))
            return np.exp(log.sum() + frozen.logpdf(u))

        total += np.log(integrate.quad(density, -14, 14, limit=400, points=[-3, -1, 0, 1, 3])[0])
    return total


@pytest.mark.parametrize("response", ["c", "y"])
@pytest.mark.parametrize("dist", ["student", "skew_normal"])
def test_the_likelihood_is_the_product_of_the_integrals(data, response, dist):
    """Up to what nodes that fall off as a normal density leave of heavy tails."""
    family = {"c": "poisson", "y": "gaussian"}[response]
    priors = {"nu_g": 3.0} if dist == "student" else {"alpha_g": 3.0}
    formula = f'{response} ~ x + (1 | g, dist="{dist}")'
    fit = gb.Model(formula, data, family=family, priors=priors).fit("ml", nagq=41)
    assert fit.converged
    frozen = SCIPYS[dist](3.0)
    lost = 5e-4 if dist == "student" else 1e-5
    assert fit.loglik == pytest.approx(brute(fit, data, frozen), abs=lost)
    assert fit.df == (3 if response == "c" else 4)


def test_the_gradient_of_the_quadrature_is_its_slope(data):
    for dist in ("student", "skew_normal"):
        model = gb.Model(f'c ~ x + (1 | g, dist="{dist}")', data, family="poisson")
        objective, x = objective_of(model, 5)
        _, slope = objective(x)
        for k, step in enumerate(1e-5 * np.eye(len(x))):
            rise = objective(x + step)[0] - objective(x - step)[0]
            assert slope[k] == pytest.approx(rise / 2e-5, rel=2e-6, abs=2e-6)


def objective_of(model, nagq):
    normal = with_normal_effects(model)
    (term,) = model.design.terms
    density = density_of(term.level_structure.distribution)
    integral = ShapedIntegral(read_laplace(normal), density, nagq)
    coordinates = Coordinates.unconstrained(model)
    start = coordinates.start([np.array([0.6])])
    x = coordinates.join([np.array([0.7, 0.2])], start)
    return LaplaceObjective(integral, coordinates, joint=False), x


@pytest.mark.parametrize("dist", ["student", "skew_normal"])
def test_near_the_normal_the_maximum_is_the_normals(data, dist):
    held = {"student": {"nu_g": 1e7}, "skew_normal": {"alpha_g": 1e-7}}[dist]
    near = gb.Model(f'c ~ x + (1 | g, dist="{dist}")', data, family="poisson", priors=held)
    fit, normal = (
        m.fit("ml", nagq=11) for m in (near, gb.Model("c ~ x + (1 | g)", data, "poisson"))
    )
    assert fit.loglik == pytest.approx(normal.loglik, abs=1e-5)
    np.testing.assert_allclose(fit.fixef()["estimate"], normal.fixef()["estimate"], atol=1e-5)
    np.testing.assert_allclose(fit.fixef()["std_error"], normal.fixef()["std_error"], rtol=1e-3)
    found, expected = fit.ranef(), normal.ranef()
    np.testing.assert_allclose(found["estimate"], expected["estimate"], atol=1e-4)
    np.testing.assert_allclose(found["std_error"], expected["std_error"], rtol=1e-2)


def test_heavy_tails_are_recovered():
    rng, q = np.random.default_rng(4), 200
    g = np.repeat(np.arange(q), 4)
    b = 1.5 * student(3.0).rvs(q, random_state=rng)
    table = pd.DataFrame({"g": [f"g{k}" for k in g], "y": b[g] + rng.normal(0, 0.5, 4 * q)})
    fit = gb.Model('y ~ 1 + (1 | g, dist="student")', table).fit("ml", nagq=9)
    found = fit.varcorr().set_index("kind")
    assert found.loc["nu", "lower"] > 2
    assert found.loc["nu", "lower"] < 3 < found.loc["nu", "upper"]
    normal = gb.Model("y ~ 1 + (1 | g)", table).fit("ml")
    assert fit.loglik > normal.loglik + 5


def test_effects_of_a_slope_and_of_sigma():
    """One column, whatever it is, in whichever predictor."""
    rng, q = np.random.default_rng(2), 30
    g, x = np.repeat(np.arange(q), 12), rng.normal(size=12 * q)
    b = 0.6 * student(4.0).rvs(q, random_state=rng)
    table = pd.DataFrame({"g": [f"g{k:02d}" for k in g], "x": x})
    table["y"] = 1 + (0.5 + b[g]) * x + rng.normal(0, 1, 12 * q)
    table["z"] = 1 + 0.5 * x + rng.normal(0, np.exp(b[g]))
    for formula in ('y ~ x + (0 + x | g, dist="student")',
                    ["z ~ x", 'sigma ~ 1 + (1 | g, dist="student")']):  # fmt: skip
        fit = gb.Model(formula, table).fit("ml", nagq=21)
        normal = gb.Model(
            [f.replace(', dist="student"', "") for f in np.atleast_1d(formula)], table
        )
        assert fit.converged
        assert fit.loglik > normal.fit("ml").loglik - 0.5
        found = fit.varcorr().set_index("kind")["estimate"]["sd"]
        assert 0.35 < float(np.atleast_1d(found)[0]) < 1.0


def test_what_quadrature_of_other_effects_cannot(data):
    two = gb.Model('c ~ x + (1 | g, dist="student") + (1 | h)', data, family="poisson")
    with pytest.raises(gb.NotSupportedError, match="one random term of one column"):
        two.fit("ml", nagq=9)


def test_a_maximum_comes_back_from_a_file(data, tmp_path):
    formula, priors = 'c ~ x + (1 | g, dist="student")', {"nu_g": 4.0}
    fit = gb.Model(formula, data, family="poisson", priors=priors).fit("ml", nagq=9)
    fit.save(tmp_path / "fit")
    back = gb.load(tmp_path / "fit")
    for groups in ("conditional", "population"):
        found, expected = (f.predict(groups=groups) for f in (back, fit))
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(back.ranef()["std_error"], fit.ranef()["std_error"], rtol=1e-6)


def test_verbs_of_a_maximum(data):
    fit = gb.Model('y ~ x + (1 | g, dist="student")', data, priors={"nu_g": 4.0}).fit("ml", nagq=15)
    assert np.isfinite(fit.predict()["estimate"]).all()
    assert fit.simulate(3, seed=1, groups="new").shape == (3, len(data))
    assert len(fit.confint()) > 0
    with pytest.raises(gb.NotSupportedError, match="groups='new' with draws=True"):
        fit.predict(groups="marginal")


# ---- what is refused


@pytest.mark.parametrize("method", ["ml", "reml", "map", "pql", "nested_laplace"])
def test_methods_for_normal_effects_say_so(data, method):
    model = gb.Model('c ~ x + (1 | g, dist="student")', data, family="poisson")
    with pytest.raises(gb.NotSupportedError, match=r"are not normal.*fit\('ml', nagq=15\)"):
        model.fit(method)
    with pytest.raises(gb.NotSupportedError, match="are not normal"):
        model.fit("nuts", sampler="collapsed")


@pytest.mark.parametrize(
    ("term", "error", "words"),
    [
        ('(1 + x | g, dist="student")', gb.FormulaError, "has 2 columns"),
        ('(1 | g, dist="studnt")', gb.UnknownNameError, "Did you mean 'student'"),
        ("(1 | g, foo=2)", gb.FormulaError, "leave 'foo=2' out"),
        ('ar1(x | g, dist="student")', gb.FormulaError, "unexpected keyword argument 'dist'"),
        ('(1 | g, dist="student", dist="normal")', gb.FormulaError, "'dist' twice"),
        ("(g, 1 | h)", gb.FormulaError, "bar of .* should be in the first argument"),
    ],
)
def test_what_a_term_cannot_have(data, term, error, words):
    with pytest.raises(error, match=words):
        gb.Model(f"y ~ x + {term}", data)


def test_effects_that_are_not_normal_are_not_centred(data):
    with pytest.raises(gb.NotSupportedError, match="or are not normal"):
        gb.Model('y ~ x + (1 | g, dist="student")', data, centering="centered")
    model = gb.Model('y ~ x + (1 | g, dist="student") + (1 | h)', data)
    assert not model.centering["g"]
