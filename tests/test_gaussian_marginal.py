"""Gaussian responses in closed form: densities and draws against dense matrices."""

from functools import cache

import numpy as np
import pytest
from dense import Dense as DenseLikelihood
from scipy.stats import multivariate_normal

import glmm_bayes as gb
from glmm_bayes.density import read_density
from glmm_bayes.engine.algebra.blocked import Blocked
from glmm_bayes.engine.algebra.dense import Dense
from glmm_bayes.engine.algebra.sparse import Sparse
from glmm_bayes.engine.around.perturbed import Perturbed
from glmm_bayes.engine.around.stacked import Stacked
from glmm_bayes.engine.collapsed import Collapsed
from glmm_bayes.engine.gaussian import Gaussian
from glmm_bayes.engine.latent import Latent, Term
from glmm_bayes.engine.newton import Normal
from glmm_bayes.posthoc.marginal import read_marginal

N, B = 60, 64
SYSTEMS = {"dense": Dense, "blocked": Blocked, "sparse": Sparse}
PRIOR = Normal(np.array([1.0, -0.5]), np.array([[0.3, 0.1], [0.1, 0.5]]))


def term(rng, q, p, members=1):
    index = rng.integers(q, size=(N, members))
    weights = np.ones((N, 1)) if members == 1 else rng.uniform(0.2, 1.0, (N, members))
    return Term(
        q, p, index, weights, {0: np.column_stack([np.ones(N), rng.normal(size=(N, p - 1))])}
    )


SHAPES = {
    "crossed": lambda rng: [term(rng, 6, 1), term(rng, 12, 2), term(rng, 5, 2)],
    "one": lambda rng: [term(rng, 9, 1)],
    "wide": lambda rng: [term(rng, 10, 3), term(rng, 4, 1)],
    "none": lambda rng: [],
}


@cache
def data(name):
    rng = np.random.default_rng(7)
    latent = Latent(SHAPES[name](rng), (0,), N)
    X = np.column_stack([np.ones(N), rng.normal(size=N)])
    return latent, X, rng.normal(size=N) + 3, rng.uniform(0.5, 2.0, N)


def collapsed(name, system="dense"):
    latent, X, y, w = data(name)
    built = SYSTEMS[system].build(latent, X)
    at = built.order
    return Collapsed(Gaussian(built, X[at], y[at], w[at], float(w.sum())), PRIOR)


def factors(name, size=1.0, seed=0):
    rng = np.random.default_rng(seed)
    found = []
    for t in data(name)[0].terms:
        L = np.tril(rng.normal(size=(t.p, t.p)) * 0.4, -1) + np.diag(rng.uniform(0.4, 0.9, t.p))
        found.append(size * L)
    return found


def spread(name, Lambdas):
    """Write Z (I x Lambda) out."""
    latent, X, _, _ = data(name)
    Z = Dense.build(latent, X).Z[0]
    for t, at, L in zip(latent.terms, latent.places, Lambdas, strict=True):
        Z[:, at] = Z[:, at] @ np.kron(np.eye(t.q), L)
    return Z


def log_marginal(name, sigma, Lambdas):
    """Integrate effects and coefficients out: y is normal, rows of weight w stand for w rows."""
    _, X, y, w = data(name)
    J = spread(name, Lambdas)
    V = J @ J.T + X @ np.linalg.inv(PRIOR.precision) @ X.T + np.diag(sigma**2 / w)
    lost = -0.5 * np.sum((w - 1) * np.log(2 * np.pi * sigma**2))
    return multivariate_normal.logpdf(y, X @ PRIOR.mean, V) + lost


def moments(name, sigma, Lambdas):
    """Give mean and covariance of all b, then gamma, given y."""
    latent, X, y, w = data(name)
    K = np.hstack([spread(name, Lambdas), X])
    H = K.T @ (w[:, None] * K) / sigma**2
    H[: latent.size, : latent.size] += np.eye(latent.size)
    H[latent.size :, latent.size :] += PRIOR.precision
    right = K.T @ (w * y) / sigma**2
    right[latent.size :] += PRIOR.precision @ PRIOR.mean
    turn = np.eye(len(H))
    for t, at, L in zip(latent.terms, latent.places, Lambdas, strict=True):
        turn[at, at] = np.kron(np.eye(t.q), L)
    inverse = np.linalg.inv(H)
    return turn @ inverse @ right, turn @ inverse @ turn.T


