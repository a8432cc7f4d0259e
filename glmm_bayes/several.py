"""Several responses: which formulas have one, the rows that each is in, and the family of all."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from glmm_bayes.data import Frame, Rows, column_names, plain, read_columns, usable_rows
from glmm_bayes.design import formula_texts, refuse_unbuilt
from glmm_bayes.encoding import Context, columns_of
from glmm_bayes.errors import DataError, FormulaError, NotSupportedError, UnknownNameError
from glmm_bayes.families import FAMILIES, Family
from glmm_bayes.families.by_response import support_of_response
from glmm_bayes.families.mixture_of import family_of
from glmm_bayes.families.several import Part, several
from glmm_bayes.formula import (
    IMPUTED,
    Formula,
    PredictorPart,
    expressions_beside,
    imputed,
    plain_name,
    read_responses,
    response_of,
    unseen_parts,
)
from glmm_bayes.formula import Response as Asked
from glmm_bayes.observed import fitting_response, through_view
from glmm_bayes.registry import suggestion
from glmm_bayes.response import Response, completed, in_subset, read_response, response_texts
from glmm_bayes.view import Views

RESCOR = "rescor"  # the formula that says whether residuals are correlated
WITH_CORRELATION = ("gaussian", "student")

type Families = str | Family | Mapping[str, str | Family] | Sequence[str | Family]


@dataclass(frozen=True, eq=False)
class Read:
    """What a model of several responses starts from; `formula` has a part a parameter."""

    family: Family
    rows: Rows
    response: Response
    formula: Formula


def told_apart(formula: Formula, families: Families, data: Frame) -> Formula:
    """Find the formulas that are of responses: of columns that are no parameter's name."""
    known = {RESCOR, "mu", *(p.name for family in _all(families) for p in family.parameters)}
    columns, predictors, beside = column_names(data), dict(formula.predictors), []
    waiting = iter(formula.beside)
    for text in formula.texts:
        left = text.split("~")[0].strip()
        name, read = plain_name(left), read_responses(left)
        if text is formula.texts[0]:
            beside += [next(waiting) for _ in read[1:]]
        elif name is None:
            beside += [next(waiting) for _ in read]
        elif name not in known and name in columns:
            beside.append((read[0], predictors.pop(name)))
    return replace(formula, predictors=predictors, beside=tuple(beside))


def read_several(
    formula: Formula,
    families: Families,
    data: Frame,
    *,
    context: Context,
    missing: Literal["drop", "raise"],
) -> Read:
    """
    Take the columns of several responses, of which a row may lack some.

    Raises
    ------
    FormulaError, DataError, UnknownNameError
        If the formulas, the families and the data do not go together.
    NotSupportedError
        If a response is in categories, or residuals cannot be correlated as asked.
    """
    if formula.residual is not None:
        raise NotSupportedError(
            "Residuals along time, 'residual ~ …', are for a single response: leave them out, or "
            "write the structure into the responses' formulas, as a random term."
        )
    refuse_unbuilt(formula)
    asked = [formula.response, *(response for response, _ in formula.beside)]
    labels = _labels(asked)
    rows = _rows(formula, asked, data, context, missing)
    read = [
        _read_one(response, family, rows, context)
        for response, family in zip(asked, _by_label(families, labels), strict=True)
    ]
    y = np.column_stack([one.y for one in read])
    views = Views(*(tuple(part) for part in zip(*(one.beside for one in read), strict=True)))
    parts = [
        Part(label, one.family, {}, float(one.y[one.first]))
        for label, one in zip(labels, read, strict=True)
    ]
    for one, each in zip(asked, read, strict=True):
        _check_imputed(one, each.family)
    incomplete = bool(np.isnan(y).any()) or any(map(imputed, asked))
    shared = _correlated(formula, parts, views, incomplete, any(map(imputed, asked)))
    family = several(parts, views, ~np.isnan(y) | _estimated(formula, asked), shared=shared)
    response = Response(", ".join(one.text for one in asked), y, levels=tuple(labels), view=views)
    return Read(family, rows, response, _spread(formula, family, asked))


