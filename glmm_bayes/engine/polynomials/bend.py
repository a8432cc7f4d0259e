"""A map of coordinates that makes densities with one long and one short side more symmetric."""

from dataclasses import dataclass

import numpy as np

REACH = 3.0  # where a bend is told what to give


@dataclass(frozen=True, eq=False)
class Bend:
    """
    A smooth increasing map of each coordinate, t(z) = m z + c (sqrt(z^2 + 1) - 1), |c| < m.

    `m` and `c` are `(d,)`. It makes a density with one long and one short side more like a normal.
    """

    m: np.ndarray
    c: np.ndarray

    @classmethod
    def reaching(cls, left: np.ndarray, right: np.ndarray) -> "Bend":
        """Make t(-REACH) = -left and t(REACH) = right."""
        rise = np.sqrt(REACH**2 + 1) - 1
        return cls((left + right) / (2 * REACH), (right - left) / (2 * rise))

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """Give t(z)."""
        return self.m * z + self.c * (np.sqrt(z**2 + 1) - 1)

    def inverse(self, t: np.ndarray) -> np.ndarray:
        """Give z."""
        s, gap = t + self.c, self.m**2 - self.c**2
        return (self.m * s - self.c * np.sqrt(s**2 + gap)) / gap

    def jacobian(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Give t' `(…, d)`, the sum of log t' `(…)`, and the slope of that by z."""
        root = np.sqrt(z**2 + 1)
        rate = self.m + self.c * z / root
        return rate, np.log(rate).sum(axis=-1), self.c / root**3 / rate