# Without effects there is no sparse matrix, nor is one chosen.
BOTH = [(n, s) for n in SHAPES for s in SYSTEMS if (n, s) != ("none", "sparse")]


@pytest.mark.parametrize(("name", "system"), BOTH)
def test_log_marginal_density(name, system):
    c = collapsed(name, system)
    places = [(0.9, 1.0, 0), (1.3, 0.3, 1), (0.5, 2.0, 2), (0.8, 1e-4, 3)]
    ours = [c.solved(s, factors(name, k, seed)).value for s, k, seed in places]
    theirs = [log_marginal(name, s, factors(name, k, seed)) for s, k, seed in places]
    np.testing.assert_allclose(np.diff(ours), np.diff(theirs), atol=1e-8)


@pytest.mark.parametrize(("name", "system"), BOTH)
def test_slopes_against_differences(name, system):
    c, sigma, Lambdas = collapsed(name, system), 0.8, factors(name)
    by_log_sigma, by_Lambda = c.slopes(c.solved(sigma, Lambdas))
    h = 1e-5
    up, down = (c.solved(sigma * np.exp(s), Lambdas).value for s in (h, -h))
    assert by_log_sigma == pytest.approx((up - down) / (2 * h), abs=1e-6)
    for t, slope in enumerate(by_Lambda):
        for i, j in zip(*np.tril_indices(len(slope)), strict=True):
            values = []
            for step in (h, -h):
                moved = [L.copy() for L in Lambdas]
                moved[t][i, j] += step
                values.append(c.solved(sigma, moved).value)
            assert slope[i, j] == pytest.approx((values[0] - values[1]) / (2 * h), abs=1e-5)


@pytest.mark.parametrize("name", list(SHAPES))
def test_stacks_agree_with_single_solutions(name):
    c = collapsed(name)
    stacked = Stacked(c)
    sigma = np.array([0.9, 1.3, 0.5])
    each = [factors(name, k, seed) for seed, k in enumerate((1.0, 0.3, 2.0))]
    Lambdas = [np.stack(L) for L in zip(*each, strict=True)]
    ours = stacked.values(sigma, Lambdas)
    theirs = [c.solved(s, L).value for s, L in zip(sigma, each, strict=True)]
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


def check_moments(draws, mean, covariance):
    """Every z-score within 4.5: with some hundred of them, once in 2,000 runs one is not."""
    size = len(draws)
    sd = np.sqrt(np.diag(covariance))
    assert np.abs((draws.mean(axis=0) - mean) / sd).max() < 4.5 / np.sqrt(size)
    found, ratio = np.cov(draws.T), np.outer(sd, sd)
    of_entries = np.sqrt((1 + (covariance / ratio) ** 2) / size)
    assert np.abs((found - covariance) / ratio / of_entries).max() < 4.8


def flat(effects, gamma):
    return np.concatenate([*(b.reshape(len(gamma), -1) for b in effects), gamma], axis=1)


@pytest.mark.parametrize("name", list(SHAPES))
def test_stacked_draws_have_the_moments_of_the_normal(name):
    sigma, Lambdas, size = 0.8, factors(name), 20_000
    stacked = Stacked(collapsed(name))
    z = np.random.default_rng(1).standard_normal((size, stacked.size))
    many = [np.repeat(L[None], size, axis=0) for L in Lambdas]
    found = stacked.draw(np.full(size, sigma), many, z)
    check_moments(flat(found.effects, found.gamma), *moments(name, sigma, Lambdas))


