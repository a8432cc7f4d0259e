"""The bootstrap against lme4, pbkrtest, closed forms, and cold fits of the same data."""

import warnings
from dataclasses import replace

import joblib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy.stats import f as fisher
from scipy.stats import norm, t

import glmm_bayes as gb
from glmm_bayes.errors import DataError, NotSupportedError, SingularFitWarning, UnknownNameError
from glmm_bayes.modes.another import with_response
from glmm_bayes.modes.refits import Start, refitter_of
from glmm_bayes.verbs.bootstrap_test import compare_by_bootstrap
from glmm_bayes.verbs.confint import outer_names
from glmm_bayes.verbs.recovery_study import outer_values
from glmm_bayes.verbs.resampled import Clusters, Source, reflated

QUIET = {"progressbar": False}


def fitted(formula, data, family="gaussian", method="ml", **options):
    data = gb.load_dataset(data) if isinstance(data, str) else data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        return gb.Model(formula, data, family).fit(method, **options)


@pytest.fixture(scope="module")
def sleepstudy():
    return fitted("Reaction ~ Days + (1 + Days | Subject)", "sleepstudy", method="reml")


@pytest.fixture(scope="module")
def cbpp():
    return fitted("incidence | trials(size) ~ period + (1 | herd)", "cbpp", "binomial")


# ---- against other software


def agrees(found, theirs, n, names):
    """Compare quantiles within four Monte Carlo errors of the difference, normal theory's."""
    # The error of a 2.5% quantile of m normal draws is 2.7 standard deviations over root m.
    for ours, other in names.items():
        sd, ends = theirs[other]["sd"], found.loc[ours]
        error = 4 * 2.7 * sd * np.sqrt(1 / n + 1 / theirs["n"])
        assert ends["lower"] == pytest.approx(theirs[other]["lower"], abs=error), ours
        assert ends["upper"] == pytest.approx(theirs[other]["upper"], abs=error), ours


def test_percentiles_agree_with_lme4_s_of_a_linear_model(sleepstudy, reference):
    boot = reference("inf_sleepstudy_boot")["boot"]
    theirs = boot["ci_percentile"] | {"n": boot["nsim"]}
    found = sleepstudy.confint(method="bootstrap", nsim=2000, seed=1)
    names = {
        "Intercept": "(Intercept)", "Days": "Days", "sd_Subject[Intercept]": "sd_(Intercept)",
        "sd_Subject[Days]": "sd_Days", "corr_Subject[Intercept, Days]": "corr", "sigma": "sigma",
    }  # fmt: skip
    agrees(found, theirs, 2000, names)


def test_percentiles_agree_with_lme4_s_of_a_binomial_model(cbpp, reference):
    boot = reference("inf_cbpp_pb")["boot"]
    theirs = boot["ci_percentile"] | {"n": boot["nsim"]}
    found = cbpp.confint(method="bootstrap", nsim=2000, seed=1)
    names = {f"period[T.{k}]": f"period{k}" for k in (2, 3, 4)}
    names |= {"Intercept": "(Intercept)", "sd_herd[Intercept]": "sd_herd"}
    agrees(found, theirs, 2000, names)


def test_the_bootstrap_test_agrees_with_pbkrtest(cbpp, reference):
    theirs = reference("inf_cbpp_pb")["pb"]
    data = gb.load_dataset("cbpp")
    data["late"] = (data["period"].astype(str) != "1").astype(float)
    small = fitted("incidence | trials(size) ~ late + (1 | herd)", data, "binomial")
    large = fitted("incidence | trials(size) ~ period + (1 | herd)", data, "binomial")
    found = compare_by_bootstrap(large, small, 2000, seed=3)
    assert found.table.loc["LRT", "statistic"] == pytest.approx(theirs["stat"], abs=1e-3)
    assert found.table.loc["LRT", "p_value"] == pytest.approx(theirs["p_chisq"], abs=1e-3)
    error = np.hypot(found.std_error, theirs["mc_se_p"])
    assert found.table.loc["PBtest", "p_value"] == pytest.approx(theirs["p_PB"], abs=4 * error)
    # The variants differ little where the statistic is nearly chi-squared.
    others = found.table.loc[["Gamma", "Bartlett", "F"], "p_value"]
    np.testing.assert_allclose(others, found.table.loc["PBtest", "p_value"], atol=0.06)
    assert "PBtest" in repr(found)


