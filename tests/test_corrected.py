"""The rows as a normal response about the mean: against bounds and integrals by hand."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import expit, gammaln

import glmm_bayes as gb
from glmm_bayes.engine.around import corrected
from glmm_bayes.engine.around.corrected import correct
from glmm_bayes.posthoc.target import read_target

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(60)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
SD, SLOPE, INTERCEPT = 1.5, 1.0, 2.0  # of effects; of the priors of slope and intercept


def table(seed=1, groups=3, rows=5, rare=0.0):
    rng = np.random.default_rng(seed)
    g, x = np.repeat(np.arange(groups), rows), rng.normal(size=groups * rows)
    eta = 0.4 * x + rng.normal(0, SD, groups)[g] - rare
    return pd.DataFrame(
        {
            "g": g.astype(str),
            "x": x,
            "poisson": rng.poisson(np.exp(0.5 * eta)),
            "bernoulli": (rng.random(len(x)) < expit(eta)).astype(int),
        }
    )


LOG_DENSITY = {
    "poisson": lambda y, eta: y * eta - np.exp(eta) - gammaln(y + 1),
    "bernoulli": lambda y, eta: y * eta - np.logaddexp(0, eta),
}


@dataclass(frozen=True, eq=False)
class ByHand:
    """A model's rows, columns and priors, written out: effects in standard units, coefficients."""

    family: str
    data: pd.DataFrame

    @cached_property
    def y(self):
        return self.data[self.family].to_numpy(float)

    @cached_property
    def columns(self):
        level = pd.factorize(self.data["g"])[0]
        x = self.data["x"].to_numpy()
        Z = SD * (level[:, None] == np.arange(level.max() + 1))
        return np.column_stack([Z, np.ones(len(x)), x - x.mean()])

    @property
    def size(self):
        return self.columns.shape[1]

    @cached_property
    def precision(self):
        return np.array([1.0] * (self.size - 2) + [INTERCEPT**-2, SLOPE**-2])

    def log_joint(self, q):
        """Give the log density of effects and coefficients `(…, Q)`."""
        prior = -0.5 * (np.square(q) * self.precision).sum(axis=-1)
        return LOG_DENSITY[self.family](self.y, q @ self.columns.T).sum(axis=-1) + prior

    def bound(self, mean, root):
        """Give the lower bound of log p(y) that a normal makes, rows averaged by 60 nodes."""
        V = root @ root.T
        sd = np.sqrt(np.einsum("nq,qr,nr->n", self.columns, V, self.columns))
        eta = (self.columns @ mean)[:, None] + sd[:, None] * NODES
        rows = LOG_DENSITY[self.family](self.y[:, None], eta) @ WEIGHTS
        prior = -0.5 * self.precision @ (mean**2 + np.diag(V))
        return rows.sum() + prior + np.log(np.abs(np.diag(root))).sum()

    @cached_property
    def nearest(self):
        """Climb to the best normal's mean `(Q,)` and root of the covariance, by the bound alone."""
        Q, lower = self.size, np.tril_indices(self.size)

        def parts(x):
            root = np.zeros((Q, Q))
            root[lower] = x[Q:]
            return x[:Q], root

        start = np.concatenate([np.zeros(Q), 0.5 * np.eye(Q)[lower]])
        found = minimize(lambda x: -self.bound(*parts(x)), start, method="BFGS", tol=1e-7)
        return parts(found.x)

    @cached_property
    def mode(self):
        start = np.zeros(self.size)
        return minimize(lambda q: -self.log_joint(q), start, method="BFGS", tol=1e-8).x

    def model(self):
        normal = {
            "intercept": gb.Prior("Normal", mu=0, sigma=INTERCEPT),
            "beta[x]": gb.Prior("Normal", mu=0, sigma=SLOPE),
        }
        priors = normal | {"sd_g": SD}
        return gb.Model(f"{self.family} ~ x + (1 | g)", self.data, self.family, priors=priors)


