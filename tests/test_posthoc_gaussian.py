"""Posteriors of Gaussian responses: against brute force, other software and each other."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest, norm, t
from test_posteriors import monte_carlo_errors

import glmm_bayes as gb
from glmm_bayes.engine.polynomials.surrogate import fit_surrogate
from glmm_bayes.posthoc import gaussian
from glmm_bayes.posthoc.drawn import Drawn
from glmm_bayes.posthoc.gaussian import sample_gaussian
from glmm_bayes.posthoc.marginal import MarginalPosterior, can_be_collapsed, read_marginal
from glmm_bayes.posthoc.outer import find_mode
from glmm_bayes.posthoc.proposals import Proposer
from glmm_bayes.posthoc.proposals_gaussian import (
    at_once,
    factors_are_dear,
    many_densities,
    one_by_one,
    perturbed,
)
from glmm_bayes.posthoc.walkers import STATISTICS, Course, run_walkers
from glmm_bayes.posthoc.weighed import Weighed
from glmm_bayes.verbs.tables import reliability

CHAINS, DRAWS = 4, 1000


def one_way(name):
    return gb.Model("Yield ~ 1 + (1 | Batch)", gb.load_dataset(name))


def drawn(model, **more):
    options = {"seed": 1, "draws": DRAWS, "chains": CHAINS} | more
    return sample_gaussian(model, **options)


@cache
def drawn_one_way(name):
    return drawn(one_way(name))


def numbers(draws, effects=10):
    """Put everything drawn side by side: some effects only, of terms with many."""
    parts = [*draws.beta.values(), *(v[:, None] for v in draws.constants.values())]
    parts += [*draws.theta.values()]
    parts += [b.reshape(draws.size, -1)[:, :effects] for b in draws.effects.values()]
    found = np.concatenate(parts, axis=1)
    return found[:, found.std(axis=0) > 0]


def check_mixing(draws, least=0.2):
    found = reliability(numbers(draws), draws.chains)
    assert found["r_hat"].max() < 1.01
    assert found["ess_bulk"].min() > least * draws.size
    assert found["ess_tail"].min() > 0.1 * draws.size


# ---- brute force


@dataclass(frozen=True)
class BruteForce:
    """
    The posterior of a balanced one-way layout on a grid of log sigma, log sd and the intercept.

    The likelihood is the textbook's: the sum of squares within the groups, and their means, which
    are normal about the intercept with variance sd^2 + sigma^2 / rows.
    """

    log_sigma: np.ndarray
    log_sd: np.ndarray
    mu: np.ndarray
    weight: np.ndarray
    first: np.ndarray

    @classmethod
    def of(cls, name):
        table = gb.load_dataset(name)
        groups = table.groupby("Batch", observed=True)["Yield"]
        means, rows, q = groups.mean().to_numpy(), groups.size().iloc[0], groups.ngroups
        within = float(sum(((v - v.mean()) ** 2).sum() for _, v in groups))
        scale = _prior_scales(name)
        log_sigma = np.log(np.sqrt(within / (q * (rows - 1)))) + np.linspace(-1.1, 1.4, 81)
        log_sd = np.log(means.std()) + np.linspace(-9.0, 4.5, 201)
        reach = 12 * (means.std() + np.sqrt(within / (q * rows)))
        # Finer in the middle: where sd is small, the intercept is known well.
        mu = means.mean() + reach * np.sinh(np.linspace(-6, 6, 241)) / np.sinh(6)
        S, D, M = np.meshgrid(np.exp(log_sigma), np.exp(log_sd), mu, indexing="ij")
        var = D**2 + S**2 / rows
        log_p = -q * (rows - 1) * np.log(S) - within / (2 * S**2) - q / 2 * np.log(var)
        log_p -= q * (means.var() + (means.mean() - M) ** 2) / (2 * var)
        log_p += t.logpdf(M, 3, scale["m"], scale["s"])
        log_p += (
            t.logpdf(S, 3, 0, scale["s"]) + np.log(S) + t.logpdf(D, 3, 0, scale["s"]) + np.log(D)
        )
        weight = np.exp(log_p - log_p.max()) * np.gradient(mu)
        # The first group's effect, given the rest.
        first = (means[0] - M) * D**2 / var
        return cls(log_sigma, log_sd, mu, weight / weight.sum(), first)

    def mean_sd(self, values):
        mean = float((self.weight * values).sum())
        return mean, float(np.sqrt((self.weight * (values - mean) ** 2).sum()))

    def cdf(self, axis, at):
        grid = (self.log_sigma, self.log_sd, self.mu)[axis]
        one = self.weight.sum(axis=tuple(i for i in range(3) if i != axis))
        return np.interp(at, grid, np.cumsum(one) - 0.5 * one)


def _prior_scales(name):
    """The defaults: m the median, s the median absolute deviation, to three digits."""
    y = gb.load_dataset(name)["Yield"].to_numpy()
    m = np.median(y)
    s = max(2.5, float(f"{1.4826 * np.median(np.abs(y - m)):.3g}"))
    return {"m": float(f"{m:.3g}"), "s": s}


brute_force = cache(BruteForce.of)


@pytest.mark.parametrize("name", ["dyestuff", "dyestuff2"])
def test_default_priors_are_those_of_the_brute_force(name):
    model, scale = one_way(name), _prior_scales(name)
    priors = {block.name: block.priors[0] for block in model.blocks}
    wanted = gb.Prior("StudentT", nu=3.0, mu=scale["m"], sigma=scale["s"])
    assert repr(priors["beta"]) == repr(wanted)
    for block in ("sigma", "sd_Batch"):
        assert repr(priors[block]) == repr(gb.Prior("HalfStudentT", nu=3.0, sigma=scale["s"]))


@pytest.mark.parametrize("name", ["dyestuff", "dyestuff2"])
def test_means_agree_with_brute_force(name):
    """Dyestuff2's variance between batches is zero at the maximum: a long tail to the left."""
    truth, (draws, _) = brute_force(name), drawn_one_way(name)
    S, D, M = np.meshgrid(truth.log_sigma, truth.log_sd, truth.mu, indexing="ij")
    for ours, values in (
        (np.log(draws.constants["sigma"]), S),
        (draws.constants["sigma"], np.exp(S)),
        (np.sqrt(draws.theta["sd_Batch"][:, 0]), np.exp(0.5 * D)),
        (np.exp(-draws.theta["sd_Batch"][:, 0] / 50), np.exp(-np.exp(D) / 50)),
        (draws.effects["Batch"][:, 0, 0], truth.first),
        (
            np.tanh((draws.beta["mu"][:, 0] - truth.mu.mean()) / 50),
            np.tanh((M - truth.mu.mean()) / 50),
        ),
    ):
        mean, sd = truth.mean_sd(values)
        of_mean, of_sd = monte_carlo_errors(ours, draws.chains)
        assert abs(ours.mean() - mean) / of_mean < 4
        if values is not truth.first:
            # An effect's own spread given the rest is left out of its mean given the rest.
            assert abs(ours.std() - sd) / of_sd < 4.5


