"""Maximum likelihood and REML against fits by lme4, glmmTMB and nlme."""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from estimates import Estimates, ours, theirs
from references import FITS, NO_RESIDUAL, Fit

import glmm_bayes as gb


def fitted(case: Fit) -> Any:
    """Fit ours; only a singular fit may be warned of."""
    model = case.model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gb.SingularFitWarning)
        return model.fit(case.method, seed=1)


def peers_fit(case: Fit, reference: Any) -> dict[str, Any]:
    return next(fit for fit in reference(case.case)["fits"] if fit["label"] == case.label)


def inflated(case: Fit, peer: Mapping[str, Any]) -> float:
    """Give what nlme multiplies standard errors by where it maximises the likelihood."""
    if peer["package"] != "nlme" or peer["REML"]:
        return 1.0
    n = peer["n_obs"]
    return float(np.sqrt(n / (n - len(peer["fixef"]))))


def differences(case: Fit, us: Estimates, them: Estimates, inflation: float) -> Iterator[str]:
    """Tell in which estimates two fits differ."""
    slack = 10.0 if case.coarse else 1.0
    for key, theirs_ in them.beta.items():
        error = them.beta_errors.get(key) or us.beta_errors[key]
        allowed = slack * min(1e-3 * max(1.0, abs(theirs_)), 0.01 * error)
        if not abs(us.beta[key] - theirs_) <= allowed:
            yield f"{key}: {us.beta[key]}, theirs {theirs_}"
    for key, error in them.beta_errors.items():
        if "beta_errors" not in case.unlike and error is not None:
            ratio = us.beta_errors[key] * inflation / error
            if not abs(ratio - 1) <= (0.02 if case.coarse else 0.01):
                yield f"standard error of {key}: {us.beta_errors[key]}, theirs {error}"
    for name in ("sd", "corr", "constants"):
        mine, other = getattr(us, name), getattr(them, name)
        for key, value in other.items():
            allowed = slack * max(1e-3 * abs(value), 2e-4)
            if name == "corr" and value == 0 and key not in mine:
                continue
            if not abs(mine[key] - value) <= allowed:
                yield f"{name} of {key}: {mine[key]}, theirs {value}"


@pytest.mark.usefixtures("shared_data")
@pytest.mark.parametrize("case", FITS, ids=lambda case: case.name)
def test_fit_agrees_with_the_peer(case, reference):
    peer = peers_fit(case, reference)
    fit = fitted(case)
    assert fit.converged
    assert np.abs(fit.gradient).max(initial=0.0) < 1e-4
    us, them = ours(fit), theirs(case, peer)
    assert set(us.beta) == set(them.beta)
    assert set(them.sd) <= set(us.sd)
    assert set(them.constants) <= set(us.constants)
    gap = us.loglik - them.loglik
    assert gap > -1e-4
    if not case.better:
        assert gap < (2e-3 if case.coarse else 1e-4)
        found = list(differences(case, us, them, inflated(case, peer)))
        assert not found, "\n".join(found)
    if peer.get("singular") is not None:
        assert fit.is_singular == peer["singular"]


@pytest.mark.usefixtures("shared_data")
@pytest.mark.parametrize("case", NO_RESIDUAL, ids=lambda case: case.name)
def test_likelihood_where_sigma_is_held_next_to_zero(case, reference):
    with warnings.catch_warnings():
        # So near to zero the curvature is lost in rounding, which is said.
        warnings.simplefilter("ignore", gb.ConvergenceWarning)
        fit = case.model().fit(case.method, seed=1)
    them = theirs(case, peers_fit(case, reference))
    assert fit.loglik == pytest.approx(them.loglik, abs=1e-4)


VCOV = [case for case in FITS if case.case == "mode_full_vcov" and case.label != "sleepstudy"]


@pytest.mark.usefixtures("shared_data")
@pytest.mark.parametrize("case", VCOV, ids=lambda case: case.label)
def test_joint_covariance_with_the_standard_deviations(case, reference):
    """glmmTMB's covariance of the coefficients and of the logarithms of standard deviations."""
    fit = fitted(case)
    model, mode = fit.model, fit.mode
    means = model.means("mu")
    to_beta = np.eye(len(means))
    to_beta[0] -= means
    scale = np.zeros((len(mode.x), len(mode.x)))
    k = len(means)
    scale[:k, :k] = to_beta
    scale[range(k, len(mode.x)), range(k, len(mode.x))] = 1 / mode.x[k:]
    found = scale @ mode.covariance @ scale.T
    full = reference("mode_full_vcov")["full"][case.label]
    expected = np.array(full["matrix"])
    errors = np.sqrt(np.diag(expected))
    np.testing.assert_allclose(
        found / np.outer(errors, errors), expected / np.outer(errors, errors), atol=5e-3
    )


# ---- fits at an edge


def quiet(model: gb.Model, method: str = "ml") -> Any:
    with pytest.warns(gb.SingularFitWarning):
        return model.fit(method, seed=1)


@pytest.mark.usefixtures("shared_data")
@pytest.mark.parametrize(
    ("label", "term"),
    [
        ("glmm_gopher_singular-lme4_Laplace", "Site"),
        ("lmm_dyestuff2_singular-lme4_REML", "Batch"),
        ("lmm_dyestuff2_singular-lme4_ML", "Batch"),
        ("talk_coral_acr-lme4_Laplace_full", "PR"),
        ("talk_coral_acr-lme4_Laplace_red1", "PR"),
        ("phylo_comm_binary-lme4_Laplace_no_phylogeny", "site"),
        ("fam_cbpp_betabinomial-betabinomial_herd", "herd"),
    ],
)
def test_a_variance_of_zero_is_exactly_zero(label, term):
    (case,) = [case for case in FITS if case.name == label]
    fit = quiet(case.model(), case.method)
    assert fit.mode.Lambdas[term] == 0.0
    assert [part.term for part in fit.singular] == [term]


@pytest.mark.usefixtures("shared_data")
def test_a_perfect_correlation_is_exactly_one():
    (case,) = [case for case in FITS if case.name == "cov_tundra_car1-lme4_ML_weights"]
    fit = quiet(case.model())
    L = fit.mode.Lambdas["Site"]
    assert L[1, 1] == 0.0
    assert L[0, 0] * L[1, 0] < 0


def test_negative_between_group_correlation_ends_at_zero():
    """Within every group the residuals cancel: a closed form, sigma^2 = y'y / n at sd = 0."""
    y = np.tile([-1.0, 1.0], 10)
    data = {"y": y, "g": np.repeat([f"g{k}" for k in range(10)], 2)}
    fit = quiet(gb.Model("y ~ 1 + (1 | g)", pd.DataFrame(data)))
    assert fit.mode.Lambdas["g"] == 0.0
    assert fit.loglik == pytest.approx(-0.5 * 20 * (np.log(2 * np.pi) + 1), abs=1e-10)
