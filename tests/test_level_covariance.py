"""Structures of levels: laws over the registry, and predictions at new levels by the textbook."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import gamma, kv
from scipy.stats import chi2

import glmm_bayes as gb
from glmm_bayes.arrays import graph
from glmm_bayes.covariance import LEVEL_COVARIANCES, LevelCovariance, Places, intrinsic
from glmm_bayes.density import read_density
from glmm_bayes.engine.latent import Pattern
from glmm_bayes.errors import DataError, FormulaError, NotSupportedError, UnknownNameError
from glmm_bayes.kriging import standard_effects
from glmm_bayes.modes.whitening import whitened_density

type Theta = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """
    A structure made for some levels, and what its covariance should be.

    `covariance(theta, places)` is stated in the plainest way, between all `places`; `new` are
    places to add. `tolerance` is of its entries: sums that should be zero have a small variance.
    """

    places: Places
    theta: Theta
    covariance: Callable[[Theta, Places], np.ndarray]
    new: Places | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-7


def along(process: list[int], time: list[float]) -> Places:
    names = tuple(f"{g}:{t:g}" for g, t in zip(process, time, strict=True))
    at, none = np.array(time)[:, None], np.empty((len(names), 0), dtype=object)
    return Places(names, np.array(process), at, "a term", (), none)


def between(places: Places) -> tuple[np.ndarray, np.ndarray]:
    """Give distances, and whether places share a process."""
    t, g = places.at[:, 0], places.process
    return np.abs(np.subtract.outer(t, t)), np.equal.outer(g, g)


def ar1(theta: Theta, places: Places) -> np.ndarray:
    d, same = between(places)
    return np.where(same, float(theta["rho"][0]) ** d, 0.0)


def ou(theta: Theta, places: Places) -> np.ndarray:
    d, same = between(places)
    return np.where(same, np.exp(-d / theta["range"][0]), 0.0)


def walk(theta: Theta, places: Places) -> np.ndarray:
    t, (_, same) = places.at[:, 0], between(places)
    begun = np.array([1.0, 2.0])[places.process]
    return np.where(same, np.minimum.outer(t - begun, t - begun), 0.0)


def bends(t: np.ndarray) -> np.ndarray:
    """Give the precision of changes of slope at uneven times, one after the other."""
    Q = np.zeros((len(t), len(t)))
    for k in range(1, len(t) - 1):
        one, two = t[k] - t[k - 1], t[k + 1] - t[k]
        h = np.zeros(len(t))
        h[k - 1 : k + 2] = 1 / one, -1 / one - 1 / two, 1 / two
        Q += np.outer(h, h) / ((one + two) / 2)
    return Q


def bent(theta: Theta, places: Places) -> np.ndarray:
    """
    Give the covariance of `rw2` between the times of UNEVEN and others.

    Process 0 goes on in steps of 3 from 5 and 9; process 1 is a line alone, that is zero, up to 7.
    """
    C = np.linalg.pinv(bends(np.array([1.0, 4, 5, 9])), rcond=1e-9)
    unit = 1 / np.exp(np.log(np.diag(C)).mean())
    C = unit * C
    on = [np.array([1.0, 4, 5, 9, 12, 15, 18, 21]), np.array([2.0, 7, 12])]
    found = []
    for t, start in zip(on, (C, np.zeros((2, 2))), strict=True):
        for k in range(len(start), len(t)):
            one, two = t[k - 1] - t[k - 2], t[k] - t[k - 1]
            a = np.zeros(k)
            a[-2:] = -two / one, 1 + two / one
            news = two**2 * (one + two) / 2 * unit
            start = np.block([[start, (start @ a)[:, None]], [a @ start, a @ start @ a + news]])
        found.append(start)
    A = [
        np.array([np.interp(x, t, row) for row in np.eye(len(t))])
        for t, x in ((on[g], places.at[:, 0]) for g in (0, 1))
    ]
    same = np.equal.outer(places.process, places.process)
    both = [part.T @ V @ part for part, V in zip(A, found, strict=True)]
    return np.where(same, np.where(places.process[:, None] == 0, both[0], both[1]), 0.0)


UNEVEN = along([0, 1, 0, 0, 1, 0], [1, 2, 9, 4, 7, 5])
LATER = along([1, 0, 0, 1], [5, 3, 20, 8])
ABC = np.array(["a", "b", "c"], dtype=object)
NAMED = Places(tuple(ABC), np.zeros(3, int), np.empty((3, 0)), "a term", ("g",), ABC[:, None])


def named(*names: str) -> Places:
    labels = np.array(names, dtype=object)
    q = len(names)
    return Places(names, np.zeros(q, int), np.empty((q, 0)), "a term", ("g",), labels[:, None])


# The branches from the root to each tip; "e" is where "d" branches off.
NEWICK = "((a:1,b:2):1,(c:1.5,(d:0.5,e:0):1):0.5,f:3);"
BRANCHES = {
    "a": {"ab": 1.0, "a": 1.0},
    "b": {"ab": 1.0, "b": 2.0},
    "c": {"cde": 0.5, "c": 1.5},
    "d": {"cde": 0.5, "de": 1.0, "d": 0.5},
    "e": {"cde": 0.5, "de": 1.0},
    "f": {"f": 3.0},
}


def together(places: Places) -> np.ndarray:
    """Sum the branches that two tips share."""
    paths = [BRANCHES[name] for name in places.names]
    return np.array([[sum(one[k] for k in one if k in two) for two in paths] for one in paths])


def shared_paths(theta: Theta, places: Places) -> np.ndarray:
    V = together(places)
    root = np.sqrt(np.diag(V))
    return V / np.outer(root, root)


PEDIGREE = pd.DataFrame(
    [("e", "c", "d"), ("a", "x", "y"), ("b", "x", "y"), ("c", "a", "b"), ("d", "a", None)],
    columns=["id", "sire", "dam"],
)
# By the tabular method, by hand: "c" is of full sibs, "e" of half aunt and niece and more.
ADDITIVE = {
    "aa": 1.0, "ab": 0.5, "ac": 0.75, "ad": 0.5, "ae": 0.625,
    "bb": 1.0, "bc": 0.75, "bd": 0.25, "be": 0.5,
    "cc": 1.25, "cd": 0.375, "ce": 0.8125,
    "dd": 1.0, "de": 0.6875,
    "ee": 1.1875,
}  # fmt: skip


def additive(theta: Theta, places: Places) -> np.ndarray:
    return np.array(
        [[ADDITIVE["".join(sorted(i + j))] for j in places.names] for i in places.names]
    )


# Entries may be negative, and levels need not be related.
RELATED = pd.DataFrame(
    [
        [1, -0.3, 0.2, 0, 0],
        [-0.3, 1.2, 0, 0, 0],
        [0.2, 0, 1, 0, 0],
        [0, 0, 0, 2, 1],
        [0, 0, 0, 1, 1],
    ],
    [*"abcde"],
    [*"abcde"],
)


def inverse(K: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(np.linalg.inv(K), K.index, K.columns)


def ar2(theta: Theta, places: Places) -> np.ndarray:
    """By the autocovariances' own recursion, r_k = phi_1 r_(k-1) + phi_2 r_(k-2)."""
    r1, r2 = theta["partial"]
    phi1, phi2 = r1 * (1 - r2), r2
    r = [1.0, phi1 / (1 - phi2)]
    for _ in range(40):
        r.append(phi1 * r[-1] + phi2 * r[-2])
    d, same = between(places)
    return np.where(same, np.array(r)[d.astype(int)], 0.0)


