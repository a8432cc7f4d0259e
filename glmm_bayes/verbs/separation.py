"""Find the directions in which coefficients could run off to infinity; by linear programming."""

from dataclasses import dataclass

import numpy as np

STEPS = 50
TOLERANCE = 1e-6
FIRST_ROWS = 500


@dataclass(frozen=True, eq=False)
class Separation:
    """
    A direction along which the likelihood never falls.

    `columns` are the positions of the coefficients that run off; `rows` the number of rows that
    it fits ever better; `complete` if these are all of them.
    """

    columns: tuple[int, ...]
    rows: int
    complete: bool


def separation(X: np.ndarray, falls: np.ndarray, rises: np.ndarray) -> Separation | None:
    """
    Look for `d != 0` such that `X d <= 0` where a predictor may fall, `>= 0` where it may rise.

    Parameters
    ----------
    X
        `(n, k)`, of full column rank.
    falls, rises
        `(n,)` which rows' likelihood has its supremum at eta = -inf, at +inf; for all others
        `x d = 0`.

    Returns
    -------
    Separation or None
        None if the maximum-likelihood estimate is finite.

    Notes
    -----
    Maximises the sum of `s x d` within a box, s = -1 or 1: Konis (2007), Linear programming
    algorithms for detecting separated data, DPhil thesis, Oxford; for log links and zero
    counts: Correia, Guimaraes & Zylkin (2019), arXiv:1903.01633.
    """
    means, spread = X.mean(axis=0), np.ptp(X, axis=0)
    constant = np.flatnonzero(spread == 0)
    # Centring is a change of coordinates only where a constant column takes the means up.
    means = np.where(spread == 0, 0.0, means) if len(constant) else np.zeros_like(means)
    S = (X - means) / np.abs(X - means).max(axis=0)
    S = np.where(falls[:, None], -S, S)
    mixed = S[~(falls | rises)]
    rows = np.vstack([S, -mixed])
    d = _maximise(rows, rows.sum(axis=0))
    gained = S @ d > TOLERANCE
    if not gained.any():
        return None
    complete = len(mixed) == 0 and _complete(S)
    d = d / np.abs(X - means).max(axis=0)
    if len(constant):
        d[constant[0]] -= (d @ means) / X[0, constant[0]]
    # In units of what a column moves the predictor by.
    weight = np.abs(d) * np.abs(X).max(axis=0)
    named = np.flatnonzero(weight > TOLERANCE * weight.max())
    return Separation(tuple(named.tolist()), len(X) if complete else int(gained.sum()), complete)


def _complete(S: np.ndarray) -> bool:
    """Tell whether one direction is strictly right for every row."""
    margin = np.column_stack([S, -np.ones(len(S))])
    found = _maximise(margin, np.eye(margin.shape[1])[-1])
    return bool(found[-1] > TOLERANCE)


def _maximise(rows: np.ndarray, objective: np.ndarray) -> np.ndarray:
    """
    Maximise `objective . v` with `rows v >= 0` and every entry of v in [-1, 1].

    Rows are let in as they are violated, so that many thousands cost little more than hundreds.
    """
    from scipy.optimize import linprog

    cost = -objective / max(np.abs(objective).max(), 1.0)
    used = np.zeros(len(rows), dtype=bool)
    used[:: max(1, len(rows) // FIRST_ROWS)] = True
    batch = FIRST_ROWS
    while True:
        solved = linprog(cost, A_ub=-rows[used], b_ub=np.zeros(used.sum()), bounds=(-1, 1))
        value = rows @ solved.x
        violated = np.flatnonzero((value < -TOLERANCE / 10) & ~used)
        if len(violated) == 0 or -solved.fun <= 0:
            return solved.x
        used[violated[np.argsort(value[violated])[:batch]]] = True
        batch *= 2
