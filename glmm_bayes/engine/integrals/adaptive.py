"""Integrals over nested effects by adaptive Gauss-Hermite quadrature, and their exact slopes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from glmm_bayes.engine.integrals.arrow import Arrow, Climb, Found, Parts, spread
from glmm_bayes.engine.integrals.chain import Chain
from glmm_bayes.engine.newton import Rows

PRUNED = 1e-12  # of a grid's largest weight

type Density = Callable[[np.ndarray, int, np.ndarray, Sequence[int] | None], Any]


@cache
def grid(k: int, nagq: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Make nodes `(m, k)` for N(0, I), with the logarithms of their weights `(m,)`.

    The tensor product of a rule of `nagq` nodes, without the corners whose weight is below both
    `PRUNED` of the largest and that of an axis's last node: Jaeckel (2005), A note on multivariate
    Gauss-Hermite quadrature. Weights stay positive, as those of a sparse grid do not.
    """
    x, w = np.polynomial.hermite_e.hermegauss(nagq)
    w = w / w.sum()
    nodes = np.stack(np.meshgrid(*[x] * k, indexing="ij"), axis=-1).reshape(-1, k)
    weights = np.prod(np.stack(np.meshgrid(*[w] * k, indexing="ij"), axis=-1), axis=-1).ravel()
    least = min(PRUNED * weights.max(), w.min() * w.max() ** (k - 1))
    # Less a little, as the last nodes of an axis themselves differ in rounding.
    kept = weights >= least * (1 - 1e-6)
    return nodes[kept], np.log(weights[kept] / weights[kept].sum())


@dataclass(frozen=True, eq=False)
class Expanded:
    """The rows' log density `(D, n)` and its derivatives, `(P, D, n)` and so on."""

    value: Any
    first: Any
    second: Any
    third: Any


@dataclass(frozen=True, eq=False)
class Integral:
    """
    Log integrals over a grouping's effects and all finer ones, at a batch of predictors.

    Attributes
    ----------
    value
        `(D, G)`, by unit.
    by_eta
        `(P, D, n)` their slopes by the predictors that were given.
    by_factor
        By grouping `(k, k, D, G)`, their slopes by its Lambda.
    """

    value: np.ndarray
    by_eta: np.ndarray
    by_factor: Parts


@dataclass(frozen=True, eq=False)
class Nodes:
    """
    The nodes of a grouping's integral: v = mode + C z.

    Attributes
    ----------
    z
        `(m, k)`, standard.
    v
        `(k, m, D, G)`.
    p
        `(m, D, G)` each node's share of the integral.
    log_integral
        `(D, G)`.
    """

    z: np.ndarray
    v: np.ndarray
    p: np.ndarray
    log_integral: np.ndarray


