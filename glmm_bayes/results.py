"""Put draws into the DataTree that every fit and ArviZ read."""

from typing import Any

import numpy as np
import xarray as xr

from glmm_bayes.draws import Draws, to_dataset
from glmm_bayes.model import Model
from glmm_bayes.predictive import effects_for, in_rows, parameters, responses
from glmm_bayes.residual_draws import fitted_residuals, log_densities, log_density
from glmm_bayes.unseen_draws import of_measurements, without_measured

KEPT = 20_000_000  # numbers of a pointwise quantity that are stored: 160 MB


def posterior_tree(model: Model, draws: Draws, statistics: xr.Dataset, seed: int) -> xr.DataTree:
    """
    Collect `posterior, sample_stats, log_likelihood, posterior_predictive, observed_data`.

    The pointwise groups have every draw, or, for very many rows, evenly spaced ones.
    """
    groups = {
        "posterior": to_dataset(model, draws),
        "sample_stats": statistics,
        "observed_data": _observed(model),
        "constant_data": _constant_data(model),
    }
    if draws.size * model.nobs <= KEPT:
        groups["log_likelihood"] = log_likelihood(model, draws)
    groups["posterior_predictive"] = posterior_predictive(model, draws, seed)
    tree = xr.DataTree.from_dict(groups)
    for name in tree.children:
        tree[name].attrs |= {"created_by": "glmm_bayes", "seed": seed}
    return tree


def log_likelihood(model: Model, draws: Draws) -> xr.Dataset:
    """
    Evaluate the log density of every row at every draw: `y[chain, draw, __obs__]`.

    Of rows whose residuals vary together it is that of a row, all others given. Values that are
    not in the data have no part in it; a response that was measured with an error has its
    density given the true value.
    """
    if model.design.residual is not None:
        return _pointwise(model, log_densities(model, draws), draws.chains)
    out = np.empty((draws.size, model.nobs))
    effects = {term.name: draws.effects[term.name] for term in model.design.terms}
    for rows, design in in_rows(model.design, draws.size):
        params = parameters(model, design, draws, effects)
        response = design.response
        y = without_measured(design)
        value = model.family.logp(y, response.given, params) + of_measurements(design, draws)
        out[:, rows] = value if response.weights is None else value * response.weights
    found = _pointwise(model, out, draws.chains)
    # Rows without any response have no density that could be compared.
    there = ~np.isnan(model.design.y.reshape(model.nobs, -1)).all(axis=1)
    return found if there.all() else found.isel({"__obs__": there})


def total_log_likelihood(model: Model, draws: Draws) -> np.ndarray:
    """Evaluate the log density `(S,)` of all rows together, effects given."""
    if model.design.residual is not None:
        return log_density(model, draws)
    found: np.ndarray = log_likelihood(model, draws)["y"].to_numpy().sum(axis=2).ravel()
    return found


def posterior_predictive(model: Model, draws: Draws, seed: int) -> xr.Dataset:
    """Draw responses for the rows of the data: `y[chain, draw, __obs__]`."""
    rng = np.random.default_rng(seed)
    step = max(1, -(-draws.size * model.nobs // KEPT))
    length = draws.size // draws.chains
    at = np.arange(draws.size).reshape(draws.chains, length)[:, ::step]
    kept = draws if step == 1 else draws.thinned(at.ravel())
    effects = effects_for(model.design, kept, "conditional", rng)
    out = np.empty((kept.size, *model.design.y.shape))
    residuals = fitted_residuals(model, kept, rng)
    for rows, design in in_rows(model.design, kept.size):
        params = parameters(model, design, kept, effects)
        own = None if residuals is None else residuals[:, rows]
        out[:, rows] = responses(model, design, params, rng, own)
    return _pointwise(model, _whole(model, out), draws.chains, np.arange(length)[::step])


def _whole(model: Model, y: np.ndarray) -> np.ndarray:
    """Make counts integers: ArviZ tells a discrete response by its type."""
    return y.astype(int) if model.family.discrete else y


def _pointwise(
    model: Model, values: np.ndarray, chains: int, draw: np.ndarray | None = None
) -> xr.Dataset:
    values = values.reshape(chains, -1, *values.shape[1:])
    labels = np.arange(values.shape[1]) if draw is None else draw
    coords: dict[str, Any] = {"chain": np.arange(chains), "draw": labels}
    coords |= response_coords(model) if values.ndim > 3 else {"__obs__": model.design.rows.kept}
    return xr.Dataset({"y": (list(coords), values)}, coords)


def _observed(model: Model) -> xr.Dataset:
    coords = response_coords(model)
    return xr.Dataset({"y": (list(coords), _whole(model, model.design.y))}, coords)


def response_coords(model: Model) -> dict[str, Any]:
    """Give the coordinates of a response: the rows, and what these have a number for each of."""
    found = model.family.columns
    also = {} if found is None else {model.family.dimension: list(found)}
    return {"__obs__": model.design.rows.kept, **also}


def _rows(model: Model, columns: dict[str, np.ndarray]) -> xr.Dataset:
    return xr.Dataset(
        {name: (["__obs__"], values) for name, values in columns.items()},
        {"__obs__": model.design.rows.kept},
    )


def _constant_data(model: Model) -> xr.Dataset:
    response = model.design.response
    columns = {"trials": response.trials, "weights": response.weights}
    data = _rows(model, {k: v for k, v in columns.items() if v is not None})
    for param, predictor in model.design.predictors.items():
        suffix = "" if param == "mu" else f"_{param}"
        if predictor.names:
            data[f"X{suffix}"] = (["__obs__", f"coef{suffix}"], predictor.X)
            data = data.assign_coords({f"coef{suffix}": list(predictor.names)})
        data[f"offset{suffix}"] = (["__obs__"], predictor.offset)
    return data