def arma(theta: Theta, places: Places) -> np.ndarray:
    """By the weights of past news, 1, phi + psi, phi (phi + psi), …"""
    phi, psi = theta["phi"][0], theta["psi"][0]
    past = np.concatenate([[1.0], (phi + psi) * phi ** np.arange(300)])
    d, same = between(places)
    r = np.array([past[: len(past) - k] @ past[k:] for k in range(40)])
    return np.where(same, (r / r[0])[d.astype(int)], 0.0)


def crossed(theta: Theta, places: Places) -> np.ndarray:
    t = places.labels[:, 0].astype(float)
    in_time = np.exp(-np.abs(np.subtract.outer(t, t)) / theta["range_t"][0])
    return in_time * np.equal.outer(places.labels[:, 1], places.labels[:, 1])


def combined(t: list[float], a: list[str]) -> Places:
    labels = np.array([[f"{x:g}", y] for x, y in zip(t, a, strict=True)], dtype=object)
    names = tuple(map(":".join, labels.tolist()))
    q = len(names)
    return Places(names, np.zeros(q, int), np.empty((q, 0)), "a term", ("t", "a"), labels)


def scattered(seed: int, q: int) -> Places:
    at = np.random.default_rng(seed).uniform(0, 3, (q, 2))
    names, none = tuple(f"{x:.6f},{y:.6f}" for x, y in at), np.empty((q, 0), dtype=object)
    return Places(names, np.arange(q) % 2, at, "a term", (), none)


def over_distance(
    correlation: Callable[[np.ndarray, Theta], np.ndarray],
) -> Callable[..., np.ndarray]:
    def covariance(theta: Theta, places: Places) -> np.ndarray:
        d = np.linalg.norm(places.at[:, None] - places.at[None], axis=2) / theta["range"][0]
        same = np.equal.outer(places.process, places.process)
        return np.where(same, correlation(d, theta), 0.0)

    return covariance


def matern(r: np.ndarray, theta: Theta) -> np.ndarray:
    nu, r = theta["nu"][0], np.maximum(r, 1e-12)
    return 2 ** (1 - nu) / gamma(nu) * r**nu * kv(nu, r)


# Six areas: a ring of four with a tail, and one alone; "d" and "e" have no data.
EDGES = pd.DataFrame([("a", "b"), ("b", "c"), ("c", "d"), ("d", "a"), ("d", "e")])
MAP = {"a": ["b", "d"], "b": ["a", "c"], "c": ["b", "d"], "d": ["c", "a", "e"], "e": ["d"]}


def adjacency() -> np.ndarray:
    names = "abcde"
    return np.array([[float(j in MAP[i]) for j in names] for i in names])


def pseudo(theta: Theta, places: Places) -> np.ndarray:
    """By the generalised inverse, over the geometric mean of its diagonal."""
    W = adjacency()
    G = np.linalg.pinv(np.diag(W.sum(axis=1)) - W, rcond=1e-10)
    return (G / np.exp(np.log(np.diag(G)).mean()))[:3, :3]


