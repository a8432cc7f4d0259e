"""Laws of covariance structures: factor, formula, derivative, priors and graph agree."""

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.compile.mode import Mode
from scipy import linalg, stats

from glmm_bayes.arrays import graph
from glmm_bayes.covariance import COVARIANCES
from glmm_bayes.engine import kernels
from glmm_bayes.errors import NotSupportedError, UnknownNameError
from glmm_bayes.priors import Prior

PYTHON = Mode(linker="py", optimizer="fast_compile")
SIZES = (1, 2, 5)


def partial_correlations(theta, size):
    """Build C by regression: c_ij is the correlation of i and j given all before j."""
    C = np.eye(size)
    given = iter(2 * theta.get("partial", np.empty(0)) - 1)
    for i in range(size):
        for j in range(i):
            if j == 0:
                C[i, 0] = C[0, i] = next(given)
                continue
            before = C[:j, :j]
            by_i, by_j = (np.linalg.solve(before, C[:j, k]) for k in (i, j))
            left = np.sqrt((1 - C[:j, i] @ by_i) * (1 - C[:j, j] @ by_j))
            C[i, j] = C[j, i] = next(given) * left + C[:j, i] @ by_j
    return C


def exchangeable(theta, size):
    rho = theta["rho"][0] if size > 1 else 0.0
    return np.where(np.eye(size) == 1, 1.0, rho)


def by_lag(correlations, size):
    """Put a correlation by lag, from 1, into a matrix."""
    return linalg.toeplitz(np.append(1.0, correlations)[:size])


def autocorrelations(theta, size):
    """Build r by regression: a partial one is the correlation of two ends given those between."""
    r = np.array([1.0])
    for c in theta.get("partial", ()):
        k = len(r)
        between, ends = linalg.toeplitz(r)[: k - 1, : k - 1], r[1:]
        by = np.linalg.solve(between, np.stack([ends, ends[::-1]], axis=1)) if k > 1 else ends
        left = 1 - ends @ by[:, 0] if k > 1 else 1.0
        r = np.append(r, (ends @ by[:, 1] if k > 1 else 0.0) + c * left)
    return by_lag(r[1:], size)


def decaying(theta, size):
    return by_lag(theta["rho"][0] ** np.arange(1, size), size) if size > 1 else np.eye(1)


def loadings(theta, size):
    """Write L out entry by entry."""
    d = len(theta["pivot"])
    L, entries = np.diag(np.sqrt(theta["pivot"])), iter(theta.get("entry", ()))
    L = np.vstack([L, np.zeros((size - d, d))])
    for i in range(size):
        for k in range(min(i, d)):
            L[i, k] = next(entries)
    return L


# Lambda Lambda' (or R R') as the docstring has it, for each structure of the registry.
FORMULAS = {
    "us": lambda theta, p: np.outer(theta["sd"], theta["sd"]) * partial_correlations(theta, p),
    "diag": lambda theta, p: np.diag(theta["sd"] ** 2),
    "homdiag": lambda theta, p: theta["sd"] ** 2 * np.eye(p),
    "cs": lambda theta, p: np.outer(theta["sd"], theta["sd"]) * exchangeable(theta, p),
    "homcs": lambda theta, p: theta["sd"] ** 2 * exchangeable(theta, p),
    "ar1": lambda theta, p: theta["sd"] ** 2 * decaying(theta, p),
    "hetar1": lambda theta, p: np.outer(theta["sd"], theta["sd"]) * decaying(theta, p),
    "toep": lambda theta, p: np.outer(theta["sd"], theta["sd"]) * autocorrelations(theta, p),
    "homtoep": lambda theta, p: theta["sd"] ** 2 * autocorrelations(theta, p),
    "rr": lambda theta, p: loadings(theta, p) @ loadings(theta, p).T,
}


@pytest.fixture(params=list(COVARIANCES))
def structure(request):
    return COVARIANCES[request.param]()


@pytest.fixture(params=SIZES)
def size(request):
    return request.param


def draw_theta(structure, size, seed=0):
    """Draw parameters all over their supports."""
    rng = np.random.default_rng(seed)
    theta = {}
    for parameter in structure.parameters(size):
        lower, upper = parameter.support
        if np.isinf(lower):
            theta[parameter.name] = rng.normal(size=parameter.size)
            continue
        width = 4.0 if np.isinf(upper) else upper - lower
        theta[parameter.name] = lower + width * rng.uniform(0.02, 0.98, parameter.size)
    return theta


def priors_of(structure, size):
    """Give, by the sampled name, the priors of a model without the user's."""
    found = {}
    for p in structure.parameters(size):
        prior = structure.default_prior(p.key) or structure.scaled_prior(p, np.full(size, 2.5))
        found[p.name] = structure.entry_priors(p, prior, size)
    return found


def test_every_structure_has_its_formula():
    assert set(FORMULAS) == set(COVARIANCES)


