"""A fit with single responses replaced: the mean's predictor of the very rows."""

import numpy as np

from glmm_bayes.engine.algebra.lapack import one_thread
from glmm_bayes.modes.another import with_response
from glmm_bayes.modes.mode import Mode
from glmm_bayes.modes.refits import LaplaceRefitter, Start

NUMBERS = 2_000_000  # responses that are held at once
TOLERANCE = 1e-12  # of the decrement: one response of many moves a maximum by little


def replaced_predictors(mode: Mode, rows: np.ndarray, values: np.ndarray, nagq: int) -> np.ndarray:
    """
    Refit the model with one response replaced at a time, everything estimated again.

    Parameters
    ----------
    rows, values
        `(S,)` which responses, and by what.

    Returns
    -------
    array
        `(S,)` the mean's predictor of each row, effects at their modes, without its own response;
        NaN where no maximum was reached.
    """
    start = Start.of(mode)
    model = start.coordinates.model
    refitter = LaplaceRefitter(start, False, False, nagq, tolerance=TOLERANCE)
    order, by_row = refitter.laplace.system.order, np.empty(model.nobs)
    found, size = np.full(len(rows), np.nan), max(NUMBERS // model.nobs, 1)
    with one_thread(), np.errstate(all="ignore"):
        for begin in range(0, len(rows), size):
            chunk = range(begin, min(begin + size, len(rows)))
            Y = np.tile(model.design.response.y, (len(chunk), 1))
            Y[np.arange(len(chunk)), rows[begin : begin + size]] = values[begin : begin + size]
            tops = refitter.maxima(Y)
            for y, x, reached, s in zip(Y, tops.x, tops.reached, chunk, strict=True):
                if reached:
                    by_row[order] = refitter.predictors(with_response(model, y), x)[0]
                    found[s] = by_row[rows[s]]
    return found
