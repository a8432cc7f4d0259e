"""Which level each row of a term has, and where the levels are: by name, or by position too."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from glmm_bayes.covariance import LEVEL_COVARIANCES, LevelCovariance, Places
from glmm_bayes.data import is_factor, labels
from glmm_bayes.encoding import Context, Expression
from glmm_bayes.errors import DataError
from glmm_bayes.formula import Group, RandomPart, arguments, call_of, plain_name, terms


@dataclass(frozen=True, eq=False)
class Addressing:
    """
    How rows are assigned to levels, on the first data and on new ones.

    Attributes
    ----------
    factors
        The grouping factors, whose levels together make a group.
    positions
        The variables before the bar of a structure along time or in space; else none.
    groups
        With positions, the groups known, in the order of their processes' numbers.
    text
        The term, in the user's words.
    """

    group: Group
    factors: tuple[Expression, ...]
    positions: tuple[Expression, ...]
    groups: tuple[str, ...]
    text: str

    @classmethod
    def of(cls, part: RandomPart, *, positioned: bool) -> "Addressing":
        """Read a random term's two sides."""
        factors = tuple(Expression(text) for text in part.group.factors)
        where: tuple[Expression, ...] = ()
        if positioned:
            where = tuple(map(Expression, position_texts(part)))
        return cls(part.group, factors, where, (), part.text)

    def addressed(
        self, frame: pd.DataFrame, context: Context
    ) -> tuple["Addressing", Places, np.ndarray]:
        """
        Find the levels there are in some rows.

        Returns
        -------
        addressing, places, index
            What knows these groups too, the levels, and `(n, m)` which of them each row has.
        """
        index, names, parts = group_levels(self.group, self.factors, frame, context)
        if not self.positions:
            none, nowhere = np.zeros(len(names), dtype=np.intp), np.empty((len(names), 0))
            factors = tuple(plain_name(e.text) or e.text for e in self.factors)
            return self, Places(names, none, nowhere, self.text, factors, parts), index
        if self.group.membership:
            raise DataError(
                f"{self.text!r} has a position for each row, so that a row cannot belong to "
                f"several groups at once: use a plain group."
            )
        known = dict.fromkeys((*self.groups, *names))
        number = {name: k for k, name in enumerate(known)}
        process = np.array([number[name] for name in names], dtype=np.intp)[index[:, 0]]
        at = np.column_stack([e.numbers(frame, context, "position") for e in self.positions])
        found, rows = np.unique(np.column_stack([process, at]), axis=0, return_inverse=True)
        groups = tuple(known)
        owner = found[:, 0].astype(np.intp)
        texts = tuple(
            _named(groups[g] if self.factors else None, place)
            for g, place in zip(owner, found[:, 1:], strict=True)
        )
        none = np.empty((len(texts), 0), dtype=object)
        places = Places(texts, owner, found[:, 1:], self.text, (), none)
        more = Addressing(self.group, self.factors, self.positions, groups, self.text)
        return more, places, rows.reshape(-1, 1)

    def weights(self, frame: pd.DataFrame, context: Context) -> np.ndarray:
        """Give times what `(n, m)` each row has the effects of its levels."""
        return _weights(self.group, frame, context)

    @property
    def label(self) -> str:
        """The group as it is called in tables: by the positions where there is none."""
        if self.factors or not self.positions:
            return self.group.label.replace("/", "_")
        return ":".join(e.text for e in self.positions).replace("/", "_")


def position_texts(part: RandomPart) -> list[str]:
    """List the variables before the bar."""
    found = terms(part.columns, intercept=False)
    return [":".join(factor.expr for factor in term.factors) for term in found if term.factors]


def are_positions(part: RandomPart, frame: pd.DataFrame, context: Context) -> bool:
    """Tell whether numbers stand before the bar, not the levels of a factor."""
    texts = position_texts(part)
    return bool(texts) and not any(
        text.startswith("C(") or is_factor(Expression(text).evaluate(frame, context))
        for text in texts
    )


def _named(group: str | None, place: np.ndarray) -> str:
    at = ",".join(f"{x:.12g}" for x in place)
    return at if group is None else f"{group}:{at}"