@pytest.mark.parametrize("seed", range(5))
def test_factor_is_lower_triangular_with_a_positive_diagonal(structure, size, seed):
    factor, rank = structure.factor(draw_theta(structure, size, seed), size), structure.rank(size)
    assert factor.shape == (size, size)
    np.testing.assert_array_equal(factor, np.tril(factor))
    assert (np.diag(factor)[:rank] > 0).all()
    assert not factor[:, rank:].any()


@pytest.mark.parametrize("seed", range(5))
def test_factor_gives_the_covariance_of_the_docstring(structure, size, seed):
    theta = draw_theta(structure, size, seed)
    factor = structure.factor(theta, size)
    expected = FORMULAS[structure.name](theta, size)
    np.testing.assert_allclose(factor @ factor.T, expected, rtol=1e-11, atol=1e-13)


def test_pullback_is_the_difference_quotient(structure, size):
    theta = draw_theta(structure, size)
    weights = np.random.default_rng(1).normal(size=(size, size))
    found = structure.pullback(theta, size, weights)
    assert list(found) == list(theta)
    h = 1e-5
    for name, value in theta.items():
        for k in range(len(value)):
            step = h * (np.arange(len(value)) == k)
            up, down = (
                np.sum(weights * structure.factor({**theta, name: value + s}, size))
                for s in (step, -step)
            )
            assert found[name][k] == pytest.approx((up - down) / (2 * h), rel=1e-6, abs=1e-7)


