"""
One law over the linear algebras of effects: all of it agrees with dense matrices.

Rows go in and come out in the order that a system says, effects in the model's.
"""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from glmm_bayes.engine.algebra.blocked import Blocked
from glmm_bayes.engine.algebra.dense import Dense
from glmm_bayes.engine.algebra.iterative import Iterative
from glmm_bayes.engine.algebra.sparse import Sparse
from glmm_bayes.engine.algebra.systems import build_system
from glmm_bayes.engine.latent import Latent, Pattern, Precision, Term

SYSTEMS = {"blocked": Blocked, "sparse": Sparse, "dense": Dense}
N = 40


def codes(rng, q):
    """Give a level to each row, every level to some."""
    return rng.permutation(np.concatenate([np.arange(q), rng.integers(q, size=N - q)]))


def term(rng, q, p, index=None, *, loads=(0,), members=1):
    """Make a term of random columns, the first of ones."""
    index = codes(rng, q) if index is None else index
    index = np.column_stack([index, *(rng.integers(q, size=N) for _ in range(members - 1))])
    weights = np.ones((N, 1)) if members == 1 else rng.uniform(0.2, 1.0, (N, members))
    Z = {a: np.column_stack([np.ones(N), rng.normal(size=(N, p - 1))]) for a in loads}
    return Term(q, p, index, weights, Z)


def nested(rng):
    outer = codes(rng, 4)
    # Levels of the inner grouping numbered in no order of the outer one's.
    inner = rng.permutation(12)[outer * 3 + rng.integers(3, size=N)]
    return [term(rng, 4, 2, outer), term(rng, 12, 1, inner)]


def same_grouping(rng, q, other):
    index = codes(rng, q)
    return [term(rng, q, 1, index), term(rng, other, 2), term(rng, q, 2, index)]


def shared(rng):
    """Make a term with a column in each of two predictors, and one in the first only."""
    both = term(rng, 7, 2, loads=(0, 1))
    both.Z[0][:, 1] = 0.0
    both.Z[1][:, 0] = 0.0
    return [both, term(rng, 5, 1)]


def twice_the_same(rng):
    """Let a row belong to the same level twice."""
    found = term(rng, 6, 2, members=3)
    found.index[:10, 1] = found.index[:10, 0]
    found.index[5:8, 2] = found.index[5:8, 0]
    return [found, term(rng, 4, 1)]


def structured(rng, q, p, index=None, *, pairs=None, **options):
    """Make a term whose levels have a precision: a chain, unless other pairs meet."""
    found = term(rng, q, p, index, **options)
    if pairs is None:
        pairs = [(i, i) for i in range(q)] + [(i + 1, i) for i in range(q - 1)]
    return replace(found, pattern=Pattern(q, np.array(pairs)))


def held(rng, q, p, **options):
    """Make a term whose entries say nothing of a sum and of another direction, which are held."""
    found = structured(rng, q, p, pairs=[(i, j) for i in range(q) for j in range(i + 1)], **options)
    rows = 10.0 * np.array([np.ones(q), np.arange(q) - (q - 1) / 2])
    return replace(found, pattern=replace(found.pattern, held=rows, pins=np.array([0, q - 1])))


def anyhow(rng, q):
    """Give every level with itself, and some couples, in no order."""
    couples = [(i, j) for i in range(q) for j in range(i) if rng.random() < 0.4]
    return rng.permutation([(i, i) for i in range(q)] + couples)


def precision_of(rng, t):
    """Give a positive definite precision on a term's pairs; None where its levels are iid."""
    if t.pattern is None:
        return None
    i, j = t.pattern.pairs.T
    values = np.where(i == j, 0.0, rng.uniform(-1.0, 1.0, len(i)))
    weight = np.bincount(i, np.abs(values), t.q) + np.bincount(j, np.abs(values), t.q)
    values[i == j] = (weight + rng.uniform(0.2, 1.0, t.q))[i[i == j]]
    Q = np.zeros((t.q, t.q))
    Q[i, j] = Q[j, i] = values
    if t.pattern.held is not None:
        rows = t.pattern.held
        away = np.eye(t.q) - np.linalg.pinv(rows) @ rows
        Q = away @ Q @ away
        values = Q[i, j]
        Q = Q + rows.T @ rows
    return Precision(values, float(np.linalg.slogdet(Q)[1]))


