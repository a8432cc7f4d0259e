"""Effects' equations solved by iterations: against dense algebra, and within their own errors."""

import numpy as np
import pandas as pd
import pytest

import glmm_bayes as gb
from glmm_bayes.engine.algebra import probes
from glmm_bayes.engine.algebra.blocked import Blocked
from glmm_bayes.engine.algebra.iterative import Iterative
from glmm_bayes.engine.algebra.sparse import Sparse
from glmm_bayes.engine.algebra.systems import build_system
from glmm_bayes.engine.latent import Latent, Term

N = 400
# Levels and columns of the terms.
SHAPES = {
    "intercepts": [(40, 1), (30, 1)],
    "slopes of the largest": [(40, 2), (30, 1)],
    "slopes of both": [(30, 2), (40, 2)],
    "three": [(40, 1), (20, 2), (30, 1)],
    "few rows a level": [(200, 1), (150, 1)],
}
FACTORS = ("regular", "zero", "rank one")


def crossed(seed, shapes, n=N):
    rng = np.random.default_rng(seed)
    terms = []
    for q, p in shapes:
        index, columns = rng.integers(q, size=(n, 1)), rng.normal(size=(n, p - 1))
        terms.append(
            Term(q, p, index, np.ones((n, 1)), {0: np.column_stack([np.ones(n), columns])})
        )
    return Latent(terms, (0,), n), np.column_stack([np.ones(n), rng.normal(size=n)])


def factors(rng, kind, p):
    L = np.tril(rng.normal(size=(p, p))) * 0.4 + 0.6 * np.eye(p)
    if kind == "zero":
        return 0.0 * L
    return L * np.eye(p)[0] if kind == "rank one" else L


class Case:
    """One Hessian, prepared by iterations and written out as a dense matrix."""

    def __init__(self, layout, kind, *, joint, seed=0):
        latent, X = crossed([seed, 1], SHAPES[layout])
        rng = np.random.default_rng([seed, 2])
        system = Iterative.build(latent, X)
        self.latent, self.joint, self.rng = latent, joint, rng
        self.Lambdas = [factors(rng, kind, term.p) for term in latent.terms]
        self.W = rng.uniform(0.1, 2.0, (1, 1, N))
        w = np.empty(N)
        w[system.order] = self.W[0, 0]
        self.w, self.X = w, X
        self.factor = system.at(self.Lambdas).factor(self.W, joint=joint)
        self.order = system.order
        self.Z = np.hstack([self.written_out(term) for term in latent.terms])
        moved = [np.kron(np.eye(t.q), L) for t, L in zip(latent.terms, self.Lambdas, strict=True)]
        self.J = np.hstack([self.Z[:, at] @ L for at, L in zip(latent.places, moved, strict=True)])
        self.K = np.hstack([self.J, X]) if joint else self.J
        self.H = self.K.T @ (w[:, None] * self.K)
        effects = np.arange(latent.size)
        self.H[effects, effects] += 1.0
        self.inverse = np.linalg.inv(self.H)

    def written_out(self, term):
        Z = np.zeros((N, term.q, term.p))
        Z[np.arange(N), term.index[:, 0]] = term.Z[0]
        return Z.reshape(N, -1)

    def traces(self):
        """Give each term's sum of the blocks of Z'WK (I x Lambda) H^-1."""
        found = []
        for term, at in zip(self.latent.terms, self.latent.places, strict=True):
            whole = self.Z[:, at].T @ (self.w[:, None] * (self.K @ self.inverse[:, at]))
            blocks = whole.reshape(term.q, term.p, term.q, term.p)
            found.append(np.einsum("qaqb->ab", blocks))
        return found

    def variances(self):
        found = []
        for term, at in zip(self.latent.terms, self.latent.places, strict=True):
            blocks = self.inverse[at, at].reshape(term.q, term.p, term.q, term.p)
            found.append(np.einsum("qaqb->qab", blocks))
        return found

    def leverages(self):
        return np.einsum("ni,ij,nj->n", self.K, self.inverse, self.K)[self.order]


CASES = [(layout, kind, joint) for layout in SHAPES for kind in FACTORS for joint in (False, True)]