@dataclass(frozen=True, eq=False)
class Integrator:
    """
    One piece of a chain, with Lambda given.

    Attributes
    ----------
    Lambdas, J
        By grouping: its factor, and its columns times that, `(R, k, n)`.
    rows
        `rows(eta, order)` for `(P, D, n)`, as in `laplace`.
    """

    chain: Chain
    Lambdas: Parts
    J: Parts
    rows: Rows
    nagq: int

    @classmethod
    def of(
        cls, chain: Chain, Lambdas: Sequence[np.ndarray], density: Density, nagq: int
    ) -> "Integrator":
        """Fix the factors of the terms' covariances."""

        def rows(eta: np.ndarray, order: int, among: Sequence[int] | None = None) -> Any:
            P, D, n = eta.shape
            found = density(eta.reshape(P, D * n), order, np.tile(chain.rows, D), among)
            return Expanded(
                *(
                    None if x is None else x.reshape(*x.shape[:-1], D, n)
                    for x in (found.value, found.first, found.second, found.third)
                )
            )

        factors = chain.factors(Lambdas)
        J = [
            np.einsum("rkn,kl->rln", g.Z, L) for g, L in zip(chain.groupings, factors, strict=True)
        ]
        return cls(chain, factors, J, rows, nagq)

    def integrate(self, base: np.ndarray, start: Parts, at: int = 0) -> Integral:
        """
        Integrate over the effects of grouping `at` and the finer ones.

        Parameters
        ----------
        base
            `(P, D, n)` the predictors without these effects.
        start
            By grouping `(k, D, G)`, where the search for their mode begins.

        Notes
        -----
        The finer effects are integrated anew at every node of the coarser ones, about their own
        mode there: Rabe-Hesketh, Skrondal & Pickles (2005), J. Econometrics 128, 301-323. Nodes
        stand at the joint mode, spread by the root of the inverse Hessian's own block.
        """
        found = self._mode(base, start, at)
        g = self.chain.groupings[at]
        z, log_w = grid(g.k, self.nagq)
        v, height, inner = self._at_nodes(base, found, z, at)
        t = (log_w + 0.5 * (z * z).sum(axis=1))[:, None, None] + height
        top = t.max(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            p = np.exp(t - top)
            total = p.sum(axis=0)
            value = found.arrow.log_root + top + np.log(total)
        return self._differentiated(found, Nodes(z, v, p / total, value), inner, at)

    def profile(self, base: np.ndarray, start: Parts, z: np.ndarray) -> np.ndarray:
        """Give the log integrand over the coarsest effects, `(m, G)`, at any nodes `(m, k)`."""
        found = self._mode(base, start, 0)
        return self._at_nodes(base, found, z, 0)[1][:, 0]

    def _mode(self, base: np.ndarray, start: Parts, at: int) -> Found:
        groupings, J = self.chain.groupings[at:], self.J[at:]
        return Climb(groupings, J, self.chain.predictors, self.rows, base).mode(start)

    def _at_nodes(
        self, base: np.ndarray, found: Found, z: np.ndarray, at: int
    ) -> tuple[np.ndarray, np.ndarray, Integral]:
        """Give v `(k, m, D, G)`, the log integrand `(m, D, G)` there, and what is under it."""
        g, J, R = self.chain.groupings[at], self.J[at], self.chain.predictors
        (k, D, G), m = found.u[0].shape, len(z)
        moved = np.einsum("dgab,mb->amdg", found.arrow.C[0], z)
        v = found.u[0][:, None] + moved
        eta = np.repeat(base[:, None], m, axis=1).reshape(len(base), m * D, base.shape[2])
        eta[R] += spread([g], [J], [v.reshape(k, m * D, G)])
        inner = self._inner(eta, found, moved, at)
        height = inner.value.reshape(m, D, G) - 0.5 * (v * v).sum(axis=0)
        return v, np.where(np.isnan(height), -np.inf, height), inner

    def _inner(self, eta: np.ndarray, found: Found, moved: np.ndarray, at: int) -> Integral:
        """Give the integrals over the finer effects, summed by unit; or the rows' own density."""
        g = self.chain.groupings[at]
        if at == len(self.chain.groupings) - 1:
            rows = self.rows(eta, 1)
            return Integral(g.total(rows.value), rows.first, [])
        start = []
        for f, (u, T) in enumerate(zip(found.u, _answers(found.arrow), strict=True)):
            over = g.over(self.chain.groupings[at + f], moved)
            follow = u[:, None] + np.einsum("abdg,bmdg->amdg", T, over)
            start.append(follow.reshape(len(u), -1, u.shape[2]))
        inner = self.integrate(eta, start[1:], at + 1)
        finer = self.chain.groupings[at + 1]
        return Integral(
            g.within(finer, inner.value),
            inner.by_eta,
            [g.within(finer, slope) for slope in inner.by_factor],
        )

    def _differentiated(self, found: Found, nodes: Nodes, inner: Integral, at: int) -> Integral:
        """
        Differentiate the sum over the nodes, which move with the mode and the root of the Hessian.

        With h the log integrand and p a node's share, d log sum = d log |C| + sum p (d h + h'(v)
        (d mode + d C z)); d C follows from d H through the Cholesky factor, d mode from the mode's
        equation. Where the rule is exact, all but the second term vanish.
        """
        R, g, (m, D, G) = self.chain.predictors, self.chain.groupings[at], nodes.p.shape
        P, n = inner.by_eta.shape[0], inner.by_eta.shape[2]
        # A share of 0 is to take away slopes that are infinite.
        by_eta = np.where(np.isfinite(inner.by_eta), inner.by_eta, 0.0)
        first = by_eta.reshape(P, m, D, n)
        mean = np.einsum("mdn,pmdn->pdn", nodes.p[..., g.unit], first)
        c = g.total(np.einsum("rkn,rmdn->kmdn", g.Z, first[R]))
        slope = np.einsum("kl,kmdg->lmdg", self.Lambdas[at], c) - nodes.v
        weighted = nodes.p * slope
        by_mode = weighted.sum(axis=1)
        by_root = np.einsum("amdg,mb->dgab", weighted, nodes.z)
        B = _by_hessian(found.arrow.C[0], by_root)
        direct = np.einsum("mdg,amdg,bmdg->abdg", nodes.p, c, nodes.v, optimize=True)
        finer = [
            np.einsum("mdg,abmdg->abdg", nodes.p, s.reshape(*s.shape[:2], m, D, G))
            for s in inner.by_factor
        ]
        return self._with_hessian(
            found, Integral(nodes.log_integral, mean, [direct, *finer]), by_mode, B, at
        )

    def _with_hessian(
        self, found: Found, plain: Integral, by_mode: np.ndarray, B: np.ndarray, at: int
    ) -> Integral:
        """Add what comes by way of the mode and of S: slopes `(k, D, G)` and `(D, G, k, k)`."""
        R, groupings, arrow = self.chain.predictors, self.chain.groupings[at:], found.arrow
        top, rows = groupings[0], self.rows(found.eta, 3)
        Y = arrow.Y[0]
        YB = np.einsum("radn,dnab->rbdn", Y, B[:, top.unit])
        spread_B = np.einsum("rbdn,sbdn->rsdn", YB, Y)
        third = rows.third[:, R][:, :, R]
        t = -np.einsum("rsdn,prsdn->pdn", spread_B, third)
        e = arrow.collect(t[R])
        e[0] = e[0] + by_mode
        a = arrow.solve(e)
        moved = arrow.spread(a)
        more = t + np.einsum("prdn,rdn->pdn", rows.second[:, R], moved)
        WYB = -np.einsum("rsdn,sbdn->rbdn", rows.second[np.ix_(R, R)], YB)
        by_factor = []
        for g, u, own, T, slope in zip(
            groupings, found.u, a, _answers(arrow), plain.by_factor, strict=True
        ):
            score = g.total(np.einsum("rkn,rdn->kdn", g.Z, more[R]))
            first = g.total(np.einsum("rkn,rdn->kdn", g.Z, rows.first[R]))
            bent = g.total(np.einsum("rkn,rbdn->kbdn", g.Z, WYB))
            own_slope = (
                np.einsum("adg,bdg->abdg", score, u)
                + np.einsum("adg,bdg->abdg", first, own)
                + 2 * np.einsum("acdg,bcdg->abdg", bent, T)
            )
            by_factor.append(slope + top.within(g, own_slope))
        return Integral(plain.value, plain.by_eta + more, by_factor)


def _by_hessian(C: np.ndarray, by_root: np.ndarray) -> np.ndarray:
    """
    Turn a slope by the root C `(D, G, k, k)` of S^-1 into one by S, that of log |C| with it.

    With C = L^-T and S = L L', d C = -C Phi(C' dS C)', Phi the lower triangle with its diagonal
    halved: Murray (2016), arXiv:1602.07527.
    """
    k = C.shape[-1]
    half = np.tril(np.ones((k, k))) - 0.5 * np.eye(k)
    A = half * (by_root.swapaxes(2, 3) @ C)
    return C @ (-0.5 * np.eye(k) - 0.5 * (A + A.swapaxes(2, 3))) @ C.swapaxes(2, 3)


def _answers(arrow: Arrow) -> Parts:
    """Give T by grouping, `(k', k, D, G')`: how its effects follow the coarsest's."""
    D, G, k, _ = arrow.C[0].shape
    columns = [
        arrow.answer(np.broadcast_to(np.eye(k)[:, b, None, None], (k, D, G))) for b in range(k)
    ]
    return [np.stack(parts, axis=1) for parts in zip(*columns, strict=True)]
