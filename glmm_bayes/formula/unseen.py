"""Predictors that the data do not have as they are: me(x, sd), with an error, and mi(x)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from formulaic.parser.types import Factor

from glmm_bayes.errors import FormulaError, NotSupportedError
from glmm_bayes.formula.parts import Formula, PredictorPart, Response
from glmm_bayes.formula.tokens import (
    arguments,
    call_of,
    expression,
    plain_name,
    quoted,
    terms,
)

IMPUTED = "mi"  # the call around such a predictor, and the extra of such a response
MEASURED = "me"
_CALL = re.compile(r"(?<![\w.])m[ei]\(")
_ARGUMENTS = {MEASURED: ("x", "sdx", "gr"), IMPUTED: ("x",)}


@dataclass(frozen=True)
class UnseenPart:
    """
    One call `me(x, error, gr=group)` or `mi(x)`, of which `text` is as in the formula.

    The rows of one level of the `group` have one true value.
    """

    kind: str
    text: str
    x: str
    error: str | None = None
    group: str | None = None


def unseen_parts(fixed: str) -> tuple[UnseenPart, ...]:
    """
    Find the calls of `me` and `mi` among the terms of a right side.

    Raises
    ------
    FormulaError
        If one stands within another call, or its arguments are not what it takes.

    Examples
    --------
    >>> [part.x for part in unseen_parts("z * me(log(x), 0.1) + mi(w)")]
    ['log(x)', 'w']
    """
    factors = dict.fromkeys(f.expr for term in terms(fixed) for f in term.factors)
    return tuple(_read(text, fixed) for text in factors if _CALL.search(text))


def expressions_beside(kind: str, fixed: str) -> list[str]:
    """
    List the factors of a right side's terms but for the calls of one kind.

    Examples
    --------
    >>> expressions_beside("mi", "z * mi(x) + log(w)")
    ['z', 'log(w)']
    """
    factors = {f.expr: f for term in terms(fixed) for f in term.factors}
    calls = {part.text for part in unseen_parts(fixed) if part.kind == kind}
    looked_up = Factor.EvalMethod.LOOKUP
    return [
        quoted(text) if factor.eval_method is looked_up else text
        for text, factor in factors.items()
        if text not in calls and factor.eval_method is not Factor.EvalMethod.LITERAL
    ]


def products_of(term: object) -> tuple[str, ...]:
    """List the calls of `me` and `mi` that a term of formulaic's is a product of."""
    factors = getattr(term, "factors", ())
    return tuple(factor.expr for factor in factors if _CALL.search(factor.expr))


def imputed(response: Response) -> bool:
    """Tell whether missing values of a response are to be estimated: `y | mi()`."""
    return IMPUTED in dict(response.extras)


def check_unseen(formula: Formula) -> None:
    """
    Check, without data, that these calls stand where they can, and have what they need.

    Raises
    ------
    FormulaError
        If `mi(x)` has no model of x beside it.
    NotSupportedError
        If one is a part of a random term, an offset or a smooth.
    """
    asked = [formula.response, *(response for response, _ in formula.beside)]
    for side in formula.sides:
        for text, within in _other_texts(side):
            if _CALL.search(text):
                raise NotSupportedError(
                    f"me(…) and mi(…) are built for population-level terms and their products, not "
                    f"within {within!r}: take the observed column there."
                )
        for part in unseen_parts(side.fixed):
            if part.kind == IMPUTED:
                _check_model_of(part, asked)


def response_of(part: UnseenPart, asked: list[Response]) -> int | None:
    """Give the place among the responses of the one that `mi(x)` is of."""
    for r, response in enumerate(asked):
        if plain_name(response.expression) == plain_name(part.x):
            return r
    return None


def _check_model_of(part: UnseenPart, asked: list[Response]) -> None:
    r = response_of(part, asked)
    if r is None:
        raise FormulaError(
            f"{part.text!r} needs a model of {part.x}: add the formula '{part.x} | mi() ~ …' to "
            f"the list of formulas."
        )
    if not imputed(asked[r]):
        raise FormulaError(
            f"{part.text!r} needs the missing values of {part.x} as parameters: write "
            f"'{part.x} | mi() ~ …' for its formula."
        )


def _other_texts(side: PredictorPart) -> Iterator[tuple[str, str]]:
    """Give what is no fixed term, with the words it stands in."""
    yield from ((text, f"offset({text})") for text in side.offsets)
    for term in side.random:
        inside = (term.columns, *term.group.factors, *term.group.weights)
        yield from ((text, term.text) for text in inside)
    yield from ((text, special.text) for special in side.special for text in special.arguments)


def _read(text: str, within: str) -> UnseenPart:
    call = call_of(text)
    if call is None or call[0] not in _ARGUMENTS:
        raise FormulaError(
            f"me(…) and mi(…) have to be factors of a term, as in me(x, sd):z, not within "
            f"{text!r}, in {within!r}."
        )
    name, inside = call
    known = _ARGUMENTS[name]
    found: dict[str, str] = {}
    for k, (keyword, item) in enumerate(arguments(inside, text)):
        key = keyword or (known[k] if k < len(known) else "")
        if key not in known or key in found:
            raise FormulaError(
                f"{text!r} takes {', '.join(known)}, as in "
                f"{'me(x, sdx, gr=g)' if name == MEASURED else 'mi(x)'}."
            )
        found[key] = expression(item)
    if "x" not in found or (name == MEASURED and "sdx" not in found):
        raise FormulaError(
            f"{text!r} needs the standard deviation of the measurements: me(x, sdx)."
        )
    if name == IMPUTED and plain_name(found["x"]) is None:
        raise FormulaError(
            f"{text!r} should name a column that is a response too, as 'x' in mi(x) and "
            f"'x | mi() ~ …'."
        )
    return UnseenPart(name, text, found["x"], found.get("sdx"), found.get("gr"))
