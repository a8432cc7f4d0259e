"""The variance of linear predictors that are none of the fitted rows'."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def row_covariance(factor: Any, J: Sequence[Any]) -> np.ndarray:
    """
    Give j_a' H^-1 j_b of every row, H the effects' Hessian.

    Parameters
    ----------
    factor
        H, factored: its `solve` gives H^-1 times a vector.
    J
        By predictor, sparse `(n, N)`: what each effect, in standard units, adds to each row.

    Returns
    -------
    ndarray
        `(R, R, n)`. One solution of a linear system for every effect that a row has.
    """
    R, (n, N) = len(J), J[0].shape
    found, none = np.zeros((R, R, n)), np.empty(0)
    by_row, by_effect = [j.tocsr() for j in J], [j.tocsc() for j in J]
    unit = np.zeros(N)
    for e in np.unique(np.concatenate([j.nonzero()[1] for j in J])):
        unit[e] = 1.0
        column = factor.solve(unit, none)[0]
        unit[e] = 0.0
        for b in range(R):
            at = slice(by_effect[b].indptr[e], by_effect[b].indptr[e + 1])
            rows, weight = by_effect[b].indices[at], by_effect[b].data[at]
            for a in range(R):
                found[a, b, rows] += weight * (by_row[a][rows] @ column)
    return found
