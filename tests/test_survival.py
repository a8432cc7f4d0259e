"""The Cox family: its splines, its likelihood and what is asked of its fits."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, optimize, stats
from scipy.interpolate import BSpline
from test_seen import AML

import glmm_bayes as gb
from glmm_bayes.arrays import NUMPY
from glmm_bayes.errors import DataError, FormulaError, NotSupportedError
from glmm_bayes.families.expansion import RowDensity
from glmm_bayes.families.survival import Lifetimes, Splines, splines_of

KIDNEY = gb.load_dataset("kidney").astype({"patient": str})
TIMES = np.array([1.0, 2, 4, 8, 9, 15, 22, 30])
# R's splines2 0.4.7, mSpline and iSpline(TIMES, df = 5, intercept = TRUE), boundary knots at 0.42
# and 30.58: at 4 and at 22.
KNOTS = [0.42] * 4 + [8.5] + [30.58] * 4
M_AT_4 = [0.085516927627926412, 0.0927086615821229, 0.016179013365881151, 8.27949215336615e-4, 0]
M_AT_22 = [0, 0.00417089036486513, 0.029944959579369310, 0.0681968772171616, 0.0414061661598406]
I_AT_4 = [0.903793456418583, 0.21120674997838199, 0.020722954046101711, 7.41014547726271e-4, 0]
I_AT_22 = [1, 0.99105344016736441, 0.904319548351169900, 0.596484189789446, 0.139745810789462]


def test_the_splines_are_those_of_splines2():
    found = splines_of("time", TIMES, None, 5)
    np.testing.assert_allclose(found.knots, KNOTS, rtol=1e-13)
    at = np.array([4.0, 22.0])
    np.testing.assert_allclose(np.transpose(found.values(at, np)), [M_AT_4, M_AT_22], atol=1e-14)
    # Ours have what comes before the first knot too, where the hazard is that at the knot.
    before = 0.42 * np.array(found.values(np.array(0.42), np))
    sums = np.transpose(found.integrals(at, np)) - before
    np.testing.assert_allclose(sums, [I_AT_4, I_AT_22], atol=1e-13)


@pytest.mark.parametrize("df", [1, 2, 3, 4, 7])
def test_integrals_are_those_of_the_splines(df):
    splines = splines_of("time", TIMES, None, df)
    assert splines.size == df
    assert splines.degree == min(3, df - 1)
    for t in (0.1, 3.0, 12.0, 30.58, 45.0):
        points = [p for p in np.unique(splines.knots) if p < t] or None
        for k, part in enumerate(splines.integrals(np.array(t), np)):
            expected = integrate.quad(
                lambda u, k=k: float(splines.values(np.array(u), np)[k]), 0, t, points=points
            )[0]
            assert float(part) == pytest.approx(expected, abs=1e-8)


def test_inner_knots_are_quantiles_of_events():
    """Of those that are seen, and of intervals in their middle."""
    data = pd.DataFrame({"t": np.arange(1.0, 21), "seen": ["right"] * 10 + ["none"] * 10})
    model = gb.Model("t | censored(seen) + bhaz(df=6) ~ 1", data, family="cox")
    inner = model.family.baseline.splines.knots[4:-4]
    np.testing.assert_allclose(inner, np.quantile(np.arange(11, 21), [1 / 3, 2 / 3]))
    data["seen"], data["end"] = ["right"] * 10 + ["interval"] * 10, data["t"] + 2
    model = gb.Model("t | censored(seen, end) + bhaz(5) ~ 1", data, family="cox")
    assert model.family.baseline.splines.knots[4] == 16.5
    assert model.family.baseline.splines.ends[1] == pytest.approx(22 + 21 / 50)


def test_sticks_of_beta_lengths_are_dirichlet_shares():
    """Of a flat Dirichlet distribution the mean is 1 / K, E a² is 2 / (K (K + 1))."""
    family = gb.Model("time ~ 1", AML, family="cox").family
    priors = [p.prior for p in family.parameters[1:]]
    ab = [stats.beta(prior.arguments["alpha"], prior.arguments["beta"]) for prior in priors]
    first, second = [], []
    for found, power in ((first, 1), (second, 2)):
        left = 1.0
        for v in ab:
            found.append(left * v.expect(lambda x, power=power: x**power))
            left *= v.expect(lambda x, power=power: (1 - x) ** power)
        found.append(left)
    np.testing.assert_allclose(first, 1 / 5, rtol=1e-8)
    np.testing.assert_allclose(second, 2 / 30, rtol=1e-8)


# ---- the likelihood


def test_one_constant_is_the_exponential():
    """R's survreg, survival 3.5-3, dist = "exponential": there the slope is of the log mean."""
    fit = gb.Model("time | censored(seen) + bhaz(df=1) ~ z", AML, family="cox").fit("ml")
    assert fit.loglik == pytest.approx(-81.2872852059, abs=1e-7)
    assert fit.theta["beta[z]"] == pytest.approx(0.9580937576, abs=2e-6)


