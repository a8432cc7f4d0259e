"""Which random effects the data support: formulas with less, and the path through them."""

import numpy as np
import pytest
from scipy.stats import chi2

import glmm_bayes as gb
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.verbs.shorter import shorter


@pytest.fixture(scope="module")
def sleepstudy():
    data = gb.load_dataset("sleepstudy")
    return data.assign(f=[("a", "b", "c")[i % 3] for i in range(len(data))])


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("Reaction ~ Days + (Days | Subject)",
         {"correlations of Subject": "Reaction ~ Days + (1 + Days || Subject)",
          "Days of Subject": "Reaction ~ Days + (1 | Subject)"}),
        ("Reaction ~ 1 + (Days * f || Subject)",
         {"Days:f of Subject": "Reaction ~ 1 + (1 + Days + f || Subject)"}),
        ("Reaction ~ Days + offset(0 * Days) + (0 + Days + f | Subject)",
         {"correlations of Subject":
          "Reaction ~ Days + offset(I(0 * Days)) + (0 + Days + f || Subject)",
          "Days of Subject": "Reaction ~ Days + offset(I(0 * Days)) + (0 + f | Subject)",
          "f of Subject": "Reaction ~ Days + offset(I(0 * Days)) + (0 + Days | Subject)"}),
        ("Reaction ~ Days + (1 | f/Subject)",
         {"effects of f": "Reaction ~ Days + (1 | f:Subject)",
          "effects of f:Subject": "Reaction ~ Days + (1 | f)"}),
        ("Reaction ~ Days + cs(0 + f | Subject)", {"effects of Subject": "Reaction ~ Days"}),
    ],
)  # fmt: skip
def test_formulas_lack_one_part(sleepstudy, formula, expected):
    found = {s.lacks: s.texts[0] for s in shorter(gb.Model(formula, sleepstudy))}
    assert {k: v for k, v in found.items() if k in expected} == expected
    for text in found.values():
        gb.Model(text, sleepstudy)


def test_sleepstudy_keeps_its_slopes(sleepstudy):
    """lme4: ratios 0.0639 without correlation, 42.139 without slopes."""
    found = gb.simplify(gb.Model("Reaction ~ Days + (1 + Days | Subject)", sleepstudy))
    first = found.steps[found.steps["step"] == 1].set_index("lacks")
    assert first.loc["correlations of Subject", "statistic"] == pytest.approx(0.0639, abs=1e-3)
    assert first.loc["correlations of Subject", "taken"]
    slopes = first.loc["Days of Subject"]
    assert slopes["statistic"] == pytest.approx(42.139, abs=1e-2)
    p = 0.5 * chi2.sf(slopes["statistic"], 1) + 0.5 * chi2.sf(slopes["statistic"], 2)
    assert slopes["p_value"] == pytest.approx(p)
    assert [fit.df for fit in found.fits] == [6, 5]
    assert not found.steps.loc[found.steps["step"] == 2, "taken"].any()
    assert "Step 2" in repr(found)
    np.testing.assert_allclose(found.components["share"].sum(), 1)


def test_what_is_singular_is_said(sleepstudy):
    model = gb.Model("Reaction ~ Days + (1 + Days | Subject) + (1 | f)", sleepstudy)
    found = gb.simplify(model)
    assert any("estimated as zero" in note for note in found.notes)
    assert "effects of f" in found.steps.loc[found.steps["taken"], "lacks"].to_list()


def test_without_random_effects_there_is_nothing_to_leave_out(sleepstudy):
    with pytest.raises(NotSupportedError, match="no random effects"):
        gb.simplify(gb.Model("Reaction ~ Days", sleepstudy))


def test_a_ratio_of_unknown_distribution_is_said_to_be_so(sleepstudy):
    found = gb.simplify(gb.Model("Reaction ~ Days + ar1(Days | Subject)", sleepstudy))
    assert found.steps["p_value"].isna().all()
    assert not found.steps["taken"].any()
    assert "is not known" in found.notes[-1]
