"""Marginal means and contrasts, against R's emmeans and the coefficients."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, studentized_range, t

import glmm_bayes as gb
from glmm_bayes.fit import ModeFit
from glmm_bayes.verbs.contrasts import CONTRASTS
from glmm_bayes.verbs.simultaneous import ADJUSTMENTS, Statistics

NUMBERS = ["estimate", "std_error"]


def near(found: pd.DataFrame, estimates: Any, errors: Any, tolerance: float = 1e-4) -> None:
    """Estimates to a part of their standard errors, and these to a part of themselves."""
    errors = np.asarray(errors)
    off = (found["estimate"].to_numpy() - np.asarray(estimates)) / errors
    np.testing.assert_allclose(off, 0, atol=10 * tolerance)
    np.testing.assert_allclose(found["std_error"], errors, rtol=10 * tolerance)


# ---- kept results of emmeans


@pytest.fixture(scope="module")
def oats() -> ModeFit:
    data = gb.load_dataset("oats").rename(columns={"yield": "y"})
    data = data.assign(fN=pd.Categorical(data["nitro"].map("{:g}".format)))
    return gb.Model("y ~ fN + Variety + (1 | Block/Variety)", data).fit("reml")


@pytest.fixture(scope="module")
def herds() -> ModeFit:
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    return gb.Model(formula, gb.load_dataset("cbpp"), "binomial").fit("ml")


def column(rows: list[dict[str, Any]], *names: str) -> np.ndarray:
    name = next(name for name in names if name in rows[0])
    return np.array([row[name] for row in rows])


def same_as_kept(found: pd.DataFrame, rows: list[dict[str, Any]], tolerance: float = 1e-4) -> None:
    estimate = column(rows, "emmean", "estimate", "prob", "odds.ratio")
    near(found, estimate, column(rows, "SE"), tolerance)
    np.testing.assert_allclose(
        found["lower"], column(rows, "lower.CL", "asymp.LCL"), rtol=10 * tolerance
    )
    np.testing.assert_allclose(
        found["upper"], column(rows, "upper.CL", "asymp.UCL"), rtol=10 * tolerance
    )
    np.testing.assert_allclose(
        found["statistic"], column(rows, "z.ratio", "t.ratio"), rtol=10 * tolerance
    )


def test_binomial_means_and_odds_ratios_are_those_of_emmeans(
    herds: ModeFit, reference: Callable[[str], Any]
):
    kept = reference("emm_glmm")
    same_as_kept(herds.emmeans("period"), kept["cbpp_period_link"])
    same_as_kept(herds.emmeans("period", type="response"), kept["cbpp_period_response"])
    ratios = herds.emmeans("period", type="response").contrast("pairwise")
    same_as_kept(ratios, kept["cbpp_pairs_oddsratio_unadjusted"])
    assert list(ratios["contrast"]) == [
        r["contrast"] for r in kept["cbpp_pairs_oddsratio_unadjusted"]
    ]
    assert ratios.attrs["quantity"].startswith("odds ratio")


def test_custom_contrasts_are_those_of_emmeans(
    shared_data: object, reference: Callable[[str], Any]
):
    data = gb.load_dataset("culcita")
    data["ttt"] = pd.Categorical(data["ttt"], ["none", "crabs", "shrimp", "both"])
    fit = gb.Model("predation ~ ttt + (1 | block)", data, "bernoulli").fit("ml")
    kept = reference("emm_glmm")
    means = fit.emmeans("ttt")
    same_as_kept(means, kept["culcita_ttt_link"], 1e-3)
    own = {
        "symb": [-1, 1 / 3, 1 / 3, 1 / 3],
        "crab.vs.shrimp": [0, 1, -1, 0],
        "addsymb": [0, -0.5, -0.5, 1],
    }
    found = means.contrast(own)
    same_as_kept(found, kept["culcita_talk_contrasts"], 1e-3)
    assert list(found["contrast"]) == list(own)


# ---- emmeans 1.8.4 on further models


@pytest.fixture(scope="module")
def epil() -> ModeFit:
    data = gb.load_dataset("epil")
    data["trt"] = pd.Categorical(data["trt"], ["placebo", "progabide"])
    return gb.Model("y ~ trt * lage + V4 + (1 | subject)", data, "poisson").fit("ml")


def test_a_covariate_is_at_its_mean_and_a_number_of_two_values_at_both(epil: ModeFit):
    near(epil.emmeans("trt"), [1.716417, 1.418631], [0.1815933, 0.1752181])
    near(epil.emmeans("trt", type="response"), [5.564557, 4.131459], [1.0104865, 0.7239063])


def test_a_factor_within_values_of_a_covariate(epil: ModeFit):
    means = epil.emmeans("trt", by="lage", at={"lage": [-0.3, 0.2]}, type="response")
    assert list(means["lage"]) == [-0.3, -0.3, 0.2, 0.2]
    assert list(means["trt"].astype(str)) == ["placebo", "progabide"] * 2
    found = means.contrast("revpairwise")
    near(found, [1.1365463, 0.5589805], [0.4891422, 0.1881880])
    np.testing.assert_allclose(found["upper"], [2.641945, 1.081346], rtol=1e-3)
    assert list(found["lage"]) == [-0.3, 0.2]
    assert set(found["contrast"]) == {"progabide / placebo"}


@pytest.fixture(scope="module")
def owls() -> ModeFit:
    formula = (
        "SiblingNegotiation ~ FoodTreatment * SexParent + ArrivalTime + offset(log(BroodSize)) "
        "+ (1 | Nest)"
    )
    return gb.Model(formula, gb.load_dataset("owls"), "poisson").fit("ml")


# The fits were glmmTMB's, of which emmeans takes the offset at the mean of BroodSize; of others it
# takes the mean of the offsets, and so do we.
BROODS = gb.load_dataset("owls")["BroodSize"]
LOWER = float(np.log(BROODS.mean()) - np.log(BROODS).mean())


@pytest.mark.parametrize(
    ("weights", "estimates", "errors"),
    [
        ("equal", [2.092238, 1.491420], [0.09227509, 0.09421673]),
        ("proportional", [2.091114, 1.502414], [0.09211917, 0.09403234]),
        ("outer", [2.091114, 1.502414], [0.09211917, 0.09403234]),
        ("cells", [2.090810, 1.498999], [0.09210869, 0.09406001]),
    ],
)
def test_weights_in_an_unbalanced_table_with_an_offset(
    owls: ModeFit, weights: str, estimates: list[float], errors: list[float]
):
    near(owls.emmeans("FoodTreatment", weights=weights), np.array(estimates) - LOWER, errors)
    at_mean = owls.emmeans("FoodTreatment", weights=weights, at={"BroodSize": np.mean})
    near(at_mean, estimates, errors)


def test_contrasts_of_contrasts_are_interactions(owls: ModeFit):
    within = owls.emmeans("FoodTreatment", by="SexParent").contrast("pairwise")
    near(within.contrast("pairwise", by="contrast"), [0.1331878], [0.07043468])
    at = {"BroodSize": np.mean}
    rates = owls.emmeans("FoodTreatment", by="SexParent", at=at, type="response")
    near(
        rates,
        [8.153219, 4.182885, 8.053142, 4.720141],
        [0.7854254, 0.4182325, 0.7544663, 0.4559157],
    )
    ratio = rates.contrast("pairwise").contrast("pairwise", by="contrast")
    near(ratio, np.exp([0.1331878]), np.exp([0.1331878]) * 0.07043468)


@pytest.fixture(scope="module")
def women() -> ModeFit:
    data = gb.load_dataset("contraception")
    data = data.assign(
        y=(data["use"] == "Y").astype(int),
        livch=pd.Categorical(data["livch"].astype(str), ["0", "1", "2", "3+"]),
    )
    formula = "y ~ urban * livch + age + I(age**2) + (1 | district)"
    return gb.Model(formula, data, "bernoulli").fit("ml")


WOMEN = {
    "equal": (
        [-0.6799529, 0.1101479, 0.1965624, 0.2210862],
        [0.1710134, 0.1539424, 0.1574706, 0.1306142],
    ),
    "proportional": (
        [-0.86690684, -0.02052321, 0.07843798, 0.08230550],
        [0.1743720, 0.1458672, 0.1423137, 0.1224604],
    ),
    "cells": (
        [-0.839976411, -0.002030964, 0.066176564, 0.064548540],
        [0.1731097, 0.1459365, 0.1420520, 0.1222594],
    ),
}


@pytest.mark.parametrize("weights", list(WOMEN))
def test_weights_with_a_polynomial_of_a_covariate(women: ModeFit, weights: str):
    near(women.emmeans("livch", weights=weights), *WOMEN[weights])


def test_weights_within_another_factor_average_nothing(women: ModeFit):
    tables = [
        women.emmeans("livch", by="urban", weights=w)[NUMBERS] for w in ("equal", "outer", "cells")
    ]
    near(
        tables[0].head(4),
        [-1.12633432, -0.20184949, -0.08547789, -0.11027415],
        [0.1982708, 0.1634307, 0.1594828, 0.1306327],
    )
    for other in tables[1:]:
        pd.testing.assert_frame_equal(tables[0], other, atol=1e-12)


# A number of two values counts as a factor for the weights; values given in `at` do so alike.
UNBALANCED = {
    "old": (
        [0.1814865, 0.08159825],
        [0.1628323, 0.1512598],
    ),
    "outer": (
        [-0.2262649, 0.4820456],
        [0.1285284, 0.1497565],
    ),
    "cells": (
        [-0.2130902, 0.4564231],
        [0.1276687, 0.1506649],
    ),
    "propby": (
        [-0.1805559, 0.5277545, -0.2804442, 0.4278662],
        [0.165906, 0.1836956, 0.151517, 0.1688053],
    ),
    "cellsby": (
        [-0.3677763, 0.3453082, -0.02929241, 0.5873493],
        [0.1797152, 0.1977544, 0.1483433, 0.1747993],
    ),
    "at": (
        [0.03234264, 0.6337885],
        [0.1441612, 0.194743],
    ),
    "atcells": (
        [0.03453453, 0.6298618],
        [0.1439812, 0.1943905],
    ),
    "trend": (
        [0.07111074, -0.07148199],
        [0.02137424, 0.0133298],
    ),
}
AT = {"livch": ["1", "2"], "age": [-5, 5]}
ASKED: dict[str, Callable[[ModeFit], pd.DataFrame]] = {
    "old": lambda fit: fit.emmeans("old"),
    "outer": lambda fit: fit.emmeans("urban", weights="outer"),
    "cells": lambda fit: fit.emmeans("urban", weights="cells"),
    "propby": lambda fit: fit.emmeans("urban", by="old", weights="proportional"),
    "cellsby": lambda fit: fit.emmeans("urban", by="old", weights="cells"),
    "at": lambda fit: fit.emmeans("urban", at=AT, weights="proportional"),
    "atcells": lambda fit: fit.emmeans("urban", at=AT, weights="cells"),
    "trend": lambda fit: fit.slopes("age", gb.datagrid(fit, old=[0, 1]), by="old", kind="linear"),
}


@pytest.fixture(scope="module")
def unbalanced() -> ModeFit:
    data = gb.load_dataset("contraception")
    data = data.assign(
        y=(data["use"] == "Y").astype(int),
        old=(data["age"] > 0).astype(int),
        livch=data["livch"].astype(str),
        urban=data["urban"].astype(str),
    )
    return gb.Model("y ~ urban * livch + old * age + (1 | district)", data, "bernoulli").fit("ml")


@pytest.mark.parametrize("question", list(UNBALANCED))
def test_unbalanced_tables_within_and_at_values(unbalanced: ModeFit, question: str):
    near(ASKED[question](unbalanced), *UNBALANCED[question])


SETS = {
    "eff": (
        [-0.6419138, 0.1481870, 0.2346015, 0.2591253],
        [0.1160883, 0.1058151, 0.1166655, 0.1094256],
    ),
    "del.eff": (
        [-0.8558850, 0.1975826, 0.3128020, 0.3455004],
        [0.1547844, 0.1410868, 0.1555540, 0.1459008],
    ),
    "poly": ([2.7895318, -0.7655769, 0.6417954], [0.6325674, 0.2373552, 0.5686244]),
    "consec": ([0.79010073, 0.08641455, 0.02452380], [0.1687839, 0.1884966, 0.1741003]),
}


@pytest.mark.parametrize("name", list(SETS))
def test_sets_of_contrasts(women: ModeFit, name: str):
    near(women.emmeans("livch").contrast(name), *SETS[name])


# p-values and upper limits of all six differences.
ADJUSTED = {
    "holm": ([1.592338e-05, 3.492529e-05, 1.592338e-05, 1, 1, 1],
             [-0.3448055, -0.3564400, -0.3948198, 0.4108881, 0.3537735, 0.4347975]),
    "bonferroni": ([1.711711e-05, 5.238794e-05, 1.592338e-05, 1, 1, 1],
                   [-0.3448055, -0.3564400, -0.3948198, 0.4108881, 0.3537735, 0.4347975]),
    "sidak": ([1.711699e-05, 5.238680e-05, 1.592327e-05, 0.9980531, 0.9890565, 0.999998],
              [-0.3460239, -0.3578631, -0.3962050, 0.4095273, 0.3525019, 0.4335407]),
    "tukey": ([1.694609e-05, 5.161171e-05, 1.576828e-05, 0.9679951, 0.9224859, 0.9990036],
              [-0.3564896, -0.3700864, -0.4081025, 0.3978393, 0.3415799, 0.4227453]),
    # emmeans integrates by simulation: its small p-values have few digits.
    "mvt": ([1.60e-05, 4.7e-05, 1.5e-05, 0.9677130, 0.9218454, 0.9989940],
            [-0.3570721, -0.3707666, -0.4087647, 0.3971888, 0.3409720, 0.4221446]),
}  # fmt: skip


@pytest.mark.parametrize("adjust", list(ADJUSTED))
def test_adjustments(women: ModeFit, adjust: str):
    p, upper = ADJUSTED[adjust]
    found = women.emmeans("livch", hypothesis="pairwise", adjust=adjust)
    np.testing.assert_allclose(found["p_value"], p, rtol=0.15 if adjust == "mvt" else 5e-3)
    np.testing.assert_allclose(found["upper"], upper, atol=1e-3)


def test_contrasts_of_other_links_stay_on_the_link():
    """By way of glmmTMB: lme4's curvature is the expected one where the link is not canonical."""
    data = gb.load_dataset("contraception")
    data = data.assign(y=(data["use"] == "Y").astype(int))
    model = gb.Model("y ~ urban + livch + (1 | district)", data, "bernoulli", "probit")
    means = model.fit("ml").emmeans("urban", type="response")
    near(means, [0.333784083, 0.504473264], [0.0198203525, 0.0294514506])
    found = means.contrast()
    near(found, [-0.44070099], [0.072439158])
    assert found.attrs["quantity"] == "difference in probit(mu) of y"


