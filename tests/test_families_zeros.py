"""Families made of others: against glmmTMB's fits, against their bases, and far out."""

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import glmm_bayes as gb
from glmm_bayes.families import FAMILIES, LINKS
from glmm_bayes.families.expansion import expand
from glmm_bayes.families.zeros import hurdle, truncated, zero_inflated

OWLS = "SiblingNegotiation ~ (FoodTreatment + cArr) * SexParent + offset(logBroodSize) + (1 | Nest)"
NEST = "SiblingNegotiation ~ FoodTreatment + cArr + (1 | Nest)"
SPECIES = "count ~ spp + mined + (1 | site)"
MINED = "count ~ mined + (1 | site)"


def owls(*, positive: bool = False) -> pd.DataFrame:
    data = gb.load_dataset("owls")
    data = data.assign(cArr=data["ArrivalTime"] - data["ArrivalTime"].mean())
    y = data["SiblingNegotiation"]
    share = np.round(np.minimum(y / 15, 1), 3)
    data = data.assign(
        w=np.minimum(y, 20), n20=20, share=share, z=np.where(share == 1, 0.99, share)
    )
    return data[y > 0] if positive else data


def salamanders(*species: str) -> pd.DataFrame:
    data = gb.load_dataset("salamanders")
    data = data[data["spp"].isin(species)] if species else data
    return data.assign(mined=pd.Categorical(data["mined"].astype(str), ["yes", "no"]))


# ---- against glmmTMB


FITS = [
    ("fam_owls_zi", "zip", [OWLS, "zi ~ 1"], "zero_inflated_poisson"),
    ("fam_owls_zi", "zinb2", [OWLS, "zi ~ 1"], "zero_inflated_negbinomial"),
    ("fam_owls_zi", "zinb1", OWLS, "zero_inflated_nbinom1"),
    ("fam_owls_zi", "hurdle_nbinom1", [OWLS, "hu ~ FoodTreatment"], "hurdle_nbinom1"),
    ("fam_salamanders_zi", "zip_zi_spp_mined", [SPECIES, "zi ~ spp + mined"],
     "zero_inflated_poisson"),
    ("fam_salamanders_zi", "zip_zi_mined", [MINED, "zi ~ mined"], "zero_inflated_poisson"),
    ("fam_salamanders_zi", "zip_zi_random", [MINED, "zi ~ mined + (1 | site)"],
     "zero_inflated_poisson"),
    ("fam_salamanders_hurdle", "hurdle_poisson", [SPECIES, "hu ~ spp + mined"], "hurdle_poisson"),
    ("fam_salamanders_hurdle", "hurdle_nbinom2", [SPECIES, "hu ~ mined"], "hurdle_negbinomial"),
    ("fam_salamanders_compois_genpois", "genpois", MINED, "genpois"),
    ("fam_salamanders_compois_genpois", "compois", MINED, "compois"),
]  # fmt: skip


@pytest.mark.usefixtures("shared_data")
@pytest.mark.parametrize(("case", "label", "formula", "family"), FITS)
def test_fit_agrees_with_glmmtmb(case, label, formula, family, reference):
    peer = next(fit for fit in reference(case)["fits"] if fit["label"] == label)
    few = ("GP", "DM", "EC-A") if case.endswith("genpois") else ()
    fit = gb.Model(formula, owls() if "owls" in case else salamanders(*few), family).fit("ml")
    assert fit.converged
    assert fit.loglik == pytest.approx(peer["logLik"], abs=1e-4)
    found = fit.fixef()
    param = found.get("param", pd.Series("mu", index=found.index))
    for ours, part in (("mu", "cond"), ("zi", "zi"), ("hu", "zi")):
        rows = found[param == ours]
        if len(rows):
            theirs = list(peer["fixef"][part].values())
            estimates = sorted(value["estimate"] for value in theirs)
            errors = sorted(value["se"] for value in theirs)
            np.testing.assert_allclose(sorted(rows["estimate"]), estimates, rtol=2e-3, atol=2e-3)
            np.testing.assert_allclose(sorted(rows["std_error"]), errors, rtol=0.01)


@pytest.mark.usefixtures("shared_data")
@pytest.mark.parametrize(("label", "formula"), [
    ("zinb2_zi1", [SPECIES, "zi ~ 1"]),
    ("zinb2_disp_mined", [SPECIES, "zi ~ mined", "alpha ~ mined"]),
])  # fmt: skip
def test_inflation_that_is_not_needed_runs_to_its_limit(label, formula, reference):
    """And is said to; the likelihood is the peer's, which stopped on the way."""
    case = "fam_salamanders_zi" if label == "zinb2_zi1" else "fam_salamanders_disp"
    peer = next(fit for fit in reference(case)["fits"] if fit["label"] == label)
    with pytest.warns(gb.ConvergenceWarning, match="zi"):
        fit = gb.Model(formula, salamanders(), "zero_inflated_negbinomial").fit("ml")
    assert fit.loglik == pytest.approx(peer["logLik"], abs=1e-4)


