"""compare_methods: the culcita data beside R's numbers, what fails, and the figure."""

import math
import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

import glmm_bayes as gb
from glmm_bayes.errors import ConvergenceError, DataError, UnknownNameError
from glmm_bayes.inference import METHODS
from glmm_bayes.verbs.compare_methods import COLUMNS, USUAL, MethodComparison, suitable_nagq
from glmm_bayes.verbs.plots.methods import _span

QUICK = {"draws": 200, "tune": 300, "chains": 2, "cores": 1, "progressbar": False}
CULCITA = "predation ~ ttt + (1 | block)"
# Of the treatments, in the order of the table here and in R.
NAMES = ["Intercept", "ttt[T.crabs]", "ttt[T.shrimp]", "ttt[T.both]"]
THEIRS = ["(Intercept)", "tttcrabs", "tttshrimp", "tttboth"]


@pytest.fixture(autouse=True)
def no_screen() -> Iterator[None]:
    mpl.use("Agg")
    yield
    plt.close("all")


def herds(**priors: gb.Prior) -> gb.Model:
    formula = "incidence | trials(size) ~ period + (1 | herd)"
    return gb.Model(formula, gb.load_dataset("cbpp"), family="binomial", priors=priors)


def springs() -> gb.Model:
    """No spring salamander was found in a mined stream: separated data."""
    data = gb.load_dataset("salamanders").query("spp == 'GP' and sample <= 2")
    data = data.assign(found=data["count"] > 0)
    return gb.Model("found ~ mined + (1 | site)", data, family="bernoulli")


@pytest.fixture(scope="module")
def maxima() -> MethodComparison:
    return gb.compare_methods(herds(), ["pql", "ml", "agq"], seed=3)


# ---- numbers


@cache
def corals() -> MethodComparison:
    """With the priors that brms had in the case bayes_culcita."""
    priors = {"beta": gb.Prior("Normal", mu=0, sigma=10), "sd": gb.Prior("HalfNormal", sigma=5)}
    model = gb.Model(CULCITA, gb.load_dataset("culcita"), family="bernoulli", priors=priors)
    options = {"nuts": {"draws": 4000, "target_accept": 0.95, "progressbar": False}}
    return gb.compare_methods(model, ["pql", "ml", "agq", "nuts"], seed=20, options=options)


def told(comparison: MethodComparison, method: str) -> pd.DataFrame:
    return comparison.table[comparison.table["method"] == method].set_index("name")


def labelled(fits: list[dict[str, Any]], label: str) -> dict[str, Any]:
    return next(fit for fit in fits if fit["label"] == label)


@pytest.mark.parametrize(("method", "label"), [("ml", "lme4_nAGQ1"), ("agq", "lme4_nAGQ25")])
def test_maxima_of_culcita_agree_with_lme4(method, label, shared_data, reference):
    theirs = labelled(reference("glmm_culcita_agq")["fits"], label)
    ours = told(corals(), method)
    beta = [theirs["fixef"][name]["estimate"] for name in THEIRS]
    errors = [theirs["fixef"][name]["se"] for name in THEIRS]
    np.testing.assert_allclose(ours.loc[NAMES, "estimate"], beta, atol=2e-4)
    np.testing.assert_allclose(ours.loc[NAMES, "std_error"], errors, rtol=2e-3)
    expected = ours.loc[NAMES, "estimate"] - 1.959964 * ours.loc[NAMES, "std_error"]
    np.testing.assert_allclose(ours.loc[NAMES, "lower"], expected, atol=1e-5)
    sd = theirs["varcomp"]["block"]["sd"][0]
    assert ours.loc["sd_block[Intercept]", "estimate"] == pytest.approx(sd, abs=2e-4)