@pytest.fixture(params=CASES, ids=str)
def case(request):
    layout, kind, joint = request.param
    return Case(layout, kind, joint=joint)


def test_solutions_are_exact(case):
    size = case.latent.size
    g = case.rng.normal(size=len(case.H))
    u, x = case.factor.solve(g[:size], g[size:])
    np.testing.assert_allclose(np.r_[u, x], np.linalg.solve(case.H, g), rtol=1e-8, atol=1e-9)
    expected = case.inverse[size:, size:]
    np.testing.assert_allclose(case.factor.coefficient_inverse(), expected, rtol=1e-8)


def test_roots_have_the_covariance_of_the_inverse(case):
    size = case.latent.size
    root = np.column_stack(
        [np.r_[case.factor.solve_root(z[:size], z[size:])] for z in np.eye(len(case.H))]
    )
    np.testing.assert_allclose(root @ root.T, case.inverse, rtol=1e-8, atol=1e-9)


def within(value, expected, error):
    """
    Assert that estimates are within four standard errors, or six of the worst of thousands.

    The errors have 31 degrees of freedom: six are exceeded by one of a million.
    """
    most = 4 if np.size(value) < 10 else 6
    assert (np.abs(value - expected) <= most * error + 1e-8 * (1 + np.abs(expected))).all()


def test_estimates_are_within_their_errors(case):
    factor = case.factor
    log_determinant = np.linalg.slogdet(case.H)[1]
    within(factor.log_determinant, log_determinant, factor.log_determinant_error)
    for (value, error), expected in zip(factor.estimated.traces, case.traces(), strict=True):
        within(value, expected, error)
    for (value, error), expected in zip(factor.estimated.variances, case.variances(), strict=True):
        within(value, expected, error)
    within(factor.estimated.leverages[0], case.leverages(), factor.estimated.leverages[1])


