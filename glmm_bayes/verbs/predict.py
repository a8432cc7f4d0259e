"""Predict and simulate, for the rows of the data or new ones."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from glmm_bayes.data import Frame
from glmm_bayes.design import Design
from glmm_bayes.errors import DataError, NotSupportedError, UnknownNameError
from glmm_bayes.families import Categories, Family
from glmm_bayes.fit import Fit, ModeFit
from glmm_bayes.model import Model
from glmm_bayes.predictive import effects_for, in_rows, on_own_scale, parameters, responses
from glmm_bayes.registry import suggestion
from glmm_bayes.residual_draws import Expected, expected_residuals, residuals_for
from glmm_bayes.verbs.by_response import (
    check_response,
    of_response,
    side_by_side,
    trials_of_responses,
)
from glmm_bayes.verbs.intervals import IDENTITY, LOG, LOGIT, Scale, link_scale, of_draws
from glmm_bayes.verbs.marginal import all_factors, marginal
from glmm_bayes.verbs.new_rows import beside_residuals, rows_of, with_any_group
from glmm_bayes.verbs.sources import Source, drawn
from glmm_bayes.verbs.survival import LOG_LOG, SURVIVAL, at_times, surviving

if TYPE_CHECKING:
    import xarray as xr

GROUPS = ("conditional", "population", "new", "marginal")
PARAM = "param:"


def predict(
    fit: Fit,
    newdata: Frame | None = None,
    *,
    kind: str = "mean",
    groups: str = "conditional",
    level: float = 0.95,
    draws: bool = False,
    seed: int | None = None,
    response: str | None = None,
) -> Any:
    """
    Predict for the rows of a data frame.

    Parameters
    ----------
    newdata
        A data frame with the predictors' columns; by default the rows the model was fitted to.
        For `"population"` and `"marginal"` it may lack the grouping columns.
    kind
        `"mean"`, the expected response (with trials, the probability of success; of categories,
        the probability of each); `"linear"`, the linear predictor of the mean; `"response"`, a new
        response (with trials, a count); `"param:<name>"`, a distribution parameter on its own
        scale; `"survival"`, the probability of more than the row's response, of which new data
        then have the column.
    groups
        `"conditional"`: the rows' own groups, the effects of unseen levels drawn from their
        distribution; `"population"`: random effects zero, but for smooths, which are kept;
        `"new"`: every level a new one, its effects drawn; `"marginal"`: averaged over the
        distribution of the random effects, which for `"linear"` is `"population"` and for
        `"response"` is `"new"`. Of a maximum, a level whose effects would be drawn has effects of
        zero, whose variance is in `std_error`.
    level
        Probability of the interval: equal-tailed, or Wald's.
    draws
        Whether to give the draws in place of the table; of a maximum, draws of the normal
        approximation to parameters and effects.
    seed
        Of what is drawn; by default the fit's own, so that the same call gives the same numbers.
    response
        Of several responses, the one to predict; by default all of them.

    Returns
    -------
    DataFrame or DataArray
        `estimate` (posterior mean, or the value at the maximum), `std_error`, `lower, upper`,
        indexed as the rows; or draws `(chain, draw, __obs__)`. The probabilities of categories
        come one below the other, with a column `category`: K lines a row; their draws have a
        further dimension `category`; so do several responses, with `response`. A new response
        that is a category has the likeliest one as its `estimate`, and the `probability` of that.

    Raises
    ------
    UnknownNameError
        If a kind, a group target or a column is not known.
    DataError
        If the new data do not fit the model, or lack the trials that a response needs.

    Notes
    -----
    `"marginal"` integrates by Gauss-Hermite quadrature over the normal distribution of a row's
    linear predictor: 32 nodes; 15 (9) a dimension where two (three) predictors have effects. Where
    more of them have, by quasi-random points (scrambled Sobol sets, the same with every call), as
    many as make the standard error of each average at most 0.001 of its size.

    Where residuals have a structure, means and responses of rows at new times or places, with
    `"conditional"` groups, are those given the residuals that were seen nearby; the linear
    predictor is not. nlme's predict leaves them out. At the place of a row that was fitted they
    are those of another response there.

    Of a maximum, the variance of a row's linear predictors is the delta method's by the
    parameters, the effects' modes moving with them, plus their conditional variance given the
    parameters; it goes to the mean and the parameters by their slopes. Intervals are Wald's on
    the link's scale (log or logit where the mean is no parameter; log(-log S) of survival). A new
    response has its quantiles by simulation, with the seed, from the normal approximation at the
    maximum.
    """
    if response is not None:
        check_response(fit.model, response, kind)
        every = predict(fit, newdata, kind=kind, groups=groups, level=level, draws=draws, seed=seed)
        return of_response(every, response)
    check_names(fit.model, kind, groups)
    if newdata is not None and groups in ("population", "marginal") and kind != "response":
        newdata = with_any_group(fit.model, newdata)
    design = rows_of(fit.model, newdata, trials=kind == "response")
    if kind == SURVIVAL:
        design = at_times(fit.model, design, newdata)
    rng = np.random.default_rng(fit.seed if seed is None else seed)
    groups = _target(kind, groups)
    labels = category_labels(fit.model, kind)
    is_expected = kind == "mean" and groups == "conditional"
    if newdata is not None and (is_expected or kind == "response"):
        design = beside_residuals(fit.model, design, newdata)
    is_expected = is_expected and forecasts(fit.model, design)
    if not draws and kind != "response" and not is_expected:
        source = fit.row_source(design, groups, rng)
        tables = [
            fit.summarise(values, level, scale)
            for _, values, scale in in_parts(fit.model, design, source, kind, groups, rng)
        ]
        return _joined(tables, design, labels, fit.model.family.dimension)
    sampled = fit.sampled(rng)
    source = drawn(sampled, design, groups, rng)
    parts = in_parts(
        fit.model, design, source, kind, groups, rng,
        residuals_for(fit.model, design, groups, sampled, rng) if kind == "response" else None,
        expected_residuals(fit.model, design, sampled) if is_expected else None,
    )  # fmt: skip
    if draws:
        values = np.concatenate([values for _, values, _ in parts], axis=1)
        return by_row(values, sampled.chains, design, labels, fit.model.family.dimension)
    found = fit.model.family.categories
    if found is not None and not found.counted:
        return _joined([_likeliest(values, found) for _, values, _ in parts], design, None)
    tables = [of_draws(values, level) for _, values, _ in parts]
    table = _joined(tables, design, labels, fit.model.family.dimension)
    return fit.response_table(table, design, groups)


def category_labels(model: Model, kind: str) -> tuple[str, ...] | None:
    """Give the categories, or responses, for each of which a row has a number, if it is so."""
    found = model.family.categories
    if found is not None and kind == "mean":
        return found.labels
    several = model.family.responses is not None and kind in ("mean", "linear")
    return model.family.columns if several or kind == "response" else None


def _joined(
    tables: list[dict[str, np.ndarray]],
    design: Design,
    labels: tuple[str, ...] | None,
    column: str = "",
) -> pd.DataFrame:
    index = design.rows.frame.index
    if labels is None:
        found = pd.concat([pd.DataFrame(part) for part in tables], ignore_index=True)
        return found.set_axis(index)
    flat = [pd.DataFrame({k: v.ravel() for k, v in part.items()}) for part in tables]
    found = pd.concat(flat, ignore_index=True).set_axis(index.repeat(len(labels)))
    each = np.tile(np.arange(len(labels)), design.n)
    found.insert(
        0, column, pd.Series(pd.Categorical.from_codes(each, pd.Index(labels)), found.index)
    )
    return found


def _likeliest(values: np.ndarray, found: Categories) -> dict[str, Any]:
    """Summarise draws `(S, n)` of categories."""
    counts = np.stack([(values == label).mean(axis=0) for label in found.labels], axis=1)
    codes = counts.argmax(axis=1)
    named = pd.Categorical.from_codes(codes, pd.Index(found.labels), found.thresholds)
    return {"estimate": named, "probability": counts.max(axis=1)}


def with_mean_responses(
    fit: ModeFit, table: pd.DataFrame, design: Design, groups: str
) -> pd.DataFrame:
    """Put the rows' expectations at the maximum in place of means of simulated responses."""
    if fit.model.family.mean is None or groups not in ("conditional", "population"):
        return table
    effects = effects_for(design, fit.plug_in, groups, None)
    params = parameters(fit.model, design, fit.plug_in, effects)
    if groups == "conditional" and forecasts(fit.model, design):
        expected = expected_residuals(fit.model, design, fit.plug_in)
        params = expected.shifted(params, slice(None))
    labels = fit.model.family.columns or ()
    sizes = (1, design.n, *([len(labels)] if labels else []))
    mean = np.broadcast_to(fit.model.family.expectation(params), sizes)[0]
    trials = design.response.trials
    if trials is not None:
        mean = mean * trials.reshape(-1, *[1] * (mean.ndim - 1))
    if fit.model.family.responses is not None:
        mean = mean * trials_of_responses(design.response)
    return table.assign(estimate=mean.ravel())


