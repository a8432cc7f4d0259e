"""fit("posthoc"): against brute force, its verdicts, its other ways, and what it says."""

import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest
from truth import cbpp_posterior, moments, separated, separated_posterior

import glmm_bayes as gb
from glmm_bayes.errors import ConvergenceError, ConvergenceWarning, NotSupportedError
from glmm_bayes.posthoc import sampling
from glmm_bayes.posthoc.sampling import Plan
from glmm_bayes.posthoc.weighed import Weights
from glmm_bayes.verbs.tables import reliability

CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
QUIET = {"progressbar": False}


@cache
def cbpp():
    return gb.Model(CBPP, gb.load_dataset("cbpp"), "binomial")


def agrees(fit, truth=cbpp_posterior):
    """Compare with what the brute force has: coefficients, and the logarithm of the only sd."""
    (sd,) = (value for name, value in fit.draws.theta.items() if name.startswith("sd_"))
    x = np.column_stack([fit.draws.beta["mu"], np.log(sd)])
    ess = reliability(x, fit.draws.chains)["ess_bulk"]
    mean, sd, effective = moments(*truth())
    error = sd * np.sqrt(1 / ess + 1 / effective)
    assert np.all(np.abs(x.mean(axis=0) - mean) < 4.5 * error)
    # Of a standard deviation, with room for tails heavier than a normal's.
    assert np.all(np.abs(x.std(axis=0) / sd - 1) < 4.5 * np.sqrt(1.5 / ess + 1.5 / effective))


def test_the_truth_itself_is_well_known():
    assert moments(*cbpp_posterior())[2] > 5000


def test_small_models_draw_everything_at_once():
    fit = cbpp().fit("posthoc", seed=2, **QUIET)
    assert "acceptance_rate" in fit.statistics
    agrees(fit)


@pytest.mark.parametrize("plan", [Plan(True, 0), Plan(True, 2), Plan(False, 0), Plan(False, 2)])
def test_chains_of_moves_agree(plan, monkeypatch):
    monkeypatch.setattr(sampling, "are_drawn_at_once", lambda around: False)
    surveyed = sampling.Surveyed(cbpp(), None, 3)
    monkeypatch.setattr(sampling, "POOR", 0.0)
    settings = sampling.Settings(3, 1000, 100, 4, 1, False)
    with np.errstate(all="ignore"):
        first = surveyed.prepared(plan)
        used, chains = sampling.draw_exactly(surveyed, first, settings)
        found, statistics = chains.named(used.around.target)
    assert used.plan == plan
    assert "acceptance_rate_levels" in statistics
    fit = gb.PosteriorFit(
        cbpp(), lambda: None, "posthoc", 3, 0.0, draws=found, statistics=statistics
    )
    agrees(fit)


def test_weighed_draws_agree_and_say_how_good_they_are():
    fit = cbpp().fit("posthoc", exact=False, fallback=False, seed=4, **QUIET)
    agrees(fit)
    notes = fit.statistics.attrs["notes"]
    assert "Pareto k" in notes
    assert "effective of 4000 weighed draws" in notes
    assert "stand for the posterior" in notes


@pytest.mark.filterwarnings("ignore::glmm_bayes.errors.ConvergenceWarning")  # few draws of effects
def test_a_skewed_posterior_is_drawn_to_its_tails():
    """Mean and mode are far apart; independent draws lack tails, which moves have to reach."""
    normal, half = gb.Prior("Normal", mu=0, sigma=10), gb.Prior("HalfNormal", sigma=5)
    priors = {"intercept": normal, "beta": normal, "sd": half}
    model = gb.Model("eaten ~ treated + (1 | block)", separated(), "bernoulli", priors=priors)
    fit = model.fit("posthoc", seed=2, **QUIET)
    agrees(fit, separated_posterior)
    assert moments(*separated_posterior())[2] > 4000
    assert "biased here" in fit.statistics.attrs["notes"]


def test_a_bad_verdict_leads_to_chains(monkeypatch):
    monkeypatch.setattr("glmm_bayes.posthoc.weighed.RELIED_ON", -10.0)
    fit = cbpp().fit("posthoc", exact=False, seed=4, **QUIET)
    assert "exact Metropolis-Hastings" in fit.statistics.attrs["notes"]
    left = cbpp().fit("posthoc", exact=False, fallback=False, seed=4, **QUIET)
    assert "exact Metropolis-Hastings" not in left.statistics.attrs["notes"]


def test_weights_rise_with_the_log_weight():
    x = 2 * np.random.default_rng(0).normal(size=4000)
    log_weight = -0.5 * x**2 + 0.5 * (x / 2) ** 2
    weights = Weights(log_weight)
    w = weights.smoothed
    assert weights.pareto_k < 0.5
    assert weights.reliable
    assert np.sqrt(w @ x**2) == pytest.approx(1.0, abs=4.5 / np.sqrt(4000))
    assert np.all(np.diff(w[np.argsort(log_weight)]) >= -1e-12)


# ---- models of every shape


def few(seed=5):
    rng = np.random.default_rng(seed)
    g, x = np.repeat(np.arange(8), 8), rng.normal(size=64)
    b = 0.6 * rng.normal(size=8)
    y = rng.poisson(np.exp(0.8 + 0.3 * x + b[g]))
    return pd.DataFrame({"y": y, "x": x, "g": g.astype(str)})


