"""Effects and coefficients near a normal distribution: of any response."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from glmm_bayes.engine.algebra.dense import Dense
from glmm_bayes.engine.around.batched import MENDED, is_small
from glmm_bayes.engine.around.thirdorder import AtOnce, OneByOne, Turned
from glmm_bayes.engine.around.variational import Nearest, nearest_normal, revived
from glmm_bayes.engine.around.whitened import log_volume
from glmm_bayes.engine.newton import Ascent
from glmm_bayes.posthoc.given import Given, Node, bent_draws
from glmm_bayes.posthoc.target import Target

AT_ONCE = 1024  # draws from which the third order is computed there
FEWEST, MOST = 128, 1024  # and one by one
VAGUE = 0.15  # error of the log of an integral for which so many are enough


@dataclass(frozen=True, eq=False)
class Kept:
    """The nearest normal by the arrays that say it all: see `engine.variational.Nearest`."""

    u: np.ndarray
    gamma: np.ndarray
    eta: np.ndarray
    weights: np.ndarray
    precision: np.ndarray


class NearNormal(Given):
    """The nearest normal, mended to third order; at all psi from the same standard normals."""

    def __init__(self, target: Target) -> None:
        self.laplace, self.system = target.laplace, target.laplace.system
        super().__init__(target, self.system.latent, self.laplace.X[0].shape[1])
        self.normals: np.ndarray | None = None

    def visited(self, psi: np.ndarray) -> Node:
        """Compute at psi."""
        ascent, at, factor = self.target.ascended(psi)
        self.laplace.u = at.u
        constant = 0.5 * self.k * np.log(2 * np.pi)
        laplace = at.value + log_volume(factor) + constant
        near = nearest_normal(ascent, at, factor, self.target.prior)
        Lambdas = ascent.spread.Lambdas
        turned = self._turned(near, self._same_normals(near))
        x, bent = (self.reported(part, Lambdas) for part in (turned.x, turned.bent))
        V = near.factor.coefficient_inverse() if self.k else np.empty((0, 0))
        variance = self.variances(V, near.factor.variances(), Lambdas)
        variance = variance + np.mean(bent**2, axis=0) / 4
        with np.errstate(all="ignore"):
            skewness = np.nan_to_num(0.5 * np.mean(x**2 * bent, axis=0) / variance**1.5)
        gain = near.bound + 0.5 * float(np.mean(turned.cubic**2)) - laplace
        if not np.isfinite(gain):
            raise np.linalg.LinAlgError("the density is not finite")
        shift = (near.gamma - at.gamma)[: self.k] / np.sqrt(near.variances)
        mean = self.means(near.u, near.gamma[: self.k], Lambdas)
        kept = Kept(near.u, near.gamma, near.eta, near.weights, near.precision)
        return Node(psi, gain, mean, variance, skewness, shift, near.settled, kept)

    def deviations(self, node: Node, rng: np.random.Generator, size: int) -> np.ndarray:
        """Draw coefficients and effects less their mean, `(size, k + N)`."""
        kept, laplace = node.kept, self.laplace
        x, coordinates = self.target.tiled(node.psi), self.target.coordinates
        Lambdas: Sequence[np.ndarray] = coordinates.Lambdas(x)
        spread = self.system.at(Lambdas, coordinates.precisions(x))
        ascent = Ascent(laplace.rows, laplace.X[0], spread, laplace.random, laplace.prior)
        near = revived(
            ascent, kept.u, kept.gamma, kept.eta, kept.weights, kept.precision, self.target.prior
        )
        turned = self._turned(near, rng.standard_normal((size, self.N + self.k)))
        drawn = bent_draws(turned.x, turned.bent, rng)
        return self.reported(drawn, Lambdas)[:, : self.k + self.N]

    @cached_property
    def _dense(self) -> Dense | None:
        """The columns written out, for small models."""
        if not is_small(self.latent, self.k, MENDED):
            return None
        return Dense.build(self.latent, self.laplace.X[0])

    def _turned(self, near: Nearest, z: np.ndarray) -> Turned:
        if self._dense is None:
            return OneByOne(near).turned(z)
        J = self._dense.at(near.ascent.spread.Lambdas).J[:, self.system.order]
        return AtOnce(near, J).turned(z)

    def _same_normals(self, near: Nearest) -> np.ndarray:
        """Draw them at the first node, as many as keep the integral's error small."""
        if self.normals is None:
            rng, Q, size = np.random.default_rng(0), self.N + self.k, AT_ONCE
            if self._dense is None:
                tried = OneByOne(near).turned(rng.standard_normal((FEWEST, Q)))
                volume = 0.5 * float(np.mean(tried.cubic**2))
                size = int(np.clip(2 * (volume / VAGUE) ** 2, FEWEST, MOST))
            self.normals = rng.standard_normal((size, Q))
        return self.normals
