"""Fit again: a changed model, or another response."""

from typing import Any

import numpy as np
import pandas as pd

from glmm_bayes.data import read_columns
from glmm_bayes.errors import DataError, NotSupportedError, UnknownNameError
from glmm_bayes.fit import Fit
from glmm_bayes.formula import Response, plain_name
from glmm_bayes.model import Model
from glmm_bayes.registry import suggestion
from glmm_bayes.verbs.by_response import trials_of_responses


def update(fit: Fit, *, seed: int | None = None, **changes: Any) -> Fit:
    """
    Fit a changed model in the same way.

    Parameters
    ----------
    seed
        As in `Model.fit`.
    **changes
        Arguments of `gb.Model` (`formula, data, family, link, priors, context, missing,
        centering`) or options of the fit, such as `draws`, in place of those that were used.
        Another family has its own links, unless `link` says otherwise.

    Raises
    ------
    UnknownNameError
        If a change is neither.
    """
    arguments, options = model_arguments(fit.model), dict(fit.options)
    for name in changes:
        if name not in arguments and name not in options:
            known = [*arguments, *options]
            raise UnknownNameError(f"There is no {name!r} to change. {suggestion(name, known)}")
    if "family" in changes:
        arguments["link"] = None
    arguments |= {k: v for k, v in changes.items() if k in arguments}
    options |= {k: v for k, v in changes.items() if k in options}
    model = Model(arguments.pop("formula"), arguments.pop("data"), **arguments)
    return model.fit(fit.method, seed=seed, **options)


def refit(fit: Fit, y: Any, *, seed: int | None = None) -> Fit:
    """
    Fit the same model to another response.

    Parameters
    ----------
    y
        As many responses as the rows used, or as the user's data have; missing ones are left
        out. With trials, counts of successes; of a two-level factor, levels or 0 and 1. Of
        several responses a table, one column each in their order, as `simulate` draws.
    seed
        As in `Model.fit`.

    Raises
    ------
    DataError
        If there are more or fewer, or they do not fit the family.
    NotSupportedError
        If the formula computes the response from columns, so that it cannot be put in place.

    Notes
    -----
    Default priors are scaled anew, as they depend on the response.
    """
    model = fit.model
    response = model.formula.response
    if model.design.response.view is not None:
        model.design.response.view.check_other_responses(response.text)
    values = np.asarray(y)
    if model.family.responses is not None:
        return _fitted_to(fit, _with_responses(model, values), seed)
    name = _column_of(response)
    frame = _frame_for(model, values)
    levels = model.design.response.levels
    numeric = values.dtype.kind in "biuf"
    found = model.family.categories
    if found is not None and levels is not None:
        frame[name] = _as_categories(values, levels)
    else:
        frame[name] = values if levels is None or not numeric else _as_levels(values, levels)
    failures = plain_name(response.failures) if response.failures else None
    if failures is not None:
        # The trials stay: what is no longer a success is a failure.
        trials = model.design.response.trials
        if len(frame) != model.nobs:
            raise DataError(f"Give {model.nobs} responses, as many as the rows used.")
        frame[failures] = trials - values
    return _fitted_to(fit, frame, seed)


def _fitted_to(fit: Fit, frame: pd.DataFrame, seed: int | None) -> Fit:
    arguments = model_arguments(fit.model) | {"data": frame}
    changed = Model(arguments.pop("formula"), arguments.pop("data"), **arguments)
    return changed.fit(fit.method, seed=seed, **fit.options)


def _column_of(response: Response) -> str:
    """Name the column that a response is."""
    name = plain_name(response.expression)
    if name is None:
        raise NotSupportedError(
            f"The response {response.text!r} is computed from columns, so another one cannot be "
            f"put in its place; use update(data=…)."
        )
    return name


def _with_responses(model: Model, values: np.ndarray) -> pd.DataFrame:
    """Put several responses `(rows, R)` in the place of the model's."""
    asked = [model.formula.response, *(response for response, _ in model.formula.beside)]
    trials = trials_of_responses(model.design.response)
    frame = _frame_for(model, values)
    for r, response in enumerate(asked):
        frame[_column_of(response)] = values[:, r]
        failures = plain_name(response.failures) if response.failures else None
        if failures is not None:
            if len(frame) != model.nobs:
                raise DataError(f"Give {model.nobs} responses, as many as the rows used.")
            frame[failures] = trials[:, r] - values[:, r]
    return frame


def model_arguments(model: Model) -> dict[str, Any]:
    """Give the arguments that make the model again."""
    return {
        "formula": list(model.formula.texts),
        "data": model.data,
        "family": model.asked_family if model.formula.is_several else model.family.origin,
        "link": {param: link.name for param, link in model.links.items()},
        "priors": model.user_priors,
        "context": model.context,
        "missing": model.missing,
        "centering": model.asked_centering,
    }


def _frame_for(model: Model, y: np.ndarray) -> pd.DataFrame:
    """Give the columns that the model uses, of as many rows as there are responses."""
    rows, beside = model.design.rows, model.design.y.shape[1:]
    if model.family.responses is None:
        beside = ()
    if y.shape == (model.nobs, *beside):
        return rows.whole.copy()
    if y.shape == (rows.total, *beside):
        return read_columns(model.data, list(rows.frame.columns), where="the formula")
    raise DataError(
        f"The new response has shape {y.shape}, but {model.nobs} rows were used of "
        f"{rows.total}; give one number for each{' and response' if beside else ''}."
    )


def _as_categories(y: np.ndarray, levels: tuple[str, ...]) -> Any:
    """Read labels, which may be numbers, as the model's categories in their order."""
    texts = [None if pd.isna(v) else f"{v:g}" if isinstance(v, float) else str(v) for v in y]
    unknown = sorted({text for text in texts if text is not None} - set(levels))
    if unknown:
        raise DataError(
            f"The new response has the category {unknown[0]!r}; the model knows "
            f"{', '.join(levels)}."
        )
    return pd.Categorical(texts, categories=pd.Index(levels), ordered=True)


def _as_levels(y: np.ndarray, levels: tuple[str, ...]) -> Any:
    absent = pd.isna(y)
    if not np.isin(y[~absent], (0, 1)).all():
        raise DataError(f"The new response must be 0 ({levels[0]}) or 1 ({levels[1]}).")
    return pd.Categorical.from_codes(
        np.where(absent, -1, y).astype(int), categories=pd.Index(levels)
    )
