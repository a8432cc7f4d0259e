"""Several responses: their joint density against SciPy's, fits against dense algebra and R."""

import numpy as np
import pandas as pd
import pytest
from pointmap import pymc_logp, pymc_point
from scipy import stats
from scipy.linalg import block_diag
from scipy.optimize import approx_fprime

import glmm_bayes as gb
from glmm_bayes.density import read_density
from glmm_bayes.errors import DataError, FormulaError, NotSupportedError, UnknownNameError
from glmm_bayes.families.expansion import expand

N, Q = 60, 12


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    g = np.resize(np.arange(Q), N)
    x, z = rng.normal(size=(2, N))
    b = rng.multivariate_normal([0, 0, 0], [[1, 0.5, 0.2], [0.5, 1, 0], [0.2, 0, 0.6]], Q)
    e = rng.multivariate_normal([0, 0, 0], [[1, -0.4, 0.3], [-0.4, 0.5, 0], [0.3, 0, 0.8]], N)
    n = rng.integers(3, 9, N)
    return pd.DataFrame(
        {
            "g": [f"g{k}" for k in g],
            "x": x,
            "z": z,
            "n": n,
            "w": rng.uniform(0.5, 2.0, N),
            "y1": 1.0 + 0.5 * x + b[g, 0] + e[:, 0],
            "y2": -1.0 + 0.3 * z + b[g, 1] + e[:, 1],
            "y3": 0.2 * x + b[g, 2] + e[:, 2],
            "count": rng.poisson(np.exp(0.3 + 0.2 * x + 0.5 * b[g, 1])),
            "wins": rng.binomial(n, 0.4),
            "yes": np.where(rng.uniform(size=N) < 0.4, "no", "yes"),
            "share": rng.uniform(0.1, 0.9, N),
            "c": np.resize(["none", "none", "right"], N),
        }
    )


def with_gaps(data, **rows):
    """Take some responses away."""
    gaps = data.assign(count=data["count"].astype(float), wins=data["wins"].astype(float))
    for name, at in rows.items():
        gaps.loc[at, name] = None if name == "yes" else np.nan
    return gaps


# ---- the joint density


def expanded(model, eta):
    names = [p.name for p in model.family.parameters]
    response = model.design.response
    links = model.links
    return expand(model.family, links, names, response.y, response.given, None, eta, 3)


