"""Degrees of freedom of marginal means and slopes, against R's emmeans."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import glmm_bayes as gb
from glmm_bayes.fit import ModeFit
from glmm_bayes.verbs.estimates import Estimates

COLUMNS = ["estimate", "std_error", "df", "lower", "upper", "statistic", "p_value"]


def near(found: Estimates, text: str) -> None:
    """Compare with rows of numbers as R prints them, estimates to a part of their errors."""
    expected = np.array([[float(x) for x in row.split()] for row in text.strip().splitlines()])
    numbers = found[COLUMNS].to_numpy(dtype=float)
    errors = expected[:, [1]]
    np.testing.assert_allclose((numbers - expected)[:, [0, 3, 4]] / errors, 0, atol=2e-3)
    np.testing.assert_allclose(numbers[:, [1, 2, 5]], expected[:, [1, 2, 5]], rtol=2e-3)
    np.testing.assert_allclose(numbers[:, 6], expected[:, 6], rtol=2e-2)


# ---- kept results


@pytest.fixture(scope="module")
def oats() -> ModeFit:
    data = gb.load_dataset("oats").rename(columns={"yield": "y"})
    data = data.assign(fN=pd.Categorical(data["nitro"].map("{:g}".format)))
    return gb.Model("y ~ fN + Variety + (1 | Block/Variety)", data).fit("reml")


@pytest.mark.parametrize(
    ("block", "ask"),
    [
        ("fN_KR", lambda fit: fit.emmeans("fN", ddf="kenward-roger")),
        ("Variety_Satterthwaite", lambda fit: fit.emmeans("Variety", ddf="satterthwaite")),
        (
            "pairs_fN_KR_unadjusted",
            lambda fit: fit.emmeans("fN", ddf="kenward-roger").contrast("pairwise"),
        ),
        (
            "pairs_fN_KR_tukey",
            lambda fit: fit.emmeans("fN", ddf="kenward-roger").contrast(adjust="tukey"),
        ),
    ],
)
def test_a_split_plot_is_as_emmeans_has_it(
    oats: ModeFit,
    reference: Callable[[str], Any],
    block: str,
    ask: Callable[[ModeFit], Estimates],
):
    rows, found = reference("lmm_oats_emmeans")["emmeans"][block], ask(oats)
    names = ["emmean" if "emmean" in rows[0] else "estimate", "SE", "df", "lower.CL", "upper.CL"]
    expected = np.array([[row[name] for name in names] for row in rows])
    np.testing.assert_allclose(found[COLUMNS[:5]], expected, rtol=1e-4)
    p = np.array([row["p.value"] for row in rows])
    np.testing.assert_allclose(found["p_value"], p, rtol=5e-4, atol=1e-9)
    if "contrast" in rows[0]:
        assert list(found["contrast"]) == [row["contrast"] for row in rows]


# ---- R 4.2.2, emmeans 1.8.4, lmerTest 3.1.3, pbkrtest 0.5.2 on incomplete tables


@pytest.fixture(scope="module")
def teeth() -> ModeFit:
    data = gb.load_dataset("orthodont").drop(index=[2, 9, 10, 11, 39, 76, 89])
    data["Sex"] = data["Sex"].astype(str)
    return gb.Model("distance ~ age * Sex + (1 + age | Subject)", data).fit("reml")


@pytest.fixture(scope="module")
def machines() -> ModeFit:
    data = gb.load_dataset("machines").drop(index=[1, 2, 17, 29, 30])
    return gb.Model("score ~ Machine + (1 | Worker/Machine)", data).fit("reml")


MEANS = {
    "satterthwaite": """
 22.6162582 0.586073969 24.4246170 21.4077728 23.8247435 38.5894261 2.09054872e-23
 24.9930301 0.490782375 25.0061642 23.9822575 26.0038027 50.9248730 8.80082739e-27""",
    "kenward-roger": """
 22.6162582 0.586242926 24.5102157 21.4076437 23.8248726 38.5783045 1.83723181e-23
 24.9930301 0.491230761 25.1225450 23.9815716 26.0044886 50.8783898 7.26040442e-27""",
}
TRENDS = {
    "satterthwaite": """
 0.489095027 0.110410648 25.0934105 0.261742955 0.716447099 4.42978134 1.62181056e-04
 0.781886037 0.093601864 25.0532769 0.589130174 0.974641900 8.35331695 1.04162696e-08""",
    "kenward-roger": """
 0.489095027 0.1106775560 23.7281591 0.260529212 0.717660843 4.41909855 1.86108626e-04
 0.781886037 0.0939644033 23.7238319 0.587833503 0.975938572 8.32108766 1.70787680e-08""",
}
TREND_PAIR = {
    "satterthwaite": "-0.29279101 0.144747435 25.0888971 -0.590850383 0.00526836242 -2.02277166 "
    "0.053877407",
    "kenward-roger": "-0.29279101 0.145185504 23.7363529 -0.59261539 0.00703336965 -2.01666835 "
    "0.0551795223",
}


@pytest.mark.parametrize("ddf", list(MEANS))
def test_means_of_curves_with_random_slopes(teeth: ModeFit, ddf: str):
    assert list(teeth.emmeans("Sex")["Sex"].astype(str)) == ["Female", "Male"]
    near(teeth.emmeans("Sex", ddf=ddf), MEANS[ddf])
    pair = teeth.emmeans("Sex", ddf=ddf).contrast()
    means = teeth.emmeans("Sex")["estimate"]
    assert pair["estimate"].iloc[0] == pytest.approx(means[0] - means[1], rel=1e-10)
    assert pair["df"].iloc[0] == pytest.approx(24.7, abs=0.1)


@pytest.mark.parametrize("ddf", list(TRENDS))
def test_slopes_by_a_factor_are_emmeans_trends(teeth: ModeFit, ddf: str):
    found = teeth.slopes("age", by="Sex", ddf=ddf)
    near(found, TRENDS[ddf])
    near(found.contrast("pairwise"), TREND_PAIR[ddf])


PAIRS = """
  -8.32804605 2.14814864 10.07368267 -13.1096783 -3.54641382 -3.87684813 0.003032835253
 -14.21844537 2.14651827 10.04316232 -18.9984014 -9.43848930 -6.62395729 0.000057792582
  -5.89039932 2.14413043  9.99962205 -10.6678441 -1.11295452 -2.74722061 0.020576835416"""
ADJUSTED = {
    "none": PAIRS,
    "tukey": """
  -8.32804605 2.14814864 10.07368267 -14.2096918 -2.4464002888 -3.87684813 0.007762906979
 -14.21844537 2.14651827 10.04316232 -20.0985367 -8.3383540867 -6.62395729 0.000155058531
  -5.89039932 2.14413043  9.99962205 -11.7681301 -0.0126685459 -2.74722061 0.049518982652""",
    "holm": """
  -8.32804605 2.14814864 10.07368267 -14.4846193 -2.171472822 -3.87684813 0.006065670505
 -14.21844537 2.14651827 10.04316232 -20.3739574 -8.062933368 -6.62395729 0.000173377746
  -5.89039932 2.14413043  9.99962205 -12.0442545  0.263455873 -2.74722061 0.020576835416""",
}


@pytest.mark.parametrize("adjust", list(ADJUSTED))
def test_adjusted_differences_of_few_workers(machines: ModeFit, adjust: str):
    found = machines.emmeans("Machine", ddf="satterthwaite").contrast(adjust=adjust)
    near(found, ADJUSTED[adjust])


def test_the_joint_adjustment_uses_fractional_degrees_of_freedom(machines: ModeFit):
    """R's emmeans rounds them down, to 10 and 9, and integrates by simulation."""
    found = machines.emmeans("Machine", ddf="satterthwaite").contrast(adjust="mvt")
    expected = [0.007595518189, 0.000153885243, 0.049415758434]
    np.testing.assert_allclose(found["p_value"], expected, rtol=0.03)