def test_a_constant_hazard_is_events_over_exposure():
    """Rows that enter late, of two weights each."""
    data = AML.assign(entry=np.where(AML["z"] == 1, 3.0, 1.0), w=np.resize([1.0, 2.0], 23))
    formula = "time | censored(seen) + truncated(lb=entry) + weights(w) + bhaz(df=1) ~ 1"
    model = gb.Model(formula, data, family="cox")
    low, high = model.family.baseline.splines.ends
    events = (data["w"] * data["status"]).sum()
    rate = events / (data["w"] * (data["time"] - data["entry"])).sum()
    fit = model.fit("ml")
    found = np.exp(fit.theta["beta[Intercept]"]) / (high - low)
    assert found == pytest.approx(rate, rel=1e-6)
    assert fit.loglik == pytest.approx(events * (np.log(rate) - 1), rel=1e-9)


def independent(model, shares):
    """Give the log hazard and the hazard's integral of functions of time, by BSpline itself."""
    splines = model.family.baseline.splines
    knots, degree = splines.knots, splines.degree
    scale = (degree + 1) / (knots[degree + 1 :] - knots[: len(shares)])
    hazard = BSpline(knots, shares * scale, degree)
    whole = hazard.antiderivative()
    low = splines.ends[0]
    return hazard, lambda t: whole(t) - whole(low) + hazard(low) * low


SHARES = np.array([0.1, 0.3, 0.25, 0.2, 0.15])


def sticks(shares):
    return {f"bhaz{k + 1}": a / shares[k:].sum() for k, a in enumerate(shares[:-1])}


def test_the_likelihood_of_rows_seen_in_every_way():
    """Events, rows censored left, right and between two times, all within a window."""
    kinds = np.resize(["none", "right", "left", "interval"], 23)
    data = AML.assign(kind=kinds, end=AML["time"] + 7, entry=np.resize([0.5, 2.0], 23))
    formula = "time | censored(kind, end) + truncated(lb=entry, ub=200) ~ z"
    model = gb.Model(formula, data, family="cox")
    params = {"mu": np.exp(0.4 + 0.7 * data["z"].to_numpy()), **sticks(SHARES)}
    response = model.design.response
    found = model.family.logp(response.y, response.given, params)
    hazard, cumulated = independent(model, SHARES)
    mu, t, end = params["mu"], data["time"].to_numpy(), data["end"].to_numpy()

    def survives(t):
        return np.exp(-mu * cumulated(t))

    expected = np.select(
        [kinds == "none", kinds == "right", kinds == "left"],
        [np.log(mu * hazard(t)) - mu * cumulated(t), np.log(survives(t) - survives(200.0)),
         np.log(survives(data["entry"].to_numpy()) - survives(t))],
        np.log(survives(t) - survives(end)),
    )  # fmt: skip
    expected -= np.log(survives(data["entry"].to_numpy()) - survives(200.0))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


# By R 4.2's optim on splines2's bases, of log coefficients.
BY_OPTIM = [
    ("age + sex", -334.453650877, (0.00200511994825, -0.87593271652513)),
    ("age + sex + disease", -327.746944217, None),
]


