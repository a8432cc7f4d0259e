"""Effects and coefficients as standard normals: the map, its slopes and the density it states."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pointmap import pymc_logp, pymc_point

import glmm_bayes as gb
from glmm_bayes.density import read_density
from glmm_bayes.engine.whitened import Whole
from glmm_bayes.engine.whitened_blocks import Blocks
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.penalised import LogPrior
from glmm_bayes.posthoc.target import Around, find_around, read_target

N = 60
RNG = np.random.default_rng(4)
DATA = pd.DataFrame(
    {
        "x": RNG.normal(size=N),
        "z": RNG.normal(1.0, 1.5, size=N),
        "f": RNG.choice(list("abc"), N),
        "g": RNG.choice([f"g{k}" for k in range(7)], N),
        "g2": RNG.choice([f"g{k}" for k in range(7)], N),
        "h": RNG.choice([f"h{k}" for k in range(4)], N),
        "one": [f"r{k}" for k in range(N)],
        "w": RNG.integers(1, 4, N).astype(float),
        "w2": RNG.uniform(0.3, 2.0, N),
        "o": RNG.normal(size=N) / 3,
        "real": RNG.normal(1.0, 2.0, N),
        "size": RNG.gamma(2.0, 1.0, N),
        "share": RNG.uniform(0.05, 0.95, N),
        "yes": RNG.integers(0, 2, N),
        "count": RNG.poisson(3.0, N),
        "n": RNG.integers(4, 12, N),
        "wins": RNG.integers(0, 5, N),
    }
)
LEFT = {
    "bernoulli": "yes", "binomial": "wins | trials(n)", "beta_binomial": "wins | trials(n)",
    "beta": "share", "poisson": "count", "negbinomial": "count", "gamma": "size",
    "lognormal": "size", "inverse_gaussian": "size", "exponential": "size", "weibull": "size",
    "nbinom1": "count", "geometric": "count",
}  # fmt: skip

HALF = gb.Prior("HalfNormal", sigma=1)
# Its end is so far off that points for differences stay on its side.
FAR = gb.Prior("Truncated", dist=gb.Prior("Normal", mu=0, sigma=1), lower=-3)
EVERY_FAMILY = {
    f"{name}, slopes": (name, [f"{LEFT.get(name, 'real')} ~ x + (1 + x | g)"], {})
    for name in gb.FAMILIES
}
STRUCTURES = {
    "one effect a level": ("poisson", ["count ~ x + z + (1 | g)"], {}),
    "uncorrelated": ("poisson", ["count ~ x + (x || g)"], {}),
    "diagonal": ("bernoulli", ["yes ~ f + diag(0 + f | g)"], {}),
    "common correlation": ("poisson", ["count ~ f + cs(0 + f | g)"], {}),
    "crossed": ("poisson", ["count ~ x + (1 | g) + (1 | h)"], {}),
    "crossed slopes": ("binomial", ["wins | trials(n) ~ x + z + (1 + x | g) + (1 + z | h)"], {}),
    "nested": ("bernoulli", ["yes ~ x + (1 | h/g)"], {}),
    "a level a row": ("poisson", ["count ~ x + (1 | one) + (1 + x | g) + (1 | h)"], {}),
    "members": ("poisson", ["count ~ x + (1 | mm(g, g2)) + (1 | h)"], {}),
    "members with slopes": ("bernoulli", ["yes ~ x + (1 + x | mm(g, g2, weights=(w, w2)))"], {}),
    "weights and an offset": ("poisson", ["count | weights(w) ~ x + offset(o) + (1 | g)"], {}),
    "no coefficient": ("poisson", ["count ~ 0 + (1 | g)"], {}),
    "no intercept": ("poisson", ["count ~ 0 + x + (1 + x | g) + (1 | h)"], {}),
    "no random term": ("negbinomial", ["count ~ x + f"], {}),
    "a formula for the shape": ("negbinomial", ["count ~ x + (1 + x | g)", "alpha ~ z"], {}),
    "effects in the shape": ("negbinomial", ["count ~ x + (1 | g)", "alpha ~ z + (1 | h)"], {}),
    "effects in the spread": ("gaussian", ["real ~ x + (1 + x | g)", "sigma ~ x + (1 | g)"], {}),
    "effects in the spread only": ("gaussian", ["real ~ x", "sigma ~ z + (1 | g)"], {}),
    "one covariance of two predictors": (
        "gaussian", ["real ~ x + (1 + x |k| g)", "sigma ~ z + (1 |k| g)"], {},
    ),
    "every predictor of a student's t": (
        "student", ["real ~ x + (1 | g)", "sigma ~ z + (1 | h)", "nu ~ 1"], {},
    ),
}  # fmt: skip
PRIORS = {
    "fixed coefficient": {"beta[x]": 0.3},
    "fixed coefficients": {"beta": 0.1, "intercept": 0.4},
    "fixed deviations": {"sd_g": 0.7},
    "one fixed deviation": {"sd_g[x]": 0.4},
    "bounded coefficient": {"beta[x]": HALF, "beta[z]": gb.Prior("Cauchy", alpha=0, beta=1)},
    "coefficient on an interval": {"beta[x]": gb.Prior("Uniform", lower=-1, upper=2)},
    "bounded deviations": {"sd_g": gb.Prior("Uniform", lower=0, upper=2)},
    "deviations off zero": {
        "sd_g": gb.Prior("Truncated", dist=gb.Prior("Normal", mu=1, sigma=1), lower=0.3)
    },
    "other correlations": {"corr_g": gb.Prior("LKJCorr", eta=4), "sd": HALF},
    "vector": {"beta": gb.Prior("Normal", mu=[0, 0.5, 0], sigma=[1, 2, 1])},
}
OTHER_LINKS = {
    f"{family}, {link}": (family, link, parameter)
    for family, link, parameter in [
        ("bernoulli", "probit", "mu"), ("bernoulli", "cloglog", "mu"),
        ("binomial", "cauchit", "mu"),
        ("poisson", "sqrt", "mu"), ("gamma", "inverse", "mu"), ("beta", "loglog", "mu"),
        ("negbinomial", "identity", "alpha"), ("gaussian", "identity", "sigma"),
    ]
}  # fmt: skip


def links(family: str, link: str, parameter: str) -> tuple[str, list[str], dict[str, Any]]:
    return family, [f"{LEFT.get(family, 'real')} ~ x + (1 | g)"], {"link": {parameter: link}}


CASES: dict[str, tuple[str, list[str], dict[str, Any]]] = (
    EVERY_FAMILY
    | STRUCTURES
    | {
        name: ("poisson", ["count ~ x + z + (1 + x | g) + (1 | h)"], {"priors": priors})
        for name, priors in PRIORS.items()
    }
    | {
        "fixed shape": ("negbinomial", ["count ~ x + (1 | g)"], {"priors": {"alpha": 3.0}}),
        "bounded shape": (
            "gamma", ["size ~ x + (1 | g)"],
            {"priors": {"alpha": gb.Prior("Uniform", lower=0.2, upper=30)}},
        ),
        "fixed and bounded coefficients of the shape": (
            "negbinomial", ["count ~ x + (1 | g)", "alpha ~ x + z"],
            {"priors": {"beta_alpha[x]": 0.2, "beta_alpha[z]": FAR}},
        ),
    }
    | {name: links(*given) for name, given in OTHER_LINKS.items()}
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Point:
    """Standard normals at outer parameters psi, and the frame that turns them into effects."""

    around: Around
    psi: np.ndarray
    setting: Any
    z1: np.ndarray
    z2: np.ndarray

    def place(self, z1: np.ndarray | None = None, z2: np.ndarray | None = None) -> Any:
        first = self.setting.part(self.z1 if z1 is None else z1)
        return self.setting.place(first, self.z2 if z2 is None else z2)

    def effects(self, at: Any) -> np.ndarray:
        """Give b of all terms, one after the other."""
        return np.concatenate([*(b.ravel() for b in self.setting.effects(at)), np.empty(0)])


@cache
def model_of(name: str) -> gb.Model:
    family, formulas, more = CASES[name]
    return gb.Model(formulas, DATA, family, centering="noncentered", **more)


@cache
def around_of(name: str) -> Around:
    with np.errstate(all="ignore"):
        return find_around(read_target(model_of(name)))


def points(name: str, count: int = 3, size: float = 0.6):
    around, rng = around_of(name), np.random.default_rng(8)
    while count:
        psi = around.psi + size * around.axes @ rng.normal(size=len(around.psi))
        setting = around.settings(psi[None])(0)
        if setting is None:
            continue
        (G, k), Q = setting.shapes
        found = Point(around, psi, setting, rng.normal(size=(G, k)), rng.normal(size=Q))
        if np.isfinite(found.place().log_density):
            yield found
            count -= 1


# ---- the density that the sampler walks on is the model's own


def unconstrained(point: Point, at: Any) -> np.ndarray:
    """Give the density's x: outer parameters on PyMC's scale, then effects in standard units."""
    target = point.around.target
    theta = target.theta(point.psi[None], at.gamma[None])
    x = [read_density(target.model).outer.unconstrain(theta)[0]]
    for b, L in zip(point.setting.effects(at), factors(target.model, theta[0]), strict=True):
        x.append(np.linalg.solve(L, b.T).T.ravel())
    return np.concatenate(x)


def factors(model: gb.Model, theta: np.ndarray) -> list[np.ndarray]:
    return [effects.factor(theta) for effects in read_density(model).effects]


def log_rate(point: Point, gamma: np.ndarray) -> float:
    """Give log |det| of PyMC's scale by psi and the coefficients, by differences."""
    target, d = point.around.target, len(point.psi)
    outer = read_density(target.model).outer

    def scale(v: np.ndarray) -> np.ndarray:
        return outer.unconstrain(target.theta(v[None, :d], v[None, d:]))[0]

    v, h = np.concatenate([point.psi, gamma]), 1e-3
    steps = h * np.eye(len(v))
    near = np.array([scale(v + e) - scale(v - e) for e in steps])
    far = np.array([scale(v + 2 * e) - scale(v - 2 * e) for e in steps])
    jacobian = (8 * near - far) / (12 * h)
    return float(np.linalg.slogdet(jacobian)[1]) if len(v) else 0.0


