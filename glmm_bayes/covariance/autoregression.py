"""Autoregressive processes of an order above one, along whole times."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, override

import numpy as np

from glmm_bayes.arrays import NUMPY
from glmm_bayes.covariance.dense import DenseCovariance
from glmm_bayes.covariance.descent import AlongTime, whole_powers, whole_times
from glmm_bayes.covariance.levels import Entries, LevelCovariance, Places
from glmm_bayes.covariance.structure import CovarianceParameter
from glmm_bayes.errors import FormulaError
from glmm_bayes.priors import Prior

MOST = 3


class AutoregressionTime(AlongTime):
    """
    `ar(time | g, p=2)`: v of variance one, each time's a sum of the p before it, plus news.

    Parameters: `partial`, p partial autocorrelations in (-1, 1), every combination of which is
    stationary. Times are whole numbers; those between without data are nodes.

    Notes
    -----
    By Durbin and Levinson's recursion the partial autocorrelations give the coefficients of the
    best prediction from the m values before, m up to p, and its variance: Barndorff-Nielsen &
    Schou (1973), J. Multivariate Analysis 3, 408-419.
    """

    name = "ar"

    def __init__(self, places: Places, p: int = 2) -> None:
        if p not in range(1, MOST + 1):
            raise FormulaError(
                f"The order p of {places.text!r} should be 1, 2 or {MOST}, not {p!r}."
            )
        self.p = p
        self._own = len(places.names)
        super().__init__(without_gaps(places))

    @property
    @override
    def shown(self) -> int:
        return self._own

    @override
    def parameters(self, size: int) -> tuple[CovarianceParameter, ...]:
        return (CovarianceParameter("partial", "partial", self.p, False, (-1.0, 1.0), "lag"),)

    @override
    def coordinates(self, size: int) -> dict[str, tuple[str, ...]]:
        return {"lag": tuple(str(k + 1) for k in range(self.p))}

    @override
    def default_prior(self, key: str) -> Prior | None:
        return Prior("Uniform", lower=-1.0, upper=1.0)

    @override
    def start(self) -> dict[str, np.ndarray]:
        return {"partial": np.array([0.3, *[0.0] * (self.p - 1)])}

    @override
    def extended(self, places: Places) -> LevelCovariance:
        return AutoregressionTime(self.places.joined(places), self.p)

    @cached_property
    def _before(self) -> np.ndarray:
        """The node m steps before each, `(N, p + 1)`, itself first; -1 before the first."""
        found = [np.arange(len(self.parent))]
        for _ in range(self.p):
            last = found[-1]
            found.append(np.where(last >= 0, self.parent[last], -1))
        return np.column_stack(found)

    @cached_property
    def _terms(self) -> list[tuple[int, int, int, np.ndarray]]:
        """Of predictions from m values: lags i <= j, and the pairs they add to."""
        rank = (self._before >= 0).sum(axis=1) - 1
        place = {tuple(pair): k for k, pair in enumerate(self.pairs.tolist())}
        found = []
        for m in range(self.p + 1):
            rows = self._before[rank == m]
            for i in range(m + 1):
                for j in range(i, m + 1):
                    at = [place[max(a, b), min(a, b)] for a, b in rows[:, [i, j]].tolist()]
                    found.append((m, i, j, np.array(at, dtype=np.intp)))
        return found

    @cached_property
    @override
    def pairs(self) -> np.ndarray:
        every = [np.column_stack([self._before[:, 0]] * 2)]
        for k in range(1, self.p + 1):
            both = self._before[self._before[:, k] >= 0][:, [0, k]]
            every.append(np.column_stack([both.max(axis=1), both.min(axis=1)]))
        return np.concatenate(every)

    @override
    def entries(self, theta: Mapping[str, Any], xp: Any = NUMPY) -> Entries:
        partial = [theta["partial"][k] for k in range(self.p)]
        weights, left = _predictions(partial)
        values, log_determinant = np.zeros(len(self.pairs)), 0.0
        for m, i, j, at in self._terms:
            part = weights[m][i] * weights[m][j] / left[m]
            values = xp.add_at(values, at, part * np.ones(len(at)))
            if i == j == 0:
                log_determinant = log_determinant - len(at) * xp.log(left[m])
        return Entries(values, log_determinant)


class AutoregressiveMovingAverage(AlongTime, DenseCovariance):
    """
    `arma(time | g)`: v of variance one, v_t = phi v_(t-1) + e_t + psi e_(t-1), by lags.

    Parameters: `phi` and `psi` in (-1, 1); with psi = 0 it is ar1. Times are whole numbers, and no
    node is needed for those without data; the matrices are dense. Orders other than p = q = 1 are
    not built: `ar` has more terms of its own past.

    Notes
    -----
    Box, Jenkins & Reinsel (1994), Time Series Analysis, 3.4.3: correlations are
    (1 + phi psi)(phi + psi) / (1 + 2 phi psi + psi^2) at lag 1, and phi times that before after.
    """

    name = "arma"

    def __init__(self, places: Places, p: int = 1, q: int = 1) -> None:
        if (p, q) != (1, 1):
            raise FormulaError(
                f"arma has p=1 and q=1, not p={p!r} and q={q!r} as in {places.text!r}: use "
                f"ar(time | g, p={p!r}) for longer memory."
            )
        super().__init__(places)
        whole_times(places)
        self.refuse_large("Use ar, which takes any number of times.")

    @override
    def parameters(self, size: int) -> tuple[CovarianceParameter, ...]:
        return tuple(
            CovarianceParameter(name, name, 1, False, (-1.0, 1.0)) for name in ("phi", "psi")
        )

    @override
    def default_prior(self, key: str) -> Prior | None:
        return Prior("Uniform", lower=-1.0, upper=1.0)

    @override
    def start(self) -> dict[str, np.ndarray]:
        return {"phi": np.full(1, 0.4), "psi": np.full(1, 0.1)}

    @cached_property
    @override
    def known(self) -> list[np.ndarray]:
        time = self.places.at[:, 0].astype(np.int64)
        return [np.abs(np.subtract.outer(time[b], time[b])) for b in self.blocks]

    @override
    def correlations(self, known: np.ndarray, theta: Mapping[str, Any], xp: Any) -> Any:
        phi, psi = theta["phi"][0], theta["psi"][0]
        first = (1 + phi * psi) * (phi + psi) / (1 + 2 * phi * psi + psi * psi)
        later = first * whole_powers(phi, np.maximum(known - 1, 0), xp)
        return xp.where(known > 0, later, 1.0 + 0.0 * later)


def _predictions(partial: list[Any]) -> tuple[list[list[Any]], list[Any]]:
    """Give, by the number m of values before, the weights 1, -phi of news, and its variance."""
    weights, left = [[1.0]], [1.0]
    for r in partial:
        last = weights[-1][1:]
        # Of -phi: the new one is -r, and each older one gains r times its mirror image.
        weights.append([1.0, *(w - r * v for w, v in zip(last, last[::-1], strict=True)), -r])
        left.append(left[-1] * (1.0 - r * r))
    return weights, left


def without_gaps(places: Places) -> Places:
    """Add the times that are missing in between, last."""
    time, process = whole_times(places), places.process
    names, owner, at = [], [], []
    for g in np.unique(process):
        own = time[process == g]
        prefix = places.names[int(np.argmax(process == g))].rpartition(":")[0]
        for t in np.setdiff1d(np.arange(own.min(), own.max() + 1), own):
            names.append(f"{prefix}:{t:.12g}" if prefix else f"{t:.12g}")
            owner.append(g)
            at.append(t)
    more = Places(
        tuple(names),
        np.array(owner, dtype=process.dtype),
        np.array(at, dtype=float).reshape(-1, 1),
        places.text,
        places.factors,
        np.full((len(names), places.labels.shape[1]), "", dtype=object),
    )
    return places.joined(more)