@pytest.mark.parametrize(("formula", "loglik", "slopes"), BY_OPTIM)
def test_the_maximum_is_as_high_as_optims(formula, loglik, slopes):
    fit = gb.Model(f"time | censored(censored) ~ {formula}", KIDNEY, family="cox").fit("ml")
    assert loglik - 1e-6 < fit.loglik < loglik + 1e-3
    assert np.isfinite(fit.fixef()["std_error"]).all()
    if slopes is not None:
        found = fit.theta[["beta[age]", "beta[sex[T.female]]"]]
        np.testing.assert_allclose(found, slopes, atol=2e-3)


def test_shares_of_nothing_are_found_and_said():
    """By Karush, Kuhn and Tucker: at the maximum no spline's coefficient would rise the sum."""
    model = gb.Model("time | censored(censored) + bhaz(df=7) ~ sex", KIDNEY, family="cox")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = model.fit("ml")
    splines, mu = model.family.baseline.splines, fit.predict(kind="param:mu")["estimate"]
    shares = model.family.baseline.shares({k: fit.theta[k] for k in fit.theta.index})
    t, event = KIDNEY["time"].to_numpy(float), 1 - KIDNEY["censored"].to_numpy()
    M, integrals = np.transpose(splines.values(t, np)), np.transpose(splines.integrals(t, np))
    slope = (event / (M @ shares)) @ M - mu.to_numpy() @ integrals
    edge = np.array(shares) < 1e-5
    assert edge.any()
    assert np.abs(slope[~edge]).max() < 0.02
    assert slope[edge].max() < 0.02
    assert "estimated at its lower bound" in fit.summary().text()
    assert np.isfinite(fit.fixef()["std_error"]).all()


def test_effects_are_integrated_out():
    """Against quadrature of each patient's two rows, at the maximum with 15 nodes."""
    fit = gb.Model(
        "time | censored(censored) + bhaz(df=4) ~ sex + (1 | patient)", KIDNEY, family="cox"
    ).fit("ml", nagq=15)
    model, theta = fit.model, fit.theta
    shares = np.array(model.family.baseline.shares(theta))
    hazard, cumulated = independent(model, shares)
    eta = theta["beta[Intercept]"] + theta["beta[sex[T.female]]"] * (KIDNEY["sex"] == "female")
    t, sd = KIDNEY["time"].to_numpy(float), theta["sd_patient[Intercept]"]
    total = 0.0
    for rows in KIDNEY.groupby("patient").indices.values():
        event = 1 - KIDNEY["censored"].to_numpy()[rows]
        log_h = np.log(hazard(t[rows])) + eta.to_numpy()[rows]
        H = cumulated(t[rows]) * np.exp(eta.to_numpy()[rows])

        def integrand(u, event=event, log_h=log_h, H=H):
            log = (event * (log_h + sd * u) - H * np.exp(sd * u)).sum() - 0.5 * u * u
            return np.exp(log) / np.sqrt(2 * np.pi)

        total += np.log(integrate.quad(integrand, -9, 9, epsabs=0, epsrel=1e-10)[0])
    assert fit.loglik == pytest.approx(total, abs=1e-5)


def weibull_times(n, rng):
    """Draw times with hazard 1.6 t^0.6 / 20^1.6 exp(0.8 x - 0.5 (f = b)), censored at 40."""
    data = pd.DataFrame({"x": rng.normal(size=n), "f": rng.choice(["a", "b"], n)})
    ratio = np.exp(0.8 * data["x"] - 0.5 * (data["f"] == "b"))
    t = 20 * (rng.exponential(size=n) / ratio) ** (1 / 1.6)
    return data.assign(t=np.minimum(t, 40.0), c=(t > 40).astype(int))


def partial_likelihood(data):
    """Maximise Cox's partial likelihood, of times without ties."""
    data = data.sort_values("t", ascending=False)
    X = np.column_stack([data["x"], data["f"] == "b"]).astype(float)
    event = data["c"].to_numpy() == 0

    def loss(beta):
        eta = X @ beta
        return -np.sum((eta - np.logaddexp.accumulate(eta))[event])

    return optimize.minimize(loss, np.zeros(2)).x