# Log likelihoods by glmmTMB 1.1.5 in R 4.2.2, run for these tests.
GLMMTMB = [
    (["SiblingNegotiation ~ FoodTreatment + cArr + offset(logBroodSize) + (1 | Nest)",
      "zi ~ FoodTreatment + (1 | Nest)"], "zero_inflated_negbinomial", False, -1656.60011786),
    (NEST, "truncated_nbinom1", True, -1350.61813277),
    (NEST, "truncated_poisson", True, -1651.05781358),
    (NEST, "truncated_negbinomial", True, -1357.02977555),
    (NEST, "truncated_genpois", True, -1353.47894329),
    (NEST, "zero_inflated_genpois", False, -1679.55475151),
    ("w | trials(n20) ~ FoodTreatment + (1 | Nest)", "zero_inflated_binomial", False,
     -2479.4106291),
    ("w | trials(n20) ~ FoodTreatment + (1 | Nest)", "zero_inflated_beta_binomial", False,
     -1605.15741433),
    ("share ~ FoodTreatment + (1 | Nest)", "ordbeta", False, -503.257766621),
    ("z ~ FoodTreatment + (1 | Nest)", "zero_inflated_beta", False, -291.650348056),
    (["SiblingNegotiation ~ FoodTreatment + (1 | Nest)", "hu ~ FoodTreatment"], "hurdle_gamma",
     False, -1687.83405574),
]  # fmt: skip


@pytest.mark.usefixtures("shared_data")
@pytest.mark.parametrize(("formula", "family", "positive", "loglik"), GLMMTMB)
def test_likelihood_is_that_of_glmmtmb(formula, family, positive, loglik):
    fit = gb.Model(formula, owls(positive=positive), family).fit("ml")
    assert fit.converged
    assert fit.loglik == pytest.approx(loglik, abs=1e-5)


@pytest.mark.usefixtures("shared_data")
def test_a_dispersion_formula_of_genpois_is_glmmtmbs():
    fit = gb.Model([MINED, "phi ~ mined"], salamanders(), "genpois").fit("ml")
    assert fit.loglik == pytest.approx(-861.096333037, abs=1e-5)
    expected = [-1.39196767989, 2.14746607028, 0.930772657474, 0.575338350644]
    np.testing.assert_allclose(fit.fixef()["estimate"], expected, atol=2e-4)


@pytest.mark.usefixtures("shared_data")
def test_cutpoints_of_ordbeta_are_glmmtmbs():
    """Which gives the cutpoints as probabilities."""
    fit = gb.Model("share ~ FoodTreatment + (1 | Nest)", owls(), "ordbeta").fit("ml")
    zero = fit.predict(kind="param:cutzero")["estimate"].iloc[0]
    gap = fit.predict(kind="param:cutgap")["estimate"].iloc[0]
    cuts = stats.logistic.cdf([zero, zero + gap])
    np.testing.assert_allclose(cuts, [0.206380162989, 0.851785993901], atol=1e-4)


# ---- every verb and the parts of the mean


@pytest.mark.usefixtures("shared_data")
class TestVerbs:
    @pytest.fixture
    def fit(self) -> Any:
        return gb.Model([NEST, "zi ~ FoodTreatment"], owls(), "zero_inflated_negbinomial").fit("ml")

    def test_the_mean_includes_the_zeros(self, fit):
        mean, mu, zi = (
            fit.predict(kind=kind)["estimate"] for kind in ("mean", "param:mu", "param:zi")
        )
        np.testing.assert_allclose(mean, (1 - zi) * mu, rtol=1e-6)

    def test_simulated_zeros_are_as_many_as_are_predicted(self, fit):
        drawn = np.asarray(fit.simulate(200, seed=2))
        seen = (owls()["SiblingNegotiation"] == 0).mean()
        assert (drawn == 0).mean() == pytest.approx(seen, abs=0.03)

    def test_quantile_residuals_are_standard_normal(self, fit):
        residuals = fit.residuals("quantile", seed=3)
        assert abs(residuals.mean()) < 0.1
        assert residuals.std() == pytest.approx(1.0, abs=0.1)

    def test_residuals_of_zeros_among_continuous_responses_are_spread_out(self):
        formula = ["SiblingNegotiation ~ FoodTreatment + (1 | Nest)", "hu ~ FoodTreatment"]
        fit = gb.Model(formula, owls(), "hurdle_gamma").fit("ml")
        assert stats.kstest(fit.residuals("quantile", seed=1), "norm").statistic < 0.08