LAYOUTS = {
    "one": lambda rng: [term(rng, 8, 1)],
    "three columns": lambda rng: [term(rng, 6, 3)],
    "crossed": lambda rng: [term(rng, 9, 2), term(rng, 6, 1)],
    "largest is last": lambda rng: [term(rng, 3, 2), term(rng, 5, 3), term(rng, 9, 2)],
    "nested": nested,
    "two on the largest": lambda rng: same_grouping(rng, 9, 4),
    "two on a smaller": lambda rng: same_grouping(rng, 4, 9),
    "equally large": lambda rng: [term(rng, 6, 1), term(rng, 6, 2)],
    "levels without rows": lambda rng: [
        term(rng, 9, 2, rng.integers(1, 7, size=N)),
        term(rng, 6, 1, rng.integers(2, 5, size=N)),
    ],
    "a level a row": lambda rng: [term(rng, N, 1), term(rng, 5, 2)],
    "one level": lambda rng: [term(rng, 1, 2)],
    "a chain": lambda rng: [structured(rng, 8, 1)],
    "a chain of slopes": lambda rng: [structured(rng, 7, 2)],
    "a graph beside levels": lambda rng: [
        term(rng, 9, 2),
        structured(rng, 6, 1, pairs=anyhow(rng, 6)),
    ],
    "two graphs": lambda rng: [
        structured(rng, 12, 1, pairs=anyhow(rng, 12)),
        structured(rng, 4, 2),
        term(rng, 5, 1),
    ],
    "held directions": lambda rng: [held(rng, 9, 2), term(rng, 5, 1)],
    "a chain on the largest": lambda rng: [structured(rng, N, 1), term(rng, 5, 2)],
}
WIDE = {
    "members": lambda rng: [term(rng, 8, 2, members=2), term(rng, 5, 1)],
    "members twice the same": twice_the_same,
    "two predictors": lambda rng: [term(rng, 7, 2), term(rng, 5, 1, loads=(1,))],
    "the second predictor only": lambda rng: [term(rng, 7, 2, loads=(1,))],
    "shared": shared,
    "a graph in two predictors": lambda rng: [
        structured(rng, 7, 2, pairs=anyhow(rng, 7), loads=(0, 1)),
        term(rng, 5, 1),
    ],
    "three predictors": lambda rng: [term(rng, 6, 1, loads=(0, 2)), term(rng, 4, 2, loads=(1,))],
}
CASES = [(system, layout) for system in SYSTEMS for layout in LAYOUTS]
CASES += [(system, layout) for system in ("sparse", "dense") for layout in WIDE]
LAMBDAS = ("regular", "full", "zero", "a zero column", "rank one", "huge")


class Case:
    """A random design, and everything about it by dense algebra."""

    def __init__(self, layout, factors, *, joint, seed=0):
        rng = np.random.default_rng([seed, LAMBDAS.index(factors)])
        terms = (LAYOUTS | WIDE)[layout](rng)
        loaded = tuple(sorted({0} | {a for t in terms for a in t.Z}))
        self.latent = Latent(terms, loaded, N)
        self.X = np.column_stack([np.ones(N), rng.normal(size=(N, 2))])
        R = len(loaded)
        root = rng.normal(size=(N, R, R))
        self.W = np.einsum("nab,ncb->acn", root, root) + 0.1 * np.eye(R)[:, :, None]
        self.W[:, :, 3] = 0.0  # a row without any weight
        self.Lambdas = [factor(rng, t.p, factors) for t in terms]
        self.precisions = [precision_of(rng, t) for t in terms]
        self.joint, self.rng = joint, rng
        self.words = f"{layout}, {factors}, joint={joint}"
        self.Z = np.stack([np.hstack([written_out(t, a) for t in terms]) for a in loaded])
        self.J = self.loaded(self.Lambdas)
        self.N = self.J.shape[2]
        self.H = self.hessian(self.Lambdas)
        self.inverse = np.linalg.inv(self.H)
        # What the rounding of H's entries does to its inverse, twice over and with some room.
        self.noise = 50 * np.finfo(float).eps * np.linalg.cond(self.H)

    def agree(self, found, expected):
        room = self.noise * np.abs(expected).max(initial=1.0)
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=room, err_msg=self.words)

    def loaded(self, Lambdas):
        """Give Z (I x Lambda), `(R, n, N)`."""
        blocks = [np.kron(np.eye(t.q), L) for t, L in zip(self.latent.terms, Lambdas, strict=True)]
        ends = np.cumsum([0, *(len(b) for b in blocks)])
        parts = [self.Z[:, :, a:b] for a, b in zip(ends[:-1], ends[1:], strict=True)]
        return np.concatenate([p @ b for p, b in zip(parts, blocks, strict=True)], axis=2)

    def columns(self, J):
        if not self.joint:
            return J
        X = np.zeros((len(J), *self.X.shape))
        X[0] = self.X
        return np.concatenate([J, X], axis=2)

    def hessian(self, Lambdas, precisions=None):
        K = self.columns(self.loaded(Lambdas))
        H = np.einsum("rni,rsn,snj->ij", K, self.W, K, optimize=True)
        prior = self.prior(self.precisions if precisions is None else precisions)
        H = H.astype(prior.dtype) if np.iscomplexobj(prior) else H
        H[: len(prior), : len(prior)] += prior
        return H

    def prior(self, precisions):
        """Give the effects' precision, term by term."""
        values = [p.values for p in precisions if p is not None]
        P = np.zeros((self.N, self.N), dtype=np.result_type(float, *values))
        for at, t, precision in zip(self.latent.places, self.latent.terms, precisions, strict=True):
            Q = np.eye(t.q, dtype=P.dtype)
            if precision is not None:
                i, j = t.pattern.pairs.T
                Q[:] = 0.0
                Q[i, j] = Q[j, i] = precision.values
                Q = Q if t.pattern.held is None else Q + t.pattern.held.T @ t.pattern.held
            P[at, at] = np.kron(Q, np.eye(t.p))
        return P

    def at(self, s, Lambdas=None):
        return s.at(self.Lambdas if Lambdas is None else Lambdas, self.precisions)

    def factor(self, system):
        s = SYSTEMS[system].build(self.latent, self.X)
        return self.at(s).factor(self.W[:, :, s.order], joint=self.joint)


