"""A Gaussian response, profiled on its cross-products, against dense formulas of the likelihood."""

from functools import cache

import numpy as np
import pytest

from glmm_bayes.engine.algebra.blocked import Blocked
from glmm_bayes.engine.algebra.dense import Dense
from glmm_bayes.engine.algebra.sparse import Sparse
from glmm_bayes.engine.gaussian import Gaussian
from glmm_bayes.engine.latent import Latent, Term

N = 50
# Sums of squares are differences of cross-products: 1e-16 times y'y over what is left of it,
# which is some 1e2 here, and the condition of H, some 1e3.
CLOSE = {"rtol": 1e-9, "atol": 1e-10}
EVERY, WIDE = (Blocked, Dense, Sparse), (Dense, Sparse)
LAYOUTS = {
    "slopes": ([(9, 2, 1)], EVERY),
    "crossed": ([(7, 1, 1), (5, 2, 1)], EVERY),
    "three": ([(4, 1, 1), (12, 3, 1), (3, 1, 1)], EVERY),
    "members": ([(8, 1, 2), (5, 2, 1)], WIDE),
}
FACTORS = ("regular", "full", "a zero column", "zero", "large")
CASES = [(name, system) for name, (_, systems) in LAYOUTS.items() for system in systems]


class Data:
    """Random data of one layout, and dense algebra on them in units of sigma."""

    def __init__(self, name, *, weighted):
        rng = np.random.default_rng(len(name))
        self.terms = []
        for q, p, m in LAYOUTS[name][0]:
            Z = np.column_stack([np.ones(N), rng.normal(size=(N, p - 1))])
            weights = np.ones((N, 1)) if m == 1 else rng.uniform(0.3, 1.0, (N, m))
            self.terms.append(Term(q, p, rng.integers(q, size=(N, m)), weights, {0: Z}))
        self.latent = Latent(self.terms, (0,), N)
        self.X = np.column_stack([np.ones(N), rng.normal(size=(N, 2))])
        self.y = self.X @ [2.0, 1.0, -0.5] + rng.normal(size=N)
        self.w = rng.integers(1, 4, size=N).astype(float) if weighted else np.ones(N)
        self.Z = [written_out(t) for t in self.terms]

    def engine(self, system, *, y=None, count=None):
        found = system.build(self.latent, self.X)
        rows, y = found.order, self.y if y is None else y
        count = float(self.w.sum()) if count is None else count
        return Gaussian(found, self.X[rows], y[rows], self.w[rows], count)

    def loaded(self, Lambdas):
        blocks = [np.kron(np.eye(t.q), L) for t, L in zip(self.terms, Lambdas, strict=True)]
        return np.hstack([Z @ block for Z, block in zip(self.Z, blocks, strict=True)])

    def covariance(self, Lambdas):
        """Give the covariance of y over sigma^2."""
        J = self.loaded(Lambdas)
        return J @ J.T + np.diag(1 / self.w)

    def generalised(self, Lambdas):
        """Give generalised least squares' coefficients, and their sum of squares."""
        Vi = np.linalg.inv(self.covariance(Lambdas))
        gamma = np.linalg.solve(self.X.T @ Vi @ self.X, self.X.T @ Vi @ self.y)
        r = self.y - self.X @ gamma
        return gamma, r @ Vi @ r

    def profiled(self, Lambdas, *, restricted, count):
        """
        Give the profiled log likelihood by the covariance of y.

        Weights stand for as many rows as they say, so `count` is their sum: what a row of weight
        w lacks of w rows is the determinant's part in log w, which |V| has with the other sign.
        """
        V = self.covariance(Lambdas)
        det = np.linalg.slogdet(V)[1] + np.log(self.w).sum()
        squares, n = self.generalised(Lambdas)[1], count
        if restricted:
            Vi = np.linalg.inv(V)
            det += np.linalg.slogdet(self.X.T @ Vi @ self.X)[1]
            n -= self.X.shape[1]
        return -0.5 * (det + n * np.log(2 * np.pi * squares / n) + n), np.sqrt(squares / n)


