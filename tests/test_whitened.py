"""Effects and coefficients as standard normals: the map, its slopes and the density it states."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from pointmap import pymc_logp, pymc_point
from whitened_cases import CASES, VARIANTS, N, Point, around_of, model_of, points

import glmm_bayes as gb
from glmm_bayes.density import read_density
from glmm_bayes.engine.around.batched import Batched
from glmm_bayes.engine.around.variational import average
from glmm_bayes.engine.around.whitened import Whole
from glmm_bayes.engine.around.whitened_blocks import Blocks
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.penalised import LogPrior

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

    v, h = np.concatenate([point.psi, gamma]), 2e-4
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


@pytest.mark.parametrize("name", VARIANTS)
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
        x, h = around.target.tiled(point.psi), 1e-3
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
    problem, J = point.around.problem, loaded(point)
    others, R = problem.corrected.others, problem.random
    eta, h = problem.corrected.eta, problem.corrected.spread
    score, W = problem.corrected.working((point.setting.fixed - problem.base)[others])
    found = solved(point, J, score, W, eta)
    for _ in range(problem.depth):
        eta = point.setting.fixed.copy()
        eta[R] += J @ found.centre
        h = (h + np.einsum("anj,jk,bnk->abn", J, np.linalg.inv(found.H), J)) / 2
        rows = problem.corrected.rows
        means = average(rows, eta, h, R, order=2, straight=True)
        found = solved(point, J, means.first, semidefinite(means.weights), eta)
    return found


def solved(
    point: Point, J: np.ndarray, score: np.ndarray, W: np.ndarray, eta: np.ndarray
) -> Equations:
    """Solve for a normal response of weights W `(R, R, n)` about predictors eta `(P, n)`."""
    problem, prior = point.around.problem, point.around.problem.prior
    own = np.eye(J.shape[2])
    q = J.shape[2] - problem.X.shape[1]
    own[q:, q:] = prior.precision
    t = np.einsum("abn,bn->an", W, (eta - point.setting.fixed)[problem.random]) + score
    right = np.einsum("anj,an->j", J, t)
    right[q:] += prior.precision @ prior.mean
    H = np.einsum("anj,abn,bnk->jk", J, W, J) + own
    return Equations(H, np.linalg.solve(H, right))


def semidefinite(W: np.ndarray) -> np.ndarray:
    """Put next to nothing in the place of each row's negative eigenvalues."""
    parts = [np.linalg.eigh(W[:, :, i]) for i in range(W.shape[2])]
    least = 1e-8 * max(abs(values).max() for values, _ in parts)
    return np.stack([(V * np.maximum(values, least)) @ V.T for values, V in parts], axis=2)


def loaded(point: Point) -> np.ndarray:
    """Give the slopes `(R, n, N + k)` of the predictors by effects in standard units and gamma."""
    problem, model = point.around.problem, point.model
    names, found = [p.name for p in model.family.parameters], []
    for a in problem.random:
        parts = [np.empty((N, 0))]
        for term, L in zip(model.design.terms, factors(model, point.theta), strict=True):
            on = any(loading.param == names[a] for loading in term.loadings)
            shape = (N, len(term.levels) * term.size)
            Z = term.Z(names[a]).toarray() if on else np.zeros(shape)
            parts.append(Z @ np.kron(np.eye(len(term.levels)), L))
        columns = problem.X if a == 0 else np.zeros_like(problem.X)
        found.append(np.hstack([np.hstack(parts)[problem.system.order], columns]))
    return np.stack(found)


def standard(point: Point, at: Any) -> np.ndarray:
    """Give effects in standard units, in the model's order, and coefficients."""
    units = [
        np.linalg.solve(L, b.T).T.ravel()
        for b, L in zip(point.setting.effects(at), factors(point.model, point.theta), strict=True)
    ]
    return np.concatenate([*units, at.gamma])


@pytest.mark.parametrize("name", VARIANTS)
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
    root = np.reshape(columns, (len(columns), len(centre))).T
    np.testing.assert_allclose(root @ root.T @ truth.H, np.eye(len(centre)), atol=1e-6)
    moved = standard(point, point.place()) - centre
    z = np.concatenate([point.z1.ravel(), point.z2])
    np.testing.assert_allclose(moved, root @ z, atol=1e-8)
    sign, determinant = np.linalg.slogdet(truth.H)
    assert sign > 0
    assert point.setting.factor.log_determinant == pytest.approx(determinant, abs=1e-7)