def written_out(t, a):
    """Give a term's Z of predictor a, `(n, q p)`, row by row."""
    Z = np.zeros((N, t.size))
    for i in range(N if a in t.Z else 0):
        for level, weight in zip(t.index[i], t.weights[i], strict=True):
            Z[i, level * t.p : (level + 1) * t.p] += weight * t.Z[a][i]
    return Z


def factor(rng, p, kind):
    found = np.tril(rng.normal(size=(p, p))) + np.eye(p)
    if kind == "full":  # as compound symmetry's symmetric root
        found = found + found.T
    if kind == "zero":
        found *= 0.0
    if kind == "a zero column":
        found[-1] = 0.0
    if kind == "rank one":
        found[:, 1:] = 0.0
    return 30.0 * found if kind == "huge" else found


@cache
def case(layout, factors, joint):
    return Case(layout, factors, joint=joint)


def cases(layout, *, joint):
    return [case(layout, factors, joint) for factors in LAMBDAS]


@pytest.fixture(params=CASES, ids=lambda pair: "-".join(pair), scope="module")
def pair(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["effects", "joint"])
def joint(request):
    return request.param


def test_products_with_the_columns(pair):
    for c in cases(pair[1], joint=False):
        system = SYSTEMS[pair[0]].build(c.latent, c.X)
        spread, rows = c.at(system), system.order
        v = c.rng.normal(size=c.N)
        c.agree(spread.times_prior(v), c.prior(c.precisions) @ v)
        u, r = c.rng.normal(size=c.N), c.rng.normal(size=(len(c.Z), N))
        c.agree(spread.eta(u), (c.J @ u)[:, rows])
        found = np.concatenate([part.ravel() for part in spread.collect(r[:, rows])])
        c.agree(found, np.einsum("rnj,rn->j", c.Z, r))


def test_determinant_solutions_and_inverse(pair, joint):
    for c in cases(pair[1], joint=joint):
        f = c.factor(pair[0])
        c.agree(f.log_determinant, np.linalg.slogdet(c.H)[1])
        g = c.rng.normal(size=c.N + 3)
        solution = np.concatenate(f.solve(g[: c.N], g[c.N :]))
        c.agree(solution, np.linalg.solve(c.H, g[: len(c.H)]))
        c.agree(f.coefficient_inverse(), c.inverse[c.N :, c.N :])
        for begin, t, part in zip(c.latent.places, c.latent.terms, f.variances(), strict=True):
            levels = begin.start + np.arange(t.size).reshape(t.q, t.p)
            c.agree(part, c.inverse[levels[:, :, None], levels[:, None, :]])


def test_standard_normals_become_normals_of_the_inverse(pair, joint):
    for c in cases(pair[1], joint=joint):
        f, size = c.factor(pair[0]), len(c.H)
        ones = np.eye(c.N + 3)[:size]
        # A linear map is its answers to the unit vectors: root root' is the covariance.
        roots = [np.concatenate(f.solve_root(z[: c.N], z[c.N :])) for z in ones]
        c.agree(np.transpose(roots) @ roots, c.inverse)


