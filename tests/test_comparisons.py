"""Averages, comparisons and slopes, against marginaleffects, closed forms and dense algebra."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from scipy.stats import t

import glmm_bayes as gb
from glmm_bayes.fit import ModeFit
from glmm_bayes.modes.star import delta_variance
from glmm_bayes.verbs.comparisons import COMPARISONS
from glmm_bayes.verbs.slopes import SLOPES

NUMBERS = ["estimate", "std_error", "lower", "upper"]


@pytest.fixture(scope="module")
def women() -> ModeFit:
    """A logistic regression without groups, as statsmodels fits it for marginaleffects."""
    data = gb.load_dataset("contraception")
    data = data.assign(y=(data["use"] == "Y").astype(int), livch=data["livch"].astype(str))
    return gb.Model("y ~ urban * age + livch", data, "bernoulli").fit("ml")


@pytest.fixture(scope="module")
def herds() -> ModeFit:
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    return gb.Model(formula, gb.load_dataset("cbpp"), "binomial").fit("ml")


@pytest.fixture(scope="module")
def sleep() -> ModeFit:
    data = gb.load_dataset("sleepstudy")
    return gb.Model("Reaction ~ Days + (1 + Days | Subject)", data).fit("reml")


def near(found: pd.DataFrame, estimates: Any, errors: Any, rtol: float = 1e-3) -> None:
    estimates, errors = np.atleast_1d(estimates), np.atleast_1d(errors)
    off = (found["estimate"].to_numpy() - estimates) / errors
    np.testing.assert_allclose(off, 0, atol=1e-3)
    np.testing.assert_allclose(found["std_error"], errors, rtol=rtol)


# ---- marginaleffects 0.6.1 on statsmodels 0.15


def test_all_pairs_of_levels_and_a_step(women: ModeFit):
    found = women.comparisons({"livch": "pairwise", "age": 10}, by=True)
    near(
        found,
        [0.2170376, 0.2717171, 0.2548394, 0.05467955, 0.03780178, -0.01687777, -0.05395396],
        [0.03054195, 0.03371763, 0.03251192, 0.03848160, 0.03678585, 0.03547500, 0.01651688],
    )
    labels = ["1 - 0", "2 - 0", "3+ - 0", "2 - 1", "3+ - 1", "3+ - 2", "+10"]
    assert sorted(found["contrast"]) == sorted(labels)
    assert found["lower"].iloc[0] == pytest.approx(0.1571389, abs=1e-4)


CHANGES = {
    "sd": (-0.04863990, 0.01489531),
    "iqr": (-0.07471523, 0.02268420),
    "minmax": (-0.17262081, 0.05083770),
}


@pytest.mark.parametrize("how", list(CHANGES))
def test_changes_of_numbers(women: ModeFit, how: str):
    near(women.comparisons({"age": how}, by=True), *CHANGES[how])


def test_ratios_of_averages(women: ModeFit):
    near(women.comparisons("urban", by=True, comparison="lnratio"), 0.43367441, 0.05402201)
    near(women.comparisons("urban", by=True, comparison="lift"), 0.54291643, 0.08335144)
    ratio = women.comparisons("urban", by=True, comparison="ratio")
    near(ratio, np.exp(0.43367441), np.exp(0.43367441) * 0.05402201)
    np.testing.assert_allclose(
        ratio[["lower", "upper"]].iloc[0], np.exp([0.32772667, 0.53962214]), rtol=1e-3
    )
    assert list(ratio["contrast"]) == ["Y / N"]


def test_log_odds_ratios_by_group(women: ModeFit):
    found = women.comparisons("urban", by="livch", comparison="lnor")
    near(
        found,
        [0.8820816, 0.8355274, 0.7898003, 0.7159240],
        [0.1428644, 0.1143660, 0.1041691, 0.1335304],
    )
    assert list(found["livch"]) == ["0", "1", "2", "3+"]


# Its slopes are one-sided differences, so that its errors have fewer digits: see below.
AVERAGE_SLOPES = {
    "dydx": (-0.005401243, 0.001655509),
    "eyex": (0.003089704, 0.001782957),
    "eydx": (-0.014250164, 0.004589397),
    "dyex": (-0.001684606, 0.000545495),
}


@pytest.mark.parametrize("slope", list(SLOPES))
def test_average_slopes(women: ModeFit, slope: str):
    near(women.slopes("age", by=True, slope=slope), *AVERAGE_SLOPES[slope], rtol=0.01)


@pytest.mark.parametrize("slope", list(SLOPES))
def test_errors_of_slopes_by_the_analytic_jacobian(women: ModeFit, slope: str):
    X, names = women.model.design.predictors["mu"].X, women.model.design.predictors["mu"].names
    beta, age, both = women.fixef()["estimate"].to_numpy(), names.index("age"), len(names) - 1
    assert names[both] == "urban[T.Y]:age"
    p, x, urban = expit(X @ beta), X[:, age], X[:, 1]
    own = beta[age] + beta[both] * urban
    d_own = np.eye(len(beta))[age] + np.outer(urban, np.eye(len(beta))[both])
    # The slope is p (1 - p) own: its logarithm's derivative by eta is 1 - 2p, that of p is 1 - p.
    size, bend = {
        "dydx": (p * (1 - p), 1 - 2 * p),
        "dyex": (x * p * (1 - p), 1 - 2 * p),
        "eydx": (1 - p, -p),
        "eyex": (x * (1 - p), -p),
    }[slope]
    J = ((size * bend * own)[:, None] * X + size[:, None] * d_own).mean(axis=0)
    expected = np.sqrt(J @ women.vcov().to_numpy() @ J)
    near(women.slopes("age", by=True, slope=slope), (size * own).mean(), expected, rtol=2e-5)


def test_slopes_by_group_and_their_difference(women: ModeFit):
    found = women.slopes("age", by="urban")
    near(found, [-0.004535159, -0.007515598], [0.001771326, 0.002676865], rtol=0.01)
    near(found.contrast("b2 - b1 = 0"), -0.002980439, 0.002757393, rtol=0.01)
    same = women.slopes("age", by="urban", hypothesis="sequential")
    near(same, -0.002980439, 0.002757393, rtol=0.01)


def test_average_predictions_by_group_and_their_difference(women: ModeFit):
    found = women.predictions(by="livch")
    near(
        found,
        [0.2509434, 0.4606742, 0.4819672, 0.4239569],
        [0.01849014, 0.02584010, 0.02808686, 0.01785021],
    )
    # The interval is made on the logit's scale: between 0 and 1.
    z = 1.959964 * 0.01849014 / (0.2509434 * (1 - 0.2509434))
    expected = expit(logit(0.2509434) + np.array([-z, z]))
    np.testing.assert_allclose(found[["lower", "upper"]].iloc[0], expected, rtol=1e-3)
    near(women.predictions(by="urban", hypothesis="b1 = b2"), -0.1741775, 0.02406061)


def test_single_rows_of_a_grid(women: ModeFit):
    grid = gb.datagrid(women, age=[-5, 5], livch="1", urban="N")
    near(women.comparisons("urban", grid), [0.21000955, 0.18148395], [0.02908641, 0.02915483])
    near(women.predictions(grid), [0.39982154, 0.35074385], [0.02772744, 0.03045846])


# ---- closed forms


def test_of_a_linear_model_everything_is_a_coefficient(sleep: ModeFit):
    """With emmeans's and lmerTest's 17 degrees of freedom."""
    days = sleep.fixef().loc["Days"]
    for found in (
        sleep.slopes("Days", by=True),
        sleep.comparisons("Days", by=True),
        sleep.comparisons("Days", by=True, groups="marginal"),
        sleep.slopes("Days", newdata="mean"),
    ):
        np.testing.assert_allclose(
            found[NUMBERS].iloc[0].to_numpy(dtype=float),
            days[NUMBERS].to_numpy(dtype=float),
            rtol=1e-6,
        )
    nine = sleep.comparisons({"Days": [0, 9]}, by=True, ddf="satterthwaite")
    near(nine, 9 * days["estimate"], 9 * days["std_error"])
    assert nine["df"].iloc[0] == pytest.approx(17, abs=1e-3)


def test_degrees_of_freedom_follow_what_is_shown(sleep: ModeFit):
    grid = gb.datagrid(sleep, Days=[0, 4])
    found = sleep.predictions(grid, ddf="satterthwaite")
    assert found["df"].iloc[0] == pytest.approx(17.0, abs=0.01)
    both = found.contrast("b2 - b1 = 0").iloc[0]
    assert both["estimate"] == pytest.approx(4 * sleep.fixef().loc["Days", "estimate"])
    assert both["df"] == pytest.approx(17, abs=0.01)


def test_with_a_log_link_the_population_average_is_lognormal():
    """E exp(eta + b) = exp(eta + sd^2 / 2), and ratios are those of single groups."""
    data = gb.load_dataset("epil")
    fit = gb.Model("y ~ trt + lage + (1 | subject)", data, "poisson").fit("ml")
    own = fit.predictions(by="trt")["estimate"]
    sd = fit.varcorr()["estimate"].iloc[0]
    averaged = fit.predictions(by="trt", groups="marginal")["estimate"]
    np.testing.assert_allclose(averaged, own * np.exp(sd**2 / 2), rtol=1e-6)
    for groups in ("population", "marginal", "conditional"):
        ratio = fit.comparisons("trt", by=True, comparison="ratio", groups=groups).iloc[0]
        row = fit.fixef().iloc[1]
        assert ratio["estimate"] == pytest.approx(np.exp(row["estimate"]), rel=1e-6)
        assert ratio["statistic"] == pytest.approx(row["statistic"], rel=1e-3)


def test_a_subject_has_its_own_slope(sleep: ModeFit):
    found = sleep.slopes("Days", by="Subject", groups="conditional")
    own = sleep.coef()
    own = own[own["coef"] == "Days"]
    np.testing.assert_allclose(found["estimate"], own["estimate"], rtol=1e-6)
    np.testing.assert_allclose(found["std_error"], own["std_error"], rtol=1e-6)


def test_the_average_of_correlated_subjects_by_dense_algebra(sleep: ModeFit):
    """With many rows and the variances known, a mean of subjects' slopes is a GLS estimate."""
    data = gb.load_dataset("sleepstudy")
    table = sleep.varcorr()
    sd, corr = table["estimate"].to_numpy()[[0, 1]], table["estimate"].to_numpy()[2]
    sigma = table["estimate"].to_numpy()[-1]
    G = np.outer(sd, sd) * np.array([[1, corr], [corr, 1]])
    X = np.column_stack([np.ones(len(data)), data["Days"]])
    subjects = data["Subject"].astype(str).to_numpy()
    Z = np.hstack([X * (subjects == s)[:, None] for s in np.unique(subjects)])
    big = np.hstack([X, Z])
    prior = np.zeros((big.shape[1],) * 2)
    prior[2:, 2:] = np.kron(np.eye(18), np.linalg.inv(G))
    C = np.linalg.inv(big.T @ big / sigma**2 + prior)
    weights = np.concatenate([[0, 1], np.tile([0, 1 / 18], 18)])
    expected = np.sqrt(weights @ C @ weights)
    found = sleep.slopes("Days", by=True, groups="conditional")["std_error"].iloc[0]
    # The star moves with the variances too, to which a mean of all subjects hardly reacts.
    assert found == pytest.approx(expected, rel=1e-3)


