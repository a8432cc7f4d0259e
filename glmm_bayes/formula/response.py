"""The left side: the response, and what is known about each of its values."""

from formulaic.transforms import TRANSFORMS

from glmm_bayes.errors import FormulaError, UnknownNameError
from glmm_bayes.formula.parts import Response
from glmm_bayes.formula.tokens import (
    addends,
    arguments,
    bars,
    call_of,
    expression,
    lex,
    plain_name,
    terms,
    variables,
)
from glmm_bayes.registry import suggestion

WITHOUT_ARGUMENT = ("mi",)  # that may stand with nothing in their parentheses
# The arguments that each takes at most, by their names.
_EXTRAS: dict[str, tuple[str, ...]] = {
    "trials": ("n",),
    "weights": ("w",),
    "censored": ("c", "y2"),
    "truncated": ("lb", "ub"),
    "se": ("s", "sigma"),
    "subset": ("s",),
    "dec": ("d",),
    "bhaz": ("df",),
    "mi": ("sdx",),
}


def read_responses(text: str) -> tuple[Response, ...]:
    """
    Read a left side that may bind several responses.

    Examples
    --------
    >>> [response.text for response in read_responses("mvbind(y1, log(y2))")]
    ['y1', 'log(y2)']
    """
    name, inside = call_of(text) or ("", "")
    if name != "mvbind":
        if "mvbind(" in text:
            raise FormulaError(
                f"{text!r} says something of several responses at once: give each a formula of "
                f"its own, as in ['y1 | trials(n1) ~ x', 'y2 ~ x']."
            )
        return (read_response(text),)
    items = arguments(inside, text)
    if len(items) < 2 or any(keyword for keyword, _ in items):
        raise FormulaError(f"{text!r} should bind several responses: mvbind(y1, y2).")
    return tuple(read_response(item) for _, item in items)


def read_response(text: str) -> Response:
    """
    Read the left side of a formula with a single response.

    Examples
    --------
    >>> read_response("y | trials(n)").extras
    (('trials', 'n'),)
    """
    pieces = lex(text)
    if not pieces:
        raise FormulaError("Nothing stands before '~': name the response.")
    at = bars(pieces)
    if len(at) > 1:
        raise FormulaError(
            f"The response {text!r} has more than one bar: write y | trials(n) + weights(w)."
        )
    if not at:
        expression, failures, others = _values(text)
        return Response(expression, failures, (), text, others)
    left, right = text[: pieces[at[0]].start].strip(), text[pieces[at[0]].end :].strip()
    if not left or not right:
        raise FormulaError(f"One side of the bar in the response {text!r} is empty.")
    expression, failures, others = _values(left)
    extras = _extras(right, text)
    if failures is not None and "trials" in dict(extras):
        raise FormulaError(f"{text!r} has the number of trials twice: leave out trials(…).")
    return Response(expression, failures, extras, text, others)


def _values(text: str) -> tuple[str, str | None, tuple[str, ...]]:
    """Give the response's expression, or the columns of a cbind: first, second and others."""
    name, inside = call_of(text) or ("", "")
    if name != "cbind":
        return _column(text), None, ()
    items = arguments(inside, text)
    if len(items) < 2 or any(keyword for keyword, _ in items):
        raise FormulaError(
            f"{text!r} should have two columns, cbind(successes, failures), or one a category."
        )
    first, second, *others = (_column(item) for _, item in items)
    return first, second, tuple(others)


def _column(text: str) -> str:
    checked = expression(text)
    factors = [factor for term in terms(checked, intercept=False) for factor in term.factors]
    named = [v.root for factor in factors for v in variables(factor)]
    if plain_name(checked) is None and all(name in TRANSFORMS for name in named):
        raise FormulaError(f"The response {text!r} names no column.")
    return checked


def _extras(right: str, text: str) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for addend in addends(right):
        call = call_of(addend.text)
        if call is None or addend.negative:
            raise FormulaError(
                f"{addend.text!r} after the bar of the response {text!r} should be added and be "
                f"one of {', '.join(f'{name}(…)' for name in _EXTRAS)}."
            )
        name, inside = call
        if name not in _EXTRAS:
            raise UnknownNameError(
                f"The response {text!r} cannot have {addend.text!r}. {suggestion(name, _EXTRAS)}"
            )
        if name in found:
            raise FormulaError(f"The response {text!r} has {name}(…) twice: leave one out.")
        if name in WITHOUT_ARGUMENT and not inside.strip():
            found[name] = ""
            continue
        items, known = arguments(inside, addend.text), _EXTRAS[name]
        single = len(known) == 1
        if len(items) > len(known) or (single and items[0][0] not in (None, *known)):
            raise FormulaError(f"{addend.text!r} has too many arguments, in the response {text!r}.")
        found[name] = expression(items[0][1]) if single else inside
    return tuple(found.items())


def extra_arguments(name: str, inside: str) -> dict[str, str]:
    """
    Take the arguments of one of the response's extras apart, by their names.

    Examples
    --------
    >>> extra_arguments("truncated", "ub=top")
    {'ub': 'top'}
    """
    text, known = f"{name}({inside})", _EXTRAS[name]
    found: dict[str, str] = {}
    if not inside.strip():
        return found
    for k, (keyword, item) in enumerate(arguments(inside, text)):
        key = known[k] if keyword is None else keyword
        if key not in known:
            raise FormulaError(f"{text!r} has no argument {key!r}. {suggestion(key, known)}")
        if key in found:
            raise FormulaError(f"{text!r} has the argument {key!r} twice: leave one out.")
        found[key] = item if item in ("True", "False") else expression(item)
    return found
