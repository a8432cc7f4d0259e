"""The marginal likelihood of nested random effects by quadrature, in Laplace's place."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from glmm_bayes.engine.integrals.adaptive import Density, Integral, Integrator, grid
from glmm_bayes.engine.integrals.arrow import Parts
from glmm_bayes.engine.integrals.chain import Chain
from glmm_bayes.engine.laplace import Laplace, Marginal
from glmm_bayes.engine.latent import Precisions

AT_ONCE = 500_000  # rows times nodes that are in memory at a time


@dataclass(eq=False)
class Quadrature:
    """
    The marginal likelihood of a chain of nested random terms, by adaptive quadrature.

    It stands in for `laplace`, which gives the effects' mode and the Hessian there.

    Parameters
    ----------
    density
        `density(eta, order, at, among)`: as `laplace.rows`, for any rows by position, repeated or
        not.
    nagq
        How many nodes an effect has; 1 is Laplace's method.
    """

    laplace: Laplace
    density: Density
    chain: Chain
    nagq: int

    @property
    def means(self) -> int:
        """As that of the approximation it stands in for."""
        return self.laplace.means

    @property
    def system(self) -> Any:
        """The effects' linear algebra."""
        return self.laplace.system

    @property
    def u(self) -> np.ndarray:
        """Where the next search for the effects' mode begins."""
        return self.laplace.u

    @u.setter
    def u(self, u: np.ndarray) -> None:
        self.laplace.u = u

    def effects_mode(
        self,
        coefficients: Sequence[np.ndarray],
        Lambdas: Sequence[np.ndarray],
        precisions: Precisions | None = None,
    ) -> np.ndarray:
        """Give the effects' mode u `(N,)`."""
        return self.laplace.effects_mode(coefficients, Lambdas, precisions)

    @property
    def nodes(self) -> int:
        """How many nodes a row is evaluated at."""
        return int(np.prod([len(grid(g.k, self.nagq)[0]) for g in self.chain.groupings]))

    @cached_property
    def pieces(self) -> list[Chain]:
        """The chain in parts that fit into memory with all their nodes."""
        P = len(self.laplace.X)
        return list(self.chain.pieces(max(AT_ONCE // (self.nodes * P), 1)))

    def marginal(
        self,
        coefficients: Sequence[np.ndarray],
        Lambdas: Sequence[np.ndarray],
        precisions: Precisions | None = None,
        *,
        joint: bool,
    ) -> Marginal:
        """
        Integrate the effects out; there is no precision between levels of a chain.

        Raises
        ------
        LinAlgError, ConvergenceError
            As `Laplace.marginal`.
        ValueError
            If the coefficients are to be integrated too (`joint`), which Laplace's method can.
        """
        if joint:
            raise ValueError("Quadrature integrates over the effects only.")
        at_mode = self.laplace.marginal(coefficients, Lambdas, joint=False)
        found = self._integrals(coefficients, Lambdas, at_mode.u)
        r = np.empty_like(at_mode.eta)
        for piece, part in zip(self.pieces, found, strict=True):
            r[:, piece.rows] = part.by_eta[:, 0]
        slopes = [
            np.sum([part.by_factor[f].sum(axis=(2, 3)) for part in found], axis=0)
            for f in range(len(self.chain.groupings))
        ]
        return Marginal(
            float(sum(part.value.sum() for part in found)),
            [X.T @ row for X, row in zip(self.laplace.X, r, strict=True)],
            self.chain.by_terms(slopes),
            [None] * len(Lambdas),
            at_mode.u,
            at_mode.coefficients,
            at_mode.factor,
            at_mode.eta,
        )

    def by_level(
        self, coefficients: Sequence[np.ndarray], Lambdas: Sequence[np.ndarray], u: np.ndarray
    ) -> np.ndarray:
        """Give the log integral of every level of the coarsest grouping's first term, `(G,)`."""
        found = self._integrals(coefficients, Lambdas, u)
        values = np.empty(len(self.chain.groupings[0].starts))
        values[self.chain.groupings[0].levels[0]] = np.concatenate([p.value[0] for p in found])
        return values

    def profile(
        self,
        coefficients: Sequence[np.ndarray],
        Lambdas: Sequence[np.ndarray],
        u: np.ndarray,
        level: int,
        z: np.ndarray,
    ) -> np.ndarray:
        """
        Give the log integrand over a coarsest level's effects, the finer ones integrated.

        Parameters
        ----------
        z
            `(m, k)` where: in roots of the inverse Hessian, from the mode.

        Returns
        -------
        ndarray
            `(m,)`, without the normal's constant.
        """
        piece = [self.chain.of_level(level)]
        ((integrator, base, start),) = self._integrators(coefficients, Lambdas, u, piece)
        return integrator.profile(base, start, z)[:, 0]

    def _integrals(
        self, coefficients: Sequence[np.ndarray], Lambdas: Sequence[np.ndarray], u: np.ndarray
    ) -> list[Integral]:
        integrators = self._integrators(coefficients, Lambdas, u, self.pieces)
        # Far out a density may overflow: what is not finite is for the caller to see.
        with np.errstate(all="ignore"):
            return [integrator.integrate(base, start) for integrator, base, start in integrators]

    def _integrators(
        self,
        coefficients: Sequence[np.ndarray],
        Lambdas: Sequence[np.ndarray],
        u: np.ndarray,
        pieces: Sequence[Chain],
    ) -> Iterator[tuple[Integrator, np.ndarray, Parts]]:
        laplace = self.laplace
        fixed = [X @ c for X, c in zip(laplace.X, coefficients, strict=True)]
        base = laplace.offset + np.stack(fixed)
        parts = laplace.system.latent.split(u)
        for piece in pieces:
            integrator = Integrator.of(piece, Lambdas, self.density, self.nagq)
            yield integrator, base[:, None, piece.rows], piece.to_units(parts)
