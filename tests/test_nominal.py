"""Categories without order: densities by SciPy, fits by nnet's multinom, by splits and by nodes."""

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, optimize, stats
from test_density import check_free

import glmm_bayes as gb
from glmm_bayes.families import FAMILIES

NOMINAL = ("categorical", "multinomial", "dirichlet", "dirichlet_multinomial")
ETA = {"mub": np.array([0.3, -1.0]), "muc": np.array([-0.4, 2.0])}


def parameters(name):
    return ETA | ({"phi": 4.0} if "dirichlet" in name else {})


def softmax(eta):
    weight = np.exp(np.column_stack([np.zeros(len(eta["mub"])), eta["mub"], eta["muc"]]))
    return weight / weight.sum(axis=1, keepdims=True)


P = softmax(ETA)
COUNTS, TOTALS = np.array([[3.0, 0.0, 5.0], [1.0, 2.0, 0.0]]), np.array([8.0, 3.0])
PROPORTIONS = np.array([[0.2, 0.5, 0.3], [0.05, 0.05, 0.9]])
RESPONSES = {
    "categorical": (np.array([2.0, 0.0]), None),
    "multinomial": (COUNTS, TOTALS),
    "dirichlet": (PROPORTIONS, None),
    "dirichlet_multinomial": (COUNTS, TOTALS),
}
SCIPYS = {
    "categorical": lambda: np.log([P[0, 2], P[1, 0]]),
    "multinomial": lambda: [stats.multinomial(n, p).logpmf(y) for y, n, p in rows()],
    "dirichlet": lambda: [
        stats.dirichlet(4 * p).logpdf(y) for y, p in zip(PROPORTIONS, P, strict=True)
    ],
    "dirichlet_multinomial": lambda: [
        stats.dirichlet_multinomial(4 * p, int(n)).logpmf(y.astype(int)) for y, n, p in rows()
    ],
}


def rows():
    return zip(COUNTS, TOTALS, P, strict=True)


@pytest.mark.parametrize("name", NOMINAL)
def test_density_is_that_of_scipy(name):
    y, trials = RESPONSES[name]
    found = FAMILIES[name].logp(y, trials, parameters(name))
    np.testing.assert_allclose(found, SCIPYS[name](), rtol=1e-10)
    np.testing.assert_allclose(FAMILIES[name].expectation(parameters(name)), P, rtol=1e-12)