@pytest.mark.parametrize("name", ["dyestuff", "dyestuff2"])
def test_distributions_agree_with_brute_force(name):
    """Kolmogorov's distance, as of half as many independent draws: passed once in 1,000 runs."""
    truth, (draws, _) = brute_force(name), drawn_one_way(name)
    limit = 1.95 / np.sqrt(0.5 * draws.size)
    for axis, ours in enumerate(
        (
            np.log(draws.constants["sigma"]),
            np.log(draws.theta["sd_Batch"][:, 0]),
            draws.beta["mu"][:, 0],
        )
    ):
        assert kstest(ours, lambda at, axis=axis: truth.cdf(axis, at)).statistic < limit


# ---- ways of proposing


def crossed(rows=400, levels=(12, 7), seed=3):
    rng = np.random.default_rng(seed)
    g, h, x = (
        rng.integers(levels[0], size=rows),
        rng.integers(levels[1], size=rows),
        rng.normal(size=rows),
    )
    y = 1 + 0.5 * x + rng.normal(0, 0.7, levels[0])[g] + rng.normal(0, 0.4, levels[1])[h]
    y += rng.normal(0, 0.3, levels[1])[h] * x + rng.normal(size=rows)
    return gb.Model("y ~ x + (1 | g) + (x | h)", pd.DataFrame({"y": y, "x": x, "g": g, "h": h}))


def blocked(monkeypatch):
    """Let small models have the linear algebra of large ones."""
    monkeypatch.setattr("glmm_bayes.engine.algebra.systems.TINY", 0.0)


WAYS = {
    "one by one": lambda mode, surrogate: Proposer(one_by_one(mode.posterior), 64, True),
    "perturbed": lambda mode, surrogate: Proposer(perturbed(mode, surrogate), 64, False),
}


def apart(ours, theirs, chains):
    """Give z-scores between two runs, of means and of standard deviations."""
    found = []
    for a, b in zip(ours.T, theirs.T, strict=True):
        (mean_a, sd_a), (mean_b, sd_b) = (
            monte_carlo_errors(a, chains),
            monte_carlo_errors(b, chains),
        )
        found.append((a.mean() - b.mean()) / np.hypot(mean_a, mean_b))
        found.append((a.std() - b.std()) / np.hypot(sd_a, sd_b))
    return np.array(found)