def test_slopes_are_carried_back_to_the_normals(pair, joint):
    for c in cases(pair[1], joint=joint):
        f, size = c.factor(pair[0]), len(c.H)
        g = c.rng.normal(size=c.N + 3)[:size]
        found = np.concatenate(f.root_slopes(g[: c.N], g[c.N :]))
        ones = np.eye(c.N + 3)[:size]
        roots = [np.concatenate(f.solve_root(z[: c.N], z[c.N :])) for z in ones]
        c.agree(found, np.array(roots) @ g)


def test_a_prior_of_the_coefficients_is_added_to_their_part(pair):
    for c in cases(pair[1], joint=True):
        ridge = np.diag([0.5, 2.0, 0.1]) + 0.05
        H = c.H.copy()
        H[c.N :, c.N :] += ridge
        system = SYSTEMS[pair[0]].build(c.latent, c.X)
        f = c.at(system).factor(c.W[:, :, system.order], joint=True, ridge=ridge)
        c.agree(f.log_determinant, np.linalg.slogdet(H)[1])
        g = c.rng.normal(size=len(H))
        c.agree(np.concatenate(f.solve(g[: c.N], g[c.N :])), np.linalg.solve(H, g))
        c.agree(f.coefficient_inverse(), np.linalg.inv(H)[c.N :, c.N :])


def test_leverages_are_the_predictors_covariance(pair, joint):
    for c in cases(pair[1], joint=joint):
        K = c.columns(c.J)
        expected = np.einsum("rni,ij,snj->rsn", K, c.inverse, K, optimize=True)
        f = c.factor(pair[0])
        c.agree(f.leverages(), expected[:, :, f.spread.system.order])


def test_traces_are_the_slopes_of_the_determinant(pair, joint):
    for c in cases(pair[1], joint=joint):
        for k, found in enumerate(c.factor(pair[0]).traces()):
            slopes = np.empty_like(found)
            for place in np.ndindex(*found.shape):
                moved = [L.astype(complex) for L in c.Lambdas]
                moved[k][place] += 1e-25j
                # The complex step: exact to rounding, without a formula of the slopes.
                slopes[place] = 0.5 * np.angle(np.linalg.slogdet(c.hessian(moved))[0]) / 1e-25
            c.agree(found, slopes)


def test_traces_by_a_precision_are_the_slopes_of_the_determinant(pair, joint):
    for c in cases(pair[1], joint=joint):
        for t, found in enumerate(c.factor(pair[0]).prior_traces()):
            own = c.precisions[t]
            if own is None:
                assert found is None
                continue
            slopes = np.empty_like(found)
            for k in range(len(found)):
                moved = list(c.precisions)
                values = own.values.astype(complex)
                values[k] += 1e-25j
                moved[t] = replace(own, values=values)
                H = c.hessian(c.Lambdas, moved)
                slopes[k] = np.angle(np.linalg.slogdet(H)[0]) / 1e-25
            c.agree(found, slopes)


def test_effects_alone(pair):
    for c, alone in zip(cases(pair[1], joint=True), cases(pair[1], joint=False), strict=True):
        f, g, none = c.factor(pair[0]).effects_only(), c.rng.normal(size=c.N), np.empty(0)
        c.agree(f.log_determinant, np.linalg.slogdet(alone.H)[1])
        u, gamma = f.solve(g, none)
        c.agree(u, np.linalg.solve(alone.H, g))
        assert gamma.shape == f.solve_root(g, none)[1].shape == (0,)
        assert f.coefficient_inverse().shape == (0, 0)
        whole = alone.factor(pair[0])
        c.agree(f.leverages(), whole.leverages())
        for name in ("traces", "variances"):
            for found, expected in zip(getattr(f, name)(), getattr(whole, name)(), strict=True):
                c.agree(found, expected)


def test_cross_products_serve_every_factor(pair):
    c, other = case(pair[1], "regular", True), case(pair[1], "rank one", True)
    system = SYSTEMS[pair[0]].build(c.latent, c.X)
    products = system.cross_products(c.W[:, :, system.order], with_x=True)
    b, gamma = c.rng.normal(size=c.N), c.rng.normal(size=3)
    K, weights = c.columns(c.Z), np.concatenate([b, gamma])
    expected = np.einsum("rni,rsn,snj,j->i", c.Z, c.W, K, weights, optimize=True)
    c.agree(system.multiply(products, b, gamma), expected)
    for Lambdas in (c.Lambdas, other.Lambdas, c.Lambdas):
        H = c.hessian(Lambdas)
        f = c.at(system, Lambdas).factor_products(products, joint=True)
        c.agree(f.log_determinant, np.linalg.slogdet(H)[1])
        g = c.rng.normal(size=len(H))
        c.agree(np.concatenate(f.solve(g[: c.N], g[c.N :])), np.linalg.solve(H, g))