def test_coefficients_are_nearly_those_of_the_partial_likelihood():
    data = weibull_times(600, np.random.default_rng(5))
    fit = gb.Model("t | censored(c) ~ x + f", data, family="cox").fit("ml")
    found = fit.fixef().loc[["x", "f[T.b]"]]
    expected = partial_likelihood(data)
    assert (np.abs(found["estimate"] - expected) < 0.1 * found["std_error"]).all()
    assert (np.abs(found["estimate"] - [0.8, -0.5]) < 3 * found["std_error"]).all()
    # Weibull's survival is within the interval, over the whole range.
    new = pd.DataFrame({"t": np.linspace(2, 38, 10), "x": 0.5, "f": "a"})
    curve = fit.predict(new, kind="survival", level=0.999)
    truth = np.exp(-np.exp(0.4) * (new["t"] / 20) ** 1.6)
    assert ((curve["lower"] < truth) & (truth < curve["upper"])).all()


def test_baselines_of_groups_are_models_of_groups():
    formula = "time | censored(censored) + bhaz(df=2)"
    whole = gb.Model([f"{formula} ~ sex", "bhaz ~ 0 + sex"], KIDNEY, family="cox")
    assert set(whole.design.predictors) == {"mu", "bhaz1"}
    knots = whole.family.baseline.splines
    total = 0.0
    for _, rows in KIDNEY.groupby("sex", observed=True):
        part = whole.family.baseline.made(knots)
        y, c = rows["time"].to_numpy(float), rows["censored"].to_numpy() == 1

        def loss(x, part=part, y=y, c=c):
            p = {"mu": np.exp(x[0]), "bhaz1": 1 / (1 + np.exp(-x[1]))}
            return -np.where(c, part.tails(y, p, NUMPY)[1], part.logp(y, None, p)).sum()

        total -= optimize.minimize(loss, np.zeros(2)).fun
    assert whole.fit("ml").loglik == pytest.approx(total, abs=1e-5)


# ---- what is asked of a fit


@pytest.fixture(scope="module")
def fit():
    formula = "time | censored(censored) + bhaz(df=4) ~ sex + (1 | patient)"
    return gb.Model(formula, KIDNEY, family="cox", priors={"sd": 0.8}).fit("ml")


def test_times_are_where_the_hazard_has_added_up(fit):
    """And beyond the last knot the hazard stays: there what is left decays exponentially."""
    baseline = fit.model.family.baseline
    shares = np.array([0.4, 0.3, 0.2, 0.1])
    own = Lifetimes(baseline, {"mu": np.array([[0.3], [2.0]]), **sticks(shares)})
    q = np.array([1e-9, 1e-3, 0.3, 0.9, 0.999])
    np.testing.assert_allclose(own.cdf(own.ppf(q)), np.tile(q, (2, 1)), rtol=1e-9)
    np.testing.assert_allclose(own.sf(own.isf(q)), np.tile(q, (2, 1)), rtol=1e-9)
    assert np.isinf(own.isf(np.array(0.0))).all()
    high = baseline.splines.ends[1]
    rate = 0.3 * baseline.hazard(np.array(high), sticks(shares), np)
    later = own.sf(np.array([high + 50.0, high]))[0]
    assert later[0] / later[1] == pytest.approx(np.exp(-50 * rate), rel=1e-12)


def test_survival_is_what_the_hazard_leaves(fit):
    new = pd.DataFrame({"time": [1.0, 40.0, 300.0], "sex": "male", "patient": "1"})
    found = fit.predict(new, kind="survival")
    mu = fit.predict(new, kind="param:mu")["estimate"].to_numpy()
    theta = fit.theta
    _, cumulated = independent(fit.model, np.array(fit.model.family.baseline.shares(theta)))
    np.testing.assert_allclose(found["estimate"], np.exp(-mu * cumulated(new["time"])), rtol=1e-9)
    assert (found["lower"] < found["estimate"]).all()
    assert (found["estimate"] < found["upper"]).all()
    assert (found["upper"] <= 1).all()
    # Frailties averaged over, by quadrature of their normal distribution.
    marginal = fit.predict(new.drop(columns="patient"), kind="survival", groups="marginal")
    mu = fit.predict(new, kind="param:mu", groups="population")["estimate"].to_numpy()
    for value, m, t in zip(marginal["estimate"], mu, new["time"], strict=True):
        expected = stats.norm.expect(
            lambda u, m=m, t=t: np.exp(-m * cumulated(t) * np.exp(0.8 * u)), lb=-9, ub=9
        )
        assert value == pytest.approx(expected, abs=1e-5)