def bym2(theta: Theta, places: Places) -> np.ndarray:
    rho = theta["rho"][0]
    return (1 - rho) * np.eye(3) + rho * pseudo(theta, places)


def car(theta: Theta, places: Places) -> np.ndarray:
    W = adjacency()
    return np.linalg.inv(np.diag(W.sum(axis=1)) - theta["rho"][0] * W)[:3, :3]


def sar(theta: Theta, places: Places) -> np.ndarray:
    W = adjacency()
    root = np.linalg.inv(np.eye(5) - theta["rho"][0] * W / W.sum(axis=1, keepdims=True))
    return (root @ root.T)[:3, :3]


def spde(theta: Theta, places: Places) -> np.ndarray:
    d = np.linalg.norm(places.at[:, None] - places.at[None], axis=2)
    return matern(np.sqrt(8) * d / theta["range"][0], {"nu": np.array([1.0])})


def inland(seed: int, q: int) -> Places:
    found = scattered(seed, q)
    return replace(found, at=found.at / 3, process=np.zeros(q, int))


def basis_process(theta: Theta, places: Places) -> np.ndarray:
    """Give the exact covariance, which a hundred sines come near to."""
    d = np.linalg.norm(places.at[:, None] - places.at[None], axis=2) / theta["range"][0]
    same = np.equal.outer(places.process, places.process)
    return np.where(same, (1 + np.sqrt(5) * d + 5 * d**2 / 3) * np.exp(-np.sqrt(5) * d), 0.0)


RHO = {"rho": np.array([0.6])}
RANGE = {"range": np.array([0.8])}
CASES: dict[str, Case] = {
    "icar": Case(NAMED, {}, pseudo, given={"0": EDGES}, tolerance=1e-5),
    "bym2": Case(NAMED, RHO, bym2, given={"0": MAP}, tolerance=1e-5),
    "car": Case(NAMED, RHO, car, given={"0": EDGES}),
    "sar": Case(NAMED, RHO, sar, given={"0": pd.DataFrame(adjacency(), [*"abcde"], [*"abcde"])}),
    "exp": Case(scattered(1, 7), RANGE, over_distance(lambda r, t: np.exp(-r)), scattered(2, 3)),
    "gau": Case(
        scattered(1, 7), RANGE, over_distance(lambda r, t: np.exp(-(r**2))), scattered(2, 3)
    ),
    "gp": Case(
        scattered(1, 7), RANGE, over_distance(lambda r, t: np.exp(-(r**2) / 2)), scattered(2, 3)
    ),
    "hsgp": Case(
        along([0, 1, 0, 0, 1, 0], [1, 2, 9, 4, 7, 5]),
        {"range": np.array([2.0])},
        basis_process,
        along([1, 0, 2, 0], [5, 3, 2, 8]),
        {"m": 100, "c": 3.0, "cov": "matern52"},
        tolerance=1e-4,
    ),
    "spherical": Case(
        scattered(1, 7),
        RANGE,
        over_distance(lambda r, t: np.where(r < 1, 1 - 1.5 * r + 0.5 * r**3, 0.0)),
        scattered(2, 3),
    ),
    "mat": Case(
        scattered(1, 7),
        RANGE | {"nu": np.array([0.9])},
        over_distance(matern),
        scattered(2, 3),
        {"nu": "estimated"},
    ),
    # Near to the Matérn covariance, with an error of the mesh.
    "spde": Case(
        inland(1, 6),
        {"range": np.array([1.0])},
        spde,
        given={"edge": 0.1, "extend": 1.0},
        tolerance=0.05,
    ),  # fmt: skip
    "arma": Case(UNEVEN, {"phi": np.array([0.7]), "psi": np.array([-0.4])}, arma, LATER),
    "ar": Case(UNEVEN, {"partial": np.array([0.5, -0.3])}, ar2, LATER, {"p": 2}),
    "kron": Case(
        combined([1, 4, 2, 1], ["u", "u", "v", "v"]),
        {"range_t": np.array([2.0])},
        crossed,
        combined([3, 1, 9], ["u", "w", "v"]),
        {"t": (LEVEL_COVARIANCES["ou"], {})},
    ),
    "pedigree": Case(named("c", "b"), {}, additive, named("e", "a", "d"), {"0": PEDIGREE}),
    "relmat": Case(
        named("c", "b"),
        {},
        lambda theta, places: RELATED.loc[list(places.names), list(places.names)].to_numpy(),
        named("e", "a"),
        {"0": RELATED},
    ),
    "precmat": Case(
        named("c", "b"),
        {},
        lambda theta, places: inverse(RELATED).loc[list(places.names), list(places.names)],
        named("e", "a"),
        {"0": RELATED},
    ),
    "phylo": Case(named("a", "c", "e"), {}, shared_paths, named("b", "d", "f"), {"0": NEWICK}),
    "iid": Case(NAMED, {}, lambda theta, places: np.eye(len(places.names))),
    "ar1": Case(UNEVEN, {"rho": np.array([-0.6])}, ar1, LATER),
    "ou": Case(UNEVEN, {"range": np.array([2.5])}, ou, LATER),
    "rw2": Case(UNEVEN, {}, bent, LATER, tolerance=3e-4),
    "rw1": Case(UNEVEN, {}, walk, LATER),
}


INTRINSIC = ["icar", "bym2", "rw2"]