def test_other_parameters_have_means_of_their_own():
    """Also that of glmmTMB's dispersion, emmeans(…, component = "disp")."""
    data = gb.load_dataset("salamanders")
    fit = gb.Model(["count ~ mined + (1 | site)", "alpha ~ mined"], data, "negbinomial").fit("ml")
    order = [list(fit.emmeans("mined")["mined"].astype(str)).index(v) for v in ("no", "yes")]
    near(
        fit.emmeans("mined", type="response").iloc[order],
        [2.1903218, 0.2459816],
        [0.30909540, 0.05474518],
        1e-3,
    )
    near(
        fit.emmeans("mined", param="alpha", type="response").iloc[order],
        [0.7111819, 0.2542269],
        [0.08795799, 0.08291314],
        1e-3,
    )


@pytest.fixture(scope="module")
def coded() -> ModeFit:
    """Numbers taken for labels, truth values, an order; groups are numbers too."""
    rng = np.random.default_rng(0)
    n = 160
    data = pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "k": rng.integers(1, 5, n),
            "b": rng.uniform(size=n) < 0.4,
            "g": rng.integers(0, 8, n),
            "o": pd.Categorical(rng.choice(["lo", "mid", "hi"], n), ["lo", "mid", "hi"], True),
        }
    )
    effects = rng.normal(size=8)[data["g"]]
    data["y"] = data["x"] + data["k"] ** 2 + data["b"] + effects + rng.normal(size=n)
    return gb.Model("y ~ C(k) + b * x + o + (1 | g)", data).fit("ml")