def test_quadrature_of_culcita_agrees_with_the_exact_integral(shared_data, reference):
    """The interval of the standard deviation is that of its logarithm."""
    theirs = labelled(reference("talk_culcita_methods")["fits"], "exact_ML")["varcomp"]["block"]
    ours = told(corals(), "agq").loc["sd_block[Intercept]"]
    sd, half = theirs["sd"][0], 1.959964 * theirs["se_log_sd"]
    expected = [sd, sd * theirs["se_log_sd"], sd * math.exp(-half), sd * math.exp(half)]
    found = ours[["estimate", "std_error", "lower", "upper"]].astype(float)
    np.testing.assert_allclose(found, expected, rtol=2e-3)


def test_quasi_likelihood_of_culcita_is_nearer_to_zero(shared_data):
    """R: half steps of MASS::glmmPQL, as in test_pql; the talk's message is the order."""
    quasi = told(corals(), "pql")["estimate"]
    between = [3.291145356, -2.607826598, -2.991898220, -3.734091901, 2.096810]
    np.testing.assert_allclose(quasi, between, rtol=1e-5)
    assert (quasi.abs() < 0.7 * told(corals(), "ml")["estimate"].abs()).all()


def test_draws_of_culcita_agree_with_brms(shared_data, reference):
    theirs = labelled(reference("bayes_culcita")["fits"], "brms_NUTS")["posterior"]
    ours = told(corals(), "nuts")
    names = [f"b_{name.strip('()')}" for name in THEIRS] + ["sd_block__Intercept"]
    for name, known in zip([*NAMES, "sd_block[Intercept]"], names, strict=True):
        found, peer = ours.loc[name], theirs[known]
        # About 3,000 effective draws on our side, and theirs a fourth of the sd's error.
        error = math.hypot(peer["sd"] / math.sqrt(3000), peer["mcse_mean"])
        assert abs(found["estimate"] - peer["mean"]) < 4 * error
        assert found["std_error"] == pytest.approx(peer["sd"], rel=0.1)
        assert found["lower"] == pytest.approx(peer["q2.5"], abs=0.15 * peer["sd"])
        assert found["upper"] == pytest.approx(peer["q97.5"], abs=0.3 * peer["sd"])


# ---- the table


def test_the_table_has_a_row_for_every_method_and_parameter(maxima):
    table = maxima.table
    assert table.columns.to_list() == COLUMNS
    names = ["Intercept", "period[T.2]", "period[T.3]", "period[T.4]", "sd_herd[Intercept]"]
    for method in ("pql", "ml", "agq"):
        assert told(maxima, method).index.to_list() == names
    assert table["kind"].to_list() == [*["fixed"] * 4, "sd"] * 3
    assert table["converged"].all()


def test_what_a_method_says_is_what_its_fit_says(maxima):
    for method, fit in maxima.fits.items():
        found = told(maxima, method)[["estimate", "lower", "upper"]]
        pd.testing.assert_frame_equal(found, fit.confint(), check_dtype=False)
    assert maxima.fits["agq"].options["nagq"] == 25
    assert maxima.runs.loc["agq", ["method", "options"]].to_list() == ["ml", "nagq=25"]


def test_kinds_are_of_coefficients_components_and_family():
    formulas = ["Reaction ~ Days + (1 + Days | Subject)", "sigma ~ Days"]
    model = gb.Model(formulas, gb.load_dataset("sleepstudy"), family="student")
    rows = told(gb.compare_methods(model, ["ml"], seed=1), "ml")
    kinds = rows.groupby("kind").groups
    assert kinds["family"].to_list() == ["nu"]
    assert kinds["corr"].to_list() == ["corr_Subject[Intercept, Days]"]
    assert len(kinds["sd"]) == 2
    assert rows.loc["sigma:Days", ["kind", "param"]].to_list() == ["fixed", "sigma"]


def test_the_level_is_that_of_all_intervals():
    found = gb.compare_methods(herds(), ["ml"], seed=1, level=0.5)
    z = 0.6744898
    row = found.of("Intercept").iloc[0]
    assert row["upper"] == pytest.approx(row["estimate"] + z * row["std_error"])
    assert "25%" in repr(found)