@pytest.mark.parametrize("name", VARIANTS)
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


@pytest.mark.parametrize("name", VARIANTS)
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


@pytest.mark.parametrize(
    "name",
    [*(name for name in BY_LEVELS if name != "no random term"), "nested; coefficients apart",
     "crossed slopes; coefficients apart, corrected anew"],
)  # fmt: skip
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


# ---- one approximation, as one vector, by levels, and for many draws at once


def as_one(point: Point) -> Point:
    """Give the same approximation as one vector of normals, all of them zero."""
    problem = point.around.problem
    Lambdas, log_prior = point.setting.factor.spread.Lambdas, float(point.log_prior[0])
    whole = Whole.build(problem, Lambdas, [None] * len(Lambdas), point.setting.fixed, log_prior)
    return Point(point.around, point.psi, whole, np.zeros((0, 0)), np.zeros(whole.shapes[1]))


@pytest.mark.parametrize(
    "name",
    ["crossed slopes", "crossed", "no random term", "no coefficient", "crossed slopes; corrected "
     "anew", "nested; coefficients apart", "nested; coefficients apart, corrected anew"],
)  # fmt: skip
def test_as_one_and_by_levels_are_one_normal(name):
    """Both frames of one problem: the same centre, covariance and density."""
    (point,) = points(name, 1)
    other = as_one(point)
    assert isinstance(point.setting, Blocks)
    assert other.setting.log_outer == pytest.approx(point.setting.log_outer, abs=1e-9)
    zero1, zero2 = np.zeros_like(point.z1), np.zeros_like(point.z2)
    first, second = point.place(zero1, zero2), other.place()
    np.testing.assert_allclose(first.eta, second.eta, atol=1e-9)
    assert first.log_density == pytest.approx(second.log_density, abs=1e-8)
    G, k = point.z1.shape
    one = [point.place(e.reshape(G, k), zero2).eta[0] - first.eta[0] for e in np.eye(G * k)]
    one += [point.place(zero1, e).eta[0] - first.eta[0] for e in np.eye(len(zero2))]
    two = [other.place(z2=e).eta[0] - second.eta[0] for e in np.eye(len(other.z2))]
    np.testing.assert_allclose(np.transpose(one) @ one, np.transpose(two) @ two, atol=1e-8)


AT_ONCE = [
    "one effect a level", "crossed slopes", "nested", "members with slopes", "no coefficient",
    "no random term", "weights and an offset", "student, slopes", "negbinomial, slopes",
    "effects in the spread", "one covariance of two predictors", "fixed coefficients",
    "a formula for the shape", "bounded coefficient", "crossed slopes; coefficients apart",
    "effects in the spread; coefficients apart", "fixed deviations", "common correlation",
]  # fmt: skip


@pytest.mark.parametrize("name", AT_ONCE)
def test_many_draws_at_once_are_those_of_one_after_the_other(name):
    """The same centre, and density of whatever is drawn; and a root of the same covariance."""
    chosen = list(points(name, 3))
    around, target = chosen[0].around, chosen[0].around.target
    Q = around.problem.columns
    psi = np.array([point.psi for point in chosen]).reshape(3, -1).repeat(2 + Q, axis=0)
    normals = np.vstack([np.zeros(Q), np.eye(Q), np.random.default_rng(2).normal(size=Q)])
    log_prior = np.concatenate([point.log_prior for point in chosen]).repeat(2 + Q)
    theta, _ = target.log_prior.densities(target.tiled(psi))
    found = Batched(around.problem).draw(
        target.factors(theta), target.fixed_at(psi), log_prior, np.tile(normals, (3, 1))
    )
    whole = np.hstack([found.u, found.gamma]).reshape(3, 2 + Q, Q)
    inside = np.isfinite(found.log_density).reshape(3, 2 + Q)
    half = np.zeros((3, 2 + Q))
    half[inside] = found.log_density[inside.ravel()] - found.log_normals[inside.ravel()]
    for i, point in enumerate(chosen):
        truth = equations(point)
        np.testing.assert_allclose(whole[i, 0], truth.centre, rtol=1e-6, atol=1e-7)
        root = (whole[i, 1:-1] - whole[i, 0]).T
        np.testing.assert_allclose(root @ root.T @ truth.H, np.eye(Q), atol=1e-6)
        moved = whole[i, 0] + root @ normals[-1]
        np.testing.assert_allclose(whole[i, -1], moved, atol=1e-8)
        assert inside[i, 0]
        determinant = np.linalg.slogdet(truth.H)[1]
        np.testing.assert_allclose(half[i, inside[i]], 0.5 * determinant, atol=1e-7)
        centre = point.place(np.zeros_like(point.z1), np.zeros_like(point.z2))
        at = (2 + Q) * i
        assert found.log_normals[at] == pytest.approx(
            point.setting.log_outer + centre.log_density, abs=1e-7
        )
        for b, same in zip(found.effects, point.setting.effects(centre), strict=True):
            np.testing.assert_allclose(b[at], same, atol=1e-7)


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("name", AT_ONCE)
def test_many_draws_at_once_are_corrected_as_one_after_the_other(name, depth):
    """The same centre and volume, at outer parameters that are far apart."""
    (point, other) = points(name, 2)
    around = point.around
    around = replace(around, problem=replace(around.problem, depth=depth))
    psi = np.stack([point.psi, other.psi])
    theta, log_prior = around.target.log_prior.densities(around.target.tiled(psi))
    found = Batched(around.problem).draw(
        around.target.factors(theta),
        around.target.fixed_at(psi),
        log_prior,
        np.zeros((2, around.problem.columns)),
    )
    settings = around.settings(psi)
    for i in range(2):
        setting = settings(i)
        (G, k), Q = setting.shapes
        at = setting.place(setting.part(np.zeros((G, k))), np.zeros(Q))
        np.testing.assert_allclose(found.gamma[i], at.gamma, atol=1e-6)
        for b, same in zip(found.effects, setting.effects(at), strict=True):
            np.testing.assert_allclose(b[i], same, atol=1e-6)
        ours = setting.log_outer + at.log_density
        assert found.log_normals[i] == pytest.approx(ours, abs=1e-5)


