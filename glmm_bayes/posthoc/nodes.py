"""Effects and coefficients at single outer parameters: moments, and draws of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from glmm_bayes.draws import uncentre
from glmm_bayes.engine.batched import is_small
from glmm_bayes.engine.dense import Dense
from glmm_bayes.engine.newton import Ascent
from glmm_bayes.engine.thirdorder import AtOnce, OneByOne, Turned
from glmm_bayes.engine.variational import Nearest, nearest_normal, revived
from glmm_bayes.errors import ConvergenceError
from glmm_bayes.posthoc.target import Around

AT_ONCE = 2048  # draws from which the third order is computed, where all come at once
FEWEST, MOST = 128, 1024  # and one by one
VAGUE = 0.15  # the log volume's error for which so many are enough
BEYOND = np.sqrt(2.0) / 3  # of `bent`, added to x + bent / 6: together the whole covariance


@dataclass(frozen=True, eq=False)
class Node:
    """
    What is kept of effects and coefficients, given psi.

    Moments are of M numbers: the k free coefficients of centred columns, all effects b, and the
    K coefficients of the columns as they are.

    Attributes
    ----------
    psi
        `(d,)` the outer parameters.
    gain
        What their log density has beyond Laplace's, up to a constant.
    volume
        The third order's part of it.
    mean, variance, skewness
        `(M,)`.
    shift
        `(k,)` mean less mode of the coefficients, in standard deviations.
    u, eta, weights, precision
        The nearest normal: see `engine.variational`.
    settled
        Whether it was found.
    """

    psi: np.ndarray
    gain: float
    volume: float
    mean: np.ndarray
    variance: np.ndarray
    skewness: np.ndarray
    shift: np.ndarray
    u: np.ndarray
    eta: np.ndarray
    weights: np.ndarray
    precision: np.ndarray
    settled: bool


class Visitor:
    """Computes nodes, all of them from the same standard normals."""

    def __init__(self, around: Around) -> None:
        self.around, self.target = around, around.target
        self.system, self.laplace = around.target.laplace.system, around.target.laplace
        model, latent = self.target.model, self.system.latent
        self.k, self.N = self.laplace.X[0].shape[1], latent.size
        held = self.target.coordinates.held[0]
        names, means = model.design.predictors["mu"].names, model.means("mu")
        self.turn = uncentre(np.eye(len(held)), names, means)[np.isnan(held)]
        self.offset = uncentre(np.nan_to_num(held)[None], names, means)[0]
        self.normals: np.ndarray | None = None

    @cached_property
    def _dense(self) -> Dense | None:
        """The columns written out, for small models."""
        if not is_small(self.around.problem):
            return None
        return Dense.build(self.system.latent, self.around.problem.X)

    def visit(self, psi: np.ndarray) -> Node | None:
        """Compute at psi; None where the density is zero or the equations cannot be solved."""
        try:
            return self._visited(psi)
        except (np.linalg.LinAlgError, ConvergenceError):
            return None

    def _visited(self, psi: np.ndarray) -> Node:
        Lambdas, coefficients = self._given(psi)
        ascent, at, factor = self.laplace.ascended(coefficients, Lambdas, joint=True)
        self.laplace.u = at.u
        constant = 0.5 * self.k * np.log(2 * np.pi)
        laplace = at.value - 0.5 * factor.log_determinant + constant
        near = nearest_normal(ascent, at, factor, self.target.prior)
        turned = self._turned(near, self._same_normals(near))
        x, bent = (self._reported(part, Lambdas) for part in (turned.x, turned.bent))
        volume = 0.5 * float(np.mean(turned.cubic**2))
        variance = self._variances(near, Lambdas) + np.mean(bent**2, axis=0) / 4
        skewness = 0.5 * np.mean(x**2 * bent, axis=0) / variance**1.5
        mean = np.concatenate([near.u, near.gamma])
        gain = near.bound + volume - laplace
        if not np.isfinite(gain):
            raise np.linalg.LinAlgError("the density is not finite")
        shift = (near.gamma - at.gamma) / np.sqrt(near.variances)
        found = self._reported(mean[None], Lambdas)[0]
        found[self.k + self.N :] += self.offset
        return Node(
            psi, gain, volume, found, variance, np.nan_to_num(skewness), shift, near.u, near.eta,
            near.weights, near.precision, near.settled,
        )  # fmt: skip

    def deviations(self, node: Node, rng: np.random.Generator, size: int) -> np.ndarray:
        """Draw coefficients and effects less their mean, `(size, k + N)`."""
        Lambdas, _ = self._given(node.psi)
        gamma = node.mean[: self.k]
        near = revived(
            self._ascent(Lambdas), node.u, gamma, node.eta, node.weights, node.precision,
            self.target.prior,
        )  # fmt: skip
        turned = self._turned(near, rng.standard_normal((size, self.N + self.k)))
        # Another draw's bend, with a random sign, has the covariance that is lacking.
        sign = np.where(rng.random(size) < 0.5, -1.0, 1.0)[:, None]
        other = np.roll(turned.bent, 1, axis=0)
        drawn = turned.x + turned.bent / 6 + sign * BEYOND * other
        return self._reported(drawn, Lambdas)[:, : self.k + self.N]

    def _given(self, psi: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        x = self.target.x(psi)
        coefficients = self.target.coordinates.split(x)
        coefficients[0] = self.target.gamma
        return self.target.coordinates.Lambdas(x), coefficients

    def _ascent(self, Lambdas: Sequence[np.ndarray]) -> Ascent:
        laplace = self.laplace
        spread = self.system.at(Lambdas)
        return Ascent(laplace.rows, laplace.X[0], spread, laplace.random, laplace.prior)

    def _turned(self, near: Nearest, z: np.ndarray) -> Turned:
        if self._dense is None:
            return OneByOne(near).turned(z)
        J = self._dense.at(near.ascent.spread.Lambdas).J[:, self.system.order]
        return AtOnce(near, J).turned(z)

    def _same_normals(self, near: Nearest) -> np.ndarray:
        """Draw them at the first node, as many as keep the error of the volume small."""
        if self.normals is None:
            rng, Q = np.random.default_rng(0), self.N + self.k
            size = AT_ONCE
            if self._dense is None:
                tried = OneByOne(near).turned(rng.standard_normal((FEWEST, Q)))
                volume = 0.5 * float(np.mean(tried.cubic**2))
                size = int(np.clip(2 * (volume / VAGUE) ** 2, FEWEST, MOST))
            self.normals = rng.standard_normal((size, Q))
        return self.normals

    def _reported(self, x: np.ndarray, Lambdas: Sequence[np.ndarray]) -> np.ndarray:
        """Go from effects in standard units and coefficients `(S, N + k)` to the M numbers."""
        latent, gamma = self.system.latent, x[:, self.N :]
        effects = [
            (x[:, at].reshape(-1, term.p) @ L.T).reshape(len(x), -1)
            for term, at, L in zip(latent.terms, latent.places, Lambdas, strict=True)
        ]
        return np.concatenate([gamma, *effects, gamma @ self.turn], axis=1)

    def _variances(self, near: Nearest, Lambdas: Sequence[np.ndarray]) -> np.ndarray:
        """Give the nearest normal's variances of the M numbers."""
        V: Any = near.factor.coefficient_inverse() if self.k else np.empty((0, 0))
        blocks = near.factor.variances()
        effects = [
            np.einsum("ab,qbc,ac->qa", L, block, L).ravel()
            for L, block in zip(Lambdas, blocks, strict=True)
        ]
        turned = np.einsum("ka,kl,la->a", self.turn, V, self.turn)
        return np.concatenate([np.diag(V), *effects, turned])
