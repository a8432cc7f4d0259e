"""Predict and simulate, for the rows of the data or new ones."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from glmm_bayes.data import Frame, column_names, complete_columns, read_columns
from glmm_bayes.design import Design
from glmm_bayes.draws import Draws
from glmm_bayes.encoding import Expression, columns_of
from glmm_bayes.errors import DataError, UnknownNameError
from glmm_bayes.fit import PosteriorFit
from glmm_bayes.formula import plain_name
from glmm_bayes.model import Model
from glmm_bayes.predictive import (
    Effects,
    effects_for,
    in_rows,
    linear_predictor,
    parameters,
    responses,
)
from glmm_bayes.registry import suggestion
from glmm_bayes.response import Response
from glmm_bayes.verbs.intervals import summarise
from glmm_bayes.verbs.marginal import all_factors, marginal

if TYPE_CHECKING:
    import xarray as xr

GROUPS = ("conditional", "population", "new", "marginal")
PARAM = "param:"


def predict(
    fit: PosteriorFit,
    newdata: Frame | None = None,
    *,
    kind: str = "mean",
    groups: str = "conditional",
    level: float = 0.95,
    draws: bool = False,
    seed: int | None = None,
) -> Any:
    """
    Predict for the rows of a data frame.

    Parameters
    ----------
    newdata
        A data frame with the predictors' columns; by default the rows the model was fitted to.
        For `"population"` and `"marginal"` it may lack the grouping columns.
    kind
        `"mean"`, the expected response (with trials, the probability of success); `"linear"`,
        the linear predictor of the mean; `"response"`, a new response (with trials, a count);
        `"param:<name>"`, a distribution parameter on its own scale.
    groups
        `"conditional"`: the rows' own groups, the effects of unseen levels drawn from their
        distribution; `"population"`: random effects zero; `"new"`: every level a new one, its
        effects drawn; `"marginal"`: averaged over the distribution of the random effects, which
        for `"linear"` is `"population"` and for `"response"` is `"new"`.
    level
        Probability of the equal-tailed interval.
    draws
        Whether to give the draws in place of the table.
    seed
        Of what is drawn; by default the fit's own, so that the same call gives the same numbers.

    Returns
    -------
    DataFrame or DataArray
        `estimate` (posterior mean), `std_error`, `lower, upper`, indexed as the rows; or draws
        `(chain, draw, __obs__)`.

    Raises
    ------
    UnknownNameError
        If a kind, a group target or a column is not known.
    DataError
        If the new data do not fit the model, or lack the trials that a response needs.

    Notes
    -----
    `"marginal"` integrates by Gauss-Hermite quadrature over the normal distribution of a row's
    linear predictor: 32 nodes; 15 (9) a dimension where two (three) predictors have effects.
    """
    _check_names(fit.model, kind, groups)
    if newdata is not None and groups in ("population", "marginal") and kind != "response":
        newdata = _with_any_group(fit.model, newdata)
    design = rows_of(fit.model, newdata, trials=kind == "response")
    rng = np.random.default_rng(fit.seed if seed is None else seed)
    parts = _in_parts(fit.model, design, fit.draws, kind, groups, rng)
    if draws:
        values = np.concatenate([part for _, part in parts], axis=1)
        return by_row(values, fit.draws.chains, design)
    tables = [pd.DataFrame(summarise(part, level)) for _, part in parts]
    return pd.concat(tables, ignore_index=True).set_axis(design.rows.frame.index)


def simulate(
    fit: PosteriorFit,
    n: int = 1,
    *,
    seed: int | None = None,
    newdata: Frame | None = None,
    groups: str = "conditional",
) -> "xr.DataArray":
    """
    Draw new responses, each set of them from another draw of the posterior.

    Parameters
    ----------
    n
        How many sets; their draws are spread evenly over the posterior.
    seed
        Makes the answer reproducible; by default every call gives other responses.
    newdata, groups
        As in `predict`; `"marginal"` is `"new"`.

    Returns
    -------
    DataArray
        `(sim, __obs__)`; with trials, counts; of a two-level factor, the position of the level.
    """
    import xarray as xr

    if not isinstance(n, int | np.integer) or n < 1:
        raise DataError(f"n={n!r} must be a whole number of at least 1.")
    _check_names(fit.model, "response", groups)
    design = rows_of(fit.model, newdata, trials=True)
    rng = np.random.default_rng(seed)
    at = np.floor((np.arange(n) + rng.uniform()) * fit.draws.size / n).astype(int)
    parts = _in_parts(fit.model, design, fit.draws.thinned(at), "response", groups, rng)
    values = np.concatenate([part for _, part in parts], axis=1)
    coords = {"sim": np.arange(n), "__obs__": design.rows.kept}
    return xr.DataArray(values, coords, ("sim", "__obs__"), name="y")


def rows_of(model: Model, newdata: Frame | None, *, trials: bool) -> Design:
    """Encode new data, with their trials where those are wanted; None is the model's own rows."""
    if newdata is None:
        return model.design
    design = model.design.encode(newdata)
    if not trials or not model.family.needs_trials:
        return design
    n = _trials(model, design, newdata)
    problem = model.family.problem(np.zeros(design.n), n)
    if problem:
        at, words = problem
        raise DataError(
            f"The new data's trials do not fit family {model.family.name!r}: {words}, but row "
            f"{design.rows.frame.index[at]} has {n[at]:g}."
        )
    return design.with_response(Response.unknown(model.formula.response, design.n, n))


