"""Ask about linear combinations of the population-level coefficients."""

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from glmm_bayes.errors import FormulaError, UnknownNameError
from glmm_bayes.fit import Fit
from glmm_bayes.registry import suggestion
from glmm_bayes.verbs.intervals import table

SIGNS = {ast.Gt: ">", ast.GtE: ">", ast.Lt: "<", ast.LtE: "<", ast.Eq: "="}
PLACE = "_coefficient_{}_"
NO_WORD = re.compile(r"\W")


@dataclass(frozen=True)
class Linear:
    """A number plus a weighted sum of coefficients, whose names are the keys."""

    constant: float
    weights: Mapping[str, float]

    def plus(self, other: "Linear", times: float = 1.0) -> "Linear":
        """Add a multiple of another sum."""
        weights = dict(self.weights)
        for name, w in other.weights.items():
            weights[name] = weights.get(name, 0.0) + times * w
        return Linear(self.constant + times * other.constant, weights)


def hypothesis(fit: Fit, statement: str, *, level: float = 0.95) -> pd.DataFrame:
    """
    Ask how probable a linear statement about coefficients is, or test it.

    Parameters
    ----------
    statement
        Such as `"Days > 5"`, `"a - b = 0"`, `"2 * x + z < 1"`: coefficients by the names that
        `fixef` gives, in backticks where that helps reading, with `sigma:x` for those of other
        parameters.
    level
        Probability of the equal-tailed interval, or of Wald's.

    Returns
    -------
    DataFrame
        One row: `hypothesis`; `estimate, std_error, lower, upper` of the left side less the
        right. Of a posterior: `probability`, for `>` and `<` that the statement is true, for `=`
        twice the smaller of the two tails about zero (small where zero lies far out);
        `evidence_ratio`, the odds of a `>` or `<`, NaN for `=`. Of a maximum: `statistic` (z),
        `df` (infinite), `p_value`: two-sided for `=`; for `>` and `<` one-sided, the statement
        being the alternative, so that a small one speaks for it.

    Raises
    ------
    FormulaError
        If the statement is not one comparison of linear expressions.
    UnknownNameError
        If a name is that of no coefficient.
    """
    coefficients = coefficient_draws(fit)
    sign, difference = read_statement(statement, list(coefficients))
    values = _combine(difference, coefficients, fit.draws.size)
    found = table(fit, values[:, None], level).assign(**fit.evidence(values, sign))
    found.insert(0, "hypothesis", statement)
    return found


def probability_of(draws: np.ndarray, sign: str) -> dict[str, float]:
    """Give `probability` and `evidence_ratio` of a number `(S,)` being above or below zero."""
    above, below = float((draws > 0).mean()), float((draws < 0).mean())
    if sign == "=":
        return {"probability": min(1.0, 2 * min(above, below)), "evidence_ratio": np.nan}
    probability = above if sign == ">" else below
    odds = probability / (1 - probability) if probability < 1 else np.inf
    return {"probability": probability, "evidence_ratio": odds}


def contrast(fit: Fit, weights: Mapping[str, float], *, level: float = 0.95) -> pd.DataFrame:
    """
    Estimate a weighted sum of coefficients.

    Parameters
    ----------
    weights
        From names of coefficients, as in `hypothesis`, to their weights.
    level
        Probability of the interval.

    Returns
    -------
    DataFrame
        One row: `contrast, estimate, std_error, lower, upper`, and of a maximum `statistic` (z),
        `df`, `p_value` (two-sided).
    """
    coefficients = coefficient_draws(fit)
    for name in weights:
        if name not in coefficients:
            raise _unknown(name, coefficients)
    linear = Linear(0.0, {name: float(w) for name, w in weights.items()})
    values = _combine(linear, coefficients, fit.draws.size)[:, None]
    found = table(fit, values, level).assign(**fit.tests(values))
    found.insert(0, "contrast", " + ".join(f"{w:g} * {n}" for n, w in linear.weights.items()))
    return found


def coefficient_draws(fit: Fit) -> dict[str, np.ndarray]:
    """Give the draws `(S,)` of every coefficient, those of other parameters as `sigma:x`."""
    found = {}
    for param, beta in fit.draws.beta.items():
        predictor = fit.model.design.predictors[param]
        for k, name in enumerate(predictor.names):
            found[predictor.prefix + name] = beta[:, k]
    return found


class NotThereError(LookupError):
    """A word of a statement that stands for nothing; its only argument is the word."""


