"""Evidence: closed forms, brute quadrature, and two ways beside each other."""

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.special import logsumexp
from scipy.stats import halfnorm, multivariate_normal, norm, poisson, t

import glmm_bayes as gb
from glmm_bayes.errors import ConvergenceError, DataError, NotSupportedError
from glmm_bayes.posthoc.evidence import evidence_around
from glmm_bayes.priors.constants import log_constant
from glmm_bayes.priors.formulas import Decomposed
from glmm_bayes.verbs.bridge import bridged, evidence_by_bridge

# Estimates have errors of their own, which are looked at here.
pytestmark = pytest.mark.filterwarnings("ignore::glmm_bayes.errors.ConvergenceWarning")

WIDE, SPREAD = 2.0, 1.5
INTERCEPT = gb.Prior("Normal", mu=0, sigma=WIDE)
SD = gb.Prior("HalfNormal", sigma=SPREAD)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"g": np.repeat([*"abcdef"], 4), "x": rng.normal(size=24)})
    level = rng.normal(size=6)[np.repeat(np.arange(6), 4)]
    frame["y"], frame["n"] = level + 0.5 * rng.normal(size=24), rng.poisson(np.exp(0.3 + level))
    frame["o"] = 1 + (frame["y"] > -0.5) + (frame["y"] > 0.5)
    return frame


def on_a_grid(log_density, first, second):
    """The log of a double integral, by the trapezoidal rule."""
    values = np.array([[log_density(a, b) for b in second] for a in first])
    inner = np.trapezoid(np.exp(values - values.max()), second, axis=1)
    return values.max() + np.log(np.trapezoid(inner, first))


def normal_evidence(data):
    """Of y ~ 1 + (1 | g), the standard deviations integrated on a grid of their logs."""
    same = np.equal.outer(data["g"].to_numpy(), data["g"].to_numpy())

    def log_density(log_sigma, log_sd):
        sigma, sd = np.exp(log_sigma), np.exp(log_sd)
        V = WIDE**2 + sd**2 * same + sigma**2 * np.eye(24)
        priors = halfnorm.logpdf(sd, scale=SPREAD) + np.log(2) + t.logpdf(sigma, 3)
        return multivariate_normal.logpdf(data["y"], np.zeros(24), V) + priors + log_sigma + log_sd

    return on_a_grid(log_density, np.linspace(-2, 1, 50), np.linspace(-7, 2.5, 80))


def counts_evidence(data):
    """Of n ~ 1 + (1 | g), each level by 60 nodes."""
    x, w = np.polynomial.hermite_e.hermegauss(60)
    log_w, n = np.log(w) - 0.5 * np.log(2 * np.pi), data["n"].to_numpy().reshape(6, 4)

    def log_density(b, log_sd):
        rate = np.exp(b + np.exp(log_sd) * x)
        levels = logsumexp(poisson.logpmf(n[:, :, None], rate).sum(axis=1) + log_w, axis=1)
        prior = norm.logpdf(b, 0, WIDE) + halfnorm.logpdf(np.exp(log_sd), scale=SPREAD)
        return levels.sum() + prior + log_sd

    return on_a_grid(log_density, np.linspace(-5, 4, 70), np.linspace(-8, 2, 80))


NORMAL = ("y ~ 1 + (1 | g)", "gaussian", {"sigma": gb.Prior("HalfStudentT", nu=3, sigma=1)})
COUNTS = ("n ~ 1 + (1 | g)", "poisson", {})


def model_of(case, data, **priors):
    formula, family, own = case
    given = {"beta[Intercept]": INTERCEPT, "sd_g": SD, **own, **priors}
    return gb.Model(formula, data, family, priors=given)


@pytest.mark.parametrize(
    ("case", "truth"), [(NORMAL, normal_evidence), (COUNTS, counts_evidence)], ids=["y", "n"]
)
def test_both_ways_are_the_brute_integral(data, case, truth):
    model, expected = model_of(case, data), truth(data)
    found = evidence_around(model, seed=1, draws=4000)
    assert found.error < 0.02
    assert found.value == pytest.approx(expected, abs=4 * found.error)
    fit = model.fit("posthoc", seed=1, progressbar=False)
    found = evidence_by_bridge(fit, seed=1)
    assert found.error < 0.1
    assert found.value == pytest.approx(expected, abs=4 * found.error)


def test_where_all_is_normal_it_is_exact(data):
    model = model_of(NORMAL, data, sd_g=1.0, sigma=0.5)
    same = np.equal.outer(data["g"].to_numpy(), data["g"].to_numpy())
    V = WIDE**2 + same + 0.25 * np.eye(24)
    expected = multivariate_normal.logpdf(data["y"], np.zeros(24), V)
    assert evidence_around(model, seed=1, draws=100).value == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(
    ("formula", "family", "priors"),
    [
        pytest.param(
            "y ~ x + (1 + x | g)",
            "gaussian",
            {"beta[x]": gb.Prior("StudentT", nu=4)},
            marks=pytest.mark.slow,
        ),
        ("o ~ x + (1 | g)", "cumulative", {}),
        (["y ~ x", "residual ~ ar1(t | g)"], "gaussian", {}),
        ("y ~ x + (1 | g) + (0 + x | g)", "gaussian",
         {"sd": gb.Prior.decomposed(gb.Prior("HalfNormal", sigma=2))}),
    ],
    ids=["slopes", "ordered", "residuals", "decomposed"],
)  # fmt: skip
def test_weights_and_bridges_agree(data, formula, family, priors):
    """One goes by the mode, the other by draws in other coordinates."""
    model = gb.Model(formula, data.assign(t=np.tile(np.arange(4.0), 6)), family, priors=priors)
    first = evidence_around(model, seed=1, draws=4000)
    second = evidence_by_bridge(model.fit("posthoc", seed=1, progressbar=False), seed=1)
    gap = 5 * np.hypot(first.error, second.error)
    assert first.value == pytest.approx(second.value, abs=gap)
    assert gap < 1