def test_numbers_in_a_factor_are_levels(coded: ModeFit):
    means = coded.emmeans("k")
    assert list(means["k"]) == [1, 2, 3, 4]
    fixed = coded.fixef()["estimate"]
    found = means.contrast("reference")
    np.testing.assert_allclose(found["estimate"], fixed.filter(like="C(k)"), rtol=1e-8)
    assert list(found["contrast"]) == ["k2 - k1", "k3 - k1", "k4 - k1"]
    assert list(coded.comparisons({"k": [1, 3]}, by=True)["contrast"]) == ["3 - 1"]
    assert gb.datagrid(coded)["k"].iloc[0] in (1, 2, 3, 4)
    assert len(gb.datagrid(coded, grid="balanced")) == 4 * 2 * 3
    with pytest.raises(gb.DataError, match="no k = 9. Known: 1, 2, 3, 4"):
        coded.emmeans("o", at={"k": 9})


def test_several_factors_and_their_order(coded: ModeFit):
    means = coded.emmeans(["b", "o"])
    assert list(means["b"]) == [False, True] * 3
    assert list(means["o"].astype(str)) == ["lo", "lo", "mid", "mid", "hi", "hi"]
    assert means.contrast().iloc[0]["contrast"] == "False lo - True lo"
    assert len(means.contrast()) == 15
    within = coded.emmeans("b", by="o")
    np.testing.assert_allclose(within["estimate"], means["estimate"])
    assert len(within.contrast()) == 3
    assert len(within.contrast(by=[])) == 15


