"""Rough variances of random effects by the method of moments, to start a search from."""

import numpy as np

from glmm_bayes.engine.latent import Latent

MOST = 30_000  # rows that are looked at: a start need not be better
LEAST = 0.05  # of the whole spread: what a variance is set to where the moments give none


def rough_sizes(latent: Latent, residual: np.ndarray) -> list[np.ndarray]:
    """
    Estimate each column's standard deviation of effects, `(p,)` by term.

    Parameters
    ----------
    residual
        `(n,)` what the fixed part leaves of the response.

    Notes
    -----
    With V = sum_t s_t Z_t Z_t' + s I, every column of every term a component t of its own, the
    expectations of r'Z_t Z_t'r and of r'r are linear in the variances: MINQUE(0), Rao (1971),
    J. Multivariate Analysis 1, 445-456, without the correction for the fixed part.
    """
    step = -(-latent.n // MOST)
    r = residual[::step]
    columns = [
        (t, term.index[::step, 0], Z[::step, a])
        for t, term in enumerate(latent.terms)
        for Z in [term.Z.get(0, np.zeros((latent.n, term.p)))]
        for a in range(term.p)
    ]
    m = len(columns)
    A, right = np.empty((m + 1, m + 1)), np.empty(m + 1)
    for i, (t, index, z) in enumerate(columns):
        right[i] = np.sum(np.bincount(index, z * r) ** 2)
        A[i, m] = A[m, i] = np.sum(z * z)
        for j, (s, other, w) in enumerate(columns[: i + 1]):
            A[i, j] = A[j, i] = _squares(index, other, z * w, latent.terms[s].q, same=s == t)
    A[m, m], right[m] = len(r), np.sum(r * r)
    scale = np.sqrt(np.diag(A))
    scale = np.where(scale > 0, scale, 1.0)
    found = np.linalg.lstsq(A / np.outer(scale, scale), right / scale, rcond=1e-10)[0] / scale
    whole = max(float(np.mean(r * r)), 1e-300)
    sizes: list[list[float]] = [[] for _ in latent.terms]
    for (t, _, z), value in zip(columns, found[:-1], strict=True):
        # A column of zeros, as far as is looked, says nothing.
        unit = whole / (float(np.mean(z * z)) or 1.0)
        sizes[t].append(float(np.sqrt(min(max(value, LEAST**2 * unit), unit))))
    return [np.array(size) for size in sizes]


def _squares(a: np.ndarray, b: np.ndarray, zw: np.ndarray, q: int, *, same: bool) -> float:
    """Give the sum over pairs of levels of their squared cross-product."""
    if same:
        return float(np.sum(np.bincount(a, zw) ** 2))
    key = a * q + b
    order = np.argsort(key, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], np.diff(key[order]) > 0]))
    return float(np.sum(np.add.reduceat(zw[order], starts) ** 2))