def test_the_wide_star_has_the_variance_of_every_row(herds: ModeFit):
    """Predict adds the effects' conditional variance by other means."""
    found = herds.predictions(groups="conditional")
    expected = herds.predict()
    np.testing.assert_allclose(found["estimate"], expected["estimate"], rtol=1e-8)
    np.testing.assert_allclose(found["std_error"], expected["std_error"], rtol=2e-3)
    assert delta_variance(herds.joint_draws.effects["herd"]).shape == (15, 1)


# ---- categories


@pytest.fixture(scope="module")
def tasters() -> ModeFit:
    data = gb.load_dataset("wine")
    labels = [str(k) for k in range(1, 6)]
    data["rating"] = pd.Categorical(data["rating"].astype(str), labels, ordered=True)
    return gb.Model("rating ~ temp + contact + (1 | judge)", data, "cumulative").fit("ml")


def test_every_category_has_its_comparison(tasters: ModeFit):
    """P(Y <= j) = expit(threshold_j - x beta), of a typical judge."""
    fixed = tasters.fixef()["estimate"]
    cuts = np.concatenate([[-np.inf], fixed.filter(like="Intercept"), [np.inf]])

    def probabilities(contact: float) -> np.ndarray:
        eta = np.array([[0], [fixed["temp[T.warm]"]]]) + contact * fixed["contact[T.yes]"]
        return np.diff(expit(cuts - eta), axis=1)

    # Half of the wines had contact.
    expected = (probabilities(0) + probabilities(1)) / 2
    rows = tasters.predictions(by="temp")
    assert list(rows["category"]) == list("12345") * 2
    np.testing.assert_allclose(rows["estimate"].to_numpy().reshape(2, 5), expected, rtol=1e-6)
    change = tasters.comparisons("temp", by=True)
    np.testing.assert_allclose(change["estimate"], expected[1] - expected[0], rtol=1e-6)
    assert change["estimate"].sum() == pytest.approx(0, abs=1e-10)
    same = rows.contrast("reference")
    np.testing.assert_allclose(same["estimate"], change["estimate"], rtol=1e-8)
    np.testing.assert_allclose(same["std_error"], change["std_error"], rtol=1e-6)


