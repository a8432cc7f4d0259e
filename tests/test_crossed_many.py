"""Many Gaussian responses of crossed terms at once: dense matrices, and differences of them."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

import glmm_bayes as gb
from glmm_bayes.engine.crossed_many import CrossedMany
from glmm_bayes.engine.grouped import Grouped

FIRST, SHAPES = (6, 2), [(4, 1), (3, 2)]


@pytest.fixture(scope="module")
def case():
    """Three terms, of two, one and two columns; two responses with a Lambda each."""
    rng = np.random.default_rng(4)
    n = 50
    level = np.sort(np.concatenate([np.arange(6), rng.integers(6, size=n - 6)]))
    Z1, Z = rng.normal(size=(n, 2)), []
    for q, p in SHAPES:
        own = np.zeros((n, q, p))
        own[np.arange(n), rng.integers(q, size=n)] = rng.normal(size=(n, p))
        Z.append(own.reshape(n, -1))
    X = np.column_stack([np.ones(n), rng.normal(size=n)])
    y, w = 3 + rng.normal(size=(2, n)), rng.uniform(0.5, 2, size=n)
    w = w / w.mean()
    many = CrossedMany(Grouped(Z1, level, 6), np.hstack(Z), SHAPES, X, y, w, float(n))
    whole = np.zeros((n, 6, 2))
    whole[np.arange(n), level] = Z1
    Lambdas = [np.tril(rng.normal(size=(2, p, p))) for p in (2, 1, 2)]
    return many, [whole.reshape(n, -1), *Z], X, y, w, Lambdas


def dense(case, Ls, s, sigma, *, restricted):
    """The log likelihood at the coefficients' best, and these."""
    _, Z, X, y, w, _ = case
    sizes = [FIRST[0], *(q for q, _ in SHAPES)]
    V = np.diag(1 / w)
    for own, q, L in zip(Z, sizes, Ls, strict=True):
        V = V + own @ np.kron(np.eye(q), L @ L.T) @ own.T
    V = sigma**2 * V
    inverse = np.linalg.inv(V)
    precision = X.T @ inverse @ X
    beta = np.linalg.solve(precision, X.T @ inverse @ y[s])
    value = multivariate_normal(X @ beta, V).logpdf(y[s])
    if restricted:
        value -= 0.5 * np.linalg.slogdet(precision / (2 * np.pi))[1]
    return value, beta


@pytest.mark.parametrize("restricted", [False, True])
def test_profiles_agree_with_dense_densities(case, restricted):
    many, Lambdas = case[0], case[-1]
    found = many.profile(np.arange(2), Lambdas, restricted=restricted)
    constant = 0.5 * np.log(case[4]).sum()
    for s in range(2):
        Ls = [L[s] for L in Lambdas]
        value, beta = dense(case, Ls, s, found.sigma[s], restricted=restricted)
        assert found.value[s] + constant == pytest.approx(value, rel=1e-9)
        np.testing.assert_allclose(found.gamma[s], beta, rtol=1e-8)
        for step in (0.99, 1.01):
            beside = dense(case, Ls, s, step * found.sigma[s], restricted=restricted)[0]
            assert beside < value


@pytest.mark.parametrize("restricted", [False, True])
def test_slopes_are_those_of_the_values(case, restricted):
    many, Lambdas = case[0], case[-1]
    found = many.profile(np.arange(2), Lambdas, restricted=restricted)
    for t, L in enumerate(Lambdas):
        for place in np.ndindex(L.shape[1:]):
            step = np.zeros_like(L)
            step[(slice(None), *place)] = 1e-6
            ends = [
                many.profile(
                    np.arange(2),
                    [M + sign * step if k == t else M for k, M in enumerate(Lambdas)],
                    restricted=restricted,
                ).value
                for sign in (1, -1)
            ]
            slope = (ends[0] - ends[1]) / 2e-6
            np.testing.assert_allclose(
                found.by_Lambda[t][(slice(None), *place)], slope, rtol=1e-5, atol=1e-6
            )


@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.filterwarnings("ignore::glmm_bayes.errors.SingularFitWarning")
def test_bootstraps_of_crossed_terms_are_cold_fits(method):
    data = gb.load_dataset("sleepstudy")
    data = data.assign(item=[f"i{k % 7}" for k in range(180)])
    fit = gb.Model("Reaction ~ Days + (1 + Days | Subject) + (1 | item)", data).fit(method)
    found = gb.bootstrap(fit, n=3, seed=2, progressbar=False)
    from glmm_bayes.verbs.resampled import Source

    rng = np.random.default_rng(np.random.SeedSequence(2, spawn_key=(0,)))
    for k, y in enumerate(Source.of(fit, "parametric").responses(fit.model, 128, rng)[:3]):
        cold = gb.Model(fit.model.formula.texts[0], data.assign(Reaction=y)).fit(method)
        np.testing.assert_allclose(found.draws.iloc[k], cold.theta, rtol=5e-3, atol=5e-3)
        assert (found.status[k] == "singular") == cold.is_singular
