"""Printed models and fits: what the pages say, how wide they are, and that their HTML is sound."""

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

import glmm_bayes as gb
from glmm_bayes.draws import Draws, to_dataset
from glmm_bayes.errors import DataWarning
from glmm_bayes.fit import PosteriorFit
from glmm_bayes.verbs.printing import Grid, Page, Sentences, estimate_cells, rounded

CHAINS, DRAWS = 2, 100


def drawn(model, seed=1):
    """A fit whose draws are made up, so that no sampler runs."""
    import xarray as xr

    rng = np.random.default_rng(seed)
    size = CHAINS * DRAWS

    def values(block):
        found = np.stack([p.sample(rng, (size,)) for p in block.priors], axis=1)
        return np.clip(found, *np.clip(block.support, -50, 50))

    named = {block.name: values(block) for block in model.blocks}
    beta = {
        param: named.pop("beta" if param == "mu" else f"beta_{param}")
        for param in model.design.predictors
    }
    constants = {name: named.pop(name)[:, 0] for name in model.constants}
    effects = {t.name: rng.normal(size=(size, len(t.levels), t.size)) for t in model.design.terms}
    posterior = to_dataset(model, Draws(beta, constants, named, effects, CHAINS))
    statistics = xr.Dataset({"diverging": (["chain", "draw"], np.zeros((CHAINS, DRAWS), bool))})
    tree = xr.DataTree.from_dict({"posterior": posterior, "sample_stats": statistics})
    return PosteriorFit(model, tree, "nuts", 7, 12.345)


@pytest.fixture(scope="module")
def sleep():
    return gb.Model("Reaction ~ Days + (1 + Days | Subject)", gb.load_dataset("sleepstudy"))