@pytest.mark.parametrize("trouble", ["negative", "negative in one row", "not a number"])
def test_a_hessian_that_is_not_positive_definite_is_refused(pair, joint, trouble):
    c = case(pair[1], "regular", joint)
    W = -10.0 * c.W if trouble == "negative" else c.W.copy()
    if trouble != "negative":
        W[:, :, 0] = -1e4 if "row" in trouble else np.nan
    system = SYSTEMS[pair[0]].build(c.latent, c.X)
    spread, W = c.at(system), W[:, :, system.order]
    with pytest.raises(np.linalg.LinAlgError, match=r"[Pp]ositive definite|not finite"):
        spread.factor(W, joint=joint)


def test_a_hessian_of_negative_weights_may_be_positive_definite(pair):
    """Where the rows' own density is not concave, the effects' prior may still make it so."""
    c = case(pair[1], "regular", False)
    prior = c.prior(c.precisions)
    bound = np.linalg.eigvalsh(c.H - prior)[-1] / np.linalg.eigvalsh(prior)[0]
    W = -0.5 * c.W / bound
    H = prior - 0.5 / bound * (c.H - prior)
    system = SYSTEMS[pair[0]].build(c.latent, c.X)
    f = c.at(system).factor(W[:, :, system.order], joint=False)
    assert f.log_determinant == pytest.approx(np.linalg.slogdet(H)[1], abs=1e-11)


@pytest.mark.parametrize("system", ["blocked", "dense"])
def test_without_effects_only_the_coefficients_are_left(system):
    rng = np.random.default_rng(3)
    X, W = rng.normal(size=(N, 3)), rng.uniform(0.1, 2.0, (1, 1, N))
    empty = SYSTEMS[system].build(Latent([], (0,), N), X).at([])
    f, H = empty.factor(W, joint=True), (X.T * W[0, 0]) @ X
    assert f.log_determinant == pytest.approx(np.linalg.slogdet(H)[1], rel=1e-12)
    none, g = np.empty(0), rng.normal(size=3)
    np.testing.assert_allclose(f.solve(none, g)[1], np.linalg.solve(H, g), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(f.coefficient_inverse(), np.linalg.inv(H), rtol=1e-10, atol=1e-12)
    expected = np.einsum("ni,ij,nj->n", X, np.linalg.inv(H), X)
    np.testing.assert_allclose(f.leverages()[0, 0], expected, rtol=1e-10, atol=1e-12)
    assert f.traces() == f.variances() == empty.collect(np.zeros((1, N))) == []
    assert not empty.eta(none).any()


@pytest.mark.parametrize("layout", WIDE)
def test_only_sparse_or_dense_takes_members_and_several_predictors(layout, monkeypatch):
    c = case(layout, "regular", False)
    assert isinstance(build_system(c.latent, c.X), Dense)
    monkeypatch.setattr("glmm_bayes.engine.algebra.systems.TINY", 0)
    monkeypatch.setattr("glmm_bayes.engine.algebra.systems.FULL", 1.0)
    assert isinstance(build_system(c.latent, c.X), Sparse)


def test_larger_models_are_blocked_or_iterative(monkeypatch):
    c = case("crossed", "regular", False)
    monkeypatch.setattr("glmm_bayes.engine.algebra.systems.TINY", 0)
    assert isinstance(build_system(c.latent, c.X), Blocked)
    monkeypatch.setattr("glmm_bayes.engine.algebra.systems.FEW", 0)
    monkeypatch.setattr("glmm_bayes.engine.algebra.systems.SMALL", 0)
    monkeypatch.setattr("glmm_bayes.engine.algebra.systems.MOST", 1)
    assert isinstance(build_system(c.latent, c.X), Iterative)


def test_many_nested_levels_are_sparse(monkeypatch):
    """1,200 rows in 400 classes in 200 schools: the schools meet no others, nothing fills in."""
    monkeypatch.setattr("glmm_bayes.engine.algebra.systems.TINY", 0)
    row, one = np.arange(1200), np.ones((1200, 1))
    levels = [(400, row // 3), (200, row // 6)]
    terms = [Term(q, 1, index[:, None], one, {0: one}) for q, index in levels]
    assert isinstance(build_system(Latent(terms, (0,), 1200), one), Sparse)
    other = np.random.default_rng(0).integers(200, size=(1200, 1))
    crossed = [terms[0], Term(200, 1, other, one, {0: one})]
    assert isinstance(build_system(Latent(crossed, (0,), 1200), one), Blocked)
