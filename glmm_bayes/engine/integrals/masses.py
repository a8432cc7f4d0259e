"""The likelihood of a model whose levels are each of one of K classes: a sum over these."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from glmm_bayes.engine.laplace import Laplace, Marginal
from glmm_bayes.engine.latent import Precision, Precisions

GRID, LARGEST = 201, 50.0  # places of a further mass; log of a ratio of likelihoods
SURE = 1e-12  # variance of an effect, in standard units, whose class is as good as known


@dataclass(frozen=True, eq=False)
class Given:
    """
    Predictors without effects `(P, n)`, the effects' factor, and the masses.

    `location` `(K,)` is in standard units, `log_weight` `(K,)` natural.
    """

    fixed: np.ndarray
    Lambda: float
    location: np.ndarray
    log_weight: np.ndarray


@dataclass(frozen=True, eq=False)
class Classes:
    """
    The levels' classes, given the responses.

    Attributes
    ----------
    value
        The log likelihood.
    probability
        `(K, q)`.
    first
        By class, the slopes `(P, n)` of the rows' log density by the predictors.
    """

    value: float
    probability: np.ndarray
    first: list[np.ndarray]


@dataclass(eq=False)
class MassSum:
    """
    The likelihood of a model whose one term has one column, of levels in K classes.

    It stands in for `laplace`, which is that of normal effects; in the place of a mode are the
    effects' means given the responses.

    Notes
    -----
    log L = sum_j log sum_k w_k exp(sum_{i in j} f_i(eta_i + Lambda z_i l_k)), exactly; its slopes
    are those of the terms, weighted by the classes' probabilities given the responses.
    """

    laplace: Laplace

    def __post_init__(self) -> None:
        term, order = self.system.latent.terms[0], self.system.order
        (self.number,) = term.Z
        self.level = term.index[order, 0]
        self.z = term.weights[order, 0] * term.Z[self.number][order, 0]
        self.u = np.zeros(self.system.latent.size)

    @property
    def system(self) -> Any:
        """The effects' linear algebra."""
        return self.laplace.system

    @property
    def means(self) -> int:
        """How many predictors have coefficients that are integrated out where any have."""
        return self.laplace.means

    def effects_mode(
        self,
        coefficients: Sequence[np.ndarray],
        Lambdas: Sequence[np.ndarray],
        precisions: Precisions | None = None,
    ) -> np.ndarray:
        """Give the effects' means u `(q,)` in standard units."""
        given = self._given(coefficients, Lambdas, precisions)
        return given.location @ self._classes(given).probability

    def probabilities(
        self,
        coefficients: Sequence[np.ndarray],
        Lambdas: Sequence[np.ndarray],
        precisions: Precisions | None = None,
    ) -> np.ndarray:
        """Give those of the classes `(q, K)`, given the responses."""
        return self._classes(self._given(coefficients, Lambdas, precisions)).probability.T

    def steepest(
        self,
        coefficients: Sequence[np.ndarray],
        Lambdas: Sequence[np.ndarray],
        precisions: Precisions | None,
        reach: float,
    ) -> float:
        """
        Give the steepest slope of log L by the weight of a further mass, wherever that stands.

        It is sum_j f_j(l) / f_j - q for a mass at l, f_j the likelihood of level j, and nowhere
        above zero where no further mass would raise log L: Lindsay (1983), Annals of Statistics
        11, 86-94. It is looked for as far as `reach` times the masses' width beyond these.
        """
        given = self._given(coefficients, Lambdas, precisions)
        logs = self._logs(given, given.location) + given.log_weight[:, None]
        own = np.logaddexp.reduce(logs, axis=0)
        low, high = given.location[0], given.location[-1]
        grid = np.linspace(low - reach * (high - low), high + reach * (high - low), GRID)
        ratio = np.exp(np.minimum(self._logs(given, grid) - own, LARGEST))
        return float(ratio.sum(axis=1).max()) - len(own)

    def factor(
        self,
        coefficients: Sequence[np.ndarray],
        Lambdas: Sequence[np.ndarray],
        precisions: Precisions | None,
    ) -> Any:
        """Give one over the effects' variances, as the factored Hessian of a normal's."""
        given = self._given(coefficients, Lambdas, precisions)
        return self._factor(Lambdas, given, self._classes(given))

    def marginal(
        self,
        coefficients: Sequence[np.ndarray],
        Lambdas: Sequence[np.ndarray],
        precisions: Precisions | None = None,
        *,
        joint: bool,
    ) -> Marginal:
        """Sum over the classes; in the place of a precision are the masses."""
        assert not joint
        given = self._given(coefficients, Lambdas, precisions)
        classes = self._classes(given)
        u = given.location @ classes.probability
        factor = self._factor(Lambdas, given, classes)
        return Marginal(
            classes.value, *self._slopes(given, classes), u, list(coefficients), factor,
            self._eta(given, u),
        )  # fmt: skip

    def value_and_slopes(
        self,
        coefficients: Sequence[np.ndarray],
        Lambdas: Sequence[np.ndarray],
        precisions: Precisions,
    ) -> tuple[float, Sequence[np.ndarray], Sequence[np.ndarray], Precisions]:
        """Give of `marginal` no more than log p(y) and its slopes, in less time."""
        given = self._given(coefficients, Lambdas, precisions)
        classes = self._classes(given)
        return classes.value, *self._slopes(given, classes)

    def _slopes(
        self, given: Given, classes: Classes
    ) -> tuple[list[np.ndarray], list[np.ndarray], list[Precision | None]]:
        """Differentiate by each predictor's coefficients, by Lambda and by the masses."""
        by_eta, by_Lambda = np.zeros_like(given.fixed), 0.0
        by_location = np.zeros_like(given.location)
        for k, (p, first) in enumerate(zip(classes.probability, classes.first, strict=True)):
            by_eta += p[self.level] * first
            by_u = float(p @ self._sum(self.z * first[self.number]))
            by_Lambda += given.location[k] * by_u
            by_location[k] = given.Lambda * by_u
        by_masses = np.concatenate([by_location, classes.probability.sum(axis=1)])
        by_coefficients = [X.T @ row for X, row in zip(self.laplace.X, by_eta, strict=True)]
        return by_coefficients, [np.array([[by_Lambda]])], [Precision(by_masses, 0.0)]

    def _given(
        self,
        coefficients: Sequence[np.ndarray],
        Lambdas: Sequence[np.ndarray],
        precisions: Precisions | None,
    ) -> Given:
        assert precisions is not None
        assert precisions[0] is not None
        parts = [X @ c for X, c in zip(self.laplace.X, coefficients, strict=True)]
        location, log_weight = np.split(precisions[0].values, 2)
        fixed = self.laplace.offset + np.stack(parts)
        return Given(fixed, float(Lambdas[0][0, 0]), location, log_weight)

    def _eta(self, given: Given, u: np.ndarray) -> np.ndarray:
        eta = given.fixed.copy()
        eta[self.number] += given.Lambda * self.z * u[self.level]
        return eta

    def _sum(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(self.level, values, self.system.latent.size)

    def _at(self, given: Given, location: float) -> Any:
        """Expand the rows' density to first order, all levels at one location."""
        u = np.full(self.system.latent.size, location)
        return self.laplace.rows(self._eta(given, u), 1)

    def _logs(self, given: Given, locations: np.ndarray) -> np.ndarray:
        """Give the levels' log likelihoods `(m, q)`, were all of them at each of m locations."""
        return np.stack([self._sum(self._at(given, at).value) for at in locations])

    def _classes(self, given: Given) -> Classes:
        found = [self._at(given, at) for at in given.location]
        logs = np.stack([self._sum(each.value) for each in found]) + given.log_weight[:, None]
        peak = logs.max(axis=0)
        share = np.exp(logs - peak)
        total = share.sum(axis=0)
        value = float((peak + np.log(total)).sum())
        return Classes(value, share / total, [each.first for each in found])

    def _factor(self, Lambdas: Sequence[np.ndarray], given: Given, classes: Classes) -> Any:
        """Factor a Hessian of one over the variances, by what the rows would have to say."""
        mean = given.location @ classes.probability
        variance = (given.location**2) @ classes.probability - mean**2
        R = list(self.system.latent.predictors)
        W = np.zeros((len(R), len(R), len(self.level)))
        square = (given.Lambda * self.z) ** 2
        size = self._sum((square > 0).astype(float))
        beyond = (1 / np.maximum(variance, SURE) - 1.0) / np.maximum(size, 1.0)
        there, at = square > 0, R.index(self.number)
        W[at, at, there] = beyond[self.level[there]] / square[there]
        return self.system.at(Lambdas, [None]).factor(W, joint=False, ridge=None)
