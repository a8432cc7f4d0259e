"""What Laplace's method is said to be off by, against sums over fine grids and published fits."""

import warnings

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats
from scipy.special import expit, logsumexp
from test_quadrature import cbpp, culcita, fit_of, toenail

import glmm_bayes as gb
from glmm_bayes.errors import DataError, NotSupportedError, SingularFitWarning
from glmm_bayes.verbs.laplace_check import SMALL, LaplaceCheck, alike, worst
from glmm_bayes.verbs.laplace_error import sample


@pytest.fixture(autouse=True)
def no_screen():
    mpl.use("Agg")
    yield
    plt.close("all")


RANDOM = np.random.default_rng(3)
GROUP = RANDOM.permutation(np.repeat(np.arange(20), np.arange(20) % 5 + 1))
N = len(GROUP)
DATA = pd.DataFrame(
    {
        "g": GROUP,
        "h": RANDOM.integers(0, 2, N),
        "x": RANDOM.normal(size=N),
        "y": RANDOM.binomial(1, expit(RANDOM.normal(0.5, 1.8, 20)[GROUP])),
        "z": RANDOM.normal(RANDOM.normal(0, 2, 20)[GROUP]),
        "count": RANDOM.poisson(np.exp(RANDOM.normal(0.5, 0.7, 20)[GROUP])),
    }
)


@pytest.fixture(scope="module")
def bernoulli_fit():
    return gb.Model("y ~ x + (1 | g)", DATA, "bernoulli").fit("ml", seed=1)


def log_rows(fit, b):
    """Give the log density of every row of `bernoulli_fit`, for an effect b."""
    fixed = fit.model.design.predictors["mu"].X - fit.model.means("mu")
    eta = (fixed @ fit.mode.x[:2])[:, None] + b
    return stats.bernoulli.logpmf(DATA["y"].to_numpy()[:, None], expit(eta))


def test_each_levels_error_agrees_with_sums_over_a_fine_grid(bernoulli_fit):
    table = bernoulli_fit.laplace_check().table
    sd = next(iter(bernoulli_fit.mode.Lambdas.values()))[0, 0]
    v = np.linspace(-10, 10, 2001)
    log_p = log_rows(bernoulli_fit, sd * v)
    for row in table.itertuples():
        own = int(row.level) == GROUP
        joint = log_p[own].sum(axis=0) + stats.norm.logpdf(v)

        def height(u, own=own):
            return float(
                log_rows(bernoulli_fit, np.atleast_1d(sd * u))[own].sum() + stats.norm.logpdf(u)
            )

        top = optimize.minimize_scalar(lambda u: -height(u), (-1, 1), tol=1e-10)
        bend = -(height(top.x + 1e-3) - 2 * height(top.x) + height(top.x - 1e-3)) / 1e-6
        laplace = -top.fun + 0.5 * np.log(2 * np.pi / bend)
        assert row.n == own.sum()
        assert row.exact == pytest.approx(logsumexp(joint) + np.log(v[1] - v[0]), abs=1e-4)
        assert row.laplace == pytest.approx(laplace, abs=1e-5)
        assert row.error == pytest.approx(row.laplace - row.exact, abs=1e-12)


def test_the_log_likelihoods_of_toenail_are_those_of_others(shared_data, reference):
    check = toenail(shared_data).fit("ml", nagq=100, seed=1).laplace_check()
    theirs = fit_of(reference, "glmm_toenail_agq", "exact_ML")["logLik"]
    assert check.table["exact"].sum() == pytest.approx(theirs, abs=1e-4)
    assert check.total < -4
    assert check.nagq == 35
    assert "This fit's nagq=100 suffices" in check.advice
    laplace = toenail(shared_data).fit("ml", seed=1).laplace_check()
    theirs = fit_of(reference, "glmm_toenail_agq", "lme4_nAGQ1")["logLik"]
    assert laplace.table["laplace"].sum() == pytest.approx(theirs, abs=1e-4)
    assert laplace.shift.abs().max() > 1
    assert "Use fit('ml', nagq=" in laplace.advice