# ---- the combinators and their bases


@pytest.mark.parametrize("name", ["poisson", "negbinomial", "nbinom1", "genpois", "compois"])
def test_a_hurdle_is_a_truncated_count_or_zero(name):
    base = FAMILIES[name]
    y = np.arange(12.0)
    params = {p.name: np.array([0.7 + k]) for k, p in enumerate(base.parameters)}
    p = np.exp(base.logp(y, None, params))
    cut, with_hurdle, inflated = truncated(base), hurdle(base), zero_inflated(base)
    np.testing.assert_allclose(
        np.exp(cut.logp(y[1:], None, params)), p[1:] / (1 - p[0]), rtol=1e-10
    )
    share = np.array([0.3])
    found = np.exp(with_hurdle.logp(y, None, params | {"hu": share}))
    np.testing.assert_allclose(found, [0.3, *(0.7 * p[1:] / (1 - p[0]))], rtol=1e-10)
    found = np.exp(inflated.logp(y, None, params | {"zi": share}))
    np.testing.assert_allclose(found, [0.3 + 0.7 * p[0], *(0.7 * p[1:])], rtol=1e-10)
    assert cut.logp(np.zeros(1), None, params) == -np.inf


MADE = [n for n in FAMILIES if n.startswith(("zero_", "hurdle_", "truncated_"))] + ["ordbeta"]


@pytest.mark.parametrize("name", MADE)
def test_value_and_slope_are_finite_far_out(name):
    """At predictors of ±30 and counts of ten million, and at probabilities down to 1e-300."""
    family = FAMILIES[name]
    pool = [y for y in (0.0, 0.5, 1.0, 3.0, 1e7) if _fits(family, y)]
    spaces = [(-4.0, 4.0) if p.name in ("phi", "alpha", "sigma", "cutgap") else (-30.0, 30.0)
              for p in family.parameters[1:]]  # fmt: skip
    rows = np.array(list(product(pool, (-20.0, -1.0, 2.0, 12.0), *spaces))).T
    trials = np.full(rows.shape[1], 1e7) if family.needs_trials else None
    links = {p.name: LINKS[p.link] for p in family.parameters}
    found = expand(family, links, list(links), rows[0], trials, None, rows[1:], 1)
    # The generalised Poisson ends where it is underdispersed.
    there = np.isfinite(found.value)
    assert there.mean() > 0.7
    assert np.isfinite(found.first[:, there]).all()


def _fits(family, y):
    return family.problem(np.array([y]), np.array([1e7])) is None


@pytest.mark.parametrize("zi", [1e-300, 1e-12, 0.5, 1 - 1e-12])
def test_inflation_near_its_limits_keeps_its_digits(zi):
    """The density and its slope where no zero is a count's: exp(-700) of them."""
    family = FAMILIES["zero_inflated_poisson"]
    params = {"mu": np.array([700.0]), "zi": np.array([zi])}
    zero, some = np.zeros(1), np.full(1, 700.0)
    assert family.logp(zero, None, params)[0] == pytest.approx(np.log(zi + np.exp(-700.0)))
    other = np.log1p(-zi) + stats.poisson(700.0).logpmf(700)
    assert family.logp(some, None, params)[0] == pytest.approx(other, rel=1e-12)
    slopes = family.kernel[1](zero, None, params)
    assert slopes["zi"][0] == pytest.approx(1 / (zi + np.exp(-700.0)), rel=1e-9)


@pytest.mark.parametrize(
    ("name", "y", "position", "words"),
    [
        ("truncated_poisson", [1, 0, 2], 1, "at least 1"),
        ("hurdle_gamma", [0.0, 1.0, -2.0], 2, "positive"),
        ("hurdle_poisson", [0.0, 1.5], 1, "whole and not negative"),
        ("zero_inflated_beta", [0.0, 0.3, 1.0], 2, "strictly between 0 and 1"),
        ("ordbeta", [0.0, 1.0, 1.2], 2, "between 0 and 1"),
        ("skellam", [-3.0, 0.5], 1, "whole"),
    ],
)
def test_problem_says_where_and_what(name, y, position, words):
    at, text = FAMILIES[name].problem(np.array(y), None)
    assert at == position
    assert words in text