def test_what_has_no_mean_is_compared_by_its_predictor(fit):
    found = fit.comparisons("sex", kind="linear", groups="population", by=True)
    assert found["estimate"].iloc[0] == pytest.approx(fit.theta["beta[sex[T.female]]"], rel=1e-9)
    with pytest.raises(NotSupportedError, match=r"predict\(kind='survival', draws=True\)"):
        fit.comparisons("sex", kind="survival")
    with pytest.raises(NotSupportedError, match="ask for kind='linear'"):
        fit.comparisons("sex")
    first, *_ = fit.plot_residuals().axes
    assert first.get_xlabel().startswith("linear predictor")


def test_survival_of_other_families():
    fit = gb.Model("time | censored(seen) ~ z", AML, family="exponential").fit("ml")
    found = fit.predict(AML, kind="survival")["estimate"]
    np.testing.assert_allclose(found, np.exp(-AML["time"] / fit.predict()["estimate"]), rtol=1e-12)
    np.testing.assert_allclose(found, fit.predict(kind="survival")["estimate"], rtol=1e-12)
    with pytest.raises(DataError, match="positive, but row 2 is -1"):
        fit.predict(AML.assign(time=[1.0, 2.0, -1.0, *[1.0] * 20]), kind="survival")
    other = gb.Model("status ~ z", AML, family="bernoulli").fit("ml")
    with pytest.raises(NotSupportedError, match="kind='response' with draws=True"):
        other.predict(kind="survival")


def test_residuals_are_quantiles_of_cox_and_snells(fit):
    """A row that is censored has a residual above its own quantile."""
    found = fit.residuals(seed=1)
    survival = fit.predict(kind="survival")["estimate"]
    event = KIDNEY["censored"] == 0
    at = stats.norm.isf(survival)
    np.testing.assert_allclose(found[event], at[event], rtol=1e-6)
    assert (found[~event] >= at[~event]).all()


def test_simulated_times_go_on_after_the_last_knot(fit):
    drawn = fit.simulate(400, seed=2, groups="conditional")
    share = (drawn > KIDNEY["time"].to_numpy()).mean("sim").to_numpy()
    survival = fit.predict(kind="survival")["estimate"].to_numpy()
    error = np.sqrt(survival * (1 - survival) / 400) + 1e-3
    assert (np.abs(share - survival) < 5 * error).all()


def test_a_fit_comes_back(fit, tmp_path):
    fit.save(tmp_path / "fit")
    again = gb.load(tmp_path / "fit")
    assert again.predict(kind="survival").equals(fit.predict(kind="survival"))
    with pytest.raises(NotSupportedError, match="kind='survival'"):
        fit.predict(kind="mean")


def test_beside_another_response():
    data = AML.assign(v=np.random.default_rng(3).normal(size=23))
    both = gb.Model(
        ["time | censored(seen) + bhaz(df=2) ~ z", "v ~ z"], data,
        family={"time": "cox", "v": "gaussian"},
    ).fit("ml")  # fmt: skip
    one = gb.Model("time | censored(seen) + bhaz(df=2) ~ z", data, family="cox").fit("ml")
    other = gb.Model("v ~ z", data).fit("ml")
    assert both.loglik == pytest.approx(one.loglik + other.loglik, abs=1e-5)


