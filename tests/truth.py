"""A posterior by brute force: one grouping factor, one effect a level, few coefficients."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import expit, logsumexp

import glmm_bayes as gb

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(40)


@dataclass(frozen=True, eq=False)
class Binomial:
    """y of trials, logit, centred columns X, levels; normal and Student's t priors, half-t sd."""

    y: np.ndarray
    trials: np.ndarray
    X: np.ndarray
    level: np.ndarray

    def log_marginal(self, beta, log_sd):
        """Integrate each level's effect by 40 nodes about its own mode: `(S,)`."""
        total = np.zeros(len(beta))
        sd = np.exp(log_sd)[:, None]
        for g in range(self.level.max() + 1):
            rows = self.level == g
            y, n, eta = self.y[rows], self.trials[rows], beta @ self.X[rows].T
            z = np.zeros(len(beta))
            for _ in range(30):
                p = expit(eta + sd * z[:, None])
                slope = (sd * (y - n * p)).sum(axis=1) - z
                bend = (sd**2 * n * p * (1 - p)).sum(axis=1) + 1
                z = z + slope / bend
            scale = 1 / np.sqrt(bend)
            at = z[:, None] + scale[:, None] * NODES
            value = eta[:, None] + sd[:, None] * at[:, :, None]
            log = (y * value - n * np.logaddexp(0, value)).sum(axis=2) - 0.5 * at**2
            log = log + 0.5 * NODES**2 + np.log(WEIGHTS)
            total += logsumexp(log, axis=1) + np.log(scale)
        return total


def importance(log_posterior, mode, covariance, rng, size):
    """Give draws of a wide Student's t, and their weights: of any density, with known error."""
    t = stats.multivariate_t(mode, 1.3 * covariance, df=6, seed=rng)
    x = t.rvs(size)
    log = log_posterior(x) - t.logpdf(x)
    weight = np.exp(log - log.max())
    return x, weight / weight.sum()


def moments(x, weight):
    """Give means, standard deviations, and the effective number of draws."""
    mean = weight @ x
    return mean, np.sqrt(weight @ (x - mean) ** 2), 1 / np.square(weight).sum()


@cache
def cbpp_posterior():
    """Give the posterior of cbpp's coefficients, of columns as they are, and of log sd."""
    data = gb.load_dataset("cbpp")
    period = data["period"].astype(str).to_numpy()
    X = np.column_stack([np.ones(len(data)), *(period == k for k in "234")]).astype(float)
    level = pd.factorize(data["herd"])[0]
    y, n = data["incidence"].to_numpy(float), data["size"].to_numpy(float)
    likelihood = Binomial(y, n, X, level)
    # Defaults: intercept at the means student_t(3, 0, 2.5), slopes normal(0, 2.5 / sd(x)).
    scale = 2.5 / X[:, 1:].std(axis=0)

    def log_posterior(x):
        beta, log_sd = x[:, :4], x[:, 4]
        middle = beta @ X.mean(axis=0)
        prior = stats.t.logpdf(middle / 2.5, 3) + stats.norm.logpdf(beta[:, 1:] / scale).sum(axis=1)
        prior += stats.t.logpdf(np.exp(log_sd) / 2.5, 3) + log_sd
        return likelihood.log_marginal(beta, log_sd) + prior

    rng, mode, covariance = np.random.default_rng(1), np.array([-1.4, -1, -1.1, -1.6, -0.3]), 0
    covariance = np.diag([0.3, 0.35, 0.4, 0.5, 0.4]) ** 2
    for _ in range(4):  # a better proposal by the draws of the last
        x, weight = importance(log_posterior, mode, covariance, rng, 3000)
        mode = weight @ x
        covariance = (weight * (x - mode).T) @ (x - mode)
    return importance(log_posterior, mode, covariance, rng, 20_000)
