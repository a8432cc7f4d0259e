"""Find the directions in which coefficients could run off to infinity."""

from dataclasses import dataclass

import numpy as np

from glmm_bayes.errors import ConvergenceError

TOLERANCE = 1e-6
NAMED = 1e-3
NEWTON_STEPS = 15
FEW_ROWS, MORE_ROWS = 2000, 20_000


@dataclass(frozen=True, eq=False)
class Separation:
    """
    A direction along which the likelihood never falls.

    `columns` are the positions of the coefficients that run off; `rows` the number of rows that
    it fits ever better; `complete` if these can be all of them.
    """

    columns: tuple[int, ...]
    rows: int
    complete: bool


def separation(X: np.ndarray, falls: np.ndarray, rises: np.ndarray) -> Separation | None:
    """
    Look for `d` such that `x d <= 0` where a predictor may fall, `>= 0` where it may rise.

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
    Such a d maximises the sum of `s x d` within a box, s = -1 or 1: Konis (2007), Linear
    programming algorithms for detecting separated data, DPhil thesis, Oxford; for counts:
    Correia, Guimaraes & Zylkin (2019), arXiv:1903.01633. The programme is spared where Newton's
    method finds the finite estimate of a model that has one in the same cases.
    """
    scaled, means, size = _scaled(X)
    S = np.where(falls[:, None], -scaled, scaled)
    mixed = ~(falls | rises)
    d, exact = _direction(S, mixed)
    gained = S @ d > TOLERANCE
    if not gained.any():
        return None
    complete = not mixed.any() and (bool(gained.all()) or (exact and _has_margin(S)))
    columns = _columns(d / size, means, X)
    return Separation(columns, len(X) if complete else int(gained.sum()), complete)


def _direction(S: np.ndarray, mixed: np.ndarray) -> tuple[np.ndarray, bool]:
    """Give a direction of separation, zero if there is none, and whether the programme found it."""
    for step in sorted({max(1, len(S) // FEW_ROWS), max(1, len(S) // MORE_ROWS), 1}, reverse=True):
        moved = _newton(S[::step], np.where(mixed[::step], 0.5, 1.0))
        if moved is None:  # where a part of the rows has a finite estimate, so have all
            return np.zeros(S.shape[1]), False
        if len(S) > FEW_ROWS:
            d = _along(S[::step], mixed[::step], moved)
            if np.where(mixed, np.abs(S @ d), -(S @ d)).max() < TOLERANCE / 10 and d.any():
                return d, False
    return _programme(np.vstack([S, -S[mixed]]), S.sum(axis=0)), True


def _scaled(X: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre the columns, if a constant one takes the means up, and scale them to at most 1."""
    constant = np.ptp(X, axis=0) == 0
    means = np.where(constant, 0.0, X.mean(axis=0)) if constant.any() else np.zeros(X.shape[1])
    size = np.abs(X - means).max(axis=0)
    return (X - means) / size, means, size


def _columns(d: np.ndarray, means: np.ndarray, X: np.ndarray) -> tuple[int, ...]:
    """Name the coefficients that a direction moves, in units of what they add to the predictor."""
    if means.any():
        constant = int(np.argmax(np.ptp(X, axis=0) == 0))
        d = d.copy()
        d[constant] -= (d @ means) / X[0, constant]
    weight = np.abs(d) * np.abs(X).max(axis=0)
    return tuple(np.flatnonzero(weight > NAMED * weight.max()).tolist())


def _newton(S: np.ndarray, target: np.ndarray) -> np.ndarray | None:
    """
    Fit a logistic regression, whose estimate is finite just where the separation is none.

    Returns
    -------
    None or ndarray
        None if the steps come to an end at a finite estimate; else the last step: where there is
        none, every step moves some rows by about 1.
    """
    beta = np.zeros(S.shape[1])
    step = beta
    for _ in range(NEWTON_STEPS):
        p = 1 / (1 + np.exp(-np.clip(S @ beta, -500, 500)))
        H = S.T @ ((p * (1 - p))[:, None] * S)
        scales, axes = np.linalg.eigh(H)
        known = scales > 1e-12 * scales[-1]
        step = axes[:, known] @ ((axes[:, known].T @ (S.T @ (target - p))) / scales[known])
        if known.all() and np.abs(S @ step).max() < 1e-3:
            return None
        beta = beta + step
    return step


def _along(S: np.ndarray, mixed: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Take from Newton's last step what leaves alone the rows that it has ceased to move."""
    stays = (np.abs(S @ step) < 0.1) | mixed
    scales, axes = np.linalg.eigh(S[stays].T @ S[stays])
    null = axes[:, scales <= 1e-12 * max(scales[-1], 1.0)]
    d = null @ (null.T @ step)
    reach = np.abs(S @ d).max()
    return d / reach if reach > TOLERANCE else np.zeros_like(d)


def _has_margin(S: np.ndarray) -> bool:
    """Tell whether one direction is strictly right for every row."""
    margin = np.column_stack([S, -np.ones(len(S))])
    found = _programme(margin, np.eye(margin.shape[1])[-1])
    return bool(found[-1] > TOLERANCE)


def _programme(rows: np.ndarray, objective: np.ndarray) -> np.ndarray:
    """
    Maximise `objective . v` with `rows v >= 0` and every entry of v in [-1, 1].

    Rows are let in as they are violated, so that many thousands cost little more than hundreds.
    """
    from scipy.optimize import linprog

    cost = -objective / max(np.abs(objective).max(), 1.0)
    used = np.zeros(len(rows), dtype=bool)
    used[:: max(1, len(rows) // FEW_ROWS)] = True
    while True:
        found = linprog(cost, A_ub=-rows[used], b_ub=np.zeros(used.sum()), bounds=(-1, 1))
        if found.x is None:
            raise ConvergenceError(f"The search for separation failed: {found.message}")
        value = rows @ found.x
        violated = np.flatnonzero((value < -TOLERANCE / 10) & ~used)
        if len(violated) == 0 or objective @ found.x <= 0:
            return found.x
        used[violated[np.argsort(value[violated])[:FEW_ROWS]]] = True