def group_levels(
    group: Group, factors: Sequence[Expression], frame: pd.DataFrame, context: Context
) -> tuple[np.ndarray, tuple[str, ...], np.ndarray]:
    """
    Find the levels of a group.

    Returns
    -------
    index, names, labels
        The level `(n, m)` of every row, what the q levels are called, and which level `(q, F)` of
        each factor they are.
    """
    columns = [factor.evaluate(frame, context) for factor in factors]
    if not columns:
        return np.zeros((len(frame), 1), dtype=np.intp), ("1",), np.empty((1, 0), dtype=object)
    if group.membership:
        values = [[x[1][c] for c in x[0]] for x in map(labels, columns)]
        known = dict.fromkeys(level for column in map(labels, columns) for level in column[1])
        place = {level: k for k, level in enumerate(known)}
        own = np.array(list(known), dtype=object)[:, None]
        return np.array([[place[v] for v in column] for column in values]).T, tuple(known), own
    codes, names = zip(*map(labels, columns), strict=True)
    combined = np.zeros(len(frame), dtype=np.intp)
    for code, level in zip(codes, names, strict=True):
        combined = combined * len(level) + code
    present, index = _present(combined, math.prod(map(len, names)))
    parts = np.unravel_index(present, [len(level) for level in names])
    own = np.empty((len(present), len(names)), dtype=object)
    for j, (level, part) in enumerate(zip(names, parts, strict=True)):
        own[:, j] = np.array(level, dtype=object)[part]
    return index.reshape(-1, 1), tuple(map(":".join, own.tolist())), own


def _present(codes: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Give the codes below `most` that there are, ascending, and where among them each stands."""
    if most > 10 * len(codes):
        return np.unique(codes, return_inverse=True)
    there = np.bincount(codes, minlength=most) > 0
    return np.flatnonzero(there), (np.cumsum(there) - 1)[codes]


def _weights(group: Group, frame: pd.DataFrame, context: Context) -> np.ndarray:
    m = len(group.factors) if group.membership else 1
    if not group.weights:
        return np.full((len(frame), m), 1.0 / m if group.scale else 1.0)
    w = np.column_stack([Expression(t).numbers(frame, context, "weights") for t in group.weights])
    if w.shape[1] != m:
        raise DataError(f"{group.label} has {m} members but {w.shape[1]} weights.")
    total = w.sum(axis=1, keepdims=True)
    if (w < 0).any() or (group.scale and (total <= 0).any()):
        bad = frame.index[int(np.argmax((w < 0).any(axis=1) | (total[:, 0] <= 0)))]
        raise DataError(
            f"The weights of {group.label} must not be negative or all zero: row {bad}."
        )
    return w / total if group.scale else w


def read_arguments(
    part: RandomPart,
    kind: type[LevelCovariance],
    context: Context,
    among: Collection[str] | None = None,
) -> dict[str, Any]:
    """
    Evaluate the arguments of a structure of levels: numbers, texts, and objects of the context.

    Where the arguments are structures themselves, each is a class with its own arguments. All of
    them are meant, or those `among` some names.

    Raises
    ------
    DataError
        If one names something that the context does not have.
    """
    given = {name: text for name, text in part.arguments.items() if name != "columns"}
    if among is not None:
        given = {name: text for name, text in given.items() if name in among}
    if not kind.nested:
        return _evaluated(given, part.text, context)
    found: dict[str, Any] = {}
    for factor, text in given.items():
        name, inside = call_of(text) or (text, "")
        own = arguments(inside, text) if inside else []
        texts = {key or str(k): item for k, (key, item) in enumerate(own)}
        found[factor] = LEVEL_COVARIANCES[name], _evaluated(texts, part.text, context)
    return found


def _evaluated(given: Mapping[str, str], within: str, context: Context) -> dict[str, Any]:
    found = {}
    for name, text in given.items():
        try:
            found[name] = eval(text, {"__builtins__": {}}, dict(context))
        except NameError as error:
            raise DataError(
                f"{within!r} speaks of {error.name!r}, which is not in the context: pass "
                f"gb.Model(…, context={{{error.name!r}: …}}), or put a text into quotes."
            ) from error
        except Exception as error:  # whatever the user's expression raises
            raise DataError(f"{text!r} of {within!r} cannot be evaluated: {error}.") from error
    return found