def spread_links(link: str | Mapping[str, str] | None, family: Family) -> Mapping[str, str]:
    """Give links by the family's parameters: one for all means, or by response or parameter."""
    assert family.responses is not None
    parts, known = family.responses.parts, {p.name for p in family.parameters}
    given = {"mu": link} if isinstance(link, str) else dict(link or {})
    found: dict[str, str] = {}
    for key, name in given.items():
        if key in known:
            found[key] = name
        elif key in family.responses.labels:
            found[family.responses.part(key).names["mu"]] = name
        else:
            named = [part.names[key] for part in parts if key in part.names]
            found |= dict.fromkeys(named or [key], name)
    return found


# ---- the families


def _all(families: Families) -> list[Family]:
    given: list[Any] = [families]
    if isinstance(families, Mapping):
        given = list(families.values())
    elif isinstance(families, list | tuple):
        given = list(families)
    found = [family_of(one) if isinstance(one, str) else one for one in given]
    for one in found:
        if not isinstance(one, Family):
            raise UnknownNameError(f"The family {one!r} is neither a name nor a gb.Family.")
    return found


def _by_label(families: Families, labels: Sequence[str]) -> list[Family]:
    found = _all(families)
    if isinstance(families, Mapping):
        named = dict(zip(families, found, strict=True))
        for label in [*labels, *named]:
            if label not in named or label not in labels:
                raise UnknownNameError(
                    f"family={dict(families)!r} should have one of each response: "
                    f"{', '.join(labels)}."
                )
        return [named[label] for label in labels]
    if not isinstance(families, list | tuple):
        return found * len(labels)
    if len(found) != len(labels):
        raise UnknownNameError(
            f"There are {len(found)} families for {len(labels)} responses, {', '.join(labels)}."
        )
    return found


def _labels(asked: Sequence[Asked]) -> list[str]:
    labels = [re.sub(r"\W", "", plain_name(one.expression) or one.expression) for one in asked]
    for k, label in enumerate(labels):
        if label in labels[:k]:
            raise FormulaError(
                f"There are two formulas of the response {asked[k].text!r}: put them into one."
            )
    return labels


# ---- the rows


def _rows(
    formula: Formula,
    asked: Sequence[Asked],
    data: Frame,
    context: Context,
    missing: Literal["drop", "raise"],
) -> Rows:
    texts, known = formula_texts(formula), column_names(data)
    own = [columns_of(response_texts(one), known, context) for one in asked]
    shared = set(columns_of(texts, known, context))
    names = list(dict.fromkeys([*(c for part in own for c in part), *shared]))
    estimated = {c for one, part in zip(asked, own, strict=True) if imputed(one) for c in part}
    beside = formula_texts(_without_imputed(formula))
    estimated -= set(columns_of(beside, known, context))
    shared -= estimated
    frame = read_columns(data, names, where=" and ".join(repr(t) for t in formula.texts))
    for one in asked:
        frame = completed(one, frame)
    # A response that is a predictor of another has to be there.
    return usable_rows(frame, missing, [set(part) - shared for part in own], estimated)


def _without_imputed(formula: Formula) -> Formula:
    """Leave `mi(x)` out of the right sides: its x need not be there."""

    def without(side: PredictorPart) -> PredictorPart:
        return replace(side, fixed=" + ".join(["1", *expressions_beside(IMPUTED, side.fixed)]))

    predictors = {name: without(side) for name, side in formula.predictors.items()}
    beside = tuple((response, without(side)) for response, side in formula.beside)
    return replace(formula, predictors=predictors, beside=beside)


def _estimated(formula: Formula, asked: Sequence[Asked]) -> np.ndarray:
    """Tell of each response whether its missing values enter the model: as mi(x), or measured."""
    parts = [p for side in formula.sides for p in unseen_parts(side.fixed) if p.kind == IMPUTED]
    used = {response_of(part, list(asked)) for part in parts}
    return np.array(
        [bool(dict(one.extras).get(IMPUTED)) or r in used for r, one in enumerate(asked)]
    )


def _check_imputed(asked: Asked, family: Family) -> None:
    if not imputed(asked):
        return
    beside = [name for name, _ in asked.extras if name != IMPUTED]
    if beside or asked.columns:
        raise NotSupportedError(
            f"mi(…) of {asked.text!r} beside {', '.join(f'{name}(…)' for name in beside)} is not "
            f"built: leave one of them out."
        )
    support_of_response(family, asked.text)