def written_out(term):
    Z = np.zeros((N, term.size))
    for i in range(N):
        for level, weight in zip(term.index[i], term.weights[i], strict=True):
            Z[i, level * term.p : (level + 1) * term.p] += weight * term.Z[0][i]
    return Z


@cache
def data(name, weighted):
    return Data(name, weighted=weighted)


def factors_of(d, kind):
    rng, found = np.random.default_rng(FACTORS.index(kind)), []
    for t in d.terms:
        L = np.tril(rng.normal(size=(t.p, t.p))) + np.eye(t.p)
        if kind == "a zero column":
            L[-1] = 0.0
        found.append({"full": L + L.T, "zero": 0 * L, "large": 20 * L}.get(kind, L))
    return found


@pytest.fixture(params=[False, True], ids=["", "weights"])
def weighted(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["ml", "reml"])
def restricted(request):
    return request.param


@pytest.mark.parametrize(("name", "system"), CASES)
def test_the_profile_is_that_of_the_covariance_of_y(name, system, weighted, restricted):
    d = data(name, weighted)
    gaussian = d.engine(system)
    for kind in FACTORS:
        Lambdas = factors_of(d, kind)
        found = gaussian.profile(Lambdas, restricted=restricted)
        value, sigma = d.profiled(Lambdas, restricted=restricted, count=d.w.sum())
        assert found.value == pytest.approx(value, rel=1e-10), kind
        assert found.sigma == pytest.approx(sigma, rel=1e-9), kind
        assert found.count == d.w.sum() - (3 if restricted else 0)


