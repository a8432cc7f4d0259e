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

    mode, sd = np.array([-1.4, -1, -1.1, -1.6, -0.3]), np.array([0.3, 0.35, 0.4, 0.5, 0.4])
    return adapted(log_posterior, mode, np.diag(sd**2))


def adapted(log_posterior, mode, covariance):
    """Give weighed draws from a proposal that the draws of the last have made better."""
    rng = np.random.default_rng(1)
    for _ in range(4):
        x, weight = importance(log_posterior, mode, covariance, rng, 3000)
        mode = weight @ x
        covariance = (weight * (x - mode).T) @ (x - mode)
    return importance(log_posterior, mode, covariance, rng, 20_000)


def separated(seed=11):
    """
    Give a table of ten blocks of eight, some treated, whose answers are nearly all one kind.

    So much do the blocks differ that the posterior of their spread is skewed, and with it that of
    the coefficients.
    """
    rng = np.random.default_rng(seed)
    block, treated = np.repeat(np.arange(10), 8), np.tile(np.arange(8) % 4 > 0, 10)
    eta = 4.0 - 4.5 * treated + rng.normal(0, 3.0, 10)[block]
    eaten = rng.random(80) < expit(eta)
    return pd.DataFrame(
        {"eaten": eaten.astype(int), "treated": treated.astype(float), "block": block.astype(str)}
    )


@cache
def separated_posterior():
    """Give the posterior of intercept, effect of the treatment and log sd."""
    data = separated()
    X = np.column_stack([np.ones(80), data["treated"]])
    level = pd.factorize(data["block"])[0]
    likelihood = Binomial(data["eaten"].to_numpy(float), np.ones(80), X, level)

    def log_posterior(x):
        beta, log_sd = x[:, :2], x[:, 2]
        # As in the test's model: normal(0, 10) at the means and for the slope, half-normal(5).
        prior = stats.norm.logpdf((beta @ X.mean(axis=0)) / 10) + stats.norm.logpdf(beta[:, 1] / 10)
        prior += stats.norm.logpdf(np.exp(log_sd) / 5) + log_sd
        return likelihood.log_marginal(beta, log_sd) + prior

    return adapted(log_posterior, np.array([4.0, -4.5, 1.1]), np.diag([2.0, 1.5, 0.4]) ** 2)