def test_the_mean_of_all_is_that_of_the_means(coded: ModeFit):
    found = coded.emmeans([])
    assert len(found) == 1
    assert found["estimate"].iloc[0] == pytest.approx(coded.emmeans("o")["estimate"].mean())
    constant = gb.Model("y ~ 1 + (1 | g)", coded.model.data).fit("ml")
    assert constant.emmeans([])["estimate"].iloc[0] == constant.fixef()["estimate"].iloc[0]
    with pytest.raises(gb.DataError, match="is constant"):
        constant.emmeans("o")


def test_zero_inflation_has_means_of_its_own():
    """Those of glmmTMB's fit, emmeans(…, component = "zi") and "cond"."""
    data = gb.load_dataset("salamanders")
    data["mined"] = pd.Categorical(data["mined"].astype(str), ["no", "yes"])
    formulas = ["count ~ mined + DOY + (1 | site)", "zi ~ mined"]
    fit = gb.Model(formulas, data, "zero_inflated_poisson").fit("ml")
    near(fit.emmeans("mined", type="response"), [3.43451366, 1.09299434], [0.31687732, 0.25608622])
    zeros = fit.emmeans("mined", param="zi", type="response")
    near(zeros, [0.353728375, 0.759354032], [0.0278750734, 0.0423942012])
    both = fit.predictions(gb.datagrid(fit, mined=["no", "yes"]))["estimate"]
    expected = np.array([3.43451366, 1.09299434]) * (1 - np.array([0.353728375, 0.759354032]))
    np.testing.assert_allclose(both, expected, rtol=1e-4)


