"""Which rows are left out together, and a model without them."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from glmm_bayes.data import labels
from glmm_bayes.errors import DataError, NotSupportedError, UnknownNameError
from glmm_bayes.inference.checks import check_counts
from glmm_bayes.model import Model
from glmm_bayes.modes.another import changed
from glmm_bayes.registry import suggestion

USUAL = 10  # folds


@dataclass(frozen=True, eq=False)
class Levels:
    """Rows by level: the level's number `(n,)` of each, and the levels' names."""

    of: np.ndarray
    names: tuple[str, ...]


def levels_of(model: Model, group: str) -> Levels:
    """
    Read which level of a group, or of a column of the data, each row is of.

    Raises
    ------
    UnknownNameError
        If there is no such group or column.
    DataError
        If a value of the column is missing.
    """
    rows, found = model.design.rows, None
    for term in model.design.terms:
        if term.label == group and term.index.shape[1] == 1:
            found = np.array(term.levels)[term.index[:, 0]]
    if found is None:
        found = _column(model, group)
    if pd.isna(found).any():
        raise DataError(f"{group!r} has missing values, so that not every row has a fold.")
    codes, names = labels(pd.Series(found, index=rows.frame.index))
    used = np.unique(codes)
    return Levels(np.searchsorted(used, codes), tuple(names[int(k)] for k in used))


def _column(model: Model, name: str) -> np.ndarray:
    rows = model.design.rows
    if name in rows.frame:
        return rows.frame[name].to_numpy()
    frame = pd.DataFrame(model.data)
    if name not in frame:
        groups = [term.label for term in model.design.terms if term.index.shape[1] == 1]
        known = dict.fromkeys([*groups, *map(str, frame.columns)])
        raise UnknownNameError(f"There is no group or column {name!r}. {suggestion(name, known)}")
    return frame[name].to_numpy()[rows.kept]


def assigned(
    model: Model, k: int | None, group: str | None, strata: str | None, seed: int
) -> np.ndarray:
    """
    Give each row the number of its fold `(n,)`, from 0: as `kfold` describes them.

    Raises
    ------
    DataError
        If there are fewer rows or levels than folds, or both `group` and `strata`.
    UnknownNameError
        If k is no number of folds, or a name not known.
    """
    if group is not None and strata is not None:
        raise DataError("Give group, whose levels are left out whole, or strata, not both.")
    rng, of, what = np.random.default_rng(seed), np.arange(model.nobs), "rows"
    if group is not None:
        of, what = levels_of(model, group).of, f"levels of {group!r}"
    count = int(of.max()) + 1
    k = min(USUAL, count) if k is None else k
    check_counts(2, k=k)
    if k > count:
        raise DataError(f"k={k} is more than there are {what}: {count}.")
    order = rng.permutation(count)
    if strata is not None:
        order = order[np.argsort(levels_of(model, strata).of[order], kind="stable")]
    folds = np.empty(count, dtype=int)
    folds[order] = np.arange(count) % k
    return folds[of]


def without(model: Model, left_out: np.ndarray) -> Model:
    """
    Let rows `(n,)` count for nothing; priors, columns and levels stay.

    Raises
    ------
    NotSupportedError
        If residuals have a structure, in which rows cannot count for nothing.
    """
    if model.design.residual is not None:
        raise NotSupportedError(
            "Rows whose residuals vary together cannot be left out yet; loo() gives the density of "
            "each row, all others given."
        )
    response, kept = model.design.response, (~left_out).astype(float)
    if model.family.responses is None:
        w = kept if response.weights is None else kept * response.weights
        return changed(model, design=model.design.with_response(replace(response, weights=w)))
    views = response.view
    weights = tuple(kept if w is None else kept * w for w in views.weights)  # type: ignore[union-attr]
    view = replace(views, weights=weights)  # type: ignore[type-var]
    return changed(model, design=model.design.with_response(replace(response, view=view)))
