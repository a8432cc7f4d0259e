"""The law of the readers: arrays, compiled kernels and PyMC give one density, up to a constant."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from mixture_cases import LAWFUL, LONG
from pointmap import pymc_logp, pymc_point
from scipy import stats

import glmm_bayes as gb
from glmm_bayes.density import compiled_density, read_density
from glmm_bayes.engine import kernels
from glmm_bayes.families.links import CIRCLE, POSITIVE, UNIT

N = 36
COLUMNS = {"ordered": ["0 + f"], "rr": ["1 + x", "1 + x + f"], "any": ["1", "1 + x + f"]}
TERMS = [
    (name, columns)
    for name, kind in gb.COVARIANCES.items()
    for columns in COLUMNS["ordered" if kind.ordered else name if name in COLUMNS else "any"]
]
# Those of categories have laws of their own, in test_ordinal.py and test_nominal.py.
PLAIN = [name for name, each in LAWFUL.items() if each.categories is None]
LINKED = [
    (family.name, parameter.name, link)
    for family in (LAWFUL[name] for name in PLAIN if name not in LONG)
    for parameter in family.parameters
    for link in parameter.links
]
RESPONSES = {
    "bernoulli": "yes",
    "von_mises": "angle",
    "shifted_lognormal": "late",
    "wiener": "signed",
    "gen_extreme_value": "share",
}
# Starts where, of a distribution whose ends depend on its parameters, all rows are inside.
WHERE_DENSE = {("gen_extreme_value", "xi"): 0.05, ("gen_extreme_value", "sigma"): 3.0}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(11)
    return pd.DataFrame(
        {
            "x": rng.normal(size=N),
            "z": rng.normal(2.0, 1.5, size=N),
            "f": np.resize(list("abc"), N),
            "g": np.resize([f"g{k}" for k in range(5)], N),
            "g2": rng.choice([f"g{k}" for k in range(6)], N),
            "h": np.repeat(["u", "v", "w"], N // 3),
            "w": rng.uniform(0.2, 3.0, N),
            "w2": rng.uniform(0.2, 3.0, N),
            "o": rng.normal(size=N),
            "real": rng.normal(1.0, 2.0, N),
            "size": rng.gamma(2.0, 1.0, N),
            "share": rng.uniform(0.05, 0.95, N),
            "yes": rng.integers(0, 2, N),
            "count": rng.poisson(3.0, N),
            "n": rng.integers(4, 12, N),
            "wins": rng.integers(0, 5, N),
            "some": 1 + rng.poisson(2.0, N),
            "size0": np.resize([0.0, 0.4, 2.1, 1.3], N),
            "share0": np.resize([0.0, 0.4, 0.1, 0.7], N),
            "ends": np.resize([0.0, 0.4, 1.0, 0.7, 0.2], N),
            "angle": rng.uniform(-3.0, 3.0, N),
            "late": 6.0 + rng.gamma(2.0, 1.0, N),
            "signed": np.resize([7.4, -6.3, 8.1, -6.8, 9.6], N),
        }
    )


def response(family):
    if family.name in RESPONSES:
        return RESPONSES[family.name]
    if family.needs_trials:
        return "wins | trials(n)"
    takes = {v: family.problem(np.array([v]), None) is None for v in (-1.0, 0.0, 1.0, 2.0)}
    if family.discrete:
        return "count" if takes[0] else "some"
    if takes[-1]:
        return "real"
    if takes[2]:
        return "size0" if takes[0] else "size"
    return "ends" if takes[1] else "share0" if takes[0] else "share"


def gradient_by_differences(function, x, h=1e-4):
    out = np.empty_like(x)
    for k in range(len(x)):
        e = h * np.eye(len(x))[k]
        near = function(x + e) - function(x - e)
        out[k] = (8 * near - (function(x + 2 * e) - function(x - 2 * e))) / (12 * h)
    return out


def centre_of(model):
    """Choose for each predictor's Intercept a value within the reach of its link."""
    chosen = {}
    for param, predictor in model.design.predictors.items():
        support = next(p.support for p in model.family.parameters if p.name == param)
        link = model.links[param].name
        start = 0.2
        if link in ("identity", "inverse", "inverse_squared", "sqrt"):
            start = 0.5 if support == UNIT else 3.0
        elif link == "log" and support == UNIT:
            start = -1.5
        if support in ((1.0, 2.0), CIRCLE):
            start = {"identity": 1.4}.get(link, 0.2)
        start = WHERE_DENSE.get((model.family.name, param), start)
        block = model.layout["beta" if param == "mu" else f"beta_{param}"]
        chosen[block.start + predictor.names.index("Intercept")] = start
    return chosen


