"""Formulas that lack one part of a random term: a correlation, a column, or all of it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from glmm_bayes.formula import RandomPart
from glmm_bayes.model import Model
from glmm_bayes.verbs.by_response import refuse_several


@dataclass(frozen=True)
class Shorter:
    """A formula, `texts` as `gb.Model` takes them, and in words what it lacks."""

    lacks: str
    texts: tuple[str, ...]


def shorter(model: Model) -> list[Shorter]:
    """List the formulas that lack one part of a random term of the mean."""
    refuse_several(model, "What is left out", "compare two fits, anova(other)")
    parts = model.formula.predictors["mu"].random
    return [
        Shorter(lacks, _texts(model, [*parts[:k], *kept, *parts[k + 1 :]]))
        for k, part in enumerate(parts)
        for lacks, kept in _without(model, part)
    ]


def _without(model: Model, part: RandomPart) -> Iterator[tuple[str, list[RandomPart]]]:
    group = part.group.label
    names = _column_terms(model, part)
    plain = part.structure == "us" and part.id is None and not part.group.membership
    if not plain or len(names) < 2:
        yield f"effects of {group}", []
        return
    if not part.independent:
        yield f"correlations of {group}", [_written(part, names, independent=True)]
    for name in names:
        others = [other for other in names if other != name]
        above = any(set(name.split(":")) < set(other.split(":")) for other in others)
        if name != "1" and not above:
            yield f"{name} of {group}", [_written(part, others, independent=part.independent)]


def _column_terms(model: Model, part: RandomPart) -> list[str]:
    """Name the terms of a random term's columns, an intercept as 1."""
    for term in model.design.terms:
        if term.text == part.text and term.label == part.group.label.replace("/", "_"):
            loading = next(g for g in term.loadings if g.param == "mu")
            return list(loading.matrix.term_names)
    return [part.columns]


def _written(part: RandomPart, names: list[str], *, independent: bool) -> RandomPart:
    columns = " + ".join(names if "1" in names else ["0", *names])
    bar = "||" if independent and len(names) > 1 else "|"
    text = f"({columns} {bar} {':'.join(part.group.factors)})"
    return replace(part, columns=columns, independent=independent, text=text)


def _texts(model: Model, parts: list[RandomPart]) -> tuple[str, ...]:
    """Write the first formula with other random terms."""
    mean = model.formula.predictors["mu"]
    random = [
        part.text
        if "/" not in part.text
        else _written(part, [part.columns], independent=False).text
        for part in parts
    ]
    offsets = [f"offset({text})" for text in mean.offsets]
    right = [mean.fixed or "1", *offsets, *(special.text for special in mean.special), *random]
    response = model.formula.response.text
    return (f"{response} ~ {' + '.join(right)}", *model.formula.texts[1:])
