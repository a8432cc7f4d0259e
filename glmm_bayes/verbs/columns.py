"""Which columns of a matrix say the same, exactly or nearly."""

from collections.abc import Iterable, Sequence

import numpy as np

from glmm_bayes.design import INTERCEPT

DEPENDENT = 1e-8
SHOWN = 6


def aliases(X: np.ndarray, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """
    Find the columns that are linear combinations of those before them.

    Returns
    -------
    dict
        By such a column's name, the columns it is a combination of; none if it is zero.

    Examples
    --------
    >>> x = np.array([1.0, 2.0, 4.0])
    >>> aliases(np.column_stack([np.ones(3), x, 3 - 2 * x]), ["Intercept", "x", "z"])
    {'z': ('Intercept', 'x')}
    """
    R, means, size = _reduced(X, names)
    basis = np.empty((len(R), 0))
    kept: list[int] = []
    found: dict[str, tuple[str, ...]] = {}
    for k, name in enumerate(names):
        rest = R[:, k]
        for _ in range(2):  # twice, as one pass leaves rounding errors of the first size
            rest = rest - basis @ (basis.T @ rest)
        length = float(np.linalg.norm(rest))
        if length > DEPENDENT:
            basis = np.column_stack([basis, rest / length])
            kept.append(k)
            continue
        C = np.linalg.lstsq(R[:, kept], R[:, k])[0] if kept else np.empty(0)
        others = [j for j, c in zip(kept, C, strict=True) if abs(c) > 1e3 * DEPENDENT]
        if INTERCEPT in names and name != INTERCEPT:
            # The columns were centred: what the means leave over is the Intercept's part.
            left = means[k] - sum(C[kept.index(j)] * means[j] * size[k] / size[j] for j in others)
            if abs(left) > 1e3 * DEPENDENT * max(abs(means[k]), size[k]):
                others = [names.index(INTERCEPT), *(j for j in others if names[j] != INTERCEPT)]
        found[name] = tuple(names[j] for j in others)
    return found


def inflation(X: np.ndarray, names: Sequence[str], limit: float) -> dict[str, float]:
    """
    Give the variance inflation factors above a limit, by column; X of full column rank.

    Notes
    -----
    The diagonal of the inverse of the columns' correlation matrix (of their cosines, if there
    is no Intercept): Marquardt (1970), Technometrics 12, 591-612.
    """
    R, _, _ = _reduced(X, names)
    at = [k for k, name in enumerate(names) if name != INTERCEPT]
    if len(at) < 2:
        return {}
    inverse = np.linalg.inv(np.linalg.qr(R[:, at], mode="r"))
    factors = (inverse**2).sum(axis=1)
    return {names[k]: float(f) for k, f in zip(at, factors, strict=True) if f > limit}


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


def _reduced(
    X: np.ndarray, names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Bring X to few rows that have the columns' angles.

    Returns
    -------
    R
        `(min(n, k), k)` with columns of length one, or zero; centred before if there is an
        Intercept, so that a large mean hides no variation.
    means, size
        `(k,)` what was taken off, and the lengths that were divided by.
    """
    means = np.zeros(X.shape[1])
    if INTERCEPT in names:
        means = np.where(np.array(names) == INTERCEPT, 0.0, X.mean(axis=0))
    centred = X - means
    size = np.linalg.norm(centred, axis=0)
    whole = np.linalg.norm(X, axis=0)
    size = np.where(size > 1e-14 * whole * np.sqrt(len(X)), size, 0.0)
    scaled = centred / np.where(size > 0, size, np.inf)
    return np.linalg.qr(scaled, mode="r"), means, np.where(size > 0, size, 1.0)
