"""Fixed columns side by side, each of the one predictor that it enters."""

import numpy as np


def of_first(X: np.ndarray, of: np.ndarray | None) -> np.ndarray:
    """Give the predictor `(k,)` of each column of X `(n, k)`: where none is said, the first."""
    return np.zeros(X.shape[1], dtype=int) if of is None else of


def collect(X: np.ndarray, of: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Give X' r `(k,)`, each column times its own predictor's row of `(P, n)`."""
    found = np.empty(X.shape[1])
    for a in np.unique(of):
        found[of == a] = X[:, of == a].T @ r[a]
    return found


def add(eta: np.ndarray, X: np.ndarray, of: np.ndarray, gamma: np.ndarray) -> None:
    """Add X gamma to the predictors `(P, n)`, in place."""
    for a in np.unique(of):
        eta[a] += X[:, of == a] @ gamma[of == a]


def products(X: np.ndarray, of: np.ndarray, W: np.ndarray) -> np.ndarray:
    """Give X' W X `(k, k)`, of weights `(P, P, n)` between the columns' predictors."""
    found = np.empty((X.shape[1], X.shape[1]))
    for a in np.unique(of):
        for b in np.unique(of):
            found[np.ix_(of == a, of == b)] = X[:, of == a].T @ (W[a, b][:, None] * X[:, of == b])
    return found
