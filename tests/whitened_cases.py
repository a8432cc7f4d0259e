"""Small models of every kind, and points about their modes, for the sampler's tests."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

import glmm_bayes as gb
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
        "some": 1 + np.arange(N) % 5,
        "angle": np.linspace(-2.5, 2.5, N),
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


def left(family: Any) -> str:
    """Choose a response that a family takes."""
    if family.name in LEFT or family.needs_trials:
        return LEFT.get(family.name, "wins | trials(n)")
    takes = {v: family.problem(np.array([v]), None) is None for v in (-1.0, 0.0, 1.0, 2.0, 4.0)}
    if family.discrete:
        return "count" if takes[0] else "some"
    if takes[-1]:
        return "real" if takes[4] else "angle"
    return "size" if takes[2] else "share"


HALF = gb.Prior("HalfNormal", sigma=1)
# Its end is so far off that points for differences stay on its side.
FAR = gb.Prior("Truncated", dist=gb.Prior("Normal", mu=0, sigma=1), lower=-3)
EVERY_FAMILY = {
    f"{name}, slopes": (name, [f"{left(each)} ~ x + (1 + x | g)"], {})
    for name, each in gb.FAMILIES.items()
    if each.categories is None and not each.kinked
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
    return family, [f"{left(gb.FAMILIES[family])} ~ x + (1 | g)"], {"link": {parameter: link}}


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


# What else an approximation can be than integrated and not corrected anew: see `sampling.Plan`.
OTHERWISE = {
    "corrected anew": (True, 1),
    "coefficients apart": (False, 0),
    "coefficients apart, corrected anew": (False, 2),
}
SOME = [
    "negbinomial, slopes", "crossed slopes", "effects in the spread", "members with slopes",
    "bounded coefficient", "no coefficient", "no random term", "fixed coefficients",
    "a formula for the shape", "one covariance of two predictors", "nested",
]  # fmt: skip
VARIANTS = [*CASES, *(f"{name}; {other}" for name in SOME for other in OTHERWISE)]


@dataclass(frozen=True, eq=False)
class Point:
    """Standard normals at outer parameters psi, and the frame that turns them into effects."""

    around: Around
    psi: np.ndarray
    setting: Any
    z1: np.ndarray
    z2: np.ndarray

    @property
    def model(self) -> gb.Model:
        return self.around.target.model

    @property
    def log_prior(self) -> np.ndarray:
        target = self.around.target
        return target.log_prior.densities(target.tiled(self.psi[None]))[1]

    @property
    def theta(self) -> np.ndarray:
        """All outer parameters; zeros for coefficients that are not among psi."""
        gamma = np.zeros((1, self.around.problem.X.shape[1]))
        return self.around.target.theta(self.psi[None], gamma)[0]

    def place(self, z1: np.ndarray | None = None, z2: np.ndarray | None = None) -> Any:
        first = self.setting.part(self.z1 if z1 is None else z1)
        return self.setting.place(first, self.z2 if z2 is None else z2)

    def effects(self, at: Any) -> np.ndarray:
        """Give b of all terms, one after the other."""
        return np.concatenate([*(b.ravel() for b in self.setting.effects(at)), np.empty(0)])


@cache
def model_of(name: str) -> gb.Model:
    family, formulas, more = CASES[name.partition("; ")[0]]
    return gb.Model(formulas, DATA, family, centering="noncentered", **more)


@cache
def around_of(name: str) -> Around:
    integrated, depth = OTHERWISE.get(name.partition("; ")[2], (True, 0))
    with np.errstate(all="ignore"):
        around = find_around(read_target(model_of(name), integrated=integrated))
    return replace(around, problem=replace(around.problem, depth=depth))


def points(name: str, count: int = 3, size: float = 0.6) -> Iterator[Point]:
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
