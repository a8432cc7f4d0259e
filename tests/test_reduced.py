"""Reduced rank: few factors behind many columns, against closed forms and dense algebra."""

import warnings

import numpy as np
import pandas as pd
import pytest
from dense import Dense
from scipy import stats

import glmm_bayes as gb
from glmm_bayes.covariance import COVARIANCES
from glmm_bayes.errors import DataError, FormulaError, NotSupportedError, UnknownNameError

TERM = "y ~ 0 + f + rr(0 + f | g, d={})"


def factored(L, q=150, n=2, noise=0.5, seed=1):
    """Make q groups whose effects on the columns are L times independent factors."""
    rng = np.random.default_rng(seed)
    p, d = L.shape
    b = rng.normal(size=(q, d)) @ L.T
    g, f, _ = np.indices((q, p, n)).reshape(3, -1)
    y = b[g, f] + noise * rng.normal(size=len(g))
    return pd.DataFrame({"y": y, "g": g, "f": pd.Categorical.from_codes(f, list("abcdefgh")[:p])})


ONE = np.array([[1.0], [0.8], [-0.6], [0.5]])
TWO = np.array([[1.0, 0.0], [0.8, 0.7], [-0.6, 0.9], [0.5, -0.4]])


def quiet(model, method="ml", **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gb.SingularFitWarning)
        warnings.simplefilter("ignore", gb.ConvergenceWarning)
        return model.fit(method, seed=1, **options)


def loadings(fit, d):
    return fit.mode.Lambdas["g"][:, :d]


# ---- maxima


def test_full_rank_is_unstructured():
    data = factored(np.hstack([TWO, 0.6 * np.eye(4)[:, 2:]]))
    full = gb.Model("y ~ 0 + f + (0 + f | g)", data).fit("ml")
    fit = gb.Model(TERM.format(4), data).fit("ml")
    assert fit.loglik == pytest.approx(full.loglik, abs=1e-6)
    assert fit.df == full.df


@pytest.mark.parametrize(("L", "d"), [(ONE, 1), (TWO, 2), (TWO, 1)])
def test_likelihood_against_dense_algebra(L, d):
    """At the maximum; it counts p d - d (d - 1) / 2 parameters, and is no singular fit."""
    data = factored(L, q=40)
    model = gb.Model(TERM.format(d), data)
    fit = model.fit("ml")
    mode = fit.mode
    dense = Dense(model, restricted=False)
    height = dense(mode.coordinates.split(mode.x), mode.coordinates.Lambdas(mode.x))
    assert fit.loglik == pytest.approx(height, abs=1e-8)
    assert fit.df == 4 + 1 + 4 * d - d * (d - 1) // 2
    assert fit.converged
    assert not fit.is_singular


def test_probabilistic_principal_components_in_closed_form():
    """
    With one row a cell and a zero mean, L L' = U (D - sigma^2) U' of the first d eigenvectors.

    Tipping & Bishop (1999), J. Royal Statistical Society B 61, 611-622.
    """
    data = factored(TWO, q=200, n=1)
    fit = gb.Model("y ~ 0 + rr(0 + f | g, d=2)", data).fit("ml")
    Y = data["y"].to_numpy().reshape(200, 4)
    values, vectors = np.linalg.eigh(Y.T @ Y / 200)
    noise = values[:2].mean()
    expected = (vectors[:, 2:] * (values[2:] - noise)) @ vectors[:, 2:].T
    L = loadings(fit, 2)
    np.testing.assert_allclose(L @ L.T, expected, atol=1e-4)
    assert fit.mode.scale == pytest.approx(np.sqrt(noise), abs=1e-5)
    V = expected + noise * np.eye(4)
    height = stats.multivariate_normal(np.zeros(4), V).logpdf(Y).sum()
    assert fit.loglik == pytest.approx(height, abs=1e-6)


def test_a_factor_too_many_is_exactly_zero():
    data = next(
        data
        for data in (factored(ONE, q=60, seed=seed) for seed in range(20))
        if quiet(gb.Model(TERM.format(2), data)).is_singular
    )
    fit, one = quiet(gb.Model(TERM.format(2), data)), gb.Model(TERM.format(1), data).fit("ml")
    assert not loadings(fit, 2)[:, 1].any()
    assert [part.words for part in fit.singular] == [
        "the effects of f[a] and f[b] and f[c] and f[d] on g are estimated of less than 2 factors"
    ]
    assert fit.loglik == pytest.approx(one.loglik, abs=1e-7)
    np.testing.assert_allclose(np.abs(loadings(fit, 1)), np.abs(loadings(one, 1)), atol=1e-4)


