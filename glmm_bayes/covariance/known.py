"""Matrices between levels that the user gives: their labels, and that they are what they should."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from glmm_bayes.covariance.levels import Places, listed
from glmm_bayes.errors import DataError

ASYMMETRY = 1e-8  # over the largest entry


@dataclass(frozen=True, eq=False)
class Labelled:
    """A symmetric matrix `(q, q)`, dense or sparse by rows, between levels with names."""

    names: tuple[str, ...]
    matrix: Any


def as_text(label: Any) -> str:
    """Write a level's label as groups do: whole numbers without a decimal point."""
    whole = isinstance(label, float) and label.is_integer()
    return str(int(label)) if whole else str(label)


def refuse_strangers(places: Places, known: Collection[str], where: str) -> None:
    """
    Refuse levels that are not among those known.

    Raises
    ------
    DataError
        Naming them.
    """
    strange = [name for name in places.names if name not in known]
    if not strange:
        return
    other = strange[0].replace(" ", "_") if " " in strange[0] else strange[0].replace("_", " ")
    hint = f" It has {other!r}: write both alike." if other in known else ""
    raise DataError(
        f"{len(strange)} of the levels of {places.text!r} {'is' if len(strange) == 1 else 'are'} "
        f"not {where}: {listed(strange)}.{hint}"
    )


def labelled(given: Any, levels: Iterable[Any] | None, what: str) -> Labelled:
    """
    Check a matrix between levels, and find what its rows are called.

    Parameters
    ----------
    given
        A DataFrame with labels on both sides, or an array, dense or sparse, whose `levels`
        are named.

    Raises
    ------
    DataError
        If it is not square, symmetric, finite, or not labelled.
    """
    names, matrix = _named(given, levels, what)
    values = matrix.data if hasattr(matrix, "tocsr") else matrix
    if matrix.shape != (len(names), len(names)):
        raise DataError(
            f"{what} is {' by '.join(map(str, matrix.shape))}, but there are {len(names)} levels: "
            f"it should have a row and a column for each."
        )
    if len(set(names)) < len(names):
        twice = next(name for k, name in enumerate(names) if name in names[:k])
        raise DataError(f"{what} has two rows for {twice!r}.")
    if not np.isfinite(values).all():
        raise DataError(f"{what} has entries that are missing or infinite.")
    _refuse_asymmetric(names, matrix, what)
    return Labelled(names, matrix)


def _named(given: Any, levels: Iterable[Any] | None, what: str) -> tuple[tuple[str, ...], Any]:
    if hasattr(given, "columns") and hasattr(given, "index"):
        if levels is not None:
            raise DataError(f"{what} has labels already: leave 'levels' out.")
        names, columns = (tuple(map(as_text, side)) for side in (given.index, given.columns))
        if sorted(names) != sorted(columns):
            raise DataError(
                f"The rows of {what} are called {listed(names)}, but its columns "
                f"{listed(columns)}: they should be the same levels."
            )
        place = {name: k for k, name in enumerate(columns)}
        return names, given.to_numpy(dtype=float)[:, [place[name] for name in names]]
    is_sparse = hasattr(given, "tocsr")
    matrix = given.tocsr().astype(float) if is_sparse else np.asarray(given, dtype=float)
    if levels is None:
        raise DataError(
            f"The rows of {what} have no names: pass levels=…, the levels in their order, or a "
            f"DataFrame with labels on both sides."
        )
    if matrix.ndim != 2:
        raise DataError(f"{what} should be a matrix, not of {matrix.ndim} dimensions.")
    return tuple(map(as_text, levels)), matrix


def _refuse_asymmetric(names: Sequence[str], matrix: Any, what: str) -> None:
    gap = abs(matrix - matrix.T)
    largest = abs(matrix).max() if matrix.shape[0] else 0.0
    if not gap.max() > ASYMMETRY * largest:
        return
    i, j = divmod(int(gap.argmax()), len(names))
    raise DataError(
        f"{what} is not symmetric: between {names[i]!r} and {names[j]!r} it has "
        f"{matrix[i, j]:g} one way and {matrix[j, i]:g} the other."
    )
