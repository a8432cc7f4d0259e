"""Random and awkward data sets: a maximum that holds elsewhere too, or an honest word."""

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
from dense import ROWS, Dense

import glmm_bayes as gb

HONEST = (gb.ConvergenceWarning, gb.SingularFitWarning, gb.DataWarning)
FAMILIES = ("gaussian", "poisson", "bernoulli", "binomial", "negbinomial", "gamma", "beta",
            "student")  # fmt: skip
PATHOLOGIES = (
    "none", "none", "none", "tiny groups", "one a group", "huge offset", "rare", "collinear",
    "nearly collinear", "zero clusters", "constant", "huge scale", "tiny scale", "years",
    "no variance", "large variance", "few levels", "weights",
)  # fmt: skip
SLOWEST = 20.0  # seconds
SEEDS = range(200)
QUICK = range(0, 200, 10)


@dataclass(frozen=True)
class Case:
    """A random data set with its model's words."""

    seed: int
    family: str
    method: str
    trouble: str
    formula: str
    data: pd.DataFrame

    def __str__(self) -> str:
        return f"{self.seed}: {self.family} {self.method}, {self.trouble}, {self.formula!r}"

    def model(self) -> gb.Model:
        return gb.Model(self.formula, self.data, self.family)


def random_case(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    family = FAMILIES[seed % len(FAMILIES)]
    trouble = PATHOLOGIES[rng.integers(len(PATHOLOGIES))]
    n = int(rng.integers(12, 90))
    data = groups(rng, n, trouble)
    terms, eta = structure(rng, data, trouble)
    covariates(rng, data, trouble)
    slopes = rng.normal(size=2) * 0.5
    sizes = data["x"].std() or 1.0, data["z"].std() or 1.0
    eta = eta + slopes[0] * (data["x"] - data["x"].mean()) / sizes[0]
    eta = eta + slopes[1] * (data["z"] - data["z"].mean()) / sizes[1]
    eta = eta.to_numpy() + {"rare": -4.0}.get(trouble, rng.normal())
    if trouble == "huge offset":
        data["o"] = rng.choice([-20.0, 20.0]) + rng.normal(size=n)
    left = response(rng, family, data, eta, trouble)
    fixed = "x + z" + (" + x2" if "collinear" in trouble else "")
    fixed += " + offset(o)" if trouble == "huge offset" else ""
    method = "reml" if rng.random() < (0.5 if family == "gaussian" else 0.15) else "ml"
    return Case(seed, family, method, trouble, f"{left} ~ {fixed} + {terms}", data)


def groups(rng: np.random.Generator, n: int, trouble: str) -> pd.DataFrame:
    levels = {"tiny groups": n // 2, "one a group": n, "few levels": 2}
    q = levels.get(trouble, int(rng.integers(3, 12)))
    g = np.arange(n) % q if trouble == "one a group" else rng.integers(q, size=n)
    h = rng.integers(int(rng.integers(2, 7)), size=n)
    return pd.DataFrame({"g": [f"g{k}" for k in g], "h": [f"h{k}" for k in h]})


def structure(rng: np.random.Generator, data: pd.DataFrame, trouble: str) -> tuple[str, Any]:
    """Draw random terms, and the predictor that they make of drawn effects."""
    n = len(data)
    data["x"] = rng.normal(size=n)
    words = [
        "(1 | g)", "(1 | g) + (1 | h)", "(1 + x | g)", "(x || g)", "(1 | g/h)",
        "(1 | g) + (0 + x | h)", "(1 + x + z | g)", "(1 | g) + (1 | h) + (1 | g:h)",
    ]  # fmt: skip
    chance = np.array([6, 3, 4, 1, 1, 1, 1, 1], dtype=float)
    terms = words[rng.choice(len(words), p=chance / chance.sum())]
    sd = {"no variance": 0.0, "large variance": 4.0}.get(trouble, float(rng.gamma(2.0, 0.35)))
    eta = pd.Series(np.zeros(n))
    for name in ("g", "h") if " h)" in terms or "/h" in terms else ("g",):
        codes, levels = pd.factorize(data[name])
        eta += sd * rng.normal(size=len(levels))[codes]
        if "x" in terms:
            eta += 0.5 * sd * rng.normal(size=len(levels))[codes] * data["x"]
    return terms, eta


def covariates(rng: np.random.Generator, data: pd.DataFrame, trouble: str) -> None:
    n = len(data)
    data["z"] = rng.integers(2, size=n) if rng.random() < 0.5 else rng.normal(size=n)
    if trouble == "huge scale":
        data["x"] *= 1e6
    if trouble == "tiny scale":
        data["x"] *= 1e-6
    if trouble == "years":
        data["x"] = 2000.0 + rng.integers(25, size=n)
    if trouble == "collinear":
        data["x2"] = 2 * data["x"] - data["z"]
    if trouble == "nearly collinear":
        data["x2"] = data["x"] + 1e-4 * rng.normal(size=n)


def response(
    rng: np.random.Generator, family: str, data: pd.DataFrame, eta: np.ndarray, trouble: str
) -> str:
    """Draw the response `y` into the data; give the formula's left side."""
    n = len(eta)
    if trouble == "zero clusters" and family in ("poisson", "bernoulli", "binomial", "negbinomial"):
        eta = np.where(data["g"].isin(data["g"].unique()[::2]), -30.0, eta)
    if trouble == "huge offset" and family in ("gaussian", "student"):
        eta = eta + data["o"].to_numpy()
    mu, p = np.exp(np.clip(eta, -30, 8)), 1 / (1 + np.exp(-eta))
    shape = float(np.exp(rng.normal()))
    draws: dict[str, Callable[[], np.ndarray]] = {
        "gaussian": lambda: eta + shape * rng.normal(size=n),
        "student": lambda: eta + shape * rng.standard_t(4, size=n),
        "poisson": lambda: rng.poisson(mu),
        "bernoulli": lambda: rng.binomial(1, p),
        "negbinomial": lambda: rng.poisson(mu * rng.gamma(shape, 1 / shape, size=n)),
        "gamma": lambda: np.maximum(mu * rng.gamma(shape, 1 / shape, size=n), 1e-12),
        "beta": lambda: np.clip(
            rng.beta(np.maximum(5 * p, 1e-3), np.maximum(5 - 5 * p, 1e-3)), 1e-6, 1 - 1e-6
        ),
    }
    if family == "binomial":
        data["size"] = rng.integers(1, 20, size=n)
        data["y"] = rng.binomial(data["size"], p)
    else:
        data["y"] = draws[family]()
    if trouble == "constant":
        data["y"] = data["y"].iloc[0]
    extras = ["trials(size)"] if family == "binomial" else []
    if trouble == "weights":
        data["w"] = rng.integers(1, 5, size=n).astype(float)
        extras.append("weights(w)")
    return "y" + (" | " + " + ".join(extras) if extras else "")


# ---- what may come of it


def outcome(case: Case) -> tuple[Any, list[str]]:
    """Fit; give the fit, or None, and what was said."""
    began = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fit = case.model().fit(case.method, seed=1)
        except gb.GlmmError as error:
            return None, [f"{type(error).__name__}: {error}"]
    assert time.perf_counter() - began < SLOWEST
    said = [f"{w.category.__name__}: {w.message}" for w in caught]
    unknown = [words for w, words in zip(caught, said, strict=True)
               if not issubclass(w.category, HONEST)]  # fmt: skip
    assert not unknown, unknown
    assert fit.converged or any(issubclass(w.category, gb.ConvergenceWarning) for w in caught)
    return fit, said


def faults(fit: Any, rng: np.random.Generator) -> Iterator[str]:
    """Tell what is wrong with a fit that says that it converged."""
    mode, coordinates = fit.mode, fit.mode.coordinates
    restricted = fit.method == "reml"
    own = mode.x[coordinates.coefficients[0]] if restricted else []
    dense = Dense(fit.model, restricted=restricted, near=np.concatenate([mode.u, own]))

    def height(x: np.ndarray) -> float:
        return dense(coordinates.split(x), coordinates.Lambdas(x))

    if not np.isfinite(mode.x).all():
        yield f"estimates {mode.x}"
        return
    top = height(mode.x)
    if not abs(top - fit.loglik) < 1e-6 * max(1.0, 1e-3 * abs(top)):
        yield f"log likelihood {fit.loglik:.9g}, densely {top:.9g}"
    for size in (0.1, 0.01):
        for _ in range(10):
            direction = rng.normal(size=mode.axes.shape[1])
            moved = mode.x + size * mode.axes @ (direction / np.linalg.norm(direction))
            if height(moved) > top + 1e-5:
                yield f"{size} standard errors off: higher by {height(moved) - top:.2g}"
    for size in (0.02, 0.2, 1.0):
        for _ in range(10):
            moved = mode.x + size * off_edge(fit, rng)
            if height(moved) > top + 1e-5:
                yield f"{size} off the edge: higher by {height(moved) - top:.2g}"


def off_edge(fit: Any, rng: np.random.Generator) -> np.ndarray:
    """Draw a direction away from the edges, in sizes that matter to the predictor."""
    coordinates = fit.mode.coordinates
    scale = fit.model.scales["mu"].s if fit.model.links["mu"].name == "identity" else 1.0
    sizes = []
    for term in fit.model.design.terms:
        (loading,) = term.loadings
        sizes.append(0.5 * scale / np.sqrt(np.mean(loading.Z**2, axis=0)))
    idle = coordinates.idle(fit.mode.x)
    return np.where(idle, rng.normal(size=len(idle)), 0.0) * coordinates.units(sizes)


def mark(seed: int) -> Any:
    return pytest.param(seed, marks=[] if seed in QUICK else [pytest.mark.slow])


@pytest.mark.parametrize("seed", [mark(seed) for seed in SEEDS])
def test_a_maximum_or_an_honest_word(seed):
    case = random_case(seed)
    fit, said = outcome(case)
    if fit is not None and fit.converged:
        found = list(faults(fit, np.random.default_rng(seed)))
        assert not found, (str(case), said, found)


# ---- what has no estimate at all


def separated(trials: bool = False) -> pd.DataFrame:
    """Make the response equal to a predictor: `edge_separation` of the references."""
    y = np.repeat([0, 1], 10)
    data = pd.DataFrame({"y": y, "x": y, "g": np.tile([f"g{k}" for k in range(5)], 4)})
    return data.assign(y=5 * y, n=5) if trials else data


@pytest.mark.parametrize("method", ["ml", "reml"])
def test_complete_separation_is_named(method):
    with pytest.warns(gb.ConvergenceWarning, match="separated"):
        gb.Model("y ~ x + (1 | g)", separated(), "bernoulli").fit(method, seed=1)


def test_complete_separation_of_trials_is_named():
    with pytest.warns(gb.ConvergenceWarning, match="separated"):
        gb.Model("y | trials(n) ~ x + (1 | g)", separated(trials=True), "binomial").fit(
            "ml", seed=1
        )


@pytest.mark.filterwarnings("ignore::glmm_bayes.SingularFitWarning")
@pytest.mark.parametrize("family", ["bernoulli", "poisson"])
def test_a_cell_without_events_is_named(family):
    """Quasi-separation: no event at one level of a factor, as in Culcita's data."""
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"f": np.tile(["a", "b", "c"], 20), "g": np.repeat(list("uvwxy"), 12)})
    chance = data["f"].map({"a": 0.0, "b": 0.5, "c": 0.5})
    data["y"] = rng.binomial(1, chance) if family == "bernoulli" else rng.poisson(4 * chance)
    with pytest.warns(gb.ConvergenceWarning, match="separated|hardly determined|without end"):
        gb.Model("y ~ f + (1 | g)", data, family).fit("ml", seed=1)