@pytest.mark.parametrize("name", ["crossed", "one", "wide"])
@pytest.mark.parametrize("system", list(SYSTEMS))
def test_single_draws_have_the_moments_of_the_normal(name, system):
    sigma, Lambdas = 0.8, factors(name)
    c = collapsed(name, system)
    found, rng = c.solved(sigma, Lambdas), np.random.default_rng(2)
    latent = c.gaussian.system.latent
    rows = []
    for _ in range(4000):
        v, gamma = found.draw(rng.standard_normal(latent.size), rng.standard_normal(2))
        rows.append(np.concatenate([*(b.ravel() for b in latent.effects(v, Lambdas)), gamma]))
    check_moments(np.array(rows), *moments(name, sigma, Lambdas))


# ---- draws from one factorisation


def perturbed(name, share=0.05):
    return Perturbed(collapsed(name, "blocked"), 0.9, factors(name), share)


def drawn_at(whole, sigma, Lambdas, batches, seed=3):
    rng = np.random.default_rng(seed)
    many = [np.repeat(L[None], B, axis=0) for L in Lambdas]
    return [whole.draw(np.full(B, sigma), many, rng) for _ in range(batches)]


@pytest.mark.parametrize(("sigma", "size"), [(0.9, 1.0), (1.1, 0.5), (0.7, 1.6), (0.9, 0.01)])
@pytest.mark.parametrize("name", ["crossed", "one", "wide"])
def test_perturbed_draws_have_the_moments_of_the_normal(name, sigma, size):
    """Where it is factored and elsewhere, near zero variances too."""
    Lambdas = factors(name, size)
    found = drawn_at(perturbed(name), sigma, Lambdas, 200)
    assert all(part.solved.all() for part in found)
    draws = np.concatenate([flat(part.effects, part.gamma) for part in found])
    check_moments(draws, *moments(name, sigma, Lambdas))


def test_perturbed_draws_solve_their_equations():
    """With all noise shrunk to nothing, a draw is the mean: what is left is the solver's error."""
    whole, Lambdas = perturbed("crossed"), factors("crossed", 1.4)

    class Silent:
        def standard_normal(self, shape):
            return np.zeros(shape)

    many = [np.repeat(L[None], B, axis=0) for L in Lambdas]
    found = whole.draw(np.full(B, 0.7), many, Silent())
    mean, covariance = moments("crossed", 0.7, Lambdas)
    off = flat(found.effects, found.gamma) - mean
    # In posterior standard deviations, all directions together.
    distance = np.einsum("si,ij,sj->s", off, np.linalg.inv(covariance), off)
    assert np.sqrt(distance.max()) < 1e-3
    assert found.iterations < 30


def test_perturbed_draws_say_where_their_noise_is_not_possible():
    """Lambda / sigma beyond what the share allows."""
    found = drawn_at(perturbed("crossed", share=0.5), 0.9, factors("crossed", 10.0), 1)
    assert not found[0].solved.any()


# ---- models


MODELS = {
    "slopes": lambda: gb.Model("Reaction ~ Days + (Days | Subject)", gb.load_dataset("sleepstudy")),
    "crossed": lambda: gb.Model(
        "diameter ~ 1 + (1 | plate) + (1 | sample)", gb.load_dataset("penicillin")
    ),
    "lognormal": lambda: gb.Model(
        "Reaction ~ Days + (1 | Subject)", gb.load_dataset("sleepstudy"), "lognormal"
    ),
    "held": lambda: gb.Model(
        "Reaction ~ Days + (Days | Subject)",
        gb.load_dataset("sleepstudy"),
        priors={"beta[Days]": 10.0, "sd_Subject[Days]": 5.0},
    ),
    "bounded": lambda: gb.Model(
        "Reaction ~ Days + (1 | Subject)",
        gb.load_dataset("sleepstudy"),
        priors={
            "beta[Days]": gb.Prior("HalfNormal", sigma=20.0),
            "sigma": gb.Prior("Uniform", lower=1.0, upper=200.0),
        },
    ),
    "sigma held": lambda: gb.Model(
        "Yield ~ 1 + (1 | Batch)", gb.load_dataset("dyestuff"), priors={"sigma": 50.0}
    ),
}


@pytest.fixture(params=list(MODELS))
def model(request):
    return MODELS[request.param]()


def near_reference(posterior, seed):
    rng = np.random.default_rng(seed)
    return posterior.reference[posterior.outer] + 0.2 * rng.normal(size=len(posterior.outer))