def simulate(
    fit: Fit,
    n: int = 1,
    *,
    seed: int | None = None,
    newdata: Frame | None = None,
    groups: str = "conditional",
) -> "xr.DataArray":
    """
    Draw new responses: each set from another draw of the posterior, or at the maximum.

    Parameters
    ----------
    n
        How many sets; their draws are spread evenly over the posterior. Of a maximum all are at
        the estimates: with `"conditional"` groups (the default) at the effects' modes, which are
        shrunken; with `"new"` the effects are drawn anew for every set, as lme4's simulate does.
    seed
        Makes the answer reproducible; by default every call gives other responses.
    newdata, groups
        As in `predict`; `"marginal"` is `"new"`.

    Returns
    -------
    DataArray
        `(sim, __obs__)`; with trials, counts; of a two-level factor, the position of the level;
        of categories, their labels.
    """
    import xarray as xr

    if not isinstance(n, int | np.integer) or n < 1:
        raise DataError(f"n={n!r} must be a whole number of at least 1.")
    check_names(fit.model, "response", groups)
    design = rows_of(fit.model, newdata, trials=True)
    if newdata is not None:
        design = beside_residuals(fit.model, design, newdata)
    rng = np.random.default_rng(seed)
    at = np.floor((np.arange(n) + rng.uniform()) * fit.plug_in.size / n).astype(int)
    groups = _target("response", groups)
    source = drawn(fit.plug_in.thinned(at), design, groups, rng)
    residuals = residuals_for(fit.model, design, groups, source.draws, rng)
    parts = in_parts(fit.model, design, source, "response", groups, rng, residuals)
    values = np.concatenate([part for _, part, _ in parts], axis=1)
    coords: dict[str, Any] = {"sim": np.arange(n), "__obs__": design.rows.kept}
    labels = fit.model.family.columns
    if labels is not None:
        coords[fit.model.family.dimension] = list(labels)
    return xr.DataArray(values, coords, tuple(coords), name="y")