@pytest.mark.parametrize("name", NOMINAL)
def test_the_score_is_the_difference_quotient(name):
    (y, trials), params, h = RESPONSES[name], parameters(name), 1e-4
    core, score = FAMILIES[name].kernel
    for key, slope in score(y, trials, params).items():

        def at(shift, key=key):
            return core(y, trials, {**params, key: params[key] + shift})

        quotient = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
        np.testing.assert_allclose(slope, quotient, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", NOMINAL)
@pytest.mark.parametrize("eta", [-700.0, 700.0])
def test_density_and_score_are_finite_far_out(name, eta):
    (y, trials), params = RESPONSES[name], parameters(name) | {"mub": np.full(2, eta)}
    core, score = FAMILIES[name].kernel
    assert np.isfinite(core(y, trials, params)).all()
    assert all(np.isfinite(s).all() for s in score(y, trials, params).values())


@pytest.mark.parametrize("name", NOMINAL)
def test_draws_have_the_stated_mean_and_spread(name):
    size, trials = 40_000, RESPONSES[name][1]
    y = FAMILIES[name].draw(np.random.default_rng(4), parameters(name), trials, (size, 2))
    if name == "categorical":
        y = y[..., None] == np.arange(3)
    n = np.ones(2) if trials is None else trials
    share = y / n[:, None]
    variance = P * (1 - P) / n[:, None]
    spread = {
        "dirichlet": P * (1 - P) / 5,
        "dirichlet_multinomial": variance * (n + 4)[:, None] / 5,
    }.get(name, variance)
    np.testing.assert_allclose(share.mean(axis=0), P, atol=6 * 0.5 / np.sqrt(size))
    np.testing.assert_allclose(share.var(axis=0), spread, rtol=0.08, atol=1e-4)


# ---- the readers agree


@pytest.fixture(scope="module")
def data():
    rng, n = np.random.default_rng(2), 60
    table = pd.DataFrame(
        {
            "x": rng.normal(3, 1, n),
            "z": rng.normal(2, 1.5, n),
            "f": np.resize(list("abc"), n),
            "g": np.resize([f"g{k}" for k in range(5)], n),
            "y": rng.choice(["a b", "c", "d"], n),
            "w": rng.uniform(0.5, 2, n),
            "a": rng.poisson(3, n),
            "b": rng.poisson(2, n),
            "c": rng.poisson(4, n) + 1,
        }
    )
    table[["p1", "p2", "p3"]] = rng.dirichlet([1, 2, 3], n)
    return table


LEFT = {
    "categorical": "y",
    "multinomial": "cbind(a, b, c)",
    "dirichlet": "cbind(p1, p2, p3)",
    "dirichlet_multinomial": "cbind(a, b, c)",
}
RIGHT = ("x + f + (1 + x | g)", "x + (1 |p| g)", "1 + (1 | g)")


@pytest.mark.parametrize("name", NOMINAL)
@pytest.mark.parametrize("right", RIGHT)
def test_readers_of_a_model_agree(data, name, right):
    check_free(gb.Model(f"{LEFT[name]} | weights(w) ~ {right}", data, family=name))


@pytest.mark.parametrize("name", ["dirichlet", "dirichlet_multinomial"])
def test_readers_of_a_precision_agree(data, name):
    check_free(gb.Model([f"{LEFT[name]} ~ x + (1 | g)", "phi ~ z"], data, family=name))


# ---- fits


@pytest.fixture
def wine(shared_data):
    table = gb.load_dataset("wine")
    three = np.array(["low", "low", "mid", "high", "high"])[table["rating"].astype(int) - 1]
    return table.assign(
        three=pd.Categorical(three, ["low", "mid", "high"]),
        rating=table["rating"].astype(int),
        judge=table["judge"].astype(str),
    )


# R's nnet 7.3-18: multinom(three ~ temp + contact, reltol = 1e-16).
MULTINOM = {
    "mid": [(-1.00716184, 0.494473), (1.51067130, 0.651860), (1.03944912, 0.624733)],
    "high": [(-4.03773110, 1.019648), (3.99397526, 0.988454), (2.53153818, 0.843236)],
}


def test_a_categorical_fit_agrees_with_multinom(wine):
    fit = gb.Model("three ~ temp + contact", wine, family="categorical").fit("ml")
    assert fit.loglik == pytest.approx(-61.73342845, abs=1e-7)
    found = fit.fixef()
    for category, expected in MULTINOM.items():
        ours = found[found["param"] == f"mu{category}"][["estimate", "std_error"]]
        np.testing.assert_allclose(ours, expected, rtol=1e-4)


def test_counts_by_category_are_as_many_single_responses(wine):
    columns = pd.get_dummies(wine["three"]).astype(int)
    cells = pd.concat([wine[["temp", "contact"]], columns], axis=1)
    cells = cells.groupby(["temp", "contact"], observed=True, as_index=False).sum()
    many = gb.Model("cbind(low, mid, high) ~ temp + contact", cells, family="multinomial").fit("ml")
    one = gb.Model("three ~ temp + contact", wine, family="categorical").fit("ml")
    np.testing.assert_allclose(many.fixef()["estimate"], one.fixef()["estimate"], rtol=1e-6)
    kinds = many.model.family.constant(many.model.design.y, many.model.design.response.trials)
    assert many.loglik - kinds.sum() == pytest.approx(one.loglik, abs=1e-8)


def test_two_categories_are_a_logit(wine):
    binary = wine.assign(up=(wine["rating"] > 2).astype(int))
    kinds = {"nagq": 7}
    logit = gb.Model("up ~ temp + (1 | judge)", binary, family="bernoulli").fit("ml", **kinds)
    for family in ("categorical", "acat", "cumulative", "sratio", "cratio"):
        fit = gb.Model("up ~ temp + (1 | judge)", binary, family=family).fit("ml", **kinds)
        assert fit.loglik == pytest.approx(logit.loglik, abs=1e-7)
        slope = fit.fixef().loc["temp[T.warm]", "estimate"]
        assert slope == pytest.approx(logit.fixef().loc["temp[T.warm]", "estimate"], rel=1e-4)


def test_a_dirichlet_fit_is_the_maximum_of_scipys_density():
    p = np.random.default_rng(5).dirichlet([2.0, 3.0, 5.0], 40)
    table = pd.DataFrame(p, columns=list("abc"))
    fit = gb.Model("cbind(a, b, c) ~ 1", table, family="dirichlet").fit("ml")

    def minus(log_alpha):
        return -sum(stats.dirichlet(np.exp(log_alpha)).logpdf(row) for row in p)

    options = {"xatol": 1e-9, "fatol": 1e-11}
    best = optimize.minimize(minus, np.ones(3), method="Nelder-Mead", options=options)
    assert fit.loglik == pytest.approx(-best.fun, abs=1e-6)
    assert fit.draws.constants["phi"][0] == pytest.approx(np.exp(best.x).sum(), rel=1e-4)


@pytest.mark.parametrize(("left", "name"), [("rating", "sratio"), ("three", "categorical")])
def test_likelihoods_with_random_intercepts_are_integrals(wine, left, name):
    """SciPy's adaptive integration of each judge's rows, at the parameters that were found."""
    two = np.where(wine["three"] == "low", "l", "u")
    table = wine if name == "sratio" else wine.assign(three=two)
    model = gb.Model(f"{left} ~ temp + contact + (1 | judge)", table, family=name)
    fit = model.fit("ml", nagq=25)
    eta = {k: fit.draws.beta[k][0] @ p.X.T for k, p in model.design.predictors.items()}
    sd = fit.varcorr()["estimate"].iloc[0]
    total = 0.0
    for judge in range(9):
        at = model.design.terms[0].index[:, 0] == judge

        def density(u, at=at):
            moved = {k: v[at] + (sd * u if k == model.main else 0.0) for k, v in eta.items()}
            params = moved | ({"disc": 1.0} if name == "sratio" else {})
            logs = model.family.logp(model.design.y[at], None, params)
            return np.exp(logs.sum()) * stats.norm.pdf(u)

        total += np.log(integrate.quad(density, -8, 8, epsabs=0, epsrel=1e-10)[0])
    assert fit.loglik == pytest.approx(total, abs=1e-6)


def test_effects_of_several_categories_may_be_correlated(data):
    model = gb.Model("y ~ x + (1 |p| g)", data, family="categorical")
    (term,) = model.design.terms
    assert {loading.param for loading in term.loadings} == {"muc", "mud"}
    assert len(gb.Model("y ~ x + (1 | g)", data, family="categorical").design.terms) == 2


def test_a_category_may_have_a_formula_of_its_own(data):
    model = gb.Model(["y ~ x", "mud ~ z"], data, family="categorical")
    assert model.design.predictors["muc"].names == ("Intercept", "x")
    assert model.design.predictors["mud"].names == ("Intercept", "z")


# ---- what is refused


@pytest.mark.parametrize(
    ("formula", "family", "error", "words"),
    [
        ("cbind(a, b, c) ~ x", "binomial", gb.DataError, "3 columns"),
        ("a ~ x", "multinomial", gb.DataError, "cbind"),
        ("cbind(a, b) ~ x", "categorical", gb.DataError, "categories"),
        ("x ~ z", "categorical", gb.DataError, "whole numbers"),
        ("cbind(a, b, c) ~ x", "dirichlet", gb.DataError, "sum to one"),
        ("cbind(p1, p2, p3) ~ x", "multinomial", gb.DataError, "whole"),
        ("y ~ cs(x)", "categorical", gb.NotSupportedError, "specific to a category"),
    ],
)
def test_what_does_not_fit_is_said(data, formula, family, error, words):
    with pytest.raises(error, match=words):
        gb.Model(formula, data, family=family)


def test_categories_without_order_have_no_quantiles(data):
    fit = gb.Model("y ~ x", data, family="categorical").fit("ml")
    with pytest.raises(gb.NotSupportedError, match="no order"):
        fit.residuals()
    with pytest.raises(gb.NotSupportedError, match="param:muc"):
        fit.predict(kind="linear")


@pytest.mark.slow
def test_draws_around_the_mode_are_those_of_nuts(wine):
    model = gb.Model("three ~ temp + (1 | judge)", wine, family="categorical")
    around, nuts = (model.fit(method, seed=2, chains=2).fixef() for method in ("posthoc", "nuts"))
    error = np.hypot(
        around["std_error"] / np.sqrt(around["ess_bulk"]),
        nuts["std_error"] / np.sqrt(nuts["ess_bulk"]),
    )
    assert (np.abs(around["estimate"] - nuts["estimate"]) < 5 * error).all()
