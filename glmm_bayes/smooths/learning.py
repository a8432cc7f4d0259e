"""A smooth with data: columns of the fixed part, and random terms."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from glmm_bayes.covariance import COVARIANCES, LEVEL_COVARIANCES, Covariance
from glmm_bayes.covariance.diagonal import HomogeneousDiagonal
from glmm_bayes.data import Rows, is_factor, labels
from glmm_bayes.encoding import Context, Expression
from glmm_bayes.errors import FormulaError
from glmm_bayes.formula import Formula, Group, expression, plain_name
from glmm_bayes.places import Addressing
from glmm_bayes.smooths.bases import BASES
from glmm_bayes.smooths.columns import Multiplier, SmoothColumns, positions
from glmm_bayes.smooths.reading import SMOOTHS, SmoothPart
from glmm_bayes.smooths.term import SmoothTerm
from glmm_bayes.smooths.turned import Margin, Turned
from glmm_bayes.terms import Loading


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
            workshop = _Workshop.of(SmoothPart.read(special), param, rows.frame, context)
            for smooth in workshop.smooths(names):
                if smooth.label in seen:
                    raise FormulaError(
                        f"{seen[smooth.label]!r} and {special.text!r} are the same smooth of "
                        f"{param}: leave one out."
                    )
                seen[smooth.label] = special.text
                names |= {term.name for term in smooth.terms}
                found.append(smooth)
    return tuple(found)


@dataclass(frozen=True, eq=False)
class _Workshop:
    """What the smooths of one part of a formula are made from, and how."""

    part: SmoothPart
    param: str
    frame: pd.DataFrame
    context: Context
    variables: tuple[Expression, ...]
    turned: Turned
    blocks: list[np.ndarray]

    @classmethod
    def of(cls, part: SmoothPart, param: str, frame: pd.DataFrame, context: Context) -> "_Workshop":
        variables = tuple(Expression(v) for margin in part.margins for v in margin)
        x = positions(variables, frame, context)
        turned = Turned(tuple(_margins(part, x)))
        return cls(part, param, frame, context, variables, turned, turned.blocks(x))

    def smooths(self, taken: set[str]) -> Iterator[Smooth]:
        """Make the smooth of the part, or one for every level of its factor."""
        if self.part.group is not None:
            yield self._by_group(self.part.group, taken)
            return
        for multiplier, label in _multipliers(self.part, self.frame, self.context):
            yield self._common(multiplier, label, taken)

    def _common(self, multiplier: Multiplier, label: str, taken: set[str]) -> Smooth:
        w = multiplier.at(self.frame, self.context)
        varies = multiplier.by is not None and not multiplier.known and np.ptp(w) > 0
        # The constant is the intercept's, but for a slope that varies along the smooth.
        kept = np.eye(self.blocks[0].shape[1])[:, 0 if varies else 1 :]
        means = np.zeros_like(kept)
        means[0] = 0.0 if varies else (self.blocks[0] @ kept).mean(axis=0)
        names = tuple(f"{label}_{j}" for j in range(1, kept.shape[1] + 1))
        fixed = SmoothColumns(names, self.variables, self.turned, 0, kept, means, multiplier)
        several = len(self.turned.names)
        terms = []
        for number, kind in enumerate(self.turned.names, start=1):
            B = self.blocks[number]
            mean = np.zeros((self.blocks[0].shape[1], B.shape[1]))
            mean[0] = B.mean(axis=0)
            columns, unit = self._penalised(number, mean, w if varies else 1.0, multiplier)
            named = label if several == 1 else f"{label}.{kind}"
            addressing = Addressing(Group(()), (), (), (), self.part.text)
            structure = HomogeneousDiagonal(number - 1, several)
            terms.append(self._term(named, named, addressing, columns, structure, unit, taken))
        X = fixed.of(self.blocks) * w[:, None]
        return Smooth(self.param, label, X, fixed, tuple(terms))

    def _by_group(self, group: str, taken: set[str]) -> Smooth:
        """Make a curve for every level, none of which is left without a penalty."""
        label, (free, bent) = self.part.label, self.blocks
        factors = (Expression(group),)
        addressing = Addressing(Group((expression(group),)), factors, (), (), self.part.text)
        # What of the bent functions is a polynomial is the polynomials', which vary by themselves.
        columns, unit = self._penalised(1, np.linalg.lstsq(free, bent)[0], 1.0, Multiplier())
        wiggly = HomogeneousDiagonal()
        found = [self._term(label, f"{label}.b", addressing, columns, wiggly, unit, taken)]
        M = free.shape[1]
        for j in range(M):
            name, one = f"{label}_{j}", np.eye(M)[:, [j]]
            own = SmoothColumns((name,), self.variables, self.turned, 0, one, np.zeros((M, 1)))
            found.append(self._term(label, name, addressing, own, COVARIANCES["us"](), 1.0, taken))
        none = np.zeros((M, 0))
        fixed = SmoothColumns((), self.variables, self.turned, 0, none, none)
        return Smooth(self.param, label, free[:, :0], fixed, tuple(found))

    def _penalised(
        self, number: int, less: np.ndarray, w: np.ndarray | float, multiplier: Multiplier
    ) -> tuple[SmoothColumns, float]:
        """
        Turn a penalised block about, so that its columns of the data are orthogonal.

        Returns
        -------
        columns, unit
            With independent effects of variance one, what the columns make of them varies by one,
            on average over the rows times w; the block is turned, and multiplied by the unit.
        """
        rest = (self.blocks[number] - self.blocks[0] @ less) * np.reshape(w, (-1, 1))
        _, sizes, V = np.linalg.svd(rest, full_matrices=False)
        signs = np.sign(V[np.arange(len(V)), np.abs(V).argmax(axis=1)])
        unit = float(np.sqrt(len(rest) / np.sum(sizes**2)))
        into = unit * (V * signs[:, None]).T
        names = tuple(f"b{j}" for j in range(1, into.shape[1] + 1))
        return (
            SmoothColumns(
                names, self.variables, self.turned, number, into, less @ into, multiplier
            ),
            unit,
        )

    def _term(
        self,
        label: str,
        penalty: str,
        addressing: Addressing,
        columns: SmoothColumns,
        structure: Covariance,
        unit: float,
        taken: set[str],
    ) -> SmoothTerm:
        prefix = "" if self.param == "mu" else f"{self.param}_"
        name = base = prefix + re.sub(r"\W+", "_", penalty.removesuffix(".b")).strip("_")
        k = 2
        while name in taken:
            name, k = f"{base}_{k}", k + 1
        Z = columns.of(self.blocks)
        Z *= columns.multiplier.at(self.frame, self.context)[:, None]
        _, places, index = addressing.addressed(self.frame, self.context)
        return SmoothTerm(
            name=name,
            addressing=addressing,
            text=self.part.text,
            columns=columns.names,
            index=index,
            weights=np.ones((len(Z), 1)),
            loadings=(Loading(self.param, Z, slice(0, Z.shape[1]), columns),),
            structure=structure,
            level_structure=LEVEL_COVARIANCES["iid"](places),
            called=label,
            penalty=penalty,
            unit=unit,
        )


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