def test_the_bootstrap_test_of_a_normal_sample_is_the_exact_one():
    """Without random effects the likelihood ratio is a function of F, whose law is known."""
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"x": rng.normal(size=12)})
    data["y"] = 0.5 * data["x"] + rng.normal(size=12)
    large, small = fitted("y ~ x", data), fitted("y ~ 1", data)
    found = compare_by_bootstrap(large, small, 1000, seed=1)
    ratio = np.expm1(found.table.loc["LRT", "statistic"] / 12) * 10
    exact = fisher(1, 10).sf(ratio)
    assert found.table.loc["PBtest", "p_value"] == pytest.approx(exact, abs=4 * found.std_error)


# ---- refits are the fits


def cold(fit, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return with_response(fit.model, y).fit(fit.method, seed=1, **fit.options)


MODELS = [
    ("Reaction ~ Days + (1 + Days | Subject)", "sleepstudy", "gaussian", "reml"),
    ("Reaction ~ Days + (1 | Subject)", "sleepstudy", "lognormal", "ml"),
    ("Reaction ~ Days + cs(1 + Days | Subject)", "sleepstudy", "gaussian", "ml"),
    ("Reaction ~ Days + (1 | Subject)", "sleepstudy", "gamma", "ml"),
    (["Reaction ~ Days + (1 | Subject)", "sigma ~ Days"], "sleepstudy", "gaussian", "ml"),
    ("incidence | trials(size) ~ period + (1 | herd)", "cbpp", "binomial", "ml"),
    ("incidence | trials(size) ~ period + (1 | herd)", "cbpp", "binomial", "reml"),
    ("incidence | trials(size) ~ period + (1 | herd)", "cbpp", "binomial", "map"),
    ("diameter ~ 1 + (1 | plate) + (1 | sample)", "penicillin", "gaussian", "ml"),
]


@pytest.mark.parametrize(("formula", "data", "family", "method"), MODELS, ids=str)
def test_refits_from_the_mode_are_the_cold_fits(formula, data, family, method):
    fit = fitted(formula, data, family, method)
    Y = Source.of(fit, "parametric").responses(fit.model, 3, np.random.default_rng(2))
    refitter = refitter_of(Start.of(fit.mode), method, 1)
    found = refitter.maxima(Y)
    assert found.reached.all()
    for s, y in enumerate(Y):
        other = cold(fit, y)
        # Of a penalised maximum the likelihood itself still has a slope.
        error = 1e-3 if method == "map" else 1e-5
        assert found.loglik[s] == pytest.approx(other.loglik, abs=error)
        ours = outer_values(fit.model, fit.mode.at(found.x[s][None]))
        theirs = outer_values(other.model, other.plug_in)
        for name in ours:
            assert ours[name][0] == pytest.approx(theirs[name][0], rel=2e-3, abs=2e-3), name


def test_quadrature_is_refitted_by_quadrature():
    fit = fitted("incidence | trials(size) ~ period + (1 | herd)", "cbpp", "binomial", nagq=5)
    y = Source.of(fit, "parametric").responses(fit.model, 1, np.random.default_rng(2))
    found = refitter_of(Start.of(fit.mode), "ml", 5).maxima(y)
    assert found.loglik[0] == pytest.approx(cold(fit, y[0]).loglik, abs=1e-5)


def test_what_is_zero_in_the_fit_may_be_above_in_a_replicate():
    fit = fitted("Yield ~ 1 + (1 | Batch)", "dyestuff2")
    assert fit.is_singular
    found = gb.bootstrap(fit, n=200, seed=1, **QUIET)
    counts = found.status.value_counts()
    assert counts["singular"] > 50
    assert counts["fitted"] > 50
    zero = found.draws["sd_Batch[Intercept]"] == 0
    np.testing.assert_array_equal(zero, found.status == "singular")


# ---- coverage where it is known


@pytest.mark.slow
def test_coverage_in_the_balanced_one_way_layout():
    """The mean of q = 8 groups: percentile and Student's intervals differ as normal and t do."""
    q, m, rng, hit = 8, 5, np.random.default_rng(7), []
    data = pd.DataFrame({"g": np.repeat([f"g{k}" for k in range(q)], m)})
    for k in range(400):
        data["y"] = np.repeat(rng.normal(size=q), m) + rng.normal(size=q * m)
        fit = fitted("y ~ 1 + (1 | g)", data, method="reml")
        ends = gb.bootstrap(fit, n=399, seed=k, **QUIET).confint(
            parm="Intercept", interval="normal"
        )
        hit.append(ends["lower"].iloc[0] < 0 < ends["upper"].iloc[0])
    expected = 2 * t(q - 1).cdf(norm.ppf(0.975)) - 1
    error = np.sqrt(expected * (1 - expected) / len(hit))
    assert np.mean(hit) == pytest.approx(expected, abs=4 * error)


def test_levels_that_depend_on_each_other_are_drawn_together():
    """Responses of a subject's days have the covariance sd^2 rho^lag + sigma^2 of the formula."""
    fit = fitted("Reaction ~ Days + ar1(Days | Subject)", "sleepstudy")
    Y = Source.of(fit, "parametric").responses(fit.model, 2000, np.random.default_rng(1))
    e = Y - fit.model.design.predictors["mu"].X @ fit.fixef()["estimate"].to_numpy()
    e = e.reshape(-1, 10)
    theta = fit.varcorr().set_index("kind")["estimate"]
    lag = abs(np.subtract.outer(np.arange(10), np.arange(10)))
    sd, sigma = theta["sd"]
    V = sd**2 * theta["rho"] ** lag + sigma**2 * np.eye(10)
    error = np.sqrt((V**2 + np.outer(np.diag(V), np.diag(V))) / len(e))
    assert np.abs((e.T @ e / len(e) - V) / error).max() < 4.5


def test_effects_that_are_not_normal_are_drawn_from_their_distribution():
    data = gb.load_dataset("sleepstudy")
    model = gb.Model('Reaction ~ Days + (1 | Subject, dist="student")', data)
    fit = model.fit("ml", nagq=15)
    term, row = model.design.terms[0], fit.plug_in
    heavy = replace(row, theta=row.theta | {f"nu_{term.name}": np.array([[2.5]])})
    drawn = Source(heavy)._effects(term, 4000, np.random.default_rng(1))[:, :, 0]
    # Of two and a half degrees of freedom 1 in 100 is as far from the middle as of normal ones 1
    # in 10^7: 5.3 times the interquartile range over 1.35.
    far = np.abs(drawn) > 5.3 * np.subtract(*np.quantile(drawn, (0.75, 0.25))) / 1.35
    assert far.mean() > 0.005


def test_the_mean_of_a_balanced_layout_has_the_standard_error_of_its_formula():
    rng, q, m = np.random.default_rng(8), 10, 4
    data = pd.DataFrame({"g": np.repeat([f"g{k}" for k in range(q)], m)})
    data["y"] = np.repeat(rng.normal(size=q), m) + rng.normal(size=q * m)
    fit = fitted("y ~ 1 + (1 | g)", data, method="reml")
    for kind in ("parametric", "semiparametric"):
        found = gb.bootstrap(fit, n=3000, seed=1, kind=kind, **QUIET).summary().loc["Intercept"]
        expected = np.sqrt(
            fit.theta["sd_g[Intercept]"] ** 2 / q + fit.theta["sigma"] ** 2 / (q * m)
        )
        assert found["std_error"] == pytest.approx(expected, rel=4 / np.sqrt(2 * 3000))
        assert found["bias"] == pytest.approx(0, abs=4 * expected / np.sqrt(3000))


def test_clusters_drawn_with_replacement_have_the_standard_error_of_their_means():
    rng, q, m = np.random.default_rng(8), 12, 4
    data = pd.DataFrame({"g": np.repeat([f"g{k}" for k in range(q)], m)})
    data["y"] = np.repeat(rng.normal(size=q), m) + rng.normal(size=q * m)
    fit = fitted("y ~ 1 + (1 | g)", data)
    found = gb.bootstrap(fit, n=60, seed=1, kind="cases", **QUIET)
    expected = data.groupby("g")["y"].mean().std(ddof=0) / np.sqrt(q)
    assert found.summary().loc["Intercept", "std_error"] == pytest.approx(
        expected, rel=4 / np.sqrt(2 * 60)
    )


# ---- how data are made anew


def test_reflated_modes_have_the_estimated_covariance():
    rng = np.random.default_rng(1)
    Lambda = np.array([[2.0, 0.0], [0.5, 0.3]])
    b = reflated(rng.normal(size=(9, 2)) @ np.array([[1.0, 0.2], [0.0, 0.4]]), Lambda)
    np.testing.assert_allclose(b.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(b.T @ b / 9, Lambda @ Lambda.T, rtol=1e-10)


def test_a_cluster_drawn_twice_is_two_clusters_and_so_are_its_parts():
    fit = fitted("strength ~ 1 + (1 | batch/cask)", "pastes")
    clusters = Clusters.of(fit.model, None)
    assert clusters.name == "batch"
    frame = clusters.drawn(fit.model, np.random.default_rng(1))
    assert frame["batch"].nunique() == 10
    assert len(frame) == 60
    model = gb.Model("strength ~ 1 + (1 | batch/cask)", frame)
    assert sorted(len(term.levels) for term in model.design.terms) == [10, 30]


def test_crossed_clusters_have_to_be_named():
    fit = fitted("diameter ~ 1 + (1 | plate) + (1 | sample)", "penicillin")
    with pytest.raises(NotSupportedError, match="plate, sample are crossed"):
        gb.bootstrap(fit, n=2, seed=1, kind="cases", **QUIET)
    found = gb.bootstrap(fit, n=3, seed=1, kind="cases", clusters="plate", **QUIET)
    assert found.draws.notna().all(axis=None)


def test_few_clusters_or_replicates_are_refused(sleepstudy):
    data = gb.load_dataset("sleepstudy").assign(h=[f"h{k % 4}" for k in range(180)])
    fit = fitted("Reaction ~ Days + (1 | h)", data)
    with pytest.raises(DataError, match="There are 4 levels of 'h'"):
        gb.bootstrap(fit, n=50, seed=1, kind="cases", **QUIET)
    smaller = fitted("Reaction ~ Days + (1 | Subject)", "sleepstudy", method="reml")
    with pytest.raises(DataError, match="nsim=18 is too few"):
        sleepstudy.anova(smaller, test="bootstrap", nsim=18)
    with pytest.raises(UnknownNameError, match="nsim=0 must be a whole number"):
        sleepstudy.anova(smaller, test="bootstrap", nsim=0)


# ---- intervals


def test_intervals_are_the_arithmetic_of_the_replicates(sleepstudy):
    found = gb.bootstrap(sleepstudy, n=256, seed=4, **QUIET)
    draws, estimate = found.draws["Days"].to_numpy(), found.estimate["Days"]
    low, high = np.quantile(draws, [0.05, 0.95])
    ends = {k: found.confint(level=0.9, interval=k).loc["Days"] for k in
            ("percentile", "basic", "normal", "bca")}  # fmt: skip
    assert list(ends["percentile"][1:]) == pytest.approx([low, high])
    assert list(ends["basic"][1:]) == pytest.approx([2 * estimate - high, 2 * estimate - low])
    middle, half = 2 * estimate - draws.mean(), norm.ppf(0.95) * draws.std(ddof=1)
    assert list(ends["normal"][1:]) == pytest.approx([middle - half, middle + half])
    without = found.jackknife["Days"]
    away = without.mean() - without
    skew = (away**3).sum() / (6 * (away**2).sum() ** 1.5)
    bias = norm.ppf(np.mean(draws < estimate))
    z = bias + norm.ppf([0.05, 0.95])
    assert list(ends["bca"][1:]) == pytest.approx(
        list(np.quantile(draws, norm.cdf(bias + z / (1 - skew * z))))
    )


def test_leaving_a_level_out_is_fitting_without_it(sleepstudy):
    found = gb.bootstrap(sleepstudy, n=2, seed=4, **QUIET)
    data = gb.load_dataset("sleepstudy")
    first = sleepstudy.model.design.terms[0].levels[0]
    without = fitted(
        sleepstudy.model.formula.texts[0], data[data["Subject"].astype(str) != first], method="reml"
    )
    assert list(found.jackknife.iloc[0]) == pytest.approx(list(without.theta), rel=1e-3)


# ---- running


def test_a_seed_decides_and_neither_jobs_nor_the_number_do(sleepstudy, cbpp):
    for fit in (sleepstudy, cbpp):
        one = gb.bootstrap(fit, n=300, seed=9, **QUIET).draws
        with joblib.parallel_config("threading", n_jobs=2):
            two = gb.bootstrap(fit, n=300, seed=9, **QUIET).draws
        pd.testing.assert_frame_equal(one, two, check_exact=True)
        more = gb.bootstrap(fit, n=400, seed=9, **QUIET).draws
        pd.testing.assert_frame_equal(one.iloc[:256], more.iloc[:256], check_exact=True)


@pytest.mark.slow
def test_processes_give_the_same(cbpp):
    one = gb.bootstrap(cbpp, n=300, seed=9, n_jobs=1, **QUIET).draws
    two = gb.bootstrap(cbpp, n=300, seed=9, n_jobs=2, **QUIET).draws
    pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_a_statistic_is_a_function_of_a_whole_fit(sleepstudy):
    found = gb.bootstrap(sleepstudy, lambda fit: fit.fixef()["estimate"], 8, seed=9, **QUIET)
    plain = gb.bootstrap(sleepstudy, n=8, seed=9, **QUIET)
    assert list(found.draws) == ["Intercept", "Days"]
    assert found.estimate["Days"] == pytest.approx(plain.estimate["Days"])
    one = gb.bootstrap(sleepstudy, lambda fit: fit.loglik, 3, seed=9, **QUIET)
    assert list(one.draws) == ["statistic"]


def test_failures_are_counted_and_quoted(sleepstudy):
    calls = iter(range(100))

    def failing(fit):
        if next(calls) == 2:
            raise ValueError("not this one")
        return fit.loglik

    found = gb.bootstrap(sleepstudy, failing, 4, seed=9, **QUIET)
    assert (found.status == "failed").sum() == 1
    assert "not this one" in " ".join(repr(found).split())


def test_an_interrupted_bootstrap_keeps_what_it_has(sleepstudy):
    calls = iter(range(1000))

    def interrupting(fit):
        if next(calls) == 10:
            raise KeyboardInterrupt
        return fit.loglik

    found = gb.bootstrap(sleepstudy, interrupting, 40, seed=9, n_jobs=1, **QUIET)
    assert not found.complete
    assert 0 < len(found.draws) < 40
    assert "Interrupted" in repr(found)


def test_a_bootstrap_goes_on_where_it_stopped(sleepstudy, tmp_path):
    """With more replicates than before, and after a line that was torn."""
    path, calls = tmp_path / "kept.jsonl", []

    def counting(fit):
        calls.append(1)
        if len(calls) == 21:
            raise KeyboardInterrupt
        return fit.loglik

    part = gb.bootstrap(sleepstudy, counting, 40, seed=9, n_jobs=1, path=path, **QUIET)
    assert list(part.draws.index) == list(range(16))
    with path.open("a") as file:
        file.write('{"block": 2, "sta')
    whole = gb.bootstrap(sleepstudy, counting, 44, seed=9, n_jobs=1, path=str(path), **QUIET)
    # Before and after the replicates the fit itself is asked: 21 + 1, and 1 + 28 + 1.
    assert len(calls) == 52
    fresh = gb.bootstrap(sleepstudy, lambda fit: fit.loglik, 44, seed=9, n_jobs=1, **QUIET)
    pd.testing.assert_frame_equal(whole.draws, fresh.draws, check_exact=True)
    assert whole.complete
    few = gb.bootstrap(sleepstudy, counting, 10, seed=9, path=path, **QUIET)
    pd.testing.assert_frame_equal(few.draws, fresh.draws.iloc[:10], check_exact=True)
    more = gb.bootstrap(sleepstudy, counting, 47, seed=9, n_jobs=1, path=path, **QUIET)
    pd.testing.assert_frame_equal(more.draws.iloc[:44], fresh.draws, check_exact=True)


def test_a_file_of_another_bootstrap_is_refused(sleepstudy, cbpp, tmp_path):
    path = tmp_path / "kept.jsonl"
    gb.bootstrap(sleepstudy, n=4, seed=9, path=path, **QUIET)
    before = path.read_bytes()
    with pytest.raises(DataError, match="other replicates: its seed is 9, not 8"):
        gb.bootstrap(sleepstudy, n=4, seed=8, path=path, **QUIET)
    with pytest.raises(DataError, match="its kind is 'parametric', not 'semiparametric'"):
        gb.bootstrap(sleepstudy, n=4, seed=9, kind="semiparametric", path=path, **QUIET)
    with pytest.raises(DataError, match="its formula is"):
        gb.bootstrap(cbpp, n=4, seed=9, path=path, **QUIET)
    assert path.read_bytes() == before
    check = tmp_path / "check.jsonl"
    check.write_text('{"recovery": 1, "seed": 9}\n')
    with pytest.raises(DataError, match="does not hold the replicates of a bootstrap"):
        gb.bootstrap(sleepstudy, n=4, seed=9, path=check, **QUIET)


def test_intervals_want_enough_replicates(sleepstudy):
    """Of 39 the ends of 95% are the least and the largest."""
    found = gb.bootstrap(sleepstudy, n=38, seed=9, **QUIET)
    for interval in ("percentile", "basic", "bca"):
        with pytest.raises(DataError, match="need 39 replicates at least, and 38 were fitted"):
            found.confint(interval=interval)
    assert len(found.confint(interval="normal")) == len(found.confint(level=0.9)) > 0
    assert "Too few replicates for intervals" in repr(found)


def test_what_cannot_be_is_refused(sleepstudy, cbpp):
    with pytest.raises(UnknownNameError, match="kind='parametrik' is not known"):
        gb.bootstrap(sleepstudy, seed=1, kind="parametrik")
    with pytest.raises(NotSupportedError, match="resamples residuals"):
        gb.bootstrap(cbpp, seed=1, kind="semiparametric")
    along = fitted("Reaction ~ Days + ar1(Days | Subject)", "sleepstudy")
    with pytest.raises(NotSupportedError, match="depend on each other; use kind='parametric'"):
        gb.bootstrap(along, seed=1, kind="semiparametric")
    K = pd.DataFrame(np.eye(18), *2 * [pd.unique(sleepstudy.model.data["Subject"].astype(str))])
    known = gb.Model(
        "Reaction ~ Days + relmat(1 | Subject, K)", sleepstudy.model.data, context={"K": K}
    ).fit("ml")
    with pytest.raises(NotSupportedError, match="drawn twice cannot be two of them"):
        gb.bootstrap(known, seed=1, kind="cases", **QUIET)
    with pytest.raises(DataError, match="clusters='herd' is for kind='cases'"):
        gb.bootstrap(cbpp, seed=1, clusters="herd")
    with pytest.raises(UnknownNameError, match="interval='bcaa' is not known"):
        cbpp.confint(method="bootstrap", interval="bcaa")
    with pytest.raises(UnknownNameError, match="those of method='bootstrap'"):
        cbpp.confint(nsim=100)
    with pytest.raises(DataError, match="more parameters first"):
        compare_by_bootstrap(cbpp, cbpp, seed=1)


def test_replicates_are_printed_and_pictured(cbpp):
    found = gb.bootstrap(cbpp, n=130, seed=1, **QUIET)
    assert list(found.draws) == outer_names(cbpp)
    assert "130" in repr(found) or "fitted" in repr(found)
    assert len(found.plot().axes) == 6
    plt.close("all")
