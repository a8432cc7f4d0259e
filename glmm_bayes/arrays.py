"""The functions a formula is written with, by the same names for arrays and PyTensor's graphs."""

from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy import special


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


NUMPY = SimpleNamespace(
    exp=np.exp,
    expm1=np.expm1,
    log=np.log,
    log1p=np.log1p,
    sqrt=np.sqrt,
    tan=np.tan,
    arctan=np.arctan,
    expit=special.expit,
    logit=special.logit,
    ndtr=special.ndtr,
    ndtri=special.ndtri,
    gammaln=special.gammaln,
    softplus=lambda x: np.logaddexp(0, x),
    where=np.where,
    clip=np.clip,
    stack=np.stack,
    concatenate=np.concatenate,
    eye=np.eye,
    sum=np.sum,
    add_at=_add_at,
    put_at=_put_at,
)


@lru_cache
def graph() -> Any:
    """Give the same functions for PyTensor's graphs; imports PyTensor when it is first called."""
    import pytensor.tensor as pt

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
        tan=pt.tan,
        arctan=pt.arctan,
        expit=pt.sigmoid,
        logit=lambda p: pt.log(p) - pt.log1p(-p),
        ndtr=lambda x: 0.5 * pt.erfc(-x / np.sqrt(2.0)),
        ndtri=lambda p: -np.sqrt(2.0) * pt.erfcinv(2 * p),
        gammaln=pt.gammaln,
        softplus=pt.softplus,
        where=pt.switch,
        clip=pt.clip,
        stack=pt.stack,
        concatenate=pt.concatenate,
        eye=pt.eye,
        sum=pt.sum,
        add_at=lambda x, at, part: pt.inc_subtensor(pt.as_tensor(x)[at], part),
        put_at=put_at,
    )
