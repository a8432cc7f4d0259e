"""Exact draws of effects and coefficients from one factorisation, at many outer parameters."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from glmm_bayes.engine.algebra import manyright
from glmm_bayes.engine.algebra.blocked import Blocked
from glmm_bayes.engine.algebra.blocked_factor import BlockedFactor
from glmm_bayes.engine.algebra.preconditioner import Anchor, Part, by_level
from glmm_bayes.engine.collapsed import Collapsed

EXACT = 1e-4  # of a posterior standard deviation: the error of the whole solution
MOST = 200  # iterations
DENSE = 0.2  # of a matrix's entries, from which on it is multiplied as a dense one


@dataclass(frozen=True, eq=False)
class Drawn:
    """
    B draws given as many outer parameters.

    Attributes
    ----------
    gamma
        `(B, k)` coefficients.
    effects
        By term, b `(B, q, p)`.
    solved
        `(B,)` which draws are good: the others' equations were not solved.
    iterations
        How many products with the equations it took.
    """

    gamma: np.ndarray
    effects: list[np.ndarray]
    solved: np.ndarray
    iterations: int


class Perturbed:
    """
    Draws from the normal of effects and coefficients by solving perturbed equations.

    With H = L'C L + I the precision in units of sigma, H^-1 (right + sigma noise) is a draw if the
    noise has covariance H. Noise of covariance C + share I comes of one factorisation for all L,
    noise of covariance I - share L'L of small matrices. The first block's equations are solved
    exactly, the second's by conjugate gradients, preconditioned with its factor at one place.

    Parameters
    ----------
    sigma, Lambdas
        The place: sigma and, by term, Lambda `(p, p)`.
    share
        So small that I - share L'L stays positive definite, L = Lambda / sigma.

    Raises
    ------
    LinAlgError
        If C + share I has no root in floating point.

    Notes
    -----
    Papandreou & Yuille (2010), Advances in Neural Information Processing Systems 23, on draws by
    perturbation. Right-hand sides stand side by side: arrays end in their number B.
    """

    def __init__(
        self, collapsed: Collapsed, sigma: float, Lambdas: Sequence[np.ndarray], share: float
    ) -> None:
        g = collapsed.gaussian
        self.collapsed, self.share = collapsed, share
        self.system: Blocked = g.system
        self.products = g.products
        factor: BlockedFactor = collapsed.solved(sigma, Lambdas).factor
        widest = [np.eye(term.p) / np.sqrt(share) for term in self.system.latent.terms]
        spread = self.system.at(widest)
        # In units of the effects: each of theirs is 1 / sqrt(share) of the factor's.
        unit = np.where(np.arange(self.columns) < self.system.q2, np.sqrt(share), 1.0)
        self.noise_root = spread.factor_products(self.products, joint=True).L.T * unit[:, None]
        ridge = share * np.eye(self.system.k)
        self.first_root = np.linalg.cholesky(self.products.C11 + ridge)
        self.y1, self.y2 = self.system.to_blocks(
            np.concatenate([*(part.ravel() for part in g.zy), np.empty(0)])
        )
        self.anchor = Anchor(
            factor.L, [self._part(i, at, Lambdas[i] / sigma) for i, at in self._second]
        )

    @property
    def columns(self) -> int:
        """The number Q of the second block's effects and coefficients."""
        return self.system.q2 + self.system.p

    @cached_property
    def _second(self) -> list[tuple[int, slice]]:
        """The second block's terms, and where their effects stand in it."""
        found, at = [], 0
        for i in self.system.second:
            size = self.system.latent.terms[i].size
            found.append((i, slice(at, at + size)))
            at += size
        return found

    @cached_property
    def _corner(self) -> Any:
        lower = np.tril(self.products.A22)
        full = lower + np.tril(lower, -1).T
        if np.count_nonzero(full) > DENSE * full.size:
            return full
        from scipy.sparse import csr_array

        return csr_array(full)

    @cached_property
    def _prior_root(self) -> np.ndarray:
        values, vectors = np.linalg.eigh(self.collapsed.prior.precision)
        return vectors * np.sqrt(np.maximum(values, 0.0))

    def _part(self, i: int, at: slice, L: np.ndarray) -> Part:
        level = np.arange(at.start, at.stop).reshape(-1, self.system.latent.terms[i].p)
        lower = np.tril(self.products.A22[level[:, :, None], level[:, None, :]])
        own = lower + np.swapaxes(np.tril(lower, -1), 1, 2)
        return Part(at, L, own.mean(axis=0))

    def by_level(self, matrices: Sequence[np.ndarray], x: np.ndarray) -> np.ndarray:
        """Multiply every level's part of x `(Q, B)` by its term's matrix `(B, p, p)`."""
        return by_level([at for _, at in self._second], matrices, x)

    # ---- draws

    def draw(
        self, sigma: np.ndarray, Lambdas: Sequence[np.ndarray], rng: np.random.Generator
    ) -> Drawn:
        """
        Draw at outer parameters sigma `(B,)` and, by term, Lambda `(B, p, p)`.

        Every draw uses the same count of random numbers, whatever its parameters.
        """
        s, B = self.system, len(sigma)
        at = Place(self, sigma, [L / sigma[:, None, None] for L in Lambdas])
        z1, more1 = (rng.standard_normal((s.G, s.k, B)) for _ in range(2))
        z2, more2 = rng.standard_normal((self.columns, B)), rng.standard_normal((self.columns, B))
        # The first block's noise, and what the second's takes of it.
        own = sigma * np.einsum("gab,gbs->gas", self.first_root, z1) + self.y1[:, :, None]
        inverse = np.linalg.inv(self.first_root)
        taken = sigma * np.einsum("gba,gbs->gas", inverse, z1)
        first = at.solve_first(own, sigma * np.einsum("abs,gbs->gas", at.rest1, more1))
        right = sigma * (self.noise_root @ z2)
        right[: s.q2] += self.y2[:, None]
        right[s.q2 :] += self.collapsed.gaussian.xy[:, None] + sigma**2 * self._pull[:, None]
        at.gather(taken - first, right)
        noise = self.by_level(at.rest2, more2)
        noise[s.q2 :] = sigma * (self._prior_root @ more2[s.q2 :])
        right = self.by_level(at.transposed, right) + sigma * noise
        x, crossed, solved, iterations = at.solve_second(right)
        first -= at.solve_first(crossed)
        b2 = self.by_level(at.second, x)
        gamma = b2[s.q2 :].T + self.collapsed.gaussian.base
        return Drawn(gamma, self._by_term(first, b2), solved & at.allowed, iterations)

    @cached_property
    def _pull(self) -> np.ndarray:
        return self.collapsed.prior.precision @ self.collapsed.centre

    def _by_term(self, b1: np.ndarray, b2: np.ndarray) -> list[np.ndarray]:
        s, B = self.system, b1.shape[2]
        found: list[np.ndarray] = [np.empty(0)] * len(s.latent.terms)
        begin = 0
        for i in s.first:
            p = s.latent.terms[i].p
            found[i] = np.ascontiguousarray(b1[:, begin : begin + p].transpose(2, 0, 1))
            begin += p
        for i, at in self._second:
            p = s.latent.terms[i].p
            found[i] = np.ascontiguousarray(b2[at].reshape(-1, p, B).transpose(2, 0, 1))
        return found


