"""A covariance of coefficients by clusters, and how well it is known."""

from dataclasses import dataclass

import numpy as np

from glmm_bayes.errors import NotSupportedError
from glmm_bayes.verbs.small_sample import JointTest


@dataclass(frozen=True, eq=False)
class Sandwich:
    """
    A covariance by clusters.

    The estimates are off by embed Phi (sum of scores), scores being adjusted by a matrix A for each
    cluster's share in the estimates that its residuals are from.

    Attributes
    ----------
    covariance
        `(K, K)` of the coefficients.
    spreads
        `(c, k, k)` the covariance of each cluster's adjusted score, if the model holds and nothing
        were estimated.
    reaches
        `(c, k, k)` how much the adjusted score moves with the estimates.
    Phi
        `(k, k)` the model's covariance of what the scores are by.
    embed
        `(K, k)` from these to the coefficients.
    """

    covariance: np.ndarray
    spreads: np.ndarray
    reaches: np.ndarray
    Phi: np.ndarray
    embed: np.ndarray

    def df(self, L: np.ndarray) -> np.ndarray:
        """
        Give the degrees of freedom of the variance of each row of L `(r, K)`: Satterthwaite's.

        Notes
        -----
        Bell & McCaffrey (2002); Pustejovsky & Tipton (2018), J. Bus. Econ. Stat. 36, equation 12.
        """
        found = np.empty(len(L))
        for i, w in enumerate(L @ self.embed @ self.Phi):
            part = self._moments(w, w)
            found[i] = part.mean**2 / part.same if part.same > 0 else np.nan
        return found

    def joint(self, L: np.ndarray) -> JointTest:
        """
        Compare several combinations L `(q, K)` with F, by Hotelling's T squared of the same spread.

        Raises
        ------
        NotSupportedError
            If there are too few clusters for so many combinations.

        Notes
        -----
        AHZ of Tipton & Pustejovsky (2015), J. Educ. Behav. Stat. 40, 604-634; Pustejovsky & Tipton
        (2018), section 3.2.
        """
        q, rows = len(L), L @ self.embed @ self.Phi
        means = np.array([[self._moments(v, w).mean for w in rows] for v in rows])
        values, vectors = np.linalg.eigh(means)
        rows = (vectors / np.sqrt(values)).T @ rows
        total = 0.0
        for v in rows:
            for w in rows:
                total += self._moments(v, w).variance(self._moments(v, v), self._moments(w, w))
        eta = q * (q + 1) / total
        if eta - q + 1 <= 0:
            raise NotSupportedError(
                f"ddf='CR2' has {eta:.1f} degrees of freedom here, too few to test {q} "
                f"combinations together; test them one at a time, or use ddf='kenward-roger' or "
                f"anova(other, test='bootstrap')."
            )
        return JointTest((eta - q + 1) / eta, eta - q + 1)

    def _moments(self, v: np.ndarray, w: np.ndarray) -> "_Moments":
        own = np.einsum("j,cjk,k->c", v, self.spreads, w)
        return _Moments(own, v @ self.reaches, w @ self.reaches, self.Phi)


@dataclass(frozen=True, eq=False)
class _Moments:
    """
    Two combinations of the clusters' scores, P = diag(own) - A Phi B' their covariances.

    Attributes
    ----------
    own
        `(c,)`.
    A, B
        `(c, k)`.
    """

    own: np.ndarray
    A: np.ndarray
    B: np.ndarray
    Phi: np.ndarray

    @property
    def mean(self) -> float:
        """Their covariance's expectation, tr P."""
        return float(self.own.sum() - self._across.sum())

    @property
    def same(self) -> float:
        """The sum of P's entries times those of its transpose."""
        C = self.Phi @ (self.B.T @ self.A)
        return float(np.sum(self.own**2 - 2 * self.own * self._across) + np.sum(C * C.T))

    @property
    def _across(self) -> np.ndarray:
        """The diagonal of A Phi B'."""
        found: np.ndarray = np.einsum("cj,jk,ck->c", self.A, self.Phi, self.B)
        return found

    def variance(self, one: "_Moments", two: "_Moments") -> float:
        """Give the variance of their estimated covariance; `one` and `two` are each with itself."""
        D = one.A.T @ two.A
        both = np.sum(one.own * two.own - one.own * two._across - two.own * one._across)
        both += np.sum((self.Phi @ D @ self.Phi) * D)
        return float(both) + self.same