@pytest.fixture(params=[*LEVEL_COVARIANCES, *(f"{name}, sparse" for name in INTRINSIC)])
def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Case:
    name, _, sparse = request.param.partition(", ")
    if sparse:
        # As of large parts: sums are held beside the entries, not in them.
        monkeypatch.setattr(intrinsic, "DENSE", 1)
    assert name in CASES, f"state the covariance of {name!r} here"
    return CASES[name]


@pytest.fixture
def structure(case: Case, request: pytest.FixtureRequest) -> LevelCovariance:
    name = next(k for k, v in CASES.items() if v is case)
    return LEVEL_COVARIANCES[name].of(case.places, case.given)


def precision(structure: LevelCovariance, theta: Theta) -> np.ndarray:
    if structure.pairs is None:
        return np.eye(len(structure.nodes))
    pattern = Pattern.of(structure)
    assert pattern is not None
    return pattern.dense(structure.entries(theta).values)


def mixed(structure: LevelCovariance, places: Places) -> np.ndarray:
    """Give the matrix `(q, nodes)` by which levels are made of nodes."""
    index, weights = structure.located(places)
    A = np.zeros((len(index), len(structure.nodes)))
    np.add.at(A, (np.arange(len(index))[:, None], index), weights)
    return A


def test_levels_have_the_covariance_that_is_stated(case: Case, structure: LevelCovariance) -> None:
    A = mixed(structure, case.places)
    found = A @ np.linalg.inv(precision(structure, case.theta)) @ A.T
    np.testing.assert_allclose(found, case.covariance(case.theta, case.places), atol=case.tolerance)


def test_the_determinant_is_that_of_the_precision(case: Case, structure: LevelCovariance) -> None:
    sign, value = np.linalg.slogdet(precision(structure, case.theta))
    assert sign == 1
    assert float(structure.entries(case.theta).log_determinant) == pytest.approx(value, abs=1e-9)


def test_new_levels_come_last_and_leave_the_others_as_they_are(
    case: Case, structure: LevelCovariance
) -> None:
    new = case.new or case.places
    more = structure.extended(new)
    assert more.nodes[: len(structure.nodes)] == structure.nodes
    every = case.places.joined(new)
    A = mixed(more, every)
    found = A @ np.linalg.inv(precision(more, case.theta)) @ A.T
    np.testing.assert_allclose(found, case.covariance(case.theta, every), atol=case.tolerance)


def test_graphs_and_slopes_are_those_of_the_arrays(case: Case, structure: LevelCovariance) -> None:
    import pytensor
    import pytensor.tensor as pt

    if structure.pairs is None:
        return
    rng, xp = np.random.default_rng(1), graph()
    by = rng.standard_normal(len(structure.pairs))
    given = {k: pt.vector(k) for k in case.theta}
    try:
        Q = structure.entries(given, xp)
    except NotSupportedError:
        pytest.skip("has no graph")
    if not given:
        return
    total = (by * Q.values).sum() + 0.7 * Q.log_determinant
    slopes = pytensor.grad(total, list(given.values()))
    # Entry by entry such graphs are large, and are evaluated once.
    both = pytensor.function(list(given.values()), [total, *slopes], mode="FAST_COMPILE")(
        *case.theta.values()
    )
    ours = structure.entries(case.theta)
    assert both[0] == pytest.approx(by @ ours.values + 0.7 * ours.log_determinant, rel=1e-10)
    found = structure.slopes(case.theta, by, 0.7)
    for name, slope in zip(given, both[1:], strict=True):
        np.testing.assert_allclose(found[name], slope, rtol=1e-8)


def test_parameters_have_priors_and_starts_within_their_support(
    case: Case, structure: LevelCovariance
) -> None:
    start = structure.start()
    for p in structure.parameters(len(structure.nodes)):
        assert structure.default_prior(p.key) is not None
        assert ((start[p.name] > p.support[0]) & (start[p.name] < p.support[1])).all()


# ---- whole models


def series(seed: int = 3) -> pd.DataFrame:
    """Simulate two groups' counts along uneven times, some of these repeated."""
    rng, rows = np.random.default_rng(seed), []
    for g in "uv":
        t = np.sort(rng.choice(40, 25, replace=False)).repeat(rng.integers(1, 3, 25))
        b = np.linalg.cholesky(0.7 ** np.abs(np.subtract.outer(range(40), range(40))))
        b = (b @ rng.standard_normal(40))[t]
        x = rng.standard_normal(len(t))
        y = 1 + 0.5 * x + b + 0.5 * rng.standard_normal(len(t))
        c = rng.poisson(np.exp(0.5 + 0.5 * x + 0.6 * b))
        rows.append(pd.DataFrame({"g": g, "t": t, "x": x, "y": y, "c": c}))
    return pd.concat(rows).sample(frac=1, random_state=seed).reset_index(drop=True)


def marginal_covariance(data: pd.DataFrame, sd: float, rho: float) -> np.ndarray:
    t, g = data["t"].to_numpy(), data["g"].to_numpy(str)
    same = np.equal.outer(g, g)
    return sd**2 * np.where(same, rho ** np.abs(np.subtract.outer(t, t)), 0.0)


