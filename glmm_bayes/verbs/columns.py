"""Which columns of a matrix say the same, exactly or nearly."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from glmm_bayes.design import INTERCEPT

DEPENDENT = 1e-8
PART = 1e-5
SHOWN = 6


@dataclass(frozen=True, eq=False)
class Angles:
    """
    The columns of a matrix, brought to few rows with the same angles.

    `R` `(min(n, k), k)` has columns of length one, or zero; if there is an Intercept, after
    taking the `means` `(k,)` off, so that a large mean hides no variation; `size` `(k,)` are
    the lengths that were divided by.
    """

    names: tuple[str, ...]
    R: np.ndarray
    means: np.ndarray
    size: np.ndarray

    @classmethod
    def of(cls, X: np.ndarray, names: Sequence[str]) -> "Angles":
        """Measure the columns of X `(n, k)`."""
        means = np.zeros(X.shape[1])
        if INTERCEPT in names:
            means = np.where(np.array(names) == INTERCEPT, 0.0, X.mean(axis=0))
        centred = X - means
        size = np.linalg.norm(centred, axis=0)
        rounding = 1e-14 * np.sqrt(len(X)) * np.hypot(size, np.sqrt(len(X)) * np.abs(means))
        size = np.where(size > rounding, size, 0.0)
        scaled = centred / np.where(size > 0, size, np.inf)
        R = np.linalg.qr(scaled, mode="r")
        return cls(tuple(names), R, means, np.where(size > 0, size, 1.0))

    @cached_property
    def aliases(self) -> dict[str, tuple[str, ...]]:
        """
        The columns that are linear combinations of those before them, by name; none if zero.

        Examples
        --------
        >>> x = np.array([1.0, 2.0, 4.0])
        >>> X = np.column_stack([np.ones(3), x, 3 - 2 * x])
        >>> Angles.of(X, ["Intercept", "x", "z"]).aliases
        {'z': ('Intercept', 'x')}
        """
        basis = np.empty((len(self.R), 0))
        kept: list[int] = []
        found: dict[str, tuple[str, ...]] = {}
        for k, name in enumerate(self.names):
            rest = self.R[:, k]
            for _ in range(2):  # twice, as one pass leaves rounding errors of the first size
                rest = rest - basis @ (basis.T @ rest)
            length = float(np.linalg.norm(rest))
            if length > DEPENDENT:
                basis = np.column_stack([basis, rest / length])
                kept.append(k)
            else:
                found[name] = self._combined(k, kept)
        return found

    def inflation(self, limit: float) -> dict[str, float]:
        """
        Give the variance inflation factors above a limit, of the columns that are no aliases.

        Notes
        -----
        The diagonal of the inverse of the columns' correlation matrix (of their cosines, if
        there is no Intercept): Marquardt (1970), Technometrics 12, 591-612.
        """
        left_out = {INTERCEPT, *self.aliases}
        at = [k for k, name in enumerate(self.names) if name not in left_out]
        if len(at) < 2:
            return {}
        inverse = np.linalg.inv(np.linalg.qr(self.R[:, at], mode="r"))
        factors = (inverse**2).sum(axis=1)
        return {self.names[k]: float(f) for k, f in zip(at, factors, strict=True) if f > limit}

    def _combined(self, k: int, kept: Sequence[int]) -> tuple[str, ...]:
        """Name the columns that column k is a combination of."""
        C = np.linalg.lstsq(self.R[:, kept], self.R[:, k])[0] if kept else np.empty(0)
        others = [j for j, c in zip(kept, C, strict=True) if abs(c) > PART]
        if INTERCEPT in self.names:
            # The columns were centred: what the means leave over is the Intercept's part.
            parts = [c * self.means[j] / self.size[j] for j, c in zip(kept, C, strict=True)]
            left = self.means[k] - self.size[k] * sum(parts)
            others = [j for j in others if self.names[j] != INTERCEPT]
            if abs(left) > PART * max(abs(self.means[k]), self.size[k]):
                others = [self.names.index(INTERCEPT), *others]
        return tuple(self.names[j] for j in others)


def listed(names: Iterable[str], last: str = "and") -> str:
    """
    Write names as a sentence does, at most six of them.

    Examples
    --------
    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    names = list(names)
    if len(names) > SHOWN:
        names = [*names[: SHOWN - 1], f"{len(names) - SHOWN + 1} more"]
    return f" {last} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def left_over(y: np.ndarray, X: np.ndarray) -> float:
    """
    Give the length of what columns leave of y, as a part of y's; n > k.

    Examples
    --------
    >>> left_over(np.array([3.0, 4.0, 0.0]), np.array([[1.0], [0.0], [0.0]]))
    0.8
    """
    R = np.linalg.qr(np.column_stack([X, y]), mode="r")
    whole = float(np.linalg.norm(R[:, -1]))
    return abs(float(R[-1, -1])) / whole if whole else 0.0
