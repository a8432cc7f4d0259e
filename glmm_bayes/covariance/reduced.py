"""Columns whose effects are made of fewer factors."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, override

import numpy as np

from glmm_bayes.arrays import NUMPY
from glmm_bayes.covariance.base import Covariance
from glmm_bayes.covariance.structure import CovarianceParameter, refuse_prior
from glmm_bayes.errors import FormulaError
from glmm_bayes.priors import REAL, Prior

OTHER_TRIES = 3  # starts of a search beside the first
LEAST = 1e-3  # of a column's variance, in a start


class ReducedRank(Covariance):
    """
    `rr(0 + f | g, d=2)`: cov = L L', L the loadings `(p, d)` of p columns on d factors.

    Of L, which only L L' and so any rotation of its columns would give, the entries above the
    diagonal are zero and those on it positive: the first column loads on the first factor
    alone, the second on two, and so on. Put columns first that vary on their own.

    Parameters: `loading`, on the link scale, sampled as `pivot`, the squares of those on the
    diagonal, and `entry`, those below it, row by row. `sd` and `corr` of the columns, which no
    rotation changes, are reported too.

    Notes
    -----
    A Normal(0, sigma) prior is one of loadings before they are rotated: those below the diagonal
    have it too, and the square of the k-th on it, k = 1 … d, is Gamma((d - k + 1) / 2,
    1 / (2 sigma^2)). L L' has then a distribution in which no column comes first: Leung & Drton
    (2016), Statistics & Probability Letters 111, 60-66.
    """

    name = "rr"
    informed = True
    absorbs = False

    def __init__(self, d: int = 2) -> None:
        self.d = d

    @override
    @classmethod
    def of(cls, given: Mapping[str, str], text: str) -> "ReducedRank":
        unknown = [name for name in given if name not in ("d", "0")]
        if unknown or len(given) > 1:
            raise FormulaError(
                f"The structure 'rr' takes one argument, the number of factors: write d=2 in "
                f"{text!r}."
            )
        asked = next(iter(given.values()), "2")
        if not asked.isdecimal() or int(asked) < 1:
            raise FormulaError(
                f"The number of factors in {text!r} should be a whole number from 1, as in d=2, "
                f"not {asked}."
            )
        return cls(int(asked))

    @override
    def problem(self, size: int) -> str | None:
        if self.d <= size:
            return None
        columns = "1 column" if size == 1 else f"{size} columns"
        return f"has {columns}, which cannot have d={self.d} factors: take d of at most {size}"

    @override
    def rank(self, size: int) -> int:
        return min(self.d, size)

    @override
    def parameters(self, size: int) -> tuple[CovarianceParameter, ...]:
        d = self.rank(size)
        pivot = CovarianceParameter("pivot", "loading", d, False, (0.0, np.inf))
        below = size * d - d * (d + 1) // 2
        entry = CovarianceParameter("entry", "loading", below, False, REAL)
        return (pivot, entry) if below else (pivot,)

    @override
    def factor(self, theta: Mapping[str, Any], size: int, xp: Any = NUMPY) -> Any:
        roots = xp.sqrt(theta["pivot"])
        parts = [roots, theta["entry"]] if "entry" in theta else [roots]
        return xp.concatenate([*parts, 0 * roots[:1]])[self._places(size)]

    @override
    def pullback(
        self, theta: Mapping[str, np.ndarray], size: int, grad: np.ndarray
    ) -> dict[str, np.ndarray]:
        slope, d = self.loose_pullback(np.empty(0), size, grad), self.rank(size)
        found = {"pivot": 0.5 * slope[:d] / np.sqrt(theta["pivot"])}
        return found | ({"entry": slope[d:]} if "entry" in theta else {})

    def _places(self, size: int) -> np.ndarray:
        return _places(size, self.rank(size))

    def _below(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        rows, columns = np.tril_indices(size, -1, self.rank(size))
        return rows, columns

    def _rows(self, size: int) -> np.ndarray:
        """Tell whose column each loading is."""
        return np.append(np.arange(self.rank(size)), self._below(size)[0])

    # ---- priors

    @override
    def scaled_prior(self, parameter: CovarianceParameter, reach: np.ndarray) -> Prior:
        # The squares of d loadings make a variance.
        sigma = [float(f"{r / np.sqrt(self.rank(len(reach))):.3g}") for r in reach]
        return Prior("Normal", mu=0.0, sigma=sigma[0] if len(set(sigma)) == 1 else sigma)

    @override
    def entry_priors(
        self, parameter: CovarianceParameter, prior: Prior, size: int
    ) -> tuple[Prior, ...]:
        sigma, d = prior.arguments.get("sigma", 1.0), self.rank(size)
        plain = prior.distribution == "Normal" and np.ndim(prior.arguments.get("mu", 0.0)) == 0
        if not plain or prior.arguments.get("mu", 0.0) != 0 or np.size(sigma) not in (1, size):
            raise refuse_prior(
                self.name, "loading", prior, "gb.Prior('Normal', mu=0, sigma=…), any scale,"
            )
        scale = np.broadcast_to(np.asarray(sigma, dtype=float), size)
        if parameter.name == "entry":
            return tuple(Prior("Normal", mu=0.0, sigma=scale[i]) for i in self._below(size)[0])
        return tuple(
            Prior("Gamma", alpha=0.5 * (d - k), beta=0.5 / scale[k] ** 2) for k in range(d)
        )

    # ---- what results show

    @override
    def reported(self, theta: Mapping[str, Any], size: int, xp: Any = NUMPY) -> dict[str, Any]:
        L = self.factor(theta, size, xp)
        sd = xp.sqrt((L * L).sum(axis=1))
        unit = L / xp.where(sd > 0, sd, 1.0)[:, None]
        return {"loading": L[:, : self.rank(size)], "sd": sd, "corr": unit @ unit.T}

    @override
    def sampled(self, values: Mapping[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
        L, d = values["loading"], self.rank(size)
        found = {"pivot": L[:, range(d), range(d)] ** 2}
        return found | ({"entry": L[:, *self._below(size)]} if size > 1 else {})

    @override
    def dims(self, key: str) -> tuple[str, ...]:
        return {"loading": ("coef", "factor"), "sd": ("coef",), "corr": ("coef", "coef2")}[key]

    @override
    def coordinates(self, size: int) -> dict[str, tuple[str, ...]]:
        return {"factor": tuple(str(k + 1) for k in range(self.rank(size)))}

    @override
    def listed(self, size: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield from (("sd", (i,)) for i in range(size))
        yield from (("corr", (i, j)) for i in range(size) for j in range(i + 1, size))
        for i in range(size):
            yield from (("loading", (i, k)) for k in range(min(i + 1, self.rank(size))))

    # The maximum's coordinates are the loadings, of any sign. A factor that is not needed has a
    # column of zeros; those stand last.

    @override
    def tries(self, size: int) -> int:
        return 1 if self.rank(size) == 1 else 1 + min(OTHER_TRIES, size)

    @override
    def start(
        self, sd: np.ndarray, size: int, seen: np.ndarray | None = None, attempt: int = 0
    ) -> dict[str, np.ndarray]:
        d = self.rank(size)
        seen = np.diag(sd**2) if seen is None else seen
        scale = np.sqrt(np.diag(seen))
        values, vectors = np.linalg.eigh(seen / np.outer(scale, scale))
        A = (vectors * np.sqrt(np.maximum(values, LEAST)))[:, ::-1][:, :d]
        if attempt:
            # Many a rival maximum has a factor that is one widely varying column's own.
            A[:, -1] = np.arange(size) == np.argsort(-scale)[attempt - 1]
        L = np.sqrt(np.mean(sd**2) / np.mean(scale**2)) * self._rotated(scale[:, None] * A)
        theta = self.sampled({"loading": L[None]}, size)
        return {name: value[0] for name, value in theta.items()}

    @staticmethod
    def _rotated(A: np.ndarray) -> np.ndarray:
        """Turn the columns of A `(p, d)` so that it is lower triangular, its diagonal positive."""
        d = A.shape[1]
        L = A @ np.linalg.qr(A[:d].T)[0]
        # A zero on the diagonal has no logarithm.
        L[range(d), range(d)] += np.where(np.diag(L) < 0, -1.0, 1.0) * 1e-3 * np.abs(A).mean()
        return np.tril(L) * np.sign(np.diag(L))

    @override
    def loose(self, theta: Mapping[str, np.ndarray], size: int) -> np.ndarray:
        return np.append(np.sqrt(theta["pivot"]), theta.get("entry", np.empty(0)))

    @override
    def tight(self, z: np.ndarray, size: int) -> dict[str, np.ndarray]:
        d = self.rank(size)
        sign = np.where(z[:d] < 0, -1.0, 1.0)
        found = {"pivot": z[:d] ** 2}
        return found | ({"entry": z[d:] * sign[self._below(size)[1]]} if size > 1 else {})

    @override
    def loose_factor(self, z: np.ndarray, size: int) -> np.ndarray:
        return np.append(z, 0.0)[self._places(size)]

    @override
    def loose_pullback(self, z: np.ndarray, size: int, grad: np.ndarray) -> np.ndarray:
        count = len(self._rows(size))
        return np.bincount(self._places(size).ravel(), grad.ravel(), count + 1)[:count]

    @override
    def units(self, size: int, sd: np.ndarray) -> np.ndarray:
        return sd[self._rows(size)]

    @override
    def growth(self, size: int) -> np.ndarray:
        return np.ones(len(self._rows(size)))

    @override
    def idle(self, z: np.ndarray, size: int) -> np.ndarray:
        empty = ~self.loose_factor(z, size)[:, : self.rank(size)].any(axis=0)
        return empty[self._columns(size)]

    @override
    def at_edge(self, z: np.ndarray, size: int, near: np.ndarray) -> np.ndarray:
        column, d = self._columns(size), self.rank(size)
        kept = np.bincount(column, np.abs(z) >= near, d) > 0
        L = self.loose_factor(z, size)[:, :d]
        moved = np.zeros_like(L)
        moved[:, : kept.sum()] = L[:, kept]
        return moved[self._rows(size), column]

    def _columns(self, size: int) -> np.ndarray:
        """Tell whose factor each loading is of."""
        return np.append(np.arange(self.rank(size)), self._below(size)[1])


@lru_cache
def _places(size: int, d: int) -> np.ndarray:
    """Tell where each entry of the factor `(p, p)` stands among the loadings and a last zero."""
    rows, columns = np.tril_indices(size, -1, d)
    places = np.full((size, size), d + len(rows))
    places[range(d), range(d)] = np.arange(d)
    places[rows, columns] = d + np.arange(len(rows))
    return places