def predictors(model, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(scale=0.4, size=(len(model.family.parameters), model.nobs))


def natural(model, eta):
    return {
        p.name: model.links[p.name].linkinv(row)
        for p, row in zip(model.family.parameters, eta, strict=True)
    }


def matrix(p, row, labels):
    """Write the correlation matrix of three, by the definition of a partial correlation."""
    r12, r13 = p["rho_y1_y2"][row], p["rho_y1_y3"][row]
    partial = p["rho_y2_y3_given_y1"][row]
    r23 = partial * np.sqrt((1 - r12**2) * (1 - r13**2)) + r12 * r13
    R = np.array([[1, r12, r13], [r12, 1, r23], [r13, r23, 1]])
    at = [("y1", "y2", "y3").index(label) for label in labels]
    return R[np.ix_(at, at)]


@pytest.mark.parametrize("family", ["gaussian", "student"])
def test_correlated_responses_have_scipys_density(data, family):
    """Rows without some responses have the marginal density of the others."""
    gaps = with_gaps(data, y1=[0, 3, 4], y2=[3, 7], y3=[4, 9])
    model = gb.Model(["mvbind(y1, y2, y3) ~ x", "rescor ~ 1"], gaps, family=family)
    eta = predictors(model)
    p = natural(model, eta)
    found = expanded(model, eta).value
    for row in range(N):
        there = [label for label in ("y1", "y2", "y3") if not np.isnan(gaps[label][row])]
        sd = np.array([p[f"sigma_{label}"][row] for label in there])
        S = matrix(p, row, there) * np.outer(sd, sd)
        mean = [p[f"mu_{label}"][row] for label in there]
        y = gaps.loc[row, there].to_numpy(float)
        if family == "gaussian":
            expected = stats.multivariate_normal(mean, S).logpdf(y)
        else:
            expected = stats.multivariate_t(mean, S, df=p["nu"][row]).logpdf(y)
        assert found[row] == pytest.approx(expected, rel=1e-10)


MIXED = ["y1 ~ x", "count ~ z", "wins | trials(n) ~ x", "yes ~ 1"]
FAMILIES = {"y1": "student", "count": "negbinomial", "wins": "binomial", "yes": "bernoulli"}


def test_independent_responses_have_the_sum_of_their_densities(data):
    gaps = with_gaps(data, y1=[0, 3], count=[5], wins=[0], yes=[8, 9])
    model = gb.Model(MIXED, gaps, family=FAMILIES)
    eta = predictors(model)
    p, found = natural(model, eta), expanded(model, eta).value
    size, mu = p["alpha_count"], p["mu_count"]
    each = [
        stats.t(p["nu_y1"], p["mu_y1"], p["sigma_y1"]).logpdf(gaps["y1"]),
        stats.nbinom(size, size / (size + mu)).logpmf(gaps["count"]),
        stats.binom(data["n"], p["mu_wins"]).logpmf(gaps["wins"]),
        np.where(gaps["yes"] == "yes", np.log(p["mu_yes"]), np.log1p(-p["mu_yes"])),
    ]
    absent = gaps[["y1", "count", "wins", "yes"]].isna().to_numpy().T
    expected = np.where(absent, 0.0, each).sum(axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def models(data):
    gaps = with_gaps(data, y1=[0, 3, 4], y2=[6, 7], count=[5])
    return {
        "gaussian": gb.Model("mvbind(y1, y2) ~ x + (1 |p| g)", data),
        "three": gb.Model(["mvbind(y1, y2, y3) ~ x", "sigma ~ z", "rho_y1_y2 ~ x"], data),
        "gaps": gb.Model(["mvbind(y1, y2) ~ x + (1 |p| g)", "rescor ~ 1"], gaps),
        "student": gb.Model("mvbind(y1, y2) ~ x", data, family="student"),
        "mixed": gb.Model([*MIXED, "sigma_y1 ~ (1 | g)"], gaps, family=FAMILIES),
        "weighted": gb.Model(["y1 | weights(w) ~ x", "y2 | censored(c) ~ z"], data),
    }


@pytest.mark.parametrize("name", ["gaussian", "three", "gaps", "student", "mixed", "weighted"])
def test_derivatives_and_readers_agree(data, name):
    """The arrays' density has the slopes of its differences, and PyMC's differs by a constant."""
    model = models(data)[name]
    joint, logp, rng = read_density(model), pymc_logp(model), np.random.default_rng(2)
    ours, theirs = [], []
    for _ in range(3):
        x = rng.normal(scale=0.2, size=joint.size)
        value, slope = joint.value_and_gradient(x)
        by_differences = approx_fprime(x, lambda x: joint.value_and_gradient(x)[0], 1e-7)
        np.testing.assert_allclose(slope, by_differences, rtol=2e-4, atol=2e-4)
        ours.append(value)
        theirs.append(float(logp(**pymc_point(model, joint, x))))
    np.testing.assert_allclose(np.diff(ours), np.diff(theirs), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["three", "gaps", "student", "mixed", "weighted"])
def test_expansions_are_those_of_differences(data, name):
    model = models(data)[name]
    eta, h = predictors(model, 3), 1e-5
    found = expanded(model, eta)
    for a in range(len(eta)):
        up, down = eta.copy(), eta.copy()
        up[a] += h
        down[a] -= h
        one, other = expanded(model, up), expanded(model, down)
        for order in ("value", "first", "second"):
            difference = (getattr(one, order) - getattr(other, order)) / (2 * h)
            slope = {"value": found.first, "first": found.second, "second": found.third}[order][a]
            np.testing.assert_allclose(slope, difference, rtol=1e-5, atol=2e-5)


# ---- fits


def long_response(model):
    """Put the responses one below the other, without those that are missing."""
    y = model.design.y.T.ravel()
    return y[~np.isnan(y)]


def long_columns(model):
    labels = model.family.responses.labels
    X = block_diag(*(model.design.predictors[f"mu_{k}"].X for k in labels))
    return X[~np.isnan(model.design.y.T.ravel())]


def long_covariance(model, fit):
    """Write the covariance of all responses of a normal model, effects integrated out."""
    theta, design, labels = fit.theta, model.design, model.family.responses.labels
    sd = np.array([theta[f"sigma_{k}"] for k in labels])
    R = np.eye(len(labels))
    for one, other, value in model.family.responses.correlation(fit.plug_in.constants):
        i, j = labels.index(one), labels.index(other)
        R[i, j] = R[j, i] = value[0]
    S = np.kron(R * np.outer(sd, sd), np.eye(design.n))
    for term in design.terms:
        Z = np.vstack([term.Z(f"mu_{k}").toarray() for k in labels])
        Lambda = fit.mode.Lambdas[term.name]
        S += Z @ np.kron(np.eye(len(term.levels)), Lambda @ Lambda.T) @ Z.T
    there = ~np.isnan(design.y.T.ravel())
    return S[np.ix_(there, there)]


def long_logpdf(model, fit):
    beta = np.concatenate([fit.plug_in.beta[f"mu_{k}"][0] for k in model.family.responses.labels])
    mean = long_columns(model) @ beta
    return stats.multivariate_normal(mean, long_covariance(model, fit)).logpdf(long_response(model))


FORMULAS = {
    "joint": ["mvbind(y1, y2) ~ x + (1 |p| g)"],
    "apart": ["y1 ~ x + (1 | g)", "y2 ~ z"],
    "three": ["y1 ~ x + (1 |p| g)", "y2 ~ z + (1 |p| g)", "y3 ~ 1 + (1 |p| g)"],
}


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("gaps", [False, True])
def test_the_likelihood_is_that_of_all_responses_as_one_normal_vector(data, name, gaps):
    table = with_gaps(data, y1=[0, 3, 4], y2=[6, 7]) if gaps else data
    model = gb.Model([*FORMULAS[name], "rescor ~ 1"], table)
    fit = model.fit("ml")
    assert fit.loglik == pytest.approx(long_logpdf(model, fit), rel=1e-8)


@pytest.fixture
def tits(shared_data):
    return gb.load_dataset("btdata")


WITH_FAMILIES = "mvbind(tarsus, back) ~ sex + hatchdate + (1 |d| dam) + (1 |f| fosternest)"


def test_blue_tits_agree_with_glmmtmb(tits):
    """
    glmmTMB 1.1.5 on the table made long: us(0 + trait | dam) + us(0 + trait | fosternest).

    Residuals by dispformula = ~0 + trait, and, correlated, by us(0 + trait | row).
    """
    apart = gb.Model([WITH_FAMILIES, "rescor ~ 0"], tits).fit("ml")
    assert apart.loglik == pytest.approx(-2168.386668, abs=1e-5)
    fit = gb.Model(WITH_FAMILIES, tits).fit("ml")
    assert fit.loglik == pytest.approx(-2167.362691, abs=1e-5)
    assert fit.df == 17
    found = fit.varcorr().set_index(["group", "kind"])["estimate"]
    np.testing.assert_allclose(found["dam", "sd"], [0.47334, 0.25966], atol=1e-4)
    np.testing.assert_allclose(found["dam", "corr"], [-0.547], atol=1e-3)
    np.testing.assert_allclose(found["fosternest", "sd"], [0.26120, 0.33547], atol=1e-4)
    np.testing.assert_allclose(found["fosternest", "corr"], [0.827], atol=1e-3)
    np.testing.assert_allclose(found["Residual", "sd"], [0.75248, 0.89577], atol=1e-4)
    np.testing.assert_allclose(found["Residual", "corr"], [-0.055], atol=1e-3)
    theirs = [-0.407824, 0.770973, 0.229594, -0.042875, -0.012261, 0.008285, 0.152814, -0.090651]
    np.testing.assert_allclose(fit.fixef()["estimate"], theirs, atol=1e-4)


def test_correlated_residuals_are_tested_against_independent_ones(tits):
    """Twice the difference of glmmTMB's log likelihoods above."""
    larger, smaller = (gb.Model([WITH_FAMILIES, f"rescor ~ {k}"], tits).fit("ml") for k in (1, 0))
    found = larger.anova(smaller)
    assert found["statistic"].iloc[-1] == pytest.approx(2 * (2168.386668 - 2167.362691), abs=1e-4)
    assert found["df"].iloc[-1] == 1
    assert gb.compare([larger, smaller]).iloc[0]["aic"] == pytest.approx(larger.aic)


def test_restricted_blue_tits_agree_with_glmmtmb(tits):
    """As above, with REML = TRUE: the coefficients of both responses are integrated out."""
    fit = gb.Model([WITH_FAMILIES, "rescor ~ 0"], tits).fit("reml")
    assert fit.loglik == pytest.approx(-2182.237573, abs=1e-5)
    found = fit.varcorr().set_index(["group", "kind"])["estimate"]
    np.testing.assert_allclose(found["dam", "sd"], [0.47796, 0.26144], atol=1e-4)
    np.testing.assert_allclose(found["fosternest", "sd"], [0.26531, 0.34112], atol=1e-4)
    np.testing.assert_allclose(found["fosternest", "corr"], [0.781], atol=1e-3)


@pytest.mark.parametrize(
    "formulas", [["y1 ~ x + (1 |p| g)", "y2 ~ z + (1 |p| g)"], ["y1 ~ x", "y2 ~ z"]]
)
def test_a_restricted_likelihood_is_that_of_all_coefficients_with_a_flat_prior(data, formulas):
    """
    log L(beta) + k / 2 log 2 pi - 1/2 log |X' V^-1 X| at the generalised least squares beta.

    Harville (1974), Biometrika 61, 383-385, without his constant.
    """
    model = gb.Model([*formulas, "rescor ~ 1"], with_gaps(data, y1=[0, 3], y2=[5]))
    fit = model.fit("reml")
    loglik, X, V = long_logpdf(model, fit), long_columns(model), long_covariance(model, fit)
    k = X.shape[1]
    information = X.T @ np.linalg.solve(V, X)
    expected = loglik + k / 2 * np.log(2 * np.pi) - np.linalg.slogdet(information)[1] / 2
    assert fit.loglik == pytest.approx(expected, rel=1e-7)
    beta = np.linalg.solve(information, X.T @ np.linalg.solve(V, long_response(model)))
    np.testing.assert_allclose(fit.fixef()["estimate"], beta, atol=1e-5)


def test_without_effects_responses_agree_with_nlme(tits):
    """nlme's gls on the long table: varIdent by trait, corSymm within a row, by ML."""
    fit = gb.Model("mvbind(tarsus, back) ~ sex + hatchdate", tits).fit("ml")
    assert fit.loglik == pytest.approx(-2279.732503, abs=1e-5)
    expected = [0.9231074, 0.9231074 * 1.0793, -0.04170916]
    np.testing.assert_allclose(fit.theta.iloc[-3:], expected, rtol=2e-4)


def test_responses_with_nothing_in_common_are_fits_of_their_own(data):
    gaps = with_gaps(data, y1=[0, 3], count=[5], wins=[0])
    formulas = ["y1 ~ x + (1 | g)", "count ~ z", "wins | trials(n) ~ x"]
    families = ["gaussian", "poisson", "binomial"]
    together = gb.Model(formulas, gaps, family=families).fit("ml")
    alone = []
    for formula, family in zip(formulas, families, strict=True):
        rows = gaps.dropna(subset=[formula.split()[0]])
        alone.append(gb.Model(formula, rows, family=family).fit("ml"))
    assert together.loglik == pytest.approx(sum(fit.loglik for fit in alone), abs=1e-6)
    ours, theirs = together.fixef(), pd.concat([fit.fixef() for fit in alone])
    np.testing.assert_allclose(ours["estimate"], theirs["estimate"], rtol=1e-4, atol=1e-5)
    # A normal fit of its own has errors for the variances as estimated.
    np.testing.assert_allclose(ours["std_error"], theirs["std_error"], rtol=0.03)
    for label, fit in zip(together.model.family.responses.labels, alone, strict=True):
        own = together.residuals("pearson", response=label).dropna()
        np.testing.assert_allclose(own, fit.residuals("pearson"), atol=1e-3)
        mean = together.predict(response=label)["estimate"].loc[own.index]
        np.testing.assert_allclose(mean, fit.predict()["estimate"], rtol=1e-3, atol=1e-4)


def test_a_shared_effect_of_counts_and_numbers_against_brute_quadrature():
    """The integral over both effects of a group, on a fine grid."""
    table = pd.DataFrame(
        {
            "g": list("aabbccddee"),
            "y": [0.3, -0.2, 1.9, 1.2, -0.4, 0.6, 1.4, 2.2, -1.8, -0.9],
            "count": [1, 0, 1, 3, 7, 5, 6, 3, 0, 1],
        }
    )
    formulas = ["y ~ 1 + (1 |p| g)", "count ~ 1 + (1 |p| g)"]
    model = gb.Model(formulas, table, family=["gaussian", "poisson"], priors={"sigma_y": 0.8})
    fit = model.fit("ml", nagq=25)
    C = (lambda L: L @ L.T)(fit.mode.Lambdas["g"])
    m, k = fit.fixef()["estimate"]
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    L = np.linalg.cholesky(C + 1e-14 * np.eye(2))
    u = np.stack(np.meshgrid(nodes, nodes, indexing="ij")).reshape(2, -1)
    w = np.outer(weights, weights).ravel() / (2 * np.pi)
    b, total = L @ u, 0.0
    for _, rows in table.groupby("g"):
        inside = w.copy()
        for y, count in zip(rows["y"], rows["count"], strict=True):
            inside *= stats.norm(m + b[0], 0.8).pdf(y)
            inside *= stats.poisson(np.exp(k + b[1])).pmf(count)
        total += np.log(inside.sum())
    assert fit.loglik == pytest.approx(total, abs=1e-4)


# ---- what is asked of a fit


@pytest.fixture(scope="module")
def mixed(data):
    gaps = with_gaps(data, y1=[0, 3], count=[5])
    formulas = ["y1 ~ x + (1 |p| g)", "count ~ z + (1 |p| g)", "wins | trials(n) ~ 1"]
    families = {"y1": "gaussian", "count": "poisson", "wins": "binomial"}
    return gb.Model(formulas, gaps, family=families).fit("ml", seed=1)


def test_predictions_of_all_responses_are_those_of_each(mixed):
    every = mixed.predict(groups="population")
    assert list(every.columns) == ["response", "estimate", "std_error", "lower", "upper"]
    assert list(every["response"][:3]) == ["y1", "count", "wins"]
    beta = {param: values[0] for param, values in mixed.plug_in.beta.items()}
    X = mixed.model.design.predictors
    expected = np.exp(X["mu_count"].X @ beta["mu_count"])
    found = mixed.predict(groups="population", response="count")
    np.testing.assert_allclose(found["estimate"], expected)
    assert (found["lower"] > 0).all()
    linear = mixed.predict(kind="linear", groups="population", response="count")
    np.testing.assert_allclose(linear["estimate"], np.log(expected))


def test_an_averaged_mean_is_the_closed_form_of_a_lognormal(mixed):
    """E exp(eta + b) = exp(eta + v / 2)."""
    eta = mixed.predict(kind="linear", groups="population", response="count")["estimate"]
    v = (mixed.mode.Lambdas["g"] @ mixed.mode.Lambdas["g"].T)[1, 1]
    found = mixed.predict(groups="marginal", response="count")["estimate"]
    np.testing.assert_allclose(found, np.exp(eta + v / 2), rtol=1e-6)


def test_new_rows_have_responses_with_their_own_trials(mixed, data):
    new = data.head(5).assign(n=[1, 2, 3, 4, 5])
    drawn = mixed.simulate(400, seed=2, newdata=new)
    assert drawn.dims == ("sim", "__obs__", "response")
    wins = drawn.sel(response="wins").to_numpy()
    assert (wins.max(axis=0) == new["n"]).sum() >= 3
    assert (wins <= new["n"].to_numpy()).all()
    table = mixed.predict(new, kind="response", response="wins")
    share = mixed.predict(new, response="wins")["estimate"]
    np.testing.assert_allclose(table["estimate"], share * new["n"])


def test_draws_of_correlated_residuals_have_their_covariance(data):
    fit = gb.Model("mvbind(y1, y2, y3) ~ x", data).fit("ml", seed=1)
    drawn = fit.simulate(20_000, seed=3).isel(__obs__=0).to_numpy()
    sd = fit.theta[["sigma_y1", "sigma_y2", "sigma_y3"]].to_numpy()
    R = np.corrcoef(drawn.T)
    expected = [v[0] for _, _, v in fit.model.family.responses.correlation(fit.plug_in.constants)]
    np.testing.assert_allclose(R[np.tril_indices(3, -1)], expected, atol=0.03)
    np.testing.assert_allclose(drawn.std(axis=0), sd, rtol=0.03)
    residuals = np.column_stack([fit.residuals("response", response=f"y{k}") for k in (1, 2, 3)])
    own = np.corrcoef(residuals.T)[np.tril_indices(3, -1)]
    np.testing.assert_allclose(own, expected, atol=1e-5)


def test_a_missing_response_has_no_residual_and_a_prediction(mixed):
    residuals = mixed.residuals(response="y1")
    assert list(residuals.index[residuals.isna()]) == [0, 3]
    assert mixed.predict(response="y1")["estimate"].notna().all()
    assert "y1 in 58" in repr(mixed.model)


def test_a_fit_comes_back_from_its_file_and_with_other_data(mixed, tmp_path):
    mixed.save(tmp_path / "fit.zip")
    again = gb.load(tmp_path / "fit.zip")
    pd.testing.assert_frame_equal(again.predict(), mixed.predict())
    fewer = mixed.update(data=mixed.model.data.iloc[:50])
    assert fewer.model.nobs == 50


@pytest.mark.parametrize("method", [pytest.param("nuts", marks=pytest.mark.slow), "posthoc"])
def test_draws_of_the_posterior_are_about_the_mode(data, method):
    model = gb.Model("mvbind(y1, y2) ~ x", data)
    options = {"draws": 300, "tune": 300, "chains": 2} if method == "nuts" else {}
    fit, mode = model.fit(method, seed=4, **options), model.fit("map", seed=4)
    error = fit.fixef()["std_error"]
    assert (np.abs(fit.fixef()["estimate"] - mode.fixef()["estimate"]) < 0.25 * error).all()
    assert float(fit.idata.posterior["rho_y1_y2"].mean()) == pytest.approx(
        mode.theta["rho_y1_y2"], abs=0.05
    )
    assert fit.idata.log_likelihood["y"].shape[-1] == N
    assert fit.idata.posterior_predictive["y"].dims[-1] == "response"


# ---- what is refused


@pytest.mark.parametrize(
    ("formula", "options", "error", "words"),
    [
        (["y1 ~ x", "`y1` | weights(w) ~ z"], {}, FormulaError, "two formulas of the response"),
        (["y1 ~ x", "y2 ~ x", "mu_y1 ~ z"], {}, FormulaError, "is that with the response"),
        (["y1 ~ x", "y2 ~ x", "rescor ~ z"], {}, FormulaError, "'rescor ~ 1'"),
        (["y1 ~ x", "y2 ~ x", "tau ~ z"], {}, UnknownNameError, "no column 'tau'"),
        (["y1 ~ x", "tau ~ z"], {}, UnknownNameError, "'tau'"),
        (["y1 ~ x", "y2 ~ x"], {"family": ["gaussian"]}, UnknownNameError, "1 families for 2"),
        (["y1 ~ x", "y2 ~ x"], {"family": {"y1": "gaussian"}}, UnknownNameError, "y1, y2"),
        (
            ["y1 ~ x", "count ~ x", "rescor ~ 1"],
            {"family": ["gaussian", "poisson"]},
            NotSupportedError,
            "gaussian, or all student",
        ),
        (["y1 | weights(w) ~ x", "y2 ~ x", "rescor ~ 1"], {}, NotSupportedError, "weighted"),
        (["y1 ~ x", "yes ~ x"], {"family": ["gaussian", "categorical"]}, NotSupportedError, "yes"),
        (["y1 ~ x", "y2 ~ x", "residual ~ ar1(x | g)"], {}, NotSupportedError, "single response"),
        (["y1 ~ x", "count ~ x"], {"family": ["gaussian", "beta"]}, DataError, "'count'"),
    ],
)
def test_what_does_not_go_together_is_said(data, formula, options, error, words):
    with pytest.raises(error, match=words):
        gb.Model(formula, data, **options)


def test_answers_of_one_response_ask_for_it(mixed):
    with pytest.raises(UnknownNameError, match="response='y1'"):
        mixed.residuals()
    with pytest.raises(UnknownNameError, match="no response 'y3'"):
        mixed.predict(response="y3")
    with pytest.raises(NotSupportedError, match="kind='param:mu_y1'"):
        mixed.slopes("x")
    with pytest.raises(NotSupportedError, match="is of one response"):
        mixed.influence("g")
    with pytest.raises(UnknownNameError, match="response='y1'"):
        mixed.plot_effects("x")


def test_errors_of_a_row_are_those_of_its_own_response_s_effects(data):
    """Where only the second response has effects, its rows vary with them given the responses."""
    both = gb.Model(["y1 ~ 1", "y2 ~ 1 + (1 | g)", "rescor ~ 0"], data).fit("ml", seed=1)
    alone = gb.Model(["y2 ~ 1 + (1 | g)", "sigma ~ 1"], data).fit("ml", seed=1)
    found = both.predict(response="y2")["std_error"]
    np.testing.assert_allclose(found, alone.predict()["std_error"], rtol=1e-3)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("count", "negbinomial"), ("share", "beta")),
        (("count", "zero_inflated_poisson"), ("late", "shifted_lognormal")),
        (("yes", "bernoulli"), ("skew", "skew_normal")),
    ],
)
def test_families_of_any_kind_stand_side_by_side(data, first, second):
    """The likelihood of independent responses is the product of theirs, parameters and all."""
    rng = np.random.default_rng(8)
    count = np.where(rng.uniform(size=N) < 0.3, 0, data["count"])
    late, skew = 1 + np.exp(0.4 * rng.normal(size=N)), rng.exponential(size=N)
    table = data.assign(count=count, late=late, skew=skew + 0.2 * rng.normal(size=N))
    formulas = [f"{name} ~ x" for name, _ in (first, second)]
    families = [family for _, family in (first, second)]
    together = gb.Model(formulas, table, family=families).fit("ml")
    alone = [
        gb.Model(f, table, family=k).fit("ml") for f, k in zip(formulas, families, strict=True)
    ]
    assert together.loglik == pytest.approx(sum(fit.loglik for fit in alone), abs=1e-6)
    assert together.df == sum(fit.df for fit in alone)