def log_densities(name: str) -> np.ndarray:
    """Give the sampler's log density, and the model's of the same coordinates, at some points."""
    joint, rows = read_density(model_of(name)), []
    for point in points(name, 4):
        at = point.place()
        ours = point.setting.log_outer + at.log_density + 0.5 * point.setting.factor.log_determinant
        theirs = joint.value_and_gradient(unconstrained(point, at))[0] + log_rate(point, at.gamma)
        rows.append((ours, theirs))
    return np.array(rows)


@pytest.mark.parametrize("name", CASES)
def test_the_density_is_the_models(name):
    steps = np.diff(log_densities(name), axis=0)
    assert np.abs(steps).max() > 1e-2
    np.testing.assert_allclose(steps[:, 0], steps[:, 1], rtol=1e-7, atol=1e-7)


WITH_PYMC = [
    "negbinomial, slopes", "crossed slopes", "effects in the spread", "members",
    "bounded coefficient", "bounded shape",
]  # fmt: skip


@pytest.mark.parametrize("name", WITH_PYMC)
def test_the_density_is_that_of_pymc(name):
    model = model_of(name)
    joint, logp, rows = read_density(model), pymc_logp(model), []
    for point in points(name, 3):
        at = point.place()
        ours = point.setting.log_outer + at.log_density + 0.5 * point.setting.factor.log_determinant
        theirs = float(logp(**pymc_point(model, joint, unconstrained(point, at))))
        rows.append((ours, theirs + log_rate(point, at.gamma)))
    steps = np.diff(rows, axis=0)
    assert np.abs(steps).max() > 1e-2
    np.testing.assert_allclose(steps[:, 0], steps[:, 1], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_the_priors_density_of_the_coordinates(name):
    """Of x itself: the prior on PyMC's scale times what that scale moves when x does."""
    around = around_of(name)
    coordinates, prior = around.target.coordinates, around.target.log_prior
    outer, rows = read_density(model_of(name)).outer, []
    at = [point.psi for point in points(name, 4)]
    x = around.target.tiled(np.array(at).reshape(len(at), -1))
    theta, many = prior.densities(x)
    for one, value in zip(x, many, strict=True):
        z = outer.unconstrain(coordinates.theta(one))
        on_z = outer.log_prior(outer.constrain(z))[0] + outer.log_slopes(z).sum()
        rows.append((value, on_z + rate_of_all(coordinates, one), prior.density(one)[0]))
    steps = np.diff(rows, axis=0)
    np.testing.assert_allclose(steps[:, 0], steps[:, 1], rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(steps[:, 2], steps[:, 1], rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(theta, [coordinates.theta(one) for one in x], rtol=1e-12)


def rate_of_all(coordinates: Coordinates, x: np.ndarray) -> float:
    def scale(x: np.ndarray) -> np.ndarray:
        return coordinates.outer.unconstrain(coordinates.theta(x))

    h = 1e-3
    steps = h * np.eye(len(x))
    near = np.array([scale(x + e) - scale(x - e) for e in steps])
    far = np.array([scale(x + 2 * e) - scale(x - 2 * e) for e in steps])
    jacobian = (8 * near - far) / (12 * h)
    return float(np.linalg.slogdet(jacobian)[1]) if len(x) else 0.0


@pytest.mark.parametrize("name", CASES)
def test_the_slope_of_the_priors_density(name):
    around = around_of(name)
    prior: LogPrior = around.target.log_prior
    for point in points(name, 2):
        x, h = around.target.x(point.psi), 1e-3
        steps = h * np.eye(len(x))
        near = np.array([prior.density(x + e)[0] - prior.density(x - e)[0] for e in steps])
        far = np.array([prior.density(x + 2 * e)[0] - prior.density(x - 2 * e)[0] for e in steps])
        expected = (8 * near - far) / (12 * h) if len(x) else x
        np.testing.assert_allclose(prior.density(x)[1], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "edge"),
    [("bounded coefficient", "beta"), ("coefficient on an interval", "beta")],
)
def test_outside_of_a_support_there_is_no_density(name, edge):
    (point,) = points(name, 1)
    prior = point.around.target.prior
    inside = point.place().gamma
    k = list(model_of(name).design.predictors["mu"].names).index("x")
    for value in (prior.lower[k] - 1e-9, prior.upper[k] + 1e-9):
        outside = inside.copy()
        outside[k] = value
        if np.isfinite(value):
            assert prior.log_density(outside) == -np.inf
    assert np.isfinite(prior.log_density(inside))


# ---- the map, its centre and its slopes


@dataclass(frozen=True, eq=False)
class Equations:
    """The normal approximation on dense matrices, of effects in standard units, coefficients."""

    H: np.ndarray
    centre: np.ndarray


def equations(point: Point) -> Equations:
    problem, model = point.around.problem, model_of_point(point)
    order, prior = problem.system.order, problem.prior
    theta = point.around.target.theta(point.psi[None], prior_mean(point)[None])[0]
    names = [p.name for p in model.family.parameters]
    blocks = factors(model, theta)
    J = []
    for a in problem.random:
        parts = []
        for term, L in zip(model.design.terms, blocks, strict=True):
            loaded = any(loading.param == names[a] for loading in term.loadings)
            shape = (N, len(term.levels) * term.size)
            Z = term.Z(names[a]).toarray() if loaded else np.zeros(shape)
            parts.append(Z @ np.kron(np.eye(len(term.levels)), L))
        columns = problem.X if a == 0 else np.zeros_like(problem.X)
        J.append(np.hstack([np.hstack([np.empty((N, 0)), *parts])[order], columns]))
    K = np.stack(J)
    moved = (point.setting.fixed - point.around.fixed)[problem.corrected.others]
    score, W = problem.corrected.working(moved)
    own = np.zeros((K.shape[2],) * 2)
    q = K.shape[2] - problem.X.shape[1]
    own[:q, :q], own[q:, q:] = np.eye(q), prior.precision
    t = np.einsum("abn,bn->an", W, problem.rest) + score
    right = np.einsum("anj,an->j", K, t)
    right[q:] += prior.precision @ prior.mean
    H = np.einsum("anj,abn,bnk->jk", K, W, K) + own
    return Equations(H, np.linalg.solve(H, right))


def model_of_point(point: Point) -> gb.Model:
    return point.around.target.model


def prior_mean(point: Point) -> np.ndarray:
    return np.zeros(point.around.problem.X.shape[1])


def standard(point: Point, at: Any) -> np.ndarray:
    """Give effects in standard units, in the model's order, and coefficients."""
    theta = point.around.target.theta(point.psi[None], prior_mean(point)[None])[0]
    units = [
        np.linalg.solve(L, b.T).T.ravel()
        for b, L in zip(
            point.setting.effects(at), factors(model_of_point(point), theta), strict=True
        )
    ]
    return np.concatenate([*units, at.gamma])


@pytest.mark.parametrize("name", CASES)
def test_standard_normals_become_the_stated_normal(name):
    """The map is affine; its root times its transpose is the inverse Hessian."""
    (point,) = points(name, 1)
    truth, (G, k) = equations(point), point.z1.shape
    zero1, zero2 = np.zeros_like(point.z1), np.zeros_like(point.z2)
    centre = standard(point, point.place(zero1, zero2))
    np.testing.assert_allclose(centre, truth.centre, rtol=1e-6, atol=1e-7)
    columns = []
    for unit in np.eye(G * k):
        columns.append(standard(point, point.place(unit.reshape(G, k), zero2)) - centre)
    for unit in np.eye(len(zero2)):
        columns.append(standard(point, point.place(zero1, unit)) - centre)
    root = np.array(columns).reshape(-1, len(centre)).T
    np.testing.assert_allclose(root @ root.T @ truth.H, np.eye(len(centre)), atol=1e-6)
    moved = standard(point, point.place()) - centre
    z = np.concatenate([point.z1.ravel(), point.z2])
    np.testing.assert_allclose(moved, root @ z, atol=1e-8)
    sign, determinant = np.linalg.slogdet(truth.H)
    assert sign > 0
    assert point.setting.factor.log_determinant == pytest.approx(determinant, abs=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_predictors_and_their_densities_are_in_step(name):
    for point in points(name, 2):
        at, model, problem = point.place(), model_of(name), point.around.problem
        theta = point.around.target.theta(point.psi[None], at.gamma[None])[0]
        for a, parameter in enumerate(model.family.parameters):
            eta = predictor(model, parameter.name, theta, point.setting.effects(at))
            np.testing.assert_allclose(at.eta[a], eta[problem.system.order], atol=1e-8)
        np.testing.assert_array_equal(at.values, problem.rows.value(at.eta))
        normal = sum(float(np.vdot(u, u)) for u in standard_parts(point, at))
        own = at.values.sum() + problem.log_prior(at.gamma) - 0.5 * normal
        assert at.log_density == pytest.approx(own, abs=1e-7)


def predictor(model: gb.Model, name: str, theta: np.ndarray, effects: list[np.ndarray]):
    """Give a parameter's linear predictor from named parameters and effects."""
    if name in model.constants:
        value = theta[model.layout[name]]
        return np.full(N, model.links[name].linkfun(value)[0])
    design = model.design.predictors[name]
    beta = theta[model.layout.get("beta" if name == "mu" else f"beta_{name}", slice(0, 0))]
    eta = design.offset + (design.X - model.means(name)) @ beta
    for term, b in zip(model.design.terms, effects, strict=True):
        if any(loading.param == name for loading in term.loadings):
            eta = eta + term.Z(name) @ b.ravel()
    return eta


def standard_parts(point: Point, at: Any) -> list[np.ndarray]:
    q = len(at.gamma)
    whole = standard(point, at)
    return [whole[: len(whole) - q]]


@pytest.mark.parametrize("name", CASES)
def test_slopes_are_difference_quotients(name):
    for point in points(name, 2):
        h, expected = 1e-3, np.empty_like(point.z2)
        for k in range(len(point.z2)):
            e = h * np.eye(len(point.z2))[k]
            near = difference(point, e)
            expected[k] = (8 * near - difference(point, 2 * e)) / (12 * h)
        found = point.setting.slopes(point.place())
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def difference(point: Point, step: np.ndarray) -> float:
    up, down = (point.place(z2=point.z2 + s).log_density for s in (step, -step))
    return up - down


# ---- level by level

BY_LEVELS = [name for name in CASES if "members" not in name and "effects in" not in name
             and name not in ("one covariance of two predictors",
                              "every predictor of a student's t")]  # fmt: skip


@pytest.mark.parametrize("name", BY_LEVELS)
def test_what_can_be_moved_by_levels_is(name):
    (point,) = points(name, 1)
    assert isinstance(point.setting, Blocks)


@pytest.mark.parametrize("name", sorted(set(CASES) - set(BY_LEVELS)))
def test_what_cannot_be_is_moved_as_one(name):
    (point,) = points(name, 1)
    assert isinstance(point.setting, Whole)


@pytest.mark.parametrize("name", [name for name in BY_LEVELS if name != "no random term"])
def test_a_sweep_is_a_metropolis_step_of_each_level(name):
    """Each level's acceptance by whole log densities, which its own normals alone have changed."""
    (point,) = points(name, 1)
    z1, moved = point.z1.copy(), 0
    for seed in range(6):
        before, at = z1.copy(), point.place(z1)
        rng = np.random.default_rng(seed)
        fresh, chance = rng.standard_normal(z1.shape), np.log(rng.random(len(z1)))
        found, share = point.setting.sweep(at, z1, np.random.default_rng(seed))
        expected = before.copy()
        for level in range(len(z1)):
            tried = before.copy()
            tried[level] = fresh[level]
            gain = point.place(tried).log_density - at.log_density
            gain += 0.5 * (
                np.vdot(fresh[level], fresh[level]) - np.vdot(before[level], before[level])
            )
            if chance[level] < gain:
                expected[level] = fresh[level]
        np.testing.assert_array_equal(z1, expected)
        accepted = (z1 != before).any(axis=1).sum()
        assert share == pytest.approx(accepted / len(z1))
        moved += accepted
        same = point.place(z1)
        np.testing.assert_allclose(found.eta, same.eta, atol=1e-9)
        np.testing.assert_allclose(found.values, same.values, atol=1e-8)
        np.testing.assert_allclose(point.effects(found), point.effects(same), atol=1e-9)
        assert found.log_density == pytest.approx(same.log_density, abs=1e-7)
    assert moved


@pytest.mark.parametrize("name", ["crossed slopes", "crossed", "no random term", "no coefficient"])
def test_as_one_and_by_levels_are_one_normal(name):
    """Both frames of one problem: the same centre, covariance and density."""
    (point,) = points(name, 1)
    around = point.around
    _, log_prior = around.target.log_prior.densities(around.target.tiled(point.psi[None]))
    moved = (point.setting.fixed - around.fixed)[around.problem.corrected.others]
    Lambdas = point.setting.factor.spread.Lambdas
    whole = Whole.build(around.problem, Lambdas, point.setting.fixed, moved, float(log_prior[0]))
    blocks = point.setting
    assert whole.log_outer == pytest.approx(blocks.log_outer, abs=1e-9)
    other = Point(around, point.psi, whole, np.zeros((0, 0)), np.zeros(whole.shapes[1]))
    zero1, zero2 = np.zeros_like(point.z1), np.zeros_like(point.z2)
    first, second = point.place(zero1, zero2), other.place()
    np.testing.assert_allclose(first.eta, second.eta, atol=1e-9)
    assert first.log_density == pytest.approx(second.log_density, abs=1e-8)
    G, k = point.z1.shape
    one = [point.place(e.reshape(G, k), zero2).eta[0] - first.eta[0] for e in np.eye(G * k)]
    one += [point.place(zero1, e).eta[0] - first.eta[0] for e in np.eye(len(zero2))]
    two = [other.place(z2=e).eta[0] - second.eta[0] for e in np.eye(len(other.z2))]
    np.testing.assert_allclose(np.transpose(one) @ one, np.transpose(two) @ two, atol=1e-8)