@pytest.mark.parametrize(("name", "system"), CASES)
def test_coefficients_and_effects_solve_henderson_s_equations(name, system, weighted):
    """Henderson (1950): X and Z together by least squares, with the effects' ridge."""
    d = data(name, weighted)
    gaussian = d.engine(system)
    for kind in FACTORS:
        Lambdas = factors_of(d, kind)
        found = gaussian.profile(Lambdas, restricted=False)
        J = d.loaded(Lambdas)
        K = np.hstack([J, d.X])
        H = K.T @ (d.w[:, None] * K)
        H[: J.shape[1], : J.shape[1]] += np.eye(J.shape[1])
        v = np.linalg.solve(H, K.T @ (d.w * d.y))
        np.testing.assert_allclose(found.u, v[: J.shape[1]], rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(found.gamma, v[J.shape[1] :], rtol=1e-8, atol=1e-8)
        gamma, squares = d.generalised(Lambdas)
        np.testing.assert_allclose(found.gamma, gamma, rtol=1e-8, atol=1e-8)
        assert found.sigma**2 * found.count == pytest.approx(squares, rel=1e-8)
        # The best linear prediction: Lambda' Z' V^-1 (y - X gamma).
        residual = np.linalg.solve(d.covariance(Lambdas), d.y - d.X @ gamma)
        np.testing.assert_allclose(found.u, J.T @ residual, rtol=1e-8, atol=1e-8)
        inverse = found.factor.coefficient_inverse()
        expected = np.linalg.inv(d.X.T @ np.linalg.solve(d.covariance(Lambdas), d.X))
        np.testing.assert_allclose(inverse, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("name", "system"), CASES)
def test_slopes_are_difference_quotients(name, system, weighted, restricted):
    d = data(name, weighted)
    gaussian = d.engine(system)
    for kind in FACTORS:
        Lambdas = factors_of(d, kind)
        found = gaussian.profile(Lambdas, restricted=restricted)
        for k, L in enumerate(Lambdas):
            h = 1e-4 * max(1.0, np.abs(L).max())
            for place in np.ndindex(*L.shape):
                ends = [moved(Lambdas, k, place, step) for step in (h, -h)]
                up, down = (d.profiled(M, restricted=restricted, count=d.w.sum())[0] for M in ends)
                # To both sides over a ten-thousandth: 1e-8 of curvature and of rounding.
                slope = (up - down) / (2 * h)
                assert found.by_Lambda[k][place] == pytest.approx(slope, rel=1e-6, abs=1e-6), kind
                up, down = (d.generalised(M)[1] for M in ends)
                slope = (up - down) / (2 * h) / found.sigma**2
                assert found.squares_by[k][place] == pytest.approx(slope, rel=1e-6, abs=1e-6), kind


def moved(Lambdas, k, place, step):
    found = [L.copy() for L in Lambdas]
    found[k][place] += step
    return found


@pytest.mark.parametrize(("name", "system"), CASES)
def test_the_effects_mode_at_other_coefficients(name, system, weighted):
    d, gamma = data(name, weighted), np.array([1.0, -2.0, 3.0])
    for kind in FACTORS:
        Lambdas = factors_of(d, kind)
        J = d.loaded(Lambdas)
        H = J.T @ (d.w[:, None] * J) + np.eye(J.shape[1])
        expected = np.linalg.solve(H, J.T @ (d.w * (d.y - d.X @ gamma)))
        found = d.engine(system).effects_mode(gamma, Lambdas)
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("system", EVERY)
def test_a_weight_stands_for_as_many_rows(system, restricted):
    d = data("crossed", True)
    again = np.repeat(np.arange(N), d.w.astype(int))
    terms = [Term(t.q, t.p, t.index[again], t.weights[again], {0: t.Z[0][again]}) for t in d.terms]
    s = system.build(Latent(terms, (0,), len(again)), d.X[again])
    rows = again[s.order]
    whole = Gaussian(s, d.X[rows], d.y[rows], np.ones(len(rows)), float(len(rows)))
    for kind in FACTORS:
        Lambdas = factors_of(d, kind)
        found = d.engine(system).profile(Lambdas, restricted=restricted)
        expected = whole.profile(Lambdas, restricted=restricted)
        assert found.value == pytest.approx(expected.value, rel=1e-10)
        assert found.sigma == pytest.approx(expected.sigma, rel=1e-10)
        np.testing.assert_allclose(found.u, expected.u, **CLOSE)


@pytest.mark.parametrize("system", EVERY)
@pytest.mark.parametrize("shift", [1e3, 1e5, 1e7])
def test_where_the_response_has_its_zero_makes_no_difference(system, shift, restricted):
    d = data("crossed", False)
    Lambdas = factors_of(d, "regular")
    expected = d.engine(system).profile(Lambdas, restricted=restricted)
    found = d.engine(system, y=d.y + shift).profile(Lambdas, restricted=restricted)
    # To the 16 digits in which the response is given.
    assert found.sigma == pytest.approx(expected.sigma, rel=1e-14 * shift + 1e-9)
    assert found.value == pytest.approx(expected.value, rel=1e-14 * shift + 1e-9)
    np.testing.assert_allclose(found.gamma[1:], expected.gamma[1:], rtol=1e-13 * shift + 1e-9)


@pytest.mark.parametrize("system", EVERY)
def test_an_exact_fit_and_collinear_columns_are_refused(system, restricted):
    d = data("slopes", False)
    Lambdas = factors_of(d, "regular")
    with pytest.raises(np.linalg.LinAlgError, match="fit the data exactly"):
        d.engine(system, y=d.X @ [1.0, 2.0, 3.0]).profile(Lambdas, restricted=restricted)
    with pytest.raises(np.linalg.LinAlgError, match="fit the data exactly"):
        d.engine(system, y=np.zeros(N)).profile(Lambdas, restricted=restricted)
    if restricted:
        with pytest.raises(np.linalg.LinAlgError, match="fit the data exactly"):
            d.engine(system, count=3.0).profile(Lambdas, restricted=True)
