"""Ranks of known parameters are uniform, family by family: small tables, many times."""

import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_density import response

import glmm_bayes as gb
from glmm_bayes.families.links import CIRCLE, POSITIVE, REAL, UNIT
from glmm_bayes.verbs.recovery_table import miscovered, not_uniform

REPLICATES = int(os.environ.get("GLMM_BAYES_SBC", "100"))
N = 60
# Proper, and so narrow that every draw gives responses that can be fitted.
BY_SUPPORT = {
    REAL: gb.Prior("Normal", mu=0.3, sigma=0.6),
    POSITIVE: gb.Prior("LogNormal", mu=0.4, sigma=0.4),
    UNIT: gb.Prior("Beta", alpha=3.0, beta=5.0),
    (1.0, 2.0): gb.Prior("Uniform", lower=1.3, upper=1.7),
    (1.0, np.inf): gb.Prior("Truncated", dist=gb.Prior("Gamma", alpha=9.0, beta=2.0), lower=2.5),
}
MIDDLE = {REAL: 0.5, POSITIVE: 0.8, UNIT: 0.1, CIRCLE: 0.0}


def table() -> pd.DataFrame:
    rng = np.random.default_rng(8)
    names = ["real", "size", "share", "yes", "count", "some", "size0", "share0", "ends", "angle"]
    y = {"real": 0.3, "size": 1.2, "share": 0.4, "yes": 1, "count": 2, "some": 2, "size0": 0.7}
    y |= {"share0": 0.3, "ends": 0.6, "angle": 0.2, "late": 3.0, "signed": 1.1, "wins": 3}
    data = {name: np.full(N, y.get(name, 0.5)) for name in [*names, "late", "signed", "wins"]}
    # One value is as good as another: those that are fitted are drawn. Not all the same, though.
    moved = {name: column + np.resize([0.0, 0.1], N) for name, column in data.items()}
    whole = {name: np.resize([0, 1], N) for name in ("yes", "wins")}
    counts = {name: np.resize([1, 2], N) for name in ("count", "some")}
    more = {"n": 6, "x": rng.standard_normal(N), "g": np.repeat([f"g{k}" for k in range(10)], 6)}
    kinds = {"kind": np.resize(list("abc"), N)}
    return pd.DataFrame(moved | whole | counts | more | kinds)


def priors(family: gb.Family) -> dict[str, gb.Prior]:
    mean = family.parameters[0]
    found = {
        "intercept": gb.Prior("Normal", mu=MIDDLE.get(mean.support, 0.3), sigma=0.4),
        "beta": gb.Prior("Normal", mu=0.0, sigma=0.4),
        "sd": gb.Prior("HalfNormal", sigma=0.5),
    }
    for p in family.parameters[1:]:
        if p.below:
            found[p.name] = gb.Prior("Uniform", lower=0.2, upper=0.4)
        elif p.prior is not None and not p.prior.is_fixed:
            found[p.name] = BY_SUPPORT[p.support]
    return found


def model(name: str) -> gb.Model:
    family, data = gb.FAMILIES[name], table()
    if family.baseline is not None:
        # Where the knots are, the data say, and not what is drawn in their place.
        data = data.assign(size=np.linspace(0.05, 4.0, N))
    if family.categories is None:
        return gb.Model(f"{response(family)} ~ x + (1 | g)", data, name, priors=priors(family))
    if family.categories.counted:
        data = data.assign(**dict.fromkeys("abc", 2.0 if family.needs_trials else 1 / 3))
        return gb.Model("cbind(a, b, c) ~ x", data, name)
    return gb.Model("kind ~ x + (1 | g)", data, name)


@pytest.mark.parametrize("name", gb.FAMILIES)
def test_there_is_a_model_of_every_family(name: str) -> None:
    assert model(name).nobs == N


def method_of(name: str) -> str:
    """Around the mode, where the density has a curvature there."""
    return "nuts" if gb.FAMILIES[name].kinked else "posthoc"


def checked(name: str, replicates: int, path: Path | None = None) -> Any:
    # With one seed for all, their truths, and so their chance deviations, would be the same.
    return gb.check_recovery(
        model(name), replicates, method=method_of(name), seed=zlib.crc32(name.encode()), n_jobs=1,
        draws=250, path=path, progressbar=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", gb.FAMILIES)
def test_ranks_are_uniform(name: str) -> None:
    found = checked(name, REPLICATES)
    assert (found.replicates["status"] != "failed").mean() > 0.95, found.text()
    assert not len(not_uniform(found.table)), found.text()
    assert not list(miscovered(found.table)), found.text()
