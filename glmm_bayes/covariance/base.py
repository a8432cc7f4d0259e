"""What a structure of columns is: parameters, and a factor of the covariance they give."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from glmm_bayes.arrays import NUMPY
from glmm_bayes.covariance.structure import CovarianceParameter, Structure
from glmm_bayes.errors import FormulaError
from glmm_bayes.registry import Registry

COVARIANCES: Registry["type[Covariance]"] = Registry("covariance structure")


class Covariance(Structure):
    """
    How the effects of one level vary together, a column each.

    It gives `Lambda` `(p, p)`, lower triangular, with `cov(b_j) = Lambda Lambda'` for the p effects
    of level j. How the levels vary together says a `LevelCovariance`.
    """

    ordered: ClassVar[bool] = False  # whether the columns are the levels of one factor, in order
    gaps: ClassVar[bool] = False  # whether a level without data may stand between others
    informed: ClassVar[bool] = False  # whether a start is to see how the columns vary together
    absorbs: ClassVar[bool] = True  # whether independent noise on every effect is of the structure
    compiled: ClassVar[str | None] = None  # the name of its kernel in `engine.kernels`, if any

    def __init_subclass__(cls) -> None:
        """Enter the structure into the registry under its name."""
        # A subclass has another factor, and so not its parent's kernel.
        cls.compiled = cls.__dict__.get("compiled")
        if hasattr(cls, "name"):
            COVARIANCES.add(cls.name, cls)

    @classmethod
    def of(cls, given: Mapping[str, str], text: str) -> "Covariance":
        """Make the structure with the arguments `given` that it has in the term `text`."""
        if given:
            name, value = next(iter(given.items()))
            argument = value if name.isdigit() else f"{name}={value}"
            raise FormulaError(
                f"The structure {cls.name!r} takes no arguments: leave {argument!r} out of "
                f"{text!r}."
            )
        return cls()

    def problem(self, size: int) -> str | None:
        """Say what is wrong with `size` columns, if anything is; continues the term's text."""
        return None

    def rank(self, size: int) -> int:
        """Give the number r of columns of the factor that may not be zero, the first ones."""
        return size

    @abstractmethod
    def factor(self, theta: Mapping[str, Any], size: int, xp: Any = NUMPY) -> Any:
        """Give the factor `(size, size)`, on arrays or, with `xp=graph()`, on PyTensor's graphs."""

    def pullback(
        self, theta: Mapping[str, np.ndarray], size: int, grad: np.ndarray
    ) -> dict[str, np.ndarray]:
        """
        Carry a derivative by the factor back to the parameters.

        By the complex step, which is exact to rounding for every factor that is written with
        analytic functions: Squire & Trapp (1998), SIAM Review 40, 110-112.
        """
        step = 1e-30
        out = {}
        for name, value in theta.items():
            slopes = np.empty(len(value))
            for k in range(len(value)):
                moved = value.astype(complex)
                moved[k] += 1j * step
                slopes[k] = np.sum(grad * self.factor({**theta, name: moved}, size).imag) / step
            out[name] = slopes
        return out

    # ---- coordinates in which a maximum may lie on the edge of the parameters' space

    def tries(self, size: int) -> int:
        """Tell from how many starts a maximum is looked for: more than one where it has rivals."""
        return 1

    def start(
        self, sd: np.ndarray, size: int, seen: np.ndarray | None = None, attempt: int = 0
    ) -> dict[str, np.ndarray]:
        """
        Give parameters to start a search from.

        Parameters
        ----------
        sd
            `(p,)` of what size the columns' effects are.
        seen
            `(p, p)` how they roughly vary together; given where the structure is `informed`.
        attempt
            The number of the try.
        """
        theta = {}
        for p in self.parameters(size):
            middle = np.full(p.size, 0.5 * sum(p.support) if p.key != "sd" else 0.0)
            if p.key == "sd":
                middle = np.resize(sd if p.by_column else sd.mean(), p.size)
            theta[p.name] = middle
        return theta

    def loose(self, theta: Mapping[str, np.ndarray], size: int) -> np.ndarray:
        """
        Go to coordinates z in which every edge is an interior point.

        A standard deviation may there have either sign, with the same likelihood at both, so that
        zero is a stationary point of it; a maximum at zero is then reached as any other. Where
        several of them come with correlations it is z squared: one sign alone would turn
        covariances about.

        Returns
        -------
        ndarray
            `(m,)`. By default the standard deviations or their roots, and the log odds of a
            parameter with two bounds.
        """
        parts = []
        for p in self.parameters(size):
            if p.key == "sd":
                parts.append(np.asarray(theta[p.name], dtype=float) ** self._growth(size))
            else:
                parts.append(_log_odds(p, theta))
        return np.concatenate(parts)

    def tight(self, z: np.ndarray, size: int) -> dict[str, np.ndarray]:
        """Go back from z `(m,)` to the parameters; standard deviations may be zero."""
        theta = self._signed(z, size)
        return {k: np.abs(v) if k == "sd" else v for k, v in theta.items()}

    def loose_factor(self, z: np.ndarray, size: int) -> np.ndarray:
        """Give a factor Lambda `(size, size)`, Lambda Lambda' the covariance, at z."""
        return self.factor(self._signed(z, size), size)

    def loose_pullback(self, z: np.ndarray, size: int, grad: np.ndarray) -> np.ndarray:
        """Carry a derivative by `loose_factor` back to z."""
        theta, at, parts = self._signed(z, size), 0, []
        by_theta = self.pullback(theta, size, grad)
        for p in self.parameters(size):
            slope = _signed_slope(p, theta[p.name])
            if p.key == "sd" and self._growth(size) < 1:
                slope = 2 * z[at : at + p.size]
            parts.append(by_theta[p.name] * slope)
            at += p.size
        return np.concatenate(parts)

    def units(self, size: int, sd: np.ndarray) -> np.ndarray:
        """Give the size `(m,)` of a step in z, where the columns' effects are of size `sd`."""
        parts = []
        for p in self.parameters(size):
            own = np.resize(sd if p.by_column else sd.mean(), p.size)
            parts.append(own ** self._growth(size) if p.key == "sd" else np.ones(p.size))
        return np.concatenate(parts)

    def growth(self, size: int) -> np.ndarray:
        """
        Tell how z grows with the effects.

        Returns
        -------
        ndarray
            `(m,)` the power of c by which each coordinate is to be multiplied for Lambda to be
            multiplied by c: 0 for what has no length.
        """
        return np.concatenate(
            [
                np.full(p.size, self._growth(size) if p.key == "sd" else 0.0)
                for p in self.parameters(size)
            ]
        )

    def _growth(self, size: int) -> float:
        sizes = {p.key: p.size for p in self.parameters(size) if p.size}
        return 0.5 if len(sizes) > 1 and sizes["sd"] > 1 else 1.0

    def idle(self, z: np.ndarray, size: int) -> np.ndarray:
        """Tell which coordinates `(m,)` change nothing at z, to first order: those at an edge."""
        lengths = self.growth(size) > 0
        return np.where(lengths, z == 0, not z[lengths].any())

    def exits(self, z: np.ndarray, size: int, steps: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Give points off the edges at which z is, by steps `(m,)` of each coordinate."""
        for k in np.flatnonzero(self.idle(z, size)):
            for step in steps:
                yield np.where(np.arange(len(z)) == k, z + step, z)

    def at_edge(self, z: np.ndarray, size: int, near: np.ndarray) -> np.ndarray:
        """Move z to the edges of which it is as near as `near` `(m,)`."""
        return np.where((self.growth(size) > 0) & (np.abs(z) < near), 0.0, z)

    def _signed(self, z: np.ndarray, size: int) -> dict[str, np.ndarray]:
        theta, at = {}, 0
        for p in self.parameters(size):
            part = z[at : at + p.size]
            if p.key == "sd":
                theta[p.name] = part if self._growth(size) == 1 else part * part
            else:
                theta[p.name] = _between(p, part)
            at += p.size
        return theta


def _log_odds(p: CovarianceParameter, theta: Mapping[str, np.ndarray]) -> np.ndarray:
    lower, upper = p.support
    share = (np.asarray(theta[p.name], dtype=float) - lower) / (upper - lower)
    return np.log(share) - np.log1p(-share)


def _between(p: CovarianceParameter, z: np.ndarray) -> np.ndarray:
    lower, upper = p.support
    return lower + (upper - lower) * NUMPY.expit(z)


def _signed_slope(p: CovarianceParameter, value: np.ndarray) -> np.ndarray | float:
    if p.key == "sd":
        return 1.0
    lower, upper = p.support
    return (value - lower) * (upper - value) / (upper - lower)