def test_one_method_may_be_there_twice():
    methods = {"Laplace": "map", "quadrature": "map"}
    found = gb.compare_methods(herds(), methods, seed=1, options={"quadrature": {"nagq": 9}})
    assert found.runs["method"].to_list() == ["map", "map"]
    assert found.fits["quadrature"].options["nagq"] == 9
    assert found.fits["Laplace"].loglik != found.fits["quadrature"].loglik


def test_the_page_has_everything(maxima):
    text = maxima.text(100)
    for words in ("(1 | herd)", "95% intervals", "nagq=25", "sd_herd[Intercept]", "Seed       3"):
        assert words in text
    assert "Notes" not in text
    assert "sd_herd[Intercept]" in maxima._repr_html_()


# ---- seeds


def test_the_same_seed_gives_the_same_draws():
    found = [
        gb.compare_methods(herds(), ["nuts"], seed=seed, options={"nuts": QUICK})
        for seed in (5, 5, 6)
    ]
    first, same, other = (comparison.table["estimate"] for comparison in found)
    pd.testing.assert_series_equal(first, same)
    assert (first != other).any()
    assert found[0].fits["nuts"].seed == 5


def test_a_seed_that_was_drawn_is_kept(maxima):
    drawn = gb.compare_methods(herds(), ["pql", "ml"])
    assert {fit.seed for fit in drawn.fits.values()} == {drawn.seed}
    own = gb.compare_methods(herds(), ["pql", "ml"], seed=1, options={"ml": {"seed": 9}})
    assert [fit.seed for fit in own.fits.values()] == [1, 9]


# ---- what fails


