"""Ranks of known parameters are uniform where levels depend on each other, and residuals do."""

import os
from typing import Any

import numpy as np
import pandas as pd
import pytest

import glmm_bayes as gb
from glmm_bayes.verbs.recovery_table import miscovered, not_uniform

SIDE = 5
REPLICATES = int(os.environ.get("GLMM_BAYES_SBC", "200"))
# Proper, and not so wide that counts overflow.
SCALES = {
    "beta": gb.Prior("Normal", mu=0.0, sigma=0.5),
    "intercept": gb.Prior("Normal", mu=0.5, sigma=0.5),
    "sd": gb.Prior("HalfNormal", sigma=0.7),
}
RANGE = gb.Prior("InverseGamma", alpha=5.0, beta=1.5)


def rows(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(8)
    return pd.DataFrame({"y": np.tile([0, 1], n)[:n], "x": rng.standard_normal(n)})


def series() -> tuple[str, pd.DataFrame, dict[str, Any]]:
    data = rows(60).assign(t=np.tile(np.arange(20), 3), g=np.repeat(["a", "b", "c"], 20))
    return "y ~ x + ar1(t | g)", data, {}


def areas() -> tuple[str, pd.DataFrame, dict[str, Any]]:
    names = [f"{i}{j}" for i in range(SIDE) for j in range(SIDE)]
    W = {
        f"{i}{j}": [
            f"{a}{b}"
            for a, b in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1))
            if 0 <= a < SIDE and 0 <= b < SIDE
        ]
        for i in range(SIDE)
        for j in range(SIDE)
    }
    return "y ~ x + bym2(1 | area, W)", rows(75).assign(area=np.repeat(names, 3)), {"W": W}


def species() -> tuple[str, pd.DataFrame, dict[str, Any]]:
    text = "((((a:1,b:1):1,(c:1.5,d:1.5):.5):1,e:3):1,(((f:1,g:1):1,h:2):1,(i:2,j:2):1):1);"
    tree = gb.Tree.from_newick(text)
    data = rows(60).assign(species=np.repeat(tree.tips, 6))
    return "y ~ x + phylo(1 | species, tree, model='lambda')", data, {"tree": tree}


def places() -> tuple[str, pd.DataFrame, dict[str, Any]]:
    at = np.random.default_rng(9).uniform(size=(30, 2))
    data = rows(60).assign(east=np.repeat(at[:, 0], 2), north=np.repeat(at[:, 1], 2))
    return "y ~ x + mat(east + north | 1, nu=1.5)", data, {}


MODELS = {"ar1": series, "bym2": areas, "phylo": species, "mat": places}


def check(model: gb.Model) -> None:
    found = gb.check_recovery(
        model, REPLICATES, method="posthoc", seed=1, n_jobs=1, draws=250, progressbar=False
    )
    assert (found.replicates["status"] != "failed").all(), found.text()
    assert not len(not_uniform(found.table)), found.text()
    assert not list(miscovered(found.table)), found.text()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bernoulli", "poisson"])
@pytest.mark.parametrize("name", MODELS)
def test_ranks_are_uniform(name: str, family: str) -> None:
    formula, data, context = MODELS[name]()
    priors = SCALES | ({"range": RANGE} if name == "mat" else {})
    check(gb.Model(formula, data, family, priors=priors, context=context))


@pytest.mark.slow
def test_ranks_are_uniform_where_residuals_vary_together() -> None:
    data = rows(60).assign(t=np.tile(np.arange(20), 3), g=np.repeat(["a", "b", "c"], 20))
    sigma = {"sigma": gb.Prior("HalfNormal", sigma=1.0)}
    formula = ["y ~ x + (1 | g)", "residual ~ ar1(t | g)"]
    check(gb.Model(formula, data.assign(y=data["x"]), priors=SCALES | sigma))
