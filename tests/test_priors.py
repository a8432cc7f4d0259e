"""Laws of priors: density, derivative, draws and support agree with scipy and with PyMC."""

import pickle

import numpy as np
import pymc as pm
import pytensor
import pytest
from pytensor.compile.mode import Mode
from scipy import stats

from glmm_bayes.errors import DataError, NotSupportedError, UnknownNameError
from glmm_bayes.priors import DENSITIES, Prior, as_prior, grouped

PYTHON = Mode(linker="py", optimizer="fast_compile")
DRAWS = 20_000

# The arguments of each density, and the same distribution in scipy's words.
SCIPY = {
    "Normal": ({"mu": -1.5, "sigma": 2.5}, stats.norm(-1.5, 2.5)),
    "HalfNormal": ({"sigma": 2.5}, stats.halfnorm(scale=2.5)),
    "StudentT": ({"nu": 3.0, "mu": 0.7, "sigma": 2.5}, stats.t(3.0, 0.7, 2.5)),
    "HalfStudentT": ({"nu": 4.0, "sigma": 2.5}, stats.t(4.0, 0.0, 2.5)),  # half of it
    "Cauchy": ({"alpha": -1.0, "beta": 2.5}, stats.cauchy(-1.0, 2.5)),
    "HalfCauchy": ({"beta": 2.5}, stats.halfcauchy(scale=2.5)),
    "Gamma": ({"alpha": 2.0, "beta": 0.1}, stats.gamma(2.0, scale=10.0)),
    "InverseGamma": ({"alpha": 0.4, "beta": 0.3}, stats.invgamma(0.4, scale=0.3)),
    "Exponential": ({"lam": 0.3}, stats.expon(scale=1 / 0.3)),
    "LogNormal": ({"mu": 0.5, "sigma": 0.8}, stats.lognorm(0.8, scale=np.exp(0.5))),
    "Laplace": ({"mu": 0.3, "b": 2.5}, stats.laplace(0.3, 2.5)),
    "Logistic": ({"mu": 0.3, "s": 2.5}, stats.logistic(0.3, 2.5)),
    "Beta": ({"alpha": 2.0, "beta": 3.5}, stats.beta(2.0, 3.5)),
    "Uniform": ({"lower": -0.5, "upper": 1.0}, stats.uniform(-0.5, 1.5)),
}
# These go through PyMC's graph, for want of a formula here.
EXOTIC = {
    "SkewNormal": ({"mu": 0.5, "sigma": 2.0, "alpha": 3.0}, stats.skewnorm(3.0, 0.5, 2.0)),
    "Gumbel": ({"mu": 1.0, "beta": 2.0}, stats.gumbel_r(1.0, 2.0)),
    "Kumaraswamy": ({"a": 2.0, "b": 1.0}, stats.beta(2.0, 1.0)),
    "Pareto": ({"alpha": 3.0, "m": 2.0}, stats.pareto(3.0, scale=2.0)),
    "Triangular": ({"lower": -1.0, "c": 0.5, "upper": 2.0}, stats.triang(0.5, -1.0, 3.0)),
    "Normal": ({"mu": 1.0, "tau": 4.0}, stats.norm(1.0, 0.5)),
}
CASES = [(n, *c) for table in (SCIPY, EXOTIC) for n, c in table.items()]
of_every_density = pytest.mark.parametrize(
    ("name", "arguments", "truth"), CASES, ids=[f"{n}-{'-'.join(a)}" for n, a, _ in CASES]
)


def quantiles(name, truth):
    """Give points all over the support, and some far out."""
    p = np.array([1e-4, 0.02, 0.3, 0.51, 0.8, 0.97, 0.9999])
    return truth.ppf(0.5 + p / 2 if name == "HalfStudentT" else p)


OF_SEVERAL = {"LKJCorr", "Dirichlet"}


def test_every_density_has_its_counterpart():
    assert set(SCIPY) | OF_SEVERAL == set(DENSITIES)


@of_every_density
def test_core_is_the_log_density_up_to_a_constant(name, arguments, truth):
    x = quantiles(name, truth)
    constant = Prior(name, **arguments).core(x) - truth.logpdf(x)
    np.testing.assert_allclose(constant, constant[0], atol=1e-6)


@of_every_density
def test_core_is_the_log_density_of_the_variable_in_pymc(name, arguments, truth):
    """Both readers see one distribution: `variable` for PyMC, `core` for arrays."""
    prior, x = Prior(name, **arguments), quantiles(name, truth)
    with pm.Model() as model:
        variable = prior.variable("x", shape=x.shape)
    logp = pm.logp(model[variable.name], x).eval(mode=PYTHON)
    constant = prior.core(x) - logp
    np.testing.assert_allclose(constant, constant[0], rtol=1e-12, atol=1e-12)


