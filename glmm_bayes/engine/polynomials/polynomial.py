"""A polynomial of several variables, fitted by least squares to values and gradients."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations_with_replacement

import numpy as np

STEEP = 0.5  # what a gradient's misfit weighs beside a value's
BLOCK = 2048  # points whose monomials fit in the cache
RIDGE = 1e-6  # of the mean square: what the points do not determine is zero


@dataclass(frozen=True, eq=False)
class Polynomial:
    """
    The sum of `coefficients` `(m,)` times products of Hermite's polynomials, `powers` `(m, d)`.

    Hermite's are nearly orthogonal over points spread like normals, monomials are not.
    """

    powers: np.ndarray
    coefficients: np.ndarray

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """Give the values `(S,)` at points `(S, d)`."""
        found = np.empty(len(z))
        for at in range(0, len(z), BLOCK):
            part = slice(at, at + BLOCK)
            found[part] = self.coefficients @ products(self.powers, z[part])
        return found


@lru_cache
def _powers(d: int, total: int, alone: int) -> tuple[tuple[int, ...], ...]:
    found = []
    for degree in range(total + 1):
        for chosen in combinations_with_replacement(range(d), degree):
            found.append(tuple(chosen.count(j) for j in range(d)))
    for j in range(d):
        found += [tuple(k if i == j else 0 for i in range(d)) for k in range(total + 1, alone + 1)]
    return tuple(found)


def powers(d: int, total: int, alone: int = 0) -> np.ndarray:
    """
    Give the powers `(m, d)` of all monomials up to a total degree.

    And those of single variables up to the degree `alone`: densities are skewed along axes more
    than across them.
    """
    found = _powers(d, total, alone)
    return np.array(found, dtype=int).reshape(len(found), d)


def _hermite(z: np.ndarray, degree: int) -> np.ndarray:
    """Give He_k(z) / sqrt(k!), `(degree + 1, *z.shape)`."""
    found = np.ones((degree + 1, *z.shape))
    for k in range(1, degree + 1):
        found[k] = z * found[k - 1]
        if k > 1:
            found[k] -= np.sqrt(k - 1) * found[k - 2]
        found[k] /= np.sqrt(k)
    return found


def products(powers: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Give the products of Hermite's polynomials `(m, S)` at points `(S, d)`."""
    table = _hermite(np.ascontiguousarray(z.T), int(powers.max(initial=0)))
    found = np.ones((len(powers), len(z)))
    place = {(0,) * powers.shape[1]: 0}
    for i, power in enumerate(map(tuple, powers.tolist())):
        place[power] = i
        if any(power):
            last = max(j for j, k in enumerate(power) if k)
            # All but the last variable's factor is a product that comes earlier.
            rest = place[(*power[:last], *(0,) * (len(power) - last))]
            np.multiply(found[rest], table[power[last], last], out=found[i])
    return found


def slopes(powers: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Give the derivatives `(d, m, S)` of the products by every variable."""
    found = np.zeros((powers.shape[1], len(powers), len(z)))
    values = products(powers, z)
    place = {tuple(power): i for i, power in enumerate(powers.tolist())}
    for i, power in enumerate(powers.tolist()):
        for j, k in enumerate(power):
            if k:
                # The derivative of He_k is k He_(k - 1).
                lower = place[(*power[:j], k - 1, *power[j + 1 :])]
                np.multiply(values[lower], np.sqrt(k), out=found[j, i])
    return found


def fit_polynomial(
    used: np.ndarray,
    z: np.ndarray,
    values: np.ndarray,
    gradients: np.ndarray,
    weights: np.ndarray,
) -> Polynomial:
    """
    Fit by weighted least squares.

    Parameters
    ----------
    used
        `(m, d)` the powers of its monomials.
    z, values, gradients
        `(S, d)` the points, `(S,)` and `(S, d)`: each point is 1 + d equations, or one where the
        gradient is NaN.
    weights
        `(S,)` what a misfit counts for, before it is squared.
    """
    known = np.isfinite(gradients).all(axis=1)
    steep = STEEP * weights[known]
    A = [products(used, z) * weights, *(slopes(used, z[known]) * steep)]
    y = [values * weights, *(gradients[known].T * steep)]
    rows = np.hstack(A)
    H = rows @ rows.T
    H[np.diag_indices_from(H)] += RIDGE * np.trace(H) / len(H)
    return Polynomial(used, np.linalg.solve(H, rows @ np.concatenate(y)))
