"""From whole formulas to their parts: the right sides, and how the formulas go together."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from glmm_bayes.errors import FormulaError
from glmm_bayes.formula.parts import (
    SPECIAL_NAMES,
    Formula,
    Group,
    PredictorPart,
    RandomPart,
    SpecialPart,
)
from glmm_bayes.formula.random_terms import bare_term, refuse_hidden_terms, structured_term
from glmm_bayes.formula.response import read_responses
from glmm_bayes.formula.tokens import (
    Addend,
    addends,
    arguments,
    bars,
    call_of,
    expression,
    lex,
    plain_name,
    terms,
    tidy,
)


def read_formula(formula: str | Sequence[str]) -> Formula:
    """
    Take a mixed-model formula apart, or several: the first has the response.

    Each further one is `parameter ~ terms`, or `residual ~ structure(time | group)`, or has a
    response of its own.

    Raises
    ------
    FormulaError
        If a formula cannot be read, or has no single meaning.
    UnknownNameError
        If an extra of the response has a name that there is not.

    Examples
    --------
    >>> read = read_formula("y ~ x + (1 + x | a/b)")
    >>> read.predictors["mu"].fixed
    'x'
    >>> [(part.columns, part.group.label) for part in read.predictors["mu"].random]
    [('1 + x', 'a'), ('1 + x', 'a:b')]
    """
    given = _given(formula)
    sides = [_sides(text) for text in given]
    texts = tuple(f"{left} ~ {right}" for left, right in sides)
    with _within(texts[0]):
        response, *others = read_responses(sides[0][0])
        predictors = {"mu": _predictor(sides[0][1])}
    beside = [(other, predictors["mu"]) for other in others]
    residual = None
    for text, (left, right) in zip(texts[1:], sides[1:], strict=True):
        with _within(text):
            param = plain_name(left)
            if param is None:
                beside += [(other, _predictor(right)) for other in read_responses(left)]
                continue
            _check_parameter(param)
            if param in predictors or (param == "residual" and residual is not None):
                raise FormulaError(f"There are two formulas for {param!r}: put them into one.")
            if param == "residual":
                residual = _residual(right)
            else:
                predictors[param] = _predictor(right)
    every = [*predictors.values(), *(part for _, part in beside)]
    _check_ids(part for predictor in every for part in predictor.random)
    return Formula(texts, response, predictors, residual, tuple(beside))


@contextmanager
def _within(text: str) -> Iterator[None]:
    try:
        yield
    except FormulaError as error:
        message = str(error)
        if repr(text) in message:
            raise
        raise FormulaError(f"{message.removesuffix('.')}, in {text!r}.") from error


def _given(formula: str | Sequence[str]) -> Sequence[str]:
    given = [formula] if isinstance(formula, str) else formula
    texts = isinstance(given, Sequence) and all(isinstance(text, str) for text in given)
    if not texts or not given:
        raise FormulaError(
            f"A formula is a text such as 'y ~ x', or a list of them, not {formula!r}."
        )
    return given


def _sides(formula: str) -> tuple[str, str]:
    with _within(formula):
        text = tidy(formula)
        at = [p for p in lex(text) if p.text == "~"]
        if len(at) != 1 or at[0].depth:
            number = "more than one '~'" if len(at) > 1 else "no '~' outside brackets"
            raise FormulaError(f"There is {number} in {formula!r}: write 'response ~ terms'.")
        left, right = text[: at[0].start].strip(), text[at[0].end :].strip()
        if not left:
            raise FormulaError("Nothing stands before '~': name the response or the parameter.")
        if not right:
            raise FormulaError("Nothing stands after '~': write 1 for an intercept alone.")
        return left, right


def _check_parameter(name: str) -> None:
    if name == "mu":
        raise FormulaError("The formula for 'mu' is the first: move the terms there.")


def _residual(right: str) -> RandomPart:
    found = addends(right)
    part = _predictor(right)
    if len(found) != 1 or len(part.random) != 1:
        raise FormulaError(
            f"The residual has one structure and nothing else: ar1(time | g), say, not {right!r}."
        )
    return part.random[0]


def _predictor(right: str) -> PredictorPart:
    found = addends(right)
    _refuse_open_bar(right, found)
    fixed = ""
    offsets: list[str] = []
    random: list[RandomPart] = []
    special: list[SpecialPart] = []
    for addend in found:
        call = call_of(addend.text)
        parts = bare_term(addend.text) or structured_term(addend.text)
        if parts:
            random += parts
        elif call and call[0] == "offset":
            offsets.append(_offset(*call))
        elif call and call[0] in SPECIAL_NAMES:
            part = _special(*call, addend.text)
            levels = _independent_levels(part)
            random += levels
            special += [] if levels else [part]
        else:
            refuse_hidden_terms(addend.text, addend.text)
            sign = "-" if addend.negative else "+"
            fixed += f" {sign} {addend.text}" if fixed else sign.strip("+") + addend.text
            continue
        if addend.negative:
            raise FormulaError(f"{addend.text!r} can be added but not subtracted: leave it out.")
    _refuse_twins(random)
    # Where nothing is left there was no 0 either: the intercept is implied.
    fixed = fixed or "1"
    terms(fixed)
    return PredictorPart(fixed, tuple(offsets), tuple(random), tuple(special))


def _refuse_open_bar(right: str, found: Sequence[Addend]) -> None:
    pieces = lex(right)
    at = bars(pieces)
    if not at:
        return
    first = last = max(k for k, a in enumerate(found) if a.start <= pieces[at[0]].start)
    while first > 0 and "|" not in found[first - 1].text:
        first -= 1
    term = right[found[first].start : found[last].start + len(found[last].text)]
    raise FormulaError(f"Put parentheses around the random-effect term {term!r}: ({term}).")


def _offset(name: str, inside: str) -> str:
    text = f"{name}({inside})"
    given = arguments(inside, text)
    if len(given) != 1 or given[0][0] is not None:
        raise FormulaError(f"{text!r} should have one argument.")
    return expression(given[0][1])


def _special(name: str, inside: str, text: str) -> SpecialPart:
    given = arguments(inside, text)
    return SpecialPart(name, tuple(f"{k}={item}" if k else item for k, item in given), text)


def _independent_levels(part: SpecialPart) -> list[RandomPart]:
    """Read `s(g, bs="re")`, which is `(1 | g)`."""
    basis = part.options.get("bs", "")
    if part.name != "s" or basis.strip("\"'") != "re":
        return []
    if len(part.places) != 1 or set(part.options) - {"bs", "k"}:
        raise FormulaError(
            f"{part.text!r} should be a random term: write (1 | g) for {part.name}(g, bs={basis}), "
            f"and (0 + x | g) for slopes."
        )
    group = Group((expression(part.places[0]),))
    return [RandomPart("us", "1", group, False, None, {}, part.text)]


def _refuse_twins(random: Iterable[RandomPart]) -> None:
    seen: dict[object, str] = {}
    for part in random:
        columns = frozenset(str(term) for term in terms(part.columns))
        # In the order a:b or b:a, the groups are the same.
        group = (frozenset(part.group.factors), part.group.membership, part.group.weights)
        key = (part.structure, columns, group, tuple(part.arguments.items()))
        if key in seen:
            raise FormulaError(
                f"{seen[key]!r} and {part.text!r} are the same term on group "
                f"{part.group.label!r}: leave one out."
            )
        seen[key] = part.text


def _check_ids(random: Iterable[RandomPart]) -> None:
    seen: dict[str, RandomPart] = {}
    for part in random:
        if part.id is None:
            continue
        first = seen.setdefault(part.id, part)
        if (first.group, first.structure) != (part.group, part.structure):
            raise FormulaError(
                f"{first.text!r} and {part.text!r} have the id {part.id!r} but not the same group "
                f"and structure: give them different ids."
            )
