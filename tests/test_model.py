"""The model as a value: default and user priors, links, centring, names, and its PyMC reader."""

import builtins
import subprocess
import sys

import numpy as np
import pandas as pd
import preliz as pz
import pymc as pm
import pytest
from scipy import stats

import glmm_bayes as gb
from glmm_bayes.density import compiled_density, read_density
from glmm_bayes.errors import NotSupportedError, UnknownNameError

N = 60
Prior = gb.Prior


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(2)
    x = rng.normal(10.0, 4.0, N)
    return pd.DataFrame(
        {
            "x": x,
            "z": rng.normal(size=N),
            "f": np.resize(list("abc"), N),
            "g": np.resize([f"g{k}" for k in range(6)], N),
            "h": np.repeat(list("uvwp"), N // 4),
            "y": 3 * x + rng.normal(0, 20, N),
            "count": rng.poisson(4, N),
            "n": 8,
            "wins": rng.integers(0, 9, N),
            "yes": rng.integers(0, 2, N).astype(bool),
            "o": rng.normal(2, 1, N),
        }
    )


def priors_of(model):
    """List priors by the label that a reader would give them."""
    found = {}
    for block in model.blocks:
        labels = [f"{block.name}[{label}]" for label in block.labels] or [block.name]
        found |= dict(zip(labels, zip(block.priors, block.sources, strict=True), strict=True))
    return found


def same(prior, other):
    assert prior.distribution == other.distribution
    assert set(prior.arguments) == set(other.arguments)
    for name, value in other.arguments.items():
        assert prior.arguments[name] == pytest.approx(value, rel=6e-3), name


# ---- default priors: the published rule, with three digits


def test_default_priors_of_a_gaussian_model(data):
    y, x = data["y"], data["x"]
    s = max(2.5, 1.4826 * np.median(np.abs(y - np.median(y))))
    found = priors_of(gb.Model("y ~ x + f + (1 + x | g)", data))
    assert {source for _, source in found.values()} == {"default"}
    expected = {
        "beta[Intercept]": Prior("StudentT", nu=3, mu=np.median(y), sigma=s),
        "beta[x]": Prior("Normal", mu=0, sigma=2.5 * s / x.std(ddof=0)),
        "beta[f[T.b]]": Prior("Normal", mu=0, sigma=2.5 * s / (data["f"] == "b").std(ddof=0)),
        "sd_g[Intercept]": Prior("HalfStudentT", nu=3, sigma=s),
        "sd_g[x]": Prior("HalfStudentT", nu=3, sigma=s / x.std(ddof=0)),
        "partial_g[0]": Prior("Beta", alpha=2, beta=2),
        "sigma": Prior("HalfStudentT", nu=3, sigma=s),
    }
    assert set(found) == {*expected, "beta[f[T.c]]"}
    for name, prior in expected.items():
        same(found[name][0], prior)


def test_default_priors_on_the_log_scale(data):
    logs = np.log(np.where(data["count"] > 0, data["count"], 0.1))
    found = priors_of(gb.Model("count ~ z + offset(o) + (1 | g)", data, family="poisson"))
    centre = np.median(logs) - data["o"].mean()
    same(found["beta[Intercept]"][0], Prior("StudentT", nu=3, mu=centre, sigma=2.5))
    same(found["beta[z]"][0], Prior("Normal", mu=0, sigma=6.25 / data["z"].std(ddof=0)))
    same(found["sd_g[Intercept]"][0], Prior("HalfStudentT", nu=3, sigma=2.5))


@pytest.mark.parametrize("link", ["logit", "probit", "cloglog"])
def test_default_priors_of_probabilities(data, link):
    formula = "wins | trials(n) ~ z + (1 | g)"
    found = priors_of(gb.Model(formula, data, family="binomial", link=link))
    same(found["beta[Intercept]"][0], Prior("StudentT", nu=3, mu=0, sigma=2.5))
    same(found["sd_g[Intercept]"][0], Prior("HalfStudentT", nu=3, sigma=2.5))


def test_every_default_prior_is_proper_and_in_its_support(data):
    for name, response in (("gamma", "o"), ("student", "y"), ("negbinomial", "count")):
        given = data.assign(o=data["o"].abs() + 0.1)
        model = gb.Model(f"{response} ~ x + (1 + x + z | g) + cs(0 + f | h)", given, family=name)
        rng = np.random.default_rng(1)
        for block in model.blocks:
            for prior in block.priors:
                draws = prior.sample(rng, (50,))
                assert ((draws > block.support[0]) & (draws < block.support[1])).all()


def test_priors_of_a_column_without_spread_are_finite(data):
    model = gb.Model("y ~ 0 + c + (0 + c | g)", data.assign(c=2.0))
    assert np.isfinite([p.arguments["sigma"] for p, _ in priors_of(model).values()]).all()


# ---- priors of the user's

FORMULA = "y ~ x + z + (1 + x | g) + (1 | h)"


@pytest.mark.parametrize(
    ("key", "reached"),
    [
        ("beta", {"beta[Intercept]", "beta[x]", "beta[z]"}),
        ("beta[z]", {"beta[z]"}),
        ("intercept", {"beta[Intercept]"}),
        ("sd", {"sd_g[Intercept]", "sd_g[x]", "sd_h[Intercept]"}),
        ("sd_g", {"sd_g[Intercept]", "sd_g[x]"}),
        ("sd_g[x]", {"sd_g[x]"}),
        ("sigma", {"sigma"}),
    ],
)
def test_a_prior_reaches_what_its_name_says(data, key, reached):
    found = priors_of(gb.Model(FORMULA, data, priors={key: Prior("Exponential", lam=7.0)}))
    assert {name for name, (_, source) in found.items() if source == key} == reached
    for name, (prior, source) in found.items():
        assert (prior.distribution == "Exponential") == (name in reached)
        assert source in (key, "default")


def test_the_narrowest_name_wins(data):
    sizes = {"sd": 1.0, "sd_g": 2.0, "sd_g[x]": 3.0, "beta": 4.0, "beta[x]": 5.0}
    priors = {key: Prior("Exponential", lam=lam) for key, lam in sizes.items()}
    for order in (priors, dict(reversed(priors.items()))):
        found = priors_of(gb.Model(FORMULA, data, priors=order))
        rates = {name: prior.arguments.get("lam") for name, (prior, _) in found.items()}
        assert rates["sd_g[x]"] == 3.0
        assert rates["sd_g[Intercept]"] == 2.0
        assert rates["sd_h[Intercept]"] == 1.0
        assert rates["beta[x]"] == 5.0
        assert rates["beta[z]"] == 4.0


def test_entries_of_a_vector_prior(data):
    priors = {
        "beta": Prior("Normal", mu=[1, 2, 3], sigma=0.5),
        "sd_g": Prior("HalfNormal", sigma=[4, 5]),
    }
    found = priors_of(gb.Model(FORMULA, data, priors=priors))
    means = [found[f"beta[{c}]"][0].arguments["mu"] for c in ("Intercept", "x", "z")]
    scales = [found[f"sd_g[{c}]"][0].arguments["sigma"] for c in ("Intercept", "x")]
    assert means == [1, 2, 3]
    assert scales == [4, 5]


def test_a_number_holds_a_parameter_fixed(data):
    model = gb.Model(FORMULA, data, priors={"beta[x]": 3, "sigma": 20.0})
    joint = read_density(model)
    free = gb.Model(FORMULA, data)
    assert joint.size == read_density(free).size - 2
    theta = joint.outer.constrain(np.zeros(joint.outer.size))
    assert theta[model.layout["sigma"]] == 20.0
    assert theta[model.layout["beta"].start + 1] == 3.0


def test_priors_of_correlations(data):
    model = gb.Model("y ~ (1 + x + z | g)", data, priors={"corr_g": Prior("LKJCorr", eta=3)})
    shapes = [p.arguments["alpha"] for n, (p, _) in priors_of(model).items() if "partial" in n]
    assert shapes == [3.5, 3.5, 3.0]
    other = gb.Model("y ~ (1 + x + z | g)", data, priors={"corr": Prior("LKJCorr", eta=3)})
    assert [b.priors[0].arguments for b in other.blocks] == [
        b.priors[0].arguments for b in model.blocks
    ]


def test_preliz_distributions_are_priors(data):
    priors = {"beta[x]": pz.Normal(1, 2), "sigma": pz.HalfNormal(3)}
    found = priors_of(gb.Model(FORMULA, data, priors=priors))
    same(found["beta[x]"][0], Prior("Normal", mu=1, sigma=2))
    same(found["sigma"][0], Prior("HalfNormal", sigma=3))


def test_priors_of_other_predictors(data):
    formulas = ["y ~ x + (1 | g)", "sigma ~ z + (1 | g)"]
    priors = {
        "beta_sigma[z]": Prior("Normal", mu=0, sigma=0.5),
        "intercept_sigma": Prior("Normal", mu=1, sigma=2),
        "sd_sigma_g": Prior("Exponential", lam=4),
    }
    found = priors_of(gb.Model(formulas, data, priors=priors))
    own = {name: source for name, (_, source) in found.items() if source != "default"}
    assert own == {
        "beta_sigma[Intercept]": "intercept_sigma",
        "beta_sigma[z]": "beta_sigma[z]",
        "sd_sigma_g[Intercept]": "sd_sigma_g",
    }


# ---- columns centred about their means


def test_columns_are_centred_while_sampling(data):
    model = gb.Model("y ~ x + z", data)
    np.testing.assert_allclose(model.means("mu"), [0, data["x"].mean(), data["z"].mean()])


@pytest.mark.parametrize("key", ["beta[Intercept]", "beta"])
def test_a_prior_of_the_intercept_itself_keeps_columns_as_they_are(data, key):
    model = gb.Model("y ~ x + z", data, priors={key: Prior("Normal", mu=0, sigma=5)})
    assert not model.means("mu").any()
    same(priors_of(model)["beta[Intercept]"][0], Prior("Normal", mu=0, sigma=5))


def test_without_an_intercept_nothing_is_centred(data):
    assert not gb.Model("y ~ 0 + x + f", data).means("mu").any()


def test_centring_does_not_change_the_model(data):
    """Flat priors apart, beta has one likelihood whichever way it is written."""
    flat = {"beta[x]": Prior("Normal", mu=0, sigma=1e6), "sigma": 2.0}
    centred = gb.Model("y ~ x", data, priors={**flat, "intercept": Prior("Normal", sigma=1e6)})
    plain = gb.Model("y ~ x", data, priors={**flat, "beta[Intercept]": Prior("Normal", sigma=1e6)})
    beta = np.array([[1.0, 3.0], [-2.0, 3.3]])
    gamma = beta + np.c_[beta[:, 1] * data["x"].mean(), [0.0, 0.0]]
    one = [read_density(plain).value_and_gradient(b)[0] for b in beta]
    other = [read_density(centred).value_and_gradient(c)[0] for c in gamma]
    assert one[0] - one[1] == pytest.approx(other[0] - other[1], rel=1e-9)


# ---- how effects are sampled


def grouped_data(levels, rows, sd, noise):
    rng = np.random.default_rng(4)
    g = np.repeat(np.arange(levels), rows)
    y = 3 + rng.normal(0, sd, levels)[g] + rng.normal(0, noise, len(g))
    return pd.DataFrame(
        {"g": g, "y": y, "h": rng.integers(0, 5, len(g)), "c": rng.poisson(np.exp(y / 3))}
    )


def test_informed_effects_are_centred_by_default():
    model = gb.Model("y ~ (1 | g)", grouped_data(30, 60, sd=2.0, noise=0.5))
    assert model.centering == {"g": True}


def test_weakly_informed_effects_are_not():
    model = gb.Model("y ~ (1 | g)", grouped_data(30, 2, sd=0.3, noise=2.0))
    assert model.centering == {"g": False}


def test_each_term_is_judged_by_itself():
    model = gb.Model("y ~ (1 | g) + (1 | h)", grouped_data(30, 60, sd=2.0, noise=0.5))
    assert model.centering == {"g": True, "h": False}
    counts = gb.Model("c ~ (1 | g)", grouped_data(30, 60, sd=2.0, noise=0.5), family="poisson")
    assert counts.centering == {"g": True}


def test_centring_by_name():
    data = grouped_data(30, 2, sd=0.3, noise=2.0)
    formula = "y ~ (1 | g) + (1 | h)"
    assert gb.Model(formula, data, centering="centered").centering == {"g": True, "h": True}
    assert gb.Model(formula, data, centering={"h": "centered"}).centering == {"g": False, "h": True}
    informed = grouped_data(30, 60, sd=2.0, noise=0.5)
    assert gb.Model(formula, informed, centering="noncentered").centering == {
        "g": False,
        "h": False,
    }


def test_a_constant_response_is_no_reason_to_centre(data):
    assert gb.Model("y ~ (1 | g)", data.assign(y=1.0)).centering == {"g": False}


# ---- families and links


def test_links_by_name_and_by_parameter(data):
    model = gb.Model("count ~ x", data, family="poisson", link="softplus")
    assert model.links["mu"].name == "softplus"
    model = gb.Model(["y ~ x", "sigma ~ z"], data, link={"sigma": "softplus"})
    assert (model.links["mu"].name, model.links["sigma"].name) == ("identity", "softplus")
    assert gb.Model("y ~ x", data).links["sigma"].name == "log"


def test_what_has_no_formula_is_constant(data):
    model = gb.Model(["y ~ x", "nu ~ 1"], data, family="student")
    assert model.constants == ("sigma",)
    assert list(model.design.predictors) == ["mu", "nu"]


SCRIPT = """
import numpy as np, pandas as pd, pymc as pm
import glmm_bayes as gb
from glmm_bayes.arrays import NUMPY

gb.add_link(gb.Link("cube", lambda mu, xp=NUMPY: mu ** (1 / 3), lambda eta, xp=NUMPY: eta**3,
                    lambda eta: 3 * eta**2, (0.0, np.inf)))
gb.add_family(gb.Family(
    name="gumbel",
    parameters=(
        gb.Parameter("mu", "identity", ("identity", "log"), (-np.inf, np.inf)),
        gb.Parameter("scale", "log", ("log",), (0.0, np.inf), gb.Prior("HalfNormal", sigma=2)),
    ),
    distribution="Gumbel",
    arguments=lambda p, trials, xp: {"mu": p["mu"], "beta": p["scale"]},
))
rng = np.random.default_rng(1)
data = pd.DataFrame({"y": rng.gumbel(2.0, 1.0, 40), "g": np.resize(list("abcd"), 40)})
fit = gb.Model("y ~ 1 + (1 | g)", data, family="gumbel", link={"mu": "cube"}).fit(
    draws=20, tune=50, chains=1, seed=1, progressbar=False)
print(sorted(fit.idata["posterior"].data_vars))
"""


def test_a_family_and_a_link_of_ones_own_in_a_script():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[0] == "['b_g', 'beta', 'scale', 'sd_g']"


def test_a_parameter_of_a_family_is_not_called_as_the_coefficients_are(data):
    family = gb.Family(
        name="own",
        parameters=(
            *gb.FAMILIES["gaussian"].parameters[:1],
            gb.Parameter("beta", "log", ("log",), (0.0, np.inf)),
        ),
        distribution="Gumbel",
        arguments=lambda p, trials, xp: dict(p),
    )
    with pytest.raises(NotSupportedError, match="family 'own' has a parameter called 'beta'"):
        gb.Model("y ~ x", data, family=family)


@pytest.mark.parametrize("group", ["chain", "draw", "coef", "beta", "mu", "sigma", "y", "eta"])
def test_groups_that_results_could_not_name(data, group):
    with pytest.raises(gb.DataError, match=f"The group '{group}' of .* rename the column"):
        gb.Model(f"count ~ (1 | {group})", data.assign(**{group: data["g"]}))


# ---- the PyMC reader


def test_dims_and_coords_of_the_pymc_model(data):
    formulas = ["y ~ x + (1 + x | g) + (1 | h)", "sigma ~ z"]
    built = gb.Model(formulas, data).pymc
    assert isinstance(built, pm.Model)
    coords = {name: list(values) for name, values in built.coords.items()}
    assert coords["coef"] == ["Intercept", "x"]
    assert coords["coef_sigma"] == ["Intercept", "z"]
    assert coords["g"] == [f"g{k}" for k in range(6)]
    assert coords["g__coef"] == coords["g__coef2"] == ["Intercept", "x"]
    assert coords["__obs__"] == list(range(N))
    dims = built.named_vars_to_dims
    assert dims["beta"] == ("coef",)
    assert dims["beta_sigma"] == ("coef_sigma",)
    assert dims["sd_g"] == ("g__coef",)
    assert dims["corr_g"] == ("g__coef", "g__coef2")
    assert dims["b_g"] == ("g", "g__coef")
    assert dims["y"] == ("__obs__",)
    assert set(built.named_vars) >= {"beta", "beta_sigma", "sd_g", "sd_h", "corr_g", "b_g", "b_h"}


def test_the_pymc_model_can_be_extended(data):
    model = gb.Model("y ~ x", data)
    with model.pymc:
        pm.Deterministic("twice", 2 * model.pymc["beta"])
    assert "twice" in model.pymc.named_vars


def test_the_pymc_model_without_predictors(data):
    built = gb.Model("y ~ 0", data).pymc
    assert [rv.name for rv in built.free_RVs] == ["sigma"]


def test_a_graph_needs_graphviz(data, monkeypatch):
    importer = builtins.__import__

    def without(name, *rest, **given):
        if name.split(".")[0] == "graphviz":
            raise ImportError(name)
        return importer(name, *rest, **given)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.delitem(sys.modules, "graphviz", raising=False)
    with pytest.raises(NotSupportedError, match=r"needs the package graphviz: pip install"):
        gb.Model("y ~ x", data).graph()


def test_unknown_methods_get_a_suggestion(data):
    with pytest.raises(UnknownNameError, match="no method 'nutss'. Did you mean 'nuts'?"):
        gb.Model("y ~ x", data).fit("nutss")


def test_the_density_of_a_normal_model_is_the_textbook_one(data):
    """The whole value, but for priors and Jacobian, against scipy."""
    priors = {"beta": Prior("Uniform", lower=-1e3, upper=1e3), "sigma": 4.0}
    model = gb.Model("y ~ x", data, priors=priors)
    joint = read_density(model)

    def likelihood(beta):
        mean = beta[0] + beta[1] * data["x"]
        return stats.norm(mean, 4.0).logpdf(data["y"]).sum()

    points = np.array([[1.0, 2.0], [-3.0, 3.5]])
    found = []
    for beta in points:
        x = joint.outer.unconstrain(np.append(beta, 4.0))
        jacobian = joint.outer.jacobian(x, joint.outer.constrain(x))[0]
        found.append(compiled_density(model, joint)(x)[0] - jacobian)
    assert found[0] - found[1] == pytest.approx(likelihood(points[0]) - likelihood(points[1]))
