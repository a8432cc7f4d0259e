"""Each move, and all of them in turn, leave the posterior as it is."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

import glmm_bayes as gb
from glmm_bayes.engine.around.walk import (
    Chain,
    State,
    Target,
    Tuning,
    _moved,
    _proposed,
    _rotated,
    _swept,
)
from glmm_bayes.posthoc.target import Around, find_around, read_target

# Of some 500 comparisons, a standard normal passes this limit once in 300 runs.
LIMIT = 4.5

# A parameter and a response that is drawn given it are together an exact draw from the posterior
# of that response: a move that leaves the posterior as it is must not change the distribution of
# the parameter, over many such pairs. The approximation that proposes may be any: it is made once.


def normal(sigma: float, mu: float = 0.0) -> gb.Prior:
    return gb.Prior("Normal", mu=mu, sigma=sigma)


HALF = gb.Prior("HalfNormal", sigma=0.4)
N = 12
RNG = np.random.default_rng(12)
DATA = pd.DataFrame(
    {
        "x": RNG.normal(size=N),
        "z": RNG.normal(size=N),
        "g": RNG.choice(list("abcd"), N),
        "g2": RNG.choice(list("abcd"), N),
        "h": RNG.choice(list("uvw"), N),
        "n": RNG.integers(1, 4, N),
        "count": RNG.poisson(0.7, N),
        "real": RNG.normal(size=N),
        "wins": RNG.integers(0, 2, N),
    }
)
PRIORS = {"intercept": normal(0.3, -0.3), "beta": normal(0.3), "sd": HALF}


@dataclass(frozen=True)
class Case:
    """A model, and the way it is approximated."""

    family: str
    formulas: list[str]
    integrated: bool = True
    depth: int = 0
    priors: tuple[tuple[str, Any], ...] = ()


CROSSED = ["count ~ x + (1 + x | g) + (1 | h)"]
SPREAD = ["real ~ x + (1 | g)", "sigma ~ 1 + (1 | g)"]
SHAPE = ["count ~ x + (1 | g)", "alpha ~ z"]
OF_SHAPE = (("beta_alpha", normal(0.3)), ("intercept_alpha", normal(0.5, 1.0)))
OF_SPREAD = (("intercept_sigma", normal(0.4)), ("sd_g", gb.Prior("HalfNormal", sigma=0.4)))
CASES = {
    "crossed slopes": Case("poisson", CROSSED),
    "crossed slopes, corrected anew": Case("poisson", CROSSED, depth=1),
    "crossed slopes, coefficients apart": Case("poisson", CROSSED, False, 2),
    "bounded coefficient": Case(
        "binomial", ["wins | trials(n) ~ x + (1 | g)"], priors=(("beta[x]", HALF),)
    ),
    "members": Case("poisson", ["count ~ x + (1 + x | mm(g, g2))"]),
    "effects in the spread": Case("gaussian", SPREAD, priors=OF_SPREAD),
    "effects in the spread, coefficients apart": Case("gaussian", SPREAD, False, 1, OF_SPREAD),
    "a formula for the shape": Case("negbinomial", SHAPE, priors=OF_SHAPE),
    "a formula for the shape, coefficients apart": Case("negbinomial", SHAPE, False, 2, OF_SHAPE),
    "no random term": Case(
        "negbinomial", ["count ~ x"], priors=(("alpha", gb.Prior("Gamma", alpha=4, beta=2)),)
    ),
    "no outer parameter": Case("poisson", ["count ~ x + (1 | g)"], priors=(("sd_g", 0.5),)),
    "no coefficient": Case("poisson", ["count ~ 0 + (1 + x | g)"]),
}


def model_of(case: Case) -> gb.Model:
    priors = PRIORS | dict(case.priors)
    used = {name: prior for name, prior in priors.items() if _is_used(case, name)}
    return gb.Model(case.formulas, DATA, case.family, priors=used)


def _is_used(case: Case, name: str) -> bool:
    mean, terms = case.formulas[0].partition("~")[2], "|" in case.formulas[0].partition("~")[2]
    if name in ("intercept", "beta"):
        return "0 + (" not in mean
    return terms or name != "sd"


@dataclass(frozen=True, eq=False)
class Made:
    """An approximation of one response's posterior, for the posteriors of all others."""

    case: Case
    around: Around
    surrogate: Any
    target: Target