def read_statement(
    text: str, names: Sequence[str], what: str = "coefficient"
) -> tuple[str, Linear]:
    """
    Take a statement apart into its sign and its left side less its right.

    Examples
    --------
    >>> read_statement("2 * f[T.b] > x + 1", ["x", "f[T.b]"])
    ('>', Linear(constant=-1.0, weights={'f[T.b]': 2.0, 'x': -1.0}))
    """
    try:
        return _read(text, names)
    except NotThereError as error:
        raise _unknown(error.args[0], names, what) from None


def _read(text: str, names: Sequence[str]) -> tuple[str, Linear]:
    source = re.sub(r"(?<![<>=!])=(?!=)", "==", _with_places(text, names))
    try:
        tree = ast.parse(source.strip(), mode="eval").body
    except SyntaxError as error:
        raise FormulaError(
            f"The hypothesis {text!r} cannot be read; write it as 'a - 2 * b > 1', with names "
            f"from {', '.join(names)}."
        ) from error
    if not isinstance(tree, ast.Compare) or len(tree.ops) != 1 or type(tree.ops[0]) not in SIGNS:
        raise FormulaError(
            f"The hypothesis {text!r} must have exactly one of >, < and =, as in 'a > 0'."
        )
    left = _linear(tree.left, text, names)
    right = _linear(tree.comparators[0], text, names)
    return SIGNS[type(tree.ops[0])], left.plus(right, -1.0)


def _with_places(text: str, names: Sequence[str]) -> str:
    """Put Python identifiers in place of the coefficients' names, the longest name first."""
    longest = sorted(names, key=len, reverse=True)
    out, at = [], 0
    while at < len(text):
        if text[at] == "`":
            end = text.find("`", at + 1)
            quoted = text[at + 1 : end]
            if end < 0 or quoted not in names:
                raise NotThereError(quoted if end > 0 else text[at:])
            out.append(PLACE.format(names.index(quoted)))
            at = end + 1
            continue
        found = next((n for n in longest if _stands_at(n, text, at)), None)
        # Otherwise a whole word at once: no name begins in the middle of one.
        piece = found or NO_WORD.split(text[at:], maxsplit=1)[0] or text[at]
        out.append(PLACE.format(names.index(found)) if found else piece)
        at += len(piece)
    return "".join(out)


def _stands_at(name: str, text: str, at: int) -> bool:
    """Tell whether a name is in a text at a position, and not as the start of a longer one."""
    after = text[at + len(name) : at + len(name) + 1]
    goes_on = after != "" and (NO_WORD.match(after) is None or after in "[(")
    return text.startswith(name, at) and not (goes_on and NO_WORD.match(name[-1]) is None)


def _linear(node: ast.expr, text: str, names: Sequence[str]) -> Linear:
    match node:
        case ast.Constant(value=int() | float() as value):
            return Linear(float(value), {})
        case ast.Name(id=name):
            return _coefficient(name, names)
        case ast.Subscript() | ast.Call() | ast.Attribute():
            raise NotThereError(_in_users_words(ast.unparse(node), names))
        case ast.UnaryOp(op=ast.USub(), operand=inside):
            return Linear(0.0, {}).plus(_linear(inside, text, names), -1.0)
        case ast.UnaryOp(op=ast.UAdd(), operand=inside):
            return _linear(inside, text, names)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as op, right=right):
            times = 1.0 if isinstance(op, ast.Add) else -1.0
            return _linear(left, text, names).plus(_linear(right, text, names), times)
        case ast.BinOp(left=left, op=ast.Mult() | ast.Div() as op, right=right):
            a, b = _linear(left, text, names), _linear(right, text, names)
            if isinstance(op, ast.Mult) and not a.weights:
                a, b = b, a
            if not b.weights and (b.constant or isinstance(op, ast.Mult)):
                times = b.constant if isinstance(op, ast.Mult) else 1 / b.constant
                return Linear(0.0, {}).plus(a, times)
    raise FormulaError(
        f"The hypothesis {text!r} is not linear in the coefficients; use +, -, and "
        f"multiplication or division by a number."
    )


def _coefficient(word: str, names: Sequence[str]) -> Linear:
    places = {PLACE.format(k): name for k, name in enumerate(names)}
    if word not in places:
        raise NotThereError(word)
    return Linear(0.0, {places[word]: 1.0})


def _in_users_words(source: str, names: Sequence[str]) -> str:
    for k, name in enumerate(names):
        source = source.replace(PLACE.format(k), name)
    return source


def _unknown(
    name: str, names: Mapping[str, object] | Sequence[str], what: str = "coefficient"
) -> UnknownNameError:
    return UnknownNameError(f"There is no {what} {name!r}. {suggestion(name, names)}")


def _combine(linear: Linear, draws: Mapping[str, np.ndarray], size: int) -> np.ndarray:
    total = np.full(size, linear.constant)
    for name, weight in linear.weights.items():
        total += weight * draws[name]
    return total
