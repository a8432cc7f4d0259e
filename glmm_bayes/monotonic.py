"""Monotonic effects: the columns of `mo(x)`, a step up to each level, and the terms of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from formulaic.materializers.types import FactorValues
from formulaic.utils.stateful_transforms import stateful_transform

from glmm_bayes.errors import NotSupportedError

CALL = "mo("
# Of the range: so far the first and the last step go on, for slopes at the ends.
SLACK = 1e-3


@stateful_transform
def mo(x: Any, _state: dict[str, Any] | None = None) -> FactorValues:
    """
    Encode an ordered predictor by its steps: a level's column is 1 where x is this level or above.

    Parameters
    ----------
    x
        An ordered factor, or whole numbers. New numbers may lie between these, where the effect
        is interpolated.

    Raises
    ------
    ValueError
        If it is neither, has one level only, or lies beyond the first data.
    """
    state: dict[str, Any] = {} if _state is None else _state
    values = pd.Series(x)
    if "names" not in state:
        state["low"], state["names"] = _learnt(values)
    names = state["names"]
    level, last = _levels(values, state), len(names) - 1
    slack = SLACK * last
    outside = np.flatnonzero((level < -slack) | (level > last + slack))
    if len(outside):
        raise ValueError(
            f"mo() was fitted between {names[0]} and {names[-1]}, and {values.iloc[outside[0]]} "
            f"lies beyond"
        )
    steps = {
        name: np.clip(level - k, -slack if k == 0 else 0.0, 1.0 + (slack if k == last - 1 else 0.0))
        for k, name in enumerate(names[1:])
    }
    return FactorValues(
        steps, kind="numerical", spans_intercept=False, format="{name}[{field}]", encoded=True
    )


def _learnt(values: pd.Series) -> tuple[int, list[str]]:
    """Give the first of whole numbers, 0 for a factor, and the names of all levels."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        if not values.cat.ordered:
            raise ValueError(
                "mo() needs a factor whose levels are in order: "
                "pd.Categorical(x, categories=[…], ordered=True)"
            )
        low, names = 0, [str(name) for name in values.cat.categories]
    else:
        numbers = values.to_numpy()
        if numbers.dtype.kind not in "iuf" or not (numbers == np.round(numbers)).all():
            raise ValueError("mo() needs an ordered factor or whole numbers")
        low, high = int(numbers.min()), int(numbers.max())
        names = [str(k) for k in range(low, high + 1)]
    if len(names) < 2:
        raise ValueError(f"mo() needs at least two levels, and there is {', '.join(names)}")
    return low, names


def _levels(values: pd.Series, state: Mapping[str, Any]) -> np.ndarray:
    """Give each value's distance from the first level."""
    if not isinstance(values.dtype, pd.CategoricalDtype):
        return values.to_numpy(dtype=float) - state["low"]
    at = {name: k for k, name in enumerate(state["names"])}
    return np.array([at.get(str(value), -1) for value in values], dtype=float)


@dataclass(frozen=True, eq=False)
class MonotonicTerm:
    """
    A monotonic effect of one predictor: D steps of one sign.

    Attributes
    ----------
    label
        As in the formula, `mo(x)` or `mo(x):z`.
    levels
        The D levels that the steps lead up to.
    columns
        `(D,)` where these stand in X.
    """

    label: str
    levels: tuple[str, ...]
    columns: np.ndarray

    @property
    def name(self) -> str:
        """What results call it: `mo_x`, `mo_x:z`."""
        return self.label.replace("(", "_", 1).replace(")", "", 1)

    @property
    def short(self) -> str:
        """Without `mo`: `x`, `x:z`."""
        return self.name.removeprefix("mo_")


def monotonic_terms(names: tuple[str, ...], spec: Any) -> list[MonotonicTerm]:
    """
    Find the monotonic effects among the columns of a predictor.

    Parameters
    ----------
    names
        Of the columns.
    spec
        Formulaic's, with the levels that `mo` learnt.

    Raises
    ------
    NotSupportedError
        If two of them are multiplied.
    """
    learnt = {
        text: state["names"][1:]
        for text, state in spec.transform_state.items()
        if text.startswith(CALL)
    }
    found: dict[str, list[tuple[int, str]]] = {}
    for k, name in enumerate(names):
        for text, levels in learnt.items():
            for level in levels:
                if f"{text}[{level}]" in name:
                    label = name.replace(f"{text}[{level}]", text, 1)
                    found.setdefault(label, []).append((k, level))
    places = [k for own in found.values() for k, _ in own]
    if len(set(places)) < len(places):
        raise NotSupportedError(
            "Products of two monotonic effects are not built; write one of them without mo( )."
        )
    return [
        MonotonicTerm(label, tuple(level for _, level in own), np.array([k for k, _ in own]))
        for label, own in found.items()
    ]
