"""How much rows' linear predictors vary with the random effects, the parameters given."""

from typing import TYPE_CHECKING, Any

import numpy as np

from glmm_bayes.design import Design
from glmm_bayes.engine.elsewhere import row_covariance
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
    if groups == "conditional" and design is mode.coordinates.model.design:
        own = mode.factor.effects_only().leverages()
        cov = np.empty_like(own)
        cov[..., mode.factor.spread.system.order] = mode.scale**2 * own
    else:
        cov = _covariance(mode, design, names, groups)
    root = _root(cov)
    zero = np.zeros((len(names), design.n))
    return {p: root[names.index(p)] if p in names else zero for p in design.predictors}


def _covariance(mode: "Mode", design: Design, names: list[str], groups: str) -> np.ndarray:
    cov = np.zeros((len(names), len(names), design.n))
    known: list[list[Any]] = [[] for _ in names]
    for k, term in enumerate(design.terms):
        Lambda = mode.Lambdas[term.name]
        fitted = mode.coordinates.model.design.terms[k]
        seen = 0 if groups == "new" else len(fitted.levels)
        for a, param in enumerate(names):
            relative = mode.factor.spread.Lambdas[k] if seen else Lambda
            known[a].append(_moved(term, param, relative, 0, seen))
        others = [_moved(term, param, Lambda, seen, len(term.levels)) for param in names]
        for a, left in enumerate(others):
            for b, right in enumerate(others):
                cov[a, b] += np.asarray((left * right).sum(axis=1)).ravel()
    if groups == "conditional":
        from scipy.sparse import hstack

        J = [hstack(parts, format="csr") for parts in known]
        cov += mode.scale**2 * row_covariance(mode.factor.effects_only(), J)
    return cov


def _moved(term: RandomTerm, param: str, Lambda: np.ndarray, start: int, stop: int) -> Any:
    """Give Z Lambda `(n, levels p)`, sparse, of some of the levels."""
    from scipy.sparse import csr_array, eye_array, kron

    p = term.size
    Z = csr_array(term.Z(param)[:, start * p : stop * p])
    return csr_array(Z @ kron(eye_array(stop - start), Lambda)) if stop > start else Z


def _root(cov: np.ndarray) -> np.ndarray:
    """Factor `(R, R, n)` row by row, lower triangular; a variance of zero has a factor of zero."""
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