def test_means_of_categories_are_of_the_latent_scale(tasters: ModeFit):
    """So has emmeans those of ordinal::clmm: differences are coefficients, and odds ratios."""
    row = tasters.fixef().loc["temp[T.warm]"]
    found = tasters.emmeans("temp").contrast("reference").iloc[0]
    assert found["estimate"] == pytest.approx(row["estimate"])
    assert found["std_error"] == pytest.approx(row["std_error"], rel=1e-6)


@pytest.mark.parametrize("groups", ["marginal", "conditional"])
def test_probabilities_of_categories_sum_to_one(tasters: ModeFit, groups: str):
    found = tasters.predictions(by="contact", groups=groups)
    np.testing.assert_allclose(found.groupby("contact", observed=True)["estimate"].sum(), 1.0)


# ---- posteriors


def test_a_posterior_gives_quantiles_of_averages(cbpp_fit: Any):
    """The same, draw by draw, from the coefficients."""
    beta, data = cbpp_fit.draws.beta["mu"], cbpp_fit.model.design
    X = data.predictors["mu"].X
    low, high = X.copy(), X.copy()
    low[:, 1:], high[:, 1:] = 0, np.array([0, 1, 0])
    change = expit(beta @ high.T).mean(axis=1) - expit(beta @ low.T).mean(axis=1)
    found = cbpp_fit.comparisons({"period": ["1", "3"]}, by=True).iloc[0]
    expected = [change.mean(), change.std(ddof=1), *np.quantile(change, (0.025, 0.975))]
    np.testing.assert_allclose(found[NUMBERS].to_numpy(dtype=float), expected)
    assert found["contrast"] == "3 - 1"


