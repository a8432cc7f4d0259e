"""The functions a formula is written with, by the same names for arrays and PyTensor's graphs."""

from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy import special

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
)


@lru_cache
def graph() -> Any:
    """Give the same functions for PyTensor's graphs; imports PyTensor when it is first called."""
    import pytensor.tensor as pt

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
    )