@pytest.mark.parametrize("way", list(WAYS))
def test_all_ways_draw_from_one_posterior(way, monkeypatch):
    """Of some 80 comparisons a standard normal passes 4.3 once in 700 runs."""
    together, _ = drawn(crossed())
    blocked(monkeypatch)
    monkeypatch.setattr(gaussian, "choose_proposer", WAYS[way])
    monkeypatch.setattr(gaussian, "CLOSE", 0.03)
    alone, _ = drawn(crossed(), seed=5)
    z = apart(numbers(alone), numbers(together), CHAINS)
    assert len(z) > 40
    assert np.abs(z).max() < 4.3
    check_mixing(alone)


def test_sizes_tell_when_a_factorisation_is_dear(monkeypatch):
    assert not factors_are_dear(read_marginal(crossed()))
    blocked(monkeypatch)
    assert not factors_are_dear(read_marginal(crossed()))
    assert factors_are_dear(read_marginal(crossed(30_000, (1500, 600))))


def test_large_models_say_what_their_surrogate_lacks(monkeypatch):
    blocked(monkeypatch)
    monkeypatch.setattr("glmm_bayes.posthoc.proposals_gaussian.DEAR", 0.0)
    monkeypatch.setattr("glmm_bayes.posthoc.proposals_gaussian.is_small", lambda *_: False)
    draws, statistics = drawn(crossed(), draws=100)
    assert statistics.attrs["exact"] == 0
    assert 0 < statistics.attrs["surrogate_error"] < 0.05
    assert draws.size == 400


def test_a_surrogate_far_off_is_put_right(monkeypatch):
    """Twice too wide, and beside: chains are as exact, if they take more proposals."""

    def poor(evaluate, origin, axes, **_):
        def normal(x):
            z = np.linalg.solve(axes, x - origin) / 2 - 0.5
            return -0.5 * z @ z, -np.linalg.solve(axes.T, z) / 2

        return fit_surrogate(normal, origin + axes @ np.ones(len(origin)), 2 * axes)

    monkeypatch.setattr(gaussian, "fit_surrogate", poor)
    model = crossed()
    worse, _ = drawn(model, seed=6)
    monkeypatch.undo()
    z = apart(numbers(worse), numbers(drawn(model)[0]), CHAINS)
    assert np.abs(z).max() < 4.3


# ---- hard posteriors mix


def correlated(levels, rows, formula, seed, sds=(1.0, 0.5, 0.5)):
    rng = np.random.default_rng(seed)
    table = {"x": rng.normal(size=rows), "z": rng.normal(size=rows)}
    U = np.column_stack([np.ones(rows), table["x"], table["z"]])
    eta = 1 + 0.5 * table["x"]
    for name, q in zip("gh", levels, strict=True):
        table[name] = rng.integers(q, size=rows)
        eta = eta + (U * (rng.normal(size=(q, 3)) * sds)[table[name]]).sum(axis=1)
    return gb.Model(formula, pd.DataFrame(table | {"y": eta + rng.normal(size=rows)}))


HARD = {
    "three levels": lambda: correlated((30, 3), 60, "y ~ x + (1 | h)", 3),
    "two levels": lambda: correlated((2, 3), 30, "y ~ x + (1 | g)", 4),
    "zero variances": lambda: correlated((10, 4), 100, "y ~ x + (x | g) + (1 | h)", 1, (0, 0, 0)),
    "seven parameters": lambda: correlated((6, 5), 90, "y ~ x + (x | g) + (x | h)", 2),
    "thirteen parameters": lambda: correlated(
        (20, 8), 400, "y ~ x + z + (x + z | g) + (x + z | h)", 0
    ),
    "three columns": lambda: correlated((12, 4), 150, "y ~ x + z + (x + z | g)", 5),
}


@pytest.mark.parametrize("name", list(HARD))
def test_weakly_identified_variances_mix(name):
    draws, statistics = drawn(HARD[name]())
    check_mixing(draws)
    assert statistics["acceptance_rate"].mean() > 0.5


# ---- all kinds of models


def variant(formula="y ~ x + (1 | g)", family="gaussian", **priors):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {"x": rng.normal(size=80), "g": rng.integers(8, size=80), "h": rng.integers(5, size=80)}
    )
    table["w"] = rng.uniform(0.5, 2, 80)
    table["y"] = 1 + 0.5 * table["x"] + rng.normal(size=8)[table["g"]] + rng.normal(size=80)
    table["positive"] = np.exp(0.3 * table["y"])
    return gb.Model(
        formula,
        table,
        family,
        priors={k.replace("__", "[") + ("]" if "__" in k else ""): v for k, v in priors.items()},
    )