def test_rows_that_were_seen_as_sets_are_repeated():
    model = gb.Model("time | censored(seen) ~ z", AML, family="weibull")
    links, names = model.links, [p.name for p in model.family.parameters]
    response = model.design.response
    rows = RowDensity(model.family, links, names, response.y, response.given, None)
    eta = np.stack([np.linspace(3, 4, 23), np.full(23, 0.2)])
    once, twice = rows(eta, 2), rows.repeated(2)(np.tile(eta, 2), 2)
    np.testing.assert_array_equal(np.tile(once.value, 2), twice.value)
    np.testing.assert_array_equal(np.tile(once.second, 2), twice.second)


@pytest.mark.parametrize(
    ("formula", "family", "error", "words"),
    [
        ("time | censored(seen) + bhaz(df=0) ~ 1", "cox", FormulaError, "from 1 to 20"),
        ("time | censored(seen) + bhaz(df=2.5) ~ 1", "cox", FormulaError, "whole number"),
        ("time | bhaz(df=5, k=2) ~ 1", "cox", FormulaError, "too many arguments"),
        ("time | censored(1 + 0 * z) ~ 1", "cox", DataError, "every row is right-censored"),
        ("time | censored(seen) + bhaz(df=20) ~ 1", "cox", DataError, r"write bhaz\(df="),
        ("time - 5 | censored(seen) ~ 1", "cox", DataError, "values must be positive, but row"),
        ("time | bhaz(df=3) ~ 1", "weibull", DataError, "use family='cox'"),
        ("time ~ 1", "mixture(cox, cox)", NotSupportedError, "mix 'weibull'"),
    ],
)
def test_errors_say_what_to_do(formula, family, error, words):
    with pytest.raises(error, match=words):
        gb.Model(formula, AML, family=family)


def test_ties_leave_no_room_for_knots():
    data = pd.DataFrame({"t": [1.0, 2, 3, 4, 5, 6] + [3.0] * 30})
    with pytest.raises(DataError, match="too few different times"):
        gb.Model("t | bhaz(df=6) ~ 1", data, family="cox")


def test_splines_without_inner_knots_are_bernsteins():
    splines = Splines(np.array([0.0] * 4 + [2.0] * 4), 3)
    u = np.linspace(0, 1, 9)
    expected = [2 * stats.binom.pmf(k, 3, u) for k in range(4)]
    np.testing.assert_allclose(splines.values(2 * u, np), expected, atol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["posthoc", "nested_laplace", "nuts"])
def test_posteriors_agree_with_quadrature(method):
    """Against the posterior on a grid: an intercept, a slope and one share, without effects."""
    model = gb.Model("time | censored(seen) + bhaz(df=2) ~ z", AML, family="cox")
    options = {"draws": 1000} if method != "nested_laplace" else {}
    found = model.fit(method, seed=3, **options).fixef().loc["z"]
    family, z = model.family, AML["z"].to_numpy()
    y, c = AML["time"].to_numpy(), AML["status"].to_numpy() == 0
    prior = {p.parameter: p for p in model.priors.itertuples()}
    assert prior["beta[z]"].distribution.startswith("Normal")
    scale = 2.5 * max(2.5, model.scales["mu"].reach) / z.std()
    a, b, v = np.meshgrid(
        np.linspace(-4, 4, 60), np.linspace(-1.5, 3.5, 60), np.linspace(0.004, 0.996, 60)
    )
    at = a.ravel()[:, None], b.ravel()[:, None], v.ravel()[:, None]
    p = {"mu": np.exp(at[0] + at[1] * (z - z.mean())), "bhaz1": at[2]}
    log = np.where(c, family.tails(y, p, NUMPY)[1], family.logp(y, None, p)).sum(axis=1)
    scales = model.scales["mu"]
    log += stats.t.logpdf((at[0][:, 0] - scales.m) / scales.s, 3)
    log += stats.norm.logpdf(at[1][:, 0] / scale)
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    mean = weight @ at[1][:, 0]
    sd = np.sqrt(weight @ (at[1][:, 0] - mean) ** 2)
    assert found["estimate"] == pytest.approx(mean, abs=0.12 * sd)
    assert found["std_error"] == pytest.approx(sd, rel=0.1)
