"""Points in few variables, spread as a normal, and polynomials through what is found at them."""

from dataclasses import dataclass
from itertools import product

import numpy as np

from glmm_bayes.engine.polynomials.polynomial import powers, products

ONE = np.linspace(-3.2, 3.2, 9)
TWO, OUTSIDE = np.linspace(-2.6, 2.6, 5), 3.3  # a square's corners are farther off than needed
DEGREES = {0: 0, 1: 5, 2: 4}  # of the polynomials, 2 for more variables
CORNERS = 8  # variables, above which the corners of a cube are too many
BEYOND = 1.4  # of the farthest point's distance, as far as polynomials are relied on
# Walsh functions that make the corners a design of resolution V.
WALSH = (1, 2, 4, 8, 15, 16, 32, 51)


def design_points(d: int) -> np.ndarray:
    """
    Give points `(K, d)`, the first in the middle: a grid, from three variables on a composite.

    Notes
    -----
    The central composite design: the middle, two points on each axis, and a fraction of a cube's
    corners from which all quadratics can be told apart: Sanchez & Sanchez (2005), ACM
    Transactions on Modeling and Computer Simulation 15, 362-377. All but the first are
    sqrt(d + 2) from the middle. For more than eight variables there are no corners.
    """
    if d <= 2:
        grid = np.array(list(product(ONE if d == 1 else TWO, repeat=d)))
        length = np.sqrt(np.square(grid).sum(axis=1))
        near = np.argsort(length, kind="stable")
        return grid[near[length[near] < OUTSIDE]]
    radius = np.sqrt(d + 2.0)
    arms = radius * np.concatenate([np.eye(d), -np.eye(d)])
    corners = _corners(d) * radius / np.sqrt(d) if d <= CORNERS else np.empty((0, d))
    return np.concatenate([np.zeros((1, d)), arms, corners])


def _corners(d: int) -> np.ndarray:
    columns = WALSH[:d]
    runs = np.arange(1 << columns[-1].bit_length())
    return np.stack([1 - 2 * (np.bitwise_count(runs & w) % 2).astype(int) for w in columns], axis=1)


def up_to(d: int, degree: int) -> np.ndarray:
    """Give the powers `(m, d)` of all monomials up to a total degree, and no others."""
    found = powers(d, degree)
    return found[found.sum(axis=1) <= degree]


@dataclass(frozen=True, eq=False)
class Interpolant:
    """
    Polynomials of z, one a column: `powers` `(m, d)` and `coefficients` `(m, M)`.

    Beyond `radius` they stay as they are there, along each ray.
    """

    powers: np.ndarray
    coefficients: np.ndarray
    radius: float

    @classmethod
    def through(cls, z: np.ndarray, values: np.ndarray) -> "Interpolant":
        """Fit to values `(K, M)` at points `(K, d)` by least squares."""
        d = z.shape[1]
        degree = DEGREES.get(d, 2)
        used = up_to(d, degree)
        while degree > 0 and d <= CORNERS and len(used) > len(z):
            degree -= 1
            used = up_to(d, degree)
        if d > CORNERS:
            used = used[(used > 0).sum(axis=1) <= 1]
        found = np.linalg.lstsq(products(used, z).T, values, rcond=None)[0]
        farthest = BEYOND * np.sqrt(np.square(z).sum(axis=1)).max(initial=0.0)
        return cls(used, found, float(farthest))

    def __call__(self, z: np.ndarray, columns: slice | np.ndarray = slice(None)) -> np.ndarray:
        """Give the values `(S, M)` of some columns, or of all, at points `(S, d)`."""
        length = np.sqrt(np.square(z).sum(axis=1))
        inside = z * np.minimum(1.0, self.radius / np.maximum(length, 1e-300))[:, None]
        return products(self.powers, inside).T @ self.coefficients[:, columns]
