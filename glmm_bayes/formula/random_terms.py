"""Random terms: what is on the two sides of a bar."""

from collections.abc import Mapping

from formulaic.parser.types import Factor, Token

from glmm_bayes.errors import FormulaError
from glmm_bayes.formula.parts import SPECIAL_NAMES, STRUCTURE_NAMES, Group, RandomPart
from glmm_bayes.formula.tokens import (
    Piece,
    arguments,
    bars,
    call_of,
    expression,
    lex,
    plain_name,
    quoted,
    terms,
)
from glmm_bayes.registry import suggestion

WITHOUT_BAR = ("gp", "hsgp")  # what may be written as brms does, of all rows


def bare_term(text: str) -> list[RandomPart] | None:
    """Read `(x | g)` or `(x | g, arguments)`; None if there is no parenthesis with a bar."""
    pieces = lex(text)
    if pieces[0].text != "(" or any(p.depth == 0 for p in pieces[1:-1]):
        return None
    inside = text[1:-1].strip()
    if not bars(lex(inside)):
        return None
    return _parts("us", *_sides("", inside, text), text)


def structured_term(text: str) -> list[RandomPart] | None:
    """
    Read `name(x | g, arguments)`; None if the text is not a call with a bar.

    Whether there is a structure of that name, the design knows.
    """
    call = call_of(text)
    if call and call[0] in WITHOUT_BAR and not _has_bar(*call):
        return _process(*call, text)
    if call is None or not _has_bar(*call):
        if call and call[0] == "kron":
            raise FormulaError(f"{text!r} has no bar: write kron(x | g, …).")
        return None
    name, inside = call
    return _parts(name, *_sides(name, inside, text), text)


def _sides(name: str, inside: str, text: str) -> tuple[str, dict[str, str]]:
    """Take what is about the bar and the further arguments apart."""
    (keyword, sides), *rest = arguments(inside, text)
    if keyword is not None or not bars(lex(sides)):
        raise FormulaError(f"The bar of {text!r} should be in the first argument: {name}(x | g).")
    if any(bars(lex(item)) for _, item in rest):
        raise FormulaError(f"{text!r} has a bar in more than one argument: keep the first.")
    return sides, {k or str(j): v for j, (k, v) in enumerate(rest)}


def _process(name: str, inside: str, text: str) -> list[RandomPart]:
    """Read `gp(x, y, arguments)`, one process for all rows: its variables stand first."""
    found = arguments(inside, text)
    variables = [item for keyword, item in found if keyword is None]
    number = next((item for item in variables if item.replace(".", "", 1).isdigit()), None)
    if not variables or number is not None:
        unclear = "names no variables" if number is None else f"has {number} without a name"
        raise FormulaError(f"{text!r} {unclear}: write {name}(x, y, argument=value).")
    given = {keyword: item for keyword, item in found if keyword is not None}
    return _parts(name, f"{' + '.join(variables)} | 1", given, text)


def _has_bar(name: str, inside: str) -> bool:
    try:
        pieces = lex(inside)
    except FormulaError:
        # What the user's Python has in it, such as a remainder, need not be a formula's tokens.
        if name in STRUCTURE_NAMES and "|" in inside:
            raise
        return False
    return bool(bars(pieces))


def refuse_hidden_terms(text: str, within: str) -> None:
    """Refuse what can only be an addend of a predictor where it is a part of something else."""
    for piece in lex(text):
        if piece.text == "|":
            raise FormulaError(
                f"A random term can only be added to the other terms: take it out of {within!r}."
            )
        call = call_of(piece.text) if piece.kind is Token.Kind.PYTHON else None
        if call is None:
            continue
        alone = call[0] in SPECIAL_NAMES or call[0] == "offset"
        if alone or structured_term(piece.text) is not None:
            raise FormulaError(
                f"{piece.text!r} can only be added to the other terms: take it out of {within!r}."
            )


