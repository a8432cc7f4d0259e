"""Tables made from a seed: large enough to time what an estimate costs."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

SEED = 20261124
BETA = (0.3, 0.5)  # intercept and slope of x, on the scale of the link
SD = (0.7, 0.4)  # of the first term's columns, or of the two crossed factors
CORRELATION = -0.4
SIGMA = 1.0


@dataclass(frozen=True)
class Simulation:
    """
    Which table to make.

    Attributes
    ----------
    kind
        A name in `KINDS`.
    rows
        n, the number of rows.
    levels
        The number of levels of each grouping factor; each row's level is drawn at random.
    """

    kind: str
    rows: int
    levels: tuple[int, ...]
    seed: int = SEED

    def table(self) -> pd.DataFrame:
        """Make it; the same values give the same table."""
        return KINDS[self.kind](self)


def poisson_slopes(wanted: Simulation) -> pd.DataFrame:
    """y ~ Poisson(exp(eta)), eta of x, with intercepts and slopes of `g` that are correlated."""
    rng = np.random.default_rng(wanted.seed)
    x = rng.normal(size=wanted.rows)
    g = rng.integers(wanted.levels[0], size=wanted.rows)
    between = CORRELATION * SD[0] * SD[1]
    cov = [[SD[0] ** 2, between], [between, SD[1] ** 2]]
    b = rng.multivariate_normal([0, 0], cov, size=wanted.levels[0], method="cholesky")
    eta = BETA[0] + b[g, 0] + (BETA[1] + b[g, 1]) * x
    return pd.DataFrame({"y": rng.poisson(np.exp(eta)), "x": x, "g": g})


def inflated_counts(wanted: Simulation) -> pd.DataFrame:
    """y ~ a negative binomial of mean exp(eta) and size 1.5, or 0 with probability 1/4."""
    rng = np.random.default_rng(wanted.seed)
    x = rng.normal(size=wanted.rows)
    g = rng.integers(wanted.levels[0], size=wanted.rows)
    mu = np.exp(BETA[0] + BETA[1] * x + rng.normal(0, SD[0], wanted.levels[0])[g])
    y = rng.negative_binomial(1.5, 1.5 / (1.5 + mu))
    return pd.DataFrame({"y": np.where(rng.uniform(size=wanted.rows) < 0.25, 0, y), "x": x, "g": g})


def bernoulli_crossed(wanted: Simulation) -> pd.DataFrame:
    """y ~ Bernoulli(expit(eta)), eta of x, with intercepts of the crossed factors `g` and `h`."""
    rng, data, eta = _crossed(wanted)
    chance = 1 / (1 + np.exp(-eta))
    return data.assign(y=rng.binomial(1, chance))


def gaussian_crossed(wanted: Simulation) -> pd.DataFrame:
    """y ~ Normal(eta, 1), eta of x, with intercepts of the crossed factors `g` and `h`."""
    rng, data, eta = _crossed(wanted)
    return data.assign(y=rng.normal(eta, SIGMA))


def _crossed(wanted: Simulation) -> tuple[np.random.Generator, pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(wanted.seed)
    x = rng.normal(size=wanted.rows)
    index = [rng.integers(q, size=wanted.rows) for q in wanted.levels]
    eta = BETA[0] + BETA[1] * x
    for sd, q, i in zip(SD, wanted.levels, index, strict=True):
        eta += rng.normal(0, sd, q)[i]
    return rng, pd.DataFrame({"y": 0, "x": x, "g": index[0], "h": index[1]}), eta


KINDS = {
    "poisson_slopes": poisson_slopes,
    "inflated_counts": inflated_counts,
    "bernoulli_crossed": bernoulli_crossed,
    "gaussian_crossed": gaussian_crossed,
}