def test_kenward_roger_of_the_same(machines: ModeFit):
    near(
        machines.emmeans("Machine", ddf="kenward-roger"),
        """
 52.0537769 2.52799434 8.27966256 46.2583083 57.8492454 20.5909388 2.09932862e-08
 60.3818229 2.52593948 8.25332170 54.5879694 66.1756764 23.9046990 6.49914795e-09
 66.2722222 2.52455554 8.23531128 60.4794145 72.0650300 26.2510455 3.12693297e-09""",
    )


# ---- the talk's contrasts of sea stars' defenders


def test_contrasts_of_means_are_the_talks_coefficients(
    shared_data: object, reference: Callable[[str], Any]
):
    """Coefficients of a coding C are contrasts of means by the inverse of [1, C]."""
    kept = reference("talk_culcita_methods")
    matrix = kept["contrast_matrix"]
    coding = np.column_stack([np.ones(4), np.array(matrix["matrix"])])
    weights = np.linalg.inv(coding)
    data = gb.load_dataset("culcita")
    data["ttt"] = pd.Categorical(data["ttt"].astype(str), matrix["levels"])
    model = gb.Model("predation ~ ttt + (1 | block)", data, "bernoulli")
    for label, options in (("Laplace", {}), ("AGQ20", {"nagq": 20})):
        (fit,) = [f for f in kept["fits"] if f["label"] == label]
        own = dict(zip(matrix["columns"], weights[1:], strict=True))
        found = model.fit("ml", **options).emmeans("ttt", hypothesis=own)
        expected = [fit["fixef"][f"ttt{name}"] for name in matrix["columns"]]
        errors = np.array([e["se"] for e in expected])
        off = found["estimate"].to_numpy() - [e["estimate"] for e in expected]
        np.testing.assert_allclose(off / errors, 0, atol=2e-3)
        np.testing.assert_allclose(found["std_error"], errors, rtol=1e-2)


def test_a_method_that_is_not_for_the_model_says_so():
    fit = gb.Model("count ~ mined + (1 | site)", gb.load_dataset("salamanders"), "poisson").fit(
        "ml"
    )
    with pytest.raises(gb.NotSupportedError, match=re.escape("ddf='satterthwaite' is for normal")):
        fit.emmeans("mined", ddf="satterthwaite")
    with pytest.raises(gb.UnknownNameError, match="Did you mean 'kenward-roger'?"):
        fit.emmeans("mined", ddf="kenward")
    assert fit.emmeans("mined", ddf="residual")["df"].iloc[0] == 642
