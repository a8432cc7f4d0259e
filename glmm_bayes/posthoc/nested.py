"""A posterior by nested approximations: outer parameters, then effects and coefficients given them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from glmm_bayes.engine.composite import Interpolant, design_points
from glmm_bayes.errors import ConvergenceError
from glmm_bayes.posthoc.drawn import Drawn
from glmm_bayes.posthoc.nodes import Node, Visitor
from glmm_bayes.posthoc.target import Around

POOL = 4096  # draws of the outer parameters that stand for their density
FEW = 0.4  # of the pool that is effective, below which the design is laid out anew
LEAST = 1e-12  # of a variance
REACH = 2.0  # beyond sqrt(d), where the density is continued along a line
FLATTEST = -0.5  # its slope
INNER = 0.98  # of the pool that is not too far out to tell the spread


@dataclass(frozen=True, eq=False)
class Frame:
    """
    The outer parameters' own units: psi = middle + root z, and how far their density reaches.

    Attributes
    ----------
    sorted_z
        `(P, d)` each column of draws in these units, sorted.
    """

    middle: np.ndarray
    root: np.ndarray
    sorted_z: np.ndarray

    @classmethod
    def of(cls, psi: np.ndarray) -> "Frame":
        """Take draws `(P, d)` apart along the principal axes of their covariance."""
        middle, d = psi.mean(axis=0), psi.shape[1]
        values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(psi.T)) if d else np.empty((0, 0)))
        root = vectors * np.sqrt(np.maximum(values, LEAST))
        return cls(middle, root, np.sort(_in_units(psi, middle, root), axis=0))

    def z(self, psi: np.ndarray) -> np.ndarray:
        """Go to these units, `(S, d)`."""
        return _in_units(psi, self.middle, self.root)

    def points(self) -> np.ndarray:
        """Lay a design out, `(K, d)`, as far along each axis as the draws' quantiles are."""
        from scipy.special import ndtr

        wanted = design_points(len(self.middle))
        columns = zip(wanted.T, self.sorted_z.T, strict=True)
        z = np.stack([np.interp(ndtr(a), _grid(column), column) for a, column in columns], axis=1)
        return self.middle + z @ self.root.T

    def radius(self, psi: np.ndarray) -> np.ndarray:
        """Tell how far out psi `(S, d)` is, each axis and side in units of its own spread."""
        z = self.z(psi)
        left, right = self._reach
        return np.asarray(np.sqrt(np.square(np.where(z < 0, z / left, z / right)).sum(axis=1)))

    @cached_property
    def _reach(self) -> tuple[np.ndarray, np.ndarray]:
        from scipy.special import ndtr

        at = len(self.sorted_z) * ndtr([-2.0, 2.0])
        low, high = self.sorted_z[at.astype(int)]
        return np.minimum(low, -1.0) / 2, np.maximum(high, 1.0) / 2


def _grid(column: np.ndarray) -> np.ndarray:
    return (np.arange(len(column)) + 0.5) / len(column)


def _in_units(psi: np.ndarray, middle: np.ndarray, root: np.ndarray) -> np.ndarray:
    return np.linalg.solve(root, (psi - middle).T).T


