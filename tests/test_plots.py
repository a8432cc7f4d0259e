"""Figures have what they should on them: read off the artists, not compared as pictures."""

import warnings
from collections.abc import Iterator

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from scipy import stats

import glmm_bayes as gb
from glmm_bayes.verbs.plots.effects import plot_effects
from glmm_bayes.verbs.plots.grid import make_grid, nearest
from glmm_bayes.verbs.plots.look import round_ticks
from glmm_bayes.verbs.plots.residuals import local_linear


@pytest.fixture(autouse=True)
def no_screen() -> Iterator[None]:
    mpl.use("Agg")
    yield
    plt.close("all")


def fitted(model: gb.Model) -> gb.PosteriorFit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gb.ConvergenceWarning)
        return model.fit(seed=1, draws=100, tune=200, chains=2, cores=1, progressbar=False)


@pytest.fixture(scope="module")
def sleep() -> gb.PosteriorFit:
    formula = "Reaction ~ Days + (1 + Days | Subject)"
    return fitted(gb.Model(formula, gb.load_dataset("sleepstudy")))


@pytest.fixture(scope="module")
def herds() -> gb.PosteriorFit:
    formula = "incidence | trials(size) ~ period + (1 | herd)"
    return fitted(gb.Model(formula, gb.load_dataset("cbpp"), family="binomial"))


@pytest.fixture(scope="module")
def counts() -> gb.PosteriorFit:
    rng = np.random.default_rng(1)
    n = 160
    data = pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "z": rng.normal(2, 1, size=n),
            "odd name": rng.choice(["a", "b", "c"], p=[0.2, 0.5, 0.3], size=n),
            "on": rng.random(n) > 0.5,
            "g": np.repeat(np.arange(80), 2),
        }
    )
    data["many seeds"] = rng.negative_binomial(0.5, 0.02, size=n)
    formula = "`many seeds` ~ x * z + `odd name` + on + (1 | g)"
    return fitted(gb.Model(formula, data, family="negbinomial"))


@pytest.fixture(scope="module")
def binary() -> gb.PosteriorFit:
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"x": rng.normal(size=80), "g": np.repeat(list("abcdefgh"), 10)})
    data["y"] = rng.random(80) < 0.5
    return fitted(gb.Model("y ~ x + (1 | g)", data, family="bernoulli"))


def curves(figure: Figure, panel: int = 0) -> list[np.ndarray]:
    return [line.get_ydata() for line in figure.axes[panel].get_lines()]


# ---- effects


def test_a_curve_is_what_predict_gives(sleep):
    figure = sleep.plot_effects("Days")
    line = figure.axes[0].get_lines()[0]
    rows = pd.DataFrame({"Days": line.get_xdata(), "Subject": "308"})
    found = sleep.predict(rows, groups="population")
    np.testing.assert_allclose(line.get_ydata(), found["estimate"])
    band = figure.axes[0].collections[-1].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(found["lower"].min())
    assert band[:, 1].max() == pytest.approx(found["upper"].max())


def test_the_data_are_shown_and_can_be_left_out(sleep):
    def scattered(figure):
        return [c for c in figure.axes[0].collections if isinstance(c, PathCollection)]

    (points,) = scattered(sleep.plot_effects("Days"))
    np.testing.assert_allclose(points.get_offsets()[:, 1], sleep.model.design.y)
    assert scattered(sleep.plot_effects("Days", points=False)) == []


def test_proportions_are_shown_where_there_are_trials(herds):
    figure = herds.plot_effects()
    response = herds.model.design.response
    points = figure.axes[0].collections[0].get_offsets()
    np.testing.assert_allclose(points[:, 1], response.y / response.trials)
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["1", "2", "3", "4"]
    assert "probability" in figure.axes[0].get_ylabel()


def test_axes_say_what_the_columns_mean(sleep):
    ax = sleep.plot_effects().axes[0]
    assert "days of deprivation" in ax.get_xlabel()
    assert " ms" in ax.get_ylabel().replace("\n", " ")


def test_by_default_there_is_one_panel_a_variable_of_the_fixed_part(counts):
    figure = counts.plot_effects()
    shown = {ax.get_xlabel() for ax in figure.axes if ax.get_visible()}
    assert shown == {"x", "z", "odd name", "on"}
    assert figure.axes[0].get_ylabel().startswith("many seeds")


