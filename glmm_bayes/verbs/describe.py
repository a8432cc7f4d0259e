"""Say in words and tables what a model is, before it is fitted."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from glmm_bayes.model import Model
from glmm_bayes.priors import Prior
from glmm_bayes.terms import RandomTerm
from glmm_bayes.verbs.audit import audit
from glmm_bayes.verbs.printing import Facts, Grid, Page, Part, Row, right


def describe(model: Model) -> Page:
    """Lay out formula, family, rows, groups, priors, and what the audit finds."""
    parts: list[Part] = [Facts(model_facts(model))]
    if model.design.terms:
        parts.append(_groups(model))
    parts += [_priors(model), audit(model).sentences]
    return Page(f"{model_title(model)}, not yet fitted", tuple(parts))


def model_title(model: Model) -> str:
    """Name the kind of model."""
    return f"Generalized linear {'mixed ' if model.design.terms else ''}model"


def model_facts(model: Model) -> tuple[tuple[str, str], ...]:
    """Give formulas, family and links, and rows used and left out."""
    heads = ["Formula", *[""] * (len(model.formula.texts) - 1)]
    shown = [k for k, p in model.design.predictors.items() if p.part.step is None]
    links = ", ".join(f"of {param}: {model.links[param].name}" for param in shown)
    return (
        *zip(heads, model.formula.texts, strict=True),
        ("Family", f"{model.family.name} (link {links})"),
        *_categories(model),
        ("Rows", _rows(model)),
    )


def _categories(model: Model) -> tuple[tuple[str, str], ...]:
    """Give the categories of the response in order, if it has such."""
    found = model.family.categories
    if found is None:
        return ()
    between = " < " if found.thresholds else ", "
    first = "" if found.thresholds else "; compared with the first"
    return (("Categories", between.join(found.labels) + first),)


def prior_table(model: Model) -> pd.DataFrame:
    """
    List every parameter's prior.

    Returns
    -------
    DataFrame
        `parameter`, as it is called in `priors`; `distribution`, `arguments` as text (`Fixed` for
        one held at a value); `source`, "default" or "user" with the name it was given under.
    """
    rows = [
        (name, prior.distribution, _arguments(prior), _source(source))
        for name, prior, source in _stated(model)
    ]
    return pd.DataFrame(rows, columns=["parameter", "distribution", "arguments", "source"])


def _stated(model: Model) -> Iterator[tuple[str, Prior, str]]:
    """Give the priors as they are stated: of the reported values, not of the sampled."""
    shown: set[str] = set()
    for block in model.blocks:
        # What has no key is made of others, or for others, whose prior says how.
        named = [k for k, keys in enumerate(block.keys) if keys]
        names = [block.keys[k][0] for k in named]
        if block.stated is None or not named:
            yield from ((block.keys[k][0], block.priors[k], block.sources[k]) for k in named)
        elif names[0] not in shown:
            shown.add(names[0])
            yield names[0], block.stated, block.sources[0]


def _arguments(prior: Prior) -> str:
    return repr(prior).removeprefix(f"{prior.distribution}(").removesuffix(")")


def _source(source: str) -> str:
    return source if source == "default" else f"user: {source}"


def _rows(model: Model) -> str:
    parts = [f"{part.label} in {part.design.n}" for part in model.observed]
    if any(part.design.n < model.nobs for part in model.observed):
        return f"{_used(model)}; {', '.join(parts)}"
    return _used(model)


def _used(model: Model) -> str:
    rows = model.design.rows
    if len(rows.kept) == rows.total:
        return f"{model.nobs}"
    missing = ", ".join(f"{name} ({count})" for name, count in rows.missing.items())
    left = rows.total - len(rows.kept)
    return f"{model.nobs} of {rows.total}; {left} left out, with values missing in {missing}"


def _groups(model: Model) -> Grid:
    terms = model.design.terms
    numbers = right("levels", [str(term.shown) for term in terms])
    rows = tuple(
        (
            term.text,
            term.label,
            "centred" if model.centering[term.name] else "non-centred",
            _rows_a_level(term),
            count,
        )
        for term, count in zip(terms, numbers[1:], strict=True)
    )
    header = ("term", "group", "sampled", "rows a level", numbers[0])
    return Grid("Groups", header, (("", rows),), words=4)


def _rows_a_level(term: RandomTerm) -> str:
    counts = np.bincount(term.index.ravel(), minlength=term.shown)[: term.shown]
    low, high = counts.min(), counts.max()
    return f"{low}" if low == high else f"{low} to {high}, median {np.median(counts):g}"


def _priors(model: Model) -> Grid:
    rows: list[Row] = [
        (name, repr(prior), _source(source)) for name, prior, source in _stated(model)
    ]
    return Grid("Priors", ("parameter", "prior", "source"), (("", tuple(rows)),), words=3)


def predictor_label(model: Model, param: str) -> str:
    """Say on which scale a parameter's linear predictor is."""
    link = model.links[param].name
    return param if link == "identity" else f"{link}({param})"
