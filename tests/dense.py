"""Marginal likelihoods on dense matrices, sharing no formula and no step with the engine."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize
from scipy.special import digamma, expit, gammaln, polygamma, xlogy
from scipy.stats import beta, binom, multivariate_normal, norm, poisson, t

import glmm_bayes as gb

type Triple = tuple[np.ndarray, np.ndarray, np.ndarray]


# ---- by family: the log density, its first and second derivative by eta of the mean


def _gaussian(y: np.ndarray, n: Any, eta: np.ndarray, sigma: np.ndarray) -> Triple:
    return norm.logpdf(y, eta, sigma), (y - eta) / sigma**2, -1 / sigma**2 + 0 * eta


def _poisson(y: np.ndarray, n: Any, eta: np.ndarray) -> Triple:
    mu = np.exp(eta)
    return poisson.logpmf(y, mu), y - mu, -mu


def _binomial(y: np.ndarray, n: Any, eta: np.ndarray) -> Triple:
    n = np.ones_like(y) if n is None else n
    choose = binom.logpmf(y, n, 0.5) + n * np.log(2)
    value = choose - y * np.logaddexp(0, -eta) - (n - y) * np.logaddexp(0, eta)
    return value, y * expit(-eta) - (n - y) * expit(eta), -n * expit(eta) * expit(-eta)


def _negbinomial(y: np.ndarray, n: Any, eta: np.ndarray, alpha: np.ndarray) -> Triple:
    mu, a = np.exp(eta), alpha
    # gamma(a + y) / gamma(a) factor by factor: where a is huge, its logarithms would cancel.
    k = np.arange(max(y.max(), 1))
    rising = np.where(k < y[:, None], np.log1p(k / np.reshape(a, (-1, 1))), 0).sum(axis=1)
    value = rising - gammaln(y + 1) + y * eta - (y + a) * np.log1p(mu / a)
    share = 1 + mu / a
    return value, (y - mu) / share, -mu * (1 + y / a) / share**2


def _gamma(y: np.ndarray, n: Any, eta: np.ndarray, alpha: np.ndarray) -> Triple:
    gap = y / np.exp(eta) - 1
    # a log a - a - log gamma(a), by Stirling's series where the terms would cancel.
    large = np.maximum(alpha, 1e4)
    series = 0.5 * np.log(large / (2 * np.pi)) - 1 / (12 * large) + 1 / (360 * large**3)
    plain = xlogy(alpha, alpha) - alpha - gammaln(alpha)
    scale = np.where(alpha > 1e4, series, plain)
    log_ratio = np.where(np.abs(gap) < 0.1, np.log1p(gap), np.log(y) - eta)
    value = scale + alpha * (log_ratio - gap) - np.log(y)
    return value, alpha * gap, -alpha * (1 + gap)


def _beta(y: np.ndarray, n: Any, eta: np.ndarray, phi: np.ndarray) -> Triple:
    p, q = expit(eta), expit(-eta)
    gap = np.log(y) - np.log1p(-y) - digamma(p * phi) + digamma(q * phi)
    curve = phi * p * q * (polygamma(1, p * phi) + polygamma(1, q * phi))
    second = phi * p * q * ((q - p) * gap - curve)
    return beta.logpdf(y, p * phi, q * phi), phi * gap * p * q, second


def _student(y: np.ndarray, n: Any, eta: np.ndarray, sigma: np.ndarray, nu: np.ndarray) -> Triple:
    r = y - eta
    share = r**2 / (nu * sigma**2)
    weight = (1 + 1 / nu) / sigma**2
    second = weight * (share - 1) / (share + 1) ** 2
    return t.logpdf(y, nu, eta, sigma), weight * r / (share + 1), second


ROWS: dict[str, Callable[..., Triple]] = {
    "gaussian": _gaussian,
    "poisson": _poisson,
    "bernoulli": _binomial,
    "binomial": _binomial,
    "negbinomial": _negbinomial,
    "gamma": _gamma,
    "beta": _beta,
    "student": _student,
}


def constant(name: str, value: np.ndarray) -> np.ndarray:
    """Go from a family's parameter on its default link's scale to the parameter."""
    return 1 + np.exp(value) if name == "nu" else np.exp(value)


class Dense:
    """
    A model's (restricted) marginal likelihood: exact for a Gaussian response, else Laplace's.

    Effects on the mean only; the other parameters constant or with formulas. `near` is where a
    mode of the effects (then the coefficients, if restricted) is looked for besides at zero.
    """

    def __init__(
        self, model: gb.Model, *, restricted: bool, near: np.ndarray | None = None
    ) -> None:
        design, response = model.design, model.design.response
        self.model, self.restricted, self.near = model, restricted, near
        self.X = design.predictors["mu"].X
        self.offset = design.predictors["mu"].offset
        self.Z = [term.Z("mu").toarray() for term in design.terms]
        self.y, self.trials = response.y, response.trials
        ones = np.ones(model.nobs)
        self.w = ones if response.weights is None else response.weights

    def __call__(self, coefficients: Sequence[np.ndarray], Lambdas: Sequence[np.ndarray]) -> float:
        """
        Evaluate.

        `coefficients` by the family's parameter: of the predictor's centred columns, or a
        constant on its link's scale; those of the mean are not used if restricted.
        """
        names = [p.name for p in self.model.family.parameters]
        others = {
            name: self._parameter(name, value)
            for name, value in zip(names[1:], coefficients[1:], strict=True)
        }
        J = np.hstack([np.zeros((len(self.y), 0)), *map(_loaded, self.Z, Lambdas)])
        if self.model.family.name == "gaussian":
            return self._exact(coefficients[0], J, others["sigma"])
        return self._laplace(coefficients[0], J, others)

    def _centred(self, name: str) -> np.ndarray:
        return self.model.design.predictors[name].X - self.model.means(name)

    def _parameter(self, name: str, value: np.ndarray) -> np.ndarray:
        predictors = self.model.design.predictors
        if name not in predictors:
            return constant(name, np.full(len(self.y), value[0]))
        return constant(name, self._centred(name) @ value + predictors[name].offset)

    def _exact(self, gamma: np.ndarray, J: np.ndarray, sigma: np.ndarray) -> float:
        X, y = self._centred("mu"), self.y - self.offset
        # A row of weight w stands for w rows, whose mean is y: each has variance sigma^2.
        V = J @ J.T + np.diag(sigma**2 / self.w)
        lost = -0.5 * np.sum((self.w - 1) * np.log(2 * np.pi * sigma**2) + np.log(self.w))
        if not self.restricted:
            return float(multivariate_normal.logpdf(y, X @ gamma, V, allow_singular=False) + lost)
        L = np.linalg.cholesky(V)
        A, b = solve_triangular(L, X, lower=True), solve_triangular(L, y, lower=True)
        Q, R = np.linalg.qr(A)
        squares = b @ b - np.sum((Q.T @ b) ** 2)
        det = 2 * np.log(np.diag(L)).sum() + 2 * np.log(np.abs(np.diag(R))).sum()
        free = len(y) - X.shape[1]
        return float(-0.5 * (det + squares + free * np.log(2 * np.pi)) + lost)

    def _laplace(self, gamma: np.ndarray, J: np.ndarray, others: Mapping[str, Any]) -> float:
        X = self._centred("mu")
        rows = ROWS[self.model.family.name]
        fixed = self.offset + (0 if self.restricted else X @ gamma)
        # The integrated coefficients have no prior: their own part of the identity is zero.
        J = np.hstack([J, X]) if self.restricted else J
        prior = np.ones(J.shape[1])
        if self.restricted:
            prior[J.shape[1] - X.shape[1] :] = 0

        def joint(u: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
            value, first, second = rows(self.y, self.trials, fixed + J @ u, **others)
            height = np.sum(self.w * value) - 0.5 * np.sum(prior * u * u)
            H = (J.T * (-self.w * second)) @ J + np.diag(prior)
            return height, J.T @ (self.w * first) - prior * u, H

        starts = [np.zeros(J.shape[1])]
        if self.restricted:
            starts[0][J.shape[1] - X.shape[1] :] = gamma
        if self.near is not None:
            starts.append(self.near)
        modes = [climbed(joint, start) for start in starts]
        u = max(modes, key=lambda u: joint(u)[0])
        height, _, H = joint(u)
        sign, det = np.linalg.slogdet(H)
        assert sign > 0 or not len(u)
        integrated = 0.5 * np.sum(prior == 0) * np.log(2 * np.pi)
        return float(height - 0.5 * det + integrated)


def _loaded(Z: np.ndarray, Lambda: np.ndarray) -> np.ndarray:
    """Give Z (I x Lambda)."""
    return Z @ np.kron(np.eye(Z.shape[1] // len(Lambda)), Lambda)


def climbed(joint: Callable[[np.ndarray], Any], start: np.ndarray) -> np.ndarray:
    """Find the mode: SciPy's trust region, then Newton's last steps."""
    if not len(start):
        return start
    found = minimize(
        lambda u: -joint(u)[0],
        start,
        jac=lambda u: -joint(u)[1],
        hess=lambda u: joint(u)[2],
        method="trust-exact",
        options={"maxiter": 500, "gtol": 1e-6},
    )
    u = found.x
    for _ in range(5):
        _, gradient, H = joint(u)
        u = u + cho_solve(cho_factor(H), gradient)
    return u