def test_the_others_are_held_at_their_mean_or_most_common_level(counts):
    held = make_grid(counts.model.design, "x", None).held
    data = counts.model.data
    assert held["odd name"] == "b"
    assert held["on"] == data["on"].mode()[0]
    assert held["z"] == pytest.approx(data["z"].mean(), abs=data["z"].std() / 1000)
    assert "odd name = b" in counts.plot_effects("x").get_supxlabel().replace("\n", " ")


def test_a_numeric_by_gives_three_curves_and_a_factor_one_a_level(counts):
    assert len(curves(counts.plot_effects("x", by="z"))) == 3
    figure = counts.plot_effects("x", by="odd name")
    legend = figure.axes[0].get_legend()
    assert [t.get_text() for t in legend.get_texts()] == ["a", "b", "c"]
    assert legend.get_title().get_text() == "odd name"


def test_points_belong_to_the_nearest_curve():
    numbers = pd.Series([0.0, 0.9, 5.0])
    assert nearest(numbers, (0.0, 1.0, 2.0)).tolist() == [0, 1, 2]
    factor = pd.Series(pd.Categorical(["v", "u"], categories=["u", "v"]))
    assert nearest(factor, ("u", "v")).tolist() == [1, 0]


def test_skewed_counts_get_a_logarithmic_axis_and_reaction_times_do_not(counts, sleep):
    figure = counts.plot_effects("x")
    assert figure.axes[0].get_yscale() == "asinh"
    assert "asinh" in figure.axes[0].get_ylabel()
    assert sleep.plot_effects().axes[0].get_yscale() == "linear"


def test_the_linear_predictor_has_its_scale_and_no_points(counts):
    ax = counts.plot_effects("x", kind="linear").axes[0]
    assert ax.get_ylabel() == "log(mu) of many seeds"
    assert not any(isinstance(c, PathCollection) for c in ax.collections)


def test_conditional_curves_are_the_groups_own(sleep):
    figure = sleep.plot_effects("Days", by="Subject", groups="conditional")
    found = curves(figure)
    assert len(found) == 18
    first = pd.DataFrame({"Days": [0.0, 9.0], "Subject": "308"})
    expected = sleep.predict(first)["estimate"]
    np.testing.assert_allclose(found[0][[0, -1]], expected)


def test_effects_draw_on_given_axes(sleep):
    figure, axes = plt.subplots(1, 2)
    assert plot_effects(sleep, "Days", ax=axes[1]) is figure
    assert axes[0].get_lines() == []
    assert len(axes[1].get_lines()) == 1


@pytest.mark.parametrize(
    ("terms", "options", "error", "words"),
    [
        (["days"], {}, gb.UnknownNameError, "Did you mean 'Days'"),
        (["Days"], {"by": "Sex"}, gb.UnknownNameError, "'Sex' is no predictor"),
        (["Days"], {"groups": "all"}, gb.UnknownNameError, "groups='all'"),
        (["Days"], {"groups": "conditional"}, gb.DataError, "needs a level of Subject"),
    ],
)
def test_effects_refuse_what_they_cannot_draw(sleep, terms, options, error, words):
    with pytest.raises(error, match=words):
        sleep.plot_effects(*terms, **options)


def test_too_many_curves_are_refused(counts):
    with pytest.raises(gb.DataError, match="80 levels"):
        counts.plot_effects("x", by="g", groups="conditional")


# ---- random effects


def test_a_caterpillar_is_sorted_and_named(sleep):
    figure = sleep.plot_ranef()
    assert [ax.get_title() for ax in figure.axes] == ["Subject: Intercept", "Subject: Days"]
    table = sleep.ranef().query("coef == 'Days'").sort_values("estimate")
    names = [t.get_text() for t in figure.axes[1].get_yticklabels()]
    assert names == table["level"].to_list()
    segments = next(c for c in figure.axes[1].collections if isinstance(c, LineCollection))
    found = np.array([s[:, 0] for s in segments.get_segments()])
    np.testing.assert_allclose(found, table[["lower", "upper"]])


