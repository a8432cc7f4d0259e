"""Effects of a few values: independent levels, each of one of K classes that nobody saw."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, override

import numpy as np

from glmm_bayes.arrays import NUMPY
from glmm_bayes.covariance.levels import STEP, Entries, LevelCovariance, Places
from glmm_bayes.covariance.shaped import NotNormal, Theta
from glmm_bayes.covariance.structure import CovarianceParameter, refuse_prior
from glmm_bayes.errors import FormulaError, NotSupportedError
from glmm_bayes.priors import Prior
from glmm_bayes.priors.formulas import shares, stick_concentrations

MOST = 20  # classes
UNIT = (0.0, 1.0)
LARGEST = 1 - 1e-15  # of a stick read back from rounded shares


class MassPoints(NotNormal):
    """
    A distribution of K masses: `(1 | g, dist="mixture", k=3)`.

    Parameters: `weight`, the probabilities w of the classes, sampled as the K - 1 sticks that
    break them off a whole; `spacing`, of the K - 1 gaps between neighbouring locations the shares
    of the whole width, sampled likewise. In standard units the locations l ascend, with
    sum_k w_k l_k = 0 and sum_k w_k l_k^2 = 1, so that there is an intercept beside them and `sd`
    is the effects' standard deviation: what is reported as `location` is sd l.

    Notes
    -----
    Laird (1978), J. American Statistical Association 73, 805-811; Aitkin (1999), Biometrics 55,
    117-128; Rabe-Hesketh, Pickles & Skrondal (2003), Statistical Modelling 3, 215-232.
    """

    name = "mixture"
    takes: ClassVar[tuple[str, ...]] = ("k",)
    in_sd: ClassVar[tuple[str, ...]] = ("location",)
    drawn_as: ClassVar[str] = "class"
    instead: ClassVar[str] = "use fit('ml'), fit('map') or fit('nuts')"

    def __init__(self, places: Places, k: int = 2) -> None:
        if isinstance(k, bool) or not isinstance(k, int) or not 2 <= k <= MOST:
            raise FormulaError(
                f"The number k of classes of {places.text!r} should be a whole number from 2 to "
                f"{MOST}, not {k!r}."
            )
        if k > len(places.names):
            raise FormulaError(
                f"{places.text!r} has k={k} classes of {len(places.names)} levels: it takes at "
                f"least as many levels as classes, and many more to tell them apart."
            )
        super().__init__(places)
        self.k = k

    @property
    @override
    def masses(self) -> "MassPoints":
        return self

    @override
    def parameters(self, size: int) -> tuple[CovarianceParameter, ...]:
        weight = CovarianceParameter("stick", "weight", self.k - 1, False, UNIT)
        gaps = CovarianceParameter("gap", "spacing", self.k - 2, False, UNIT)
        return (weight, gaps) if self.k > 2 else (weight,)

    @override
    def default_prior(self, key: str) -> Prior | None:
        return Prior("Dirichlet", a=1.0)

    @override
    def priors(self, key: str, prior: Prior, size: int) -> tuple[Prior, ...]:
        count = {"weight": self.k, "spacing": self.k - 1}[key]
        a = np.asarray(prior.arguments.get("a", 1.0), dtype=float)
        if prior.distribution != "Dirichlet" or a.shape not in ((), (count,)):
            wanted = f"gb.Prior('Dirichlet', a=…), a a number or {count} of them,"
            raise refuse_prior(self.name, key, prior, wanted)
        both = zip(*stick_concentrations(np.broadcast_to(a, (count,))), strict=True)
        return tuple(Prior("Beta", alpha=float(one), beta=float(other)) for one, other in both)

    @override
    def start(self) -> dict[str, np.ndarray]:
        return self.sticks(np.full(self.k, 1.0 / self.k), np.full(self.k - 1, 1.0 / (self.k - 1)))

    def sticks(self, weight: np.ndarray, spacing: np.ndarray) -> dict[str, np.ndarray]:
        """Give the parameters of weights `(…, K)` and spacings `(…, K - 1)`, sums of 1."""
        found = {"stick": _broken(weight)}
        return found | ({"gap": _broken(spacing)} if self.k > 2 else {})

    def standard(self, theta: Mapping[str, Any], xp: Any = NUMPY) -> tuple[Any, Any, Any]:
        """Give the locations `(…, K)` in standard units, the weights and the spacings."""
        weight = shares(theta["stick"], xp)
        spacing = shares(theta["gap"], xp) if self.k > 2 else np.ones(1)
        # The first location at 0, every other one behind the gaps before it.
        at = spacing @ np.triu(np.ones((self.k - 1, self.k)), 1)
        at = at - xp.sum(weight * at, axis=-1, keepdims=True)
        return at / xp.sqrt(xp.sum(weight * at * at, axis=-1, keepdims=True)), weight, spacing

    @override
    def entries(self, theta: Mapping[str, Any], xp: Any = NUMPY) -> Entries:
        location, weight, _ = self.standard(theta, xp)
        # In the place of a precision: what a sum over the classes needs.
        return Entries(xp.concatenate([location, xp.log(weight)]), 0.0)

    @override
    def slopes(
        self, theta: Theta, by_values: np.ndarray, by_log_determinant: float
    ) -> dict[str, np.ndarray]:
        # The complex step of all parameters at once, each in a row of its own.
        sizes = [len(value) for value in theta.values()]
        ends, steps = np.cumsum(sizes)[:-1], 1j * STEP * np.eye(sum(sizes))
        parts = np.split(np.concatenate(list(theta.values())) + steps, ends, axis=1)
        location, weight, _ = self.standard(dict(zip(theta, parts, strict=True)))
        total = np.concatenate([location, np.log(weight)], axis=1).imag @ by_values / STEP
        return dict(zip(theta, np.split(total, ends), strict=True))

    @override
    def extended(self, places: Places) -> LevelCovariance:
        return MassPoints(self.places.joined(places), self.k)

    @override
    def log_density(self, v: np.ndarray, theta: Theta) -> np.ndarray:
        raise self._without_density

    @override
    def log_slopes(self, v: np.ndarray, theta: Theta) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        raise self._without_density

    @property
    def _without_density(self) -> NotSupportedError:
        return NotSupportedError(
            f"The effects of {self.places.text!r} are of classes and have no density: "
            f"{self.instead}."
        )

    # ---- draws

    @override
    def drawn(self, theta: Theta, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        location, weight, _ = self.standard(theta)
        up_to = np.cumsum(weight, axis=-1)[:, None, :-1]
        u = rng.uniform(size=(shape[0], int(np.prod(shape[1:])), 1))
        kind = (u > up_to).sum(axis=-1)
        return np.take_along_axis(location, kind, axis=-1).reshape(shape)

    @override
    def symbolic(self, theta: Mapping[str, Any], xp: Any) -> tuple[str, dict[str, Any]]:
        return "Categorical", {"p": self.standard(theta, xp)[1]}

    @override
    def placed(self, drawn: Any, theta: Mapping[str, Any], xp: Any) -> Any:
        return self.standard(theta, xp)[0][drawn]

    # ---- what results show

    @override
    def reported(self, theta: Mapping[str, Any], size: int, xp: Any = NUMPY) -> dict[str, Any]:
        location, weight, spacing = self.standard(theta, xp)
        found = {"location": location, "weight": weight}
        return found | ({"spacing": spacing} if self.k > 2 else {})

    @override
    def dims(self, key: str) -> tuple[str, ...]:
        return ("gap",) if key == "spacing" else ("class",)

    @override
    def coordinates(self, size: int) -> dict[str, tuple[str, ...]]:
        names = tuple(str(j + 1) for j in range(self.k))
        between = tuple(f"{a}-{b}" for a, b in zip(names[:-1], names[1:], strict=True))
        return {"class": names, "gap": between}

    @override
    def listed(self, size: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        for key in ("location", "weight"):
            yield from ((key, (j,)) for j in range(self.k))

    @override
    def sampled(self, values: Mapping[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
        return self.sticks(values["weight"], values.get("spacing", np.ones(1)))


def _broken(share: np.ndarray) -> np.ndarray:
    """Give the sticks `(…, K - 1)` that break shares `(…, K)` off a whole."""
    rest = np.cumsum(share[..., ::-1], axis=-1)[..., ::-1]
    return np.clip(share[..., :-1] / rest[..., :-1], 1 - LARGEST, LARGEST)
