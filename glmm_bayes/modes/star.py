"""The delta method by points: the maximum, and pairs of points a small way along each axis."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

ARM = 0.03  # of a standard deviation


def widened(values: np.ndarray, arms: np.ndarray) -> np.ndarray:
    """
    Add axes along which a quantity varies besides the parameters.

    Parameters
    ----------
    values
        `(1 + 2 d, …)`: at the maximum, at d points beside it, at the d points opposite.
    arms
        `(a, …)`: a standard deviation along each further axis.

    Returns
    -------
    ndarray
        `(1 + 2 (d + a), …)`; the values themselves, of whatever draws, where a = 0.
    """
    if not len(arms):
        return values
    d = len(values) // 2
    centre, steps = values[:1], ARM * arms
    return np.concatenate(
        [centre, values[1 : 1 + d], centre + steps, values[1 + d :], centre - steps]
    )


def delta_slopes(values: np.ndarray) -> np.ndarray:
    """
    Give how a quantity moves with a standard deviation along each axis, from a star's values.

    Returns
    -------
    ndarray
        `(d, …)`; sums of products over the first axis are covariances by the delta method.
    """
    d = len(values) // 2
    return (values[1 : 1 + d] - values[1 + d :]) / (2 * ARM)


def delta_variance(values: np.ndarray) -> np.ndarray:
    """
    Give the variance of a quantity from its values on a star `(1 + 2 d, …)`.

    Examples
    --------
    >>> round(float(delta_variance(np.array([5.0, 5.0 + 3 * ARM, 5.0 - 3 * ARM]))), 6)
    9.0
    """
    return np.square(delta_slopes(values)).sum(axis=0)


class Later(Mapping[str, np.ndarray]):
    """A mapping whose values are computed, all at once, when the first is asked for."""

    def __init__(
        self, names: Sequence[str], compute: Callable[[], Mapping[str, np.ndarray]]
    ) -> None:
        self._names = tuple(names)
        self._compute = compute

    def __getitem__(self, name: str) -> np.ndarray:
        return self._compute()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