@pytest.mark.parametrize("groups", ["population", "conditional", "marginal"])
def test_posteriors_and_maxima_have_the_same_verbs(cbpp_fit: Any, herds: ModeFit, groups: str):
    for fit in (cbpp_fit, herds):
        rows = fit.predictions(by="period", groups=groups)
        pairs = rows.contrast("reference")
        changes = fit.comparisons("period", by=True, groups=groups)
        assert len(rows) == 4
        if groups != "conditional":  # elsewhere the herds differ between the periods
            np.testing.assert_allclose(pairs["estimate"], changes["estimate"], rtol=1e-8)
            np.testing.assert_allclose(pairs["std_error"], changes["std_error"], rtol=1e-8)


def test_single_effects_are_averaged_of_the_rows_own_groups(cbpp_fit: Any):
    draws = cbpp_fit.predict(draws=True).to_numpy().reshape(cbpp_fit.draws.size, -1)
    found = cbpp_fit.predictions(by=True, groups="conditional").iloc[0]
    assert found["estimate"] == pytest.approx(draws.mean(), rel=1e-10)


# ---- laws


@pytest.mark.parametrize("comparison", list(COMPARISONS))
def test_no_change_is_no_difference(women: ModeFit, comparison: str):
    found = women.comparisons({"age": [2, 2]}, by=True, comparison=comparison).iloc[0]
    assert found["estimate"] == pytest.approx(1.0 if comparison == "ratio" else 0.0, abs=1e-12)


