"""Formulaic's tokens, one symbol at a time; what they mean in a mixed model is not known here."""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from formulaic.parser import DefaultFormulaParser
from formulaic.parser.algos.tokenize import tokenize
from formulaic.parser.types import Factor, Term, Token
from formulaic.utils.code import sanitize_variable_names
from formulaic.utils.variables import Variable, get_required_variables

from glmm_bayes.errors import FormulaError

# One-sided and of one part: formulaic would take a bar for the start of another right side.
_ONE_PART = DefaultFormulaParser.FeatureFlags.NONE
_CLOSERS = {"(": ")", "[": "]"}


@dataclass(frozen=True)
class Piece:
    """A token, or one symbol of a run of operators, with the number of brackets round it."""

    kind: Token.Kind
    text: str
    start: int
    end: int
    depth: int


@dataclass(frozen=True)
class Addend:
    """One of the texts between the plus and minus signs of a sum."""

    negative: bool
    text: str
    start: int


def lex(text: str) -> tuple[Piece, ...]:
    """
    Cut a text into pieces, with all its quotes and brackets closed.

    Examples
    --------
    >>> [piece.text for piece in lex("x || `my g`")]
    ['x', '|', '|', '`my g`']
    """
    try:
        tokens = list(tokenize(text))
    except Exception as error:  # formulaic's own, and what its internals raise on odd input
        raise FormulaError(f"{text!r} cannot be read: {_reason(error)}.") from error
    pieces: list[Piece] = []
    opened: list[Piece] = []
    for token in tokens:
        start, end = _span(token, text)
        if token.kind is Token.Kind.OPERATOR:
            pieces += _symbols(token, text, len(opened))
        elif token.kind is Token.Kind.CONTEXT and token.token not in _CLOSERS:
            if not opened or _CLOSERS[opened.pop().text] != token.token:
                raise FormulaError(f"{text[:end]!r} closes a bracket that is not open.")
            pieces.append(Piece(token.kind, token.token, start, end, len(opened)))
        else:
            pieces.append(Piece(token.kind, text[start:end], start, end, len(opened)))
            if token.kind is Token.Kind.CONTEXT:
                opened.append(pieces[-1])
    if opened:
        left = text[opened[-1].start :]
        raise FormulaError(f"A {_CLOSERS[opened[-1].text]!r} is missing after {left!r}.")
    _refuse_gaps(pieces, text)
    return tuple(pieces)


def _refuse_gaps(pieces: Sequence[Piece], text: str) -> None:
    # Formulaic makes no token of quotes with nothing in them.
    starts = [0, *(p.end for p in pieces)]
    ends = [*(p.start for p in pieces), len(text)]
    for start, end in zip(starts, ends, strict=True):
        gap = text[start:end].strip()
        if gap:
            raise FormulaError(f"Nothing is quoted by {gap!r}: give a name.")


def _span(token: Token, text: str) -> tuple[int, int]:
    start, end = token.source_start, token.source_end + 1
    if text[start] == "%":
        raise FormulaError(
            f"{text[start : end + 1]!r} does not mean here what it means in R: write a:b or a/b."
        )
    if text[start] in "`{":
        end += 1
        if text[start + 1 : end - 1] != token.token:
            raise FormulaError(f"Nothing is quoted by {text[start : start + 2]!r}: give a name.")
    elif token.kind is Token.Kind.NAME and text[start] in "\"'":
        raise FormulaError(f"An operator is missing in {text[start:end]!r}: names need no quotes.")
    return start, end


def _symbols(token: Token, text: str, depth: int) -> Iterator[Piece]:
    at = token.source_start
    for symbol in token.token:
        # Formulaic leaves out the blanks in a run of operators, as in 'x + -1'.
        at = text.index(symbol, at)
        yield Piece(token.kind, symbol, at, at + 1, depth)
        at += 1


def tidy(text: str) -> str:
    r"""
    Put one blank where there is any white space between tokens.

    Examples
    --------
    >>> tidy(" y ~ x +\n  `my  z`")
    'y ~ x + `my  z`'
    """
    done, at = "", 0
    for piece in lex(text):
        done += (" " if done and piece.start > at else "") + piece.text
        at = piece.end
    return done


def plain_name(expression: str) -> str | None:
    """
    Give the column's name if an expression is nothing but one, bare or in backticks.

    Examples
    --------
    >>> plain_name("`my x`"), plain_name("log(x)")
    ('my x', None)
    """
    try:
        pieces = lex(expression)
    except FormulaError:
        return None
    if len(pieces) != 1 or pieces[0].kind is not Token.Kind.NAME:
        return None
    text = pieces[0].text
    return text[1:-1] if text.startswith("`") else text


def quoted(name: str) -> str:
    """Give a column's name as a formula has it: in backticks where it needs them."""
    return name if plain_name(name) == name else f"`{name}`"


def bars(pieces: tuple[Piece, ...]) -> list[int]:
    """Find the bars that are in no brackets."""
    return [k for k, p in enumerate(pieces) if p.text == "|" and p.depth == 0]


