"""How a row's response was seen: exactly, as a set, within a window, with a known error."""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from glmm_bayes.errors import DataError, NotSupportedError

type Array = np.ndarray


@dataclass(frozen=True, eq=False)
class View:
    """
    What is known of n responses, beside a number each.

    Attributes
    ----------
    exact
        `(n,)` whether the number is the response. Otherwise that lies in (low, high].
    low, high
        `(n,)`, infinite where there is no end.
    lower, upper
        `(n,)` the window (lower, upper] outside of which nothing would have been seen.
    error
        `(n,)` the known standard error, or None.
    spread
        Whether responses vary beyond the error, by the family's sigma.
    """

    exact: Array
    low: Array
    high: Array
    lower: Array
    upper: Array
    error: Array | None
    spread: bool

    def __getitem__(self, at: Any) -> Self:
        """Keep some of the rows."""
        kept: dict[str, Any] = {k: getattr(self, k)[at] for k in ("low", "high", "lower", "upper")}
        error = None if self.error is None else self.error[at]
        return replace(self, exact=self.exact[at], error=error, **kept)

    def check_other_responses(self, name: str) -> None:
        """
        Check that other responses may be put in these ones' place.

        Raises
        ------
        NotSupportedError
            If rows are censored: which of the others would have been is not known.
        """
        if self.censored:
            raise NotSupportedError(
                f"Which of other responses would have been censored, {name!r} does not say; use "
                f"update(data=…) with their own censoring, or a bootstrap of kind='cases'."
            )

    @property
    def truncated(self) -> bool:
        """Whether there is a window."""
        return bool(np.isfinite(self.lower).any() or np.isfinite(self.upper).any())

    @property
    def censored(self) -> bool:
        """Whether a row is known as a set."""
        return not self.exact.all()


@dataclass(frozen=True, eq=False)
class Views:
    """
    What is known of n rows of several responses, beside their numbers.

    Attributes
    ----------
    trials
        By response, its trials `(n,)`, or None.
    views
        By response, how its rows were seen, or None.
    weights
        By response, how often each row counts, `(n,)`, or None.
    """

    trials: tuple[Array | None, ...]
    views: tuple[View | None, ...]
    weights: tuple[Array | None, ...]

    @property
    def given(self) -> tuple[Any, ...]:
        """What the family of each response takes beside it."""
        pairs = zip(self.trials, self.views, strict=True)
        return tuple(trials if view is None else view for trials, view in pairs)

    def __getitem__(self, at: Any) -> Self:
        """Keep some of the rows."""
        parts: list[Any] = [
            tuple(None if part is None else part[at] for part in whole)
            for whole in (self.trials, self.views, self.weights)
        ]
        return replace(self, trials=parts[0], views=parts[1], weights=parts[2])

    def check_other_responses(self, name: str) -> None:
        """Check each of the responses, as `View.check_other_responses`."""
        for view in self.views:
            if view is not None:
                view.check_other_responses(name)


def read_ends(kind: Array, y: Array, second: Array | None, name: str) -> tuple[Array, ...]:
    """
    Read censoring: whether rows are exact, and the ends of the others' sets.

    Parameters
    ----------
    kind
        -1 left, 0 none, 1 right, 2 interval.
    second
        `(n,)` the upper ends of intervals.

    Raises
    ------
    DataError
        If an interval has no upper end, or one that is not above the lower.
    """
    if (kind == 2).any() and second is None:
        raise DataError(f"{name!r} has intervals: give their upper ends too, censored(c, y2).")
    top = y if second is None else second
    empty = (kind == 2) & ~(top > y)
    if empty.any():
        at = int(np.argmax(empty))
        raise DataError(
            f"The interval of {name!r} in row {at} is empty: it reaches from {y[at]:g} to "
            f"{top[at]:g}."
        )
    low = np.where(kind >= 1, y, -np.inf)
    high = np.where(kind == 2, top, np.where(kind == -1, y, np.inf))
    return kind == 0, low, high
