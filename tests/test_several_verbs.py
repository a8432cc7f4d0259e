"""Verbs of several responses: what they say of independent ones is what separate fits say."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import glmm_bayes as gb
from glmm_bayes.verbs.resampled import problems_of

FAMILIES = {"y": "gaussian", "c": "poisson", "s": "binomial"}
FORMULAS = {"y": "y ~ x + (1 | g)", "c": "c ~ z + (1 | g)", "s": "cbind(s, f) ~ x"}


@pytest.fixture(scope="module")
def data():
    rng, q = np.random.default_rng(1), 30
    g, x, z = np.repeat(np.arange(q), 6), rng.normal(size=6 * q), rng.normal(size=6 * q)
    b = rng.multivariate_normal([0, 0], [[0.5, 0.3], [0.3, 0.4]], q)
    s = rng.binomial(8, 1 / (1 + np.exp(-x)))
    table = pd.DataFrame({
        "g": [f"g{k:02d}" for k in g], "x": x, "z": z, "s": s, "f": 8 - s,
        "y": 1 + 0.5 * x + b[g, 0] + rng.normal(0, 0.7, 6 * q),
        "c": rng.poisson(np.exp(0.5 + 0.3 * z + b[g, 1])).astype(float),
    })  # fmt: skip
    table.loc[3:6, "c"] = np.nan
    table.loc[20:22, "y"] = np.nan
    return table


def separate(data, label):
    own = data.dropna(subset=label)
    return gb.Model(FORMULAS[label], own, family=FAMILIES[label]).fit("ml", seed=1)


@pytest.fixture(scope="module")
def joint(data):
    formulas = [*FORMULAS.values(), "rescor ~ 0"]
    return gb.Model(formulas, data, family=FAMILIES).fit("ml", seed=1)


@pytest.fixture(scope="module")
def apart(data):
    return {label: separate(data, label) for label in FORMULAS}


@pytest.mark.parametrize("kind", ["nakagawa", "gelman"])
def test_r2_is_that_of_separate_fits(joint, apart, kind):
    found = joint.r2(kind)
    assert list(dict.fromkeys(found["response"])) == list(FORMULAS)
    for label, fit in apart.items():
        own = found[found["response"] == label].drop(columns="response")
        np.testing.assert_allclose(own["estimate"], fit.r2(kind)["estimate"], atol=1e-6)
        np.testing.assert_allclose(own["std_error"], fit.r2(kind)["std_error"], rtol=0.01)


def test_icc_is_that_of_separate_fits(joint, apart):
    found = joint.icc()
    # The third response has no effects, so that nothing lies between groups.
    assert list(found["response"]) == ["y", "c"]
    for label in ("y", "c"):
        own = found[found["response"] == label]["estimate"]
        np.testing.assert_allclose(own, apart[label].icc()["estimate"], atol=1e-6)


def test_icc_needs_effects_in_a_mean(data):
    fit = gb.Model(["y ~ x", "x ~ z", "rescor ~ 0"], data).fit("ml")
    with pytest.raises(gb.NotSupportedError, match="no random term in the mean"):
        fit.icc()


def test_refits_to_simulated_responses_are_separate_fits(joint, data):
    Y = joint.simulate(1, seed=3)[0].to_numpy()
    again = joint.refit(Y)
    parts = [separate(data.assign(y=Y[:, 0]), "y"), separate(data.assign(c=Y[:, 1]), "c"),
             separate(data.assign(s=Y[:, 2], f=8 - Y[:, 2]), "s")]  # fmt: skip
    assert again.loglik == pytest.approx(sum(part.loglik for part in parts), abs=1e-6)
    with pytest.raises(gb.DataError, match="one number for each and response"):
        joint.refit(Y[:, 0])


def test_refitting_the_same_responses_changes_nothing(joint):
    assert joint.refit(joint.model.design.y).loglik == pytest.approx(joint.loglik, abs=1e-7)


def test_what_rows_lack_replicates_lack(joint):
    source = gb.bootstrap(joint, n=3, seed=1, progressbar=False)
    assert (source.status == "fitted").all()
    Y = np.tile(joint.model.design.y, (2, 1, 1))
    assert problems_of(joint.model, Y) == ["", ""]
    Y[0, 0, 0] = np.inf
    assert problems_of(joint.model, Y) == ["a response is not finite", ""]


def test_bootstrap_of_correlated_effects_spreads_as_the_standard_errors_say(data):
    """Of 30 levels about as much; the correlation's sign and size are recovered."""
    formulas = ["y ~ x + (1 |p| g)", "c ~ z + (1 |p| g)", "rescor ~ 0"]
    fit = gb.Model(formulas, data, family={"y": "gaussian", "c": "poisson"}).fit("ml", seed=1)
    found = fit.confint(method="bootstrap", nsim=60, seed=2)
    wald = fit.confint()
    slopes = ["mu_y:x", "mu_c:z"]
    width = (found["upper"] - found["lower"]) / (wald["upper"] - wald["lower"])
    assert (np.abs(np.log(width[slopes])) < 0.5).all()
    corr = found.loc["corr_g[mu_y_Intercept, mu_c_Intercept]"]
    assert corr["lower"] < 0.3 / np.sqrt(0.2) < corr["upper"]


def test_restricted_likelihoods_are_bootstrapped_too(data):
    fit = gb.Model(["y ~ x + (1 | g)", "c ~ x + (1 | g)", "rescor ~ 0"], data).fit("reml", seed=1)
    found = gb.bootstrap(fit, n=4, seed=1, progressbar=False)
    assert (found.status == "fitted").all()
    assert np.isfinite(found.draws).all(axis=None)


def test_recovery_of_several_responses(joint):
    found = gb.check_recovery(joint.model, 3, method="ml", seed=1, source=joint, progressbar=False)
    assert "3 fitted" in str(found)


def test_figures_are_of_one_response(joint, apart):
    for label in FORMULAS:
        effects = joint.plot_effects(response=label)
        ours = effects.axes[0].lines[0].get_ydata() if effects.axes[0].lines else np.empty(0)
        theirs = apart[label].plot_effects().axes[0].lines[0].get_ydata()
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
        assert label in effects.axes[0].get_ylabel()
        residuals = joint.plot_residuals(response=label)
        assert label in residuals.axes[0].get_xlabel()
    assert len(joint.plot_residuals(response="y").axes[0].collections[0].get_offsets()) == 177
    plt.close("all")