@cache
def made(name: str) -> Made:
    case = CASES[name]
    with np.errstate(all="ignore"):
        target = read_target(model_of(case), integrated=case.integrated)
        around = find_around(target)
    around = replace(around, problem=replace(around.problem, depth=case.depth))
    surrogate: Any = Nothing() if not len(around.psi) else Normal.like_the_prior(target)
    return Made(case, around, surrogate, Target(around.settings, around.axes, surrogate))


@dataclass(frozen=True, eq=False)
class Normal:
    """Proposals of outer parameters as wide as the posteriors together: as the prior is."""

    mean: np.ndarray
    root: np.ndarray

    @classmethod
    def like_the_prior(cls, target: Any) -> "Normal":
        rng = np.random.default_rng(2)
        theta = np.array([draw_theta(target.model, rng) for _ in range(300)])
        psi = np.array([target.log_prior.coordinates_of(one)[target.outer] for one in theta])
        spread = np.atleast_2d(np.cov(psi.T))
        return cls(psi.mean(axis=0), np.linalg.cholesky(spread))

    def sample(self, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
        x = self.mean + rng.standard_normal((size, len(self.mean))) @ self.root.T
        return x, self.log_density(x)

    def log_density(self, x: np.ndarray) -> np.ndarray:
        return -0.5 * np.square(np.linalg.solve(self.root, (x - self.mean).T)).sum(axis=0)


class Nothing:
    """No outer parameters."""

    def sample(self, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
        return np.empty((size, 0)), np.zeros(size)

    def log_density(self, x: np.ndarray) -> np.ndarray:
        return np.zeros(len(x))


# ---- exact draws


def draw_theta(model: gb.Model, rng: np.random.Generator) -> np.ndarray:
    """Draw outer parameters from their priors, by SciPy's or NumPy's own generators."""
    theta = np.full(max(at.stop for at in model.layout.values()), np.nan)
    for block in model.blocks:
        at = model.layout[block.name]
        theta[at] = [drawn(prior, rng) for prior in block.priors]
    assert np.isfinite(theta).all()
    return theta


def drawn(prior: gb.Prior, rng: np.random.Generator) -> float:
    arguments = {key: float(np.ravel(value)[0]) for key, value in prior.arguments.items()}
    match prior.distribution:
        case "Normal":
            return rng.normal(arguments["mu"], arguments["sigma"])
        case "HalfNormal":
            return abs(rng.normal(0, arguments["sigma"]))
        case "Gamma":
            return rng.gamma(arguments["alpha"], 1 / arguments["beta"])
        case "Beta":
            return rng.beta(arguments["alpha"], arguments["beta"])
        case _:
            return arguments["value"]


def predictor(model: gb.Model, name: str, theta: np.ndarray, b: list[np.ndarray]) -> np.ndarray:
    """Give a parameter's linear predictor of the centred columns and the effects."""
    design = model.design.predictors[name]
    beta = theta[model.layout.get("beta" if name == "mu" else f"beta_{name}", slice(0, 0))]
    eta = design.offset + (design.X - model.means(name)) @ beta
    for term, effects in zip(model.design.terms, b, strict=True):
        if any(loading.param == name for loading in term.loadings):
            eta = eta + term.Z(name) @ effects.ravel()
    return np.asarray(eta)


def draw_response(model: gb.Model, theta: np.ndarray, b: list[np.ndarray], rng: Any) -> np.ndarray:
    mu = predictor(model, "mu", theta, b)
    match model.family.name:
        case "poisson":
            return rng.poisson(np.exp(mu)).astype(float)
        case "binomial":
            return rng.binomial(DATA["n"], 1 / (1 + np.exp(-mu))).astype(float)
        case "gaussian":
            return rng.normal(mu, np.exp(predictor(model, "sigma", theta, b)))
        case _:
            alpha = (
                np.exp(predictor(model, "alpha", theta, b))
                if "alpha" in model.design.predictors
                else theta[model.layout["alpha"]]
            )
            return rng.poisson(np.exp(mu) * rng.gamma(alpha, 1 / alpha, N)).astype(float)


def exact_draw(made: Made, rng: np.random.Generator) -> tuple[Target, State]:
    """Draw parameters and a response: a state of the chain of that response's posterior."""
    target = made.around.target
    model = target.model
    theta = draw_theta(model, rng)
    named = {name: theta[None, at] for name, at in model.layout.items()}
    b = []
    for term in model.design.terms:
        parameters = {
            p.name: named[f"{p.name}_{term.name}"][0] for p in term.structure.parameters(term.size)
        }
        L = term.structure.factor(parameters, term.size)
        b.append(rng.standard_normal((len(term.levels), term.size)) @ L.T)
    y = draw_response(model, theta, b, rng)
    problem = made.around.problem
    rows = replace(problem.rows, y=y[problem.system.order])
    around = replace(made.around, problem=replace(problem, rows=rows))
    psi = target.log_prior.coordinates_of(theta)[target.outer]
    gamma = theta[model.layout["beta"]] if problem.X.shape[1] else np.empty(0)
    setting = around.settings(psi[None])(0)
    z1, z2 = normals(setting, np.concatenate([*(part.ravel() for part in b), gamma]))
    at = setting.place(setting.part(z1), z2)
    log_proposal = float(made.surrogate.log_density(psi[None])[0])
    state = State(psi, log_proposal, setting, z1, z2, at)
    return Target(around.settings, made.around.axes, made.surrogate), state


def normals(setting: Any, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the standard normals that come to given effects and coefficients: the map is affine."""
    (G, k), Q = setting.shapes

    def come_to(z: np.ndarray) -> np.ndarray:
        at = setting.place(setting.part(z[: G * k].reshape(G, k)), z[G * k :])
        return np.concatenate([*(b.ravel() for b in setting.effects(at)), at.gamma])

    zero = come_to(np.zeros(G * k + Q))
    root = np.array([come_to(unit) for unit in np.eye(G * k + Q)]).T - zero[:, None]
    z = np.linalg.solve(root, wanted - zero)
    return z[: G * k].reshape(G, k), z[G * k :]


# ---- moves


def by_surrogate(target: Target, rng: np.random.Generator, state: State) -> tuple[State, float]:
    psi, log_q = target.surrogate.sample(rng, 1)
    return _proposed(rng, state, psi[0], float(log_q[0]), target.setting(psi[0]))


def locally(target: Target, rng: np.random.Generator, state: State) -> tuple[State, float]:
    return _moved(target, rng, state, 0.7)


def rotated(leaps: int, target: Target, rng: Any, state: State) -> tuple[State, float]:
    return _rotated(rng, state, Tuning(leaps=leaps, angle=1.2))


def swept(target: Target, rng: np.random.Generator, state: State) -> tuple[State, float]:
    return _swept(rng, state)


type Move = Callable[[Target, np.random.Generator, State], tuple[State, float]]

MOVES: dict[str, Move] = {
    "by the surrogate": by_surrogate,
    "from where it is": locally,
    "rotated once": partial(rotated, 1),
    "rotated thrice": partial(rotated, 3),
    "level by level": swept,
}


def quantities(made: Made, state: State) -> np.ndarray:
    """Give what is compared: bounded functions, so that few draws do not decide."""
    effects = np.concatenate([*(b.ravel() for b in state.setting.effects(state.at)), np.empty(0)])
    scaled = np.concatenate(
        [
            (state.psi - made.around.psi) / np.sqrt(np.square(made.around.axes).sum(axis=1)),
            state.at.gamma,
            effects[:4],
            effects[-2:],
        ]
    )
    z = np.concatenate([state.z1.ravel()[:3], state.z2])
    density = (state.at.values.sum() + N) / np.sqrt(N)
    found = np.tanh(np.concatenate([scaled, z, [density]]))
    both = np.concatenate([found, np.square(found)])
    return np.concatenate([both, [found[0] * found[-1], found[0] * found[-2]]])


@cache
def exact_draws(name: str, count: int) -> list[tuple[Target, State]]:
    rng = np.random.default_rng(5)
    return [exact_draw(made(name), rng) for _ in range(count)]


def compared(name: str, move: Move, count: int) -> tuple[np.ndarray, float]:
    """Give z of each quantity's change by a move, and how often that was accepted."""
    changes, rates, rng = [], [], np.random.default_rng(6)
    for target, state in exact_draws(name, count):
        found, rate = move(target, rng, state)
        changes.append(quantities(made(name), found) - quantities(made(name), state))
        rates.append(rate)
    changes = np.array(changes)
    error = changes.std(axis=0) / np.sqrt(count)
    z = np.divide(changes.mean(axis=0), error, out=np.zeros_like(error), where=error > 1e-12)
    return z, float(np.mean(rates))


def whole_steps(count: int, target: Target, rng: Any, state: State) -> tuple[State, float]:
    """Walk as a chain does that has done with tuning, with every kind of move."""
    records: list[Any] = []
    chain = Chain(target, rng, warm=0, draws=count, keep=lambda i, record: records.append(record))
    chain.state = state
    chain.tuning = Tuning(angle=1.3, leaps=2, often=0.7)
    chain.advance(count)
    return chain.state, float(np.mean([record.outer for record in records]))


def can_be_tried(name: str, move: str) -> bool:
    """Tell whether there is something that can be moved so."""
    if move == "level by level":
        return not name.startswith(("members", "effects in the spread", "no random term"))
    return move != "from where it is" or name != "no outer parameter"


QUICK = ["crossed slopes", "effects in the spread, coefficients apart", "bounded coefficient"]


def moves_of(*names: str) -> list[tuple[str, str]]:
    return [(name, move) for name in names for move in MOVES if can_be_tried(name, move)]


@pytest.mark.parametrize(("name", "move"), moves_of(*QUICK))
def test_a_move_leaves_the_posterior_as_it_is(name, move):
    z, rate = compared(name, MOVES[move], 1000)
    # Not a number where there is nothing that could be moved so.
    assert not rate < 0.05
    assert np.abs(z).max() < LIMIT


@pytest.mark.parametrize("name", CASES)
def test_a_chain_leaves_the_posterior_as_it_is(name):
    z, rate = compared(name, partial(whole_steps, 4), 100)
    assert rate > 0.04
    assert np.abs(z).max() < LIMIT


@pytest.mark.slow
@pytest.mark.parametrize(("name", "move"), [*moves_of(*CASES), *((name, "all") for name in CASES)])
def test_a_move_leaves_the_posterior_as_it_is_by_many_draws(name, move):
    z, _ = compared(name, (MOVES | {"all": partial(whole_steps, 4)})[move], 5000)
    assert np.abs(z).max() < LIMIT


def test_a_wrong_move_is_found_out():
    """If every proposal were accepted, the surrogate would be in the posterior's place."""

    def always(target: Target, rng: Any, state: State) -> tuple[State, float]:
        psi, log_q = target.surrogate.sample(rng, 1)
        setting = target.setting(psi[0])
        at = setting.place(setting.part(state.z1), state.z2)
        return State(psi[0], float(log_q[0]), setting, state.z1, state.z2, at), 1.0

    z, _ = compared("crossed slopes", always, 1000)
    assert np.abs(z).max() > 2 * LIMIT


# ---- chains


def simple(log_density: Callable[[np.ndarray], float], d: int = 1) -> Target:
    """A posterior of outer parameters alone, proposed from two standard normals' widths."""

    def setting(psi: np.ndarray, i: int) -> Any:
        if not np.isfinite(log_density(psi[i])):
            return None
        at = SimpleNamespace(gamma=np.empty(0), log_density=0.0)
        return SimpleNamespace(
            shapes=((0, 0), 0),
            part=lambda z1: None,
            place=lambda part, z2: at,
            log_outer=log_density(psi[i]),
            factor=SimpleNamespace(log_determinant=0.0),
        )

    class Wide:
        def sample(self, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
            x = 2 * rng.standard_normal((size, d))
            return x, self.log_density(x)

        def log_density(self, x: np.ndarray) -> np.ndarray:
            return norm.logpdf(x, 0, 2).sum(axis=1)

    return Target(lambda psi: partial(setting, psi), np.eye(d), Wide())


def walked(target: Target, *, warm: int, draws: int, block: int, seed: int = 1) -> np.ndarray:
    found = np.empty((draws, target.axes.shape[0]))

    def keep(i: int, record: Any) -> None:
        found[i] = record.state.psi

    chain = Chain(target, np.random.default_rng(seed), warm=warm, draws=draws, keep=keep)
    while chain.done < chain.length:
        chain.advance(block)
    assert chain.kept == draws
    return found


def test_a_chain_does_not_depend_on_how_it_is_divided():
    target = simple(lambda x: float(norm.logpdf(x[0])))
    one = walked(target, warm=30, draws=50, block=25)
    np.testing.assert_array_equal(one, walked(target, warm=30, draws=50, block=7))
    assert (one != walked(target, warm=30, draws=50, block=25, seed=2)).any()


def test_a_skewed_density_with_an_end_is_found():
    """Of Gamma(3, 1), whose density is zero below zero: moments and quartiles."""
    target = simple(lambda x: 2 * np.log(x[0]) - x[0] if x[0] > 0 else -np.inf)
    with np.errstate(all="ignore"):
        x = walked(target, warm=100, draws=20_000, block=5000)[:, 0]
    assert x.min() > 0
    blocks = x.reshape(50, -1)
    for values, truth in ((blocks, 3.0), (blocks < 2.6740603, 0.5), (blocks < 1.7272994, 0.25)):
        means = values.mean(axis=1)
        assert abs(means.mean() - truth) < LIMIT * means.std() / np.sqrt(50)


def test_moves_are_tuned_only_while_a_chain_warms_up():
    target = simple(lambda x: float(norm.logpdf(x[0], 0, 0.3)))
    chain = Chain(target, np.random.default_rng(1), warm=40, draws=60, keep=lambda i, record: None)
    chain.advance(40)
    tuned = (chain.tuning.angle, chain.tuning.leaps, chain.tuning.local, chain.tuning.often)
    assert tuned[2] != Tuning().local
    chain.advance(60)
    now = (chain.tuning.angle, chain.tuning.leaps, chain.tuning.local, chain.tuning.often)
    assert now == tuned
    assert chain.done == 100


def test_a_chain_begins_where_there_is_density():
    target = simple(lambda x: 0.0 if abs(x[0]) < 0.05 else -np.inf)
    chain = Chain(target, np.random.default_rng(1), warm=0, draws=1, keep=lambda i, record: None)
    assert np.isfinite(chain.state.log_density)
    nowhere = simple(lambda x: -np.inf)
    with pytest.raises(np.linalg.LinAlgError, match="not finite about the mode"):
        Chain(nowhere, np.random.default_rng(1), warm=0, draws=1, keep=lambda *_: None)