def addends(text: str) -> list[Addend]:
    """
    Take a sum apart at the signs that are in no brackets.

    Examples
    --------
    >>> [(a.negative, a.text) for a in addends("a * b - (c + d)")]
    [(False, 'a * b'), (True, '(c + d)')]
    """
    found: list[Addend] = []
    negative = False
    first: Piece | None = None
    last: Piece | None = None
    for piece in lex(text):
        if piece.depth == 0 and piece.text in ("+", "-"):
            if first and last:
                found.append(Addend(negative, text[first.start : last.end], first.start))
                negative, first = False, None
            negative ^= piece.text == "-"
        else:
            first = first or piece
        last = piece
    if not first or not last:
        raise FormulaError(f"A term is missing at the end of {text!r}.")
    return [*found, Addend(negative, text[first.start : last.end], first.start)]


def call_of(text: str) -> tuple[str, str] | None:
    """
    Give a call's name and what is in its parentheses, or None if the text is something else.

    Examples
    --------
    >>> call_of("ar1(t | g)"), call_of("x + f(x)")
    (('ar1', 't | g'), None)
    """
    pieces = lex(text)
    if len(pieces) != 1 or pieces[0].kind is not Token.Kind.PYTHON or not text.endswith(")"):
        return None
    name, _, rest = text.partition("(")
    return (name, rest[:-1]) if plain_name(name) else None


def arguments(inside: str, text: str) -> list[tuple[str | None, str]]:
    """Take the arguments of the call `text` apart, each with its keyword if it has one."""
    cuts = [p for p in lex(inside) if p.text == "," and p.depth == 0]
    starts = [0, *(p.end for p in cuts)]
    ends = [*(p.start for p in cuts), len(inside)]
    found: list[tuple[str | None, str]] = []
    for start, end in zip(starts, ends, strict=True):
        item = inside[start:end].strip()
        pieces = lex(item)
        keyword = None
        if [p.text for p in pieces[1:2]] == ["="] and [p.text for p in pieces[2:3]] != ["="]:
            keyword, item = pieces[0].text, item[pieces[1].end :].strip()
        if not item:
            raise FormulaError(f"An argument of {text!r} is empty: fill it in or leave it out.")
        if keyword is not None and keyword in (k for k, _ in found):
            raise FormulaError(f"{text!r} has the argument {keyword!r} twice: leave one out.")
        found.append((keyword, item))
    return found


def terms(text: str, *, intercept: bool = True) -> list[Term]:
    """Have formulaic read a right side, so that what it cannot read is an error here."""
    for piece in lex(text):
        if piece.text == ".":
            raise FormulaError(f"The '.' in {text!r} has no fixed meaning: write the columns out.")
        if piece.text == "~":
            raise FormulaError(f"There is a '~' within {text!r}: leave it out.")
        if piece.text == "[":
            raise FormulaError(f"Use parentheses for the square brackets in {text!r}.")
    parser = DefaultFormulaParser(include_intercept=intercept, feature_flags=_ONE_PART)
    try:
        found = list(parser.get_terms(text).root)
    except Exception as error:  # formulaic's own, and what its internals raise on odd input
        raise FormulaError(f"{text!r} cannot be read: {_reason(error)}.") from error
    for factor in (factor for term in found for factor in term.factors):
        if factor.eval_method is Factor.EvalMethod.PYTHON:
            _check_python(factor.expr)
    return found


def expression(text: str) -> str:
    """
    Check a Python expression, and give it as one that formulaic reads as one term.

    Examples
    --------
    >>> expression("log(y)"), expression("s / n")
    ('log(y)', 'I(s / n)')
    """
    _check_python(text)
    pieces = lex(text)
    if len(pieces) == 1 and (pieces[0].kind is Token.Kind.NAME or call_of(text)):
        return text
    # Outside a call formulaic takes operators for formula algebra: a - b would lose b.
    term = f"I({text})"
    # A comment at the end of the text would swallow the parenthesis.
    _check_python(term)
    return term


def variables(factor: Factor) -> set[Variable]:
    """
    List the names in a factor of formulaic's.

    Examples
    --------
    >>> sorted(map(str, variables(Factor("bs(`my x`, df=5)", eval_method="python"))))
    ['bs', 'my x']
    """
    if factor.eval_method is Factor.EvalMethod.PYTHON:
        # Not `required_variables`: of bs(x), poly(x, 2) or scale(x) it knows none.
        return get_required_variables(factor.expr, {})
    return factor.required_variables


def _check_python(text: str) -> None:
    if plain_name(text) is not None:
        return  # a column may be called as a word of Python's is
    try:
        tree = ast.parse(sanitize_variable_names(text, {}, {}), mode="eval")
    except Exception as error:  # SyntaxError, and what formulaic raises on odd backticks
        raise FormulaError(f"{text!r} cannot be read: {_reason(error)}.") from error
    if isinstance(tree.body, ast.Tuple):
        raise FormulaError(f"{text!r} should be one expression, without a comma.")
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitXor):
            raise FormulaError(
                f"Python takes ^ in {text!r} for exclusive or: write ** for a power."
            )
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            raise FormulaError(
                f"The bar in {text!r} is not that of a random term: add the term outside, "
                f"or write np.logical_or(a, b)."
            )


def _reason(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")