def test_no_effects_are_no_factors():
    y, f = np.tile([-1.0, 1.0], 60), np.tile(np.repeat(list("abc"), 2), 20)
    data = pd.DataFrame({"y": y, "g": np.repeat(np.arange(20), 6), "f": f})
    fit = quiet(gb.Model("y ~ 1 + rr(0 + f | g)", data))
    assert not fit.mode.Lambdas["g"].any()
    assert fit.loglik == pytest.approx(-0.5 * 120 * (np.log(2 * np.pi) + 1), abs=1e-9)
    table = fit.varcorr()
    assert not table.loc[table["kind"] == "loading", "estimate"].any()


def test_the_sign_of_the_first_loadings_is_positive_whatever_the_start():
    """The first columns vary least, so that the search may well pass through zero."""
    data = factored(np.array([[0.05, 0.0], [-1.0, 0.3], [-0.9, 0.8], [1.2, 0.5]]))
    table = gb.Model(TERM.format(2), data).fit("ml").varcorr()
    rows = table[table["kind"] == "loading"].set_index(["coef1", "coef2"])["estimate"]
    assert rows["f[a]", "1"] >= 0
    assert rows["f[b]", "2"] >= 0
    assert ("f[a]", "2") not in rows.index


@pytest.mark.parametrize("method", ["ml", "reml", "map"])
def test_the_order_of_the_columns_does_not_matter(method):
    data = factored(TWO, q=80)
    turned = data.assign(f=data["f"].cat.reorder_categories(list("dbac")))
    one, other = (quiet(gb.Model(TERM.format(2), table), method) for table in (data, turned))
    if method != "map":
        # Of a maximum of densities, the coordinates matter.
        assert one.loglik == pytest.approx(other.loglik, abs=1e-6)
    sd = [fit.varcorr().query("kind == 'sd' and structure == 'rr'") for fit in (one, other)]
    by_column = [table.set_index("coef1")["estimate"] for table in sd]
    rtol = 1e-3 if method != "map" else 0.05
    np.testing.assert_allclose(by_column[0], by_column[1][by_column[0].index], rtol=rtol)


# ---- the prior


@pytest.mark.parametrize(("size", "d"), [(3, 1), (5, 2), (5, 3), (4, 4)])
def test_the_prior_is_one_of_loadings_before_they_are_turned(size, d):
    """(L L')_ii / sigma^2 has a chi-squared distribution of d degrees of freedom, for every i."""
    structure, rng = COVARIANCES["rr"](d), np.random.default_rng(5)
    prior, sigma = gb.Prior("Normal", mu=0, sigma=0.7), 0.7
    theta = {
        p.name: np.stack(
            [e.sample(rng, (4000,)) for e in structure.entry_priors(p, prior, size)], axis=1
        )
        for p in structure.parameters(size)
    }
    draws = [structure.factor({k: v[s] for k, v in theta.items()}, size) for s in range(4000)]
    C = np.einsum("sik,sjk->sij", draws, draws) / sigma**2
    for i in range(size):
        assert stats.kstest(C[:, i, i], stats.chi2(d).cdf).pvalue > 1e-4
    # Pairs of columns are alike too: the first and the last have the correlations of the others.
    corr = C[:, 0, 1:] / np.sqrt(C[:, 0, [0]] * np.diagonal(C, axis1=1, axis2=2)[:, 1:])
    for j in range(1, size - 1):
        assert stats.ks_2samp(corr[:, 0], corr[:, j]).pvalue > 1e-4


def test_priors_are_stated_of_the_loadings():
    data = factored(TWO).assign(x=lambda d: 100.0 * np.arange(len(d)))
    table = gb.Model(TERM.format(2), data).priors.set_index("parameter")
    row = table.loc["loading_g"]
    assert (row["distribution"], row["source"]) == ("Normal", "default")
    assert row["arguments"] == "mu=0, sigma=1.77"
    mine = {"loading": gb.Prior("Normal", mu=0, sigma=0.3)}
    given = gb.Model(TERM.format(2), data, priors=mine).priors.set_index("parameter")
    assert given.loc["loading_g", "arguments"] == "mu=0, sigma=0.3"
    scaled = gb.Model("y ~ 0 + f + rr(1 + x | g)", data).priors.set_index("parameter")
    assert scaled.loc["loading_g", "arguments"] == "mu=0, sigma=[1.77, 5.11e-05]"


@pytest.mark.parametrize(
    ("prior", "error"),
    [
        (gb.Prior("HalfNormal", sigma=1), NotSupportedError),
        (gb.Prior("Normal", mu=1, sigma=1), NotSupportedError),
        (0.5, NotSupportedError),
        (gb.Prior("LKJCorr", eta=2), NotSupportedError),
    ],
)
def test_other_priors_of_loadings_are_refused(prior, error):
    with pytest.raises(error, match="'loading' of a 'rr' term takes"):
        gb.Model(TERM.format(2), factored(TWO), priors={"loading_g": prior})


