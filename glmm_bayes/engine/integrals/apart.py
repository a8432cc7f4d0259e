"""Effects integrated out of few rows, at many parameters at once: Laplace's method and beyond."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from glmm_bayes.engine.newton import positive_part

MOST_STEPS, HALVINGS, ENOUGH = 50, 12, 1e-12
QUADRATURE = {1: 15, 2: 9}  # nodes an effect, by the number of effects; more are sampled
SAMPLED, FREEDOM = 128, 7.0  # draws, and degrees of freedom of Student's t

type Value = Callable[[np.ndarray], np.ndarray]
type Slopes = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Apart:
    """
    S integrals over d effects u, standard normal, of which n rows depend: eta = base + A u.

    Attributes
    ----------
    value
        Gives the log density `(S, n)` at predictors `(P, S, n)`.
    slopes
        Gives its slopes `(R, S, n)` by the predictors that effects load on, and minus its second
        derivatives `(R, R, S, n)`.
    loaded
        The numbers `(R,)` of these predictors.
    base
        `(P, S, n)`.
    A
        `(R, S, n, d)`.
    """

    value: Value
    slopes: Slopes
    loaded: np.ndarray
    base: np.ndarray
    A: np.ndarray

    def log_integrals(self, rng: np.random.Generator, *, exact: bool) -> np.ndarray:
        """
        Give the log of each integral, `(S,)`; minus infinity where a density is zero.

        Parameters
        ----------
        exact
            Whether Laplace's method is, as with normal rows. Else it is corrected: by adaptive
            quadrature of one or two effects, by importance sampling of more.
        """
        d = self.A.shape[-1]
        if d == 0:
            return self.value(self.base).sum(axis=1)
        u, value, H = self._modes()
        root = np.linalg.cholesky(H)
        found = value - np.log(np.einsum("sii->si", root)).sum(axis=1)
        if exact:
            return found
        z, log_w = _nodes(d, rng)
        steps = np.swapaxes(np.linalg.solve(np.swapaxes(root, 1, 2), z.T[None]), 1, 2)
        heights = np.stack([self._value(u + steps[:, k]) for k in range(len(z))]) - value
        terms = heights + log_w[:, None]
        top = terms.max(axis=0)
        with np.errstate(all="ignore"):
            corrected = found + top + np.log(np.exp(terms - top).sum(axis=0))
        return np.where(np.isfinite(corrected), corrected, -np.inf)

    def _eta(self, u: np.ndarray) -> np.ndarray:
        eta = self.base.copy()
        eta[self.loaded] += (self.A @ u[:, :, None])[..., 0]
        return eta

    def _value(self, u: np.ndarray) -> np.ndarray:
        value = self.value(self._eta(u)).sum(axis=1) - 0.5 * np.square(u).sum(axis=1)
        return np.where(np.isnan(value), -np.inf, value)

    def _modes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Climb by Newton's method: modes `(S, d)`, the joint log density and minus its Hessian."""
        u = np.zeros((self.base.shape[1], self.A.shape[-1]))
        value, active = self._value(u), np.arange(len(u))
        for _ in range(MOST_STEPS):
            some = replace(self, base=self.base[:, active], A=self.A[:, active])
            gradient, H = some._derivatives(u[active])
            step = np.linalg.solve(H, gradient[..., None])[..., 0]
            decrement = np.einsum("sd,sd->s", gradient, step)
            moved, new = some._risen(u[active], step, value[active])
            rises = new > value[active]
            u[active[rises]], value[active[rises]] = moved[rises], new[rises]
            least = ENOUGH * np.maximum(1.0, np.abs(value[active]))
            active = active[rises & (decrement > least)]
            if not len(active):
                break
        return u, value, self._derivatives(u)[1]

    def _risen(
        self, u: np.ndarray, step: np.ndarray, value: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Go along steps, halving those that fall; the points, and the log density there."""
        size = np.ones((len(u), 1))
        new = self._value(u + step)
        for _ in range(HALVINGS):
            falls = ~(new >= value)
            if not falls.any():
                break
            size[falls] *= 0.5
            some = replace(self, base=self.base[:, falls], A=self.A[:, falls])
            new[falls] = some._value((u + size * step)[falls])
        return u + size * step, new

    def _derivatives(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first, curvature = self.slopes(self._eta(u))
        R, S, n, d = self.A.shape
        W = positive_part(curvature.reshape(R, R, S * n)).reshape(R, R, S, n)
        gradient, H = -u, np.broadcast_to(np.eye(d), (S, d, d))
        for a, A in enumerate(self.A):
            gradient = gradient + np.einsum("snd,sn->sd", A, first[a])
            for b, B in enumerate(self.A):
                H = H + np.swapaxes(A, 1, 2) @ (W[a, b][..., None] * B)
        return gradient, H


def _nodes(d: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """
    Give nodes z `(m, d)`, and log weights `(m,)` of an integrand over that at zero.

    The integral of f is f(0) |H|^-1/2 times the weighted sum, over the normal's constant.
    """
    if d in QUADRATURE:
        x, w = np.polynomial.hermite_e.hermegauss(QUADRATURE[d])
        z = np.stack(np.meshgrid(*[x] * d, indexing="ij"), axis=-1).reshape(-1, d)
        weights: Sequence[np.ndarray] = np.meshgrid(*[np.log(w)] * d, indexing="ij")
        log_w = np.sum(weights, axis=0).ravel() + 0.5 * np.square(z).sum(axis=1)
        return z, log_w - 0.5 * d * np.log(2 * np.pi)
    # Imported where it is needed: SciPy is slow to load.
    from scipy.special import gammaln

    half = rng.standard_normal((SAMPLED // 2, d))
    half /= np.sqrt(rng.chisquare(FREEDOM, (SAMPLED // 2, 1)) / FREEDOM)
    z = np.concatenate([half, -half])
    log_t = -0.5 * (FREEDOM + d) * np.log1p(np.square(z).sum(axis=1) / FREEDOM)
    log_t += gammaln((FREEDOM + d) / 2) - gammaln(FREEDOM / 2) - 0.5 * d * np.log(FREEDOM * np.pi)
    return z, -log_t - np.log(SAMPLED) - 0.5 * d * np.log(2 * np.pi)
