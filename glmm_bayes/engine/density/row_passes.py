"""One compiled pass from predictors to the log likelihood of a run of rows and its slopes."""

import numpy as np

from glmm_bayes.engine import kernels
from glmm_bayes.engine.kernels import inner


@inner
def _binary_rows(y, trials, weights, eta, slope):
    """Evaluate successes with a logit link, in eta: no probability is rounded to 0 or 1."""
    total = 0.0
    for i in range(len(y)):
        z = eta[0, i]
        e = np.exp(-abs(z))
        p = (1.0 if z >= 0 else e) / (1.0 + e)
        total += weights[i] * (y[i] * z - trials[i] * (max(z, 0.0) + np.log1p(e)))
        slope[0, i] = weights[i] * (y[i] - trials[i] * p)
    return total


@inner
def _poisson_rows(y, weights, eta, slope):
    """Evaluate counts with a log link."""
    total = 0.0
    for i in range(len(y)):
        mu = np.exp(eta[0, i])
        total += weights[i] * (y[i] * eta[0, i] - mu)
        slope[0, i] = weights[i] * (y[i] - mu)
    return total


@inner
def _gaussian_rows(y, weights, eta, sigma, slope):
    """Evaluate normal responses with one standard deviation; its slope stands in one row."""
    total, by_sigma, constant = 0.0, 0.0, np.log(sigma)
    for i in range(len(y)):
        r = (y[i] - eta[0, i]) / sigma
        total -= weights[i] * (0.5 * r * r + constant)
        slope[0, i] = weights[i] * r / sigma
        slope[1, i] = 0.0
        by_sigma += weights[i] * (r * r - 1.0)
    slope[1, 0] = by_sigma / sigma
    return total


@inner
def _share_rows(link, y, trials, weights, eta, slope):
    """Evaluate successes with a probit or cloglog link, by the logs of both probabilities."""
    total = 0.0
    for i in range(len(y)):
        won, lost, by_won, by_lost = kernels.log_shares(link, eta[0, i])
        failures = trials[i] - y[i]
        value = y[i] * won if y[i] > 0 else 0.0
        total += weights[i] * (value + (failures * lost if failures > 0 else 0.0))
        slope[0, i] = weights[i] * (y[i] * by_won + failures * by_lost)
    return total


@inner
def _general_rows(family, links, y, trials, weights, eta, value, slope):
    """Evaluate any family with any links."""
    P, total = len(links), 0.0
    params, by_eta, by_param = value.copy(), np.ones(3), np.empty(3)
    for s in range(P):
        if links[s] < 0 and kernels.is_by_log(family, s):
            by_eta[s] = 1.0 / value[s]
    for i in range(len(y)):
        for s in range(P):
            if links[s] >= 0:
                params[s], by_eta[s] = kernels.inverse_link(
                    links[s], eta[s, i], kernels.is_by_log(family, s)
                )
        part, by_param[0], by_param[1], by_param[2] = kernels.point(
            family, y[i], trials[i], params[0], params[1], params[2]
        )
        total += weights[i] * part
        for s in range(P):
            slope[s, i] = weights[i] * by_param[s] * by_eta[s]
    return total


@inner
def likelihood(family, links, y, trials, weights, eta, value, slope):
    """Give a run of rows' log likelihood, and write its slopes by eta (or constants) `(P, m)`."""
    if links[0] == 2 and (family == 1 or family == 2):
        return _binary_rows(y, trials, weights, eta, slope)
    if (links[0] == 3 or links[0] == 4) and (family == 1 or family == 2):
        return _share_rows(links[0], y, trials, weights, eta, slope)
    if links[0] == 1 and family == 3:
        return _poisson_rows(y, weights, eta, slope)
    if links[0] == 0 and family == 0 and links[1] < 0:
        return _gaussian_rows(y, weights, eta, value[1], slope)
    return _general_rows(family, links, y, trials, weights, eta, value, slope)