@of_every_density
def test_score_is_the_derivative_of_core(name, arguments, truth):
    prior, x = Prior(name, **arguments), quantiles(name, truth)
    h = 1e-4 * np.minimum(np.abs(x), np.abs(np.diff(x, append=x[-1] + 1.0)))
    h[-1] = min(h[-1], 1e-4 * (prior.support[1] - x[-1]))
    core = prior.core
    quotient = (8 * (core(x + h) - core(x - h)) - (core(x + 2 * h) - core(x - 2 * h))) / (12 * h)
    np.testing.assert_allclose(prior.score(x), quotient, rtol=1e-6, atol=1e-7)


@of_every_density
def test_draws_follow_the_distribution(name, arguments, truth):
    draws = Prior(name, **arguments).sample(np.random.default_rng(6), (DRAWS // 2, 2))
    assert draws.shape == (DRAWS // 2, 2)

    def cdf(x):
        return 2 * truth.cdf(x) - 1 if name == "HalfStudentT" else truth.cdf(x)

    assert stats.kstest(draws.ravel(), cdf).pvalue > 1e-5


@of_every_density
def test_support_is_where_the_density_is(name, arguments, truth):
    expected = (0.0, np.inf) if name == "HalfStudentT" else truth.support()
    assert Prior(name, **arguments).support == pytest.approx(expected)


@pytest.mark.parametrize("name", sorted(set(DENSITIES) - OF_SEVERAL))
def test_arguments_left_out_mean_the_same_to_both_readers(name):
    needed = {n: 2.0 for n, v in DENSITIES[name].defaults.items() if np.isnan(v)}
    x = np.array([0.2, 0.4, 0.7])
    prior = Prior(name, **needed)
    with pm.Model() as model:
        variable = prior.variable("x", dims=None, shape=3)
    logp = pm.logp(model[variable.name], x).eval(mode=PYTHON)
    constant = prior.core(x) - logp
    np.testing.assert_allclose(constant, constant[0], atol=1e-12)
    assert np.isfinite(prior.score(x)).all()


@pytest.mark.parametrize("name", sorted(set(SCIPY)))
def test_arguments_broadcast(name):
    arguments, truth = SCIPY[name]
    x = quantiles(name, truth)[2:5]
    many = Prior(name, **{k: np.full(3, v) for k, v in arguments.items()})
    one = Prior(name, **arguments)
    np.testing.assert_allclose(many.core(x), one.core(x))
    np.testing.assert_allclose(many.score(x), one.score(x))
    assert many.sample(np.random.default_rng(1), (4, 3)).shape == (4, 3)


def test_exotic_arguments_may_have_one_entry_a_coefficient():
    prior = Prior("Gumbel", mu=[0.0, 5.0], beta=2.0)
    x = np.array([1.0, 4.0])
    truth = stats.gumbel_r([0.0, 5.0], 2.0)
    np.testing.assert_allclose(prior.core(x), truth.logpdf(x), rtol=1e-10)
    draws = prior.sample(np.random.default_rng(2), (5000, 2))
    assert draws.mean(axis=0) == pytest.approx(truth.mean(), abs=6 * 2.6 / np.sqrt(5000))


def test_draws_are_reproducible():
    for prior in (Prior("Normal"), Prior("Gumbel", mu=0.0, beta=1.0)):
        first, second = (prior.sample(np.random.default_rng(9), (5,)) for _ in range(2))
        np.testing.assert_array_equal(first, second)


class TestTruncated:
    inner = Prior("Gamma", alpha=2.0, beta=0.1)
    prior = Prior("Truncated", dist=inner, lower=1.0, upper=20.0)
    truth = stats.gamma(2.0, scale=10.0)

    def test_support(self):
        assert self.prior.support == (1.0, 20.0)
        assert Prior("Truncated", dist=self.inner, lower=-3.0).support == (0.0, np.inf)
        assert Prior("Truncated", dist=Prior("Normal"), upper=-3.0).support == (-np.inf, -3.0)

    def test_density_is_that_of_pymc(self):
        x = np.array([1.5, 4.0, 19.0])
        with pm.Model() as model:
            variable = self.prior.variable("x", shape=3)
        logp = pm.logp(model[variable.name], x).eval(mode=PYTHON)
        constant = self.prior.core(x) - logp
        np.testing.assert_allclose(constant, constant[0], atol=1e-9)
        np.testing.assert_allclose(self.prior.score(x), self.inner.score(x))

    def test_draws(self):
        draws = self.prior.sample(np.random.default_rng(3), (DRAWS,))
        below, above = self.truth.cdf([1.0, 20.0])
        test = stats.kstest(draws, lambda x: (self.truth.cdf(x) - below) / (above - below))
        assert test.pvalue > 1e-5
        assert draws.min() > 1.0
        assert draws.max() < 20.0

    def test_bounds_may_have_one_entry_a_coefficient(self):
        prior = Prior("Truncated", dist=Prior("Normal"), lower=[0.0, 1.0])
        draws = prior.sample(np.random.default_rng(3), (500, 2))
        assert prior.support == (0.0, np.inf)
        assert (draws > [0.0, 1.0]).all()
        assert prior.element(1, 2).support == (1.0, np.inf)

    def test_bounds_without_mass_end_loudly(self):
        prior = Prior("Truncated", dist=Prior("Normal"), lower=40.0)
        with pytest.raises(NotSupportedError, match=r"rejection failed.*between 40 and inf"):
            prior.sample(np.random.default_rng(3), (2,))


def test_element_takes_one_coefficients_prior():
    prior = Prior("Normal", mu=[0.0, 1.0, 2.0], sigma=2.5)
    assert repr(prior.element(1, 3)) == "Normal(mu=1, sigma=2.5)"
    inner = Prior("Truncated", dist=Prior("Normal", sigma=[1.0, 2.0]), lower=0.0)
    assert repr(inner.element(1, 2)) == "Truncated(dist=Normal(sigma=2), lower=0)"
    fixed = Prior.fixed(3)
    assert fixed.element(0, 2) is fixed


def test_grouped_priors_evaluate_as_each_alone():
    truncated = [
        Prior("Truncated", dist=Prior("Normal", mu=0.0, sigma=s), lower=0.0)
        for s in (1.0, 1.00001, 5.0)
    ]
    priors = [
        Prior("Normal", mu=0.0, sigma=1.0),
        truncated[0],
        Prior("Normal", sigma=2.0, mu=3.0),
        Prior("Gamma", alpha=2.0, beta=0.1),
        *truncated[1:],
        Prior("Gumbel", mu=0.0, beta=1.0),
        Prior("Gumbel", mu=2.0, beta=3.0),
        Prior("Normal", sigma=2.0),
    ]
    x = np.linspace(0.2, 3.0, len(priors))
    core, score = np.full(len(priors), np.nan), np.full(len(priors), np.nan)
    forms = grouped(priors)
    for prior, at in forms:
        core[at], score[at] = prior.core(x[at]), prior.score(x[at])
    expected = [(p.core(x[[k]])[0], p.score(x[[k]])[0]) for k, p in enumerate(priors)]
    np.testing.assert_allclose(np.stack([core, score], axis=1), expected, rtol=1e-14)
    assert [list(at) for _, at in forms] == [[0, 2], [1, 4, 5], [3], [6, 7], [8]]


def test_fixed_parameters_are_one_group_and_never_drawn_elsewhere():
    (fixed, at), (normal, _) = grouped([Prior.fixed(2), Prior("Normal"), Prior.fixed(-1)])
    assert fixed.is_fixed
    assert not normal.is_fixed
    assert list(at) == [0, 2]
    assert Prior.fixed(2).support == (2.0, 2.0)
    assert (Prior.fixed(2).sample(np.random.default_rng(0), (3,)) == 2.0).all()


@pytest.mark.parametrize(
    "prior",
    [
        Prior("Normal", mu=[0.0, 1.0], sigma=2.5),
        Prior("Truncated", dist=Prior("Gamma", alpha=2.0, beta=0.1), lower=1.0),
        Prior.fixed(2.0),
        Prior("Gumbel", mu=0.0, beta=1.0),
        Prior("LKJCorr", eta=2.0),
    ],
    ids=str,
)
def test_priors_survive_pickling(prior):
    again = pickle.loads(pickle.dumps(prior))
    assert repr(again) == repr(prior)
    assert again.support == prior.support


def test_priors_cannot_be_changed():
    prior = Prior("Normal", sigma=1.0)
    with pytest.raises(TypeError):
        prior.arguments["sigma"] = 3.0
    with pytest.raises(AttributeError):
        prior.distribution = "Cauchy"


def test_dims_name_the_variables_axes():
    with pm.Model(coords={"coef": ["a", "b"]}) as model:
        Prior("Normal", sigma=[1.0, 2.0]).variable("beta", dims="coef")
        Prior("HalfNormal").variable("sigma")
    assert model.named_vars_to_dims["beta"] == ("coef",)
    assert model["sigma"].ndim == 0
    logp = model.compile_logp(mode=PYTHON)({"beta": np.zeros(2), "sigma_log__": np.array(0.0)})
    expected = stats.norm(0, [1, 2]).logpdf(0).sum() + stats.halfnorm().logpdf(1.0)
    assert logp == pytest.approx(expected)


@pytest.mark.parametrize(
    ("distribution", "arguments", "error", "words"),
    [
        ("Nromal", {"mu": 0}, UnknownNameError, "no distribution 'Nromal'. Did you mean 'Normal'"),
        ("Model", {}, UnknownNameError, "no distribution 'Model'"),
        ("Normal", {"sgima": 1}, UnknownNameError, "no argument 'sgima'. Did you mean 'sigma'"),
        ("Gumbel", {"mu": 0, "bta": 1}, UnknownNameError, "no argument 'bta'. Did you mean 'beta'"),
        ("Gumbel", {"mu": 0}, UnknownNameError, "'Gumbel' needs beta"),
        ("HalfStudentT", {"sigma": 1}, UnknownNameError, "'HalfStudentT' needs nu"),
        ("Beta", {}, UnknownNameError, "'Beta' needs alpha, beta"),
        ("Truncated", {"lower": 0}, UnknownNameError, "'Truncated' needs dist"),
        ("Truncated", {"dist": "Normal"}, DataError, "cuts off another prior.*dist is 'Normal'"),
        ("Truncated", {"dist": 1, "low": 1}, UnknownNameError, "no argument 'low'"),
        ("Normal", {"sigma": "1"}, DataError, "'sigma' of a 'Normal' prior must be a number"),
        ("Normal", {"mu": np.nan}, DataError, "'mu' of a 'Normal' prior must be a number"),
        ("Normal", {"mu": Prior("Normal")}, DataError, "must be a number"),
        ("Normal", {"sigma": -1.0}, DataError, "'sigma' of a 'Normal' prior must be positive"),
        ("HalfCauchy", {"beta": [1.0, 0.0]}, DataError, "'beta' of a 'HalfCauchy' prior must be"),
        ("Poisson", {"mu": 3}, NotSupportedError, "whole numbers; a prior needs a continuous"),
    ],
)
def test_what_is_no_prior_is_refused_in_words(distribution, arguments, error, words):
    with pytest.raises(error, match=words):
        Prior(distribution, **arguments)


def test_distributions_of_several_dimensions_have_no_density_for_one():
    with pytest.raises(NotSupportedError, match="all shares of a whole"):
        Prior("Dirichlet", a=[1.0, 1.0]).core(np.array([0.5, 0.5]))
    with pytest.raises(NotSupportedError, match="whole correlation matrix"):
        Prior("LKJCorr", eta=2.0).core(np.array([0.5]))


def test_numbers_hold_a_parameter_fixed():
    for value in (2, 2.0, np.float64(2.0), np.int64(2)):
        assert repr(as_prior(value, "sigma")) == "Fixed(value=2)"
    prior = Prior("Cauchy")
    assert as_prior(prior, "sigma") is prior


@pytest.mark.parametrize("value", ["Normal", None, True, [1.0, 2.0], {"mu": 0}, Prior])
def test_other_things_are_no_prior(value):
    with pytest.raises(UnknownNameError, match=r"The prior of 'sigma' is .*; give gb\.Prior"):
        as_prior(value, "sigma")


class TestPreliz:
    @pytest.fixture
    def pz(self):
        return pytest.importorskip("preliz")

    def test_distributions(self, pz):
        assert repr(as_prior(pz.Normal(0, 2.5), "beta")) == "Normal(mu=0, sigma=2.5)"
        assert repr(as_prior(pz.HalfStudentT(3, 2), "sd")) == "HalfStudentT(nu=3, sigma=2)"

    def test_another_parametrisation_goes_through_the_graph(self, pz):
        prior, x = as_prior(pz.Gamma(mu=2, sigma=1), "sigma"), np.array([0.5, 2.0, 4.0])
        difference = prior.core(x) - stats.gamma(4.0, scale=0.5).logpdf(x)
        np.testing.assert_allclose(difference, difference[0], atol=1e-9)

    def test_truncated(self, pz):
        prior = as_prior(pz.Truncated(pz.Normal(0, 1), 0, None), "sd")
        assert repr(prior) == "Truncated(dist=Normal(mu=0, sigma=1), lower=0)"

    def test_without_values(self, pz):
        with pytest.raises(DataError, match="prior of 'sd' is PreliZ's Gamma without values"):
            as_prior(pz.Gamma(), "sd")


def test_a_users_distribution_is_compiled_once(monkeypatch):
    first = Prior("Moyal", mu=0.0, sigma=1.0)
    first.core(np.zeros(1))
    monkeypatch.setattr(pytensor, "function", None)
    other = Prior("Moyal", mu=1.0, sigma=3.0)
    assert other.core(np.array([2.0])) == pytest.approx(stats.moyal(1.0, 3.0).logpdf(2.0))
