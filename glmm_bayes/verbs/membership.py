"""To which component of a mixture each row belongs, or each level, with what probability."""

import numpy as np
import pandas as pd

from glmm_bayes.data import Frame
from glmm_bayes.errors import NotSupportedError, UnknownNameError
from glmm_bayes.families.mixture_of import Components
from glmm_bayes.fit import Fit
from glmm_bayes.model import Model
from glmm_bayes.modes.reading import has_masses
from glmm_bayes.predictive import in_rows, on_own_scale
from glmm_bayes.registry import suggestion
from glmm_bayes.verbs.classes import class_membership
from glmm_bayes.verbs.intervals import LOGIT
from glmm_bayes.verbs.new_rows import rows_of, with_any_group

KINDS = ("posterior", "prior")
GROUPS = ("conditional", "population")
CERTAIN = 1e-12


def membership(
    fit: Fit,
    newdata: Frame | None = None,
    *,
    kind: str = "posterior",
    groups: str = "conditional",
    level: float = 0.95,
    seed: int | None = None,
) -> pd.DataFrame:
    """
    Give the probabilities of a mixture's components, row by row; or of classes, level by level.

    Rows belong to the components of a family of `gb.mixture`, levels to the classes of random
    effects with `dist="mixture"`.

    Parameters
    ----------
    newdata
        Rows to take in place of the model's own; of kind `"prior"` only.
    kind
        `"posterior"`: given the row's response, by Bayes' formula,
        theta_k p_k(y) / sum_j theta_j p_j(y), or given all responses of the level. `"prior"`:
        theta_k, before these are seen.
    groups
        `"conditional"` on the groups' effects, or `"population"`, where these are zero.
    level
        Of the intervals, which are for the parameters' uncertainty.
    seed
        Of the effects of levels that were not in the fit; by default the fit's own.

    Returns
    -------
    DataFrame
        `component, estimate, std_error, lower, upper`, indexed as the rows, each of which comes
        once for every component; or, for every level, `group` and `level` before these.

    Raises
    ------
    NotSupportedError
        If the family is no mixture, or new rows have no response to be known by.
    """
    model = fit.model
    _check_names(kind, groups)
    if has_masses(model) and model.family.mixed is None:
        _refuse_rows(newdata, groups)
        return class_membership(fit, kind, level)
    mixed = _components(model)
    if kind == "posterior" and newdata is not None:
        raise NotSupportedError(
            "The response of new rows is not read, so that they have no kind='posterior': "
            "ask for kind='prior'."
        )
    if newdata is not None and groups == "population":
        newdata = with_any_group(model, newdata)
    design = rows_of(model, newdata, trials=False)
    rng = np.random.default_rng(fit.seed if seed is None else seed)
    source = fit.row_source(design, groups, rng)
    tables = []
    for rows, part in in_rows(design, source.size * len(mixed.labels)):
        params = on_own_scale(model, source.predictors(part, rows), source.constants())
        if kind == "prior":
            found = mixed.prior(params)
        else:
            found = mixed.membership(part.response.y, part.response.trials, params)
        # As good as certain: nearer to 0 and 1 the logit has no digits.
        found = np.clip(found, CERTAIN, 1 - CERTAIN)
        shape = (source.size, part.n, len(mixed.labels))
        tables.append(fit.summarise(np.broadcast_to(found, shape), level, LOGIT))
    return _table(tables, design.rows.frame.index, mixed.labels)


def _components(model: Model) -> Components:
    if model.family.mixed is None:
        raise NotSupportedError(
            f"The family {model.family.name!r} has no components that rows could belong to; "
            f"gb.mixture makes families that have, and (1 | g, dist='mixture') classes of levels."
        )
    return model.family.mixed


def _refuse_rows(newdata: Frame | None, groups: str) -> None:
    if newdata is not None or groups != "conditional":
        raise NotSupportedError(
            "What belongs to classes are the levels of the fit, by all of their responses: leave "
            "newdata and groups out; kind='prior' is for a new level."
        )


def _check_names(kind: str, groups: str) -> None:
    if kind not in KINDS:
        raise UnknownNameError(f"kind={kind!r} is not known. {suggestion(str(kind), KINDS)}")
    if groups not in GROUPS:
        raise UnknownNameError(
            f"groups={groups!r} is not for memberships. {suggestion(str(groups), GROUPS)}"
        )


def _table(
    tables: list[dict[str, np.ndarray]], index: pd.Index, labels: tuple[str, ...]
) -> pd.DataFrame:
    columns = {name: np.concatenate([part[name].ravel() for part in tables]) for name in tables[0]}
    found = pd.DataFrame(columns, index=index.repeat(len(labels)))
    codes = np.tile(np.arange(len(labels)), len(index))
    component = pd.Categorical.from_codes(codes, pd.Index(labels))
    found.insert(0, "component", pd.Series(component, found.index))
    return found