@pytest.mark.parametrize("name", ["one effect a level", "no random term", "no coefficient"])
def test_many_draws_at_once_take_the_same_normals(name):
    """Where a level has one effect and there is one term, its root is unique."""
    for point in points(name, 2):
        target, z = point.around.target, np.concatenate([point.z1.ravel(), point.z2])
        psi = point.psi[None]
        found = Batched(point.around.problem).draw(
            [L[None] for L in point.setting.factor.spread.Lambdas],
            target.fixed_at(psi),
            point.log_prior,
            z[None],
        )
        at = point.place()
        np.testing.assert_allclose(found.gamma[0], at.gamma, atol=1e-9)
        np.testing.assert_allclose(
            np.concatenate([*(b.ravel() for b in found.effects), np.empty(0)]),
            point.effects(at),
            atol=1e-9,
        )
        ours = point.setting.log_outer + at.log_density
        assert found.log_normals[0] == pytest.approx(ours, abs=1e-8)
        posterior = ours + 0.5 * point.setting.factor.log_determinant
        assert found.log_density[0] == pytest.approx(posterior, abs=1e-8)


def test_many_draws_at_once_are_as_dense_as_the_model():
    """The log density of each draw, by the model's own of the same parameters."""
    name = "crossed slopes"
    joint, (point, other) = read_density(model_of(name)), points(name, 2)
    target, Q = point.around.target, point.around.problem.columns
    z = np.random.default_rng(3).normal(size=(2, Q))
    psi = np.stack([point.psi, other.psi])
    theta, log_prior = target.log_prior.densities(target.tiled(psi))
    found = Batched(point.around.problem).draw(
        target.factors(theta), target.fixed_at(psi), log_prior, z
    )
    theirs = []
    for i, at in enumerate((point, other)):
        theta = target.theta(psi[i][None], found.gamma[i][None])
        x = [joint.outer.unconstrain(theta)[0], *(found.u[i],)]
        own = joint.value_and_gradient(np.concatenate(x))[0]
        theirs.append(own + log_rate(at, found.gamma[i]))
    assert np.diff(found.log_density) == pytest.approx(np.diff(theirs), abs=1e-7)


def test_what_cannot_be_factored_has_no_density():
    (point, other) = points("crossed slopes", 2)
    target, Q = point.around.target, point.around.problem.columns
    psi = np.stack([point.psi, other.psi])
    theta, log_prior = target.log_prior.densities(target.tiled(psi))
    Lambdas = target.factors(theta)
    Lambdas[0][1, 0, 0] = np.nan
    found = Batched(point.around.problem).draw(
        Lambdas, target.fixed_at(psi), log_prior, np.zeros((2, Q))
    )
    assert np.isfinite(found.log_normals[0])
    assert found.log_normals[1] == -np.inf