def found(model):
    """Give the corrected rows, and where each row of the data is among them."""
    target = read_target(model)
    psi = target.reference[target.outer]
    with np.errstate(all="ignore"):
        target(psi)
        return correct(*target.ascended(psi), target.prior), target.laplace.system.order


CASES = [(family, rare) for family in LOG_DENSITY for rare in (0.0, 2.5)]


@pytest.fixture(scope="module", params=CASES, ids=str)
def case(request):
    family, rare = request.param
    by_hand = ByHand(family, table(rare=rare))
    return by_hand, *found(by_hand.model())


def test_the_centre_is_the_mean_of_the_nearest_normal(case):
    by_hand, rows, order = case
    mean, root = by_hand.nearest
    sd = np.sqrt(np.square(by_hand.columns @ root).sum(axis=1))
    off = (rows.eta[0] - (by_hand.columns @ mean)[order]) / sd[order]
    assert np.abs(off).max() < 2e-3
    np.testing.assert_allclose(rows.spread[0, 0], sd[order] ** 2, rtol=5e-3)


def test_the_shift_is_from_the_mode_in_standard_deviations(case):
    by_hand, rows, _ = case
    mean, root = by_hand.nearest
    sd = np.sqrt(np.square(root).sum(axis=1))
    expected = ((mean - by_hand.mode) / sd)[-2:]
    np.testing.assert_allclose(rows.shift, expected, atol=5e-3)


