"""Each independent cluster's own log likelihood at a maximum: its slopes, and its curvature."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from glmm_bayes.engine.algebra.lapack import one_thread
from glmm_bayes.engine.algebra.systems import build_system
from glmm_bayes.engine.integrals.chain import Chain
from glmm_bayes.engine.integrals.quadrature import Quadrature
from glmm_bayes.engine.laplace import Laplace
from glmm_bayes.engine.latent import Latent, Term
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.modes.another import changed
from glmm_bayes.modes.chains import read_density
from glmm_bayes.modes.laplace import LaplaceObjective
from glmm_bayes.modes.mode import Mode
from glmm_bayes.modes.reading import centred_columns, read_latent, read_rows

STEP = 1e-3  # of a standard error, between the slopes that make the curvature


@dataclass(frozen=True, eq=False)
class Alone:
    """
    The likelihood of every cluster by itself.

    Parameters
    ----------
    label
        `(n,)` the rows' clusters from 0, which share no random effect.
    nagq
        The nodes of quadrature; 1 is Laplace's method.

    Notes
    -----
    Effects integrated out, clusters are independent, and the log likelihood is their sum. Of a
    cluster only its rows and the levels they meet are looked at; levels that depend on others stay,
    as what is without rows adds nothing.
    """

    mode: Mode
    label: np.ndarray
    nagq: int = 1

    def scores(self) -> np.ndarray:
        """
        Give the slopes `(c, m)` by the search's coordinates; what is at an edge has none, 0.

        Raises
        ------
        NotSupportedError
            If the likelihood of a cluster cannot be computed.
        """
        x, idle = self.mode.x, self.mode.coordinates.idle(self.mode.x)
        with one_thread(), np.errstate(all="ignore"):
            found = np.stack([_slope(objective, x) for objective in self._objectives()])
        return np.where(idle, 0.0, found)

    def curvatures(self) -> np.ndarray:
        """Give minus the Hessians `(c, m, m)`, by differences of the exact slopes."""
        x, idle = self.mode.x, self.mode.coordinates.idle(self.mode.x)
        steps = STEP * np.sqrt(np.diag(self.mode.covariance))
        free = np.flatnonzero(~idle)
        found = []
        with one_thread(), np.errstate(all="ignore"):
            for objective in self._objectives():
                H = np.zeros((len(x), len(x)))
                for k in free:
                    step = steps[k] * (np.arange(len(x)) == k)
                    H[k] = _slope(objective, x - step) - _slope(objective, x + step)
                    H[k] /= 2 * steps[k]
                H[idle] = H[:, idle] = 0.0
                found.append(0.5 * (H + H.T))
        return np.stack(found)

    def _objectives(self) -> Iterator[LaplaceObjective]:
        """Give the clusters' likelihoods, one after the other."""
        c, model = self.mode.coordinates, self.mode.coordinates.model
        names = [p.name for p in model.family.parameters]
        X, predictors = [centred_columns(model, p) for p in names], model.design.predictors
        none = np.zeros(model.nobs)
        offset = np.stack([predictors[p].offset if p in predictors else none for p in names])
        latent, response = read_latent(model), model.design.response
        modes, order = latent.split(self.mode.u), np.argsort(self.label, kind="stable")
        for rows in np.split(order, np.cumsum(np.bincount(self.label))[:-1]):
            parts = [_part(term, rows) for term in latent.terms]
            own = Latent([term for term, _ in parts], latent.predictors, len(rows))
            alone = changed(model, design=model.design.with_response(response.take(rows)))
            system = build_system(own, X[0][rows])
            at = rows[system.order]
            inner = read_rows(alone, system.order)
            laplace = Laplace(inner, [part[at] for part in X], offset[:, at], system)
            kept = [v[levels].ravel() for v, (_, levels) in zip(modes, parts, strict=True)]
            laplace.u = np.concatenate([*kept, np.empty(0)])
            integral: Laplace | Quadrature = laplace
            if self.nagq > 1:
                integral = Quadrature(laplace, read_density(alone), Chain.build(own), self.nagq)
            yield LaplaceObjective(integral, c, joint=False)


def _part(term: Term, rows: np.ndarray) -> tuple[Term, np.ndarray]:
    """Keep some rows of a term, and which levels `(q,)` it then has."""
    index = term.index[rows]
    levels, at = np.arange(term.q), index
    if term.pattern is None:
        levels, at = np.unique(index, return_inverse=True)
        at = at.reshape(index.shape)
    Z = {number: part[rows] for number, part in term.Z.items()}
    weights = term.weights[rows]
    return replace(term, q=len(levels), index=at, weights=weights, Z=Z), levels


def _slope(objective: LaplaceObjective, x: np.ndarray) -> np.ndarray:
    value, slope = objective(x)
    if not np.isfinite(value):
        raise NotSupportedError(
            "The likelihood of a cluster alone cannot be computed at the estimates; "
            "gb.bootstrap(fit, kind='cases') draws clusters instead."
        )
    return slope