def points(model, joint, count=3, *, scale=0.12):
    rng = np.random.default_rng(3)
    for _ in range(count):
        x = rng.normal(scale=scale, size=joint.size)
        for position, value in centre_of(model).items():
            if position in joint.outer.free:
                x[np.flatnonzero(joint.outer.free == position)] += value
        yield x


def check_arrays_and_kernels(model, scale=0.12):
    joint = read_density(model)
    evaluate = compiled_density(model, joint)
    ours, theirs = [], []
    for x in points(model, joint, scale=scale):
        value, gradient = joint.value_and_gradient(x)
        expected = gradient_by_differences(lambda x: joint.value_and_gradient(x)[0], x)
        # The difference quotient loses the digits that the value has before its decimal point.
        tolerance = 3e-8 * (1 + abs(value))
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=tolerance)
        other, by_kernels = evaluate(x)
        np.testing.assert_allclose(by_kernels, gradient, rtol=1e-8, atol=1e-8)
        ours.append(value)
        theirs.append(other)
    np.testing.assert_allclose(np.diff(ours), np.diff(theirs), rtol=1e-9, atol=1e-9)


def check_pymc(model):
    joint = read_density(model)
    logp = pymc_logp(model)
    ours, theirs = [], []
    for x in points(model, joint):
        ours.append(joint.value_and_gradient(x)[0])
        theirs.append(float(logp(**pymc_point(model, joint, x))))
    assert np.ptp(ours) > 1e-3
    scale = 1e-9 * (1 + np.abs(theirs).max())
    np.testing.assert_allclose(np.diff(ours), np.diff(theirs), rtol=1e-8, atol=scale)


def check(model):
    check_arrays_and_kernels(model)
    check_pymc(model)


# ---- every family, link and structure


@pytest.mark.parametrize("name", PLAIN)
def test_a_family_with_constant_parameters(data, name):
    check(gb.Model(f"{response(LAWFUL[name])} ~ x + (1 + x | g)", data, family=name))


@pytest.mark.parametrize("name", PLAIN)
def test_a_family_with_a_predictor_for_every_parameter(data, name):
    family = LAWFUL[name]
    others = [f"{p.name} ~ z + (1 | h)" for p in family.parameters[1:]]
    check(gb.Model([f"{response(family)} ~ x + f + (1 | g)", *others], data, family=name))


@pytest.mark.parametrize(("name", "param", "link"), LINKED)
def test_every_link_of_every_parameter(data, name, param, link):
    family = LAWFUL[name]
    formulas = [f"{response(family)} ~ x + (1 | g)"]
    if param != "mu":
        formulas.append(f"{param} ~ z + (1 | h)")
    # So near to the centre that an identity link of a probability stays in (0, 1).
    model = gb.Model(formulas, data, name, {param: link}, centering="noncentered")
    check_arrays_and_kernels(model, scale=0.03)


@pytest.mark.parametrize("link", [n for n, k in gb.LINKS.items() if k.support == UNIT])
def test_the_graph_of_a_link_of_probabilities(data, link):
    check_pymc(gb.Model("wins | trials(n) ~ x + (1 | g)", data, family="binomial", link=link))


@pytest.mark.parametrize("link", [n for n, k in gb.LINKS.items() if k.support == POSITIVE])
def test_the_graph_of_a_link_of_positive_means(data, link):
    check_pymc(gb.Model("size ~ x + (1 | g)", data, family="gamma", link=link))


@pytest.mark.parametrize("centering", ["centered", "noncentered"])
@pytest.mark.parametrize(("structure", "columns"), TERMS)
def test_a_structure_of_columns(data, structure, columns, centering):
    if structure == "rr" and centering == "centered":
        pytest.skip("a covariance of reduced rank has no inverse")
    formula = f"real ~ x + {structure}({columns} | g)"
    check(gb.Model(formula, data, centering=centering))


# ---- what formulas can say

FORMULAS = {
    "nothing fixed": "real ~ 0 + (1 | g)",
    "no random term": "real ~ x * f",
    "no intercept": "count ~ 0 + f + (1 | g)",
    "crossed": "real ~ x + (1 | g) + (1 + x | h)",
    "nested": "real ~ x + (1 | h/g)",
    "two on one group": "real ~ x + (1 | g) + (0 + x | g)",
    "bars": "real ~ x + (1 + x + z || g)",
    "interaction group": "real ~ x + (1 | g:h)",
    "offset": "count ~ x + offset(o) + (1 | g)",
    "weights": "real | weights(w) ~ x + (1 | g)",
    "members": "real ~ x + (1 | mm(g, g2))",
    "members weighted": "real ~ x + (1 + x | mm(g, g2, weights=(w, w2)))",
    "spline": "real ~ bs(x, df=5) + (1 | g)",
    "smooth": "count ~ s(x, k=6, bs='cr') + (1 | g)",
    "smooths of levels": "real ~ s(x, k=5, by=f) + (1 | g)",
    "surface": "count ~ t2(x, z, k=4)",
}


