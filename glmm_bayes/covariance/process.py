"""Gaussian processes as brms and bambi write them: exact, and by basis functions."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, override

import numpy as np

from glmm_bayes.arrays import NUMPY
from glmm_bayes.covariance.field import Field, Metric
from glmm_bayes.covariance.kernels import KERNELS
from glmm_bayes.covariance.levels import Entries, LevelCovariance, Places
from glmm_bayes.covariance.structure import CovarianceParameter
from glmm_bayes.errors import DataError, FormulaError
from glmm_bayes.priors import Prior

FLOOR = 1e-8  # variance of the field that frequencies without any are given
SAMPLE = 400  # places whose distances tell the usual one


class GaussianProcess(Field):
    """
    `gp(x, y, cov="exp_quad")`: an exact Gaussian process, by its length-scale l = `range`.

    Correlations at distance r are exp(-r^2 / (2 l^2)) of `cov="exp_quad"`; (1 + a) exp(-a) with
    a = sqrt(3) r / l of `"matern32"`; (1 + a + a^2 / 3) exp(-a) with a = sqrt(5) r / l of
    `"matern52"`; exp(-r / l) of `"exponential"`. `gp(x + y | g)` is a process for every group.

    Parameters: `range` > 0, in the unit of the coordinates. It is brms's lscale with `scale =
    FALSE`, whose default measures it in largest distances; and sd is its sdgp.
    """

    name = "gp"

    def __init__(
        self,
        places: Places,
        cov: str = "exp_quad",
        *,
        metric: Metric = "euclidean",
        anisotropy: bool = False,
    ) -> None:
        self.cov, self._kernel = cov, KERNELS[cov]()
        super().__init__(places, metric=metric, anisotropy=anisotropy)

    @override
    def made(self, places: Places) -> Field:
        return GaussianProcess(places, self.cov, metric=self.metric, anisotropy=self.anisotropy)

    @override
    def correlation(self, scaled: Any, theta: Mapping[str, Any], xp: Any) -> Any:
        return self._kernel.correlation(scaled, xp)


class BasisProcess(LevelCovariance):
    """
    `hsgp(x, y, m=…, c=1.5)`: a Gaussian process by m basis functions a dimension, for many rows.

    Functions are sines that vanish on the edge of a box, c times as large as the data's; their
    weights are independent, with the spectral density of `cov`, as of `gp`, for variances. New
    places lie within the box. `m` and `c` are one number, or one a dimension. Levels in tables are
    the functions' weights; `predict` gives the process.

    Parameters: `range` > 0, the length-scale l of `gp`. Functions resolve l > 1.75 c S / m (of
    `"matern52"` 2.65, of `"matern32"` 3.42), with S half of the data's extent.

    Notes
    -----
    Solin & Särkkä (2020), Statistics and Computing 30, 419-446; Riutort-Mayol, Bürkner, Andersen,
    Solin & Vehtari (2023), Statistics and Computing 33, 17.
    """

    name = "hsgp"
    positioned = True

    def __init__(
        self,
        places: Places,
        m: int | Sequence[int],
        c: float | Sequence[float] = 1.5,
        cov: str = "exp_quad",
    ) -> None:
        super().__init__(places)
        self.kernel, d = KERNELS[cov](), places.at.shape[1]
        self.kernel.log_density(np.zeros(1), 1.0, d, NUMPY)
        self.m, self.c = _each(m, d, "m", places.text), _each(c, d, "c", places.text)
        if (self.m < 1).any() or (self.m != np.round(self.m)).any():
            raise FormulaError(
                f"m of {places.text!r} should be whole numbers from 1 on, not {m!r}."
            )
        if (self.c <= 1).any():
            raise FormulaError(
                f"c of {places.text!r} should be above 1, such as 1.5, not {c!r}: the box is that "
                f"much larger than the data's."
            )
        low, high = places.at.min(axis=0), places.at.max(axis=0)
        if (low == high).any():
            raise DataError(f"A coordinate of {places.text!r} is the same in all rows.")
        self.middle, self.half = 0.5 * (low + high), 0.5 * (high - low)
        self.finest = float(((self.kernel.basis or 0.0) * self.box / self.m).max())
        self._groups = _groups(places)

    @property
    def box(self) -> np.ndarray:
        """Half of the box's sides `(d,)`, L in the papers."""
        return self.c * self.half

    @cached_property
    def _numbers(self) -> np.ndarray:
        """Which sine `(M, d)` of each dimension the functions are made of, from 1."""
        grids = np.meshgrid(*(np.arange(1, k + 1) for k in self.m.astype(int)), indexing="ij")
        return np.column_stack([g.ravel() for g in grids])

    @cached_property
    @override
    def nodes(self) -> tuple[str, ...]:
        labels = [",".join(map(str, row)) for row in self._numbers]
        return tuple(
            f"basis {label}" if group is None else f"{group}:basis {label}"
            for group in self._groups.values()
            for label in labels
        )

    @property
    @override
    def shown(self) -> int:
        return len(self.nodes)

    @override
    def located(self, places: Places) -> tuple[np.ndarray, np.ndarray]:
        apart = places.at - self.middle
        outside = np.flatnonzero((np.abs(apart) > self.box).any(axis=1))
        if len(outside):
            raise DataError(
                f"{places.names[outside[0]]!r} lies outside of the box of {self.places.text!r}: "
                f"fit with a larger c."
            )
        M = len(self._numbers)
        weights = np.ones((len(apart), M))
        for k, (half, number) in enumerate(zip(self.box, self._numbers.T, strict=True)):
            angle = np.pi * number / (2 * half) * (apart[:, [k]] + half)
            weights *= np.sin(angle) / np.sqrt(half)
        place = {g: k for k, g in enumerate(self._groups)}
        owner = np.array([place[int(g)] for g in places.process], dtype=np.intp)
        return owner[:, None] * M + np.arange(M), weights

    @override
    def extended(self, places: Places) -> LevelCovariance:
        found = BasisProcess(self.places, list(self.m), list(self.c), self.kernel.name)
        found._groups = self._groups | _groups(places)
        return found

    @override
    def parameters(self, size: int) -> tuple[CovarianceParameter, ...]:
        return (CovarianceParameter("range", "range", 1, False, (0.0, np.inf)),)

    @override
    def default_prior(self, key: str) -> Prior | None:
        # As of fields: half of it lies below 0.3 of the usual distance, and few above 3.5.
        return Prior("InverseGamma", alpha=2.0, beta=float(f"{0.5 * self._usual:.3g}"))

    @override
    def start(self) -> dict[str, np.ndarray]:
        return {"range": np.full(1, max(0.3 * self._usual, 1.2 * self.finest))}

    @cached_property
    def _usual(self) -> float:
        """The median distance, of some of the places."""
        step = max(1, len(self.places.at) // SAMPLE)
        at = self.places.at[::step]
        found = np.sqrt(((at[:, None] - at[None]) ** 2).sum(axis=2))
        return float(np.median(found[found > 0]))

    @cached_property
    @override
    def pairs(self) -> np.ndarray:
        every = np.arange(len(self.nodes))
        return np.column_stack([every, every])

    @override
    def entries(self, theta: Mapping[str, Any], xp: Any = NUMPY) -> Entries:
        squares = ((np.pi * self._numbers / (2 * self.box)) ** 2).sum(axis=1)
        log_density = self.kernel.log_density(squares, theta["range"][0], len(self.box), xp)
        # Without the floor, precisions of high frequencies would overflow.
        variance = xp.exp(log_density) + FLOOR * np.prod(self.box)
        many = len(self._groups)
        return Entries(xp.concatenate([1.0 / variance] * many), -many * xp.sum(xp.log(variance)))


def _each(value: Any, d: int, name: str, text: str) -> np.ndarray:
    found = np.atleast_1d(np.asarray(value, dtype=float))
    if found.shape not in ((1,), (d,)):
        raise FormulaError(
            f"{name} of {text!r} should be one number, or {d}, one a dimension, not {value!r}."
        )
    return np.resize(found, d)


def _groups(places: Places) -> dict[int, str | None]:
    """Give the names of the processes by number; None where there is one for all rows."""
    first = {int(g): name for g, name in zip(places.process, places.names, strict=True)}
    prefixes = {g: name.rpartition(":")[0] for g, name in first.items()}
    return {g: prefixes[g] or None for g in sorted(prefixes)}