SHAPES = {
    "no random term": ("y ~ x", {}),
    "standard deviation held": ("y ~ x + (1 | g)", {"sd_g": 0.5}),
    "no coefficient": ("y ~ 0 + (1 | g)", {}),
    "a coefficient held": ("y ~ x + (1 | g)", {"beta[x]": 0.3}),
    "bounded": (
        "y ~ x + (1 | g)",
        {
            "beta[x]": gb.Prior("HalfNormal", sigma=1.0),
            "sd_g": gb.Prior("Uniform", lower=0.0, upper=2.0),
        },
    ),
    "slopes": ("y ~ x + (1 + x | g)", {}),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_drawn(shape):
    formula, priors = SHAPES[shape]
    model = gb.Model(formula, few(), "poisson", priors=priors)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # what is held has no R-hat
        fit = model.fit("posthoc", draws=250, seed=1, **QUIET)
    assert fit.draws.size == 1000
    if shape == "bounded":
        assert fit.draws.beta["mu"][:, 1].min() > 0
        assert fit.draws.theta["sd_g"].max() < 2
    if shape == "a coefficient held":
        assert np.all(fit.draws.beta["mu"][:, 1] == 0.3)


def test_names_and_dimensions_are_those_of_nuts():
    options = {"draws": 100, "seed": 1, **QUIET}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        ours, theirs = cbpp().fit("posthoc", **options), cbpp().fit("nuts", **options)
    a, b = ours.idata["posterior"], theirs.idata["posterior"]
    assert {n: v.dims for n, v in a.data_vars.items()} == {
        n: v.dims for n, v in b.data_vars.items()
    }
    assert set(ours.idata.children) == set(theirs.idata.children)


@pytest.mark.filterwarnings("ignore::glmm_bayes.errors.ConvergenceWarning")  # few draws
def test_seeds_reproduce_with_any_number_of_cores(monkeypatch):
    monkeypatch.setattr(sampling, "are_drawn_at_once", lambda around: False)
    monkeypatch.setattr("glmm_bayes.posthoc.chains.LARGE", 0)
    fits = [
        cbpp().fit("posthoc", draws=200, seed=7, cores=cores, **QUIET).draws for cores in (1, 2, 1)
    ]
    for other in fits[1:]:
        np.testing.assert_array_equal(fits[0].beta["mu"], other.beta["mu"])
        np.testing.assert_array_equal(fits[0].effects["herd"], other.effects["herd"])


def test_an_interrupted_run_keeps_what_it_has(monkeypatch):
    monkeypatch.setattr(sampling, "are_drawn_at_once", lambda around: False)
    from glmm_bayes.engine.around.walk import Chain

    advance = Chain.advance

    def stopped(self):
        if self.kept >= 75:
            raise KeyboardInterrupt
        advance(self)

    monkeypatch.setattr(Chain, "advance", stopped)
    with pytest.warns(ConvergenceWarning, match="Interrupted: each chain has 75 of the 1000"):
        fit = cbpp().fit("posthoc", seed=1, **QUIET)
    assert fit.draws.size == 300
    assert "Interrupted" in fit.diagnostics().problems[0]


def test_a_maximum_leads_to_the_same_posterior():
    maximum = cbpp().fit("ml")
    fit = maximum.sample(seed=8, **QUIET)
    assert fit.method == "posthoc"
    agrees(fit)


# ---- what else is done, and what is refused


def test_nuts_draws_where_chains_do_not_agree(monkeypatch):
    def disagree(*_):
        raise ConvergenceError("the chains do not agree: R-hat 2.00")

    monkeypatch.setattr("glmm_bayes.inference.posthoc.draw_exactly", disagree)
    with pytest.warns(ConvergenceWarning, match="drawn by nuts instead"):
        fit = cbpp().fit("posthoc", draws=400, seed=1, **QUIET)
    assert fit.method == "nuts"
    with pytest.raises(ConvergenceError, match="do not agree"):
        cbpp().fit("posthoc", draws=400, seed=1, fallback=False, **QUIET)


def test_a_density_that_differs_is_refused(monkeypatch):
    from glmm_bayes.engine.around.whitened_blocks import Blocks

    place = Blocks.place

    def wrong(self, part, z2):
        at = place(self, part, z2)
        at.values[0] += at.eta[0, 0]
        return at

    monkeypatch.setattr(Blocks, "place", wrong)
    with pytest.raises(NotSupportedError, match=r"differ by .* between draws"):
        cbpp().fit("posthoc", fallback=False, **QUIET)


@pytest.mark.parametrize("option", [{"draws": 0}, {"chains": 1.5}, {"seed": -1}])
def test_options_are_checked(option):
    with pytest.raises(gb.UnknownNameError, match="must be a whole number"):
        cbpp().fit("posthoc", **option, **QUIET)


@pytest.mark.filterwarnings("ignore::glmm_bayes.errors.ConvergenceWarning")  # few draws
def test_a_fit_is_kept_and_changed(tmp_path):
    fit = cbpp().fit("posthoc", draws=200, seed=9, **QUIET)
    fit.save(tmp_path / "fit")
    again = gb.load(tmp_path / "fit")
    np.testing.assert_allclose(again.draws.beta["mu"], fit.draws.beta["mu"])
    assert again.statistics.attrs["notes"] == fit.statistics.attrs["notes"]
    assert fit.update(draws=150, seed=1).draws.size == 600
    assert len(fit.predict()) == 56