@pytest.mark.parametrize("kind", ["mean", "linear", "param:sigma"])
def test_every_kind_of_prediction_has_its_averages(kind: str):
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"x": rng.normal(size=80), "g": np.repeat(np.arange(8), 10)})
    data["y"] = data["x"] + rng.normal(0, np.exp(0.5 * data["x"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gb.SingularFitWarning)
        fit = gb.Model(["y ~ x + (1 | g)", "sigma ~ x"], data).fit("ml")
    rows = fit.predict(kind=kind, groups="population")
    found = fit.predictions(by=True, kind=kind).iloc[0]
    assert found["estimate"] == pytest.approx(rows["estimate"].mean(), rel=1e-8)
    slope = fit.slopes("x", by=True, kind=kind).iloc[0]
    fixed = fit.fixef()
    gamma = fixed[fixed["param"] == "sigma"].loc["x", "estimate"]
    expected = gamma * found["estimate"] if kind == "param:sigma" else fixed.loc["x", "estimate"]
    assert slope["estimate"] == pytest.approx(np.atleast_1d(expected)[0], rel=1e-5)


def test_columns_outside_of_the_model_can_group_rows():
    data = gb.load_dataset("sleepstudy").assign(late=lambda d: d["Days"] > 4)
    fit = gb.Model("Reaction ~ Days + (1 | Subject)", data).fit("ml")
    found = fit.predictions(by="late")
    assert list(found["late"]) == [False, True]
    fixed = fit.fixef()["estimate"]
    np.testing.assert_allclose(
        found["estimate"], fixed["Intercept"] + fixed["Days"] * np.array([2, 7])
    )


# ---- equivalence


def test_equivalence_is_two_one_sided_tests(sleep: ModeFit):
    found = sleep.comparisons("Days", by=True, ddf="satterthwaite").equivalence(5, 12)
    row, df = found.iloc[0], 17
    above = t.sf((row["estimate"] - 5) / row["std_error"], df)
    below = t.cdf((row["estimate"] - 12) / row["std_error"], df)
    assert row["p_noninferior"] == pytest.approx(above, rel=1e-3)
    assert row["p_nonsuperior"] == pytest.approx(below, rel=1e-3)
    assert row["p_equivalent"] == pytest.approx(max(above, below), rel=1e-3)


def test_equivalence_of_ratios_is_by_their_logarithm(women: ModeFit):
    """An interval of 90 % ends where the one-sided test has 5 %."""
    ratio = women.comparisons("urban", by=True, comparison="ratio", level=0.9)
    upper = float(ratio["upper"].iloc[0])
    found = ratio.equivalence(0.5, upper)
    assert found["p_nonsuperior"].iloc[0] == pytest.approx(0.05, rel=1e-3)
    assert found["p_noninferior"].iloc[0] < 1e-6
    with pytest.raises(gb.DataError, match="the lower first"):
        ratio.equivalence(1.25, 0.8)


def test_equivalence_of_a_posterior_is_a_probability(cbpp_fit: Any):
    found = cbpp_fit.emmeans("period", type="response").contrast("reference")
    ratio = np.exp(cbpp_fit.draws.beta["mu"][:, 1])
    expected = np.mean((ratio > 0.2) & (ratio < 0.5))
    assert found.equivalence(0.2, 0.5)["p_between"].iloc[0] == pytest.approx(expected)


# ---- figures


def test_few_rows_are_drawn_one_by_one(women: ModeFit):
    figure = women.comparisons({"livch": "reference", "urban": "reference"}, by=True).plot()
    (ax,) = figure.axes
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["livch 1 - 0", "livch 2 - 0", "livch 3+ - 0", "urban Y - N"]
    assert ax.get_xlabel() == "difference in probability of y, 95% interval"


def test_many_values_of_a_number_are_a_curve(women: ModeFit):
    grid = gb.datagrid(women, age=np.linspace(-10, 10, 9), urban=["N", "Y"])
    found = women.predictions(grid)
    (ax,) = found.plot().axes
    assert [line.get_label() for line in ax.get_lines()] == ["urban = N", "urban = Y"]
    np.testing.assert_allclose(
        ax.get_lines()[1].get_ydata(), found[found["urban"] == "Y"]["estimate"]
    )
    own = women.slopes("age", grid).plot(ax=ax)
    assert own is ax.figure


def test_too_many_rows_or_curves_are_not_drawn(sleep: ModeFit, herds: ModeFit):
    with pytest.raises(gb.DataError, match="18 curves are too many to plot; average by fewer"):
        sleep.predictions(groups="conditional").plot()
    pairs = herds.predictions(by="herd", groups="conditional").contrast("pairwise")
    with pytest.raises(gb.DataError, match="105 rows are too many"):
        pairs.plot()


# ---- bad input


@pytest.mark.parametrize(
    ("verb", "options", "error", "words"),
    [
        ("comparisons", {"variables": "ag"}, gb.UnknownNameError, "Did you mean 'age'?"),
        (
            "comparisons",
            {"variables": {"age": "pairwise"}},
            gb.UnknownNameError,
            "the number 'age'",
        ),
        ("comparisons", {"variables": {"urban": "sd"}}, gb.UnknownNameError, "the factor 'urban'"),
        ("comparisons", {"variables": {"urban": ["N", "Q"]}}, gb.DataError, "no urban = 'Q'"),
        ("comparisons", {"variables": {"age": [1, 2, 3]}}, gb.DataError, "two values"),
        ("comparisons", {"variables": {"age": [1, "b"]}}, gb.DataError, "cannot be 'b'"),
        ("comparisons", {"comparison": "rato"}, gb.UnknownNameError, "Did you mean 'ratio'?"),
        ("slopes", {"slope": "dxdy"}, gb.UnknownNameError, "no slope 'dxdy'"),
        ("slopes", {"variables": "urban", "slope": "eyex"}, gb.DataError, "is a factor"),
        ("predictions", {"by": "q"}, gb.UnknownNameError, "by='q' is no column of the data"),
        ("predictions", {"newdata": "typical"}, gb.UnknownNameError, "newdata='typical'"),
        ("predictions", {"groups": "new"}, gb.UnknownNameError, "groups='new' is not for"),
        ("predictions", {"groups": "pop"}, gb.UnknownNameError, "groups='pop'"),
        ("predictions", {"kind": "response"}, gb.DataError, "kind='response' is random"),
        ("predictions", {"adjust": "holmes"}, gb.UnknownNameError, "Did you mean 'holm'?"),
    ],
)
def test_bad_input_has_one_clear_error(
    women: ModeFit, verb: str, options: dict[str, Any], error: type[Exception], words: str
):
    with pytest.raises(error, match=words):
        getattr(women, verb)(**options)


def test_groups_that_only_group_are_no_variables(herds: ModeFit):
    with pytest.raises(gb.DataError, match="'herd' only groups rows"):
        herds.comparisons("herd")
    new = gb.datagrid(herds, herd=["99"])
    with pytest.raises(gb.DataError, match="'99' was not; use groups='population'"):
        herds.predictions(new, groups="conditional")
    with pytest.raises(gb.NotSupportedError, match="ddf='satterthwaite' is for what follows"):
        herds.predictions(groups="marginal", ddf="satterthwaite")


# ---- rows that are made up


def test_a_datagrid_holds_what_is_not_named(women: ModeFit):
    data = women.model.data
    grid = gb.datagrid(women, age=[0, 1], urban=["Y", "N"])
    assert list(grid["age"]) == [0, 0, 1, 1]
    assert list(grid["urban"].astype(str)) == ["Y", "N"] * 2
    assert set(grid["livch"]) == {data["livch"].mode()[0]}
    assert gb.datagrid(women)["age"].iloc[0] == pytest.approx(data["age"].mean())
    assert gb.datagrid(women, age=np.max)["age"].iloc[0] == data["age"].max()


def test_a_balanced_grid_crosses_the_factors(women: ModeFit):
    grid = gb.datagrid(women, grid="balanced")
    assert len(grid) == 8
    assert not grid.duplicated().any()


def test_a_counterfactual_grid_repeats_the_data(women: ModeFit):
    grid = gb.datagrid(women, urban=["N", "Y"], grid="counterfactual")
    n = women.nobs
    assert len(grid) == 2 * n
    pd.testing.assert_series_equal(
        grid["age"].iloc[n:].reset_index(drop=True), women.model.data["age"], check_index=False
    )
    # Averaged over it, the difference is that of comparisons.
    found = women.predictions(grid, by="urban", hypothesis="sequential").iloc[0]
    expected = women.comparisons("urban", by=True).iloc[0]
    assert found["estimate"] == pytest.approx(expected["estimate"], rel=1e-10)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"grid": "balansed"}, gb.UnknownNameError, "Did you mean 'balanced'?"),
        ({"aeg": 1}, gb.UnknownNameError, "Did you mean 'age'?"),
        ({"urban": "X"}, gb.DataError, "no urban = 'X'"),
        ({"age": "old"}, gb.DataError, "is a number"),
        ({"age": [np.nan]}, gb.DataError, "none that is missing"),
    ],
)
def test_a_datagrid_refuses(
    women: ModeFit, options: dict[str, Any], error: type[Exception], words: str
):
    with pytest.raises(error, match=words):
        gb.datagrid(women, **options)