def _parts(structure: str, inside: str, given: Mapping[str, str], text: str) -> list[RandomPart]:
    pieces = lex(inside)
    if any(p.text == "|" and p.depth > 0 for p in pieces):
        raise FormulaError(f"A random term is within the random term {text!r}: add it outside.")
    first, last, id, independent = _bars_of(pieces, text)
    columns, right = inside[: first.start].strip(), inside[last.end :].strip()
    if not columns:
        raise FormulaError(f"Nothing stands before the bar of {text!r}: write 1 for intercepts.")
    if not right:
        raise FormulaError(f"Nothing stands after the bar of {text!r}: name the grouping variable.")
    if independent and not text.startswith("("):
        raise FormulaError(
            f"'||' and a named structure contradict each other in {text!r}: "
            f"write ({columns} || {right}) or {structure}({columns} | {right})."
        )
    refuse_hidden_terms(columns, text)
    if not terms(columns):
        raise FormulaError(f"The random term {text!r} has no columns: write 1 for intercepts.")
    return [
        RandomPart(structure, columns, group, independent, id, given, text)
        for group in _groups(right, text)
    ]


def _bars_of(pieces: tuple[Piece, ...], text: str) -> tuple[Piece, Piece, str | None, bool]:
    at = bars(pieces)
    first, last = pieces[at[0]], pieces[at[-1]]
    inner = pieces[at[0] + 1 : at[-1]]
    names = [p for p in inner if p.text != "|"]
    if len(at) == 1:
        return first, last, None, False
    if len(at) == 2 and not names:
        return first, last, None, True
    name = len(names) == 1 and names[0].kind in (Token.Kind.NAME, Token.Kind.VALUE)
    if len(at) == 2 and name:
        return first, last, plain_name(names[0].text) or names[0].text, False
    if len(at) == 3 and name:
        raise FormulaError(
            f"{text!r} has both '||' and an id, but independent columns have no covariance to "
            f"share: use (x || g) or (x |id| g)."
        )
    raise FormulaError(
        f"There are too many bars in {text!r}: use (x | g), (x || g) or, with one name between "
        f"them, (x |id| g)."
    )


def _groups(right: str, text: str) -> list[Group]:
    if right == "1":
        return [Group(())]
    call = call_of(right)
    if call and call[0] == "mm":
        return [_membership(call[1], right)]
    refuse_hidden_terms(right, text)
    for piece in lex(right):
        operator = piece.kind is Token.Kind.OPERATOR and piece.text not in tuple("/:*+")
        if operator or piece.kind is Token.Kind.VALUE:
            raise FormulaError(
                f"{piece.text!r} has no meaning in the group {right!r} of {text!r}: "
                f"use a, a:b, a/b, a*b or a + b."
            )
        if piece.text.startswith("mm("):
            raise FormulaError(f"{piece.text!r} should be the whole group in {text!r}.")
    return [
        Group(tuple(_factor(factor) for factor in term.factors))
        for term in terms(right, intercept=False)
    ]


def _factor(factor: Factor) -> str:
    if factor.eval_method is Factor.EvalMethod.LOOKUP:
        return quoted(factor.expr)
    return expression(factor.expr)


def _membership(inside: str, text: str) -> Group:
    given = arguments(inside, text)
    factors = tuple(expression(item) for keyword, item in given if keyword is None)
    options = {keyword: item for keyword, item in given if keyword is not None}
    for keyword in options:
        if keyword not in ("weights", "scale"):
            known = suggestion(keyword, ["weights", "scale"])
            raise FormulaError(f"{text!r} has the unknown argument {keyword!r}. {known}")
    if len(factors) < 2:
        raise FormulaError(f"{text!r} needs two grouping variables or more: mm(g1, g2).")
    if options.get("scale", "True") not in ("True", "False"):
        raise FormulaError(f"'scale' of {text!r} should be True or False.")
    weights = _weights(options["weights"], text) if "weights" in options else ()
    if weights and len(weights) != len(factors):
        raise FormulaError(f"{text!r} has {len(factors)} groups but {len(weights)} weights.")
    return Group(factors, weights, membership=True, scale=options.get("scale") != "False")


def _weights(text: str, within: str) -> tuple[str, ...]:
    pieces = lex(text)
    if pieces[0].text not in ("(", "[") or any(p.depth == 0 for p in pieces[1:-1]):
        raise FormulaError(
            f"The weights {text!r} of {within!r} should be a tuple: weights=(w1, w2)."
        )
    given = arguments(text[1:-1], text)
    if any(keyword for keyword, _ in given):
        raise FormulaError(f"The weights {text!r} of {within!r} should have no keywords.")
    return tuple(expression(item) for _, item in given)