@pytest.mark.parametrize("name", FORMULAS)
def test_a_kind_of_formula(data, name):
    formula = FORMULAS[name]
    family = "poisson" if formula.startswith("count") else "gaussian"
    # So that terms of both kinds stand in one model.
    centering = {"g": "centered"} if "| g)" in formula else "noncentered"
    check_free(gb.Model(formula, data, family=family, centering=centering))


def check_free(model):
    """Check at points that no link narrows."""
    joint = read_density(model)
    evaluate, logp = compiled_density(model, joint), pymc_logp(model)
    rng = np.random.default_rng(5)
    values = []
    for _ in range(3):
        x = rng.normal(scale=0.4, size=joint.size)
        value, gradient = joint.value_and_gradient(x)
        expected = gradient_by_differences(lambda x: joint.value_and_gradient(x)[0], x)
        tolerance = 3e-8 * (1 + abs(value))
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=tolerance)
        other, by_kernels = evaluate(x)
        np.testing.assert_allclose(by_kernels, gradient, rtol=1e-8, atol=1e-8)
        values.append((value, other, float(logp(**pymc_point(model, joint, x)))))
    steps = np.diff(values, axis=0)
    assert np.abs(steps).max() > 1e-3
    scale = 1e-9 * np.abs(values).max()
    np.testing.assert_allclose(steps[:, 1], steps[:, 0], rtol=1e-8, atol=scale)
    np.testing.assert_allclose(steps[:, 2], steps[:, 0], rtol=1e-8, atol=scale)


@pytest.mark.parametrize("centering", ["centered", "noncentered"])
@pytest.mark.parametrize("structure", ["us", "cs"])
def test_one_covariance_over_several_predictors(data, structure, centering):
    formulas = [f"real ~ x + {structure}(1 + x |k| g)", f"sigma ~ z + {structure}(1 |k| g)"]
    model = gb.Model(formulas, data, centering=centering)
    assert [term.columns for term in model.design.terms] == [("Intercept", "x", "sigma_Intercept")]
    check_free(model)


def test_what_belongs_to_the_levels_is_sampled_with_them(data):
    """Each row's eta is its level's own coefficients times its columns, and what varies within."""
    wide = data.assign(
        u=data["g"].str[1].astype(float) ** 2, s=data["h"].map({"u": 1, "v": 4, "w": 0})
    )
    model = gb.Model(
        "real ~ x + z + u + x:u + s + (1 + x | g) + (1 | h)", wide, centering="centered"
    )
    check_free(model)
    names = model.design.predictors["mu"].names
    pairs = zip(model.design.terms, read_density(model).effects, strict=True)
    taken = {term.name: {names[k] for k in own.shares.outer} for term, own in pairs}
    assert taken == {"h": {"Intercept", "s"}, "g": {"x", "u", "x:u"}}


def test_weights_and_trials_together(data):
    formula = "wins | trials(n) + weights(w) ~ x + offset(o) + (1 | g)"
    check_free(gb.Model(formula, data, family="binomial"))
    check_free(gb.Model(formula, data, family="beta_binomial"))


def test_weights_count_rows(data):
    """A row of weight 3 is three rows: the log densities differ by no more than a constant."""
    repeats = np.resize([1, 2, 3], N)
    long = data.loc[np.repeat(np.arange(N), repeats)].reset_index(drop=True)
    # Default priors look at the data, which the two do not share.
    priors = {
        "beta": gb.Prior("Normal", mu=0, sigma=2),
        "sd": gb.Prior("HalfNormal", sigma=1),
        "sigma": gb.Prior("HalfNormal", sigma=1),
    }
    few = gb.Model("real | weights(k) ~ x + (1 | g)", data.assign(k=repeats), priors=priors)
    many = gb.Model("real ~ x + (1 | g)", long, priors=priors)
    one, other = read_density(few), read_density(many)
    for x in points(few, one):
        value, gradient = one.value_and_gradient(x)
        expected, expected_gradient = other.value_and_gradient(x)
        assert value == pytest.approx(expected, rel=1e-12)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-9, atol=1e-9)


# ---- what priors can say