def test_scores_and_weights_are_expectations(case):
    """E[dl / deta] and -E[d2l / deta2], by parts: moments of the log density under the normal."""
    by_hand, rows, order = case
    y, eta, sd = by_hand.y[order], rows.eta[0], np.sqrt(rows.spread[0, 0])
    value = LOG_DENSITY[by_hand.family](y[:, None], eta[:, None] + sd[:, None] * NODES)
    score = value @ (WEIGHTS * NODES) / sd
    weight = -(value @ (WEIGHTS * (NODES**2 - 1))) / sd**2
    first, W = rows.working(np.empty((0, len(y))))
    np.testing.assert_allclose(first[0], score, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(W[0, 0], weight, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("family", LOG_DENSITY)
def test_the_centre_is_nearer_to_the_mean_than_the_mode_is(family):
    """The posterior of two levels' effects, intercept and slope, on a grid."""
    by_hand = ByHand(family, table(groups=2, rows=6, rare=2.0, seed=3))
    rows, order = found(by_hand.model())
    mean, root = by_hand.nearest
    # On the normal's own axes, wide enough for the skewness of the posterior.
    ticks = np.linspace(-6, 6, 25)
    z = np.stack(np.meshgrid(*[ticks] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    q = mean + z @ (1.1 * root).T
    log = by_hand.log_joint(q)
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    truth = by_hand.columns @ (weight @ q)
    sd = np.sqrt(weight @ np.square(q @ by_hand.columns.T - truth))
    off_mode = np.abs((by_hand.columns @ by_hand.mode - truth) / sd).max()
    off_centre = np.abs((rows.eta[0] - truth[order]) / sd[order]).max()
    assert off_mode > 0.3
    assert off_centre < 0.2 * off_mode


# ---- predictors without effects


def test_a_normal_responses_scores_are_exact_however_far_sigma_moves():
    data = table().assign(real=lambda d: d["x"] + np.arange(len(d)) % 3)
    model = gb.Model(["real ~ x + (1 | g)", "sigma ~ x"], data)
    rows, order = found(model)
    y, (mu, log_sigma) = data["real"].to_numpy()[order], rows.eta
    assert rows.others == [1]
    assert not rows.is_fixed
    for delta in (-3.0, -0.1, 0.0, 2.0):
        first, W = rows.working(np.full((1, len(y)), delta))
        precision = np.exp(-2 * (log_sigma + delta))
        np.testing.assert_allclose(W[0, 0], precision, rtol=1e-5)
        np.testing.assert_allclose(first[0], precision * (y - mu), rtol=1e-5, atol=1e-8)


def test_near_the_centre_scores_follow_a_dispersion_to_first_order():
    model = gb.Model("poisson ~ x + (1 | g)", table(seed=4), "negbinomial")
    rows, order = found(model)
    y, sd = table(seed=4)["poisson"].to_numpy(float)[order], np.sqrt(rows.spread[0, 0])

    def expected(log_alpha):
        mu = np.exp(rows.eta[0][:, None] + sd[:, None] * NODES)
        alpha = np.exp(log_alpha)[:, None]
        score = alpha * (y[:, None] - mu) / (alpha + mu)
        return score @ WEIGHTS, (score @ (WEIGHTS * NODES)) / -sd

    misses = []
    for delta in (0.1, 0.2):
        first, W = rows.working(np.full((1, len(y)), delta))
        score, weight = expected(rows.eta[1] + delta)
        misses.append([np.abs(first[0] - score).max(), np.abs(W[0, 0] - weight).max()])
    # Of second order: twice as far, four times as much.
    (near_score, near_weight), (far_score, far_weight) = misses
    assert near_score < 0.01
    assert near_weight < 0.01
    assert 3 < far_score / near_score < 5
    assert 3 < far_weight / near_weight < 5


@pytest.mark.parametrize("delta", [-1.0, 0.5, 1.0, 2.0])
def test_outliers_scores_and_weights_stay_in_bounds(delta):
    """Student's t: a weight near zero, or below, says nothing of where it goes with nu."""
    rng = np.random.default_rng(6)
    data = table().assign(real=lambda d: d["x"] + rng.standard_t(2, len(d)))
    rows, order = found(gb.Model("real ~ x + (1 | g)", data, "student"))
    y, sd = data["real"].to_numpy()[order], np.sqrt(rows.spread[0, 0])
    moves = np.zeros((2, len(y)))
    moves[rows.others.index(2)] = delta
    off = y[:, None] - rows.eta[0][:, None] - sd[:, None] * NODES
    sigma, nu = np.exp(rows.eta[1])[:, None], 1 + np.exp(rows.eta[2] + delta)[:, None]
    score = (nu + 1) * off / (nu * sigma**2 + off**2)
    expected, weight = score @ WEIGHTS, (score @ (WEIGHTS * NODES)) / -sd
    first, W = rows.working(moves)
    assert np.abs(first[0] - expected).max() < 0.25 * np.abs(expected).max()
    assert np.abs(W[0, 0] - np.maximum(weight, 0)).max() < 0.5 * weight.max()


def test_many_moves_at_once_are_single_ones():
    model = gb.Model("poisson ~ x + (1 | g)", table(seed=4), "negbinomial")
    rows, _ = found(model)
    moved = np.random.default_rng(2).normal(size=(1, 4, rows.eta.shape[1]))
    first, W = rows.working(moved)
    for s in range(4):
        one, V = rows.working(moved[:, s])
        np.testing.assert_allclose(first[:, s], one)
        np.testing.assert_allclose(W[:, :, s], V)


def test_without_a_nearest_normal_the_mode_is_the_centre(monkeypatch):
    def none(*_):
        raise np.linalg.LinAlgError("no way down")

    by_hand = ByHand("bernoulli", table())
    monkeypatch.setattr(corrected, "nearest_normal", none)
    rows, order = found(by_hand.model())
    np.testing.assert_allclose(rows.eta[0], (by_hand.columns @ by_hand.mode)[order], atol=1e-4)
    np.testing.assert_array_equal(rows.shift, np.zeros(2))
    p = expit(by_hand.columns @ by_hand.mode)
    H = by_hand.columns.T @ ((p * (1 - p))[:, None] * by_hand.columns) + np.diag(by_hand.precision)
    leverage = np.einsum("nq,qr,nr->n", by_hand.columns, np.linalg.inv(H), by_hand.columns)
    np.testing.assert_allclose(rows.spread[0, 0], leverage[order], rtol=1e-4)