def test_posterior_of_psi_has_the_slope_of_its_differences(model):
    posterior, h = read_marginal(model), 1e-5
    psi = near_reference(posterior, 1)
    _, slope = posterior(psi)
    for j, step in enumerate(h * np.eye(len(psi))):
        difference = (posterior(psi + step)[0] - posterior(psi - step)[0]) / (2 * h)
        assert slope[j] == pytest.approx(difference, rel=1e-5, abs=1e-5)


def test_marginal_and_conditional_make_the_joint_density(model):
    """
    Bayes' rule, at random points, against the density that NUTS samples.

    log p(psi, y) + log p(v, gamma | psi, y) is the joint log density up to a constant, once the
    normal in place of the coefficients' prior is taken off and their own put in.
    """
    posterior = read_marginal(model)
    joint = read_density(model, {term.name: False for term in model.design.terms})
    latent, rng, gaps = posterior.collapsed.gaussian.system.latent, np.random.default_rng(4), []
    for seed in range(4):
        psi = near_reference(posterior, seed)
        full = posterior.tiled(psi)
        _, sigma, Lambdas, _ = posterior.parameters(psi[None])
        found = posterior.collapsed.solved(float(sigma[0]), [L[0] for L in Lambdas])
        zu, zx = rng.standard_normal(latent.size), rng.standard_normal(len(found.gamma))
        v, gamma = found.draw(zu, zx)
        given = 0.5 * found.factor.log_determinant - len(zx) * np.log(sigma[0])
        given -= 0.5 * (zu @ zu + zx @ zx)
        # By the parameters' unconstrained scale, as NUTS has it: there gamma may be transformed.
        full[posterior.coordinates.coefficients[0]] = gamma
        theta = posterior.theta(psi[None], gamma[None])[0]
        z = joint.outer.unconstrain(theta)
        priors = posterior.log_prior(full)[0] - posterior.prior.log_density(gamma)
        moved = posterior.prior.log_density(gamma) - posterior.collapsed.prior.log_density(gamma)
        ours = found.value + given + moved + priors
        theirs = joint.value_and_gradient(joint.place(z, v))[0]
        gaps.append(ours - theirs)
    np.testing.assert_allclose(gaps, gaps[0], atol=1e-6 * (1 + abs(gaps[0])))


def test_dense_likelihood_integrated_over_the_coefficients():
    """Against `tests/dense.py` on the grid of one coefficient, its t prior in a normal's place."""
    model = MODELS["crossed"]()
    posterior, dense = read_marginal(model), DenseLikelihood(model, restricted=False)
    grid = np.linspace(18, 28, 201)
    ours, theirs = [], []
    for seed in (1, 2):
        psi = near_reference(posterior, seed)
        _, sigma, Lambdas, _ = posterior.parameters(psi[None])
        own = [L[0] for L in Lambdas]
        ours.append(posterior.collapsed.solved(float(sigma[0]), own).value)
        log_p = np.array([dense([[g], np.log(sigma)], own) for g in grid])
        log_p += [posterior.collapsed.prior.log_density(np.array([g])) for g in grid]
        theirs.append(log_p.max() + np.log(np.exp(log_p - log_p.max()).sum()))
    assert ours[1] - ours[0] == pytest.approx(theirs[1] - theirs[0], abs=1e-6)


def test_stand_in_of_the_prior_is_put_right_by_the_correction():
    """The ratio of a t of 3 degrees of freedom and a normal of its curvature near the mode."""
    posterior = read_marginal(MODELS["sigma held"]())
    prior = posterior.collapsed.prior
    rng = np.random.default_rng(5)
    draws = prior.mean + rng.normal(size=(4000, 1)) / np.sqrt(prior.precision[0])
    weight = posterior.correction(draws)
    z = (draws[:, 0] - 1530) / 85.2
    expected = (
        -2 * np.log1p(z**2 / 3) + 0.5 * prior.precision[0, 0] * (draws[:, 0] - prior.mean[0]) ** 2
    )
    np.testing.assert_allclose(np.diff(weight), np.diff(expected), atol=1e-6)
