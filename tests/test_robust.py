"""Sandwich covariances and influence, against clubSandwich, lme4 and dense matrices."""

import numpy as np
import pytest
from references import factor

import glmm_bayes as gb
from glmm_bayes.errors import DataError, NotSupportedError, UnknownNameError
from glmm_bayes.verbs.anova import f_columns
from glmm_bayes.verbs.ddf import small_sample
from glmm_bayes.verbs.ttest import estimates


@pytest.fixture(scope="module")
def rows():
    """Some of sleepstudy's rows, with another factor across the subjects."""
    data = gb.load_dataset("sleepstudy").assign(item=factor(np.arange(180) % 7))
    return data.iloc[[i for i in range(140) if i % 10 < 3 + (i // 10) % 6]]


@pytest.fixture(scope="module")
def fit(rows):
    return gb.Model("Reaction ~ Days + (1 + Days | Subject)", rows).fit("reml")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("CR0", [76.79737434, -11.07475705, 11.47624489]),
        ("CR1", [82.70486467, -11.92666143, 12.35903296]),
        ("CR2", [83.09227584, -12.06215781, 12.42387104]),
    ],
)
def test_sandwiches_agree_with_club_sandwich(fit, kind, expected):
    """R's clubSandwich 0.5.8, vcovCR of lme4's fit by subject."""
    for cluster in (None, "Subject"):
        found = fit.vcov(kind, cluster=cluster).to_numpy()
        np.testing.assert_allclose(found[np.tril_indices(2)], expected, rtol=1e-5)


def test_their_degrees_of_freedom_agree_with_club_sandwich(fit):
    """coef_test(vcov = "CR2", test = "Satterthwaite")."""
    found = fit.ttest("CR2")
    np.testing.assert_allclose(found["std_error"], [9.115496467, 3.524751203], rtol=1e-5)
    np.testing.assert_allclose(found["df"], [12.95831937, 11.57460379], rtol=1e-5)


def test_sandwiches_of_least_squares_are_whites():
    """Without groups every row is a cluster: HC0, and HC2 with 1 - h below each square."""
    data = gb.load_dataset("sleepstudy")
    fit = gb.Model("Reaction ~ Days", data).fit("reml")
    X, y = fit.model.design.predictors["mu"].X, fit.model.design.y
    bread = np.linalg.inv(X.T @ X)
    e = y - X @ bread @ X.T @ y
    h = np.einsum("ij,jk,ik->i", X, bread, X)
    for kind, squares in (("CR0", e**2), ("CR2", e**2 / (1 - h))):
        expected = bread @ (X.T * squares) @ X @ bread
        np.testing.assert_allclose(fit.vcov(kind), expected, rtol=1e-8)


@pytest.mark.filterwarnings("ignore::glmm_bayes.errors.SingularFitWarning")
def test_clusters_have_to_be_independent(fit):
    with pytest.raises(DataError, match="Rows of different item share random effects"):
        fit.vcov("CR2", cluster="item")
    with pytest.raises(UnknownNameError, match="no column 'Subjekt' to cluster by"):
        fit.vcov("CR2", cluster="Subjekt")
    with pytest.raises(UnknownNameError, match="kind='CR3' is not known"):
        fit.vcov("CR3")
    with pytest.raises(DataError, match="There are 14 clusters for 14 coefficients"):
        gb.Model("Reaction ~ Days * C(item) + (1 | Subject)", fit.model.data).fit("ml").vcov("CR0")
    crossed = gb.Model("Reaction ~ Days + (1 | Subject) + (1 | item)", fit.model.data).fit("ml")
    with pytest.raises(DataError, match="one cluster, and a sandwich compares many"):
        crossed.ttest("CR2")


@pytest.mark.filterwarnings("ignore::glmm_bayes.errors.SingularFitWarning")
def test_several_combinations_agree_with_club_sandwich(fit, rows):
    """Wald_test(test = "HTZ") of lme4's fits."""
    tests = small_sample(fit, "CR2")
    found = f_columns(tests, np.eye(2), estimates(fit))
    assert found["statistic"] == pytest.approx(445.0, abs=0.5)
    assert found["den_df"] == pytest.approx(11.5, abs=0.05)
    number = np.unique(rows["Subject"].astype(str), return_inverse=True)[1] + 1
    thirds = rows.assign(third=np.array(["a", "b", "c"])[number % 3])
    larger = gb.Model("Reaction ~ Days * third + (1 | Subject)", thirds).fit("reml")
    found = larger.anova(test="CR2").loc["Days:third"]
    expected = [3.422985674, 3.137996933, 0.1626828819]
    np.testing.assert_allclose(found[["statistic", "den_df", "p_value"]], expected, rtol=1e-6)
    both = np.eye(6)[[k for k, name in enumerate(larger.vcov().index) if "third" in name]]
    found = f_columns(small_sample(larger, "CR2"), both, estimates(larger))
    expected = [3.163038653, 3.652141385, 0.1573203929]
    np.testing.assert_allclose(list(found.values())[2:0:-1], expected[:2], rtol=1e-6)
    assert found["p_value"] == pytest.approx(expected[2], rel=1e-6)
    few = thirds[number <= 7]
    few = gb.Model("Reaction ~ Days * third + (1 | Subject)", few).fit("reml")
    with pytest.raises(NotSupportedError, match="too few to test 6 combinations together"):
        small_sample(few, "CR2").joint(np.eye(6))


def test_residuals_that_vary_together_agree_with_club_sandwich(rows):
    """vcovCR and coef_test of nlme's lme with corAR1, and of its gls with varIdent besides."""
    formulas = ["Reaction ~ Days + (1 | Subject)", "residual ~ ar1(Days | Subject)"]
    fit = gb.Model(formulas, rows).fit("reml")
    for kind, expected in (
        ("CR0", [77.653044554, -9.489541667, 7.517473027]),
        ("CR1", [83.626355674, -10.219506410, 8.095740183]),
        ("CR2", [85.137159877, -11.206408800, 8.764805334]),
    ):
        found = fit.vcov(kind).to_numpy()[np.tril_indices(2)]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(fit.ttest("CR2")["df"], [13.0, 8.8], atol=0.05)
    number = np.unique(rows["Subject"].astype(str), return_inverse=True)[1] + 1
    thirds = rows.assign(third=np.array(["a", "b", "c"])[number % 3])
    formulas = ["Reaction ~ Days", "residual ~ ar1(Days | Subject)", "sigma ~ third"]
    fit = gb.Model(formulas, thirds).fit("reml")
    found = fit.vcov("CR2").to_numpy()[:2, :2][np.tril_indices(2)]
    np.testing.assert_allclose(found, [89.071577537, -8.160843246, 9.045380438], rtol=1e-6)
    np.testing.assert_allclose(fit.ttest("CR2")["df"].iloc[:2], [11.36, 9.37], atol=0.005)


def test_groups_of_a_process_are_left_out_whole(rows):
    """Least squares with the covariance sd^2 rho^lag + sigma^2 of the subjects that are left."""
    fit = gb.Model("Reaction ~ Days + ar1(Days | Subject)", rows).fit("reml")
    found = fit.influence("Subject")
    assert list(found.index) == list(dict.fromkeys(rows["Subject"].astype(str)))
    theta = fit.varcorr().set_index("kind")["estimate"]
    (sd, sigma), rho = theta["sd"], theta["rho"]
    X, y = fit.model.design.predictors["mu"].X, fit.model.design.y
    day, subject = rows["Days"].to_numpy(), rows["Subject"].astype(str).to_numpy()
    lag = abs(np.subtract.outer(day, day))
    V = np.where(subject[:, None] == subject, sd**2 * rho**lag, 0) + sigma**2 * np.eye(len(y))

    def generalized(at):
        inner = np.linalg.inv(V[np.ix_(at, at)])
        return np.linalg.solve(X[at].T @ inner @ X[at], X[at].T @ inner @ y[at])

    kept = np.flatnonzero(subject != found.index[3])
    moved = generalized(np.arange(len(y))) - generalized(kept)
    np.testing.assert_allclose(found.iloc[3, 1:], moved, rtol=1e-5)


def test_leverages_and_distances_of_rows_agree_with_lme4(fit):
    """lme4 1.1-31, hatvalues and cooks.distance."""
    found = fit.influence().head(6)
    h = [0.4276064140, 0.2815935281, 0.4635546118, 0.4271142233, 0.2361352348, 0.2582979358]
    cooks = [0.002569723, 0.010078945, 0.153333322, 0.042513438, 0.045337064, 0.065296201]
    np.testing.assert_allclose(found["leverage"], h, rtol=1e-4)
    np.testing.assert_allclose(found["cooks_distance"], cooks, rtol=1e-4)


def test_fits_without_a_level_agree_with_lme4(fit):
    """influence(m, groups = "Subject"): dfbeta with the other sign; lme4's distances by 12 / 14."""
    found = fit.influence("Subject", method="exact").head(3)
    np.testing.assert_allclose(found["Intercept"], [-0.333905, -2.961545, -4.208462], atol=1e-4)
    np.testing.assert_allclose(found["Days"], [-0.292957, -0.981284, 0.059541], atol=1e-4)
    cooks = np.array([0.00523789710, 0.12503702674, 0.10383930990]) * 14 / 12
    np.testing.assert_allclose(found["cooks_distance"], cooks, rtol=1e-3)


def test_one_step_is_least_squares_without_the_level(fit):
    found = fit.influence("Subject")
    Lambda = fit.mode.coordinates.Lambdas(fit.mode.x)[0]
    sigma = fit.theta["sigma"]
    term, X, y = fit.model.design.terms[0], fit.model.design.predictors["mu"].X, fit.model.design.y
    Z = term.Z("mu").toarray()
    V = Z @ np.kron(np.eye(len(term.levels)), Lambda @ Lambda.T) @ Z.T + sigma**2 * np.eye(len(y))

    def generalized(at):
        inner = np.linalg.inv(V[np.ix_(at, at)])
        return np.linalg.solve(X[at].T @ inner @ X[at], X[at].T @ inner @ y[at])

    whole = generalized(np.arange(len(y)))
    for level in (0, 5):
        kept = np.flatnonzero(term.index[:, 0] != level)
        np.testing.assert_allclose(found.iloc[level, 1:], whole - generalized(kept), rtol=1e-5)


def test_one_step_is_for_crossed_groups_too():
    """Balanced, the mean without a sample is that of the others, whatever the variances."""
    data = gb.load_dataset("penicillin")
    fit = gb.Model("diameter ~ 1 + (1 | plate) + (1 | sample)", data).fit("reml")
    means = data.groupby("sample", observed=True)["diameter"].mean()
    without = (means.sum() - means) / (len(means) - 1)
    found = fit.influence("sample")["Intercept"]
    np.testing.assert_allclose(found, means.mean() - without, rtol=1e-8)


def test_leverages_of_counts_sum_to_the_effective_number_of_parameters():
    """Between the coefficients alone and these with all effects."""
    data = gb.load_dataset("cbpp")
    model = gb.Model("incidence | trials(size) ~ period + (1 | herd)", data, "binomial")
    found = model.fit("ml").influence()
    assert 4 < found["leverage"].sum() < 4 + 15
    assert (found["leverage"] > 0).all()


def test_groups_and_methods_are_checked(fit):
    with pytest.raises(UnknownNameError, match="no group 'Subjekt'"):
        fit.influence("Subjekt")
    with pytest.raises(UnknownNameError, match="method='quick' is not known"):
        fit.influence("Subject", method="quick")


@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.parametrize("formula", ["Reaction ~ Days + (1 | Subject)", "Reaction ~ Days"])
def test_conditional_aic_counts_how_fitted_values_move(rows, formula, method):
    """Greven & Kneib (2010): the trace by fitting again with every response a little off."""
    fit = gb.Model(formula, rows.iloc[:25]).fit(method)
    trace, step = 0.0, 0.3

    def fitted(y, row):
        mode = fit.refit(y).mode
        order = np.arange(fit.nobs)[mode.factor.spread.system.order]
        return mode.eta[0][np.argsort(order)[row]]

    for row in range(fit.nobs):
        moved = step * (np.arange(fit.nobs) == row)
        y = fit.model.design.y
        trace += (fitted(y + moved, row) - fitted(y - moved, row)) / (2 * step)
    found = fit.caic()
    assert found["df"] == pytest.approx(trace + 1, abs=1e-4)
    e = fit.residuals("response").to_numpy()
    sigma = fit.theta["sigma"]
    loglik = -0.5 * np.sum(np.log(2 * np.pi * sigma**2) + (e / sigma) ** 2)
    assert found["loglik"] == pytest.approx(loglik)


def test_fits_are_ranked_by_a_criterion_of_choice(fit, rows):
    simple = gb.Model("Reaction ~ Days + (1 | Subject)", rows).fit("reml")
    found = gb.compare({"slopes": fit, "simple": simple}, criterion="caic")
    assert found["caic"].is_monotonic_increasing
    assert found["caic"].loc["slopes"] == pytest.approx(fit.caic()["caic"])
    with pytest.raises(UnknownNameError, match="criterion='dic' is not known"):
        gb.compare({"slopes": fit, "simple": simple}, criterion="dic")
