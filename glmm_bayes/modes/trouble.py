"""Say in words why the end of a search should not be trusted, and what to do."""

from collections.abc import Iterable, Iterator

import numpy as np

from glmm_bayes.errors import DataError
from glmm_bayes.model import Model
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.reading import centred_columns, is_shaped
from glmm_bayes.modes.search import TRUSTED, Polished

CERTAIN = 1e-6  # so near 0 or 1, a probability is as good as certain
UNCERTAIN = 4.0  # standard errors in eta, for a usual change of the column: hardly determined
BOUNDLESS = 20.0  # standard errors in eta, on a scale of logarithms or the like: infinite
RELATIVE = ("log", "logit", "probit", "cloglog", "loglog", "cauchit", "softplus", "logm1")
SHARE = 0.3  # of a direction's largest part: what is named of it


def boundless(coordinates: Coordinates, covariance: np.ndarray) -> np.ndarray:
    """Tell which coordinates `(m,)` run to infinity, by their standard errors."""
    found, model = np.zeros(coordinates.size, dtype=bool), coordinates.model
    errors = np.sqrt(np.diag(covariance)) / coordinates.natural
    for parameter, at in zip(model.family.parameters, coordinates.coefficients, strict=True):
        if model.links[parameter.name].name in RELATIVE:
            found[at] = errors[at] > BOUNDLESS
    return found


def bounded(coordinates: Coordinates, covariance: np.ndarray, runaway: np.ndarray) -> np.ndarray:
    """
    Give a covariance `(m, m)` that can be worked with where coordinates run to infinity.

    A constant keeps its correlations, with a standard error that is still as good as boundless;
    where a coefficient does, the maximum is none, and nothing has a standard error.
    """
    if any(runaway[at].any() for at in _predicted(coordinates)):
        return np.full_like(covariance, np.nan)
    with np.errstate(invalid="ignore"):
        shrink = np.where(runaway, BOUNDLESS / np.sqrt(np.diag(covariance)), 1.0)
    return covariance * np.outer(shrink, shrink)


def problems(
    coordinates: Coordinates, polished: Polished, eta: np.ndarray, runaway: np.ndarray
) -> tuple[str, ...]:
    """
    Say why the end of a search is no maximum; nothing if it is.

    Parameters
    ----------
    eta
        `(P, n)` the predictors there.
    runaway
        `(m,)` what `boundless` found.
    """
    if not polished.positive:
        return (_without_maximum(coordinates, polished.direction, eta),)
    for at in _predicted(coordinates):
        if runaway[at].any():
            direction = np.zeros(coordinates.size)
            direction[at] = np.where(runaway[at], coordinates.natural[at], 0.0)
            return (_without_maximum(coordinates, direction, eta),)
    if polished.decrement > TRUSTED:
        return (
            f"The search stopped before the maximum: the log likelihood would still rise by about "
            f"{polished.decrement:.2g}; scale the predictors, or simplify the model.",
        )
    return ()


def bound_notes(coordinates: Coordinates, x: np.ndarray) -> tuple[str, ...]:
    """Name the parameters between levels that are estimated at a bound."""
    return tuple(
        f"{coordinates.names[k]} is estimated at its {'upper' if x[k] > 0 else 'lower'} bound, so "
        f"it has no interval; the other standard errors take it as known."
        for k in np.flatnonzero(coordinates.at_bounds(x))
    )


def cautions(
    coordinates: Coordinates, covariance: np.ndarray, runaway: np.ndarray
) -> tuple[str, ...]:
    """Name what a maximum leaves open, from the covariance `(m, m)` of x; `runaway` as above."""
    found, errors = [], np.sqrt(np.diag(covariance)) / coordinates.natural
    if coordinates.model.family.discrete:
        at = coordinates.coefficients[0]
        names = [n for n, e in zip(coordinates.names[at], errors[at], strict=True) if e > UNCERTAIN]
        if names:
            found.append(
                f"The data are nearly separated: the standard error of {_listed(names)} is so "
                f"large that Wald intervals and tests mean little; {_remedy(coordinates.model)}."
            )
    for parameter, at in zip(
        coordinates.model.family.parameters, coordinates.coefficients, strict=True
    ):
        if parameter.name in coordinates.model.constants and runaway[at].any():
            found.append(
                f"The parameter {parameter.name} runs to its limit, where the family "
                f"{coordinates.model.family.name!r} is a simpler one: the data do not need it."
            )
    return tuple(found)


def _predicted(coordinates: Coordinates) -> Iterator[slice]:
    """Give where the coefficients of the parameters with a predictor stand."""
    for parameter, at in zip(
        coordinates.model.family.parameters, coordinates.coefficients, strict=True
    ):
        if parameter.name not in coordinates.model.constants:
            yield at


def _without_maximum(coordinates: Coordinates, direction: np.ndarray, eta: np.ndarray) -> str:
    where = _listed(_named(coordinates, direction))
    if _is_probability(coordinates.model):
        mu = coordinates.model.links["mu"].linkinv(eta[0])
        certain = int(np.sum(np.minimum(mu, 1 - mu) < CERTAIN))
        if certain:
            return (
                f"The data are separated: {certain} of {len(mu)} responses are predicted with "
                f"certainty, and the likelihood rises without end along {where}; "
                f"{_remedy(coordinates.model)}."
            )
    return (
        f"The likelihood has no proper maximum: along {where} it is flat or rises without end, so "
        f"there are no standard errors; {_remedy(coordinates.model)}."
    )


def _remedy(model: Model) -> str:
    # The mode of effects with another distribution and of its shape together is not built.
    methods = "fit('nuts')" if is_shaped(model) else "fit('map') or fit('nuts')"
    return f"simplify the model, or give it narrower priors and use {methods}"


def _named(coordinates: Coordinates, direction: np.ndarray) -> list[str]:
    size = np.abs(direction / coordinates.natural)
    return [
        name
        for name, part in zip(coordinates.names, size, strict=True)
        if part > SHARE * size.max()
    ]


def _is_probability(model: Model) -> bool:
    first = model.family.parameters[0]
    return model.family.discrete and first.name == "mu" and first.support == (0.0, 1.0)


def _listed(names: Iterable[str]) -> str:
    return " and ".join(dict.fromkeys(names))


def refuse_collinear(model: Model) -> None:
    """
    Refuse columns that others make up: without priors nothing tells them apart.

    Raises
    ------
    DataError
        With the columns' names.
    """
    for param, predictor in model.design.predictors.items():
        X = centred_columns(model, param)
        size = np.sqrt((X * X).sum(axis=0))
        idle = [name for name, s in zip(predictor.names, size, strict=True) if not s > 0]
        R = np.linalg.qr(X / np.where(size > 0, size, 1.0), mode="r")
        left = np.abs(np.diag(R)) if len(R) else np.empty(0)
        # With fewer rows than columns, those beyond have nothing of their own.
        left = np.concatenate([left, np.zeros(X.shape[1] - len(left))])
        made_up = [n for n, part in zip(predictor.names, left, strict=True) if part < 1e-9]
        if idle or made_up:
            raise DataError(
                f"The columns {', '.join(map(repr, dict.fromkeys([*idle, *made_up])))} of the "
                f"predictor of {param} are made up of the ones before; the likelihood cannot tell "
                f"them apart. Leave them out, or give priors and use fit('map') or fit('nuts')."
            )
