"""The directions in which a symmetric matrix is least like the identity, by Lanczos's method."""

from collections.abc import Callable

import numpy as np

STEPS, MOST = 100, 50  # products that are tried, and directions that are kept
UNEVEN = 0.3  # of the logarithm of an eigenvalue, from which on a direction is of interest
ENDED = 1e-3  # a remainder so small is rounding: the space is exhausted
CLEAR = 0.5  # of what a direction leaves beside it, over the root of its eigenvalue


def uneven_directions(
    multiply: Callable[[np.ndarray], np.ndarray], size: int
) -> tuple[np.ndarray, np.ndarray]:
    """
    Find the extreme eigenvectors of a positive definite matrix near to the identity.

    Returns
    -------
    directions
        `(r, size)` orthonormal, r no more than `MOST`; none where all is even.
    values
        `(r,)` their Rayleigh quotients, positive.

    Notes
    -----
    Saad (2011), Numerical Methods for Large Eigenvalue Problems, section 6.3, with every vector
    made orthogonal to all before it. The directions need not be exact to be of use.
    """
    if not size:
        return np.empty((0, 0)), np.empty(0)
    rng = np.random.default_rng(size)
    basis = np.empty((min(STEPS, size), size))
    diagonal, beside = [], [0.0]
    new = rng.standard_normal(size)
    for k in range(len(basis)):
        basis[k] = new / np.linalg.norm(new)
        new = multiply(basis[k])
        diagonal.append(float(new @ basis[k]))
        for _ in range(2):
            new -= basis[: k + 1].T @ (basis[: k + 1] @ new)
        beside.append(float(np.linalg.norm(new)))
        if beside[-1] < ENDED:
            break
    off = np.array(beside[1:-1])
    values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(off, 1) + np.diag(off, -1))
    left = beside[-1] * np.abs(vectors[-1])
    with np.errstate(invalid="ignore", divide="ignore"):
        uneven = np.where(values > 0, np.abs(np.log(values)), 0.0)
        clear = left < CLEAR * np.sqrt(values)
    chosen = np.flatnonzero((uneven > UNEVEN) & clear)
    chosen = chosen[np.argsort(-uneven[chosen], kind="stable")][:MOST]
    return vectors[:, chosen].T @ basis[: len(diagonal)], values[chosen]
