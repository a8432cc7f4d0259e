"""How much rows' linear predictors vary with the random effects, the parameters given."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from glmm_bayes.design import Design
from glmm_bayes.engine.elsewhere import row_covariance
from glmm_bayes.kriging import Given, covariance_given
from glmm_bayes.terms import RandomTerm

if TYPE_CHECKING:
    from glmm_bayes.modes.mode import Mode


def row_arms(mode: "Mode", design: Design, groups: str) -> dict[str, np.ndarray]:
    """
    Give by predictor a root of the covariance of the rows' random parts.

    Parameters
    ----------
    groups
        `"conditional"`: given the responses, and for a level that was not in the fit its whole
        variance z' Lambda Lambda' z; `"new"`: that for all; with others nothing varies.

    Returns
    -------
    dict
        `(R, n)` by predictor, R the number of those with random effects: a row's covariance
        between predictors a and b is the sum over the first axis of their products.
    """
    if groups not in ("conditional", "new") or not design.terms:
        return {param: np.empty((0, design.n)) for param in design.predictors}
    loaded = {loading.param for term in design.terms for loading in term.loadings}
    # In the order of the engine's predictors: the family's.
    names = [p.name for p in mode.coordinates.model.family.parameters if p.name in loaded]
    fitted = mode.coordinates.model.design
    # With a structure of residuals the factor has turned rows.
    if groups == "conditional" and design is fitted and fitted.residual is None:
        latent = mode.factor.spread.system.latent
        numbers = {p.name: a for a, p in enumerate(mode.coordinates.model.family.parameters)}
        at = [latent.predictors.index(numbers[name]) for name in names]
        own = mode.factor.effects_only().leverages()[np.ix_(at, at)]
        cov = np.empty_like(own)
        cov[..., mode.factor.spread.system.order] = mode.scale**2 * own
    else:
        cov = _covariance(mode, design, names, groups)
    root = row_root(cov)
    zero = np.zeros((len(names), design.n))
    return {p: root[names.index(p)] if p in names else zero for p in design.predictors}


def _covariance(mode: "Mode", design: Design, names: list[str], groups: str) -> np.ndarray:
    cov = np.zeros((len(names), len(names), design.n))
    fitted = mode.coordinates.model.design.terms
    for term, first in zip(design.terms, fitted, strict=True):
        known = 0 if groups == "new" and not term.common else len(first.levels)
        if len(term.levels) > known:
            moved = [_moved(term, param, mode.Lambdas[term.name]) for param in names]
            new = [part[:, known * term.size :] for part in moved]
            cov += covariance_given(Given(term, known).at(mode.named_theta), new, term.size)
    if groups == "conditional":
        apart = len(fitted) == 1 and fitted[0].index.shape[1] == 1
        independent = all(term.level_structure.pairs is None for term in fitted)
        # Levels that no row shares are independent given the responses too.
        cov += (_of_levels if apart and independent else _of_all)(mode, design, names)
    return cov


def _of_levels(mode: "Mode", design: Design, names: list[str]) -> np.ndarray:
    """Give the variance with the levels of a single term, from theirs."""
    (term,), V = design.terms, mode.effect_variances[design.terms[0].name]
    known = np.flatnonzero(term.index[:, 0] < len(V))
    Z = np.zeros((len(names), len(known), term.size))
    for loading in term.loadings:
        columns = (loading.Z * term.weights)[known]
        Z[names.index(loading.param), :, loading.columns] += columns
    cov = np.zeros((len(names), len(names), design.n))
    cov[:, :, known] = np.einsum("ani,nij,bnj->abn", Z, V[term.index[known, 0]], Z)
    return cov


def _of_all(mode: "Mode", design: Design, names: list[str]) -> np.ndarray:
    """Give the variance with the levels of several terms, by linear systems."""
    from scipy.sparse import hstack

    only, fitted = mode.factor.effects_only(), mode.coordinates.model.design.terms
    known = [
        [
            _of_known(mode, term, len(first.levels), _moved(term, param, L))
            for term, first, L in zip(design.terms, fitted, only.spread.Lambdas, strict=True)
        ]
        for param in names
    ]
    return mode.scale**2 * row_covariance(only, [hstack(parts, format="csr") for parts in known])


def summed_variances(mode: "Mode", columns: Mapping[str, tuple[int, np.ndarray]]) -> np.ndarray:
    """
    Give the variances `(k,)` of sums of effects of several terms, given the parameters.

    `columns` says by term which of its columns, and of each sum which level, -1 for none.
    """
    from scipy.sparse import csr_array, hstack

    only = mode.factor.effects_only()
    size, parts = len(next(iter(columns.values()))[1]), []
    for term, L in zip(mode.coordinates.model.design.terms, only.spread.Lambdas, strict=True):
        p, q = term.size, len(term.levels)
        rows = np.empty(0, int)
        if term.name in columns:
            column, at = columns[term.name]
            rows = np.flatnonzero(at >= 0)
        entries = np.zeros(0) if not len(rows) else np.tile(L[column], len(rows))
        where = np.zeros(0, int) if not len(rows) else (at[rows, None] * p + np.arange(p)).ravel()
        parts.append(csr_array((entries, (np.repeat(rows, p), where)), shape=(size, q * p)))
    return mode.scale**2 * row_covariance(only, [hstack(parts, format="csr")])[0, 0]


def _of_known(mode: "Mode", term: RandomTerm, known: int, moved: Any) -> Any:
    """Give what rows have of the known levels' effects, `(n, known p)`, also by way of new ones."""
    from scipy.sparse import csr_array

    p = term.size
    own = csr_array(moved[:, : known * p])
    if term.level_structure.pairs is None or len(term.levels) == known:
        return own
    conditional, carried = Given(term, known).at(mode.named_theta), own.tolil()
    for c in range(p):
        more = conditional.carried(csr_array(moved[:, known * p :][:, c::p]))
        carried[:, c::p] = carried[:, c::p] + more
    return carried.tocsr()


def _moved(term: RandomTerm, param: str, Lambda: np.ndarray) -> Any:
    """Give Z Lambda `(n, levels p)`, sparse."""
    from scipy.sparse import csr_array, eye_array, kron

    return csr_array(csr_array(term.Z(param)) @ kron(eye_array(len(term.levels)), Lambda))


def row_root(cov: np.ndarray) -> np.ndarray:
    """Factor `(R, R, …)` row by row, lower triangular; what does not vary has a factor of zero."""
    root = np.zeros_like(cov)
    for i in range(len(cov)):
        for j in range(i + 1):
            left = cov[i, j] - (root[i, :j] * root[j, :j]).sum(axis=0)
            if i == j:
                root[i, i] = np.sqrt(np.maximum(left, 0.0))
            else:
                pivot = root[j, j]
                root[i, j] = np.divide(left, pivot, out=np.zeros_like(left), where=pivot > 0)
    return root
