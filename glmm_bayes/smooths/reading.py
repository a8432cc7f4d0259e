"""The arguments of a smooth, as the formula has them: which variables, which basis, how large."""

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from glmm_bayes.errors import FormulaError
from glmm_bayes.formula import PredictorPart, SpecialPart, expression, plain_name
from glmm_bayes.registry import suggestion

SMOOTHS = ("s", "t2")
OPTIONS = ("k", "bs", "by")


@dataclass(frozen=True)
class SmoothPart:
    """
    One smooth of a formula, such as `s(x, k=5)` or `t2(x, z)`.

    Attributes
    ----------
    margins
        Which variables share a basis: all of them in `s`, each by itself in `t2`.
    bases, sizes
        For every margin, the name of its basis, and k where it is given.
    by
        The variable that the smooth is multiplied by, or whose levels have one each.
    label
        What results call it, `s(x)`.
    text
        The term, in the user's words.
    """

    margins: tuple[tuple[str, ...], ...]
    bases: tuple[str, ...]
    sizes: tuple[int | None, ...]
    by: str | None
    label: str
    text: str

    @classmethod
    def read(cls, special: SpecialPart) -> "SmoothPart":
        """
        Read the arguments.

        Raises
        ------
        FormulaError
            If there is none to smooth over, one twice, or an option that cannot be read.

        Examples
        --------
        >>> part = SmoothPart.read(SpecialPart("t2", ("x", "z", "k=(5, 6)"), "t2(x, z, k=(5, 6))"))
        >>> part.margins, part.bases, part.sizes, part.label
        ((('x',), ('z',)), ('cr', 'cr'), (5, 6), 't2(x,z)')
        """
        variables, text = special.places, special.text
        if not variables:
            raise FormulaError(f"{text!r} has no variable to smooth over: write {special.name}(x).")
        if len(set(variables)) < len(variables):
            raise FormulaError(f"{text!r} has a variable twice: leave one out.")
        unknown = next((name for name in special.options if name not in OPTIONS), None)
        if unknown is not None:
            raise FormulaError(
                f"{text!r} has the unknown argument {unknown!r}. {suggestion(unknown, OPTIONS)}"
            )
        tensor = special.name == "t2"
        if tensor and len(variables) < 2:
            raise FormulaError(f"{text!r} needs two variables or more; of one write s(x).")
        margins = tuple((v,) for v in variables) if tensor else (variables,)
        called = ",".join(plain_name(v) or v for v in variables)
        return cls(
            margins=margins,
            bases=tuple(
                map(str, _each(special, "bs", "cr" if tensor else "tp", len(margins), str))
            ),
            sizes=_each(special, "k", None, len(margins), int),
            by=special.options.get("by"),
            label=f"{special.name}({called})".replace("/", "_"),
            text=text,
        )


def _each(special: SpecialPart, name: str, default: Any, count: int, kind: type) -> tuple[Any, ...]:
    """Give an option of every margin: one for all, or one for each."""
    if name not in special.options:
        return (default,) * count
    written = special.options[name]
    wanted = "a whole number" if kind is int else "a text in quotes"
    several = f", or {count} of them in parentheses" if count > 1 else ""
    try:
        value = ast.literal_eval(written)
    except (ValueError, SyntaxError) as error:
        raise FormulaError(
            f"{name}={written} of {special.text!r} should be {wanted}{several}."
        ) from error
    found = tuple(value) if isinstance(value, tuple | list) else (value,) * count
    if len(found) != count or not _all_are(found, kind):
        raise FormulaError(f"{name}={written} of {special.text!r} should be {wanted}{several}.")
    return found


def _all_are(found: Sequence[Any], kind: type) -> bool:
    return all(isinstance(v, kind) and not isinstance(v, bool) for v in found)


def smooth_texts(part: PredictorPart) -> list[str]:
    """List the expressions over columns that the smooths of a predictor need."""
    smooths = [SmoothPart.read(s) for s in part.special if s.name in SMOOTHS]
    texts = [v for smooth in smooths for margin in smooth.margins for v in margin]
    return [expression(t) for t in [*texts, *(s.by for s in smooths if s.by is not None)]]