def forecasts(model: Model, design: Design) -> bool:
    """Tell whether the residuals of some rows are predicted from those that were seen."""
    fitted, own = model.design.residual, design.residual
    return fitted is not None and own is not None and len(own.levels) > len(fitted.levels)


def by_row(
    values: np.ndarray,
    chains: int,
    design: Design,
    labels: tuple[str, ...] | None = None,
    dimension: str = "",
) -> "xr.DataArray":
    """Name draws `(S, n)` of a quantity that every row has, or `(S, n, K)` by category."""
    import xarray as xr

    values = values.reshape(chains, -1, *values.shape[1:])
    coords: dict[str, Any] = {
        "chain": np.arange(chains),
        "draw": np.arange(values.shape[1]),
        "__obs__": design.rows.kept,
    }
    if labels is not None:
        coords[dimension] = list(labels)
    return xr.DataArray(values, coords, tuple(coords))


def check_names(model: Model, kind: str, groups: str) -> None:
    """Check what to predict, and for which groups, or raise `UnknownNameError`."""
    params = (PARAM + p.name for p in model.family.parameters)
    kinds = ["mean", "linear", "response", SURVIVAL, *params]
    if kind not in kinds:
        raise UnknownNameError(
            f"There is no kind of prediction {kind!r}. {suggestion(kind, kinds)}"
        )
    found = model.family.categories
    if kind == "linear" and found is not None and not found.thresholds:
        raise NotSupportedError(
            f"The family {model.family.name!r} has a linear predictor for every category but the "
            f"first: ask for one of {', '.join(repr(PARAM + name) for name in found.means)}."
        )
    if groups not in GROUPS:
        raise UnknownNameError(f"groups={groups!r} is not known. {suggestion(groups, GROUPS)}")