def test_many_levels_are_not_named(counts):
    ax = counts.plot_ranef().axes[0]
    assert ax.get_yticklabels() == []
    assert "80 levels" in ax.get_ylabel()
    assert "log(mu)" in ax.get_xlabel()


def test_one_coefficient_can_be_chosen(sleep):
    figure = sleep.plot_ranef("Subject", coef="Days")
    assert [ax.get_title() for ax in figure.axes] == ["Subject: Days"]


def test_ranef_refuses_unknown_names(sleep):
    with pytest.raises(gb.UnknownNameError, match="Did you mean 'Subject'"):
        sleep.plot_ranef("subject")
    with pytest.raises(gb.UnknownNameError, match="no coef 'Day'"):
        sleep.plot_ranef(coef="Day")


# ---- predictive checks


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sleep", "density"),
        ("herds", "frequency"),
        ("counts", "share"),
        ("binary", "observed proportion"),
    ],
)
def test_the_check_suits_the_response(name, words, request):
    figure = request.getfixturevalue(name).plot_ppc(draws=10).viz["figure"].item()
    assert figure.axes[0].get_ylabel().startswith(words)
    assert figure.axes[0].get_xlabel()


def test_as_many_replicates_as_asked_and_the_data(sleep):
    assert len(curves(sleep.plot_ppc(draws=7).viz["figure"].item())) == 8


def test_long_tailed_counts_have_ticks_in_their_own_unit(counts):
    ax = counts.plot_ppc(draws=5).viz["figure"].item().axes[0]
    values = [float(t.get_text()) for t in ax.get_xticklabels()]
    np.testing.assert_allclose(ax.get_xticks(), np.arcsinh(values))
    assert "asinh" in ax.get_xlabel()


def test_a_kind_of_check_can_be_chosen(herds):
    ax = herds.plot_ppc(kind="ecdf", draws=5).viz["figure"].item().axes[0]
    assert "share" in ax.get_ylabel()
    with pytest.raises(gb.UnknownNameError, match="Did you mean 'ecdf'"):
        herds.plot_ppc(kind="edcf")


# ---- residuals


def test_residuals_have_three_panels_with_the_groups(sleep):
    figure = sleep.plot_residuals()
    fitted_panel, quantiles, boxes = figure.axes
    residuals = sleep.residuals("quantile", seed=sleep.seed)
    points = fitted_panel.collections[0].get_offsets()
    np.testing.assert_allclose(points[:, 1], residuals)
    np.testing.assert_allclose(quantiles.collections[-1].get_offsets()[:, 1], np.sort(residuals))
    assert [t.get_text() for t in boxes.get_xticklabels()][:2] == ["308", "309"]


def test_without_small_groups_there_is_a_histogram(counts):
    figure = counts.plot_residuals()
    assert figure.axes[2].get_ylabel() == "density"
    assert figure.axes[0].get_xscale() == "log"


def test_the_smooth_follows_a_line_and_a_curve():
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 4, 400)
    at, smooth = local_linear(x, 2 * x - 1)
    np.testing.assert_allclose(smooth, 2 * at - 1, atol=1e-9)
    at, smooth = local_linear(x, np.sin(x) + rng.normal(0, 0.1, 400))
    assert np.abs(smooth - np.sin(at))[5:-5].max() < 0.25


def test_the_smooth_of_equal_places_is_their_mean():
    at, smooth = local_linear(np.ones(10), np.arange(10.0))
    np.testing.assert_allclose(smooth, 4.5)
    assert (at == 1).all()


def test_the_band_of_the_quantiles_covers_normal_residuals(sleep):
    quantiles = sleep.plot_residuals().axes[1]
    band = quantiles.collections[0].get_paths()[0].vertices
    n = sleep.model.nobs
    lowest = stats.norm.ppf(stats.beta.ppf(0.025, 1, n))
    assert band[:, 1].min() == pytest.approx(lowest)


@pytest.mark.parametrize(
    ("lower", "upper", "ticks"),
    [
        (0, 85, [0, 1, 3, 10, 30]),
        (0.02, 4, [0.03, 0.1, 0.3, 1, 3]),
        (0, 2e6, [0, 1, 10, 100, 1e3, 1e4, 1e5, 1e6]),
    ],
)
def test_ticks_are_round(lower, upper, ticks):
    assert round_ticks(lower, upper) == pytest.approx(ticks)
