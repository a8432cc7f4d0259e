"""A change of variables by which a posterior is near to independent standard normals."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from glmm_bayes.engine.density.joint import Joint

type Chains = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Front:
    """
    What the data say of one term's levels, of one row of a symmetric matrix each.

    Attributes
    ----------
    q, p
        Levels and columns.
    ancestors
        The numbers of the coarser terms in which the levels are nested, the finest first.
    parents
        `(q,)` each level's level of the first of them; empty without.
    blocks
        `(q, p, p + w)` each level's information about its effects, then that about them and
        those of its ancestors, of w columns in all.
    """

    q: int
    p: int
    ancestors: tuple[int, ...]
    parents: np.ndarray
    blocks: np.ndarray


@dataclass(frozen=True, eq=False)
class Whitening:
    """
    x of z: outer parameters along the axes of their covariance, then effects level by level.

    The outer ones are `centre + axes z`. Given these, the effects b are taken for normal, with
    precision A + Q and mean (A + Q)^-1 (right - slopes (gamma - at)): A is what the data say,
    at the mode, as far as it stands within chains of nested terms; Q is the precision of the
    effects' own distribution at these parameters. Of nested terms that is exact where the
    response is Gaussian.

    Attributes
    ----------
    centre, axes
        `(d,)` and `(d, d)`, on the unconstrained scale.
    coefficients, at
        `(K,)` where the free coefficients gamma stand among the outer parameters, and their
        values at the mode.
    fronts
        By term.
    right, slopes
        `(N,)` and `(K, N)`, of all terms' effects.
    noise, noise_at
        Where the standard deviation sigma of a normal response stands among the outer parameters,
        and its value at the mode: A and right are over sigma^2. Else -1, and 1.
    directions, stretch
        `(r, N)` orthonormal directions of the effects' z, which are longer by so much `(r,)` of
        themselves than they would be: what crossed terms have in common. None for no such.

    Notes
    -----
    Given the outer parameters, x is linear in z, and each level's effects depend on its own z
    and its ancestors' effects; where the data say nothing, z are the effects in standard units,
    and where they say much, the distance from the level's own estimate over its standard error.
    It is the non-centring of Papaspiliopoulos, Roberts & Skoeld (2007), Statistical Science 22,
    59-73, to a degree of each level's own; levels are taken out as in a Cholesky factorisation
    along a tree, which leaves no fill.
    """

    centre: np.ndarray
    axes: np.ndarray
    coefficients: np.ndarray
    at: np.ndarray
    fronts: Sequence[Front]
    right: np.ndarray
    slopes: np.ndarray
    noise: int = -1
    noise_at: float = 1.0
    directions: np.ndarray | None = None
    stretch: np.ndarray | None = None

    @cached_property
    def chains(self) -> Chains:
        """How the levels hang together, for `fronts.py`: its table, order, ancestors, parents."""
        T = len(self.fronts)
        table, ancestors = np.zeros((T, 9), dtype=np.int64), np.zeros((T, T), dtype=np.int64)
        start = at = up = root = reduced = 0
        for t, front in enumerate(self.fronts):
            q, p, w = front.q, front.p, front.blocks.shape[2] - front.p
            table[t] = start, q, p, w, at, len(front.ancestors), up, root, reduced
            ancestors[t, : len(front.ancestors)] = front.ancestors
            start, at, up = start + q * p, at + front.blocks.size, up + len(front.parents)
            root, reduced = root + q * p * p, reduced + q * p * (w + 1)
        # A term comes before its ancestors: it has more of them than each of these.
        order = np.argsort([-len(front.ancestors) for front in self.fronts], kind="stable")
        parents = [np.empty(0, dtype=np.int64), *(front.parents for front in self.fronts)]
        return table, order.astype(np.int64), ancestors, np.concatenate(parents).astype(np.int64)

    @cached_property
    def blocks(self) -> np.ndarray:
        """All fronts' numbers, one after the other."""
        return np.concatenate([np.empty(0), *(front.blocks.ravel() for front in self.fronts)])

    @cached_property
    def turn(self) -> tuple[np.ndarray, np.ndarray]:
        """The directions and the stretch, of which there may be none."""
        if self.directions is None or self.stretch is None:
            return np.empty((0, len(self.right))), np.empty(0)
        return self.directions, self.stretch

    @cached_property
    def sizes(self) -> tuple[int, int]:
        """How many numbers the roots and the reduced columns have."""
        roots = sum(front.q * front.p**2 for front in self.fronts)
        return roots, sum(f.q * f.p * (f.blocks.shape[2] - f.p + 1) for f in self.fronts)