def minus_loglik(data: pd.DataFrame) -> Callable[[np.ndarray], float]:
    """Give it by log sd, atanh rho and log sigma, the coefficients at their best."""
    X, y = np.column_stack([np.ones(len(data)), data["x"]]), data["y"].to_numpy()

    def loss(p: np.ndarray) -> float:
        V = marginal_covariance(data, np.exp(p[0]), np.tanh(p[1])) + np.exp(2 * p[2]) * np.eye(
            len(data)
        )
        L = np.linalg.cholesky(V)
        Xs, ys = np.linalg.solve(L, X), np.linalg.solve(L, y)
        r = ys - Xs @ np.linalg.lstsq(Xs, ys, rcond=None)[0]
        return 0.5 * float(r @ r + len(y) * np.log(2 * np.pi)) + np.log(np.diag(L)).sum()

    return loss


def test_maximum_likelihood_is_that_of_dense_algebra() -> None:
    data = series()
    best = minimize(minus_loglik(data), [0.0, 1.0, -0.5], method="BFGS")
    fit = gb.Model("y ~ x + ar1(t | g)", data).fit("ml")
    assert fit.loglik == pytest.approx(-best.fun, abs=1e-6)
    found = fit.varcorr().set_index("kind")["estimate"]
    assert found["rho"] == pytest.approx(np.tanh(best.x[1]), abs=1e-4)


def test_a_profile_ends_where_the_likelihood_has_fallen_by_half_a_quantile() -> None:
    data = series()
    loss = minus_loglik(data)
    top = -minimize(loss, [0.0, 1.0, -0.5], method="BFGS").fun
    fit = gb.Model("y ~ x + ar1(t | g)", data).fit("ml")
    ends = fit.confint(method="profile", parm=["rho_g"]).loc["rho_g", ["lower", "upper"]]
    for rho in ends:
        z = float(np.arctanh(rho))
        held = minimize(lambda p, z=z: loss([p[0], z, p[1]]), [0.0, -0.5])
        assert top + held.fun == pytest.approx(0.5 * chi2.ppf(0.95, 1), abs=2e-3)


def test_predictions_at_new_times_are_the_kriging_equations() -> None:
    """Cressie (1993), Statistics for Spatial Data, 3.2: mean and variance, parameters given."""
    data = series()
    fit = gb.Model("y ~ x + ar1(t | g)", data).fit("ml")
    new = pd.DataFrame({"x": 0.3, "t": [3, 18, 60, 5], "g": ["u", "v", "u", "w"]})
    both = pd.concat([data, new], ignore_index=True)
    sd, rho, sigma = fit.varcorr()["estimate"]
    K, n = marginal_covariance(both, sd, rho), len(data)
    V = K[:n, :n] + sigma**2 * np.eye(n)
    beta = fit.fixef()["estimate"].to_numpy()
    residual = data["y"] - beta[0] - beta[1] * data["x"]
    mean = beta[0] + 0.3 * beta[1] + K[n:, :n] @ np.linalg.solve(V, residual)
    found = fit.predict(new, kind="linear")
    np.testing.assert_allclose(found["estimate"], mean, atol=1e-8)
    only = np.diag(K[n:, n:] - K[n:, :n] @ np.linalg.solve(V, K[:n, n:]))
    # What the parameters' own uncertainty adds is on top.
    assert (found["std_error"] ** 2 > 0.999 * only).all()
    np.testing.assert_allclose(found["std_error"].iloc[2:] ** 2, only[2:], rtol=0.25)


@pytest.mark.parametrize("family", ["gaussian", "poisson"])
def test_the_graph_and_the_arrays_have_the_same_density(family: str) -> None:
    response = "y" if family == "gaussian" else "c"
    model = gb.Model(f"{response} ~ x + ar1(t | g) + (1 | g)", series(), family=family)
    graphed, joint = model.pymc, read_density(model)
    logp = graphed.compile_logp(mode="FAST_COMPILE")
    rng = np.random.default_rng(2)
    names = [v.name for v in graphed.value_vars]
    gaps, point = [], graphed.initial_point()
    order = [n for n in names if not n.startswith("v_")] + [n for n in names if n.startswith("v_")]
    for _ in range(3):
        moved = {k: v + 0.3 * rng.standard_normal(np.shape(v)) for k, v in point.items()}
        x = np.concatenate([np.ravel(moved[name]) for name in order])
        gaps.append(float(logp(moved)) - joint.value_and_gradient(x)[0])
    assert np.ptp(gaps) < 1e-8


def test_sampling_around_the_mode_agrees_with_the_marginal_posterior() -> None:
    """The posterior of rho, on a grid of dense algebra with all else fixed by priors."""
    data = series()
    priors = {"beta": 0.5, "beta[Intercept]": 1.0, "sd_g": 1.0, "sigma": 0.5}
    model = gb.Model("y ~ x + ar1(t | g)", data, priors=priors)
    fit = model.fit("posthoc", seed=1)
    grid = np.linspace(-0.99, 0.99, 400)
    r = (data["y"] - 1.0 - 0.5 * data["x"]).to_numpy()
    values = []
    for rho in grid:
        V = marginal_covariance(data, 1.0, rho) + 0.25 * np.eye(len(data))
        values.append(-0.5 * (np.linalg.slogdet(V)[1] + r @ np.linalg.solve(V, r)))
    weight = np.exp(np.array(values) - max(values))
    weight /= weight.sum()
    mean = weight @ grid
    sd = np.sqrt(weight @ (grid - mean) ** 2)
    row = fit.varcorr().query("kind == 'rho'").iloc[0]
    assert abs(row["estimate"] - mean) < 4 * sd / np.sqrt(row["ess_bulk"])
    assert row["std_error"] == pytest.approx(sd, rel=0.1)