@pytest.mark.parametrize(("case", "make"), [("glmm_culcita_agq", culcita), ("glmm_cbpp_agq", cbpp)])
def test_the_estimates_are_off_by_as_much_as_those_of_others(shared_data, reference, case, make):
    """Slopes, whose columns are not moved by centring: lme4's Laplace less dense quadrature."""
    shift = make(shared_data).fit("ml", seed=1).laplace_check().shift
    laplace, exact = (fit_of(reference, case, k)["fixef"] for k in ("lme4_nAGQ1", "exact_ML"))
    for ours, name in zip(shift.iloc[1:4], list(exact)[1:], strict=True):
        gap = laplace[name]["estimate"] - exact[name]["estimate"]
        assert ours == pytest.approx(gap / exact[name]["se"], abs=2e-3)


def test_the_number_of_nodes_is_the_smallest_that_suffices(bernoulli_fit):
    check = bernoulli_fit.laplace_check()
    away = (check.ladder["loglik"] - check.table["exact"].sum()).abs()
    near = check.ladder["nagq"] >= check.nagq
    assert (away[near] < SMALL).all()
    assert away[~near].iloc[-1] >= SMALL
    assert f"fit('ml', nagq={check.nagq})" in check.advice


def test_where_laplace_is_accurate_it_says_so():
    many = pd.concat([DATA] * 30, ignore_index=True)
    many["count"] = np.random.default_rng(1).poisson(20 * np.exp(0.1 * many["g"] % 3))
    fit = gb.Model("count ~ x + (1 | g)", many, "poisson").fit("ml", seed=1)
    assert "nagq is not needed" in fit.laplace_check().advice