# ---- adjustments in closed form


def test_two_tests_of_known_correlation():
    """P(|Z1| < c, |Z2| < c) of independent normals is a product."""
    tests = Statistics(np.array([2.0, 1.0]), np.full(2, np.inf), np.eye(2))
    expected = 1 - (2 * norm.cdf([2.0, 1.0]) - 1) ** 2
    np.testing.assert_allclose(ADJUSTMENTS["mvt"].p_values(tests), expected, rtol=1e-3)
    same = Statistics(np.array([2.0, 2.0]), np.full(2, 7.0), np.array([[1.0, -3.0]]))
    np.testing.assert_allclose(ADJUSTMENTS["mvt"].p_values(same), 2 * t.sf(2.0, 7), rtol=1e-6)


@pytest.mark.parametrize("df", [np.inf, 6.6])
def test_the_joint_distribution_of_all_pairs_is_the_studentized_range(df: float):
    C = np.array([w for _, w in CONTRASTS["pairwise"](list("abcd"), "-")])
    values = np.array([1.0, 2.0, 2.56, 3.5, 5.0, 7.0])
    tests = Statistics(values, np.full(6, df), C.T, 4)
    expected = studentized_range.sf(np.sqrt(2) * values, 4, df)
    np.testing.assert_allclose(ADJUSTMENTS["mvt"].p_values(tests), expected, rtol=2e-3)
    np.testing.assert_allclose(ADJUSTMENTS["tukey"].p_values(tests), expected, rtol=1e-6)
    critical = [ADJUSTMENTS[name].critical(tests, 0.95)[0] for name in ("mvt", "tukey")]
    assert critical[0] == pytest.approx(critical[1], rel=1e-4)