def test_products_agree_with_dense_ones(case):
    system, b = case.factor.spread.system, case.rng.normal(size=case.latent.size)
    gamma = case.rng.normal(size=2)
    products = system.cross_products(case.W, with_x=True)
    expected = case.Z.T @ (case.w * (case.Z @ b + case.X @ gamma))
    np.testing.assert_allclose(system.multiply(products, b, gamma), expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(
        case.factor.spread.eta(b)[0], (case.J @ b)[case.order], rtol=1e-9, atol=1e-9
    )


def test_standard_errors_cover(monkeypatch):
    """With other probes, estimates spread about the truth as their standard errors say."""
    case = Case("few rows a level", "regular", joint=False)
    truth, away = np.linalg.slogdet(case.H)[1], []
    wanted = case.traces()
    for seed in range(200):
        monkeypatch.setattr(probes, "SEED", seed)
        factor = case.factor.spread.factor(case.W, joint=False)
        of_traces = [
            (value - expected) / error
            for (value, error), expected in zip(factor.estimated.traces, wanted, strict=True)
        ]
        log_determinant = (factor.log_determinant - truth) / factor.log_determinant_error
        away.append([log_determinant, *(part.item() for part in of_traces)])
    z = np.array(away)
    # Student's t of 31 degrees of freedom has variance 31 / 29; 200 of them, within 4 errors.
    assert (np.abs(np.mean(z**2, axis=0) - 31 / 29) < 4 * np.sqrt(2 / 200) * 1.2).all()
    assert (np.abs(z.mean(axis=0)) < 4 / np.sqrt(200)).all()


def test_more_probes_lessen_the_error(monkeypatch):
    case = Case("few rows a level", "regular", joint=True)
    monkeypatch.setattr(
        "glmm_bayes.engine.algebra.iterative.GOOD", 0.5e-3 * case.factor.reduced.probed.error
    )
    value, error = case.factor.better_log_determinant()
    assert error < 0.4 * case.factor.log_determinant_error
    within(value, np.linalg.slogdet(case.H)[1], error)


@pytest.mark.parametrize("size", [30.0, 2.0, 1.3])
def test_a_hessian_that_is_not_positive_definite_is_refused(size):
    case = Case("intercepts", "regular", joint=False)
    signs = np.where(case.rng.random(N) < 0.5, -size, 1.0)
    signed = np.empty(N)
    signed[case.order] = (signs * case.W)[0, 0]
    H = case.J.T @ (signed[:, None] * case.J) + np.eye(case.latent.size)
    assert np.linalg.eigvalsh(H)[0] < 0
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        case.factor.spread.factor(signs * case.W, joint=False)


def test_a_hessian_with_some_negative_weights_can_be_positive_definite():
    case = Case("intercepts", "regular", joint=False)
    W = np.where(case.rng.random(N) < 0.1, -0.05, case.W)
    w = np.empty(N)
    w[case.order] = W[0, 0]
    H = case.J.T @ (w[:, None] * case.J) + np.eye(case.latent.size)
    g = case.rng.normal(size=len(H))
    found = case.factor.spread.factor(W, joint=False).solve(g, np.empty(0))[0]
    np.testing.assert_allclose(found, np.linalg.solve(H, g), rtol=1e-8, atol=1e-9)


# ---- which linear algebra


def test_many_crossed_levels_are_iterated_and_local_ones_are_sparse():
    rng = np.random.default_rng(0)
    n, q = 40_000, 8_000
    a, b = rng.integers(q, size=n), rng.integers(q, size=n)
    near = (a + np.where(rng.random(n) < 0.1, rng.integers(-3, 4, size=n), 0)) % q
    for other, kind in ((b, Iterative), (near, Sparse)):
        terms = [
            Term(q, 1, index[:, None], np.ones((n, 1)), {0: np.ones((n, 1))})
            for index in (a, other)
        ]
        assert isinstance(build_system(Latent(terms, (0,), n), np.ones((n, 1))), kind)


# ---- fits


def simulated(family, n, levels, seed=1):
    rng = np.random.default_rng(seed)
    g, h = (rng.integers(q, size=n) for q in levels)
    x = rng.normal(size=n)
    eta = 0.3 + 0.5 * x + rng.normal(0, 0.7, levels[0])[g] + rng.normal(0, 0.4, levels[1])[h]
    y = rng.normal(eta) if family == "gaussian" else rng.random(n) < 1 / (1 + np.exp(-eta))
    return pd.DataFrame({"y": y * 1.0, "x": x, "g": g, "h": h})


@pytest.mark.parametrize(
    ("family", "method", "n"),
    [("gaussian", "ml", 3000), ("gaussian", "reml", 3000), ("bernoulli", "ml", 8000)],
)
def test_fits_agree_with_the_exact_ones(family, method, n, monkeypatch):
    data = simulated(family, n, (300, 200))
    model = gb.Model("y ~ x + (1 | g) + (1 | h)", data, family)
    found = {}
    for kind in (Blocked, Iterative):
        monkeypatch.setattr("glmm_bayes.modes.reading.build_system", kind.build)
        found[kind] = model.fit(method, seed=1)
    exact, other = found[Blocked].mode, found[Iterative].mode
    errors = np.sqrt(np.diag(exact.covariance))
    assert (np.abs(other.x - exact.x) < 0.01 * errors).all()
    np.testing.assert_allclose(np.sqrt(np.diag(other.covariance)), errors, rtol=1e-3)
    (note,) = other.notes
    assert "Monte Carlo standard error" in note
    within(other.loglik, exact.loglik, 0.5 * other.factor.better_log_determinant()[1])
    assert exact.notes == ()
    assert note in " ".join(str(found[Iterative].summary()).split())


def test_draws_and_predictions_have_the_exact_spread(monkeypatch):
    data = simulated("gaussian", 3000, (300, 200))
    model = gb.Model("y ~ x + (1 | g) + (1 | h)", data)
    found = {}
    for kind in (Blocked, Iterative):
        monkeypatch.setattr("glmm_bayes.modes.reading.build_system", kind.build)
        found[kind] = model.fit("reml", seed=1).mode
    for name, variances in found[Blocked].effect_variances.items():
        np.testing.assert_allclose(found[Iterative].effect_variances[name], variances, rtol=0.01)
    draws = found[Iterative].sample(np.random.default_rng(0), 400).effects["g"]
    expected = found[Blocked].effect_variances["g"][:, 0, 0].mean()
    # The mean variance over 300 levels, of 400 draws each, and the parameters' own on top.
    assert np.var(draws[:, :, 0], axis=0).mean() == pytest.approx(expected, rel=0.06)