@pytest.fixture(scope="module")
def wide():
    """Two predictors, odd names, a fixed coefficient, several terms."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "y": rng.normal(size=120),
            "a<b & c": rng.normal(size=120),
            "f": np.tile(["!", "<low>", "[red]high[/red]", "é"], 30),
            "g": np.repeat([f"g{k}" for k in range(12)], 10),
            "h": np.tile([f"h{k}" for k in range(8)], 15),
        }
    )
    formulas = ["y ~ `a<b & c` + f + (1 + `a<b & c` || g) + (1 | h)", "sigma ~ f + (1 | g)"]
    return gb.Model(formulas, frame, priors={"beta[a<b & c]": 0.5})


# ---- numbers


@pytest.mark.parametrize(
    ("value", "std_error", "text"),
    [
        (10.3863, 1.6712, "10.4"),
        (0.0675, 0.269, "0.07"),
        (1234.5, 321.0, "1234"),
        (-0.001, 0.5, "0.00"),
        (123456.7, 0.04, "123456.700"),
        (1.5e8, 2e5, "1.5e+08"),
        (1.234e-9, 2e-9, "1.23e-09"),
        (0.5, 0.0, "0.5"),
        (float("nan"), 1.0, ""),
    ],
)
def test_numbers_have_the_digits_that_their_errors_allow(value, std_error, text):
    assert rounded(value, std_error) == text


def test_points_stand_below_one_another_and_fixed_numbers_say_so():
    table = pd.DataFrame(
        {
            "estimate": [251.428, 0.0675, -1.0],
            "std_error": [7.2, 0.269, 1e-17],
            "lower": [237.0, -0.45, -1.0],
            "upper": [266.0, 0.61, -1.0],
            "r_hat": [1.0048, 1.0, np.nan],
            "ess_bulk": [1618.5, 959.2, 400.0],
            "ess_tail": [2170.4, np.nan, 400.0],
        }
    )
    header, rows = estimate_cells(table, 0.9)
    assert [name.strip() for name in header[2:4]] == ["5%", "95%"]
    assert rows[0][0].index(".") == rows[1][0].index(".")
    assert [cell.strip() for cell in rows[0]] == [
        "251.4",
        "7.2",
        "237.0",
        "266.0",
        "1.005",
        "1618",
        "2170",
    ]
    assert [cell.strip() for cell in rows[2]] == ["-1", "fixed", "", "", "", "", ""]
    assert {len(cell) for cell in (header[0], *(row[0] for row in rows))} == {len(header[0])}


# ---- models


def test_the_prior_table_of_sleepstudy(sleep):
    table = sleep.priors
    assert table.columns.tolist() == ["parameter", "distribution", "arguments", "source"]
    assert table["parameter"].tolist() == [
        "intercept",
        "beta[Days]",
        "sd_Subject[Intercept]",
        "sd_Subject[Days]",
        "corr_Subject",
        "sigma",
    ]
    assert table.loc[4].tolist() == ["corr_Subject", "LKJCorr", "eta=2", "default"]
    assert set(table["source"]) == {"default"}


def test_the_prior_table_says_what_the_user_gave():
    priors = {
        "corr": gb.Prior("LKJCorr", eta=4),
        "sd_Subject[Days]": gb.Prior("HalfNormal", sigma=10),
        "beta[Days]": 5.0,
    }
    data = gb.load_dataset("sleepstudy")
    model = gb.Model("Reaction ~ Days + (1 + Days | Subject)", data, priors=priors)
    table = model.priors.set_index("parameter")
    assert table.loc["corr_Subject"].tolist() == ["LKJCorr", "eta=4", "user: corr"]
    assert table.loc["sd_Subject[Days]"].tolist() == [
        "HalfNormal",
        "sigma=10",
        "user: sd_Subject[Days]",
    ]
    assert table.loc["beta[Days]"].tolist() == ["Fixed", "value=5", "user: beta[Days]"]


def test_the_prior_table_uses_the_names_that_priors_are_given_by(wide, sleep):
    for model in (wide, sleep):
        table = model.priors
        free = table[
            (table["distribution"] != "Fixed") & ~table["parameter"].str.startswith("corr")
        ]
        keys = {key for block in model.blocks for names in block.keys for key in names}
        assert set(free["parameter"]) <= keys


MODEL_SAYS = [
    r"^Generalized linear mixed model, not yet fitted$",
    r"^Formula +Reaction ~ Days \+ \(1 \+ Days \| Subject\)$",
    r"^Family +gaussian \(link of mu: identity\)$",
    r"^Rows +180$",
    r"^\(1 \+ Days \| Subject\) +Subject +centred +10 +18$",
    r"^corr_Subject +LKJCorr\(eta=2\) +default$",
    r"^Audit\n-  No problem found\.$",
]


@pytest.mark.parametrize("pattern", MODEL_SAYS)
def test_a_printed_model_says(sleep, pattern):
    assert re.search(pattern, repr(sleep), re.MULTILINE), repr(sleep)


def test_a_printed_model_counts_missing_rows_levels_and_uneven_groups():
    frame = pd.DataFrame(
        {
            "y": [1.0, 2.5, np.nan, 3.0, 1.5, 2.0, 0.5],
            "x": [1.0, 2.0, 3.0, np.nan, 5.0, 7.0, 6.0],
            "f": pd.Categorical(["u", "v", "u", "v", "u", "v", "u"], categories=["u", "v", "w"]),
            "g": list("aaaabbc"),
        }
    )
    with pytest.warns(DataWarning):
        model = gb.Model("y ~ x + f + (1 | g)", frame)
    words = repr(model)
    assert "5 of 7; 2 left out, with values missing in y (1), x (1)" in words
    assert "1 to 2, median 2" in words
    assert "No row used has f = w" in words


def test_a_model_without_random_terms_has_no_groups():
    words = repr(gb.Model("Reaction ~ Days", gb.load_dataset("sleepstudy")))
    assert "Groups" not in words
    assert words.startswith("Generalized linear model,")


def test_printing_a_model_loads_no_sampler():
    code = (
        "import sys, glmm_bayes as gb\n"
        "data = gb.load_dataset('cbpp')\n"
        "repr(gb.Model('incidence | trials(size) ~ period + (1 | herd)', data, 'binomial'))\n"
        "print(*{m.split('.')[0] for m in sys.modules})"
    )
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert set(done.stdout.split()) & {"arviz", "matplotlib", "numba", "nutpie", "pymc"} == set()


# ---- fits

FIT_SAYS = [
    r"^Rows +180$",
    r"^Draws +nuts: 2 chains of 100 draws after warm-up; seed 7; 12\.3 s$",
    r"^Estimates +posterior mean, standard deviation and 95% equal-tailed interval$",
    r"^ +estimate +std_error +2\.5% +97\.5% +R-hat +ESS bulk +ESS tail$",
    r"^Group-level effects$",
    r"^Subject \(18 levels\)$",
    r"^  sd\(Intercept\) +\d",
    r"^  corr\(Intercept, Days\) +-?\d",
    r"^Population-level effects$",
    r"^Days +-?\d+",
    r"^Family parameters$",
    r"^sigma +\d",
    r"^Diagnostics$",
    r"^-  200 draws; largest R-hat \d",
]


@pytest.mark.parametrize("pattern", FIT_SAYS)
def test_a_printed_fit_says(sleep, pattern):
    words = repr(drawn(sleep))
    assert re.search(pattern, words, re.MULTILINE), words
    assert "Residual" not in words


def test_a_summary_has_the_tables_it_prints(sleep):
    fit = drawn(sleep)
    found = fit.summary(level=0.8)
    pd.testing.assert_frame_equal(found.fixef, fit.fixef(level=0.8))
    pd.testing.assert_frame_equal(found.varcorr, fit.varcorr(level=0.8))
    assert found.family.index.tolist() == ["sigma"]
    assert found.diagnostics.draws == CHAINS * DRAWS
    assert " 10% " in found.text()


def test_several_predictors_have_a_section_each(wide):
    words = drawn(wide).summary().text()
    assert re.search(r"^mu$\n  Intercept ", words, re.MULTILINE)
    assert re.search(r"^sigma$\n  Intercept ", words, re.MULTILINE)
    assert "g (12 levels), for sigma" in words
    assert re.search(r"^  a<b & c +0\.5 +fixed$", words, re.MULTILINE)
    assert "f[T.[red]high[/red]]" in words
    assert "Family parameters" not in words


# ---- layout


@pytest.mark.parametrize("width", [60, 80, 100])
def test_lines_are_no_wider_than_asked(sleep, width):
    pages = [sleep.audit(), Page("t", (Sentences("s", ("word " * 50, "x" * 150)),))]
    for page in pages:
        assert max(map(len, page.text(width).splitlines())) <= width


def test_lines_adapt_to_the_terminal(monkeypatch, wide):
    widths = {}
    for columns in (80, 100, 300):
        monkeypatch.setenv("COLUMNS", str(columns))
        widths[columns] = max(map(len, repr(wide).splitlines()))
    assert widths[80] <= 80 < widths[100]
    assert widths[100] == widths[300] <= 100


def test_a_narrow_page_folds_words_but_cuts_no_number():
    numbers = tuple(f"{k}23456.789" for k in range(1, 8))
    grid = Grid("", ("", *(n.rjust(10) for n in "abcdefg")), (("", (("name" * 10, *numbers),)),))
    words = grid.text(60)
    assert all(number in words for number in numbers)
    assert "".join(re.findall("[name]{4,}", words)) == "name" * 10


@pytest.mark.parametrize("make", [lambda model: model, drawn], ids=["model", "fit"])
def test_html_is_sound_and_escapes_names(wide, make):
    html = make(wide)._repr_html_()
    root = ElementTree.fromstring(html)
    cells = {"".join(cell.itertext()).strip() for cell in root.iter("td")}
    assert {"f[T.<low>]", "f[T.é]"} <= {
        cell.removeprefix("beta[").replace("]]", "]") for cell in cells
    }
    assert "<low>" not in html
    assert {table.find("thead") is not None for table in root.iter("table")} == {True, False}


def test_html_leaves_colours_to_the_notebook(wide):
    html = drawn(wide)._repr_html_()
    assert re.findall("#[0-9a-f]{3,6}|rgb|(?<!-)color:", html) == []
    assert "<script" not in html
    assert "<link" not in html
