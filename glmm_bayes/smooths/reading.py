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
    group
        The factor each level of which has a curve of its own, about none.
    """

    margins: tuple[tuple[str, ...], ...]
    bases: tuple[str, ...]
    sizes: tuple[int | None, ...]
    by: str | None
    label: str
    text: str
    group: str | None = None

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
        if _is_by_group(special):
            return cls._by_group(special)
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

    @classmethod
    def _by_group(cls, special: SpecialPart) -> "SmoothPart":
        *variables, group = special.places
        if not variables or "by" in special.options:
            raise FormulaError(
                f"{special.text!r} should have variables and, last, the factor whose levels have "
                f"a curve each: s(x, g, bs='fs')."
            )
        called = ",".join(plain_name(v) or v for v in special.places)
        written = ast.literal_eval(special.options["bs"])
        basis = "tp" if isinstance(written, str) else str(written[1])
        return cls(
            margins=(tuple(variables),),
            bases=(basis,),
            sizes=_each(special, "k", None, 1, int),
            by=None,
            label=f"s({called})".replace("/", "_"),
            text=special.text,
            group=group,
        )


def _is_by_group(special: SpecialPart) -> bool:
    """Tell whether the basis is `"fs"`, or `("fs", basis)`."""
    try:
        written = ast.literal_eval(special.options.get("bs", "''"))
    except (ValueError, SyntaxError):
        return False
    named = (written,) if isinstance(written, str) else written
    found = isinstance(named, tuple) and named[:1] == ("fs",) and len(named) <= 2
    return found and special.name == "s"


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
    """List the expressions over columns that the smooths of a predictor need, groups apart."""
    smooths = _smooths(part)
    texts = [v for smooth in smooths for margin in smooth.margins for v in margin]
    return [expression(t) for t in [*texts, *(s.by for s in smooths if s.by is not None)]]


def smooth_groups(part: PredictorPart) -> list[str]:
    """List the factors whose levels have curves that vary about none."""
    return [expression(smooth.group) for smooth in _smooths(part) if smooth.group is not None]


def _smooths(part: PredictorPart) -> list[SmoothPart]:
    return [SmoothPart.read(special) for special in part.special if special.name in SMOOTHS]