def by_row(values: np.ndarray, chains: int, design: Design) -> "xr.DataArray":
    """Name draws `(S, n)` of a quantity that every row has."""
    import xarray as xr

    values = values.reshape(chains, -1, design.n)
    coords = {
        "chain": np.arange(chains),
        "draw": np.arange(values.shape[1]),
        "__obs__": design.rows.kept,
    }
    return xr.DataArray(values, coords, ("chain", "draw", "__obs__"))


def _check_names(model: Model, kind: str, groups: str) -> None:
    kinds = ["mean", "linear", "response", *(PARAM + p.name for p in model.family.parameters)]
    if kind not in kinds:
        raise UnknownNameError(
            f"There is no kind of prediction {kind!r}. {suggestion(kind, kinds)}"
        )
    if groups not in GROUPS:
        raise UnknownNameError(f"groups={groups!r} is not known. {suggestion(groups, GROUPS)}")


def _with_any_group(model: Model, newdata: Frame) -> Frame:
    """Add the grouping columns that new data lack, where no answer depends on the level."""
    parts = model.formula.predictors.values()
    fixed = [text for part in parts for text in (part.fixed, *part.offsets)]
    needed = columns_of(fixed, list(model.design.rows.frame.columns), model.context)
    groups = [f for part in parts for term in part.random for f in term.group.factors]
    present = column_names(newdata)
    absent = {name for name in map(plain_name, groups) if name} - {*needed, *present}
    if not absent:
        return newdata
    frame = read_columns(newdata, list(present), where="the new data")
    return frame.assign(**dict.fromkeys(absent, "any"))


def _trials(model: Model, design: Design, newdata: Frame) -> np.ndarray:
    """Evaluate the number of trials as the formula's response states it, on new data."""
    response = model.formula.response
    extras = dict(response.extras)
    if response.failures is not None:
        texts = [response.expression, response.failures]
    elif "trials" in extras:
        texts = [extras["trials"]]
    elif "weights" in extras and np.any(model.design.response.trials != 1):
        texts = [extras["weights"]]
    else:
        return np.ones(design.n)
    columns = columns_of(texts, list(model.design.rows.frame.columns), model.context)
    absent = [c for c in columns if c not in column_names(newdata)]
    if absent:
        raise DataError(
            f"Responses of {response.text!r} need the number of trials, but the new data have no "
            f"column {', '.join(map(repr, absent))}; add it, or predict kind='mean'."
        )
    frame = complete_columns(newdata, list(columns), where="the new data")
    parts = [Expression(text).numbers(frame, model.context, "trials") for text in texts]
    return np.sum(parts, axis=0)


def _in_parts(
    model: Model, design: Design, draws: Draws, kind: str, groups: str, rng: np.random.Generator
) -> Iterator[tuple[slice, np.ndarray]]:
    """Give predictions `(S, rows)` of one run of rows after another."""
    if groups == "marginal":
        groups = {"linear": "population", "response": "new"}.get(kind, groups)
    if groups == "marginal":
        target = kind.removeprefix(PARAM) if kind.startswith(PARAM) else None
        Lambda = all_factors(design, draws)
        for rows, part in in_rows(design, draws.size):
            yield rows, marginal(model, part, draws, Lambda, target)
        return
    # Before the rows are cut: a level's effects are the same in every run of rows.
    effects = effects_for(design, draws, groups, rng)
    for rows, part in in_rows(design, draws.size):
        yield rows, _values(model, part, draws, effects, kind, rng)


def _values(
    model: Model,
    design: Design,
    draws: Draws,
    effects: Effects,
    kind: str,
    rng: np.random.Generator,
) -> np.ndarray:
    if kind == "linear":
        return linear_predictor(design, draws, effects, "mu")
    params = parameters(model, design, draws, effects)
    if kind == "response":
        return responses(model, design, params, rng)
    if kind == "mean":
        values = model.family.expectation(params)
    else:
        values = params[kind.removeprefix(PARAM)]
    return np.broadcast_to(values, (draws.size, design.n))
