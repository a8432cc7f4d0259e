"""Ranges that the data hardly tell are said to be such."""

import numpy as np
import pandas as pd
import pytest

import glmm_bayes as gb


def field(range_: float, *, q: int = 60, noise: float = 0.1, seed: int = 4) -> pd.DataFrame:
    """Draw a field of exponential correlation over the unit square."""
    rng = np.random.default_rng(seed)
    at = rng.uniform(0, 1, (q, 2))
    d = np.linalg.norm(at[:, None] - at[None], axis=2)
    root = np.linalg.cholesky(np.exp(-d / range_) + 1e-9 * np.eye(q))
    y = root @ rng.standard_normal(q) + noise * rng.standard_normal(q)
    return pd.DataFrame({"u": at[:, 0], "v": at[:, 1], "y": y})


def remarks(formula: str, data: pd.DataFrame, **priors: object) -> str:
    fit = gb.Model(formula, data, priors=priors).fit("map")
    report = fit.diagnostics()
    assert all(words in repr(report) for words in report.remarks)
    return " ".join(report.remarks)


@pytest.mark.filterwarnings("ignore::glmm_bayes.errors.ConvergenceWarning")
def test_a_range_and_an_sd_that_grow_together_are_named() -> None:
    """Of a rough field in a small region only sd^2 / range can be told: Zhang (2004), JASA 99."""
    found = remarks("y ~ exp(u + v | 1)", field(2.0, q=120, noise=0.02), sigma=0.02)
    assert "hardly known but for their ratio" in found


def test_a_range_beyond_the_region_or_between_neighbours_is_named() -> None:
    data = field(0.2)
    beyond = gb.Prior("LogNormal", mu=np.log(30.0), sigma=0.05)
    assert "longer than the places lie apart" in remarks(
        "y ~ exp(u + v | 1)", data, **{"range_u:v": beyond}
    )
    within = gb.Prior("LogNormal", mu=np.log(1e-3), sigma=0.05)
    assert "shorter than what is usual between neighbouring places" in remarks(
        "y ~ exp(u + v | 1)", data, **{"range_u:v": within}
    )


def test_a_range_that_basis_functions_do_not_resolve_is_named() -> None:
    short = gb.Prior("LogNormal", mu=np.log(0.1), sigma=0.05)
    found = remarks("y ~ hsgp(u, m=6)", field(0.2), range_u=short)
    assert "raise m" in found


def test_well_told_ranges_are_left_alone() -> None:
    rng = np.random.default_rng(1)
    t = np.arange(300.0)
    root = np.linalg.cholesky(np.exp(-np.abs(np.subtract.outer(t, t)) / 4.0))
    y = root @ rng.standard_normal(300) + 0.1 * rng.standard_normal(300)
    fit = gb.Model("y ~ ou(t | 1)", pd.DataFrame({"t": t, "y": y})).fit("ml")
    assert fit.diagnostics().remarks == ()


def test_draws_of_a_posterior_say_the_same() -> None:
    data = field(0.2, q=40)
    short = gb.Prior("LogNormal", mu=np.log(0.1), sigma=0.05)
    model = gb.Model("y ~ hsgp(u, m=6)", data, priors={"range_u": short})
    assert "raise m" in repr(model.fit("posthoc", seed=1).diagnostics())