def test_there_are_no_standard_deviations_to_have_a_prior():
    with pytest.raises(UnknownNameError, match="There is no parameter 'sd_g'"):
        gb.Model(TERM.format(2), factored(TWO), priors={"sd_g": gb.Prior("HalfNormal", sigma=1)})


# ---- the posterior, and everything after


def test_a_posterior_reports_loadings_and_what_no_rotation_changes(tmp_path):
    model = gb.Model(TERM.format(2), factored(TWO, q=40))
    fit = quiet(model, "nuts", draws=150, tune=150, chains=2, progressbar=False)
    posterior = fit.idata["posterior"]
    L, sd, corr = (posterior[f"{k}_g"].to_numpy() for k in ("loading", "sd", "corr"))
    assert posterior["loading_g"].dims[2:] == ("g__coef", "g__factor")
    assert (L[..., 0, 1] == 0).all()
    assert (L[..., [0, 1], [0, 1]] > 0).all()
    C = L @ np.swapaxes(L, -1, -2)
    np.testing.assert_allclose(C, sd[..., :, None] * sd[..., None, :] * corr, rtol=1e-10)
    assert (np.linalg.matrix_rank(posterior["b_g"].to_numpy()[0, 0], tol=1e-8)) == 2
    fit.save(tmp_path / "fit.zip")
    again = gb.load(tmp_path / "fit.zip")
    pd.testing.assert_frame_equal(fit.varcorr(), again.varcorr())
    new = factored(TWO, q=1).assign(g="new")
    for one in (fit, again):
        assert np.isfinite(one.predict(new, seed=2)["estimate"]).all()
        assert np.isfinite(one.simulate(2, seed=2).to_numpy()).all()


@pytest.mark.parametrize("method", ["nuts", "posthoc"])
def test_a_posterior_is_about_what_made_the_data(method):
    truth = TWO @ TWO.T
    options = {"progressbar": False} if method == "nuts" else {}
    fit = quiet(
        gb.Model(TERM.format(2), factored(TWO, q=100, noise=0.3)),
        method,
        draws=300,
        chains=2,
        **options,
    )
    L = fit.idata["posterior"]["loading_g"].to_numpy().reshape(-1, 4, 2)
    C = L @ np.swapaxes(L, -1, -2)
    error = C.std(axis=0)
    assert (np.abs(C.mean(axis=0) - truth) < 4 * error).all()
    assert (error < 0.4).all()


def test_new_groups_have_the_fitted_covariance():
    fit = gb.Model(TERM.format(2), factored(TWO)).fit("ml")
    L, sigma = loadings(fit, 2), fit.mode.scale
    new = factored(TWO, q=1, n=1).assign(g="new")
    found = fit.simulate(4000, seed=3, newdata=new).to_numpy().reshape(4000, 4)
    expected = L @ L.T + sigma**2 * np.eye(4)
    np.testing.assert_allclose(np.cov(found, rowvar=False), expected, atol=0.1)


# ---- what there may be


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("d=0", r"The number of factors in 'rr\(0 \+ f \| g, d=0\)' should be a whole number"),
        ("d=-1", "should be a whole number from 1, as in d=2, not -1"),
        ("d=1.5", "not 1.5"),
        ("d=k", "not k"),
        ("k=2", "takes one argument, the number of factors: write d=2"),
        ("2, 3", "takes one argument"),
        ("d=1, e=2", "takes one argument"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(FormulaError, match=words):
        gb.Model(f"y ~ 0 + f + rr(0 + f | g, {arguments})", factored(TWO))


def test_the_number_of_factors():
    data = factored(TWO)
    for arguments, d in (("", 2), (", d=3", 3), (", 1", 1), (", d = 4", 4)):
        (term,) = gb.Model(f"y ~ 0 + f + rr(0 + f | g{arguments})", data).design.terms
        assert term.structure.rank(4) == d
    with pytest.raises(DataError, match="has 4 columns, which cannot have d=5 factors: take d of"):
        gb.Model(TERM.format(5), data)
    with pytest.raises(DataError, match="has 1 column, which cannot have d=2 factors"):
        gb.Model("y ~ 0 + f + rr(1 | g)", data)


def test_effects_of_few_factors_cannot_be_centred():
    data = factored(TWO)
    assert not gb.Model(TERM.format(2), data).centering["g"]
    with pytest.raises(NotSupportedError, match="made of fewer factors than there are columns"):
        gb.Model(TERM.format(2), data, centering={"g": "centered"})


def test_one_id_has_one_number_of_factors():
    formulas = ["y ~ 0 + f + rr(0 + f |k| g, d=1)", "sigma ~ 1 + rr(1 |k| g, d={})"]
    data = factored(TWO)
    model = gb.Model([formulas[0], formulas[1].format(1)], data)
    assert model.design.terms[0].columns[-1] == "sigma_Intercept"
    with pytest.raises(FormulaError, match="need the same arguments"):
        gb.Model([formulas[0], formulas[1].format(2)], data)
