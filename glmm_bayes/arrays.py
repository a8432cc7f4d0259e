"""The functions a formula is written with, by the same names for arrays and PyTensor's graphs."""

from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy import special
from scipy.linalg.lapack import dpotri

from glmm_bayes.errors import NotSupportedError


def _add_at(x: np.ndarray, at: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Add parts at places that may be the same, out of place."""
    found = x.astype(np.result_type(x, part))
    np.add.at(found, at, part)
    return found


def _put_at(x: np.ndarray, at: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Put parts at places, out of place."""
    found = x.astype(np.result_type(x, part))
    found[at] = part
    return found


def _inverse(K: np.ndarray) -> tuple[np.ndarray, float]:
    """Give K^-1 and log |K| of a positive definite matrix."""
    # As its transpose, which LAPACK reads as it stands.
    upper = np.linalg.cholesky(K).T
    half = dpotri(upper, lower=0)[0].T
    return half + np.tril(half, -1).T, 2.0 * float(np.log(np.diag(upper)).sum())


def _log_determinant(values: np.ndarray, pairs: np.ndarray, size: int) -> Any:
    """Give log |Q| of a sparse positive definite Q, of its entries below and on the diagonal."""
    from scipy.sparse import csc_array
    from scipy.sparse.linalg import splu

    i, j = pairs.T
    off = i != j
    at = np.concatenate([i, j[off]]), np.concatenate([j, i[off]])
    Q = csc_array((np.concatenate([values, values[off]]), at), shape=(size, size))
    factor = splu(Q, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
    pivots = factor.U.diagonal()
    # Of squares: a pivot may be negative, and is then with another.
    return 0.5 * np.log(pivots * pivots).sum()


NUMPY = SimpleNamespace(
    exp=np.exp,
    expm1=np.expm1,
    log=np.log,
    log1p=np.log1p,
    sqrt=np.sqrt,
    cos=np.cos,
    tan=np.tan,
    arctan=np.arctan,
    expit=special.expit,
    logit=special.logit,
    ndtr=special.ndtr,
    ndtri=special.ndtri,
    log_ndtr=special.log_ndtr,
    gammaln=special.gammaln,
    softplus=lambda x: np.logaddexp(0, x),
    where=np.where,
    clip=np.clip,
    unrounded=lambda p: p,
    stack=np.stack,
    concatenate=np.concatenate,
    eye=np.eye,
    sin=np.sin,
    real=np.real,
    kv=special.kv,
    sum=np.sum,
    add_at=_add_at,
    put_at=_put_at,
    inverse=_inverse,
    log_determinant=_log_determinant,
)


@lru_cache
def graph() -> Any:
    """Give the same functions for PyTensor's graphs; imports PyTensor when it is first called."""
    import pytensor.tensor as pt
    from pytensor.gradient import disconnected_grad

    def inverse(K: Any) -> tuple[Any, Any]:
        lower = pt.linalg.cholesky(K)
        half = pt.linalg.solve_triangular(lower, pt.eye(K.shape[0]), lower=True)
        return half.T @ half, 2.0 * pt.sum(pt.log(pt.diag(lower)))

    def log_determinant(values: Any, pairs: np.ndarray, size: int) -> Any:
        i, j = pairs.T
        lower = pt.set_subtensor(pt.zeros((size, size))[i, j], values)
        Q = lower + lower.T - pt.diag(pt.diag(lower))
        return 2.0 * pt.sum(pt.log(pt.diag(pt.linalg.cholesky(Q))))

    def no_bessel(order: Any, x: Any) -> Any:
        raise NotSupportedError(
            "PyTensor has no slopes of Bessel functions, so that there is no model.pymc with this "
            "smoothness: take nu = 0.5, 1.5 or 2.5; the other methods can do without."
        )

    def clip(x: Any, low: float, high: float) -> Any:
        # With the slopes of x: beyond an end, where it is rounded, they say where to go. Not
        # PyTensor's clip, the third derivatives of which are wrong in 3.3.
        rise = x - disconnected_grad(x)
        found = pt.switch(x < low, low + rise, pt.switch(x > high, high + rise, x))
        found.tag.unclipped = x
        return found

    def unrounded(p: Any) -> Any:
        x = getattr(getattr(p, "tag", None), "unclipped", None)
        logistic = x is not None and x.owner is not None and x.owner.op == pt.sigmoid
        return x if logistic else p

    def put_at(x: np.ndarray, at: np.ndarray, part: Any) -> Any:
        # PyTensor 3.3 takes wrong slopes where set_subtensor and inc_subtensor are fused.
        source = np.arange(len(x))
        source[at] = len(x) + np.arange(len(at))
        return pt.concatenate([x, part])[source]

    return SimpleNamespace(
        exp=pt.exp,
        expm1=pt.expm1,
        log=pt.log,
        log1p=pt.log1p,
        sqrt=pt.sqrt,
        cos=pt.cos,
        tan=pt.tan,
        arctan=pt.arctan,
        expit=pt.sigmoid,
        logit=lambda p: pt.log(p) - pt.log1p(-p),
        ndtr=lambda x: 0.5 * pt.erfc(-x / np.sqrt(2.0)),
        ndtri=lambda p: -np.sqrt(2.0) * pt.erfcinv(2 * p),
        log_ndtr=_log_ndtr,
        gammaln=pt.gammaln,
        softplus=pt.softplus,
        where=pt.switch,
        clip=clip,
        unrounded=unrounded,
        stack=pt.stack,
        concatenate=pt.concatenate,
        eye=pt.eye,
        sin=pt.sin,
        real=lambda x: x,
        kv=no_bessel,
        sum=pt.sum,
        add_at=lambda x, at, part: pt.inc_subtensor(pt.as_tensor(x)[at], part),
        put_at=put_at,
        inverse=inverse,
        log_determinant=log_determinant,
    )


def _log_ndtr(x: Any) -> Any:
    """Give log Phi(x) on a graph: by the scaled function left of -1, where Phi underflows."""
    import pytensor.tensor as pt

    t = x / np.sqrt(2.0)
    left = pt.log(0.5 * pt.erfcx(-pt.minimum(t, -0.5))) - t * t
    return pt.switch(t < -0.5, left, pt.log1p(-0.5 * pt.erfc(pt.maximum(t, -0.5))))
