"""Maps too large for all eigenvalues: log determinants and bounds are those of the eigenvalues."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

import glmm_bayes as gb
from glmm_bayes.covariance import LEVEL_COVARIANCES, LevelCovariance, Places, areal

SIDE = 20
NAMES = tuple(f"a{k}" for k in range(SIDE**2))


def neighbours() -> pd.DataFrame:
    """A square whose rows are joined at both sides, and a few ways across."""
    i, j = np.divmod(np.arange(SIDE**2), SIDE)
    right = [(k, k + 1) for k in np.flatnonzero(j < SIDE - 1)]
    down = [(k, k + SIDE) for k in np.flatnonzero(i < SIDE - 1)]
    across = [(k, k + SIDE + 1) for k in np.flatnonzero((i < SIDE - 1) & (j < SIDE - 1))[::7]]
    edges = [(NAMES[p], NAMES[q]) for p, q in [*right, *down, *across]]
    return pd.DataFrame(edges, columns=["from", "to"])


def structure(name: str, arguments: dict[str, Any]) -> LevelCovariance:
    q = len(NAMES)
    nothing = np.empty((q, 0))
    places = Places(NAMES, np.zeros(q, int), nothing, f"{name}(1 | area, W)", (), nothing)
    return LEVEL_COVARIANCES[name].of(places, {"0": neighbours(), **arguments})


CASES = [("car", {}), ("car", {"style": "binary"}), ("sar", {}), ("sar", {"standardise": False})]


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_a_factor_has_the_log_determinant_of_all_eigenvalues(
    name: str, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = structure(name, arguments)
    monkeypatch.setattr(areal, "MOST_DENSE", 10)
    large = structure(name, arguments)
    low, high = small.parameters(0)[0].support
    np.testing.assert_allclose(large.parameters(0)[0].support, (low, high), rtol=1e-8)
    for rho in (0.97 * low, -0.1 * high, 0.5 * high, 0.999 * high):
        theta = {"rho": np.array([rho])}
        one, two = small.entries(theta), large.entries(theta)
        np.testing.assert_array_equal(one.values, two.values)
        assert two.log_determinant == pytest.approx(one.log_determinant, abs=1e-8)
        Q = np.zeros((len(NAMES), len(NAMES)))
        Q[tuple(large.pairs.T)] = two.values
        dense = np.linalg.slogdet(Q + np.tril(Q, -1).T)[1]
        assert two.log_determinant == pytest.approx(dense, abs=1e-8)
        slopes = [s.slopes(theta, np.zeros(len(s.pairs)), 1.0)["rho"] for s in (small, large)]
        np.testing.assert_allclose(*slopes, rtol=1e-7)


@pytest.mark.parametrize("name", ["car", "sar"])
def test_the_maximum_is_the_same_either_way(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"area": NAMES, "y": rng.standard_normal(len(NAMES))})
    data["y"] += np.sin(np.arange(len(NAMES)) / 90)

    def fitted() -> Any:
        model = gb.Model(f"y ~ 1 + {name}(1 | area, W)", data, context={"W": neighbours()})
        return model.fit("ml")

    small = fitted()
    monkeypatch.setattr(areal, "MOST_DENSE", 10)
    large = fitted()
    assert large.loglik == pytest.approx(small.loglik, abs=1e-7)
    found, expected = (fit.varcorr()["estimate"] for fit in (large, small))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_no_new_level_has_a_conditional_of_nothing() -> None:
    """The normal of no levels, given all: it has neither mean nor noise."""
    from glmm_bayes.kriging import Given

    data = pd.DataFrame({"area": NAMES, "y": np.arange(float(len(NAMES)))})
    model = gb.Model("y ~ 1 + car(1 | area, W)", data, context={"W": neighbours()})
    (term,) = model.design.terms
    at = Given(term, len(term.levels)).at({f"rho_{term.name}": np.array([0.5])})
    assert at.mean(np.ones((len(NAMES), 1))).shape == (0, 1)
    assert at.noise(np.empty((0, 1))).shape == (0, 1)
