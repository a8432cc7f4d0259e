"""Sums of crossed effects with the largest term eliminated: dense algebra, and lmerTest."""

import numpy as np
import pandas as pd
import pytest
from references import factor, table
from scipy.sparse import csr_array

import glmm_bayes as gb
from glmm_bayes.engine.eliminated import Halves, eliminated
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.modes import meeting

SHAPES = [(4, 1), (7, 2), (3, 2)]


def crossed(first, seed=0):
    """Rows of three crossed terms, and Z'D^-1 Z cut in two; whatever else is asked of V."""
    rng = np.random.default_rng(seed)
    n, k = 40, 3
    Z = []
    for q, p in SHAPES:
        own = np.zeros((n, q, p))
        own[np.arange(n), rng.integers(q, size=n)] = rng.normal(size=(n, p))
        Z.append(own.reshape(n, q * p))
    roots = [rng.normal(size=(p, p)) for _, p in SHAPES]
    # One that stands at zero, as of a variance that is not there.
    Gs = [roots[0] @ roots[0].T, roots[1] @ roots[1].T, np.diag([0.7, 0.0])]
    X, r, w = rng.normal(size=(n, k)), rng.normal(size=n), rng.uniform(0.5, 2, size=n)
    rest = np.hstack([Z[t] for t in range(3) if t != first])
    right = np.column_stack([X, r])
    q, p = SHAPES[first]
    A11 = (Z[first].T * w @ Z[first]).reshape(q, p, q, p)
    halves = Halves(
        first,
        SHAPES,
        np.einsum("lalb->lab", A11),
        csr_array(Z[first].T * w @ rest),
        rest.T * w @ rest,
        Z[first].T * w @ right,
        rest.T * w @ right,
    )
    outer = (X.T * w @ X, X.T * w @ r, float(w * r @ r), float(n))
    return halves, Gs, outer, (Z, X, r, w)


@pytest.mark.parametrize("first", range(3))
def test_sums_agree_with_dense_matrices(first):
    halves, Gs, outer, (Z, X, r, w) = crossed(first)
    found = eliminated(halves, Gs, *outer)
    V = np.diag(1 / w)
    for (q, _), own, G in zip(SHAPES, Z, Gs, strict=True):
        V += own @ np.kron(np.eye(q), G) @ own.T
    inverse = np.linalg.inv(V)
    Phi = np.linalg.inv(X.T @ inverse @ X)
    e = r - X @ Phi @ X.T @ inverse @ r
    np.testing.assert_allclose(found.Phi, Phi, rtol=1e-9)
    assert found.square == pytest.approx(e @ inverse @ e, rel=1e-9)
    S = [(own.T @ inverse @ X).reshape(*s, -1) for own, s in zip(Z, SHAPES, strict=True)]
    a = [(own.T @ inverse @ e).reshape(s) for own, s in zip(Z, SHAPES, strict=True)]
    for t, left in enumerate(Z):
        own = (left.T @ inverse @ left).reshape(*SHAPES[t], *SHAPES[t])
        close(found.trace[t], np.einsum("lalb->ab", own))
        close(found.XX[t], np.einsum("laj,lbk->abjk", S[t], S[t]))
        close(found.forms[t], np.einsum("la,lb->ab", a[t], a[t]))
        close(found.mean_forms[t], np.einsum("la,lbk->abk", a[t], S[t]))
        for u, right in enumerate(Z):
            M = (left.T @ inverse @ right).reshape(*SHAPES[t], *SHAPES[u])
            close(found.cross[t][u], np.einsum("lbmc,lamd->abcd", M, M))
            close(found.XZX[t][u], np.einsum("laj,lbmc,mdk->abcdjk", S[t], M, S[u]))
            close(found.form_pairs[t][u], np.einsum("la,lbmc,md->abcd", a[t], M, a[u]))


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9 * abs(expected).max())


# By lmerTest 3.1-3, by 'reml': estimates, standard errors and degrees of freedom, as good as lmer's
# search and lmerTest's differences of the deviance are.
SLOPES = ([3.30616631, -0.01252025591], [0.03333687234, 0.04006944854], [427.8381733, 355.2691214])
WHOLE = ([3.280672538, -0.05349573932], [0.03526309885, 0.04454383824], [30.10824799, 19.23652153])


def test_agrees_with_lmer_test_where_six_hundred_effects_are_crossed_with_a_thousand():
    data = table("insteval", "s", "d", "service")()
    data = data[data["s"].astype(int) <= 300]
    data = data.assign(s=factor(data["s"]), d=factor(data["d"]))
    agrees("y ~ service + (1 + service | s) + (1 | d)", data, SLOPES)


@pytest.mark.slow
def test_agrees_with_lmer_test_on_seventy_thousand_rows():
    data = table("insteval", "s", "d", "service", "dept")()
    agrees("y ~ service + (1 | s) + (1 | d) + (1 | dept:service)", data, WHOLE)


def agrees(formula, data, expected):
    found = gb.Model(formula, data).fit("reml").ttest()
    for column, values in zip(["estimate", "std_error"], expected, strict=False):
        np.testing.assert_allclose(found[column], values, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["df"], expected[2], rtol=1e-3)


@pytest.mark.parametrize(
    "formula",
    [
        ["Reaction ~ Days + (1 + Days | Subject) + (1 | item)"],
        ["Reaction ~ Days + (1 + Days | Subject)"],
        ["Reaction ~ Days + (1 | Subject) + (1 | item)", "sigma ~ f"],
    ],
)
@pytest.mark.filterwarnings("ignore::glmm_bayes.errors.SingularFitWarning")
def test_either_way_gives_the_same_tests(formula, monkeypatch):
    data = gb.load_dataset("sleepstudy")
    data = data.assign(item=np.arange(180) % 7, f=pd.Categorical(list("abc" * 60))).iloc[:150]
    fit = gb.Model(formula, data).fit("reml" if len(formula) == 1 else "ml")
    ddfs = ["satterthwaite", "kenward-roger"][: 3 - len(formula)]
    by_clusters = [fit.ttest(ddf) for ddf in ddfs]
    called = []
    monkeypatch.setattr(meeting, "SMALL", 0)
    monkeypatch.setattr(meeting, "eliminated", lambda *a: called.append(1) or eliminated(*a))
    for ddf, expected in zip(ddfs, by_clusters, strict=True):
        np.testing.assert_allclose(fit.ttest(ddf), expected, rtol=1e-6)
    assert called


def test_too_many_effects_are_refused(monkeypatch):
    monkeypatch.setattr(meeting, "LARGEST", 5)
    monkeypatch.setattr(meeting, "SMALL", 0)
    fit = gb.Model("diameter ~ 1 + (1 | plate) + (1 | sample)", table("penicillin")()).fit("reml")
    with pytest.raises(NotSupportedError, match="6 random effects meet"):
        fit.ttest()
