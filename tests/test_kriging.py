"""Effects at new sites, times and tips are those of the textbook, at a maximum and draw by draw."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest

import glmm_bayes as gb

NEWICK = "((((a:1,b:1):1,(c:1.5,d:1.5):.5):1,e:3):1,(((f:1,g:1):1,h:2):1,(i:2,j:2):1):1);"


@dataclass(frozen=True)
class Case:
    """
    A kind of effects.

    Attributes
    ----------
    correlation
        Gives that between the places of two tables `(n, m)`, at the structure's own parameter.
    key
        The name of that; None where there is none.
    """

    term: str
    known: pd.DataFrame
    new: pd.DataFrame
    correlation: Callable[[pd.DataFrame, pd.DataFrame, float], np.ndarray]
    key: str | None
    context: dict[str, Any]


def distances(a: pd.DataFrame, b: pd.DataFrame) -> np.ndarray:
    sides = a.to_numpy(float)[:, None] - b.to_numpy(float)[None]
    return np.linalg.norm(sides, axis=2)


def sites() -> Case:
    rng = np.random.default_rng(3)
    known = pd.DataFrame(rng.uniform(size=(30, 2)), columns=["east", "north"])
    new = pd.DataFrame({"east": [0.5, 0.1, 3.0], "north": [0.5, 0.9, 3.0]})
    return Case(
        "exp(east + north | 1)", known, new,
        lambda a, b, reach: np.exp(-distances(a, b) / reach), "range_east:north", {},
    )  # fmt: skip


def times() -> Case:
    known = pd.DataFrame({"t": np.sort(np.random.default_rng(4).uniform(0, 20, 30))})
    new = pd.DataFrame({"t": [10.2, 21.0, 60.0]})
    return Case(
        "ou(t | 1)", known, new,
        lambda a, b, reach: np.exp(-distances(a, b) / reach), "range_t", {},
    )  # fmt: skip


def tips() -> Case:
    """Brownian motion: two tips share what they have in common from the root, of a depth of 4."""
    shared = {"ab": 3, "cd": 2.5, "fg": 3, "ij": 2}
    groups = [("abcd", 2.0), ("abcde", 1.0), ("fgh", 2.0), ("fghij", 1.0)]

    def alike(p: str, q: str) -> float:
        if p == q:
            return 1.0
        pair = "".join(sorted(p + q))
        depths = [depth for members, depth in groups if p in members and q in members]
        return shared.get(pair, max(depths, default=0.0)) / 4

    def correlation(a: pd.DataFrame, b: pd.DataFrame, _: float) -> np.ndarray:
        return np.array([[alike(p, q) for q in b["species"]] for p in a["species"]])

    known, new = (pd.DataFrame({"species": list(names)}) for names in ("acdefhij", "bg"))
    tree = gb.Tree.from_newick(NEWICK)
    return Case("phylo(1 | species, tree)", known, new, correlation, None, {"tree": tree})


CASES = {"sites": sites, "times": times, "tips": tips}


def rows_of(case: Case, family: str) -> pd.DataFrame:
    """Six rows at every place."""
    rng, q = np.random.default_rng(5), len(case.known)
    R = case.correlation(case.known, case.known, 2.0)
    b = np.linalg.cholesky(R + 1e-10 * np.eye(q)) @ rng.standard_normal(q)
    at = np.repeat(np.arange(q), 6)
    x = rng.standard_normal(len(at))
    eta = 0.5 + 0.4 * x + 0.8 * b[at]
    y = rng.poisson(np.exp(eta)) if family == "poisson" else eta + rng.normal(0, 0.5, len(at))
    return case.known.iloc[at].reset_index(drop=True).assign(x=x, y=y, at=at)


@pytest.mark.parametrize("name", CASES)
def test_at_a_maximum_it_is_the_best_linear_prediction(name: str) -> None:
    """Given the responses, by dense algebra: Cressie (1993), Statistics for Spatial Data, 3.2."""
    case = CASES[name]()
    data = rows_of(case, "gaussian")
    fit = gb.Model(f"y ~ x + {case.term}", data, context=case.context).fit("ml")
    table = fit.varcorr().set_index("kind")["estimate"]
    sd, sigma = (
        fit.varcorr().query(f"kind == 'sd' and group {sign} 'Residual'")["estimate"].iloc[0]
        for sign in ("!=", "==")
    )
    own = float(table["range"]) if case.key else 0.0
    at = data["at"].to_numpy()
    K = sd**2 * case.correlation(case.known, case.known, own)
    V = K[np.ix_(at, at)] + sigma**2 * np.eye(len(at))
    c = sd**2 * case.correlation(case.new, case.known, own)[:, at]
    beta = fit.fixef()["estimate"].to_numpy()
    r = data["y"].to_numpy() - beta[0] - beta[1] * data["x"].to_numpy()
    found = fit.predict(case.new.assign(x=0.3), kind="linear")
    mean = beta[0] + 0.3 * beta[1] + c @ np.linalg.solve(V, r)
    np.testing.assert_allclose(found["estimate"], mean, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("family", ["gaussian", "poisson"])
@pytest.mark.parametrize("name", CASES)
def test_at_every_draw_it_is_drawn_given_the_effects_that_are_known(name: str, family: str) -> None:
    """What is drawn, less its mean and over its standard deviation, is standard normal."""
    case = CASES[name]()
    data = rows_of(case, family)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gb.ConvergenceWarning)
        model = gb.Model(f"y ~ x + {case.term}", data, family, context=case.context)
        fit = model.fit("posthoc", seed=1, draws=250, progressbar=False)
    post, term = fit.idata["posterior"], fit.model.design.terms[0]
    S = post.sizes["chain"] * post.sizes["draw"]
    b = post[f"b_{term.name}"].to_numpy().reshape(S, -1)
    beta = post["beta"].to_numpy().reshape(S, 2)
    sd = post[f"sd_{term.name}"].to_numpy().ravel()
    own = post[case.key].to_numpy().ravel() if case.key else np.zeros(S)
    # In the order of the levels: where the places of the data stand among the nodes.
    place = term.index[:, 0][np.unique(data["at"], return_index=True)[1]]
    drawn = fit.predict(case.new.assign(x=0.3), kind="linear", draws=True).to_numpy()
    drawn = drawn.reshape(S, -1) - beta[:, :1] - 0.3 * beta[:, 1:]
    z = np.empty_like(drawn)
    for s in range(S):
        K = case.correlation(case.known, case.known, own[s])
        c = case.correlation(case.new, case.known, own[s])
        w = np.linalg.solve(K, c.T).T
        left = sd[s] * np.sqrt(1 - (w * c).sum(axis=1))
        z[s] = (drawn[s] - w @ b[s, place]) / left
    assert abs(z.mean(axis=0)).max() < 4.5 / np.sqrt(S)
    assert abs(z.var(axis=0) - 1).max() < 4.5 * np.sqrt(2 / S)