PRIORS = {
    "fixed coefficient": {"beta[x]": 0.3},
    "all coefficients fixed": {"beta": 0.1},
    "fixed standard deviation": {"sd_g": 0.7},
    "one of them fixed": {"sd_g[x]": 0.4},
    "fixed scale": {"sigma": 2.0},
    "vector": {"beta": gb.Prior("Normal", mu=[0, 1, 2], sigma=[1, 2, 3])},
    "several forms": {
        "beta[x]": gb.Prior("Cauchy", alpha=0, beta=1),
        "beta[z]": 0.5,
        "intercept": gb.Prior("Normal", mu=1, sigma=3),
    },
    "one distribution, two forms": {"beta[x]": gb.Prior("Normal", sigma=1)},
    "derived": {
        "beta": gb.Prior("Laplace", mu=0.0, b=1.5),
        "sigma": gb.Prior("Weibull", alpha=2, beta=3),
    },
    "derived on an interval": {"sd_g": gb.Prior("Kumaraswamy", a=2.0, b=2.0)},
    "truncated": {
        "sigma": gb.Prior("Truncated", dist=gb.Prior("Normal", mu=1, sigma=2), lower=0.5, upper=6),
        "beta[x]": gb.Prior("Truncated", dist=gb.Prior("Normal", mu=1, sigma=2), upper=3),
    },
    "truncated vector": {
        "beta": gb.Prior("Truncated", dist=gb.Prior("Normal", mu=[0, 1, 2], sigma=2), lower=-4)
    },
    "half-lines and intervals": {
        "sd_g[Intercept]": gb.Prior("InverseGamma", alpha=3, beta=2),
        "sd_g[x]": gb.Prior("Uniform", lower=0, upper=5),
        "sigma": gb.Prior("LogNormal", mu=0, sigma=1),
    },
    "correlations": {"corr_g": gb.Prior("LKJCorr", eta=4), "sd": gb.Prior("Exponential", lam=2)},
}


@pytest.mark.parametrize("name", PRIORS)
def test_a_kind_of_prior(data, name):
    check_free(gb.Model("real ~ x + z + (1 + x | g)", data, priors=PRIORS[name]))


def test_a_prior_of_a_common_correlation(data):
    rho = gb.Prior("Truncated", dist=gb.Prior("Normal", mu=0, sigma=0.4), lower=-0.3, upper=0.9)
    check_free(gb.Model("real ~ cs(0 + f | g)", data, priors={"rho_g": rho}))


def test_everything_fixed_leaves_the_effects(data):
    priors = {"beta": 0.1, "sd": 1.0, "sigma": 1.5}
    model = gb.Model("real ~ x + (1 | g)", data, priors=priors)
    assert read_density(model).outer.size == 0
    check_free(model)


# ---- the ends of probabilities

FAR = [-30.0, -12.0, 12.0, 30.0]
SHAPES = {"probit": stats.norm, "cloglog": stats.gumbel_l, "loglog": stats.gumbel_r}
SHAPES |= {"cauchit": stats.cauchy, "logit": stats.logistic}


@pytest.mark.parametrize("link", SHAPES)
@pytest.mark.parametrize("y", [0.0, 1.0])
def test_probabilities_of_a_binary_response_are_exact_far_out(link, y):
    eta = np.array([-25.0, -9.0, -4.0, -1.0, 0.0, 0.4, 3.0, 5.0, 9.0, 25.0])
    natural = gb.FAMILIES["bernoulli"].natural[link]
    given = np.full(eta.shape, y)
    log_p = SHAPES[link].logcdf(eta) if y else SHAPES[link].logsf(eta)
    slope = np.exp(SHAPES[link].logpdf(eta) - log_p) * (1 if y else -1)
    # Of logarithms near 0 a few absolute digits are lost, which no sum of them would notice.
    np.testing.assert_allclose(natural.core(given, None, eta), log_p, rtol=1e-7, atol=1e-14)
    np.testing.assert_allclose(natural.score(given, None, eta), slope, rtol=1e-7, atol=1e-14)


@pytest.mark.parametrize("link", ["logit", "probit", "cloglog"])
def test_compiled_probabilities_are_those_of_the_arrays(link):
    eta = np.concatenate([np.linspace(-60.0, 6.0, 67), [-600.0]])
    found = np.array([kernels.log_shares(kernels.LINKS.index(link), e) for e in eta])
    natural = gb.FAMILIES["binomial"].natural[link]
    for column, y in ((0, 1.0), (1, 0.0)):
        given, trials = np.full(eta.shape, y), np.ones(eta.shape)
        core, score = natural.core(given, trials, eta), natural.score(given, trials, eta)
        np.testing.assert_allclose(found[:, column], core, rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(found[:, column + 2], score, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("link", SHAPES)
@pytest.mark.parametrize("name", ["bernoulli", "binomial", "beta_binomial", "beta"])
def test_far_predictors_have_a_finite_density(data, name, link):
    model = gb.Model(f"{response(gb.FAMILIES[name])} ~ x + (1 | g)", data, family=name, link=link)
    joint = read_density(model)
    x = np.full(joint.size, 0.1)
    evaluations = (joint.value_and_gradient, compiled_density(model, joint))
    for x[0], evaluate in product(FAR, evaluations):
        value, gradient = evaluate(x)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
