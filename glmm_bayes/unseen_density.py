"""What is not in the data, handed to the engine: what is sampled, and what is integrated out."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from glmm_bayes.engine.density.sources import Integrated
from glmm_bayes.engine.density.sources import Measured as MeasuredValues
from glmm_bayes.engine.density.sources import Missing as MissingValues
from glmm_bayes.engine.density.unseen import NOTHING, Product, Source, Unseen, Variable, Widening
from glmm_bayes.families.by_response import support_of_response
from glmm_bayes.model import Model
from glmm_bayes.unseen import Measured, Missing


def integrated(model: Model) -> Measured | None:
    """
    Give what was measured with errors and can be integrated out exactly, if there is such.

    That is so where a single normal response is linear in the true values of each row, and
    nothing else depends on them: then it is normal given the measurements.
    """
    design = model.design
    if len(design.measured) != 1 or design.residual is not None:
        return None
    measured = design.measured[0]
    using = [
        (param, product)
        for param, predictor in design.predictors.items()
        for product in predictor.products
        if set(product.of) & set(measured.texts)
    ]
    params = {param for param, _ in using}
    part = next(part for part in model.observed if params & set(part.names.values()))
    alone = params == {part.main} and all(len(product.of) == 1 for _, product in using)
    sigma = part.names.get("sigma", "")
    plain = part.family.normal and model.links[part.main].name == "identity"
    linear = plain and np.array_equal(part.family.working(part.design.y), part.design.y)
    weighed = part.design.response.weights is not None
    independent = model.family.responses is None or model.family.responses.correlated is None
    imputed = any(model.observed[one.place].main == part.main for one in design.imputed)
    fits = alone and linear and independent and sigma in model.constants
    return measured if fits and not (weighed or imputed or measured.in_groups) else None


def read_unseen(model: Model, start: int) -> tuple[Unseen, int]:
    """Place what is unseen behind all else, and give where that ends."""
    design = model.design
    if not design.has_unknowns:
        return NOTHING, start
    sources: list[Source] = []
    aside = integrated(model)
    for each in design.measured:
        whole = each is not aside
        sources.append(_measured(model, each, start) if whole else _integrated(model, each))
        start += each.x.size if whole else 0
    for one in design.imputed:
        sources.append(_missing(model, one, start))
        start += len(one.levels)
    places = [(k, d) for k, each in enumerate(design.unseen) for d in range(len(each.columns))]
    numbers = {
        text: places.index((k, d))
        for k, each in enumerate(design.unseen)
        for text, d in each.texts.items()
    }
    found = Unseen(
        sources=sources,
        variables=[
            Variable(k, d, design.unseen[k].standing[:, d], design.unseen[k].index)
            for k, d in places
        ],
        products={param: _products(model, param, numbers) for param in design.predictors},
        y=design.response.y,
        responses={
            one.place: places.index((k, 0))
            for k, one in enumerate(design.imputed, start=len(design.measured))
        },
        widening=None if aside is None else _widening(model, aside),
    )
    return found, start


def _measured(model: Model, given: Measured, start: int) -> Source:
    theta = {
        p.name: model.layout[f"{p.name}_{given.name}"]
        for p in given.structure.parameters(given.size)
    }
    at, mean = slice(start, start + given.x.size), model.layout[f"mean_{given.name}"]
    return MeasuredValues(at, given.x, given.error, mean, given.structure, theta)


def _missing(model: Model, given: Missing, start: int) -> Source:
    family = model.observed[given.place].family
    support = support_of_response(family, given.text)
    there = given.seen[~np.isnan(given.seen)]
    known = np.isfinite(given.error)
    place, unit = PLACES[support]
    seen = place(there) if len(there) else np.zeros(1)
    centre = np.where(known, place(np.where(known, given.measured, there[:1])), seen.mean())
    spread = float(np.std(seen)) or 1.0
    scale = np.where(known, np.minimum(given.error * unit(given.measured), spread), spread)
    at = slice(start, start + len(given.levels))
    return MissingValues(at, support, centre, scale, given.measured, given.error)


# By where responses lie: their place on the real line, and its slope.
PLACES: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "real": (np.asarray, np.ones_like),
    "positive": (np.log, np.reciprocal),
    "unit": (lambda y: np.log(y / (1 - y)), lambda y: 1 / (y * (1 - y))),
}


def _products(model: Model, param: str, numbers: Mapping[str, int]) -> list[Product]:
    means = model.means(param)
    return [
        Product(each.k, each.weight, tuple(numbers[t] for t in each.of), float(means[each.k]))
        for each in model.design.predictors[param].products
    ]


def _integrated(model: Model, given: Measured) -> Source:
    theta = {
        p.name: model.layout[f"{p.name}_{given.name}"]
        for p in given.structure.parameters(given.size)
    }
    mean, sigma = model.layout[f"mean_{given.name}"], _response_of(model, given)[1]
    at = model.layout[sigma].start
    return Integrated(given.x, given.error, mean, given.structure, theta, at)


def _response_of(model: Model, given: Measured) -> tuple[str, str]:
    """Name the mean and the standard deviation of the only response that depends on it."""
    for part in model.observed:
        predictor = model.design.predictors[part.main]
        if any(set(product.of) & set(given.texts) for product in predictor.products):
            return part.main, part.names["sigma"]
    raise AssertionError(given.name)


def _widening(model: Model, given: Measured) -> Widening:
    param, sigma = _response_of(model, given)
    columns = [
        (product.k, given.texts[text], product.weight)
        for product in model.design.predictors[param].products
        for text in product.of
        if text in given.texts
    ]
    return Widening(0, param, sigma, columns)


def slopes_by_responses(
    model: Model, y: np.ndarray, params: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Give the log density's slopes `(n, R)` by the responses of which some are unknown."""
    assert model.family.responses is not None
    found = np.zeros_like(y)
    for one in model.design.imputed:
        found[:, one.place] = model.family.responses.slope(one.place, y[:, one.place], params)
    return found
