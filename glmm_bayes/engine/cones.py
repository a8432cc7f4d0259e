"""How much nearer than its tip a cone comes to a normal vector: what tests at an edge draw."""

from collections.abc import Sequence

import numpy as np

STEPS = 2000
CLOSE = 1e-7  # of what a step still changes


def cone_gains(u: np.ndarray, precision: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """
    Give u'S u less the least (u - v)'S (u - v) over v in a cone, for every u.

    The cone is that of positive semidefinite matrices, side by side.

    Parameters
    ----------
    u
        `(draws, c)`: by matrix, its lower triangle row by row.
    precision
        `(c, c)` S.
    sizes
        The matrices' sizes d, whose d (d + 1) / 2 entries make up c.

    Returns
    -------
    ndarray
        `(draws,)`, not negative.

    Notes
    -----
    By the projected gradient with momentum, in coordinates in which the entries have unit
    variance and Euclid's distance is Frobenius': Beck & Teboulle (2009), SIAM J. Imaging Sci. 2,
    183-202.
    """
    scale = _units(np.linalg.inv(precision), sizes)
    u, S = u / scale, precision * np.outer(scale, scale)
    step = 1 / np.linalg.eigvalsh(S)[-1]
    v = _projected(u, sizes)
    ahead, left, momentum = v, np.arange(len(u)), 1.0
    for _ in range(STEPS):
        moved = _projected(ahead - step * (ahead - u[left]) @ S, sizes)
        faster = 0.5 * (1 + np.sqrt(1 + 4 * momentum**2))
        change = moved - v[left]
        ahead = moved + (momentum - 1) / faster * change
        v[left], momentum = moved, faster
        going = np.abs(change).max(axis=1) >= CLOSE
        if not going.any():
            break
        left, ahead = left[going], ahead[going]
    rest = u - v
    whole = np.einsum("si,ij,sj->s", u, S, u)
    return np.maximum(whole - np.einsum("si,ij,sj->s", rest, S, rest), 0.0)


def _units(covariance: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Give the size of each entry: those of one matrix as by a diagonal from both sides."""
    sd, at, found = np.sqrt(np.diag(covariance)), 0, []
    for d in sizes:
        rows, columns = np.tril_indices(d)
        own = np.sqrt(sd[at : at + len(rows)][rows == columns])
        off = np.where(rows == columns, 1.0, np.sqrt(0.5))
        found.append(own[rows] * own[columns] * off)
        at += len(rows)
    return np.concatenate(found)


def _projected(v: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Go to the nearest positive semidefinite matrices."""
    found, at = np.empty_like(v), 0
    for d in sizes:
        rows, columns = np.tril_indices(d)
        part, off = v[:, at : at + len(rows)], np.where(rows == columns, 1.0, np.sqrt(0.5))
        H = np.zeros((len(v), d, d))
        H[:, rows, columns] = H[:, columns, rows] = part * off
        values, vectors = np.linalg.eigh(H)
        H = (vectors * np.maximum(values, 0.0)[:, None, :]) @ np.swapaxes(vectors, 1, 2)
        found[:, at : at + len(rows)] = H[:, rows, columns] / off
        at += len(rows)
    return found