def test_graph_and_arrays_agree(structure, size):
    theta = draw_theta(structure, size)
    inputs = {name: pt.vector(name) for name in theta}
    factor = pt.as_tensor(structure.factor(inputs, size, graph()))
    reported = structure.reported(inputs, size, graph())
    outputs = pytensor.function([*inputs.values()], [factor, *reported.values()], mode=PYTHON)
    expected = structure.reported(theta, size)
    found, *others = outputs(*theta.values())
    np.testing.assert_allclose(found, structure.factor(theta, size), rtol=1e-12, atol=1e-15)
    assert list(expected) == list(reported)
    for value, other in zip(expected.values(), others, strict=True):
        np.testing.assert_allclose(other, value, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", [n for n, s in COVARIANCES.items() if s().parameters(2)])
def test_gradient_is_finite_at_the_initial_point(name, size):
    structure = COVARIANCES[name]()
    with pm.Model() as model:
        theta = {
            name: pt.stack([prior.variable(f"{name}_{k}") for k, prior in enumerate(priors)])
            for name, priors in priors_of(structure, size).items()
        }
        pm.Potential("sum", structure.factor(theta, size, graph()).sum())
    gradient = model.compile_dlogp(mode=PYTHON)(model.initial_point())
    assert len(gradient) == sum(p.size for p in structure.parameters(size))
    assert np.isfinite(gradient).all()


def test_default_priors_have_the_parameters_support(structure, size):
    for parameter in structure.parameters(size):
        priors = priors_of(structure, size)[parameter.name]
        assert len(priors) == parameter.size
        for prior in priors:
            assert prior.support == pytest.approx(parameter.support)


def test_what_has_a_scale_lacks_a_default_prior_without_one(structure, size):
    for parameter in structure.parameters(size):
        has_scale = parameter.key in ("sd", "loading")
        assert (structure.default_prior(parameter.key) is None) == has_scale


def test_a_prior_may_differ_by_entry(structure, size):
    for parameter in structure.parameters(size):
        if parameter.key != parameter.name:
            continue  # what is reported has other entries than what is sampled
        scales = 1.0 + np.arange(parameter.size)
        priors = structure.priors(parameter.key, Prior("HalfNormal", sigma=scales), size)
        assert [float(p.arguments["sigma"]) for p in priors] == list(scales)


def test_sampled_undoes_reported(structure, size):
    thetas = [draw_theta(structure, size, seed) for seed in range(3)]
    values = {}
    for parameter in structure.parameters(size):
        reported = [structure.reported(t, size).get(parameter.key) for t in thetas]
        sampled = [t[parameter.name] for t in thetas]
        values[parameter.key] = np.stack(sampled if reported[0] is None else reported)
    found = structure.sampled(values, size)
    assert set(found) == set(thetas[0])
    for name, value in found.items():
        np.testing.assert_allclose(value, [t[name] for t in thetas], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", ["cs", "homcs"])
@pytest.mark.parametrize("size", [2, 3, 5])
def test_compound_symmetry_reaches_its_least_correlation(name, size):
    structure, least = COVARIANCES[name](), -1 / (size - 1)
    sd = np.ones(size if name == "cs" else 1)
    assert structure.parameters(size)[1].support == (least, 1.0)
    for rho in (least + 1e-9, 0.0, 1 - 1e-9):
        factor = structure.factor({"sd": sd, "rho": np.array([rho])}, size)
        assert np.isfinite(factor).all()
        assert np.linalg.eigvalsh(factor @ factor.T)[0] == pytest.approx(
            min(1 - rho, 1 + (size - 1) * rho), abs=1e-12
        )


def test_compound_symmetry_takes_other_priors_for_rho():
    structure = COVARIANCES["cs"]()
    assert repr(structure.priors("rho", Prior("Uniform"), 3)) == "(Uniform(lower=-0.5, upper=1),)"
    narrow = Prior("Uniform", lower=0, upper=0.5)
    assert structure.priors("rho", narrow, 3)[0].support == (0.0, 0.5)


class TestUnstructured:
    """The LKJ prior: density of C proportional to det(C)^(eta - 1)."""

    us = COVARIANCES["us"]()

    def correlation(self, partial, size):
        return self.us.reported({"partial": partial}, size)["corr"]

    @pytest.mark.parametrize("size", [2, 3, 5])
    @pytest.mark.parametrize("eta", [0.7, 1.0, 2.0, 4.5])
    def test_density(self, size, eta):
        """The density of the partial correlations over the Jacobian of C is det(C)^(eta - 1)."""
        priors = self.us.priors("corr", Prior("LKJCorr", eta=eta), size)
        below = np.tril_indices(size, -1)
        rng, constant = np.random.default_rng(2), []
        for _ in range(6):
            partial = rng.uniform(0.05, 0.95, len(priors))
            logp = sum(
                stats.beta(p.arguments["alpha"], p.arguments["beta"]).logpdf(x)
                for p, x in zip(priors, partial, strict=True)
            )
            columns = []
            for k in range(len(partial)):
                moved = partial.astype(complex)
                moved[k] += 1e-30j
                columns.append(self.correlation(moved, size)[below].imag / 1e-30)
            jacobian = np.linalg.slogdet(np.array(columns))[1]
            det = np.linalg.slogdet(self.correlation(partial, size))[1]
            constant.append(logp - jacobian - (eta - 1) * det)
        np.testing.assert_allclose(constant, constant[0], atol=1e-9)

    @pytest.mark.parametrize("eta", [1.0, 3.0])
    def test_every_correlation_has_the_same_marginal(self, eta):
        """(1 + r_ij) / 2 ~ Beta(a, a), a = eta + (p - 2) / 2, for all i and j alike."""
        size, draws, rng = 4, 3000, np.random.default_rng(12)
        priors = self.us.priors("corr", Prior("LKJCorr", eta=eta), size)
        partial = np.stack([p.sample(rng, (draws,)) for p in priors], axis=1)
        C = np.stack([self.correlation(row, size) for row in partial])
        a = eta + (size - 2) / 2
        for i in range(size):
            for j in range(i):
                assert stats.kstest((1 + C[:, i, j]) / 2, stats.beta(a, a).cdf).pvalue > 1e-4

    def test_reported_correlations(self, size):
        theta = draw_theta(self.us, size)
        reported = self.us.reported(theta, size)
        if size == 1:
            assert reported == {}
            return
        covariance = FORMULAS["us"](theta, size)
        expected = covariance / np.outer(theta["sd"], theta["sd"])
        np.testing.assert_allclose(reported["corr"], expected, atol=1e-12)
        np.testing.assert_allclose(np.diag(reported["corr"]), 1.0, rtol=1e-12)

    def test_other_priors_are_refused(self):
        with pytest.raises(NotSupportedError, match=r"'us' term takes .*LKJCorr.* not Normal"):
            self.us.priors("corr", Prior("Normal", mu=0, sigma=1), 3)


def test_a_misspelt_structure_gets_a_suggestion():
    with pytest.raises(UnknownNameError, match="no covariance structure 'homdia'. Did you mean"):
        COVARIANCES["homdia"]


@pytest.mark.parametrize("name", [n for n, s in COVARIANCES.items() if s.compiled])
def test_a_kernel_gives_the_factor_and_its_pullback(name, size):
    structure = COVARIANCES[name]()
    kind, theta = kernels.STRUCTURES.index(structure.compiled), draw_theta(structure, size)
    given = [theta["sd"], *(v for k, v in theta.items() if k != "sd"), np.empty(0)][:2]
    Lambda = np.full((size, size), np.nan)
    kernels.fill_factor(kind, size, *given, Lambda)
    np.testing.assert_allclose(Lambda, structure.factor(theta, size), rtol=1e-12, atol=1e-15)
    slope = np.tril(np.random.default_rng(4).normal(size=(size, size)))
    found = [np.ones(len(part)) for part in given]
    kernels.pull_factor(kind, size, *given, Lambda, slope, *found)
    expected = structure.pullback(theta, size, slope)
    for part, other in zip(found, expected.values(), strict=False):
        np.testing.assert_allclose(part - 1, other, rtol=1e-10, atol=1e-12)