VARIANTS = {
    "no effects": lambda: variant("y ~ x"),
    "no coefficients": lambda: variant("y ~ 0 + (1 | g)"),
    "lognormal": lambda: variant("positive ~ x + (1 | g)", "lognormal"),
    "weights": lambda: variant("y | weights(w) ~ x + (1 | g)"),
    "offset": lambda: variant("y ~ x + offset(w) + (1 | g)"),
    "several members": lambda: variant("y ~ x + (1 | mm(g, h))"),
    "held sd": lambda: variant(sd_g=1.0),
    "held sigma": lambda: variant(sigma=1.0),
    "all held": lambda: variant(sigma=1.0, sd_g=1.0),
    "held coefficient": lambda: variant(beta__x=0.5),
    "bounded coefficient": lambda: variant(beta__x=gb.Prior("HalfNormal", sigma=1.0)),
    "heavy tails": lambda: variant(beta__x=gb.Prior("Cauchy", alpha=0.0, beta=0.2)),
    "bounded sigma": lambda: variant(sigma=gb.Prior("Uniform", lower=0.1, upper=10.0)),
    "independent": lambda: variant("y ~ x + (x || g) + (1 | h)"),
}


@pytest.mark.parametrize("name", list(VARIANTS))
def test_variants_mix(name):
    model = VARIANTS[name]()
    assert can_be_collapsed(model)
    draws, statistics = drawn(model, draws=500)
    check_mixing(draws)
    assert np.isfinite(statistics["lp"]).all()
    for term in model.design.terms:
        assert draws.effects[term.name].shape == (2000, len(term.levels), term.size)


def test_held_values_are_drawn_as_they_are():
    draws, _ = drawn(VARIANTS["all held"](), draws=50)
    assert (draws.constants["sigma"] == 1.0).all()
    assert (draws.theta["sd_g"] == 1.0).all()
    draws, _ = drawn(VARIANTS["held coefficient"](), draws=50)
    assert (draws.beta["mu"][:, 1] == 0.5).all()


def test_linear_model_has_the_textbook_posterior():
    """Flat priors as good as: beta is t about least squares, of n - 2 degrees of freedom."""
    flat = gb.Prior("Normal", mu=0.0, sigma=1e4)
    vague = gb.Prior("LogNormal", mu=0.0, sigma=1e3)
    draws, _ = drawn(variant("y ~ x", intercept=flat, beta=flat, sigma=vague))
    model = variant("y ~ x")
    X, y = model.design.predictors["mu"].X, model.design.y
    beta = np.linalg.lstsq(X, y, rcond=None)[0]
    se = np.sqrt(np.sum((y - X @ beta) ** 2) / 78 * np.diag(np.linalg.inv(X.T @ X)))
    for k in range(2):
        z = (draws.beta["mu"][:, k] - beta[k]) / se[k]
        assert kstest(z, t(78).cdf).statistic < 1.95 / np.sqrt(0.8 * draws.size)


def test_what_cannot_be_collapsed():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {"y": rng.poisson(3, 20), "x": rng.normal(size=20), "g": rng.integers(4, size=20)}
    )
    assert not can_be_collapsed(gb.Model("y ~ x + (1 | g)", table, "poisson"))
    assert not can_be_collapsed(gb.Model(["y ~ x + (1 | g)", "sigma ~ x"], table))


# ---- chains


def test_same_draws_of_same_seeds_with_any_number_of_cores():
    one, two, other = (
        drawn(one_way("dyestuff"), draws=200, **m)[0] for m in ({}, {"cores": 3}, {"seed": 2})
    )
    np.testing.assert_array_equal(numbers(one), numbers(two))
    assert not np.array_equal(numbers(one), numbers(other))
    assert len({v.tobytes() for v in one.constants["sigma"].reshape(CHAINS, -1)}) == CHAINS


class Toy:
    """Proposals from N(1, 4) of a standard normal, and effects that say which they are."""

    def __init__(self, stop=np.inf):
        self.calls, self.stop = 0, stop

    def sample(self, rng, size):
        x = rng.normal(1, 2, (size, 1))
        return x, self.log_density(x)

    def log_density(self, x):
        return norm.logpdf(x[:, 0], 1, 2) + 3.0

    def propose(self, psi, log_q, rng):
        self.calls += 1
        if self.calls > self.stop:
            raise KeyboardInterrupt
        value = norm.logpdf(psi[:, 0])
        return Weighed.by(psi, 2 * psi, [psi[:, :, None]], value, log_q)


