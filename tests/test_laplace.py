"""Laplace's approximation against dense algebra: value, mode, and gradient by differences."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.optimize import minimize
from scipy.special import digamma, expit

import glmm_bayes as gb
from glmm_bayes.engine.algebra.blocked import Blocked
from glmm_bayes.engine.algebra.dense import Dense
from glmm_bayes.engine.algebra.sparse import Sparse
from glmm_bayes.engine.laplace import Laplace
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.laplace import LaplaceObjective
from glmm_bayes.modes.reading import centred_columns, read_latent, read_rows

# Newton's method ends 1e-8 from the mode, in standard errors of the effects: log |H|, which is
# not stationary there, and the gradient are off by as much.
CLOSE = 2e-8

N = 48
RNG = np.random.default_rng(11)
DATA = pd.DataFrame(
    {
        "g": RNG.integers(8, size=N),
        "h": RNG.integers(5, size=N),
        "h2": RNG.integers(5, size=N),
        "x": RNG.normal(size=N),
        "z": RNG.normal(size=N),
        "o": RNG.normal(size=N) / 3,
        "w": RNG.integers(1, 4, size=N).astype(float),
        "count": RNG.poisson(3.0, size=N),
        "yes": RNG.binomial(1, 0.4, size=N),
        "y": RNG.normal(size=N),
    }
)


# ---- by family: SciPy's log density, and its slopes by eta, which take complex numbers


def poisson(y, eta):
    return stats.poisson.logpmf(y, np.exp(eta[0]))


def poisson_slopes(y, eta):
    return np.stack([y - np.exp(eta[0])])


def bernoulli(y, eta):
    return stats.bernoulli.logpmf(y, expit(eta[0]))


def bernoulli_slopes(y, eta):
    return np.stack([y - 1 / (1 + np.exp(-eta[0]))])


def negbinomial(y, eta):
    mu, alpha = np.exp(eta)
    return stats.nbinom.logpmf(y, alpha, alpha / (alpha + mu))


def negbinomial_slopes(y, eta):
    mu, alpha = np.exp(eta)
    share = digamma(y + alpha) - digamma(alpha) + np.log(alpha / (alpha + mu))
    by_alpha = alpha * (share + 1 - (alpha + y) / (alpha + mu))
    return np.stack([alpha * (y - mu) / (alpha + mu), by_alpha])


def gaussian(y, eta):
    return stats.norm.logpdf(y, eta[0], np.exp(eta[1]))


def gaussian_slopes(y, eta):
    z = (y - eta[0]) * np.exp(-eta[1])
    return np.stack([z * np.exp(-eta[1]), z * z - 1])


FAMILIES = {
    "poisson": (poisson, poisson_slopes, "count"),
    "bernoulli": (bernoulli, bernoulli_slopes, "yes"),
    "negbinomial": (negbinomial, negbinomial_slopes, "count"),
    "gaussian": (gaussian, gaussian_slopes, "y"),
}

# Name, family, formulas and which systems can do it.
EVERY, WIDE = (Dense, Blocked, Sparse), (Dense, Sparse)
MODELS = {
    "slopes": ("poisson", "count ~ x + (1 + x | g)", EVERY),
    "crossed, offset, weights": (
        "poisson",
        "count | weights(w) ~ x + offset(o) + (1 | g) + (1 + z | h)",
        EVERY,
    ),
    "yes and no": ("bernoulli", "yes ~ x * z + (1 | h) + (1 | g)", EVERY),
    "constant shape": ("negbinomial", "count ~ x + (1 + x | g)", EVERY),
    "shape with a formula": ("negbinomial", ["count ~ x + (1 | g)", "alpha ~ z"], EVERY),
    "effects in the shape": ("negbinomial", ["count ~ x + (1 | g)", "alpha ~ z + (1 | h)"], WIDE),
    "spread with a formula": ("gaussian", ["y ~ x + (1 | g) + (1 | h)", "sigma ~ z"], EVERY),
    "effects in the spread": ("gaussian", ["y ~ x + (1 + x | g)", "sigma ~ z + (1 | g)"], WIDE),
    "effects in the spread only": ("gaussian", ["y ~ x", "sigma ~ z + (1 | g)"], WIDE),
    "members": ("poisson", "count ~ x + (1 | mm(h, h2)) + (1 | g)", WIDE),
}
CASES = [(name, system) for name, (_, _, systems) in MODELS.items() for system in systems]
FACTORS = ("regular", "full", "a zero column", "rank one", "zero")


class Truth:
    """A model's Laplace approximation on dense matrices, by SciPy's search and densities."""

    def __init__(self, model):
        self.value, self.slopes, response = FAMILIES[model.family.name]
        self.start = {}  # the last mode, by its length: most calls are for differences
        self.y = DATA[response].to_numpy().astype(float)
        weights = model.design.response.weights
        self.w = np.ones(N) if weights is None else weights
        self.names = [p.name for p in model.family.parameters]
        self.X = [centred_columns(model, name) for name in self.names]
        predictors = model.design.predictors
        blank = np.zeros(N)
        offsets = [predictors[p].offset if p in predictors else blank for p in self.names]
        self.offset = np.stack(offsets)
        self.Z = [[self._written_out(term, name) for name in self.names]
                  for term in model.design.terms]  # fmt: skip

    @staticmethod
    def _written_out(term, name):
        if all(loading.param != name for loading in term.loadings):
            return np.zeros((N, len(term.levels) * term.size))
        return term.Z(name).toarray()

    def at(self, coefficients, Lambdas, *, joint):
        """Give the log marginal likelihood, and the mode of effects (and coefficients)."""
        blocks = [np.kron(np.eye(Z[0].shape[1] // len(L)), L)
                  for Z, L in zip(self.Z, Lambdas, strict=True)]  # fmt: skip
        K = np.stack(
            [
                np.hstack([Z[a] @ block for Z, block in zip(self.Z, blocks, strict=True)])
                for a in range(len(self.names))
            ]
        )
        prior = np.ones(K.shape[2])
        eta = self.offset + np.stack([X @ c for X, c in zip(self.X, coefficients, strict=True)])
        if joint:
            columns = np.zeros((len(K), *self.X[0].shape))
            columns[0] = self.X[0]
            K = np.concatenate([K, columns], axis=2)
            prior = np.concatenate([prior, np.zeros(self.X[0].shape[1])])

        def height(v):
            return np.sum(self.w * self.value(self.y, eta + K @ v)) - 0.5 * np.sum(prior * v * v)

        def gradient(v):
            r = self.w * self.slopes(self.y, eta + K @ v)
            return np.einsum("anj,an->j", K, r) - prior * v

        def hessian(v):
            # The complex step of the gradient, exact to rounding.
            steps = v[:, None] + 1e-30j * np.eye(len(v))
            return np.stack([-gradient(s).imag for s in steps.T]) / 1e-30

        v = minimize(
            lambda v: -height(v),
            self.start.get(K.shape[2], np.zeros(K.shape[2])),
            jac=lambda v: -gradient(v),
            hess=hessian,
            method="trust-exact",
            options={"gtol": 1e-6},
        ).x
        for _ in range(4):
            v = v + np.linalg.solve(hessian(v), gradient(v))
        self.start[len(v)] = v
        sign, determinant = np.linalg.slogdet(hessian(v))
        assert sign > 0
        return height(v) - 0.5 * determinant + 0.5 * np.log(2 * np.pi) * np.sum(prior == 0), v


@cache
def model_of(name):
    family, formula, _ = MODELS[name]
    return gb.Model(formula, DATA, family)


@cache
def truth_of(name):
    return Truth(model_of(name))


def laplace_of(name, system):
    """Build with a given linear algebra, in whose order the rows are."""
    model, truth = model_of(name), truth_of(name)
    found = system.build(read_latent(model), centred_columns(model, "mu"))
    rows = found.order
    X = [np.ascontiguousarray(part[rows]) for part in truth.X]
    return Laplace(read_rows(model, rows), X, truth.offset[:, rows], found)


def point(name, factors):
    """Give coefficients and factors with effects of moderate size."""
    rng = np.random.default_rng(FACTORS.index(factors))
    truth, terms = truth_of(name), model_of(name).design.terms
    coefficients = [0.3 * rng.normal(size=X.shape[1]) for X in truth.X]
    if model_of(name).family.name != "gaussian":
        coefficients[0][0] = 0.8
    Lambdas = []
    for term in terms:
        L = 0.3 * np.tril(rng.normal(size=(term.size, term.size))) + 0.4 * np.eye(term.size)
        L = {"full": L + L.T, "zero": 0 * L}.get(factors, L)
        if factors == "a zero column":
            L[-1] = 0.0
        if factors == "rank one":
            L[:, 1:] = 0.0
        Lambdas.append(L)
    return coefficients, Lambdas


@pytest.fixture(params=[False, True], ids=["effects", "joint"])
def joint(request):
    return request.param


@pytest.mark.parametrize("factors", FACTORS)
@pytest.mark.parametrize(("name", "system"), CASES)
def test_the_marginal_and_its_mode(name, system, factors, joint):
    coefficients, Lambdas = point(name, factors)
    found = laplace_of(name, system).marginal(coefficients, Lambdas, joint=joint)
    value, v = truth_of(name).at(coefficients, Lambdas, joint=joint)
    assert found.value == pytest.approx(value, abs=CLOSE)
    np.testing.assert_allclose(found.u, v[: len(found.u)], atol=1e-7)
    if joint:
        moved = found.coefficients[0] - coefficients[0]
        np.testing.assert_allclose(moved, v[len(found.u) :], atol=1e-7)


@pytest.mark.parametrize("factors", FACTORS)
@pytest.mark.parametrize("name", MODELS)
def test_the_gradient_is_the_difference_quotient(name, factors, joint):
    coefficients, Lambdas = point(name, factors)
    truth = truth_of(name)

    def value(moved, factors):
        return truth.at(moved, factors, joint=joint)[0]

    expected_beta = [slopes(lambda c: value(c, Lambdas), coefficients, k)
                     for k in range(len(coefficients))]  # fmt: skip
    expected_L = [slopes(lambda L: value(coefficients, L), Lambdas, k) for k in range(len(Lambdas))]
    for system in MODELS[name][2]:
        found = laplace_of(name, system).marginal(coefficients, Lambdas, joint=joint)
        # Differences over 1e-4 to both sides: 1e-8 of curvature, and 1e-8 of rounding.
        for ours, theirs in zip(found.by_coefficients, expected_beta, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=2e-6)
        for ours, theirs in zip(found.by_Lambda, expected_L, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=2e-6)


def slopes(value, arrays, which, h=1e-4):
    """Difference a function of a list of arrays by every entry of one of them."""
    found = np.empty_like(arrays[which])
    for place in np.ndindex(*found.shape):
        ends = []
        for step in (h, -h):
            moved = [a.copy() for a in arrays]
            moved[which][place] += step
            ends.append(value(moved))
        found[place] = (ends[0] - ends[1]) / (2 * h)
    return found


@pytest.mark.parametrize("system", EVERY)
def test_of_a_gaussian_response_it_is_exact(system, joint):
    name = "spread with a formula"
    coefficients, Lambdas = point(name, "regular")
    truth = truth_of(name)
    found = laplace_of(name, system).marginal(coefficients, Lambdas, joint=joint)
    sigma = np.exp(truth.X[1] @ coefficients[1])
    J = np.hstack([Z[0] * L[0, 0] for Z, L in zip(truth.Z, Lambdas, strict=True)])
    V, X = J @ J.T + np.diag(sigma**2), truth.X[0]
    if not joint:
        exact = stats.multivariate_normal.logpdf(truth.y, X @ coefficients[0], V)
        assert found.value == pytest.approx(exact, abs=1e-9)
        return
    # Restricted: Harville (1974), Biometrika 61, 383-385, without a constant for X'X.
    Vi = np.linalg.inv(V)
    gamma = np.linalg.solve(X.T @ Vi @ X, X.T @ Vi @ truth.y)
    exact = (
        stats.multivariate_normal.logpdf(truth.y, X @ gamma, V)
        - 0.5 * np.linalg.slogdet(X.T @ Vi @ X)[1]
        + 0.5 * X.shape[1] * np.log(2 * np.pi)
    )
    assert found.value == pytest.approx(exact, abs=1e-9)
    np.testing.assert_allclose(found.coefficients[0], gamma, atol=1e-9)


@pytest.mark.parametrize(("name", "system"), CASES)
def test_where_it_starts_makes_no_difference(name, system):
    """The last mode, and the factor kept from there, only save time."""
    laplace, rng = laplace_of(name, system), np.random.default_rng(0)
    for joint in (False, True, True, False):
        coefficients, Lambdas = point(name, "regular")
        for L in Lambdas:
            L *= rng.uniform(0.2, 3.0)
        found = laplace.marginal(coefficients, Lambdas, joint=joint)
        fresh = laplace_of(name, system).marginal(coefficients, Lambdas, joint=joint)
        assert found.value == pytest.approx(fresh.value, abs=CLOSE)
        np.testing.assert_allclose(found.u, fresh.u, atol=1e-7)
        for ours, theirs in zip(found.by_Lambda, fresh.by_Lambda, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)
    np.testing.assert_allclose(laplace.effects_mode(coefficients, Lambdas), found.u, atol=1e-8)


@pytest.mark.parametrize("start", [3.0, -50.0, 1e4, np.nan])
def test_a_start_far_off_leads_to_the_mode(start):
    """Where Newton's method does not get home from there, the search starts it from zero."""
    model = model_of("slopes")
    objective = LaplaceObjective(laplace_of("slopes", Blocked), Coordinates.of(model), joint=False)
    x = np.array([0.8, 0.1, 0.5, 0.2, 0.3])
    expected = objective.marginal(x)
    objective.laplace.u = np.full_like(objective.laplace.u, start)
    assert objective.marginal(x).value == pytest.approx(expected.value, abs=CLOSE)
