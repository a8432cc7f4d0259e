"""Marginal means: predictions on a balanced grid, averaged over what is not asked about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from glmm_bayes.errors import DataError, UnknownNameError
from glmm_bayes.fit import Fit
from glmm_bayes.predictive import effects_for
from glmm_bayes.registry import suggestion
from glmm_bayes.verbs.contrasted import Hypothesis, contrasted
from glmm_bayes.verbs.datagrid import (
    checked_values,
    crossed,
    factor_variables,
    fixed_variables,
    grouping_variables,
    offset_variables,
    values_of,
)
from glmm_bayes.verbs.describe import predictor_label
from glmm_bayes.verbs.estimates import Asked, Estimates, Quantities, Words
from glmm_bayes.verbs.intervals import IDENTITY, LOG, link_scale

WEIGHTS = ("equal", "proportional", "outer", "cells")
TYPES = ("link", "response")
# The links whose differences are logarithms of ratios, or of odds ratios.
RATIOS = {"log": "ratio", "logit": "odds ratio"}


@dataclass(frozen=True, eq=False)
class Cells:
    """
    The rows of a balanced grid.

    Attributes
    ----------
    frame
        Complete new data, c rows.
    varied
        By column, the values that are crossed, the last of them varying fastest.
    given
        What the user said of some of them.
    counts
        `(c,)` rows of the data that agree in all factors, and in numbers of two values.
    """

    frame: pd.DataFrame
    varied: Mapping[str, Sequence[Any]]
    given: Mapping[str, Sequence[Any]]
    counts: np.ndarray


def emmeans(
    fit: Fit,
    specs: str | Sequence[str],
    *,
    by: str | Sequence[str] | None = None,
    at: Mapping[str, Any] | None = None,
    weights: str = "equal",
    type: str = "link",
    param: str = "mu",
    ddf: str | None = None,
    level: float = 0.95,
    adjust: str = "none",
    hypothesis: Hypothesis | None = None,
) -> Estimates:
    """
    Give marginal means: predictions on a balanced grid, averaged over what is not asked about.

    The grid has every combination of the factors' levels, of numbers that have only two values
    both, and other numbers at their mean; random effects are zero, offsets at their mean.

    Parameters
    ----------
    specs, by
        Columns whose combinations get a mean each, `[]` for the mean of all; contrasts are made
        within the values of `by`.
    at
        Other values of columns: `{"x": [0, 1]}`.
    weights
        Of the combinations that are averaged over: `"equal"`; `"proportional"` to how often they
        are in the data; `"outer"`, to the product of how often each factor's level is;
        `"cells"`, to how often they are together with the values of `specs` and `by`.
    type
        `"link"`, or `"response"`: the averages put through the inverse link, their contrasts as
        ratios where the link is log, odds ratios where it is logit.
    param
        Of which parameter of the distribution.
    ddf
        Degrees of freedom of a maximum, as in `ttest`; by default infinite.
    level, adjust
        The intervals' probability; how p-values and intervals of a maximum are adjusted for the
        number of estimates, within each value of `by`: `"none"`, `"holm"`, `"bonferroni"`,
        `"sidak"`, `"mvt"` (exact, by the estimates' correlations), and of all pairwise
        differences `"tukey"`.
    hypothesis
        Contrasts in place of the means: see `Estimates.contrast`.

    Returns
    -------
    Estimates
        A data frame: the columns asked about, and `estimate, std_error, lower, upper`, of a maximum
        `statistic, df, p_value`. Its method `contrast` compares the rows.

    Raises
    ------
    UnknownNameError
        If a column, a parameter or an option is not known.
    DataError
        If a covariate without values of its own, or a level that is not in the data, is asked for.

    Notes
    -----
    After Searle, Speed & Milliken (1980), *Am. Stat.* 34, 216-221, as R's emmeans does it.

    Examples
    --------
    >>> import glmm_bayes as gb
    >>> plants = gb.load_dataset("oats").rename(columns={"yield": "y"})
    >>> fit = gb.Model("y ~ nitro + Variety + (1 | Block/Variety)", plants).fit("reml")
    >>> fit.emmeans("Variety")[["Variety", "estimate", "std_error"]].round(2)
           Variety  estimate  std_error
    0  Golden Rain    104.50        7.8
    1   Marvellous    109.79        7.8
    2      Victory     97.62        7.8
    """
    asked = Asked(level, ddf, adjust)
    _check_options(fit, weights, type, param)
    averaged_within = (_names(specs), _names(by))
    cells = _cells(fit, averaged_within, dict(at or {}), param)
    labels, W = _averages(cells, averaged_within, weights)
    values, slopes = _linear_means(fit, cells, W, param)
    link = fit.model.links[param]
    on_response = type == "response"
    ratio = RATIOS.get(link.name) if on_response else None
    found = Quantities.of(
        fit,
        labels,
        values,
        within=averaged_within[1],
        shown=link_scale(link) if on_response else IDENTITY,
        ratios=LOG if ratio else IDENTITY,
        slopes=slopes,
        words=_words(fit, param, ratio, on_response=on_response),
    )
    return (found if hypothesis is None else contrasted(found, hypothesis)).table(asked)


def _words(fit: Fit, param: str, ratio: str | None, *, on_response: bool) -> Words:
    response = fit.model.design.response.name.strip("`")
    linear = f"{predictor_label(fit.model, param)} of {response}"
    own = f"{param} of {response}"
    difference = f"{ratio} of {own}" if ratio else f"difference in {linear}"
    return Words(own if on_response else linear, linear, difference)


def _names(names: str | Sequence[str] | None) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names or ())


def _check_options(fit: Fit, weights: str, type: str, param: str) -> None:
    if weights not in WEIGHTS:
        raise UnknownNameError(f"weights={weights!r} is not known. {suggestion(weights, WEIGHTS)}")
    if type not in TYPES:
        raise UnknownNameError(f"type={type!r} is not known. {suggestion(type, TYPES)}")
    predictors = fit.model.design.predictors
    if param in fit.model.constants:
        raise DataError(
            f"The parameter {param!r} has no formula, so it has one value and no means; "
            f"summary() shows it."
        )
    if param not in predictors:
        if param == "mu":
            first, names = next(iter(predictors)), ", ".join(predictors)
            raise UnknownNameError(
                f"Family {fit.model.family.name!r} has several predictors, {names}: say of which "
                f"the means are, as param={first!r}; predictions(by=...) averages probabilities."
            )
        raise UnknownNameError(f"param={param!r} is not known. {suggestion(param, predictors)}")


# ---- the grid


def _cells(
    fit: Fit, asked: tuple[tuple[str, ...], tuple[str, ...]], at: Mapping[str, Any], param: str
) -> Cells:
    design = fit.model.design
    data, fixed = design.rows.frame, fixed_variables(design, param)
    factors = factor_variables(design, param)
    for name in (*asked[0], *asked[1]):
        _check_asked(fit, name, param, known=name in factors or name in at)
    given = {name: _given(fit, name, value) for name, value in at.items()}
    varied, counted = {}, []
    for name in dict.fromkeys([*fixed, *given]):
        own = values_of(data[name])
        if name in given:
            varied[name] = given[name]
        elif name in factors or len(own) == 2:
            varied[name] = own
        else:
            varied[name] = [float(data[name].mean())]
        if (name in factors or len(own) == 2) and set(varied[name]) <= set(own):
            counted.append(name)
    frame = crossed(design, varied)
    return Cells(frame, varied, given, _counts(data, varied, counted))


def _check_asked(fit: Fit, name: str, param: str, *, known: bool) -> None:
    design = fit.model.design
    fixed = fixed_variables(design, param)
    if name in grouping_variables(design):
        raise DataError(
            f"{name!r} groups rows, and marginal means have random effects of zero; coef() and "
            f"ranef() give its levels."
        )
    if not fixed:
        raise DataError(f"The fixed part of {param} in {fit.model.formula.texts[0]!r} is constant.")
    if name not in fixed and not (known and name in design.predictor_columns):
        raise UnknownNameError(
            f"{name!r} is no predictor of {param} in {fit.model.formula.texts[0]!r}. "
            f"{suggestion(name, fixed)}"
        )
    if not known and len(values_of(design.rows.frame[name])) != 2:
        raise DataError(
            f"{name!r} is a covariate, whose only value in the grid is its mean; give it values, "
            f"such as at={{{name!r}: [0, 1]}}, or use slopes(variables={name!r})."
        )


def _given(fit: Fit, name: str, value: Any) -> list[Any]:
    if name in grouping_variables(fit.model.design):
        raise DataError(
            f"at= names {name!r}, which only groups rows: marginal means have random effects of "
            f"zero; use predictions(newdata=…, groups='conditional')."
        )
    return checked_values(fit.model.design, name, value)


def _counts(
    data: pd.DataFrame, varied: Mapping[str, Sequence[Any]], counted: Sequence[str]
) -> np.ndarray:
    """Count the rows of the data in each combination of the varied values."""
    shape = [len(values) for values in varied.values()]
    code, kept = np.zeros(len(data), dtype=int), np.ones(len(data), dtype=bool)
    size = 1
    for name in counted:
        place = {value: k for k, value in enumerate(varied[name])}
        own = np.array([place.get(value, -1) for value in data[name]])
        kept &= own >= 0
        code, size = code * len(place) + own, size * len(place)
    table = np.bincount(code[kept], minlength=size)
    wide = [n if name in counted else 1 for name, n in zip(varied, shape, strict=True)]
    return np.broadcast_to(table.reshape(wide), shape).ravel()


# ---- averages over it


def _averages(
    cells: Cells, asked: tuple[tuple[str, ...], tuple[str, ...]], weights: str
) -> tuple[pd.DataFrame, np.ndarray]:
    """Give the labels of the k means, the first column varying fastest, and weights `(k, c)`."""
    names = list(dict.fromkeys([*asked[0], *asked[1]]))
    shape = [len(values) for values in cells.varied.values()]
    places = np.indices(shape).reshape(len(shape), len(cells.frame))
    code = dict(zip(cells.varied, places, strict=True))
    weight = _cell_weights(cells, code, [n for n in cells.varied if n not in names], weights)
    sizes = [len(cells.varied[name]) for name in reversed(names)]
    rows, found = [], []
    for at in product(*map(range, sizes)):
        chosen = dict(zip(names, reversed(at), strict=True))
        inside = np.ones(len(cells.frame), dtype=bool)
        for name, k in chosen.items():
            inside &= code[name] == k
        values = {name: cells.varied[name][k] for name, k in chosen.items()}
        total = weight[inside].sum()
        if not total:
            said = ", ".join(f"{name} = {value}" for name, value in values.items())
            raise DataError(f"No row of the data has {said}, so weights={weights!r} average none.")
        found.append(np.where(inside, weight, 0.0) / total)
        rows.append(values)
    labels = pd.DataFrame(rows, columns=names, index=range(len(rows)))
    for name in names:
        labels[name] = _column(cells, name, labels[name])
    return labels, np.array(found)


def _column(cells: Cells, name: str, values: pd.Series) -> Any:
    dtype = cells.frame[name].dtype
    return values.astype(dtype) if isinstance(dtype, pd.CategoricalDtype) else values


def _cell_weights(
    cells: Cells, code: Mapping[str, np.ndarray], others: Sequence[str], weights: str
) -> np.ndarray:
    """Weigh every cell `(c,)` by what is averaged over."""
    if weights == "equal":
        return np.ones(len(cells.frame))
    if weights == "cells":
        return cells.counts.astype(float)
    margins = [others] if weights == "proportional" else [[name] for name in others]
    found = np.ones(len(cells.frame))
    for margin in margins:
        key = np.zeros(len(found), dtype=int)
        for name in margin:
            key = key * len(cells.varied[name]) + code[name]
        found *= np.bincount(key, weights=cells.counts)[key]
    return found


def _linear_means(
    fit: Fit, cells: Cells, W: np.ndarray, param: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """
    Give the means of the linear predictor `(S, k)`, and their slopes by all coefficients.

    Of smooths there are no slopes: the means move with their effects too.
    """
    own, draws = fit.model.design, fit.population_draws
    # The effects of groups are zero, whose processes may have no place at a mean time.
    common = tuple(term for term in own.terms if term.common)
    design = replace(own, terms=common).encode(cells.frame)
    predictor = design.predictors[param]
    at_given = set(cells.given) & set(offset_variables(own, param))
    offset = predictor.offset if at_given else own.predictors[param].offset.mean()
    mean = W @ predictor.X
    values = draws.beta[param] @ mean.T + W @ np.broadcast_to(offset, len(cells.frame))
    kept = effects_for(design, draws, "population", None)
    curves = [
        t for t in design.terms if t.name in kept and any(g.param == param for g in t.loadings)
    ]
    for term in curves:
        values = values + kept[term.name].reshape(draws.size, -1) @ (W @ term.Z(param)).T
    if curves:
        return values, None
    parts = [
        mean if name == param else np.zeros((len(mean), len(p.names)))
        for name, p in own.predictors.items()
    ]
    return values, np.hstack(parts)