@pytest.fixture
def entered(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Enter a method for one test."""
    return lambda name, method: monkeypatch.setitem(METHODS._items, name, method)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConvergenceError("No mode was reached."), "No mode was reached."),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
    ],
)
def test_a_method_that_fails_does_not_lose_the_others(error, words, entered):
    def broken(model: gb.Model, *, seed: int | None = None) -> Any:
        raise error

    entered("broken", broken)
    found = gb.compare_methods(herds(), ["pql", "broken", "ml"], seed=1)
    assert list(found.fits) == ["pql", "ml"]
    assert found.runs.loc["broken", "outcome"] == "failed"
    assert found.runs.loc["broken", "words"] == words
    assert f"broken: {words}" in repr(found)
    assert "without a fit: broken" in found.plot().get_supxlabel()


def test_quadrature_of_crossed_terms_is_a_note():
    data = gb.load_dataset("penicillin").assign(wide=lambda d: d["diameter"] > 23)
    model = gb.Model("wide ~ 1 + (1 | plate) + (1 | sample)", data, family="bernoulli")
    found = gb.compare_methods(model, ["ml", "agq"], seed=1)
    assert found.runs["outcome"].to_list() == ["converged", "not supported"]
    assert "crossed, neither nested in the other" in found.runs.loc["agq", "words"]
    assert found.table["method"].unique().tolist() == ["ml"]


def test_quadrature_of_a_gaussian_response_is_a_note():
    model = gb.Model("Reaction ~ Days + (1 | Subject)", gb.load_dataset("sleepstudy"))
    found = gb.compare_methods(model, ["agq"], seed=1)
    assert "exact here without quadrature" in found.runs.loc["agq", "words"]
    assert found.table.empty
    assert "agq" in repr(found)
    with pytest.raises(DataError, match="No method gave a fit with estimates"):
        found.plot()


def test_what_fits_warn_of_is_kept():
    """Nothing reaches the surface, where pytest would make an error of it."""
    found = gb.compare_methods(springs(), ["ml", "agq", "map"], seed=1)
    assert found.runs["outcome"].to_list() == ["not converged", "not converged", "converged"]
    words = found.runs["words"]
    assert "The data are separated" in words["ml"]
    assert "The fit is singular" in words["ml"]
    assert words["map"] == ""
    assert words["ml"] == words["agq"]
    assert "ml, agq: The data are separated" in repr(found)
    assert found.table.groupby("method")["converged"].all().to_dict() == {
        "agq": False,
        "map": True,
        "ml": False,
    }


def test_other_warnings_are_kept_by_their_name(entered):
    def noisy(model: gb.Model, *, seed: int | None = None) -> Any:
        warnings.warn("overflow in exp", RuntimeWarning, stacklevel=1)
        return METHODS["pql"](model, seed=seed)

    entered("noisy", noisy)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        found = gb.compare_methods(herds(), ["noisy"], seed=1)
    assert found.runs.loc["noisy", ["outcome", "words"]].to_list() == [
        "converged",
        "RuntimeWarning: overflow in exp",
    ]


def test_names_are_checked_before_anything_is_fitted(entered):
    def never(model: gb.Model, *, seed: int | None = None, nodes: int = 1) -> Any:
        pytest.fail("It was fitted.")

    entered("never", never)
    with pytest.raises(UnknownNameError, match="no method 'nuta'. Did you mean 'nuts'"):
        gb.compare_methods(herds(), ["never", "nuta"])
    with pytest.raises(UnknownNameError, match="no method 'agg'. Did you mean 'agq'"):
        gb.compare_methods(herds(), {"never": "never", "mine": "agg"})
    with pytest.raises(UnknownNameError, match="has 'map', which is not among the methods"):
        gb.compare_methods(herds(), ["never"], options={"map": {}})
    with pytest.raises(UnknownNameError, match="of 'never': .*'node'. Known: seed, nodes"):
        gb.compare_methods(herds(), ["never"], options={"never": {"node": 2}})
    with pytest.raises(DataError, match="level=2 must lie between"):
        gb.compare_methods(herds(), ["never"], level=2)
    with pytest.raises(DataError, match="at least one method"):
        gb.compare_methods(herds(), [])


def test_by_default_every_method_is_accounted_for():
    found = gb.compare_methods(herds(), seed=1, options={"nuts": QUICK})
    assert found.runs.index.to_list() == list(USUAL)
    assert {"pql", "ml", "agq", "map", "nuts"} <= set(found.fits)
    without = [name for name in USUAL if name not in found.fits]
    assert all(found.runs.loc[without, "words"] != "")


@pytest.mark.parametrize(
    ("formula", "nagq"),
    [
        ("outcome ~ time + (1 | patientID)", 25),
        ("outcome ~ time + (1 + time | patientID)", 25),
        ("outcome ~ time + (1 + time + visit | patientID)", 9),
        ("outcome ~ time + (1 + time | patientID) + (1 | treatment)", 9),
        ("outcome ~ time + (1 | patientID) + (1 | visit)", 25),
    ],
)
def test_the_more_effects_the_fewer_nodes(formula, nagq):
    """25 ** 2 and 9 ** 3 nodes are under 1000; the last terms are crossed, which ml refuses."""
    model = gb.Model(formula, gb.load_dataset("toenail"), family="bernoulli")
    assert suitable_nagq(model) == nagq


# ---- the figure


def dots(ax: plt.Axes) -> list[plt.Line2D]:
    return [line for line in ax.lines if len(line.get_xdata()) == 1 and line.get_markersize() == 5]


def test_the_figure_has_every_estimate_and_interval(maxima):
    figure = maxima.plot()
    first, second = figure.axes
    labels = [label.get_text() for label in first.get_yticklabels()]
    assert labels == told(maxima, "ml").index[:4].to_list()
    assert first.get_xlabel() == "coefficient, scale of logit(mu)"
    shown = sorted(dot.get_xdata()[0] for ax in (first, second) for dot in dots(ax))
    np.testing.assert_allclose(shown, np.sort(maxima.table["estimate"]))
    whiskers = [line.get_xdata() for line in second.lines if line.get_linewidth() == 1.6]
    expected = maxima.of("sd_herd[Intercept]")[["lower", "upper"]]
    np.testing.assert_allclose(whiskers, expected)
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["pql", "ml", "agq"]


def test_methods_lie_from_top_to_bottom(maxima):
    ax = maxima.plot("Intercept").axes[0]
    heights = [dot.get_ydata()[0] for dot in dots(ax)]
    assert heights == sorted(heights)
    assert ax.get_ylim()[0] > ax.get_ylim()[1]


def test_unlike_scales_have_panels_of_their_own():
    model = gb.Model("Reaction ~ Days + (1 | Subject)", gb.load_dataset("sleepstudy"))
    axes = gb.compare_methods(model, ["ml", "reml"], seed=1).plot().axes
    names = [[label.get_text() for label in ax.get_yticklabels()] for ax in axes]
    assert names == [["Intercept"], ["Days"], ["sd_Subject[Intercept]"], ["sigma"]]


def wide(maxima: MethodComparison) -> MethodComparison:
    """Make the second method's interval of the first coefficient fifty times as wide."""
    table = maxima.table.copy()
    at = (table["method"] == "ml") & (table["name"] == "Intercept")
    table.loc[at, ["lower", "upper"]] = [-20.0, 18.0]
    return MethodComparison(maxima.model, 1, 0.95, maxima.fits, table, maxima.runs)


def test_a_far_wider_interval_leaves_the_panel_at_an_arrow(maxima):
    ax, plain = wide(maxima).plot("Intercept").axes[0], maxima.plot("Intercept").axes[0]
    assert np.ptp(ax.get_xlim()) < 2 * np.ptp(plain.get_xlim())
    arrows = [
        (line.get_marker(), line.get_xdata()[0]) for line in ax.lines if line.get_marker() in "<>"
    ]
    assert arrows == [("<", ax.get_xlim()[0]), (">", ax.get_xlim()[1])]
    assert [text.get_text() for text in ax.texts] == ["−1.4 (−20, 18)"]


def test_what_has_not_converged_is_hollow():
    figure = gb.compare_methods(springs(), ["ml", "map"], seed=1).plot()
    faces = [to_hex(dot.get_markerfacecolor()) for dot in dots(figure.axes[1])]
    assert faces == ["#ffffff", "#d55e00"]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["ml (not converged)", "map"]


def test_what_has_no_estimate_has_no_panel():
    """The correlation with what does not vary."""
    data = gb.load_dataset("dyestuff2")
    data = data.assign(x=np.tile([-2.0, -1.0, 0.0, 1.0, 2.0], 6))
    found = gb.compare_methods(gb.Model("Yield ~ x + (1 + x | Batch)", data), ["ml"], seed=1)
    assert found.of("corr_Batch[Intercept, x]")["estimate"].isna().all()
    labels = [label.get_text() for ax in found.plot().axes for label in ax.get_yticklabels()]
    assert labels == [name for name in found.table["name"] if not name.startswith("corr")]


def spanned(*rows: tuple[float, float, float]) -> tuple[float, float]:
    return _span(pd.DataFrame(rows, columns=["lower", "estimate", "upper"]))


@pytest.mark.parametrize(
    ("rows", "span"),
    [
        ([(0, 1, 2), (1, 2, 3)], (0, 3)),
        ([(0, 1, 2), (1, 2, 3), (-50, 2, 60)], (0, 3)),
        ([(0, 1, 2), (-50, 1, 60)], (0, 2)),
        ([(0, 1, 2), (math.nan, 3, math.nan)], (0, 3)),
        ([(0, 1, 2), (math.nan, 30, math.nan)], (0, 2)),
        ([(math.nan, 3, math.nan), (math.nan, 4, math.nan)], (3, 4)),
    ],
)
def test_a_panel_shows_what_is_not_far_off(rows, span):
    assert spanned(*rows) == span


def test_unknown_parameters_are_said_with_a_suggestion(maxima):
    with pytest.raises(UnknownNameError, match="no parameter 'Intercpt'. Did you mean 'Intercept'"):
        maxima.plot(["Intercpt"])