@pytest.mark.parametrize("adjust", list(ADJUSTMENTS))
def test_an_interval_touches_zero_where_p_is_five_per_cent(adjust: str):
    """Holm's intervals are Bonferroni's: its first step."""
    C = np.array([w for _, w in CONTRASTS["pairwise"](list("abc"), "-")])
    tests = Statistics(np.zeros(3), np.full(3, 9.0), C.T, 3)
    reach = ADJUSTMENTS[adjust].critical(tests, 0.95)
    at_edge = Statistics(np.array([reach[0], 0.5, 0.1]), tests.df, tests.root, 3)
    assert ADJUSTMENTS[adjust].p_values(at_edge)[0] == pytest.approx(0.05, rel=1e-3)


# ---- statements and matrices


def test_statements_matrices_and_names_say_the_same(herds: ModeFit):
    means = herds.emmeans("period")
    expected = means.contrast("pairwise").iloc[0]
    for method in (
        "b1 - b2 = 0", "b1 = b2", "period1 = period2", ["b1 = b2"], {"own": [1, -1, 0, 0]},
        np.array([1, -1, 0, 0]), [[1, -1, 0, 0]], pd.DataFrame([[1, -1, 0, 0]], index=["own"]),
    ):  # fmt: skip
        found = means.contrast(method).iloc[0]
        assert found["estimate"] == pytest.approx(expected["estimate"], rel=1e-12)
        assert found["std_error"] == pytest.approx(expected["std_error"], rel=1e-12)
    moved = means.contrast("b1 - b2 = 0.5").iloc[0]
    assert moved["estimate"] == pytest.approx(expected["estimate"] - 0.5, rel=1e-12)


def test_contrasts_are_those_of_coefficients(oats: ModeFit):
    """Of treatment coding, a difference from the first level is a coefficient."""
    found = oats.emmeans("fN").contrast("reference").set_index("contrast")
    fixed = oats.fixef()
    for level in ("0.2", "0.4", "0.6"):
        row = found.loc[f"fN{level} - fN0"]
        for name in ("estimate", "std_error", "lower", "upper", "p_value"):
            assert row[name] == pytest.approx(fixed.loc[f"fN[T.{level}]", name], rel=1e-6)


# ---- posteriors


