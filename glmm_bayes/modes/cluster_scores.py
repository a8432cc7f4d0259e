"""The slopes of each independent cluster's own log likelihood, at a maximum."""

from dataclasses import replace

import numpy as np

from glmm_bayes.engine.algebra.lapack import one_thread
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.modes.another import changed
from glmm_bayes.modes.chains import read_quadrature
from glmm_bayes.modes.laplace import LaplaceObjective
from glmm_bayes.modes.mode import Mode
from glmm_bayes.modes.reading import read_laplace, read_rows


def cluster_scores(mode: Mode, label: np.ndarray, nagq: int = 1) -> np.ndarray:
    """
    Differentiate the marginal log likelihood of each cluster by the search's coordinates.

    Parameters
    ----------
    label
        `(n,)` the rows' clusters from 0, which share no random effect.
    nagq
        The nodes of quadrature; 1 is Laplace's method.

    Returns
    -------
    array
        `(c, m)`; what is at an edge has no slope, 0.

    Raises
    ------
    NotSupportedError
        If the likelihood of a cluster cannot be computed.

    Notes
    -----
    Effects integrated out, clusters are independent, and the log likelihood is their sum. That of
    one is the likelihood in which all other rows weigh nothing.
    """
    c, model = mode.coordinates, mode.coordinates.model
    response, laplace = model.design.response, read_laplace(model)
    given = np.ones(model.nobs) if response.weights is None else response.weights
    found = np.empty((int(label.max()) + 1, c.size))
    with one_thread(), np.errstate(all="ignore"):
        for cluster in range(len(found)):
            own = replace(response, weights=np.where(label == cluster, given, 0.0))
            alone = changed(model, design=model.design.with_response(own))
            part = replace(laplace, rows=read_rows(alone, laplace.system.order))
            part.u = mode.u
            integral = part if nagq == 1 else read_quadrature(alone, part, nagq)
            value, found[cluster] = LaplaceObjective(integral, c, joint=False)(mode.x)
            if not np.isfinite(value):
                raise NotSupportedError(
                    "The likelihood of a cluster alone cannot be computed at the estimates; "
                    "gb.bootstrap(fit, kind='cases') draws clusters instead."
                )
    found[:, c.idle(mode.x)] = 0.0
    return found