def test_nested_terms_are_by_the_outermost_level():
    frame = DATA.assign(outer=DATA["g"] // 4)
    model = gb.Model("count ~ x + (1 | outer / g)", frame, "poisson")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        fit = model.fit("ml", seed=1)
    check = fit.laplace_check()
    assert list(check.table["group"].unique()) == ["outer"]
    assert check.table["n"].sum() == N
    assert check.table["laplace"].sum() == pytest.approx(fit.loglik, abs=1e-6)
    assert check.plot().axes


# ---- crossed terms


@pytest.fixture(scope="module")
def crossed_fit():
    model = gb.Model("count ~ x + (1 | g) + (1 | h)", DATA, "poisson", priors={"sd_h": 0.8})
    return model.fit("ml", seed=1)


def crossed_exact(fit, x):
    """Sum over a grid of the two effects of h, and for each over a grid of every effect of g."""
    coordinates = fit.mode.coordinates
    (gamma,), (Lg, Lh) = coordinates.split(x), coordinates.Lambdas(x)
    v = np.linspace(-6, 6, 61)
    log_w = stats.norm.logpdf(v) + np.log(v[1] - v[0])
    fixed = (fit.model.design.predictors["mu"].X - fit.model.means("mu")) @ gamma
    h, y = DATA["h"].to_numpy(), DATA["count"].to_numpy()[:, None, None]
    eta = fixed[:, None, None] + Lh[0, 0] * v[:, None] + Lg[0, 0] * v
    log_p = stats.poisson.logpmf(y, np.exp(eta))  # by row, effect of h, effect of g
    total = log_w[:, None] + log_w
    for g in range(20):
        own = g == GROUP
        by_h = [log_p[own & (h == k)].sum(axis=0) for k in (0, 1)]
        total = total + logsumexp(by_h[0][:, None] + by_h[1][None] + log_w, axis=2)
    return logsumexp(total)


def test_importance_sampling_agrees_with_a_sum_over_a_fine_grid(crossed_fit):
    check = crossed_fit.laplace_check()
    truth = crossed_exact(crossed_fit, crossed_fit.mode.x)
    assert 0 < check.std_error < 0.1
    assert check.table["exact"].sum() == pytest.approx(truth, abs=4 * check.std_error)
    assert check.table["laplace"].sum() == pytest.approx(crossed_fit.loglik, abs=1e-6)
    assert len(check.table) == 1
    assert check.nagq is None


def test_importance_sampling_has_the_slope_of_a_sum_over_a_fine_grid(crossed_fit):
    found = sample(crossed_fit, 1)
    gap, noise = found.gap
    x = crossed_fit.mode.x
    for j, step in enumerate(1e-3 * np.eye(len(x))):
        slope = crossed_exact(crossed_fit, x + step) - crossed_exact(crossed_fit, x - step)
        # At the maximum Laplace's own slope is zero.
        assert gap[j] == pytest.approx(slope / 2e-3, abs=4 * np.sqrt(noise[j, j]) + 1e-3)


def test_crossed_terms_are_named_and_the_draws_reproducible(crossed_fit):
    check = crossed_fit.laplace_check()
    assert "'(1 | g)' and '(1 | h)' are crossed" in check.advice
    assert check.total == crossed_fit.laplace_check().total
    assert check.total != crossed_fit.laplace_check(seed=2).total
    assert "by sampling" in repr(check)
    assert len(check.plot().axes) == 1


def test_levels_of_several_at_once_are_sampled():
    frame = DATA.assign(g2=np.roll(DATA["g"], 3))
    fit = gb.Model("count ~ x + (1 | mm(g, g2))", frame, "poisson").fit("ml", seed=1)
    assert "several levels at once" in fit.laplace_check().advice


# ---- how it is shown


def test_it_prints_the_worst_levels_and_advice(bernoulli_fit):
    check = bernoulli_fit.laplace_check()
    assert isinstance(check, LaplaceCheck)
    text = repr(check)
    assert "Laplace's method" in text
    assert "The largest errors" in text
    assert check.advice[:30] in text
    assert "<table>" in check._repr_html_()


def test_levels_that_are_alike_are_joined():
    table = pd.DataFrame(
        {
            "group": "g", "level": list("abcdef"), "n": [3, 3, 3, 3, 4, 4],
            "laplace": 0.0, "exact": 0.0, "error": [0.1, 0.101, -0.1, 0.001, 0.1, 0.05],
        }
    )  # fmt: skip
    kinds = alike(table)
    assert list(kinds["level"]) == ["b", "c", "e", "f", "d"]
    assert list(kinds["count"]) == [2, 1, 1, 1, 1]
    assert kinds["sum"].iloc[0] == pytest.approx(0.201)
    assert set(worst(table)["level"]) == set("bcefd")


def test_the_figure_has_the_curves_and_what_they_amount_to(bernoulli_fit):
    check = bernoulli_fit.laplace_check()
    figure = check.plot()
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert len(shown) == len(check.curves) + 4
    for level, curve in check.curves.items():
        (ax,) = [ax for ax in shown if ax.get_title().startswith(f"g {level}:")]
        exact, normal = ax.get_lines()
        np.testing.assert_allclose(exact.get_ydata(), curve["exact"])
        np.testing.assert_allclose(normal.get_ydata(), np.exp(-0.5 * curve["z"] ** 2))


def test_a_curves_area_is_the_exact_integral_over_laplaces(bernoulli_fit):
    check = bernoulli_fit.laplace_check()
    table = check.table.set_index("level")
    for level, curve in check.curves.items():
        area = np.trapezoid(curve["exact"], curve["z"]) / np.sqrt(2 * np.pi)
        assert np.log(area) == pytest.approx(-table.loc[level, "error"], abs=5e-3)


# ---- what is refused


def test_a_gaussian_response_has_nothing_to_check():
    fit = gb.Model("z ~ x + (1 | g)", DATA).fit("reml", seed=1)
    with pytest.raises(NotSupportedError, match="exact for a Gaussian response"):
        fit.laplace_check()


def test_a_model_without_effects_has_nothing_to_check():
    fit = gb.Model("y ~ x", DATA, "bernoulli").fit("ml", seed=1)
    with pytest.raises(DataError, match="no random effects"):
        fit.laplace_check()