class Place:
    """The equations at B outer parameters: `L1` `(k, k, B)`, and the other terms' `(B, p, p)`."""

    def __init__(self, whole: Perturbed, sigma: np.ndarray, relative: Sequence[np.ndarray]) -> None:
        s, B = whole.system, len(sigma)
        self.whole, self.sigma = whole, sigma
        first = np.zeros((B, s.k, s.k))
        begin = 0
        for i in s.first:
            end = begin + s.latent.terms[i].p
            first[:, begin:end, begin:end] = relative[i]
            begin = end
        self.second = [relative[i] for i in s.second]
        self.transposed = [np.swapaxes(L, 1, 2) for L in self.second]
        self.L1 = np.ascontiguousarray(first.transpose(1, 2, 0))
        roots = [_rest_root(L, whole.share) for L in (first, *self.second)]
        self.rest1 = roots[0][0].transpose(1, 2, 0)
        self.rest2 = [root for root, _ in roots[1:]]
        self.allowed = np.logical_and.reduce([good for _, good in roots])
        self.near = whole.anchor.moved_to(self.second)

    def spread(self, x: np.ndarray) -> np.ndarray:
        """Give C12 x `(G, k, B)`."""
        s = self.whole.system
        out = np.empty((s.G, s.k, x.shape[1]))
        manyright.spread(
            self.whole.products.C12, s.tp, s.cols, s.p, s.q2, np.ascontiguousarray(x), out
        )
        return out

    def gather(self, r: np.ndarray, into: np.ndarray) -> None:
        """Add C12' r."""
        s = self.whole.system
        r = np.ascontiguousarray(r)
        manyright.gather(self.whole.products.C12, s.tp, s.cols, s.p, s.q2, r, into)

    def solve_first(self, r: np.ndarray, more: np.ndarray | None = None) -> np.ndarray:
        """Give L1 (L1'C11 L1 + I)^-1 (L1' r + more)."""
        r = np.ascontiguousarray(r)
        out, added = np.empty_like(r), r[:0] if more is None else np.ascontiguousarray(more)
        manyright.solve_first(self.whole.products.C11, self.L1, r, added, out)
        return out

    def multiply(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give the second block's Schur complement times x `(Q, B)`, and C12 times L2 x."""
        whole, q2 = self.whole, self.whole.system.q2
        b = whole.by_level(self.second, x)
        crossed = self.spread(b)
        out = whole._corner @ b
        self.gather(-self.solve_first(crossed), out)
        out = whole.by_level(self.transposed, out)
        out[:q2] += x[:q2]
        out[q2:] += self.sigma**2 * (whole.collapsed.prior.precision @ x[q2:])
        return out, crossed

    def solve_second(self, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """
        Solve by conjugate gradients.

        Returns
        -------
        x, crossed, solved, iterations
            `(Q, B)`, C12 L2 x `(G, k, B)`, which are solved `(B,)`, and the count of products.
        """
        s, B = self.whole.system, right.shape[1]
        x, crossed = np.zeros_like(right), np.zeros((s.G, s.k, B))
        r, limit, count = right.copy(), (EXACT * self.sigma) ** 2, 0
        z = self.near.solve(r)
        p, size = z, np.einsum("qs,qs->s", r, z)
        while (size > limit).any() and count < MOST:
            count += 1
            moved, over = self.multiply(p)
            step = np.divide(size, np.einsum("qs,qs->s", p, moved), where=size > 0, out=size * 0)
            x += step * p
            crossed += step * over
            r -= step * moved
            z = self.near.solve(r)
            new = np.einsum("qs,qs->s", r, z)
            p = z + np.divide(new, size, where=size > 0, out=size * 0) * p
            size = new
        return x, crossed, np.isfinite(size) & (size <= limit), count


def _rest_root(L: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Factor I - share L'L `(B, p, p)`, and tell which have a root; the others get the unit's."""
    rest = np.eye(L.shape[1]) - share * np.swapaxes(L, 1, 2) @ L
    good = np.isfinite(rest).all(axis=(1, 2))
    rest[~good] = np.eye(L.shape[1])
    good = good & (np.linalg.eigvalsh(rest).min(axis=1, initial=1.0) > 0)
    rest[~good] = np.eye(L.shape[1])
    return np.linalg.cholesky(rest), good
