"""Proposals of everything given outer parameters: how they are made, and how many at a time."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from glmm_bayes.posthoc.weighed import Weighed

CHUNK, MANY = 32, 1024  # draws at a time: large ones, small ones

type Propose = Callable[[np.ndarray, np.ndarray, np.random.Generator], Weighed]


@dataclass(frozen=True, eq=False)
class Proposer:
    """
    How proposals are made, and how many at a time.

    Attributes
    ----------
    propose
        Takes psi `(S, d)`, its log density `(S,)` up to a constant, and random numbers.
    exact
        Whether psi is weighed by its own posterior, not by the surrogate's.
    """

    propose: Propose
    chunk: int
    exact: bool