def toy_chains(toy, *, draws, each=1, chunk=16):
    shape = (3, draws)
    effects = [np.empty((*shape, 1, 1))]
    room = Drawn(np.empty((*shape, 1)), np.empty((*shape, 1)), effects, {
        name: np.empty(shape) for name in STATISTICS
    })  # fmt: skip
    course = Course(Proposer(toy.propose, chunk, True), toy, np.zeros(1), each)
    streams = np.random.SeedSequence(0).spawn(3)
    return run_walkers(course, room, streams, cores=1, progressbar=False)


@pytest.mark.parametrize(("each", "chunk"), [(1, 16), (3, 16), (3, 7), (5, 4), (1, 10_000)])
def test_chains_have_their_target(each, chunk):
    drawn = toy_chains(Toy(), draws=4000, each=each, chunk=chunk)
    x = drawn.psi.ravel()
    ess = reliability(x[:, None], 3)["ess_bulk"][0]
    assert kstest(x, "norm").statistic < 1.95 / np.sqrt(0.8 * ess)
    # All that belongs to a draw has stayed together.
    np.testing.assert_array_equal(drawn.gamma, 2 * drawn.psi)
    np.testing.assert_array_equal(drawn.effects[0][..., 0], drawn.psi)
    np.testing.assert_allclose(drawn.statistics["lp"], norm.logpdf(drawn.psi[..., 0]))
    assert 0.3 < drawn.statistics["acceptance_rate"].mean() < 0.9


def test_interrupted_chains_give_what_they_have():
    drawn = toy_chains(Toy(stop=20), draws=1000)
    done = drawn.psi.shape[1]
    assert 4 <= done < 1000
    assert drawn.statistics["lp"].shape == (3, done)
    np.testing.assert_array_equal(drawn.gamma, 2 * drawn.psi)


def test_interrupted_before_any_draw():
    with pytest.raises(KeyboardInterrupt):
        toy_chains(Toy(stop=1), draws=1000)


def test_a_search_starts_where_it_is_told_to(monkeypatch):
    model, seen = crossed(), []
    fit = model.fit("ml")
    evaluated = MarginalPosterior.evaluated

    def watched(self, x):
        seen.append(x)
        return evaluated(self, x)

    monkeypatch.setattr(MarginalPosterior, "evaluated", watched)
    fit.sample(draws=500, seed=1, progressbar=False)
    # The outer parameters: log sigma, and the logarithms of standard deviations among others.
    theta = fit.mode.theta
    first = np.log(theta[[model.layout[name].start for name in ("sigma", "sd_g")]])
    np.testing.assert_allclose(seen[0][:2], first)


def test_many_densities_are_those_of_single_ones():
    posterior = read_marginal(crossed())
    many = many_densities(posterior)
    mode = find_mode(posterior)
    psi = mode.psi + np.random.default_rng(1).normal(size=(5, len(mode.psi))) @ mode.axes.T
    np.testing.assert_allclose(many(psi), [posterior(row)[0] for row in psi], atol=1e-7)
    found = at_once(posterior)(psi, np.zeros(5), np.random.default_rng(2))
    beside = found.log_posterior - posterior.correction(found.gamma)
    np.testing.assert_allclose(beside, many(psi), atol=1e-7)


def test_a_normal_prior_far_from_the_data_is_taken_as_it_is():
    """By the closed form of a normal mean, whose prior is 40 standard deviations from the rows'."""
    rows = np.random.default_rng(1).normal(5, 1, 20)
    prior = {"intercept": gb.Prior("Normal", mu=0, sigma=0.1), "sigma": 1.0}
    model = gb.Model("y ~ 1", pd.DataFrame({"y": rows}), priors=prior)
    beta = model.fit("posthoc", seed=1, progressbar=False).idata["posterior"]["beta"]
    v = 1 / (len(rows) + 1 / 0.1**2)
    error = np.sqrt(v / beta.size)
    assert abs(float(beta.mean()) - v * rows.sum()) < 4.5 * error
    assert abs(float(beta.std()) - np.sqrt(v)) < 4.5 * error


def test_a_coefficient_that_its_prior_holds_back_is_drawn_well():
    prior = {"beta[Days]": gb.Prior("Normal", mu=0, sigma=1)}
    table = gb.load_dataset("sleepstudy")
    model = gb.Model("Reaction ~ Days + (1 + Days | Subject)", table, priors=prior)
    found = model.fit("posthoc", seed=1, progressbar=False).fixef()
    assert found["ess_bulk"].min() > 0.5 * CHAINS * DRAWS
