"""Models whose levels depend on each other, of any size, from a seed."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.dependence.trees import simulate as simulate_species

SEED = 20261125
SD = 0.6


@dataclass(frozen=True)
class Made:
    """A table, and the objects that the formula names."""

    data: pd.DataFrame
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """
    One kind of model.

    Attributes
    ----------
    make
        Gives the data of a size.
    sizes
        How many levels; of `counted`.
    peers
        By package, the random term in its words; none where it has no such model.
    """

    formula: str
    family: str
    counted: str
    sizes: tuple[int, ...]
    make: Callable[[int], Made]
    peers: Mapping[str, str] = field(default_factory=dict)


def _species(tips: int) -> Made:
    import glmm_bayes as gb

    species = simulate_species(tips)
    return Made(species.data, {"tree": gb.Tree.from_newick(species.newick)})


def _series(times: int) -> Made:
    """Counts along one autoregressive process of rho 0.8."""
    rng = np.random.default_rng(SEED)
    news = rng.standard_normal(times) * np.sqrt(1 - 0.8**2)
    news[0] = rng.standard_normal()
    b = np.empty(times)
    b[0] = news[0]
    for t in range(1, times):
        b[t] = 0.8 * b[t - 1] + news[t]
    x = rng.standard_normal(times)
    count = rng.poisson(np.exp(0.5 + 0.3 * x + SD * b))
    return Made(pd.DataFrame({"t": np.arange(times), "x": x, "count": count}))


def _areas(areas: int) -> Made:
    """Counts on a square map, of a surface and noise."""
    rng, side = np.random.default_rng(SEED), round(np.sqrt(areas))
    i, j = np.divmod(np.arange(side**2), side)
    edges = [
        (f"a{p}", f"a{q}")
        for step, inside in ((1, j < side - 1), (side, i < side - 1))
        for p, q in ((k, k + step) for k in np.flatnonzero(inside))
    ]
    wave = np.sin(6 * i / side) + np.cos(5 * j / side)
    expected = rng.uniform(2, 8, side**2)
    x = rng.standard_normal(side**2)
    noise = 0.2 * rng.standard_normal(side**2)
    count = rng.poisson(expected * np.exp(0.2 * x + 0.4 * wave + noise))
    data = pd.DataFrame(
        {"area": [f"a{k}" for k in range(side**2)], "x": x, "e": expected, "count": count}
    )
    return Made(data, {"W": pd.DataFrame(edges, columns=["from", "to"])})


def _scotland(districts: int) -> Made:
    """Lip cancer in Scotland's districts: Clayton & Kaldor (1987), Biometrics 43, 671-681."""
    import glmm_bayes as gb

    folder = os.environ.get("GLMM_BAYES_DATA")
    if folder is None:
        sys.exit("GLMM_BAYES_DATA names no folder with scotlip_adjacency.csv")
    data = gb.load_dataset("scotlip").assign(
        x=lambda d: d["prop_ag"] / 10, e=lambda d: d["expected"]
    )
    W = pd.read_csv(Path(folder) / "scotlip_adjacency.csv")
    return Made(data.rename(columns={"region": "area", "cases": "count"}), {"W": W})


def _sites(sites: int) -> Made:
    """Counts at places of a unit square, under an exponential field of range 0.15."""
    rng = np.random.default_rng(SEED)
    at = rng.uniform(size=(sites, 2))
    distance = np.linalg.norm(at[:, None] - at[None], axis=2)
    root = np.linalg.cholesky(np.exp(-distance / 0.15) + 1e-10 * np.eye(sites))
    x = rng.standard_normal(sites)
    count = rng.poisson(np.exp(0.5 + 0.3 * x + SD * (root @ rng.standard_normal(sites))))
    return Made(pd.DataFrame({"east": at[:, 0], "north": at[:, 1], "x": x, "count": count}))


CASES = {
    "tree, gaussian": Case(
        "y ~ x + phylo(1 | species, tree)", "gaussian", "species", (300, 2_000, 10_000), _species
    ),
    "tree, poisson": Case(
        "count ~ x + phylo(1 | species, tree)", "poisson", "species", (300, 2_000, 10_000), _species
    ),
    "ar1, poisson": Case(
        "count ~ x + ar1(t | 1)", "poisson", "times", (300, 2_000, 10_000, 100_000), _series,
        {"glmmTMB": "ar1(0 + factor(t) | one)"},
    ),
    "bym2, poisson": Case(
        "count ~ offset(log(e)) + x + bym2(1 | area, W)", "poisson", "areas",
        (64, 400, 3_025), _areas,
    ),
    "bym2, scotlip": Case(
        "count ~ offset(log(e)) + x + bym2(1 | area, W)", "poisson", "districts", (56,), _scotland
    ),
    "field, poisson": Case(
        "count ~ x + exp(east + north | 1)", "poisson", "sites", (100, 400), _sites,
        {"glmmTMB": "exp(0 + place | one)", "gpboost": "exponential"},
    ),
}  # fmt: skip
