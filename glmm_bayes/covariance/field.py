"""Fields over coordinates: correlation as a function of distance, by dense matrices."""

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal, override

import numpy as np

from glmm_bayes.arrays import NUMPY
from glmm_bayes.covariance.dense import STEP, DenseCovariance
from glmm_bayes.covariance.levels import LevelCovariance, Places
from glmm_bayes.covariance.structure import CovarianceParameter
from glmm_bayes.errors import DataError, FormulaError
from glmm_bayes.priors import Prior

EARTH = 6371.0088  # km, the mean radius of IUGG
SMALL = 1e-200  # a squared distance: the root of zero has no slope

type Metric = Literal["euclidean", "chordal", "greatcircle"]


class Field(DenseCovariance):
    """
    v of variance one whose correlation depends on the distance between places.

    Distances are Euclidean, or from longitudes and latitudes in degrees, in km, along the surface
    (`metric="greatcircle"`) or through the earth (`"chordal"`). With `anisotropy=True` in two
    dimensions they are longer across the direction `angle` (radians from the first coordinate)
    than along it, by one over `ratio`.
    """

    positioned = True
    on_sphere: ClassVar[bool] = False  # whether it is a covariance of great-circle distances

    def __init__(
        self, places: Places, *, metric: Metric = "euclidean", anisotropy: bool = False
    ) -> None:
        super().__init__(places)
        self.metric, self.anisotropy = metric, anisotropy
        d = places.at.shape[1]
        self.refuse_large(
            "Use spde, which takes any number, or round the coordinates to a coarser grid."
        )
        if metric not in ("euclidean", "chordal", "greatcircle"):
            raise FormulaError(
                f"The metric of {places.text!r} should be 'euclidean', 'chordal' or "
                f"'greatcircle', not {metric!r}."
            )
        if metric != "euclidean":
            self._check_sphere(places, d)
        if anisotropy and (d != 2 or metric != "euclidean"):
            raise FormulaError(
                f"Anisotropy needs two coordinates in a plane, but {places.text!r} has {d} "
                f"({metric})."
            )

    def _check_sphere(self, places: Places, d: int) -> None:
        if d != 2 or np.abs(places.at[:, 1]).max() > 90:
            raise DataError(
                f"On the earth {places.text!r} needs longitude and latitude, in degrees and in "
                f"this order."
            )
        if self.metric == "greatcircle" and not self.on_sphere:
            raise FormulaError(
                f"{self.name!r} is no covariance of distances along the earth's surface: use "
                f"metric='chordal' in {places.text!r}, or exp."
            )

    @abstractmethod
    def correlation(self, scaled: Any, theta: Mapping[str, Any], xp: Any) -> Any:
        """Give the correlation at distances over the range."""

    @override
    def parameters(self, size: int) -> tuple[CovarianceParameter, ...]:
        found = [CovarianceParameter("range", "range", 1, False, (0.0, np.inf))]
        if self.anisotropy:
            found.append(CovarianceParameter("angle", "angle", 1, False, (-np.pi / 2, np.pi / 2)))
            found.append(CovarianceParameter("ratio", "ratio", 1, False, (0.0, 1.0)))
        return tuple(found)

    @override
    def default_prior(self, key: str) -> Prior | None:
        if key == "range":
            # Half of it lies below 0.3 of the usual distance, and one in a hundred above 3.5.
            return Prior("InverseGamma", alpha=2.0, beta=float(f"{0.5 * self._usual:.3g}"))
        low, high = (-np.pi / 2, np.pi / 2) if key == "angle" else (0.0, 1.0)
        return Prior("Uniform", lower=low, upper=high)

    @override
    def start(self) -> dict[str, np.ndarray]:
        found = {"range": np.full(1, 0.3 * self._usual)}
        if self.anisotropy:
            found |= {"angle": np.full(1, 0.1), "ratio": np.full(1, 0.7)}
        return found

    @override
    def extended(self, places: Places) -> LevelCovariance:
        return self.made(self.places.joined(places))

    def made(self, places: Places) -> "Field":
        """Make the same structure for other places."""
        return type(self)(places, metric=self.metric, anisotropy=self.anisotropy)

    # ---- distances

    @property
    @override
    def positions(self) -> np.ndarray:
        if self.metric == "euclidean":
            return self.places.at
        lon, lat = np.radians(self.places.at).T
        return EARTH * np.column_stack(
            [np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)]
        )

    @cached_property
    @override
    def known(self) -> list[np.ndarray]:
        """Distances `(m, m)` within each process; with anisotropy, differences `(2, m, m)`."""
        at = self.positions
        apart = [(at[b][:, None] - at[b][None]).transpose(2, 0, 1) for b in self.blocks]
        return apart if self.anisotropy else [self._distances(part) for part in apart]

    def _distances(self, apart: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.sqrt((apart**2).sum(axis=0))
        if self.metric == "greatcircle":
            return np.asarray(2 * EARTH * np.arcsin(np.minimum(found / (2 * EARTH), 1.0)))
        return found

    @cached_property
    def _usual(self) -> float:
        """The median distance."""
        own = [self._distances(part) for part in self.known] if self.anisotropy else self.known
        found = np.concatenate([d[np.tril_indices(len(d), -1)] for d in own])
        found = found[found > 0]
        return float(np.median(found)) if len(found) else 1.0

    def _scaled(self, known: np.ndarray, theta: Mapping[str, Any], xp: Any) -> Any:
        """Give distances `(m, m)` over the range."""
        if not self.anisotropy:
            return known / theta["range"][0]
        c, s = xp.cos(theta["angle"][0]), xp.sin(theta["angle"][0])
        along = c * known[0] + s * known[1]
        across = (c * known[1] - s * known[0]) / theta["ratio"][0]
        return xp.sqrt(along * along + across * across + SMALL) / theta["range"][0]

    @override
    def correlations(self, known: np.ndarray, theta: Mapping[str, Any], xp: Any) -> Any:
        return self.correlation(self._scaled(known, theta, xp), theta, xp)

    def bend(self, scaled: np.ndarray, theta: Mapping[str, np.ndarray]) -> np.ndarray:
        """Give the slope of the correlation by the distance over the range."""
        moved = np.asarray(self.correlation(scaled + 1j * STEP, theta, NUMPY))
        return moved.imag / STEP

    @override
    def slope_of(
        self, known: np.ndarray, theta: Mapping[str, np.ndarray], name: str, k: int
    ) -> np.ndarray:
        if name != "range":
            return super().slope_of(known, theta, name, k)
        scaled = self._scaled(known, theta, NUMPY)
        return -self.bend(scaled, theta) * scaled / theta["range"][0]


class Exponential(Field):
    """
    `exp(x + y | g)`: correlation exp(-d / range) at distance d.

    Parameters: `range` > 0, in the unit of the coordinates; by default weakly informative about
    the median distance. Rough: a field without slopes.
    """

    name = "exp"
    on_sphere = True

    @override
    def correlation(self, scaled: Any, theta: Mapping[str, Any], xp: Any) -> Any:
        return xp.exp(-scaled)

    @override
    def bend(self, scaled: np.ndarray, theta: Mapping[str, np.ndarray]) -> np.ndarray:
        return -np.exp(-scaled)


class SquaredExponential(Field):
    """
    `gau(x + y | g)`: correlation exp(-(d / range)^2) at distance d.

    Parameters: `range` > 0, in the unit of the coordinates. A field with slopes of every order.
    """

    name = "gau"

    @override
    def correlation(self, scaled: Any, theta: Mapping[str, Any], xp: Any) -> Any:
        return xp.exp(-scaled * scaled)


class Spherical(Field):
    """
    `spherical(x + y | g)`: correlation 1 - 1.5 r + 0.5 r^3 with r = d / range; zero beyond.

    Parameters: `range` > 0, in the unit of the coordinates, of which there are three at most.
    """

    name = "spherical"
    on_sphere = True

    @override
    def correlation(self, scaled: Any, theta: Mapping[str, Any], xp: Any) -> Any:
        near = 1.0 - 1.5 * scaled + 0.5 * scaled * scaled * scaled
        return xp.where(xp.real(scaled) < 1.0, near, 0.0 * scaled)


class Matern(Field):
    """
    `mat(x + y | g, nu=1.5)`: correlation 2^(1 - nu) / Gamma(nu) r^nu K_nu(r), r = d / range.

    Parameters: `range` > 0, in the unit of the coordinates; with `nu="estimated"` the smoothness
    `nu` > 0 too. With nu = 0.5 it is `exp`; 0.5, 1.5 and 2.5 have closed forms and are faster.
    """

    name = "mat"

    def __init__(
        self,
        places: Places,
        nu: float | str = 1.5,
        *,
        metric: Metric = "euclidean",
        anisotropy: bool = False,
    ) -> None:
        is_number = isinstance(nu, int | float) and nu > 0
        if not is_number and nu != "estimated":
            raise FormulaError(
                f"The smoothness nu of {places.text!r} should be a positive number, such as 1.5, "
                f"or 'estimated', not {nu!r}."
            )
        self.nu = nu
        super().__init__(places, metric=metric, anisotropy=anisotropy)

    @override
    def made(self, places: Places) -> Field:
        return Matern(places, self.nu, metric=self.metric, anisotropy=self.anisotropy)

    @override
    def parameters(self, size: int) -> tuple[CovarianceParameter, ...]:
        own = () if self.nu != "estimated" else (NU,)
        return (*super().parameters(size), *own)

    @override
    def default_prior(self, key: str) -> Prior | None:
        return Prior("Gamma", alpha=4.0, beta=2.5) if key == "nu" else super().default_prior(key)

    @override
    def start(self) -> dict[str, np.ndarray]:
        return super().start() | ({"nu": np.full(1, 1.0)} if self.nu == "estimated" else {})

    @override
    def correlation(self, scaled: Any, theta: Mapping[str, Any], xp: Any) -> Any:
        if self.nu not in (0.5, 1.5, 2.5):
            nu: Any = theta["nu"][0] if self.nu == "estimated" else self.nu
            there = xp.real(scaled) > NEAR
            r = xp.where(there, scaled, 1.0)
            scale = xp.exp((1.0 - nu) * np.log(2.0) - xp.gammaln(nu))
            return xp.where(there, scale * r**nu * xp.kv(nu, r), 1.0)
        polynomial = 1.0 + (0.0 if self.nu == 0.5 else scaled)
        if self.nu == 2.5:
            polynomial = polynomial + scaled * scaled / 3.0
        return polynomial * xp.exp(-scaled)

    @override
    def slope_of(
        self, known: np.ndarray, theta: Mapping[str, np.ndarray], name: str, k: int
    ) -> np.ndarray:
        if name != "nu":
            return super().slope_of(known, theta, name, k)
        # SciPy's K_nu takes no complex order.
        step = 1e-5 * float(theta["nu"][0])
        up, down = (
            self._matrix(known, {**theta, "nu": theta["nu"] + move}, NUMPY)
            for move in (step, -step)
        )
        return (up - down) / (2 * step)


NU = CovarianceParameter("nu", "nu", 1, False, (0.0, np.inf))
NEAR = 1e-6  # distance over range below which the correlation is one to rounding
