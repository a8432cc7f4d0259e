"""A normal mode whose residuals, or levels, depend on each other: V by rows, and how it moves."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from glmm_bayes.engine.algebra.lapack import one_thread
from glmm_bayes.engine.block_directions import BlockSums
from glmm_bayes.engine.directions import Direction
from glmm_bayes.model import Model
from glmm_bayes.modes.clusters import Covariances, independent_rows
from glmm_bayes.modes.mode import Mode
from glmm_bayes.modes.normal import Moves, NormalMode, embedding, is_linear, mean_residual
from glmm_bayes.modes.reading import centred_columns

LARGEST = 2000  # rows that vary together, whose covariance is a dense matrix
STEP = 0.02  # of a standard error, between the covariances that make their derivatives

type Blocks = Sequence[np.ndarray]


def has_rows(model: Model) -> bool:
    """Tell whether `read_by_rows` can read a mode of the model."""
    proper = all(term.level_structure.held is None for term in model.design.terms)
    if not (is_linear(model) and proper):
        return False
    return int(np.bincount(independent_rows(model)).max(initial=0)) <= LARGEST


def read_by_rows(mode: Mode) -> NormalMode:
    """
    Sum what there is to know of V at a mode, and list the directions in which it can move.

    These are all coordinates but the mean's coefficients and what is at an edge; V is
    differentiated by differences, of the fourth order.
    """
    c = mode.coordinates
    found = Covariances(c, independent_rows(c.model))
    X, e = centred_columns(c.model, "mu")[:, np.isnan(c.held[0])], mean_residual(mode)
    with one_thread():
        sums = BlockSums.of(
            found.at(mode.x), [X[rows] for rows in found.rows], [e[rows] for rows in found.rows]
        )
        moves = _moves(mode, found)
    return NormalMode(sums, moves, lambda: moves, embedding(c))


def _moves(mode: Mode, covariances: Covariances) -> Moves:
    c, x = mode.coordinates, mode.x
    places = np.flatnonzero(~c.idle(x))
    places = places[places >= c.coefficients[0].stop]
    steps = STEP * np.sqrt(np.diag(mode.covariance))
    units = [steps[k] * (np.arange(len(x)) == k) for k in places]

    def at(*moved: tuple[float, int]) -> Blocks:
        return covariances.at(x + sum((times * units[a] for times, a in moved), np.zeros_like(x)))

    middle = at()
    first, second = [], {}
    for a, k in enumerate(places):
        ends = [at((times, a)) for times in (-2.0, -1.0, 1.0, 2.0)]
        first.append(_combined((1.0, -8.0, 8.0, -1.0), ends, 12 * steps[k]))
        curved = (-1.0, 16.0, -30.0, 16.0, -1.0)
        second[a, a] = _combined(curved, [*ends[:2], middle, *ends[2:]], 12 * steps[k] ** 2)
    corners = ((1, 1), (1, -1), (-1, 1), (-1, -1))
    # Of steps and of twice as long ones, so that the error of the second order falls out.
    weights = tuple(i * j * w for w in (4 / 12, -1 / 48) for i, j in corners)
    for a, b in combinations(range(len(places)), 2):
        ends = [at((i * s, a), (j * s, b)) for s in (1.0, 2.0) for i, j in corners]
        size = steps[places[a]] * steps[places[b]]
        second[a, b] = second[b, a] = _combined(weights, ends, size)
    m = range(len(places))
    return Moves(first, [[second[a, b] for b in m] for a in m])


def _combined(weights: Sequence[float], blocks: Sequence[Blocks], over: float) -> Direction:
    """Give the weighted sum of covariances as a direction."""
    parts = [
        sum(w / over * part for w, part in zip(weights, own, strict=True))
        for own in zip(*blocks, strict=True)
    ]
    return Direction(0.0, parts)
