"""The likelihood of a Gaussian response whose residuals are correlated."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from glmm_bayes.engine.algebra.dense import Dense
from glmm_bayes.engine.gaussian import Gaussian
from glmm_bayes.engine.latent import Pattern, Precision
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.model import Model
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.gaussian import GaussianObjective
from glmm_bayes.modes.reading import centred_columns, read_latent

MOST_ROWS = 3000  # that vary together, whose precision is factored as a dense matrix
MOST_ENTRIES = 20_000_000  # of the columns of effects, written out


@dataclass(frozen=True, eq=False)
class Residual:
    """
    What of a model does not change while the residuals' precision Q does; rows are Q's nodes.

    Notes
    -----
    With Q = C C', y* = C' y is a response with independent residuals of the predictors C' X and
    C' Z; log |Q| / 2 is what the change of variables adds. Where sigma is times something known,
    all is divided by that first.

    Attributes
    ----------
    scale
        `(n,)` times what sigma is each row's.
    """

    model: Model
    dense: Dense
    y: np.ndarray
    scale: np.ndarray
    pattern: Pattern

    @classmethod
    def of(cls, model: Model) -> "Residual":
        """
        Write a model's columns out.

        Raises
        ------
        NotSupportedError
            If there are too many rows or effects for that.
        """
        residual, latent, n = model.design.residual, read_latent(model), model.nobs
        assert residual is not None
        pairs = residual.level_structure.pairs
        assert pairs is not None
        sizes = np.bincount(_parts(pairs, n))
        if sizes.max() > MOST_ROWS or n * latent.size > MOST_ENTRIES:
            raise NotSupportedError(
                f"{residual.text!r} has {sizes.max()} rows that vary together, "
                f"beside {latent.size} effects, which is too many for the dense matrices this "
                f"takes; as a random term in the first formula it has no such limit."
            )
        order = np.argsort(residual.node)
        X = np.ascontiguousarray(centred_columns(model, "mu"))
        whole = Dense.build(latent, X)
        y = model.family.working(model.design.y) - model.design.predictors["mu"].offset
        sigma = model.design.predictors.get("sigma")
        scale = np.ones(n) if sigma is None else np.exp(sigma.offset[order])
        Z = whole.Z[:, order] / scale[:, None]
        dense = Dense(latent, X[order] / scale[:, None], Z)
        return cls(model, dense, y[order] / scale, scale, Pattern(n, pairs))

    @cached_property
    def parts(self) -> list[np.ndarray]:
        """The rows that vary together."""
        label = _parts(self.pattern.pairs, len(self.y))
        return [np.flatnonzero(label == k) for k in range(label.max() + 1)]

    def whitened(self, Q: Precision) -> Gaussian:
        """Turn rows so that their residuals are independent."""
        matrix, X, y = self.pattern.matrix(Q.values), np.empty_like(self.dense.X), self.y.copy()
        Z = np.empty_like(self.dense.Z)
        for rows in self.parts:
            root = np.linalg.cholesky(matrix[rows][:, rows].toarray()).T
            X[rows], y[rows] = root @ self.dense.X[rows], root @ self.y[rows]
            Z[0, rows] = root @ self.dense.Z[0, rows]
        system = replace(self.dense, X=X, Z=Z)
        return Gaussian(system, X, y, np.ones(len(y)), float(len(y)))

    def slopes(
        self, found: Any, gamma: np.ndarray, *, restricted: bool
    ) -> tuple[Precision, Precision]:
        """Give the slopes of the profile, and of the squares over sigma^2, by Q."""
        spread = self.dense.at(found.factor.spread.Lambdas, found.factor.spread.precisions)
        r = self.y - self.dense.X @ gamma - spread.eta(found.u)[0]
        used = found.factor if restricted else found.factor.effects_only()
        columns = np.hstack([spread.J[0], self.dense.X]) if restricted else spread.J[0]
        K = columns @ np.linalg.inv(np.linalg.cholesky(used.H)).T if columns.size else columns
        i, j = self.pattern.pairs.T
        squares = self.pattern.twice * r[i] * r[j] / found.sigma**2
        traces = self.pattern.twice * np.einsum("ka,ka->k", K[i], K[j])
        return Precision(-0.5 * (squares + traces), 0.5), Precision(squares, 0.0)


def _parts(pairs: np.ndarray, n: int) -> np.ndarray:
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    graph = csr_array((np.ones(len(pairs)), tuple(pairs.T)), shape=(n, n))
    return connected_components(graph, directed=False)[1]


@dataclass(eq=False)
class CorrelatedObjective(GaussianObjective):
    """The likelihood by the factors over sigma and by the residuals' parameters."""

    residual: Residual | None = None
    _slopes: tuple[Precision, Precision] | None = field(default=None, init=False)

    def gaussian_at(self, x: np.ndarray) -> Gaussian:
        """Give the response with independent residuals that the one at x is."""
        assert self.residual is not None
        return self.residual.whitened(self.coordinates.residual_precision(x))

    def evaluated(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Give value and gradient at x, sigma and the coefficients profiled."""
        c, residual = self.coordinates, self.residual
        assert residual is not None
        Q = c.residual_precision(x)
        self.gaussian = residual.whitened(Q)
        found = self.gaussian.profile(c.Lambdas(x), c.precisions(x), restricted=self.restricted)
        volume = 0.5 * Q.log_determinant - float(np.log(residual.scale).sum())
        self.last = replace(found, value=found.value + volume)
        self._slopes = residual.slopes(found, found.gamma, restricted=self.restricted)
        slope = c.pull(x, self.blank, found.by_Lambda, found.by_precision, self._slopes[0])
        return self.last.value, slope

    def squares_slope(self, x: np.ndarray) -> np.ndarray:
        """Give the slopes of the squares over sigma^2 where it was evaluated last."""
        assert self.last is not None
        assert self._slopes is not None
        by = self.last.squares_by, self.last.squares_by_precision
        return self.coordinates.pull(x, self.blank, *by, self._slopes[1])

    def predicted(self) -> np.ndarray:
        """Give the mean's predictor `(n,)`, the offset left out, where it was evaluated last."""
        assert self.last is not None
        assert self.residual is not None
        dense, own = self.residual.dense, self.residual.model.design.residual
        assert own is not None
        spread = dense.at(self.last.factor.spread.Lambdas)
        found = dense.X @ self.last.gamma + spread.eta(self.last.u)[0]
        return (self.residual.scale * found)[own.node]


def gaussian_objective(
    gaussian: Gaussian, coordinates: Coordinates, *, restricted: bool
) -> GaussianObjective:
    """Give the objective of a model with a normal response, its residuals independent or not."""
    model = coordinates.model
    if model.design.residual is None:
        return GaussianObjective(gaussian, coordinates, restricted)
    return CorrelatedObjective(gaussian, coordinates, restricted, residual=Residual.of(model))
