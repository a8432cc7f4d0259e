"""What is not in the data in PyMC: true values, missing ones, and what is made of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from glmm_bayes.arrays import graph
from glmm_bayes.design import Predictor
from glmm_bayes.families.by_response import support_of_response
from glmm_bayes.model import Model
from glmm_bayes.unseen import Measured, Missing

type Rows = Mapping[str, Any]  # by the formula's call, its values (n,)

TRANSFORMS: dict[str, dict[str, Any]] = {
    "real": {},
    "positive": {"transform": pm.distributions.transforms.log},
    "unit": {"transform": pm.distributions.transforms.logodds},
}


def unseen_values(model: Model, values: Mapping[str, Any]) -> Rows:
    """Enter all unknown values as variables, and give what the rows have of them."""
    rows: dict[str, Any] = {}
    for measured in model.design.measured:
        xi = _true_values(measured, values)
        rows |= {text: xi[measured.index, d] for text, d in measured.texts.items()}
    for missing in model.design.imputed:
        own = _missing_values(model, missing)
        rows |= dict.fromkeys([*missing.texts, missing.text], own)
    return rows


def _true_values(measured: Measured, values: Mapping[str, Any]) -> Any:
    """Enter true values `(q, D)` with their distribution, and the measurements."""
    structure, name, D = measured.structure, measured.name, measured.size
    theta = {p.name: pt.atleast_1d(values[f"{p.name}_{name}"]) for p in structure.parameters(D)}
    for key, value in structure.reported(theta, D, graph()).items():
        dims = tuple(f"{name}__{d}" for d in structure.dims(key))
        pm.Deterministic(f"{key}_{name}", value, dims=dims)
    mean = pt.atleast_1d(values[f"mean_{name}"])
    Lambda = structure.factor(theta, D, graph())
    dims = (measured.dim, f"{name}__coef")
    xi = pm.MvNormal(f"true_{name}", mu=mean, chol=Lambda, dims=dims, initval=measured.x)
    pm.Normal(f"measured_{name}", mu=xi, sigma=measured.error, observed=measured.x, dims=dims)
    for d, own in enumerate(measured.names):
        pm.Deterministic(own, xi[:, d], dims=measured.dim)
    return xi


def _missing_values(model: Model, missing: Missing) -> Any:
    """Enter a response's unknown values, and give the response `(n,)` with them in place."""
    seen, there = missing.standing[:, 0], missing.index >= 0
    if not there.any():
        return pt.as_tensor(seen)
    support = support_of_response(model.observed[missing.place].family, missing.text)
    placed = {"dims": missing.dim, "initval": seen[there], **TRANSFORMS[support]}
    unknown = pm.Flat(missing.names[0], **placed)
    if missing.has_error:
        known = np.isfinite(missing.error)
        own = {"mu": unknown[known], "sigma": missing.error[known]}
        pm.Normal(f"measured_{missing.name}", **own, observed=missing.measured[known])
    return pt.where(there, unknown[np.maximum(missing.index, 0)], seen)


def beyond(predictor: Predictor, beta: Any, rows: Rows) -> Any:
    """Give what a predictor has beyond X beta: its columns' unknown values are not those in X."""
    total: Any = 0.0
    for product in predictor.products:
        column: Any = product.weight
        for text in product.of:
            column = column * rows[text]
        total = total + beta[product.k] * (column - predictor.X[:, product.k])
    return total


def completed_response(model: Model, params: Mapping[str, Any], rows: Rows) -> None:
    """Enter the density of responses of which some are unknown."""
    family, y = model.family, model.design.y
    assert family.responses is not None
    fillers = np.array([part.filler for part in family.responses.parts])
    whole = pt.as_tensor(np.where(np.isnan(y), fillers, y))
    for missing in model.design.imputed:
        whole = pt.set_subtensor(whole[:, missing.place], rows[missing.text])
    arguments = family.symbolic_arguments(params, model.design.response.trials)
    pm.Potential("y", pm.logp(family.symbolic().dist(**arguments), whole).sum())