# ---- the dense densities against differences


@pytest.mark.parametrize("family", FAMILIES)
def test_dense_derivatives_by_differences(family):
    rng = np.random.default_rng(3)
    eta = rng.normal(size=40)
    trials = np.full(40, 6.0) if family == "binomial" else None
    y = {
        "gaussian": eta + 1, "student": eta - 2, "gamma": np.exp(eta + rng.normal(size=40)),
        "beta": rng.uniform(0.05, 0.95, size=40), "bernoulli": rng.integers(2, size=40) * 1.0,
        "binomial": rng.integers(7, size=40) * 1.0,
    }.get(family, rng.poisson(3, size=40) * 1.0)  # fmt: skip
    known = {"sigma": 0.7, "nu": 4.0, "alpha": 2.3, "phi": 5.0}
    parameters = gb.FAMILIES[family].parameters[1:]
    others = {p.name: np.full(40, known[p.name]) for p in parameters}
    h = 1e-4
    up, middle, down = (ROWS[family](y, trials, eta + d, **others) for d in (h, 0.0, -h))
    np.testing.assert_allclose((up[0] - down[0]) / (2 * h), middle[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose((up[1] - down[1]) / (2 * h), middle[2], rtol=1e-5, atol=1e-6)
    numeric = gb.FAMILIES[family].numeric({"mu": link(family, eta)} | others, trials)
    exact = numeric.logpmf(y) if gb.FAMILIES[family].discrete else numeric.logpdf(y)
    np.testing.assert_allclose(middle[0], exact, rtol=1e-9, atol=1e-9)


def link(family: str, eta: np.ndarray) -> np.ndarray:
    if family in ("gaussian", "student"):
        return eta
    if family in ("beta", "bernoulli", "binomial"):
        return 1 / (1 + np.exp(-eta))
    return np.exp(eta)
