"""Effects and coefficients, the outer parameters given: moments, and draws."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from glmm_bayes.draws import uncentre
from glmm_bayes.engine.latent import Latent
from glmm_bayes.errors import ConvergenceError

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
        What their log density has beyond that of the target, up to a constant.
    mean, variance, skewness
        `(M,)`.
    shift
        `(k,)` mean less mode of the coefficients, in standard deviations.
    settled
        Whether the approximation was found.
    kept
        What draws are made of.
    """

    psi: np.ndarray
    gain: float
    mean: np.ndarray
    variance: np.ndarray
    skewness: np.ndarray
    shift: np.ndarray
    settled: bool
    kept: Any


class Given(ABC):
    """
    A model's effects and coefficients as an approximately normal vector, psi given.

    Parameters
    ----------
    target
        The log density of psi, with its gradient.
    k
        The number of free coefficients of the mean.
    """

    def __init__(self, target: Any, latent: Latent, k: int) -> None:
        self.target, self.latent, self.k, self.N = target, latent, k, latent.size
        held = target.coordinates.held[0]
        names = target.model.design.predictors[target.model.main].names
        means = target.model.means(target.model.main)
        self.turn = uncentre(np.eye(len(held)), names, means)[np.isnan(held)]
        self.offset = uncentre(np.nan_to_num(held)[None], names, means)[0]

    def visit(self, psi: np.ndarray) -> Node | None:
        """Compute at psi; None where the density is zero or the equations cannot be solved."""
        try:
            return self.visited(psi)
        except (np.linalg.LinAlgError, ConvergenceError):
            return None

    @abstractmethod
    def visited(self, psi: np.ndarray) -> Node:
        """Compute at psi."""

    @abstractmethod
    def deviations(self, node: Node, rng: np.random.Generator, size: int) -> np.ndarray:
        """Draw coefficients and effects less their mean, `(size, k + N)`."""

    # ---- to the M numbers

    def reported(self, x: np.ndarray, Lambdas: Sequence[np.ndarray]) -> np.ndarray:
        """Go from effects in standard units and coefficients `(S, N + k)`, linearly."""
        gamma = x[:, self.N :]
        effects = [
            (x[:, at].reshape(-1, term.p) @ L.T).reshape(len(x), term.size)
            for term, at, L in zip(self.latent.terms, self.latent.places, Lambdas, strict=True)
        ]
        return np.concatenate([gamma, *effects, gamma @ self.turn], axis=1)

    def means(self, u: np.ndarray, gamma: np.ndarray, Lambdas: Sequence[np.ndarray]) -> np.ndarray:
        """Give them `(M,)` at effects and coefficients."""
        found = self.reported(np.concatenate([u, gamma])[None], Lambdas)[0]
        found[self.k + self.N :] += self.offset
        return found

    def variances(
        self, V: np.ndarray, blocks: Sequence[np.ndarray], Lambdas: Sequence[np.ndarray]
    ) -> np.ndarray:
        """Give theirs `(M,)` from the coefficients' covariance and the levels' `(q, p, p)`."""
        effects = [
            np.einsum("ab,qbc,ac->qa", L, block, L).ravel()
            for L, block in zip(Lambdas, blocks, strict=True)
        ]
        turned = np.einsum("ka,kl,la->a", self.turn, V, self.turn)
        return np.concatenate([np.diag(V), *effects, turned])


def bent_draws(x: np.ndarray, bent: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """
    Give draws with the covariance and the third cumulants that are wanted.

    Parameters
    ----------
    x, bent
        `(S, Q)` normal draws, and what the third order makes of each: see `engine.thirdorder`.
    """
    # Another draw's bend, with a random sign, has the covariance that is lacking.
    sign = np.where(rng.random(len(x)) < 0.5, -1.0, 1.0)[:, None]
    return x + bent / 6 + sign * BEYOND * np.roll(bent, 1, axis=0)