@dataclass(frozen=True, eq=False)
class _One:
    """A response on all rows: NaN where it is missing, where the rest is that of row `first`."""

    family: Family
    y: np.ndarray
    beside: tuple[Any, Any, Any]
    first: int


def _read_one(asked: Asked, family: Family, rows: Rows, context: Context) -> _One:
    names = columns_of(response_texts(asked), list(rows.frame.columns), context)
    there = rows.frame[list(names)].notna().all(axis=1).to_numpy()
    if not there.any():
        raise DataError(f"The response {asked.text!r} is missing in every row.")
    kept = np.zeros(len(there), dtype=bool)
    kept[there] = in_subset(asked, plain(rows.frame[there]), context)
    frame = plain(rows.frame[kept])
    response = read_response(asked, frame, context)
    if not family.has_one_mean or response.y.ndim == 2:
        raise NotSupportedError(
            f"The response {asked.text!r} of family {family.name!r} has several means, of "
            f"categories or components, which is not built beside other responses: fit a model of "
            f"its own for it."
        )
    family, response = through_view(family, response)
    response = fitting_response(family, response, frame.index)
    at, first = np.zeros(len(kept), dtype=int), int(np.argmax(kept))
    at[kept] = np.arange(len(frame))
    y = np.where(kept, response.y[at], np.nan)
    given = response.take(at)
    return _One(family, y, (given.trials, given.view, given.weights), first)


# ---- the parameters


def _correlated(
    formula: Formula, parts: Sequence[Part], views: Views, incomplete: bool, estimated: bool
) -> str:
    """Give the kind of residuals that are correlated; empty where they are independent."""
    part = formula.predictors.get(RESCOR)
    if part is not None and (
        part.fixed not in ("0", "1") or part.random or part.offsets or part.special
    ):
        raise FormulaError("Write 'rescor ~ 1' for correlated residuals, 'rescor ~ 0' for none.")
    kind = parts[0].family.name
    alike = kind in WITH_CORRELATION and all(p.family is FAMILIES[kind] for p in parts)
    beside = [one for one in (*views.views, *views.weights) if one is not None]
    if part is None:
        return kind if alike and not beside and not incomplete else ""
    if part.fixed == "0":
        return ""
    if not alike:
        raise NotSupportedError(
            f"Residuals can be correlated where all responses are gaussian, or all student, not of "
            f"{', '.join(dict.fromkeys(p.family.name for p in parts))}: leave 'rescor ~ 1' out, "
            f"and let effects of each row or group be correlated, as (1 |p| g)."
        )
    if estimated:
        raise NotSupportedError(
            "Correlated residuals of responses with mi(…) are not built: write 'rescor ~ 0', and "
            "let one response be a predictor of the other, mi(x), or effects be correlated."
        )
    if beside:
        raise NotSupportedError(
            "Correlated residuals of responses that are weighted, censored, truncated or have "
            "standard errors are not built: leave those out, or write 'rescor ~ 0'."
        )
    return kind


def _spread(formula: Formula, family: Family, asked: Sequence[Asked]) -> Formula:
    """Give each parameter its part: of a further formula all responses that have such a one."""
    assert family.responses is not None
    parts = family.responses.parts
    sides = [formula.predictors["mu"], *(part for _, part in formula.beside)]
    predictors: dict[str, PredictorPart] = {
        part.names[part.family.parameters[0].name]: side
        for part, side in zip(parts, sides, strict=True)
    }
    means, known = set(predictors), [p.name for p in family.parameters]
    expressions = dict.fromkeys(known, asked[0].expression)
    for part, one in zip(parts, asked, strict=True):
        expressions |= dict.fromkeys(part.names.values(), one.expression)
    for name, side in formula.predictors.items():
        if name in ("mu", RESCOR):
            continue
        if name in means:
            raise FormulaError(f"The formula for {name!r} is that with the response.")
        targets = [name] if name in known else []
        targets = targets or [part.names[name] for part in parts if name in part.names]
        if not targets:
            raise UnknownNameError(
                f"There is no parameter and no column {name!r} to have the formula "
                f"'{name} ~ {side.fixed}'. {suggestion(name, known)}"
            )
        for target in targets:
            if target not in formula.predictors or target == name:
                predictors[target] = side
    order = {name: predictors[name] for name in known if name in predictors}
    return replace(formula, predictors=order, beside=(), responses=expressions, asked=tuple(asked))
