"""Ranks of known parameters among draws around the mode are uniform; and Geweke's test."""

import warnings
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
from scipy import stats

import glmm_bayes as gb
from glmm_bayes.engine.around.walk import Chain, Target
from glmm_bayes.engine.polynomials.surrogate import fit_surrogate
from glmm_bayes.posthoc.target import find_around, read_target
from glmm_bayes.verbs.recovery_table import miscovered, not_uniform

STUDY = run_path(str(Path(__file__).resolve().parents[1] / "docs" / "calibration_study.py"))
PRIORS, model_of = STUDY["PRIORS"], STUDY["model_of"]
QUIET = {"progressbar": False}


@pytest.mark.slow
@pytest.mark.parametrize("terms", STUDY["TERMS"])
@pytest.mark.parametrize("family", STUDY["OWN"])
def test_ranks_are_uniform(family, terms):
    check = gb.check_recovery(
        model_of(family, terms), 500, method="posthoc", seed=1, n_jobs=2, draws=250, **QUIET
    )
    assert (check.replicates["status"] != "failed").all(), check.text()
    assert not len(not_uniform(check.table)), check.text()
    assert not list(miscovered(check.table)), check.text()


def test_data_drawn_anew_at_every_step_leave_the_prior():
    """
    Draw parameters given data and data given parameters in turn: parameters follow the prior.

    Geweke (2004), J. American Statistical Association 99, 799-804. Each chain is a few steps from
    a draw of the prior, so that its end is a draw of the prior too, if the steps are right.
    """
    rng = np.random.default_rng(4)
    model = model_of("poisson", "intercepts")
    prior = model.prior_predictive(400, seed=5)
    y = prior["prior_predictive"]["y"].to_numpy().reshape(-1, 64)
    sd = prior["prior"]["sd_g"].to_numpy().ravel()
    beta = prior["prior"]["beta"].to_numpy().reshape(-1, 2)
    b = prior["prior"]["b_g"].to_numpy().reshape(-1, 8)
    ends = []
    for k in np.flatnonzero(y.max(axis=1) < 200)[:150]:
        frame = model.data.assign(y=y[k])
        again = gb.Model("y ~ x + (1 | g)", frame, "poisson", priors=PRIORS)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            target = read_target(again)
            around = find_around(target)
            surrogate = fit_surrogate(target, around.psi, around.axes, tolerance=0.2)
            chain = Chain(
                Target(around.settings, around.axes, surrogate), rng, warm=0, draws=6,
                keep=lambda *_: None,
            )  # fmt: skip
            chain.state = _at(chain, around, np.log(sd[k]), beta[k], b[k], surrogate)
            chain.advance(6)
        state = chain.state
        ends.append([np.exp(state.psi[0]), *state.at.gamma])
    found = np.array(ends)
    # At the columns' means, which are 0: gamma is beta. Data too large were left out of both.
    kept = np.flatnonzero(y.max(axis=1) < 200)[:150]
    start = np.column_stack([sd, beta])[kept]
    for before, after in zip(start.T, found.T, strict=True):
        change = after - before
        # Paired: the mean does not move.
        assert abs(change.mean()) < 4.5 * change.std() / np.sqrt(len(change))
        assert stats.ks_2samp(before, after).pvalue > 1e-4


def _at(chain, around, log_sd, beta, b, surrogate):
    """Put a chain where the data were made: at given parameters and effects."""
    from glmm_bayes.engine.around.walk import State

    psi = np.array([log_sd])
    setting = around.settings(psi[None])(0)
    # The map from normals is affine: solve for the normals that lead to the effects.
    (G, k), Q = setting.shapes
    system = around.problem.system

    def reached(z):
        at = setting.place(setting.part(z[: G * k].reshape(G, k)), z[G * k :])
        return np.concatenate([system.from_blocks(*at.u), at.gamma])

    origin = reached(np.zeros(G * k + Q))
    A = np.column_stack([reached(e) - origin for e in np.eye(G * k + Q)])
    wanted = np.concatenate([b / np.exp(log_sd), beta])
    z = np.linalg.solve(A, wanted - origin)
    z1, z2 = z[: G * k].reshape(G, k), z[G * k :]
    log_proposal = float(surrogate.log_density(psi[None])[0])
    return State(psi, log_proposal, setting, z1, z2, setting.place(setting.part(z1), z2))
