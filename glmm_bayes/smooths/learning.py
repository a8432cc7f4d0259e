"""A smooth with data: columns of the fixed part, and random terms; again on new data."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from glmm_bayes.covariance import LEVEL_COVARIANCES, Covariance
from glmm_bayes.covariance.diagonal import HomogeneousDiagonal
from glmm_bayes.data import Rows, is_factor, labels
from glmm_bayes.encoding import Context, Expression
from glmm_bayes.errors import DataError, FormulaError
from glmm_bayes.formula import Formula, Group, plain_name
from glmm_bayes.places import Addressing
from glmm_bayes.smooths.bases import BASES
from glmm_bayes.smooths.reading import SMOOTHS, SmoothPart
from glmm_bayes.smooths.term import SmoothTerm
from glmm_bayes.smooths.turned import Margin, Turned
from glmm_bayes.terms import Loading


@dataclass(frozen=True, eq=False)
class Multiplier:
    """
    What rows of a smooth are multiplied by: nothing, a number, or whether they have a level.

    `known` are all levels of the variable, `level` the one that is meant; both empty for numbers.
    """

    by: Expression | None = None
    level: str = ""
    known: tuple[str, ...] = ()

    def at(self, frame: pd.DataFrame, context: Context) -> np.ndarray:
        """Evaluate: `(n,)`."""
        if self.by is None:
            return np.ones(len(frame))
        if not self.known:
            return self.by.numbers(frame, context, "variable after by=")
        codes, given = labels(self.by.evaluate(frame, context))
        unseen = sorted(set(given) - set(self.known))
        if unseen:
            raise DataError(
                f"The model was not fitted with {self.by.text} = {unseen[0]!r}; it knows "
                f"{', '.join(self.known)}."
            )
        return (np.array(given, dtype=object)[codes] == self.level).astype(float)


@dataclass(frozen=True, eq=False)
class SmoothColumns:
    """
    Some columns of a smooth, which encode new data as they did the first.

    They are the block with this number times `into`, less `means`, times the rows' multiplier.
    """

    names: tuple[str, ...]
    variables: tuple[Expression, ...]
    turned: Turned
    block: int
    into: np.ndarray
    means: np.ndarray
    multiplier: Multiplier

    @property
    def levels(self) -> dict[str, pd.Series]:
        """No factor has indicators here."""
        return {}

    @property
    def term_names(self) -> tuple[str, ...]:
        """Every column is a term of its own."""
        return self.names

    def encode(self, frame: pd.DataFrame, context: Context) -> np.ndarray:
        """Encode data: `(n, k)`."""
        x = positions(self.variables, frame, context)
        own = self.turned.blocks(x)[self.block] @ self.into - self.means
        return own * self.multiplier.at(frame, context)[:, None]


@dataclass(frozen=True, eq=False)
class Smooth:
    """
    One smooth with data: of a factor's levels, the smooth of one level.

    Attributes
    ----------
    param
        The parameter whose predictor it is a part of.
    label
        What results call it: `s(x)`, or `s(x):fa` of level a of f.
    X, fixed
        The columns without a penalty `(n, k)`, and what makes them.
    terms
        A random term for each penalty.
    """

    param: str
    label: str
    X: np.ndarray
    fixed: SmoothColumns
    terms: tuple[SmoothTerm, ...]


def learn_smooths(
    formula: Formula, rows: Rows, context: Context, taken: Sequence[str] = ()
) -> tuple[Smooth, ...]:
    """
    Make the smooths of all predictors.

    Parameters
    ----------
    taken
        Names that other terms have.

    Raises
    ------
    FormulaError
        If a predictor has the same smooth twice.
    DataError
        If the data have too few different values, or k is too small.
    """
    found: list[Smooth] = []
    names = set(taken)
    for param, predictor in formula.predictors.items():
        seen: dict[str, str] = {}
        for special in predictor.special:
            if special.name not in SMOOTHS:
                continue
            for smooth in _learn(SmoothPart.read(special), param, names, rows.frame, context):
                if smooth.label in seen:
                    raise FormulaError(
                        f"{seen[smooth.label]!r} and {special.text!r} are the same smooth of "
                        f"{param}: leave one out."
                    )
                seen[smooth.label] = special.text
                names |= {term.name for term in smooth.terms}
                found.append(smooth)
    return tuple(found)


def _learn(
    part: SmoothPart, param: str, taken: set[str], frame: pd.DataFrame, context: Context
) -> Iterator[Smooth]:
    variables = tuple(Expression(v) for margin in part.margins for v in margin)
    x = positions(variables, frame, context)
    turned = Turned(tuple(_margins(part, x)))
    blocks = turned.blocks(x)
    for multiplier, label in _multipliers(part, frame, context):
        w = multiplier.at(frame, context)
        varies = multiplier.by is not None and not multiplier.known and np.ptp(w) > 0
        # The constant is the intercept's, but for a slope that varies along the smooth.
        own = blocks[0] if varies else blocks[0][:, 1:]
        keep = np.eye(blocks[0].shape[1])[:, blocks[0].shape[1] - own.shape[1] :]
        means = np.zeros(own.shape[1]) if varies else own.mean(axis=0)
        names = tuple(f"{label}_{j}" for j in range(1, own.shape[1] + 1))
        fixed = SmoothColumns(names, variables, turned, 0, keep, means, multiplier)
        terms = []
        for number, kind in enumerate(turned.names, start=1):
            B, by_rows = blocks[number], w if varies else np.ones(len(w))
            shift, into, unit = _scaled(B, by_rows)
            named = label if len(turned.names) == 1 else f"{label}.{kind}"
            columns = tuple(f"b{j}" for j in range(1, into.shape[1] + 1))
            own_columns = SmoothColumns(columns, variables, turned, number, into, shift, multiplier)
            Z = (B @ into - shift) * w[:, None]
            structure = HomogeneousDiagonal(number - 1, len(turned.names))
            terms.append(_term(part, param, named, own_columns, Z, structure, unit, taken))
        yield Smooth(param, label, (own - means) * w[:, None], fixed, tuple(terms))


def _margins(part: SmoothPart, x: np.ndarray) -> Iterator[Margin]:
    start = 0
    for variables, name, k in zip(part.margins, part.bases, part.sizes, strict=True):
        at = slice(start, start := start + len(variables))
        # Products of bases grow fast: mgcv's margins are smaller too.
        size = 5 if k is None and len(part.margins) > 1 else k
        yield Margin.of(BASES[name](x[:, at], size, part.text), x, at)


def _multipliers(
    part: SmoothPart, frame: pd.DataFrame, context: Context
) -> Iterator[tuple[Multiplier, str]]:
    """Give what each smooth of a part is multiplied by, and what it is called."""
    if part.by is None:
        yield Multiplier(), part.label
        return
    by = Expression(part.by)
    column = by.evaluate(frame, context)
    called = f"{part.label}:{plain_name(part.by) or part.by}".replace("/", "_")
    if not is_factor(column):
        yield Multiplier(by), called
        return
    _, known = labels(column)
    # As in mgcv: with an order, the others are differences from the first level.
    ordered = bool(getattr(column.dtype, "ordered", False))
    for level in known[1 if ordered else 0 :]:
        yield Multiplier(by, level, known), f"{called}{level}".replace("/", "_")


def _scaled(B: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """
    Turn penalised columns about, so that those of the data are orthogonal.

    Returns
    -------
    means, into, unit
        With independent effects of variance one, what `B @ into - means` makes of them varies by
        one, on average over the rows times w; `into` is orthogonal, times the unit.
    """
    means = B.mean(axis=0)
    centred = (B - means) * w[:, None]
    _, sizes, V = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(V[np.arange(len(V)), np.abs(V).argmax(axis=1)])
    unit = float(np.sqrt(len(B) / np.sum(sizes**2)))
    into = unit * (V * signs[:, None]).T
    return means @ into, into, unit


def _term(
    part: SmoothPart,
    param: str,
    label: str,
    columns: SmoothColumns,
    Z: np.ndarray,
    structure: Covariance,
    unit: float,
    taken: set[str],
) -> SmoothTerm:
    prefix = "" if param == "mu" else f"{param}_"
    name = base = prefix + re.sub(r"\W+", "_", label).strip("_")
    k = 2
    while name in taken:
        name, k = f"{base}_{k}", k + 1
    addressing = Addressing(Group(()), (), (), (), part.text)
    _, places, index = addressing.addressed(pd.DataFrame(index=range(len(Z))), {})
    return SmoothTerm(
        name=name,
        addressing=addressing,
        text=part.text,
        columns=columns.names,
        index=index,
        weights=np.ones((len(Z), 1)),
        loadings=(Loading(param, Z, slice(0, Z.shape[1]), columns),),
        structure=structure,
        level_structure=LEVEL_COVARIANCES["iid"](places),
        called=label,
        unit=unit,
    )


def positions(variables: Sequence[Expression], frame: pd.DataFrame, context: Context) -> np.ndarray:
    """Evaluate the variables of a smooth: `(n, d)`."""
    found: list[Any] = [v.numbers(frame, context, "smoothed variable") for v in variables]
    return np.column_stack(found)