def test_the_table_says_which_model_the_data_speak_for(data):
    fit = model_of(NORMAL, data).fit("posthoc", seed=1, draws=200, progressbar=False)
    without = gb.Model("y ~ 1", data, priors={"beta[Intercept]": INTERCEPT, **NORMAL[2]}).fit(
        "posthoc", seed=1, draws=200, progressbar=False
    )
    found = fit.bayes_factor(without)
    assert list(found.index) == ["this", "other", "log_bf"]
    back = without.bayes_factor(fit)["estimate"]
    assert found.loc["log_bf", "estimate"] == pytest.approx(-back["log_bf"], abs=0.05)
    assert found.loc["this", "estimate"] == pytest.approx(normal_evidence(data), abs=0.05)
    assert found.loc["this", "by"].startswith("importance sampling around the mode, Pareto k")


@pytest.mark.slow
def test_effects_that_are_not_normal_are_bridged(data):
    priors = {"beta[Intercept]": INTERCEPT, "sd_g": SD, "nu_g": 5.0}
    fit = gb.Model("n ~ 1 + (1 | g, dist='student')", data, "poisson", priors=priors).fit(
        "nuts", seed=1, draws=500, tune=500, target_accept=0.95, progressbar=False
    )
    found = fit.bayes_factor(fit)
    x, scale = np.linspace(-40, 40, 4001), np.sqrt(3 / 5)
    n = data["n"].to_numpy().reshape(6, 4)

    def log_density(b, log_sd):
        with np.errstate(all="ignore"):
            rows = poisson.logpmf(n[:, :, None], np.exp(b + np.exp(log_sd) * x)).sum(axis=1)
        levels = logsumexp(np.nan_to_num(rows, nan=-np.inf) + t.logpdf(x, 5, scale=scale), axis=1)
        levels = levels + np.log(x[1] - x[0])
        prior = norm.logpdf(b, 0, WIDE) + halfnorm.logpdf(np.exp(log_sd), scale=SPREAD)
        return levels.sum() + prior + log_sd

    expected = on_a_grid(log_density, np.linspace(-4, 3, 30), np.linspace(-6, 2, 35))
    assert found.loc["this", "by"] == "bridge sampling of 8 dimensions"
    assert found.loc["this", "estimate"] == pytest.approx(expected, abs=0.15)


# ---- the parts


@pytest.mark.parametrize(
    "prior",
    [
        gb.Prior("HalfStudentT", nu=3, sigma=2.5),
        gb.Prior("Truncated", dist=gb.Prior("Normal", mu=0, sigma=1), lower=0.5),
        gb.Prior("Uniform", lower=-1, upper=3),
        gb.Prior("InverseGamma", alpha=3, beta=2),
        gb.Prior("SkewNormal", mu=0.0, sigma=1.0, alpha=2.0),
    ],
    ids=repr,
)
def test_with_their_constants_priors_integrate_to_one(prior):
    constant = log_constant(prior)
    mass, _ = quad(lambda x: float(np.exp(prior.core(np.array([x]))[0] + constant)), *prior.support)
    assert mass == pytest.approx(1, abs=1e-6)


def test_a_shared_total_integrates_to_one():
    form = Decomposed(SD, np.array([0.7, 1.3]), np.array([1.0, 2.0]))
    a, b = np.linspace(-16, 2.2, 500), np.linspace(-16, 2.2, 500)
    log_sd = np.stack(np.meshgrid(a, b, indexing="ij"), axis=-1)
    density = np.exp(form.core(np.exp(log_sd))[..., 0] + log_constant(form) + log_sd.sum(axis=-1))
    assert np.trapezoid(np.trapezoid(density, b, axis=1), a) == pytest.approx(1, abs=1e-3)


def test_a_bridge_finds_the_integral_of_a_normal_from_correlated_draws():
    rng, d = np.random.default_rng(4), 4
    x = np.zeros((4, 3000, d))
    noise = rng.standard_normal(x.shape)
    for k in range(1, x.shape[1]):
        x[:, k] = 0.6 * x[:, k - 1] + 0.8 * noise[:, k]
    shift = np.array([1.0, -2.0, 0.0, 3.0])
    found, error = bridged(
        x + shift, lambda points: 7.0 - 0.5 * np.square(points - shift).sum(axis=1), 1
    )
    assert error < 0.05
    assert found == pytest.approx(7.0 + 0.5 * d * np.log(2 * np.pi), abs=4 * error + 1e-3)
    with pytest.raises(ConvergenceError, match="too few to bridge 4 dimensions; use at least 40"):
        bridged(x[:1, :20], lambda points: np.zeros(len(points)), 1)


def test_what_has_no_bayes_factor_is_refused(data):
    fit = model_of(NORMAL, data).fit("posthoc", seed=1, draws=100, progressbar=False)
    with pytest.raises(DataError, match="the other is by 'ml'; use sample"):
        fit.bayes_factor(fit.model.fit("ml"))
    fewer = model_of(NORMAL, data.iloc[1:]).fit("posthoc", seed=1, draws=100, progressbar=False)
    with pytest.raises(DataError, match="24 rows and 'the other' 23"):
        fit.bayes_factor(fewer)
    with pytest.raises(NotSupportedError, match="has no finite mass"):
        log_constant(gb.Prior("Flat"))