class Nested:
    """
    A posterior by integrating approximations over a design in the outer parameters psi.

    At each point of the design, effects and coefficients have the nearest normal, its covariance
    and skewness mended to third order; in between, moments are polynomials of psi. The density
    of psi is Laplace's, by its surrogate, and a polynomial of what the nearest normal gains.

    Parameters
    ----------
    surrogate
        Of the outer parameters' density by Laplace's method.

    Attributes
    ----------
    nodes
        The points of the design.
    pool, weights
        `(P, d)` draws from the surrogate, and how much each counts, `(P,)` of sum one.

    Notes
    -----
    Rue, Martino & Chopin (2009), J. Royal Statistical Society B 71, 319-392; the mean corrected
    as in van Niekerk, Krainski, Rustand & Rue (2023), Computational Statistics & Data Analysis
    181, 107692.
    """

    def __init__(self, around: Around, surrogate: Any) -> None:
        self.around, self.surrogate = around, surrogate
        self.visitor, self.d = Visitor(around), len(around.psi)
        rng = np.random.default_rng(0)
        self.pool, inner = np.zeros((1, 0)), np.zeros((1, 0))
        if self.d:
            self.pool, log_density = surrogate.sample(rng, POOL)
            # The surrogate's tails are wider than they should be.
            inner = self.pool[log_density > np.quantile(log_density, 1 - INNER)]
        self._design(inner)
        if 1.0 / np.square(self.weights).sum() < FEW * len(self.pool):
            # The surrogate is not where the density is.
            self._design(self.pool[systematic(self.weights, POOL)])

    def _design(self, psi: np.ndarray) -> None:
        self.frame = Frame.of(psi)
        nodes = [self.visitor.visit(point) for point in self.frame.points()]
        self.nodes: Sequence[Node] = [node for node in nodes if node is not None]
        if not self.nodes or nodes[0] is None:
            raise ConvergenceError(
                "Effects and coefficients cannot be approximated at the middle of the posterior; "
                "fit('nuts') needs no approximation."
            )
        at = np.stack([node.psi for node in self.nodes])
        values = [
            np.concatenate([[n.gain], n.mean, np.log(np.maximum(n.variance, LEAST)), n.skewness])
            for n in self.nodes
        ]
        self.through = Interpolant.through(self.frame.z(at), np.stack(values))
        gain = self.gain(self.pool)
        self.ceiling = float(gain.max())
        self.weights = np.exp(gain - self.ceiling)
        self.share = float(self.weights.mean())
        self.weights /= self.weights.sum()

    # ---- outer parameters

    def gain(self, psi: np.ndarray) -> np.ndarray:
        """Give what the log density of psi `(S, d)` has beyond the surrogate's, `(S,)`."""
        found = self.through(self.frame.z(psi), slice(0, 1))[:, 0]
        length, end = self.frame.radius(psi), np.sqrt(self.d) + REACH
        out = length > end
        if out.any():
            found[out] -= np.maximum(self._tail(psi[out], length[out], end), 0.0)
        return found

    def _tail(self, psi: np.ndarray, length: np.ndarray, end: float) -> np.ndarray:
        """Give what the surrogate is above a line through its log density along each ray."""
        middle = self.frame.middle
        edge, inside = (middle + (psi - middle) * (share * end / length)[:, None] for share in (1, 0.8))
        there = self.surrogate.log_density(edge)
        slope = (there - self.surrogate.log_density(inside)) / (0.2 * end)
        line = there + np.minimum(slope, FLATTEST) * (length - end)
        return self.surrogate.log_density(psi) - line

    def log_density(self, psi: np.ndarray) -> np.ndarray:
        """Give the log density of psi `(S, d)`, up to a constant."""
        return self.surrogate.log_density(psi) + np.minimum(self.gain(psi), self.ceiling)

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Draw psi `(size, d)`, from the surrogate by rejection."""
        if not self.d:
            return np.zeros((size, 0))
        kept, missing = [], size
        while missing > 0:
            psi, _ = self.surrogate.sample(rng, min(int(1.1 * missing / self.share) + 16, 100_000))
            taken = np.log(rng.random(len(psi))) < self.gain(psi) - self.ceiling
            kept.append(psi[taken])
            missing -= int(taken.sum())
        return np.concatenate(kept)[:size]

    # ---- effects and coefficients

    @property
    def size(self) -> int:
        """How many numbers have moments: see `Node`."""
        return len(self.nodes[0].mean)

    def moments(
        self, psi: np.ndarray, columns: slice | np.ndarray = slice(None)
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Give mean, standard deviation and skewness `(S, m)` of some numbers given psi."""
        z, at, M = self.frame.z(psi), np.arange(self.size)[columns], self.size
        mean, log_variance, skewness = (self.through(z, 1 + j * M + at) for j in range(3))
        return mean, np.exp(0.5 * log_variance), skewness

    def draw(self, rng: np.random.Generator, chains: int, draws: int) -> Drawn:
        """
        Draw everything, independently.

        Deviations from the mean are drawn at the nearest point of the design, and have the
        standard deviations at psi itself.
        """
        psi, Q = self.sample(rng, chains * draws), self.visitor.k + self.visitor.N
        nearest = self._nearest(psi)
        found = np.empty((len(psi), Q))
        for j, node in enumerate(self.nodes):
            at = np.flatnonzero(nearest == j)
            if not len(at):
                continue
            deviations = self.visitor.deviations(node, rng, len(at))
            mean, sd, _ = self.moments(psi[at], slice(0, Q))
            own = self.moments(node.psi[None], slice(0, Q))[1]
            found[at] = mean + deviations * sd / own
        gamma = _inside(found[:, : self.visitor.k], self.around.target.prior)
        latent, effects = self.visitor.system.latent, found[:, self.visitor.k :]
        b = [
            effects[:, at].reshape(chains, draws, term.q, term.p)
            for term, at in zip(latent.terms, latent.places, strict=True)
        ]
        log_density = self.log_density(psi) if self.d else np.zeros(len(psi))
        statistics = {"log_marginal": log_density.reshape(chains, draws)}
        return Drawn(
            psi.reshape(chains, draws, -1), gamma.reshape(chains, draws, -1), b, statistics
        )

    def _nearest(self, psi: np.ndarray) -> np.ndarray:
        z = self.frame.z(psi)
        points = self.frame.z(np.stack([node.psi for node in self.nodes]))
        apart = np.square(z).sum(axis=1)[:, None] - 2 * z @ points.T + np.square(points).sum(axis=1)
        return np.asarray(apart.argmin(axis=1))

    @cached_property
    def moved(self) -> float:
        """How far the density's means are from Laplace's, at most, in standard deviations."""
        if not self.d:
            return 0.0
        gap = self.weights @ self.pool - self.pool.mean(axis=0)
        return float(np.abs(gap / self.pool.std(axis=0)).max())


def systematic(weights: np.ndarray, size: int) -> np.ndarray:
    """Give positions `(size,)`, each as often as its weight says, rounded."""
    ends = np.cumsum(weights)
    at = np.searchsorted(ends, (np.arange(size) + 0.5) / size * ends[-1])
    return np.minimum(at, len(weights) - 1)


def _inside(gamma: np.ndarray, prior: Any) -> np.ndarray:
    """Turn back what has left the prior's support."""
    gamma = np.where(gamma > prior.lower, gamma, 2 * prior.lower - gamma)
    return np.where(gamma < prior.upper, gamma, 2 * prior.upper - gamma)