def chequered(side: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Simulate a response by square of a chequered map, and list its edges."""
    name = np.arange(side**2).reshape(side, side)
    across, down = (name[:, :-1], name[:, 1:]), (name[:-1], name[1:])
    edges = np.concatenate([np.column_stack([a.ravel(), b.ravel()]) for a, b in (across, down)])
    rng, (i, j) = np.random.default_rng(4), np.divmod(np.arange(side**2), side)
    y = 1 + np.sin(i / 3) + np.cos(j / 4) + rng.normal(0, 0.5, side**2)
    return pd.DataFrame({"area": np.arange(side**2).astype(str), "y": y}), pd.DataFrame(edges)


def test_large_maps_have_the_likelihood_of_dense_algebra() -> None:
    """With more areas than are written out, whose Hessian is sparse."""
    data, edges = chequered(16)
    fit = gb.Model("y ~ 1 + icar(1 | area, W)", data, context={"W": edges}).fit("ml")
    q, (i, j) = len(data), edges.to_numpy().T
    W = np.zeros((q, q))
    W[i, j] = W[j, i] = 1.0
    G = np.linalg.pinv(np.diag(W.sum(axis=1)) - W, rcond=1e-10)
    G /= np.exp(np.log(np.diag(G)).mean())
    (sd, sigma), mean = fit.varcorr()["estimate"], fit.fixef()["estimate"].iloc[0]
    V = sd**2 * G + sigma**2 * np.eye(q)
    r = data["y"].to_numpy() - mean
    value = -0.5 * (np.linalg.slogdet(2 * np.pi * V)[1] + r @ np.linalg.solve(V, r))
    assert fit.loglik == pytest.approx(value, abs=1e-4)
    found = fit.ranef().set_index("level")["estimate"].loc[data["area"]]
    np.testing.assert_allclose(found, sd**2 * G @ np.linalg.solve(V, r), atol=1e-5)


def test_prior_draws_of_large_maps_sum_to_zero() -> None:
    data, edges = chequered(16)
    model = gb.Model("y ~ 1 + icar(1 | area, W)", data, context={"W": edges})
    term = model.design.terms[0]
    draws = [standard_effects(term, {}, np.random.default_rng(s)) for s in range(200)]
    v = np.array(draws)[:, :, 0]
    assert np.abs(v.mean(axis=1)).max() < 1e-3
    assert np.exp(np.log(v.var(axis=0)).mean()) == pytest.approx(1.0, rel=0.05)


def test_a_second_order_walk_has_the_likelihood_of_second_differences() -> None:
    """Of equally spaced times, by the generalised inverse of D'D, also with a time left out."""
    n, rng = 40, np.random.default_rng(3)
    t = np.arange(n)
    D = np.diff(np.eye(n), 2, axis=0)
    G = np.linalg.pinv(D.T @ D, rcond=1e-12)
    data = pd.DataFrame({"t": t, "y": np.sin(t / 6) + 0.02 * t + rng.normal(0, 0.3, n)})
    fit = gb.Model("y ~ t + rw2(t | 1, scale=False)", data).fit("ml")
    sd, sigma = fit.varcorr()["estimate"]
    V = sd**2 * G + sigma**2 * np.eye(n)
    X = np.column_stack([np.ones(n), t])
    r = data["y"].to_numpy() - X @ fit.fixef()["estimate"].to_numpy()
    value = -0.5 * (np.linalg.slogdet(2 * np.pi * V)[1] + r @ np.linalg.solve(V, r))
    assert fit.loglik == pytest.approx(value, abs=1e-5)
    scaled = gb.Model("y ~ t + rw2(t | 1)", data).fit("ml")
    assert scaled.loglik == pytest.approx(fit.loglik, abs=1e-4)
    typical = np.exp(0.5 * np.log(np.diag(G)).mean())
    assert scaled.varcorr()["estimate"].iloc[0] == pytest.approx(typical * sd, rel=1e-4)
    without = data.drop(index=[7, 8, 20])
    grid = gb.Model("y ~ t + rw2(t | 1, scale=False, step=1)", without).fit("ml")
    sd, sigma = grid.varcorr()["estimate"]
    at = without.index
    V = sd**2 * G[np.ix_(at, at)] + sigma**2 * np.eye(len(at))
    r = without["y"].to_numpy() - X[at] @ grid.fixef()["estimate"].to_numpy()
    value = -0.5 * (np.linalg.slogdet(2 * np.pi * V)[1] + r @ np.linalg.solve(V, r))
    assert grid.loglik == pytest.approx(value, abs=1e-5)


def test_a_second_order_walk_goes_on_along_its_last_slope() -> None:
    n = 30
    t = np.arange(n)
    y = np.where(t < 15, 0.0, 0.2 * (t - 15)) + np.random.default_rng(1).normal(0, 0.05, n)
    data = pd.DataFrame({"t": t, "y": y})
    fit = gb.Model("y ~ t + rw2(t | 1)", data).fit("reml")
    new = pd.DataFrame({"t": [-4.0, -2, 0, 10.5, 29, 31, 33]})
    found = fit.predict(new, kind="linear")
    line = found["estimate"].to_numpy()
    # Second differences of what is beyond the data are zero on average.
    assert line[6] - 2 * line[5] + line[4] == pytest.approx(0.0, abs=1e-6)
    assert line[0] - 2 * line[1] + line[2] == pytest.approx(0.0, abs=1e-6)
    assert (line[5] - line[4]) / 2 == pytest.approx(0.2, abs=0.05)
    assert found["std_error"].iloc[6] > found["std_error"].iloc[5] > found["std_error"].iloc[4]


@pytest.mark.parametrize("cov", ["exp_quad", "matern32", "matern52"])
@pytest.mark.parametrize("d", [1, 2])
def test_a_process_by_basis_functions_is_pymc_s(cov: str, d: int) -> None:
    """The covariance that pymc.gp.HSGP approximates with as many functions in as large a box."""
    import pymc as pm
    import pytensor.tensor as pt

    at = np.random.default_rng(3).uniform(1, 4, (9, d))
    frame = pd.DataFrame(at, columns=[*"uv"[:d]]).assign(y=np.arange(9.0))
    variables, m = ", ".join("uv"[:d]), [7, 5][:d]
    model = gb.Model(f"y ~ hsgp({variables}, m={m}, c=1.4, cov={cov!r})", frame)
    term = model.design.terms[0]
    own = precision(term.level_structure, RANGE)
    Z = term.Z("mu").toarray()
    theirs = {"exp_quad": "ExpQuad", "matern32": "Matern32", "matern52": "Matern52"}[cov]
    kernel = getattr(pm.gp.cov, theirs)(d, ls=RANGE["range"][0])
    process = pm.gp.HSGP(m=m, c=1.4, cov_func=kernel)
    phi, root = process.prior_linearized(pt.as_tensor(at))
    phi, root = phi.eval(), root.eval()
    np.testing.assert_allclose(Z @ np.linalg.inv(own) @ Z.T, (phi * root**2) @ phi.T, atol=1e-6)


def test_a_process_by_many_basis_functions_has_the_likelihood_of_the_exact_one() -> None:
    rng = np.random.default_rng(5)
    x = rng.uniform(0, 10, 80)
    data = pd.DataFrame({"x": x, "y": np.sin(x) + rng.normal(0, 0.4, 80)})
    exact = gb.Model("y ~ gp(x)", data).fit("ml")
    gaps = [
        abs(gb.Model(f"y ~ hsgp(x, m={m}, c=2.5)", data).fit("ml").loglik - exact.loglik)
        for m in (20, 30)
    ]
    assert gaps[0] > gaps[1]
    assert gaps[1] < 0.01
    many = gb.Model("y ~ hsgp(x, m=30, c=2.5)", data).fit("ml")
    new = pd.DataFrame({"x": [0.5, 5.0, 9.8]})
    one, other = exact.predict(new), many.predict(new)
    np.testing.assert_allclose(other["estimate"], one["estimate"], atol=0.02)
    np.testing.assert_allclose(other["std_error"], one["std_error"], rtol=0.05)
    with pytest.raises(DataError, match="larger c"):
        many.predict(pd.DataFrame({"x": [40.0]}))


# ---- bad input


@pytest.mark.parametrize(
    ("formula", "error", "words"),
    [
        ("y ~ ar1(x | g)", DataError, "whole numbers"),
        ("y ~ ou(g | 1)", DataError, "numbers, such as times"),
        ("y ~ ou(t + x | g)", DataError, "leave one"),
        ("y ~ ar1(t | g, 3)", FormulaError, "takes none"),
        ("y ~ (1 | 1)", FormulaError, "no group"),
        ("y ~ rw2(t | g, step=0)", FormulaError, "above zero"),
        ("y ~ gp(m=3)", FormulaError, "names no variables"),
        ("y ~ hsgp(x, 20)", FormulaError, "20 without a name"),
        ("y ~ hsgp(x)", FormulaError, "takes m, c=1.5"),
        ("y ~ hsgp(x, m=5, c=0.9)", FormulaError, "above 1"),
        ("y ~ hsgp(x, t, m=(5, 6, 7))", FormulaError, "one a dimension"),
        ("y ~ hsgp(x, m=5, cov='exponential')", FormulaError, "too rough"),
        ("y ~ gp(x, cov='matern32s')", UnknownNameError, "'matern32'"),
        ("y ~ rw2(t | x)", DataError, "at least three"),
    ],
)
def test_bad_input_is_one_clear_error(formula: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        gb.Model(formula, series())


def square(**changed: Any) -> Any:
    """Make a mesh of two triangles over the data of `series`, or a broken one."""
    points = np.array([[-60.0, -60.0], [60.0, -60.0], [-60.0, 60.0], [60.0, 60.0]])
    return SimpleNamespace(**{"points": points, "triangles": [[0, 1, 2], [1, 2, 3]], **changed})


def neighbours(changes: Mapping[tuple[str, str], float]) -> pd.DataFrame:
    """Give a chain of areas as a matrix, with some entries changed."""
    W = pd.DataFrame(np.eye(3, k=1) + np.eye(3, k=-1), [*"uvw"], [*"uvw"])
    for (i, j), value in changes.items():
        W.loc[i, j] = value
    return W


BROKEN_MAPS = {
    "its own neighbour": {("v", "v"): 1.0},
    "not symmetric": {("u", "v"): 0.0},
    "negative, missing": {("u", "v"): np.nan},
    "No area has a neighbour": dict.fromkeys([*zip("uvvw", "vuwv", strict=True)], 0.0),
}
BROKEN_MESHES = {
    "lies outside": {"points": 0.01 * square().points},
    "three of its points": {"triangles": [[0, 1, 7]]},
    "without an area": {"triangles": [[0, 1, 2], [1, 2, 3], [0, 3, 3]]},
    "in no triangle, number 3": {"triangles": [[0, 1, 2]]},
}


@pytest.mark.parametrize("words", BROKEN_MAPS)
@pytest.mark.parametrize("name", ["icar", "bym2", "car"])
def test_a_broken_map_is_one_clear_error(name: str, words: str) -> None:
    W = neighbours(BROKEN_MAPS[words])
    with pytest.raises(DataError, match=words):
        gb.Model(f"y ~ {name}(1 | g, W)", series(), context={"W": W})


@pytest.mark.parametrize("words", BROKEN_MESHES)
def test_a_broken_mesh_is_one_clear_error(words: str) -> None:
    mesh = square(**BROKEN_MESHES[words])
    with pytest.raises(DataError, match=words):
        gb.Model("y ~ spde(t + x | 1, mesh)", series(), context={"mesh": mesh})


@pytest.mark.parametrize("name", ["icar", "bym2", "car", "sar"])
def test_an_area_alone_is_said_and_stands(name: str) -> None:
    W = neighbours({("v", "w"): 0.0, ("w", "v"): 0.0})
    with pytest.warns(gb.DataWarning, match="1 area without neighbours"):
        model = gb.Model(f"y ~ {name}(1 | g, W)", series(), context={"W": W})
    structure = model.design.terms[0].level_structure
    theta = {p.key: np.full(1, 0.3) for p in structure.parameters(1)}
    shown = structure.shown
    own = np.linalg.inv(precision(structure, theta))[:shown, :shown][2]
    np.testing.assert_allclose(np.delete(own, 2), 0.0, atol=1e-12)
    assert own[2] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("entries", "words"), [([1.0, 1.0], "not positive definite"), ([0.4, 0.0], "not symmetric")]
)
def test_a_broken_relationship_matrix_is_one_clear_error(entries: list[float], words: str) -> None:
    K = pd.DataFrame([[1.0, entries[0]], [entries[1], 1.0]], [*"uv"], [*"uv"])
    with pytest.raises(DataError, match=words):
        gb.Model("y ~ relmat(1 | g, K)", series(), context={"K": K})


def test_whitening_by_the_mode_has_unit_curvature() -> None:
    model = gb.Model("c ~ x + ar1(t | g)", series(), family="poisson")
    joint = read_density(model)
    density = whitened_density(model, joint)
    steps, none = 1e-5 * np.eye(joint.size)[[4, 20]], np.zeros(joint.size)
    bends = [(density(none - s)[1] - density(none + s)[1]) @ s / (2 * s @ s) for s in steps]
    np.testing.assert_allclose(bends, 1.0, atol=1e-3)


@pytest.mark.parametrize("term", ["bym2(1 | area, W)", "ar1(t | area)"])
def test_whitening_has_the_joint_density_times_its_volume(term: str) -> None:
    """The density of the coordinates, that of the effects times the Jacobian by differences."""
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"area": [*"abcde"] * 4, "t": np.repeat(range(4), 5)})
    data["n"] = rng.poisson(4.0, 20)
    model = gb.Model(f"n ~ {term}", data, "poisson", context={"W": MAP})
    joint = read_density(model)
    density = whitened_density(model, joint)

    def log_volume(z: np.ndarray) -> float:
        steps = 1e-5 * np.eye(joint.size)
        J = [(density.place(z + s) - density.place(z - s)) / 2e-5 for s in steps]
        return float(np.linalg.slogdet(np.array(J))[1])

    none = np.zeros(joint.size)
    gaps = []
    for z in (none, *(0.4 * rng.standard_normal((2, joint.size)))):
        value, gradient = density(z)
        gaps.append(value - joint.value_and_gradient(density.place(z))[0] - log_volume(z))
        steps = 1e-5 * np.eye(joint.size)
        found = [(density(z + s)[0] - density(z - s)[0]) / 2e-5 for s in steps]
        np.testing.assert_allclose(gradient, found, rtol=1e-4, atol=1e-5)
    assert np.ptp(gaps) < 1e-6


def test_without_variance_how_levels_hang_together_is_of_no_account() -> None:
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"u": rng.uniform(0, 3, 60), "v": rng.uniform(0, 3, 60)})
    data["y"] = rng.permutation(np.linspace(-1, 1, 60))
    with pytest.warns(gb.SingularFitWarning, match="estimated as zero"):
        fit = gb.Model("y ~ u + exp(u + v | 1)", data).fit("ml")
    assert fit.converged
    assert np.isnan(fit.varcorr().set_index("kind").loc["range", "estimate"])
    assert fit.loglik == pytest.approx(gb.Model("y ~ u", data).fit("ml").loglik, abs=1e-8)