@dataclass(frozen=True, eq=False)
class Whitened:
    """
    The density of z under a joint density of x, whose terms are all in standard units.

    Of log |dx/dz| what does not change is left out: the axes' and the directions' part.
    """

    joint: Joint
    whitening: Whitening

    def __call__(self, z: np.ndarray) -> tuple[float, np.ndarray]:
        """Evaluate the log density at z `(size,)`, up to a constant, and its gradient."""
        from glmm_bayes.engine.density.fronts import from_effects

        joint, w, d = self.joint, self.whitening, self.joint.outer.size
        x, theta, Lambdas, state, log_rate = self._moved(z)
        value, by_x = joint.value_and_gradient(x)
        gradient, by_Lambda = np.empty(joint.size), np.zeros_like(Lambdas)
        by_blocks, by_right = from_effects(
            w.chains, Lambdas, *state, x[d:], by_x[d:], gradient[d:], by_Lambda
        )
        by_theta, share = np.zeros_like(theta), self._share(theta)
        by_theta[w.coefficients] -= share * (w.slopes @ by_right)
        if w.noise >= 0:
            by_share = by_blocks @ w.blocks + by_right @ self._right(theta)
            by_theta[w.noise] -= 2 * by_share * share / theta[w.noise]
        for term, slope in zip(joint.effects, by_Lambda, strict=True):
            given = {k: theta[s] for k, s in term.theta.items()}
            found = term.structure.pullback(given, term.p, slope[: term.p, : term.p])
            for k, g in found.items():
                by_theta[term.theta[k]] += g
        slope = joint.outer.jacobian(x[:d], theta)[2]
        gradient[d:] = self._turned(gradient[d:])
        gradient[:d] = w.axes.T @ (by_x[:d] + joint.outer.pull(by_theta, theta, slope))
        return value + log_rate, gradient

    def place(self, z: np.ndarray) -> np.ndarray:
        """Give x `(size,)` of z."""
        return self._moved(z)[0]

    def _moved(self, z: np.ndarray) -> tuple[Any, ...]:
        """Give x, theta, the factors, what the elimination leaves, and log |dx/dz|."""
        from glmm_bayes.engine.density.fronts import to_effects

        joint, w, d = self.joint, self.whitening, self.joint.outer.size
        x = np.empty(joint.size)
        x[:d] = w.centre + w.axes @ z[:d]
        theta = joint.outer.constrain(x[:d])
        widest = max([1, *(term.p for term in joint.effects)])
        Lambdas = np.zeros((len(joint.effects), widest, widest))
        for into, term in zip(Lambdas, joint.effects, strict=True):
            into[: term.p, : term.p] = term.factor(theta)
        share = self._share(theta)
        fronts, right = share * w.blocks, share * self._right(theta)
        roots, reduced = (np.empty(size) for size in w.sizes)
        log_rate = to_effects(
            w.chains, Lambdas, fronts, right, self._turned(z[d:]), x[d:], roots, reduced
        )
        return x, theta, Lambdas, (fronts, right, roots, reduced), log_rate

    def _turned(self, z: np.ndarray) -> np.ndarray:
        directions, stretch = self.whitening.turn
        return z + (stretch * (directions @ z)) @ directions

    def _right(self, theta: np.ndarray) -> np.ndarray:
        w = self.whitening
        return w.right - (theta[w.coefficients] - w.at) @ w.slopes

    def _share(self, theta: np.ndarray) -> float:
        """Give how much the data say, beside what they say at the mode."""
        w = self.whitening
        return float((w.noise_at / theta[w.noise]) ** 2) if w.noise >= 0 else 1.0