def test_a_posterior_gives_quantiles_of_the_same_averages(cbpp_fit: Any):
    found = cbpp_fit.emmeans("period", type="response")
    beta = cbpp_fit.draws.beta["mu"]
    second = 1 / (1 + np.exp(-(beta[:, 0] + beta[:, 1])))
    row = found.iloc[1]
    expected = [second.mean(), second.std(ddof=1), *np.quantile(second, (0.025, 0.975))]
    np.testing.assert_allclose(
        row[["estimate", "std_error", "lower", "upper"]].to_numpy(dtype=float), expected
    )
    assert list(found.columns) == ["period", "estimate", "std_error", "lower", "upper"]
    ratio = found.contrast("pairwise").iloc[0]
    assert ratio["estimate"] == pytest.approx(np.exp(-beta[:, 1]).mean())


def test_a_posterior_is_not_adjusted(cbpp_fit: Any):
    with pytest.raises(gb.NotSupportedError, match="adjust='holm' is for the tests of a maximum"):
        cbpp_fit.emmeans("period", adjust="holm")
    with pytest.raises(gb.NotSupportedError, match="ddf='residual' is for maxima"):
        cbpp_fit.emmeans("period", ddf="residual")


# ---- bad input


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"specs": "perod"}, gb.UnknownNameError, "Did you mean 'period'?"),
        ({"specs": "herd"}, gb.DataError, "'herd' groups rows"),
        ({"specs": "period", "by": "size"}, gb.UnknownNameError, "'size' is no predictor of mu"),
        ({"specs": "period", "at": {"period": ["9"]}}, gb.DataError, "no period = '9'. Known: 1"),
        ({"specs": "period", "at": {"herd": ["1"]}}, gb.DataError, "at= names 'herd'"),
        ({"specs": "period", "at": {"q": 1}}, gb.UnknownNameError, "'q' is no predictor"),
        ({"specs": "period", "weights": "eq"}, gb.UnknownNameError, "weights='eq' is not known"),
        ({"specs": "period", "type": "resp"}, gb.UnknownNameError, "Did you mean 'response'?"),
        ({"specs": "period", "param": "sigma"}, gb.UnknownNameError, "param='sigma'"),
        ({"specs": "period", "adjust": "hol"}, gb.UnknownNameError, "Did you mean 'holm'?"),
        ({"specs": "period", "adjust": "tukey"}, gb.DataError, "all pairwise differences"),
        ({"specs": "period", "level": 95}, gb.DataError, "level=95"),
        ({"specs": "period", "hypothesis": "pairs"}, gb.UnknownNameError, "no set of contrasts"),
        ({"specs": "period", "hypothesis": "b5 = 0"}, gb.UnknownNameError, "no estimate 'b5'"),
        ({"specs": "period", "hypothesis": "b1 > 0"}, gb.FormulaError, "must have ="),
        ({"specs": "period", "hypothesis": [1, -1]}, gb.DataError, "2 weights for 4 estimates"),
        (
            {"specs": "period", "type": "response", "hypothesis": "b1 - b2 = 1"},
            gb.FormulaError,
            "type='link'",
        ),
    ],
)
def test_bad_input_has_one_clear_error(
    herds: ModeFit, options: dict[str, Any], error: type[Exception], words: str
):
    with pytest.raises(error, match=words):
        herds.emmeans(**options)


def test_a_covariate_needs_values(epil: ModeFit):
    with pytest.raises(gb.DataError, match=r"'lage' is a covariate.*at=\{'lage'.*slopes"):
        epil.emmeans("lage")
    with pytest.raises(gb.UnknownNameError, match="by='x' is no column of the estimates"):
        epil.emmeans("trt").contrast(by="x")


def test_a_parameter_without_a_formula_has_no_means(oats: ModeFit):
    with pytest.raises(gb.DataError, match="'sigma' has no formula"):
        oats.emmeans("fN", param="sigma")


def test_the_figure_shows_every_row(owls: ModeFit):
    figure = owls.emmeans("FoodTreatment", by="SexParent", type="response").contrast().plot()
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["Deprived / Satiated"]
    assert ax.get_xscale() == "log"
    assert len(ax.containers) == 2