def _target(kind: str, groups: str) -> str:
    """Say what `"marginal"` is, where it is something else."""
    if groups != "marginal":
        return groups
    return {"linear": "population", "response": "new"}.get(kind, groups)


def in_parts(
    model: Model,
    design: Design,
    source: Source,
    kind: str,
    groups: str,
    rng: np.random.Generator,
    residuals: np.ndarray | None = None,
    expected: Expected | None = None,
) -> Iterator[tuple[slice, np.ndarray, Scale]]:
    """
    Give predictions `(S, rows)`, with their scale, of one run of rows after another.

    Of residuals with a structure, what was drawn of all rows before is part of responses, and
    what is expected of means.
    """
    target = kind.removeprefix(PARAM) if kind.startswith(PARAM) else None
    Lambda = all_factors(design, source.draws) if groups == "marginal" else {}
    for rows, part in in_rows(design, source.size):
        of, what = (surviving(model, part), "mean") if kind == SURVIVAL else (model, kind)
        if groups == "marginal":
            values = marginal(of, part, source.draws, Lambda, target)
            scale = _mean_scale(of) if target is None else link_scale(of.links[target])
        else:
            own = None if residuals is None else residuals[:, rows]
            values, scale = _values(of, part, source, rows, what, rng, own, expected)
        yield rows, values, LOG_LOG if kind == SURVIVAL else scale


def _values(
    model: Model,
    design: Design,
    source: Source,
    rows: slice,
    kind: str,
    rng: np.random.Generator,
    residuals: np.ndarray | None,
    expected: Expected | None,
) -> tuple[np.ndarray, Scale]:
    eta = source.predictors(design, rows)
    if kind == "linear":
        mains = [eta[part.main] for part in model.observed]
        return mains[0] if len(mains) == 1 else np.stack(mains, axis=-1), IDENTITY
    params = on_own_scale(model, eta, source.constants())
    shape = (source.size, design.n)
    if kind == "response":
        return _in_words(model, responses(model, design, params, rng, residuals)), IDENTITY
    if kind == "mean":
        if expected is not None:
            params = expected.shifted(params, rows)
        mean = model.family.expectation(params)
        if model.family.categories is not None:
            return mean, LOGIT
        if model.family.responses is not None:
            return np.broadcast_to(mean, (*shape, mean.shape[-1])), _mean_scale(model)
        own = mean is params.get("mu")
        scale = link_scale(model.links["mu"]) if own else _support_scale(model.family)
        return np.broadcast_to(mean, shape), scale
    param = kind.removeprefix(PARAM)
    return np.broadcast_to(params[param], shape), link_scale(model.links[param])


def _in_words(model: Model, values: np.ndarray) -> np.ndarray:
    """Put the labels of categories in place of their numbers."""
    found = model.family.categories
    if found is None or found.counted:
        return values
    return np.array(found.labels, dtype=object)[values]


def _mean_scale(model: Model) -> Scale:
    """Choose scales for the means of all responses."""
    found = model.family.responses
    if found is None:
        return _support_scale(model.family)
    return side_by_side([_support_scale(part.family) for part in found.parts])


def _support_scale(family: Family) -> Scale:
    """Choose a scale for the mean of a response by which responses the family takes."""
    problem = family.problem
    if family.categories is not None:
        return LOGIT
    if family.needs_trials or problem(np.array([2.0]), None) is not None:
        return LOGIT
    return IDENTITY if problem(np.array([-1.0]), None) is None else LOG
